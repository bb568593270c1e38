"""Command lines from before the zoo had a file of its own. Never imports jax."""

import pathlib
import re
import sys
from collections.abc import Sequence

from segjax.errors import printable

_OLD = re.compile(r"(--?config=)?((?:.*/)?configs/)(\w+)_camvid\.py(?::(.*))?")


def modern(argument: str) -> str:
    """Return a command-line argument as it is written today.

    There was a config file for each model: `--config=configs/unet_camvid.py:cpu` is now
    `--config=configs/camvid.py:model=unet,size=cpu`. A file that exists, and all else, stays.
    """
    old = _OLD.fullmatch(argument)
    if not old or pathlib.Path(f"{old[2]}{old[3]}_camvid.py").exists():
        return argument
    given = [item for item in (old[4] or "").split(",") if item]
    dilated = "_dilated" if "dilated" in given else ""  # of FCN, now a model of its own
    sized = [f"size={item}" if item in ("cpu", "debug") else item for item in given]
    items = [f"model={old[3]}{dilated}", *(item for item in sized if item != "dilated")]
    return f"{old[1] or ''}{old[2]}camvid.py:{','.join(items)}"


def modernize(argv: Sequence[str]) -> list[str]:
    """Return a command line as it is written today, and say on stderr what has changed."""
    words = [modern(word) for word in argv]
    for old, new in zip(argv, words, strict=True):
        if old != new:
            print(printable(f"{old} is now written {new}"), file=sys.stderr)
    return words
