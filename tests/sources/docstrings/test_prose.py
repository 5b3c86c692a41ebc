"""The prose of docstrings."""

import inspect

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt2.sources.docstrings.markup import is_prose, plain, sentences
from gpt2.sources.docstrings.prose import is_heading, prose, tidy

NUMPYDOC = """
Find the roots of a function.

    The search stops early
    when it can.

Parameters
----------
f : callable, optional
    Function of one variable. Must be
    ``continuous`` on :class:`~scipy.interval.Interval`.

    .. versionadded:: 1.2
       It may be slow.
x, y : {array-like, float}
    Where to *start* [1]_.
method : str
    One of:

    * 'fast' : uses less memory.
    * 'safe' : uses less time, but
      gives more digits,
flag : bool

Returns
-------
ndarray of shape (n,)
    The roots in order.

See Also
--------
other : does something else entirely.

Notes
-----
The step is defined as

.. math:: x = \\frac{a}{b}

where a is the numerator. It holds for :math:`x_{0} \\in \\mathbb{R}` and α too.

.. note:: Never divide by zero here.

The table says more::

    not this

====  =====
name  value
====  =====
some  table with words in it
====  =====

Examples
--------
We look for a root of the sine.

>>> f(1)
the output is a sentence here.

References
----------
.. [1] Somebody wrote this book in some year.
"""


def test_a_numpydoc_docstring_becomes_prose():
    paragraphs, summary = prose(NUMPYDOC)
    assert summary == "Find the roots of a function."
    assert paragraphs == [
        "Find the roots of a function.",
        "The search stops early when it can.",
        "Parameters",
        "f: Function of one variable. Must be continuous on Interval.",
        "x, y: Where to start [1].",
        "method: One of:",
        "- 'fast': uses less memory.",
        "- 'safe': uses less time, but gives more digits.",
        "Returns",
        "The roots in order.",
        "Notes",
        "It holds for x_0 in R and α too.",
        "Never divide by zero here.",
    ]


@pytest.mark.parametrize(
    ("docstring", "paragraphs"),
    [
        (":param str x: the word\n:type x: str\n:return: The place", ["x: the word.", "Returns the place."]),
        ("Args:\n  x: what to\n    add\n  y (int): the rest", ["Args", "x: what to add.", "y (int): the rest."]),
        ("Return the sum\n   of two numbers", ["Return the sum of two numbers."]),
        ("First part. Set x = {y} + `z`/2. Second part.", ["First part.", "Second part."]),
        ("These exist.\n\nA term\n    that is described", ["These exist.", "A term: that is described."]),
        ("Keeps %(name)s of a template. And the rest stays.", ["And the rest stays."]),
        ("See https://example.org for more. It ends here.", ["It ends here."]),
        ("Like this:\n\n>>> f(1)\n2\n\nand so on. That was it.", ["That was it."]),
        ("Head\n====\n\nTail\n====\n\n", []),
        ("", []),
    ],
)
def test_dialects(docstring, paragraphs):
    assert prose(docstring)[0] == paragraphs


@pytest.mark.parametrize("docstring", [":param x: a number of words", ">>> f(1)\n1\n\nReturns a number.", "=====\n\n"])
def test_no_summary_without_prose_at_the_beginning(docstring):
    assert prose(docstring)[1] == ""


def test_inline_markup():
    assert plain(":func:`f` and :ref:`this one <label>` in `the docs <http://x.org>`_") == "f and this one in the docs"
    assert plain("``a * b`` and *c* and **d** but a*b*c and **kwargs") == "a * b and c and d but a*b*c and **kwargs"
    assert plain(r":math:`\alpha_{i} \le \mathbf{x}` and $k \cdot n$") == "alpha _i <= x and k * n"
    assert not is_prose(plain(r"The value is :math:`\frac{a}{b}`."))


def test_sentences():
    text = 'See e.g. Knuth et al. The end of G. "So it is." (Indeed.) Version 1.2 is out.'
    parts = ["See e.g. Knuth et al. The end of G.", '"So it is."', "(Indeed.)", "Version 1.2 is out."]
    assert sentences(text) == parts
    assert sentences("") == []


def test_tidy_drops_headings_and_introductions_of_nothing():
    assert tidy(["Notes", "Returns", "A word. These are:", "Raises"]) == ["Returns", "A word."]
    assert tidy(["These are:", "- one.", "Notes"]) == ["These are:", "- one."]


LINES = st.lists(
    st.one_of(
        st.sampled_from(inspect.cleandoc(NUMPYDOC).split("\n")),
        st.text(alphabet=st.characters(codec=None), max_size=30),
        st.sampled_from(
            ["::", ".. ", ">>> ", "    ", "- ", ":param", "`", "``", "====", "x : ", "\ud800 is it.", "\x00"]
        ),
    ),
    max_size=12,
)


@given(LINES)
def test_any_docstring_gives_whole_lines_in_utf8(lines):
    paragraphs, summary = prose("\n".join(lines))
    for paragraph in paragraphs:
        assert paragraph == " ".join(paragraph.split()) != ""
        assert paragraph.encode()
        assert " ".join(sentences(paragraph)) == paragraph
    assert tidy(paragraphs) == paragraphs
    assert not paragraphs or not is_heading(paragraphs[-1])
    assert summary == "" or is_prose(summary.removesuffix("."))
