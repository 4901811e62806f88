"""Put every probe to every library, print the table, and write it into ``docs/trust.md``.

``python -m tests.trust_peers.run [probe ...]``; without names, every probe. A row keeps its last figures until it is
measured again.
"""

from __future__ import annotations

import argparse
import platform
import shutil
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import torch

from tests.trust_peers import disk, probes
from tests.trust_peers.child import in_child
from tests.trust_peers.peer_hf import HfTrainer
from tests.trust_peers.peer_lightning import Lightning
from tests.trust_peers.peer_sftlib import Sftlib
from tests.trust_peers.peer_skorch import Skorch
from tests.trust_peers.probes import Cell, Probe
from tests.trust_peers.work import Peer, Run, quiet

PAGE = Path(__file__).resolve().parents[2] / "docs" / "trust.md"
BEGIN, END = "<!-- peers: begin -->", "<!-- peers: end -->"
PEERS: tuple[Peer, ...] = (Sftlib(), HfTrainer(), Lightning(), Skorch())

#: name -> (number in the table above, what is asked, probe)
PROBES: dict[str, tuple[int, str, Probe]] = {
    "resume": (1, "resumed from every checkpoint: weights bit-equal", probes.resuming),
    "kill": (4, "SIGKILL in the middle of a save: the run resumes", disk.killing),
    "unwritable": (5, "a checkpoint that cannot be written: error, and the older one serves", disk.unwritable),
    "flip": (6, "one bit of a checkpoint flipped: noticed", disk.flipping),
    "sigterm": (7, "SIGTERM: the current step is saved", disk.terminating),
    "accumulate": (9, "1x32 against 4x8: the same gradient (relative)", probes.accumulating),
    "evaluate": (11, "evaluation loss at batch sizes 1, 8, 64: the same (relative)", probes.evaluating),
    "order": (11, "predictions in the order of the rows", probes.ordering),
    "observe": (16, "evaluating, saving, logging on: weights bit-equal", probes.observing),
    "repeat": (17, "the same seed in fresh processes: bit-equal", probes.repeating),
    "poison": (19, "NaN in a row, in a gradient: weights kept, error", probes.poisoned),
    "truncate": (20, "supervision lost to truncation: said, an error when all is", probes.truncated),
    "memory": (23, "memory runs out: the step is repeated in parts", probes.hungry),
    "pickle": (24, "pickles planted in a checkpoint: none executed", disk.planting),
}


def cell(probe: Probe, peer: Peer) -> Cell:
    """One probe of one library, in a process of its own; a probe that breaks says so."""
    folder = Path(tempfile.mkdtemp(prefix="peers-"))

    def work(notes: dict[str, object]) -> None:
        found = probe(peer, folder)
        notes.update(holds=found.holds, figure=found.figure)

    try:
        ended = in_child(work, seconds=240)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if ended.error:
        print(f"{peer.name}: {ended.error}: {ended.message}\n{ended.said[-2000:]}", flush=True)
        return Cell(None, f"the probe itself ended in {ended.error}")
    return Cell(**ended.notes)


def header() -> list[str]:
    """Names and versions."""
    names = [peer.name if peer.name == "sftlib" else f"{peer.name} ({version(peer.package)})" for peer in PEERS]
    return ["| # | probe | " + " | ".join(names) + " |", "|---|---|" + "---|" * len(PEERS)]


def known() -> dict[str, str]:
    """Rows on the page: probe's question -> line."""
    page = PAGE.read_text(encoding="utf-8")
    lines = page[page.index(BEGIN) : page.index(END)].splitlines()
    return {line.split(" | ")[1]: line for line in lines if line.startswith("| ") and " | " in line}


def write(rows: dict[str, str]) -> None:
    """Put the table between the markers."""
    page = PAGE.read_text(encoding="utf-8")
    before, rest = page.split(BEGIN)
    after = rest.split(END)[1]
    ordered = [rows[question] for _, question, _ in PROBES.values() if question in rows]
    machine = f"*CPU, torch {torch.__version__}, Python {platform.python_version()}.*"
    body = "\n".join([*header(), *ordered, "", machine])
    PAGE.write_text(f"{before}{BEGIN}\n{body}\n{END}{after}", encoding="utf-8")


def main() -> None:
    """Measure what was asked for, and write each row as soon as it is done."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("probes", nargs="*", help=f"of {', '.join(PROBES)} (default: all)")
    parser.add_argument("--fingerprint", help="train once with this library and print a digest of the weights")
    asked = parser.parse_args()
    quiet()
    torch.set_num_threads(1)  # children are forked, and threads do not survive that
    if asked.fingerprint:
        peer = next(peer for peer in PEERS if peer.name == asked.fingerprint)
        print(probes.fingerprint(peer.fit(Run())))
        return
    for name in asked.probes or PROBES:
        number, question, probe = PROBES[name]
        start = time.monotonic()
        cells = [cell(probe, peer) for peer in PEERS]
        rows = known()  # anew, since other probes may run beside these
        rows[question] = f"| {number} | {question} | " + " | ".join(map(str, cells)) + " |"
        write(rows)
        print(rows[question], f"[{time.monotonic() - start:.0f} s]", flush=True)


if __name__ == "__main__":
    main()
