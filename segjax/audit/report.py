"""The numbers of an audit as plain data, `audit.json`."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from segjax.audit.examples import Seen
from segjax.audit.findings import KINDS, Finding


def summarize(
    seen: Sequence[Seen],
    found: Sequence[Finding],
    *,
    class_names: Sequence[str],
) -> dict[str, Any]:
    """Return what `audit.json` holds.

    Args:
        seen: All examples.
        found: What was found of them.
        class_names: Of the data set.
    """
    splits = list(dict.fromkeys(each.split for each in seen))
    return {
        "num_examples": len(seen),
        "splits": {split: _of_split([s for s in seen if s.split == split]) for split in splits},
        "classes": {
            split: _classes([s for s in seen if s.split == split], class_names) for split in splits
        },
        "counts": {kind: sum(f.kind == kind for f in found) for kind in KINDS},
        "findings": [
            {"id": f.id, "kind": f.kind, "images": list(f.images), "score": f.score, "note": f.note}
            for f in found
        ],
    }


def rank(shares: Mapping[str, float], found: Sequence[Finding]) -> list[dict[str, Any]]:
    """Return the masks that a run disagrees with, the most first.

    The score is the share, and twice that of a mask whose borders do not fit its image either.
    """
    misfits = {f.images[0] for f in found if f.kind in ("shifted_mask", "suspect_mask")}
    rows = [
        {
            "image": name,
            "score": round(share * (1 + (name in misfits)), 6),
            "share": round(share, 6),
        }
        for name, share in shares.items()
    ]
    return sorted(rows, key=lambda row: (-row["score"], row["image"]))


def _of_split(seen: Sequence[Seen]) -> dict[str, Any]:
    readable = [each for each in seen if each.numbers]
    sizes = Counter("x".join(map(str, each.size)) for each in readable)
    void = sum(each.labels.void for each in seen if each.labels)
    known = sum(int(each.labels.pixels.sum()) for each in seen if each.labels)
    return {
        "examples": len(seen),
        "unusable": sum(bool(each.error) for each in seen),
        "sizes": dict(sizes.most_common(20)),
        "different_sizes": len(sizes),
        "dtypes": dict(Counter(each.dtype for each in readable)),
        "void_share": void / max(1, void + known),
        "numbers": {
            name: _spread([each.numbers[name] for each in readable])
            for name in (readable[0].numbers if readable else ())
        },
    }


def _spread(values: Sequence[float]) -> dict[str, float]:
    low, middle, high = np.percentile(values, [5, 50, 95]).tolist()
    return {"percentile_5": low, "median": middle, "percentile_95": high}


def _classes(seen: Sequence[Seen], class_names: Sequence[str]) -> list[dict[str, Any]]:
    """Return of each class its pixels, images and connected regions."""
    labels = [each.labels for each in seen if each.labels]
    zeros = np.zeros(len(class_names), np.int64)
    pixels = sum((each.pixels for each in labels), zeros)
    images = sum(((each.pixels > 0).astype(np.int64) for each in labels), zeros)
    objects = sum((each.objects for each in labels), zeros)
    total = max(1, int(pixels.sum()))
    return [
        {
            "name": name, "pixels": int(pixels[k]), "share": int(pixels[k]) / total,
            "images": int(images[k]), "objects": int(objects[k]),
        }
        for k, name in enumerate(class_names)
    ]  # fmt: skip
