"""The graph: which jobs a configuration gives, what each of them reads and is told."""

import json
import os
import re
import subprocess
import sys
from collections import Counter
from types import SimpleNamespace

import pytest
import yaml

from advdenoise.errors import BadInput
from advdenoise.graph import configuration
from advdenoise.graph import flow as graph_of
from advdenoise.graph.combinations import fits
from advdenoise.graph.flow import Flow
from advdenoise.graph.yaml_files import read_files
from tests import mini

EXPERIMENTS = sorted(p.parent.name for p in mini.REPOSITORY.glob("experiments/*/experiment.yaml"))
FIGURES = {f"figures_{name}": 1 for name in EXPERIMENTS}
SUBSET = yaml.safe_load((mini.REPOSITORY / "config/subset.yaml").read_text(encoding="utf-8"))
# The one experiment with figures in this configuration
(SUBSET_FIGURES,) = (
    f"figures_{name}" for name, e in SUBSET["experiments"].items() if "figures" in e
)
# Jobs of each shipped configuration, by rule.
COUNTS = {
    "config": {
        "images": 11,
        "train_classifier": 19,
        "attack": 46,
        "train_denoiser": 15,
        "calibrate": 4,
        "choose": 5,
        "cost": 2,
        "evaluate": 58,
        "distances": 8,
        "iqr": 6,
        "detect": 3,
        "examples": 8,
        "table": 44,
        "rows": 1,
        **FIGURES,
        "all": 1,
    },
    "papers": {
        "images": 24,
        "train_classifier": 60,
        "attack": 453,
        "train_denoiser": 74,
        "calibrate": 18,
        "choose": 17,
        "cost": 6,
        "evaluate": 243,
        "distances": 24,
        "iqr": 18,
        "detect": 12,
        "examples": 24,
        "table": 46,
        "rows": 1,
        **FIGURES,
        "all": 1,
    },
    "subset": {
        "images": 11,
        "train_classifier": 5,
        "attack": 30,
        "train_denoiser": 6,
        "calibrate": 4,
        "evaluate": 17,
        "distances": 4,
        "iqr": 8,
        "detect": 4,
        "table": 9,
        SUBSET_FIGURES: 1,
        "all": 1,
    },
}
# Jobs of each experiment: at the papers' scale with reduced counts, and at most at the quick scale.
JOBS = {
    path.parent.name: yaml.safe_load(path.read_text(encoding="utf-8"))
    for path in sorted((mini.REPOSITORY / "tests" / "experiments").glob("*/jobs.yaml"))
}
PAPERS = tuple(JOBS)
SHIPPED = sorted(p.stem for p in (mini.REPOSITORY / "config").glob("*.yaml"))
SHIPPED.remove("schema")

# Entries of one's own, put everywhere.
MINE = """
attacks:
  shaken: {function: noise.uniform, settings: {epsilon: 0.1}}
purifiers:
  twice: {function: basic.direct, denoiser: dae}
detectors:
  vectors: {function: svm.svc}
everywhere:
  attacks: [shaken]
  purifiers: [twice]
  detectors: [vectors]
"""
FROM_A_ROOT = """
datasets:
  mnist: {function: archives.mnist}
experiments:
  defence:
    tables:
      accuracy:
        predictions: {dataset: [digits, mnist]}
"""


@pytest.fixture(scope="module")
def shipped(tmp_path_factory):
    """The code with the shipped configurations; nothing has run."""
    default = mini.REPOSITORY / "config" / "config.yaml"
    return mini.copy_code(tmp_path_factory.mktemp("shipped") / "code", default)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """The code with the mini configuration; nothing has run."""
    folder = mini.copy_code(tmp_path_factory.mktemp("small") / "code")
    (folder / "mine.yaml").write_text(MINE)
    (folder / "from_a_root.yaml").write_text(FROM_A_ROOT)
    return folder


def merge(base: dict, more: dict) -> dict:
    """As Snakemake lays one configuration file over another."""
    both = {
        key: merge(base[key], value) if isinstance(base.get(key), dict) else value
        for key, value in more.items()
    }
    return base | both


def flow(*more: str) -> Flow:
    """The graph of the mini configuration and what is laid over it."""
    config = read_files(mini.CONFIG)
    for text in more:
        config = merge(config, yaml.safe_load(text))
    return Flow(configuration.read(config))


# ---------------------------------------------------------------- through Snakemake


@pytest.mark.parametrize("name", SHIPPED)
def test_jobs_of_a_shipped_configuration_without_any_data(shipped, name):
    assert mini.counts(shipped, "--configfile", f"config/{name}.yaml") == COUNTS[name]


@pytest.mark.parametrize("paper", PAPERS)
def test_jobs_of_a_paper_with_reduced_counts(shipped, paper):
    file = f"experiments/{paper}/reduced.yaml"
    always = {paper: 1, f"figures_{paper}": 1}
    assert mini.counts(shipped, paper, "--configfile", file) == JOBS[paper]["reduced"] | always


@pytest.mark.parametrize("paper", PAPERS)
def test_reduced_counts_may_be_laid_over_the_papers_settings_that_they_include(paper):
    reduced = mini.REPOSITORY / "experiments" / paper / "reduced.yaml"
    papers = mini.REPOSITORY / "config" / "papers.yaml"
    assert read_files(papers, reduced) == read_files(reduced)


def test_every_experiment_is_a_target_with_its_title(shipped):
    listed = mini.snakemake(shipped, "--list").stdout.splitlines()
    for name in PAPERS:
        config = read_files(mini.REPOSITORY / "experiments" / name / "experiment.yaml")
        assert f"{name} ({config['experiments'][name]['title']})" in listed
    assert {line.partition(" ")[0] for line in listed} >= {*PAPERS, "all"}


# Jobs of a paper at the quick scale that start torch: those of all rules but these and figures.
WITHOUT_TORCH = ("images", "rows", "table")


@pytest.mark.parametrize("paper", PAPERS)
def test_the_quick_scale_stays_within_its_budget(shipped, paper):
    jobs = Counter(mini.counts(shipped, paper))
    light = [rule for rule in jobs if rule.startswith("figures_")] + [*WITHOUT_TORCH, paper]
    with_torch = jobs - Counter({rule: jobs[rule] for rule in light})
    assert sum(with_torch.values()) <= JOBS[paper]["quick_with_torch_at_most"]


def test_a_target_per_paper_and_all_of_them(shipped):
    together = Counter(mini.counts(shipped, *PAPERS))
    assert together - Counter(PAPERS) == Counter(COUNTS["config"]) - Counter(["all"])


def test_paths_are_targets(small):
    exported = f"{mini.ROOT}/seed0/digits/exported/pgd@cnn/test.h5"
    adaptive = f"{mini.ROOT}/seed0/digits/adversarial/pgd@cnn+direct/test.h5"
    assert mini.planned(small, exported, adaptive) == {
        *(f"images/digits/{split}" for split in ("train", "held_out", "test")),
        "classifiers/cnn",
        "chosen/pgd/cnn",
        "adversarial/pgd@cnn/test",
        "exported/pgd@cnn/test",
        "adversarial/fgsm@cnn/train",
        "denoisers/dae",
        "adversarial/pgd@cnn+direct/test",
    }


def test_a_path_of_another_scale_is_refused(small):
    refused = mini.snakemake(small, "--dry-run", "results/papers/tables/defence/accuracy.csv")
    assert refused.returncode == 1
    assert refused.stdout.splitlines()[-1] == (
        "results/papers/tables/defence/accuracy.csv: belongs to scale 'papers', but the "
        "configuration is of 'mini'; give the --configfile of that scale"
    )


def test_entries_of_a_second_file_get_their_columns(small):
    arguments = ("--configfile", "config/config.yaml", "mine.yaml")
    assert mini.planned(small, *arguments) - mini.planned(small) == {
        "adversarial/shaken@cnn/test",
        "predictions/purified/twice/cnn/test",
        "iqr/shaken@cnn/slic/cnn/test",
        "detection/detected/vectors/slic/cnn/test",
    }


def test_a_missing_data_root_is_told_when_a_run_starts(small):
    arguments = ("--configfile", "config/config.yaml", "from_a_root.yaml")
    assert mini.counts(small, *arguments)["images"] == 5
    started = mini.snakemake(small, "--cores", "1", *arguments)
    assert started.returncode == 1
    printed = [line for line in started.stdout.splitlines() if line.startswith("data_root: ")]
    assert printed == [
        "data_root: not set, but data set 'mnist' is read from it; "
        "give your image folder with `--config data_root=FOLDER`"
    ]
    assert "Traceback" not in started.stdout
    assert not list(small.glob("results/mini/*"))
    assert not list(small.glob(".snakemake/locks/*"))
    assert not list(small.glob(".snakemake/running/*"))


def test_a_mistake_is_told_before_any_job(small):
    broken = small / "broken.yaml"
    broken.write_text("attacks: {fgsm: {settings: {epsilom: 0.1}}}")
    started = mini.snakemake(
        small, "--cores", "1", "--configfile", "config/config.yaml", broken.name
    )
    assert started.returncode == 1
    printed = [line for line in started.stdout.splitlines() if line.startswith("attacks.fgsm")]
    assert printed == [
        "attacks.fgsm.settings.epsilom: gradient.fgsm has no such setting; did you mean 'epsilon'?"
    ]
    assert "Traceback" not in started.stdout
    assert not (small / "results").exists()


def test_the_graph_is_drawn(small):
    drawn = mini.snakemake(small, "--rulegraph").stdout
    drawn = drawn[drawn.index("digraph") :]
    for rule in ("images", "train_classifier", "attack", "iqr", "detect", "table", "all"):
        assert f'label = "{rule}"' in drawn


def test_a_job_runs_from_another_folder_with_a_bare_environment(small, tmp_path):
    target = f"{mini.ROOT}/images/digits/test.h5"
    command = [sys.executable, "-m", "snakemake", "--cores", "1", target]
    options = ["--snakefile", str(small / "Snakefile"), "--directory", str(tmp_path)]
    bare = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    subprocess.run([*command, *options], env=bare, cwd=tmp_path, check=True, timeout=mini.PATIENCE)
    assert (tmp_path / target).exists()
    effective = yaml.safe_load((tmp_path / mini.ROOT / "config.yaml").read_text(encoding="utf-8"))
    expected = dict(flow().config)
    del expected["left_out"]  # computed, and not written
    for config in (effective, expected):  # of a file of the copy's own folder
        assert config["experiments"]["detection"]["tables"]["cost"].pop("function")
    assert effective == expected


# ---------------------------------------------------------------- without Snakemake


def test_wildcards_match_the_configured_names_alone():
    patterns = flow().constraints()
    right = {
        "threat": ["clean", "fgsm@cnn", "pgd@cnn+direct"],
        "split": ["train", "held_out", "test"],
        "suite": ["purified", "detected"],
        "experiment": ["defence", "detection"],
        "purifier": ["none", "direct"],
        "seed": ["0", "12"],
    }
    wrong = {
        "threat": ["fgsm", "fgsm@dae", "clean@cnn", "fgsm@cnn+", "fgsmm@cnn", "fgsm@cnn+other"],
        "split": ["valid", "te"],
        "suite": ["purifie", "none"],
        "experiment": ["papers"],
        "purifier": ["dae"],
        "seed": ["", "a", "0.5"],
    }
    for name, texts in right.items():
        assert all(re.fullmatch(patterns[name], text) for text in texts), name
    for name, texts in wrong.items():
        assert not any(re.fullmatch(patterns[name], text) for text in texts), name


def test_no_name_of_an_empty_kind_matches(quick):
    del quick["detectors"]
    for experiment in quick["experiments"].values():
        for part in ("tables", "figures"):
            products = experiment.get(part, {})
            experiment[part] = {k: v for k, v in products.items() if "detection" not in v}
    pattern = Flow(configuration.read(quick)).constraints()["detector"]
    assert not re.fullmatch(pattern, "")


def test_every_paper_has_its_own_targets(quick):
    graph = Flow(configuration.read(quick))
    targets = [path for paper in PAPERS for path in graph.targets(paper)]
    assert len(targets) == len(set(targets)) == 3 * 44 + 1 + 30
    assert all(path.startswith("results/quick/") for path in targets)
    with pytest.raises(BadInput, match="'mien' is not configured"):
        graph.targets("mien")


def job(graph: Flow, rule: str, **names):
    return graph.job(rule, {"seed": "0", "dataset": "patches", "split": "test"} | names)


def test_an_attack_reads_what_its_threat_knows(quick):
    graph = Flow(configuration.read(quick))
    folder = "results/quick/seed0/patches"
    plain = {
        "images": "results/quick/images/patches/test.h5",
        "victim": f"{folder}/classifiers/resnet18.safetensors",
    }
    assert job(graph, "attack", threat="bounded@resnet18").inputs == plain
    transferred = {
        "victim": f"{folder}/classifiers/inception_early.safetensors",
        "surrogate": f"{folder}/classifiers/resnet18.safetensors",
        "chosen": [f"{folder}/chosen/black_box/inception_early.json"],
    }
    assert job(graph, "attack", threat="black_box@inception_early").inputs == plain | transferred
    denoiser = {"denoiser": f"{folder}/denoisers/red.safetensors"}
    adaptive = job(graph, "attack", threat="bpda@resnet18+best_direct")
    assert adaptive.inputs == plain | denoiser


LOOKING = """
classifiers:
  seer:
    function: vgg.vgg16
    training: {function: plain.classify, epochs: 0, batch: 8, optimiser: {name: sgd, lr: 0.1}}
denoisers:
  dae: {training: {function: features.reconstruct, network: seer}}
"""


def test_a_denoiser_s_job_reads_the_network_that_its_training_looks_at():
    names = {"dataset": "digits", "seed": "0", "denoiser": "dae"}
    without, looking = flow(), flow(LOOKING)
    before, now = (graph.job("train_denoiser", names) for graph in (without, looking))
    network = "results/mini/seed0/digits/classifiers/seer.safetensors"
    assert now.inputs == before.inputs | {"network": network}
    assert now.settings["network"]["function"] == "vgg.vgg16"
    assert now.settings["network"]["training"]["epochs"] == 0
    assert "network" not in before.settings
    assert ("classifiers", looking.config["classifiers"]["seer"]) in now.components
    assert looking.code("train_denoiser")(names) != without.code("train_denoiser")(names)


STARTING = """
classifiers:
  early: &cnn
    function: convnets.lenet
    settings: {channels: [4, 8], hidden: 16}
    training: {function: plain.classify, epochs: 1, batch: 8, optimiser: {name: sgd, lr: 0.1}}
  late:
    <<: *cnn
    training:
      function: plain.classify
      epochs: 2
      batch: 8
      optimiser: {name: sgd, lr: 0.1}
      start: early
      stop: {measured_on: train, accuracy: 0.9}
denoisers:
  tuned:
    function: autoencoders.seven_layer
    settings: {channels: [4, 2]}
    trained_on: [{threat: fgsm@late, share: 1}]
    training: &training
      function: plain.reconstruct
      epochs: 1
      batch: 8
      optimiser: {name: sgd, lr: 0.1}
      start: dae
"""


@pytest.mark.parametrize(
    ("rule", "kind", "name", "start"),
    [
        ("train_classifier", "classifiers", "late", "early"),
        ("train_denoiser", "denoisers", "tuned", "dae"),
    ],
)
def test_a_training_reads_the_weights_that_it_starts_from(rule, kind, name, start):
    graph = flow(STARTING)
    result = graph.job(rule, {"dataset": "digits", "seed": "0", rule.partition("_")[2]: name})
    assert result.inputs["start"] == f"results/mini/seed0/digits/{kind}/{start}.safetensors"
    assert result.settings["start"]["name"] == start
    assert result.settings["start"]["training"]["epochs"] in (1, 3)
    other = graph.job(rule, {"dataset": "digits", "seed": "0", rule.partition("_")[2]: start})
    assert "start" not in other.inputs and "start" not in other.settings


def test_what_starts_from_an_entry_of_other_data_sets_is_left_out():
    more = """
datasets: {more: {function: embedded.digits, splits: {held_out: {size: 10}, test: {size: 20}}}}
denoisers: {dae: {trained_on: [{threat: other@cnn, share: 1}]}}
attacks: {other: {function: gradient.fgsm, settings: {epsilon: 0.1}, datasets: [digits]}}
"""
    graph = flow(STARTING, more)
    assert fits(graph.config, "denoisers", "tuned", "digits")
    assert not fits(graph.config, "denoisers", "tuned", "more")


def test_an_adaptive_suite_meets_each_purifier_with_the_attack_on_it():
    graph = flow("suites: {purified: {threats: [clean, pgd+]}}")
    for purifier, threat in (("direct", "pgd@cnn+direct"), ("none", "pgd@cnn")):
        names = {"dataset": "digits", "suite": "purified", "classifier": "cnn"}
        evaluated = job(graph, "evaluate", purifier=purifier, **names)
        assert evaluated.settings["threats"] == ["clean", threat]
        folder = "results/mini/seed0/digits/adversarial"
        assert evaluated.inputs["adversarial"] == [f"{folder}/{threat}/test.h5"]
    names = {"dataset": "digits", "suite": "purified", "classifier": "cnn"}
    assert job(graph, "distances", **names).settings["pairs"] == [
        ["clean", "none"],
        ["pgd@cnn", "none"],
        ["clean", "direct"],
        ["pgd@cnn+direct", "direct"],
    ]


def test_what_is_not_for_a_data_set_is_left_out_and_told(own):
    table = own["experiments"]["mine"]["tables"]["accuracy"]
    table["predictions"]["dataset"] = ["patches", "digits"]
    result = Flow(configuration.read(own)).job("table", {"experiment": "mine", "table": "accuracy"})
    folder = "results/quick/seed0/patches/predictions/steps"
    assert result.inputs["predictions"] == [
        f"{folder}/none/resnet18/test.parquet",
        f"{folder}/direct_bimodal/resnet18/test.parquet",
    ]
    assert result.settings["left_out"] == ["classifiers resnet18: not for data set digits"]


def test_seeds_are_replicates_and_may_be_an_experiments_own():
    graph = flow("{seeds: [0, 1], experiments: {detection: {seeds: [7]}}}")
    layers = graph.job("table", {"experiment": "defence", "table": "layers"})
    name = "digits/distances/purified/cnn/test.parquet"
    assert layers.inputs["distances"] == [f"results/mini/seed{seed}/{name}" for seed in (0, 1)]
    (scores,) = graph.job("table", {"experiment": "detection", "table": "auc"}).inputs["detection"]
    assert scores.startswith("results/mini/seed7/")


def test_settings_are_sorted_json_without_places():
    def settings(graph):
        names = {"seed": "0", "dataset": "digits", "threat": "fgsm@cnn", "split": "test"}
        return graph.settings("attack")(names)

    printed = settings(flow())
    assert printed == json.dumps(json.loads(printed), sort_keys=True)
    assert "results/" not in printed
    assert settings(flow("{data_root: /somewhere, batch: 64}")) == printed
    assert settings(flow("attacks: {fgsm: {settings: {epsilon: 0.3}}}")) != printed


def test_a_split_is_told_of_those_that_it_is_drawn_from_alone(quick):
    quick["datasets"]["digits"]["splits"]["studied"] = {"of": "test", "size": 60}
    graph = Flow(configuration.read(quick))

    def splits(split):
        settings = graph.job("images", {"dataset": "digits", "split": split}).settings
        return list(settings["entry"]["splits"])

    assert splits("studied") == ["studied", "test"]
    assert splits("test") == ["test"]
    assert splits("train") == ["held_out"]


def test_a_start_checks_the_data_and_writes_the_configuration(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    graph = flow(FROM_A_ROOT)

    def images(dataset):
        wildcards = SimpleNamespace(dataset=dataset)
        return SimpleNamespace(rule=SimpleNamespace(name="images"), wildcards=wildcards)

    with pytest.raises(BadInput, match="data_root: not set"):
        graph.start([images("digits"), images("mnist")])
    assert not list(tmp_path.iterdir())
    graph.start([images("digits"), SimpleNamespace(rule=SimpleNamespace(name="table"))])
    path = tmp_path / mini.ROOT / "config.yaml"
    written = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert {**written, "left_out": graph.config["left_out"]} == graph.config
    assert list(path.parent.iterdir()) == [path]


def test_jobs_find_this_interpreter_and_this_code(monkeypatch):
    monkeypatch.setenv("PATH", "/usr/bin")
    monkeypatch.setenv("PYTHONPATH", "/theirs")
    for _ in range(2):
        graph_of.prepare_environment()
        assert os.environ["PATH"] == f"{os.path.dirname(sys.executable)}:/usr/bin"
        assert os.environ["PYTHONPATH"] == f"{mini.REPOSITORY}/src:/theirs"


def test_the_digest_of_a_job_is_of_the_components_that_it_runs():
    graph = flow("attacks: {shaken: {function: noise.uniform, settings: {epsilon: 0.1}}}")

    def code(threat, **more):
        names = {"seed": "0", "dataset": "digits", "threat": threat, "split": "test"}
        return graph.code("attack")(names | more)

    assert code("fgsm@cnn") == code("pgd@cnn", seed="1")
    assert code("fgsm@cnn") != code("shaken@cnn")
    assert code("fgsm@cnn") != code("fgsm@cnn+direct")


def test_a_data_set_of_large_images_has_a_batch_of_its_own(quick):
    quick["datasets"]["patches"]["batch"] = 4
    graph = Flow(configuration.read(quick))
    assert job(graph, "attack", threat="bounded@resnet18").settings["batch"] == 4
    small = {"seed": "0", "dataset": "digits", "split": "test", "threat": "pgd@cnn4"}
    assert graph.job("attack", small).settings["batch"] == quick["batch"] == 128
