"""Write the data of --config once as Zarr into --output, for fast and partial reading.

All splits that the config trains on and scores, below <output>/<split>/. A command that was killed
goes on where it was. Train on it with
--config.input.source='{"type": "prepared", "root": "<output>"}'.
"""

import contextlib

from absl import flags

from segjax.commands import options
from segjax.errors import printable
from segjax.runtime import files, xla

NEEDS = options.CONFIG | {"output": "--output=data/prepared"}
SHARED = False


def define(values: flags.FlagValues) -> None:
    """Define the mode's flags."""
    options.config(values)
    text = "A folder, or a URL such as gs://bucket/folder."
    flags.DEFINE_string("output", "", text, flag_values=values)


def run(values: flags.FlagValues) -> int:
    """Write all splits, and say what was found, there already, and written."""
    config = options.read_config(values)
    xla.prepare()
    from segjax.assemble import parts
    from segjax.config import schema, sections
    from segjax.data import core, hashes, preparing, store
    from segjax.views.progress import Progress

    config = schema.fill(config)
    schema.check(config)
    inputs = config["input"]
    named = [inputs["split"], *(each["split"] for each in config["evals"].values())]
    sources = {split: parts.make_source(config, split) for split in dict.fromkeys(named)}
    target = store.Store(values.output, where="--output")
    with contextlib.ExitStack() as stack:
        if target.is_local:
            lock = files.locked(target.path / ".lock", what=f"--output={values.output}")
            stack.enter_context(lock)
        for split, source in sources.items():
            made_from = {"source": inputs["source"], "split": split}
            made_from |= {"files": hashes.of_source(source)}
            made_from["reading"] = core.reading_of(source)
            if suffix := sections.innermost(inputs["source"]).get("label_suffix"):
                made_from["reading"]["label_suffix"] = suffix
            with Progress(len(source), unit="examples", title=split, leave=False) as bar:
                done = preparing.write_split(
                    source, target, split,
                    made_from=made_from, threads=inputs["threads"], tell=bar.update,
                )  # fmt: skip
            new = done.found - done.before
            print(
                printable(
                    f"{split}: {done.found} examples found, {done.before} were written before, "
                    f"{new} now, of {done.num_bytes / 1e6:,.1f} MB, in {done.packs} packs; "
                    f"manifest {done.manifest_hash[:12]}"
                )
            )
    section = f'{{"type": "prepared", "root": "{values.output}"}}'
    print(printable(f"train on it with --config.input.source='{section}'"))
    return 0
