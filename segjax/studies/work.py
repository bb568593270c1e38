"""Work that several processes share: each item is done once, by the one that claims it first.

Nobody hands work out. Every process goes through the same items, so one more may join at any time:
by hand, as an element of a SLURM array, as an index of a Kubernetes job. A claim is a lock on a
file in the item's folder; the kernel releases it when its process ends, however it ends, and the
item is then anybody's again.
"""

import contextlib
import pathlib
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from segjax.errors import DataError, LockedError, UserError
from segjax.runtime import files, reading
from segjax.views import progress

CLAIM = ".claim"
FAILURE = "failure.json"
WAIT = 0.5
"""Seconds between two looks at what others have claimed."""


class Item(NamedTuple):
    """Something to do once.

    Attributes:
        name: What messages call it.
        folder: Its own; it holds the claim, and what a failure left.
        finished: Whether it is done, by whomever.
        do: Does it, so that `finished` holds, and returns the exit code: 0, or that of a run which
            a signal ended. It goes on where another process was killed.
    """

    name: str
    folder: pathlib.Path
    finished: Callable[[], bool]
    do: Callable[[], int]


class Tally(NamedTuple):
    """What became of the items.

    Attributes:
        found: How many there were.
        already: Of these finished before.
        done: By this process.
        elsewhere: By others, while this one worked.
        failed: From the name to the reason.
        code: 0, or the exit code of the item that a signal ended; what follows it was not looked
            at.
    """

    found: int
    already: int = 0
    done: int = 0
    elsewhere: int = 0
    failed: dict[str, str] = {}
    code: int = 0

    def line(self) -> str:
        """Return the tally in one line."""
        parts = [f"{self.found} found", f"{self.already} finished before", f"{self.done} done now"]
        parts += [f"{self.elsewhere} done by others"] if self.elsewhere else []
        parts += [f"{len(self.failed)} failed"] if self.failed else []
        left = self.found - self.already - self.done - self.elsewhere - len(self.failed)
        return ", ".join(parts + ([f"{left} left"] if left else []))


def share(items: Sequence[Item], *, say: Callable[[str], None] = print) -> Tally:
    """Do all items that nobody has done, beside others who may do the same.

    An item that fails is reported and does not stop the rest; a process that began after it tries
    it again. Returns when every item is finished or has failed, also those that others do.

    Args:
        items: In the order in which they are tried.
        say: Takes a line for whoever watches.

    Raises:
        UserError: A folder cannot be written.
    """
    begun = time.time()
    tally = Tally(len(items), already=sum(item.finished() for item in items), failed={})
    left = [item for item in items if not item.finished()]
    while left:
        waiting = []
        for item in left:
            with claimed(item.folder) as mine:
                if item.finished():
                    tally = tally._replace(elsewhere=tally.elsewhere + 1)
                elif reason := _failed_since(item.folder, begun):
                    tally.failed[item.name] = reason
                elif not mine:
                    waiting.append(item)
                else:
                    say(f"{item.name} ({_place(item, items, tally, begun)})")
                    tally = _try(item, tally, say)
                    if tally.code:
                        return tally
        if waiting and len(waiting) == len(left):
            time.sleep(WAIT)
        left = waiting
    return tally


def _place(item: Item, items: Sequence[Item], tally: Tally, begun: float) -> str:
    """Return which of all an item is, and how long they will take by those that are done."""
    place = f"{items.index(item) + 1} of {len(items)}"
    if not (done := tally.done + tally.elsewhere):
        return place
    left = sum(not each.finished() for each in items)
    return f"{place}, {progress.duration(left * (time.time() - begun) / done)} left"


@contextlib.contextmanager
def claimed(folder: pathlib.Path) -> Iterator[bool]:
    """Say whether the item of a folder could be claimed; if so, it is for as long as this lasts."""
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(files.locked(folder / CLAIM, what=str(folder)))
        except LockedError:
            yield False
        else:
            yield True


def _try(item: Item, tally: Tally, say: Callable[[str], None]) -> Tally:
    """Do a claimed item, and return the tally with it."""
    try:
        code = item.do()
    except Exception as error:
        reason = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        say(f"{item.name}: failed: {reason}")
        text = "" if isinstance(error, UserError) else traceback.format_exc()
        content = {"reason": reason, "time": time.time(), "traceback": text}
        files.write_json(item.folder / FAILURE, content)
        return tally._replace(failed=tally.failed | {item.name: reason})
    (item.folder / FAILURE).unlink(missing_ok=True)
    return tally._replace(code=code) if code else tally._replace(done=tally.done + 1)


def _failed_since(folder: pathlib.Path, begun: float) -> str:
    """Return why an item failed after `begun`; empty: it did not."""
    try:
        found = reading.read_json(folder / FAILURE)
    except (OSError, DataError):
        return ""
    if not isinstance(found, dict) or not found.get("time", 0) >= begun:
        return ""
    return str(found.get("reason", "no reason"))
