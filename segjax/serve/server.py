"""The server's processes: sockets, signals, workers, an end at which all is answered."""

import asyncio
import contextlib
import multiprocessing
import os
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import uvicorn

from segjax.errors import ConfigError
from segjax.runtime import interrupt, quirks
from segjax.serve import app as app_lib
from segjax.serve.measures import SEVERAL
from segjax.serve.service import Service

HEADERS = 10.0
"""Seconds in which the headers of a request must have come."""
GRACE = 5
"""Seconds more than a request may take that a server waits for its last answers."""
AGAIN = 10.0
"""Seconds that a worker must have lived to be started again."""
SWITCH = 0.001
"""Seconds for which a thread may keep Python to itself while the one that answers waits."""
Make = Callable[[], Service]
"""What opens the model, in each worker for itself; it can be pickled."""


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens.

    Args:
        host: A name or an address; empty: all of this machine's.
        port: 0: one that is free.

    Raises:
        ConfigError: The address is taken, or none of this machine's.
    """
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=2048)
    except (OSError, OverflowError, UnicodeError) as error:
        number = getattr(error, "errno", None) or 0
        reason = os.strerror(number) if number > 0 else getattr(error, "strerror", str(error))
        raise ConfigError(
            f"--host={host} --port={port}: {reason}. Name another one; --port=0 takes a free one."
        ) from None


class Server(uvicorn.Server):
    """A server of which somebody else handles the signals."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone."""
        yield


def serve(make: Make, listening: socket.socket, *, told: Callable[[Service], None]) -> int:
    """Serve until a signal comes, answer what was taken, and return the exit code.

    Args:
        make: Opens the model.
        listening: See `listen`.
        told: Told the service before and after.

    Raises:
        Exception: What ended the start.
    """
    service = make()
    limits, refused_early = service.limits, app_lib.refused_early(service)
    config = uvicorn.Config(
        app_lib.make_app(service), http=quirks.patient_protocol(HEADERS, refused_early), ws="none",
        loop="asyncio", lifespan="on", log_config=None, log_level="error", access_log=False,
        server_header=False, proxy_headers=False, limit_concurrency=4 * limits.queue + 64,
        timeout_keep_alive=int(HEADERS), timeout_graceful_shutdown=int(limits.seconds) + GRACE,
        h11_max_incomplete_event_size=1 << 15,
    )  # fmt: skip
    server = Server(config)

    def leave(*_: Any) -> None:
        server.should_exit = True

    def react(number: int) -> None:
        server.handle_exit(number, None)
        service.admission.draining = True

    sys.setswitchinterval(SWITCH)
    service.ended = leave
    _follow_parent(leave)
    told(service)
    with interrupt.handled(interrupt.SIGNALS, react=react, urgent=lambda _: None):
        asyncio.run(server.serve(sockets=[listening]))
    if service.trouble is not None:
        raise service.trouble
    told(service)
    return 0


def _follow_parent(leave: Callable[[], None]) -> None:
    """Leave when the process that started this worker is no more."""
    parent = multiprocessing.parent_process()
    if parent is not None:

        def follow() -> None:
            parent.join()
            leave()

        threading.Thread(target=follow, daemon=True, name="parent").start()


def serve_all(work: Callable[[socket.socket], int], listening: socket.socket, workers: int) -> int:
    """Have several processes serve on one socket, and return the exit code.

    One that is killed is started again; one that fails ends all.

    Args:
        work: What each process does, see `serve`; it can be pickled.
        listening: See `listen`.
        workers: How many.
    """
    stop = threading.Event()
    counts = tempfile.mkdtemp(prefix="segjax-counts-")
    os.environ[SEVERAL] = counts
    context = multiprocessing.get_context("spawn")

    def begin() -> tuple[Any, float]:
        process = context.Process(target=_work, args=(work, listening))
        process.start()
        return process, time.monotonic()

    running, code = [begin() for _ in range(workers)], 0
    handled = interrupt.handled(
        interrupt.SIGNALS, react=lambda _: stop.set(), urgent=lambda _: None
    )
    with handled:
        while not stop.wait(0.2):
            for at, (process, began) in enumerate(running):
                if process.exitcode is None:
                    continue
                if process.exitcode >= 0 or time.monotonic() - began < AGAIN:
                    code = max(1, process.exitcode)
                    stop.set()
                else:
                    running[at] = begin()
        for process, _ in running:
            if process.exitcode is None:
                process.terminate()
        for process, _ in running:
            process.join()
    shutil.rmtree(counts, ignore_errors=True)
    return code


def _work(work: Callable[[socket.socket], int], listening: socket.socket) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent tells, by SIGTERM
    raise SystemExit(work(listening))
