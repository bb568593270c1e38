"""A copy of CamVid with known faults: what an audit must find there."""

import json
import pathlib
import shutil
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

SHIFT = 12


class Planted(NamedTuple):
    """The stems of the images with each fault; pairs are of the original and its copy."""

    near: list[tuple[str, str]]
    leaks: list[tuple[str, str]]
    swapped: list[str]
    illegal: list[str]
    shifted: list[str]


def plant(source: pathlib.Path, root: pathlib.Path, *, seed: int) -> Planted:
    """Copy CamVid to `root`, and plant 20 near duplicates, 3 leaks and 20 wrong masks."""
    shutil.copytree(source, root, copy_function=shutil.copyfile)
    for path in [root, *root.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    meta = json.loads((root / "meta.json").read_text())
    chance = np.random.default_rng(seed)
    stems = sorted(path.stem for path in (root / "train/images").iterdir())
    chosen = [stems[i] for i in chance.permutation(len(stems))[:43]]
    near, leaked, masks = chosen[:20], chosen[20:23], chosen[23:]
    pairs = []
    for number, stem in enumerate(near):
        image, label = (Image.open(file_of(root, "train", kind, stem)) for kind in KINDS)
        changes = (resized, encoded, mirrored, brightened)
        copies = changes[number % 4](image, label, chance)
        save(root, "train", f"copy{number:02d}", *copies, jpeg=number % 4 == 1)
        pairs.append((stem, f"copy{number:02d}"))
    leaks = []
    for number, stem in enumerate(leaked):
        for kind in KINDS:
            file = file_of(root, "train", kind, stem)
            shutil.copyfile(file, root / "test" / kind / f"leak{number}{file.suffix}")
        leaks.append((stem, f"leak{number}"))
    swapped, illegal, shifted = masks[:10], masks[10:15], masks[15:]
    for one, other in zip(swapped[::2], swapped[1::2], strict=True):
        first, second = (file_of(root, "train", "labels", stem) for stem in (one, other))
        kept = first.read_bytes()
        first.write_bytes(second.read_bytes())
        second.write_bytes(kept)
    for stem in illegal:
        change(root, stem, lambda label: patched(label, 77))
    for stem in shifted:
        axis, step = int(chance.integers(2)), int(chance.choice([-SHIFT, SHIFT]))
        void = meta["ignore_index"]
        change(root, stem, lambda label, a=axis, s=step, v=void: moved(label, a, s, v))
    return Planted(pairs, leaks, swapped, illegal, shifted)


KINDS = ("images", "labels")


def file_of(root: pathlib.Path, split: str, kind: str, stem: str) -> pathlib.Path:
    (found,) = (root / split / kind).glob(f"{stem}.*")
    return found


def save(root, split, stem, image, label, *, jpeg):
    if jpeg:
        image.save(root / split / "images" / f"{stem}.jpg", quality=40)
    else:
        image.save(root / split / "images" / f"{stem}.png")
    label.save(root / split / "labels" / f"{stem}.png")


def resized(image, label, chance):
    size = [round(side * chance.uniform(0.6, 1.4)) for side in image.size]
    return image.resize(size, Image.Resampling.BICUBIC), label.resize(
        size, Image.Resampling.NEAREST
    )


def encoded(image, label, chance):
    return image, label


def mirrored(image, label, chance):
    return ImageOps.mirror(image), ImageOps.mirror(label)


def brightened(image, label, chance):
    return ImageEnhance.Brightness(image).enhance(float(chance.uniform(0.6, 1.4))), label


def change(root, stem, function):
    file = file_of(root, "train", "labels", stem)
    picture = Image.open(file)
    found = Image.fromarray(function(np.asarray(picture)))
    if picture.mode == "P":
        found.putpalette(picture.getpalette())
    found.save(file)


def patched(label, value):
    label = label.copy()
    label[40:60, 50:90] = value
    return label


def moved(label, axis, step, void):
    found = np.roll(label, step, axis)
    edge = [slice(None)] * 2
    edge[axis] = slice(0, step) if step > 0 else slice(step, None)
    found[tuple(edge)] = void
    return found


def check(audit: dict, planted: Planted) -> dict[str, list]:
    """Return what was missed of each fault, and the images that were found for nothing."""
    stem = lambda name: pathlib.PurePosixPath(name).stem  # noqa: E731
    of = {kind: [] for kind in audit["counts"]}
    for finding in audit["findings"]:
        of[finding["kind"]].append([stem(name) for name in finding["images"]])
    pairs = {
        frozenset(p) for kind in ("near_duplicate", "leakage", "exact_duplicate") for p in of[kind]
    }
    single = {kind: {names[0] for names in found} for kind, found in of.items()}
    missed = {
        "near": [p for p in planted.near if frozenset(p) not in pairs],
        "leaks": [p for p in planted.leaks if list(p) not in of["leakage"]
                  and list(p[::-1]) not in of["leakage"]],
        "illegal": [s for s in planted.illegal if s not in single["illegal_value"]],
        "shifted": [s for s in planted.shifted if s not in single["shifted_mask"]],
        "swapped": [s for s in planted.swapped
                    if s not in single["suspect_mask"] | single["shifted_mask"]],
    }  # fmt: skip
    bad = {name for p in (*planted.near, *planted.leaks) for name in p}
    bad |= {*planted.swapped, *planted.illegal, *planted.shifted}
    every = {name for found in of.values() for names in found for name in names}
    first = [stem(row["image"]) for row in audit["disagreement"][:15]]
    return missed | {
        "false": sorted(every - bad),
        "swapped not in the first 15": [s for s in planted.swapped if s not in first],
    }
