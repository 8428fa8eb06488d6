"""The claims of "feature losses": from results whose answers are known, and from its own tables."""

import copy

import numpy as np
import pytest

from advdenoise.io.hdf5 import add_array, create_hdf5, open_hdf5
from advdenoise.io.provenance import read_provenance
from advdenoise.reporting.claims import Claim
from advdenoise.reporting.read import read_stage
from experiments.feature_losses import claims as claims_of
from tests.fake_results import IMAGES, Results


class FakeExperiment:
    """The claims by quantity, from fabricated results that may be changed first."""

    def __init__(self, root, config: dict):
        results = Results(root, copy.deepcopy(config))
        inputs = results.inputs("tables", "feature_losses", "claims")
        self.predictions = read_stage("predictions", inputs["predictions"])
        self.distances = read_stage("distances", inputs["distances"])
        self.examples = inputs["examples"]

    def claims(self, *changes, maps=None) -> dict[str, Claim]:
        frame = self.predictions.frame.copy()
        for change in changes:
            change(frame)
        distances = self.distances
        if maps is not None:
            distances = distances.of(maps(distances.frame.copy()))
        result = claims_of.claims(self.predictions.of(frame), self.examples, distances)
        by_quantity = {claim.quantity: claim for claim in result}
        assert len(by_quantity) == len(result)
        return by_quantity


@pytest.fixture(scope="module")
def experiment(tmp_path_factory, feature_losses_file):
    return FakeExperiment(tmp_path_factory.mktemp("claims"), feature_losses_file)


def right(share: float, **names):
    """Lets the first `share` of the images of these rows be classified rightly."""

    def change(frame) -> None:
        chosen = np.ones(len(frame), dtype=bool)
        for name, value in names.items():
            chosen &= frame[name].isin([value] if isinstance(value, str) else value).to_numpy()
        assert chosen.any()
        hits = frame["id"].rank(method="dense") <= share * IMAGES
        guessed = np.where(hits, frame["label"], (frame["label"] + 1) % 10)
        frame["prediction"] = np.where(chosen, guessed, frame["prediction"])

    return change


def one(claims: dict, *words: str) -> Claim:
    if words[0] in claims:
        return claims[words[0]]
    (claim,) = (c for quantity, c in claims.items() if all(word in quantity for word in words))
    return claim


def test_published_quantities_are_those_of_the_papers_tables(experiment):
    claims = experiment.claims()
    for words, published in (
        (("mnist, test: accuracy of OURS - MADRY (2017), FGSM",), "-4.3"),
        (("mnist, test: accuracy of OURS - HGD (2018), PGD",), "-0.3"),
        (("cifar10_grey, test: accuracy of OURS - MADRY (2017), FGSM",), "-11.9"),
        (("cifar10_grey, test: accuracy of OURS - HGD (2018), FGSM",), "-5.3"),
        (("mnist, test: accuracy of UNSECURED, PGD - FGSM",), "-6.0"),
        (("cifar10_grey, test: accuracy of UNSECURED, PGD - FGSM",), ""),  # copied from MNIST
        (("accuracy of UNSECURED in %, MNIST, train",), "99.5"),
        (("accuracy of UNSECURED in %, CIFAR-10 (grey 28x28), test",), "92.9"),
        (("accuracy of OURS in %, CIFAR-10 (grey 28x28), PGD",), "38.5"),
        (("least confidence in truck", "cifar10, cnn26"), "greater than 99%"),
    ):
        assert one(claims, *words).published == published
    comparable = one(claims, "mnist, test: accuracy of OURS - MADRY (2017), FGSM").claimed
    assert comparable.least == pytest.approx(-11.9) and comparable.most == np.inf
    missing = {claim.reason for claim in claims.values() if claim.reason}
    assert missing == {
        "OURS was not attacked with FGSM by an adaptive attack",
        "HGD (2018) was not attacked with FGSM by an adaptive attack",
    }


@pytest.mark.parametrize(
    ("share", "verdict"), [(1.0, "holds"), (0.0, "does not"), (0.9, "not decidable")]
)
def test_clean_accuracy_before_and_behind_the_autoencoder(experiment, share, verdict):
    claims = experiment.claims(
        right(1.0, threat="clean", purifier="none"),
        right(share, threat="clean", purifier="features_pgd"),
    )
    claim = one(claims, "mnist, test: clean accuracy of OURS (trained on PGD) - UNSECURED")
    assert claim.verdict == verdict
    assert claim.estimate.value == pytest.approx(100 * (share - 1))


def test_differences_are_paired_image_by_image(experiment):
    claims = experiment.claims(
        right(0.5, threat="pgd@cnn4", purifier="features_pgd"),
        right(0.4, threat="pgd@madry4", purifier="none"),
    )
    claim = one(claims, "mnist, test: accuracy of OURS - MADRY (2017), PGD")
    value, low, high, n = claim.estimate
    assert (value, n) == (pytest.approx(10), IMAGES) and claim.verdict == "holds"
    assert 0 <= low < value < high < 25  # of unpaired images it reaches from -15 to 35


@pytest.mark.parametrize(("share", "verdict"), [(1.0, "holds"), (0.0, "does not")])
def test_results_are_comparable_or_not(experiment, share, verdict):
    attacks = {"FGSM": "fgsm@{}", "PGD": "pgd@{}"}
    purifiers = {"FGSM": "features_fgsm", "PGD": "features_pgd"}
    for attack, threat in attacks.items():
        claims = experiment.claims(
            right(1.0, threat=threat.format("madry4"), purifier="none"),
            right(1.0, threat=threat.format("cnn4"), purifier="hgd"),
            right(share, threat=threat.format("cnn4"), purifier=purifiers[attack]),
        )
        for dataset in ("mnist", "cifar10_grey"):
            for other in ("MADRY (2017)", "HGD (2018)"):
                words = f"{dataset}, test: accuracy of OURS - {other}, {attack}"
                assert one(claims, words).verdict == verdict


@pytest.mark.parametrize(
    ("ours", "plain", "verdict"),
    [(1.0, 0.5, "holds"), (0.5, 1.0, "does not"), (0.5, 0.5, "does not")],
)
def test_the_loss_is_compared_with_the_same_autoencoder_without_it(
    experiment, ours, plain, verdict
):
    claims = experiment.claims(
        right(ours, threat="fgsm@cnn4", purifier="features_fgsm"),
        right(plain, threat="fgsm@cnn4", purifier="plain_fgsm"),
        right(1 - plain, threat="fgsm@cnn4", purifier=["mine", "plain_pgd", "union"]),
    )
    assert one(claims, "mnist, test: accuracy of OURS - plain MSE, FGSM").verdict == verdict


def test_an_attacker_who_knows_the_defence(experiment):
    known = "pgd@cnn4+features_pgd"
    claims = experiment.claims(
        right(1.0, threat="pgd@cnn4", purifier="features_pgd"),
        right(0.0, threat=known),
        right(0.5, threat="pgd@cnn4+plain_pgd"),
    )
    words = "mnist, test: adaptive accuracy of OURS - {}, PGD"
    for other, value in (("its accuracy", -100), ("chance", -10), ("plain MSE", -50)):
        claim = one(claims, words.format(other))
        assert claim.verdict in ("does not", "not decidable")
        assert claim.estimate.value == pytest.approx(value)
    assert one(claims, words.format("its accuracy")).verdict == "does not"
    claims = experiment.claims(
        right(1.0, threat="pgd@cnn4", purifier="features_pgd"),
        right(1.0, threat=known),
        right(0.5, threat="pgd@cnn4+plain_pgd"),
    )
    for other in ("its accuracy", "chance", "plain MSE"):
        assert one(claims, words.format(other)).verdict == "holds"


def test_the_defences_compared_with_are_broken_or_not(experiment):
    """Without a purifier the plain attack knows the defence."""
    claims = experiment.claims(right(1.0, threat="pgd@madry4"), right(0.0, threat="pgd@cnn4+hgd"))
    madry = one(claims, "mnist, test: adaptive accuracy of MADRY (2017) - chance, PGD")
    hgd = one(claims, "mnist, test: adaptive accuracy of HGD (2018) - chance, PGD")
    assert madry.verdict == "does not" and madry.estimate.value == pytest.approx(90)
    assert hgd.estimate.value == pytest.approx(-10)
    assert hgd.estimate.low == pytest.approx(-10) and hgd.estimate.high < 2


def test_accuracy_on_both_sides_of_the_classifiers_data(experiment):
    claims = experiment.claims(
        right(1.0, split="train"), right(0.5, split="test", threat="clean", purifier="none")
    )
    train = one(claims, "clean accuracy of UNSECURED in %, MNIST, train")
    test = one(claims, "clean accuracy of UNSECURED in %, MNIST, test")
    assert train.estimate.value == 100 and test.estimate.value == 50
    assert test.verdict == "does not" and test.estimate.n == IMAGES
    achieved = one(claims, "accuracy of OURS in %, MNIST, PGD, test")
    assert achieved.claimed.least == 82 and not achieved.reason


def test_what_is_achieved_on_a_part_of_the_test_images_counts(experiment):
    def only_a_part(frame) -> None:
        frame["split"] = frame["split"].replace({"test": "studied"})

    claims = experiment.claims(only_a_part, right(0.5, purifier="features_pgd"))
    achieved = one(claims, "accuracy of OURS in %, MNIST, PGD, studied")
    assert achieved.estimate.value == 50 and achieved.verdict == "does not"
    assert one(claims, "clean accuracy of UNSECURED in %, MNIST, test").reason


def test_the_least_confidence_of_the_images_shown(experiment, tmp_path, feature_losses):
    assert one(experiment.claims(), "least confidence in class0").verdict == "holds"
    feature_losses["seeds"] = [0, 1]
    other = FakeExperiment(tmp_path, feature_losses)
    claim = one(other.claims(), "least confidence in class0")
    assert claim.estimate == pytest.approx((99.5, 99.5, 99.5, 20))  # two replicates of ten images
    path = next(path for path in other.examples if "seed1" in str(path))
    settings = read_provenance(path)["settings"]
    with open_hdf5(path) as file:
        arrays = {name: file[name][:] for name in ("images", "labels", "ids")}
        group = {
            name: file[f"default/default/{name}"][:]
            for name in file["default/default"]
            if name != "maps"
        }
        attributes = {name: file.attrs[name] for name in ("classes", "target")}
    group["seen_probabilities"][3, 0] = 0.4
    with create_hdf5(path, {"settings": settings | {"maps": []}}, "examples") as file:
        for name, values in arrays.items():
            add_array(file, name, values)
        made_again = file.create_group("default/default")
        for name, values in group.items():
            add_array(made_again, name, values)
        for name, value in attributes.items():
            file.attrs[name] = value
    claim = one(other.claims(), "least confidence in class0")
    assert claim.verdict == "does not" and claim.estimate.value == pytest.approx(40)


def test_what_was_not_computed_is_not_decidable(tmp_path, feature_losses):
    """On data that the paper does not have, with one denoiser and no adaptive attack or target."""
    table = feature_losses["experiments"]["feature_losses"]["tables"]["claims"]
    feature_losses["suites"]["feature_losses"] = {
        "threats": ["clean", "fgsm", "pgd"],
        "purifiers": ["none", "features_fgsm"],
    }
    table["predictions"] = {
        "dataset": "digits",
        "classifier": "cnn4",
        "suite": "feature_losses",
        "split": "test",
    }
    crossing = {"dataset": "digits", "classifier": "cnn4", "split": "test"}
    table["examples"] = {**crossing, "threat": "pgd", "purifier": "none"}
    claims = FakeExperiment(tmp_path, feature_losses).claims()
    for words, reason in (
        (["clean accuracy of OURS (trained on PGD)"], "OURS (PGD) was not judged on clean images"),
        (["accuracy of OURS - HGD (2018), FGSM"], "HGD (2018) was not attacked with FGSM"),
        (["accuracy of OURS - MADRY (2017), PGD"], "OURS was not attacked with PGD"),
        (["accuracy of OURS - plain MSE, FGSM"], "plain MSE was not attacked with FGSM"),
        (["UNSECURED in %, MNIST, train"], "MNIST is not among the data sets"),
        (["confidence"], "the example images are under no attack with one target"),
    ):
        assert one(claims, *words).verdict == f"not decidable: {reason}"
    assert not one(claims, "clean accuracy of OURS (trained on FGSM) - UNSECURED").reason


@pytest.mark.parametrize(("last", "verdict"), [(0.4, "holds"), (0.05, "does not")])
def test_perturbations_grow_through_the_maps_or_not(experiment, last, verdict):
    def maps(frame):
        ends = {0: 0.1, 3: last}
        return frame.assign(cos_d=frame["layer_index"].map(ends).fillna(0.2))

    claims = experiment.claims(maps=maps)
    claim = one(claims, "COS-D of the last map / of the first, mnist, cnn4, PGD")
    assert claim.verdict == verdict and claim.estimate.value == pytest.approx(10 * last)
    assert claim.estimate.n == IMAGES


@pytest.mark.parametrize(("behind", "verdict"), [(0.1, "holds"), (0.3, "does not")])
def test_the_autoencoder_cleans_maps_or_not(experiment, behind, verdict):
    def maps(frame):
        return frame.assign(cos_d=np.where(frame["purifier"] == "none", 0.2, behind))

    claims = experiment.claims(maps=maps)
    quantities = [q for q in claims if q.startswith("COS-D of maps behind ours / without")]
    assert quantities == [
        "COS-D of maps behind ours / without, mean of all, mnist, cnn4, PGD, OURS"
    ]
    claim = claims[quantities[0]]
    assert claim.verdict == verdict and claim.estimate.value == pytest.approx(behind / 0.2)


@pytest.mark.parametrize(("many", "verdict"), [(0.1, "holds"), (0.9, "does not")])
def test_iterations_harden_or_not(experiment, many, verdict):
    unsecured = right(many, threat="pgd@cnn4", purifier="none")
    few = right(0.5, threat="pgd10@cnn4")
    ours = right(many, threat="pgd@cnn4", purifier="features_pgd")
    claims = experiment.claims(unsecured, ours, few)
    for defence in ("UNSECURED", "OURS"):
        claim = one(claims, f"mnist, test: accuracy of {defence} under PGD - under PGD, 10 iter")
        assert claim.verdict == verdict
        assert claim.estimate.value == pytest.approx(100 * (many - 0.5))


@pytest.mark.parametrize(("true", "verdict"), [(0.9, "holds"), (0.1, "does not")])
def test_true_labels_leak_or_not(experiment, true, verdict):
    for classifier, defence in (("cnn4", "UNSECURED"), ("madry4", "MADRY (2017)")):
        claims = experiment.claims(
            right(true, threat=f"fgsm_true@{classifier}", purifier="none", classifier=classifier),
            right(0.5, threat=f"fgsm@{classifier}", purifier="none", classifier=classifier),
        )
        claim = claims[
            f"mnist, test: accuracy of {defence} under FGSM with true labels - with predicted ones"
        ]
        assert claim.verdict == verdict


@pytest.mark.parametrize(("robust", "verdict"), [(0.9, "holds"), (0.3, "does not")])
def test_adversarial_training_improves_clean_accuracy_or_not(experiment, robust, verdict):
    claims = experiment.claims(
        right(robust, threat="clean", classifier="madry4"),
        right(0.6, threat="clean", classifier="cnn4", purifier="none"),
    )
    claim = claims["mnist, test: clean accuracy of MADRY (2017) - UNSECURED"]
    assert claim.verdict == verdict


def test_what_was_not_attacked_or_observed_decides_nothing(experiment):
    frame = experiment.predictions.frame
    known = frame[~frame["threat"].str.contains("pgd10|fgsm_true")]
    claims = claims_of.claims(
        experiment.predictions.of(known), experiment.examples, experiment.distances
    )
    reasons = {claim.quantity: claim.reason for claim in claims}
    quantity = "mnist, test: accuracy of OURS under PGD - under PGD of fewer iterations"
    assert reasons[quantity] == "PGD was not run with another number of iterations"
    purified = experiment.claims(maps=lambda frame: frame[frame["purifier"] != "none"])
    claim = one(purified, "COS-D of the last map / of the first")
    assert claim.reason == "the maps were not observed without a purifier"
