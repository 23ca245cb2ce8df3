"""Addresses of the shop."""

from django.urls import path

from example_project.shop import views

urlpatterns = [
    path("", views.index, name="index"),
    path("live/", views.live, name="live"),
    path("log.json", views.log, name="log"),
    path("mails.json", views.mails, name="mails"),
    path("orders/", views.place_order, name="place-order"),
    path("orders/<int:order_pk>/confirmation/", views.resend_confirmation, name="resend-confirmation"),
    path("report/", views.request_report, name="request-report"),
    path("archive/", views.run_archive, name="run-archive"),
    path("clear/", views.clear, name="clear"),
]
