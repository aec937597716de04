"""Reading Stripe's types: every form of annotation in every stripe-python, known or not."""

from __future__ import annotations

import pkgutil
from collections.abc import Iterator, Mapping
from decimal import Decimal
from importlib import import_module
from typing import Annotated, Any, Generic, Literal, NotRequired, Required, TypeVar, Union

import pytest
import stripe.params
from pulumi.output import UNKNOWN, Unknown
from typing_extensions import TypedDict, is_typeddict

from components.providers.kind import Kind
from components.providers.kinds import KINDS
from components.providers.shapes import (
    Anything,
    Array,
    Choice,
    Either,
    Field,
    Map,
    Scalar,
    Schema,
    Shape,
    Struct,
    at,
    fitting,
    merge,
    read_struct,
    without,
)

TEXT, WHOLE, AMOUNT = Scalar("string"), Scalar("integer"), Scalar("decimal")


Item = TypeVar("Item")


class StripeObjectOf(Generic[Item]):
    """Stands for a class of stripe-python whose objects no program can declare."""


class Inner(TypedDict):
    type: NotRequired[Literal["now", "later"]]


#: Each form of annotation, and what is read of it: the shape, and whether an empty string unsets the field.
FORMS: list[tuple[Any, Shape, bool]] = [
    (str, TEXT, False),
    (int, WHOLE, False),
    (float, Scalar("number"), False),
    (bool, Scalar("boolean"), False),
    (Decimal, AMOUNT, False),
    (list[str], Array(TEXT), False),
    (tuple[str, ...], Array(TEXT), False),
    (dict[str, int], Map(WHOLE), False),
    (Annotated[str, "anything"], TEXT, False),
    (Inner, Struct("Inner", {"type": Field(Choice(("now", "later")))}), False),
    (Literal["a", "b"], Choice(("a", "b")), False),
    (Literal["a"] | str, Choice(("a",)), False),
    (Literal["", "a"], Choice(("a",)), True),
    (Literal[""] | str, TEXT, True),
    (Literal[""] | list[str], Array(TEXT), True),
    (str | None, TEXT, False),
    (Union[Literal["inf"], int], Either((WHOLE, Choice(("inf",)))), False),  # noqa: UP007 - as Stripe writes it
    (int | Inner, Either((WHOLE, Struct("Inner", {"type": Field(Choice(("now", "later")))}))), False),
    (Literal[True], Scalar("boolean"), False),
    (dict[str, str] | StripeObjectOf[str], Map(TEXT), False),
    (Literal[""] | StripeObjectOf, Anything(), True),
    (StripeObjectOf, Anything(), False),
    (Any, Anything(), False),
    (object | str, Anything(), False),
    ("NoSuchName", Anything(), False),
    ("NoSuchName[str]", Anything(), False),
    ("NoSuchName | str", Anything(), False),
    ("NoSuchName[str] | str", Anything(), False),
    ("list[NoSuchName]", Array(Anything()), False),
    ("no ( annotation", Anything(), False),
]


@pytest.mark.parametrize(("annotation", "shape", "clearable"), FORMS, ids=lambda each: str(each)[:40])
def test_each_form_of_annotation_is_read(annotation: Any, shape: Shape, clearable: bool) -> None:
    read = read_struct(typed_dict({"field": annotation})).fields["field"]
    assert (read.shape, read.clearable) == (shape, clearable)


def typed_dict(annotations: Mapping[str, Any], total: bool = True) -> Any:
    """A TypedDict, created at run time; annotations that cannot be evaluated stay text."""
    made: Any = type("Made", (), {"__annotations__": dict(annotations), "__module__": __name__, "__total__": total})
    return made


def test_one_annotation_that_cannot_be_evaluated_leaves_the_others_checked() -> None:
    struct = read_struct(typed_dict({"strange": "no ( annotation", "amount": Decimal, "name": NotRequired[str]}))
    values, problems = Schema(struct).check({"strange": [1], "amount": "much", "name": 3})
    assert values["strange"] == [1]
    assert [path for path, _ in problems] == [("amount",), ("name",)]
    assert Schema(struct).check({})[1] == [(("amount",), "is required")]


@pytest.mark.parametrize(("total", "expected"), [(True, True), (False, False)])
def test_what_is_required_is_read(total: bool, expected: bool) -> None:
    struct = read_struct(typed_dict({"plain": str, "not": NotRequired[str], "yes": Required[str]}, total))
    assert {name: each.required for name, each in struct.fields.items()} == {
        "plain": expected,
        "not": False,
        "yes": True,
    }


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_no_parameter_of_a_kind_has_a_form_that_is_not_known(kind: Kind) -> None:
    """Such a parameter would be accepted unchecked."""
    assert [path for path, shape in parts(kind.struct) if isinstance(shape, Anything)] == []


def parts(shape: Shape, path: str = "") -> Iterator[tuple[str, Shape]]:
    yield path, shape
    match shape:
        case Struct(fields=fields):
            for name, field in fields.items():
                yield from parts(field.shape, f"{path}.{name}")
        case Array(item=item) | Map(item=item):
            yield from parts(item, f"{path}.*")
        case Either(options=options):
            for each in options:
                yield from parts(each, path)


def test_every_parameter_type_of_the_sdk_can_be_read() -> None:
    """Whatever a later kind needs, and whatever a later version brings."""
    read = 0
    for module in pkgutil.iter_modules(stripe.params.__path__, "stripe.params."):
        names = vars(import_module(module.name))
        for name, each in list(names.items()):
            if is_typeddict(each) and each.__module__ == module.name and name.endswith("Params"):
                read += bool(read_struct(each).name)
    assert read > 300


# -- creating and updating --------------------------------------------------------------------------------------------


def one(shape: Shape, *, required: bool = False, clearable: bool = False) -> Struct:
    return Struct("One", {"field": Field(shape, required, clearable)})


@pytest.mark.parametrize(
    ("create", "update", "merged"),
    [
        (WHOLE, WHOLE, WHOLE),
        # `billing_cycle_anchor` before API version 2026-10-28.endive, and since then.
        (WHOLE, Choice(("now",)), Either((WHOLE, Choice(("now",))))),
        (WHOLE, one(TEXT), Either((WHOLE, one(TEXT)))),
        (Choice(("a", "b")), Choice(("b", "c")), Choice(("a", "b", "c"))),
        (Either((WHOLE, Choice(("a",)))), Choice(("b",)), Either((WHOLE, Choice(("a", "b"))))),
        (Either((WHOLE, one(TEXT))), one(WHOLE), Either((WHOLE, one(Either((TEXT, WHOLE)))))),
        (Array(WHOLE), Array(TEXT), Array(Either((WHOLE, TEXT)))),
        (Map(WHOLE), Map(WHOLE), Map(WHOLE)),
        (Anything(), WHOLE, Anything()),
    ],
)
def test_what_creating_or_updating_takes_is_taken(create: Shape, update: Shape, merged: Shape) -> None:
    assert merge(one(create), one(update)).fields["field"].shape == merged


def test_what_creating_requires_and_what_an_update_clears() -> None:
    create = Struct("Create", {"both": Field(TEXT, required=True), "early": Field(TEXT)})
    update = Struct("Update", {"both": Field(TEXT, clearable=True), "late": Field(TEXT, required=True)})
    assert merge(create, update) == Struct(
        "Create",
        {"both": Field(TEXT, required=True, clearable=True), "early": Field(TEXT), "late": Field(TEXT)},
    )


def test_fields_are_removed_wherever_they_are() -> None:
    item = Struct("Item", {"id": Field(TEXT), "price": Field(TEXT)})
    left = Struct("Item", {"price": Field(TEXT)}, {"id": "why"})
    shapes: dict[str, Shape] = {"a": Array(item), "b": Map(item), "c": item, "d": Either((WHOLE, item)), "e": TEXT}
    whole = Struct("Whole", {name: Field(shape) for name, shape in shapes.items()})
    cut = without(whole, {"a.id": "why", "b.id": "why", "c.id": "why", "d.id": "why", "e": "gone", "no.such": "?"})
    assert cut == Struct(
        "Whole",
        {
            "a": Field(Array(left)),
            "b": Field(Map(left)),
            "c": Field(left),
            "d": Field(Either((WHOLE, left))),
        },
        {"e": "gone"},
    )
    _, problems = Schema(cut).check({"a": [{"id": 1}], "e": "x"})
    assert problems == [(("a", 0, "id"), "is not an argument here: why"), (("e",), "is not an argument here: gone")]


def test_a_path_leads_to_a_shape() -> None:
    struct = Struct("S", {"list": Field(Array(one(TEXT))), "either": Field(Either((WHOLE, Map(WHOLE))))})
    assert at(struct, ()) is struct
    assert at(struct, ("list", 3, "field")) == TEXT
    assert at(struct, ("either", "any")) == WHOLE
    for path in (("no",), ("list", 3, "no"), ("list", 3, "field", "deeper"), ("either", "any", "deeper")):
        assert at(struct, path) is None


# -- checking ---------------------------------------------------------------------------------------------------------

NOTHING: Any = object()
BOTH = Either((WHOLE, Choice(("inf", "max"))))
OBJECT_OR_WHOLE = Either((WHOLE, Struct("Anchor", {"type": Field(Choice(("now", "later")), required=True)})))


@pytest.mark.parametrize(
    ("shape", "given", "canonical"),
    [
        (TEXT, "", ""),
        (WHOLE, 3.0, 3),
        (WHOLE, 2.0**53 - 1, 2**53 - 1),
        (WHOLE, -5, -5),
        (AMOUNT, "0.040", "0.04"),
        (AMOUNT, 5.0, "5"),
        (AMOUNT, 5, "5"),
        (AMOUNT, "0." + "0" * 11 + "1", "0.000000000001"),
        (Scalar("number"), 12.5, "12.5"),
        (Scalar("number"), 1e-7, "0.0000001"),
        (Scalar("number"), "12.50", "12.5"),
        (Scalar("boolean"), False, False),
        (Array(WHOLE), (1.0, 2.0), [1, 2]),
        (Map(WHOLE), {"a": 1.0}, {"a": 1}),
        (BOTH, 3.0, 3),
        (BOTH, "inf", "inf"),
        (OBJECT_OR_WHOLE, {"type": "now"}, {"type": "now"}),
        (Either((TEXT, AMOUNT)), 3.0, "3"),
        (Either((TEXT, Array(WHOLE))), [3.0], [3]),
        (Either((TEXT, Map(WHOLE))), {"a": 3.0}, {"a": 3}),
        (Either((Scalar("boolean"), WHOLE)), True, True),
        (Anything(), {"any": [1.5]}, {"any": [1.5]}),
        (WHOLE, UNKNOWN, UNKNOWN),
        (Array(WHOLE), [UNKNOWN, 1.0], [UNKNOWN, 1]),
    ],
)
def test_a_value_gets_one_form(shape: Shape, given: Any, canonical: Any) -> None:
    values, problems = Schema(one(shape)).check({"field": given})
    assert problems == []
    assert values == {"field": canonical}
    assert type(values["field"]) is type(canonical)


@pytest.mark.parametrize(
    ("shape", "given", "sentence"),
    [
        (TEXT, 3, "must be a string, not a number"),
        (TEXT, True, "must be a string, not true or false"),
        (TEXT, [], "must be a string, not a list"),
        (TEXT, {}, "must be a string, not an object"),
        (TEXT, None, "must be a string, not nothing"),
        (WHOLE, 1.5, "must be a whole number, not a fraction"),
        (WHOLE, True, "must be a whole number, not true or false"),
        (WHOLE, 2.0**53, "is beyond 9007199254740991, the largest number that Pulumi carries exactly"),
        (WHOLE, -(2.0**53), "is beyond 9007199254740991, the largest number that Pulumi carries exactly"),
        (WHOLE, float("inf"), "must be a whole number, not a fraction"),
        (AMOUNT, 2.0**53, "is beyond 9007199254740991, the largest number that Pulumi carries exactly; write it as a "),
        (AMOUNT, 0.5, "is a float, which cannot hold every amount exactly; write it as a string"),
        (AMOUNT, "1e3", 'must be a plain decimal number in minor units, such as "0.04"'),
        (AMOUNT, True, "must be a decimal number as a string, not true or false"),
        (AMOUNT, [], "must be a decimal number as a string, not a list"),
        (AMOUNT, "0." + "0" * 12 + "1", "has 13 decimals; Stripe takes at most 12"),
        (Scalar("number"), "much", "must be a plain number"),
        (Scalar("number"), float("nan"), "must be a plain number"),
        (Scalar("number"), True, "must be a number, not true or false"),
        (Scalar("boolean"), "yes", "must be true or false, not a string"),
        (Scalar("boolean"), 1, "must be true or false, not a number"),
        (Choice(("only",)), "other", 'must be "only"'),
        (Choice(("month", "week")), "monthly", "must be one of month, week; did you mean month?"),
        (Choice(("month", "week")), 3, "must be one of month, week, not a number"),
        (Choice(tuple(map(str, range(20)))), "x", "must be one of the 20 that Stripe lists"),
        (Choice(tuple(map(str, range(19)))), "x", "must be one of 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, "),
        (Array(TEXT), "a", "must be a list, not a string"),
        (Map(TEXT), [], "must be an object, not a list"),
        (one(TEXT), "a", "must be an object, not a string"),
        (BOTH, "info", "must be a whole number or one of inf, max; did you mean inf?"),
        (BOTH, 1.5, "must be a whole number, not a fraction"),
        (BOTH, [], "must be a whole number or one of inf, max, not a list"),
        (OBJECT_OR_WHOLE, "now", 'must be a whole number or an object such as {"type": "now"}, not a string'),
    ],
)
def test_what_is_wrong_is_one_sentence(shape: Shape, given: Any, sentence: str) -> None:
    values, [(path, found)] = Schema(one(shape)).check({"field": given})
    assert path == ("field",)
    assert found.startswith(sentence), found
    assert found == sentence or len(sentence) > 60
    # The rules that look at several fields take it for something that they do not know.
    assert isinstance(values["field"], Unknown)


def test_what_is_wrong_inside_leaves_the_rest() -> None:
    item = Struct("Item", {"name": Field(TEXT, required=True), "size": Field(WHOLE)})
    struct = Struct("S", {"list": Field(Array(item)), "map": Field(Map(WHOLE)), "anchor": Field(OBJECT_OR_WHOLE)})
    given = {
        "list": [{"name": "a", "size": 1.0}, {"size": "x", "nam": "b"}, ""],
        "map": {"a": 1.0, "b": "x"},
        "anchor": {"type": "then"},
    }
    values, problems = Schema(struct).check(given)
    assert dict(problems) == {
        ("list", 1, "size"): "must be a whole number, not a string",
        ("list", 1, "nam"): "Stripe has no such parameter; did you mean name?",
        ("list", 1, "name"): "is required",
        ("list", 2): "is empty; remove it from the list",
        ("map", "b"): "must be a whole number, not a string",
        ("anchor", "type"): "must be one of now, later",
    }
    assert values["list"][0] == {"name": "a", "size": 1}
    assert values["map"]["a"] == 1
    # Of what is wrong the rules see nothing that they know.
    assert isinstance(values["list"][2], Unknown)
    assert isinstance(values["list"][1]["name"], Unknown)
    assert "nam" not in values["list"][1]
    assert given["map"] == {"a": 1.0, "b": "x"}


def test_the_shape_that_a_value_has_is_found_among_several() -> None:
    assert fitting(BOTH, "inf") == Choice(("inf", "max"))
    assert fitting(BOTH, 3) == WHOLE
    assert fitting(BOTH, True) is None
    assert fitting(TEXT, "a") == TEXT
    assert fitting(OBJECT_OR_WHOLE, []) is None
