"""How much of a defence an attack uses, for each kind of threat and entry."""

import pytest

from advdenoise.graph.knowledge import KNOWLEDGE, follows_gradient, knowledge, looks_at_model


def entry(function: str = "gradient.pgd", **keys) -> dict:
    return {"points": {"default": {"function": function, "settings": {}}}, **keys}


CASES = [
    ("clean", entry(), "clean"),
    # On the classifier alone.
    ("pgd@cnn", entry(), "oblivious"),
    ("square@cnn", entry("blackbox.square"), "oblivious"),
    ("noise@cnn", entry("noise.uniform"), "oblivious"),
    # On another classifier or purifier, or by another network's gradient.
    ("pgd@mlp", entry(), "transfer"),
    ("pgd@mlp+best", entry(), "transfer"),
    ("pgd@cnn+other", entry(), "transfer"),
    ("square@cnn+other", entry("blackbox.square"), "transfer"),
    ("pgd@cnn", entry(surrogate="mlp"), "transfer"),
    ("pgd@cnn+best", entry(surrogate="mlp"), "transfer"),
    ("pgd@cnn+best", entry(through="other"), "transfer"),
    # On the classifier behind the purifier at hand.
    ("square@cnn+best", entry("blackbox.square"), "query"),
    ("pgd@cnn+best", entry(through="denoiser"), "grey"),
    ("counter_b@cnn+best", entry("adaptive.counter_b"), "grey"),
    ("pgd@cnn+best", entry(), "adaptive"),
    ("pgd@cnn+best", entry(surrogate="cnn"), "adaptive"),
    ("deepfool@cnn+best", entry("minimal.deepfool"), "adaptive"),
    *(("pgd@cnn+best", entry(through=path), "adaptive") for path in ("identity", "intermediate")),
    ("pgd@cnn+best", entry(through="denoiser", forward="purifier"), "adaptive"),
    ("pgd@cnn+best", entry(through="other", forward="purifier"), "adaptive"),
    # That knows the draws of the evaluation.
    ("pgd@cnn+best", entry(knows_draws=True), "fixed"),
    ("square@cnn+best", entry("blackbox.square", knows_draws=True), "fixed"),
]


@pytest.mark.parametrize(("threat", "attack", "expected"), CASES)
def test_behind_a_purifier(threat, attack, expected):
    assert knowledge(threat, attack, "default", "cnn", "best") == expected
    assert expected in KNOWLEDGE


@pytest.mark.parametrize(
    ("threat", "attack", "expected"),
    [
        ("pgd@cnn", entry(), "adaptive"),
        ("square@cnn", entry("blackbox.square"), "query"),
        ("noise@cnn", entry("noise.uniform"), "oblivious"),
        ("pgd@mlp", entry(), "transfer"),
        ("pgd@cnn", entry(surrogate="mlp"), "transfer"),
        ("pgd@cnn+best", entry(), "transfer"),
    ],
)
def test_without_a_purifier_the_classifier_is_the_whole_defence(threat, attack, expected):
    assert knowledge(threat, attack, "default", "cnn", "none") == expected


def test_points_of_one_entry_have_each_their_own():
    both = entry()
    both["points"]["square"] = {"function": "blackbox.square", "settings": {}}
    result = [knowledge("both@cnn+best", both, p, "cnn", "best") for p in ("default", "square")]
    assert result == ["adaptive", "query"]


@pytest.mark.parametrize(
    ("function", "gradient", "model"),
    [
        ("gradient.fgsm", True, True),
        ("adaptive.counter_b", True, True),
        ("blackbox.square", False, True),
        ("corruptions.jpeg", False, False),
        ("noise.uniform", False, False),
    ],
)
def test_what_functions_look_at(function, gradient, model):
    attack = entry(function)
    assert follows_gradient(attack, "default") is gradient
    assert looks_at_model(attack, "default") is model
