"""What the tests of serving share: a small model, requests, a server as a process of its own."""

import contextlib
import io
import json
import re
import threading
import time
import urllib.error
import urllib.request

import numpy as np
from PIL import Image

from tests import program


def picture(height=40, width=50, seed=0, form="PNG", mode="RGB"):
    """Return the bytes of a picture."""
    shape = (height, width) if mode == "L" else (height, width, len(mode))
    pixels = np.random.default_rng(seed).integers(0, 255, shape, np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, form)
    return stream.getvalue()


def npy(array):
    """Return the bytes of a NumPy file."""
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def pixels_of(content):
    """Return the stored numbers of a PNG."""
    return np.asarray(Image.open(io.BytesIO(content)))


@contextlib.contextmanager
def process(*arguments, **environment):
    """Start `--mode=serve` on a free port, and yield it with its address once it is ready."""
    server = program.start("--mode=serve", "--port=0", *arguments, **environment)
    lines = []
    reader = threading.Thread(target=lambda: lines.extend(server.stdout), daemon=True)
    try:
        first = server.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:\d+", first)
        assert found, first + server.stderr.read()
        reader.start()
        url = found[0]
        wait_for(url)
        yield server, url, lines
    finally:
        if server.poll() is None:
            server.kill()
        server.wait()


def wait_for(url, path="/readyz", seconds=240):
    """Wait until a server answers with 200."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        status, _ = get(url + path)
        if status == 200:
            return
        time.sleep(0.1)
    raise AssertionError(f"{url} was not ready within {seconds} s")


def get(url, data=None, headers=()):
    """Return status and content of an answer; 0: there was none."""
    request = urllib.request.Request(url, data=data, headers=dict(headers))
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return 0, b""


def form(**files):
    """Return the body and headers of a form; a field is a text, or a file's name and bytes."""
    parts = []
    for name, value in files.items():
        filename, content = value if isinstance(value, tuple) else ("", value.encode())
        more = f'; filename="{filename}"' if isinstance(value, tuple) else ""
        head = f'--XbX\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'
        parts.append(head.encode() + content + b"\r\n")
    return b"".join(parts) + b"--XbX--\r\n", {"Content-Type": "multipart/form-data; boundary=XbX"}


def predict(url, content, query="", **fields):
    """Return status and JSON of an answer of `/v1/predict`."""
    body, headers = form(image=("x.png", content), **fields)
    status, answer = get(f"{url}/v1/predict?{query}", body, headers)
    return status, json.loads(answer) if answer[:1] == b"{" else answer
