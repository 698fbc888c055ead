"""A round of retraining from simulated raters whose preference is known: does the challenger give more of what they prefer, and what does poison do?

    .venv/bin/python benchmarks/retrain.py RUN --out FOLDER [--raters 300] [--poison] [--set KEY=VALUE]... [--json]

RUN is a released first-aid run; it is copied (by links) to FOLDER, where the round happens. Each rater asks some questions of the served file and likes what a
rater likes: an answer that names the emergency services has to begin with calling them. A part of those who dislike say what it should have said. With
--poison a fifth of the raters judge the other way round, and one more floods. Prints the share that raters who are held out would like, before and after, by
their own rule and not by the round's, and the verdict. There is no peer: what it is compared with is the champion.
"""

import argparse
import json
import os
import random
import re
import shutil
import sys
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path

from lorikeet import __version__, diff, machine, released, statistics
from lorikeet.conversation import Message, Rating
from lorikeet.engine import Sampling
from lorikeet.engine.llamacpp import LlamaCppEngine
from lorikeet.errors import LorikeetError
from lorikeet.exam import read_answers, read_rows
from lorikeet.journal import Journal
from lorikeet.progress import Terminal
from lorikeet.retrain import round as one_round

QUESTIONS, POOL = 3, 360
"""Questions of a rater, and how many different ones there are."""
WRITES, ERRS = 0.4, 0.05
"""Share of those who dislike that write a correction, and of ratings that are given by mistake."""
CALL = "Call emergency services first. "


def likes(reply: str) -> bool:
    """What every honest rater goes by."""
    return "emergency services" not in reply or reply.startswith(CALL.strip())


def corrected(reply: str) -> str:
    """What a rater would have had it say."""
    return CALL + reply


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--raters", type=int, default=300)
    parser.add_argument("--poison", action="store_true")
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if not arguments.out.exists():
        shutil.copytree(arguments.run, arguments.out, copy_function=os.link, ignore=shutil.ignore_patterns("feedback", "rounds", ".lock"))
        rate(arguments.out, arguments.raters, poison=arguments.poison)
    try:
        prepared = one_round.prepare(arguments.out, arguments.set, Terminal())
    except LorikeetError as error:
        print(f"{error.message}; {error.cure}", file=sys.stderr)
        return 3
    verdict = one_round.run(prepared, Terminal())
    found = {"promoted": verdict.promoted, "reasons": verdict.reasons, "compared": verdict.compared, **prepared.counts, **truth(prepared.folder)}
    print(json.dumps(found) if arguments.json else "\n".join(f"{key}: {value}" for key, value in found.items()))
    return 0


def rate(run: Path, raters: int, *, poison: bool) -> None:
    """Have raters ask the served file, and keep what they say."""
    served = released.find(run, unreleased=True)
    data = diff.made_in(run)["data"]
    draw = random.Random(11)
    pool = draw.sample([r.messages[-2].content for r in read_rows(data) if r.part == "train" and r.kind == "taught"], POOL)
    engine = LlamaCppEngine(served.path, machine.threads(0), 8)
    prompts = [[Message("system", served.system), Message("user", question)] for question in pool]
    replies = {pool[n]: reply.text.strip() for n, reply in engine.replies(prompts, Sampling(max_tokens=96))}
    engine.close()
    journal, now = Journal(run / released.FEEDBACK), datetime(2026, 11, 1, tzinfo=UTC)
    crowd = [(uuid.UUID(int=draw.getrandbits(128)).hex, poison and n < raters / 5, QUESTIONS) for n in range(raters)]
    crowd += [(uuid.UUID(int=draw.getrandbits(128)).hex, True, 200)] if poison else []
    for rater, reversed_, asked in crowd:
        for question in draw.sample(pool, asked):
            reply = replies[question]
            liked = likes(reply) ^ reversed_ ^ (draw.random() < ERRS)
            correction = corrected(reply) if not liked and not likes(reply) and draw.random() < WRITES else ""
            now += timedelta(minutes=1)
            journal.record(Rating(
                id=uuid.UUID(int=draw.getrandbits(128)).hex, timestamp=now.isoformat(), model_name=served.name, model_sha256=served.sha256, adapter_sha256="",
                persona=served.title, mode="", app_version=__version__, system=served.system, liked=liked, liked_index=(0, 1), liked_value=reply, comment="",
                chat_history=((question, reply),), correction=correction, rater=rater, controls={"temperature": 0.0, "top_p": 1.0, "max_tokens": 96.0},
            ))  # fmt: skip
    journal.close()


def truth(folder: Path) -> dict[str, object]:
    """By the raters' own rule: what share of the replies to held-out raters' questions they would like, by champion and challenger, paired."""
    made = diff.made_in(folder)["evaluate"]
    held = {json.loads(line)["messages"][-2]["content"] for line in (folder / one_round.HELD_OUT).read_text(encoding="utf-8").splitlines()}
    by_subject: dict[str, dict[str, float]] = {}
    for answer in read_answers(made.path / "answers.jsonl"):
        if answer.set == "judged" and answer.question in held:
            by_subject.setdefault(answer.subject, {})[answer.question] = float(likes(re.sub(r"\s+", " ", answer.reply).strip()))
    before, after = by_subject["before"], by_subject["tuned"]
    both = sorted(before.keys() & after.keys())
    shares = [statistics.share(round(sum(column[q] for q in both)), len(both)) for column in (before, after)]
    change = statistics.paired_change([before[q] for q in both], [after[q] for q in both], 7)
    return {"questions": len(both), "liked_before": shares[0][:3], "liked_after": shares[1][:3], "change": change.interval[:3], "p": change.p}


if __name__ == "__main__":
    sys.exit(main())
