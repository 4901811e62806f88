"""Dropout by row: masks that are a function of (seed, step, site, row, position), and dropout all the same."""

from __future__ import annotations

import functools
import itertools
import math

import pytest
import torch
from torch import Tensor, nn

from sftlib.models.dropout import DropoutMasks, row_dropout

WIDTH = 4096


def laid(rows: list[int], tokens: int) -> tuple[Tensor, Tensor]:
    """(B, T) row numbers and positions."""
    count = len(rows)
    return torch.tensor(rows)[:, None].expand(count, tokens), torch.arange(tokens).expand(count, tokens)


@functools.cache
def masks_of(seed: int) -> DropoutMasks:
    """Made once, as its pools of random numbers are costly."""
    return DropoutMasks(seed)


def drop(
    x: Tensor,
    p: float,
    *,
    seed: int = 0,
    step: int = 0,
    site: int = 0,
    rows: list[int] | None = None,
    tokens: int | None = None,
) -> Tensor:
    """Dropout of one call at one site."""
    masks = masks_of(seed)
    with masks.laid_out(step, torch.tensor(rows or list(range(len(x))))):
        return masks.apply(x, p, site)


def kept(p: float, rows: list[int], tokens: int = 2, width: int = WIDTH, **where: int) -> Tensor:
    """(B, T, H) which ones are kept."""
    return drop(torch.ones(len(rows), tokens, width), p, rows=rows, **where) != 0


@pytest.mark.parametrize("p", [0.05, 0.1, 0.3, 0.5, 0.9])
def test_rate_and_mean(p: float) -> None:
    x = torch.ones(64, 32, 512)
    dropped = drop(x, p)
    count = x.numel()
    sd = math.sqrt(p * (1 - p) / count)
    share = float((dropped == 0).float().mean(dtype=torch.float64))
    # The windows overlap in one pool, whose own share of zeros deviates too: its 2^22 draws add to the variance.
    pool_sd = math.sqrt(p * (1 - p) / 2**22)
    assert abs(share - p) < 5 * (sd + pool_sd) + 2**-16
    assert float(dropped.mean(dtype=torch.float64)) == pytest.approx(1.0, abs=5 * (sd + pool_sd) / (1 - p) + 2**-15)
    values = dropped[dropped != 0]
    assert float(values.min()) == float(values.max()) == pytest.approx(1 / (1 - p), rel=1e-3)


def test_the_ends_of_the_range() -> None:
    x = torch.randn(4, 8, 16, generator=torch.Generator().manual_seed(0))
    assert torch.equal(drop(x, 0.0), x)
    assert torch.equal(drop(x, 1.0), torch.zeros_like(x))


def correlation(left: Tensor, right: Tensor) -> float:
    return float(torch.corrcoef(torch.stack([left.flatten().double(), right.flatten().double()]))[0, 1])


def test_masks_of_different_places_are_unrelated() -> None:
    """Over sites, steps, seeds, rows and positions: correlations as small as those of independent draws."""
    p, rows = 0.5, list(range(16))
    base = kept(p, rows)
    others = [kept(p, rows, site=site) for site in (1, 2, 7)]
    others += [kept(p, rows, step=step) for step in (1, 2, 1000)]
    others += [kept(p, rows, seed=seed) for seed in (1, 2)]
    others += [kept(p, [row + 100 for row in rows])]
    bound = 5 / math.sqrt(base.numel())
    for left, right in itertools.combinations([base, *others], 2):
        assert not torch.equal(left, right)
        assert abs(correlation(left, right)) < bound
    vectors = base.view(-1, WIDTH)  # rows and positions of one call
    matrix = torch.corrcoef(vectors.double())
    matrix.fill_diagonal_(0.0)
    assert float(matrix.abs().max()) < 6 / math.sqrt(WIDTH)


def test_neighbouring_features_are_unrelated() -> None:
    mask = kept(0.5, list(range(16)))
    for shift in (1, 2, 3, 16, 64):
        assert abs(correlation(mask[..., :-shift], mask[..., shift:])) < 5 / math.sqrt(mask.numel())


def test_every_feature_is_dropped_as_often() -> None:
    p, draws = 0.3, 4000
    shares = (drop(torch.ones(40, 100, 64), p) == 0).float().view(draws, 64).mean(0)
    assert float((shares - p).abs().max()) < 5 * math.sqrt(p * (1 - p) / draws)


def test_calls_of_one_site_differ() -> None:
    masks = masks_of(0)
    x = torch.ones(2, 3, 256)
    with masks.laid_out(0, torch.tensor([0, 1])):
        first, second = masks.apply(x, 0.5, 0), masks.apply(x, 0.5, 0)
    with masks.laid_out(0, torch.tensor([0, 1])):
        again = masks.apply(x, 0.5, 0)
    assert not torch.equal(first, second)
    assert torch.equal(first, again)


def test_a_mask_is_the_same_under_every_cut() -> None:
    x = torch.randn(6, 9, 32, generator=torch.Generator().manual_seed(1))
    rows = [11, 3, 5, 40, 2, 7]
    whole = drop(x, 0.3, rows=rows, step=4, site=2)
    for order in ([0], [5, 1], [2, 0, 4], [5, 4, 3, 2, 1, 0]):
        for tokens in (9, 6):
            part = drop(x[order][:, :tokens], 0.3, rows=[rows[i] for i in order], step=4, site=2)
            assert torch.equal(part, whole[order][:, :tokens])


def test_the_mask_of_a_row_is_the_same_under_every_cut() -> None:
    x = torch.ones(5, 64)
    rows = [9, 1, 4, 6, 0]
    whole = drop(x, 0.4, rows=rows, tokens=7)
    for order in ([3], [4, 0, 1]):
        for tokens in (7, 3):
            assert torch.equal(drop(x[order], 0.4, rows=[rows[i] for i in order], tokens=tokens), whole[order])


def test_attention_masks_are_the_same_under_every_cut_and_differ_by_head() -> None:
    x = torch.ones(4, 3, 12, 12)
    rows = [2, 9, 5, 1]
    whole = drop(x, 0.3, rows=rows)
    part = drop(x[[3, 0]][:, :, :8, :8], 0.3, rows=[1, 2])
    assert torch.equal(part, whole[[3, 0]][:, :, :8, :8])
    heads = whole[:, :, :, :].transpose(0, 1).reshape(3, -1)
    assert len({tuple(head.tolist()) for head in heads}) == 3
    assert abs(float((whole == 0).float().mean()) - 0.3) < 0.06


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_every_number_format_drops_the_same(dtype: torch.dtype) -> None:
    expected = drop(torch.ones(3, 4, 128), 0.25) == 0
    found = drop(torch.ones(3, 4, 128, dtype=dtype), 0.25)
    assert found.dtype == dtype
    assert torch.equal(found == 0, expected)


def test_the_gradient_goes_through_the_same_mask() -> None:
    x = torch.randn(3, 4, 64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    weight = torch.randn(3, 4, 64, generator=torch.Generator().manual_seed(1))
    (drop(x, 0.3, step=5) * weight).sum().backward()
    mask = drop(torch.ones(3, 4, 64), 0.3, step=5)
    assert x.grad is not None
    assert torch.equal(x.grad, weight * mask)


@pytest.mark.parametrize("shape", [(2, 3, 5), (2, 2, 3, 3), (2, 5)])
def test_gradcheck(shape: tuple[int, ...]) -> None:
    x = torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    assert torch.autograd.gradcheck(lambda value: drop(value, 0.4, tokens=3), (x,))


def test_torchs_generator_is_not_asked() -> None:
    before = torch.get_rng_state()
    drop(torch.ones(2, 3, 8), 0.5)
    assert torch.equal(torch.get_rng_state(), before)


def test_it_is_as_torchs_own_dropout_in_distribution() -> None:
    """Means and standard deviations of sums of dropped activations, theirs beside ours."""
    x = torch.randn(1, 1, 256, generator=torch.Generator().manual_seed(3)).abs().expand(512, 8, 256)
    ours = drop(x.contiguous(), 0.2).sum(-1).flatten()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        theirs = nn.functional.dropout(x, 0.2).sum(-1).flatten()
    scale = float(theirs.std()) / math.sqrt(len(theirs))
    assert float(ours.mean()) == pytest.approx(float(theirs.mean()), abs=6 * scale)
    assert float(ours.std()) == pytest.approx(float(theirs.std()), rel=0.06)


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.drop = nn.Dropout(0.5)
        self.inner = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.25))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.drop(self.inner(x))
        return y


def test_modules_come_back() -> None:
    model, masks = Network().train(), masks_of(0)
    own = [model.drop, model.inner[1]]
    with row_dropout(model, masks):
        assert not any(isinstance(module, nn.Dropout) for module in model.modules())
        model.eval()
    assert [model.drop, model.inner[1]] == own
    assert not model.drop.training
    assert not model.inner[1].training


def test_modules_come_back_after_an_error() -> None:
    model = Network()
    own = model.drop
    with pytest.raises(KeyError), row_dropout(model, DropoutMasks(0)):
        raise KeyError
    assert model.drop is own


def test_nothing_is_dropped_in_evaluation() -> None:
    model, masks = Network().eval(), masks_of(0)
    x = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))
    expected = model(x)
    with row_dropout(model, masks), masks.laid_out(0, torch.tensor([0, 1])):
        assert torch.equal(model(x), expected)


def test_sites_of_a_model_have_masks_of_their_own() -> None:
    model, masks = nn.Sequential(nn.Dropout(0.5), nn.Dropout(0.5)).train(), masks_of(0)
    x = torch.ones(2, 3, 512)
    with row_dropout(model, masks), masks.laid_out(0, torch.tensor([0, 1])):
        both = model(x)
    assert 0.2 < float((both != 0).float().mean()) < 0.3  # a quarter; a half if the masks were the same
