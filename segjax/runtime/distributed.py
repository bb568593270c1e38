"""One job of many processes: join it, stop it together, end it together.

A process that fails leaves its last words in the job's key-value store, so that the others say who
ended and why instead of waiting for it in the next collective. One that dies without a word is
missed by the collectives or, at the latest, by JAX's heartbeats.
"""

import contextlib
import functools
import glob
import os
import re
import sys
import threading
import time
import traceback
import urllib.request
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

from segjax.errors import ConfigError, UserError, printable
from segjax.runtime import quirks

START_SECONDS = 300
"""How long to wait for the other processes to be started."""
HEARTBEAT_SECONDS = 30
"""After how long without a sign of life JAX takes a process for dead and ends the others."""
GRACE_SECONDS = 3
"""How long a process may still speak for itself once another one has ended."""
WORDS = "segjax/last_words/"
LOST = re.compile(r"gloo|nccl|rccl|connection|socket|heartbeat|unhealthy|unavailable", re.I)

ENDED = 1
INTERRUPTED = 130
METADATA = "http://metadata.google.internal/computeMetadata/v1/instance/attributes/"

_ending = threading.Lock()


@contextlib.contextmanager
def job(
    coordinator: str = "",
    process_id: int | None = None,
    num_processes: int | None = None,
    *,
    shared: bool,
    what: str,
) -> Iterator[None]:
    """Take part in the job this process was started for, if any; an error inside ends the job.

    Args:
        coordinator: `host:port` where process 0 listens; empty: found in the environment.
        process_id: Which process this is; None: found in the environment.
        num_processes: How many there are; None: found in the environment.
        shared: Whether several processes can do this together.
        what: The mode, for the message where they cannot.

    Raises:
        ConfigError: Some of this is given and the rest is nowhere to be found; or not `shared`.
        UserError: The others cannot be reached.
    """
    place = find_place(coordinator, process_id, num_processes, environment=os.environ)
    if place is None:
        yield
        return
    if not shared:
        raise ConfigError(
            f"--mode={what} runs in one process, and this is one of several. Start it once, "
            "without srun, mpirun or --coordinator."
        )
    join(place)
    threading.Thread(target=_follow, daemon=True, name="follow-peers").start()
    try:
        yield
    except BaseException as error:
        _leave(error)


def join(place: Mapping[str, Any]) -> None:
    """Join a job, given what `find_place` found.

    Raises:
        UserError: The others cannot be reached.
    """
    import jax

    try:
        jax.distributed.initialize(
            **place,
            initialization_timeout=START_SECONDS,
            heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
        )
    except (RuntimeError, ValueError) as error:
        me = f"process {place['process_id']} of {place['num_processes']}" if place else "process"
        where = place.get("coordinator_address", "its coordinator")
        raise UserError(
            f"this {me} could not join the job at {where}: {str(error).splitlines()[0]} "
            f"All processes must be started within {START_SECONDS} s of each other, reach that "
            "address, and agree on their number."
        ) from error


def find_place(
    coordinator: str,
    process_id: int | None,
    num_processes: int | None,
    *,
    environment: Mapping[str, str],
) -> dict[str, Any] | None:
    """Return the arguments of `jax.distributed.initialize`, or None for a process that is alone.

    What the flags leave open comes from the environment (JAX_COORDINATOR_ADDRESS, JAX_PROCESS_ID,
    JAX_NUM_PROCESSES; rank and size of SLURM and Open MPI; the index of a Kubernetes Job). With no
    coordinator named and a cluster around that JAX knows, JAX finds everything itself ({}).

    Raises:
        ConfigError: What is missing or impossible, or a variable that is no number.
    """
    coordinator = coordinator or environment.get("JAX_COORDINATOR_ADDRESS", "")
    ranks = ("JAX_PROCESS_ID", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK", "JOB_COMPLETION_INDEX")
    sizes = ("JAX_NUM_PROCESSES", "SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE")
    if not coordinator and process_id is None and num_processes is None:
        if in_cluster(environment):
            return {}
        if number(environment, "OMPI_COMM_WORLD_SIZE", 1) > 1:
            raise ConfigError(
                "Open MPI 5 does not say where process 0 runs. Add --coordinator=<first host>:1234."
            )
        return None
    if process_id is None:
        process_id = next((number(environment, n) for n in ranks if n in environment), None)
    if num_processes is None:
        num_processes = next((number(environment, n) for n in sizes if n in environment), None)
    found = {
        "--coordinator": coordinator or None,
        "--process_id": process_id,
        "--num_processes": num_processes,
    }
    missing = [name for name, value in found.items() if value is None]
    if missing or process_id is None or num_processes is None:
        raise ConfigError(
            f"{' and '.join(missing)} missing: a job of several processes needs --coordinator, "
            "--process_id and --num_processes, or none of them under SLURM, Open MPI 4, GKE or "
            "Cloud TPU."
        )
    if not 0 <= process_id < num_processes or not re.fullmatch(r".+:\d+", coordinator):
        raise ConfigError(
            f"--coordinator={coordinator} --process_id={process_id} "
            f"--num_processes={num_processes}: expected host:port and 0 <= process_id < "
            "num_processes."
        )
    if num_processes == 1:
        return None
    local = ("SLURM_LOCALID", "OMPI_COMM_WORLD_LOCAL_RANK")
    devices = next(([number(environment, n)] for n in local if n in environment), None)
    return {
        "coordinator_address": coordinator,
        "process_id": process_id,
        "num_processes": num_processes,
        "local_device_ids": devices,  # of GPUs: one for each process, as JAX has it by itself
        "cluster_detection_method": "deactivate",
    }


def number(environment: Mapping[str, str], name: str, default: int = 0) -> int:
    """Return a whole number of the environment; `default` where it is not set or empty.

    Raises:
        ConfigError: It is none.
    """
    text = environment.get(name) or str(default)
    if not re.fullmatch(r"\s*\d{1,9}\s*", text, re.ASCII):
        raise ConfigError(
            f"{name}={text[:100]!r} in the environment: expected a whole number, as the launcher "
            f"sets it. Mend it, or run `unset {name}` where no job of several processes is meant."
        )
    return int(text)


def in_cluster(environment: Mapping[str, str]) -> bool:
    """Return whether JAX can find the other processes of this job by itself.

    Never waits for anything where there is no cluster: on a TPU machine its metadata server is
    asked, elsewhere only variables are read.
    """
    count = functools.partial(number, environment, default=1)
    if count("SLURM_STEP_NUM_TASKS") > 1 and "SLURM_PROCID" in environment:
        return True
    if count("OMPI_COMM_WORLD_SIZE") > 1 and "OMPI_MCA_orte_hnp_uri" in environment:
        return True
    if "KUBERNETES_SERVICE_HOST" in environment and "JOB_COMPLETION_INDEX" in environment:
        with contextlib.suppress(ImportError):
            import kubernetes  # pyright: ignore  # noqa: F401  # JAX asks it who the others are

            return True
    if not glob.glob("/dev/accel*") and not glob.glob("/dev/vfio/[0-9]*"):
        return False  # no TPU
    hosts = environment.get("TPU_PROCESS_ADDRESSES", environment.get("TPU_WORKER_HOSTNAMES", ""))
    return "," in hosts or count("MEGASCALE_NUM_SLICES") > 1 or "," in _tpu_workers()


def _tpu_workers() -> str:
    request = urllib.request.Request(
        METADATA + "worker-network-endpoints", headers={"Metadata-Flavor": "Google"}
    )
    try:
        with urllib.request.urlopen(request, timeout=2) as answer:
            return answer.read().decode()
    except OSError:
        return ""  # not on Google's machines


def is_first() -> bool:
    """Return whether this is process 0 of its job, or alone. Never starts a backend."""
    return quirks.job_client()[1] == 0


def from_first(value: int) -> int:
    """Return process 0's `value` on every process; all must call it."""
    import jax
    import numpy as np
    from jax.experimental import multihost_utils

    if jax.process_count() == 1:
        return value
    return int(multihost_utils.broadcast_one_to_all(np.int32(value)))


def sum_of_all(value: int) -> int:
    """Return the sum of all processes' values, 0 to 2**32 - 1 each; all must call it."""
    return sum(_of_all(value))


def max_of_all(value: int) -> int:
    """Return the largest of all processes' values, 0 to 2**32 - 1 each; all must call it."""
    return max(_of_all(value))


def _of_all(value: int) -> list[int]:
    import jax
    import numpy as np
    from jax.experimental import multihost_utils

    if jax.process_count() == 1:
        return [value]
    return [int(each) for each in np.asarray(multihost_utils.process_allgather(np.uint32(value)))]


def bytes_of_all(value: bytes) -> list[bytes]:
    """Return the bytes of every process, in their order; all must call it."""
    import jax
    import numpy as np
    from jax.experimental import multihost_utils

    if jax.process_count() == 1:
        return [value]
    lengths = _of_all(len(value))
    padded = np.zeros(max(lengths), np.uint8)
    padded[: len(value)] = np.frombuffer(value, np.uint8)
    rows = np.asarray(multihost_utils.process_allgather(padded))
    return [row[:length].tobytes() for row, length in zip(rows, lengths, strict=True)]


def name() -> str:
    """Return `[process 3/8] `, to go before a message; empty for process 0 and where it is alone.

    Never starts a backend.
    """
    client, me, count = quirks.job_client()
    return f"[process {me}/{count}] " if client is not None and me else ""


def say(text: str) -> None:
    """Print a message of this process, one line, to standard error, under its name."""
    print(printable(f"{name()}{text}"), file=sys.stderr, flush=True)


def end(code: int, text: str, *, linger: float = 3 * GRACE_SECONDS) -> NoReturn:
    """Say why this process ends, leave it for the others to read, and end it at once.

    At once: an exit that waits for the others, as JAX's does, could wait for ever. Process 0 waits
    for `linger` seconds at most: the key-value store ends with it.
    """
    _ending.acquire()  # never released: the first reason to end is the one that is said
    say(text)
    client, me, count = quirks.job_client()
    if client is not None:
        with contextlib.suppress(Exception):
            client.key_value_set(f"{WORDS}{me}", text)
        if me == 0:
            deadline = time.monotonic() + linger
            while len(_last_words()) < count and time.monotonic() < deadline:
                time.sleep(0.2)
            time.sleep(0.5)
    sys.stdout.flush()
    os._exit(code)


def _leave(error: BaseException) -> NoReturn:
    """End this process for an error, naming the process that caused it where that is another."""
    if isinstance(error, UserError):
        end(2, f"error: {error}")
    if isinstance(error, KeyboardInterrupt):
        end(INTERRUPTED, "interrupted")
    if LOST.search(" ".join(_chain(error))):
        say(f"another process does not answer any more: {_chain(error)[0]}")
        time.sleep(GRACE_SECONDS)  # until all that live have said why they end
        end(ENDED, _who_ended() or f"error: {_silent()}", linger=1)  # all that live have spoken
    traceback.print_exception(error)
    end(ENDED, f"error: {_chain(error)[0]}")


def _follow() -> None:
    """Watch for the last words of others, and end this process after them."""
    while True:
        time.sleep(1)
        if _who_ended():
            time.sleep(GRACE_SECONDS)  # where all have the same error, each says it itself
            end(ENDED, _who_ended() or "error: another process ended.")


def _who_ended() -> str | None:
    """Return one line on the other processes that left last words, None if none did."""
    _, me, _ = quirks.job_client()
    others = {process: text for process, text in _last_words().items() if process != me}
    if not others:
        return None
    # Those that only follow have less to say than the one they follow.
    process, text = min(others.items(), key=lambda item: (" ended: " in item[1], item[0]))
    text = text.removeprefix("error: ")
    return f"error: process {process} ended: {text}" if " ended: " not in text else f"error: {text}"


def _silent() -> str:
    _, me, count = quirks.job_client()
    silent = sorted({*range(count)} - {me, *_last_words()})
    who = " or ".join(map(str, silent)) or "another"
    return (
        f"process {who} ended: without a word (killed, out of memory, or its machine is gone). "
        "Run the same command again: it continues from the last checkpoint."
    )


def _chain(error: BaseException | None) -> list[str]:
    lines = []
    while error is not None:
        first = (str(error).splitlines() or [""])[0]
        lines.append(f"{type(error).__name__}: {first}")
        error = error.__cause__ or error.__context__
    return lines


def _last_words() -> dict[int, str]:
    client, _, _ = quirks.job_client()
    if client is None:
        return {}
    try:
        return {int(k.rpartition("/")[2]): v for k, v in client.key_value_dir_get(WORDS)}
    except Exception:  # process 0 is gone, and the store with it
        return {}
