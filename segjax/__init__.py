"""Image segmentation in JAX: train a config, open a run, score it, predict with it.

    import segjax

    run = segjax.train(config, "runs/x")                # what `python run.py` does
    run = segjax.open_run("runs/x", checkpoint="best")  # needs nothing but the folder
    run.metrics()[-1]["train/loss"]
    run.evaluate("val")[0].result["miou"]
    run.predictor()(image).classes                      # uint8 [*space], at the image's size

jax is imported by the first call, not by `import segjax`.
"""

import pathlib
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from segjax.runs.live import Live
    from segjax.runs.run import Run

__version__ = "0.2.0"
__all__ = ["list_runs", "open_run", "train"]


def train(
    config: Mapping[str, Any],
    workdir: str | pathlib.Path,
    *,
    allow_config_change: bool = False,
    on_score: "Callable[[Live, int, dict[str, float]], bool] | None" = None,
) -> "Run":
    """Train what `config` describes in `workdir`, continuing what is there, and open it.

    On a CPU the process keeps the memory that a step frees, see `runtime.quirks.keep_memory`.

    Args:
        config: A `ConfigDict` or plain data, as `get_config` of a config file returns it.
        workdir: The run's folder.
        allow_config_change: Go on in a folder that another config made.
        on_score: `(run, step, scalars) → stop?`, called whenever the run was scored.

    Returns:
        The run; with `config.trials` the first trial's, and `list_runs(workdir)` has all.

    Raises:
        UserError: Bad config or data, NaN, a full disk.
        SystemExit: With code 75: SIGTERM came, and a checkpoint was saved. Call it again.
    """
    from segjax.runtime import files, xla

    xla.prepare(keep_memory=True)
    from segjax.runs import run, train

    path = files.expanded(workdir)
    options: dict[str, Any] = {} if on_score is None else {"on_score": on_score}
    code = train.run(path, config, allow_config_change=allow_config_change, **options)
    if code != train.DONE:
        raise SystemExit(code)
    return run.list_runs(path)[0]


def open_run(
    path: str | pathlib.Path, checkpoint: str = "", *, overrides: Iterable[str] = ()
) -> "Run":
    """Open the run in a folder; nothing in it is changed, and nothing else is needed.

    Args:
        path: The run's folder.
        checkpoint: 'best', 'latest' or a step; empty: the best where the run keeps one, else the
            latest.
        overrides: Changes to its config, such as `evals.val.batch_size=3`.

    Raises:
        UserError: No run there, no such checkpoint, or an override that does not fit.
    """
    from segjax.runtime import xla

    xla.prepare()
    from segjax.runs import run

    return run.open_run(pathlib.Path(path), checkpoint=checkpoint, overrides=overrides)


def list_runs(path: str | pathlib.Path) -> "list[Run]":
    """Return all runs in a folder: its own, its trials', those below it, by path."""
    from segjax.runtime import xla

    xla.prepare()
    from segjax.runs import run

    return run.list_runs(pathlib.Path(path))
