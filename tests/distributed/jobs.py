"""Start `python run.py …` as several processes of one job on this machine."""

import os
import pathlib
import socket
import subprocess
import time

from tests import program


class Job:
    """The processes of one job, each with its output in a file."""

    def __init__(self, count: int, folder: pathlib.Path, *arguments, devices: int = 1, **env):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{free.getsockname()[1]}"
        folder.mkdir(parents=True, exist_ok=True)
        self.count, self.files = count, [folder / f"process{i}.txt" for i in range(count)]
        given = {
            **os.environ,
            "JAX_PLATFORMS": "cpu",
            "JAX_NUM_CPU_DEVICES": str(devices),
            "JAX_COMPILATION_CACHE_DIR": os.path.expanduser("~/.cache/segjax/test-xla"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            **env,
        }
        self.processes = []
        for i, file in enumerate(self.files):
            place = [f"--coordinator={address}", f"--process_id={i}", f"--num_processes={count}"]
            command = [program.sys.executable, "run.py", *map(str, arguments)]
            with open(file, "w") as out:
                self.processes.append(
                    subprocess.Popen(
                        command + place * (count > 1),
                        cwd=program.ROOT, env=given, stdout=out, stderr=subprocess.STDOUT,
                    )
                )  # fmt: skip

    def __getitem__(self, index: int) -> subprocess.Popen:
        return self.processes[index]

    def text(self, index: int = 0) -> str:
        return self.files[index].read_text()

    def error(self, index: int) -> str:
        """Return the one line with which a process says why it ended."""
        lines = [line for line in self.text(index).splitlines() if "error: " in line]
        assert len(lines) == 1, self.text(index)
        return lines[0]

    def step(self) -> int:
        """Return the last step that process 0 has shown."""
        shown = [line for line in self.text().splitlines() if line.startswith("step ")]
        shown = [line for line in shown if "/" in line.split()[1]]
        return int(shown[-1].split()[1].split("/")[0]) if shown else 0

    def wait_for_step(self, step: int, timeout: float = 240) -> None:
        """Wait until a step is shown, while all processes run."""
        deadline = time.monotonic() + timeout
        while self.step() < step:
            codes = [process.poll() for process in self.processes]
            if codes != [None] * self.count or time.monotonic() > deadline:
                raise AssertionError(f"{codes}\n{self.text()}")
            time.sleep(0.02)

    def wait(self, timeout: float = 240) -> tuple[list[int], float]:
        """Wait until all have ended; return their exit codes and the seconds it took."""
        start = time.monotonic()
        try:
            codes = [p.wait(timeout - (time.monotonic() - start)) for p in self.processes]
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError("\n".join(map(self.text, range(self.count)))) from None
        return codes, time.monotonic() - start

    def kill(self) -> None:
        """Kill what still runs."""
        for process in self.processes:
            process.kill()
            process.wait()


def run(count: int, folder: pathlib.Path, *arguments, **options) -> Job:
    """Run a job to its end, which must be a good one."""
    job = Job(count, folder, *arguments, **options)
    codes, _ = job.wait(400)
    assert codes == [0] * count, "\n".join(map(job.text, range(count)))
    return job
