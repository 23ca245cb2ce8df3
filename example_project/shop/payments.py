"""The payment provider: slow as they are, and not every card is good."""

import time

from example_project.shop.models import Order

SECONDS = 0.25


class PaymentDeclined(Exception):
    """The customer's bank said no."""


def charge(order: Order, card: str) -> None:
    """Take the price of an order from a card. Raises :class:`PaymentDeclined` for a card called ``declined``."""
    time.sleep(SECONDS)
    if card == "declined":
        raise PaymentDeclined("card declined")
