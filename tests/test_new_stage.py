"""A stage of your own touches its rule, its script, its declaration and its stage module."""

import json

from tests import mini

RULE = '''
rule count:
    """How many images each class of a split has."""
    input:
        images=flow.files("count", "images"),
    output:
        "<results>/seed{seed}/{dataset}/counts/{split}.json",
    log:
        "<logs>/count/{seed}/{dataset}/{split}.log",
    params:
        settings=flow.settings("count"),
        code=flow.code("count"),
        files=as_options,
    shell:
        "python -P {SCRIPTS}/count.py --settings {params.settings:q} {params.files}"
        " --output {output} --log {log}"
'''
SCRIPT = """
from advdenoise.stages.command import importing, main

with importing():
    from advdenoise.stages.count import run

if __name__ == "__main__":
    main(run)
"""
DECLARATION = '''
"""The count stage: how many images each class of a split has."""

from advdenoise.graph.jobs import Entries, Job

OUTPUTS = ("seed{seed}/{dataset}/counts/{split}.json",)
FORMAT = 1


def job(entries: Entries, seed: str, dataset: str, split: str) -> Job:
    settings = {"seed": int(seed), "dataset": dataset, "split": split}
    return Job({"images": entries.images(dataset, split)}, settings, [])
'''
STAGE = '''
"""The count stage: how many images each class of a split has."""

import time
from pathlib import Path

import numpy as np

from advdenoise.io.json_files import write_json
from advdenoise.io.provenance import collect_provenance
from advdenoise.stages.data import open_images


def run(settings: dict, images: Path, output: Path) -> None:
    """Write the number of images of each class."""
    started = time.time()
    with open_images(images) as opened:
        counts = np.bincount(opened.labels, minlength=len(opened.classes)).tolist()
    write_json(output, {"counts": counts}, collect_provenance(settings, started))
'''
FILES = {
    "rules/count.smk": RULE,
    "scripts/count.py": SCRIPT,
    "src/advdenoise/graph/declarations/count.py": DECLARATION,
    "src/advdenoise/stages/count.py": STAGE,
}


def test_a_new_stage_runs_and_verifies(tmp_path):
    folder = mini.copy_code(tmp_path / "code")
    for name, text in FILES.items():
        (folder / name).write_text(text.lstrip(), encoding="utf-8")
    target = f"{mini.ROOT}/seed0/digits/counts/test.json"
    done = mini.snakemake(folder, "--cores", "1", target)
    assert done.returncode == 0, done.stdout
    counts = json.loads((folder / target).read_text(encoding="utf-8"))["value"]["counts"]
    assert len(counts) == 10 and sum(counts) == 64
    assert "Nothing to be done" in mini.snakemake(folder, "--cores", "1", target).stdout
    # Another stage's digests are as before.
    assert set(mini.planned(folder, f"{mini.ROOT}/images/digits/test.h5")) == set()
