"""What `meta.json` says of a data set: names of classes, void, colours."""

import pathlib
from typing import Any

from segjax.errors import DataError
from segjax.runtime import reading
from segjax.views import colour

MOST_IGNORED = 256


def read(path: pathlib.Path) -> dict[str, Any]:
    """Return what a `meta.json` says; keys without a value are left out.

    Raises:
        DataError: There is none, or it names no classes or ignored values.
    """
    try:
        meta = reading.read_json(path)
    except FileNotFoundError:
        raise DataError(
            f"{path}: no such file. Write it, "
            '{"class_names": ["background", "crack"]}, with "label_map": {"0": 0, "255": 1} if '
            "masks are black and white; or set class_names."
        ) from None
    names = meta.get("class_names") if isinstance(meta, dict) else None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise DataError(f"{path}: expected class_names, a list of strings, got {names!r}.")
    meta = {key: value for key, value in meta.items() if value is not None}
    ignore = meta.get("ignore_index", -1)
    values = ignore if isinstance(ignore, list) else [ignore]
    if not all(isinstance(value, int) for value in values) or len(values) > MOST_IGNORED:
        raise DataError(
            f"{path}: expected ignore_index, an integer or a list of at most {MOST_IGNORED}, got "
            f"{ignore!r}."
        )
    return meta


def palette(meta: dict[str, Any], num_classes: int, *, where: str) -> tuple[colour.Colour, ...]:
    """Return a colour for each class: those of `meta`, else PASCAL VOC's.

    Raises:
        DataError: Colours that are none, or another number of them.
    """
    if "palette" not in meta:
        return colour.voc_palette(num_classes)
    found = meta["palette"]
    try:
        colours = tuple((int(r), int(g), int(b)) for r, g, b in found)
    except (TypeError, ValueError, OverflowError):
        raise DataError(f"{where}: expected palette, a list of [red, green, blue].") from None
    if len(colours) - num_classes not in (0, 1) or not all(
        0 <= v < 256 for c in colours for v in c
    ):
        raise DataError(
            f"{where}: palette of {len(colours)} colours; expected {num_classes} (or one more, for "
            "void) with values 0..255."
        )
    return colours[:num_classes]
