"""A stateful local Stripe: embedded in process, or served on a loopback port.

`Sandbox(path).handle(Request) -> Response` is all there is. `sandbox.client` puts it under stripe-python,
`sandbox.server` on a port. It imports neither of the project's other rooms, and `stripe` only in `sandbox.client`.
"""

from .gateway import Sandbox
from .wire import ConnectionDropped, Request, Response, SandboxFileError

__all__ = ["ConnectionDropped", "Request", "Response", "Sandbox", "SandboxFileError"]
