"""Connections to one address of a name, over IPv6 and TLS: the certificate has to be for the name, not the address."""

from __future__ import annotations

import datetime as dt
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from chatbot.errors import ModelFailed, ModelUnavailable
from chatbot.inference import transport
from chatbot.inference.client import Client
from chatbot.inference.pool import Pool
from chatbot.inference.wire import ChatRequest, Message
from tests.fakes.certificates import Authority
from tests.fakes.inference import FakeInference, make_endpoint

NAME, OTHER = "models.example", "others.example"
REQUEST = ChatRequest((Message("user", "Hello?"),), max_tokens=64)


class Setting:
    """Model servers on sockets, and a pool whose names lead where a test says."""

    def __init__(self, client: Client, stack: AsyncExitStack) -> None:
        self.client = client
        self.names: dict[str, list[str]] = {}
        self._stack = stack

    async def server(self, **how: Any) -> FakeInference:
        return await self._stack.enter_async_context(FakeInference(**how))

    async def resolve(self, host: str, _port: int) -> list[str]:
        return self.names[host]

    def pool(self, *base_urls: str) -> Pool:
        endpoints = [make_endpoint(None, id=str(place), base_url=url) for place, url in enumerate(base_urls)]
        return Pool(self.client, endpoints, resolve=self.resolve)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
async def setting(authority: Authority) -> AsyncIterator[Setting]:
    client = Client(allowed=["127.0.0.1", "::1", NAME, OTHER], tls=authority.trusted())
    async with AsyncExitStack() as stack:
        yield Setting(client, stack)
        await client.close()


async def hear(pool: Pool, key: str = "0") -> str:
    """The address that answered."""
    async with pool.chat([key], REQUEST) as answer:
        assert "".join([delta.text async for delta in answer]) == "You asked: Hello? [1]"
        return answer.address


async def test_an_address_of_ipv6(setting: Setting) -> None:
    fake = await setting.server(host="::1")
    assert fake.base_url.startswith("http://[::1]:")
    assert await hear(setting.pool(fake.base_url)) == "::1"
    assert fake.requests[0].headers["Host"] == f"[::1]:{fake.port}"


async def test_a_name_that_has_ipv6_alone(setting: Setting) -> None:
    fake = await setting.server(host="::1")
    setting.names[NAME] = ["::1"]
    assert await hear(setting.pool(fake.at(NAME))) == "::1"
    assert fake.requests[0].headers["Host"] == f"{NAME}:{fake.port}"


async def test_each_address_is_asked_itself(setting: Setting) -> None:
    fake = await setting.server(host="::1")
    setting.names[NAME] = ["127.0.0.1", "::1"]  # at the first of them nobody listens on this port
    pool = setting.pool(fake.at(NAME))
    assert {await hear(pool) for _ in range(8)} == {"::1"}
    states = {state.address: state.last_failure for state in pool.states()}
    assert states == {"127.0.0.1": transport.UNREACHABLE, "::1": ""}


async def test_an_address_of_ipv6_that_is_not_public_is_refused(setting: Setting) -> None:
    fake = await setting.server(host="::1")
    setting.names["strange.example"] = ["::1"]
    for url in (fake.at("strange.example"), fake.at("::ffff:127.0.0.1")):
        with pytest.raises(ModelFailed, match="not public"):
            await hear(setting.pool(url))
    assert not fake.requests


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_the_certificate_is_for_the_name(setting: Setting, authority: Authority, host: str) -> None:
    fake = await setting.server(host=host, tls=authority.server(NAME))
    setting.names[NAME] = [host]
    assert await hear(setting.pool(fake.at(NAME))) == host
    assert fake.requests[0].headers["Host"] == f"{NAME}:{fake.port}"


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_a_certificate_for_the_address_alone_will_not_do(
    setting: Setting, authority: Authority, host: str
) -> None:
    fake = await setting.server(host=host, tls=authority.server(host))
    setting.names[NAME] = [host]
    with pytest.raises(ModelUnavailable, match="is for another name"):
        await hear(setting.pool(fake.at(NAME)))
    assert not fake.requests
    assert await hear(setting.pool(fake.base_url)) == host  # by its address it is the right one


async def test_a_wrong_name_is_told_in_a_sentence(setting: Setting, authority: Authority) -> None:
    fake = await setting.server(tls=authority.server(OTHER))
    setting.names[NAME] = ["127.0.0.1"]
    pool = setting.pool(fake.at(NAME))
    with pytest.raises(ModelUnavailable) as refused:
        await hear(pool)
    assert refused.value.message == "The model server's certificate is for another name."
    assert pool.states()[0].last_failure == refused.value.message
    assert not fake.requests


async def test_a_kept_connection_serves_no_other_name(setting: Setting, authority: Authority) -> None:
    fake = await setting.server(tls=authority.server(NAME))
    setting.names = {NAME: ["127.0.0.1"], OTHER: ["127.0.0.1"]}
    pool = setting.pool(fake.at(NAME), fake.at(OTHER))
    await hear(pool, "0")
    with pytest.raises(ModelUnavailable, match="is for another name"):
        await hear(pool, "1")
    await hear(pool, "0")
    assert len(fake.requests) == 2
    assert len({request.client_port for request in fake.requests}) == 1


async def test_a_certificate_that_has_expired_is_told(setting: Setting, authority: Authority) -> None:
    fake = await setting.server(tls=authority.server(NAME, expires=-dt.timedelta(hours=1)))
    setting.names[NAME] = ["127.0.0.1"]
    with pytest.raises(ModelUnavailable, match="has expired"):
        await hear(setting.pool(fake.at(NAME)))


async def test_a_strangers_certificate_is_not_trusted(setting: Setting, tmp_path: Path) -> None:
    fake = await setting.server(tls=Authority(tmp_path).server(NAME))
    setting.names[NAME] = ["127.0.0.1"]
    with pytest.raises(ModelUnavailable, match="nobody whom this machine trusts"):
        await hear(setting.pool(fake.at(NAME)))
    assert not fake.requests


async def test_by_default_this_machine_says_whom_to_trust(authority: Authority) -> None:
    client = Client(allowed=[NAME])
    async with FakeInference(tls=authority.server(NAME)) as fake, AsyncExitStack() as stack:
        unsure = Setting(client, stack)
        unsure.names[NAME] = ["127.0.0.1"]
        with pytest.raises(ModelUnavailable, match="nobody whom this machine trusts"):
            await hear(unsure.pool(fake.at(NAME)))
    await client.close()


async def test_a_server_without_tls_is_told(setting: Setting) -> None:
    fake = await setting.server()
    setting.names[NAME] = ["127.0.0.1"]
    with pytest.raises(ModelUnavailable, match="does not speak HTTPS"):
        await hear(setting.pool(fake.at(NAME).replace("http:", "https:")))
