"""The lists of packages hold what the code imports, and nothing else."""

import ast
import sys
import tomllib
from collections.abc import Iterable
from importlib import metadata

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.conftest import ROOT

DISTRIBUTIONS = metadata.packages_distributions()  # by the name of the import
OPTIONAL = {
    "datatrove",
    "loguru",
    "ray",
    "tensorboard",
    "wandb",
}  # an error says which is missing
READ = {"networkx", "nltk", "pandas", "sympy"}  # for their docstrings, besides packages that are imported
RUN = {"dvc", "pytest-xdist", "ruff"}  # by the Makefile


def imported(*folders: str) -> set[str]:
    """The distributions that the modules of these folders import."""
    names = set()
    for path in (path for folder in folders for path in (ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                names.add(node.module.partition(".")[0])
    names -= {"gpt2", "stages", "tests", "benchmarks", *sys.stdlib_module_names}
    return {canonicalize_name(DISTRIBUTIONS[name][0]) for name in names}


def pinned(file: str) -> tuple[dict[str, str], set[str]]:
    """The versions by name, and the names in the first part, which the project itself uses."""
    first, _, rest = (ROOT / file).read_text("utf-8").partition("\n# --- locked")
    parts = [[line.split("==") for line in part.splitlines() if "==" in line] for part in (first, rest)]
    names = [canonicalize_name(name) for part in parts for name, _ in part]
    assert len(set(names)) == len(names), f"{file} names a package twice"
    return dict(zip(names, [version for part in parts for _, version in part], strict=True)), set(
        names[: len(parts[0])]
    )


def closure(names: Iterable[str]) -> set[str]:
    """The names of distributions and of all that they need here."""
    found, queue = set(), [(name, frozenset()) for name in names]
    while queue:
        name, extras = queue.pop()
        if (name, extras) in found:
            continue
        found.add((name, extras))
        for requirement in map(Requirement, metadata.requires(name) or ()):
            marker = requirement.marker
            if marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *extras)):
                queue.append((canonicalize_name(requirement.name), frozenset(requirement.extras)))
    return {name for name, _ in found}


def test_the_library_needs_what_it_imports():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    declared = {canonicalize_name(Requirement(line).name) for line in project["dependencies"]}
    assert declared == imported("gpt2") - OPTIONAL


def test_make_repro_installs_what_the_chain_uses_and_what_that_needs():
    versions, used = pinned("requirements.txt")
    assert used == (imported("gpt2", "stages") - OPTIONAL) | READ | RUN & versions.keys()
    assert versions.keys() - closure(used) == set()
    assert closure(used - {"torch"}) - versions.keys() == set()  # a torch for GPUs pins what it needs itself
    assert versions == {name: metadata.version(name) for name in versions} | {"torch": versions["torch"]}


def test_make_test_adds_what_tests_and_benchmarks_use():
    (chain, _), (versions, used) = pinned("requirements.txt"), pinned("requirements-dev.txt")
    assert used == (imported("tests", "benchmarks") | OPTIONAL | RUN) - chain.keys()
    assert versions.keys() - closure(used) == set() and not versions.keys() & chain.keys()
    assert closure(used - {"peft"}) - versions.keys() - chain.keys() == set()  # peft needs torch
