"""What the site answers."""

from django.contrib import admin
from django.urls import path

from . import views

urlpatterns = [
    path("admin/", admin.site.urls),
    path("notes/", views.notes, name="notes"),
    path("upload/", views.upload, name="upload"),
    path("stream/", views.stream),
    path("facts/", views.facts),
    path("fail/", views.fail),
]
