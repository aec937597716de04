"""Migrates sandbox files of earlier formats to the present one: one step per format, in order, in one transaction.

To change the stored shape, raise `store.FORMAT`, add the step from the previous format here, and leave the existing
steps unchanged. `tests/sandbox/fixtures` has files from earlier commits, at least one for each format; every later
commit opens them.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from typing import Any, Final

from .wire import Obj


def migrate(connection: sqlite3.Connection, found: int, wanted: int) -> None:
    """Migrate every table and object from the format `found` to `wanted`; KeyError if there is no step."""
    while found != wanted:
        found, step = STEPS[found]
        step(connection)


def _each(connection: sqlite3.Connection, changes: dict[str, Callable[[Obj], None]]) -> None:
    """Change the stored objects of some kinds in place."""
    kinds = ",".join("?" * len(changes))
    rows = connection.execute(f"SELECT seq, kind, body FROM objects WHERE kind IN ({kinds})", list(changes)).fetchall()
    for seq, kind, body in rows:
        obj = json.loads(body)
        changes[kind](obj)
        connection.execute("UPDATE objects SET body = ? WHERE seq = ?", (json.dumps(obj, separators=(",", ":")), seq))


def _each_snapshot(connection: sqlite3.Connection, changes: dict[str, Callable[[Obj], None]]) -> None:
    """Change the objects of some kinds inside events, which are in their answered form."""

    def change(event: Obj) -> None:
        snapshot = event["data"]["object"]
        if snapshot["object"] in changes:
            changes[snapshot["object"]](snapshot)

    _each(connection, {"event": change})


def _fill(obj: Obj, **defaults: Any) -> None:
    """Add missing fields to an object."""
    for name, value in defaults.items():
        obj.setdefault(name, value)


# -- from files without a format to 2 ---------------------------------------------------------------------------------


def _invoice_to_2(invoice: Obj) -> None:
    invoice.pop("_payment_method", None)
    _fill(invoice, _application_fee_amount=None, _discounts=[], _transfer_data=None)
    for line in invoice["lines"]["data"]:
        _fill(line, _backed_out=0, _discounts=[], _subscription=line.pop("subscription", None), _tax_rates=[])
        for details in (line.get("parent") or {}).values():
            if isinstance(details, dict) and details.get("proration_details", "") is None:
                details["proration_details"] = {"credited_items": None}


def _subscription_to_2(subscription: Obj) -> None:
    subscription.pop("_item_ids", None)
    items = subscription["items"]["data"]
    _fill(subscription, _pending_plan=None, _stirred=None, _watched=None)
    _fill(subscription, _pointers={item["id"]: item["price"] for item in items})
    subscription["managed_payments"] = subscription.get("managed_payments") or {"enabled": False}
    subscription["trial_settings"] = subscription.get("trial_settings") or {"end_behavior": {}}
    _fill(
        subscription["trial_settings"]["end_behavior"],
        billing_cycle_anchor="now",
        missing_payment_method="create_invoice",
    )
    for item in items:
        _fill(item, _billed=None, _counted="0", _debits=[])
        for debit in item["_debits"]:
            debit.pop("source", None)
            _fill(debit, off={})


def _schedule_to_2(schedule: Obj) -> None:
    _fill(schedule["default_settings"], automatic_tax={"disabled_reason": None, "enabled": False, "liability": None})


def _to_2(connection: sqlite3.Connection) -> None:
    # Requests in progress have ended, and a rate limit's second too.
    connection.execute("DROP TABLE IF EXISTS in_flight")
    connection.execute("DROP TABLE IF EXISTS buckets")
    _each(
        connection,
        {"invoice": _invoice_to_2, "subscription": _subscription_to_2, "subscription_schedule": _schedule_to_2},
    )


# -- from 2 to 3 ------------------------------------------------------------------------------------------------------


def _subscription_to_3(subscription: Obj) -> None:
    for item in subscription["items"]["data"]:
        for debit in item["_debits"]:
            # The lines that billed it are no longer known: a credit from it names none.
            _fill(debit, invoice=None, item=None, lines=[])


def _subscription_shown_to_3(subscription: Obj) -> None:
    for item in subscription["items"]["data"]:
        _fill(item, current_trial=None)


def _to_3(connection: sqlite3.Connection) -> None:
    connection.execute("DROP TABLE IF EXISTS in_flight")
    columns = {row[1] for row in connection.execute("PRAGMA table_info(meter_events)")}
    if columns and "fraction" not in columns:
        connection.execute("ALTER TABLE meter_events ADD COLUMN fraction INTEGER NOT NULL DEFAULT 0")
    _each(
        connection,
        {
            "customer": lambda customer: _fill(customer, customer_account=None),
            "invoiceitem": lambda item: _fill(item, frozen_fields=[]),
            "subscription": _subscription_to_3,
        },
    )
    _each_snapshot(connection, {"subscription": _subscription_shown_to_3})


#: By format: the next one, and the step to it. Files from before 23 November 2026 say 0.
STEPS: Final[dict[int, tuple[int, Callable[[sqlite3.Connection], None]]]] = {0: (2, _to_2), 2: (3, _to_3)}
