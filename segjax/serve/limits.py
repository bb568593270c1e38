"""What a server takes at most, and how it says no."""

import contextlib
import dataclasses
import hmac
import math
from collections.abc import Iterator, Mapping, Sequence

MEGABYTE, MEGAPIXEL = 1 << 20, 1_000_000
TOGETHER = 4
"""So many of the largest files and images are held at once, however many requests there are."""


class Refused(Exception):
    """An answer other than the one that was asked for.

    Args:
        status: Of HTTP.
        message: What, got, expected, do this; it names nothing of this machine.
        retry_after: Seconds after which the same request may be taken; 0: never.
    """

    def __init__(self, status: int, message: str, *, retry_after: int = 0):
        super().__init__(message)
        self.status, self.message, self.retry_after = status, message, retry_after


@dataclasses.dataclass(frozen=True)
class Limits:
    """What a server takes at most.

    Attributes:
        bytes: Of one file.
        pixels: Of one image, all axes in space multiplied.
        queue: Requests that are read, wait or are predicted at once.
        seconds: From a request's first byte to its answer; also to read the request.
        batch: Windows of images that go through the network at once.
        wait: Seconds that the first image of a batch waits for others.
    """

    bytes: int = 32 * MEGABYTE
    pixels: int = 25 * MEGAPIXEL
    queue: int = 64
    seconds: float = 30.0
    batch: int = 8
    wait: float = 0.005

    @property
    def body(self) -> int:
        """Bytes of a request: an image and a mask of it, or an image in base64, and some text."""
        return 2 * self.bytes + MEGABYTE


class Admission:
    """Counts what is being worked on, and refuses what would be too much; of one thread.

    Attributes:
        requests: Now.
        bytes: Of their bodies.
        pixels: Of their images.
        draining: Whether the server is about to end, and takes nothing new.
    """

    def __init__(self, limits: Limits):
        self.limits = limits
        self.requests = self.bytes = self.pixels = 0
        self.draining = False

    @property
    def is_full(self) -> bool:
        """Whether one request more would be refused, however short it is."""
        return self.requests >= self.limits.queue and not self.draining

    @contextlib.contextmanager
    def request(self, length: int) -> Iterator[None]:
        """Count a request with a body of so many bytes while it is worked on.

        Raises:
            Refused: 429: there are too many; 413: it is too long; 503: the server is about to end.
        """
        limits = self.limits
        if length > limits.body:
            raise too_long(limits)
        if self.draining:
            raise Refused(503, "the server is about to end. Ask another one.", retry_after=5)
        room = max(TOGETHER * limits.body, length)
        if self.requests >= limits.queue or self.bytes + length > room:
            raise busy(f"{self.requests} requests wait or are predicted")
        self.requests += 1
        self.bytes += length
        try:
            yield
        finally:
            self.requests -= 1
            self.bytes -= length

    @contextlib.contextmanager
    def image(self, sides: Sequence[int]) -> Iterator[None]:
        """Count an image of such sides while it is decoded, waits and is predicted.

        Raises:
            Refused: 413: it is too large; 429: there are too many now.
        """
        pixels = math.prod(sides)
        if pixels > self.limits.pixels:
            shown = "x".join(map(str, sides))
            raise Refused(
                413,
                f"the image has {pixels / MEGAPIXEL:,.1f} megapixels ({shown}), at most "
                f"{self.limits.pixels / MEGAPIXEL:,.1f} are taken. Send it smaller, or in parts.",
            )
        if self.pixels and self.pixels + pixels > TOGETHER * self.limits.pixels:
            raise busy(f"images of {self.pixels / MEGAPIXEL:,.0f} megapixels wait")
        self.pixels += pixels
        try:
            yield
        finally:
            self.pixels -= pixels


def too_long(limits: Limits) -> Refused:
    """Return what refuses a request of too many bytes."""
    return Refused(
        413,
        f"the request is too long: a file may have {limits.bytes / MEGABYTE:,.0f} MiB, all of it "
        f"{limits.body / MEGABYTE:,.0f}. Send a smaller image.",
    )


def busy(what: str) -> Refused:
    """Return what refuses a request while others are worked on."""
    return Refused(429, f"the server is busy: {what}. Ask again in a second.", retry_after=1)


def check_key(headers: Mapping[str, str], keys: Sequence[str]) -> None:
    """Refuse a request without one of the API keys, where there are any.

    Args:
        headers: `Authorization: Bearer <key>` or `X-API-Key: <key>`.
        keys: Those that are taken; empty: everybody is.

    Raises:
        Refused: 401.
    """
    scheme, _, given = headers.get("authorization", "").partition(" ")
    given = given if scheme.lower() == "bearer" else ""
    given = headers.get("x-api-key", given).strip().encode()
    right = [hmac.compare_digest(given, key.encode()) for key in keys]  # each: takes equally long
    if keys and not any(right):
        raise Refused(401, "no such API key. Send 'Authorization: Bearer <key>'.")


def check_origin(headers: Mapping[str, str]) -> None:
    """Refuse a request that a page of another site makes in somebody's browser.

    Raises:
        Refused: 403.
    """
    origin, host = headers.get("origin", ""), headers.get("host", "")
    if origin and origin.partition("://")[2] != host:
        raise Refused(403, "a page of another site asks. Open the server's own page.")
