"""Models of every kind are served: volumes, signals, overlapping classes, objects, segments."""

import base64
import io

import numpy as np
import pytest
from fastapi.testclient import TestClient

from segjax.data import fit
from segjax.data.decode import Reading
from segjax.data.formats import rle
from segjax.inference.layout import Layout
from segjax.inference.predictor import (
    FunctionObjectPredictor,
    FunctionPredictor,
    Segments,
)
from segjax.serve import answers
from segjax.serve import app as app_lib
from segjax.serve.model import Served, shapes
from segjax.serve.service import Service
from segjax.structs import Classes
from segjax.views import colour
from tests.inference.test_object_predictor import objects_of
from tests.serve.conftest import LIMITS
from tests.serve.served import npy
from tests.serve.test_app import feedback, post

K = 3


def third(image):
    return image[..., 0] // 100


def each_third(image):
    return np.stack([image[..., 0] > 100 * k for k in range(K)], -1).astype(np.uint8)


def segments(image):
    found = objects_of(image)
    numbers = (image.max(-1) > 0).astype(np.int32)
    return found, Segments(numbers, np.array([2], np.int32))


KINDS = {
    "volume": (3, FunctionPredictor(third, num_classes=K), False, ""),
    "signal": (1, FunctionPredictor(third, num_classes=K), False, ""),
    "overlapping": (2, FunctionPredictor(each_third, num_classes=K), True, ""),
    "objects": (2, FunctionObjectPredictor(objects_of), False, "instance"),
    "segments": (2, FunctionObjectPredictor(segments), False, "panoptic"),
}


@pytest.fixture(scope="module", params=KINDS)
def kind(request):
    dims, predictor, multilabel, finds = KINDS[request.param]
    things = (0, 1) if finds else ()
    classes = Classes(("a", "b", "c"), colour.voc_palette(K), 2, things)
    layout = Layout(fit.Canvas((16,) * dims, "pad", 0))
    served = Served(
        request.param, 1, predictor, classes, Reading(2, dims=dims), layout, multilabel, finds, 4
    )
    service = Service(served, LIMITS)
    return request.param, served, service


@pytest.fixture(scope="module")
def kind_client(kind):
    name, served, service = kind

    async def ready():  # functions need no warming, and objects none of an empty image
        service.ready = True

    service._warm = ready
    with TestClient(app_lib.make_app(service), raise_server_exceptions=False) as client:
        yield name, served, client


def image_of(served):
    image = np.zeros((20,) * served.reading.dims + (2,), np.uint8)
    image[2:9, ..., 0] = 150
    image[5:12, ..., 1] = 250
    return image


def test_every_format_that_is_named_is_answered(kind_client):
    name, served, client = kind_client
    content = npy(image_of(served))
    named = client.get("/v1/models").json()["models"][0]
    assert set(named["formats"]) >= {"json", "npy", "overlay"}
    for form in answers.FORMATS:
        answer = post(client, content, f"format={form}", name="x.npy")
        assert answer.status_code == (200 if form in named["formats"] else 422), (form, answer.text)
        if answer.status_code == 422:
            assert "this model has json, npy" in answer.json()["error"]["message"]
    for each in answers.INCLUDES:
        answer = post(client, content, f"include={each}", name="x.npy")
        assert answer.status_code == (200 if each in named["include"] else 422), (each, answer.text)
    expected = {
        "volume": ({"probabilities"}, {"png", "geojson", "rle", "polygons"}),
        "signal": ({"probabilities"}, {"png", "geojson", "rle", "polygons"}),
        "overlapping": ({"geojson", "rle"}, {"png", "entropy", "uncertainty"}),
        "objects": ({"png", "instances"}, {"probabilities", "segments", "uncertainty"}),
        "segments": ({"png", "segments"}, {"probabilities", "uncertainty"}),
    }[name]
    said = {*named["formats"], *named["include"]}
    assert expected[0] <= said and not expected[1] & said


def test_what_is_found_is_what_the_predictor_finds(kind_client):
    name, served, client = kind_client
    image = image_of(served)
    found = served.predictor(image)
    classes = np.load(io.BytesIO(post(client, npy(image), "format=npy", name="x.npy").content))
    about = post(client, npy(image), "include=label", name="x.npy").json()
    if not served.finds:
        np.testing.assert_array_equal(classes, found.classes)
    else:
        assert classes.shape == (20, 20) and len(about["objects"]) == 2
        assert [each["score"] for each in about["objects"]] == found.objects.scores.tolist()
        with_masks = post(client, npy(image), "include=rle", name="x.npy").json()["objects"]
        for each, mask in zip(with_masks, found.objects.masks, strict=True):
            runs = rle.decompress(each["rle"]["counts"], where="test")
            whole = rle.coco_mask(runs, (20, 20), where="test")
            assert whole.sum() == mask.inside.sum() == each["pixels"]
            assert whole[mask.corner]
        assert post(client, npy(image), "least_score=1", name="x.npy").json()["objects"] == [
            each for each in about["objects"] if each["score"] >= 1
        ]
    label = base64.b64decode(about["label"]["base64"])
    if about["label"]["format"] == "npy":
        np.testing.assert_array_equal(np.load(io.BytesIO(label)), classes)
    for number, each in enumerate(about["classes"]):
        own = classes[..., number] > 0 if served.multilabel else classes == number
        assert each["pixels"] == own.sum()


def test_feedback_is_not_taken_without_a_folder(kind_client):
    *_, client = kind_client
    assert feedback(client, note="x").status_code == 404


def test_shapes_to_be_compiled_are_few():
    canvas = fit.Canvas((16, 32), "pad", 0)
    assert shapes(Layout(fit.Canvas((16, 32), "resize", 0))) == [(16, 32)]
    assert shapes(Layout(canvas)) == [(16, 32), (28, 32)]
    blended = shapes(Layout(canvas, blend="gaussian", overlap=0.75))
    assert blended == [(16, 32), (20, 32), (16 + 6 * 4, 32 + 6 * 8)]
