"""The encoder: rows are independent of each other and of how they are cut up; its digest says what decides tokens."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from sftlib.encoders.text import tokenizer as module
from sftlib.encoders.text.tokenizer import TextEncoder, TokenChunk
from sftlib.testing import SENTENCES, tiny_tokenizer

TEXTS = [*SENTENCES, "", " ", "x" * 300, "[SEP] is what a user typed", "日本 🎬"]


def rows_of(chunks: list[TokenChunk], name: str = "input_ids") -> list[list[int]]:
    return [row.tolist() for chunk in chunks for row in np.split(chunk.inputs[name], np.cumsum(chunk.lengths)[:-1])]


def encoder_of(family: str = "bert", max_length: int = 16) -> TextEncoder:
    return TextEncoder(tiny_tokenizer(family), max_length)


@pytest.mark.parametrize("family", ["bert", "gpt2"])
@pytest.mark.parametrize("pairs", [None, TEXTS[::-1]], ids=["single", "pair"])
def test_rows_are_what_the_tokenizer_makes_of_them(family: str, pairs: list[str] | None) -> None:
    chunks = list(encoder_of(family).encode(TEXTS, pairs))
    tokenizer = tiny_tokenizer(family)
    for i, row in enumerate(rows_of(chunks)):
        pair = None if pairs is None else [pairs[i]]
        (expected,) = tokenizer(
            [TEXTS[i]], pair, truncation="longest_first", max_length=16, split_special_tokens=True, verbose=False
        )["input_ids"]
        assert row == (expected or [3])  # a blank text without control tokens becomes one filler
    for chunk in chunks:
        wide = {name: np.int8 if name == "token_type_ids" else np.int32 for name in chunk.inputs}
        assert {name: values.dtype for name, values in chunk.inputs.items()} == wide
        assert {len(values) for values in chunk.inputs.values()} == {int(chunk.lengths.sum())}
        assert (chunk.cut >= 0).all()


@settings(max_examples=25, deadline=None)
@given(chunk=st.integers(1, 30), characters=st.sampled_from([1, 50, 10**6]), pair=st.booleans())
def test_how_rows_are_cut_up_changes_nothing(chunk: int, characters: int, pair: bool) -> None:
    pairs = TEXTS[::-1] if pair else None
    whole = list(encoder_of().encode(TEXTS, pairs))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_CHUNK", chunk)
        patch.setattr(module, "_CHARACTERS", characters)
        cut = list(encoder_of().encode(TEXTS, pairs))
    assert max(len(part.lengths) for part in cut) <= chunk
    for name in whole[0].inputs:
        assert rows_of(cut, name) == rows_of(whole, name)
    assert np.concatenate([part.cut for part in cut]).tolist() == whole[0].cut.tolist()


def test_texts_are_read_as_they_are_needed() -> None:
    class Texts(list[str]):
        asked = 0

        def __getitem__(self, key: Any) -> Any:
            self.asked = max(self.asked, key.stop)
            return super().__getitem__(key)

    texts = Texts(["a"] * 5000)
    chunks = encoder_of().encode(texts)
    first = next(chunks)
    assert texts.asked == len(first.lengths) < 1000


def test_typed_control_tokens_are_text() -> None:
    (chunk,) = encoder_of().encode(["[SEP]"])
    assert chunk.inputs["input_ids"].tolist().count(3) == 1


def test_no_rows() -> None:
    assert list(encoder_of().encode([])) == []


def test_the_digest_repeats_whatever_was_encoded_before() -> None:
    used = encoder_of()
    list(used.encode(TEXTS))  # the backend now cuts at 16 tokens
    by_user = tiny_tokenizer()
    by_user("a b c", truncation=True, max_length=2, padding="max_length")
    digests = {encoder_of().digest(), used.digest(), TextEncoder(used.tokenizer, 16).digest(), used.digest()}
    assert digests == {TextEncoder(by_user, 7).digest()}
    assert rows_of(list(used.encode(TEXTS))) == rows_of(list(encoder_of().encode(TEXTS)))


def left(tokenizer: Any) -> Any:
    tokenizer.truncation_side = "left"
    return tokenizer


def larger(tokenizer: Any) -> Any:
    tokenizer.add_tokens(["warm and funny"])
    return tokenizer


def without_types(tokenizer: Any) -> Any:
    tokenizer.model_input_names = ["input_ids", "attention_mask"]
    return tokenizer


def other_unknown(tokenizer: Any) -> Any:
    """What stands for a word of which nothing is left."""
    tokenizer.unk_token = tokenizer.convert_ids_to_tokens(7)
    return tokenizer


@pytest.mark.parametrize("change", [left, larger, without_types, other_unknown])
def test_what_changes_tokens_changes_the_digest(change: Callable[[Any], Any]) -> None:
    tokenizer = tiny_tokenizer()
    assert TextEncoder(change(copy.deepcopy(tokenizer)), 16).digest() != TextEncoder(tokenizer, 16).digest()
    assert encoder_of("gpt2").digest() != encoder_of("bert").digest()


def test_a_tokenizer_with_code_of_its_own_has_no_digest() -> None:
    class Own(PreTrainedTokenizerFast):
        pass

    own = Own(tokenizer_object=tiny_tokenizer().backend_tokenizer)
    assert TextEncoder(own, 16).digest() is None
    assert TextEncoder(lambda *_, **__: {"input_ids": []}, 16).digest() is None
