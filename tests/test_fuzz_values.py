"""Values and texts of any kind, as Hypothesis finds them: right, or refused in one line."""

import json
import unicodedata

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from configs import quickstart
from segjax.config import annotations, lookup, schema, sections
from segjax.errors import UserError, printable
from segjax.runtime import reading
from tests import test_argument_types

EXAMPLES = 2000
LONGEST = 500
NUMBERS = (
    st.integers() | st.floats() | st.sampled_from((2**31, 2**63, 10**400, -0.0, 1e300, 1e-300))
)
PLAIN = st.none() | st.booleans() | NUMBERS | st.text(max_size=30)
VALUES = st.recursive(
    PLAIN,
    lambda x: st.lists(x, max_size=4) | st.dictionaries(st.text(max_size=9), x, max_size=3),
    max_leaves=8,
)  # fmt: skip
many = settings(
    max_examples=EXAMPLES, deadline=None, database=None, derandomize=True,
    suppress_health_check=[*HealthCheck],
)  # fmt: skip
few = settings(many, max_examples=50)


def in_a_line(run) -> None:
    """Run it: it succeeds, or refuses in one printable line that is not too long."""
    try:
        run()
    except UserError as error:
        line = printable(error)  # as it leaves
        assert line and "\n" not in line and len(line) <= LONGEST, line


def arguments() -> list[tuple[str, object]]:
    """Return the place and annotation of every argument that a config can give."""
    return [
        (f"config.{kind}.{name}", parameter.annotation)
        for kind, (symbol, own) in test_argument_types.TYPES.items()
        for name, parameter in lookup.configurable(symbol, own).items()
    ]


def check_annotation(where, annotation, value):
    fault = annotations.fault(annotation, value, where)
    if fault is not None:
        assert fault.where.startswith(where) and fault.expected


def put(config, path, value):
    *head, last = path
    for key in head:
        config = config[key]
    config[last] = value


def leaves(config, path=()):
    for key, value in config.items() if isinstance(config, dict) else enumerate(config):
        yield (*path, key)
        if isinstance(value, (dict, list)):
            yield from leaves(value, (*path, key))


CONFIG = json.dumps(schema.fill(quickstart.get_config("debug")))
PLACES = list(leaves(json.loads(CONFIG)))


def check_schema(path, value):
    config = json.loads(CONFIG)
    put(config, path, value)
    in_a_line(lambda: schema.check(schema.fill(config)))


def check_override(text):
    in_a_line(lambda: sections.override(json.loads(CONFIG), [text]))


def check_json(content):
    try:
        found = reading.parse_json(content)
    except ValueError as error:
        assert "\n" not in str(error)
    else:
        json.dumps(found, allow_nan=False)


def check_printable(text):
    shown = printable(text)
    assert printable(shown) == shown
    assert not {unicodedata.category(each) for each in shown} & {"Cc", "Cs", "Cn", "Zl", "Zp"}
    assert not set(shown) & set("\u202a\u202b\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f")
    shown.encode("utf-8")
    if text.isprintable():
        assert shown == text


TEXTS = st.text() | st.text(alphabet="\x1b[0;1mK\r\n\u202e\u2066\udcff\x9b\u2028é字", max_size=40)
OVERRIDES = (
    st.sampled_from([".".join(map(str, path)) for path in PLACES]) | st.text(max_size=30)
).flatmap(lambda key: (VALUES.map(repr) | TEXTS).map(lambda value: f"{key}={value}")) | TEXTS
JSONS = st.binary(max_size=200) | VALUES.map(
    lambda value: json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")
)
CHECKS = {
    "schema": (check_schema, (st.sampled_from(PLACES), VALUES)),
    "override": (check_override, (OVERRIDES,)),
    "json": (check_json, (JSONS,)),
    "printable": (check_printable, (TEXTS,)),
}


@pytest.mark.parametrize("name", CHECKS)
def test_a_few(name):
    check, strategies = CHECKS[name]
    few(given(*strategies)(check))()


@pytest.mark.slow
@pytest.mark.parametrize("name", CHECKS)
def test_two_thousand(name):
    check, strategies = CHECKS[name]
    many(given(*strategies)(check))()


@pytest.mark.slow
def test_two_thousand_values_of_arguments():
    known = arguments()
    assert len(known) > 200
    many(
        given(st.sampled_from(known), VALUES)(lambda known, value: check_annotation(*known, value))
    )()
