"""The page about formats names them all, and what the mode offers."""

import re

from segjax.commands import cli
from segjax.data.formats import convert, kinds
from tests import program


def test_the_page_has_a_line_for_each_format_and_names_every_flag():
    text = (program.ROOT / "docs" / "formats.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \|", text, re.M)
    assert rows == list(kinds.FORMATS)
    for name in (*convert.CHOICES, "class_map", "class_names", "background", "split", "link",
                 "components", "divisor", "images", "property"):  # fmt: skip
        assert name in cli.flags_of("convert") and f"--{name}" in text, name
    for name, choices in convert.CHOICES.items():
        assert f"--{name}={'|'.join(choices)}" in text or name == "holes", name
