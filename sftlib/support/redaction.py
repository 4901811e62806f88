"""Secrets out of what is written: by the name they stand under, and by how they look."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

REDACTED = "[redacted]"

_SECRET_NAME = re.compile(
    r"(^|[^a-z])(token|secret|password|passwd|passphrase|pwd|credentials?|authorization|bearer|"
    r"(api|access|private|secret|signing|encryption)[_-]?keys?|auth)($|[^a-z])",
    re.IGNORECASE,
)
_SECRET_LOOKS = re.compile(
    r"hf_[A-Za-z0-9]{16,}"  # Hugging Face
    r"|sk-[A-Za-z0-9_-]{16,}"  # OpenAI, Anthropic and others
    r"|(?:gh[pousr]_|github_pat_|glpat-)[A-Za-z0-9_-]{16,}"
    r"|(?:AKIA|ASIA)[0-9A-Z]{16}"  # AWS
    r"|AIza[0-9A-Za-z_-]{30,}"  # Google
    r"|xox[abeoprs]-[A-Za-z0-9-]{10,}"  # Slack
    r"|eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*"  # JSON web tokens
    r"|-----BEGIN[A-Z ]* PRIVATE KEY-----[\s\S]*?(?:-----END[A-Z ]* PRIVATE KEY-----|$)"
    r"|(?<=://)[^/\s@]+(?=@)"  # user and password in an address
    r"|(?i:(?<=bearer )[A-Za-z0-9._~+/=-]{8,})"
    r"|(?i:(?<=token=)|(?<=secret=)|(?<=password=)|(?<=passwd=)|(?<=apikey=)|(?<=api_key=)|(?<=access_key=))[^\s&;,]+"
)


def redacted(value: Any, name: str = "") -> Any:
    """The same value without what looks like a secret.

    Args:
        value: JSON values; strings are searched, in mappings and lists too.
        name: what it stands under; a text under a name like ``api_key`` is a secret whatever it looks like.

    Example:
        >>> redacted({"api_key": "abc", "model": "https://me:pw@host/m", "max_length": 64})
        {'api_key': '[redacted]', 'model': 'https://[redacted]@host/m', 'max_length': 64}
    """
    if isinstance(value, str):
        return REDACTED if value and _SECRET_NAME.search(name) else _SECRET_LOOKS.sub(REDACTED, value)
    if isinstance(value, Mapping):
        return {redacted(key): redacted(item, str(key)) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [redacted(item, name) for item in value]
    return value
