"""Files of others: only regular ones, of bounded size, JSON that only says what JSON can say."""

import os
import socket
import threading

import pytest

from segjax.errors import DataError, UserError
from segjax.runtime import memory, reading


def pipe(path):
    os.mkfifo(path)


def listening(path):
    server = socket.socket(socket.AF_UNIX)
    here = os.getcwd()
    os.chdir(path.parent)  # the name of a socket has 107 bytes at most
    try:
        server.bind(path.name)
    finally:
        os.chdir(here)
        server.close()


def cycle(path):
    path.symlink_to(path.with_name("other"))
    path.with_name("other").symlink_to(path)


ODD = {
    "pipe": (pipe, r"is a pipe \(FIFO\)"),
    "socket": (listening, "is a socket"),
    "device": (lambda path: path.symlink_to("/dev/zero"), "is a device"),
    "dangling link": (
        lambda path: path.symlink_to("gone"),
        "is a link to gone, which is not there",
    ),
    "circle of links": (cycle, "is a link that leads back to itself"),
    "folder": (lambda path: path.mkdir(), "is a folder"),
}
"""How to make what is no file, and what is said of it."""


def within(seconds, function):
    """Return what a function raised; one that waits for ever fails here, and not the whole run."""
    caught = []

    def call():
        try:
            function()
        except BaseException as error:
            caught.append(error)

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(seconds)
    assert not thread.is_alive(), "it waits"
    return caught[0] if caught else None


@pytest.mark.parametrize("kind", ODD)
@pytest.mark.parametrize("read", [reading.text, reading.lines, reading.read_json])
def test_only_regular_files_are_read(tmp_path, kind, read):
    make, said = ODD[kind]
    make(tmp_path / "x")
    error = within(5, lambda: read(tmp_path / "x"))
    assert isinstance(error, DataError)
    pytest.raises(DataError, reading.check_file, tmp_path / "x").match(f"/x: {said}")
    assert "\n" not in str(error) and reading.why_not(tmp_path / "x") in str(error)


def test_links_to_files_are_files(tmp_path):
    (tmp_path / "a").write_text("\ufeffhello\n")
    (tmp_path / "b").symlink_to("a")
    (tmp_path / "c").symlink_to(tmp_path / "b")
    assert reading.text(tmp_path / "c") == "hello\n"
    reading.check_file(tmp_path / "c")
    reading.check_file(tmp_path / "nothing there")


def test_what_is_not_there_is_for_the_caller_to_explain(tmp_path):
    with pytest.raises(FileNotFoundError):
        reading.text(tmp_path / "x")
    with pytest.raises(DataError, match="null"):
        reading.text(str(tmp_path / "a\0b"))


def test_a_file_that_is_too_long_is_not_read(tmp_path, monkeypatch):
    """Neither one that is (as long as) a terabyte of holes, nor a line of one, nor many lines."""
    with open(tmp_path / "x", "wb") as file:
        file.truncate(1 << 40)
    for read in (reading.text, reading.lines, reading.read_json):
        with pytest.raises(DataError, match=r"1,099,511,627,776 bytes, at most .* are read"):
            read(tmp_path / "x")
    with pytest.raises(DataError, match="line 1: is longer than 1,048,576 bytes"):
        list(reading.raw_lines(tmp_path / "x"))
    monkeypatch.setattr(reading, "TEXT_LINES", 3)
    (tmp_path / "x").write_text("a\n" * 4)
    with pytest.raises(DataError, match="more than 3 lines"):
        reading.lines(tmp_path / "x")


WRONG = {
    "1e999": "too large",
    "[-1e999]": "too large",
    "NaN": "NaN is no number",
    '{"a": Infinity}': "Infinity is no number",
    "9" * 5000: "5000 digits",
    "18446744073709551616": "beyond 64 bits",
    "[" * 100_000: "deeper than 64",
    "[" * 65 + "]" * 65: "deeper than 64",
    '{"a":' * 70 + "1" + "}" * 70: "deeper than 64",
    '{"a": 1, "b": 2, "a": 3}': "'a' stands twice",
    '{"a": 1': "delimiter",
    "": "Expecting value",
}


@pytest.mark.parametrize("text", WRONG, ids=lambda text: text[:12])
def test_json_is_what_json_can_hold(tmp_path, text):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(DataError, match=rf"x\.json: not valid JSON: .*{WRONG[text]}") as error:
        reading.read_json(tmp_path / "x.json")
    assert "\n" not in str(error.value) and len(str(error.value)) < 400


def test_good_json_stays(tmp_path):
    (tmp_path / "x.json").write_bytes(b"\xef\xbb\xbf" + b"[" * 64 + b"-1.5e3" + b"]" * 64)
    found = reading.read_json(tmp_path / "x.json")
    while isinstance(found, list):
        (found,) = found
    assert found == -1500
    assert reading.parse_json('{"a": 18446744073709551615, "b": {"a": null}}')["a"] == 2**64 - 1
    (tmp_path / "x.json").write_bytes(b'{"\xff": 1}')
    with pytest.raises(UserError, match="not UTF-8 at byte 2"):
        reading.read_json(tmp_path / "x.json")


@pytest.mark.parametrize("shape", [(7,), (1000, 3), (5, 4000, 3), (1, 10_000_000)])
def test_rows_are_all_rows_once(shape):
    parts = list(memory.rows(shape, elements=3000))
    assert [i for part in parts for i in range(part.start, part.stop)] == list(range(shape[0]))
