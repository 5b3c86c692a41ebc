"""A hub that serves the files that a test adds to it, with a separate cache and login."""

import pytest
from huggingface_hub import constants

from tests.loopback_hub import LoopbackHub


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """huggingface_hub computes these constants from HF_ENDPOINT and HF_HOME when it is imported."""
    with LoopbackHub() as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
        yield hub


@pytest.fixture
def offline(monkeypatch):
    """Switches offline mode on; a test calls it."""
    return lambda: monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
