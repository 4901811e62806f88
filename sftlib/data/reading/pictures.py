"""Pictures with masks or boxes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any, Self

from sftlib.data.files.coco import read_coco
from sftlib.data.files.masks import read_masks, read_names
from sftlib.data.files.tables import Table
from sftlib.data.files.voc import read_voc
from sftlib.data.files.yolo import read_yolo
from sftlib.data.kinds.base import Label
from sftlib.data.reading.base import Readable
from sftlib.errors import OptionError
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
        task: str | None = None,
        label_names: Sequence[Label] | None = None,
        on_invalid: str = "error",
        **roles: str | Sequence[str] | None,
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
            task: as for `TaskDataset`.
            label_names: another word for ``names``.
            on_invalid: as for `TaskDataset`.
            **roles: as for `TaskDataset`.

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
        known = read_names(_one_of(names, label_names))
        table = read_masks(images, masks, ignore_index=ignore_index)
        return cls._of_table(table, _given(roles, "mask"), task or "semantic-segmentation", known, on_invalid)

    @classmethod
    @checked
    def from_coco(
        cls,
        json: str | PathLike[str],
        images: str | PathLike[str] | None = None,
        *,
        task: str | None = None,
        label_names: Sequence[Label] | None = None,
        on_invalid: str = "error",
        **roles: str | Sequence[str] | None,
    ) -> Self:
        """Pictures and boxes of a JSON file in COCO's layout, with a column ``id``.

        Categories without an object keep their place among the label names, which are in the order of their ids.
        Regions that are marked as crowds are neither learned nor held against a model.

        Args:
            json: the file.
            images: the folder of the pictures; that of the file when None.
            task: as for `TaskDataset`.
            label_names: as for `TaskDataset`; the file's categories when None.
            on_invalid: as for `TaskDataset`.
            **roles: as for `TaskDataset`.

        Raises:
            DataError: no such file or folder, no JSON (with the line), another layout (and where), and what cannot be
                used: pictures that are not there, boxes without area, outside of their picture, or with corners that
                have changed places; with rows and files, all in one.
        """
        table, names = read_coco(json, images)
        return cls._detecting(table, roles, task, names if label_names is None else label_names, on_invalid)

    @classmethod
    @checked
    def from_voc(
        cls,
        annotations: str | PathLike[str],
        images: str | PathLike[str],
        *,
        ids: str | PathLike[str] | Sequence[str] | None = None,
        task: str | None = None,
        label_names: Sequence[Label] | None = None,
        on_invalid: str = "error",
        **roles: str | Sequence[str] | None,
    ) -> Self:
        """Pictures and boxes of a folder of XML files in Pascal VOC's layout, with a column ``id``.

        Pixels are counted from 1 there and from 0 here. A picture has the name of its XML file, whatever stands in it.
        Objects that are marked as difficult are neither learned nor held against a model, as in VOC's own evaluation,
        and the logger ``sftlib`` says how many they are.

        Args:
            annotations: the folder of the XML files.
            images: the folder of the pictures.
            ids: which of them: names without a suffix, or a file with one in each line; all when None.
            task: as for `TaskDataset`.
            label_names: as for `TaskDataset`.
            on_invalid: as for `TaskDataset`.
            **roles: as for `TaskDataset`.

        Raises:
            DataError: as for `from_coco`.
        """
        return cls._detecting(read_voc(annotations, images, ids=ids), roles, task, label_names, on_invalid)

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
        task: str | None = None,
        label_names: Sequence[Label] | None = None,
        on_invalid: str = "error",
        **roles: str | Sequence[str] | None,
    ) -> Self:
        """Pictures and boxes in YOLO's layout: a text file for each picture, a line for each object.

        Args:
            images: the folder of the pictures, or a ``data.yaml`` that names it, or the folder that this lies in.
            labels: the folder of the text files; the folder ``labels`` beside ``images`` when None.
            names: of the classes, number 0 first, or a file with one in each line; those of ``data.yaml`` when None, or
                else the numbers.
            split: which folder of ``data.yaml``: ``"train"``, ``"val"``, ``"test"``.
            missing: what a picture without a text file is: an ``"error"``, or ``"empty"``, without objects.
            task: as for `TaskDataset`.
            label_names: another word for ``names``.
            on_invalid: as for `TaskDataset`.
            **roles: as for `TaskDataset`.

        Raises:
            OptionError: options that cannot be.
            DataError: as for `from_coco`.
        """
        names = _one_of(names, label_names)
        table, known = read_yolo(images, labels, names=names, split=split, missing=missing)
        return cls._detecting(table, roles, task, known, on_invalid)

    @classmethod
    def _detecting(
        cls,
        table: Table,
        roles: Mapping[str, Any],
        task: str | None,
        names: Sequence[Label] | None,
        on_invalid: str,
    ) -> Self:
        return cls._of_table(table, _given(roles, "objects"), task or "object-detection", names, on_invalid)


def _given(roles: Mapping[str, Any], target: str) -> dict[str, Any]:
    """Roles as the user gave them, and otherwise those that the reader's own columns are named after."""
    return {"image": "image", target: target, **roles}


def _one_of(names: Any, label_names: Any) -> Any:
    """The names of classes, under whichever of two words they were given.

    Raises:
        OptionError: under both.
    """
    if names is not None and label_names is not None:
        raise OptionError("names is given twice: names= and label_names= say the same")
    return label_names if names is None else names
