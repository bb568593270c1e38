"""Many clients in one thread, so that an answer never waits for a client that has no turn.

python -m experiments.serve.crowd <port> <clients> <seconds> <pause>   # as `load.py` starts it

Each client keeps one connection, sends a form with a picture, and asks again when it is answered,
`pause` seconds later if it was refused. What is measured goes to standard output as JSON.
"""

import argparse
import heapq
import json
import os
import pathlib
import selectors
import socket
import sys
import time
from typing import Any, NamedTuple

from experiments.serve import load

PRIORITY = -10
"""Of the process, where it may: it stands for machines that have cores of their own."""


LAST = 60.0
"""Seconds in which the last answers must come."""


class Note(NamedTuple):
    """What became of a request.

    Attributes:
        status: 0: the connection ended before the answer.
        begin: When it was sent, by `time.monotonic`.
        seconds: Until all of its answer was there.
    """

    status: int
    begin: float
    seconds: float


class Client:
    """A connection, and where its request is."""

    def __init__(self, number: int):
        self.number, self.asked, self.begin, self.waits = number, 0, 0.0, False
        self.socket: Any = None
        self.unsent, self.received, self.whole = memoryview(b""), bytearray(), 0

    def ask(self, port: int, request: bytes, selector: selectors.BaseSelector) -> None:
        """Begin a request."""
        self.begin = time.monotonic()
        self.asked, self.waits = self.asked + 1, True
        if self.socket is None:
            self.socket = socket.create_connection(("127.0.0.1", port))
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.socket.setblocking(False)
            selector.register(self.socket, selectors.EVENT_READ, self)
        self.unsent, self.whole = memoryview(request), 0
        self.received.clear()
        self.send(selector)

    def send(self, selector: selectors.BaseSelector) -> None:
        """Send what the connection takes now."""
        try:
            while self.unsent:
                self.unsent = self.unsent[self.socket.send(self.unsent) :]
        except BlockingIOError:
            selector.modify(self.socket, selectors.EVENT_READ | selectors.EVENT_WRITE, self)
            return
        except OSError:
            self.unsent = memoryview(b"")  # the answer may be there all the same
        selector.modify(self.socket, selectors.EVENT_READ, self)

    def read(self, selector: selectors.BaseSelector) -> Note | None:
        """Return what came of the request, once it is known."""
        try:
            part = self.socket.recv(1 << 20)
        except BlockingIOError:
            return None
        except OSError:
            part = b""
        self.received += part
        end = self.received.find(b"\r\n\r\n")
        if not self.whole and end >= 0:
            head = bytes(self.received[:end]).lower()
            self.whole = end + 4 + int(head.partition(b"content-length:")[2].split(b"\r")[0])
        done = self.whole and len(self.received) >= self.whole
        if part and not done:
            return None
        closing = not part or b"connection: close" in bytes(self.received[: self.whole]).lower()
        if closing:
            selector.unregister(self.socket)
            self.socket.close()
            self.socket = None
        status = int(self.received[9:12]) if done else 0
        return Note(status, self.begin, time.monotonic() - self.begin)


def waited() -> float:
    """Return for how many seconds this process was ready to run and had no processor."""
    return int(pathlib.Path("/proc/self/schedstat").read_text().split()[1]) / 1e9


def requests() -> list[bytes]:
    """Return requests with pictures of mixed sizes."""
    head = f"POST /v1/predict?format=png HTTP/1.1\r\nHost: x\r\nContent-Type: {load.KIND}\r\n"
    return [f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body for body in load.bodies()]


def crowd(port: int, *, clients: int, seconds: float, pause: float) -> dict[str, Any]:
    """Ask for so many seconds, and return the notes and what this process itself took."""
    sent, selector = requests(), selectors.DefaultSelector()
    everybody = [Client(number) for number in range(clients)]
    due = [(0.0, client.number) for client in everybody]
    notes: list[Note] = []
    begin, begun = time.monotonic(), waited()
    end, last = begin + seconds, begin + seconds + LAST
    while (now := time.monotonic()) < end or (len(due) < clients and now < last):
        while now < end and due and due[0][0] <= now:
            client = everybody[heapq.heappop(due)[1]]
            client.ask(port, sent[(client.number + client.asked) % len(sent)], selector)
        next_one = due[0][0] if due and now < end else now + 1.0
        for key, events in selector.select(min(1.0, max(0.0, next_one - now))):
            client = key.data
            if events & selectors.EVENT_WRITE:
                client.send(selector)
            note = client.read(selector) if events & selectors.EVENT_READ else None
            if note is not None and client.waits:
                notes.append(note)
                client.waits = False
                rest = pause if note.status else max(pause, 0.05)
                again = time.monotonic() + rest * (note.status != 200)
                heapq.heappush(due, (again, client.number))
    took = time.monotonic() - begin
    return {"notes": notes, "waited": (waited() - begun) / took}


def main() -> None:
    """Ask as the command line says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, kind in (("port", int), ("clients", int), ("seconds", float), ("pause", float)):
        parser.add_argument(name, type=kind)
    values = parser.parse_args()
    try:
        os.setpriority(os.PRIO_PROCESS, 0, PRIORITY)
    except PermissionError:
        print("the clients have no priority", file=sys.stderr)
    found = crowd(values.port, clients=values.clients, seconds=values.seconds, pause=values.pause)
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
