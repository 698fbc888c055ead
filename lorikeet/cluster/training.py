"""Training by several workers of a cluster, as Ray Train starts them: each is one of the processes that lorikeet.processes tells of.

What they begin with, and go on from when one of them dies, are the checkpoints of the step's own folder.
"""

import shutil
from typing import Any

from lorikeet import processes
from lorikeet.artifact import NOTES
from lorikeet.cluster.relay import Remote
from lorikeet.cluster.sent import Sent
from lorikeet.crew import Cost, work
from lorikeet.errors import LorikeetError, MachineError, first_line
from lorikeet.progress import Progress, Silent


def train(sent: Sent, relay: Any) -> Cost:
    """Do a train step with the workers that its recipe asks for. Runs in a task of its own, which takes next to nothing.

    Whatever ends the workers but an error of ours, which would come again, lets them begin anew, machine.restarts times. Ray Train's own restarts
    make no such difference.
    """
    import ray
    from ray import train as ray_train
    from ray.train.torch import TorchTrainer

    here = sent.recipe.recipe.machine
    takes = {"CPU": float(here.worker_cpus), **({"GPU": here.worker_gpus} if here.worker_gpus else {})}
    places = sent.folder / NOTES / "ray"
    shutil.rmtree(places, ignore_errors=True)  # of an earlier command: Ray Train would take it up
    for tries in range(here.restarts + 1):
        trainer = TorchTrainer(
            _work,
            train_loop_config={"sent": sent, "relay": relay},
            scaling_config=ray_train.ScalingConfig(num_workers=here.workers, use_gpu=bool(here.worker_gpus), resources_per_worker=takes),
            run_config=ray_train.RunConfig(name=f"try-{tries + 1}", storage_path=str(places)),
        )
        try:
            result = trainer.fit()
        except ray_train.TrainingFailedError as error:
            if ours := ray.get(relay.failure.remote(str(sent.folder))):
                raise ours from error
            last = error
            continue
        return Cost(*result.return_value)
    raise MachineError(f"training ended {here.restarts + 1} times before it was done: {first_line(last)}",
                       "look whether its nodes had memory enough, and give the same command: it goes on from the last checkpoint")  # fmt: skip


def _work(told: dict[str, Any]) -> Cost:
    """What each worker does."""
    import ray

    sent: Sent = told["sent"]
    progress: Progress = Silent() if processes.rank() else Remote(told["relay"])
    try:
        return work(sent.order(progress), progress)
    except LorikeetError as error:
        ray.get(told["relay"].fail.remote(str(sent.folder), error))
        raise
