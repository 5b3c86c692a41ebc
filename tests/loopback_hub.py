"""A Hugging Face hub on 127.0.0.1, with faults on request.

It serves the part of the hub's HTTP API that huggingface_hub uses to list and download models and data sets:

    with LoopbackHub() as hub:
        commit = hub.add("dataset", "owner/name", {"README.md": b"...", "data/train.parquet": Path("train.parquet")})
        hub.fail("*/data/train.parquet", "cut", after=1000)
        subprocess.run([...], env={**os.environ, **hub.environment(home)})
        print(hub.requests)
"""

import hashlib
import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Literal
from urllib.parse import parse_qs, unquote, urlsplit

MEMBER = "hf_member"  # the token that may read private and gated repositories
STRANGER = "hf_stranger"  # a valid token that may not
LARGE = (".parquet", ".safetensors")  # files in Git LFS, which the hub names by their SHA-256


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    range: str | None


@dataclass
class Fault:
    """The next `times` GET requests whose path matches `pattern` fail.

    kind: a status to answer with; cut: the connection closes after so many bytes.
    """

    pattern: str
    kind: int | Literal["cut"]
    times: int
    after: int


@dataclass
class Repo:
    private: bool
    gated: bool
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)


def git_hash(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def entry(path: str, content: bytes) -> dict:
    """A file in the hub's listing of a tree."""
    size = len(content)
    lfs = {"oid": hashlib.sha256(content).hexdigest(), "size": size, "pointerSize": 134}
    found = {"type": "file", "path": path, "size": size, "oid": git_hash(content)}
    return {**found, "lfs": lfs} if path.endswith(LARGE) else found


class LoopbackHub:
    """The server: runs in threads of this process while it is entered."""

    def __init__(self, page_size: int = 3):
        self.page_size = page_size  # entries of a tree in one answer
        self.repos: dict[tuple[str, str], Repo] = {}
        self.requests: list[Request] = []
        self.faults: list[Fault] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("BoundHandler", (Handler,), {"hub": self}))
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> "LoopbackHub":
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_) -> None:
        self._server.shutdown()
        self._server.server_close()

    def add(
        self,
        kind: Literal["model", "dataset"],
        name: str,
        files: Mapping[str, bytes | Path],
        revision: str = "main",
        private: bool = False,
        gated: bool = False,
    ) -> str:
        """Commits `files` as the whole content of branch `revision` of a repository; returns the commit."""
        tree = {path: data if isinstance(data, bytes) else data.read_bytes() for path, data in sorted(files.items())}
        commit = hashlib.sha1(repr([(path, git_hash(data)) for path, data in tree.items()]).encode()).hexdigest()
        repo = self.repos.setdefault((kind, name), Repo(private, gated))
        repo.commits[commit] = tree
        repo.branches[revision] = commit
        return commit

    def fail(self, pattern: str, kind: int | str, times: int = 1, after: int = 0) -> None:
        """Injects a Fault."""
        self.faults.append(Fault(pattern, kind, times, after))

    def strike(self, path: str) -> Fault | None:
        """The fault that is due for a GET request."""
        for fault in self.faults:
            if fault.times and fnmatch(path, fault.pattern):
                fault.times -= 1
                return fault
        return None

    def downloads(self, path: str) -> list[Request]:
        """The requests for the content of files whose path ends so."""
        return [request for request in self.requests if request.method == "GET" and request.path.endswith(path)]

    def environment(self, home: Path) -> dict[str, str]:
        """Variables with which a process uses this hub, and a cache and login in `home`."""
        return {"HF_ENDPOINT": self.url, "HF_HOME": str(home)}


class Refusal(Exception):
    """An answer that is an error."""

    def __init__(self, status: int, code: str = ""):
        self.status, self.headers = status, {"X-Error-Code": code} if code else {}


class Handler(BaseHTTPRequestHandler):
    """Answers the requests of one connection."""

    hub: LoopbackHub
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_) -> None:
        pass

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        path = unquote(url.path)
        self.hub.requests.append(Request(self.command, path, self.headers.get("Range")))
        self.fault = self.hub.strike(path) if self.command == "GET" else None
        try:
            if self.fault and isinstance(self.fault.kind, int):
                raise Refusal(self.fault.kind)
            self.route([unquote(part) for part in url.path.strip("/").split("/")], parse_qs(url.query))
        except Refusal as refusal:
            self.answer(refusal.status, b"", refusal.headers)

    do_HEAD = do_GET

    def route(self, parts: list[str], query: dict[str, list[str]]) -> None:
        match parts:
            case ["api", ("models" | "datasets") as kinds, owner, name, "revision", revision]:
                _, commit = self.find(kinds[:-1], f"{owner}/{name}", revision)
                self.answer_json({"id": f"{owner}/{name}", "sha": commit, "private": False, "tags": [], "siblings": []})
            case ["api", ("models" | "datasets") as kinds, owner, name, "tree", revision]:
                repo, commit = self.find(kinds[:-1], f"{owner}/{name}", revision)
                self.answer_tree([entry(*file) for file in repo.commits[commit].items()], query)
            case ["datasets", owner, name, "resolve", revision, *path]:
                self.send_file("dataset", f"{owner}/{name}", revision, "/".join(path))
            case [owner, name, "resolve", revision, *path]:
                self.send_file("model", f"{owner}/{name}", revision, "/".join(path))
            case _:
                raise Refusal(404)

    def find(self, kind: str, name: str, revision: str) -> tuple[Repo, str]:
        """The repository and the commit of a revision, if the token of the request gives access."""
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if token not in ("", MEMBER, STRANGER):
            raise Refusal(401)
        repo = self.hub.repos.get((kind, name))
        if repo is None or (repo.private and token != MEMBER):
            raise Refusal(404 if token else 401, "RepoNotFound")
        commit = repo.branches.get(revision, revision)
        if commit not in repo.commits:
            raise Refusal(404, "RevisionNotFound")
        return repo, commit

    def answer_tree(self, found: list[dict], query: dict[str, list[str]]) -> None:
        """A page of the listing, and a link to the next."""
        start = int(query.get("cursor", ["0"])[0])
        stop = start + self.hub.page_size
        url = f"{self.hub.url}{urlsplit(self.path).path}?recursive=true&cursor={stop}"
        self.answer_json(found[start:stop], {"Link": f'<{url}>; rel="next"'} if stop < len(found) else {})

    def send_file(self, kind: str, name: str, revision: str, path: str) -> None:
        repo, commit = self.find(kind, name, revision)
        token = self.headers.get("Authorization")
        if repo.gated and token != f"Bearer {MEMBER}":
            raise Refusal(403 if token else 401, "GatedRepo")
        content = repo.commits[commit].get(path)
        if content is None:
            raise Refusal(404, "EntryNotFound")
        found = entry(path, content)
        headers = {"X-Repo-Commit": commit, "ETag": f'"{found.get("lfs", found)["oid"]}"'}
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")[0])
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self.answer(206 if start else 200, content[start:], headers)

    def answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if self.fault and self.fault.kind == "cut":
            body = body[: self.fault.after]
            self.close_connection = True
        self.wfile.write(body)

    def answer_json(self, value: object, headers: dict[str, str] | None = None) -> None:
        self.answer(200, json.dumps(value).encode(), {"Content-Type": "application/json", **(headers or {})})
