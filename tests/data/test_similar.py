"""Near duplicates are found exactly, in every script."""

import random

import pytest

from lorikeet.data.similar import NEAR, Wanted, near_pairs, tokens_of


def found(texts: list[str], wanted: Wanted | None = None) -> set[tuple[int, int]]:
    return {(int(a), int(b)) for pairs in near_pairs(texts, wanted) for a, b in pairs}


@pytest.mark.parametrize(
    ("one", "other", "near"),
    [
        ("How do I stop a nosebleed at home now", "how do I stop a NOSEBLEED at home, now?!", True),
        ("How do I stop a nosebleed at home now", "How do I stop a nosebleed at work today", False),
        ("one two three four five six seven eight nine", "one two three four five six seven eight ten", True),
        ("鼻血が止まらないときはどうすればいいですか", "鼻血が止まらないときはどうすればいいでしょうか", True),
        ("鼻血が止まらない", "足が痛くて歩けない", False),
        ("кровь из носа не останавливается уже час помогите", "Кровь из носа не останавливается уже час, помогите", True),
        ("", "", False),
        ("?!", "?!", False),
    ],
)
def test_two_texts_are_near_by_the_words_they_share(one: str, other: str, near: bool) -> None:
    assert bool(found([one, other])) is near


def test_the_search_finds_what_comparing_all_with_all_finds() -> None:
    draw = random.Random(3)
    words = [f"w{n}" for n in range(60)]
    texts = [" ".join(draw.choices(words, k=draw.randint(3, 14))) for _ in range(400)]
    texts += [" ".join(sorted(text.split()[:-1])) for text in texts[:200]]
    sets = [tokens_of(text) for text in texts]
    slow = [
        (a, b)
        for b in range(len(sets)) for a in range(b) if len(sets[a] & sets[b]) >= NEAR * len(sets[a] | sets[b])
    ]  # fmt: skip
    assert len(slow) > 50
    assert found(texts) == set(slow)
    odd = found(texts, lambda first, second: (first + second) % 2 == 1)
    assert odd == {(a, b) for a, b in slow if (a + b) % 2}
