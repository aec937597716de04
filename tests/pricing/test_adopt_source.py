"""The source of a model: it says exactly what the model says, on the lines that ruff would make."""

from __future__ import annotations

import ast
from decimal import Decimal
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from components import pricing
from components.pricing import Fee, Overage, Plan, Tier, Usage, Version
from components.terms import price_parameters, terms
from pricing.adopt import source as adopt_source
from pricing.adopt.plans import charge_of
from pricing.adopt.source import Call, Name, hoisted, program, versions

CODES = ("usd", "eur", "jpy")


def amounts(codes: tuple[str, ...]) -> st.SearchStrategy[Any]:
    """An amount in major units that is a whole number of minor units times up to ten thousand."""
    one = st.integers(0, 10**7).map(lambda number: str(number))
    return one if len(codes) == 1 else st.fixed_dictionaries(dict.fromkeys(codes, one))


@st.composite
def usages(draw: st.DrawFn, codes: tuple[str, ...]) -> Usage:
    every: dict[str, Any] = {"key": draw(st.sampled_from(["usage", "calls"]))}
    if draw(st.booleans()):
        every["interval"] = "year"
    per = draw(st.sampled_from([1, 10, 1_000]))
    match draw(st.sampled_from(["overage", "packages", "tiers", "volume"])):
        case "overage":
            return Usage(
                "token", included=draw(st.integers(0, 5_000)), overage=Overage(draw(amounts(codes)), per=per), **every
            )
        case "packages":
            return Usage("token", overage=Overage(draw(amounts(codes)), per=per, round="up"), **every)
        case mode:
            ends = sorted(draw(st.sets(st.integers(1, 10**6), min_size=1, max_size=3)))
            flats = st.none() | amounts(codes)
            tiers = [Tier(draw(amounts(codes)), per=per, up_to=end, flat=draw(flats)) for end in (*ends, None)]
            return Usage("token", tiers=tiers, tiers_mode="volume" if mode == "volume" else "graduated", **every)


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    codes = draw(st.sampled_from([CODES[:1], CODES[:2], CODES, ("jpy",)]))
    fees = [Fee(draw(amounts(codes)), interval=draw(st.sampled_from(["month", "year"])))] if draw(st.booleans()) else []
    usage = [draw(usages(codes))] if draw(st.booleans()) or not fees else []
    name = draw(st.text("aé\"'\\ \n{", min_size=1, max_size=9))
    return Plan(name, fees=fees, usage=usage, currency=codes[0])


def said(value: Any) -> Any:
    """What an expression of the source is worth."""
    return eval(
        value, {name: getattr(pricing, name) for name in ("Fee", "Overage", "Plan", "Tier", "Usage", "Version")}
    )


@settings(max_examples=80, deadline=None)
@given(plans())
def test_a_plan_is_worth_what_its_source_says(plan: Plan) -> None:
    assert said(adopt_source._flat(adopt_source.plan(plan))) == plan


@settings(max_examples=80, deadline=None)
@given(plans())
def test_the_layout_changes_nothing(plan: Plan) -> None:
    call = Call(
        "PublishedPlan", ["a-plan", versions({1: Version(plan), 2: Version(plan, rollout="keep")})], {"x": Name("y")}
    )
    text = program("", [("variable", call)], dict.fromkeys(("PublishedPlan", *vars(pricing)), "components"))
    flat = f"with program():\n    variable = {adopt_source._flat(call)}"
    assert ast.dump(ast.parse(text).body[-1]) == ast.dump(ast.parse(flat).body[-1])


@settings(max_examples=80, deadline=None)
@given(plans())
def test_a_price_of_stripes_becomes_the_charge_that_costs_the_same(plan: Plan) -> None:
    for charge in plan.charges:
        meter = "mtr_1" if isinstance(charge, Usage) else None
        price = as_stripe_returns(price_parameters(plan, charge, meter))
        found = charge_of(price, charge.key, lambda _: ("token", "tokens", None))  # type: ignore[arg-type]
        again = Plan(
            plan.name,
            fees=[found] if isinstance(found, Fee) else [],
            usage=[found] if isinstance(found, Usage) else [],
            currency=plan.currency,
        )
        before = {**terms(plan)[charge.key], **({"per": "seat"} if meter is None else {})}
        assert without_free_flats(terms(again)[charge.key]) == without_free_flats(before)


def without_free_flats(value: Any) -> Any:
    """A flat amount of 0 is none."""
    if isinstance(value, dict):
        return {n: without_free_flats(v) for n, v in value.items() if (n, v) != ("flat_amount_decimal", "0")}
    return [without_free_flats(each) for each in value] if isinstance(value, list) else value


def as_stripe_returns(parameters: dict[str, Any]) -> dict[str, Any]:
    """Every field that Stripe has, empty ones too; its own currency among the options."""

    def amount(there: dict[str, Any]) -> dict[str, Any]:
        tiers = [
            {"flat_amount": None, **each, "up_to": None if each["up_to"] == "inf" else each["up_to"]}
            for each in there.get("tiers", [])
        ]
        return {"unit_amount_decimal": None, **there, "tiers": tiers or None, "tax_behavior": "unspecified"}

    recurring = {"interval_count": 1, "trial_period_days": None, "meter": None, **parameters["recurring"]}
    options = {code: amount(each) for code, each in parameters.get("currency_options", {}).items()}
    own = amount({name: each for name, each in parameters.items() if name in ("unit_amount_decimal", "tiers")})
    return {
        "billing_scheme": "per_unit",
        "transform_quantity": None,
        **amount(parameters),
        "recurring": recurring,
        "currency_options": {**options, parameters["currency"]: own},
    }


def test_a_charge_that_several_have_is_written_once() -> None:
    usage = adopt_source.plan(Plan("A", usage=Usage("token", included=1_000, overage=Overage("0.04", per=100))))
    found = hoisted([(None, Call("PublishedPlan", [name, usage])) for name in ("a", "b")], lambda name: name)
    assert [variable for variable, _ in found] == ["tokens", None, None]
    assert found[1][1].arguments[1].keywords == {"usage": Name("tokens")}


def test_text_is_in_ruffs_quotes() -> None:
    assert [adopt_source.text(each) for each in ('a"b', "a'b", "a\"b'c", "a\\n\n")] == [
        "'a\"b'",
        '"a\'b"',
        '"a\\"b\'c"',
        '"a\\\\n\\n"',
    ]


def test_amounts_have_the_decimals_of_their_currency() -> None:
    shown = [
        adopt_source._amount(Decimal(each), code) for each, code in (("100", "usd"), ("0.0004", "usd"), ("5", "jpy"))
    ]
    assert shown == ["100.00", "0.0004", "5"]
