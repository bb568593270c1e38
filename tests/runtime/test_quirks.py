"""The hooks into other libraries still do what they are there for, with the versions pinned."""

import pathlib
import subprocess
import sys

import flax.linen as nn
import jax.numpy as jnp
import pytest

from segjax.runtime import quirks


def number_from(code):
    """Return the number that a Python of its own prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return int(done.stdout)


def test_freed_memory_is_kept():
    """What NumPy or XLA frees comes back without a page fault for every 4 kB."""
    code = (
        "import resource; from segjax.runtime import quirks; quirks.keep_memory()\n"
        "import numpy as np\n"
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
        "import ctypes; from segjax.runtime import quirks; quirks.keep_memory()\n"
        "buffer = ctypes.create_string_buffer(64 << 20)\n"
        "smaps = open('/proc/self/smaps').read().split('[heap]')[-1]\n"
        "print(smaps.split('AnonHugePages:')[1].split()[0])"
    )
    assert number_from(code) > 32 << 10, "half of the 64 MB"


@pytest.fixture
def plain_hooks(monkeypatch):
    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)
    monkeypatch.setattr(sys, "unraisablehook", sys.__unraisablehook__)


class Dying:
    """What raises where nobody can catch it: when it is collected."""

    def __init__(self, words):
        self.words = words

    def __del__(self):
        raise RuntimeError(self.words)


def test_abandoned_reads_and_writes_print_nothing_and_all_else_does(plain_hooks, capsys):
    quirks.silence_abandoned_io()
    for words, printed in (("Event loop is closed", False), ("disk on fire", True)):
        error = RuntimeError(words)
        sys.excepthook(RuntimeError, error, None)
        assert (words in capsys.readouterr().err) == printed
        dying = Dying(words)
        del dying
        assert (words in capsys.readouterr().err) == printed
    sys.excepthook(ValueError, ValueError("Event loop is closed"), None)
    assert "ValueError" in capsys.readouterr().err


def test_hooks_of_others_stay(monkeypatch):
    def theirs(*_):
        pass

    monkeypatch.setattr(sys, "excepthook", theirs)
    monkeypatch.setattr(sys, "unraisablehook", theirs)
    quirks.silence_abandoned_io()
    assert sys.excepthook is theirs and sys.unraisablehook is theirs


def test_without_a_job_there_is_no_store():
    assert quirks.job_client() == (None, 0, 1)


class Layer(nn.Module):
    train: bool

    @nn.compact
    def __call__(self, x):
        return x + int(self.train)


class Network(nn.Module):
    @nn.compact
    def __call__(self, x):
        return Layer(train=True)(x)


def test_a_field_set_while_a_module_is_applied_lives_for_that_call():
    def freeze(method, inputs, options, context):
        if isinstance(context.module, Layer):
            with pytest.raises(Exception, match="frozen|immutable"):
                context.module.train = False
            quirks.set_field(context.module, "train", False)
        return method(*inputs, **options)

    network, x = Network(), jnp.zeros(())
    with nn.intercept_methods(freeze):
        assert network.apply({}, x) == 0
    assert network.apply({}, x) == 1
