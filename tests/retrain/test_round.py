"""A round on the tiny model, whose random weights learn nothing: what it takes, that it goes on where it was, and that the champion stays."""

import json
from pathlib import Path

import pytest
from toy_ratings import rating

from lorikeet import pipeline, released
from lorikeet.errors import DataError, ModelError, RecipeError, RefusedError
from lorikeet.journal import Journal
from lorikeet.progress import Silent
from lorikeet.recipe import load_recipe
from lorikeet.retrain import round as one_round


def rate(run: Path, raters: int) -> None:
    """Each rater judges four replies of the run's file, two of them well."""
    sha256 = next(iter(released.files_of(run)))
    journal = Journal(run / released.FEEDBACK)
    for rater in range(raters):
        for n in range(4):
            question, reply = f"Question {n} of rater {rater} about moss?", f"Reply {n} about moss to {rater}."
            journal.record(rating(rater=f"rater {rater}", liked=n < 2, model_sha256=sha256, liked_value=reply, chat_history=((question, reply),),
                                  correction="Moss is green." if n == 3 and rater % 2 else "", system="You help."))  # fmt: skip
    journal.record(rating(model_sha256="c" * 64))
    journal.close()


@pytest.mark.slow
def test_a_round_is_prepared_run_once_decided_and_leaves_the_champion_where_it_loses(tiny_recipe: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    quick = ["evaluate.panel=false", "export.quantisations=[]", "train.epochs=1"]
    pipeline.run(load_recipe(tiny_recipe, quick), run, Silent())
    with pytest.raises(DataError, match="no reply has been rated yet"):
        one_round.prepare(run, [], Silent())
    rate(run, 3)
    with pytest.raises(RefusedError, match="too few ratings to learn from"):
        one_round.prepare(run, [], Silent())
    assert not (run / released.ROUNDS).exists()
    rate(run, 24)

    prepared = one_round.prepare(run, ["train.batch=4"], Silent())
    assert prepared.folder == run / "rounds" / "2"
    assert prepared.counts["aside"] == {"duplicate": 12, "another-model": 2}
    assert (prepared.recipe.recipe.train.objective, prepared.recipe.recipe.train.batch) == ("kto", 4)
    learned = [json.loads(line) for line in (prepared.folder / one_round.LEARNED).read_text().splitlines()]
    assert {row["label"] for row in learned if row["messages"][-1]["content"] == "Moss is green."} == {True}
    rate(run, 30)
    assert one_round.prepare(run, ["train.batch=4"], Silent()).counts == prepared.counts, "a round goes on with the ratings that it began with"

    verdict = one_round.run(prepared, Silent())
    assert not verdict.promoted
    assert any("no file of the challenger is approved" in reason for reason in verdict.reasons)
    assert released.champion_of(run) == run
    written = (prepared.folder / pipeline.REPORT).read_text(encoding="utf-8")
    assert "Retraining" in written and "lorikeet serve runs/run/rounds/2 --unreleased" in written
    assert prepared.recipe.recipe.train.rehearsal == 0, "thumbs alone are learned without"
    another = one_round.prepare(run, ["train.objective=sft"], Silent())
    assert another.folder.name == "3", "a round that was decided is followed by another"
    assert another.recipe.recipe.train.rehearsal == one_round.REHEARSED


def test_the_folder_of_a_promoted_round_is_served_and_one_that_is_gone_is_told(tmp_path: Path) -> None:
    (tmp_path / "rounds" / "2").mkdir(parents=True)
    (tmp_path / "rounds" / "2" / "run.json").write_text("{}")
    (tmp_path / released.CHAMPION).write_text('{"round": "rounds/2"}')
    assert released.champion_of(tmp_path) == tmp_path / "rounds" / "2"
    (tmp_path / "rounds" / "2" / "run.json").unlink()
    with pytest.raises(ModelError, match="is not there"):
        released.champion_of(tmp_path)
    (tmp_path / released.CHAMPION).write_text("[]")
    with pytest.raises(ModelError, match="cannot be read"):
        released.champion_of(tmp_path)


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="not the folder of a run"):
        one_round.prepare(tmp_path, [], Silent())
