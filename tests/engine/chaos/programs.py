"""Random Pulumi programs: a few resources as data, edits as a person makes them, and the source that Pulumi runs.

A `Model` knows what each edit means to a user: which objects stay the same ones, and which version a subscriber is on.
It knows nothing of Stripe and of the providers.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, Final

#: Components that resources can be moved into, with their own parents; "" is the stack.
SHELVES: Final = {"shelf-a": "", "shelf-b": "", "shelf-c": "shelf-a"}
EVENTS: Final = "chaos_tokens"

HEADER: Final = """\
import pulumi
from components.plan import PublishedPlan
from components.pricing import Fee, Overage, Plan, Usage, Version
from components.program import program
from components.resources import Coupon, Customer, DefaultPrice, Meter, Price, Product, PromotionCode, Subscription
from components.subscriber import Subscriber

class Shelf(pulumi.ComponentResource):
    def __init__(self, name, parent):
        super().__init__("chaos:index:Shelf", name, None, pulumi.ResourceOptions(parent=parent))

with program():
"""


@dataclass(frozen=True)
class Ref:
    """The id of another resource of the program."""

    key: str


@dataclass(frozen=True)
class Thing:
    """A resource.

    Attributes:
        key: who it is as long as the program declares it, whatever its name and parent are.
        aliases: (name, parent) that it had in the run before and declares as aliases.
        before: its name and parent in the last run, which is what an alias has to say.
        life: changes when a user would expect another object: a new name without an alias.
    """

    key: str
    kind: str
    name: str
    parent: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    aliases: tuple[tuple[str, str], ...] = ()
    before: tuple[str, str] | None = None
    life: int = 0

    @property
    def refs(self) -> set[str]:
        return set(_refs(self.arguments))

    @property
    def all_before(self) -> tuple[tuple[str, str], ...]:
        """The aliases of a thing that gets another name or parent; a run that stopped may have left any of them."""
        known = (*self.aliases, *([self.before] if self.before else []), (self.name, self.parent))
        return tuple(dict.fromkeys(known))

    @property
    def is_new(self) -> bool:
        """Whether the engine does not know it yet: it was added, or has another name without an alias."""
        return self.before is None or (self.before[0] != self.name and not self.aliases)

    def given(self, **more: Any) -> Thing:
        """The same with other arguments."""
        return replace(self, arguments={**self.arguments, **more})


def _refs(value: Any) -> list[str]:
    if isinstance(value, Ref):
        return [value.key]
    if isinstance(value, Mapping):
        return [key for each in value.values() for key in _refs(each)]
    if isinstance(value, list):
        return [key for each in value for key in _refs(each)]
    return []


#: An argument of each kind that changes in place and means nothing.
TEXTS: Final = {
    "Meter": "display_name",
    "Product": "description",
    "Price": "nickname",
    "Customer": "description",
    "Coupon": "name",
    "Subscription": "description",
}
#: The arguments whose change makes another object.
REPLACING: Final[Mapping[str, tuple[str, ...]]] = {
    "Meter": ("default_aggregation",),
    "Product": ("id",),
    "Price": ("unit_amount", "tiers", "product", "recurring"),
    "DefaultPrice": ("product",),
    "Coupon": ("percent_off",),
    "PromotionCode": ("code", "promotion"),
    "Customer": (),
    "Subscription": ("customer",),
    "PublishedPlan": (),
    "Subscriber": (),
}


@dataclass(frozen=True)
class Placed:
    """A subscriber's version: the one that it pays, and the one that it pays from its renewal on."""

    billed: int
    declared: int


@dataclass
class Model:
    """A program."""

    things: dict[str, Thing] = field(default_factory=dict)
    counter: int = 0
    said: list[str] = field(default_factory=list)

    def copy(self, *, keep_aliases: bool = False) -> Model:
        """A copy that can be edited; aliases are left out once they have been applied."""
        things = {
            key: each if keep_aliases else replace(each, aliases=(), before=(each.name, each.parent))
            for key, each in self.things.items()
        }
        return Model(things, self.counter)

    def add(self, kind: str, parent: str = "", /, **arguments: Any) -> str:
        self.counter += 1
        key = f"{kind.lower()}_{self.counter}"
        self.things[key] = Thing(key, kind, key.replace("_", "-"), parent, arguments)
        return key

    def of(self, *kinds: str) -> list[Thing]:
        return [each for each in self.things.values() if each.kind in kinds]

    def in_order(self) -> list[Thing]:
        """Every thing behind those that it refers to."""
        order: dict[str, Thing] = {}

        def put(key: str) -> None:
            if key not in order:
                for other in sorted(self.things[key].refs):
                    put(other)
                order[key] = self.things[key]

        for key in self.things:
            put(key)
        return list(order.values())

    def same_object(self, key: str, *, named: bool = False) -> Any:
        """What must not change if a user expects the same object in Stripe.

        Args:
            named: whether another name makes another object, even with an alias: it does once the alias is taken back.
        """
        thing = self.things[key]
        by_nature = thing.kind == "Meter" or "id" in thing.arguments
        values = {
            name: self._followed(thing.arguments[name], named)
            for name in REPLACING[thing.kind]
            if name in thing.arguments
        }
        name = thing.name if named and not by_nature else ""
        return (thing.key, 0 if by_nature else thing.life, name, repr(sorted(values.items())))

    def _followed(self, value: Any, named: bool) -> Any:
        if isinstance(value, Ref):
            return self.same_object(value.key, named=named)
        if isinstance(value, Mapping):
            return {name: self._followed(each, named) for name, each in sorted(value.items())}
        return value

    def urn(self, key: str) -> Any:
        """What the engine knows a resource by: with an alias, it is what it was before."""
        thing = self.things[key]
        return thing.aliases[0] if thing.aliases else (thing.name, thing.parent)

    def paid(self, key: str) -> Any:
        """What an object has that `create` does not change in one that it finds: it refuses, and names both values."""
        thing = self.things[key]
        match thing.kind:
            case "Subscription":
                items = thing.arguments["items"].items()
                return [(name, item.get("quantity"), self.same_object(item["price"].key)) for name, item in items]
            case "Subscriber":
                return [thing.arguments["seats"], thing.arguments["placed"]]
            case "Customer" | "Product" | "PublishedPlan" | "DefaultPrice":
                return []
        return self.same_object(key)

    def objects(self, *, named: bool = False) -> dict[tuple[str, str], Any]:
        """What the program makes in Stripe: (kind, name) and what tells one object from the next, as `same_object`."""
        found: dict[tuple[str, str], Any] = {}
        for key, thing in self.things.items():
            if thing.kind == "Subscriber":
                of_both = self.same_object(key, named=named)
                found["Customer", thing.name] = found["Subscription", thing.name] = of_both
            elif thing.kind == "PublishedPlan":
                for number in thing.arguments["versions"]:
                    for charge in ("license", "usage"):
                        version = "" if number == 1 else f"v{number}-"
                        found["Price", f"{thing.name}-{version}{charge}"] = None
                found["Product", f"{thing.name}-product"] = None
            elif thing.kind not in ("Meter", "DefaultPrice"):
                found[thing.kind, thing.name] = self.same_object(key, named=named)
        return found

    # -- the source ---------------------------------------------------------------------------------------------

    def source(self, more: str = "") -> str:
        lines = [f"    {_shelf(name)} = Shelf({name!r}, {_shelf(parent)})" for name, parent in SHELVES.items()]
        for thing in self.in_order():
            options = [f"parent={_shelf(thing.parent)}"]
            if thing.aliases:
                aliases = (f"pulumi.Alias(name={name!r}, parent={_shelf(parent)})" for name, parent in thing.aliases)
                options.append(f"aliases=[{', '.join(aliases)}]")
            given = self._given(thing)
            arguments = "".join(f", {one}" for one in given)
            opts = f"opts=pulumi.ResourceOptions({', '.join(options)})"
            lines.append(f"    {thing.key} = {thing.kind}({thing.name!r}{arguments}, {opts})")
        return HEADER + "\n".join(lines) + "\n" + more

    def _given(self, thing: Thing) -> list[str]:
        if thing.kind == "PublishedPlan":
            versions = ", ".join(
                f"{number}: Version(Plan('Plan', fees=Fee('{fee}.00'), "
                f"usage=Usage('token', included=1000, overage=Overage('0.04', per=100))), rollout={rollout!r})"
                for number, (fee, rollout) in thing.arguments["versions"].items()
            )
            return [f"{{{versions}}}", f"event_name={thing.arguments['event_name']!r}"]
        if thing.kind == "Subscriber":
            plan = thing.arguments["plan"].key
            return [plan, *(f"{name}={thing.arguments[name]!r}" for name in ("customer_name", "email", "seats"))]
        return [f"{name}={_written(value)}" for name, value in thing.arguments.items()]


def _shelf(name: str) -> str:
    return name.replace("-", "_") if name else "None"


def _written(value: Any) -> str:
    if isinstance(value, Ref):
        return f"{value.key}.id"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{name!r}: {_written(each)}" for name, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_written, value)) + "]"
    return repr(value)


# -- where a session begins -----------------------------------------------------------------------------------------


def parts(draw: random.Random) -> Model:
    """5 to 12 resources of all kinds."""
    model = Model()

    def shelf() -> str:
        return draw.choice(["", "", *SHELVES])

    chosen = {"id": "chosen_product"} if draw.random() < 0.3 else {}
    product = model.add("Product", shelf(), name="Pro", description="text 0", **chosen)
    price = add_price(model, draw, product)
    customer = model.add("Customer", shelf(), name="Acme", email="billing@example.com", description="text 0")
    items: dict[str, Any] = {"seat": {"price": Ref(price), "quantity": draw.randint(1, 9)}}
    if draw.random() < 0.7:
        meter = model.add(
            "Meter", shelf(), display_name="text 0", event_name=EVENTS, default_aggregation={"formula": "sum"}
        )
        recurring = {"interval": "month", "usage_type": "metered", "meter": Ref(meter)}
        usage = model.add(
            "Price",
            shelf(),
            product=Ref(product),
            currency="usd",
            unit_amount=draw.randint(1, 99),
            recurring=recurring,
            nickname="text 0",
        )
        items["usage"] = {"price": Ref(usage)}
    if draw.random() < 0.8:
        add_subscription(model, draw, customer, items)
    if draw.random() < 0.6:
        model.add("DefaultPrice", shelf(), product=Ref(product), price=Ref(price))
    if draw.random() < 0.5:
        coupon = model.add("Coupon", shelf(), percent_off=draw.randint(1, 50), duration="once", name="text 0")
        if draw.random() < 0.7:
            promotion = {"type": "coupon", "coupon": Ref(coupon)}
            model.add("PromotionCode", shelf(), code="CHAOS1", promotion=promotion)
    while len(model.things) < draw.randint(5, 9):
        add_something(model, draw)
    return model


def plans(draw: random.Random) -> Model:
    """A published plan, its subscribers, and one resource beside them."""
    model = Model()
    plan = model.add(
        "PublishedPlan", draw.choice(["", *SHELVES]), versions={1: (draw.randint(50, 99), None)}, event_name=EVENTS
    )
    for _ in range(draw.choice([1, 1, 2])):
        add_subscriber(model, draw, plan)
    model.add("Product", draw.choice(["", *SHELVES]), name="Other", description="text 0")
    return model


def add_price(model: Model, draw: random.Random, product: str) -> str:
    more: dict[str, Any] = {"lookup_key": f"key-{model.counter}"} if draw.random() < 0.6 else {}
    return model.add(
        "Price",
        draw.choice(["", "", *SHELVES]),
        product=Ref(product),
        currency="usd",
        unit_amount=draw.randint(100, 9_999),
        recurring={"interval": "month"},
        nickname="text 0",
        **more,
    )


def add_subscription(model: Model, draw: random.Random, customer: str, items: Mapping[str, Any]) -> str:
    return model.add(
        "Subscription",
        draw.choice(["", "", *SHELVES]),
        customer=Ref(customer),
        items=items,
        collection_method="send_invoice",
        days_until_due=30,
        description="text 0",
    )


def add_subscriber(model: Model, draw: random.Random, plan: str) -> str:
    newest = max(model.things[plan].arguments["versions"])
    return model.add(
        "Subscriber",
        draw.choice(["", "", *SHELVES]),
        plan=Ref(plan),
        customer_name="Acme",
        email="billing@example.com",
        seats=draw.randint(1, 9),
        placed=Placed(newest, newest),
    )


# -- edits ------------------------------------------------------------------------------------------------------------


def move(model: Model, draw: random.Random, alias: bool = False) -> str:
    thing = draw.choice(list(model.things.values()))
    parent = draw.choice([each for each in ("", *SHELVES) if each != thing.parent])
    aliases = thing.all_before if alias else thing.aliases
    model.things[thing.key] = replace(thing, parent=parent, aliases=aliases)
    return f"move {thing.name} to {parent or 'the stack'}{' with an alias' if alias else ''}"


def move_with_alias(model: Model, draw: random.Random) -> str:
    return move(model, draw, alias=True)


def move_everything(model: Model, draw: random.Random) -> str:
    parent = draw.choice(["", *SHELVES])
    for key, thing in model.things.items():
        model.things[key] = replace(thing, parent=parent)
    return f"move everything to {parent or 'the stack'}"


def rename(model: Model, draw: random.Random, alias: bool = False) -> str:
    choices = [each for each in model.things.values() if each.kind != "PublishedPlan"]
    if not choices:
        return add_something(model, draw)
    thing = draw.choice(choices)
    model.counter += 1
    name = f"{thing.key.partition('_')[0]}-{model.counter}"
    aliases = thing.all_before if alias else ()
    changed = replace(thing, name=name, aliases=aliases, life=thing.life if alias else model.counter)
    if thing.kind == "Subscriber" and not alias:
        newest = max(model.things[thing.arguments["plan"].key].arguments["versions"])
        changed = changed.given(placed=Placed(newest, newest))
    model.things[thing.key] = changed
    return f"rename {thing.name} to {name}{' with an alias' if alias else ''}"


def rename_with_alias(model: Model, draw: random.Random) -> str:
    return rename(model, draw, alias=True)


def text(model: Model, draw: random.Random) -> str:
    choices = [each for each in model.things.values() if each.kind in TEXTS]
    if not choices:
        return add_something(model, draw)
    thing = draw.choice(choices)
    model.things[thing.key] = thing.given(**{TEXTS[thing.kind]: f"text {draw.randint(1, 999)}"})
    return f"another {TEXTS[thing.kind]} for {thing.name}"


def substitute(model: Model, draw: random.Random) -> str:
    """A change that replaces."""
    thing = draw.choice(model.of("Meter", "Price", "Coupon", "PromotionCode") or [next(iter(model.things.values()))])
    match thing.kind:
        case "Meter":
            formula = "count" if thing.arguments["default_aggregation"]["formula"] == "sum" else "sum"
            changed = thing.given(default_aggregation={"formula": formula})
        case "Price":
            changed = thing.given(unit_amount=thing.arguments["unit_amount"] + draw.randint(1, 99))
        case "Coupon":
            changed = thing.given(percent_off=1 + thing.arguments["percent_off"] % 90)
        case "PromotionCode":
            changed = thing.given(code=f"CHAOS{draw.randint(2, 999)}")
        case _:
            return text(model, draw)
    model.things[thing.key] = changed
    return f"replace {thing.name}"


def quantity(model: Model, draw: random.Random) -> str:
    for thing in model.of("Subscription", "Subscriber"):
        if thing.kind == "Subscriber":
            model.things[thing.key] = thing.given(seats=draw.randint(1, 9))
        else:
            items = dict(thing.arguments["items"])
            items["seat"] = {**items["seat"], "quantity": draw.randint(1, 9)}
            model.things[thing.key] = thing.given(items=items)
        return f"other seats for {thing.name}"
    return text(model, draw)


def another_customer(model: Model, draw: random.Random) -> str:
    """A subscription moves to another customer, which replaces it."""
    for thing in model.of("Subscription"):
        others = [each for each in model.of("Customer") if each.key not in thing.refs]
        if others:
            model.things[thing.key] = thing.given(customer=Ref(draw.choice(others).key))
            return f"another customer for {thing.name}"
    return add_something(model, draw)


def another_item(model: Model, draw: random.Random) -> str:
    """A subscription gets one more price, or loses one."""
    for thing in model.of("Subscription"):
        items = dict(thing.arguments["items"])
        if len(items) > 1 and draw.random() < 0.5:
            gone = draw.choice([key for key in items if key != "seat"])
            del items[gone]
        else:
            used = {key for item in items.values() for key in _refs(item)}
            free = [each for each in model.of("Price") if each.key not in used and "lookup_key" in each.arguments]
            if not free:
                return add_something(model, draw)
            model.counter += 1
            items[f"more-{model.counter}"] = {"price": Ref(draw.choice(free).key), "quantity": draw.randint(1, 5)}
        model.things[thing.key] = thing.given(items=items)
        return f"other items for {thing.name}"
    return add_something(model, draw)


def licensed_prices(model: Model) -> list[Thing]:
    return [each for each in model.of("Price") if "meter" not in each.arguments["recurring"]]


def add_something(model: Model, draw: random.Random) -> str:
    plan = model.of("PublishedPlan")
    if plan and draw.random() < 0.6:
        return f"add {add_subscriber(model, draw, plan[0].key)}"
    match draw.randrange(4):
        case 0:
            key = model.add("Customer", draw.choice(["", *SHELVES]), name="Other", email="o@example.com")
        case 1 if model.of("Product"):
            key = add_price(model, draw, draw.choice(model.of("Product")).key)
        case 2 if model.of("Customer") and licensed_prices(model):
            price = draw.choice(licensed_prices(model))
            items = {"seat": {"price": Ref(price.key), "quantity": draw.randint(1, 9)}}
            key = add_subscription(model, draw, draw.choice(model.of("Customer")).key, items)
        case _:
            key = model.add("Product", draw.choice(["", *SHELVES]), name="More", description="text 0")
    return f"add {model.things[key].name}"


def remove(model: Model, draw: random.Random) -> str:
    """Something that nothing else needs."""
    needed = {key for thing in model.things.values() for key in thing.refs}
    free = [each for each in model.things.values() if each.key not in needed and each.kind != "PublishedPlan"]
    if len(model.things) < 5 or not free:
        return add_something(model, draw)
    gone = draw.choice(free)
    del model.things[gone.key]
    return f"remove {gone.name}"


def add_version(model: Model, draw: random.Random) -> str:
    for plan in model.of("PublishedPlan"):
        if any(said.startswith("version ") for said in model.said):
            # The rollout of a version that is never on offer moves nobody.
            break
        versions = dict(plan.arguments["versions"])
        newest = max(versions) + 1
        rollout = draw.choice(["keep", "at_renewal", "now"])
        versions[newest] = (draw.randint(100, 999), rollout)
        model.things[plan.key] = plan.given(versions=versions)
        for thing in model.of("Subscriber"):
            placed = thing.arguments["placed"]
            if thing.is_new:
                placed = Placed(newest, newest)
            elif rollout != "keep":
                placed = Placed(newest if rollout == "now" else placed.billed, newest)
            model.things[thing.key] = thing.given(placed=placed)
        return f"version {newest} of {plan.name}, {rollout}"
    return quantity(model, draw)


def drop_version(model: Model, draw: random.Random) -> str:
    """Take out a version that nobody pays or is about to pay."""
    for plan in model.of("PublishedPlan"):
        versions = dict(plan.arguments["versions"])
        placed = [each.arguments["placed"] for each in model.of("Subscriber")]
        paid = {number for each in placed for number in (each.billed, each.declared)} | {max(versions)}
        free = sorted(versions.keys() - paid)
        if free:
            del versions[free[0]]
            model.things[plan.key] = plan.given(versions=versions)
            return f"take out version {free[0]} of {plan.name}"
    return quantity(model, draw)


Edit = Callable[[Model, random.Random], str]
ALWAYS: Final[tuple[Edit, ...]] = (
    move,
    move,
    move_with_alias,
    move_everything,
    rename,
    rename_with_alias,
    rename_with_alias,
    text,
    quantity,
    add_something,
    remove,
)
OF_PARTS: Final[tuple[Edit, ...]] = (
    *ALWAYS,
    rename,
    substitute,
    substitute,
    substitute,
    another_customer,
    another_item,
)
OF_PLANS: Final[tuple[Edit, ...]] = (*ALWAYS, add_version, add_version, add_version, drop_version, quantity)


def edited(model: Model, draw: random.Random, *, keep_aliases: bool = False) -> Model:
    """The program after one to four edits."""
    changed = model.copy(keep_aliases=keep_aliases)
    edits = OF_PLANS if changed.of("PublishedPlan") else OF_PARTS
    for _ in range(draw.choice([1, 1, 2, 2, 3, 4])):
        changed.said.append(draw.choice(edits)(changed, draw))
    return changed


def is_refused(variants: list[Model]) -> bool:
    """Whether a program asks in one go for a new URN and for other prices or quantities.

    To Pulumi, a resource with another URN is a new one. `create` finds its object and refuses to change what is paid:
    the preview has shown a creation. A person does one after the other. So do we with seats and a move at the renewal,
    with which they would wait.
    """
    for old, new in pairwise(variants):
        for key, thing in new.things.items():
            if thing.kind != "Subscriber" or key not in old.things:
                continue
            before, after = old.things[key].arguments, thing.arguments
            moves = before["placed"] != after["placed"] and after["placed"].billed != after["placed"].declared
            if moves and before["seats"] != after["seats"]:
                return True
    for key in {key for each in variants for key in each.things}:
        urns = {each.urn(key) if key in each.things else None for each in variants}
        if len(urns) > 1 and len({repr(each.paid(key)) for each in variants if key in each.things}) > 1:
            return True
    return False
