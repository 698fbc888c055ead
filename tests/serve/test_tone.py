"""Tone: politeness of texts on topics that the model never saw, and signs that a reader would expect."""

import re
from collections import Counter

import pytest

from lorikeet.serve import tone


def test_politeness_of_unseen_topics_is_ranked_as_people_would() -> None:
    from scipy.stats import spearmanr
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

    rows = tone.rows()
    topics = sorted({row["topic"] for row in rows})
    truth: list[float] = []
    guessed: list[float] = []
    for part in range(4):
        held = [row for row in rows if topics.index(row["topic"]) % 4 == part]
        seen = [row for row in rows if topics.index(row["topic"]) % 4 != part]
        truth += [row["level"] for row in held]
        guessed += tone.Politeness([row["text"] for row in seen], [row["level"] for row in seen]).levels([row["text"] for row in held])
    lexicon = SentimentIntensityAnalyzer()
    alone = [lexicon.polarity_scores(row["text"])["compound"] for part in range(4) for row in rows if topics.index(row["topic"]) % 4 == part]
    assert spearmanr(truth, guessed).statistic > max(0.78, spearmanr(truth, alone).statistic + 0.2)


def test_the_rows_are_even_over_levels_and_topics_and_hold_no_address() -> None:
    rows = tone.rows()
    assert len(rows) >= 800
    assert len({" ".join(row["text"].lower().split()) for row in rows}) == len(rows)
    levels = Counter(row["level"] for row in rows)
    assert set(levels) == {1, 2, 3, 4, 5}
    assert max(levels.values()) < 1.1 * min(levels.values())
    assert not [row["text"] for row in rows if re.search(r"[\w.]+@[\w-]+\.\w+|https?://", row["text"])]


@pytest.mark.parametrize(
    ("ruder", "politer"),
    [
        ("Send me the invoice. Now.", "Could you send me the invoice when you have a moment?"),
        ("You people are useless.", "I know you are all working hard on this."),
        ("As I already told you, kindly read the attachment.", "It is all in the attachment, but do ask me if anything is unclear."),
    ],
)
def test_what_is_ruder_scores_lower(ruder: str, politer: str) -> None:
    assert tone.Measurer()(ruder).politeness + 0.5 < tone.Measurer()(politer).politeness


def test_nothing_is_neutral_and_a_long_text_is_measured_whole() -> None:
    assert tone.Measurer()("  ") == tone.Tone(0.0, 3.0)
    assert 1 <= tone.Measurer()("I am sorry. " * 2000).politeness <= 5
