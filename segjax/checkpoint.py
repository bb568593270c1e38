"""Checkpoints through Orbax: written while training goes on, complete or invisible."""

import contextlib
import math
import pathlib
import shutil
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from segjax import writer
from segjax.errors import ConfigError, UserError
from segjax.state import TrainState

SLACK = 1 << 20
"""Bytes that must stay free beside a checkpoint's arrays: for metadata and the next log lines."""


class Checkpointer:
    """Save, keep and restore the checkpoints of one workdir.

    Args:
        workdir: The run's folder; checkpoints go to `<workdir>/checkpoints/<step>/`.
        keep_best: Name of a logged metric; the checkpoint with the best value is kept as well.
            Empty: none.
        keep_last: How many of the newest to keep.
        mode: 'max' or 'min': which value of `keep_best` is best.
        read_only: Write and clean up nothing: the run may be training meanwhile.
    """

    def __init__(
        self,
        workdir: pathlib.Path,
        *,
        keep_best: str,
        keep_last: int = 2,
        mode: str = "max",
        read_only: bool = False,
    ):
        if mode not in ("max", "min") or keep_last < 1:
            raise ConfigError(
                f"config.checkpoint: mode={mode!r}, keep_last={keep_last}: expected 'max' or 'min' "
                "and at least 1."
            )
        if sys.excepthook is sys.__excepthook__:
            sys.excepthook = _but_abandoned_writes
        self.path = workdir.absolute() / "checkpoints"
        self.keep_best = keep_best
        policies: list[Any] = [checkpoint_managers.LatestN(keep_last)]
        if keep_best:
            policies.append(
                checkpoint_managers.BestN(
                    get_metric_fn=_value,
                    reverse=mode == "min",
                    n=1,
                    keep_checkpoints_without_metrics=False,
                )
            )
        options = ocp.CheckpointManagerOptions(
            preservation_policy=checkpoint_managers.AnyPreservationPolicy(policies),
            best_fn=_value if keep_best else None,  # without it Orbax never writes the metric
            best_mode=mode,
            cleanup_tmp_directories=not read_only,
            read_only=read_only,
            enable_async_checkpointing=True,
        )
        self.manager = ocp.CheckpointManager(
            self.path, options=options, item_handlers=ocp.PyTreeCheckpointHandler()
        )

    def save(self, step: int, state: TrainState, metrics: Mapping[str, float]) -> None:
        """Start writing `state` as checkpoint `step`; training may go on at once.

        Raises:
            UserError: The disk has no room. What was saved before stays.
        """
        value = metrics.get(self.keep_best, math.nan)
        # Orbax would let a NaN push out the true best.
        ranked = {"value": float(value)} if math.isfinite(value) else None
        need = SLACK + sum(leaf.nbytes for leaf in jax.tree.leaves(state))
        free = shutil.disk_usage(self.path).free
        if free < need:
            raise self._disk_full(f"{need / 1e6:.1f} MB needed, {free / 1e6:.1f} MB free")
        with self.explain_full_disk():
            self.manager.save(step, args=ocp.args.PyTreeSave(_tree(state)), metrics=ranked)

    def restore(self, step: int, target: TrainState) -> TrainState:
        """Return checkpoint `step`; `target` holds shapes, dtypes and the placement wanted."""
        tree = _tree(target)
        arguments = ocp.checkpoint_utils.construct_restore_args(tree)
        restored = self.manager.restore(
            step, args=ocp.args.PyTreeRestore(item=tree, restore_args=arguments)
        )
        return TrainState(**restored)

    def restore_variables(self, step: int, target: Mapping[str, Any]) -> dict[str, Any]:
        """Return what evaluation needs of checkpoint `step`: the averaged variables if it has them.

        Args:
            step: The checkpoint.
            target: `{'params', 'batch_stats'}` as shapes with placement.
        """
        averaged = self.manager.item_metadata(step).tree["ema"]
        tree = {"ema": dict(target)} if averaged else dict(target)
        arguments = ocp.checkpoint_utils.construct_restore_args(tree)
        restored = self.manager.restore(
            step,
            args=ocp.args.PyTreeRestore(item=tree, restore_args=arguments, partial_restore=True),
        )
        return restored.get("ema", restored)

    def latest_step(self) -> int | None:
        """Return the newest complete checkpoint, if any."""
        return self.manager.latest_step()

    def find(self, which: str) -> int:
        """Return the step that 'latest', 'best' or a number names; empty: best if any, else latest.

        Raises:
            UserError: There is no such checkpoint; the message lists those that exist.
        """
        steps = self.manager.all_steps()
        latest, best = self.manager.latest_step(), self.manager.best_step()
        step = {"latest": latest, "best": best, "": latest if best is None else best}.get(which)
        if step is None and which.isdigit() and int(which) in steps:
            step = int(which)
        if step is None:
            raise UserError(
                f"--checkpoint={which}: not in {self.path}. It has steps {sorted(steps)}; expected "
                "'best', 'latest' or one of them. Train first if there are none."
            )
        return step

    def wait(self) -> None:
        """Wait until everything is on disk.

        Raises:
            UserError: The disk ran full meanwhile.
        """
        with self.explain_full_disk():
            self.manager.wait_until_finished()

    def close(self) -> None:
        """Wait and release the manager."""
        self.wait()
        self.manager.close()

    @contextlib.contextmanager
    def explain_full_disk(self) -> Iterator[None]:
        """Turn a full disk, however Orbax reports it, into one clear line; let the rest pass."""
        try:
            yield
        except Exception as error:
            chain: BaseException | None = error
            while chain is not None:
                full = isinstance(chain, OSError) and writer.is_full(chain)
                if full or "No space left on device" in str(chain) or "ENOSPC" in str(chain):
                    raise self._disk_full("no space left on device") from error
                chain = chain.__cause__ or chain.__context__
            raise

    def _disk_full(self, detail: str) -> UserError:
        last = self.manager.latest_step()
        kept = (
            f"checkpoint {last} is the last good one" if last is not None else "none was saved yet"
        )
        return UserError(
            f"disk full while saving to {self.path}: {detail}; {kept}. Free space and run the same "
            "command again: it continues from there."
        )


def _but_abandoned_writes(kind: type[BaseException], error: BaseException, trace: Any) -> None:
    """Report an uncaught exception, but not those of TensorStore's threads after a failed write.

    The failure itself reaches `save` or `wait`; each write given up with it would print its own.
    """
    if not (kind is RuntimeError and str(error) == "Event loop is closed"):
        sys.__excepthook__(kind, error, trace)


def _value(metrics: Mapping[str, float]) -> float:
    return metrics["value"]


def _tree(state: TrainState) -> dict[str, Any]:
    return {name: getattr(state, name) for name in TrainState.__dataclass_fields__}
