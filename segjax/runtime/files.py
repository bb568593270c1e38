"""Write files that are whole or not there, and say in one line why one cannot be written."""

import contextlib
import csv
import errno
import fcntl
import glob
import json
import os
import pathlib
import re
import shutil
import socket
import threading
from collections.abc import Iterable, Iterator
from typing import Any

from segjax.errors import LockedError, UserError

NUMBERS = re.compile(r"\[\n([^\[\]{}\"]+)\]")
"""A list in indented JSON without lists, sections or strings; no string holds a line end."""


def write_csv(path: pathlib.Path, rows: Iterable[Iterable[Any]]) -> None:
    """Write a table atomically, UTF-8; names of files that are none keep their bytes.

    Raises:
        UserError: The disk is full or cannot be written.
    """
    with (
        replacing(path) as temporary,
        temporary.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file,
    ):
        csv.writer(file, lineterminator="\n").writerows(rows)


def write_json(path: pathlib.Path, content: Any, *, indent: int | None = 1) -> None:
    """Write JSON so that a reader sees either the old file or the whole new one.

    `indent` None writes it in one line. Otherwise each list of numbers is one: a matrix has a line
    a row.
    """
    text = json.dumps(content, indent=indent)
    text = NUMBERS.sub(lambda found: f"[{' '.join(found[1].split())}]", text)
    with replacing(path) as temporary:
        temporary.write_text(text + "\n")


def write_durably(path: pathlib.Path, content: bytes) -> None:
    """Write a file atomically; when this returns it outlasts a power failure.

    Raises:
        UserError: The disk is full or cannot be written.
    """
    with replacing(path) as temporary, open(temporary, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    with explain_os_errors(path):
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)  # else the name itself may be lost
        finally:
            os.close(folder)


_unfinished: set[pathlib.Path] = set()
_making = threading.Lock()
"""Held while folders are made."""


def make_folder(path: pathlib.Path) -> None:
    """Make a folder, and those that it lies in, unless they are there.

    It waits within `making_none`.
    """
    with _making:
        path.mkdir(parents=True, exist_ok=True)


@contextlib.contextmanager
def making_none() -> Iterator[None]:
    """Let no other thread make folders: the process is about to end, and removes its own."""
    with _making:
        yield


def remove_unfinished() -> None:
    """Remove what `replacing` has not finished, for a process that is about to end.

    Another thread may still write into a folder: under another name it no longer finds it.
    """
    for path in list(_unfinished):
        gone = path.with_name(path.name.removesuffix(".tmp") + ".gone.tmp")
        with contextlib.suppress(OSError):
            os.replace(path, gone)
            _remove(gone)


def expanded(path: str | os.PathLike[str]) -> pathlib.Path:
    """Return a path with `~` and `~user` replaced.

    Raises:
        UserError: There is no such user.
    """
    try:
        return pathlib.Path(path).expanduser()
    except RuntimeError:
        raise UserError(f"{path}: no such user's folder. Write the folder itself.") from None


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[pathlib.Path]:
    """Yield a temporary name beside `path` that replaces it on success and is removed on failure.

    The folder is made if it is not there.

    Raises:
        UserError: The disk is full or cannot be written.
    """
    target = pathlib.Path(path)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    _unfinished.add(temporary)
    try:
        with explain_os_errors(target):
            make_folder(target.parent)
            yield temporary
            os.replace(temporary, target)
    finally:
        with contextlib.suppress(OSError):
            _remove(temporary)
        _unfinished.discard(temporary)


@contextlib.contextmanager
def replacing_folder(path: str | os.PathLike[str]) -> Iterator[pathlib.Path]:
    """Yield a new folder beside `path` that takes its place on success; see `replacing`.

    What the folder held before is removed with it.

    Raises:
        UserError: The disk is full or cannot be written.
    """
    target = pathlib.Path(path)
    old = target.with_name(f".{target.name}.{os.getpid()}.old.tmp")
    _unfinished.add(old)
    try:
        with replacing(target) as temporary:
            temporary.mkdir()
            yield temporary
            if target.is_dir():
                os.replace(target, old)
    finally:
        with contextlib.suppress(OSError):
            if old.is_dir() and not target.exists():
                os.replace(old, target)  # the new one could not take its place
        with contextlib.suppress(OSError):
            _remove(old)
        _unfinished.discard(old)


def remove_leftovers(path: pathlib.Path) -> None:
    """Remove what a process that is no more has left of writing `path`; see `replacing`."""
    for leftover in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        _remove_leftover(leftover, leftover.name.removeprefix(f".{path.name}."))


def remove_leftovers_in(folder: pathlib.Path) -> None:
    """Remove what processes that are no more have left of writing any file of a folder."""
    for leftover in folder.glob(".*.tmp"):
        ends = re.search(r"\.(\d+(\.old|\.gone)?\.tmp)$", leftover.name)
        if ends:
            _remove_leftover(leftover, ends[1])


def _remove_leftover(leftover: pathlib.Path, ending: str) -> None:
    """Remove what `replacing` calls `.<name>.<ending>`, unless the process in it still runs."""
    number = ending.removesuffix(".tmp").removesuffix(".old").removesuffix(".gone")
    if number.isdecimal() and not _is_running(int(number)):
        with contextlib.suppress(OSError):
            _remove(leftover)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # it is another user's
        pass
    return True


def _remove(path: pathlib.Path) -> None:
    """Remove a file, or a folder with all that is in it."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


@contextlib.contextmanager
def locked(path: pathlib.Path, *, what: str, wait: bool = False) -> Iterator[None]:
    """Hold the lock that the file `path` stands for; its folder is made if it is not there.

    The kernel releases it when the process ends, also after SIGKILL. The file stays.

    Args:
        path: The file.
        what: What it locks, in messages.
        wait: Until another process has released it.

    Raises:
        LockedError: Another process holds it; `what` says what of.
    """
    with explain_os_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = open(path, "a+", encoding="utf-8")  # noqa: SIM115  # closed below
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            file.seek(0)
            raise LockedError(
                f"{what}: {file.read().strip() or 'another process'} is writing there. Wait for "
                "its end, or name another folder."
            ) from None
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        yield


def is_full(error: OSError) -> bool:
    """Say whether a write failed for want of room: on the disk, or in the user's share of it."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


@contextlib.contextmanager
def named_os_errors() -> Iterator[None]:
    """Turn an error of some file, wherever it was read or written, into one clear line (UserError).

    The system's errors that are of no file pass.
    """
    try:
        yield
    except OSError as error:
        if error.filename is None:
            raise
        reason = error.strerror or type(error).__name__
        advice = "Check that it is there and may be read and written, or name another one."
        name = str(error.filename)
        name = name if len(name) <= 300 else f"{name[:200]} … {name[-80:]}"
        raise UserError(f"{name}: {reason}. {advice}") from error


@contextlib.contextmanager
def explain_os_errors(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn a failure to write `path` into one clear line (UserError)."""
    try:
        yield
    except OSError as error:
        full = is_full(error)
        advice = (
            "Free some space, then run the same command again."
            if full
            else "Check that the folder is there and may be written, or name another one."
        )
        raise UserError(f"Cannot write {path}: {error.strerror or error}. {advice}") from error
