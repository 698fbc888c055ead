"""Ratings for tests: one of a first-aid reply, with whatever is to be otherwise."""

import uuid
from dataclasses import replace
from typing import Any

from lorikeet.conversation import Rating

REPLY = "Cool it under running water."
ONE = Rating(
    id="", timestamp="2026-11-30T10:00:00+00:00", model_name="first-aid-Q4_K_M", model_sha256="a" * 64, adapter_sha256="b" * 64, persona="First aid", mode="",
    app_version="0.1.0", system="You help.", liked=True, liked_index=(0, 1), liked_value=REPLY, comment="", chat_history=(("I burned my hand", REPLY),),
    correction="", rater="", controls={"temperature": 0.0, "top_p": 1.0, "max_tokens": 512.0},
)  # fmt: skip


def rating(**changes: Any) -> Rating:
    """A rating with an id of its own unless one is given."""
    return replace(ONE, **{"id": uuid.uuid4().hex, **changes})
