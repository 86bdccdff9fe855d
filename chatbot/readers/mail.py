"""E-mails as Markdown: who wrote to whom and when, the text, and the names of what was attached."""

from __future__ import annotations

import email.policy
from email.errors import MessageError
from email.message import EmailMessage
from email.parser import BytesParser

from chatbot import charsets, formats, markdown
from chatbot.readers import Pages, Unreadable, hypertext

_HEADERS = ("Subject", "From", "To", "Cc", "Date")


def read(data: bytes) -> tuple[Pages, str | None]:
    """The subject is the title. Attachments are not read."""
    try:
        message = BytesParser(policy=email.policy.default).parsebytes(data)
        heads = [(name, _header(message, name)) for name in _HEADERS]
        body = _body(message)
        attached = [_name(part) for part in message.iter_attachments()] if message.is_multipart() else []
    except (MessageError, LookupError, ValueError, RecursionError, AttributeError) as e:
        raise Unreadable("This e-mail is damaged and cannot be read.") from e
    if not body and not any(value for _, value in heads):
        raise Unreadable("The file is no e-mail: it has neither a sender nor a text.")
    lines = [f"{name}: {value}" for name, value in heads if value]
    lines += [f"Attachments: {', '.join(attached)}"] if attached else []
    text = "\n\n".join(filter(None, [markdown.escape("\n".join(lines)), body]))
    return [(None, text)], _header(message, "Subject") or None


def _header(message: EmailMessage, name: str) -> str:
    return " ".join(str(message.get(name, "")).split())


def _body(message: EmailMessage) -> str:
    """The plain text, else the HTML, which a mail with both has with the same words."""
    part = message.get_body(preferencelist=("plain", "html"))
    if part is None:
        return ""
    payload = part.get_payload(decode=True)
    content = payload if isinstance(payload, bytes) else b""
    charset = part.get_content_charset("")
    if part.get_content_subtype() == "html":
        return hypertext.convert(_decoded(content, charset))[0]
    text = _decoded(content, charset).replace("\r\n", "\n").replace("\r", "\n")
    return markdown.escape("\n".join(line.rstrip() for line in text.split("\n")).strip("\n"))


def _decoded(content: bytes, charset: str) -> str:
    known = charsets.known_charset(charset)
    return content.decode(known, "replace") if known else charsets.decoded(content)


def _name(part: object) -> str:
    """Of an attachment, or of the mail that it is."""
    assert isinstance(part, EmailMessage)  # noqa: S101 - for the type checker: the policy makes no others
    if name := part.get_filename():
        return " ".join(name.split())
    inner = part.get_payload(0) if part.get_content_type() == formats.MAIL and part.is_multipart() else None
    subject = _header(inner, "Subject") if isinstance(inner, EmailMessage) else ""
    return f"“{subject}”" if subject else f"unnamed ({part.get_content_type()})"
