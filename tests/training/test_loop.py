import io
import json
import logging
import math
import signal
import sys
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional

from advdenoise.errors import BadInput, Preempted
from advdenoise.noise import Noise
from advdenoise.ops.resume import remove_state
from advdenoise.training import _loop, adversarial, plain
from tests.training import worker
from tests.training.worker import LOOP, STEP, network

BATCHES = 4  # of 100 images, 32 at a time


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("digits") / "digits.npz"
    worker.write_digits(path)
    return path


@pytest.fixture
def train(path):
    return lambda model, state, **settings: worker.train(model, path, state, **settings)


@pytest.fixture
def digits(path):
    return partial(worker.digits, path)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def without_seconds(history: list[dict]) -> list[dict]:
    return [{k: v for k, v in row.items() if not k.endswith("_seconds")} for row in history]


def assert_equal(model: nn.Module, other: nn.Module) -> None:
    for (name, value), expected in zip(
        model.state_dict().items(), other.state_dict().values(), strict=True
    ):
        assert torch.equal(value, expected), name


def with_signals(step, *at: tuple[int, bool], number=signal.SIGTERM):
    """The step, raising a signal in the batches with these (iteration, training)."""
    pending = set(at)

    def signalled(model, images, labels, noise, iteration):
        if (iteration, model.training) in pending:
            pending.remove((iteration, model.training))
            signal.raise_signal(number)
        return step(model, images, labels, noise)

    return signalled


@pytest.mark.parametrize(
    "optimiser",
    [
        {"name": "sgd", "lr": 0.05, "momentum": 0.9, "weight_decay": 2e-4},
        {"name": "adam", "lr": 0.003, "weight_decay": 1e-5},
        {"name": "rmsprop", "lr": 0.003, "decay": 0.01, "weight_decay_on": "convolutions"},
    ],
    ids=lambda o: o["name"],
)
def test_interrupted_after_every_batch_is_bit_equal(tmp_path, optimiser, train):
    uninterrupted = network()
    expected = train(uninterrupted, tmp_path / "whole", optimiser=optimiser)
    # Within an epoch, in its last batch, and during the evaluation of held-out images.
    moments = [(iteration, True) for iteration in range(3 * BATCHES)]
    step = with_signals(STEP, *moments, (BATCHES, False), (2 * BATCHES, False))
    for _ in range(len(moments) + 2):
        with pytest.raises(Preempted):
            train(network(), tmp_path / "often", step=step, optimiser=optimiser)
    resumed = network()
    history = train(resumed, tmp_path / "often", step=step, optimiser=optimiser)
    assert_equal(resumed, uninterrupted)
    assert without_seconds(history) == without_seconds(expected)
    assert not resumed.training


PHASES = [
    {"epochs": 1, "optimiser": {"name": "sgd", "lr": 0.02, "momentum": 0.9, "decay": 0.5}},
    {"epochs": 2, "optimiser": {"name": "adam", "lr": 0.01}, "schedule": {"1": 0.001}},
]


def test_phases_interrupted_after_every_batch_are_bit_equal(tmp_path, train):
    """Also before a phase with another optimiser, and during the measurement for the stop rule."""
    settings = {"epochs": 1, "phases": PHASES, "stop": {"measured_on": "held_out", "accuracy": 1.1}}
    uninterrupted = network()
    expected = train(uninterrupted, tmp_path / "whole", **settings)
    moments = [(iteration, True) for iteration in range(4 * BATCHES)]
    step = with_signals(STEP, *moments, (BATCHES, False), (2 * BATCHES, False))
    for _ in range(len(moments) + 2):
        with pytest.raises(Preempted):
            train(network(), tmp_path / "often", step=step, **settings)
    resumed = network()
    history = train(resumed, tmp_path / "often", step=step, **settings)
    assert_equal(resumed, uninterrupted)
    assert without_seconds(history) == without_seconds(expected)


def test_a_phase_starts_a_new_optimiser_schedule_and_decay(tmp_path, train):
    """Only the weights are kept from the previous phase."""
    counters = []

    def recording(model, images, labels, noise, iteration, epoch):
        if model.training:
            counters.append((epoch, iteration))
        return STEP(model, images, labels, noise)

    model = network()
    history = train(model, tmp_path / "a", step=recording, epochs=1, schedule={}, phases=PHASES)
    assert [row["epoch"] for row in history] == [1, 2, 3, 4]
    assert counters == [(i // BATCHES, i) for i in range(4 * BATCHES)]
    rates = [0.003 / (1 + 0.01 * 3), 0.02 / (1 + 0.5 * 3), 0.01, 0.001]
    assert [row["lr"] for row in history] == pytest.approx(rates)

    first = network()
    train(first, tmp_path / "b", epochs=1, schedule={})
    assert not torch.equal(first[0].weight, model[0].weight)
    # A second phase without epochs changes nothing, one with a tiny rate almost nothing.
    same, almost_same = network(), network()
    none = {"epochs": 0, "optimiser": {"name": "adam", "lr": 1.0}}
    train(same, tmp_path / "c", epochs=1, schedule={}, phases=[none])
    assert_equal(same, first)
    tiny = {"epochs": 1, "optimiser": {"name": "sgd", "lr": 1e-9}}
    train(almost_same, tmp_path / "d", epochs=1, schedule={}, phases=[tiny])
    assert (almost_same[0].weight - first[0].weight).abs().max() < 1e-7


def test_a_phase_starts_without_moments(tmp_path, train):
    """With zero gradients only old momentum could move the weights."""

    def without_gradient(model, images, labels, epoch):
        scale = 1.0 if epoch == 0 else 0.0
        return scale * plain_loss(model, images, labels), {}

    momentum = {"name": "sgd", "lr": 0.05, "momentum": 0.9}
    single, repeated = network(), network()
    common = {"step": without_gradient, "optimiser": momentum, "schedule": {}, "epochs": 1}
    train(single, tmp_path / "a", **common)
    train(repeated, tmp_path / "b", phases=[{"epochs": 1, "optimiser": momentum}], **common)
    assert torch.equal(single[0].weight, repeated[0].weight)


@pytest.mark.parametrize(("on", "first", "last"), [("train", 0, 100), ("held_out", 100, 150)])
def test_training_stops_at_a_clean_accuracy(tmp_path, on, first, last, train, digits):
    settings = {"optimiser": {"name": "adam", "lr": 0.01}, "schedule": {}}
    model = network()
    stop = {"measured_on": on, "accuracy": 0.6}
    history = train(model, tmp_path / "a", epochs=20, stop=stop, **settings)
    column, other = ("value", "held_out_value")[:: 1 if on == "train" else -1]
    rows = [row for row in history if row["metric"] == _loop.CLEAN_ACCURACY]
    accuracies = [row[column] for row in rows]
    assert [row["epoch"] for row in rows] == list(range(1, len(rows) + 1))
    assert all(row[other] is None for row in rows)
    assert 1 < len(accuracies) < 20 and accuracies[-1] >= 0.6 and max(accuracies[:-1]) < 0.6
    batch = digits(first, last).batch(torch.arange(last - first), None, 0)
    with torch.no_grad():
        correct = (model(batch["images"]).argmax(1) == batch["labels"]).float().mean()
    assert accuracies[-1] == pytest.approx(correct.item())
    # The weights are those of a training with this number of epochs.
    without_stop = network()
    train(without_stop, tmp_path / "b", epochs=len(accuracies), **settings)
    assert_equal(model, without_stop)


def test_a_stop_skips_later_phases_and_is_saved(tmp_path, train):
    never = {"name": "sgd", "lr": 0.1}
    settings = {"stop": {"measured_on": "train", "accuracy": 0.0}, "epochs": 1, "phases": PHASES}
    model = network()
    history = train(model, tmp_path, optimiser=never, **settings)
    assert {row["epoch"] for row in history} == {1}
    again = network()
    assert train(again, tmp_path, optimiser=never, **settings) == history
    assert_equal(again, model)


def test_an_accuracy_that_is_not_reached_is_logged(tmp_path, train, caplog):
    train(network(), tmp_path, epochs=1, stop={"measured_on": "held_out", "accuracy": 1.0})
    assert "net: an accuracy of 1 on held_out was not reached in 1 epochs" in caplog.text


def test_sigusr1_interrupts_and_handlers_are_restored(tmp_path, train):
    before = signal.getsignal(signal.SIGUSR1)
    with pytest.raises(Preempted, match="SIGUSR1 received; the state after epoch 0, batch 2"):
        train(network(), tmp_path, step=with_signals(STEP, (1, True), number=signal.SIGUSR1))
    assert signal.getsignal(signal.SIGUSR1) == before


def test_weights_depend_on_seed_and_name(tmp_path, digits):
    def weights(number, **settings):
        model = network()
        common = {"seed": 0, "name": "a", "digest": "d", "device": "cpu"}
        state = tmp_path / str(number)
        loop = {**LOOP, "epochs": 1}
        _loop.train(model, STEP, digits(0, 100), loop, state=state, **{**common, **settings})
        return model[0].weight

    first = weights(0)
    assert torch.equal(first, weights(1))
    assert not torch.equal(first, weights(2, seed=1))
    assert not torch.equal(first, weights(3, name="b"))


def test_history_has_a_row_per_epoch_and_metric(tmp_path, caplog, train, digits):
    def step(model, images, labels):
        return plain_loss(model, images, labels), {"a": images.mean(), "b": labels.float().mean()}

    caplog.set_level(logging.INFO)
    history = train(network(), tmp_path, step=step)
    assert [(row["epoch"], row["metric"]) for row in history] == [
        (epoch, metric) for epoch in (1, 2, 3) for metric in ("a", "b")
    ]
    full_batch = digits(0, 100).batch(torch.arange(100), None, 0)
    assert history[0]["value"] == pytest.approx(full_batch["images"].mean().item(), rel=1e-6)
    assert history[1]["value"] == pytest.approx(full_batch["labels"].float().mean().item())
    assert history[0]["held_out_value"] == history[2]["held_out_value"]
    assert [row["iteration"] for row in history[::2]] == [4, 8, 12]
    assert all(math.isfinite(row["held_out_loss"]) for row in history)
    lines = [r.message for r in caplog.records if r.message.startswith("net: epoch")]
    assert len(lines) == 3 and "held-out a" in lines[0]


def test_a_progress_bar_on_terminals_only(tmp_path, train, monkeypatch, caplog, capsys):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    caplog.set_level(logging.INFO)
    train(network(), tmp_path / "a")
    assert "it/s" not in capsys.readouterr().err
    caplog.clear()
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    train(network(), tmp_path / "b")
    assert f"{3 * BATCHES}/{3 * BATCHES}" in terminal.getvalue()
    assert "held-out accuracy=" in terminal.getvalue()
    assert not caplog.records


def plain_loss(model, images, labels):
    return functional.cross_entropy(model(images), labels)


def test_metrics_may_alternate_and_may_be_missing(tmp_path, train):
    def alternating(model, images, labels, iteration):
        metrics = {"even": torch.tensor(1.0)} if iteration % 2 == 0 else {"odd": torch.tensor(3.0)}
        return plain_loss(model, images, labels), metrics

    history = train(network(), tmp_path / "a", step=alternating, epochs=1)
    assert {row["metric"]: row["value"] for row in history} == {"even": 1.0, "odd": 3.0}

    def bare(model, images, labels):
        return plain_loss(model, images, labels), {}

    (row,) = train(network(), tmp_path / "b", step=bare, epochs=1)
    assert row["metric"] == "loss" and row["value"] == row["loss"]


def test_parameters_without_gradient_are_unchanged(tmp_path, train):
    def head_only(model, images, labels):
        with torch.no_grad():
            features = model[:-1](images)
        return functional.cross_entropy(model[-1](features), labels), {}

    model = network()
    adam = {"name": "adam", "lr": 0.01, "weight_decay": 0.1}
    train(model, tmp_path, step=head_only, epochs=1, optimiser=adam)
    assert torch.equal(model[0].weight, network()[0].weight)
    assert not torch.equal(model[-1].weight, network()[-1].weight)


def test_learning_rate_follows_schedule_and_decay(tmp_path, train):
    history = train(network(), tmp_path)  # lr 0.003, 0.001 once two epochs are done
    rates = [row["lr"] for row in history]
    last = [3, 7, 11]  # iteration of the epoch's last batch
    expected = [lr / (1 + 0.01 * i) for lr, i in zip([0.003, 0.003, 0.001], last, strict=True)]
    assert rates == pytest.approx(expected)


def test_no_batch_of_one(tmp_path, train):
    sizes = []

    def step(model, images, labels):
        sizes.append(len(images))
        return plain_loss(model, images, labels), {}

    train(network(), tmp_path, step=step, epochs=1, batch=33)
    assert sizes[:3] == [33, 33, 34]


def diverging(at: int, poison):
    def step(model, images, labels, iteration):
        loss = plain_loss(model, images, labels)
        return (poison(loss, model) if iteration >= at and model.training else loss), {}

    return step


def infinite_loss(loss, model):
    return loss * math.inf


def bad_gradient(loss, model):
    return loss + (0 * model[0].weight.sum()).sqrt()


@pytest.mark.parametrize(
    ("poison", "message"),
    [
        (infinite_loss, "the loss is not finite in epoch 2, batch 2, at learning rate"),
        (bad_gradient, "the loss is not finite in epoch 2, batch 3"),
    ],
)
def test_divergence_is_reported_and_retried_once(tmp_path, poison, message, train):
    step = diverging(BATCHES + 1, poison)
    with pytest.raises(BadInput, match=message) as error:
        train(network(), tmp_path, step=step)
    assert "lower `optimiser: lr`" in str(error.value) and "once more" in str(error.value)
    # The last valid epoch is kept, in case the cause was transient ...
    state = torch.load(tmp_path / "d" / "state.pt", weights_only=True)
    assert state["epoch"] == 1 and state["batch"] == 0
    # ... but it is resumed only once.
    with pytest.raises(BadInput, match="a rerun starts over"):
        train(network(), tmp_path, step=step)
    assert not (tmp_path / "d").exists()


def test_training_resumes_after_a_transient_failure(tmp_path, train):
    expected = network()
    train(expected, tmp_path / "a", step=diverging(99, infinite_loss))
    with pytest.raises(BadInput):
        train(network(), tmp_path / "b", step=diverging(BATCHES + 1, infinite_loss))
    model = network()
    train(model, tmp_path / "b", step=diverging(99, infinite_loss))
    assert_equal(model, expected)
    assert sorted(p.name for p in (tmp_path / "b" / "d").iterdir()) == ["state.pt"]


def test_weights_that_are_not_finite_are_never_saved(tmp_path, train):
    step = diverging(BATCHES - 1, bad_gradient)  # the last batch of the epoch, so no loss shows it
    with pytest.raises(BadInput, match="weights are not finite in epoch 1, batch 4"):
        train(network(), tmp_path, step=step)
    assert not (tmp_path / "d").exists()


def test_out_of_gpu_memory(tmp_path, train):
    def step(model, images):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate ...")

    with pytest.raises(BadInput, match=r"net: a batch of 32 does not fit .*; lower `batch`$"):
        train(network(), tmp_path, step=step)


def test_a_batch_of_one_under_batch_norm(tmp_path, train):
    def step(model, images, labels):
        nn.BatchNorm2d(1)(images.mean((2, 3), keepdim=True))
        return plain_loss(model, images, labels), {}

    with pytest.raises(BadInput, match=r"^net\.training\.batch: must be at least 2 "):
        train(network(), tmp_path, step=step, batch=1)
    train(network(), tmp_path, step=step, epochs=1, batch=2)


def test_other_errors_of_a_step_are_not_changed(tmp_path, train):
    def step(model, images):
        raise ValueError("some reason")

    with pytest.raises(ValueError, match="some reason"):
        train(network(), tmp_path, step=step)


def test_a_state_with_another_digest_is_removed(tmp_path, train):
    with pytest.raises(Preempted):
        train(network(), tmp_path, step=with_signals(STEP, (5, True)))
    model, fresh = network(), network()
    train(model, tmp_path, digest="e")
    train(fresh, tmp_path / "fresh", digest="e")
    assert_equal(model, fresh)
    assert not (tmp_path / "d").exists()


@pytest.mark.parametrize("damage", ["flip", "truncate", "empty", "text"])
def test_training_starts_over_if_the_state_is_damaged(tmp_path, damage, caplog, train):
    expected = network()
    train(expected, tmp_path / "expected")
    with pytest.raises(Preempted):
        train(network(), tmp_path, step=with_signals(STEP, (5, True)))
    path = tmp_path / "d" / "state.pt"
    raw = bytearray(path.read_bytes())
    if damage == "flip":
        weights = torch.load(path, weights_only=True)["weights"]["6.weight"].numpy().tobytes()
        raw[raw.index(weights) + 100] ^= 1
    path.write_bytes(
        {"truncate": raw[: len(raw) // 2], "empty": b"", "text": b"?"}.get(damage, raw)
    )
    model = network()
    train(model, tmp_path)
    assert "is damaged" in caplog.text and "starts over" in caplog.text
    assert_equal(model, expected)


def test_a_finished_state_needs_no_training(tmp_path, train):
    first = network()
    history = train(first, tmp_path)

    def never(model):
        raise AssertionError

    again = network()
    assert train(again, tmp_path, step=never) == history
    assert_equal(again, first)
    json.dumps(history)
    remove_state(tmp_path)
    assert not tmp_path.exists()
    remove_state(tmp_path)


def test_learns_real_digits(tmp_path, digits):
    model = network()
    adam = {"optimiser": {"name": "adam", "lr": 0.01}}
    loop = {"epochs": 4, "batch": 32, **adam}
    common = {"seed": 0, "name": "net", "state": tmp_path, "digest": "d", "device": "cpu"}
    history = _loop.train(
        model, plain.classify, digits(0, 1200), loop, held_out=digits(1200, 1797), **common
    )
    assert history[-1]["held_out_value"] > 0.85
    assert history[-1]["loss"] < history[0]["loss"]


def test_adversarial_training_increases_robust_accuracy(tmp_path, digits):
    budget = {"epsilon": 0.15, "alpha": 0.05, "steps": 5}
    loop = {"epochs": 6, "batch": 64, "optimiser": {"name": "adam", "lr": 0.01}}
    attack = partial(adversarial.pgd, **budget)

    def robust_accuracy(step, folder):
        model = network()
        common = {"seed": 0, "name": folder, "state": tmp_path / folder, "digest": "d"}
        _loop.train(model, step, digits(0, 600), loop, device="cpu", **common)
        rows = digits(1200, 1500).batch(torch.arange(300), None, 0)
        noise = Noise(0, range(300), "test")
        return attack(model, rows["images"], rows["labels"], noise, 0)[1]["accuracy"].item()

    assert robust_accuracy(attack, "pgd") > robust_accuracy(plain.classify, "plain") + 0.1


def test_the_state_folder_is_created(tmp_path, train):
    state = tmp_path / "resume" / "seed0" / "net.safetensors"
    train(network(), state, epochs=1)
    assert (state / "d" / "state.pt").exists()


@pytest.mark.parametrize("precision", [None, "float32", "bfloat16"])
def test_precision_is_float32_by_default(tmp_path, train, precision):
    precisions = set()

    def step(model, images, labels):
        precisions.add((torch.is_autocast_enabled("cpu"), model(images).dtype))
        return plain_loss(model, images, labels), {}

    train(network(), tmp_path, step=step, **({"precision": precision} if precision else {}))
    narrow = precision == "bfloat16"
    assert precisions == {(narrow, torch.bfloat16 if narrow else torch.float32)}
