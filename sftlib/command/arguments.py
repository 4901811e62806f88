"""What may be written behind a verb: roles and options of data sets, options of `FineTuner`, by their own names."""

from __future__ import annotations

import argparse
import inspect
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn, final

from sftlib.data.roles.schemas import roles_of
from sftlib.errors import OptionError
from sftlib.finetuner import FineTuner
from sftlib.support.checking import nearest

_OF_DATA: Final = ("task", "label_names", "on_invalid", "separator", "sentence", "alphabet", "strand")
_OF_CSV: Final = ("delimiter", "quoting", "escape", "encoding")
_VALUES_OF_PYTHON: Final = ("model", "task", "inputs", "early_stopping")  # and what has an argument of its own
_OUTPUTS: Final = ("out", "output", "output-dir", "output_dir", "to", "save", "save-to")  # as other commands call it
_VERBS: Final[Mapping[str, str]] = {
    "fit": "learn from rows with labels, and save the model",
    "evaluate": "metrics of a saved model on rows with labels",
    "predict": "answers of a saved model to rows",
    "report": "one HTML file with all that is known of a saved model",
}


@final
@dataclass(frozen=True)
class Asked:
    """What a command line asks for.

    Attributes:
        verb: one of four.
        data: path of the rows.
        folder: of the model, to write or to read.
        reading: roles and options that say how files are read.
        options: of the tuner.
        others: what only this verb takes.
    """

    verb: str
    data: str
    folder: str
    reading: Mapping[str, Any]
    options: Mapping[str, Any] = field(default_factory=dict)
    others: Mapping[str, Any] = field(default_factory=dict)


def read_arguments(words: Sequence[str]) -> Asked:
    """What these words ask for.

    Raises:
        OptionError: words that mean nothing, with the nearest that do.
        SystemExit: after ``--help``.
    """
    parser = _parser()
    found, rest = parser.parse_known_args(list(words))
    values = {name: value for name, value in vars(found).items() if value is not None}
    verb = values.pop("verb", None)
    if verb is None:
        raise OptionError(f"python -m sftlib: say what to do: {', '.join(_VERBS)}; --help shows how")
    if rest:
        placed = ("verb", "data") if verb == "fit" else ("verb", "data", "folder")
        known = [_flag(name) for name in vars(found) if name not in placed]
        odd = next((word for word in rest if word.startswith("--")), rest[0])
        name = odd.partition("=")[0]
        where = verb == "fit" and name.removeprefix("--") in _OUTPUTS
        advice = "'--folder' says where to save" if where else nearest(name, known)
        raise OptionError(f"python -m sftlib {verb}: {odd!r}: {advice}")
    roles = roles_of(None)
    reading = {name: values.pop(name) for name in list(values) if name in (*_OF_DATA, *_OF_CSV)}
    columns = {name: values.pop(name) for name in list(values) if name in roles}
    reading |= {role: names[0] if len(names) == 1 else names for role, names in columns.items()}
    options = {name: values.pop(name) for name in list(values) if name in _options()}
    return Asked(verb, values.pop("data"), values.pop("folder"), reading, options, values)


@final
class _Parser(argparse.ArgumentParser):
    """One whose errors are those of the library."""

    def error(self, message: str) -> NoReturn:
        raise OptionError(f"{self.prog}: {message}")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m sftlib", description="Supervised fine-tuning of pretrained models.", allow_abbrev=False
    )
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", parser_class=_Parser)
    for verb, does in _VERBS.items():
        one = verbs.add_parser(verb, help=does, description=does, allow_abbrev=False)
        if verb != "fit":
            one.add_argument("folder", help="of the saved model")
        one.add_argument("data", help="file of the rows: csv, tsv, jsonl, json, parquet, xlsx, or a folder")
        _OWN[verb](one)
        _add(one, "roles: the column that is each of them", sorted(roles_of(None)), metavar="COLUMN", nargs="+")
        _add(one, "how files are read", (*_OF_DATA, *_OF_CSV))
        if verb == "fit":
            _add(one, "options of FineTuner, by the same names", _options())
    return parser


def _of_fit(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", help="name or folder (of texts: all-MiniLM-L6-v2 when left out)")
    parser.add_argument("--folder", default="model", help="where to save (default: %(default)s)")
    parser.add_argument("--valid", metavar="FILE", help="rows to watch; a tenth of the data when left out")


def _of_evaluate(parser: argparse.ArgumentParser) -> None:
    """Nothing of its own."""


def _of_predict(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output", metavar="FILE", help="csv or jsonl; the terminal when left out")
    parser.add_argument("--abstain-below", type=float, metavar="P", help="withhold answers that are less sure")


def _of_report(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output", metavar="FILE", default="report.html", help="default: %(default)s")
    parser.add_argument("--train", metavar="FILE", help="the rows that it learned from, to describe them")
    parser.add_argument("--explain", type=int, default=8, metavar="N", help="errors to explain (default: %(default)s)")


_OWN: Final = {"fit": _of_fit, "evaluate": _of_evaluate, "predict": _of_predict, "report": _of_report}


def _add(
    parser: argparse.ArgumentParser, title: str, names: Iterable[str], *, metavar: str = "VALUE", **more: Any
) -> None:
    group = parser.add_argument_group(title)
    for name in names:
        group.add_argument(_flag(name), dest=name, metavar=metavar, type=str if more else _value, **more)


def _options() -> tuple[str, ...]:
    return tuple(name for name in inspect.signature(FineTuner).parameters if name not in _VALUES_OF_PYTHON)


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _value(word: str) -> Any:
    """What a word says: a number, true, false, null, a list, as JSON has them; else the word itself."""
    try:
        return json.loads(word)
    except ValueError:
        return word
