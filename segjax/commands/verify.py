"""Verify the run in --workdir: take steps again, and hold data, code and checkpoints to its record.

Steps are taken again from a checkpoint to the next, and the state, in every bit, and the logged
losses have to be those of the run. On another machine, other packages or trials they have to lie
within bounds, and it says which and why. With --step it looks into that step: what is not finite,
and where it begins. Nothing is written into the run. A line each: 'ok', 'differs', or 'note' for
what cannot be said. Exit code 0 where nothing differs, 1 where something does.
"""

import pathlib

from absl import flags

from segjax.commands import options
from segjax.errors import printable
from segjax.runs import workdir
from segjax.runtime import files, xla

NEEDS = options.WORKDIR
SHARED = False
DIFFERS = 1


def define(values: flags.FlagValues) -> None:
    """Define the mode's flags."""
    options.workdir(values)
    options.trust_code(values)
    text = "Take at most so many steps again; 0: all from a checkpoint to the next."
    flags.DEFINE_integer("steps", 0, text, lower_bound=0, flag_values=values)
    text = "Take steps again up to this one, from the checkpoint before it, and look into it."
    flags.DEFINE_integer("step", 0, text, lower_bound=0, flag_values=values)
    text = "Write what was found as JSON, too: a file, or a folder for its verify.json."
    flags.DEFINE_string("output", "", text, flag_values=values)


def run(values: flags.FlagValues) -> int:
    """Print what was found."""
    path = options.path(values.workdir)
    xla.prepare(virtual_devices=virtual_devices(path))
    from segjax.runs import findings, verify
    from segjax.views import progress

    found = []
    for each in verify.verify(
        path, steps=values.steps, step=values.step, trust_code=values.trust_code
    ):
        found.append(each)
        progress.line(each.line())
    print(printable(f"{path}: {findings.tally(found)}"))
    if values.output:
        target = options.path(values.output)
        target = target if target.suffix == ".json" else target / "verify.json"
        content = {"workdir": str(path), "findings": [each._asdict() for each in found]}
        files.write_json(target, content)
        print(printable(f"written to {target}"))
    return DIFFERS if any(each.kind == "differs" for each in found) else 0


def virtual_devices(path: pathlib.Path) -> int:
    """Return how many devices a CPU is to stand in for, as it did for the run; 0: as it is."""
    devices = workdir.load_facts(path).get("devices")
    if not isinstance(devices, list) or set(map(str, devices)) != {"cpu"} or len(devices) < 2:
        return 0
    return len(devices) if xla.cpu_computes() else 0
