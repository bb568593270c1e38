"""Wrong values anywhere in a config end in one line before anything is traced or written.

The rule: whatever a config holds, what `--mode=train` does before it traces either succeeds or
raises a `UserError` of one line of at most 500 characters, soon; and what succeeds can be traced,
or is refused by such a line then. Every key of the schema and every argument of every type is drawn
with values of every wrong kind and at every edge; the seed decides which. (Hypothesis repeats
itself too much where nearly all draws are of long lists: 300 of its configs held 14 right ones and
some 200 different. It finds values of any kind in `test_fuzz_values.py`.)
"""

import copy
import functools
import math
import random
import time

import jax
import pytest

from configs import quickstart, zoo
from segjax.assemble import program
from segjax.assemble import setup as setup_lib
from segjax.config import lookup, rules, schedule, schema, sections
from segjax.errors import UserError
from segjax.runs import checks, transfer, workdir
from segjax.runtime import files

SECONDS = 20
"""The most computing that one config may take to be accepted or refused."""
LONGEST = 500
PLACES = {
    ("model",): "models",
    ("model", "encoder"): "encoders",
    ("input", "source"): "data",
    ("normalize",): "augment",
    ("task",): "tasks",
    ("optimizer",): "training.optim",
    ("optimizer", "schedule"): "training.optim",
    ("evals", "val"): "evaluators",
}
"""Where sections with a type lie, and in which package the type is; others are in lists."""
ENCODERS = (
    dict(type="resnet", depth=18, width=4),
    dict(type="vgg", depth=11, width=4),
    dict(type="convnext", widths=(4, 8, 8, 8), depths=(1, 1, 1, 1)),
    dict(type="mit", widths=(8, 8, 10, 16), depths=(1, 1, 1, 1)),
    dict(type="mobilenetv3", width=0.25, depths=(1, 1, 1, 1, 1, 1)),
    dict(type="efficientnet", width=0.25, depth=0.1),
    dict(type="vit", width=16, heads=2, depth=2, grid=4),
)
OPS = (
    dict(type="geometry:flip"),
    dict(type="geometry:affine", size=(48, 48), scale=(0.8, 1.2), rotate=5.0, fill=(0.1, 0.2, 0.3)),
    dict(type="geometry:elastic", std=2.0),
    dict(type="photometric:color_jitter", brightness=0.1, hue=0.1),
    dict(type="photometric:gamma", exponent=(0.5, 2.0)),
    dict(type="photometric:gaussian_blur", sigma=(0.1, 1.0)),
    dict(type="photometric:gaussian_noise", std=(0.0, 0.1)),
    dict(type="photometric:cutout", size=(0.1, 0.2)),
)
LOSSES = (
    dict(type="pixel:cross_entropy", weight=1.0, class_weights=(1.0,) * 8),
    dict(type="pixel:focal", weight=0.5),
    dict(type="region:dice", weight=1.0),
    dict(type="region:jaccard", weight=1.0),
    dict(type="pixel:top_k", weight=1.0, share=0.2),
    dict(type="region:tversky", weight=1.0, gamma=0.75),
    dict(type="boundary:hausdorff", weight=0.1),
    dict(type="topology:cl_dice", weight=0.1, classes=(1, 3), iterations=2),
)
SCHEDULES = (
    dict(type="constant", warmup_steps=1),
    dict(type="poly"),
    dict(type="cosine"),
    dict(type="one_cycle"),
    dict(type="step", every_steps=1),
)
SOURCES = (
    dict(type="synthetic", size=(48, 48), num_examples=8),
    dict(type="folder", root="no/such/folder"),
    dict(type="tfds", name="no_such_set"),
)
NORMALS = (
    dict(type="normalize:fixed", mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2)),
    dict(type="normalize:per_image"),
)
DEEP: list = []
for _ in range(2000):
    DEEP = [DEEP]
VALUES = (
    None, True, False, 0, -1, 1, 2, 3, 255, 1000, 10**9, 2**31, 2**63, 10**400, 10**5000,
    math.nan, math.inf, -math.inf, -0.0, 0.5, 1.0, 1.5, -0.5, 1e300, 1e-300, 1e-12,
    "", "x", "²", "x" * 10000, "a\nb", "a\0b", "none", "batch", "../x", ".", "a.b:c",
    "os.path:join", "unet", "resnet", "geometry:flip", "normalize:fixed", "pixel:focal", "adamw",
    "poly", "base",
    [], [[]], [None], [0], [-1], [1], [1, "a", None], [0, 0], [1, 1], [2, 1], [0.5, 0.5, 0.5],
    [math.nan], [1e300, 1e300], [32, 32], [32, 32, 32], [10**9, 10**9], [200_000, 200_000],
    [1] * 5000, ["x", "y"], [["x", 1]], [{}], DEEP,
    {}, {"type": "x"}, {"type": 3}, {"type": ""}, {"type": "resnet"}, {"type": "base"},
    {"a": {"b": []}}, {"0": 0}, {"*": 1, "1-3": 0},
)  # fmt: skip


def base(rng: random.Random) -> dict:
    """Return a small right config of parts that the seed chooses."""
    config = sections.plain(quickstart.get_config("debug"))
    name = rng.choice(list(zoo.ZOO))
    config["model"] = dict(type=name, **zoo.ZOO[name].debug)
    if "encoder" in config["model"] and rng.random() < 0.5:
        config["model"]["encoder"] = dict(rng.choice(ENCODERS))
    if rng.random() < 0.1:
        config["model"]["pretrained"] = dict(weights="torchvision:resnet18")
    config["augment"] = [dict(op) for op in rng.sample(OPS, 2)]
    config["task"]["losses"] = [dict(loss) for loss in rng.sample(LOSSES, 2)]
    kind = rng.choice(("sgd", "adam", "adamw", "lamb"))
    config["optimizer"] = dict(type=kind, lr=0.1, schedule=dict(rng.choice(SCHEDULES)))
    config["input"]["source"] = dict(rng.choices(SOURCES, (8, 1, 1))[0])
    config["normalize"] = dict(rng.choice(NORMALS))
    config["mesh"]["data"] = -1
    return sections.plain(schema.fill(config))


def places(config: dict) -> list[tuple]:
    """Return the path of every key that a config has or could have, in its sections and lists."""
    found = [*_leaves(config, ())]
    typed = dict(PLACES)
    typed |= {("augment", i): "augment" for i in range(len(config["augment"]))}
    typed |= {("task", "losses", i): "losses" for i in range(len(config["task"]["losses"]))}
    for path, package in typed.items():
        section = config
        try:
            for key in path:
                section = section[key]
            symbol = lookup.resolve(package, section["type"], where="config")
        except (KeyError, TypeError):
            continue
        found += [(*path, name) for name in lookup.configurable(symbol, ())]
    durations = [("total",), ("log",), ("checkpoint", "save"), ("evals", "val", "every")]
    found += [(*p[:-1], f"{p[-1]}_{unit}") for p in durations for unit in schedule.UNITS]
    return [*dict.fromkeys(found)]


def _leaves(node, path: tuple):
    items = node.items() if isinstance(node, dict) else enumerate(node)
    for key, value in items:
        yield (*path, key)
        if isinstance(value, dict) or (isinstance(value, list) and any(map(_is_dict, value))):
            yield from _leaves(value, (*path, key))


def _is_dict(value) -> bool:
    return isinstance(value, dict)


def near(value, rng: random.Random, depth: int = 4):
    """Return a value that is nearly another one: of another sign, size, kind or length.

    Lists in lists are looked into to a depth.
    """
    if isinstance(value, bool):
        return rng.choice((int(value), str(value), [value]))
    if isinstance(value, (int, float)) and abs(value) < 1e300:
        return rng.choice(
            (-value, value + 1, value * 2, value / 2, str(value), [value], value == 1)
        )
    if isinstance(value, list) and value and depth:
        short, long = value[:-1], [*value, value[-1]]
        inside = [near(x, rng, depth - 1) for x in value]
        return rng.choice((short, long, value[::-1], inside, value[0]))
    if isinstance(value, str):
        return rng.choice((value + "s", value[:-1], value.upper(), [value], value + ":x"))
    return rng.choice(VALUES)


def spoil(config: dict, rng: random.Random) -> tuple[dict, str]:
    """Return a config with one to three values changed, and which."""
    config, said = copy.deepcopy(config), []
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        path = rng.choice(places(config) if not said else [*_leaves(config, ())])
        node = config
        for key in path[:-1]:
            node = node[key]
        key = path[-1]
        old = node.get(key) if isinstance(node, dict) else node[key]
        value = copy.copy(rng.choice(VALUES)) if rng.random() < 0.5 else near(old, rng)
        way = rng.random()
        if way < 0.04 and isinstance(node, dict):
            key = rng.choice((f"{key}x", "²", "a\nb", "x" * 1000, ""))
        elif way < 0.07 and isinstance(node, dict):
            node.pop(key, None)
            said.append(f"{path} dropped")
            continue
        node[key] = value
        said.append(f"{path[:-1]}.{key} = {rules.shown(value)}")
    return config, "; ".join(said)


def refused(run, *, seconds: float = SECONDS) -> str | None:
    """Run it; return the line that refuses it, or None."""
    begun = time.process_time()
    try:
        with files.named_os_errors():
            run()
        line = None
    except UserError as error:
        line = str(error)
        assert line and "\n" not in line and len(line) <= LONGEST, line
    assert time.process_time() - begun < seconds
    return line


def fuzz(seed: int, count: int, folder, *, traced: int) -> tuple[int, int]:
    """Try `count` configs; return how many were accepted, and how many of those could be traced."""
    rng, accepted, traceable = random.Random(seed), 0, 0
    for number in range(count):
        config, said = spoil(base(rng), rng)
        kept = []

        def check(config=config, kept=kept):
            setup, _ = setup_lib.make_setup(config)
            transfer.options(setup.config["model"])
            evaluators = setup_lib.make_evaluators(setup.config, setup.parts, setup.clock)
            checks.check_saving(setup, evaluators)
            workdir.check(folder / "run", setup.resolved(), allow_change=False)
            kept.append(setup)

        try:
            refused(check)
            if kept:
                accepted += 1
            if kept and traceable < traced and accepted % 3 == 0:
                keys = [jax.random.key(0)] * 2
                refused(functools.partial(program.trace, kept[0], *keys), seconds=10 * SECONDS)
                traceable += 1
        except Exception as error:
            raise AssertionError(f"seed {seed}, config {number}: {said}") from error
    assert not any(folder.iterdir()), "nothing is written"
    return accepted, traceable


def test_a_hundred_configs(tmp_path):
    accepted, _ = fuzz(0, 100, tmp_path, traced=0)
    assert 0 < accepted < 95, "the changes are neither all harmless nor all refused"


@pytest.mark.slow
def test_two_thousand_configs(tmp_path):
    accepted, traceable = fuzz(1, 2000, tmp_path, traced=20)
    assert accepted > 60 and traceable == 20
