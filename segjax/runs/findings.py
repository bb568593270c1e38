"""What a look at a run found: a line each, which agrees, differs, or is only said."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple


class Finding(NamedTuple):
    """One thing that was looked at.

    Attributes:
        kind: Whether it is as recorded; 'note': it cannot be said, or does not matter.
        about: What it is.
        text: What was found.
    """

    kind: Literal["ok", "differs", "note"]
    about: str
    text: str

    def line(self) -> str:
        """Return it in one line."""
        return f"{self.kind}: {self.about}: {self.text}"


def ok(about: str, text: str) -> Finding:
    """Return that something is as recorded."""
    return Finding("ok", about, text)


def differs(about: str, text: str) -> Finding:
    """Return that something is not as recorded."""
    return Finding("differs", about, text)


def note(about: str, text: str) -> Finding:
    """Return what is only to be said."""
    return Finding("note", about, text)


def tally(found: Sequence[Finding]) -> str:
    """Return how much was looked at, in one line."""
    count = {kind: sum(each.kind == kind for each in found) for kind in ("ok", "differs", "note")}
    return f"{count['ok']} agree, {count['differs']} differ, {count['note']} notes"


def compare(about: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterable[Finding]:
    """Yield one finding for each key whose value is another, or one for all that agree."""
    changed = [key for key in sorted({*before, *now}) if before.get(key) != now.get(key)]
    for key in changed:
        then, here = (repr(each[key]) if key in each else "absent" for each in (before, now))
        yield differs(f"{about} {key}", f"{then} then, {here} now")
    if not changed:
        yield ok(about, f"all {len(before)} as recorded")
