"""When a file is asked no further: not before the pass rate asked for is out of its reach, and at once then."""

from dataclasses import replace

import pytest

from lorikeet.audit.examine import Watch
from lorikeet.exam import Answer
from lorikeet.statistics import least_share

PASSED = Answer("p", "Q8_0", "taught", "burn", "Q", "", "A", 3, True, "pass", "", "", "")
FAILED = replace(PASSED, outcome="miss")


def stopped_at(outcomes: str, probes: int, floor: float = 0.85) -> int | None:
    """After how many answers the watch has enough; + passes, - fails."""
    watch = Watch(probes, floor)
    return next((n for n, outcome in enumerate(outcomes, 1) if watch(PASSED if outcome == "+" else FAILED)), None)


@pytest.mark.parametrize("probes", [40, 96, 128])
def test_it_stops_with_the_first_failure_that_no_later_pass_makes_good(probes: int) -> None:
    failures = next(f for f in range(probes) if least_share((probes - f) / probes, probes, 0.05) < 0.85)
    assert stopped_at("-" * failures, probes) == failures
    assert stopped_at("-" * (failures - 1) + "+" * (probes - failures + 1), probes) is None


def test_too_few_probes_to_show_anything_are_all_asked() -> None:
    assert least_share(1.0, 10, 0.05) < 0.85
    assert stopped_at("-" * 10, 10) is None


def test_only_probes_that_name_the_situation_count() -> None:
    watch = Watch(20, 0.5)
    assert not any(watch(replace(FAILED, set="oblique")) for _ in range(20))


def test_what_was_left_unasked_is_told() -> None:
    watch = Watch(96, 0.85)
    assert [watch(FAILED) for _ in range(9)] == [False] * 8 + [True]
    (finding,) = watch.findings([PASSED, *[FAILED] * 9], questions=180)
    assert finding.what.startswith("decided after 10 of 96 probes: 9 failed, 8 may at most")
    assert finding.what.endswith("170 of 180 questions were not asked")
    assert watch.findings([PASSED] * 180, questions=180) == []
