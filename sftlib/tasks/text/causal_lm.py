"""Language models: instruction tuning on conversations, on prompts and completions, and tuning on plain texts.

Letters: ``B`` rows of a micro-batch, ``T`` positions, ``S`` supervised positions, ``V`` tokens of the vocabulary.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import islice
from typing import Any, Self, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from sftlib.data.dataset import TaskDataset
from sftlib.data.kinds.messages import MessagesRole
from sftlib.data.kinds.tools import TemplateOptionsRole, ToolsRole
from sftlib.data.kinds.values import RowKind
from sftlib.data.problems import brief, listed_rows
from sftlib.encoders.batch import IGNORED, Batch, places
from sftlib.encoders.encoded import Encoded, Ragged
from sftlib.encoders.text.chat import plain_template, template_of
from sftlib.encoders.text.dialogues import TRAIN_ON, Dialogues, Row
from sftlib.encoders.text.tokenizer import TextEncoder
from sftlib.encoders.writer import Writer
from sftlib.errors import DataError
from sftlib.metrics import LanguageModel, Metrics
from sftlib.models.language.causality import require_causal
from sftlib.models.language.generation import Generation, generate, left_padded, settle
from sftlib.models.language.output_layers import Hidden, OutputLayers
from sftlib.models.outputs import logits
from sftlib.support.checking import checked_fields, choice
from sftlib.support.values import Checked, Problem
from sftlib.tasks.base import Asked, Label, LossSum
from sftlib.tasks.text.writing import WITHOUT_TEXT, WritingTask

#: What data is made of; decides what a plain string means to `predict`.
FORMS = ("messages", "prompt", "text")
#: What happens to rows that are longer than the limit.
OVER_LONG = ("truncate", "split", "error")

#: What may stand beside messages.
BESIDE: Mapping[str, RowKind] = {"tools": ToolsRole(), "chat_template_kwargs": TemplateOptionsRole()}

_CHUNK = 512  # rows written at a time


@final
@dataclass(frozen=True)
class Answer:
    """What a language model says.

    Attributes:
        text: what was generated; empty where nothing was asked for.
        correct: how many tokens of the true answer were the most probable ones, each after the true ones before it.
        tokens: how many there are; 0 where there is no true answer.
    """

    text: str
    correct: int = field(default=0, repr=False)
    tokens: int = field(default=0, repr=False)

    def __repr__(self) -> str:
        return f"Prediction(text={self.text!r})"


@dataclass(frozen=True, kw_only=True)
class Learned(Checked):
    """What training data decided.

    Attributes:
        form: what rows are made of, of `FORMS`.
    """

    form: str

    def problems(self) -> Iterable[Problem]:
        yield choice("form", self.form, FORMS)


@final
@checked_fields
@dataclass(frozen=True, kw_only=True, repr=False)
class CausalLM(WritingTask):
    """The next token, by cross-entropy over what the assistant says: its words and the end of its turn.

    Args:
        train_on: ``"completion"`` (every turn of the assistant), ``"last"`` (its last) or ``"all"`` (every token).
        over_long: what happens to rows longer than the limit: ``"truncate"``, ``"split"`` (into windows) or
            ``"error"``.
        label_smoothing: share of the target spread over all tokens.
        generation: how answers are generated; greedily when None.
        learned: what rows are made of; from the training data.

    Raises:
        OptionError: values that they cannot have.

    Example:
        >>> talk = [{"role": "user", "content": "Hi."}, {"role": "assistant", "content": "Hello."}]
        >>> task = CausalLM(train_on="last").learned_from(TaskDataset({"messages": [talk]}))
        >>> task.inputs_of("Name three rivers.")
        {'messages': [{'role': 'user', 'content': 'Name three rivers.'}]}
    """

    name = "causal-lm"
    usual_metrics = ("perplexity", "token_accuracy")
    auto_class = "AutoModelForCausalLM"
    family = LanguageModel
    every_row_counts = True

    train_on: str = "completion"
    over_long: str = "truncate"
    learned: Learned | None = None

    def problems(self) -> Iterable[Problem]:
        yield choice("train_on", self.train_on, TRAIN_ON)
        yield choice("over_long", self.over_long, OVER_LONG)
        yield from super().problems()

    def learned_from(self, data: TaskDataset) -> Self:
        return replace(self, learned=Learned(form=next(form for form in FORMS if form in data.inputs)))

    def brought(self, names: Sequence[Label], roles: Collection[str]) -> Self:
        return replace(self, learned=Learned(form=next((form for form in FORMS if form in roles), FORMS[-1])))

    def generating(self, generation: Generation) -> Self:
        twin = super().generating(generation)
        vars(twin).update(_layers=self._layers, _dialogues=self._dialogues)
        return twin

    @property
    def _form(self) -> str:
        return str(self.known.form)

    @property
    def _generation(self) -> Generation:
        return self.generation or Generation()

    # What was found out about models and tokenizers; no part of the value.

    @cached_property
    def _layers(self) -> OutputLayers:
        return OutputLayers()

    @cached_property
    def _dialogues(self) -> weakref.WeakKeyDictionary[TextEncoder, Dialogues]:
        return weakref.WeakKeyDictionary()

    def check_model(self, model: nn.Module, name: str) -> None:
        require_causal(model, name)

    def prepare(self, model: nn.Module, encoder: Any) -> None:
        """A chat template where conversations are to be read and there is none; how to generate."""
        tokenizer = encoder.tokenizer
        if self._form == "messages" and template_of(tokenizer) is None:
            tokenizer.chat_template = plain_template(tokenizer)
        settle(model, self._generation, stop=self._dialogues_of(encoder).stop, pad=encoder.fill["input_ids"])

    # Rows.

    @property
    def reads(self) -> tuple[str, ...]:
        return (*FORMS, *BESIDE, "completion")

    def write_options(self, encoder: TextEncoder) -> Mapping[str, Any]:
        return {"split": self.over_long == "split", "dialogues": self._dialogues_of(encoder).facts}

    def write(self, data: TaskDataset, encoder: TextEncoder, writer: Writer) -> None:
        """Targets are the tokens that are to be learned; notes say where the last answer begins."""
        rows, open_ended = enumerate(self._rows(data, self._dialogues_of(encoder))), []
        while chunk := list(islice(rows, _CHUNK)):
            writer.extend(self._encoded(chunk, encoder.max_length))
            open_ended += [(number, len(row.ids)) for number, row in chunk if not row.answered]
        self._require_prompts(open_ended, encoder)

    def encode(self, data: TaskDataset, encoder: TextEncoder, columns: Encoded | None = None) -> Encoded:
        if not data.is_labelled:  # never from earlier work: a template may tell questions, other than answers, the time
            return self.written(data, encoder).with_targets({})
        found = self.written(data, encoder) if columns is None else columns
        self._require_room(found, encoder.max_length)
        return found

    def _encoded(self, rows: Sequence[tuple[int, Row]], limit: int) -> Encoded:
        """Rows with their numbers as tokens, in windows where they are read in some."""
        parts = [(number, row, part) for number, row in rows for part in self._cut(row, limit)]
        ids = Ragged.from_lists([part.ids.tolist() for _, _, part in parts])
        cut = [0 if self.over_long == "split" else len(row.ids) - len(part.ids) for _, row, part in parts]
        targets = np.concatenate([np.where(_supervised(part), part.ids, IGNORED) for _, _, part in parts])
        return Encoded(
            {"input_ids": ids},
            {"tokens": ids.alike(targets.astype(np.int32))},
            cut=np.array(cut, np.int64),
            owners=np.array([number for number, _, _ in parts], np.int64),
            notes={"prompt": np.array([part.prompt for _, _, part in parts], np.int64)},
        )

    def _rows(self, data: TaskDataset, dialogues: Dialogues) -> Iterator[Row]:
        if "messages" in data.inputs:
            tools, options = (data.view(role) if role in data.inputs else None for role in BESIDE)
            return dialogues.of_messages(data.view("messages"), tools, options)
        if "text" in data.inputs:
            return dialogues.of_texts(data.view("text"))
        return dialogues.of_prompts(data.view("prompt"), data.view("completion") if data.is_labelled else None)

    def _dialogues_of(self, encoder: TextEncoder) -> Dialogues:
        if encoder not in self._dialogues:
            self._dialogues[encoder] = Dialogues(encoder, self.train_on)
        return self._dialogues[encoder]

    def _require_room(self, encoded: Encoded, limit: int) -> None:
        """Refuse labelled rows that were cut, where that is to be an error."""
        long = encoded.truncated.tolist()
        if long and self.over_long == "error":
            longest = int((encoded.cost + encoded.cut).max())
            raise DataError(
                f"{len(long):,} of {len(encoded):,} rows are longer than the limit of {limit} tokens (the longest has "
                f"{longest:,}): {listed_rows(long)}; raise max_length, shorten or drop these rows, or let them be cut "
                "with over_long='truncate' or 'split'"
            )

    def _cut(self, row: Row, limit: int) -> list[Row]:
        """A row, or the windows that it is read in; a prompt is never cut."""
        if not row.answered or len(row.ids) <= limit:
            return [row]
        if self.over_long != "split":
            return [Row(row.ids[:limit], row.learned[:limit], row.prompt, row.answered)]
        # Windows share one token: the first of a window has nothing before it, and is learned in the one before.
        starts = range(0, len(row.ids) - 1, limit - 1)
        windows = [
            Row(row.ids[i : i + limit], row.learned[i : i + limit], row.prompt if i == 0 else 0, row.answered)
            for i in starts
        ]
        return [window for i, window in enumerate(windows) if i == 0 or _supervised(window).any()]

    def unsupervised(self, encoded: Encoded) -> NDArray[np.int64]:
        """Rows of which nothing is learned: what the assistant says lies beyond the limit."""
        targets = encoded.targets.get("tokens")
        if not isinstance(targets, Ragged):
            return np.empty(0, dtype=np.int64)
        learned = np.concatenate([[0], np.cumsum(targets.values != IGNORED)])
        counts = np.diff(learned[targets.offsets])
        windows = np.bincount(encoded.owners, weights=counts)
        return np.flatnonzero((counts == 0) & (windows[encoded.owners] == 0))

    # What the model says.

    def ask(self, model: nn.Module, call: Callable[..., Any], inputs: Mapping[str, Any]) -> Any:
        return self._layers.ask(model, call, inputs)

    def loss(self, outputs: Any, batch: Batch) -> LossSum:
        """Cross-entropy summed over the supervised positions; scores are made for a few of them at a time."""
        states, targets, _ = _positions(outputs, batch)
        if isinstance(outputs, Hidden):
            total, _ = outputs.loss(states, targets, smoothing=self.label_smoothing)
        else:
            total = functional.cross_entropy(states, targets, label_smoothing=self.label_smoothing, reduction="sum")
        return LossSum(total, total.new_full((), len(targets)))

    def decode(self, outputs: Any, batch: Batch) -> list[Answer]:
        return self._judged(outputs, batch)[1]

    def _judged(self, outputs: Any, batch: Batch) -> tuple[LossSum, list[Answer]]:
        """Loss, and how many tokens of each row are right, from one look at the scores."""
        states, targets, rows = _positions(outputs, batch)
        if isinstance(outputs, Hidden) and not self.label_smoothing:
            losses, right = outputs.judged(states, targets)
            loss = LossSum(losses.sum(), losses.new_full((), len(losses)))
        else:
            loss = self.loss(outputs, batch)
            right = (
                outputs.judged(states, targets)[1] if isinstance(outputs, Hidden) else states.argmax(dim=1) == targets
            )
        count = len(batch.rows)
        correct = torch.bincount(rows[right], minlength=count).tolist()
        tokens = torch.bincount(rows, minlength=count).tolist()
        return loss, [Answer("", *pair) for pair in zip(correct, tokens, strict=True)]

    def judge(
        self, model: Asked, batch: Batch, encoder: TextEncoder, metrics: Metrics
    ) -> tuple[LossSum, Sequence[Answer]]:
        loss, answers = self._judged(model(batch), batch)
        if all(name in WITHOUT_TEXT for name in metrics):
            return loss, answers
        texts = self._generate(model, batch, encoder)
        return loss, [Answer(text, a.correct, a.tokens) for text, a in zip(texts, answers, strict=True)]

    def answer(self, model: Asked, batch: Batch, encoder: TextEncoder) -> list[Answer]:
        return [Answer(text) for text in self._generate(model, batch, encoder)]

    def _generate(self, model: Asked, batch: Batch, encoder: TextEncoder) -> list[str]:
        tokenizer = encoder.tokenizer
        ids, rows, lengths = batch.inputs["input_ids"].tolist(), batch.rows.tolist(), batch.notes["prompt"].tolist()
        prompts = [row[:length] for row, length in zip(ids, lengths, strict=True)]
        limit = encoder.longest
        cut = [len(prompt) < length or not length for prompt, length in zip(prompts, lengths, strict=True)]
        self._require_prompts(
            [(row, limit if short else length) for row, length, short in zip(rows, lengths, cut, strict=True)], encoder
        )

        def text(tokens: list[int]) -> str:
            found: str = tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)
            return found.strip() if self._form == "messages" else found

        with model.plain() as plain:
            found = generate(
                plain,
                left_padded(prompts, encoder.fill["input_ids"], batch.rows.device),
                self._generation,
                rows=rows,
                room=[limit - length for length in lengths],
                stop=self._dialogues_of(encoder).stop,
                pad=encoder.fill["input_ids"],
                decode=text,
            )
        return [text(tokens) for tokens in found]

    def _require_prompts(self, prompts: Sequence[tuple[int, int]], encoder: TextEncoder) -> None:
        """Refuse prompts, given as (row, tokens), that leave no room for an answer."""
        long = sorted(row for row, length in prompts if length >= encoder.longest)
        if long:
            raise DataError(
                f"prompts that leave no room for an answer within {encoder.longest} tokens: {listed_rows(long)}; "
                "shorten them"
            )

    def complete(self, data: TaskDataset, row: int, pieces: Sequence[Answer]) -> Answer:
        first = pieces[0]
        return Answer(first.text, sum(piece.correct for piece in pieces), sum(piece.tokens for piece in pieces))

    def references(self, data: TaskDataset) -> Sequence[str]:
        if "messages" in data.inputs:
            return [_last_answer(turns) for turns in data.view("messages")]
        texts: Sequence[str] = data.column("text" if "text" in data.inputs else "completion")
        return texts

    def inputs_of(self, example: object) -> dict[str, Any]:
        if isinstance(example, str):
            asked: Any = example
            return {self._form: [{"role": "user", "content": asked}] if self._form == "messages" else asked}
        if isinstance(example, Mapping) and isinstance(example.get(self._form), str) and self._form != "messages":
            return {self._form: example[self._form]}
        if isinstance(example, Mapping) and self._form == "messages":
            beside = {role: _beside(role, example[role]) for role in BESIDE if example.get(role) is not None}
            if isinstance(example.get("prompt"), str):
                return self.inputs_of(example["prompt"]) | beside
            if "messages" in example:
                return {"messages": _turns(example["messages"])} | beside
        raise DataError(self._wanted(example))

    def _wanted(self, example: object) -> str:
        found = f"found {brief(example, 80)}"
        if isinstance(example, Mapping) and "role" in example:
            return f"an input is one turn; give a conversation as {{'messages': [...]}}; {found}"
        if isinstance(example, list):
            return (
                f"an input is a list; give a conversation as {{'messages': [...]}}, or one flat list of inputs; {found}"
            )
        return f"this model takes a string, or a mapping with {self._form!r}; {found}"

    def examples(self) -> list[object]:
        return ["Hello.", "Name a river, and 1 mountain.", "words " * 4]


def _supervised(row: Row) -> NDArray[np.bool_]:
    """(T,) What is learned; the first token has nothing before it to be predicted from."""
    return row.learned & (np.arange(len(row.ids)) > 0)


def _positions(outputs: Any, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """(S, ...) what the model says at each position before a supervised one, (S,) the tokens there, (S,) their rows."""
    targets = batch.targets["tokens"][:, 1:]  # (B, T - 1)
    learned = places(batch.at_hand.targets["tokens"][:, 1:] != IGNORED, targets.device)
    said = outputs.states if isinstance(outputs, Hidden) else logits(outputs)
    return said[:, :-1][learned], targets[learned], learned[0]


def _last_answer(turns: Sequence[Mapping[str, Any]]) -> str:
    return next((str(turn["content"]) for turn in reversed(turns) if turn["role"] == "assistant"), "")


def _turns(given: object) -> list[Any]:
    """The turns up to the one that is asked for.

    Raises:
        DataError: they are no conversation.
    """
    role = MessagesRole()
    turns: list[Any] = list(role.input_of(_plain("messages", role, given)))  # type: ignore[call-overload]
    return turns


def _beside(name: str, given: object) -> object:
    """What stands beside the turns.

    Raises:
        DataError: it cannot be used.
    """
    return _plain(name, BESIDE[name], given)


def _plain(name: str, role: RowKind, given: object) -> object:
    fault = role.fault(given)
    if fault is not None:
        shown = "" if fault.shown is None else f" ({brief(fault.shown, 80)})"
        raise DataError(f"{name}: {fault.what}{shown}; {fault.mend}")
    return role.plain(given)
