"""Large files in pieces, by tus: they go on after whatever broke, and leave nothing behind that nobody wants."""

from __future__ import annotations

import base64
import datetime
import hashlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.db import connections
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from apps.knowledge import forgetting, storage, uploads
from apps.knowledge.collections import delete_collection
from apps.knowledge.models import Collection, Document, Tombstone, Upload
from apps.knowledge.tasks import forget_deleted
from apps.tenants.models import Tenant
from apps.tenants.scoping import tenant_scope
from apps.usage import keeping
from chatbot.errors import OffsetConflict
from tests.abuse.test_26_bombs import zipped
from tests.apps.admin_world import logged_in
from tests.apps.knowledge.asking import client_of, refused, stored_files, upload
from tests.apps.knowledge.ingesting import in_thread, ingested, live_texts, manual, pdf
from tests.factories import make_member, make_quota

FILE = manual(3)
PIECE = 500


@pytest.fixture
def client(acme: Tenant, manuals: Collection) -> Client:
    return client_of(acme)


def announced(size: int, name: str = "pump.md", **more: str) -> dict[str, str]:
    said = {"collection": "manuals", "filename": name, **more}
    values = [f"{key} {base64.b64encode(value.encode()).decode()}" for key, value in said.items()]
    return {"Tus-Resumable": "1.0.0", "Upload-Length": str(size), "Upload-Metadata": ",".join(values)}


def begin(client: Client, size: int, name: str = "pump.md", **more: str) -> Any:
    return client.post("/api/v1/uploads", headers=announced(size, name, **more))


def begun(client: Client, size: int, name: str = "pump.md", **more: str) -> str:
    response = begin(client, size, name, **more)
    assert response.status_code == 201, response.content
    return str(response["Location"])


def send(client: Client, where: str, offset: int, piece: bytes, **headers: str) -> Any:
    kind = {"Content-Type": "application/offset+octet-stream", "Content-Length": str(len(piece))}
    headers = {"Tus-Resumable": "1.0.0", "Upload-Offset": str(offset), **kind, **headers}
    return client.patch(where, piece, content_type=kind["Content-Type"], headers=headers)


def offset_of(client: Client, where: str) -> int:
    response = client.head(where, headers={"Tus-Resumable": "1.0.0"})
    assert response.status_code == 200
    assert response["Cache-Control"] == "no-store"
    return int(response["Upload-Offset"])


def sent(client: Client, where: str, content: bytes, piece: int = PIECE) -> Any:
    """All of it; the last response."""
    response = None
    for offset in range(0, len(content), piece):
        response = send(client, where, offset, content[offset : offset + piece])
        if offset + piece < len(content):
            assert response.status_code == 204, response.content
            assert response["Upload-Offset"] == str(offset + piece)
    return response


def kept(tenant: Tenant) -> keeping.Kept:
    with tenant_scope(tenant):
        return keeping.kept(tenant)


def test_a_file_in_pieces_is_the_document_that_it_is_in_one(acme: Tenant, client: Client) -> None:
    where = begun(client, len(FILE), title="Pumps", language="de", sha256=hashlib.sha256(FILE).hexdigest())
    last = sent(client, where, FILE)
    assert (last.status_code, last["Upload-Offset"], last["Tus-Resumable"]) == (204, str(len(FILE)), "1.0.0")
    document = Document.objects.get()
    assert (document.title, document.file_name, document.size) == ("Pumps", "pump.md", len(FILE))
    assert document.language == "de"
    assert [path.read_bytes() for path in stored_files()] == [FILE]
    told = client.get(where).json()
    assert told["offset"] == told["size"] == len(FILE)
    assert told["results"] == [{"file_name": "pump.md", "added": True, "document": str(document.pk), "refusal": None}]
    assert ingested(acme, document).status == Document.Status.READY
    assert live_texts(document)
    assert not Tombstone.objects.exists()


def test_it_goes_on_where_it_stopped(client: Client) -> None:
    where = begun(client, len(FILE))
    assert offset_of(client, where) == 0
    assert send(client, where, 0, FILE[:700]).status_code == 204
    assert offset_of(client, where) == 700
    # The answer was lost, so the piece comes again; and one that was never asked for.
    for wrong in (0, 699, 701, len(FILE)):
        assert refused(send(client, where, wrong, FILE[wrong : wrong + 10] or b""), 409)["code"] == "offset_conflict"
    assert send(client, where, 700, b"").status_code == 204
    assert offset_of(client, where) == 700
    assert send(client, where, 700, FILE[700:]).status_code == 204
    assert Document.objects.get().size == len(FILE)
    assert refused(send(client, where, 700, FILE[700:]), 409)["code"] == "offset_conflict"


def test_two_pieces_for_one_place_are_one_piece(acme: Tenant, manuals: Collection) -> None:
    """By repetition: whoever is second is told, and leaves no byte."""

    def raced(offset: int, letter: bytes) -> bool:
        try:
            with tenant_scope(acme):
                found = uploads.find_upload(acme, upload_id)
            uploads.append(acme, found, offset, ContentFile(letter * PIECE))
        except OffsetConflict:
            return False
        finally:
            connections.close_all()
        return True

    with tenant_scope(acme):
        upload_id = uploads.begin(acme, manuals, name="race.txt", size=6 * PIECE).pk
    with ThreadPoolExecutor(4) as threads:
        for turn in range(6):
            won = list(threads.map(raced, [turn * PIECE] * 4, [b"a", b"b", b"c", b"d"]))
            assert sum(won) == 1, won
            assert Upload.objects.get().offset == (turn + 1) * PIECE
            assert len(stored_files()) == (turn + 1 if turn < 5 else 1)
    [document] = Document.objects.all()
    content = stored_files()[0].read_bytes()
    assert document.size == len(content) == 6 * PIECE
    assert all(len(set(content[at : at + PIECE])) == 1 for at in range(0, len(content), PIECE))


@pytest.mark.parametrize("name", ["pump.md", "both.zip"])
def test_a_last_piece_that_comes_again_spares_what_the_first_made(
    acme: Tenant, manuals: Collection, client: Client, name: str
) -> None:
    """The client's patience ended while the file was put together, and its offset was still the old one."""
    content = FILE if name == "pump.md" else zipped({"one.md": b"# One", "two.md": b"# Two"})
    where = begun(client, len(content), name)
    first, last = content[: len(content) // 2], content[len(content) // 2 :]
    assert send(client, where, 0, first).status_code == 204
    with tenant_scope(acme):
        again = uploads.find_upload(acme, Upload.objects.get().pk)
    assert send(client, where, len(first), last).status_code == 204
    told = client.get(where).json()
    with pytest.raises(OffsetConflict):
        uploads.append(acme, again, len(first), ContentFile(last))
    assert client.get(where).json() == told
    assert {result["document"] for result in told["results"]} == {str(one.pk) for one in Document.objects.all()}


def test_a_death_in_mid_piece_leaves_an_honest_offset(
    acme: Tenant, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = begun(client, len(FILE))
    send(client, where, 0, FILE[:PIECE])

    class Died(BaseException):
        pass

    def die(*_: Any) -> None:
        raise Died

    with monkeypatch.context() as patch:
        patch.setattr(storage, "claim", die)  # the bytes are stored, the row does not name them yet
        patch.setattr(storage, "discard", lambda _: None)  # a process that died clears nothing away
        with pytest.raises(Died):
            send(client, where, PIECE, FILE[PIECE : 2 * PIECE])
        with pytest.raises(Died):  # and with the last piece
            send(client, where, PIECE, FILE[PIECE:])
    assert offset_of(client, where) == PIECE
    assert not Document.objects.exists()
    assert len(stored_files()) == 3
    assert send(client, where, PIECE, FILE[PIECE:]).status_code == 204
    Tombstone.objects.update(created=timezone.now())  # an hour later
    forget_deleted()
    assert [path.read_bytes() for path in stored_files()] == [FILE]


@pytest.mark.parametrize("name", ["pump.md", "both.zip"])
def test_a_death_after_the_last_piece_leaves_what_became_of_it(
    client: Client, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    content = FILE if name == "pump.md" else zipped({"one.md": b"# One", "two.md": b"# Two"})
    where = begun(client, len(content), name)
    half = len(content) // 2
    send(client, where, 0, content[:half])

    class Died(BaseException):
        pass

    def die(*_: Any) -> None:
        raise Died

    with monkeypatch.context() as patch:
        patch.setattr(storage, "discard", die)  # the pieces are deleted as soon as the end is committed
        with pytest.raises(Died):
            send(client, where, half, content[half:])
    refused(send(client, where, half, content[half:]), 409)
    documents = {result["document"] for result in client.get(where).json()["results"]}
    assert documents == {str(document.pk) for document in Document.objects.all()} != set()


def test_what_nobody_goes_on_with_expires(acme: Tenant, client: Client) -> None:
    where = begun(client, len(FILE))
    send(client, where, 0, FILE[:PIECE])
    assert stored_files()
    forget_deleted()
    assert offset_of(client, where) == PIECE
    Upload.objects.update(expires=timezone.now() - datetime.timedelta(seconds=1))
    refused(send(client, where, PIECE, FILE[PIECE:]), 404)
    assert kept(acme).bytes == len(FILE)
    forget_deleted()
    assert not Upload.objects.exists()
    assert not stored_files()
    assert kept(acme).bytes == 0


def test_what_is_only_announced_expires_soon(client: Client) -> None:
    hour, day = datetime.timedelta(hours=1), datetime.timedelta(hours=24)
    where = begun(client, len(FILE))
    assert Upload.objects.get().expires <= timezone.now() + hour
    send(client, where, 0, FILE[:PIECE])
    assert timezone.now() + day - hour < Upload.objects.get().expires <= timezone.now() + day


def test_who_lost_an_address_finds_it_in_the_list(globex: Tenant, client: Client) -> None:
    sent(client, begun(client, len(FILE)), FILE)  # whole ones are documents
    lost, newer, expired = (begun(client, len(FILE)) for _ in range(3))
    send(client, lost, 0, FILE[:PIECE])
    Upload.objects.filter(pk=expired.rpartition("/")[2]).update(expires=timezone.now())
    listed = client.get("/api/v1/uploads").json()["results"]
    assert listed == [client.get(newer).json(), client.get(lost).json()]
    assert [row["offset"] for row in listed] == [0, PIECE]
    assert client_of(globex).get("/api/v1/uploads").json()["results"] == []
    for row in listed:
        assert client.delete(f"/api/v1/uploads/{row['id']}").status_code == 204
    assert client.get("/api/v1/uploads").json()["results"] == []


def test_what_somebody_adds_to_does_not_expire(acme: Tenant, client: Client) -> None:
    where = begun(client, len(FILE))
    send(client, where, 0, FILE[:PIECE])
    Upload.objects.update(expires=timezone.now() - datetime.timedelta(seconds=1))
    with tenant_scope(acme):  # a piece is about to be counted
        Upload.objects.for_tenant(acme).update(expires=timezone.now() + uploads.LIFETIME)
        with in_thread(forget_deleted):
            pass
    assert offset_of(client, where) == PIECE
    assert send(client, where, PIECE, FILE[PIECE:]).status_code == 204


def test_giving_up_leaves_nothing(acme: Tenant, client: Client) -> None:
    where = begun(client, len(FILE))
    send(client, where, 0, FILE[:PIECE])
    assert client.delete(where).status_code == 204
    assert not stored_files()
    assert not Tombstone.objects.exists()
    assert kept(acme).bytes == 0
    for method in ("get", "delete"):
        refused(getattr(client, method)(where), 404)


def test_a_deleted_collection_takes_its_uploads_along(acme: Tenant, manuals: Collection, client: Client) -> None:
    where = begun(client, len(FILE))
    send(client, where, 0, FILE[:PIECE])
    delete_collection(acme, manuals)
    assert not Upload.objects.exists()
    assert not stored_files()
    refused(send(client, where, PIECE, FILE[PIECE:]), 404)


def test_its_size_counts_from_the_first(acme: Tenant, client: Client) -> None:
    make_quota(tenant=acme, metric="bytes", window="once", amount=len(FILE))
    make_quota(tenant=acme, metric="documents", window="once", amount=1)
    where = begun(client, len(FILE))
    for answer in (begin(client, 1), upload(client)):
        assert refused(answer, 429)["code"] == "quota_exceeded"
    # Its own promise does not stand in its way.
    assert sent(client, where, FILE).status_code == 204
    assert Document.objects.count() == 1
    assert kept(acme) == keeping.Kept(documents=1, bytes=len(FILE))


def test_what_was_promised_to_one_is_not_given_to_another(acme: Tenant, client: Client) -> None:
    make_quota(tenant=acme, metric="bytes", window="once", amount=len(FILE) + 100)
    begun(client, len(FILE))
    refused(upload(client, b"# " + b"x" * 200), 429)
    assert upload(client, b"# Small").status_code == 202


def test_an_archive_becomes_its_files(acme: Tenant, client: Client) -> None:
    archive = zipped({"one.md": b"# One", "film.mp4": b"film"}) + b""
    make_quota(tenant=acme, metric="bytes", window="once", amount=len(archive) + 2)
    where = begun(client, len(archive), "both.zip")
    assert sent(client, where, archive, 50).status_code == 204
    taken, refusal = client.get(where).json()["results"]
    assert taken["document"] == str(Document.objects.get().pk)
    assert (refusal["file_name"], refusal["refusal"]["code"]) == ("film.mp4", "unsupported_type")
    refused(begin(client, 10, "both.zip", title="Both"), 400, "title")


def test_an_archive_that_is_cut_short_counts_as_before(
    acme: Tenant, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = zipped({"one.md": b"# One"})
    make_quota(tenant=acme, metric="bytes", window="once", amount=len(archive) + 5)
    where = begun(client, len(archive), "one.zip")
    send(client, where, 0, archive[:50])

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(default_storage, "save", full)
        assert refused(send(client, where, 50, archive[50:]), 507)["code"] == "storage_full"
    assert kept(acme) == keeping.Kept(documents=1, bytes=len(archive))
    Upload.objects.update(promised=0)  # as where the process died
    send(client, where, 50, archive[50:100])
    assert kept(acme) == keeping.Kept(documents=1, bytes=len(archive))
    assert sent_rest(client, where, archive).status_code == 204
    assert kept(acme) == keeping.Kept(documents=1, bytes=5)


def test_the_same_bytes_are_one_document(client: Client) -> None:
    upload(client, FILE)
    where = begun(client, len(FILE), "again.md")
    assert sent(client, where, FILE).status_code == 204
    [result] = client.get(where).json()["results"]
    assert (result["added"], result["document"]) == (False, str(Document.objects.get().pk))
    assert len(stored_files()) == 1


@pytest.mark.parametrize(
    ("content", "name", "more", "code"),
    [
        (b"no pdf at all", "file.pdf", {}, "unsupported_type"),
        (pdf("Text"), "file.txt", {}, "unsupported_type"),
        (b"# Text", "file.md", {"sha256": "0" * 64}, "invalid_request"),
    ],
)
def test_what_is_refused_whole_is_given_up(client: Client, content: bytes, name: str, more: Any, code: str) -> None:
    where = begun(client, len(content), name, **more)
    assert sent(client, where, content, len(content) // 2 + 1).json()["code"] == code
    assert not stored_files()
    assert not Upload.objects.exists()


def test_a_full_disk_keeps_what_has_come(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    where = begun(client, len(FILE))
    send(client, where, 0, FILE[:PIECE])

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(default_storage, "save", full)
        for piece in (FILE[PIECE : 2 * PIECE], FILE[PIECE:]):
            assert refused(send(client, where, PIECE, piece), 507)["code"] == "storage_full"
    assert offset_of(client, where) == PIECE
    assert sent_rest(client, where, FILE).status_code == 204
    assert Document.objects.count() == 1


def sent_rest(client: Client, where: str, content: bytes) -> Any:
    return send(client, where, offset := offset_of(client, where), content[offset:])


def test_pieces_that_are_gone_are_told(client: Client) -> None:
    where = begun(client, len(FILE))
    send(client, where, 0, FILE[:PIECE])
    for path in stored_files():
        path.unlink()
    assert "Begin again" in refused(send(client, where, PIECE, FILE[PIECE:]), 404)["message"]
    assert not Upload.objects.exists()


def test_what_cannot_be_begun(client: Client, settings: Any) -> None:
    settings.PARLEY_MAX_UPLOAD_BYTES = 5000
    assert refused(begin(client, 5001), 413)["code"] == "payload_too_large"
    refused(begin(client, 0), 400, "file")
    for name in ("film.mp4", "old.doc", "", "file"):
        assert refused(begin(client, 10, name), 415)["code"] == "unsupported_type"
    refused(begin(client, 10, sha256="abc"), 400, "sha256")
    refused(begin(client, 10, title="x" * 301), 400, "title")
    refused(begin(client, 10, language="klingon"), 400, "language")
    refused(begin(client, 10, collection="nowhere"), 404)
    for length in ("", "-1", "1e3", "٣", "9" * 30):
        refused(client.post("/api/v1/uploads", headers={**announced(1), "Upload-Length": length}), 400, "Upload-Length")
    wrong = {**announced(1), "Upload-Metadata": "collection !!!"}
    refused(client.post("/api/v1/uploads", headers=wrong), 400, "Upload-Metadata")
    refused(client.post("/api/v1/uploads", headers={"Upload-Length": "5"}), 400, "Upload-Metadata")
    other = client.post("/api/v1/uploads", headers={**announced(1), "Tus-Resumable": "0.2.2"})
    assert refused(other, 412)["code"] == "version_not_supported"
    assert other["Tus-Version"] == "1.0.0"
    assert not Upload.objects.exists()


def test_what_is_no_piece(client: Client) -> None:
    where = begun(client, 10)
    refused(client.patch(where, b"{}", content_type="application/json", headers={"Upload-Offset": "0"}), 415)
    refused(client.patch(where, b"x", content_type="application/offset+octet-stream"), 400, "Upload-Offset")
    assert refused(send(client, where, 0, b"x" * 11), 413)["code"] == "payload_too_large"
    refused(send(client, where, 0, b"x", **{"Tus-Resumable": "2"}), 412)
    assert offset_of(client, where) == 0


def test_there_are_not_endlessly_many(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "MOST_OPEN", 2)
    monkeypatch.setattr(uploads, "MOST_PARTS", 3)
    where = begun(client, 10)
    begun(client, 10)
    Upload.objects.update(promised=0)  # archives in the middle of which a process died
    assert "unfinished" in refused(begin(client, 10), 400)["message"]
    for offset in range(3):
        assert send(client, where, offset, b"x").status_code == 204
    assert "larger" in refused(send(client, where, 3, b"x"), 400)["message"]
    assert send(client, where, 3, b"x" * 7).status_code == 204


def test_pieces_are_not_tiny(client: Client) -> None:
    """Each is an object to delete, whatever it counts."""
    for size, least in ((100, 10), (30 * 2**20, 2**20)):
        where = begun(client, size)
        for piece in (b"x", b"x" * (least - 1)):
            assert f"{least:,} bytes" in refused(send(client, where, 0, piece), 400)["message"]
        assert offset_of(client, where) == 0
        assert send(client, where, 0, b"x" * least).status_code == 204
    where = begun(client, 11)
    assert send(client, where, 0, b"x" * 10).status_code == 204
    assert send(client, where, 10, b"x").status_code == 204  # the last
    assert begun(client, 9)


def test_what_expires_at_once_is_deleted_bit_by_bit(
    acme: Tenant, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forgetting, "AT_ONCE", 3)
    for _ in range(2):
        where = begun(client, 10)
        for offset in range(4):
            send(client, where, offset, b"x")
    Upload.objects.update(expires=timezone.now() - datetime.timedelta(seconds=1))
    for left in (5, 2, 0):
        forget_deleted()
        assert not Upload.objects.exists()
        assert len(stored_files()) == Tombstone.objects.count() == left


def test_outsiders_see_404(globex: Tenant, manuals: Collection, client: Client) -> None:
    where = begun(client, len(FILE))
    charlie = client_of(globex)
    for method in ("get", "head", "delete"):
        assert getattr(charlie, method)(where).status_code == 404
    refused(send(charlie, where, 0, FILE), 404)
    refused(begin(charlie, 10, collection=str(manuals.pk)), 404)
    assert offset_of(client, where) == 0


class TestInTheAdmin:
    """The same protocol, for the page's script: by session and CSRF token, and with the page's own answers."""

    @pytest.fixture
    def editor(self, acme: Tenant) -> Client:
        return logged_in(make_member(tenant=acme))

    @pytest.fixture
    def page(self, manuals: Collection) -> str:
        return reverse("admin:knowledge_collection_pieces", args=[manuals.pk])

    def test_the_page_is_told_of_the_document(self, editor: Client, page: str) -> None:
        response = editor.post(page, headers=announced(len(FILE)))
        assert response.status_code == 201
        where = response["Location"]
        assert send(editor, where, 0, FILE[:PIECE]).status_code == 204
        assert editor.head(where)["Upload-Offset"] == str(PIECE)
        last = send(editor, where, PIECE, FILE[PIECE:])
        document = Document.objects.get()
        assert (last.status_code, last.json()["id"], last.json()["created"]) == (202, str(document.pk), True)
        assert document.created_by is not None

    def test_what_is_refused_says_why(self, editor: Client, page: str) -> None:
        assert refused(editor.post(page, headers=announced(10, "film.mp4")), 415)["message"]
        where = editor.post(page, headers=announced(5, "file.pdf"))["Location"]
        assert refused(send(editor, where, 0, b"12345"), 415)["message"]
        assert editor.head(where).status_code == 404

    def test_it_can_be_given_up(self, editor: Client, page: str) -> None:
        where = editor.post(page, headers=announced(5))["Location"]
        assert editor.delete(where).status_code == 204
        assert not Upload.objects.exists()

    def test_strangers_and_forged_requests_get_nothing(self, globex: Tenant, editor: Client, page: str) -> None:
        where = editor.post(page, headers=announced(5))["Location"]
        outsider = logged_in(make_member(tenant=globex))
        assert outsider.post(page, headers=announced(5)).status_code == 404
        assert outsider.head(where).status_code == 404
        assert send(outsider, where, 0, b"12345").status_code == 404
        strict = Client(enforce_csrf_checks=True)
        strict.cookies = editor.cookies
        assert send(strict, where, 0, b"12345").status_code == 403
        assert strict.delete(where).status_code == 403
        assert Upload.objects.get().offset == 0
