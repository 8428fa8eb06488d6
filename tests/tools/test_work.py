"""The work of jobs, counted by hand."""

import copy
import inspect
from collections import Counter
from types import SimpleNamespace

import pytest
import yaml

from advdenoise.attacks._kurakin import kurakin_steps
from advdenoise.graph import configuration
from advdenoise.graph.flow import Flow
from advdenoise.graph.stages import stages
from advdenoise.graph.yaml_files import read_files
from tests import mini
from tools.plan.extents import Extents
from tools.plan.listing import PlannedJob
from tools.plan.work import Counting, NotMeasured, repeats

# Facts of the mini configuration's things, as unit costs would tell them.
SEGMENTS, PARAMETERS = 9.4, 1000
MORE = """
attacks:
  varied:
    points:
      fgsm: {function: gradient.fgsm, settings: {epsilon: 0.1}}
      noise: {function: noise.uniform, settings: {epsilon: 0.1}}
      kurakin: {function: gradient.bim, settings: {epsilon: 0.032, alpha: 0.001, steps: kurakin}}
  blur: {function: noise.uniform, settings: {epsilon: 0.1}}
  guessed: {function: gradient.fgsm, settings: {epsilon: 0.1}, labels: predicted}
  expected: {function: gradient.pgd, settings: {epsilon: 0.1, alpha: 0.05, steps: 3}, draws: 4}
  squares: {function: blackbox.square, settings: {epsilon: 0.1, queries: 20}, draws: 4}
  kept:
    function: adaptive.counter_b
    settings: {epsilon: 0.1, alpha: 0.05, steps: 3}
    points: {w1: {settings: {weight: 0.1}}, w2: {settings: {weight: 1}}}
  by: {function: gradient.pgd, settings: {epsilon: 0.1, alpha: 0.05, steps: 3}, through: identity}
  borrowed: {function: gradient.fgsm, settings: {epsilon: 0.1}, surrogate: robust}
  walked: {function: stopped.i_fgsm, settings: {steps: 2, alpha: 0.1}, surrogate: robust}
  chosen_steps:
    function: stopped.i_fgsm
    settings: {steps: {choose: [2, 6, 4], by: {mse: 1.5}}, alpha: 0.1}
    surrogate: robust
  chosen_alpha:
    function: stopped.i_fgsm
    settings: {steps: 2, alpha: {choose: [0.1, 0.2], by: {mse: 1.5}}}
    surrogate: robust
choose: {images: 40}
classifiers:
  phased:
    function: convnets.lenet
    settings: {channels: [4, 8], hidden: 16}
    training:
      function: plain.classify
      epochs: 3
      batch: 32
      optimiser: {name: sgd, lr: 0.1}
      phases: [{epochs: 2, optimiser: {name: sgd, lr: 0.01}}]
      stop: {measured_on: train, accuracy: 0.9}
  robust:
    function: convnets.lenet
    settings: {channels: [4, 8], hidden: 32}
    training:
      function: adversarial.pgd
      settings: {epsilon: 0.1, alpha: 0.05, steps: 5}
      epochs: 2
      batch: 100
      optimiser: {name: sgd, lr: 0.1}
denoisers:
  seen:
    function: autoencoders.seven_layer
    settings: {channels: [4, 2]}
    trained_on: [{threat: fgsm@cnn, share: 1}]
    training: &seen
      function: features.reconstruct
      network: robust
      epochs: 3
      batch: 32
      optimiser: {name: adam, lr: 0.01}
  guided:
    function: autoencoders.seven_layer
    settings: {channels: [4, 2]}
    trained_on: [{noise: blur, share: 1}]
    training: {<<: *seen, function: logits.guided}
purifiers:
  stepwise: {function: tests.own_purifiers:descent, settings: {steps: 4}, denoiser: dae}
  noisy: {function: tests.own_purifiers:noisy_descent, settings: {steps: 4}, denoiser: dae}
  drawing:
    denoiser: dae
    draws: 3
    points:
      a: {function: tests.own_purifiers:descent, settings: {steps: 2}}
      f: {function: tests.own_purifiers:noisy_descent, settings: {steps: 2}}
suites:
  drawn: {threats: [clean], purifiers: [drawing]}
  all_points: {threats: [clean, varied], purifiers: [none, direct]}
"""
NAMES = {"seed": "0", "dataset": "digits", "split": "test"}
CNN = 'classifiers convnets.lenet {"channels": [4, 8], "hidden": 16} 1x28x28x10'
ROBUST = CNN.replace("16", "32")
DAE = 'denoisers autoencoders.seven_layer {"channels": [4, 2]} 1x28x28x10'


@pytest.fixture(scope="module")
def counting() -> Counting:
    config = read_files(mini.CONFIG)
    for kind, entries in yaml.safe_load(MORE).items():
        config.setdefault(kind, {}).update(entries)
    config = configuration.read(copy.deepcopy(config))
    facts = {"segments": SEGMENTS, "parameters": PARAMETERS}
    return Counting(Flow(config), Extents(config), lambda thing, name: facts[name])


def count(counting, rule, gpus=1, **names):
    """Uses by (thing, use) and, where a cost hangs on them, rows; bytes before compression."""
    taken = inspect.signature(stages()[rule].job).parameters
    wildcards = {name: value for name, value in (NAMES | names).items() if name in taken}
    job = PlannedJob(rule, wildcards, (), ("made",), None, gpus, None)
    work = counting.of(job)
    uses = Counter()
    for use, number in work.uses.items():
        rows = (use.rows,) if use.rows else ()
        uses[use.thing.key, use.what, *rows] += number
    assert uses.pop((f"scripts {job.stage} {{}}", "start")) == 1
    assert uses.pop(("device first {}", "start"), 0) == bool(gpus)
    assert uses.pop(("disk write {}", "byte"), 0) == round(work.size)
    return uses, work.size


def test_training_counts_epochs_images_batches_and_what_is_held_out(counting):
    names = {"seed": "0", "dataset": "digits", "classifier": "cnn"}
    uses, size = count(counting, "train_classifier", **names)
    assert uses == {(CNN, "update"): 3 * 256, (CNN, "step"): 3 * 8, (CNN, "forward"): 3 * 64}
    assert size == 4 * PARAMETERS


def test_all_phases_and_looks_at_the_accuracy_count(counting):
    """How soon training stops is not known: the most it can take."""
    uses, _ = count(counting, "train_classifier", classifier="phased")
    assert uses == {
        (CNN, "update"): 5 * 256,
        (CNN, "step"): 5 * 8,
        (CNN, "forward"): 5 * (64 + 256),
    }


def test_a_choice_of_steps_counts_the_largest_and_other_choices_all_candidates(counting):
    uses, size = count(counting, "choose", entry="chosen_steps", classifier="cnn")
    assert uses == {(ROBUST, "gradient"): 6 * 40, (CNN, "forward"): 6 * 40 + 40}
    assert size == 0
    uses, _ = count(counting, "choose", entry="chosen_alpha", classifier="cnn")
    assert uses == {(ROBUST, "gradient"): 2 * 2 * 40, (CNN, "forward"): 2 * (2 * 40 + 40)}
    # What uses a choice may have to do as much as its largest candidate asks for.
    uses, _ = count(counting, "attack", threat="chosen_steps@cnn")
    assert uses == {(ROBUST, "gradient"): 6 * 64, (CNN, "forward"): 6 * 64 + 64}


def test_adversarial_training_takes_its_steps_before_each_update(counting):
    uses, _ = count(counting, "train_classifier", classifier="robust")
    assert uses == {
        (ROBUST, "update"): 2 * 256,
        (ROBUST, "step"): 2 * 3,
        (ROBUST, "inner gradient"): 2 * 5 * (256 + 64),
        (ROBUST, "forward"): 2 * 64,
    }


def test_a_denoiser_of_stored_perturbations_holds_nothing_out(counting):
    uses, _ = count(counting, "train_denoiser", denoiser="dae")
    assert uses == {(DAE, "update"): 3 * 256, (DAE, "step"): 3 * 8}


def test_a_denoiser_s_step_looks_at_a_network(counting):
    uses, _ = count(counting, "train_denoiser", denoiser="seen")
    own = {(DAE, "update"): 3 * 256, (DAE, "step"): 3 * 8}
    # Denoised images in each epoch, clean ones once.
    assert uses == own | {(ROBUST, "gradient"): 3 * 256, (ROBUST, "forward"): 256}
    uses, _ = count(counting, "train_denoiser", denoiser="guided")
    own[DAE, "forward"] = 3 * 64
    judged = 3 * 64 + 64
    assert uses == own | {(ROBUST, "gradient"): 3 * 256, (ROBUST, "forward"): 256 + judged}


@pytest.mark.parametrize(
    ("threat", "expected"),
    [
        ("fgsm@cnn", {(CNN, "gradient"): 64, (CNN, "forward"): 64}),
        ("pgd@cnn", {(CNN, "gradient"): 3 * 64, (CNN, "forward"): 64}),
        ("guessed@cnn", {(CNN, "gradient"): 64, (CNN, "forward"): 2 * 64}),
        ("borrowed@cnn", {(ROBUST, "gradient"): 64, (CNN, "forward"): 64}),
        ("varied@cnn", {(CNN, "gradient"): (1 + 0 + 10) * 64, (CNN, "forward"): 3 * 64}),
        (  # a purifier that draws nothing is asked once
            "expected@cnn+direct",
            {
                (CNN, "gradient"): 3 * 64,
                (DAE, "gradient"): 3 * 64,
                (CNN, "forward"): 64,
                (DAE, "forward"): 64,
            },
        ),
        (
            "expected@cnn+stepwise",
            {
                (CNN, "gradient"): 3 * 64,
                (DAE, "gradient"): (3 * 18 + 4) * 64,
                (CNN, "forward"): 64,
            },
        ),
        (
            "expected@cnn+noisy",
            {
                (CNN, "gradient"): 12 * 64,
                (DAE, "gradient"): (12 * 18 + 4) * 64,
                (CNN, "forward"): 64,
            },
        ),
        ("squares@cnn", {(CNN, "forward"): 21 * 64}),
        (
            "squares@cnn+noisy",
            {(CNN, "forward"): (4 * 20 + 1) * 64, (DAE, "gradient"): (4 * 20 + 1) * 4 * 64},
        ),
        (
            "kept@cnn+direct",
            {
                (CNN, "gradient"): 6 * 64,
                (DAE, "gradient"): 6 * 64,
                (CNN, "forward"): 2 * 64,
                (DAE, "forward"): 2 * 64,
            },
        ),
        ("kept@cnn", {(CNN, "gradient"): 6 * 64, (CNN, "forward"): 2 * 64}),
        (
            "by@cnn+direct",
            {(CNN, "gradient"): 3 * 64, (CNN, "forward"): 64, (DAE, "forward"): 4 * 64},
        ),
    ],
)
def test_an_attack_counts_its_steps_and_its_judge(counting, threat, expected):
    uses, size = count(counting, "attack", threat=threat)
    assert uses == expected
    points = {"varied": 3, "kept": 2}.get(threat.partition("@")[0], 1)
    assert size == 4 * 28 * 28 * 64 * points


def test_kurakin_steps_of_a_cycle_are_the_most_that_one_takes():
    point = {"function": "gradient.bim", "settings": {"steps": "kurakin", "alpha": 0.1}}
    assert repeats("attacks", point | {"epsilons": {"cycle": [0.004, 0.032]}}) == kurakin_steps(
        0.032
    )


def test_defaults_count_as_settings_do():
    point = {"function": "minimal.carlini_wagner", "settings": {"binary_search_steps": 2}}
    assert repeats("attacks", point) == 2 * 500
    assert repeats("attacks", {"function": "gradient.fgsm"}) is None
    point = {"function": "auto.apgd_t", "settings": {"targets": 3, "restarts": 2}}
    assert repeats("attacks", point) == 100 * 3 * 2


def test_evaluation_meets_every_point_of_every_threat(counting):
    names = {"suite": "all_points", "classifier": "cnn"}
    uses, _ = count(counting, "evaluate", purifier="none", **names)
    assert uses == {(CNN, "forward"): 4 * 64}
    uses, _ = count(counting, "evaluate", purifier="direct", **names)
    assert uses == {(CNN, "forward"): 4 * 64, (DAE, "forward"): 3 * 4 * 64}


def test_only_points_that_draw_are_judged_several_times(counting):
    names = {"suite": "drawn", "classifier": "cnn"}
    uses, size = count(counting, "evaluate", purifier="drawing", **names)
    assert uses == {
        (CNN, "forward"): (1 + 3) * 64,
        (DAE, "forward"): 2 * (1 + 3) * 64,
        (DAE, "gradient"): 2 * (1 + 3) * 64,
    }
    assert size == 60 * 64 * 4


def test_masks_are_stored_and_a_confusion_matrix_for_each_row(counting):
    extent = Extents(counting._flow.config).of("digits")._replace(dense=True)
    dense = SimpleNamespace(of=lambda dataset: extent, size=lambda dataset, split: 64)
    masked = Counting(counting._flow, dense, counting._facts)
    _, size = count(masked, "images")
    assert size == 64 * 28 * 28 * 2
    _, size = count(masked, "evaluate", suite="all_points", purifier="none", classifier="cnn")
    assert size == 4 * 64 * (60 + 4 * 10 * 10)


def test_distances_take_their_own_number_of_images(counting):
    uses, size = count(counting, "distances", suite="purified", classifier="cnn")
    assert uses == {(CNN, "forward"): (1 + 2 + 2) * 32, (DAE, "forward"): 2 * 32}
    assert size == 60 * 32 * 4 * 2


def test_leave_one_out_passes_follow_the_superpixels(counting):
    names = {"threat": "varied@cnn", "attribution": "slic", "classifier": "cnn"}
    uses, size = count(counting, "iqr", **names)
    maps = 'attributions superpixels.slic {"n_segments": 8} 1x28x28'
    assert uses == {(maps, "maps"): 3 * 64, (CNN, "forward"): 3 * 64 * 10}
    assert size == 3 * 64 * (60 + 4 * (2 * 10 + 2 * 4))


def test_channels_masked_apart_take_as_many_passes_more(counting):
    extent = Extents(counting._flow.config).of("digits")
    colour = SimpleNamespace(of=lambda dataset: extent._replace(shape=(3, 28, 28)))
    colour.size = lambda dataset, split: 64
    apart = Counting(counting._flow, colour, counting._facts)
    names = {"dataset": "digits", "seed": "0", "split": "test", "threat": "clean"}
    job = counting._flow.job("iqr", names | {"attribution": "slic", "classifier": "cnn"})
    entry = job.settings["attribution"]
    for settings, passes in ((entry, 10), (entry | {"channels": "apart"}, 29)):
        uses = apart._iqr(job.settings | {"attribution": settings}).uses
        assert [n for use, n in uses.items() if use.what == "forward"] == [64 * passes]


def test_what_measures_costs_repeats(counting):
    names = {"dataset": "digits", "seed": "0", "split": "test", "threat": "clean"}
    job = counting._flow.job("iqr", names | {"attribution": "slic", "classifier": "cnn"})
    work = counting._cost(job.settings | {"images": 5, "repetitions": 3})
    assert {use.what: n for use, n in work.uses.items()} == {"maps": 5 * 4, "forward": 5 * 210}


def test_a_rule_that_nothing_counts_is_told(counting):
    job = PlannedJob("brewing", {}, (), ("coffee",), None, 0, None)
    with pytest.raises(NotMeasured, match="rule brewing, whose work is not counted"):
        counting.of(job)


def test_detectors_are_fitted_for_each_representation_and_split(counting):
    names = {"suite": "detected", "detector": "forest", "attribution": "slic", "classifier": "cnn"}
    uses, _ = count(counting, "detect", gpus=0, **names)
    forest = "detectors trees.random_forest {}"
    assert uses == {(f"{forest} 1", "fit", 102): 1, (f"{forest} 18", "fit", 102): 1}


def test_a_detector_may_score_the_rows_of_every_attack(counting, monkeypatch):
    names = {"suite": "all_points", "detector": "forest", "attribution": "slic"}
    uses, own = count(counting, "detect", gpus=0, classifier="cnn", **names)
    monkeypatch.setitem(counting._flow.config["detection"], "transfer", True)
    assert count(counting, "detect", gpus=0, classifier="cnn", **names) == (uses, 3 * own)


def test_other_stages(counting):
    assert count(counting, "images", gpus=0) == ({}, 64 * 28 * 28)
    assert count(counting, "calibrate", denoiser="dae") == ({(DAE, "forward"): 64}, 0)
    _, exported = count(counting, "export", gpus=0, threat="varied@cnn")
    assert exported == 3 * 64 * 28 * 28 * 4
    uses, shown = count(counting, "examples", threat="pgd@cnn", purifier="direct", classifier="cnn")
    assert uses == {(CNN, "forward"): 8, (DAE, "forward"): 8}
    assert shown == 8 * 28 * 28 * 4
    assert count(counting, "table", gpus=0, experiment="defence", table="accuracy") == ({}, 0)


def test_the_figures_of_a_paper_are_one_stage(counting):
    job = PlannedJob("figures_defence", {}, (), ("strips.svg",), None, 0, None)
    assert counting.settings(job)["experiment"] == "defence"
    assert [use.thing.function for use in counting.of(job).uses] == ["figures"]


def test_what_hangs_on_an_unknown_fact_is_not_counted():
    config = configuration.read(read_files(mini.CONFIG))

    def unknown(thing, name):
        raise NotMeasured(thing.key)

    bare = Counting(Flow(config), Extents(config), unknown)
    with pytest.raises(NotMeasured, match="superpixels"):
        count(bare, "iqr", threat="clean", attribution="slic", classifier="cnn")
    assert count(bare, "evaluate", suite="purified", purifier="none", classifier="cnn")[0]
