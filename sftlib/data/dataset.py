"""`TaskDataset`: labelled rows, and which column plays which role."""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Self, final

import numpy as np

from sftlib.data.alphabets import ALPHABETS
from sftlib.data.columns import Nothing, joined
from sftlib.data.files.tables import from_mappings, open_rows
from sftlib.data.from_files import FromFiles
from sftlib.data.kinds.base import Label, RoleKind, is_missing, kind_of
from sftlib.data.kinds.label_names import check_label_names, holds, union
from sftlib.data.kinds.sequences import SequenceRole
from sftlib.data.look.cleaning import DataPolicy, kept_rows, problems_of
from sftlib.data.look.duplicates import Inputs
from sftlib.data.look.report import DataReport, check_other, comparable
from sftlib.data.look.showing import shown_rows, spread
from sftlib.data.look.suspects import Suspects
from sftlib.data.look.voices import shared_speakers
from sftlib.data.plain import plain_json
from sftlib.data.problems import Findings, brief, raise_findings
from sftlib.data.roles.resolve import Assignment, resolve
from sftlib.data.roles.schemas import roles_of
from sftlib.data.rows import Row, Rows
from sftlib.data.shaping import by_sentence, separator_problem, with_spread
from sftlib.data.splitting import (
    Index,
    as_keys,
    check_fractions,
    key,
    keys,
    numbered,
    sides,
    sides_of_uneven,
    strata_of_groups,
    united,
)
from sftlib.data.store import Store, build
from sftlib.data.targets import gathered
from sftlib.errors import DataError, OptionError
from sftlib.support.canvas import Gallery
from sftlib.support.checking import checked, choice, raise_together, real_number, whole_number
from sftlib.support.display import counted

_LOG = logging.getLogger("sftlib")

#: What `TaskDataset.split` groups molecules by.
SCAFFOLD = "scaffold"


@final
class TaskDataset(FromFiles):
    """Labelled rows and the role of each column; it never changes.

    Args:
        rows: sequence of mappings, mapping of equal-length columns, pandas or polars ``DataFrame``, pyarrow ``Table``,
            ``datasets.Dataset`` (its ``ClassLabel`` names are honoured, -1 is a missing label) or a finite iterable of
            mappings. A key that a row lacks is a missing value.
        task: what to learn, such as ``"text-classification"``; inferred from the roles when left out.
        label_names: the classes in their order; inferred (sorted) when left out.
        on_invalid: what becomes of rows with a value that its role cannot use (missing, of another type, a label
            that is not in ``label_names``): an ``"error"`` that names them, or ``"drop"``, and the logger ``sftlib``
            says how many they were and which.
        separator: what stands between the members of a list in one text, such as ``"|"`` in ``"card|pin"``; for labels,
            tokens and tags that come as texts.
        sentence: the column that names the sentence of each row, where a row is a word; the rows of a sentence become
            one. A row without a name belongs to the one above.
        alphabet: of sequences: ``"dna"``, ``"rna"``, ``"protein"`` or ``"smiles"``; told by the column when left out.
        strand: ``"both"`` where a sequence is the same as its other strand, to splits and reports; else ``"single"``.
        **roles: role = name of its column, of ``targets`` a list of names. A role whose column bears its own name may
            be left out; ``role=None`` says that the role is not there, whatever the columns are called. ``label`` and
            ``labels`` may be a list of columns of 0 and 1, one for each class.

    Raises:
        OptionError: no such task, or label names that cannot be.
        RoleError: a keyword that is no role.
        LabelError: labels that are missing, floats, of mixed types or not in ``label_names``, with their rows.
        DataError: a column that does not exist, no rows, values that a role cannot use; all rows in one message.

    Example:
        >>> rows = [{"review": "Loved it.", "stars": 5}, {"review": "Dull.", "stars": 1}]
        >>> data = TaskDataset(rows, text="review", label="stars")
        >>> data
        TaskDataset(task='text-classification', rows=2, roles=(text='review', label='stars'), label_names=(1, 5))
        >>> data[-1]
        {'text': 'Dull.', 'label': 1}
    """

    @checked
    def __init__(
        self,
        rows: object,
        *,
        task: str | None = None,
        label_names: Sequence[Label] | None = None,
        on_invalid: str = "error",
        separator: str | None = None,
        sentence: str | None = None,
        alphabet: str | None = None,
        strand: str = "single",
        **roles: str | Sequence[str] | None,
    ) -> None:
        wrong = [choice("on_invalid", on_invalid, ("error", "drop")), separator_problem(separator)]
        raise_together([*wrong, *_wrong_alphabet(alphabet, strand)])
        table = replace(open_rows(rows), separator=separator)
        table = table if sentence is None else by_sentence(table, sentence)
        table, roles = with_spread(table, roles, drop_invalid=on_invalid == "drop")
        table, columns, task = gathered(table, roles, task)
        names = check_label_names(label_names)
        assignment = resolve(tuple(table.columns), columns, task=task, options=table.options)
        if alphabet is not None or strand != "single":
            assignment = _in_alphabet(assignment, alphabet, strand)
        store, names = build(table, assignment, names, drop_invalid=on_invalid == "drop")
        Rows.__init__(self, store, np.arange(store.rows, dtype=np.int64), names)

    @checked
    def select(self, indices: Iterable[int] | Iterable[bool]) -> Self:
        """The rows at these positions (negative ones count from the end), or where a mask of ``len(data)`` is True.

        Raises:
            IndexError: a position outside the data.
            OptionError: not whole numbers and no mask.
            DataError: a mask of another length.
        """
        return self._of(self._store, self._index[_positions(indices, len(self))], self._label_names)

    @checked
    def filter(self, function: Callable[[Row], object]) -> Self:
        """The rows for which ``function(row)`` is true.

        Raises:
            OptionError: it is no function.
        """
        _check_function("filter", function)
        kept = (position for position, row in enumerate(self) if function(row))
        return self._of(self._store, self._index[np.fromiter(kept, np.int64)], self._label_names)

    @checked
    def map(self, function: Callable[[Row], Mapping[str, Any]]) -> Self:
        """Every row replaced by ``function(row)``, a mapping under role names.

        The label names are kept when every label is still one of them, and fitted again otherwise.

        Raises:
            OptionError: it is no function.
            DataError: rows that a role cannot use, and as for `TaskDataset`.
        """
        _check_function("map", function)
        if not len(self):
            return self
        table = from_mappings(function(row) for row in self)
        # A column that had no role before does not take one by its name now.
        roleless = {name: None for name in self._store.others if name in roles_of(self.task)}
        assignment = resolve(tuple(table.columns), roleless, task=self.task)
        kinds = {role: self.kinds.get(role, kind) for role, kind in assignment.kinds.items()}
        store, names = build(table, replace(assignment, kinds=kinds))
        names = self._label_names if holds(self._label_names, names) else names
        return self._of(store, np.arange(table.rows, dtype=np.int64), names)

    def __add__(self, other: object) -> Self:
        """The rows of both.

        Raises:
            DataError: they differ in task or roles.
            LabelError: their labels are of different types.
        """
        if not isinstance(other, TaskDataset):
            return NotImplemented
        mine, theirs = self._store.assignment, other._store.assignment
        if mine.task != theirs.task or _without_beside(mine.kinds) != _without_beside(theirs.kinds):
            raise DataError(
                f"only data sets of one task with the same roles can be added, found {self!r} and {other!r}"
            )
        names = union(self._label_names, other._label_names)
        kinds = {role: kind.joined(theirs.kinds.get(role, kind)) for role, kind in mine.kinds.items()}
        both = replace(
            mine,
            columns={**theirs.columns, **mine.columns},
            kinds={**theirs.kinds, **kinds},
            inputs=tuple(dict.fromkeys([*mine.inputs, *theirs.inputs])),
        )
        others = list(dict.fromkeys([*self._store.others, *other._store.others]))
        store = Store(
            both,
            {
                role: joined(self._view_or_none(role), other._view_or_none(role))
                for role in (*both.inputs, *both.targets)
            },
            {
                name: joined(self._view_or_none(name), other._view_or_none(name))
                for name in others
                if name not in both.kinds
            },
        )
        return self._of(store, np.arange(len(self) + len(other), dtype=np.int64), names)

    def _view_or_none(self, name: str) -> Sequence[Any]:
        return self.view(name) if name in self.columns else Nothing(len(self))

    @checked
    def split(
        self,
        *fractions: float,
        seed: int = 0,
        stratify: bool = True,
        by: str | Callable[[Row], Hashable] | None = None,
    ) -> tuple[Self, ...]:
        """Cut the rows into sides of the given shares; rows with identical inputs stay on one side.

        Media are identical when what they hold is, wherever they lie.

        The same rows, shares and seed give the same sides in every process. Each side keeps the order of the rows.

        Args:
            *fractions: positive shares that add up to 1.
            seed: decides the shuffle.
            stratify: spread every class evenly over the sides (where a row has one class). Rows that ``by`` holds
                together count as their class if they have one in common.
            by: what else stays on one side: rows with one value of a role or of another column, such as ``"label"``
                (so that each side has classes of its own) or ``"speaker"``; with one value of a function of the row; or
                ``"scaffold"`` (where no column bears that name): molecules with the same rings, by rdkit. Scaffolds
                that are too large for the smaller sides go to the largest.

        Returns:
            One data set per share, its size right to within one group of rows that stay together.

        Raises:
            OptionError: shares that do not add up to 1.
            RoleError: ``by`` names no column.
            DataError: a side would be empty, or ``by`` is missing in some rows.

        Example:
            >>> data = TaskDataset({"text": list("abcdefgh"), "label": [0, 1] * 4})
            >>> [side.column("label") for side in data.split(0.5, 0.5)]
            [[0, 1, 1, 0], [0, 1, 0, 1]]
            >>> [sorted(set(side.column("label"))) for side in data.split(0.5, 0.5, by="label")]
            [[0], [1]]
        """
        check_fractions(fractions, seed, stratify)
        groups = numbered(keys(list(self.asked().values())))
        strata = self._strata() if stratify else np.zeros(len(self), np.int64)
        if by is not None:
            groups = united(groups, self._groups(by))
            strata = strata_of_groups(groups, strata)
        cut = sides_of_uneven if self._is_scaffold(by) else sides
        parts = cut(groups, strata, fractions, seed=seed)
        empty = [str(number) for number, part in enumerate(parts, 1) if not len(part)]
        if empty:
            what = "distinct inputs" if by is None else "groups that stay together"
            raise DataError(
                f"split{fractions} of {len(self):,} rows ({len(np.unique(groups)):,} {what}) leaves side "
                f"{', '.join(empty)} empty: give more rows, or fewer or larger shares"
            )
        made = tuple(self._of(self._store, self._index[part], self._label_names) for part in parts)
        heard = [shared_speakers(made[0], side, name=f"side {number}") for number, side in enumerate(made[1:], 2)]
        for said in filter(None, heard):
            _LOG.warning("split: %s", said)
        return made

    def _groups(self, by: str | Callable[[Row], Hashable]) -> Index:
        """The number of the group of each row."""
        if not isinstance(by, str) and not callable(by):
            raise OptionError(
                f"split(by={brief(by)}): expected a role, the name of a column, or a function that takes a row"
            )
        where = f"split(by={by!r})" if isinstance(by, str) else "split(by=...)"
        values: Iterable[Any]
        if self._is_scaffold(by):
            values = self._scaffolds()
        else:
            values = self._identities([by])[by] if isinstance(by, str) else map(by, self)
        findings, found = Findings(), bytearray()
        for row, value in enumerate(values):
            if is_missing(value):
                findings.add(row, "a missing value", None, "fill it in, with a name of its own for each group")
                continue
            try:
                found += key([value if isinstance(value, bytes) else plain_json(value)])
            except ValueError:
                findings.add(row, f"{kind_of(value)} that cannot name a group", None, "give strings or numbers")
        raise_findings([(where, False, findings)])
        return numbered(as_keys(found))

    def _is_scaffold(self, by: object) -> bool:
        return isinstance(by, str) and by == SCAFFOLD and SCAFFOLD not in self.columns

    def _scaffolds(self) -> Iterable[object]:
        """The scaffold of the molecule in each row.

        Raises:
            DataError: the rows hold no molecules.
        """
        found = [(role, kind) for role, kind in self.kinds.items() if isinstance(kind, SequenceRole)]
        if not found:
            raise DataError(
                f"split(by={SCAFFOLD!r}): the data set has no role {SCAFFOLD!r}, and no sequences to work one out of"
            )
        ((role, kind), *_) = found
        if kind.alphabet is not None and kind.alphabet.name != "smiles":
            raise DataError(
                f"split(by={SCAFFOLD!r}): the role {role!r} holds {kind.alphabet.title}, and only molecules have "
                "scaffolds; if it holds molecules, say so with TaskDataset(..., alphabet='smiles')"
            )
        return map(kind.scaffold_of, self.view(role))

    def _strata(self) -> Index:
        """What a split spreads evenly: the number of the label, where a row has exactly one."""
        single = [role for role in self.targets if self.kinds[role].one_label]
        return numbered(self.view(single[0])) if single else np.zeros(len(self), np.int64)

    @checked
    def clean(
        self,
        other: TaskDataset | None = None,
        *,
        conflicts: str = "error",
        leakage: str = "error",
        blank: str = "drop",
        duplicates: str = "drop",
        normalised_duplicates: str = "keep",
    ) -> Self:
        """The rows without those that have a problem; the logger ``sftlib`` says how many there were of each kind.

        Each kind is an ``"error"``, left out (``"drop"``) or kept (``"keep"``); kinds are named as in `report`.

        Args:
            other: a data set that should be independent of this one, such as the test data.
            conflicts: rows whose inputs are another row's, with another target; all of them, since nothing says which
                is right.
            leakage: rows that stand in ``other`` too, exactly or but for case, width or spaces.
            blank: rows with an input of nothing but white space or invisible characters.
            duplicates: rows whose inputs repeat an earlier row's exactly.
            normalised_duplicates: further rows that do so but for case, width or spaces.

        Raises:
            DataError: rows of a kind that is to be an error, all kinds in one; or ``other`` has other inputs.
            OptionError: another word.

        Example:
            >>> data = TaskDataset({"text": ["Good.", "Good.", "", "Bad."], "label": [1, 1, 0, 0]})
            >>> data.clean().column("text")
            ['Good.', 'Bad.']
        """
        check_other(self, other)
        policy = DataPolicy(conflicts, leakage, blank, duplicates, normalised_duplicates)
        inputs, targets = Inputs(self.asked()), [(self.kinds[role], self.view(role)) for role in self.targets]
        contradicting = inputs.contradicting(lambda rows: comparable(targets, rows))
        found = problems_of(inputs, None if other is None else Inputs(other.asked()), contradicting)
        return self.select(kept_rows(policy, len(self), found))

    @checked
    def drop(self, audit: Suspects, *, at_least: float = 0.9) -> Self:
        """The rows without those whose label an audit doubts; the logger ``sftlib`` says which.

        Args:
            audit: what `sftlib.audit` found in these very rows.
            at_least: the least score of an issue that counts.

        Raises:
            DataError: other rows than those that were audited, or rows for testing, which a model must not choose.
        """
        found = _suspected("drop", self, audit, at_least)
        _LOG.info("drop: %s left out: %s", counted(len(found), "row"), brief(sorted(found), 200))
        return self.select(row for row in range(len(self)) if row not in found)

    @checked
    def relabel(self, audit: Suspects, *, at_least: float = 0.9) -> Self:
        """The rows with the labels that an audit suggests; the logger ``sftlib`` says which were changed.

        Args:
            audit: what `sftlib.audit` found in these very rows.
            at_least: the least score of an issue that counts.

        Raises:
            DataError: other rows than those that were audited, or rows for testing, which a model must not label.
        """
        found = _suspected("relabel", self, audit, at_least)
        _LOG.info("relabel: %s: %s", counted(len(found), "label"), brief(dict(sorted(found.items())), 200))
        (role,) = self.targets
        values = {name: list(self.view(name)) if name == role else self.view(name) for name in self._store.values}
        values[role] = [found.get(row, label) for row, label in enumerate(values[role])]
        others = {name: self.view(name) for name in self._store.others}
        store = Store(self._store.assignment, values, others)
        return self._of(store, np.arange(len(self), dtype=np.int64), self._label_names)

    @checked
    def report(self, other: TaskDataset | None = None, *, other_name: str = "valid") -> DataReport:
        """What can be known without a tokenizer: blanks, duplicates, conflicts, leakage, lengths, classes.

        Args:
            other: a data set that should be independent of this one.
            other_name: what to call it.

        Raises:
            DataError: ``other`` has other inputs.
        """
        return DataReport.of(self, other, other_name=other_name)

    @checked
    def show(self, rows: int | Sequence[int] = 8) -> Gallery:
        """Pictures with their labels, boxes and masks drawn on: in a notebook, or ``data.show().save("rows.png")``.

        Args:
            rows: how many, spread evenly over the data; or the numbers of rows.

        Raises:
            DataError: the rows hold no pictures, or there is no such row.
            MissingExtraError: pillow is not installed.
        """
        if isinstance(rows, int):
            raise_together([whole_number("rows", rows, at_least=1)])
            return shown_rows(self, spread(len(self), rows).tolist())
        return shown_rows(self, _positions(rows, len(self)).tolist())


def _without_beside(kinds: Mapping[str, RoleKind]) -> dict[str, RoleKind]:
    return {role: kind for role, kind in kinds.items() if not kind.beside}


def _wrong_alphabet(alphabet: object, strand: object) -> Iterable[str | None]:
    yield None if alphabet is None else choice("alphabet", alphabet, ALPHABETS)
    yield choice("strand", strand, ("single", "both"))


def _in_alphabet(assignment: Assignment, alphabet: str | None, strand: str) -> Assignment:
    """The same, its sequences of this alphabet.

    Raises:
        OptionError: there are no sequences.
    """
    found = [role for role, kind in assignment.kinds.items() if isinstance(kind, SequenceRole)]
    if not found:
        raise OptionError(
            f"alphabet={alphabet!r}, strand={strand!r}: they are of the role 'sequence', and there is none"
        )
    kinds = {role: SequenceRole(alphabet, strand) if role in found else kind for role, kind in assignment.kinds.items()}
    return replace(assignment, kinds=kinds)


def _check_function(method: str, function: object) -> None:
    if not callable(function):
        raise OptionError(f"{method}({brief(function)}): expected a function that takes a row, a dict under role names")


def _positions(indices: Any, count: int) -> Index:
    """Positions from whole numbers or from a mask."""
    if isinstance(indices, str | bytes | Mapping) or not isinstance(indices, Iterable):
        raise OptionError(f"select({brief(indices)}): expected whole numbers, or a mask of True and False")
    try:
        given = indices if isinstance(indices, np.ndarray) else list(indices)
        array = np.asarray(given) if len(given) else np.empty(0, np.int64)
    except ValueError:  # lists of several lengths
        array = np.empty((0, 0))
    # numpy reads [True, 2] as numbers; we refuse to guess which was meant.
    mixed = array.dtype.kind in "iu" and any(isinstance(value, bool | np.bool_) for value in given)
    if array.ndim != 1 or array.dtype.kind not in "iub" or mixed:
        raise OptionError("select() expected a flat sequence of whole numbers, or a mask of True and False")
    if array.dtype.kind == "b":
        if len(array) != count:
            raise DataError(f"select(): the mask has {len(array):,} values, the data {count:,} rows")
        return np.flatnonzero(array)
    outside = array[(array < -count) | (array >= count)]
    if len(outside):
        raise IndexError(f"select(): position {outside[0]} is outside the data, there are {count:,} rows")
    return np.where(array < 0, array + count, array).astype(np.int64)


def _suspected(method: str, data: TaskDataset, audit: object, at_least: object) -> dict[int, Label]:
    """Row -> suggested label of the issues that count."""
    raise_together([real_number("at_least", at_least, 0, 1, expected="a score from 0 to 1")])
    if not isinstance(audit, Suspects):
        raise OptionError(f"{method}({brief(audit)}): expected what sftlib.audit(tuner, data) found")
    return dict(audit.suspects(data, method, at_least=float(at_least)))  # type: ignore[arg-type]
