"""The README of the experiments on video is drawn from what they recorded."""

from experiments.video import smoothing, speed


def test_the_tables_are_those_of_the_records():
    text = smoothing.README.read_text()
    vote = smoothing.latest(smoothing.RESULTS, "kind", "method")
    assert len(vote) == len(smoothing.KINDS) * len(smoothing.METHODS)
    assert smoothing.redraw(text, smoothing.BEGIN, smoothing.END, smoothing.table(vote)) == text
    rates = smoothing.latest(speed.RESULTS, *speed.KEYS)
    assert {each["type"] for each in rates} <= {*speed.RUNTIMES}
    shown = {(each["height"], each["width"]) for each in rates if each["type"] == "float32"}
    assert shown >= {*speed.SIZES}
    assert smoothing.redraw(text, speed.BEGIN, speed.END, speed.table(rates)) == text


def test_the_vote_that_docs_recommend_flickers_less_and_is_no_less_right():
    found = {
        (each["kind"], each["method"]): each
        for each in smoothing.latest(smoothing.RESULTS, "kind", "method")
    }
    for kind in smoothing.KINDS:
        plain, vote = found[kind, "none"], found[kind, "vote of 5"]
        assert vote["flicker"] < 0.75 * plain["flicker"] and vote["miou"] >= plain["miou"]
