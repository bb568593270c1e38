"""Work of other threads beside the network's: reading ahead of it, writing behind it."""

import collections
import concurrent.futures
import contextlib
from collections.abc import Callable, Generator, Iterator
from typing import Any, TypeVar

T = TypeVar("T")
_END: Any = object()


def ahead(items: Iterator[T], size: int) -> Generator[T]:
    """Yield items that a thread makes before they are asked for, at most `size` of them."""
    with concurrent.futures.ThreadPoolExecutor(1, "ahead") as pool:
        waiting = collections.deque(pool.submit(next, items, _END) for _ in range(size))
        try:
            while (item := waiting.popleft().result()) is not _END:
                waiting.append(pool.submit(next, items, _END))
                yield item
        finally:
            pool.shutdown(cancel_futures=True)


@contextlib.contextmanager
def behind(work: Callable[[T], None], size: int) -> Generator[Callable[[T], None]]:
    """Yield what has a thread work on items, one after the other; it waits while `size` wait.

    An error of the work is raised when a later item is given, or at the end. Without one all items
    are done at the end.
    """
    waiting: collections.deque[concurrent.futures.Future[None]] = collections.deque()

    def give(item: T) -> None:
        waiting.append(pool.submit(work, item))
        if len(waiting) > size:
            waiting.popleft().result()

    with concurrent.futures.ThreadPoolExecutor(1, "behind") as pool:
        try:
            yield give
            while waiting:
                waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)
