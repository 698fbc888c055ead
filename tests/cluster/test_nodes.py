"""What is said of a cluster that cannot be reached, before Ray asks for it."""

import pytest

from lorikeet.cluster.nodes import reached
from lorikeet.errors import MachineError


@pytest.mark.parametrize(("address", "told"), [("ray://127.0.0.1:1", "no Ray cluster answers"), ("127.0.0.1:1", "no Ray cluster answers"),
                                               ("everywhere", "is no address of a cluster"), ("ray://host", "is no address of a cluster")])  # fmt: skip
def test_a_cluster_that_does_not_answer_is_told_at_once(address: str, told: str) -> None:
    pytest.importorskip("ray")
    with pytest.raises(MachineError, match=told), reached(address):
        pass
