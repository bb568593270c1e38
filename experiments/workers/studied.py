"""The study that is shared by workers which are killed: 24 runs of a few steps."""


def get_study():
    return dict(
        title="Learning rates of the quickstart's debug form",
        config="configs/quickstart.py:debug",
        overrides=["total_steps=6", "checkpoint.save_steps=2", "log_steps=1"],
        metrics=["val/miou"],
        baseline="1e-3",
        seeds=[0, 1, 2, 3],
        rows=[
            dict(name=rate, overrides=[f"optimizer.lr={rate}"])
            for rate in ("1e-4", "3e-4", "1e-3", "3e-3", "1e-2", "3e-2")
        ],
    )
