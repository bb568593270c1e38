"""What no one can mean is refused before anything is compiled or written, with its place."""

import math

import pytest

from segjax.assemble import setup as setup_lib
from segjax.config import sections
from segjax.errors import ConfigError

NAN, INF = math.nan, math.inf
AFFINE = {"type": "geometry:affine", "size": [48, 48]}
RESNET = {"type": "resnet", "depth": 18, "width": 4}
WEIGHTED = {"type": "pixel:cross_entropy", "weight": 1.0}


def loss(**fields):
    return {"task": {"type": "semantic", "losses": [WEIGHTED | fields]}}


def op(type_, **fields):
    return {"augment": [{"type": type_, **fields}]}


def optimizer(type_="adamw", schedule=None, **fields):
    schedule = {"type": "poly"} if schedule is None else schedule
    return {"optimizer": {"type": type_, "lr": 0.1, "schedule": schedule, **fields}}


def one_cycle(**fields):
    return optimizer(schedule={"type": "one_cycle", **fields})


def model(type_="unet", **fields):
    return {"model": {"type": type_, **fields}}


def encoder(type_="deeplabv3", **fields):
    return model(type_, encoder=RESNET | fields)


def fixed(mean, std):
    return {"normalize": {"type": "normalize:fixed", "mean": mean, "std": std}}


def inputs(**fields):
    return {"input": fields}


WRONG = [
    ({"microbatches": 0}, "microbatches=0: expected an integer from 1"),
    ({"microbatches": 3}, "microbatches=3: does not divide config.input.batch_size=8"),
    ({"ema_decay": 2}, "ema_decay=2"), ({"ema_decay": -1}, "ema_decay=-1"),
    (inputs(threads=-1), "threads=-1"), (inputs(workers=-1), "workers=-1"),
    (inputs(threads=10**6), "threads=1000000"), (inputs(prefetch=10**9), "prefetch=10000000"),
    (inputs(pad_value=1e7), "pad_value=1"), (inputs(size=[48, "48"]), "input.size="),
    (inputs(size="48"), "input.size='48'"), (inputs(size=[48, 48, 48, 48]), "input.size="),
    (inputs(size=[200_000, 200_000]), r"\[200000, 200000\], take 8345 GiB, expected at most 256"),
    (inputs(batch_size=10**8), "batch_size=100000000 .* GiB, expected at most 256 GiB"),
    (inputs(source={"type": "synthetic", "size": [10**5, 10**5]}), "10000000000 pixels"),
    (inputs(source={"type": "synthetic", "seed": -1}), "source.seed=-1"),
    (inputs(source="synthetic"), "config.input.source='synthetic': expected a section"),
    (model(widths=[0, 8]), r"model.widths\[0\]=0"), (model(widths=[8, -8]), r"widths\[1\]=-8"),
    (model(widths=[8, 10**6]), r"widths\[1\]=1000000"), (model(widths=[8] * 99), "2 to 16 items"),
    (model(dropout=1.0), "dropout=1.0"), (model(dropout=2), "dropout=2"),
    (model(convs_per_level=0), "convs_per_level=0"), (model(3), "model.type=3"),
    (model(["unet"]), "model.type="), (model(compute_dtype="int8"), "compute_dtype='int8'"),
    (model(compute_dtype="float64"), "computes in 32 bits. Set .* JAX_ENABLE_X64=1"),
    (model("unet:Level"), "unet.Level is of another kind"), (model("base"), "no module"),
    (model("bisenetv2:Head"), "Head is of another kind"), (model("..:x"), "expected a name"),
    (model("deeplabv3", encoder="resnet"), "model.encoder='resnet': expected a section"),
    (encoder(depth=20), "model.encoder.depth=20: expected 18 or 34 or 50 or 101"),
    (encoder(output_stride=4), "model.encoder.output_stride=4: expected 8 or 16 or 32"),
    (encoder(width=-4), "model.encoder.width=-4"), (encoder(stages=9), "encoder.stages=9"),
    (model("fcn", window=4, encoder=RESNET), "model.window=4: expected an odd"),
    (loss(weight=NAN), "weight=nan"), (loss(weight=-1), "weight=-1"),
    (loss(weight="1"), "weight='1'"), (loss(weight=True), "weight=True"),
    (loss(class_weights=[0] * 8), "at least one above 0"), (loss(class_weights=[1]), "expected 8"),
    (loss(class_weights=[NAN] * 8), r"class_weights\[0\]=nan"),
    (loss(class_weights=[-1] * 8), r"class_weights\[0\]=-1"),
    (loss(class_weights=["a"] * 8), r"class_weights\[0\]='a'"),
    (loss(class_weights="heavy"), "class_weights='heavy'"),
    (loss(type="boundary:to_border"), "to_border is of another kind"),
    (optimizer(lr=-1), "lr=-1"), (optimizer(lr=INF), "lr=inf"), (optimizer(lr=1e300), "lr=1e.300"),
    (optimizer(clip_norm=-1), "clip_norm=-1"), (optimizer(weight_decay=-0.1), "weight_decay=-0.1"),
    (optimizer(b1=1.0), "b1=1.0"), (optimizer(b2=-0.1), "b2=-0.1"), (optimizer(eps=0), "eps=0"),
    (optimizer("sgd", momentum=-0.9), "momentum=-0.9"), (optimizer("sgd", nesterov=1), "rov=1"),
    (optimizer("poly"), "poly is of another kind"), (optimizer("kernels_only"), "of another kind"),
    (optimizer(schedule={"type": "adam"}), "adam is of another kind"),
    (optimizer(lrate=0.1), "Did you mean 'lr'"), (one_cycle(rise=2), "schedule.rise=2"),
    (one_cycle(start_factor=0), "schedule.start_factor=0"),
    (optimizer(schedule={"type": "step", "every_steps": 0}), "every_steps=0"),
    (optimizer(schedule={"type": "poly", "warmup_percent": 101}), "warmup_percent=101"),
    (optimizer(schedule={"type": "poly", "warmup_steps": "x"}), "warmup_steps='x'"),
    (op("geometry:flip", horizontal=2), r"augment\[0\].horizontal=2"),
    (op("photometric:gamma", exponent=[1, 2], p=2), r"augment\[0\].p=2"),
    (op("photometric:gamma", exponent=[2, 1]), "exponent="),
    ({"augment": [AFFINE | {"scale": [2, 0.5]}]}, r"scale=\[2, 0.5\].* lo <= hi"),
    ({"augment": [AFFINE | {"scale": [0.5, "x"]}]}, r"scale\[1\]='x'"),
    ({"augment": [AFFINE | {"size": [48]}]}, "affine.size="),
    ({"augment": [AFFINE | {"size": [10**5, 10**5]}]}, "augmented batches .* GiB"),
    (op("geometry:elastic", std=1, grid=2.5), "grid=2.5"), (op("warp:apply"), "of another kind"),
    (op("geometry:Axis"), "of another kind"), (op("normalize:fixed", mean=0, std=1), "other kind"),
    (fixed([0, 0, 0], [1, 1, 0]), r"std\[2\]=0"), (fixed([0, 0], [1, 1]), "3 channel"),
    (fixed(0, 0), "std=0"), (fixed(NAN, 1), "mean=nan"),
    ({"evals": {"val": {"type": "report", "split": "val", "batch_size": 8}}}, "of another kind"),
    ({"evals": {"val": {"type": "semantic", "split": "val", "batch_size": 8, "threads": -1}}},
     "evals.val.threads=-1"),
    ({"evals": {"val": {"type": "semantic", "split": "val", "batch_size": 10**9}}}, "GiB, expect"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "said"), WRONG, ids=range(len(WRONG)))
def test_what_no_one_can_mean_is_refused(changes, said, tiny_config):
    """Every kind of range, in every kind of section: the config of one wrong value is one line."""
    config = tiny_config()
    for key, value in changes.items():
        config[key] = config[key] | value if key == "input" else value
    with pytest.raises(ConfigError, match=said) as error:
        setup, _ = setup_lib.make_setup(config)
        setup_lib.make_evaluators(setup.config, setup.parts, setup.clock)
    assert "\n" not in str(error.value) and len(str(error.value)) <= 500


def test_the_ends_of_ranges_are_in_them(tiny_config):
    for changes in (
        {"total_steps": 0, **one_cycle()},
        {"microbatches": 8, "ema_decay": 0},
        one_cycle(rise=0), one_cycle(rise=1),
        optimizer("sgd", momentum=0, weight_decay=0, clip_norm=0),
        op("geometry:flip", horizontal=1, vertical=0),
        {"augment": [AFFINE | {"scale": (1, 1), "rotate": 180, "shift": 0}]},
        fixed(0, [1, 1, 1]), loss(weight=1, class_weights=[0] * 7 + [1]),
        model(widths=[1, 1], dropout=0, stem_stride=4),
        inputs(threads=0, prefetch=1, pad_value=255),
    ):  # fmt: skip
        config = tiny_config()
        for key, value in changes.items():
            config[key] = config[key] | value if key == "input" else value
        setup_lib.make_setup(config)


def test_deep_lists_and_endless_integers_are_refused():
    deep = []
    for _ in range(5000):
        deep = [deep]
    for value, said in ((deep, "more than 16 deep"), (10**5000, "a huge int is beyond 64 bits")):
        with pytest.raises(ConfigError, match=said):
            sections.plain({"a": value})
