"""Trackers that follow the training: transformers' own callbacks, told to keep what they write in the run folder's notes."""

import os
from collections.abc import Sequence
from pathlib import Path

from transformers import TrainerCallback
from transformers.integrations import get_reporting_integration_callbacks

from lorikeet import processes
from lorikeet.recipe import Tracker

FOLDER: dict[Tracker, str] = {"tensorboard": "TENSORBOARD_LOGGING_DIR", "trackio": "TRACKIO_DIR", "wandb": "WANDB_DIR"}
"""The environment variable by which each learns its folder."""


def callbacks(trackers: Sequence[Tracker], notes: Path) -> list[TrainerCallback]:
    """A callback for each tracker; what it writes lies in a folder of its name in the notes. Of several processes the first one alone reports."""
    if processes.rank():
        return []
    for tracker in trackers:
        (notes / tracker).mkdir(parents=True, exist_ok=True)
        os.environ[FOLDER[tracker]] = str(notes / tracker)
    return [kind() for kind in get_reporting_integration_callbacks(list(trackers))]
