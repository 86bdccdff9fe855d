"""The part of a form that says of which one a limit is: chosen among what the tenant has, and typed for end users, of
whom there are too many."""

from __future__ import annotations

from typing import Any, Final

from django import forms
from unfold.widgets import UnfoldAdminSelect2Widget, UnfoldAdminTextInputWidget

from apps.tenants import rights
from apps.tenants.admin_base import TenantForm
from apps.tenants.models import Tenant
from apps.usage.limit_models import LimitedUse
from apps.usage.naming import offered

Level = LimitedUse.Level
PEOPLE: Final = (Level.USER, Level.VISITOR)
EACH = ("", "Each of them by itself")


class SubjectForm(TenantForm):
    """For models with a `level` and a `subject`, which stands for both of these fields."""

    subject = forms.ChoiceField(
        label="Which one",
        required=False,
        widget=UnfoldAdminSelect2Widget,
        help_text="Of what the tenant has; without a choice, each of them by itself.",
    )
    person = forms.CharField(
        label="Which end user",
        required=False,
        max_length=200,
        widget=UnfoldAdminTextInputWidget,
        help_text="The tenant's own id of an end user, or that of a visitor as End users lists it; empty for each.",
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        kept, level = self.instance.subject, self.instance.level
        groups = _groups(self.instance.tenant)
        self._level_of = {value: of for of, choices in groups.items() for value, _ in choices}
        choices: list[Any] = [EACH, *((Level(of).label, found) for of, found in groups.items() if found)]
        if level in PEOPLE:
            self.initial.update(subject="", person=kept)
        elif kept and kept not in self._level_of:
            # What was deleted stays chosen until somebody decides: for each of them it was not meant.
            choices.append((kept, "Deleted meanwhile"))
            self._level_of[kept] = level
        field: Any = self.fields["subject"]
        field.choices = choices

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        level, subject, person = (cleaned.get(name, "") for name in ("level", "subject", "person"))
        if level in PEOPLE:
            if subject:
                self.add_error("subject", "An end user is named in the field below.")
            cleaned["subject"] = person
        elif person:
            self.add_error("person", "Only a limit of end users or visitors names one of them.")
        elif subject and level not in (Level.TENANT, self._level_of[subject]):
            of = Level(self._level_of[subject]).label
            self.add_error("subject", f"This is one of another kind ({of}) than the limit is of.")
        return cleaned


def _groups(tenant: Tenant) -> dict[str, list[tuple[str, str]]]:
    """By level, what can be chosen."""
    scopes = [(scope, f"{scope}: {words}") for scope, words in rights.SCOPES.items()]
    return {
        **{str(level): offered(tenant, level) for level in (Level.ASSISTANT, Level.KEY, Level.CLIENT)},
        str(Level.SCOPE): scopes,
    }
