"""Ratings pushed to a private data set of the Hub, by huggingface_hub's CommitScheduler. Only where somebody asked for it: nothing else calls this.

Serving never waits for the Hub and never fails with it: all of it happens in a thread that the process's end does not wait for.
"""

import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from lorikeet.errors import LorikeetError, MachineError, RecipeError, RefusedError
from lorikeet.journal import RATINGS
from lorikeet.progress import Progress

FIRST_PAUSE = 5.0
"""Seconds until a Hub that could not be reached at the start is tried again; doubled each time, up to the turn of pushes."""
REFUSED_PAUSE = 3600.0
"""Seconds until a Hub that refuses is asked again: only a person can change its mind."""
ANSWER_TIME = 30.0
"""Seconds that the Hub may be silent: its client, which the whole process shares, would wait for ever."""
LAST_PUSH = 20.0
"""Seconds that the end waits for the last push."""


class Sync:
    """Pushes the folders' ratings to `data/` of the data set `repo_id` while it is entered, and what is left when it is left.

    What is not pushed stays where it is and goes up later, by the next one if need be. Troubles are told once, and so is their end.
    """

    def __init__(self, folders: Sequence[Path], repo_id: str, every_minutes: float = 5.0, *, progress: Progress, endpoint: str | None = None) -> None:
        """endpoint: another Hub than that of HF_ENDPOINT. RecipeError for a name or a time that cannot be; LorikeetError where there is no token."""
        from huggingface_hub import get_token
        from huggingface_hub.utils import HFValidationError, validate_repo_id

        try:
            validate_repo_id(repo_id)
        except HFValidationError:
            owner = ""
        else:
            owner = repo_id.rpartition("/")[0]
        if not owner:
            raise RecipeError(f"{repo_id!r} cannot be the name of a data set of the Hub", "write owner/name, in letters, digits, '-', '_' and '.'")
        if not 0 < every_minutes < float("inf"):
            raise RecipeError(f"ratings cannot be pushed every {every_minutes} minutes", "name a number above 0")
        if not get_token():
            raise LorikeetError(f"ratings cannot be pushed to {repo_id}: there is no token of the Hub", "set HF_TOKEN, or run `hf auth login`")
        self._folders, self._repo_id, self._endpoint, self._progress = list(folders), repo_id, endpoint, progress
        self._turn, self._pause = 60 * every_minutes, FIRST_PAUSE
        self._pushes: list[Callable[[], None]] = []
        self._told = ""  # the cure of the trouble that was told
        self._left = threading.Event()
        self._thread = threading.Thread(target=self._run, name="feedback-sync", daemon=True)

    def __enter__(self) -> "Sync":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._left.set()
        self._thread.join(LAST_PUSH)
        if self._thread.is_alive():
            self._progress.say(f"the last ratings were not pushed to {self._repo_id} within {LAST_PUSH:.0f} seconds; they are kept in {self._kept}")

    @property
    def _kept(self) -> str:
        return " and ".join(str(folder) for folder in self._folders)

    def _run(self) -> None:
        last = False
        while not last:
            last = self._left.is_set()
            self._left.wait(self._try())

    def _try(self) -> float:
        """Push what there is; returns the seconds to wait until the next time."""
        import httpx2
        from huggingface_hub import get_session

        try:
            get_session().timeout = ANSWER_TIME
            for folder in self._folders[len(self._pushes) :]:
                self._pushes.append(_pushing(folder, self._repo_id, self._turn / 60, self._endpoint))
            for push in self._pushes:
                push()
        except (LorikeetError, httpx2.HTTPError, OSError, ValueError, KeyError, RuntimeError) as error:  # RuntimeError: a client that another thread closed
            return self._trouble(error)
        if self._told:
            self._progress.say(f"ratings are pushed to {self._repo_id} now")
            self._told = ""
        return self._turn

    def _trouble(self, error: Exception) -> float:
        found = self._explained(error)
        if found.cure != self._told:
            self._progress.say(f"ratings are not pushed to {self._repo_id}: {found.message}; they are kept in {self._kept}; {found.cure}")
            self._told = found.cure
        if isinstance(found, RefusedError):
            return max(REFUSED_PAUSE, self._turn)
        if self._pushes:
            return self._turn
        pause, self._pause = self._pause, 2 * self._pause
        return min(pause, self._turn)

    def _explained(self, error: Exception) -> LorikeetError:
        """What happened, without the words of the library, which might hold the token."""
        from huggingface_hub.errors import HfHubHTTPError

        if isinstance(error, LorikeetError):
            return error
        status = error.response.status_code if isinstance(error, HfHubHTTPError) else 0
        if status in (401, 403):
            return RefusedError(f"the Hub refuses the token ({status})", f"give one that may write to {self._repo_id}: set HF_TOKEN, or run `hf auth login`")
        why = f"the Hub answered {status}" if status else f"no answer of the Hub could be used ({type(error).__name__})"
        return MachineError(why, "it is tried again by itself")


def _pushing(folder: Path, repo_id: str, every_minutes: float, endpoint: str | None) -> Callable[[], None]:
    """Make the data set where there is none, and return what pushes all that has changed since it last did. RefusedError for a public one.

    CommitScheduler pushes by itself from a pool of threads that the process's end waits for, and once more when Python ends, however long the Hub is silent.
    What it calls then does nothing here; the push is ours to call.
    """
    from huggingface_hub import CommitScheduler, HfApi

    class OnCall(CommitScheduler):  # type: ignore[misc]  # huggingface_hub is not followed
        """Knows what has changed, and pushes when `push` is called."""

        def push_to_hub(self) -> None:
            return None

        def push(self) -> None:
            super().push_to_hub()

    api = HfApi(endpoint=endpoint, token=True)
    scheduler = OnCall(repo_id=repo_id, folder_path=folder, every=every_minutes, path_in_repo="data", repo_type="dataset", private=True,
                       allow_patterns=RATINGS, hf_api=api)  # fmt: skip
    scheduler.stop()
    if not api.dataset_info(repo_id).private:
        raise RefusedError("the data set is public, and what users wrote is not", "make it private in its settings on the Hub, or name another")
    return scheduler.push
