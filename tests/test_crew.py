"""A crew that takes several steps at a time: what is done side by side, what waits, and what becomes of a failure. The steps are toys."""

import pickle
from collections.abc import Mapping
from pathlib import Path

import pytest

from lorikeet import pipeline
from lorikeet.artifact import Artifact
from lorikeet.crew import Cost, Here, Order, work
from lorikeet.errors import DataError, RefusedError
from lorikeet.pipeline import Road, Run
from lorikeet.progress import Progress, Silent
from lorikeet.recipe import LoadedRecipe
from lorikeet.steps import Step
from lorikeet.weights import Base

BASE = Base(Path("/nowhere"), "tiny", "base-print", "here", "unknown")


class Backwards(Here):
    """Takes so many steps at a time and does the last one first."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room = room
        self.seen: list[list[str]] = []

    def next(self) -> str:
        self.seen.append(sorted(name.rpartition("-")[0] for name in self._orders))
        return list(self._orders)[-1]


def says(inputs: Mapping[str, Artifact], folder: Path, progress: Progress) -> None:
    (folder / "out.txt").write_text(" ".join(sorted(inputs)) if "alone" not in folder.name else "alone")


def breaks(inputs: Mapping[str, Artifact], folder: Path, progress: Progress) -> None:
    raise DataError("a bad row", "mend it")


def step(name: str, *inputs: str, work: object = says) -> Step:
    return Step(name, "data", 1, {"of": name}, inputs or ("base",), work)  # type: ignore[arg-type]


def walk(steps: list[Step], directory: Path, crew: Here) -> Run:
    walked = Run(directory)
    pipeline._walk([Road(LoadedRecipe.model_construct(), steps, walked)], BASE, crew, Silent())
    return walked


FAN = [step("data"), step("a-alone", "data"), step("b-alone", "data"), step("c-alone", "data"), step("end", "a-alone", "b-alone", "c-alone")]


def test_steps_that_need_nothing_of_each_other_are_done_side_by_side(tmp_path: Path) -> None:
    crew = Backwards(room=2)
    walked = walk(FAN, tmp_path, crew)
    assert crew.seen == [["data"], ["a-alone", "b-alone"], ["a-alone", "c-alone"], ["a-alone"], ["end"]]
    assert [result.name for result in walked.steps] == ["data", "a-alone", "b-alone", "c-alone", "end"]


def test_the_order_in_which_steps_end_changes_nothing(tmp_path: Path) -> None:
    one, other = walk(FAN, tmp_path / "one", Here()), walk(FAN, tmp_path / "other", Backwards(room=3))
    assert {name: made.manifest for name, made in one.artifacts.items()} == {name: made.manifest for name, made in other.artifacts.items()}


def test_what_two_roads_have_in_common_is_done_once_and_the_rest_side_by_side(tmp_path: Path) -> None:
    def road(value: str) -> Road:
        def writes(inputs: Mapping[str, Artifact], folder: Path, progress: Progress) -> None:
            (folder / "out.txt").write_text(value)

        own = Step("train", "data", 1, {"value": value}, ("data",), writes)
        return Road(LoadedRecipe.model_construct(), [step("data"), own, step("losses", "train")], Run(tmp_path))

    crew = Backwards(room=4)
    roads = [road("1"), road("2"), road("2")]
    pipeline._walk(roads, BASE, crew, Silent())
    assert crew.seen[:2] == [["data"], ["train", "train"]]
    assert len(list(tmp_path.glob("data-*"))) == 1
    assert len(list(tmp_path.glob("train-*"))) == len(list(tmp_path.glob("losses-*"))) == 2
    first, second, third = (road.walked.artifacts["losses"].path for road in roads)
    assert first != second == third
    assert [result.status for result in roads[2].walked.steps] == ["reused", "reused", "reused"]


def test_a_step_that_fails_keeps_what_was_done_and_is_told_with_those_under_way(tmp_path: Path) -> None:
    walked = Run(tmp_path)
    steps = [step("data"), step("a-alone", "data"), step("b-alone", "data", work=breaks)]
    with pytest.raises(DataError, match="a bad row"):
        pipeline._walk([Road(LoadedRecipe.model_construct(), steps, walked)], BASE, Backwards(room=2), Silent())
    assert [(result.name, result.status) for result in walked.steps] == [("data", "done"), ("a-alone", "failed"), ("b-alone", "failed")]
    assert [(result.name, result.status) for result in walk(steps[:2], tmp_path, Here()).steps] == [("data", "reused"), ("a-alone", "done")]


def test_what_a_step_took_is_measured_where_it_is_done(tmp_path: Path) -> None:
    found = work(Order(step("data"), LoadedRecipe.model_construct(), BASE, {}, tmp_path), Silent())
    assert isinstance(found, Cost)
    assert found.seconds >= 0
    assert found.peak_rss_mb > 10


def test_an_error_that_comes_from_another_process_still_has_its_cure() -> None:
    error = pickle.loads(pickle.dumps(RefusedError("no", "ask again")))
    assert (type(error), error.message, error.cure, error.exit_code) == (RefusedError, "no", "ask again", 3)
