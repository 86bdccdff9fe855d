"""How the OpenAPI schema describes our credentials."""

from __future__ import annotations

from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension


class KeyScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = "apps.access.authentication.KeyAuthentication"
    name = ["bearer", "x-api-key"]

    def get_security_requirement(self, auto_schema: Any) -> list[dict[str, list[Any]]]:
        """Either of them, with the scope that the operation takes; one requirement with both would ask for both."""
        scope = auto_schema.view.scopes.get(auto_schema.method)
        return [{name: [scope] if scope else []} for name in self.name]

    def get_security_definition(self, auto_schema: Any) -> list[dict[str, Any]]:
        return [
            {
                "type": "http",
                "scheme": "bearer",
                "bearerFormat": "parley_<id>_<secret>",
                "description": "An API key of the tenant, `Authorization: Bearer parley_…`, or a visitor's token.",
            },
            {"type": "apiKey", "in": "header", "name": "x-api-key", "description": "The same key, by its own header."},
        ]
