"""The claims of "DAPAS": from results whose answers are known, and from its own tables."""

import numpy as np
import pytest

from experiments.dapas import claims as claims_of
from tests.experiments.dapas.test_dapas import FakeExperiment, overlap
from tests.fake_results import IMAGES

NOISES = ("gaussian", "uniform", "bimodal")
MEAN = "mean over 6 epsilons from 0.001 to 0.032"
# Half of the images at one value and half at another: their mean is uncertain.
MIXED = np.where(np.arange(IMAGES) % 2, 30, 70)


@pytest.fixture(scope="module")
def results(tmp_path_factory, dapas_file):
    return FakeExperiment(tmp_path_factory.mktemp("claims"), dapas_file, "claims")


def by_quantity(claims) -> dict:
    result = {claim.quantity: claim for claim in claims}
    assert len(result) == len(claims)
    return result


def judged(results, *changes) -> dict:
    """The claims where all images have a clean mIoU of 80 % and what the changes say."""
    return by_quantity(results(overlap(80, threat="clean", purifier="none"), *changes))


def behind(noise: str, percent, **names):
    return overlap(percent, purifier=f"dapas_{noise}", **names)


PLAIN = {"FGSM": "fgsm_steps@deeplab", "I-FGSM": "ifgsm_steps@deeplab"}


def test_published_quantities_follow_from_the_papers_tables(results):
    claims = by_quantity(results())
    for quantity, published in (
        ("RatioRED in %, Gaussian", "97.4"),
        ("RatioRED in %, Bimodal", "97.2"),
        ("RatioRED of Uniform - best other in points", "0.0"),
        ("RatioRED of Bimodal - worst other in points", "-0.2"),
        ("RatioATT in %, I-FGSM, epsilon 0.032", "13.1"),
        ("RatioROB in % of the best denoiser, I-FGSM, epsilon 0.032", "68.7"),
        ("RatioATT of FGSM in points, largest - smallest at epsilons from 0.008 on", "1.2"),
        # By hand: 64.8, 56.9, 51.2, 48.0, 47.3, 48.5 and 64.8, 44.0, 31.8, 24.2, 19.6, 13.1
        (f"RatioATT of I-FGSM - FGSM in points, {MEAN}", "-19.9"),
        # 88.9, 82.2, 78.3, 75.4, 73.6, 68.0 and 88.9, 82.6, 74.3, 66.0, 59.2, 55.2
        (f"RatioROB of I-FGSM - FGSM in points, Gaussian, {MEAN}", "6.7"),
        (f"RatioROB of Bimodal - best other in points, FGSM, {MEAN}", "0.3"),
        (f"RatioROB of Uniform - worst other in points, I-FGSM, {MEAN}", "-2.3"),
        (f"RatioROB - RatioATT in points, Bimodal, I-FGSM, {MEAN}", "45.3"),
        (f"RatioROB - RatioATT in points, Bimodal, adaptive I-FGSM, {MEAN}", ""),
        ("mean squared perturbation of I-FGSM / FGSM, epsilon 0.032", ""),
    ):
        assert claims[quantity].published == published
        assert not claims[quantity].reason


def test_numbers_of_the_text_are_in_the_sentences(results):
    sentences = {claim.sentence for claim in results()}
    assert "Performance is around 97 % of the original model's on clean images." in sentences
    assert any("drops to about 13 %" in sentence for sentence in sentences)
    assert any("covers up to 68 %" in sentence for sentence in sentences)


@pytest.mark.parametrize(
    ("percent", "verdict"), [(77.6, "holds"), (77, "does not"), (MIXED + 30, "not decidable")]
)
def test_what_is_kept_on_clean_images(results, percent, verdict):
    """96.5 % of a clean mIoU of 80 % are 77.2 %."""
    claims = judged(results, behind("gaussian", percent, threat="clean"))
    claim = claims["RatioRED in %, Gaussian"]
    assert claim.verdict == verdict
    if np.ndim(percent) == 0:
        assert claim.estimate.value == pytest.approx(percent / 0.8)


@pytest.mark.parametrize(("percent", "verdict"), [(10, "holds"), (12, "does not")])
def test_what_is_left_under_attack(results, percent, verdict):
    claims = judged(results, overlap(percent, threat=PLAIN["I-FGSM"], attack_point="e6"))
    claim = claims["RatioATT in %, I-FGSM, epsilon 0.032"]
    assert claim.verdict == verdict and claim.estimate.value == pytest.approx(percent / 0.8)


@pytest.mark.parametrize(("percent", "verdict"), [(56, "holds"), (50, "does not")])
def test_what_the_best_denoiser_covers(results, percent, verdict):
    changes = [
        behind(noise, best, threat=PLAIN["I-FGSM"], attack_point="e6")
        for noise, best in zip(NOISES, (30, 40, percent), strict=True)
    ]
    claim = judged(results, *changes)["RatioROB in % of the best denoiser, I-FGSM, epsilon 0.032"]
    assert claim.verdict == verdict and claim.estimate.value == pytest.approx(percent / 0.8)


@pytest.mark.parametrize(("last", "verdict"), [(41, "holds"), (44, "does not")])
def test_ratios_under_fgsm_are_similar_or_not(results, last, verdict):
    changes = [
        overlap(percent, threat=PLAIN["FGSM"], attack_point=point, purifier="none")
        for point, percent in (("e1", 70), ("e4", 40), ("e5", 40.4), ("e6", last))
    ]
    quantity = "RatioATT of FGSM in points, largest - smallest at epsilons from 0.008 on"
    claim = judged(results, *changes)[quantity]
    assert claim.verdict == verdict and claim.estimate.value == pytest.approx((last - 40) / 0.8)


@pytest.mark.parametrize(("stronger", "verdict"), [(True, "holds"), (False, "does not")])
def test_which_attack_is_stronger_and_which_better_removed(results, stronger, verdict):
    pair = (30, 40) if stronger else (40, 30)
    changes = [
        overlap(percent, threat=PLAIN[method], purifier="none")
        for method, percent in zip(("I-FGSM", "FGSM"), pair, strict=True)
    ]
    changes += [
        behind("uniform", percent, threat=PLAIN[method])
        for method, percent in zip(("FGSM", "I-FGSM"), pair, strict=True)
    ]
    claims = judged(results, *changes)
    attack = claims[f"RatioATT of I-FGSM - FGSM in points, {MEAN}"]
    assert attack.verdict == verdict
    assert attack.estimate.value == pytest.approx((pair[0] - pair[1]) / 0.8)
    removed = claims[f"RatioROB of I-FGSM - FGSM in points, Uniform, {MEAN}"]
    assert removed.verdict == verdict
    assert removed.estimate.value == pytest.approx((pair[1] - pair[0]) / 0.8)


@pytest.mark.parametrize(
    ("factor", "verdict"), [(0.25, "holds"), (4.0, "does not"), (None, "not decidable")]
)
def test_which_attack_is_less_noisy(results, factor, verdict):
    """Of the largest budget; perturbations of the others do not count."""

    def noisier(frame):
        rows = (frame["threat"] == PLAIN["I-FGSM"]) & (frame["attack_point"] == "e6")
        even = np.where(frame["id"] % 2, 0.2, 1.8)
        frame["mse_before"] = np.where(rows, 0.5 * (even if factor is None else factor), 0.5)

    claim = by_quantity(results(noisier))[
        "mean squared perturbation of I-FGSM / FGSM, epsilon 0.032"
    ]
    assert claim.verdict == verdict
    assert claim.estimate.value == pytest.approx(1.0 if factor is None else factor)


@pytest.mark.parametrize("method", list(PLAIN))
@pytest.mark.parametrize(
    ("values", "best", "worst"),
    [
        ((50, 40, 60), "holds", "holds"),
        ((60, 50, 40), "does not", "does not"),
        ((50, 60, 40), "does not", "does not"),
        ((50, 40, MIXED), "not decidable", "holds"),
    ],
)
def test_which_noise_is_the_best_and_the_worst_under_attack(results, method, values, best, worst):
    """What differs between images decides nothing; what differs on each image does."""
    changes = [
        behind(noise, percent, threat=PLAIN[method])
        for noise, percent in zip(NOISES, values, strict=True)
    ]
    if np.ndim(values[2]):
        changes.append(behind("uniform", 10, threat=PLAIN[method]))
    claims = judged(results, *changes)
    assert claims[f"RatioROB of Bimodal - best other in points, {method}, {MEAN}"].verdict == best
    result = claims[f"RatioROB of Uniform - worst other in points, {method}, {MEAN}"]
    assert result.verdict == worst
    if not np.ndim(values[2]):
        gap = values[1] - min(values[0], values[2])
        assert result.estimate.value == pytest.approx(gap / 0.8)


@pytest.mark.parametrize(
    ("values", "best", "worst"),
    [((77, 78, 76), "holds", "holds"), ((77, 76, 78), "does not", "does not")],
)
def test_which_noise_loses_least_on_clean_images(results, values, best, worst):
    changes = [
        behind(noise, percent, threat="clean")
        for noise, percent in zip(NOISES, values, strict=True)
    ]
    claims = judged(results, *changes)
    assert claims["RatioRED of Uniform - best other in points"].verdict == best
    assert claims["RatioRED of Bimodal - worst other in points"].verdict == worst


@pytest.mark.parametrize("adaptive", [False, True])
@pytest.mark.parametrize(("after", "verdict"), [(60, "holds"), (10, "does not")])
def test_an_attack_is_defended_against_or_not(results, adaptive, after, verdict):
    """Both sides are images of one place: the same is compared image by image."""
    threat = PLAIN["I-FGSM"] + "+dapas_bimodal" * adaptive
    claims = judged(
        results,
        overlap(20, threat=PLAIN["I-FGSM"], purifier="none"),
        behind("bimodal", after, threat=threat),
    )
    name = "adaptive I-FGSM" if adaptive else "I-FGSM"
    claim = claims[f"RatioROB - RatioATT in points, Bimodal, {name}, {MEAN}"]
    assert claim.verdict == verdict
    assert claim.estimate.value == pytest.approx((after - 20) / 0.8)


def test_what_was_not_computed_is_not_decidable(results):
    frame = results.predictions.frame
    some = frame[~frame["purifier"].isin(["dapas_uniform"]) & ~frame["threat"].str.contains("\\+")]
    some = some[~some["attack_point"].isin(["e5", "e6"]) | (some["threat"] != PLAIN["FGSM"])]
    claims = by_quantity(claims_of.claims(results.predictions.of(some)))
    for words, reason in (
        ("RatioRED in %, Uniform", "there are no results of clean images behind Uniform"),
        (
            "RatioROB of Uniform - worst other in points, FGSM",
            "there are no results of FGSM behind Uniform",
        ),
        (
            "RatioROB - RatioATT in points, Gaussian, adaptive I-FGSM",
            "there are no results of adaptive I-FGSM behind Gaussian",
        ),
        (
            "RatioATT of FGSM in points, largest - smallest at epsilons from 0.008 on",
            "FGSM had no two such budgets",
        ),
    ):
        assert claims[words].verdict == f"not decidable: {reason}"
    # Where not all budgets were met, those that both sides have count.
    fewer = claims["RatioATT of I-FGSM - FGSM in points, mean over 4 epsilons from 0.001 to 0.008"]
    # By hand: 64.8, 56.9, 51.2, 48.0 and 64.8, 44.0, 31.8, 24.2
    assert fewer.published == "-14.0"
    quiet = frame[frame["purifier"] != "none"]
    without = by_quantity(claims_of.claims(results.predictions.of(quiet)))
    reasons = {claim.reason for claim in without.values()}
    assert reasons == {
        "clean images were not judged without a defence",
        "the two did not have the same budget",
        "FGSM had no two such budgets",
    }


def test_of_several_segmenters_each_is_told(results):
    frame = results.predictions.frame
    both = [frame, frame.assign(split="studied")]
    import pandas as pd

    claims = by_quantity(
        claims_of.claims(results.predictions.of(pd.concat(both, ignore_index=True)))
    )
    assert "voc2012, studied, deeplab: RatioRED in %, Gaussian" in claims
    assert "voc2012, test, deeplab: RatioRED in %, Gaussian" in claims


# ---------------------------------------------------------------- text against tables


def test_numbers_of_the_results_text_stand_beside_those_of_the_tables(results):
    claims = by_quantity(results())
    published = {
        claim.sentence.partition("drops to ")[2].partition("%")[0]: claim.published
        for quantity, claim in claims.items()
        if "as the results' text has it" in quantity
    }
    assert published == {"24.2": "24.2", "21.9": "19.6", "12.0": "13.1"}
    assert claims["100 - RatioRED in %, Uniform"].published == "2.6"


def test_contradictions_of_text_and_tables_are_noted(results):
    notes = " ".join(claims_of.claims(results.predictions).notes)
    assert "21.9% (I-FGSM, ratio of attack eps=0.016), the paper's own table 19.6." in notes
    assert "12.0% (I-FGSM, ratio of attack eps=0.032), the paper's own table 13.1." in notes
    assert "3.1 % (Uniform, lost after DAPAS), the paper's own table 2.6." in notes
    assert "24.2" not in notes


@pytest.mark.parametrize(("percent", "verdict"), [(19.36, "holds"), (16, "does not")])
def test_a_ratio_of_the_results_text(results, percent, verdict):
    """24.2 % of a clean mIoU of 80 % are 19.36 %."""
    claims = judged(results, overlap(percent, threat=PLAIN["I-FGSM"], attack_point="e4"))
    claim = claims["RatioATT in %, I-FGSM, epsilon 0.008, as the results' text has it"]
    assert claim.verdict == verdict and claim.estimate.value == pytest.approx(
        percent / 0.8, abs=0.1
    )


@pytest.mark.parametrize(("percent", "verdict"), [(77.52, "holds"), (79, "does not")])
def test_what_uniform_noise_loses(results, percent, verdict):
    claims = judged(results, behind("uniform", percent, threat="clean"))
    assert claims["100 - RatioRED in %, Uniform"].verdict == verdict


@pytest.mark.parametrize(
    ("percents", "verdict"),
    [((50, 40, 60), "holds"), ((30, 40, 60), "does not"), ((70, 40, 60), "does not")],
)
def test_gaussian_noise_is_in_the_middle_or_not(results, percents, verdict):
    changes = [
        behind(noise, percent, threat=PLAIN["FGSM"])
        for noise, percent in zip(("gaussian", "uniform", "bimodal"), percents, strict=True)
    ]
    claims = judged(results, *changes)
    (claim,) = [
        claim
        for quantity, claim in claims.items()
        if quantity.startswith("RatioROB of Gaussian: distance") and ", FGSM" in quantity
    ]
    assert claim.verdict == verdict
    assert claim.estimate.value == pytest.approx({50: 10, 30: -10, 70: -10}[percents[0]] / 0.8)


@pytest.mark.parametrize(("percent", "verdict"), [(60, "holds"), (30, "does not")])
def test_any_model_is_defended_or_not(results, percent, verdict):
    changes = [overlap(40, threat=PLAIN["I-FGSM"], purifier="none")]
    changes += [behind(noise, percent, threat=PLAIN["I-FGSM"]) for noise in NOISES]
    (claim,) = [
        claim
        for quantity, claim in judged(results, *changes).items()
        if "in front of deeplab" in quantity
    ]
    assert claim.verdict == verdict
    assert claim.estimate.value == pytest.approx((percent - 40) / 0.8)
