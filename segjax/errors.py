"""The one exception type that ends a run with exit code 2: one clear line, no traceback."""


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
