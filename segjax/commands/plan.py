"""Compile --config for --devices devices; print memory, collectives, predicted step times.

Virtual CPU devices stand in for real ones: nothing is computed.
"""

import math
from typing import TYPE_CHECKING

from absl import flags

from segjax.commands import options
from segjax.runtime import xla

if TYPE_CHECKING:
    from segjax.assemble.setup import Setup
    from segjax.costs.plan import Plan

NEEDS = options.CONFIG | {"devices": "--devices=8"}
SHARED = False


def define(values: flags.FlagValues) -> None:
    """Define the mode's flags."""
    options.config(values)
    text = "How many devices to compile for."
    flags.DEFINE_integer("devices", 0, text, lower_bound=0, flag_values=values)


def run(values: flags.FlagValues) -> int:
    """Print the plan."""
    xla.prepare(virtual_devices=values.devices)
    from rich.console import Console

    from segjax.assemble.setup import make_setup
    from segjax.costs import plan as plan_lib

    setup, _ = make_setup(options.read_config(values))
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
    return 0


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
