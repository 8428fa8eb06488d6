"""Detection: rows set aside and scored, equal to fitting each detector by hand."""

import itertools

import numpy as np
import pytest

from advdenoise.calls import call_with
from advdenoise.detectors._protocols import split
from advdenoise.errors import BadInput
from advdenoise.graph.sources import load
from advdenoise.io.parquet import read_table, write_table
from advdenoise.io.provenance import read_provenance
from advdenoise.io.schemas import DETECTION
from advdenoise.stages import detect

FILE = "seed0/digits/detection/plain/shelf/blocks/small/test.parquet"
IQR = "seed0/digits/iqr/{}/blocks/small/test.parquet"
KEYS = ["threat", "attack_point", "attribution_point", "representation", "detector_point"]


def rows(path):
    return read_table(path, DETECTION).to_pandas()


def test_every_combination_is_judged(world):
    results = rows(world.make(FILE))
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
    groups = results.groupby([*KEYS, "protocol", "split_seed"])
    assert set(groups.groups) == expected
    assert (results["fitted_threat"] == results["threat"]).all()
    assert (results["fitted_point"] == results["attack_point"]).all()
    assert np.isfinite(results["score"]).all() and (results["fit_seconds"] > 0).all()
    for (*_, protocol, _), part in groups:
        assert set(part["is_adversarial"]) == {True, False}
        if protocol == "paper":  # a fifth of 20 clean and 20 adversarial rows
            assert len(part) == 8
        else:  # an image and its twin lie on the same side
            assert sorted(part["id"][part["is_adversarial"]]) == sorted(
                part["id"][~part["is_adversarial"]]
            )


def test_the_file_tells_how_long_the_vectors_are(world):
    lengths = read_provenance(world.make(FILE))["settings"]["lengths"]
    clean = read_table(world.make(IQR.format("clean"))).to_pandas()
    assert lengths == {name: len(clean[name][0]) for name in lengths}
    assert lengths["predicted"] == 1 < lengths["probabilities"] == 10 < lengths["hidden"]


@pytest.mark.parametrize("protocol", ["paper", "grouped"])
@pytest.mark.parametrize("representation", ["predicted", "hidden"])
def test_scores_by_hand(world, protocol, representation):
    clean = read_table(world.make(IQR.format("clean"))).to_pandas()
    experiment = read_table(world.make(IQR.format("cycled@small"))).to_pandas()
    clean = clean[clean["attribution_point"] == "n12"]
    experiment = experiment[
        (experiment["attribution_point"] == "n12") & (experiment["attack_point"] == "pgd")
    ]
    features = np.stack([*clean[representation], *experiment[representation]]).astype(np.float32)
    is_adversarial = np.repeat([False, True], [len(clean), len(experiment)])
    ids, labels, predictions = (
        np.concatenate([clean[name], experiment[name]]) for name in ("id", "label", "prediction")
    )
    results = rows(world.make(FILE))
    points = world.settings(FILE)["detector"]["points"]
    for name, number in itertools.product(("forest", "svc"), (0, 1)):
        sides = split(protocol, ids, is_adversarial, labels, predictions, seed=number)
        detector = call_with(load("detectors", points[name]), seed=number, threads=1)
        detector.fit(features[sides.train], is_adversarial[sides.train])
        part = results[
            (results["threat"] == "cycled@small")
            & (results["attack_point"] == "pgd")
            & (results["attribution_point"] == "n12")
            & (results["representation"] == representation)
            & (results["detector_point"] == name)
            & (results["protocol"] == protocol)
            & (results["split_seed"] == number)
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
    results = rows(world.run(FILE, tmp_path / "x.parquet", {"has_hidden": False}))
    assert set(results["representation"]) == {"predicted", "probabilities"}


def test_what_cannot_be_measured_is_said_and_left_out(world, tmp_path, capfd):
    """No attack succeeded: there is nothing adversarial on either side."""
    features = [world.make(IQR.format(threat)) for threat in ("clean", "fgsm@small")]
    experiment = features[1]
    table = read_table(experiment)
    place = table.column_names.index("prediction")
    harmless = table.set_column(place, table.schema.field("prediction"), table["label"])
    features[1] = tmp_path / "harmless.parquet"
    write_table(features[1], harmless, read_provenance(experiment))
    changes = {"threats": ["fgsm@small"]}
    results = rows(world.run(FILE, tmp_path / "x.parquet", changes, features=features))
    assert set(results["protocol"]) == {"paper"}
    assert "grouped: the train side has no adversarial row" in capfd.readouterr().out


def test_features_in_another_order_are_those_of_their_threats(world, tmp_path):
    features = world.options(FILE, tmp_path / "x.parquet")[1]["features"]
    assert len(features) > 2
    expected = rows(world.make(FILE)).drop(columns="fit_seconds")
    result = rows(world.run(FILE, tmp_path / "x.parquet", features=features[::-1]))
    assert result.drop(columns="fit_seconds").equals(expected)


def test_features_of_another_threat_are_told(world, tmp_path):
    features = world.options(FILE, tmp_path / "x.parquet")[1]["features"]
    with pytest.raises(BadInput, match="hold fgsm@small, cycled@small, where clean, fgsm@small"):
        world.run(FILE, tmp_path / "x.parquet", features=features[1:])


class Features:
    """What the stage reads, from the same files by pandas: rows of an attack, clean ones first."""

    def __init__(self, world, attribution_point="n12"):
        tables = {
            threat: read_table(world.make(IQR.format(threat))).to_pandas()
            for threat in ("clean", "fgsm@small", "cycled@small")
        }
        self.tables = {
            threat: table[table["attribution_point"] == attribution_point]
            for threat, table in tables.items()
        }

    def rows(self, threat, point):
        """ids, is_adversarial, labels, predictions."""
        clean, experiment = self.tables["clean"], self.tables[threat]
        experiment = experiment[experiment["attack_point"] == point]
        columns = (np.concatenate([clean[n], experiment[n]]) for n in ("id", "label", "prediction"))
        ids, labels, predictions = columns
        return ids, np.repeat([False, True], [len(clean), len(experiment)]), labels, predictions


ATTACKS = [("fgsm@small", "default"), ("cycled@small", "fgsm"), ("cycled@small", "pgd")]


@pytest.fixture(scope="module")
def transferred(world, tmp_path_factory):
    changes = {"detection": world.settings(FILE)["detection"] | {"transfer": True}}
    return rows(world.run(FILE, tmp_path_factory.mktemp("transfer") / "x.parquet", changes))


def test_what_an_attack_has_of_its_own_stays(world, transferred):
    plain = rows(world.make(FILE))
    own = transferred[
        (transferred["fitted_threat"] == transferred["threat"])
        & (transferred["fitted_point"] == transferred["attack_point"])
    ].reset_index(drop=True)
    assert len(own) < len(transferred)
    same = plain.drop(columns=["score", "fit_seconds"])
    assert own.drop(columns=["score", "fit_seconds"]).equals(same)
    np.testing.assert_allclose(own["score"], plain["score"], atol=1e-5)


@pytest.mark.parametrize("protocol", ["paper", "grouped"])
def test_a_detector_judges_other_attacks_by_what_it_has_not_seen(world, transferred, protocol):
    features = Features(world)
    results = transferred[
        (transferred["protocol"] == protocol)
        & (transferred["attribution_point"] == "n12")
        & (transferred["representation"] == "predicted")
        & (transferred["detector_point"] == "svc")
    ]
    left_out = 0
    for fitted, tested, number in itertools.product(ATTACKS, ATTACKS, (0, 1)):
        sides = {a: split(protocol, *features.rows(*a), seed=number) for a in (fitted, tested)}
        ids, is_adversarial, *_ = features.rows(*tested)
        trained = features.rows(*fitted)[0][sides[fitted].train]
        test = sides[tested].test
        if protocol == "grouped":
            test = test[~np.isin(ids[test], trained)]
            left_out += len(sides[tested].test) - len(test)
        else:  # of the detector's training rows only the clean ones are this attack's, too
            clean = trained[~features.rows(*fitted)[1][sides[fitted].train]]
            test = test[is_adversarial[test] | ~np.isin(ids[test], clean)]
        part = results[
            (results["fitted_threat"] == fitted[0])
            & (results["fitted_point"] == fitted[1])
            & (results["threat"] == tested[0])
            & (results["attack_point"] == tested[1])
            & (results["split_seed"] == number)
        ]
        if len(set(is_adversarial[test])) < 2:
            assert part.empty
            continue
        assert np.array_equal(part["id"], ids[test])
        assert np.array_equal(part["is_adversarial"], is_adversarial[test])
    assert (left_out > 0) == (protocol == "grouped")


class Recorder:
    """A detector that remembers what it is given, and tells rows apart by their first value."""

    def __init__(self):
        self.fitted, self.groups, self.scored = None, None, None

    def fit(self, features, is_adversarial, groups=None):
        self.fitted, self.groups, self.truth = features, groups, is_adversarial

    def score(self, features):
        self.scored = features
        return features[:, 0]


@pytest.mark.parametrize("protocol", ["paper", "grouped"])
def test_a_detector_is_fitted_on_the_training_side_alone(world, component, tmp_path, protocol):
    """So is all that it fits before: scalers, and C and gamma of a search."""
    experiment = []

    def recorder(seed):
        experiment.append(Recorder())
        return experiment[-1]

    component("detectors", recorder=recorder)
    settings = world.settings(FILE)
    changes = {
        "detector": {"name": "x", "points": {"default": {"function": "toy.recorder"}}},
        "attribution": {**settings["attribution"], "points": {"n12": {}}},
        "detection": {
            "representations": ["hidden"],
            "protocols": [protocol],
            "split_seeds": 1,
            "transfer": True,
        },
    }
    world.run(FILE, tmp_path / "x.parquet", changes)
    assert len(experiment) == len(ATTACKS)
    features = Features(world)
    for attack, machine in zip(ATTACKS, experiment, strict=True):
        ids, is_adversarial, *_ = features.rows(*attack)
        clean, others = features.tables["clean"], features.tables[attack[0]]
        others = others[others["attack_point"] == attack[1]]
        vectors = np.stack([*clean["hidden"], *others["hidden"]])
        side = split(protocol, *features.rows(*attack), seed=0)
        assert np.array_equal(machine.fitted, vectors[side.train])
        assert np.array_equal(machine.truth, is_adversarial[side.train])
        # Rows that a further division must keep together.
        _, group = np.unique(machine.groups, return_inverse=True)
        _, image = np.unique(ids[side.train], return_inverse=True)
        if protocol == "grouped":
            assert np.array_equal(group, image)
        else:
            assert len(set(group)) == len(group)
        scored = {row.tobytes() for row in machine.scored}
        assert len(scored) == len(machine.scored)
        assert {row.tobytes() for row in vectors[side.test]} <= scored
        assert not scored & {row.tobytes() for row in machine.fitted}


def test_no_more_than_one_point_and_representation_is_read_at_once(world, monkeypatch, tmp_path):
    """Of the hidden values of all points only one point's are held."""
    inputs = []
    read = detect.read_table

    def spy(*arguments, **named):
        results = read(*arguments, **named)
        inputs.append(results)
        return results

    monkeypatch.setattr(detect, "read_table", spy)
    world.run(
        FILE, tmp_path / "x.parquet", {"threats": []}, features=[world.make(IQR.format("clean"))]
    )
    assert inputs
    for table in inputs:
        assert len(set(table["attribution_point"].to_pylist())) == 1
        vectors = {"predicted", "probabilities", "hidden"} & set(table.column_names)
        assert len(vectors) <= 1
