"""Every kind the sandbox implements; importing this module registers their routes."""

from __future__ import annotations

from . import products as products
