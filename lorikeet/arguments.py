"""The command line's arguments: every command with its options, and an example of each. What they do is cli.py's."""

import argparse
import os
from collections.abc import Callable, Mapping
from pathlib import Path

from lorikeet import storage

Command = Callable[[argparse.Namespace], int]
Add = Callable[[str, str, str], argparse.ArgumentParser]
"""Adds a command: its name, what it is about, an example."""


CLUSTER = "do the steps on a Ray cluster: `ray` for one on this machine, ray://HOST:PORT, or HOST:PORT from one of its nodes"


def parser(commands: Mapping[str, Command], version: str) -> argparse.ArgumentParser:
    """The parser of all commands; what is parsed carries the one that was named, as `command`."""
    whole = argparse.ArgumentParser(
        prog="lorikeet", description="From a dataset to a small assistant on a plain CPU, with the evidence that it may be trusted."
    )
    whole.add_argument("--version", action="version", version=version)
    subparsers = whole.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def add(name: str, about: str, example: str) -> argparse.ArgumentParser:
        sub = subparsers.add_parser(name, help=about, description=about, epilog=f"example: {example}")
        sub.add_argument("--json", action="store_true", help="one JSON document on standard output, progress on standard error")
        sub.set_defaults(command=commands[name])
        return sub

    for group in (_beginning, _running, _serving, _examining, _once_more):
        group(add)
    return whole


def _beginning(add: Add) -> None:
    demo = add("demo", "the bundled first-aid assistant, end to end", "lorikeet demo --out runs/first-aid")
    demo.add_argument("--out", type=Path, help="the run folder (default: runs/first-aid)")
    init = add("init", "a folder with recipe, data and suite to edit", "lorikeet init my-assistant --like first-aid")
    init.add_argument("name", help="the new assistant's name; also the folder's")
    init.add_argument("--like", default="first-aid", help="the bundled recipe to start from (default: first-aid)")
    check = add("check", "read data as training would: problems, groups, what gets loss", "lorikeet check recipes/first-aid/recipe.yaml --show 2")
    check.add_argument("what", nargs="+", metavar="RECIPE|FILE", help="a recipe, files of rows, or a data set of the Hub (owner/name@commit)")
    check.add_argument("--show", type=int, default=0, metavar="N", help="paint the tokens with and without loss of N rows; files need --base")
    check.add_argument("--base", help="files: count lengths in the tokens of this base, and try the mask of its chat template")
    check.add_argument("--rows", type=_count, metavar="N", help="of a data set of the Hub, read the first N rows")
    check.add_argument("--fix", type=Path, metavar="FOLDER", help="write a cleaned copy there, and a list of what was left out or mended and why")
    add("bases", "the bases by name: size, licence, where from, whether this machine can tune them", "lorikeet bases")


def _running(add: Add) -> None:
    for name, about in (
        ("plan", "the steps, which would run and why; changes nothing"),
        ("run", "run what changed"),
        *((stage, f"run what changed, up to {stage}") for stage in ("data", "train", "evaluate", "export", "audit")),
    ):
        sub = add(name, about, f"lorikeet {name} recipes/first-aid/recipe.yaml")
        sub.add_argument("recipe", type=Path, nargs="?" if name == "audit" else None, help="a recipe.yaml")
        sub.add_argument("--set", action="append", default=[], metavar="A.B=VALUE", help="change a key of the recipe for this run")
        sub.add_argument("--out", type=storage.folder, help="the run folder (default: runs/NAME); also s3://BUCKET/NAME and the like")
        if name == "audit":
            _audit_options(sub)
        if name != "plan":
            sub.add_argument("--on", default="", metavar="CLUSTER", help=CLUSTER)
        if name == "run":
            sub.add_argument("--until", metavar="STAGE", help="stop after this stage")
        else:
            sub.set_defaults(until=None if name == "plan" else name)


def _serving(add: Add) -> None:
    for name, about in (("chat", "a terminal chat"), ("serve", "an OpenAI-compatible API and a web page")):
        sub = add(name, about, f"lorikeet {name} runs/first-aid")
        about_target = "a run folder, or a GGUF file that a release approves"
        if name == "chat":
            sub.add_argument("target", type=storage.folder, metavar="RUN|GGUF", help=about_target)
        else:
            sub.add_argument(
                "targets", nargs="*", type=storage.folder, metavar="RUN|GGUF", help=f"{about_target}; several, or none for all approved runs in runs/"
            )
        sub.add_argument("--unreleased", action="store_true", help="take a file that no release approves, under a red banner")
        which = sub.add_mutually_exclusive_group()
        which.add_argument("--quantisation", metavar="NAME", help="another file of the run than the recommended one")
        which.add_argument("--endpoint", metavar="URL#MODEL", help="in place of the run's file what answers at http://HOST/v1, as its assistant; --unreleased")
        sub.add_argument("--threads", type=_count, default=0, help="threads (default: one a core; fewer where other work keeps the cores busy)")
        sub.add_argument("--guard", nargs="?", const="", metavar="SUITE", help="stop answers that break a must-never rule of the run's suite, or of another")
    sub.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine only)")
    sub.add_argument("--port", type=int, default=7860, help="port to listen on (default: 7860)")
    sub.add_argument(
        "--key", default=os.environ.get("LORIKEET_KEY"), help="API key that requests must carry (default: $LORIKEET_KEY); needed beyond this machine"
    )
    sub.add_argument("--open", action="store_true", help="let anybody in without a key, as a public Space does")
    sub.add_argument("--slots", type=_count, default=8, help="conversations answered at a time, of each loaded file (default: 8)")
    sub.add_argument("--context", type=_count, default=2048, help="tokens of a conversation, with the answer (default: 2048)")
    sub.add_argument("--no-feedback", action="store_true", help="ask for no ratings")
    sub.add_argument("--sync", metavar="OWNER/NAME", help="push ratings to this private data set of the Hugging Face Hub")


def _examining(add: Add) -> None:
    diagnose = add("diagnose", "what happened in a training run, in words; any trainer's", "lorikeet diagnose runs/first-aid")
    diagnose.add_argument("log", type=storage.folder, metavar="DIR|FILE", help="a run folder, a trainer's output folder or checkpoint, or a trainer_state.json")
    parity = add("parity", "whether a GGUF is the model it was made from, by tokens, template, logits and answers; and if not, why",
                 "lorikeet parity model-F16.gguf --model runs/first-aid")  # fmt: skip
    parity.add_argument("gguf", type=Path, metavar="GGUF", help="a GGUF file, from whatever trainer")
    parity.add_argument("--model", required=True, metavar="DIR", help="the HF model: a folder of safetensors, an adapter's folder, a run, or a base")
    parity.add_argument("--base", default="", help="the base of an adapter's folder, where it is not where it was")
    parity.add_argument("--rows", type=Path, metavar="FILE", help="rows whose conversations are compared (default: the run's held-out ones, or three of ours)")
    parity.add_argument("--count", type=_count, default=4, metavar="N", help="conversations to compare (default: 4)")
    parity.add_argument("--threads", type=_count, default=0, help="threads (default: one a core)")
    compare = add("compare", "two models side by side over the same questions, with paired statistics",
                  "lorikeet compare runs/a:base runs/a --suite suite.yaml")  # fmt: skip
    compare.add_argument("models", nargs=2, metavar="MODEL",
                         help="RUN, RUN:Q4_K_M, RUN:base, RUN:tuned, a .gguf file, a folder of a model or adapter, a base, http://HOST/v1#MODEL")  # fmt: skip
    asked = compare.add_mutually_exclusive_group()
    asked.add_argument("--suite", type=Path, help="a suite.yaml, whose rules judge the answers")
    asked.add_argument("--questions", type=Path, help="a .txt file, one question a line, or rows whose answers are the reference")
    compare.add_argument("--benchmark", action="append", default=[], metavar="TASK[=FILE]", help="a task of lm-eval, with a file of its rows or from the Hub")
    compare.add_argument("--count", type=_count, metavar="N", help="ask N of the questions, and of each benchmark, evenly spread (default: all)")
    compare.add_argument("--system", help="system turn for both (default: that of the first run named, or none)")
    compare.add_argument("--base", default="", help="the base of an adapter's folder, where it is not where it was")
    compare.add_argument("--judge", default="", metavar="ADDRESS", help="http://HOST/v1#MODEL that says which of two answers is better; not believed blindly")
    compare.add_argument("--judge-budget", type=_count, default=500_000, metavar="TOKENS", help="tokens that the judge may use (default: 500000)")
    compare.add_argument("--max-new-tokens", type=_count, default=128, metavar="N", help="cap on an answer (default: 128)")
    compare.add_argument("--temperature", type=float, default=0.0, help="0 takes the likeliest token (default)")
    compare.add_argument("--seed", type=int, default=7, help="of drawn answers and of intervals (default: 7)")
    compare.add_argument("--threads", type=_count, default=0, help="threads (default: one a core)")
    compare.add_argument("--out", type=Path, help="the folder to write to (default: compare-A-B)")


def _once_more(add: Add) -> None:
    diff = add("diff", "two runs: what differs in their making and in their answers, and whether a cause can be named", "lorikeet diff runs/a runs/b")
    diff.add_argument("runs", nargs=2, type=storage.folder, metavar="RUN", help="a run folder")
    rerun = add("rerun", "a run once more with one thing changed, and the difference", "lorikeet rerun runs/a --change train.learning_rate=0.001")
    rerun.add_argument("run", type=Path, metavar="RUN", help="a run folder")
    rerun.add_argument("--change", action="append", default=[], metavar="A.B=VALUE", help="the one thing (default: what `lorikeet diagnose` advises)")
    rerun.add_argument("--out", type=Path, help="the new run folder (default: RUN-A.B-VALUE)")
    rerun.add_argument("--on", default="", metavar="CLUSTER", help=CLUSTER)
    sweep = add("sweep", "a controlled experiment: settings of training varied, several seeds each, and a verdict for every one",
                "lorikeet sweep recipe.yaml --vary train.learning_rate=0.001,0.002 --seeds 3")  # fmt: skip
    sweep.add_argument("recipe", type=Path, help="a recipe.yaml")
    sweep.add_argument("--vary", action="append", required=True, metavar="KEY=V1,V2",
                       help="a setting of training and its values; one at a time, if several; with --search also a range, KEY=LOW..HIGH")  # fmt: skip
    sweep.add_argument(
        "--search", type=_count, default=0, metavar="N", help="train N settings that Optuna proposes, and hold the best against the recipe's own"
    )
    sweep.add_argument("--grid", action="store_true", help="train every combination of the values")
    sweep.add_argument("--together", action="store_true", help="change all at once, first values with first values; no cause can be named then")
    sweep.add_argument("--seeds", type=_count, default=3, metavar="N", help="trainings of each (default: 3); with --search those by which the best is judged")
    sweep.add_argument("--set", action="append", default=[], metavar="A.B=VALUE", help="change a key of the recipe for all of them")
    sweep.add_argument("--out", type=storage.folder, help="the folder to work in, or a URL (default: runs/NAME-sweep)")
    sweep.add_argument("--on", default="", metavar="CLUSTER", help=CLUSTER)
    report = add("report", "write the report of a run again, and say where it is", "lorikeet report runs/first-aid")
    report.add_argument("run", type=storage.folder, help="a run folder")
    feedback = add("feedback", "what users said: counts by model, file, assistant and week; ratings to read; rows for the next round",
                   "lorikeet feedback runs/first-aid --export rated.jsonl")  # fmt: skip
    feedback.add_argument("run", type=Path, metavar="RUN|FOLDER|FILE", help="a run folder, or the folder or file of ratings")
    feedback.add_argument("--show", choices=("all", "liked", "disliked", "commented"), help="the ratings one after another")
    feedback.add_argument("--export", type=Path, metavar="FILE", help="write labelled rows, which train.objective: kto learns from, as .jsonl")
    feedback.add_argument("--released", action="store_true", help="only ratings of files that the run's release approves")
    feedback.add_argument("--review", action="store_true", help="a page on which you accept, reject or mend the ratings that a round would set aside")
    feedback.add_argument("--port", type=int, default=7861, help="port of that page (default: 7861)")
    _publishing(add)
    add("doctor", "whether this machine can do it all: packages, default base, llama.cpp, memory, disk", "lorikeet doctor")
    tidy = add("tidy", "what in a run's folder nothing refers to any more: earlier steps, tries that were broken off", "lorikeet tidy runs/first-aid --remove")
    tidy.add_argument("run", type=Path, metavar="RUN", help="a run folder")
    tidy.add_argument("--remove", action="store_true", help="remove it; without this it is only listed")
    retrain = add("retrain", "round two: a challenger trained from the run's ratings, which is served only if it beats the champion",
                  "lorikeet retrain runs/first-aid")  # fmt: skip
    retrain.add_argument("run", type=Path, metavar="RUN", help="a run folder with ratings")
    retrain.add_argument("--set", action="append", default=[], metavar="a.b=value", help="change a setting of the challenger's recipe; may be repeated")
    retrain.add_argument("--on", default="", metavar="CLUSTER", help=CLUSTER)
    retrain.add_argument("--sift", action="store_true", help="tell what would be learned from and what is set aside, and why; train nothing")


def _publishing(add: Add) -> None:
    publish = add("publish", "what passed its audit, to the Hugging Face Hub or into a folder: files, adapter, a card of evidence; rows; a Space",
                  "lorikeet publish runs/first-aid --to me/first-aid --dry-run")  # fmt: skip
    publish.add_argument("run", type=storage.folder, metavar="RUN", help="a run folder with a release")
    publish.add_argument("--to", metavar="OWNER/NAME", help="the model repository")
    publish.add_argument("--folder", type=Path, metavar="DIR", help="the same as a folder here, for Ollama and llama.cpp")
    publish.add_argument("--dry-run", action="store_true", help="list every file and byte that would go up; ask nobody")
    publish.add_argument("--quantisation", default="", metavar="NAME", help="this file alone; it has to be approved")
    publish.add_argument("--merged", action="store_true", help="the whole model as safetensors too (a run with export.merged)")
    publish.add_argument("--data", metavar="OWNER/NAME", help="the rows too, as a data set, where their licence lets them")
    publish.add_argument("--space", metavar="OWNER/NAME", help="a Gradio Space too, that serves the repository of --to")
    publish.add_argument("--feedback", default="", metavar="OWNER/NAME", help="with --space: the private data set that its ratings go to")
    publish.add_argument("--private", action="store_true", help="make new repositories private")
    publish.add_argument("--about", type=Path, metavar="FILE", help="your own words for the card, in Markdown")
    publish.add_argument("--data-licence", default="", metavar="ID", help="the licence of the rows, where the recipe does not say it (data.licence)")
    publish.add_argument("--base-licence", default="", metavar="ID", help="the licence of the base, where it is not known")
    publish.add_argument("--check", type=Path, metavar="CARD", help="hold a card (README.md) against the evidence, figure by figure; publish nothing")


def _audit_options(sub: argparse.ArgumentParser) -> None:
    """What is audited without a recipe: anybody's files, or answers from anywhere."""
    what = sub.add_mutually_exclusive_group()
    what.add_argument("--gguf", nargs="+", type=Path, metavar="FILE", help="in place of a recipe: GGUF files from anywhere")
    what.add_argument("--answers", type=Path, metavar="FILE", help="in place of a recipe: a .jsonl file of rows with a question and an answer")
    what.add_argument("--endpoint", metavar="URL#MODEL", help="in place of a recipe: what answers at http://HOST/v1 (docs/evaluate.md)")
    sub.add_argument("--parent", type=Path, metavar="FILE", help="with --gguf: the file that they were made from, such as an F16; it is judged too")
    sub.add_argument("--suite", metavar="FILE|NAME", default="first-aid", help="a suite.yaml, or one that ships with Lorikeet (default: first-aid)")
    turn = sub.add_mutually_exclusive_group()
    turn.add_argument("--system", default="", help="with --gguf or --endpoint: the system turn that goes before every question")
    turn.add_argument("--persona", type=Path, metavar="FILE", help="with --gguf or --endpoint: a persona.yaml, whose system turn and modes are asked in")
    sub.add_argument("--seed", type=int, default=7, help="with --gguf or --endpoint: of drawn answers and of intervals (default: 7)")
    sub.add_argument("--threads", type=_count, default=0, help="with --gguf: threads (default: one a core)")
    sub.epilog = "examples: lorikeet audit recipe.yaml; lorikeet audit --gguf model-Q4_K_M.gguf --parent model-F16.gguf --suite suite.yaml"


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("1 or more is needed")
    return number
