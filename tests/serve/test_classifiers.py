"""Classifiers by id: a real one with two layers, in a folder, whose words and labels are known; and what cannot be one."""

import json
from pathlib import Path

import pytest

from lorikeet.errors import ModelError, RecipeError
from lorikeet.serve import classifiers
from lorikeet.serve.tone import Measurer


def classifier(folder: Path, labels: list[str]) -> Path:
    """Says the first label more surely than the others, whatever is written."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

    folder.mkdir()
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "hello", "you"]
    (folder / "vocab.txt").write_text("\n".join(words))
    BertTokenizerFast(vocab_file=str(folder / "vocab.txt"), model_max_length=16).save_pretrained(folder)
    config = BertConfig(vocab_size=len(words), hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=8, max_position_embeddings=16,
                        id2label=dict(enumerate(labels)), label2id={label: i for i, label in enumerate(labels)})  # fmt: skip
    model = BertForSequenceClassification(config)
    with torch.no_grad():
        model.classifier.weight.zero_()
        model.classifier.bias.copy_(torch.tensor([1.0] + [0.0] * (len(labels) - 1)))
    model.save_pretrained(folder)
    return folder


def test_a_classifier_by_its_folder_stands_in_for_what_comes_along(tmp_path: Path) -> None:
    polite = classifier(tmp_path / "polite", ["polite", "impolite"])
    share = 2.718281828 / 3.718281828
    tone = Measurer(politeness=str(polite))("Hello you " * 40)
    assert tone.politeness == pytest.approx(5 * share + 1 * (1 - share), abs=1e-4)
    sad = classifier(tmp_path / "sad", ["NEGATIVE", "neutral"])
    assert Measurer(sentiment=str(sad), politeness=str(polite))("hello").sentiment == pytest.approx(-share, abs=1e-4)


def test_labels_that_say_nothing_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="'LABEL_1'"):
        classifiers.scale(str(classifier(tmp_path / "mute", ["polite", "LABEL_1"])), classifiers.POLITENESS)


def test_what_is_no_classifier_is_an_error_with_a_cure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "nothing"}))
    with pytest.raises(ModelError, match="cannot be had"):
        classifiers.scale(str(tmp_path), classifiers.SENTIMENT)
    with pytest.raises(ModelError, match="cannot be had"):
        classifiers.scale("nobody/nothing-at-all", classifiers.SENTIMENT)
