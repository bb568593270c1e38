"""Plan: compile a run for devices that are not there, and say what it will need and how long.

Virtual CPU devices stand in for real ones. What XLA partitions, communicates and allocates is read
from the compiled program; how long it takes is predicted from `timing.SPECS`.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
from rich import box
from rich.console import Console
from rich.table import Table

from segjax import assemble, flops, hlo, schedule, timing, train
from segjax import config as config_lib
from segjax.data import pipeline

COMPUTE, MEMORY, LINK = 0.5, 0.8, 0.35
"""Shares of a data sheet's figures that a good program reaches: of the peak FLOP/s, of the memory's
bandwidth, and of the links' (sheets add both directions, a ring uses one)."""
ASSUMPTIONS = f"""\
Assumed: products reach {COMPUTE:.0%} of the device's dense bf16 peak (half of it in float32).
What they read and write passes memory once, element-wise work as much again, at {MEMORY:.0%} of its
bandwidth; the slower of the two counts. Collectives run in rings at {LINK:.0%} of the links'
bandwidth between all devices and hide behind nothing. Memory is XLA's own analysis for the CPU: an
accelerator's compiler lays out and fuses differently, and bfloat16 is widened on the CPU."""


class Plan(NamedTuple):
    """What one train step needs on each device.

    Attributes:
        devices: How many there are.
        memory: Bytes by what they are for: 'state and batch', 'results', 'temporary'.
        flops: Of its share of convolutions and products.
        traffic: Bytes that these read and write.
        collectives: Kind to bytes that it yields.
        wide: Whether products compute in float32 or more.
    """

    devices: int
    memory: dict[str, int]
    flops: float
    traffic: float
    collectives: dict[str, int]
    wide: bool


def run(config: Mapping[str, Any]) -> int:
    """Print the plan of `config` on the devices that are there: virtual ones, see run.py."""
    config = config_lib.section(config)
    config_lib.check_top_level(config)
    source = assemble.make_source(config, config["input"]["split"])
    parts = assemble.make_parts(config, assemble.classes_of(source))
    batch_size = config["input"]["batch_size"]
    clock = schedule.Clock(batch_size, len(source))
    total = schedule.in_steps(config, ("total",), clock, "config")["total_steps"]
    plan = make_plan(config, parts, clock._replace(total_steps=total))
    console = Console(width=None if Console().is_terminal else 100)
    mesh = " × ".join(f"{axis} {n}" for axis, n in parts.mesh.shape.items())
    console.print(f"{plan.devices} devices, mesh {mesh}, {batch_size} images a step, {total} steps")
    console.print(f"FLOPs of a device     {plan.flops / 1e9:14,.1f} G a step")
    for name, size in {**plan.memory, "all": sum(plan.memory.values())}.items():
        console.print(f"memory, {name:15} {size / 1e6:12,.1f} MB", highlight=False)
    for kind, size in plan.collectives.items():
        console.print(f"{kind:22} {size / 1e6:13,.2f} MB a step", highlight=False)
    console.print(draw(plan, batch_size=batch_size, steps=total))
    console.print(ASSUMPTIONS, highlight=False)
    return 0


def make_plan(config: Mapping[str, Any], parts: assemble.Parts, clock: schedule.Clock) -> Plan:
    """Compile a train step and read off what it needs; nothing is computed."""
    key = jax.random.key(config["seed"])
    _, step, target = train.make_step(config, parts, clock, key)
    batch = pipeline.batch_shapes(clock.batch_size, parts.canvas.size, parts.classes["channels"])
    compiled = step.lower(target, batch, key).compile()
    memory = compiled.memory_analysis()
    devices = parts.mesh.size
    return Plan(
        devices,
        {
            "state and batch": memory.argument_size_in_bytes,
            "results": memory.output_size_in_bytes - memory.alias_size_in_bytes,
            "temporary": memory.temp_size_in_bytes,
        },
        flops.total(step, target, batch, key) / devices,
        flops.traffic(step, target, batch, key) / devices,
        hlo.bytes_by_kind(hlo.collectives_of(compiled.as_text())),
        parts.model.compute_dtype not in ("bfloat16", "float16"),
    )


def seconds(plan: Plan, spec: timing.Spec) -> tuple[float, float, float]:
    """Return the seconds a step computes, moves memory and communicates, by `ASSUMPTIONS`."""
    peak = COMPUTE * spec.flops / (2 if plan.wide else 1)
    ring = (plan.devices - 1) / plan.devices
    passes = {"all-reduce": 2 * ring, "collective-permute": 1.0}
    moved = sum(passes.get(kind, ring) * size for kind, size in plan.collectives.items())
    return (
        plan.flops / peak,
        2 * plan.traffic / (MEMORY * spec.bandwidth),
        moved / (LINK * spec.link),
    )


def draw(plan: Plan, *, batch_size: int, steps: int) -> Table:
    """Return the predictions for every device of `timing.SPECS` as a table."""
    table = Table(title="one step, predicted", box=box.SIMPLE_HEAD)
    table.add_column("device", no_wrap=True)
    for name in ("memory", "compute ms", "traffic ms", "links ms", "step ms", "images/s", "MFU"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("whole run", justify="right", no_wrap=True)
    need = sum(plan.memory.values())
    for name, spec in timing.SPECS.items():
        compute, memory, links = seconds(plan, spec)
        step = max(compute, memory) + links
        share = need / spec.memory
        table.add_row(
            name,
            f"{share:.0%}" if share <= 1 else f"{share:.1f}× full",
            *(f"{1e3 * part:,.1f}" for part in (compute, memory, links, step)),
            f"{batch_size / step:,.0f}",
            f"{plan.flops / step / spec.flops:.0%}",
            f"{steps * step / 3600:,.1f} h",
        )
    return table
