"""How a request leaves for Stripe: to the address that was asked for and to nobody else.

`requests` alone would let the environment decide: a netrc entry takes the place of the key, a proxy is asked for an
address on this machine, and a redirect is followed with the body of the request to wherever it points.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import requests
from requests.utils import get_environ_proxies

from components.settings import is_loopback

if TYPE_CHECKING:
    import stripe


class OneAddress(requests.Session):
    """A session that follows no redirect, reads no netrc, and asks no proxy for a loopback address."""

    def __init__(self) -> None:
        super().__init__()
        self.trust_env = False

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
