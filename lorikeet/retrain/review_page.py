"""The owner's page: ratings that were set aside, one after another, to be accepted, rejected or mended. On this machine alone."""

import html
from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr

from lorikeet.retrain.review import Review
from lorikeet.retrain.sift import SetAside
from lorikeet.serve.frame import plainly


def page(aside: Sequence[SetAside], kept: Callable[[], int], review: Review) -> gr.Blocks:
    """The ratings that were set aside. kept: how many are learned from now, asked anew after each decision."""
    with gr.Blocks(title="Ratings to review", analytics_enabled=False) as blocks:
        gr.HTML('<div class="head"><h1>Ratings to review</h1></div>', padding=False)
        place = gr.State(0)
        where, shown = gr.HTML(padding=False, elem_id="where"), gr.HTML(padding=False, elem_id="rating")
        correction = gr.Textbox(label="What it should have said", max_lines=8, max_length=4000, info="empty: nothing; edit it to mend what the rater wrote")
        with gr.Row():
            accept, reject = gr.Button("Accept", variant="primary"), gr.Button("Reject", variant="stop")
            skip = gr.Button("Skip")
        parts = [place, where, shown, correction, accept, reject, skip]

        def put(at: int) -> tuple[Any, ...]:
            at = min(at, len(aside))
            left = gr.Button(interactive=at < len(aside))
            if at == len(aside):
                told = "Nothing was set aside." if not aside else "That was the last one."
                return at, f"<p>{told} {kept()} ratings are learned from.</p>", "", gr.Textbox("", visible=False), left, left, left
            one = aside[at]
            why = f"<p>{at + 1} of {len(aside)}: <strong>{html.escape(one.code)}</strong>, {html.escape(one.why)}</p>"
            return at, why, _told(one), gr.Textbox(one.rating.correction, visible=True), left, left, left

        def decide(at: int, written: str, *, accepted: bool) -> tuple[Any, ...]:
            rating = aside[at].rating
            changed = written.strip() if written.strip() != rating.correction.strip() else None
            with plainly("Not kept"):
                review.decide(rating.id, accepted=accepted, correction=changed if accepted else None)
            return put(at + 1)

        quiet: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
        accept.click(lambda at, written: decide(at, written, accepted=True), [place, correction], parts, **quiet)
        reject.click(lambda at, written: decide(at, written, accepted=False), [place, correction], parts, **quiet)
        skip.click(lambda at: put(at + 1), place, parts, **quiet)
        blocks.load(put, place, parts, **quiet)
    return blocks


def _told(one: SetAside) -> str:
    """The conversation, the thumb and what was written, as HTML."""
    rating = one.rating
    said = [part for question, answer in rating.chat_history for part in (("Question", question), ("Reply", answer))]
    said[-1] = (f"Reply, {'liked' if rating.liked else 'disliked'}", said[-1][1])
    said += [("Comment", rating.comment)] if rating.comment else []
    return "".join(f'<div class="said"><b>{html.escape(what)}</b>{html.escape(text)}</div>' for what, text in said)
