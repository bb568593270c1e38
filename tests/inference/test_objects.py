"""Networks that find objects, and predictors of pixels grouped to some, for images of any size."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.assemble import parts as parts_lib
from segjax.config import schema
from segjax.data import fit, intensity, masks
from segjax.errors import ConfigError, DataError
from segjax.inference import scaling
from segjax.inference.grouping import Grouping
from segjax.inference.layout import Layout
from segjax.inference.objects import Finding, ObjectNetwork
from segjax.inference.predictor import FunctionPredictor
from segjax.runtime import sharding
from segjax.structs import Classes, Field

SCHEMA = {"image": Field("image", (1,))}


class Bright(nn.Module):
    """Return the box of what is bright, in pixels of the canvas, and how bright it is."""

    @nn.compact
    def __call__(self, image, *, train):
        bright = image[..., 0] > 0.5
        edges = []
        for axis in (1, 2):
            there = bright.any(axis=3 - axis)
            at = jnp.arange(there.shape[1])
            edges.append(jnp.where(there, at, 10**6).min(axis=1))
            edges.append(jnp.where(there, at + 1, 0).max(axis=1))
        y0, y1, x0, x1 = edges
        box = jnp.stack([y0, x0, y1, x1], axis=-1).astype(jnp.float32)
        return {"box": box, "score": image.max(axis=(1, 2, 3))}


class Boxes:
    """One object an image: the box that the model found."""

    needs, num_classes = {"label": "classes"}, 1

    def inputs(self, batch, key, step):
        return {}

    def weights(self, batch):
        return {}

    def loss(self, outputs, batch, key):
        return {}

    def find(self, outputs):
        return outputs

    def objects(self, row, covered, size):
        scale = np.tile(np.divide(size, covered), 2)
        y0, x0, y1, x1 = np.rint(np.asarray(row["box"]) * scale).astype(int)
        inside = np.zeros(size, bool)
        inside[y0:y1, x0:x1] = True
        found = masks.make([(masks.trim(inside), masks.About(1))], dims=2)
        return found._replace(scores=np.asarray(row["score"])[None])


def network(size, how, data=0, **options):
    """Return the network on eight devices, `data` of them for examples; 0: on a single one."""
    mesh = (
        sharding.make_mesh(data=data, space=8 // data)
        if data
        else jax.sharding.Mesh(np.asarray(jax.devices()[:1]).reshape(1, 1, 1), sharding.AXES)
    )
    finding = Finding(
        Bright(), Boxes(), normalize=lambda x: x.astype(jnp.float32) / 255, mesh=mesh,
        schema=SCHEMA, layout=Layout(fit.Canvas(size, how, 0), **options),
    )  # fmt: skip
    return ObjectNetwork(finding, {})


class Images:
    """Images of many sizes, each with one bright box."""

    schema = SCHEMA
    sizes = ((64, 80), (32, 40), (128, 160), (64, 64), (40, 80), (16, 20), (64, 80))

    def __len__(self):
        return len(self.sizes)

    def __getitem__(self, index):
        image = np.zeros((*self.sizes[index], 1), np.uint8)
        image[8 : 12 + index, 4 : 16 - index] = 200 + index
        return {"image": image, "name": str(index)}


def described(found):
    objects = found.objects
    return found.size, objects.boxes.tolist(), objects.scores.tolist()


@pytest.mark.parametrize(("batch_size", "data"), [(1, 0), (3, 0), (8, 8), (8, 4)])
def test_a_split_holds_what_its_images_do(batch_size, data):
    """Whatever the batch and the devices, and with two programs: of a batch and of one image."""
    predict, source = network((64, 80), "resize", data), Images()
    found = {}
    for part in predict.detect(source, batch_size=batch_size, threads=2):
        assert not set(found) & set(part.found) and not part.loss
        found |= part.found
    assert sorted(found) == list(range(len(source)))
    for number, detection in found.items():
        assert described(detection) == described(predict(source[number]["image"]))
        assert detection.size == source.sizes[number]
    assert found[0].objects.boxes.tolist() == [[8, 4, 12, 16]]
    assert predict.finding.find._cache_size() == 1
    assert predict.finding.find_for_all._cache_size() == 1


def test_boxes_lie_on_the_image_s_own_grid():
    """Scaled and padded alike: half and double the canvas, and narrower than it."""
    predict = network((64, 80), "resize")
    for number, expected in ((2, [8, 4, 14, 14]), (3, [8, 4, 15, 13])):
        (box,) = predict(Images()[number]["image"]).objects.boxes
        np.testing.assert_allclose(box, expected, atol=1)


def test_an_image_that_does_not_fit_is_named_with_what_helps():
    predict, source = network((64, 80), "pad"), Images()
    (box,) = predict(source[5]["image"]).objects.boxes
    assert box.tolist() == [8, 4, 16, 11]
    with pytest.raises(DataError, match=r"128x160 does not fit the canvas 64x80.*fit='resize'"):
        predict(source[2]["image"])
    with pytest.raises(DataError, match=r"^2: 128x160 does not fit"):
        list(predict.detect(source, batch_size=2, threads=0))


def test_images_are_seen_at_their_scale():
    """`config.input.intensity` comes before any predictor of objects."""
    steps = parts_lib.make_intensity([dict(type="window", centre=50, width=100)], 1)
    assert steps and isinstance(intensity.find_scales(steps, Images()[0]["image"]), tuple)
    seen = []

    class Looks(ObjectNetwork):
        def __call__(self, image):
            seen.append(float(image.max()))
            return super().__call__(image)

    plain = network((64, 80), "resize")
    scaling.wrap_finding(Looks(plain.finding, {}), steps)(Images()[0]["image"])
    assert seen == [1.0]
    assert scaling.wrap_finding(plain, ()) is plain


def test_pixels_are_grouped_to_objects_image_by_image():
    """The whole of a split once, each with what the image alone has."""
    pixels = FunctionPredictor(lambda image: image[..., 0] > 100, num_classes=2)

    def group(probabilities):
        inside = probabilities[..., 1] > 0.5
        return masks.make([(masks.trim(inside), masks.About(1))], dims=2)

    predict, source = Grouping(pixels, group), Images()
    found = {}
    for part in predict.detect(source, batch_size=4, threads=0):
        found |= part.found
    assert list(found) == list(range(len(source)))
    for number, one in found.items():
        assert described(one) == described(predict(source[number]["image"]))
        assert one.size == source.sizes[number]


def config_of(**task):
    config = schema.defaults()
    config.input.source = dict(type="synthetic", objects=8)
    config.input.size = (64, 64)
    config.model = dict(type="unet", widths=(8, 16))
    config.optimizer.update(type="sgd", lr=0.1, schedule=dict(type="constant"))
    losses = {"losses": [dict(type="pixel:cross_entropy", weight=1.0)]}
    config.task = losses | task if task["type"] in ("interior", "semantic") else task
    return schema.fill(config)


CLASSES = Classes(("background", "cell"), ((0, 0, 0), (255, 0, 0)), 3, (1,))


@pytest.mark.parametrize(
    ("task", "model", "changes", "said"),
    [
        ("interior", "unet", dict(postprocess=[dict(type="fill_holes")]), "finds objects"),
        ("instance", "mask_rcnn", dict(flips=[1]), "flips=.*Set it to"),
        ("instance", "mask_rcnn", dict(scales=[1.0, 2.0]), "scales=.*Set it to"),
        ("instance", "unet", {}, "takes boxes from a model, and 'unet' gives logits"),
        ("semantic", "mask_rcnn", {}, "takes logits from a model, and 'mask_rcnn' gives boxes"),
    ],
)
def test_what_does_not_go_together_is_refused(task, model, changes, said):
    config = config_of(type=task)
    if model == "mask_rcnn":
        config["model"] = dict(type="mask_rcnn", encoder=dict(type="resnet", depth=18))
    config["inference"] |= changes
    with pytest.raises(ConfigError, match=said):
        parts_lib.make_parts(config, CLASSES)


def test_a_model_has_as_many_answers_as_its_task_asks_for():
    """Objects of one class: an interior, a boundary and the background; a detector has the one."""
    assert parts_lib.make_parts(config_of(type="interior"), CLASSES).model.num_classes == 3
    config = config_of(type="instance")
    config["model"] = dict(type="mask_rcnn", encoder=dict(type="resnet", depth=18))
    assert parts_lib.make_parts(config, CLASSES).model.num_classes == 1
