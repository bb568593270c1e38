"""Export: a run as one file that predicts without the code of its network: StableHLO and weights.

A safetensors file. `program` holds what `jax.export` serialised: the network from images on the
canvas to scores, probabilities and classes, for any batch size. `weights/…` are its arguments, and
the metadata say what else a prediction needs: config, classes, how images were read. Kernels are
plain or tuned by the platform that it runs on; all that it names are in it.
"""

import hashlib
import json
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import flax.traverse_util
import jax
import numpy as np
import safetensors
import safetensors.numpy
from jax import export

from segjax.assemble import parts as parts_lib
from segjax.errors import ConfigError, DataError, UserError, extra
from segjax.pretrained import files as weight_files
from segjax.runs.run import Run
from segjax.runtime import files, reading, sharding
from segjax.tasks.base import ObjectTask

KIND = "segjax.program"
VERSION = 2
"""Programs of version 1 gave scores alone."""
SCORES, PROBABILITIES, CLASSES = "scores", "probabilities", "classes"
PROGRAM, WEIGHTS = "program", "weights/"
PLATFORMS = ("cpu", "cuda", "tpu")


class Program(NamedTuple):
    """An exported network.

    Attributes:
        call: `(weights, image [b *canvas c]) → scores [b *canvas k]`, or of a model that finds
            objects the fields of `Candidates`.
        weights: `{'params', 'batch_stats'}`.
        dtype: Of the images that it takes.
        about: What the file says of itself, see `describe`; and its `hash`.
        traced: JAX traces `call`; else it takes and returns NumPy.
    """

    call: Any
    weights: dict[str, Any]
    dtype: str
    about: dict[str, Any]
    traced: bool = True

    @property
    def is_bare(self) -> bool:
        """Whether it takes images as `config.normalize` leaves them."""
        return self.about.get("bare", False)


def make(
    run: Run, *, platforms: Sequence[str] = PLATFORMS, bare: bool = False
) -> tuple[bytes, dict[str, Any]]:
    """Return the serialised network of a run, see `answers_of`, and its weights on the host.

    Raises:
        ConfigError: An ensemble, or a platform that there is not.
    """
    check_one(run)
    weights = jax.tree.map(np.asarray, sharding.fetch(run.variables))
    image = images_of(run, *export.symbolic_shape("b"), bare=bare)
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), weights)
    function = jax.jit(answers_of(run, bare=bare))
    found = export.export(function, platforms=platforms)(shapes, image)
    with extra("export", what="--format=stablehlo"):
        import flatbuffers  # noqa: F401  # JAX writes with it, and does not say so

        return bytes(found.serialize()), weights


def check_one(run: Run) -> None:
    """Raise `ConfigError` for an ensemble."""
    if run.others:
        raise ConfigError("an ensemble cannot be exported: a file holds one network. Name one run.")


def answers_of(run: Run, *, bare: bool = False) -> Callable[[Any, jax.Array], dict[str, jax.Array]]:
    """Return what is exported, a function of weights and images.

    It gives `scores` [b *canvas k], `probabilities` float32 [b *canvas k] and `classes` uint8
    [b *canvas], of a task whose classes overlap [b *canvas k]; of a model that finds objects the
    fields of `Candidates`.

    Args:
        run: Opened.
        bare: Take images as `config.normalize` leaves them, and give `scores` alone.
    """
    parts: Any = run.parts
    task = parts.task

    def answers(weights: Any, image: jax.Array) -> dict[str, jax.Array]:
        image = image if bare else parts.normalize(image)
        found = parts.model.apply(weights, image, train=False)
        if isinstance(task, ObjectTask):
            return vars(task.find(found))
        scores = task.scores(found)
        if bare:
            return {SCORES: scores}
        probabilities = task.probabilities(scores).astype("float32")
        classes = task.decide(scores).astype("uint8")
        return {SCORES: scores, PROBABILITIES: probabilities, CLASSES: classes}

    return answers


def scores_of(found: Any) -> Any:
    """Return the scores among answers; the fields of candidates as they are."""
    return found[SCORES] if isinstance(found, dict) and SCORES in found else found


def images_of(run: Run, number: Any, *, bare: bool = False) -> jax.ShapeDtypeStruct:
    """Return a batch of images on the canvas as a shape; `bare`: as the network sees them."""
    shape = (number, *run.parts.layout.canvas.size, run.parts.classes.channels)
    image = jax.ShapeDtypeStruct(shape, dtype_of(run))
    return jax.eval_shape(run.parts.normalize, image) if bare else image


def dtype_of(run: Run) -> str:
    """Return the type of the images that a run's network is given: what 1 means depends on it."""
    if run.config["input"]["intensity"]:
        return "float32"
    read = run.facts().get("reading")
    stored = read.get("dtype") if isinstance(read, dict) else ""
    return stored or _dtype_of_data(run)


def _dtype_of_data(run: Run) -> str:
    try:
        source = parts_lib.make_source(run.config, run.config["input"]["split"])
    except UserError:
        return "uint8"
    return source.schema["image"].dtype


def write(
    run: Run,
    output: pathlib.Path,
    *,
    platforms: Sequence[str] = PLATFORMS,
    bare: bool = False,
) -> str:
    """Write a run to a file that predicts by itself, having run it on images.

    Args:
        run: Opened.
        output: The file; it is complete or not there.
        platforms: On which it is to run, of 'cpu', 'cuda', 'rocm' and 'tpu'.
        bare: See `answers_of`.

    Returns:
        One line on what was written.

    Raises:
        UserError: As `make`; what it computes is not what the run does; or the file cannot be
            written.
    """
    serialised, weights = make(run, platforms=platforms, bare=bare)
    flat: Any = flax.traverse_util.flatten_dict(weights, sep="/")
    arrays = {WEIGHTS + name: np.asarray(array, order="C") for name, array in flat.items()}
    arrays[PROGRAM] = np.frombuffer(serialised, np.uint8)
    about = describe(run, kind=KIND, bare=bare)
    about |= {"platforms": list(platforms), "hash": digest(arrays)}
    data = safetensors.numpy.save(arrays, metadata={"segjax": json.dumps(about)})
    with files.replacing(output) as temporary:
        temporary.write_bytes(data)
    count = sum(array.size for array in flat.values())
    return (
        f"step {run.step}: {count / 1e6:.2f} M numbers and {len(serialised) / 1e3:.0f} kB of "
        f"program for {', '.join(platforms)} → {output}, sha256 {about['hash'][:12]}"
    )


def describe(run: Run, *, kind: str, bare: bool) -> dict[str, Any]:
    """Return what an exported file says of itself, whatever its format.

    That is: `kind` and `version` of the format, `run` (the fingerprint of the run's config),
    `step`, `dtype` of its images, `bare` (see `answers_of`), `config` (resolved: with class names,
    palette and sizes), `facts` (what predictions need of `run.json`), and which `jax` made it.
    """
    facts = run.facts()
    return {
        "kind": kind,
        "version": VERSION,
        "run": str(facts.get("fingerprint", "")),
        "step": run.step,
        "dtype": dtype_of(run),
        "bare": bare,
        "jax": jax.__version__,
        "facts": {name: facts.get(name) for name in ("reading", "image_scales")},
        "config": run.config,
    }


def digest(arrays: Mapping[str, np.ndarray]) -> str:
    """Return a hash of arrays by their names, types, shapes and content."""
    found = hashlib.sha256()
    for name in sorted(arrays):
        array = arrays[name]
        found.update(f"{name} {array.dtype} {array.shape}\n".encode())
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()


def read(path: pathlib.Path) -> Program:
    """Return the network of a file that `write` made.

    Raises:
        DataError: It is none, is damaged, or is of a newer version of segjax or JAX.
    """
    expected = "Expected what --mode=export --format=stablehlo writes."
    arrays, about = weight_files.read(path), about_of(path)
    if about.get("kind") != KIND or PROGRAM not in arrays:
        raise DataError(f"{path}: is a file of weights and no program. {expected}")
    check_version(about, path)
    if digest(arrays) != about["hash"]:
        raise DataError(f"{path}: its content is not what its hash says. Fetch or export it again.")
    try:
        with extra("export", what=str(path)):
            import flatbuffers  # noqa: F401
        program = export.deserialize(bytearray(arrays.pop(PROGRAM).tobytes()))
    except UserError:
        raise
    except Exception as error:  # whatever a newer JAX wrote
        reason = " ".join(str(error).split())[:200]
        raise DataError(
            f"{path}: made with jax {about['jax']}, cannot be read by {jax.__version__}: {reason}. "
            "Use that jax or a newer one, or export with this one."
        ) from error
    flat = {name.removeprefix(WEIGHTS): array for name, array in arrays.items()}
    weights = flax.traverse_util.unflatten_dict(flat, sep="/")
    weights = {"params": {}, "batch_stats": {}} | weights

    def call(weights: Any, image: jax.Array) -> Any:
        return scores_of(program.call(weights, image))

    return Program(call, weights, about["dtype"], about)


def about_of(path: pathlib.Path) -> dict[str, Any]:
    """Return what a file says of itself; empty where it says nothing."""
    with safetensors.safe_open(path, framework="numpy") as file:
        return parsed((file.metadata() or {}).get("segjax", "{}"))


def parsed(text: str) -> dict[str, Any]:
    """Return the JSON of a file's metadata; empty where it is none."""
    try:
        found = reading.parse_json(text)
    except ValueError:
        found = {}
    return found if isinstance(found, dict) else {}


def check_version(about: Mapping[str, Any], path: pathlib.Path) -> None:
    """Raise `DataError` for what a newer segjax wrote."""
    if about["version"] > VERSION:
        raise DataError(
            f"{path}: is of version {about['version']}, and this segjax reads up to {VERSION}. "
            "Install the segjax that made it, or export again."
        )


def window_of(config: Mapping[str, Any]) -> list[int]:
    """Return the sides of what a network sees."""
    return list(config["inference"]["size"] or config["input"]["size"])


class Loaded:
    """A program in place of a Flax model: `apply` gives what the task makes of its outputs.

    Args:
        program: See `read`.
    """

    def __init__(self, program: Program):
        self.program = program
        self.compute_dtype = program.about["config"]["model"].get("compute_dtype", "float32")

    def apply(self, weights: Any, image: jax.Array, *, train: bool) -> Any:
        """Return scores, or the fields of candidates.

        Raises:
            DataError: Images of another type than the program takes.
        """
        del train
        if image.dtype != self.program.dtype and not self.program.is_bare:
            raise DataError(
                f"images of {image.dtype}, and the exported file takes {self.program.dtype}. Use "
                "images as it was trained on."
            )
        return self.program.call(weights, image)
