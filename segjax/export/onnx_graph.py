"""Export: a run's network as an ONNX graph, and the file of one as a program that is called.

The network is traced in plain operations and converted by jax2onnx, for batches of any size on the
run's canvas; weights are constants of the graph. What else a prediction needs lies in its metadata.
"""

import dataclasses
import functools
import hashlib
import json
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.extend.core
import jax.numpy as jnp
import numpy as np
from jax import export

from segjax import kernels
from segjax.errors import ConfigError, DataError, UserError, extra
from segjax.export import onnx_simpler, program
from segjax.export.program import Program
from segjax.runs.run import Run
from segjax.runtime import files, quirks, reading, sharding
from segjax.tasks.base import ObjectTask

KIND = "segjax.onnx"
OPSET = 21
"""The first with quantised convolutions as OpenVINO and older onnxruntimes read them."""
INSTALL = "pip install --no-deps jax2onnx==0.17.1"
"""jax2onnx asks for an older Orbax, which it does not import: pip would refuse or go back."""
MOST_BYTES = 2**31 - 2**20
"""Of a graph: protobuf holds less than 2 GB in a file."""
IMAGE = "image"
DOMAINS = ("", "ai.onnx", "com.microsoft")


def make(run: Run, *, bare: bool = False) -> Any:
    """Return the network of a run as an `onnx.ModelProto`.

    It takes `image` [b *canvas c] and gives what `program.answers_of` says by these names.

    Args:
        run: Opened; it computes in float32, see `in_float32`.
        bare: See `program.answers_of`.

    Raises:
        ConfigError: An ensemble, a network that finds objects, one that is too large for a file, an
            operation that ONNX has not, or a module that is not installed.
    """
    program.check_one(run)
    if isinstance(run.parts.task, ObjectTask):
        raise ConfigError(
            "--format=onnx: config.task finds objects, whose suppression of doubles ONNX's graph "
            "does not hold. Use --format=stablehlo."
        )
    weights = jax.tree.map(np.asarray, sharding.fetch(run.variables))
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(weights))
    if size > MOST_BYTES:
        raise ConfigError(
            f"--format=onnx: the weights have {size:,} bytes, and an ONNX file holds at most "
            f"{MOST_BYTES:,}. Use --format=stablehlo, or a smaller encoder."
        )
    image = program.images_of(run, *export.symbolic_shape("b"), bare=bare)
    answers = functools.partial(
        program.answers_of(run, bare=bare), jax.tree.map(jnp.asarray, weights)
    )
    names = [program.SCORES, *(() if bare else (program.PROBABILITIES, program.CLASSES))]
    model = convert(lambda x: tuple(answers(x)[name] for name in names), image, names)
    model.producer_name, model.graph.name = "segjax", run.config["model"]["type"]
    return model


def convert(function: Any, image: jax.ShapeDtypeStruct, names: Sequence[str]) -> Any:
    """Return a function from an image to a tuple of arrays as an `onnx.ModelProto`.

    It is traced beforehand, as jax2onnx puts functions of its own in the place of some of Flax's.

    Args:
        function: Traceable.
        image: What it takes, `image` of the graph.
        names: Of what it gives.

    Raises:
        ConfigError: An operation that ONNX has not, or a module that is not installed.
    """
    with kernels.use("reference"):
        traced = jax.make_jaxpr(function)(image)
    model = _convert(lambda x: tuple(jax.extend.core.jaxpr_as_fun(traced)(x)), image, names)
    onnx_simpler.rectify(model)
    onnx_simpler.spell_sigmoids(model)
    return model


def _convert(function: Any, image: jax.ShapeDtypeStruct, names: Sequence[str]) -> Any:
    """Return a function of one array as a graph."""
    with extra("onnx", what="--format=onnx"):
        import onnx_ir  # noqa: F401
    try:
        import jax2onnx
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"--format=onnx needs the module {error.name}, which is not installed. Install it: "
            f"{INSTALL}"
        ) from None
    try:
        with quirks.onnx_pads():
            return jax2onnx.to_onnx(
                function, [image], opset=OPSET, input_names=[IMAGE], output_names=list(names)
            )
    except Exception as error:  # it raises whatever its rule for an operation stumbled over
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise ConfigError(
            f"--format=onnx: jax2onnx cannot convert this network: {reason}. Use "
            "--format=stablehlo."
        ) from error


def in_float32(run: Run) -> Run:
    """Return a run that computes in float32: convolutions of ONNX on CPUs have no bfloat16."""
    model: Any = run.parts.model
    if model.compute_dtype == "float32":
        return run
    config = run.config | {"model": {**run.config["model"], "compute_dtype": "float32"}}
    return dataclasses.replace(run, config=config)


def write(model: Any, output: pathlib.Path, about: Mapping[str, Any]) -> str:
    """Write a graph with its metadata to a file, complete or not at all.

    Beside `segjax`, all of it as one JSON, metadata for other programs are `class_names`, `palette`
    and `size` (JSON), `run`, `step` and `hash`.

    Args:
        model: As `make` gives it.
        output: The file.
        about: As `describe` gives it.

    Returns:
        What it holds, in words.

    Raises:
        UserError: It is larger than a file may be, or cannot be written.
    """
    found, resolved = dict(about) | {"hash": digest(model)}, about["config"]["resolved"]
    shown = {name: resolved[name] for name in ("class_names", "palette")}
    shown |= {"segjax": found, "size": program.window_of(about["config"])}
    shown |= {name: found[name] for name in ("run", "step", "hash")}
    del model.metadata_props[:]
    for name, value in shown.items():
        text = value if isinstance(value, str) else json.dumps(value)
        model.metadata_props.add(key=name, value=text)
    content = serialised(model)
    opset = next(each.version for each in model.opset_import if not each.domain)
    with files.replacing(output) as temporary:
        temporary.write_bytes(content)
    return (
        f"{len(model.graph.node)} operations of ONNX's opset {opset} and "
        f"{len(content) / 1e6:.2f} MB, sha256 {found['hash'][:12]}"
    )


def serialised(model: Any) -> bytes:
    """Return the bytes of a graph, the same ones for the same graph.

    Raises:
        ConfigError: They are more than protobuf holds.
    """
    if (size := model.ByteSize()) > MOST_BYTES:
        raise ConfigError(
            f"--format=onnx: the graph has {size:,} bytes, and a file of protobuf holds at most "
            f"{MOST_BYTES:,}. Use --format=stablehlo, or a smaller encoder."
        )
    return model.SerializeToString(deterministic=True)


def digest(model: Any) -> str:
    """Return a hash of a graph, whatever its metadata."""
    kept = type(model)()
    kept.CopyFrom(model)
    del kept.metadata_props[:]
    return hashlib.sha256(serialised(kept)).hexdigest()


def is_graph(path: pathlib.Path) -> bool:
    """Say whether a file begins as ONNX does, and not as safetensors.

    Raises:
        DataError: It cannot be read.
    """
    try:
        with reading.open_file(path) as file:
            head = file.read(9)
    except FileNotFoundError as error:
        raise DataError(f"{path}: {error.strerror}. Expected an exported file.") from None
    return head[:1] == b"\x08" and head[8:] != b"{"


def read(path: pathlib.Path) -> Program:
    """Return the network of a file that `write` made; onnxruntime runs it.

    Raises:
        UserError: It is none, is damaged or of a newer version, or onnxruntime is not installed.
    """
    expected = "Expected what --mode=export --format=onnx writes."
    with extra("onnx", what=str(path)):
        import onnx
    with reading.open_file(path, limit=MOST_BYTES + 2**20) as file:
        content = file.read()
    try:
        model = onnx.load_model_from_string(content)
    except Exception as error:  # protobuf's, which it does not promise
        raise DataError(f"{path}: is no ONNX file or a torn one. {expected}") from error
    properties = {each.key: each.value for each in model.metadata_props}
    about = program.parsed(properties.get("segjax", "{}"))
    if about.get("kind") != KIND:
        raise DataError(f"{path}: is an ONNX file that segjax did not write. {expected}")
    program.check_version(about, path)
    if digest(model) != about["hash"]:
        raise DataError(f"{path}: its content is not what its hash says. Fetch or export it again.")
    check_alone(model, path)
    call = session_of(model, [program.SCORES], path=path)
    return Program(
        lambda weights, image: call(image)[0],
        {"params": {}, "batch_stats": {}},
        about["dtype"],
        about,
        traced=False,
    )


def check_alone(model: Any, path: pathlib.Path) -> None:
    """Raise `DataError` if a graph asks for another file or for code that is not onnxruntime's."""
    inside = [each.t for node in model.graph.node for each in node.attribute]
    outside = [x.name for x in (*model.graph.initializer, *inside) if x.data_location]
    domains = {node.domain for node in model.graph.node} - {*DOMAINS}
    if outside or domains:
        what = f"the file of {outside[0]!r}" if outside else f"operations of {min(domains)!r}"
        raise DataError(f"{path}: asks for {what}, which segjax never writes. Export it again.")


def session_of(
    model: Any, outputs: Sequence[str], *, path: pathlib.Path
) -> Callable[[Any], Sequence[Any]]:
    """Return what runs a graph on a batch, and gives `outputs`; the others are not computed.

    Args:
        model: A graph.
        outputs: Of its own.
        path: For messages.

    Raises:
        DataError: onnxruntime cannot run it.
    """
    with extra("onnx", what=str(path)):
        import onnxruntime
    kept = type(model)()
    kept.CopyFrom(model)
    onnx_simpler.keep_outputs(kept, outputs)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    known = ("CUDAExecutionProvider", "CPUExecutionProvider")
    providers = [name for name in known if name in onnxruntime.get_available_providers()]
    try:
        session = onnxruntime.InferenceSession(
            kept.SerializeToString(), options, providers=providers
        )
    except UserError:
        raise
    except Exception as error:  # of a dozen kinds
        reason = " ".join(str(error).split())[:200]
        raise DataError(
            f"{path}: onnxruntime {onnxruntime.__version__} cannot run it: {reason}. Install a "
            "newer one, or export again."
        ) from error
    return lambda image: session.run(list(outputs), {IMAGE: np.asarray(image)})
