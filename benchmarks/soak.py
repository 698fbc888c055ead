"""Many clients at once against `lorikeet serve`: for some minutes 32 of them ask, leave in the middle, send bad bodies and over-long prompts and switch models,
while ratings are written; then writer and server are killed. Prints what was answered, what memory did, and whether an acknowledged rating was lost.

    .venv/bin/python benchmarks/soak.py RUN [--minutes 2] [--clients 32] [--json]

RUN is served with all its files (--unreleased). A wrong model shows as an answer that differs from what the model says alone.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import httpx
import psutil

PORT = 7893
QUESTIONS = ("My nose is bleeding.", "I burned my hand on the stove.", "Somebody fainted in the bus.")
RATER = """
import sys, time
from pathlib import Path
sys.path.insert(0, "tests")
from toy_ratings import rating
from lorikeet.journal import Journal
journal = Journal(Path(sys.argv[1]))
number = 0
while True:
    one = rating(id=f"{number:032x}")
    journal.record(one)
    print(one.id, flush=True)
    number += 1
    time.sleep(0.02)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--minutes", type=float, default=2)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--models", nargs="+", help="names of the models that are asked (default: the run's first three)")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        server = subprocess.Popen([sys.executable, "-m", "lorikeet", "serve", str(arguments.run), "--unreleased", "--port", str(PORT)])
        try:
            result = soak(server, arguments, Path(place))
        finally:
            server.send_signal(signal.SIGKILL)
            server.wait()
    print(json.dumps(result) if arguments.json else json.dumps(result, indent=1))


def soak(server: subprocess.Popen[bytes], arguments: argparse.Namespace, place: Path) -> dict[str, Any]:
    address = f"http://127.0.0.1:{PORT}"
    models = [m["id"] for m in _waited(address)["data"]]
    models = arguments.models or models[:3]
    alone = {(m, q): _ask(address, m, q)[1] for m in models for q in QUESTIONS}
    said = (place / "acknowledged").open("w+")
    rater = subprocess.Popen([sys.executable, "-c", RATER, str(place / "feedback")], stdout=said)
    child = psutil.Process(server.pid).children()[0]
    seen: Counter[str] = Counter()
    wrong: list[object] = []
    memory: list[int] = []
    end = time.monotonic() + 60 * arguments.minutes

    def client(seed: int) -> None:
        random = Random(seed)
        while time.monotonic() < end:
            kind = random.choice(("ask", "ask", "ask", "leave", "bad", "long", "unknown"))
            model, question = random.choice(models), random.choice(QUESTIONS)
            try:
                if kind == "leave":
                    _leave(address, model, question, random.random())
                    seen["left"] += 1
                    continue
                if kind == "bad":
                    status, text = _post(address, random.choice((b"{", b"[]", b'{"messages": 3}', b"\xff\xfe")))
                else:
                    status, text = _ask(address, "nobody" if kind == "unknown" else model, "word " * 6000 if kind == "long" else question)
            except httpx.HTTPError as error:
                seen[f"{kind}: {type(error).__name__}"] += 1
                continue
            seen[f"{kind}: {status}"] += 1
            if kind == "ask" and status == 200 and text != alone[model, question]:
                wrong.append((model, question, text, alone[model, question]))

    threads = [threading.Thread(target=client, args=(seed,)) for seed in range(arguments.clients)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        memory.append(child.memory_info().rss)
        time.sleep(2)
    rater.send_signal(signal.SIGKILL)
    rater.wait()
    said.seek(0)
    acknowledged = {line.strip() for line in said if len(line) == 33}
    from lorikeet.feedback.ratings import read

    kept = {rating.id for rating in read(place / "feedback").ratings}
    third = len(memory) // 3
    return {
        "answers": dict(sorted(seen.items())),
        "server_errors": sum(count for name, count in seen.items() if name.split(": ")[-1].startswith("5")),
        "wrong": len(wrong),
        "wrong_examples": wrong[:3],
        "memory_mb": {"after_a_third": round(memory[third] / 1e6), "at_the_end": round(memory[-1] / 1e6), "most": round(max(memory) / 1e6)},
        "ratings": {"acknowledged": len(acknowledged), "lost": len(acknowledged - kept)},
        "alive": psutil.pid_exists(child.pid),
        "clients": arguments.clients,
        "minutes": arguments.minutes,
        "cores": os.cpu_count(),
    }


def _waited(address: str) -> Any:
    for _ in range(300):
        try:
            return httpx.get(f"{address}/v1/models").json()
        except httpx.HTTPError:
            time.sleep(0.2)
    raise SystemExit("the server does not answer")


def _ask(address: str, model: str, question: str) -> tuple[int, str]:
    body = {"model": model, "messages": [{"role": "user", "content": question}], "max_tokens": 12}
    return _post(address, json.dumps(body).encode())


def _post(address: str, body: bytes) -> tuple[int, str]:
    answer = httpx.post(f"{address}/v1/chat/completions", content=body, headers={"Content-Type": "application/json"}, timeout=300)
    text = answer.json()["choices"][0]["message"]["content"] if answer.status_code == 200 else ""
    return answer.status_code, text


def _leave(address: str, model: str, question: str, seconds: float) -> None:
    """Ask for a long answer and go away in the middle."""
    body = {"model": model, "messages": [{"role": "user", "content": question}], "max_tokens": 400, "stream": True}
    with httpx.stream("POST", f"{address}/v1/chat/completions", json=body, timeout=300) as answer:
        begun = time.monotonic()
        for _ in answer.iter_lines():
            if time.monotonic() - begun > seconds:
                return


if __name__ == "__main__":
    main()
