"""Search hyperparameters as the file --search says, each trial a run in --workdir.

The same command again goes on where it was ended. Started several times, on whatever machines see
the folder, the processes share the trials. At the end, and with --report, the trials are put
together: search.json, search.csv, best.json (a config that trains as it stands) and figures.
"""

from absl import flags

from segjax.commands import options
from segjax.config import searches
from segjax.errors import ConfigError, printable
from segjax.runtime import xla

NEEDS = {"workdir": "--workdir=runs/search"}
SHARED = None


def define(values: flags.FlagValues) -> None:
    """Define the mode's flags."""
    text = "The search: <file>.py[:argument,…] with a get_search."
    flags.DEFINE_string("search", "", text, flag_values=values)
    text = "The search's folder: its trials, tables and figures."
    flags.DEFINE_string("workdir", "", text, flag_values=values)
    text = "Put together what --workdir has found so far, and train nothing; needs no --search."
    flags.DEFINE_bool("report", False, text, flag_values=values)
    options.trust_code(values)


def run(values: flags.FlagValues) -> int:
    """Search; return 0, or the exit code of the trial that a signal ended."""
    root = options.path(values.workdir)
    if values.report:
        from segjax.studies import outcome

        for line in outcome.write(root):
            print(printable(line))
        return 0
    if not values.search:
        example = "experiments/search/quickstart.py"
        raise ConfigError(f"--mode=search needs --search, e.g. --search={example}, or --report.")
    search = searches.read(values.search, trust_code=values.trust_code)
    xla.prepare()
    from segjax.studies import search as search_lib

    return search_lib.run(root, search, say=lambda line: print(printable(line), flush=True))
