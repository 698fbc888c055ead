"""The tone of an e-mail: its sentiment by VADER's lexicon, and its politeness by a small model that is fitted to rows of ours.

Politeness is how an ordinary reader would judge that the writer treats the reader, from 1 (rude) to 5 (very polite). Fitting takes two seconds and can be
repeated exactly, so that no weights are kept. Both are guesses of a machine about a text, and no judgement of a person.
"""

import json
import math
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

ROWS = Path(__file__).with_name("politeness.jsonl")
_SHARE = 0.1
"""Weight of a standard deviation of a sign beside the words, whose vectors have length 1."""
_SIGNS = {
    "thanks": r"\b(?:thanks?|thx|grateful|appreciat\w*|gratitude)\b",
    "please": r"\b(?:please|pls)\b",
    "please first": r"^(?:please|pls)\b",
    "sorry": r"\b(?:sorry|apolog\w+|forgive|regret|excuse)\b",
    "hedges": r"\b(?:perhaps|maybe|possibly|might|a little|a bit|i think|i wonder|wondering|if possible|if you (?:like|wish|can|could|have)|somewhat"
    r"|would it)\b",
    "could": r"\b(?:could|would|might|may) (?:you|i|we)\b",
    "can": r"\b(?:can|will) you\b",
    "praise": r"\b(?:nice|great|good|lovely|excellent|wonderful|impressive) (?:work|job|idea|question|point|to)\b",
    "greeting": r"^(?:hi|hello|hey|dear|good (?:morning|afternoon|evening))\b",
    "why": r"\bwhy\b",
    "you": r"\byour?\b",
    "you first": r"^you\b",
    "i": r"\bi\b",
    "we": r"\b(?:we|us|let's)\b",
    "demands": r"\b(?:must|have to|need to|immediately|at once|now|asap|today|deadline|unacceptable|expect)\b",
    "again": r"\b(?:again|already|as i|once more|repeated\w*|still|told you|said)\b",
    "negation": r"\b(?:not|never|no|nobody|nothing)\b|n't",
    "insults": r"\b(?:idiot\w*|stupid\w*|useless|incompeten\w+|pathetic|ridiculous|joke|lazy|moron\w*|clown\w*|garbage|nonsense|shut up|damn|hell|crap|fool\w*"
    r"|embarrass\w*|disgrace\w*|waste)\b",
    "warmth": r"\b(?:no worries|no rush|no hurry|take your time|whenever|happy to|glad|hope|wish|pleasure|welcome|love to|looking forward|best|kind|warm|dear"
    r"|enjoy\w*|congratulations|well done)\b",
    "questions": r"\?",
    "exclamations": r"!",
    "dots and doubled marks": r"[!?]{2,}|\.\.\.",
}
"""Signs of politeness and its lack, after Danescu-Niculescu-Mizil et al. 2013, "A computational approach to politeness", table 3, and some of ours."""
_COMPILED = [re.compile(pattern, re.IGNORECASE | re.MULTILINE) for pattern in _SIGNS.values()]
_SHOUTED = re.compile(r"\b[A-Z]{4,}\b")
_PIECE = re.compile(r"(?<=[.!?])\s+|\n+")


class Tone(NamedTuple):
    """sentiment: from -1 (unhappy) to 1 (happy), the mean of the sentences. politeness: from 1 (rude) to 5 (very polite)."""

    sentiment: float
    politeness: float


class Politeness:
    """A ridge regression on words, letters and signs, fitted to texts with levels from 1 to 5."""

    def __init__(self, texts: Sequence[str], levels: Sequence[float]) -> None:
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import Ridge

        words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2, token_pattern=r"(?u)\b\w[\w']*\b|[!?]")
        letters = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True, min_df=3)
        self._vectors = [vector.fit(texts) for vector in (words, letters)]
        signs = np.array([_signs(text) for text in texts])
        self._middle, self._spread = signs.mean(axis=0), signs.std(axis=0) + 1e-6
        self._model = Ridge(alpha=1.0).fit(self._matrix(texts), levels)

    def levels(self, texts: Sequence[str]) -> list[float]:
        """The politeness of each text."""
        return [float(level) for level in np.clip(self._model.predict(self._matrix(texts)), 1, 5)]

    def _matrix(self, texts: Sequence[str]) -> Any:
        from scipy.sparse import csr_matrix, hstack

        signs = (np.array([_signs(text) for text in texts]) - self._middle) / self._spread * _SHARE
        return hstack([*(vector.transform(texts) for vector in self._vectors), csr_matrix(signs)]).tocsr()


class Measurer:
    """Measures the tone of texts by what comes with Lorikeet, or by classifiers that are named (classifiers.py)."""

    def __init__(self, sentiment: str = "", politeness: str = "") -> None:
        """sentiment, politeness: an id of the Hub or a folder; what is not named is fitted here, which takes two seconds once. Errors as classifiers.scale."""
        from lorikeet.serve import classifiers

        self._sentiment = classifiers.scale(sentiment, classifiers.SENTIMENT) if sentiment else _by_lexicon
        self._politeness = classifiers.scale(politeness, classifiers.POLITENESS) if politeness else _fitted().levels

    def __call__(self, text: str) -> Tone:
        """The tone of a text; an empty one is neutral."""
        if not text.strip():
            return Tone(0.0, 3.0)
        return Tone(self._sentiment([text])[0], self._politeness([text])[0])


def rows() -> list[dict[str, Any]]:
    """The rows that politeness is fitted to: topic, level, kind (email or sentence), text."""
    return [json.loads(line) for line in ROWS.read_text(encoding="utf-8").splitlines()]


@cache
def _fitted() -> Politeness:
    found = rows()
    return Politeness([row["text"] for row in found], [row["level"] for row in found])


def _by_lexicon(texts: Sequence[str]) -> list[float]:
    return [float(np.mean(_sentiments(text))) for text in texts]


@cache
def _lexicon() -> Any:
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

    return SentimentIntensityAnalyzer()


def _sentiments(text: str) -> list[float]:
    """VADER's compound score of each sentence."""
    return [_lexicon().polarity_scores(piece)["compound"] for piece in _PIECE.split(text) if piece.strip()] or [0.0]


def _signs(text: str) -> NDArray[np.float64]:
    whole, pieces, length = _lexicon().polarity_scores(text), _sentiments(text), len(text.split())
    found = [whole["compound"], whole["neg"], whole["pos"], min(pieces), max(pieces), float(np.mean(pieces)), math.log(length + 1)]
    for pattern in (*_COMPILED, _SHOUTED):
        count = len(pattern.findall(text))
        found += [min(count, 3), count / (length + 5)]
    return np.array(found)
