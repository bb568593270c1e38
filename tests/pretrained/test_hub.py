"""Weights come from where a source string says, whole and checked, or one line says why not."""

import functools
import hashlib
import http.server
import threading
import types

import huggingface_hub
import pytest
from huggingface_hub import errors

from segjax.errors import ConfigError, DataError
from segjax.pretrained import hub
from tests import parity

CONTENT = b"weights" * 300_000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SEGJAX_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "weights"


@pytest.fixture
def server(tmp_path):
    """Yield the address of a server of the folder `served`, and the paths it was asked for."""
    folder, asked = tmp_path / "served", []
    folder.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            asked.append(self.path)

        def do_GET(self):
            if self.path.startswith("/cut"):
                self.send_response(200)
                self.send_header("Content-Length", str(len(CONTENT)))
                self.end_headers()
                self.wfile.write(CONTENT[:1000])
            else:
                super().do_GET()

    handler = functools.partial(Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}", folder, asked
        running.shutdown()


def test_sources_are_told_apart():
    assert hub.parse("runs/a.pth") == ("path", "runs/a.pth", "")
    assert hub.parse("torchvision:resnet50") == (
        "url", "https://download.pytorch.org/models/resnet50-0676ba61.pth", "torchvision",
    )  # fmt: skip
    assert hub.parse("timm:resnet50.a1_in1k") == ("hub", "timm/resnet50.a1_in1k", "timm")
    assert hub.parse("hf:nvidia/mit-b0@main/x/model.bin").kind == "hub"
    assert hub.parse("https://example.org/x.pth").kind == "url"
    with pytest.raises(ConfigError, match="Did you mean 'resnet50'"):
        hub.parse("torchvision:resnet5O")
    with pytest.raises(ConfigError, match="hf:<org>/<repo>"):
        hub.parse("hf:mit-b0")


def test_torchvision_publishes_these_addresses():
    models = parity.torchvision().models
    names = models.list_models(include=["*"])
    known = {w.url for name in names for w in models.get_model_weights(name)}
    for name in hub.TORCHVISION:
        assert hub.parse(f"torchvision:{name}").place in known, name


def test_a_download_is_kept_and_not_repeated(server, cache, capsys):
    address, folder, asked = server
    (folder / f"net-{SHA256[:8]}.pth").write_bytes(CONTENT)
    url = f"{address}/net-{SHA256[:8]}.pth"
    path = hub.fetch(url)
    assert path.read_bytes() == CONTENT and path.parent == cache
    assert "MB 3/3" in capsys.readouterr().err
    assert hub.fetch(url) == path and len(asked) == 1
    path.write_bytes(CONTENT[1:])  # a damaged one is fetched again
    assert hub.fetch(url, shown=False).read_bytes() == CONTENT and len(asked) == 2
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("name", "sha256", "said"),
    [
        ("net-00000000.pth", "", f"got checksum {SHA256}, expected 00000000"),
        ("net.pth", "0" * 64, f"got checksum {SHA256}"),
        ("cut.pth", SHA256, "IncompleteRead"),
        ("absent.pth", SHA256, "404.*give its path"),
    ],
)
def test_what_is_not_right_is_not_kept(server, cache, name, sha256, said):
    address, folder, _ = server
    if name.startswith("net"):
        (folder / name).write_bytes(CONTENT)
    with pytest.raises(DataError, match=said) as error:
        hub.fetch(f"{address}/{name}", sha256=sha256)
    assert "\n" not in str(error.value) and not list(cache.iterdir())


def test_no_network_is_one_line():
    with pytest.raises(DataError, match="refused.*Without a network.*give its path") as error:
        hub.fetch("http://127.0.0.1:9/x.pth", sha256=SHA256)
    assert "\n" not in str(error.value)


def test_a_url_needs_a_checksum():
    with pytest.raises(ConfigError, match="sha256"):
        hub.fetch("https://example.org/net.pth")
    with pytest.raises(ConfigError, match="64 hex digits"):
        hub.fetch("https://example.org/net.pth", sha256="0067x")
    with pytest.raises(ConfigError, match="ftp"):
        hub.fetch("ftp://example.org/net.pth", sha256=SHA256)


def test_a_path_is_taken_as_it_is(tmp_path, monkeypatch):
    (tmp_path / "x.pth").write_bytes(CONTENT)
    monkeypatch.setenv("FOLDER", str(tmp_path))
    assert hub.fetch("$FOLDER/x.pth", sha256=SHA256[:8].upper()) == tmp_path / "x.pth"
    with pytest.raises(DataError, match="checksum"):
        hub.fetch("$FOLDER/x.pth", sha256="12345678")
    with pytest.raises(DataError, match="no such file"):
        hub.fetch("$FOLDER/y.pth")


def absent(error):
    """Return an error of the Hub's, with the response it wants."""
    return error("not there", response=types.SimpleNamespace(headers={}, request=None))


def test_the_hub_is_asked_for_safetensors_first(tmp_path, monkeypatch):
    asked = []

    def download(repo, name, *, revision):
        asked.append((repo, name, revision))
        if name == "model.safetensors":
            raise absent(errors.RemoteEntryNotFoundError)
        (tmp_path / name).write_bytes(CONTENT)
        return str(tmp_path / name)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    assert hub.fetch("hf:nvidia/mit-b0").name == "pytorch_model.bin"
    assert [name for _, name, _ in asked] == ["model.safetensors", "pytorch_model.bin"]
    assert hub.fetch("hf:org/repo@v2/x.bin", sha256=SHA256).name == "x.bin"
    assert asked[-1] == ("org/repo", "x.bin", "v2")
    with pytest.raises(DataError, match="has no model.safetensors. Name its file"):
        hub.fetch("hf:org/repo/model.safetensors")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (lambda: errors.LocalEntryNotFoundError("cannot\nfind"), "give its path"),
        (lambda: errors.OfflineModeIsEnabled("offline\nmode"), "offline mode.*give its path"),
        (lambda: absent(errors.RepositoryNotFoundError), "not there"),
        (lambda: absent(errors.GatedRepoError), "not there"),
        (lambda: OSError("no\nroute"), "no route"),
    ],
)
def test_why_the_hub_gives_nothing_is_one_line(monkeypatch, error, said):
    def download(*_, **__):
        raise error()

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    with pytest.raises(DataError, match=said) as caught:
        hub.fetch("timm:resnet50.a1_in1k")
    assert "\n" not in str(caught.value) and "timm/resnet50.a1_in1k" in str(caught.value)


def test_the_hubs_own_offline_switch(tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(DataError, match="Without a network fetch it elsewhere and give its path"):
        hub.fetch("hf:org/repo")
