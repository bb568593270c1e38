"""PyTorch's state dicts to our variables and back, by rules that name each of our modules there.

Every publisher's file (`torchvision.py`, `timm.py`, …) is a table of rules; layouts are settled
here. The same rules serve both directions, and a leaf that no rule names is an error.
"""

import contextlib
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from segjax.errors import DataError

State = dict[str, np.ndarray]
Turn = Callable[[np.ndarray], np.ndarray]
LEAVES = {
    "kernel": "weight",
    "scale": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "var": "running_var",
}


class Rule(NamedTuple):
    """One line of a publisher's table.

    Attributes:
        ours: Regular expression for a whole module path of ours (`layer1_0/conv1/conv`),
            or for a leaf's path where the leaf's name is not in `LEAVES`.
        theirs: Their module's name, with the groups of `ours` filled in (`layer1.0.conv1`).
        layout: How a kernel lies there: '' as its rank says ([O I *window] or [O I]), 'pointwise'
            [O I 1 1] for a matrix of ours, 'vector' [O 1 1] for a vector of ours, 'table' [n c] for
            [1 n c] of ours, 'window of one' [1 1 I O] for a matrix of ours, 'transposed' [I O
            *window] as transposed convolutions, 'stem' as '' for a first convolution, which may
            take another number of channels, 'raw' as it is, 'raw stem' likewise for a first
            convolution, 'flat n' [O I*n] behind features flattened with their n places last, or
            'i/n': part i of n along their first axis (queries, keys, values). Before it, up to '|',
            what is done to their rows or channels first, by names of
            `TURNS`, of biases too.
    """

    ours: str
    theirs: str
    layout: str = ""


def boxes(value: np.ndarray) -> np.ndarray:
    """Swap x and y in rows of four offsets each: dx dy dw dh and dy dx dh dw; its own inverse."""
    return value.reshape(-1, 2, 2, *value.shape[1:])[:, :, ::-1].reshape(value.shape)


def points(value: np.ndarray) -> np.ndarray:
    """Swap x and y in rows of two: dx dy and dy dx; its own inverse."""
    return value.reshape(-1, 2, *value.shape[1:])[:, ::-1].reshape(value.shape)


def without_first(value: np.ndarray, rows: int) -> np.ndarray:
    """Return all but the first rows, those of what is no object; there must be more."""
    return value[rows:]


def with_first(value: np.ndarray, rows: int) -> np.ndarray:
    """Return the array behind as many rows of zeros: nobody reads what is no object there."""
    return np.concatenate([np.zeros_like(value[:1].repeat(rows, 0)), value])


TURNS: dict[str, tuple[Turn, Turn]] = {
    "boxes": (boxes, boxes),
    "points": (points, points),
    "background last": (lambda x: np.roll(x, -1, 0), lambda x: np.roll(x, 1, 0)),
    "no background": (lambda x: without_first(x, 1), lambda x: with_first(x, 1)),
    "no background's box": (lambda x: without_first(x, 4), lambda x: with_first(x, 4)),
    "bgr": (lambda x: x[:, ::-1], lambda x: x[:, ::-1]),
    "bgr last": (lambda x: x[..., ::-1, :], lambda x: x[..., ::-1, :]),
}
"""What is done to an array of theirs before it is laid out as ours, and its inverse."""


def nested(rules: Iterable[Rule], ours: str, theirs: str) -> list[Rule]:
    """Return `rules` for a module that lies deeper: at `ours` here and `theirs` there.

    Where `theirs` is empty their module is the whole network.
    """
    prefix = f"{theirs}." if theirs else ""
    return [
        rule._replace(ours=f"{ours}/{rule.ours}", theirs=f"{prefix}{rule.theirs}") for rule in rules
    ]


def thirds(ours: str, theirs: str) -> list[Rule]:
    """Name the layers of an attention that make queries, keys and values, which are one there."""
    names = ("query", "key", "value")
    return [Rule(f"{ours}/{name}", theirs, f"{i}/3") for i, name in enumerate(names)]


class Place(NamedTuple):
    """Where one of our leaves lies in a state dict."""

    name: str
    layout: str


def places(variables: Any, rules: Sequence[Rule]) -> dict[str, Place]:
    """Return the place of every leaf of `variables` that a rule names, by our path.

    Args:
        variables: `{'params', 'batch_stats'}`, arrays or shapes.
        rules: The first that matches counts.
    """
    compiled = [(re.compile(rule.ours), rule) for rule in rules]
    found = {}
    for path, _ in leaves(variables):
        module, _, leaf = path.rpartition("/")
        for pattern, rule in compiled:
            match = pattern.fullmatch(path)
            if match:
                found[path] = Place(match.expand(rule.theirs), rule.layout)
                break
            match = pattern.fullmatch(module) if leaf in LEAVES else None
            if match:
                found[path] = Place(f"{match.expand(rule.theirs)}.{LEAVES[leaf]}", rule.layout)
                break
    return found


def leaves(variables: Any) -> list[tuple[str, Any]]:
    """Return `(path, leaf)` pairs; the path leaves out 'params' and 'batch_stats'."""
    flat = jax.tree.leaves_with_path(dict(variables))
    return [("/".join(str(key.key) for key in path[1:]), leaf) for path, leaf in flat]


def from_torch(
    state: Mapping[str, np.ndarray],
    target: Any,
    rules: Sequence[Rule],
    *,
    class_axes: Mapping[str, Mapping[int, int]] | None = None,
    classes: Sequence[int] = (),
) -> dict[str, np.ndarray]:
    """Return the leaves of `target` that `rules` name, by path, taken from `state`.

    Args:
        state: Their names to arrays.
        target: Our `{'params', 'batch_stats'}` as shapes; its dtypes are kept.
        rules: The publisher's table for this network.
        class_axes: The axes of our leaves that count classes, and how long a class is there, by
            path. Leaves whose shape differs in nothing else are left out.
        classes: Which of their classes ours are, in the order of ours; empty: all of them.

    Raises:
        DataError: An array is missing or has another shape, or there is no such class; the message
            names both.
    """
    shapes, result = dict(leaves(target)), {}
    for path, place in places(target, rules).items():
        if place.name not in state:
            raise DataError(
                f"{path}: expected {place.name!r} in the weights, which have {len(state)} arrays "
                f"such as {', '.join(list(state)[:3])}. Is this file of another network?"
            )
        wanted = shapes[path]
        value = np.asarray(state[place.name])
        with contextlib.suppress(ValueError):  # of another shape altogether, which is said below
            value = ours(value, place.layout, wanted.ndim)
        for axis, length in (class_axes or {}).get(path, {}).items() if classes else ():
            value = choose_classes(value, wanted.shape, axis, length, classes, where=place.name)
        if "stem" in place.layout and value.shape != wanted.shape:
            value = adapt_stem(value, wanted.shape[-2])
        if value.shape != wanted.shape:
            axes: Collection[int] = (class_axes or {}).get(path, ())
            if axes and without(value.shape, axes) == without(wanted.shape, axes):
                continue
            raise DataError(
                f"{path}: expected shape {wanted.shape}, got {value.shape} from {place.name!r}. "
                "Is this file of another network, or for another number of classes?"
            )
        result[path] = value.astype(wanted.dtype)
    return result


def choose_classes(
    value: np.ndarray,
    wanted: Sequence[int],
    axis: int,
    length: int,
    classes: Sequence[int],
    *,
    where: str,
) -> np.ndarray:
    """Return the parts of some classes, and behind them what is of no class.

    Args:
        value: An array of theirs, laid out as ours.
        wanted: The shape of ours.
        axis: Where the classes lie, in a row.
        length: Of each of them along it.
        classes: Their numbers.
        where: The array's name, for messages.

    Raises:
        DataError: The array has fewer classes.
    """
    rest = wanted[axis] - length * len(classes)
    count = (value.shape[axis] - rest) // length
    if max(classes) >= count:
        raise DataError(
            f"{where}: has {count} classes, expected more than {max(classes)}. Take out of "
            "config.model.pretrained.classes what it has not."
        )
    parts = [np.arange(i * length, (i + 1) * length) for i in classes]
    behind = np.arange(value.shape[axis] - rest, value.shape[axis])
    return np.take(value, np.concatenate([*parts, behind]), axis)


def without(shape: Sequence[int], axes: Collection[int]) -> list[int]:
    """Return the lengths of all but `axes`."""
    return [length for axis, length in enumerate(shape) if axis not in axes]


def below(state: Mapping[str, np.ndarray], names: Iterable[str], prefix: str = "") -> State:
    """Return the arrays below one prefix, its part of their names removed.

    Checkpoints nest networks (`state_dict.`, `module.`, `backbone.`). The prefix is the one below
    which every one of `names` is found; where there is none, the one with most of them.

    Args:
        state: All arrays of a file.
        names: The names that a table expects.
        prefix: The prefix, where it is known.

    Raises:
        DataError: There are several such, as where a file also holds averaged weights.
    """
    wanted = set(names)
    if wanted and not prefix:
        probe = max(wanted, key=len)
        found = [key for key in state if key == probe or key.endswith(f".{probe}")]
        prefixes = [key.removesuffix(probe) for key in found]
        counts = {p: sum(f"{p}{name}" in state for name in wanted) for p in prefixes}
        whole = [p for p, count in counts.items() if count == len(wanted)]
        if len(whole) > 1:
            raise DataError(
                f"the weights hold this network {len(whole)} times, below "
                f"{', '.join(map(repr, whole))}. Set config.model.pretrained.prefix to one of them."
            )
        prefix = max(counts, key=lambda p: counts[p], default="")
    return {key.removeprefix(prefix): x for key, x in state.items() if key.startswith(prefix)}


def to_torch(variables: Any, rules: Sequence[Rule]) -> State:
    """Return a state dict with every leaf of `variables`, as the publisher's model names them.

    Parts of an array that our network does not have, such as a bias of keys, are zero there.

    Raises:
        DataError: A leaf that no rule names.
    """
    where, parts, state = places(variables, rules), {}, {}
    for path, leaf in leaves(variables):
        if path not in where:
            raise DataError(f"{path}: the table has no name for it there. Add a rule.")
        name, layout = where[path]
        value = theirs(np.asarray(leaf), layout)
        if "/" in layout:
            number, _, count = layout.partition("/")
            parts.setdefault(name, [np.zeros_like(value)] * int(count))[int(number)] = value
        else:
            state[name] = value
        if name.endswith(".running_var"):
            state[name.replace("running_var", "num_batches_tracked")] = np.zeros((), np.int64)
    return state | {name: np.concatenate(several) for name, several in parts.items()}


def ours(value: np.ndarray, layout: str, rank: int) -> np.ndarray:
    """Turn an array of theirs into our layout; `rank` is that of our leaf."""
    *turns, layout = layout.split("|")
    for turn in turns:
        value = TURNS[turn][0](value)
    if layout.startswith("flat") and value.ndim == 2:
        parts = value.reshape(len(value), -1, int(layout.removeprefix("flat ")))
        return parts.transpose(2, 1, 0).reshape(-1, len(value))
    if layout == "vector":
        return value.reshape(-1)
    if layout == "table":
        return value[None]
    if layout == "window of one":
        return value.reshape(value.shape[-2:])
    if layout in ("raw", "raw stem") or value.ndim < 2:
        part = layout.partition("/")
        return np.split(value, int(part[2]))[int(part[0])] if part[1] else value
    if "/" in layout:
        number, _, count = layout.partition("/")
        return ours(np.split(value, int(count))[int(number)], "", rank)
    if layout == "pointwise":
        value = value.reshape(value.shape[:2])
    first, second = value.shape[:2] if layout == "transposed" else value.shape[1::-1]
    swapped = value if layout == "transposed" else value.swapaxes(0, 1)
    return np.moveaxis(swapped, (0, 1), (-2, -1)).reshape(*value.shape[2:], first, second)


def theirs(value: np.ndarray, layout: str) -> np.ndarray:
    """Turn an array of ours into their layout."""
    *turns, layout = layout.split("|")
    if turns:
        value = theirs(value, layout)
        for turn in reversed(turns):
            value = TURNS[turn][1](value)
        return value
    if layout.startswith("flat") and value.ndim == 2:
        parts = value.reshape(int(layout.removeprefix("flat ")), -1, value.shape[1])
        return parts.transpose(2, 1, 0).reshape(value.shape[1], -1)
    if layout == "vector":
        return value[:, None, None]
    if layout == "table":
        return value[0]
    if layout == "window of one":
        return value[None, None]
    if layout in ("raw", "raw stem") or value.ndim < 2:
        return value
    order = (-2, -1) if layout == "transposed" else (-1, -2)
    value = np.moveaxis(value, order, (0, 1))
    return value[..., None, None] if layout == "pointwise" else value


def adapt_stem(kernel: np.ndarray, channels: int) -> np.ndarray:
    """Fit a first convolution [*window 3 k] to another number of input channels.

    One channel gets the sum (a grey image, repeated); others get the kernel's in turn, scaled by
    `have / channels` so that responses keep their size.
    """
    have = kernel.shape[-2]
    if channels == 1:
        return kernel.sum(-2, keepdims=True)
    turns = np.take(kernel, np.arange(channels) % have, axis=-2)
    return turns * (have / channels)
