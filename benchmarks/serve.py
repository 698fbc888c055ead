"""What serving costs, against the ways that it replaces. Ratios, each of two sides that take turns in one run.

http_ratio         tokens a second of one user through our HTTP API, streamed, to the same engine called directly; 1 is no loss
cpu_per_token_ratio  CPU-seconds a token of transformers' streamer in bfloat16, one user after another, to ours with 8 users at a time; higher is better for us
batching_ratio     tokens a second of 8 users at a time to the same one after another behind a lock
second_turn_ratio  time to the first token of a first turn of some 1,000 tokens to that of the second turn behind it
speculation_ratio  tokens a second of copied text with n-gram speculation to without, greedy answers the same

    .venv/bin/python benchmarks/serve.py [--shape 1b] [--repeats 3] [--quick] [--json]
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

TEXT = (
    "Please send the report that was promised on Monday to the office in Hull, together with the invoices of the last three months and the list of all the "
    "customers who have not paid yet, since Mr Okafor would like to read all of it before the meeting on Thursday and has asked for it twice already."
)
USERS = 8
STREAMED = 16
"""Tokens of an answer by transformers, which takes a second a token in bfloat16 on CPUs without AMX."""


def base(shape: str, place: Path) -> Path:
    """The GGUF that is served: the default base's own, or a Q4_K_M of a 1B shape with random weights."""
    if shape != "1b":
        from lorikeet.bases import wheel_file
        from lorikeet.weights import NAMED

        found = wheel_file(NAMED["smollm2-135m"])
        assert found is not None
        return found
    made = place / "1b-Q4_K_M.gguf"
    subprocess.run([sys.executable, "-c", MAKE, str(place), str(made)], check=True)
    return made


MAKE = """
import sys
from pathlib import Path
import torch
from transformers import AutoConfig, AutoModelForCausalLM
from lorikeet import bases
from lorikeet.export.merge import Order, convert
from lorikeet.export.quantize import quantize
from lorikeet.progress import Silent
place, made = Path(sys.argv[1]), sys.argv[2]
real = bases.prepare("smollm2-135m", Silent())
config = AutoConfig.from_pretrained(real.path)
config.hidden_size, config.intermediate_size, config.num_hidden_layers = 2048, 8192, 16
config.num_attention_heads, config.num_key_value_heads, config.head_dim = 32, 8, 64
torch.manual_seed(0)
folder, none = place / "hf", place / "none"
none.mkdir()
(none / "adapter_config.json").write_text("{}")
AutoModelForCausalLM.from_config(config).to(torch.bfloat16).save_pretrained(folder)
bases.copy_tokenizer(real, folder)
convert(Order(str(folder), str(none), str(place / "F16.gguf"), "F16", "bench"), place)
quantize(place / "F16.gguf", Path(made), "Q4_K_M", 2)
"""


@contextmanager
def served(engine: Any) -> Iterator[str]:
    """Our API over an engine on a port of the loopback."""
    import uvicorn

    from lorikeet.released import Served
    from lorikeet.serve import api
    from lorikeet.serve.offer import Offer

    offer = Offer(Served(Path("bench.gguf"), "Q4_K_M", "", True, "approved", (), "Bench"), engine)
    server = uvicorn.Server(uvicorn.Config(api.create([offer]), port=0, log_level="error", ws="none"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


def question(number: int) -> str:
    return f"Tell me a long story about the number {number}, with many people in it."


def direct(engine: Any, text: str, tokens: int) -> int:
    """Tokens of one answer by the native server itself, without our API and slots."""
    request = {"messages": [{"role": "user", "content": text}], "temperature": 0, "top_k": 0, "min_p": 0, "max_tokens": tokens, "stream": True,
               "stream_options": {"include_usage": True}, "cache_prompt": False, "seed": 0}  # fmt: skip
    count = 0

    def receive(piece: Any) -> bool:
        nonlocal count
        count = (piece.get("usage") or {}).get("completion_tokens", count)
        return False

    engine._server.handle_chat_completions(request, receive)
    return count


def over_http(address: str, text: str, tokens: int) -> int:
    """Tokens of one answer streamed by our API."""
    import httpx

    count = 0
    body = {"messages": [{"role": "user", "content": text}], "max_tokens": tokens, "stream": True, "stream_options": {"include_usage": True}}
    with httpx.stream("POST", f"{address}/v1/chat/completions", json=body, timeout=600) as answer:
        for line in answer.iter_lines():
            if line.startswith("data: {"):
                piece = json.loads(line[6:])
                count = (piece.get("usage") or {}).get("completion_tokens", count)
    return count


def at_once(work: Callable[[int], int], users: int) -> int:
    """Tokens of all users, who ask at the same time."""
    counts = [0] * users

    def ask(number: int) -> None:
        counts[number] = work(number)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(users)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts)


def timed(work: Callable[[], int]) -> tuple[float, float]:
    """Tokens a second and CPU-seconds a token of some work."""
    begun, cpu = time.perf_counter(), _cpu()
    tokens = work()
    return tokens / (time.perf_counter() - begun), (_cpu() - cpu) / tokens


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


STREAMER = """
import json, os, resource, sys, threading
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, TextIteratorStreamer
folder, threads, tokens, asks = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), json.loads(sys.argv[4])
torch.set_num_threads(threads)
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)

def ask(text, tokens):
    ids = tokenizer.apply_chat_template([{"role": "user", "content": text}], add_generation_prompt=True, return_tensors="pt", return_dict=True)
    streamer = TextIteratorStreamer(tokenizer, skip_prompt=True)
    wanted = {"max_new_tokens": tokens, "min_new_tokens": tokens, "do_sample": False, "streamer": streamer}
    thread = threading.Thread(target=model.generate, kwargs={**ids, **wanted})
    thread.start()
    for _ in streamer:
        pass
    thread.join()

ask(asks[0], 4)
used = resource.getrusage(resource.RUSAGE_SELF)
for text in asks:
    ask(text, tokens)
now = resource.getrusage(resource.RUSAGE_SELF)
print((now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime) / tokens / len(asks))
"""


def streamer(folder: Path, threads: int, tokens: int) -> float:
    """CPU-seconds a token of transformers' streamer, in a process of its own."""
    asks = json.dumps([question(1)])
    command = [sys.executable, "-W", "ignore", "-c", STREAMER, str(folder), str(threads), str(tokens), asks]
    told = subprocess.run(command, check=True, capture_output=True, text=True, env={**os.environ, "HF_HUB_OFFLINE": "1"})
    return float(told.stdout)


def first_token(engine: Any, prompt: Any) -> tuple[float, str]:
    """Seconds to the first token of an answer, and the answer."""
    from lorikeet.engine import Sampling

    begun, first, text = time.perf_counter(), 0.0, ""
    for chunk in engine.chunks(prompt, Sampling(max_tokens=16)):
        for choice in chunk["choices"]:
            text += choice["delta"].get("content") or ""
            first = first or (time.perf_counter() - begun if choice["delta"].get("content") else 0.0)
    return first, text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=("135m", "1b"), default="135m")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    from lorikeet import bases, machine
    from lorikeet.conversation import Message
    from lorikeet.engine import Sampling
    from lorikeet.engine.server import LlamaServer
    from lorikeet.progress import Silent

    threads, tokens = machine.threads(0), 24 if arguments.quick else 96 if arguments.shape == "135m" else 48
    same: list[bool] = []
    samples: dict[str, list[tuple[float, float]]] = {name: [] for name in ("http", "cpu_per_token", "batching", "second_turn", "speculation")}
    with tempfile.TemporaryDirectory() as place:
        path = base(arguments.shape, Path(place))
        folder = Path(place) / "hf" if arguments.shape == "1b" else bases.prepare("smollm2-135m", Silent()).path
        engine = LlamaServer(path, threads, slots=USERS)
        drafting, plain = (LlamaServer(path, threads, slots=1, speculate=speculate) for speculate in (True, False))
        copying = [Message("user", f"Repeat this text exactly:\n{TEXT}")]
        with served(engine) as address:
            over_http(address, question(0), 4)
            for turn in range(1 if arguments.quick else arguments.repeats):
                ours = timed(lambda turn=turn: over_http(address, question(100 + turn), tokens))
                theirs = timed(lambda turn=turn: direct(engine, question(100 + turn), tokens))
                samples["http"].append((ours[0], theirs[0]))
                together = timed(lambda turn=turn: at_once(lambda n: over_http(address, question(1000 + 10 * turn + n), tokens), USERS))
                lock = threading.Lock()

                def behind(number: int, turn: int = turn, lock: threading.Lock = lock) -> int:
                    with lock:
                        return over_http(address, question(2000 + 10 * turn + number), tokens)

                alone = timed(lambda behind=behind: at_once(behind, USERS))
                samples["batching"].append((together[0], alone[0]))
                samples["cpu_per_token"].append((together[1], streamer(folder, threads, min(tokens, STREAMED))))
                long = [Message("user", f"{turn} " + " ".join(TEXT for _ in range(18)))]
                first, answer = first_token(engine, long)
                second, _ = first_token(engine, [*long, Message("assistant", answer), Message("user", "And what does he want to read?")])
                samples["second_turn"].append((second, first))
                speeds, texts = [], []
                for one in (drafting, plain):
                    chunks = list(one.chunks(copying, Sampling(max_tokens=64)))
                    texts.append("".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"]))
                    speeds.append(next(chunk["timings"]["predicted_per_second"] for chunk in chunks if "timings" in chunk))
                same.append(texts[0] == texts[1])
                samples["speculation"].append((speeds[0], speeds[1]))
                print({name: found[-1] for name, found in samples.items()}, file=sys.stderr)
        engine.close()
        drafting.close()
        plain.close()
    inverse = ("cpu_per_token", "second_turn")
    ratios = {f"{name}_ratio": round(statistics.median(b / a if name in inverse else a / b for a, b in found), 3) for name, found in samples.items()}
    result = {**ratios, "shape": arguments.shape, "users": USERS, "tokens": tokens, "speculation_says_the_same": all(same),
              "peer": "llama.cpp called directly; transformers' TextIteratorStreamer in bfloat16; a lock; the first turn; no speculation",
              "samples": samples, "versions": {name: version(name) for name in ("xllamacpp", "transformers", "torch")}}  # fmt: skip
    print(json.dumps(result) if arguments.json else json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
