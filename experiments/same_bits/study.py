"""Do two checkouts train the same parameters, bit for bit?

python -m experiments.same_bits.study --checkout=../old --output=before.json
python -m experiments.same_bits.study --checkout=. --output=after.json --against=before.json

Each case is a `run.py` command, run in the checkout on 1 CPU device and on 8 virtual ones; what is
compared is the SHA-256 of the parameters in its last checkpoint, by their paths.
"""

import hashlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import app, flags
from etils import epath

CHECKOUT = flags.DEFINE_string("checkout", ".", "The working tree to run in.")
OUTPUT = flags.DEFINE_string("output", "", "JSON of hashes to write; empty: none.")
AGAINST = flags.DEFINE_string("against", "", "JSON of hashes to compare with; empty: none.")

BATCH = ("--config.input.batch_size=8", "--config.evals.val.batch_size=8")
CASES = {
    "quickstart": ("configs/quickstart.py:debug", ()),
    "unet_camvid": ("configs/unet_camvid.py:debug", ("--config.evals.test.batch_size=8",)),
    "camvid": ("configs/camvid.py:model=unet,size=debug", ("--config.evals.test.batch_size=8",)),
}
"""The second is the old spelling of the third; a checkout may have either or both."""
DEVICES = (1, 8)


def train(checkout: pathlib.Path, config: str, more: tuple[str, ...], devices: int) -> str:
    """Return the hash of the parameters that a run ends with."""
    with tempfile.TemporaryDirectory() as folder:
        forced = (
            f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}"
        )
        environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": forced}
        command = [sys.executable, "run.py", f"--config={config}", f"--workdir={folder}/run"]
        subprocess.run([*command, *BATCH, *more], cwd=checkout, env=environment, check=True)
        newest = max(
            pathlib.Path(folder, "run", "checkpoints").iterdir(), key=lambda p: int(p.name)
        )
        return hash_of(newest / "default")


def hash_of(folder: pathlib.Path) -> str:
    """Return the SHA-256 over paths, dtypes and bytes of a checkpoint's parameters."""
    handler, total = ocp.PyTreeCheckpointHandler(), hashlib.sha256()
    path = epath.Path(folder)
    arguments = jax.tree.map(
        lambda _: ocp.RestoreArgs(restore_type=np.ndarray), handler.metadata(path).tree
    )
    tree = handler.restore(path, args=ocp.args.PyTreeRestore(restore_args=arguments))["params"]
    for name, leaf in sorted(leaves(tree), key=lambda item: item[0]):
        array = np.asarray(leaf)
        total.update(f"{name} {array.dtype} {array.shape}".encode() + array.tobytes())
    return total.hexdigest()


def leaves(tree, path=""):
    for name, item in tree.items():
        if isinstance(item, dict):
            yield from leaves(item, f"{path}/{name}")
        else:
            yield f"{path}/{name}", item


def main(_) -> int:
    checkout = pathlib.Path(CHECKOUT.value).resolve()
    found = {}
    for name, (config, more) in CASES.items():
        if not (checkout / config.partition(":")[0]).exists():
            continue
        for devices in DEVICES:
            found[f"{name}, {devices}"] = train(checkout, config, more, devices)
            print(f"{name:12} {devices} devices  {found[f'{name}, {devices}'][:16]}", flush=True)
    if OUTPUT.value:
        pathlib.Path(OUTPUT.value).write_text(json.dumps(found, indent=1) + "\n")
    if not AGAINST.value:
        return 0
    before = json.loads(pathlib.Path(AGAINST.value).read_text())
    other = {f"camvid, {n}": before.get(f"unet_camvid, {n}") for n in DEVICES}
    bad = [name for name, value in found.items() if value != before.get(name, other.get(name))]
    print("different: " + ", ".join(bad) if bad else f"all {len(found)} equal, bit for bit")
    return bool(bad)


if __name__ == "__main__":
    app.run(main)
