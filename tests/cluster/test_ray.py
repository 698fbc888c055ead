"""Two Ray nodes on this machine do what one process does, and a node that dies changes nothing."""

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lorikeet import pipeline, sweep
from lorikeet.artifact import Artifact
from lorikeet.cluster.crew import RayCrew
from lorikeet.errors import MachineError, ModelError
from lorikeet.progress import Silent
from lorikeet.recipe import LoadedRecipe, MachineSettings, load_recipe

pytestmark = pytest.mark.slow
SETTINGS = ("machine.workers=2", "machine.worker_cpus=1", "machine.threads=1", "train.precision=fp32", "export.quantisations=[Q8_0, Q4_0]")


@pytest.fixture(scope="module")
def two_nodes() -> Iterator[Any]:
    """A cluster of two nodes, each with two processors as far as Ray is concerned; a further one may be added and killed."""
    os.environ["RAY_TRAIN_V2_ENABLED"] = "1"
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    cluster.add_node(num_cpus=2)
    ray.init(address=cluster.address, log_to_driver=False)
    yield cluster
    ray.shutdown()
    cluster.shutdown()


def recipe_of(path: Path, *changes: str) -> LoadedRecipe:
    return load_recipe(path, [*SETTINGS, *changes])


def on_nodes(recipe: LoadedRecipe, out: Path, until: str | None = None) -> pipeline.Run:
    return pipeline.run(recipe, out, Silent(), until, RayCrew(recipe.recipe.machine))


def weights(made: Artifact) -> dict[str, np.ndarray]:
    from safetensors.numpy import load_file

    found: dict[str, np.ndarray] = load_file(made.path / "adapter_model.safetensors")
    return found


def assert_alike(one: Artifact, other: Artifact) -> None:
    assert one.path.name == other.path.name
    others = weights(other)
    for name, w in weights(one).items():
        assert abs(w - others[name]).max() < 1e-4 * max(1.0, abs(w).max()), name


def test_two_nodes_give_the_evidence_that_one_process_gives(two_nodes: Any, tiny_recipe: Path, tmp_path: Path) -> None:
    recipe = recipe_of(tiny_recipe)
    plain, rayed = pipeline.run(recipe, tmp_path / "plain", Silent()), on_nodes(recipe, tmp_path / "rayed")
    assert [(s.name, s.status) for s in rayed.steps] == [(s.name, s.status) for s in plain.steps]
    assert plain.artifacts["data"].fingerprint == rayed.artifacts["data"].fingerprint
    assert_alike(plain.artifacts["train"], rayed.artifacts["train"])
    for name in ("evaluate", "audit-F16", "audit-Q8_0", "audit-Q4_0"):
        one, other = ([json.loads(line) for line in (walked.artifacts[name].path / "answers.jsonl").read_text().splitlines()] for walked in (plain, rayed))
        assert [(a["id"], a["subject"], a["reply"]) for a in one] == [(a["id"], a["subject"], a["reply"]) for a in other]
    assert {s.status for s in on_nodes(recipe, tmp_path / "rayed").steps} == {"reused"}


def test_audits_side_by_side_are_row_for_row_those_of_one_process(two_nodes: Any, tiny_recipe: Path, tmp_path: Path) -> None:
    recipe = recipe_of(tiny_recipe, "machine.workers=1", "export.quantisations=[Q8_0, Q4_K_M, Q4_0, Q3_K_L, Q3_K_M, Q2_K]")
    done = pipeline.run(recipe, tmp_path / "run", Silent(), "export")
    plain = pipeline.run(recipe, tmp_path / "run", Silent())
    (tmp_path / "rayed").mkdir()
    for made in done.artifacts.values():
        (tmp_path / "rayed" / made.path.name).symlink_to(made.path)
    rayed = on_nodes(recipe, tmp_path / "rayed")
    audits = [name for name in plain.artifacts if name.startswith("audit-")]
    assert len(audits) == 7
    for name in audits:
        assert (plain.artifacts[name].path / "answers.jsonl").read_text() == (rayed.artifacts[name].path / "answers.jsonl").read_text()
        assert plain.artifacts[name].fingerprint == rayed.artifacts[name].fingerprint


def test_a_node_killed_in_training_changes_nothing(two_nodes: Any, tiny_recipe: Path, tmp_path: Path) -> None:
    changes = ("train.epochs=30", "train.checkpoint_steps=5", "machine.worker_cpus=2")
    recipe = recipe_of(tiny_recipe, *changes)
    node = two_nodes.add_node(num_cpus=2)
    plain = pipeline.run(recipe, tmp_path / "plain", Silent(), "train")
    killed = []

    def kill() -> None:
        while not list((tmp_path / "rayed").glob("train-*.part/notes/checkpoints/*/complete")):
            time.sleep(0.05)
        for path in Path("/proc").glob("[0-9]*/cmdline"):  # the workers first: with their node's manager gone, they would go on for a while
            if b"ray::" in path.read_bytes() and b"RayTrainWorker" in path.read_bytes():
                killed.append(int(path.parent.name))
                os.kill(killed[-1], signal.SIGKILL)
                break
        two_nodes.remove_node(node, allow_graceful=False)

    watch = threading.Thread(target=kill)
    watch.start()
    rayed = on_nodes(recipe, tmp_path / "rayed", "train")
    watch.join()
    assert killed
    assert_alike(plain.artifacts["train"], rayed.artifacts["train"])


class Doomed:
    """A node more, which dies as soon as it does what is called so (a step's task, or the workers of training). `died`: whether it came to that."""

    def __init__(self, cluster: Any, called: bytes) -> None:
        self._node, self.died = cluster.add_node(num_cpus=2), False
        self._cluster, self._called = cluster, called
        self._over = threading.Event()
        self._watch = threading.Thread(target=self._wait)
        self._watch.start()

    def _wait(self) -> None:
        (raylet,) = self._node.all_processes["raylet"]
        parent = f"PPid:\t{raylet.process.pid}\n"
        while not self._over.wait(0.05):
            for path in Path("/proc").glob("[0-9]*"):
                try:
                    command = (path / "cmdline").read_bytes()
                    at_it = command.startswith(b"ray::") and self._called in command and parent in (path / "status").read_text()
                except OSError:
                    continue
                if at_it:
                    self._cluster.remove_node(self._node, allow_graceful=False)
                    os.kill(int(path.name), signal.SIGKILL)
                    self.died = True
                    return

    def __enter__(self) -> "Doomed":
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._watch.join()
        if not self.died:
            self._cluster.remove_node(self._node)


def test_a_node_killed_in_an_audit_changes_nothing(two_nodes: Any, tiny_recipe: Path, tmp_path: Path) -> None:
    recipe = recipe_of(tiny_recipe, "machine.workers=1", "machine.worker_cpus=2", "export.quantisations=[Q8_0, Q4_0, Q3_K_M, Q2_K]")
    done = pipeline.run(recipe, tmp_path / "run", Silent(), "export")
    plain = pipeline.run(recipe, tmp_path / "run", Silent())
    (tmp_path / "rayed").mkdir()
    for made in done.artifacts.values():
        (tmp_path / "rayed" / made.path.name).symlink_to(made.path)
    with Doomed(two_nodes, b"lorikeet audit-Q") as node:
        rayed = on_nodes(recipe, tmp_path / "rayed")
    assert node.died
    for name, made in plain.artifacts.items():
        assert made.fingerprint == rayed.artifacts[name].fingerprint, name


RATE = "train.learning_rate"


def test_a_sweep_on_nodes_of_which_one_dies_is_the_sweep_of_one_process(two_nodes: Any, tiny_recipe: Path, tmp_path: Path) -> None:
    design = sweep.design(tiny_recipe, [f"{RATE}=0.02,0.00001,0.000001"])
    sets = [*SETTINGS, "machine.workers=1", "machine.worker_cpus=2", "machine.threads=2", "train.epochs=6", f"{RATE}=0.02"]
    plain, verdicts = sweep.run(tiny_recipe, design, 2, sets, tmp_path / "plain", Silent())
    with Doomed(two_nodes, b"RayTrainWorker") as node:
        crew = RayCrew(load_recipe(tiny_recipe, sets).recipe.machine)
        rayed, others = sweep.run(tiny_recipe, design, 2, sets, tmp_path / "rayed", Silent(), crew)
    assert node.died
    assert [len(arm.losses) for arm in plain] == [len(arm.losses) for arm in rayed]
    for one, other in zip(plain, rayed, strict=True):
        np.testing.assert_allclose(one.losses, other.losses, rtol=1e-3)
    assert [v.shown for v in verdicts] == [v.shown for v in others]


def test_an_error_of_training_is_told_as_it_is_and_not_tried_again(two_nodes: Any, tiny_recipe: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="training went to nan at step"):
        on_nodes(recipe_of(tiny_recipe, "train.weight_decay=1e30"), tmp_path / "run", "train")
    assert [path.name for path in (tmp_path / "run").glob("train-*.part/notes/ray/*")] == ["try-1"]
    assert json.loads((tmp_path / "run" / "run.json").read_text())["steps"][-1]["status"] == "failed"


@pytest.mark.parametrize(("settings", "told"), [({"worker_cpus": 64}, "no node of the cluster has more than 2"), ({"workers": 9}, "has room for"),
                                                ({"worker_gpus": 1}, "no node of the cluster has more than 0")])  # fmt: skip
def test_what_the_cluster_has_not_is_refused_before_any_work(two_nodes: Any, settings: dict[str, float], told: str) -> None:
    with pytest.raises(MachineError, match=told):
        RayCrew(MachineSettings.model_validate(settings))
