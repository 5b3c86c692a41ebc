"""The pages say what is so: what they link to exists, names stand in the code, figures are those of reports/."""

import ast
import re
from functools import reduce

import pytest
from ruamel.yaml import YAML

from gpt2.__main__ import COMMANDS
from tests.conftest import ROOT
from tests.figures import FIGURE, known, like, value

PAGES = ["README.md", "profiles/README.md", "benchmarks/README.md", "data/local/README.md"]
PAGES += sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))
LINK = re.compile(r"\[([^\]]+)\]\(([^)#\s]*)(?:#([\w-]+))?(?: \"[^\"]*\")?\)")


def read(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def links(page: str) -> list[tuple[str, str, str]]:
    """Text, path from the root, and anchor of every link that stays in the repository."""
    found = [match.groups() for match in LINK.finditer(read(page)) if not match[2].startswith("http")]
    folder = (ROOT / page).parent
    return [(text, str((folder / to).resolve().relative_to(ROOT)) if to else page, at) for text, to, at in found]


def defined(tree: ast.AST, name: str) -> bool:
    """Whether a module, or a class in it, defines a dotted name: a function, a class, or a variable."""
    first, _, rest = name.partition(".")
    for node in tree.body:
        targets = getattr(node, "targets", [getattr(node, "target", None)])
        if first in (getattr(node, "name", None), *(getattr(target, "id", None) for target in targets)):
            return not rest or (isinstance(node, ast.ClassDef) and defined(node, rest))
    return False


def has_param(name: str) -> bool:
    params = YAML(typ="safe").load(ROOT / "params.yaml")
    try:
        reduce(lambda section, key: section[key], name.split("."), params)
    except (KeyError, TypeError):
        return False
    return True


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    for text, path, anchor in links(page):
        assert (ROOT / path).exists(), f"{page}: [{text}] leads to {path}, which is not there"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", read(path), flags=re.MULTILINE)
            slugs = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
            assert anchor in slugs, f"{page}: {path} has no heading #{anchor}"


@pytest.mark.parametrize("page", PAGES)
def test_names_that_are_links_stand_in_their_file(page):
    for text, path, _ in links(page):
        name = text.strip("`")
        if name == text:
            continue
        if path.endswith(".py") and not name.endswith(".py"):
            assert defined(ast.parse(read(path)), name), f"{page}: {path} does not define {name}"
        if path == "params.yaml" and name != path:
            assert has_param(name), f"{page}: params.yaml has no {name}"


@pytest.mark.parametrize("page", PAGES)
def test_commands_name_modules_and_params_that_exist(page):
    text = read(page)
    for module in re.findall(r"-m ((?:gpt2|stages|benchmarks|tests)(?:\.\w+)+)", text):
        path = ROOT / module.replace(".", "/")
        assert path.with_suffix(".py").exists(), f"{page}: no module {module}"
    for command in re.findall(r"-m gpt2 (\w+)", text):
        assert command in COMMANDS, f"{page}: no command {command}"
    for name in re.findall(r"-S '?([\w.]+)=", text):
        assert has_param(name), f"{page}: params.yaml has no {name}"


@pytest.mark.parametrize("page", PAGES)
def test_figures_are_those_of_the_reports(page):
    wrong = []
    quoted = re.findall(r"\]\(\S*reports/\S+ \"", read(page))
    assert len(quoted) == len(FIGURE.findall(read(page))), f"{page}: a figure is not written as tests/figures.py says"
    for written, path, key in FIGURE.findall(read(page)):
        right = known(written, path, key)
        if written not in right:
            wrong.append(f"{written} should be {' or '.join(right) or 'of another key'}: {key} of {path}")
    mend = "`python -m tests.figures` puts in the figures of reports/; then read the sentences around them again"
    assert not wrong, f"{page}: {mend}\n" + "\n".join(wrong)


def test_a_figure_is_compared_with_as_many_digits_as_are_written():
    report = "step,loss\n0,8.3\n150,5.18615\n"
    assert like("5.186", value(report, "val.csv", "loss, step=150")) == "5.186"
    assert like("1,000", value('{"a": {"n": 1228800}}', "metrics.json", "a.n")) == "1,228,800"
    assert like("9e-05", 1.2397e-05) == "1e-05"
    with pytest.raises(KeyError):
        value(report, "val.csv", "loss, step=7")


def test_a_name_is_found_where_it_is_defined_only():
    tree = ast.parse("N: int = 3\nclass A:\n    def f(self): pass\ndef g(): pass\n")
    assert all(defined(tree, name) for name in ("N", "A", "A.f", "g"))
    assert not any(defined(tree, name) for name in ("f", "A.g", "g.f", "h"))
