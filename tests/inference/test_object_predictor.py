"""Functions that find objects, behind the protocol by which networks are scored."""

import numpy as np
import pytest

from segjax.inference.predictor import FunctionObjectPredictor
from segjax.runtime import quirks
from segjax.structs import Mask, Objects


def objects_of(image):
    """Return one object for each channel: its pixels above 0, scored by its largest value."""
    found = [np.argwhere(image[..., c] > 0) for c in range(image.shape[-1])]
    corners = [tuple(map(int, points.min(axis=0))) for points in found]
    ends = [points.max(axis=0) + 1 for points in found]
    masks = [
        Mask(corner, image[corner[0] : end[0], corner[1] : end[1], c] > 0)
        for c, (corner, end) in enumerate(zip(corners, ends, strict=True))
    ]
    return Objects(
        np.arange(len(masks), dtype=np.int32),
        np.array([[*corner, *end] for corner, end in zip(corners, ends, strict=True)], np.float32),
        tuple(masks),
        image.reshape(-1, image.shape[-1]).max(axis=0).astype(np.float32),
        np.zeros(len(masks), bool),
    )


class Images:
    """Five images of two objects each."""

    def __len__(self):
        return 5

    def __getitem__(self, index):
        image = np.zeros((8, 8, 2), np.float32)
        image[index : index + 2, 1:4, 0] = 0.25
        image[1, index : index + 3, 1] = 0.75
        return {"image": image}


def test_what_is_found_comes_with_the_highest_score_first():
    """And everything of an object moves with its score."""
    found = FunctionObjectPredictor(objects_of)(Images()[2]["image"]).objects
    assert found.scores.tolist() == [0.75, 0.25] and found.classes.tolist() == [1, 0]
    assert found.boxes.tolist() == [[1, 2, 2, 5], [2, 1, 4, 4]]
    assert [mask.corner for mask in found.masks] == [(1, 2), (2, 1)]
    assert [mask.inside.shape for mask in found.masks] == [(1, 3), (2, 3)]


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_processes_find_each_example_once_and_are_given_equally_much(monkeypatch, processes):
    lengths, numbers = set(), []
    for me in range(processes):
        monkeypatch.setattr(quirks, "job_client", lambda me=me: (None, me, processes))
        predictor = FunctionObjectPredictor(objects_of)
        parts = list(predictor.detect(Images(), batch_size=4, threads=0))
        lengths.add(len(parts))
        numbers += [number for part in parts for number in part.found]
    assert len(lengths) == 1 and sorted(numbers) == [0, 1, 2, 3, 4]
