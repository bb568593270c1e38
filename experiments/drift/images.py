"""Which streams do statistics of images alone tell, without asking the network?

python -m experiments.drift.images            # CamVid below $SEGJAX_DATA; no run is needed

Limits are learned from train and val as `--mode=watch --reference` does it. Streams are those of
study.py, other data sets, and clean ones in several orders. One line a stream goes to images.jsonl.
"""

import argparse
import json
import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from PIL import Image

from experiments.drift import study

HERE = pathlib.Path(__file__).parent
BEGIN, END = "<!-- drawn from images.jsonl -->", "<!-- end of images -->"
OTHERS = {"ISBI 2012": "isbi2012/*/images/*.png", "Data Science Bowl": "dsb2018/test/images/*.png"}
ORDERS = 5
Rows = list[dict[str, float]]


def images_of(root: pathlib.Path, pattern: str) -> list[np.ndarray]:
    """Return the images of a folder, in the order of their names, at most 233."""
    files = sorted(root.glob(pattern))[:233]
    return [np.asarray(Image.open(file).convert("RGB")) for file in files]


def streams(root: pathlib.Path) -> Iterator[tuple[str, Rows]]:
    """Yield each stream by its name."""
    from segjax.watch import statistics

    test = images_of(root, "camvid/test/images/*")
    for name, change in study.CHANGES.items():
        rng = np.random.default_rng(0)
        rows = [statistics.of_image(change(image, rng)) for image in test]
        yield name, rows
        if name == "clean":
            half = len(rows) // 2
            yield "clean: first half", rows[:half]
            yield "clean: second half", rows[half:]
            for seed in range(ORDERS):
                order = np.random.default_rng(seed).permutation(len(rows))
                yield f"clean: shuffled, {seed}", [rows[place] for place in order]
                some = sorted(order[:half])
                yield f"clean: a random half, {seed}", [rows[place] for place in some]
    yield "clean: val", [statistics.of_image(x) for x in images_of(root, "camvid/val/images/*")]
    for name, pattern in OTHERS.items():
        yield name, [statistics.of_image(image) for image in images_of(root, pattern)]


def watched(rows: Rows, limits: Any) -> dict[str, Any]:
    """Return when a stream raises its first alert, which ones, and what comes nearest."""
    from segjax.watch import drift, reference

    alerts: dict[str, int] = {}
    near: tuple[float, str] = (0.0, "")
    ends = range(drift.WINDOW, len(rows) + 1, 25)
    for end in ends:
        for shift in drift.compare(reference.table(rows[end - drift.WINDOW : end]), limits):
            share = min(shift.psi / shift.limits.psi, shift.ks / shift.limits.ks)
            near = max(near, (share, shift.statistic))
            if shift.passes:
                alerts.setdefault(shift.statistic, end)
    if not ends:
        for shift in drift.unseen(reference.table(rows), limits):
            alerts[shift.statistic] = len(rows)
    first = min(alerts.values(), default=None)
    return {
        "images": len(rows), "first_alert": first, "alerts": [*alerts], "nearest": near[1],
        "share_of_limit": round(near[0], 2),
    }  # fmt: skip


def redraw(text: str, records: Sequence[dict[str, Any]]) -> str:
    """Return the page with the table of the records."""
    from segjax.studies import tables

    lines = ["| stream | images | first alert after | alerts | nearest, share of its limit |"]
    lines.append("| --- | --- | --- | --- | --- |")
    for row in records:
        alerts = ", ".join(f"`{name}`" for name in row["alerts"]) or "none"
        near = f"`{row['nearest']}` {row['share_of_limit']}" if row["nearest"] else "-"
        first = row["first_alert"] or "-"
        lines.append(f"| {row['stream']} | {row['images']} | {first} | {alerts} | {near} |")
    return tables.redraw(text, "\n".join(lines), begin=BEGIN, end=END)


def load() -> list[dict[str, Any]]:
    """Return the records."""
    return [json.loads(line) for line in (HERE / "images.jsonl").read_text().splitlines()]


def main() -> None:
    """Watch the streams, write what was found, and draw the table."""
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    from segjax.watch import drift, reference, statistics

    root = pathlib.Path(os.environ["SEGJAX_DATA"])
    rows, owners = [], []
    for split in ("train", "val"):
        for file in sorted(root.glob(f"camvid/{split}/images/*")):
            rows.append(statistics.of_image(np.asarray(Image.open(file).convert("RGB"))))
            owners.append(f"{split}/{drift.group_of(file.stem)}")
    limits = drift.learn(reference.table(rows), drift.tell_apart(owners))
    with (HERE / "images.jsonl").open("w") as file:
        for name, stream in streams(root):
            row = {"stream": name, **watched(stream, limits)}
            print(row, flush=True)
            file.write(json.dumps(row) + "\n")
            file.flush()
    page = HERE / "README.md"
    page.write_text(redraw(page.read_text(), load()))


if __name__ == "__main__":
    main()
