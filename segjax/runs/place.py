"""Where a run computes: what decides the bits of its numbers beside config, data and code."""

import os
from typing import Any

import jax
from jax.sharding import Mesh

from segjax.runtime import xla


def of_mesh(mesh: Mesh) -> dict[str, Any]:
    """Return what `run.json` says of the machine and of how its devices are laid out."""
    return {
        "devices": [device.device_kind for device in mesh.devices.flat],
        "cores": len(os.sched_getaffinity(0)),
        "processor": xla.processor(),
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "processes": jax.process_count(),
        "mesh": dict(mesh.shape),
    }
