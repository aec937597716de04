"""Subscription schedules: create, retrieve, update, list, cancel, release; phases begin and end as time passes.

A schedule creates its subscription when the first phase begins, and applies each phase's items in turn. A phase that
ends with a billing period changes the items between two periods; one that ends within a period is prorated like any
change.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from . import amounts, cards, connect, customers, invoicing, life, redemption, spec, subscriptions, taxation, terms
from .billing import cycle
from .billing.cycle import Contract, Draft
from .billing.periods import LONGEST_INTERVAL_COUNTS, Anchor, Interval
from .errors import refuse
from .router import Call, Kind, assign, changes, declare_kind
from .store import copied
from .wire import Obj


def wire(call: Call, schedule: Obj) -> Obj:
    """A schedule in Stripe's shape: its phases with their tax rates."""
    return {**schedule, "phases": [_phase_wire(call, phase) for phase in schedule["phases"]]}


def _phase_wire(call: Call, phase: Obj) -> Obj:
    taxed = {
        name: [{**item, "tax_rates": taxation.shown(call, item["tax_rates"])} for item in phase[name]]
        for name in ("add_invoice_items", "items")
    }
    return {**phase, **taxed, "default_tax_rates": taxation.shown(call, phase["default_tax_rates"])}


declare_kind(Kind("subscription_schedule", missing_param="schedule", noun="subscription schedule", wire=wire))

_OVER: Final = ("canceled", "completed", "released")


# -- phases -----------------------------------------------------------------------------------------------------------


def _phases(
    call: Call,
    schedule: Obj,
    given: Sequence[Mapping[str, Any]],
    start: int,
    known: terms.Prices,
    where: str = "phases",
) -> list[Obj]:
    """Consecutive phases from `start`, validated and in Stripe's shape.

    Discounts and tax rates (now inactive) that the schedule's present phases already name are not validated again.
    """
    terms.in_range(start, f"{where}[0][start_date]")
    if not given:
        raise refuse("missing", param=where)
    phases: list[Obj] = []
    for index, entry in enumerate(given):
        phase = _phase(call, schedule, entry, start, known, f"{where}[{index}]", last=index == len(given) - 1)
        phases.append(phase)
        start = phase["end_date"]
    return phases


def _holders(schedule: Obj) -> Iterator[Obj]:
    """The parts of a schedule with discounts and tax rates: its phases, their items, and their invoice items."""
    for phase in schedule["phases"]:
        yield from (phase, *phase["items"], *phase["add_invoice_items"])


def _planned(schedule: Obj) -> list[Obj]:
    """Every discount that a schedule's phases name: a phase that is sent back unchanged is not validated again."""
    return [entry for holder in _holders(schedule) for entry in holder["discounts"]]


def _target(call: Call, schedule: Obj, currency: str, start: int) -> redemption.Target:
    """The target of a phase's discounts: the subscription that the schedule has, or will create.

    Stripe accepts codes with a minimum amount for a phase that begins at once, not for a later one.
    """
    subscription = call.store.get("subscription", schedule["subscription"] or "")
    now = call.now(schedule)
    held = [] if subscription is None else list(subscription["discounts"])
    return redemption.Target(
        schedule["customer"], currency, now, {}, present=held, minimums=subscription is None and start <= now
    )


def _phase(
    call: Call, schedule: Obj, given: Mapping[str, Any], start: int, known: terms.Prices, where: str, *, last: bool
) -> Obj:
    if not given["items"]:
        raise refuse("missing", param=f"{where}[items]")
    prices = [known.find(item, f"{where}[items][{index}]") for index, item in enumerate(given["items"])]
    currency = amounts.currency(given.get("currency") or prices[0]["currency"], f"{where}[currency]")
    target = _target(call, schedule, currency, start)
    items = [
        _phase_item(call, schedule, item, price, target, f"{where}[items][{index}]")
        for index, (item, price) in enumerate(zip(given["items"], prices, strict=True))
    ]
    end = _phase_end(call, given, start, items, known, where, last=last)
    trial_end = given.get("trial_end")
    if given.get("trial"):
        if trial_end is not None:
            raise refuse("only_one", param=f"{where}[trial_end]", names="trial, trial_end")
        trial_end = end
    elif trial_end not in (None, "now") and terms.in_range(int(trial_end), f"{where}[trial_end]") > end:
        raise refuse("trial_after_phase", param=f"{where}[trial_end]")
    if given.get("billing_cycle_anchor") == "phase_start" and trial_end not in (None, "now"):
        raise refuse("anchor_in_trial", param=f"{where}[billing_cycle_anchor]")
    customer = call.fetch("customer", schedule["customer"])
    held = {"billing_thresholds": terms.thresholds(given.get("billing_thresholds"))}
    terms.check_thresholds(call, known, held, items, where, f"{where}[items]")
    phase: Obj = {
        **spec.blank("subscription_schedule_phase_configuration"),
        **held,
        "add_invoice_items": [
            _added_item(call, schedule, entry, known, target, f"{where}[add_invoice_items][{index}]")
            for index, entry in enumerate(given.get("add_invoice_items") or ())
        ],
        "billing_cycle_anchor": given.get("billing_cycle_anchor"),
        "collection_method": given.get("collection_method"),
        "currency": currency,
        "default_payment_method": _method(call, customer, given, where),
        "default_tax_rates": taxation.chosen(
            call, given.get("default_tax_rates"), f"{where}[default_tax_rates]", _held_rates(schedule)
        ),
        "description": given.get("description") or None,
        "discounts": redemption.plan(call, target, given.get("discounts"), _planned(schedule), f"{where}[discounts]"),
        "end_date": end,
        "invoice_settings": _phase_settings(call, given.get("invoice_settings"), f"{where}[invoice_settings]"),
        "items": items,
        "metadata": _phase_metadata(call, given.get("metadata") or {}),
        "proration_behavior": given.get("proration_behavior", "create_prorations"),
        "start_date": start,
        "trial_end": None if trial_end in (None, "now") else trial_end,
    }
    if "automatic_tax" in given:
        phase["automatic_tax"] = taxation.automatic_tax(call, given["automatic_tax"], f"{where}[automatic_tax]")
    connect.set_parties(call, phase, given, where)
    return phase


def _phase_metadata(call: Call, given: Mapping[str, str]) -> dict[str, str]:
    """A phase's metadata; an empty value unsets the subscription's key when the phase begins."""
    return {**call.metadata({}, given), **{key: value for key, value in given.items() if value == ""}}


def _phase_settings(call: Call, given: Mapping[str, Any] | None, where: str) -> Obj | None:
    """A phase's own `invoice_settings`: omitted fields come from the defaults."""
    if given is None:
        return None
    issuer = given.get("issuer")
    return {
        **{name: given.get(name) or None for name in terms.PRINTED},
        "days_until_due": given.get("days_until_due"),
        "issuer": None if issuer is None else connect.reference(call, issuer, f"{where}[issuer]"),
    }


def _automatic_tax(schedule: Obj, phase: Obj) -> Obj:
    """Whether Stripe calculates tax during a phase: the phase's own setting, else the schedule's."""
    held: Obj = phase.get("automatic_tax") or schedule["default_settings"]["automatic_tax"]
    return dict(held)


def _held_rates(schedule: Obj) -> list[str]:
    """Every tax rate that a schedule's phases name."""
    rates = (holder["tax_rates" if "tax_rates" in holder else "default_tax_rates"] for holder in _holders(schedule))
    return [id for held in rates for id in held]


def _check_tax(call: Call, schedule: Obj, known: terms.Prices) -> None:
    """The tax rules for the current and later phases."""
    for phase in schedule["phases"][max(schedule["_phase"], 0) :]:
        terms.check_tax(call, known, {**phase, "automatic_tax": _automatic_tax(schedule, phase)}, phase["items"])


def _method(call: Call, customer: Obj, given: Mapping[str, Any], where: str) -> str | None:
    name = given.get("default_payment_method")
    return cards.attach(call, customer, name, f"{where}[default_payment_method]") if name else None


def _added_item(
    call: Call, schedule: Obj, given: Mapping[str, Any], known: terms.Prices, target: redemption.Target, where: str
) -> Obj:
    """One of a phase's `add_invoice_items`, as the schedule keeps it until the phase begins."""
    period = terms.period_of(given.get("period") or {}, f"{where}[period]")
    inherited = replace(target, present=(), inherited=target.present, minimums=False)
    return {
        "discountable": given.get("discountable", True),
        "discounts": redemption.plan(
            call, inherited, given.get("discounts"), _planned(schedule), f"{where}[discounts]"
        ),
        "metadata": call.metadata({}, given.get("metadata") or {}),
        "period": period,
        "price": known.find(given, where, recurring=False)["id"],
        "quantity": given.get("quantity", 1),
        "tax_rates": taxation.chosen(call, given.get("tax_rates"), f"{where}[tax_rates]", _held_rates(schedule)),
    }


def _phase_item(
    call: Call, schedule: Obj, given: Mapping[str, Any], price: Obj, target: redemption.Target, where: str
) -> Obj:
    made = terms.new_item(call, given, price, "", 0, where, _held_rates(schedule))
    subscription = call.store.get("subscription", schedule["subscription"] or "") or {"items": {"data": []}}
    present = [id for held in subscription["items"]["data"] if held["price"] == price["id"] for id in held["discounts"]]
    own = replace(target, present=present, inherited=target.present, minimums=False)
    item: Obj = {
        "billing_thresholds": made["billing_thresholds"],
        "discounts": redemption.plan(call, own, given.get("discounts"), _planned(schedule), f"{where}[discounts]"),
        "metadata": made["metadata"],
        "price": price["id"],
        "tax_rates": made["tax_rates"],
    }
    if made["quantity"] is not None:
        item["quantity"] = made["quantity"]
    return item


def _phase_end(
    call: Call,
    given: Mapping[str, Any],
    start: int,
    items: Sequence[Obj],
    known: terms.Prices,
    where: str,
    *,
    last: bool,
) -> int:
    if given.get("end_date") is not None and given.get("duration"):
        raise refuse("only_one", param=f"{where}[end_date]", names="end_date, duration")
    if given.get("end_date") is not None:
        end = call.now() if given["end_date"] == "now" else int(given["end_date"])
        terms.in_range(end, f"{where}[end_date]")
    elif given.get("duration"):
        every = terms.duration(given["duration"], LONGEST_INTERVAL_COUNTS, f"{where}[duration]")
        end = Anchor(start).boundary(Interval.of(every), 1)
    elif last:
        intervals = [Interval.of(known.get(item["price"])["recurring"]) for item in items]
        end = Anchor(start).boundary(min(intervals, key=lambda interval: interval.length), 1)
    else:
        raise refuse("missing", param=f"{where}[end_date]")
    if end <= start:
        raise refuse("schedule_dates")
    return end


def _items_of(call: Call, phase: Obj, subscription: Obj, at: int, before: Obj | None) -> list[Obj]:
    """A phase's items for a subscription: an item with the same price keeps its id. `before` is the previous phase."""
    present = {item["price"]: item for item in subscription["items"]["data"]}
    planned = {entry["price"]: entry["discounts"] for entry in (before or {"items": ()})["items"]}
    items: list[Obj] = []
    for entry in phase["items"]:
        price = call.fetch("price", entry["price"])
        item = copied(present.get(entry["price"]))
        if item is None:
            given = {"quantity": entry["quantity"]} if "quantity" in entry else {}
            item = terms.new_item(call, given, price, subscription["id"], at, "items")
        item["quantity"] = entry.get("quantity")
        item["tax_rates"] = list(entry["tax_rates"])
        item["metadata"] = dict(entry["metadata"])
        item["billing_thresholds"] = entry["billing_thresholds"]
        target = terms.item_target(subscription, item, at)
        own = redemption.begin(call, target, entry["discounts"], planned.get(entry["price"], ()))
        item["discounts"] = redemption.replace(call, target, own, "discounts")
        items.append(item)
    return items


def _subscription_params(call: Call, schedule: Obj, phase: Obj, at: int) -> dict[str, Any]:
    """The create parameters of the subscription that a schedule's first phase begins at `at`.

    A phase that should have begun earlier backdates it (https://docs.stripe.com/api/subscription_schedules/create).
    """
    target = redemption.Target(schedule["customer"], phase["currency"], at, {}, minimums=True)
    params: dict[str, Any] = {
        "billing_mode": {name: value for name, value in schedule["billing_mode"].items() if name != "updated_at"},
        "currency": phase["currency"],
        "items": [{**item, "discounts": redemption.begin(call, target, item["discounts"])} for item in phase["items"]],
        "discounts": redemption.begin(call, target, phase["discounts"]),
        "add_invoice_items": _added(call, phase, phase["add_invoice_items"], target),
        "automatic_tax": _automatic_tax(schedule, phase),
        "default_tax_rates": phase["default_tax_rates"],
        "metadata": dict(phase["metadata"]),
        "proration_behavior": phase["proration_behavior"],
        **_collection(schedule, phase),
        **_parties(schedule, phase),
        "invoice_settings": _invoice_settings(schedule, phase),
    }
    given = {
        **{
            name: _own(schedule, phase, name)
            for name in ("billing_thresholds", "default_payment_method", "description")
        },
        "backdate_start_date": phase["start_date"] if phase["start_date"] < at else None,
        "trial_end": phase["trial_end"],
    }
    return {**params, **{name: value for name, value in given.items() if value is not None}}


def _added(call: Call, phase: Obj, entries: Sequence[Obj], target: redemption.Target) -> list[dict[str, Any]]:
    """A phase's `add_invoice_items` for a subscription: a period's bound that names the phase becomes an instant."""
    instants = {"phase_start": phase["start_date"], "phase_end": phase["end_date"]}
    added = []
    for entry in entries:
        period = {
            half: {"type": "timestamp", "timestamp": instants[chosen["type"]]} if chosen["type"] in instants else chosen
            for half, chosen in entry["period"].items()
        }
        added.append({**entry, "period": period, "discounts": redemption.begin(call, target, entry["discounts"])})
    return added


def _own(schedule: Obj, phase: Obj, name: str) -> Any:
    """The phase's own value, else the schedule's default."""
    return phase[name] or schedule["default_settings"][name]


def _collection(schedule: Obj, phase: Obj) -> dict[str, Any]:
    method = _own(schedule, phase, "collection_method") or "charge_automatically"
    days = (phase["invoice_settings"] or {}).get("days_until_due")
    if days is None:
        days = schedule["default_settings"]["invoice_settings"]["days_until_due"]
    params: dict[str, Any] = {"collection_method": method}
    if method == "send_invoice":
        params["days_until_due"] = days
    return params


def _parties(schedule: Obj, phase: Obj) -> dict[str, Any]:
    """On whose behalf a phase charges and whom it pays, as parameters of a subscription; "" means no account."""
    defaults = schedule["default_settings"]
    found = {name: defaults[name] if phase[name] is None else phase[name] for name in connect.PARTIES}
    return {name: "" if value is None else value for name, value in found.items()}


def _invoice_settings(schedule: Obj, phase: Obj) -> dict[str, Any]:
    """A phase's invoice settings, as a parameter of a subscription: its own, else the schedule's defaults."""
    own, defaults = phase["invoice_settings"] or {}, schedule["default_settings"]["invoice_settings"]
    return {name: own.get(name) or defaults[name] or "" for name in (*terms.PRINTED, "issuer")}


# -- creating and reading ---------------------------------------------------------------------------------------------


@life.route("POST", "/v1/subscription_schedules")
def create(call: Call) -> Obj:
    """POST /v1/subscription_schedules: from phases, or from an existing subscription."""
    params = call.params
    if params.get("from_subscription"):
        return _create_around(call, params)
    if not params.get("customer") and not params.get("customer_account"):
        raise refuse("schedule_from")
    schedule = _new(call, params, terms.Prices(call))
    keep(call, schedule)
    call.event("subscription_schedule.created", schedule)
    if schedule["phases"][0]["start_date"] <= call.now(schedule):
        step(call, schedule, call.now(schedule))
    return schedule


def _new(call: Call, params: Mapping[str, Any], known: terms.Prices, where: str = "phases") -> Obj:
    customer = connect.payer(call, params)
    assert customer is not None, "a schedule needs a customer or a subscription"
    now = call.now(customer)
    start = params.get("start_date", "now")
    schedule = empty(call, params, customer, now)
    begins = now if start == "now" else int(start)
    schedule["phases"] = _phases(call, schedule, params.get("phases") or (), begins, known, where)
    _refuse_past_phase(schedule, now, where)
    _check_tax(call, schedule, known)
    return schedule


def _refuse_past_phase(schedule: Obj, now: int, where: str) -> None:
    """A first phase may have begun; what an ended phase would bill is not documented."""
    if schedule["_phase"] < 0 and schedule["phases"][0]["end_date"] <= now:
        raise refuse("not_implemented_param", param=f"{where}[0][end_date] in the past")


def empty(call: Call, params: Mapping[str, Any], customer: Obj, now: int) -> Obj:
    if params.get("end_behavior") in ("none", "renew"):
        raise refuse("not_implemented_param", param=f"end_behavior={params['end_behavior']}")
    printed = {**dict.fromkeys(terms.PRINTED), "days_until_due": None, "issuer": {"type": "self"}}
    schedule: Obj = {
        **call.head("subscription_schedule", call.mint("sub_sched_1", 23), at=now),
        "billing_mode": terms.billing_mode(params.get("billing_mode") or {"type": "flexible"}, now),
        "customer": customer["id"],
        "customer_account": customer.get("customer_account"),
        "default_settings": {
            **spec.blank("subscription_schedules_resource_default_settings"),
            "automatic_tax": dict(taxation.NO_AUTOMATIC_TAX),
            "billing_cycle_anchor": "automatic",
            "collection_method": "charge_automatically",
            "invoice_settings": printed,
        },
        "end_behavior": params.get("end_behavior", "release"),
        "metadata": call.metadata({}, params.get("metadata") or {}),
        "phases": [],
        "status": "not_started",
        "test_clock": customer.get("test_clock"),
        # The current phase; -1 before the first.
        "_phase": -1,
    }
    _defaults(call, schedule, params.get("default_settings") or {})
    return schedule


def _defaults(call: Call, schedule: Obj, given: Mapping[str, Any]) -> None:
    defaults = schedule["default_settings"]
    assign(defaults, given, "billing_cycle_anchor", "collection_method", "description")
    if "default_payment_method" in given:
        customer = call.fetch("customer", schedule["customer"])
        defaults["default_payment_method"] = _method(call, customer, given, "default_settings")
    if "billing_thresholds" in given:
        defaults["billing_thresholds"] = terms.thresholds(given["billing_thresholds"], defaults["billing_thresholds"])
    if "automatic_tax" in given:
        defaults["automatic_tax"] = taxation.automatic_tax(
            call, given["automatic_tax"], "default_settings[automatic_tax]"
        )
    connect.set_parties(call, defaults, given, "default_settings")
    settings = given.get("invoice_settings") or {}
    for name in ("days_until_due", *terms.PRINTED):
        if name in settings:
            value = settings[name]
            defaults["invoice_settings"][name] = None if value == "" else value
    if "issuer" in settings:
        where = "default_settings[invoice_settings][issuer]"
        defaults["invoice_settings"]["issuer"] = connect.reference(call, settings["issuer"], where)


def _create_around(call: Call, params: Mapping[str, Any]) -> Obj:
    """A schedule with one phase, the subscription's present period; later updates add phases."""
    alone = ("customer", "customer_account", "phases", "start_date", "default_settings", "billing_mode", "end_behavior")
    for name in (*alone, "metadata"):
        if params.get(name):
            raise refuse("only_one", param="from_subscription", names=f"from_subscription, {name}")
    subscription = call.fetch("subscription", params["from_subscription"], param="from_subscription", status=400)
    if subscription["status"] in life.ENDED:
        raise refuse("subscription_canceled")
    if subscription["schedule"]:
        raise refuse("schedule_taken", subscription=subscription["id"], schedule=subscription["schedule"])
    if subscription["billing_schedules"]:
        raise refuse("prebill", param="from_subscription", rule="they do not go with a subscription schedule")
    if any(map(cycle.in_trial, subscription["items"]["data"])):
        # Stripe: schedules take no trial offers with a relative duration, and there are no others any more.
        raise refuse("not_implemented_param", param="from_subscription with an item in the time of a trial offer")
    customer = call.fetch("customer", subscription["customer"])
    now = call.now(customer)
    schedule = empty(call, {}, customer, now)
    schedule["billing_mode"] = dict(subscription["billing_mode"])
    same = ("automatic_tax", "collection_method", "default_payment_method", "billing_thresholds", *connect.PARTIES)
    schedule["default_settings"].update({name: subscription[name] for name in same})
    printed = {**subscription["invoice_settings"], "days_until_due": subscription["days_until_due"]}
    schedule["default_settings"]["invoice_settings"] = printed
    phase = _present_phase(subscription)
    schedule.update(phases=[phase], status="active", subscription=subscription["id"], _phase=0)
    keep(call, schedule)
    subscription["schedule"] = schedule["id"]
    life.put(call, subscription)
    call.event("subscription_schedule.created", schedule)
    return schedule


def _present_phase(subscription: Obj) -> Obj:
    """The present period of a subscription as a phase."""
    items = subscription["items"]["data"]
    return {
        **spec.blank("subscription_schedule_phase_configuration"),
        "add_invoice_items": [],
        "billing_thresholds": subscription["billing_thresholds"],
        "currency": subscription["currency"],
        "default_tax_rates": list(subscription["default_tax_rates"]),
        "description": subscription["description"],
        "discounts": _kept(subscription["discounts"]),
        "end_date": min(item["current_period_end"] for item in items),
        "items": [
            {
                "billing_thresholds": item["billing_thresholds"],
                "discounts": _kept(item["discounts"]),
                "metadata": dict(item["metadata"]),
                "price": item["price"],
                "tax_rates": list(item["tax_rates"]),
                **({} if item["quantity"] is None else {"quantity": item["quantity"]}),
            }
            for item in items
        ],
        "metadata": {},
        "proration_behavior": "create_prorations",
        "start_date": min(item["current_period_start"] for item in items),
        "trial_end": subscription["trial_end"] if subscription["status"] == "trialing" else None,
    }


def _kept(discounts: Sequence[str]) -> list[Obj]:
    """Existing discounts, as a phase names them."""
    return [{"coupon": None, "discount": id, "promotion_code": None} for id in discounts]


def keep(call: Call, schedule: Obj) -> None:
    """Store a schedule with the moment of its next step and its current phase."""
    number = schedule["_phase"]
    due: int | None = None
    schedule["current_phase"] = None
    if schedule["status"] not in _OVER:
        if number < 0:
            due = schedule["phases"][0]["start_date"]
        else:
            phase = schedule["phases"][number]
            due = phase["end_date"]
            schedule["current_phase"] = {"start_date": phase["start_date"], "end_date": phase["end_date"]}
    invoicing.set_due(schedule, due)
    call.store.put(schedule)


life.retrieves("/v1/subscription_schedules/{schedule}", "subscription_schedule")


@life.route("GET", "/v1/subscription_schedules")
def list_schedules(call: Call) -> Obj:
    """GET /v1/subscription_schedules, filtered by customer, state and times."""
    params = call.params
    call.check_filters(customer="customer")
    where = call.given("customer", "customer_account", "canceled_at", "completed_at", "released_at")
    if params.get("scheduled"):
        where["status"] = "not_started"
    return call.page("subscription_schedule", where)


# -- time -------------------------------------------------------------------------------------------------------------


def step(call: Call, schedule: Obj, at: int) -> None:
    """Begin the next phase, or end the schedule after the last."""
    number = schedule["_phase"] + 1
    if number >= len(schedule["phases"]):
        _finish(call, schedule, at)
    elif schedule["subscription"] is None:
        _start(call, schedule, at)
    elif call.fetch("subscription", schedule["subscription"])["status"] in life.ENDED:
        _cancel(call, schedule, at)
    else:
        schedule["_phase"] = number
        _next_phase(call, schedule, schedule["phases"][number], at)
        keep(call, schedule)
        call.event("subscription_schedule.updated", schedule, now=at)


life.STEPS["subscription_schedule"] = step


def _start(call: Call, schedule: Obj, at: int) -> None:
    customer = call.fetch("customer", schedule["customer"])
    phase = schedule["phases"][0]
    params = _subscription_params(call, schedule, phase, at)
    contract = subscriptions.new_contract(call, customer, params, terms.Prices(call, archived=True), at=at)
    contract.subscription["schedule"] = schedule["id"]
    subscriptions.begin(call, contract, params, hold=True)
    schedule.update(status="active", subscription=contract.subscription["id"], _phase=0)
    keep(call, schedule)
    call.event("subscription_schedule.updated", schedule, {"status": "not_started"}, now=at)


def _next_phase(call: Call, schedule: Obj, phase: Obj, at: int) -> None:
    subscription = call.fetch("subscription", schedule["subscription"])
    before = copied(subscription)
    contract = life.contract_of(call, subscription, at)
    _set_terms(call, schedule, subscription, phase)
    if phase["description"] is not None:
        subscription["description"] = phase["description"]
    subscription["metadata"] = call.metadata(subscription["metadata"], phase["metadata"])
    _watch(schedule, phase, subscription, at)
    draft = enter(call, contract, schedule, phase, at)
    if draft is not None:
        life.bill(call, contract, draft, at, hold=True)
    life.changed(call, contract, before, at)


def _watch(schedule: Obj, phase: Obj, subscription: Obj, at: int) -> None:
    subscription["billing_thresholds"] = _own(schedule, phase, "billing_thresholds")
    # Accrued usage may already reach the phase's threshold.
    subscription["_stirred"] = at


def _set_terms(call: Call, schedule: Obj, subscription: Obj, phase: Obj) -> None:
    """Apply a phase's settings other than items to a subscription: collection, who is paid, invoice settings."""
    subscription["default_payment_method"] = _own(schedule, phase, "default_payment_method")
    settings = {"invoice_settings": _invoice_settings(schedule, phase)}
    terms.plain_fields(call, subscription, {**_collection(schedule, phase), **_parties(schedule, phase), **settings})


def enter(
    call: Call, contract: Contract, schedule: Obj, phase: Obj, at: int, before: Obj | None = None
) -> Draft | None:
    """Apply a phase's items, taxes, discounts and invoice items to a subscription; returns what is billed at once.

    Changes the contract, and redeems the discounts that begin with the phase. `before`: for an update, the same phase
    before the change.
    """
    contract.subscription["automatic_tax"] = _automatic_tax(schedule, phase)
    contract.subscription["default_tax_rates"] = list(phase["default_tax_rates"])
    former = list(contract.subscription["discounts"])
    draft = _enter(call, contract, schedule, phase, at, before)
    _keep_usage_under(former, contract.subscription["discounts"], draft)
    terms.refuse_unclear_prorations(contract)
    cycle.name_periods(contract, contract.pending)
    return draft


def _keep_usage_under(former: list[str], present: list[str], draft: Draft | None) -> None:
    """Usage of the ending phase is billed with its discounts, the fees of the next phase with that phase's.

    https://docs.stripe.com/billing/subscriptions/billing-mode/compare
    """
    if draft is not None and former != present:
        for line in draft.lines:
            line["_under"] = former if "_usage" in line else list(present)


def _enter(call: Call, contract: Contract, schedule: Obj, phase: Obj, at: int, before: Obj | None) -> Draft | None:
    subscription = contract.subscription
    target = terms.subscription_target(subscription, at)
    planned = redemption.begin(call, target, phase["discounts"], (before or {"discounts": ()})["discounts"])
    subscription["discounts"] = redemption.replace(call, target, planned, "discounts")
    after = _items_of(call, phase, subscription, at, before)
    known = terms.Prices(call, archived=True)
    new = [entry for entry in phase["add_invoice_items"] if before is None or entry not in before["add_invoice_items"]]
    adding = replace(target, present=(), inherited=subscription["discounts"])
    terms.add_invoice_items(
        call, contract, known, _added(call, phase, new, adding), at, "add_invoice_items", planned=True
    )
    terms.check_items(terms.Prices(call), subscription, after, contract.items)
    behavior = phase["proration_behavior"]
    if phase["trial_end"] is not None and phase["trial_end"] > at:
        cycle.change_items(contract, after, at, behavior)
        return cycle.begin_trial(contract, at, phase["trial_end"], behavior)
    anchor = phase["billing_cycle_anchor"] or schedule["default_settings"]["billing_cycle_anchor"]
    if (anchor == "phase_start" and before is None) or cycle.resets_anchor(contract, after):
        return cycle.restart(contract, after, at, behavior)
    if cycle.renewal_due(contract) <= at:
        return cycle.renew(contract, at, after=after, proration_behavior=behavior)
    cycle.change_items(contract, after, at, behavior)
    if behavior == "always_invoice":
        return cycle.take_pending(contract, "subscription_update", at)
    return None


def _finish(call: Call, schedule: Obj, at: int) -> None:
    subscription = call.fetch("subscription", schedule["subscription"])
    subscription["schedule"] = None
    if schedule["end_behavior"] == "cancel":
        contract = life.contract_of(call, subscription, at)
        draft = cycle.close(contract, at)
        life.end(contract, at, reason=None)
        if draft is not None:
            life.bill(call, contract, draft, at, hold=True)
        life.keep(call, contract, event="customer.subscription.deleted", at=at)
        schedule.update(status="completed", completed_at=at)
        keep(call, schedule)
        call.event("subscription_schedule.completed", schedule, now=at)
        return
    life.put(call, subscription)
    _let_go(call, schedule, at)


def _let_go(call: Call, schedule: Obj, at: int) -> None:
    schedule.update(
        status="released", released_at=at, released_subscription=schedule["subscription"], subscription=None
    )
    keep(call, schedule)
    call.event("subscription_schedule.released", schedule, now=at)


# -- changing ---------------------------------------------------------------------------------------------------------


@life.route("POST", "/v1/subscription_schedules/{schedule}")
def update(call: Call) -> Obj:
    """POST /v1/subscription_schedules/{schedule}: changes the current phase at once, and later phases."""
    params = call.params
    schedule = call.fetch("subscription_schedule", call.args["schedule"])
    _running(schedule)
    old = copied(schedule)
    if params.get("end_behavior") in ("none", "renew"):
        raise refuse("not_implemented_param", param=f"end_behavior={params['end_behavior']}")
    if "end_behavior" in params:
        schedule["end_behavior"] = params["end_behavior"]
    if "metadata" in params:
        schedule["metadata"] = call.metadata(schedule["metadata"])
    if "default_settings" in params:
        _defaults(call, schedule, params["default_settings"])
    now = call.now(schedule)
    known = terms.Prices(call)
    present = _replace_phases(call, schedule, params["phases"], known, now) if "phases" in params else None
    if {"default_settings", "phases"} & set(params):
        _check_tax(call, schedule, known)
    if present is not None:
        was, behavior = old["phases"][schedule["_phase"]], params.get("proration_behavior", "create_prorations")
        _change_present(call, schedule, present, was, behavior, now)
    elif "default_settings" in params and schedule["subscription"] is not None:
        _change_terms(call, schedule, now)
    keep(call, schedule)
    changed = changes(wire(call, old), wire(call, schedule))
    if changed:
        call.event("subscription_schedule.updated", schedule, changed)
    if schedule["status"] == "not_started" and schedule["phases"][0]["start_date"] <= now:
        step(call, schedule, now)
    return schedule


def _running(schedule: Obj) -> None:
    if schedule["status"] in _OVER:
        raise refuse("schedule_over", state=schedule["status"])


def _replace_phases(
    call: Call, schedule: Obj, given: Sequence[Mapping[str, Any]], known: terms.Prices, now: int
) -> Obj | None:
    """Replace the current and later phases; returns the current phase, if any.

    Ended phases may be omitted or repeated; the current one must come next, with its own start.
    """
    number = schedule["_phase"]
    if number < 0:
        start = given[0].get("start_date", schedule["phases"][0]["start_date"]) if given else now
        begins = now if start == "now" else int(start)
        schedule["phases"] = _phases(call, schedule, given, begins, known)
        _refuse_past_phase(schedule, now, "phases")
        return None
    present = schedule["phases"][number]
    past = {phase["start_date"] for phase in schedule["phases"][:number]}
    rest = [entry for entry in given if entry.get("start_date") not in past]
    if not rest or rest[0].get("start_date", present["start_date"]) not in ("now", present["start_date"]):
        raise refuse("schedule_past")
    phases = _phases(call, schedule, rest, present["start_date"], known)
    if phases[0]["end_date"] <= now:
        raise refuse("schedule_dates")
    schedule["phases"] = [*schedule["phases"][:number], *phases]
    return phases[0]


def _change_present(call: Call, schedule: Obj, phase: Obj, was: Obj, proration_behavior: str, now: int) -> None:
    subscription = call.fetch("subscription", schedule["subscription"])
    before = copied(subscription)
    contract = life.contract_of(call, subscription, now)
    _watch(schedule, phase, subscription, now)
    _set_terms(call, schedule, subscription, phase)
    draft = enter(call, contract, schedule, {**phase, "proration_behavior": proration_behavior}, now, was)
    if draft is not None:
        cycle.settled(draft.lines)
        life.bill(call, contract, draft, now, hold=subscription["collection_method"] == "send_invoice")
    life.changed(call, contract, before, now)


def _change_terms(call: Call, schedule: Obj, now: int) -> None:
    """Apply changed defaults to the subscription unless the current phase overrides them."""
    subscription = call.fetch("subscription", schedule["subscription"])
    before = copied(subscription)
    phase = schedule["phases"][schedule["_phase"]]
    _set_terms(call, schedule, subscription, phase)
    _watch(schedule, phase, subscription, now)
    subscription["automatic_tax"] = _automatic_tax(schedule, phase)
    life.updated(call, subscription, before, now)


@life.route("POST", "/v1/subscription_schedules/{schedule}/cancel")
def cancel(call: Call) -> Obj:
    """POST .../cancel: ends the schedule and its subscription now; by default bills usage and credits time."""
    schedule = call.fetch("subscription_schedule", call.args["schedule"])
    _running(schedule)
    if schedule["subscription"] is not None:
        subscription = call.fetch("subscription", schedule["subscription"])
        # Stripe: `invoice_now` and `prorate` default to true for a schedule that runs.
        subscriptions.end_now(
            call,
            subscription,
            invoice_now=call.params.get("invoice_now", True),
            prorate=call.params.get("prorate", True),
        )
        return call.fetch("subscription_schedule", schedule["id"])
    _cancel(call, schedule, call.now(schedule))
    return schedule


def _cancel(call: Call, schedule: Obj, at: int) -> None:
    schedule.update(status="canceled", canceled_at=at)
    keep(call, schedule)
    call.event("subscription_schedule.canceled", schedule, now=at)


def _cancel_planned(call: Call, customer: Obj) -> None:
    """Deleting a customer cancels its schedules."""
    for schedule in call.store.query("subscription_schedule", {"customer": customer["id"], "status": "not_started"}):
        _cancel(call, schedule, call.now(schedule))


customers.BEFORE_DELETION.append(_cancel_planned)


@life.route("POST", "/v1/subscription_schedules/{schedule}/release")
def release(call: Call) -> Obj:
    """POST .../release: the subscription continues without it."""
    schedule = call.fetch("subscription_schedule", call.args["schedule"])
    _running(schedule)
    now = call.now(schedule)
    if schedule["subscription"] is not None:
        subscription = call.fetch("subscription", schedule["subscription"])
        before = copied(subscription)
        subscription["schedule"] = None
        if subscription["cancel_at"] is not None and not call.params.get("preserve_cancel_date"):
            subscription.update(cancel_at=None, cancel_at_period_end=False, canceled_at=None)
        life.updated(call, subscription, before, now)
    _let_go(call, schedule, now)
    return schedule


# -- previews ---------------------------------------------------------------------------------------------------------


def preview(call: Call, params: Mapping[str, Any]) -> tuple[Contract, Draft | None, int]:
    """The next invoice of a schedule, as it is or with other phases. Works on copies.

    `schedule_details[phases]` without a schedule previews creating one.
    """
    details = params.get("schedule_details") or {}
    known = terms.Prices(call)
    if params.get("schedule"):
        schedule = copied(call.fetch("subscription_schedule", params["schedule"], param="schedule"))
        _running(schedule)
        now = call.now(schedule)
        schedule["end_behavior"] = details.get("end_behavior", schedule["end_behavior"])
        was = copied(schedule["phases"][schedule["_phase"]])
        present = _replace_phases(call, schedule, details["phases"], known, now) if "phases" in details else None
        _check_tax(call, schedule, known)
    else:
        if not params.get("customer"):
            raise refuse("missing", param="customer")
        schedule = _new(
            call,
            {**details, "customer": params["customer"], "start_date": _start_of(details)},
            known,
            "schedule_details[phases]",
        )
        now, present, was = call.now(schedule), None, None
    if schedule["subscription"] is None:
        return _preview_start(call, schedule)
    subscription = copied(call.fetch("subscription", schedule["subscription"]))
    contract = life.contract_of(call, subscription, now)
    if present is not None:
        _set_terms(call, schedule, subscription, present)
        behavior = details.get("proration_behavior", "create_prorations")
        draft = enter(call, contract, schedule, {**present, "proration_behavior": behavior}, now, was)
        if draft is not None:
            return contract, draft, now
    return _preview_next(call, schedule, contract)


def _start_of(details: Mapping[str, Any]) -> Any:
    phases = details.get("phases") or [{}]
    return phases[0].get("start_date", "now")


def _preview_start(call: Call, schedule: Obj) -> tuple[Contract, Draft | None, int]:
    customer = call.fetch("customer", schedule["customer"])
    phase = schedule["phases"][0]
    at = max(phase["start_date"], call.now(schedule))
    params = _subscription_params(call, schedule, phase, at)
    contract = subscriptions.new_contract(call, customer, params, terms.Prices(call, archived=True), at=at)
    return contract, terms.first_draft(call, contract, at, phase["proration_behavior"]), at


def _preview_next(call: Call, schedule: Obj, contract: Contract) -> tuple[Contract, Draft | None, int]:
    """The next bill: at the period's end, or when a phase changes before it."""
    while True:
        phase = schedule["phases"][schedule["_phase"]]
        at = life.next_bill(contract.subscription, waiting=bool(contract.pending))
        if at is None:
            raise refuse("no_upcoming", customer=schedule["customer"])
        if phase["end_date"] > at:
            return contract, cycle.bill_at(contract, at), at
        at = phase["end_date"]
        if schedule["_phase"] + 1 >= len(schedule["phases"]):
            if schedule["end_behavior"] == "cancel":
                return contract, cycle.close(contract, at), at
            at = life.next_bill(contract.subscription) or at
            return contract, cycle.bill_at(contract, at), at
        schedule["_phase"] += 1
        _set_terms(call, schedule, contract.subscription, schedule["phases"][schedule["_phase"]])
        contract.now = at
        draft = enter(call, contract, schedule, schedule["phases"][schedule["_phase"]], at)
        if draft is not None:
            return contract, draft, at
