"""Text classifiers of the Hugging Face Hub, or of a folder, in place of the tone models that come with Lorikeet. Only where a persona names one."""

from collections.abc import Callable, Mapping, Sequence

from lorikeet.errors import ModelError, RecipeError, first_line

SENTIMENT = {
    **{"very negative": -1.0, "negative": -1.0, "neg": -1.0, "neutral": 0.0, "neu": 0.0, "positive": 1.0, "pos": 1.0, "very positive": 1.0},
    **{"1 star": -1.0, "2 stars": -0.5, "3 stars": 0.0, "4 stars": 0.5, "5 stars": 1.0},
}
"""Where a label stands from -1 (unhappy) to 1 (happy)."""
POLITENESS = {"rude": 1.0, "impolite": 1.0, "somewhat impolite": 2.0, "neutral": 3.0, "somewhat polite": 4.0, "polite": 5.0, "very polite": 5.0}
"""Where a label stands from 1 (rude) to 5 (very polite)."""


def scale(model: str, places: Mapping[str, float]) -> Callable[[Sequence[str]], list[float]]:
    """What a classifier says of each text, as the mean place of its labels, weighted by their probabilities.

    model: an id of the Hub (owner/name[@revision]) or a folder. Texts longer than the model reads are cut off. ModelError where it cannot be had or is no
    classifier; RecipeError where it has a label that no place is known for.
    """
    from transformers import logging as transformers_logging
    from transformers import pipeline

    transformers_logging.set_verbosity_error()
    name, _, revision = model.partition("@")
    try:
        classify = pipeline("text-classification", model=name, revision=revision or None, device="cpu", top_k=None, truncation=True)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"the classifier {model} cannot be had: {first_line(error)}",
                         "name an id of the Hub (owner/name) or a folder with a text classifier, and check the network") from error  # fmt: skip
    labels = {label: places.get(label.lower().replace("_", " ")) for label in classify.model.config.id2label.values()}
    if unknown := [label for label, place in labels.items() if place is None]:
        raise RecipeError(f"the classifier {model} has labels of which it is not known what they mean: {', '.join(map(repr, unknown))}",
                          f"take one whose labels are among: {', '.join(places)}")  # fmt: skip

    def levels(texts: Sequence[str]) -> list[float]:
        return [sum(row["score"] * (labels[row["label"]] or 0.0) for row in rows) for rows in classify(list(texts))]

    return levels
