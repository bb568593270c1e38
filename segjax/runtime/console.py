"""Standard error that may be closed, full or gone, and the work goes on."""

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any, TextIO


class Lasting:
    """A stream whose writes never fail: what cannot be written is lost.

    Args:
        stream: Of text.
    """

    def __init__(self, stream: TextIO):
        self._stream = stream

    def write(self, text: str) -> int:
        """Write what can be written."""
        with contextlib.suppress(OSError, ValueError):  # a closed file is a ValueError
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush what can be flushed."""
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def lasting() -> Iterator[None]:
    """Make standard error one whose writes never fail."""
    before: Any = sys.stderr
    if before is None:  # closed when the process started
        with open(os.devnull, "w") as nowhere:
            sys.stderr = nowhere
            try:
                yield
            finally:
                sys.stderr = before
        return
    sys.stderr = Lasting(before)  # pyright: ignore
    try:
        yield
    finally:
        sys.stderr = before


def keep_places() -> None:
    """Open what is closed of standard input, output and error on nothing.

    A file that is opened later would get its number, and what libraries print would go into it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
