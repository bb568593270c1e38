"""Plan: compile a run for devices that are not there, and say what it will need and how long.

Virtual CPU devices stand in for real ones. What XLA partitions, communicates and allocates is read
from the compiled program; how long it takes is predicted from `timing.SPECS`.
"""

from typing import Any, NamedTuple, Protocol

from rich import box
from rich.table import Table

from segjax.costs import flops, hlo, timing

COMPUTE, MEMORY, LINK = 0.5, 0.8, 0.35
"""Shares of a data sheet's figures that a good program reaches: of the peak FLOP/s, of the memory's
bandwidth, and of the links' (sheets add both directions, a ring uses one)."""
ROOM = 0.9
"""Share of a device's memory that one step may fill."""
ASSUMPTIONS = f"""\
Assumed: products reach {COMPUTE:.0%} of the device's dense bf16 peak (half of it in float32).
What they read and write passes memory once, element-wise work as much again, at {MEMORY:.0%} of its
bandwidth; the slower of the two counts. Collectives run in rings at {LINK:.0%} of the links'
bandwidth between all devices and hide behind nothing. Memory is XLA's own analysis for the CPU: an
accelerator's compiler lays out and fuses differently, and bfloat16 is widened on the CPU. The
largest batch is where that memory, as it grows from the configured batch to twice as much, fills
{ROOM:.0%} of the device's; convolution algorithms and fragments want the rest."""


class Compiled(Protocol):
    """A compiled train step, its jaxpr and its costs."""

    @property
    def step(self) -> Any:
        """The compiled step."""
        ...

    @property
    def jaxpr(self) -> Any:
        """The step as traced."""
        ...

    @property
    def costs(self) -> timing.Costs:
        """What it costs."""
        ...


class Plan(NamedTuple):
    """What one train step needs on each device.

    Attributes:
        devices: How many there are.
        batch_size: Images in a global batch.
        unit: A global batch is a multiple of it.
        memory: Bytes by what they are for, see `timing.Costs`.
        image: Bytes more on each device for each image more in the global batch.
        flops: Of its share of convolutions and products.
        traffic: Bytes that these read and write.
        collectives: Kind to bytes that it yields.
        wide: Whether products compute in float32 or more.
    """

    devices: int
    batch_size: int
    unit: int
    memory: dict[str, int]
    image: float
    flops: float
    traffic: float
    collectives: dict[str, int]
    wide: bool


def make_plan(
    program: Compiled,
    twice: Compiled,
    *,
    batch_size: int,
    unit: int,
    devices: int,
    compute_dtype: str,
) -> Plan:
    """Read off what a compiled train step needs.

    Args:
        program: The step.
        twice: The step for twice the batch.
        batch_size: Images in a global batch of `program`.
        unit: A global batch is a multiple of it.
        devices: How many the step runs on.
        compute_dtype: Of the model.
    """
    more = sum(twice.costs.memory.values()) - sum(program.costs.memory.values())
    return Plan(
        devices,
        batch_size,
        unit,
        program.costs.memory,
        max(more, 0) / batch_size,
        program.costs.flops,
        flops.traffic(program.jaxpr) / devices,
        hlo.bytes_by_kind(hlo.collectives_of(program.step.as_text())),
        compute_dtype not in ("bfloat16", "float16"),
    )


def lines(plan: Plan) -> list[str]:
    """Return what each device needs, a line each."""
    needs = {**plan.memory, "all": sum(plan.memory.values())}
    return [
        f"FLOPs of a device     {plan.flops / 1e9:14,.1f} G a step",
        *(f"memory, {name:15} {size / 1e6:12,.1f} MB" for name, size in needs.items()),
        *(f"{kind:22} {size / 1e6:13,.2f} MB a step" for kind, size in plan.collectives.items()),
    ]


def largest_batch(plan: Plan, memory: float) -> int:
    """Return the largest global batch that fills at most `ROOM` of `memory` bytes; 0: none fits."""
    fixed = sum(plan.memory.values()) - plan.batch_size * plan.image
    images = (ROOM * memory - fixed) / max(plan.image, 1.0)
    return max(0, int(images) // plan.unit * plan.unit)


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


def digits(value: float) -> str:
    """Return a number with one decimal where that says something."""
    return f"{value:,.1f}" if value < 100 else f"{value:,.0f}"


def draw(plan: Plan, *, steps: int) -> Table:
    """Return the predictions for every device of `timing.SPECS` as a table."""
    table = Table(title="one step, predicted; times in ms", box=box.SIMPLE_HEAD)
    table.add_column("device", no_wrap=True)
    for name in ("memory", "compute", "traffic", "links", "step", "images/s", "MFU", "run"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("largest\nbatch", justify="right", no_wrap=True)
    need = sum(plan.memory.values())
    for name, spec in timing.SPECS.items():
        compute, memory, links = seconds(plan, spec)
        step = max(compute, memory) + links
        table.add_row(
            name,
            f"{need / spec.memory:.0%}",
            *(digits(1e3 * part) for part in (compute, memory, links, step)),
            f"{plan.batch_size / step:,.0f}",
            f"{plan.flops / step / spec.flops:.0%}",
            f"{digits(steps * step / 3600)} h",
            f"{largest_batch(plan, spec.memory):,}",
        )
    return table
