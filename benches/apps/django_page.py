"""A Django site of one view with one template."""

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.shortcuts import render
from django.urls import path

PAGE = "<h1>{{ title }}</h1><ul>{% for number in numbers %}<li>{{ number }}</li>{% endfor %}</ul>"

settings.configure(
    SECRET_KEY="known to everyone who reads the benchmarks",
    ALLOWED_HOSTS=["127.0.0.1"],
    ROOT_URLCONF=__name__,
    MIDDLEWARE=["django.middleware.common.CommonMiddleware"],
    TEMPLATES=[
        {
            "BACKEND": "django.template.backends.django.DjangoTemplates",
            "OPTIONS": {"loaders": [("django.template.loaders.locmem.Loader", {"page.html": PAGE})]},
        }
    ],
)


def page(request):
    return render(request, "page.html", {"title": "Hello", "numbers": range(20)})


urlpatterns = [path("page", page)]
application = get_wsgi_application()
