"""What stands in rows and should not: marks of templates, placeholders, wrong decoding, other languages, secrets, personal data."""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from lorikeet.data.split import Row
from lorikeet.evidence import Finding, Severity
from lorikeet.scoring import TEMPLATE_MARKS

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier

BLED = 0.01
"""Share of the rows from which names of speakers inside answers are an error."""
ENOUGH_TO_TELL, SURE = 8, 0.9
"""Words of a row from which its language is asked for, and the confidence from which another than the most counts."""


def places(rows: Sequence[Row]) -> tuple[str, ...]:
    """Where the first ten of the rows stand."""
    return tuple(str(row.conversation.source) for row in rows[:10])


_MARKERS = re.compile(rf"{TEMPLATE_MARKS}|^#{{2,3}} (?:Instruction|Response|Input):", re.M)
_SPEAKERS = re.compile(r"^(?:user|human|assistant|question|instruction)\s*:", re.M | re.I)


def with_marks(rows: Sequence[Row]) -> list[tuple[Row, str]]:
    """Rows with a mark of a chat template inside a turn, and the mark: another template's text, or two turns in one."""
    return [(row, mark) for row in rows if (mark := next((m.group() for t in row.conversation.messages if (m := _MARKERS.search(t.content))), ""))]


def _bled_markers(rows: Sequence[Row]) -> list[Finding]:
    bled = with_marks(rows)
    if not bled:
        return []
    return [Finding("error", f"{len(bled)} rows carry marks of a chat template inside a turn, as {bled[0][1]!r}",
                    bled[0][0].conversation.question, code="data.roles.bleed", rows=places([row for row, _ in bled]),
                    cure="write plain turns: the template is put around them here, and marks inside them end a turn in its midst")]  # fmt: skip


def with_speakers(rows: Sequence[Row]) -> list[Row]:
    """Rows with an answer in which a speaker is named at the start of a line: the next turn, taken into this one."""
    return [row for row in rows if any(_SPEAKERS.search(m.content) for m in row.conversation.messages if m.role == "assistant")]


def _bled_speakers(rows: Sequence[Row]) -> list[Finding]:
    bled = with_speakers(rows)
    if not bled:
        return []
    severity: Severity = "error" if len(bled) >= max(3, BLED * len(rows)) else "warning"
    return [Finding(severity, f"{len(bled)} answers name a speaker at the start of a line, as 'User:'", bled[0].conversation.answer[:200],
                    code="data.roles.bleed", rows=places(bled), cure="part them into turns: a model trained so goes on as the user")]  # fmt: skip


_PLACEHOLDERS = re.compile(
    r"\{\{ ?\w+ ?\}\}|\[(?:insert|your|name|date|company|todo)\b[^\]\n]{0,40}\]|<(?:name|insert[^>\n]{0,40}|your[^>\n]{0,40})>|\blorem ipsum\b|\bTODO\b", re.I
)


def _placeholders(rows: Sequence[Row]) -> list[Finding]:
    left = [(row, mark) for row in rows if (mark := _PLACEHOLDERS.search(row.conversation.answer))]
    if not left:
        return []
    return [Finding("warning", f"{len(left)} answers have a placeholder left in, as {left[0][1].group()!r}", left[0][0].conversation.answer[:200],
                    code="data.placeholder", rows=places([row for row, _ in left]), cure="fill it in: the model will say it as it stands")]  # fmt: skip


def decoded_wrongly(rows: Sequence[Row]) -> list[tuple[Row, str]]:
    """Rows with text that was decoded as something that it is not, as ftfy judges it, and the first such text."""
    from ftfy.badness import is_bad

    return [(row, text) for row in rows if (text := next((m.content for m in row.conversation.messages if is_bad(m.content)), ""))]


def _mojibake(rows: Sequence[Row]) -> list[Finding]:
    bad = decoded_wrongly(rows)
    if not bad:
        return []
    return [Finding("warning", f"{len(bad)} rows hold text decoded wrongly", bad[0][1][:200], code="data.mojibake",
                    rows=places([row for row, _ in bad]), cure="read the source in its own encoding, or let `check --fix` mend it")]  # fmt: skip


class Told(NamedTuple):
    """A row, its language's code, and how sure that is, from 0 to 1."""

    row: Row
    language: str
    confidence: float


def languages(rows: Sequence[Row]) -> list[Told]:
    """The taught rows' languages, as py3langid tells them from the whole of a row's words; short rows are left out."""
    judged: list[tuple[Row, str]] = []
    for row in rows:
        text = " ".join(message.content for message in row.conversation.messages if message.role != "system")
        if row.kind == "taught" and len(text.split()) >= ENOUGH_TO_TELL:
            judged.append((row, text))
    return [Told(row, *found) for (row, _), found in zip(judged, _classified(tuple(text for _, text in judged)), strict=True)]


@lru_cache(maxsize=1)
def _classified(texts: tuple[str, ...]) -> list[tuple[str, float]]:
    """Language and confidence of each text. The last result is kept: the check and the figures ask for the same texts."""
    identify = _identifier().classify
    return [identify(text) for text in texts]


def _languages(rows: Sequence[Row]) -> list[Finding]:
    """Rows in another language than most."""
    told = languages(rows)
    most = Counter(language for _, language, _ in told).most_common(1)
    others = [(row, language) for row, language, confidence in told if language != most[0][0] and confidence >= SURE]
    if not others:
        return []
    listed = ", ".join(f"{language} {count}" for language, count in Counter(language for _, language in others).most_common(4))
    return [Finding("warning", f"{len(others)} rows seem to be in another language than the others, which are in {most[0][0]!r}: {listed}",
                    others[0][0].conversation.question, code="data.languages", rows=places([row for row, _ in others]),
                    cure="remove them, or see to it that the suite asks in each language that is taught")]  # fmt: skip


@lru_cache(maxsize=1)
def _identifier() -> "LanguageIdentifier":
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


_ALIKE = ("LATIN", "CYRILLIC")
"""Scripts with letters that look like one another's and never stand in one word, as Greek ones may in a science's."""
_OUTSIDE_ASCII = re.compile(r"\w*[^\W\x00-\x7f]\w*")


def _mixed_scripts(rows: Sequence[Row]) -> list[Finding]:
    """Words of letters from two scripts that look alike: copied from a page that hides its words so, or typed with the wrong layout."""
    mixed = [(row, word) for row in rows for message in row.conversation.messages for word in _mixed_words(message.content)]
    if not mixed:
        return []
    return [Finding("warning", f"{len({id(row) for row, _ in mixed})} rows have words of two scripts, as {mixed[0][1]!r}",
                    mixed[0][0].conversation.question, code="data.scripts.mixed", rows=places([row for row, _ in mixed]),
                    cure="retype the word: the model sees other letters than a reader")]  # fmt: skip


def _mixed_words(text: str) -> Iterator[str]:
    for word in _OUTSIDE_ASCII.findall(text):
        if len({script for letter in word if letter.isalpha() and (script := unicodedata.name(letter, "").split(" ")[0]) in _ALIKE}) > 1:
            yield word


_DETECTORS = (
    "AWSKeyDetector", "AzureStorageKeyDetector", "DiscordBotTokenDetector", "GitHubTokenDetector", "GitLabTokenDetector",
    "JwtTokenDetector", "MailchimpDetector", "NpmDetector", "OpenAIDetector", "PrivateKeyDetector", "PypiTokenDetector", "SendGridDetector",
    "SlackDetector", "StripeDetector", "TelegramBotTokenDetector", "TwilioKeyDetector",
)  # fmt: skip
"""Those of detect-secrets that know a secret by its form; the ones that go by entropy take code and identifiers for secrets."""


def with_secrets(rows: Sequence[Row]) -> list[tuple[Row, str]]:
    """Rows that hold a secret, and the kind of the first."""
    from detect_secrets.core.scan import scan_line
    from detect_secrets.settings import transient_settings

    found: list[tuple[Row, str]] = []
    with transient_settings({"plugins_used": [{"name": name} for name in _DETECTORS]}):
        for row in rows:
            lines = (line for message in row.conversation.messages for line in message.content.splitlines())
            found += [(row, secret.type) for line in lines for secret in scan_line(line)][:1]
    return found


def _secrets(rows: Sequence[Row]) -> list[Finding]:
    found = with_secrets(rows)
    if not found:
        return []
    kinds = ", ".join(sorted({kind for _, kind in found}))
    return [Finding("error", f"{len(found)} rows hold a secret ({kinds})", code="data.secret", rows=places([row for row, _ in found]),
                    cure="remove it from the rows, and change it where it is used: it has been in a file")]  # fmt: skip


_MAIL = re.compile(r"\b[\w.+-]+@(?!(?:[\w-]+\.)*example\.)[\w-]+(?:\.[\w-]+)*\.[a-z]{2,}\b", re.I)
_CARD = re.compile(r"(?<![\d.-])[3-6]\d{3}(?:[ -]?\d{4}){2}[ -]?\d{3,4}(?![\d.])")
_ACCOUNT = re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b")


def _personal(rows: Sequence[Row]) -> list[Finding]:
    """Mail addresses, telephone numbers with their country, card and account numbers whose check digits are right."""
    found = [(row, kind) for row in rows for message in row.conversation.messages if (kind := _personal_in(message.content))]
    if not found:
        return []
    kinds = ", ".join(f"{kind} {count}" for kind, count in Counter(kind for _, kind in found).most_common())
    return [Finding("warning", f"{len(found)} turns hold personal data ({kinds})", code="data.personal", rows=places([row for row, _ in found]),
                    cure="put made-up ones in their place: a model can give back what it was trained on")]  # fmt: skip


def _personal_in(text: str) -> str:
    """The first kind of personal data in a text, or nothing."""
    from phonenumbers import PhoneNumberMatcher
    from stdnum import iban, luhn

    if "@" in text and _MAIL.search(text):
        return "mail address"
    if "+" in text and PhoneNumberMatcher(text, None).has_next():
        return "telephone number"
    if any(luhn.is_valid(re.sub("[ -]", "", number)) for number in _CARD.findall(text)):
        return "card number"
    return "account number" if any(iban.is_valid(number) for number in _ACCOUNT.findall(text)) else ""


CONTENTS: tuple[Callable[[Sequence[Row]], list[Finding]], ...] = (
    _bled_markers, _bled_speakers, _placeholders, _mojibake, _languages, _mixed_scripts, _secrets, _personal,
)  # fmt: skip
"""The checks of this file, in the order in which they are told."""
