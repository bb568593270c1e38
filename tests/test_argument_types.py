"""Every argument that a config can give says what it takes."""

import importlib
import inspect
import typing

import pytest

from segjax.config import annotations, kinds, lookup, rules
from segjax.errors import ConfigError
from segjax.runs import transfer

TAKES = {
    "augment": (
        ("key", "sample"),
        ("key", "sample", "other"),
        ("key", "sample", "other", "third", "fourth"),
        ("image",),
    ),
    "losses": (("logits", "label"),),
    "metrics": (("seen",),),
    "training.optim": (("rate", "mask"), ()),
    "inference.postprocess": (("state",),),
}
GIVEN = {
    "models": ["num_classes"],
    "baselines": ["num_classes"],
    "encoders": ["remat", "compute_dtype", "param_dtype", "name"],
    "data": ["split"],
    "tasks": ["num_classes"],
    "evaluators": ["name", "source", "classes"],
    "inference.postprocess": ["class_names"],
    ("training.optim", ()): ["lr", "total_steps"],
}
FOR_TAKERS = {"tasks": ["things", "total_steps", "amounts"]}
"""What the program supplies to those parts alone that take it."""


def types():
    """Yield package, name and class or function of every type that a config may name."""
    for package in ("models", "baselines", "encoders", "data", "augment", "losses", "metrics",
                    "tasks", "evaluators", "training.optim", "inference.postprocess"):  # fmt: skip
        for module in lookup.modules(package) or [""]:
            found = importlib.import_module(f"segjax.{package}{'.' * bool(module)}{module}")
            for symbol in lookup.symbols(found):
                name, one = f"{module}:{symbol}" if module else symbol, getattr(found, symbol)
                for takes in TAKES.get(package, (None,)):
                    given = GIVEN.get((package, takes), GIVEN.get(package, []))
                    if extra := FOR_TAKERS.get(package if inspect.isclass(one) else ""):
                        given = given + [x for x in extra if x in inspect.signature(one).parameters]
                    try:
                        lookup.check(package, {"type": name}, where="x", takes=takes, given=given)
                    except ConfigError as error:
                        if "needs" not in str(error):  # an argument: it is a type all the same
                            continue
                    yield package, name, one, given


TYPES = {f"{package}:{name}": (symbol, given) for package, name, symbol, given in types()}
TYPES["pretrained"] = (transfer.Pretrained, [])


def test_these_are_the_types():
    assert {"models:unet:Model", "encoders:vit:Encoder", "data:folder:Source", "data:tfds:Source",
            "augment:geometry:affine", "augment:normalize:fixed", "losses:pixel:Focal",
            "metrics:surface:Hd95", "metrics:calibration:Ece",
            "tasks:semantic:Task", "evaluators:semantic:Evaluator", "training.optim:lamb",
            "training.optim:one_cycle", "inference.postprocess:crf"} <= set(TYPES)  # fmt: skip
    strangers = ("augment:warp:apply", "losses:boundary:to_border", "metrics:matrix:OfMargins",
                 "data:core:Source",
                 "evaluators:report:Evaluator", "training.optim:kernels_only",
                 "inference.postprocess:wrap", "models:unet:Level",
                 "models:unet:strided")  # fmt: skip
    assert not {*strangers} & {*TYPES}


def bare_numbers(annotation):
    """Yield each number in an annotation that says no range; a rule of a list is not its items'."""
    base, own = annotations.split(annotation)
    origin, arguments = typing.get_origin(base), typing.get_args(base)
    if own and (origin is None or {*arguments} == {float, int}):
        return
    if base in (int, float):
        yield base
    for argument in arguments if origin is not typing.Literal else ():
        yield from bare_numbers(argument)


@pytest.mark.parametrize("name", TYPES)
def test_every_argument_has_a_type_that_resolves_and_every_number_a_range(name):
    """So that no value reaches code that was not meant for it; defaults are in their range."""
    symbol, given = TYPES[name]
    for argument, parameter in lookup.configurable(symbol, given).items():
        annotation = annotations.resolved(symbol, parameter)
        assert annotation is not typing.Any, argument
        assert annotations.words(annotation), f"{argument}: {annotation} says nothing in words"
        assert not list(bare_numbers(annotation)), f"{argument}: {annotation}"
        if parameter.default is not inspect.Parameter.empty:
            assert annotations.fault(annotation, parameter.default, argument) is None
        for wrong in (object(), float("nan"), {1, 2}):
            assert annotations.fault(annotation, wrong, argument), f"{argument} takes {wrong}"


def test_a_number_without_a_range_would_be_seen():
    assert list(bare_numbers(int)) == list(bare_numbers(list[int])) == [int]
    assert list(bare_numbers(float | None)) == [float]
    assert list(bare_numbers(typing.Annotated[list[int], rules.length(1, 2)])) == [int]
    assert not list(bare_numbers(kinds.Widths)) and not list(bare_numbers(kinds.Probability))
