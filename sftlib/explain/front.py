"""The name `explain`, which is called and has two names of its own: ``explain.summary`` and ``explain.examples``."""

from __future__ import annotations

from functools import update_wrapper
from types import ModuleType
from typing import Any, final

from sftlib.explain import explaining, overview


@final
class Explain:
    """`explain(tuner, input)`; `explain.summary(tuner, data)` over rows, `explain.examples(tuner, input, train)`."""

    __call__ = staticmethod(explaining.explain)
    summary = staticmethod(overview.summary)
    examples = staticmethod(overview.examples)


explain = update_wrapper(Explain(), explaining.explain)


class Called(ModuleType):
    """The room itself as the function, so that ``from sftlib import explain`` is what its name says.

    A package and a function of one name cannot both be ``sftlib.explain``; a module whose class can be called is both.
    """

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """See `sftlib.explain.explaining.explain`."""
        return explain(*args, **kwargs)
