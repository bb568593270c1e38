"""segjax: train, evaluate, predict, and look before you leap.

python run.py --config=configs/quickstart.py --workdir=runs/quickstart
python run.py --mode=eval --workdir=runs/quickstart
python run.py --mode=predict --workdir=runs/quickstart --input='photos/*.jpg' --output=out
python run.py --mode=export --workdir=runs/quickstart --publisher=segjax --output=x.safetensors
python run.py --mode=summary --config=configs/quickstart.py
python run.py --mode=plan --config=configs/camvid.py --devices=64 --config.mesh.fsdp=8
"""

import sys
from typing import Any

from absl import app, flags, logging
from ml_collections import config_flags

from segjax.commands import cli
from segjax.config import spelling
from segjax.errors import ConfigError, UserError
from segjax.runtime import distributed, xla

config_flags.DEFINE_config_file("config", None, "The experiment: configs/<file>.py[:arguments].")
flags.DEFINE_string("workdir", "", "The run's folder: config, log, checkpoints, figures.")
MODE = flags.DEFINE_enum("mode", "train", list(cli.MODES), "What to do.")
flags.DEFINE_string("input", "", "predict: an image, a folder or a glob.")
flags.DEFINE_string("output", "", "predict: the folder to write to. export: the file.")
flags.DEFINE_string("publisher", "", "export: whose names: segjax, torchvision, timm, smp, …")
flags.DEFINE_string(
    "checkpoint", "", "Of the run: 'best', 'latest' or a step. Default: best if one is kept."
)
flags.DEFINE_integer("devices", 0, "plan: how many devices to compile for.", lower_bound=0)
flags.DEFINE_multi_string(
    "override", [], "eval, predict: change the run's config, e.g. evals.val.batch_size=3."
)
flags.DEFINE_bool(
    "allow_config_change", False, "train: go on in a workdir that another config made."
)
flags.DEFINE_string(
    "profile_steps", "", "train: a:b traces steps a to b, both included, into <workdir>/profile."
)
flags.DEFINE_string(
    "coordinator", "", "host:port of process 0 in a job of several. Found under SLURM, GKE, TPU, …"
)
flags.DEFINE_integer("process_id", None, "Which process of the job this is.", lower_bound=0)
flags.DEFINE_integer("num_processes", None, "How many the job has.", lower_bound=1)


def main(_) -> int:
    """Run the mode and return the exit code: 0 done, 2 bad input, 75 preempted, 1 anything else."""
    place: list[Any] = [
        flags.FLAGS[n].value for n in ("coordinator", "process_id", "num_processes")
    ]
    with distributed.job(*place, shared=MODE.value in ("train", "eval"), what=MODE.value):
        return cli.run(MODE.value, flags.FLAGS)


def parse(argv: list[str]) -> list[str]:
    """Parse the flags; a wrong one, or a wrong config key, is a UserError."""
    try:
        rest = flags.FLAGS(spelling.modernize(argv))
        if flags.FLAGS.config is not None:
            flags.FLAGS.config.keys()  # a file that could not be loaded complains only when used
    except (flags.Error, LookupError, AttributeError, TypeError, ValueError, OSError) as error:
        text = " ".join(str(error.args[0] if error.args else error).split())
        raise ConfigError(text) from None
    if len(rest) > 1:
        raise ConfigError(f"unexpected argument {rest[1]!r}. Flags are written --name=value.")
    logging.set_verbosity(logging.FATAL)  # what Orbax logs also reaches us as an exception
    return rest


if __name__ == "__main__":
    xla.set_xla_flags()
    try:
        app.run(main, flags_parser=parse)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
