"""Reading docstrings from a made-up package."""

import sys
import textwrap

import pytest

from gpt2.common.errors import InputError
from gpt2.sources.docstrings.packages import MAX_CODE, license_of, origin, read_docstrings, read_file, source_files

MODULE = '''
"""A module that must not be imported."""
raise SystemExit("imported")

class Shape:
    """Something that has an area and an outline."""

    def area(self, *, unit="cm"):
        """Return the area in square units.

        More is said here.
        """
        def inner():
            """Nothing from inside a function."""
        # a comment

        return inner() * unit

    async def draw(self): "Draw it on the screen."; return 1

    def outline(self):
        """Return the outline of it as a line."""

if True:
    def long(a,
             b):
        r"""Adds \\d many numbers and returns their sum."""
''' + "\n".join(f"        a = a + {i}  # another line" for i in range(50))


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package called shapely_fake, from which nothing may be imported."""
    root = tmp_path / "shapely_fake"
    for name, content in {
        "__init__.py": MODULE,
        "sub/deep.py": '"""The docstring of a module below."""\n',
        "sub/latin.py": '# -*- coding: latin-1 -*-\n"""Caf\xe9 au lait is served here."""\n'.encode("latin-1"),
        "sub/broken_utf8.py": b'"""Caf\xe9 au lait is not served here."""\n',
        "sub/template.py": '"""{{ name }} is a template."""\ndef {{ name }}(): pass\n',
        "sub/null.py": '"""Null bytes are not Python."""\n\0',
        "sub/nested.py": "x = " + "-" * 100_000 + "1\n",
        "sub/empty.py": "",
        "sub/escape.py": '"""An invalid escape \\d is fine."""\n',
        "tests/helper.py": '"""Tests are left out."""\n',
        "sub/test_one.py": '"""Tests are left out."""\n',
        "conftest.py": '"""Tests are left out."""\n',
        "distutils/core.py": '"""Not every Python gets this module."""\n',
    }.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    monkeypatch.syspath_prepend(tmp_path)
    return "shapely_fake"


def test_docstrings_in_order_and_what_is_skipped(package, recwarn):
    found, skipped = read_docstrings((package,))
    assert [(docstring.name, docstring.summary) for docstring in found] == [
        ("shapely_fake", "A module that must not be imported."),
        ("shapely_fake.Shape", "Something that has an area and an outline."),
        ("shapely_fake.Shape.area", "Return the area in square units."),
        ("shapely_fake.Shape.draw", "Draw it on the screen."),
        ("shapely_fake.Shape.outline", "Return the outline of it as a line."),
        ("shapely_fake.long", ""),
        ("shapely_fake.sub.deep", "The docstring of a module below."),
        ("shapely_fake.sub.escape", ""),
        ("shapely_fake.sub.latin", "Café au lait is served here."),
    ]
    assert skipped == [f"shapely_fake.sub.{name}" for name in ("broken_utf8", "nested", "null", "template")]
    assert package not in sys.modules and not recwarn.list


def test_workers_change_nothing(package):
    alone = [docstring for file in source_files(package) for docstring in read_file(file) or []]
    assert read_docstrings((package, package))[0] == alone


def test_code_is_the_beginning_of_a_function_without_its_docstring(package):
    code = {
        docstring.name.removeprefix("shapely_fake."): docstring.code for docstring in read_docstrings((package,))[0]
    }
    assert code["Shape.area"] == textwrap.dedent('''\
        def area(self, *, unit="cm"):
            def inner():
                """Nothing from inside a function."""
            # a comment
            return inner() * unit''')
    assert code["Shape"] == code["Shape.outline"] == code["Shape.draw"] == ""
    lines = code["long"].split("\n")
    assert lines[:3] == ["def long(a,", "         b):", "    a = a + 0  # another line"]
    assert MAX_CODE - 40 < len(code["long"]) <= MAX_CODE


@pytest.mark.parametrize(
    ("about", "license"),
    [
        (
            {"License-Expression": "BSD-3-Clause AND MIT", "Classifier": "License :: OSI Approved"},
            "BSD-3-Clause AND MIT",
        ),
        ({"Classifier": "License :: OSI Approved :: Apache Software License", "License": "a long\ntext"}, "Apache-2.0"),
        ({"Classifier": "Programming Language :: Python", "License": "BSD"}, "BSD"),
        ({"License": "The license of it\n\nits whole text"}, "The license of it"),
        ({}, "unknown"),
    ],
)
def test_the_license_that_a_distribution_declares(about, license):
    assert license_of(about) == license


def test_the_manifest_has_versions_and_licenses(package):
    found = origin(("numpy", package, "networkx"))
    assert found["packages"].keys() == {"networkx", "numpy", package} and found["packages"][package] is None
    assert found["license"][0].startswith("BSD-3-Clause") and found["license"][-1] == "unknown"


@pytest.mark.parametrize("name", ["no_such_package", "sys", "numpy.linalg", "../numpy", ""])
def test_a_package_that_is_not_installed(name):
    with pytest.raises(InputError, match=f"docstrings.packages: '{name}' is not"):
        source_files(name)
