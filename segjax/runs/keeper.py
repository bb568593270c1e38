"""When to score and to save: each run by itself, and ready to stop at any batch."""

import contextlib
import enum
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from segjax.config.schedule import itstime
from segjax.errors import NonFiniteError
from segjax.evaluators import report
from segjax.evaluators.report import Evaluator, Report, Scored
from segjax.runs import film, stopping
from segjax.runs import writer as writer_lib
from segjax.runs.live import Live, Values
from segjax.runs.log import Log
from segjax.runtime import distributed, watchdog
from segjax.training.state import TrainState

LARGEST = 1e12
"""No parameter of a model that learns comes near it."""

OnScore = Callable[[Live, int, Values], bool]
"""`(run, step, scalars) → stop?`: called on the first process whenever a run was scored."""


class Next(enum.Enum):
    """What the loop does after a step."""

    GO_ON = "go on"
    PREEMPTED = "preempted"
    ENOUGH = "enough"
    OVER = "over"


class Keeper:
    """Score and save the state of each run; preemption need not wait for an evaluation's end.

    Args:
        runs: With checkpoints and logs open.
        evaluators: Of `config.evals`.
        predictor: From the variables of one run to what predicts.
        take: `(state, number) → state`: that of one run.
        log: Where messages go.
        watchdog: Is told what goes on.
        preempted: Says whether SIGTERM came.
        on_score: May end training early: pruning, early stopping.
        about: From a step to what else decides its scores.

    Attributes:
        final: The last step; the run's length, until it stops early.
    """

    def __init__(
        self,
        runs: Sequence[Live],
        evaluators: Sequence[Evaluator],
        *,
        predictor: Callable[[Any], Scored],
        take: Callable[[TrainState, int], TrainState],
        log: Log,
        watchdog: watchdog.Watchdog,
        preempted: Callable[[], bool],
        on_score: OnScore,
        about: Callable[[int], Mapping[str, Any]],
    ):
        self.runs, self.evaluators, self.predictor, self.take = runs, evaluators, predictor, take
        self.log, self.watchdog, self.preempted, self.on_score = log, watchdog, preempted, on_score
        self.about = about
        self.final = log.total_steps
        self._largest = jax.jit(largest)

    def due(self, number: int) -> list[Evaluator]:
        """Return the evaluators that are to run after step `number`."""
        return [e for e in self.evaluators if itstime(number, e.every_steps, self.log.total_steps)]

    def __call__(self, number: int, state: TrainState, *, save: bool, stop: bool) -> Next:
        """Score what is due and save what is asked for or best.

        With `stop`, or once a signal came, nothing is scored any more and all is saved.
        """
        enough, found = False, []
        for i, run in enumerate(self.runs):
            scalars: Values = {}
            if not stop:
                scalars, stop = self.score(run, number, self.take(state, i))
            enough |= bool(scalars) and self._is_enough(run, number, scalars)
            found.append(scalars)
        over = any(found) and not stop and self.is_over(number)
        for i, (run, scalars) in enumerate(zip(self.runs, found, strict=True)):
            if save or stop or enough or over or run.saver.keep_best in scalars:
                self.watchdog.now("checkpoint save", number)
                own = self.take(state, i)
                self._check_sound(run, number, own)
                run.saver.save(number, own, scalars)
        if stop:
            return Next.PREEMPTED
        return Next.OVER if over else Next.ENOUGH if enough else Next.GO_ON

    def is_over(self, number: int) -> bool:
        """Return whether all runs have to stop early after step `number`, by their logs."""
        section = self.runs[0].config["early_stopping"]
        if not section["metric"] or number >= self.log.total_steps:
            return False
        first = jax.process_index() == 0  # only it is sure to see the logs
        found = [
            stopping.verdict(section, writer_lib.read(run.path), until=number)
            for run in (self.runs if first else ())
        ]
        if not distributed.from_first(first and all(found)):
            return False
        self.final = number
        for run, each in zip(self.runs, found, strict=False):
            self._say(run, each.text if each else "")
        return True

    def catch_up(self, number: int, state: TrainState) -> Next:
        """Score what was due at `number` and cut short; the run may be over by it."""
        enough = False
        for i, run in enumerate(self.runs):
            if self._missed(run, number):
                own = self.take(state, i)
                scalars, stop = self.score(run, number, own)
                enough |= bool(scalars) and self._is_enough(run, number, scalars)
                if run.saver.keep_best in scalars:
                    run.saver.save(number, own, scalars)  # again, now with its rank
                if stop:
                    return Next.PREEMPTED
        if self.is_over(number):
            return Next.OVER
        return Next.ENOUGH if enough else Next.GO_ON

    def score(self, run: Live, number: int, state: TrainState) -> tuple[Values, bool]:
        """Return the scalars of the evaluators that are due, and whether a signal came."""
        self.watchdog.now("evaluation", number)
        scalars: Values = {}
        filmed = report.most_often(self.evaluators, trained=run.config["input"]["split"])
        try:
            for evaluator in self.due(number):
                predictor, last = self.predictor(state.variables()), number == self.log.total_steps
                draw = last or run.config["report"]["figures"] == "every"
                scalars |= self._report(run, evaluator, predictor, number, draw=draw).scalars
                if evaluator is filmed:
                    film.add(
                        run.path, evaluator, predictor, step=number,
                        examples=run.config["report"]["film"],
                    )  # fmt: skip
        except Preempted:
            return {}, True
        if scalars:
            run.writer.write(number, scalars)
        return scalars, False

    def report_best(self, shapes: Mapping[str, Any]) -> None:
        """Score each run's best checkpoint, unless that was done: it is what others will use.

        Of a run that stopped early all is scored that would have been at its end.

        A signal ends it: the run itself is complete.

        Args:
            shapes: Of its variables, with their placement.
        """
        for run in self.runs:
            run.saver.wait()
            number = run.saver.find("")
            if number == self.log.total_steps:
                continue  # scored as the last step
            _, variables = run.saver.restore_variables(str(number), shapes)
            self._say(run, "the best checkpoint, which eval and predict use:")
            with contextlib.suppress(Preempted):
                for evaluator in self.evaluators:
                    self._report(run, evaluator, self.predictor(variables), number, draw=True)

    def _report(
        self, run: Live, evaluator: Evaluator, predictor: Scored, number: int, *, draw: bool
    ) -> Report:
        """Score, and on the first process write and say what was found."""
        first = jax.process_index() == 0
        found = report.run(
            evaluator,
            predictor,
            step=number,
            shown=first,
            draw=draw,
            heartbeat=self._heartbeat,
            about=self.about(number),
        )
        if first:
            found.write(run.path)
            for ending in found.figures:
                path = run.path / "figures" / f"{found.name}_{ending}.png"
                run.writer.figure(f"{found.name}/{ending}", path)
            for line in found.lines():
                self._say(run, line)
        return found

    def _say(self, run: Live, text: str) -> None:
        self.log.message(f"{run.title}: {text}" if run.title else text)

    def _is_enough(self, run: Live, number: int, scalars: Values) -> bool:
        first = jax.process_index() == 0
        return bool(distributed.from_first(first and self.on_score(run, number, scalars)))

    def _check_sound(self, run: Live, number: int, state: TrainState) -> None:
        """Refuse to save a model that has diverged: its loss is known one step later only.

        Raises:
            NonFiniteError: A parameter is beyond `LARGEST`, or one or a statistic is not finite.
        """
        found = float(self._largest(state))
        if not found < LARGEST:
            raise NonFiniteError(
                f"the largest parameter is {found:.3g} after step {number}; expected less than "
                f"{LARGEST:.0e}. Lower the learning rate or clip the gradients; the checkpoint "
                "before this step stays."
            ).at(number, {"the largest parameter": found}, run.path)

    def _missed(self, run: Live, number: int) -> bool:
        """Return whether evaluation was due at `number` and is not in the log: it was cut short."""
        name = next((name for e in self.due(number) for name in e.metrics()), None)
        if name is None:
            return False
        # Only process 0 is sure to see the log.
        records = writer_lib.read(run.path) if jax.process_index() == 0 else []
        done = any(record["step"] == number and name in record for record in records)
        return not distributed.from_first(done)

    def _heartbeat(self) -> None:
        """Say that the evaluation goes on; called after each of its batches."""
        self.watchdog.now("evaluation", self.watchdog.step)
        if self.preempted():
            raise Preempted


def largest(state: TrainState) -> jax.Array:
    """Return the largest absolute value of the parameters; NaN where a statistic is not finite."""
    values = [jnp.max(jnp.abs(x)) for x in jax.tree.leaves(state.params)]
    sound = [jnp.isfinite(x).all() for x in jax.tree.leaves(state.batch_stats)]
    return jnp.where(jnp.all(jnp.asarray(sound, bool)), jnp.max(jnp.stack(values)), jnp.nan)


class Preempted(Exception):
    """A signal came during an evaluation."""
