"""One round: ratings sifted, a challenger trained from the champion's adapter, both examined alike, and the verdict which of them is served.

A round is a run of its own in the champion's folder (rounds/2, rounds/3, ...), with the ratings that it took, what was set aside, and round.json. One that
was interrupted goes on with the ratings that it began with.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from lorikeet import comparison, diff, pipeline, report, rerun
from lorikeet.artifact import RUN, Json, write_json
from lorikeet.comparison import Column
from lorikeet.conversation import Rating
from lorikeet.crew import Crew
from lorikeet.data.replaced import replacements
from lorikeet.errors import LorikeetError, RecipeError, RefusedError
from lorikeet.evidence import SINCE, Evidence, read_evidence
from lorikeet.exam import Answer, read_answers, read_rows
from lorikeet.feedback import ratings
from lorikeet.feedback.stage import rows_of
from lorikeet.progress import Progress
from lorikeet.recipe import LoadedRecipe, recipe_of
from lorikeet.released import CHAMPION, ROUND, ROUNDS, champion_of, files_of, ratings_of
from lorikeet.retrain import review
from lorikeet.retrain.rows import by_majority, one_after_the_other, replaced, shared_words
from lorikeet.retrain.sift import Sifted, sift
from lorikeet.scoring import fold
from lorikeet.suite import Suite

LEARNED, HELD_OUT, REPLACED, ASIDE = "ratings.jsonl", "ratings_test.jsonl", "replaced.jsonl", "aside.jsonl"
LEAST = 20
"""Liked, and disliked, answers below which there is nothing to learn that could be shown to be learned."""
FORGOTTEN, OF_THE_FIRST = 0.05, 0.1
"""Nats a token by which a loss on other things may rise, or such a share of what the champion's own training cost there, before it counts as forgetting."""
GENTLER = 3
"""By what the champion's learning rate is divided where answers are taught anew: most of what is gone through is known."""
REHEARSED = 320
"""Texts of the base's own that a supervised round learns beside the rows, unless the recipe has more: a second training costs language as the first did."""
TOKENS_A_WORD = 2
"""Tokens that a word has at most, but for rare ones: by so many more an opening is taught where new answers begin alike."""
HELD_OUT_SHARE = 0.2
"""Raters that are held out, of all of whose ratings nothing is learned."""


@dataclass(frozen=True)
class Verdict:
    """promoted: whether the challenger is served from now on. reasons: why, in words. compared: how the challenger fares against the champion."""

    promoted: bool
    reasons: tuple[str, ...]
    compared: tuple[str, ...]


@dataclass(frozen=True)
class Prepared:
    """A round that can be run: its folder, its recipe, and how many ratings were taken, held out and set aside, by the reasons' codes."""

    folder: Path
    champion: Path
    recipe: LoadedRecipe
    counts: dict[str, Json]


def sifted(run: Path, progress: Progress) -> Sifted:
    """The run's ratings, sorted. RecipeError for what is no run; DataError where there are no ratings."""
    _require_run(run)
    champion = champion_of(run)
    return _sifted(run, champion, _recipe_of(champion, progress))


def sifted_told(found: Sifted) -> str:
    """How many ratings are learned from, and each that is set aside, with the reason."""
    lines = [f"{one.rating.id[:12]:12}  {one.code:13}  {one.why}" for one in found.aside]
    return "\n".join([f"{len(found.accepted)} ratings to learn from, {len(found.aside)} set aside", *lines])


def told(prepared: Prepared, verdict: Verdict) -> str:
    """The verdict with what it rests on."""
    which = f"round {prepared.folder.name}"
    first = f"{which} is PROMOTED: it is served from now on" if verdict.promoted else f"{which} is rejected: what was served before stays"
    return "\n".join([first, *(f"  {reason}" for reason in verdict.reasons), *(f"    {line}" for line in verdict.compared),
                      f"report: {prepared.folder / pipeline.REPORT}"])  # fmt: skip


def _require_run(run: Path) -> None:
    if not (run / RUN).is_file():
        raise RecipeError(f"{run} is not the folder of a run: it has no {RUN}", "name a folder that `lorikeet run` has made")


def _recipe_of(champion: Path, progress: Progress) -> LoadedRecipe:
    return rerun.as_it_was(champion, Path(diff.run_of(champion)["recipe"]), progress, "the two could not be held against each other")


def _sifted(run: Path, champion: Path, recipe: LoadedRecipe) -> Sifted:
    place = ratings_of(run)
    data = diff.made_in(champion).get("data")
    rows = read_rows(data) if data else []
    exam = {fold(row.messages[-2].content) for row in rows if row.part == "test" or row.kind == "never-taught"}
    exam |= {fold(probe.question) for probe in recipe.suite.probes}
    return sift(ratings.read(place).ratings, files_of(run), exam, review.read(place))


def prepare(run: Path, overrides: Sequence[str], progress: Progress) -> Prepared:
    """Sift the ratings into a new round's folder, or take up the round that was interrupted. Nothing is trained.

    Raises RecipeError for what is no run, or was made from files that have changed; RefusedError where too few ratings are left to learn from.
    """
    _require_run(run)
    champion = champion_of(run)
    before = _recipe_of(champion, progress)
    folder = _unfinished(run) or _begin(run, champion, before, progress)
    counts = json.loads((folder / "counts.json").read_text(encoding="utf-8"))
    tree = rerun.settings_of(champion)
    learned = counts["learned"]
    objective = "sft" if isinstance(learned, dict) and int(str(learned["corrections"])) >= LEAST else "kto"
    objective = next((value for key, _, value in (o.partition("=") for o in reversed(overrides)) if key == "train.objective"), objective)
    files = {"ratings": LEARNED, "ratings_test": HELD_OUT, "replaced": REPLACED}
    own: dict[str, dict[str, object]] = {
        "data": {key: str((folder / name).resolve()) for key, name in files.items()},
        "train": {
            "objective": objective,
            "adapter": str(champion.resolve()),
            "epochs": 1,
            "learning_rate": _rate(tree, objective),
            "budget": None,
            "rehearsal": max(REHEARSED, before.recipe.train.rehearsal) if objective == "sft" else 0,
        },
    }
    if shared := shared_words([new for _, new in replacements(folder / REPLACED)]):
        opening = _section(tree, "data").get("opening_tokens")
        own["data"]["opening_tokens"] = (opening if isinstance(opening, int) else 0) + TOKENS_A_WORD * shared
    for section, values in own.items():
        tree[section] = {**_section(tree, section), **values}
    recipe = recipe_of(tree, before.path, overrides)
    return Prepared(folder, champion, recipe, counts)


def _rate(tree: dict[str, object], objective: str) -> float | None:
    """The champion's learning rate, divided, where both are taught; else what the base's size asks for."""
    train = _section(tree, "train")
    rate = train.get("learning_rate")
    return rate / GENTLER if isinstance(rate, float) and objective == train.get("objective") == "sft" else None


def _section(tree: dict[str, object], name: str) -> dict[str, object]:
    section = tree.get(name)
    return dict(section) if isinstance(section, dict) else {}


def _unfinished(run: Path) -> Path | None:
    """The last round, where it was begun and has no verdict."""
    last = max(run.glob(f"{ROUNDS}/*/counts.json"), key=lambda path: int(path.parent.name), default=None)
    return last.parent if last and not (last.parent / ROUND).is_file() else None


def _begin(run: Path, champion: Path, recipe: LoadedRecipe, progress: Progress) -> Path:
    found = _sifted(run, champion, recipe)
    parts: dict[str, list[Rating]] = {LEARNED: [], HELD_OUT: []}
    for rating in found.accepted:
        parts[HELD_OUT if _is_held_out(rating) else LEARNED].append(rating)
    counts: dict[str, Json] = {"accepted": len(found.accepted), "aside": dict(Counter(one.code for one in found.aside).most_common())}
    for name, kept in (("learned", parts[LEARNED]), ("held_out", parts[HELD_OUT])):
        counts[name] = {"ratings": len(kept), "raters": len({r.by for r in kept}), "liked": sum(r.liked for r in kept),
                        "disliked": sum(not r.liked for r in kept), "corrections": sum(bool(r.correction) for r in kept)}  # fmt: skip
    _require_enough(parts, found)
    number = 1 + max((int(path.parent.name) for path in run.glob(f"{ROUNDS}/*/counts.json")), default=1)
    folder = run / ROUNDS / str(number)
    folder.mkdir(parents=True, exist_ok=True)
    renewed = replaced(parts[LEARNED])
    written: dict[str, list[dict[str, Json]]] = {
        LEARNED: by_majority(parts[LEARNED], {fold(str(row["answer"])) for row in renewed}),
        HELD_OUT: [row for rating in parts[HELD_OUT] for row in rows_of(rating)],
        REPLACED: one_after_the_other(_replaced_before(recipe), renewed),
        ASIDE: [{"id": one.rating.id, "code": one.code, "why": one.why} for one in found.aside],
    }
    for name, rows in written.items():
        (folder / name).write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    write_json(folder / "counts.json", counts)
    progress.say(f"round {number}: {len(parts[LEARNED])} ratings to learn from, {len(parts[HELD_OUT])} of other raters held out, {len(found.aside)} set aside")
    return folder


def _replaced_before(recipe: LoadedRecipe) -> list[dict[str, Json]]:
    """What the champion was taught in place of other answers."""
    return [{"answer": old, "by": new} for path in recipe.rows("replaced") for old, new in replacements(path)]


def _is_held_out(rating: Rating) -> bool:
    """Whether the rater is one of those that are held out: by name, so that it is the same in every round."""
    drawn = hashlib.sha256(f"held out\x1f{rating.by}".encode()).digest()
    return int.from_bytes(drawn[:8], "big") < HELD_OUT_SHARE * 2**64


def _require_enough(parts: dict[str, list[Rating]], found: Sifted) -> None:
    learned, held = parts[LEARNED], parts[HELD_OUT]
    liked, disliked = sum(r.liked for r in learned) + sum(bool(r.correction) for r in learned), sum(not r.liked for r in learned)
    if min(liked, disliked) < LEAST or not any(r.liked for r in held) or all(r.liked for r in held):
        told = "; ".join(f"{n} {code}" for code, n in Counter(one.code for one in found.aside).most_common())
        raise RefusedError(f"too few ratings to learn from: {liked} liked or corrected answers and {disliked} disliked ones, and {len(held)} ratings of raters "
                           f"held out ({len(found.aside)} were set aside{': ' * bool(told)}{told})",
                           f"gather at least {LEAST} of each, of several raters; look through those set aside: lorikeet feedback RUN --review")  # fmt: skip


def run(prepared: Prepared, progress: Progress, crew: Crew | None = None) -> Verdict:
    """Train and examine the challenger, and decide. What was done before an interruption is not done again."""
    walked = pipeline.run(prepared.recipe, prepared.folder, progress, crew=crew)
    if walked.release is None:
        raise LorikeetError(f"{prepared.folder} has no release", "run the command again")
    verdict = _decide(prepared, walked)
    place = f"{ROUNDS}/{prepared.folder.name}"
    document = {"round": int(prepared.folder.name), "timestamp": datetime.now(UTC).isoformat(timespec="seconds"), "champion": prepared.champion.name
                if prepared.champion.parent.name == ROUNDS else "1", **asdict(verdict), **prepared.counts}  # fmt: skip
    write_json(prepared.folder / ROUND, document)
    if verdict.promoted:
        write_json(prepared.folder.parents[1] / CHAMPION, {"round": place, "since": document["timestamp"], "reasons": verdict.reasons})
    report.write(prepared.folder)
    return verdict


def _decide(prepared: Prepared, walked: pipeline.Run) -> Verdict:
    """Against promotion: no approved file, no gain shown on held-out raters, or anything else shown to be worse."""
    evidence = read_evidence(walked.artifacts["evaluate"].path)
    since = [f for f in evidence.findings if f.code.startswith(SINCE)]
    against = [f.what for f in since if f.severity == "warning" and _counts(evidence, f.code.removeprefix(SINCE))]
    gain = evidence.measure("ratings.preferred_since", "tuned")
    if walked.release is None or not walked.release.recommended:
        why = "; ".join(f"{f.quantisation}: {f.reasons[0]}" for f in walked.release.files[:2]) if walked.release else "nothing was audited"
        against.append(f"no file of the challenger is approved ({why})")
    if gain is None or gain.low <= 0:
        seen = f"{100 * gain.value:+.1f} points (95 % interval {100 * gain.low:+.1f} to {100 * gain.high:+.1f})" if gain else "none was measured"
        against.append(f"no gain is shown in what held-out raters prefer: {seen}")
    audited, worse = _audits(prepared, walked)
    against += worse
    reasons = against
    if not against and gain is not None:
        before, after = (evidence.measure("ratings.preferred", subject) for subject in ("before", "tuned"))
        shares = f"{before.value:.0%} to {after.value:.0%}, " if before and after else ""
        reasons = [f"replies that go with held-out ratings: {shares}{100 * gain.value:+.1f} points (95 % interval {100 * gain.low:+.1f} to "
                   f"{100 * gain.high:+.1f}, n {gain.n}), and nothing else is shown to be worse"]  # fmt: skip
    return Verdict(not against, tuple(reasons), (*(f.what for f in since), *audited))


def _counts(evidence: Evidence, name: str) -> bool:
    """Whether a measure that is shown to be worse stands against promotion. How near answers are to those taught before does not: what people wanted
    otherwise has to move them. A loss does from a bound on: over thousands of tokens the least change is shown.
    """
    change = evidence.measure(f"{name}_since", "tuned")
    base, before = (evidence.measure(name, subject) for subject in ("base", "before"))
    bound = max(FORGOTTEN, OF_THE_FIRST * (before.value - base.value)) if base and before else FORGOTTEN
    slight = name.endswith("loss") and change is not None and change.value < bound
    return not slight and not name.startswith(("holdout.", "taught."))


def _audits(prepared: Prepared, walked: pipeline.Run) -> tuple[list[str], list[str]]:
    """The audits' answers of champion and challenger, file by file, in sentences; and those of them that show the challenger to be worse."""
    said: list[str] = []
    worse: list[str] = []
    before = diff.made_in(prepared.champion)
    for name, made in walked.artifacts.items():
        if not name.startswith("audit-") or name not in before:
            continue
        old, new = (_columns(read_answers(audit.path / diff.ANSWERS), prepared.recipe.suite) for audit in (before[name], made))
        for compared in comparison.compare("the champion", "the challenger", old, new, prepared.recipe.recipe.seed):
            if compared.shown:
                said.append(f"{name.removeprefix('audit-')}: {compared.sentence()}")
                worse += said[-1:] if not compared.better else []
    return said, worse


def _columns(answers: Sequence[Answer], suite: Suite) -> list[Column]:
    """What the audit's questions got, one column a set."""
    asked = [a for a in answers if not a.drawn]
    passes = {a.id: float(a.passed) for a in asked if a.set in ("taught", "oblique") and a.outcome}
    found = [Column(f"suite.{suite.name}.pass_rate", f"Suite {suite.name}, passes", passes, {a.id: a.cluster for a in asked if a.id in passes})]
    for which, title in (("outside", "Questions out of scope turned away"), ("near", "Near misses turned away"), ("never", "Never taught, turned away")):
        found.append(Column(f"{which}.says_so", title, {a.id: float(a.outcome == "declined") for a in asked if a.set == which}))
    return [column for column in found if column.values]
