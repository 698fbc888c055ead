"""Sweeps: arms as asked for, verdicts that say no more than was seen, and nothing trained twice."""

from pathlib import Path

import pytest

from lorikeet import search, sweep
from lorikeet.errors import RecipeError
from lorikeet.progress import Silent
from lorikeet.sweep import Arm, Design, Factor

RATE = "train.learning_rate"


def lines(path: Path, *vary: str, grid: bool = False, together: bool = False) -> list[str]:
    return [Arm(settings).name for settings in sweep.design(path, vary, grid=grid, together=together).arms]


def test_one_factor_has_an_arm_a_value(tiny_recipe: Path) -> None:
    assert lines(tiny_recipe, f"{RATE}=0.01,0.001") == [f"{RATE}=0.001", f"{RATE}=0.01"]  # the recipe's own value first


def test_several_factors_are_varied_one_at_a_time(tiny_recipe: Path) -> None:
    assert lines(tiny_recipe, f"{RATE}=0.001,0.01", "train.rank=16,4") == [
        f"{RATE}=0.001, train.rank=16", f"{RATE}=0.01, train.rank=16", f"{RATE}=0.001, train.rank=4",
    ]  # fmt: skip


def test_a_grid_has_every_combination(tiny_recipe: Path) -> None:
    assert len(lines(tiny_recipe, f"{RATE}=0.001,0.01,0.1", "train.rank=16,4", grid=True)) == 6


@pytest.mark.parametrize(
    ("vary", "words"),
    [
        (["train.learning_rate"], "not of the form"),
        (["train.learning_rate=0.001"], "not of the form"),
        (["train.lerning_rate=0.001,0.002"], "lerning_rate"),
        (["train.learning_rate=0.001,7"], "learning_rate"),
        (["data.split=groups,wordings"], "only settings of training"),
        (["train.seed=1,2"], "only settings of training"),
        (["train.rank=4,8", "train.rank=16,32"], "twice"),
    ],
)
def test_what_cannot_be_varied_is_refused(tiny_recipe: Path, vary: list[str], words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        sweep.design(tiny_recipe, vary)


TOKENS = [10.0] * 12


def arm(value: str, *means: float) -> Arm:
    """An arm with a loss a token for each seed, rows a little apart."""
    return Arm(((RATE, value),), [[10 * (mean + 0.01 * (n % 3)) for n in range(12)] for mean in means])


def planned(*values: str, together: bool = False) -> Design:
    return Design((Factor(RATE, values),), tuple(((RATE, v),) for v in values), False, together)


def test_a_difference_in_every_seed_is_shown() -> None:
    (verdict,) = sweep.judge(planned("0.001", "0.01"), [arm("0.001", 2.0, 2.01, 1.99), arm("0.01", 1.5, 1.52, 1.49)], TOKENS)
    assert verdict.shown
    assert "train.learning_rate 0.001 -> 0.01 lowers the held-out loss by 0.4967 nats a token: better" in verdict.sentence()


def test_seeds_that_disagree_show_nothing() -> None:
    (verdict,) = sweep.judge(planned("0.001", "0.01"), [arm("0.001", 2.0, 2.0, 2.0), arm("0.01", 1.9, 2.1, 2.02)], TOKENS)
    assert not verdict.shown
    assert "no difference shown" in verdict.sentence()
    assert "would have been seen four times out of five" in verdict.sentence()


def test_one_seed_says_nothing() -> None:
    (verdict,) = sweep.judge(planned("0.001", "0.01"), [arm("0.001", 2.0), arm("0.01", 1.0)], TOKENS)
    assert not verdict.shown
    assert "give --seeds 2 or more" in verdict.sentence()


def test_of_factors_changed_together_no_cause_is_named() -> None:
    design = planned("0.001", "0.01", together=True)
    arms = [arm("0.001", 2.0, 2.0), arm("0.01", 1.0, 1.0)]
    assert sweep.judge(design, arms, TOKENS) == []
    assert "no cause can be named" in sweep.findings(design, arms, [])[0].what


def test_in_a_grid_a_factor_is_judged_over_the_other() -> None:
    factors = (Factor("train.rank", ("4", "8")), Factor(RATE, ("0.001", "0.01")))
    arms = [
        Arm((("train.rank", r), (RATE, v)), [[10 * (2.0 - 0.5 * (v == "0.01") + s / 1000)] * 6 + [10 * (2.1 - 0.5 * (v == "0.01"))] * 6 for s in range(3)])
        for r in ("4", "8")
        for v in ("0.001", "0.01")
    ]
    rank, rate = sweep.judge(Design(factors, tuple(a.settings for a in arms), True, False), arms, TOKENS)
    assert not rank.shown
    assert rate.shown
    assert rate.change.interval.value == pytest.approx(-0.5)


@pytest.mark.slow
def test_two_learning_rates_end_with_the_right_sentence_and_a_second_run_trains_nothing(tiny_recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "sweep"
    design = sweep.design(tiny_recipe, [f"{RATE}=0.00001,0.02"])
    arms, (verdict,) = sweep.run(tiny_recipe, design, 3, ["train.epochs=4"], out, Silent())
    assert verdict.shown
    assert f"{RATE} 0.00001 -> 0.02 lowers the held-out loss" in verdict.sentence()
    trained = {p: p.stat().st_mtime for p in out.glob("train-*")}
    assert len(trained) == 6
    again, _ = sweep.run(tiny_recipe, design, 3, ["train.epochs=4"], out, Silent())
    assert {p: p.stat().st_mtime for p in out.glob("train-*")} == trained
    assert [a.losses for a in again] == [a.losses for a in arms]
    assert len(list(out.glob("data-*"))) == 1

    alike = sweep.design(tiny_recipe, [f"{RATE}=0.001,0.00100001"])
    _, (nothing,) = sweep.run(tiny_recipe, alike, 3, ["train.epochs=1"], tmp_path / "alike", Silent())
    assert not nothing.shown
    assert "no difference shown" in nothing.sentence()


@pytest.mark.slow
def test_a_hopeless_arm_gets_no_further_seed(tiny_recipe: Path, tmp_path: Path) -> None:
    design = sweep.design(tiny_recipe, [f"{RATE}=0.02,0.00001,0.000001"])
    arms, _ = sweep.run(tiny_recipe, design, 3, ["train.epochs=10", f"{RATE}=0.02"], tmp_path / "sweep", Silent())
    assert [len(a.losses) for a in arms] == [3, 1, 1]
    assert "above the best arm's" in arms[1].given_up


@pytest.mark.parametrize(
    ("vary", "words"),
    [
        ("train.learning_rate=0.01..0.001", "no range"),
        ("train.learning_rate=0.001..7", "learning_rate"),
        ("train.rank=4..8.5", "rank"),
        ("data.max_tokens=16..64", "only settings of training"),
        ("train.rank=4", "not of the form"),
    ],
)
def test_what_cannot_be_searched_is_refused(tiny_recipe: Path, vary: str, words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        search.rooms(tiny_recipe, [vary], [])


def test_a_wide_range_is_searched_by_orders_of_magnitude_and_whole_numbers_stay_whole(tiny_recipe: Path) -> None:
    import optuna

    rate, rank, which = search.rooms(tiny_recipe, [f"{RATE}=0.0001..0.1", "train.rank=4..64", "train.schedule=cosine,linear"], [])
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    drawn = [[room.proposed(study.ask()) for _ in range(200)] for room in (rate, rank, which)]
    assert 0.4 < sum(float(value) < 0.003 for value in drawn[0]) / 200 < 0.6
    assert all(4 <= int(value) <= 64 for value in drawn[1])
    assert set(drawn[2]) == {"cosine", "linear"}


@pytest.mark.slow
def test_a_search_finds_a_better_rate_judges_it_by_further_seeds_and_trains_nothing_twice(tiny_recipe: Path, tmp_path: Path) -> None:
    sets, out = ["train.epochs=4", f"{RATE}=0.00001"], tmp_path / "search"
    where = search.rooms(tiny_recipe, [f"{RATE}=0.00001..0.05"], sets)
    _, arms, (verdict,) = search.run(tiny_recipe, where, 6, 2, sets, out, Silent())
    assert len(arms) == 7
    assert sorted(len(arm.losses) for arm in arms) == [1, 1, 1, 1, 1, 3, 3]
    assert verdict.shown
    assert verdict.seeds == 2
    assert f"{RATE} 1e-05 -> {verdict.value} lowers the held-out loss" in verdict.sentence()
    trained = {p: p.stat().st_mtime for p in out.glob("train-*")}
    _, again, _ = search.run(tiny_recipe, where, 6, 2, sets, out, Silent())
    assert {p: p.stat().st_mtime for p in out.glob("train-*")} == trained
    assert [arm.losses for arm in again] == [arm.losses for arm in arms]
