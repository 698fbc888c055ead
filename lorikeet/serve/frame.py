"""What stands at the head of every assistant's page: the banner, the title and notice, and the model to choose; and the page's style."""

import contextlib
import html
from collections.abc import Iterator, Sequence
from typing import Any

import gradio as gr

from lorikeet.engine.slots import Busy
from lorikeet.errors import LorikeetError
from lorikeet.released import Served
from lorikeet.serve.offer import Offer

CSS = """
.gradio-container { width: 100% !important; max-width: 48rem !important; margin: 0 auto !important; }
.head h1 { font-size: 1.5rem; font-weight: 600; margin: 0 0 .25rem; }
.head p { margin: 0 0 .25rem; }
.file, .quiet { font-size: .8rem; opacity: .75; overflow-wrap: anywhere; }
.quiet { min-height: 1.2rem; text-align: right; }
.unreleased { background: #b00020; color: #fff; padding: .6rem .9rem; border-radius: 6px; }
.unreleased strong { color: #fff; }
.banner { position: sticky; top: 0; z-index: 100; }
.head p.call { margin-bottom: .9rem; }
.emergency .call { background: #b00020; color: #fff; padding: .8rem 1rem; border-radius: 8px; font-size: 1.4rem; font-weight: 700; text-align: center; }
.emergency .call a { color: #fff; }
.emergency .message *, .emergency textarea { font-size: 1.35rem !important; line-height: 1.5; }
.emergency .message li { margin-bottom: .5rem; }
.tones { display: flex; flex-wrap: wrap; gap: 1.5rem; }
.tones > div { flex: 1 1 14rem; }
.tones p { margin: .4rem 0 .15rem; }
.bar { height: .5rem; border-radius: 4px; background: var(--border-color-primary); }
.bar span { display: block; height: 100%; border-radius: 4px; background: var(--color-accent); }
.changes { white-space: pre-wrap; overflow-wrap: anywhere; padding: .75rem; border: 1px solid var(--border-color-primary); border-radius: 6px; }
.changes ins { background: #1a7f3740; text-decoration: none; border-radius: 3px; }
.changes del { background: #cf222e38; border-radius: 3px; }
.said { white-space: pre-wrap; overflow-wrap: anywhere; border: 1px solid var(--border-color-primary); border-radius: 6px; padding: .6rem .8rem;
  margin: 0 0 .5rem; }
.said b { display: block; font-size: .8rem; opacity: .75; margin-bottom: .2rem; }
[data-testid="status-tracker"], footer { display: none !important; }
"""


@contextlib.contextmanager
def plainly(title: str) -> Iterator[None]:
    """An error of ours shown on the page, with its cure; one who finds no place is told when there may be one."""
    try:
        yield
    except Busy as error:
        raise gr.Error(error.message, title="Busy") from error
    except LorikeetError as error:
        raise gr.Error(f"{error.message}; {error.cure}", title=title) from error


def opened(offers: Sequence[Offer]) -> gr.Dropdown:
    """The head of a page; returns the model's dropdown, which is shown where there are several."""
    first, by_name = offers[0].served, {offer.served.name: offer for offer in offers}
    banner = gr.HTML(_banner(first), elem_classes=["banner"], padding=False, visible=not first.approved)
    gr.HTML(_head(first), padding=False)
    model = gr.Dropdown([(_label(offer.served), offer.served.name) for offer in offers], value=first.name, label="Model", show_label=False, container=False,
                        filterable=False, visible=len(offers) > 1)  # fmt: skip
    file = gr.HTML(_file(first), padding=False, elem_classes=["file"])
    model.change(lambda name: _chosen(by_name[name].served), model, [banner, file], api_visibility="private", show_progress="hidden")
    return model


def _head(served: Served) -> str:
    call = f'<p class="call">In an emergency call {html.escape(served.emergency_number)} first</p>' if served.emergency_number else ""
    notice = f'<p class="notice">{html.escape(served.notice)}</p>' if served.notice else ""
    return f'<div class="head">{call}<h1>{html.escape(served.title)}</h1>{notice}</div>'


def _label(served: Served) -> str:
    """A model in the list: what it is, and the gate's word."""
    kinds = {"base": "base, untuned", "adapter": "adapter on the base", "endpoint": served.name}
    return f"{kinds.get(served.quantisation, f'tuned, {served.quantisation}')} ({served.size}, {_word(served)})"


def _word(served: Served) -> str:
    return served.verdict.replace("-", " ")


def _file(served: Served) -> str:
    adapter = f" with {served.adapter.name}" if served.adapter else ""
    return html.escape(f"{served.path.name}{adapter}, {served.size}, {_word(served)}")


def _chosen(served: Served) -> tuple[Any, str]:
    return gr.HTML(_banner(served), visible=not served.approved), _file(served)


def _banner(served: Served) -> str:
    if served.approved:
        return ""
    text = f"This model has not passed its safety gate: {'; '.join(served.reasons)}. Do not rely on its answers."
    return f'<div class="unreleased" role="alert"><strong>Not released.</strong> {html.escape(text)}</div>'
