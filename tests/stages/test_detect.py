"""Detection: rows set aside and scored, equal to fitting each detector by hand."""

import itertools

import numpy as np
import pytest

from scripts.advdenoise import store
from scripts.advdenoise.components import load, provide
from scripts.advdenoise.detectors._protocols import split
from scripts.advdenoise.schemas import DETECTION

FILE = "seed0/digits/detection/plain/shelf/blocks/small/test.parquet"
IQR = "seed0/digits/iqr/{}/blocks/small/test.parquet"
KEYS = ["threat", "attack_point", "attribution_point", "representation", "detector_point"]


def rows(path):
    return store.read_table(path, DETECTION).to_pandas()


def test_every_combination_is_judged(world):
    found = rows(world.make(FILE))
    points = [("fgsm@small", "default"), ("cycled@small", "fgsm"), ("cycled@small", "pgd")]
    expected = {
        (*attack, *others)
        for attack, *others in itertools.product(
            points,
            ("n6", "n12"),
            ("predicted", "probabilities", "hidden"),
            ("forest", "svc"),
            ("paper", "grouped"),
            (0, 1),
        )
    }
    groups = found.groupby([*KEYS, "protocol", "split_seed"])
    assert set(groups.groups) == expected
    assert np.isfinite(found["score"]).all() and (found["fit_seconds"] > 0).all()
    for (*_, protocol, _), part in groups:
        assert set(part["is_adversarial"]) == {True, False}
        if protocol == "paper":  # a fifth of 20 clean and 20 adversarial rows
            assert len(part) == 8
        else:  # an image and its twin lie on the same side
            assert sorted(part["id"][part["is_adversarial"]]) == sorted(
                part["id"][~part["is_adversarial"]]
            )


@pytest.mark.parametrize("protocol", ["paper", "grouped"])
@pytest.mark.parametrize("representation", ["predicted", "hidden"])
def test_scores_by_hand(world, protocol, representation):
    clean = store.read_table(world.make(IQR.format("clean"))).to_pandas()
    made = store.read_table(world.make(IQR.format("cycled@small"))).to_pandas()
    clean = clean[clean["attribution_point"] == "n12"]
    made = made[(made["attribution_point"] == "n12") & (made["attack_point"] == "pgd")]
    features = np.stack([*clean[representation], *made[representation]]).astype(np.float32)
    is_adversarial = np.repeat([False, True], [len(clean), len(made)])
    ids, labels, predictions = (
        np.concatenate([clean[name], made[name]]) for name in ("id", "label", "prediction")
    )
    found = rows(world.make(FILE))
    points = world.settings(FILE)["detector"]["points"]
    for name, number in itertools.product(("forest", "svc"), (0, 1)):
        sides = split(protocol, ids, is_adversarial, labels, predictions, seed=number)
        detector = provide(load("detectors", points[name]), seed=number, threads=1)
        detector.fit(features[sides.train], is_adversarial[sides.train])
        part = found[
            (found["threat"] == "cycled@small")
            & (found["attack_point"] == "pgd")
            & (found["attribution_point"] == "n12")
            & (found["representation"] == representation)
            & (found["detector_point"] == name)
            & (found["protocol"] == protocol)
            & (found["split_seed"] == number)
        ]
        assert np.array_equal(part["id"], ids[sides.test])
        assert np.array_equal(part["is_adversarial"], is_adversarial[sides.test])
        assert np.allclose(part["score"], detector.score(features[sides.test]), atol=1e-6)


def test_a_seed_has_splits_of_its_own(world, tmp_path):
    first = rows(world.make(FILE))
    other = rows(world.run(FILE, tmp_path / "x.parquet", {"seed": 1}))
    paper = first[first["protocol"] == "paper"], other[other["protocol"] == "paper"]
    assert not np.array_equal(paper[0]["id"], paper[1]["id"])


def test_a_classifier_without_taps_has_no_hidden_representation(world, tmp_path):
    found = rows(world.run(FILE, tmp_path / "x.parquet", {"has_hidden": False}))
    assert set(found["representation"]) == {"predicted", "probabilities"}


def test_what_cannot_be_measured_is_said_and_left_out(world, tmp_path, capfd):
    """No attack succeeded: there is nothing adversarial on either side."""
    features = [world.make(IQR.format(threat)) for threat in ("clean", "fgsm@small")]
    table = store.read_table(features[1])
    place = table.column_names.index("prediction")
    harmless = table.set_column(place, table.schema.field("prediction"), table["label"])
    features[1] = tmp_path / "harmless.parquet"
    store.write_table(features[1], harmless, {"settings": {}})
    changes = {"threats": ["fgsm@small"]}
    found = rows(world.run(FILE, tmp_path / "x.parquet", changes, features=features))
    assert set(found["protocol"]) == {"paper"}
    assert "grouped: the train side has no adversarial row" in capfd.readouterr().out
