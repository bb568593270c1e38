"""A run starts from weights that are there: which leaves, which are new, what is said."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from configs import quickstart
from segjax.assemble import parts as assemble
from segjax.config import lookup, sections
from segjax.errors import ConfigError, DataError, UserError
from segjax.export import weights
from segjax.pretrained import convert, tables, torchvision
from segjax.runs import log, train, transfer
from segjax.runs.run import open_run
from segjax.runtime import sharding
from segjax.structs import Classes
from segjax.training import state
from tests.pretrained import pth

ENCODER = {"type": "resnet", "depth": 18, "width": 4, "stages": 3}
MODEL = {
    "type": "deeplabv3plus", "encoder": ENCODER, "rates": (1,), "width": 8, "low_width": 4,
    "fuse_convs": 1,
}  # fmt: skip
HELD = r"encoder/(stem|layer1_\d)/.*"


def build(*, num_classes=5, **fields):
    return lookup.build("models", MODEL | fields, where="config.model", num_classes=num_classes)


def image(channels=3):
    return jax.ShapeDtypeStruct((1, 48, 48, channels), jnp.float32)


def made_up(module, seed=0, channels=3):
    """Return variables of noise, as NumPy."""
    random = np.random.default_rng(seed)
    shapes = tables.variable_shapes(module, image(channels))
    return jax.tree.map(lambda x: random.uniform(0.5, 1.5, x.shape).astype(x.dtype), shapes)


def encoder_state(variables):
    """Return the encoder as torchvision names it."""
    rules = convert.nested(torchvision.resnet(ENCODER), "encoder", "")
    return convert.to_torch(tables.part_of(variables, "encoder"), rules)


def load(options, *, num_classes=5, channels=3, **fields):
    section = MODEL | fields | {"pretrained": options}
    return transfer.load(section, build(num_classes=num_classes, **fields), image(channels))


def ours(variables):
    return dict(convert.leaves(variables))


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """Fine-tune DeepLabv3+ on a ResNet for two steps from a file that PyTorch might have written.

    Its stem and first stage are held, the rest of the encoder has a rate of 0. Returns the folder,
    the config, the file's variables and what the log said.
    """
    root = tmp_path_factory.mktemp("tuned")
    variables = made_up(build())
    names = encoder_state(variables) | {"fc.weight": np.ones((2, 3), np.float32)}
    pth.write(root / "resnet.pth", {"state_dict": {f"module.{k}": v for k, v in names.items()}})
    config = sections.plain(quickstart.get_config("debug"))
    options = {"weights": str(root / "resnet.pth"), "publisher": "torchvision"}
    config |= {"model": MODEL | {"pretrained": options}, "ema_decay": 0.5}
    config |= {"mesh": {"data": 2, "fsdp": 4, "space": 1}}
    config["checkpoint"] |= {"keep_best": "", "save_percent": 100}
    config["optimizer"] |= {"freeze": [HELD], "lr_factors": [["encoder/.*", 0.0], ["low/.*", 0.5]]}
    said = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(log.Log, "message", lambda _, text: said.append(text))
        assert train.run(root / "run", config) == 0
    return root, config, variables, said


def checkpoint(path, step):
    with ocp.CheckpointManager(path / "checkpoints") as manager:
        return manager.restore(step, args=ocp.args.PyTreeRestore())


@pytest.mark.slow
def test_fine_tuning_moves_what_is_not_held(tuned):
    root, _, variables, said = tuned
    line = next(text for text in said if text.startswith("pretrained"))
    count = len(ours(tables.part_of(variables, "encoder")))
    assert f"encoder: loaded {count} of {count} leaves" in line
    assert "not used: 1 of its arrays (fc.weight)" in line
    saved, file = checkpoint(root / "run", 2), ours(variables)
    for kind in ("params", "batch_stats"):
        for tree in (saved, saved["ema"]):
            for path, leaf in ours({kind: tree[kind]}).items():
                same = path in file and np.array_equal(leaf, file[path])
                held = path.startswith(("encoder/stem", "encoder/layer1"))
                assert same == (held or (path.startswith("encoder") and kind == "params")), path
    moments = [
        jax.tree_util.keystr(path) for path, _ in jax.tree.leaves_with_path(saved["opt_state"])
    ]
    assert any("layer2_0" in path for path in moments)
    assert not any("stem" in path or "layer1" in path for path in moments)


@pytest.mark.slow
def test_the_file_is_read_before_the_first_step_only(tuned, monkeypatch):
    root, config, *_ = tuned
    monkeypatch.setattr(transfer, "load", lambda *_, **__: pytest.fail("read again"))
    assert train.run(root / "run", config) == 0


def test_what_is_wrong_is_said_before_anything_is_written(tmp_path, tiny_config):
    config = tiny_config()
    options = {"weights": str(tmp_path / "no.pth"), "publisher": "torchvision"}
    config["model"] = MODEL | {"pretrained": options}
    with pytest.raises(DataError, match="no such file"):
        train.run(tmp_path / "new", config)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("prefix", ["", "backbone.", "state_dict.module.encoder."])
def test_an_encoder_out_of_any_file(tmp_path, prefix):
    variables = made_up(build())
    state_dict = {f"{prefix}{name}": x for name, x in encoder_state(variables).items()}
    state_dict["classifier.0.weight"] = np.zeros((3, 3), np.float32)
    weights.save(tmp_path / "x.safetensors", state_dict, about={})
    options = {"weights": str(tmp_path / "x.safetensors"), "publisher": "timm"}
    loaded = load(options)
    expected = ours(tables.part_of(variables, "encoder"))
    assert set(loaded.leaves) == set(expected)
    for path, leaf in loaded.leaves.items():
        np.testing.assert_array_equal(leaf, expected[path])


def test_a_file_that_holds_the_network_twice_needs_a_prefix(tmp_path):
    one, other = (encoder_state(made_up(build(), seed)) for seed in (1, 2))
    pth.write(tmp_path / "x.pth", {"state_dict": one, "state_dict_ema": other})
    options = {"weights": str(tmp_path / "x.pth"), "publisher": "torchvision"}
    with pytest.raises(DataError, match="2 times, below 'state_dict.', 'state_dict_ema.'"):
        load(options)
    loaded = load(options | {"prefix": "state_dict_ema."})
    expected = ours(made_up(build(), 2))
    path = "encoder/stem/norm/mean"
    np.testing.assert_array_equal(loaded.leaves[path], expected[path])


@pytest.mark.parametrize("channels", [1, 6])
def test_a_stem_takes_other_channels(tmp_path, channels):
    """A constant image gets the same response; one channel is a grey image, repeated."""
    variables = made_up(build())
    pth.write(tmp_path / "x.pth", encoder_state(variables))
    options = {"weights": str(tmp_path / "x.pth"), "publisher": "torchvision"}
    kernel = load(options, channels=channels).leaves["encoder/stem/conv/kernel"]
    before = ours(variables)["encoder/stem/conv/kernel"]
    assert kernel.shape[-2] == channels
    np.testing.assert_allclose(kernel.sum(-2), before.sum(-2), rtol=1e-5)


def saved_model(path, *, num_classes=5):
    variables = made_up(build(num_classes=num_classes))
    weights.save(path, ours(variables), about={})
    return ours(variables)


def test_heads_are_new_where_classes_differ(tmp_path):
    there = saved_model(tmp_path / "x.safetensors")
    options = {"weights": str(tmp_path / "x.safetensors"), "publisher": "segjax", "part": "model"}
    same = load(options)
    assert set(same.leaves) == set(there) and "re-initialised" not in same.message
    other = load(options, num_classes=7)
    assert set(there) - set(other.leaves) == {"head/bias", "head/kernel"}
    count = len(there)
    assert f"loaded {count - 2} of {count} leaves" in other.message
    assert "re-initialised 2 for other classes: head/bias, head/kernel" in other.message


@pytest.mark.parametrize("classes", [3, 4])
def test_only_heads_may_have_another_shape(tmp_path, classes):
    """Four classes are as many as the low features' channels: only the head's axis is free."""
    saved_model(tmp_path / "x.safetensors", num_classes=classes)
    options = {"weights": str(tmp_path / "x.safetensors"), "publisher": "segjax", "part": "model"}
    with pytest.raises(DataError, match="low/.*expected shape"):
        load(options, low_width=5)
    with pytest.raises(DataError, match="head/kernel: expected shape|expected shape"):
        load(options, width=9)


def test_a_leaf_that_is_not_there_is_an_error(tmp_path):
    state_dict = encoder_state(made_up(build()))
    del state_dict["layer2.1.bn2.running_var"]
    pth.write(tmp_path / "x.pth", state_dict)
    options = {"weights": str(tmp_path / "x.pth"), "publisher": "torchvision"}
    with pytest.raises(DataError, match=r"layer2_1/conv2/norm/var: expected 'layer2.1.bn2.run"):
        load(options)
    with pytest.raises(DataError, match="encoder/layer1_0/conv3"):
        load(options, encoder=ENCODER | {"depth": 50})
    with pytest.raises(DataError, match=r"expected shape \(8,\), got \(4,\)"):
        load(options, encoder=ENCODER | {"width": 8})


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"wieghts": "x"}, "takes no 'wieghts'. Did you mean 'weights'"),
        ({"publisher": "timm"}, "needs weights"),
        ({"weights": "x", "publisher": "torchhub"}, "publisher='torchhub': expected ''"),
        ({"weights": 5}, "weights=5: expected a string"),
        ({"weights": "x", "part": "decoder"}, "part='decoder': expected 'encoder' or 'model'"),
        ({"weights": "x.pth"}, "needs 'publisher'"),
        ({"weights": "torchvision:resnet19"}, "Did you mean 'resnet18'"),
        ({"weights": ".", "publisher": "timm"}, "publisher of a workdir='timm'"),
    ],
)
def test_wrong_sections_are_errors(options, said):
    with pytest.raises(ConfigError, match=said):
        load(options)


def test_a_network_that_nobody_published_is_said(tmp_path):
    (tmp_path / "x.pth").write_bytes(b"")
    section = {"type": "unet", "widths": (4, 6)}
    options = {"weights": str(tmp_path / "x.pth"), "publisher": "torchvision"}
    module = lookup.build("models", section, where="config.model", num_classes=3)
    with pytest.raises(ConfigError, match="has no encoder. Use part='model'"):
        transfer.load(section | {"pretrained": options}, module, image())
    pth.write(tmp_path / "x.pth", {"a": np.ones(2, np.float32)})
    options["part"] = "model"
    with pytest.raises(ConfigError, match="publishes no model like this one.*models deeplabv3"):
        transfer.load(section | {"pretrained": options}, module, image())


def test_put_keeps_the_placement_and_shares_no_memory():
    mesh = sharding.make_mesh(data=2, fsdp=4)
    kernel = np.arange(32, dtype=np.float32).reshape(4, 8)
    params = {"a": {"kernel": jnp.zeros((4, 8)), "bias": jnp.ones(8)}}
    average = {"params": params, "batch_stats": {}}
    before = state.TrainState(jnp.zeros((), jnp.int32), params, {}, (), average)
    placement = sharding.infer(jax.eval_shape(lambda: before), mesh)
    before = jax.jit(lambda: before, out_shardings=placement)()
    after = state.replace_variables(before, {"a/kernel": kernel})
    assert jax.tree.map(lambda x: x.sharding, after) == placement
    for tree in (after.params, after.ema["params"]):
        np.testing.assert_array_equal(tree["a"]["kernel"], kernel)
        np.testing.assert_array_equal(tree["a"]["bias"], np.ones(8))
    donated = jax.jit(lambda s: jax.tree.map(lambda x: x + 1, s), donate_argnums=0)(after)
    np.testing.assert_array_equal(donated.ema["params"]["a"]["kernel"], kernel + 1)
    assert kernel[0, 0] == 0 and kernel[-1, -1] == 31


@pytest.mark.slow
def test_from_another_run(tuned, tmp_path):
    """Its averaged encoder, and its whole self for other classes; the same from its export."""
    root, config, *_ = tuned
    saved = ours(checkpoint(root / "run", 2)["ema"])
    for source in ("run", "run@2", "run@latest"):
        encoder = load({"weights": str(root / source)}, channels=1)
        assert set(encoder.leaves) == {path for path in saved if path.startswith("encoder/")}
        assert "run, step 2" in encoder.message
    path = "encoder/stem/conv/kernel"
    np.testing.assert_allclose(encoder.leaves[path][..., 0, :], saved[path].sum(-2), rtol=1e-6)
    whole = load({"weights": str(root / "run"), "part": "model"}, num_classes=3)
    assert set(saved) - set(whole.leaves) == {"head/bias", "head/kernel"}
    with pytest.raises(UserError, match=r"\[2\]"):
        load({"weights": str(root / "run@7")})
    output = tmp_path / "x.safetensors"
    weights.write(open_run(root / "run"), output, publisher="segjax")
    options = {"weights": str(output), "publisher": "segjax", "part": "model"}
    classes = json.loads((root / "run" / "config.json").read_text())["resolved"]["class_names"]
    again = load(options, num_classes=len(classes)).leaves
    assert set(again) == set(saved)
    for path, leaf in again.items():
        np.testing.assert_array_equal(leaf, saved[path])


def test_a_config_without_it_is_as_before(tiny_config):
    config = tiny_config()
    assert transfer.load(config["model"], None, None).leaves == {}
    classes = Classes(("a", "b"), ((0, 0, 0),) * 2, 3)
    plain = assemble.make_parts(config, classes).model
    config["model"]["pretrained"] = {"weights": "x"}
    assert assemble.make_parts(config, classes).model == plain


DETECTOR = {
    "type": "mask_rcnn", "encoder": {"type": "resnet", "depth": 50, "width": 2}, "width": 4,
    "box_width": 6, "mask_convs": 1,
}  # fmt: skip


@pytest.mark.parametrize("publisher", ["torchvision", "detectron2"])
def test_some_of_the_published_classes_are_taken(tmp_path, publisher):
    """In the order of ours: of scores, of boxes with four numbers each, of masks."""

    def detector(num_classes):
        return lookup.build("models", DETECTOR, where="config.model", num_classes=num_classes)

    theirs, path = made_up(detector(4)), tmp_path / "x.safetensors"
    rules, *_ = tables.rules_of(publisher, "model", DETECTOR, detector(4))
    weights.save(path, convert.to_torch(theirs, rules), about={})
    options = {"weights": str(path), "publisher": publisher, "part": "model", "classes": (2, 0)}
    section = DETECTOR | {"pretrained": options}
    found, params = transfer.load(section, detector(2), image()).leaves, theirs["params"]
    score, offsets = params["box_score"]["kernel"], params["box_offsets"]["bias"].reshape(4, 4)
    np.testing.assert_array_equal(found["box_score/kernel"], score[:, [2, 0, 4]])
    np.testing.assert_array_equal(found["box_offsets/bias"], offsets[[2, 0]].ravel())
    masks = params["mask_score"]["kernel"]
    np.testing.assert_array_equal(found["mask_score/kernel"], masks[:, [2, 0]])
    np.testing.assert_array_equal(found["box_layer0/bias"], params["box_layer0"]["bias"])
    for classes, message in (((1, 4), "has 4 classes"), ((1,), "names 1, the model has 2")):
        section["pretrained"] = options | {"classes": classes}
        with pytest.raises(DataError, match=message):
            transfer.load(section, detector(2), image())
    section["pretrained"] = options | {"part": "encoder"}
    if publisher == "detectron2":
        with pytest.raises(DataError, match="no classes"):
            transfer.load(section, detector(2), image())
