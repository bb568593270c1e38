"""The one exception type that ends a run with exit code 2: one clear line, no traceback."""

import contextlib
from collections.abc import Generator


class UserError(Exception):
    """Report something the user can mend: what, got, expected, do this.

    Takes exactly one message, so that it survives pickling between worker processes.
    """


class ConfigError(UserError):
    """A config key, value, type or flag that cannot be used."""


class DataError(UserError):
    """A file or example that cannot be used; the message names it."""


class NonFiniteError(UserError):
    """A logged quantity became NaN or infinite; the message names it and the step."""


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
