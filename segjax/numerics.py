"""Right numbers on XLA's CPU backend: switch off its faulty fusions, then check that it worked.

XLA's YNNPACK fusions compile some gradients wrongly and silently (a LayerNorm gradient 50 % off on
jaxlib 0.11.1 to 0.12.0.1, a vmapped mat-vec on 0.10.2, jax-ml/jax#39103). An empty fusion list avoids
them. jax is imported late: the flag must stand in the environment before JAX starts its backend.
"""

import hashlib
import json
import os
import pathlib
import tempfile

from segjax.errors import UserError

FUSION_FLAG = "--xla_cpu_experimental_ynn_fusion_type"


def set_xla_flags() -> None:
    """Add `FUSION_FLAG` with an empty value to `XLA_FLAGS`, keeping what the user set."""
    flags = os.environ.get("XLA_FLAGS", "")
    if FUSION_FLAG not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} {FUSION_FLAG}=".strip()


def cache_dir() -> pathlib.Path:
    """Return the folder for what segjax remembers between runs (`SEGJAX_CACHE`, `~/.cache/segjax`)."""
    return pathlib.Path(os.environ.get("SEGJAX_CACHE", "~/.cache/segjax")).expanduser()
