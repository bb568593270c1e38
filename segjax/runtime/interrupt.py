"""What Ctrl-C, SIGTERM and SIGHUP do: end the process at once, or have a training save first.

The rule: a training ends with 75 (130 after Ctrl-C) after the step that it is at and a saved
checkpoint. While it starts and compiles, and in every other mode, there is nothing to save: the
process ends at once with 128 and the signal's number (130, 143, 129). So does a second Ctrl-C.

Python calls handlers of signals between two lines of Python, which a compilation may hold back for
minutes, and what a handler raises inside a callback of JAX is lost. So no handler here raises, and
what is to be at once is done by a thread that the kernel's note of the signal wakes.
"""

import contextlib
import itertools
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator

from segjax.runtime import distributed, files, quirks

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SAVED = 75
"""The exit code after a saved checkpoint: the same command goes on. EX_TEMPFAIL of sysexits.h."""


class Stop:
    """Say whether a training is to stop: call it once per step, in every process equally often.

    Attributes:
        signal: The signal that came to this process; 0: none.
    """

    def __init__(self) -> None:
        self.signal = 0

    def __call__(self) -> bool:
        """Return whether a signal came, from the same call on in all processes of a job."""
        return self.signal != 0

    def code(self) -> int:
        """Return the exit code after the checkpoint was saved."""
        return 128 + signal.SIGINT if self.signal == signal.SIGINT else SAVED

    def note(self, number: int) -> None:
        """Note a signal."""
        self.signal = self.signal or number


class AgreedStop(Stop):
    """The same for a job of several processes, which JAX's preemption service brings to agree."""

    def __init__(self, service: quirks.PreemptionService):
        super().__init__()
        self.service, self.calls, self.reached = service, itertools.count(), False

    def __call__(self) -> bool:
        """Return whether a signal came to one of the processes."""
        self.reached = self.reached or self.service.reached_sync_point(next(self.calls))
        return self.reached

    def note(self, number: int) -> None:
        """Note a signal, and pass it on: the service took over SIGTERM when the job was joined."""
        super().note(number)
        os.kill(os.getpid(), signal.SIGTERM)


@contextlib.contextmanager
def stopping() -> Iterator[Stop]:
    """Yield what says that a training is to stop; a second Ctrl-C ends it at once."""
    import jax

    with contextlib.ExitStack() as stack:
        stop, several = Stop(), jax.process_count() > 1
        if several:
            stop = AgreedStop(stack.enter_context(quirks.preemption_service()))
        count = itertools.count(1)

        def urgent(number: int) -> None:
            if number == signal.SIGINT and next(count) > 1:
                end(number)

        signals = [number for number in SIGNALS if not several or number != signal.SIGTERM]
        stack.enter_context(handled(signals, react=stop.note, urgent=urgent))
        yield stop


@contextlib.contextmanager
def ending() -> Iterator[None]:
    """Let signals end the process at once, in one line."""
    with handled(SIGNALS, react=lambda _: None, urgent=end):
        yield


def end(number: int) -> None:
    """End this process for a signal, unfinished files removed."""
    with files.making_none():
        files.remove_unfinished()
        distributed.end(128 + number, f"ended by {signal.Signals(number).name}")


@contextlib.contextmanager
def handled(
    signals: tuple[signal.Signals, ...] | list[signal.Signals],
    *,
    react: Callable[[int], None],
    urgent: Callable[[int], None],
) -> Iterator[None]:
    """Call two functions with the number of each signal that comes; afterwards all is as before.

    What the process was told to ignore (`nohup`, `&` in a script) stays ignored. Outside the main
    thread, where Python allows no handlers, nothing is done.

    Args:
        signals: Which.
        react: Called in the main thread, between two lines of Python.
        urgent: Called at once, in a thread.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    ours = [number for number in signals if signal.getsignal(number) is not signal.SIG_IGN]
    here, there = socket.socketpair()
    there.setblocking(False)

    def watch() -> None:
        while noted := here.recv(64):
            for number in filter(ours.__contains__, noted):
                urgent(number)

    thread = threading.Thread(target=watch, daemon=True, name="signals")
    before = {number: signal.signal(number, lambda n, _: react(n)) for number in ours}
    wakened = signal.set_wakeup_fd(there.fileno(), warn_on_full_buffer=False)
    thread.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(wakened)
        for number, handler in before.items():
            signal.signal(number, handler)
        there.close()
        thread.join()
        here.close()
