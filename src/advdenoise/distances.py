"""How far a perturbation travels: distances between the maps of a classifier's named modules."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from advdenoise.errors import BadInput, suggest

# Elements widened to float64 at once: on a CPU four blocks that stay in the cache.
BLOCK_ELEMENTS = {"cpu": 1 << 16, "cuda": 1 << 24}


class Taps:
    """Collects the outputs of named modules during a forward pass.

        with Taps(model, ["layers.3", "layers.25"]) as taps:
            logits = model(images)
            maps = taps.take()

    A module that runs several times in one pass keeps what its last call gave. Without `reduce`
    a map is copied when it is collected, because the next module may work in place.

    Args:
        model: any module.
        names: names as in `model.named_modules()`.
        reduce: what to keep of a map, called as reduce(name, map) while the pass runs; it has to
            be done with the map (or to have copied it) when it returns.
        key: where the names stand in the configuration, for messages.

    Raises:
        BadInput: for a name that the model does not have.
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
        self._modules = _named(model, self._names, key)
        self._kept: dict[str, Tensor] = {}
        self._hooks: list = []

    def __enter__(self) -> "Taps":
        self._hooks = [self._model.register_forward_pre_hook(lambda *_: self._kept.clear())]
        for name, module in self._modules.items():
            self._hooks.append(module.register_forward_hook(self._hook(name)))
        return self

    def __exit__(self, *_) -> None:
        for hook in self._hooks:
            hook.remove()
        self._kept.clear()

    def take(self) -> dict[str, Any]:
        """What the last pass gave, by name in the order asked for. It is handed out once.

        Raises:
            BadInput: for a module that did not run, or that gives something else than one tensor.
        """
        missing = [name for name in self._names if name not in self._kept]
        if missing:
            raise BadInput(
                f"{self._key}: module {missing[0]!r} of {type(self._model).__name__} does not "
                "run in a forward pass; name one that does, such as a module inside it"
            )
        kept, self._kept = self._kept, {}
        return {name: kept[name] for name in self._names}

    def _hook(self, name: str):
        def keep(module, inputs, output):
            if not isinstance(output, Tensor):
                raise BadInput(
                    f"{self._key}: module {name!r} gives a {type(output).__name__} and not one "
                    "tensor; name a module inside it"
                )
            self._kept[name] = self._reduce(name, output)

        return keep


def _named(model: nn.Module, names: Sequence[str], key: str) -> dict[str, nn.Module]:
    modules = dict(model.named_modules(remove_duplicate=False))
    for name in names:
        if name not in modules:
            raise BadInput(
                f"{key}: {type(model).__name__} has no module {name!r}; "
                f"{suggest(name, filter(None, modules))}"
            )
    return {name: modules[name] for name in names}


class Comparison:
    """What `Taps` keeps of a pass: copies of its maps or, from given ones, the distances.

    Maps are compared where they are made, so that of all passes but the clean one none is stored.

    Args:
        rectified: names of the modules whose maps are seen after ReLU, and as they are as `raw`.
            In Yoon et al. 2019 (section 4) "except for the last FC layer, all feature maps were
            observed after Relu", while modules that end before a norm, as in pre-activation and
            densely connected networks, give negative values too.

    Attributes:
        clean: the maps that are compared with, by name; None to get copies.
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
        # Maps that a ReLU made need none, and those of one layer are rectified once a batch.
        maps = maps or {}
        self._after_relu = {
            name: None if _is_rectified(maps[name]) else maps[name].relu()
            for name in self._rectified & maps.keys()
        }

    def __call__(self, name: str, output: Tensor) -> "Tensor | Distance":
        if self._clean is None:
            return output.clone()
        raw = distance(self._clean[name], output)
        after = self._after_relu.get(name)
        if name not in self._rectified or (after is None and _is_rectified(output)):
            return raw
        after = self._clean[name] if after is None else after
        return distance(after, output.relu())._replace(raw=raw)


def _is_rectified(output: Tensor) -> bool:
    """Whether a map has no negative values, so that ReLU leaves it as it is."""
    return bool(output.amin() >= 0)


class Distance(NamedTuple):
    """Distances of N pairs of maps of one layer.

    `elements` is the number n of a map's elements, `l2` and `cos_d` are float64 [N]. The
    normalised Euclidean distance is printed over n (Yoon et al. 2019, section 3), which inflates
    small layers against large ones; over the root of n it is the root mean square difference.
    `raw` are those of the maps before ReLU, None where these are the same.
    """

    elements: int
    l2: Tensor
    cos_d: Tensor
    raw: "Distance | None" = None

    @property
    def before_relu(self) -> "Distance":
        """The distances of the maps as their modules give them."""
        return self if self.raw is None else self.raw

    @property
    def ne_d(self) -> Tensor:
        return self.l2 / self.elements

    @property
    def ne_d_sqrt(self) -> Tensor:
        return self.l2 / self.elements**0.5


def layer_distances(
    clean: Mapping[str, Tensor], other: Mapping[str, Tensor]
) -> dict[str, Distance]:
    """Compare the maps of two passes layer by layer, image by image.

    Args:
        clean, other: maps [N, ...] by layer, of equal shapes.
    """
    return {name: distance(clean[name], other[name]) for name in clean}


@torch.no_grad()
def distance(clean: Tensor, other: Tensor) -> Distance:
    """Euclidean and cosine distance of each row of `clean` to its row of `other`, [N, ...] both.

    Sums run in float64. COS-D is 1 - cos of the angle between the flattened maps, in [0, 2]; two
    zero maps have 0, a zero map and another one have 1.
    """
    if clean.shape != other.shape:
        raise ValueError(f"maps of shapes {tuple(clean.shape)} and {tuple(other.shape)}")
    clean, other = _flat(clean, other)
    elements = clean.shape[1]
    size = BLOCK_ELEMENTS.get(clean.device.type, BLOCK_ELEMENTS["cuda"])
    rows, columns = min(len(clean), max(1, size // elements)), min(size, elements)
    # Reused by all blocks: fresh memory for each was measured to cost four times the arithmetic.
    work = clean.new_empty((4, rows * columns), dtype=torch.float64)
    pairs = zip(clean.split(rows), other.split(rows), strict=True)
    sums = torch.cat([_row_sums(a, b, columns, work) for a, b in pairs], dim=1)
    return Distance(elements, sums[0].sqrt(), _cosine_distance(*sums))


def _flat(clean: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """Both as [N, n]; the order of the elements is free, so channels-last maps need no copy."""
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
    # 1 - <a,b>/(|a||b|) loses its digits for nearly equal maps, which is what small perturbations
    # give. It equals (|d|^2 - (|a| - |b|)^2) / (2|a||b|), whose |a| - |b| = <d,s> / (|a| + |b|)
    # does not cancel; maps of very unequal norms are for the plain form.
    gap = ds / (norm_a + norm_b)
    apart = torch.where(dd < product, (dd - gap**2) / (2 * product), 1 - ab / product)
    apart = apart.clamp(0, 2)
    apart[(aa == 0) | (bb == 0)] = 1.0
    apart[(aa == 0) & (bb == 0)] = 0.0
    return apart
