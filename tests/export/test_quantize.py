"""Quantised files against those of llama.cpp's own quantiser, byte for byte; and what is refused."""

import re
from pathlib import Path

import gguf
import numpy as np
import pytest

from lorikeet.errors import ModelError
from lorikeet.export.mixture import Importance, QuantizerError, mixture, run_quantizer
from lorikeet.export.quantize import How, look_inside, quantize

LAYERS, VOCABULARY = 9, 40
OFTEN = ["Q8_0", "Q6_K", "Q4_K_M", "Q4_0", "Q3_K_M", "Q2_K"]
SELDOM = ["Q5_K_M", "Q5_K_S", "Q5_1", "Q5_0", "Q4_K_S", "Q4_1", "IQ4_NL", "IQ4_XS", "Q3_K_L", "Q3_K_S", "IQ3_M", "IQ3_S", "BF16"]  # fmt: skip
LOW = ["IQ3_XXS", "IQ3_XS", "Q2_K_S", "IQ2_M", "IQ2_S", "IQ2_XS", "IQ2_XXS", "IQ1_M", "IQ1_S"]
"""Those that llama.cpp makes with an importance matrix alone."""


def write_llama(path: Path, hidden: int = 256, wide: int = 512, kind: type = np.float16, *, tied: bool = False) -> Path:
    """A GGUF of a llama's shape with random weights and no tokenizer, which the quantiser does not ask for."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("small")
    writer.add_block_count(LAYERS)
    writer.add_context_length(128)
    writer.add_embedding_length(hidden)
    writer.add_feed_forward_length(wide)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(VOCABULARY)
    writer.add_array("tokenizer.ggml.tokens", [f"t{n}" for n in range(VOCABULARY)])
    random = np.random.default_rng(7)
    halves = {"attn_q": (hidden, hidden), "attn_k": (hidden // 2, hidden), "attn_v": (hidden // 2, hidden), "attn_output": (hidden, hidden),
              "ffn_gate": (wide, hidden), "ffn_up": (wide, hidden), "ffn_down": (hidden, wide)}  # fmt: skip

    def add(name: str, shape: tuple[int, ...], dtype: type) -> None:
        writer.add_tensor(name, (random.standard_normal(shape) * 0.05).astype(dtype))

    add("token_embd.weight", (VOCABULARY, hidden), kind)
    for layer in range(LAYERS):
        add(f"blk.{layer}.attn_norm.weight", (hidden,), np.float32)
        add(f"blk.{layer}.ffn_norm.weight", (hidden,), np.float32)
        for name, shape in halves.items():
            add(f"blk.{layer}.{name}.weight", shape, kind)
    add("output_norm.weight", (hidden,), np.float32)
    if not tied:
        add("output.weight", (VOCABULARY, hidden), kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def importance_of(path: Path) -> Importance:
    random = np.random.default_rng(3)
    return {t.name: random.random(int(t.shape[0])).astype(np.float32) for t in gguf.GGUFReader(path).tensors if t.name.startswith("blk.") and len(t.shape) == 2}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_llama(tmp_path_factory.mktemp("f16") / "small-F16.gguf")


@pytest.mark.parametrize("quantisation", [*OFTEN, *(pytest.param(q, marks=pytest.mark.slow) for q in SELDOM)])
def test_a_file_is_that_of_llama_cpps_quantiser_byte_for_byte(source: Path, quantisation: str, tmp_path: Path) -> None:
    run_quantizer(source, tmp_path / "theirs.gguf", quantisation, threads=2)
    quantize(source, tmp_path / "ours.gguf", quantisation, 2)
    assert (tmp_path / "ours.gguf").read_bytes() == (tmp_path / "theirs.gguf").read_bytes()


@pytest.mark.parametrize("quantisation", ["Q4_0", "Q3_K_M", "IQ4_XS", *(pytest.param(q, marks=pytest.mark.slow) for q in LOW if q != "IQ1_M")])
def test_with_an_importance_matrix_it_is_so_too(source: Path, quantisation: str, tmp_path: Path) -> None:
    importance = importance_of(source)
    run_quantizer(source, tmp_path / "theirs.gguf", quantisation, threads=2, importance=importance)
    quantize(source, tmp_path / "ours.gguf", quantisation, 2, How(importance))
    assert (tmp_path / "ours.gguf").read_bytes() == (tmp_path / "theirs.gguf").read_bytes()
    plain = tmp_path / "plain.gguf"
    if quantisation not in LOW:
        quantize(source, plain, quantisation, 2)
        assert look_inside(plain, quantisation).tensors_sha256 != look_inside(tmp_path / "ours.gguf", quantisation).tensors_sha256


@pytest.mark.slow
def test_the_lowest_of_all_parts_by_what_the_compilers_of_the_two_builds_round(source: Path, tmp_path: Path) -> None:
    importance = importance_of(source)
    run_quantizer(source, tmp_path / "theirs.gguf", "IQ1_M", threads=2, importance=importance)
    quantize(source, tmp_path / "ours.gguf", "IQ1_M", 2, How(importance))
    ours, theirs = (np.fromfile(tmp_path / f"{whose}.gguf", np.uint8) for whose in ("ours", "theirs"))
    assert ours.shape == theirs.shape
    assert np.count_nonzero(ours != theirs) < 1e-5 * ours.size


@pytest.mark.parametrize(("hidden", "wide"), [(320, 512), (128, 384), (64, 100)])
@pytest.mark.parametrize("quantisation", ["Q4_K_M", "Q2_K", "IQ4_XS"])
def test_rows_that_do_not_divide_fall_back_as_llama_cpps_do(hidden: int, wide: int, quantisation: str, tmp_path: Path) -> None:
    odd = write_llama(tmp_path / "odd-F16.gguf", hidden, wide, tied=True)
    run_quantizer(odd, tmp_path / "theirs.gguf", quantisation, threads=1)
    fell_back = quantize(odd, tmp_path / "ours.gguf", quantisation, 1)
    assert (tmp_path / "ours.gguf").read_bytes() == (tmp_path / "theirs.gguf").read_bytes()
    inside = look_inside(tmp_path / "ours.gguf", quantisation, fell_back)
    assert inside.fell_back and set(inside.fell_back) <= set(inside.types)


def test_a_type_for_some_tensors_is_taken_as_llama_cpp_takes_it(source: Path, tmp_path: Path) -> None:
    overrides = {r"attn_(v|k)\.weight": "Q8_0", "blk.0.ffn_down": "Q5_K"}
    run_quantizer(source, tmp_path / "theirs.gguf", "Q4_K_M", threads=2, overrides=overrides)
    quantize(source, tmp_path / "ours.gguf", "Q4_K_M", 2, How(overrides=overrides))
    assert (tmp_path / "ours.gguf").read_bytes() == (tmp_path / "theirs.gguf").read_bytes()
    stored = {t.name: t.tensor_type.name for t in gguf.GGUFReader(tmp_path / "ours.gguf").tensors}
    assert (stored["blk.3.attn_v.weight"], stored["blk.0.ffn_down.weight"], stored["blk.3.ffn_up.weight"]) == ("Q8_0", "Q5_K", "Q4_K")


def test_a_type_for_tensors_that_there_are_not_is_refused(source: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=re.escape("'atn_v' is in the name of no tensor")):
        quantize(source, tmp_path / "ours.gguf", "Q4_K_M", 2, How(overrides={"attn_k": "Q8_0", "atn_v": "Q8_0"}))
    assert not list(tmp_path.iterdir())


def test_a_float32_file_can_be_quantised(tmp_path: Path) -> None:
    whole = write_llama(tmp_path / "small-F32.gguf", kind=np.float32)
    run_quantizer(whole, tmp_path / "theirs.gguf", "Q4_0", threads=2)
    quantize(whole, tmp_path / "ours.gguf", "Q4_0", 2)
    assert (tmp_path / "ours.gguf").read_bytes() == (tmp_path / "theirs.gguf").read_bytes()


def test_notes_stand_in_the_metadata(source: Path, tmp_path: Path) -> None:
    quantize(source, tmp_path / "ours.gguf", "Q8_0", 2, How(notes={"quantize.imatrix.file": "imatrix.gguf", "quantize.imatrix.chunks_count": 12}))
    fields = gguf.GGUFReader(tmp_path / "ours.gguf").fields
    assert (fields["quantize.imatrix.file"].contents(), fields["quantize.imatrix.chunks_count"].contents()) == ("imatrix.gguf", 12)


def test_a_low_quantisation_without_importance_is_refused(source: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="IQ2_XS needs an importance matrix"):
        quantize(source, tmp_path / "ours.gguf", "IQ2_XS", 2)
    lacking = {name: values for name, values in importance_of(source).items() if "blk.4.ffn_up" not in name}
    with pytest.raises(ModelError, match=re.escape("IQ2_XS stores blk.4.ffn_up.weight as IQ2_XS")):
        quantize(source, tmp_path / "ours.gguf", "IQ2_XS", 2, How(lacking))


def test_an_importance_matrix_of_another_model_is_refused(source: Path, tmp_path: Path) -> None:
    other = {name: values[:-1] for name, values in importance_of(source).items()}
    with pytest.raises(ModelError, match="has 255 columns for blk"):
        quantize(source, tmp_path / "ours.gguf", "Q2_K", 2, How(other))


def test_a_weight_that_is_not_a_number_is_refused(source: Path, tmp_path: Path) -> None:
    raw = bytearray(source.read_bytes())
    tensor = next(t for t in gguf.GGUFReader(source).tensors if t.name == "blk.2.ffn_up.weight")
    raw[tensor.data_offset : tensor.data_offset + 2] = np.array(np.nan, np.float16).tobytes()
    (tmp_path / "ill.gguf").write_bytes(raw)
    with pytest.raises(ModelError, match=re.escape("blk.2.ffn_up.weight holds what is not a number")):
        quantize(tmp_path / "ill.gguf", tmp_path / "ours.gguf", "Q4_K_M", 2)


def test_what_is_quantised_already_is_refused(source: Path, tmp_path: Path) -> None:
    quantize(source, tmp_path / "once.gguf", "Q8_0", 2)
    with pytest.raises(ModelError, match="type Q8_0 is quantised already"):
        quantize(tmp_path / "once.gguf", tmp_path / "twice.gguf", "Q4_0", 2)


def test_what_llama_cpp_cannot_read_is_told_in_its_words(tmp_path: Path) -> None:
    (tmp_path / "no.gguf").write_bytes(b"GGUF" + bytes(50))
    with pytest.raises(ModelError, match=r"llama\.cpp cannot make Q8_0 of no\.gguf"):
        mixture(tmp_path / "no.gguf", "Q8_0")
    with pytest.raises(QuantizerError):
        run_quantizer(tmp_path / "no.gguf", tmp_path / "out.gguf", "Q8_0", threads=1)
