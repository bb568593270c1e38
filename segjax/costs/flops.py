"""Count FLOPs and bytes of a program's convolutions and matrix products, by their module."""

import collections
import itertools
import math
import re
from collections.abc import Callable, Iterator
from typing import Any

from jax.extend import core


def count(jaxpr: core.ClosedJaxpr) -> dict[str, int]:
    """Return the FLOPs of a traced program by module path (`down0/conv1/conv`).

    A multiplication and an addition are two. Element-wise work, a few per cent, is left out, and so
    the number is the same on every machine and version. Loops with a known length count as often as
    they run, `while` loops once.

    Args:
        jaxpr: `jitted.trace(*arguments).jaxpr` or `jax.make_jaxpr(function)(*arguments)`; the
            arguments may be shapes.
    """
    totals: dict[str, int] = collections.Counter()
    for scope, times, equation in _products(jaxpr.jaxpr):
        totals[scope] += times * PRODUCTS[equation.primitive.name](equation)
    return dict(totals)


def total(jaxpr: core.ClosedJaxpr) -> int:
    """Return the FLOPs of all of a traced program."""
    return sum(count(jaxpr).values())


def traffic(jaxpr: core.ClosedJaxpr) -> int:
    """Return the bytes of what all convolutions and matrix products read and write."""
    return sum(
        times * sum(v.aval.size * v.aval.dtype.itemsize for v in (*eqn.invars, *eqn.outvars))
        for _, times, eqn in _products(jaxpr.jaxpr)
    )


def _products(jaxpr: Any, scope: str = "", times: int = 1) -> Iterator[tuple[str, int, Any]]:
    """Yield `(scope, times, equation)` of every product in a program."""
    for equation in jaxpr.eqns:
        name = equation.primitive.name
        names = str(equation.source_info.name_stack).split("/")
        here = "/".join(filter(None, (scope, *(n for n in names if not is_method(n)))))
        if name in PRODUCTS:
            yield here, times, equation
        runs = times * equation.params["length"] if name == "scan" else times
        if name == "shard_map":  # its shapes are those of a part
            parts = dict(equation.params["mesh"].shape)
            runs *= math.prod(parts[axis] for axis in equation.params["newly_manual_axes"])
        found = [list(_products(inner, here, runs)) for inner in _inner(equation)]
        if name == "cond":  # an operation's forms on several platforms, one of which runs
            found = [max(found, key=_flops)]
        yield from itertools.chain(*found)


def is_method(scope: str) -> bool:
    """Return whether Flax named a scope for a method of a module, `Model.decode`, not a module."""
    return re.fullmatch(r"\w+\.\w+", scope) is not None


def _flops(products: list[tuple[str, int, Any]]) -> int:
    return sum(times * PRODUCTS[eqn.primitive.name](eqn) for _, times, eqn in products)


def _inner(equation: Any) -> Iterator[Any]:
    for value in equation.params.values():
        for item in value if isinstance(value, tuple | list) else (value,):
            if isinstance(item, core.ClosedJaxpr):
                yield item.jaxpr
            elif isinstance(item, core.Jaxpr):
                yield item


def _convolution(equation: Any) -> int:
    kernel, numbers = equation.invars[1].aval.shape, equation.params["dimension_numbers"]
    seen = math.prod(kernel[axis] for axis in numbers.rhs_spec[1:])
    zeros = math.prod(equation.params["lhs_dilation"])  # of a strided convolution's gradient
    return 2 * math.prod(equation.outvars[0].aval.shape) * seen // zeros


def _product(equation: Any) -> int:
    left = equation.invars[0].aval.shape
    (contracted, _), _ = equation.params["dimension_numbers"]
    return 2 * math.prod(equation.outvars[0].aval.shape) * math.prod(left[i] for i in contracted)


PRODUCTS: dict[str, Callable[[Any], int]] = {
    "conv_general_dilated": _convolution,
    "dot_general": _product,
}
