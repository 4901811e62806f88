"""One thing in, or a pair of such things: texts, or sequences of letters; one vector out."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Set
from dataclasses import dataclass
from typing import Any, ClassVar, final

from sftlib.data.dataset import TaskDataset
from sftlib.data.problems import brief
from sftlib.errors import DataError
from sftlib.support.checking import true_or_false
from sftlib.support.values import Checked, Problem
from sftlib.tasks.vector import VectorTask


@dataclass(frozen=True, kw_only=True)
class Form(Checked):
    """What the rows of a data set are made of.

    Attributes:
        pair: whether rows have a second thing.
    """

    pair: bool = False

    def problems(self) -> Iterable[Problem]:
        yield from super().problems()
        yield true_or_false("pair", self.pair)


@dataclass(frozen=True, kw_only=True, repr=False)
class PairTask(VectorTask):
    """One thing, or a pair of such, in.

    Attributes:
        role: of the first; that of the second ends in ``_pair``.
        things: what they are called.
    """

    role: ClassVar[str]
    things: ClassVar[str]

    learned: Form | None = None

    @final
    def has_pairs(self, roles: Collection[str]) -> bool:
        """Whether rows with these roles have a second thing."""
        return f"{self.role}_pair" in roles

    @final
    @property
    def pair(self) -> bool:
        """Whether rows have a second thing."""
        return bool(self.known.pair)

    @property
    def reads(self) -> tuple[str, ...]:
        return (self.role, f"{self.role}_pair") if self.pair else (self.role,)

    @final
    def check_form(self, data: TaskDataset) -> None:
        if self.pair != self.has_pairs(data.roles):
            forms = f"pairs of {self.things}", f"single {self.things}"
            had, has = forms if self.pair else forms[::-1]
            second, one = f"{self.role}_pair", self.things[:-1]
            mend = f"name the second {one} with {second}=" if self.pair else f"leave it out with {second}=None"
            raise DataError(f"the data set has {has}, the model was made for {had} (role {second!r}); {mend}")

    @final
    def inputs_of(self, example: object) -> dict[str, Any]:
        both = (self.role, f"{self.role}_pair")
        values: object = example
        if isinstance(example, str):
            values = {self.role: example}
        elif isinstance(example, tuple):
            values = dict(zip(both, example, strict=False)) if len(example) == 2 else None
        if not isinstance(values, Mapping) or not self.is_input({*both}, values):
            raise DataError(self._wanted(example))
        return {role: values[role] for role in self.reads}

    def is_input(self, both: Set[str], values: Mapping[Any, object]) -> bool:
        """Whether a mapping has what is read, of the roles of ``both`` things; what else it has is passed over."""
        return both & values.keys() == {*self.reads}

    def _wanted(self, example: object) -> str:
        shown = brief(example, 80)
        if isinstance(example, list):
            return f"an input is a list: {shown}; give one flat list of inputs"
        if self.pair:
            form = f"a tuple of two strings, or a mapping with {self.role!r} and '{self.role}_pair'"
            return f"this model takes pairs: {form}; found {shown}"
        many = f"; several {self.things} go into a list" if isinstance(example, tuple) else ""
        return f"this model takes single {self.things}: a string, or a mapping with {self.role!r}; found {shown}{many}"
