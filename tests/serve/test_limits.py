"""What a server takes at most, and who is answered."""

import pytest

from segjax.serve import limits
from segjax.serve.limits import Admission, Limits, Refused


def refused(function, *given):
    with pytest.raises(Refused) as error:
        function(*given)
    return error.value


def enter(manager):
    manager.__enter__()
    return manager


def test_requests_are_counted_and_given_back():
    admission = Admission(Limits(queue=2, bytes=1000))
    first, second = enter(admission.request(10)), enter(admission.request(10))
    assert (admission.requests, admission.bytes) == (2, 20)
    error = refused(admission.request(10).__enter__)
    assert error.status == 429 and error.retry_after
    first.__exit__(None, None, None)
    with pytest.raises(ValueError), admission.request(5):
        raise ValueError
    second.__exit__(None, None, None)
    assert (admission.requests, admission.bytes) == (0, 0)


def test_bytes_of_all_requests_are_bounded():
    most = Limits(bytes=1000)
    admission = Admission(most)
    assert refused(admission.request(most.body + 1).__enter__).status == 413
    held = [enter(admission.request(most.body)) for _ in range(limits.TOGETHER)]
    assert refused(admission.request(1).__enter__).status == 429 and len(held) == 4
    admission.draining = True
    assert refused(admission.request(1).__enter__).status == 503


def test_pixels_of_all_images_are_bounded():
    admission = Admission(Limits(pixels=100))
    error = refused(admission.image((11, 10)).__enter__)
    assert error.status == 413 and "11x10" in error.message
    held = [enter(admission.image((10, 10))) for _ in range(limits.TOGETHER)]
    assert admission.pixels == 100 * len(held)
    assert refused(admission.image((1, 1)).__enter__).status == 429


@pytest.mark.parametrize(
    "headers",
    [{}, {"authorization": "Bearer no"}, {"authorization": "Basic two"}, {"x-api-key": "tw"},
     {"authorization": "Bearer "}, {"x-api-key": "zwö"}],
)  # fmt: skip
def test_without_a_key_nobody_is_answered(headers):
    assert refused(limits.check_key, headers, ("one", "two")).status == 401


@pytest.mark.parametrize("headers", [{"authorization": "bearer two"}, {"x-api-key": "one"}])
def test_each_key_is_taken(headers):
    limits.check_key(headers, ("one", "two"))
    limits.check_key({}, ())


def test_pages_of_other_sites_are_refused():
    limits.check_origin({"host": "a:1"})
    limits.check_origin({"host": "a:1", "origin": "http://a:1"})
    for origin in ("http://b", "null", "http://a:2"):
        assert refused(limits.check_origin, {"host": "a:1", "origin": origin}).status == 403
