"""A task of the Medical Segmentation Decathlon in its publisher's layout: `dataset.json` says all.

The publisher keeps the labels of the test images, so splits are one's own, of the training images:
by place modulo 10, in order of name, 0 to 6 are `train`, 7 is `val`, 8 and 9 are `test`; `all` is
the whole. The modalities of a 4-D image are its channels.
"""

import pathlib

from segjax.config import kinds
from segjax.data import base, core, decode
from segjax.data.formats import parse
from segjax.errors import DataError


class Source(base.Files):
    """One split of a task.

    Args:
        split: `train`, `val`, `test` or `all`.
        root: The task's folder, with `dataset.json`.
        dtype: Type of the images.
        expected: How many examples splits have, see `folder.Source`. All together are as many as
            `dataset.json` says (`numTraining`), unless `all` is 0 here.

    Raises:
        DataError: `dataset.json` or a file that it names is missing or wrong; another number of
            examples.
    """

    def __init__(
        self,
        *,
        split: str,
        root: str,
        dtype: kinds.PixelType = "float32",
        expected: base.Expected | None = None,
    ):
        folder = base.folder_of(root)
        path = folder / "dataset.json"
        where = str(path)
        about = parse.section(parse.read_json(path), where=where)
        names = _names(parse.field(about, "labels", dict, where=where), where=where)
        modality = parse.field(about, "modality", dict, where=where)
        pairs = [_pair(one, folder, where=where)
                 for one in parse.fields(about, "training", where=where)]  # fmt: skip
        told = parse.field(about, "numTraining", int, where=where, default=0)
        base.check_count(len(pairs), {"all": told, **(expected or {})}, "all", where=where)
        found = {str(pair[0]): pair for pair in pairs}
        files = [found[name] for name in base.own_split(list(found), split, where=where)]
        base.check_count(len(files), expected, split, where=where)
        base.check_present(files)
        super().__init__(
            files,
            root=folder,
            class_names=names,
            numbers=base.Numbers(len(names)),
            reading=decode.Reading(dims=3),
            channels=max(1, len(modality)),
            dtype=dtype,
        )


def _names(labels: dict[str, object], *, where: str) -> tuple[str, ...]:
    """Return the names of classes in the order of their numbers."""
    numbers = sorted(labels, key=lambda number: parse.whole(number, "labels", where=where))
    if numbers != [str(number) for number in range(len(labels))]:
        raise DataError(
            f"{where}: labels are {', '.join(numbers[:8])}; expected 0, 1, 2, …. Mend it."
        )
    return core.check_classes([str(labels[number]) for number in numbers], where=where)


def _pair(one: dict[str, object], folder: pathlib.Path, *, where: str) -> base.Pair:
    image, label = (
        folder / base.below(parse.field(one, kind, str, where=where), where=where)
        for kind in ("image", "label")
    )
    return image, [label]
