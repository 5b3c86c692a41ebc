"""Reads the docstrings of installed packages from their source files, without importing or running them."""

import ast
import importlib.util
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from gpt2.common.errors import InputError
from gpt2.common.machine import cpu_count
from gpt2.common.processes import worker_pool
from gpt2.common.progress import bar
from gpt2.sources.docstrings.prose import prose

MAX_CODE = 300  # characters of a function; with its prompt, nearly every one fits a context of 256 tokens
SPDX = {  # names of licenses in older metadata
    "Apache Software License": "Apache-2.0",
    "Apache License, Version 2.0": "Apache-2.0",
    "MIT License": "MIT",
    "Python Software Foundation License": "PSF-2.0",
}
LEFT_OUT = {"test", "tests", "distutils"}  # folders of tests, and numpy.distutils, which only Python 3.11 gets
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
SCOPES = (ast.ClassDef, ast.If, ast.Try, ast.With)  # statements whose definitions belong to the module or class


@dataclass(frozen=True)
class SourceFile:
    """A Python file of a package."""

    package: str
    module: str  # dotted name
    path: Path


@dataclass(frozen=True)
class Docstring:
    """A docstring in prose, and the code that it documents."""

    name: str  # qualified, e.g. scipy.linalg.solve
    package: str
    paragraphs: tuple[str, ...]
    summary: str  # its first sentence, or ""
    code: str  # signature and beginning of the body without the docstring; "" if it documents no function


def read_docstrings(packages: tuple[str, ...]) -> tuple[list[Docstring], list[str]]:
    """All docstrings of the packages, ordered by package, file and line, and the modules that do not parse.

    Raises InputError if a package is not installed.
    """
    files = [file for package in sorted(set(packages)) for file in source_files(package)]
    found: list[Docstring] = []
    skipped: list[str] = []
    with worker_pool(cpu_count()) as pool:
        results = pool.map(read_file, files, chunksize=16)
        for file, docstrings in zip(files, bar(results, total=len(files), desc="docstrings", unit="file"), strict=True):
            if docstrings is None:
                skipped.append(file.module)
            else:
                found += docstrings
    return found, skipped


def source_files(package: str) -> list[SourceFile]:
    """The Python files of an installed package, without the folders LEFT_OUT and other tests, ordered by path.

    Raises InputError if no package of that name is installed.
    """
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    roots = sorted(spec.submodule_search_locations or []) if spec else []
    files = [
        SourceFile(package, ".".join([package, *relative.with_suffix("").parts]).removesuffix(".__init__"), path)
        for root in map(Path, roots)
        for path in sorted(root.rglob("*.py"), key=lambda path: path.parts)  # in the same order on Windows
        if not LEFT_OUT & set((relative := path.relative_to(root)).parts[:-1])
        and not path.name.startswith("test_")
        and path.name != "conftest.py"
    ]
    if not files:
        raise InputError(f"docstrings.packages: {package!r} is not an installed package with Python source files")
    return files


def read_file(file: SourceFile) -> list[Docstring] | None:
    """The docstrings of one file, ordered by line; None if it does not parse (a template, another encoding)."""
    try:
        text = importlib.util.decode_source(file.path.read_bytes())
        with warnings.catch_warnings(action="ignore"):  # about invalid escapes in strings
            documented = list(_documented(ast.parse(text), file.module))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    lines = text.split("\n")
    found = []
    for name, node in documented:
        if docstring := ast.get_docstring(node, clean=False):
            paragraphs, summary = prose(docstring)
            code = _code(node, lines) if isinstance(node, FUNCTIONS) else ""
            found.append(Docstring(name, file.package, tuple(paragraphs), summary, code))
    return found


def origin(packages: tuple[str, ...]) -> dict:
    """How a manifest begins: the versions of the packages, and the licenses that they declare, sorted.

    The version of a package that pip did not install is None.
    """
    provided = metadata.packages_distributions()  # names of distributions by import name
    found = {name: metadata.metadata(provided[name][0]) if name in provided else {} for name in sorted(set(packages))}
    return {
        "source": "docstrings",
        "packages": {name: about.get("Version") for name, about in found.items()},
        "license": sorted({license_of(about) for about in found.values()}),
    }


def license_of(about: Mapping[str, str]) -> str:
    """The license in the metadata of a distribution, as an SPDX expression where it is clear which one is meant."""
    classifiers = [value for key, value in about.items() if key == "Classifier" and value.startswith("License ::")]
    names = [value.rpartition(" :: ")[2] for value in classifiers] or [about.get("License") or "unknown"]
    return about.get("License-Expression") or ", ".join(SPDX.get(name, name.splitlines()[0]) for name in names)


def _documented(node: ast.AST, name: str) -> Iterator[tuple[str, ast.AST]]:
    """A module or class, and the functions and classes in it at any depth, but nothing inside a function."""
    if isinstance(node, ast.Module | ast.ClassDef):
        yield name, node
    for child in ast.iter_child_nodes(node):
        if isinstance(child, FUNCTIONS):
            yield f"{name}.{child.name}", child
        elif isinstance(child, SCOPES):
            yield from _documented(child, f"{name}.{child.name}" if isinstance(child, ast.ClassDef) else name)


def _code(node: ast.FunctionDef | ast.AsyncFunctionDef, lines: list[str]) -> str:
    """The first whole lines of a function, up to MAX_CODE characters; "" if none of them belongs to its body."""
    docstring, *body = node.body
    if not body or body[0].lineno <= docstring.end_lineno:
        return ""
    kept, room = [], MAX_CODE
    for number in [*range(node.lineno, docstring.lineno), *range(docstring.end_lineno + 1, node.end_lineno + 1)]:
        line = lines[number - 1]
        line = (line[node.col_offset :] if not line[: node.col_offset].strip() else line).rstrip()
        room -= len(line) + 1
        if room < 0:
            break
        if line:
            kept.append(line)
            last = number
    return "\n".join(kept) if kept and last > docstring.end_lineno else ""
