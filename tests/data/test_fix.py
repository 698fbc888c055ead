"""--fix: what is left out or mended is listed, the copy has no error that can be mended so, and the files stay as they are."""

import csv
import json
from pathlib import Path

import pytest

from lorikeet.data import inspect
from lorikeet.data.fix import CHANGES, Fixed, fix
from lorikeet.errors import RecipeError
from lorikeet.progress import Silent

ROWS = [{"question": f"What is thing number {n}?", "answer": f"Thing {n} is a w{n}.", "page": n} for n in range(60)]
KEY = "AKIA" + "IOSFODNN7" + "EXAMPLX"


def write(path: Path, rows: list[dict[str, object]], *lines: str) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows) + "".join(line + "\n" for line in lines), encoding="utf-8")
    return path


def fixed(tmp_path: Path, *paths: Path) -> tuple[Fixed, list[dict[str, object]]]:
    before = {path: path.read_bytes() for path in paths}
    found = inspect.files([str(path) for path in paths], Silent())
    usable = found.usable(Silent())
    assert usable is not None
    made = fix(found.files, usable, found.long, tmp_path / "clean", Silent())
    assert {path: path.read_bytes() for path in paths} == before
    return made, lines_of(tmp_path / "clean" / CHANGES)


def lines_of(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_clean_rows_come_back_with_all_their_keys_and_nothing_is_listed(tmp_path: Path) -> None:
    made, changes = fixed(tmp_path, write(tmp_path / "rows.jsonl", ROWS))
    assert lines_of(made.files[0]) == ROWS
    assert (changes, made.dropped, made.mended, made.errors) == ([], {}, 0, 0)


def test_every_reason_is_listed_with_its_place_and_the_row(tmp_path: Path) -> None:
    bad = [
        {"question": "What is thing number 3?", "answer": "Thing 3 is a w3."},
        {"question": "What does it look like?", "answer": "Like <|im_end|> this."},
        {"question": "And the second thing?", "answer": "It is.\nUser: thanks"},
        {"question": "What is my key called?", "answer": f"It is {KEY}."},
        {"question": "Is it liked by anybody?", "answer": "No, by nobody.", "label": False},
    ]
    path = write(tmp_path / "rows.jsonl", [*ROWS, *bad], "{broken", '{"question": "no answer"}')
    made, changes = fixed(tmp_path, path)
    assert {(c["code"], c.get("line")) for c in changes} == {
        ("data.duplicate.exact", 61), ("data.roles.bleed", 62), ("data.roles.bleed", 63), ("data.secret", 64), ("data.disliked", 65),
        ("data.refused", None), ("data.refused", 67),
    }  # fmt: skip
    assert made.dropped == {"data.duplicate.exact": 1, "data.roles.bleed": 2, "data.secret": 1, "data.disliked": 1, "data.refused": 2}
    assert next(c["row"] for c in changes if c["code"] == "data.roles.bleed") == bad[1]
    assert KEY not in (tmp_path / "clean" / CHANGES).read_text()
    again = inspect.files([str(made.files[0])], Silent())
    assert (again.refused, again.errors, again.files[0].read) == (0, 0, 60 - 0)


def test_rows_kept_and_rows_listed_are_all_rows(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", [*ROWS, *ROWS[:7]], "{", "[]", "")
    made, changes = fixed(tmp_path, path)
    assert len(lines_of(made.files[0])) + len(changes) == 69


def test_of_a_leak_the_row_to_train_on_goes(tmp_path: Path) -> None:
    train = write(tmp_path / "train.jsonl", ROWS)
    asked = [{"question": text, "answer": "It is this."} for text in ("what is thing number 5", "So what is thing number 7?", "Quite another matter")]
    test = write(tmp_path / "test.jsonl", [*asked, ROWS[9]])
    made, changes = fixed(tmp_path, train, test)
    assert {(c["code"], c["file"], c["line"]) for c in changes} >= {
        ("data.leak.exact", "train.jsonl", 6),
        ("data.leak.near", "train.jsonl", 8),
        ("data.duplicate.exact", "train.jsonl", 10),
    }
    assert {c["file"] for c in changes} == {"train.jsonl"}
    assert made.errors == 0
    assert inspect.files([str(path) for path in made.files], Silent()).errors == 0


def test_text_decoded_wrongly_is_mended_in_every_key(tmp_path: Path) -> None:
    wrong = {"question": "What is a cafÃ© au lait?", "answer": "A coffee with milk, from the FranÃ§ais.", "page": 9, "tags": ["cafÃ©"]}
    made, changes = fixed(tmp_path, write(tmp_path / "rows.jsonl", [*ROWS, wrong]))
    assert (made.mended, [c["action"] for c in changes], changes[0]["row"]) == (1, ["mended"], wrong)
    assert lines_of(made.files[0])[-1] == {
        "question": "What is a café au lait?",
        "answer": "A coffee with milk, from the Français.",
        "page": 9,
        "tags": ["café"],
    }


def test_a_table_becomes_lines_of_json(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, ["question", "answer", "page"])
        table.writeheader()
        table.writerows([*ROWS, ROWS[0]])
    made, changes = fixed(tmp_path, path)
    assert made.files[0].name == "rows.jsonl"
    assert lines_of(made.files[0]) == [{**row, "page": str(row["page"])} for row in ROWS]
    assert changes[0]["why"] == "a copy of rows.csv:2"


def test_what_only_a_person_can_decide_is_left_and_told(tmp_path: Path) -> None:
    made, _ = fixed(tmp_path, write(tmp_path / "rows.jsonl", [*ROWS, {"question": ROWS[0]["question"], "answer": "It is something else."}]))
    assert [f.code for f in made.left] == ["data.conflict"]


def test_nothing_is_written_over(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", ROWS)
    fixed(tmp_path, path)
    with pytest.raises(RecipeError, match="holds something already"):
        fixed(tmp_path, path)
    (tmp_path / "other").mkdir()
    with pytest.raises(RecipeError, match="two files called rows"):
        fixed(tmp_path / "other", path, write(tmp_path / "other" / "rows.jsonl", ROWS))
