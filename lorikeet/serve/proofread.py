"""The e-mail assistant: a draft is corrected sentence by sentence, as the model was taught, and what has changed is shown. Its page is email_page.py's."""

import contextlib
import difflib
import html
import re
from collections.abc import Iterator
from typing import NamedTuple

from lorikeet.engine import Sampling
from lorikeet.engine.server import text_of
from lorikeet.serve.offer import Offer, prompt_of
from lorikeet.serve.tone import Measurer, Tone

_SENTENCE = re.compile(r"\S.*?(?:[.!?]+(?=\s+[^\sa-z])|$)", re.MULTILINE)
_TOKEN = re.compile(r"\w+|\s+|[^\w\s]")
LONGER = 2
"""A correction that is more than so many times as long as its sentence, or a word or two of it, is none, and the sentence stays."""
FACES = ((-0.5, "\U0001f620"), (-0.15, "\U0001f61f"), (0.15, "\U0001f610"), (0.5, "\U0001f60a"), (2, "\U0001f603"))


class Progress(NamedTuple):
    """A draft on its way: the text so far, sentences done and all, and how many of them were left as they were since the answer was no correction."""

    text: str
    done: int
    of: int
    refused: int


def sentences(draft: str) -> list[tuple[int, int]]:
    """Where the sentences of a draft begin and end; a line's end ends one. What lies between them stays as it is."""
    return [match.span() for match in _SENTENCE.finditer(draft)]


def rewritten(offer: Offer, draft: str, sampling: Sampling, guidance: str = "") -> Iterator[Progress]:
    """The draft with one sentence after another corrected. guidance: a wish for the tone, which the model is told behind its system turn.

    Greetings and other lines of one or two words are left as they are.
    """
    found = sentences(draft)
    text, end, refused = "", 0, 0
    system = " ".join(filter(None, (offer.served.prompt(), guidance)))
    for done, (begin, stop) in enumerate(found):
        text += draft[end:begin]
        yield Progress(text, done, len(found), refused)
        sentence, end = draft[begin:stop], stop
        if len(sentence.split()) > 2:
            corrected = _corrected(offer, sentence, system, sampling)
            refused += corrected is None
            sentence = corrected or sentence
        text += sentence
    yield Progress(text + draft[end:], len(found), len(found), refused)


def _corrected(offer: Offer, sentence: str, system: str, sampling: Sampling) -> str | None:
    """The model's correction of a sentence; None where its answer cannot be one: empty, cut short, stopped, or of quite another length."""
    answer, ended = "", ""
    with contextlib.closing(offer.model.chunks(prompt_of([("user", sentence)], system), sampling)) as chunks:
        for chunk in chunks:
            answer += text_of(chunk)
            ended = next((choice["finish_reason"] for choice in chunk["choices"] if choice["finish_reason"]), ended)
    answer = " ".join(answer.split())
    fits = len(sentence) / LONGER < len(answer) < len(sentence) * LONGER + 20
    return answer if fits and ended == "stop" else None


def differences(before: str, after: str) -> str:
    """The new text as HTML, with what was taken out and put in marked word by word."""
    old, new = _TOKEN.findall(before), _TOKEN.findall(after)
    shown = []
    for kind, i, j, k, m in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        out, put = html.escape("".join(old[i:j])), html.escape("".join(new[k:m]))
        shown.append(put if kind == "equal" else (f"<del>{out}</del>" if out else "") + (f"<ins>{put}</ins>" if put else ""))
    return f'<div class="changes">{"".join(shown)}</div>'


def tones(measure: Measurer, before: str, after: str = "") -> str:
    """Sentiment and politeness of two texts, or of one that was not changed, as HTML: a face or a score, and a bar."""
    rows = [("Before", measure(before))] + ([("After", measure(after))] if after.strip() and after != before else [])
    return '<div class="tones">' + "".join(f"<div><h4>{name}</h4>{_shown(tone)}</div>" for name, tone in rows) + "</div>"


def _shown(tone: Tone) -> str:
    face = next(face for bound, face in FACES if tone.sentiment < bound)
    courteous = ("rude", "curt", "neutral", "polite", "very polite")[min(4, max(0, round(tone.politeness) - 1))]
    return _bar("Sentiment", f"{face} {tone.sentiment:+.2f}", (tone.sentiment + 1) / 2) + _bar(
        "Politeness", f"{courteous}, {tone.politeness:.1f} of 5", (tone.politeness - 1) / 4
    )


def _bar(name: str, told: str, share: float) -> str:
    width = round(100 * min(1.0, max(0.0, share)))
    return f'<p>{name}: {told}</p><div class="bar" role="img" aria-label="{name}: {html.escape(told)}"><span style="width:{width}%"></span></div>'
