"""Applications in the admin: registered by owners, their secret shown once; deleting one ends its tokens."""

from __future__ import annotations

from django.contrib import admin

from apps.oauth.models import AccessToken, Application, Grant, IDToken, RefreshToken

# The toolkit's own pages, which know no tenants.
admin.site.unregister([Application, Grant, AccessToken, RefreshToken, IDToken])
