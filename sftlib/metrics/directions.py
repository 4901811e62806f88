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
        "wer",
        "cer",
        "wer_normalized",
        "cer_normalized",
        "substitution_rate",
        "deletion_rate",
        "insertion_rate",
        "eer",
        "min_dcf",
    }
)


def higher_is_better(name: str) -> bool:
    """Whether larger values of a metric are better; functions of a user's own are taken to be scores.

    Example:
        >>> higher_is_better("accuracy"), higher_is_better("loss")
        (True, False)
        >>> higher_is_better("stars.mse")  # of one of several tasks
        False
    """
    metric = name.rpartition(".")[2]
    of_a_target = metric.startswith(("mse_", "rmse_", "mae_", "hamming_"))  # such as of `sftlib.metrics.targets`
    return metric not in _LOWER and not of_a_target
