"""A small server that answers as OpenAI's chat completions do, by a function of the last message: for endpoints and judges."""

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from fake_json import send_json


def _stream(handler: BaseHTTPRequestHandler, said: str) -> None:
    """The answer word by word, then its end, then its counts."""
    handler.send_response(200)
    handler.send_header("Content-Type", "text/event-stream")
    handler.end_headers()
    head = {"id": "1", "object": "chat.completion.chunk", "created": 0, "model": "fake"}
    words = re.findall(r"\S+\s*", said)
    pieces: list[dict[str, object]] = [{"choices": [{"index": 0, "delta": {"content": word}, "finish_reason": None}]} for word in words]
    pieces += [{"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}]
    pieces += [{"choices": [], "usage": {"prompt_tokens": 10, "completion_tokens": len(words), "total_tokens": 10 + len(words)}}]
    for piece in pieces:
        handler.wfile.write(f"data: {json.dumps({**head, **piece})}\n\n".encode())
    handler.wfile.write(b"data: [DONE]\n\n")


@contextmanager
def served(answer: Callable[[str], str], key: str = "") -> Iterator[tuple[str, list[str]]]:
    """The server's address, and the list of what it is asked. An answer that is a number is an HTTP status. key: what requests have to carry."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None: ...

        def do_GET(self) -> None:
            send_json(self, 200, {"object": "list", "data": [{"id": "fake", "object": "model", "created": 0, "owned_by": "us"}]})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if key and self.headers.get("Authorization") != f"Bearer {key}":
                send_json(self, 401, {"error": {"message": "no such key"}})
                return
            text = body["messages"][-1]["content"]
            asked.append(text)
            said = answer(text)
            if said.isdigit():
                send_json(self, int(said), {"error": {"message": f"status {said}"}})
                return
            if body.get("stream"):
                _stream(self, said)
                return
            choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": said}}
            used = {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12}
            send_json(self, 200, {"id": "1", "object": "chat.completion", "created": 0, "model": "fake", "choices": [choice], "usage": used})

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
