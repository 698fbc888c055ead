"""A GGUF of a few small tensors, by the gguf package's own writer."""

from pathlib import Path

import numpy as np
from gguf import GGUFWriter


def write_gguf(path: Path, **tensors: np.ndarray) -> Path:
    """Write the tensors under their names, and return the path."""
    writer = GGUFWriter(path, "llama")
    for name, values in tensors.items():
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
