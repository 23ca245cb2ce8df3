"""Fills the shelves."""

from decimal import Decimal
from typing import Any

from django.db import migrations

PRODUCTS = [
    ("Dot-grid notebook", "A5, 192 pages, lies flat", "14.50", "notebook"),
    ("Fountain pen", "Steel nib, medium", "29.00", "pen"),
    ("Iron gall ink", "50 ml, dries blue-black", "11.80", "ink"),
    ("Laid envelopes", "Twenty-five, with lining", "9.20", "envelope"),
]


def add_products(apps: Any, schema_editor: Any) -> None:
    """Add what the shop sells."""
    product = apps.get_model("shop", "Product")
    for name, note, price, icon in PRODUCTS:
        product.objects.create(name=name, note=note, price=Decimal(price), icon=icon)


class Migration(migrations.Migration):
    """Products are part of the example, not of anybody's data."""

    dependencies = [("shop", "0001_initial")]
    operations = [migrations.RunPython(add_products, migrations.RunPython.noop)]
