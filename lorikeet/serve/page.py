"""The page: a chat with each assistant that is served, its models to choose from, controls, and ratings. Nothing is served or kept here.

What a reader types stays with the page and the model; a rating alone is handed on, and only after the reader has agreed.
"""

import contextlib
import html
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, NamedTuple

import gradio as gr

from lorikeet import __version__
from lorikeet.conversation import Rating, Role
from lorikeet.engine import Sampling
from lorikeet.engine.guarded import FIRED
from lorikeet.picks import Tally
from lorikeet.released import Served, feedback_folder
from lorikeet.serve import blind, email_page, quiz_page
from lorikeet.serve.frame import opened, plainly
from lorikeet.serve.offer import ANSWER_TOKENS, Offer, prompt_of

Record = Callable[[Rating], None]
"""Keeps a rating; returns when it is on the disk, and raises LorikeetError where it cannot be kept."""

CONSENT = (
    "To keep your rating, this conversation up to the rated reply is written down on the machine that serves this page, with your thumb and what you write "
    "below. Nothing else that you type here is kept."
)


@dataclass(frozen=True)
class Said:
    """How a reply came to be: the model, the mode, the system turn and the controls."""

    model: str
    mode: str
    system: str
    controls: Mapping[str, float]


@dataclass
class Visit:
    """What the page remembers of a reader for as long as it is open: how each reply came to be, by its place, and what was agreed and rated."""

    said: dict[int, Said] = field(default_factory=dict)
    rater: str = ""
    agreed: bool = False
    rated: Rating | None = None


class Controls(NamedTuple):
    """What a reader has set: the model's name, the mode, and how words are chosen."""

    model: str
    mode: str
    temperature: float
    top_p: float
    tokens: float


def page(offers: Sequence[Offer], record: Record | None, waiting: int) -> gr.Blocks:
    """A tab for each assistant, or the one assistant alone. record: where ratings go; without it none are asked for. waiting: how many answers may wait."""
    assistants: dict[str, list[Offer]] = {}
    for offer in offers:
        assistants.setdefault(offer.served.title, []).append(offer)
    with gr.Blocks(title=offers[0].served.title if len(assistants) == 1 else "Lorikeet", analytics_enabled=False, fill_height=True) as blocks:
        if len(assistants) == 1:
            _assistant(offers, record)
        else:
            with gr.Tabs():
                for title, own in assistants.items():
                    with gr.Tab(title):
                        _assistant(own, record)
    return blocks.queue(max_size=waiting)


def _assistant(offers: Sequence[Offer], record: Record | None) -> None:
    """One assistant's part of the page, as its persona lays it out."""
    if offers[0].served.layout == "email":
        email_page.build(offers)
        return
    with gr.Column(elem_classes=["emergency"] if offers[0].served.emergency_number else []):
        model, by_name = opened(offers), {offer.served.name: offer for offer in offers}
        if not offers[0].served.quiz and len(offers) == 1:
            _chat(offers, model, by_name, record)
            return
        with gr.Tabs():
            with gr.Tab("Chat"):
                _chat(offers, model, by_name, record)
            if offers[0].served.quiz:
                with gr.Tab("Quiz"):
                    quiz_page.build(model, by_name)
            if len(offers) > 1:
                with gr.Tab("Blind comparison"):
                    blind.build(offers, by_name, Tally(offers[0].served.title, feedback_folder(offers[0].served) if record else None))


def _chat(offers: Sequence[Offer], model: gr.Dropdown, by_name: Mapping[str, Offer], record: Record | None) -> None:
    """A chat, its controls below it, and ratings."""
    first = offers[0].served
    modes = [name for name, _ in first.modes]
    mode = gr.Radio(modes, value=modes[0] if modes else None, label="How to answer", visible=bool(modes))
    visit = gr.State(Visit())
    controls = [
        gr.Slider(0, 1.5, 0, step=0.05, label="Temperature", info="0 gives the likeliest words, as was audited", render=False),
        gr.Slider(0.05, 1, 1, step=0.05, label="Top p", info="leaves out unlikely words; 1 leaves out none", render=False),
        gr.Slider(16, offers[0].model.context // 2, min(ANSWER_TOKENS, offers[0].model.context // 2), step=16, label="Longest answer, in tokens", render=False),
    ]
    speed = gr.HTML("", elem_classes=["quiet"], elem_id="speed", padding=False, render=False)
    chatbot = gr.Chatbot(show_label=False, placeholder=html.escape(first.greeting), buttons=["copy"], scale=1, min_height="20rem", allow_tags=False,
                         latex_delimiters=[], feedback_options=("Like", "Dislike") if record else None, render=False)  # fmt: skip

    def answer(message: str, history: list[dict[str, Any]], name: str, mode: str | None, visit: Visit, *chosen: float) -> Iterator[tuple[Any, ...]]:
        yield from _answer(by_name[name], message, history, Controls(name, mode or "", *chosen), visit)

    gr.ChatInterface(
        answer,
        chatbot=chatbot,
        textbox=gr.Textbox(placeholder="Ask something", show_label=False, container=False, scale=7, max_lines=8, submit_btn=True, stop_btn=True),
        examples=[[example] for example in first.examples] or None,
        additional_inputs=[model, mode, visit, *controls],
        additional_inputs_accordion=gr.Accordion("Controls", open=False, render=False),
        additional_outputs=[speed, visit],
        editable=True,
        concurrency_limit=offers[0].model.slots,
        flagging_mode="never",
        show_progress="hidden",
        api_visibility="private",
    )
    speed.render()
    if record:
        _ratings(chatbot, visit, by_name, record)
    with gr.Accordion("System prompt", open=False):
        prompt = gr.Textbox(first.prompt() or "none", show_label=False, interactive=False, container=False)
        mode.change(lambda mode: first.prompt(mode) or "none", mode, prompt, api_visibility="private", show_progress="hidden")


def _ratings(chatbot: gr.Chatbot, visit: gr.State, by_name: Mapping[str, Offer], record: Record) -> None:
    """What opens after a thumb: which reply it is for, the consent where none was given yet, a comment, and after a dislike what it should have said."""
    with gr.Column(visible=False, elem_id="rating") as panel:
        about = gr.HTML("", padding=False)
        comment = gr.Textbox(label="Comment", placeholder="Why? (if you like)", max_length=2000, max_lines=4)
        correction = gr.Textbox(label="What should it have said?", placeholder="If you know it", max_length=4000, max_lines=6, visible=False)
        with gr.Row():
            keep, leave = gr.Button("Keep my rating", variant="primary", size="sm"), gr.Button("Do not keep it", size="sm")
    thanks = gr.HTML("", padding=False, elem_classes=["quiet"], elem_id="thanks")
    shown = [visit, panel, about, comment, correction, keep, leave, thanks]

    def rated(event: gr.LikeData, history: list[dict[str, Any]], visit: Visit) -> tuple[Any, ...]:
        index = event.index if isinstance(event.index, int) else event.index[0]
        said = visit.said.get(index)
        if not isinstance(event.liked, bool) or said is None:
            return visit, gr.Column(visible=False), "", "", "", gr.Button(), gr.Button(), ""
        visit.rater = visit.rater or uuid.uuid4().hex
        visit.rated = rating(history, index, event.liked, said, by_name[said.model].served, visit.rater)
        word = "liked" if event.liked else "disliked"
        told = f"<p>You {word}: <em>{html.escape(_begun(visit.rated.liked_value))}</em></p>" + ("" if visit.agreed else f"<p>{CONSENT}</p>")
        kept = ""
        if visit.agreed:
            _record(record, visit.rated)
            kept = "Thank you: your rating is kept. A comment can be added to it."
        names = ("Add to my rating", "Close") if visit.agreed else ("I agree: keep my rating", "Do not keep it")
        return visit, gr.Column(visible=True), told, "", gr.Textbox("", visible=not event.liked), gr.Button(names[0]), gr.Button(names[1]), kept

    def kept(visit: Visit, comment: str, correction: str) -> tuple[Any, ...]:
        if visit.rated is None:
            return visit, gr.Column(visible=False), ""
        visit.rated = replace(visit.rated, comment=comment.strip(), correction=correction.strip(), timestamp=_now())
        _record(record, visit.rated)
        visit.agreed = True
        return visit, gr.Column(visible=False), "Thank you: your rating is kept."

    chatbot.like(rated, [chatbot, visit], shown, api_visibility="private", show_progress="hidden")
    keep.click(kept, [visit, comment, correction], [visit, panel, thanks], api_visibility="private", show_progress="hidden")
    leave.click(lambda: (gr.Column(visible=False), ""), None, [panel, thanks], api_visibility="private", show_progress="hidden")


def rating(history: Sequence[Mapping[str, Any]], index: int, liked: bool, said: Said, served: Served, rater: str) -> Rating:
    """The rating of the reply at a place of the history (messages from 0), of which all up to that reply is part."""
    pairs: list[tuple[str, str]] = []
    for turn in history[: index + 1]:
        if turn["role"] == "user":
            pairs.append((_text(turn["content"]), ""))
        elif pairs:
            pairs[-1] = (pairs[-1][0], pairs[-1][1] + _text(turn["content"]))
    pairs = pairs[-1:] if served.single_turn else pairs  # what was not sent is no part of it, and the reply's place is counted in what is kept
    return Rating(
        id=uuid.uuid4().hex,
        timestamp=_now(),
        model_name=served.name,
        model_sha256=served.sha256,
        adapter_sha256=served.adapter_sha256,
        persona=served.title,
        mode=said.mode,
        app_version=__version__,
        system=said.system,
        liked=liked,
        liked_index=(len(pairs) - 1, 1),
        liked_value=pairs[-1][1],
        comment="",
        chat_history=tuple(pairs),
        correction="",
        rater=rater,
        controls=said.controls,
    )


def _record(record: Record, rating: Rating) -> None:
    with plainly("Not kept"):
        record(rating)


def _now() -> str:
    return datetime.now(UTC).isoformat()


def _begun(text: str) -> str:
    return text if len(text) <= 120 else text[:117] + "..."


def _answer(offer: Offer, message: str, history: Sequence[Mapping[str, Any]], controls: Controls, visit: Visit) -> Iterator[tuple[Any, ...]]:
    """The answer as it grows, and at its end the speed. Gradio closes the generator when the user stops it."""
    served, model = offer
    turns: list[tuple[Role, str]] = [(_role(turn["role"]), _text(turn["content"])) for turn in history]
    sampling = Sampling(controls.temperature, controls.top_p, int(controls.tokens))
    system = served.prompt(controls.mode)
    set_to = {"temperature": sampling.temperature, "top_p": sampling.top_p, "max_tokens": sampling.max_tokens}
    visit.said[len(history) + 1] = Said(controls.model, controls.mode, system, set_to)
    text, speed = "", ""
    with plainly("No answer"):
        prompt = model.fitting(prompt_of([*([] if served.single_turn else turns), ("user", message)], system), sampling.max_tokens)
        with contextlib.closing(model.chunks(prompt, sampling)) as chunks:
            for chunk in chunks:
                for choice in chunk["choices"]:
                    text += choice["delta"].get("content") or ""
                    if choice["finish_reason"] == FIRED:
                        text, speed = (choice["delta"].get("content") or "").strip(), "stopped by the guard"
                    if choice["finish_reason"] == "length":
                        speed = "cut short, "
                if "timings" in chunk:
                    speed += f"{chunk['usage']['completion_tokens']} tokens, {chunk['timings']['predicted_per_second']:.1f} a second"
                if chunk["choices"] or speed:
                    yield text, speed, visit
                elif not text:
                    yield "", "waiting for a free place", visit


def _role(name: str) -> Role:
    return "assistant" if name == "assistant" else "user"


def _text(content: str | list[dict[str, Any]]) -> str:
    """A turn's text, as Gradio keeps it: a string, or a list of parts."""
    return content if isinstance(content, str) else "".join(str(part.get("text", "")) for part in content)
