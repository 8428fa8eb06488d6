"""What Snakemake prints of mistakes: one sentence, as its last line, and no places in code."""

import re

import pytest

from tests import mini


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = mini.copy_code(tmp_path_factory.mktemp("messages") / "code")
    (folder / "twice.yaml").write_text("attacks:\n  fgsm: {}\nbatch: 3\nattacks:\n  pgd: {}\n")
    (folder / "apart.yaml").write_text(
        "datasets: {more: {function: embedded.digits}}\n"
        "attacks: {pgd: {datasets: [digits]}, fgsm: {datasets: [digits]}}\n"
        "denoisers: {dae: {datasets: [digits]}}\n"
        "experiments: {defence: {tables: {accuracy: {predictions: {dataset: [digits, more]}}}}}\n"
    )
    return folder


def last_line(folder, *arguments: str) -> str:
    """The last line of what a dry run that is refused prints."""
    shown = mini.snakemake(folder, "--dry-run", *arguments)
    assert shown.returncode == 1, shown.stdout
    for word in ("Traceback", "Exception", "WorkflowError", ".smk", 'File "'):
        assert word not in shown.stdout, shown.stdout
    return shown.stdout.rstrip().splitlines()[-1]


def test_a_key_given_twice(folder):
    assert last_line(folder, "--configfile", "config/config.yaml", "twice.yaml") == (
        "twice.yaml: attacks: the key is given twice, in lines 1 and 4; give it once"
    )


def test_an_experiment_that_is_not_configured(folder):
    assert last_line(folder, "defense") == "defense: is no target; did you mean 'defence'?"


def test_a_table_off_by_two_letters(folder):
    path = f"{mini.ROOT}/tables/defence/acuracie.csv"
    assert last_line(folder, path) == (
        f"{path}: experiment 'defence' has no table 'acuracie'; did you mean 'accuracy'?"
    )


def test_a_table_of_another_experiment(folder):
    path = f"{mini.ROOT}/tables/detection/accuracy.csv"
    assert last_line(folder, path).endswith(
        "'detection' has no table 'accuracy'; there are: auc, cost"
    )


def test_options_of_several_values_and_what_is_left_out(folder):
    more = ("--configfile", "config/config.yaml", "apart.yaml", "--config", "seeds=[0, 1]")
    shown = mini.snakemake(folder, "--dry-run", *more, "--quiet", "rules")
    assert shown.returncode == 0, shown.stdout
    assert re.search(r"^train_classifier +4$", shown.stdout, re.M)  # two data sets, two seeds
    left_out = re.findall(r"^Left out: (.*)\.$", shown.stdout, re.M)
    assert left_out == [
        "purifiers direct: not for data set more",
        "threat fgsm of suite purified: not for data set more",
    ]
