"""What a question may cost at most, before anybody answers it."""

from __future__ import annotations

from decimal import Decimal

from apps.access.authentication import Caller
from apps.conversations import rewriting
from apps.conversations.turn import Opened
from apps.tenants.models import EndUser
from apps.usage import meter, remembering
from apps.usage.limits import ASKING, accounts_of_caller
from apps.usage.meter import Reserved
from apps.usage.standing import END_USERS, EVERYBODY
from chatbot.attachments import FENCE_TOKENS
from chatbot.chunking import MAX_TOKENS as PASSAGE_TOKENS
from chatbot.quota import Amounts, cost_units
from chatbot.tokens import estimate


async def reserve(caller: Caller, opened: Opened) -> Reserved:
    """Reserve what a question may cost. Raises as meter.reserve() does."""
    accounts = accounts_of_caller(caller, assistant_id=opened.assistant.pk, end_user=opened.end_user, scope=ASKING)
    return await meter.reserve(caller.tenant, opened.turn_id, accounts, most(opened), levels=told_to(caller))


async def look(caller: Caller, user: str) -> None:
    """Refuse whoever was refused a moment ago and has nothing left still, before anything is read. user: the end user,
    where the call names one. Raises as meter.look() does."""
    if not remembering.anybody():
        return
    end_user = EndUser(external_id=user) if user else None
    known = accounts_of_caller(caller, assistant_id=None, end_user=end_user, scope=ASKING)
    accounts = remembering.refused(caller.tenant, [(account.level, subject) for account, subject in known])
    if accounts:
        await meter.look(caller.tenant, accounts, levels=told_to(caller))


def told_to(caller: Caller) -> frozenset[str]:
    """Whose limits a caller may know: with a credential that is bound to an end user only that one's."""
    return END_USERS if caller.end_user else EVERYBODY


def most(opened: Opened) -> Amounts:
    """What a question may cost: its prompt, as full as it may get, and the longest answer, of the dearest endpoint."""
    assistant, sampling = opened.assistant, opened.sampling
    answer = assistant.max_tokens if sampling.max_tokens is None else min(sampling.max_tokens, assistant.max_tokens)
    prompt = estimate(opened.prompt.template) + estimate(opened.instructions) + estimate(opened.text)
    prompt += sum(each.tokens + FENCE_TOKENS for each in opened.attachments)
    prompt += assistant.passages * PASSAGE_TOKENS
    prompt += sum(estimate(asked) + estimate(answered) for asked, answered in opened.history)
    if opened.begun:
        prompt += estimate(opened.begun.text)
    if room := min((endpoint.context_length for endpoint in opened.endpoints), default=0):
        prompt = min(prompt, max(0, room - answer))
    to_rewrite, rewritten = rewriting.most(opened)
    prompt, answer = prompt + to_rewrite, answer + rewritten
    money = [endpoint.prompt_price * prompt + endpoint.completion_price * answer for endpoint in opened.endpoints]
    cost = max(money, default=Decimal(0)) / 1_000_000
    return Amounts(requests=1, tokens=prompt + answer, cost=cost_units(cost), turns=1)
