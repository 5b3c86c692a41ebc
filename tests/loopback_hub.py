"""A Hugging Face hub on 127.0.0.1, with faults on request.

It speaks the part of the hub's HTTP API that `huggingface_hub` and `datasets` use to look at and download models and
data sets, so that both work against it unmodified, through HF_ENDPOINT:

    with LoopbackHub() as hub:
        commit = hub.add("dataset", "owner/name", {"README.md": b"...", "data/train.parquet": Path("train.parquet")})
        hub.fail("*/data/train.parquet", "cut", after=1000)
        subprocess.run([...], env={**os.environ, **hub.environment(home)})
        print(hub.requests)

By hand: `python -m tests.loopback_hub DIRECTORY` serves DIRECTORY/{datasets,models}/OWNER/NAME/... until interrupted.
"""

import argparse
import hashlib
import json
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatch
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Literal
from urllib.parse import parse_qs, quote, unquote, urlsplit

from tests.loopback_repo import File, Repo, entries, folders, listing, pieces

MEMBER = "hf_member"  # the token that may read private and gated repositories
STRANGER = "hf_stranger"  # a valid token that may not


@dataclass
class Request:
    """A line of the log."""

    method: str
    path: str
    range: str | None
    status: int = 0
    sent: int = 0  # bytes of the body


@dataclass
class Fault:
    """What goes wrong with the next `times` GET requests whose path matches `pattern`.

    kind: a status to answer with; or, of a file's body, cut (the connection closes after so many bytes), stall (nothing
    follows so many bytes), short (so many bytes and a Content-Length that agrees), long (more than the file has),
    flipped (one byte is wrong), whole (a range is ignored).
    """

    pattern: str
    kind: int | Literal["cut", "stall", "short", "long", "flipped", "whole"]
    times: int
    after: int  # bytes
    body: bytes  # of the answer, where kind is a status
    headers: dict[str, str]


class LoopbackHub:
    """The server: runs in threads of this process while it is entered."""

    def __init__(self, page_size: int = 3, port: int = 0):
        self.page_size = page_size  # entries of a tree in one answer; small, so that tests go through pages
        self.repos: dict[tuple[str, str], Repo] = {}
        self.requests: list[Request] = []
        self.faults: list[Fault] = []
        self.lock = threading.Lock()
        self.closing = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", port), type("BoundHandler", (Handler,), {"hub": self}))
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self.cdn = f"http://localhost:{self._server.server_port}"  # to a client, another host

    def __enter__(self) -> "LoopbackHub":
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_) -> None:
        self.closing.set()
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
        lfs: tuple[str, ...] = ("*.parquet", "*.safetensors"),
    ) -> str:
        """Commits `files` as all that branch `revision` of a repository holds; returns the commit.

        Files whose path matches a pattern of `lfs` are redirected to another host, as the hub does to its CDN.
        """
        tree = {path: File.of(files[path], any(fnmatch(path, pattern) for pattern in lfs)) for path in sorted(files)}
        commit = hashlib.sha1(repr([(path, file.etag) for path, file in tree.items()]).encode()).hexdigest()
        repo = self.repos.setdefault((kind, name), Repo(private, gated))
        repo.private, repo.gated = private, gated
        repo.commits[commit] = tree
        repo.branches[revision] = commit
        return commit

    def fail(
        self, pattern: str, kind: int | str, times: int = 1, after: int = 0, body: bytes = b"injected", **headers: str
    ) -> None:
        """Injects a Fault; of `headers`, an underscore stands for a hyphen."""
        headers = {key.replace("_", "-"): value for key, value in headers.items()}
        self.faults.append(Fault(pattern, kind, times, after, body, headers))

    def environment(self, home: Path, **variables: str) -> dict[str, str]:
        """What a process needs in its environment to use this hub, with a cache and a login of its own."""
        return {"HF_ENDPOINT": self.url, "HF_HOME": str(home), "HF_HUB_DISABLE_TELEMETRY": "1", **variables}

    def strike(self, path: str, body: bool) -> Fault | None:
        """The fault, of a file's body or of the status, that is due for a request; it is used up once."""
        with self.lock:
            for fault in self.faults:
                if fault.times and fnmatch(path, fault.pattern) and body != isinstance(fault.kind, int):
                    fault.times -= 1
                    return fault
        return None


class Refusal(Exception):
    """An answer that is an error."""

    def __init__(self, status: int, code: str = "", message: str = ""):
        self.status = status
        self.headers = {"X-Error-Code": code} if code else {}
        self.headers |= {"X-Error-Message": message} if message else {}


class Handler(BaseHTTPRequestHandler):
    """One request after the other on one connection."""

    hub: LoopbackHub
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_) -> None:
        pass  # hub.requests is the log

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        self.entry = Request(self.command, unquote(url.path), self.headers.get("Range"))
        with self.hub.lock:
            self.hub.requests.append(self.entry)
        try:
            fault = self.hub.strike(self.entry.path, body=False) if self.command == "GET" else None
            if fault:
                self.answer(fault.kind, fault.body, fault.headers)
            else:
                self.route([unquote(part) for part in url.path.strip("/").split("/")], parse_qs(url.query or body))
        except Refusal as refusal:
            self.answer(refusal.status, b"", refusal.headers)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True  # the client has gone

    do_HEAD = do_POST = do_GET

    def route(self, parts: list[str], query: dict[str, list[str]]) -> None:
        match parts:
            case ["api", ("models" | "datasets") as kinds, owner, name, *rest]:
                self.api(kinds[:-1], f"{owner}/{name}", rest, query)
            case ["datasets", owner, name, "resolve", revision, *path]:
                self.resolve("dataset", f"{owner}/{name}", revision, "/".join(path))
            case ["cdn", kind, owner, name, commit, *path]:
                if "Authorization" in self.headers:
                    raise Refusal(400)  # as a signed address answers; and the hub's token is not the CDN's to see
                self.send_file(self.hub.repos[kind, f"{owner}/{name}"].commits[commit]["/".join(path)], {})
            case [owner, name, "resolve", revision, *path]:
                self.resolve("model", f"{owner}/{name}", revision, "/".join(path))
            case _:
                raise Refusal(404)

    def api(self, kind: str, name: str, rest: list[str], query: dict[str, list[str]]) -> None:
        action, revision, *path = [*rest, *["revision", "main"][len(rest) :]]
        repo, commit = self.find(kind, name, revision)
        files = repo.commits[commit]
        if action == "auth-check":
            self.check_gate(repo, name)
            self.answer(200, b"OK", {})
        elif action == "revision":
            info = {"id": name, "sha": commit, "private": repo.private, "gated": repo.gated and "auto", "tags": []}
            self.answer_json({**info, "siblings": [{"rfilename": path} for path in files]})
        elif action == "paths-info":
            self.answer_json([entry for path in query["paths"] for entry in entries(files, path)])
        elif action == "tree":
            recursive = query.get("recursive", ["false"])[0].lower() == "true"
            folder = "/".join(path)
            if folder and folder not in folders(files):
                raise Refusal(404, "EntryNotFound", f"{folder} does not exist on {revision!r}")
            self.answer_tree(listing(files, folder, recursive), query)
        else:
            raise Refusal(404)

    def find(self, kind: str, name: str, revision: str) -> tuple[Repo, str]:
        """The repository and the commit that a revision names, if the request's token may know of them."""
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if token not in ("", MEMBER, STRANGER):
            raise Refusal(401, message="Invalid credentials in Authorization header")
        repo = self.hub.repos.get((kind, name))
        if repo is None or (repo.private and token != MEMBER):
            raise Refusal(404 if token else 401, "RepoNotFound", "Repository not found")
        commit = repo.branches.get(revision, revision)
        if commit not in repo.commits:
            raise Refusal(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return repo, commit

    def check_gate(self, repo: Repo, name: str) -> None:
        token = self.headers.get("Authorization")
        if repo.gated and token != f"Bearer {MEMBER}":
            raise Refusal(403 if token else 401, "GatedRepo", f"Access to {name} is restricted")

    def answer_tree(self, found: list[dict], query: dict[str, list[str]]) -> None:
        """A page of the entries, and a link to the next page if there is one."""
        start = int(query.pop("cursor", ["0"])[0])
        stop = start + self.hub.page_size
        options = "".join(f"{key}={quote(values[0])}&" for key, values in query.items())
        url = f"{self.hub.url}{urlsplit(self.path).path}?{options}cursor={stop}"
        self.answer_json(found[start:stop], {"Link": f'<{url}>; rel="next"'} if stop < len(found) else {})

    def resolve(self, kind: str, name: str, revision: str, path: str) -> None:
        repo, commit = self.find(kind, name, revision)
        self.check_gate(repo, name)
        file = repo.commits[commit].get(path)
        headers = {"X-Repo-Commit": commit}
        if file is None:
            raise Refusal(404, "EntryNotFound", "Entry not found")
        if file.lfs:
            headers |= {"X-Linked-Etag": f'"{file.etag}"', "X-Linked-Size": str(file.size)}
            location = f"{self.hub.cdn}/cdn/{kind}/{name}/{commit}/{quote(path)}"
            self.answer(302, b"", {**headers, "Location": location})
        else:
            self.send_file(file, headers)

    def send_file(self, file: File, headers: dict[str, str]) -> None:
        """A file or a range of it, or what a fault makes of it."""
        fault = self.hub.strike(self.entry.path, body=True) if self.command == "GET" else None
        kind, after = (fault.kind, fault.after) if fault else (None, 0)
        start, stop, status = 0, file.size, 200
        if (wanted := self.headers.get("Range")) and kind != "whole":
            first, last = wanted.removeprefix("bytes=").split("-")
            start, stop, status = int(first), min(int(last or stop) + 1, stop), 206
            if start >= file.size:
                raise Refusal(416)
            headers = {**headers, "Content-Range": f"bytes {start}-{stop - 1}/{file.size}"}
        length = {"short": after, "long": stop - start + 1}.get(kind, stop - start)
        self.start(status, length, {**headers, "ETag": f'"{file.etag}"', "Accept-Ranges": "bytes"})
        if self.command == "HEAD":
            return
        if kind in ("cut", "stall", "short"):
            stop = start + after
        for number, piece in enumerate(pieces(file.content, start, stop)):
            self.send(bytes([piece[0] ^ 1]) + piece[1:] if kind == "flipped" and number == 0 else piece)
        if kind == "long":
            self.send(b"+")
        if kind == "stall":
            self.hub.closing.wait()
        self.close_connection |= kind in ("cut", "stall")

    def send(self, piece: bytes) -> None:
        self.wfile.write(piece)
        self.entry.sent += len(piece)

    def start(self, status: int, length: int, headers: dict[str, str]) -> None:
        self.entry.status = status
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(length)}.items():
            self.send_header(key, value)
        self.end_headers()

    def answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.start(status, len(body), headers)
        if self.command != "HEAD":
            self.send(body)

    def answer_json(self, value: object, headers: dict[str, str] | None = None) -> None:
        self.answer(200, json.dumps(value).encode(), {"Content-Type": "application/json", **(headers or {})})


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.loopback_hub", description=__doc__.splitlines()[0])
    parser.add_argument("directory", type=Path, help="holds {datasets,models}/OWNER/NAME/...")
    parser.add_argument("--port", type=int, default=0, help="default: any free one")
    arguments = parser.parse_args()
    with LoopbackHub(page_size=1000, port=arguments.port) as hub:
        for place in sorted(arguments.directory.glob("*/*/*/")):
            kinds, owner, name = place.relative_to(arguments.directory).parts
            files = {path.relative_to(place).as_posix(): path for path in place.rglob("*") if path.is_file()}
            print(f"{kinds[:-1]} {owner}/{name} {hub.add(kinds[:-1], f'{owner}/{name}', files)}")
        print(f"HF_ENDPOINT={hub.url}", flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        main()
