"""Blind comparison: picks are counted for the model that was picked, whichever side it stood on, and told with an interval."""

from lorikeet.serve.blind import Tally


def test_a_pick_counts_for_the_model_whichever_side_it_stood_on() -> None:
    tally = Tally()
    for _ in range(9):
        tally.add(["b", "a"], "a")
    tally.add(["a", "b"], "b")
    tally.add(["a", "b"], "")
    told = tally.told(["b", "a"])
    assert told.startswith("a was preferred to b in 9 of 10 (")
    assert told.endswith("1 saw no difference; a difference is shown")


def test_few_picks_show_no_difference_and_pairs_do_not_mix() -> None:
    tally = Tally()
    tally.add(["a", "b"], "a")
    assert tally.told(["a", "b"]).endswith("no difference is shown yet")
    assert tally.told(["a", "c"]) == "0 saw no difference"
