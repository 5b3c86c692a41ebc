"""A server on 127.0.0.1 with OpenAI's chat API. It gives scripted answers and records the requests."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from gpt2.config.params import JudgeParams

Answer = str | int | bytes | None | Callable[[str], str]


@dataclass
class Script:
    """The server's answers in turn, and the requests it got.

    An answer is a reply's text, a status, the bytes of a body, "hang up", or a function from the prompt to the text.
    """

    answers: list[Answer]
    asked: list[dict] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)


@contextmanager
def judging(*answers: Answer) -> Iterator[tuple[JudgeParams, Script]]:
    """Runs a judge that gives these answers. With an error it repeats the key, as real servers may."""
    script = Script(list(answers))

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            script.paths.append(self.path)
            script.keys.append(self.headers["Authorization"])
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            script.asked.append(asked)
            answer = script.answers.pop(0)
            if callable(answer):
                answer = answer(asked["messages"][0]["content"])
            if answer == "hang up":
                return
            status, body = (answer, str(script.keys[-1]).encode()) if isinstance(answer, int) else (200, answer)
            if not isinstance(body, bytes):
                body = json.dumps({"choices": [{"message": {"role": "assistant", "content": body}}]}).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield JudgeParams(url=f"http://127.0.0.1:{server.server_port}/v1/", model="grader:7b"), script
        finally:
            server.shutdown()
