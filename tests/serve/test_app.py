"""What is asked for is answered, exactly as the predictor has it."""

import base64
import concurrent.futures
import io
import json
import time

import numpy as np
import pytest
from fastapi.testclient import TestClient

from segjax.data.formats import rle
from segjax.errors import DataError
from segjax.inference.outputs import maps
from segjax.serve import answers
from segjax.serve import app as app_lib
from segjax.serve.service import Service
from segjax.views import colour
from tests.serve.conftest import LIMITS, Kept
from tests.serve.served import npy, picture, pixels_of

IMAGE = picture(50, 70)


def post(client, content=IMAGE, query="", name="x.png", **fields):
    files = {"image": (name, content)} | {
        key: value for key, value in fields.items() if isinstance(value, tuple)
    }
    texts = {key: value for key, value in fields.items() if isinstance(value, str)}
    return client.post(f"/v1/predict?{query}", files=files, data=texts)


@pytest.fixture(scope="session")
def expected(network):
    found = network(pixels_of(IMAGE))
    return found.classes, found.probabilities()


def shares(values):
    """Return numbers from 0 to 1 as a PNG of 16 bits has them."""
    return np.rint(values.astype(np.float64) * 65535).astype(np.uint16)


def test_the_classes_are_those_of_the_predictor(client, expected):
    answer = post(client, query="format=png")
    assert answer.status_code == 200 and answer.headers["content-type"] == "image/png"
    np.testing.assert_array_equal(pixels_of(answer.content), expected[0])
    found = np.load(io.BytesIO(post(client, query="format=npy").content))
    np.testing.assert_array_equal(found, expected[0])
    found = np.load(io.BytesIO(post(client, query="format=probabilities").content))
    np.testing.assert_array_equal(found, expected[1])
    entropy = pixels_of(post(client, query="format=entropy").content)
    np.testing.assert_allclose(entropy, shares(maps.entropy(expected[1])), atol=1)
    confidence = pixels_of(post(client, query="format=confidence").content)
    np.testing.assert_array_equal(confidence, shares(expected[1].max(-1)))


def test_the_overlay_is_that_of_the_command(client, served, expected):
    answer = post(client, query="format=overlay")
    assert answer.headers["content-type"] == "image/png"
    found = pixels_of(answer.content)
    mixed = colour.overlay(pixels_of(IMAGE), expected[0], served.classes.palette)
    assert (found[:50, :70] == mixed).mean() > 0.9 or found.shape != mixed.shape
    assert found.size >= mixed.size


def test_json_says_all_of_it(client, expected):
    include = ",".join(answers.INCLUDES)
    found = post(client, query=f"include={include}").json()
    label, probabilities = expected
    assert found["size"] == [50, 70] and found["model"] == "tiny" and found["step"] == 7
    assert [each["name"] for each in found["classes"]] == list("abcdef") and found["void"] == 0
    pixels = 0
    for each in found["classes"]:
        runs = rle.decompress(each["rle"]["counts"], where="test")
        mask = rle.coco_mask(runs, tuple(each["rle"]["size"]), where="test")
        np.testing.assert_array_equal(mask, label == each["number"])
        assert each["pixels"] == mask.sum() and each["share"] == mask.mean()
        pixels += each["pixels"]
    assert pixels == label.size
    regions = found["polygons"]["features"]
    assert sum(region["properties"]["pixels"] for region in regions) == label.size
    content = {name: base64.b64decode(found[name]["base64"]) for name in
               ("label", "probabilities", "uncertainty")}  # fmt: skip
    np.testing.assert_array_equal(pixels_of(content["label"]), label)
    np.testing.assert_array_equal(np.load(io.BytesIO(content["probabilities"])), probabilities)
    entropy = maps.entropy(probabilities)
    np.testing.assert_allclose(found["uncertainty"]["mean"], entropy.mean(), rtol=1e-5)
    np.testing.assert_allclose(pixels_of(content["uncertainty"]), shares(entropy), atol=1)
    plain = post(client).json()
    assert not {"polygons", "label", "probabilities", "uncertainty"} & set(plain)
    assert "rle" not in plain["classes"][0]


@pytest.mark.parametrize("prefix", ["", "data:image/png;base64,"])
def test_json_and_forms_are_answered_alike(client, expected, prefix):
    text = prefix + base64.b64encode(IMAGE).decode()
    answer = client.post("/v1/predict?format=npy", json={"image": text})
    np.testing.assert_array_equal(np.load(io.BytesIO(answer.content)), expected[0])


@pytest.mark.parametrize("form", ["PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP"])
@pytest.mark.parametrize("name", ["", "photo.jpg", "../../etc/passwd.png", "x"])
def test_pictures_are_told_by_what_is_in_them(client, form, name):
    mode = "RGB" if form != "GIF" else "L"
    content = picture(20, 30, form=form, mode=mode)
    answer = post(client, content, name=name or f"a.{form.lower()}")
    assert answer.status_code == 200, answer.text
    assert answer.json()["size"] == [20, 30]


def test_arrays_are_taken_where_no_value_changes(client, network):
    array = np.random.default_rng(1).integers(0, 255, (33, 41, 3)).astype(np.uint8)
    expected = network(array).classes
    for kind in ("uint8", "int64", "uint16"):
        answer = post(client, npy(array.astype(kind)), "format=npy", name="x.npy")
        assert answer.status_code == 200, answer.text
        np.testing.assert_array_equal(np.load(io.BytesIO(answer.content)), expected)
    for bad in (
        array + 0.5,
        array.astype(np.float32),
        array.astype(np.int32) * 300,
        array[..., :2],
        array[0],
    ):
        assert post(client, npy(bad), name="x.npy").status_code == 422


def test_requests_at_once_are_answered_as_one_by_one(client):
    contents = [picture(20 + 7 * n, 60 - 5 * n, seed=n) for n in range(8)]
    alone = [post(client, each, "format=npy").content for each in contents]
    compiled = value(client, "segjax_compilations_total")
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for _ in range(3):
            together = pool.map(lambda each: post(client, each, "format=npy").content, contents)
            assert list(together) == alone
    assert value(client, "segjax_compilations_total") == compiled, "nothing is compiled after it"


def value(client, name):
    """Return the sum of what is counted under a name."""
    lines = client.get("/metrics").text.splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))


def test_what_is_served_is_said(client):
    (model,) = client.get("/v1/models").json()["models"]
    assert model["name"] == "tiny" and model["axes"] == 2 and model["feedback"]
    assert model["formats"] == [
        "json", "npy", "png", "overlay", "probabilities", "confidence", "entropy", "geojson",
    ]  # fmt: skip
    for form in model["formats"]:
        assert post(client, query=f"format={form}").status_code == 200
    assert post(client, query="model=tiny").status_code == 200
    answer = post(client, query="model=other")
    assert answer.status_code == 404 and "tiny is" in answer.json()["error"]["message"]


def test_every_request_has_a_name(client):
    answer = client.get("/healthz", headers={"X-Request-Id": "mine-1"})
    assert answer.json() == {"alive": True} and answer.headers["x-request-id"] == "mine-1"
    for bad in ("a b", "x" * 65, "../x"):
        assert client.get("/healthz", headers={"X-Request-Id": bad}).headers["x-request-id"] != bad
    answer = client.get("/nowhere")
    assert answer.json()["error"]["request"] == answer.headers["x-request-id"]


def test_requests_are_counted(client):
    before = value(client, 'segjax_requests_total{route="/v1/predict",status="200"}')
    windows = value(client, "segjax_windows_total")
    post(client)
    post(client, query="format=nonsense")
    assert value(client, 'segjax_requests_total{route="/v1/predict",status="200"}') == before + 1
    assert value(client, "segjax_windows_total") == windows + 4, "50x70 in windows of 32x40"
    for _ in range(5):
        client.get(f"/nowhere{_}")
    assert 'route="other"' in client.get("/metrics").text
    assert "nowhere" not in client.get("/metrics").text


def test_the_page_and_its_description_are_there(client):
    page = client.get("/")
    assert (
        "<script src" in page.text
        and "default-src 'self'" in page.headers["content-security-policy"]
    )
    assert client.get("/page.js").headers["content-type"].startswith("text/javascript")
    assert client.get("/page.css").status_code == 200
    paths = client.get("/openapi.json").json()["paths"]
    assert {"/v1/predict", "/v1/models", "/v1/feedback", "/healthz", "/readyz", "/metrics"} == set(
        paths
    )
    body = paths["/v1/predict"]["post"]["requestBody"]["content"]
    assert set(body) == {"multipart/form-data", "application/json"}
    assert client.get("/docs").status_code == 200


def feedback(client, label=None, name="label.npy", image=IMAGE, **texts):
    files = {"image": ("x.png", image)} | ({"label": (name, label)} if label else {})
    return client.post("/v1/feedback", files=files, data=texts)


def test_feedback_is_kept_with_what_was_predicted(client, expected):
    rows, label = client.service.store.rows, expected[0].copy()
    label[:10] = 255
    label[10:20] = 5
    before = client.get("/v1/feedback").json()["version"]
    answer = feedback(client, npy(label), flagged="true", note="ön", request="r-1")
    assert answer.status_code == 201 and answer.json()["id"] == f"id{before + 1}"
    assert client.get("/v1/feedback").json() == {"version": before + 1}
    row = rows[-1]
    assert row["image"] == IMAGE and row["suffix"] == ".png" and row["flagged"] is True
    assert (row["note"], row["request"], row["model"]) == ("ön", "r-1", "tiny step 7")
    np.testing.assert_array_equal(row["label"], label)
    np.testing.assert_array_equal(row["prediction"], expected[0])
    assert row["label"].dtype == np.uint8
    answer = feedback(client, picture(50, 70, mode="L"), "label.png", flagged="no")
    assert answer.status_code == 422
    grey = np.zeros((50, 70), np.uint8)
    answer = feedback(client, png_of(grey), "label.png")
    assert answer.status_code == 201 and (rows[-1]["label"] == 0).all()
    assert rows[-1]["request"] == answer.headers["x-request-id"]
    assert feedback(client, note="look").status_code == 201 and rows[-1]["label"] is None


def png_of(array):
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(array).save(stream, "PNG")
    return stream.getvalue()


BAD_FEEDBACK = {
    "nothing said": (dict(), "nothing is said"),
    "another size": (dict(label=npy(np.zeros((51, 70), np.uint8))), "the label has 51x70"),
    "no such class": (dict(label=npy(np.full((50, 70), 6, np.uint8))), "class 6, expected 0..5"),
    "negative": (dict(label=npy(np.full((50, 70), -1, np.int16))), "class -1"),
    "fractions": (dict(label=npy(np.full((50, 70), 0.5))), "label"),
    "colours": (dict(label=IMAGE, name="label.png"), "class numbers"),
    "jpeg": (dict(label=picture(50, 70, form="JPEG", mode="L"), name="a.jpg"), "JPEG"),
    "a long note": (dict(note="x" * 5000), ""),
    "no flag": (dict(note="x", flagged="maybe"), "true or false"),
    "no request": (dict(note="x", request="../../x"), "X-Request-Id"),
}


@pytest.mark.parametrize("case", BAD_FEEDBACK)
def test_bad_feedback_is_refused_and_nothing_kept(client, case):
    given, words = BAD_FEEDBACK[case]
    before = client.service.store.version()
    answer = feedback(client, **given)
    assert answer.status_code in (400, 422) and words in answer.json()["error"]["message"]
    assert client.service.store.version() == before


def other(served, **options):
    """Return a client of another service of the same model."""
    service = Service(served, options.pop("limits", LIMITS), **options)
    service.served.warm()
    return service, TestClient(app_lib.make_app(service), raise_server_exceptions=False)


def test_keys_are_asked_for(served):
    service, client = other(served, keys=["k1", "k2"])
    with client:
        until_ready(service)
        for path in ("/v1/models", "/metrics", "/v1/feedback"):
            answer = client.get(path)
            assert answer.status_code == 401 and answer.headers["www-authenticate"] == "Bearer"
        assert post(client).status_code == 401
        for path in ("/healthz", "/readyz", "/", "/page.js"):
            assert client.get(path).status_code == 200
        client.headers["Authorization"] = "Bearer k2"
        assert client.get("/v1/models").status_code == 200 and post(client).status_code == 200
        assert client.get("/v1/feedback").status_code == 404, "there is no --feedback"
        assert client.get("/v1/models", headers={"Origin": "http://evil"}).status_code == 403


def test_what_a_store_cannot_take_names_no_folder(served):
    class Broken(Kept):
        def add(self, image, **about):
            raise DataError(f"{self.root}/images/x.png: is full of sand.")

    service, client = other(served, store=Broken())
    with client:
        until_ready(service)
        answer = feedback(client, note="x")
    assert answer.status_code == 422 and "secret" not in answer.text and "sand" in answer.text


def until_ready(service, seconds=60.0):
    """Wait for the thread that warms up: it says so itself, at any time."""
    end = time.monotonic() + seconds
    while not service.ready:
        assert time.monotonic() < end, "was never ready"
        time.sleep(0.01)


def test_before_it_is_ready_and_at_the_end_it_says_so(served):
    service, client = other(served)
    with client:
        until_ready(service)
        service.ready = False
        assert client.get("/readyz").status_code == 503 and client.get("/healthz").is_success
        answer = post(client)
        assert answer.status_code == 503 and answer.headers["retry-after"]
        service.ready = service.admission.draining = True
        assert client.get("/readyz").status_code == 503 and post(client).status_code == 503


def test_more_than_the_queue_holds_are_refused_at_once(served):
    service, client = other(served)
    with client:
        until_ready(service)
        service.admission.requests = LIMITS.queue
        answer = post(client, bytes(LIMITS.bytes))
        assert answer.status_code == 429 and answer.headers["retry-after"] == "1"
        assert answer.json()["error"]["request"] == answer.headers["x-request-id"]
        assert client.get("/v1/models").status_code == client.get("/readyz").status_code == 200
        counted = 'segjax_requests_total{route="/v1/predict",status="429"} 1.0'
        assert counted in client.get("/metrics").text
        service.admission.requests = 0
        assert post(client).status_code == 200


def test_an_error_of_its_own_is_told_without_words_of_it(served, monkeypatch):
    service, client = other(served)
    with client:
        until_ready(service)

        def fail(*_):
            raise RuntimeError("/very/secret")

        monkeypatch.setattr(answers, "json_of", fail)
        answer = post(client)
    assert answer.status_code == 500 and "secret" not in answer.text
    assert answer.json()["error"]["message"].endswith("(RuntimeError).")


def test_what_watches_sees_every_image(served, expected):
    class Watching:
        def __init__(self):
            self.seen = []

        def observe(self, image, prediction, *, seconds, queue):
            self.seen.append((image.shape, prediction.classes, seconds, queue))

        def failed(self):
            self.seen.append("failed")

        def gauges(self):
            return {"drift": 0.25}

    watching = Watching()
    service, client = other(served, monitor=watching)
    with client:
        until_ready(service)
        post(client)
        assert "segjax_drift 0.25" in client.get("/metrics").text
        service.ready = False
        post(client)
        assert watching.seen.pop() == "failed"
    ((shape, classes, seconds, queue),) = watching.seen
    assert shape == (50, 70, 3) and seconds > 0 and queue == 0
    np.testing.assert_array_equal(classes, expected[0])
    assert json.dumps(seconds)
