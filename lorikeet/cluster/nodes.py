"""Reaching a cluster, and whether what a recipe asks of its nodes is there."""

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from lorikeet.errors import MachineError, first_line
from lorikeet.recipe import MachineSettings

LOCAL = "ray"
"""The address that stands for a cluster of this machine alone, which ends with the command."""
PATIENCE = 10.0
"""Seconds in which a cluster has to answer at all."""


@contextmanager
def reached(address: str) -> Iterator[None]:
    """Be connected to a cluster: `ray` for one on this machine, ray://HOST:PORT from outside one, HOST:PORT from one of its nodes.

    MachineError where Ray is not installed or nobody answers. One that is connected to already is taken, and left connected.
    """
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # a step that asks for no GPU is told of none by CUDA itself
    os.environ["RAY_TRAIN_V2_ENABLED"] = "1"
    try:
        import ray
    except ImportError as error:
        raise MachineError("--on ray needs Ray, which is not installed", "run: pip install 'lorikeet[ray]'") from error
    if ray.is_initialized():
        yield
        return
    if address != LOCAL:
        _require_somebody(address)
    try:
        if address == LOCAL:
            ray.init(address="local", include_dashboard=False, log_to_driver=False, logging_level=logging.WARNING)
        else:
            ray.init(address=address, log_to_driver=False, logging_level=logging.WARNING)
    except (ConnectionError, OSError, ValueError) as error:
        raise MachineError(f"no Ray cluster answers at {address}: {first_line(error)}", "start one with `ray start --head`, or write --on ray") from error
    try:
        yield
    finally:
        ray.shutdown()


def _require_somebody(address: str) -> None:
    """MachineError where nothing listens at HOST:PORT or ray://HOST:PORT: Ray itself would go on asking for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        raise MachineError(f"--on {address} is no address of a cluster", "write ray, ray://HOST:PORT or HOST:PORT")
    try:
        socket.create_connection((host, int(port)), timeout=PATIENCE).close()
    except OSError as error:
        raise MachineError(f"no Ray cluster answers at {address}: {first_line(error)}", "start one with `ray start --head`, or write --on ray") from error


def require(settings: MachineSettings) -> None:
    """MachineError where no node has the processors or GPUs of one worker, or all together not those of all."""
    import ray

    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    for what, each, key in (("CPU", settings.worker_cpus, "worker_cpus"), ("GPU", settings.worker_gpus, "worker_gpus")):
        most, together = max(node.get(what, 0) for node in nodes), sum(each and node.get(what, 0) // each for node in nodes)
        if each > most:
            raise MachineError(f"a step takes {each:g} {what}s, and no node of the cluster has more than {most:g}", f"lower machine.{key}, or add a node")
        if each and together < settings.workers:
            raise MachineError(f"training takes {settings.workers} workers of {each:g} {what}s, and the cluster has room for {together:g}",
                               f"lower machine.workers or machine.{key}, or add nodes")  # fmt: skip
