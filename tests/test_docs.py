"""What the pages say exists: files, headings, names in the code, params, commands, figures, quoted code."""

import ast
import re
from functools import reduce

import pytest
from ruamel.yaml import YAML

from gpt2.__main__ import COMMANDS
from tests.conftest import ROOT
from tests.figures import FIGURE, formatted_like, updated, value
from tests.pages import PAGES, read

LINK = re.compile(r"\[([^\]]+)\]\(([^)#\s]*)(?:#([\w-]+))?(?: \"[^\"]*\")?\)")
QUOTE = re.compile(r"^```python\n# (gpt2/[\w/]+\.py)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def links(page: str) -> list[tuple[str, str, str]]:
    """Text, path from the root, and anchor of every link that stays in the repository."""
    local = [match.groups() for match in LINK.finditer(read(page)) if not match[2].startswith("http")]
    folder = (ROOT / page).parent
    return [(text, str((folder / to).resolve().relative_to(ROOT)) if to else page, at) for text, to, at in local]


def defined(tree: ast.AST, name: str) -> bool:
    """Whether a module, or a class in it, defines a dotted name: a function, a class, or a variable."""
    first, _, rest = name.partition(".")
    for node in tree.body:
        targets = getattr(node, "targets", [getattr(node, "target", None)])
        if first in (getattr(node, "name", None), *(getattr(target, "id", None) for target in targets)):
            return not rest or (isinstance(node, ast.ClassDef) and defined(node, rest))
    return False


def has_param(name: str) -> bool:
    params = YAML(typ="safe").load(ROOT / "profiles/sample.yaml")
    try:
        reduce(lambda section, key: section[key], name.split("."), params)
    except (KeyError, TypeError):
        return False
    return True


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files_headings_and_names(page):
    for text, path, anchor in links(page):
        assert (ROOT / path).exists(), f"{page}: [{text}] leads to {path}, which does not exist"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", read(path), flags=re.MULTILINE)
            slugs = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
            assert anchor in slugs, f"{page}: {path} has no heading #{anchor}"
        name = text.strip("`")
        if name != text and path.endswith(".py") and not name.endswith(".py"):
            assert defined(ast.parse(read(path)), name), f"{page}: {path} does not define {name}"
        if name not in (text, path) and path == "params.yaml":
            assert has_param(name), f"{page}: params.yaml has no {name}"


@pytest.mark.parametrize("page", PAGES)
def test_commands_and_paths_name_what_exists(page):
    text = read(page)
    for module in re.findall(r"-m ((?:gpt2|stages|benchmarks|tests)(?:\.\w+)+)", text):
        assert (ROOT / module.replace(".", "/")).with_suffix(".py").exists(), f"{page}: no module {module}"
    for path in re.findall(r"`((?:gpt2|stages|benchmarks|tests)/[\w/.]*)`", text):
        assert (ROOT / path).exists(), f"{page}: no file {path}"
    for command in re.findall(r"-m gpt2 ([a-z]\w*)", text):
        assert command in COMMANDS, f"{page}: no command {command}"
    refused = re.findall(r"Key '(\w+)' is not in struct", text)  # examples of a wrong key
    for name in re.findall(r"-S '?([\w.]+)=", text):
        assert has_param(name) or name.split(".")[-1] in refused, f"{page}: params.yaml has no {name}"


@pytest.mark.parametrize("page", PAGES)
def test_figures_are_those_of_the_reports(page):
    text = read(page)
    quoted = re.findall(r"\]\(\S*reports/\S+ \"", text)
    assert len(quoted) == len(FIGURE.findall(text)), f"{page}: a figure is not written as tests/figures.py says"
    right, remedy = updated(text), "`python -m tests.figures` corrects them; then check the sentences around them"
    assert text.splitlines() == right.splitlines(), f"{page}: figures differ from reports/: {remedy}"


@pytest.mark.parametrize("page", PAGES)
def test_quoted_code_is_in_its_file(page):
    for path, quote in QUOTE.findall(read(page)):
        code = iter([line.strip() for line in read(path).splitlines()])
        for line in filter(None, map(str.strip, quote.splitlines())):
            assert line == "..." or line in code, f"{page}: {path} does not have, in this order: {line}"


def test_a_figure_is_compared_with_as_many_digits_as_are_written():
    report = "step,loss\n0,8.3\n150,5.18615\n"
    assert formatted_like("5.186", value(report, "val.csv", "loss, step=150")) == "5.186"
    assert formatted_like("1,000", value('{"a": {"n": 1228800}}', "metrics.json", "a.n")) == "1,228,800"
    assert formatted_like("9e-05", 1.2397e-05) == "1e-05"
    with pytest.raises(KeyError):
        value(report, "val.csv", "loss, step=7")
