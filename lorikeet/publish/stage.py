"""What `lorikeet publish` does: gather, reckon the licence, make card and files, search them, and list, write or bring them up."""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from lorikeet.artifact import Json
from lorikeet.errors import RecipeError
from lorikeet.progress import Progress
from lorikeet.publish import bundle, card, hub, licence, space
from lorikeet.publish.bundle import Item
from lorikeet.publish.evidence import Shown, gathered
from lorikeet.publish.hub import Kind
from lorikeet.publish.licence import Licence

UNKNOWN_YET = "0" * 40
"""What stands for the commit that a Space serves until it is made: as long, so that the bytes that are listed are those that go up."""
HERE = "OWNER/NAME"
"""What stands for the repository's name in a folder that is brought nowhere."""


class Wanted(NamedTuple):
    """What is to be published: names of repositories, one quantisation (empty: all that are approved), licences where the run does not say them."""

    model: str = ""
    quantisation: str = ""
    data: str = ""
    space: str = ""
    feedback: str = ""
    data_licence: str = ""
    base_licence: str = ""
    about: Path | None = None
    merged: bool = False

    def licences(self, shown: Shown) -> tuple[str, str]:
        """The base's and the rows', as far as they are known."""
        return self.base_licence or str(shown.run["base"].get("licence", "")), self.data_licence or str(shown.run.get("data_licence", ""))


@dataclass(frozen=True)
class Repository:
    """One repository with its files."""

    name: str
    kind: Kind
    items: list[Item]


@dataclass(frozen=True)
class Planned:
    """All that would go up, and what a Space is made of once the model's commit is known."""

    shown: Shown
    wanted: Wanted
    licence: Licence
    repositories: list[Repository]

    def told(self) -> str:
        """Every file and byte, by repository, and the licence."""
        parts = [f"{r.name} ({r.kind})\n{bundle.told(r.items)}" for r in self.repositories]
        return "\n\n".join([*parts, f"licence: {self.licence.name}. {' '.join(self.licence.why)}"])

    def document(self) -> dict[str, Json]:
        """The same as JSON."""
        repositories: list[Json] = [
            {"name": r.name, "kind": r.kind, "files": [{"path": item.path, "bytes": item.size} for item in r.items]} for r in self.repositories
        ]
        return {"repositories": repositories, "licence": self.licence.name}


def plan(run: Path, wanted: Wanted) -> Planned:
    """Everything that would go up; nobody is asked. RefusedError for what is not approved, may not be published, or is private."""
    if wanted.space and not wanted.model:
        raise RecipeError("--space serves a repository, and none is named", "name it too: --to OWNER/NAME")
    shown = gathered(run)
    base, data = wanted.licences(shown)
    follows = licence.follows(base, data)
    name = wanted.model or HERE
    repositories = [Repository(name, "model", bundle.model(shown, follows, name, card.words(wanted.about), wanted.quantisation, merged=wanted.merged))]
    if wanted.data:
        licence.may_give_rows(data)
        repositories.append(Repository(wanted.data, "dataset", bundle.rows(shown, data)))
    if wanted.space:
        repositories.append(Repository(wanted.space, "space", space.items(shown, follows, name, UNKNOWN_YET, wanted.feedback)))
    for repository in repositories:
        bundle.require_clean([item for item in repository.items if not item.path.startswith("lorikeet/")])
    return Planned(shown, wanted, follows, repositories)


def write(planned: Planned, folder: Path) -> None:
    """The model's repository as a folder here; with a Space, that beside it in FOLDER-space. RecipeError where it is there already."""
    for repository in planned.repositories:
        if repository.kind == "model":
            bundle.write(repository.items, folder)
        elif repository.kind == "space":
            bundle.write(_space(planned, "main"), folder.with_name(f"{folder.name}-space"))


def _space(planned: Planned, revision: str) -> list[Item]:
    return space.items(planned.shown, planned.licence, planned.wanted.model, revision, planned.wanted.feedback)


def push(planned: Planned, progress: Progress, *, private: bool, endpoint: str | None = None) -> dict[str, str]:
    """Bring everything up; returns the addresses by name. A Space serves the commit that was made here, and no other."""
    if not planned.wanted.model:
        raise RecipeError(
            "it is not said where to publish", "name the repository: --to OWNER/NAME; or a folder: --folder DIR; or list what would go up: --dry-run"
        )
    urls: dict[str, str] = {}
    commit = "main"
    for repository in planned.repositories:
        items = _space(planned, commit) if repository.kind == "space" else repository.items
        pushed = hub.push(items, repository.name, repository.kind, progress, private=private, endpoint=endpoint)
        urls[repository.name] = pushed.url
        commit = pushed.commit if repository.kind == "model" else commit
    return urls


def check(run: Path, wanted: Wanted, path: Path) -> list[str]:
    """What is wrong with a card that stands for the run: figures that no evidence stands behind."""
    shown = gathered(run)
    return card.check(
        card.words(path), bundle.only(shown, wanted.quantisation), licence.follows(*wanted.licences(shown)), bundle.usage(shown, wanted.model or HERE)
    )
