"""A file of ONNX predicts what the run does, and says in one line why it cannot be used."""

import functools
import json
import types

import numpy as np
import pytest
import scipy.special

import segjax
from configs import zoo
from experiments.export import study, untrained
from experiments.export.untrained import images, of_model
from segjax.commands import export as command
from segjax.errors import ConfigError, DataError, UserError
from segjax.export import exported, onnx_graph, onnx_simpler, quantize

onnx = pytest.importorskip("onnx", reason="see requirements.txt")
onnxruntime = pytest.importorskip("onnxruntime", reason="see requirements.txt")
converter = pytest.mark.skipif(
    not __import__("importlib.util").util.find_spec("jax2onnx"), reason=onnx_graph.INSTALL
)
pytestmark = converter


@pytest.fixture(scope="module")
def unet(tmp_path_factory):
    return of_model("unet", tmp_path_factory.mktemp("unet"))


@pytest.fixture(scope="module")
def file(unet, tmp_path_factory):
    path = tmp_path_factory.mktemp("out") / "unet.onnx"
    lines = exported.write_onnx(unet, path)
    assert "step 3" in lines[0] and str(path) in lines[0] and "0.0000 %" in lines[1]
    return path


def test_images_of_any_size_are_predicted_as_the_run_does(unet, file):
    """Twenty of five sizes: outputs within 1e-4, at most 0.01 % of the pixels."""
    opened = segjax.open_run(file)
    line = exported.compare(unet, opened, images(count=4))
    assert "run on 20 images" in line
    assert opened.step == 3 and opened.facts()["image_scales"] == [1.0, 1.0]
    assert untrained.classes_seen(opened) > 1, "one class tells nothing"


def test_another_program_finds_all_in_the_file(unet, file):
    """Answers of onnxruntime alone, for a batch of any size, and what it says of itself."""
    session = onnxruntime.InferenceSession(file)
    about = session.get_modelmeta().custom_metadata_map
    resolved = unet.config["resolved"]
    assert json.loads(about["class_names"]) == list(resolved["class_names"])
    assert json.loads(about["palette"]) == np.asarray(resolved["palette"]).tolist()
    assert json.loads(about["size"]) == [64, 96] and about["step"] == "3"
    assert len(about["hash"]) == 64 and "run" in about
    for count in (1, 3):
        batch = np.random.default_rng(0).integers(0, 256, (count, 64, 96, 3)).astype(np.uint8)
        scores, probabilities, classes = session.run(None, {"image": batch})
        assert classes.dtype == np.uint8 and classes.shape == (count, 64, 96)
        np.testing.assert_array_equal(classes, scores.argmax(-1))
        powers = np.exp(scores - scores.max(-1, keepdims=True))
        expected = powers / powers.sum(-1, keepdims=True)
        np.testing.assert_allclose(probabilities, expected, atol=1e-5)


@pytest.mark.slow
def test_a_bare_file_takes_normalised_images(unet, tmp_path):
    path = tmp_path / "bare.onnx"
    exported.write_onnx(unet, path, bare=True)
    session = onnxruntime.InferenceSession(path)
    assert [x.type for x in session.get_inputs()] == ["tensor(float)"]
    assert [x.name for x in session.get_outputs()] == ["scores"]
    exported.compare(unet, segjax.open_run(path), images())


def damaged(path, how):
    model = onnx.load_model(path)
    properties = {each.key: each for each in model.metadata_props}
    about = json.loads(properties["segjax"].value)
    if how == "weights":
        raw = bytearray(model.graph.initializer[0].raw_data)
        raw[0] ^= 1
        model.graph.initializer[0].raw_data = bytes(raw)
    elif how == "newer":
        about["version"] = 99
    elif how == "stranger":
        about["config"]["model"]["type"] = "os.path:join"
    elif how == "elsewhere":
        array = model.graph.initializer[0]
        array.ClearField("raw_data")
        array.data_location = onnx.TensorProto.EXTERNAL
        array.external_data.add(key="location", value="/etc/passwd")
    elif how == "operation":
        model.graph.node[0].op_type = "NoSuchOperation"
    elif how == "domain":
        model.graph.node[0].domain = "example.com"
    if how in ("elsewhere", "operation", "domain"):
        about["hash"] = onnx_graph.digest(model)
    properties["segjax"].value = json.dumps(about)
    if how == "other":
        del model.metadata_props[:]
    path.write_bytes(model.SerializeToString())


def test_a_file_that_cannot_be_used_is_told_why(file, tmp_path):
    expected = {
        "weights": "its content is not what its hash says",
        "newer": "is of version 99, and this segjax reads up to 2",
        "stranger": "os.path:join",
        "elsewhere": "asks for the file of",
        "operation": "cannot run it",
        "domain": "asks for operations of 'example.com'",
        "other": "segjax did not write",
    }
    for how, words in expected.items():
        path = tmp_path / f"{how}.onnx"
        path.write_bytes(file.read_bytes())
        damaged(path, how)
        with pytest.raises(UserError, match=words) as error:
            exported.open_file(path)
        assert str(path) in str(error.value) and "\n" not in str(error.value)
    for content in (b"", b"\x08", b"\x08\x0a\xff\xff\xff", file.read_bytes()[:1000]):
        (tmp_path / "torn.onnx").write_bytes(content)
        with pytest.raises(DataError, match=r"torn\.onnx"):
            exported.open_file(tmp_path / "torn.onnx")
    with pytest.raises(DataError, match=r"gone\.onnx: No such file"):
        exported.open_file(tmp_path / "gone.onnx")
    with pytest.raises(ConfigError, match="sees windows of .64, 96., and the override"):
        exported.open_file(file, overrides=["inference.size=[32, 32]"])
    with pytest.raises(DataError, match="images of float32, and the exported file takes uint8"):
        exported.open_file(file).predictor()(images(np.float32)[0])


def test_what_is_not_the_run_is_not_kept(unet, tmp_path, monkeypatch):
    """One weight in a graph is changed: the check sees it."""
    make = onnx_graph.make

    def wrong(run, **options):
        model = make(run, **options)
        kernels = [x for x in model.graph.initializer if len(x.dims) == 4]
        array = onnx.numpy_helper.to_array(kernels[0])
        kernels[0].CopyFrom(onnx.numpy_helper.from_array(array * 1.1, kernels[0].name))
        return model

    monkeypatch.setattr(onnx_graph, "make", wrong)
    with pytest.raises(DataError, match="not that of the run: run on .* Nothing was kept"):
        exported.write_onnx(unet, tmp_path / "x.onnx")
    assert not [*tmp_path.iterdir()]


def test_what_no_file_can_hold_is_told_before_it_is_made(unet, monkeypatch):
    monkeypatch.setattr(onnx_graph, "MOST_BYTES", 1000)
    with pytest.raises(ConfigError, match=r"an ONNX file holds at most 1,000\. Use --format=stab"):
        onnx_graph.make(unet)


def graph_of(*nodes, constants=()):
    """Return a graph from `x` [2] to the output of the last node."""
    one = functools.partial(onnx.helper.make_tensor_value_info, elem_type=1, shape=[2])
    return onnx.helper.make_model(
        onnx.helper.make_graph(
            [onnx.helper.make_node(*node) for node in nodes], "g", [one("x")],
            [one(nodes[-1][2][0])], [onnx.numpy_helper.from_array(*each) for each in constants],
        ),
        opset_imports=[onnx.helper.make_opsetid("", 21)], ir_version=10,
    )  # fmt: skip


def test_only_the_larger_of_a_value_and_zero_is_a_relu():
    zero, one = (np.float32(0), "zero"), (np.float32(1), "one")
    nodes = [("Max", ["x", "zero"], ["a"]), ("Max", ["one", "a"], ["b"]), ("Neg", ["x"], ["c"]),
             ("Max", ["b", "a"], ["y"])]  # fmt: skip
    model = graph_of(*nodes, constants=[zero, one])
    x = np.array([-2, 3], np.float32)
    before = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": x})
    onnx_simpler.rectify(model)
    assert [node.op_type for node in model.graph.node] == ["Relu", "Max", "Max"]
    assert [each.name for each in model.graph.initializer] == ["one"]
    after = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": x})
    np.testing.assert_array_equal(before, after)


def test_a_sigmoid_has_no_least_value():
    """onnxruntime's own ends at 1.5e-8."""
    model = graph_of(("Sigmoid", ["x"], ["a"]), ("Neg", ["a"], ["y"]))
    onnx_simpler.spell_sigmoids(model)
    for x in ([-30, -20], [-1, 0], [5, 30], [-80, 100]):
        x = np.array(x, np.float32)
        (found,) = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": x})
        np.testing.assert_allclose(-found, scipy.special.expit(x.astype(float)), rtol=1e-5)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (dict(format="onnx", output="x.bin"), "expected a name in .onnx"),
        (dict(format="stablehlo", int8=True), "--int8 is of --format=onnx alone"),
        (dict(output="x.onnx", int8=True, bare=True), "do not go together"),
        (dict(output="x.onnx", publisher="smp"), "does not go with it"),
        (dict(format="onx"), "--format='onx' is none of"),
    ],
)
def test_flags_that_do_not_go_together(given, words):
    flags = dict(format="", publisher="", output="x.segjax", platforms=["cpu"], bare=False)
    with pytest.raises(ConfigError, match=words):
        command.format_of(types.SimpleNamespace(**flags | dict(int8=False) | given))


def quickstart_run(tmp_path):
    """Return a run on data that is at hand, with the quickstart's network untrained."""
    from configs import quickstart
    from segjax.config import sections

    config = sections.plain(quickstart.get_config("debug"))
    return untrained.untrained(config, tmp_path)


@pytest.mark.slow
def test_int8_is_scored_and_timed_and_kept_only_where_it_is_as_good(tmp_path):
    run, path = quickstart_run(tmp_path), tmp_path / "x.onnx"
    with pytest.raises(DataError, match="may be lost. Nothing was kept"):
        quantize.write(run, path, images=4, largest_loss=-1.0)
    assert not path.exists()
    lines = quantize.write(run, path, images=4, largest_loss=0.1)
    assert "int8 of 4 training images" in lines[0]
    assert "in float32" in lines[1] and "times as fast" in lines[2]
    operations = {node.op_type for node in onnx.load_model(path).graph.node}
    assert {"QuantizeLinear", "DequantizeLinear", "Conv"} <= operations
    opened = segjax.open_run(path)
    of_file, of_run = (each.evaluate("val")[0].headline for each in (opened, run))
    assert of_file.keys() == of_run.keys() - {"loss"}, "a file has no loss"
    assert f"{of_file['mIoU']:.4f} in int8" in lines[1]


def test_the_table_is_drawn_from_the_records():
    """Every model of the zoo is in it, and each bound holds or a reason stands there."""
    rows = study.latest()
    assert [row["model"] for row in rows] == list(zoo.ZOO)
    assert study.table(rows) in study.README.read_text()
    for row in rows:
        assert row["classes"] > 1, "one class tells nothing"
        for form in ("stablehlo", "onnx"):
            found = row[form]
            assert found.get("reason") or (
                found["relative"] <= exported.RELATIVE
                and found["wrong"] <= exported.PIXELS * found["pixels"]
            ), (row["model"], form)


@pytest.mark.slow
def test_openvino_answers_the_same(file):
    openvino = pytest.importorskip("openvino", reason="pip install openvino")
    batch = np.stack([image[:48, :64] for image in images() if image.shape >= (48, 64)])
    batch = np.pad(batch, ((0, 0), (0, 16), (0, 32), (0, 0)))
    own = onnxruntime.InferenceSession(file).run(["scores"], {"image": batch})[0]
    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    model = openvino.compile_model(openvino.Core().read_model(file), "CPU", settings)
    other = model({"image": batch})["scores"]
    assert np.abs(own - other).max() <= 1e-4 * np.abs(own).max()
