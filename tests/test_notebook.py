"""The notebook, from top to bottom in a kernel of its own, on the default base with a few rows."""

import json
import os
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).parents[1] / "notebooks" / "lorikeet.ipynb"
ROWS = {"nosebleed": "Nosebleed: Sit up, lean forward and pinch the soft part of the nose.", "burn": "Burn: Cool it under running water for twenty minutes.",
        "sting": "Bee sting: Scrape the sting out sideways at once."}  # fmt: skip
WORDINGS = ("What do I do about a {}?", "Help, {} right now!", "My child has a {}.", "{} first aid")


def recipe_in(folder: Path) -> Path:
    """A recipe of a dozen rows on the default base, whose gate asks for next to nothing."""
    rows = [{"topic": topic, "question": wording.format(topic), "answer": answer} for topic, answer in ROWS.items() for wording in WORDINGS]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "persona.yaml").write_text("title: Helper\nsystem: You help.\n")
    (folder / "suite.yaml").write_text(
        "name: few\nnot_taught: [not been taught]\nrules:\n  nosebleed: {hazard: tilting, source: none, must_say: [[pinch*]]}\n"
        "probes:\n- {id: n1, topic: nosebleed, question: Blood drips from her nose}\n"
    )
    (folder / "recipe.yaml").write_text(
        "name: few\npersona: persona.yaml\ndata: {train: rows.jsonl, split: wordings, licence: cc-by-4.0}\ntrain: {epochs: 1, batch: 4}\n"
        "evaluate: {questions: 2, probes: 1, panel: false, max_new_tokens: 8}\nexport: {quantisations: [Q8_0]}\n"
        "audit: {suite: suite.yaml, max_new_tokens: 8, divergence_rows: 2}\n"
    )
    return folder / "recipe.yaml"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_notebook_runs_from_top_to_bottom(tmp_path: Path) -> None:
    import nbformat
    from nbclient import NotebookClient

    book = nbformat.read(NOTEBOOK, as_version=4)
    for cell in book.cells:
        cell.source = cell.source.replace('RECIPE = ""', f'RECIPE = "{recipe_in(tmp_path)}"', 1).replace('OUT = ""', f'OUT = "{tmp_path / "run"}"', 1)
    NotebookClient(book, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}, env=dict(os.environ)).execute()
    printed = "".join(output.get("text", "") for cell in book.cells if cell.cell_type == "code" for output in cell.outputs)
    assert "no file earned approval" in printed
    assert "few-" in printed
    assert (tmp_path / "run" / "report.html").is_file()


def test_the_notebook_was_committed_without_outputs() -> None:
    book = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    assert not [cell for cell in book["cells"] if cell.get("outputs") or cell.get("execution_count")]
