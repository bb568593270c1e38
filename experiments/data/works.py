"""What is read by both sides: files, windows, batches; free of JAX and PyTorch."""

import gzip
import io
import json
import pathlib
from typing import NamedTuple

import numpy as np
from PIL import Image

BATCH = 8
AHEAD = 6
"""Batches at the beginning of a turn that are not timed: they may have been ready before it."""


class Work(NamedTuple):
    """One data set as it is trained on.

    Attributes:
        title: In the table.
        size: The sides of a window, or of the canvas that whole images are padded to.
        window: Whether it is a window.
        batches: In one turn.
    """

    title: str
    size: tuple[int, ...]
    window: bool
    batches: int


WORKS = {
    "camvid": Work("CamVid, 480 x 360 JPEG, whole", (360, 480), False, 60),
    "jpeg": Work("500 x 375 JPEG, whole, padded to 512²", (512, 512), False, 40),
    "png": Work("2048 x 1024 PNG, windows of 512²", (512, 512), True, 8),
    "nifti": Work("160 x 200 x 200 .nii.gz, patches of 96³", (96, 96, 96), True, 6),
    "prepared": Work("the same, prepared; PyTorch from .nii.gz", (96, 96, 96), True, 8),
    "nii": Work("the same as .nii, patches of 96³", (96, 96, 96), True, 20),
    "prepared_nii": Work("the same, prepared; PyTorch from .nii", (96, 96, 96), True, 20),
}
FILES = {"prepared": "nifti", "prepared_nii": "nii"}
"""Works whose files are another's."""


def write(root: pathlib.Path, work: str, photos: list[pathlib.Path]) -> None:
    """Write the files of a work below `root`, made of photos; volumes are noise that is smooth."""
    random = np.random.default_rng(0)
    folders = [root / "train" / kind for kind in ("images", "labels")]
    for folder in folders:
        folder.mkdir(parents=True)
    images, labels = folders
    names = [str(number) for number in range(12)]
    (root / "meta.json").write_text(json.dumps({"class_names": names}))
    if work in ("nifti", "nii"):
        ending = "nii.gz" if work == "nifti" else "nii"
        for number in range(12):
            steps = random.integers(-20, 21, (160, 200, 200))
            volume = np.cumsum(steps, axis=0).astype(np.int16)
            label = (np.abs(volume) // 64 % 3).astype(np.uint8)
            (images / f"{number:02d}.{ending}").write_bytes(nifti(volume, work == "nifti"))
            (labels / f"{number:02d}.{ending}").write_bytes(nifti(label, work == "nifti"))
        return
    side = {"camvid": (480, 360), "jpeg": (500, 375), "png": (2048, 1024)}[work]
    count, ending = (40, "png") if work == "png" else (200, "jpg")
    for number in range(count):
        photo = Image.open(photos[number % len(photos)]).convert("RGB").resize(side)
        if work == "png":  # enlarged it would be easier to compress than a photo of that size
            noise = random.integers(-3, 4, (side[1], side[0], 3))
            noisy = np.clip(np.asarray(photo).astype(int) + noise, 0, 255)
            photo = Image.fromarray(noisy.astype(np.uint8))
        photo.save(images / f"{number:03d}.{ending}", **({} if work == "png" else {"quality": 90}))
        grey = photo.convert("L").resize((side[0] // 8, side[1] // 8))
        label = np.asarray(grey.resize(side, Image.Resampling.NEAREST)) // 24
        Image.fromarray(label.astype(np.uint8)).save(labels / f"{number:03d}.png")


def nifti(array: np.ndarray, packed: bool) -> bytes:
    """Return a volume as NIfTI-1, its first axis the slowest."""
    header = np.zeros(352, np.uint8)
    header[:4] = np.frombuffer(np.int32(348).tobytes(), np.uint8)
    dims = np.array([3, *array.shape[::-1], 1, 1, 1, 1], np.int16)
    header[40:56] = np.frombuffer(dims.tobytes(), np.uint8)
    code, bits = {"int16": (4, 16), "uint8": (2, 8)}[str(array.dtype)]
    header[70:74] = np.frombuffer(np.array([code, bits], np.int16).tobytes(), np.uint8)
    header[76:108] = np.frombuffer(np.ones(8, np.float32).tobytes(), np.uint8)
    header[108:112] = np.frombuffer(np.float32(352).tobytes(), np.uint8)
    header[344:348] = np.frombuffer(b"n+1\0", np.uint8)
    content = header.tobytes() + array.tobytes()
    if not packed:
        return content
    stream = io.BytesIO()
    with gzip.GzipFile(fileobj=stream, mode="wb", compresslevel=6, mtime=0) as file:
        file.write(content)
    return stream.getvalue()
