"""Optional packages: imported when used, with the install command in the error."""

from __future__ import annotations

import importlib
from types import ModuleType

from sftlib.errors import MissingExtraError


def require(module: str, *, extra: str, purpose: str) -> ModuleType:
    """Import an optional package.

    Args:
        module: name to import, such as ``"matplotlib.pyplot"``.
        extra: the extra of sftlib that installs it.
        purpose: what it is needed for, as the subject of the message.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise MissingExtraError(
            f"{purpose} needs the package {package!r}, which is not installed: pip install 'sftlib[{extra}]'"
        ) from error
