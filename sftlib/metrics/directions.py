"""Which way a metric improves."""

from __future__ import annotations

_LOWER = frozenset(
    {
        "loss",
        "log_loss",
        "brier",
        "ece",
        "aurc",
        "hamming",
        "mse",
        "rmse",
        "mae",
        "perplexity",
        "ter",
        "error_rate",
        "character_error_rate",
    }
)


def higher_is_better(name: str) -> bool:
    """Whether larger values of a metric are better; functions of a user's own are taken to be scores.

    Example:
        >>> higher_is_better("accuracy"), higher_is_better("loss")
        (True, False)
    """
    return name not in _LOWER
