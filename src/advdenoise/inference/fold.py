"""The exact rewriting of a trained network for inference and input gradients.

Outputs and input gradients are equal up to rounding, with fewer passes over memory:

- a batch norm right after a convolution becomes part of its weights;
- any other batch norm, s u + t = s (u + t/s), is folded forward: s into the weights of the next
  convolution or dense layer, and t/s into its bias, unless that layer pads with zeros, which must
  not be shifted: then t/s is added to u;
- a max-pool after ReLU or ELU is moved before it: they are increasing, so they commute with the
  pool, and it leaves them fewer values;
- the standard deviation of the first layer becomes part of the first convolution;
- dropout and identities are removed, and activations work in place where nothing else reads their
  input.
"""

import copy
import operator
from typing import Any

import torch
from torch import Tensor, fx, nn

from advdenoise.inference.elu import FastELU, ShiftedELU
from advdenoise.inference.hooks import hooked_module
from advdenoise.inference.normalise import Normalise

IDENTITIES = (nn.Identity, nn.Dropout, nn.Dropout2d)
ELUS = (nn.ELU, FastELU)
INCREASING = (nn.ReLU, *ELUS)
# Operations whose output is a new tensor that autograd does not store: it may be overwritten.
NEW_OUTPUT = (nn.Conv2d, nn.Linear, nn.MaxPool2d, operator.add, operator.iadd)


def fold(network: nn.Module) -> nn.Module:
    """A copy of the network for inference: eval mode, frozen, channels-last, rewritten if possible.

    Outputs and input gradients for images [N,C,H,W] are equal up to rounding (logits to about 1e-5
    in float32); there is no second derivative. A network that cannot be traced or has hooks is
    copied without rewriting. A batch norm with a scale that is not positive is kept, since dividing
    by it and exchanging it with a max-pool need that; so is one without running statistics. The
    network itself is not modified.
    """
    network = copy.deepcopy(network).eval()
    try:
        graph = None if hooked_module(network) else _Tracer().trace(network)
    except Exception:  # Networks of other libraries that cannot be traced are not rewritten.
        graph = None
    folded = network if graph is None else _Folding(network, graph).result()
    return folded.eval().requires_grad_(False).to(memory_format=torch.channels_last)


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        leaf = isinstance(m, Normalise | FastELU)
        return leaf or super().is_leaf_module(m, module_qualified_name)


class _Shift(nn.Module):
    """Adds a constant [C,1,1] to each map."""

    def __init__(self, shift: Tensor):
        super().__init__()
        self.register_buffer("shift", shift)

    def forward(self, maps: Tensor) -> Tensor:
        return maps + self.shift


class _Folding:
    """Rewrites one network. Modules are replaced, not modified, since nodes may share them."""

    def __init__(self, network: nn.Module, graph: fx.Graph):
        self._network = network
        self._folded = fx.GraphModule(network, graph)
        self._graph = self._folded.graph
        self._added = 0

    def result(self) -> nn.Module:
        self._skip_identities()
        self._merge_normalisation()
        self._merge_batch_norms()
        self._push_batch_norms()
        self._pool_first()
        self._overwrite()
        if not self._added:
            return self._network
        self._graph.lint()
        self._folded.delete_all_unused_submodules()
        self._folded.recompile()
        return self._folded

    def _skip_identities(self) -> None:
        for node in self._nodes_of(*IDENTITIES):
            self._remove(node)

    def _merge_normalisation(self) -> None:
        for node in self._nodes_of(Normalise):
            normalise, reader = self._module(node), _only_user(node.users)
            if self._absorbs_scale(reader) and (normalise.std != 1).any():
                scale = 1 / normalise.std.flatten().double()
                self._replace(reader, _scaled(self._module(reader), scale))
                self._replace(node, normalise.without_std())

    def _merge_batch_norms(self) -> None:
        """conv, batch norm -> conv."""
        for node in self._batch_norms():
            source = node.args[0]
            if type(self._module(source)) is not nn.Conv2d or len(source.users) > 1:
                continue
            conv, (scale, shift) = self._module(source), batch_norm_affine(self._module(node))
            bias = shift if conv.bias is None else shift + scale * conv.bias.double()
            weight = conv.weight.double() * scale[:, None, None, None]
            self._replace(source, _layer(conv, weight, bias))
            self._remove(node)

    def _push_batch_norms(self) -> None:
        """batch norm, conv -> shift, conv, or conv; likewise across max-pool and flatten."""
        for node in self._batch_norms():
            scale, shift = batch_norm_affine(self._module(node))
            reader = self._next_layer(node)
            if reader is None or not (scale > 0).all():
                continue
            layer = _scaled(self._module(reader), scale)
            shift = shift / scale
            if _pads(layer):
                name = self._add(_Shift(shift[:, None, None].to(layer.weight.dtype)))
                with self._graph.inserting_before(reader):
                    reader.args = (self._graph.call_module(name, reader.args),)
            else:
                layer = _shifted(layer, shift)
            self._replace(reader, layer)
            self._remove(node)

    def _pool_first(self) -> None:
        """activation, max-pool -> max-pool, activation."""
        for pool in self._nodes_of(nn.MaxPool2d):
            activation = pool.args[0]
            module = self._module(activation)
            source: Any = activation.args[0] if activation.args else None
            if type(module) not in INCREASING or self._module(pool).return_indices:
                continue
            if len(activation.users) > 1 or len(source.users) > 1:
                continue
            if any(self._overwrites(reader, pool) for reader in pool.users):
                continue  # It may overwrite the output of a pool, but not that of an activation.
            if isinstance(module, nn.ELU) and module.alpha < 0:
                continue
            with self._graph.inserting_after(pool):
                moved = self._graph.call_module(self._add(module), (pool,))
            pool.replace_all_uses_with(
                moved, delete_user_cb=lambda user, new=moved: user is not new
            )
            pool.args = (source,)
            self._graph.erase_node(activation)

    def _overwrite(self) -> None:
        """Activations in place; an ELU together with the shift after it."""
        for node in self._nodes_of(nn.ReLU):
            if self._may_overwrite_output(node.args[0]) and not self._module(node).inplace:
                self._replace(node, nn.ReLU(inplace=True))
        for node in self._nodes_of(*ELUS):
            if self._module(node).alpha != 1:
                continue
            if not self._may_overwrite_output(node.args[0]) or not self._is_read_once(node):
                self._replace(node, FastELU())
                continue
            shift = torch.zeros(())
            reader = _only_user(node.users)
            if type(self._module(reader)) is _Shift:
                shift = self._module(reader).shift
                self._remove(reader)
            self._replace(node, ShiftedELU(shift))

    def _may_overwrite_output(self, node: fx.Node) -> bool:
        producer = type(self._module(node)) if self._module(node) is not None else node.target
        if producer is operator.iadd and len(node.args[0].users) > 1:
            return False
        return producer in NEW_OUTPUT and len(node.users) == 1

    def _overwrites(self, reader: fx.Node, node: fx.Node) -> bool:
        """Whether a reader of a node may work in place, which only modules and sums exclude."""
        if (module := self._module(reader)) is not None:
            return getattr(module, "inplace", False)
        if reader.target is operator.iadd:
            return reader.args[0] is node
        return reader.target is not operator.add

    def _is_read_once(self, node: fx.Node) -> bool:
        """Whether only a layer reads a node, so that its gradient is a new tensor."""
        reader = _only_user(node.users)
        while type(self._module(reader)) in (_Shift, nn.Flatten):
            reader = _only_user(reader.users)
        return type(self._module(reader)) in (nn.Conv2d, nn.Linear)

    def _next_layer(self, node: fx.Node) -> fx.Node | None:
        """The convolution or dense layer that is the only reader, maybe after pools and flatten."""
        reader, flattened = _only_user(node.users), False
        while type(self._module(reader)) in (nn.MaxPool2d, nn.Flatten):
            flattened = flattened or type(self._module(reader)) is nn.Flatten
            reader = _only_user(reader.users)
        layer_type = nn.Linear if flattened else nn.Conv2d
        fits = self._absorbs_scale(reader) and type(self._module(reader)) is layer_type
        return reader if fits else None

    def _absorbs_scale(self, node: fx.Node | None) -> bool:
        """Whether a scale of its input can become part of a node's weights."""
        layer = self._module(node)
        if type(layer) is nn.Conv2d:
            return layer.groups == 1 and layer.padding_mode == "zeros"
        return type(layer) is nn.Linear

    def _batch_norms(self) -> list[fx.Node]:
        """The batch norms with running statistics."""
        nodes = self._nodes_of(nn.BatchNorm2d)
        return [node for node in nodes if self._module(node).running_var is not None]

    def _nodes_of(self, *types: type) -> list[fx.Node]:
        return [node for node in self._graph.nodes if type(self._module(node)) in types]

    def _module(self, node: fx.Node | None) -> Any:
        if not isinstance(node, fx.Node) or node.op != "call_module":
            return None
        return self._folded.get_submodule(node.target)

    def _replace(self, node: fx.Node, module: nn.Module) -> None:
        node.target = self._add(module)

    def _add(self, module: nn.Module) -> str:
        name = f"folded_{self._added}"
        self._folded.add_submodule(name, module)
        self._added += 1
        return name

    def _remove(self, node: fx.Node) -> None:
        node.replace_all_uses_with(node.args[0])
        self._graph.erase_node(node)


def _only_user(users: dict[fx.Node, None]) -> Any:
    return next(iter(users)) if len(users) == 1 else None


def batch_norm_affine(norm: nn.BatchNorm1d | nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """s and t, float64 [C], of a batch norm in eval mode, which is s u + t."""
    scale = (norm.running_var.double() + norm.eps).rsqrt()
    if norm.weight is not None:
        scale = scale * norm.weight.double()
    shift = -scale * norm.running_mean.double()
    return scale, shift if norm.bias is None else shift + norm.bias.double()


def _scaled(layer: nn.Conv2d | nn.Linear, scale: Tensor) -> nn.Module:
    """The layer with the scale [C] of its input in its weights; for a dense layer, of channels."""
    weight = layer.weight.double()
    scale = scale.repeat_interleave(weight.shape[1] // len(scale))
    return _layer(layer, weight * scale.view(1, -1, *[1] * (weight.dim() - 2)), layer.bias)


def _shifted(layer: nn.Conv2d | nn.Linear, shift: Tensor) -> nn.Module:
    """The layer, which must not pad, with the shift [C] of its input in its bias."""
    weight = layer.weight.double().flatten(1)
    offset = weight @ shift.repeat_interleave(weight.shape[1] // len(shift))
    bias = offset if layer.bias is None else offset + layer.bias.double()
    return _layer(layer, layer.weight, bias)


def _layer(layer: nn.Conv2d | nn.Linear, weight: Tensor, bias: Tensor | None) -> nn.Module:
    new = copy.deepcopy(layer)
    dtype = layer.weight.dtype
    new.weight = nn.Parameter(weight.to(dtype))
    new.bias = None if bias is None else nn.Parameter(bias.to(dtype))
    return new


def _pads(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Conv2d) and layer.padding not in ((0, 0), "valid")
