"""Entropies of members against SciPy; what is seen of an image, and what is asked about."""

import numpy as np
import pytest
from scipy import stats

from segjax.data import fit
from segjax.errors import ConfigError, DataError
from segjax.explain import draw, uncertainty
from segjax.explain.seen import Seen, target_of
from segjax.inference.layout import Layout
from segjax.inference.predictor import FunctionPredictor
from segjax.structs import Field

NAMES = ("ground", "cell", "dust")


def test_entropy_of_the_mean_parts_into_what_members_find_and_what_they_disagree_on():
    key = np.random.default_rng(0)
    members = [key.dirichlet(np.ones(3), (5, 7)).astype(np.float32) for _ in range(4)]
    found = uncertainty.of_members(iter(members))
    whole = stats.entropy(np.mean(members, 0), axis=-1) / np.log(3)
    each = np.mean([stats.entropy(m, axis=-1) for m in members], 0) / np.log(3)
    np.testing.assert_allclose(found.entropy, whole, atol=1e-5)
    np.testing.assert_allclose(found.expected, each, atol=1e-5)
    np.testing.assert_allclose(found.mutual, whole - each, atol=1e-5)
    sure = np.zeros((2, 2), np.float32)
    sure[0, 0] = sure[1, 1] = 1
    opposed = uncertainty.of_members(iter([sure[:, :], sure[:, ::-1]]))
    np.testing.assert_allclose(opposed.mutual, 1, atol=1e-6)  # all of it is disagreement
    alike = uncertainty.of_members(iter([members[0]] * 3))
    np.testing.assert_allclose(alike.mutual, 0, atol=1e-6)


def test_mirrored_members_answer_on_the_image_s_own_grid():
    """A threshold answers of each pixel alone: all members agree; what looks left does not."""
    image = np.random.default_rng(1).integers(0, 255, (6, 9, 1)).astype(np.uint8)
    threshold = FunctionPredictor(lambda image: image[..., 0] > 99, num_classes=2)
    members = [member(image) for member in uncertainty.flips(threshold, 2)]
    assert len(members) == 4
    for one in members:
        np.testing.assert_array_equal(one, members[0])
    left = FunctionPredictor(lambda image: np.roll(image[..., 0], 1, 1) > 99, num_classes=2)
    assert uncertainty.of_members(m(image) for m in uncertainty.flips(left, 2)).mutual.max() > 0
    assert len(uncertainty.flips(threshold, 1)) == 2
    with pytest.raises(ConfigError, match="drops nothing"):
        uncertainty.check_drops([members[0], members[0]])


def seen(whole, how, canvas=(32, 40)):
    image = np.random.default_rng(2).integers(0, 255, (*whole, 3)).astype(np.uint8)
    layout = Layout(fit.Canvas(canvas, how, 124), flips=(1,))
    return Seen(image, layout, {"image": Field("image", (3,))}, name="x")


@pytest.mark.parametrize(
    ("whole", "how", "window"),
    [((20, 30), "pad", (32, 40)), ((50, 60), "pad", (50, 60)), ((64, 80), "resize", (32, 40))],
)
def test_what_is_known_of_the_window_comes_back_to_the_image(whole, how, window):
    """A ramp over the window is one over the image; a pixel of the image lies where it is seen."""
    one = seen(whole, how)
    assert one.window == window and one.image.shape == (*window, 3)
    ramp = np.stack(np.meshgrid(*map(np.arange, window), indexing="ij"), -1).astype(np.float32)
    scale = window[0] / whole[0] if how == "resize" else 1.0
    back = one.on_image(ramp)
    rows = (np.arange(whole[0]) + 0.5) * scale - 0.5
    np.testing.assert_allclose(back[:, 5, 0], np.clip(rows, 0, window[0] - 1), atol=1e-4)
    pixel = np.zeros(whole, bool)
    pixel[12, 17] = True
    places = np.argwhere(one.on_window(pixel))
    assert len(places) == 1
    np.testing.assert_allclose(places[0], ((np.array([12, 17]) + 0.5) * scale).astype(int), atol=1)


def test_what_is_asked_is_a_class_and_a_place():
    pred = np.zeros((8, 10), np.uint8)
    pred[2:4, 2:9], pred[6, 6] = 2, 1
    assert target_of("", NAMES, pred).text == "dust where it is predicted"
    assert (target_of("cell", NAMES, pred).region == (pred == 1)).all()
    assert target_of("cell@all", NAMES, pred).region.all()
    assert np.argwhere(target_of("ground@3,4", NAMES, pred).region).tolist() == [[3, 4]]
    assert target_of("ground@0:2,4:9", NAMES, pred).region.sum() == 10
    assert target_of("", NAMES, np.zeros_like(pred)).number == 0
    labels = np.stack([pred == 1, pred == 1, pred == 2], -1).astype(np.uint8)
    assert target_of("dust", NAMES, labels, multilabel=True).region.sum() == 14
    for text, error, said in [
        ("cel", ConfigError, "Did you mean 'cell'"),
        ("cell@3", ConfigError, "expected <class>@40,40"),
        ("cell@3,x", ConfigError, "expected <class>@40,40"),
        ("cell@8,0", DataError, "axis of 8 pixels"),
        ("cell@3:3,0", DataError, "axis of 8 pixels"),
    ]:
        with pytest.raises(error, match=said):
            target_of(text, NAMES, pred)
    with pytest.raises(DataError, match="no pixel is predicted as 'cell'"):
        target_of("cell", NAMES, np.zeros_like(pred))


@pytest.mark.parametrize("whole", [(9,), (6, 9), (4, 6, 9)])
@pytest.mark.parametrize("kind", ["above", "signed", "share", "colours"])
def test_maps_of_any_axes_are_pictures(whole, kind):
    key = np.random.default_rng(3)
    image = key.integers(0, 255, (*whole, 1)).astype(np.uint16)
    values = key.normal(size=(*whole, 3) if kind == "colours" else whole).astype(np.float32)
    shown = draw.picture(np.abs(values) if kind == "above" else values, image, kind=kind)
    assert shown.dtype == np.uint8 and shown.ndim == 3 and shown.shape[-1] == 3
    assert shown.shape[1] >= whole[-1] and shown.std() > 0
    flat = draw.colours(np.zeros(whole, np.float32), kind="signed")
    assert (flat == flat.reshape(-1, 3)[0]).all() and flat.min() > 240  # nothing is white
