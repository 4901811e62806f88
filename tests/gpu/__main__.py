"""Everything for a card in one call: ``python -m tests.gpu [--bench] [arguments of pytest]``.

It needs no network, and nothing but torch with CUDA, what this package requires, and pytest; what is missing beside
(peft, bitsandbytes, TRL) is skipped by name. Without a card it says so and runs the same tests on the processor.
"""

from __future__ import annotations

import platform
import sys

import pytest
import torch
import transformers


def described() -> str:
    """The device and the versions that were run."""
    versions = f"torch {torch.__version__}, transformers {transformers.__version__}, Python {platform.python_version()}"
    if not torch.cuda.is_available():
        return f"no CUDA card on this machine: everything runs on the processor alone ({versions})"
    found = torch.cuda.get_device_properties(0)
    return f"{found.name}, {found.total_memory / 2**30:.0f} GiB, compute {found.major}.{found.minor} ({versions})"


def main(arguments: list[str]) -> int:
    """Run the tests, then, where asked for, the figures; returns the exit code."""
    sys.stdout.write(described() + "\n")
    sys.stdout.flush()
    bench = "--bench" in arguments
    rest = [argument for argument in arguments if argument != "--bench"]
    # Other versions than the pinned ones warn of other things; here only results count.
    code = int(pytest.main(["tests/gpu", "-m", "slow or not slow", "-W", "default", "-q", "--durations=10", *rest]))
    if bench:
        from tests.benchmarks.run import main as measure

        measure(["gpu"] if torch.cuda.is_available() else ["gpu", "--quick"])
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
