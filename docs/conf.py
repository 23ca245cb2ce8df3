"""Sphinx builds the documentation from here: `make docs`."""

import django
from django.conf import settings

import django_celery_extensions

settings.configure(INSTALLED_APPS=["django_celery_extensions"])  # autodoc imports modules that need Django
django.setup()

project = "django_celery_extensions"
author = "django_celery_extensions contributors"
project_copyright = author
version = release = django_celery_extensions.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx_copybutton"]
exclude_patterns = ["_build"]

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 4  # links to headings, as GitHub makes them

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
autodoc_class_signature = "separated"

html_theme = "furo"
html_title = f"django_celery_extensions {release}"
html_show_sphinx = False
