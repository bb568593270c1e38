"""A server in this process, with a convolution for a model."""

import pathlib

import pytest

pytest.importorskip("fastapi", reason="needs the extra 'serve'")

from fastapi.testclient import TestClient  # noqa: E402

from segjax.data.decode import Reading  # noqa: E402
from segjax.serve import app as app_lib  # noqa: E402
from segjax.serve.limits import MEGABYTE, Limits  # noqa: E402
from segjax.serve.model import Served  # noqa: E402
from segjax.serve.service import Service  # noqa: E402
from segjax.structs import Classes  # noqa: E402
from segjax.views import colour  # noqa: E402
from tests.inference.test_network import K, convolution  # noqa: E402

LIMITS = Limits(bytes=MEGABYTE, pixels=1_000_000, queue=8, seconds=20.0, batch=4, wait=0.0)
SECRET = "/very/secret/folder"


class Kept:
    """A store in memory."""

    root = pathlib.Path(SECRET)

    def __init__(self):
        self.rows = []

    def add(self, image, **about):
        self.rows.append({"image": image, **about})
        return f"id{len(self.rows)}"

    def version(self):
        return len(self.rows)


@pytest.fixture(scope="session")
def network():
    return convolution((32, 40), "pad", 0)


@pytest.fixture(scope="session")
def served(network):
    palette = colour.voc_palette(K)
    classes = Classes(tuple("abcdef"), palette, 3)
    layout = network.forward.layout
    return Served("tiny", 7, network, classes, Reading(), layout, False, "", LIMITS.batch)


@pytest.fixture(scope="session")
def client(served):
    """Return a client of a server that is ready, with the service as `service`."""
    service = Service(served, LIMITS, store=Kept())
    with TestClient(app_lib.make_app(service), raise_server_exceptions=False) as found:
        while not service.ready and service.trouble is None:
            pass
        assert service.trouble is None
        found.service = service
        yield found
