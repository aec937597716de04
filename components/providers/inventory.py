"""What Stripe holds of one kind, listed instead of fetched one by one where that is cheaper.

One inventory a kind and process serves both `read` (refresh) and `create` (find before make). It lives as long as
a CLI run, in which nobody else works on the same stack; what this process makes or changes is written into it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from components.account import Account, StripeRefusal

OWNER_KEY: Final = "pulumi"
#: Stripe's search index lags by seconds, in an outage by up to an hour; younger objects are taken from the list.
SEARCH_LAG_SECONDS: Final = 3600

StripeObject = dict[str, Any]


def owner_of(remote: Mapping[str, Any]) -> str | None:
    """Who made an object, as its metadata says: `<project>/<stack>/<resource name>`."""
    owner = (remote.get("metadata") or {}).get(OWNER_KEY)
    return owner if isinstance(owner, str) and owner else None


def stack_of(owner: object) -> str:
    """The `<project>/<stack>` of an owner."""
    return owner.rpartition("/")[0] if isinstance(owner, str) else ""


def is_in_use(remote: Mapping[str, Any]) -> bool:
    """Whether the object is neither archived nor ended, so that a state may well hold it."""
    return remote.get("active") is not False and remote.get("status") not in ("canceled", "incomplete_expired")


def is_gone(remote: Mapping[str, Any]) -> bool:
    """Whether what Stripe returned is the stub of a deleted object."""
    return bool(remote.get("deleted"))


class Inventory:
    """The objects of one kind.

    Args:
        path: where the kind is listed, `/v1/prices`.
        expand: what single objects are asked to include.
        searchable: whether Stripe can search the kind by metadata.
    """

    def __init__(
        self,
        account: Account,
        noun: str,
        path: str,
        *,
        expand: tuple[str, ...] = (),
        searchable: bool = False,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._account = account
        self._noun = noun
        self._path = path
        self._expand = expand
        self._searchable = searchable
        self._now = now
        self._lock = threading.RLock()
        self._objects: dict[str, StripeObject] = {}
        self._reads = 0
        self._pages_read = 0
        self._pages: Iterator[tuple[list[StripeObject], bool]] | None = None
        self._complete = False
        self._searched = False

    # -- reading ------------------------------------------------------------------------------------------------

    def read(self, id_: str, owner: object = None) -> StripeObject | None:
        """The object, or None where Stripe has none of that id (or only a deleted one's stub).

        The first object is fetched. From the second on, pages of the list are read as long as that is no dearer:
        one page a read, and more while they hold objects that the stack of `owner` uses, each of which saves a call
        later. So 1,000 objects cost about ten calls, and an account full of foreign objects never more than two a
        read.
        """
        with self._lock:
            self._reads += 1
            if id_ not in self._objects and self._reads > 1:
                self._page_until(id_, stack_of(owner))
            found = self._objects.get(id_)
        if found is None:
            # Not under the lock: the other threads' reads need not wait for this answer.
            found = self.fetch(id_)
        return None if found is None or is_gone(found) else found

    def fetch(self, id_: str) -> StripeObject | None:
        """The object as it is now, whatever has been listed; None for none."""
        try:
            found = self._account.request(
                "get", f"{self._path}/{id_}", self._expanded(), subject=f"{self._noun} {id_}"
            ).data
        except StripeRefusal as error:
            if error.status == 404:
                self.forget(id_)
                return None
            raise
        self.remember(found)
        return found

    def _page_until(self, id_: str, stack: str) -> None:
        while id_ not in self._objects and not self._complete:
            page = self._next_page()
            if self._pages_read < self._reads:
                continue
            if not any(stack and stack_of(owner_of(each)) == stack and is_in_use(each) for each in page):
                return

    def _next_page(self) -> list[StripeObject]:
        if self._pages is None:
            self._pages = self._account.pages(self._path, self._expanded("data."), subject=f"list of {self._noun}s")
        try:
            objects, more = next(self._pages)
        except StripeRefusal:
            # A generator that has raised is at its end; the next one begins anew.
            self._pages = None
            raise
        self._pages_read += 1
        self._complete = not more
        for each in objects:
            # What this process has changed since is newer than the list.
            self._objects.setdefault(each["id"], each)
        return objects

    # -- finding ------------------------------------------------------------------------------------------------

    def all(self) -> list[StripeObject]:
        """Every object of the kind; for kinds of which an account has few (meters)."""
        with self._lock:
            while not self._complete:
                self._next_page()
            return [each for each in self._objects.values() if not is_gone(each)]

    def owned(self) -> list[StripeObject]:
        """Every object that a stack has made, this one or another.

        In an account that fits on a page this is one call. Otherwise it is the list as far back as an hour
        (the search index may lag that much) and a search for the rest, once a process.
        """
        with self._lock:
            oldest = self._now() - SEARCH_LAG_SECONDS
            while not self._complete and not self._searched:
                page = self._next_page()
                if self._searchable and page and page[-1].get("created", 0) < oldest:
                    self._search()
            return [each for each in self._objects.values() if owner_of(each) and not is_gone(each)]

    def _search(self) -> None:
        query = {"query": f'-metadata["{OWNER_KEY}"]:null', **self._expanded("data.")}
        pages = self._account.pages(f"{self._path}/search", query, subject=f"search for {self._noun}s")
        try:
            for objects, _ in pages:
                for each in objects:
                    self._objects.setdefault(each["id"], each)
        except StripeRefusal as error:
            # Some accounts have no search, some keys may not use it; then the list is read to its end.
            if error.status not in (400, 403, 404):
                raise
            self._searchable = False
            return
        self._searched = True

    # -- remembering --------------------------------------------------------------------------------------------

    def remember(self, remote: StripeObject) -> None:
        """Keep what Stripe has just returned."""
        with self._lock:
            self._objects[remote["id"]] = remote

    def known(self, id_: str) -> StripeObject | None:
        """The object if this process has seen it; nothing is asked."""
        with self._lock:
            return self._objects.get(id_)

    def forget(self, id_: str) -> None:
        """The object is not there any more."""
        with self._lock:
            self._objects[id_] = {"id": id_, "deleted": True}

    def refresh(self) -> None:
        """Forget what was listed: something happened that this process does not know the outcome of."""
        with self._lock:
            self._objects.clear()
            self._pages = None
            self._complete = self._searched = False

    def _expanded(self, prefix: str = "") -> dict[str, Any]:
        return {"expand": [prefix + path for path in self._expand]} if self._expand else {}
