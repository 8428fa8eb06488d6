"""The claims of "APuDAE": from results whose answers are known, and from its own tables."""

import copy

import pytest

from advdenoise.reporting.claims import Claim
from advdenoise.reporting.read import read_stage
from experiments.apudae import claims as claims_of
from tests.experiments.apudae.test_apudae_tables import right
from tests.fake_results import IMAGES, Results, rows

CIFAR = {"classifier": "resnet18", "dataset": "cifar10"}


class FakeExperiment:
    """The claims by quantity, from fabricated results that may be changed first."""

    def __init__(self, root, config: dict):
        results = Results(root, copy.deepcopy(config))
        inputs = results.inputs("tables", "apudae", "claims")
        self.predictions = read_stage("predictions", inputs["predictions"])
        self.calibration = inputs["calibration"]

    def claims(self, *changes) -> dict[str, Claim]:
        frame = self.predictions.frame.copy()
        for change in changes:
            change(frame)
        result = claims_of.claims(self.predictions.of(frame), self.calibration)
        by_quantity = {claim.quantity: claim for claim in result}
        assert len(by_quantity) == len(result)
        return by_quantity


@pytest.fixture(scope="module")
def experiment(tmp_path_factory, apudae_file):
    return FakeExperiment(tmp_path_factory.mktemp("claims"), apudae_file)


def test_published_differences_are_those_of_the_papers_tables(experiment):
    claims = experiment.claims()
    cifar, net = "cifar10, test: accuracy of ", "imagenet, studied: accuracy of "
    counter = "APuDAE (Best) - {}, counter attack {}"
    for quantity, published in (
        (f"{cifar}A, most steps - A, fewest steps, clean images", "-0.036"),
        (f"{cifar}A, most steps - A, fewest steps, BIM", "0.070"),
        (f"{cifar}G - F, BIM", "-0.018"),
        (f"{cifar}E - D, clean images", "0.003"),
        (f"{cifar}F - APuDAE (Direct), CW", "0.357"),
        ("mnist, test: accuracy of A - APuDAE (Direct), BIM", "0.039"),
        (f"{net}A, most steps - A, fewest steps, clean images", "-0.007"),
        (f"{net}A transformed - A, BIM second setting", "0.018"),
        (f"{net}A with noise - A, BIM first setting", "0.004"),
        (f"{cifar}APuDAE (Direct), counter attack A - BIM", "-0.168"),
        (f"{cifar}{counter.format('APuDAE (Direct)', 'A')}", "0.481"),
        (f"{cifar}{counter.format('Adversarial Training', 'B')}", "0.024"),
        (f"{net}{counter.format('Adversarial Training', 'A')}", "0.282"),
        (f"mnist, test: accuracy of {counter.format('APuDAE (Direct)', 'B')}", "0.042"),
        (f"{cifar}APuDAE (Best), an adaptive attack - BIM", ""),
        (f"{cifar}F - E, FGSM", "-0.016"),
        (f"{cifar}F - E, BIM", "0.027"),
        (f"{cifar}F - Adversarial Training, CW", "0.296"),
        ("mnist, test: accuracy of A - MagNet, CW", "0.503"),
        ("mnist, test: accuracy of A - Defense-GAN, BIM", "0.012"),
        ("mnist, test: accuracy of A - Adversarial Training, FGSM", "0.313"),
        (f"{net}A transformed - Adversarial Training, BIM second setting", "0.475"),
        ("mnist, test: accuracy of Adversarial Training, BIM - FGSM", "-0.297"),
    ):
        assert claims[quantity].published == published, quantity
    assert not [claim for claim in claims.values() if claim.reason]
    assert not [q for q in claims if q.startswith("mnist") and ("of F -" in q or "E - D" in q)]


@pytest.mark.parametrize(
    ("clean", "robust", "verdicts"),
    [
        (0.5, 1.0, ("holds", "holds")),
        (1.0, 0.5, ("does not", "does not")),
        (0.8, 0.8, ("does not", "does not")),
    ],
)
def test_more_iterations(experiment, clean, robust, verdicts):
    claims = experiment.claims(
        right(0.8, purifier_point="a12", **CIFAR),
        right(clean, purifier_point="a18", threat="clean", **CIFAR),
        right(robust, purifier_point="a18", threat="colour@resnet18", **CIFAR),
    )
    words = "cifar10, test: accuracy of A, most steps - A, fewest steps, {}"
    assert claims[words.format("clean images")].verdict == verdicts[0]
    for attack in ("FGSM", "R-FGSM", "BIM"):
        claim = claims[words.format(attack)]
        assert claim.verdict == verdicts[1] and claim.estimate.n == IMAGES
        assert claim.estimate.value == pytest.approx(robust - 0.8)


def test_noise_is_compared_with_the_best_of_the_others(experiment):
    others = ["a12", "a15", "a18", "b", "c", "d", "e", "g", "g_each_step"]
    attacked = {"threat": "colour@resnet18", **CIFAR}
    claims = experiment.claims(
        right(0.3, purifier_point=others, **attacked),
        right(0.6, purifier_point="c", **attacked),
        right(0.9, purifier_point="f", **attacked),
    )
    claim = claims["cifar10, test: accuracy of F - C, BIM"]
    assert claim.verdict == "holds" and claim.estimate.value == pytest.approx(0.3)
    assert claims["cifar10, test: accuracy of G - F, BIM"].verdict == "holds"
    assert claims["cifar10, test: accuracy of G - F, BIM"].estimate.value == pytest.approx(-0.6)


def test_a_transformation_on_imagenet(experiment):
    names = {"dataset": "imagenet", "classifier": "resnet18", "threat": "low@resnet18"}
    claims = experiment.claims(
        right(0.5, purifier_point="a12", **names), right(1.0, purifier_point="transformed", **names)
    )
    for setting in ("first", "second"):
        claim = claims[f"imagenet, studied: accuracy of A transformed - A, BIM {setting} setting"]
        assert claim.verdict == "holds" and claim.estimate.value == pytest.approx(0.5)


@pytest.mark.parametrize(("share", "verdict"), [(1.0, "holds"), (0.2, "does not")])
def test_counter_attacks(experiment, share, verdict):
    claims = experiment.claims(
        right(share, threat=["counter_a@resnet18+best_f", "counter_b@resnet18+best_f"], **CIFAR),
        right(
            0.6, threat=["counter_a@resnet18+direct_red", "counter_b@resnet18+direct_red"], **CIFAR
        ),
        right(0.6, threat="colour@robust_resnet18", dataset="cifar10", attack_point="bim"),
        right(0.9, threat="colour@resnet18", purifier_point=["direct", "f"], **CIFAR),
        right(share * 0.9, threat="unrolled@resnet18+best_f", **CIFAR),
    )
    words = "cifar10, test: accuracy of APuDAE (Best) - {}, counter attack {}"
    for other in ("APuDAE (Direct)", "Adversarial Training"):
        for letter in "AB":
            claim = claims[words.format(other, letter)]
            assert claim.verdict == verdict
            assert claim.estimate.value == pytest.approx(share - 0.6)
    drops = claims["cifar10, test: accuracy of APuDAE (Direct), counter attack A - BIM"]
    assert drops.verdict == "holds" and drops.estimate.value == pytest.approx(-0.3)
    adaptive = claims["cifar10, test: accuracy of APuDAE (Best), an adaptive attack - BIM"]
    assert adaptive.verdict == verdict
    assert adaptive.estimate.value == pytest.approx(0.9 * share - 0.9, abs=1 / IMAGES)


def test_of_counter_attack_b_the_worst_point_counts(experiment):
    threat = "counter_b@resnet18+best_f"
    claims = experiment.claims(
        right(0.9, threat=threat, **CIFAR),
        right(0.1, threat=threat, attack_point="l1", **CIFAR),
        right(0.4, threat="counter_b@resnet18+direct_red", **CIFAR),
    )
    words = "cifar10, test: accuracy of APuDAE (Best) - APuDAE (Direct), counter attack B"
    assert claims[words].estimate.value == pytest.approx(-0.3)


def test_two_denoisers_on_the_same_images_are_not_mixed(tmp_path, apudae):
    """As at the quick scale, where the same patches stand for CIFAR-10 and ImageNet."""
    apudae["denoisers"]["unet"]["datasets"] = ["cifar10"]
    apudae["suites"]["low"]["threats"] = ["clean", "low"]
    table = apudae["experiments"]["apudae"]["tables"]["claims"]
    table["predictions"] = {**CIFAR, "suite": ["colour", "low"], "split": "test"}
    table["calibration"] = {"dataset": "cifar10", "denoiser": "red"}
    experiment = FakeExperiment(tmp_path, apudae)
    claims = experiment.claims(
        right(0.2, purifier="apudae", purifier_point="direct", threat="clean"),
        right(0.5, purifier="apudae_imagenet", purifier_point="direct", threat="clean"),
        right(0.9, purifier="apudae_imagenet", purifier_point="transformed", threat="clean"),
        right(0.9, purifier="apudae", purifier_point="f", threat="clean"),
    )
    words = "accuracy of {} - APuDAE (Direct), clean images"
    first = claims[f"cifar10, test: {words.format('F')}"]
    second = claims[f"cifar10, test, unet: {words.format('A transformed')}"]
    assert first.estimate.value == pytest.approx(0.7)
    assert second.estimate.value == pytest.approx(0.4)


def errors(before, after, **names):
    def change(frame) -> None:
        chosen = rows(frame, **names)
        first = frame["id"] < 100 + IMAGES // 2
        frame.loc[chosen, "error_before"] = first.map({True: before, False: 9.0})[chosen]
        frame.loc[chosen, "error_after"] = first.map({True: after, False: 4.0})[chosen]

    return change


@pytest.mark.parametrize(
    ("of_d", "of_e", "verdicts"),
    [(3.0, 2.0, ("holds", "holds")), (1.0, 1.0, ("does not", "does not"))],
)
def test_errors_of_clean_images_below_the_mean(experiment, of_d, of_e, verdicts):
    """The calibration's mean is 4: half of the images, of 2, lie below it."""
    names = {"threat": "clean", **CIFAR}
    claims = experiment.claims(
        errors(2.0, of_d, purifier_point="d", **names),
        errors(2.0, of_e, purifier_point="e", **names),
    )
    words = "cifar10, test: change of the error of clean images below the mean in % of it, {}"
    for variant, after, verdict in (("D", of_d, verdicts[0]), ("E", of_e, verdicts[1])):
        claim = claims[words.format(variant)]
        assert claim.verdict == verdict and claim.estimate.n == IMAGES // 2
        assert claim.estimate.value == pytest.approx(25 * (after - 2))


@pytest.mark.parametrize(
    ("bim", "pgd_trained", "verdicts"),
    [
        (0.2, 0.6, ("holds", "holds")),
        (0.8, 0.4, ("does not", "does not")),
        (0.7, 0.7, ("not decidable", "does not")),
    ],
)
def test_a_network_trained_on_fgsm_under_several_steps(experiment, bim, pgd_trained, verdicts):
    """To lose less than a tenth is no lack of robustness; nor is to keep more than PGD's."""
    grey = {"dataset": "mnist"}
    claims = experiment.claims(
        right(0.8, threat="grey@robust_mlp", attack_point="fgsm", **grey),
        right(bim, threat="grey@robust_mlp", attack_point="pgd", **grey),
        right(pgd_trained, threat="grey@robust_mlp_pgd", attack_point="pgd", **grey),
    )
    words = "mnist, test: accuracy of Adversarial Training"
    own, beside = (
        claims[f"{words}{end}"]
        for end in (", BIM - FGSM", " - Adversarial Training, robust_mlp_pgd, BIM")
    )
    assert own.estimate.value == pytest.approx(bim - 0.8) and own.claimed.most == -0.1
    assert beside.estimate.value == pytest.approx(bim - pgd_trained)
    assert (own.verdict, beside.verdict) == verdicts
    # CIFAR-10's and ImageNet's networks were trained on seven steps.
    assert not [
        quantity for quantity in claims if "BIM - FGSM" in quantity and "mnist" not in quantity
    ]


@pytest.mark.parametrize(("share", "verdict"), [(0.9, "holds"), (0.1, "does not")])
def test_better_than_the_others_under_attacks_that_do_not_know_it(experiment, share, verdict):
    grey = {"threat": "grey@mlp", "dataset": "mnist"}
    claims = experiment.claims(
        right(0.5, purifier=["magnet1", "magnet2", "defense_gan"], **grey),
        right(0.5, threat="grey@robust_mlp", dataset="mnist"),
        right(share, purifier="apudae", **grey),
        right(0.5, threat="colour@robust_resnet18", dataset="cifar10"),
        right(share, threat="colour@resnet18", purifier_point="f", **CIFAR),
    )
    for rival in ("MagNet", "Defense-GAN", "Adversarial Training"):
        for attack in ("FGSM", "R-FGSM", "BIM"):
            claim = claims[f"mnist, test: accuracy of A - {rival}, {attack}"]
            assert claim.verdict == verdict
            assert claim.estimate.value == pytest.approx(share - 0.5)
    claim = claims["cifar10, test: accuracy of F - Adversarial Training, R-FGSM"]
    assert claim.verdict == verdict


@pytest.mark.parametrize(("share", "verdict"), [(0.9, "holds"), (0.5, "does not")])
def test_noise_at_each_step_against_none(experiment, share, verdict):
    names = {"threat": "colour@resnet18", "purifier": "apudae", **CIFAR}
    claims = experiment.claims(
        right(0.5, purifier_point="e", **names),
        right(share, purifier_point="f", **names),
        right(0.1, purifier_point="f_logged", **names),
    )
    claim = claims["cifar10, test: accuracy of F - E, BIM"]
    assert claim.verdict == verdict and claim.estimate.value == pytest.approx(share - 0.5)


@pytest.mark.parametrize(
    ("attacked", "verdict"), [(3.0, "holds"), (2.0, "does not"), (1.0, "does not")]
)
def test_the_premise_is_judged_image_by_image(experiment, attacked, verdict):
    """Errors of clean images are 1 and 3, attacked ones differ by a constant; the mean is 4."""

    def errors_of(value, **names):
        def change(frame) -> None:
            chosen = rows(frame, **names)
            even = frame["id"] % 2 == 0
            frame.loc[chosen, "error_before"] = (value + 2.0 * even - 1)[chosen]

        return change

    claims = experiment.claims(
        errors_of(2.0, threat="clean", **CIFAR),
        errors_of(attacked, threat=["colour@resnet18", "cw_random@resnet18"], **CIFAR),
    )
    for denoiser in ("red", "red4"):
        for attack in ("FGSM", "R-FGSM", "BIM", "CW"):
            claim = claims[
                f"cifar10, test, {denoiser}: error of adversarial less that of clean images in % "
                f"of the mean, {attack}"
            ]
            assert claim.verdict == verdict and claim.estimate.n == IMAGES
            assert claim.estimate.value == pytest.approx(25 * (attacked - 2))
    assert not [quantity for quantity in claims if "magnet" in quantity]


def test_an_image_whose_error_is_unknown_is_not_left_out_of_the_premise(experiment):
    def change(frame) -> None:
        attacked = rows(frame, threat="colour@resnet18", **CIFAR)
        frame.loc[attacked & (frame["id"] == frame["id"].min()), "error_before"] = float("nan")

    quantity = "cifar10, test, red: error of adversarial less that of clean images in % of the mean"
    assert experiment.claims(change)[f"{quantity}, FGSM"].verdict == "not decidable"


@pytest.mark.parametrize(("after", "verdict"), [(1.0, "holds"), (2.5, "does not")])
def test_a_lowers_the_error_of_clean_images_too(experiment, after, verdict):
    def change(frame) -> None:
        chosen = rows(frame, purifier="apudae", purifier_point="a12", **CIFAR)
        frame.loc[chosen, "error_before"] = 2.0
        frame.loc[chosen, "error_after"] = after

    claims = experiment.claims(change)
    for attack in ("clean", "FGSM", "BIM", "CW"):
        claim = claims[f"cifar10, test, red: change of the error in % of the mean, A, {attack}"]
        assert claim.verdict == verdict and claim.estimate.n == IMAGES
        assert claim.estimate.value == pytest.approx(25 * (after - 2))


def test_an_error_without_its_calibration_is_not_decidable(experiment):
    claims = claims_of.claims(experiment.predictions, experiment.calibration[:1])
    verdicts = {claim.verdict for claim in claims if "unet: error" in claim.quantity}
    assert verdicts == {"not decidable: the calibration of unet is not among the files"}


def test_what_was_not_computed_is_not_decidable(tmp_path, apudae):
    table = apudae["experiments"]["apudae"]["tables"]["claims"]
    apudae["suites"]["colour"] = {"threats": ["clean"], "purifiers": ["none", "direct_red"]}
    crossing = {"dataset": "cifar10", "classifier": "resnet18", "suite": "colour", "split": "test"}
    table["predictions"] = crossing
    claims = FakeExperiment(tmp_path, apudae).claims()
    assert claims and all(claim.reason for claim in claims.values())
    verdict = claims["accuracy of G - F, clean images"].verdict
    assert verdict == "not decidable: G and F were not compared"
    assert len({claim.sentence for claim in claims.values()}) >= 22
