"""What older versions of other libraries cannot do, for tests that ask for it: each with the version that first can."""

from __future__ import annotations

import pytest
import sklearn
import transformers
from packaging.version import Version

HERE = Version(transformers.__version__)
#: family -> what keeps its rows from lying end to end before a version, and that version
LIES_FLAT_FROM = {
    "modernbert": ("5.1", "attends by itself"),
    "gpt2": ("5.3", "has heads that hand nothing of ours to the body"),
}


def lies_flat(family: str) -> bool:
    """Whether rows of a family, of those with an interface for attention, can lie end to end."""
    return Version(LIES_FLAT_FROM.get(family, ("5.0", ""))[0]) <= HERE


def requires_flat(family: str) -> None:
    """Skip where an older transformers gives a family no way in; the library falls back there by itself."""
    if not lies_flat(family):
        first, why = LIES_FLAT_FROM[family]
        pytest.skip(f"{family} of transformers before {first} {why}: its rows are padded")


def sklearn_before(version: str) -> bool:
    """Whether the scikit-learn that is here is older."""
    return Version(sklearn.__version__) < Version(version)


def layers_give_tensors(family: str) -> bool:
    """Whether a decoder's layers answer as those of Llama do; where they give a tuple, ours do not take their place."""
    return Version("5.4") <= HERE or family != "granite"


def hears_by_itself(family: str) -> bool:
    """Whether the pipeline for speech can be called: that of 5.0 asks Whisper's features for a number they lack."""
    return Version("5.1") <= HERE or family != "whisper"
