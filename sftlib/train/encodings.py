"""Tokens that were made once are used again: by the next fit, fold, trial or evaluation, and by other processes.

Tokens are a function of the texts, the tokenizer, the length limit and the roles that a task reads; the key is a digest
of these four. Labels are no part of it, so relabelled rows find their tokens too.

Data sets that were cut from one (`split`, `select`, folds) share its columns. As soon as one of them holds half of the
rows, the tokens of all rows are made, and every other part takes its rows from there without a copy. A smaller part is
tokenised by itself, unless the tokens of all rows are at hand already.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, final

from sftlib.data.dataset import TaskDataset
from sftlib.data.encoded import Encoded
from sftlib.data.scratch import MEMORY_LIMIT, in_memory
from sftlib.data.tokens import TokenWriter, read_tokens, write_tokens
from sftlib.errors import OptionError
from sftlib.models.tokenizer import TextEncoder
from sftlib.tasks.base import Task

_KEPT = 4  # data sets


@final
class Encodings:
    """The tokens of the last few data sets, and a folder of all of them if there is one.

    Args:
        folder: where tokens are kept for other processes; None to keep none. They are the user's texts, so only the
            user can read them. An entry that is damaged is made anew.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._kept: OrderedDict[str, Encoded] = OrderedDict()

    def kept_in(self, folder: str | os.PathLike[str] | None) -> Encodings:
        """These, or empty ones if the folder is another."""
        wanted = None if folder is None else Path(folder)
        return self if wanted == self._folder else Encodings(wanted)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._folder,)  # a copy, also in another process, starts empty

    def encode(self, task: Task, data: TaskDataset, encoder: TextEncoder) -> Encoded:
        """What ``task.encode`` makes of these rows, its tokens taken from earlier work where there is some.

        Raises:
            OptionError: the folder cannot be written.
        """
        tokenizer = encoder.digest()
        if tokenizer is None or not task.reads:
            return task.encode(data, encoder)

        def key(rows: TaskDataset) -> str:
            facts = [rows.digest(task.reads), tokenizer, encoder.max_length, task.reads]
            return hashlib.sha256(json.dumps(facts).encode()).hexdigest()

        def fill(writer: TokenWriter) -> None:
            task.write_tokens(part, encoder, writer)

        whole = data.whole()
        large = 2 * len(data) >= len(whole)
        part = whole if large or (whole.has_digest(task.reads) and self._find(key(whole)) is not None) else data
        tokens = self._find(key(part)) or self._make(key(part), fill)
        return task.encode(data, encoder, tokens if part is data or data.is_whole else tokens.take(data.positions))

    def _find(self, key: str) -> Encoded | None:
        found = self._kept.get(key)
        if found is not None:
            self._kept.move_to_end(key)
        elif self._folder is not None:
            found = read_tokens(self._entry(key))
            if found is not None:
                self._keep(key, found)
        return found

    def _make(self, key: str, fill: Callable[[TokenWriter], None]) -> Encoded:
        if self._folder is None:
            with TokenWriter() as writer:
                fill(writer)
                made = writer.done()
        else:
            made = self._write(key, fill)
        self._keep(key, made)
        return made

    def _write(self, key: str, fill: Callable[[TokenWriter], None]) -> Encoded:
        problem: object = "what was written is not what is there"
        try:
            write_tokens(self._entry(key), fill)
        except OSError as error:  # or another process was faster: then its tokens are there now
            problem = error
        made = read_tokens(self._entry(key))
        if made is None:
            raise OptionError(f"cache_dir={str(self._folder)!r} cannot be written: {problem}")
        return made

    def _entry(self, key: str) -> Path:
        assert self._folder is not None
        return self._folder / f"tokens-{key[:32]}"

    def _keep(self, key: str, tokens: Encoded) -> None:
        """Keep the newest, and of the others as many as memory is meant for."""
        self._kept[key] = tokens
        while len(self._kept) > _KEPT or (len(self._kept) > 1 and self._bytes() > MEMORY_LIMIT):
            self._kept.popitem(last=False)

    def _bytes(self) -> int:
        return sum(in_memory(array) for tokens in self._kept.values() for array in tokens.arrays())
