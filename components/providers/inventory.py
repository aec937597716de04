"""A cache of the objects of one kind. It reads Stripe's list instead of single objects where that is cheaper.

Each kind has one inventory a process, for `read` (refresh) and for `create` (find before create). It lives for one CLI
run, in which nobody else works on the same stack, and this process's own writes update it.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from components.account import Account, AccountError, StripeRefusal

OWNER_KEY: Final = "pulumi"
#: Stripe's search index lags by seconds, in an outage by up to an hour; newer objects come from the list.
SEARCH_LAG_SECONDS: Final = 3600
#: So much of a list is read before it is certain that it pays.
MOST_PAGES: Final = 10
#: Stripe replays the answer to an idempotency key for a day at least.
STORED_SECONDS: Final = 2 * 86_400

StripeObject = dict[str, Any]


def owner_of(remote: Mapping[str, Any]) -> str | None:
    """The owner in an object's metadata: `<project>/<stack>/<resource name>`."""
    owner = (remote.get("metadata") or {}).get(OWNER_KEY)
    return owner if isinstance(owner, str) and owner else None


def stack_of(owner: object) -> str:
    """The `<project>/<stack>` of an owner."""
    return owner.rpartition("/")[0] if isinstance(owner, str) else ""


def is_in_use(remote: Mapping[str, Any]) -> bool:
    """Whether an object is neither archived nor ended, so that a state is likely to hold it."""
    return remote.get("active") is not False and remote.get("status") not in ("canceled", "incomplete_expired")


def is_gone(remote: Mapping[str, Any]) -> bool:
    """Whether what Stripe returned is the stub of a deleted object."""
    return bool(remote.get("deleted"))


class Inventory:
    """The objects of one kind.

    Args:
        path: where the kind is listed, `/v1/prices`.
        expand: what Stripe's answers include beyond the default.
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
        #: Ids by owner, as of when they were read or written: a create looks for one owner's objects.
        self._ids: dict[str, set[str]] = {}
        self._deleted_were_read = False
        self._reads = 0
        self._wholes = 0
        self._pages_read = 0
        self._pages: Iterator[tuple[list[StripeObject], bool]] | None = None
        self._complete = False
        self._searched = False

    # -- reading ------------------------------------------------------------------------------------------------

    def read(self, id_: str, owner: object = None) -> StripeObject | None:
        """The object, or None if Stripe has none with that id or has deleted it.

        The first object is fetched on its own. From the second on, pages of the list are read as long as that costs
        no more calls: one page a read, and more while they hold objects of `owner`'s stack, each of which saves a later
        call. So 1,000 objects cost about ten calls, and in an account full of other objects a read costs two at most.
        """
        with self._lock:
            self._reads += 1
            if id_ not in self._objects and self._reads > 1:
                self._page_until(id_, stack_of(owner))
            found = self._objects.get(id_)
        if found is None:
            # Outside the lock, so that other threads' reads do not wait for this answer.
            found = self.fetch(id_)
        return None if found is None or is_gone(found) else found

    def fetch(self, id_: str) -> StripeObject | None:
        """The object as it is now, whatever the cache has; None if there is none."""
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
        except AccountError:
            # A generator that has raised is finished; start a new one.
            self._pages = None
            raise
        self._pages_read += 1
        self._complete = not more
        for each in objects:
            self._add(each)
        return objects

    # -- finding ------------------------------------------------------------------------------------------------

    def all(self) -> list[StripeObject]:
        """Every object of the kind; for kinds that have few objects in an account (meters)."""
        with self._lock:
            while not self._complete:
                self._next_page()
            return [each for each in self._objects.values() if not is_gone(each)]

    def owned(self, owner: str | None = None) -> list[StripeObject]:
        """Every object that a stack owns, this one or another, or those of one `owner`.

        If the account fits on one page this is one call. Otherwise it is the list of the last hour, which the search
        index may lack, and a search for the rest, once a process.
        """
        with self._lock:
            oldest = self._now() - SEARCH_LAG_SECONDS
            while not self._complete and not self._searched:
                page = self._next_page()
                if self._searchable and page and page[-1].get("created", 0) < oldest:
                    self._search()
            found = self._objects.values() if owner is None else self.known_of(owner)
            return [each for each in found if owner_of(each) and not is_gone(each)]

    def whole(self) -> list[StripeObject] | None:
        """The whole list, for who would else ask Stripe about some of its objects; None while that is cheaper.

        The first time, nothing is read. Each further time costs a page, until the list is complete or has turned out
        to be long.
        """
        with self._lock:
            self._wholes += 1
            if 1 < self._wholes <= MOST_PAGES + 1 and not self._complete:
                self._next_page()
            return [each for each in self._objects.values() if not is_gone(each)] if self._complete else None

    def _search(self) -> None:
        query = {"query": f'-metadata["{OWNER_KEY}"]:null', **self._expanded("data.")}
        pages = self._account.pages(f"{self._path}/search", query, subject=f"search for {self._noun}s")
        try:
            for objects, _ in pages:
                for each in objects:
                    self._add(each)
        except StripeRefusal as error:
            # Some accounts have no search, and some keys may not use it. Then the whole list is read.
            if error.status not in (400, 403, 404):
                raise
            self._searchable = False
            return
        self._searched = True

    def read_deleted(self) -> None:
        """Read, once a process, how objects were that have been deleted in the last days; `known_of` returns them."""
        with self._lock:
            if self._deleted_were_read:
                return
            self._deleted_were_read = True
            query = {"type": f"{self._noun}.deleted", "created": {"gte": int(self._now()) - STORED_SECONDS}}
            pages = self._account.pages("/v1/events", query, subject=f"deleted {self._noun}s")
            # A restricted key need not be allowed to read events. Then each deleted object costs two calls more.
            with contextlib.suppress(StripeRefusal):
                for events, _ in itertools.islice(pages, MOST_PAGES):
                    for was in (event["data"]["object"] for event in events):
                        # An id that the program chooses can be in use again.
                        if is_gone(self._objects.get(was["id"], {"deleted": True})):
                            self.remember({**was, "deleted": True})

    def known_of(self, owner: str) -> list[StripeObject]:
        """An owner's objects as far as they were read, deleted ones too; sends no request."""
        with self._lock:
            known = [self._objects[id_] for id_ in self._ids.get(owner, ())]
        return [each for each in known if owner_of(each) == owner]

    # -- remembering --------------------------------------------------------------------------------------------

    def remember(self, remote: StripeObject) -> None:
        """Keep what Stripe has just returned."""
        with self._lock:
            self._objects[remote["id"]] = remote
            self._ids.setdefault(owner_of(remote) or "", set()).add(remote["id"])

    def _add(self, listed: StripeObject) -> None:
        """Keep an object of a list; what this process has changed since is newer."""
        if listed["id"] not in self._objects:
            self.remember(listed)

    def cached(self) -> list[StripeObject]:
        """What the cache has; sends no request."""
        with self._lock:
            return list(self._objects.values())

    def known(self, id_: str) -> StripeObject | None:
        """The object from the cache; sends no request."""
        with self._lock:
            return self._objects.get(id_)

    def forget(self, id_: str) -> None:
        """Record that the object is deleted."""
        with self._lock:
            self._objects[id_] = {"id": id_, "deleted": True}

    def refresh(self) -> None:
        """Drop the cache, after a request whose outcome is unknown."""
        with self._lock:
            self._objects.clear()
            self._ids.clear()
            self._deleted_were_read = False
            self._pages = None
            self._complete = self._searched = False

    def _expanded(self, prefix: str = "") -> dict[str, Any]:
        return {"expand": [prefix + path for path in self._expand]} if self._expand else {}
