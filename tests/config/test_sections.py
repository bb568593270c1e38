import subprocess
import sys

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


def test_configs_never_import_jax():
    code = "import sys, configs.quickstart as q, configs.camvid as c; "
    code += "from segjax.config import schema, spelling; "
    code += "[schema.check(x.get_config()) for x in (q, c)]; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
