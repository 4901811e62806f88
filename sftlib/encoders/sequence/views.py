"""Several ways of showing a sequence, as a user asks for a mean over them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

from sftlib.encoders.sequence.augment import sequence_augmentations
from sftlib.support.checking import checked_fields, raise_together, whole_number


@final
@checked_fields
@dataclass(frozen=True)
class Views:
    """Ways of showing a sequence, over which ``predict(..., views=...)`` takes the mean.

    Args:
        augment: ``"reverse_complement"``, ``"shift"``, ``"random_smiles"``, or a value of
            `sftlib.encoders.sequence.augment`.
        count: how many at most beside the sequence as it is; a strand has one other.

    Raises:
        OptionError: values that they cannot have.

    Example:
        >>> Views("random_smiles", count=8)
        Views(augment='random_smiles', count=8)
    """

    augment: Any
    count: int = 8

    def __post_init__(self) -> None:
        steps = sequence_augmentations(self.augment)
        raise_together(
            [
                None if len(steps) == 1 else f"views={self.augment!r:.60}: expected one augmentation",
                whole_number("count", self.count, at_least=1),
            ]
        )
