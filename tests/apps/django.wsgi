"""A Django site with the admin: the package `django_site`, which has to be on the path."""

import os

from django.core.wsgi import get_wsgi_application

os.environ["DJANGO_SETTINGS_MODULE"] = "django_site.settings"

handle_request = application = get_wsgi_application()
