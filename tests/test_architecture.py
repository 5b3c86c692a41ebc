"""Rules for the code: which room may import which, which code a stage declares, how long files may be."""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from tests.conftest import ROOT

# Each room of gpt2/, a folder, with the other rooms that it may import.
ROOMS = {
    "common": set(),
    "config": {"common"},
    "tokenizer": {"common"},
    "runtime": {"common"},
    "model": {"common", "config", "runtime", "tokenizer"},
    "adapters": {"common", "config", "runtime", "tokenizer", "model"},
    "sources": {"common", "config"},
    "tokens": {"common", "config", "tokenizer"},
    "training": {"common", "config", "runtime", "model"},
    "generation": {"common", "config", "runtime", "model", "tokenizer"},
    "interpret": {"common", "model", "tokenizer"},
    "evaluation": {"common", "config", "runtime", "model", "tokenizer", "generation"},
    "report": {"common"},
}
TASK = {"common", "config", "tokenizer", "runtime", "model", "adapters", "tokens", "training", "generation"}
ROOMS |= dict.fromkeys(("pretraining", "classification", "instruction"), TASK)
ROOMS["commands"] = set(ROOMS)

# These check, report, show progress, or connect a stage to its files. They decide no result, so no stage declares them.
UNKEYED = [
    "gpt2/common",
    "gpt2/config",
    "gpt2/commands",
    "stages/__init__.py",
    "stages/live.py",  # the curve, row by row as training returns it
    "stages/longer.py",  # gives the bytes of a run from scratch, or starts one
    "stages/params.py",
    "stages/stage.py",
]
# Code that one stage imports only to show progress or to refuse an input.
UNKEYED_IN = {
    "download_gpt2": ["gpt2/model", "gpt2/tokenizer"],  # reads the checkpoint once, as later stages will
    "pretrain": ["gpt2/generation"],  # prints a text after each evaluation
}

LIBRARY = sorted(path.relative_to(ROOT) for path in (ROOT / "gpt2").rglob("*.py"))
MODULES = [*LIBRARY, *sorted(path.relative_to(ROOT) for path in (ROOT / "stages").glob("*.py"))]
STAGES = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]
STAGE_MODULES = sorted(f"stages/{name}.py" for name in STAGES)


def imports(path: Path) -> set[str]:
    """The dotted names that a file imports: a and a.b for `from a import b`."""
    names = set()
    for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def own_files(path: Path) -> set[Path]:
    """The files of this project that a file imports, except the __init__.py of rooms, which hold only a docstring."""
    places = (Path(*name.split(".")).with_suffix(".py") for name in imports(path))
    return {place for place in places if (ROOT / place).is_file()}


def closure(path: Path) -> set[Path]:
    """All files of this project that Python reads to import `path`, including `path`."""
    seen, waiting = set(), [path]
    while waiting:
        file = waiting.pop()
        if file not in seen:
            seen.add(file)
            waiting += own_files(file)
    return seen


def room(path: Path) -> str | None:
    """The room of gpt2/ that a file is in."""
    return path.parts[1] if path.parts[0] == "gpt2" and len(path.parts) > 2 else None


def test_every_module_is_in_a_room():
    assert {str(path) for path in LIBRARY if room(path) is None} == {"gpt2/__init__.py", "gpt2/__main__.py"}
    assert {room(path) for path in LIBRARY} - {None} == ROOMS.keys()


@pytest.mark.parametrize("name", ROOMS)
def test_a_room_imports_only_rooms_below_it(name):
    for path in LIBRARY:
        if room(path) == name:
            assert {room(file) for file in own_files(path)} <= {name} | ROOMS[name], path


def test_imports_go_one_way():
    TopologicalSorter({path: own_files(path) for path in MODULES}).prepare()  # raises CycleError
    TopologicalSorter(ROOMS).prepare()


@pytest.mark.parametrize("path", [path for path in LIBRARY if path.name == "__init__.py"], ids=str)
def test_the_init_of_a_room_is_a_docstring(path):
    (docstring,) = ast.parse((ROOT / path).read_text(encoding="utf-8")).body
    assert isinstance(docstring, ast.Expr)


@pytest.mark.parametrize("path", LIBRARY, ids=str)
def test_the_library_imports_no_stage_no_dvc_and_no_yaml(path):
    roots = {name.split(".")[0] for name in imports(path)}
    assert not roots & {"stages", "dvc", "ruamel", "yaml"}


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_no_module_imports_tests_or_benchmarks_and_only_commands_parse_arguments(path):
    roots = {name.split(".")[0] for name in imports(path)}
    assert not roots & {"tests", "benchmarks", "pytest"}
    assert "argparse" not in roots or room(path) == "commands" or path.parts[0] == "stages"


def test_the_model_imports_only_config_and_its_loss():
    assert own_files(Path("gpt2/model/gpt.py")) == {Path("gpt2/config/params.py"), Path("gpt2/model/loss.py")}
    assert not own_files(Path("gpt2/model/loss.py"))


@pytest.mark.parametrize("name", ["common", "config", "report"])
def test_some_rooms_need_no_torch(name):
    for path in LIBRARY:
        if room(path) == name:
            for file in closure(path):
                assert not {name.split(".")[0] for name in imports(file)} & {"torch", "transformers"}, file


def test_the_list_of_commands_is_complete_and_imports_no_torch():
    code = "import sys; from gpt2.__main__ import main; main(['--help']); sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    modules = {path.stem for path in (ROOT / "gpt2/commands").glob("*.py")} - {"__init__", "cli"}
    commands = {module.removesuffix("_") for module in modules}  # import_, since import is a word of Python
    assert commands == {line.split()[0] for line in done.stdout.splitlines() if line.startswith("  ")}


@pytest.mark.parametrize("path", STAGE_MODULES)
def test_stages_do_not_import_each_other(path):
    assert not own_files(Path(path)) & {Path(other) for other in STAGE_MODULES if other != path}


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_declares_the_code_that_decides_its_result(name):
    declared = [dep for dep in STAGES[name]["deps"] if dep.startswith(("gpt2/", "stages/"))]
    needed = closure(Path(f"stages/{name}.py"))
    known = [*declared, *UNKEYED, *UNKEYED_IN.get(name, [])]
    undeclared = {str(file) for file in needed if not any(file.is_relative_to(place) for place in known)}
    assert not undeclared
    unused = {dep for dep in declared if not any(file.is_relative_to(dep) for file in needed)}
    assert not unused


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_files_and_functions_stay_small(path):
    text = (ROOT / path).read_text(encoding="utf-8")
    assert text.count("\n") <= 330
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno - node.lineno < 60, f"{path}: {node.name}"
