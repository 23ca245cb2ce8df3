"""The customers' mail servers: each takes its time, and one kind refuses the first attempts."""

import time

from example_project.shop.models import Mail, Order

SECONDS = {Order.MailServer.FINE: 0.4, Order.MailServer.BUSY: 0.2, Order.MailServer.SLOW: 3.0}
BUSY_ATTEMPTS = 2


class MailServerBusy(Exception):
    """The mail server asks to come back later."""


def deliver(order: Order, attempt: int) -> Mail:
    """Hand over the confirmation of an order; ``attempt`` counts from 1.

    Raises :class:`MailServerBusy` on the first two attempts where the order's mail server is a busy one.
    """
    time.sleep(SECONDS[Order.MailServer(order.mail_server)])
    if order.mail_server == Order.MailServer.BUSY and attempt <= BUSY_ATTEMPTS:
        raise MailServerBusy("451 try again later")
    return Mail.objects.create(
        order=order,
        to=order.email,
        subject=f"Order {order.pk}: {order.product.name}",
        attempts=attempt,
    )
