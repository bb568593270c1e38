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
        ("evals.val.batch_size=many", "got a string, expected an integer as in 8"),
        ("evals.val", "no value"),
        ("augment[1].p=1", "no such key"),
        ("evals.val.split.x=1", "no such key"),
        ("evals=3", "got an integer, expected a section"),
    ):
        with pytest.raises(ConfigError, match=said):
            sections.override(old, [wrong])


def test_override_reaches_arguments_that_were_not_written():
    """A section with a type takes more than the config wrote; it is checked when it is built.

    So in a section, in a list's item, of another kind of number, and for a duration's unit.
    """
    old = {
        "input": {"source": {"type": "folder", "ignore_index": 255}},
        "task": {"losses": [{"type": "pixel:cross_entropy"}]},
        "total_steps": 5,
        "checkpoint": {"save_percent": 10},
    }
    new = sections.override(
        old,
        [
            "input.source.label_offset=-1",
            "input.source.ignore_index=(0, -1)",
            "task.losses[0].class_weights=[1, 2.5]",
            "total_epochs=3",
            "checkpoint.save_steps=20",
            "input.source.exif=false",
            "input.source.root=7",
        ],
    )
    assert new["input"]["source"] == {
        "type": "folder", "ignore_index": [0, -1], "label_offset": -1, "exif": False, "root": 7,
    }  # fmt: skip
    assert new["task"]["losses"][0]["class_weights"] == [1, 2.5]
    assert new["total_epochs"] == 3 and "total_steps" not in new
    assert new["checkpoint"] == {"save_steps": 20}
    with pytest.raises(ConfigError, match="no such key"):
        sections.override(old, ["checkpoint.safe_steps=20"])


def test_configs_never_import_jax():
    code = "import sys, configs.quickstart as q, configs.camvid as c; "
    code += "from segjax.config import schema, spelling; "
    code += "[schema.check(x.get_config()) for x in (q, c)]; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
