"""Times, sizes and numbers in templates, as admin_words says them."""

from __future__ import annotations

from django import template

from apps.tenants import admin_words

register = template.Library()
register.filter("ago", admin_words.ago)
register.filter("duration", admin_words.duration)
register.filter("number", admin_words.number)
register.filter("size", admin_words.size)
