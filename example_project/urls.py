"""The shop is the whole site."""

from django.urls import include, path

urlpatterns = [path("", include("example_project.shop.urls"))]
