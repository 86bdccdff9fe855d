"""What API views build on: sync ones in their tenant's scope, and async ones that authenticate by themselves, for what
streams and must not pay for sync middleware."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ClassVar, cast

import orjson
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.access.authentication import Caller, authenticate_request
from apps.edge.errors import MethodNotAllowed, json_error
from apps.edge.middleware import ahead_of_middleware
from apps.tenants.scoping import tenant_scope
from chatbot.errors import InvalidRequest, NotPermitted, UnsupportedType

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")


class Guarded(APIView):
    """scopes: what each method asks of a caller; one that declares nothing lets nobody in. visitors: whether those may
    come who are bound to an end user."""

    scopes: ClassVar[Mapping[str, str]] = {}
    visitors: ClassVar[bool] = True

    @classmethod
    def admit(cls, caller: Caller, method: str) -> None:
        """Raises NotPermitted."""
        scope = cls.scopes.get("GET" if method == "HEAD" else method)
        if scope is None or (caller.end_user and not cls.visitors):
            raise NotPermitted
        caller.require(scope)

    @classmethod
    def answered(cls) -> list[str]:
        """The methods that there are."""
        return [name for name in METHODS if name.lower() in cls.http_method_names and hasattr(cls, name.lower())]


class TenantView(Guarded):
    """A sync view whose methods run in the scope of the caller's tenant, one transaction each.

    unscoped: methods that enter the scope themselves, since they do more than database work.
    """

    unscoped: tuple[str, ...] = ()

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        method = (request.method or "").lower()
        handler = getattr(self, method, None)
        if handler is None or method not in self.http_method_names:
            return  # it is told that this method is not allowed
        self.admit(cast("Caller", request.user), method.upper())
        if method not in self.unscoped:
            setattr(self, method, partial(_scoped, handler))


def _scoped(handler: Callable[..., Response], request: Request, *args: Any, **kwargs: Any) -> Response:
    with tenant_scope(cast("Caller", request.user)):
        return handler(request, *args, **kwargs)


class Door(Guarded):
    """An APIView to the OpenAPI generator, an async view to Django; methods are `async def get(request, caller)`."""

    @staticmethod
    def refuse(error: Exception) -> HttpResponse:
        """An error as this door tells it."""
        return json_error(error)

    @classmethod
    def as_view(cls, **initkwargs: Any) -> Any:
        async def view(request: HttpRequest, **parts: Any) -> HttpResponseBase:
            if request.method not in cls.answered():
                refusal = cls.refuse(MethodNotAllowed())
                refusal["Allow"] = ", ".join(cls.answered())
                return refusal
            handler = getattr(cls(), request.method.lower())
            caller = await authenticate_request(request)
            cls.admit(caller, request.method)
            response: HttpResponseBase = await handler(request, caller, **parts)
            return response

        view.cls = cls  # type: ignore[attr-defined]
        view.initkwargs = initkwargs  # type: ignore[attr-defined]
        return ahead_of_middleware(view)


def read_body(request: HttpRequest) -> dict[str, Any]:
    """The request's JSON object. Raises InvalidRequest, UnsupportedType or RequestDataTooBig."""
    if request.content_type not in {"application/json", ""}:
        raise UnsupportedType("This address reads application/json.")
    try:
        data = orjson.loads(request.body or b"{}")
    except orjson.JSONDecodeError as error:
        raise InvalidRequest("The request's body is not valid JSON.") from error
    if not isinstance(data, dict):
        raise InvalidRequest("The request's body is not a JSON object.")
    return data
