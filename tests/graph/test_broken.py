"""A list of broken configurations, invented before any of them was tried: one sentence for each."""

import copy

import pytest

from advdenoise.errors import BadInput
from advdenoise.graph import configuration
from advdenoise.graph.flow import Flow
from advdenoise.graph.yaml_files import read_files
from tests import mini

NAN, INFINITY = float("nan"), float("inf")
MINI = read_files(mini.CONFIG)
ACCURACY = "experiments.defence.tables.accuracy"
TRAINING = "classifiers.cnn.training"
DENOISER = "denoisers.dae"
LONG = "x1y2z3" * 50
PLAIN = {"function": "gradient.fgsm", "settings": {"epsilon": 0.1}}
ANOTHER = {
    "function": "convnets.lenet",
    "settings": {"channels": [4, 8], "hidden": 16},
    "training": MINI["classifiers"]["cnn"]["training"],
}

# What is changed in the small configuration, and what the one sentence must hold.
BROKEN = {
    # ---- at the top
    "no scale": ({"scale": None}, ["scale", "text"]),
    "a scale that is a number": ({"scale": 7}, ["scale", "text", "7"]),
    "a scale that is yes": ({"scale": True}, ["scale", "in quotes"]),
    "a scale with a slash": ({"scale": "../other"}, ["scale", "lower-case"]),
    "a scale with a line end": ({"scale": "mini\n"}, ["scale", "lower-case"]),
    "an empty scale": ({"scale": ""}, ["scale", "lower-case"]),
    "a scale of 300 letters": ({"scale": LONG}, ["scale", "80", "file names"]),
    "seeds that are one number": ({"seeds": 0}, ["seeds", "a list", "write [0]"]),
    "seeds that are text": ({"seeds": "0,1"}, ["seeds", "a list"]),
    "seeds in quotes": ({"seeds": ["0"]}, ["seeds.0", "a whole number", "without quotes"]),
    "a seed with a point": ({"seeds": [1.0]}, ["seeds.0", "a whole number", "write 1"]),
    "a seed below zero": ({"seeds": [-1]}, ["seeds.0", "at least 0"]),
    "a seed that is true": ({"seeds": [True]}, ["seeds.0", "a whole number"]),
    "a seed beyond 32 bits": ({"seeds": [2**32]}, ["seeds.0", "at most 4294967295"]),
    "no seed at all": ({"seeds": None}, ["seeds", "a list"]),
    "a batch with a point": ({"batch": 64.0}, ["batch", "a whole number", "write 64"]),
    "half a batch": ({"batch": 0.5}, ["batch", "a whole number", "0.5"]),
    "an empty batch": ({"batch": 0}, ["batch", "at least 1"]),
    "a batch of -4": ({"batch": -4}, ["batch", "at least 1"]),
    "a batch of 10^15": ({"batch": 10**15}, ["batch", "at most"]),
    "a batch that is yes": ({"batch": True}, ["batch", "a whole number", "yes"]),
    "a batch that is a list": ({"batch": [64]}, ["batch", "a whole number"]),
    "a data root that is a number": ({"data_root": 3}, ["data_root", "text"]),
    "an empty data root": ({"data_root": ""}, ["data_root", "empty"]),
    "protection that is a word": (
        {"protect_weights": "maybe"},
        ["protect_weights", "true or false"],
    ),
    "protection by 1": ({"protect_weights": 1}, ["protect_weights", "true or false"]),
    "results elsewhere": ({"pathvars": {"results": "/tmp/x"}}, ["pathvars.results", "unknown key"]),
    "a command in a path": (
        {"pathvars": {"logs": "logs/$(touch x)"}},
        ["pathvars.logs", "letters"],
    ),
    "a command in backticks": ({"pathvars": {"benchmarks": "`id`"}}, ["pathvars.benchmarks"]),
    "a command behind a semicolon": ({"pathvars": {"logs": "a; rm b"}}, ["pathvars.logs"]),
    "a path variable in a path": ({"pathvars": {"logs": "<logs>"}}, ["pathvars.logs"]),
    "a wildcard in a path": ({"pathvars": {"logs": "logs/{seed}"}}, ["pathvars.logs"]),
    "a path variable that is a list": ({"pathvars": {"logs": ["a"]}}, ["pathvars.logs", "text"]),
    "a key off by a letter": ({"experiment": {}}, ["experiment", "'experiments'"]),
    "a key that is a number": ({5: {}}, ["5", "unknown key"]),
    "a key that is a fraction": ({1.5: {}}, ["1.5", "name"]),
    "a key that is yes": ({True: {}}, ["in quotes"]),
    "a section that is a list": ({"attacks": [PLAIN]}, ["attacks", "a mapping"]),
    "a section that is nothing": ({"attacks": None}, ["attacks", "a mapping"]),
    "an entry that is a text": ({"attacks.fgsm": "gradient.fgsm"}, ["attacks.fgsm", "a mapping"]),
    # ---- names
    "an attack called clean": ({"attacks.clean": PLAIN}, ["attacks.clean", "another name"]),
    "another purifier called none": (
        {"purifiers.none": {"function": "basic.direct", "denoiser": "dae"}},
        ["purifiers.none", "another name"],
    ),
    "a name with a line end": ({"attacks.fgsm2\n": PLAIN}, ["attacks", "fgsm2\\n"]),
    "a name with a space": ({"attacks.my attack": PLAIN}, ["attacks", "'my attack'", "lower-case"]),
    "a name with a command": ({"attacks.$(id)": PLAIN}, ["attacks", "lower-case"]),
    "a name with braces": ({"suites.{seed}": {"threats": ["clean"]}}, ["suites", "lower-case"]),
    "a name with an accent": ({"attacks.fgsm_é": PLAIN}, ["attacks", "lower-case"]),
    "a name of 300 letters": ({f"attacks.{LONG}": PLAIN}, ["attacks", "at most 80"]),
    "a name that repeats itself": ({f"attacks.{'ab' * 25}": PLAIN}, ["attacks", "repeats"]),
    "a name of one letter 20 times": ({f"suites.{'a' * 20}": {"threats": ["clean"]}}, ["repeats"]),
    "an experiment with a dot": ({"experiments.a.b": {}}, ["experiments"]),
    "an empty name": ({"attacks.": PLAIN}, ["attacks", "lower-case"]),
    "a point with a slash": (
        {
            "attacks.fgsm": {
                "function": "gradient.fgsm",
                "points": {"a/b": {"settings": {"epsilon": 0}}},
            }
        },
        ["attacks.fgsm.points", "lower-case"],
    ),
    # ---- data sets
    "no data sets": ({"datasets": {}}, ["datasets"]),
    "a data set without a function": ({"datasets.digits": {}}, ["datasets.digits", "'function'"]),
    "a data set that is not there": (
        {"datasets.digits.function": "embedded.digit"},
        ["datasets.digits.function", "embedded.digits"],
    ),
    "a function with a line end": (
        {"datasets.digits.function": "embedded.digits\n"},
        ["datasets.digits.function", "module.name"],
    ),
    "a function with a path": (
        {"datasets.digits.function": "../embedded.digits"},
        ["datasets.digits.function"],
    ),
    "a split size with a point": (
        {"datasets.digits.splits.test.size": 64.0},
        ["datasets.digits.splits.test.size", "a whole number", "write 64"],
    ),
    "a split of nothing": (
        {"datasets.digits.splits.test.size": 0},
        ["datasets.digits.splits.test.size", "at least 1"],
    ),
    "a split size that is text": (
        {"datasets.digits.splits.test.size": "64"},
        ["datasets.digits.splits.test.size", "a whole number", "64"],
    ),
    "a split size of null": (
        {"datasets.digits.splits.test.size": None},
        ["datasets.digits.splits.test.size", "a whole number"],
    ),
    "a split that is a number": ({"datasets.digits.splits.test": 64}, ["splits.test", "a mapping"]),
    "held out without a size": (
        {"datasets.digits.splits.held_out": {}},
        ["datasets.digits.splits.held_out", "'size'"],
    ),
    "test drawn from train": (
        {"datasets.digits.splits.test": {"of": "train", "size": 5}},
        ["datasets.digits.splits.test.of", "take `of` out"],
    ),
    "a part of nothing": (
        {"datasets.digits.splits.few": {"size": 5}},
        ["datasets.digits.splits.few", "'of'"],
    ),
    "a part larger than its whole": (
        {"datasets.digits.splits.few": {"of": "test", "size": 65}},
        ["datasets.digits.splits.few.size", "64"],
    ),
    "a batch of a data set with a point": (
        {"datasets.digits.batch": 8.0},
        ["datasets.digits.batch", "write 8"],
    ),
    # ---- classifiers and their training
    "epochs with a point": ({f"{TRAINING}.epochs": 3.0}, [f"{TRAINING}.epochs", "write 3"]),
    "half an epoch": ({f"{TRAINING}.epochs": 2.5}, [f"{TRAINING}.epochs", "a whole number"]),
    "epochs below zero": ({f"{TRAINING}.epochs": -1}, [f"{TRAINING}.epochs", "at least 0"]),
    "epochs without end": (
        {f"{TRAINING}.epochs": INFINITY},
        [f"{TRAINING}.epochs", "a whole number"],
    ),
    "a training batch of text": (
        {f"{TRAINING}.batch": "32"},
        [f"{TRAINING}.batch", "a whole number"],
    ),
    "a rate of zero": ({f"{TRAINING}.optimiser.lr": 0}, ["optimiser.lr", "greater than 0"]),
    "a rate below zero": ({f"{TRAINING}.optimiser.lr": -0.1}, ["optimiser.lr", "greater than 0"]),
    "a rate that is no number": (
        {f"{TRAINING}.optimiser.lr": NAN},
        ["optimiser.lr", "finite number"],
    ),
    "a rate without end": (
        {f"{TRAINING}.optimiser.lr": INFINITY},
        ["optimiser.lr", "finite number"],
    ),
    "a rate of 1e300": ({f"{TRAINING}.optimiser.lr": 1e300}, ["optimiser.lr", "at most 1000"]),
    "a rate of 400 digits": (
        {f"{TRAINING}.optimiser.lr": 10**400},
        ["optimiser.lr", "at most 1000"],
    ),
    "a rate as text": ({f"{TRAINING}.optimiser.lr": "1e-3"}, ["optimiser.lr", "number", "0.001"]),
    "a rate that is yes": ({f"{TRAINING}.optimiser.lr": True}, ["optimiser.lr", "finite number"]),
    "a rate of null": ({f"{TRAINING}.optimiser.lr": None}, ["optimiser.lr", "finite number"]),
    "a rate that is a list": (
        {f"{TRAINING}.optimiser.lr": [0.1]},
        ["optimiser.lr", "finite number"],
    ),
    "no rate": ({f"{TRAINING}.optimiser": {"name": "sgd"}}, ["optimiser", "'lr'", "add it"]),
    "momentum of one": ({f"{TRAINING}.optimiser.momentum": 1}, ["momentum", "less than 1"]),
    "momentum below zero": ({f"{TRAINING}.optimiser.momentum": -0.9}, ["momentum", "at least 0"]),
    "momentum that is no number": (
        {f"{TRAINING}.optimiser.momentum": NAN},
        ["momentum", "finite number"],
    ),
    "weight decay below zero": (
        {f"{TRAINING}.optimiser.weight_decay": -1},
        ["weight_decay", "at least 0"],
    ),
    "weight decay without end": (
        {f"{TRAINING}.optimiser.weight_decay": INFINITY},
        ["weight_decay", "finite"],
    ),
    "weight decay on biases": (
        {f"{TRAINING}.optimiser.weight_decay_on": "biases"},
        ["weight_decay_on", "'biases'", "all"],
    ),
    "one beta": ({f"{DENOISER}.training.optimiser.betas": [0.9]}, ["betas", "2 items"]),
    "three betas": (
        {f"{DENOISER}.training.optimiser.betas": [0.9, 0.9, 0.9]},
        ["betas", "2 items"],
    ),
    "a beta of one": (
        {f"{DENOISER}.training.optimiser.betas": [0.9, 1]},
        ["betas.1", "less than 1"],
    ),
    "a beta that is no number": (
        {f"{DENOISER}.training.optimiser.betas": [NAN, 0.9]},
        ["betas.0", "finite number"],
    ),
    "a decay below zero": ({f"{TRAINING}.optimiser.decay": -1e-6}, ["decay", "at least 0"]),
    "a schedule from epoch -1": ({f"{TRAINING}.schedule": {-1: 0.1}}, ["schedule", "-1", "epoch"]),
    "a schedule from epoch 1.5": ({f"{TRAINING}.schedule": {1.5: 0.1}}, ["schedule", "1.5"]),
    "a schedule from epoch yes": ({f"{TRAINING}.schedule": {True: 0.1}}, ["schedule", "true"]),
    "a schedule with 1 twice": (
        {f"{TRAINING}.schedule": {1: 0.1, "1": 0.2}},
        ["schedule.1", "twice"],
    ),
    "a schedule from epoch one": (
        {f"{TRAINING}.schedule": {"one": 0.1}},
        ["schedule", "'one'", "epoch"],
    ),
    "a schedule from epoch 01": (
        {f"{TRAINING}.schedule": {"01": 0.1}},
        ["schedule", "'01'", "epoch"],
    ),
    "a schedule to zero": ({f"{TRAINING}.schedule": {1: 0}}, ["schedule.1", "greater than 0"]),
    "a schedule to text": ({f"{TRAINING}.schedule": {1: "1e-3"}}, ["schedule.1", "number"]),
    "a schedule to nowhere": ({f"{TRAINING}.schedule": {1: NAN}}, ["schedule.1", "finite number"]),
    "a schedule that is a list": ({f"{TRAINING}.schedule": [0.1]}, ["schedule", "a mapping"]),
    "no phases": ({f"{TRAINING}.phases": []}, ["phases", "empty"]),
    "a phase of text": ({f"{TRAINING}.phases": ["more"]}, ["phases.0", "a mapping"]),
    "a stop without a place": ({f"{TRAINING}.stop": {"accuracy": 0.9}}, ["stop", "'measured_on'"]),
    "a stop on test images": (
        {f"{TRAINING}.stop": {"measured_on": "test", "accuracy": 0.9}},
        ["stop.measured_on", "'test'", "held_out"],
    ),
    "a stop at no number": (
        {f"{TRAINING}.stop": {"measured_on": "train", "accuracy": NAN}},
        ["stop.accuracy", "finite number"],
    ),
    "a stop at nothing": (
        {f"{TRAINING}.stop": {"measured_on": "train", "accuracy": 0}},
        ["stop.accuracy", "greater than 0"],
    ),
    "an unknown training function": (
        {f"{TRAINING}.function": "plain.clasify"},
        [f"{TRAINING}.function", "plain.classify"],
    ),
    "a training split that is nowhere": (
        {f"{TRAINING}.split": "few"},
        [f"{TRAINING}.split", "'few'", "there are"],
    ),
    "data sets of a classifier twice": (
        {"classifiers.cnn.datasets": ["digits", "digits"]},
        ["classifiers.cnn.datasets", "twice"],
    ),
    "a data set as text": (
        {"classifiers.cnn.datasets": "digits"},
        ["datasets", "a list", "[digits]"],
    ),
    "a classifier in a circle": (
        {
            "classifiers.a": {**ANOTHER, "training": ANOTHER["training"] | {"start": "b"}},
            "classifiers.b": {**ANOTHER, "training": ANOTHER["training"] | {"start": "c"}},
            "classifiers.c": {**ANOTHER, "training": ANOTHER["training"] | {"start": "a"}},
        },
        ["starts from itself", "a -> b -> c -> a"],
    ),
    # ---- attacks
    "an epsilon of a list that is yes": (
        {"attacks.fgsm": {"function": "gradient.fgsm", "epsilons": [True]}},
        ["attacks.fgsm.epsilons", "finite number"],
    ),
    "an epsilon of a list that is no number": (
        {"attacks.fgsm": {"function": "gradient.fgsm", "epsilons": [NAN]}},
        ["attacks.fgsm.epsilons", "finite number"],
    ),
    "an epsilon of a list above one": (
        {"attacks.fgsm": {"function": "gradient.fgsm", "epsilons": [0.1, 8]}},
        ["attacks.fgsm", "epsilon", "8", "[0,1]"],
    ),
    "no epsilons": (
        {"attacks.fgsm": {"function": "gradient.fgsm", "epsilons": []}},
        ["attacks.fgsm.epsilons", "empty"],
    ),
    "a cycle without an end": (
        {"attacks.fgsm": {"function": "gradient.fgsm", "epsilons": {"cycle": [0.1]}}},
        ["attacks.fgsm.epsilons", "'every'"],
    ),
    "a cycle every 8.0": (
        {"attacks.fgsm": {"function": "gradient.fgsm", "epsilons": {"cycle": [0.1], "every": 8.0}}},
        ["attacks.fgsm.epsilons.every", "write 8"],
    ),
    "a cycle every 0": (
        {"attacks.fgsm": {"function": "gradient.fgsm", "epsilons": {"cycle": [0.1], "every": 0}}},
        ["attacks.fgsm.epsilons.every", "at least 1"],
    ),
    "a cycle below zero": (
        {"attacks.fgsm": {"function": "gradient.fgsm", "epsilons": {"cycle": [-0.1], "every": 1}}},
        ["attacks.fgsm", "epsilon", "[0,1]"],
    ),
    "an epsilon as text": (
        {"attacks.fgsm.settings.epsilon": "0.1"},
        ["attacks.fgsm", "epsilon", "'0.1'"],
    ),
    "a unit without a size": (
        {"attacks.fgsm.epsilon_unit": {"name": "grey"}},
        ["epsilon_unit", "'pixels'"],
    ),
    "a unit of nothing": (
        {"attacks.fgsm.epsilon_unit": {"name": "grey", "pixels": 0}},
        ["epsilon_unit.pixels", "greater than 0"],
    ),
    "a unit without end": (
        {"attacks.fgsm.epsilon_unit": {"name": "grey", "pixels": INFINITY}},
        ["epsilon_unit.pixels", "finite number"],
    ),
    "a unit of 255 pixels": (
        {"attacks.fgsm.epsilon_unit": {"name": "grey", "pixels": 255}},
        ["epsilon_unit.pixels", "at most 1"],
    ),
    "a target class with a point": (
        {"attacks.fgsm.labels": {"target": 2.0}},
        ["labels.target", "write 2"],
    ),
    "a target class that is yes": ({"attacks.fgsm.labels": {"target": True}}, ["labels.target"]),
    "no target class": ({"attacks.fgsm.labels": {}}, ["labels", "'target'"]),
    "an unknown output": ({"attacks.fgsm.output": "logit"}, ["attacks.fgsm.output", "'logits'"]),
    "an unknown way": ({"attacks.fgsm.through": "bpda"}, ["attacks.fgsm.through", "identity"]),
    "draws with a point": ({"attacks.fgsm.draws": 2.0}, ["attacks.fgsm.draws", "write 2"]),
    "draws of 10^12": ({"attacks.fgsm.draws": 10**12}, ["attacks.fgsm.draws", "at most"]),
    "a surrogate that is a list": (
        {"attacks.fgsm.surrogate": ["cnn"]},
        ["attacks.fgsm.surrogate", "text"],
    ),
    "no points": ({"attacks.fgsm.points": {}}, ["attacks.fgsm.points", "empty"]),
    "points that are a list": ({"attacks.fgsm.points": [{}]}, ["attacks.fgsm.points", "a mapping"]),
    "settings that are a list": (
        {"attacks.fgsm.settings": [0.1]},
        ["attacks.fgsm.settings", "a mapping"],
    ),
    "an attack without a function": (
        {"attacks.fgsm": {"settings": {"epsilon": 0.1}}},
        ["attacks.fgsm", "'function'"],
    ),
    # ---- denoisers and purifiers
    "a share below zero": (
        {f"{DENOISER}.trained_on.0.share": -1},
        ["trained_on.0.share", "greater than 0"],
    ),
    "a share above one": (
        {f"{DENOISER}.trained_on.0.share": 2},
        ["trained_on.0.share", "at most 1"],
    ),
    "a share that is no number": (
        {f"{DENOISER}.trained_on.0.share": NAN},
        ["trained_on.0.share", "finite"],
    ),
    "a share in percent": (
        {f"{DENOISER}.trained_on.0.share": "100%"},
        ["trained_on.0.share", "number"],
    ),
    "no sources": ({f"{DENOISER}.trained_on": []}, [f"{DENOISER}.trained_on", "empty"]),
    "sources that are a text": (
        {f"{DENOISER}.trained_on": "fgsm@cnn"},
        [f"{DENOISER}.trained_on", "a list"],
    ),
    "a source that is both": (
        {f"{DENOISER}.trained_on": [{"threat": "clean", "noise": "fgsm", "share": 1}]},
        [f"{DENOISER}.trained_on.0", "either"],
    ),
    "a threat that is none": (
        {f"{DENOISER}.trained_on": [{"threat": "fgsm@@cnn", "share": 1}]},
        [f"{DENOISER}.trained_on.0.threat", "attack@victim"],
    ),
    "draws of a purifier with a point": (
        {"purifiers.direct.draws": 4.0},
        ["purifiers.direct.draws", "write 4"],
    ),
    "a purifier of an unknown denoiser": (
        {"purifiers.direct.denoiser": "ead"},
        ["purifiers.direct.denoiser", "'ead'", "there are: dae"],
    ),
    # ---- attributions and detectors
    "masking above one": (
        {"attributions.slic.masking": 255},
        ["attributions.slic.masking", "at most 1"],
    ),
    "masking that is no number": (
        {"attributions.slic.masking": NAN},
        ["attributions.slic.masking"],
    ),
    "masking by a word": (
        {"attributions.slic.masking": "mean"},
        ["attributions.slic.masking", "image_mean"],
    ),
    "an unknown quantile": (
        {"attributions.slic.quantile": "lower"},
        ["attributions.slic.quantile", "linear"],
    ),
    "an unknown detector": (
        {"detectors.forest.function": "trees.forest"},
        ["detectors.forest", "trees.random_forest"],
    ),
    "an unknown representation": (
        {"detection.representations": ["probability"]},
        ["detection.representations.0", "'probabilities'"],
    ),
    "no protocol": ({"detection.protocols": []}, ["detection.protocols", "empty"]),
    "split seeds with a point": (
        {"detection.split_seeds": 5.0},
        ["detection.split_seeds", "write 5"],
    ),
    "no split seeds": ({"detection.split_seeds": 0}, ["detection.split_seeds", "at least 1"]),
    "transfer by a word": (
        {"detection.transfer": "yes please"},
        ["detection.transfer", "true or false"],
    ),
    "no detection": ({"detection": {}}, ["detection", "'representations'"]),
    # ---- suites, distances, examples, cost, choices
    "a suite of no threats": (
        {"suites.purified.threats": []},
        ["suites.purified.threats", "empty"],
    ),
    "a suite of one text": (
        {"suites.purified.threats": "clean"},
        ["suites.purified.threats", "a list"],
    ),
    "a threat of a suite twice": (
        {"suites.purified.threats": ["clean", "clean"]},
        ["threats", "twice"],
    ),
    "a threat with a line end": (
        {"suites.purified.threats": ["fgsm\n"]},
        ["suites.purified.threats.0"],
    ),
    "a suite of an unknown purifier": (
        {"suites.purified.purifiers": ["direkt"]},
        ["suites.purified.purifiers", "'direkt'", "'direct'"],
    ),
    "taps of an unknown classifier": (
        {"distances.taps.cnm": ["a"]},
        ["distances.taps", "'cnm'", "'cnn'"],
    ),
    "no taps": ({"distances.taps.cnn": []}, ["distances.taps.cnn", "empty"]),
    "taps that are a text": ({"distances.taps.cnn": "layers.0"}, ["distances.taps.cnn", "a list"]),
    "a tap twice": ({"hidden.taps.cnn": ["layers.0", "layers.0"]}, ["hidden.taps.cnn", "twice"]),
    "a tap that is a number": ({"hidden.taps.cnn": [0]}, ["hidden.taps.cnn.0", "text"]),
    "images of distances with a point": (
        {"distances.images": 32.0},
        ["distances.images", "write 32"],
    ),
    "nodes below one": ({"hidden.per_layer": 0}, ["hidden.per_layer", "at least 1"]),
    "images of examples that are none": ({"examples.images": 0}, ["examples.images", "at least 1"]),
    "superpixels that are not configured": (
        {"examples.superpixels": ["slick"]},
        ["examples.superpixels", "'slick'", "'slic'"],
    ),
    "repetitions with a point": ({"cost.repetitions": 1.0}, ["cost.repetitions", "write 1"]),
    "images of choices with a point": (
        {"choose": {"images": 64.0}},
        ["choose.images", "write 64"],
    ),
    "everywhere nothing": ({"everywhere": {"purifiers": []}}, ["everywhere.purifiers", "empty"]),
    "everywhere an unknown attack": (
        {"everywhere": {"attacks": ["fgsn"]}},
        ["everywhere.attacks", "'fgsn'", "'fgsm'"],
    ),
    # ---- experiments
    "seeds of an experiment with a point": (
        {"experiments.defence.seeds": [0.0]},
        ["seeds.0", "write 0"],
    ),
    "an unknown table": (
        {f"{ACCURACY}.function": "accuracy.by_threats"},
        [f"{ACCURACY}.function", "accuracy.by_threat"],
    ),
    "a crossing of an unknown suite": (
        {f"{ACCURACY}.predictions.suite": "purify"},
        ["'purify'", "'purified'"],
    ),
    "a crossing of an unknown data set": (
        {f"{ACCURACY}.predictions.dataset": "digit"},
        ["'digit'", "'digits'"],
    ),
    "a crossing of a data set twice": (
        {f"{ACCURACY}.predictions.dataset": ["digits", "digits"]},
        ["predictions.dataset", "twice"],
    ),
    "a crossing with a threat too much": (
        {f"{ACCURACY}.predictions.threat": "fgsm"},
        ["predictions.threat", "does not belong"],
    ),
    "a crossing that is a text": (
        {f"{ACCURACY}.predictions": "digits"},
        [f"{ACCURACY}.predictions"],
    ),
    "no crossings": ({f"{ACCURACY}.predictions": []}, [f"{ACCURACY}.predictions"]),
    "a crossing of a number": (
        {f"{ACCURACY}.predictions.split": 3},
        [f"{ACCURACY}.predictions.split"],
    ),
    "on demand by a word": ({f"{ACCURACY}.on_demand": "yes"}, ["on_demand", "true or false"]),
    "a table of nothing that is left": (
        {"classifiers.cnn.datasets": ["more"], "datasets.more": {"function": "embedded.digits"}},
        ["nothing is left", "cnn", "digits"],
    ),
    "predictions of a suite without purifiers": (
        {"suites.purified": {"threats": ["clean"]}},
        ["predictions", "purifiers"],
    ),
    "a calibration without images held out": (
        {"datasets.digits.splits": {"test": {"size": 64}}},
        ["held_out", "digits"],
    ),
}


def put(config: dict, key, value) -> None:
    """Set `a.b.c` in nested mappings and lists; a key that is no text stays whole."""
    *way, last = key.split(".") if isinstance(key, str) else [key]
    for part in way:
        config = config[int(part)] if isinstance(config, list) else config.setdefault(part, {})
    config[int(last) if isinstance(config, list) else last] = value


@pytest.mark.parametrize(("change", "expected"), BROKEN.values(), ids=BROKEN)
def test_a_broken_configuration_is_told_in_one_sentence(change, expected):
    config = copy.deepcopy(MINI)
    for key, value in change.items():
        put(config, key, value)
    with pytest.raises(BadInput) as mistake:
        Flow(configuration.read(config))
    sentence = str(mistake.value)
    assert sentence.isprintable() and len(sentence) < 400
    for part in expected:
        assert part in sentence
