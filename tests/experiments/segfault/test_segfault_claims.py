"""The claims of "segfault": from results whose answers are known, and from its own tables."""

import csv
import re

import numpy as np
import pytest

from advdenoise.reporting.read import read_stage
from experiments.segfault import claims as claims_of
from tests.fake_results import Results

KEPT = {
    "felzenszwalb": ["s1", "s10"],
    "quickshift": ["s0_m10", "s0_m20", "s1_m10"],
    "slic": ["n32", "n64"],
}
ATTACKS = ("FGSM", "PGD", "DeepFool", "C&W")


@pytest.fixture
def experiment(tmp_path, segfault):
    """A function from changes to the rows to the claims, by quantity."""
    segfault["hidden"]["per_layer"] = 200
    # Enough settings for every claim, few enough to be quick.
    for name, points in KEPT.items():
        entry = segfault["attributions"][name]
        entry["points"] = {point: entry["points"][point] for point in points}

    def claims(**changes) -> dict:
        results = Results(tmp_path, segfault)
        inputs = results.inputs("tables", "segfault", "claims")
        stages = {stage: read_stage(stage, paths) for stage, paths in inputs.items()}
        for stage, change in changes.items():
            stages[stage] = stages[stage].of(change(stages[stage].frame.copy()))
        result = claims_of.claims(**stages)
        by_quantity = {claim.quantity: claim for claim in result}
        assert len(by_quantity) == len(result)
        return by_quantity

    return claims


def those(claims: dict, *words: str) -> list:
    """The claims whose quantity has all these words, under the paper's protocol."""
    result = [
        claim for quantity, claim in claims.items() if all(word in quantity for word in words)
    ]
    assert result, words
    return [claim for claim in result if "(grouped)" not in claim.quantity]


def verdicts(claims: dict, *words: str) -> set[str]:
    return {claim.verdict for claim in those(claims, *words)}


def test_every_claim_of_the_paper_is_decided_by_its_own_tables(experiment):
    claims = experiment()
    missing = {claim.reason for claim in claims.values() if claim.reason}
    unmeasured = {
        reason for reason in missing if re.fullmatch("the cost of .* not measured", reason)
    }
    assert missing == unmeasured and len(unmeasured) == 6  # settings that are left out here
    with (claims_of.PUBLISHED.folder / "table6.csv").open(encoding="utf-8", newline="") as file:
        table6 = {
            (line["row"], line["column"]): float(line["value"]) for line in csv.DictReader(file)
        }
    settings = list(dict.fromkeys(row for row, _ in table6))
    for attack in ATTACKS:
        gains = [table6[row, f"{attack} 10-D"] - table6[row, f"{attack} 1-D"] for row in settings]
        (claim,) = those(claims, f"AUC of 10-D - AUC of 1-D, {attack}, mean over")
        assert float(claim.published) == pytest.approx(np.mean(gains), rel=0.01)
    (fastest,) = those(claims, "seconds of 10-D / seconds of the faster other")
    assert fastest.published == f"{3.46 / 4.3:.3g}"
    (cheaper,) = those(claims, "seconds of pixel (ML-LOO) / seconds of felzenszwalb scale=1,")
    assert cheaper.published == f"{45 / 1.17:.3g}"
    (more,) = those(claims, "rank correlation of segments and AUC, mean of")
    assert 0 < float(more.published) < 1
    grouped = [claim for quantity, claim in claims.items() if "(grouped)" in quantity]
    assert grouped and not any(claim.published for claim in grouped)
    assert those(claims, "training accuracy")[0].published == "94"


def scored(frame, **scale):
    """Scores that tell adversarial rows the better the larger the representation's scale."""
    random = np.random.default_rng(0)
    shift = frame["representation"].map(scale) * frame["is_adversarial"]
    return frame.assign(score=(random.random(len(frame)) + shift).astype(np.float32))


def test_larger_representations_are_compared_attack_by_attack(experiment):
    claims = experiment(detection=lambda f: scored(f, predicted=0.0, probabilities=0.5, hidden=2.0))
    assert verdicts(claims, "AUC of 10-D - AUC of 1-D") == {"holds"}
    assert verdicts(claims, "AUC of 4K-D - AUC of 10-D") == {"holds"}
    assert len(those(claims, "AUC of 4K-D - AUC of 10-D")) == len(ATTACKS) + 1
    claims = experiment(detection=lambda f: scored(f, predicted=2.0, probabilities=0.5, hidden=0.0))
    assert verdicts(claims, "AUC of 10-D - AUC of 1-D") == {"does not"}
    assert verdicts(claims, "AUC of 4K-D - AUC of 10-D") == {"does not"}
    claims = experiment(detection=lambda f: scored(f, predicted=2.0, probabilities=2.0, hidden=2.0))
    assert "holds" not in verdicts(claims, "AUC of 10-D - AUC of 1-D")


def by(frame, column, values, otherwise):
    shift = frame[column].map(values).fillna(otherwise).astype(float) * frame["is_adversarial"]
    random = np.random.default_rng(1)
    return frame.assign(score=(random.random(len(frame)) + shift).astype(np.float32))


def test_the_attack_that_is_easiest_to_detect(experiment):
    claims = experiment(detection=lambda f: by(f, "threat", {"cw@cnn26": 2.0}, 0.1))
    assert verdicts(claims, "AUC of C&W - AUC of") == {"holds"}
    claims = experiment(detection=lambda f: by(f, "threat", {"cw@cnn26": 0.1}, 2.0))
    assert verdicts(claims, "AUC of C&W - AUC of") == {"does not"}


# In the fabricated costs the n-th point of an entry has 10 n segments.
SEGMENTS = {"s1": 1, "s10": 2, "s0_m10": 1, "s0_m20": 2, "s1_m10": 3, "n32": 1, "n64": 2}


@pytest.mark.parametrize(("slope", "verdict"), [(0.4, "holds"), (-0.4, "does not")])
def test_more_segments_and_the_area(experiment, slope, verdict):
    shifts = {name: 0.8 + slope * (count - 2) for name, count in SEGMENTS.items()}
    claims = experiment(detection=lambda f: by(f, "attribution_point", shifts, 0.0))
    assert verdicts(claims, "rank correlation") == {verdict}
    assert verdicts(claims, "AUC of ML-LOO - mean AUC of superpixels") == {"does not"}


@pytest.mark.parametrize(("slic", "verdict"), [(1.1, "holds"), (-0.1, "does not")])
def test_slic_and_the_others_at_equal_segments(experiment, slic, verdict):
    shifts = {name: slic if name.startswith("n") else 0.5 for name in SEGMENTS}
    claims = experiment(detection=lambda f: by(f, "attribution_point", shifts, 0.0))
    assert verdicts(claims, "AUC of SLIC - AUC of others") == {verdict}


def test_settings_are_compared_on_the_same_images_only(experiment):
    def apart(frame):
        pixels = frame["attribution"] == "pixels"
        return frame.assign(split=frame["split"].where(~pixels, "other"))

    claims = experiment(detection=apart)
    lower = those(claims, "AUC of ML-LOO - mean AUC of superpixels")
    assert all(claim.reason for claim in lower)
    assert not any(claim.reason for claim in those(claims, "AUC of SLIC - AUC of others"))
    # Within a setting nothing has changed.
    gain = "AUC of 10-D - AUC of 1-D, FGSM"
    assert [c.estimate for c in those(claims, gain)] == [
        c.estimate for c in those(experiment(), gain)
    ]


def test_a_grid_search_is_compared_with_the_defaults(experiment):
    claims = experiment(detection=lambda f: by(f, "detector", {"searched": 2.0}, 0.0))
    assert verdicts(claims, "AUC of the SVC after a grid search") == {"holds"}
    claims = experiment(detection=lambda f: f[f["detector"] != "searched"])
    (claim,) = those(claims, "AUC of the SVC after a grid search")
    assert claim.verdict.startswith("not decidable: the SVC") and claim.published == "0.03"


@pytest.mark.parametrize(("sign", "verdict"), [(1, "holds"), (-1, "does not")])
def test_interquartile_ranges_are_compared_image_by_image(experiment, sign, verdict):
    def shifted(frame):
        # Images differ far more than attacks change them.
        base = frame["id"].to_numpy() * 10.0 + sign * (frame["threat"] != "clean").to_numpy()
        vectors = base[:, None] + np.zeros(10)
        return frame.assign(predicted=list(vectors[:, :1]), probabilities=list(vectors))

    claims = experiment(iqr=shifted)
    assert verdicts(claims, "mean IQR-1D of") == {verdict}
    assert verdicts(claims, "with a larger mean IQR") == {verdict}
    (claim,) = those(claims, "mean IQR-1D of C&W")
    assert claim.estimate == pytest.approx((sign, sign, sign, 30))


def timed(frame, factors):
    seconds = frame["representation"].map(factors) * (1 + 0.1 * frame["repetition"])
    pixels = np.where(frame["attribution"] == "pixels", 50.0, 1.0)
    return frame.assign(segmentation_seconds=0.0, passes_seconds=seconds * pixels)


def test_costs_are_compared_run_by_run(experiment):
    claims = experiment(
        cost=lambda f: timed(f, {"predicted": 2.0, "probabilities": 1.0, "hidden": 3.0})
    )
    (fastest,) = those(claims, "seconds of 10-D / seconds of the faster other")
    assert (fastest.verdict, fastest.estimate[:3]) == ("holds", pytest.approx((0.5, 0.5, 0.5)))
    seconds = those(claims, "seconds of pixel (ML-LOO) / seconds of")
    assert {claim.verdict for claim in seconds if not claim.reason} == {"holds"}
    assert len(seconds) == 13 and sum(not claim.reason for claim in seconds) == 7
    assert seconds[0].estimate == pytest.approx((50, 50, 50, 2))
    claims = experiment(
        cost=lambda f: timed(f, {"predicted": 1.0, "probabilities": 2.0, "hidden": 3.0})
    )
    assert verdicts(claims, "seconds of 10-D / seconds of the faster other") == {"does not"}


def test_memory_is_counted_as_the_authors_do(experiment):
    claims = experiment()
    ten, hidden = those(claims, "all attributions at once")
    assert hidden.verdict == "holds" and hidden.estimate.value == pytest.approx(381, rel=0.05)
    assert ten.verdict == "holds" and ten.estimate.value == pytest.approx(10, rel=0.05)


def test_memory_of_another_number_of_nodes_decides_nothing(experiment, segfault):
    claims = experiment(cost=lambda f: f.assign(values=f["values"].replace({10: 8, 3810: 390})))
    ten, hidden = those(claims, "all attributions at once")
    assert ten.verdict == "not decidable: 10-D has 8 values here, and not 10"
    assert hidden.verdict == "not decidable: 4K-D has 390 values here, and not 3810"


def test_accuracy_on_both_sides_of_the_classifiers_data(experiment):
    def predicted(frame):
        right = np.arange(len(frame)) % 100 < np.where(frame["split"] == "train", 94, 50)
        many = frame.assign(prediction=frame["label"].where(right, frame["label"] + 1))
        return many

    def many(frame):
        import pandas as pd

        whole = pd.concat([frame.assign(id=frame["id"] + 1000 * n) for n in range(300)])
        return pd.concat([predicted(part) for _, part in whole.groupby("split")])

    claims = experiment(predictions=many)
    (train,), (test,) = those(claims, "training accuracy"), those(claims, "testing accuracy")
    assert train.verdict == "holds" and train.estimate.value == pytest.approx(94)
    assert train.estimate.n == 9000
    assert test.verdict == "does not" and test.estimate.value == pytest.approx(50)
    claims = experiment(predictions=lambda frame: frame[frame["split"] == "test"])
    assert verdicts(claims, "training accuracy") == {
        "not decidable: the split train was not predicted"
    }


def test_what_was_not_computed_is_not_decidable(experiment, segfault):
    segfault["suites"]["segfault"]["threats"] = ["clean", "z_score"]
    table = segfault["experiments"]["segfault"]["tables"]["claims"]
    table["iqr"] = [{**crossing, "threat": ["clean", "z_score"]} for crossing in table["iqr"]]
    table["cost"] = {**table["cost"], "attribution": "slic"}
    claims = experiment()
    for words in (["AUC of 10-D - AUC of 1-D, C&W"], ["AUC of C&W - "], ["mean IQR-1D of C&W"]):
        assert verdicts(claims, *words) == {"not decidable: C&W is not among the attacks"}
    (claim, *_) = those(claims, "seconds of pixel (ML-LOO) / seconds of slic n_segments=32")
    assert claim.verdict == "not decidable: the cost of pixel (ML-LOO) was not measured"
    (pooled,) = those(claims, "AUC of 10-D - AUC of 1-D, mean of FGSM, PGD, DeepFool,")
    assert not pooled.reason


def test_data_sets_are_told_apart(experiment, segfault):
    table = segfault["experiments"]["segfault"]["tables"]["claims"]
    table["predictions"] = [
        {**crossing, "dataset": ["digits", "patches"], "split": ["train", "test"]}
        for crossing in table["predictions"]
    ]
    claims = experiment()
    assert {quantity.partition(":")[0] for quantity in claims} == {
        "digits, cnn26",
        "patches, cnn26",
    }
    (digits,) = [c for q, c in claims.items() if q.startswith("digits") and "training acc" in q]
    assert not digits.reason
    assert claims["digits, cnn26: AUC of 10-D - AUC of 1-D, FGSM, mean over settings"].reason


@pytest.mark.parametrize(
    ("ten", "hidden", "verdict"), [(2.0, -0.9, "holds"), (-0.9, 2.0, "does not")]
)
def test_many_dimensions_are_compared_for_the_detectors_of_table_2(
    experiment, ten, hidden, verdict
):
    claims = experiment(
        detection=lambda f: scored(f, predicted=0, probabilities=ten, hidden=hidden)
    )
    assert verdicts(claims, "AUC of Random Forest on 4K-D - that on 10-D") == {verdict}
    assert verdicts(claims, "AUC of SVC on 4K-D - that on 10-D") == {verdict}
    (pooled,) = those(claims, "Random Forest", "mean of all attacks")
    printed = np.mean([0.854, 0.685, 0.649, 0.660]) - np.mean([0.765, 0.782, 0.792, 0.929])
    assert float(pooled.published) == pytest.approx(printed, rel=0.01)
    (least,) = those(claims, "SVC", "least of all attacks")
    assert float(least.published) == pytest.approx(0.819 - 0.930, rel=0.01)


@pytest.mark.parametrize(
    ("change", "verdict"), [(-1, "holds"), (1, "does not"), (0, "not decidable")]
)
def test_segments_are_compared_between_neighbouring_settings(experiment, change, verdict):
    places = {"s1": 0, "s10": 1, "s0_m10": 0, "s0_m20": 1, "s1_m10": 1}

    def counted(frame):
        steps = frame["attribution_point"].map(places).fillna(0)
        noise = frame["id"].to_numpy() % 2 * (change == 0) * np.where(steps, 2, 1)
        return frame.assign(segments=(20 + change * steps + noise - steps * (change == 0) / 2))

    claims = experiment(iqr=counted)
    quantities = ("felzenszwalb at a larger scale", "at a larger sigma", "at a larger max_dist")
    for quantity in quantities:
        (claim,) = those(claims, f"{quantity} -" if "at a" in quantity else quantity)
        assert claim.verdict == verdict
        if change:
            assert claim.estimate == pytest.approx((change, change, change, 30))


def test_the_greatest_step_between_settings_decides(experiment, segfault):
    """Of three scales one step is up: that the other is down does not help."""
    values = {"s1": 20, "s10": 10, "s0_m10": 3, "s0_m20": 2, "s1_m10": 4}
    claims = experiment(
        iqr=lambda f: f.assign(segments=f["attribution_point"].map(values).fillna(1))
    )
    assert verdicts(claims, "larger scale -") == {"holds"}
    assert verdicts(claims, "larger sigma -") == {"does not"}
    assert verdicts(claims, "larger max_dist -") == {"holds"}


@pytest.mark.parametrize(
    ("factor", "verdict"), [(1.0, "holds"), (1.5, "does not"), (0.5, "does not")]
)
def test_seconds_of_clean_and_adversarial_images(experiment, factor, verdict):
    def timed(frame):
        slower = np.where(frame["threat"] == "clean", 1.0, factor)
        return frame.assign(job_seconds=frame["job_seconds"] * slower)

    (claim,) = those(experiment(iqr=timed), "seconds of an adversarial image / of a clean one")
    assert claim.verdict == verdict
    # Two threats with each of four attributions.
    assert claim.estimate == pytest.approx((factor, factor, factor, 8))
    claims = experiment(iqr=lambda frame: frame[frame["threat"] == "clean"])
    (claim,) = those(claims, "seconds of an adversarial image")
    assert claim.reason


@pytest.mark.parametrize(("share", "verdict"), [(0.1, "holds"), (0.5, "does not")])
def test_what_fgsm_leaves(experiment, share, verdict):
    def attacked(frame):
        import pandas as pd

        whole = pd.concat([frame.assign(id=frame["id"] + 1000 * n) for n in range(60)])
        right = np.arange(len(whole)) % 10 < 10 * share
        return whole.assign(prediction=whole["label"].where(right, whole["label"] + 1))

    (claim,) = those(experiment(predictions=attacked), "accuracy in % under FGSM, epsilon 0.1")
    assert (claim.verdict, claim.published) == (verdict, "11.72")
    claims = experiment(predictions=lambda frame: frame[frame["threat"] == "clean"])
    (claim,) = those(claims, "accuracy in % under FGSM, epsilon 0.1")
    assert claim.reason == "FGSM with epsilon 0.1 was not predicted"


def test_the_size_of_the_classifier_is_counted_as_by_keras(experiment):
    layers, parameters = those(experiment(), "as Keras counts them")
    assert (layers.verdict, layers.estimate.value) == ("holds", 26)
    assert (parameters.verdict, parameters.estimate.value) == ("holds", 309_290)
