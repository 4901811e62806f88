"""Rows end to end against rows side by side: the same scores and gradients, for every family that can do both."""

from __future__ import annotations

import functools
import itertools
from typing import Any

import pytest
import torch

from sftlib.encoders.batch import Batch
from sftlib.encoders.text.tokenizer import TextEncoder
from sftlib.models.dropout import DropoutMasks
from sftlib.models.layouts.attention import attend_flat
from sftlib.models.layouts.layout import Flat, Layout, OwnAttention, Padded, Watched, choose_layout
from sftlib.models.layouts.sequences import Sequences
from sftlib.models.outputs import logits
from sftlib.models.precision import Fp32, Precision
from sftlib.run import settle
from sftlib.testing import FAMILIES, tiny_model, tiny_tokenizer
from sftlib.train.forward import Forward
from tests.versions import requires_flat

CPU = torch.device("cpu")
WITH_INTERFACE = [family for family in FAMILIES if family not in ("mpnet", "deberta-v2")]
LENGTHS = [60, 31, 31, 9, 4, 2]


def model_of(family: str, dropout: float = 0.1) -> Any:
    model = tiny_model(family, dropout=dropout)
    if model.config.pad_token_id is None:
        model.config.pad_token_id = 0
    return model


def batch_of(model: Any, lengths: list[int], rows: list[int] | None = None) -> Batch:
    """Rows of random tokens that depend on the row alone."""
    chosen = list(range(len(lengths))) if rows is None else rows
    sizes = torch.tensor([lengths[row] for row in chosen])
    inputs = torch.full((len(chosen), int(sizes.max())), model.config.pad_token_id)
    for line, row in zip(inputs, chosen, strict=True):
        generator = torch.Generator().manual_seed(row)
        line[: lengths[row]] = torch.randint(5, 100, (lengths[row],), generator=generator)
    mask = (torch.arange(inputs.shape[1]) < sizes[:, None]).long()
    return Batch(torch.tensor(chosen), sizes, {"input_ids": inputs, "attention_mask": mask}, {})


@functools.cache
def encoder() -> TextEncoder:
    """How texts are handed to a model; what they are does not matter here."""
    return TextEncoder(tiny_tokenizer(), None)


def forward_of(model: Any, layout: Layout, precision: Precision | None = None, **more: Any) -> Forward:
    call = encoder().calling(model)
    return Forward(model, device=CPU, precision=precision or Fp32(), layout=layout, call=call, seed=3, **more)


def fitting_layout(model: Any, batches: list[Batch], *, padding_free: bool | None) -> Layout:
    """The leanest layout that the model gives its own answers in."""
    return settle.fitting_layout(
        encoder(), model, batches, lambda layout: forward_of(model, layout), padding_free=padding_free
    )


def scores_and_gradient(model: Any, layout: Layout, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores in training, dropout on, and the whole gradient of a loss."""
    model.train()
    model.zero_grad()
    forward = forward_of(model, layout)
    with forward.prepared():
        scores = logits(forward.train(batch, step=5))
        scores.square().sum().backward()
    return scores.detach(), torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


@pytest.mark.parametrize("dropout", [0.0, 0.1])
@pytest.mark.parametrize("family", WITH_INTERFACE)
def test_flat_equals_padded(family: str, dropout: float) -> None:
    requires_flat(family)
    model = model_of(family, dropout)
    batch = batch_of(model, LENGTHS)
    scores, gradient = scores_and_gradient(model, Padded(), batch)
    flat_scores, flat_gradient = scores_and_gradient(model, Flat(), batch)
    assert (flat_scores - scores).norm() <= 1e-6 * scores.norm()
    assert (flat_gradient - gradient).norm() <= 1e-6 * gradient.norm()


@pytest.mark.parametrize("family", WITH_INTERFACE)
def test_flat_gives_the_models_own_answers(family: str) -> None:
    requires_flat(family)
    model = model_of(family).eval()
    batch = batch_of(model, LENGTHS)
    found = {}
    for layout in (OwnAttention(), Padded(), Flat()):
        forward = forward_of(model, layout)
        with torch.inference_mode(), forward.prepared():
            found[layout.name] = logits(forward(batch))
    own = found[OwnAttention.name]
    for scores in found.values():
        assert (scores - own).abs().max() <= 1e-5 * own.abs().max()


@pytest.mark.parametrize("family", WITH_INTERFACE)
def test_cutting_flat_rows_changes_nothing(family: str) -> None:
    requires_flat(family)
    model = model_of(family)
    model.train()
    forward = forward_of(model, Flat())
    with forward.prepared(), torch.no_grad():
        whole = logits(forward.train(batch_of(model, LENGTHS), step=2))
        parts = [logits(forward.train(batch_of(model, LENGTHS, rows), step=2)) for rows in ([5, 0], [1], [4, 3, 2])]
    joined = torch.cat(parts)[torch.tensor([5, 0, 1, 4, 3, 2]).argsort()]
    assert (joined - whole).abs().max() <= 2e-6 * whole.abs().max()


@pytest.mark.parametrize("family", WITH_INTERFACE)
def test_nothing_is_left_behind(family: str) -> None:
    requires_flat(family)
    model = model_of(family)
    before, attention = list(model.state_dict()), model.config._attn_implementation
    modules = [type(module) for module in model.modules()]
    forward = forward_of(model, Flat())
    with pytest.raises(ZeroDivisionError), forward.prepared():
        raise ZeroDivisionError
    assert list(model.state_dict()) == before
    assert [type(module) for module in model.modules()] == modules
    assert model.config._attn_implementation == attention
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


class TestChoice:
    def test_by_width_and_dropout(self) -> None:
        batch = batch_of(model_of("bert"), LENGTHS)

        def chosen(dropout: float, padding_free: bool | None) -> str:
            return fitting_layout(model_of("bert", dropout), [batch], padding_free=padding_free).name

        assert chosen(0.1, True) == Flat.name
        assert chosen(0.1, None) == Padded.name, "narrow models stay as they are"
        assert chosen(0.0, None) == OwnAttention.name, "and without dropout they stay as they are to the last bit"
        assert chosen(0.1, False) == Padded.name

    def test_a_model_without_the_interface_keeps_its_own(self) -> None:
        for family in ("mpnet", "deberta-v2"):
            model = model_of(family)
            layout = fitting_layout(model, [batch_of(model, LENGTHS)], padding_free=True)
            assert layout.name == OwnAttention.name

    def test_a_model_that_loses_keywords_keeps_its_own_attention_with_our_dropout(self) -> None:
        """GPT-2's classifier did until transformers 5.3: our attention would drop out without our masks."""
        model = model_of("bert")
        forward = model.forward

        def forgetful(input_ids: torch.Tensor, attention_mask: torch.Tensor, **_: Any) -> Any:
            return forward(input_ids=input_ids, attention_mask=attention_mask)

        model.forward = forgetful
        for padding_free in (True, False):
            layout = fitting_layout(model, [batch_of(model, LENGTHS)], padding_free=padding_free)
            assert layout.name == Watched().name
        called = forward_of(model.train(), layout)
        with called.prepared(), torch.no_grad():
            whole = logits(called.train(batch_of(model, LENGTHS), step=2))
            parts = [logits(called.train(batch_of(model, LENGTHS, rows), step=2)) for rows in ([5, 0], [1], [4, 3, 2])]
            joined = torch.cat(parts)[torch.tensor([5, 0, 1, 4, 3, 2]).argsort()]
            other = logits(called.train(batch_of(model, LENGTHS), step=3))
        assert (joined - whole).abs().max() <= 2e-6 * whole.abs().max()
        assert (other - whole).abs().max() > 1e-3 * whole.abs().max(), "it does drop out"

    def test_wrong_answers_are_refused(self) -> None:
        """A layout whose scores differ by more than rounding is not taken, nor one that fails."""
        model = model_of("bert")

        def run(layout: Layout) -> torch.Tensor:
            if isinstance(layout, Flat):
                raise TypeError("no such keyword")
            return torch.ones(2, 2) * (1.0 if isinstance(layout, OwnAttention) else 1.001)

        layout, refused = choose_layout(model, run, padding_free=True)
        assert layout.name == OwnAttention.name
        assert refused == "TypeError: no such keyword"
        layout, refused = choose_layout(model, lambda _: torch.ones(2, 2), padding_free=True)
        assert layout.name == Flat.name
        assert refused == ""

    def test_a_window_that_the_attention_ignored_would_be_noticed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """ModernBERT's local layers: the probe is long enough to reach beyond the window."""
        import sftlib.models.layouts.attention as attention

        requires_flat("modernbert")
        model = model_of("modernbert")
        batch = batch_of(model, LENGTHS)
        assert fitting_layout(model, [batch], padding_free=True).name == Flat.name
        original = attention._hidden
        monkeypatch.setattr(
            attention, "_hidden", lambda group, heads, causal, _, like: original(group, heads, causal, None, like)
        )
        reaches_beyond = max(LENGTHS) > model.config.local_attention // 2
        assert reaches_beyond
        assert fitting_layout(model, [batch], padding_free=True).name != Flat.name


class TestSequences:
    @pytest.mark.parametrize("lengths", [[5], [3, 3, 3], [9, 8, 2, 1], [1, 30, 2, 2, 17]])
    def test_spread_and_collect_undo_each_other(self, lengths: list[int]) -> None:
        sequences = Sequences(torch.tensor(lengths), max(lengths))
        x = torch.randn(sum(lengths), 6)
        for parts, heads in ((1, 3), (2, 1), (3, 2)):
            sides = [group.spread(x[group.start : group.stop], heads, parts) for group in sequences.groups]
            back = [group.collect(side) for group, side in zip(sequences.groups, sides, strict=True)]
            assert torch.equal(torch.cat(back), x)

    def test_spread_lays_rows_side_by_side(self) -> None:
        (group,) = Sequences(torch.tensor([3, 2]), 3).groups
        (found,) = group.spread(torch.arange(10.0).view(5, 2), 2)  # two heads of one feature
        assert found[0, 0].flatten().tolist() == [0, 2, 4]
        assert found[1, 1].flatten().tolist()[:2] == [7, 9]
        assert group.padding is not None
        assert group.padding.tolist() == [[False, False, False], [False, False, True]]

    def test_groups_cover_every_row_once(self) -> None:
        lengths = torch.randint(1, 50, (40,), generator=torch.Generator().manual_seed(0)).sort(descending=True).values
        sequences = Sequences(lengths, 50)
        assert sum(group.rows for group in sequences.groups) == 40
        assert [group.start for group in sequences.groups[1:]] == [group.stop for group in sequences.groups[:-1]]
        assert 1 < len(sequences.groups) < 8

    @pytest.mark.parametrize("seed", range(8))
    def test_groups_cost_the_least_of_all_ways_to_cut(self, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
        """Against every way to cut eight rows: scores computed for padding, and calls made for one more group."""
        import sftlib.models.layouts.sequences as module

        monkeypatch.setattr(module, "_LARGEST_GROUP", 6000)
        lengths = torch.randint(1, 50, (8,), generator=torch.Generator().manual_seed(seed)).tolist()

        def cost(sizes: list[list[int]]) -> float:
            scores = [len(group) * max(group) ** 2 for group in sizes]
            fits = all(n <= 6000 or len(group) == 1 for n, group in zip(scores, sizes, strict=True))
            return sum(scores) + 2**10 * len(sizes) if fits else float("inf")

        monkeypatch.setattr(module, "_COST_OF_A_GROUP", 2**10)
        ways = []
        for cuts in itertools.product([False, True], repeat=7):
            groups = [[lengths[0]]]
            for size, new in zip(lengths[1:], cuts, strict=True):
                groups = [*groups, [size]] if new else [*groups[:-1], [*groups[-1], size]]
            ways.append(cost(groups))
        found = Sequences(torch.tensor(lengths), max(lengths)).groups
        sizes = [lengths[group.first : group.first + group.rows] for group in found]
        assert cost(sizes) == min(ways)

    def test_groups_are_bounded(self) -> None:
        sequences = Sequences(torch.full((40,), 512), 512)
        assert max(group.rows for group in sequences.groups) == 8


class TestGradient:
    @pytest.mark.parametrize("causal", [False, True])
    @pytest.mark.parametrize("window", [None, 3])
    @pytest.mark.parametrize("dropout", [0.0, 0.4])
    def test_of_flat_attention(self, causal: bool, window: int | None, dropout: float) -> None:
        """Numerically, in float64, on rows of several lengths with shared key heads."""
        lengths = torch.tensor([6, 5, 2])
        sequences, masks = Sequences(lengths, 6), DropoutMasks(1)
        module = torch.nn.Module()

        def attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
            with masks.laid_out(0, torch.arange(3), (sequences.rows, sequences.positions)):
                return attend_flat(
                    module,
                    query,
                    key,
                    value,
                    None,
                    sequences=sequences,
                    dropout_masks=masks,
                    dropout=dropout,
                    is_causal=causal,
                    sliding_window=window,
                )[0]

        def random(heads: int) -> torch.Tensor:
            return torch.randn(1, heads, 13, 2, dtype=torch.float64, requires_grad=True)

        assert torch.autograd.gradcheck(attention, (random(4), random(2), random(2)))
