"""The command line: find the mode, parse its flags and no others, turn errors into exit codes.

A mode is a file of this folder. Nothing here imports jax before the mode runs.
"""

import contextlib
import importlib
import os
import pkgutil
import sys
from collections.abc import Sequence
from typing import Any, NoReturn, Protocol

from absl import flags, logging

from segjax import commands
from segjax.config import lookup, spelling
from segjax.errors import ConfigError, UserError, printable
from segjax.runtime import console, distributed, files, interrupt, xla

BAD_INPUT = 2
HELP = {"--help", "-help", "-h", "--helpfull", "--helpshort"}
NO_MODE = ("cli", "options")
"""Files of this folder that are no modes."""


class Command(Protocol):
    """What the file of a mode has; its docstring says what it does.

    Attributes:
        NEEDS: Flags that must be given, each with an example; of 'a or b' one must be.
        SHARED: Whether the processes of one job can do it together; None: each does it by itself,
            as a worker of its own.
    """

    __doc__: str | None
    NEEDS: dict[str, str]
    SHARED: bool | None

    def define(self, values: flags.FlagValues) -> None:
        """Define the mode's flags in `values`."""
        ...

    def run(self, values: flags.FlagValues) -> int:
        """Do it with the parsed flags, and return the exit code."""
        ...


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line, and return the exit code.

    0 done; 2 bad input, in one line; 75 preempted after a saved checkpoint, run it again; 130 and
    others see `runtime.interrupt`; 1 anything else.
    """
    argv = list(sys.argv if argv is None else argv)
    console.keep_places()
    with console.lasting(), interrupt.ending():
        return run(argv)


def program() -> NoReturn:
    """Run the command line as a program of its own, and leave with the exit code.

    After bad input at once: a save that could not be finished has threads that still try, and would
    print tracebacks while Python is taken down around them.
    """
    code = main()
    if code == BAD_INPUT:
        sys.stdout.flush()
        os._exit(code)
    sys.exit(code)


def run(argv: list[str]) -> int:
    """Run the command line of the mode that it names, and return the exit code."""
    xla.set_xla_flags()
    logging.set_verbosity(logging.FATAL)  # what Orbax logs also reaches us as an exception
    try:
        mode = mode_of(argv[1:])
        if HELP & set(argv[1:]):
            print(help_of(mode))
            return 0
        values = parse(argv, mode)
        names = ("coordinator", "process_id", "num_processes")
        place: Any = {name: values[name].value for name in names if name in values}
        with contextlib.ExitStack() as stack:
            if load(mode).SHARED is not None:
                shared = bool(load(mode).SHARED)
                stack.enter_context(distributed.job(**place, shared=shared, what=mode))
            stack.enter_context(files.named_os_errors())
            return load(mode).run(values)
    except UserError as error:
        print(printable(f"error: {error}"), file=sys.stderr, flush=True)
        return BAD_INPUT


def modes() -> list[str]:
    """Return the names of all modes."""
    found = [module.name for module in pkgutil.iter_modules(commands.__path__)]
    return [name for name in found if name not in NO_MODE]


def load(mode: str) -> Command:
    """Return the file of a mode."""
    command: Any = importlib.import_module(f"segjax.commands.{mode}")
    return command


def mode_of(arguments: Sequence[str]) -> str:
    """Return what `--mode` says; 'train' without it.

    Raises:
        ConfigError: There is no such mode.
    """
    mode = "train"
    for argument, after in zip(arguments, [*arguments[1:], ""], strict=True):
        name, equals, value = argument.partition("=")
        if name in ("--mode", "-mode"):
            mode = value if equals else after
    return lookup.choose(mode, modes(), what="--mode")


def flags_of(mode: str) -> flags.FlagValues:
    """Return the flags of a mode, not parsed yet."""
    values = flags.FlagValues()
    flags.DEFINE_enum("mode", "train", modes(), "What to do.", flag_values=values)
    load(mode).define(values)
    return values


def parse(argv: list[str], mode: str) -> flags.FlagValues:
    """Return the parsed flags of a mode.

    Raises:
        ConfigError: A flag that is unknown, of another mode, missing or wrong; a wrong config key.
    """
    values = flags_of(mode)
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())  # config files import their neighbours
    try:
        rest = values(assignments(spelling.modernize(argv)))
    except flags.UnrecognizedFlagError as error:
        raise ConfigError(unknown(error, mode)) from None
    except flags.Error as error:
        raise ConfigError(" ".join(str(error).split())) from None
    if len(rest) > 1:
        raise ConfigError(f"unexpected argument {rest[1]!r}. Flags are written --name=value.")
    for name, example in load(mode).NEEDS.items():
        names = name.split(" or ")
        if not any(values[each].value for each in names):
            needed = " or ".join(f"--{each}" for each in names)
            raise ConfigError(f"--mode={mode} needs {needed}, e.g. {example}.")
    return values


def assignments(argv: Sequence[str]) -> list[str]:
    """Return a command line with `--config.<key>=<value>` as `--override=<key>=<value>`.

    The value may be a word of its own, and `--noconfig.<key>` says False.
    """
    words, rest = [], list(argv)
    while rest:
        word = rest.pop(0)
        name, equals, value = word.lstrip("-").partition("=")
        if word.startswith("-") and name.startswith("config."):
            if not equals:
                value = rest.pop(0) if rest and not rest[0].startswith("--") else "True"
            word = f"--override={name.removeprefix('config.')}={value}"
        elif word.startswith("-") and name.startswith("noconfig."):
            word = f"--override={name.removeprefix('noconfig.')}=False"
        words.append(word)
    return words


def unknown(error: flags.UnrecognizedFlagError, mode: str) -> str:
    """Return what to say of an unknown flag: whose it is, or what was meant."""
    others = [other for other in modes() if error.flagname in flags_of(other)]
    if others:
        whose = " and ".join(f"--mode={other}" for other in others)
        return f"--{error.flagname} is a flag of {whose}, not of --mode={mode}. Leave it out."
    return " ".join(str(error).split())


def help_of(mode: str) -> str:
    """Return what a mode does, its flags, and which other modes there are."""
    about = (load(mode).__doc__ or "").strip()
    own = flags_of(mode).get_help(include_special_flags=False).strip()
    first = {other: (load(other).__doc__ or "").partition("\n")[0] for other in modes()}
    others = [f"  --mode={other:9} {text}" for other, text in first.items()]
    return "\n".join([f"--mode={mode}: {about}", "", own, "", "All modes:", *others])
