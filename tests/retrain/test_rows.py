"""What is learned from ratings: what most say of a reply, corrections, and answers that are replaced, round after round."""

from toy_ratings import rating

from lorikeet.conversation import Rating
from lorikeet.retrain import rows
from lorikeet.scoring import fold


def test_a_reply_is_learned_once_as_most_judged_it_and_corrections_where_it_is_not_liked() -> None:
    good = [rating(rater=f"r{n}", liked=n > 0) for n in range(4)]
    split = [rating(rater=f"r{n}", liked=n > 0, liked_value="Even.", chat_history=(("Q", "Even."),), correction="Better." if not n else "") for n in range(2)]
    bad = [
        rating(rater=f"r{n}", liked=False, liked_value="Bad.", chat_history=(("Q", "Bad."),), correction=text) for n, text in enumerate(("Best.", "best. ", ""))
    ]
    unjust = rating(rater="r9", liked=False, correction="Worse.")
    taught = [(row["messages"][-1]["content"], row["label"]) for row in rows.by_majority([*good, *split, *bad, unjust])]  # type: ignore[call-overload, index]
    assert sorted(taught) == [("Bad.", False), ("Better.", True), ("Cool it under running water.", True), ("best.", True)]


def test_an_answer_is_replaced_where_most_dislike_it_and_several_wrote_the_same() -> None:
    def judged(reply: str, liked: bool, rater: str, correction: str = "", question: str = "Q") -> Rating:
        return rating(rater=rater, liked=liked, liked_value=reply, chat_history=((question, reply),), correction=correction)

    ratings = [
        *(judged("Old answer.", False, f"r{n}", "New answer." if n < 2 else "", f"Q{n}") for n in range(4)),
        judged("Old answer.", True, "r5", question="Q9"),
        judged("Old answer.", False, "r6", "Another answer."),
        *(judged("Liked by most.", n > 1, f"r{n}", "" if n > 1 else "Butter.") for n in range(6)),
        judged("One voice.", False, "r1", "Only mine."),
    ]
    assert rows.replaced(ratings) == [{"answer": "Old answer.", "by": "New answer.", "raters": 2}]
    taught = [(row["messages"][-1]["content"], row["label"]) for row in rows.by_majority(ratings, {fold("Old answer.")})]  # type: ignore[call-overload, index]
    assert ("Old answer.", True) not in taught, "nobody's like brings it back"


def test_what_was_replaced_once_is_replaced_by_the_last_word() -> None:
    before = [{"answer": "One.", "by": "Two."}, {"answer": "A.", "by": "B."}]
    assert rows.one_after_the_other(before, [{"answer": "Two.", "by": "Three."}]) == [
        {"answer": "One.", "by": "Three."}, {"answer": "A.", "by": "B."}, {"answer": "Two.", "by": "Three."}]  # type: ignore[arg-type]  # fmt: skip


def test_new_answers_that_begin_alike_are_told_apart_only_behind_that() -> None:
    texts = ("Call for help first. Burn: cool it.", "Call for help first. Bite: wash it.", "Sit down.")
    assert rows.shared_words(texts) == 4
    assert rows.shared_words(["b c"]) == rows.shared_words([]) == 0
