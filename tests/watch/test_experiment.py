"""What experiments/drift says is what was found, and what issue 18 asks for."""

from experiments.drift import images, table


def test_the_table_is_drawn_from_the_records():
    text = (table.HERE / "README.md").read_text()
    assert table.redraw(text, table.load()) == text
    assert images.redraw(text, images.load()) == text


def test_changed_streams_raise_alerts_and_the_clean_one_none():
    found = {row["stream"]: row["first_alert"] for row in table.load()}
    assert found.pop("clean") is None
    kinds = ("darkened", "blurred", "noisy", "wrong camera", "shifted classes")
    for kind in kinds:
        alerts = [first for name, first in found.items() if name.startswith(kind)]
        assert alerts and all(first is not None and first <= 200 for first in alerts), kind


def test_images_alone_tell_most_changes_and_alarm_at_no_clean_stream():
    found = {row["stream"]: row["first_alert"] for row in images.load()}
    assert sum(name.startswith("clean") for name in found) == 14
    for name, first in found.items():
        if name.startswith("clean") or name == "red and blue exchanged":  # that the network sees
            assert first is None, name
        else:
            assert first is not None and first <= 200, name
