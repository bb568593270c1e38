"""A run that is what its folder says passes; whatever was changed since is named.

The rule: each thing that decides the numbers of a run (config, data, code's versions, machine,
checkpoints, steps) is either held to its record by itself, or moves the steps that are taken again.
"""

import json
import pathlib
import re
import shutil
import types

import numpy as np
import pytest
from PIL import Image

from segjax.commands import cli
from segjax.config import schema
from segjax.errors import ConfigError
from segjax.runs import agreement, records, train, verify
from tests.runs import pixels


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("verify")
    pixels.draw(folder / "data")
    assert train.run(folder / "run", pixels.config_on(folder / "data")) == train.DONE
    return folder


@pytest.fixture
def copied(trained, tmp_path):
    """Return a run of its own, whose data set is a copy too, times kept."""
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    for name, keys in (("config.json", ()), ("run.json", ("config",))):
        path = tmp_path / "run" / name
        change(path, (*keys, "input", "source", "root"), str(tmp_path / "data"))
    mark(tmp_path / "run")
    return tmp_path


def change(path: pathlib.Path, keys, value) -> None:
    """Write another value into a JSON file."""
    content = place = json.loads(path.read_text())
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    path.write_text(json.dumps(content))


def mark(run: pathlib.Path) -> None:
    config = json.loads((run / "config.json").read_text())
    change(run / "run.json", ("fingerprint",), schema.fingerprint(config))


def contents(folder: pathlib.Path) -> dict:
    return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def differing(found) -> list[str]:
    return [each.line() for each in found if each.kind == "differs"]


@pytest.fixture
def look(monkeypatch):
    """Return what finds all that differs, but for steps that are taken again.

    Checkpoints, which take half a second to read, are only looked at where that is asked for.
    """
    monkeypatch.setattr(verify.replay, "prepare", lambda *_: None)
    monkeypatch.setattr(verify, "take_again", lambda *_, **__: ())

    def look(path, *, checkpoints=True):
        with monkeypatch.context() as patch:
            if not checkpoints:
                patch.setattr(records, "checkpoints", lambda *_: ())
            return differing(verify.verify(path, trust_code=True))

    return look


def test_an_untouched_run_agrees_in_every_bit_and_stays_untouched(trained):
    before = contents(trained)
    found = list(verify.verify(trained / "run", trust_code=True))
    said = [each.line() for each in found]
    assert differing(found) == []
    assert any("state after step 3: all" in line and "bit for bit" in line for line in said), said
    assert "ok: batches: all 1 as logged" in said
    assert "ok: log of steps 3 to 3: 1 lines of losses and norms as logged, exactly" in said
    assert "ok: data train: 8 examples, the same files and content" in said
    assert contents(trained) == before


def one_pixel(folder):
    path = folder / "data" / "train" / "images" / "3.png"
    image = np.array(Image.open(path))
    image[5, 5] ^= 1
    Image.fromarray(image).save(path)


def same_size_other_content(folder):
    path = folder / "data" / "val" / "labels" / "1.png"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def one_more(folder):
    for kind in ("images", "labels"):
        shutil.copy(*(folder / "data" / "train" / kind / f"{i}.png" for i in (0, 8)))


def one_less(folder):
    for kind in ("images", "labels"):
        (folder / "data" / "val" / kind / "0.png").unlink()


def no_data(folder):
    shutil.rmtree(folder / "data" / "train" / "images")


def another_rate(folder):
    change(folder / "run" / "config.json", ("optimizer", "lr"), 0.5)


def another_seed(folder):
    change(folder / "run" / "config.json", ("seed",), 7)


def another_average(folder):
    change(folder / "run" / "config.json", ("ema_decay",), 0.5)


def another_config_of_an_old_run(folder):
    another_rate(folder)
    facts = json.loads((folder / "run" / "run.json").read_text())
    del facts["config"]
    (folder / "run" / "run.json").write_text(json.dumps(facts))


def another_package(folder):
    change(folder / "run" / "run.json", ("packages", "optax"), "0.0.1")


def a_package_that_is_gone(folder):
    change(folder / "run" / "run.json", ("packages", "ghost"), "1.0")


def another_python(folder):
    change(folder / "run" / "run.json", ("python",), "3.9.1")


def another_revision(folder):
    change(folder / "run" / "run.json", ("git_revision",), "0123456789ab")


def other_flags(folder):
    change(folder / "run" / "run.json", ("xla_flags",), "--xla_nothing=1")


def other_devices(folder):
    change(folder / "run" / "run.json", ("devices",), ["TPU v4"] * 4)


def a_bit(folder):
    """Of each file: the largest may be one that nothing refers to any more."""
    for array in (folder / "run" / "checkpoints" / "2").rglob("d/*"):
        content = bytearray(array.read_bytes())
        content[len(content) // 2] ^= 1
        array.write_bytes(content)


def swapped(folder):
    one, two, aside = (folder / "run" / "checkpoints" / name for name in ("2", "3", "aside"))
    one.rename(aside), two.rename(one), aside.rename(two)


def of_another_run(folder):
    """As whole as the one that was there, of the same step, and not that one."""
    change(folder / "run" / "checkpoints.json", ("2", "digests", "params"), 1)


def a_rank(folder):
    change(folder / "run" / "checkpoints" / "3" / "metrics" / "metrics", ("value",), 0.99)


def no_checkpoints(folder):
    for path in (folder / "run" / "checkpoints").iterdir():
        shutil.rmtree(path)


def a_score(folder):
    change(folder / "run" / "eval" / "val.json", ("miou",), 0.99)


def post_processing(folder):
    steps = [{"type": "largest", "classes": ["thing"]}]
    (folder / "run" / "postprocess.json").write_text(json.dumps({"postprocess": steps}))


CAUSES = [
    (one_pixel, r"data train: train/images/3.png ho"),
    (same_size_other_content, r"data val: val/labels/1.png holds something else"),
    (one_more, r"data train: train/images/8.png is new; train/labels/8.png is new"),
    (one_less, r"data val: val/images/0.png is gone; val/labels/0.png is gone"),
    (no_data, r"data train: .*images"),
    (another_rate, r"config optimizer.lr: 0.004 then, 0.5 now"),
    (another_seed, r"config seed: 0 then, 7 now"),
    (another_average, r"config ema_decay: 0.9 then, 0.5 now"),
    (another_config_of_an_old_run, r"config: config.json was edited"),
    (another_package, r"package optax: '0.0.1' then, '\d.* now"),
    (a_package_that_is_gone, r"package ghost: '1.0' then, absent now"),
    (another_python, r"package python: '3.9.1' then"),
    (another_revision, r"code: revision 0123456789ab then"),
    (other_flags, r"machine xla_flags: '--xla_nothing=1' then"),
    (other_devices, r"machine devices: \['TPU v4'"),
    (a_bit, r"checkpoint 2: "),
    (swapped, r"checkpoint 2: holds the state after step 3"),
    (of_another_run, r"checkpoint 2: another state than was saved: params differ"),
    (a_rank, r"checkpoint 3: is kept as the best by val/miou 0.99, logged"),
    (no_checkpoints, r"checkpoints: .* holds none"),
    (a_score, r"eval/val.json: at step 3: miou 0.99, logged"),
    (post_processing, r"eval/val.json: post-processing \[\] then, .*largest"),
]  # fmt: skip


def test_a_copy_is_the_same_run(copied, look):
    assert look(copied / "run") == []


@pytest.mark.parametrize(("cause", "said"), CAUSES, ids=lambda x: getattr(x, "__name__", ""))
def test_what_was_changed_is_named(copied, look, cause, said):
    cause(copied)
    found = look(copied / "run", checkpoints="checkpoint" in said)
    assert found and all(line.startswith("differs: ") for line in found)
    assert any(re.search(said, line) for line in found), found


def again(path, **options) -> list[str]:
    return [each.line() for each in verify.verify(path, trust_code=True, **options)]


def has(lines, pattern: str) -> bool:
    found = any(re.search(pattern, line) for line in lines)
    if not found:
        print("\n".join(lines))
    return found


@pytest.mark.slow
def test_steps_are_taken_again_from_the_first_on(trained, monkeypatch):
    """From the initial parameters, and to steps whose checkpoints are deleted."""
    run = trained / "run"
    with monkeypatch.context() as patch:
        patch.setattr(verify, "steps_in", lambda _: [])
        lines = again(run)
    assert has(lines, r"note: steps 1 to 3: taken again from the initial parameters, .*bit for bit")
    assert has(lines, "ok: state after step 2: bit for bit what was saved then, by its digests")
    assert has(lines, "ok: log of steps 1 to 3: 3 lines")
    assert not has(lines, "^differs")
    lines = again(run, step=2)
    assert has(lines, "note: step 2, layers: all .* finite") and not has(lines, "^differs")
    with pytest.raises(ConfigError, match="ended after step 3"):
        again(run, step=4)
    with pytest.raises(ConfigError, match="give one of them"):
        again(run, step=2, steps=1)


def test_a_line_of_the_log_is_held_to_the_steps_that_it_is_the_mean_of(monkeypatch, tmp_path):
    """Those since the line before, or since a checkpoint from which the run went on.

    Where some of them are not taken again, only a line that agrees is counted.
    """
    steps = {i: {"train/loss": float(i), "train/lr": 0.1} for i in range(1, 9)}
    made = types.SimpleNamespace(path=tmp_path)

    def found(losses, start, saved):
        lines = [{"step": s, "train/loss": x, "train/lr": 0.1} for s, x in losses.items()]
        monkeypatch.setattr(agreement.writer, "read", lambda _: lines)
        taken = {i: each for i, each in steps.items() if i > start}
        return [e.line() for e in agreement.compare_logs(made, start, taken, {}, saved, why="")]

    means = {4: 2.5, 8: 6.5}
    assert found(means, 0, [2, 4]) == ["ok: log of steps 1 to 8: 2 lines of losses and norms as "
                                       "logged, exactly"]  # fmt: skip
    assert has(found(means, 4, [4]), "ok: log of steps 5 to 8: 1 lines")
    assert has(found(means, 6, [4, 6]), "note: .*no line of it is of these steps alone")
    assert has(found({4: 2.5, 8: 7.5}, 4, [6]), "ok: .*1 lines")  # it went on from step 6
    assert has(found({4: 2.5, 8: 7.5}, 6, [6]), "ok: .*1 lines")
    assert has(found({4: 2.5, 8: 6.6}, 4, [6]), "differs: .*step 8: train/loss 6.6 logged")


@pytest.mark.slow
def test_what_moves_the_steps_and_nothing_else_is_seen_in_them(copied):
    """An edited log, a state that was saved with its digests, a config that nothing has kept."""
    run = copied / "run"
    lines = (
        (run / "metrics.jsonl").read_text().replace('"train/grad_norm": ', '"train/grad_norm": 1')
    )
    (run / "metrics.jsonl").write_text(lines)
    assert has(again(run), r"differs: log of steps 3 to 3: step 3: train/grad_norm 1\S+ logged")
    another_config_of_an_old_run(copied)
    found = again(run)
    assert has(found, "differs: config: config.json was edited")
    assert has(found, r"differs: state after step 3: .*expected equal bits")
    with open(copied / "data" / "train" / "labels" / "0.png", "rb") as file:
        content = file.read()
    (copied / "data" / "train" / "labels" / "1.png").write_bytes(content)
    assert has(again(run), "differs: batches: others than logged: 1, first at step 3")


@pytest.mark.slow
def test_an_edited_config_is_replayed_as_it_was(copied):
    """So that the edit is all that differs."""
    another_rate(copied)
    assert [line for line in again(copied / "run") if line.startswith("differs")] == [
        "differs: config optimizer.lr: 0.004 then, 0.5 now"
    ]


@pytest.mark.slow
def test_on_other_devices_bounds_take_the_place_of_bits(copied):
    """And a config that differs goes beyond them."""
    run = copied / "run"
    mesh = {"data": 2, "fsdp": 1, "space": 1}
    change(run / "run.json", ("mesh",), mesh)  # steps are taken on two of the eight devices
    found = again(run)
    assert has(found, r"differs: machine devices: .*then, \['cpu', 'cpu'\] now")
    assert has(found, r"ok: state after step 3: .*at most 0.5 expected, as machine devices differs")
    assert has(found, r"ok: log of steps 3 to 3: 1 lines .*within 2%")
    another_config_of_an_old_run(copied)
    assert has(again(run), r"differs: state after step 3: .*expected at most 0.5")


@pytest.mark.slow
def test_a_fixed_order_has_equal_bits_on_other_devices(trained, tmp_path):
    config = pixels.config_on(trained / "data", deterministic_reduction=8)
    assert train.run(tmp_path, config) == train.DONE
    for devices in (4, 2):
        change(tmp_path / "run.json", ("mesh",), {"data": devices, "fsdp": 1, "space": 1})
        found = again(tmp_path)
        assert has(found, r"differs: machine devices")
        assert has(found, r"ok: state after step 3: all \d+ arrays bit for bit"), found


@pytest.mark.slow
def test_a_trial_is_a_run_by_its_name(trained, tmp_path):
    """Its batches are those of the seed that all trials share."""
    config = pixels.config_on(trained / "data", trials__seed=[3, 4])
    assert train.run(tmp_path, config) == train.DONE
    with pytest.raises(ConfigError, match="2 trials.*Name one of them"):
        again(tmp_path)
    found = again(tmp_path / "trial1")
    assert has(found, r"ok: state after step 3: ") and has(found, "ok: log of steps 3 to 3")
    assert has(found, "ok: batches: all 1 as logged") or not has(found, "batches")


@pytest.mark.slow
def test_the_exit_code_says_whether_all_agrees(copied, capsys):
    arguments = ["run.py", "--mode=verify", f"--workdir={copied / 'run'}", "--trust_code"]
    before = contents(copied)
    assert cli.main([*arguments, f"--output={copied.parent / 'out'}"]) == 0
    assert contents(copied) == before
    said = capsys.readouterr().out.splitlines()
    assert said[-2].endswith("0 differ, 0 notes") or " 0 differ, " in said[-2]
    written = json.loads((copied.parent / "out" / "verify.json").read_text())["findings"]
    assert [f"{e['kind']}: {e['about']}: {e['text']}" for e in written] == said[:-2]
    another_package(copied)
    assert cli.main(arguments) == 1
    assert "differs: package optax: '0.0.1' then" in capsys.readouterr().out
    for more, wrong in (
        (["--step=9"], "ended after step 3"), (["--workdir=/nowhere/at/all"], "no config.json"),
    ):  # fmt: skip
        assert cli.main([*arguments, *more]) == 2
        error = capsys.readouterr().err
        assert wrong in error and error.count("\n") == 1
