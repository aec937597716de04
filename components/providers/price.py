"""Prices: what a product costs, per unit, in tiers, by a meter. https://docs.stripe.com/api/prices

What a price costs never changes: another amount is another price, and the lookup key moves to it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, NotRequired

from typing_extensions import TypedDict

from components.account import StripeRefusal
from components.providers import price_uses, rules
from components.providers.default_price import DEFAULT_PRICE
from components.providers.errors import ProviderError
from components.providers.inventory import StripeObject, owner_of
from components.providers.kind import Change, Kind, Problem
from components.providers.lifecycle import StripeProvider
from components.providers.policy import Field
from components.providers.reconciler import Reconciler
from components.providers.values import MISSING, Inputs, is_unknown, mapping


class OwnArguments(TypedDict):
    owner: str
    archive_when_unused: NotRequired[bool]


FIXED_TAX: Final = ("inclusive", "exclusive")


# -- rules ----------------------------------------------------------------------------------------------------------


def one_product(inputs: Inputs) -> Iterator[Problem]:
    if not rules.given(inputs, "product") and not rules.given(inputs, "product_data"):
        yield ("product",), "is required: the id of a product (or product_data)"


def one_of_the_amounts(inputs: Inputs) -> Iterator[Problem]:
    yield from rules.one_amount(inputs, (), rules.AMOUNTS)
    if scheme_of(inputs) == "per_unit" and not any(rules.given(inputs, name) for name in rules.AMOUNTS):
        yield ("unit_amount",), "is required, or unit_amount_decimal, custom_unit_amount or tiers"


def scheme(inputs: Inputs) -> Iterator[Problem]:
    """What goes with tiers and what does not."""
    if scheme_of(inputs) == "per_unit":
        for name in ("tiers", "tiers_mode"):
            if rules.given(inputs, name):
                yield ("billing_scheme",), f'must be "tiered", since {name} is declared'
                return
    if scheme_of(inputs) != "tiered":
        return
    for name in ("tiers", "tiers_mode"):
        if not rules.given(inputs, name) or inputs[name] == []:
            yield (name,), 'is required with billing_scheme "tiered"'
    for name in rules.AMOUNTS:
        if rules.given(inputs, name):
            yield (name,), 'cannot be combined with billing_scheme "tiered": the amounts are in the tiers'
    if rules.given(inputs, "transform_quantity"):
        yield (
            ("transform_quantity",),
            "cannot be combined with tiers; put the division in the amounts",
        )
    if not rules.given(inputs, "recurring"):
        yield ("recurring",), 'is required with billing_scheme "tiered": Stripe has no one-time prices in tiers'


def amounts(inputs: Inputs) -> Iterator[Problem]:
    yield from rules.tiers(inputs.get("tiers"), ("tiers",))
    yield from rules.custom_amount(inputs.get("custom_unit_amount"), ("custom_unit_amount",))
    yield from rules.currency_options(inputs, (), inputs.get("currency"), scheme_of(inputs))


def recurrence(inputs: Inputs) -> Iterator[Problem]:
    """A metered price needs a meter, and only a metered price can have one."""
    recurring = rules.find(inputs, "recurring")
    if not isinstance(recurring, Mapping):
        return
    usage_type = recurring.get("usage_type", "licensed")
    if usage_type == "metered" and not rules.given(recurring, "meter"):
        yield ("recurring", "meter"), "is required with usage_type metered: the id of the meter that counts the usage"
    if usage_type == "licensed" and rules.given(recurring, "meter"):
        yield ("recurring", "usage_type"), "must be metered, since a meter is declared"
    if rules.given(inputs, "custom_unit_amount"):
        yield ("custom_unit_amount",), "cannot be combined with recurring: only one-time prices let the customer choose"


def transfer(inputs: Inputs) -> Iterator[Problem]:
    if inputs.get("transfer_lookup_key") is True and not rules.given(inputs, "lookup_key"):
        yield ("transfer_lookup_key",), "needs a lookup_key to transfer"


def scheme_of(inputs: Mapping[str, Any]) -> str | None:
    """`per_unit` or `tiered`; None while it is not known."""
    scheme = inputs.get("billing_scheme", "per_unit")
    return None if is_unknown(scheme) else str(scheme)


# -- what a change means --------------------------------------------------------------------------------------------


def comparable(arguments: Inputs) -> Inputs:
    """With one form for an amount, and Stripe's defaults filled in."""
    same: Inputs = {"billing_scheme": "per_unit", **arguments}
    if not is_unknown(same.get("unit_amount", MISSING)) and "unit_amount" in same:
        same["unit_amount_decimal"] = str(same.pop("unit_amount"))
    if isinstance(same.get("recurring"), Mapping):
        same["recurring"] = {"interval_count": 1, "usage_type": "licensed", **same["recurring"]}
    if isinstance(same.get("tiers"), list):
        same["tiers"] = [_comparable_tier(tier) for tier in same["tiers"]]
    return same


def replaces(old: Inputs, new: Inputs, names: set[str]) -> set[str]:
    if "unit_amount_decimal" in names:
        # `comparable` has one form of an amount; report the one that the program changed.
        names = names - {"unit_amount_decimal"} | {name for name in rules.AMOUNTS if old.get(name) != new.get(name)}
    if _tax_moves(old, new):
        names = names | {"tax_behavior"}
    if any(_tax_moves(*pair) for pair in _options_of_both(old, new)):
        names = names | {"currency_options"}
    return names


def warnings(change: Change) -> Iterator[str]:
    old, new = change.old, change.new
    if change.replaces:
        on_it = "; subscriptions on it go on paying it, unless a line of this preview moves them"
        yield f"stays in Stripe, archived{on_it if isinstance(old.get('recurring'), Mapping) else ''}"
        if moves := _tier_moves(old.get("tiers"), new.get("tiers")):
            yield f"tiers by up_to: {moves}"
    elif new.get("active", True) is False and old.get("active", True) is not False:
        yield "will be archived: no new subscriptions to it; existing ones go on billing"
    if not change.replaces and new.get("tax_behavior") in FIXED_TAX and old.get("tax_behavior") not in FIXED_TAX:
        yield f"tax_behavior {new['tax_behavior']} cannot be undone; another value later creates a new price"


def _tier_moves(old: Any, new: Any) -> str:
    """What happens to the tiers when some are added or removed, by `up_to`.

    The engine compares lists by position: it prints a tier inserted in the middle as a change of every tier after it.
    """
    if not isinstance(old, list) or not isinstance(new, list) or len(old) == len(new):
        return ""
    if not all(isinstance(tier, Mapping) for tier in (*old, *new)):
        return ""
    if any(is_unknown(value) for tier in (*old, *new) for value in tier.values()):
        return ""
    before, after = ({tier.get("up_to"): tier for tier in tiers} for tiers in (old, new))
    bounds = [*before, *(bound for bound in after if bound not in before)]
    moves = [
        f"{bound}: {_amounts(before.get(bound))} => {_amounts(after.get(bound))}"
        for bound in sorted(bounds, key=lambda bound: (isinstance(bound, str), bound))
        if before.get(bound) != after.get(bound)
    ]
    return "; ".join(moves)


def _amounts(tier: Mapping[str, Any] | None) -> str:
    if tier is None:
        return "none"
    return ", ".join(f"{name} {value}" for name, value in sorted(tier.items(), reverse=True) if name != "up_to")


def _comparable_tier(tier: Any) -> Any:
    if not isinstance(tier, Mapping):
        return tier
    same = dict(tier)
    for name in ("unit_amount", "flat_amount"):
        if name in same and not is_unknown(same[name]):
            same[f"{name}_decimal"] = str(same.pop(name))
    return same


def _as_sent(option: Mapping[str, Any]) -> Inputs:
    """One of Stripe's currency options in the form of a request: each amount once, without empty fields."""
    there = {name: _as_declared(name, value) for name, value in option.items() if value is not None}
    if "tiers" in there:
        there["tiers"] = [_one_spelling(tier) for tier in there["tiers"]]
    return _one_spelling(there)


def _one_spelling(amounts: Mapping[str, Any]) -> Inputs:
    return {
        name: value for name, value in amounts.items() if value is not None and amounts.get(f"{name}_decimal") is None
    }


def _tax_moves(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Whether a tax behaviour that Stripe has fixed is to change."""
    return old.get("tax_behavior") in FIXED_TAX and new.get("tax_behavior", old["tax_behavior"]) != old["tax_behavior"]


def _options_of_both(old: Inputs, new: Inputs) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    before, after = old.get("currency_options"), new.get("currency_options")
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for code in before.keys() & after.keys():
            if isinstance(before[code], Mapping) and isinstance(after[code], Mapping):
                yield before[code], after[code]


PRICE = Kind(
    name="Price",
    noun="price",
    path="/v1/prices",
    create="stripe.params:PriceCreateParams",
    update="stripe.params:PriceUpdateParams",
    own=OwnArguments,
    natural_key="`lookup_key`, and the owner in its metadata",
    when_deleted="Archived, and its lookup key cleared: Stripe cannot delete a price. Subscriptions on it continue. "
    "With `archive_when_unused` the run is refused while a subscription is on it or a schedule names it. "
    "If it is its product's default price, the product first gets the one that replaces it, or none.",
    when_gone="An archived price shows as `active: false`; one that does not exist is created again.",
    fields={
        "active": Field(unset_to=True, drift_from=True),
        "archive_when_unused": Field(
            in_place="whether taking the price out of the program is refused while somebody pays it or is about to",
            computed="`False`",
        ),
        "currency_options": Field(
            paid=True, replaces_when="the tax_behavior of a currency is inclusive or exclusive and is to change"
        ),
        "currency_options.*.tax_behavior": Field(keep="once inclusive or exclusive it stays"),
        "lookup_key": Field(unique=True),
        "product_data": Field(write_only="Stripe returns the product that it created, not these parameters"),
        "tax_behavior": Field(
            paid=True,
            replaces_when="it is inclusive or exclusive and is to change",
            keep="once inclusive or exclusive it stays",
        ),
        "transfer_lookup_key": Field(
            request_option="allows taking the lookup key from a price that no program created; from this stack's own "
            "prices it is always taken, from another stack's never",
            withheld=True,
        ),
    },
    expand=("tiers", "currency_options"),
    advice={
        "metered prices must be backed by meters": "Declare recurring.meter.",
        "No such product": "Link it by the id of a Product: product=product.id.",
        "No such meter": "Link it by the id of a Meter: meter=meter.id.",
        "is the default price of its product": "Give the DefaultPrice another price, and let this one wait for it: "
        "opts=pulumi.ResourceOptions(depends_on=[default_price]).",
    },
    outputs={"type": "`recurring` or `one_time`"},
    rules=(
        rules.metadata,
        rules.currencies("currency", "currency_options.*"),
        rules.longest({"lookup_key": 200, "product_data.statement_descriptor": 22, "product_data.unit_label": 12}),
        rules.descriptors("product_data.statement_descriptor"),
        rules.between(
            {"transform_quantity.divide_by": (1, None), "recurring.trial_period_days": (1, rules.LONGEST_TRIAL)}
        ),
        rules.intervals("recurring"),
        rules.exclusive("product", "product_data", why="give the id of a product or the parameters of a new one"),
        one_product,
        one_of_the_amounts,
        scheme,
        amounts,
        recurrence,
        transfer,
    ),
    comparable=comparable,
    replaces=replaces,
    warnings=warnings,
)


class Prices(Reconciler):
    # -- create -------------------------------------------------------------------------------------------------

    def create_params(self, new: Inputs) -> Inputs:
        """With the lookup key taken from its holder if that is this stack's, so that the new price has it at once."""
        params = super().create_params(new)
        if self._holders(params.get("lookup_key"), new):
            params["transfer_lookup_key"] = True
        return params

    def make(self, new: Inputs) -> StripeObject:
        made = super().make(new)
        self._taken(made, new)
        return made

    def _holders(self, key: Any, new: Inputs) -> list[StripeObject]:
        """The prices of this stack that have a lookup key."""
        if not key:
            return []
        return [each for each in self.inventory.owned() if each.get("lookup_key") == key and self.is_ours(each, new)]

    def _taken(self, remote: StripeObject, new: Inputs) -> None:
        """Know that the prices which had this one's lookup key have it no more."""
        for each in self._holders(remote.get("lookup_key"), new):
            if each["id"] != remote["id"]:
                self.inventory.remember({**each, "lookup_key": None})

    def instead(self, refusal: StripeRefusal, params: Inputs, new: Inputs) -> Inputs:
        """The same with the lookup key taken from the price that has it, if it may be.

        Raises:
            ProviderError: the key belongs to somebody else.
            StripeRefusal: it was not about the lookup key.
        """
        key = new.get("lookup_key")
        about_the_key = refusal.status == 400 and "already uses that lookup key" in refusal.message
        if not key or not about_the_key or params.get("transfer_lookup_key"):
            raise refusal
        found = self.call("get", self.kind.path, {"lookup_keys": [key]}, subject=self.subject(new)).data["data"]
        for holder in found:
            owner = owner_of(holder)
            # A price in the state is ours even if it names another owner: the stack was renamed, or the price imported.
            ours = self.is_ours(holder, new) or self.run.is_in_state(self.kind, holder["id"])
            if ours or (owner is None and new.get("transfer_lookup_key")):
                continue
            raise ProviderError(
                f"{self.subject(new)}: lookup_key {key!r} belongs to {holder['id']}, which "
                + (
                    f"{owner} created"
                    if owner
                    else "no program created; transfer_lookup_key=True takes the key from it"
                )
            )
        return {**params, "transfer_lookup_key": True}

    # -- update -------------------------------------------------------------------------------------------------

    def changes(self, id_: str, old: Inputs, new: Inputs) -> Inputs:
        """With the lookup key taken from another price of this stack; none that another has taken is unset."""
        params = super().changes(id_, old, new)
        if self._holders(params.get("lookup_key"), new):
            params["transfer_lookup_key"] = True
        if params.get("lookup_key") == "" and (self.inventory.known(id_) or {}).get("lookup_key", "") is None:
            del params["lookup_key"]
        return params

    def post(self, id_: str, params: Inputs, new: Inputs, before: str, wanted: Mapping[str, Any]) -> StripeObject:
        remote = super().post(id_, params, new, before, wanted)
        if params.get("lookup_key"):
            self._taken(remote, new)
        return remote

    def before_update(
        self, id_: str, old: Inputs, new: Inputs, remote: StripeObject | None
    ) -> tuple[Inputs, StripeObject | None]:
        before, after = old.get("currency_options") or {}, new.get("currency_options") or {}
        if gone := before.keys() - after.keys():
            # Stripe can only remove all currency options at once. The others are then added again as they were.
            there = {**after, **self._options_in_stripe(id_)}
            changed = {code: option for code, option in after.items() if before.get(code) != option}
            kept = {code: option for code, option in there.items() if code not in gone} | changed
            if kept:
                for options in ("", kept):
                    params = {"currency_options": options, **self.expanded()}
                    answer = self.call("post", f"{self.kind.path}/{id_}", params, subject=self.subject(new, id_))
                remote = answer.data
                self.inventory.remember(remote)
                old = {**old, "currency_options": new.get("currency_options")}
                old = {name: value for name, value in old.items() if value is not None}
        return old, remote

    def _options_in_stripe(self, id_: str) -> dict[str, Inputs]:
        """The currency options as Stripe has them, in the form of a request."""
        remote = self.inventory.fetch(id_) or {}
        options = mapping(remote.get("currency_options"))
        codes = sorted(options.keys() - {remote.get("currency")})
        if codes and remote.get("billing_scheme") == "tiered":
            expand = [*self.kind.expand, *(f"currency_options.{code}.tiers" for code in codes)]
            remote = self.call("get", f"{self.kind.path}/{id_}", {"expand": expand}, subject=f"price {id_}").data
            options = remote["currency_options"]
        return {code: _as_sent(options[code]) for code in codes}

    # -- read ---------------------------------------------------------------------------------------------------

    def returned(self, name: str, value: Any, remote: StripeObject) -> Any:
        if name in ("tiers", "custom_unit_amount"):
            remote = {**remote, name: _as_declared(name, remote.get(name))}
        if name == "currency_options" and isinstance(remote.get(name), Mapping):
            remote = self._with_tiers_of(value, remote)
            options = {
                code: {field: _as_declared(field, each) for field, each in option.items()}
                for code, option in remote[name].items()
            }
            remote = {**remote, name: options}
        return super().returned(name, value, remote)

    def _with_tiers_of(self, declared: Any, remote: StripeObject) -> StripeObject:
        """Stripe expands the tiers of a currency only by its code, which a list of prices cannot know."""
        hidden = [
            code
            for code, option in (declared or {}).items()
            if rules.given(option, "tiers") and "tiers" not in (remote["currency_options"].get(code) or {"tiers": None})
        ]
        if not hidden:
            return remote
        expand = [*self.kind.expand, *(f"currency_options.{code}.tiers" for code in sorted(hidden))]
        whole = self.call(
            "get", f"{self.kind.path}/{remote['id']}", {"expand": expand}, subject=f"price {remote['id']}"
        ).data
        self.inventory.remember(whole)
        return whole

    # -- delete -------------------------------------------------------------------------------------------------

    def remove(self, id_: str, known: Inputs, *, being_replaced: bool) -> StripeObject | None:
        subject = self.subject(known, id_)
        params: Inputs = {"active": False, **({"lookup_key": ""} if known.get("lookup_key") else {})}
        if known.get("archive_when_unused"):
            self._refuse_while_used(id_, subject)
        self._give_back(id_, known)
        try:
            left = self.call("post", f"{PRICE.path}/{id_}", params, subject=subject).data
        except StripeRefusal as refusal:
            if "default price" not in refusal.message:
                raise
            self._clear_default(id_, known)
            left = self.call("post", f"{PRICE.path}/{id_}", params, subject=subject).data
        self.run.tell("info", f"{subject}: archived; Stripe keeps it, and subscriptions on it go on")
        if "product_data" in known:
            self.run.tell("info", f"{subject}: the product {left['product']}, made by product_data, stays in Stripe")
        return left

    def _refuse_while_used(self, id_: str, subject: str) -> None:
        """Return when nobody pays the price, and no schedule names it.

        Raises:
            ProviderError: somebody does; Stripe takes no schedule that names an archived price.
        """
        if users := price_uses.of(self.account, id_, subject):
            more = f"and {len(users) - 1} more" if len(users) > 1 else "alone or with others"
            raise ProviderError(
                f"{subject}: stays active (archive_when_unused): {users[0]} {more} bills it, or is scheduled to; "
                f"`stripe subscriptions list --price {id_}` shows who pays it. Put it back into the program, and take "
                "it out when nobody does"
            )

    def _give_back(self, id_: str, known: Inputs) -> None:
        """Give the lookup key back to the price of the program that declares it, after a change was reverted."""
        key = known.get("lookup_key")
        kept = self.run.kept(self.kind)
        heir = next(
            (other for other, each in kept.items() if other != id_ and key and each.get("lookup_key") == key), ""
        )
        if heir and (self.inventory.fetch(id_) or {}).get("lookup_key") == key:
            params = {"lookup_key": key, "transfer_lookup_key": True, **self.expanded()}
            given = self.call("post", f"{PRICE.path}/{heir}", params, subject=self.subject(kept[heir], heir)).data
            self.inventory.remember(given)

    def _clear_default(self, id_: str, known: Inputs) -> None:
        """Set its product's default price to the one that replaces it, or to none; somebody set it in the dashboard."""
        subject = self.subject(known, id_)
        product = (self.inventory.fetch(id_) or {}).get("product")
        linked = self.run.kept(DEFAULT_PRICE).get(str(product), {}).get("price")
        new = linked if linked not in (None, id_) else self.run.successor(self.kind, id_, known.get("owner"))
        same_product = new is not None and (self.inventory.read(new) or {}).get("product") == product
        default = str(new) if same_product else ""
        link = {"default_price": default}
        self.call("post", f"/v1/products/{product}", link, subject=f"{subject}, default price of {product}")
        self.run.tell("info", f"{subject}: was the default price of {product}, which now has {default or 'none'}")


class PriceProvider(StripeProvider):
    kind = PRICE
    reconciler_type = Prices


def _as_declared(name: str, value: Any) -> Any:
    """A value of Stripe's in the form that Stripe takes."""
    if name == "tiers" and isinstance(value, list):
        return [{**tier, "up_to": "inf" if tier.get("up_to") is None else tier["up_to"]} for tier in value]
    if name == "custom_unit_amount" and isinstance(value, Mapping):
        return {"enabled": True, **value}
    return value
