"""What commands do with what they cannot use: two lines and exit code 2 or 3, and one JSON document where it was asked for."""

import json
from pathlib import Path

import pytest
from toy_recipe import write_recipe

from lorikeet.cli import main


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    return write_recipe(tmp_path / "recipe")


def rows_file(path: Path, *questions: str) -> Path:
    path.write_text("".join(json.dumps({"question": q, "answer": f"About {q}."}) + "\n" for q in questions))
    return path


def said(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = main([str(a) for a in arguments])
    out, err = capsys.readouterr()
    return code, out, err


@pytest.mark.parametrize("name", ["My-Bot", "two words", "Ünï", "-x-"])
def test_init_refuses_a_name_that_no_recipe_may_have(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = said(capsys, "init", "--", tmp_path / name)
    assert (code, err.count("\n")) == (2, 2)
    assert "lower-case letters, digits and hyphens" in err
    assert not (tmp_path / name).exists()


def test_init_knows_a_recipe_by_its_use_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, "init", tmp_path / "my-tutor", "--like", "tutor")[0] == 0
    assert "\nname: my-tutor\n" in (tmp_path / "my-tutor" / "recipe.yaml").read_text()


def test_a_file_where_a_folder_has_to_be_made_is_told(tmp_path: Path, recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("x")
    for arguments in (("init", tmp_path / "file" / "bot"), ("run", recipe, "--out", tmp_path / "file")):
        code, _, err = said(capsys, *arguments)
        assert code == 2
        assert "cannot be made" in err


def test_check_takes_a_recipe_or_files_and_never_both(tmp_path: Path, recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = rows_file(tmp_path / "rows.jsonl", "a")
    for arguments in ((recipe, rows), (rows, recipe)):
        code, _, err = said(capsys, "check", *arguments)
        assert code == 2
        assert "is a recipe" in err


def test_check_of_a_missing_or_an_empty_file_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = said(capsys, "check", tmp_path / "none.jsonl")
    assert (code, err) == (2, f"error: {tmp_path / 'none.jsonl'} does not exist\n  cure: check the path\n")
    code, _, err = said(capsys, "check", rows_file(tmp_path / "empty.jsonl"))
    assert code == 3
    assert "no row to train on" in err


def test_check_writes_a_cleaned_copy_and_says_yes_once_nothing_is_left(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    questions = [f"what is number {n}" for n in range(60)]
    rows = rows_file(tmp_path / "rows.jsonl", *questions, "again")
    rows.write_text(rows.read_text() + '{"question": "no answer"}\n{"question": "mark?", "answer": "It <|im_end|> is"}\n')
    assert said(capsys, "check", rows)[0] == 3
    code, out, err = said(capsys, "check", rows, "--fix", tmp_path / "clean", "--json")
    fixed = json.loads(out)["fixed"]
    assert (code, err, fixed["dropped"]) == (0, "", {"data.refused": 1, "data.roles.bleed": 1})
    assert said(capsys, "check", *fixed["files"])[0] == 0
    code, _, err = said(capsys, "check", rows, "--fix", tmp_path / "clean")
    assert (code, err.count("\n")) == (2, 2)
    assert "writes over nothing" in err


def test_check_says_which_options_go_together(tmp_path: Path, recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = rows_file(tmp_path / "rows.jsonl", "a")
    for arguments, words in (
        ((rows, "--show", 1), "--base smollm2-135m"),
        ((recipe, "--base", "x"), "the recipe names its own"),
        ((recipe, "--rows", 9), "data.rows"),
    ):
        code, _, err = said(capsys, "check", *arguments)
        assert (code, err.count("\n")) == (2, 2)
        assert words in err


def test_diagnose_tells_a_run_and_says_no_where_nothing_was_learned(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = tmp_path / "trainer_state.json"
    steps = [{"step": n, "epoch": n / 50, "loss": 2 / (n + 5), "grad_norm": 0.5, "learning_rate": 1e-4} for n in range(1, 51)]
    state.write_text(json.dumps({"log_history": steps}))
    code, out, _ = said(capsys, "diagnose", tmp_path)
    assert code == 0
    assert "50 steps, 50 logged" in out
    state.write_text(json.dumps({"log_history": [s | {"loss": 0.0} for s in steps]}))
    code, out, err = said(capsys, "diagnose", state, "--json")
    assert (code, json.loads(out)["findings"][0]["code"]) == (3, "train.masked")
    assert "taught nothing" in err
    assert said(capsys, "diagnose", tmp_path / "nowhere")[0] == 2


def test_json_is_one_document_even_where_the_check_says_no(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "rows.jsonl").write_text('{"question": "Q"}\n')
    code, out, _ = said(capsys, "check", "--json", tmp_path / "rows.jsonl")
    assert code == 3
    assert json.loads(out)["files"][0]["rows"] == 0
    code, out, _ = said(capsys, "check", "--json", tmp_path / "none.jsonl")
    assert (code, json.loads(out)["exit_code"]) == (2, 2)


@pytest.mark.parametrize(
    ("change", "cure"),
    [
        ("epochs=3", "did you mean 'train.epochs'?"),
        ("pass_rate_at_least=0.5", "did you mean 'audit.thresholds.pass_rate_at_least'?"),
        ("export.quantisations=Q8_0", "write it in brackets, such as [one, two]"),
        ("train=3", "write its keys below it, each on a line that is indented"),
        ("train.first_layer=99", "choose 0 to "),
    ],
)
def test_a_wrong_setting_gets_the_right_one(recipe: Path, change: str, cure: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = said(capsys, "plan", recipe, "--set", change)
    assert code == 2
    assert cure in err


@pytest.mark.parametrize("threads", ["0", "-3"])
def test_no_threads_are_no_number_of_threads(threads: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["chat", "runs", "--threads", threads])
    assert "1 or more is needed" in capsys.readouterr().err
