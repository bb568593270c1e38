"""Image segmentation in JAX: train a config, open a run, score it, predict with it.

    import segjax

    run = segjax.train(config, "runs/x")                # what `python run.py` does
    run = segjax.open_run("runs/x", checkpoint="best")  # needs nothing but the folder
    run.metrics()[-1]["train/loss"]                     # an exported file opens likewise
    run.evaluate("val")[0].result["miou"]
    run.predictor()(image).classes                      # uint8 [*space], at the image's size;
                                                        # where classes overlap [*space k]
    segjax.compare("a/eval/val.json", "b/eval/val.json")  # do two runs differ?
    run = segjax.search("my_search.py", "runs/search")  # the best of many trials

jax is imported by the first call, not by `import segjax`. Where the CPU computes, the process then
keeps the memory that it frees, see `runtime.quirks.keep_memory`.
"""

import pathlib
import signal
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from segjax.metrics.intervals import Comparison
    from segjax.runs.live import Live
    from segjax.runs.run import Run

__version__ = "0.2.0"
__all__ = ["compare", "list_runs", "open_run", "search", "train"]


def train(
    config: Mapping[str, Any],
    workdir: str | pathlib.Path,
    *,
    allow_config_change: bool = False,
    on_score: "Callable[[Live, int, dict[str, float]], bool] | None" = None,
) -> "Run":
    """Train what `config` describes in `workdir`, continuing what is there, and open it.

    Args:
        config: A `ConfigDict` or plain data, as `get_config` of a config file returns it.
        workdir: The run's folder.
        allow_config_change: Go on in a folder that another config made.
        on_score: `(run, step, scalars) → stop?`, called whenever the run was scored.

    Returns:
        The run; with `config.trials` the first trial's, and `list_runs(workdir)` has all.

    Raises:
        UserError: Bad config or data, NaN, a full disk.
        SystemExit: With code 75: SIGTERM or SIGHUP came, and a checkpoint was saved; call it again.
        KeyboardInterrupt: Likewise after Ctrl-C.
    """
    from segjax.runtime import files, xla

    xla.prepare()
    from segjax.report import ending
    from segjax.runs import run, train
    from segjax.watch import reference

    path = files.expanded(workdir)
    options: dict[str, Any] = {"at_end": ending.write}
    options |= {} if on_score is None else {"on_score": on_score}
    code = train.run(path, config, allow_config_change=allow_config_change, **options)
    _pass_on(code)
    reference.after_training(path, config)
    return run.list_runs(path, trust_code=True)[0]  # the caller gave the config


def _pass_on(code: int) -> None:
    """Raise what stands for the exit code of a training that a signal ended."""
    if code == 128 + signal.SIGINT:
        raise KeyboardInterrupt
    if code:
        raise SystemExit(code)


def open_run(
    path: str | pathlib.Path | Sequence[str | pathlib.Path],
    checkpoint: str | Sequence[str] = "",
    *,
    overrides: Iterable[str] = (),
    trust_code: bool = False,
) -> "Run":
    """Open the run in a folder; nothing in it is changed, and nothing else is needed.

    Args:
        path: The run's folder, or a file that was exported. Several folders make an ensemble, whose
            scores are averaged; that of a cross-validation stands for all its folds.
        checkpoint: 'best', 'latest' or a step; empty: the best where the run keeps one, else the
            latest. Several of one run make an ensemble.
        overrides: Changes to its config, such as `evals.val.batch_size=3`.
        trust_code: Run code outside of segjax that its config names. A run is data without it.

    Raises:
        UserError: No run there, no such checkpoint, an override that does not fit, or a config that
            names code outside of segjax.
    """
    from segjax.runtime import xla

    xla.prepare()
    from segjax.runs import run

    paths = [path] if isinstance(path, (str, pathlib.Path)) else path
    if len(paths) == 1 and not checkpoint and pathlib.Path(paths[0]).is_file():
        from segjax.export import exported

        file = pathlib.Path(paths[0])
        return exported.open_file(file, overrides=overrides, trust_code=trust_code)
    return run.open_ensemble(
        [pathlib.Path(each) for each in paths],
        checkpoints=[checkpoint] if isinstance(checkpoint, str) else checkpoint,
        overrides=overrides,
        trust_code=trust_code,
    )


def list_runs(path: str | pathlib.Path, *, trust_code: bool = False) -> "list[Run]":
    """Return all runs in a folder: its own, its trials', those below it, by path.

    `trust_code` is that of `open_run`.
    """
    from segjax.runtime import xla

    xla.prepare()
    from segjax.runs import run

    return run.list_runs(pathlib.Path(path), trust_code=trust_code)


def search(search: str | pathlib.Path | Mapping[str, Any], workdir: str | pathlib.Path) -> "Run":
    """Search hyperparameters, going on with what is in `workdir`, and open the best trial.

    Args:
        search: A file with `get_search`, or what that returns; see `config.searches`.
        workdir: The search's folder. Several processes may share it.

    Returns:
        The run of the best trial; `list_runs(workdir)` has all.

    Raises:
        UserError: A bad search, config or folder; no trial was complete.
        SystemExit: As `train`; call it again to go on.
        KeyboardInterrupt: Likewise.
    """
    from segjax.config import searches
    from segjax.errors import printable
    from segjax.runtime import files, xla

    given = isinstance(search, Mapping)
    found = searches.make(search) if given else searches.read(str(search))
    xla.prepare()
    from segjax.runs import run
    from segjax.studies import outcome
    from segjax.studies import search as search_lib

    root = files.expanded(workdir)
    _pass_on(search_lib.run(root, found, say=lambda line: print(printable(line), flush=True)))
    best = outcome.collect(root)["best"]["number"]
    return run.open_run(root / f"trial{best}", trust_code=True)  # the caller gave the config


def compare(
    first: str | pathlib.Path | Mapping[str, Any],
    second: str | pathlib.Path | Mapping[str, Any],
    *,
    metric: str = "miou",
    resamples: int = 10_000,
    seed: int = 0,
) -> "Comparison":
    """Test whether two runs differ on the same split, example by example.

    Args:
        first: `eval/<name>.json` of a run that was scored with `intervals` or `metrics`, or its
            content: a report's `result`.
        second: That of another.
        metric: What of it, see `metrics.intervals.compare`.
        resamples: Of the bootstrap, and of the permutation test.
        seed: Decides both.

    Raises:
        UserError: A file that cannot be read or has nothing of single examples, no such metric, or
            other examples or labels in the two.
    """
    from segjax.runtime import xla

    xla.prepare()
    from segjax.metrics import intervals

    return intervals.compare(first, second, metric=metric, resamples=resamples, seed=seed)
