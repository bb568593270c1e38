"""Images and masks in folders: `<root>/<split>/{images,labels}` and `<root>/meta.json`.

`meta.json` holds `class_names`, and if wanted `ignore_index` (one value or a list) and `palette`
(a colour per class, and one more for void if wanted); other keys are ignored. Folders of another
layout are named with `images`, `labels` and `split_file`.
"""

import collections
import json
import os
import pathlib
from collections.abc import Sequence
from typing import Any

from segjax.data import core, decode
from segjax.errors import ConfigError, DataError
from segjax.structs import Example


class Source:
    """One split of a folder of images and masks; only names are read until an example is asked for.

    An image and its mask share their path below `images` and `labels` but for the suffixes and the
    file ending: JPEG, PNG, WebP, TIFF, BMP or GIF for images, PNG, TIFF, BMP or GIF for masks.

    Args:
        split: Its name: the folder below `root`, and what `{split}` stands for in the other paths.
        root: The data set's folder; `~` and `$VARIABLES` are replaced.
        images: Folder of the images, absolute or below `root`; empty: `{split}/images`.
        labels: Folder of the masks; empty: `{split}/labels`.
        split_file: File with one stem per line (a path below `images` without suffix and ending),
            which chooses and orders the examples; empty: every image.
        image_suffix: What follows the stem in the names of images (Cityscapes: `_leftImg8bit`).
        label_suffix: What follows the stem in the names of masks (`_gtFine_labelTrainIds`).
        class_names: Given, they stand in for `meta.json`, which is then not read.
        ignore_index: Value of unlabelled pixels, or several; -1: what `meta.json` says, or none.
        label_offset: Added to every label value that is not ignored: -1 when classes start at 1.
        channels: Channels of the images: 3 turns grey ones to RGB, 1 colour ones to grey, others
            must be in the files (4: an RGBA or 4-band file). 0: 1 or 3, as the first image is.
        exif: Turn images upright by their EXIF tag, which is how annotation tools show them. False:
            as stored.

    Raises:
        ConfigError: `images` holds every split, and nothing says which are this one's.
        DataError: Missing or empty folder, bad `meta.json`, an image without its mask; when an
            example is read: unreadable file, mask of another size, label value out of range.
    """

    def __init__(
        self,
        *,
        split: str,
        root: str,
        images: str = "",
        labels: str = "",
        split_file: str = "",
        image_suffix: str = "",
        label_suffix: str = "",
        class_names: Sequence[str] = (),
        ignore_index: int | Sequence[int] = -1,
        label_offset: int = 0,
        channels: int = 0,
        exif: bool = True,
    ):
        self.root = core.expand_path(root, where="root")
        if not self.root.is_dir():
            raise DataError(f"root={str(self.root)!r}: no such folder. Set root to the data set.")
        meta: dict[str, Any] = (
            {"class_names": class_names} if class_names else _read_meta(self.root / "meta.json")
        )
        where = "class_names" if class_names else str(self.root / "meta.json")
        self.class_names = core.check_classes(meta["class_names"], where=where)
        self.palette = _palette(meta, len(self.class_names), where=where)
        self.ignore = core.ignore_values(ignore_index) or core.ignore_values(
            meta.get("ignore_index", -1)
        )
        self.label_offset, self.exif = label_offset, exif
        if images and not split_file and "{split}" not in images:
            raise ConfigError(
                f"images={images!r} holds the images of every split. Write {{split}} in it, or "
                "name a split_file (with {split} in its name) that lists this split's images."
            )
        self.files = self._pair(
            self._list(images, "images", split, suffix=image_suffix),
            self._list(labels, "labels", split, suffix=label_suffix),
            stems=self._stems(split_file, split) if split_file else None,
            whole=not split_file and (not labels or "{split}" in labels),
        )
        first = self.files[0][0]
        self._guessed = not channels
        self._channels = channels or decode.native_channels(first, name=str(first))
        self.schema = core.semantic_schema(self._channels)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Example:
        image_file, label_file = self.files[index]
        self._check_colour(image_file)
        image, label = decode.read_pair(
            image_file,
            label_file,
            image_name=str(image_file),
            label_name=str(label_file),
            channels=self._channels,
            exif=self.exif,
        )
        label = core.check_label(
            label,
            num_classes=len(self.class_names),
            ignore=self.ignore,
            offset=self.label_offset,
            name=str(label_file),
        )
        return Example(image=image, label=label, name=os.path.relpath(image_file, self.root))

    def _check_colour(self, file: pathlib.Path) -> None:
        """Refuse to drop colour only because the first image happened to be grey."""
        if self._guessed and self._channels == 1:
            if decode.native_channels(file, name=str(file)) != 1:
                raise DataError(
                    f"{file}: a colour image, but the first image ({self.files[0][0]}) is grey. "
                    "Set channels=3 (grey becomes RGB) or channels=1 (colour becomes grey)."
                )

    def _list(self, folder: str, kind: str, split: str, *, suffix: str) -> dict[str, pathlib.Path]:
        """Map the stems in a folder of images or labels to their files."""
        if not folder:
            self._check_split(split)
        path = self.root / (folder or f"{{split}}/{kind}").replace("{split}", split)
        if not path.is_dir():
            raise DataError(f"{path}: no such folder of {kind}. Create it, or set {kind}.")
        endings = decode.IMAGE_ENDINGS if kind == "images" else decode.LABEL_ENDINGS
        found = list_files(path, endings=endings, suffix=suffix)
        if not found:
            raise DataError(
                f"{path}: no {kind} in it. Expected files that end in {suffix}{'|'.join(endings)}."
            )
        return found

    def _check_split(self, split: str) -> None:
        if not (self.root / split).is_dir():
            splits = sorted(p.parent.name for p in self.root.glob("*/images"))
            raise DataError(
                f"{self.root / split}: no such split. "
                f"{self.root} has: {', '.join(splits) or 'none (<split>/images, <split>/labels)'}."
            )

    def _stems(self, split_file: str, split: str) -> list[str]:
        path = self.root / split_file.replace("{split}", split)
        try:
            lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"split_file={str(path)!r} cannot be read: {error}.") from None
        stems = [_without_ending(line, decode.IMAGE_ENDINGS) for line in lines if line]
        if not stems:
            raise DataError(f"{path}: the split file names no example. One stem per line.")
        twice = [stem for stem, count in collections.Counter(stems).items() if count > 1]
        if twice:
            raise DataError(f"{path}: listed twice: {core.some(twice)}. Each example counts once.")
        return stems

    def _pair(
        self,
        images: dict[str, pathlib.Path],
        labels: dict[str, pathlib.Path],
        *,
        stems: list[str] | None,
        whole: bool,
    ) -> list[tuple[pathlib.Path, pathlib.Path]]:
        """Return (image, mask) of every stem; `whole`: the masks are of this split alone."""
        chosen = sorted(images) if stems is None else stems
        absent = [stem for stem in chosen if stem not in images]
        if absent:
            raise DataError(
                f"{self.root}: {len(absent)} of {len(chosen)} examples in the split file have no "
                f"image: {core.some(absent)}. Add the images or remove the lines."
            )
        bare = [stem for stem in chosen if stem not in labels]
        if bare:
            kinds = ", ".join(decode.LABEL_ENDINGS)
            raise DataError(
                f"{self.root}: {len(bare)} of {len(chosen)} images have no mask: "
                f"{core.some([str(images[stem]) for stem in bare])}. Add masks ({kinds}; JPEG and "
                "WebP would change class numbers) or remove the images."
            )
        orphans = [str(labels[stem]) for stem in sorted(labels) if stem not in images]
        if whole and orphans:
            raise DataError(
                f"{self.root}: {len(orphans)} masks have no image: {core.some(orphans)}. "
                "Add the images, remove the masks, or choose the examples with a split_file."
            )
        return [(images[stem], labels[stem]) for stem in chosen]


def list_files(
    folder: pathlib.Path, *, endings: tuple[str, ...], suffix: str = ""
) -> dict[str, pathlib.Path]:
    """Map stems (paths below `folder` without suffix and ending) to files, hidden ones excepted.

    Raises:
        DataError: Two files of one stem, such as `a.jpg` and `a.png`.
    """
    found: dict[str, pathlib.Path] = {}
    for parent, _, names in os.walk(folder):
        for name in names:
            stem = _without_ending(name, tuple(suffix + ending for ending in endings))
            if stem == name or name.startswith("."):
                continue
            path = pathlib.Path(parent, name)
            key = (path.parent.relative_to(folder) / stem).as_posix()
            if key in found:
                raise DataError(f"{path} and {found[key]} are two files of one name. Keep one.")
            found[key] = path
    return found


def _without_ending(name: str, endings: tuple[str, ...]) -> str:
    lower = name.lower()
    for ending in endings:
        if lower.endswith(ending.lower()):
            return name[: -len(ending)]
    return name


def _read_meta(path: pathlib.Path) -> dict[str, Any]:
    try:
        meta = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(
            f"{path}: no such file. Write it, "
            '{"class_names": ["road", "sky"], "ignore_index": 255}, or set class_names.'
        ) from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not valid JSON: {error}.") from None
    names = meta.get("class_names") if isinstance(meta, dict) else None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise DataError(f"{path}: expected class_names, a list of strings, got {names!r}.")
    meta = {key: value for key, value in meta.items() if value is not None}
    ignore = meta.get("ignore_index", -1)
    values = ignore if isinstance(ignore, list) else [ignore]
    if not all(isinstance(value, int) for value in values):
        raise DataError(f"{path}: expected ignore_index, an integer or a list, got {ignore!r}.")
    return meta


def _palette(meta: dict[str, Any], num_classes: int, *, where: str) -> core.Palette:
    if "palette" not in meta:
        return core.voc_palette(num_classes)
    palette = meta["palette"]
    try:
        colours = tuple((int(r), int(g), int(b)) for r, g, b in palette)
    except (TypeError, ValueError):
        raise DataError(f"{where}: expected palette, a list of [red, green, blue].") from None
    if len(colours) - num_classes not in (0, 1) or not all(
        0 <= v < 256 for c in colours for v in c
    ):
        raise DataError(
            f"{where}: palette of {len(colours)} colours; expected {num_classes} (or one more, for "
            "void) with values 0..255."
        )
    return colours[:num_classes]
