"""Profile: trace some steps for XProf and Perfetto, and say which operations take the time.

Times come from the trace, by HLO instruction; modules from the compiled step's own text, whose
`op_name` holds JAX's name stack (`jit(train_step)/transpose(jvp(Model))/down0/conv1/conv/…`).
"""

import collections
import contextlib
import io
import json
import pathlib
import re
import time
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import jax
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from segjax.costs import flops
from segjax.errors import ConfigError
from segjax.runtime import files, xla

SHOWN = 10
OUTSIDE = "outside the model"
"""The module of what no module did: augmentation, normalisation, loss, optimiser."""


class Op(NamedTuple):
    """One operation of the compiled step, a fusion as a whole.

    Attributes:
        name: Of the HLO instruction.
        ms: Its time in one step, mean over steps and devices. Where several run at once, each has
            its share of that time: all together take no longer than the step.
        share: Of the step.
        module: The module it comes from (`down0/conv1/conv`); 'near …' where XLA kept no name and a
            neighbour had one.
        direction: 'forward', 'backward', 'recomputed' or ''.
        op_name: XLA's own words for it.
    """

    name: str
    ms: float
    share: float
    module: str
    direction: str
    op_name: str


class Tracer:
    """Trace the steps that `--profile_steps` asks for; without any, do nothing.

    Only process 0 traces. `<folder>/plugins/profile/<time>/` then holds the trace, for XProf and,
    as `perfetto_trace.json.gz`, for ui.perfetto.dev; `<folder>/ops.json` has every operation.

    Args:
        folder: Where it goes.
        steps: `first:last`, both included, counted from 1 as in the log; empty: none.
        total_steps: The run's length.

    Raises:
        ConfigError: `steps` is none of that.
    """

    def __init__(self, folder: pathlib.Path, steps: str, total_steps: int):
        self.folder, self.active, self.seconds = folder, False, 0.0
        self.steps = parse(steps, total_steps=total_steps) if steps else range(0)

    def __enter__(self) -> "Tracer":
        return self

    def __exit__(self, *_: object) -> None:
        if self.active:
            jax.profiler.stop_trace()

    @contextlib.contextmanager
    def compiling(self) -> Iterator[dict[str, Any]]:
        """Yield XLA's options for a step that is to be traced by operation, and compile it inside.

        The compilation cache takes a program of other names for the same one.
        """
        name = "jax_compilation_cache_include_metadata_in_key"
        before = getattr(jax.config, name)
        jax.config.update(name, before or bool(self.steps))
        try:
            yield xla.traceable_options() if self.steps else {}
        finally:
            jax.config.update(name, before)

    def check(self, start: int) -> None:
        """Refuse steps that the run, going on after `start`, has behind it."""
        if self.steps and self.steps[0] <= start:
            raise ConfigError(
                f"--profile_steps={self.steps[0]}:{self.steps[-1]}: the run goes on after step "
                f"{start}. Name later steps, or another --workdir."
            )

    @contextlib.contextmanager
    def step(self, number: int, step: Any, log: Any) -> Iterator[None]:
        """Trace what happens inside if `number` is one of the steps; after the last, report.

        Args:
            number: The step that is run inside.
            step: Compiled.
            log: `log.Log`. A traced step is waited for, so that its time is its own.
        """
        if number not in self.steps or jax.process_index():
            yield
            return
        if number == self.steps[0]:
            with log.watch.paused():
                log.read_last()
                self.start()
        begun = time.perf_counter()
        with jax.profiler.StepTraceAnnotation("train", step_num=number):
            yield
            log.read_last()
        self.seconds += (time.perf_counter() - begun) / len(self.steps)
        if number == self.steps[-1]:
            with log.watch.paused():
                for line in self.stop(step).splitlines():
                    log.message(line)

    def start(self) -> None:
        """Begin the trace."""
        self.folder.mkdir(parents=True, exist_ok=True)
        options = jax.profiler.ProfileOptions()
        options.python_tracer_level = 0  # slows the steps and hides them among calls
        jax.profiler.start_trace(self.folder, create_perfetto_trace=True, profiler_options=options)
        self.active = True

    def stop(self, step: Any) -> str:
        """End the trace, write `ops.json` and return what to show of it."""
        self.active = False
        jax.profiler.stop_trace()
        newest = max(self.folder.rglob("*.xplane.pb"), key=lambda path: path.stat().st_mtime)
        program = Program(step.as_text())
        events = events_of(jax.profiler.ProfileData.from_file(str(newest)), program)
        ops = operations(events, program, steps=len(self.steps), seconds=self.seconds)
        with files.replacing(self.folder / "ops.json") as file:
            content = {
                "steps": [self.steps[0], self.steps[-1]],
                "step_ms": 1e3 * self.seconds,
                "ops": [op._asdict() for op in ops],
            }
            file.write_text(json.dumps(content, indent=1) + "\n")
        table = draw(ops, steps=self.steps, seconds=self.seconds)
        return f"{table}\nfor XProf and Perfetto: {newest.parent}"


def parse(text: str, *, total_steps: int) -> range:
    """Return the steps that `first:last` names, both included."""
    found = re.fullmatch(r"(\d+):(\d+)", text)
    if found and 1 <= int(found[1]) <= int(found[2]) <= total_steps:
        return range(int(found[1]), int(found[2]) + 1)
    raise ConfigError(
        f"--profile_steps={text!r}: expected first:last, both included, with 1 <= first <= last <= "
        f"{total_steps}, the run's steps."
    )


class Instruction(NamedTuple):
    """One line of an HLO text; `uses` names its operands and the computations it calls."""

    computation: str
    opcode: str
    uses: tuple[str, ...]
    op_name: str


class Program:
    """What an HLO text (`compiled.as_text()`) says of each instruction.

    Attributes:
        module: The program's name.
        instructions: By name.
    """

    def __init__(self, text: str):
        self.module, here = "", ""
        self.instructions: dict[str, Instruction] = {}
        self.bodies: dict[str, list[str]] = collections.defaultdict(list)
        self.users: dict[str, list[str]] = collections.defaultdict(list)
        for line in text.splitlines():
            opened = re.match(r"(?:ENTRY )?%?([\w.-]+) \(.*\{$", line)
            here = opened[1] if opened else here
            found = re.match(r"\s+(?:ROOT )?%?([\w.-]+) = (.*?) ([a-z][\w-]*)\((.*)", line)
            if line.startswith("HloModule "):
                self.module = line.split()[1].rstrip(",")
            elif found:
                name, _, opcode, rest = found.groups()
                uses, _, metadata = rest.partition("metadata={")
                op_name = re.search(r'op_name="((?:[^"\\]|\\.)*)"', metadata)
                words = dict.fromkeys(re.findall(r"%([\w.-]+)", uses))
                text_name = op_name[1].replace("\\'", "'") if op_name else ""
                self.instructions[name] = Instruction(here, opcode, tuple(words), text_name)
                self.bodies[here].append(name)
                for word in words:
                    self.users[word].append(name)

    def source(self, name: str) -> tuple[str, str, str]:
        """Return module, direction and op_name of an instruction.

        Its own name counts; without one that of what it computes, from its result back; then the
        weight that it is the gradient of; then the nearest neighbour's that has a module.
        """
        for op_name in self._names(name):
            return *place(op_name), op_name
        for user in self.users[name]:
            for other in self.instructions[user].uses:
                leaf = self.instructions.get(other)
                keys = re.findall(r"\['(\w+)'\]", leaf.op_name) if leaf else []
                if keys and "opt_state" in leaf.op_name:  # pyright: ignore
                    return "/".join(keys[:-1]), "backward", ""
        for other in self._around(name):
            for op_name in self._names(other):
                module, direction = place(op_name)
                if module != OUTSIDE:
                    return f"near {module}", direction, ""
        return "", "", ""

    def _names(self, name: str) -> Iterator[str]:
        """Yield JAX's names of an instruction, then of those that it calls."""
        found = self.instructions.get(name)
        if found is None:
            return
        if "jit(" in found.op_name:
            yield found.op_name
        for called in found.uses:
            inner = (self.instructions[n].op_name for n in reversed(self.bodies.get(called, [])))
            yield from (op_name for op_name in inner if "jit(" in op_name)

    def _around(self, name: str) -> Iterator[str]:
        """Yield the neighbours of an instruction, operands first, nearest first, to three away."""
        seen, near = {name}, [name]
        for _ in range(3):
            found = [self.instructions[n].uses for n in near if n in self.instructions]
            found += [self.users[n] for n in near]
            near = [n for n in dict.fromkeys(n for names in found for n in names) if n not in seen]
            seen.update(near)
            yield from near


TRANSFORMS = re.compile(r"^(?:transpose|jvp|vmap)\((.*)\)$")
CONTROL = re.compile(
    r"^$|^(?:while|body|cond|branch_\d+_fun|closed_call)$|checkpoint|^remat|^jit\(|->"
)
"""Parts of a name stack that are no module; '->' is an einsum's."""


def place(op_name: str) -> tuple[str, str]:
    """Return the module (`down0/conv1/conv`) and the direction that a name stack tells.

    `jit(train_step)/transpose(jvp(Model))/down0/conv1/conv/conv_general_dilated` is
    `('down0/conv1/conv', 'backward')`.
    """
    model, parts = "", []
    for part in re.split(r"/(?![^()]*\))", op_name)[:-1]:  # the last is the operation
        derived = "jvp(" in part
        while inside := TRANSFORMS.match(part):
            part = inside[1]
        if CONTROL.search(part) or flops.is_method(part):
            continue
        if derived:
            model = part
        else:
            parts.append(part)
    if "rematted_computation" in op_name:
        direction = "recomputed"
    elif "transpose(" in op_name:
        direction = "backward"
    else:
        direction = "forward" if "jvp(" in op_name else ""
    return ("/".join(parts) or model) if model else OUTSIDE, direction


class Event(NamedTuple):
    """One run of an operation on `device`, in nanoseconds."""

    device: str
    name: str
    start: float
    end: float


def events_of(data: Any, program: Program) -> Iterator[Event]:
    """Yield the runs of `program`'s operations that a trace (`jax.profiler.ProfileData`) holds.

    A thread of the CPU launches an operation and goes on: the operation ends where another event
    says so (`end: convolution.3`). What a GPU does for no known operation counts by kernel.
    """
    found, ends = [], {}
    for plane in data.planes:
        for line in plane.lines:
            stream = plane.name.startswith("/device:") and line.name.startswith("Stream")
            for event in line.events:
                stats = dict(event.stats)
                if event.name.startswith("end: "):
                    ends[stats.get("_c")] = event.start_ns
                name = str(stats.get("hlo_op") or event.name)
                kernel = stream and not event.name.startswith("Memcpy")
                ours = stats.get("hlo_module", program.module) == program.module
                if ours and (kernel or name in program.instructions):
                    device = f"{plane.name} {stats.get('device_ordinal', '')}"
                    found.append((Event(device, name, event.start_ns, event.end_ns), stats))
    for event, stats in found:
        end = ends.get(stats["_p"], 0) if "_p" in stats else 0
        yield event._replace(end=max(event.end, end))


def operations(
    events: Iterable[Event], program: Program, *, steps: int, seconds: float
) -> list[Op]:
    """Return the time of every operation, the longest first.

    Args:
        events: Of all steps traced.
        program: Theirs.
        steps: How many.
        seconds: Of one step.
    """
    by_device = collections.defaultdict(list)
    for event in events:
        by_device[event.device].append(event)
    spent: collections.Counter[str] = collections.Counter()
    for device in by_device.values():
        spent.update(shared_time(device, program))
    ops = []
    for name, nanoseconds in spent.most_common():
        ms = nanoseconds / 1e6 / steps / len(by_device)
        ops.append(Op(name, ms, ms / 1e3 / seconds, *program.source(name)))
    return ops


def shared_time(events: Iterable[Event], program: Program) -> dict[str, float]:
    """Return the nanoseconds of each operation on one device; those that overlap share the time.

    Loops, calls and branches count only while nothing inside them runs.
    """
    edges = [(event.start, 1, event.name) for event in events]
    edges += [(event.end, -1, event.name) for event in events]
    running: collections.Counter[str] = collections.Counter()
    spent: dict[str, float] = collections.defaultdict(float)
    last = 0.0
    for moment, change, name in sorted(edges):
        if moment > last and running:
            leaves = [n for n in running if not _is_control(program, n)] or list(running)
            for leaf in leaves:
                spent[leaf] += (moment - last) / len(leaves)
        last = moment
        running[name] += change
        if not running[name]:
            del running[name]
    return spent


def _is_control(program: Program, name: str) -> bool:
    found = program.instructions.get(name)
    return found is not None and found.opcode in ("while", "conditional", "call")


def draw(ops: list[Op], *, steps: range, seconds: float) -> str:
    """Return the most expensive operations as a table for the terminal."""
    share = sum(op.share for op in ops)
    title = f"steps {steps[0]} to {steps[-1]}: {1e3 * seconds:,.1f} ms each, {share:.0%} of it in "
    table = Table(title=f"{title}{len(ops)} operations", box=box.SIMPLE_HEAD)
    table.add_column("operation", no_wrap=True)
    for name in ("ms a step", "share"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("module", no_wrap=True)
    table.add_column("direction", no_wrap=True)
    for op in ops[:SHOWN]:
        what = ": " + "/".join(op.op_name.split("/")[-2:]) if op.module == OUTSIDE else ""
        table.add_row(
            op.name, f"{op.ms:,.2f}", f"{op.share:.1%}", escape(op.module + what), op.direction
        )
    text = io.StringIO()
    Console(file=text, width=140, no_color=True).print(table)
    return "\n".join(line.rstrip() for line in text.getvalue().strip("\n").splitlines())
