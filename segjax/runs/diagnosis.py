"""Look into one step of a run, taken again: what is not finite, and where it begins."""

import contextlib
from collections.abc import Iterator, Mapping

from segjax.data import hashes
from segjax.runs import digest, failure
from segjax.runs.findings import Finding, differs, note, ok
from segjax.runs.replay import Replay
from segjax.training import diagnose
from segjax.training.state import TrainState


def look(made: Replay, step: int, state: TrainState) -> Iterator[Finding]:
    """Yield what of step number `step` is finite, in the order in which it is computed.

    Args:
        made: The run.
        step: The step that is looked into.
        state: That before it.
    """
    parts, about = made.setup.parts, f"step {step}"
    with contextlib.closing(made.batches(step - 1)) as batches:
        batch = next(batches)
    left = failure.load(made.path)
    if left.get("step") == step and "batch_hash" in left:
        same = left["batch_hash"] == digest.of_arrays(batch)
        text = f"the batch made again is {'' if same else 'not '}that of {failure.FOLDER}"
        yield ok(about, text) if same else differs(about, text)
    if left.get("step") == step and left.get("names"):
        yield note(about, f"its examples: {hashes.listed([str(each) for each in left['names']])}")
    see = diagnose.make_look(
        parts.trained, parts.task, augment=parts.augment, normalize=parts.normalize
    )
    found = see(state, batch, made.run.step_key)
    for what, flags in (
        ("before it", found.state), ("images", found.images), ("layers", found.outputs)
    ):  # fmt: skip
        yield note(f"{about}, {what}", said(flags))
    terms = ", ".join(f"{name} {value:.6g}" for name, value in found.terms.items())
    yield note(f"{about}, terms of the loss", terms)
    yield note(f"{about}, gradients from the last layer back", said(found.gradients))


def said(flags: Mapping[str, bool]) -> str:
    """Return in words which of some arrays are not finite, the first of them first."""
    wrong = [name for name, finite in flags.items() if not finite]
    if not wrong:
        return f"all {len(flags)} finite"
    return f"{len(wrong)} of {len(flags)} not finite, first {hashes.listed(wrong)}"
