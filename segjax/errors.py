"""The one exception type that ends a run with exit code 2: one clear line, no traceback."""

import contextlib
import pathlib
import unicodedata
from collections.abc import Generator, Mapping
from typing import Self

LONGEST = 4000
"""Characters of a line that is shown; of what is longer both ends are."""
_JOINERS = "\u200c\u200d"  # within words of Persian and Hindi, and in emoji


def printable(text: object) -> str:
    """Return a text as one line that shows what is in it and does nothing to a terminal.

    Names of files and texts from files may hold anything. Line ends, escape sequences, marks that
    turn the reading direction and undecodable bytes are shown as Python would write them; letters
    and signs of every script stay. All that leaves for a terminal or a log goes through it.
    """
    line = str(text)
    if len(line) > LONGEST:
        left_out = len(line) - LONGEST
        half = LONGEST // 2
        line = f"{line[:half]} … ({left_out} characters) … {line[-half:]}"
    if line.isascii() and line.isprintable():
        return line
    return "".join(each if _is_harmless(each) else _escaped(each) for each in line)


def _is_harmless(each: str) -> bool:
    return each.isprintable() or each in _JOINERS or unicodedata.category(each) == "Zs"


def _escaped(each: str) -> str:
    return each.encode("unicode_escape", "surrogatepass").decode("ascii")


class UserError(Exception):
    """Report something the user can mend: what, got, expected, do this.

    Takes exactly one message, so that it survives pickling between worker processes.
    """


class ConfigError(UserError):
    """A config key, value, type or flag that cannot be used."""


class DataError(UserError):
    """A file or example that cannot be used; the message names it."""


class LockedError(UserError):
    """A folder that another process is writing into."""


class NonFiniteError(UserError):
    """A logged quantity became NaN or infinite; the message names it and the step.

    Attributes:
        step: The number of updates done when it was measured; 0: not known.
        quantities: What was not finite, or too large, by name.
        folder: Of the run; None: not known.
    """

    step: int = 0
    quantities: Mapping[str, float] = {}
    folder: pathlib.Path | None = None

    def at(
        self, step: int, quantities: Mapping[str, float], folder: pathlib.Path | None = None
    ) -> Self:
        """Return the error, which then knows what became wrong, when and in which run."""
        self.step, self.quantities, self.folder = step, dict(quantities), folder
        return self


@contextlib.contextmanager
def extra(name: str, *, what: str) -> Generator[None]:
    """Import inside it what only the extra `name` of the package installs.

    Args:
        name: A key of `[project.optional-dependencies]`.
        what: What the user asked for, which needs it.

    Raises:
        ConfigError: A module is missing; the message says how to install it.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"{what} needs the module {error.name}, which is not installed. Install it: "
            f"pip install 'segjax[{name}]'"
        ) from None
