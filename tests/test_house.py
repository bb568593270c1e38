"""The house rules that a machine can check: who may import whom, sizes, names."""

import ast
import pathlib
import re
import sys

import pytest

from tests import conftest

ROOT = pathlib.Path(__file__).parents[1]
FILES = sorted((ROOT / "segjax").rglob("*.py"))
ROOMS = [
    "errors", "structs", "runtime", "config", "kernels", "views", "layers", "encoders", "models",
    "losses", "metrics", "tasks", "data", "augment", "training", "inference", "baselines",
    "evaluators", "pretrained", "costs", "assemble", "runs", "studies", "report", "export", "audit",
    "auto", "explain", "feedback", "watch", "serve", "commands",
]  # fmt: skip
"""From the ground up: a room imports itself and those before it."""
NETWORKS = ("layers", "encoders", "models")
STRANGERS = {
    **dict.fromkeys(NETWORKS, "networks"),
    "losses": 1,
    "metrics": 2,
    "augment": 3,
    "data": 4,
}
BUILDERS = ("lookup.build", "lookup.resolve")
FREE_OF_JAX = {"errors", "config", "views", "commands"}
CONVOLUTIONS = r"nn\.Conv\b|nn\.ConvTranspose\b|lax\.conv"
PLATFORMS = r"platform_dependent|default_backend|optimization_barrier|custom_vjp|custom_jvp"
PLATFORMS_ELSEWHERE = {
    "segjax/runtime/quirks.py": "several devices of a CPU share a pool of threads",
    "segjax/runtime/xla.py": "options of XLA by backend: runtime stands below kernels",
    "segjax/runtime/sharding.py": "the gradient's placement, the same on every platform",
}
PRIVATE = r"jax\._src|orbax\S*\._src|sys\.excepthook|sys\.unraisablehook|ctypes"


def room(path: pathlib.Path) -> str:
    return path.relative_to(ROOT / "segjax").parts[0].removesuffix(".py")


def imports(path: pathlib.Path, *, late: bool = True) -> set[str]:
    """Return dotted names that a file imports; with `late` also in functions and by `lookup`."""
    tree = ast.parse(path.read_text())
    names = set()
    for node in ast.walk(tree) if late else tree.body:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in BUILDERS:
            package = node.args[0]
            if isinstance(package, ast.Constant):
                names.add(f"segjax.{package.value}")
    return names


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_go_down(path):
    here = room(path)
    if here == "__init__":  # the public API stands above all
        return
    for name in imports(path):
        parts = name.split(".")
        if parts[0] == "segjax" and len(parts) > 1:
            there = parts[1]
            assert ROOMS.index(there) <= ROOMS.index(here), f"{here} imports {there}"
            both = STRANGERS.get(here), STRANGERS.get(there)
            assert None in both or both[0] == both[1], f"{here} and {there} do not know each other"
        assert parts[0] not in ("configs", "experiments", "tests")
    for name in imports(path, late=False) if here in FREE_OF_JAX else ():
        assert name.split(".")[0] not in ("jax", "flax", "optax", "orbax"), f"{here} has {name}"


def test_the_root_holds_rooms_and_three_files():
    inside = {path.name for path in (ROOT / "segjax").iterdir() if path.name != "__pycache__"}
    rooms = {name for name in inside if (ROOT / "segjax" / name).is_dir()}
    assert rooms == set(ROOMS) - {"errors", "structs"}
    assert inside - rooms == {"__init__.py", "errors.py", "structs.py", "py.typed"}
    for name in rooms:
        purpose = ast.get_docstring(ast.parse((ROOT / "segjax" / name / "__init__.py").read_text()))
        assert purpose, f"segjax/{name}/__init__.py says no purpose"


def test_the_readme_shows_this_house():
    """The same rooms, from the top down."""
    shown = (ROOT / "README.md").read_text().partition("## The house")[2]
    shown = shown.partition("segjax/\n")[2].partition("experiments/")[0]
    rooms = re.findall(r"(?<![/.\w])(\w+)/(?!\w)", shown)
    assert rooms == [name for name in reversed(ROOMS) if name not in ("errors", "structs")]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_files_and_functions_stay_small(path):
    text = path.read_text()
    assert text.count("\n") <= 450
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            assert (node.end_lineno or 0) - node.lineno <= 80, node.name
    assert path.name not in ("utils.py", "helpers.py", "misc.py")


def code_of(path: pathlib.Path) -> str:
    """Return a file's code: comments gone, every string empty."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            node.value = ""
    return ast.unparse(tree)


def mentions(pattern: str, *rooms: str) -> set[str]:
    """Return the files of some rooms, or of all, whose code matches a regular expression."""
    files = [path for path in FILES if not rooms or room(path) in rooms]
    found = [path for path in files if re.search(pattern, code_of(path))]
    return {str(path.relative_to(ROOT)) for path in found}


def test_networks_convolve_by_the_one_convolution():
    """XLA's own misses the gradient that its CPU backend needs (`kernels.conv`)."""
    assert not mentions(CONVOLUTIONS, *NETWORKS)


def test_what_depends_on_the_platform_stands_in_kernels():
    kernels = {str(path.relative_to(ROOT)) for path in FILES if room(path) == "kernels"}
    elsewhere = mentions(PLATFORMS) - kernels
    assert elsewhere == set(PLATFORMS_ELSEWHERE), "and each exception has its reason"


def test_hooks_into_other_libraries_stand_in_quirks():
    assert mentions(PRIVATE) == {"segjax/runtime/quirks.py"}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_train_is_said_by_name(path):
    """A bare True says nothing where it is read, and jax.checkpoint would trace it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            positional = [argument.arg for argument in (*node.args.posonlyargs, *node.args.args)]
            assert "train" not in positional, getattr(node, "name", "lambda")


def test_dear_tests_are_there():
    """Each line of tests/dear.txt names a test; which of its cases, pytest decides."""
    for line in conftest.dear():
        path, *_, name = line.partition("[")[0].split("::")
        assert (
            re.search(rf"^ *def {name}\(", (ROOT / path).read_text(), re.M)
            or "contract" in (ROOT / path).read_text()
        ), line


def test_run_py_is_short():
    assert (ROOT / "run.py").read_text().count("\n") <= 90


def test_configs_import_neither_jax_nor_models():
    allowed = ("ml_collections", "configs", "segjax.config", "segjax.errors")
    writes_itself = {"auto.py": ("segjax.auto",)}  # from the data, which it reads
    for path in (ROOT / "configs").glob("*.py"):
        for name in imports(path):
            standard = name.split(".")[0] in sys.stdlib_module_names
            own = allowed + writes_itself.get(path.name, ())
            assert standard or name.startswith(own), f"{path.name} imports {name}"


READS = r"read_text|read_bytes|np\.load\b|np\.fromfile|Image\.open|json\.load\b|(?<![\w.])open\("
READS_ELSEWHERE = {
    "segjax/runtime/reading.py": "the one place",
    "segjax/runtime/files.py": "the lock, which it makes itself, and what it writes",
    "segjax/runtime/xla.py": "/proc/cpuinfo",
    "segjax/runtime/quirks.py": "/proc/self/task",
    "segjax/costs/timing.py": "/proc/self/stat",
    "segjax/feedback/store.py": "a method of that name",
    "segjax/runtime/console.py": "nowhere, to write to",
    "segjax/runs/writer.py": "appends to the log, which it has read through `reading` before",
    "segjax/runs/log.py": "appends to log.txt, which `reading` has looked at",
    "segjax/runs/owner.py": "a bucket's file, which is no pipe",
    "segjax/runs/damage.py": "files of a checkpoint, which may be in a bucket; locally looked at",
    "segjax/data/readers/arrays.py": "an array of a file that `reading` has opened",
}


def test_files_of_others_are_opened_in_one_place():
    """A pipe waits for ever and a device has no end: `runtime.reading` decides what is a file."""
    assert mentions(READS) == set(READS_ELSEWHERE), "and each exception has its reason"


def test_what_is_printed_is_one_printable_line():
    """Names of files may hold escape sequences and line ends: no call may forget `printable`."""
    found = []
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "print" and node.args:
                if not ast.unparse(node.args[0]).startswith("printable("):
                    found.append(f"{path.relative_to(ROOT)}: {ast.unparse(node)}")
    assert found == ["segjax/commands/cli.py: print(help_of(mode))"]
