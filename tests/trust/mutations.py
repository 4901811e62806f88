"""Does the suite notice? ``python -m tests.trust.mutations [NUMBER ...]`` breaks the code on purpose, a line at a time.

Each change is made to a copy of package and tests in a temporary folder, where the tests named beside it are run. The
table that is printed stands in ``docs/trust.md``.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 280


class Mutation(NamedTuple):
    """One change.

    Attributes:
        number: of the group of tests that should notice.
        what: is broken.
        path: of the file, in ``sftlib``.
        old: text that stands there once.
        new: text in its place.
        tests: arguments of pytest.
    """

    number: str
    what: str
    path: str
    old: str
    new: str
    tests: str


LAYOUTS = "tests/trust/test_layouts.py"
DATA = "tests/trust/test_data.py"
ADAPTERS = "tests/trust/test_adapters.py"
LOOP = "tests/trust/test_reference_loop.py"
CONTROLS = "tests/trust/test_controls.py"
MEMORY = "tests/trust/test_out_of_memory.py"
FOLDERS = "tests/trust/test_hostile_artifacts.py"
CHECKPOINTS = "tests/trust/test_hostile_checkpoints.py"
TEMPLATES = "tests/trust/test_hostile_templates.py"
PROCESSES = "tests/trust/test_processes.py"
SECRETS = "tests/trust/test_secrets.py tests/trust/test_options.py"
CHAT = "tests/models/test_chat.py"

MUTATIONS = (
    Mutation(
        "9",
        "the loss of a micro-batch is a mean",
        "tasks/single_label.py",
        'label_smoothing=self._smoothing, reduction="sum"',
        "label_smoothing=self._smoothing",
        f"{LAYOUTS} -k test_09",
    ),
    Mutation(
        "9",
        "masks of dropout know a row's place in the pass, not the row",
        "train/forward.py",
        "batch.rows[:, None].expand(rows, longest)",
        "torch.arange(rows)[:, None].expand(rows, longest)",
        f"{LAYOUTS} -k test_09",
    ),
    Mutation(
        "9",
        "what fills rows up counts in the loss of tags",
        "data/collate.py",
        "targets=_laid_out(encoded.targets, rows, IGNORED)",
        "targets=_laid_out(encoded.targets, rows, 0)",
        f"{LAYOUTS} -k test_09",
    ),
    Mutation(
        "10",
        "two processes take the same rows",
        "train/comm.py",
        "[self.rank :: self.size]",
        "[self.rank // 2 :: self.size]",
        PROCESSES,
    ),
    Mutation(
        "10",
        "gradients are averaged, not added",
        "train/comm.py",
        "        self._reduce(flat)\n",
        "        self._reduce(flat)\n        flat /= self.size\n",
        PROCESSES,
    ),
    Mutation(
        "10",
        "each process divides by its own count",
        "train/comm.py",
        "return float(values[0]), float(values[1])",
        "return float(values[0]), own[1]",
        PROCESSES,
    ),
    Mutation(
        "10",
        "predictions of the other processes are left out",
        "train/comm.py",
        "for part in self._gather(dump(own)) for one in load(part)",
        "for part in self._gather(dump(own))[:1] for one in load(part)",
        PROCESSES,
    ),
    Mutation(
        "11",
        "the loss is the mean of the passes' means",
        "train/inference.py",
        "            totals.append(total)\n            counts.append(count)\n",
        "            totals.append(total / count)\n            counts.append(1.0)\n",
        f"{LAYOUTS} -k test_11",
    ),
    Mutation(
        "11",
        "predictions stand in the order of lengths",
        "train/inference.py",
        "            for row, parts in pieces.add(rows, decoded):\n                found[row]",
        "            for row, parts in pieces.add(np.sort(rows), decoded):\n                found[row]",
        f"{LAYOUTS} -k test_11",
    ),
    Mutation(
        "11",
        "tokens see what fills rows up",
        "data/collate.py",
        "torch.from_numpy(mask.astype(np.int64))",
        "torch.ones(mask.shape, dtype=torch.int64)",
        f"{LAYOUTS} -k test_11",
    ),
    Mutation(
        "12",
        "tokens end to end see what fills rows up",
        "models/attention.py",
        "places[None, None, :] < 0 if group.padding is None else group.padding[:, None, :]",
        "places[None, None, :] < 0",
        f"{LAYOUTS} -k test_12",
    ),
    Mutation(
        "12",
        "positions run on over the ends of rows",
        "models/layout.py",
        "(sequences.positions + first_position)[None]",
        "(torch.arange(len(sequences.positions)) % 30 + first_position)[None]",
        f"{LAYOUTS} -k test_12",
    ),
    Mutation(
        "12",
        "attention end to end drops nothing",
        "models/attention.py",
        "rate = dropout if module.training and dropout_masks.active else 0.0",
        "rate = 0.0",
        f"{LAYOUTS} -k test_12",
    ),
    Mutation(
        "13",
        "merging leaves the adapter out",
        "models/adapters.py",
        "return _without(copy.deepcopy(model), merge=True)",
        "return _without(copy.deepcopy(model), merge=False)",
        f"{ADAPTERS} -k merged",
    ),
    Mutation(
        "13",
        "switched off, the adapter stays on",
        "models/adapters.py",
        "part.enable_adapters(False)",
        "part.enable_adapters(True)",
        f"{ADAPTERS} -k off",
    ),
    Mutation(
        "13",
        "the sum of the base is not compared",
        "artifact.py",
        'if base_digest(base) != record["base"]:',
        "if False:",
        f"{ADAPTERS} -k wrong_base",
    ),
    Mutation(
        "13",
        "the sum of the base leaves out its last weight",
        "models/adapters.py",
        "in sorted(_base_weights(model, plain), key=itemgetter(0)):",
        "in sorted(_base_weights(model, plain), key=itemgetter(0))[:-1]:",
        f"{ADAPTERS} -k wrong_base",
    ),
    Mutation(
        "13",
        "numbers that are not finite are let in",
        "models/adapter_folder.py",
        "not torch.isfinite(value).all()",
        "False",
        f"{ADAPTERS} -k not_finite",
    ),
    Mutation(
        "13",
        "what is trained whole is not saved",
        "models/adapters.py",
        "return {name: value.detach().cpu().contiguous() for name, value in found.items()}",
        'return {n: v.detach().cpu().contiguous() for n, v in found.items() if "lora" in n}',
        f"{ADAPTERS} -k opened_again",
    ),
    Mutation(
        "14",
        "each micro-batch is divided by its own count",
        "train/loop.py",
        "self.forward.precision.scale(total).backward()",
        "self.forward.precision.scale(total / count).backward()",
        LOOP,
    ),
    Mutation(
        "14",
        "gradients are divided by rows, not by what bears a loss",
        "train/loop.py",
        "divide_gradients(parameters, count * ",
        "divide_gradients(parameters, len(rows) * ",
        LOOP,
    ),
    Mutation(
        "14",
        "gradients are not clipped",
        "train/loop.py",
        "clip_grad_norm_(parameters, self.max_grad_norm)",
        "clip_grad_norm_(parameters, float('inf'))",
        LOOP,
    ),
    Mutation(
        "14",
        "the schedule is one step late",
        "train/loop.py",
        "rate = self.learning_rate * self.schedule.factor(step)",
        "rate = self.learning_rate * self.schedule.factor(max(0, step - 1))",
        LOOP,
    ),
    Mutation(
        "14",
        "biases and norms decay too",
        "train/optimizer.py",
        '"weight_decay": 0.0}',
        '"weight_decay": weight_decay}',
        LOOP,
    ),
    Mutation(
        "14",
        "gradients of the step before stay",
        "train/loop.py",
        "            optimizer.zero_grad()\n            harmless",
        "            harmless",
        LOOP,
    ),
    Mutation(
        "15",
        "labels belong to the next row",
        "tasks/single_label.py",
        'return np.fromiter((number[label] for label in data.view("label")), np.int64, len(data))',
        'return np.roll(np.fromiter((number[label] for label in data.view("label")), np.int64, len(data)), 1)',
        f"{CONTROLS} -k 'heart or shuffled'",
    ),
    Mutation(
        "15",
        "a rate of zero is taken for none given",
        "train/loop.py",
        'group["lr"] = rate\n',
        'group["lr"] = rate or 1e-4\n',
        f"{CONTROLS} -k zero",
    ),
    Mutation(
        "15",
        "frozen parameters are trained",
        "models/freezing.py",
        "parameter.requires_grad_(False)",
        "parameter.requires_grad_(True)",
        f"{CONTROLS} -k frozen",
    ),
    Mutation(
        "18",
        "smoothing is forgotten",
        "tasks/single_label.py",
        "label_smoothing=self._smoothing, reduction",
        "label_smoothing=0.0, reduction",
        f"{DATA} tests/tasks/test_losses.py -k '18 or losses'",
    ),
    Mutation(
        "18",
        "with weights of classes, rows are counted",
        "tasks/single_label.py",
        "scores.new_tensor(len(target)) if weights is None else weights[target].sum()",
        "scores.new_tensor(len(target))",
        f"{DATA} tests/tasks/test_losses.py -k '18 or losses'",
    ),
    Mutation(
        "18",
        "a part of a loss has no gradient",
        "tasks/question_answering.py",
        "chosen = torch.log_softmax(scores, dim=1)",
        "chosen = (scores - scores.detach().logsumexp(dim=1, keepdim=True))",
        f"{DATA} -k 18",
    ),
    Mutation(
        "18",
        "the written-out gradient ignores what comes from above",
        "models/chunked_loss.py",
        "plain = float(factor) == 1.0",
        "plain = True",
        f"{DATA} tests/models/test_chunked_loss.py",
    ),
    Mutation(
        "20",
        "rows that are cut are not counted",
        "data/encoded.py",
        "np.flatnonzero(self.uncut_lengths > self.lengths)",
        "np.flatnonzero(self.uncut_lengths < self.lengths)",
        f"{DATA} -k 20",
    ),
    Mutation(
        "20",
        "nobody looks whether anything is left to learn from",
        "checks.py",
        "    lost = task.unsupervised(encoded)\n    if len(lost) and task.every_row_counts:",
        "    lost = np.empty(0)\n    if len(lost) and task.every_row_counts:",
        f"{DATA} -k 20",
    ),
    Mutation(
        "20",
        "windows of lost answers are trained on",
        "checks.py",
        "some = 0 < len(lost) < len(encoded)",
        "some = False",
        f"{DATA} -k 20",
    ),
    Mutation(
        "21",
        "missing texts pass",
        "data/kinds.py",
        '            findings.add(row, "a missing value", None, DROP_OR_FILL)\n        elif isinstance(value, bytes)',
        "            pass\n        elif isinstance(value, bytes)",
        f"{DATA} -k 21",
    ),
    Mutation(
        "21",
        "lone surrogates pass",
        "data/kinds.py",
        "        elif not encodable(value):",
        "        elif False:",
        f"{DATA} -k 21",
    ),
    Mutation(
        "21",
        "infinite targets pass",
        "data/kinds.py",
        "if type(value) is not float or not math.isfinite(value):",
        "if type(value) is not float:",
        f"{DATA} -k 21",
    ),
    Mutation(
        "21",
        "ragged lines are left out in silence",
        "data/readers.py",
        "                if len(cells) != len(header):\n",
        "                if False:\n",
        f"{DATA} -k 21",
    ),
    Mutation(
        "21",
        "labels unseen in training pass",
        "tasks/single_label.py",
        'check_labels(data.column("label"), self.names, column=data.roles["label"])',
        "pass",
        f"{DATA} -k 21",
    ),
    Mutation(
        "22",
        "zero-width characters make texts different",
        "data/duplicates.py",
        '_INVISIBLE.sub("", text)',
        "text",
        f"{DATA} tests/data/test_report.py -k '22 or duplicat'",
    ),
    Mutation(
        "22",
        "capitals make texts different",
        "data/duplicates.py",
        "text.lower().split()",
        "text.split()",
        f"{DATA} -k 22",
    ),
    Mutation(
        "22",
        "the last row of a data set is not looked at",
        "data/duplicates.py",
        "same = other.filled & (exact < limit)",
        "same = other.filled & (exact < limit) & (np.arange(len(exact)) % 97 != 0)",
        f"{DATA} -k 22",
    ),
    Mutation(
        "22",
        "what is exactly the same counts as normalised too",
        "data/duplicates.py",
        "_pairs(loose, other.filled & ~same & (loose < limit))",
        "_pairs(loose, other.filled & (loose < limit))",
        f"{DATA} -k 22",
    ),
    Mutation(
        "23",
        "gradients of the try that failed are kept",
        "train/loop.py",
        "                    raise\n            optimizer.zero_grad()",
        "                    raise",
        MEMORY,
    ),
    Mutation(
        "23",
        "the step that failed is left out",
        "train/loop.py",
        "                    raise\n            optimizer.zero_grad()",
        "                    raise\n                return []\n            optimizer.zero_grad()",
        MEMORY,
    ),
    Mutation(
        "23",
        "nothing is halved",
        "train/micro_batches.py",
        "rows=(len(largest) + 1) // 2)",
        "rows=len(largest))",
        MEMORY,
    ),
    Mutation(
        "23",
        "masks of dropout know a row's place in the pass, not the row",
        "train/forward.py",
        "batch.rows[:, None].expand(rows, longest)",
        "torch.arange(rows)[:, None].expand(rows, longest)",
        MEMORY,
    ),
    Mutation(
        "24",
        "settings that import code are let in",
        "models/strict.py",
        'if _REFUSED.fullmatch(place.rpartition(".")[2]):',
        "if False:",
        FOLDERS,
    ),
    Mutation(
        "24",
        "nothing bounds the size of a model",
        "models/strict.py",
        "if made[0] > most or value.numel() > largest:",
        "if False:",
        FOLDERS,
    ),
    Mutation(
        "24",
        "links are followed",
        "storage.py",
        "return path.is_file() and not path.is_symlink()",
        "return path.is_file()",
        FOLDERS,
    ),
    Mutation(
        "24",
        "a key that stands twice is no error",
        "storage.py",
        "        if key in found:\n",
        "        if False:\n",
        FOLDERS,
    ),
    Mutation(
        "24",
        "any number of files is hashed",
        "artifact.py",
        "_require_plain_names(folder, ADAPTER_FILES if is_adapter else FILES)",
        "pass",
        FOLDERS,
    ),
    Mutation(
        "24",
        "code of strangers is trusted",
        "models/folder.py",
        "local_files_only=True, trust_remote_code=False)",
        "local_files_only=True, trust_remote_code=True)",
        f"{FOLDERS} tests/test_source_rules.py",
    ),
    Mutation(
        "24",
        "strides of a checkpoint are believed",
        "train/packed.py",
        "    if not _is_dense(tuple(value.shape), stride):\n",
        "    if False:\n",
        CHECKPOINTS,
    ),
    Mutation(
        "24",
        "an adapter's settings are believed",
        "models/adapter_folder.py",
        "settings = read_settings(folder / SETTINGS)",
        "settings = storage.read_json(folder / SETTINGS)",
        f"{ADAPTERS} -k hostile",
    ),
    Mutation(
        "24, chat templates",
        "no sandbox",
        "models/template_child.py",
        "environment = ImmutableSandboxedEnvironment(",
        "environment = jinja2.Environment(",
        TEMPLATES,
    ),
    Mutation(
        "24, chat templates",
        "a sandbox whose data can be changed",
        "models/template_child.py",
        "environment = ImmutableSandboxedEnvironment(",
        "environment = jinja2.sandbox.SandboxedEnvironment(",
        TEMPLATES,
    ),
    Mutation(
        "24, chat templates",
        "files, sockets and memory are not given up",
        "models/template_child.py",
        '    confine(settings["memory"])\n',
        "",
        TEMPLATES,
    ),
    Mutation(
        "24, chat templates",
        "names that Python gives a meaning can be set",
        "models/template_child.py",
        'if isinstance(name, str) and name.startswith("_"):',
        "if False:",
        TEMPLATES,
    ),
    Mutation(
        "24, chat templates",
        "the functions of jinja2 are all there",
        "models/template_child.py",
        "            **kept,\n",
        "            **environment.globals,\n",
        TEMPLATES,
    ),
    Mutation(
        "chat templates",
        "control strings that a user types stay",
        "models/chat.py",
        "turns = [_neutral(row, self.controls) for row in",
        "turns = [list(row) for row in",
        CHAT,
    ),
    Mutation(
        "chat templates",
        "the end of an answer is not learned",
        "models/chat.py",
        "return _Answer(start, closing.end(), True)\n\n    def _by_marks",
        "return _Answer(start, end, False)\n\n    def _by_marks",
        CHAT,
    ),
    Mutation(
        "chat templates",
        "what names the speaker is learned",
        "models/chat.py",
        "start, said = len(invited), ",
        "start, said = max(0, len(invited) - 9), ",
        CHAT,
    ),
    Mutation(
        "25",
        "secrets of options stand in a checkpoint",
        "resuming.py",
        'redacted({**options, "model": model, "callbacks": kinds})',
        '{**options, "model": model, "callbacks": kinds}',
        SECRETS,
    ),
    Mutation(
        "25",
        "secrets are known by their names alone",
        "train/redaction.py",
        "_SECRET_LOOKS.sub(REDACTED, value)",
        "value",
        SECRETS,
    ),
    Mutation(
        "25",
        "control tokens that a user types become some",
        "models/tokenizer.py",
        "split_special_tokens=True",
        "split_special_tokens=False",
        SECRETS,
    ),
)


def main(numbers: Sequence[str]) -> None:
    """Print a line of the table for each mutation."""
    for mutation in MUTATIONS:
        if not numbers or mutation.number in numbers:
            start = time.monotonic()
            noticed = tried(mutation)
            took = f"[{time.monotonic() - start:.0f} s]"
            print(f"| {mutation.number} | {mutation.what} | {noticed} |", took, flush=True)


def tried(mutation: Mutation) -> str:
    """The first test that failed, as it stands in the table."""
    with tempfile.TemporaryDirectory(prefix="mutation-") as place:
        copy = Path(place)
        for folder in ("sftlib", "tests"):
            shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", copy)
        broken = copy / "sftlib" / mutation.path
        text = broken.read_text(encoding="utf-8")
        if mutation.old not in text:
            return "**the text to change is gone**"
        broken.write_text(text.replace(mutation.old, mutation.new), encoding="utf-8")
        return _first_failure(copy, mutation.tests)


def _first_failure(copy: Path, tests: str) -> str:
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "--tb=line", *_split(tests)]
    environment = {**os.environ, "PYTHONPATH": str(copy)}
    try:
        ended = subprocess.run(
            command, cwd=copy, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return f"**no end within {SECONDS} s**"
    if ended.returncode == 0:
        return "**survives**"
    found = re.search(r"^(?:FAILED|ERROR) \S*?(?:::(\w+))?::(\w+)", ended.stdout, re.MULTILINE)
    return f"`{found[2]}`" if found else f"**pytest ended with {ended.returncode}**: {ended.stdout[-300:]!r}"


def _split(tests: str) -> list[str]:
    """Paths, and what stands behind ``-k``."""
    paths, _, chosen = tests.partition(" -k ")
    return [*paths.split(), *(["-k", chosen.strip("'")] if chosen else [])]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("numbers", nargs="*", help="of groups; all when none is given")
    main(parser.parse_args().numbers)
