"""What a compiled step costs, by figures that no machine's speed changes, beside recorded ones.

A figure more than 2 % away from the recorded one is a change to be meant: record it in the same
commit with `SEGJAX_GOLDEN=write pytest tests/test_configs.py`, under each version of jaxlib.
"""

import json
import os
import pathlib
import re
from typing import Any

import jaxlib

RECORDS = pathlib.Path(__file__).parent / "golden" / "costs"
TOLERANCE = 0.02
_INSTRUCTION = re.compile(r"^\s*(?:ROOT )?%\S+ = ", re.MULTILINE)


def measure(compiled: Any) -> dict[str, int]:
    """Return FLOPs, bytes accessed, peak memory and number of operations on one device."""
    counts, memory = compiled.cost_analysis(), compiled.memory_analysis()
    held = memory.argument_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes
    return {
        "flops": int(counts["flops"]),
        "bytes_accessed": int(counts["bytes accessed"]),
        "peak_memory": held + memory.temp_size_in_bytes,
        "operations": len(_INSTRUCTION.findall(compiled.as_text())),
    }


def check(name: str, compiled: Any) -> None:
    """Compare a step's figures with those recorded for `name`, or record them."""
    path = RECORDS / f"{name}.json"
    found, version = measure(compiled), jaxlib.__version__
    records = json.loads(path.read_text()) if path.exists() else {}
    if os.environ.get("SEGJAX_GOLDEN") == "write":
        records[version] = found
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(records, indent=1, sort_keys=True) + "\n")
    assert version in records, f"{path.name} has no record for jaxlib {version}: see {__name__}"
    for figure, expected in records[version].items():
        assert abs(found[figure] / expected - 1) <= TOLERANCE, (
            f"{name}: {figure} of a step is {found[figure]:,}, recorded {expected:,}. If that is "
            f"meant, record it: see {__name__}"
        )
