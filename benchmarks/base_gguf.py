"""The default base as GGUF files, made as an export makes them, for the benchmarks of what reads them."""

from collections.abc import Sequence
from pathlib import Path


def base_files(folder: Path, quantisations: Sequence[str]) -> list[Path]:
    """A file of each quantisation in `folder`, in their order."""
    from lorikeet import bases
    from lorikeet.export.merge import Order, convert
    from lorikeet.export.quantize import quantize
    from lorikeet.progress import Silent

    none = folder / "nothing-trained"
    none.mkdir()
    (none / "adapter_config.json").write_text("{}")
    whole = folder / "base-F16.gguf"
    convert(Order(str(bases.prepare("smollm2-135m", Silent()).path), str(none), str(whole), "F16", "base"), folder)
    files = [folder / f"base-{quantisation}.gguf" for quantisation in quantisations]
    for path, quantisation in zip(files, quantisations, strict=True):
        quantize(whole, path, quantisation, 2)
    return files
