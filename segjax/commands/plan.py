"""Compile --config for --devices devices; print memory, collectives, predicted step times.

Virtual CPU devices stand in for real ones: nothing is computed. Of a config that gives reasons for
what it decides, such as configs/auto.py, these are printed first. With --output it is written, as a
config file that can be edited; --devices may then be left out, and nothing is compiled.
"""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from absl import flags

from segjax.commands import options
from segjax.config import as_file
from segjax.errors import ConfigError, printable
from segjax.runtime import files, xla

if TYPE_CHECKING:
    from segjax.assemble.setup import Setup
    from segjax.costs.plan import Plan

NEEDS = options.CONFIG
SHARED = False


def define(values: flags.FlagValues) -> None:
    """Define the mode's flags."""
    options.config(values)
    text = "How many devices to compile for; 0: only show why a config is as it is, or write it."
    flags.DEFINE_integer("devices", 0, text, lower_bound=0, flag_values=values)
    text = "A new file, such as configs/cells.py, that the config is written to with its reasons."
    flags.DEFINE_string("output", "", text, flag_values=values)


def run(values: flags.FlagValues) -> int:
    """Print the config's reasons, write it, and print the plan, as far as each is asked for.

    Raises:
        ConfigError: Nothing is.
    """
    output = options.path(values.output) if values.output else None
    if output:
        as_file.check_path(output)
    reasons = as_file.reasons_of(values.config)
    if not (values.devices or reasons or output):
        raise ConfigError("--mode=plan needs --devices, e.g. --devices=8.")
    config = options.read_config(values)
    for line in as_file.lines(config, reasons):
        print(printable(line))
    if output:
        title = f"Written by --mode=plan --config={printable(values.config)}; edit it as you like."
        with files.replacing(output) as temporary:
            temporary.write_text(as_file.write(config, reasons, title=title))
        print(printable(f"written to {output}: train it with --config={output}"))
    if values.devices:
        print_plan(config, values.devices)
    return 0


def print_plan(config: Mapping[str, Any], devices: int) -> None:
    """Print what a step needs on so many devices."""
    xla.prepare(virtual_devices=devices)
    from rich.console import Console

    from segjax.assemble.setup import make_setup
    from segjax.costs import plan as plan_lib

    setup, _ = make_setup(config)
    plan, steps = make_plan(setup), setup.clock.total_steps
    console = Console(width=None if Console().is_terminal else 100)
    mesh = " × ".join(f"{axis} {n}" for axis, n in setup.parts.mesh.shape.items())
    console.print(
        f"{plan.devices} devices, mesh {mesh}, {plan.batch_size} images a step, {steps} steps"
    )
    for line in plan_lib.lines(plan):
        console.print(line, highlight=False)
    console.print(plan_lib.draw(plan, steps=steps))
    console.print(plan_lib.ASSUMPTIONS, highlight=False)


def make_plan(setup: "Setup") -> "Plan":
    """Compile a train step and one of twice the batch, and read off what they need; run none."""
    import jax

    from segjax.assemble import program
    from segjax.costs import plan
    from segjax.views import progress

    key, clock, mesh = jax.random.key(setup.config["seed"]), setup.clock, setup.parts.mesh
    double = setup._replace(clock=clock._replace(batch_size=2 * clock.batch_size))
    with progress.stage(f"compiling a step for {mesh.size} devices, and one of twice the batch"):
        once, twice = (program.trace(each, key, key).compile() for each in (setup, double))
    groups = mesh.shape["data"] * mesh.shape["fsdp"] * setup.config["microbatches"]
    return plan.make_plan(
        once,
        twice,
        batch_size=clock.batch_size,
        unit=math.lcm(groups, setup.config["deterministic_reduction"] or 1),
        devices=mesh.size,
        compute_dtype=setup.parts.model.compute_dtype,
    )
