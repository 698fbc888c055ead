"""What a base is refused for before any work is done."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from small_gguf import write_gguf

from lorikeet import bases, machine
from lorikeet.errors import MachineError, ModelError
from lorikeet.progress import Silent


@pytest.fixture(autouse=True)
def small_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(machine, "memory_bytes", lambda: 560_000_100)
    monkeypatch.setenv("LORIKEET_CACHE", str(tmp_path / "cache"))


def folder_of(path: Path, weights: int) -> Path:
    path.mkdir()
    (path / "config.json").write_text("{}")
    (path / "tokenizer.json").write_text("{}")
    save_file({"w": np.zeros(weights, dtype=np.float16)}, path / "model.safetensors")
    return path


def gguf_of(path: Path, weights: int) -> Path:
    return write_gguf(path, w=np.zeros(weights, dtype=np.float32))


def test_a_folder_that_fits_is_taken(tmp_path: Path) -> None:
    assert bases.prepare(str(folder_of(tmp_path / "m", 25)), Silent()).name == "m"


def test_a_folder_too_large_for_this_machine_is_refused_with_what_it_needs(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match=r"the base m has .* at least 0.6 GB of memory, this machine has 0.6"):
        bases.prepare(str(folder_of(tmp_path / "m", 26)), Silent())


def test_a_gguf_too_large_is_refused_before_it_is_dequantised(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="the base big has"):
        bases.prepare(str(gguf_of(tmp_path / "big.gguf", 26)), Silent())
    assert not list((tmp_path / "cache").rglob("*.part"))


def test_a_named_base_too_large_is_refused() -> None:
    with pytest.raises(MachineError, match=r"0\.1 billion weights"):
        bases.prepare("smollm2-135m", Silent())


def test_a_gguf_that_was_cut_off_is_refused(tmp_path: Path) -> None:
    path = gguf_of(tmp_path / "cut.gguf", 26)
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(ModelError, match="cannot be read"):
        bases.prepare(str(path), Silent())


def test_a_template_without_a_system_turn_gets_one_folded_in_and_the_folder_stays_as_it_is(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "m", 25)
    (folder / "tokenizer_config.json").write_text('{"chat_template": "{{ messages[0].content }}", "eos_token": "<e>"}')
    assert bases.prepare(str(folder), Silent()).path == folder
    (folder / "tokenizer_config.json").write_text('{"chat_template": "{{ raise_exception(1) }}", "eos_token": "<e>"}')
    found = bases.prepare(str(folder), Silent())
    assert found == bases.prepare(str(folder), Silent())
    assert (found.path / "chat_template.jinja").read_text().endswith("{{ raise_exception(1) }}")
    assert json.loads((found.path / "tokenizer_config.json").read_text()) == {"eos_token": "<e>"}
    assert (found.path / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()
    assert not (folder / "chat_template.jinja").exists()


@pytest.mark.parametrize(("left", "told"), [(4, "no safetensors file, or is cut off in its header"), (-7, "is cut off: it has")])
def test_a_folder_whose_weights_were_cut_off_is_refused(left: int, told: str, tmp_path: Path) -> None:
    source = folder_of(tmp_path / "m", 25)
    file = next(source.glob("*.safetensors"))
    file.write_bytes(file.read_bytes()[:left])
    with pytest.raises(ModelError, match=told):
        bases.prepare(str(source), Silent())
