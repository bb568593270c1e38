"""Checkpoints through Orbax: written while training goes on, complete or invisible."""

import contextlib
import math
import os
import pathlib
import shutil
import threading
from collections.abc import Iterator, Mapping
from typing import Any, Self

import jax
import orbax.checkpoint as ocp
from etils import epath
from orbax.checkpoint import checkpoint_managers

from segjax.errors import ConfigError, UserError
from segjax.runs import damage, digest
from segjax.runtime import distributed, files, quirks
from segjax.training.state import TrainState

SLACK = 1 << 20
"""Bytes that must stay free beside a checkpoint's arrays: for metadata and the next log lines."""
LAST_SECONDS = 15.0
"""How long a process of several that ends for an error waits for a checkpoint on its way."""


class Checkpointer:
    """Save, keep and restore the checkpoints of one workdir.

    Args:
        workdir: The run's folder; checkpoints go to `<workdir>/checkpoints/<step>/`.
        keep_best: Name of a logged metric; the checkpoint with the best value is kept as well.
            Empty: none.
        keep_last: How many of the newest to keep.
        mode: 'max' or 'min': which value of `keep_best` is best.
        root: Where the checkpoints go instead: a folder of this run's own, also gs:// or s3://
            (with gcsfs or s3fs installed). Empty: the workdir.
        read_only: Write and clean up nothing: the run may be training meanwhile.
    """

    def __init__(
        self,
        workdir: pathlib.Path,
        *,
        keep_best: str,
        keep_last: int = 2,
        mode: str = "max",
        root: str = "",
        read_only: bool = False,
    ):
        if mode not in ("max", "min") or keep_last < 1:
            raise ConfigError(
                f"config.checkpoint: mode={mode!r}, keep_last={keep_last}: expected 'max' or 'min' "
                "and at least 1."
            )
        quirks.silence_abandoned_io()
        self.path = locate(workdir, root)
        self.keep_best, self.read_only = keep_best, read_only
        if jax.process_index() == 0:
            self._set_unranked_aside()
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
        free = math.inf if "://" in str(self.path) else shutil.disk_usage(self.path).free
        if free < need:
            raise self._disk_full(f"{need / 1e6:.1f} MB needed, {free / 1e6:.1f} MB free")
        tree = _tree(state)
        if step in self.manager.all_steps():
            self.manager.delete(step)  # saved before it was evaluated; the one before is there
        with self.explain_full_disk():
            self.manager.save(
                step,
                args=ocp.args.PyTreeSave(tree),
                metrics=ranked,
                custom_metadata={"digest": digest.of_arrays(tree)},
            )

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

    def newest_good(self) -> int | None:
        """Return the newest checkpoint that is as it was saved, None if there is none at all.

        Damaged ones that are newer are named and moved aside, to `<step>.damaged`. All processes
        must call it, and get the same answer.

        Raises:
            UserError: There are checkpoints, and all are damaged.
        """
        steps = sorted(self.manager.all_steps(), reverse=True)
        return self._first_good(steps) if steps else None

    def drop_after(self, step: int) -> None:
        """Delete the checkpoints of later steps. All processes must call it."""
        for later in [s for s in self.manager.all_steps() if s > step]:
            self.manager.delete(later)

    def find(self, which: str) -> int:
        """Return the step that 'latest', 'best' or a number names; empty: best if any, else latest.

        Instead of one that is damaged, the newest good one, unless a number was asked for.

        Raises:
            UserError: There is no such checkpoint; the message lists those that exist.
        """
        steps = sorted(self.manager.all_steps(), reverse=True)
        latest, best = self.manager.latest_step(), self.manager.best_step()
        step = {"latest": latest, "best": best, "": latest if best is None else best}.get(which)
        if step is None and which.isdigit() and int(which) in steps:
            step = int(which)
        if step is None:
            raise UserError(
                f"--checkpoint={which}: not in {self.path}. It has steps {sorted(steps)}; expected "
                "'best', 'latest' or one of them. Train first if there are none."
            )
        others = [] if which.isdigit() else [other for other in steps if other != step]
        return self._first_good([step, *others])

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

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None or jax.process_count() == 1:
            self.close()
        elif issubclass(kind, UserError):
            # The others may save their part of what is on its way, or may not: a disk that is full
            # here is full there. After a lost process none can, and nothing is waited for.
            closing = threading.Thread(target=self._try_to_close, daemon=True)
            closing.start()
            closing.join(LAST_SECONDS)

    def _try_to_close(self) -> None:
        with contextlib.suppress(Exception):  # there is an error to report already
            self.close()

    @contextlib.contextmanager
    def explain_full_disk(self) -> Iterator[None]:
        """Turn a full disk, however Orbax reports it, into one clear line; let the rest pass."""
        try:
            yield
        except Exception as error:
            chain: BaseException | None = error
            while chain is not None:
                full = isinstance(chain, OSError) and files.is_full(chain)
                if full or "No space left on device" in str(chain) or "ENOSPC" in str(chain):
                    raise self._disk_full("no space left on device") from error
                chain = chain.__cause__ or chain.__context__
            raise

    def _first_good(self, steps: list[int]) -> int:
        """Return the first of `steps` that process 0 finds undamaged, having named those before."""
        good, damaged = -1, []
        for step in steps if jax.process_index() == 0 else ():
            reason = damage.find(self.path / str(step))
            if reason is None:
                good = step
                break
            damaged.append(step)
            distributed.say(f"damaged checkpoint {self.path / str(step)}: {reason}")
        good = distributed.from_first(good)
        if good < 0:
            raise UserError(
                f"{self.path}: damaged: {', '.join(map(str, steps))}, and there is no other "
                "checkpoint to use instead. Restore one from a copy, or start anew in another "
                "--workdir."
            )
        if damaged:
            distributed.say(f"checkpoint {good} is used instead")
        if good != steps[0] and not self.read_only:
            for step in damaged:
                damage.move_aside(self.path / str(step))
            distributed.from_first(0)  # not before they are moved
            self.manager.reload()
        return good

    def _set_unranked_aside(self) -> None:
        """Move checkpoints aside whose metric cannot be read: Orbax would not even start."""
        for file in self.path.glob("*/metrics/metrics") if self.path.exists() else ():
            folder, reason = file.parent.parent, damage.unreadable_json(file)
            if folder.name.isdigit() and reason:
                text = f"damaged checkpoint {folder}: {reason}"
                if self.read_only:
                    raise UserError(f"{text}. Move it away; training does so by itself.")
                distributed.say(f"{text}; moved to {damage.move_aside(folder).name}")

    def _disk_full(self, detail: str) -> UserError:
        last = self.manager.latest_step()
        kept = (
            f"checkpoint {last} is the last good one" if last is not None else "none was saved yet"
        )
        return UserError(
            f"disk full while saving to {self.path}: {detail}; {kept}. Free space and run the same "
            "command again: it continues from there."
        )


def locate(workdir: pathlib.Path, root: str) -> damage.Folder:
    """Return the folder of the checkpoints: `root` if given, else in the workdir.

    Raises:
        ConfigError: `root` is of a kind that this installation cannot reach.
    """
    if not root:
        return workdir.absolute() / "checkpoints"
    if "://" not in root:
        return pathlib.Path(os.path.abspath(os.path.expanduser(root)))
    try:
        path = epath.Path(root)
        path.exists()
    except (ImportError, KeyError) as error:
        raise ConfigError(
            f"config.checkpoint.root={root!r}: {error}. Expected a local folder, gs://bucket/run "
            "(pip install gcsfs) or s3://bucket/run (pip install s3fs)."
        ) from error
    return path


def _value(metrics: Mapping[str, float]) -> float:
    return metrics["value"]


def _tree(state: TrainState) -> dict[str, Any]:
    return {name: getattr(state, name) for name in TrainState.__dataclass_fields__}
