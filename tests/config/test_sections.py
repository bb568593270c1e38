import subprocess
import sys

import ml_collections
import pytest

from segjax.config import sections
from segjax.errors import ConfigError


def test_structure_arguments_take_the_type_of_their_default():
    arg = sections.parse_arg(
        "encoder=resnet101,debug,stride=8", encoder="r", debug=False, stride=16
    )
    assert (arg.encoder, arg.debug, arg.stride) == ("resnet101", True, 8)


@pytest.mark.parametrize(
    ("text", "said"),
    [("encodr=x", "Did you mean 'encoder'"), ("stride=big", "expected int"), ("a,a", "unknown"),
     ("debug=maybe", "expected bool"), ("stride=1,stride=2", "twice")],
)  # fmt: skip
def test_wrong_structure_arguments_are_errors(text, said):
    with pytest.raises(ConfigError, match=said):
        sections.parse_arg(text, encoder="r", debug=False, stride=16)


def test_the_fingerprint_is_of_the_values_only():
    one = ml_collections.ConfigDict(dict(b=(1, 2), a=dict(x=1.0)))
    two = {"a": {"x": 1.0}, "b": [1, 2]}
    assert sections.fingerprint(one) == sections.fingerprint(two)
    assert sections.fingerprint(one) != sections.fingerprint({"a": {"x": 1.5}, "b": [1, 2]})
    assert len(sections.fingerprint(one)) == 12


def test_text_has_one_sorted_line_for_every_leaf():
    text = sections.to_text(dict(b=[dict(type="x", p=1)], a=dict(size=(2, 3)), c=[]))
    assert text == "a.size = [2, 3]\nb[0].p = 1\nb[0].type = 'x'\nc = []\n"


def test_values_that_are_not_plain_data_are_refused():
    with pytest.raises(ConfigError, match="not plain data"):
        sections.plain({"a": object()})


def test_override_changes_existing_keys_only():
    old = {"evals": {"val": {"split": "val", "batch_size": 8}}, "augment": [{"p": 0.5}]}
    new = sections.override(
        old, ["evals.val.batch_size=3", "evals.val.split=test", "augment[0].p=1"]
    )
    assert new["evals"]["val"] == {"split": "test", "batch_size": 3}
    assert new["augment"] == [{"p": 1.0}]
    assert old["evals"]["val"]["batch_size"] == 8
    for wrong, said in (
        ("evals.val.batchsize=3", "Did you mean 'evals.val.batch_size'"),
        ("evals.val.batch_size=many", "expected int"),
    ):
        with pytest.raises(ConfigError, match=said):
            sections.override(old, [wrong])


def test_an_unknown_top_level_section_is_an_error():
    with pytest.raises(ConfigError, match="Did you mean 'optimizer'"):
        sections.check_top_level({"optimiser": {}})
    with pytest.raises(ConfigError, match="needs .*model.*total_steps"):
        sections.check_top_level({"seed": 0})


def test_configs_never_import_jax():
    code = "import sys, segjax.config.lookup, segjax.config.sections, configs.quickstart; "
    code += "configs.quickstart.get_config(); sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
