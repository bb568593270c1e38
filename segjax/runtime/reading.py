"""Read files that another person made: regular ones alone, of bounded size, JSON of bounded depth.

Whoever reads a file of a data set, a run or published weights begins here: a pipe would wait for
ever, a device has no end, and neither the watchdog nor a limit on sizes would see it.
"""

import errno
import io
import json
import math
import os
import pathlib
import stat
from collections.abc import Iterator
from typing import Any

from segjax.errors import DataError

JSON_BYTES = 8 << 20
"""Of a JSON file: what describes a data set or a run has a few kB."""
JSON_DEPTH = 64
TEXT_BYTES = 64 << 20
TEXT_LINES = 1 << 22
LINE_BYTES = 1 << 20
BYTE_ORDER_MARK = b"\xef\xbb\xbf"

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe (FIFO)",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}

Path = str | os.PathLike[str]


def why_not(path: Path) -> str:
    """Return why a file cannot be read as one, such as 'is a pipe (FIFO)'; empty: it can.

    A link is what it points to.
    """
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        if error.errno == errno.ELOOP:
            return "is a link that leads back to itself"
        if os.path.islink(path):
            return f"is a link to {os.readlink(path)}, which is not there"
        return error.strerror or type(error).__name__
    except ValueError as error:  # a null in the name
        return str(error)
    if stat.S_ISREG(mode):
        return ""
    return f"is {_KINDS.get(stat.S_IFMT(mode), 'no file')}"


def check_file(path: Path) -> None:
    """Raise `DataError` if there is something of that name that is no regular file."""
    if os.path.lexists(path) and (reason := why_not(path)):
        raise DataError(f"{os.fspath(path)}: {reason}. Expected a file; name or put one there.")


def open_file(path: Path, *, limit: float = math.inf) -> io.BufferedReader:
    """Open a regular file to read its bytes.

    Raises:
        FileNotFoundError: There is nothing of that name.
        DataError: It is no regular file, may not be read, or has more than `limit` bytes.
    """
    check_file(path)
    try:  # without waiting, if it has become a pipe meanwhile
        file = open(path, "rb", opener=lambda name, how: os.open(name, how | os.O_NONBLOCK))
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", error)
        raise DataError(f"{os.fspath(path)}: {reason}. Mend that, or name another one.") from None
    status = os.fstat(file.fileno())
    if not stat.S_ISREG(status.st_mode):
        file.close()
        raise DataError(f"{os.fspath(path)}: is no regular file. Name or put one there.")
    if status.st_size > limit:
        file.close()
        raise DataError(
            f"{os.fspath(path)}: has {status.st_size:,} bytes, at most {limit:,} are read. Check "
            "that it is the right file."
        )
    return file


def text(path: Path, *, limit: int = TEXT_BYTES) -> str:
    """Return the text of a file, in UTF-8 with a byte order mark or without.

    Raises:
        FileNotFoundError: There is nothing of that name.
        DataError: See `open_file`; or it is no UTF-8.
    """
    with open_file(path, limit=limit) as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise DataError(f"{os.fspath(path)}: grows while it is read. Wait for its end.")
    try:
        return content.removeprefix(BYTE_ORDER_MARK).decode()
    except UnicodeDecodeError as error:
        raise DataError(
            f"{os.fspath(path)}: not UTF-8 at byte {error.start}. Save it as UTF-8."
        ) from None


def lines(path: Path) -> list[str]:
    """Return the lines of a text file without white space around them.

    Raises:
        FileNotFoundError: There is nothing of that name.
        DataError: See `text`; or there are more than `TEXT_LINES`.
    """
    content = text(path)
    if content.count("\n") > TEXT_LINES:
        raise DataError(
            f"{os.fspath(path)}: has more than {TEXT_LINES:,} lines. Check that it is the right "
            "file, or cut it."
        )
    return [line.strip() for line in content.splitlines()]


def raw_lines(path: Path, *, limit: float = math.inf) -> Iterator[bytes]:
    """Yield the lines of a file as bytes without their ends; a last one may have had none.

    Raises:
        FileNotFoundError: There is nothing of that name.
        DataError: See `open_file`; or a line is longer than `LINE_BYTES`.
    """
    with open_file(path, limit=limit) as file:
        number = 0
        while line := file.readline(LINE_BYTES + 1):
            number += 1
            if len(line) > LINE_BYTES:
                raise DataError(
                    f"{os.fspath(path)}, line {number}: is longer than {LINE_BYTES:,} bytes. Check "
                    "that it is the right file."
                )
            yield line.removesuffix(b"\n")


def read_json(path: Path, *, limit: int = JSON_BYTES) -> Any:
    """Return what a JSON file holds.

    Raises:
        FileNotFoundError: There is nothing of that name.
        DataError: See `text` and `parse_json`; the message names the file.
    """
    content = text(path, limit=limit)
    try:
        return parse_json(content)
    except ValueError as error:
        raise DataError(f"{os.fspath(path)}: not valid JSON: {error}. Mend the file.") from None


def parse_json(content: str | bytes) -> Any:
    """Return what a JSON text holds, and only what JSON can hold.

    Raises:
        ValueError: No JSON; NaN and numbers beyond 64 bits, a key twice in one object, more than
            `JSON_DEPTH` levels.
    """
    try:
        found = json.loads(
            content,
            parse_constant=_no_constant,
            parse_float=_finite,
            parse_int=_whole,
            object_pairs_hook=_unique,
        )
    except RecursionError:
        raise ValueError(f"nested deeper than {JSON_DEPTH} levels") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 at byte {error.start}") from None
    level, depth = [found], 0
    while level := [x for each in level for x in _inside(each) if isinstance(x, (dict, list))]:
        depth += 1
        if depth >= JSON_DEPTH:
            raise ValueError(f"nested deeper than {JSON_DEPTH} levels")
    return found


def _inside(value: Any) -> Any:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON")


def _finite(digits: str) -> float:
    if not math.isfinite(number := float(digits)):
        raise ValueError(f"{digits[:40]} is too large for a number")
    return number


def _whole(digits: str) -> int:
    number = int(digits) if len(digits) < 24 else None
    if number is None or not -(2**63) <= number < 2**64:
        raise ValueError(f"a whole number of {len(digits)} digits, beyond 64 bits")
    return number


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))
        raise ValueError(f"the key {twice[:80]!r} stands twice in one object")
    return found


def is_file(path: pathlib.Path) -> bool:
    """Say whether there is a file to read, of whatever kind but a folder; an odd one is refused."""
    return os.path.lexists(path) and not path.is_dir()
