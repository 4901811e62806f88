"""Attention by one kernel: FlexAttention as it is, FlashAttention by what it is asked, both inside whole models."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from sftlib.models.dropout import DropoutMasks
from sftlib.models.layouts import attention, kernels
from sftlib.models.layouts.attention import attend_flat
from sftlib.models.layouts.kernels import Flash, Flex, Kernel, Look, agrees, kernel_of, row_by_row
from sftlib.models.layouts.layout import Flat, Padded
from sftlib.models.layouts.sequences import Sequences
from sftlib.models.outputs import logits
from tests.models.layouts.test_layout import CPU, LENGTHS, batch_of, forward_of, model_of
from tests.versions import requires_flat


def varlen_by_a_loop(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    cu_seq_q: Tensor,
    cu_seq_k: Tensor,
    max_q: int,
    max_k: int,
    *,
    scale: float,
    window_size: tuple[int, int],
    enable_gqa: bool,
) -> Tensor:
    """`torch.nn.attention.varlen.varlen_attn` as it is documented; a window counts the tokens on either side."""
    assert cu_seq_q.dtype == cu_seq_k.dtype == torch.int32
    assert enable_gqa == (query.shape[1] != key.shape[1])
    assert max_q == max_k == int(cu_seq_q.diff().max())
    left, right = (n if n >= 0 else max_q for n in window_size)
    found = []
    for start, stop in zip(cu_seq_q[:-1].tolist(), cu_seq_q[1:].tolist(), strict=True):
        for i in range(start, stop):
            sees = slice(max(start, i - left), min(stop, i + right + 1))
            k, v = (x[sees].repeat_interleave(query.shape[1] // x.shape[1], 1) for x in (key, value))  # (S, A, D)
            weights = torch.softmax((query[i] * k).sum(-1) * scale, 0)  # (S, A)
            found.append((weights[..., None] * v).sum(0))
    return torch.stack(found)


def eager_flex(*args: Any, **kwargs: Any) -> Any:
    from torch.nn.attention.flex_attention import flex_attention

    return flex_attention(*args, **kwargs)


# Written out, as here, it holds every score; compiled, as `kernel_of` has it, it does not.
pytestmark = pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
KERNELS: list[Kernel] = [Flash(varlen_by_a_loop), Flex(eager_flex)]
each_kernel = pytest.mark.parametrize("kernel", KERNELS, ids=["flash", "flex"])


def drawn(lengths: list[int], heads: int, shared: int, seed: int) -> tuple[tuple[Tensor, Tensor, Tensor], Sequences]:
    generator = torch.Generator().manual_seed(seed)
    count = sum(lengths)
    q, k, v = (torch.randn(count, n, 8, generator=generator, dtype=torch.float64) for n in (heads, shared, shared))
    return (q, k, v), Sequences(torch.tensor(lengths), max(lengths))


@each_kernel
@pytest.mark.parametrize("window", [None, 1, 3])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("heads", "shared"), [(2, 2), (4, 2), (3, 1)])
def test_a_kernel_gives_what_groups_give(
    kernel: Kernel, heads: int, shared: int, causal: bool, window: int | None
) -> None:
    for seed, lengths in enumerate(([1], [3, 1, 9, 2], [7, 7, 140])):
        sides, sequences = drawn(lengths, heads, shared, seed)
        found = kernel(*sides, sequences, Look(0.3, causal, window))
        flat = [x.transpose(0, 1)[None] for x in sides]
        expected, _ = attend_flat(
            torch.nn.Module(),
            query=flat[0],
            key=flat[1],
            value=flat[2],
            attention_mask=None,
            sequences=sequences,
            dropout_masks=DropoutMasks(0),
            scaling=0.3,
            is_causal=causal,
            sliding_window=window,
        )
        assert torch.allclose(found, expected[0], atol=1e-12)
        assert torch.allclose(row_by_row(*sides, sequences, Look(0.3, causal, window)), found, atol=1e-6)


class Broken(Kernel):
    """Wrong in one way."""

    def __init__(self, **wrong: Any) -> None:
        self._wrong = wrong

    def __call__(self, query: Tensor, key: Tensor, value: Tensor, sequences: Sequences, look: Look) -> Tensor:
        return row_by_row(query, key, value, sequences, look._replace(**self._wrong))


class Leaking(Kernel):
    """Rows see each other."""

    def __call__(self, query: Tensor, key: Tensor, value: Tensor, sequences: Sequences, look: Look) -> Tensor:
        one = torch.tensor([len(query)])
        return row_by_row(query, key, value, Sequences(one, len(query)), look)


class NoGradient(Kernel):
    """Right, but keys learn nothing."""

    def __call__(self, query: Tensor, key: Tensor, value: Tensor, sequences: Sequences, look: Look) -> Tensor:
        return row_by_row(query, key.detach() + 0.0 * key, value, sequences, look)


class Failing(Kernel):
    """No compiler, say."""

    def __call__(self, *_: object) -> Tensor:
        raise RuntimeError("no such kernel")


class TestTrial:
    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
    def test_a_right_kernel_agrees(self, dtype: torch.dtype) -> None:
        assert agrees(Flash(varlen_by_a_loop), CPU, dtype, 8)

    @pytest.mark.parametrize(
        "kernel",
        [
            Broken(factor=0.3),
            Broken(causal=False),
            Broken(causal=True),
            Broken(window=None),
            Leaking(),
            NoGradient(),
        ],
        ids=["factor", "all", "causal", "window", "leak", "gradient"],
    )
    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
    def test_any_other_does_not(self, kernel: Kernel, dtype: torch.dtype) -> None:
        assert not agrees(kernel, CPU, dtype, 8)

    def test_one_that_fails_is_named_with_the_reason(self) -> None:
        with pytest.warns(UserWarning, match=r"Failing attention does not run on cpu.*: no such kernel"):
            assert not agrees(Failing(), CPU, torch.float32, 8)

    def test_processors_have_none(self) -> None:
        assert kernel_of(CPU, torch.float32, 8) is None


each_family = pytest.mark.parametrize("family", ["bert", "modernbert", "gpt2", "llama", "gemma3_text"])


@pytest.fixture
def asked_for(monkeypatch: pytest.MonkeyPatch) -> list[Kernel]:
    """The kernels that models will find here, as if a processor had one; those that were asked for follow."""
    found: list[Kernel] = [KERNELS[0]]

    def chosen(*_: object) -> Kernel:
        found.append(found[0])
        return found[0]

    monkeypatch.setattr(attention, "kernel_of", chosen)
    return found


@each_family
def test_models_give_the_loss_and_every_gradient_of_padded_rows(family: str, asked_for: list[Kernel]) -> None:
    requires_flat(family)
    found = []
    for layout in (Padded(), Flat()):
        model = model_of(family, 0.0).double().train()
        forward = forward_of(model, layout)
        with forward.prepared():
            loss = logits(forward.train(batch_of(model, LENGTHS), step=5)).square().sum()
            loss.backward()  # type: ignore[no-untyped-call]
        gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
        found.append((loss, gradients))
    (loss, padded), (flat_loss, flat) = found
    assert len(asked_for) > 1
    assert abs(flat_loss - loss) <= 1e-6 * abs(loss)  # some models norm in fp32 whatever they are made of
    assert padded.keys() == flat.keys()
    for name, gradient in padded.items():
        assert (flat[name] - gradient).norm() <= 1e-5 * gradient.norm() + 1e-8, name


@each_family
def test_models_give_the_scores_of_padded_rows_by_flex(family: str, asked_for: list[Kernel]) -> None:
    """Scores alone: on a processor FlexAttention has no gradient."""
    requires_flat(family)
    asked_for[:] = [Flex(eager_flex)]
    model = model_of(family, 0.2).eval()
    found = []
    for layout in (Padded(), Flat()):
        forward = forward_of(model, layout)
        with forward.prepared(), torch.no_grad():
            found.append(logits(forward(batch_of(model, LENGTHS))))
    assert len(asked_for) > 1
    assert (found[1] - found[0]).norm() <= 1e-5 * found[0].norm()


def test_weights_that_are_dropped_are_left_to_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel cannot be told which mask belongs to which row."""
    requires_flat("bert")
    model = model_of("bert", 0.2).train()
    forward = forward_of(model, Flat())
    monkeypatch.setattr(attention, "kernel_of", lambda *_: Failing())
    with forward.prepared():
        forward.train(batch_of(model, LENGTHS), step=0)
        model.eval()
        with pytest.raises(RuntimeError, match="no such kernel"):
            forward(batch_of(model, LENGTHS))


def test_layers_share_the_mask_of_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    real = kernels._seen_blocks

    def seen_blocks(sequences: Sequences, look: Look) -> Any:
        made.append(look)
        return real(sequences, look)

    monkeypatch.setattr(kernels, "_seen_blocks", seen_blocks)
    sides, sequences = drawn([3, 2], 2, 2, 0)
    for look in (Look(1.0, True, None), Look(0.5, True, None), Look(1.0, False, None)):
        Flex(eager_flex)(*sides, sequences, look)
    assert len(made) == 2
