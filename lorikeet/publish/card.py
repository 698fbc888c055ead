"""The model card: written from evidence alone, and checked against it, figure by figure.

The check reads tables as a reader would and holds each figure against evidence.json; other lines with a figure have to be those that the evidence gives.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2

from lorikeet.errors import RecipeError, RefusedError
from lorikeet.evidence import Evidence, Measure
from lorikeet.publish.evidence import Shown
from lorikeet.publish.licence import Licence

BEGIN, END = "<!-- the owner's words -->", "<!-- end of the owner's words -->"
WEAK = 12
"""Topics that are listed as weak, at most."""
_HEAD = "| measure | of | value | 95 % interval | n |"
_SKIPPED = re.compile(r"effective_n|_stop_rate$|\.turned_away$|kl_p99|parting|_change$|_since$|^holdout\.\w+\.loss$|set_aside")
"""Measures that stand in the evidence, and would make the card's tables too long."""
_ROW = re.compile(r"\| `(?P<name>[\w.+-]+)` \| (?P<subject>[^|]+) \| (?P<value>[^|]+) \| (?P<low>[^|]+) to (?P<high>[^|]+) \| (?P<n>[\d.]+) \|")


def card(shown: Shown, licence: Licence, use: str, about: str = "") -> str:
    """The card as Markdown with the Hub's front matter. use: how to run it; about: the owner's own words, whose figures nobody checks."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )  # Markdown, whose cells `told` cleans
    environment.filters["name"] = lambda path: Path(path).name
    environment.globals |= {"BEGIN": BEGIN, "END": END, "table": _table}
    whole = shown.made.get("export-F16")
    told: dict[str, Any] = {
        "shown": shown,
        "licence": licence,
        "use": use,
        "about": about.strip(),
        "languages": list(shown.data.get("languages") or {"en": 0})[:1],
        "blocked": [f for f in shown.release.files if f.verdict != "approved"],
        "evaluation": _telling(shown.evaluation),
        "audits": {name: _telling(evidence) for name, evidence in shown.audits.items()},
        "weak": _weak(shown),
        "how": _how(shown),
        "source": next((digest for file, digest in whole.manifest.files.items() if file.endswith(".gguf")), "") if whole else "",
    }
    return environment.get_template("card.md").render(told)


def _telling(evidence: Evidence) -> list[Measure]:
    return [measure for measure in evidence.measures if not _SKIPPED.search(measure.name)]


def _table(measures: Sequence[Measure]) -> str:
    lines = [_HEAD, "|---|---|---|---|---|"]
    for m in measures:
        unit = "" if m.unit == "share" else f" {m.unit}"
        lines.append(f"| `{m.name}` | {m.subject} | {_figure(m.value, m.unit)}{unit} | {_figure(m.low, m.unit)} to {_figure(m.high, m.unit)} | {m.n} |")
    return "\n".join(lines)


def _figure(value: float, unit: str) -> str:
    """A share in per cent with one decimal, anything else with four."""
    return f"{100 * value:.1f} %" if unit == "share" else f"{value:.4f}"


def _weak(shown: Shown) -> list[tuple[str, int, int]]:
    """Topics with a probe that the recommended file did not pass: how many of how many it passed, the worst first."""
    asked: dict[str, list[bool]] = {}
    for answer in shown.answers(shown.recommended.quantisation):
        if answer.set == "taught" and answer.outcome and not answer.drawn:
            asked.setdefault(answer.topic or "none", []).append(answer.passed)
    missed = [(topic, sum(passes), len(passes)) for topic, passes in asked.items() if not all(passes)]
    return sorted(missed, key=lambda row: (row[1] / row[2], row[0]))[:WEAK]


def _how(shown: Shown) -> str:
    settings = shown.made["train"].manifest.settings
    objective = {"kto": "KTO on liked and disliked answers", "dpo": "DPO on pairs of answers"}.get(str(settings.get("objective")), "supervised")
    if settings.get("method") == "full":
        return f"{objective}, every weight, learning rate {settings['learning_rate']}, {settings['epochs']} passes"
    kind = {"qlora": "QLoRA (NF4)"}.get(str(settings.get("method")), "LoRA")
    return (f"{objective}, {kind} of rank {settings['rank']} and alpha {settings['alpha']}, learning rate {settings['learning_rate']}, {settings['epochs']} "
            f"passes, seed {settings['seed']}")  # fmt: skip


def check(text: str, shown: Shown, licence: Licence, use: str) -> list[str]:
    """What is wrong with a card: figures that no evidence stands behind, each with its line; else those left out. The owner's words are passed over."""
    known = {(subject, m.name, m.subject): m for subject, evidence in _evidence(shown).items() for m in evidence.measures}
    allowed = {line for line in card(shown, licence, use).splitlines() if re.search(r"\d", line)}
    problems: list[str] = []
    part, inside = "", False
    for number, line in enumerate(text.splitlines(), 1):
        inside = (inside or line == BEGIN) and line != END
        if line.startswith("#"):
            part = line.lstrip("# ")
        if inside or not re.search(r"\d", line):
            continue
        if found := _ROW.fullmatch(line):
            measure = known.get((part, found["name"], found["subject"])) or known.get(("", found["name"], found["subject"]))
            problems += [f"line {number}: {found['name']} of {found['subject']}: {what}" for what in _wrong(found, measure)]
        elif line not in allowed and line != _HEAD:
            problems.append(f"line {number}: no evidence stands behind it: {line[:120]}")
    there = set(text.splitlines())
    return problems or [f"this was left out: {line[:120]}" for line in sorted(allowed - there)]


def _evidence(shown: Shown) -> Mapping[str, Evidence]:
    """By the heading that stands above a table: the quantisation, or nothing for the evaluation."""
    return {"": shown.evaluation, **shown.audits}


def _wrong(found: re.Match[str], measure: Measure | None) -> list[str]:
    if measure is None:
        return ["the evidence has no such measure"]
    wrong = []
    for name, true in (("value", measure.value), ("low", measure.low), ("high", measure.high)):
        number = re.match(r"-?[\d.]+", found[name].strip())
        digits = len(number[0].partition(".")[2]) if number else 0
        scale = 100 if "%" in found[name] else 1
        if number is None or abs(float(number[0]) - scale * true) > 0.5000001 * 10.0**-digits:
            wrong.append(f"{found[name].strip()} stands there, the evidence says {_figure(true, measure.unit)}")
    if found["n"] != str(measure.n):
        wrong.append(f"n {found['n']} stands there, the evidence says {measure.n}")
    return wrong


def require(text: str, shown: Shown, licence: Licence, use: str) -> None:
    """RefusedError where a card says what no evidence stands behind."""
    if problems := check(text, shown, licence, use):
        raise RefusedError(f"the card says what was not measured: {problems[0]}" + (f", and {len(problems) - 1} more" if problems[1:] else ""),
                           "put back what the evidence says; write your own words between the two lines that mark them")  # fmt: skip


def words(path: Path | None) -> str:
    """The owner's words for the card, from a file; RecipeError where it cannot be read."""
    if path is None:
        return ""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path} cannot be read: {error}", "name a text file in UTF-8 with --about") from error
