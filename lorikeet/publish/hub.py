"""Files to the Hugging Face Hub, by its own client: who may, where to, up in one commit, and read back. The token is in no message."""

import hashlib
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

from lorikeet.errors import LorikeetError, MachineError, RecipeError, RefusedError
from lorikeet.progress import Progress
from lorikeet.publish.bundle import Item

Kind = Literal["model", "dataset", "space"]
MADE_BY_US: dict[Kind, str] = {"model": "release.json", "dataset": "data/train.jsonl", "space": "app.py"}
"""A file by which a repository is known that was published before; another one with files of its own is left alone."""
PAUSES = (2.0, 5.0, 15.0)
"""Seconds before a request that the Hub could not serve is made again, where it does not say how many."""
LONGEST_PAUSE = 120.0
BUSY = {429, 500, 502, 503, 504}
Answer = TypeVar("Answer")


class Pushed(NamedTuple):
    """Where the repository is, and the commit."""

    url: str
    commit: str


def push(items: list[Item], name: str, kind: Kind, progress: Progress, *, private: bool = False, endpoint: str | None = None) -> Pushed:
    """Make the repository where there is none, bring up what is not there yet, commit all at once, and read back that it is what was sent.

    What was brought up before an interruption is not brought up again; until the commit nobody sees anything. RecipeError for a name that cannot be;
    RefusedError for a token, an owner or a repository that is not ours to write to; MachineError where the Hub does not answer, or has other files.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    door = _Door(name, kind, progress, endpoint)
    door.require_may_write()
    there = door.files_there()
    if there is None:
        door.ask(lambda: door.api.create_repo(name, repo_type=kind, private=private, exist_ok=True, space_sdk="gradio" if kind == "space" else None))
        there = set()
    if there - {".gitattributes", "README.md"} and MADE_BY_US[kind] not in there:
        raise RefusedError(f"{name} holds something else ({', '.join(sorted(there)[:3])}), which would be overwritten", "choose another name with --to")
    adds = [CommitOperationAdd(item.path, item.content if isinstance(item.content, bytes) else str(item.content)) for item in items]
    for number, add in enumerate(adds, 1):
        progress.step(f"{name}: brought up", number, len(adds), add.path_in_repo)
        door.ask(partial(door.api.preupload_lfs_files, name, [add], repo_type=kind, free_memory=False))
    gone = sorted(there - {item.path for item in items} - {".gitattributes"})
    if gone:
        progress.say(f"{name}: taken out, since it is published no more: {', '.join(gone)}")
    operations = [*adds, *(CommitOperationDelete(path) for path in gone)]
    commit = door.ask(lambda: door.api.create_commit(name, operations, commit_message="Published by Lorikeet", repo_type=kind))
    door.require_the_same(items)
    return Pushed(str(commit.repo_url), str(commit.oid))


class _Door:
    """One repository of the Hub, asked with patience, whose errors are told in our words."""

    def __init__(self, name: str, kind: Kind, progress: Progress, endpoint: str | None) -> None:
        """RecipeError for a name that cannot be; LorikeetError where there is no token."""
        from huggingface_hub import HfApi, get_token
        from huggingface_hub.utils import HFValidationError, disable_progress_bars, validate_repo_id

        try:
            validate_repo_id(name)
            owner = name.rpartition("/")[0]
        except HFValidationError:
            owner = ""
        if not owner:
            raise RecipeError(f"{name!r} cannot be the name of a repository of the Hub", "write owner/name, in letters, digits, '-', '_' and '.'")
        if not get_token():
            raise LorikeetError(f"nothing can be published to {name}: there is no token of the Hub", "set HF_TOKEN, or run `hf auth login`")
        disable_progress_bars()
        self.api = HfApi(endpoint=endpoint, token=True)
        self._name, self._kind, self._owner, self._progress = name, kind, owner, progress

    def ask(self, call: Callable[[], Answer]) -> Answer:
        """The answer to a request, made again where the Hub is busy or the line is cut."""
        import httpx2
        from huggingface_hub.errors import HfHubHTTPError

        for pause in (*PAUSES, None):
            try:
                return call()
            except (HfHubHTTPError, httpx2.HTTPError, OSError, RuntimeError, ValueError) as error:
                status, wait = _status(error)
                if pause is None or (status and status not in BUSY) or isinstance(error, ValueError):
                    raise self._explained(error, status) from None
                wait = min(wait or pause, LONGEST_PAUSE)
                self._progress.say(f"  the Hub {f'answers {status}' if status else 'cannot be reached'}; again in {wait:.0f} s")
                time.sleep(wait)
        raise AssertionError("the last try returns or raises")

    def _explained(self, error: Exception, status: int) -> LorikeetError:
        """What happened, without the words of the library, which might hold the token."""
        resume = "run the command again: what was brought up is not brought up twice"
        if status == 401:
            return RefusedError("the Hub does not know the token (401)", "give a valid one: set HF_TOKEN, or run `hf auth login`")
        if status == 403:
            return RefusedError(
                f"the token may not write to {self._name} (403)", f"give one that may write there, or publish to a name of your own, not {self._owner}/..."
            )
        if status in (409, 412):
            return MachineError(f"{self._name} was changed by somebody else meanwhile ({status})", resume)
        if status:
            return MachineError(f"the Hub answered {status} for {self._name}", resume)
        return MachineError(f"the Hub could not be reached, or the line was cut ({type(error).__name__})", resume)

    def require_may_write(self) -> None:
        """RefusedError where the token can only read, or the owner is somebody else."""
        who: dict[str, Any] = self.ask(lambda: self.api.whoami())
        token = who.get("auth", {}).get("accessToken", {})
        if token.get("role") == "read":
            raise RefusedError("the token can only read", "make one that may write in the settings of your account on the Hub")
        own = {str(who.get("name", "")), *(str(org.get("name", "")) for org in who.get("orgs", []))}
        if self._owner not in own:
            raise RefusedError(
                f"{self._owner} is neither you nor an organisation of yours ({', '.join(sorted(own))})", "publish to one of these names: --to OWNER/NAME"
            )

    def files_there(self) -> set[str] | None:
        """The paths that the repository has, or None where there is no repository."""
        from huggingface_hub.errors import RepositoryNotFoundError

        def listed() -> set[str] | None:
            try:
                return set(self.api.list_repo_files(self._name, repo_type=self._kind))
            except RepositoryNotFoundError as error:
                if error.response.status_code == 401:
                    raise
                return None

        return self.ask(listed)

    def require_the_same(self, items: list[Item]) -> None:
        """MachineError where what lies there is not what was sent, by sha256 of large files and git's own of the others."""
        there = {file.path: file for file in self.ask(lambda: list(self.api.list_repo_tree(self._name, repo_type=self._kind, recursive=True)))
                 if hasattr(file, "blob_id")}  # fmt: skip
        for item in items:
            file = there.get(item.path)
            sent = _sha256(item.content) if file and file.lfs else _git_oid(item.read())
            found = (file.lfs.sha256 if file.lfs else file.blob_id) if file else "nothing"
            if sent != found:
                raise MachineError(
                    f"{self._name}: {item.path} is not what was sent: {found[:12]} there, {sent[:12]} here",
                    "run the command again, and look at the Hub's status",
                )


def _status(error: Exception) -> tuple[int, float]:
    """The Hub's answer behind an error, 0 where there is none, and the seconds after which it asks to be asked again."""
    from huggingface_hub.errors import HfHubHTTPError

    found: BaseException | None = error
    while found is not None and not isinstance(found, HfHubHTTPError):
        found = found.__cause__ or found.__context__
    if found is None or found.response is None:
        return 0, 0.0
    after = str(found.response.headers.get("Retry-After", ""))
    return int(found.response.status_code), float(after) if after.isdigit() else 0.0


def _sha256(content: Path | bytes) -> str:
    from lorikeet.artifact import sha256_of

    return sha256_of(content) if isinstance(content, Path) else hashlib.sha256(content).hexdigest()


def _git_oid(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
