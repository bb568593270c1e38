"""What experiments/augment times exists, and its page shows what was measured."""

from experiments.augment import study, works
from segjax.augment import compose
from segjax.config import lookup


def test_the_tables_are_drawn_from_the_records():
    text, records = study.README.read_text(), study.load()
    assert records and study.redraw(text, records) == text


def test_every_work_is_an_op_that_a_config_may_have():
    for work in works.WORKS.values():
        if work.section["type"]:
            takes = {"takes": compose.OP, "or_takes": compose.MIXES}
            lookup.check("augment", work.section, where=work.section["type"], **takes)


def test_nnunets_set_costs_less_than_its_own_library():
    """On two cores, in one run: what was recorded last."""
    record = [record for record in study.load() if record["work"] == works.POLICY][-1]
    own = study.run_of(record, "segjax", "float32")
    others = [run for run in record["runs"] if run["side"] == "others"]
    assert record["cores"] == 2 and {run["variant"] for run in others} == {"threads", "processes"}
    assert own["median"] < min(run["median"] for run in others)
