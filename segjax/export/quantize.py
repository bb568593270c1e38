"""Export: a graph in 8-bit integers, calibrated on training images, and what that costs and gains.

Post-training quantisation (Jacob et al. 2018, arXiv:1712.05877): scales of activations from the
range that they have on the images, those of weights for each channel.
"""

import logging
import pathlib
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from segjax.assemble import parts as parts_lib
from segjax.data import intensity
from segjax.errors import ConfigError, DataError, extra
from segjax.export import exported, onnx_graph, program
from segjax.export.exported import Exported
from segjax.inference.pieces import Cut
from segjax.runs.run import Run
from segjax.runtime import files
from segjax.views.progress import Progress

OPERATIONS = ("Conv", "MatMul", "Gemm")
"""What is computed in integers; what lies between stays in float32."""
TURNS = 21


def write(run: Run, output: pathlib.Path, *, images: int, largest_loss: float) -> list[str]:
    """Write a run to a file of ONNX in int8, kept only where it scores about as the run does.

    Args:
        run: Opened; its training images and first evaluation must be at hand.
        output: The file.
        images: Of the training split, on which ranges are measured; evenly spread over it.
        largest_loss: Of the first score of the evaluation, absolute.

    Returns:
        Lines on what was written, its score and its speed beside float32.

    Raises:
        UserError: As `onnx_graph.make`; the data is not at hand; or the score falls by more.
    """
    run, graph = exported.float_graph(run)
    batches = windows_of(run, images)
    graph, whole = calibrated(graph, batches), graph
    about = program.describe(run, kind=onnx_graph.KIND, bare=False)
    about |= {"int8": {"images": len(batches)}}
    with files.replacing(output) as temporary:
        line = onnx_graph.write(graph, temporary, about)
        other = exported.open_file(temporary, trust_code=True)
        scored = compare(run, other, largest_loss=largest_loss)
        gained = speeds(whole, graph, batches[0], path=output)
    line = f"{line}, int8 of {len(batches)} training images"
    return [f"step {run.step}: {line} → {output}", scored, gained]


def windows_of(run: Run, most: int) -> list[np.ndarray]:
    """Return what the network sees of some training images, a batch of one each.

    Raises:
        UserError: The images cannot be read.
    """
    config, parts = run.config, run.parts
    source = parts_lib.make_source(config, config["input"]["split"])
    source = intensity.view(source, parts.intensity)
    schema = {"image": source.schema["image"]}
    numbers = np.unique(np.linspace(0, len(source) - 1, min(most, len(source))).astype(int))
    draw, found = np.random.default_rng(0), []
    with Progress(len(numbers), unit="images", title="calibration") as bar:
        for count, number in enumerate(numbers, 1):
            cut = Cut(source[int(number)], parts.layout, schema)
            piece = cut.plan.pieces[draw.integers(len(cut.plan.pieces))]
            image = cut.fields(piece)["image"]
            found.append(np.asarray(image, program.dtype_of(run))[None])
            bar.update(count)
    return found


def calibrated(graph: Any, batches: Sequence[np.ndarray]) -> Any:
    """Return a graph in int8, its scales from what lies between operations on `batches`.

    Raises:
        ConfigError: onnxruntime is not installed.
    """
    with extra("onnx", what="--int8"):
        import onnx
        import onnxruntime
        from onnxruntime import quantization

    class Reader(quantization.CalibrationDataReader):
        def __init__(self) -> None:
            self.rest: Iterator[np.ndarray] = iter(batches)

        def get_next(self) -> Any:
            batch = next(self.rest, None)
            return None if batch is None else {onnx_graph.IMAGE: batch}

    log = logging.getLogger()
    level = log.level
    with tempfile.TemporaryDirectory() as folder:
        folded, written = (str(pathlib.Path(folder) / name) for name in ("a.onnx", "b.onnx"))
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        # The one that joins scales of channels to weights, the same on every machine.
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = folded
        onnxruntime.InferenceSession(
            onnx_graph.serialised(graph), options, providers=["CPUExecutionProvider"]
        )
        log.setLevel(logging.ERROR)  # it advises a tool on the root's logger
        try:
            quantization.quantize_static(
                folded,
                written,
                Reader(),
                op_types_to_quantize=list(OPERATIONS),
                per_channel=True,
                # Of int8 activations onnxruntime 1.32 makes a graph that it cannot read.
                activation_type=quantization.QuantType.QUInt8,
                weight_type=quantization.QuantType.QInt8,
            )
        finally:
            log.setLevel(level)
        found = onnx.load_model(written)
    found.producer_name = "segjax"
    return found


def compare(run: Run, other: Exported, *, largest_loss: float) -> str:
    """Return a line on the score of a run and of its file, on the run's first evaluation.

    Raises:
        UserError: The file's is lower by more than `largest_loss`, or there is no evaluation.
    """
    if not run.config["evals"]:
        raise ConfigError(
            "--int8: config.evals is empty, and the loss of accuracy cannot be measured. Add an "
            "evaluation."
        )
    name = next(iter(run.config["evals"]))
    reports = [each.evaluate(name, shown=True)[0] for each in (run, other)]
    what = next(iter(reports[0].headline))
    before, after = (report.headline[what] for report in reports)
    line = f"{name}: {what} {before:.4f} in float32, {after:.4f} in int8 ({after - before:+.4f})"
    if not after >= before - largest_loss:
        raise DataError(
            f"{line}, at most {largest_loss:g} may be lost. Nothing was kept: use float32, "
            "--calibration_images for more of them, or allow it with --largest_loss."
        )
    return line


def speeds(whole: Any, small: Any, batch: np.ndarray, *, path: pathlib.Path) -> str:
    """Return a line on how long a batch takes in float32 and in int8, medians of turns."""
    calls = [onnx_graph.session_of(each, [program.SCORES], path=path) for each in (whole, small)]
    seconds: list[list[float]] = [[], []]
    for turn in range(TURNS + 1):
        for call, own in zip(calls, seconds, strict=True):
            start = time.perf_counter()
            call(batch)
            own += [time.perf_counter() - start] * (turn > 0)
    slow, fast = (1e3 * statistics.median(own) for own in seconds)
    sides = "x".join(map(str, batch.shape[1:-1]))
    return (
        f"one window of {sides} takes {slow:.1f} ms in float32 and {fast:.1f} ms in int8, "
        f"{slow / fast:.2f} times as fast (medians of {TURNS} each, in turns, on this machine)"
    )
