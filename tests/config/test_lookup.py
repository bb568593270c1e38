import pytest

from segjax.config import lookup
from segjax.errors import ConfigError


def build(package, where="config.x", given=None, **section):
    return lookup.build(package, section, where=where, **(given or {}))


def test_a_class_is_constructed_and_a_function_is_bound():
    model = build("models", type="unet", widths=(8, 16), given={"num_classes": 3})
    assert type(model).__module__ == "segjax.models.unet"
    assert tuple(model.widths) == (8, 16)
    op = build("augment", type="geometry:elastic", std=1.5)
    assert op.keywords == {"std": 1.5}


def test_a_class_answers_to_its_name_in_snake_case():
    loss = build("losses", type="pixel:cross_entropy", label_smoothing=0.5)
    assert (type(loss).__name__, loss.label_smoothing) == ("CrossEntropy", 0.5)
    assert type(build("losses", type="pixel:CrossEntropy")) is type(loss)
    with pytest.raises(ConfigError, match="CrossEntropy takes no 'smoothing'.*'label_smoothing'"):
        build("losses", type="pixel:cross_entropy", smoothing=0.5)


@pytest.mark.parametrize(
    ("package", "section", "said"),
    [
        ("models", dict(type="unett"), "no module segjax.models.unett. Did you mean 'unet'?"),
        (
            "models",
            dict(type="unet", width=(8,)),
            "config.x.width: segjax.models.unet.Model takes no",
        ),
        ("models", dict(type="unet", width=(8,)), "Did you mean 'widths'?"),
        ("losses", dict(type="pixel:focl"), "Did you mean 'focal'?"),
        ("losses", dict(type="pixel:crossentropy"), "Did you mean 'cross_entropy'?"),
        ("losses", dict(type="pixel"), "has no 'default symbol'"),
        ("training.optim", dict(type="adamv"), "Did you mean 'adam"),
        ("models", dict(widths=(8,)), "expected a section with a 'type' key"),
        ("losses", dict(type="nowhere.losses:mine"), "no module nowhere.losses"),
    ],
)
def test_a_wrong_section_says_what_was_meant(package, section, said):
    given = {"num_classes": 3} if package == "models" else {}
    with pytest.raises(ConfigError, match=None) as error:
        lookup.build(package, section, where="config.x", **given)
    assert said in str(error.value)


def test_a_missing_argument_is_named():
    with pytest.raises(ConfigError, match="needs mean, std"):
        build("augment", type="normalize:fixed")


def test_an_import_error_inside_a_module_is_not_disguised(tmp_path, monkeypatch):
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "broken.py").write_text("import not_installed_dependency\n")
    (tmp_path / "outside" / "losses.py").write_text("def mine(logits, label, *, a): return a\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="not_installed_dependency"):
        build("losses", type="outside.broken:loss")
    assert build("losses", type="outside.losses:mine", a=3)(None, None) == 3
