"""What Temporal Cloud asks for, by its price list. Pure; prices in US dollars, before support plans and commitments.

Source: docs.temporal.io/cloud/pricing, as its repository had it in autumn 2026. Beyond the last tier the list says
"contact sales"; the last tier's price is used there, so it is an upper bound.
"""

#: actions a month up to which, and dollars per million of them
ACTION_TIERS = ((5e6, 50.0), (10e6, 45.0), (20e6, 40.0), (50e6, 35.0), (100e6, 30.0), (float("inf"), 25.0))
HOURS_A_MONTH = 744.0  #: the list's own month
GB = 1e9


def actions_price(actions: float) -> float:
    """Of one month's actions, tier by tier."""
    total, below = 0.0, 0.0
    for upto, dollars in ACTION_TIERS:
        total += max(0.0, min(actions, upto) - below) / 1e6 * dollars
        below = upto
    return total


def storage_price(stored_bytes: float, per_gb_hour: float) -> float:
    """Of so many bytes kept for one month."""
    return stored_bytes / GB * HOURS_A_MONTH * per_gb_hour
