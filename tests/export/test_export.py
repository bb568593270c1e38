"""A checkpoint becomes a file that PyTorch loads, or that another run starts from."""

import json

import numpy as np
import pytest
import safetensors
import safetensors.numpy

from segjax.config import lookup
from segjax.errors import ConfigError
from segjax.export import weights
from segjax.pretrained import convert, smp, tables
from segjax.runs import train
from segjax.runs.run import Run, open_run
from tests import parity, program
from tests.pretrained import test_tables


def test_pytorch_loads_what_is_written(tmp_path):
    parity.torchvision()  # smp imports it
    torch = pytest.importorskip("torch", reason=parity.REASON)
    published = pytest.importorskip("segmentation_models_pytorch", reason=parity.REASON)
    from safetensors.torch import load_file

    def network():
        return published.DeepLabV3Plus("resnet18", encoder_weights=None, classes=5)

    reference = parity.randomize(network()).float()
    encoder = {"type": "resnet", "depth": 18, "output_stride": 16}
    section = {
        "type": "deeplabv3plus", "encoder": encoder, "rates": (12, 24, 36), "pyramid_convs": 1,
        "fuse_convs": 1,
    }  # fmt: skip
    module = lookup.build("models", section, where="config.model", num_classes=5)
    shapes = tables.variable_shapes(module, test_tables.IMAGE)
    rules = smp.deeplabv3plus(section)
    leaves = convert.from_torch(parity.numpy_state(reference), shapes, rules)
    variables = {"params": leaves}
    weights.save(tmp_path / "x.safetensors", convert.to_torch(variables, rules), about={})
    other = network()
    other.load_state_dict(load_file(tmp_path / "x.safetensors"), strict=True)
    image = parity.to_torch(parity.image((64, 64))).float()
    with torch.no_grad():
        torch.testing.assert_close(other.eval()(image), reference(image), rtol=0, atol=0)


@pytest.mark.slow
def test_the_command_writes_a_checkpoint(tmp_path, tiny_config):
    work, output = tmp_path / "run", tmp_path / "out" / "x.safetensors"
    assert train.run(work, tiny_config()) == 0
    arguments = ["--mode=export", f"--workdir={work}", f"--output={output}"]
    options = ["--publisher=segjax", "--checkpoint=2", "--override=mesh.data=1"]
    code, text = program.run(*arguments, *options)
    assert code == 0 and "step 2" in text and str(output) in text, text
    written = safetensors.numpy.load_file(output)
    opened = open_run(work, checkpoint="2")
    expected = dict(convert.leaves(opened.variables))
    assert set(written) == set(expected) and "down0/conv0/conv/kernel" in written
    for name, leaf in expected.items():
        np.testing.assert_array_equal(written[name], leaf)
    with safetensors.safe_open(output, framework="numpy") as file:
        about = file.metadata()
    assert json.loads(about["step"]) == 2 and json.loads(about["model"])["type"] == "unet"
    with pytest.raises(ConfigError, match="torchvision publishes no model like this one"):
        weights.write(opened, output, publisher="torchvision")
    code, text = program.run(*arguments, "--format=weights")
    assert code == 2 and "Weights need one" in text and "Traceback" not in text, text


def test_arrays_are_written_as_they_are_seen(tmp_path):
    """Transposed views, scalars and empty arrays as well."""
    table = np.arange(12, dtype=np.float32).reshape(3, 4)
    state = {"t": table.T, "s": np.zeros((), np.int64), "e": np.zeros((0, 3), np.float16)}
    weights.save(tmp_path / "x.safetensors", state, about={"a": "b"})
    written = safetensors.numpy.load_file(tmp_path / "x.safetensors")
    for name, array in state.items():
        assert written[name].shape == array.shape
        np.testing.assert_array_equal(written[name], array)


def test_an_unnamed_publisher_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match="--publisher='x' is none of"):
        weights.write(Run(tmp_path, {}), tmp_path / "x.safetensors", publisher="x")
