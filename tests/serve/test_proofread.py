"""Proofreading: sentence by sentence, what needs no change unchanged to the byte, and no answer taken for a correction that is none."""

from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from lorikeet.engine import Prompt, Sampling
from lorikeet.released import Served
from lorikeet.serve.offer import Offer
from lorikeet.serve.proofread import differences, rewritten, sentences, tones
from lorikeet.serve.tone import Measurer

DRAFT = "Hi Tom,\n\nI has send you the report  yesterday. Did you got it? We need it by 5 p.m. on Friday.\n\nThanks\nAnn\n"
CORRECTED = {"I has send you the report  yesterday.": "I sent you the report yesterday.", "Did you got it?": "Did you get it?"}


class Corrector:
    """Corrects what it knows, and says everything else again."""

    slots, context = 1, 1000

    def __init__(self, ended: str = "stop", answer: str = "") -> None:
        self.ended, self.answer = ended, answer
        self.asked: list[Prompt] = []

    def fitting(self, prompt: Prompt, room: int) -> Prompt:
        return prompt

    def chunks(self, prompt: Prompt, sampling: Sampling, schema: Any = None) -> Generator[dict[str, Any]]:
        self.asked.append(prompt)
        yield {"choices": [{"delta": {"content": self.answer or CORRECTED.get(prompt[-1].content, prompt[-1].content)}, "finish_reason": self.ended}]}


def corrected(model: Corrector, draft: str, guidance: str = "") -> Any:
    offer = Offer(Served(Path("x.gguf"), "Q8_0", "", True, "approved", (), "Proofreader", "Correct the e-mail."), model)
    return list(rewritten(offer, draft, Sampling(), guidance))[-1]


def test_only_what_needs_it_changes_and_lines_stay_where_they_are() -> None:
    model = Corrector()
    assert corrected(model, DRAFT).text == DRAFT.replace("I has send you the report  yesterday.", "I sent you the report yesterday.").replace(
        "got it", "get it"
    )
    assert [prompt[-1].content for prompt in model.asked] == [*CORRECTED, "We need it by 5 p.m. on Friday."]


@pytest.mark.parametrize(
    "draft", ["", "One line without an end", "  Two spaces.  \n\n\n  And lines.\n", "Ends with dots... And goes on!", "1. First\n2. Second"]
)
def test_a_draft_without_faults_comes_back_to_the_byte(draft: str) -> None:
    assert corrected(Corrector(), draft).text == draft
    assert "".join(draft[a:b] for a, b in sentences(draft)).replace(" ", "") == draft.replace(" ", "").replace("\n", "")


@pytest.mark.parametrize("model", [Corrector(ended="length"), Corrector(answer="No."), Corrector(answer="word " * 90), Corrector(ended="content_filter")])
def test_an_answer_that_is_no_correction_leaves_the_sentence(model: Corrector) -> None:
    done = corrected(model, "The goods arrived late on Monday morning.")
    assert (done.text, done.refused) == ("The goods arrived late on Monday morning.", 1)


def test_a_wish_for_the_tone_stands_behind_the_audited_prompt() -> None:
    model = Corrector()
    corrected(model, "Send it to me now.", "Make it more polite.")
    assert model.asked[0][0].content == "Correct the e-mail. Make it more polite."


def test_differences_are_marked_and_what_a_draft_holds_cannot_run() -> None:
    assert differences("I has send it.", "I sent it.") == '<div class="changes">I <del>has send</del><ins>sent</ins> it.</div>'
    assert "<script" not in differences("<script>a</script>", "<script>b</script>")


def test_the_tone_after_is_shown_where_something_changed() -> None:
    assert "After" not in tones(Measurer(), "Send it now.", "")
    assert "After" not in tones(Measurer(), "Send it now.", "Send it now.")
    assert "After" in tones(Measurer(), "Send it now.", "Please send it now.")
