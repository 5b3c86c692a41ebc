"""What went wrong at the hub, in one line that says what to do."""

import json

import httpx2
from huggingface_hub import constants
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
)

from gpt2.sources.transfer import TRIES, DamagedError

ERRORS = (  # what `explanation` explains; huggingface_hub lets httpx2's errors through
    ConnectionError,
    DamagedError,
    HFValidationError,
    httpx2.HTTPError,
    httpx2.InvalidURL,
    json.JSONDecodeError,
    LocalEntryNotFoundError,
)


def explanation(error: Exception, kind: str, name: str) -> str:
    """A line without the key that names the repository."""
    endpoint = constants.ENDPOINT
    page = f"{endpoint}/datasets/{name}" if kind == "dataset" else f"{endpoint}/{name}"
    match error:
        case GatedRepoError():
            return f"access is gated; accept the terms at {page}, then set HF_TOKEN to a token of that account"
        case RepositoryNotFoundError():
            return f"no such {kind} at {endpoint}, or a private one that needs HF_TOKEN"
        case HFValidationError():
            return "not the name of a repository; expected owner/name"
        case DamagedError():
            return str(error)
        case HfHubHTTPError() if error.response.status_code == 401:
            return f"{endpoint} refuses the token; set HF_TOKEN to a valid one"
        case HfHubHTTPError() if error.response.status_code == 429 or error.response.status_code >= 500:
            return f"{endpoint} answered HTTP {error.response.status_code} to {TRIES} tries; try again later"
        case HfHubHTTPError():
            return f"{endpoint} answered HTTP {error.response.status_code}"
        case json.JSONDecodeError() | httpx2.InvalidURL() | httpx2.UnsupportedProtocol():
            return f"{endpoint} does not answer as a hub does; check HF_ENDPOINT"
    return f"{endpoint} cannot be reached ({type(error).__name__}); check the network, the proxy and HF_ENDPOINT"
