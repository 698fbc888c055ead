"""Held-out rows as columns, and how near answers come to those taught."""

from dataclasses import replace
from pathlib import Path

import pytest

from lorikeet.conversation import Message
from lorikeet.errors import ModelError
from lorikeet.evaluate import holdout
from lorikeet.exam import Answer, HeldOut

ANSWER = Answer("1", "tuned", "taught", "burn", "What now?", "Cool the burn.", "Cool the burn.", 4, True, "", "", "", "")


def row(category: str) -> HeldOut:
    return HeldOut((Message("user", "q"), Message("assistant", "a")), "test", "g", "rows:1", "t", "taught", "", category)


def test_loss_and_accuracy_are_a_token_and_categories_with_a_few_rows_are_told() -> None:
    rows = [row("burns")] * 5 + [row("cuts")] * 4 + [row("")]
    columns = {c.name: c for c in holdout.losses(rows, [(2.0, 4, 1)] * 9 + [(40.0, 4, 0)])}
    assert set(columns) == {"holdout.loss", "holdout.token_accuracy", "holdout.burns.loss"}
    assert columns["holdout.loss"].measure("base", 1).value == pytest.approx(58 / 40)
    assert columns["holdout.token_accuracy"].measure("base", 1).value == pytest.approx(9 / 40)
    assert columns["holdout.burns.loss"].measure("base", 1).value == 0.5


def test_one_category_of_all_rows_is_not_told_twice() -> None:
    assert [c.name for c in holdout.losses([row("burns")] * 6, [(1.0, 1, 1)] * 6)] == ["holdout.loss", "holdout.token_accuracy"]


@pytest.mark.parametrize(("reply", "exact", "least", "most"), [("Cool the burn.", 1, 1, 1), ("Cool a burn!", 0, 0.3, 0.9), ("Bees sing", 0, 0, 0.2)])
def test_the_nearer_an_answer_the_higher_its_marks(reply: str, exact: float, least: float, most: float) -> None:
    by_name = {c.name: c.values["1"] for c in holdout.nearness([replace(ANSWER, reply=reply)])}
    assert by_name["taught.exact_match"] == exact
    assert least <= by_name["taught.chrf"] <= most
    assert least <= by_name["taught.rouge_l"] <= most


def test_answers_without_a_reference_have_no_nearness() -> None:
    assert holdout.nearness([replace(ANSWER, expected=""), replace(ANSWER, set="suite")]) == []


@pytest.mark.slow
def test_likeness_in_meaning_is_that_of_the_embedding_model_named(tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from transformers import BertConfig, BertModel, BertTokenizerFast

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "cool", "the", "burn", "bees", "sing", "."]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    BertTokenizerFast(vocab_file=str(tmp_path / "vocab.txt")).save_pretrained(tmp_path / "bert")
    BertModel(BertConfig(vocab_size=len(words), hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)).save_pretrained(
        tmp_path / "bert"
    )
    inner = Transformer(str(tmp_path / "bert"))
    SentenceTransformer(modules=[inner, Pooling(32)]).save(str(tmp_path / "model"))
    (column,) = holdout.similarity([ANSWER, replace(ANSWER, id="2", reply="bees sing")], str(tmp_path / "model"))
    assert column.values["1"] == pytest.approx(1.0, abs=1e-5)
    assert column.values["2"] < 0.999


@pytest.mark.slow
def test_an_embedding_model_that_is_not_there_is_said(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match=r"evaluate\.embedding"):
        holdout.similarity([ANSWER], str(tmp_path / "empty"))
