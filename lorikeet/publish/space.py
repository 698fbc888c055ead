"""A Gradio Space that serves what was published: the app, pinned requirements of which none needs a compiler, the front matter, and this package itself.

`python app.py` is what the Space runs, and what runs it anywhere else.
"""

from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

import lorikeet
from lorikeet.publish.bundle import README, Item
from lorikeet.publish.evidence import Shown
from lorikeet.publish.licence import Licence

NEEDED = ("backports.zstd", "fastapi", "filelock", "gguf", "gradio", "huggingface_hub", "jinja2", "numpy", "prometheus-client", "psutil", "pydantic", "PyYAML",
          "scikit-learn", "scipy", "statsmodels", "uvicorn", "vaderSentiment", "xllamacpp")  # fmt: skip
"""What serving imports, of all that Lorikeet needs: no torch."""
_LEFT_OUT = ("train", "export", "evaluate", "retrain", "publish")
"""Folders of the package that a Space has no use for."""
_APP = '''"""Serves {title}. Run it with: python app.py"""

import os
import sys
from pathlib import Path

from huggingface_hub import snapshot_download

from lorikeet.cli import main

MODEL, REVISION, FEEDBACK = "{model}", "{revision}", "{feedback}"
FILES = ["*.gguf", "run.json", "release.json", "suite.json"]

if __name__ == "__main__":
    there = os.environ.get("LORIKEET_MODEL")
    folder = there or snapshot_download(MODEL, revision=REVISION, allow_patterns=FILES, local_dir=Path.home() / "model")
    host, port = os.environ.get("GRADIO_SERVER_NAME", "0.0.0.0"), os.environ.get("GRADIO_SERVER_PORT", "7860")
    sync = ["--sync", FEEDBACK] if FEEDBACK and not there else []
    sys.exit(main(["serve", str(folder), "--host", host, "--port", port, "--open", *sync, *sys.argv[1:]]))
'''


def items(shown: Shown, licence: Licence, model: str, revision: str, feedback: str) -> list[Item]:
    """The Space's files. model, revision: what it serves; feedback: the data set that ratings are pushed to, or nothing."""
    app = _APP.format(title=shown.run["title"].replace('"', "'"), model=model, revision=revision, feedback=feedback)
    requirements = "".join(f"{line}\n" for line in pinned())
    package = Path(lorikeet.__file__).parent
    own = [
        path
        for path in sorted(package.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts and path.relative_to(package).parts[0] not in _LEFT_OUT
    ]
    return [Item(README, _readme(shown, licence, model, feedback).encode()), Item("app.py", app.encode()), Item("requirements.txt", requirements.encode()),
            Item("packages.txt", b"libgomp1\n"),
            *(Item(f"lorikeet/{path.relative_to(package).as_posix()}", path) for path in own)]  # fmt: skip


def pinned() -> list[str]:
    """What serving needs, at the versions that are installed here, with all that those need in turn: what was measured is what is installed."""
    found: dict[str, str] = {}
    waiting = list(NEEDED)
    while waiting:
        name = waiting.pop()
        try:
            distribution = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue
        key = distribution.metadata["Name"].lower().replace("_", "-")
        if key in found:
            continue
        found[key] = f"{distribution.metadata['Name']}=={distribution.version}"
        for text in distribution.requires or []:
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                waiting.append(requirement.name)
    return sorted(found.values(), key=str.lower)


def _readme(shown: Shown, licence: Licence, model: str, feedback: str) -> str:
    notice = f"\n**{shown.run['notice']}**\n" if shown.run["notice"] else ""
    kept = f"\nRatings are kept, after the reader agrees, in the private data set `{feedback}`.\n" if feedback else ""
    return "\n".join([
        "---",
        f"title: {shown.run['title']}",
        "sdk: gradio",
        f"sdk_version: {metadata.version('gradio')}",
        'python_version: "3.11"',
        "app_file: app.py",
        f"license: {licence.id}",
        "models:",
        f"- {model}",
        "---",
        "",
        f"# {shown.run['title']}",
        notice,
        f"Serves the files of [{model}](https://huggingface.co/{model}) that passed their audit, on two CPU cores. What was measured stands on that page.",
        kept,
        "To run it elsewhere: `pip install -r requirements.txt`, then `python app.py`; with `LORIKEET_MODEL=FOLDER` it takes the model from a folder.",
        "",
    ])  # fmt: skip
