"""From an upload to what is found in it: decoded, put into a batch, predicted, in time."""

import asyncio
import collections
import concurrent.futures
import contextlib
import functools
import math
import os
import pathlib
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any, Protocol, TypeVar

import numpy as np
from starlette.requests import Request

from segjax.data import opening, raster
from segjax.errors import DataError
from segjax.inference import folder
from segjax.inference.outputs.found import Found
from segjax.runtime import quirks
from segjax.serve import uploads
from segjax.serve.batching import Batcher, Job, too_late
from segjax.serve.limits import Admission, Limits, Refused
from segjax.serve.measures import Measures
from segjax.serve.model import Served
from segjax.serve.uploads import Upload
from segjax.structs import IGNORE_LABEL

BELOW = 5
"""Levels of nice by which the network yields to requests."""
T = TypeVar("T")
GONE = 499
"""The status of a request whose client has gone; nobody sees it but the counts."""


class Store(Protocol):
    """Where feedback goes, see `segjax.feedback.store`.

    Attributes:
        root: Its folder.
    """

    root: pathlib.Path

    def add(self, image: bytes, **about: Any) -> str:
        """Store an example for good, and return its name."""
        ...

    def version(self) -> int:
        """Return a number that grows with every example."""
        ...


class Monitor(Protocol):
    """What watches images and predictions, see `segjax.watch.monitor`."""

    def observe(self, image: Any, prediction: Any, *, seconds: float, queue: int) -> None:
        """Note an image and what was predicted of it."""
        ...

    def failed(self) -> None:
        """Note a request that got no answer."""
        ...

    def gauges(self) -> dict[str, float]:
        """Return what it knows, by name."""
        ...


class Service:
    """A model with all that is around it while it is served.

    Args:
        served: The model.
        limits: What is taken at most.
        keys: API keys; empty: everybody is answered.
        store: Where feedback goes; None: none is taken.
        monitor: What watches; None: nobody does.

    Attributes:
        counts: Requests that were answered, by status.
        ready: Whether all shapes are compiled.
        trouble: What ended the start; None: nothing.
        ended: Called when the start failed.
    """

    def __init__(
        self,
        served: Served,
        limits: Limits,
        *,
        keys: Sequence[str] = (),
        store: Store | None = None,
        monitor: Monitor | None = None,
    ):
        self.served, self.limits, self.keys = served, limits, tuple(keys)
        self.store, self.monitor = store, monitor
        self.admission, self.measures = Admission(limits), Measures()
        self.counts: collections.Counter[int] = collections.Counter()
        self.ready = False
        self.trouble: Exception | None = None
        self.ended: Callable[[], None] = lambda: None
        if monitor is not None:
            self.measures.add_gauges(monitor.gauges)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Have threads and a folder for files that nobody keeps; at the end all is answered."""
        threads = 2 * (os.cpu_count() or 1)
        self.pool = concurrent.futures.ThreadPoolExecutor(threads, thread_name_prefix="images")
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="segjax-serve-"))
        self.batcher = Batcher(
            self.served.predict, most=self.limits.batch, wait=self.limits.wait,
            tell=self.measures.tell,
        )  # fmt: skip
        warming = asyncio.ensure_future(self._warm())
        try:
            yield
        finally:
            self.admission.draining = True
            await asyncio.to_thread(self.batcher.close)
            self.pool.shutdown()
            warming.cancel()
            shutil.rmtree(self.folder, ignore_errors=True)

    async def _warm(self) -> None:
        try:
            await asyncio.to_thread(self.served.warm, lambda: self.admission.draining)
            quirks.compute_below(BELOW)
            self.ready = True
        except Exception as error:  # it is raised where the server was started
            self.trouble = error
            self.ended()

    def count(self, route: str, status: int, seconds: float) -> None:
        """Count a request that was answered."""
        self.counts[status] += 1
        self.measures.requests.labels(route, status).inc()
        self.measures.seconds.labels(route).observe(seconds)

    def check_ready(self) -> None:
        """Raise Refused (503) while shapes are compiled, and when the server is about to end."""
        if self.admission.draining:
            raise Refused(503, "the server is about to end. Ask another one.", retry_after=5)
        if not self.ready:
            raise Refused(503, "the model is being compiled. Ask again soon.", retry_after=2)

    def check_model(self, name: str) -> None:
        """Raise Refused (404) for a model that is not served; empty: whatever is."""
        if name not in ("", self.served.name):
            raise Refused(
                404, f"model={name[:80]}: is not served; {self.served.name} is. Name that, or none."
            )

    async def in_thread(self, function: Callable[..., T], *given: Any, **named: Any) -> T:
        """Return what a function returns, called in a thread."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self.pool, functools.partial(function, *given, **named))

    @contextlib.asynccontextmanager
    async def found(
        self,
        request: Request,
        upload: Upload,
        *,
        begin: float,
        spacing: Sequence[float] = (),
        probabilities: bool = False,
        least_score: float = 0.5,
    ) -> AsyncIterator[Found]:
        """Yield what is found in an image, which counts as held until the end.

        Args:
            request: Of which it is; when its client goes the image is not predicted any more.
            upload: The image.
            begin: When the request came, by `time.monotonic`.
            spacing: The size of the image's pixels; empty: what the file says.
            probabilities: Whether they will be asked for.
            least_score: From which score on objects are painted.

        Raises:
            Refused: 413, 422, 429, 503, see `Admission`, `Served.image_of` and `Batcher`.
        """
        served, name = self.served, f"{request.state.unique}-image"
        async with uploads.on_disk(upload, self.folder, name) as file:
            with self.named(file, "the image"):
                sides = await self.in_thread(served.sides, file)
            self._check_size(sides, probabilities)
            with self.admission.image(sides):
                with self.named(file, "the image"):
                    image = await self.in_thread(served.image_of, file, spacing)
                until = begin + self.limits.seconds
                prediction = await self._predicted(request, image, probabilities, until)
                about = folder.answered(
                    np.asarray(image), prediction, served.classes, least_score=least_score
                )
                file = pathlib.Path(f"image{upload.suffix}")
                found = Found(file, "image", classes=served.classes, **about)
                if self.monitor is not None:
                    await self.in_thread(
                        self.monitor.observe, found.image, found.prediction,
                        seconds=time.monotonic() - begin, queue=self.batcher.waiting,
                    )  # fmt: skip
                yield found

    def _check_size(self, sides: Sequence[int], probabilities: bool) -> None:
        numbers = math.prod(sides) * len(self.served.classes.class_names)
        if probabilities and 4 * numbers > raster.MAX_BYTES:
            raise Refused(
                413, f"{numbers:,} probabilities are too many. Ask for less, or send parts."
            )

    async def _predicted(
        self, request: Request, image: Any, probabilities: bool, until: float
    ) -> Any:
        """Return the prediction of an image, if it comes in time and somebody waits for it."""
        job = Job(image, self.served.windows(image), probabilities, until)
        future = asyncio.wrap_future(self.batcher.submit(job))
        gone = asyncio.ensure_future(_gone(request))
        try:
            left = max(0.0, until - time.monotonic())
            done, _ = await asyncio.wait(
                {future, gone}, timeout=left, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            gone.cancel()
            if not future.done():
                future.cancel()
        if future in done:
            return future.result()
        raise Refused(GONE, "the client has gone.") if gone in done else too_late()

    async def label_of(self, upload: Upload, name: str, found: Found) -> np.ndarray:
        """Return a corrected class map [*space], uint8, 255 where it is not judged.

        Args:
            upload: The file.
            name: Of the request.
            found: Of its image.

        Raises:
            Refused: 422: it is none, of another size, or has classes that there are not.
        """
        served = self.served
        async with uploads.on_disk(upload, self.folder, f"{name}-label") as file:
            with self.named(file, "the label"):
                image = opening.Opened(found.image)
                opened = await self.in_thread(opening.open_label, file, served.reading, image)
                label = await self.in_thread(np.asarray, opened.array)
        if label.shape != found.whole:
            own, its = ("x".join(map(str, each)) for each in (label.shape, found.whole))
            raise Refused(
                422, f"the label has {own} pixels, its image {its}. Send one of its size."
            )
        many = len(served.classes.class_names)
        bad = label[((label < 0) | (label >= many)) & (label != IGNORE_LABEL)]
        if bad.size:
            raise Refused(
                422, f"the label has class {bad[0]}, expected 0..{many - 1}, or {IGNORE_LABEL} "
                "where it is not judged. Mend it.",
            )  # fmt: skip
        return label.astype(np.uint8)

    @contextlib.contextmanager
    def named(self, file: pathlib.Path, name: str) -> Iterator[None]:
        """Turn what is wrong with an upload into an answer that names no file of this machine.

        Raises:
            Refused: 422.
        """
        try:
            yield
        except DataError as error:
            message = str(error).replace(str(file), name).replace(str(self.folder), "")
            raise Refused(422, message) from None


async def _gone(request: Request) -> None:
    """Wait until the client of a request, whose body is read, has gone."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
