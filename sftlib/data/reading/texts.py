"""Layouts of texts: entities, words with tags, questions, instructions and conversations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from types import MappingProxyType
from typing import Any, Self

from sftlib.data.files.conll import read_conll
from sftlib.data.files.entities import read_entities
from sftlib.data.files.instructions import read_alpaca, read_sharegpt
from sftlib.data.files.squad import read_squad
from sftlib.data.kinds.base import Label
from sftlib.data.reading.base import Readable
from sftlib.support.checking import checked, choice, raise_together


class FromTexts(Readable):
    """Rows of files in the layouts that texts come in."""

    @classmethod
    @checked
    def from_entities(
        cls,
        source: Any,
        *,
        text: str = "text",
        entities: str | None = None,
        scheme: str = "BIO",
        label_names: Sequence[Label] | None = None,
        on_invalid: str = "error",
    ) -> Self:
        """Texts in which entities are marked by their characters, as words with tags (task ``token-classification``).

        The layouts of doccano, Label Studio (JSON and JSON-MIN), Prodigy and spaCy are known: a span is ``[start, end,
        label]`` or a mapping of these, characters counted from 0, the end not included. Texts are cut into words as
        `FineTuner.predict` cuts them, and once more where an entity begins or ends inside of a word. Rows that Prodigy
        marks as rejected are passed over, white space at the ends of a span is left out, and the logger ``sftlib`` says
        how often.

        Args:
            source: a JSON Lines file, a file with a JSON array, or rows in any form that `TaskDataset` takes.
            text: the key of the text.
            entities: the key of its entities; None for whichever a row has of ``entities``, ``spans``, ``label`` and
                ``labels``.
            scheme: of the tags, ``"BIO"`` or ``"BIOES"``.
            label_names: as for `TaskDataset`.
            on_invalid: as for `TaskDataset`.

        Raises:
            OptionError: no such scheme.
            DataError: no such file, another layout, spans that overlap or reach beyond their text, with their rows.

        Example:
            >>> from sftlib import TaskDataset
            >>> data = TaskDataset.from_entities(
            ...     [{"text": "Ada saw Rome.", "label": [[0, 3, "PER"], [8, 12, "LOC"]]}]
            ... )
            >>> data[0]["tokens"], data[0]["tags"]
            (['Ada', 'saw', 'Rome', '.'], ['B-PER', 'O', 'B-LOC', 'O'])
        """
        raise_together([choice("on_invalid", on_invalid, ("error", "drop"))])
        table = read_entities(source, text=text, entities=entities, scheme=scheme, drop_invalid=on_invalid == "drop")
        return cls(table, task="token-classification", label_names=label_names, on_invalid=on_invalid)

    @classmethod
    @checked
    def from_conll(
        cls,
        path: str | PathLike[str],
        *,
        columns: Mapping[str, int] = MappingProxyType({"tokens": 0, "tags": -1}),
        delimiter: str | None = None,
        comment: str | None = None,
        encoding: str = "utf-8",
        task: str | None = None,
        label_names: Sequence[Label] | None = None,
        on_invalid: str = "error",
        **roles: str | Sequence[str] | None,
    ) -> Self:
        r"""Sentences of a file with a word and its tags in each line and an empty line after each sentence.

        So are the files of the CoNLL shared tasks, of WNUT and of many others. ``-DOCSTART-`` lines are passed over.
        In a file of CoNLL-U (``columns={"tokens": 1, "tags": 3}``) so are the lines of ranges (``1-2``) and of empty
        nodes (``2.1``), which stand beside the words; the logger ``sftlib`` says how many.

        Args:
            path: the file.
            columns: name -> which column of the file, from 0; negative numbers count from the last. Each becomes a
                column of lists of strings; ``{"tokens": 0}`` reads words without tags.
            delimiter: what stands between columns; None for a tab where the first line has one, else spaces and tabs.
            comment: lines that begin with this are passed over, such as ``"# "``.
            encoding: how the file's bytes spell text.
            task: as for `TaskDataset`.
            label_names: as for `TaskDataset`.
            on_invalid: as for `TaskDataset`.
            **roles: as for `TaskDataset`.

        Raises:
            OptionError: columns that the file does not have.
            DataError: no such file, bad bytes, ragged lines (with their numbers), and as for `TaskDataset`.
        """
        table = read_conll(path, columns=columns, delimiter=delimiter, comment=comment, encoding=encoding)
        return cls._of_table(table, roles, task, label_names, on_invalid)

    @classmethod
    @checked
    def from_squad(
        cls,
        path: str | PathLike[str],
        *,
        task: str | None = None,
        label_names: Sequence[Label] | None = None,
        on_invalid: str = "error",
        **roles: str | Sequence[str] | None,
    ) -> Self:
        """Questions of a file in the layout of SQuAD 1.1 or 2.0, one a row, with columns ``id`` and ``title``.

        Questions that are marked impossible have no answers.

        Raises:
            DataError: no such file, no JSON (with the line), another layout (and where), and as for `TaskDataset`.
        """
        return cls._of_table(read_squad(path), roles, task, label_names, on_invalid)

    @classmethod
    @checked
    def from_alpaca(
        cls,
        path: str | PathLike[str],
        *,
        instruction: str | None = None,
        input: str | None = None,
        output: str | None = None,
        on_invalid: str = "error",
    ) -> Self:
        """Instructions in Alpaca's layout, as conversations: a JSON array or JSON Lines.

        The user says ``instruction`` and, after an empty line, ``input`` where it is not blank; the assistant says
        ``output``. ``system`` and ``history`` (pairs of what was said and answered before) go in front, if they are
        there. A row without output can be predicted on but not trained on. Other columns are kept. Dolly's names,
        ``context`` and ``response``, are known too.

        Args:
            path: the file.
            instruction: what the file calls that part; None for its usual names.
            input: the same.
            output: the same.
            on_invalid: as for `TaskDataset`.

        Raises:
            OptionError: a name that no row has.
            DataError: no such file, no JSON, another layout, with lines or rows.
        """
        raise_together([choice("on_invalid", on_invalid, ("error", "drop"))])
        names = {"instruction": instruction, "context": input, "output": output}
        table = read_alpaca(path, **names, drop_invalid=on_invalid == "drop")
        return cls(table, task="causal-lm", messages="messages", on_invalid=on_invalid)

    @classmethod
    @checked
    def from_sharegpt(
        cls, path: str | PathLike[str], *, conversations: str | None = None, on_invalid: str = "error"
    ) -> Self:
        """Conversations in ShareGPT's layout: a JSON array or JSON Lines with a column ``conversations``.

        Its turns are ``{"from": ..., "value": ...}`` of human, gpt, system, observation and function_call; ``system``
        goes in front where the row has it, and ``tools`` are handed to the chat template. Other columns are kept.

        Args:
            path: the file.
            conversations: what the file calls that column; None for its usual name.
            on_invalid: as for `TaskDataset`.

        Raises:
            OptionError: a name that no row has.
            DataError: no such file, no JSON, another layout, with lines or rows.
        """
        raise_together([choice("on_invalid", on_invalid, ("error", "drop"))])
        table = read_sharegpt(path, conversations=conversations, drop_invalid=on_invalid == "drop")
        return cls(table, task="causal-lm", messages="messages", on_invalid=on_invalid)
