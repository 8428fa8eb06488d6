"""The section `purifiers`: what happens to an image at inference."""

from typing import TYPE_CHECKING, Required, TypedDict

from advdenoise.errors import BadInput, suggest
from advdenoise.graph import choices, components
from advdenoise.graph.components import OF_DENOISERS, Signature
from advdenoise.graph.sections.attacks import check_threat
from advdenoise.graph.sections.common import (
    Point,
    Raw,
    check_configured,
    check_points,
    lay_out_points,
    refuse_name,
)
from advdenoise.graph.sections.denoisers import Denoiser, is_generator
from advdenoise.graph.threats import NO_PURIFIER

if TYPE_CHECKING:
    from advdenoise.graph.configuration import Configuration


class Purifier(TypedDict, total=False):
    """A purifier; `draws` is how often a point that draws noise is judged on each image."""

    points: Required[dict[str, Point]]
    denoiser: str
    draws: int
    datasets: list[str]


def complete(config: Raw) -> None:
    """Add the purifier that does nothing, lay out points, with choices that follow others.

    Raises BadInput.
    """
    refuse_name(config, "purifiers", NO_PURIFIER)
    config["purifiers"][NO_PURIFIER] = {"function": "basic.none"}
    for name, entry in config["purifiers"].items():
        lay_out_points(f"purifiers.{name}", entry)
    choices.complete(config["purifiers"], "purifiers")


def check(config: "Configuration") -> None:
    """Check each purifier by itself. Raises BadInput."""
    for name, entry in config["purifiers"].items():
        key = f"purifiers.{name}"
        _check_choices(name, entry)
        signatures = []
        for _, _, signature in check_points("purifiers", key, entry["points"]):
            _check_denoiser_key(key, entry, signature)
            signatures.append(signature)
        _check_draws(key, entry, signatures)


def check_references(config: "Configuration") -> None:
    """Check what each purifier names in other sections. Raises BadInput."""
    for name, entry in config["purifiers"].items():
        if "denoiser" in entry:
            key = f"purifiers.{name}.denoiser"
            check_configured(config, "denoisers", entry["denoiser"], key)
            _check_denoiser(key, entry, config["denoisers"][entry["denoiser"]])
        for block in choices.own(name, entry):
            _check_attack_of_choice(config, f"purifiers.{name}", block)
        _check_one_chooses(config, name, entry)


def _check_choices(name: str, entry: Purifier) -> None:
    attacks = set()
    for key, (_, _, block) in choices.check_own("purifiers", name, entry):
        if "attack" not in block["by"]:
            raise BadInput(f"{key}.by: a purifier chooses by accuracy; give the key 'attack'")
        attacks.add(block["by"]["attack"])
        if len(attacks) > 1:
            raise BadInput(
                f"{key}.by.attack: the points of an entry choose under one attack; name one"
            )


def _check_denoiser_key(key: str, entry: Purifier, signature: Signature) -> None:
    uses = OF_DENOISERS & {*signature.injected}
    if uses and "denoiser" not in entry:
        raise BadInput(f"{key}: the function uses a denoiser; add the key 'denoiser'")
    if "denoiser" in entry and not uses:
        raise BadInput(f"{key}.denoiser: the function uses no denoiser; take it out")


def _check_draws(key: str, entry: Purifier, signatures: list[Signature]) -> None:
    """What draws no random numbers is not judged several times."""
    if "draws" in entry and not any("noise" in signature.injected for signature in signatures):
        function = next(iter(entry["points"].values()))["function"]
        raise BadInput(
            f"{key}.draws: {function} does not list `noise` and so gives the same at every "
            "draw; take `draws` out, or draw from `noise` in the function"
        )


def _check_denoiser(key: str, purifier: Purifier, denoiser: Denoiser) -> None:
    """A purifier that searches a generator's codes uses a generator, and no other does."""
    for point in purifier["points"].values():
        searches = "generate" in components.signature_of("purifiers", point).injected
        if is_generator(denoiser) != searches:
            has, wants = "a denoiser of images", "a generator"
            if not searches:
                has, wants = wants, has
            raise BadInput(
                f"{key}: {denoiser['function']} is {has}, but {point['function']} uses {wants}; "
                "name another denoiser"
            )


def _check_attack_of_choice(config: "Configuration", key: str, block: choices.Block) -> None:
    """The attack that a setting is chosen under is one on the classifier alone."""
    key = f"{key}.points.{block.point}.settings.{block.setting}.by.attack"
    text = block.block["by"]["attack"]
    name, _, point = text.partition(" ")
    points = {} if check_threat(config, name, key).is_clean else config["attacks"][name]["points"]
    if (point or choices.DEFAULT) not in points:
        raise BadInput(
            f"{key}: {text!r} is no point of an attack; "
            f"{suggest(point, [f'{name} {other}' for other in points])}"
        )


def _check_one_chooses(config: "Configuration", name: str, entry: Purifier) -> None:
    """Files of choices are named after the entry, whether attack or purifier."""
    if name not in config["attacks"]:
        return
    chooses = {"attacks": config["attacks"][name], "purifiers": entry}
    for kind, other in chooses.items():
        if choices.own(name, other):
            raise BadInput(
                f"{kind}.{name}: an attack and a purifier of one name, of which one chooses; "
                "rename one of them"
            )
