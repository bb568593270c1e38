"""A config file that does not load is one line with file, line and cause."""

import json

import pytest

from configs import quickstart
from segjax.config import load, schema
from segjax.errors import ConfigError, UserError

GOOD = """
from configs import quickstart

def get_config(arg=""):
    return quickstart.get_config(arg)
"""
BROKEN = {
    "syntax": ("x = (\n", r"x\.py:1: SyntaxError"),
    "indentation": ("def get_config():\nreturn 1\n", r"x\.py:2: IndentationError"),
    "import": ("import math\nimport no_such_module\n", r"x\.py:2: ModuleNotFoundError: .*no_such"),
    "exception inside": (
        "def get_config():\n    x = {}\n    return x['a']\n",
        r"x\.py:3: KeyError",
    ),
    "no function": ("config = {}\n", "x.py: has no function get_config"),
    "wrong return": ("def get_config():\n    return 3\n", "returned int, expected a ConfigDict"),
    "no data": ("def get_config():\n    return {'model': object()}\n", "is not plain data"),
    "binary": ("\0\1\2", r"x\.py:.*null bytes"),
    "not text": (b"\xff\xfe\x00", r"x\.py.*: SyntaxError"),
    "a way out": ("import sys\nsys.exit('3')\n", r"x\.py:2: SystemExit: 3"),
    "a way out of the function": (
        "def get_config():\n    raise SystemExit\n",
        r"x\.py:2: SystemExit",
    ),
    "without end": ("def get_config():\n    return get_config()\n", r"x\.py:2: RecursionError"),
    "deep": (
        "def get_config():\n    x = []\n    for _ in range(99):\n        x = [x]\n"
        "    return {'model': x}\n",
        "more than 16 deep",
    ),
    "a placeholder": (
        "import ml_collections as m\ndef get_config():\n    c = m.ConfigDict()\n"
        "    c.a = m.config_dict.required_placeholder(int)\n    return c\n",
        r"x\.py: RequiredValueError",
    ),
    "an error of a whole page": (
        "raise ValueError('x' * 9999)\n",
        r"x\.py:1: ValueError: x+ … x+\.$",
    ),
    "many lines": ("raise ValueError('a\\nb')\n", r"x\.py:1: ValueError: a b\.$"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_wrong_with_a_python_file_is_one_line(name, tmp_path):
    text, said = BROKEN[name]
    (tmp_path / "x.py").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError, match=said) as error:
        load.load(str(tmp_path / "x.py"))
    assert "\n" not in str(error.value) and len(str(error.value)) < 500


@pytest.mark.parametrize("name", ["x.py", "x.json"])
def test_a_file_that_may_not_be_read_and_a_folder_are_named(name, tmp_path, monkeypatch):
    (tmp_path / name).mkdir()
    with pytest.raises(ConfigError, match=rf"{name}: a folder\. Expected"):
        load.load(str(tmp_path / name))
    (tmp_path / name).rmdir()
    (tmp_path / name).write_text("{}")

    def refuse(path, *_, **__):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("segjax.runtime.reading.os.open", refuse)
    with pytest.raises(UserError, match=rf"{name}: .*Permission denied"):
        load.load(str(tmp_path / name))


@pytest.mark.parametrize("text", ["", "[1]", "{", '{"a": 1}', "[" * 100_000, "3", "\0"])
def test_what_is_wrong_with_a_json_file_is_one_line(text, tmp_path):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(ConfigError, match=r"x\.json: (not valid JSON|holds no config)") as error:
        load.load(str(tmp_path / "x.json"))
    assert "\n" not in str(error.value)


def test_the_config_of_a_run_loads_as_its_file_did(tmp_path):
    config = schema.fill(quickstart.get_config("debug"))
    (tmp_path / "config.json").write_text(json.dumps(config | {"resolved": {"total_steps": 2}}))
    (tmp_path / "x.py").write_text(GOOD)
    from_json = load.load(str(tmp_path / "config.json"), ["total_steps=3"])
    assert from_json == load.load(f"{tmp_path / 'x.py'}:debug", ["total_steps=3"])
    assert from_json["total_steps"] == 3 and "resolved" not in from_json


def test_an_argument_that_a_file_does_not_take(tmp_path):
    (tmp_path / "x.py").write_text("def get_config():\n    return {}\n")
    with pytest.raises(ConfigError, match="takes no argument, got 'debug'"):
        load.load(f"{tmp_path / 'x.py'}:debug")
    with pytest.raises(ConfigError, match="no such file"):
        load.load(str(tmp_path / "y.py"))
