"""Checkpoints outside the workdir belong to one run; all others leave them alone."""

import pytest

from segjax.errors import ConfigError
from segjax.runs import checkpoint, owner


def opened(workdir, root, **options):
    return checkpoint.Checkpointer(workdir, keep_best="", root=str(root), **options)


def test_a_root_belongs_to_the_run_that_took_it(tmp_path):
    """A second run neither trains there nor reads there, whether or not it is there already."""
    root = tmp_path / "root"
    opened(tmp_path / "a", root).close()
    opened(tmp_path / "a", root).close()  # the same run goes on
    before = sorted(root.rglob("*"))
    for options in ({}, {"read_only": True}):
        with pytest.raises(ConfigError, match=r"belongs to the run in .*a, not .*b\. Give each"):
            opened(tmp_path / "b", root, **options)
    assert sorted(root.rglob("*")) == before and not (tmp_path / "b").exists()


def test_a_run_keeps_its_root_when_its_folder_is_renamed(tmp_path):
    opened(tmp_path / "a", tmp_path / "root").close()
    (tmp_path / "a").rename(tmp_path / "c")
    opened(tmp_path / "c", tmp_path / "root").close()


def test_checkpoints_from_before_there_were_owners(tmp_path):
    (tmp_path / "root" / "30").mkdir(parents=True)
    with pytest.raises(ConfigError, match="holds checkpoints of another run"):
        owner.check(tmp_path / "new", tmp_path / "root")
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "config.json").write_text("{}")
    owner.claim(tmp_path / "old", tmp_path / "root")
    with pytest.raises(ConfigError, match="belongs to the run in"):
        owner.check(tmp_path / "new", tmp_path / "root")


@pytest.mark.parametrize("text", ["", "[1]", "{}"])
def test_a_broken_owner_is_named(tmp_path, text):
    (tmp_path / "owner.json").write_text(text)
    with pytest.raises(ConfigError, match=r"owner\.json cannot be read|belongs to the run in \?"):
        owner.check(tmp_path / "a", tmp_path)


def test_a_root_is_a_path_like_all_others(tmp_path, monkeypatch):
    """Variables and ~ are replaced; a relative one lies in the workdir."""
    monkeypatch.setenv("SCRATCH", str(tmp_path / "x"))
    monkeypatch.setenv("HOME", str(tmp_path))
    run = tmp_path / "run"
    assert checkpoint.locate(run, "$SCRATCH/y") == tmp_path / "x" / "y"
    assert checkpoint.locate(run, "~/y") == tmp_path / "y"
    assert checkpoint.locate(run, "../y") == tmp_path / "y"
    assert checkpoint.locate(run, "") == run / "checkpoints"
    with pytest.raises(Exception, match="NOT_SET is not set"):
        checkpoint.locate(run, "$NOT_SET/y")
