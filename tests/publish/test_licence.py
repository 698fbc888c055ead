"""Which licence follows from base and rows, and what may not be published at all, with the field that says so."""

import pytest

from lorikeet.errors import RefusedError
from lorikeet.publish.licence import follows, may_give_rows


@pytest.mark.parametrize(
    ("base", "data", "id_", "name"),
    [
        ("apache-2.0", "cc-by-4.0", "apache-2.0", "apache-2.0"),
        ("Apache-2.0", "cc-by-nc-4.0", "cc-by-nc-4.0", "cc-by-nc-4.0"),
        ("mit", "cc-by-sa-4.0", "cc-by-sa-4.0", "cc-by-sa-4.0"),
        ("llama3.2", "cc0-1.0", "llama3.2", "llama3.2"),
        ("gemma", "cc-by-nc-4.0", "other", "gemma and cc-by-nc-4.0"),
    ],
)
def test_the_stricter_one_follows_and_two_strict_ones_both(base: str, data: str, id_: str, name: str) -> None:
    found = follows(base, data)
    assert (found.id, found.name) == (id_, name)


def test_what_a_licence_asks_for_is_said() -> None:
    assert any("Built with Llama 3.2" in line for line in follows("llama3.2", "mit").why)
    assert any("no commercial use" in line for line in follows("mit", "cc-by-nc-4.0").why)
    assert any("named" in line for line in follows("mit", "cc-by-4.0").why)


@pytest.mark.parametrize(
    ("base", "data", "told"),
    [
        ("apache-2.0", "", "data.licence is not said"),
        ("apache-2.0", "all rights reserved", "data.licence is all rights reserved"),
        ("apache-2.0", "cc-by-nd-4.0", "data.licence is cc-by-nd-4.0, which forbids"),
        ("unknown", "mit", "the base's licence is unknown"),
    ],
)
def test_what_forbids_it_or_is_not_known_is_refused_by_its_field(base: str, data: str, told: str) -> None:
    with pytest.raises(RefusedError, match=told):
        follows(base, data)


def test_rows_that_may_not_be_changed_may_be_passed_on() -> None:
    may_give_rows("cc-by-nd-4.0")
    with pytest.raises(RefusedError, match=r"data\.licence"):
        may_give_rows("")
