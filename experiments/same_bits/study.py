"""Do two checkouts train the same parameters, bit for bit?

python -m experiments.same_bits.study --checkout=../old --output=before.json
python -m experiments.same_bits.study --checkout=. --output=after.json --against=before.json

Each case is a `run.py` command, run in the checkout on 1 CPU device and on 8 virtual ones; what is
compared is the SHA-256 of the parameters in its last checkpoint, by their paths.
"""

import argparse
import hashlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile

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
    import jax
    import numpy as np
    import orbax.checkpoint as ocp
    from etils import epath

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


def main() -> int:
    """Train all cases and compare; return 1 if any differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkout", default=".", help="the working tree to run in")
    parser.add_argument("--output", default="", help="JSON of hashes to write")
    parser.add_argument("--against", default="", help="JSON of hashes to compare with")
    options = parser.parse_args()
    checkout = pathlib.Path(options.checkout).resolve()
    found = {}
    for name, (config, more) in CASES.items():
        if not (checkout / config.partition(":")[0]).exists():
            continue
        for devices in DEVICES:
            found[f"{name}, {devices}"] = train(checkout, config, more, devices)
            print(f"{name:12} {devices} devices  {found[f'{name}, {devices}'][:16]}", flush=True)
    if options.output:
        pathlib.Path(options.output).write_text(json.dumps(found, indent=1) + "\n")
    if not options.against:
        return 0
    before = json.loads(pathlib.Path(options.against).read_text())
    other = {f"camvid, {n}": before.get(f"unet_camvid, {n}") for n in DEVICES}
    bad = [name for name, value in found.items() if value != before.get(name, other.get(name))]
    print("different: " + ", ".join(bad) if bad else f"all {len(found)} equal, bit for bit")
    return bool(bad)


if __name__ == "__main__":
    sys.exit(main())
