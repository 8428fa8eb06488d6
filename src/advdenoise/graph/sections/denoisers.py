"""The section `denoisers`: trained autoencoders and generators."""

from typing import TYPE_CHECKING, Required, TypedDict

from advdenoise.errors import BadInput
from advdenoise.graph import choices, components, threats
from advdenoise.graph.components import Signature
from advdenoise.graph.sections import training
from advdenoise.graph.sections.attacks import check_one_victim, check_threat, looks_at_model
from advdenoise.graph.sections.common import Settings, check_configured, returned
from advdenoise.graph.sections.networks import (
    Conversion,
    check_conversion,
    check_origin,
    conversion,
)
from advdenoise.graph.sections.training import GENERATOR_UPDATE, Training
from advdenoise.graph.threats import CLEAN

if TYPE_CHECKING:
    from advdenoise.graph.configuration import Configuration

_GENERATOR = "Generator"  # what functions return whose networks make images of codes


class Source(TypedDict, total=False):
    """What a share of each batch went through: a threat, or noise that is drawn afresh."""

    threat: str
    noise: str
    share: Required[float]


class Denoiser(Conversion, total=False):
    """A denoiser, trained or with weights from a file."""

    function: Required[str]
    settings: Settings
    training: Training
    trained_on: list[Source]
    weights: str
    datasets: list[str]


def check(config: "Configuration") -> None:
    """Check each denoiser by itself. Raises BadInput."""
    for name, entry in config["denoisers"].items():
        key = f"denoisers.{name}"
        choices.refuse(key, entry)
        components.check("denoisers", key, entry)
        check_origin(key, entry)
        if "training" in entry:
            if "trained_on" not in entry:
                raise BadInput(f"{key}: the key 'trained_on' is missing; add it")
            _check_training(f"{key}.training", entry, entry["training"])
        _check_conversion(key, entry)


def check_references(config: "Configuration") -> None:
    """Check what each denoiser names in other sections. Raises BadInput."""
    for name, entry in config["denoisers"].items():
        key = f"denoisers.{name}"
        training.check_references(config, "denoisers", name)
        if "trained_on" in entry:
            _check_sources(config, f"{key}.trained_on", entry["trained_on"])
        if "network" in entry.get("training", {}):
            training.check_trained(config, key, entry, "network", "classifiers")
    for name in config["denoisers"]:
        _check_acyclic(config, [name])


def is_generator(denoiser: Denoiser) -> bool:
    """Whether a denoiser makes images of codes, and takes none."""
    return returned("denoisers", denoiser) == _GENERATOR


def _check_training(key: str, entry: Denoiser, settings: Training) -> None:
    signature = training.check_function(key, settings)
    step = settings["function"]
    if "network" in signature.injected and "network" not in settings:
        raise BadInput(f"{key}: {step} looks at a trained classifier; add the key 'network'")
    if "network" in settings and "network" not in signature.injected:
        raise BadInput(f"{key}.network: {step} uses no network; take it out")
    if "dataset" in settings:
        raise BadInput(f"{key}.dataset: a denoiser is trained on the data set at hand; take it out")
    if "stop" in settings:
        raise BadInput(f"{key}.stop: a denoiser has no accuracy; take it out")
    _check_step(key, entry, step, signature)


def _check_step(key: str, entry: Denoiser, step: str, signature: Signature) -> None:
    """A generator learns against a critic, any other denoiser from clean images."""
    function = entry["function"]
    if is_generator(entry):
        if signature.returns != GENERATOR_UPDATE:
            raise BadInput(
                f"{key}.function: {function} is a generator, which takes no images, but {step} "
                "trains denoisers of images; choose a step that trains generators"
            )
    elif signature.returns == GENERATOR_UPDATE:
        raise BadInput(
            f"{key}.function: {step} trains generators, but {function} is none; choose another step"
        )
    elif {"labels", "masks"} & {*signature.injected} and "targets" not in signature.injected:
        raise BadInput(
            f"{key}.function: {step} trains classifiers, but {function} is a denoiser; choose "
            "another step"
        )


def _check_conversion(key: str, entry: Denoiser) -> None:
    keys = [*conversion(entry)]
    if keys and is_generator(entry):
        raise BadInput(
            f"{key}.{keys[0]}: {entry['function']} is a generator, which takes no images; take it "
            "out"
        )
    check_conversion(key, entry)


def _check_sources(config: "Configuration", key: str, sources: list[Source]) -> None:
    """Each source is a noise or a threat that names all it needs, and shares add up to 1."""
    for place, source in enumerate(sources):
        if "noise" in source and "threat" not in source:
            _check_noise(config, f"{key}.{place}.noise", source["noise"])
        elif "threat" in source and "noise" not in source:
            _check_source_threat(config, f"{key}.{place}.threat", source["threat"])
        else:
            raise BadInput(f"{key}.{place}: give either 'threat' or 'noise'")
    total = sum(source["share"] for source in sources)
    if abs(total - 1) > 1e-6:
        raise BadInput(f"{key}: the shares add up to {total:g}; they must add up to 1")
    check_one_victim(config, key, [s["threat"] for s in sources if "threat" in s])


def _check_noise(config: "Configuration", key: str, name: str) -> None:
    check_configured(config, "attacks", name, key)
    if looks_at_model(config["attacks"][name]):
        raise BadInput(
            f"{key}: {name!r} looks at a model; name it as a threat, such as {name}@classifier"
        )


def _check_source_threat(config: "Configuration", key: str, text: str) -> None:
    threat = check_threat(config, text, key)
    if not threat.is_clean and threat.victim is None:
        raise BadInput(f"{key}: {text!r} names no victim; write {threat.attack}@classifier")
    if threat.purifier == "":
        raise BadInput(f"{key}: {text!r} names no purifier; write the purifier's name after the +")


def _check_acyclic(config: "Configuration", path: list[str]) -> None:
    """No denoiser is trained on adaptive attacks on it, or starts from one that is.

    `path` ends with the denoiser.
    """
    name = path[-1]
    entry = config["denoisers"][name]
    reasons = {}
    if start := entry.get("training", {}).get("start"):
        reasons[start] = (
            f"training.start: {start!r} is trained on what knows {name!r}; start from another"
        )
    for source in entry.get("trained_on", []):
        text = source.get("threat", CLEAN)
        purifier = threats.parse(text).purifier
        denoiser = config["purifiers"][purifier].get("denoiser") if purifier else None
        if denoiser:
            reasons[denoiser] = (
                f"trained_on: {text!r} is adaptive to the denoiser {denoiser!r} that is trained "
                "on it; train on an oblivious attack"
            )
    for denoiser, reason in reasons.items():
        if denoiser in path:
            raise BadInput(f"denoisers.{name}.{reason}")
        _check_acyclic(config, [*path, denoiser])
