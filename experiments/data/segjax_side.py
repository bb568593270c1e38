"""Our side: a source, and the batches of training."""

import hashlib
import pathlib
from typing import Any

import grain
import numpy as np

from experiments.data.works import BATCH, Work
from segjax.data import core, fit, folder, pipeline, prepared, windows
from segjax.data.lazy import Lazy, Region
from segjax.structs import Batch, Example

try:  # inflates in half the time of Python's own
    from isal import isal_zlib as zlib
except ModuleNotFoundError:
    import zlib

SEED, THREADS, HEAD = 0, 2, 352
CLASSES = tuple(map(str, range(12)))


class Volumes:
    """NIfTI files of the study as a source: plain ones are mapped."""

    class_names, palette = CLASSES, core.voc_palette(12)
    schema = core.semantic_schema(1, dtype="int16")

    def __init__(self, root: pathlib.Path):
        self.images = sorted((root / "train/images").iterdir())
        self.labels = sorted((root / "train/labels").iterdir())

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Example:
        image: Any = read(self.images[index]).with_channel()
        label: Any = read(self.labels[index])
        return Example(image=image, label=label, name=str(self.images[index]))


def read(path: pathlib.Path) -> Lazy:
    """Return a volume, its first axis the slowest; gzip is unpacked as far as a part needs it."""
    packed = path.read_bytes() if path.suffix == ".gz" else b""

    def content(size: int) -> np.ndarray:
        if packed:
            unpacker = zlib.decompressobj(31)
            return np.frombuffer(unpacker.decompress(packed, size), np.uint8)
        return np.memmap(path, np.uint8, "r")

    head = content(HEAD)
    sides = head[42:48].view("<i2")[::-1].tolist()
    dtype = np.dtype({4: np.int16, 2: np.uint8}[int(head[70])])

    def part(region: Region) -> np.ndarray:
        count = region[0].stop * sides[1] * sides[2]
        found = content(HEAD + count * dtype.itemsize)[HEAD : HEAD + count * dtype.itemsize]
        return found.view(dtype).reshape(-1, *sides[1:])[region]

    return Lazy(sides, dtype, part, name=str(path))


def source_of(root: pathlib.Path, work: str) -> core.Source:
    """Return the data set of a work."""
    if work.startswith("prepared"):
        return prepared.Source(split="train", root=str(root / "prepared"))
    if work in ("nifti", "nii"):
        return Volumes(root)
    return folder.Source(split="train", root=str(root))


def rows(root: pathlib.Path, work: str, about: Work, count: int) -> list[list]:
    """Return example and corner of each row of the stream, for the other side."""
    source = source_of(root, work)
    order = grain.MapDataset.range(len(source)).seed(SEED).shuffle().repeat()
    draw = windows.Windows(
        source, schema=source.schema, size=about.size, pad_value=0, seed=SEED,
        sampling=windows.PLAIN,
    )  # fmt: skip
    sides: dict[int, tuple[int, ...]] = {}
    found = []
    for position in range(count):
        number = int(order[position])
        if number not in sides:
            example = source[number]
            sides[number] = tuple(example["label"].shape)
        whole: Any = {}
        found.append([number, draw._draw(number, position, whole, sides[number])])
    return found


def batches(root: pathlib.Path, work: str, about: Work) -> pipeline.Batches:
    """Return the batches of a training."""
    source = source_of(root, work)
    how: fit.Fit = "window" if about.window else "pad"
    return pipeline.train_batches(
        source, schema=source.schema, batch_size=BATCH, size=about.size, fit=how, seed=SEED,
        threads=THREADS,
    )  # fmt: skip


def digest(batch: Batch) -> str:
    """Return a hash of a batch's bits."""
    parts = (np.asarray(batch[name]).tobytes() for name in ("image", "label"))
    return hashlib.sha256(b"".join(parts)).hexdigest()
