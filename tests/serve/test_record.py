"""The README of the load tests is drawn from what they recorded; the client of the docs works."""

import pathlib
import re

import httpx
import pytest

from experiments.serve import load
from tests.program import ROOT
from tests.serve.served import picture


def test_the_readme_is_drawn_from_the_records():
    records, text = load.read(), (load.HERE / "README.md").read_text()
    assert {each["what"] for each in records} == {"rounds", "overload", "ending", "steady", "kill"}
    assert load.redraw(text, records) == text


def test_the_client_of_the_docs_works(client, tmp_path, monkeypatch):
    text = (ROOT / "docs" / "serve.md").read_text()
    code = re.findall(r"```python\n(.*?)```", text, re.S)[0]
    assert sum(bool(line.strip()) for line in code.splitlines()) <= 10
    monkeypatch.chdir(tmp_path)
    pathlib.Path("photo.jpg").write_bytes(picture(form="JPEG"))
    monkeypatch.setattr(httpx, "Client", lambda **_: client)
    notebook = {}
    exec(compile(code, "serve.md", "exec"), notebook)
    assert set(notebook["areas"]) == set("abcdef")
    assert sum(notebook["areas"].values()) == pytest.approx(1)
    assert notebook["segment"]("photo.jpg", format="png").startswith(b"\x89PNG")
