"""Pictures with masks or boxes."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from typing import Self

from sftlib.data.files.coco import read_coco
from sftlib.data.files.masks import read_masks, read_names
from sftlib.data.files.tables import Table
from sftlib.data.files.voc import read_voc
from sftlib.data.files.yolo import read_yolo
from sftlib.data.kinds.base import Label
from sftlib.data.reading.base import Readable
from sftlib.support.checking import checked


class FromPictures(Readable):
    """Rows of pictures and of what is where in them."""

    @classmethod
    @checked
    def from_masks(
        cls,
        images: str | PathLike[str] | Sequence[object],
        masks: str | PathLike[str] | Sequence[object],
        *,
        names: str | PathLike[str] | Sequence[Label] | None = None,
        ignore_index: int | None = None,
        on_invalid: str = "error",
    ) -> Self:
        """Pictures, and the class of each of their pixels: two folders with files of the same names, or two lists.

        A mask holds the number of a class for each pixel, in a grey or palette PNG (of a palette the indices count),
        or as an (H, W) array of whole numbers; it is as high and as wide as its picture. A mask may be called
        ``a_mask.png`` beside ``a.jpg``.

        Args:
            images: a folder, with those inside of it, or a list of pictures.
            masks: the same, of masks.
            names: of the classes, number 0 first, or a file with one in each line; the numbers themselves when None.
            ignore_index: the number of pixels that do not count; 255 when None. Masks of nothing but 0 and 255 then
                have two classes, 0 and 1.
            on_invalid: as for `TaskDataset`.

        Raises:
            OptionError: names that cannot be, or a number that is none.
            DataError: no such folder, pictures without a mask or masks without a picture, and what cannot be used:
                files that cannot be read, masks of another size, numbers that are no class; all of them in one.

        Example:
            >>> import numpy as np
            >>> from sftlib.data import TaskDataset
            >>> picture, mask = np.zeros((2, 3, 3), np.uint8), np.array([[0, 1, 1], [0, 0, 9]])
            >>> data = TaskDataset.from_masks([picture], [mask], names=["sky", "road"], ignore_index=9)
            >>> data.label_names, data.label_counts()
            (('sky', 'road'), {'sky': 1, 'road': 1})
        """
        known = read_names(names)
        table = read_masks(images, masks, ignore_index=ignore_index)
        return cls(
            table, task="semantic-segmentation", label_names=known, on_invalid=on_invalid, image="image", mask="mask"
        )

    @classmethod
    @checked
    def from_coco(
        cls, path: str | PathLike[str], images: str | PathLike[str] | None = None, *, on_invalid: str = "error"
    ) -> Self:
        """Pictures and boxes of a JSON file in COCO's layout, with a column ``id``.

        Categories without an object keep their place among the label names, which are in the order of their ids.
        Regions that are marked as crowds are neither learned nor held against a model.

        Args:
            path: the file.
            images: the folder of the pictures; that of the file when None.
            on_invalid: as for `TaskDataset`.

        Raises:
            DataError: no such file or folder, no JSON (with the line), another layout (and where), and what cannot be
                used: pictures that are not there, boxes without area, outside of their picture, or with corners that
                have changed places; with rows and files, all in one.
        """
        table, names = read_coco(path, images)
        return cls._detecting(table, names, on_invalid)

    @classmethod
    @checked
    def from_voc(
        cls,
        annotations: str | PathLike[str],
        images: str | PathLike[str],
        *,
        ids: str | PathLike[str] | Sequence[str] | None = None,
        on_invalid: str = "error",
    ) -> Self:
        """Pictures and boxes of a folder of XML files in Pascal VOC's layout, with a column ``id``.

        Pixels are counted from 1 there and from 0 here. A picture has the name of its XML file, whatever stands in it.

        Args:
            annotations: the folder of the XML files.
            images: the folder of the pictures.
            ids: which of them: names without a suffix, or a file with one in each line; all when None.
            on_invalid: as for `TaskDataset`.

        Raises:
            DataError: as for `from_coco`.
        """
        return cls._detecting(read_voc(annotations, images, ids=ids), None, on_invalid)

    @classmethod
    @checked
    def from_yolo(
        cls,
        images: str | PathLike[str],
        labels: str | PathLike[str] | None = None,
        *,
        names: str | PathLike[str] | Sequence[Label] | None = None,
        split: str = "train",
        missing: str = "error",
        on_invalid: str = "error",
    ) -> Self:
        """Pictures and boxes in YOLO's layout: a text file for each picture, a line for each object.

        Args:
            images: the folder of the pictures, or a ``data.yaml`` that names it.
            labels: the folder of the text files; the folder ``labels`` beside ``images`` when None.
            names: of the classes, number 0 first, or a file with one in each line; those of ``data.yaml`` when None, or
                else the numbers.
            split: which folder of ``data.yaml``: ``"train"``, ``"val"``, ``"test"``.
            missing: what a picture without a text file is: an ``"error"``, or ``"empty"``, without objects.
            on_invalid: as for `TaskDataset`.

        Raises:
            OptionError: options that cannot be.
            DataError: as for `from_coco`.
        """
        table, known = read_yolo(images, labels, names=names, split=split, missing=missing)
        return cls._detecting(table, known, on_invalid)

    @classmethod
    def _detecting(cls, table: Table, names: Sequence[Label] | None, on_invalid: str) -> Self:
        return cls(
            table, task="object-detection", label_names=names, on_invalid=on_invalid, image="image", objects="objects"
        )
