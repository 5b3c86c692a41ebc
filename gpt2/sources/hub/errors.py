"""What went wrong at the hub, in one line that says what to do."""

import errno
import json
from collections.abc import Iterator
from contextlib import contextmanager

import httpx2
from huggingface_hub import constants
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
)

from gpt2.sources.hub.transfer import TRIES, DamagedError

UNUSABLE = {  # what the system says of a cache that cannot be written, or of a file in a folder's place
    *(errno.EACCES, errno.EPERM, errno.EROFS),
    *(errno.EEXIST, errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG),
}


class StrangeAnswerError(Exception):
    """What answers does not answer as a hub does."""


ERRORS = (  # what `explanation` explains; huggingface_hub lets httpx2's errors through
    ConnectionError,
    DamagedError,
    HFValidationError,
    httpx2.HTTPError,
    httpx2.InvalidURL,
    json.JSONDecodeError,
    LocalEntryNotFoundError,
    StrangeAnswerError,
    UnicodeEncodeError,
)


@contextmanager
def understanding() -> Iterator[None]:
    """Raises StrangeAnswerError where huggingface_hub stumbles over an answer of the wrong shape."""
    try:
        yield
    except ERRORS:
        raise
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        if "proxy" in str(error).lower():  # httpx2 knows no better type for one that it cannot parse
            raise httpx2.ProxyError(str(error)) from None
        raise StrangeAnswerError from error


def explanation(error: Exception, kind: str, name: str, path: str | None = None) -> str:
    """A line without the key that names the repository. path: of the file that was asked for, if it was one."""
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
        case HfHubHTTPError() if path and error.response.status_code in (403, 404):
            status = error.response.status_code
            return f"{endpoint} answered HTTP {status} to {path}; see whether {page} lets this account download it"
        case HfHubHTTPError():
            return f"{endpoint} answered HTTP {error.response.status_code}"
        case UnicodeEncodeError(encoding="ascii"):  # of a header
            return "HF_TOKEN holds characters outside ASCII; set it to a token of the hub"
        case httpx2.InvalidURL() | httpx2.UnsupportedProtocol():
            return f"{endpoint} or the proxy's address is no URL; check HF_ENDPOINT, HTTP_PROXY and HTTPS_PROXY"
        case json.JSONDecodeError() | StrangeAnswerError() | UnicodeEncodeError():
            return f"{endpoint} does not answer as a hub does; check HF_ENDPOINT"
        case OSError() if error.errno in UNUSABLE:
            cache = constants.HF_HUB_CACHE
            return f"the cache {cache} cannot be used ({error.strerror}); set HF_HOME to a folder of your own"
    return f"{endpoint} cannot be reached ({type(error).__name__}); check the network, the proxy and HF_ENDPOINT"
