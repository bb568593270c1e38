"""The front door: every command runs, every link resolves, every number comes from a file.

Of the README and of docs/, ```bash blocks are run line by line, in short form. A ```python
block whose first line names a file is that file; one below RUN is run. ```text is for people.
"""

import os
import pathlib
import re
import shlex
import shutil

import numpy as np
import pytest
from PIL import Image

from experiments import results
from tests import camvid, clips, program

README = program.ROOT / "README.md"
PAGES = [README, *sorted((program.ROOT / "docs").glob("*.md"))]
RUN = "<!-- run by tests/test_readme.py -->"
NOT_RUN = {
    "scale.md": 2,
    "crossval.md": 1,
    "studies.md": 3,
    "export.md": 7,
    "feedback.md": 2,
    "serve.md": 1,
    "transfer.md": 3,
    "audit.md": 3,
    "report.md": 1,
    "classical.md": 2,
}
"""Commands in ```text: they take several processes at once, or a study or run that is not there."""
PARTS = re.compile(rf"(?P<run>{RUN}\n)?^```(?P<kind>\w*)\n(?P<text>.*?)^```$", re.S | re.M)


def blocks(page: pathlib.Path, kind: str) -> list[re.Match]:
    """Return the fenced blocks of a page that are in one language."""
    found = list(PARTS.finditer(page.read_text()))
    assert 2 * len(found) == page.read_text().count("```"), f"{page.name}: a fence is not closed"
    return [block for block in found if block["kind"] == kind]


def commands(page: pathlib.Path) -> list[str]:
    """Return what a page tells to type."""
    lines = [line for block in blocks(page, "bash") for line in block["text"].splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def scripts(page: pathlib.Path) -> list[str]:
    """Return the Python code of a page that is to be run."""
    return [block["text"] for block in blocks(page, "python") if block["run"]]


def files(page: pathlib.Path) -> dict[str, str]:
    """Return the files that a page shows, by their path."""
    texts = [block["text"] for block in blocks(page, "python")]
    named = {re.match(r"# ([\w/]+\.py)\n", text): text for text in texts}
    return {first[1]: text for first, text in named.items() if first}


def names(pages: list[pathlib.Path]) -> list[str]:
    return [page.name for page in pages]


def test_links_and_pictures_resolve():
    pages = [*PAGES, *program.ROOT.glob("C*.md"), *(program.ROOT / "launch").glob("*.md")]
    assert {"README.md", "CONTRIBUTING.md", "CHANGELOG.md"} < set(names(pages))
    for page in pages:
        for link in re.findall(r"\]\((?!https?://|#)([^)#]+)[^)]*\)", page.read_text()):
            assert (page.parent / link).exists(), f"{page.name}: {link}"


def test_the_readme_leads_to_every_page():
    text = README.read_text()
    assert text.count("\n") <= 200
    for page in (*PAGES[1:], program.ROOT / "CONTRIBUTING.md", program.ROOT / "CHANGELOG.md"):
        assert f"]({page.relative_to(program.ROOT)})" in text, page.name


def test_what_is_not_run_is_counted():
    """A command in a block that nobody runs may be wrong."""
    found = {
        page.name: sum("run.py" in line for line in text.splitlines() if line.startswith("python"))
        for page in PAGES
        if (text := "".join(block["text"] for block in blocks(page, "text")))
    }
    assert {name: count for name, count in found.items() if count} == NOT_RUN


def test_the_results_table_is_drawn_from_the_records():
    records = results.load()
    assert records, "experiments/results.jsonl is empty"
    text = README.read_text()
    assert results.redraw(text, records) == text
    prose = re.sub(r"```.*?```", "", text, flags=re.S)
    for number in re.findall(r"\d+\.\d{3}", prose):
        recorded = [r.get(name, 0) for r in records for name in ("miou", "dice", "pixel_accuracy")]
        assert number in [f"{value:.3f}" for value in recorded], number


def test_ci_runs_the_readmes_commands():
    """What the other test cannot run inside itself: the install and the test command."""
    ci, lines = (program.ROOT / ".ci" / "run").read_text(), commands(README)
    venv, tests = "python3 -m venv .venv", ".venv/bin/python -m pytest -n 2"
    assert sum(venv in line for line in lines) == 2 and f"{venv}\n" in ci
    assert tests in lines and f"{tests}\n" in ci and f"{tests} -m slow\n" in ci
    assert ".venv/bin/pip install -q -r requirements.txt" in ci
    workflow = (program.ROOT / ".github" / "workflows" / "ci.yml").read_text()
    assert "run: .ci/run\n" in workflow


def short(line: str, here: pathlib.Path, shown: dict[str, str]) -> tuple[list[str], dict[str, str]]:
    """Return a command's arguments and environment in short form.

    That is: the `debug` size of its config, and the folder `here` for what it reads and writes.
    """
    words = shlex.split(line)
    settings = dict(word.split("=", 1) for word in words[: words.index("run.py") - 1])
    arguments = words[words.index("run.py") + 1 :]
    for place in ("runs/", "photos/", "videos/", "data/", "out", *shown):
        arguments = [re.sub(rf"=(?={place})", f"={here}/", a) for a in arguments]
    by_size = r"(/(?:camvid|streets)\.py:model=\w+)\S*"
    arguments = [re.sub(by_size, r"\1,size=debug", a) for a in arguments]
    arguments = [re.sub(r"(configs/own_data\.py:\S+)", r"\1,size=debug", a) for a in arguments]
    arguments = [re.sub(r"(configs/auto\.py:\S+)", r"\1,debug", a) for a in arguments]
    arguments = [re.sub(r"(configs/quickstart\.py:\S+)", r"\1,debug", a) for a in arguments]
    arguments = [re.sub(r"(experiments/search/\w+\.py)$", r"\1:debug", a) for a in arguments]
    return [
        re.sub(r"(configs/(?!camvid|streets)\w+\.py)$", r"\1:debug", a) for a in arguments
    ], settings


def overlapping(root: pathlib.Path) -> None:
    """Write a data set with a folder of masks for each of two classes that overlap."""
    random = np.random.default_rng(0)
    for split, number in (("train", 1), ("train", 2), ("val", 7)):
        image = random.integers(0, 255, (40, 48, 3), np.uint8)
        maps = {"images": image, "labels/cell": image[..., 0], "labels/nucleus": image[..., 1]}
        for place, array in maps.items():
            path = root / split / place / f"{number:04d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            mask = 255 * (array > 100).astype(np.uint8)
            Image.fromarray(array if place == "images" else mask).save(path)


def run(page: pathlib.Path, here: pathlib.Path) -> None:
    """Run all commands of a page in order, with its files, some photos and a made-up data set."""
    (here / "photos").mkdir(parents=True)
    Image.fromarray(np.zeros((40, 50, 3), np.uint8)).save(here / "photos" / "a.jpg")
    scene = clips.scene(6, (48, 64))
    for number, image in enumerate(scene):
        (here / "videos/frames").mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(here / f"videos/frames/{number}.png")
    clips.write(here / "videos/walk.mp4", scene, codec="libx264", pixels="yuv420p")
    camvid.write(here)
    for name in ("streets", "cells"):
        shutil.copytree(here / "camvid", here / "data" / name)
    for path in (here / "data/cells").glob("*/labels/*"):  # noise has 12,000 pieces of a class
        label = np.asarray(Image.open(path))
        coarse = label[::24, ::24].repeat(24, axis=0).repeat(24, axis=1)
        Image.fromarray(coarse[: label.shape[0], : label.shape[1]]).save(path)
    overlapping(here / "data" / "tissue")
    shown = files(page)
    for name, text in shown.items():
        (here / name).parent.mkdir(exist_ok=True)
        (here / name).write_text(re.sub(r'"(?=runs/|data/)', f'"{here}/', text))
    for line in commands(page):
        if "run.py" in line:
            arguments, settings = short(line, here, shown)
            settings |= {"SEGJAX_DATA": str(here), "PYTHONPATH": str(here)}
            code, text = program.run(*arguments, **settings)
            assert code == 0, (line, arguments, text)


@pytest.fixture(scope="module")
def quickstart(tmp_path_factory):
    """Return the folder of a quickstart that is trained, as a reader of any page has one."""
    path = tmp_path_factory.mktemp("quickstart") / "run"
    code, text = program.run("--config=configs/quickstart.py:debug", f"--workdir={path}")
    assert code == 0, text
    return path


@pytest.mark.slow
def test_every_command_of_the_readme_runs(tmp_path):
    run(README, tmp_path)
    assert (tmp_path / "out" / "a_label.png").exists()
    record = results.record(tmp_path / "runs" / "quickstart")[0]
    assert record["split"] == "val" and 0 <= record["miou"] <= 1
    assert os.path.basename(record["command"].split()[1]) == "run.py"


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", [page for page in PAGES[1:] if commands(page)], ids=lambda p: p.name
)
def test_every_command_of_a_page_runs(page, tmp_path, quickstart):
    shutil.copytree(quickstart, tmp_path / "runs" / "quickstart")
    run(page, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if scripts(page)], ids=lambda p: p.name)
def test_the_python_of_a_page_runs(page, tmp_path, monkeypatch):
    """One after the other, as in a notebook."""
    monkeypatch.chdir(tmp_path)
    notebook = {}
    for script in scripts(page):
        exec(compile(script, page.name, "exec"), notebook)
    assert (tmp_path / "runs").is_dir()
