"""Targets that no rule makes: one sentence with the name that is wrong and a near one."""

import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from advdenoise.errors import BadInput
from advdenoise.graph import configuration
from advdenoise.graph.flow import Flow
from advdenoise.graph.targets import check_target, explained
from advdenoise.graph.yaml_files import read_files
from tests import mini

RULES = Path(__file__).parents[2] / "rules"


@pytest.fixture(scope="module")
def flow() -> Flow:
    return Flow(configuration.read(read_files(mini.CONFIG)))


def outputs(flow: Flow) -> list[str]:
    """The rules' paths, as their files say them, and the figures'."""
    text = "\n".join(path.read_text(encoding="utf-8") for path in sorted(RULES.glob("*.smk")))
    paths = re.findall(r'"(<results>/[^"]*)"', text)
    constrained = [path.replace("{seed}", "{seed,[0-9]{1,2}}") for path in paths]
    own = [path.replace("<results>", flow.root) for path in constrained]
    return own + [
        path for paper in flow.config["experiments"] for path in flow.figures(paper).values()
    ]


# A target below results/mini and what the one sentence must hold.
WRONG = {
    "tables/defence/acuracy.csv": ["'acuracy'", "did you mean 'accuracy'?"],
    "tables/defnce/accuracy.csv": ["experiment 'defnce'", "'defence'"],
    "tables/detection/accuracy.csv": ["'detection' has no table 'accuracy'"],
    "tables/defence/explorer.csv": ["another format", "explorer.parquet"],
    "tables/defence/accuracy.parquet": ["another format", "accuracy.csv"],
    "figures/defence/strip.svg": ["figures/defence/strips.svg?"],
    "images/digits/tset.h5": ["split 'tset'", "'test'"],
    "images/digit/test.h5": ["data set 'digit'", "'digits'"],
    "seed0/digits/classifiers/cnm.safetensors": ["classifier 'cnm'", "'cnn'"],
    "seed0/digits/denoisers/dea.safetensors": ["denoiser 'dea'", "'dae'"],
    "seed0/digits/adversarial/fgsn@cnn/test.h5": ["'fgsn'", "attacks", "'fgsm'"],
    "seed0/digits/adversarial/fgsm/test.h5": ["no victim", "fgsm@classifier"],
    "seed0/digits/adversarial/fgsm@cnn+drct/test.h5": ["'drct'", "purifiers", "'direct'"],
    "seed0/digits/adversarial/@@/test.h5": ["'@@' is no threat"],
    "seed00/digits/exported/clean/test.h5": ["'00' is no seed"],
    "seed0/digits/predictions/purifed/none/cnn/test.parquet": ["suite 'purifed'", "'purified'"],
    "other.txt": ["no rule makes that", "results/mini/tables"],
}


@pytest.mark.parametrize(("target", "expected"), WRONG.items(), ids=WRONG)
def test_a_wrong_part_of_a_path_is_told(flow, target, expected):
    with pytest.raises(BadInput) as mistake:
        check_target(flow, f"{flow.root}/{target}", [], outputs(flow))
    sentence = str(mistake.value)
    assert sentence.startswith(f"{flow.root}/{target}: ") and "\n" not in sentence
    for part in expected:
        assert part in sentence


def test_paths_that_rules_make_are_taken(flow):
    for target in [
        *flow.products("defence"),
        f"{flow.root}/seed17/digits/adversarial/pgd@cnn+direct/held_out.h5",
        f"{flow.root}/seed0/digits/exported/clean/test.h5",
    ]:
        check_target(flow, target, [], outputs(flow))


@pytest.mark.parametrize(
    ("key", "entry"),
    {
        "tables.layers": None,  # as a file takes out what one below has
        "tables.worst": {"function": "accuracy.worst_case"},  # crosses nothing
        "figures.strips": None,
    }.items(),
)
def test_a_table_or_figure_that_the_configuration_leaves_out(key, entry):
    raw = read_files(mini.CONFIG)
    part, name = key.split(".")
    raw["experiments"]["defence"][part][name] = entry
    raw["experiments"]["defence"]["figures"]["others"] = {
        **read_files(mini.CONFIG)["experiments"]["defence"]["figures"]["strips"]
    }
    flow = Flow(configuration.read(raw))
    suffix = {"tables": "csv", "figures": "svg"}[part]
    target = f"{flow.root}/{part}/defence/{name}.{suffix}"
    right = {"tables": "accuracy, calibration, explorer", "figures": "others"}[part]
    with pytest.raises(BadInput) as mistake:
        check_target(flow, target, [], outputs(flow))
    assert str(mistake.value).startswith(
        f"{target}: experiments.defence.{key} is left out at this scale, where it is null or reads "
        f"nothing; say there what it reads, or take one of {right}"
    )


def test_names_of_rules_and_experiments(flow):
    check_target(flow, "all", ["all", "defence"], [])
    with pytest.raises(BadInput, match="^defense: is no target; did you mean 'defence'"):
        check_target(flow, "defense", ["all", "defence"], [])
    with pytest.raises(BadInput, match=r"belongs to scale 'papers', .* of 'mini'"):
        check_target(flow, "results/papers/tables/defence/accuracy.csv", [], outputs(flow))


def test_only_the_message_of_a_missing_rule_is_replaced(flow):
    explain = explained(flow, SimpleNamespace(rules=[]))
    said = (
        "MissingRuleException:\nNo rule to produce defence (if you use input functions make sure)."
    )

    def message(exception: str) -> str:
        record = SimpleNamespace(exception=exception, msg=said, args=(), getMessage=lambda: said)
        assert explain(record)
        return record.msg

    assert message("MissingRuleException").startswith("defence: is no target")
    assert message("WorkflowError") == said
