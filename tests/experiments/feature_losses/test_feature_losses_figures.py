"""Figures of "feature losses": targeted attacks behind purifiers, and noise in features."""

import numpy as np
import pytest

from advdenoise.errors import BadInput
from advdenoise.io.hdf5 import open_hdf5
from advdenoise.reporting import sheet
from advdenoise.reporting.examples import Examples, read_examples
from experiments.feature_losses import figures
from tests.drawing import check_same_bytes, crossed, drawn, texts
from tests.fake_results import Results

TARGETED = "experiments/feature_losses/figures.py:targeted"
FEATURE_NOISE = "experiments/feature_losses/figures.py:feature_noise"
SHOWN = {"dataset": "digits", "classifier": "cnn4", "split": "test"}
VERSIONS = ("clean", "seen")


def changed(quick, **experiment) -> dict:
    """The quick scale with a targeted attack, maps and other figures of feature_losses."""
    quick["attacks"]["to_three"] = {
        "function": "gradient.bim",
        "settings": {"epsilon": 0.2, "alpha": 0.1, "steps": 10},
        "labels": {"target": 3},
    }
    quick["examples"] = {"images": 8, "maps": {"cnn4": ["layers.0", "layers.3"]}}
    quick["experiments"]["feature_losses"]["figures"] = experiment
    return quick


def test_a_targeted_attack_is_shown_class_by_class_behind_every_purifier(tmp_path, quick):
    crossing = {**SHOWN, "threat": "to_three", "purifier": ["none", "direct_fgsm", "direct_pgd"]}
    entry = {
        "function": TARGETED,
        "examples": crossing,
        "settings": {"images": 5},
    }
    quick["seeds"] = [0, 1]
    all_classes = {**entry, "settings": {}}
    quick = changed(quick, figure1=entry, all_classes=all_classes)
    quick["examples"]["images"] = 14
    results = Results(tmp_path / "files", quick)
    result = drawn(results, "feature_losses", tmp_path)
    figure, words = result["figure1"], texts(result["figure1"])
    assert crossed(result["all_classes"]).count("class3 99.5 %") == 9  # all but its own
    for name in ("clean", "to_three", "direct_fgsm", "direct_pgd"):
        assert words.count(name) == 1  # one replicate, the clean rows once
    bare = [word.removeprefix(f"{sheet.CROSS} ") for word in words]
    assert bare.count("class3 99.5 %") == 5
    assert bare.count("class3 75.0 %") == 2 * 3 and bare.count("class4 75.0 %") == 2
    assert {"BIM to class3", "digits; cnn4"} <= set(words) and words.count("denoised") == 2
    # The image that is of the target's class is right.
    assert sorted(crossed(figure)) == sorted(["class3 99.5 %"] * 4 + ["class3 75.0 %"] * 4)


def test_where_another_class_is_predicted_the_target_is_named():
    shares = np.array([[0.7, 0.1, 0.2], [0.0, 0.1, 0.9]])
    recorded = Examples(
        images=np.zeros((2, 4, 4, 1)),
        labels=np.array([0, 1]),
        classes=["a", "b", "c"],
        target=2,
        inputs=np.zeros((2, 4, 4, 1)),
        purified=np.zeros((2, 4, 4, 1)),
        input_probabilities=shares,
        prediction=np.array([0, 1]),
        confidence=np.ones(2),
        maps={},
        attack=None,
        about={},
    )
    assert [(t.title, t.wrong) for t in figures._as_seen(recorded)] == [
        ("a (c: 20.0 %)", False),
        ("c 90.0 %", True),
    ]
    untargeted = figures._as_seen(recorded._replace(target=None))
    assert [tile.title for tile in untargeted] == ["a 70.0 %", "c 90.0 %"]


def test_feature_noise_stands_channel_by_channel(tmp_path, quick):
    crossing = {**SHOWN, "threat": ["to_three"], "purifier": ["none", "direct_pgd"]}
    entry = {
        "function": FEATURE_NOISE,
        "examples": crossing,
    }
    results = Results(tmp_path / "files", changed(quick, figure3=entry))
    figure = drawn(results, "feature_losses", tmp_path)["figure3"]
    words = texts(figure)
    assert words.count("clean") == words.count("adversarial") == words.count("difference x 4") == 2
    assert words.count("purified") == 1 and words.count("class0") == 2
    for module in ("layers.0", "layers.3"):
        assert all(words.count(f"{module}, channel {channel}") == 2 for channel in (5, 2, 0, 7))
    (file, _) = results.inputs("figures", "feature_losses", "figure3")["examples"]
    with open_hdf5(file) as stored:
        maps = {name: stored[f"default/default/maps/layers.3/{name}"][0, 1] for name in VERSIONS}
    extent = np.ptp([maps["clean"], maps["seen"]])
    change = 100 * np.abs(maps["seen"] - maps["clean"]).mean() / extent
    assert f"{change:.1f} %" in words
    (recorded, *_) = read_examples([file])
    rows = figures._noise(recorded, 0)
    assert [row.name for row in rows] == ["clean", "adversarial", "difference x 4"]
    clean, attacked, difference = (row.tiles[6].picture for row in rows)
    assert min(clean.min(), attacked.min()) == 0 and max(clean.max(), attacked.max()) == 1
    assert np.allclose(difference, 4 * abs(attacked - clean))
    assert np.allclose(clean * extent + min(map(np.min, maps.values())), maps["clean"], atol=1e-6)


def test_maps_that_are_not_stored_are_told(tmp_path, quick):
    crossing = {**SHOWN, "threat": "clean", "purifier": "none"}
    entry = {
        "function": FEATURE_NOISE,
        "examples": crossing,
    }
    results = Results(tmp_path / "files", changed(quick, figure3=entry))
    with pytest.raises(BadInput, match=r"examples\.maps: these images have no maps"):
        drawn(results, "feature_losses", tmp_path)


def test_figures_of_feature_losses(tmp_path, feature_losses):
    result = drawn(Results(tmp_path / "files", feature_losses), "feature_losses", tmp_path)
    words = {name: texts(figure) for name, figure in result.items()}
    assert {"to_zero", "features_pgd", "class0 99.5 %", "class9"} <= set(words["figure1"])
    assert words["figure1"].count(f"{sheet.CROSS} class0 99.5 %") == 9  # all but its own
    assert crossed(result["figure2"]).count("truck 99.5 %") == 9 and "to_truck" in words["figure2"]
    assert {"layers.0, channel 5", "layers.3, channel 7", "purified", "difference x 4"} <= set(
        words["figure3"]
    )


def test_the_same_inputs_give_the_same_bytes(tmp_path, feature_losses):
    results = Results(tmp_path / "whole", feature_losses)
    check_same_bytes(results, "feature_losses", tmp_path)
