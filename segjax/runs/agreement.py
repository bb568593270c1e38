"""Whether steps that were taken again ended where they had: in every bit, or within bounds."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from segjax.data import hashes
from segjax.runs import damage, live, replay, writer
from segjax.runs.checkpoint import locate
from segjax.runs.findings import Finding, differs, note, ok
from segjax.runs.live import Values
from segjax.runs.replay import Replay
from segjax.runs.saved import Saved
from segjax.training.state import TrainState

MOVED = 0.5
"""Where bits cannot be expected: how far each branch of the state may end from where it had ended,
as a share of the way that it had gone in these steps (2-norms). Other data, keys or signs go
another way, and end about as far apart as they went, or farther. Rounding alone can make a fifth of
the way: Adam takes whole steps even where a gradient is nothing but rounding, as that of a bias
before a batch norm."""
LOSS = 0.02
"""There too: how far a logged number may lie from the one taken again, relative to it."""
Arrays = Mapping[str, np.ndarray]


def compare_states(
    made: Replay, step: int, begun: Arrays, state: TrainState, *, why: str
) -> Finding:
    """Return whether a replayed state is that of the checkpoint `step`.

    Args:
        made: The run.
        step: Steps done.
        begun: The arrays that the replay began with.
        state: The replayed one.
        why: Why bits cannot be expected; empty: they have to be the same.
    """
    about = f"state after step {step}"
    folder = locate(made.path, made.run.config["checkpoint"]["root"]) / str(step)
    try:
        saved = damage.by_path(damage.read(folder, lambda _: None))
    except damage.Damaged as error:
        return note(about, f"its checkpoint is damaged ({error}): not compared")
    got = replay.host_tree(state)
    if saved.keys() != got.keys():
        odd = sorted(saved.keys() ^ got.keys())
        return differs(about, f"not the same arrays: {hashes.listed(odd)}")
    other = [name for name in saved if not same_bits(np.asarray(saved[name]), got[name])]
    if not other:
        return ok(about, f"all {len(got)} arrays bit for bit: {', '.join(branches(got))}")
    shares = moved_apart(begun, saved, got)
    worst = max(shares, key=lambda name: shares[name])
    text = (
        f"{len(other)} of {len(got)} arrays have other bits, first {other[0]}; {worst} ends "
        f"{shares[worst]:.2g} of its way apart"
    )
    if why and shares[worst] <= MOVED:
        return ok(about, f"{text}, at most {MOVED} expected, as {why}")
    return differs(
        about, f"{text}; expected {f'at most {MOVED}, as {why}' if why else 'equal bits'}"
    )


def compare_digests(step: int, saved: Saved, state: TrainState, *, why: str) -> Finding:
    """Return whether a replayed state is what was saved at a step whose checkpoint is gone."""
    about, got = f"state after step {step}", replay.branch_digests(state)
    other = [name for name, value in saved.digests.items() if got.get(name) != value]
    if not other:
        return ok(about, "bit for bit what was saved then, by its digests")
    if why:
        return note(about, f"other bits, and the checkpoint is deleted: not compared, as {why}")
    return differs(about, f"{', '.join(other)}: other bits than were saved then")


def compare_logs(
    made: Replay,
    start: int,
    values: Mapping[int, Values],
    batch_hashes: Mapping[int, int],
    saved: Sequence[int],
    *,
    why: str,
) -> Iterator[Finding]:
    """Yield whether the log's lines of some steps are what the steps gave again.

    Args:
        made: The run.
        start: The steps done before the first.
        values: What each step gave.
        batch_hashes: Of the batch of each step.
        saved: After which steps the run may have gone on from a checkpoint.
        why: As in `compare_states`.
    """
    records, end = writer.read(made.path), max(values)
    hashed = {r["step"]: r["data/batch_hash"] for r in records if "data/batch_hash" in r}
    if known := [step for step in batch_hashes if step in hashed]:
        other = [step for step in known if hashed[step] != batch_hashes[step]]
        if other:
            yield differs("batches", f"others than logged: {len(other)}, first at step {other[0]}")
        else:
            yield ok("batches", f"all {len(known)} as logged")
    faults, count = [], 0
    for record, begins in replay.windows_of(records, saved):
        step, inside = record["step"], [begin for begin in begins if begin >= start]
        if not inside or not start < step <= end:
            continue
        means = [live.mean([values[i] for i in range(b + 1, step + 1)]) for b in inside]
        if None in record.values():
            means.append(values[step])  # the step that ended the run is logged by itself
        wrong = [differing(record, each, exact=not why) for each in means]
        if not all(wrong):
            count += 1
        elif inside == begins:  # else its mean may have begun before the steps taken again
            faults += [f"step {step}: {line}" for line in min(wrong, key=len)]
    about = f"log of steps {start + 1} to {end}"
    if faults:
        yield differs(about, hashes.listed(faults))
    elif count:
        how = f"within {LOSS:.0%}, as {why}" if why else "exactly"
        yield ok(about, f"{count} lines of losses and norms as logged, {how}")
    else:
        yield note(about, "no line of it is of these steps alone")


def differing(record: Mapping[str, Any], values: Values, *, exact: bool) -> list[str]:
    """Return which logged numbers are others than those of a replay."""
    found = []
    for name, value in values.items():
        logged = record.get(name)
        if name not in record or (logged is None and not math.isfinite(value)):
            continue
        near = 0.0 if exact else LOSS * abs(value) + 1e-6
        if logged is None or not abs(logged - value) <= near:
            found.append(f"{name} {logged!r} logged, {value!r} again")
    return found


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    """Return whether two arrays are equal in every bit, so that a NaN equals itself."""
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def branches(arrays: Arrays) -> list[str]:
    """Return the branches of a state that arrays are of."""
    return list(dict.fromkeys(name.partition("/")[0] for name in arrays))


def moved_apart(begun: Arrays, saved: Arrays, got: Arrays) -> dict[str, float]:
    """Return of each branch how far two ends lie apart, as a share of the way to the first."""
    found = {}
    for branch in branches(got):
        names = [name for name in got if name.partition("/")[0] == branch]
        apart, way = (
            math.sqrt(sum(_square(saved[name], other[name]) for name in names))
            for other in (got, begun)
        )
        found[branch] = apart / way if way else math.inf if apart else 0.0
    return {name: share if math.isfinite(share) else math.inf for name, share in found.items()}


def _square(a: np.ndarray, b: np.ndarray) -> float:
    difference = np.asarray(a, np.float64) - np.asarray(b, np.float64)
    return float((difference**2).sum())
