"""What experiments/drift says is what was found, and what issue 18 asks for."""

from experiments.drift import table


def test_the_table_is_drawn_from_the_records():
    text = (table.HERE / "README.md").read_text()
    assert table.redraw(text, table.load()) == text


def test_changed_streams_raise_alerts_and_the_clean_one_none():
    found = {row["stream"]: row["first_alert"] for row in table.load()}
    assert found.pop("clean") is None
    kinds = ("darkened", "blurred", "noisy", "wrong camera", "shifted classes")
    for kind in kinds:
        alerts = [first for name, first in found.items() if name.startswith(kind)]
        assert alerts and all(first is not None and first <= 200 for first in alerts), kind
