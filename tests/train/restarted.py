"""What each process does that ``torchrun --max-restarts`` starts, and starts again when one of them was killed.

``python -m tests.train.restarted FOLDER``

The script is one that a user would write: it says ``resume=True``, and nothing of restarts.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from sftlib import Callback
from sftlib.run.identity import digest_of_weights
from sftlib.train.comm import open_comm
from tests.contracts.cases import case_of, tuner_for
from tests.train.shards import OPTIONS, TEXTS
from tests.trust.faults import intercepted, kill_at

RESTARTS = 2
#: Which start -> the process that is killed, the step, and the call of its save at which that happens; 0 before it.
KILLED = {0: (1, 2, 0), 1: (0, 4, 20)}


class Killed(Callback):
    """Ends a process in each of the first starts, as a machine would that is taken away."""

    def __init__(self, start: int) -> None:
        self.steps: list[int] = []
        self._rank, self._step, self._call = KILLED.get(start, (-1, -1, 0))

    def on_step_end(self, training: Any, record: Mapping[str, Any]) -> None:
        self.steps.append(training.step)
        if open_comm().rank == self._rank and training.step == self._step:
            if not self._call:
                os.kill(os.getpid(), signal.SIGKILL)
            self._killing = intercepted(kill_at(self._call), calls=("write", "fsync", "rename"))
            self._killing.__enter__()


def run(start: int, **where: Any) -> dict[str, Any]:
    data, tuner, killed = case_of(TEXTS).data(), tuner_for(TEXTS, **OPTIONS, keep_best="loss"), Killed(start)
    tuner.fit(data, data, progress=False, callbacks=[killed], **where)
    return {"steps": killed.steps, "weights": digest_of_weights(tuner.model), "history": list(tuner.history)}


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    start, rank = int(os.environ["TORCHELASTIC_RESTART_COUNT"]), int(os.environ["RANK"])
    found = {"start": start, "disturbed": run(start, output_dir=folder / "run", save_every=1, resume=True)}
    found["undisturbed"] = run(RESTARTS)
    open_comm().any(False)  # nobody leaves while others are at work
    (folder / f"{rank}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
