"""The rules of the house: which way imports go, what a stage declares, how large files grow."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from tests.conftest import ROOT

LIBRARY = sorted(path.relative_to(ROOT) for path in (ROOT / "gpt2").rglob("*.py"))
STAGES = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]
TEMPLATES = "gpt2/report/templates"
MODULES = [*LIBRARY, *sorted(path.relative_to(ROOT) for path in (ROOT / "stages").glob("*.py"))]
STAGE_MODULES = sorted(f"stages/{name}.py" for name in STAGES)


def imports(path: Path) -> set[str]:
    """Dotted names that a file imports, `from a import b` as a and a.b."""
    names = set()
    for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def own_files(path: Path) -> set[Path]:
    """Files of this project that importing those names reads, packages' __init__.py among them."""
    files = set()
    for name in imports(path):
        place = Path(*name.split("."))
        candidates = [place.with_suffix(".py"), *(parent / "__init__.py" for parent in [place, *place.parents[:-1]])]
        files |= {file for file in candidates if (ROOT / file).is_file()}
    return files


def closure(path: Path) -> set[Path]:
    """All files of this project that importing `path` reads, with itself."""
    seen, waiting = set(), [path]
    while waiting:
        file = waiting.pop()
        if file not in seen:
            seen.add(file)
            waiting += own_files(file)
    return seen


@pytest.mark.parametrize("path", LIBRARY, ids=str)
def test_the_library_knows_no_stage_no_dvc_and_no_yaml(path):
    roots = {name.split(".")[0] for name in imports(path)}
    assert not roots & {"stages", "dvc", "ruamel", "yaml"}


def test_imports_go_one_way():
    TopologicalSorter({path: own_files(path) - {path} for path in MODULES}).prepare()  # raises CycleError


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_nothing_that_runs_needs_tests_or_benchmarks_and_only_commands_read_a_command_line(path):
    roots = {name.split(".")[0] for name in imports(path)}
    assert not roots & {"tests", "benchmarks", "pytest"}
    frames = {Path("gpt2/command.py"), Path("stages/stage.py")}  # what commands, and what stages, have in common
    assert "argparse" not in roots or path in frames or "__main__" in (ROOT / path).read_text(encoding="utf-8")


def test_the_model_stands_on_config_alone():
    assert own_files(Path("gpt2/model.py")) == {Path("gpt2/config.py"), Path("gpt2/__init__.py")}


def test_the_report_needs_neither_torch_nor_the_model():
    for path in (ROOT / "gpt2" / "report").glob("*.py"):
        for file in closure(path.relative_to(ROOT)):
            assert not {name.split(".")[0] for name in imports(file)} & {"torch", "transformers"}, file
            assert file != Path("gpt2/model.py")


@pytest.mark.parametrize("path", STAGE_MODULES)
def test_stages_do_not_import_each_other(path):
    assert not own_files(Path(path)) & {Path(other) for other in STAGE_MODULES}


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_declares_the_code_it_runs(name):
    declared = {dep for dep in STAGES[name]["deps"] if dep.endswith(".py") or dep == TEMPLATES}
    needed = {str(path) for path in closure(Path(f"stages/{name}.py"))}
    if "gpt2/report/page.py" in needed:  # it fills them
        needed.add(TEMPLATES)
    assert declared == needed


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_files_and_functions_stay_small(path):
    text = (ROOT / path).read_text(encoding="utf-8")
    assert text.count("\n") <= 330
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno - node.lineno < 60, f"{path}: {node.name}"
