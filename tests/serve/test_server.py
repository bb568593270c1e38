"""The server as a process: how it starts, is shared, overloaded, ended and killed."""

import concurrent.futures
import json
import pathlib
import re
import signal
import socket
import time

import numpy as np
import pytest

from segjax.feedback.store import Store
from tests import program
from tests.serve.served import form, get, picture, pixels_of, predict, process

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Return the folder of a run of two steps."""
    path = tmp_path_factory.mktemp("served") / "run"
    code, text = program.run("--config=configs/quickstart.py:debug", f"--workdir={path}")
    assert code == 0, text
    return path


@pytest.fixture(scope="module")
def server(run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("feedback")
    flags = ("--queue=4", "--timeout=5", "--max_megapixels=4", "--watch", f"--feedback={folder}")
    with process(f"--workdir={run}", *flags) as (running, url, _):
        yield running, url, folder


def test_it_predicts_what_the_command_does(server, run, tmp_path):
    _, url, _ = server
    file = tmp_path / "a.png"
    file.write_bytes(picture(40, 70))
    out = tmp_path / "out"
    code, text = program.run(
        "--mode=predict", f"--workdir={run}", f"--input={file}", f"--output={out}"
    )
    assert code == 0, text
    status, content = predict(url, file.read_bytes(), "format=png")
    expected = (out / "a_label.png").read_bytes()
    assert status == 200 and content == expected
    _, content = predict(url, file.read_bytes(), "format=overlay")
    np.testing.assert_array_equal(
        pixels_of(content), pixels_of((out / "a_overlay.png").read_bytes())
    )


def connect(url):
    host, port = url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=60)


def test_a_slow_client_is_given_up(server):
    """One that sends no headers, and one whose body does not come."""
    _, url, _ = server
    with connect(url) as silent, connect(url) as slow:
        silent.sendall(b"POST /v1/predict HTTP/1.1\r\nHost: x\r\n")
        head = b"POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n"
        slow.sendall(head + b"Content-Type: multipart/form-data; boundary=XbX\r\n\r\n--XbX\r\n")
        begin = time.monotonic()
        assert slow.recv(100).startswith(b"HTTP/1.1 408") and time.monotonic() - begin > 4
        assert silent.recv(100) == b""
    assert predict(url, picture())[0] == 200


@pytest.mark.parametrize(
    "sent", [b"\0\1\2\3\r\n\r\n", b"GET\r\n\r\n", b"GET " + b"x" * 100_000,
             b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 30_000 + b"\r\n"]
)  # fmt: skip
def test_what_is_no_request_is_refused(server, sent):
    _, url, _ = server
    with connect(url) as client:
        client.sendall(sent)
        try:
            found = client.recv(1000)
        except ConnectionResetError:  # it had not read all of it
            found = b""
    assert found == b"" or found.startswith(b"HTTP/1.1 4")
    assert b"Traceback" not in found and get(url + "/healthz")[0] == 200


def memory_of(running):
    text = pathlib.Path(f"/proc/{running.pid}/status").read_text()
    return int(re.findall(r"VmRSS:\s+(\d+)", text)[0]) / 1024


def test_bad_requests_take_no_memory(server):
    running, url, _ = server
    big = form(image=("x.png", bytes(33 << 20)))
    bomb = picture(3000, 3000, mode="L")  # 9 megapixels where 4 are taken
    for _ in range(3):
        assert get(url + "/v1/predict", *big)[0] == 413 and predict(url, bomb)[0] == 413
    before = memory_of(running)
    for _ in range(20):
        assert get(url + "/v1/predict", *big)[0] == 413 and predict(url, bomb)[0] == 413
    assert memory_of(running) < before + 100


def test_too_many_are_refused_at_once_and_then_all_is_well(server):
    _, url, _ = server
    content = picture(900, 1200)
    with concurrent.futures.ThreadPoolExecutor(32) as pool:
        found = list(pool.map(lambda _: predict(url, content, "format=npy")[0], range(96)))
    assert set(found) == {200, 429} and found.count(200) >= 4
    for _ in range(5):
        assert predict(url, content, "format=npy")[0] == 200


def test_nothing_is_compiled_for_any_size(server):
    _, url, _ = server

    def compiled():
        text = get(url + "/metrics")[1].decode()
        return float(re.findall(r"^segjax_compilations_total (\S+)", text, re.M)[0])

    before, random = compiled(), np.random.default_rng(0)
    for number in range(12):
        height, width = (int(x) for x in random.integers(1, 400, 2))
        query = ("format=png", "include=uncertainty,rle", "format=probabilities")[number % 3]
        assert predict(url, picture(height, width), query)[0] == 200
    assert compiled() == before
    assert "segjax_watch_images" in get(url + "/metrics")[1].decode()


def test_what_is_accepted_when_it_ends_is_answered(run):
    with process(f"--workdir={run}", "--wait_ms=200") as (running, url, lines):
        content = picture(600, 800)
        with concurrent.futures.ThreadPoolExecutor(12) as pool:
            asked = [pool.submit(predict, url, content, "format=png") for _ in range(12)]
            time.sleep(0.15)
            running.send_signal(signal.SIGTERM)
            found = [each.result()[0] for each in asked]
        assert running.wait(60) == 0
        text = "".join(lines)
        said = int(re.findall(r"requests: (\d+) answered", text)[0])
        asked_before = 1  # /readyz
        assert found.count(200) == said - asked_before and set(found) <= {200, 503, 0}
        assert "Traceback" not in running.stderr.read()


@pytest.mark.parametrize("repeat", range(3))
def test_a_kill_loses_no_feedback_that_was_accepted(run, tmp_path, repeat):
    accepted = []

    def send(url, number):
        for count in range(1000):
            body, headers = form(image=("x.png", picture(seed=number)), note=f"{number} {count}")
            status, answer = get(url + "/v1/feedback", body, headers)
            if status != 201:
                return
            accepted.append(json.loads(answer)["id"])

    with process(f"--workdir={run}", f"--feedback={tmp_path}") as (running, url, _):
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            for number in range(4):
                pool.submit(send, url, number)
            time.sleep(0.4 + 0.3 * repeat)
            running.kill()
    store = Store.open(tmp_path)
    rows = {row.id: row for row in store.rows()}
    assert accepted and set(accepted) <= set(rows)
    for name in accepted:
        assert pixels_of(store.image_of(name, rows[name].suffix).read_bytes()).shape == (40, 50, 3)
        assert pixels_of(store.label_of(name).read_bytes()).shape == (40, 50)


def test_several_workers_share_a_port_and_their_counts(run, tmp_path):
    flags = (f"--workdir={run}", "--workers=2", f"--feedback={tmp_path}")
    with process(*flags, SEGJAX_API_KEY="one,two") as (running, url, lines):
        key = {"X-API-Key": "two"}
        end = time.monotonic() + 120
        while "".join(lines).count("serving run") < 2 and time.monotonic() < end:
            time.sleep(0.1)
        assert get(url + "/v1/models")[0] == 401
        body, headers = form(image=("x.png", picture()), note="x")
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            found = list(pool.map(
                lambda _: get(url + "/v1/predict", body, headers | key)[0], range(24)
            ))  # fmt: skip
        # A worker that still compiles says 503.
        assert set(found) <= {200, 503} and 200 in found
        assert get(url + "/v1/feedback", body, headers | key)[0] in (201, 503)
        text = get(url + "/metrics", None, key)[1].decode()
        pattern = r'segjax_requests_total{route="/v1/predict",status="200"} (\S+)'
        assert float(re.findall(pattern, text)[0]) == found.count(200)
        running.terminate()
        assert running.wait(60) == 0
        assert "".join(lines).count("requests: ") == 2


def test_what_cannot_be_served_is_one_line(run, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        cases = {
            (f"--workdir={run}", f"--port={port}"): "Address already in use. Name another one",
            (f"--workdir={tmp_path}",): "config.json",
            (f"--workdir={run}", "--port=70000"): "70000",
            (f"--workdir={run}", "--host=no.such.host.invalid"): "--host=no.such.host.invalid",
            (f"--workdir={run}", "--batch=0"): "batch",
            (f"--workdir={run}", f"--feedback={__file__}"): "test_server.py",
        }
        for arguments, words in cases.items():
            code, text = program.run("--mode=serve", "--port=0", *arguments)
            assert code == 2 and words in text and "Traceback" not in text, text


def test_a_dry_run_serves_nothing(run):
    code, text = program.run("--mode=serve", f"--workdir={run}", "--dry_run", "--batch=2")
    assert code == 0 and "2 shapes compiled" in text and "serving run, step 2" in text, text
