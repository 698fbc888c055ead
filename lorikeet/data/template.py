"""Conversations into tokens by the model's own chat template, with the mask that says which tokens get loss.

Supervised are exactly the assistant's words and the token that ends the turn. The mask goes by position in the text,
never by token id, so that a pad token equal to the end token costs the stop token nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from lorikeet.conversation import Conversation, Message
from lorikeet.errors import DataError


@dataclass(frozen=True)
class Tokens:
    """Token ids of a row and, for each, whether it gets loss. Both have the same length."""

    ids: list[int]
    supervised: list[bool]


def _text(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], *, prompt: bool) -> str:
    return str(tokenizer.apply_chat_template([m.as_dict() for m in messages], tokenize=False, add_generation_prompt=prompt))


def render(tokenizer: PreTrainedTokenizerBase, row: Conversation) -> Tokens:
    """Tokens and mask of one conversation.

    Raises DataError where the template does not write turns one behind the other, or where the token that ends an
    answer would get no loss: a model trained so would never stop.
    """
    whole = _text(tokenizer, row.messages, prompt=False)
    spans = []
    for number, message in enumerate(row.messages):
        if message.role != "assistant":
            continue
        before = _text(tokenizer, row.messages[:number], prompt=True)
        turn_end = len(_text(tokenizer, row.messages[: number + 1], prompt=False))
        if not whole.startswith(before):
            raise DataError(f"{row.source}: the chat template rewrites earlier turns, so no mask can be made", "use single-turn rows with this model")
        spans.append((len(before), turn_end, number))
    encoded = tokenizer(whole, add_special_tokens=False, return_offsets_mapping=True)
    ids, offsets = list(encoded["input_ids"]), encoded["offset_mapping"]
    supervised = [False] * len(ids)
    special = set(tokenizer.all_special_ids)
    for start, end, number in spans:
        stopped = False
        for at, (first, last) in enumerate(offsets):
            if first >= start and last <= end and not stopped:
                supervised[at] = True
                stopped = ids[at] in special
        if not stopped:
            raise DataError(f"{row.source}: turn {number + 1} ends without a stop token under this chat template, so the model would never learn to stop",
                            "use a model whose chat template ends the assistant's turn with a special token")  # fmt: skip
    return Tokens(ids, supervised)


def preview(tokenizer: PreTrainedTokenizerBase, tokens: Tokens) -> list[tuple[str, bool]]:
    """Runs of text with and without loss, in order: what training will see of a row."""
    runs: list[tuple[list[int], bool]] = []
    for token, lossy in zip(tokens.ids, tokens.supervised, strict=True):
        if not runs or runs[-1][1] != lossy:
            runs.append(([], lossy))
        runs[-1][0].append(token)
    return [(str(tokenizer.decode(ids)), lossy) for ids, lossy in runs]
