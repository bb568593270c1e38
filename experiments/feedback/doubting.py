"""What does a model say of right and wrong corrections, before anything is learned from them?

    python run.py --config=configs/quickstart.py --config.total_steps=300 --workdir=runs/quick300
    python -m experiments.feedback.doubting --workdir=runs/quick300

Nothing is trained. One line a kind of scenes, case of masks and seed goes to doubts.jsonl.
"""

import argparse
import json
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from experiments.feedback import study

HERE = pathlib.Path(__file__).parent
SEEDS = (7, 21, 33)
RIGHT = ("", "half judged")


def doubted(run: Any, kind: str, seed: int) -> Iterator[dict[str, Any]]:
    """Yield what is said of each case of masks of 40 scenes."""
    from segjax.data import synthetic
    from segjax.feedback import doubts, gate

    ground = "weave" if kind == "weave" else ""
    source = synthetic.Source(split="train", num_examples=study.SCENES, ground=ground, seed=seed)
    examples: list[Any] = [source[number] for number in range(study.SCENES)]
    predict, rng = run.predictor(), np.random.default_rng(seed)
    preds = [predict(study.seen(each["image"], kind, rng)).classes for each in examples]
    right = [np.asarray(each["label"]) for each in examples]
    for case in (*RIGHT, *study.POISON):
        labels = study.masks(case, right, np.random.default_rng(1))
        pairs = [
            (label.astype(np.uint8), pred) for label, pred in zip(labels, preds, strict=True)
        ]  # fmt: skip
        found = doubts.doubt(pairs, run.parts.classes.class_names)
        moved = None if np.isnan(found.moved) else round(float(found.moved), 3)
        yield {
            "scenes": kind, "masks": case or "right", "seed": seed, "classes": found.classes,
            "moved": moved, "move": found.move, "renamed": round(found.renamed, 3),
            "suspected": bool(gate.suspected(found, gate.Bounds())),
        }  # fmt: skip


def main() -> None:
    """Ask, and write what is said."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workdir", type=pathlib.Path, required=True, help="A quickstart run.")
    parser.add_argument("--results", type=pathlib.Path, default=HERE / "doubts.jsonl")
    values = parser.parse_args()
    from segjax.runs import run
    from segjax.runtime import xla

    xla.prepare()
    opened = run.open_run(values.workdir)
    rows = [
        row for seed in SEEDS for kind in study.KINDS for row in doubted(opened, kind, seed)
    ]  # fmt: skip
    values.results.write_text("".join(json.dumps(row) + "\n" for row in rows))


if __name__ == "__main__":
    main()
