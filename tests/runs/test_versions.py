"""Versions of a run: which is in use, and the way back."""

import json

import pytest

from segjax.errors import DataError, UserError
from segjax.runs import versions


def make(workdir, *numbers):
    for number in numbers:
        (workdir / versions.FOLDER / versions.name_of(number)).mkdir(parents=True)


def test_a_run_without_versions_is_its_own(tmp_path):
    assert versions.current(tmp_path) == tmp_path
    assert versions.known(tmp_path) == [versions.FIRST]


def test_promoted_refused_and_rolled_back(tmp_path):
    make(tmp_path, 1, 2, 3)
    versions.record(tmp_path, "v0001", "promoted", "better")
    versions.record(tmp_path, "v0002", "refused", "worse")
    assert versions.current(tmp_path).name == "v0001"
    versions.record(tmp_path, "v0003", "promoted", "better still")
    assert versions.roll_back(tmp_path, "previous") == "v0001"
    assert versions.roll_back(tmp_path, "v0000") == "v0000"
    assert versions.current(tmp_path) == tmp_path
    actions = [event["action"] for event in versions.load(tmp_path)["history"]]
    assert actions == ["promoted", "refused", "promoted", "rolled back", "rolled back"]


def test_what_is_not_there_is_said(tmp_path):
    make(tmp_path, 1)
    with pytest.raises(DataError, match="there is no version before. It has: v0000, v0001"):
        versions.roll_back(tmp_path, "previous")
    with pytest.raises(UserError, match="--rollback"):
        versions.roll_back(tmp_path, "v0007")
    versions.record(tmp_path, "v0001", "promoted", "")
    (tmp_path / versions.FOLDER / "v0001").rmdir()
    with pytest.raises(DataError, match="--rollback=v0000"):
        versions.current(tmp_path)
    versions.roll_back(tmp_path, "v0000")
    assert versions.current(tmp_path) == tmp_path


@pytest.mark.parametrize("content", [[], {"current": 3, "history": []}, {"current": "v0000"}, "x"])
def test_another_file_is_refused(tmp_path, content):
    (tmp_path / versions.INDEX).write_text(json.dumps(content))
    with pytest.raises(DataError, match="is not what --mode=retrain writes"):
        versions.load(tmp_path)


def test_a_name_out_of_the_folder_is_no_version(tmp_path):
    (tmp_path / versions.INDEX).write_text(json.dumps({"current": "../../x", "history": []}))
    with pytest.raises(DataError, match="which is not there"):
        versions.current(tmp_path)
