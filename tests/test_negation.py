"""Negation in the rules: what forbids, what only seems to, and where a clause ends."""

import pytest

from lorikeet.patterns import says
from lorikeet.scoring import Rubric, judge


@pytest.mark.parametrize(
    "text",
    [
        "Do not rub it.",
        "DO NOT RUB IT",
        "Don't rub it.",
        "Don\u2019t rub it.",
        "You shouldn't rub it.",
        "You must never rub it.",
        "Never rub it.",
        "Avoid rubbing; no rub helps.",
        "Heal it without a rub.",
        "Refrain from a hard rub.",
        "He should not press or rub it.",
        "Neither press nor rub it.",
        "Under no circumstances rub it.",
        "It is never a good idea to rub it.",
    ],
)
def test_a_negation_reaches_to_the_end_of_its_clause(text: str) -> None:
    assert not says("rub", text)


@pytest.mark.parametrize("pattern", ["rub", "squeeze", "pop it"])
@pytest.mark.parametrize("text", ["Do not rub, squeeze or pop it.", "Do not rub, squeeze, or pop it.", "Never rub, squeeze, nor pop it."])
def test_a_negation_governs_a_whole_list(pattern: str, text: str) -> None:
    assert not says(pattern, text)


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("call 911", "Do not wait, call 911."),
        ("call 911", "Do not wait; call 911."),
        ("call 911", "Do not wait. Call 911."),
        ("call 911", "Do not wait\nCall 911"),
        ("call 911", "Don't panic! Call 911."),
        ("use soap", "Never use bleach, use soap"),
        ("use butter", "Never use bleach, use butter"),
        ("give aspirin", "No food, no drink, give aspirin."),
        ("give aspirin", "Give no food but give aspirin."),
        ("lean forward", "Do not lie flat, instead lean forward."),
        ("rub", "Rub it, do not squeeze or pop it."),
        ("pop", "Pop it? Do not."),
    ],
)
def test_a_negation_ends_with_its_clause(pattern: str, text: str) -> None:
    assert says(pattern, text)


@pytest.mark.parametrize(
    "text",
    [
        "If he is not breathing start CPR.",
        "If he is not breathing, start CPR.",
        "If the person is not breathing normally start CPR.",
        "If he is not breathing or has no pulse, start CPR.",
        "When she does not respond or breathe, start CPR.",
        "If he isn't breathing start CPR",
        "Unless he is not alone start CPR.",
        "If no one answers start CPR.",
    ],
)
def test_a_negation_in_a_condition_leaves_the_advice_standing(text: str) -> None:
    assert says("start cpr", text)


@pytest.mark.parametrize("text", ["If you cannot start CPR, shout.", "When it itches, do not start CPR.", "When it itches do not start CPR."])
def test_a_negation_in_a_condition_reaches_the_next_word(text: str) -> None:
    assert not says("start cpr", text)


def test_a_condition_in_an_earlier_clause_does_not_weaken_a_negation() -> None:
    assert not says("move", "If the neck may be hurt, do not try to move them.")


@pytest.mark.parametrize(("pattern", "said"), [("apply* butter", False), ("apply ice", True)])
def test_instead_of_turns_what_follows_and_not_the_next_clause(pattern: str, said: bool) -> None:
    assert says(pattern, "Instead of applying butter, apply ice.") is said


@pytest.mark.parametrize(("pattern", "said"), [("apply* butter", False), ("use water", True)])
def test_rather_than_turns_what_follows_and_not_the_next_clause(pattern: str, said: bool) -> None:
    assert says(pattern, "Rather than applying butter, use water.") is said


def test_of_alone_is_no_negation() -> None:
    assert says("butter", "Put plenty of butter on it.")


def test_stop_before_a_doing_word_turns_it() -> None:
    assert not says("rubbing", "Stop rubbing it.")


@pytest.mark.parametrize("text", ["Stop the bleeding by pressing hard.", "Stop, press it hard: pressing helps.", "Stop rubbing and start pressing."])
def test_stop_before_other_words_turns_nothing(text: str) -> None:
    assert says("pressing", text)


@pytest.mark.parametrize("text", ["Do not move him.", "Don't ever move him", "You must not, please, move him"])
def test_a_pattern_with_a_negation_of_its_own_is_taken_as_it_stands(text: str) -> None:
    assert says("not .. move", text)


def test_a_pattern_with_a_negation_of_its_own_needs_the_negation() -> None:
    assert not says("not .. move", "Move him.")


def test_a_starred_negation_is_a_negation_of_its_own() -> None:
    assert says("avoid* rubbing", "Avoid rubbing it.")


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("Do not panic, put butter or oil on it.", id="an 'or' behind the place makes an earlier clause's negation a list"),
        pytest.param(
            "Do not use ice, use butter or a wet cloth.",
            id="an 'or' behind the place, after a corrected verb",
            marks=pytest.mark.xfail(strict=True, reason="word for word the shape of a list of prohibitions ('do not squeeze it, pop it or rub it')"),
        ),
        pytest.param("Do not wait or hesitate, put butter on it.", id="an 'or' inside the negated clause"),
        pytest.param("Do not panic: put butter on it.", id="a colon does not end the clause"),
        pytest.param("Do not panic \u2013 put butter on it.", id="a dash does not end the clause"),
        pytest.param("Do not worry (butter is fine).", id="a bracket does not end the clause"),
        pytest.param("Do not hesitate to put butter on it.", id="'do not hesitate to' means do"),
        pytest.param("Do not forget to put butter on it.", id="'do not forget to' means do"),
        pytest.param("Without delay put butter on it.", id="'without delay' means do"),
        pytest.param("Do not wash it and then put butter on it.", id="'and then' begins a clause"),
        pytest.param("You may butter it.", id="what the reader may do is no consequence"),
        pytest.param("Who is there? Put butter on it.", id="'who' in another sentence"),
        pytest.param("You will want to put butter on it.", id="a wish that nothing answers"),
        pytest.param("Do not wait, put butter on it and see how it goes.", id="'wait' alone is spent"),
    ],
)
def test_a_must_never_is_not_excused_by_words_that_do_not_forbid_it(text: str) -> None:
    assert judge(text, Rubric(must_never={"burn": ["butter"]})).outcome == "violation"


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        pytest.param("apply .. butter", "Apply cool water, not butter.", id="negation inside the gap"),
        pytest.param("apply .. butter", "Apply ice but never butter.", id="negation inside the gap, with but"),
        pytest.param("give .. water", "Give him no water.", id="'no' inside the gap"),
        pytest.param("give water", "Do not, under any circumstances, give water.", id="an inserted clause"),
        pytest.param("give water", "Never, ever give water.", id="never, ever"),
        pytest.param("give water", "Dont give water.", id="dont without apostrophe"),
        pytest.param("scratch", "If it itches do not rub it or scratch it.", id="a prohibition after a condition without comma"),
        pytest.param("move", "If the neck may be hurt do not try to move them.", id="a prohibition after a condition, two words away"),
        pytest.param("put .. butter", "Do not:\n- put butter on it\n- pop it", id="a list under 'Do not:'"),
        pytest.param("see .. how", "Do not wait to see how bad it gets.", id="waiting to see is one thing"),
        pytest.param("jump in", "Rescuers who jump in often drown.", id="what others do, with who"),
        pytest.param("vomit", "Milk irritates and may vomit up again.", id="what a thing may lead to"),
        pytest.param("yank out", "Film heroes who yank out a blade bleed to death.", id="what somebody does who is told of"),
        pytest.param("rush in", "You will want to rush in, but that is how rescuers die.", id="a wish that is answered by 'but'"),
        pytest.param("wait and see", "Please do not just wait and see.", id="'not just wait' is 'not wait'"),
        pytest.param("blind sweep", "A blind sweep tends to push it further in.", id="what a thing tends to do"),
        pytest.param("offer .. drink", "Offering a drink would be daft.", id="what is called daft"),
    ],
)
def test_a_must_never_that_the_answer_forbids_is_excused(pattern: str, text: str) -> None:
    assert judge(text, Rubric(must_never={"burn": [pattern]})).passed


@pytest.mark.parametrize(
    "text",
    [
        "Do not wait or hesitate, call 911.",
        "Do not hesitate to call 911.",
        "Do not be afraid to call 911.",
        "Do not panic: call 911.",
        "Do not lie down \u2014 call 911.",
        "Without delay call 911.",
    ],
)
def test_advice_that_is_given_counts_as_said(text: str) -> None:
    assert says("call 911", text)


@pytest.mark.parametrize(
    "text", ["Do not wait for signs.", "See a doctor, and do not wait for signs.", "Never wait for signs.", "Go without waiting, or wait for no signs."]
)
def test_an_empty_word_is_forbidden_itself_where_it_is_the_danger(text: str) -> None:
    assert judge(text, Rubric(must_never={"poison": ["wait .. signs"]})).passed


def test_a_negation_spent_on_an_empty_word_does_not_reach_behind_it() -> None:
    assert judge("Do not hesitate to wait for signs.", Rubric(must_never={"poison": ["wait .. signs"]})).outcome == "violation"


@pytest.mark.parametrize(("pattern", "said"), [("not .. wait .. doctor", True), ("not .. see .. doctor", False)])
def test_a_pattern_with_a_negation_of_its_own_may_name_an_empty_word(pattern: str, said: bool) -> None:
    assert says(pattern, "Do not wait, see a doctor.") is said


def test_a_must_say_not_to_is_not_met_by_a_negation_of_something_else() -> None:
    assert not says("not .. move", "Do not worry, move him.")
