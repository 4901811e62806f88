"""The readers of `TaskDataset`: a file, a folder or a name on a hub in, a data set out."""

from __future__ import annotations

from sftlib.data.reading.media import FromMedia
from sftlib.data.reading.pictures import FromPictures
from sftlib.data.reading.sequences import FromSequences
from sftlib.data.reading.tables import FromTables
from sftlib.data.reading.texts import FromTexts


class FromFiles(FromTables, FromTexts, FromMedia, FromPictures, FromSequences):
    """Rows that can be read from files, all with the same keywords."""
