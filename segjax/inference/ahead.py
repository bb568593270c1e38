"""What a program makes of a network's variables alone, computed once and not for each batch.

Weights are kept in float32 and rounded to the dtype in which they are used. Where few images go
through a network at once that takes up to a fifth of its time.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
from jax.extend import core

Jaxpr = Any
Function = Callable[[Any, jax.Array], Any]


class Parts(NamedTuple):
    """A function of variables and images, cut in two.

    Attributes:
        early: `(leaves of the variables) → values`, what is made of them alone.
        late: `(values, leaves of the variables, images) → outputs`, the rest.
        key: Says what `early` computes: for equal keys it is the same.
    """

    early: Callable[[Sequence[jax.Array]], list[jax.Array]]
    late: Callable[[Sequence[jax.Array], Sequence[jax.Array], jax.Array], Any]
    key: str


class Passes:
    """A function of variables and images as two programs, each compiled at first use.

    Args:
        function: `(variables, images) → outputs`, traceable.
        options: XLA's for the program that takes images.
        options_early: XLA's for the other.
    """

    def __init__(self, function: Function, *, options: Any, options_early: Any):
        self.function, self.options, self.options_early = function, options, options_early
        self.parts: dict[Any, Parts] = {}

    def of(self, variables: Any) -> "Ready":
        """Return the function with its variables: from images to outputs."""
        return Ready(self, variables)

    def cut(self, variables: Any, images: jax.Array) -> Parts:
        """Return the two programs for images of this shape."""
        kind = (images.shape, images.dtype)
        if kind not in self.parts:
            parts = split(self.function, variables, images)
            self.parts[kind] = parts._replace(
                early=jax.jit(parts.early, compiler_options=self.options_early),
                late=jax.jit(parts.late, compiler_options=self.options),
            )
        return self.parts[kind]


class Ready:
    """A function whose variables are given; what is made of them alone is made once.

    Images of another shape share it, unless something else is made for them.
    """

    def __init__(self, passes: Passes, variables: Any):
        self.passes, self.variables = passes, variables
        self.leaves = jax.tree.leaves(variables)
        self.values: dict[str, list[jax.Array]] = {}

    def __call__(self, images: jax.Array) -> Any:
        """Return the outputs."""
        return self.late(images)(*self.arguments(images))

    def late(self, images: jax.Array) -> Any:
        """Return the program that takes images of this shape, and `arguments`."""
        return self.passes.cut(self.variables, images).late

    def arguments(self, images: jax.Array) -> tuple[Any, ...]:
        """Return what that program takes."""
        parts = self.passes.cut(self.variables, images)
        if parts.key not in self.values:
            self.values[parts.key] = parts.early(self.leaves)
        return self.values[parts.key], self.leaves, images


def split(function: Function, variables: Any, images: jax.Array) -> Parts:
    """Cut a function in two by the operations that it is made of.

    An operation is early if it sees nothing but variables, and what it makes is no larger than
    these: a bias that is spread over an image is spread where it is added. Operations that see
    nothing at all are in both parts. What is nested, in a loop or a branch, stays together.
    """
    closed, outputs = jax.make_jaxpr(function, return_shape=True)(variables, images)
    jaxpr, leaves = closed.jaxpr, len(jax.tree.leaves(variables))
    given, seen = jaxpr.invars[:leaves], jaxpr.invars[leaves:]
    made_of: dict[Any, frozenset[Any]] = {var: frozenset() for var in jaxpr.constvars}
    made_of |= {var: frozenset([var]) for var in given}
    late = []  # operations, whose results are not in `made_of`
    for operation in jaxpr.eqns:
        inputs = list(variables_in(operation.invars))
        if operation.effects or not all(var in made_of for var in inputs):
            late.append(operation)
            continue
        sources = frozenset().union(*(made_of[var] for var in inputs))
        if sources and bytes_of(operation.outvars) > bytes_of(sources):
            late.append(operation)
            continue
        if not sources:
            late.append(operation)
        made_of |= dict.fromkeys(operation.outvars, sources)
    used = dict.fromkeys(
        var
        for inputs in (*(operation.invars for operation in late), jaxpr.outvars)
        for var in variables_in(inputs)
    )
    values = [var for var in used if made_of.get(var) and var not in set(given)]
    early = behind(values, jaxpr.eqns)
    first = program(closed, early, given, values)
    last = program(closed, late, [*values, *given, *seen], jaxpr.outvars)
    of_all, structure = core.jaxpr_as_fun(last), jax.tree.structure(outputs)

    def rest(values: Sequence[jax.Array], leaves: Sequence[jax.Array], images: jax.Array) -> Any:
        return jax.tree.unflatten(structure, of_all(*values, *leaves, images))

    of_leaves = core.jaxpr_as_fun(first)
    return Parts(lambda leaves: of_leaves(*leaves), rest, str(first))


def program(
    closed: Any, operations: Sequence[Any], inputs: Sequence[Any], outputs: Sequence[Any]
) -> Any:
    """Return a part of a program, from some of its variables to others."""
    information = closed.jaxpr.debug_info.with_unknown_names()
    part = closed.jaxpr.replace(
        eqns=list(operations), invars=list(inputs), outvars=list(outputs), debug_info=information
    )
    return core.ClosedJaxpr(part, closed.consts)


def behind(values: Iterable[Any], operations: Sequence[Any]) -> list[Any]:
    """Return the operations that lead to values, in their order."""
    wanted, found = set(values), []
    for operation in reversed(operations):
        if wanted.intersection(operation.outvars):
            found.append(operation)
            wanted.update(variables_in(operation.invars))
    return found[::-1]


def variables_in(atoms: Iterable[Any]) -> Iterator[Any]:
    """Yield what is no literal number."""
    return (atom for atom in atoms if not isinstance(atom, core.Literal))


def bytes_of(atoms: Iterable[Any]) -> int:
    """Return how much memory values take."""
    return sum(atom.aval.size * atom.aval.dtype.itemsize for atom in atoms)
