"""Images and masks in folders: `<root>/<split>/{images,labels}` and `<root>/meta.json`.

`meta.json` holds `class_names`, and if wanted `ignore_index` (one value or a list), `label_map` and
`palette` (a colour per class, and one more for void if wanted); other keys are ignored. Folders of
another layout are named with `images`, `labels` and `split_file`.
"""

import collections
import pathlib
from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, Any

from segjax.config import kinds, lookup, rules
from segjax.data import base, core, decode, listing, opening, overlaps
from segjax.data import meta as meta_lib
from segjax.errors import ConfigError, DataError
from segjax.runtime import reading

CLASS = "{class}"
"""Stands for the name of each class, see `labels`."""


class Source(base.Files):
    """One split of a folder of images and masks; only names are read until an example is asked for.

    An image and its mask share their path below `images` and `labels` but for the suffixes and the
    file ending: JPEG, PNG, WebP, TIFF, BMP, GIF, NIfTI (.nii, .nii.gz), DICOM (.dcm, .ima), NumPy
    (.npy, .npz), Zarr or WAV for images; all but the lossy ones and WAV for masks. With `dims=1`
    also texts (.txt) for images, and spans (.csv, .txt, .ann; see `spans`) for masks. A folder of
    several DICOM files is one image, called as the folder is, where images have three axes.
    Hidden files and folders are not looked at. Where `images` and `labels` are one folder, a file
    that ends with the longer suffix is of that kind; without suffixes JPEG and WebP are the images.
    An example of files that say how far pixels are apart has `spacing`, float32 [dims].

    Args:
        split: Its name: the folder below `root`, and what `{split}` stands for in the other paths.
        root: The data set's folder; `~` and `$VARIABLES` are replaced.
        images: Folder of the images, absolute or below `root`; empty: `{split}/images`.
        labels: Folder of the masks; empty: `{split}/labels`. Where classes overlap each may have
            masks of its own: `{class}` in here or in `label_suffix` stands for its name, and a mask
            holds 0 where a pixel is not of the class, 1 where it is (or what `label_map` says).
        split_file: File with one stem per line (a path below `images` without suffix and ending),
            which chooses and orders the examples; empty: every image; '*': every image, although
            `images` is one folder for all splits.
        split_column: Which word of a line is the stem, from 1; 0: the whole line. Some publishers
            write a class or a path behind it.
        image_suffix: What follows the stem in the names of images (Cityscapes: `_leftImg8bit`); it
            may hold the ending (`_img.tif`, `.png`), and no other counts then.
        label_suffix: What follows the stem in the names of masks (`_gtFine_labelTrainIds`).
        labels_of: Folder and suffix of the masks of some splits, instead of `labels` and
            `label_suffix`: `{"train_extra": ("gtCoarse/train_extra", "_gtCoarse_labelIds")}`.
        label_bands: Every mask has a band for each class, in the order of `class_names`, of 0 and 1
            (or what `label_map` says); classes may overlap.
        missing_masks: With `{class}`, what an image means that lacks the mask of some class:
            'error', or 'empty': no pixel of it is of that class.
        class_names: Given, they stand in for `meta.json`, which is then not read.
        palette: A colour (red, green, blue) for each class; empty: what `meta.json` says, or PASCAL
            VOC's.
        ignore_index: Value of unlabelled pixels, or several; -1: what `meta.json` says, or none.
        label_offset: Added to every label value that is not ignored: -1 when classes start at 1.
        label_map: The class of every stored value that is not ignored, instead of the value itself:
            `{0: 0, 255: 1}`, or `{"0": 0, "1-65535": 1}` where each object has a number; see
            `label_map.LabelMap`. None: what `meta.json` says, or none.
        channels: Channels of the images: 3 turns grey ones to RGB, 1 colour ones to grey, others
            must be in the files (4: an RGBA or 4-band file). 0: those of the first image, opacity
            left out.
        exif: Turn images and masks upright by the tag that each has, which is how annotation tools
            show them. False: as stored.
        dtype: Type of the images: 'uint8'; 'uint16', 'int16' and 'float32' keep the values of files
            of more bits, see `decode.read_image`. Empty: the smallest that keeps the first image's.
        dims: Axes of the images in space: 1 of signals, 2 of pictures, 3 of volumes. 0: what the
            first image's format says; of a TIFF 2, of DICOM 3 where a folder holds several files.
        missing: What values that are not finite, or that a TIFF calls no data, are: 'error', or
            'void': their pixels are 0 and count nowhere.
        band_names: Of all bands of a file, in their order; empty: they have no names.
        bands: Which of them are the image's channels, in this order, by name or number; empty: all.
        image_array: Name of the images' array in files that hold several (.npz, .zarr).
        label_array: Of the masks'. With both, and one folder for both, a file holds image and mask.
        expected: How many examples splits have, `{"train": 1464}`; another number is an error, 0 or
            a split that is not named takes any.

    Raises:
        ConfigError: `images` holds every split, and nothing says which are this one's; a bad
            `label_map` or `dtype`; arguments for masks of one class and of several at once.
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
        split_column: kinds.Count = 0,
        image_suffix: str = "",
        label_suffix: str = "",
        labels_of: Mapping[str, Sequence[str]] | None = None,
        label_bands: bool = False,
        missing_masks: Annotated[str, rules.one_of("error", "empty")] = "error",
        class_names: core.ClassNames = (),
        palette: base.Colours = (),
        ignore_index: core.IgnoreIndex = -1,
        label_offset: kinds.AnyWhole = 0,
        label_map: core.LabelClasses | None = None,
        channels: core.Channels = 0,
        exif: bool = True,
        dtype: kinds.PixelTypeOrAny = "",
        dims: Annotated[int, rules.whole(0, 3)] = 0,
        missing: Annotated[str, rules.one_of("error", "void")] = "error",
        band_names: core.ClassNames = (),
        bands: Annotated[Sequence[str | kinds.Count], rules.length(0, 1024)] = (),
        image_array: str = "",
        label_array: str = "",
        expected: base.Expected | None = None,
    ):
        self.root = base.folder_of(root)
        labels, label_suffix = _of_split(labels_of or {}, split, labels, label_suffix)
        meta: dict[str, Any] = (
            {"class_names": class_names} if class_names else meta_lib.read(self.root / "meta.json")
        )
        meta = {"ignore_index": -1, **meta} | ({"palette": palette} if palette else {})
        where = "class_names" if class_names else str(self.root / "meta.json")
        self.class_names = core.check_classes(meta["class_names"], where=where)
        self.per_class = CLASS in labels + label_suffix
        multilabel = label_bands or self.per_class
        _check_layout(
            self.per_class, label_bands, missing_masks == "empty", self.class_names, where=where
        )
        ignored = core.ignore_values(ignore_index) or core.ignore_values(meta["ignore_index"])
        answers = 2 if multilabel else len(self.class_names)  # is not, is
        mapping = core.make_label_map(
            label_map or meta.get("label_map"),
            num_classes=answers,
            label_offset=label_offset,
            where="config.input.source" if label_map else where,
        )
        if images and not split_file and "{split}" not in images:
            raise ConfigError(
                f"images={images!r} holds the images of every split. Write {{split}} in it, or "
                "name a split_file (with {split} in its name) that lists this split's images."
            )
        self.dims = dims
        self.both = bool(image_array and label_array and images == labels)
        found = self._find(
            images, labels, split,
            suffixes=(image_suffix, label_suffix), may_lack=missing_masks == "empty",
        )  # fmt: skip
        files = self._pair(
            *found,
            stems=self._stems(split_file, split, suffix=image_suffix, column=split_column),
            whole=not split_file and (not labels or "{split}" in labels),
            may_lack=missing_masks == "empty",
        )
        base.check_count(len(files), expected, split, where=str(self.root))
        super().__init__(
            files, root=self.root, class_names=self.class_names,
            palette=meta_lib.palette(meta, len(self.class_names), where=where),
            numbers=base.Numbers(answers, ignored, label_offset, mapping),
            reading=decode.Reading(
                exif=exif, dims=dims, missing=missing, bands=_choose_bands(bands, band_names),
                image_array=image_array, label_array=label_array,
            ),
            channels=channels,
            dtype=dtype, bands=len(self.class_names) if label_bands else 1, multilabel=multilabel,
        )  # fmt: skip

    def _find(
        self, images: str, labels: str, split: str, *, suffixes: tuple[str, str], may_lack: bool
    ) -> tuple[dict[str, pathlib.Path], list[dict[str, pathlib.Path]]]:
        """Map the stems of images to their files, and those of masks: once, or for each class."""
        names = self.class_names if self.per_class else [CLASS]
        wanted = [("images", self._folder(images, "images", split), suffixes[0])]
        wanted += [
            (
                "labels",
                self._folder(labels.replace(CLASS, name), "labels", split),
                suffixes[1].replace(CLASS, name),
            )
            for name in names
        ]
        if self.both:
            files = self._list(wanted[0][1], "images", suffix=suffixes[0], without=())
            return files, [files]
        # Of one folder, the longer suffix takes its files first, and masks before images.
        one_folder = wanted[0][1].resolve() in {folder.resolve() for _, folder, _ in wanted[1:]}
        order = sorted(range(1, len(wanted)), key=lambda i: -len(wanted[i][2]))
        order.insert(0, 0)
        if one_folder:
            order.sort(key=lambda i: (-len(wanted[i][2]), i == 0))
        found: dict[int, dict[str, pathlib.Path]] = {}
        for i in order:
            kind, folder, suffix = wanted[i]
            taken = {
                path
                for other, files in found.items()
                if wanted[other][1].resolve() == folder.resolve()
                for path in files.values()
            }
            lacks = may_lack and kind == "labels"
            found[i] = self._list(folder, kind, suffix=suffix, without=taken, may_lack=lacks)
        masks = [found[i] for i in range(1, len(wanted))]
        if not any(masks):
            kind, folder, suffix = wanted[1]
            self._list(folder, kind, suffix=suffix, without=())
        return found[0], masks

    def _list(
        self,
        folder: pathlib.Path,
        kind: str,
        *,
        suffix: str,
        without: Collection[pathlib.Path],
        may_lack: bool = False,
    ) -> dict[str, pathlib.Path]:
        """Map the stems in a folder of images or labels to their files; `may_lack`: maybe none."""
        ends = opening.endings(kind, self.dims)
        found = _list(folder, kind, ends, suffix=suffix, without=without, may_lack=may_lack)
        return listing.as_series(found, folder, opening.SERIES) if self.dims in (0, 3) else found

    def _folder(self, folder: str, kind: str, split: str) -> pathlib.Path:
        if not folder:
            self._check_split(split)
        path = self.root / (folder or f"{{split}}/{kind}").replace("{split}", split)
        if not path.is_dir():
            raise DataError(f"{path}: no such folder of {kind}. Create it, or set {kind}.")
        return path

    def _check_split(self, split: str) -> None:
        if not (self.root / split).is_dir():
            splits = sorted(
                p.parent.name
                for p in self.root.glob("*/images")
                if not listing.is_hidden(p.parent.name)
            )
            raise DataError(
                f"{self.root / split}: no such split. "
                f"{self.root} has: {', '.join(splits) or 'none (<split>/images, <split>/labels)'}."
            )

    def _stems(self, split_file: str, split: str, *, suffix: str, column: int) -> list[str] | None:
        """Return the stems that a split file lists; None: every image."""
        if split_file in ("", "*"):
            return None
        path = self.root / split_file.replace("{split}", split)
        try:
            lines = reading.lines(path)
        except (OSError, DataError) as error:
            raise DataError(f"split_file={str(path)!r} cannot be read: {error}") from None
        ends = opening.endings("images", self.dims)
        tails = (*listing.tails_of(suffix, ends), *ends)
        short = [line for line in lines if line and len(line.split()) < column]
        if short:
            raise DataError(
                f"{path}: line {short[0]!r:.80} has no word {column} (split_column). Mend it."
            )
        names = [line.split()[column - 1] if column else line for line in lines if line]
        stems = [
            listing.normal(listing.without_ending(name, tails).removeprefix("./")) for name in names
        ]
        if not stems:
            raise DataError(f"{path}: the split file names no example. One stem per line.")
        twice = [stem for stem, count in collections.Counter(stems).items() if count > 1]
        if twice:
            raise DataError(f"{path}: listed twice: {core.some(twice)}. Each example counts once.")
        return stems

    def _pair(
        self,
        images: dict[str, pathlib.Path],
        labels: list[dict[str, pathlib.Path]],
        *,
        stems: list[str] | None,
        whole: bool,
        may_lack: bool,
    ) -> list[tuple[pathlib.Path, overlaps.Masks]]:
        """Return image and masks of every stem; `whole`: the masks are of this split alone."""
        chosen = sorted(images) if stems is None else stems
        absent = [stem for stem in chosen if stem not in images]
        if absent:
            raise DataError(
                f"{self.root}: {len(absent)} of {len(chosen)} examples in the split file have no "
                f"image: {core.some(absent)}. Add the images or remove the lines."
            )
        for number, masks in enumerate(labels):
            bare = [stem for stem in chosen if stem not in masks]
            if bare and not may_lack:
                kinds = ", ".join(opening.endings("labels", self.dims))
                name = f" of {self.class_names[number]!r}" if self.per_class else ""
                hint = ", or set missing_masks='empty' if that means none of it" if name else ""
                raise DataError(
                    f"{self.root}: {len(bare)} of {len(chosen)} images have no mask{name}: "
                    f"{core.some([str(images[stem]) for stem in bare])}. Add masks ({kinds}; JPEG "
                    f"and WebP would change class numbers) or remove the images{hint}."
                )
        orphans = [
            str(masks[stem]) for masks in labels for stem in sorted(masks) if stem not in images
        ]
        if whole and orphans:
            raise DataError(
                f"{self.root}: {len(orphans)} masks have no image: {core.some(orphans)}. "
                "Add the images, remove the masks, or choose the examples with a split_file."
            )
        return [(images[stem], [masks.get(stem) for masks in labels]) for stem in chosen]


def _of_split(
    labels_of: Mapping[str, Sequence[str]], split: str, labels: str, suffix: str
) -> tuple[str, str]:
    """Return folder and suffix of a split's masks: its own, or those of all."""
    found = labels_of.get(split, (labels, suffix))
    if len(found) != 2:
        raise ConfigError(
            f"config.input.source.labels_of.{split}: {list(found)}, expected folder and suffix of "
            "masks. Write both; the suffix may be empty."
        )
    return found[0], found[1]


def _choose_bands(bands: Sequence[str | int], names: Sequence[str]) -> tuple[int, ...]:
    """Return the numbers of bands that a config names or numbers.

    Raises:
        ConfigError: There is no such band.
    """
    for band in bands:
        if isinstance(band, str) and band not in names:
            raise ConfigError(
                f"config.input.source.bands: {rules.cut(band)}: no such band."
                f"{lookup.suggest(band, list(names)) if names else ' Name them all in band_names.'}"
            )
    return tuple(names.index(band) if isinstance(band, str) else band for band in bands)


def _check_layout(
    per_class: bool, bands: bool, may_lack: bool, class_names: Sequence[str], *, where: str
) -> None:
    """Raise `ConfigError` for arguments about masks that do not go together."""
    if per_class and bands:
        raise ConfigError(
            f"label_bands=True with {CLASS} in labels or label_suffix: a mask holds all classes or "
            "one. Leave one of them out."
        )
    if may_lack and not per_class:
        raise ConfigError(
            f"missing_masks='empty': expected {CLASS} in labels or label_suffix, so that a class "
            "alone can lack its mask. Leave it out."
        )
    unfit = [name for name in class_names if per_class and (set(name) & set("/\\") or name in "..")]
    if unfit:
        raise ConfigError(
            f"{where}: class name {unfit[0]!r} stands for {CLASS} in a path, expected no '/' or "
            "'\\' in it. Rename the class and its folder or files."
        )


def _list(
    path: pathlib.Path,
    kind: str,
    endings: tuple[str, ...],
    *,
    suffix: str,
    without: Collection[pathlib.Path],
    may_lack: bool = False,
) -> dict[str, pathlib.Path]:
    """Map the stems in a folder of images or labels to their files; `may_lack`: maybe none."""
    found = listing.list_files(path, endings=endings, suffix=suffix, without=without)
    if not found and not may_lack:
        tails = listing.tails_of(suffix, endings)
        lossy = [p for p in listing.walk(path) if p.suffix.lower() in decode.LOSSY_ENDINGS]
        if kind == "labels" and lossy:
            raise DataError(
                f"{path}: {len(lossy)} JPEG or WebP files and no {kind} that end in "
                f"{'|'.join(tails)}. JPEG and WebP change class numbers, so they are no masks: "
                "save the masks as PNG from where they were drawn."
            )
        raise DataError(
            f"{path}: no {kind} in it. Expected files that end in {'|'.join(tails)}; hidden ones "
            "do not count."
        )
    return found
