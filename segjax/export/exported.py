"""An exported file as a run: it evaluates and predicts, and needs nothing else."""

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from segjax.assemble import parts as parts_lib
from segjax.assemble.parts import Parts
from segjax.config import recording, schema, sections
from segjax.errors import ConfigError, DataError
from segjax.evaluators.report import Scored
from segjax.export import onnx_graph
from segjax.export import program as program_lib
from segjax.export.program import Loaded, Program
from segjax.inference import scaling
from segjax.inference.network import Forward, Network
from segjax.inference.objects import Finding, ObjectNetwork
from segjax.inference.predictor import Detection
from segjax.runs import run as run_lib
from segjax.runs.run import Run
from segjax.runtime import files, sharding
from segjax.tasks.base import ObjectTask
from segjax.tasks.candidates import Candidates
from segjax.views import progress

RELATIVE = 1e-4
"""By how much scores of an exported network may differ, relative to the largest."""
PIXELS = 1e-4
"""The share of pixels whose class may differ."""


class Answers:
    """A task whose model says itself what its outputs are worth.

    Args:
        task: Whose other parts are used.
    """

    def __init__(self, task: Any):
        self.task = task

    def __getattr__(self, name: str) -> Any:
        return getattr(self.task, name)

    def scores(self, outputs: Any) -> Any:
        """Return the outputs."""
        return outputs

    def find(self, outputs: Mapping[str, Any]) -> Candidates:
        """Return the outputs as candidates."""
        return Candidates(**outputs)

    def loss(self, outputs: Any, batch: Any, key: Any) -> dict[str, Any]:
        """Return no terms: a file has no loss."""
        del outputs, batch, key
        return {}


class Hosted(Forward):
    """The passes of a program that JAX does not trace: it runs beside what JAX compiles.

    Args:
        model: See `Loaded`.
        task: See `Answers`.
        normalize: See `Forward`.
        options: Of `Forward`.
    """

    def __init__(self, model: Any, task: Any, *, normalize: Any, **options: Any):
        super().__init__(model, task, normalize=normalize, **options)
        normalize = jax.jit(normalize)

        def outputs(variables: Any, image: jax.Array) -> jax.Array:
            found = model.apply(variables, np.asarray(normalize(image)), train=False)
            return jax.device_put(found, self.by_row)

        self.outputs: Any = outputs
        self.ahead = None


@dataclasses.dataclass(frozen=True)
class Exported(Run):
    """An exported file, opened; its reports go to a folder of its name without the ending.

    Attributes:
        program: What the file holds.
    """

    program: Program = dataclasses.field(kw_only=True)

    @functools.cached_property
    def parts(self) -> Parts:
        """What the config describes, on one device: the program is of one."""
        classes = parts_lib.recorded_classes(self.config["resolved"])
        mesh = Mesh(np.asarray(jax.local_devices()[:1]).reshape(1, 1, 1), sharding.AXES)
        return parts_lib.make_parts(self.config, classes, mesh=mesh)

    def find(self) -> int:
        """Return the step of the checkpoint that was exported."""
        return self.program.about["step"]

    def facts(self) -> Mapping[str, Any]:
        """Return what the file has of the run's `run.json`."""
        return self.program.about["facts"]

    @functools.cached_property
    def _restored(self) -> tuple[int, dict[str, Any], int]:
        return self.find(), self.program.weights, self.find()

    @functools.cached_property
    def _network(self) -> Network:
        parts: Any = self.parts
        needed = {name: parts.schema[name] for name in ("image", *parts.task.needs)}
        make = Forward if self.program.traced else Hosted
        forward = make(schema=needed, **self._common)
        return Network(forward, self.variables, (), self.config["inference"]["batch_size"])

    @functools.cached_property
    def _predictor(self) -> Scored:
        parts: Any = self.parts
        if not isinstance(parts.task, ObjectTask):
            return parts.finished(self._network)
        finding = Finding(schema=parts.schema, **self._common)
        network = ObjectNetwork(finding, self.variables)
        return scaling.wrap_finding(network, parts.intensity)

    @property
    def _common(self) -> dict[str, Any]:
        parts = self.parts
        return {
            "model": Loaded(self.program),
            "task": Answers(parts.task),
            # The program does, unless it is bare.
            "normalize": parts.normalize if self.program.is_bare else lambda image: image,
            "mesh": parts.mesh,
            "layout": parts.layout,
        }


def open_file(
    path: pathlib.Path, *, overrides: Iterable[str] = (), trust_code: bool = False
) -> Exported:
    """Open an exported file as a run.

    Args:
        path: The file, `~` expanded.
        overrides: Changes to its config, such as `inference.flips=[1]`.
        trust_code: Run code outside of segjax that its config names.

    Raises:
        UserError: It is none, an override that does not fit, a window of another size than the
            network was exported for, or a config that names code outside of segjax.
    """
    path, overrides = files.expanded(path), tuple(overrides)
    program = (onnx_graph if onnx_graph.is_graph(path) else program_lib).read(path)
    recorded = schema.fill(program.about["config"])
    run_lib.check_config(recorded, path, trust_code=trust_code)
    config = sections.override(recorded, overrides)
    recording.check(config)
    found = Exported(path.with_suffix(""), config, "", overrides, program=program)
    own, now = (program_lib.window_of(each) for each in (recorded, config))
    if own != now:
        raise ConfigError(
            f"{path}: its network sees windows of {own}, and the override makes them {now}. Export "
            "the run with that override."
        )
    return found


def write(
    run: Run, output: pathlib.Path, *, platforms: Sequence[str], bare: bool = False
) -> list[str]:
    """Write a run to a file of StableHLO, which is kept only where it predicts as the run does.

    Args:
        run: Opened.
        output: The file.
        platforms: See `program.write`.
        bare: See `program.answers_of`.

    Returns:
        Lines on what was written and compared.

    Raises:
        UserError: As `program.write`, or the predictions differ.
    """

    def make(path: pathlib.Path) -> str:
        return program_lib.write(run, path, platforms=platforms, bare=bare)

    return _kept(run, output, make)


def write_onnx(run: Run, output: pathlib.Path, *, bare: bool = False) -> list[str]:
    """Write a run to a file of ONNX, which is kept only where it predicts as the run does.

    Args:
        run: Opened; it is exported as it computes in float32.
        output: The file.
        bare: See `program.answers_of`.

    Returns:
        Lines on what was written and compared.

    Raises:
        UserError: As `onnx_graph.make`, or the predictions differ.
    """
    run, graph = float_graph(run, bare=bare)
    about = program_lib.describe(run, kind=onnx_graph.KIND, bare=bare)

    def make(path: pathlib.Path) -> str:
        return f"step {run.step}: {onnx_graph.write(graph, path, about)} → {path}"

    return _kept(run, output, make)


def _kept(run: Run, output: pathlib.Path, make: Callable[[pathlib.Path], str]) -> list[str]:
    """Return what `make` says of the file it writes, and how alike run and file predict."""
    with files.replacing(output) as temporary:
        with progress.stage("export: writing the program"):
            line = make(temporary)
        with progress.stage("export: predicting beside the run"):
            compared = compare(run, open_file(temporary, trust_code=True), images_of(run))
    return [line.replace(str(temporary), str(output)), compared]


def float_graph(run: Run, *, bare: bool = False) -> tuple[Run, Any]:
    """Return a run as it computes in float32, and its graph."""
    run = onnx_graph.in_float32(run)
    return run, onnx_graph.make(run, bare=bare)


def images_of(run: Run, *, most: int = 4) -> list[np.ndarray]:
    """Return a few images of the run's first evaluation; noise where its data is not at hand."""
    config = run.config
    split = next((each["split"] for each in config["evals"].values()), config["input"]["split"])
    try:
        source = parts_lib.make_source(config, split)
        return [np.asarray(source[i]["image"]) for i in range(min(most, len(source)))]
    except (DataError, ConfigError):
        sides, channels = run.parts.layout.canvas.size, run.parts.classes.channels
        draw = np.random.default_rng(0)
        shapes = [tuple(max(8, side + more) for side in sides) for more in (0, -5, 9)]
        dtype = program_lib.dtype_of(run)
        return [draw.uniform(0, 255, (*shape, channels)).astype(dtype) for shape in shapes[:most]]


class Difference(NamedTuple):
    """How alike two runs predict.

    Attributes:
        relative: By how much outputs differ at most, of the largest.
        wrong: Pixels that are answered otherwise.
        pixels: Of all images.
    """

    relative: float
    wrong: int
    pixels: int

    @property
    def share(self) -> float:
        """The share of pixels that are answered otherwise."""
        return self.wrong / max(1, self.pixels)


def difference(run: Run, other: Exported, images: Sequence[np.ndarray]) -> Difference:
    """Return how alike two runs predict."""
    wrong = pixels = 0
    both: Any = (run.predictor(), other.predictor())
    for image in images:
        one, same = (_answers_of(predict(image)) for predict in both)
        wrong += int((one != same).sum())
        pixels += one.size
    return Difference(_relative(run, other), wrong, pixels)


def compare(run: Run, other: Exported, images: Sequence[np.ndarray]) -> str:
    """Return a line on how alike two runs predict.

    Raises:
        DataError: They do not: more than `RELATIVE` or `PIXELS`.
    """
    found = difference(run, other, images)
    line = (
        f"run on {len(images)} images beside the run: outputs differ by {found.relative:.1e} of "
        f"the largest, {100 * found.share:.4f} % of {found.pixels} pixels are answered otherwise"
    )
    if not (found.relative <= RELATIVE and found.share <= PIXELS):
        raise DataError(
            f"the exported network is not that of the run: {line}; expected at most {RELATIVE:g} "
            f"and {100 * PIXELS:g} %. Nothing was kept."
        )
    return line


def _relative(run: Run, other: Exported) -> float:
    """Return by how much outputs differ on a batch of noise, of the largest; NaN: one is."""
    shape = program_lib.images_of(run, 2)
    noise = np.random.default_rng(0).uniform(0, 255, shape.shape).astype(shape.dtype)
    one = program_lib.scores_of(jax.jit(program_lib.answers_of(run))(run.variables, noise))
    seen = run.parts.normalize(jnp.asarray(noise)) if other.program.is_bare else noise
    same = other.program.call(other.program.weights, seen)
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(same), strict=True)
    arrays = [[np.asarray(each, np.float64) for each in pair] for pair in pairs]
    found = [np.abs(a - b).max() / max(np.abs(a).max(), 1e-30) for a, b in arrays]
    return float(np.max(found))


def _answers_of(found: Any) -> np.ndarray:
    """Return the classes of a prediction, or the pixels of each object of a detection."""
    if not isinstance(found, Detection):
        return found.classes
    painted = np.zeros(found.size, np.int32)
    for number, mask in reversed([*enumerate(found.objects.masks, 1)]):
        sides = zip(mask.corner, mask.inside.shape, strict=True)
        box = tuple(slice(low, low + side) for low, side in sides)
        painted[box][mask.inside] = number
    return painted
