"""Sends requests to the configured address and nowhere else.

On its own, `requests` would replace the key by a netrc entry, ask a proxy for an address on this machine, and follow a
redirect anywhere with the body of the request.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from requests.utils import get_environ_proxies

from components.pulumi_speed import PROVIDER_THREADS
from components.settings import is_loopback

if TYPE_CHECKING:
    import stripe


class OneAddress(requests.Session):
    """A session without redirects, without netrc, and without a proxy for loopback addresses."""

    def __init__(self) -> None:
        super().__init__()
        self.trust_env = False
        # By default ten connections are kept: the calls of more threads would each open one, and close it.
        for scheme in ("https://", "http://"):
            self.mount(scheme, HTTPAdapter(pool_maxsize=PROVIDER_THREADS))

    def request(self, method: str, url: str | bytes, *args: Any, **options: Any) -> requests.Response:
        options["allow_redirects"] = False
        address = url if isinstance(url, str) else url.decode()
        if not is_loopback(urlsplit(address).hostname or ""):
            # HTTPS_PROXY and NO_PROXY: the proxy sees an encrypted tunnel.
            options["proxies"] = get_environ_proxies(address)
        return super().request(method, url, *args, **options)


def http_client(timeout: float) -> stripe.HTTPClient:
    """stripe-python's own client over such a session; `timeout` in seconds."""
    from stripe._http_client import RequestsClient

    return RequestsClient(timeout=timeout, session=OneAddress())
