"""Draws the picture of the page on augmentation: ``PYTHONPATH=. python docs/figures/augmented.py``.

What it shows are previews of a tuner, not made up: the pictures that training would see.
"""

from __future__ import annotations

from pathlib import Path

from sftlib import FineTuner, Image, TaskDataset
from sftlib.support.canvas import Gallery
from sftlib.testing import scenes, tiny_detector, tiny_image_processor

TARGET = Path(__file__).parent.parent / "how-to" / "augmented.png"


def main() -> None:
    """Write the file."""
    rows = scenes(8, classes=2, size=96, seed=2)
    data = TaskDataset({role: [row[role] for row in rows] for role in ("image", "objects")})
    model, reading = (
        tiny_detector("deformable_detr", num_labels=2),
        Image(processor=tiny_image_processor("deformable_detr"), size=96, augment="medium"),
    )
    shown = FineTuner(model, inputs=reading).preview(data, 0)
    Gallery([*data.show([0]), *shown[1:4]]).save(TARGET)


if __name__ == "__main__":
    main()
