import os
import pathlib
import subprocess
import sys
import time

import pytest

from segjax.errors import UserError
from segjax.runtime import xla


def test_the_users_own_flags_stay(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_dump_to=/nowhere")
    xla.set_xla_flags()
    xla.set_xla_flags()
    assert os.environ["XLA_FLAGS"] == f"--xla_dump_to=/nowhere {xla.FUSION_FLAG}="
    monkeypatch.setenv("XLA_FLAGS", f"{xla.FUSION_FLAG}=reduce")
    xla.set_xla_flags()
    assert os.environ["XLA_FLAGS"] == f"{xla.FUSION_FLAG}=reduce"


def test_this_environment_computes_right_and_remembers_it(tmp_path, monkeypatch):
    monkeypatch.setenv("SEGJAX_CACHE", str(tmp_path))
    xla.self_check()
    assert len(list(tmp_path.glob("numerics-*.json"))) == 1
    monkeypatch.setattr(xla, "gradient_errors", lambda: {"anything": 1.0})
    start = time.monotonic()
    xla.self_check()  # not asked again
    assert time.monotonic() - start < 0.1


def test_wrong_numbers_stop_the_run(tmp_path, monkeypatch):
    monkeypatch.setenv("SEGJAX_CACHE", str(tmp_path))
    for error in (0.5, float("nan")):
        monkeypatch.setattr(xla, "gradient_errors", lambda e=error: {"a LayerNorm gradient": e})
        with pytest.raises(UserError, match="a LayerNorm gradient is off by"):
            xla.self_check()
    assert not list(tmp_path.iterdir())


def test_the_check_catches_the_faulty_fusions(tmp_path):
    """With XLA's default fusions, the pinned jaxlibs are wrong: the check must see it."""
    code = "from segjax.runtime import xla; print(max(xla.gradient_errors().values()))"
    env = {**os.environ, "XLA_FLAGS": "", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert float(done.stdout) > xla.TOLERANCE, done.stderr


def number_from(code):
    """Return the number that a Python of its own prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return int(done.stdout)


def test_freed_memory_is_kept():
    """What NumPy or XLA frees comes back without a page fault for every 4 kB."""
    code = (
        "import resource; from segjax.runtime import xla; xla.keep_memory(); import numpy as np\n"
        "faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "x = np.ones(1 << 23); del x; before = faults(); x = np.ones(1 << 23)\n"
        "print(faults() - before)"
    )
    assert number_from(code) < 1000, "64 MB are 16,384 pages"


def test_the_heap_is_of_huge_pages():
    setting = pathlib.Path("/sys/kernel/mm/transparent_hugepage/enabled")
    if not setting.exists() or "[never]" in setting.read_text():
        pytest.skip("this kernel gives no transparent huge pages")
    code = (
        "import ctypes; from segjax.runtime import xla; xla.keep_memory()\n"
        "buffer = ctypes.create_string_buffer(64 << 20)\n"
        "smaps = open('/proc/self/smaps').read().split('[heap]')[-1]\n"
        "print(smaps.split('AnonHugePages:')[1].split()[0])"
    )
    assert number_from(code) > 32 << 10, "half of the 64 MB"
