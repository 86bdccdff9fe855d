"""What would happen at a page of somebody's web site that named our script, and why."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from apps.edge.origins import LOOPBACK, origin_in, own_origin
from apps.widget import bundle
from apps.widget.models import Widget
from chatbot.errors import InvalidRequest


@dataclass(frozen=True, slots=True)
class Verdict:
    good: bool
    says: str


def judge(widget: Widget, address: str) -> list[Verdict]:
    """Of the page at this address, in sentences. The first one tells whether its visitors are let in."""
    try:
        origin = _origin(address)
    except InvalidRequest as error:
        return [Verdict(False, error.message)]
    verdicts = [_let_in(widget, origin), _framed(widget, origin)]
    if not widget.assistant.is_active:
        verdicts.insert(0, Verdict(False, "The assistant is switched off, so nobody is let in anywhere."))
    if not bundle.is_there():
        verdicts.insert(0, Verdict(False, bundle.MISSING))
    if origin != own_origin():
        verdicts.append(
            Verdict(
                True,
                f"If {origin} has a Content-Security-Policy, it has to allow {own_origin()} in script-src, connect-src "
                "and img-src.",
            )
        )
    return verdicts


def _origin(address: str) -> str:
    """Of a page's whole address, or of an origin. Raises InvalidRequest."""
    text = address.strip()
    if "://" not in text:
        text = f"https://{text}"
    try:
        parts = urlsplit(text)
    except ValueError as error:
        raise InvalidRequest("This is no address: https://shop.example/page.") from error
    if f"{parts.scheme}://{parts.netloc}".lower() == own_origin():
        return own_origin()
    if parts.scheme == "http" and (parts.hostname or "") not in LOOPBACK:
        raise InvalidRequest("Pages without TLS let nobody in: the address has to begin with https://.")
    return origin_in(f"{parts.scheme}://{parts.netloc}".lower())


def _let_in(widget: Widget, origin: str) -> Verdict:
    listed = widget.assistant.visitor_origins
    if origin in listed:
        return Verdict(True, f"Visitors of {origin} are let in: it is listed at the assistant.")
    if origin == own_origin():
        if widget.hosted:
            return Verdict(True, f"{origin} is Parley's own, and the hosted page is on.")
        return Verdict(False, f"{origin} is Parley's own: switch the hosted page on to let its visitors in.")
    if not listed:
        return Verdict(False, f"Visitors of {origin} get 401: no web site is listed at the assistant, under Visitors.")
    if near := _near(origin, listed):
        return Verdict(False, f"Visitors of {origin} get 401: {near} is listed, and to browsers that is another site.")
    return Verdict(False, f"Visitors of {origin} get 401: it is not listed at the assistant, under Visitors.")


def _near(origin: str, listed: list[str]) -> str:
    """A listed origin that somebody may have taken for this one: another scheme or port, or www."""

    def core(text: str) -> str:
        return (urlsplit(text).hostname or "").removeprefix("www.")

    return next((one for one in listed if core(one) == core(origin)), "")


def _framed(widget: Widget, origin: str) -> Verdict:
    if origin == own_origin():
        return Verdict(True, "The widget needs no frame.")
    if origin in widget.framed_by():
        return Verdict(True, f"Pages of {origin} may show the hosted page in a frame.")
    return Verdict(False, f"Pages of {origin} cannot show the hosted page in a frame; the script tag needs none.")
