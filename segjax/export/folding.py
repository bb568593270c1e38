"""Export: simplify a graph of ONNX where the converter writes more than it needs to."""

from typing import Any

ELEMENTWISE = ("Add", "Sub", "Mul", "Div", "Max", "Min")


def drop_expansions(model: Any) -> None:
    """Let operations broadcast what an `Expand` before them copies to the full size.

    JAX's operations take operands of one shape, so the converter copies each scale and shift of a
    channel to the size of the batch. ONNX's broadcast them, and runtimes then fold them into the
    convolution before.

    Args:
        model: An `onnx.ModelProto` with the shape of each value, which is changed.
    """
    graph = model.graph
    made = {node.output[0]: node for node in graph.node if node.op_type == "Expand"}
    shapes = {each.name: _shape(each) for each in (*graph.value_info, *graph.input)}
    shapes |= {each.name: tuple(each.dims) for each in graph.initializer}
    for node in graph.node:
        if node.op_type not in ELEMENTWISE or len(node.input) != 2:
            continue
        for place, other in ((0, 1), (1, 0)):
            expand, beside = made.get(node.input[place]), node.input[other]
            full = expand is not None and shapes.get(expand.output[0])
            if expand is not None and beside not in made and full and full == shapes.get(beside):
                node.input[place] = expand.input[0]
    drop_unused(model)


def drop_unused(model: Any) -> None:
    """Remove what no output depends on, and constants that nothing takes."""
    graph = model.graph
    needed, kept = {each.name for each in graph.output}, []
    for node in reversed(graph.node):
        if needed & {*node.output}:
            needed |= {*node.input} | _outer(node)
            kept.append(node)
    del graph.node[:]
    graph.node.extend(reversed(kept))
    constants = [each for each in graph.initializer if each.name in needed]
    del graph.initializer[:]
    graph.initializer.extend(constants)


def _outer(node: Any) -> set[str]:
    """Return what graphs inside a node, such as a loop's body, take from outside."""
    inside = [each.g for each in node.attribute if each.HasField("g")]
    return {
        name for graph in inside for each in graph.node for name in {*each.input} | _outer(each)
    }


def _shape(value: Any) -> tuple[int | str, ...] | None:
    """Return a value's shape, a size of any number by its name; None: not known."""
    if not value.type.tensor_type.HasField("shape"):
        return None
    sizes = [each.dim_value or each.dim_param for each in value.type.tensor_type.shape.dim]
    return tuple(sizes) if all(sizes) else None
