"""The section `attacks`: attacks and corruptions, and the threats that use them."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal, Required, TypedDict

from advdenoise.errors import BadInput, suggest
from advdenoise.graph import choices, components, threats
from advdenoise.graph.components import OF_DENOISERS, Signature
from advdenoise.graph.resolution import is_block
from advdenoise.graph.sections.common import (
    Point,
    Raw,
    Settings,
    check_configured,
    check_points,
    lay_out_points,
    point_key,
    refuse_name,
)
from advdenoise.graph.threats import CLEAN, NO_PURIFIER, Threat

if TYPE_CHECKING:
    from advdenoise.graph.configuration import Configuration

# Settings that are lengths in pixels and so follow `epsilon_unit`.
_LENGTHS = ("epsilon", "alpha")
# Values of `through` that are no purifier's name.
PATHS = ("full", "identity", "denoiser")
# Keys of what an attack does with the purifier that it knows.
_OF_KNOWN = ("through", "forward", "draws", "knows_draws")


class Unit(TypedDict):
    """The unit of epsilon and alpha; `pixels` is one unit in pixels of [0,1]."""

    name: str
    pixels: float


class Attack(TypedDict, total=False):
    """An attack; lengths of its points are in pixels of [0,1], whatever the unit they came in."""

    points: Required[dict[str, Point]]
    epsilon_unit: Unit
    labels: Literal["ground_truth", "predicted", "random_target"] | dict[str, str | int]
    output: Literal["logits", "probabilities"]
    surrogate: str
    through: str
    forward: Literal["purifier"]
    draws: int
    knows_draws: bool
    spare: list[str]
    precision: Literal["float32", "bfloat16"]
    datasets: list[str]


# ---------------------------------------------------------------- completion


def complete(config: Raw) -> None:
    """Lay out points, with lengths in pixels and with choices that follow others.

    Raises BadInput.
    """
    refuse_name(config, "attacks", CLEAN)
    for name, entry in config["attacks"].items():
        key = f"attacks.{name}"
        _expand_epsilons(key, entry)
        lay_out_points(key, entry)
        _convert_unit(key, entry)
    choices.complete(config["attacks"], "attacks")


def _expand_epsilons(key: str, entry: Raw) -> None:
    """A list of epsilons becomes one point each; a cycle stays one point."""
    if not isinstance(entry.get("epsilons"), list):
        return
    epsilons = entry.pop("epsilons")
    if "points" in entry:
        raise BadInput(
            f"{key}.epsilons: a list of epsilons makes points of its own; give either it or points"
        )
    width = len(str(len(epsilons)))
    entry["points"] = {
        f"e{place:0{width}d}": {"settings": {"epsilon": epsilon}}
        for place, epsilon in enumerate(epsilons, start=1)
    }


def _convert_unit(key: str, entry: Raw) -> None:
    """Lengths in another unit become pixels, and every epsilon lies in [0,1]."""
    pixels = entry.get("epsilon_unit", {}).get("pixels", 1.0)
    for name, point in entry["points"].items():
        settings = point["settings"]
        for length in _LENGTHS:
            if length in settings:
                settings[length] = choices.scaled(settings[length], pixels)
        cycle = point.get("epsilons", {}).get("cycle", [])
        if cycle:
            point["epsilons"]["cycle"] = [epsilon * pixels for epsilon in cycle]
        own = settings.get("epsilon", 0.0)
        own = own["choose"] if is_block(own) else [own]
        for epsilon in [*cycle, *own]:
            if choices.is_number(epsilon) and not 0 <= epsilon <= 1:
                raise BadInput(
                    f"{point_key(key, entry['points'], name)}.settings.epsilon: {epsilon:g} lies "
                    "outside [0,1]; give it in pixels of [0,1] or say its epsilon_unit"
                )


# ---------------------------------------------------------------- checks


def check(config: "Configuration") -> None:
    """Check each attack by itself. Raises BadInput."""
    for name, entry in config["attacks"].items():
        key = f"attacks.{name}"
        _check_choices(name, entry)
        for place, point, signature in check_points("attacks", key, entry["points"]):
            _check_labels(key, entry, signature)
            _check_step(f"{place}.settings", point["settings"], signature)
            _check_loss(f"{place}.settings.loss", entry, point["settings"], signature)
        _check_purifier_keys(key, entry)


def check_references(config: "Configuration") -> None:
    """Check what each attack names in other sections. Raises BadInput."""
    for name, entry in config["attacks"].items():
        if "surrogate" in entry:
            _check_surrogate(config, f"attacks.{name}", entry, entry["surrogate"])
        if entry.get("through", PATHS[0]) not in PATHS:
            _check_through(config, f"attacks.{name}.through", entry["through"])
    for name in config["attacks"]:
        _check_spare(config, name)


def looks_at_model(attack: Attack) -> bool:
    """Whether an attack asks for any model, as RANDOM and corruptions do not."""
    return bool({"predict", "victim", "classifier", *OF_DENOISERS} & injected_names(attack))


def injected_names(attack: Attack) -> set[str]:
    """What the functions of an attack are handed by name."""
    points = attack["points"].values()
    return {n for p in points for n in components.signature_of("attacks", p).injected}


def _check_choices(name: str, entry: Attack) -> None:
    for key, (_, _, block) in choices.check_own("attacks", name, entry):
        if "mse" not in block["by"]:
            raise BadInput(f"{key}.by: an attack chooses by the noise it makes; give the key 'mse'")
        if not looks_at_model(entry):
            raise BadInput(f"{key}: nothing is chosen for an attack without a model; give a value")
        if isinstance(block["by"]["mse"], dict):
            choices.check_published(f"{key}.by.mse", block["by"]["mse"])


def _check_labels(key: str, entry: Attack, signature: Signature) -> None:
    labels = entry.get("labels")
    targeted = labels == "random_target" or isinstance(labels, dict)
    if targeted and "targeted" not in signature.injected:
        raise BadInput(f"{key}.labels: the function has no targeted form; take `labels` out")
    if "epsilon_unit" in entry and "epsilon" not in signature.settings:
        raise BadInput(f"{key}.epsilon_unit: the function has no epsilon; take it out")


def _check_step(key: str, settings: Settings, signature: Signature) -> None:
    """The length of a step is given in one of two ways."""
    ways = ("alpha", "alpha_per_epsilon")
    lengths = [way for way in ways if settings.get(way) is not None]
    if {*ways} <= {*signature.settings} and len(lengths) != 1:
        raise BadInput(
            f"{key}: give either alpha (a step in pixels of [0,1]) or alpha_per_epsilon (a step as "
            f"a share of epsilon), not {'both' if lengths else 'none'}"
        )


def _check_loss(key: str, entry: Attack, settings: Settings, signature: Signature) -> None:
    """A loss that undoes the scale of logits is not for probabilities."""
    loss = settings.get("loss", signature.defaults.get("loss"))
    if loss == "dlr" and entry.get("output") == "probabilities":
        raise BadInput(
            f"{key}: dlr compares logits, but the attack's `output` is probabilities; write "
            "loss: margin or leave `output` out"
        )


def _check_purifier_keys(key: str, attack: Attack) -> None:
    """How an attack goes through a purifier is said only where one of its functions does."""
    for word in _OF_KNOWN:
        names = {"predict"} if word in ("through", "forward") else {"predict", "victim"}
        if word in attack and not names & injected_names(attack):
            raise BadInput(f"{key}.{word}: the attack asks nothing through a purifier; take it out")
    if "precision" in attack and "predict" not in injected_names(attack):
        raise BadInput(f"{key}.precision: the attack takes no gradient of a network; take it out")
    if "forward" in attack and attack.get("through", "full") in ("full", "identity"):
        raise BadInput(
            f"{key}.forward: holds only where another thing gives the gradient; say `through: "
            "denoiser` or a purifier's name, or take it out"
        )
    if attack.get("knows_draws") and "draws" in attack:
        raise BadInput(
            f"{key}.draws: with `knows_draws` there is one draw, the defender's first; take one of "
            "the two out"
        )


def _check_surrogate(config: "Configuration", key: str, attack: Attack, name: str) -> None:
    """The surrogate is there, and for the data sets that the attack says it is for."""
    check_configured(config, "classifiers", name, f"{key}.surrogate")
    datasets = config["classifiers"][name].get("datasets")
    for dataset in attack.get("datasets", []):
        if datasets is not None and dataset not in datasets:
            raise BadInput(
                f"{key}.surrogate: {name!r} is not for data set {dataset!r}; add it to "
                f"classifiers.{name}.datasets or say {key}.datasets without it"
            )


def _check_through(config: "Configuration", key: str, name: str) -> None:
    """The purifier whose gradient stands in is there, and has one point."""
    if name not in config["purifiers"]:
        raise BadInput(
            f"{key}: {name!r} is neither a path nor a purifier; "
            f"{suggest(name, [*PATHS, *config['purifiers']])}"
        )
    if len(points := config["purifiers"][name]["points"]) > 1:
        raise BadInput(
            f"{key}: purifier {name!r} has {len(points)} points; make an entry of its own with the "
            "point that gives the gradient"
        )


def _check_spare(config: "Configuration", name: str) -> None:
    """The attacks that another one relies on are there, and none relies on itself in the end."""
    key, attacks = f"attacks.{name}.spare", config["attacks"]
    for other in attacks[name].get("spare", []):
        check_configured(config, "attacks", other, key)
    waiting, visited = [*attacks[name].get("spare", [])], set()
    while waiting:
        other = waiting.pop()
        if other == name:
            raise BadInput(f"{key}: {name!r} waits for itself; take it or what leads to it out")
        if other not in visited and other in attacks:
            visited.add(other)
            waiting += attacks[other].get("spare", [])


# ---------------------------------------------------------------- threats


def check_threat(config: "Configuration", text: str, key: str) -> Threat:
    """The threat of that name. Raises BadInput, naming `key`, where a part is not configured."""
    threat = threats.parse(text)
    if threat.is_clean:
        if threat != Threat(CLEAN):
            raise BadInput(f"{key}: {text!r}: clean images have no victim; write clean")
        return threat
    if threat.attack not in config["attacks"]:
        raise BadInput(
            f"{key}: {threat.attack!r} is not configured under attacks; "
            f"{suggest(threat.attack, {*config['attacks'], CLEAN})}"
        )
    attack = config["attacks"][threat.attack]
    if threat.victim:
        check_configured(config, "classifiers", threat.victim, key)
    if threat.purifier:
        check_configured(config, "purifiers", threat.purifier, key)
    if threat.purifier is None:
        _check_oblivious(f"attacks.{threat.attack}", attack, text, key)
    elif not looks_at_model(attack):
        raise BadInput(
            f"{key}: {text!r}: {threat.attack} needs no model and so cannot be adaptive; "
            "take the + and what follows away"
        )
    if threat.purifier and (reason := why_not_adaptive(config, text, threat.purifier)):
        raise BadInput(f"{key}: {reason}")
    return threat


def _check_oblivious(attack_key: str, attack: Attack, text: str, key: str) -> None:
    """What an attack says of purifiers holds only where it is adaptive to one."""
    adaptive_only = [f".{word}" for word in _OF_KNOWN if word in attack]
    if OF_DENOISERS & injected_names(attack):
        adaptive_only.append("")
    if adaptive_only:
        name = attack_key.removeprefix("attacks.")
        raise BadInput(
            f"{attack_key}{adaptive_only[0]}: holds only for an adaptive attack, but "
            f"{key} uses it as {text!r}; write {name}+"
        )


def why_not_adaptive(config: "Configuration", text: str, purifier: str) -> str | None:
    """Why the attack of a threat cannot be adaptive to a purifier; None where it can.

    The purifier has several points, or no denoiser for an attack that needs one.
    """
    entry, attack = config["purifiers"][purifier], config["attacks"][threats.parse(text).attack]
    looks = attack.get("through") == "denoiser" or OF_DENOISERS & injected_names(attack)
    if looks and purifier != NO_PURIFIER and "denoiser" not in entry:
        return (
            f"{text!r} needs the denoiser of purifier {purifier!r}, which uses none; "
            "take the purifier or the threat out"
        )
    if len(points := entry["points"]) > 1:
        return (
            f"{text!r} is adaptive to purifier {purifier!r}, which has {len(points)} points; "
            "choose one: make an entry of its own with the point that is attacked"
        )
    return None


def check_one_victim(config: "Configuration", key: str, texts: Iterable[str]) -> None:
    """Raise BadInput where an attack with a choice has several victims among these threats.

    It chooses for each victim, and a job that reads the threats gets the attack once.
    """
    victims: dict[str, str] = {}
    for text in texts:
        attack, _, victim = text.partition("+")[0].partition("@")
        chooses = attack in config["attacks"] and choices.choosers(config["attacks"][attack])
        if chooses and victims.setdefault(attack, victim) != victim:
            raise BadInput(
                f"{key}: attack {attack!r} chooses for each victim and has several here; "
                "give each an entry of its own"
            )
