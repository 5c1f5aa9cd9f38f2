"""What recipes cost: counts that follow from a method's definition, and the page that shows them."""

from __future__ import annotations

from pathlib import Path

import cost
import pytest

from dsm.data.settings import ClipConfig
from dsm.methods import MethodSettings
from dsm.methods.dsm import DsmConfig
from dsm.recipes import OWN, RECIPES, find_recipe

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "reproduce.md"
CLIP = ClipConfig(frames=8, stride=1, resize=64, size=64)


def test_a_method_costs_its_passes() -> None:
    """A clip passes the momentum encoder forwards, and the encoder also backwards, at twice the cost."""
    settings = MethodSettings(dsm=DsmConfig(symmetric=False, joint=False))
    forward = cost.testing("r3d18", CLIP).operations
    moco, dsm, simclr, triplet = (
        cost.pretraining(name, "r3d18", CLIP, settings).operations
        for name in ("moco", "dsm", "simclr", "dsm-triplet")
    )
    both_ways = moco - forward
    assert 2.5 * forward < both_ways < 3 * forward  # the first layer needs no gradient of its input
    assert dsm - moco == pytest.approx(forward, rel=0.01)
    assert simclr == pytest.approx(2 * both_ways, rel=0.01)
    together = cost.pretraining("dsm", "r3d18", CLIP, MethodSettings()).operations
    assert together == pytest.approx(3 * both_ways, rel=0.01)  # every view goes backwards too
    assert triplet == pytest.approx(3 * both_ways, rel=0.01)


def test_memory_is_what_the_backward_pass_keeps() -> None:
    """For a convolution, a BatchNorm and an in-place ReLU: the clip, and the convolution's output twice."""
    from torch import nn

    block = nn.Sequential(
        nn.Conv3d(3, 8, 3, padding=1, bias=False), nn.BatchNorm3d(8), nn.ReLU(inplace=True)
    ).to("meta")
    found = cost._count(block, lambda: block(cost.blank(CLIP)).sum())
    voxels = 8 * 64 * 64
    assert found.activations == pytest.approx(4 * voxels * (3 + 8 + 8), rel=0.001)
    assert found.operations == 2 * voxels * 8 * 3 * 27 * 2  # forward, and the gradient of the weights
    assert found.weights == 4 * 3 * (8 * 3 * 27 + 8 + 8)


def test_samples_are_whole_batches() -> None:
    recipe = find_recipe("hmdb51-i3d-dsm")
    assert recipe.pretrain is not None
    assert cost.samples(recipe.pretrain, 3570) == round(10 * 3570 / 4) * 4


def test_recipes_know_their_data_sets() -> None:
    data_sets = {name: cost.data_sets(recipe) for name, recipe in RECIPES.items() if name not in OWN}
    assert data_sets["ucf101-diving48-i3d-moco"] == ("ucf101", "diving48")
    assert data_sets["table-hmdb51-i3d-dsm"] == ("ucf101", "hmdb51")
    assert data_sets["table-hmdb51-i3d-random"] == ("hmdb51", "hmdb51")
    assert data_sets["something-r3d-ft"][0] == "something-something-v1"


@pytest.mark.parametrize("name", ["ucf101-i3d-eval", "hmdb51-i3d-ft", "table-ucf101-s3d-moco"])
def test_the_page_shows_what_the_study_prints(name: str) -> None:
    assert cost.row(find_recipe(name), cost.Options()) in PAGE.read_text(encoding="utf-8").splitlines()


def test_the_page_has_every_recipe() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert not [name for name in RECIPES if f"`{name}`" not in text]
