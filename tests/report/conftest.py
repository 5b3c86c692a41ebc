"""The page of small results, rendered once per module."""

import pytest

from gpt2.report.page import render
from tests.report.inputs import HOSTILE, LINEAGE, Page, inputs


@pytest.fixture(scope="module")
def html() -> str:
    return render(inputs(), LINEAGE, {"Python": "3.11", "processor": HOSTILE})


@pytest.fixture(scope="module")
def page(html) -> Page:
    return Page(html)
