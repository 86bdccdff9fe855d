"""Files in the widget, in Chromium against the real product: attached, read by the model, and taken back."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from apps.assistants.models import Assistant
from apps.conversations.models import Attachment
from tests.browser.test_talking import fake, in_thread
from tests.browser.test_widget_access import plain, reader, violations
from tests.browser.test_widget_journeys import answer, ask, guide, open_widget, shot, site, tab, visitor
from tests.chatbot.test_golden import GOLDEN
from tests.fakes.inference import FakeInference, Reply

__all__ = ["fake", "guide", "plain", "reader", "site", "visitor"]

NOTE = "The valve of pump 7 is painted ochre."
DROP = """(field, [name, text, type]) => {
    const data = new DataTransfer();
    data.items.add(new File([text], name));
    field.dispatchEvent(new DragEvent(type, { bubbles: true, composed: true, cancelable: true, dataTransfer: data }));
}"""


@pytest.fixture
def files(reader: BrowserContext, guide: Assistant) -> Page:
    in_thread(lambda: Assistant.objects.filter(pk=guide.pk).update(takes_attachments=True))
    page, _ = tab(reader)
    open_widget(page)
    expect(page.get_by_role("button", name="Attach files")).to_be_visible()
    return page


def test_an_answer_from_an_attached_file(files: Page, fake: FakeInference, tmp_path: Path) -> None:
    (tmp_path / "pump.txt").write_text(NOTE, encoding="utf-8")
    mail = next(GOLDEN.glob("eml/*.eml"))
    with files.expect_file_chooser() as chooser:
        files.get_by_role("button", name="Attach files").press("Enter")
    chooser.value.set_files([tmp_path / "pump.txt", mail])
    field = files.get_by_label("Your question")
    field.evaluate(DROP, ["tool.exe", "x", "dragover"])
    expect(files.get_by_text("Drop files here")).to_be_visible()
    field.evaluate(DROP, ["tool.exe", "x", "drop"])
    expect(files.get_by_text("Files of this kind cannot be read.", exact=True)).to_be_visible()
    expect(files.get_by_text("pump.txt is attached.")).to_be_attached()
    expect(files.get_by_text(f"{mail.name} is attached.")).to_be_attached()
    assert violations(files) == []
    shot(files, "files")
    files.get_by_role("button", name=f"Remove {mail.name}").press("Enter")
    expect(files.get_by_role("button", name="Attach files")).to_be_focused()
    fake.script(Reply(tokens=["It is ", "ochre."]))
    ask(files, "Which colour is the valve?")
    expect(answer(files)).to_have_text("It is ochre.")
    asked = next(one for one in fake.requests if "messages" in one.payload).payload["messages"][-1]["content"]
    assert NOTE in asked
    assert mail.name not in asked
    expect(files.get_by_role("list", name="Attached files")).to_contain_text("pump.txt")
    files.set_viewport_size({"width": 390, "height": 780})
    shot(files, "files-asked")
    files.reload()
    expect(files.get_by_role("list", name="Attached files")).to_contain_text("pump.txt")
    assert in_thread(lambda: list(Attachment.objects.values_list("name", flat=True))) == ["pump.txt"]
