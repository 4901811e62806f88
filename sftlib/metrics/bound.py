"""A family with options of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, final

from sftlib.metrics.base import Family
from sftlib.metrics.labels import Label


@final
@dataclass(frozen=True)
class Bound:
    """A family and what its constructor takes beyond the usual; stands wherever a family does.

    Two that are equal count the same and can be merged.

    Example:
        >>> from sftlib.metrics import Metrics, Relations
        >>> family = Relations.excluding("no_relation")
        >>> Metrics(["f1_micro"], family=family).update(["born_in", "no_relation"], ["born_in", "no_relation"])
        Metrics(f1_micro=1.0000, rows=2)
    """

    family: type[Family]
    options: dict[str, Any] = field(default_factory=dict)

    def __call__(self, names: Sequence[str], *, label_names: Sequence[Label] | None, keep_rows: bool) -> Family:
        return self.family(names, label_names=label_names, keep_rows=keep_rows, **self.options)

    @property
    def title(self) -> str:
        """What people call it."""
        return self.family.title

    @property
    def names(self) -> tuple[str, ...]:
        """Every metric that it can compute."""
        return self.family.names_of(self.options)

    @property
    def without_interval(self) -> frozenset[str]:
        """Those kept as sums only."""
        return self.family.without_interval

    def accepts(self, references: Sequence[Any], label_names: Sequence[Label] | None) -> bool:
        """Whether these references are of this family."""
        return self.family.accepts(references, label_names)

    def fits(self, names: Sequence[str], label_names: Sequence[Label] | None) -> bool:
        """Whether the family may be meant by these metrics and labels."""
        return self.family.fits(names, label_names)


Kind: TypeAlias = type[Family] | Bound
"""What makes families."""
