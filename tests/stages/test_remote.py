"""Results without training: whoever clones the repository pulls them from a web server, and nothing runs."""

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.repository import Clone, Folder

pytestmark = pytest.mark.chain


class Handler(SimpleHTTPRequestHandler):
    """A static web server, as `python -m http.server` is one, that logs nothing."""

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def site(tmp_path) -> Iterator[tuple[Path, str]]:
    """A folder, and the address at which a web server shows it."""
    folder = tmp_path / "site"
    folder.mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=folder)) as server:
        threading.Thread(target=server.serve_forever).start()
        yield folder, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_clone_pulls_published_results_and_runs_nothing(finished, site, tmp_path):
    folder, address = site
    (tmp_path / "publisher").mkdir()
    publisher = Clone(finished, tmp_path / "publisher")
    publisher.ok("dvc", "remote", "add", "-d", "public", address)
    publisher.ok("dvc", "remote", "modify", "--local", "public", "url", str(folder))
    publisher.ok("git", "commit", "-qam", "Where the results are")
    publisher.ok("dvc", "push")

    reader = Folder(tmp_path / "reader")
    publisher.ok("git", "clone", "-q", ".", str(reader.path))
    reader.ok("dvc", "pull")
    assert "up to date" in reader.ok("dvc", "status")
    assert "Running stage" not in reader.ok("dvc", "repro")
    assert (reader.path / "reports/index.html").read_text("utf-8").startswith("<!DOCTYPE html>")
    assert (reader.path / "data/models/pretrain/model.safetensors").exists()
