"""A value is what the annotation of its argument says, or one line says where it is not."""

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import pytest

from segjax.config import annotations, kinds, lookup, rules
from segjax.errors import ConfigError

NAN, INF = math.nan, math.inf
CASES = [
    (bool, [True, False], [0, 1, "true", None], "True or False"),
    (int, [0, -3, 2**40], [True, 1.0, "1", None, [1]], "an integer"),
    (float, [0, -2.5, 1e300], [NAN, INF, True, "1", None, 2**31, 10**400], "a finite number"),
    (str, ["", "x"], [1, None, ["x"], "x" * 5000, "a\0"], "a string"),
    (None | int, [None, 1], ["x", 1.5], "None or an integer"),
    (kinds.Factor | None, [None, 1, 0.5], [0, 17, NAN, "x"], "a number above 0, up to 16 or None"),
    (Literal["a", 2], ["a", 2], ["b", 2.0, True, None], "'a' or 2"),
    (list[int], [[], [1]], [1, "ab", {}, None], "a list, each item an integer"),
    (Sequence[str], [[], ("a",)], ["abc", {"a": 1}], "a list, each item a string"),
    (tuple[int, ...], [[], [1, 2]], ["ab"], "a list, each item an integer"),
    (tuple[int, float], [[1, 2], (1, 2.5)], [[1], [1, 2, 3], 1],
     "a list of an integer, a finite number"),
    (Mapping[str, int], [{}, {"a": 1}], [[], "a", None], "a section, keys with values"),
    (kinds.Probability, [0, 1, 0.5], [-0.1, 2, NAN, "x"], "a number from 0 to 1"),
    (kinds.Dropped, [0, 0.99], [1, 1.0, 2], "a number from 0 to below 1"),
    (kinds.Window, [1, 7], [2, 0, 65, 3.0, True], "an odd integer from 1 to 63"),
    (kinds.Stages, [[], [1] * 4], [[1], 4],
     "a list of 4 items or none, each item an integer from 1 to 65536"),
    (Annotated[Sequence[float | int], rules.interval(0, 1)], [[0, 1], [0.5, 0.5]],
     [[1, 0], [0, 2], [0]], "a list [lo, hi] with 0 <= lo <= hi <= 1, each item a finite number"),
    (Any, [None, 1, "x", [NAN]], [], ""),
    ("NotDefinedAnywhere", [None, 1], [], ""),
]  # fmt: skip


@pytest.mark.parametrize(("annotation", "good", "bad", "words"), CASES, ids=range(len(CASES)))
def test_each_kind_of_annotation_takes_its_values_and_no_others(annotation, good, bad, words):
    for value in good:
        assert annotations.fault(annotation, value, "x") is None, value
    for value in bad:
        assert annotations.fault(annotation, value, "x") == ("x", value, words)


def test_the_item_that_is_wrong_is_named():
    def where(annotation, value):
        found = annotations.fault(annotation, value, "x")
        return found and (found.where, found.value, found.expected)

    assert where(kinds.Widths, [8, 0]) == ("x[1]", 0, "an integer from 1 to 65536")
    assert where(list[list[int]], [[1], [2, "a"]]) == ("x[1][1]", "a", "an integer")
    assert where(Mapping[str, bool], {"a": 1}) == ("x.a", 1, "True or False")
    assert where(tuple[int, str], [1, 2]) == ("x[1]", 2, "a string")
    assert where(kinds.AnyNumber | Sequence[kinds.AnyNumber], [0, NAN])[0] == "x[1]"
    assert where(list[int], [0] * (rules.ITEMS + 1))[0] == "x", "endless lists are refused whole"


def part(*, p: kinds.Probability = 0.5, size: Sequence[int], free=None, text: "int" = 3):
    """Be what a section names."""


def test_a_value_is_refused_with_key_got_expected_and_remedy():
    for section, said in (
        ({"p": 2, "size": []}, r"c\.p=2: expected a number from 0 to 1\. .* out for 0\.5\.$"),
        ({"size": 3}, r"c\.size=3: expected a list, each item an integer\. Change it: .*part says"),
        ({"size": [1, None]}, r"c\.size\[1\]=None: expected an integer\."),
        ({"size": [], "text": "x"}, r"c\.text='x': expected an integer\."),
        ([1], r"c=\[1\]: expected a section"),
        ({"size": "a\n" * 999}, r"c\.size='a.n.* … .*': expected a list"),
        ({"size": 10**5000}, r"c\.size=a huge int: expected a list"),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=said) as error:
            lookup.check_arguments(part, section, (), where="c")
        assert "\n" not in str(error.value) and len(str(error.value)) < 300
    lookup.check_arguments(part, {"p": 1, "size": (1, 2), "free": object()}, (), where="c")


@pytest.mark.parametrize(
    ("name", "known", "meant"),
    [
        ("lrate", ["b1", "clip_norm", "lr", "lr_factors", "weight_decay"], "lr"),
        ("learning_rate", ["b1", "lr", "lr_factors", "schedule"], "lr"),
        ("decay_weight", ["b1", "weight_decay"], "weight_decay"),
        ("crossentropy", ["cross_entropy", "focal"], "cross_entropy"),
        ("width", ["norm", "widths"], "widths"),
        ("x" * 10000, ["norm", "widths"], ""),
        ("", ["norm", "widths"], ""),
    ],
)
def test_the_key_that_was_meant(name, known, meant):
    assert lookup.nearest(name, known) == meant


def test_an_unknown_key_of_an_optimiser_may_be_one_of_all_optimisers():
    section = {"type": "adamw", "lrate": 0.1}
    with pytest.raises(ConfigError, match="Did you mean 'lr'"):
        lookup.build("training.optim", section, where="config.optimizer", also=["lr", "clip_norm"])
