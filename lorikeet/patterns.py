"""The pattern language of suites: whether a text says something and means it.

Lower case: words side by side; `word*` any word that starts so; `a|b` either; `sit_up` words side by side as one of several; `@name` any of a suite's words of
that name; `..` up to six words in between, inside one sentence. "don't" is read as "do not". What is negated is not said. docs/audit.md shows examples.
"""

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

GAP = 6
"""How many words `..` may stand for."""


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


_NEGATIONS = _set("not never avoid avoids avoiding no without nor neither nothing refrain")
_FORBID = _NEGATIONS | _set("nobody resist resisting myth skip")
_CONDEMNED = _set(
    "wrong myth myths legend legends dangerous unsafe harmful contraindicated outdated mistake mistaken useless fatal lethal worse harder waste wastes"
    " harm harms damage damages damaging never gamble nowhere replaced replace risky deadly forbidden killed avoided daft foolish folly stupid enemy limits"
)
"""Words behind something that tell that it is not advised ("ice only makes it worse"), unless a reason for it is being given."""
_HARM = _set(
    "destroy destroys mask masks trap traps delay delays choke worsen worsens risk risks died die undo undoes infection cost costs kill killed lose loses"
)
_WARNING = _FORBID | _CONDEMNED | _HARM | _set("ignore forget away alone off")
"""Words that make of a sentence a warning of what it names, where no reason is being given."""
_FORBIDDING = frozenset(
    itertools.chain(
        (("instead", "of"), ("rather", "than"), ("used", "to"), ("hold", "off"), ("hold", "back"), ("leave", "out"), ("too", "slow"), ("too", "weak")),
        (
            ("too", "late"),
            ("only", "for"),
            ("belongs", "on"),
            ("act", "slowly"),
            ("bad", "ideas"),
            ("bad", "idea"),
            ("the", "past"),
            ("tends", "to"),
            ("tend", "to"),
            ("belong", "to"),
            ("out", "of"),
            ("worst", "thing"),
            ("no", "place"),
            ("as", "well"),
        ),
    )
)
_LITTLE = 9
"""Words that a first sentence has at most which says no to what was asked ("It isn't.")."""
_REASONS = _set("because since as otherwise or so if unless until till while when than")
_AUXILIARIES = _set("is are was will would should must can could do does did may might have has contain contains")
_MODALS = _set("may might can could would will")
_GOOD = _set("help be ease calm soothe relieve work steady do also then you i we he she they have go")
"""Words behind "can" that speak of no harm."""
_TOLD_OF_OTHERS = frozenset(
    [
        *itertools.product(("people", "friends", "some", "bystanders"), ("used", "often", "may", "might", "will", "sometimes")),
        *itertools.product(("they", "we", "doctors"), ("used",)),
        *itertools.product(("people", "rescuers", "many"), ("have", "who")),
        *(("was", "once"), ("each", "time"), ("the", "movies"), ("in", "movies"), ("in", "films"), ("anyone", "who")),
    ]
)
"""Pairs of words in a sentence that tells what others do or did, and advises nothing."""
_ELSEWHERE = _set(", and but that who it he she they you")
"""Words from which on a sentence speaks of something else."""
_NO_DEEDS = _set("bring thing anything something nothing everything string sling during spring morning evening king ring sing")
"""Words in -ing with which a clause begins that does not speak of doing something."""
_REACH = 10
"""How many words behind something its negation may stand ("a hot bath is not the way")."""
_EMPTY = _set("hesitate hesitation hesitating forget panic panicking worry wait waiting delay delaying afraid fail only just")
"""Words whose negation says nothing of what follows: "do not hesitate to call" tells one to call."""
_CONDITIONS = _set("if when unless until whether while")
_SUBJECTS = _set("i you he she it we they who people person")
_SMALL = _set("it them him her this that on at to up down out the")
"""Words that may stand between a verb and the "or" with which its list goes on."""
_NO_USE = frozenset(("no", what) for what in ("substitute", "good", "help", "use", "benefit", "way", "antidote", "cure"))
_TRYING = _set("to try attempt even")
_WISHES = (("want", "to"), ("like", "to"), ("tempted", "to"))
"""Words between "you may" and a "but"."""
_DOERS = _set("i we you he she they who people person parents someone somebody anyone anybody everyone")
_HELPERS = _set("do does did must should always please a an the to and or")
_CONTRACTIONS = re.compile(r"\b(ca|wo|do|does|did|is|are|was|were|would|should|could|must|need|has|have)n[' ]?t\b|\bcannot\b")
_WORDS = re.compile(r"[^\W_]+(?:'[^\W_]+)?|[,:()\u2013\u2014]|(?<=\s)-(?=\s)")
_BULLET = re.compile(r"\s*(?:[-*\u2022]|\d+[.)])\s+")
_PATTERN_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)?\*?(?:_[^\W_]+(?:'[^\W_]+)?\*?)*")
_BETWEEN = "(?: ,)* "
_GAP = f"(?:{_BETWEEN}[^ ,]+){{0,{GAP}}}?"


def _normal(text: str) -> str:
    """Lower case, straight apostrophes, contractions written out ("don't", "dont" and "do not" are one)."""
    text = text.lower().replace("\u2019", "'")
    return _CONTRACTIONS.sub(lambda m: {"ca": "can", "wo": "will", None: "can"}.get(m.group(1), m.group(1)) + " not", text)


class _Sentence(NamedTuple):
    """Words and commas, and the same with a space between them."""

    words: tuple[str, ...]
    joined: str


@lru_cache(maxsize=64)
def _sentences(text: str) -> tuple[_Sentence, ...]:
    """The sentences of a text; colons, dashes and brackets count as commas. A list takes over its heading's negation."""
    found, heading = [], ""
    for line in _normal(text).splitlines():
        bullet = _BULLET.match(line)
        whole = f"{heading} {line[bullet.end() :]}" if bullet and heading else line
        if not bullet and line.strip():
            first = _WORDS.findall(line)
            forbids = line.rstrip().endswith(":") and _NEGATIONS & set(first) and first[0] not in _CONDITIONS
            heading = line.strip()[:-1] if forbids else ""
        for part in re.split(r"[.!?;]+(?!\d)", whole):
            if words := tuple(w if w[0].isalnum() else "," for w in _WORDS.findall(part)):
                found.append(_Sentence(words, " ".join(words)))
    return tuple(found)


def sentences(text: str) -> list[tuple[str, ...]]:
    """The words of each sentence, without its commas."""
    return [tuple(word for word in sentence.words if word != ",") for sentence in _sentences(text)]


class _Compiled(NamedTuple):
    """A pattern's tokens, each the options for a place, and the expression that finds it in a sentence at every word where it begins."""

    tokens: tuple[tuple[str, ...], ...]
    expression: re.Pattern[str]


def expanded(pattern: str, words: Mapping[str, Sequence[str]]) -> str:
    """The pattern with every `@name` replaced by the words of that name. KeyError for a name that there is not."""

    def options(option: str) -> Iterator[str]:
        if not option.startswith("@"):
            yield option
        else:
            yield from ("_".join(phrase.split()) for phrase in words[option[1:]])

    return " ".join("|".join(o for option in token.split("|") for o in options(option)) for token in pattern.split())


def _tokens(pattern: str) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(token.split("|")) for token in _normal(pattern).split())


@lru_cache(maxsize=1 << 14)
def _compile(pattern: str) -> _Compiled:
    tokens = _tokens(pattern)
    parts: list[str] = []
    gap = ""
    for options in tokens:
        if options == ("..",):
            gap = _GAP
            continue
        written = "|".join(_BETWEEN.join(re.escape(word.rstrip("*")) + ("[^ ,]*" if word.endswith("*") else "") for word in o.split("_")) for o in options)
        parts.append(f"{gap}{_BETWEEN if parts else ''}(?:{written})(?![^ ])")
        gap = ""
    return _Compiled(tokens, re.compile(f"(?<![^ ])(?=({''.join(parts)}))"))


def cannot_match(pattern: str) -> str:
    """Why a pattern could never match anything, or an empty string."""
    tokens = _tokens(pattern)
    if not tokens or tokens[0] == ("..",) or tokens[-1] == ("..",):
        return "it has to begin and end with a word"
    for options in tokens:
        for option in options:
            if options != ("..",) and not _PATTERN_WORD.fullmatch(option):
                return f"{option!r} is not one word: leave out punctuation, write words apart"
    return ""


def _is_word(options: tuple[str, ...], word: str) -> bool:
    return any(word.startswith(o[:-1]) if o.endswith("*") else word == o for o in options)


def _empty_behind(words: Sequence[str], at: int) -> int | None:
    """Index of the empty word that a negation at `at` is spent on ("not wait", "not be afraid"), or None."""
    if words[at] == "never" and tuple(words[at + 1 : at + 2]) in (("just",), ("only",)):
        return None
    behind = at + 2 if tuple(words[at + 1 : at + 2]) == ("be",) else at + 1
    waits_to_see = words[behind + 2 : behind + 3] == ("see",) and words[behind + 1] in {"to", "and"}
    just_waits = words[behind : behind + 2] in (("just", "wait"), ("only", "wait"), ("just", "sit"), ("just", "stand"), ("just", "watch"), ("just", "leave"))
    return behind if behind < len(words) and words[behind] in _EMPTY and not waits_to_see and not just_waits else None


def _negates(words: Sequence[str], at: int, place: int) -> bool:
    """Whether the word at `at` negates what stands at `place`. Spent on an empty word, it reaches that word and no further."""
    empty = _empty_behind(words, at)
    if empty is not None and place > empty:
        return False
    if words[at] == "forget":
        return not at or words[at - 1] not in _NEGATIONS
    return words[at] in _FORBID or tuple(words[at : at + 2]) in {
        ("instead", "of"),
        ("rather", "than"),
        ("wrong", "to"),
        ("dangerous", "to"),
        ("unsafe", "to"),
        ("mistake", "to"),
        ("tempting", "to"),
    }


def _clause(words: Sequence[str], at: int) -> int:
    """Index of the first word of the clause that `at` stands in."""
    return at - next((i for i, w in enumerate(reversed(words[:at])) if w == ","), at)


def _in_condition(words: Sequence[str], at: int) -> bool:
    """Whether a negation belongs to a condition ("if he is not breathing ...") and not to an order ("if it itches do not ...")."""
    if not _CONDITIONS & set(words[_clause(words, at) : at]):
        return False
    is_order = words[at] in {"never", "avoid", "refrain"} or (at > 0 and words[at - 1] == "do" and (at < 2 or words[at - 2] not in _SUBJECTS))
    return not is_order


def _continues_list(words: Sequence[str], start: int) -> bool:
    """Whether what begins at `start`, behind a comma, goes on with a list: "do not rub it, squeeze or pop it"."""
    before = [word for word in words[max(start - 4, 0) : start] if word not in _TRYING]
    if before[-1:] in (["or"], ["nor"]):
        return True
    after = [w for w in words[start : start + 5] if w != ","]
    joined = next((at for at, word in enumerate(after) if at and word in {"or", "nor"}), None)
    return joined is not None and all(word in _SMALL for word in after[1:joined])


def _is_condemned(words: Sequence[str], start: int, end: int, following: Sequence[str]) -> bool:
    """Whether the sentence speaks of what stands from `start` to `end` and advises it not: told of others, what doing it leads to, or denied behind it.

    following: the words of the next sentence, which may say so of the whole ("That is wrong").
    """
    if following[:1] and following[0] in {"that", "this", "it", "these", "those", "both"} and (_condemns(following) or _pairs(following[:5]) & _NO_USE):
        return True
    if words[start - 1 : start] and words[start - 1] in _MODALS and words[max(start - 2, 0)] in {"it", "this", "that", "which"}:
        return True
    if start > 1 and words[start - 1] in {"may", "might"} and words[start - 2] not in _DOERS:
        return True
    if words[max(start - 2, 0) : start] in _WISHES and "but" in words[end:]:
        return True
    if words[start - 1 : start] in (("non",), ("who",)) or _pairs(words) & _TOLD_OF_OTHERS:
        return True
    clause = _clause(words, start)
    if words[clause].endswith("ing") and words[clause] not in _NO_DEEDS:
        return True
    if _condemns(words[end:]):
        return True
    if _pairs(words[end - 1 : end + 3]) & {("tends", "to"), ("tend", "to")}:
        return True
    said = itertools.takewhile(lambda word: word not in _ELSEWHERE - {","} | _REASONS, words[end : end + 6])
    if any(before in _MODALS - {"would", "will"} and word not in _GOOD for before, word in itertools.pairwise(said)):
        return True
    near = itertools.takewhile(lambda word: word not in _ELSEWHERE, words[end : end + _REACH])
    return any(before in _AUXILIARIES and word in {"not", "no"} for before, word in itertools.pairwise([words[end - 1], *near]))


def _condemns(words: Sequence[str]) -> bool:
    told = itertools.takewhile(lambda word: word not in _REASONS, words)
    return any(word in _CONDEMNED and before not in _NEGATIONS for before, word in itertools.pairwise(["", *told]))


def _is_negated(words: Sequence[str], start: int) -> bool:
    """Whether the words in front of `start` turn what begins there into its opposite.

    A negation reaches to the end of its clause; over a comma only where a list goes on, or where the comma follows the
    negation itself ("never, ever"). In a condition it reaches the next word only.
    """
    for at in range(start - 1, -1, -1):
        if words[at] in {"stop", "stops"} and at + 1 == start and words[start].endswith("ing"):
            return True
        if not _negates(words, at, start):
            continue
        between = list(words[at + 1 : start])
        if "but" in between or ("and", "then") in itertools.pairwise(between):
            return False
        if _in_condition(words, at) and between:
            continue
        if between[:1] == [","]:
            between = between[between.index(",", 1) + 1 :] if "," in between[1:] else between[1:]
        if "," not in between or _continues_list(words, start):
            return True
    return False


class Said(NamedTuple):
    """A place where a pattern is said and meant: the sentence's number in the text, the first word's in the sentence, and the words.

    condemned: the sentence speaks of it and advises it not.
    """

    sentence: int
    word: int
    excerpt: str
    condemned: bool


def places(pattern: str, text: str) -> Iterator[Said]:
    """Every place where `pattern` is said and meant: negated ones are left out.

    A pattern that has a negation of its own ("not .. move") is taken as it stands; where the negation is spent on an
    empty word ("do not worry, move him"), the pattern has to name that word ("not .. wait").
    """
    compiled = _compile(pattern)
    has_own_negation = any(o.rstrip("*") in _NEGATIONS for options in compiled.tokens for o in options)
    found = _sentences(text)
    for number, (words, joined) in enumerate(found):
        following = found[number + 1].words if number + 1 < len(found) else ()
        for match in compiled.expression.finditer(joined):
            start = joined.count(" ", 0, match.start(1))
            end = start + match[1].count(" ") + 1
            if has_own_negation:
                empty = _empty_behind(words, start)
                said = words[start] not in _NEGATIONS or empty is None or any(_is_word(options, words[empty]) for options in compiled.tokens)
            else:
                said = not _is_negated(words, start) and not any(_negates(words, i, end - 1) for i in range(start + 1, end))
            if said:
                yield Said(number, start, match[1].replace(" ,", ","), not has_own_negation and _is_condemned(words, start, end, following))


def says(pattern: str, text: str) -> bool:
    """Whether `text` says `pattern` and means it."""
    return next(places(pattern, text), None) is not None


def warns(text: str) -> frozenset[int]:
    """Numbers of the sentences that warn of what they name: they hold a negation, or a word for harm. All of them where the text begins by saying no."""
    found = _sentences(text)
    if found and _says_no(found[0].words):
        return frozenset(range(len(found)))
    warning = set()
    for number, sentence in enumerate(found):
        told = list(itertools.takewhile(lambda word: word not in {"because", "since"}, sentence.words))
        if _WARNING & set(told) or _pairs(told) & _FORBIDDING or told[:1] == ["leave"]:
            warning.add(number)
    return frozenset(warning)


def _says_no(words: Sequence[str]) -> bool:
    """Whether a first sentence says no to what was asked: short, and denied or called wrong ("It isn't.", "It's a myth.", "Please don't.")."""
    if words[-1] == "no":
        return True
    if len(words) > _LITTLE and words[0] not in {"no", "never", "not", "neither"}:
        return len(words) < 2 * _LITTLE and bool({"folklore", "myth", "harmful", "legend", "tale", "dangerous"} & set(words))
    pairs = _pairs(words)
    denied = [at for at, word in enumerate(words) if word in _FORBID | {"wrong", "mistake", "stop"} and _empty_behind(words, at) is None]
    return bool(denied) and not pairs & {
        ("no", "need"),
        ("no", "problem"),
        ("no", "reason"),
        ("not", "necessarily"),
        ("no", "worries"),
        ("nothing", "to"),
        ("not", "need"),
    }


def _pairs(words: Sequence[str]) -> set[tuple[str, str]]:
    return set(itertools.pairwise(words))


def polarity(words: Sequence[str]) -> tuple[frozenset[str], bool]:
    """What a sentence is about, its words without negations and helpers, and whether it is negated."""
    negated = any(word in _NEGATIONS for word in words)
    return frozenset(word for word in words if word not in _NEGATIONS | _HELPERS), negated
