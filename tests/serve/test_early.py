"""A full server refuses by the head of a request alone, whichever way its bytes come."""

import asyncio
import json
import socket
import time
from types import SimpleNamespace

import pytest

from segjax.runtime import quirks
from segjax.serve import app as app_lib
from segjax.serve.limits import Admission, Limits

uvicorn = pytest.importorskip("uvicorn", reason="needs the extra 'serve'")

HEAD = "POST /v1/predict?format=png HTTP/1.1\r\nHost: x\r\nX-Request-Id: me\r\n"
BODY = b"b" * 1000


async def usual(scope, receive, send):
    """Answer with the length of the body."""
    length, more = 0, True
    while more:
        message = await receive()
        length, more = length + len(message.get("body", b"")), message.get("more_body")
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": f"{length} bytes".encode()})


class Full:
    """A service that takes no more, or does."""

    def __init__(self, full=True):
        self.limits = Limits(queue=2)
        self.admission = Admission(self.limits)
        self.admission.requests = 2 * full
        self.counted = []

    def count(self, route, status, seconds):
        self.counted.append((route, status))


def talk(service, *parts, seconds=5.0, pause=0.02):
    """Return what the protocol answers to parts of a stream, sent one after the other."""

    async def main():
        config = uvicorn.Config(usual, lifespan="off", log_config=None)
        config.load()
        kind = quirks.patient_protocol(seconds, app_lib.refused_early(service))
        state = SimpleNamespace(
            connections=set(), tasks=set(), total_requests=0, default_headers=[]
        )
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: kind(config, state, {}), "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        found = await asyncio.to_thread(ask, port)
        server.close()
        return found

    def ask(port):
        with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for part in parts:
                client.sendall(part)
                time.sleep(pause)
            client.settimeout(0.1 if seconds > 1 else 20)
            found = b""
            try:
                while part := client.recv(1 << 16):
                    found += part
            except TimeoutError:
                return found, False
            return found, True

    return asyncio.run(main())


def request(more="", length=1000):
    return f"{HEAD}{more}Content-Length: {length}\r\n\r\n".encode()


@pytest.mark.parametrize("cuts", [(), (len(request()),), (300, 600), (len(request()) + 5, 900)])
def test_a_refusal_costs_no_parsing_and_keeps_the_connection(cuts):
    """Twice on one connection; however a request's bytes are cut, once its head is in one piece."""
    service, whole = Full(), request() + BODY
    ends = [0, *cuts, len(whole)]
    parts = [whole[a:b] for a, b in zip(ends, ends[1:], strict=False)]
    found, closed = talk(service, *parts, whole)
    first, second = found.split(b"HTTP/1.1 ")[1:]
    head, _, content = first.partition(b"\r\n\r\n")
    assert first == second and head.startswith(b"429 Too Many Requests") and not closed
    assert b"retry-after: 1" in head and b"x-request-id: me" in head and b"no-store" in head
    error = json.loads(content)["error"]
    assert error["status"] == 429 and "2 requests wait" in error["message"]
    assert error["request"] == "me"
    assert service.counted == [("/v1/predict", 429)] * 2


def test_what_follows_a_refusal_is_answered():
    """Requests in one piece, the second to another route."""
    found, _ = talk(Full(), request() + BODY + b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    assert found.count(b"HTTP/1.1 429") == 1 and found.endswith(b"0 bytes\r\n0\r\n\r\n")


CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n3e8\r\n" + BODY + b"\r\n0\r\n\r\n"
UPGRADE = request("Connection: keep-alive, upgrade\r\n").replace(b"POST", b"PUT")


@pytest.mark.parametrize(
    "service, sent",
    [
        (Full(False), request() + BODY),
        (Full(), request("Connection: close\r\n") + BODY),
        (Full(), UPGRADE + BODY),
        (Full(), request().replace(b"/v1/predict", b"/v1/predictions") + BODY),
        (Full(), HEAD.encode() + CHUNKED),
        (Full(), request().replace(b"HTTP/1.1", b"HTTP/1.0") + BODY),
    ],
)
def test_what_is_unusual_goes_the_usual_way(service, sent):
    found, _ = talk(service, sent)
    assert found.startswith(b"HTTP/1.1 200") and b"1000 bytes" in found
    assert not service.counted


def test_a_body_that_does_not_come_is_given_up():
    found, closed = talk(Full(), request() + b"b", seconds=0.2)
    assert found.startswith(b"HTTP/1.1 429") and closed
