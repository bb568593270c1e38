"""Which network is best from scratch on two cores: in as many steps, and in as much time?

python run.py --mode=study --study=experiments/architectures/study.py --workdir=runs/architectures
python run.py --mode=study --study=experiments/architectures/study.py:equal=time \
    --output=experiments/architectures/time --workdir=runs/architectures_time

How many steps a network takes in the time is known from the first table's results.
"""

import json
import pathlib
import statistics
from typing import Any

from segjax.config.sections import parse_arg

HERE = pathlib.Path(__file__).parent
STEPS = 200
MINUTES = 2.0
ROWS = {
    "U-Net": "unet", "FCN-8s": "fcn", "SegNet": "segnet", "PSPNet": "pspnet",
    "DeepLabv3+": "deeplabv3plus", "FC-DenseNet": "fc_densenet", "BiSeNetV2": "bisenetv2",
    "SegFormer-B0": "segformer",
}  # fmt: skip
"""The models of configs/zoo.py, in their sizes for two cores."""


def get_study(arg: str = "") -> dict[str, Any]:
    """Return the study: `equal` is 'steps' or 'time', `dtype` what is computed in."""
    found = parse_arg(arg, equal="steps", dtype="bfloat16")
    of = dict.fromkeys(ROWS, STEPS) if found.equal == "steps" else steps_in_time()
    what = f"{STEPS} steps" if found.equal == "steps" else f"{MINUTES:g} minutes of steps"
    return {
        "title": f"Networks from scratch on CamVid, {what}",
        "overrides": [
            "evals.val.every_percent=100", "report.page=False",
            f"model.compute_dtype={found.dtype}",
            # the rates of SegFormer's and the convolutional papers lie on both sides of it
            "optimizer.lr=0.001",
        ],
        "metrics": ["test/miou", "test/pixel_accuracy"],
        "baseline": "U-Net",
        "seeds": [0, 1],
        "rows": [
            {
                "name": name,
                "config": f"configs/camvid.py:model={model},size=cpu",
                "overrides": [f"total_steps={of[name]}"],
            }
            for name, model in ROWS.items()
        ],
    }  # fmt: skip


def steps_in_time() -> dict[str, int]:
    """Return how many steps of each row take `MINUTES`, at the median pace of its runs."""
    lines = (HERE / "results.jsonl").read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    pace = {
        name: statistics.median(r["step_ms"] for r in records if r["row"] == name) for name in ROWS
    }
    return {name: round(MINUTES * 60e3 / ms) for name, ms in pace.items()}
