"""That every change of `tests.trust.mutations` still finds what it is to break; running them all takes too long."""

from __future__ import annotations

from pathlib import Path

import sftlib
from tests.trust.mutation_list import MUTATIONS

PACKAGE = Path(sftlib.__file__).parent


def test_every_mutation_applies() -> None:
    gone = [
        f"{mutation.number} {mutation.what}: {mutation.path}"
        for mutation in MUTATIONS
        if mutation.old not in (PACKAGE / mutation.path).read_text(encoding="utf-8")
    ]
    assert gone == []


def test_every_mutation_changes_something() -> None:
    assert [mutation.what for mutation in MUTATIONS if mutation.old == mutation.new] == []
