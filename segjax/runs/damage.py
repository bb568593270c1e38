"""Read a checkpoint and find out whether it is what was saved: every file, every bit."""

import json
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath
from orbax.checkpoint import future
from orbax.checkpoint.checkpoint_args import register_with_handler

from segjax.errors import ConfigError, DataError
from segjax.runs import digest
from segjax.runtime import distributed, reading

Folder = pathlib.Path | epath.Path
METADATA = "_CHECKPOINT_METADATA"
NEEDED = (METADATA, "default/_METADATA")
OPTIONAL = ("default/_sharding", "metrics/metrics")
"""What Orbax stumbles over if it is there and damaged, and does without if it is not."""
DIGESTS = "digest.{process}.json"
"""In `default`: of each branch of the tree the share of one process, and how many there were."""

LARGE = 16 << 20
"""Bytes of an array from which on each device that holds it writes a part of its own."""

Tree = Mapping[str, Any]
Wanted = Callable[[Folder], Tree | None]
"""From a checkpoint's folder to branches of its tree (`params`, `opt_state`, …) as shapes with
placement, of which each process gets its part; None: all as NumPy, without other processes."""


class Damaged(Exception):
    """A checkpoint is not what was saved; the message says why in a line."""


class VerifiedHandler(ocp.PyTreeCheckpointHandler):
    """Save a tree as Orbax does, and beside it the digest of each of its branches.

    Orbax notices short and missing files, but a changed byte within an array's data restores
    without a word. The arrays are copied at once; adding them up is part of the background save,
    and a checkpoint is not complete without it.
    """

    def __init__(self):
        """Let replicas share the writing of large arrays only.

        Orbax cuts each array that several devices hold on the device, a program for every shape:
        the first save of a network of 600 arrays compiled 450 of them.
        """
        array = ocp.type_handlers.ArrayHandler(min_slice_bytes_for_replica_parallel=LARGE)
        kinds = ocp.type_handlers.create_type_handler_registry((jax.Array, array))
        super().__init__(type_handler_registry=kinds)

    async def async_save(self, directory: Any, *more: Any, args: Any = None, **options: Any) -> Any:
        """Start a save; see `ocp.PyTreeCheckpointHandler.async_save`."""
        copies = {name: digest.copy(branch) for name, branch in args.item.items()}
        started = await super().async_save(directory, *more, args=args, **options)
        writing = future.CommitFutureAwaitingContractedSignals(
            write_digests(directory, copies), name="write digests"
        )
        return [*(started or []), writing]


@register_with_handler(VerifiedHandler, for_save=True, for_restore=True)
class VerifiedSave(ocp.args.PyTreeSave):
    """What `CheckpointManager.save` takes for a `VerifiedHandler`."""


async def write_digests(directory: Any, copies: Mapping[str, list[digest.Copy]]) -> None:
    """Write this process's shares of the digests into a checkpoint that is being saved."""
    # Orbax gives a path, or one that is still being created and can be waited for.
    folder = await directory.await_creation() if hasattr(directory, "await_creation") else directory
    content = {
        "processes": jax.process_count(),
        "digests": {name: digest.of_copies(each) for name, each in copies.items()},
    }
    (folder / DIGESTS.format(process=jax.process_index())).write_text(json.dumps(content))


def read(folder: Folder, wanted: Wanted) -> dict[str, Any]:
    """Return the arrays of a checkpoint, checked to be those that were saved.

    Args:
        folder: `checkpoints/<step>`.
        wanted: Says what of it to read, see `Wanted`.

    Raises:
        Damaged: On every process, if one of them cannot read its part or finds other bits.
        ConfigError: It is whole, and of another model or optimiser.
    """
    target: Tree | None = {}
    tree, saved, reason = {}, {}, None
    try:
        check_files(folder)
        target = wanted(folder)
        check_fits(folder, target or {})
        tree = _restore(folder / "default", target)
        saved = _saved_digests(folder, tree)
    except ConfigError:
        raise
    except Damaged as error:
        reason = str(error)
    except Exception as error:  # whatever Orbax, TensorStore or the file system call it
        if target is not None and is_whole(folder):
            raise ConfigError(
                f"{folder} is not of this config: its arrays are held in another way. Use the "
                "model and optimiser that the run was trained with, or another --workdir."
            ) from error
        reason = first_cause(error).replace(f"{folder}/", "")
    if target is not None and distributed.sum_of_all(int(reason is not None)) and reason is None:
        reason = "another process cannot read its part"
    if reason is not None:
        raise Damaged(reason)
    count = digest.of_host if target is None else digest.of_arrays
    if any(count(tree[name]) != value for name, value in saved.items()):
        raise Damaged("its arrays are not the ones that were saved: some bytes have changed")
    return tree


def first_cause(error: BaseException) -> str:
    """Return in a line what began it: Orbax wraps TensorStore's errors, which take a paragraph."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).splitlines() or [type(error).__name__]
    return lines[0].split(" in OCDBT")[0].split(" [source locations")[0][:200]


def check_files(folder: Folder) -> None:
    """Raise `Damaged` for a file of a checkpoint that is missing or is no JSON where it must be."""
    for name in NEEDED:
        if not (folder / name).exists():
            raise Damaged(f"{name} is missing")
    listed = [folder / name for name in (*NEEDED, *OPTIONAL) if (folder / name).exists()]
    listed += (folder / "default").glob(DIGESTS.format(process="*"))
    if (folder / "default" / "array_metadatas").exists():
        listed += (folder / "default" / "array_metadatas").iterdir()
    for file in listed:
        if unreadable := unreadable_json(file):
            raise Damaged(unreadable)


def check_fits(folder: Folder, target: Tree) -> None:
    """Refuse a checkpoint whose arrays are not those that `target` says.

    Raises:
        ConfigError: One is not there, or has another shape.
    """
    metadata = ocp.PyTreeCheckpointHandler().metadata(epath.Path(folder / "default"))
    saved = shapes_of(metadata.tree)
    for name, shape in shapes_of(target).items():
        if saved.get(name) != shape:
            there = saved.get(name, "not there")
            raise ConfigError(
                f"{folder} is not of this config: {name} is {there}, expected {shape}. Use the "
                "model, classes and optimiser that the run was trained with, or another --workdir."
            )


def is_whole(folder: Folder) -> bool:
    """Return whether all arrays of a checkpoint can be read, whatever is wanted, and are right."""
    try:
        tree = _restore(folder / "default", None)
        saved = _saved_digests(folder, tree)
        return all(digest.of_host(tree[name]) == value for name, value in saved.items())
    except Exception:  # as many kinds as in `read`
        return False


def shapes_of(tree: Tree) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a tree's arrays by path, however its containers are called."""
    return {path: x.shape for path, x in by_path(tree).items()}


def by_path(tree: Tree) -> dict[str, Any]:
    """Return the leaves of a tree by path, however its containers are called."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): x for path, x in leaves}


def unreadable_json(file: Folder) -> str | None:
    """Return what is wrong with a JSON file, None if nothing is."""
    try:
        if isinstance(file, pathlib.Path):
            reading.check_file(file)
        json.loads(file.read_text())
    except (ValueError, OSError, RecursionError, DataError) as error:
        return f"{file.parent.name}/{file.name} cannot be read ({error})"
    return None


def has_averages(folder: Folder) -> bool:
    """Return whether a checkpoint holds averaged variables beside the trained ones."""
    handler = ocp.PyTreeCheckpointHandler()
    return bool(handler.metadata(epath.Path(folder / "default")).tree["ema"])


def _restore(folder: Folder, target: Tree | None) -> dict[str, Any]:
    handler, path = ocp.PyTreeCheckpointHandler(), epath.Path(folder)
    if target is None:
        arguments = jax.tree.map(
            lambda _: ocp.RestoreArgs(restore_type=np.ndarray), handler.metadata(path).tree
        )
        return handler.restore(path, args=ocp.args.PyTreeRestore(restore_args=arguments))
    tree = dict(target)
    arguments = ocp.checkpoint_utils.construct_restore_args(tree)
    restore = ocp.args.PyTreeRestore(item=tree, restore_args=arguments, partial_restore=True)
    return handler.restore(path, args=restore)


def _saved_digests(folder: Folder, tree: Tree) -> dict[str, int]:
    """Return the digest of each branch of `tree` as it was saved."""
    found = digests_in(folder)
    if not found:
        _check_as_a_whole(folder)
        return {}
    return {name: found[name] for name in tree}


def digests_in(folder: Folder) -> dict[str, int]:
    """Return the digests that a checkpoint holds, of each of its branches; empty: it has none.

    Raises:
        Damaged: Those of some processes are missing.
        ValueError: One is no JSON; `LookupError` and others: it holds something else.
    """
    shares = [
        json.loads(file.read_text())
        for file in (folder / "default").glob(DIGESTS.format(process="*"))
    ]
    if shares and len(shares) != shares[0]["processes"]:
        raise Damaged(f"{len(shares)} of {shares[0]['processes']} digests are there")
    names = shares[0]["digests"] if shares else ()
    return {name: sum(share["digests"][name] for share in shares) % 2**32 for name in names}


def rank_in(folder: Folder) -> float | None:
    """Return the value that a checkpoint is ranked by; None: it has none, or it cannot be read."""
    try:
        return float(json.loads((folder / "metrics" / "metrics").read_text())["value"])
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None


def changed_branches(folder: Folder) -> list[str]:
    """Return the branches of a checkpoint whose arrays can be read and are not those saved."""
    try:
        tree, saved = _restore(folder / "default", None), digests_in(folder)
        return [name for name, value in saved.items() if digest.of_host(tree[name]) != value]
    except Exception:  # as many kinds as in `read`
        return []


def _check_as_a_whole(folder: Folder) -> None:
    """Check a checkpoint from before branches had digests: one number for the whole tree."""
    saved = json.loads((folder / METADATA).read_text())["custom_metadata"].get("digest")
    if saved is not None and saved != digest.of_host(_restore(folder / "default", None)):
        raise Damaged("its arrays are not the ones that were saved: some bytes have changed")


def move_aside(folder: Folder) -> Folder:
    """Rename a damaged checkpoint, so that its step can be saved again; nothing is deleted."""
    number = 1
    while (
        aside := folder.with_name(f"{folder.name}.damaged{number if number > 1 else ''}")
    ).exists():
        number += 1
    folder.rename(aside)
    return aside
