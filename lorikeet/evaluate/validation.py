"""The loss of a training on the rows held out for validation, group by group: what a sweep holds its arms against each other by.

Writes losses.json: `nats` and `tokens`, both of shape (groups,), in the order of the groups' names.
"""

from pathlib import Path

import pyarrow.parquet

from lorikeet import machine, statistics
from lorikeet.artifact import Artifact, write_json
from lorikeet.engine.torch_engine import TorchEngine
from lorikeet.errors import DataError
from lorikeet.exam import read_rows
from lorikeet.recipe import MachineSettings
from lorikeet.weights import Base

LOSSES = "losses.json"


def run(data: Artifact, base: Base, trained: Artifact, here: MachineSettings, folder: Path) -> None:
    """Do the step in `folder`. DataError where no row is held out for validation."""
    table = pyarrow.parquet.read_table(data.file("tokens.parquet")).to_pylist()
    rows = [(row, kept) for row, kept in zip(table, read_rows(data), strict=True) if row["split"] == "validation"]
    if not rows:
        raise DataError("no row is held out for validation, and arms are compared by such rows", "add rows, or raise data.test_share")
    engine = TorchEngine(base.path, trained.path, machine.threads(here.threads))
    found = engine.losses([(row["ids"], row["supervised"]) for row, _ in rows])
    engine.close()
    nats, tokens = statistics.clustered([(kept.group, (loss, float(n))) for (_, kept), (loss, n, _) in zip(rows, found, strict=True)])
    write_json(folder / LOSSES, {"nats": nats, "tokens": tokens})
