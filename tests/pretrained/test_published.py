"""What publishers say of weights is found, shown on a card, and put into a config by one flag."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.commands import summary
from segjax.config import lookup, sections
from segjax.errors import ConfigError
from segjax.export import weights
from segjax.pretrained import convert, published, smp, tables
from segjax.runs import adopt, transfer
from segjax.runs.run import open_run

FORM = {"padding": "published", "epsilon": 1e-3, "stem_skip": True}
ENCODER = {"type": "efficientnet", "width": 0.1, "depth": 0.1}
STATISTICS = {"img": [[0.27, 0.25, 0.26, 0.33], [0.24, 0.22, 0.25, 0.23]]}
STATISTICS["band_names"] = ["blue", "green", "red", "nir"]
CSMASK = {"data": {"dataset_statistics": STATISTICS, "target_size": [256, 256]}}
TIMM = {"mean": [0.5] * 3, "std": [0.5] * 3, "input_size": [3, 240, 240], "license": "apache-2.0"}
HUGGING = {"image_mean": [0.5] * 3, "image_std": [0.25] * 3, "size": {"height": 224, "width": 224}}


def test_statistics_lie_beside_the_weights(tmp_path):
    (tmp_path / "x.json").write_text(json.dumps(CSMASK))
    found = published.of(tmp_path / "x.onnx", "smp", "0" * 64)
    assert found.mean == (0.27, 0.25, 0.26, 0.33) and found.std == (0.24, 0.22, 0.25, 0.23)
    assert found.bands == ("blue", "green", "red", "nir") and found.size == (256, 256)
    assert found.where == "x.json" and not found.licence
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(HUGGING))
    found = published.of(tmp_path / "model.safetensors", "huggingface", "0" * 64)
    assert found.mean == (0.5,) * 3 and found.bands == published.RGB and found.size == (224, 224)
    (tmp_path / "timm").mkdir()
    (tmp_path / "timm" / "config.json").write_text(json.dumps({"pretrained_cfg": TIMM}))
    found = published.of(tmp_path / "timm" / "model.safetensors", "timm", "0" * 64)
    assert found.std == (0.5,) * 3 and found.size == (240, 240) and found.licence == "apache-2.0"


@pytest.mark.parametrize(
    "content",
    [
        "[]", "{", '{"data": 3}', '{"image_mean": [0.5], "image_std": [0]}',
        '{"image_mean": ["a"], "image_std": [1]}', '{"image_mean": [[1]], "image_std": [[1]]}',
        '{"data": {"dataset_statistics": {"img": [[1], [2], [3]]}}}',
    ],
)  # fmt: skip
def test_another_json_says_nothing(tmp_path, content):
    (tmp_path / "x.json").write_text(content)
    assert published.beside(tmp_path / "x.onnx") == published.Published()


def test_a_known_file_has_its_licence_and_classes(tmp_path):
    checksum = next(key for key, known in published.KNOWN.items() if "4b_l1c" in known.where)
    (tmp_path / "x.json").write_text(json.dumps(CSMASK))
    found = published.of(tmp_path / "x.onnx", "smp", checksum)
    assert found.class_names == ("clear", "cloud", "cloud shadow") and found.mean
    assert found.licence == "Apache-2.0" and found.where.startswith("x.json, the table of")
    assert [line for line in found.differences({**ENCODER, "variant": "b4"})] == [
        "published with config.model.encoder.stem_skip=True, got None",
        "published with config.model.encoder.padding='published', got None",
        "published with config.model.encoder.epsilon=0.001, got None",
    ]
    assert not found.differences({"variant": "b4", **FORM}, found.normalize())
    other = {"type": "normalize:fixed", "mean": 0.5, "std": 0.25}
    (line,) = found.differences({"variant": "b4", **FORM}, other)
    assert "mean 0.27, 0.25, 0.26, 0.33" in line and "config.normalize is another" in line


def written(path, section):
    """Write an encoder's weights of noise with what an export of theirs has beside."""
    module = lookup.build("models", section, where="config.model", num_classes=3)
    image = jax.ShapeDtypeStruct((1, 64, 64, 4), jnp.float32)
    shapes = tables.part_of(tables.variable_shapes(module, image), "encoder")
    made = jax.tree.map(lambda x: np.full(x.shape, 0.5, x.dtype), shapes)
    state = convert.to_torch(made, convert.nested(smp.efficientnet(ENCODER), "encoder", "encoder"))
    weights.save(path, state | {"encoder._fc.bias": np.zeros(3, "f4")}, about={})
    path.with_suffix(".json").write_text(json.dumps(CSMASK))
    return module, image


def test_the_card_says_what_went_where(tmp_path):
    path = tmp_path / "x.safetensors"
    section = {"type": "encoder_unet", "encoder": ENCODER, "widths": (8, 8, 8, 8, 8)}
    module, image = written(path, section)
    options = {"weights": str(path), "publisher": "smp", "part": "encoder"}
    other = {"type": "normalize:fixed", "mean": 0.5, "std": 0.25}
    loaded = transfer.load(section | {"pretrained": options}, module, image, normalize=other)
    card = loaded.card
    assert card.taken["encoder/stem/conv/kernel"] == "_conv_stem.weight"
    assert card.taken["encoder/stage0_0/se/reduce/kernel"] == "_blocks.0._se_reduce.weight"
    assert card.left == ["_fc.bias"] and not card.new and card.bytes == path.stat().st_size
    lines = dict(card.lines())
    assert lines["  left out"] == "1 arrays: _fc.bias" and lines["  licence"] == "not stated"
    assert lines["  bands"] == "blue, green, red, nir" and lines["  size"] == "256 × 256"
    assert "config.normalize is another" in lines["  differs"]


def test_a_config_is_made_as_published(tmp_path):
    path = tmp_path / "x.safetensors"
    section = {"type": "encoder_unet", "encoder": ENCODER, "widths": (8, 8, 8, 8, 8)}
    written(path, section)
    model = section | {"pretrained": {"weights": str(path), "publisher": "smp"}}
    source = {"type": "folder", "band_names": ["green", "red", "nir", "blue"], "bands": [0, 1, 2]}
    inputs = {"source": source, "intensity": [{"type": "percentile"}], "size": (64, 64)}
    config = {"model": model, "input": inputs, "normalize": {"type": "normalize:per_image"}}
    made, lines = published.as_published(config)
    assert made["normalize"]["mean"] == [0.27, 0.25, 0.26, 0.33]
    assert made["input"]["source"]["bands"] == ["blue", "green", "red", "nir"]
    assert made["input"]["intensity"] == [] and made["input"]["size"] == (64, 64)
    assert len(lines) == 2 and all(line.startswith("as published") for line in lines)
    assert config["input"]["intensity"] and made["model"]["encoder"] == ENCODER
    source["band_names"] = ["green", "red"]
    with pytest.raises(ConfigError, match="--as_published: band"):
        published.as_published(config)
    path.with_suffix(".json").unlink()
    with pytest.raises(ConfigError, match=r"nothing is known of .*Set config\.normalize"):
        published.as_published(config)
    with pytest.raises(ConfigError, match="no pretrained weights"):
        published.as_published(config | {"model": section})


def test_published_weights_become_a_run(tmp_path, tiny_config):
    path, folder = tmp_path / "x.safetensors", tmp_path / "run"
    whole = {"weights": str(path), "publisher": "segjax", "part": "model"}
    config = tiny_config(model__pretrained=whole)
    from segjax.assemble.setup import make_setup

    setup, _ = make_setup(config)
    shapes = setup.parts.variable_shapes()
    random = np.random.default_rng(0)
    made = jax.tree.map(lambda x: random.uniform(0.5, 1.5, x.shape).astype(x.dtype), shapes)
    weights.save(path, dict(convert.leaves(made)), about={})
    assert dict(summary.card(setup))["  begun anew"] == "0 leaves"
    lines = adopt.adopt(folder, config)
    assert "loaded" in lines[0] and lines[-1] == f"checkpoint 0 in {folder}"
    run = open_run(folder)
    assert run.step == 0 and run.config["model"]["pretrained"] == whole
    for name, leaf in convert.leaves(run.variables):
        np.testing.assert_array_equal(leaf, dict(convert.leaves(made))[name])
    with pytest.raises(ConfigError, match="has checkpoints. Use another --workdir"):
        adopt.adopt(folder, config)
    for wrong, said in (({**whole, "part": "encoder"}, "part='model'"),):
        with pytest.raises(ConfigError, match=said):
            adopt.adopt(
                tmp_path / "other", sections.override(config, [f"model.pretrained={wrong}"])
            )
    assert not (tmp_path / "other").exists()
