"""How a network is trained: by a step that suits it, with settings that its optimiser knows."""

from advdenoise.errors import BadInput
from advdenoise.graph import components
from advdenoise.graph.components import Signature
from advdenoise.graph.kinds import GENERATOR, GENERATOR_UPDATE, SEGMENTER, returned
from advdenoise.training._settings import check_optimiser


def check_training(kind: str, name: str, entry: dict) -> None:
    """Refuse a training step or an optimiser that does not suit a classifier or a denoiser."""
    key, training = f"{kind}.{name}.training", entry["training"]
    signature = components.check("training", key, training)
    _check_looking(kind, key, training, signature)
    if kind == "classifiers":
        _check_classifier(key, entry, signature)
    else:
        _check_denoiser(key, entry, signature)
    check_optimiser(f"{key}.optimiser", training["optimiser"])
    for place, phase in enumerate(training.get("phases", [])):
        check_optimiser(f"{key}.phases.{place}.optimiser", phase["optimiser"])


def _check_looking(kind: str, key: str, training: dict, signature: Signature) -> None:
    """A step that looks at a network gets one; only denoisers are trained by such a step."""
    looks, function = "network" in signature.injected, training["function"]
    if looks and kind != "denoisers":
        raise BadInput(f"{key}.function: {function} trains denoisers only; choose another step")
    if looks and "network" not in training:
        raise BadInput(f"{key}: {function} looks at a trained classifier; add the key 'network'")
    if "network" in training and not looks:
        raise BadInput(f"{key}.network: {function} looks at no network; take it out")


def _check_classifier(key: str, entry: dict, signature: Signature) -> None:
    """A segmenter learns from masks, any other classifier from labels."""
    learns, other = "labels", "masks"
    if returned("classifiers", entry) == SEGMENTER:
        learns, other = other, learns
    if learns not in signature.injected or other in signature.needed:
        raise BadInput(
            f"{key}.function: {entry['function']} learns from {learns}, but "
            f"{entry['training']['function']} does not teach that; choose another step"
        )


def _check_denoiser(key: str, entry: dict, signature: Signature) -> None:
    """A generator learns against a critic, any other denoiser from clean images."""
    function, step = entry["function"], entry["training"]["function"]
    if "stop" in entry["training"]:
        raise BadInput(f"{key}.stop: a denoiser has no accuracy; take it out")
    if returned("denoisers", entry) == GENERATOR:
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
