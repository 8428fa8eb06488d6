import os
from pathlib import Path

import pytest

from advdenoise.errors import DamagedFile
from tools.plan import budget, costs, listing
from tools.plan.listing import PlannedJob

HEADER = "s\th:m:s\tmax_rss\tmax_vms\tmax_uss\tmax_pss\tio_in\tio_out\tmean_load\tcpu_time\n"


def write(path, *rows):
    """A benchmark file with (wall seconds, memory, CPU seconds) as Snakemake writes them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [f"{s}\t0:00:00\t{rss}\t0\t0\t0\t0\t0\t0\t{cpu}\n" for s, rss, cpu in rows]
    path.write_text(HEADER + "".join(lines))


@pytest.mark.parametrize(
    ("wall", "sampled", "core"),
    [
        ("10.00", "8.00", 8.0),  # sampled at the very end
        ("4.25", "4.00", 4.25),
        ("0.30", "0.20", 0.2),
        ("44.00", "15.00", 44.0),  # sampled last after 15 of the 44 seconds
        ("46.00", "90.00", 92.0),
        ("0.20", "NA", 0.2),  # over before the first sample
    ],
)
def test_cpu_time_is_carried_on_from_the_last_sample(tmp_path, wall, sampled, core):
    write(tmp_path / "job.tsv", (wall, "1" if sampled != "NA" else "NA", sampled))
    assert budget.read(tmp_path / "job.tsv").core_seconds == pytest.approx(core)


def test_jobs_add_up_by_rule(tmp_path):
    write(tmp_path / "attack" / "0" / "digits" / "a.tsv", ("10.00", "300.50", "20.00"))
    write(tmp_path / "attack" / "0" / "digits" / "b.tsv", ("5.00", "400.00", "5.00"))
    write(tmp_path / "images" / "c.tsv", ("1.00", "100.00", "1.00"), ("2.00", "90.00", "2.00"))
    costs = budget.collect(tmp_path)
    assert costs == {"attack": (2, 25.0, 15.0, 400.0), "images": (1, 3.0, 3.0, 100.0)}
    assert budget.total(costs.values()) == (3, 28.0, 18.0, 400.0)
    assert [line.split()[0] for line in budget.lines(costs)] == [
        "rule",
        "attack",
        "images",
        "total",
    ]


def test_the_script_prints_every_scale(tmp_path, capsys):
    write(tmp_path / "quick" / "attack" / "a.tsv", ("10.00", "300.00", "20.00"))
    write(tmp_path / "papers" / "attack" / "a.tsv", ("10.00", "300.00", "20.00"))
    assert costs.main(["--benchmarks", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert f"{tmp_path}/quick:" in printed
    assert f"{tmp_path}/papers:" in printed
    assert costs.main(["--benchmarks", str(tmp_path), "--scale", "quick"]) == 0
    assert "papers" not in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [[], ["--scale", "quick"]])
def test_without_benchmark_files_it_says_what_to_run(tmp_path, capsys, arguments):
    assert costs.main(["--benchmarks", str(tmp_path), *arguments]) == 1
    assert "run `make quick` first" in capsys.readouterr().err


@pytest.mark.parametrize(
    "text", ["nonsense\n1\n", HEADER.replace("cpu", "gpu") + "1\n", HEADER + "1\n"]
)
def test_another_kind_of_file_is_named(tmp_path, text):
    path = tmp_path / "job.tsv"
    path.write_text(text)
    with pytest.raises(DamagedFile, match=r"job\.tsv"):
        budget.read(path)


ROW = "1\t0:00:00\t2\t0\t0\t0\t0\t0\t0\t3\n"
DAMAGE = {
    "infinite": lambda path: path.write_text(HEADER + ROW.replace("1", "inf")),
    "no time": lambda path: path.write_text(HEADER + ROW.replace("1", "0")),
    "negative": lambda path: path.write_text(HEADER + ROW.replace("1", "-1")),
    "not a number": lambda path: path.write_text(HEADER + ROW.replace("1", "nan")),
    "CPU time": lambda path: path.write_text(HEADER + ROW.replace("3", "-3")),
    "memory": lambda path: path.write_text(HEADER + ROW.replace("2", "inf")),
    "a text": lambda path: path.write_text("no numbers"),
    "no job": lambda path: path.write_text(HEADER),
    "empty": lambda path: path.touch(),
    "bytes": lambda path: path.write_bytes(b"\xff\xfe\x00"),
    "a folder": lambda path: path.mkdir(),
    "a pipe": lambda path: os.mkfifo(path),
    "a link": lambda path: path.symlink_to("nowhere"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_told_and_left_out(tmp_path, capsys, caplog, damage):
    folder = tmp_path / "quick" / "attack"
    write(folder / "a.tsv", ("10.00", "300.00", "20.00"))
    DAMAGE[damage](folder / "b.tsv")
    assert costs.main(["--benchmarks", str(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines()[-1].split()[:2] == ["total", "1"]
    (line,) = caplog.messages
    assert line.startswith(f"Left out: {folder}/b.tsv is no benchmark file")
    (folder / "a.tsv").unlink()
    assert costs.main(["--benchmarks", str(tmp_path)]) == 1
    assert f"{folder}/b.tsv is no benchmark file" in capsys.readouterr().err


def test_of_a_target_its_jobs_count_and_no_others(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(Path("a.tsv"), ("10.00", "300.00", "20.00"))
    write(Path("b.tsv"), ("5.00", "400.00", "5.00"))
    write(Path("c.tsv"), ("5.00", "400.00", "5.00"))
    jobs = [
        PlannedJob(rule, {}, (), (f"{rule}.out",), file, 0, None)
        for rule, file in (("attack", "a.tsv"), ("figures_mine", "b.tsv"), ("flags", None))
    ]
    calls = []
    monkeypatch.setattr(listing, "dry_run", lambda *a, **k: calls.append((a, k)) or jobs)
    assert costs.main(["--configfile", "mine.yaml", "--", "mine"]) == 0
    assert calls == [((["mine"], ["mine.yaml"], []), {"everything": True})]
    printed = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert printed[0] == ["mine:"]
    assert [line[:3] for line in printed[2:]] == [
        ["attack", "1", "20.0"],
        ["figures", "1", "5.0"],
        ["total", "2", "25.0"],
    ]


def test_a_job_that_has_not_run_is_named(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    job = PlannedJob("attack", {}, (), ("some.h5",), "gone.tsv", 0, None)
    monkeypatch.setattr(listing, "dry_run", lambda *a, **k: [job])
    assert costs.main(["mine"]) == 1
    assert "gone.tsv: does not exist; run its job first" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--configfile", "mine.yaml"], ["--scale", "quick", "mine"]])
def test_options_that_would_change_nothing_are_refused(arguments, capsys):
    with pytest.raises(SystemExit):
        costs.main(arguments)
    assert arguments[0] in capsys.readouterr().err
