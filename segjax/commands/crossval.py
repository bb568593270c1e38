"""Cross-validate what --config describes: a run for each of --folds, in --workdir/fold0 and so on.

Examples of --splits are dealt to folds; each fold is trained on the others' examples and scored on
its own. The same command again goes on; started several times (as elements of a SLURM array) it
shares the folds out. <workdir>/crossval.json has the scores of each fold, their means, and those of
all out-of-fold predictions joined. --workdir=<root> of other modes is then the folds' ensemble.
See docs/crossval.md.
"""

from absl import flags

from segjax.commands import options
from segjax.config import searches
from segjax.data import dealing
from segjax.errors import ConfigError, printable
from segjax.runtime import xla

NEEDS = options.CONFIG | {"workdir": "--workdir=runs/crossval"}
SHARED = None


def define(values: flags.FlagValues) -> None:
    """Define the mode's flags."""
    options.config(values)
    text = "The folder of all folds."
    flags.DEFINE_string("workdir", "", text, flag_values=values)
    text = "How many there are."
    flags.DEFINE_integer(
        "folds", 5, text, lower_bound=2, upper_bound=1000, flag_values=values
    )  # fmt: skip
    text = (
        "Splits of the data set that are dealt, with commas between; empty: that of config.input, "
        "and 'val' where config.evals scores it. Other splits are in no fold."
    )
    flags.DEFINE_list("splits", "", text, flag_values=values)
    text = (
        "plain: shuffled; consecutive: blocks of what follows each other, as slices of a stack; "
        "stratified: a like share of each class, for which every label is read once; grouped: a "
        "patient or clip in one fold; stratified_grouped: both."
    )
    flags.DEFINE_enum("kind", "plain", dealing.KINDS, text, flag_values=values)
    text = "Whose an example is: a regular expression on its name; empty: what the data set knows."
    flags.DEFINE_string("groups", "", text, flag_values=values)
    text = "Decides what is shuffled."
    flags.DEFINE_integer("seed", 0, text, lower_bound=0, flag_values=values)
    text = "Do these alone, with commas between, such as 0,2."
    flags.DEFINE_list("folds_only", "", text, flag_values=values)
    text = "Keep the best checkpoint by what a fold holds out, as the config says; it flatters."
    flags.DEFINE_bool("keep_best", False, text, flag_values=values)
    text = (
        "A search file: inside each fold its space is searched on the fold's training part alone, "
        "dealt once more, and the best values train the fold. Its own config is not used."
    )
    flags.DEFINE_string("search", "", text, flag_values=values)
    text = "Write what is predicted of each example out of fold, into <workdir>/predictions."
    flags.DEFINE_bool("keep_predictions", False, text, flag_values=values)


def run(values: flags.FlagValues) -> int:
    """Train, score and join; return 0, or 75 or 130 as training does."""
    root, config = options.path(values.workdir), options.read_config(values)
    only = numbers_of(values.folds_only)
    search = None
    if values.search:
        search = searches.read(values.search, trust_code=values.trust_code)
    xla.prepare()
    from segjax.studies import crossval

    wishes = crossval.Wishes(
        values.folds, tuple(filter(None, values.splits)), values.kind, values.groups, values.seed,
        values.keep_best, only, values.keep_predictions, search,
    )  # fmt: skip
    return crossval.run(root, config, wishes, say=lambda line: print(printable(line), flush=True))


def numbers_of(texts: list[str]) -> tuple[int, ...]:
    """Return `--folds_only` as numbers.

    Raises:
        ConfigError: One is none.
    """
    texts = [text.strip() for text in texts if text.strip()]
    if not all(text.isascii() and text.isdigit() for text in texts):
        raise ConfigError(
            f"--folds_only={','.join(texts)}: expected numbers of folds, with commas between: 0,2."
        )
    return tuple(dict.fromkeys(map(int, texts)))
