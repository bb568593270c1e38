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
_COMPUTATION = re.compile(r"^(?P<entry>ENTRY )?%?(?P<name>[\w.-]+) \(.*\{$")
_CALLED = re.compile(r"(?:body|condition|calls|to_apply|computations=\{)=?%?([\w.-]+)")
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
        times: How often it runs: more than once in a loop of known length.
    """

    kind: str
    arrays: tuple[tuple[str, tuple[int, ...]], ...]
    bytes: int
    times: int = 1


def collectives_of(text: str) -> list[Collective]:
    """Return the collectives of an optimised HLO text (`compiled.as_text()`)."""
    found, times, here = [], _runs(text), ""
    for line in re.sub(r"/\*.*?\*/", "", text).splitlines():
        opened = _COMPUTATION.match(line)
        here = opened["name"] if opened else here
        match = _LINE.search(line)
        if match is None or match["phase"] == "-start":  # its '-done' has the result alone
            continue
        arrays = tuple(
            (dtype, tuple(int(n) for n in dims.split(",") if n))
            for dtype, dims in _ARRAY.findall(match["result"])
        )
        size = sum(itemsize(dtype) * math.prod(shape) for dtype, shape in arrays)
        found.append(Collective(match["kind"], arrays, size, times.get(here, 1)))
    return found


def _runs(text: str) -> dict[str, int]:
    """Return how often each computation runs for one run of the program."""
    calls, here, times = collections.defaultdict(list), "", {}
    for line in text.splitlines():
        opened = _COMPUTATION.match(line)
        if opened:
            here = opened["name"]
            times |= {here: 1} if opened["entry"] else {}
        trips = re.search(r"known_trip_count[^0-9]*([0-9]+)", line)
        length = int(trips[1]) if trips and " while(" in line else 1
        calls[here] += [(name, length) for name in _CALLED.findall(line)]
    waiting = list(times)
    while waiting:
        caller = waiting.pop()
        for name, length in calls[caller]:
            if name not in times:
                times[name] = times[caller] * length
                waiting.append(name)
    return times


def bytes_by_kind(found: Iterable[Collective]) -> dict[str, int]:
    """Return the bytes that each kind of collective yields on one device in one run."""
    total: dict[str, int] = collections.Counter()
    for collective in found:
        total[collective.kind] += collective.bytes * collective.times
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
