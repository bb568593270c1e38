"""Count the FLOPs of convolutions and matrix products in a program, by the module they stand in."""

import collections
import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
from jax.extend import core


def count(function: Callable[..., Any], *arguments: Any) -> dict[str, int]:
    """Return the FLOPs of `function` by module path (`down0/conv1/conv`); nothing is computed.

    A multiplication and an addition are two. Element-wise work, a few per cent, is left out, and so
    the number is the same on every machine and version. Loops with a known length count as often as
    they run, `while` loops once.

    Args:
        function: What to count.
        *arguments: Its arguments, arrays or shapes.
    """
    totals: dict[str, int] = collections.Counter()
    for scope, flops in _walk(jax.make_jaxpr(function)(*arguments).jaxpr, "", 1):
        totals[scope] += flops
    return dict(totals)


def total(function: Callable[..., Any], *arguments: Any) -> int:
    """Return the FLOPs of all of `function`."""
    return sum(count(function, *arguments).values())


def _walk(jaxpr: Any, scope: str, times: int) -> Iterator[tuple[str, int]]:
    for equation in jaxpr.eqns:
        name = equation.primitive.name
        here = "/".join(filter(None, (scope, str(equation.source_info.name_stack))))
        if name in PRODUCTS:
            yield here, times * PRODUCTS[name](equation)
        found = [list(_walk(inner, here, times)) for inner in _inner(equation)]
        if name == "cond":  # an operation's forms on several platforms, one of which runs
            found = [max(found, key=lambda counts: sum(n for _, n in counts))]
        length = equation.params["length"] if name == "scan" else 1
        yield from ((place, length * n) for counts in found for place, n in counts)


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
