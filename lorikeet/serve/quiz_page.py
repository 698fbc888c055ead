"""The quiz's page: a topic in, questions answered one by one with feedback, and a score at the end."""

import html
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import gradio as gr

from lorikeet.scoring import LETTERS
from lorikeet.serve import quiz
from lorikeet.serve.frame import plainly
from lorikeet.serve.offer import Offer
from lorikeet.serve.quiz import QuizQuestion

LONGEST = 120
"""Characters of a topic."""


@dataclass
class Sitting:
    """A quiz that is being taken: its questions so far, and which option was chosen in each that was answered."""

    questions: list[QuizQuestion] = field(default_factory=list)
    chosen: list[int] = field(default_factory=list)
    whole: bool = False


def build(model: gr.Dropdown, by_name: Mapping[str, Offer]) -> None:
    """The quiz's part of a page, whose questions the model that is chosen there writes."""
    sitting = gr.State(Sitting())
    with gr.Row():
        topic = gr.Textbox(label="Topic", placeholder="What shall the questions be about?", max_length=LONGEST, scale=4)
        start = gr.Button("Start", variant="primary", scale=1)
    status = gr.HTML("", padding=False, elem_classes=["quiet"], elem_id="quiz-status")
    asked = gr.HTML("", padding=False, elem_id="quiz-question")
    options = gr.Radio([], label="Your answer", visible=False)
    with gr.Row():
        answer, following = gr.Button("Answer", visible=False), gr.Button("Next question", visible=False)
    told = gr.HTML("", padding=False, elem_id="quiz-feedback")
    shown = [sitting, asked, options, answer, following, told]

    def begin(topic: str, name: str) -> Iterator[tuple[Any, ...]]:
        if not topic.strip():
            raise gr.Error("Name a topic first.", title="No topic")
        made, sits = 0, Sitting()
        yield sits, "writing the first question", "", gr.Radio(visible=False), gr.Button(visible=False), gr.Button(visible=False), ""
        with plainly("No questions"):
            for found in quiz.written(by_name[name], topic.strip(), secrets.randbelow(1 << 20)):
                if isinstance(found, str):
                    yield sits, found, *([gr.skip()] * 5)
                    continue
                sits.questions.append(found)
                made += 1
                yield (sits, f"{made} of {quiz.QUESTIONS} questions written", *(_put(sits) if made == 1 else [gr.skip()] * 5))
        sits.whole = True
        short = "" if made == quiz.QUESTIONS else f"; {quiz.QUESTIONS - made} could not be written well enough and were left out"
        yield sits, f"{made} questions{short}", *([gr.skip()] * 5)

    start.click(begin, [topic, model], [sitting, status, *shown[1:]], api_visibility="private", show_progress="hidden")
    answer.click(_answered, [sitting, options], shown, api_visibility="private", show_progress="hidden")
    following.click(_next, sitting, shown, api_visibility="private", show_progress="hidden")


def _put(sits: Sitting) -> tuple[Any, ...]:
    """The question that comes next, without its answer."""
    number = len(sits.chosen)
    question = sits.questions[number]
    doubt = "" if question.sure else '<p class="quiet">unsure: the model itself does not hold by its own key</p>'
    choices = [(f"{letter}. {option}", place) for place, (letter, option) in enumerate(zip(LETTERS, question.options, strict=False))]
    head = f"<h3>{number + 1}. {html.escape(question.text)}</h3>{doubt}"
    return head, gr.Radio(choices, value=None, visible=True, interactive=True), gr.Button(visible=True), gr.Button(visible=False), ""


def _answered(sits: Sitting, place: int | None) -> tuple[Any, ...]:
    if place is None:
        raise gr.Error("Choose an answer first.", title="No answer")
    question = sits.questions[len(sits.chosen)]
    sits.chosen.append(place)
    word = "Right." if place == question.right else f"Wrong: it is {LETTERS[question.right]}. {question.options[question.right].rstrip(' .,;')}."
    told = f"<p><strong>{html.escape(word)}</strong> {html.escape(question.why)}</p>"
    last = len(sits.chosen) == len(sits.questions) and sits.whole
    return sits, gr.skip(), gr.Radio(interactive=False), gr.Button(visible=False), gr.Button(visible=not last), told + (score(sits) if last else "")


def _next(sits: Sitting) -> tuple[Any, ...]:
    if len(sits.chosen) < len(sits.questions):
        return (sits, *_put(sits))
    if not sits.whole:
        raise gr.Error("The next question is still being written; try again in a moment.", title="Not yet")
    return sits, "", gr.Radio(visible=False), gr.Button(visible=False), gr.Button(visible=False), score(sits)


def score(sits: Sitting) -> str:
    """The result, as HTML; of questions that the model is unsure of apart."""
    right = [place == question.right for question, place in zip(sits.questions, sits.chosen, strict=False)]
    sure = [hit for hit, question in zip(right, sits.questions, strict=False) if question.sure]
    apart = f" Of the {len(sure)} questions whose key the model itself holds by: {sum(sure)}." if len(sure) < len(right) else ""
    return f'<p class="score"><strong>{sum(right)} of {len(right)} right.</strong>{apart}</p>'
