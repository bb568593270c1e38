"""Serve the run in --workdir, or the file in --model, over HTTP: an API and a page, see /docs.

POST an image to /v1/predict and get classes, overlays, outlines, areas or probabilities; requests
that come together are predicted in one batch, each as it would be alone. The page at / shows an
image's classes, and takes corrections where --feedback names a folder for them. SEGJAX_API_KEY
holds the keys that are asked for, with commas between. SIGTERM ends it when all is answered.
"""

import dataclasses
import os
import pathlib
import socket
import types
from typing import TYPE_CHECKING, Any

from absl import flags

from segjax.commands import options
from segjax.errors import ConfigError, UserError, extra, printable
from segjax.runtime import xla

if TYPE_CHECKING:
    from segjax.serve.service import Service

NEEDS = options.TRAINED
SHARED = None
KEYS = "SEGJAX_API_KEY"
LOOPBACK = ("127.0.0.1", "localhost", "::1")


def define(values: flags.FlagValues) -> None:
    """Define the mode's flags."""
    options.checkpoint(values)
    options.model(values)
    text = "The address to listen at; 0.0.0.0: whoever reaches this machine."
    flags.DEFINE_string("host", "127.0.0.1", text, flag_values=values)
    text = "The port; 0: one that is free."
    flags.DEFINE_integer("port", 8000, text, 0, 65535, flag_values=values)
    text = "Processes, each with the model in its memory."
    flags.DEFINE_integer("workers", 1, text, 1, 64, flag_values=values)
    text = "Windows of images that go through the network at once; 1: no batches."
    flags.DEFINE_integer("batch", 8, text, 1, 1024, flag_values=values)
    text = "Milliseconds that the first image of a batch waits for others."
    flags.DEFINE_float("wait_ms", 5.0, text, 0, 10_000, flag_values=values)
    text = "Requests that wait or are predicted at once; others are answered 429."
    flags.DEFINE_integer("queue", 64, text, 1, 100_000, flag_values=values)
    text = "Seconds in which a request is answered, else 503."
    flags.DEFINE_float("timeout", 30.0, text, 0.1, 86_400, flag_values=values)
    text = "The largest file, in MiB; larger ones are answered 413."
    flags.DEFINE_float("max_megabytes", 32.0, text, 0.001, 2048, flag_values=values)
    text = "The largest image, in millions of pixels; larger ones are answered 413."
    flags.DEFINE_float("max_megapixels", 25.0, text, 0.001, 10_000, flag_values=values)
    text = "The folder that corrections go to; without it none are taken."
    flags.DEFINE_string("feedback", "", text, flag_values=values)
    text = "Watch images and predictions for drift, see docs/watch.md."
    flags.DEFINE_bool("watch", False, text, flag_values=values)
    text = "Open the model, compile what it needs, say what would be served, and end."
    flags.DEFINE_bool("dry_run", False, text, flag_values=values)


def run(values: flags.FlagValues) -> int:
    """Serve until a signal comes."""
    with extra("serve", what="--mode=serve"):
        import fastapi  # noqa: F401
        import multipart  # noqa: F401  # python-multipart, by which FastAPI reads forms
        import prometheus_client  # noqa: F401
        import uvicorn  # noqa: F401
    xla.prepare()
    from segjax.serve import server
    from segjax.views import progress

    work = Work(values.flag_values_dict())
    if values.dry_run:
        service = work.make()
        with progress.stage("compiling what requests need"):
            count = service.served.warm()
        _tell(service)
        print(printable(f"{count} shapes compiled; nothing is served: this is a dry run"))
        return 0
    listening = server.listen(values.host, values.port)
    port = listening.getsockname()[1]
    host = f"[{values.host}]" if ":" in values.host else values.host
    print(printable(f"listening at http://{host}:{port}"), flush=True)
    if values.host not in LOOPBACK and not os.environ.get(KEYS):
        print(printable(f"warning: no {KEYS}: whoever reaches this machine may ask"), flush=True)
    if values.workers > 1:
        return server.serve_all(work, listening, values.workers)
    return work.serve(listening)


@dataclasses.dataclass(frozen=True)
class Work:
    """What each worker does.

    Attributes:
        given: The flags.
    """

    given: dict[str, Any]

    def __call__(self, listening: socket.socket) -> int:
        """Serve in a process of its own, and return the exit code."""
        xla.prepare()
        try:
            return self.serve(listening)
        except UserError as error:
            print(printable(f"error: {error}"), flush=True)
            return 2

    def serve(self, listening: socket.socket) -> int:
        """Serve on a socket, and return the exit code."""
        from segjax.serve import server

        return server.serve(self.make, listening, told=_tell)

    def make(self) -> "Service":
        """Return the service, its model opened.

        Raises:
            UserError: The model, or the folder for feedback, cannot be opened.
        """
        from segjax.serve import model
        from segjax.serve.limits import MEGABYTE, MEGAPIXEL, Limits
        from segjax.serve.service import Service

        values: Any = types.SimpleNamespace(**self.given)
        limits = Limits(
            bytes=int(values.max_megabytes * MEGABYTE),
            pixels=int(values.max_megapixels * MEGAPIXEL),
            queue=values.queue, seconds=values.timeout, batch=values.batch,
            wait=values.wait_ms / 1000,
        )  # fmt: skip
        opened = options.open_trained(values)
        for note in opened.notes():
            print(printable(note), flush=True)
        name = options.path(values.model).stem if values.model else opened.path.resolve().name
        served = model.of_run(opened, name=name, most=limits.batch)
        keys = [key.strip() for key in os.environ.get(KEYS, "").split(",") if key.strip()]
        if values.feedback and served.reading.dims != 2:
            raise ConfigError(
                f"--feedback={values.feedback}: takes pictures, and the images of this model have "
                f"{served.reading.dims} axes. Leave it out."
            )
        store = _store(values.feedback)
        monitor = _monitor(opened.path) if values.watch else None
        return Service(served, limits, keys=keys, store=store, monitor=monitor)


def _store(folder: str) -> Any:
    if not folder:
        return None
    from segjax.feedback.store import Store

    return Store.open(options.path(folder))


def _monitor(folder: pathlib.Path) -> Any:
    from segjax.watch import monitor

    return monitor.open_monitor(folder)


def _tell(service: "Service") -> None:
    """Say what is served, and at the end what came of it."""
    served, counts = service.served, service.counts
    if not counts:
        sides = "x".join(map(str, served.layout.canvas.size))
        seen = f"windows of {sides}, up to {service.limits.batch} at once"
        line = (
            f"serving {served.name}, step {served.step}: {len(served.classes.class_names)} "
            f"classes, {'each image whole' if served.whole else seen}"
        )
    else:
        good = sum(count for status, count in counts.items() if status < 400)
        rest = {status: count for status, count in sorted(counts.items()) if status >= 400}
        others = ", ".join(f"{count} with {status}" for status, count in rest.items())
        line = f"{counts.total()} requests: {good} answered{', ' * bool(others)}{others}"
    print(printable(line), flush=True)
