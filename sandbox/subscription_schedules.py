"""Subscription schedules: create, retrieve, update, list, cancel, release; phases begin and end as time passes.

A schedule makes its subscription when its first phase begins and gives it each phase's items in turn. A phase that ends
with a billing period changes the items between two periods; one that ends within a period is prorated like any change.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, Final

from . import customers, life, subscriptions, taxation, terms
from .billing import cycle
from .billing.cycle import Contract, Draft
from .billing.lines import Obj
from .billing.periods import LONGEST_INTERVAL_COUNTS, Anchor, Interval
from .errors import refuse
from .router import Call, Kind, changes, declare_kind, route


def wire(call: Call, schedule: Obj) -> Obj:
    """A schedule as Stripe answers it: its phases with their tax rates."""
    return {**schedule, "phases": [_phase_wire(call, phase) for phase in schedule["phases"]]}


def _phase_wire(call: Call, phase: Obj) -> Obj:
    items = [{**item, "tax_rates": taxation.shown(call, item["tax_rates"])} for item in phase["items"]]
    return {**phase, "default_tax_rates": taxation.shown(call, phase["default_tax_rates"]), "items": items}


declare_kind(Kind("subscription_schedule", missing_param="schedule", noun="subscription schedule", wire=wire))

_OVER: Final = ("canceled", "completed", "released")
_NOT_IMPLEMENTED: Final = (
    "add_invoice_items",
    "application_fee_percent",
    "default_payment_method",
    "discounts",
    "on_behalf_of",
    "transfer_data",
)


# -- phases -----------------------------------------------------------------------------------------------------------


def _phases(
    call: Call,
    given: Sequence[Mapping[str, Any]],
    start: int,
    known: terms.Prices,
    where: str = "phases",
    held: Sequence[str] = (),
) -> list[Obj]:
    """Phases one after the other from `start`, checked and in Stripe's shape; `held` tax rates may be inactive."""
    terms.in_range(start, f"{where}[0][start_date]")
    if not given:
        raise refuse("missing", param=where)
    phases: list[Obj] = []
    for index, entry in enumerate(given):
        phase = _phase(call, entry, start, known, f"{where}[{index}]", held, last=index == len(given) - 1)
        phases.append(phase)
        start = phase["end_date"]
    return phases


def _phase(
    call: Call,
    given: Mapping[str, Any],
    start: int,
    known: terms.Prices,
    where: str,
    held: Sequence[str],
    *,
    last: bool,
) -> Obj:
    _refuse_unimplemented(given, where)
    items = [
        _phase_item(call, item, known, f"{where}[items][{index}]", held) for index, item in enumerate(given["items"])
    ]
    if not items:
        raise refuse("missing", param=f"{where}[items]")
    end = _phase_end(call, given, start, items, known, where, last=last)
    trial_end = given.get("trial_end")
    if given.get("trial"):
        trial_end = end
    elif trial_end not in (None, "now"):
        terms.in_range(int(trial_end), f"{where}[trial_end]")
    terms.check_thresholds(
        call,
        known,
        {"billing_thresholds": terms.thresholds(given.get("billing_thresholds"))},
        items,
        where,
        f"{where}[items]",
    )
    settings = given.get("invoice_settings")
    currency = str(given.get("currency") or known.get(items[0]["price"])["currency"]).lower()
    phase: Obj = {
        "add_invoice_items": [],
        "application_fee_percent": None,
        "billing_cycle_anchor": given.get("billing_cycle_anchor"),
        "billing_thresholds": terms.thresholds(given.get("billing_thresholds")),
        "collection_method": given.get("collection_method"),
        "currency": currency,
        "default_payment_method": None,
        "default_tax_rates": taxation.chosen(call, given.get("default_tax_rates"), f"{where}[default_tax_rates]", held),
        "description": given.get("description") or None,
        "discounts": [],
        "end_date": end,
        "invoice_settings": None
        if settings is None
        else {"account_tax_ids": None, "days_until_due": settings.get("days_until_due"), "issuer": None},
        "items": items,
        "metadata": call.metadata({}, given.get("metadata") or {}),
        "on_behalf_of": None,
        "proration_behavior": given.get("proration_behavior", "create_prorations"),
        "start_date": start,
        "transfer_data": None,
        "trial_end": None if trial_end in (None, "now") else trial_end,
    }
    if "automatic_tax" in given:
        phase["automatic_tax"] = taxation.automatic_tax(call, given["automatic_tax"], f"{where}[automatic_tax]")
    return phase


def _automatic_tax(schedule: Obj, phase: Obj) -> Obj:
    """Whether Stripe calculates tax during a phase: as the phase says, else as the schedule does."""
    held: Obj = phase.get("automatic_tax") or schedule["default_settings"]["automatic_tax"]
    return dict(held)


def _held_rates(schedule: Obj) -> list[str]:
    """Every tax rate that a schedule's phases name."""
    holders = [
        ids
        for phase in schedule["phases"]
        for ids in (phase["default_tax_rates"], *(item["tax_rates"] for item in phase["items"]))
    ]
    return [id for ids in holders for id in ids]


def _check_tax(call: Call, schedule: Obj, known: terms.Prices) -> None:
    """The rules of tax for the phases that are still to run or running."""
    for phase in schedule["phases"][max(schedule["_phase"], 0) :]:
        automatic = _automatic_tax(schedule, phase)
        if automatic["enabled"]:
            taxation.require_location(call.fetch("customer", schedule["customer"]))
        held = {
            "automatic_tax": automatic,
            "currency": phase["currency"],
            "default_tax_rates": phase["default_tax_rates"],
        }
        terms.check_tax(call, known, held, phase["items"])


def _refuse_unimplemented(given: Mapping[str, Any], where: str) -> None:
    for name in _NOT_IMPLEMENTED:
        if given.get(name):
            raise refuse("not_implemented_param", param=f"{where}[{name}]" if where else name)


def _phase_item(call: Call, given: Mapping[str, Any], known: terms.Prices, where: str, held: Sequence[str]) -> Obj:
    for name in ("discounts",):
        if given.get(name):
            raise refuse("not_implemented_param", param=f"{where}[{name}]")
    price = known.find(given, where)
    made = terms.new_item(call, given, price, "", 0, where, held)
    item: Obj = {
        "billing_thresholds": made["billing_thresholds"],
        "discounts": [],
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
        every = Interval(given["duration"]["interval"], given["duration"].get("interval_count", 1))
        if not 0 < every.count <= LONGEST_INTERVAL_COUNTS[every.unit]:
            rule = f"1 to {LONGEST_INTERVAL_COUNTS[every.unit]}"
            raise refuse("out_of_range", param=f"{where}[duration][interval_count]", rule=rule)
        end = Anchor(start).boundary(every, 1)
    elif last:
        intervals = [Interval.of(known.get(item["price"])["recurring"]) for item in items]
        end = Anchor(start).boundary(min(intervals, key=lambda interval: interval.length), 1)
    else:
        raise refuse("missing", param=f"{where}[end_date]")
    if end <= start:
        raise refuse("schedule_dates")
    return end


def _items_of(call: Call, phase: Obj, subscription: Obj, at: int) -> list[Obj]:
    """A phase's items for a subscription: those of the same price keep their id."""
    present = {item["price"]: item for item in subscription["items"]["data"]}
    items: list[Obj] = []
    for entry in phase["items"]:
        price = call.fetch("price", entry["price"])
        item = copy.deepcopy(present.get(entry["price"]))
        if item is None:
            given = {"quantity": entry["quantity"]} if "quantity" in entry else {}
            item = terms.new_item(call, given, price, subscription["id"], at, "items")
        item["quantity"] = entry.get("quantity")
        item["tax_rates"] = list(entry["tax_rates"])
        item["metadata"] = dict(entry["metadata"])
        item["billing_thresholds"] = entry["billing_thresholds"]
        items.append(item)
    return items


def _subscription_params(schedule: Obj, phase: Obj) -> dict[str, Any]:
    """The create parameters of the subscription that a schedule's first phase begins."""
    defaults = schedule["default_settings"]
    params: dict[str, Any] = {
        "billing_mode": schedule["billing_mode"],
        "currency": phase["currency"],
        "items": [
            {
                name: item[name]
                for name in ("price", "quantity", "metadata", "billing_thresholds", "tax_rates")
                if name in item
            }
            for item in phase["items"]
        ],
        "automatic_tax": _automatic_tax(schedule, phase),
        "default_tax_rates": phase["default_tax_rates"],
        "metadata": dict(phase["metadata"]),
        "proration_behavior": phase["proration_behavior"],
        **_collection(schedule, phase),
    }
    params["billing_mode"] = {name: value for name, value in params["billing_mode"].items() if name != "updated_at"}
    if phase["description"] or defaults["description"]:
        params["description"] = phase["description"] or defaults["description"]
    if phase["trial_end"] is not None:
        params["trial_end"] = phase["trial_end"]
    if held := _thresholds(schedule, phase):
        params["billing_thresholds"] = held
    return params


def _thresholds(schedule: Obj, phase: Obj) -> Obj | None:
    """A phase's billing thresholds, the schedule's where it has none of its own."""
    held: Obj | None = phase["billing_thresholds"] or schedule["default_settings"]["billing_thresholds"]
    return held


def _collection(schedule: Obj, phase: Obj) -> dict[str, Any]:
    defaults = schedule["default_settings"]
    method = phase["collection_method"] or defaults["collection_method"] or "charge_automatically"
    days = (phase["invoice_settings"] or {}).get("days_until_due")
    if days is None:
        days = defaults["invoice_settings"]["days_until_due"]
    params: dict[str, Any] = {"collection_method": method}
    if method == "send_invoice":
        params["days_until_due"] = days
    return params


# -- creating and reading ---------------------------------------------------------------------------------------------


@route("POST", "/v1/subscription_schedules")
def create(call: Call) -> Obj:
    """POST /v1/subscription_schedules: from phases, or around a subscription that exists."""
    life.settle(call)
    params = call.params
    if params.get("customer_account"):
        raise refuse("not_implemented_param", param="customer_account")
    if params.get("from_subscription"):
        return _create_around(call, params)
    if not params.get("customer"):
        raise refuse("schedule_from")
    schedule = _new(call, params, terms.Prices(call))
    keep(call, schedule)
    call.event("subscription_schedule.created", schedule)
    if schedule["phases"][0]["start_date"] <= call.now(schedule):
        step(call, schedule, call.now(schedule))
    return schedule


def _new(call: Call, params: Mapping[str, Any], known: terms.Prices, where: str = "phases") -> Obj:
    customer = call.fetch("customer", params["customer"], param="customer")
    now = call.now(customer)
    start = params.get("start_date", "now")
    if start != "now" and start < now:
        raise refuse("not_implemented_param", param="start_date in the past")
    schedule = _empty(call, params, customer, now)
    schedule["phases"] = _phases(call, params.get("phases") or (), now if start == "now" else start, known, where)
    _check_tax(call, schedule, known)
    return schedule


def _empty(call: Call, params: Mapping[str, Any], customer: Obj, now: int) -> Obj:
    if params.get("end_behavior") in ("none", "renew"):
        raise refuse("not_implemented_param", param=f"end_behavior={params['end_behavior']}")
    mode = params.get("billing_mode") or {"type": "flexible"}
    billing_mode: Obj = {"type": mode["type"], "updated_at": now}
    if mode["type"] == "flexible":
        chosen = (mode.get("flexible") or {}).get("proration_discounts", "included")
        billing_mode["flexible"] = {"proration_discounts": chosen}
    schedule: Obj = {
        "id": call.mint("sub_sched_1", 23),
        "object": "subscription_schedule",
        "application": None,
        "billing_mode": billing_mode,
        "canceled_at": None,
        "completed_at": None,
        "created": now,
        "current_phase": None,
        "customer": customer["id"],
        "customer_account": None,
        "default_settings": {
            "application_fee_percent": None,
            "automatic_tax": dict(taxation.NO_AUTOMATIC_TAX),
            "billing_cycle_anchor": "automatic",
            "billing_thresholds": None,
            "collection_method": "charge_automatically",
            "default_payment_method": None,
            "description": None,
            "invoice_settings": {
                "account_tax_ids": None,
                "custom_fields": None,
                "days_until_due": None,
                "description": None,
                "footer": None,
                "issuer": {"type": "self"},
            },
            "on_behalf_of": None,
            "transfer_data": None,
        },
        "end_behavior": params.get("end_behavior", "release"),
        "livemode": call.livemode,
        "metadata": call.metadata({}, params.get("metadata") or {}),
        "phases": [],
        "released_at": None,
        "released_subscription": None,
        "status": "not_started",
        "subscription": None,
        "test_clock": customer.get("test_clock"),
        # The phase that has begun; -1 before the first.
        "_phase": -1,
    }
    _defaults(call, schedule, params.get("default_settings") or {})
    return schedule


def _defaults(call: Call, schedule: Obj, given: Mapping[str, Any]) -> None:
    _refuse_unimplemented(given, "default_settings")
    defaults = schedule["default_settings"]
    if given.get("billing_cycle_anchor") == "phase_start":
        raise refuse("not_implemented_param", param="default_settings[billing_cycle_anchor]=phase_start")
    for name in ("collection_method", "description"):
        if name in given:
            defaults[name] = given[name] or None
    if "billing_thresholds" in given:
        defaults["billing_thresholds"] = terms.thresholds(given["billing_thresholds"], defaults["billing_thresholds"])
    if "automatic_tax" in given:
        defaults["automatic_tax"] = taxation.automatic_tax(
            call, given["automatic_tax"], "default_settings[automatic_tax]"
        )
    for name in ("custom_fields", "days_until_due", "description", "footer"):
        if name in (given.get("invoice_settings") or {}):
            value = given["invoice_settings"][name]
            defaults["invoice_settings"][name] = None if value == "" else value


def _create_around(call: Call, params: Mapping[str, Any]) -> Obj:
    """A schedule of one phase, the present period of a subscription, which later updates add phases to."""
    for name in ("customer", "phases", "start_date", "default_settings", "billing_mode", "end_behavior"):
        if params.get(name):
            raise refuse("only_one", param="from_subscription", names=f"from_subscription, {name}")
    subscription = call.fetch("subscription", params["from_subscription"], param="from_subscription", status=400)
    if subscription["status"] in life.ENDED:
        raise refuse("subscription_canceled")
    if subscription["schedule"]:
        raise refuse("schedule_taken", subscription=subscription["id"], schedule=subscription["schedule"])
    if subscription["billing_schedules"]:
        raise refuse("prebill", param="from_subscription", rule="they do not go with a subscription schedule")
    customer = call.fetch("customer", subscription["customer"])
    now = call.now(customer)
    schedule = _empty(call, {"metadata": params.get("metadata")}, customer, now)
    items = subscription["items"]["data"]
    schedule["billing_mode"] = dict(subscription["billing_mode"])
    schedule["default_settings"]["automatic_tax"] = dict(subscription["automatic_tax"])
    schedule["default_settings"]["collection_method"] = subscription["collection_method"]
    schedule["default_settings"]["billing_thresholds"] = subscription["billing_thresholds"]
    schedule["default_settings"]["invoice_settings"]["days_until_due"] = subscription["days_until_due"]
    end = min(item["current_period_end"] for item in items)
    phase: Obj = {
        "add_invoice_items": [],
        "application_fee_percent": None,
        "billing_cycle_anchor": None,
        "billing_thresholds": subscription["billing_thresholds"],
        "collection_method": None,
        "currency": subscription["currency"],
        "default_payment_method": None,
        "default_tax_rates": list(subscription["default_tax_rates"]),
        "description": subscription["description"],
        "discounts": [],
        "end_date": end,
        "invoice_settings": None,
        "items": [
            {
                "billing_thresholds": item["billing_thresholds"],
                "discounts": [],
                "metadata": dict(item["metadata"]),
                "price": item["price"],
                "tax_rates": list(item["tax_rates"]),
                **({} if item["quantity"] is None else {"quantity": item["quantity"]}),
            }
            for item in items
        ],
        "metadata": {},
        "on_behalf_of": None,
        "proration_behavior": "create_prorations",
        "start_date": min(item["current_period_start"] for item in items),
        "transfer_data": None,
        "trial_end": subscription["trial_end"] if subscription["status"] == "trialing" else None,
    }
    schedule.update(phases=[phase], status="active", subscription=subscription["id"], _phase=0)
    keep(call, schedule)
    subscription["schedule"] = schedule["id"]
    life.put(call, subscription)
    call.event("subscription_schedule.created", schedule)
    return schedule


def keep(call: Call, schedule: Obj) -> None:
    """Store a schedule with the moment of its next step, and show the phase that runs."""
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
    clock = schedule["test_clock"] is not None
    schedule["_due"], schedule["_clock_due"] = (None, due) if clock else (due, None)
    call.store.put(schedule)


@route("GET", "/v1/subscription_schedules/{schedule}", writes=True)
def retrieve(call: Call) -> Obj:
    """GET /v1/subscription_schedules/{schedule}."""
    life.settle(call)
    return call.fetch("subscription_schedule", call.args["schedule"])


@route("GET", "/v1/subscription_schedules", writes=True)
def list_schedules(call: Call) -> Obj:
    """GET /v1/subscription_schedules, filtered by customer, state and times."""
    life.settle(call)
    params = call.params
    if params.get("customer_account"):
        raise refuse("not_implemented_param", param="customer_account")
    where: dict[str, Any] = {
        name: params[name] for name in ("customer", "canceled_at", "completed_at", "released_at") if name in params
    }
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
        _start(call, schedule)
    elif call.fetch("subscription", schedule["subscription"])["status"] in life.ENDED:
        _cancel(call, schedule, at)
    else:
        schedule["_phase"] = number
        _next_phase(call, schedule, schedule["phases"][number], at)
        keep(call, schedule)
        call.event("subscription_schedule.updated", schedule, now=at)


life.STEPS["subscription_schedule"] = step


def _start(call: Call, schedule: Obj) -> None:
    customer = call.fetch("customer", schedule["customer"])
    phase = schedule["phases"][0]
    params = _subscription_params(schedule, phase)
    contract = subscriptions.new_contract(
        call, customer, params, terms.Prices(call, archived=True), at=phase["start_date"]
    )
    contract.subscription["schedule"] = schedule["id"]
    subscriptions.begin(call, contract, params, hold=True)
    schedule.update(status="active", subscription=contract.subscription["id"], _phase=0)
    keep(call, schedule)
    call.event("subscription_schedule.updated", schedule, {"status": "not_started"}, now=phase["start_date"])


def _next_phase(call: Call, schedule: Obj, phase: Obj, at: int) -> None:
    subscription = call.fetch("subscription", schedule["subscription"])
    before = copy.deepcopy(subscription)
    contract = life.contract_of(call, subscription, at)
    terms.collection(subscription, _collection(schedule, phase))
    if phase["description"] is not None:
        subscription["description"] = phase["description"]
    subscription["metadata"] = {**subscription["metadata"], **phase["metadata"]}
    _watch(schedule, phase, subscription, at)
    draft = enter(call, contract, schedule, phase, at)
    if draft is not None:
        life.bill(call, contract, draft, at, hold=True)
    life.keep(call, contract, before=before, event="customer.subscription.updated", at=at)


def _watch(schedule: Obj, phase: Obj, subscription: Obj, at: int) -> None:
    subscription["billing_thresholds"] = _thresholds(schedule, phase)
    # What has accrued already may reach what the phase sets.
    subscription["_stirred"] = at


def enter(call: Call, contract: Contract, schedule: Obj, phase: Obj, at: int) -> Draft | None:
    """Give a subscription a phase's items and taxes; what is billed at once. Changes nothing but the contract."""
    contract.subscription["automatic_tax"] = _automatic_tax(schedule, phase)
    contract.subscription["default_tax_rates"] = list(phase["default_tax_rates"])
    draft = _enter(call, contract, phase, at)
    terms.refuse_unclear_prorations(contract)
    cycle.name_periods(contract, contract.pending)
    return draft


def _enter(call: Call, contract: Contract, phase: Obj, at: int) -> Draft | None:
    subscription = contract.subscription
    after = _items_of(call, phase, subscription, at)
    terms.check_items(terms.Prices(call), subscription, after, contract.items)
    behavior = phase["proration_behavior"]
    if phase["trial_end"] is not None and phase["trial_end"] > at:
        cycle.change_items(contract, after, at, behavior)
        return cycle.begin_trial(contract, at, phase["trial_end"], behavior)
    intervals = [{contract.interval(item) for item in items} for items in (contract.items, after)]
    if phase["billing_cycle_anchor"] == "phase_start" or (
        len(intervals[0]) == len(intervals[1]) == 1 and intervals[0] != intervals[1]
    ):
        return cycle.restart(contract, after, at, behavior)
    if cycle.renewal_due(contract) <= at:
        return cycle.renew(contract, at, after=after)
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
        life.end(call, contract, at, reason=None)
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


@route("POST", "/v1/subscription_schedules/{schedule}")
def update(call: Call) -> Obj:
    """POST /v1/subscription_schedules/{schedule}: the present phase, changed at once, and those to come."""
    life.settle(call)
    params = call.params
    schedule = call.fetch("subscription_schedule", call.args["schedule"])
    _running(schedule)
    old = copy.deepcopy(schedule)
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
        _change_present(call, schedule, present, params.get("proration_behavior", "create_prorations"), now)
    elif "automatic_tax" in (params.get("default_settings") or {}) and schedule["subscription"] is not None:
        _tax_present(call, schedule, now)
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
    """Put other phases in place of the present and coming ones; the present phase where there is one.

    Phases that are over may be left out or repeated; the one that runs comes first among the rest, from its own start.
    """
    number = schedule["_phase"]
    if number < 0:
        start = given[0].get("start_date", schedule["phases"][0]["start_date"]) if given else now
        begins = now if start == "now" else int(start)
        schedule["phases"] = _phases(call, given, begins, known, held=_held_rates(schedule))
        return None
    present = schedule["phases"][number]
    past = {phase["start_date"] for phase in schedule["phases"][:number]}
    rest = [entry for entry in given if entry.get("start_date") not in past]
    if not rest or rest[0].get("start_date", present["start_date"]) not in ("now", present["start_date"]):
        raise refuse("schedule_past")
    phases = _phases(call, rest, present["start_date"], known, held=_held_rates(schedule))
    if phases[0]["end_date"] <= now:
        raise refuse("schedule_dates")
    schedule["phases"] = [*schedule["phases"][:number], *phases]
    return phases[0]


def _change_present(call: Call, schedule: Obj, phase: Obj, proration_behavior: str, now: int) -> None:
    subscription = call.fetch("subscription", schedule["subscription"])
    before = copy.deepcopy(subscription)
    contract = life.contract_of(call, subscription, now)
    _watch(schedule, phase, subscription, now)
    draft = enter(call, contract, schedule, {**phase, "proration_behavior": proration_behavior}, now)
    if draft is not None:
        life.bill(call, contract, draft, now, hold=subscription["collection_method"] == "send_invoice")
    life.keep(call, contract, before=before, event="customer.subscription.updated", at=now)


def _tax_present(call: Call, schedule: Obj, now: int) -> None:
    """Let the subscription of a running schedule follow what its default settings say of automatic tax."""
    subscription = call.fetch("subscription", schedule["subscription"])
    before = copy.deepcopy(subscription)
    subscription["automatic_tax"] = _automatic_tax(schedule, schedule["phases"][schedule["_phase"]])
    contract = life.contract_of(call, subscription, now, alone=True)
    life.keep(call, contract, before=before, event="customer.subscription.updated", at=now)


@route("POST", "/v1/subscription_schedules/{schedule}/cancel")
def cancel(call: Call) -> Obj:
    """POST .../cancel: the schedule and its subscription end now; usage billed and time credited unless told not to."""
    life.settle(call)
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
    """A customer that is deleted takes what was planned for it along."""
    for schedule in call.store.query("subscription_schedule", {"customer": customer["id"], "status": "not_started"}):
        _cancel(call, schedule, call.now(schedule))


customers.BEFORE_DELETION.append(_cancel_planned)


@route("POST", "/v1/subscription_schedules/{schedule}/release")
def release(call: Call) -> Obj:
    """POST .../release: the subscription goes on by itself."""
    life.settle(call)
    schedule = call.fetch("subscription_schedule", call.args["schedule"])
    _running(schedule)
    now = call.now(schedule)
    if schedule["subscription"] is not None:
        subscription = call.fetch("subscription", schedule["subscription"])
        before = copy.deepcopy(subscription)
        subscription["schedule"] = None
        if subscription["cancel_at"] is not None and not call.params.get("preserve_cancel_date"):
            subscription.update(cancel_at=None, cancel_at_period_end=False, canceled_at=None)
        contract = life.contract_of(call, subscription, now, alone=True)
        life.keep(call, contract, before=before, event="customer.subscription.updated", at=now)
    _let_go(call, schedule, now)
    return schedule


# -- previews ---------------------------------------------------------------------------------------------------------


def preview(call: Call, params: Mapping[str, Any]) -> tuple[Contract, Draft | None, int]:
    """The next invoice of a schedule as it is, or with other phases. Works on copies.

    `schedule_details[phases]` without a schedule previews creating one.
    """
    details = params.get("schedule_details") or {}
    known = terms.Prices(call)
    _refuse_price_data(details)
    if params.get("schedule"):
        schedule = copy.deepcopy(call.fetch("subscription_schedule", params["schedule"], param="schedule"))
        _running(schedule)
        now = call.now(schedule)
        schedule["end_behavior"] = details.get("end_behavior", schedule["end_behavior"])
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
        now, present = call.now(schedule), None
    if schedule["subscription"] is None:
        return _preview_start(call, schedule, known)
    subscription = copy.deepcopy(call.fetch("subscription", schedule["subscription"]))
    contract = life.contract_of(call, subscription, now)
    if present is not None:
        behavior = details.get("proration_behavior", "create_prorations")
        draft = enter(call, contract, schedule, {**present, "proration_behavior": behavior}, now)
        if draft is not None:
            return contract, draft, now
    return _preview_next(call, schedule, contract)


def _start_of(details: Mapping[str, Any]) -> Any:
    phases = details.get("phases") or [{}]
    return phases[0].get("start_date", "now")


def _refuse_price_data(details: Mapping[str, Any]) -> None:
    """A preview must not make prices, and phases hold prices by id."""
    for index, phase in enumerate(details.get("phases") or ()):
        for number, item in enumerate(phase["items"]):
            if item.get("price_data"):
                where = f"schedule_details[phases][{index}][items][{number}][price_data]"
                raise refuse("not_implemented_param", param=where)


def _preview_start(call: Call, schedule: Obj, known: terms.Prices) -> tuple[Contract, Draft | None, int]:
    customer = call.fetch("customer", schedule["customer"])
    phase = schedule["phases"][0]
    contract = subscriptions.new_contract(
        call, customer, _subscription_params(schedule, phase), known, at=phase["start_date"]
    )
    return contract, cycle.begin(contract, phase["start_date"], phase["proration_behavior"]), phase["start_date"]


def _preview_next(call: Call, schedule: Obj, contract: Contract) -> tuple[Contract, Draft | None, int]:
    """What is billed next: by the period's end, or by a phase that changes before it."""
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
        draft = enter(call, contract, schedule, schedule["phases"][schedule["_phase"]], at)
        if draft is not None:
            return contract, draft, at
