"""A small tokenizer trained on the spot, conversations, and what of them gets loss: for the tests of templates and masks."""

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from lorikeet.conversation import Conversation, Source, conversation
from lorikeet.data.template import Tokens, preview

WORDS = ["How do I treat a burn?", "Cool the burn under running water.", "system user assistant USER: ASSISTANT:", "You help. And then? Cover it."] * 5


def tokenizer(template: str, specials: list[str], end: str, pad: str | None = None) -> PreTrainedTokenizerFast:
    """A byte-level BPE of a few hundred tokens, trained here."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bpe.train_from_iterator(WORDS, trainers.BpeTrainer(vocab_size=400, special_tokens=specials, initial_alphabet=alphabet, show_progress=False))
    made = PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token=end, pad_token=pad or end)
    made.chat_template = template
    return made


def talk(*turns: str, system: str = "") -> Conversation:
    roles = [("user", "assistant")[n % 2] for n in range(len(turns))]
    return conversation([*([("system", system)] if system else []), *zip(roles, turns, strict=True)], Source("rows.jsonl", 4))


def learned(tokenizer: PreTrainedTokenizerBase, tokens: Tokens) -> list[str]:
    """The runs of text that get loss."""
    return [text for text, lossy in preview(tokenizer, tokens) if lossy]
