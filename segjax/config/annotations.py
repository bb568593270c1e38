"""Whether a config's value is what an argument's annotation says. Never imports jax."""

import collections.abc
import inspect
import sys
import types
import typing
from collections.abc import Callable, Iterator
from typing import Annotated, Any, Literal, NamedTuple, Union

from segjax.config import rules

PLAIN: dict[Any, rules.Rule] = {
    bool: rules.FLAG,
    int: rules.Rule("an integer", rules.is_int),
    float: rules.Rule("a finite number", rules.is_number),
    str: rules.TEXT,
    type(None): rules.Rule("None", lambda value: value is None),
}
LISTS = (
    list,
    tuple,
    collections.abc.Sequence,
    collections.abc.Collection,
    collections.abc.Iterable,
)
MAPPINGS = (dict, collections.abc.Mapping)


class Fault(NamedTuple):
    """A value that an annotation does not allow.

    Attributes:
        where: Its place.
        value: What is there.
        expected: What the annotation allows, in words.
    """

    where: str
    value: Any
    expected: str


def fault(annotation: Any, value: Any, where: str) -> Fault | None:
    """Return what is wrong with a value, or with the item of it that is; None: nothing.

    Annotations of other kinds than those of plain data (arrays, protocols, names that do not
    resolve) allow everything.
    """
    base, own = split(annotation)
    found = _fault(base, value, where)
    if found and found.where == where:
        return Fault(where, value, words(annotation))
    if found or all(rule.holds(value) for rule in own):
        return found
    return Fault(where, value, words(annotation))


def _fault(base: Any, value: Any, where: str) -> Fault | None:
    origin, arguments = typing.get_origin(base) or base, typing.get_args(base)
    here = Fault(where, value, words(base))
    if base in PLAIN:
        return None if PLAIN[base].holds(value) else here
    if origin is Literal:
        return None if rules.one_of(*arguments).holds(value) else here
    if origin in (Union, types.UnionType):
        faults = [fault(member, value, where) for member in arguments]
        inside = [found for found in faults if found and found.where != where]
        return None if None in faults else (*inside, here)[0]
    if origin in LISTS:
        if not isinstance(value, (list, tuple)) or len(value) > rules.ITEMS:
            return here
        items = _items(origin, arguments, len(value))
        if items is None:
            return here
        found = (fault(items[i], item, f"{where}[{i}]") for i, item in enumerate(value))
        return next(filter(None, found), None)
    if origin in MAPPINGS:
        if not isinstance(value, collections.abc.Mapping):
            return here
        of = arguments[1] if len(arguments) == 2 else Any
        found = (fault(of, item, f"{where}.{rules.name(str(key))}") for key, item in value.items())
        return next(filter(None, found), None)
    return None


def _items(origin: Any, arguments: tuple[Any, ...], count: int) -> list[Any] | None:
    """Return the annotation of each of `count` items; None: there may not be so many."""
    if origin is tuple and arguments and arguments[-1] is not Ellipsis:
        return list(arguments) if len(arguments) == count else None
    return [arguments[0] if arguments else Any] * count


def split(annotation: Any) -> tuple[Any, list[rules.Rule]]:
    """Return an annotation without `Annotated`, and the rules that stood in it."""
    own: list[rules.Rule] = []
    while typing.get_origin(annotation) is Annotated:
        own += [each for each in annotation.__metadata__ if isinstance(each, rules.Rule)]
        annotation = annotation.__origin__
    return annotation, own


def words(annotation: Any) -> str:
    """Return what an annotation allows, as it stands after "expected"."""
    base, own = split(annotation)
    origin, arguments = typing.get_origin(base) or base, typing.get_args(base)
    said = " ".join(rule.expected for rule in own)
    if origin in LISTS:
        kind = f"a list {said}".strip()
        if origin is tuple and arguments and arguments[-1] is not Ellipsis:
            return f"{kind} of {', '.join(map(words, arguments))}"
        each = words(arguments[0]) if arguments else ""
        return f"{kind}, each item {each}" if each else kind
    if said:
        return said
    if base in PLAIN:
        return PLAIN[base].expected
    if origin is Literal:
        return rules.one_of(*arguments).expected
    if origin in (Union, types.UnionType):
        members = [word for word in dict.fromkeys(map(words, arguments)) if word]
        return "a finite number" if {*arguments} == {float, int} else " or ".join(members)
    return "a section, keys with values" if origin in MAPPINGS else ""


def metadata(annotation: Any, kind: type) -> Iterator[Any]:
    """Yield what of some kind stands in the `Annotated` parts of an annotation."""
    if typing.get_origin(annotation) is Annotated:
        yield from (each for each in annotation.__metadata__ if isinstance(each, kind))
        annotation = annotation.__origin__
        yield from metadata(annotation, kind)


def resolved(symbol: Callable[..., Any], parameter: inspect.Parameter) -> Any:
    """Return the annotation of a parameter, read where it stands as text; `Any` if it cannot be."""
    annotation = parameter.annotation
    if annotation is inspect.Parameter.empty:
        return Any
    if not isinstance(annotation, str):
        return annotation
    owners = symbol.__mro__ if inspect.isclass(symbol) else (symbol,)
    for owner in owners:
        own = not inspect.isclass(owner) or parameter.name in owner.__dict__.get(
            "__annotations__", {}
        )
        if own or "__init__" in vars(owner):
            try:
                names = vars(sys.modules[owner.__module__])
                return eval(annotation, dict(names))
            except Exception:  # a name that only type checkers see
                continue
    return Any
