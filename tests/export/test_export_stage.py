"""What an export needs before it begins, and what lies in its folders."""

import json
from pathlib import Path

import gguf
import pytest

from lorikeet.export.stage import needed
from lorikeet.recipe import ExportSettings

BILLION = 1_000_000_000


def test_the_disk_that_all_files_take_is_known_beforehand() -> None:
    three = needed(BILLION, ExportSettings(quantisations=["Q8_0", "Q4_K_M"]))
    assert 2.0 + 1.06 + 0.61 < three / BILLION < 4.5  # what llama.cpp's files of a billion weights take, and not much more
    assert needed(BILLION, ExportSettings(quantisations=["Q8_0", "Q4_K_M"], merged=True)) == three + 2 * BILLION
    assert needed(BILLION, ExportSettings(quantisations=["F16"])) < 2.2 * BILLION


@pytest.mark.slow
def test_the_files_tell_where_they_come_from_and_how_ollama_takes_them(tiny_recipe: Path, tmp_path: Path) -> None:
    from lorikeet.cli import main

    out = tmp_path / "run"
    assert main(["export", str(tiny_recipe), "--out", str(out), "--set", "export.quantisations=[Q2_K]", "--set", "export.merged=true",
                 "--set", "export.adapter=true", "--set", "export.imatrix_rows=6"]) == 0  # fmt: skip
    (low,), (trained,) = out.glob("export-Q2_K-*"), out.glob("train-*")
    fields = gguf.GGUFReader(low / "tiny-Q2_K.gguf").fields
    told = json.loads((trained / "manifest.json").read_text())
    assert fields["lorikeet.trained_sha256"].contents() == told["files"]["adapter_model.safetensors"]
    assert fields["lorikeet.recipe_key"].contents() == told["key"]
    assert fields["quantize.imatrix.entries_count"].contents() == 14
    assert json.loads((low / "quantised.json").read_text())["imatrix"] is True
    text = (low / "Modelfile").read_text()
    assert text.startswith('FROM ./tiny-Q2_K.gguf\nTEMPLATE """') and 'SYSTEM """You help."""' in text and 'PARAMETER stop "<|im_end|>"' in text
    assert [p.name for p in out.glob("imatrix-*/*.gguf")] == ["imatrix.gguf"]
    assert [p.name for p in out.glob("adapter-*/*.gguf")] == ["tiny-adapter.gguf"]
    assert (next(out.glob("merged-*")) / "tiny" / "model.safetensors").is_file()


@pytest.mark.slow
def test_a_disk_too_small_for_all_files_is_told_before_any_is_written(tiny_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from collections import namedtuple

    from lorikeet import artifact
    from lorikeet.cli import main

    out = tmp_path / "run"
    assert main(["train", str(tiny_recipe), "--out", str(out)]) == 0
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(artifact.shutil, "disk_usage", lambda folder: usage(10**9, 10**9, 10**7))
    assert main(["export", str(tiny_recipe), "--out", str(out), "--json"]) == 2
    assert not list(out.rglob("*.gguf"))
