"""Compares what two checkouts declare, where there is no state: for pull requests from forks, which have no secrets.

The base's program is taken as what the stack has. The providers' own pure functions check and compare.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pulumi.output import UNKNOWN
from pulumi.runtime import rpc

from components.providers import differ, paid
from components.providers.errors import subject
from components.providers.kind import Kind
from components.providers.values import Inputs, declared, mapping, path_text
from components.redaction import as_line
from pricing.evaluation import Declared, Evaluation, evaluate
from pricing.program import config, project
from pricing.review.change import KIND, Objects, Op, Preview, Step, arguments

#: What the program says of the place where it runs, which here is none.
_OF_THIS_PLACE = "pulumi up will be refused: "


def compared(base: Path, head: Path, stack: str) -> Preview:
    """What the change from one checkout to the other does.

    Raises:
        ProgramError: a checkout has no such project or stack, or its program cannot be run.
    """
    name, _ = project(head), config(base, stack)
    live = config(head, stack).get("stripe-pricing:mode") == "live"
    old = evaluate(base, stack)
    if old.failure is not None:
        why = f"The program that this is compared with does not run: {old.failure}"
        return Preview(name, stack, _customers(old), failure=why)
    there = {each.urn: _there(each, live, old) for each in old.resources}
    state = {urn: {"type": "", "outputs": outputs} for urn, outputs in there.items()}
    new = evaluate(head, stack, state)
    if new.failure is not None:
        return Preview(name, stack, _customers(old, new), failure=new.failure)
    comparison = _Comparison(old, new, there, live)
    steps = comparison.steps()
    said = [line for line in new.warnings if not line.startswith(_OF_THIS_PLACE)]
    preview = Preview(name, stack, steps, old.plans, new.plans)
    said += _sentences(steps, preview.objects)
    refused = [*comparison.problems, *_refusals(steps, preview.objects)]
    if refused:
        return Preview(name, stack, steps, failure="\n".join(refused))
    return Preview(name, stack, steps, old.plans, new.plans, [as_line(line) for line in said])


def _customers(*evaluations: Evaluation) -> list[Step]:
    """What a failure must not quote."""
    found = [each for evaluation in evaluations for each in evaluation.resources if each.kind == "Customer"]
    return [Step("same", each.kind, each.name, each.urn, new=each.inputs) for each in found]


def _there(each: Declared, live: bool, old: Evaluation) -> Inputs:
    """What a state has of a resource that the base declares."""
    kind = KIND.get(each.kind)
    if kind is None:
        return {**each.inputs, **each.outputs}
    inputs, _ = _checked(kind, each.inputs, live)
    return {**inputs, **(_billed(inputs, old) if kind.name == "Subscription" else {})}


def _billed(inputs: Inputs, old: Evaluation) -> Inputs:
    """The outputs of a subscription that follow from what is declared."""
    prices = {f"Price/{each.name}": each.inputs for each in old.resources if each.kind == "Price"}
    items = {key: mapping(item) for key, item in mapping(inputs.get("items")).items()}
    known = {key: prices[item["price"]] for key, item in items.items() if item.get("price") in prices}
    currency = inputs.get("currency")
    costs = {
        key: paid.fee_text(price, items[key].get("quantity", 1), currency)
        for key, price in known.items()
        if not paid.is_metered(price)
    }
    return {
        "billing_mode_type": mapping(inputs.get("billing_mode")).get("type"),
        "billing_currency": currency,
        "metered_items": [key for key, price in known.items() if paid.is_metered(price)],
        "fees": {key: text for key, text in costs.items() if text},
    }


def _checked(kind: Kind, inputs: Mapping[str, Any], live: bool) -> tuple[Inputs, list[str]]:
    """Arguments as a provider's check returns them, and what is wrong with them."""
    found, problems = kind.schema.check(declared(_known(inputs)))
    found = kind.fill(found, live)
    known = {path for path, _ in problems}
    for rule in kind.rules:
        problems += [(path, sentence) for path, sentence in rule(found) if path not in known]
    return found, [f"{subject(kind.name, inputs)}: {path_text(path)}: {sentence}" for path, sentence in problems]


def _known(value: Any, unknown: Callable[[object], bool] = lambda value: value == rpc.UNKNOWN) -> Any:
    """Properties with Pulumi's own value in place of what is not known yet."""
    if isinstance(value, Mapping):
        return {key: _known(each, unknown) for key, each in value.items()}
    if isinstance(value, list):
        return [_known(each, unknown) for each in value]
    return UNKNOWN if unknown(value) else value


@dataclass
class _Comparison:
    old: Evaluation
    new: Evaluation
    there: Mapping[str, Inputs]
    live: bool

    def __post_init__(self) -> None:
        self.problems: list[str] = []

    def steps(self) -> list[Step]:
        """The steps of a run, in the order in which the program declares, then what it does not declare."""
        base = {(each.kind, each.name): each for each in self.old.resources}
        found: list[Step] = []
        matched: set[str] = set()
        replaced: set[object] = set()
        for each in self.new.resources:
            names = (each.name, *each.former)
            before = next((base[each.kind, name] for name in names if (each.kind, name) in base), None)
            if before is not None:
                matched.add(before.urn)
            step = self._step(each, before, replaced)
            if step.op == "replace":
                replaced.add(step.id)
            found.append(step)
        for gone in self.old.resources:
            if gone.urn not in matched:
                kind = KIND.get(gone.kind)
                outputs = self.there[gone.urn]
                old = arguments(kind, outputs) if kind else gone.inputs
                found.append(Step("delete", gone.kind, gone.name, gone.urn, _id(gone), outputs, old))
        return [step for step in found if step.kind != "pulumi:pulumi:Stack"]

    def _step(self, each: Declared, before: Declared | None, replaced: set[object]) -> Step:
        kind, id_ = KIND.get(each.kind), _id(before or each)
        if kind is None:
            op: Op = "create" if before is None else "same" if before.inputs == each.inputs else "update"
            return Step(op, each.kind, each.name, each.urn, id_, {}, before.inputs if before else {}, each.inputs)
        # What a run replaces has no id yet when what links to it is compared.
        inputs = _known(each.inputs, lambda value: isinstance(value, str) and value in replaced)
        new, problems = _checked(kind, inputs, self.live)
        self.problems += problems
        new = kind.arguments(new)
        if before is None:
            op = "adopt" if isinstance(new.get("adopt"), str) else "create"
            return Step(op, each.kind, each.name, each.urn, id_, {}, {}, new)
        outputs = self.there[before.urn]
        if before.name != each.name:
            # The owner names the resource, and an alias keeps the object.
            outputs = {**outputs, "owner": new.get("owner")}
        change = differ.compare(kind, id_, outputs, new, lambda kind, id_: None)
        op = "replace" if change.replaces else "update" if change.old != change.new else "same"
        return Step(op, each.kind, each.name, each.urn, id_, outputs, change.old, new)


def _id(each: Declared) -> str:
    return f"{each.kind}/{each.name}"


def _refusals(steps: list[Step], objects: Objects) -> Iterator[str]:
    """What the providers refuse."""
    for step in steps:
        if (kind := KIND.get(step.kind)) is None or step.op == "delete":
            continue
        for path, sentence in kind.linked_rules(step.new, objects):
            yield f"{subject(kind.name, step.new)}: {path_text(path)}: {sentence}"
        if step.op in ("update", "replace") and (why := differ.refusal(_change(kind, step, objects))):
            yield f"{subject(kind.name, step.new)}: {why}"


def _sentences(steps: list[Step], objects: Objects) -> list[str]:
    """What the providers say, each sentence once."""
    said: dict[str, None] = {}
    for step in steps:
        if (kind := KIND.get(step.kind)) is None or step.op == "delete":
            continue
        about = subject(kind.name, step.new)
        is_new = step.op in ("create", "adopt", "replace")
        said |= {f"{about}: {remark}": None for remark in kind.remarks(step.new, is_new, objects)}
        if step.op in ("update", "replace"):
            change = _change(kind, step, objects)
            said |= dict.fromkeys(kind.notices(change))
            said |= {f"{about}: {warning}": None for warning in differ.warnings(change)}
    return list(said)


def _change(kind: Kind, step: Step, objects: Objects) -> Any:
    return differ.compare(kind, step.id, step.outputs, step.new, objects)
