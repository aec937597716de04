"""What must hold after a cycle, read from the sandbox's SQLite file and from the state, not through the providers."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from tests.engine.chaos.programs import Model, Ref, Thing

PROJECT = "stripe-pricing/dev"
KINDS = ("Meter", "Product", "Price", "Coupon", "PromotionCode", "Customer", "Subscription")


@dataclass
class Account:
    """What is in use in Stripe.

    Attributes:
        alive: the objects in use, by kind and id.
        history: how many objects of a kind and owner were ever created.
    """

    alive: dict[str, dict[str, Any]] = field(default_factory=lambda: defaultdict(dict))
    history: Counter[tuple[str, str]] = field(default_factory=Counter)
    schedules: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, file: Path) -> Account:
        found = cls()
        connection = sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=60.0)
        try:
            rows = connection.execute("SELECT kind, body FROM objects ORDER BY seq").fetchall()
        finally:
            connection.close()
        for kind, body in rows:
            found._take(kind, json.loads(body))
        return found

    def _take(self, kind: str, body: dict[str, Any]) -> None:
        match kind:
            case "billing.meter" if body["status"] == "active":
                self.alive["Meter"][body["id"]] = body
            case "product" | "price" if body["active"]:
                self.alive[kind.title()][body["id"]] = body
            case "coupon" if not body.get("deleted"):
                self.alive["Coupon"][body["id"]] = body
            case "promotion_code" if body["active"]:
                self.alive["PromotionCode"][body["id"]] = body
            case "customer" if not body.get("deleted"):
                self.alive["Customer"][body["id"]] = body
            case "subscription" if body["status"] not in ("canceled", "incomplete_expired"):
                self.alive["Subscription"][body["id"]] = body
            case "subscription_schedule" if body["status"] in ("active", "not_started"):
                self.schedules[body["subscription"]] = body
            case "event" if body["type"].endswith(".created"):
                made = body["data"]["object"]
                owner = (made.get("metadata") or {}).get("pulumi")
                if owner:
                    self.history[made["object"], owner] += 1

    def owned(self, kind: str, name: str) -> list[dict[str, Any]]:
        owner = f"{PROJECT}/{name}"
        return [each for each in self.alive[kind].values() if each["metadata"].get("pulumi") == owner]


def price_of(item: Mapping[str, Any]) -> str:
    price = item["price"]
    return str(price["id"] if isinstance(price, Mapping) else price)


class Expectation:
    """A program compared with an account.

    Args:
        held: the objects that the state holds, by kind and id: of two with one owner, that one is the resource's.

    Attributes:
        ids: the object of each resource, by kind and name.
        wrong: what is not as the program declares it.
        orphans: what is in use and nobody declares: (kind, id, name).
    """

    def __init__(self, model: Model, account: Account, held: set[tuple[str, str]]) -> None:
        self.model, self.account, self.held = model, account, held
        self.orphans: list[tuple[str, str, str]] = []
        self.ids: dict[tuple[str, str], str] = {}
        self.by_key: dict[str, str] = {}
        self.wrong: list[str] = []
        for thing in model.in_order():
            getattr(self, f"_{thing.kind.lower()}")(thing)
        self._nothing_else()

    # -- kinds --------------------------------------------------------------------------------------------------

    def _one(self, kind: str, name: str, found: list[dict[str, Any]]) -> dict[str, Any]:
        if len(found) > 1:
            found = [each for each in found if (kind, each["id"]) in self.held] or found
        if len(found) != 1:
            self.wrong.append(f"{kind} {name}: {len(found)} in use: {[each['id'] for each in found]}")
            return {}
        [one] = found
        self.ids[kind, name] = one["id"]
        return one

    def _equal(self, what: str, shown: Any, wanted: Any) -> None:
        if shown != wanted:
            self.wrong.append(f"{what}: {shown!r} in Stripe, declared {wanted!r}")

    def _own(self, thing: Thing, *fields: str) -> dict[str, Any]:
        one = self._one(thing.kind, thing.name, self.account.owned(thing.kind, thing.name))
        self.by_key[thing.key] = one.get("id", "")
        self._fields(thing, one, *fields)
        return one

    def _fields(self, thing: Thing, one: Mapping[str, Any], *fields: str) -> None:
        for name in fields:
            if one and name in thing.arguments:
                self._equal(f"{thing.name}.{name}", one.get(name), self._id(thing.arguments[name]))

    def _id(self, value: Any) -> Any:
        return self.by_key[value.key] if isinstance(value, Ref) else value

    def _meter(self, thing: Thing) -> None:
        event = thing.arguments["event_name"]
        found = [each for each in self.account.alive["Meter"].values() if each["event_name"] == event]
        one = self._one("Meter", thing.name, found)
        self.by_key[thing.key] = one.get("id", "")
        self._fields(thing, one, "display_name", "default_aggregation")

    def _product(self, thing: Thing) -> None:
        self._own(thing, "id", "name", "description")

    def _price(self, thing: Thing) -> None:
        one = self._own(thing, "unit_amount", "product", "nickname", "lookup_key")
        if one:
            self._equal(
                f"{thing.name}.meter", one["recurring"]["meter"], self._id(thing.arguments["recurring"].get("meter"))
            )

    def _defaultprice(self, thing: Thing) -> None:
        product, price = self._id(thing.arguments["product"]), self._id(thing.arguments["price"])
        there = self.account.alive["Product"].get(product, {})
        self._equal(f"the default price of {product}", there.get("default_price"), price)

    def _coupon(self, thing: Thing) -> None:
        self._own(thing, "percent_off", "name")

    def _promotioncode(self, thing: Thing) -> None:
        one = self._own(thing, "code")
        if one:
            wanted = self._id(thing.arguments["promotion"]["coupon"])
            self._equal(f"{thing.name}.coupon", one["promotion"]["coupon"], wanted)

    def _customer(self, thing: Thing) -> None:
        self._own(thing, "name", "email", "description")

    def _subscription(self, thing: Thing) -> None:
        one = self._own(thing, "customer", "description")
        wanted = {
            key: (self._id(item["price"]), item.get("quantity")) for key, item in thing.arguments["items"].items()
        }
        self._items(thing.name, one, wanted)

    def _items(self, name: str, one: Mapping[str, Any], wanted: Mapping[str, tuple[str, int | None]]) -> None:
        if not one:
            return
        items = one["items"]["data"]
        shown = {item["metadata"].get("pulumi"): (price_of(item), item.get("quantity")) for item in items}
        if len(shown) != len(items):
            self.wrong.append(f"{name}: {len(items)} items, keys {sorted(map(str, shown))}")
        self._equal(f"{name}.items", shown, dict(wanted))

    def _publishedplan(self, thing: Thing) -> None:
        name, versions = thing.name, thing.arguments["versions"]
        offered = max(versions)
        product = self._one("Product", f"{name}-product", self.account.owned("Product", f"{name}-product"))
        event = thing.arguments["event_name"]
        meters = [each for each in self.account.alive["Meter"].values() if each["event_name"] == event]
        meter = self._one("Meter", f"{name}-meter", meters)
        for number, (fee, _) in versions.items():
            for key in ("license", "usage"):
                called = f"{name}-{key}" if number == 1 else f"{name}-v{number}-{key}"
                price = self._one("Price", called, self.account.owned("Price", called))
                self.by_key[f"{thing.key} {number} {key}"] = price.get("id", "")
                if not price:
                    continue
                wanted = f"{name}:{key}" if number == offered else None
                self._equal(f"{called}.lookup_key", price["lookup_key"], wanted)
                self._equal(f"{called}.product", price["product"], product.get("id"))
                if key == "license":
                    self._equal(f"{called}.unit_amount", price["unit_amount"], fee * 100)
                else:
                    self._equal(f"{called}.meter", price["recurring"]["meter"], meter.get("id"))
        if product:
            wanted = self.by_key[f"{thing.key} {offered} license"]
            self._equal(f"the default price of {name}", product.get("default_price"), wanted)

    def _subscriber(self, thing: Thing) -> None:
        plan, placed, seats = thing.arguments["plan"].key, thing.arguments["placed"], thing.arguments["seats"]
        customer = self._one("Customer", thing.name, self.account.owned("Customer", thing.name))
        one = self._one("Subscription", thing.name, self.account.owned("Subscription", thing.name))
        if not customer or not one:
            return
        self._equal(f"{thing.name}.customer", one["customer"], customer["id"])

        def items(number: int) -> dict[str, tuple[str, int | None]]:
            of = f"{plan} {number}"
            return {"license": (self.by_key[f"{of} license"], seats), "usage": (self.by_key[f"{of} usage"], None)}

        self._items(thing.name, one, items(placed.billed))
        schedule = self.account.schedules.get(one["id"])
        self._equal(f"{thing.name} waits", schedule is not None, placed.billed != placed.declared)
        if schedule is not None:
            then = {price_of(item) for item in schedule["phases"][-1]["items"]}
            self._equal(f"{thing.name} then", then, {price for price, _ in items(placed.declared).values()})

    def _nothing_else(self) -> None:
        """No orphan and no duplicate."""
        declared = {(kind, id_) for (kind, _), id_ in self.ids.items()}
        for kind in KINDS:
            for id_, each in self.account.alive[kind].items():
                if (kind, id_) not in declared:
                    owner = (each.get("metadata") or {}).get("pulumi") or each.get("event_name") or "nobody's"
                    self.orphans.append((kind, id_, owner.rpartition("/")[2]))


def lost(before: Expectation, after: Expectation, variants: list[Model]) -> Iterator[str]:
    """What the programs have declared all the time, and is another object now.

    Args:
        variants: the program before the cycle, and those that were run in it.
    """
    first, last = variants[0], variants[-1]
    detour = len(variants) > 2
    for key, thing in first.things.items():
        if not all(key in each.things for each in variants):
            continue
        if len({repr(each.same_object(key, named=detour)) for each in variants}) > 1:
            continue
        for kind in {"Subscriber": ("Customer", "Subscription")}.get(thing.kind, (thing.kind,)):
            yield from _other(before, after, (kind, thing.name), (kind, last.things[key].name))
    for kind, name in first.objects():
        if all((kind, name) in each.objects() for each in variants) and first.objects()[kind, name] is None:
            yield from _other(before, after, (kind, name), (kind, name))


def _other(before: Expectation, after: Expectation, then: tuple[str, str], now: tuple[str, str]) -> Iterator[str]:
    old, new = before.ids.get(then), after.ids.get(now)
    if old is not None and old != new:
        yield f"{' '.join(now)} was {old} and is {new} now, although it was declared all the time"


def made_twice(before: Account, after: Account, variants: list[Model]) -> Iterator[str]:
    """What was created more often than the programs ask for, even if it is gone again."""
    allowed: Counter[tuple[str, str]] = Counter()
    for old, new in pairwise(each.objects(named=len(variants) > 2) for each in variants):
        for name, object_ in new.items():
            if name not in old or old[name] != object_:
                allowed[name] += 1
    for (object_type, owner), count in after.history.items():
        name = (object_type.title().replace("_C", "C"), owner.rpartition("/")[2])
        made = count - before.history[object_type, owner]
        if made > allowed[name]:
            yield f"{' '.join(name)} was created {made} times, {allowed[name]} expected"


def held_by(deployment: Mapping[str, Any]) -> set[tuple[str, str]]:
    """What a state holds, by kind and id."""
    return {
        (each["type"].rpartition(":")[2], each["id"])
        for each in deployment.get("resources") or ()
        if each["type"].startswith("pulumi-python:dynamic/stripe:")
    }


def is_left(orphan: tuple[str, str, str], variants: list[Model]) -> bool:
    """Whether an object belongs to a program that was taken back before its run had ended."""
    kind, _, name = orphan
    if len(variants) < 3:
        return False
    broken, last = variants[1].objects(), variants[2].objects()
    return (kind, name) in broken and ((kind, name) not in last or broken[kind, name] != last[kind, name])


def state_problems(deployment: Mapping[str, Any], expectation: Expectation) -> Iterator[str]:
    """Where the state does not hold exactly what is in use."""
    for operation in deployment.get("pending_operations") or ():
        yield f"pending in the state: {operation['type']} {operation['resource']['urn']}"
    held: set[tuple[str, str]] = set()
    for each in deployment.get("resources") or ():
        kind = each["type"].rpartition(":")[2]
        if each["type"].startswith("pulumi-python:dynamic/stripe:") and kind != "DefaultPrice":
            if each.get("delete"):
                yield f"still to be deleted in the state: {each['urn']}"
            if (kind, each["id"]) in held:
                yield f"twice in the state: {each['urn']} {each['id']}"
            held.add((kind, each["id"]))
    wanted = {(kind, id_) for (kind, _), id_ in expectation.ids.items()}
    if held != wanted:
        yield f"only in the state: {sorted(held - wanted)}; only in Stripe: {sorted(wanted - held)}"
