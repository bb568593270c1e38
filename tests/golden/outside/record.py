"""Record what PyTorch, torchvision, timm, smp, transformers, surface-distance, cleanlab compute.

    python -m tests.golden.outside.record                   # all families
    python -m tests.golden.outside.record torchvision smp   # some

in the environment of requirements-parity.txt, from the root of the checkout. Each family's script
(`of_<family>.py`) makes the cases of `<family>.npz`; `tests/outside/` compares ours with them where
there is no PyTorch.
"""

import argparse
import importlib
import importlib.metadata
import types

from tests.outside import recorded


def script(family: str) -> types.ModuleType:
    """Return the module that makes a family's cases; it imports their packages when asked to."""
    return importlib.import_module(f"tests.golden.outside.of_{family}")


def main() -> None:
    """Write the files of the families on the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("families", nargs="*", help=f"of {', '.join(recorded.FAMILIES)}")
    families = parser.parse_args().families or recorded.FAMILIES
    if unknown := sorted(set(families) - set(recorded.FAMILIES)):
        parser.error(f"{', '.join(unknown)}: expected some of {', '.join(recorded.FAMILIES)}")
    for family in families:
        made = script(family)
        versions = {name: importlib.metadata.version(name) for name in (*made.PACKAGES, "numpy")}
        recorded.save(family, versions, {name: make() for name, make in made.CASES.items()})
        print(f"{family}: {len(made.CASES)} cases")


if __name__ == "__main__":
    main()
