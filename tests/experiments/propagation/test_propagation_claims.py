"""The claims of "propagation": from results whose answers are known, and from its own tables."""

import numpy as np
import pandas as pd
import pytest

from advdenoise.reporting.claims import Claim
from experiments.propagation import claims as claims_of
from experiments.propagation import layer_claims, results
from tests.experiments.propagation.test_propagation import (
    SETS,
    FakeExperiment,
    curve,
    right,
    setting,
)
from tests.fake_results import rows

HERE = "tiny_imagenet, train: "


class FakeClaims(FakeExperiment):
    """The claims by quantity and range."""

    def claims(self, *changes) -> dict[str, Claim]:
        actual = self.cells("claims", *changes)
        verdict_text = {claim.quantity: claim for claim in actual}
        assert len(verdict_text) == len(actual)
        return verdict_text


@pytest.fixture(scope="module")
def experiment(tmp_path_factory, propagation_file):
    return FakeClaims(tmp_path_factory.mktemp("claims"), propagation_file)


def verdict(claims: dict, quantity: str) -> str:
    return claims[HERE + quantity].verdict


def test_published_values_are_those_of_the_papers_tables(experiment):
    claims = experiment.claims(
        *(right(0.2, purifier="none", classifier=name) for name in ("resnetv2_50", "densenet201")),
        right(0.9, purifier=["fusionnet", "unet"], classifier="densenet201"),
    )
    for quantity, published in (
        # By hand from Tables 5 and 7: means over the sets of 14.18 - 13.70, 64.74 - 66.50, ...
        ("gain in points of ResNet V2-50 - DenseNet-201, w/ FN", "0.480"),
        ("accuracy of FC->Conv - DenseNet-201 in points, w/o DN", "-1.760"),
        ("accuracy of PReLU after FC - DenseNet-201 in points, w/ UN", "-1.520"),
        ("rank correlation of noise and accuracy of VGG-19", None),
    ):
        claim = claims[HERE + quantity]
        assert not claim.reason
        if published is not None:
            assert claim.published == published, quantity
        else:
            assert -1 < float(claim.published) < 0
    # By hand from Table 1: ranks of ten pairs of noise and accuracy.
    words = "tiny_imagenet, test: rank correlation of noise and accuracy of Inception-ResNet V2"
    noise = [0.166, 0.268, 6.018, 2.703, 1.071, 0.689, 3.621, 1.415, 1.262, 0.574]
    accuracy = [80.24, 80.31, 27.06, 45.47, 59.37, 66.77, 29.6, 45.68, 76.43, 78.41]
    ranks = [np.argsort(np.argsort(values)) for values in (noise, accuracy)]
    expected = 1 - 6 * ((ranks[0] - ranks[1]) ** 2).sum() / (10 * 99)
    assert float(claims[words].published) == pytest.approx(expected, abs=5e-4)


def test_ne_d_jumps_and_cos_d_vanishes(experiment):
    claims = experiment.claims(
        curve("vgg19", ne_d=[1, 2, 5], ne_d_sqrt=[1, 4, 2], cos_d=[0.1, 0.2, 0.01]),
        curve("senet154", ne_d=[3, 2, 2], cos_d=[0.1, 0.2, 0.05]),
        curve("resnetv2_50", ne_d=[1, 2, 3, 4], cos_d=[0.1, 0.2, 0.3, 0.4]),
    )
    jump = "{} of {} w/ FN, last layer / largest before"
    assert claims[HERE + jump.format("NE-D", "VGG-19")].estimate.value == pytest.approx(2.5)
    assert verdict(claims, jump.format("NE-D", "VGG-19")) == "holds"
    assert verdict(claims, jump.format("NE-D/sqrt(n)", "VGG-19")) == "does not"
    assert verdict(claims, jump.format("NE-D", "SENet-154")) == "does not"
    end = "COS-D of {} w/o DN, last layer / the layer before"
    assert verdict(claims, end.format("VGG-19")) == "holds"
    assert verdict(claims, end.format("SENet-154")) == "does not"
    resnet = claims[HERE + end.format("ResNet V2-50")]
    assert resnet.verdict == "holds" and "not decreased" in resnet.sentence
    assert resnet.estimate.value == pytest.approx(4 / 3)


@pytest.mark.parametrize(("left", "verdict_"), [(0.75, "holds"), (0.9, "does not")])
def test_ne_d_falls_behind_a_denoiser(experiment, left, verdict_):
    last = {"classifier": "resnetv2_50", "layer_index": 3}
    claims = experiment.claims(
        setting("distances", ne_d=2)(**last),
        setting("distances", ne_d=2 * left)(purifier="unet", **last),
    )
    for name in ("FGSM v2", "i-FGSM v2"):
        claim = claims[f"{HERE}fall in % of NE-D of ResNet V2-50, last layer, {name}, w/ UN"]
        assert claim.verdict == verdict_ and claim.published == "20 to 30"
        assert claim.estimate.value == pytest.approx(100 * (1 - left))


def test_cos_d_in_the_middle_layers(experiment):
    middle = {"classifier": "vgg19", "layer_index": 1}
    claims = experiment.claims(
        setting("distances", cos_d=0.4)(**middle),
        setting("distances", cos_d=0.1)(purifier="fusionnet", **middle),
    )
    claim = claims[f"{HERE}COS-D of VGG-19, middle layers, w/ FN / w/o DN"]
    assert claim.verdict == "holds" and claim.estimate.value == pytest.approx(0.25)


@pytest.mark.parametrize(("resnet", "verdict_"), [(1.0, "holds"), (0.4, "does not")])
def test_who_gains_most(experiment, resnet, verdict_):
    claims = experiment.claims(
        right(0.2),
        right(0.4, purifier="fusionnet"),
        right(0.7, purifier="fusionnet", classifier="senet154"),
        right(0.9, purifier="fusionnet", classifier="densenet201_conv"),  # is none of the five
        right(resnet, purifier="fusionnet", classifier="resnetv2_50"),
    )
    claim = claims[f"{HERE}gain in points of ResNet V2-50 - SENet-154, w/ FN"]
    assert claim.verdict == verdict_ and claim.estimate.n == 30
    assert claim.estimate.value == pytest.approx(100 * (resnet - 0.7))


def test_modified_networks_beside_the_one_that_they_were_made_of(experiment):
    claims = experiment.claims(
        curve("densenet201", ne_d=[1, 1, 4], cos_d=[0.1, 0.1, 0.02]),
        curve("densenet201_conv", ne_d=[1, 1, 3], cos_d=[0.1, 0.1, 0.1]),
        curve("densenet201_prelu", ne_d=[1, 1, 2], cos_d=[0.1, 0.1, 0.3]),
        right(0.5, classifier=["densenet201", "densenet201_conv"]),
        right(0.8, classifier="densenet201_prelu"),
    )
    words = "{} at the last layer w/ UN, {} / DenseNet-201"
    for measure, network, value, verdict_text in (
        ("NE-D", "FC->Conv", 0.75, "holds"),
        ("COS-D", "FC->Conv", 5, "does not"),
        ("NE-D", "PReLU after FC", 0.5, "holds"),
        ("COS-D", "PReLU after FC", 15, "holds"),
    ):
        claim = claims[HERE + words.format(measure, network)]
        assert claim.verdict == verdict_text and claim.estimate.value == pytest.approx(value)
    words = "accuracy of {} - DenseNet-201 in points, w/o DN"
    assert verdict(claims, words.format("FC->Conv")) == "holds"
    assert verdict(claims, words.format("PReLU after FC")) == "does not"
    assert claims[HERE + words.format("PReLU after FC")].estimate.value == pytest.approx(30)


def in_order(stage, frame) -> None:
    """The more noise a set has, the fewer of its images are right, denoised or not."""
    if stage != "predictions":
        return
    cases = [(t, p) for t in SETS.values() for p in ("none", "fusionnet", "unet")]
    for place, (threat, purifier) in enumerate(cases):
        names = {"threat": threat, "purifier": purifier}
        right(1 - place / 15, **names)(stage, frame)
        frame.loc[rows(frame, **names), ["mse_before", "mse_after"]] = place / 255**2


def test_accuracy_that_follows_noise_and_that_does_not(experiment):
    words = "rank correlation of noise and accuracy of VGG-19"
    actual = experiment.claims(in_order)[HERE + words]
    assert actual.estimate.value == pytest.approx(-1) and actual.verdict == "does not"
    out = {"threat": SETS["mi-FGSM"], "purifier": "unet"}
    actual = experiment.claims(in_order, right(1.0, **out))[HERE + words]
    assert actual.verdict == "holds" and actual.estimate.value > -0.9


def test_other_images_are_not_compared(experiment):
    def others(stage, frame) -> None:
        frame.loc[rows(frame, classifier="densenet201_prelu"), "id"] += 1000

    claims = experiment.claims(others)
    for words in ("COS-D at the last layer w/ FN, {}", "accuracy of {} in points, w/ FN"):
        pair = "PReLU after FC {} DenseNet-201".format("/" if "COS" in words else "-")
        claim = claims[HERE + words.format(pair)]
        assert claim.verdict == "not decidable: the images are not the same"


def test_what_was_not_computed_is_not_decidable(tmp_path, propagation):
    table = propagation["experiments"]["propagation"]["tables"]["claims"]
    crossing = {
        "dataset": "tiny_imagenet",
        "classifier": "vgg19",
        "suite": "clean",
        "split": "train",
    }
    table["distances"] = table["predictions"] = crossing
    claims = FakeClaims(tmp_path, propagation).claims()
    assert all(claim.verdict.startswith("not decidable: ") for claim in claims.values())
    # One of each sentence: that of the network with ReLU has what it needs only with DenseNet-201.
    sentences = [claim.sentence for claim in claims.values()]
    assert len(sentences) == len(set(sentences)) == 23


FIVE = ["resnetv2_50", "vgg19", "senet154", "inception_resnet_v2", "densenet201"]


def test_a_jump_below_two_is_no_explosion(experiment):
    quantity = "NE-D of {} w/o DN, last layer / largest before"
    claims = experiment.claims(curve("vgg19", ne_d=[1, 2, 3]), curve("senet154", ne_d=[1, 2, 5]))
    assert verdict(claims, quantity.format("VGG-19")) == "does not"
    assert verdict(claims, quantity.format("SENet-154")) == "holds"


@pytest.mark.parametrize(("strong", "verdict_text"), [(2, "holds"), (0.5, "does not")])
def test_the_larger_sets_show_the_bigger_gap(experiment, strong, verdict_text):
    last = {"classifier": "vgg19", "layer_index": 2}
    changes = [setting("distances", ne_d=1)(**last)]
    for name in ("FGSM v2", "i-FGSM v2"):
        changes.append(setting("distances", ne_d=strong)(threat=SETS[name], **last))
    quantity = "NE-D of VGG-19 w/o DN at the last layer, v2 sets / others"
    claim = experiment.claims(*changes)[HERE + quantity]
    assert claim.verdict == verdict_text and claim.estimate.value == pytest.approx(strong)


@pytest.mark.parametrize(
    ("values", "fall", "rise"), [([1, 2, 3], 1.5, 1), ([2, 1, 3], 0.5, 3), ([2, 3, 1], 1 / 3, 1)]
)
def test_falls_and_rises_of_curves(values, fall, rise):
    result = layer_claims._fall_and_rise(np.array(values, dtype=float)[:, None])
    assert [value.item() for value in result] == pytest.approx([fall, rise])


@pytest.mark.parametrize(("end", "verdict_text"), [(1, "does not"), (3, "holds")])
def test_cos_d_of_convolutional_layers(experiment, end, verdict_text):
    """Four layers of ResNet V2-50: COS-D rises to the third or falls before it."""
    claims = experiment.claims(
        curve("resnetv2_50", ne_d=[4, 3, 2, 9], cos_d=[0.1, 0.2, 0.1 * end, 0.1])
    )
    quantity = "deepest fall of COS-D of ResNet V2-50 w/o DN before the last layer"
    assert verdict(claims, quantity) == verdict_text
    assert verdict(claims, "NE-D of ResNet V2-50 w/o DN, layer before the last / first") == "holds"
    claim = claims[HERE + "COS-D of ResNet V2-50 w/o DN, layer before the last / first"]
    assert claim.estimate.value == pytest.approx(end)


def test_vgg_jumps_most_and_resnet_stays_lowest(experiment):
    same = [curve(name, ne_d=[1, 1, 10]) for name in FIVE[2:]]
    vgg, resnet = curve("vgg19", ne_d=[1, 1, 30]), curve("resnetv2_50", ne_d=[1, 1, 1, 5])
    claims = experiment.claims(*same, vgg, resnet)
    (jump,) = (c for q, c in claims.items() if "jump of NE-D w/o DN, VGG-19 / " in q)
    (low,) = (c for q, c in claims.items() if "NE-D at the last layer w/o DN, ResNet" in q)
    assert (jump.estimate.value, low.estimate.value) == pytest.approx((3, 0.5))
    assert jump.verdict == low.verdict == "holds"


def test_what_denoisers_leave_at_the_end(experiment):
    def left(name, index, **values):
        last = {"classifier": name, "layer_index": index}
        whole = dict.fromkeys(values, 1.0)
        return [
            setting("distances", **whole)(purifier="none", **last),
            setting("distances", **values)(purifier="unet", **last),
        ]

    claims = experiment.claims(
        *left("resnetv2_50", 3, cos_d=0.5), *left("senet154", 2, ne_d=0.95),
        *left("densenet201", 2, ne_d=0.5),
    )  # fmt: skip
    words = "fall in % of {} of {}, last layer, w/ UN"
    assert verdict(claims, words.format("COS-D", "ResNet V2-50")) == "holds"
    assert verdict(claims, words.format("NE-D", "SENet-154")) == "holds"
    assert verdict(claims, words.format("NE-D", "DenseNet-201")) == "does not"


@pytest.mark.parametrize(("share", "verdict_text"), [(0.2, "holds"), (0.9, "does not")])
def test_a_relu_head_that_does_not_train(experiment, share, verdict_text):
    claims = experiment.claims(
        right(0.9, threat="clean", classifier="densenet201", purifier="none"),
        right(share, threat="clean", classifier="densenet201_relu"),
    )
    claim = claims[HERE + "clean accuracy of ReLU after FC - DenseNet-201 in points"]
    assert claim.verdict == verdict_text
    assert claim.estimate.value == pytest.approx(100 * (share - 0.9))


# ---------------------------------------------------------------- numbers that are not finite


def frame(value):
    rows = [(0, i, setting, float(i + 1)) for i in range(4) for setting in ("a", "b")]
    table = pd.DataFrame(rows, columns=["seed", "id", "setting", "value"])
    table.loc[2, "value"] = value
    return table


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_images_with_nan_are_not_left_out_of_a_mean(value):
    result = results.means(frame(value), ["setting"], "value")
    assert len(result.ids) == 4 and np.isnan(result.values["a"]).all()
    assert result.values["b"][0] == 2.5
    missing = results.means(frame(1.0).drop(index=2), ["setting"], "value")
    assert len(missing.ids) == 3 and missing.values["b"][0] == pytest.approx(8 / 3)


def test_correlations_with_nan_are_undefined():
    first = {name: np.array([x, x]) for name, x in zip("abc", (1.0, 2.0, 3.0), strict=True)}
    second = first | {"b": np.array([np.nan, 2.0])}
    means = [results.Means(values, ()) for values in (first, second)]
    result = claims_of._correlation(claims_of.Predicted(*means))
    assert np.isnan(result[0]) and result[1] == pytest.approx(1)
