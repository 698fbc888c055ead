"""A step as it goes over the wire, and what a node makes of it."""

from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from lorikeet import __version__, artifact, bases
from lorikeet.crew import Order
from lorikeet.errors import MachineError
from lorikeet.progress import Progress
from lorikeet.recipe import LoadedRecipe
from lorikeet.steps import step_of
from lorikeet.weights import Base

Found = TypeVar("Found")


@dataclass(frozen=True)
class Sent:
    """An order by names and places: the step's name, where the things lie that are made already, and the version that wrote it."""

    version: str
    recipe: LoadedRecipe
    base: Base
    step: str
    made: dict[str, Path]
    folder: Path

    @classmethod
    def of(cls, order: Order) -> "Sent":
        """An order made ready to be sent."""
        made = {name: made.path.resolve() for name, made in order.made.items()}
        return cls(__version__, order.recipe, order.base, order.step.name, made, order.folder.resolve())

    def order(self, progress: Progress) -> Order:
        """The order on the node that does it. MachineError where the node has another version or base, or does not see the run folder."""
        if self.version != __version__:
            raise MachineError(f"a node has lorikeet {__version__}, and the run was begun with {self.version}", "install the same version on every node")
        base = self.base if self.base.path.is_dir() else bases.prepare(self.base.source, progress)
        if base.fingerprint != self.base.fingerprint:
            raise MachineError(f"a node has another {self.base.name} than the run was begun with", f"make {self.base.source} the same on every node")
        return Order(step_of(self.step, self.recipe, base), self.recipe, base, {name: _seen(artifact.load(path), path) for name, path in self.made.items()},
                     _seen(self.folder if self.folder.is_dir() else None, self.folder))  # fmt: skip


def _seen(found: Found | None, path: Path) -> Found:
    """What lies at a path of the run folder; MachineError where nothing does."""
    if found is None:
        raise MachineError(f"a node does not see {path}", "keep the run folder on a disk that all nodes see: --out")
    return found
