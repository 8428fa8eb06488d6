"""Distances between feature maps of a classifier's named modules for pairs of images."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from advdenoise.errors import BadInput, suggest

# Elements converted to float64 at once; on a CPU, four such blocks fit into the cache.
BLOCK_ELEMENTS = {"cpu": 1 << 16, "cuda": 1 << 24}


class Taps:
    """Collect the outputs of named modules during a forward pass.

        with Taps(model, ["layers.3", "layers.25"]) as taps:
            logits = model(images)
            maps = taps.take()

    Of a module that runs several times in one pass, the last output counts. Without `reduce`, a map
    is copied when it is collected, because the next module may work in place.

    Args:
        model: any module.
        names: names as in `model.named_modules()`.
        reduce: function of a name and a map, called during the pass; its result is collected
            instead of the map. It must not keep the map without copying it.
        key: the key of `names` in the configuration, for messages.

    Raises:
        BadInput: for the name of a module that the model does not have.
    """

    def __init__(
        self,
        model: nn.Module,
        names: Sequence[str],
        reduce: Callable[[str, Tensor], Any] | None = None,
        key: str = "distances.taps",
    ):
        self._model = model
        self._key = key
        self._names = list(names)
        self._reduce = reduce or (lambda _, output: output.clone())
        self._modules = _named_modules(model, self._names, key)
        self._outputs: dict[str, Tensor] = {}
        self._hooks: list = []

    def __enter__(self) -> "Taps":
        self._hooks = [self._model.register_forward_pre_hook(lambda *_: self._outputs.clear())]
        for name, module in self._modules.items():
            self._hooks.append(module.register_forward_hook(self._hook(name)))
        return self

    def __exit__(self, *_) -> None:
        for hook in self._hooks:
            hook.remove()
        self._outputs.clear()

    def take(self) -> dict[str, Any]:
        """The outputs of the last pass by name, in the order of `names`; this forgets them.

        Raises:
            BadInput: for a module that did not run, also if the outputs were taken already.
        """
        missing = [name for name in self._names if name not in self._outputs]
        if missing:
            raise BadInput(
                f"{self._key}: module {missing[0]!r} of {type(self._model).__name__} does not "
                "run in a forward pass; name one that does, such as a module inside it"
            )
        outputs, self._outputs = self._outputs, {}
        return {name: outputs[name] for name in self._names}

    def _hook(self, name: str):
        def collect(module, inputs, output):
            if not isinstance(output, Tensor):
                raise BadInput(
                    f"{self._key}: module {name!r} returns a {type(output).__name__} instead of a "
                    "tensor; name a module inside it"
                )
            self._outputs[name] = self._reduce(name, output)

        return collect


def _named_modules(model: nn.Module, names: Sequence[str], key: str) -> dict[str, nn.Module]:
    modules = dict(model.named_modules(remove_duplicate=False))
    for name in names:
        if name not in modules:
            raise BadInput(
                f"{key}: {type(model).__name__} has no module {name!r}; "
                f"{suggest(name, filter(None, modules))}"
            )
    return {name: modules[name] for name in names}


class Comparison:
    """A `reduce` function of `Taps` that copies the clean maps, then compares others with them.

    Maps are compared during the forward pass, so that only the clean ones are stored.

    Args:
        rectified: names of the modules whose maps are compared after ReLU, and unchanged as `raw`.
            In Yoon et al. 2019 (section 4) "except for the last FC layer, all feature maps were
            observed after Relu", while modules that end before a norm, as in pre-activation and
            densely connected networks, give negative values too.

    Attributes:
        clean: the clean maps by name; None while these are collected.
    """

    def __init__(self, rectified: Sequence[str] = ()):
        self._rectified = frozenset(rectified)
        self.clean = None

    @property
    def clean(self) -> Mapping[str, Tensor] | None:
        return self._clean

    @clean.setter
    def clean(self, maps: Mapping[str, Tensor] | None) -> None:
        self._clean = maps
        # ReLU is applied once per batch, and not to maps that have no negative values.
        maps = maps or {}
        self._after_relu = {
            name: None if _is_rectified(maps[name]) else maps[name].relu()
            for name in self._rectified & maps.keys()
        }

    def __call__(self, name: str, output: Tensor) -> "Tensor | Distance":
        if self._clean is None:
            return output.clone()
        raw = distance(self._clean[name], output)
        clean = self._after_relu.get(name)
        if name not in self._rectified or (clean is None and _is_rectified(output)):
            return raw
        clean = self._clean[name] if clean is None else clean
        return distance(clean, output.relu())._replace(raw=raw)


def _is_rectified(output: Tensor) -> bool:
    """Whether a map has no negative values, so that ReLU does not change it."""
    return bool(output.amin() >= 0)


class Distance(NamedTuple):
    """Distances of N pairs of maps of one layer.

    `elements` is the number n of elements of a map; `l2` and `cos_d` are float64 [N]. Yoon et al.
    2019, section 3, normalise the Euclidean distance by n (`ne_d`), which makes it larger for small
    layers than for large ones; normalised by the root of n (`ne_d_sqrt`), it is the root mean
    square difference. `raw` are the distances of the maps before ReLU, None if they are the same.
    """

    elements: int
    l2: Tensor
    cos_d: Tensor
    raw: "Distance | None" = None

    @property
    def before_relu(self) -> "Distance":
        """The distances of the maps without a ReLU applied to them."""
        return self if self.raw is None else self.raw

    @property
    def ne_d(self) -> Tensor:
        """The Euclidean distance over the number of elements: float64 [N]."""
        return self.l2 / self.elements

    @property
    def ne_d_sqrt(self) -> Tensor:
        """The Euclidean distance over the root of the number of elements: float64 [N]."""
        return self.l2 / self.elements**0.5


def layer_distances(
    clean: Mapping[str, Tensor], other: Mapping[str, Tensor]
) -> dict[str, Distance]:
    """Compare the maps of two passes for each layer and image.

    Args:
        clean, other: maps [N, ...] by layer, of equal shapes.
    """
    return {name: distance(clean[name], other[name]) for name in clean}


@torch.no_grad()
def distance(clean: Tensor, other: Tensor) -> Distance:
    """Euclidean and cosine distance between the rows of `clean` and of `other`, both [N, ...].

    Sums are computed in float64. The cosine distance (COS-D) is 1 - cos of the angle between the
    flattened maps, in [0, 2]; it is 0 between two zero maps and 1 between a zero map and another.

    Raises:
        ValueError: for maps of different shapes.
    """
    if clean.shape != other.shape:
        raise ValueError(
            f"maps must have equal shapes, got {tuple(clean.shape)} and {tuple(other.shape)}"
        )
    clean, other = _flat(clean, other)
    elements = clean.shape[1]
    size = BLOCK_ELEMENTS.get(clean.device.type, BLOCK_ELEMENTS["cuda"])
    rows, columns = min(len(clean), max(1, size // elements)), min(size, elements)
    # Reused by all blocks: allocating it for each takes four times as long as the arithmetic.
    work = clean.new_empty((4, rows * columns), dtype=torch.float64)
    pairs = zip(clean.split(rows), other.split(rows), strict=True)
    sums = torch.cat([_row_sums(a, b, columns, work) for a, b in pairs], dim=1)
    return Distance(elements, sums[0].sqrt(), _cosine_distance(*sums))


def _flat(clean: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """Both maps as [N, n], in any order of elements, so that channels-last maps are not copied."""
    if clean.dim() == 4 and clean.is_contiguous(memory_format=torch.channels_last):
        clean, other = clean.permute(0, 2, 3, 1), other.permute(0, 2, 3, 1)
    return clean.reshape(len(clean), -1), other.reshape(len(other), -1)


def _row_sums(clean: Tensor, other: Tensor, columns: int, work: Tensor) -> Tensor:
    """<d,d>, <d,s>, <a,a>, <b,b>, <a,b> of each row, d = a - b, s = a + b: float64 [5, N]."""
    pairs = zip(clean.split(columns, dim=1), other.split(columns, dim=1), strict=True)
    return sum(_block_sums(a, b, work[:, : a.numel()].view(4, *a.shape)) for a, b in pairs)


def _block_sums(clean: Tensor, other: Tensor, work: Tensor) -> Tensor:
    a, b, d, product = work
    a.copy_(clean)
    b.copy_(other)
    torch.sub(a, b, out=d)
    ds = torch.add(a, b, out=product).mul_(d).sum(1)
    dd, aa, bb, ab = (
        torch.mul(x, y, out=product).sum(1) for x, y in ((d, d), (a, a), (b, b), (a, b))
    )
    return torch.stack([dd, ds, aa, bb, ab])


def _cosine_distance(dd: Tensor, ds: Tensor, aa: Tensor, bb: Tensor, ab: Tensor) -> Tensor:
    norm_a, norm_b = aa.sqrt(), bb.sqrt()
    product = norm_a * norm_b
    # 1 - <a,b>/(|a||b|) suffers from cancellation for nearly equal maps, the case of small
    # perturbations. It equals (|d|^2 - (|a| - |b|)^2) / (2|a||b|), where |a| - |b| =
    # <d,s> / (|a| + |b|) does not cancel. For maps of very different norms the first form is used.
    gap = ds / (norm_a + norm_b)
    cos_d = torch.where(dd < product, (dd - gap**2) / (2 * product), 1 - ab / product)
    cos_d = cos_d.clamp(0, 2)
    cos_d[(aa == 0) | (bb == 0)] = 1.0
    cos_d[(aa == 0) & (bb == 0)] = 0.0
    return cos_d
