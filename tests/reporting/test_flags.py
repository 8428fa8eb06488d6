"""Flags on rows with known answers: the order of attacks, what they record, the probe."""

import csv
import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from advdenoise.errors import BadInput
from advdenoise.io.json_files import write_json
from advdenoise.reporting import flags as rules
from advdenoise.reporting.defences import Budget, defences
from advdenoise.reporting.flags import (
    ERROR,
    FLAGS,
    PASS,
    SUSPECT,
    UNKNOWN,
    WARN,
    Outcome,
    assign_severities,
    compare,
    flags_of,
    summary,
    worst,
)
from advdenoise.reporting.measures import accuracy
from advdenoise.reporting.read import Results
from advdenoise.reporting.tables.flags import flags as table
from advdenoise.reporting.worst import worst_case
from advdenoise.reporting.write import write

RANDOM, FIXED = "gan.defense_gan", "basic.direct"
EPSILON = 0.1
STEPS = {"epsilon": EPSILON, "steps": 20, "alpha": 0.01}
ATTACKS: dict[str, dict] = {
    "clean": {},
    "fgsm": {"function": "gradient.fgsm", "settings": {"epsilon": EPSILON}},
    "pgd": {"function": "gradient.pgd", "settings": STEPS},
    "margin": {"function": "gradient.margin_pgd", "settings": STEPS},
    "square": {"function": "blackbox.square", "settings": {"epsilon": EPSILON, "queries": 100}},
    "random": {"function": "noise.uniform", "settings": {"epsilon": EPSILON}},
    "jpeg": {"function": "corruptions.jpeg", "settings": {"severity": 3}},
    "short": {"function": "gradient.bim", "settings": {**STEPS, "returns": "best"}},
    "huge": {"function": "gradient.pgd", "settings": {**STEPS, "epsilon": 1.0}},
}
FACTS = {
    "fooled_at": -1,
    "fooled_last": False,
    "loss_start": 0.1,
    "loss_best": 2.0,
    "loss_recent": 2.0,
    "zero_gradients": 0,
    "bad_gradients": 0,
    "forward": 21,
    "backward": 20,
    "skipped": False,
}


class Rows:
    """Rows of one defence: `attack` adds those of a threat by whether images (or draws) are right.

    `right` is [N] or [R, N], or how many of the images are right, the first ones.
    """

    def __init__(self, n: int = 100, purifier: str = FIXED, name: str = "best", **entry):
        self.n, self.name = n, name
        point = {"function": purifier, "settings": {}}
        self.purifiers = {name: {"name": name, "points": {"default": point}, **entry}}
        self.attacks: dict[str, dict] = {}
        self.parts: list[pd.DataFrame] = []

    def attack(
        self, threat: str, right, point: str = "default", entry=None, facts=None, **settings
    ):
        attack = threat.partition("@")[0]
        own = ATTACKS[attack]
        own = {**own, "settings": own.get("settings", {}) | settings}
        self.attacks.setdefault(attack, {"name": attack, "points": {}, **(entry or {})})
        self.attacks[attack]["points"][point] = own
        epsilon = own["settings"].get("epsilon", np.nan)
        if np.isscalar(right):
            right = np.arange(self.n) < right
        for draw, row in enumerate(np.atleast_2d(np.asarray(right, bool))):
            rows = {"id": np.arange(self.n), "seed": 0, "draw": draw, "label": 1, "classes": 10}
            rows |= {"prediction": np.where(row, 1, 2), "label_rank": np.where(row, 0, 1)}
            rows |= {"dataset": "digits", "split": "test", "classifier": "cnn"}
            rows |= {"purifier": self.name, "purifier_point": "default"}
            rows |= {"threat": threat, "attack_point": point, "epsilon": epsilon}
            rows |= {"linf": 0.0 if epsilon != epsilon else epsilon, "l2": 1.0}
            self.parts.append(pd.DataFrame(rows | (facts or {})))
        return self

    @property
    def results(self) -> Results:
        frame = pd.concat(self.parts, ignore_index=True)
        return Results(frame, {"attack": self.attacks, "purifier": self.purifiers}, [])

    def defence(self):
        (defence,) = defences(self.results)
        return defence

    def outcomes(self, flag: str, probe=None) -> list[Outcome]:
        return [outcome for outcome in flags_of(self.defence(), probe) if outcome.flag == flag]

    def severity(self, flag: str, probe=None) -> str:
        return worst(self.outcomes(flag, probe))


def facts(**changes) -> dict:
    return FACTS | changes


HONEST_PROBE = {
    "accuracy_range": 0.0,
    "logit_distance": 0.0,
    "hidden_randomness": False,
    "loop": False,
    "softmax": False,
    "train_mode": False,
    "batch_distance": 1e-6,
    "instability": 0.02,
}


def honest(n: int = 100) -> Rows:
    """An undefended network under every attack: stronger ones fool more images."""
    rows = Rows(n, "basic.none", "none").attack("clean", 0.95 * n)
    rows.attack("random@cnn", 0.94 * n, facts=facts(backward=0)).attack("pgd@mlp", 0.5 * n)
    rows.attack("square@cnn", 0.2 * n, facts=facts(backward=0))
    rows.attack("fgsm@cnn", 0.3 * n, "e1", epsilon=0.05).attack("fgsm@cnn", 0.1 * n, "e2")
    rows.attack("pgd@cnn", 0.02 * n, facts=facts())
    rows.attack("margin@cnn", 0.0, facts=facts())
    rows.attack("short@cnn", 0.03 * n, "k", facts=facts())
    rows.attack("short@cnn", 0.02 * n, "twice", facts=facts(), steps=40)
    return rows.attack("huge@cnn", 0, facts=facts())


def test_an_undefended_network_raises_no_flag():
    outcomes = flags_of(honest().defence(), HONEST_PROBE)
    assert {outcome.flag: outcome.severity for outcome in outcomes} == dict.fromkeys(FLAGS, PASS)
    assert summary(outcomes) == "" and worst(outcomes) == PASS


def test_without_rows_nothing_is_known():
    rows = Rows().attack("clean", 90).attack("jpeg@cnn", 80)
    outcomes = flags_of(rows.defence())
    known = {outcome.flag: outcome.severity for outcome in outcomes if outcome.severity != UNKNOWN}
    assert known == {"accepted": PASS, "few": PASS}
    assert all(outcome.sentence for outcome in outcomes if outcome.severity == UNKNOWN)


def test_files_without_facts_leave_their_flags_unknown():
    rows = Rows().attack("clean", 90).attack("pgd@cnn+best", 10)
    needed = {"plateau", "zero_gradient", "bad_gradient", "flat_loss", "silent"}
    assert {flag for flag in needed if rows.severity(flag) == UNKNOWN} == needed
    # Beside newer files the rows of older ones have nulls.
    rows.attack("margin@cnn+best", 10, facts=facts())
    assert {flag for flag in needed if rows.severity(flag) == PASS} == needed
    assert all(len(rows.outcomes(flag)) == 1 for flag in needed)


# ---------------------------------------------------------------- order of attacks


def test_the_recorded_defence_gan():
    """18 % of 50 images under adaptive attacks, 8 % under oblivious ones, 6 % under all."""
    adaptive = np.arange(50) < 9
    oblivious = adaptive & (np.arange(50) >= 6) | (np.arange(50) == 9)
    assert (adaptive.sum(), oblivious.sum(), (adaptive & oblivious).sum()) == (9, 4, 3)
    rows = Rows(50, name="defense_gan").attack("clean", 50)
    rows.attack("margin@cnn+defense_gan", adaptive).attack("pgd@cnn", oblivious)
    (outcome,) = rows.outcomes("oblivious")
    assert (outcome.against, outcome.expected, outcome.images) == (6, 1, 50)
    assert outcome.p_values == (pytest.approx(9e-10, rel=0.1), pytest.approx(0.0625))
    assert outcome.severity == SUSPECT
    assert outcome.attacks == {("margin@cnn+defense_gan", "default")}
    assert outcome.sentence == (
        "pgd, of less knowledge, fools 6 of 50 images that adaptive gradient attacks do not "
        "(p = 9.4e-10): the adaptive attack is too weak, read 18.0 % as an upper bound."
    )


@pytest.mark.parametrize(
    ("flag", "threat"),
    [("blackbox", "square@cnn+best"), ("noise", "random@cnn"), ("oblivious", "pgd@cnn")],
)
def test_a_weaker_attack_that_fools_more(flag, threat):
    rows = Rows().attack("clean", 100).attack("margin@cnn+best", 60)
    rows.attack(threat, np.arange(100) >= 3)
    (outcome,) = rows.outcomes(flag)
    assert (outcome.against, outcome.expected) == (3, 40) and outcome.severity == SUSPECT
    assert "60.0 %" in outcome.sentence
    others = {"blackbox", "noise", "oblivious"} - {flag}
    assert {rows.severity(other) for other in others} == {UNKNOWN}
    # A stronger adaptive attack lifts it.
    rows.attack("pgd@cnn+best", np.arange(100) >= 30)
    assert rows.severity(flag) == PASS


def test_an_attack_of_another_budget_is_not_compared():
    rows = Rows().attack("margin@cnn+best", 60)
    rows.attack("square@cnn+best", 0, epsilon=0.2)
    assert rows.severity("blackbox") == UNKNOWN
    assert rows.defence().budgets() == [Budget("linf", 0.1), Budget("linf", 0.2)]


def test_a_deterministic_violation_must_be_more_than_a_stray_miss():
    rows = Rows().attack("margin@cnn+best", 50)
    rows.attack("square@cnn+best", np.arange(100) >= 1)
    assert rows.severity("blackbox") == PASS  # one of 100
    rows = Rows().attack("margin@cnn+best", 50)
    rows.attack("square@cnn+best", np.arange(100) >= 2)
    assert rows.severity("blackbox") == SUSPECT


def test_one_step_against_iterative_attacks_on_the_defence():
    rows = Rows().attack("fgsm@cnn+best", 10).attack("pgd@cnn+best", 30)
    assert rows.severity("one_step") == SUSPECT
    (outcome,) = rows.outcomes("one_step")
    assert outcome.against == 20 and outcome.attacks == {("pgd@cnn+best", "default")}
    few_steps = Rows().attack("fgsm@cnn+best", 10).attack("pgd@cnn+best", 30, steps=9)
    assert few_steps.severity("one_step") == UNKNOWN
    other = Rows().attack("fgsm@cnn", 10).attack("pgd@cnn+best", 30)
    assert other.severity("one_step") == UNKNOWN
    # One step transfers better than several.
    transferred = Rows().attack("fgsm@cnn", 10).attack("pgd@cnn", 30)
    assert transferred.severity("one_step") == UNKNOWN


def test_images_that_a_larger_ball_leaves_right():
    rows = Rows().attack("pgd@cnn+best", 50, "e1", epsilon=0.05)
    rows.attack("pgd@cnn+best", np.r_[np.zeros(20), np.ones(35), np.zeros(45)], "e2", epsilon=0.1)
    (outcome,) = rows.outcomes("monotone")
    assert (outcome.against, outcome.expected) == (5, 20) and outcome.severity == PASS
    rows.attack("pgd@cnn+best", 70, "e3", epsilon=0.2)
    first, second = rows.outcomes("monotone")
    assert first.severity == PASS and second.severity == SUSPECT
    assert second.attacks == {("pgd@cnn+best", "e3")}


def test_twice_the_steps():
    rows = Rows().attack("short@cnn+best", 50, "k", steps=10)
    rows.attack("short@cnn+best", 47, "twice", steps=20)
    assert rows.severity("unconverged") == PASS  # three of 100 at a rate of 1 %
    rows.attack("short@cnn+best", 43, "more", steps=40)
    (outcome,) = rows.outcomes("unconverged")  # of the longest pair
    assert outcome.severity == SUSPECT and outcome.against == 4
    assert outcome.attacks == {("short@cnn+best", "twice"), ("short@cnn+best", "more")}
    assert "twice the steps fool 4 more of 100 images" in outcome.sentence
    # The last iterates of two runs are not nested, nor are attacks of other settings.
    last = Rows().attack("pgd@cnn+best", 50, "k", steps=10)
    last.attack("pgd@cnn+best", 30, "twice", steps=20)
    assert last.severity("unconverged") == UNKNOWN
    other = Rows().attack("short@cnn+best", 50, "k", steps=10)
    other.attack("short@cnn+best", 30, "twice", steps=20, alpha=0.02)
    assert other.severity("unconverged") == UNKNOWN


def test_at_epsilon_one_chance_alone_may_remain():
    rows = Rows(50).attack("huge@cnn+best", 8)  # 10 classes
    assert rows.severity("huge_epsilon") == PASS
    rows = Rows(50).attack("huge@cnn+best", 10)
    assert rows.severity("huge_epsilon") == SUSPECT
    assert "yet 20.0 % remain" in rows.outcomes("huge_epsilon")[0].sentence


def test_an_accuracy_above_that_of_clean_images():
    rows = Rows().attack("clean", 72).attack("fgsm@cnn+best", 95)
    (outcome,) = rows.outcomes("above_clean")
    assert outcome.severity == SUSPECT and outcome.against == 23
    assert Rows().attack("clean", 72).attack("random@cnn", 95).severity("above_clean") == UNKNOWN


def test_holm_corrects_all_tests_of_a_defence_together():
    outcomes = [Outcome("a", p_values=(0.04,)), Outcome("b", p_values=(0.001, 0.5))]
    assert [o.severity for o in assign_severities(outcomes)] == [WARN, SUSPECT]
    assert [o.severity for o in assign_severities(outcomes[:1])] == [SUSPECT]
    limited = [Outcome("a", p_values=(1e-9,), limit=WARN), Outcome("b", SUSPECT)]
    assert [o.severity for o in assign_severities(limited)] == [WARN, SUSPECT]


def test_a_flag_is_named_once_by_its_worst_severity():
    outcomes = [Outcome("a", WARN), Outcome("b", WARN), Outcome("a", SUSPECT), Outcome("c")]
    assert summary(outcomes) == "suspect: a; warn: b"


# ---------------------------------------------------------------- random defences


def test_equal_attacks_on_a_random_defence_violate_no_order():
    """Counts of ten draws differ by half of them in 2 % of images by chance alone."""
    random = np.random.default_rng(0)
    plain = fired = 0
    for _ in range(60):
        rows = Rows(100, RANDOM, draws=10)
        for threat in ("margin@cnn+best", "square@cnn+best"):
            rows.attack(threat, random.random((10, 100)) < 0.5)
        defence = rows.defence()
        first, second = (attack.shares for attack in defence.attacks)
        result = compare(first, second, defence)
        assert result.violations is not None
        fired += min(
            assign_severities([Outcome("", p_values=result.p_values)])[0].severity == SUSPECT, 1
        )
        plain += (first - second >= 0.5).sum() >= 2
    assert fired <= 6 and plain > 15  # 5 % of 60 are expected at the most


def test_draws_that_are_too_few_leave_the_mean_alone():
    rows = Rows(100, RANDOM, draws=2).attack("margin@cnn+best", np.ones((2, 100)))
    right = np.ones((2, 100))
    right[:, :10] = 0
    rows.attack("square@cnn+best", right)
    (outcome,) = rows.outcomes("blackbox")
    assert outcome.against == 10 and outcome.p_values == (pytest.approx(2**-10),)
    assert outcome.severity == SUSPECT


def test_a_real_violation_shows_through_draws():
    random = np.random.default_rng(1)
    rows = Rows(100, RANDOM, draws=10).attack("margin@cnn+best", random.random((10, 100)) < 0.95)
    right = random.random((10, 100)) < 0.95
    right[:, :5] = False
    rows.attack("square@cnn+best", right)
    (outcome,) = rows.outcomes("blackbox")
    assert outcome.severity == SUSPECT and outcome.against >= 4


def test_a_coin_defence_raises_no_order_flag():
    """Right with probability 0.9 whatever the input."""
    random = np.random.default_rng(2)
    rows = Rows(200, RANDOM, draws=10).attack("clean", random.random((10, 200)) < 0.9)
    entry = {"draws": 10}
    for threat in ("pgd@cnn+best", "margin@cnn+best", "square@cnn+best", "fgsm@cnn+best"):
        rows.attack(threat, random.random((10, 200)) < 0.9, entry=entry)
    rows.attack("random@cnn", random.random((10, 200)) < 0.9)
    outcomes = flags_of(rows.defence(), HONEST_PROBE)
    assert summary(outcomes) == ""
    # Where no seed fixes the coin, it is judged on one draw, as if it were deterministic.
    hidden = Rows(200).attack("clean", random.random(200) < 0.9)
    for threat in ("pgd@cnn+best", "margin@cnn+best", "square@cnn+best", "fgsm@cnn+best"):
        hidden.attack(threat, random.random(200) < 0.9)
    probe = HONEST_PROBE | {"hidden_randomness": True, "accuracy_range": 0.05}
    assert summary(flags_of(hidden.defence(), probe)) == "suspect: random"


@pytest.mark.parametrize(
    ("attacked", "judged", "expected"), [(10, 10, PASS), (5, 10, SUSPECT), (10, 5, SUSPECT)]
)
def test_a_random_defence_needs_draws(attacked, judged, expected):
    rows = Rows(100, RANDOM, draws=judged)
    rows.attack("pgd@cnn+best", np.ones((judged, 100)), entry={"draws": attacked})
    assert rows.severity("random") == expected


def test_outputs_that_differ_without_random_numbers():
    rows = Rows().attack("pgd@cnn+best", 50)
    assert rows.severity("random") == UNKNOWN
    assert rows.severity("random", HONEST_PROBE) == PASS
    assert rows.severity("random", HONEST_PROBE | {"logit_distance": 2e-4}) == SUSPECT
    assert rows.severity("random", HONEST_PROBE | {"accuracy_range": 0.1}) == SUSPECT


def test_lucky_draws():
    rows = Rows(100, RANDOM, draws=10)
    own = np.arange(100) >= 20  # of the attack's own draws
    right = np.ones((10, 100))
    right[:, 40:] = 0
    rows.attack("pgd@cnn+best", right, entry={"draws": 10}, facts=facts(fooled_last=own))
    (outcome,) = rows.outcomes("accepted")
    assert (outcome.against, outcome.expected) == (20, 0) and outcome.severity == WARN
    assert "fools 80.0 % on draws of its own and 60.0 %" in outcome.sentence
    fair = Rows(100, RANDOM, draws=10)
    fair.attack("pgd@cnn+best", right, facts=facts(fooled_last=np.arange(100) >= 40))
    assert fair.severity("accepted") == PASS


# ---------------------------------------------------------------- facts of attacks


@pytest.mark.parametrize(
    ("flag", "count", "changes", "expected", "marked"),
    [
        ("plateau", 5, {"loss_recent": 1.8}, PASS, 5),  # of 50 images that are not fooled
        ("plateau", 6, {"loss_recent": 1.8}, WARN, 6),
        ("plateau", 50, {"loss_recent": 1.91}, PASS, 0),  # 5 % of the rise of 1.9 is 0.095
        ("zero_gradient", 1, {"zero_gradients": 10}, WARN, 1),
        ("zero_gradient", 10, {"zero_gradients": 10}, SUSPECT, 10),
        ("zero_gradient", 50, {"zero_gradients": 9}, PASS, 0),
        ("bad_gradient", 1, {"bad_gradients": 1}, SUSPECT, 1),
        ("flat_loss", 9, {"loss_best": 0.1005}, PASS, 9),
        ("flat_loss", 10, {"loss_best": 0.1005}, WARN, 10),
        ("silent", 1, {"fooled_at": 3}, WARN, 1),
        ("silent", 2, {"fooled_at": 3}, WARN, 2),
        ("silent", 3, {"fooled_at": 3}, SUSPECT, 3),
    ],
)
def test_facts_of_images_that_are_not_fooled(flag, count, changes, expected, marked):
    own = {}
    for name, value in changes.items():
        own[name] = np.where(np.arange(100) < count, value, FACTS[name])
    rows = Rows().attack("pgd@cnn+best", 50, facts=facts(**own))
    (outcome,) = rows.outcomes(flag)
    assert (outcome.severity, outcome.against) == (expected, marked)
    # On images that the attack, or a stronger one, fools nothing is hidden.
    fooled = Rows().attack("pgd@cnn+best", np.arange(100) >= 50, facts=facts(**own))
    assert fooled.severity(flag) == PASS
    stronger = rows.attack("margin@cnn+best", np.arange(100) >= 50, facts=facts())
    assert stronger.severity(flag) == PASS


def test_one_image_of_many_without_a_finite_gradient_warns():
    own = facts(bad_gradients=np.arange(200) == 0)
    assert Rows(200).attack("pgd@cnn+best", 50, facts=own).severity("bad_gradient") == WARN


def test_a_quantised_model_has_no_gradient():
    """Rounded outputs: every gradient is 0, and a query attack fools what gradients do not."""
    own = facts(zero_gradients=20, loss_best=0.1, loss_recent=0.1)
    rows = Rows(100, "basic.none", "none").attack("clean", 95)
    rows.attack("pgd@cnn", 95, facts=own).attack("square@cnn", 10, facts=facts(backward=0))
    outcomes = flags_of(rows.defence(), HONEST_PROBE)
    assert summary(outcomes) == "suspect: blackbox, zero_gradient, flat_loss"
    (zero,) = (outcome for outcome in outcomes if outcome.flag == "zero_gradient")
    assert zero.against == 95 and "95.0 % of images have a zero gradient" in zero.sentence


def test_a_flat_loss_alone_warns():
    own = facts(loss_best=0.1, loss_recent=0.1)
    assert Rows().attack("pgd@cnn+best", 95, facts=own).severity("flat_loss") == WARN


def test_an_attack_that_returns_what_fools_is_never_silent():
    own = facts(fooled_at=3)
    rows = Rows().attack("short@cnn+best", 50, facts=own, returns="fooled")
    assert rows.severity("silent") == PASS
    assert Rows().attack("short@cnn+best", 50, returns="fooled").severity("silent") == UNKNOWN


def test_a_step_that_is_too_small():
    """alpha = epsilon / 1000 with 10 steps: the loss still rises, and twice the steps fool more."""
    own = facts(loss_best=0.2, loss_recent=0.19)
    rows = Rows(100, "basic.none", "none").attack("clean", 95)
    rows.attack("short@cnn", 90, "k", facts=own, steps=10)
    rows.attack("short@cnn", 70, "twice", facts=own, steps=20)
    outcomes = flags_of(rows.defence(), HONEST_PROBE)
    assert summary(outcomes) == "suspect: unconverged; warn: plateau"


def test_a_perturbation_beyond_its_budget_is_an_error():
    within = Rows().attack("pgd@cnn+best", 50, facts={"linf": np.float32(0.1)})
    assert within.severity("budget") == PASS
    for size in (0.1001, np.nan, np.inf):
        beyond = Rows().attack("pgd@cnn+best", 50, facts={"linf": np.full(100, size)})
        (outcome,) = beyond.outcomes("budget")
        assert outcome.severity == ERROR and outcome.against == 100


def test_spared_images_take_part_in_no_flag():
    own = facts(skipped=np.arange(100) < 30)
    rows = Rows().attack("margin@cnn+best", 60).attack("square@cnn+best", 0, facts=own)
    assert rows.severity("blackbox") == UNKNOWN
    assert [attack.threat for attack in rows.defence().attacks] == ["margin@cnn+best"]


# ---------------------------------------------------------------- the defence itself


@pytest.mark.parametrize(
    ("flag", "changes", "expected"),
    [
        ("unstable", {"instability": 0.11}, WARN),
        ("softmax", {"softmax": True}, SUSPECT),
        ("train_mode", {"train_mode": True}, ERROR),
        ("train_mode", {"batch_distance": 2e-4}, ERROR),
    ],
)
def test_what_the_probe_shows(flag, changes, expected):
    rows = Rows().attack("pgd@cnn+best", 50)
    assert rows.severity(flag) == UNKNOWN
    assert rows.severity(flag, HONEST_PROBE) == PASS
    assert rows.severity(flag, HONEST_PROBE | changes) == expected


def test_probabilities_do_not_hide_the_margin():
    rows = Rows().attack("pgd@cnn+best", 50).attack("margin@cnn+best", 40)
    (outcome,) = rows.outcomes("softmax", HONEST_PROBE | {"softmax": True})
    assert outcome.severity == WARN and outcome.attacks == {("pgd@cnn+best", "default")}


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({}, PASS),
        ({"through": "intermediate"}, PASS),
        ({"through": "denoiser", "forward": "purifier"}, PASS),
        ({"through": "identity"}, SUSPECT),
        ({"through": "denoiser"}, SUSPECT),
    ],
)
def test_a_loop_needs_an_attack_through_it(entry, expected):
    rows = Rows().attack("pgd@cnn+best", 50, entry=entry)
    assert rows.severity("loop", HONEST_PROBE | {"loop": True}) == expected
    assert rows.severity("loop", HONEST_PROBE) == PASS
    assert rows.severity("loop") == UNKNOWN


def test_few_images():
    (outcome,) = Rows(49).attack("pgd@cnn+best", 10).outcomes("few")
    assert outcome.severity == WARN and "155" in outcome.sentence
    assert Rows(50).attack("pgd@cnn+best", 10).severity("few") == PASS


# ---------------------------------------------------------------- predictions of pixels


def dense(shares: dict[str, np.ndarray]) -> Results:
    rows = Rows(60)
    for threat in shares:
        rows.attack(threat, 60)
    results = rows.results
    frame = results.frame.drop(columns=["prediction", "label"])
    right = np.concatenate(list(shares.values()))
    pixels = np.stack([1000 * right, 1000 * (1 - right), 0 * right, 0 * right], axis=1)
    return results.of(frame.assign(confusion=list(np.rint(pixels).astype(int))))


def test_pixels_are_compared_by_their_shares():
    shares = np.linspace(0.2, 0.8, 60)
    lower = {"pgd@cnn+best": shares, "square@cnn+best": shares - 0.06}
    (defence,) = defences(dense(lower))
    assert defence.is_dense
    assert defence.attacks[0].shares.to_numpy() == pytest.approx(np.rint(1000 * shares) / 1000)
    (outcome,) = (o for o in flags_of(defence) if o.flag == "blackbox")
    assert outcome.against == 60 and outcome.severity == SUSPECT
    (defence,) = defences(dense(lower | {"square@cnn+best": shares + 0.06}))
    assert worst([o for o in flags_of(defence) if o.flag == "blackbox"]) == PASS


# ---------------------------------------------------------------- tables


def test_the_table_has_a_cell_for_each_flag_and_a_sentence_for_each_reason(tmp_path):
    rows = Rows(60).attack("clean", 60).attack("margin@cnn+best", 40)
    rows.attack("square@cnn+best", 10)
    probe = tmp_path / "probe.json"
    settings = {"dataset": "digits", "classifier": {"name": "cnn"}, "purifier": {"name": "best"}}
    points = {"default": HONEST_PROBE | {"softmax": True, "loop": True}}
    write_json(probe, json.loads(json.dumps({"points": points})), {"settings": settings})
    cells = table(rows.results, [probe])
    by_column = {cell.column: cell for cell in cells}
    assert [*by_column] == ["worst", *FLAGS]
    assert {cell.row for cell in cells} == {"digits, cnn: best"}
    texts = {name: by_column[name].text for name in ("worst", "blackbox", "softmax", "loop")}
    assert texts == {"worst": SUSPECT, "blackbox": SUSPECT, "softmax": PASS, "loop": PASS} | {
        "softmax": WARN
    }
    about = by_column["blackbox"].about
    assert (about["against"], about["expected"]) == (30, 0) and about["p"] < 1e-9
    first, *_, last = cells.notes
    assert first.startswith("digits, cnn: best: suspect, blackbox: square+, by queries, fools 30")
    assert last.startswith("Unknown, ") and last.endswith("(of all defences).")
    without = {cell.column: cell.text for cell in table(rows.results)}
    assert without["softmax"] == without["loop"] == UNKNOWN


def test_flags_stand_beside_accuracies_under_attack():
    rows = Rows(60).attack("clean", 60).attack("margin@cnn+best", 40)
    rows.attack("square@cnn+best", 10).attack("pgd@cnn", 50)
    cells = accuracy(rows.results, lambda about: (about["threat"], "accuracy"))
    assert {cell.row: cell.flags for cell in cells} == {
        "clean": "",
        "margin@cnn+best": "suspect: blackbox",
        "square@cnn+best": "",
        "pgd@cnn": "",
    }
    assert [cell.estimate.value for cell in cells] == pytest.approx(
        [100, 100 * 40 / 60, 100 * 10 / 60, 100 * 50 / 60]
    )
    cells = worst_case(rows.results, lambda about: (about["attacker"], "accuracy"))
    assert {cell.row: cell.flags for cell in cells} == {
        "clean": "",
        "oblivious": "",
        "adaptive": "suspect: blackbox",
        "all": "suspect: blackbox",
    }


def test_an_attack_whose_function_is_no_longer_there_leaves_the_accuracy():
    rows = Rows(60).attack("margin@cnn+best", 40)
    rows.attacks["margin"]["points"]["default"] = {"function": "gradient.gone", "settings": {}}
    (cell,) = accuracy(rows.results, lambda about: ("", ""))
    assert cell.flags == "" and cell.estimate.value == pytest.approx(100 * 40 / 60)
    with pytest.raises(BadInput, match=r"gradient\.gone"):
        table(rows.results)


def test_the_worst_severity_is_written_beside_a_number(tmp_path):
    rows = Rows(60).attack("clean", 60).attack("margin@cnn+best", 40)
    rows.attack("square@cnn+best", 10)
    cells = worst_case(rows.results, lambda about: ("best", about["attacker"]))
    paths = {kind: tmp_path / f"table.{kind}" for kind in ("csv", "markdown", "latex")}
    write(cells, "paper", "table", [], paths)
    lines = {line["column"]: line for line in csv.DictReader(paths["csv"].open(encoding="utf-8"))}
    assert lines["all"]["flags"] == "suspect: blackbox" and lines["clean"]["flags"] == ""
    text = paths["markdown"].read_text(encoding="utf-8")
    assert "16.7 [9.3, 28.0], suspect" in text and "100.0 [94.0, 100.0] |" in text
    assert "a suspect one is an upper bound" in text
    # Where nothing is flagged nothing is added.
    write([replace(cell, flags="") for cell in cells], "paper", "table", [], paths)
    assert "flags" not in paths["csv"].read_text(encoding="utf-8")
    assert "suspect" not in paths["markdown"].read_text(encoding="utf-8")


def test_the_accuracy_of_what_other_attacks_left_says_so():
    own = {"skipped": np.arange(60) < 20}
    rows = Rows(60).attack("margin@cnn+best", np.arange(60) >= 20)
    rows.attack("square@cnn+best", np.arange(60) >= 40, facts=own)
    cells = {c.row: c for c in accuracy(rows.results, lambda about: (about["threat"], ""))}
    left = cells["square@cnn+best"]
    assert left.estimate.n == 40 and left.estimate.value == 50
    assert left.metric == "robust accuracy on what other attacks left"
    cells = worst_case(rows.results, lambda about: (about["attacker"], ""))
    assert {cell.row: cell.estimate.value for cell in cells}["all"] == pytest.approx(100 / 3)


def test_every_flag_has_a_function_and_says_what_it_needs():
    assert all(callable(flag) and flag.__doc__ and needs for flag, needs in FLAGS.values())
    assert rules.SEVERITIES == (PASS, UNKNOWN, WARN, SUSPECT, ERROR)
