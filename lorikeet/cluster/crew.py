"""Steps done by a Ray cluster, as many at a time as it has room for. A step whose node dies is done again; training goes on from its last checkpoint."""

from typing import Any

from lorikeet.cluster import nodes
from lorikeet.cluster.relay import EVERY, Relay, Remote, passed_on
from lorikeet.cluster.sent import Sent
from lorikeet.cluster.training import train
from lorikeet.crew import Cost, Order, work
from lorikeet.errors import LorikeetError, MachineError
from lorikeet.progress import Progress, Silent
from lorikeet.recipe import LoadedRecipe, MachineSettings

MOST = 256
"""Steps that are handed over at a time; Ray begins them as it has room."""


class RayCrew:
    """The nodes of the cluster that this process is connected to. settings: what a step takes of them. MachineError where it is more than they have."""

    room = MOST

    def __init__(self, settings: MachineSettings) -> None:
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        nodes.require(settings)
        self._settings = settings
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)  # on a node that dies it would take the run with it
        self._relay: Any = ray.remote(Relay).options(num_cpus=0, scheduling_strategy=here).remote()
        self._progress: Progress = Silent()
        self._orders: dict[Any, str] = {}
        self._done: dict[str, Any] = {}

    def fitted(self, recipe: LoadedRecipe) -> LoadedRecipe:
        """A step has the threads that it takes, and no more."""
        here = recipe.recipe.machine.model_copy(update={"threads": self._settings.worker_cpus})
        return recipe.model_copy(update={"recipe": recipe.recipe.model_copy(update={"machine": here})})

    def hand_over(self, order: Order, progress: Progress) -> None:
        import ray

        settings, trains, self._progress = self._settings, order.step.stage == "train", progress
        task, cpus = (train, 0.0) if trains else (_do, float(settings.worker_cpus))  # what training takes, its workers take
        again = [ray.exceptions.RayError]  # what a task sees of its own node's death, before it dies itself
        how = {"name": f"lorikeet {order.step.name}", "max_retries": settings.restarts, "retry_exceptions": again, "num_cpus": cpus}
        self._orders[ray.remote(task).options(**how).remote(Sent.of(order), self._relay)] = order.name

    def next(self) -> str:
        import ray

        done: list[Any] = []
        while not done:
            done, _ = ray.wait(list(self._orders), num_returns=1, timeout=EVERY)
            passed_on(ray.get(self._relay.take.remote()), self._progress)
        name = self._orders.pop(done[0])
        self._done[name] = done[0]
        return name

    def result(self, name: str) -> Cost:
        import ray

        try:
            cost: Cost = ray.get(self._done.pop(name))
        except ray.exceptions.RayTaskError as error:
            if isinstance(cause := error.cause, LorikeetError):
                raise cause from error
            raise
        except ray.exceptions.RayError as error:
            raise MachineError(
                f"the nodes that did {name} died {self._settings.restarts + 1} times",
                "look whether they had memory enough, and give the same command: what is done stays (machine.restarts: how often a step is tried again)",
            ) from error
        return cost

    def stop(self) -> None:
        import ray

        for handed in self._orders:
            ray.cancel(handed, force=True)
        self._orders.clear()


def _do(sent: Sent, relay: Any) -> Cost:
    """Do a step on a node."""
    progress = Remote(relay)
    return work(sent.order(progress), progress)
