"""segjax: train, evaluate and predict.

python run.py --config=configs/quickstart.py --workdir=runs/quickstart
python run.py --mode=eval --workdir=runs/quickstart
python run.py --mode=predict --workdir=runs/quickstart --input='photos/*.jpg' --output=out
"""

import pathlib
import sys

from absl import app, flags, logging
from ml_collections import config_flags

from segjax import numerics
from segjax.errors import ConfigError, UserError

config_flags.DEFINE_config_file("config", None, "The experiment: configs/<file>.py[:argument].")
WORKDIR = flags.DEFINE_string("workdir", "", "The run's folder: config, log, checkpoints, figures.")
MODE = flags.DEFINE_enum("mode", "train", ["train", "eval", "predict"], "What to do.")
INPUT = flags.DEFINE_string("input", "", "predict: an image, a folder or a glob.")
OUTPUT = flags.DEFINE_string("output", "", "predict: the folder to write to.")
CHECKPOINT = flags.DEFINE_string(
    "checkpoint", "", "eval, predict: 'best', 'latest' or a step. Default: best if one is kept."
)
OVERRIDE = flags.DEFINE_multi_string(
    "override", [], "eval, predict: change the run's config, e.g. evals.val.batch_size=3."
)
ALLOW_CONFIG_CHANGE = flags.DEFINE_bool(
    "allow_config_change", False, "train: go on in a workdir that another config made."
)


def main(_) -> int:
    """Run the mode and return the exit code: 0 done, 2 bad input, 75 preempted, 1 anything else."""
    for flag in ("workdir", *(("input", "output") if MODE.value == "predict" else ())):
        if not flags.FLAGS[flag].value:
            raise ConfigError(f"--mode={MODE.value} needs --{flag}.")
    if MODE.value == "train" and flags.FLAGS.config is None:
        raise ConfigError("--mode=train needs --config, e.g. --config=configs/quickstart.py.")
    numerics.prepare()
    workdir = pathlib.Path(WORKDIR.value).expanduser()
    if MODE.value == "train":
        from segjax import train

        config = flags.FLAGS.config
        return train.run(workdir, config, allow_config_change=ALLOW_CONFIG_CHANGE.value)
    chosen = {"which": CHECKPOINT.value, "overrides": OVERRIDE.value}
    if MODE.value == "eval":
        from segjax import evaluate

        return evaluate.run(workdir, **chosen)
    from segjax import predict

    output = pathlib.Path(OUTPUT.value).expanduser()
    return predict.run(workdir, inputs=INPUT.value, output=output, **chosen)


def parse(argv: list[str]) -> list[str]:
    """Parse the flags; a wrong one, or a wrong config key, is a UserError."""
    try:
        rest = flags.FLAGS(argv)
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
    numerics.set_xla_flags()
    try:
        app.run(main, flags_parser=parse)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
