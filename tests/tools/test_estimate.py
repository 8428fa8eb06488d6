"""What is expected of jobs: known answers from made-up unit costs and benchmark files."""

import math
import os
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from advdenoise.errors import BadInput, DamagedFile
from advdenoise.io.json_files import write_json
from advdenoise.ops.files import remove
from tools.plan import estimate, report, units
from tools.plan.estimate import Figure
from tools.plan.listing import PlannedJob
from tools.plan.work import FIT, FORWARD, START, NotMeasured, Thing, Use, Work

GPU = "NVIDIA H200"
NET = Thing("classifiers", "convnets.lenet", "{}", (1, 28, 28, 10))
SCRIPT = Thing("scripts", "attack")
HEADER = "s\th:m:s\tmax_rss\tmax_vms\tmax_uss\tmax_pss\tio_in\tio_out\tmean_load\tcpu_time\n"


def file_of(device: str, seconds: float) -> dict:
    """Unit costs: one pass takes so long, a start 2 seconds."""
    costs = {FORWARD: {"seconds": seconds, "factor": 1.1}}
    start = {START: {"seconds": 2.0, "factor": 1.1}}
    things = {NET.key: {"parameters": 7, "costs": costs}, SCRIPT.key: {"costs": start}}
    return {"device": device, "things": things}


class Counting:
    """Counts as many passes as a job's name says, and a byte for each."""

    def settings(self, job):
        return {"name": job.outputs[0]}

    def of(self, job):
        passes = int(Path(job.outputs[0]).stem.split("-")[1])
        thing = NET._replace(function="unheard.of") if "unheard" in job.outputs[0] else NET
        uses = Counter({Use(thing, FORWARD): passes, Use(SCRIPT, START): 1})
        return Work(uses, passes, (job.wildcards.get("function", "f"),))


def job(name: str, *inputs: str, rule="attack", gpus=1, runtime=60, **wildcards) -> PlannedJob:
    return PlannedJob(rule, wildcards, inputs, (name,), f"{name}.tsv", gpus, runtime)


def ran(name: str, wall: float, core: float, device="cpu", setting=None) -> None:
    """The traces of a job that ran."""
    estimate_named = {"settings": {"name": setting or name, "more": 1}, "device": device}
    write_json(name, {"made": "0123456789"}, estimate_named)
    row = f"{wall}\t0:00:00\t1\t0\t0\t0\t0\t0\t0\t{core}\n"
    with open(f"{name}.tsv", "w", encoding="utf-8") as file:
        file.write(HEADER + row)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def expected(jobs, known=None, past=()):
    known = known or units.Units([file_of("cpu", 0.01)])
    estimator = estimate.Estimator(known, [(Counting(), list(past))])
    return estimator.of(Counting(), jobs)


# ---------------------------------------------------------------- unit costs


def test_costs_grow_with_rows_by_their_power():
    cost = units.Cost(2.0, 1.1, rows=100, power=1.5)
    assert cost.of(400) == pytest.approx(16.0)
    assert units.Cost(2.0, 1.1).of(0) == 2.0


def test_the_gpu_is_planned_for_where_one_was_measured():
    both = [file_of("cpu", 0.01), file_of(GPU, 0.001)]
    use = Use(NET, FORWARD)
    assert units.Units(both).cost(use).seconds == 0.001
    assert units.Units(both, "cpu").cost(use).seconds == 0.01
    assert units.Units(both[:1]).device == "cpu"
    assert units.Units([]).device == "cpu"
    with pytest.raises(BadInput, match=f"'H200' was not measured; there are: {GPU}, cpu"):
        units.Units(both, "H200")


def test_no_pass_of_a_cpu_stands_for_one_of_a_gpu():
    known = units.Units([file_of("cpu", 0.01), {"device": GPU, "things": {}}])
    with pytest.raises(NotMeasured, match=r"convnets\.lenet"):
        known.cost(Use(NET, FORWARD))
    assert known.cost(Use(SCRIPT, START)).seconds == 2.0
    assert known.fact(NET, "parameters") == 7
    with pytest.raises(NotMeasured):
        known.fact(SCRIPT, "parameters")


def test_a_second_measurement_is_laid_over_the_first(tmp_path):
    other = Thing("detectors", "svm.svc", "{}", (3,))
    first = file_of(GPU, 0.5)["things"]
    path = units.write(GPU, first, {"settings": {}}, tmp_path / "units")
    assert path.name == "nvidia-h200.json"
    fit = {FIT: {"seconds": 1.0, "factor": 1.1, "rows": 10, "power": 1.0}}
    units.write(GPU, {other.key: {"costs": fit}}, {"settings": {}}, tmp_path / "units")
    forward = {FORWARD: {"seconds": 0.25, "factor": 1.2}}
    units.write(GPU, {NET.key: {"costs": forward}}, {"settings": {}}, tmp_path / "units")
    known = units.Units(units.read(tmp_path / "units"))
    assert known.cost(Use(other, FIT, 20)).of(20) == 2.0
    assert known.cost(Use(NET, FORWARD)).seconds == 0.25
    assert known.fact(NET, "parameters") == 7
    assert units.read(tmp_path / "nowhere") == []


# ---------------------------------------------------------------- what is expected


def test_without_earlier_runs_what_is_counted_is_expected():
    (result,), unknown = expected([job("a-800")])
    assert result.seconds.value == pytest.approx(10.0)
    both = math.hypot(math.log(estimate.PASSES), math.log(1.1))  # the measurement's own
    assert result.seconds.factor == pytest.approx(math.exp(both))
    assert result.size == pytest.approx((0.25 * 800, 3.0))
    assert (result.source, unknown) == ("counted", {})


def test_what_was_not_measured_is_told_apart():
    unheard = job("unheard-1.json")
    estimates, unknown = expected([job("a-1"), unheard])
    assert [one.job.name for one in estimates] == ["a-1"]
    assert unknown == {NET._replace(function="unheard.of").key: [unheard]}
    ran("unheard-1.json", 5.0, 5.0)
    (_, again), unknown = expected([job("a-1"), unheard])
    assert (again.seconds.value, again.source, unknown) == (5.0, "measured", {})


def test_the_same_job_takes_what_it_took():
    ran("a-800.json", 40.0, 30.0)
    again = job("a-800.json")
    (result,), _ = expected([again], past=[again])
    assert result.seconds.value == pytest.approx(30.0 * 40 / 15)  # looked at after 15 seconds
    assert result.source == "measured"
    assert result.size.value == Path("a-800.json").stat().st_size


FILE = {"device": "cpu", "things": {"a": {"costs": {"forward": {"seconds": 1.0, "factor": 1.5}}}}}


def wrong_cost(**numbers):
    cost = {"seconds": 1.0, "factor": 1.5, **numbers}
    return FILE | {"things": {"a": {"costs": {"forward": cost}}}}


DAMAGE = {
    "text": lambda path: path.write_text("no numbers"),
    "empty": lambda path: path.touch(),
    "folder": lambda path: path.mkdir(),
    "pipe": lambda path: os.mkfifo(path),
    "link": lambda path: path.symlink_to("nowhere"),
    "list": lambda path: write_json(path, [1], {}),
    "negative": lambda path: write_json(path, wrong_cost(seconds=-1.0), {}),
    "NaN": lambda path: write_json(path, wrong_cost(seconds=math.nan), {}),
    "text for a number": lambda path: write_json(path, wrong_cost(factor="2"), {}),
    "no seconds": lambda path: write_json(path, FILE | {"things": {"a": {}}}, {}),
    "another name": lambda path: write_json(path, wrong_cost(hours=1), {}),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_unit_costs_name_what_measures_them(tmp_path, damage):
    path = units.path_of("cpu", tmp_path)
    DAMAGE[damage](path)
    words = f"^{path}: is damaged .*; delete it and run `python -m tools.plan.unit_costs`$"
    with pytest.raises(DamagedFile, match=words):
        units.read(tmp_path)
    with pytest.raises(DamagedFile, match=words):
        units.write("cpu", FILE["things"], {}, tmp_path)
    remove(path)
    units.write("cpu", FILE["things"], {}, tmp_path)
    assert units.read(tmp_path) == [FILE]


def test_other_settings_and_damaged_files_say_nothing(tmp_path):
    ran("a-800.json", 40.0, 40.0, setting="other")
    (result,), _ = expected([job("a-800.json")], past=[job("a-800.json")])
    assert result.source == "counted"
    ran("a-800.json", 40.0, 40.0)
    (tmp_path / "a-800.json").write_text("{}")
    (result,), _ = expected([job("a-800.json")], past=[job("a-800.json")])
    assert result.source == "counted"


def test_a_gpus_time_is_the_clocks_and_says_nothing_of_a_cpu():
    ran("a-800.json", 40.0, 30.0, GPU)
    (result,), _ = expected([job("a-800.json")])
    assert result.source == "counted"
    known = units.Units([file_of(GPU, 0.01)])
    (result,), _ = expected([job("a-800.json")], known)
    assert (result.seconds.value, result.source) == (40.0, "measured")


def test_jobs_like_those_that_ran_are_brought_to_their_ratio():
    past = [job(f"{name}-800.json") for name in "abc"]
    for one, seconds in zip(past, (13.0, 14.0, 15.0), strict=True):
        ran(one.name, seconds, seconds)
    (near,), _ = expected([job("new-800")], past=past)
    assert near.seconds.value == pytest.approx(14.0)
    assert near.source == "fitted"
    assert near.seconds.factor == pytest.approx(estimate.LEAST, rel=0.1)
    (far,), _ = expected([job("new-80000")], past=past)
    (other,), _ = expected([job("new-800", function="g")], past=past)
    assert far.seconds.factor == other.seconds.factor > near.seconds.factor
    (elsewhere,), _ = expected([job("new-800", rule="evaluate")], past=past)
    assert elsewhere.source == "counted"


@given(st.lists(st.tuples(st.floats(0.1, 1e4), st.floats(0.1, 1e4)), min_size=1, max_size=9))
def test_a_fit_lies_within_the_ratios_and_is_never_sure(pairs):
    result = estimate.fit(pairs, 2.0)
    ratios = [measured / counted for measured, counted in pairs]
    assert min(ratios) * 0.999 <= result.value <= max(ratios) * 1.001
    assert result.factor >= estimate.LEAST


def test_large_jobs_have_the_say():
    assert estimate.fit([(10, 1), (10, 1), (200, 100)], 2.0).value == pytest.approx(2.0)


def test_deviations_of_one_stage_add_up_and_those_of_two_do_not():
    same = estimate.total([("a", Figure(5, 2.0)), ("a", Figure(5, 2.0))])
    assert same == pytest.approx((10, 2.0))
    two = estimate.total([("a", Figure(5, 2.0)), ("b", Figure(5, 2.0))])
    assert two == pytest.approx((10, 2 ** (1 / math.sqrt(2))))
    assert estimate.total([]) == (0, 1)


def estimate_named(name, seconds, *inputs, factor=2.0, size=0.0, **of) -> estimate.Estimate:
    figures = Figure(seconds, factor), Figure(size, factor)
    return estimate.Estimate(job(name, *inputs, **of), *figures, "counted")


def test_the_longest_chain_goes_through_what_takes_longest():
    jobs = [
        estimate_named("end", 1, "left", "right", "there already"),
        estimate_named("left", 5, "start"),
        estimate_named("right", 2, "slow"),
        estimate_named("start", 1),
        estimate_named("slow", 3.5),
        estimate_named("apart", 6),
    ]
    assert [one.job.name for one in estimate.longest_chain(jobs)] == ["start", "left", "end"]
    assert estimate.longest_chain([]) == []


# ---------------------------------------------------------------- what is printed


def text(*estimates, device=GPU) -> str:
    return "\n".join(report.lines(estimates, device))


def test_stages_total_and_chain_are_printed():
    images = estimate_named("i", 36, rule="images", gpus=0, size=2e9)
    shown = text(images, estimate_named("a", 7200, "i"), estimate_named("b", 3600, "i", size=1e9))
    rows = [line.split() for line in shown.splitlines()]
    assert ["attack", "2", "3", "x2", "3", "x2", "1", "x2", "2", "h", "x2", "2", "counted"] in rows
    assert ["images", "1", "-", "0.01", "x2", "2", "x2", "36", "s", "x2", "1", "counted"] in rows
    assert "Longest chain: 2 h x2, 2 jobs one after the other:" in shown


def test_hours_of_a_gpu_are_not_made_up():
    shown = text(estimate_named("a", 7200), device="cpu")
    assert "not known" in shown
    assert "under a minute" not in shown
    cpu = SimpleNamespace(device="cpu", devices=["cpu"])
    (message,) = report.heading("papers", [estimate_named("a", 1)], cpu, "--configfile f.yaml")
    assert "No GPU has been measured" in message
    assert (
        "`python -m tools.plan.unit_costs --configfile f.yaml` on a machine that has one" in message
    )
    gpu = SimpleNamespace(device=GPU, devices=["cpu", GPU])
    assert (
        "GPU jobs on one NVIDIA H200 each"
        in report.heading("papers", [estimate_named("a", 1)], gpu, "")[0]
    )


def test_short_and_long_jobs_are_told():
    day = 24 * 3600
    long = [estimate_named(f"long{n:02}", (2 + n) * day, runtime=10**6) for n in range(12)]
    shown = text(
        estimate_named("a", 59),
        estimate_named("b", 61),
        estimate_named("c", 5, rule="images", gpus=0),
        *long,
    )
    assert "Jobs on a GPU expected to take under a minute: 1 of 14 (attack 1)" in shown
    assert "Jobs expected to take over a day: 12" in shown
    assert "  attack 13 d x2  long11" in shown
    assert "  and 2 more" in shown
    assert "Jobs expected to exceed their `runtime`: none" in shown


def test_jobs_beyond_their_runtime_are_named():
    shown = text(
        estimate_named("a", 3700),
        estimate_named("b", 1900),
        estimate_named("c", 1700),
        estimate_named("d", 1e6, runtime=None),
    )
    assert "Jobs expected to exceed their `runtime`: 1\n  attack 1 h x2 of 1 h  a" in shown
    assert "Jobs that may exceed it within their factor: attack 1" in shown


def test_what_was_not_measured_is_printed_with_the_remedy():
    message = report.missing({"classifiers x": [job("a"), job("b")]}, "--configfile f.yaml")
    assert message[0].startswith("2 jobs are left out")
    assert "`python -m tools.plan.unit_costs --configfile f.yaml`" in message[0]
    assert message[1] == "  classifiers x (2 jobs)"
    assert report.missing({}, "") == []


def test_ratios_are_printed_by_stage():
    head, row = report.ratios({"attack": [(2.0, 1.0), (3.0, 4.0)]})
    assert head.split() == ["stage", "jobs", "seconds", "counted", "ratio", "each"]
    assert row.split() == ["attack", "2", "5.0", "5.0", "1.00", "0.75", "to", "2.00"]


def test_a_job_with_a_chosen_setting_is_known_by_its_candidates():
    def point(alpha, **more):
        return {"name": "pgd", "points": {"default": {"settings": {"alpha": alpha}, **more}}}

    block = {"choose": [0.1, 0.2], "by": {"mse": 1.0}, "of": "pgd default"}
    stored = {"attack": point(0.2, chosen=["alpha"]), "digest": "d"}
    assert estimate._has_settings(stored, {"attack": point(block)})
    assert not estimate._has_settings(
        {"attack": point(0.3, chosen=["alpha"])}, {"attack": point(block)}
    )
    assert not estimate._has_settings(stored, {"attack": point(0.1)})
    assert not estimate._has_settings(stored, {"attack": point(block, more=1)})
