"""The figures of a run are drawn, also of one so short that there is hardly anything to draw."""

from pathlib import Path

import pytest
from PIL import Image

from lorikeet.train.plots import draw

STEPS = [{"step": n, "loss": 3.0 / n, "learning_rate": 1e-3 / n, "grad_norm": 2.0 / n} for n in range(1, 40)]


@pytest.mark.parametrize("log", [[*STEPS, {"step": 39, "eval_loss": 0.4}], STEPS[:1], STEPS])
def test_every_figure_is_drawn_and_shows_something(log: list[dict[str, float]], tmp_path: Path) -> None:
    draw(log, 1.0, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["gradient_norm.png", "learning_rate.png", "loss.png", "perplexity.png"]
    for path in tmp_path.iterdir():
        with Image.open(path) as image:
            assert len(image.convert("RGB").getcolors(1 << 20) or []) > 10
