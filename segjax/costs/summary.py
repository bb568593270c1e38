"""Summary: a model's modules, parameters, FLOPs and memory, before anything is trained."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
from jax.extend import core
from rich import box
from rich.table import Table

from segjax.costs import flops


class Row(NamedTuple):
    """One module: its path, the shapes it returns, parameters, and FLOPs of one forward pass."""

    path: str
    shapes: tuple[tuple[int, ...], ...]
    parameters: int
    flops: int
    bytes: int


def modules(model: nn.Module, image: jax.ShapeDtypeStruct, *, depth: int) -> list[Row]:
    """Return a row for every module down to `depth`, in the order of the forward pass.

    The first row is the model itself. A row counts all that lies below it; `bytes` are those of
    what it returns.
    """
    returned: dict[str, list[Any]] = {}

    def listen(call: Any, arguments: Any, keywords: Any, context: Any) -> Any:
        path = "/".join(context.module.path)
        returned.setdefault(path, [])  # a module stands before those that it calls
        result = call(*arguments, **keywords)
        if context.method_name == "__call__":
            returned[path] = [leaf for leaf in jax.tree.leaves(result) if hasattr(leaf, "shape")]
        return result

    def forward(variables: Any, image: jax.Array) -> Any:
        return model.apply(variables, image, train=False)

    variables = jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), image)
    with nn.intercept_methods(listen):
        counts = flops.count(jax.make_jaxpr(forward)(variables, image))
    params = {
        "/".join(key.key for key in path): leaf.size
        for path, leaf in jax.tree.leaves_with_path(variables["params"])
    }
    scope = type(model).__name__
    below = {path.removeprefix(scope).strip("/"): n for path, n in counts.items()}
    return [
        Row(
            path,
            tuple(leaf.shape for leaf in leaves),
            sum(n for name, n in params.items() if lies_in(name, path)),
            sum(n for name, n in below.items() if lies_in(name, path)),
            sum(leaf.size * leaf.dtype.itemsize for leaf in leaves),
        )
        for path, leaves in returned.items()
        if not path or path.count("/") < depth
    ]


def lies_in(name: str, path: str) -> bool:
    """Return whether the module or leaf `name` is `path` or stands below it."""
    return not path or name == path or name.startswith(f"{path}/")


def draw(rows: list[Row], *, title: str) -> Table:
    """Return the rows as a table for the terminal."""
    table = Table(title=title, box=box.SIMPLE_HEAD)
    table.add_column("module", no_wrap=True)
    table.add_column("output", no_wrap=True)
    for name in ("parameters", "MFLOP", "share", "output MB"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        shapes = " ".join("×".join(map(str, shape[1:])) for shape in row.shapes[-1:])
        more = f" +{len(row.shapes) - 1}" if len(row.shapes) > 1 else ""
        table.add_row(
            "  " * row.path.count("/") + (row.path.rpartition("/")[2] or "model"),
            shapes + more,
            f"{row.parameters:,}",
            f"{row.flops / 1e6:,.1f}",
            f"{row.flops / max(rows[0].flops, 1):.1%}",
            f"{row.bytes / 1e6:,.2f}",
        )
    return table


def on_device(tree: Any) -> int:
    """Return the bytes that one device holds of a tree of shapes with placement."""
    return sum(
        math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
        for leaf in jax.tree.leaves(tree)
    )


def residual_bytes(function: Callable[..., Any], params: Any, *arguments: Any) -> int:
    """Return the bytes that the gradient of `function` by `params` needs, `params` left out."""

    def backward(params: Any, *arguments: Any) -> Any:
        return jax.tree.leaves(jax.vjp(lambda params: function(params, *arguments), params)[1])

    jaxpr = jax.make_jaxpr(backward)(params, *arguments).jaxpr
    given = set(jaxpr.invars)
    made: set[Any] = {v for v in jaxpr.outvars if isinstance(v, core.Var) and v not in given}
    return sum(v.aval.size * v.aval.dtype.itemsize for v in made)
