"""Everything that leaves, as files with their place: GGUFs that are approved, adapter, evidence and card; or the rows. Searched for what is private, first."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from lorikeet.artifact import RUN, Json
from lorikeet.errors import RecipeError, RefusedError
from lorikeet.evidence import RELEASE, SUITE
from lorikeet.private import knowing_secrets, personal_kind, secret_kind
from lorikeet.publish import card
from lorikeet.publish.evidence import Shown
from lorikeet.publish.licence import Licence
from lorikeet.weights import ADAPTER_CONFIG, ADAPTER_WEIGHTS

README, MODELFILE = "README.md", "Modelfile"
_ADAPTER = (ADAPTER_CONFIG, ADAPTER_WEIGHTS, "tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "special_tokens_map.json")
_PERSONA = ("name", "title", "notice", "greeting", "examples", "system", "modes", "single_turn", "safe_reply", "quiz", "layout", "sentiment_model",
            "politeness_model", "emergency_number", "suite", "versions", "base")  # fmt: skip
"""What a copy of run.json says: how the assistant speaks, and nothing of the machine."""
_TEXT = (".md", ".json", ".jsonl", ".txt", ".yaml", ".py", ".jinja", "")
_TOKENIZER = re.compile(r"tokenizer\.json$")
_MACHINE = re.compile(r"(?<![\w./:])/(?:home|root|tmp|work|Users|mnt|var|opt|data)/[\w.-]+")


@dataclass(frozen=True)
class Item:
    """A file that goes up: its place, and its content or where it lies."""

    path: str
    content: Path | bytes

    @property
    def size(self) -> int:
        """In bytes."""
        return self.content.stat().st_size if isinstance(self.content, Path) else len(self.content)

    def read(self) -> bytes:
        return self.content.read_bytes() if isinstance(self.content, Path) else self.content


def model(shown: Shown, licence: Licence, name: str, about: str, quantisation: str = "", *, merged: bool = False) -> list[Item]:
    """The model repository. quantisation: one, where not all approved ones are wanted. RefusedError for one that is not approved."""
    shown = only(shown, quantisation)
    files = [Item(Path(f.path).name, shown.folder / f.path) for f in shown.approved]
    best = (shown.folder / shown.recommended.path).parent
    files += [Item(MODELFILE, best / MODELFILE)] if (best / MODELFILE).is_file() else []
    trained = shown.made["train"].path
    if (trained / ADAPTER_CONFIG).is_file():
        files += [Item(f"adapter/{part}", trained / part) for part in _ADAPTER if part != ADAPTER_CONFIG and (trained / part).is_file()]
        config = json.loads((trained / ADAPTER_CONFIG).read_text(encoding="utf-8")) | {"base_model_name_or_path": shown.base}
        files.append(_json(f"adapter/{ADAPTER_CONFIG}", config))
    if merged:
        if "merged" not in shown.made:
            raise RecipeError("the run has no merged model", "run its recipe with --set export.merged=true, which makes one from what is trained already")
        files += [Item(f"merged/{part.name}", part) for part in sorted(shown.made["merged"].path.iterdir()) if part.is_file() and part.name != "manifest.json"]
    release = {"files": [{**asdict(f), "path": Path(f.path).name} for f in shown.release.files], "recommended": shown.release.recommended}
    persona = {key: shown.run[key] for key in _PERSONA if key in shown.run}
    files += [_json(RELEASE, release), _json(RUN, {**persona, "release": RELEASE, "steps": []})]
    files.append(Item(SUITE, shown.made["release"].file(SUITE)))
    files.append(_json("evidence/evaluate.json", asdict(shown.evaluation)))
    files += [_json(f"evidence/audit-{q}.json", asdict(evidence)) for q, evidence in shown.audits.items()]
    use = usage(shown, name)
    text = card.card(shown, licence, use, about)
    card.require(text, shown, licence, use)
    return sorted([Item(README, text.encode()), *files], key=lambda item: item.path)


def only(shown: Shown, quantisation: str) -> Shown:
    """The same with one of the approved files alone; as it is where none is named."""
    if not quantisation:
        return shown
    wanted = next((f for f in shown.release.files if f.quantisation.lower() == quantisation.lower()), None)
    if wanted is None:
        raise RecipeError(f"the run has no {quantisation}", f"use one of: {', '.join(f.quantisation for f in shown.release.files)}")
    if wanted.verdict != "approved":
        raise RefusedError(
            f"{wanted.quantisation} is not published: {wanted.verdict} ({'; '.join(wanted.reasons)})", "publish one that is approved; nothing else leaves"
        )
    left = [f for f in shown.release.files if f is wanted or f.verdict != "approved"]
    return replace(shown, release=replace(shown.release, files=left, recommended=wanted.quantisation))


def usage(shown: Shown, name: str) -> str:
    """Three commands for Ollama, and as many for llama.cpp and Lorikeet."""
    file, folder = Path(shown.recommended.path).name, name.rpartition("/")[2]
    system = (
        f'\n\nThe system turn that it was examined with is "{shown.run["system"]}"; the Modelfile sets it, elsewhere give it yourself.'
        if shown.run["system"]
        else ""
    )
    return f"""```
hf download {name} --local-dir {folder}
ollama create {folder} -f {folder}/Modelfile
ollama run {folder}
```

With llama.cpp: `llama-server -m {folder}/{file}`. With Lorikeet, which holds the file against the release beside it: `lorikeet serve {folder}`.{system}"""


def rows(shown: Shown, licence: str) -> list[Item]:
    """The data set repository: the rows as they were split, without what a row does not need."""
    data = shown.made["data"]
    parts: dict[str, list[str]] = {}
    with data.file("conversations.jsonl").open(encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            kept = {key: row[key] for key in ("messages", "topic", "category", "kind", "mode") if row.get(key)}
            parts.setdefault(row["split"], []).append(json.dumps(kept, ensure_ascii=False) + "\n")
    listed = "".join(f"  - split: {part}\n    path: data/{part}.jsonl\n" for part in ("train", "validation", "test") if part in parts)
    head = f"---\nlicense: {licence}\ntask_categories:\n- text-generation\nconfigs:\n- config_name: default\n  data_files:\n{listed}---\n"
    told = "\n".join(f"| {part} | {len(lines)} |" for part, lines in parts.items())
    text = (f"{head}\n# Rows of {shown.run['title']}\n\nConversations as `messages`, split by {shown.data['split']} as the model was trained and examined.\n\n"
            f"| part | rows |\n|---|---|\n{told}\n\n## Licence\n\n{licence}, as their owner says.\n")  # fmt: skip
    return [Item(README, text.encode()), *(Item(f"data/{part}.jsonl", "".join(lines).encode()) for part, lines in sorted(parts.items()))]


def _json(path: str, document: Mapping[str, Any] | Mapping[str, Json]) -> Item:
    return Item(path, (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode())


def require_clean(items: list[Item]) -> None:
    """RefusedError for the first file with a secret, personal data, or a path of this machine in it."""
    with knowing_secrets():
        for item in items:
            if Path(item.path).suffix not in _TEXT or _TOKENIZER.search(item.path):
                continue
            text = item.read().decode("utf-8", "replace")
            for found in _private(text):
                raise RefusedError(
                    f"{item.path} is not published: it holds {found}", "take it out of the rows, the persona or the words for the card, and run again"
                )


def _private(text: str) -> Iterator[str]:
    if kind := secret_kind(text):
        yield f"a secret ({kind})"
    if kind := personal_kind(text):
        yield f"personal data ({kind})"
    if path := _MACHINE.search(text):
        yield f"a path of this machine ({path[0]})"


def told(items: list[Item]) -> str:
    """Every file with its bytes, and the sum."""
    lines = [f"{item.size:>14,}  {item.path}" for item in items]
    return "\n".join([*lines, f"{sum(item.size for item in items):>14,}  in {len(items)} files"])


def write(items: list[Item], folder: Path) -> None:
    """The same as a folder here; RecipeError where it is there already or cannot be made."""
    import shutil

    try:
        folder.mkdir(parents=True)
        for item in items:
            place = folder / item.path
            place.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(item.content, Path):
                shutil.copyfile(item.content, place)
            else:
                place.write_bytes(item.content)
    except FileExistsError:
        raise RecipeError(f"{folder} exists already", "choose another name, or remove the folder") from None
    except OSError as error:
        raise RecipeError(f"{folder} cannot be written: {error.strerror}", "choose a folder that you may write to") from error
