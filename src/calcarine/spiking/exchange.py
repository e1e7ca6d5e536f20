"""Networks in NIR, the neuromorphic intermediate representation: to simulators and to chips, back.

    export    stages in a row             -> Input -> node -> ... -> node -> Output
    import    a graph without branches    -> Pathway

A Recurrent stage is a neuron with a loop through one linear node; what goes round arrives one step
later, here as in the simulators that read NIR. Branches and other loops have no counterpart here.
:mod:`calcarine.spiking.exchange_nodes` says what becomes of each stage, of the step and of the way
to reset.

A network that goes out and comes back gives the same spikes at the step it was made for. At another
one the same continuous equations are stepped anew: the synaptic input of LIF and LeakyIntegrator
then gets a Scale in front, because NIR holds an input over a step while ours adds it once per step.

Files are HDF5, plain arrays and names. Learned constants travel as the numbers they have, and come
back fixed.

Source  pedersen2024
"""

from __future__ import annotations

import copy
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import nn

from calcarine.errors import FileFormatError, InputError, ShapeError, require
from calcarine.files import write_bytes
from calcarine.spiking.elementwise import Scale
from calcarine.spiking.exchange_nodes import NEURONS, node_of, stages_of, step_ms
from calcarine.spiking.recurrent import Recurrent
from calcarine.stage import DynamicStage, Pathway

if TYPE_CHECKING:
    import nir  # type: ignore[import-untyped]

__all__ = ["export_nir", "import_nir"]

_PURPOSE = "Exchanging networks as NIR"
_DAMAGE = (
    ArithmeticError, AssertionError, AttributeError, LookupError, MemoryError, NotImplementedError,
    OSError, RuntimeError, TypeError, ValueError,
)  # fmt: skip
"""What the readers of HDF5 and of NIR raise on files that they do not understand."""


_PACKING = 1100
"""No byte of a file stands for more than this many: deflate reaches 1032."""


class Named(NamedTuple):
    """A stage of a chain, its name, and the shape of its input without the batch."""

    name: str
    stage: nn.Module
    shape: tuple[int, ...]


def export_nir(
    model: nn.Module,
    path: str | Path | None = None,
    *,
    input_shape: tuple[int, ...] | None = None,
) -> nir.NIRGraph:
    """Write a network as a graph of NIR.

    Args:
        model: A stage, or a Pathway or ``nn.Sequential`` of stages: neurons, ``nn.Linear``,
            ``nn.Conv2d``, ``nn.Flatten``, Scale, Threshold, and Recurrent around a neuron.
        path: File to write as well, by custom ``.nir``.
        input_shape: Shape of one frame without its batch, as ``(2, 34, 34)``. May be left out where
            the first stage is ``nn.Linear``.

    Returns:
        The graph. Parts keep their names, with a dot where a pathway lies within another.

    Raises:
        InputError: If NIR cannot express a part, which the message names, or the shape is unknown.
        ShapeError: If a part cannot take what the one before it puts out.
        MissingDependencyError: If the package ``nir`` is not installed.
        RunError: If the file cannot be written.
    """
    package = require("nir", extra="events", purpose=_PURPOSE)
    chain = _with_shapes(_parts("", model), input_shape)
    nodes: dict[str, Any] = {"input": package.Input(input_type={"input": np.array(chain[0].shape)})}
    edges, last = [], "input"
    for name, stage, shape in chain[:-1]:
        kept = _free(name.replace("/", "_"), {*nodes, "output"})
        inner = stage.neuron if isinstance(stage, Recurrent) else stage
        nodes[kept] = node_of(package, name, inner, shape)
        if isinstance(stage, Recurrent):
            loop = _free(f"{kept}.recurrent", nodes)
            nodes[loop] = _loop_node(package, name, stage, shape)
            edges += [(kept, loop), (loop, kept)]
        edges.append((last, kept))
        last = kept
    nodes["output"] = package.Output(output_type={"output": np.array(chain[-1].shape)})
    graph = package.NIRGraph(nodes, [*edges, (last, "output")], metadata=_step_of(model))
    if path is not None:
        buffer = io.BytesIO()
        package.write(buffer, graph)
        write_bytes(path, buffer.getvalue())
    return graph


def import_nir(
    graph: nir.NIRGraph | str | Path,
    *,
    dt_ms: float | None = None,
    dtype: torch.dtype | None = None,
) -> Pathway:
    """Build the network that a graph of NIR describes.

    Args:
        graph: The graph, or a file that holds one.
        dt_ms: Duration of one step, ms. May be left out if the graph names the step it was made
            for, as ours do.
        dtype: Of weights; torch's default if left out.

    Returns:
        A Pathway whose parts have the names of the nodes; characters that a module's name cannot
        have become underscores.

    Raises:
        FileFormatError: If the file is missing, damaged, or holds no graph of NIR.
        InputError: If the graph branches, a node has no counterpart here, a constant is impossible,
            or the step is unknown.
        MissingDependencyError: If the package ``nir`` is not installed.
    """
    package = require("nir", extra="events", purpose=_PURPOSE)
    if isinstance(graph, (str, Path)):
        graph = _read(package, Path(graph))
    if not isinstance(graph, package.NIRGraph):
        raise InputError(
            f"import_nir expected a nir.NIRGraph or a path, got {type(graph).__name__}."
        )
    order, loops = _order(package, graph)
    dt_ms = _agreed_step(graph) if dt_ms is None else float(dt_ms)
    dtype = torch.get_default_dtype() if dtype is None else dtype
    stages: dict[str, nn.Module] = {}
    for name in order:
        made = stages_of(package, name, graph.nodes[name], dt_ms, dtype)
        if name in loops:
            loop = _loop_of(package, graph, name, loops[name], dtype)
            made[name] = _looped(
                made[name], loop, made.get(f"{name}_gain"), graph.nodes[loops[name]]
            )
        for key, stage in made.items():
            stages[_free(_module_name(key), stages)] = stage
    if not stages:
        raise InputError("import_nir expected a graph with nodes between input and output.")
    return Pathway(**stages)


def _parts(name: str, model: nn.Module) -> list[tuple[str, nn.Module]]:
    """Return the stages of a model in order, with the names that lead to them."""
    if isinstance(model, Pathway):
        inner = [(key, getattr(model, key)) for key in model.order]
    elif isinstance(model, nn.Sequential):
        inner = list(model.named_children())
    else:
        return [(name or type(model).__name__.lower(), model)]
    return [part for key, child in inner for part in _parts(f"{name}.{key}".lstrip("."), child)]


def _with_shapes(
    parts: list[tuple[str, nn.Module]], input_shape: tuple[int, ...] | None
) -> list[Named]:
    """Pass a frame through to learn the shapes; the last entry is the output."""
    if not parts:
        raise InputError("export_nir expected at least one stage, got an empty nn.Sequential.")
    first = parts[0][1]
    if input_shape is None:
        if not isinstance(first, nn.Linear):
            raise InputError(
                "export_nir expected the shape of a frame: NIR stores every neuron by itself. Pass "
                "input_shape, as in export_nir(model, input_shape=(2, 34, 34))."
            )
        input_shape = (first.in_features,)
    held = next((p for _, stage in parts for p in stage.parameters()), torch.zeros(()))
    x = torch.zeros((1, *input_shape), dtype=held.dtype, device=held.device)
    chain = []
    with torch.no_grad():
        for name, stage in parts:
            chain.append(Named(name, stage, tuple(x.shape[1:])))
            x = _answer(name, stage, x)
    return [*chain, Named("output", nn.Identity(), tuple(x.shape[1:]))]


def _answer(name: str, stage: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Return what a copy of a stage puts out: one in training mode might change by being asked."""
    asked = copy.deepcopy(stage).eval()
    try:
        if isinstance(asked, DynamicStage):
            return asked(x, asked.initial_state(x))[0]
        return asked(x)
    except (RuntimeError, ShapeError) as error:
        raise ShapeError(
            f"{name!r} cannot take frames of shape {tuple(x.shape[1:])}: {error}. Check "
            "input_shape."
        ) from error


def _step_of(model: nn.Module) -> dict[str, float]:
    """Return the step of a model as the graph's metadata hold it, in s."""
    steps = {part.dt_ms for part in model.modules() if isinstance(part, NEURONS)}
    if len(steps) > 1:
        raise InputError(
            f"export_nir expected neurons of one step, got dt_ms of {sorted(steps)}. They run in "
            "step with each other, so give all of them the same."
        )
    return {"dt": steps.pop() / 1000.0} if steps else {}


def _loop_node(package: Any, name: str, stage: Recurrent, shape: tuple[int, ...]) -> Any:
    """Return the node of a recurrent connection; what does not count is written as 0."""
    if not isinstance(stage.weight, nn.Linear) or not isinstance(stage.neuron, NEURONS):
        raise InputError(
            f"NIR cannot express {name!r}: of Recurrent, only a neuron with an nn.Linear or a "
            f"matrix goes into a graph, not {type(stage.neuron).__name__} with "
            f"{type(stage.weight).__name__}."
        )
    node = node_of(package, name, stage.weight, shape)
    if not stage.self_connection:
        node.weight = node.weight.copy()
        node.weight[range(shape[0]), range(shape[0])] = 0.0
    node.metadata = {"self_connection": int(stage.self_connection)}
    return node


def _loop_of(package: Any, graph: Any, name: str, loop: str, dtype: torch.dtype) -> nn.Linear:
    weight = stages_of(package, loop, graph.nodes[loop], 1.0, dtype)[loop]
    if not isinstance(weight, nn.Linear):
        raise InputError(
            f"calcarine has no counterpart for the loop of {name!r} through {loop!r}: it knows "
            "neurons with an Affine or Linear node."
        )
    return weight


def _looped(neuron: nn.Module, weight: nn.Linear, gain: nn.Module | None, node: Any) -> Recurrent:
    """Return a neuron with its loop; what comes back has to pass the gain of the input, too."""
    if not isinstance(neuron, NEURONS):
        raise InputError(
            f"calcarine knows loops around neurons, not around a {type(neuron).__name__}."
        )
    if isinstance(gain, Scale):
        with torch.no_grad():
            weight.weight.copy_(gain(weight.weight.T).T)
            if weight.bias is not None:
                weight.bias.copy_(gain(weight.bias[None])[0])
    held = node.metadata if isinstance(node.metadata, dict) else {}
    return Recurrent(neuron, weight, self_connection=bool(held.get("self_connection", 1)))


def _read(package: Any, path: Path) -> Any:
    if not path.is_file():
        raise FileFormatError(f"There is no file {path}. Pass a file that export_nir wrote.")
    try:
        _check_sizes(path)
        return package.read(path)
    except _DAMAGE as error:
        raise FileFormatError(
            f"{path} holds no network in NIR that can be read: {type(error).__name__}: {error}. "
            "Expected HDF5 as nir.write makes it."
        ) from error


def _check_sizes(path: Path) -> None:
    """Refuse a file that announces more numbers than it can hold, before memory is asked for."""
    hdf5 = require("h5py", extra="events", purpose=_PURPOSE)
    most = _PACKING * path.stat().st_size

    def check(name: str, item: Any) -> None:
        if isinstance(item, hdf5.Dataset) and item.nbytes > most:
            raise ValueError(f"{name} announces {item.nbytes} bytes")

    with hdf5.File(path, "r") as file:
        file.visititems(check)


def _order(package: Any, graph: Any) -> tuple[list[str], dict[str, str]]:
    """Return the nodes from input to output, and the loops: neuron -> connection back."""
    inputs = [n for n, node in graph.nodes.items() if isinstance(node, package.Input)]
    outputs = [n for n, node in graph.nodes.items() if isinstance(node, package.Output)]
    if len(inputs) != 1 or len(outputs) != 1:
        raise InputError(
            f"calcarine reads graphs with one input and one output, got {len(inputs)} and "
            f"{len(outputs)}."
        )
    after = {name: [b for a, b in graph.edges if a == name] for name in graph.nodes}
    before = {name: [a for a, b in graph.edges if b == name] for name in graph.nodes}
    loops = {
        before[n][0]: n for n in graph.nodes if len(before[n]) == 1 and before[n] == after[n] != [n]
    }
    order: list[str] = []
    here = inputs[0]
    while here != outputs[0]:
        ways = [n for n in after[here] if n != loops.get(here)]
        if len(ways) != 1 or ways[0] in order:
            raise InputError(
                f"calcarine reads graphs without branches, but {here!r} leads to "
                f"{', '.join(map(repr, after[here])) or 'nothing'}."
            )
        here = ways[0]
        order.append(here)
    lost = set(graph.nodes) - {*order, inputs[0], *loops.values()}
    merged = [n for n in order if len([b for b in before[n] if b != loops.get(n)]) != 1]
    if lost or merged:
        raise InputError(
            "calcarine reads graphs without branches, but "
            f"{', '.join(map(repr, sorted(lost) or merged))} joins from the side."
        )
    return order[:-1], loops


def _agreed_step(graph: Any) -> float:
    """Return the step that the graph and its nodes name, ms."""
    named = {step_ms(item.metadata) for item in (graph, *graph.nodes.values())} - {None}
    if len(named) > 1:
        raise InputError(
            f"The nodes were made for different steps, {sorted(map(str, named))} ms. Pass dt_ms."
        )
    timed = {"LIF", "LI", "IF", "CubaLIF", "CubaLI"}
    if not named and any(type(node).__name__ in timed for node in graph.nodes.values()):
        raise InputError(
            "The graph does not name its step, as NIR has no place for it. Pass dt_ms."
        )
    return named.pop() if named else 1.0  # type: ignore[return-value]


def _free(name: str, taken: Any) -> str:
    """Return the name, numbered if it is taken."""
    found, number = name, 1
    while found in taken:
        number += 1
        found = f"{name}_{number}"
    return found


def _module_name(name: str) -> str:
    """Return a node's name as one that a part of a Pathway can have."""
    name = name.replace(".", "_")
    name = f"node{name}" if not name or name.startswith("_") else name
    reserved = {"self", "order", "training", *dir(Pathway)}
    return f"{name}_" if name in reserved else name
