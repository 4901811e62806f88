"""Image processors of transformers that need pillow, and never torchvision.

Since transformers 5.4 they are a backend of their own; before, they were the classes without an ending.
"""

from __future__ import annotations

import os
from typing import Any

import transformers
from transformers.models.auto import image_processing_auto


def pillow_processor(name: str, **settings: Any) -> Any:
    """An image processor by the name of its class, without an ending: ``"ViTImageProcessor"``."""
    cls = getattr(transformers, f"{name}Pil", None) or getattr(transformers, name)
    return cls(**settings)


def saved_processor(where: str | os.PathLike[str], *, local: bool) -> Any:
    """The image processor of a folder, or of a name on the hub.

    Raises:
        OSError: there is none, or it is not one that transformers knows.
    """
    backends = hasattr(transformers, "ViTImageProcessorPil")
    way: dict[str, Any] = {"backend": "pil"} if backends else {"use_fast": False}
    return transformers.AutoImageProcessor.from_pretrained(  # type: ignore[no-untyped-call]
        where, trust_remote_code=False, local_files_only=local, **way
    )


def known_processors() -> set[str]:
    """The classes of image processors that transformers itself has, by name."""
    names: Any = vars(image_processing_auto)["IMAGE_PROCESSOR_MAPPING_NAMES"]
    found: set[str] = set()
    for kinds in names.values():  # before transformers 5.4 a pair: the slow one, the fast one
        found.update(kinds.values() if isinstance(kinds, dict) else [name for name in kinds if name])
    return found
