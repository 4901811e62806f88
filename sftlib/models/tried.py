"""What a trial found of a model is remembered for models that begin with the very same weights."""

from __future__ import annotations

from typing import Any, final


@final
class Tried:
    """Findings of trials on models of one source, by all that decides how such a model begins.

    A trial looks at the largest rows of its data. What it found holds for data whose rows are no larger, such as the
    folds of the same rows.
    """

    def __init__(self) -> None:
        self._found: dict[str, tuple[int, Any]] = {}

    def find(self, key: str, largest: int) -> Any:
        """What was found on rows at least as large; None without such a trial.

        Args:
            key: what was tried, and how the model begins.
            largest: cost of the largest row that is to come.

        Example:
            >>> tried = Tried()
            >>> tried.keep("layout", 64, "padded")
            >>> tried.find("layout", 60), tried.find("layout", 65)
            ('padded', None)
        """
        seen, value = self._found.get(key, (-1, None))
        return value if largest <= seen else None

    def keep(self, key: str, largest: int, value: Any) -> None:
        """Remember what was found."""
        self._found[key] = (largest, value)
