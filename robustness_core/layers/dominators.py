"""Layers of a network: its cuts, the one tensors through which every path passes, and the extractor up to each."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import networkx
import torch
from torch import fx, nn
from torch.fx.passes.shape_prop import ShapeProp

from robustness_core import operations
from robustness_core.errors import NetworkError


@dataclass(frozen=True)
class Cut:
    """One layer. `shape` is (C, H, W) or (n,), `features` its product nj.

    `affine`: the whole map from pixels to this layer is affine, so distances have a closed form.
    `main`: the layer after its activation (conv1); the others are before it (conv1.pre, conv1.conv).
    """

    name: str
    shape: tuple[int, ...]
    features: int
    affine: bool
    main: bool


@dataclass(frozen=True)
class _Traced:
    """A network as a graph, with the tensors it carries and which of them are layers."""

    graph: fx.GraphModule
    nodes: tuple[fx.Node, ...]
    cuts: tuple[Cut, ...]


def cuts(network: nn.Module, input_shape: Sequence[int]) -> list[Cut]:
    """All layers of a network in order, from the input to the logits.

    A cut is a dominator of the output in the traced graph: a tensor without which no information passes. Reshapes,
    paddings and the normalisation hold the features of the tensor before them and are not listed. `input_shape` is
    (C, H, W). Cost: one trace and one forward pass of three images. Raises NetworkError if the network cannot be
    traced or run.
    """
    return list(_trace(network, tuple(input_shape)).cuts)


def extractor(network: nn.Module, cut_name: str, input_shape: Sequence[int] | None = None) -> nn.Module:
    """The network up to the layer `cut_name`: pixels (B, C, H, W) -> features (B, ...), and nothing after it.

    The module shares the network's weights, asks no gradients of them, is in evaluation mode, and says in its
    attribute `affine` whether it is affine. `input_shape` is needed unless the network has that attribute.
    Raises NetworkError for an unknown layer.
    """
    shape = tuple(input_shape if input_shape is not None else getattr(network, "input_shape", ()))
    if not shape:
        raise NetworkError("The input shape (C, H, W) of the network is not known; give it.")
    traced = _trace(network, shape)
    names = [cut.name for cut in traced.cuts]
    if cut_name not in names:
        raise NetworkError(f"The network has no layer {cut_name!r}; it has {', '.join(names)}.")
    position = names.index(cut_name)
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    for node in traced.graph.graph.nodes:
        copies[node] = graph.node_copy(node, lambda old: copies[old])
        if node is traced.nodes[position]:
            break
    graph.output(copies[traced.nodes[position]])
    prefix = fx.GraphModule(traced.graph, graph)
    prefix.graph.eliminate_dead_code()
    prefix.recompile()
    prefix.delete_all_unused_submodules()
    # A deep copy whose parameters share the storage of the network's and ask for no gradients.
    frozen = {id(p): nn.Parameter(p.detach(), requires_grad=False) for p in prefix.parameters()}
    result: Any = copy.deepcopy(prefix, frozen).eval()
    result.affine = traced.cuts[position].affine
    return result  # type: ignore[no-any-return]


def widths(module: nn.Module, input_shape: Sequence[int]) -> list[int]:
    """The sizes of all layers of a module, (C, H, W) pixels to its features; empty where it cannot be traced."""
    try:
        return [cut.features for cut in cuts(module, input_shape)]
    except NetworkError:
        return []


def is_affine(module: nn.Module) -> bool:
    """Whether a module is known to be affine: its attribute `affine`, else what its traced graph shows."""
    known = getattr(module, "affine", None)
    if isinstance(known, bool) and operations.of(module) is operations.UNKNOWN:
        return known
    try:
        graph = fx.symbolic_trace(nn.Sequential(module))  # so that a module of torch stays whole
    except Exception:  # tracing runs code that is not ours and may raise anything; then nothing is known
        return False
    affine, output = _affine_nodes(graph), next(n for n in graph.graph.nodes if n.op == "output")
    return all(affine[node] for node in output.all_input_nodes)


class _Tracer(fx.Tracer):
    """The usual tracer, which also keeps the project's own leaf modules whole."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return bool(getattr(m, "is_leaf", False)) or super().is_leaf_module(m, module_qualified_name)


def _trace(network: nn.Module, input_shape: tuple[int, ...]) -> _Traced:
    was_training = network.training
    network.eval()
    try:
        graph = _Tracer().trace(network)
        module = fx.GraphModule(network, graph)
        if any(_overwrites(module, node) for node in graph.nodes):
            raise NetworkError("it overwrites a tensor that it uses again.")
        part: Any
        for part in module.modules():
            if getattr(part, "inplace", False) is True:
                part.inplace = False  # an in-place activation would overwrite the layer before it
        weight = next(network.parameters(), torch.empty(0))
        with torch.no_grad():
            ShapeProp(module).propagate(torch.zeros((3, *input_shape), device=weight.device, dtype=weight.dtype))
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise NetworkError(f"The network cannot be cut into layers: {reason[:200]}") from error
    finally:
        network.train(was_training)
    nodes = _dominators(module)
    affine = _affine_nodes(module)
    names = _names(module, nodes)
    found: list[Cut] = []
    kept: list[fx.Node] = []
    for node, (name, main) in zip(nodes, names, strict=True):
        shape = tuple(int(size) for size in node.meta["tensor_meta"].shape[1:])
        found.append(Cut(name, shape, math.prod(shape), affine[node], main))
        kept.append(node)
    if not found:
        raise NetworkError("The network has no layer between its input and its output.")
    return _Traced(module, tuple(kept), tuple(found))


def _overwrites(module: fx.GraphModule, node: fx.Node) -> bool:
    """Whether a step works in place on what is used after it, which a graph does not tell."""
    if node.op == "call_module":
        in_place = getattr(module.get_submodule(str(node.target)), "inplace", False) is True
    else:
        name = str(getattr(node.target, "__name__", node.target))
        in_place = node.op.startswith("call") and (name.rstrip("_") + "_" == name or node.kwargs.get("inplace") is True)
    return in_place and (not node.users or any(node < user for of in node.all_input_nodes[:1] for user in of.users))


def _dominators(module: fx.GraphModule) -> list[fx.Node]:
    """The nodes that every path from the input to the output passes and that are layers, in order."""
    nodes = list(module.graph.nodes)
    inputs = [node for node in nodes if node.op == "placeholder"]
    if len(inputs) != 1:
        raise NetworkError(f"The network takes {len(inputs)} inputs; it must take one batch of images.")
    graph = networkx.DiGraph()
    graph.add_nodes_from(nodes)
    graph.add_edges_from((source, node) for node in nodes for source in node.all_input_nodes)
    output = next(node for node in nodes if node.op == "output")
    parents = networkx.immediate_dominators(graph, inputs[0])
    if output not in parents:
        raise NetworkError("The output of the network does not depend on its input.")
    chain: list[fx.Node] = []
    node = parents[output]
    while node is not None and node is not inputs[0]:
        chain.append(node)
        node = parents[node]
    # The tensors of the normalisation come before the first module and are affine, invertible maps of the pixels.
    chain = [n for n in reversed(chain) if _is_features(n) and _operation(module, n).kind != "reshape"]
    return [n for n in chain if not _owner(n).startswith("normalise") and not str(n.target).startswith("normalise")]


def _is_features(node: fx.Node) -> bool:
    meta: Any = node.meta.get("tensor_meta")
    return hasattr(meta, "shape") and len(meta.shape) > 1 and meta.shape[0] == 3 and meta.dtype.is_floating_point


def _operation(module: fx.GraphModule, node: fx.Node) -> operations.Operation:
    """What the table of operations says of a node."""
    if node.op == "call_module":
        return operations.of(module.get_submodule(str(node.target)))
    return operations.of(node.target) if node.op in ("call_function", "call_method") else operations.UNKNOWN


def _owner(node: fx.Node) -> str:
    """The path of the module in whose forward a node was made, without the network's own wrappings."""
    stack = node.meta.get("nn_module_stack") or {}
    path = str(list(stack.values())[-1][0]) if stack else ""
    return _plain(path)


def _plain(path: str) -> str:
    for wrapping in ("body.", "module."):
        path = path.removeprefix(wrapping)
    return "" if path in ("body", "module") else path


def _names(module: fx.GraphModule, nodes: list[fx.Node]) -> list[tuple[str, bool]]:
    """A name a person recognises, and whether the layer is a main one, for each cut in order.

    A linear step, its batch norm and its activation form one group: conv1.conv, conv1.pre, conv1. The name is the
    linear step's; the last layer is called logits, a softmax after it softmax.
    """
    groups: list[list[fx.Node]] = []
    for node in nodes:
        follows = bool(groups) and _through_reshapes(module, node) is groups[-1][-1]
        tail = groups[-1][-1] if groups else None
        kind = _operation(module, node).kind
        tail_open = tail is not None and _operation(module, tail).kind not in ("activation", "pool")
        if follows and tail_open and (kind == "activation" or (kind == "norm" and len(groups[-1]) == 1)):
            groups[-1].append(node)
        else:
            groups.append([node])
    logits = next((g for g in reversed(groups) if _operation(module, g[-1]).kind != "softmax"), None)
    named: list[tuple[str, bool]] = []
    used: dict[str, int] = {}
    for group in groups:
        if group is logits:
            base = "logits"
        elif _operation(module, group[0]).kind == "softmax":
            base = "softmax"
        elif group[0].op == "call_module":
            base = _plain(str(group[0].target))
        else:
            base = _owner(group[0]) or group[0].name
        used[base] = used.get(base, 0) + 1
        if used[base] > 1:
            base = f"{base}#{used[base]}"
        for position in range(len(group)):
            last = position == len(group) - 1
            before_activation = position == len(group) - 2 and _operation(module, group[-1]).kind == "activation"
            suffix = "" if last else ".pre" if before_activation else ".conv"
            named.append((base + suffix, last))
    return named


def _through_reshapes(module: fx.GraphModule, node: fx.Node) -> fx.Node | None:
    """The tensor that a node works on, looked up through reshapes."""
    sources = [n for n in node.all_input_nodes if _is_features(n)]
    if len(sources) != 1:
        return None
    return _through_reshapes(module, sources[0]) if _operation(module, sources[0]).kind == "reshape" else sources[0]


def _affine_nodes(module: fx.GraphModule) -> dict[fx.Node, bool]:
    """For each node, whether it is an affine map of the pixels (constants are)."""
    moving: set[fx.Node] = set()  # depends on the pixels' values
    affine: dict[fx.Node, bool] = {}
    for node in module.graph.nodes:
        sources = node.all_input_nodes
        changing = [source for source in _uses(node) if source in moving]
        if node.op == "placeholder":
            moving.add(node)
            affine[node] = True
        elif not changing or (node.op == "call_method" and node.target in ("size", "dim")):
            affine[node] = True  # a constant; the sizes of a tensor do not depend on its values
        elif node.op == "call_function" and node.target is getattr and node.args[1:2] == ("shape",):
            affine[node] = True
        else:
            moving.add(node)
            affine[node] = all(affine[source] for source in sources) and _is_affine_step(module, node, changing)
    return affine


def _uses(node: fx.Node) -> list[fx.Node]:
    """The tensors that a node works on, each as often as it is used: x * x is not affine in x."""
    uses: list[fx.Node] = []
    fx.map_arg((node.args, node.kwargs), uses.append)
    return uses


def _is_affine_step(module: fx.GraphModule, node: fx.Node, changing: list[fx.Node]) -> bool:
    operation = _operation(module, node)
    if node.op == "call_module" and operation is operations.UNKNOWN:  # torch's GroupNorm has another `affine`
        return bool(getattr(module.get_submodule(str(node.target)), "affine", False))
    if node.op == "output" or operation.affine == "jointly":
        return True
    if operation.affine == "never" or len(changing) > 1:
        return False
    return operation.affine == "alone" or node.args[0] is changing[0]
