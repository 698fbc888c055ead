"""A folder of safetensors, or what was trained from it, by transformers and PEFT: for evaluation before export."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from peft import PeftModel
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig, GenerationConfig, PreTrainedModel
from transformers import logging as transformers_logging

from lorikeet import processes
from lorikeet.engine import Choices, Likelihood, Prompt, Reply, Sampling, before_stop
from lorikeet.engine.weighing import weigh
from lorikeet.weights import is_adapter

transformers_logging.set_verbosity_error()
transformers_logging.disable_progress_bar()


def load_model(folder: Path, dtype: torch.dtype, *, four_bit: bool = False) -> PreTrainedModel:
    """The language model in a folder; of one that also sees and hears (Gemma 3n) the text part alone, which is what is tuned and exported.

    four_bit: linear layers of the blocks as NF4 with doubly quantised scales, reckoned with in `dtype` (QLoRA, Dettmers et al. 2023).
    """
    config = AutoConfig.from_pretrained(folder).get_text_config()
    how: dict[str, object] = {}
    if four_bit:
        how["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype
        )
        how["device_map"] = {"": processes.local_rank() if torch.cuda.is_available() else "cpu"}
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(folder, config=config, dtype=dtype, **how)
    return model


class TorchEngine:
    """A model in memory: the base, or what was trained from it (an adapter, or a whole model). batch: answers written at the same time, padded on the left."""

    def __init__(self, base: Path, trained: Path | None, threads: int, batch: int = 32, dtype: torch.dtype = torch.float32) -> None:
        torch.set_num_threads(threads)
        self.tokenizer = AutoTokenizer.from_pretrained(base, padding_side="left")
        if self.tokenizer.pad_token_id is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        if trained is None or is_adapter(trained):
            self.model = load_model(base, dtype)
            if trained is not None:
                self.model = PeftModel.from_pretrained(self.model, trained).merge_and_unload()
        else:
            self.model = load_model(trained, dtype)
        self.model.eval()
        self._batch = batch
        wanted = self.model.generation_config.eos_token_id
        self.ends = {self.tokenizer.eos_token_id, *(wanted if isinstance(wanted, list) else [wanted])} - {None}

    def close(self) -> None:
        self.model = None

    def replies(self, prompts: Sequence[Prompt], sampling: Sampling) -> Iterator[tuple[int, Reply]]:
        for i, ids, ended in self.written([self.prompt_text(p) for p in prompts], sampling, special=False):
            yield i, Reply(self.tokenizer.decode(ids, skip_special_tokens=True).strip(), len(ids), ended)

    def complete(self, texts: Sequence[str], sampling: Sampling, stops: Sequence[str]) -> Iterator[tuple[int, str]]:
        for i, ids, _ in self.written(texts, sampling, special=True, stops=stops):
            yield i, before_stop(self.tokenizer.decode(ids, skip_special_tokens=True), stops)

    def written(self, texts: Sequence[str], sampling: Sampling, *, special: bool, stops: Sequence[str] = ()) -> Iterator[tuple[int, list[int], bool]]:
        """What the model writes behind each text: (position, token ids without the end, whether it ended by itself)."""
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        strings = {"stop_strings": list(stops), "tokenizer": self.tokenizer} if stops else {}
        for start in range(0, len(order), self._batch):
            chosen = order[start : start + self._batch]
            encoded = self.tokenizer([texts[i] for i in chosen], return_tensors="pt", padding=True, add_special_tokens=special)
            torch.manual_seed(sampling.seed)
            with torch.inference_mode():
                written = self.model.generate(**encoded, generation_config=self._config(sampling), **strings)
            for i, row in zip(chosen, written[:, encoded["input_ids"].shape[1] :].tolist(), strict=True):
                end = next((at for at, token in enumerate(row) if token in self.ends), None)
                yield i, row if end is None else row[:end], end is not None

    def stream(self, prompt: Prompt, sampling: Sampling) -> Iterator[str]:
        for _, reply in self.replies([prompt], sampling):
            yield reply.text

    @property
    def prefix_token(self) -> int:
        bos = self.tokenizer.bos_token_id
        return int(self.tokenizer.eos_token_id if bos is None else bos)

    def encode(self, text: str, *, special: bool = True) -> list[int]:
        written = special and self.tokenizer.bos_token and text.startswith(self.tokenizer.bos_token)
        return list(self.tokenizer.encode(text, add_special_tokens=special and not written))

    def likelihoods(self, questions: Sequence[Choices]) -> Iterator[tuple[int, list[Likelihood]]]:
        return weigh(self.model, questions)

    def losses(self, rows: Sequence[tuple[list[int], list[bool]]]) -> list[tuple[float, int, int]]:
        """Of each row (ids, mask): summed loss in nats, supervised tokens, and how many of these are the likeliest where they stand."""
        found = []
        with torch.inference_mode():
            for ids, supervised in rows:
                wanted = torch.tensor(supervised[1:]).nonzero()[:, 0]
                logits = self.model(input_ids=torch.tensor([ids[:-1]]), logits_to_keep=wanted).logits[0].float()
                right = torch.tensor(ids[1:])[wanted]
                loss = torch.nn.functional.cross_entropy(logits, right, reduction="sum")
                found.append((float(loss), len(wanted), int((logits.argmax(-1) == right).sum())))
        return found

    def logits(self, ids: Sequence[int]) -> torch.Tensor:
        """Next-token logits after every token of one sequence: shape (len(ids), vocabulary), float32."""
        with torch.inference_mode():
            return self.model(input_ids=torch.tensor([list(ids)])).logits[0].float()

    def prompt_text(self, prompt: Prompt, *, add_generation_prompt: bool = True) -> str:
        """The prompt as the trainer's chat template writes it."""
        return str(self.tokenizer.apply_chat_template([m.as_dict() for m in prompt], tokenize=False, add_generation_prompt=add_generation_prompt))

    def _config(self, sampling: Sampling) -> GenerationConfig:
        sampled = {"do_sample": True, "temperature": sampling.temperature, "top_p": sampling.top_p} if sampling.temperature > 0 else {"do_sample": False}
        return GenerationConfig(
            max_new_tokens=sampling.max_tokens,
            eos_token_id=sorted(self.ends),
            pad_token_id=self.tokenizer.pad_token_id,
            bos_token_id=self.tokenizer.bos_token_id,
            **sampled,
        )
