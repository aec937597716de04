"""`aws <service> <operation> --parameter value ...` as AWS's command line has it, over the same model (botocore's).

Of its syntax it has what docs/production.md uses: `file://`, `Name=value,Name=value`, --query and --output text.
"""

from __future__ import annotations

import sys
from typing import Any

import boto3
import jmespath  # type: ignore[import-untyped]
from botocore import xform_name


def main(words: list[str]) -> None:
    service, operation, *rest = words
    client = boto3.client("s3" if service == "s3api" else service)
    options = dict(zip(rest[::2], rest[1::2], strict=True))
    query, output = options.pop("--query", None), options.pop("--output", "json")
    method = operation.replace("-", "_")
    shape = client.meta.service_model.operation_model(client.meta.method_to_api_mapping[method]).input_shape
    members = {f"--{xform_name(name, '-')}": (name, member) for name, member in shape.members.items()}
    parameters = {}
    for option, text in options.items():
        name, member = members[option]
        parameters[name] = _value(text, member)
    answer = getattr(client, method)(**parameters)
    if query:
        answer = jmespath.search(query, answer)
        assert output == "text", output
        print(answer)


def _value(text: str, shape: Any) -> Any:
    if text.startswith("file://"):
        with open(text.removeprefix("file://")) as file:
            text = file.read()
            # AWS's keeps a line break, too; a key has none where `printf %s` writes it.
    if shape.type_name == "structure":
        pairs = (part.split("=", 1) for part in text.split(","))
        return {name: _value(value, shape.members[name]) for name, value in pairs}
    return text == "true" if shape.type_name == "boolean" else text


if __name__ == "__main__":
    main(sys.argv[1:])
