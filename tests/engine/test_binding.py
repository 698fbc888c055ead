"""The look into a GGUF, held against the gguf package's own reader."""

from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFReader
from small_gguf import write_gguf

from lorikeet.engine.binding import tensors_of_file
from lorikeet.errors import ModelError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    wide, half, deep = np.arange(96, dtype=np.float32).reshape(3, 32), np.ones(7, dtype=np.float16), np.zeros((2, 1, 4), dtype=np.float32)
    return write_gguf(tmp_path / "small.gguf", wide=wide, half=half, deep=deep)


def test_tensors_are_those_that_the_gguf_package_reads(file: Path) -> None:
    raw = file.read_bytes()
    theirs = [(t.name, t.tensor_type.name, tuple(map(int, t.shape)), t.data.tobytes()) for t in GGUFReader(file).tensors]
    assert [(t.name, t.kind, t.shape, raw[t.start : t.end]) for t in tensors_of_file(file)] == theirs


def test_a_file_that_was_cut_off_is_refused(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-200])
    with pytest.raises(ModelError, match="cut off in the tensor"):
        tensors_of_file(file)


def test_a_file_that_is_no_gguf_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "not.gguf"
    path.write_text("hello")
    with pytest.raises(ModelError, match="cannot read"):
        tensors_of_file(path)
