"""Training rows and prompts of language models as tokens, with what of them is to be learned.

Letters: ``T`` tokens of a row.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import repeat
from typing import Any, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from sftlib.encoders.text.chat import Rendering, chat_format, template_of
from sftlib.encoders.text.chat_tokens import ChatTokenizer, Tokens
from sftlib.encoders.text.tokenizer import TextEncoder
from sftlib.encoders.text.unwritten import Talk

#: What of a row is learned.
TRAIN_ON = ("completion", "last", "all")

_CHUNK = 512
_RULES = 2  # raised whenever the rules of this folder give other tokens for the same conversation
_TURN = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "World"}]


class Row(NamedTuple):
    """A row as tokens.

    Attributes:
        ids: (T,) token numbers.
        weights: (T,) how much each counts, from 0 (not learned) to 1.
        prompt: tokens before the last answer; all where there is none yet.
        answered: whether there is one.
    """

    ids: NDArray[np.int64]
    weights: NDArray[np.float32]
    prompt: int
    answered: bool

    @property
    def learned(self) -> NDArray[np.bool_]:
        """(T,) Which are to be learned."""
        return self.weights > 0


@final
class Dialogues:
    """Makes tokens of conversations, of prompts with completions, and of plain texts.

    Args:
        encoder: the tokenizer.
        train_on: of `TRAIN_ON`.
    """

    def __init__(self, encoder: TextEncoder, train_on: str) -> None:
        tokenizer = encoder.tokenizer
        self._encoder = encoder
        self._train_on = train_on
        self._end: int | None = tokenizer.eos_token_id
        self._has_template = template_of(tokenizer) is not None
        self._format = chat_format(tokenizer)
        self._chat = ChatTokenizer(tokenizer, self._format.controls)
        self._stop: tuple[int, ...] | None = None

    @property
    def facts(self) -> list[Any]:
        """What decides the tokens of an answered row beside the tokenizer's own rules, as JSON values."""
        return [_RULES, self._train_on, self._end, self._has_template, self._format.facts]

    @property
    def stop(self) -> tuple[int, ...]:
        """Tokens that end an answer: the end of text, and what the template puts at the end of a turn."""
        if self._stop is None:
            known = [] if self._end is None else [self._end]
            if self._has_template:
                (rendering,) = self._format.render([Talk(_TURN)])
                (tokens,) = self._chat.tokens([rendering.text])
                last = int(tokens.ids[tokens.within(rendering.answers)][-1])
                known += [last] if rendering.ended else []
            self._stop = tuple(dict.fromkeys(known))
        return self._stop

    def of_messages(
        self,
        conversations: Iterable[Sequence[Mapping[str, Any]]],
        tools: Iterable[Sequence[Any] | None] | None = None,
        options: Iterable[Mapping[str, Any] | None] | None = None,
    ) -> Iterator[Row]:
        """Conversations by the chat template.

        Args:
            conversations: the turns of each.
            tools: those of each, if any have some.
            options: what else the template is told of each.
        """
        waiting: list[Rendering] = []
        beside = (repeat(None) if column is None else column for column in (tools, options))
        columns = zip(conversations, *beside, strict=False)
        talks = (
            Talk(turns, {**(more or {}), **({} if own is None else {"tools": own})}) for turns, own, more in columns
        )
        for rendering in self._format.render(talks):
            waiting.append(rendering)
            if len(waiting) == _CHUNK:
                yield from self._rows(waiting)
                waiting = []
        yield from self._rows(waiting)

    def located(self, turns: Sequence[Mapping[str, Any]], given: Mapping[str, Any]) -> tuple[str, Tokens]:
        """What the template makes of a conversation, and where in it each token stands.

        Args:
            turns: what is said.
            given: what else the template is told.
        """
        (rendering,) = self._format.render([Talk(turns, given)])
        (tokens,) = self._chat.tokens([_text(rendering)])
        return _text(rendering), tokens

    def of_prompts(self, prompts: Sequence[str], completions: Sequence[str] | None) -> Iterator[Row]:
        """Prompts and completions: turns of a conversation where the model has a chat template, otherwise plain."""
        if self._has_template:
            turns = [[{"role": "user", "content": prompt}] for prompt in prompts]
            for row, text in zip(turns, completions or (), strict=completions is not None):
                row.append({"role": "assistant", "content": text})
            yield from self.of_messages(turns)
            return
        begin = self._begin()
        for start in range(0, len(prompts), _CHUNK):
            part = list(prompts[start : start + _CHUNK])
            before = self._encoder.bare(part)
            if completions is None:
                for ids in before:
                    yield self._plain([*begin, *ids], [], answered=False)
                continue
            said = list(completions[start : start + _CHUNK])
            whole = self._encoder.bare([a + b for a, b in zip(part, said, strict=True)])
            alone = self._encoder.bare(said)
            for head, both, tail in zip(before, whole, alone, strict=True):
                # A prompt must have the tokens that it will have when it stands alone.
                rest = both[len(head) :] if both[: len(head)] == head and len(both) > len(head) else tail
                yield self._plain([*begin, *head], rest, answered=True)

    def of_texts(self, texts: Sequence[str]) -> Iterator[Row]:
        """Plain texts, all of which is learned; as a prompt such a text is to be continued."""
        begin = self._begin()
        for start in range(0, len(texts), _CHUNK):
            for ids in self._encoder.bare(list(texts[start : start + _CHUNK])):
                row = self._plain([*begin, *ids], [], answered=True)
                yield row._replace(weights=np.ones_like(row.weights), prompt=len(row.ids) - (self._end is not None))

    def _begin(self) -> list[int]:
        """What the tokenizer begins a text with."""
        return [int(token) for token in self._encoder.frame().before]

    def _plain(self, head: list[int], tail: list[int], *, answered: bool) -> Row:
        head = head or [self._encoder.blank]  # a model needs a position to read from
        end = [self._end] if answered and self._end is not None else []
        ids = np.array([*head, *tail, *end], np.int64)
        learned = np.arange(len(ids)) >= (0 if self._train_on == "all" else len(head))
        return Row(ids, (learned & answered).astype(np.float32), len(head), answered)

    def _rows(self, renderings: Sequence[Rendering]) -> Iterator[Row]:
        texts = [_text(rendering) for rendering in renderings]
        for rendering, tokens in zip(renderings, self._chat.tokens(texts), strict=True):
            yield self._row(rendering, tokens)

    def _row(self, rendering: Rendering, tokens: Tokens) -> Row:
        if not rendering.answers:
            return Row(tokens.ids, np.zeros(len(tokens.ids), np.float32), len(tokens.ids), answered=False)
        pairs = list(zip(rendering.answers, rendering.weights, strict=True))
        weights = np.full(len(tokens.ids), self._train_on == "all", np.float32)
        for span, weight in pairs[-1:] if self._train_on == "last" else pairs:
            weights[tokens.within([span])] = weight
        prompt = int(np.argmax(tokens.within(rendering.answers[-1:])))
        ids = tokens.ids
        if not rendering.ended and self._end is not None:  # the template ends turns with nothing that is a token
            ids, weights = np.append(ids, self._end), np.append(weights, np.float32(rendering.weights[-1]))
        return Row(ids, weights, prompt, answered=True)


def _text(rendering: Rendering) -> str:
    """The text to tokenise; behind an answer that no control string ends, nothing but the end of text follows."""
    return rendering.text if rendering.ended or not rendering.answers else rendering.text[: rendering.answers[-1][1]]
