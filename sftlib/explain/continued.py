"""A language model's answer: where the words of its prompt stand in the row, and how probable the answer makes them.

Letters: ``B`` settings of the dials, ``T`` tokens of prompt and answer, ``V`` vocabulary.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sftlib.encoders.batch import IGNORED, Batch
from sftlib.encoders.encoded import Ragged
from sftlib.encoders.text.chat import template_of
from sftlib.encoders.text.chat_tokens import Tokens
from sftlib.encoders.text.dialogues import Dialogues
from sftlib.errors import OptionError
from sftlib.explain.dials import SwitchedTokens
from sftlib.explain.pieces import CONTROL, Places, Text, placed
from sftlib.explain.questions import Question
from sftlib.models.language.output_layers import Hidden
from sftlib.models.outputs import logits
from sftlib.run.fitted import Fitted


@final
class Continuation:
    """A prompt and what follows it, as one row.

    Args:
        fitted: the model.
        row: the prompt, under role names.
        answer: the text that follows it.

    Attributes:
        encoded: prompt and answer, one row.
        texts: of the prompt; of a conversation one a turn.
        places: of the tokens; those of the answer and of the template are of no text.
        question: how probable the answer is.

    Raises:
        OptionError: they are longer than the model reads, or the template writes a turn otherwise than it stands.
    """

    def __init__(self, fitted: Fitted, row: Mapping[str, Any], answer: str) -> None:
        _, self.encoded = fitted.read([_answered(row, answer)])
        if len(self.encoded) != 1 or int(self.encoded.cut[0]):
            raise OptionError("explain: prompt and answer are longer together than the model reads; give shorter ones")
        column, encoder, turns = self.encoded.inputs["input_ids"], fitted.encoder, _turns(row, fitted.encoder)
        assert isinstance(column, Ragged)
        tokens, first = column[0], int(self.encoded.notes["prompt"][0])
        if turns is not None:
            self.texts, spans, found = _rendered(encoder, turns, row, answer)
            places = _within(found, spans, tokens)
        else:
            role = "prompt" if "prompt" in row else "text"
            self.texts = [Text(role, row[role])]
            first = first if role == "prompt" else _beyond(encoder, row[role], answer)
            places = placed(encoder, self.texts, tokens[:first])
        self.places = _prompt_only(places, tokens, first)
        self.question = OfContinuation(answer, first)

    def number(self, fitted: Fitted) -> float:
        """What is explained of it, as it stands."""
        dials = SwitchedTokens(fitted, self.encoded, self.places)
        return float(dials.values(torch.ones(1, dials.pieces), self.question.number)[0])


def own_continuation(fitted: Fitted, row: Mapping[str, Any], answer: str) -> Continuation:
    """A prompt and what the model itself said: with the space before it, which many tokenizers drop when they write.

    Of the two spellings it is the one that the model finds more probable.
    """
    spellings = [answer] if "messages" in row or answer[:1].isspace() else [answer, f" {answer}"]
    found = [Continuation(fitted, row, spelling) for spelling in spellings]
    return max(found, key=lambda one: one.number(fitted))


@final
class OfContinuation(Question):
    """The logarithm of the probability of what follows a prompt, summed over its tokens, each given those before it.

    Its end is one of them, as in the loss. Its probability is the geometric mean over tokens.

    Args:
        text: as it is read off.
        first: place of its first token.
    """

    def __init__(self, text: str, first: int) -> None:
        self.target = text
        self._first = first

    def number(self, outputs: Any, batch: Batch) -> Tensor:
        scores = outputs.layer.scores(outputs.states) if isinstance(outputs, Hidden) else logits(outputs)  # (B, T, V)
        logs = torch.log_softmax(scores[:, self._first - 1 : -1].float(), dim=-1)
        target = self._target(batch)
        found = logs.gather(2, target.clamp_min(0)[..., None])[..., 0]
        return (found * (target != IGNORED)).sum(dim=1)

    def chance(self, outputs: Any, batch: Batch) -> Tensor:
        tokens = (self._target(batch) != IGNORED).sum(dim=1).clamp_min(1)
        return (self.number(outputs, batch) / tokens).exp()

    def _target(self, batch: Batch) -> Tensor:
        return batch.targets["tokens"][:, self._first :]


def _answered(row: Mapping[str, Any], answer: str) -> dict[str, Any]:
    """The row of training that a prompt and an answer make."""
    if "messages" in row:
        return {**row, "messages": [*row["messages"], {"role": "assistant", "content": answer}]}
    if "prompt" in row:
        return {**row, "completion": answer}
    return {"text": row["text"] + answer}


def _turns(row: Mapping[str, Any], encoder: Any) -> list[Mapping[str, Any]] | None:
    """The conversation that a template makes a text of; None where there is no template in use."""
    if "messages" in row:
        return list(row["messages"])
    if "prompt" in row and template_of(encoder.tokenizer) is not None:
        return [{"role": "user", "content": row["prompt"]}]
    return None


def _beyond(encoder: Any, text: str, answer: str) -> int:
    """The place of the first token, of a text that goes on, that reaches beyond the text."""
    (chunk,) = encoder.encode_places([text + answer])
    return len(encoder.frame().before) + int((chunk.ends <= len(text)).sum())


def _rendered(
    encoder: Any, turns: list[Mapping[str, Any]], row: Mapping[str, Any], answer: str
) -> tuple[list[Text], list[tuple[int, int]], Tokens]:
    """The turns as texts, where each stands in what the template makes of them, and where the tokens of that do.

    Raises:
        OptionError: a turn that cannot be found in it.
    """
    given = {**(row.get("chat_template_kwargs") or {}), **({"tools": row["tools"]} if row.get("tools") else {})}
    written, tokens = Dialogues(encoder, "last").located([*turns, {"role": "assistant", "content": answer}], given)
    texts, spans, at, seen = [], [], 0, Counter[str]()
    for number, turn in enumerate(turns):
        content = turn.get("content")
        if not isinstance(content, str) or not content.strip():
            continue  # a call of a tool
        role = str(turn["role"])
        seen[role] += 1
        start = written.find(content.strip(), at)
        if start < 0:
            raise OptionError(
                f"explain: the chat template writes turn {number} ({role}) otherwise than it stands, so that its words "
                "cannot be found in what the model reads"
            )
        at = start + len(content.strip())
        texts.append(Text(role if seen[role] == 1 else f"{role} {seen[role]}", content))
        spans.append((start - (len(content) - len(content.lstrip())), at))  # where its first character would stand
    return texts, spans, tokens


def _within(tokens: Tokens, spans: list[tuple[int, int]], row: NDArray[np.integer[Any]]) -> Places:
    """The tokens of a row whose first ones are these, by the spans of characters in which they begin."""
    whose, starts, ends = (np.full(len(row), fill) for fill in (CONTROL, 0, 0))
    for number, (start, end) in enumerate(spans):
        place = np.flatnonzero(tokens.within([(start, end)]))
        whose[place] = number
        starts[place], ends[place] = (np.clip(side[place], start, end) - start for side in (tokens.starts, tokens.ends))
    return Places(row, whose, starts, ends)


def _prompt_only(places: Places, row: NDArray[np.integer[Any]], first: int) -> Places:
    """Places of the whole row, in which what stands from ``first`` on is of no text: it is what is explained."""
    beyond = np.arange(len(row)) >= first
    of_row = (np.concatenate([side, np.zeros(len(row), side.dtype)])[: len(row)] for side in places[1:])
    whose, starts, ends = of_row
    return Places(row, np.where(beyond, CONTROL, whose), starts, ends)
