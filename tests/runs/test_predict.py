import numpy as np
import pytest

from segjax.assemble import parts as assemble
from segjax.errors import UserError
from segjax.runs import predict


def nearest_class(canvases):
    """Stand in for a network: the class of a pixel is its first channel, sharply."""
    for canvas in canvases:
        yield 10.0 * (canvas[..., :1] == np.arange(6)).astype(np.float32)


@pytest.mark.parametrize("size", [(32, 32), (40, 100), (97, 33), (200, 170)])
def test_tiles_put_every_pixel_where_it_was(size):
    """A network that looks at single pixels must not notice that it saw tiles."""
    canvas = assemble.Canvas((32, 40), "pad", 5)
    image = np.random.default_rng(0).integers(0, 5, (*size, 3), np.uint8)
    label = predict.label_map(image, nearest_class, canvas)
    np.testing.assert_array_equal(label, image[..., 0])


@pytest.mark.parametrize("length", [10, 64, 65, 100, 1000])
def test_spans_cover_once_with_context(length):
    spans = predict.spans(length, 64)
    covered = [i for _, kept in spans for i in range(kept.start, kept.stop)]
    assert covered == list(range(length))
    for start, kept in spans:
        assert start >= 0 and (start + 64 <= length or length <= 64)
        assert kept.start - start >= 8 or kept.start == 0
        assert start + 64 - kept.stop >= 8 or kept.stop == length


def test_resized_images_come_back_at_their_own_size():
    image = np.zeros((90, 60, 3), np.uint8)
    image[45:] = 3
    label = predict.label_map(image, nearest_class, assemble.Canvas((32, 40), "resize", 5))
    assert label.shape == (90, 60)
    assert (label[:42] == 0).all() and (label[48:] == 3).all()


def test_logits_are_interpolated_before_the_class_is_chosen():
    logits = np.random.default_rng(0).normal(size=(4, 5, 7)).astype(np.float32)
    label = predict.argmax_at_size(logits, (4, 5))
    np.testing.assert_array_equal(label, logits.argmax(-1))
    two = np.array([[[0.0, 1.0], [4.0, 0.0]]], np.float32)  # crosses over nearer the left pixel
    assert predict.argmax_at_size(two, (1, 20))[0].tolist().count(0) > 10


def test_areas_add_up():
    areas = predict.class_areas(np.array([[0, 0, 2], [2, 2, 2]], np.uint8), ["a", "b", "c"])
    assert areas["a"] == {"pixels": 2, "share": 2 / 6} and areas["b"]["pixels"] == 0


def test_inputs_are_a_file_a_folder_or_a_glob(tmp_path):
    for name in ("a.jpg", "b.PNG", "notes.txt", "deep/c.webp", "deep/a.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    names = [path.name for path in predict.list_images(str(tmp_path))]
    assert sorted(names) == ["a.jpg", "a.png", "b.PNG", "c.webp"]
    assert len(predict.list_images(str(tmp_path / "*.jpg"))) == 1
    assert len(predict.list_images(str(tmp_path / "a.jpg"))) == 1
    with pytest.raises(UserError, match="no images"):
        predict.list_images(str(tmp_path / "*.tif"))
    outputs = predict.output_names(predict.list_images(str(tmp_path)))
    assert len(set(outputs.values())) == 4
