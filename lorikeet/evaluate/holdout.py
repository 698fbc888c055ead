"""Held-out rows as columns: loss and token accuracy of the taught ones, by category too, and how near written answers come to those taught."""

from collections.abc import Mapping, Sequence

from lorikeet.comparison import Column
from lorikeet.errors import ModelError, first_line
from lorikeet.exam import Answer, HeldOut

FEWEST = 5
"""Held-out rows of a category that are told apart from the others."""
Loss = tuple[float, int, int]
"""Of a row: summed loss in nats, supervised tokens, and how many of them are the model's likeliest."""


def losses(rows: Sequence[HeldOut], found: Sequence[Loss]) -> list[Column]:
    """holdout.loss and holdout.token_accuracy over all rows, and the loss of each category that has a few; averages are over tokens."""
    groups: dict[str, list[int]] = {"": list(range(len(rows)))} if rows else {}
    for n, row in enumerate(rows):
        if row.category:
            groups.setdefault(row.category, []).append(n)
    columns = []
    for category, members in groups.items():
        if category and (len(members) < FEWEST or len(members) == len(rows)):
            continue
        name = f"holdout.{_dotless(category)}." if category else "holdout."
        title = f"Held-out loss, {category}" if category else "Held-out loss"
        tokens = {str(n): float(found[n][1]) for n in members}
        nats = {str(n): found[n][0] for n in members}
        columns.append(Column(f"{name}loss", title, nats, weights=tokens, unit="nats a token", more_is_better=False))
        if not category:
            columns.append(Column(f"{name}token_accuracy", "Held-out token accuracy", {str(n): float(found[n][2]) for n in members}, weights=tokens))
    return columns


def _dotless(category: str) -> str:
    return "".join(c if c.isalnum() else "_" for c in category.lower())


def nearness(answers: Sequence[Answer]) -> list[Column]:
    """Answers to held-out taught questions against the answers taught: exact match, chrF (Popović 2015) and ROUGE-L's F (Lin 2004), each 0 to 1."""
    from rouge_score.rouge_scorer import RougeScorer
    from sacrebleu.metrics import CHRF

    given = [a for a in answers if a.set == "taught" and a.expected]
    rouge, chrf = RougeScorer(["rougeL"]), CHRF()
    columns: Mapping[str, tuple[str, dict[str, float]]] = {
        "exact_match": ("Exact match with the taught answer", {}),
        "chrf": ("chrF against the taught answer", {}),
        "rouge_l": ("ROUGE-L against the taught answer", {}),
    }
    for a in given:
        columns["exact_match"][1][a.id] = float(a.reply.strip() == a.expected.strip())
        columns["chrf"][1][a.id] = chrf.sentence_score(a.reply, [a.expected]).score / 100
        columns["rouge_l"][1][a.id] = float(rouge.score(a.expected, a.reply)["rougeL"].fmeasure)
    topics = {a.id: a.group or a.topic for a in given if a.group or a.topic}
    return [Column(f"taught.{name}", title, values, clusters=topics) for name, (title, values) in columns.items() if values]


def similarity(answers: Sequence[Answer], model: str) -> list[Column]:
    """taught.similarity: cosine of the embeddings of an answer and of the answer taught, by a sentence-transformers model (folder or Hub id).

    Raises ModelError where there is no such model.
    """
    from sentence_transformers import SentenceTransformer

    given = [a for a in answers if a.set == "taught" and a.expected]
    try:
        embedder = SentenceTransformer(model, device="cpu")
    except (OSError, ValueError) as error:
        raise ModelError(
            f"evaluate.embedding: {model} cannot be loaded: {first_line(error)}", "name the folder or Hub id of a sentence-transformers model"
        ) from error
    ours, theirs = (
        embedder.encode(texts, normalize_embeddings=True, show_progress_bar=False) for texts in ([a.reply for a in given], [a.expected for a in given])
    )
    values = {a.id: float(x @ y) for a, x, y in zip(given, ours, theirs, strict=True)}
    return (
        [
            Column(
                "taught.similarity",
                "Likeness in meaning to the taught answer",
                values,
                {a.id: a.group or a.topic for a in given if a.group or a.topic},
                unit="cosine",
            )
        ]
        if given
        else []
    )
