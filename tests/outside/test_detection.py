"""Our detectors' parts, and Mask R-CNN as a whole, give what torchvision's own code gave."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.encoders import resnet
from segjax.layers import boxes as boxes_lib
from segjax.layers import matching, nms, paste, roi_align
from segjax.layers.objects import Targets
from segjax.models import mask_rcnn
from segjax.pretrained import convert, detectron2, torchvision
from segjax.tasks import instance
from segjax.training import freeze
from tests import parity
from tests.golden.outside import of_detection, of_torchvision
from tests.outside import recorded

COMPARED: set[str] = set()
"""The cases that this file compares."""


def each(kind: str) -> pytest.MarkDecorator:
    """Run a test for each recorded case of a kind, that before the first hyphen."""
    cases = recorded.load("detection")[1]
    names = [f"detection-{name}" for name in cases if name.split("-")[0] == kind]
    COMPARED.update(names)
    return pytest.mark.parametrize("name", names)


@pytest.fixture(autouse=True)
def double(float64):
    """Compute in float64."""


def close(ours: Any, theirs: Any, tolerance: float = 1e-10) -> None:
    """Compare to that tolerance, relative and absolute."""
    np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance)


def arrays_of(name: str) -> dict[str, jax.Array]:
    """Return the arrays of a case."""
    return {key: jnp.asarray(x) for key, x in recorded.case(name).arrays.items()}


@each("coding")
def test_offsets_and_overlaps(name):
    """Of sides that would grow without bound too."""
    a, weights = arrays_of(name), tuple(recorded.case(name).about["weights"])
    close(boxes_lib.encode(a["boxes"], a["around"], weights=weights), a["encoded"])
    close(boxes_lib.decode(a["offsets"], a["around"], weights=weights), a["decoded"])
    close(boxes_lib.iou(a["boxes"], a["around"]), a["overlaps"])


@each("suppression")
def test_suppression(name):
    """Greedy suppression, among all boxes and among those of a class."""
    a = arrays_of(name)
    valid = jnp.ones(len(a["boxes"]), bool)
    one = jax.jit(functools.partial(nms.survivors, threshold=0.5))(a["boxes"], valid)
    np.testing.assert_array_equal(np.flatnonzero(one), a["one"])
    many = nms.survivors(a["boxes"], valid, threshold=0.3, groups=a["groups"])
    np.testing.assert_array_equal(np.flatnonzero(many), a["many"])
    assert all(5 < len(a[key]) < len(valid) for key in ("one", "many"))


@each("pool")
def test_features_of_boxes_and_their_gradient(name, monkeypatch):
    a, about = arrays_of(name), dict(recorded.case(name).about)
    monkeypatch.setattr(roi_align, "CANONICAL_SIDE", about.pop("canonical"))
    levels = [a[f"x{i}"] for i in range(len(about["strides"]))]
    pool = functools.partial(roi_align.pool, boxes=a["boxes"], **about)
    y, pull = jax.vjp(jax.jit(pool), levels)
    close(y.reshape(a["y"].shape), a["y"])
    for i, gradient in enumerate(pull(a["slope"].reshape(y.shape))[0]):
        close(gradient, a[f"dx{i}"])
    read = [i for i in range(len(levels)) if np.abs(a[f"dx{i}"]).max() > 0]
    assert len(read) >= min(3, len(levels))


@each("crop")
def test_masks_on_boxes(name):
    a = arrays_of(name)
    packed = np.packbits(np.moveaxis(np.asarray(a["masks"]), 0, -1), axis=-1, bitorder="little")
    found = roi_align.masks(jnp.asarray(packed), a["objects"], a["boxes"], cells=7)
    close(found, a["y"])


@each("paste")
def test_masks_on_the_image(name):
    a, size = recorded.case(name).arrays, tuple(recorded.case(name).about["size"])
    inside = np.unpackbits(a["inside"]).reshape(-1, *size).astype(bool)
    for mask, box, theirs in zip(a["masks"], a["boxes"], inside, strict=True):
        (y, x), found = paste.paste(mask, box, size)
        ours = np.zeros(size, bool)
        ours[y : y + len(found), x : x + found.shape[1]] = found
        np.testing.assert_array_equal(ours, theirs)


@each("match")
def test_matches(name):
    a, about = arrays_of(name), recorded.case(name).about
    there = jnp.ones(len(a["quality"]), bool)
    found = matching.match(a["quality"], there, **about)
    np.testing.assert_array_equal(found.state == matching.NEGATIVE, a["found"] == -1)
    np.testing.assert_array_equal(found.state == matching.NEITHER, a["found"] == -2)
    positive = a["found"] >= 0
    np.testing.assert_array_equal(found.objects[positive], a["found"][positive])


DOUBLE = {"compute_dtype": "float64", "param_dtype": "float64"}
SMALL = {
    "num_classes": of_detection.CLASSES,
    "width": of_detection.WIDTH,
    "box_width": of_detection.LAYER,
    "anchor_sizes": of_detection.ANCHORS,
    "rpn_overlaps": (0.3, 0.5),
    "proposals_before": (40, 30),
    "proposals": (25, 20),
    "rpn_samples": 4000,
    "box_samples": 200,
    "detections": 10,
}
FORMS = {
    "first": {},
    "second": {"norm": "batch", "rpn_convs": 2, "box_convs": 4, "box_layers": 1},
    "detectron2": {"rounded_anchors": False, "sampling": 0, "aligned": True},
}


def prepare(name: str, monkeypatch: Any) -> tuple[Any, Any, list[convert.Rule]]:
    """Return our network, its variables with the case's weights, and the names of their file."""
    monkeypatch.setitem(resnet.BLOCKS, 50, of_torchvision.BLOCKS[50])
    encoder = {"type": "resnet", "depth": 50, "width": of_torchvision.WIDTH}
    form = name.rpartition("-")[2]
    encoder |= {"stride_first": True} if form == "detectron2" else {}
    module = mask_rcnn.Model(encoder=encoder, **SMALL, **FORMS[form], **DOUBLE)
    keys = ("box_convs", "box_layers", "box_cells", "mask_convs")
    section = {"encoder": encoder} | {key: getattr(module, key) for key in keys}
    rules = (detectron2 if form == "detectron2" else torchvision).mask_rcnn(section)
    state = recorded.weights(recorded.case(name).about["state"])
    return module, parity.variables_of(module, state, rules), rules


@each("mask_rcnn")
def test_what_is_proposed_and_found(name, monkeypatch):
    """By torchvision's code; and by what detectron2's is described as, by the names of its files:

    blue first, the stride in the first convolution, anchors at the strides, the background last,
    cells' centres at 0.5 and as many samples as cells are long.
    """
    case = recorded.case(name)
    module, variables, _ = prepare(name, monkeypatch)
    seen = {}
    propose = mask_rcnn.detection.propose

    def noted(*of, **options):
        seen["proposals"] = propose(*of, **options)
        return seen["proposals"]

    monkeypatch.setattr(mask_rcnn.detection, "propose", noted)

    @recorded.compiled
    def forward(variables, x):
        return module.apply(variables, x, train=False), seen["proposals"]

    found, proposals = forward(variables, jnp.asarray(recorded.image(case.about["size"])))
    a, there = case.arrays, np.asarray(found.scores[0]) > 0
    close(proposals.boxes[0][proposals.valid[0]], a["proposals"], 1e-8)
    assert there.sum() == len(a["scores"]) > 5
    close(found.scores[0][there], a["scores"], 1e-8)
    close(found.boxes[0][there], a["boxes"], 1e-8)
    np.testing.assert_array_equal(found.classes[0][there], a["classes"])
    close(found.masks[0][there][:, ::3, ::3], a["masks"], 1e-8)


@each("mask_rcnn_losses")
def test_losses_and_gradients(name, monkeypatch):
    """Of two images with several objects, all anchors and regions; norms keep their statistics."""
    case = recorded.case(name)
    module, variables, rules = prepare(name, monkeypatch)
    held = freeze.frozen(module, [".*/norm/.*"])
    image = recorded.image(case.about["size"])
    images = jnp.asarray(np.concatenate([image, image * -0.5]))
    batch, targets = truth()

    @recorded.compiled
    def gradient(params):
        def total(params):
            outputs, _ = held.apply(
                {**variables, "params": params}, images, train=True, targets=targets,
                mutable=["batch_stats"],
            )  # fmt: skip
            task = instance.Task(num_classes=4, things=(0, 1, 2))
            terms = task.loss(outputs, batch, jax.random.key(0))
            means = {name: term.mean({}) for name, term in terms.items()}
            return sum(means.values()), means

        return jax.grad(total, has_aux=True)(params)

    gradients, means = gradient(variables["params"])
    theirs = {
        "objectness": "loss_objectness", "anchors": "loss_rpn_box_reg",
        "classes": "loss_classifier", "boxes": "loss_box_reg", "masks": "loss_mask",
    }  # fmt: skip
    for ours, name in theirs.items():
        close(means[ours], case.arrays[name], 1e-7)
    found = convert.to_torch({"params": gradients}, rules)
    names = case.about["names"]
    trained = [i for i, name in enumerate(names) if np.abs(found[name]).max() > 0]
    places = convert.places({"params": gradients}, rules)
    norms = {place.name for path, place in places.items() if "/norm/" in path}
    assert {names[i] for i in trained} == set(names) - norms
    projections = recorded.projections({names[i]: found[names[i]] for i in trained})
    expected = case.arrays["projections"][trained]
    assert (np.abs(projections - expected) <= 1e-6 * expected[:, 1:]).all()


def truth() -> tuple[dict[str, Any], Targets]:
    """Return the objects of both images, as a batch has them and as a model trains on them."""
    n, made = 5, of_detection.truth()
    masks = np.zeros((2, *of_detection.SIZE, n), bool)
    classes = np.full((2, n), -1, np.int32)
    for i, one in enumerate(made):
        count = len(one["masks"])
        masks[i, ..., :count] = np.moveaxis(one["masks"], 0, -1)
        classes[i, :count] = one["classes"]
    batch = {
        "object_masks": jnp.asarray(np.packbits(masks, axis=-1, bitorder="little")),
        "object_classes": jnp.asarray(classes),
        "object_crowd": jnp.zeros((2, n), bool),
        "index": jnp.arange(2, dtype=jnp.int32),
    }
    task = instance.Task(num_classes=4, things=(0, 1, 2))
    return batch, task.inputs(batch, jax.random.key(0), jnp.asarray(0))["targets"]
