"""A server that speaks as vLLM's does where likelihoods are asked for, before a model of transformers: /tokenize, /detokenize, completions with echo."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from fake_json import send_json


def _completion(engine: Any, body: dict[str, Any]) -> dict[str, Any]:
    import torch

    prompt = body["prompt"]
    ids = engine.encode(prompt) if isinstance(prompt, str) else prompt
    made = engine.model.generate(torch.tensor([ids]), max_new_tokens=body["max_tokens"], do_sample=False, pad_token_id=0)[0].tolist()
    choice: dict[str, Any] = {"index": 0, "finish_reason": "length", "text": engine.tokenizer.decode(made[len(ids) :])}
    if body.get("echo"):
        with torch.inference_mode():
            chances = torch.log_softmax(engine.model(torch.tensor([made])).logits[0].float(), -1)
        nats = [None, *(float(chances[n, token]) for n, token in enumerate(made[1:]))]
        tops = [None, *({str(int(chances[n].argmax())): float(chances[n].max()), str(token): float(chances[n, token])} for n, token in enumerate(made[1:]))]
        choice["logprobs"] = {"tokens": list(map(str, made)), "token_logprobs": nats, "top_logprobs": tops, "text_offset": []}
    return {"id": "1", "object": "text_completion", "created": 0, "model": "real", "choices": [choice]}


@contextmanager
def served(engine: Any) -> Iterator[str]:
    """The server's address, which ends in /v1."""
    alone = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None: ...

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with alone:
                if self.path == "/tokenize" and "messages" in body:
                    text = engine.tokenizer.apply_chat_template(body["messages"], add_generation_prompt=body["add_generation_prompt"], tokenize=False)
                    told = {"tokens": engine.encode(text, special=False)}
                elif self.path == "/tokenize":
                    told = {"tokens": engine.encode(body["prompt"], special=body["add_special_tokens"])}
                elif self.path == "/detokenize":
                    told = {"prompt": engine.tokenizer.decode(body["tokens"])}
                else:
                    assert self.path == "/v1/completions"
                    told = _completion(engine, body)
            send_json(self, 200, told)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
