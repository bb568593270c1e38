"""PASCAL VOC 2012 with the masks of Hariharan et al. 2011 (SBD), from both publishers' own files.

The split `trainaug` is made of all images of SBD's two lists and of VOC's `train`, without those of
VOC's `val`: 10,582. An image that VOC has a mask of keeps that; the others have SBD's, which know
no void borders. Other splits (`train`, `val`, `trainval`) are VOC's alone.
"""

from segjax.config import kinds
from segjax.data import base, core, decode

LISTS = "ImageSets/Segmentation"
SPLIT = "trainaug"


class Source(base.Files):
    """One split of VOC 2012, or `trainaug`.

    Args:
        split: `trainaug`, or one of VOC's.
        root: VOC's folder, with `JPEGImages`, `SegmentationClass` and `ImageSets/Segmentation`.
        sbd: SBD's `dataset` folder, with `cls/*.mat`, `train.txt` and `val.txt`.
        class_names: Of the 21 classes.
        ignore_index: Value of VOC's borders.
        dtype: Type of the images.
        expected: How many examples splits have, see `folder.Source`.

    Raises:
        DataError: A folder, list, image or mask is missing; another number of examples.
    """

    def __init__(
        self,
        *,
        split: str,
        root: str,
        sbd: str,
        class_names: core.ClassNames,
        ignore_index: core.IgnoreIndex = 255,
        dtype: kinds.PixelType = "uint8",
        expected: base.Expected | None = None,
    ):
        voc = base.folder_of(root)

        def stems(*lists: str) -> set[str]:
            return {name for each in lists for name in base.listed(voc / LISTS / f"{each}.txt")}

        if split == SPLIT:
            more = core.expand_path(sbd, where="sbd")
            own = stems("train")
            added = {*base.listed(more / "train.txt"), *base.listed(more / "val.txt")}
            added -= stems("val") | own
            masks = {stem: more / "cls" / f"{stem}.mat" for stem in added}
        else:
            own, masks = stems(split), {}
        masks |= {stem: voc / "SegmentationClass" / f"{stem}.png" for stem in own}
        files = [(voc / "JPEGImages" / f"{stem}.jpg", [masks[stem]]) for stem in sorted(masks)]
        base.check_count(len(files), expected, split, where=str(voc))
        base.check_present(files)
        names = core.check_classes(class_names, where="class_names")
        super().__init__(
            files,
            root=voc,
            class_names=names,
            numbers=base.Numbers(len(names), core.ignore_values(ignore_index)),
            reading=decode.Reading(dims=2, label_array="GTcls.Segmentation"),
            channels=3,
            dtype=dtype,
        )
