"""Who does the steps of a run: this process, one after another, or others who take several at a time. What is done, and when, the pipeline decides."""

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

from lorikeet import machine, processes
from lorikeet.artifact import Artifact
from lorikeet.progress import Progress
from lorikeet.recipe import LoadedRecipe
from lorikeet.steps import Step
from lorikeet.weights import Base


@dataclass(frozen=True)
class Order:
    """A step to be done in `folder`, of this recipe on this base, from what is made already."""

    step: Step
    recipe: LoadedRecipe
    base: Base
    made: Mapping[str, Artifact]
    folder: Path

    @property
    def name(self) -> str:
        """What tells it from all others under way."""
        return self.folder.name.removesuffix(".part")


class Cost(NamedTuple):
    """What a step took: seconds, and peak resident memory in MB."""

    seconds: float
    peak_rss_mb: float


class Crew(Protocol):
    """Those who do steps."""

    @property
    def room(self) -> int:
        """How many steps may be handed over at the same time."""

    def fitted(self, recipe: LoadedRecipe) -> LoadedRecipe:
        """The recipe with the machine settings of whoever does the steps; nothing of it counts for a result's key."""

    def hand_over(self, order: Order, progress: Progress) -> None:
        """Take a step on."""

    def next(self) -> str:
        """Wait until an order that was handed over is done, or has failed: its name."""

    def result(self, name: str) -> Cost:
        """What the order that `next` told took; raises what it raised."""

    def stop(self) -> None:
        """Leave off whatever is under way."""


class Here:
    """The process itself, and with it those that torchrun started beside it, which it calls to training."""

    room = 1

    def __init__(self) -> None:
        self._orders: dict[str, tuple[Order, Progress]] = {}

    def fitted(self, recipe: LoadedRecipe) -> LoadedRecipe:
        return recipe

    def hand_over(self, order: Order, progress: Progress) -> None:
        self._orders[order.name] = order, progress

    def next(self) -> str:
        return next(iter(self._orders))

    def result(self, name: str) -> Cost:
        order, progress = self._orders.pop(name)
        if order.step.stage == "train":
            base = {**asdict(order.base), "path": str(order.base.path.resolve())}
            processes.call({"base": base, "data": str(order.made["data"].path.resolve()), "folder": str(order.folder.resolve())})
        cost = work(order, progress)
        if order.step.stage == "train":
            processes.call(None)
        return cost

    def stop(self) -> None:
        self._orders.clear()


def work(order: Order, progress: Progress) -> Cost:
    """Do a step in this process."""
    begun = time.monotonic()
    machine.reset_peak_memory()
    order.step.work(order.made, order.folder, progress)
    return Cost(time.monotonic() - begun, machine.peak_memory_mb())
