"""What is decided by what the data is like: each rule by an example and its opposite."""

import dataclasses

import numpy as np
import pytest

from segjax.audit import fingerprint
from segjax.audit.fingerprint import Fingerprint
from segjax.auto import recipe, sizing
from segjax.auto.sizing import Budget
from segjax.data import core
from segjax.structs import Example

CELLS = Fingerprint(
    examples=100, seen=64, channels=1, dtype="uint8", class_names=("ground", "cell"),
    multilabel=False, size=(256, 256), smallest=(256, 256), largest=(256, 256), spacing=(),
    spacings=(), mean=(0.4,), std=(0.2,), low=3, high=250, own_scale=1.2, share=(0.8, 0.2),
    images=(1.0, 1.0), width=(40.0, 11.0), place=((0.5, 0.5), (0.51, 0.49)),
    spread=((0.01, 0.01), (0.06, 0.07)),
)  # fmt: skip
SCANS = dataclasses.replace(
    CELLS, dtype="float32", size=(36, 50, 35), smallest=(24, 40, 31), largest=(43, 55, 38),
    spacing=(1.0, 1.0, 1.0), spacings=((1.0, 1.0, 1.0),) * 3, own_scale=13.0, low=10, high=3e5,
    class_names=("ground", "front", "back"), share=(0.94, 0.03, 0.03), images=(1.0,) * 3,
    width=(40.0, 2.5, 2.2), place=((0.5,) * 3, (0.34, 0.7, 0.46), (0.54, 0.34, 0.4)),
    spread=((0.001,) * 3, (0.03, 0.02, 0.03), (0.03, 0.02, 0.03)),
)  # fmt: skip
CPU = Budget(15.0, 2)


def like(found, **changes):
    return dataclasses.replace(found, **changes)


def test_spacing_is_the_median_where_it_differs():
    """nnU-Net: and along an axis three times as coarse its 10th percentile."""
    assert recipe.spacing(CELLS)[0] == () and recipe.spacing(SCANS)[0] == ()
    differ = like(
        SCANS, spacing=(5.0, 0.8, 0.8), spacings=((2.5, 3.0, 6.0), (0.7,) * 3, (0.8,) * 3)
    )
    assert recipe.spacing(differ)[0] == (3.0, 0.8, 0.8)
    assert recipe.spacing(like(differ, spacing=(2.0, 0.8, 0.8)))[0] == (2.0, 0.8, 0.8)


def test_values_are_scaled_by_what_they_are():
    assert recipe.intensity(CELLS)[0] == []
    assert recipe.intensity(SCANS)[0] == [dict(type="percentile", low=0.5, high=99.5)]
    ct = like(SCANS, own_scale=1.1, low=-1000.0, high=1000.0)
    assert recipe.intensity(ct)[0] == [dict(type="window", centre=0.0, width=2000.0)]
    assert recipe.normalize(CELLS)[0]["mean"] == [0.4]
    assert recipe.normalize(like(CELLS, own_scale=3.0))[0]["type"] == "normalize:per_image"


def test_mirrors_ask_for_nothing_that_does_not_occur():
    """Front and back are the classes of the scans; sky lies above; nuclei lie anywhere."""
    assert recipe.mirrored(CELLS)[0] == (True, True)
    allowed, why = recipe.mirrored(SCANS)
    assert allowed == (False, False, True) and "front at 0.70, back at 0.34" in why
    flip = recipe.augment(SCANS, (40, 56, 40), allowed)[0][0]
    assert flip == dict(type="geometry:flip", horizontal=0.5)
    street = like(CELLS, class_names=("road", "sky"), place=((0.8, 0.5), (0.16, 0.5)),
                  spread=((0.02, 0.2), (0.03, 0.2)))  # fmt: skip
    assert recipe.mirrored(street)[0] == (False, True)
    ops = recipe.augment(street, (64, 64), (False, True))[0]
    assert ops[0]["rotate"] == 0 and "vertical" not in ops[0] and ops[0]["horizontal"] == 0.5
    assert recipe.augment(CELLS, (64, 64), (True, True))[0][0]["rotate"] == 180


def test_rare_classes_are_weighed_and_looked_for():
    assert "class_weights" not in recipe.losses(SCANS)[0][0]
    names = tuple("abcdef")
    many = like(CELLS, class_names=names, share=(0.5, 0.3, 0.1, 0.07, 0.025, 0.005))
    weights = recipe.losses(many)[0][0]["class_weights"]
    assert weights == sorted(weights) and sum(weights) == pytest.approx(6, abs=0.1)
    assert recipe.window_share(CELLS, (256, 256), (256, 256))[0] == 0
    assert recipe.window_share(CELLS, (64, 64), (256, 256))[0] == pytest.approx(1 / 3)
    thin = like(CELLS, share=(0.99, 0.01))
    assert recipe.window_share(thin, (64, 64), (256, 256))[0] == 0.5
    assert recipe.sampling(CELLS)[0] == "uniform"
    assert recipe.sampling(like(CELLS, images=(1.0, 0.05)))[0] == "repeat_factor"


def test_a_network_is_as_large_as_its_budget():
    """A patch that is all of a scan; crops of pictures; more memory, more of it."""
    scans = sizing.choose(SCANS, CPU, spacing=())
    assert scans.fit == "window" and scans.net.patch == (40, 56, 40)
    assert scans.net.widths == (16, 32, 64, 128) and scans.net.stem == 1
    cells = sizing.choose(CELLS, CPU, spacing=())
    assert cells.fit == "pad" and cells.net.stem == 2 and cells.net.patch == (256, 256)
    for found in (like(SCANS, examples=9000), like(CELLS, size=(2000, 2000))):
        nets = [sizing.choose(found, Budget(15, 2, gb), spacing=()).net for gb in (2, 8, 40)]
        seen = [net.batch * np.prod(net.patch) for net in nets]
        assert seen[0] < seen[1] <= seen[2] and nets[2].memory() <= 0.85 * 40e9
    assert sizing.fits(cells.net, CPU) and not sizing.fits(cells.net, Budget(15, 1))


def test_images_of_one_scale_keep_it_and_huge_ones_do_not():
    differ = like(CELLS, smallest=(200, 256), largest=(520, 696))
    assert sizing.choose(differ, CPU, spacing=()).fit == "window"
    huge = like(CELLS, size=(3000, 4000), width=(900.0, 200.0))
    found = sizing.choose(huge, CPU, spacing=())
    assert found.fit == "resize" and found.canvas[1] < 1000
    lines = sizing.choose(like(huge, width=(900.0, 3.1)), CPU, spacing=())
    assert min(lines.canvas) > 2 * min(found.canvas), "thin things would be lost"


def test_more_minutes_are_more_steps():
    net = sizing.choose(CELLS, CPU, spacing=()).net
    steps = [sizing.steps(net, Budget(m, 2), evaluated=1e6)[0] for m in (5, 15, 60)]
    assert steps == sorted({*steps}) and steps[1] < sizing.steps(net, Budget(15, 4), evaluated=0)[0]


class Strips:
    """Images whose upper half is dark and lower half bright, with strips three pixels wide."""

    class_names, palette = ("up", "down", "strip"), ((0, 0, 0),) * 3
    schema = core.semantic_schema(1)

    def __len__(self):
        return 20

    def __getitem__(self, index):
        label = np.zeros((64, 96), np.uint8)
        label[32:] = 1
        label[:, 10 + index : 70 + index : 20] = label[:, 11 + index : 71 + index : 20] = 2
        image = np.where(np.arange(64)[:, None] < 32, 51, 204).repeat(96, 1).astype(np.uint8)
        label[0, 0] = 255
        return Example(image=image[..., None], label=label, name=str(index))


def test_a_fingerprint_is_what_the_data_is():
    found = fingerprint.take(Strips())
    assert (found.examples, found.seen, found.size, found.same_size) == (20, 20, (64, 96), True)
    assert found.mean == (pytest.approx(0.5, abs=1e-3),) and found.std[0] == pytest.approx(0.3)
    assert found.own_scale == 1.0 and found.images == (1.0, 1.0, 1.0)
    assert sum(found.share) == pytest.approx(1, abs=2e-3) and found.share[2] == pytest.approx(
        1 / 16, rel=0.01
    )
    assert found.width[2] == pytest.approx(2.0)
    assert found.place[0][0] == pytest.approx(0.25, abs=0.01)
    assert found.place[1][0] == pytest.approx(0.75, abs=0.01) and found.spread[0][0] < 0.01
    assert recipe.mirrored(found)[0] == (False, True)
