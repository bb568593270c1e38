import pytest

from segjax.config import spelling


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("configs/unet_camvid.py", "model=unet"),
        ("configs/unet_camvid.py:debug", "model=unet,size=debug"),
        ("configs/fcn_camvid.py:dilated", "model=fcn_dilated"),
        ("configs/fcn_camvid.py:dilated,cpu", "model=fcn_dilated,size=cpu"),
        ("configs/encoder_unet_camvid.py:encoder=mit_b0", "model=encoder_unet,encoder=mit_b0"),
        (
            "configs/segformer_camvid.py:variant=b5,pretrained=hf:nvidia/mit-b5",
            "model=segformer,variant=b5,pretrained=hf:nvidia/mit-b5",
        ),
    ],
)
def test_a_file_for_each_model_is_now_an_argument(old, new):
    for before in ("", "--config=", "-config=", "--config=/some/where/"):
        assert spelling.modern(before + old) == f"{before}configs/camvid.py:{new}"


@pytest.mark.parametrize(
    "word",
    ["run.py", "--config=configs/quickstart.py:debug", "--config=configs/camvid.py:model=unet",
     "--workdir=runs/unet_camvid", "--input=configs/unet_camvid.png"],
)  # fmt: skip
def test_all_else_stays(word):
    assert spelling.modern(word) == word


def test_a_file_that_exists_stays(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "my_camvid.py").touch()
    assert spelling.modern("--config=configs/my_camvid.py:cpu") == (
        "--config=configs/my_camvid.py:cpu"
    )


def test_what_changes_is_said(capsys):
    words = ["run.py", "--config=configs/unet_camvid.py:cpu", "--workdir=x"]
    assert spelling.modernize(words)[1:] == [
        "--config=configs/camvid.py:model=unet,size=cpu",
        "--workdir=x",
    ]
    assert capsys.readouterr().err == (
        "--config=configs/unet_camvid.py:cpu is now written "
        "--config=configs/camvid.py:model=unet,size=cpu\n"
    )
