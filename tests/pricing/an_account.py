"""An account that nobody has declared: products, prices and subscriptions as years of scripts leave them."""

from __future__ import annotations

from random import Random
from typing import Any

from tests.components.world import World, invoiced

CURRENCIES = ("eur", "gbp", "jpy")


class Made:
    """What the generator has made, by a seed.

    Attributes:
        paid_archived: archived prices that a subscription pays.
    """

    def __init__(self, world: World, seed: int) -> None:
        self.world, self.random = world, Random(seed)
        self.paid_archived: list[str] = []
        self._customers = 0
        self._events = 0

    def post(self, path: str, **params: Any) -> dict[str, Any]:
        return self.world.stripe("post", path, **params)

    def products(self, count: int) -> Made:
        """So many products, each of a kind that accounts have."""
        kinds = (
            self.fee,
            self.fee,
            self.usage,
            self.tiers,
            self.grandfathered,
            self.alternatives,
            self.dead,
            self.once,
        )
        for number in range(count):
            kinds[number % len(kinds)](f"{self.random.choice(WORDS)} {number}")
        self.coupons()
        return self

    # -- kinds of products ----------------------------------------------------------------------------------------

    def product(self, name: str, **more: Any) -> str:
        if self.random.random() < 0.3:
            more["description"] = f'The "{name}" plan: it\'s for teams'
        return str(self.post("/v1/products", name=name, **more)["id"])

    def price(self, product: str, **more: Any) -> str:
        return str(self.post("/v1/prices", product=product, **{"currency": "usd", **more})["id"])

    def fee(self, name: str) -> None:
        """A monthly or yearly fee, mostly the default price, sometimes in several currencies or with a lookup key."""
        product, amount = self.product(name), self.random.randrange(100, 90_000)
        more: dict[str, Any] = {}
        if self.random.random() < 0.3:
            codes = self.random.sample(CURRENCIES, 2)
            more["currency_options"] = {code: {"unit_amount": amount + len(code)} for code in codes}
        if self.random.random() < 0.4:
            more["lookup_key"] = f"{name.lower().replace(' ', '_')}_monthly"
        interval = self.random.choice(["month", "month", "year"])
        price = self.price(product, unit_amount=amount, recurring={"interval": interval}, **more)
        if self.random.random() < 0.7:
            self.post(f"/v1/products/{product}", default_price=price)

    def usage(self, name: str) -> None:
        """A fee and usage with an allowance, by a meter of its own."""
        product = self.product(name)
        fee = self.price(product, unit_amount=self.random.randrange(1_000, 9_000), recurring={"interval": "month"})
        self.post(f"/v1/products/{product}", default_price=fee)
        free = self.random.randrange(1, 100) * 100
        tiers: list[dict[str, Any]] = [
            {"up_to": free, "unit_amount": 0},
            {"up_to": "inf", "unit_amount_decimal": "0.04"},
        ]
        self.metered(product, self.meter(f"{name} tokens"), tiers)

    def tiers(self, name: str) -> None:
        """Usage in tiers, some with amounts of twelve decimals, a flat amount, and other currencies."""
        product = self.product(name)
        tiers: list[dict[str, Any]] = [
            {"up_to": 10, "unit_amount_decimal": "0.123456789012"},
            {"up_to": 5_000, "unit_amount_decimal": "7.5", "flat_amount": 300},
            {"up_to": "inf", "unit_amount_decimal": "3"},
        ]
        more: dict[str, Any] = {"tiers_mode": self.random.choice(["graduated", "volume"])}
        if self.random.random() < 0.5:
            more["currency_options"] = {"eur": {"tiers": [{**tier, "unit_amount_decimal": "2.25"} for tier in tiers]}}
        self.metered(product, self.meter(f"{name} API calls"), tiers, **more)

    def grandfathered(self, name: str) -> None:
        """A fee that has risen twice; who paid before goes on, on prices that are archived or no longer offered."""
        product = self.product(name)
        amounts = sorted(self.random.sample(range(1_000, 50_000), 3))
        prices = [self.price(product, unit_amount=each, recurring={"interval": "month"}) for each in amounts]
        self.post(f"/v1/products/{product}", default_price=prices[2])
        beside = []
        if self.random.random() < 0.5:
            # All of them share the usage, whatever their fee.
            tiers: list[dict[str, Any]] = [{"up_to": "inf", "unit_amount_decimal": "0.5"}]
            beside.append(self.metered(product, self.meter(f"{name} calls"), tiers))
        for price in prices[: self.random.choice([1, 2])]:
            self.subscribe(price, *beside)
        for price in prices[:2]:
            if self.random.random() < 0.8:
                self.post(f"/v1/prices/{price}", active=False)
                self.paid_archived.append(price)

    def alternatives(self, name: str) -> None:
        """Monthly and yearly fees on one product, which customers choose between."""
        product = self.product(name, metadata={"tier": "gold"})
        month = self.price(product, unit_amount=2_000, recurring={"interval": "month"}, nickname="Monthly")
        self.price(product, unit_amount=20_000, recurring={"interval": "year"}, tax_behavior="exclusive")
        if self.random.random() < 0.5:
            self.post(f"/v1/products/{product}", default_price=month)

    def dead(self, name: str) -> None:
        """A product that is no longer sold; sometimes somebody still pays it."""
        product = self.product(name)
        price = self.price(product, unit_amount=700, recurring={"interval": "month"})
        if self.random.random() < 0.3:
            self.subscribe(price)
        self.post(f"/v1/prices/{price}", active=False)
        self.post(f"/v1/products/{product}", active=False)

    def once(self, name: str) -> None:
        """A one-time price, and one that customers choose."""
        product = self.product(name)
        self.price(product, unit_amount=self.random.randrange(100, 9_000))
        self.price(product, custom_unit_amount={"enabled": True, "minimum": 500}, nickname="Pay what you want")

    # -- what is beside them --------------------------------------------------------------------------------------

    def meter(self, name: str) -> str:
        self._events += 1
        made = self.post(
            "/v1/billing/meters",
            display_name=name,
            event_name=f"event_{self._events}",
            default_aggregation={"formula": self.random.choice(["sum", "sum", "last"])},
        )
        return str(made["id"])

    def metered(self, product: str, meter: str, tiers: list[dict[str, Any]], **more: Any) -> str:
        recurring = {"interval": "month", "usage_type": "metered", "meter": meter}
        how = {"billing_scheme": "tiered", "tiers_mode": "graduated", "tiers": tiers, **more}
        return self.price(product, recurring=recurring, **how)

    def subscribe(self, price: str, *metered: str, **more: Any) -> str:
        self._customers += 1
        customer = self.post("/v1/customers", name=f"Customer {self._customers}", email="c@example.com")["id"]
        items: list[dict[str, Any]] = [{"price": price, "quantity": self.random.randrange(1, 9)}]
        items += [{"price": each} for each in metered]
        return str(self.post("/v1/subscriptions", **invoiced(customer), items=items, **more)["id"])

    def coupons(self) -> None:
        welcome = self.post("/v1/coupons", id="WELCOME", name="Welcome", percent_off=12.5, duration="once")
        self.post("/v1/coupons", amount_off=500, currency="usd", duration="repeating", duration_in_months=3)
        over = self.post("/v1/coupons", percent_off=50, duration="forever", redeem_by=4_102_444_800)
        product = self.product("Limited")
        self.post(
            "/v1/coupons",
            amount_off=700,
            currency="usd",
            currency_options={"eur": {"amount_off": 600}},
            duration="once",
            applies_to={"products": [product]},
            max_redemptions=3,
            metadata={"campaign": "spring"},
        )
        least = {"minimum_amount": 5_000, "minimum_amount_currency": "usd", "first_time_transaction": True}
        for coupon, code, restrictions in ((welcome, "HELLO", least), (over, "HALF", {})):
            promotion = {"type": "coupon", "coupon": coupon["id"]}
            more = {"code": code, "max_redemptions": 100, "restrictions": restrictions}
            self.post("/v1/promotion_codes", promotion=promotion, **more)


WORDS = ("Alpaca", "Llama", "Vicuna", "Guanaco", "Camel", "Dromedary")


def of_the_page(world: World) -> None:
    """The account of docs/adopt.md."""
    made = Made(world, 0)
    month = {"recurring": {"interval": "month"}}
    team = str(made.post("/v1/products", name="Team")["id"])
    old = made.price(team, unit_amount=1_500, **month)
    now = made.price(team, unit_amount=2_000, lookup_key="team_monthly", **month)
    made.post(f"/v1/products/{team}", default_price=now)
    made.subscribe(old)
    made.post(f"/v1/prices/{old}", active=False)
    meter = made.post(
        "/v1/billing/meters",
        display_name="Robot API calls",
        event_name="robot_calls",
        default_aggregation={"formula": "sum"},
    )
    robot = str(made.post("/v1/products", name="Robot")["id"])
    fee = made.price(robot, unit_amount=10_000, **month)
    made.post(f"/v1/products/{robot}", default_price=fee)
    tiers: list[dict[str, Any]] = [
        {"up_to": 1_000, "unit_amount": 0},
        {"up_to": "inf", "unit_amount_decimal": "0.04"},
    ]
    made.metered(robot, str(meter["id"]), tiers)
    course = str(made.post("/v1/products", name="Course", description="Two days, on site")["id"])
    made.price(course, unit_amount=90_000)
    gone = str(made.post("/v1/products", name="Fax", active=False)["id"])
    made.price(gone, unit_amount=300, active=False, **month)
    made.post("/v1/coupons", id="WELCOME", name="Welcome", percent_off=20, duration="once")
