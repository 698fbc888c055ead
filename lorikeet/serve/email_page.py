"""The e-mail assistant's page: a draft in; its tone, the corrected text with the differences marked, and the tone of that, out."""

import html
from collections.abc import Iterator, Sequence

import gradio as gr

from lorikeet.engine import Sampling
from lorikeet.serve import proofread
from lorikeet.serve.frame import opened, plainly
from lorikeet.serve.offer import Offer
from lorikeet.serve.tone import Measurer

LONGEST = 8000
"""Characters of a draft."""
WISHES = {"As it is": "", "More polite": "Make it more polite.", "More direct": "Make it more direct.", "Friendlier": "Make it friendlier."}


def build(offers: Sequence[Offer]) -> None:
    """The page's part of an assistant with the e-mail layout."""
    first, by_name = offers[0].served, {offer.served.name: offer for offer in offers}
    measure = Measurer(first.sentiment_model, first.politeness_model)
    model = opened(offers)
    draft = gr.Textbox(label="Your draft", placeholder=first.greeting, lines=8, max_lines=24, max_length=LONGEST)
    with gr.Row():
        start, stop = gr.Button("Correct", variant="primary"), gr.Button("Stop")
    with gr.Accordion("Controls", open=False):
        wish = gr.Radio(
            list(WISHES), value="As it is", label="Tone", info="A wish is told to the model behind the prompt that was audited; without one nothing is added"
        )
        temperature = gr.Slider(0, 1, 0, step=0.05, label="Temperature", info="0 gives the likeliest words, as was audited")
        top_p = gr.Slider(0.05, 1, 1, step=0.05, label="Top p")
    said = gr.HTML("", padding=False, elem_classes=["quiet"], elem_id="said")
    changes = gr.HTML("", padding=False)
    after = gr.Textbox(label="Corrected", lines=6, max_lines=24, buttons=["copy"], visible=False, elem_id="corrected")
    tones = gr.HTML("", padding=False)
    gr.Examples([[example] for example in first.examples], draft)

    def correct(text: str, name: str, wished: str, *chosen: float) -> Iterator[tuple[object, ...]]:
        yield from _corrected(by_name[name], measure, text, WISHES[wished], Sampling(chosen[0], chosen[1]))

    begun = start.click(correct, [draft, model, wish, temperature, top_p], [said, changes, after, tones], api_visibility="private", show_progress="hidden",
                        concurrency_limit=offers[0].model.slots)  # fmt: skip
    stop.click(lambda: "stopped", None, said, cancels=begun, api_visibility="private", show_progress="hidden")
    with gr.Accordion("System prompt", open=False):
        gr.Textbox(first.prompt() or "none", show_label=False, interactive=False, container=False)


def _corrected(offer: Offer, measure: Measurer, draft: str, guidance: str, sampling: Sampling) -> Iterator[tuple[object, ...]]:
    """What the page shows, sentence by sentence."""
    if not draft.strip():
        raise gr.Error("Write or paste a draft first.", title="Nothing to correct")
    before = proofread.tones(measure, draft)
    with plainly("No answer"):
        for step in proofread.rewritten(offer, draft, sampling, guidance):
            if step.done < step.of:
                yield f"sentence {step.done + 1} of {step.of}", html.escape(step.text), gr.Textbox(visible=False), before
                continue
            kept = f"; {step.refused} left as they were, since the answer was no correction" if step.refused else ""
            if step.text == draft:
                yield f"Nothing to change{kept}.", "", gr.Textbox(draft, visible=True), before
            else:
                yield (
                    f"{step.of} sentences read{kept}",
                    proofread.differences(draft, step.text),
                    gr.Textbox(step.text, visible=True),
                    proofread.tones(measure, draft, step.text),
                )
