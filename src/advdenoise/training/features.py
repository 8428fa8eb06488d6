"""Feature losses: differences between the maps of a loss network for denoised and clean images."""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

from advdenoise.errors import BadInput, suggest
from advdenoise.ranges import NonNegativeFloat
from advdenoise.training._steps import Update, with_reference


class _AllMapsCollected(Exception):
    """Ends a forward pass whose remaining layers are not needed."""


def _maps(network: nn.Module, images: Tensor, *, layers: Sequence[str]) -> list[Tensor]:
    """The outputs of the modules `layers`, float32, from one pass that ends after the last."""
    modules = dict(network.named_modules())
    for name in layers:
        if name not in modules:
            raise BadInput(
                f"features.reconstruct: settings.layers: the network has no module {name!r}; "
                f"{suggest(name, filter(None, modules))}"
            )
    outputs: dict[str, Tensor] = {}

    def hook(name: str):
        def collect(module, inputs, output):
            # A copy, since the next module may work in place.
            outputs[name] = output.float().clone()
            if len(outputs) == len(layers):
                raise _AllMapsCollected

        return collect

    handles = [modules[name].register_forward_hook(hook(name)) for name in layers]
    try:
        network(images)
    except _AllMapsCollected:
        pass
    finally:
        for handle in handles:
            handle.remove()
    return [outputs[name] for name in layers]


@with_reference(_maps)
def reconstruct(
    model: nn.Module,
    images: Tensor,
    targets: Tensor,
    network: nn.Module,
    reference: list[Tensor],
    *,
    layers: Sequence[str] = ("layers.relu5_3", "layers.relu4_2", "layers.relu3_2"),
    weights: Sequence[NonNegativeFloat] = (0.00048, 0.00024, 0.00012),
    pixel_weight: NonNegativeFloat = 0.0013,
) -> Update:
    """The feature loss of "feature losses": weighted squared differences of maps and of pixels.

    alpha S_3 + beta S_7 + gamma S_10 + delta S_0, where S is a sum of squared differences per
    image, averaged over the batch: S_3, S_7 and S_10 between the maps of the modules `layers` of
    `network` for the denoised and the clean image (`reference`), weighted by `weights`; S_0 between
    the images themselves, weighted by `pixel_weight`. The constants are 1/2048, 1/4096, 1/8192 and
    1/784, rounded: they turn sums over maps of the printed sizes and over 28x28 pixels into means.
    The default layers, 3, 7 and 10 layers before the softmax of `vgg.vgg16`, are those of the text;
    the authors' prototype takes relu5_2, pool4 and relu4_2.

    Metrics: each weighted term by the name of its layer, and `pixels`.

    Raises:
        BadInput: a layer that the network does not have or that is named twice, or numbers of
            weights and layers that differ.
    """
    if len(weights) != len(layers) or len({*layers}) != len(layers):
        raise BadInput(
            f"features.reconstruct: settings.weights: {len(weights)} weights for the layers "
            f"{', '.join(layers)}; name each layer once, and give a weight for each"
        )
    denoised = model(images).float()
    terms = {"pixels": pixel_weight * _squared_error(denoised, targets)}
    maps = _maps(network, denoised, layers=layers)
    for name, weight, actual, expected in zip(layers, weights, maps, reference, strict=True):
        terms[name] = weight * _squared_error(actual, expected)
    return sum(terms.values()), terms


def _squared_error(actual: Tensor, expected: Tensor) -> Tensor:
    """The sum of squared differences of an image, averaged over the batch."""
    return functional.mse_loss(actual, expected, reduction="sum") / len(actual)
