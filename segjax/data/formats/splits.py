"""Which split each image is of: chosen among those that there are, or made."""

import dataclasses
import functools
import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence

from segjax.config import rules
from segjax.data.formats.base import Annotations, Picture
from segjax.errors import ConfigError, DataError

FOLDERS = "folders"
Pictures = Callable[[], Iterator[Picture]]
_NAME = re.compile(r"\w[\w.-]{0,99}")


def choose(annotations: Annotations, text: str) -> Annotations:
    """Return the pictures of the splits that `text` asks for, or in those that it makes.

    Args:
        annotations: All of them.
        text: Empty: as they are. Of a format with splits, the names of some, with commas between.
            Of one without, the name of the one that all are; names with shares (`train=0.8,
            val=0.2`), into which they are dealt by a hash of their names; or `folders`: the first
            folder of each name is its split.

    Raises:
        ConfigError: No such split, or shares that are none.
    """
    if not text:
        return annotations
    pictures = annotations.pictures
    names: dict[str, None] = {}
    has_splits = False
    for picture in pictures():
        names[picture.name] = None
        has_splits |= bool(picture.split)
    if "=" in text:
        if has_splits:
            raise ConfigError(
                f"--split={rules.cut(text)}: the data set has splits of its own. Name those to "
                "take, or leave it out."
            )
        dealt = deal(list(names), _shares(text))
        pick = functools.partial(_dealt, pictures, dealt)
    elif has_splits:
        wanted = [name.strip() for name in text.split(",")]
        there = sorted({picture.split for picture in pictures()})
        for name in wanted:
            if name not in there:
                raise ConfigError(f"--split={rules.cut(name)}: there are {', '.join(there)}.")
        pick = functools.partial(_of, pictures, frozenset(wanted))
    elif text == FOLDERS:
        pick = functools.partial(_by_folder, pictures)
    elif _NAME.fullmatch(text):
        pick = functools.partial(_dealt, pictures, dict.fromkeys(names, text))
    else:
        raise ConfigError(f"--split={rules.cut(text)}: expected a name, such as 'train'.")
    return dataclasses.replace(annotations, pictures=pick)


def _shares(text: str) -> dict[str, float]:
    found: dict[str, float] = {}
    for entry in text.split(","):
        name, _, share = (part.strip() for part in entry.partition("="))
        try:
            found[name] = float(share)
        except ValueError:
            found[name] = -1
        if not (_NAME.fullmatch(name) and 0 < found[name] < 1e6):
            raise ConfigError(
                f"--split={rules.cut(text)}: expected names with shares above 0, such as "
                "'train=0.8,val=0.2'."
            )
    return found


def deal(names: Sequence[str], shares: Mapping[str, float]) -> dict[str, str]:
    """Return the split of each name: as many as its share is, those of the smallest hashes first.

    The same names give the same splits on every machine; each split has one at least.

    Raises:
        ConfigError: Fewer names than splits.
    """
    if len(names) < len(shares):
        raise ConfigError(f"--split: {len(shares)} splits of {len(names)} images. Name fewer.")
    order = sorted(names, key=lambda name: hashlib.sha256(name.encode()).digest())
    found: dict[str, str] = {}
    total, rest = sum(shares.values()), len(names)
    begin = 0
    for number, (split, share) in enumerate(shares.items()):
        behind = len(shares) - number - 1
        count = min(max(1, round(len(names) * share / total)), rest - behind)
        count = rest if not behind else count
        found.update(dict.fromkeys(order[begin : begin + count], split))
        begin, rest = begin + count, rest - count
    return found


def _dealt(pictures: Pictures, dealt: Mapping[str, str]) -> Iterator[Picture]:
    for picture in pictures():
        yield dataclasses.replace(picture, split=dealt[picture.name])


def _of(pictures: Pictures, wanted: frozenset[str]) -> Iterator[Picture]:
    return (picture for picture in pictures() if picture.split in wanted)


def _by_folder(pictures: Pictures) -> Iterator[Picture]:
    for picture in pictures():
        split, slash, name = picture.name.partition("/")
        if not slash:
            raise DataError(
                f"{picture.name}: lies in no folder, but --split={FOLDERS} takes the first folder "
                "as the split. Leave it out, or move the image."
            )
        yield dataclasses.replace(picture, split=split, name=name)
