"""Choices in the configuration and in the graph."""

import copy

import pytest
import yaml

from advdenoise.errors import BadInput
from advdenoise.graph import choices, configuration
from advdenoise.graph.flow import Flow
from advdenoise.graph.yaml_files import read_files
from tests import mini

MORE = """
attacks:
  walked:
    function: stopped.i_fgsm
    settings: {steps: {choose: [1, 4], by: {mse: 2}}, alpha: 1/255}
    epsilon_unit: {name: grey, pixels: 0.5}
  several:
    points:
      one: {function: gradient.fgsm, settings: {epsilon: 0.1}}
      two: {function: gradient.fgsm, settings: {epsilon: 0.2}}
purifiers:
  rated:
    denoiser: dae
    points:
      a:
        function: tests.own_purifiers:descent
        settings: {rate: {choose: [0.1, 0.2], by: {attack: several two}}}
      b: {function: tests.own_purifiers:descent, settings: {steps: 3, rate: {chosen: rated a}}}
      c: {function: tests.own_purifiers:descent}
  same:
    function: tests.own_purifiers:descent
    settings: {rate: {chosen: rated a}}
    denoiser: dae
suites:
  tried: {threats: [clean, walked, fgsm+], purifiers: [none, same]}
"""


@pytest.fixture
def raw():
    config = read_files(mini.CONFIG)
    for kind, entries in yaml.safe_load(MORE).items():
        config[kind] |= entries
    del config["attacks"]["walked"]["epsilon_unit"]
    return config


def job(config, rule, **names):
    return Flow(config).job(rule, {"seed": "0", "dataset": "digits"} | names)


def chosen(entry):
    return f"results/mini/seed0/digits/chosen/{entry}/cnn.json"


def test_who_uses_an_entry_reads_its_choice_and_is_handed_the_candidates(raw):
    config = configuration.read(raw)
    names = {"suite": "tried", "purifier": "same", "classifier": "cnn", "split": "test"}
    jobs = {
        "evaluate": job(config, "evaluate", **names),
        "known": job(config, "attack", threat="fgsm@cnn+same", split="test"),
        "attack": job(config, "attack", threat="walked@cnn", split="test"),
        "other": job(config, "attack", threat="fgsm@cnn", split="test"),
        "export": job(config, "export", threat="walked@cnn", split="test"),
    }
    read = {name: jobs[name].inputs.get("chosen") for name in jobs}
    assert read["evaluate"] == [chosen("walked"), chosen("rated")]
    assert read["known"] == [chosen("rated")]
    assert read["attack"] == read["export"] == [chosen("walked")]
    assert read["other"] is None
    (point,) = jobs["known"].settings["purifier"]["points"].values()
    assert point["settings"]["rate"]["choose"] == [0.1, 0.2]


def test_a_choice_looks_at_no_test_image(raw):
    config = configuration.read(raw)
    for entry, split in (("walked", "train"), ("rated", "held_out")):
        flow_job = job(config, "choose", entry=entry, classifier="cnn")
        assert flow_job.inputs["images"] == f"results/mini/images/digits/{split}.h5"
        assert not any("test" in str(path) for path in flow_job.inputs.values())
        assert "chosen" not in flow_job.inputs


def test_a_choice_hangs_on_the_points_that_choose_alone(raw):
    before = job(configuration.read(copy.deepcopy(raw)), "choose", entry="rated", classifier="cnn")
    raw["purifiers"]["rated"]["points"]["c"]["settings"] = {"steps": 99}
    raw["attacks"]["several"]["points"]["two"]["settings"]["epsilon"] = 0.3
    after = job(configuration.read(raw), "choose", entry="rated", classifier="cnn")
    assert list(after.settings["purifier"]["points"]) == ["a"]
    assert after.settings.pop("attack") != before.settings.pop("attack")
    assert after.settings == before.settings


def test_what_is_chosen_by_a_published_value_is_handed_the_number(raw):
    raw["attacks"]["walked"]["settings"]["steps"]["by"] = {"mse": PRIMARY}
    flow_job = job(configuration.read(raw), "choose", entry="walked", classifier="cnn")
    assert [choice["wanted"] for choice in flow_job.settings["choices"]] == [13.439]


def test_candidates_follow_the_unit_and_their_function(raw):
    raw["attacks"]["walked"] = {
        "function": "gradient.bim",
        "settings": {"epsilon": {"choose": [0.1, 0.4], "by": {"mse": 3}}, "alpha": 1, "steps": 2},
        "epsilon_unit": {"name": "half", "pixels": 0.5},
    }
    (point,) = configuration.read(raw)["attacks"]["walked"]["points"].values()
    assert point["settings"]["epsilon"]["choose"] == [0.05, 0.2]
    assert point["settings"]["alpha"] == 0.5


STEPS = "attacks.walked.settings.steps"
RATE = "purifiers.rated.points.a.settings.rate"
PRIMARY = {"published": "tests/published.csv", "row": "other", "column": "Primary"}
BROKEN = {
    "one candidate": (STEPS, {"choose": [1], "by": {"mse": 1}}, ["steps.choose"]),
    "no reason": (STEPS, {"choose": [1, 2]}, ["steps", "'by'"]),
    "two reasons": (STEPS, {"choose": [1, 2], "by": {"mse": 1, "attack": "fgsm"}}, ["steps.by"]),
    "a candidate that is a text": (STEPS, {"choose": [1, "x"], "by": {"mse": 1}}, ["steps", "'x'"]),
    "an attack by accuracy": (STEPS, {"choose": [1, 2], "by": {"attack": "fgsm"}}, ["'mse'"]),
    "a purifier by noise": (RATE, {"choose": [1, 2], "by": {"mse": 1}}, ["'attack'"]),
    "an unknown attack": (RATE, {"choose": [1, 2], "by": {"attack": "fgms"}}, ["'fgms'", "fgsm"]),
    "an unknown point": (
        RATE,
        {"choose": [1, 2], "by": {"attack": "several six"}},
        [f"{RATE}.by.attack", "'several six'", "several one"],
    ),
    "an unknown table": (
        STEPS,
        {"choose": [1, 2], "by": {"mse": PRIMARY | {"published": "tests/none.csv"}}},
        [f"{STEPS}.by.mse.published", "tests/none.csv"],
    ),
    "an unknown column": (
        STEPS,
        {"choose": [1, 2], "by": {"mse": PRIMARY | {"column": "Primry"}}},
        [f"{STEPS}.by.mse", "'other, Primary'"],
    ),
    "a choice that is none": (
        "purifiers.same.settings.rate",
        {"chosen": "rated c"},
        ["purifiers.same.settings.rate.chosen", "'rated c'", "rated a"],
    ),
    "a choice of a training": (
        "denoisers.dae.training.settings",
        {"x": {"choose": [1, 2], "by": {"mse": 1}}},
        ["denoisers.dae.training.settings.x", "only attacks and purifiers"],
    ),
    "two choices of a point": (
        "attacks.walked.settings.alpha",
        {"choose": [0.1, 0.2], "by": {"mse": 1}},
        ["a point chooses one setting"],
    ),
    "several victims": (
        "suites.tried.threats",
        ["walked", "walked@cnn"],
        ["suites.tried.threats", "'walked'", "an entry of its own"],
    ),
    "an attack of a purifier's name": (
        "attacks.rated",
        {"function": "gradient.fgsm", "settings": {"epsilon": 0.1}},
        ["purifiers.rated", "rename"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_a_choice_that_no_job_can_make_is_refused_in_one_sentence(raw, case):
    key, value, words = BROKEN[case]
    *way, last = key.split(".")
    place = raw
    for part in way:
        place = place.setdefault(part, {})
    place[last] = value
    with pytest.raises(BadInput) as error:
        configuration.read(raw)
    sentence = str(error.value)
    assert all(word in sentence for word in words), sentence
    assert "\n" not in sentence


def test_planning_sees_the_largest_candidate():
    settings = {"points": [{"steps": {"choose": [2, 9, 4]}, "form": {"choose": ["x", "y"]}}]}
    assert choices.at_most(settings) == {"points": [{"steps": 9, "form": "x"}]}
