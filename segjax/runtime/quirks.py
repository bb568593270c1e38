"""Every hook into another library's insides, with the version that needs it and why.

None of it is promised to anyone. Look here first when one of these libraries is upgraded: a hook
may have to change, or can go.
"""

import contextlib
import ctypes
import functools
import logging
import mmap
import os
import pathlib
import sys
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Protocol

MALLOC = ((-8, 1), (-4, 0), (-1, -1))
"""From malloc.h: M_ARENA_MAX, M_MMAP_MAX, M_TRIM_THRESHOLD: one heap, all in it, for good."""


class Client(Protocol):
    """The client of a job's key-value store."""

    def key_value_set(self, key: str, value: str) -> None:
        """Store a value that all processes can read."""
        ...

    def key_value_dir_get(self, key: str) -> list[tuple[str, str]]:
        """Return all pairs whose key begins so."""
        ...


class PreemptionService(Protocol):
    """What tells all processes of a job that one of them got SIGTERM."""

    def reached_sync_point(self, step_counter: int) -> bool:
        """Return whether this is the call that all agreed to stop at."""
        ...


def one_at_a_time(results: Any) -> None:
    """Wait for a program's results where another one beside it could never end.

    On several CPU devices of one process (jaxlib 0.10.2 and 0.12.0) two programs in flight share
    one pool of threads: each may hold some of them while its collectives wait for the rest, until
    XLA gives up ("only 7 of 8 arrived"). Other backends run programs in the order of their launch.
    """
    import jax

    if jax.default_backend() == "cpu" and jax.local_device_count() > 1:
        jax.block_until_ready(results)


@functools.cache
def keep_memory() -> None:
    """Let glibc keep what the process frees: a program's buffers come back with each run.

    jaxlib 0.10.2 and 0.12.0 allocate them by malloc on a CPU. As glibc (2.36) is set up, they go
    back to the kernel after each run, and a page fault for every 4 kB brings them back. A quarter
    of the machine's memory is set aside for huge pages; it is not used until something is in it.
    Call it before JAX starts its threads, which have heaps of their own otherwise. Other C
    libraries are left as they are.
    """
    libc = ctypes.CDLL(None)
    if sys.platform != "linux" or not hasattr(libc, "gnu_get_libc_version"):
        return
    for parameter, value in MALLOC:
        libc.mallopt(parameter, value)
    libc.malloc.restype = libc.sbrk.restype = ctypes.c_void_p
    size = os.sysconf("SC_PHYS_PAGES") * mmap.PAGESIZE // 4
    begin = libc.sbrk(ctypes.c_ssize_t(0))
    libc.free(ctypes.c_void_p(libc.malloc(ctypes.c_size_t(size))))
    end = libc.sbrk(ctypes.c_ssize_t(0))
    begin += -begin % mmap.PAGESIZE
    length = ctypes.c_size_t(end - begin)
    libc.madvise(ctypes.c_void_p(begin), length, mmap.MADV_HUGEPAGE)  # a hint: may be refused


def silence_abandoned_io() -> None:
    """Print no traceback for the writes and reads that TensorStore gives up with a failed one.

    TensorStore 0.1.86 under Orbax 0.12.8: after one failure, such as a full disk, every other
    operation on its way raises "Event loop is closed" in a thread of its own, where nobody can
    catch it. The failure itself reaches the caller. Hooks that someone else has set stay.
    """
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # "exception was never retrieved"
    if sys.excepthook is sys.__excepthook__:
        sys.excepthook = _but_abandoned_writes
    if sys.unraisablehook is sys.__unraisablehook__:
        sys.unraisablehook = _but_abandoned_reads


def _but_abandoned_writes(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    if not (kind is RuntimeError and str(error) == "Event loop is closed"):
        sys.__excepthook__(kind, error, trace)


def _but_abandoned_reads(unraisable: "sys.UnraisableHookArgs") -> None:
    if str(unraisable.exc_value) != "Event loop is closed":
        sys.__unraisablehook__(unraisable)


def job_client() -> tuple[Client | None, int, int]:
    """Return the client of the job's key-value store, None without a job; rank and size.

    JAX 0.10.2 and 0.12.0 have no public name for the store; Orbax takes it from the same place.
    Imports no jax and starts no backend.
    """
    state = getattr(sys.modules.get("jax._src.distributed"), "global_state", None)
    if state is None:  # not imported, or about to be, by another thread
        return None, 0, 1
    return state.client, state.process_id, state.num_processes


@contextlib.contextmanager
def preemption_service() -> Iterator[PreemptionService]:
    """Yield JAX's preemption service, which nobody else sees meanwhile.

    Orbax 0.12.8 asks it at every save, with the step for a number, and what all agree on is the
    highest number that anyone has asked with: SIGTERM would be felt as many steps later. Without
    the service Orbax takes it for switched off. JAX 0.10.2 and 0.12.0 keep it in private state.
    """
    from jax._src import distributed

    state: Any = distributed.global_state
    service, state.preemption_sync_manager = state.preemption_sync_manager, None
    try:
        yield service
    finally:
        state.preemption_sync_manager = service


def set_field(module: object, name: str, value: object) -> None:
    """Set a field of a Flax module that is being applied.

    Flax 0.12.8 freezes modules, and what intercepts their methods can change arguments, but no
    field. Each `apply` makes its submodules anew: what is set lives for that call only.
    """
    object.__setattr__(module, name, value)


def patient_protocol(seconds: float, early: Callable[[bytes], tuple[bytes, int] | None]) -> type:
    """Return uvicorn's HTTP protocol that waits so long, and no longer, for a request's headers.

    uvicorn 0.54 ends a connection that idles after an answer, and never one whose first request
    does not come or comes byte by byte. It has no setting for that; `cycle` (the request, with
    `response_complete`), `conn` (h11's state), `loop` and `transport` are fields of its class.

    Args:
        seconds: For headers, and for a body that is dropped.
        early: Told the head of each request that lies in the first bytes of it. It may return an
            answer, and how many bytes of a body follow, which are dropped: nothing is parsed then.
    """
    import h11
    from uvicorn.protocols.http.h11_impl import H11Protocol

    class Patient(H11Protocol):
        timer: Any = None
        dropped = 0

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self.wait(True)

        def data_received(self, data: bytes) -> None:
            begun, self.dropped = self.dropped, max(0, self.dropped - len(data))
            data = data[begun:] if begun else data
            while data and self.is_idle and (head := data.partition(b"\r\n\r\n"))[1]:
                found = early(head[0])
                if found is None:
                    break
                self.wait(False)
                self.transport.write(found[0])
                self.on_response_complete()
                self.dropped = max(0, found[1] - len(head[2]))
                data = head[2][found[1] :]
            if data:
                super().data_received(data)
            waits = self.cycle is None or self.cycle.response_complete
            self.wait(self.dropped > 0 or (waits and bool(data)))

        @property
        def is_idle(self) -> bool:
            """Whether what comes next begins a request."""
            over = self.cycle is None or self.cycle.response_complete
            return over and self.conn.their_state is h11.IDLE and not self.conn.trailing_data[0]

        def wait(self, waits: bool) -> None:
            """Begin to wait for what is to come in time, go on with it, or end it."""
            if not waits and self.timer is not None:
                self.timer.cancel()
                self.timer = None
            elif waits and self.timer is None:
                self.timer = self.loop.call_later(seconds, self.transport.close)

        def connection_lost(self, exc: Exception | None) -> None:
            self.wait(False)
            super().connection_lost(exc)

    return Patient


def compute_below(by: int) -> int:
    """Have XLA's own threads on the CPU run at a lower priority, and return how many there are.

    They never hold Python's lock, and what answers need not wait for them. JAX 0.10 to 0.12 have
    no setting for that; on Linux a thread's number stands for it, and the names of XLA's begin with
    `tf_XLA`. Elsewhere, and for what has begun no threads yet, nothing is done.

    Args:
        by: Levels of nice, 1 to 19.
    """
    count = 0
    for task in pathlib.Path("/proc/self/task").glob("*"):
        with contextlib.suppress(OSError):  # it has ended
            if (task / "comm").read_bytes().startswith(b"tf_XLA"):
                os.setpriority(os.PRIO_PROCESS, int(task.name), min(19, os.nice(0) + by))
                count += 1
    return count


@contextlib.contextmanager
def onnx_pads() -> Iterator[None]:
    """Let jax2onnx 0.17.1 convert a padding of a batch of any size, and say nothing of types.

    Its rule for `lax.pad` gives `onnx_ir.Shape` JAX's symbol of the size, which takes integers and
    names. `onnx_ir` warns of each shape whose type it leaves out.

    Raises:
        ModuleNotFoundError: jax2onnx, or what it needs, is not installed.
    """
    import onnx_ir
    from jax2onnx.plugins.jax.lax import pad

    class Named(onnx_ir.Shape):
        def __init__(self, dims: Any, *rest: Any, **options: Any) -> None:
            named = [each if isinstance(each, int) else str(each) for each in dims]
            super().__init__(named, *rest, **options)

    class Module:
        Shape = Named

        def __getattr__(self, name: str) -> Any:
            return getattr(onnx_ir, name)

    log = logging.getLogger("onnx_ir")
    own, level, pad.ir = pad.ir, log.level, Module()
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        pad.ir = own
        log.setLevel(level)
