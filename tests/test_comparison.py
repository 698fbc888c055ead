"""Columns are compared over the items that both have, and the sentence says what may be said."""

import pytest

from lorikeet.comparison import Column, compare


def column(passed: list[bool], name: str = "suite.s.pass_rate", **more: object) -> Column:
    return Column(name, "Suite s, passes", {str(n): float(p) for n, p in enumerate(passed)}, **more)  # type: ignore[arg-type]


def test_a_clear_gain_is_called_better() -> None:
    (found,) = compare("base", "tuned", [column([False] * 30 + [True] * 10)], [column([True] * 40)], 1)
    assert found.shown
    assert found.better
    assert found.sentence().startswith("Suite s, passes: tuned is better, 75.0 points above base (95 % interval +")
    assert found.finding().severity == "note"


def test_a_clear_loss_is_a_warning() -> None:
    (found,) = compare("base", "tuned", [column([True] * 40)], [column([False] * 30 + [True] * 10)], 1)
    assert "tuned is WORSE, 75.0 points below base" in found.sentence()
    assert found.finding().severity == "warning"


def test_a_lower_loss_is_better() -> None:
    loss = {"unit": "nats a token", "more_is_better": False}
    before, after = (
        Column("holdout.loss", "Held-out loss", {str(n): x + n % 3 for n in range(30)}, weights={str(n): 10.0 for n in range(30)}, **loss) for x in (20.0, 10.0)
    )  # type: ignore[arg-type]
    (found,) = compare("base", "tuned", [before], [after], 1)
    assert found.better
    assert "1.000 nats a token below base" in found.sentence()


def test_where_nothing_is_shown_the_sentence_says_what_would_have_been() -> None:
    (found,) = compare("base", "tuned", [column([True, False] * 20)], [column([True, False] * 19 + [True, True])], 1)
    assert not found.shown
    assert "no difference shown between base and tuned" in found.sentence()
    assert "15.0 points would have been seen four times out of five" in found.sentence()


def test_only_items_that_both_have_are_compared() -> None:
    before, after = column([True] * 4), column([True] * 9)
    (found,) = compare("a", "b", [before], [after], 1)
    assert found.change.interval.n == 4


def test_a_column_that_only_one_has_is_not_compared() -> None:
    assert compare("a", "b", [column([True])], [column([True], name="suite.other.pass_rate")], 1) == []


def test_p_values_are_adjusted_within_a_family_and_not_beyond() -> None:
    before = [column([False] * 7 + [True] * 30, name=name) for name in ("benchmark.x.acc", "benchmark.y.acc", "general.acc")]
    after = [column([True] * 37, name=name) for name in ("benchmark.x.acc", "benchmark.y.acc", "general.acc")]
    x, y, general = compare("base", "tuned", before, after, 1)
    assert x.change.p == general.adjusted == pytest.approx(2 / 128)
    assert x.adjusted == y.adjusted == pytest.approx(4 / 128)
    assert x.measure().p == pytest.approx(4 / 128)
    assert x.measure().name == "benchmark.x.acc_change"


def test_wordings_of_one_question_count_as_one() -> None:
    clusters = {str(n): f"q{n // 4}" for n in range(40)}
    (found,) = compare("a", "b", [column([False] * 40, clusters=clusters)], [column([n < 20 for n in range(40)], clusters=clusters)], 1)
    assert found.change.interval.n == 10


def test_an_items_own_name_never_joins_it_to_a_cluster() -> None:
    clusters = {"0": "1"}
    assert column([True, False], clusters=clusters).measure("tuned", 1).n == 2


def test_one_cluster_alone_bounds_nothing_and_is_said_to_show_nothing() -> None:
    clusters = dict.fromkeys("01", "q")
    (found,) = compare("a", "b", [column([False, True], clusters=clusters)], [column([True, True], clusters=clusters)], 1)
    assert (found.measure().low, found.measure().high) == (-1.0, 1.0)
    assert found.sentence().endswith("so few can show none")
    measure = column([True, False], clusters=clusters).measure("a", 1)
    assert (measure.low, measure.high) == (0.0, 1.0)
