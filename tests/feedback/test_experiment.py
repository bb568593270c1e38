"""What experiments/feedback says is what was found, and what issue 18 asks for."""

from experiments.feedback import table


def test_the_table_is_drawn_from_the_records():
    text = (table.HERE / "README.md").read_text()
    assert table.redraw(text, table.load()) == text


def test_corrections_help_and_poison_is_refused():
    rows = table.load()
    for row in [row for row in rows if row["case"] == "corrected"]:
        assert row["weave_new"] - row["weave_old"] >= 0.1
        assert row["holdout_second"] - row["holdout_first"] >= -0.01
        assert row["usual_new"] - row["usual_old"] >= -0.01
    poison = [row for row in rows if row["case"] != "corrected"]
    assert {row["case"] for row in poison} == {"noise", "exchanged", "squares"}
    assert not any(row["promoted"] for row in poison)
