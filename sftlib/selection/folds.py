"""Which rows are held out when: by rows, by groups, or one group after the other.

No two rows with identical inputs lie on two sides, and all of it is a function of the rows and a seed.

Letters: ``N`` rows of the data, ``M`` of a side.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from sftlib.data.dataset import TaskDataset
from sftlib.data.problems import brief, listed
from sftlib.data.splitting import keys, numbered
from sftlib.errors import OptionError
from sftlib.support.checking import nearest, raise_together, whole_number

Index = NDArray[np.int64]
Groups = str | Callable[[dict[str, Any]], Hashable] | None

ONE_GROUP_OUT = "groups"  # as a value of ``folds``


@final
@dataclass(frozen=True)
class Fold:
    """One division of the rows.

    Attributes:
        train: (M,) positions of the rows to learn from.
        held_out: (M,) positions of the rows to judge by; of ``train`` none, and none with the same inputs.
        name: the group that is held out, or the number of the fold.
        repeat: the number of the repetition.
    """

    train: Index
    held_out: Index
    name: str
    repeat: int = 0


def seed_of(seed: int, repeat: int) -> int:
    """The seed of a repetition: a function of both numbers; that of the first is the seed itself.

    Example:
        >>> seed_of(7, 0), seed_of(7, 1) == seed_of(8, 1)
        (7, False)
    """
    return seed if not repeat else int(np.random.SeedSequence([seed, repeat]).generate_state(1)[0])


def group_names(data: TaskDataset, groups: Groups) -> list[Any] | None:
    """The group of each row, or None without groups.

    Raises:
        OptionError: no such column, or groups that cannot be told apart by their values.
    """
    if groups is None:
        return None
    if isinstance(groups, str):
        if groups not in data.columns:
            raise OptionError(f"groups={groups!r}: the data has no such column: {nearest(groups, data.columns)}")
        found = data.column(groups)
    elif callable(groups):
        found = [groups(row) for row in data]
    else:
        raise OptionError(f"groups={brief(groups)}: expected the name of a column, or a function that takes a row")
    odd = next((row for row, value in enumerate(found) if value is None or not isinstance(value, Hashable)), None)
    if odd is not None:
        raise OptionError(f"groups={brief(groups)}: row {odd} has {brief(found[odd])}, which names no group")
    return found


def check_folds(data: TaskDataset, folds: object, repeats: object, groups: Groups) -> None:
    """Refuse numbers of folds that the data cannot have.

    Raises:
        OptionError: all that is wrong at once.
    """
    one_out = folds == ONE_GROUP_OUT
    problems = [
        None if one_out else whole_number("folds", folds, at_least=2, other="'groups' (each group once), or "),
        whole_number("repeats", repeats, at_least=1),
    ]
    if one_out and groups is None:
        problems.append("folds='groups': say which rows belong together, with groups='...' (the name of a column)")
    elif one_out and repeats != 1:
        problems.append(f"repeats={repeats!r}: folds='groups' holds out each group once, which no repetition changes")
    raise_together(problems)
    names = group_names(data, groups)
    different = None if names is None else len(set(names))
    if names is not None and different == 1:
        raise OptionError(f"groups={groups!r}: all {len(names):,} rows are of one group, {names[0]!r}; two are needed")
    if isinstance(folds, int):
        _check_number(data, folds, groups, different)


def _check_number(data: TaskDataset, folds: int, groups: Groups, different: int | None) -> None:
    problems = []
    if different is not None and folds > different:
        problems.append(f"folds={folds}: there are {different} groups; give folds={different}, or folds='groups'")
    if folds > len(data):
        problems.append(f"folds={folds}: there are {len(data):,} rows")
    single = [role for role in data.targets if data.kinds[role].one_label]
    counts = Counter(data.column(single[0])) if single else Counter[Any]()
    rare = [label for label, count in counts.items() if count < folds]
    if rare and groups is None:
        label = min(rare, key=lambda name: (counts[name], str(name)))
        more = f" ({listed(rare, 5)} in all)" if len(rare) > 1 else ""
        rows = "1 row" if counts[label] == 1 else f"{counts[label]} rows"
        problems.append(
            f"folds={folds}: the label {label!r} has {rows}, so not every fold can hold one{more}; "
            f"give fewer folds, or more rows of it"
        )
    raise_together(problems)


def make_folds(data: TaskDataset, *, folds: int | str, repeats: int, groups: Groups, seed: int) -> tuple[Fold, ...]:
    """Every division of the rows, repetition by repetition.

    Args:
        data: labelled rows, checked by `check_folds`.
        folds: how many, or ``"groups"``.
        repeats: how often, with another seed each time.
        groups: what stays on one side.
        seed: of the shuffle.
    """
    if not isinstance(folds, int):
        return tuple(_one_group_out(data, group_names(data, groups) or []))
    found = []
    for repeat in range(repeats):
        sides = data.split(*[1 / folds] * folds, seed=seed_of(seed, repeat), by=groups)
        for number, side in enumerate(sides):
            inside = np.isin(data.positions, side.positions)  # a row that was selected twice is on one side
            train, held_out = np.flatnonzero(~inside), np.flatnonzero(inside)
            found.append(Fold(train, held_out, str(number), repeat))
    return tuple(found)


def _one_group_out(data: TaskDataset, names: list[Any]) -> Iterable[Fold]:
    same = numbered(keys(list(data.asked().values())))
    values = numbered(names)
    for number, row in enumerate(np.unique(values, return_index=True)[1].tolist()):
        held_out = np.flatnonzero(values == number)
        # What stands in the held-out group too must not be learned with another group's name on it.
        train = np.flatnonzero((values != number) & ~np.isin(same, same[held_out]))
        yield Fold(train, held_out, str(names[row]))
