"""Labelled spans of a signal or a text: where something begins, where it ends, and what it is.

Three formats are read: a table `start,end,label` (.csv, with that line above it), Audacity's label
track (.txt: the same, with tabs between and no line above) and brat's standoff (.ann: `T1<tab>label
start end<tab>text`, other lines left out). Times are seconds where the signal has a sampling rate;
otherwise, and in brat's files, samples or characters. A span holds its start and not its end.
"""

import csv
import io
import math
import pathlib
import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from segjax.data import core
from segjax.errors import DataError
from segjax.runtime import files, reading
from segjax.structs import IGNORE_LABEL

ENDINGS = (".csv", ".txt", ".ann")
VOID = "void"
"""The label of spans that count nowhere."""
MOST = 1_000_000
_BRAT = re.compile(r"T\d+\t(\S+) (\d+) (\d+(?:;\d+ \d+)*)(?:\t|$)")


class Span(NamedTuple):
    """A labelled part of a signal.

    Attributes:
        start: In seconds, or in samples.
        end: Likewise, where it is over.
        label: The name of its class.
    """

    start: float
    end: float
    label: str


def read(file: pathlib.Path) -> list[Span]:
    """Return the spans of a file in their order, see above for the formats.

    Raises:
        DataError: A line that is none, a span that ends before it starts, or too many.
    """
    lines = reading.text(file).splitlines()
    if len(lines) > MOST:
        raise DataError(f"{file}: {len(lines):,} lines, at most {MOST:,} are read. Split it.")
    if file.suffix.lower() == ".ann":
        return [span for line in lines for span in _of_brat(line)]
    rows = csv.reader(lines, delimiter="\t") if file.suffix.lower() == ".txt" else csv.reader(lines)
    return [
        _span(row, file, number)
        for number, row in enumerate(rows, 1)
        if row and not (number == 1 and row[:3] == ["start", "end", "label"]) and row[0] != "\\"
    ]


def _of_brat(line: str) -> list[Span]:
    """Return the spans of a line; one that is interrupted has several."""
    match = _BRAT.match(line)
    if match is None:
        return []
    label, first, rest = match.groups()
    pairs = [pair.split() for pair in f"{first} {rest}".split(";")]
    return [Span(float(start), float(end), label) for start, end in pairs]


def _span(row: Sequence[str], file: pathlib.Path, number: int) -> Span:
    try:
        span = Span(float(row[0]), float(row[1]), row[2].strip())
    except (ValueError, IndexError):
        raise DataError(
            f"{file}: line {number} is {','.join(row)[:80]!r}, expected start, end and label. Mend "
            "it."
        ) from None
    if not 0 <= span.start <= span.end < math.inf:
        raise DataError(
            f"{file}: line {number} goes from {span.start:g} to {span.end:g}; expected a start of "
            "0 or more, and an end after it. Mend it."
        )
    return span


def draw(
    spans: Sequence[Span],
    length: int,
    class_names: Sequence[str],
    *,
    step: float = 1.0,
    overlap: bool = False,
    name: str,
) -> np.ndarray:
    """Return the classes of samples, uint8 [length]: class 0 outside of spans.

    A sample is in the spans that hold its own moment, `number * step`; where several do, in the
    last of the file. What reaches beyond the end is cut.

    Args:
        spans: See `read`.
        length: Samples.
        class_names: In the order of their numbers; 'void' is one besides.
        step: Seconds between two samples; 1: spans count samples.
        overlap: Return a map [length k] instead, 1 where a sample is of the class, 0 elsewhere.
        name: The file, for messages.

    Raises:
        DataError: A label that is no class.
    """
    label = np.zeros((length, len(class_names)) if overlap else length, np.uint8)
    known = {each: number for number, each in enumerate(class_names)} | {VOID: IGNORE_LABEL}
    for span in spans:
        if span.label not in known:
            raise DataError(
                f"{name}: label {span.label[:80]!r} is none of {core.some(list(class_names))}. "
                "Name all classes in class_names, or mend the file."
            )
        # A moment that is a boundary up to rounding lies on it.
        first, last = (math.ceil(round(at / step, 4)) for at in (span.start, span.end))
        part = slice(min(first, length), min(last, length))
        if not overlap:
            label[part] = known[span.label]
        elif span.label == VOID:
            label[part] = IGNORE_LABEL
        else:
            label[part, known[span.label]] = 1
    return label


def find(label: np.ndarray, class_names: Sequence[str], *, step: float = 1.0) -> list[Span]:
    """Return the runs of equal classes in a map [length], or [length k], but for class 0 of one.

    What `draw` makes of them is the map.
    """
    maps = [label] if label.ndim == 1 else [label[:, k] * (k + 1) for k in range(label.shape[1])]
    found = []
    for each in maps:
        edges = np.flatnonzero(np.diff(each.astype(np.int16), prepend=-1, append=-1))
        for start, end in zip(edges[:-1], edges[1:], strict=True):
            value = int(each[start])
            if value:
                number = value if label.ndim == 1 else value - 1
                found.append(Span(start * step, end * step, class_names[number]))
    return sorted(found)


def write(path: pathlib.Path, spans: Sequence[Span]) -> None:
    """Write spans as a table.

    Raises:
        UserError: The disk is full or cannot be written.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["start", "end", "label"])
    for span in spans:
        writer.writerow([f"{span.start:.12g}", f"{span.end:.12g}", span.label])
    with files.replacing(path) as temporary:
        temporary.write_text(text.getvalue())
