"""One run by several processes, as torchrun starts them: which one this is, how the first one calls the others, and whose error is told.

The first process walks the road; the others wait until it calls them to train with it. They wait in the store that torchrun keeps, not in a
collective, which would give up before a long step ends. With one process everything here does nothing, and loads nothing.
"""

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from itertools import count
from typing import TYPE_CHECKING, Any, TypeVar

from lorikeet.errors import LorikeetError

if TYPE_CHECKING:
    from torch.distributed import Store

Value = TypeVar("Value")
CALL, FAILED, TOLD = "call", "failed", "told"
"""Keys of the store: what the first process calls for (numbered), that it failed, and that another process told its own error."""
LOOK = 0.2
"""Seconds between two looks into the store."""
PATIENCE = 10.0
"""Seconds in which the first process tells an error that all have met: before that it writes the run down."""


def rank() -> int:
    """The number of this process: 0 is the first one, which alone writes, prints and holds the run folder."""
    return int(os.environ.get("RANK", 0))


def world() -> int:
    """How many processes there are."""
    return int(os.environ.get("WORLD_SIZE", 1))


def local_rank() -> int:
    """The number of this process on its machine, which is that of its GPU."""
    return int(os.environ.get("LOCAL_RANK", 0))


def local_world() -> int:
    """How many of them are on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", 1))


@cache
def _store() -> "Store":
    from torch.distributed import PrefixStore
    from torch.distributed.rendezvous import rendezvous

    store, _, _ = next(rendezvous("env://"))
    return PrefixStore("lorikeet", store)


_number = count()


def call(what: Mapping[str, Any] | None) -> None:
    """The first process: have the others do `what` with it, or let them go with None."""
    if world() > 1 and rank() == 0:
        _store().set(f"{CALL}/{next(_number)}", json.dumps(what))


@contextmanager
def leading() -> Iterator[None]:
    """The first process: the others are let go at the end, however it comes."""
    try:
        yield
    finally:
        call(None)


def calls() -> Iterator[dict[str, Any]]:
    """The other processes: what the first one calls for, until it lets them go."""
    from torch.distributed import DistError

    for number in count():
        try:
            while not _store().check([f"{CALL}/{number}"]):
                time.sleep(LOOK)
            what = json.loads(_store().get(f"{CALL}/{number}"))
        except DistError:  # the launcher is gone, and its store with it
            raise SystemExit(1) from None
        if what is None:
            return
        yield what


def agree(value: Value) -> Value:
    """The first process's value, in all of them. Behind the trainer's making, which joins them; not for waiting long."""
    if world() == 1:
        return value
    from accelerate.utils import broadcast_object_list

    shared: Value = broadcast_object_list([value])[0]
    return shared


@contextmanager
def one_voice() -> Iterator[None]:
    """Let one process tell an error that several meet: the first one, unless the error began elsewhere. The others end without a word."""
    try:
        yield
    except (Exception, KeyboardInterrupt) as error:
        if world() == 1:
            raise
        if rank() == 0:
            if not isinstance(error, LorikeetError) and _store().check([TOLD]):
                raise SystemExit(1) from None
            _store().set(FAILED, "")
        elif _first_one_failed():
            raise SystemExit(1) from None
        else:
            _store().set(TOLD, "")
        raise


def _first_one_failed() -> bool:
    until = time.monotonic() + PATIENCE
    while not _store().check([FAILED]):
        if time.monotonic() > until:
            return False
        time.sleep(LOOK)
    time.sleep(1)  # it says so now; torchrun ends all processes as soon as one has ended
    return True
