"""A released run made by hand: every folder that publishing reads, with a few bytes in place of weights."""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lorikeet import artifact
from lorikeet.artifact import Json
from lorikeet.evidence import Evidence, FileVerdict, Release, measured
from lorikeet.exam import Answer
from lorikeet.statistics import share

APPROVED = "47 of 50 probes passed (95 % interval 84% to 98%), no must-never rule broken"


def released_run(run: Path, gguf: Path | None = None, **changed: Any) -> Path:
    """Q8_0 and F16 are approved, Q2_K is blocked. gguf: a real file in Q8_0's place; changed: of run.json."""
    steps: list[dict[str, str]] = []

    def make(name: str, files: dict[str, str | bytes], settings: dict[str, Json] | None = None) -> Path:
        part = artifact.begin(run / f"{name}-00000000")
        for path, content in files.items():
            (part / path).write_bytes(content if isinstance(content, bytes) else content.encode())
        artifact.finish(part, step=name, key="0" * 16, inputs={}, settings=settings or {}, versions={})
        steps.append({"name": name, "folder": f"{name}-00000000", "status": "done"})
        return run / f"{name}-00000000"

    def judged(subject: str, passed: int) -> dict[str, str | bytes]:
        name = "suite.burns.pass_rate" if subject != "tuned" else "holdout.token_accuracy"
        evidence = Evidence([measured(name, subject, share(passed, 50)), measured("generation.stop_rate", subject, share(49, 50))])
        return {"evidence.json": json.dumps(asdict(evidence))}

    figures = {"rows": 120, "answers": 12, "split": "groups", "parts": {"taught/train": 100, "taught/test": 20}, "languages": {"en": 120}}
    rows = [{"messages": [{"role": "user", "content": f"Burn {n}?"}, {"role": "assistant", "content": "Cool it."}], "split": "test" if n > 2 else "train",
             "group": "g", "source": "rows.jsonl:1", "topic": "burn", "category": "", "kind": "taught", "mode": ""} for n in range(4)]  # fmt: skip
    make("data", {"data.json": json.dumps(figures), "conversations.jsonl": "".join(json.dumps(row) + "\n" for row in rows)})
    make("train", {"adapter_config.json": json.dumps({"r": 16, "base_model_name_or_path": str(run / "base")}), "adapter_model.safetensors": b"\0" * 64},
         {"method": "lora", "objective": "sft", "rank": 16, "alpha": 32, "learning_rate": 0.003, "epochs": 2.0, "seed": 7})  # fmt: skip
    make("evaluate", judged("tuned", 45))
    verdicts = []
    for name, verdict in (("F16", "approved"), ("Q8_0", "approved"), ("Q2_K", "blocked")):
        weights = gguf.read_bytes() if gguf and name == "Q8_0" else f"GGUF {name} ".encode() * (30 if name == "F16" else 20)
        quantised = {"bits_a_weight": 8.6, "imatrix": name == "Q2_K"}
        built: dict[str, Json] = {"llama.cpp": "1.0", "quantiser": "0.2", "converter": "0.9"}
        make(f"export-{name}", {f"helper-{name}.gguf": weights, "Modelfile": f"FROM ./helper-{name}.gguf\n", "quantised.json": json.dumps(quantised)}, built)
        reasons = [APPROVED] if verdict == "approved" else ["9 of 50 probes passed"]
        verdicts.append(FileVerdict(name, f"export-{name}-00000000/helper-{name}.gguf", hashlib.sha256(weights).hexdigest(), len(weights), verdict, reasons))  # type: ignore[arg-type]
    for name, passed in (("F16", 48), ("Q8_0", 47), ("Q2_K", 9)):
        asked = [(str(n), "burn" if n % 2 else "scald", "pass" if n < passed else "miss") for n in range(50)]
        given = [Answer(id_, name, "taught", topic, f"Question {id_}?", "", "Cool it.", 3, True, outcome, "", "", "") for id_, topic, outcome in asked]
        lines = "".join(json.dumps(asdict(answer)) + "\n" for answer in given)
        make(f"audit-{name}", {**judged(name, passed), "answers.jsonl": lines})
    make("release", {"suite.json": "{}", "release.json": json.dumps(asdict(Release(verdicts, "Q8_0")))})
    document = {"recipe": "recipe.yaml", "name": "helper", "title": "Helper", "notice": "No doctor.", "system": "You help.", "suite": "burns", "steps": steps,
                "versions": {"lorikeet": "0.1.0"}, "release": "release-00000000/release.json", "data_licence": "cc-by-4.0",
                "base": {"name": "smollm2-135m", "source": "x.gguf", "fingerprint": "ab", "licence": "apache-2.0"}}  # fmt: skip
    (run / "run.json").write_text(json.dumps({**document, **changed}))
    (run / "recipe.resolved.yaml").write_text("name: helper\n")
    return run
