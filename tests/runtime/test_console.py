"""Standard error may be closed, full or gone: no training ends for want of someone to talk to."""

import io
import os
import subprocess
import sys

import pytest

from segjax.runtime import console
from segjax.views.progress import Progress
from tests import program


class Broken(io.StringIO):
    """A stream that fails."""

    def __init__(self, error):
        super().__init__()
        self.error = error

    def write(self, text=""):
        raise self.error

    def flush(self):
        raise self.error


@pytest.mark.parametrize(
    "error", [BrokenPipeError(32, "Broken pipe"), OSError(28, "No space"), ValueError("closed")]
)
def test_what_cannot_be_written_is_lost_and_nothing_else(monkeypatch, error):
    monkeypatch.setattr(sys, "stderr", Broken(error))
    with console.lasting(), Progress(3) as bar:
        print("a line", file=sys.stderr, flush=True)
        bar.update(3, {"loss": 1.0})
        bar.message("another")
    assert isinstance(sys.stderr, Broken)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="Linux only")
@pytest.mark.parametrize("shell", ["2>&-", "2>/dev/full", ">&- 2>&- <&-"])
def test_a_file_never_takes_the_place_of_a_closed_stream(tmp_path, shell):
    """What libraries print to standard error would be written into it."""
    code = (
        "import os, sys; from segjax.runtime import console; console.keep_places()\n"
        "with console.lasting(), open(sys.argv[1], 'w') as file:\n"
        "    print('hello', file=sys.stderr, flush=True)\n"
        "    file.write('content' if file.fileno() > 2 else 'taken')\n"
    )
    file = tmp_path / "file"
    command = f'exec "$0" -c "$1" "$2" {shell}'
    done = subprocess.run(["sh", "-c", command, sys.executable, code, str(file)], cwd=program.ROOT)
    assert done.returncode == 0 and file.read_text() == "content"
