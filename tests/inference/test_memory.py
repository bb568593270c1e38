"""What predicting one image takes of the host's memory, measured in a process of its own."""

import json
import pathlib
import subprocess
import sys

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

SIDES = (3600, 5000)
CONSTANT = 16 << 20
"""Bytes for blocks of rows, the PNG being written and what the first call imports."""
TIMES = 4

CHILD = """
import json, pathlib, sys
import numpy as np
from segjax.data import fit
from segjax.data.decode import Reading
from segjax.inference import folder, paths
from segjax.inference.layout import Layout
from segjax.inference.predictor import FunctionPredictor
from segjax.structs import Classes

def decide(image):
    small = fit.resize_image(image, (60, 80))  # as a network of that canvas has it
    label = np.zeros(image.shape[:2], np.uint8)
    label[:100] = small.max() > 0
    return label

def peak():
    status = pathlib.Path("/proc/self/status").read_text()  # ru_maxrss is also the parent's
    return int(status.partition("VmHWM:")[2].split()[0]) << 10

def predict(file, how):
    inputs, output = paths.list_inputs(file), pathlib.Path(file).parent / (file + ".out")
    counts = folder.predict(
        inputs, output, predictor=FunctionPredictor(decide, num_classes=2),
        classes=Classes(("a", "b"), ((0, 0, 0), (255, 0, 0)), how["channels"]),
        reading=Reading(**how), step=1, layout=Layout(fit.Canvas((60, 80), "resize", 0)),
    )
    assert counts.predicted == 1, counts

warm, file, how = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
predict(warm, how)
before = peak()
predict(file, how)
print(peak() - before)
"""


def draw(path, array):
    if path.suffix == ".tif":
        tifffile.imwrite(path, array, compression="deflate", photometric="rgb")
    elif path.suffix == ".npy":
        np.save(path, array)
    elif array.dtype == np.uint16 and array.ndim == 3:
        path.write_bytes(imagecodecs.png_encode(array))
    else:
        Image.fromarray(array).save(path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ending", "bands", "dtype", "channels"),
    [
        ("png", 3, "uint8", 3), ("png", 1, "uint8", 3), ("png", 3, "uint16", 3),
        ("jpg", 3, "uint8", 3), ("webp", 3, "uint8", 3), ("tif", 3, "uint8", 3),
        ("npy", 3, "float32", 3),
    ],
)  # fmt: skip
def test_an_image_needs_four_times_its_bytes(tmp_path, ending, bands, dtype, channels):
    """The rule, whatever the format: four times height x width x 3 x bytes of a value, at most."""
    stored = {"float32": "uint8" if ending == "png" else dtype}.get(dtype, dtype)
    files = []
    for sides in ((45, 60), SIDES):
        shape = sides if bands == 1 else (*sides, bands)
        array = np.full(shape, 200, stored)
        array[: sides[0] // 2] = 90
        if stored == "uint16":
            array *= 11
        files.append(tmp_path / f"{sides[0]}.{ending}")
        draw(files[-1], array)
    how = {"channels": channels, "dtype": dtype}
    arguments = [str(files[0]), str(files[1]), json.dumps(how)]
    result = subprocess.run(
        [sys.executable, "-c", CHILD, *arguments],
        capture_output=True, text=True, cwd=pathlib.Path(__file__).parents[2],
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    taken = int(result.stdout)
    image = SIDES[0] * SIDES[1] * 3 * np.dtype(dtype).itemsize
    print(f"{taken / image:.2f} times")
    assert taken <= TIMES * image + CONSTANT
