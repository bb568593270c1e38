"""What no run can use is refused by its key; what a run is too old to have is its default."""

import contextlib
import copy
import hashlib
import inspect
import json
import math

import ml_collections
import pytest

from configs import camvid, quickstart
from segjax.assemble import program
from segjax.config import schedule, schema, sections
from segjax.data import pipeline
from segjax.errors import ConfigError
from segjax.runs import checkpoint
from segjax.runtime import sharding


def put(config: dict, path: str, value) -> dict:
    """Return a copy with `value` at a path like `input.size` or `augment.0.type`."""
    config = copy.deepcopy(config)
    *parents, leaf = path.split(".")
    node = config
    for name in parents:
        node = node[int(name)] if isinstance(node, list) else node[name]
    node[leaf] = value
    return config


def drop(config: dict, path: str) -> dict:
    config = copy.deepcopy(config)
    *parents, leaf = path.split(".")
    node = config
    for name in parents:
        node = node[name]
    del node[leaf]
    return config


FINGERPRINT = "4138fd024951"
"""Of a config, as the code before `schema.LATER` had it."""


@pytest.fixture
def config():
    return schema.fill(quickstart.get_config("debug"))


def knobs(table, prefix=""):
    """Yield the path of every plain value that the schema knows, and its rule."""
    for name, spec in table.items():
        if isinstance(spec, schema.Knob):
            yield prefix + name, spec.rule, spec.doc
        elif isinstance(spec, schema.Duration):
            for unit in spec.units:
                yield f"{prefix}{name}_{unit}", schedule.rule_of(unit), spec.doc
        elif isinstance(spec, schema.Typed):
            below = prefix + name + (".val." if spec.many is dict else ".")
            yield from knobs(spec.common, below)
        else:
            yield from knobs(spec, f"{prefix}{name}.")


KNOBS = {path: (rule, doc) for path, rule, doc in knobs(schema.CONFIG)}


def in_no_unit(config: dict, path: str) -> dict:
    """Return the config without the duration that `path` is one unit of."""
    stem, _, unit = path.rpartition("_")
    for other in schedule.UNITS if unit in schedule.UNITS else ():
        with contextlib.suppress(KeyError):
            config = drop(config, f"{stem}_{other}")
    return config


def test_the_schema_knows_the_knobs():
    assert {"seed", "input.threads", "optimizer.lr_factors", "evals.val.every_epochs",
            "checkpoint.save_percent", "mesh.fsdp", "trials.lr"} <= set(KNOBS)  # fmt: skip
    assert all(doc.endswith(".") and "\n" not in doc for _, doc in KNOBS.values())


@pytest.mark.parametrize("path", KNOBS)
@pytest.mark.parametrize("value", [None, math.nan, math.inf, {"a": 1}, [None], -(10**9)], ids=repr)
def test_no_knob_takes_nonsense(path, value, config):
    """The message is one line of key, value, what was expected, and what the key is for."""
    rule, doc = KNOBS[path]
    wrong = put(in_no_unit(config, path), path, value)
    with pytest.raises(ConfigError) as raised:
        schema.check(wrong)
    text = str(raised.value)
    assert text == f"config.{path}={value!r}: expected {rule.expected}. {doc}"


@pytest.mark.parametrize(
    ("path", "good", "bad"),
    [
        ("seed", [0, 2**32 - 1], ["0", 1.0, True, [0], 2**32]),
        ("microbatches", [1, 4], [0, 1.0, "1"]),
        ("ema_decay", [0, 0.0, 0.999], [1, 1.0, True, "0.9"]),
        ("log_batch_hashes", [True, False], [0, 1, "true"]),
        ("deterministic_reduction", [0, 8], [1.5, False]),
        ("total_steps", [0, 10], [1.5, "10"]),
        ("log_steps", [0, 1], [0.5]),
        ("input.split", ["train"], ["", 3]),
        ("input.batch_size", [1, 100], [0, 8.0, "8", True]),
        ("input.size", [[32], [32, 40], [1, 32, 32], (64, 64)],
         [[], [31], [32, 31], [32, 16, 32], [0, 32, 32], [32.0, 32], 32, [1, 32, 32, 32], "32"]),
        ("input.fit", ["pad", "resize", "window"], ["crop", 1]),
        ("input.spacing", [[], [1], [0.5, 2.0, 1e9]], [[0], [-1.0], ["a"], 1, [1, 1, 1, 1]]),
        ("input.label_resampling", ["nearest", "linear"], ["cubic", 1]),
        ("input.window.share", [0, 1, 1 / 3], [-0.1, 1.5, True, "third"]),
        ("input.window.classes", [[], [0, 254, "car"], ("a",)], [[255], [-1], [""], "car", [0.5]]),
        ("input.pad_value", [0, 255, 127.5, -1024, 65535], [1e7, -1e7, True]),
        ("input.threads", [0, 16], [-1, 2.0, "2"]),
        ("input.workers", [0, 2], [-1, 1.0]),
        ("input.prefetch", [1], [0]),
        ("input.cache", [True], [1, "yes"]),
        ("mesh.space", [-1, 1, 4], [0, -2, 1.0]),
        ("trials.seed", [[], [1, 2], (3, 4)], [[1, -1], [1.5, 2], 3, ["a", "b"]]),
        ("trials.lr", [[1, 0.5]], [[0, 1], [0.1, math.inf], "fast"]),
        ("checkpoint.save_percent", [0, 12.5, 100], [101, -1]),
        ("checkpoint.keep_last", [1], [0]),
        ("checkpoint.mode", ["min"], ["most"]),
        ("checkpoint.keep_best", ["", "val/dice"], [1]),
        ("optimizer.lr", [1, 1e-9], [0, -1.0, "fast", True]),
        ("optimizer.clip_norm", [0, 0.5], [-1]),
        ("optimizer.decay", ["all"], ["some"]),
        ("optimizer.freeze", [[], ["encoder/.*"]], ["encoder/.*", ["encoder/("], [1]]),
        ("optimizer.lr_factors", [[["encoder/.*", 0.1]], [["a", 0], ["b", 2]]],
         [["encoder/.*", 0.1], [["a", -1]], [["a", "fast"]], [["a"]], [["(", 1]]]),
        ("evals.val.batch_size", [1], [0, 8.0]),
        ("evals.val.split", ["test"], [""]),
    ],
)  # fmt: skip
def test_each_range_ends_where_it_should(path, good, bad, config):
    for value in good:
        schema.check(put(in_no_unit(config, path), path, value))
    for value in bad:
        with pytest.raises(ConfigError, match=rf"^config\.{path}=.*: expected .*\."):
            schema.check(put(in_no_unit(config, path), path, value))


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("sed", "config.sed: no such key. Did you mean 'seed'"),
        ("optimiser", "config.optimiser: no such key. Did you mean 'optimizer'"),
        ("total_percent", "config.total_percent: no such key"),
        ("input.threds", "config.input.threds: no such key. Did you mean 'threads'"),
        ("mesh.dta", "config.mesh.dta: no such key. Did you mean 'data'"),
        ("trials.rate", "config.trials.rate: no such key. Known: lr, seed"),
        ("checkpoint.keep_lst", "Did you mean 'keep_last'"),
        ("checkpoint.save_stps", "Did you mean 'save_steps'"),
    ],
)
def test_an_unknown_key_is_named_with_the_nearest(path, said, config):
    with pytest.raises(ConfigError, match=said):
        schema.check(put(config, path, 1))


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("model", "config: needs 'model'"),
        ("total_steps", "config: needs 'total_steps'"),
        ("trials", "config: needs 'trials'"),
        ("input.size", "config.input: needs 'size'"),
        ("input.threads", "config.input: needs 'threads'"),
        ("model.type", "config.model: needs 'type'"),
        ("input.source.type", "config.input.source: needs 'type'"),
        ("optimizer.schedule", "config.optimizer: needs 'schedule'"),
        ("evals.val.split", "config.evals.val: needs 'split'"),
    ],
)
def test_a_missing_key_is_named(path, said, config):
    with pytest.raises(ConfigError, match=said):
        schema.check(drop(config, path))


def test_all_that_a_section_lacks_is_said_at_once():
    with pytest.raises(ConfigError, match="needs 'total_steps', .*'model'"):
        schema.check({"seed": 0})


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("input", 3, "config.input=3: expected a section"),
        ("model", "unet", "config.model='unet': expected a section with a 'type'"),
        ("model", {"type": 3}, "config.model.type=3: expected a string"),
        ("augment", {"type": "geometry:flip"}, "expected a list of sections"),
        ("augment", ["geometry:flip"], r"config.augment\[0\]='geometry:flip'"),
        ("evals", [], "expected sections by name"),
        ("evals", {"a/b": {"type": "semantic"}}, "'a/b' is no name"),
        ("optimizer.schedule", "poly", "config.optimizer.schedule='poly': expected a section"),
        ("log_epochs", 1, "log_steps and log_epochs say the same thing"),
        ("trials.seed", [1], "expected at least two values"),
    ],
)
def test_sections_have_their_shape(path, value, said, config):
    with pytest.raises(ConfigError, match=said):
        schema.check(put(config, path, value))


def test_a_cache_for_each_worker_is_refused(config):
    with pytest.raises(ConfigError, match="cache=True with workers=2"):
        schema.check(put(put(config, "input.workers", 2), "input.cache", True))


def test_what_a_type_names_takes_its_own_keys(config):
    schema.check(put(config, "model.anything", object.__name__))
    schema.check(put(config, "optimizer.momentum", 0.9))


def test_holes_of_ml_collections_hide_nothing():
    """A dict that is assigned unlocks its section; a None takes values of any type."""
    config = quickstart.get_config("debug")
    config.lock()
    config.mesh = dict(data=-1, fsdp=1, space=1)
    config.mesh.dta = 2
    with pytest.raises(ConfigError, match="Did you mean 'data'"):
        schema.check(config)
    del config.mesh.dta
    config.mesh.data = None
    with pytest.raises(ConfigError, match="config.mesh.data=None: expected -1 or"):
        schema.check(config)
    config.mesh.data = "all"
    with pytest.raises(ConfigError, match="config.mesh.data='all'"):
        schema.check(config)


def test_an_old_run_has_the_defaults_of_what_came_later(config):
    old = copy.deepcopy(config)
    for path in ("trials", "microbatches", "log_steps", "input.prefetch", "checkpoint.root",
                 "checkpoint.save_percent", "optimizer.freeze"):  # fmt: skip
        old = drop(old, path)
    old["resolved"] = {"channels": 3}
    filled = schema.fill(old)
    assert filled.pop("resolved") == {"channels": 3}
    assert filled == config and sections.plain(filled) == filled
    assert old != config, "what is given is left alone"
    assert schema.fill(config) == config == schema.fill(quickstart.get_config("debug"))


def test_what_is_wrong_is_filled_as_far_as_it_goes_and_then_refused(config):
    for path, value in (("input", 3), ("augment", 3), ("evals", [1]), ("optimizer", "adam")):
        wrong = schema.fill(put(config, path, value))
        assert wrong[path] == value
        with pytest.raises(ConfigError, match=f"config.{path}"):
            schema.check(wrong)


def test_a_default_is_of_each_config_s_own():
    schema.defaults().augment.append({"type": "geometry:flip"})
    schema.defaults().task.losses[0]["weight"] = 2.0
    assert schema.defaults().augment == [] and schema.defaults().task.losses[0]["weight"] == 1.0


def test_defaults_can_be_set_from_the_shell():
    config = camvid.get_config()
    for path in ("optimizer.freeze", "optimizer.lr_factors", "trials.lr", "input.size"):
        assert isinstance(config[path.split(".")[0]][path.split(".")[1]], tuple), path


def test_the_fingerprint_is_of_the_values_only():
    one = ml_collections.ConfigDict(dict(b=(1, 2), a=dict(x=1.0)))
    two = {"a": {"x": 1.0}, "b": [1, 2]}
    assert schema.fingerprint(one) == schema.fingerprint(two)
    assert schema.fingerprint(one) != schema.fingerprint({"a": {"x": 1.5}, "b": [1, 2]})
    assert len(schema.fingerprint(one)) == 12


def test_the_fingerprint_of_an_old_run_is_that_of_the_same_config_today(config):
    old = drop(drop(config, "trials"), "input.prefetch")
    assert schema.fingerprint(old) == schema.fingerprint(config)
    assert schema.fingerprint(put(old, "input", config["input"] | {"prefetch": 5})) != (
        schema.fingerprint(config)
    )


def test_fingerprints_do_not_move_when_a_key_is_added():
    """Those that runs have recorded stay: a key that came later counts where it is no default."""
    before = schema.defaults().to_dict() | {"model": {"type": "unet"}, "total_steps": 5}
    before["evals"] = {"val": {"type": "semantic", "split": "val", "batch_size": 8}}
    assert schema.fingerprint(before) == FINGERPRINT, "leave new keys out, see schema.LATER"
    for path, value in (
        ("early_stopping", {"metric": "val/miou"}), ("writers", []), ("evals.val.examples", 5),
        ("input.sampling.by", "repeat_factor"),
    ):  # fmt: skip
        assert schema.fingerprint(put(before, path, value)) != FINGERPRINT, path


def test_a_run_from_before_a_key_is_known_by_the_file_that_it_wrote(config):
    """Its fingerprint is of the keys that there were then, all of which the file has."""
    old = drop(drop(config, "trials"), "inference.blend")
    then = hashlib.sha256(
        json.dumps(old, sort_keys=True, separators=(",", ":")).encode()
    ).hexdigest()[:12]
    assert then != schema.fingerprint(old) and schema.is_made_from(then, old)
    assert schema.is_made_from(schema.fingerprint(config), config)
    assert not schema.is_made_from(then, put(old, "seed", 9))


def test_a_section_is_completed_alone():
    short = dict(type="sgd", lr=1, schedule=dict(type="constant"), momentum=0.5)
    whole = schema.complete("optimizer", short)
    assert whole == short | {"clip_norm": 0.0, "decay": "kernels", "freeze": [], "lr_factors": []}
    with pytest.raises(
        ConfigError, match=r"config.optimizer.lr=0: expected a number above 0, up to 1e.06\."
    ):
        schema.complete("optimizer", short | {"lr": 0})


def parameters(function) -> set[str]:
    return set(inspect.signature(function).parameters)


def test_every_key_has_a_reader():
    """Of the sections whose reader is one function."""
    elsewhere = {"source", "split", "fields", "intensity", "sampling", *program.RESAMPLING}
    assert set(schema.INPUT) - elsewhere <= parameters(pipeline.train_batches)
    assert set(schema.MESH) == parameters(sharding.make_mesh) - {"trials"}
    assert set(schema.CHECKPOINT) - {"save"} <= parameters(checkpoint.Checkpointer)
