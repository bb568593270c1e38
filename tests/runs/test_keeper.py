"""When training is asked to end early, and when not."""

import types

import pytest

from segjax.runs.keeper import Keeper, Next


@pytest.mark.parametrize(("enough", "then"), [(True, Next.ENOUGH), (False, Next.GO_ON)])
@pytest.mark.parametrize("logged", [False, True])
def test_whoever_is_asked_after_a_score_is_asked_after_one_that_was_made_up_for(
    tmp_path, enough, then, logged
):
    """The rule: a run that was cut short in an evaluation takes the decision that was due there."""
    asked, saved = [], []
    saver = types.SimpleNamespace(keep_best="val/miou", save=lambda *what: saved.append(what))
    config = {"early_stopping": {"metric": ""}}
    run = types.SimpleNamespace(path=tmp_path, saver=saver, config=config)
    keeper = Keeper(
        [run],
        [types.SimpleNamespace(every_steps=2, metrics=lambda: ["val/miou"])],
        predictor=lambda variables: None,
        take=lambda state, number: state,
        log=types.SimpleNamespace(total_steps=8),
        watchdog=types.SimpleNamespace(now=lambda *_: None),
        preempted=lambda: False,
        on_score=lambda *what: asked.append(what) or enough,
        about=lambda step: {},
    )  # fmt: skip
    keeper.score = lambda run, number, state: ({"val/miou": 0.5}, False)
    if logged:
        (tmp_path / "metrics.jsonl").write_text('{"step": 2, "val/miou": 0.5}\n')
    assert keeper.catch_up(2, None) is (Next.GO_ON if logged else then)
    assert asked == ([] if logged else [(run, 2, {"val/miou": 0.5})])
    assert len(saved) == (not logged), "and its checkpoint has its rank"
