"""The components keep what every component of ganzoo promises; the rest is what is special about them."""

import pytest
import torch

import ganzoo
from ganzoo.testing import checks_for

CHECKS = [
    *checks_for("generator", "example-plugin/cppn", width=8),
    *checks_for("loss", "example-plugin/smooth-hinge"),
    *checks_for("regularizer", "example-plugin/drift"),
    *checks_for("dataset", "example-plugin/shapes"),
]


@pytest.mark.parametrize("check", CHECKS, ids=str)
def test_it_keeps_its_promises(check):
    check()


def test_one_network_paints_any_size():
    small, large = (ganzoo.create("generator", "cppn", ganzoo.Spec((3, side, side))) for side in (8, 64))
    large.load_state_dict(small.state_dict())
    assert large(large.latent(2)).shape == (2, 3, 64, 64)


def test_a_square_fills_more_of_its_box_than_a_disc():
    shapes = ganzoo.create("dataset", "shapes", ganzoo.Spec((1, 16, 16), 2))
    x, y = shapes.draw(500, torch.Generator().manual_seed(0))
    assert x[y == 1].mean() > x[y == 0].mean()


def test_points_are_refused_in_a_sentence(tmp_path):
    with pytest.raises(ganzoo.GanzooError, match="paints a picture pixel by pixel"):
        ganzoo.train({"gen": "cppn", "data": "ring", "out": tmp_path})


def test_the_diary_is_kept(tmp_path):
    run = ganzoo.train({"gen": "cppn", "data": "shapes", "steps": 2, "samples": 4, "out": tmp_path})
    lines = (run.path / "diary.txt").read_text(encoding="utf-8").splitlines()
    assert "example-plugin/cppn begins to learn" in lines[0]
    assert lines[-1].endswith("the end")
