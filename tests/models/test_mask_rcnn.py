"""Mask R-CNN keeps what every model keeps, and trains on any number of objects.

Its numbers beside torchvision's are in tests/outside.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from segjax.costs import hlo
from segjax.encoders import resnet
from segjax.errors import ConfigError
from segjax.models import mask_rcnn
from segjax.pretrained import convert, detectron2, torchvision
from segjax.tasks import instance
from tests import parity
from tests.models import contract
from tests.pretrained import names

N, THINGS = 10, (1, 3)
SMALL = {
    "width": 8, "box_width": 16, "proposals_before": (30, 20), "proposals": (24, 16),
    "rpn_samples": 32, "box_samples": 16, "candidates": 40, "detections": 6,
    "anchor_sizes": (8, 16, 32, 64, 128),
}  # fmt: skip
SECOND = {"norm": "batch", "rpn_convs": 2, "box_convs": 4, "box_layers": 1}
DETECTRON = {"rounded_anchors": False, "sampling": 0, "aligned": True}
TASK = instance.Task(num_classes=4, things=THINGS)


def published(**fields):
    """Return the network of 90 classes that torchvision publishes."""
    return mask_rcnn.Model(num_classes=90, encoder={"type": "resnet", "depth": 50}, **fields)


def published_shapes(network):
    """Return the shapes of a network's variables."""
    image = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    return jax.eval_shape(lambda x: network.init(jax.random.key(0), x, train=False), image)


def section_of(network):
    """Return what the tables of names ask of a section."""
    keys = ("encoder", "box_convs", "box_layers", "box_cells", "mask_convs")
    return {key: getattr(network, key) for key in keys}


def model(**fields):
    """Return a small network."""
    encoder = {"type": "resnet", "depth": 18, "width": 4}
    return mask_rcnn.Model(num_classes=2, **{"encoder": encoder, **SMALL, **fields})


@pytest.fixture(autouse=True)
def short(monkeypatch):
    """Leave one block a stage in ResNet-18."""
    monkeypatch.setitem(resnet.BLOCKS, 18, (1, 1, 1, 1))


def batch(objects, *, size=(64, 64), dtype=np.float32):
    """Return images with so many objects each, at most 3."""
    rng = np.random.default_rng(0)
    masks = np.zeros((len(objects), *size, N), bool)
    classes = np.full((len(objects), N), -1, np.int32)
    for i, number in enumerate(objects):
        for j in range(number):
            masks[i, 4 + 20 * j : 22 + 16 * j, 6 + 10 * j : 40 + 6 * j, j] = True
            classes[i, j] = THINGS[j % 2]
    return {
        "image": jnp.asarray(rng.normal(size=(len(objects), *size, 3)), dtype),
        "object_masks": jnp.asarray(np.packbits(masks, axis=-1, bitorder="little")),
        "object_classes": jnp.asarray(classes),
        "object_crowd": jnp.zeros(classes.shape, bool),
        "index": jnp.arange(len(objects), dtype=jnp.int32),
    }


def objective(network, params, held, batch, key):
    """Return the loss, its terms and what was drawn."""
    inputs = TASK.inputs(batch, key, jnp.zeros((), jnp.int32))
    outputs, _ = network.apply(
        {**held, "params": params}, batch["image"], train=True, mutable=["batch_stats"], **inputs
    )
    with jax.numpy_dtype_promotion("standard"):
        terms = TASK.loss(outputs, batch, key)
        means = {name: term.mean({}) for name, term in terms.items()}
        return sum(means.values()), (means, outputs.regions)


def compiled(network):
    """Return the gradient of `objective`: `(variables, batch, key)`."""

    def gradient(variables, batch, key):
        held = {"batch_stats": variables["batch_stats"]}
        function = functools.partial(objective, network)
        return jax.grad(function, has_aux=True)(variables["params"], held, batch, key)

    return jax.jit(gradient, compiler_options={"xla_backend_optimization_level": 0})


def variables_of(network):
    """Return made-up variables, in the parameters' dtype."""
    shapes = published_shapes(network)
    rng = np.random.default_rng(1)

    def value(path, leaf):
        if path[-1].key in ("scale", "var"):
            return jnp.asarray(rng.uniform(0.5, 1.5, leaf.shape), leaf.dtype)
        spread = np.prod(leaf.shape[:-1]) ** -0.5 if leaf.ndim > 1 else 0.1
        return jnp.asarray(spread * rng.normal(size=leaf.shape), leaf.dtype)

    return jax.tree.map_with_path(value, shapes)


def shapes(network, size, dtype=jnp.float32):
    """Return the shapes of what is trained on, of what is found, and of the variables."""
    images = batch((1, 2), size=size)
    inputs = TASK.inputs(images, jax.random.key(0), jnp.zeros((), jnp.int32))

    def run(image, targets):
        key = jax.random.key(0)
        found, variables = network.init_with_output(key, image, train=False)
        options = {"train": True, "targets": targets, "mutable": ["batch_stats"]}
        return network.apply(variables, image, **options)[0], found, variables

    return jax.eval_shape(run, images["image"].astype(dtype), inputs["targets"])


@pytest.mark.parametrize(
    ("size", "form"),
    [*((size, {}) for size in contract.SIZES), (contract.ODD, SECOND), (contract.ODD, DETECTRON)],
)
def test_images_of_any_size_have_the_same_number_of_objects(size, form):
    trained, found, _ = shapes(model(**form), size)
    assert trained.regions.boxes.shape == (2, 16, 4) and trained.class_logits.shape == (2, 16, 3)
    assert trained.mask_logits.shape == (2, 4, 28, 28, 2)
    assert trained.objectness.shape == trained.anchor_state.shape
    assert trained.anchors.shape[:1] == trained.objectness.shape[1:]
    assert found.boxes.shape == (2, 6, 4) and found.masks.shape == (2, 6, 28, 28)


@pytest.mark.parametrize(
    ("compute_dtype", "param_dtype"), [("float32", "bfloat16"), ("bfloat16", "float32")]
)
def test_dtypes_are_those_of_the_config(compute_dtype, param_dtype):
    """Coordinates, logits and statistics are in float32 whatever computes them."""
    network = model(**SECOND, compute_dtype=compute_dtype, param_dtype=param_dtype)
    trained, found, variables = shapes(network, (64, 64))
    assert {leaf.dtype.name for leaf in jax.tree.leaves(variables["params"])} == {param_dtype}
    rest = jax.tree.leaves((trained, found, variables["batch_stats"]))
    floats = {leaf.dtype.name for leaf in rest if jnp.issubdtype(leaf.dtype, jnp.floating)}
    assert floats == {"float32"}


@pytest.mark.parametrize(
    ("shape", "fields", "message"),
    [
        ((1, 64, 3), {}, "has 1 spatial axes, expected 2"),
        ((1, 33, 34, 35, 3), {}, "has 3 spatial axes, expected 2"),
        ((1, 64, 31, 3), {}, "64 x 31 pixels, expected at least 32"),
        ((1, 64, 64, 3), {"encoder": {"type": "resnet", "output_stride": 16}}, "strides"),
        ((1, 64, 64, 3), {"encoder": {"type": "resnet", "stages": 4}}, "strides"),
        ((1, 64, 64, 3), {"proposals": (10,)}, "proposals"),
        ((1, 64, 64, 3), {"box_overlaps": (0.6, 0.5)}, "box_overlaps"),
    ],
)
def test_what_cannot_be_is_refused(shape, fields, message):
    image = jax.ShapeDtypeStruct(shape, jnp.float32)
    with pytest.raises(ConfigError, match=message):
        jax.eval_shape(lambda x: model(**fields).init(jax.random.key(0), x, train=False), image)


def test_training_without_objects_to_learn_is_refused():
    image = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    with pytest.raises(ConfigError, match="task.type='instance'"):
        jax.eval_shape(lambda x: model().init(jax.random.key(0), x, train=True), image)


def test_any_number_of_objects_trains_in_one_program():
    """With none in a batch, boxes and masks have no loss; with none in an image, it adds nothing.

    What is drawn of an example depends on its position and the step's key alone, not on its row.
    """
    network = model()
    variables, step = variables_of(network), compiled(network)
    found = {
        objects: step(variables, batch(objects), jax.random.key(0))
        for objects in ((0, 0), (0, 3), (2, 1))
    }
    assert step._cache_size() == 1
    for objects, (gradient, (means, regions)) in found.items():
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((gradient, means)))
        for name in ("anchors", "boxes", "masks"):
            assert (means[name] > 0) == (sum(objects) > 0), name
        assert means["objectness"] > 0 and means["classes"] > 0
        assert [bool(x) for x in regions.positive.any(-1)] == [n > 0 for n in objects]
        for name in ("mask_score", "mask_conv0", "box_offsets"):
            moved = any(np.any(leaf) for leaf in jax.tree.leaves(gradient[name]))
            assert moved == (sum(objects) > 0), name
    other = {**batch((2, 1)), "index": jnp.asarray([7, 1], jnp.int32)}
    drawn = found[2, 1][1][1].boxes
    moved = step(variables, other, jax.random.key(0))[1][1].boxes
    np.testing.assert_array_equal(moved[1], drawn[1])
    assert (moved[0] != drawn[0]).any()
    crowd = {**batch((0, 3)), "object_crowd": jnp.ones((2, N), bool)}
    means, regions = step(variables, crowd, jax.random.key(0))[1]
    assert not regions.positive.any() and means["masks"] == 0 and means["anchors"] == 0


@pytest.mark.slow
@pytest.mark.parametrize("form", [{}, SECOND, DETECTRON], ids=["first", "second", "detectron2"])
def test_gradient_reaches_every_parameter(form, float64):
    """Where all anchors and regions are drawn, and a small overlap makes one an object's."""
    every = {"rpn_samples": 4000, "box_samples": 40, "rpn_overlaps": (0.05, 0.1)}
    network = model(**form, **every, box_overlaps=(0.1, 0.1), **contract.DOUBLE)
    variables = variables_of(network)
    gradient, _ = compiled(network)(variables, batch((3, 2), dtype=np.float64), jax.random.key(0))
    assert not contract.out_of_reach(gradient)


@pytest.mark.slow
def test_remat_changes_no_gradient(float64):
    images, key = batch((3, 2), dtype=np.float64), jax.random.key(0)
    plain, full = model(**contract.DOUBLE), model(**contract.DOUBLE, remat="full")
    variables = variables_of(plain)
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-12),
        compiled(plain)(variables, images, key)[0],
        compiled(full)(variables, images, key)[0],
    )


@pytest.mark.slow
def test_objects_do_not_depend_on_the_rest_of_the_batch(float64):
    network = model(**contract.DOUBLE, score_threshold=0.01)
    variables, image = variables_of(network), contract.images(3, 3)
    find = jax.jit(functools.partial(network.apply, train=False))
    together, alone = find(variables, image), find(variables, image[1:2])
    assert (alone.scores > 0).sum() > 2
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a[0], b[1], rtol=1e-9, atol=1e-12), alone, together
    )
    padded = find(variables, image.at[2].set(np.nan))
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[:2], b[:2]), padded, together)


@pytest.mark.slow
@pytest.mark.parametrize("form", [{}, SECOND], ids=["first", "second"])
def test_eight_devices_sum_gradients_and_gather_nothing(form):
    """Gradients, batch norm's statistics, counts, and whether suppression goes on.

    The gradients of layers that all five levels share are summed for each level.
    """
    network = model(**form)
    mesh = Mesh(np.asarray(jax.devices()).reshape(8), ("data",))
    whole, split = NamedSharding(mesh, P()), NamedSharding(mesh, P("data"))

    def placed(tree, place):
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), tree)

    variables = variables_of(network)
    arguments = placed((variables,), whole) + placed((batch((1,) * 16),), split)
    key = placed(jax.random.key(0), whole)
    training = compiled(network).lower(*arguments, key).compile().as_text()
    finding = jax.jit(functools.partial(network.apply, train=False))
    predicting = finding.lower(arguments[0], arguments[1]["image"]).compile().as_text()
    for text in (training, predicting):
        assert not hlo.host_calls(text)
        found = hlo.collectives_of(text)
        assert contract.kinds(found) == {"all-reduce"}
        numbers, shared = (
            sum(leaf.size for leaf in jax.tree.leaves(tree))
            for tree in (variables, {k: x for k, x in variables["params"].items() if "rpn" in k})
        )
        assert hlo.bytes_by_kind(found)["all-reduce"] / 4 <= numbers + 4 * shared + 64


FORMS = {"torchvision-maskrcnn_resnet50_fpn": {}, "torchvision-maskrcnn_resnet50_fpn_v2": SECOND}
UNUSED = 4 * 1025 + 257
"""Numbers of torchvision's that nobody reads: the box and the mask of what is no object."""


@pytest.fixture
def whole(short, monkeypatch):
    """Leave ResNet-50 as it is."""
    monkeypatch.setitem(resnet.BLOCKS, 50, (3, 4, 6, 3))


# torchvision's documented counts (91 outputs). Those of the first leave out ResNet's 53,120 scales
# and biases, which it holds.
@pytest.mark.parametrize(("form", "expected"), [({}, 44_401_393 + 53_120), (SECOND, 46_359_409)])
def test_parameters_are_those_published(form, expected, whole):
    params = published_shapes(published(**form))["params"]
    found = sum(leaf.size for leaf in jax.tree.leaves(params))
    assert found == expected - UNUSED


@pytest.mark.parametrize("name", FORMS)
def test_every_name_of_torchvision_is_used(name, whole):
    network = published(**FORMS[name])
    names.check(name, network, torchvision.mask_rcnn(section_of(network)))


@pytest.mark.parametrize("name", FORMS)
def test_names_are_torchvisions(name, whole):
    build = getattr(parity.torchvision().models.detection, name.removeprefix("torchvision-"))
    parity.record_names(build(weights=None, weights_backbone=None), name)


def test_torchvision_reads_the_names_of_its_older_file(whole):
    """It turns them into its own of today, with which the same numbers lie in the same places."""
    import torch

    build = parity.torchvision().models.detection.maskrcnn_resnet50_fpn
    network = published()
    shapes = published_shapes(network)
    rng = np.random.default_rng(0)
    made = jax.tree.map(lambda x: rng.normal(size=x.shape).astype(x.dtype), shapes)
    section = section_of(network)
    older = convert.to_torch(made, torchvision.older_mask_rcnn(section))
    today = convert.to_torch(made, torchvision.mask_rcnn(section))
    assert {"rpn.head.conv.weight", "roi_heads.mask_head.mask_fcn4.bias"} <= set(older)
    reference = build(weights=None, weights_backbone=None)
    reference.load_state_dict({name: torch.from_numpy(x.copy()) for name, x in older.items()})
    for name, value in parity.numpy_state(reference).items():
        np.testing.assert_array_equal(value, today[name])


@pytest.mark.slow
def test_names_of_detectron2(whole):
    """Some of each kind that its model zoo's `mask_rcnn_R_50_FPN` files have, with their shapes."""
    network = mask_rcnn.Model(
        num_classes=80, encoder={"type": "resnet", "stride_first": True}, **DETECTRON
    )
    shapes = published_shapes(network)
    rules = detectron2.mask_rcnn(section_of(network))
    rng = np.random.default_rng(0)
    made = jax.tree.map(lambda x: rng.normal(size=x.shape).astype(x.dtype), shapes)
    state = convert.to_torch(made, rules)
    expected = {
        "backbone.bottom_up.stem.conv1.weight": (64, 3, 7, 7),
        "backbone.bottom_up.stem.conv1.norm.running_var": (64,),
        "backbone.bottom_up.res2.0.shortcut.weight": (256, 64, 1, 1),
        "backbone.bottom_up.res4.5.conv3.norm.bias": (1024,),
        "backbone.fpn_lateral5.weight": (256, 2048, 1, 1),
        "backbone.fpn_output2.bias": (256,),
        "proposal_generator.rpn_head.conv.weight": (256, 256, 3, 3),
        "proposal_generator.rpn_head.objectness_logits.weight": (3, 256, 1, 1),
        "proposal_generator.rpn_head.anchor_deltas.bias": (12,),
        "roi_heads.box_head.fc1.weight": (1024, 12544),
        "roi_heads.box_head.fc2.bias": (1024,),
        "roi_heads.box_predictor.cls_score.weight": (81, 1024),
        "roi_heads.box_predictor.bbox_pred.weight": (320, 1024),
        "roi_heads.mask_head.mask_fcn1.weight": (256, 256, 3, 3),
        "roi_heads.mask_head.deconv.weight": (256, 256, 2, 2),
        "roi_heads.mask_head.predictor.weight": (80, 256, 1, 1),
    }
    assert {name: state[name].shape for name in expected} == expected
    back = convert.from_torch(state, shapes, rules)
    for path, leaf in convert.leaves(made):
        np.testing.assert_array_equal(back[path], leaf)
    stem = made["params"]["encoder"]["stem"]["conv"]["kernel"]
    theirs = state["backbone.bottom_up.stem.conv1.weight"]
    np.testing.assert_array_equal(theirs[:, 2], np.moveaxis(stem[:, :, 0], -1, 0))  # red is last
