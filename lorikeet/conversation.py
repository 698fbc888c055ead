"""What a row of data is once it has been read: messages in a checked order, with the place it came from; and what a judgement of a reply is."""

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypedDict, cast, get_args

from lorikeet.errors import DataError

Role = Literal["system", "user", "assistant"]
ROLES: tuple[str, ...] = get_args(Role)


class ChatMessage(TypedDict):
    """The wire form of a message, as chat templates and OpenAI-compatible APIs take it."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Message:
    """One turn, its text in Unicode's composed form (NFC): some models' tokenizers compose what they read and llama.cpp composes nothing, so that
    only composed text is the same to both.
    """

    role: Role
    content: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "content", unicodedata.normalize("NFC", self.content))

    def as_dict(self) -> ChatMessage:
        return {"role": self.role, "content": self.content}


def system_turn(prompt: str) -> tuple[Message, ...]:
    """The turn that opens a conversation, or none where the prompt is empty."""
    return (Message("system", prompt),) if prompt else ()


@dataclass(frozen=True, slots=True)
class Source:
    """Where a row stands: file name and line (1 is the first), or its number where rows are not lines."""

    file: str
    line: int
    counted: Literal["line", "row"] = "line"

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.counted == "line" else f"{self.file}, row {self.line}"


@dataclass(frozen=True, slots=True)
class Conversation:
    """Messages that start with an optional system turn, alternate user and assistant, and end on the assistant.

    topic and category are the row's own words, empty where it has none; mode is the persona's mode that it teaches. rejected is another
    answer that was found worse, and liked whether this one was liked, where the row says so. Build one with `conversation`.
    """

    messages: tuple[Message, ...]
    source: Source
    topic: str = ""
    category: str = ""
    mode: str = ""
    rejected: str = ""
    liked: bool | None = None

    @property
    def question(self) -> str:
        """The last user turn."""
        return self.messages[-2].content

    @property
    def answer(self) -> str:
        """The last assistant turn."""
        return self.messages[-1].content

    def with_system(self, prompt: str) -> "Conversation":
        """The same conversation with `prompt` as system turn, unless it brings its own or the prompt is empty."""
        if not prompt or self.messages[0].role == "system":
            return self
        return replace(self, messages=(*system_turn(prompt), *self.messages))


def conversation(turns: Sequence[tuple[str, str]], source: Source, topic: str = "", category: str = "", mode: str = "") -> Conversation:
    """Check roles and their order and build a Conversation.

    Raises DataError with file and line: unknown role, empty turn, wrong order, or no assistant turn at the end.
    """
    cure = "a conversation is: optional system, then user and assistant in turn, ending on the assistant"
    messages = []
    for number, (role, content) in enumerate(turns, 1):
        if role not in ROLES:
            raise DataError(f"{source}: turn {number} has the unknown role {role!r}", cure)
        if not content.strip():
            raise DataError(f"{source}: turn {number} ({role}) is empty", "fill it in or remove the row")
        messages.append(Message(cast(Role, role), content.strip()))
    body = messages[1:] if messages and messages[0].role == "system" else messages
    expected = ["user", "assistant"] * (len(body) // 2 + 1)
    for number, (message, role) in enumerate(zip(body, expected, strict=False), 1 + len(messages) - len(body)):
        if message.role != role:
            raise DataError(f"{source}: turn {number} is {message.role!r} where {role!r} has to stand", cure)
    if not body or body[-1].role != "assistant":
        raise DataError(f"{source}: the row has no answer: it does not end on the assistant", cure)
    return Conversation(tuple(messages), source, topic, category, mode)


@dataclass(frozen=True, slots=True)
class Rating:
    """One judgement of one reply, self-contained: what was said, which bytes answered, and what somebody thought of it.

    id: a uuid4 in hex; a judgement that is changed later keeps it. timestamp: ISO 8601 with the offset from UTC. persona: the assistant's name; mode and
    system: the mode and the system turn in which it answered. liked_index: the exchange, counted from 0, and 1 for its reply. chat_history: pairs of
    question and reply up to and including the one that is judged, whose text is liked_value. correction: what it should have said. rater: a random name
    of the browser session. controls: temperature, top_p and max_tokens. A text that there is not is empty: adapter_sha256 where there is no adapter.
    """

    id: str
    timestamp: str
    model_name: str
    model_sha256: str
    adapter_sha256: str
    persona: str
    mode: str
    app_version: str
    system: str
    liked: bool
    liked_index: tuple[int, int]
    liked_value: str
    comment: str
    chat_history: tuple[tuple[str, str], ...]
    correction: str
    rater: str
    controls: Mapping[str, float]

    @property
    def by(self) -> str:
        """Who rated; one without a name stands alone."""
        return self.rater or self.id
