"""Training on what a trained classifier, the loss network, sees in denoised and clean images."""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

from advdenoise.errors import BadInput, suggest
from advdenoise.ranges import NonNegativeFloat
from advdenoise.training._steps import Update, compares_with


class _Enough(Exception):
    """All maps are there: the rest of the forward pass is not needed."""


def _maps(network: nn.Module, images: Tensor, *, layers: Sequence[str]) -> list[Tensor]:
    """The outputs of the modules `layers`, float32, from one pass that ends at the last of them."""
    modules = dict(network.named_modules())
    for name in layers:
        if name not in modules:
            raise BadInput(
                f"features.reconstruct: settings.layers: the network has no module {name!r}; "
                f"{suggest(name, filter(None, modules))}"
            )
    found: dict[str, Tensor] = {}

    def taking(name: str):
        def take(module, inputs, output):
            # A copy, since the next module may work in place.
            found[name] = output.float().clone()
            if len(found) == len(layers):
                raise _Enough

        return take

    hooks = [modules[name].register_forward_hook(taking(name)) for name in layers]
    try:
        network(images)
    except _Enough:
        pass
    finally:
        for hook in hooks:
            hook.remove()
    return [found[name] for name in layers]


@compares_with(_maps)
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

    alpha S_3 + beta S_7 + gamma S_10 + delta S_0 with S the sum of squared differences of an image,
    averaged over the batch: S_3, S_7, S_10 between the maps of `network`'s modules `layers` for the
    denoised and the clean image (`reference`), weighted by `weights`, S_0 between the images
    themselves, weighted by `pixel_weight`. The constants are 1/2048, 1/4096, 1/8192 and 1/784
    rounded: they turn sums over maps of the printed sizes and over 28x28 pixels into means. The
    default layers, 3, 7 and 10 layers before the softmax of `vgg.vgg16`, are what the text
    describes; the authors' prototype takes relu5_2, pool4 and relu4_2.

    Metrics: each weighted term, under the name of its layer, and `pixels`. Raises BadInput for a
    layer that the network does not have, a layer named twice and another number of weights than
    of layers.
    """
    if len(weights) != len(layers) or len({*layers}) != len(layers):
        raise BadInput(
            f"features.reconstruct: settings.weights: {len(weights)} weights for the layers "
            f"{', '.join(layers)}; give each layer once and a weight for each"
        )
    denoised = model(images).float()
    terms = {"pixels": pixel_weight * _squares(denoised, targets)}
    maps = _maps(network, denoised, layers=layers)
    for name, weight, found, wanted in zip(layers, weights, maps, reference, strict=True):
        terms[name] = weight * _squares(found, wanted)
    return sum(terms.values()), terms


def _squares(found: Tensor, wanted: Tensor) -> Tensor:
    """Sum of squared differences of an image, mean over the batch."""
    return functional.mse_loss(found, wanted, reduction="sum") / len(found)
