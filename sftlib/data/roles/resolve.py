"""Which column plays which role: by keyword, or by its own name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

from sftlib.data.kinds.base import RoleKind
from sftlib.data.problems import delimiter_hint, listed
from sftlib.data.roles.relations import Relation
from sftlib.data.roles.schemas import OPTIONS, SCHEMAS, Schema, Schemas, roles_of
from sftlib.errors import DataError, RoleError
from sftlib.support.checking import nearest, raise_together
from sftlib.support.elsewhere import OF_DATA


@final
@dataclass(frozen=True)
class Assignment:
    """What was decided: the task, the column of each role, and which roles are inputs and targets."""

    task: str | None
    columns: Mapping[str, str]
    kinds: Mapping[str, RoleKind]
    inputs: tuple[str, ...]
    targets: tuple[str, ...]
    is_labelled: bool
    relations: tuple[Relation, ...] = ()


def resolve(
    columns: Sequence[str],
    given: Mapping[str, object],
    *,
    task: str | None = None,
    schemas: Schemas = SCHEMAS,
    options: Sequence[str] = (),
) -> Assignment:
    """Match columns to the roles of one task.

    Args:
        columns: the names of the columns.
        given: role to column, as the user wrote them; None says that the role is not there.
        task: the task, when the user named it.
        schemas: the schemas to choose from.
        options: further keywords of the call, offered as the nearest name of a misspelt one.

    Returns:
        The assignment of the schema that has all its roles, the one with the most required roles of several; or
        an unlabelled one when only the inputs are there.

    Raises:
        OptionError: there is no such task.
        RoleError: a keyword is no role (of the task, when it is named).
        DataError: a column does not exist, a role has no column, or two tasks fit equally well.

    Example:
        >>> found = resolve(["review", "label"], {"text": "review"})
        >>> found.task, dict(found.columns)
        ('text-classification', {'text': 'review', 'label': 'label'})
    """
    pool = tuple(schemas) if task is None else schemas.get(task)
    _check_keywords(columns, given, task, pool, (*OPTIONS, *options))
    named = {role: str(column) for role, column in given.items() if column is not None}
    available = {role: role for role in roles_of(task, schemas) if role in columns and role not in given} | named
    candidates = [schema for schema in pool if named.keys() <= schema.roles.keys()]
    if not candidates:
        raise DataError(_no_candidate(named, pool))
    inferable = [schema for schema in candidates if task is not None or not schema.named_only] or candidates
    complete = _most([schema for schema in inferable if available.keys() >= set(schema.required)], targets=True)
    if len(complete) > 1:
        raise DataError(_tie(complete))
    if complete:
        return _assign(complete[0], available, complete[0].name, labelled=True)
    unlabelled = [schema for schema in inferable if available.keys() >= schema.inputs.keys()]
    unlabelled = [schema for schema in unlabelled if not named.keys() & schema.targets.keys()]
    if not unlabelled:
        raise DataError(_incomplete(inferable, available, columns))
    return _assign(_most(unlabelled, targets=False)[0], available, task, labelled=False)


def _most(schemas: list[Schema], *, targets: bool) -> list[Schema]:
    """Those with the most required roles: they use the most of what the columns say."""
    sizes = [len(schema.required) if targets else len(schema.inputs) for schema in schemas]
    return [schema for schema, size in zip(schemas, sizes, strict=True) if size == max(sizes)]


def _assign(schema: Schema, available: Mapping[str, str], task: str | None, *, labelled: bool) -> Assignment:
    inputs = tuple(role for role in (*schema.inputs, *schema.optional_inputs) if role in available)
    targets = tuple(schema.targets) if labelled else ()
    roles = (*inputs, *targets)
    kinds = {role: schema.roles[role] for role in roles}
    columns = {role: available[role] for role in roles}
    return Assignment(task, columns, kinds, inputs, targets, labelled, tuple(schema.relations))


def _check_keywords(
    columns: Sequence[str],
    given: Mapping[str, object],
    task: str | None,
    pool: Sequence[Schema],
    options: Sequence[str],
) -> None:
    """Raise every keyword that is no role and every column that does not exist, in one error."""
    known = list(dict.fromkeys(role for schema in pool for role in schema.roles))
    # That a role of another task is not there may be said of any data.
    absent_anyway = {role for role in roles_of(None) if role in given and given[role] is None}
    odd = [role for role in given if role not in known and role not in absent_anyway]
    unknown = [_no_role(role, given[role], task, pool, [*known, *options]) for role in odd]
    absent = {
        role: column
        for role, column in given.items()
        if role in known and column is not None and not (isinstance(column, str) and column in columns)
    }
    several = any(isinstance(column, list | tuple) for column in absent.values())
    wrong = [
        f"{role}={column!r}: there is no such column: {_instead(column, columns)}" for role, column in absent.items()
    ]
    raise_together([*unknown, *wrong], RoleError if unknown or several else DataError)


def _instead(column: object, columns: Sequence[str]) -> str:
    if isinstance(column, list | tuple):
        return (
            f"a role has one column; targets=[...], label=[...] and labels=[...] alone take several {_columns(columns)}"
        )
    return f"{nearest(column, columns)} {_columns(columns)}"


def _no_role(role: str, column: object, task: str | None, pool: Sequence[Schema], known: Sequence[str]) -> str:
    """A keyword that is no role: of another task, or misspelt."""
    others = list(dict.fromkeys(schema.name for schema in SCHEMAS if role in schema.targets))
    if role in OF_DATA:
        return f"TaskDataset has no role or option {role!r}: {OF_DATA[role]}"
    if task is None or not others or not pool[0].targets:
        owner = "TaskDataset" if task is None else f"the task {task!r}"
        return f"{owner} has no role or option {role!r}: {nearest(role, known)}"
    have = f"{', '.join(others)} {'has' if len(others) == 1 else 'have'} it"
    return (
        f"the task {task!r} has no role or option {role!r} ({have}): "
        f"give the column as {next(iter(pool[0].targets))}={column!r}"
    )


def _columns(columns: Sequence[str]) -> str:
    return f"(columns: {listed(columns)}{delimiter_hint(columns)})"


def _no_candidate(named: Mapping[str, str], pool: Sequence[Schema]) -> str:
    near = [schema for schema in pool if named.keys() & schema.roles.keys()]
    tasks = "; ".join(f"{schema.name}: {', '.join(schema.roles)}" for schema in near)
    return f"no task has the roles {listed(named)} together. The roles of each task: {tasks}"


def _tie(schemas: Sequence[Schema]) -> str:
    """The columns serve several tasks equally: say which keywords tell them apart."""
    ways = []
    for schema in schemas:
        others = {role for other in schemas if other is not schema for role in other.roles}
        own = [role for role in schema.required if role not in others]
        told = sum(other.name == schema.name for other in schemas) == 1
        ways.append(" or ".join([f"task={schema.name!r}"] * told + [f"{role}={role!r}" for role in own[:1]]))
    return "the columns fit several tasks; say which is meant: " + "; ".join(ways)


def _incomplete(candidates: Sequence[Schema], available: Mapping[str, str], columns: Sequence[str]) -> str:
    """The roles that are missing in the candidate that lacks the fewest, of those that have any."""
    begun = [schema for schema in candidates if available.keys() & set(schema.required)] or candidates[:1]
    gaps = [[role for role in schema.required if role not in available] for schema in begun]
    best = min(range(len(begun)), key=lambda index: len(gaps[index]))
    missing = [role for role in gaps[best] if role in begun[best].inputs] or gaps[best]
    keywords = ", ".join(f"{role}=..." for role in missing)
    near = [f"{role!r} ({hint})" for role in missing if "did you mean" in (hint := nearest(role, columns))]
    return (
        f"no column is given for {listed(missing)}, which {begun[best].name} needs, and none bears that name: "
        f"say which column it is with {keywords} {_columns(columns)}" + (f". Near: {', '.join(near)}" if near else "")
    )
