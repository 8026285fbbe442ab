"""`python manage.py runmanifold`: serves a Django project with Apache httpd and mod_manifold.

Name it in INSTALLED_APPS. It has no models, no settings and no code that a server runs.
"""
