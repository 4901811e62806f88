"""The libraries whose versions could change a result."""

from __future__ import annotations

import platform
from importlib.metadata import version

from sftlib._version import __version__

_COMPUTING = ("torch", "transformers", "tokenizers", "safetensors")


def versions(*more: str) -> dict[str, str]:
    """Their names and versions, with those of Python, of this package, and of more.

    Example:
        >>> sorted(versions("numpy"))
        ['numpy', 'python', 'safetensors', 'sftlib', 'tokenizers', 'torch', 'transformers']
    """
    own = {"python": platform.python_version(), "sftlib": __version__}
    return {**own, **{name: version(name) for name in (*_COMPUTING, *more)}}
