"""Compares what Stripe has with what a program declares, whatever Pulumi's state says. It only reads.

The comparison is the providers' own: what a refresh would show and an `up` would change, and what Stripe cannot change.
Beyond that, it finds what a state cannot know: objects of the stack that the program does not declare, lookup keys and
currencies that were added in Stripe, and what subscription schedules will do.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from components.account import Account, AccountError, StripeRefusal
from components.plan import PublishedPlan
from components.providers import differ
from components.providers.coupon import COUPON
from components.providers.customer import CUSTOMER
from components.providers.default_price import DEFAULT_PRICE
from components.providers.inventory import StripeObject, is_in_use, owner_of, stack_of
from components.providers.kind import ADOPT, Kind
from components.providers.kinds import KINDS, provider_of
from components.providers.meter import METER
from components.providers.price import PRICE
from components.providers.product import PRODUCT
from components.providers.promotion_code import PROMOTION_CODE
from components.providers.reconciler import Reconciler
from components.providers.run import run_of
from components.providers.subscription import SUBSCRIPTION
from components.providers.values import MISSING, Inputs, declared, id_of, mapping, path_text
from components.publication import price_name
from pricing import lists
from pricing.program import Declared, ProgramError, resources
from pricing.verify import pending
from pricing.verify.census import Census, Payers
from pricing.verify.pending import Pending

Progress = Callable[[str], None]
What = Literal["missing", "differs", "left", "schedule"]
SECRET: Final = "[secret]"
#: What omitting an argument means, by kind, where a bill depends on it.
_USUAL: Final[Mapping[str, Inputs]] = {
    "Customer": {"tax_exempt": "none"},
    "Price": {"tax_behavior": "unspecified"},
    "Subscription": {
        "automatic_tax": {"enabled": False},
        "collection_method": "charge_automatically",
        "default_tax_rates": [],
        "discounts": [],
    },
}
_USUAL_ITEM: Final[Inputs] = {"discounts": [], "quantity": 1}
_USUALLY_NONE: Final[Mapping[str, tuple[str, ...]]] = {
    "Price": ("lookup_key",),
    "Subscription": ("application_fee_percent", "billing_thresholds", "pending_invoice_item_interval", "transfer_data"),
}
_BY_NAME: Final = {kind.name: kind for kind in KINDS}


@dataclass(frozen=True)
class Difference:
    """One thing in Stripe that is not as the program declares.

    Attributes:
        what: `missing` in Stripe, `differs`, `left` in Stripe though the program does not have it, or `schedule`:
            somebody else's schedule will change it.
        kind, name, id: `Price`, the resource's name, Stripe's id ("" if there is none).
        path: the argument: `items.license.price`; "" for the whole object.
        stripe, program: the two values; None for none.
    """

    what: What
    kind: str
    name: str
    id: str
    path: str = ""
    stripe: Any = None
    program: Any = None

    @property
    def subject(self) -> str:
        return f"{self.kind} '{self.name}'{f' ({self.id})' if self.id else ''}"


@dataclass(frozen=True)
class Unread:
    """Something that the key may not read.

    Attributes:
        what: what could not be compared.
        why: Stripe's refusal.
        matters: whether the program declares any of it.
    """

    what: str
    why: str
    matters: bool


@dataclass
class Verification:
    """What was found.

    Attributes:
        compared: how many declared resources were compared.
        notes: what is in Stripe and needs no decision.
        payers: who pays which price.
        model: by price id, the declared price: `alpaca-ai@1 license`, or the resource's name.
        pending: what schedules will change.
    """

    stack: str
    compared: int = 0
    differences: list[Difference] = field(default_factory=list)
    unread: list[Unread] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    payers: list[Payers] = field(default_factory=list)
    model: dict[str, str] = field(default_factory=dict)
    pending: list[Pending] = field(default_factory=list)

    @property
    def outside(self) -> list[Payers]:
        """Who pays a price that the program does not declare."""
        return [each for each in self.payers if each.price["id"] not in self.model]

    @property
    def is_complete(self) -> bool:
        """Whether everything that the program declares could be read."""
        return not any(each.matters for each in self.unread)


def verify(
    account: Account, directory: Path, project: str, stack: str, progress: Progress = lambda text: None
) -> Verification:
    """Compare the program in a folder with an account.

    Raises:
        ProgramError: the program refuses to run, or declares what no provider takes.
        AccountError: Stripe cannot be reached, or refuses the key.
    """
    return _Work(account, directory, f"{project}/{stack}", stack, progress).done()


@dataclass
class _Counterpart:
    """A declared resource and its object in Stripe.

    Attributes:
        arguments: what the program declares, in canonical form.
        remote: None if Stripe has none, or the key may not read the kind.
    """

    declared: Declared
    kind: Kind
    arguments: Inputs
    remote: StripeObject | None


class _Work:
    """One verification."""

    def __init__(self, account: Account, directory: Path, owner: str, stack: str, progress: Progress) -> None:
        self._account, self._directory, self._stack = account, directory, stack
        self._owner, self._progress = owner, progress
        self._found = Verification(owner)
        self._run = run_of(account)
        self._reconcilers: dict[str, Reconciler] = {}
        for kind in KINDS:
            provider = provider_of(kind)()
            provider.use(account)
            self._reconcilers[kind.name] = provider.reconciler
        self._objects: dict[str, dict[str, StripeObject]] = {kind.name: {} for kind in KINDS}
        self._by_owner: dict[tuple[str, str], list[StripeObject]] = {}
        self._refused: dict[str, StripeRefusal] = {}
        self._schedules: list[tuple[StripeObject, StripeObject | None]] = []
        self._problems: list[Exception] = []
        self._lock = threading.RLock()

    def done(self) -> Verification:
        _, first = resources(self._directory, self._stack, lambda _: ("", {}))
        self._read()
        plans, counterparts = self._load({})
        if last_run := self._last_run(plans, counterparts):
            plans, counterparts = self._load(last_run)
        self._found.model = _model(plans, counterparts)
        for each in counterparts:
            self._compare(each)
        self._found.differences += self._left(counterparts)
        self._default_prices(counterparts)
        self._pending(counterparts)
        subjects: dict[str, int] = {}
        for difference in self._found.differences:
            subjects.setdefault(difference.subject, len(subjects))
        self._found.differences.sort(key=lambda each: subjects[each.subject])
        kinds = {each.kind for each in first}
        for name, refusal in self._refused.items():
            self._found.unread.append(Unread(name, str(refusal), name in kinds))
        return self._found

    # -- reading ------------------------------------------------------------------------------------------------

    def _read(self) -> None:
        account = self._account
        self._keep(METER, lambda: lists.meters(account))
        self._keep(PRODUCT, lambda: lists.products(account))
        self._keep(PRICE, lambda: lists.prices(account, costs=True))
        self._keep(COUPON, lambda: lists.coupons(account))
        codes = ("/v1/promotion_codes", "the account's promotion codes")
        self._keep(PROMOTION_CODE, lambda: lists.every(account, *codes, expand=PROMOTION_CODE.expand))
        self._keep(CUSTOMER, lambda: iter(self._run.inventory(CUSTOMER).owned()))
        self._objects[DEFAULT_PRICE.name] = self._objects[PRODUCT.name]
        if PRODUCT.name in self._refused:
            self._refused[DEFAULT_PRICE.name] = self._refused[PRODUCT.name]
        self._read_subscriptions()

    def _keep(self, kind: Kind, read: Callable[[], Iterable[StripeObject]]) -> None:
        """Read every object of a kind, also for the kind's provider."""
        self._progress(f"{kind.noun}s")
        try:
            for remote in read():
                self._remember(kind, remote)
        except StripeRefusal as refusal:
            if refusal.status != 403:
                raise
            self._refused[kind.name] = refusal

    def _remember(self, kind: Kind, remote: StripeObject) -> None:
        self._objects[kind.name][str(remote["id"])] = remote
        if owner := owner_of(remote):
            self._by_owner.setdefault((kind.name, owner), []).append(remote)
        self._run.inventory(kind).remember(remote)

    def _read_subscriptions(self) -> None:
        """Count every subscription; keep those of this stack."""
        self._progress("subscriptions")
        census = Census(self._objects[PRICE.name])
        try:
            for number, each in enumerate(self._subscriptions(), 1):
                if number % 1_000 == 0:
                    self._progress(f"subscriptions: {number:,}")
                census.add(each)
                if (schedule := pending.of_subscription(each)) is not None:
                    self._schedules.append((schedule, each))
                if stack_of(owner_of(each)) == self._owner:
                    self._remember(SUBSCRIPTION, {**each, "latest_invoice": id_of(each.get("latest_invoice"))})
            asked = {"scheduled": True}
            for schedule in lists.every(self._account, "/v1/subscription_schedules", "the account's schedules", asked):
                self._schedules.append((schedule, None))
        except StripeRefusal as refusal:
            if refusal.status != 403:
                raise
            self._refused[SUBSCRIPTION.name] = refusal
        self._found.payers = list(census.payers())

    def _subscriptions(self) -> Iterator[StripeObject]:
        """The subscriptions with their last invoice, or without if the key may not read invoices."""
        invoices = self._may_read("usage on the last invoices", "/v1/invoices")
        if not self._account.livemode:
            self._may_read("subscriptions on test clocks", "/v1/test_helpers/test_clocks")
        expand = (*SUBSCRIPTION.expand, *(["latest_invoice"] if invoices else []))
        for each in lists.subscriptions(self._account, expand=expand):
            invoice = each.get("latest_invoice")
            if isinstance(invoice, dict) and mapping(invoice.get("lines")).get("has_more"):
                invoice["lines"] = {"data": lists.lines(self._account, invoice)}
            yield each

    def _may_read(self, what: str, path: str) -> bool:
        """Whether the key may read a list that nothing declared depends on; says so if not."""
        try:
            self._account.request("get", path, {"limit": 1}, subject=what)
        except StripeRefusal as refusal:
            if refusal.status != 403:
                raise
            self._found.unread.append(Unread(what, str(refusal), False))
            return False
        return True

    # -- the program --------------------------------------------------------------------------------------------

    def _load(self, last_run: Mapping[tuple[str, str], Mapping[str, Any]]) -> tuple[Any, list[_Counterpart]]:
        """The program's plans, and its resources with their objects in Stripe.

        Raises:
            ProgramError: it declares what Stripe does not take.
            AccountError: Stripe does not answer.
        """
        counterparts: dict[tuple[str, str], _Counterpart] = {}

        def find(resource: Declared) -> tuple[str, Mapping[str, Any]]:
            with self._lock:
                try:
                    each = self._counterpart(resource)
                except (AccountError, ProgramError) as problem:
                    # Pulumi would wrap it in sentences of its own.
                    self._problems.append(problem)
                    each = _Counterpart(resource, _BY_NAME[resource.kind], {}, None)
                counterparts[resource.kind, resource.name] = each
            outputs = {"livemode": self._account.livemode, "account": self._account.settings.account}
            return ("" if each.remote is None else str(each.remote["id"])), outputs

        plans, in_order = resources(self._directory, self._stack, find, last_run)
        if self._problems:
            raise self._problems[0]
        return plans, [counterparts[each.kind, each.name] for each in in_order]

    def _counterpart(self, resource: Declared) -> _Counterpart:
        kind = _BY_NAME[resource.kind]
        arguments, problems = kind.schema.check(declared(resource.properties))
        if problems:
            path, sentence = problems[0]
            raise ProgramError(f"{kind.name} '{resource.name}': {path_text(path)}: {sentence}")
        arguments = kind.fill(arguments, self._account.livemode)
        return _Counterpart(resource, kind, arguments, self._match(kind, arguments))

    def _match(self, kind: Kind, arguments: Inputs) -> StripeObject | None:
        """The object in Stripe that a resource stands for: by its id, its event name, or its owner."""
        objects, reconciler = self._objects[kind.name], self._reconcilers[kind.name]
        if kind is DEFAULT_PRICE:
            product = objects.get(str(arguments.get("product")))
            return None if product is None or kind.gone(product) else product
        if isinstance(id_ := arguments.get(ADOPT, arguments.get("id")), str):
            found = objects.get(id_) or (self._fetched(kind, id_) if kind in (CUSTOMER, SUBSCRIPTION) else None)
            mine = [] if found is None else [found]
        elif kind is METER:
            mine = [each for each in objects.values() if each.get("event_name") == arguments["event_name"]]
        else:
            self._read_apart(reconciler, arguments)
            mine = self._by_owner.get((kind.name, str(arguments["owner"])), [])
        there = [each for each in mine if not kind.gone(each) or kind.ended_as_declared(arguments, each)]

        def fit(remote: StripeObject) -> tuple[bool, int]:
            is_alive = remote["status"] == "active" if kind is METER else reconciler.is_alive(remote, arguments)
            return not is_alive, len(reconciler.different(remote, arguments))

        # A replaced object keeps its owner; the one that serves is not archived, and is as declared.
        return min(there, key=fit, default=None)

    def _fetched(self, kind: Kind, id_: str) -> StripeObject | None:
        """An adopted object that the stack has not made its own yet."""
        if kind.name in self._refused:
            return None
        found = self._run.inventory(kind).read(id_)
        if found is not None:
            self._remember(kind, found)
        return found

    def _read_apart(self, reconciler: Reconciler, arguments: Inputs) -> None:
        """Read what Stripe lists only if it is named: the customers of a test clock."""
        if reconciler.kind is not CUSTOMER or CUSTOMER.name in self._refused:
            return
        for asked in reconciler.listed_apart(arguments):
            for page, _ in self._account.pages(CUSTOMER.path, asked, subject="the customers of a test clock"):
                for each in page:
                    if each["id"] not in self._objects[CUSTOMER.name]:
                        self._remember(CUSTOMER, each)

    def _last_run(
        self, plans: Mapping[str, PublishedPlan], counterparts: Iterable[_Counterpart]
    ) -> dict[tuple[str, str], Mapping[str, Any]]:
        """What a state would say of the subscribers, from Stripe: a rollout depends on the version that each pays."""
        if all(len(plan.versions) == 1 for plan in plans.values()):
            return {}
        versions = _versions(plans)
        by_id = {str(each.remote["id"]): each.declared.name for each in counterparts if each.remote is not None}
        last_run: dict[tuple[str, str], Mapping[str, Any]] = {}
        for each in counterparts:
            if each.kind is not SUBSCRIPTION or each.remote is None:
                continue
            items = self._reconcilers[SUBSCRIPTION.name].returned("items", each.arguments.get("items"), each.remote)
            paid: dict[str, int] = {}
            for item in items.values():
                plan, number = versions.get(by_id.get(str(item.get("price")), ""), ("", 0))
                if plan:
                    paid[plan] = max(number, paid.get(plan, 0))
            last_run["Subscription", each.declared.name] = {"plan_versions": paid}
        return last_run

    # -- comparing ----------------------------------------------------------------------------------------------

    def _compare(self, each: _Counterpart) -> None:
        if each.kind.name in self._refused:
            return
        self._found.compared += 1
        about = (each.kind.name, each.declared.name)
        if each.remote is None:
            if not self._has_ended_as_declared(each):
                self._found.differences.append(Difference("missing", *about, ""))
            return
        id_ = str(each.remote["id"])
        try:
            unequal = self._unequal(each, each.remote)
        except StripeRefusal as refusal:
            if refusal.status != 403:
                raise
            self._found.unread.append(Unread(f"{each.kind.name} '{each.declared.name}'", str(refusal), True))
            return
        for path, (there, wanted) in sorted(unequal.items()):
            if any(_covers(ignored, path) for ignored in each.declared.ignored):
                continue
            values = (SECRET, SECRET) if path.partition(".")[0] in each.declared.secret else (there, wanted)
            shown = (None if value is MISSING else value for value in values)
            self._found.differences.append(Difference("differs", *about, id_, path, *shown))

    def _has_ended_as_declared(self, each: _Counterpart) -> bool:
        """Whether a subscription that Stripe does not list any more has ended when the program says."""
        arguments = each.arguments
        if each.kind is not SUBSCRIPTION or not {"cancel_at", "cancel_at_period_end"} & arguments.keys():
            return False
        if not isinstance(customer := arguments.get("customer"), str):
            return False
        ended = lists.subscriptions(self._account, on_clocks=False, customer=customer, status="canceled")
        return any(
            owner_of(remote) == arguments["owner"] and SUBSCRIPTION.ended_as_declared(arguments, remote)
            for remote in ended
        )

    def _unequal(self, each: _Counterpart, remote: StripeObject) -> dict[str, tuple[Any, Any]]:
        """By dotted path: (in Stripe, declared)."""
        kind, arguments, reconciler = each.kind, each.arguments, self._reconcilers[each.kind.name]
        said = dict(differ.leaves(arguments))
        found = {
            path: (there, wanted)
            for path, (there, wanted) in reconciler.drift(remote, _with_usual(kind, arguments)).items()
            if there is not MISSING or path in said
        }
        known = {path.partition(".")[0] for path in found}
        for name, (there, wanted) in reconciler.different(remote, arguments).items():
            if name not in known:
                found |= differ.unequal({name: there}, {name: wanted})
        if kind.has_metadata and owner_of(remote) != arguments["owner"]:
            found["metadata.pulumi"] = (owner_of(remote) or MISSING, arguments["owner"])
        usual = kind.drift_from
        found |= {
            path: (there, usual[path]) for path, (there, wanted) in found.items() if wanted is MISSING and path in usual
        }
        for name in _USUALLY_NONE.get(kind.name, ()):
            if name not in arguments and (there := reconciler.returned(name, None, remote)) is not MISSING:
                found[name] = (there, MISSING)
        return {**found, **_added_currencies(kind, arguments, remote)}

    def _left(self, counterparts: Iterable[_Counterpart]) -> Iterator[Difference]:
        """What Stripe has of this stack beyond what the program declares."""
        taken = {(each.kind.name, str(each.remote["id"])) for each in counterparts if each.remote is not None}
        for kind in KINDS:
            for id_, remote in self._objects[kind.name].items() if kind.has_metadata else ():
                owner = owner_of(remote) or ""
                if stack_of(owner) != self._owner or (kind.name, id_) in taken or not is_in_use(remote):
                    continue
                name = owner.rpartition("/")[2]
                if kind is CUSTOMER and self._account.livemode:
                    # They stay on a live stack, as `on_delete` says.
                    self._found.notes.append(f"Customer '{name}' ({id_}) stays in Stripe; the program does not have it")
                else:
                    yield Difference("left", kind.name, name, id_)

    def _default_prices(self, counterparts: list[_Counterpart]) -> None:
        """Find products with a default price that the program does not give them."""
        linked = {str(each.arguments.get("product")) for each in counterparts if each.kind is DEFAULT_PRICE}
        for each in counterparts:
            if each.kind is not PRODUCT or each.remote is None or each.remote["id"] in linked:
                continue
            price = id_of(each.remote.get("default_price"))
            if price and not {"default_price", "default_price_data"} & each.arguments.keys():
                about = (PRODUCT.name, each.declared.name, str(each.remote["id"]))
                self._found.differences.append(Difference("differs", *about, "default_price", price, None))

    def _pending(self, counterparts: Iterable[_Counterpart]) -> None:
        names = {
            str(each.remote["id"]): each.declared.name
            for each in counterparts
            if each.kind is SUBSCRIPTION and each.remote is not None
        }

        def named(price: str) -> str:
            return f"{self._found.model[price]} ({price})" if price in self._found.model else price

        for schedule, subscription in self._schedules:
            for change in pending.changes(schedule, subscription, named):
                self._found.pending.append(change)
                if change.subscription in names and stack_of(change.made_by) != self._owner:
                    about = ("Subscription", names[change.subscription], change.subscription)
                    what = f"{change.change} on {change.on} ({change.schedule})"
                    self._found.differences.append(Difference("schedule", *about, "", what, None))
        self._found.pending.sort(key=lambda each: (each.at, each.schedule))


# -- small parts ----------------------------------------------------------------------------------------------------


def _versions(plans: Mapping[str, PublishedPlan]) -> dict[str, tuple[str, int]]:
    """The plan and version of each price, by the name of its resource."""
    return {
        price_name(name, number, charge.key): (name, number)
        for name, plan in plans.items()
        for number, version in plan.versions.items()
        for charge in version.plan.charges
    }


def _model(plans: Mapping[str, PublishedPlan], counterparts: Iterable[_Counterpart]) -> dict[str, str]:
    """By the id of each declared price: `alpaca-ai@1 license`, or the name of its resource."""
    titles = {
        price_name(name, number, charge.key): f"{name}@{number} {charge.key}"
        for name, plan in plans.items()
        for number, version in plan.versions.items()
        for charge in version.plan.charges
    }
    return {
        str(each.remote["id"]): titles.get(each.declared.name, each.declared.name)
        for each in counterparts
        if each.kind is PRICE and each.remote is not None
    }


def _with_usual(kind: Kind, arguments: Inputs) -> Inputs:
    """The arguments, with what a bill depends on and omitting it means: somebody may have set it in Stripe."""
    found = {**_USUAL.get(kind.name, {}), **arguments}
    if kind is SUBSCRIPTION and isinstance(arguments.get("items"), Mapping):
        found["items"] = {key: {**_USUAL_ITEM, **mapping(item)} for key, item in arguments["items"].items()}
    return found


def _added_currencies(kind: Kind, arguments: Inputs, remote: StripeObject) -> dict[str, tuple[Any, Any]]:
    """The currencies that a price or a coupon has in Stripe alone."""
    found: dict[str, tuple[Any, Any]] = {}
    if kind in (PRICE, COUPON):
        there, wanted = mapping(remote.get("currency_options")), mapping(arguments.get("currency_options"))
        for code in sorted(there.keys() - wanted.keys() - {remote.get("currency")}):
            amounts = ("unit_amount_decimal", "amount_off", "tiers")
            shown = next((there[code][name] for name in amounts if there[code].get(name) is not None), there[code])
            found[f"currency_options.{code}"] = (shown, MISSING)
    return found


def _covers(ignored: str, path: str) -> bool:
    """Whether a property path of `ignore_changes` covers a dotted path: `items["license"].quantity`, `items[*]`."""
    wanted = [part for part in re.split(r"""\["?|"?\]|\.""", ignored) if part]
    there = path.split(".")
    return len(wanted) <= len(there) and all(one in ("*", other) for one, other in zip(wanted, there, strict=False))
