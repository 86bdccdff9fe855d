"""Row 5: this release and the one before run together on one database, as during an upgrade: nobody notices, whichever
of them accepted, runs, tells or takes over a turn, or takes and ingests a document.

The one before is the newest commit that lacks the newest migration, taken from git's history.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.deploy.proxy import nginx
from tests.environment import ROOT
from tests.faults.ingesting import Works, kill, manual
from tests.faults.invariants import invariants
from tests.faults.replicas import Replica
from tests.faults.world import World

pytestmark = [pytest.mark.journey, pytest.mark.fault, pytest.mark.timeout(300)]


def git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


@pytest.fixture
def previous(tmp_path: Path) -> Path:
    """A checkout of the release before."""
    # As main came by it: what a branch was before it was merged has been nobody's release.
    line = ("--first-parent", "--diff-merges=first-parent", "--no-patch")
    newest = git("log", "-1", *line, "--format=%H", "--diff-filter=A", "--", "apps/*/migrations/*.py")
    before = newest and git("rev-parse", f"{newest}^")
    if not before:
        pytest.skip("needs git's history back to the newest migration: git fetch --unshallow")
    tree = tmp_path / "previous"
    tree.mkdir()
    archive = subprocess.run(["git", "archive", before], cwd=ROOT, capture_output=True, check=True).stdout
    subprocess.run(["tar", "--extract", "--directory", tree], input=archive, check=True)
    return tree


@pytest.fixture
def front(world: World) -> Iterator[Callable[[Replica], str]]:
    """The address of an nginx before this replica alone: so it is known which release a client asks."""
    world.behind_proxy = True
    with ExitStack() as started:
        yield lambda replica: started.enter_context(nginx(replica.place)).url


@pytest.mark.skipif(shutil.which("nginx") is None, reason="needs nginx: apt-get install nginx")
@pytest.mark.parametrize("dies", ["the release before", "this release"])
async def test_they_answer_and_replace_one_another(
    world: World, previous: Path, front: Callable[[Replica], str], dies: str
) -> None:
    (old,) = await world.start("daphne", root=previous, PARLEY_BEHIND_PROXY="on")
    (new,) = await world.start("daphne", PARLEY_BEHIND_PROXY="on")
    before, after = front(old), front(new)
    world.script(delay=0.02)
    first = [*world.ask_all(before), *world.ask_all(after)]
    await world.all_at(first, 2)
    crossed = [world.follow(client, after if client in first[:4] else before) for client in first]
    await world.finished([*first, *crossed])
    # Each goes on in the other's conversations, and is then killed in mid-answer.
    world.script(delay=0.05, lingers_after=35)
    goes = old if dies == "the release before" else new
    second = [
        world.ask(
            *((before, after) if goes is old else (after, before)),
            door=client.door,
            asker=world.askers.index(client.asker),
            conversation=client.conversation,
        )
        for client in (first[4:] if goes is old else first[:4])
    ]
    await world.all_at(second, world.moment(3, 30))
    goes.kill()
    world.model.hurry()
    await world.finished(second)
    assert {client.cursor.epoch for client in second} == {2}
    await invariants(world)


async def test_each_goes_on_with_the_documents_of_the_other(works: Works, previous: Path) -> None:
    """The web of one takes a document, a worker of one begins it and dies, and a worker of the other ends it."""
    canary = works.world.askers[0].canary
    works.beat()
    for dies, stays in ((previous, ROOT), (ROOT, previous)):
        await works.open(root=stays)
        works.embed_at_first(1)
        begins = works.worker(root=dies)
        document = await works.upload(manual(40, f"{canary} {dies.name}"), f"{dies.name}.md")
        await works.stored_at_first(document, 1)
        kill(begins)
        works.world.model.hurry()
        works.hurry(document)
        kept = works.stored_texts(document)
        works.world.model.forget()
        ends = works.worker(root=stays)
        await works.becomes(document, "ready", seconds=200)
        again = works.embedded(dies.name)
        assert not kept & set(again), "what one release had stored the other embedded a second time"
        works.is_whole(document, kept | set(again))
        assert await works.found(f"valve {dies.name}")
        kill(ends)
