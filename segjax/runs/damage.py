"""Find out whether a checkpoint on disk is what was saved: every file, every bit."""

import json
import pathlib
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath

from segjax.runs import digest

Folder = pathlib.Path | epath.Path
METADATA = "_CHECKPOINT_METADATA"
NEEDED = (METADATA, "default/_METADATA")
OPTIONAL = ("default/_sharding", "metrics/metrics")
"""What Orbax stumbles over if it is there and damaged, and does without if it is not."""


def find(folder: Folder) -> str | None:
    """Return why the checkpoint in `folder` cannot be trusted, None if it can.

    Reads the whole checkpoint into host memory, on the calling process alone. Orbax itself notices
    short and missing files, but a changed byte within an array's data restores without a word:
    hence the digest that `Checkpointer.save` leaves in the metadata.
    """
    try:
        for name in NEEDED:
            if not (folder / name).exists():
                return f"{name} is missing"
        listed = [folder / name for name in (*NEEDED, *OPTIONAL) if (folder / name).exists()]
        if (folder / "default" / "array_metadatas").exists():
            listed += (folder / "default" / "array_metadatas").iterdir()
        for file in listed:
            unreadable = unreadable_json(file)
            if unreadable:
                return unreadable
        saved = json.loads((folder / METADATA).read_text())["custom_metadata"].get("digest")
        got = digest.of_host(read(folder / "default"))
    except Exception as error:  # whatever Orbax, TensorStore or the file system call it
        reason = str(error).replace(f"{folder}/", "").splitlines() or [type(error).__name__]
        return reason[0].split(" in OCDBT")[0][:160]  # TensorStore goes on for a paragraph
    if saved is not None and saved != got:
        return "its arrays are not the ones that were saved: some bytes have changed"
    return None


def unreadable_json(file: Folder) -> str | None:
    """Return what is wrong with a JSON file, None if nothing is."""
    try:
        json.loads(file.read_text())
    except (ValueError, OSError) as error:
        return f"{file.parent.name}/{file.name} cannot be read ({error})"
    return None


def read(folder: Folder) -> Any:
    """Return the arrays of a checkpoint as NumPy, without the help of other processes."""
    handler, path = ocp.PyTreeCheckpointHandler(), epath.Path(folder)
    arguments = jax.tree.map(
        lambda _: ocp.RestoreArgs(restore_type=np.ndarray), handler.metadata(path).tree
    )
    return handler.restore(path, args=ocp.args.PyTreeRestore(restore_args=arguments))


def move_aside(folder: Folder) -> Folder:
    """Rename a damaged checkpoint, so that its step can be saved again; nothing is deleted."""
    number = 1
    while (
        aside := folder.with_name(f"{folder.name}.damaged{number if number > 1 else ''}")
    ).exists():
        number += 1
    folder.rename(aside)
    return aside
