"""What the package's source must never hold: ways to run what a file says, and paths of somebody's machine."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = sorted((ROOT / "sftlib").rglob("*.py"))
TEXT = [
    path
    for folder in ("sftlib", "tests", "examples", "docs", "notebooks", ".ci")
    for path in sorted((ROOT / folder).rglob("*"))
    if path.is_file() and "_build" not in path.parts and path.suffix in {".py", ".md", ".ipynb", ".toml", ".json", ""}
] + sorted(path for path in ROOT.iterdir() if path.suffix in {".py", ".md", ".toml"})

# Modules that turn bytes into code or objects of any class.
BANNED_MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "yaml", "code"}
BANNED_CALLS = {
    "eval",
    "exec",
    "compile",
    "__import__",
    "torch.load",
    "torch.save",
    "os.system",
    "os.popen",
    "torch.hub.load",
}
# Paths of one machine, written so that this file does not hold them.
MACHINE = re.compile("|".join(f"/{part}/" for part in ("home", "Users", "root", "work", "mnt", "opt")))


def dotted(node: ast.AST) -> str:
    """``a.b.c`` of a name or attribute, else nothing."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def problems(source: str) -> list[str]:
    """Every banned thing in one file's source, as ``line: what``."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            names = []
        found += [
            f"{node.lineno}: imports {name}"
            for name in names
            if name.split(".")[0] in BANNED_MODULES or name in BANNED_CALLS
        ]
        if not isinstance(node, ast.Call):
            continue
        if dotted(node.func) in BANNED_CALLS:
            found.append(f"{node.lineno}: calls {dotted(node.func)}")
        for keyword in node.keywords:
            allowed = isinstance(keyword.value, ast.Constant) and keyword.value.value is False
            if keyword.arg in ("shell", "trust_remote_code", "allow_pickle") and not allowed:
                found.append(f"{node.lineno}: {keyword.arg} is not the constant False")
            if keyword.arg == "weights_only":
                found.append(f"{node.lineno}: weights_only: read safetensors instead")
    return found


@pytest.mark.parametrize("path", PACKAGE, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_nothing_executes_a_file(path: Path) -> None:
    found = problems(path.read_text(encoding="utf-8"))
    assert not found, f"{path.relative_to(ROOT)}:" + f"\n{path.relative_to(ROOT)}:".join(found)


@pytest.mark.parametrize("path", TEXT, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_machine_paths(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    found = [f"{number}: {line.strip()[:100]}" for number, line in enumerate(lines, 1) if MACHINE.search(line)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from pickle import loads",
        "def f():\n    import joblib",
        "from torch import load",
        "import torch\ntorch.load('x')",
        "eval('1')",
        "exec('1')",
        "__import__('os')",
        "import yaml\nyaml.load(x)",
        "subprocess.run('ls', shell=True)",
        "subprocess.run('ls', shell=flag)",
        "AutoModel.from_pretrained(x, trust_remote_code=True)",
        "AutoModel.from_pretrained(x, trust_remote_code=option)",
        "np.load('x', allow_pickle=True)",
    ],
)
def test_the_rules_notice(source: str) -> None:
    assert problems(source)


@pytest.mark.parametrize(
    "source",
    [
        "model.eval()",
        "re.compile('x')",
        "AutoModel.from_pretrained(x, trust_remote_code=False)",
        "torch.compile(model)",
    ],
)
def test_the_rules_let_pass(source: str) -> None:
    assert not problems(source)
