"""Blind comparison on the page: two of an assistant's models answer without their names, and the reader picks. Picks are counted in feedback/picks.py."""

import contextlib
import html
from collections.abc import Iterator, Mapping, Sequence
from random import SystemRandom
from typing import Any

import gradio as gr

from lorikeet.engine import Sampling
from lorikeet.engine.server import text_of
from lorikeet.picks import Tally
from lorikeet.serve.frame import plainly
from lorikeet.serve.offer import Offer, prompt_of

_TOKENS = 256
_RANDOM = SystemRandom()


def build(offers: Sequence[Offer], by_name: Mapping[str, Offer], tally: Tally) -> None:
    """The comparison's part of a page, of an assistant with two models or more."""
    names = [(offer.served.name, offer.served.name) for offer in offers]
    with gr.Row():
        one = gr.Dropdown(names, value=names[0][1], label="One of the two", filterable=False)
        other = gr.Dropdown(names, value=names[1][1], label="The other", filterable=False)
    question = gr.Textbox(label="Question", max_length=4000, max_lines=6)
    start = gr.Button("Ask both", variant="primary")
    pair = gr.State([])
    with gr.Row():
        left = gr.Textbox(label="A", lines=5, max_lines=20, interactive=False)
        right = gr.Textbox(label="B", lines=5, max_lines=20, interactive=False)
    with gr.Row(visible=False) as picking:
        picks = [gr.Button(text) for text in ("A is better", "B is better", "About the same")]
    result = gr.HTML("", padding=False, elem_id="blind-result")

    def both(question: str, one: str, other: str) -> Iterator[tuple[Any, ...]]:
        if not question.strip():
            raise gr.Error("Write a question first.", title="No question")
        if one == other:
            raise gr.Error("Choose two different models.", title="Nothing to compare")
        order = _RANDOM.sample([one, other], 2)
        yield order, "", "", gr.Row(visible=False), ""
        answers = ["", ""]
        for place, name in enumerate(order):
            for text in _answer(by_name[name], question):
                answers[place] = text
                yield order, *answers, gr.Row(visible=False), ""
        yield order, *answers, gr.Row(visible=True), ""

    start.click(both, [question, one, other], [pair, left, right, picking, result], api_visibility="private", show_progress="hidden",
                concurrency_limit=offers[0].model.slots)  # fmt: skip
    for place, button in enumerate(picks):

        def picked(order: list[str], place: int = place) -> tuple[Any, ...]:
            if len(order) != 2:
                return gr.Row(visible=False), ""
            models = [(name, by_name[name].served.answering_sha256) for name in order]
            with plainly("Not kept"):
                tally.add(models, order[place] if place < 2 else "")
            return gr.Row(visible=False), f"<p>A was {html.escape(order[0])}, B was {html.escape(order[1])}. So far: {html.escape(tally.told(models))}.</p>"

        button.click(picked, pair, [picking, result], api_visibility="private", show_progress="hidden")


def _answer(offer: Offer, question: str) -> Iterator[str]:
    text = ""
    with plainly("No answer"):
        prompt = offer.model.fitting(prompt_of([("user", question)], offer.served.prompt()), _TOKENS)
        with contextlib.closing(offer.model.chunks(prompt, Sampling(max_tokens=_TOKENS))) as chunks:
            for chunk in chunks:
                if chunk["choices"]:
                    text += text_of(chunk)
                    yield text
