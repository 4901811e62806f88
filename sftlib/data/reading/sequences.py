"""Sequences of biology and chemistry."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from typing import Self

from sftlib.data.files import biology
from sftlib.data.kinds.base import Label
from sftlib.data.reading.base import Readable
from sftlib.support.checking import checked


class FromSequences(Readable):
    """Rows of proteins, of DNA and of molecules."""

    @classmethod
    @checked
    def from_fasta(
        cls,
        path: str | PathLike[str],
        *,
        labels: str | PathLike[str] | None = None,
        mask: str | PathLike[str] | None = None,
        task: str | None = None,
        label_names: Sequence[Label] | None = None,
        on_invalid: str = "error",
        **roles: str | Sequence[str] | None,
    ) -> Self:
        """Sequences of a FASTA file, plain or gzipped, one a row.

        The columns are ``id`` (what stands before the first space of a header), ``description`` (what stands after
        it), ``sequence``, and whatever a header says as ``name=value``, under the name in small letters:
        ``>P1 SET=train`` has ``set``.

        Args:
            path: the file.
            labels: a second file with what is to be learned of each sequence, by ``id``: FASTA with a label for each
                letter becomes the column ``residue_labels``; CSV has columns of its own, by its column ``id`` or its
                first.
            mask: a file that says of each letter whether it counts, as 1 or 0: the column ``residue_mask``.
            task: as for `TaskDataset`.
            label_names: as for `TaskDataset`.
            on_invalid: as for `TaskDataset`.
            **roles: as for `TaskDataset`.

        Raises:
            DataError: no such file, lines that are no FASTA (with their numbers), names that stand in one file alone,
                and as for `TaskDataset`.
        """
        table = biology.read_fasta(path, labels=labels, mask=mask)
        return cls._of_table(table, roles, task, label_names, on_invalid)

    @classmethod
    @checked
    def from_sdf(
        cls,
        path: str | PathLike[str],
        *,
        task: str | None = None,
        label_names: Sequence[Label] | None = None,
        on_invalid: str = "error",
        **roles: str | Sequence[str] | None,
    ) -> Self:
        """Molecules of an SDF file, plain or gzipped, one a row; needs rdkit, from the extra ``chem``.

        The columns are ``sequence`` (canonical SMILES), ``id`` (the first line of a record) and its properties.

        Raises:
            MissingExtraError: rdkit is not installed.
            DataError: no such file, records that are no molecule (with their numbers), and as for `TaskDataset`.
        """
        table = biology.read_sdf(path, drop=on_invalid == "drop")
        return cls._of_table(table, roles, task, label_names, on_invalid)
