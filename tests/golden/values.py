"""How numbers are held and compared: to the bit on the machine that wrote them, and as numbers on any other.

Floats are kept as ``float.hex`` writes them. The last bits of a sum depend on the order of its terms, and that on the
processor, its vector width and the versions of torch and transformers: where any of these differs from the machine that
wrote the goldens, `differences` compares numbers with a tolerance, and leaves digests and what hangs on a choice
(labels, texts, counts) aside.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

#: Task -> what its predictions hold. Named, so that a field that comes along later disturbs nothing.
FIELDS: dict[str, tuple[str, ...]] = {
    "text-classification": ("label", "probability", "probabilities"),
    "multi-label-classification": ("labels", "probabilities"),
    "text-regression": ("value",),
    "token-classification": ("tags", "entities", "tokens", "scores"),
    "question-answering": ("answer", "start", "end", "score", "best", "null_odds"),
    "relation-extraction": ("label", "probability", "probabilities"),
    "seq2seq": ("text", "score"),
    "causal-lm": ("text",),
    "masked-lm": ("loss", "correct", "tokens"),
    "text-embedding": ("embedding",),
}
_ENTITY = ("text", "label", "start", "end", "score")

_HEX = re.compile(r"-?0x[01]\.[0-9a-f]+p[+-]\d+|-?inf|nan")
TOLERANCE = 1e-5  # of losses
LOOSE = 1e-4  # of everything after a step of AdamW, which magnifies rounding where a gradient is small


@contextmanager
def one_thread() -> Iterator[None]:
    """Sums in one thread, so that it does not matter how many cores there are, nor what else they do."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def machine() -> dict[str, Any]:
    """What the last bits of a sum depend on."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    there = torch.accelerator.is_available()  # older torch raises where there is none
    accelerator = torch.accelerator.current_accelerator() if there else None  # which `FineTuner.load` would choose
    return {
        "cpu": next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), ""),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "accelerator": str(accelerator),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "numpy": np.__version__,
    }


def shown(prediction: Any, task: str) -> dict[str, Any]:
    """A prediction as JSON values; floats to the bit."""
    return {name: _plain(getattr(prediction, name)) for name in FIELDS[task]}


def _plain(value: Any) -> Any:
    if isinstance(value, bool | int | str | None):
        return value
    if isinstance(value, float | np.floating):
        return float(value).hex()
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [_plain(item) for item in value]
    return {name: _plain(getattr(value, name)) for name in _ENTITY}


def differences(expected: Any, found: Any, *, exact: bool, where: str = "", tolerance: float = LOOSE) -> list[str]:
    """One line for each value that is not what it was.

    Args:
        expected: JSON values as written.
        found: as made now.
        exact: whether every bit counts.
        where: what is compared, for the message.
        tolerance: of floats, relative to the larger of two, or to 1 where both are smaller; where not every bit counts.
    """
    if isinstance(expected, Mapping) and isinstance(found, Mapping):
        if expected.keys() != found.keys():
            return [f"{where}: has {sorted(found)}, expected {sorted(expected)}"]
        return [
            line
            for name, value in expected.items()
            if exact or name != "digest"
            for line in differences(
                value,
                found[name],
                exact=exact,
                where=f"{where}.{name}".lstrip("."),
                tolerance=TOLERANCE if name in ("losses", "start") else tolerance,
            )
        ]
    if isinstance(expected, list) and isinstance(found, list):
        if len(expected) != len(found):
            # Another choice of the model makes another number of entities, where rounding decides.
            return [f"{where}: {len(found)} values, expected {len(expected)}"] if exact else []
        pairs = enumerate(zip(expected, found, strict=True))
        return [
            line
            for index, (one, other) in pairs
            for line in differences(one, other, exact=exact, where=f"{where}[{index}]", tolerance=tolerance)
        ]
    if exact or type(expected) is not type(found):
        same = expected == found and type(expected) is type(found)
        return [] if same else [f"{where}: {_readable(found)}, expected {_readable(expected)}"]
    if not isinstance(expected, str) or not (_HEX.fullmatch(expected) and _HEX.fullmatch(found)):
        return []
    left, right = float.fromhex(expected), float.fromhex(found)
    close = left == right or math.isclose(left, right, rel_tol=tolerance, abs_tol=tolerance)
    return [] if close else [f"{where}: {_readable(found)}, expected {_readable(expected)} within {tolerance}"]


def _readable(value: Any) -> str:
    is_float = isinstance(value, str) and _HEX.fullmatch(value)
    return f"{value} ({float.fromhex(value):.9g})" if is_float else repr(value)
