"""Equivalent networks with cheaper norms: layer norm as RMS norm, and norms folded into the maps behind them.

Both take a network with its weights and give a new one with equal outputs in eval mode; `node_of` gives its document.
What can't be rewritten exactly stays as it is; every single step is checked on random inputs.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from space.block import Block, Node, instantiate
from space.errors import InputError

TOLERANCE = 1e-9
"""Largest error of a step in float64, in which the steps are done, against the largest value."""
FOLDABLE = ("batch_norm", "power_norm", "prepbn", "unified_norm")
"""Norms that are affine in eval mode."""


def to_rms_norm(block: Block) -> Block:
    """A pre-norm network with layer norms as the equal one with RMS norms. Jiang et al. 2023, arXiv:2305.14858.

    A layer norm is an RMS norm on vectors of mean zero. So whatever writes to the residual stream (the stem, every
    mixer and channel block) loses its mean over channels, which no layer norm that reads the stream sees; then each
    `layer_norm` on the stream becomes `rms_norm: {bias: true}` (a norm inside a head stays). InputError where something
    else reads the stream, or what writes to it can't be centred: a post-norm network, say.
    """
    work = _working_copy(block)
    converted: set[Block] = set()
    _centre_stream(work, False, converted)
    if not converted:
        raise InputError("no layer_norm reads a residual stream whose writers can be centred; nothing to rewrite")
    node = node_of(work, lambda inner: _rms_node(inner) if inner in converted else None)
    twin = instantiate(node, work.block_shape).double()
    _copy_state(work, twin)
    return _checked(block, twin)


def fold_norms(block: Block) -> Block:
    """A network in eval mode without the batch-like norms that the linear maps behind them can take over.

    W (s x + t) + b = (W s) x + (W t + b): each `layer` with such a norm (`FOLDABLE`) whose mixer and channel block
    read their input through linear maps or 1x1 convolutions alone becomes two residual blocks without norms.
    """
    work = _working_copy(block)
    node = _fold_layers(work)
    twin = instantiate(node, work.block_shape).double()
    twin.load_state_dict(work.state_dict(), strict=True)
    return _checked(block, twin)


def _working_copy(block: Block) -> Block:
    return copy.deepcopy(block).cpu().double().eval()


def node_of(block: Block, replace: Callable[[Block], Node | None] = lambda inner: None) -> Node:
    """The document node of a built block, without defaults; `replace` may give another for a block inside."""
    new = replace(block)
    if new is not None:
        return new
    fields = type(block).Options.model_fields
    made = {name: getattr(block.block_options, name) for name in fields}
    made = {name: value for name, value in made.items() if fields[name].is_required() or value != fields[name].default}
    children = block.block_children
    if block.kind == "sequence":
        made["blocks"] = [node_of(child, replace) for child in children.values()]
    elif block.kind in ("residual", "repeat"):
        made["block"] = node_of(children["block" if block.kind == "residual" else "0"], replace)
    elif block.kind == "layer":
        for half in ("mixer", "channel"):
            if half in children:
                made["norm"] = node_of(children[f"{half}_norm"], replace)
                made[half] = node_of(children[half], replace)
    return {block.kind: made}


def _random_input(block: Block) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    size = block.block_shape.size(2)
    if block.block_shape.layout == "tokens":
        return torch.randint(block.block_shape.dim, size, generator=generator)
    return torch.randn(size, generator=generator, dtype=torch.float64)


def _differs(got: Tensor, want: Tensor) -> bool:
    scale = max(1.0, float(want.abs().max()))
    return bool((got - want).abs().max() > TOLERANCE * scale)


def _checked(block: Block, twin: Block) -> Block:
    """The twin in the dtype and on the device of the original, once their outputs agree."""
    twin.eval()
    x = _random_input(block)
    with torch.no_grad():
        if _differs(twin(x), _working_copy(block)(x)):
            raise InputError(f"the rewritten {block.kind} doesn't give the same outputs")
    like = next(iter(block.parameters()))
    return twin.to(device=like.device, dtype=like.dtype)


# Layer norm to RMS norm


def _rms_node(norm: Block) -> Node:
    bias = norm.block_options.bias
    return {"rms_norm": {"eps": norm.block_options.eps, **({"bias": True} if bias else {})}}


def _rms_state(norm: Block) -> dict[str, Tensor]:
    """State of the RMS norm that a layer norm becomes."""
    size = (-1, 1, 1) if norm.block_shape.layout == "grid" else (-1,)
    state = {"gain": norm.norm.weight.view(size)}  # type: ignore[union-attr, operator]
    if norm.block_options.bias:
        state["bias"] = norm.norm.bias.view(size)  # type: ignore[union-attr, operator]
    return state


def _copy_state(old: Block, new: Block) -> None:
    if old.kind != new.kind:
        new.load_state_dict(_rms_state(old))
    elif old.kind in ("sequence", "residual", "repeat", "layer"):
        for name, child in old.block_children.items():
            _copy_state(child, new.block_children[name])
    else:
        new.load_state_dict(old.state_dict())


def _centre_stream(block: Block, centred: bool, converted: set[Block]) -> bool:
    """Centre all that writes to the stream in `block`, note its layer norms. True where its output has mean zero."""
    children = list(block.block_children.values())
    if block.kind == "sequence":
        for child in children:
            centred = _centre_stream(child, centred, converted)
        return centred
    if block.kind == "layer_norm":
        if centred:
            converted.add(block)
        return False
    if block.kind == "repeat" and children:
        return _centre_stream(children[0], centred, converted)
    if block.kind in ("residual", "layer"):
        if not centred:
            return False
        for name, child in block.block_children.items():
            if block.kind == "residual" or not name.endswith("_norm"):
                _centre_branch(child, converted)
            elif child.kind == "layer_norm":
                converted.add(child)
        return True
    if block.role == "stem" and not block.slots:
        return _centre_output(block)
    return centred and block.kind in ("to_sequence", "to_grid", "identity", "zero")


def _centre_branch(block: Block, converted: set[Block]) -> None:
    """A branch beside the stream: its layer norm reads the stream, its end writes to it."""
    last = block
    while last.kind == "sequence":
        inside = list(last.block_children.values())
        if inside[0].kind == "layer_norm" and len(inside) > 1:
            converted.add(inside[0])
        last = inside[-1]
    if not _centre_output(last):
        raise InputError(f"what {last.kind} writes to the residual stream can't be given a mean of zero")


def _centre_output(block: Block) -> bool:
    """Take the mean over channels out of what a block gives, in its weights. False, and nothing done, if it can't."""
    x = _random_input(block)
    with torch.no_grad():
        before = block(x)
        channels = 1 if before.ndim == 4 else -1
        wanted = before - before.mean(channels, keepdim=True)
        kept = {name: t.clone() for name, t in block.state_dict().items()}
        last = _maps_run(block, x)[-1:]
        for module, _ in last:
            weight: Tensor = module.weight  # type: ignore[assignment]
            axis = 1 if isinstance(module, nn.Embedding) else 0
            weight.sub_(weight.mean(axis, keepdim=True))
            bias = getattr(module, "bias", None)
            if bias is not None:
                bias.sub_(bias.mean())
        for name, table in block.named_parameters(recurse=False):
            if "." not in name and table.ndim == 2 and table.shape[-1] == before.shape[channels]:
                table.sub_(table.mean(-1, keepdim=True))
        if _differs(block(x), wanted):
            block.load_state_dict(kept)
            return False
    return True


# Norms into the maps behind them


def _maps_run(block: nn.Module, x: Tensor) -> list[tuple[nn.Module, Tensor]]:
    """(map, its input) of every linear map, convolution and embedding in the order they run."""
    seen: list[tuple[nn.Module, Tensor]] = []
    kinds = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Embedding)
    handles = [
        m.register_forward_pre_hook(lambda module, args: seen.append((module, args[0])))
        for m in block.modules()
        if isinstance(m, kinds)
    ]
    try:
        with torch.no_grad():
            block(x)
    finally:
        for handle in handles:
            handle.remove()
    return seen


def _fold_layers(block: Block) -> Node:
    """The node of `block` with norms folded; folds the weights and rebuilds the modules in place as it goes."""
    if block.kind != "layer" or not _fold_halves(block):
        if block.kind not in ("sequence", "residual", "repeat"):
            return node_of(block)
        nodes = [_fold_layers(child) for child in block.block_children.values()]
        for name, node in zip(block.block_children, nodes, strict=True):
            _put(block, name, node)
        return node_of(block)
    halves = [half for half in ("mixer", "channel") if half in block.block_children]
    residuals: list[Node] = [{"residual": {"block": node_of(block.block_children[h])}} for h in halves]
    return {"sequence": {"blocks": residuals}}


def _put(block: Block, name: str, node: Node) -> None:
    """Exchange a child that changed its kind."""
    child = block.block_children[name]
    ((kind, _),) = node.items()
    if kind == child.kind:
        return
    twin = instantiate(node, child.block_shape).double().eval()
    halves = [child.block_children[h] for h in ("mixer", "channel") if h in child.block_children]
    for residual, half in zip(twin.block_children.values(), halves, strict=True):
        residual.block_children["block"].load_state_dict(half.state_dict())
    block.block_children[name] = twin
    if block.kind == "residual":
        block.block = twin
    else:
        block.get_submodule("blocks").register_module(name, twin)


def _fold_halves(layer: Block) -> bool:
    """Fold the norms of a layer into its blocks. False, and nothing changed, where that isn't exact."""
    folded: dict[str, Block] = {}
    for half in ("mixer", "channel"):
        if half in layer.block_children:
            norm, inner = layer.block_children[f"{half}_norm"], layer.block_children[half]
            made = _folded(norm, inner) if norm.kind in FOLDABLE else None
            if made is None:
                return False
            folded[half] = made
    layer.block_children.update(folded)
    return True


def _folded(norm: Block, inner: Block) -> Block | None:
    """`inner` with the norm in front taken into the maps that read its input; None where that isn't exact."""
    x = _random_input(inner)
    twin = copy.deepcopy(inner)
    affine = norm.deployed_state() if not norm.block_options.deployed else dict(norm.named_parameters())
    scale, shift = (t.detach().flatten() for t in affine.values())
    if "bias" in type(inner).Options.model_fields and not inner.block_options.bias:
        options = {n: getattr(inner.block_options, n) for n in type(inner).Options.model_fields} | {"bias": True}
        twin = instantiate({inner.kind: options}, inner.block_shape).double().eval()
        missing = twin.load_state_dict(inner.state_dict(), strict=False).missing_keys
        with torch.no_grad():
            for name in missing:
                twin.get_parameter(name).zero_()
    readers = [m for m, seen in _maps_run(twin, x) if seen.data_ptr() == x.data_ptr() and seen.numel() == x.numel()]
    with torch.no_grad():
        for module in dict.fromkeys(readers):
            weight: Tensor = module.weight  # type: ignore[assignment]
            if weight.shape[1] != len(scale) or any(n != 1 for n in weight.shape[2:]) or module.bias is None:
                return None
            module.bias.add_(weight.flatten(1) @ shift)  # type: ignore[operator]
            weight.mul_(scale.view(-1, *[1] * (weight.ndim - 2)))
        return None if _differs(twin(x), inner(norm(x))) else twin
