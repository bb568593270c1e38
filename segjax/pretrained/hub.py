"""Fetch published weights: from a path, the Hugging Face Hub, a URL, or by a well-known name."""

import hashlib
import http.client
import pathlib
import re
import urllib.request
from typing import NamedTuple

from segjax.config import lookup
from segjax.data import core
from segjax.errors import ConfigError, DataError, extra
from segjax.runtime import files, reading, xla
from segjax.views import progress

WHERE = "config.model.pretrained.weights"
TORCHVISION_URL = "https://download.pytorch.org/models/{}.pth"
TORCHVISION = {
    "resnet18": "resnet18-f37072fd",
    "resnet34": "resnet34-b627a593",
    "resnet50": "resnet50-0676ba61",
    "resnet50_v2": "resnet50-11ad3fa6",
    "resnet101": "resnet101-63fe2227",
    "resnet101_v2": "resnet101-cd907fc2",
    "vgg16": "vgg16-397923af",
    "vgg16_bn": "vgg16_bn-6c64b313",
    "mobilenet_v3_large": "mobilenet_v3_large-8738ca79",
    "mobilenet_v3_large_v2": "mobilenet_v3_large-5c1a4163",
    "efficientnet_b0": "efficientnet_b0_rwightman-7f5810bc",
    "efficientnet_b1": "efficientnet_b1_rwightman-bac287d4",
    "efficientnet_b1_v2": "efficientnet_b1-c27df63c",
    "efficientnet_b2": "efficientnet_b2_rwightman-c35c1473",
    "efficientnet_b3": "efficientnet_b3_rwightman-b3899882",
    "efficientnet_b4": "efficientnet_b4_rwightman-23ab8bcd",
    "efficientnet_b5": "efficientnet_b5_lukemelas-1a07897c",
    "efficientnet_b6": "efficientnet_b6_lukemelas-24a108a5",
    "efficientnet_b7": "efficientnet_b7_lukemelas-c5b4e57e",
    "convnext_tiny": "convnext_tiny-983f1562",
    "convnext_small": "convnext_small-0c510722",
    "convnext_base": "convnext_base-6075fbad",
    "swin_t": "swin_t-704ceda3",
    "swin_s": "swin_s-5e29d889",
    "swin_b": "swin_b-68c6b09e",
    "fcn_resnet50": "fcn_resnet50_coco-1167a1af",
    "fcn_resnet101": "fcn_resnet101_coco-7ecb50ca",
    "deeplabv3_resnet50": "deeplabv3_resnet50_coco-cd0a2569",
    "deeplabv3_resnet101": "deeplabv3_resnet101_coco-586e9e4e",
    "deeplabv3_mobilenet_v3_large": "deeplabv3_mobilenet_v3_large-fc3c493d",
    "lraspp_mobilenet_v3_large": "lraspp_mobilenet_v3_large-d234d4ea",
    "maskrcnn_resnet50_fpn": "maskrcnn_resnet50_fpn_coco-bf2d0c1e",
    "maskrcnn_resnet50_fpn_v2": "maskrcnn_resnet50_fpn_v2_coco-73cbd019",
}
"""torchvision's names to its files; `_v2` are the weights it calls IMAGENET1K_V2."""
HUB = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(@(?P<revision>[^/]+))?(/(?P<file>.+))?")
HUB_FILES = ("model.safetensors", "pytorch_model.bin")
OFFLINE = "Without a network fetch it elsewhere and give its path."


class Source(NamedTuple):
    """Where weights come from.

    Attributes:
        kind: 'path', 'hub' or 'url'.
        place: The path, `org/repo[@revision][/file]`, or the URL.
        publisher: Who named the arrays, where the source says it.
    """

    kind: str
    place: str
    publisher: str = ""


def parse(source: str) -> Source:
    """Return what a source string stands for.

    `torchvision:<name>` is a file of theirs, `timm:<name>` a repository of theirs on the Hub,
    `hf:<org>/<repo>[@revision][/file]` any other, `https://…` a file, all else a local path.

    Raises:
        ConfigError: A name that is in no table.
    """
    scheme, colon, rest = source.partition(":")
    if scheme == "torchvision" and colon:
        if rest not in TORCHVISION:
            hint = lookup.suggest(rest, list(TORCHVISION))
            raise ConfigError(f"{WHERE}={source!r}: no such weights.{hint}")
        return Source("url", TORCHVISION_URL.format(TORCHVISION[rest]), "torchvision")
    if scheme in ("timm", "hf") and colon:
        place = f"timm/{rest}" if scheme == "timm" else rest
        if not HUB.fullmatch(place):
            raise ConfigError(f"{WHERE}={source!r}: expected hf:<org>/<repo>[@revision][/file].")
        return Source("hub", place, "timm" if place.startswith("timm/") else "")
    if rest.startswith("//"):
        return Source("url", source)
    return Source("path", source)


def fetch(source: str, *, sha256: str = "", shown: bool = True) -> pathlib.Path:
    """Return the local file of a source, downloaded into the cache if it is not there yet.

    Args:
        source: See `parse`.
        sha256: The file's checksum, or its first eight hex digits or more. A URL needs one, unless
            the file's name ends with it as torchvision's do (`resnet50-0676ba61.pth`).
        shown: Show the progress of a download.

    Raises:
        UserError: No such file, no network, another checksum; one line that says what to do.
    """
    kind, place, _ = parse(source)
    named = re.search(r"-([0-9a-f]{8})\.\w+$", place) if kind == "url" else None
    expected = (sha256 or (named[1] if named else "")).lower()
    if expected and not re.fullmatch("[0-9a-f]{8,64}", expected):
        raise ConfigError(
            f"config.model.pretrained.sha256={sha256!r}: expected 64 hex digits, or at least the "
            "first 8 of them."
        )
    if kind == "url":
        return download(place, expected, shown=shown)
    path = from_hub(place) if kind == "hub" else core.expand_path(place, where=WHERE)
    if not reading.is_file(path):
        raise DataError(
            f"{WHERE}={source!r}: no such file. Expected a file of weights, hf:<org>/<repo>, "
            "https://…, torchvision:<name> or timm:<name>."
        )
    if expected:
        check(path, expected)
    return path


def download(url: str, expected: str, *, shown: bool) -> pathlib.Path:
    """Return the file of a URL from the cache, fetched if it is not there, its checksum verified.

    A file is in the cache only when it is whole and its checksum was right.
    """
    if not expected:
        raise ConfigError(
            f"{WHERE}={url!r}: nothing says which file is the right one. Set "
            "config.model.pretrained.sha256 to its checksum (sha256sum <file>)."
        )
    scheme = url.partition(":")[0]
    lookup.choose(scheme, ("https", "http"), what=f"{WHERE}={url!r}: the scheme {scheme}")
    digest = hashlib.sha256(url.encode()).hexdigest()[:12]
    path = xla.cache_dir() / "weights" / f"{digest}-{url.rpartition('/')[2]}"
    if path.is_file() and checksum(path).startswith(expected):
        return path
    with files.replacing(path) as temporary:
        try:
            stream(url, temporary, shown=shown)
        except (OSError, http.client.HTTPException) as error:
            if isinstance(error, OSError) and files.is_full(error):
                raise
            reason = " ".join(str(error).split()) or type(error).__name__
            raise DataError(f"{url}: cannot be fetched: {reason}. {OFFLINE}") from error
        check(temporary, expected, name=url)
    return path


def stream(url: str, path: pathlib.Path, *, shown: bool) -> None:
    """Write what a URL serves to `path`."""
    with urllib.request.urlopen(url, timeout=60) as response, path.open("wb") as file:
        length = response.headers.get("Content-Length", "")
        total = int(length) if re.fullmatch("[0-9]{1,18}", length) else 0
        name = url.rpartition("/")[2]
        megabytes = -(-total // 10**6)
        with progress.Progress(megabytes, unit="MB", title=name, enabled=shown) as bar:
            done = 0
            while chunk := response.read(1 << 20):
                file.write(chunk)
                done += len(chunk)
                bar.update(-(-done // 10**6))
        if total and done != total:
            raise http.client.IncompleteRead(b"", total - done)


def from_hub(place: str) -> pathlib.Path:
    """Return the file of `org/repo[@revision][/file]` in the Hub's own cache.

    Without a file it is the first of `HUB_FILES` that is there.

    Raises:
        ConfigError: The Hub's package is not installed.
        DataError: It cannot be had; the message says why.
    """
    with extra("hub", what=f"{WHERE}='hf:{place}'"):
        import huggingface_hub as hub  # takes a moment, and most runs need none
        from huggingface_hub import errors

    parts = HUB.fullmatch(place)
    repo, revision, file = parts["repo"], parts["revision"], parts["file"]  # pyright: ignore
    names = (file,) if file else HUB_FILES
    for name in names:
        try:
            return pathlib.Path(hub.hf_hub_download(repo, name, revision=revision))
        except errors.LocalEntryNotFoundError as error:
            raise DataError(
                f"hf:{place}: {name} is not in the Hub's cache, and the Hub cannot be reached. "
                f"{OFFLINE}"
            ) from error
        except errors.EntryNotFoundError:
            continue
        except Exception as error:  # not there, gated, no network: each library has its own errors
            reason = " ".join(str(error).split()) or type(error).__name__
            raise DataError(f"hf:{place}: cannot be fetched: {reason}. {OFFLINE}") from error
    raise DataError(f"hf:{place}: has no {' or '.join(names)}. Name its file: hf:{repo}/<file>.")


def check(path: pathlib.Path, expected: str, *, name: str = "") -> None:
    """Raise `DataError` if a file's checksum is not the `expected` one."""
    got = checksum(path)
    if not got.startswith(expected):
        raise DataError(
            f"{name or path}: got checksum {got}, expected {expected}. The file is damaged or "
            "another one; fetch it again."
        )


def checksum(path: pathlib.Path) -> str:
    """Return the SHA-256 of a file in hex."""
    with reading.open_file(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
