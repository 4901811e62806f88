"""Speakers who are heard on both sides of a cut: a model that knows the voice is judged too well."""

from __future__ import annotations

from sftlib.data.problems import listed
from sftlib.data.rows import Rows
from sftlib.support.display import counted

#: How columns that say who speaks are called: Kaldi's folders here, LibriSpeech and VoxCeleb, Common Voice, TIMIT.
SPEAKERS = ("speaker", "speaker_id", "speakers", "spk", "spk_id", "client_id")


def speaker_column(data: Rows) -> str:
    """The column without a role that says who speaks; "" where there are no sounds, or nothing says it."""
    if "audio" not in data.roles:
        return ""
    return next((name for name in data.columns if name not in data.roles and name.lower() in SPEAKERS), "")


def shared_speakers(data: Rows, other: Rows, *, name: str = "valid") -> str:
    """What is to be said of speakers of another data set who are heard in this one too; "" where there are none.

    Args:
        data: rows to learn from.
        other: rows to judge by.
        name: of the other.
    """
    column = speaker_column(data)
    if not column or column not in other.columns:
        return ""
    here, there = (
        {value for value in side.view(column) if isinstance(value, str | int) and value != ""} for side in (data, other)
    )
    both = sorted(here & there, key=str)
    if not both:
        return ""
    return (
        f"{counted(len(both), 'speaker')} of {name}'s {len(there):,} {'is' if len(both) == 1 else 'are'} heard in the "
        f"rows to learn from too (column {column!r}: {listed(both, 5)}): scores say "
        f"little of other people; data.split(..., by={column!r}) keeps each on one side"
    )
