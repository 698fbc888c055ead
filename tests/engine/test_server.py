"""The native server: every transition between base and adapters, with cache and side by side, is answered by what was asked; copied answers are drafted."""

import itertools
import threading
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from lorikeet.bases import wheel_file
from lorikeet.conversation import Message
from lorikeet.engine import Prompt, Sampling
from lorikeet.engine.fleet import Fleet, Voice
from lorikeet.engine.server import LlamaServer
from lorikeet.weights import NAMED

pytestmark = pytest.mark.slow
SYSTEM = Message("system", "You are a first-aid assistant.")
TEXT = "Please send the report on Monday to the office in Hull, with the invoices of the last three months and the list of all customers who have not paid."


@pytest.fixture(scope="module")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two adapters for the default base, with random weights that change every answer."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    from lorikeet import bases
    from lorikeet.export.adapter import write_adapter
    from lorikeet.progress import Silent

    base = bases.prepare("smollm2-135m", Silent()).path
    folder = tmp_path_factory.mktemp("adapters")
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), LoraConfig(r=4, lora_alpha=8, target_modules=["v_proj"], task_type="CAUSAL_LM"))
    for seed in (1, 2):
        torch.manual_seed(seed)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "lora_" in name:
                    parameter.normal_(0, 0.1)
        model.save_pretrained(folder / str(seed))
        write_adapter(base, folder / str(seed), folder / f"{seed}.gguf", folder)
    return [folder / "1.gguf", folder / "2.gguf"]


@pytest.fixture(scope="module")
def base() -> Path:
    path = wheel_file(NAMED["smollm2-135m"])
    assert path is not None
    return path


@pytest.fixture(scope="module")
def voices(base: Path, adapters: list[Path]) -> Iterator[list[Voice]]:
    """The base alone, and with each adapter, on one server."""
    fleet = Fleet(threads=2, slots=3, context=512)
    made = [fleet.add(base), *(fleet.add(base, adapter) for adapter in adapters)]
    yield made
    fleet.close()


def said(voice: Any, prompt: Prompt, tokens: int = 6) -> str:
    pieces = (choice["delta"].get("content") or "" for chunk in voice.chunks(prompt, Sampling(max_tokens=tokens)) for choice in chunk["choices"])
    return "".join(pieces)


def asked(question: str) -> Prompt:
    return [SYSTEM, Message("user", question)]


QUESTIONS = ("My nose is bleeding.", "My nose is bleeding and will not stop.", "I burned my hand.")


@pytest.fixture(scope="module")
def alone(base: Path, adapters: list[Path]) -> dict[tuple[int, str], str]:
    """What each says on a server of its own that has answered nothing yet."""
    found = {}
    for number in range(3):
        for question in QUESTIONS:
            server = LlamaServer(base, 2, slots=1, context=512, adapters=adapters)
            found[number, question] = "".join(
                choice["delta"].get("content") or ""
                for chunk in server.chunks(asked(question), Sampling(max_tokens=6), adapter=number - 1)
                for choice in chunk["choices"]
            )
            server.close()
    assert len({found[number, QUESTIONS[0]] for number in range(3)}) == 3
    return found


def test_every_transition_is_answered_by_the_one_that_was_asked(voices: list[Voice], alone: dict[tuple[int, str], str]) -> None:
    for first, then in itertools.product(itertools.product(range(3), QUESTIONS), repeat=2):
        said(voices[first[0]], asked(first[1]))
        assert said(voices[then[0]], asked(then[1])) == alone[then], (first, then)


def test_and_so_is_every_one_of_many_at_a_time(voices: list[Voice], alone: dict[tuple[int, str], str]) -> None:
    wrong: list[object] = []

    def ask(seed: int) -> None:
        random = Random(seed)
        for _ in range(12):
            number, question = random.randrange(3), random.choice(QUESTIONS)
            if (answer := said(voices[number], asked(question))) != alone[number, question]:
                wrong.append((number, question, answer))

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_speculation_says_the_same_and_drafts_what_is_copied(base: Path) -> None:
    prompt = [Message("user", f"Repeat this text exactly:\n{TEXT}")]
    found = []
    for speculate in (False, True):
        server = LlamaServer(base, 2, slots=1, context=512, speculate=speculate)
        chunks = list(server.chunks(prompt, Sampling(max_tokens=60)))
        text = "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"])
        found.append((text, next(chunk["timings"] for chunk in chunks if "timings" in chunk)))
        server.close()
    assert found[0][0] == found[1][0]
    assert "draft_n_accepted" not in found[0][1]
    assert found[1][1]["draft_n_accepted"] > 10


def test_an_answer_keeps_to_a_schema(voices: list[Voice]) -> None:
    import json

    schema = {"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"], "additionalProperties": False}
    pieces = voices[0].chunks(asked("How old are you?"), Sampling(max_tokens=40), schema)
    text = "".join(choice["delta"].get("content") or "" for chunk in pieces for choice in chunk["choices"])
    assert list(json.loads(text)) == ["age"]


def test_an_adapter_that_there_is_not_is_refused(base: Path) -> None:
    from lorikeet.errors import ModelError

    server = LlamaServer(base, 1, slots=1, context=256)
    with pytest.raises(ModelError, match="no adapter 0"):
        next(server.chunks(asked("hello"), Sampling(max_tokens=1), adapter=0))
    server.close()


def test_where_too_many_files_are_loaded_the_one_longest_idle_goes(base: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.gguf"
    other.symlink_to(base)
    fleet = Fleet(threads=1, slots=1, context=256, loaded=1)
    voices = [fleet.add(base), fleet.add(other)]
    for voice in (*voices, *voices):
        voice.warm(asked("hello"))
        assert len(fleet.counts()) == 1
    fleet.close()
    assert fleet.counts() == {}
