"""Images that show the same."""

import hashlib
import io

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from segjax.audit import duplicates


def picture(seed, size=(240, 320)):
    chance = np.random.default_rng(seed)
    coarse = ndimage.gaussian_filter(chance.normal(size=size), 12)
    fine = ndimage.gaussian_filter(chance.normal(size=size), 2)
    image = coarse / coarse.std() + fine / fine.std()
    return np.clip(128 + 40 * image, 0, 255).astype(np.uint8)


def thumbnail(image):
    digest = hashlib.sha256(image.tobytes()).hexdigest()
    return duplicates.Thumbnail(digest, duplicates.shrink(image.astype("f4")))


def encoded(image):
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "JPEG", quality=40)
    return np.asarray(Image.open(stream))


CHANGES = {
    "resized": lambda x: np.asarray(Image.fromarray(x).resize((250, 160))),
    "encoded": encoded,
    "mirrored": lambda x: x[:, ::-1],
    "upside down": lambda x: x[::-1],
    "turned round": lambda x: x[::-1, ::-1],
    "darker": lambda x: (x * 0.6).astype(np.uint8),
    "brighter": lambda x: np.minimum(x * 1.3, 255).astype(np.uint8),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_copy_is_found_among_others(change):
    images = [picture(seed) for seed in range(12)]
    images.append(np.ascontiguousarray(CHANGES[change](images[5])))
    (pair,) = duplicates.find([thumbnail(image) for image in images])
    assert (pair.first, pair.second, pair.exact) == (5, 12, False) and pair.score > 0.8


def test_an_exact_copy_is_told_from_a_near_one():
    images = [thumbnail(picture(seed)) for seed in (0, 1, 0, 2, 0)]
    found = duplicates.find(images)
    assert [(p.first, p.second, p.exact) for p in found] == [(0, 2, True), (0, 4, True)]


def test_a_scene_in_which_something_moved_is_another_image():
    """Frames of a film that stands still are no copies."""
    one = picture(0)
    other = one.copy()
    other[60:110, 40:180] = picture(9)[60:110, 40:180]
    assert not duplicates.find([thumbnail(one), thumbnail(other)])


def test_flat_images_say_nothing():
    flat = [thumbnail(np.full((64, 64), value, np.uint8)) for value in (10, 11, 200)]
    assert not duplicates.find(flat) and not duplicates.find([]) and not duplicates.find(flat[:1])
