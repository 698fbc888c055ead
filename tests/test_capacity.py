"""The arithmetic of docs/capacity.md against a simulation that knows nothing of it."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def capacity() -> ModuleType:
    path = Path(__file__).parent.parent / "benchmarks" / "capacity.py"
    spec = importlib.util.spec_from_file_location("capacity", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["capacity"] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("users", [3, 40, 90, 200])
def test_what_is_reckoned_is_what_is_simulated(capacity: ModuleType, users: int) -> None:
    load, speeds = capacity.Load(think=60, answer=50, read=0.2, slots=8, waiting=16), {1: 45.0, 8: 100.0}
    reckoned, (simulated, late) = capacity.reckoned(users, load, speeds), capacity.simulated(users, load, speeds, 20, 3)
    assert simulated.per_minute == pytest.approx(reckoned.per_minute, rel=0.05)
    assert simulated.seconds == pytest.approx(reckoned.seconds, rel=0.12)
    assert simulated.refused == pytest.approx(reckoned.refused, abs=0.03)
    assert late > simulated.seconds


def test_one_user_waits_for_nobody(capacity: ModuleType) -> None:
    load, speeds = capacity.Load(think=60, answer=50, read=0.2, slots=8, waiting=16), {1: 50.0, 8: 100.0}
    found = capacity.reckoned(1, load, speeds)
    assert found.seconds == pytest.approx(50 / 50 + 0.2)
    assert found.per_minute == pytest.approx(60 / 61.2)
    assert found.refused == 0


def test_between_measured_numbers_the_speed_lies_on_a_line_and_beyond_them_it_does_not_grow(capacity: ModuleType) -> None:
    speeds = {2: 40.0, 8: 100.0}
    assert [capacity.speed(speeds, n) for n in (1, 2, 5, 8, 30)] == [20.0, 40.0, 70.0, 100.0, 100.0]
