"""When to score and to save: each trial by itself, and ready to stop at any batch."""

import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import jax

from segjax.config import schedule
from segjax.config.schedule import itstime
from segjax.runs import checkpoint, evaluate
from segjax.runs import writer as writer_lib
from segjax.runs.log import Log
from segjax.runtime import distributed, watchdog
from segjax.training import state as state_lib
from segjax.training import trials


class Scoring:
    """Run the evaluators when they are due; preemption need not wait for their end."""

    def __init__(
        self,
        evaluators: list[Any],
        log: Log,
        clock: schedule.Clock,
        dog: watchdog.Watchdog,
        preempted: Callable[[], bool],
        path: pathlib.Path,
        writer: writer_lib.Writer,
    ):
        self.evaluators, self.path, self.log, self.dog = evaluators, path, log, dog
        self.writer = writer
        self.total_steps, self.preempted = clock.total_steps, preempted

    def say(self, text: str) -> None:
        """Show a line, of trials with its folder's name."""
        self.log.message(f"{self.path.name}: {text}" if len(self.log.writers) > 1 else text)

    def due(self, number: int) -> list[Any]:
        """Return the evaluators that are to run after step `number`."""
        return [e for e in self.evaluators if itstime(number, e.every_steps, self.total_steps)]

    def missed(self, number: int) -> bool:
        """Return whether evaluation was due at `number` and is not in the log: it was cut short."""
        name = next((name for e in self.due(number) for name in e.metrics()), None)
        if name is None:
            return False
        # Only process 0 is sure to see the log.
        records = writer_lib.read(self.path) if jax.process_index() == 0 else []
        done = any(record["step"] == number and name in record for record in records)
        return not distributed.from_first(done)

    def __call__(self, number: int, state: state_lib.TrainState) -> tuple[dict[str, float], bool]:
        """Return the scalars of the evaluators that are due, and whether SIGTERM cut them short."""
        self.dog.now("evaluation", number)
        last = number == self.total_steps
        try:
            due = self.due(number)
            return evaluate.run_all(
                due, state, self.path, self.say, self.writer, draw=last, beat=self.beat
            ), False
        except Preempted:
            return {}, True

    def beat(self) -> None:
        """Say that the evaluation goes on; called after each of its batches."""
        self.dog.now("evaluation", self.dog.step)
        if self.preempted():
            raise Preempted


class Keeper:
    """Score and save the state; of trials each by itself, in its own folder."""

    def __init__(
        self,
        scores: Sequence[Scoring],
        savers: Sequence[checkpoint.Checkpointer],
        target: state_lib.TrainState,
    ):
        self.each, self.take = list(zip(scores, savers, strict=True)), trials.make_take(target)

    def __call__(self, number: int, state: state_lib.TrainState, *, save: bool, stop: bool) -> bool:
        """Score what is due and save what is asked for or best; return whether SIGTERM came.

        With `stop`, or once it came, nothing is scored any more and all is saved.
        """
        for i, (score, saver) in enumerate(self.each):
            own = self.take(state, i)
            metrics, stop = ({}, True) if stop else score(number, own)
            if save or stop or saver.keep_best in metrics:
                score.dog.now("checkpoint save", number)
                saver.save(number, own, metrics)
                if len(self.each) > 1:
                    # Orbax's processes wait for each other by the step's number: two trials' saves
                    # of one step, both on their way, would take each other's word.
                    saver.wait()
        return stop

    def catch_up(self, number: int, state: state_lib.TrainState) -> bool:
        """Score what was due at `number` and cut short; return whether SIGTERM came again."""
        for i, (score, saver) in enumerate(self.each):
            if score.missed(number):
                own = self.take(state, i)
                metrics, stop = score(number, own)
                if saver.keep_best in metrics:
                    saver.save(number, own, metrics)  # again, now with its rank
                if stop:
                    return True
        return False


class Preempted(Exception):
    """SIGTERM came during an evaluation."""
