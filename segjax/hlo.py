"""Read a compiled program: its collectives and their bytes, dtypes, calls to the host."""

import collections
import math
import re
from collections.abc import Iterable
from typing import NamedTuple

KINDS = ("all-gather", "all-reduce", "all-to-all", "collective-permute", "reduce-scatter")
_LINE = re.compile(
    rf"= (?P<result>\(?[a-z0-9]+\[[^=]*?) (?P<kind>{'|'.join(KINDS)})(?P<phase>-start|-done)?\("
)
_ARRAY = re.compile(r"\b([a-z]+[0-9]*(?:e[0-9]m[0-9]\w*)?)\[([0-9,]*)\]")
_HOST = re.compile(r'custom_call @(\w*callback\w*)|custom_call_target="(\w*callback\w*)"')
_PRODUCT = re.compile(
    r"stablehlo\.(?:convolution|dot_general)\b.*: \(tensor<([^>]*)>, tensor<([^>]*)>\)"
)


class Collective(NamedTuple):
    """One collective operation of a compiled program.

    Attributes:
        kind: A name in `KINDS`.
        arrays: Dtype and shape of each result on one device.
        bytes: Size of the results on one device.
    """

    kind: str
    arrays: tuple[tuple[str, tuple[int, ...]], ...]
    bytes: int


def collectives_of(text: str) -> list[Collective]:
    """Return the collectives of an optimised HLO text (`compiled.as_text()`), each counted once.

    One inside a loop counts once, however often the loop runs.
    """
    found = []
    for match in _LINE.finditer(re.sub(r"/\*.*?\*/", "", text)):
        if match["phase"] == "-start":  # its '-done' has the result alone
            continue
        arrays = tuple(
            (dtype, tuple(int(n) for n in dims.split(",") if n))
            for dtype, dims in _ARRAY.findall(match["result"])
        )
        size = sum(itemsize(dtype) * math.prod(shape) for dtype, shape in arrays)
        found.append(Collective(match["kind"], arrays, size))
    return found


def bytes_by_kind(found: Iterable[Collective]) -> dict[str, int]:
    """Return the bytes of each kind of collective on one device."""
    total: dict[str, int] = collections.Counter()
    for collective in found:
        total[collective.kind] += collective.bytes
    return dict(total)


def itemsize(dtype: str) -> int:
    """Return the bytes of one element of an HLO dtype such as `f32`, `bf16`, `pred`."""
    bits = re.search(r"\d+", dtype)
    return max(1, int(bits[0]) // 8) if bits else 1


def product_dtypes(stablehlo: str) -> collections.Counter[str]:
    """Count convolutions and matrix products by the dtype of their operands.

    Takes the text before a backend's own rewriting (`lowered.as_text()`): XLA's CPU backend turns
    bfloat16 products into float32 by itself.
    """
    counts: collections.Counter[str] = collections.Counter()
    for operands in _PRODUCT.findall(stablehlo):
        counts["x".join(sorted({operand.rpartition("x")[2] for operand in operands}))] += 1
    return counts


def host_calls(text: str) -> list[str]:
    """Return the names of calls back into Python, in either text."""
    return [name for pair in _HOST.findall(text) for name in pair if name]
