"""Eight virtual CPU devices, right numbers on the CPU backend, array types checked at run time."""

import os
import pathlib
import shutil

from segjax.runtime import xla

xla.set_xla_flags()
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import jax  # noqa: E402
import pytest  # noqa: E402
from absl import flags  # noqa: E402
from jaxtyping import install_import_hook  # noqa: E402

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_compilation_cache_dir", os.path.expanduser("~/.cache/segjax/test-xla"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)

TYPED = (
    "kernels",
    "layers",
    "encoders",
    "models",
    "losses",
    "metrics",
    "augment",
    "tasks",
    "training.step",
)  # structs ride in pytrees of other leaves
install_import_hook([f"segjax.{name}" for name in TYPED], "beartype.beartype")

if not flags.FLAGS.is_parsed():
    flags.FLAGS.mark_as_parsed()  # Grain's worker options are absl flags


STRICT = ("kernels", "layers", "encoders", "models", "losses", "metrics", "augment")


DEAR = pathlib.Path(__file__).parent / "dear.txt"


def dear() -> set[str]:
    """Return the cases and tests that dear.txt names."""
    lines = DEAR.read_text().splitlines()
    return {line for line in lines if line and not line.startswith("#")}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Mark what dear.txt names as slow, before tiers are chosen."""
    names = dear()
    for item in items:
        if {item.nodeid, item.nodeid.partition("[")[0]} & names:
            item.add_marker(pytest.mark.slow)


@pytest.fixture(autouse=True)
def strict_promotion(request):
    """Allow no silent dtype promotion in our core; Optax relies on it elsewhere."""
    core = request.path.parent.name in STRICT
    with jax.numpy_dtype_promotion("strict" if core else "standard"):
        yield


@pytest.fixture
def float64():
    """Run the test in float64: XLA's plain float32 sums are too coarse for equality."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def tiny_config():
    """Return a function that makes a small synthetic run of the config system's own plain data."""
    from configs import quickstart
    from segjax.config import sections

    def make(**changes):
        plain = sections.plain(quickstart.get_config("debug"))
        plain["mesh"]["data"] = -1
        plain["input"]["batch_size"] = plain["evals"]["val"]["batch_size"] = 8
        flat = [f"{key.replace('__', '.')}={value!r}" for key, value in changes.items()]
        return sections.override(plain, flat)

    return make


@pytest.fixture(scope="session")
def browser():
    """A headless Chromium with empty logs."""
    pytest.importorskip("selenium", reason="needs selenium")
    from selenium import webdriver

    chromium = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chrome"))), None)
    driver = shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip("needs Chromium and its driver: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1024,768"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    found = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield found
    found.quit()
