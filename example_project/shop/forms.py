"""What a customer may send."""

from typing import Any

from django import forms

from example_project.shop.models import Order, Product

CARDS = [("good", "a good card"), ("declined", "a card that will be declined")]
CUSTOMERS = ("Ada Byron", "Grace Murray", "Alan Turing", "Hedy Kiesler", "Emmy Noether", "Edsger Dijkstra")


class OrderForm(forms.ModelForm):
    """An order, with the trouble that a visitor wants to see."""

    product = forms.ModelChoiceField(Product.objects.all())
    mail_server = forms.ChoiceField(choices=Order.MailServer.choices, required=False)
    card = forms.ChoiceField(choices=CARDS, required=False)
    clicks = forms.IntegerField(min_value=1, max_value=20, required=False)

    class Meta:
        """The customer is made up, see ``save``."""

        model = Order
        fields = ("product", "mail_server")

    def clean_mail_server(self) -> str:
        """Take the usual mail server where none is named."""
        return self.cleaned_data["mail_server"] or Order.MailServer.FINE

    def clean_clicks(self) -> int:
        """Take one click where no number is given."""
        return self.cleaned_data["clicks"] or 1

    def save(self, commit: bool = True) -> Any:
        """Make up a customer and save the order."""
        self.instance.customer = CUSTOMERS[Order.objects.count() % len(CUSTOMERS)]
        return super().save(commit)
