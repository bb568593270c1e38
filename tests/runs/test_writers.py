"""What shows a run gets each of its numbers once, and never holds it up.

Weights & Biases and MLflow are 60 MB and 80 MB with what they need, so here stand their recorded
calls, and the slow tests use them themselves where they are installed.
"""

import json
import pathlib
import sys
import types

import pytest

from segjax.config import schema
from segjax.errors import ConfigError
from segjax.runs import train, writer, writers
from segjax.runs.writer import Writer
from tests.runs import pixels


class Recorded:
    """Stands for a library: what it was told, by everyone that began."""

    def __init__(self):
        self.begun, self.told, self.figures, self.ended = [], [], [], []
        self.parameters, self.broken = {}, ""

    def act(self, name):
        if name and name == self.broken:
            raise OSError("Network is unreachable\nand more")


@pytest.fixture(params=["wandb", "mlflow"])
def recorded(request, monkeypatch):
    found = Recorded()
    for name, module in {"wandb": fake_wandb, "mlflow": fake_mlflow}[request.param](found).items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    found.kind = request.param
    return found


def module(name, **names):
    made = types.ModuleType(name)
    vars(made).update(names)
    return made


def fake_wandb(found):
    class Run:
        def log(self, values, *, step):
            found.act("log")
            pictures = {k for k, v in values.items() if isinstance(v, tuple)}
            found.figures += [values[k][1] for k in pictures]
            found.told += [(step, k, v) for k, v in values.items() if k not in pictures]

        def finish(self, *, exit_code):
            found.ended.append(exit_code)

    def init(**options):
        found.act("begin")
        found.begun.append(options["id"])
        found.parameters |= options["config"]
        assert options["resume"] == "allow" and options["project"] == "segjax"
        return Run()

    image = lambda path: ("image", path)  # noqa: E731
    return {"wandb": module("wandb", init=init, Settings=dict, Image=image)}


def fake_mlflow(found):
    class Client:
        def __init__(self, tracking_uri):
            assert tracking_uri.startswith("sqlite:///") and tracking_uri.endswith("mlflow.db")
            self.folder = pathlib.Path(tracking_uri.removeprefix("sqlite:///")).parent

        def get_experiment_by_name(self, name):
            return None

        def create_experiment(self, name, artifact_location):
            assert name == "segjax"
            assert artifact_location == (self.folder / "mlartifacts").as_uri()
            return "1"

        def create_run(self, number, *, run_name):
            found.act("begin")
            found.begun.append("run-1")
            return types.SimpleNamespace(info=types.SimpleNamespace(run_id="run-1"))

        def update_run(self, run_id, *, status):
            found.act("begin")
            assert status == "RUNNING"
            found.begun.append(run_id)

        def log_batch(self, run_id, *, metrics=(), params=()):
            found.act("log" if metrics else "")
            assert len(params) <= 100
            found.told += [(step, name, value) for name, value, _, step in metrics]
            found.parameters |= dict(params)

        def log_artifact(self, run_id, path, folder):
            found.figures.append(path)

        def set_terminated(self, run_id, status):
            found.ended.append({"FINISHED": 0, "KILLED": 75, "FAILED": 2}[status])

    tuples = {"Metric": lambda *each: each, "Param": lambda *each: each}
    return {
        "mlflow": module("mlflow"),
        "mlflow.tracking": module("mlflow.tracking", MlflowClient=Client),
        "mlflow.entities": module("mlflow.entities", **tuples),
    }


def config_with(*kinds) -> dict:
    sections = [{"type": kind} for kind in kinds]
    return schema.fill({"seed": 3, "writers": sections, "augment": [{"type": "geometry:flip"}]})


def write(log, steps):
    for step in steps:
        log.write(step, {"train/loss": 1 / step})
        if step % 2 == 0:
            log.write(step, {"val/miou": 0.5})


def expected(steps) -> list:
    values = [[(step, "train/loss", 1 / step), (step, "val/miou", 0.5)] for step in steps]
    return [each for step, both in zip(steps, values, strict=True) for each in both[: 2 - step % 2]]


def test_each_number_is_told_once_however_often_the_run_is_killed(tmp_path, recorded):
    """Killed between two lines of a step, too; it goes on under the name that it had."""
    config = config_with("tensorboard", recorded.kind)
    log = Writer(tmp_path, resume_step=None, config=config)
    write(log, range(1, 4))
    log.write(4, {"train/loss": 1 / 4})  # and then SIGKILL: no close
    log = Writer(tmp_path, resume_step=2, config=config)
    write(log, range(3, 6))
    log.figure("val/examples", tmp_path / "metrics.jsonl")
    log.close(75)
    with Writer(tmp_path, resume_step=5, config=config) as log:
        write(log, [6])
    assert sorted(recorded.told) == sorted(expected(range(1, 7)))
    assert len(recorded.begun) == 3 and len(set(recorded.begun)) == 1
    assert recorded.figures == [str(tmp_path / "metrics.jsonl")] and recorded.ended == [75, 0]
    told = recorded.parameters
    assert told.get("seed") == 3 or told["seed"] == "3"
    assert "augment.0.type" in told or told["augment"] == [{"type": "geometry:flip"}]
    names = {"step", "train/loss", "val/miou"}
    assert {name for r in writer.read(tmp_path) for name in r} == names


def test_one_that_comes_later_is_told_what_was_before(tmp_path, recorded):
    with Writer(tmp_path, resume_step=None, config=config_with("tensorboard")) as log:
        write(log, range(1, 6))
    with Writer(tmp_path, resume_step=3, config=config_with(recorded.kind)) as log:
        write(log, range(4, 6))
    assert recorded.told == expected(range(1, 6))


@pytest.mark.parametrize("broken", ["begin", "log"])
def test_without_a_network_it_is_said_in_a_line_and_the_run_goes_on(
    tmp_path, recorded, capsys, broken
):
    recorded.broken = broken
    with Writer(tmp_path, resume_step=None, config=config_with(recorded.kind)) as log:
        write(log, range(1, 4))
        log.figure("curves", tmp_path / "metrics.jsonl")
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "failed: Network is unreachable. The run goes on" in said
    assert [r["step"] for r in writer.read(tmp_path)] == [1, 2, 2, 3] and recorded.told == []


@pytest.mark.parametrize(("error", "code"), [(None, 0), (ConfigError("x"), 2), (ValueError(), 1)])
def test_how_the_run_ended_is_told(tmp_path, recorded, error, code):
    log = Writer(tmp_path, resume_step=None, config=config_with(recorded.kind))
    log.__exit__(type(error) if error else None)
    assert recorded.ended == [code if recorded.kind == "wandb" else min(2, 2 * code)]


def test_what_cannot_be_used_is_refused_before_the_run(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)  # as where it is not installed
    with pytest.raises(ConfigError, match=r"needs the module wandb.*pip install 'segjax\[wandb\]'"):
        writers.check([{"type": "wandb"}])
    with pytest.raises(ConfigError, match=r"config.writers\[0\].*Did you mean 'wandb'|is unknown"):
        writers.check([{"type": "wandbb"}])
    for other in ("open_all", "check", "shown", "about", "_outside"):
        with pytest.raises(ConfigError, match=r"config.writers\[0\]"):
            writers.check([{"type": other}])
    with pytest.raises(ConfigError, match="projct"):
        writers.check([{"type": "wandb", "projct": "x"}])
    pixels.draw(tmp_path / "data")
    config = pixels.config_on(tmp_path / "data") | {"writers": [{"type": "wandb"}]}
    with pytest.raises(ConfigError, match="needs the module wandb"):
        train.run(tmp_path / "run", config)
    assert not (tmp_path / "run").exists()


def test_metrics_jsonl_is_written_whatever_shows_it(tmp_path):
    with Writer(tmp_path, resume_step=None, config=config_with()) as log:
        write(log, [1])
    assert writer.read(tmp_path) == [{"step": 1, "train/loss": 1.0}]
    assert not (tmp_path / "tensorboard").exists()


@pytest.mark.slow
def test_mlflow_itself_has_every_step_once(tmp_path, monkeypatch):
    """In a database of the workdir, without a server; the run goes on after its checkpoint."""
    tracking = pytest.importorskip("mlflow.tracking", reason="needs segjax[mlflow]")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    pixels.draw(tmp_path / "data")
    config = pixels.config_on(tmp_path / "data") | {"writers": [{"type": "mlflow"}]}
    path = tmp_path / "run"
    assert train.run(path, config) == train.DONE
    longer = config | {"total_steps": 5}
    assert train.run(path, longer, allow_config_change=True) == train.DONE
    client = tracking.MlflowClient(tracking_uri=f"sqlite:///{path / 'mlflow.db'}")
    run_id = json.loads((path / "writers.json").read_text())["mlflow"]
    history = client.get_metric_history(run_id, "train/loss")
    logged = {r["step"]: r["train/loss"] for r in writer.read(path) if "train/loss" in r}
    assert [(m.step, m.value) for m in history] == sorted(logged.items())
    found = client.get_run(run_id)
    assert found.info.status == "FINISHED" and found.data.params["input.batch_size"] == "8"
    assert "figures/learning_curves.png" in [
        f.path for f in client.list_artifacts(run_id, "figures")
    ]
    assert (path / "mlartifacts").is_dir()


@pytest.mark.parametrize(
    ("store", "expected"),
    [("sqlite:////data/mlflow.db", "file:///data/mlartifacts"), ("http://host:5000", None)],
)
def test_artifacts_of_mlflow_lie_beside_a_database_only(store, expected):
    assert writers._artifacts(store) == expected


@pytest.mark.slow
def test_wandb_itself_keeps_the_run_offline(tmp_path, monkeypatch):
    pytest.importorskip("wandb", reason="needs segjax[wandb]")
    monkeypatch.setenv("WANDB_MODE", "offline")
    pixels.draw(tmp_path / "data")
    config = pixels.config_on(tmp_path / "data") | {"writers": [{"type": "wandb"}]}
    path = tmp_path / "run"
    for steps in (3, 5):
        longer = config | {"total_steps": steps}
        assert train.run(path, longer, allow_config_change=True) == train.DONE
    name = json.loads((path / "writers.json").read_text())["wandb"]
    kept = sorted(path.glob(f"wandb/offline-run-*-{name}/run-{name}.wandb"))
    assert len(kept) == 2, "both processes under one name"
    assert len(list(path.glob("wandb/offline-run-*/files/media/images/*"))) > 0
