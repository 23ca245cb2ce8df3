"""The shop's app."""

from django.apps import AppConfig


class ShopConfig(AppConfig):
    """Connects the receivers that log the invocations of the command task."""

    name = "example_project.shop"

    def ready(self) -> None:
        """Import the receivers once the models are there."""
        from example_project.shop import receivers  # noqa: F401
