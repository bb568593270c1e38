"""Right numbers on XLA's CPU backend: switch off its faulty fusions, then check that it worked.

XLA's YNNPACK fusions compile some gradients wrongly and silently (a LayerNorm gradient 50 % off on
jaxlib 0.11.1 to 0.12.0.1, a vmapped mat-vec on 0.10.2, jax-ml/jax#39103). An empty fusion list
avoids them. jax is imported late: the flag must stand in the environment before JAX starts its
backend.
"""

import contextlib
import functools
import hashlib
import importlib.metadata
import importlib.util
import os
import pathlib
import re
import subprocess
import sys
import warnings
from collections.abc import Iterator
from typing import Any

from segjax.errors import UserError, printable
from segjax.runtime import files, quirks

FUSION_FLAG = "--xla_cpu_experimental_ynn_fusion_type"
TOLERANCE = 1e-3
ONEDNN_FLAG = "xla_cpu_experimental_onednn_custom_call"


def set_xla_flags() -> None:
    """Add `FUSION_FLAG` with an empty value to `XLA_FLAGS`, keeping what the user set."""
    flags = os.environ.get("XLA_FLAGS", "")
    if FUSION_FLAG not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} {FUSION_FLAG}=".strip()


def cache_dir() -> pathlib.Path:
    """Return the folder of what segjax remembers (`SEGJAX_CACHE`, else `~/.cache/segjax`)."""
    return files.expanded(os.environ.get("SEGJAX_CACHE") or "~/.cache/segjax")


def writable_cache() -> str | None:
    """Return the folder of compiled programs; None, and a line on stderr, if it cannot be written.

    JAX would say so at every program.
    """
    folder = cache_dir() / "xla"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK):
            return str(folder)
        reason = "it may not be written"
    except OSError as error:
        reason = str(error)
    text = (
        f"no cache of compiled programs: {reason}. Set SEGJAX_CACHE to a folder that may be "
        "written to start faster."
    )
    print(printable(text), file=sys.stderr)
    return None


def prepare(*, virtual_devices: int = 0) -> None:
    """Set JAX up: flags, compilation cache; where the CPU computes, also memory and a self-check.

    Freed memory stays with the process there, see `quirks.keep_memory`.

    Args:
        virtual_devices: If not 0, use so many CPU devices, which stand in for real ones.

    Raises:
        UserError: JAX cannot start with the environment's variables, or this jaxlib computes
            gradients wrongly on the CPU.
    """
    set_xla_flags()
    check_flags()
    if virtual_devices or cpu_computes():
        quirks.keep_memory()
    with starting():
        import jax

    if virtual_devices:
        jax.config.update("jax_platforms", "cpu")
        jax.config.update("jax_num_cpu_devices", virtual_devices)
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        jax.config.update("jax_compilation_cache_dir", writable_cache())
    # A program with oneDNN in it cannot be kept (see `xla_options`), and says so each time.
    warnings.filterwarnings("ignore", "Error writing persistent compilation cache.*bad_alloc")
    with starting():
        on_cpu = jax.default_backend() == "cpu"
    if on_cpu:
        self_check()


@contextlib.contextmanager
def starting() -> Iterator[None]:
    """Turn an error of JAX at its start, for which some variable is to blame, into a UserError."""
    try:
        yield
    except (RuntimeError, ValueError, AssertionError) as error:
        platforms = os.environ.get("JAX_PLATFORMS", "")
        said = " ".join(str(error).split())[:300].rstrip(".") or "none of them is there"
        raise UserError(
            f"JAX does not start with JAX_PLATFORMS={platforms!r}: {said}. Set JAX_PLATFORMS to a "
            "platform of this machine ('cpu'), or mend the variable JAX_… that it names."
        ) from error


def check_flags() -> None:
    """Refuse a flag of the user's in `XLA_FLAGS` that XLA does not know: it would end the process.

    Another process tries them, once for each version and value.

    Raises:
        UserError: XLA's words.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    if not flags.replace(f"{FUSION_FLAG}=", "", 1).strip():
        return
    version = importlib.metadata.version("jaxlib")
    known = cache_dir() / f"flags-{hashlib.sha256(f'{version} {flags}'.encode()).hexdigest()[:16]}"
    with contextlib.suppress(OSError):
        if known.exists():
            return
    code = "import jax; jax.config.update('jax_platforms', 'cpu'); jax.devices()"
    tried = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    said = [line for line in tried.stderr.splitlines() if "XLA_FLAGS" in line]
    if tried.returncode and said:
        raise UserError(f"XLA ends: {said[0].partition('] ')[2][:300]}. Mend XLA_FLAGS.")
    with contextlib.suppress(UserError):
        files.write_json(known, {"flags": flags})


def cpu_computes() -> bool:
    """Return whether JAX will compute on the CPU, without starting it.

    So it is where `JAX_PLATFORMS` names the CPU first, or where no plugin for an accelerator is
    installed. Where there is a plugin and no accelerator, this says no.
    """
    platforms = os.environ.get("JAX_PLATFORMS", "")
    if platforms:
        return platforms.split(",")[0] == "cpu"
    plugins = importlib.metadata.entry_points(group="jax_plugins")
    return not plugins and not any(map(importlib.util.find_spec, ("jax_plugins", "libtpu")))


def xla_options(compute_dtype: str) -> dict[str, bool] | None:
    """Return XLA's options for a program that computes in `compute_dtype`.

    On a CPU bfloat16 goes through oneDNN: twice the speed of float32 on processors that multiply
    bfloat16, where XLA's own kernels widen it first. The compilation cache cannot hold such a
    program: jaxlib 0.12 writes down no call of oneDNN, neither these (it ends in `bad_alloc`) nor
    those of `xla_cpu_use_onednn`, which has products alone.
    """
    import jax

    on_cpu = jax.default_backend() == "cpu"
    return {ONEDNN_FLAG: True} if on_cpu and through_onednn(compute_dtype) else None


def options_of_one_run() -> dict[str, int] | None:
    """Return XLA's options for a program that runs once, such as a model's initialisation.

    On a CPU, LLVM's care for its many random kernels takes as long as for the train step itself.
    """
    import jax

    return {"xla_backend_optimization_level": 1} if jax.default_backend() == "cpu" else None


def traceable_options() -> dict[str, str]:
    """Return XLA's options for a program whose kernels a profile is to name.

    CUDA graphs (XLA's command buffers) hide which operation a kernel belongs to.
    """
    import jax

    return {"xla_gpu_enable_command_buffer": ""} if jax.default_backend() == "gpu" else {}


def through_onednn(dtype: Any) -> bool:
    """Return whether `xla_options` sends convolutions of this type through oneDNN on the CPU.

    Only bfloat16 gains by it. jaxlib 0.12 carries oneDNN and 0.10 does not; XLA asks it for
    bfloat16 from AVX-512 on.
    """
    return str(dtype) == "bfloat16" and onednn_there()


@functools.cache
def onednn_there() -> bool:
    """Return whether jaxlib carries oneDNN, and the processor has AVX-512."""
    version = importlib.metadata.version("jaxlib").split(".")
    return (int(version[0]), int(version[1])) >= (0, 12) and "avx512f" in _processor()


def processor() -> str:
    """Return what the processor calls itself; empty where the kernel does not say."""
    found = re.search(r"^model name\s*: *(.+)$", _processor(), re.MULTILINE)
    return found[1] if found else ""


def _processor() -> str:
    try:
        return pathlib.Path("/proc/cpuinfo").read_text()
    except OSError:
        return ""


def self_check() -> None:
    """Compare compiled gradients with op-by-op ones; remember a pass per jaxlib and flags.

    Raises:
        UserError: They differ: this build of XLA computes wrong numbers.
    """
    version = importlib.metadata.version("jaxlib")
    subject = f"{version} {os.environ.get('XLA_FLAGS', '')}"
    passed = cache_dir() / f"numerics-{hashlib.sha256(subject.encode()).hexdigest()[:16]}.json"
    with contextlib.suppress(OSError):  # what cannot be remembered is checked each time
        if passed.exists():
            return
    errors = gradient_errors()
    bad = {name: error for name, error in errors.items() if not error < TOLERANCE}
    if bad:
        listed = ", ".join(f"{name} is off by {error:.1%}" for name, error in bad.items())
        raise UserError(
            f"jaxlib {version} computes wrong numbers on this CPU: {listed} (at most "
            f"{TOLERANCE:.1%} expected) with XLA_FLAGS={os.environ.get('XLA_FLAGS', '')!r}. Remove "
            f"flags that switch fusions on, keep {FUSION_FLAG}= (empty), or install the jaxlib of "
            "requirements.txt."
        )
    with contextlib.suppress(UserError):
        files.write_json(passed, errors)


def gradient_errors() -> dict[str, float]:
    """Return the largest error of compiled gradients, relative to the largest value op by op.

    The cases are those known to have gone wrong: a LayerNorm gradient over many rows and a vmapped
    matrix-vector product.
    """
    import jax
    import numpy as np

    def layer_norm(x: jax.Array) -> jax.Array:
        centred = x - x.mean(-1, keepdims=True)
        return centred * jax.lax.rsqrt((centred**2).mean(-1, keepdims=True) + 1e-6)

    def row_energy(matrix: jax.Array, row: jax.Array) -> jax.Array:
        return ((matrix @ row) ** 2).sum()

    # NumPy makes the inputs and compares: every JAX operation more is a compilation more.
    x, cotangent = np.random.default_rng(0).normal(size=(2, 4096, 8)).astype(np.float32)
    rows = np.arange(3 * 32769, dtype=np.float32).reshape(-1, 3) / 32769
    cases = {
        "a LayerNorm gradient": (
            jax.grad(lambda x, y: (y * layer_norm(x)).sum()),
            (x, cotangent),
        ),
        "a vmapped matrix-vector product": (
            jax.vmap(row_energy, (None, 0)),
            (np.eye(3, dtype=np.float32), rows),
        ),
    }
    errors = {}
    for name, (function, arguments) in cases.items():
        with jax.disable_jit():
            expected = np.asarray(function(*arguments))
        got = np.asarray(jax.jit(function)(*arguments))
        errors[name] = float(np.abs(got - expected).max() / np.abs(expected).max())
    return errors
