"""What so many users cost: the arithmetic of docs/capacity.md, and a simulation that it is held against.

    .venv/bin/python benchmarks/capacity.py [--file GGUF | --speeds 1:30,8:100 | --bandwidth 300 --weights 2.5 --cache 32]
        [--slots 8] [--waiting 16] [--think 60] [--answer 50] [--read 0.2] [--users 1,5,10,20,50,100,200] [--hours 4] [--json]

Users think (exponential), ask, and read the answer while the engine, which serves at most `slots` at a time and lets `waiting` more wait, shares its speed
among those it serves. Who finds it full goes away and comes again after thinking. The arithmetic is a birth-death chain: as many states as users, each entered
at the rate of those who think, left at the engine's speed with so many served; it is exact for exponential answers. The simulation (SimPy) knows nothing of the
chain: answers are drawn log-normal, are read in before they are written, and every user is a process. With --file the speeds are measured here first; with
--bandwidth they are those of an accelerator that reads weights and cache once a token, at half of what its maker says of its memory.
"""

import argparse
import json
import math
import random
import sys
import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import simpy

QUESTION = "Explain in three sentences what to do with a small burn."
SPREAD = 0.6
"""Standard deviation of the logarithm of an answer's length."""
REACHED, CONTEXT = 0.5, 500
"""Share of an accelerator's memory bandwidth that decoding gets, and tokens that a conversation has in its cache, on average."""


@dataclass(frozen=True)
class Load:
    """Seconds of thought between two questions, tokens of an answer, seconds of one alone before its first token, places served, and places to wait."""

    think: float
    answer: float
    read: float
    slots: int
    waiting: int


@dataclass(frozen=True)
class Found:
    """Questions answered a minute, seconds from question to whole answer on average, and the share that found no place."""

    users: int
    per_minute: float
    seconds: float
    refused: float


def speed(speeds: Mapping[int, float], served: int) -> float:
    """Tokens a second with so many served at a time, between the measured numbers by a straight line."""
    known = sorted(speeds)
    if served <= known[0]:
        return speeds[known[0]] * served / known[0]
    for low, high in pairwise(known):
        if served <= high:
            return speeds[low] + (speeds[high] - speeds[low]) * (served - low) / (high - low)
    return speeds[known[-1]]


def work(load: Load, speeds: Mapping[int, float]) -> float:
    """Tokens of work in a question: its answer, and its reading as so many tokens of one alone."""
    return load.answer + load.read * speed(speeds, 1)


def reckoned(users: int, load: Load, speeds: Mapping[int, float]) -> Found:
    """By the chain whose state is how many are served or wait."""
    most = min(users, load.slots + load.waiting)
    weights = [1.0]
    for n in range(1, most + 1):
        begun = (users - n + 1) / load.think
        done = speed(speeds, min(n, load.slots)) / work(load, speeds)
        weights.append(weights[-1] * begun / done)
    chances = [w / sum(weights) for w in weights]
    begun = sum(p * (users - n) / load.think for n, p in enumerate(chances) if n < most or users <= most)
    turned = chances[most] * (users - most) / load.think
    inside = sum(p * n for n, p in enumerate(chances))
    return Found(users, 60 * begun, inside / begun if begun else math.nan, turned / (begun + turned) if begun + turned else 0.0)


class Engine:
    """Shares its speed among those served; the others wait in the order in which they came."""

    def __init__(self, world: simpy.Environment, load: Load, speeds: Mapping[int, float]) -> None:
        self._world, self._load, self._speeds = world, load, speeds
        self._served: dict[simpy.Event, float] = {}
        self._queue: list[tuple[simpy.Event, float]] = []
        self._since = 0.0
        self._round = 0

    @property
    def full(self) -> bool:
        return len(self._served) + len(self._queue) >= self._load.slots + self._load.waiting

    def ask(self, tokens: float) -> simpy.Event:
        """What happens when so many tokens are written."""
        self._go_on()
        done = self._world.event()
        self._queue.append((done, tokens))
        self._admit()
        return done

    def _rate(self) -> float:
        """Tokens a second of each that is served."""
        return speed(self._speeds, len(self._served)) / len(self._served)

    def _go_on(self) -> None:
        """Write down what was done since the last change."""
        if self._served:
            written = (self._world.now - self._since) * self._rate()
            self._served = {done: left - written for done, left in self._served.items()}
        self._since = self._world.now

    def _admit(self) -> None:
        while self._queue and len(self._served) < self._load.slots:
            done, tokens = self._queue.pop(0)
            self._served[done] = tokens
        self._round += 1
        if self._served:
            self._world.process(self._wait(self._round, max(0.0, min(self._served.values())) / self._rate()))

    def _wait(self, number: int, seconds: float) -> Generator[Any, Any, None]:
        yield self._world.timeout(seconds)
        if number != self._round:  # somebody came in the meantime
            return
        self._go_on()
        first = min(self._served, key=lambda done: self._served[done])
        del self._served[first]
        first.succeed()
        self._admit()


def simulated(users: int, load: Load, speeds: Mapping[int, float], hours: float, seed: int) -> tuple[Found, float]:
    """The same, watched for so many hours after a tenth of them; and the time that 95 of 100 questions are answered in, seconds."""
    world, draw = simpy.Environment(), random.Random(seed)
    engine, warm, took = Engine(world, load, speeds), hours * 360, list[float]()
    turned = [0]
    mean = math.log(load.answer) - SPREAD**2 / 2

    def user() -> Generator[Any, Any, None]:
        while True:
            yield world.timeout(draw.expovariate(1 / load.think))
            if engine.full:
                turned[0] += world.now > warm
                continue
            asked = world.now
            yield engine.ask(draw.lognormvariate(mean, SPREAD) + load.read * speed(speeds, 1))
            if asked > warm:
                took.append(world.now - asked)

    for _ in range(users):
        world.process(user())
    world.run(until=hours * 3600 + warm)
    took.sort()
    found = Found(users, len(took) / hours / 60, sum(took) / len(took), turned[0] / (turned[0] + len(took)))
    return found, took[int(0.95 * len(took))]


def measured(path: Path, most: int) -> dict[int, float]:
    """Tokens a second of a file on this machine, with 1, 2, 4, ... conversations at a time."""
    from lorikeet import machine
    from lorikeet.conversation import Message
    from lorikeet.engine import Sampling
    from lorikeet.engine.llamacpp import LlamaCppEngine

    found, many = {}, 1
    while many <= most:
        engine = LlamaCppEngine(path, machine.threads(0), many)
        prompts = [[Message("user", f"{QUESTION} ({n})")] for n in range(2 * many)]
        begun = time.monotonic()
        tokens = sum(reply.tokens for _, reply in engine.replies(prompts, Sampling(max_tokens=96)))
        found[many] = tokens / (time.monotonic() - begun)
        engine.close()
        many *= 2
    return found


def bound(bandwidth: float, weights: float, cache: float, most: int) -> dict[int, float]:
    """Tokens a second that an accelerator's memory allows: GB/s, GB of weights, KiB of cache a token; REACHED of the first, CONTEXT tokens a conversation."""
    many, found = [2**n for n in range(most.bit_length())], {}
    for k in sorted({*many, most}):
        found[k] = k * REACHED * bandwidth / (weights + k * CONTEXT * cache * 1024 / 1e9)
    return found


def _speeds(text: str) -> dict[int, float]:
    return {int(many): float(rate) for many, _, rate in (pair.partition(":") for pair in text.split(","))}


def main(given: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--file", type=Path)
    source.add_argument("--speeds", type=_speeds, default={1: 45.0, 8: 100.0, 16: 114.0})
    source.add_argument("--bandwidth", type=float)
    parser.add_argument("--weights", type=float, default=2.5)
    parser.add_argument("--cache", type=float, default=32.0)
    parser.add_argument("--slots", type=int, default=8)
    parser.add_argument("--waiting", type=int, default=16)
    parser.add_argument("--think", type=float, default=60.0)
    parser.add_argument("--answer", type=float, default=50.0)
    parser.add_argument("--read", type=float, default=0.2)
    parser.add_argument("--users", type=lambda text: [int(n) for n in text.split(",")], default=[1, 5, 10, 20, 50, 100, 200])
    parser.add_argument("--hours", type=float, default=4.0)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args(given)
    load = Load(arguments.think, arguments.answer, arguments.read, arguments.slots, arguments.waiting)
    if arguments.file:
        speeds = measured(arguments.file, arguments.slots)
    elif arguments.bandwidth:
        speeds = bound(arguments.bandwidth, arguments.weights, arguments.cache, arguments.slots)
    else:
        speeds = arguments.speeds
    rows = []
    for users in arguments.users:
        by_chain = reckoned(users, load, speeds)
        seen, late = simulated(users, load, speeds, arguments.hours, 7)
        rows.append({"users": users, "reckoned": asdict(by_chain), "simulated": asdict(seen), "seconds_95": late})
    full = (load.think + work(load, speeds) / speed(speeds, 1)) * speed(speeds, load.slots) / work(load, speeds)
    if arguments.json:
        print(json.dumps({"speeds": speeds, "load": asdict(load), "full_at": full, "rows": rows}))
        return 0
    print(f"tokens a second by how many are served: {', '.join(f'{n}: {rate:.0f}' for n, rate in sorted(speeds.items()))}")
    print(f"busy all the time from about {full:.0f} users on")
    print("users  answers a minute   seconds to a whole answer (95 %)   refused          reckoned, simulated")
    for row in rows:
        a, b = row["reckoned"], row["simulated"]
        print(f"{row['users']:5}  {a['per_minute']:7.1f} {b['per_minute']:7.1f}    {a['seconds']:7.1f} {b['seconds']:7.1f} ({row['seconds_95']:.1f})"
              f"          {a['refused']:6.1%} {b['refused']:6.1%}")  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
