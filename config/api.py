"""How the REST API takes and answers requests, and describes itself. What it describes is in each app's api.py."""

from __future__ import annotations

from typing import Any

REST_FRAMEWORK: dict[str, Any] = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["apps.access.authentication.KeyAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["apps.edge.parsers.BoundedJSONParser"],
    "DEFAULT_PAGINATION_CLASS": "apps.edge.pagination.ByCursor",
    "DEFAULT_SCHEMA_CLASS": "apps.edge.openapi.Schema",
    "EXCEPTION_HANDLER": "apps.edge.errors.drf_handler",
    "UNAUTHENTICATED_USER": None,
    "PAGE_SIZE": 50,
}
SPECTACULAR: dict[str, Any] = {
    "TITLE": "Parley",
    "OAS_VERSION": "3.1.1",
    "DEFAULT_GENERATOR_CLASS": "apps.edge.openapi.Generator",
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "apps.ops.api_examples.add_examples",
    ],
    "SERVE_INCLUDE_SCHEMA": False,
    "SERVE_PERMISSIONS": ["rest_framework.permissions.AllowAny"],
    "SERVE_AUTHENTICATION": [],
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "SWAGGER_UI_SETTINGS": {"deepLinking": True, "defaultModelsExpandDepth": 0, "displayRequestDuration": True},
    "COMPONENT_SPLIT_REQUEST": True,
    "SCHEMA_PATH_PREFIX": "/api/v1",
    # Several bodies have each of these, and others have words of their own under the same names.
    "ENUM_NAME_OVERRIDES": {
        "TurnStateEnum": "apps.conversations.models.Turn.State",
        "MessageRoleEnum": "apps.conversations.models.Message.Role",
        "SourceKindEnum": "apps.knowledge.source_models.Source.Kind",
        "SourceRunStateEnum": "apps.knowledge.source_models.SourceRun.State",
        "SecondIndexStateEnum": "apps.knowledge.second_models.SecondIndex.State",
    },
}
