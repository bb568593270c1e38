"""What a client may send by mistake or on purpose: the right status, nothing of this machine."""

import base64
import json
import struct
import zlib

import numpy as np
import pytest

from tests.serve.conftest import LIMITS, SECRET
from tests.serve.served import form, npy, picture

GOOD = picture(20, 30)
LEAKS = ("Traceback", 'File "', "/tmp", "segjax-serve", "/root", "/home", "site-packages", SECRET)


def png_header(width, height, *, bits=8, kind=2):
    """Return a PNG that claims a size and has a few bytes of pixels."""

    def chunk(name, data):
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    head = struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0)
    data = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def upload(content, name="x.png", **more):
    body, headers = form(image=(name, content), **more)
    return dict(content=body, headers=headers)


def fields(**sent):
    return dict(zip(("content", "headers"), form(**sent), strict=True))


def as_json(value):
    content = value if isinstance(value, bytes | str) else json.dumps(value)
    return dict(content=content, headers={"Content-Type": "application/json"})


def typed(kind, content=GOOD):
    return dict(content=content, headers={"Content-Type": kind})


def huge_npy():
    head = b"{'descr': '|u1', 'fortran_order': False, 'shape': (100000, 100000, 3), }"
    head = head.ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head + bytes(100)


B64 = base64.b64encode(GOOD).decode()
CASES = {
    # what is sent → the status
    "no body": (typed("multipart/form-data; boundary=XbX", b""), (400, 422)),
    "no type": (dict(content=GOOD), 415),
    "a bare image": (typed("image/png"), 415),
    "a text": (typed("text/plain", b"hello"), 415),
    "XML": (typed("application/xml", b"<x/>"), 415),
    "an urlencoded form": (typed("application/x-www-form-urlencoded", b"image=x"), 415),
    "a form without boundary": (typed("multipart/form-data"), 400),
    "a form with another boundary": (typed("multipart/form-data; boundary=other",
                                           form(image=("x.png", GOOD))[0]), 400),
    "a form that is cut off": (dict(content=form(image=("x.png", GOOD))[0][:200],
                                    headers=form()[1]), (400, 422)),
    "no image": (fields(other="x"), 422),
    "an image that is a text": (fields(image="x"), 422),
    "two images": (dict(content=form(image=("x.png", GOOD))[0].replace(b"--XbX--\r\n", b"")
                        + form(image=("y.png", GOOD))[0], headers=form()[1]), 422),
    "many fields": (fields(**{f"f{n}": "x" for n in range(50)}), 400),
    "many files": (fields(**{f"f{n}": ("x", b"x") for n in range(50)}), 400),
    "a long field": (upload(GOOD, note="x" * 100_000), 400),
    "an empty file": (upload(b""), 422),
    "a truncated PNG": (upload(picture(200, 300)[:5000]), 422),
    "a truncated JPEG": (upload(picture(200, 300, form="JPEG")[:3000], "x.jpg"), 422),
    "a truncated TIFF": (upload(picture(20, 30, form="TIFF")[:100], "x.tif"), 422),
    "noise called PNG": (upload(bytes(range(256)) * 20), 415),
    "HTML called JPEG": (upload(b"<html><script>alert(1)</script>", "x.jpg"), 415),
    "a program": (upload(b"\x7fELF" + bytes(100), "x.exe"), 415),
    "a ZIP": (upload(b"PK\x03\x04" + bytes(100), "x.zip"), 415),
    "an SVG": (upload(b"<svg xmlns='http://www.w3.org/2000/svg'/>", "x.svg"), 415),
    "a pickle called NPY": (upload(npy(np.array([{"a": 1}], object)), "x.npy"), 422),
    "an NPY that claims terabytes": (upload(huge_npy(), "x.npy"), 422),
    "a NIfTI that is none": (upload(bytes(400), "x.nii"), 422),
    "a gzip bomb called NIfTI": (upload(zlib.compress(bytes(10**6)), "x.nii.gz"), 422),
    "a DICOM that is none": (upload(bytes(200) + b"DICM", "x.dcm"), 422),
    "100 megapixels": (upload(png_header(10_000, 10_000)), 413),
    "a PNG of 2^31 pixels a side": (upload(png_header(2**31 - 1, 2**31 - 1)), (413, 422)),
    "a PNG without pixels": (upload(png_header(0, 5)), 422),
    "a path for a name": (upload(b"x", "../../../etc/passwd"), 415),
    "a null in the name": (upload(b"x", "a\0.png"), (400, 415)),
    "a very long name": (upload(GOOD, "a" * 5000 + ".png"), (200, 400)),
    "a file that is too long": (upload(bytes(LIMITS.bytes + 1)), 413),
    "a body that is too long": (upload(bytes(LIMITS.body + 1)), 413),
    "a huge JSON": (as_json(b'{"image": "' + b"A" * LIMITS.body + b'"}'), 413),
    "a deep JSON": (as_json("[" * 100_000 + "]" * 100_000), 422),
    "half a JSON": (as_json('{"image": "'), 422),
    "a JSON list": (as_json([B64]), 422),
    "a JSON number": (as_json({"image": 5}), 422),
    "a JSON null": (as_json({"image": None}), 422),
    "NaN in JSON": (as_json('{"image": NaN}'), 422),
    "a key twice": (as_json(f'{{"image": "{B64}", "image": "{B64}"}}'), 422),
    "no base64": (as_json({"image": "!!!" + B64}), 422),
    "base64 of nothing": (as_json({"image": ""}), 422),
    "JSON in UTF-16": (as_json(json.dumps({"image": B64}).encode("utf-16")[:-1]), 422),
    "a negative length": (dict(content=b"", headers={"Content-Length": "-5"}), (400, 415)),
}  # fmt: skip
QUERIES = {
    "format=exe": 422, "format=": 422, "include=../x": 422, "include=" + "x," * 500: 422,
    "model=../../etc": 404, "model=" + "x" * 3000: 422, "spacing=1,1": 422, "spacing=x": 422,
    "least_score=2": 422, "least_score=nan": 422, "format=segments": 422,
}  # fmt: skip
PATHS = ("/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/page.js/../../app.py", "/v1/models/x",
         "/page/index.html", "/..%5c..%5cwindows", "/v1/predict/..", "//etc/passwd")  # fmt: skip


def check(answer, expected):
    expected = expected if isinstance(expected, tuple) else (expected,)
    assert answer.status_code in expected, (answer.status_code, answer.text[:300])
    assert not [leak for leak in LEAKS if leak in answer.text], answer.text
    if answer.status_code != 200:
        error = answer.json()["error"]
        assert error["status"] == answer.status_code and error["message"] and error["request"]


@pytest.mark.parametrize("case", CASES)
def test_what_is_wrong_is_refused(client, case):
    given, expected = CASES[case]
    check(client.post("/v1/predict", **given), expected)
    service = client.service
    assert (service.admission.requests, service.admission.bytes, service.admission.pixels) == (
        0, 0, 0,
    )  # fmt: skip
    assert not list(service.folder.iterdir()), "nothing is left on the disk"


def test_there_are_enough_of_them():
    assert len(CASES) + len(QUERIES) + len(PATHS) >= 40


@pytest.mark.parametrize("query", QUERIES)
def test_what_is_asked_wrongly_is_refused(client, query):
    check(client.post(f"/v1/predict?{query}", **upload(GOOD)), QUERIES[query])


@pytest.mark.parametrize("path", PATHS)
def test_paths_lead_nowhere(client, path):
    check(client.get(path), (404, 405))


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH"])
def test_other_methods_are_refused(client, method):
    check(client.request(method, "/v1/predict"), 405)


def test_after_all_of_it_a_good_one_is_answered(client):
    check(client.post("/v1/predict", **upload(GOOD)), 200)
