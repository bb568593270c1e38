"""PyTorch's side: a Dataset as its users write it, a DataLoader with two workers."""

import hashlib
import pathlib
from collections.abc import Iterator

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from experiments.data.works import BATCH, Work


class Files(Dataset):
    """Rows of `rows`: an example's number and the corner of its window."""

    def __init__(self, root: pathlib.Path, rows: list[list], work: Work):
        self.images = sorted((root / "train/images").iterdir())
        self.labels = sorted((root / "train/labels").iterdir())
        self.rows, self.work = rows, work

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, row):
        number, low = self.rows[row]
        image, label = self.read(self.images[number], low), self.read(self.labels[number], low)
        if image.ndim == label.ndim:
            image = image[..., None]
        return torch.from_numpy(image), torch.from_numpy(label.astype(np.int32))

    def read(self, path: pathlib.Path, low: list[int]) -> np.ndarray:
        size = self.work.size
        window = tuple(slice(a, a + side) for a, side in zip(low, size, strict=True))
        if ".nii" in path.suffixes:
            import nibabel

            proxy = nibabel.load(path).dataobj  # x is the first axis of NIfTI, and our last
            return np.ascontiguousarray(np.asarray(proxy[window[::-1]]).T)
        array = np.asarray(Image.open(path))
        if self.work.window:
            return np.ascontiguousarray(array[window])
        if array.shape[:2] == size:
            return array.copy()
        fill = 255 if array.ndim == 2 else 124
        canvas = np.full((*size, *array.shape[2:]), fill, np.uint8)
        canvas[: array.shape[0], : array.shape[1]] = array
        return canvas


def batches(root: pathlib.Path, rows: list[list], work: Work) -> Iterator[list[torch.Tensor]]:
    """Yield batches as a training loop gets them."""
    loader = DataLoader(
        Files(root, rows, work), batch_size=BATCH, num_workers=2, prefetch_factor=2,
        persistent_workers=True,
    )  # fmt: skip
    return iter(loader)


def digest(batch: list[torch.Tensor]) -> str:
    """Return a hash of a batch's bits."""
    return hashlib.sha256(b"".join(part.numpy().tobytes() for part in batch)).hexdigest()
