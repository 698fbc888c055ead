"""The importance matrix against what llama.cpp's own engine multiplies, read from its graph as llama-imatrix reads it."""

import ctypes
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.slow


class GgmlTensor(ctypes.Structure):
    """struct ggml_tensor of ggml.h, as far as its name."""


GgmlTensor._fields_ = [
    ("type", ctypes.c_int32), ("buffer", ctypes.c_void_p), ("ne", ctypes.c_int64 * 4), ("nb", ctypes.c_size_t * 4), ("op", ctypes.c_int32),
    ("op_params", ctypes.c_int32 * 16), ("flags", ctypes.c_int32), ("src", ctypes.POINTER(GgmlTensor) * 10), ("view_src", ctypes.c_void_p),
    ("view_offs", ctypes.c_size_t), ("data", ctypes.c_void_p), ("name", ctypes.c_char * 64),
]  # fmt: skip
Callback = ctypes.CFUNCTYPE(ctypes.c_bool, ctypes.POINTER(GgmlTensor), ctypes.c_bool, ctypes.c_void_p)


@pytest.fixture
def sums(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, np.ndarray]]:
    """What every multiplication of a block's weights took in, squared and summed over tokens, as engines opened in the test run."""
    from lorikeet.engine.binding import library

    lib, seen = library(), dict[str, np.ndarray]()
    lib.ggml_op_name.restype = ctypes.c_char_p

    def watch(node: "ctypes._Pointer[GgmlTensor]", ask: bool, data: int) -> bool:
        t = node.contents
        if lib.ggml_op_name(t.op) != b"MUL_MAT" or not t.src[0].contents.name.startswith(b"blk."):
            return False
        if not ask:
            taken = t.src[1].contents
            values = np.ctypeslib.as_array(ctypes.cast(taken.data, ctypes.POINTER(ctypes.c_float)), shape=(taken.ne[1], taken.ne[0])).astype(np.float64)
            name = t.src[0].contents.name.decode()
            seen[name] = seen.get(name, np.zeros(values.shape[1])) + (values**2).sum(0)
        return True

    callback = Callback(watch)
    default = lib.llama_context_default_params

    def watched() -> object:
        params = default()
        params.cb_eval = ctypes.cast(callback, ctypes.c_void_p)
        return params

    monkeypatch.setattr(lib, "llama_context_default_params", watched)
    yield seen


def test_it_is_what_llama_cpp_multiplies_and_its_file_is_read_back(tiny_base: Path, tmp_path: Path, sums: dict[str, np.ndarray]) -> None:
    from lorikeet.engine.llamacpp import LlamaCppEngine
    from lorikeet.engine.torch_engine import TorchEngine
    from lorikeet.export import imatrix
    from lorikeet.export.merge import Order, convert

    none = tmp_path / "none"
    none.mkdir()
    (none / "adapter_config.json").write_text("{}")
    convert(Order(str(tiny_base), str(none), str(tmp_path / "m.gguf"), "F16", "m"), tmp_path)
    hf, engine = TorchEngine(tiny_base, None, 2), LlamaCppEngine(tmp_path / "m.gguf", 2, slots=1)
    rows = [hf.encode(text) for text in ("The nose bleeds: pinch it for ten minutes, and lean forward.", "Cool the burn under running water. " * 4)]
    for row in rows:
        engine.logits(row)
    engine.close()
    found = imatrix.collect(hf.model, rows, tmp_path / "m.gguf")
    assert set(found) == set(sums) and len(found) == 14
    for name, (ours, count) in found.items():
        assert count == sum(map(len, rows))
        np.testing.assert_allclose(ours, sums[name], rtol=5e-3, err_msg=name)
    imatrix.write(tmp_path / "i.gguf", found, "rows", len(rows), 40)
    assert imatrix.chunks(tmp_path / "i.gguf") == len(rows)
    for name, values in imatrix.read(tmp_path / "i.gguf").items():
        np.testing.assert_allclose(values, found[name][0] / found[name][1], rtol=1e-6)
