"""A Space runs from its own folder, with the part of the package that lies in it, and answers; what it installs needs no torch."""

import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from ports import free_port, until_healthy
from toy_release import released_run

from lorikeet import bases
from lorikeet.publish import space, stage
from lorikeet.publish.stage import Wanted
from lorikeet.weights import NAMED


def test_what_a_space_installs_is_pinned_and_has_no_torch() -> None:
    lines = space.pinned()
    assert all(line.count("==") == 1 for line in lines)
    names = {line.partition("==")[0].lower() for line in lines}
    assert {"gradio", "xllamacpp", "uvicorn", "fastapi"} <= names
    assert not names & {"torch", "transformers", "peft", "trl"}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_space_runs_from_its_folder_and_answers(tmp_path: Path) -> None:
    base = bases.wheel_file(NAMED["smollm2-135m"])
    planned = stage.plan(released_run(tmp_path / "run", base), Wanted("me/helper", quantisation="Q8_0", space="me/space"))
    stage.write(planned, tmp_path / "helper")
    port = free_port()
    here = {**os.environ, "LORIKEET_MODEL": str(tmp_path / "helper"), "GRADIO_SERVER_NAME": "127.0.0.1", "GRADIO_SERVER_PORT": str(port)}
    folder = tmp_path / "helper-space"
    found = subprocess.run(
        [sys.executable, "-c", "import lorikeet; print(lorikeet.__file__)"], cwd=folder, capture_output=True, text=True, check=True, env=here
    )
    assert found.stdout.startswith(str(folder)), "it serves with the package in its folder"
    with subprocess.Popen([sys.executable, "app.py"], cwd=folder, env=here, stderr=subprocess.PIPE) as process:
        try:
            address = f"http://127.0.0.1:{port}"
            until_healthy(address, process)
            body = json.dumps({"messages": [{"role": "user", "content": "What is the capital of France?"}], "max_tokens": 16}).encode()
            request = urllib.request.Request(f"{address}/v1/chat/completions", body, {"Content-Type": "application/json"})
            with urllib.request.urlopen(request, timeout=60) as answer:
                told = json.load(answer)
            assert told["choices"][0]["message"]["content"].strip()
            assert told["model"] == "helper-Q8_0"
        finally:
            process.terminate()
            process.wait(30)
