"""Where scalars go beside `metrics.jsonl`, each a section of `config.writers`.

`metrics.jsonl` is the record and is always written; these show it. Weights & Biases and MLflow are
imported when they are used. What they cannot do, without a network, is said in a line, and training
goes on without them.
"""

import importlib
import math
import os
import pathlib
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, NamedTuple, Protocol, TypeAlias

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog  # pyright: ignore
from tensorboardX.proto.summary_pb2 import Summary  # pyright: ignore

from segjax.config import lookup, rules, sections
from segjax.errors import DataError, extra
from segjax.runtime import distributed, files, reading

TENSORBOARD_DIR = "tensorboard"
IDS = "writers.json"
"""Of the run's folder: what others call the run, so that it goes on under the same name."""
PARAMETERS = 100
"""That MLflow takes at once."""
LONGEST_PARAMETER = 500
SQLITE = "sqlite:///"
EXTRAS = {"wandb": "wandb", "mlflow": "mlflow"}
"""By type: the module, which an extra of the same name installs."""

Text: TypeAlias = Annotated[str, rules.TEXT]


class About(NamedTuple):
    """The run that is shown.

    Attributes:
        workdir: Its folder.
        config: What it is of.
        first_step: The first that will be written; those before it were, by an earlier process.
    """

    workdir: pathlib.Path
    config: Mapping[str, Any]
    first_step: int


class Shown(Protocol):
    """Something that shows a run."""

    def write(self, step: int, scalars: Mapping[str, float]) -> None:
        """Show scalars, which may be NaN."""
        ...

    def figure(self, name: str, path: pathlib.Path) -> None:
        """Show a PNG, as of the step written last."""
        ...

    def close(self, code: int) -> None:
        """End it, with the exit code of the run."""
        ...


def check(writers: Sequence[Mapping[str, Any]]) -> None:
    """Refuse sections of `config.writers` that cannot be used here.

    Raises:
        ConfigError: What is wrong with one, or what has to be installed for it.
    """
    for i, section in enumerate(writers):
        where = f"config.writers[{i}]"
        lookup.check("runs.writers", section, where=where, given=("about",))
        if section["type"] in EXTRAS:
            with extra(section["type"], what=f"{where}.type={section['type']!r}"):
                importlib.import_module(EXTRAS[section["type"]])


def open_all(writers: Sequence[Mapping[str, Any]], run: About) -> list[Shown]:
    """Return what shows a run, open."""
    return [
        lookup.build("runs.writers", section, where=f"config.writers[{i}]", about=run)
        for i, section in enumerate(writers)
    ]


class Tensorboard:
    """Write event files for TensorBoard, in the calling thread.

    tensorboardX.SummaryWriter leaves them to another, where a full disk goes unseen until its queue
    fills and the training loop blocks for ever.

    Args:
        about: The run.

    Raises:
        UserError: The disk is full or cannot be written; also from every method.
    """

    def __init__(self, *, about: About):
        self.folder = about.workdir / TENSORBOARD_DIR
        self.step = about.first_step
        with files.explain_os_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            self.events = open_events(self.folder, purge_step=about.first_step)

    def write(self, step: int, scalars: Mapping[str, float]) -> None:
        """Write scalars."""
        self.step = step
        self._append([Summary.Value(tag=name, simple_value=x) for name, x in scalars.items()])

    def figure(self, name: str, path: pathlib.Path) -> None:
        """Write a PNG."""
        with reading.open_file(path) as file:
            image = Summary.Image(encoded_image_string=file.read())
        self._append([Summary.Value(tag=name, image=image)])

    def close(self, code: int) -> None:
        """Close the file."""
        del code
        with files.explain_os_errors(self.folder):
            self.events.close()

    def _append(self, values: list[Any]) -> None:
        event = Event(wall_time=time.time(), step=self.step, summary=Summary(value=values))
        with files.explain_os_errors(self.folder):
            self.events.write_event(event)
            self.events.flush()


def open_events(folder: pathlib.Path, *, purge_step: int) -> EventsWriter:
    """Open a new event file that has TensorBoard hide what older ones hold from `purge_step` on.

    TensorBoard takes the first session start of a folder for the run's own and heeds the second, so
    one is written on a fresh start too.
    """
    # The name has whole seconds: a quick restart would truncate the file of the run before it.
    events = EventsWriter(os.fspath(folder / "events"), f".{time.time_ns()}")
    start = SessionLog(status=SessionLog.START)
    events.write_event(Event(wall_time=time.time(), step=purge_step, session_log=start))
    events.flush()
    return events


class _Outside:
    """What shows a run outside of its folder: it may fail at any time, and training goes on."""

    title = ""

    def __init__(self, about: About):
        self.about, self.step, self.works = about, about.first_step, True

    def _try(self, what: str, do: Callable[[], Any]) -> None:
        """Do something; where it fails, say so, and do nothing more."""
        if not self.works:
            return
        try:
            do()
        except Exception as error:  # whatever the library or the network raise
            self.works = False
            reason = (str(error).splitlines() or [""])[0] or type(error).__name__
            distributed.say(
                f"{self.title}: {what} failed: {reason}. The run goes on without it; "
                "metrics.jsonl has all."
            )


class Wandb(_Outside):
    """Show the run in Weights & Biases; `WANDB_MODE=offline` keeps it in the workdir for later.

    Args:
        project: Its project.
        entity: Whose; empty: the user's own.
        group: Of several runs; empty: none.
        name: Of the run; empty: that of its folder.
        about: The run.
    """

    title = "Weights & Biases"

    def __init__(
        self, *, project: Text = "segjax", entity: Text = "", group: Text = "", name: Text = "",
        about: About,
    ):  # fmt: skip
        super().__init__(about)
        self.run: Any = None

        def begin() -> None:
            import wandb  # pyright: ignore

            self.run = wandb.init(
                project=project, entity=entity or None, group=group or None,
                name=name or about.workdir.name, id=_identity(about.workdir, "wandb"),
                resume="allow", config=dict(about.config), dir=os.fspath(about.workdir),
                settings=wandb.Settings(
                    silent=True, console="off", init_timeout=60, login_timeout=10
                ),
            )  # fmt: skip

        self._try("to begin", begin)

    def write(self, step: int, scalars: Mapping[str, float]) -> None:
        """Log scalars."""
        self.step = step
        self._try("to log", lambda: self.run.log(dict(scalars), step=step))

    def figure(self, name: str, path: pathlib.Path) -> None:
        """Log a PNG."""

        def log() -> None:
            import wandb  # pyright: ignore

            self.run.log({name: wandb.Image(os.fspath(path))}, step=self.step)

        self._try("to log a figure", log)

    def close(self, code: int) -> None:
        """Finish the run; one that was preempted is told as failed until it goes on."""
        self._try("to finish", lambda: self.run.finish(exit_code=code))


class Mlflow(_Outside):
    """Show the run in MLflow.

    Args:
        experiment: Its experiment, made if it is not there.
        uri: Of the store, such as `http://host:5000` or `sqlite:////data/mlflow.db`; empty: what
            MLFLOW_TRACKING_URI says, else `mlflow.db` in the workdir. Artifacts of a database that
            is a file lie beside it, in `mlartifacts`; MLflow itself would put them where it runs.
        name: Of the run; empty: that of its folder.
        about: The run.
    """

    title = "MLflow"

    def __init__(
        self, *, experiment: Annotated[str, rules.NAME] = "segjax", uri: Text = "", name: Text = "",
        about: About,
    ):  # fmt: skip
        super().__init__(about)
        self.client: Any = None
        self.run_id = ""
        own = f"{SQLITE}{(about.workdir / 'mlflow.db').absolute()}"
        store = uri or os.environ.get("MLFLOW_TRACKING_URI") or own
        # Its own would hold up a step for many minutes where a server does not answer.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
        self._try("to begin", lambda: self._begin(store, experiment, name or about.workdir.name))

    def _begin(self, store: str, experiment: str, name: str) -> None:
        from mlflow.tracking import MlflowClient  # pyright: ignore

        self.client = MlflowClient(tracking_uri=store)
        known = _identities(self.about.workdir).get("mlflow")
        if known:
            self.client.update_run(known, status="RUNNING")
            self.run_id = known
            return
        found = self.client.get_experiment_by_name(experiment)
        number = (
            found.experiment_id if found
            else self.client.create_experiment(experiment, artifact_location=_artifacts(store))
        )  # fmt: skip
        self.run_id = self.client.create_run(number, run_name=name).info.run_id
        for part in _parameters(self.about.config):
            self.client.log_batch(self.run_id, params=part)
        _remember(self.about.workdir, "mlflow", self.run_id)

    def write(self, step: int, scalars: Mapping[str, float]) -> None:
        """Log scalars; those that are not finite are left out."""
        self.step = step

        def log() -> None:
            from mlflow.entities import Metric  # pyright: ignore

            now = int(time.time() * 1000)
            finite = {name: x for name, x in scalars.items() if math.isfinite(x)}
            metrics = [Metric(name, x, now, step) for name, x in finite.items()]
            self.client.log_batch(self.run_id, metrics=metrics)

        self._try("to log", log)

    def figure(self, name: str, path: pathlib.Path) -> None:
        """Keep a PNG as an artifact, below `figures`."""
        del name
        keep = lambda: self.client.log_artifact(self.run_id, os.fspath(path), "figures")  # noqa: E731
        self._try("to keep a figure", keep)

    def close(self, code: int) -> None:
        """End the run: finished, killed after a signal, or failed."""
        status = "FINISHED" if code == 0 else "KILLED" if code in (75, 130) else "FAILED"
        self._try("to finish", lambda: self.client.set_terminated(self.run_id, status))


def _artifacts(store: str) -> str | None:
    """Return where artifacts lie beside a database that is a file, None where a server knows."""
    path = store.removeprefix(SQLITE)
    if path == store:
        return None
    return (pathlib.Path(path).absolute().parent / "mlartifacts").as_uri()


def _parameters(config: Mapping[str, Any]) -> list[list[Any]]:
    """Return a config as MLflow's parameters, in parts that it takes at once."""
    from mlflow.entities import Param  # pyright: ignore

    flat = sections.flatten(sections.plain(config))
    every = [
        Param(key.replace("[", ".").replace("]", ""), str(value)[:LONGEST_PARAMETER])
        for key, value in flat.items()
    ]
    return [every[i : i + PARAMETERS] for i in range(0, len(every), PARAMETERS)]


def is_known(workdir: pathlib.Path, section: Mapping[str, Any]) -> bool:
    """Return whether what a section names has shown the run before."""
    return section["type"] in _identities(workdir)


def _identities(workdir: pathlib.Path) -> dict[str, str]:
    try:
        found = reading.read_json(workdir / IDS)
    except (OSError, DataError):
        return {}
    found = found if isinstance(found, dict) else {}
    return {name: each for name, each in found.items() if isinstance(each, str) and each}


def _identity(workdir: pathlib.Path, name: str) -> str:
    """Return what a run is called elsewhere; a new name where it has none yet."""
    known = _identities(workdir).get(name)
    return known or _remember(workdir, name, uuid.uuid4().hex[:12])


def _remember(workdir: pathlib.Path, name: str, identity: str) -> str:
    files.write_json(workdir / IDS, _identities(workdir) | {name: identity})
    return identity
