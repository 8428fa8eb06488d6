"""Both commands of a plan on the mini configuration, from measuring to what a run then took."""

import shutil

import pytest

from tests import mini
from tools.plan import __main__ as plan
from tools.plan import costs, unit_costs
from tools.plan import measure as measuring


@pytest.fixture
def folder(tmp_path, monkeypatch):
    result = mini.copy_code(tmp_path / "code")
    monkeypatch.chdir(result)
    monkeypatch.setenv("PYTHONPATH", str(result / "src"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(measuring, "_SECONDS", 1e-6)
    return result


def printed(capsys, *arguments: str) -> str:
    assert plan.main(list(arguments)) == 0
    return capsys.readouterr().out


def test_a_plan_before_anything_was_measured_says_what_to_run(folder, capsys):
    text = printed(capsys, f"{mini.ROOT}/tables/detection/auc.csv")
    assert "10 jobs are left out" in text
    assert "`python -m tools.plan.unit_costs` measures them" in text


def test_a_mistake_is_one_sentence(folder, capsys):
    for script in (plan, unit_costs):
        assert script.main(["--configfile", "missing.yaml"]) == 1
        assert capsys.readouterr().err == ("missing.yaml: does not exist; name a YAML file\n")


@pytest.mark.slow
def test_a_plan_before_and_after_a_run(folder, capsys, tmp_path_factory):
    assert unit_costs.main([]) == 0
    assert (folder / "benchmarks/units/cpu.json").exists()
    capsys.readouterr()
    before = printed(capsys)
    assert before.startswith("25 jobs of the scale mini. No GPU has been measured")
    assert "25 counted" in before
    run = mini.finished(tmp_path_factory.mktemp("plan"))
    for part in ("results", "benchmarks/mini"):
        shutil.copytree(run / part, folder / part)
    assert printed(capsys) == "Nothing is to be run: all that is asked for is there.\n"
    assert "25 measured" in printed(capsys, "--everything")
    ratios = printed(capsys, "--check")
    assert "attack" in ratios
    # What is missing is brought to what like jobs took.
    target = f"{mini.ROOT}/seed0/digits/adversarial/pgd@cnn/train.h5"
    assert "1 fitted" in printed(capsys, target)
    assert costs.main([]) == 0  # unit costs are no jobs
