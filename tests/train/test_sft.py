"""What a batch is made of. Slow for the import of TRL alone."""

import pytest

pytestmark = pytest.mark.slow


def test_rows_are_padded_on_the_right_and_padding_gets_no_loss() -> None:
    from lorikeet.train.sft import collate

    batch = collate([{"input_ids": [5, 6, 7], "labels": [-100, 6, 7]}, {"input_ids": [8], "labels": [8]}])
    assert batch["input_ids"].tolist() == [[5, 6, 7], [8, 0, 0]]
    assert batch["labels"].tolist() == [[-100, 6, 7], [8, -100, -100]]


def test_one_row_is_not_padded() -> None:
    from lorikeet.train.sft import collate

    assert collate([{"input_ids": [5, 6], "labels": [-100, 6]}])["input_ids"].shape == (1, 2)
