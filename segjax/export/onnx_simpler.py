"""Export: small changes to a graph of ONNX that runtimes compute better or faster."""

from typing import Any

import numpy as np


def rectify(model: Any) -> None:
    """Write the larger of a value and zero as `Relu`, which runtimes join to the operation before.

    Args:
        model: An `onnx.ModelProto`, which is changed.
    """
    from onnx import numpy_helper

    graph = model.graph
    zeros = {x.name for x in graph.initializer if not x.dims and numpy_helper.to_array(x) == 0}
    for node in graph.node:
        values = [name for name in node.input if name not in zeros]
        if node.op_type == "Max" and len(node.input) == 2 and len(values) == 1:
            node.op_type = "Relu"
            del node.input[:]
            node.input.extend(values)
    drop_unused(model)


def spell_sigmoids(model: Any) -> None:
    """Write each `Sigmoid` as 1 / (1 + exp(-x)).

    onnxruntime's own is 1.5e-8 at the least, and where every mask of a pixel is below it the class
    is chosen among smaller numbers.

    Args:
        model: An `onnx.ModelProto`, which is changed.
    """
    from onnx import helper, numpy_helper

    graph, found = model.graph, []
    one = "sigmoid_one"
    for node in graph.node:
        if node.op_type != "Sigmoid":
            found.append(node)
            continue
        (value,), (result,) = node.input, node.output
        steps = [f"{result}_{step}" for step in ("negative", "power", "sum")]
        found += [
            helper.make_node("Neg", [value], [steps[0]]),
            helper.make_node("Exp", [steps[0]], [steps[1]]),
            helper.make_node("Add", [steps[1], one], [steps[2]]),
            helper.make_node("Reciprocal", [steps[2]], [result]),
        ]
    if len(found) > len(graph.node):
        graph.initializer.append(numpy_helper.from_array(np.array(1, np.float32), one))
    _fill(graph.node, found)


def keep_outputs(model: Any, names: Any) -> None:
    """Leave of a graph what some of its outputs need; onnxruntime would compute all of it.

    Args:
        model: An `onnx.ModelProto`, which is changed.
        names: Of the outputs that stay.
    """
    for each in [each for each in model.graph.output if each.name not in names]:
        model.graph.output.remove(each)
    drop_unused(model)


def drop_unused(model: Any) -> None:
    """Remove operations that no output depends on, and constants that nothing takes."""
    graph = model.graph
    needed, kept = {each.name for each in graph.output}, []
    for node in reversed(graph.node):
        if needed & {*node.output}:
            needed |= {*node.input} | _taken_inside(node)
            kept.append(node)
    constants = [each for each in graph.initializer if each.name in needed]
    for field, left in ((graph.node, kept[::-1]), (graph.initializer, constants)):
        _fill(field, left)


def _fill(field: Any, messages: Any) -> None:
    """Put messages in the place of what a field holds, of which they may be."""
    copies = [type(each).FromString(each.SerializeToString()) for each in messages]
    del field[:]
    field.extend(copies)


def _taken_inside(node: Any) -> set[str]:
    """Return what graphs inside a node, such as a loop's body, take from outside of them."""
    inside = [each.g for each in node.attribute if each.HasField("g")]
    return {
        name
        for graph in inside
        for each in graph.node
        for name in {*each.input} | _taken_inside(each)
    } | {each.name for graph in inside for each in graph.output}
