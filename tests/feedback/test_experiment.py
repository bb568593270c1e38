"""What experiments/feedback says is what was found, and what issue 18 asks for."""

from experiments.feedback import study, table


def test_the_table_is_drawn_from_the_records():
    text = (table.HERE / "README.md").read_text()
    assert table.redraw(text, table.load()) == text


def test_corrections_help_and_poison_is_refused():
    """Each kind of right masks helps on new scenes of its own; the gate lets those pass alone.

    What earlier gates asked of single images refused right masks too, and their records stay.
    """
    rows = table.load()
    right = [row for row in rows if row["case"] in ("corrected", *study.GOOD)]
    now = [row for row in right if row["tested_by"] == study.TESTED_BY]
    assert {row["case"] for row in now} >= {*study.GOOD}
    assert all(row["promoted"] for row in now)
    for row in right:
        kind = study.kind_of(row["case"])
        assert row[f"{kind}_new"] - row[f"{kind}_old"] >= 0.1
        assert row["holdout_second"] - row["holdout_first"] >= -0.01
        assert row["usual_new"] - row["usual_old"] >= -0.01
    poison = [row for row in rows if row not in right]
    kinds = {row["case"].removeprefix("weave, ") for row in poison}
    assert kinds >= {"noise", "exchanged", "squares", "moved", "classes exchanged", "one class"}
    assert kinds <= {*study.POISON} and not any(row["promoted"] for row in poison)


def test_what_a_model_says_of_masks_tells_right_ones_from_others():
    """Right masks are never suspected, moved and renamed ones are where it knows the scenes."""
    rows = table.doubts()
    assert len(rows) == 3 * len(study.KINDS) * (2 + len(study.POISON))
    for row in rows:
        if row["masks"] in ("right", "half judged"):
            assert not row["suspected"], row
        told = ("moved", "classes exchanged", "classes rotated", "one class")
        if row["masks"] in told and row["scenes"] in ("weave", "usual"):
            assert row["suspected"], row
