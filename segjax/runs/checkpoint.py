"""Checkpoints through Orbax: written while training goes on, complete or invisible."""

import contextlib
import hashlib
import math
import os
import pathlib
import shutil
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

import jax
import orbax.checkpoint as ocp
from etils import epath
from orbax.checkpoint import checkpoint_managers

from segjax.data import core
from segjax.errors import ConfigError, UserError
from segjax.runs import damage, owner, saved
from segjax.runs.workdir import is_step, steps_in
from segjax.runtime import distributed, files, quirks, reading
from segjax.training.state import TrainState

SLACK = 1 << 20
"""Bytes that must stay free beside a checkpoint's arrays: for metadata and the next log lines."""
NEWEST = ".newest_checkpoint"
"""A file of the workdir: the step of the newest checkpoint that is known to be complete."""
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
        quirks.silence_abandoned_io()
        self.workdir, self.path = workdir, locate(workdir, root)
        if root:
            (owner.check if read_only else owner.claim)(workdir, self.path)
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
            # Managers of several trials save side by side: each has barriers of its own.
            multiprocessing_options=ocp.options.MultiprocessingOptions(
                barrier_sync_key_prefix=hashlib.sha256(str(self.path).encode()).hexdigest()[:12]
            ),
        )
        self.manager = ocp.CheckpointManager(
            self.path, options=options, item_handlers=damage.VerifiedHandler()
        )
        self._folder = _identity(workdir)
        self._to_note: set[int] | None = None

    @classmethod
    def of_section(
        cls, workdir: pathlib.Path, section: Mapping[str, Any], *, read_only: bool = False
    ) -> Self:
        """Open the checkpoints of the run in `workdir` as its section `config.checkpoint` says."""
        own = {key: value for key, value in section.items() if not key.startswith("save_")}
        return cls(workdir, **own, read_only=read_only)

    def save(self, step: int, state: TrainState, metrics: Mapping[str, float]) -> None:
        """Start writing `state` as checkpoint `step`; training may go on at once.

        Raises:
            UserError: The disk has no room, or cannot be written. What was saved before stays.
        """
        value = metrics.get(self.keep_best, math.nan)
        # Orbax would let a NaN push out the true best.
        ranked = {"value": float(value)} if math.isfinite(value) else None
        self.wait()  # Orbax would do it
        self._notice_losses()
        need = SLACK + sum(leaf.nbytes for leaf in jax.tree.leaves(state))
        free = math.inf if "://" in str(self.path) else shutil.disk_usage(self.path).free
        if free < need:
            raise self._disk_full(f"{need / 1e6:.1f} MB needed, {free / 1e6:.1f} MB free")
        tree = _tree(state)
        if step in self.manager.all_steps():
            self.manager.delete(step)  # saved before it was evaluated; the one before is there
        if self._to_note is not None:
            self._to_note.add(step)
        with self.explain_failure():
            self.manager.save(step, args=damage.VerifiedSave(tree), metrics=ranked)

    def restore_newest(self, target: TrainState) -> tuple[int, TrainState] | None:
        """Return step and state of the newest checkpoint that is as it was saved, None without any.

        Damaged ones that are newer are named and moved aside, to `<step>.damaged`. All processes
        must call it, and get the same answer.

        Args:
            target: Shapes, dtypes and the placement wanted.

        Raises:
            UserError: There are checkpoints, and all are damaged.
        """
        steps = sorted(self.manager.all_steps(), reverse=True)
        if not steps:
            return None
        step, tree = self._first_good(steps, lambda _: _tree(target))
        return step, TrainState(**tree)

    def restore(self, step: int, target: TrainState) -> TrainState:
        """Return checkpoint `step`; see `restore_newest`."""
        return TrainState(**self._first_good([step], lambda _: _tree(target))[1])

    def restore_variables(
        self, which: str, target: Mapping[str, Any] | None
    ) -> tuple[int, dict[str, Any]]:
        """Return step and variables of a checkpoint: the averaged ones if it has them.

        Instead of a checkpoint that is damaged it takes the newest good one, unless a number was
        asked for.

        Args:
            which: 'latest', 'best' or a step; empty: the best if the run keeps one, else the
                latest.
            target: `{'params', 'batch_stats'}` as shapes with placement; None: as NumPy, without
                the help of other processes.

        Raises:
            UserError: There is no such checkpoint, or it is damaged.
        """
        first = self.find(which)
        older = [] if is_step(which) else sorted(self.manager.all_steps(), reverse=True)

        def wanted(folder: damage.Folder) -> damage.Tree | None:
            if target is None:
                return None
            averaged = damage.has_averages(folder)
            return {"ema": dict(target)} if averaged else dict(target)

        step, tree = self._first_good([first, *(s for s in older if s != first)], wanted)
        own = {name: tree[name] for name in ("params", "batch_stats") if name in tree}
        return step, tree.get("ema") or own

    def drop_after(self, step: int) -> None:
        """Delete the checkpoints of later steps. All processes must call it."""
        for later in [s for s in self.manager.all_steps() if s > step]:
            self.manager.delete(later)

    def wait(self) -> None:
        """Wait until everything is on disk.

        Raises:
            UserError: It could not be written.
        """
        with self.explain_failure():
            self.manager.wait_until_finished()
        newest = self.manager.latest_step()
        writes = not self.read_only and distributed.is_first() and self.workdir.exists()
        if newest is not None and writes:
            self._note_digests()
            note = self.workdir / NEWEST
            if not reading.is_file(note) or _note(note) != str(newest):
                with files.replacing(note) as temporary:
                    temporary.write_text(f"{newest}\n")

    def _note_digests(self) -> None:
        """Write what was saved beside the checkpoints, see `runs.saved`."""
        there = {*self.manager.all_steps()}
        if self._to_note is None:  # a kill may have come between a save and its note
            self._to_note = there - saved.load(self.workdir).keys()
        found: dict[int, dict[str, int]] = {}
        for step in there & self._to_note:
            with contextlib.suppress(Exception):  # what is damaged is named where it is restored
                found[step] = damage.digests_in(self.path / str(step))
        if any(found.values()):
            saved.note(self.workdir, found)
        self._to_note = set()

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
    def explain_failure(self) -> Iterator[None]:
        """Turn whatever Orbax reports of a save that failed into one clear line."""
        try:
            yield
        except UserError:
            raise
        except Exception as error:
            chain: BaseException | None = error
            while chain is not None:
                full = isinstance(chain, OSError) and files.is_full(chain)
                if full or "No space left on device" in str(chain) or "ENOSPC" in str(chain):
                    raise self._disk_full("no space left on device") from error
                chain = chain.__cause__ or chain.__context__
            raise UserError(
                f"{self.path}: a checkpoint could not be saved: {damage.first_cause(error)}; "
                f"{self._kept()}. See that the folder is there and may be written, and run the "
                "same command again."
            ) from error

    def _notice_losses(self) -> None:
        """See whether checkpoints vanished while the run trained: without them it saves anew.

        Raises:
            UserError: The run's folder is not there any more.
        """
        if _identity(self.workdir) != self._folder:  # a save on its way may have made it anew
            raise UserError(
                f"{self.workdir} is not there any more: it was moved or deleted while its run "
                "trains. Train on where it is now."
            )
        lost = sorted(set(self.manager.all_steps()) - {*steps_in(self.path)})
        if not lost:
            return
        if jax.process_index() == 0:
            distributed.say(f"{self.path}: checkpoints {lost} were deleted; the run saves anew")
        self.path.mkdir(exist_ok=True)
        self.manager.reload()

    def find(self, which: str) -> int:
        """Return the step that 'latest', 'best' or a number names, see `restore_variables`.

        Raises:
            UserError: There is no such checkpoint; the message lists those that exist.
        """
        steps = self.manager.all_steps()
        latest, best = self.manager.latest_step(), self.manager.best_step()
        step = {"latest": latest, "best": best, "": latest if best is None else best}.get(which)
        if step is None and is_step(which) and int(which) in steps:
            step = int(which)
        if step is None:
            raise UserError(
                f"--checkpoint={which}: not in {self.path}. It has steps {sorted(steps)}; expected "
                "'best', 'latest' or one of them. Train first if there are none."
            )
        return step

    def _first_good(
        self, steps: Sequence[int], wanted: damage.Wanted
    ) -> tuple[int, dict[str, Any]]:
        """Return the first of `steps` that is undamaged, and what is `wanted` of it.

        Those before it are named, and moved aside where this may be written.
        """
        damaged = []
        for step in steps:
            try:
                tree = damage.read(self.path / str(step), wanted)
                break
            except damage.Damaged as reason:
                damaged.append(step)
                if jax.process_index() == 0:
                    distributed.say(f"damaged checkpoint {self.path / str(step)}: {reason}")
        else:
            raise UserError(
                f"{self.path}: damaged: {', '.join(map(str, steps))}, and there is no other "
                "checkpoint to use instead. Restore one from a copy, or start anew in another "
                "--workdir."
            )
        if damaged:
            if jax.process_index() == 0:
                distributed.say(f"checkpoint {step} is used instead")
            self._set_aside(damaged)
        return step, tree

    def _set_aside(self, damaged: Sequence[int]) -> None:
        """Move damaged checkpoints away, so that their steps can be saved again."""
        if self.read_only:
            return
        if jax.process_index() == 0:
            for step in damaged:
                damage.move_aside(self.path / str(step))
        distributed.from_first(0)  # not before they are moved
        self.manager.reload()

    def _set_unranked_aside(self) -> None:
        """Move checkpoints aside whose metric cannot be read: Orbax would not even start."""
        for file in self.path.glob("*/metrics/metrics") if self.path.exists() else ():
            folder, reason = file.parent.parent, damage.unreadable_json(file)
            if is_step(folder.name) and reason:
                text = f"damaged checkpoint {folder}: {reason}"
                if self.read_only:
                    raise UserError(f"{text}. Move it away; training does so by itself.")
                distributed.say(f"{text}; moved to {damage.move_aside(folder).name}")

    def _disk_full(self, detail: str) -> UserError:
        return UserError(
            f"disk full while saving to {self.path}: {detail}; {self._kept()}. Free space and run "
            "the same command again: it continues from there."
        )

    def _kept(self) -> str:
        last = self.manager.latest_step()
        return f"checkpoint {last} is the last good one" if last else "none was saved yet"


def locate(workdir: pathlib.Path, root: str) -> damage.Folder:
    """Return the folder of the checkpoints: `root` if given, else in the workdir.

    `~` and environment variables in a local `root` are replaced; a relative one lies in the
    workdir, so that the run is found from every folder.

    Raises:
        ConfigError: `root` is of a kind that this installation cannot reach.
    """
    if not root:
        return workdir.absolute() / "checkpoints"
    if "://" not in root:
        expanded = core.expand_path(root, where="config.checkpoint.root")
        return pathlib.Path(os.path.abspath(workdir / expanded))
    try:
        path = epath.Path(root)
        path.exists()
    except (ImportError, KeyError) as error:
        raise ConfigError(
            f"config.checkpoint.root={root!r}: {error}. Expected a local folder, gs://bucket/run "
            "(pip install gcsfs) or s3://bucket/run (pip install s3fs)."
        ) from error
    return path


def _note(path: pathlib.Path) -> str:
    return reading.text(path, limit=reading.LINE_BYTES).strip()


def check_not_lost(workdir: pathlib.Path, root: str) -> None:
    """Refuse a run whose checkpoints were there and are not any more; nothing is written.

    Raises:
        UserError: A disk that is not mounted, or they were deleted.
    """
    folder, note = locate(workdir, root), workdir / NEWEST
    if not reading.is_file(note) or steps_in(folder):
        return
    raise UserError(
        f"{folder}: no checkpoint is there, and checkpoint {_note(note)} of this run "
        f"was saved. Mount its disk or put it back; to begin anew use another --workdir, or remove "
        f"{note}."
    )


def _value(metrics: Mapping[str, float]) -> float:
    return metrics["value"]


def _identity(folder: pathlib.Path) -> tuple[int, int] | None:
    """Return what tells a folder from another one of its name; None where there is none."""
    try:
        found = folder.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _tree(state: TrainState) -> dict[str, Any]:
    return {name: getattr(state, name) for name in TrainState.__dataclass_fields__}
