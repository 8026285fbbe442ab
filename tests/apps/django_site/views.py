"""The site's pages beside the admin."""

import hashlib
import os
import threading

from django import forms
from django.conf import settings
from django.contrib import messages
from django.http import HttpResponse, StreamingHttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse

from .models import Note

visits = 0
visits_lock = threading.Lock()


class NoteForm(forms.ModelForm):
    class Meta:
        model = Note
        fields = ["title", "text"]


class UploadForm(forms.Form):
    file = forms.FileField()


def notes(request):
    """A form; what was sent last is in the session, what all have sent is in the database."""
    form = NoteForm(request.POST or None)
    if form.is_valid():
        form.save()
        request.session["last"] = form.cleaned_data["title"]
        messages.success(request, "The note was kept.")
        return redirect("notes")
    return render(request, "form.html", {"form": form, "notes": Note.objects.order_by("id")})


def upload(request):
    """A file comes back as its name, its size, its digest, and whether it went through a disk."""
    form = UploadForm(request.POST or None, request.FILES or None)
    if not form.is_valid():
        return render(request, "form.html", {"form": form})
    file = form.cleaned_data["file"]
    digest = hashlib.md5(usedforsecurity=False)
    for chunk in file.chunks():
        digest.update(chunk)
    return show(
        name=file.name,
        size=file.size,
        digest=digest.hexdigest(),
        on_disk=hasattr(file, "temporary_file_path"),
    )


def stream(request):
    """A block, a byte from the FIFO `gate`, and another block."""

    def blocks():
        yield "first,"
        gate = os.open(settings.STATE / "gate", os.O_RDONLY)
        os.read(gate, 1)
        os.close(gate)
        yield "second"

    return StreamingHttpResponse(blocks(), content_type="text/plain")


def facts(request):
    """Which interpreter this is, and how often it has been asked that."""
    global visits
    with visits_lock:
        visits += 1
        count = visits
    return show(
        group=request.META["mod_wsgi.application_group"],
        visits=count,
        here=reverse("notes"),
        address=request.build_absolute_uri(),
    )


def fail(request):
    raise LookupError("a view that fails")


def show(**values):
    lines = [f"{key}\t{value!a}\n" for key, value in values.items()]
    return HttpResponse("".join(lines), content_type="text/plain")
