"""Every kind the sandbox implements, one line each; importing this module registers their routes."""

from __future__ import annotations

from . import cards as cards
from . import catalog as catalog
from . import coupons as coupons
from . import customers as customers
from . import events as events
from . import invoice_items as invoice_items
from . import invoices as invoices
from . import meter_events as meter_events
from . import meter_events_v2 as meter_events_v2
from . import meters as meters
from . import prices as prices
from . import products as products
from . import promotion_codes as promotion_codes
from . import search as search
from . import subscription_items as subscription_items
from . import subscription_schedules as subscription_schedules
from . import subscriptions as subscriptions
from . import tax_rates as tax_rates
from . import test_clocks as test_clocks
from . import trial_offers as trial_offers
