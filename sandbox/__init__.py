"""A stateful local Stripe: embedded in process, or served on a loopback port.

`Sandbox(path).handle(Request) -> Response` is the whole interface. `sandbox.client` connects it to stripe-python,
`sandbox.server` to a port. It imports none of the project's other packages, and `stripe` only in `sandbox.client`.
"""

from .gateway import Sandbox
from .wire import ConnectionDropped, Request, Response, SandboxFileError

__all__ = ["ConnectionDropped", "Request", "Response", "Sandbox", "SandboxFileError"]
