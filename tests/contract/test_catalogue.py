"""What the reconciler relies on, shown on the fake and on a real Rucio."""

from __future__ import annotations

import dataclasses
import time
import uuid
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import count, groupby
from pathlib import Path
from typing import Any, Protocol, TypeVar

import pytest
from rucio.rse import rsemanager

from testbed import grid
from testbed.layout import SITES
from tests.mortal import Death, Mortal
from volatile_rse.adapters.fake_catalogue import FakeCatalogue
from volatile_rse.adapters.rucio import RucioCatalogue, RucioServer
from volatile_rse.adapters.rucio.doors import usual_paths, writing
from volatile_rse.api.conditions import Reason
from volatile_rse.api.rucioconnection import RucioConnectionSpec, SecretKeys
from volatile_rse.domain.catalogue import Barred, BufferRse, DatasetState, Did, File, LedgerOwner, Room, RuleState, Term
from volatile_rse.ports.catalogue import Catalogue
from volatile_rse.ports.errors import RefusedError, UnreachableError

SCOPE, LEDGERS = "user.alice", grid.LEDGER_SCOPE
# As operators name themselves: with the UID of their cluster.
INSTANCE = f"contract.{uuid.uuid4()}"
ABSENT = Did(SCOPE, "nothing.of.that.name")
UNLIMITED = -1
C = TypeVar("C", bound=RucioCatalogue)


def is_deadly(live: Callable[[Catalogue], None], catalogue: Catalogue) -> bool:
    try:
        live(catalogue)
    except Death:
        return True
    return False


Priorities = tuple[str, int | None, int | None]
"""Host of a davs protocol, its priority to read and to write from outside."""


class World(Protocol):
    """What others than the operator do."""

    catalogue: Catalogue
    down: Catalogue

    def container(self, did: Did, content: Collection[Did]) -> None: ...
    def close(self, dataset: Did) -> None: ...
    def rule(self, did: Did, rses: Sequence[str], lifetime: int | None = None) -> str: ...
    def hide_unasked(self, rse: str, files: Collection[Did]) -> None: ...
    def limit(self, account: str, rse: str, limit: int) -> None: ...
    def half_made(self, rse: str) -> None: ...
    def dies(self, writes: int, live: Callable[[Catalogue], None]) -> bool: ...
    def distance(self, source: str, destination: str, distance: int) -> None: ...
    def attach_as_alice(self, dataset: Did, files: Collection[Did]) -> None: ...
    def say_where(self, rse: str, host: str, dataset: Did, file: File, pfn: str) -> None: ...
    def odd(self, rse: str, host: str, kind: str) -> None: ...
    def doors(self, rse: str, *doors: Priorities) -> None: ...
    def prefer_root(self, rse: BufferRse) -> None: ...
    def archive(self, dataset: Did, rse: str, archive: File, inside: File) -> None: ...
    def global_limit(self, account: str, expression: str, limit: int) -> AbstractContextManager[None]: ...
    def rules(self, did: Did) -> set[str]: ...
    def settle(self, holds: Callable[[], bool]) -> None: ...


class FakeWorld(World):
    catalogue: FakeCatalogue

    def __init__(self) -> None:
        self.catalogue = FakeCatalogue()
        self.down = down = FakeCatalogue()
        down.down = True
        for rse, host in SITES.items():
            self.catalogue.add_permanent(rse, host, {"site": rse})
        self.catalogue.admins.add(grid.OPERATOR)
        self.catalogue.scopes = {SCOPE, LEDGERS}

    def container(self, did: Did, content: Collection[Did]) -> None:
        self.catalogue.add_container(did, content)

    def close(self, dataset: Did) -> None:
        self.catalogue.close(dataset)

    def rule(self, did: Did, rses: Sequence[str], lifetime: int | None = None) -> str:
        ends = None if lifetime is None else datetime.now(UTC) + timedelta(seconds=lifetime)
        return self.catalogue.add_rule(did, grid.OPERATOR, rses, ends)

    def hide_unasked(self, rse: str, files: Collection[Did]) -> None:
        self.catalogue.hide_unasked(rse, files)

    def limit(self, account: str, rse: str, limit: int) -> None:
        if limit != UNLIMITED:
            self.catalogue.quota[account, rse] = limit

    def half_made(self, rse: str) -> None:
        self.catalogue.add_half_made(rse, INSTANCE)

    def dies(self, writes: int, live: Callable[[Catalogue], None]) -> bool:
        self.catalogue.die_after(writes, Death())
        died = is_deadly(live, self.catalogue)
        self.catalogue.live_on()
        return died

    def distance(self, source: str, destination: str, distance: int) -> None:
        self.catalogue.distances[source, destination] = distance

    def odd(self, rse: str, host: str, kind: str) -> None:
        self.catalogue.add_permanent(rse, host, _ODD_ATTRIBUTES.get(kind))
        columns: dict[str, dict[str, object]] = {
            "deterministic": {"deterministic": False},
            "volatile": {"forgets": True},
            "staging_area": {"staging_area": True},
            "rse_type": {"tape": True},
            "availability_write": {"writable": False},
            "availability_read": {"readable": False},
            "read": {"davs": ((host, 1, None),)},
            "": {"davs": ()},
            "space": {"space": 500},
        }
        self.catalogue.alter(rse, **columns.get(kind, {}))

    def doors(self, rse: str, *doors: Priorities) -> None:
        self.catalogue.add_permanent(rse, doors[0][0])
        self.catalogue.alter(rse, davs=doors)

    def prefer_root(self, rse: BufferRse) -> None:
        self.catalogue.prefer_root(rse.name)

    def archive(self, dataset: Did, rse: str, archive: File, inside: File) -> None:
        self.catalogue.add_archive(dataset, rse, archive, [inside])

    @contextmanager
    def global_limit(self, account: str, expression: str, limit: int) -> Iterator[None]:
        self.catalogue.global_quota[account, expression] = limit
        yield
        del self.catalogue.global_quota[account, expression]

    def attach_as_alice(self, dataset: Did, files: Collection[Did]) -> None:
        self.catalogue.attach_files(dataset, files)

    def say_where(self, rse: str, host: str, dataset: Did, file: File, pfn: str) -> None:
        self.catalogue.add_elsewhere(rse, host, dataset, file, pfn)

    def rules(self, did: Did) -> set[str]:
        return set(self.catalogue.rules(did))

    def settle(self, holds: Callable[[], bool]) -> None:
        self.catalogue.run_daemons()
        assert holds()


_ODD_ATTRIBUTES = {
    "restricted_write": {"restricted_write": "True"},
    "staging_required": {"staging_required": "True"},
    "identity": {"lfn2pfn_algorithm": "identity"},
}
_ODD_COLUMNS: dict[str, dict[str, object]] = {
    "deterministic": {"deterministic": False},
    "volatile": {"volatile": True},
    "staging_area": {"staging_area": True},
    "rse_type": {"rse_type": "TAPE"},
    "availability_write": {"availability_write": False},
    "availability_read": {"availability_read": False},
}


class RealWorld(World):
    def __init__(self, private: Path) -> None:
        facts = grid.grid()
        self.client = grid.client(grid.OPERATOR, facts)
        self.catalogue: RucioCatalogue = self._connect(facts, facts.outside, private)
        self.down: RucioCatalogue = self._connect(facts, "https://localhost:1", private)
        self.mortal = self._connect(facts, facts.outside, private, Mortal)

    def _connect(
        self,
        facts: grid.Grid,
        server: str,
        private: Path,
        kind: type[C] = RucioCatalogue,  # type: ignore[assignment]
    ) -> C:
        secret = SecretKeys(secret_name="unused")
        spec = RucioConnectionSpec(server=server, account=grid.OPERATOR, userpass=secret, ledger_scope=LEDGERS)
        login = (grid.OPERATOR, facts.passwords[grid.OPERATOR])
        return kind(RucioServer(spec, login, Path(facts.bundle).read_text(), private))

    def container(self, did: Did, content: Collection[Did]) -> None:
        self.client.add_container(did.scope, did.name)
        self.client.attach_dids(did.scope, did.name, [dataclasses.asdict(one) for one in content])

    def close(self, dataset: Did) -> None:
        self.client.close(dataset.scope, dataset.name)

    def rule(self, did: Did, rses: Sequence[str], lifetime: int | None = None) -> str:
        body, about = [dataclasses.asdict(did)], {"lifetime": lifetime, "ignore_availability": True}
        made = self.client.add_replication_rule(body, len(rses), "|".join(rses), **about)
        return str(made[0])

    def hide_unasked(self, rse: str, files: Collection[Did]) -> None:
        states = [{"scope": did.scope, "name": did.name, "state": "B"} for did in files]
        self.client.update_replicas_states(rse, states)

    def limit(self, account: str, rse: str, limit: int) -> None:
        self.client.set_local_account_limit(account, rse, limit)

    def half_made(self, rse: str) -> None:
        self.client.add_rse(rse, ISP=INSTANCE, availability_write=False, availability_delete=False)

    def dies(self, writes: int, live: Callable[[Catalogue], None]) -> bool:
        self.mortal.writes_left = writes
        return is_deadly(live, self.mortal)

    def distance(self, source: str, destination: str, distance: int) -> None:
        if not list(self.client.get_distance(source, destination)):
            self.client.add_distance(source, destination, {"distance": distance})

    def attach_as_alice(self, dataset: Did, files: Collection[Did]) -> None:
        alice = grid.client(grid.ALICE, grid.grid())
        alice.attach_dids(dataset.scope, dataset.name, [dataclasses.asdict(did) for did in files])

    def say_where(self, rse: str, host: str, dataset: Did, file: File, pfn: str) -> None:
        self.client.add_rse(rse, deterministic=False)
        self.client.add_protocol(rse, door_of(host))
        alice = grid.client(grid.ALICE, grid.grid())
        about = {"scope": file.did.scope, "name": file.did.name, "bytes": file.bytes, "adler32": file.adler32}
        alice.add_replicas(rse, [{**about, "pfn": pfn}])
        alice.attach_dids(dataset.scope, dataset.name, [about])

    def odd(self, rse: str, host: str, kind: str) -> None:
        columns: dict[str, object] = {"deterministic": True, "volatile": False, "rse_type": "DISK"}
        self.client.add_rse(rse, **(columns | _ODD_COLUMNS.get(kind, {})))
        wan = {"read": 1, "write": None if kind == "read" else 1, "delete": 1}
        wan |= {"third_party_copy_read": 1, "third_party_copy_write": 1}
        scheme, implementation = ("davs", "gfal") if kind else ("root", "xrootd")
        door = {
            "scheme": scheme, "hostname": host, "port": 8443, "prefix": "/store/",
            "impl": f"rucio.rse.protocols.{implementation}.Default",
            "domains": {"wan": wan, "lan": {"read": 1, "write": 1, "delete": 1}},
        }  # fmt: skip
        self.client.add_protocol(rse, door)
        if kind == "space":
            self.client.set_rse_limits(rse, "MaxSpaceAvailable", 500)
        for key, value in _ODD_ATTRIBUTES.get(kind, {}).items():
            self.client.add_rse_attribute(rse, key, value)

    def doors(self, rse: str, *doors: Priorities) -> None:
        self.client.add_rse(rse, deterministic=True, volatile=False, rse_type="DISK")
        for host, read, write in doors:
            door = door_of(host)
            door["domains"]["wan"] |= {"read": read, "write": write}
            self.client.add_protocol(rse, door)

    def prefer_root(self, rse: BufferRse) -> None:
        wan = {"third_party_copy_read": 0, "third_party_copy_write": 0}
        self.client.update_protocols(rse.name, "root", {"domains": {"wan": wan}}, rse.host, rse.root_port)

    def archive(self, dataset: Did, rse: str, archive: File, inside: File) -> None:
        self.catalogue.attach(dataset, rse, [archive])
        about = {"scope": inside.did.scope, "name": inside.did.name, "bytes": inside.bytes, "adler32": inside.adler32}
        self.client.add_files_to_archive(archive.did.scope, archive.did.name, [about])
        self.client.attach_dids(dataset.scope, dataset.name, [about])

    @contextmanager
    def global_limit(self, account: str, expression: str, limit: int) -> Iterator[None]:
        self.client.set_global_account_limit(account, expression, limit)
        try:
            yield
        finally:
            self.client.delete_global_account_limit(account, expression)

    def rules(self, did: Did) -> set[str]:
        return {str(rule["id"]) for rule in self.client.list_did_rules(did.scope, did.name)}

    def settle(self, holds: Callable[[], bool]) -> None:
        end = time.monotonic() + 90
        while not holds():
            assert time.monotonic() < end, "Rucio's daemons did not come to it within 90 s"
            time.sleep(0.5)


@dataclasses.dataclass(slots=True)
class Made:
    """Names that tests use, with what they left behind."""

    world: World
    places: set[tuple[str, Did]] = dataclasses.field(default_factory=set)
    rses: set[str] = dataclasses.field(default_factory=set)

    def files(self, count: int = 2) -> list[File]:
        stem = f"contract.{uuid.uuid4().hex[:10]}"
        return [File(Did(SCOPE, f"{stem}.{number}"), 10 + number, f"0000000{number}") for number in range(count)]

    def ledger(self) -> Did:
        ledger = Did(LEDGERS, f"contract.{uuid.uuid4().hex[:10]}")
        self.world.catalogue.ensure_ledger(ledger, owner_of(ledger))
        self.places.add(("SITE-A", ledger))
        return ledger

    def dataset(self, *rses: str, files: Sequence[File] = ()) -> Did:
        """Make a user's dataset, with copies of files on permanent RSEs."""
        dataset = Did(SCOPE, f"contract.{uuid.uuid4().hex[:10]}")
        self.world.catalogue.ensure_dataset(dataset, grid.ALICE, "maker")
        self.places.add(("SITE-A", dataset))
        for rse in rses:
            self.places.add((rse, dataset))
            self.world.catalogue.attach(dataset, rse, files)
        return dataset

    def spec(self, site: str = "SITE-A", **changes: Any) -> BufferRse:
        """Describe an RSE whose door, a site's, answers that nothing is there.

        Rucio lists one of two replicas with one PFN: a test that looks for copies on a site takes the other's door.
        """
        name = f"CONTRACT-{uuid.uuid4().hex[:8].upper()}"
        attributes = {"vrse_instance": INSTANCE, "vrse_record": "r", "region": "here"}
        return BufferRse(name, SITES[site], 1094, 8443, **{"attributes": attributes, **changes})

    def buffer(self, files: Sequence[File] = (), spec: BufferRse | None = None) -> tuple[BufferRse, Did]:
        """Make a buffer's RSE and ledger, with files registered."""
        spec, ledger = spec or self.spec(), self.ledger()
        self.rses.add(spec.name)
        self.places.add((spec.name, ledger))
        self.world.catalogue.ensure_rse(spec)
        if files:
            self.world.catalogue.register(spec.name, ledger, files)
        return spec, ledger

    def odd(self, kind: str) -> str:
        """Make a permanent RSE that is odd in one way."""
        rse = f"CONTRACT-{uuid.uuid4().hex[:8].upper()}"
        self.world.odd(rse, SITES["SITE-B"], kind)
        self.rses.add(rse)
        return rse

    def doors(self, *doors: Priorities) -> str:
        """Make a permanent RSE of several doors."""
        rse = f"CONTRACT-{uuid.uuid4().hex[:8].upper()}"
        self.rses.add(rse)
        self.world.doors(rse, *doors)
        return rse

    def remove(self) -> None:
        catalogue, world = self.world.catalogue, self.world
        datasets = {dataset for _, dataset in self.places if catalogue.ledger_exists(dataset)}
        for rule in {rule for dataset in datasets for rule in world.rules(dataset)}:
            catalogue.expire_rule(rule)
        world.settle(lambda: not any(world.rules(dataset) for dataset in datasets))
        for rse, dataset in self.places:
            catalogue.hide(rse, catalogue.replicas(rse, dataset))
        for rse in self.rses:
            catalogue.allow_deletion(rse)
        world.settle(lambda: not any(catalogue.replicas(*place) for place in self.places))
        for rse in self.rses:
            world.settle(lambda rse=rse: deleted(catalogue, rse))  # type: ignore[misc]
        for dataset in datasets:
            catalogue.expire_ledger(dataset)


def door_of(host: str) -> dict[str, Any]:
    wan = {"read": 1, "write": 1, "delete": 1, "third_party_copy_read": 1, "third_party_copy_write": 1}
    return {
        "scheme": "davs", "hostname": host, "port": 8443, "prefix": "/store/",
        "impl": "rucio.rse.protocols.gfal.Default",
        "domains": {"wan": wan, "lan": {"read": 1, "write": 1, "delete": 1}},
    }  # fmt: skip


def owner_of(ledger: Did) -> LedgerOwner:
    return LedgerOwner(INSTANCE, ledger.name)


def dids(files: Sequence[File]) -> list[Did]:
    return [file.did for file in files]


def deleted(catalogue: Catalogue, rse: str) -> bool:
    try:
        catalogue.delete_rse(rse)
    except UnreachableError as error:
        if error.reason is not Reason.CATALOGUE_REFUSED or rse not in error.what:
            raise
        return False
    return True


def expired(catalogue: Catalogue, rule: str) -> bool:
    """Expire a rule; Rucio fails for once if judge-cleaner removes it at this very moment."""
    try:
        catalogue.expire_rule(rule)
    except UnreachableError:
        return False
    return True


def refused(reason: Reason, call: Callable[..., object], *arguments: object) -> str:
    """Show that a call is refused, also the second time; give what it said."""
    for _ in range(2):
        with pytest.raises(RefusedError) as caught:
            call(*arguments)
        assert caught.value.reason is reason
    return caught.value.what


@pytest.fixture(scope="module", params=["fake", pytest.param("real", marks=[pytest.mark.grid, pytest.mark.slow])])
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> World:
    return FakeWorld() if request.param == "fake" else RealWorld(tmp_path_factory.mktemp("private"))


@pytest.fixture(scope="module")
def made(world: World) -> Iterator[Made]:
    made = Made(world)
    yield made
    made.remove()


@pytest.fixture
def catalogue(world: World) -> Catalogue:
    return world.catalogue


def test_the_server_answers(catalogue: Catalogue) -> None:
    catalogue.ping()
    catalogue.ping()


def test_what_the_operators_account_lacks_is_told(catalogue: Catalogue) -> None:
    assert catalogue.lacks(LEDGERS) == ()
    (lacking,) = catalogue.lacks("no.such.scope")
    assert "no scope no.such.scope" in lacking


def test_the_folder_of_a_site_is_that_of_an_rse_there(catalogue: Catalogue) -> None:
    hosts = {SITES["SITE-A"], SITES["SITE-B"], "nobody.example.org"}
    found = {host: url for host in hosts for url in [catalogue.folders(hosts)[host]]}
    assert found.pop("nobody.example.org") is None
    for host, url in found.items():
        assert url is not None
        assert url.startswith(f"davs://{host}:"), url
        assert url.endswith("/")


def test_a_server_that_does_not_answer_is_told_of_every_call(world: World) -> None:
    calls: list[Callable[[], object]] = [
        world.down.ping,
        lambda: world.down.lacks(LEDGERS),
        lambda: world.down.folders(["site.example.org"]),
        lambda: world.down.resolve(ABSENT),
        lambda: world.down.ensure_ledger(ABSENT, owner_of(ABSENT)),
        lambda: world.down.delete_rse("SITE-A"),
    ]
    for call in calls:
        with pytest.raises(UnreachableError) as caught:
            call()
        assert caught.value.reason is Reason.CATALOGUE_UNREACHABLE


def test_files_of_files_datasets_and_containers(world: World, made: Made, catalogue: Catalogue) -> None:
    files = made.files(3)
    one, two = made.dataset("SITE-A", files=files[::-1][:2]), made.dataset("SITE-A", files=files[:2])
    inner, outer = Did(SCOPE, f"{one.name}.inner"), Did(SCOPE, f"{one.name}.outer")
    world.container(inner, [one, two])
    world.container(outer, [inner])
    for _ in range(2):
        assert catalogue.resolve(files[0].did) == (files[0],)
        assert catalogue.resolve(two) == tuple(files[:2])
        assert catalogue.resolve(outer) == tuple(files)


def test_what_has_no_files_is_no_input(made: Made, catalogue: Catalogue) -> None:
    refused(Reason.DID_NOT_FOUND, catalogue.resolve, made.dataset())
    assert str(ABSENT) in refused(Reason.DID_NOT_FOUND, catalogue.resolve, ABSENT)
    refused(Reason.DID_NOT_FOUND, catalogue.resolve, Did("no.such.scope", "x"))


@pytest.mark.parametrize(("size", "lack"), [(-7, "has a size of -7"), (0, "")])
def test_an_input_whose_size_cannot_be_is_told_beside_the_others(
    made: Made, catalogue: Catalogue, size: int, lack: str
) -> None:
    """Rucio takes any number as a size."""
    good, odd = made.files()
    odd = dataclasses.replace(odd, bytes=size)
    dataset = made.dataset("SITE-A", files=[good, odd])
    assert catalogue.registered(dataset) == {good.did, odd.did}
    assert catalogue.content(dataset) == (good, dataclasses.replace(odd, bytes=0))
    assert catalogue.unsafe([good, odd], ["SITE-A"]) == ()
    told = File(odd.did, 0, "", lack=lack) if lack else odd
    assert catalogue.resolve(dataset) == (good, told)
    assert catalogue.resolve(odd.did) == (told,)


MD5 = "d41d8cd98f00b204e9800998ecf8427e"
SUMS = {
    "md5": (("", MD5), ("", MD5), ""),
    "upper case": (("", MD5.upper()), ("", MD5), ""),
    "both": (("0000abcd", MD5), ("0000abcd", ""), ""),
    "none": (("", ""), ("", ""), "has neither an adler32 nor an md5 checksum"),
}
"""What a file is registered with (adler32, md5) -> what it is compared with, and what it lacks."""


@pytest.mark.parametrize("case", SUMS)
def test_an_input_is_told_with_the_checksum_that_it_has(made: Made, catalogue: Catalogue, case: str) -> None:
    """Rucio takes a file without a checksum."""
    given, (adler32, md5), lack = SUMS[case]
    good, odd = made.files()
    registered = File(odd.did, odd.bytes, *given)
    dataset = made.dataset("SITE-A", files=[good, registered])
    told = File(odd.did, 0 if lack else odd.bytes, adler32, md5, lack)
    assert catalogue.resolve(dataset) == (good, told)
    assert catalogue.resolve(odd.did) == (told,)
    assert set(catalogue.sources([good, told], "SITE-A")) == {good.did, odd.did}


@pytest.mark.parametrize("given", [("no sum", ""), ("abc", ""), ("", "no sum"), ("0000abcd", "abc")])
def test_a_checksum_that_is_none_is_refused(made: Made, catalogue: Catalogue, given: tuple[str, str]) -> None:
    dataset, (odd,) = made.dataset("SITE-A"), made.files(1)
    said = refused(Reason.CATALOGUE_REFUSED, catalogue.attach, dataset, "SITE-A", [File(odd.did, odd.bytes, *given)])
    assert str(odd.did) in said
    assert catalogue.content(dataset) == ()


def test_a_file_with_md5_alone_is_registered_on_a_buffer_by_that(made: Made, catalogue: Catalogue) -> None:
    """Rucio compares what it is told, and takes an adler32 that it has not for another one."""
    odd = File(made.files(1)[0].did, 10, "", MD5)
    made.dataset("SITE-A", files=[odd])
    spec, ledger = made.buffer()
    said = refused(Reason.CATALOGUE_REFUSED, catalogue.register, spec.name, ledger, [File(odd.did, 10, "0000abcd")])
    assert str(odd.did) in said
    for _ in range(2):
        catalogue.register(spec.name, ledger, [odd])
    assert catalogue.replicas(spec.name, ledger) == {odd.did: "A"}
    other = dataclasses.replace(odd, md5="0" * 32)
    assert str(odd.did) in refused(Reason.CATALOGUE_REFUSED, catalogue.register, spec.name, ledger, [other])


def test_sources_are_permanent_and_of_the_expression(made: Made, catalogue: Catalogue) -> None:
    files = made.files()
    rse, _ = made.buffer(files, made.spec("SITE-B", availability_read=True))
    made.dataset("SITE-A", files=files)
    pfns = catalogue.pfns("SITE-A", dids(files))
    for expression in ("SITE-A", "site=SITE-A", "SITE-A|SITE-B", f"SITE-A|{rse.name}", "*"):
        assert catalogue.sources(files, expression) == {did: (pfn,) for did, pfn in pfns.items()}
    for expression in ("SITE-B", rse.name):
        assert catalogue.sources(files, expression) == {}
    assert catalogue.sources([File(ABSENT, 1, "00000001")], "*") == {}
    for expression in ("NO-SUCH-RSE", "site=nowhere"):
        assert expression in refused(Reason.NO_REPLICA, catalogue.sources, files, expression)


def test_a_ledger_knows_its_owner(made: Made, catalogue: Catalogue) -> None:
    ledger = made.ledger()
    catalogue.ensure_ledger(ledger, owner_of(ledger))
    for _ in range(2):
        assert catalogue.ledger_exists(ledger)
        assert catalogue.ledgers(LEDGERS, INSTANCE)[ledger] == owner_of(ledger)
        assert catalogue.ledgers_of(LEDGERS, owner_of(ledger).record_id) == {ledger: owner_of(ledger)}
    assert ledger not in catalogue.ledgers(LEDGERS, f"{INSTANCE}-other")
    assert not catalogue.ledger_exists(ABSENT)
    assert catalogue.ledgers_of(LEDGERS, "nobodys") == {}
    for owner in (LedgerOwner(INSTANCE, "another"), LedgerOwner("another", ledger.name)):
        assert str(ledger) in refused(Reason.FOREIGN_OBJECT, catalogue.ensure_ledger, ledger, owner)


def test_somebody_s_dataset_is_no_ledger(made: Made, catalogue: Catalogue) -> None:
    dataset = made.dataset()
    refused(Reason.FOREIGN_OBJECT, catalogue.ensure_ledger, dataset, owner_of(dataset))


def test_an_rse_is_made_and_completed(made: Made, catalogue: Catalogue) -> None:
    rse = made.spec()
    assert catalogue.rse(rse) is None
    for _ in range(2):
        made.buffer(spec=rse)
        state = catalogue.rse(rse)
        assert state is not None
        assert (state.name, state.complete, state.deletable) == (rse.name, True, False)
    for wanted in (
        dataclasses.replace(rse, attributes={**rse.attributes, "region": "there"}),
        dataclasses.replace(rse, attributes={**rse.attributes, "region": "there"}, availability_read=True),
    ):
        before = catalogue.rse(wanted)
        catalogue.ensure_rse(wanted)
        after = catalogue.rse(wanted)
        assert before is not None
        assert after is not None
        assert (before.complete, after.complete) == (False, True)


@pytest.mark.parametrize(
    "value",
    ["false", "False", "TRUE", "true", "3", "3.50", "1e5", "None", "null", "0", "", " x ", "ü" * 255, "a=b&c/d"],
)
def test_an_attribute_is_compared_as_rucio_stores_it(made: Made, catalogue: Catalogue, value: str) -> None:
    plain = made.spec()
    rse = dataclasses.replace(plain, attributes={**plain.attributes, "verify_checksum": value, "vrse_account": value})
    made.buffer(spec=rse)
    state = catalogue.rse(rse)
    assert state is not None
    assert state.complete, state.lacks
    found = catalogue.buffer(rse.name)
    assert found is not None
    assert found.attributes["vrse_account"].lower() == value.lower()
    other = catalogue.rse(dataclasses.replace(rse, attributes={**rse.attributes, "verify_checksum": "other"}))
    assert other is not None
    assert not other.complete
    assert "verify_checksum" in " ".join(other.lacks)


def test_a_value_that_rucio_has_no_room_for_is_its_failure(made: Made) -> None:
    plain = made.spec()
    rse = dataclasses.replace(plain, attributes={**plain.attributes, "region": "x" * 256})
    with pytest.raises(UnreachableError):
        made.buffer(spec=rse)


def test_an_rse_may_be_deleted_on_only_if_allowed(made: Made, catalogue: Catalogue) -> None:
    rse, _ = made.buffer()
    for _ in range(2):
        catalogue.allow_deletion(rse.name)
        state = catalogue.rse(rse)
        assert state is not None
        assert state.deletable
    catalogue.allow_deletion("NO-SUCH-RSE")


def test_somebody_s_rse_is_not_touched(made: Made, catalogue: Catalogue) -> None:
    rse, _ = made.buffer()
    other = dataclasses.replace(rse, attributes={**rse.attributes, "vrse_instance": "another"})
    for foreign in (other, dataclasses.replace(rse, name="SITE-A")):
        assert foreign.name in refused(Reason.FOREIGN_OBJECT, catalogue.rse, foreign)
        refused(Reason.FOREIGN_OBJECT, catalogue.ensure_rse, foreign)
    state = catalogue.rse(rse)
    assert state is not None
    assert state.complete


def test_files_are_registered_once(made: Made, catalogue: Catalogue) -> None:
    files = made.files(3)
    rse, ledger = made.buffer(files[:2])
    for _ in range(2):
        catalogue.register(rse.name, ledger, files)
        assert catalogue.replicas(rse.name, ledger) == dict.fromkeys(dids(files), "A")
        assert catalogue.resolve(ledger) == tuple(files)
    assert catalogue.registered(ledger) == set(dids(files))
    assert catalogue.registered(ABSENT) == set()
    assert catalogue.replicas(rse.name, ABSENT) == {}
    assert catalogue.replicas("NO-SUCH-RSE", ledger) == {}
    assert catalogue.replicas("SITE-A", ledger) == {}


def test_files_known_otherwise_are_refused_alone(made: Made, catalogue: Catalogue) -> None:
    known, *new = made.files(6)
    rse, ledger = made.buffer([known])
    for wrong in (dataclasses.replace(known, adler32="deadbeef"), dataclasses.replace(known, bytes=7)):
        what = refused(Reason.CATALOGUE_REFUSED, catalogue.register, rse.name, ledger, [*new[:3], wrong, *new[3:]])
        assert known.did.name in what
    assert catalogue.replicas(rse.name, ledger) == dict.fromkeys(dids([known, *new]), "A")


def test_lost_replicas_are_out_of_sight_until_they_are_back(made: Made, catalogue: Catalogue) -> None:
    files = made.files(3)
    rse, ledger = made.buffer(files)
    for _ in range(2):
        catalogue.suspend(rse.name, dids(files[:2]))
        assert catalogue.replicas(rse.name, ledger) == dict(zip(dids(files), "TTA", strict=True))
        assert catalogue.unsafe(files, [rse.name]) == tuple(dids(files[:2]))
    # No file vanishes with its lost replica, not even where the reaper may work.
    assert catalogue.resolve(ledger) == tuple(files)
    for _ in range(2):
        catalogue.resume(rse.name, dids(files[:1]))
        assert catalogue.replicas(rse.name, ledger) == dict(zip(dids(files), "ATA", strict=True))
    assert catalogue.unsafe(files, [rse.name]) == (files[1].did,)
    catalogue.hide(rse.name, dids(files))
    assert set(catalogue.replicas(rse.name, ledger).values()) == {"B"}


def test_the_nearest_source_comes_first(world: World, made: Made, catalogue: Catalogue) -> None:
    files = made.files()
    made.dataset("SITE-A", "SITE-B", files=files)
    world.distance("SITE-A", "SITE-B", 7)
    world.distance("SITE-B", "SITE-A", 7)
    for near, first in (("SITE-B", "SITE-B"), ("SITE-A", "SITE-A")):
        pfns = catalogue.pfns(first, dids(files))
        found = catalogue.sources(files, "*", near)
        assert {did: sources[0] for did, sources in found.items()} == pfns
        assert {len(sources) for sources in found.values()} == {2}


def test_an_rse_that_cannot_be_read_is_no_source(made: Made, catalogue: Catalogue) -> None:
    files, closed = made.files(), made.odd("availability_read")
    dataset = made.dataset("SITE-A", files=files[:1])
    made.places.add((closed, dataset))
    catalogue.attach(dataset, closed, files)
    found = catalogue.sources(files, f"SITE-A|{closed}")
    assert found == {files[0].did: (catalogue.pfns("SITE-A", dids(files))[files[0].did],)}


@pytest.mark.parametrize("odd", ["rse_type", "staging_required"])
def test_what_is_on_tape_is_read_where_it_is_on_disk(made: Made, catalogue: Catalogue, odd: str) -> None:
    tape, files = made.odd(odd), made.files()
    dataset = made.dataset("SITE-A", files=files[:1])
    made.places.add((tape, dataset))
    catalogue.attach(dataset, tape, files)
    both = f"SITE-A|{tape}"
    for _ in range(2):
        assert catalogue.sources(files, tape) == {}
        assert catalogue.sources(files, both) == {files[0].did: (catalogue.pfns("SITE-A", dids(files))[files[0].did],)}
        assert catalogue.barred(dids(files), both) == dict.fromkeys(dids(files), Barred(Reason.ON_TAPE, tape))
        assert catalogue.barred([files[1].did, ABSENT], "SITE-A") == {}
    refused(Reason.NO_REPLICA, catalogue.barred, dids(files), "NO-SUCH-RSE")


def test_what_is_inside_an_archive_is_no_source_of_its_own(world: World, made: Made, catalogue: Catalogue) -> None:
    archive, inside, plain = made.files(3)
    archive = dataclasses.replace(archive, did=Did(SCOPE, f"{archive.did.name}.zip"))
    dataset = made.dataset("SITE-A", files=[plain])
    world.archive(dataset, "SITE-A", archive, inside)
    assert set(catalogue.resolve(dataset)) == {archive, inside, plain}
    pfns = catalogue.pfns("SITE-A", dids([archive, plain]))
    for _ in range(2):
        assert catalogue.sources([archive, inside, plain], "*") == {did: (pfn,) for did, pfn in pfns.items()}
        found = catalogue.barred(dids([inside, plain]), "*")
        assert found == {inside.did: Barred(Reason.IN_ARCHIVE, pfns[archive.did])}
        assert catalogue.barred([inside.did], "SITE-B") == {}


def test_a_dataset_holds_files_of_any_scope_if_its_owner_likes(world: World, made: Made, catalogue: Catalogue) -> None:
    (own,), secret = made.files(1), File(Did("user.bob", f"contract.{uuid.uuid4().hex[:10]}"), 7, "00000007")
    bobs = Did("user.bob", f"contract.{uuid.uuid4().hex[:10]}")
    catalogue.ensure_dataset(bobs, grid.BOB, "maker")
    made.places.add(("SITE-A", bobs))
    catalogue.attach(bobs, "SITE-A", [secret])
    dataset = made.dataset("SITE-A", files=[own])
    world.attach_as_alice(dataset, [secret.did])
    outer = Did(SCOPE, f"{dataset.name}.outer")
    world.container(outer, [dataset, bobs])
    for did in (dataset, outer):
        assert catalogue.resolve(did) == (own, secret)
    assert catalogue.sources([secret], "SITE-A")[secret.did], "whose it is is no question for the service's account"


def test_where_somebody_says_that_a_file_is_is_no_source_unless_that_rse_is_trusted(
    world: World, made: Made, catalogue: Catalogue
) -> None:
    (file,), rse = made.files(1), f"CONTRACT-{uuid.uuid4().hex[:8].upper()}-SCRATCHDISK"
    dataset = made.dataset()
    made.rses.add(rse)
    made.places.add((rse, dataset))
    pfn = f"davs://{SITES['SITE-A']}:8443/store/user/bob/secret"
    world.say_where(rse, SITES["SITE-A"], dataset, file, pfn)
    for _ in range(2):
        assert catalogue.sources([file], f"SITE-A|{rse}") == {}
        assert catalogue.sources([file], f"SITE-A|{rse}", None, (rse,)) == {file.did: (pfn,)}


def test_nothing_is_registered_in_what_is_absent(made: Made, catalogue: Catalogue) -> None:
    files = made.files()
    rse, ledger = made.buffer()
    refused(Reason.CATALOGUE_REFUSED, catalogue.register, rse.name, Did(LEDGERS, "no.such.ledger"), files)
    refused(Reason.CATALOGUE_REFUSED, catalogue.register, "NO-SUCH-RSE", ledger, files)


def test_destinations_are_permanent(made: Made, catalogue: Catalogue) -> None:
    rse, _ = made.buffer()
    for _ in range(2):
        assert dict(catalogue.destinations("SITE-B|SITE-A")) == {"SITE-A": "", "SITE-B": ""}
        found = catalogue.destinations(f"site=SITE-B|{rse.name}")
        assert found == {rse.name: "it is the buffer of a session", "SITE-B": ""}
        assert {rse for rse, why in catalogue.destinations("*").items() if not why} >= {"SITE-A", "SITE-B"}
    assert "NO-SUCH-RSE" in refused(Reason.NO_DESTINATION, catalogue.destinations, "NO-SUCH-RSE")


def test_many_rses_are_asked_for_at_once(made: Made, catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch) -> None:
    files, odd = made.files(), [made.odd("none") for _ in range(6)]
    made.dataset("SITE-A", files=files)
    asked, singly = list[str](), {"get_rse", "list_rse_attributes", "get_rse_limits", "get_distance"}
    if isinstance(catalogue, RucioCatalogue):
        call = catalogue._server.call

        def counted(about: str, method: str, *args: Any, **kwargs: Any) -> Any:
            asked.append(method)
            return call(about, method, *args, **kwargs)

        monkeypatch.setattr(catalogue._server, "call", counted)
    found = catalogue.destinations("|".join(["SITE-A", *odd]))
    assert set(found) == {"SITE-A", *odd}
    rooms = catalogue.rooms(grid.ALICE, list(found))
    assert set(rooms) == set(found)
    assert not singly & set(asked), asked
    assert set(catalogue.sources(files, "|".join(["SITE-A", *odd]), "SITE-A")) == set(dids(files))
    assert len([method for method in asked if method in singly]) <= 2, asked


ODD = {
    "deterministic": "it is not deterministic",
    "volatile": "it is volatile",
    "staging_area": "it is a staging area",
    "rse_type": "it is TAPE",
    "availability_write": "it may not be written (availability_write is False)",
    "read": "its davs protocol is read-only",
    "": "it has no davs protocol",
    "staging_required": "it is TAPE (its attribute staging_required)",
}
"""What is odd about a permanent RSE -> why outputs cannot be kept there."""


@pytest.mark.parametrize("odd", ODD)
def test_an_rse_that_keeps_nothing_is_no_destination(made: Made, catalogue: Catalogue, odd: str) -> None:
    rse = made.odd(odd)
    for _ in range(2):
        found = catalogue.destinations(f"SITE-A|{rse}")
        assert found["SITE-A"] == catalogue.doubt("SITE-A") == ""
        assert catalogue.doubt(rse).startswith(ODD[odd])
        # What its columns say is told of all at once.
        assert found[rse] == ("" if "protocol" in ODD[odd] or "attribute" in ODD[odd] else catalogue.doubt(rse))


@pytest.mark.parametrize(
    ("odd", "call"),
    [
        ("deterministic", "attach"),
        ("volatile", "attach"),
        ("staging_area", "ensure_rule"),
        ("availability_write", "ensure_rule"),
        ("", "pfns"),
    ],
)
def test_what_is_no_destination_would_be_refused_late(
    world: World, made: Made, catalogue: Catalogue, odd: str, call: str
) -> None:
    rse, files = made.odd(odd), made.files()
    dataset = made.dataset("SITE-A", files=files)
    world.limit(grid.ALICE, rse, UNLIMITED)
    calls: dict[str, Callable[[], object]] = {
        "attach": lambda: catalogue.attach(dataset, rse, made.files()),
        "ensure_rule": lambda: catalogue.ensure_rule(dataset, grid.ALICE, [rse], None),
        "pfns": lambda: catalogue.pfns(rse, dids(files)),
    }
    refused(Reason.CATALOGUE_REFUSED, calls[call])


def test_where_copies_go(made: Made, catalogue: Catalogue) -> None:
    files = dids(made.files())
    for _ in range(2):
        pfns = catalogue.pfns("SITE-B", files)
        assert set(pfns) == set(files)
        for did, pfn in pfns.items():
            assert pfn.startswith(f"davs://{SITES['SITE-B']}:8443/store/user/alice/")
            assert pfn.endswith(f"/{did.name}")
    if isinstance(catalogue, RucioCatalogue):
        # What we compute is what the server computes.
        names = [str(did) for did in files]
        told = catalogue._server.call("SITE-B", "lfns2pfns", "SITE-B", names, operation="write", scheme="davs")
        assert {str(did): pfn for did, pfn in pfns.items()} == told
        site = catalogue._rses.site("SITE-B") or {}
        assert usual_paths(site, writing(site)) is not None
    refused(Reason.CATALOGUE_REFUSED, catalogue.pfns, made.odd("read"), files)
    refused(Reason.CATALOGUE_REFUSED, catalogue.pfns, "NO-SUCH-RSE", files)


A, B = SITES["SITE-A"], SITES["SITE-B"]


@pytest.mark.parametrize(
    ("doors", "written", "listed"),
    [
        (((A, 1, 1), (B, 0, 0)), B, B),
        (((A, 0, 0), (B, 1, 1)), A, A),
        (((A, 2, 1), (B, 1, 2)), B, B),
        (((A, 2, 0), (B, 1, None)), A, B),
        (((A, None, 1), (B, 0, None)), A, B),
        (((A, None, 1), (B, None, 0)), B, ""),
        (((A, None, 3), (B, 7, 2)), B, B),
    ],
    ids=[
        "0 before 1", "0 before 1, again", "listed by the other", "listed by what is read-only",
        "each for one", "none to read by", "null is never",
    ],
)  # fmt: skip
def test_copies_go_where_rucio_lists_them(
    made: Made, catalogue: Catalogue, doors: tuple[Priorities, ...], written: str, listed: str
) -> None:
    rse, (file,) = made.doors(*doors), made.files(1)
    dataset = made.dataset()
    made.places.add((rse, dataset))
    catalogue.attach(dataset, rse, [file])
    assert catalogue.destinations(rse) == {rse: ""}
    for _ in range(2):
        found = catalogue.pfns(rse, [file.did])[file.did]
        assert found.startswith(f"davs://{written}:8443/store/user/alice/")
        looked = catalogue.read_pfns(rse, [file.did])[file.did]
        assert catalogue.sources([file], rse) == ({file.did: (looked,)} if listed else {})
        assert looked.startswith(f"davs://{listed or written}:8443/store/user/alice/")


def test_paths_are_those_of_the_rse_s_own_algorithm(made: Made, catalogue: Catalogue) -> None:
    rse, (file,) = made.odd("identity"), made.files(1)
    dataset = made.dataset()
    made.places.add((rse, dataset))
    catalogue.attach(dataset, rse, [file])
    pfn = f"davs://{B}:8443/store/user/alice/{file.did.name}"
    for _ in range(2):
        assert catalogue.pfns(rse, [file.did]) == {file.did: pfn}
        assert catalogue.sources([file], rse) == {file.did: (pfn,)}
        hashed = catalogue.pfns("SITE-B", [file.did])[file.did]
        assert hashed != pfn
        assert hashed.endswith(file.did.name)


def test_third_parties_copy_by_davs(world: World, made: Made, catalogue: Catalogue) -> None:
    """A priority of 0 would be the first of all."""
    rse, _ = made.buffer()
    for _ in range(2):
        state = catalogue.rse(rse)
        assert state is not None
        assert state.complete, state.lacks
        if isinstance(catalogue, RucioCatalogue):
            site = catalogue._rses.get(rse.name) or {}
            third = "third_party_copy_read", "third_party_copy_write"
            for operation in third:
                chosen = rsemanager.get_protocols_ordered(dict(site), operation)
                assert [door["scheme"] for door in chosen] == ["davs"]
            assert rsemanager.find_matching_scheme(site, site, *third)[:2] == ("davs", "davs")
        world.prefer_root(rse)
        state = catalogue.rse(rse)
        assert state is not None
        assert not state.complete
        catalogue.ensure_rse(rse)


def left(catalogue: Catalogue, account: str, rse: str) -> int | None:
    """Give what may still be locked, and see that somebody is told by what."""
    room = catalogue.narrowed(account, rse, catalogue.rooms(account, [rse])[rse])
    assert (room.bytes is None) == (room.by == "")
    return room.bytes


def test_quota_is_what_no_rule_uses(world: World, made: Made, catalogue: Catalogue) -> None:
    world.limit(grid.ALICE, "SITE-B", 10**12)
    files = made.files()
    dataset = made.dataset("SITE-B", files=files)
    before = left(catalogue, grid.ALICE, "SITE-B")
    assert before is not None
    catalogue.ensure_rule(dataset, grid.ALICE, ["SITE-B"], 3600)
    size = sum(file.bytes for file in files)
    assert (catalogue.size(dataset), catalogue.size(ABSENT)) == (size, 0)
    world.settle(lambda: (left(catalogue, grid.ALICE, "SITE-B") or 0) <= before - size)
    assert left(catalogue, grid.ALICE, "NO-SUCH-RSE") == 0


def test_quota_may_be_unlimited_or_none(world: World, made: Made, catalogue: Catalogue) -> None:
    rse, _ = made.buffer()
    for limit, bytes_ in ((UNLIMITED, None), (1000, 1000), (0, 0)):
        world.limit(grid.BOB, rse.name, limit)
        for _ in range(2):
            assert left(catalogue, grid.BOB, rse.name) == bytes_


def test_a_global_limit_counts_as_the_local_one(world: World, made: Made, catalogue: Catalogue) -> None:
    files, (rse, other) = made.files(), (made.odd("none"), made.odd("none"))
    for one in (rse, other):
        world.limit(grid.BOB, one, 10**6)
    with world.global_limit(grid.BOB, f"{rse}|{other}", 30):
        for one in (rse, other):
            room = catalogue.rooms(grid.BOB, [one])[one]
            assert (room.bytes, f"'{rse}|{other}'" in room.by) == (30, True)
        assert left(catalogue, grid.ALICE, rse) != 30, "it is bob's"
        dataset = made.dataset(rse, files=[dataclasses.replace(files[0], bytes=31)])
        refused(Reason.QUOTA_EXCEEDED, catalogue.ensure_rule, dataset, grid.BOB, [rse], 3600)
    assert left(catalogue, grid.BOB, rse) == 10**6


def test_an_account_with_the_attribute_admin_needs_no_limit(world: World, made: Made, catalogue: Catalogue) -> None:
    rse, files = made.odd("none"), made.files()
    world.limit(grid.OPERATOR, rse, 0)
    for _ in range(2):
        assert left(catalogue, grid.OPERATOR, rse) is None
    dataset = made.dataset(rse, files=files)
    assert catalogue.ensure_rule(dataset, grid.OPERATOR, [rse], 3600)


def test_an_rse_has_a_limit_of_its_own_and_may_be_closed_to_others(
    world: World, made: Made, catalogue: Catalogue
) -> None:
    rse, closed = made.odd("space"), made.odd("restricted_write")
    for one in (rse, closed):
        world.limit(grid.BOB, one, 10**6)
    rooms = catalogue.rooms(grid.BOB, [rse, closed])
    assert {room.bytes for room in rooms.values()} == {10**6}, "by the limits of the account"
    assert catalogue.narrowed(grid.BOB, rse, rooms[rse]) == Room(500, "its limit MaxSpaceAvailable")
    assert catalogue.narrowed(grid.BOB, rse, Room(499, "x")) == Room(499, "x")
    assert catalogue.narrowed(grid.OPERATOR, rse, catalogue.rooms(grid.OPERATOR, [rse])[rse]) == Room(None)
    dataset = made.dataset(rse, files=[dataclasses.replace(made.files()[0], bytes=300)])
    made.dataset(rse, files=[dataclasses.replace(made.files()[0], bytes=200)])
    world.settle(lambda: left(catalogue, grid.BOB, rse) == 0)
    assert catalogue.ensure_rule(dataset, grid.BOB, [rse], 3600), "what is there already needs no space"
    room = catalogue.narrowed(grid.BOB, closed, rooms[closed])
    assert (room.bytes, "restricted_write" in room.by) == (0, True)
    assert left(catalogue, grid.OPERATOR, closed) is None


def test_a_dataset_is_made_once_and_must_be_open(world: World, made: Made, catalogue: Catalogue) -> None:
    files = made.files()
    dataset = made.dataset("SITE-A", files=files[:1])
    for _ in range(2):
        assert catalogue.ensure_dataset(dataset, grid.ALICE, "another") is False
        catalogue.attach(dataset, "SITE-A", files)
        assert catalogue.resolve(dataset) == tuple(files)
    container = Did(SCOPE, f"{dataset.name}.container")
    world.container(container, [dataset])
    world.close(dataset)
    for wrong in (dataset, container, files[0].did):
        assert str(wrong) in refused(Reason.DATASET_REFUSED, catalogue.ensure_dataset, wrong, grid.ALICE, "maker")
    assert str(dataset) in refused(Reason.CATALOGUE_REFUSED, catalogue.attach, dataset, "SITE-A", made.files())


def test_of_several_that_make_a_dataset_one_does(made: Made, catalogue: Catalogue) -> None:
    dataset = Did(SCOPE, f"contract.{uuid.uuid4().hex[:10]}")
    assert catalogue.maker(dataset) is None
    assert catalogue.ensure_dataset(dataset, grid.ALICE, "first", fresh=True) is True
    made.places.add(("SITE-A", dataset))
    for _ in range(2):
        assert catalogue.maker(dataset) == "first"
        assert catalogue.ensure_dataset(dataset, grid.ALICE, "first", fresh=True) is False, "its own, done again"
        assert catalogue.ensure_dataset(dataset, grid.ALICE, "second") is False
        with pytest.raises(RefusedError) as caught:
            catalogue.ensure_dataset(dataset, grid.ALICE, "second", fresh=True)
        assert caught.value.reason is Reason.DATASET_REFUSED
        refused(Reason.DATASET_REFUSED, catalogue.ensure_dataset, dataset, grid.BOB, "second")


def test_the_content_of_a_dataset_is_its_files_with_their_checksums(made: Made, catalogue: Catalogue) -> None:
    files = made.files(3)
    dataset = made.dataset("SITE-A", files=files[:2])
    for _ in range(2):
        assert sorted(catalogue.content(dataset)) == files[:2]
    catalogue.attach(dataset, "SITE-A", files)
    assert sorted(catalogue.content(dataset)) == files
    assert catalogue.content(made.dataset()) == ()
    assert catalogue.content(ABSENT) == ()


def test_what_stands_under_a_name_is_seen(world: World, made: Made, catalogue: Catalogue) -> None:
    (file, *_) = files = made.files(1)
    dataset = made.dataset("SITE-A", files=files)
    assert catalogue.dataset(dataset) == DatasetState(grid.ALICE, is_dataset=True, open=True)
    world.close(dataset)
    assert catalogue.dataset(dataset) == DatasetState(grid.ALICE, is_dataset=True, open=False)
    known = catalogue.dataset(file.did)
    assert known is not None
    assert not known.is_dataset
    assert catalogue.dataset(Did(SCOPE, f"never.{uuid.uuid4().hex}")) is None


def test_a_copy_known_otherwise_is_refused(made: Made, catalogue: Catalogue) -> None:
    files = made.files()
    dataset = made.dataset("SITE-A", files=files)
    wrong = dataclasses.replace(files[1], adler32="deadbeef")
    assert wrong.did.name in refused(Reason.CATALOGUE_REFUSED, catalogue.attach, dataset, "SITE-A", [wrong])
    refused(Reason.CATALOGUE_REFUSED, catalogue.attach, ABSENT, "SITE-A", files)


def test_a_rule_holds_what_is_there_and_what_comes(world: World, made: Made, catalogue: Catalogue) -> None:
    first, later = made.files()
    dataset, rses = made.dataset("SITE-A", "SITE-B", files=[first]), ["SITE-A", "SITE-B"]
    assert catalogue.locked_by(dataset, grid.ALICE, rses) is None
    rule = catalogue.ensure_rule(dataset, grid.ALICE, rses, 3600)
    assert catalogue.ensure_rule(dataset, grid.ALICE, rses, 3600) == rule
    for _ in range(2):
        assert catalogue.locked_by(dataset, grid.ALICE, rses) == rule
    assert catalogue.locked_by(dataset, grid.ALICE, ["SITE-A"]) is None
    assert catalogue.locked_by(dataset, grid.BOB, rses) is None
    assert catalogue.locked_by(ABSENT, grid.ALICE, rses) is None
    other = made.dataset("SITE-A", "SITE-B", files=[later])
    eternal = catalogue.ensure_rule(other, grid.ALICE, ["SITE-B"], None)
    assert catalogue.locked_by(other, grid.ALICE, ["SITE-B"]) == eternal != rule
    for rse in rses:
        catalogue.attach(dataset, rse, [later])
    world.settle(lambda: catalogue.locked_by(dataset, grid.ALICE, rses) == rule)


def test_a_rule_is_lengthened_and_never_shortened(made: Made, catalogue: Catalogue) -> None:
    dataset, rses, since = made.dataset("SITE-B", files=made.files()), ["SITE-B"], datetime.now(UTC)
    rule = catalogue.ensure_rule(dataset, grid.ALICE, rses, 60)

    def held(lifetime: int | None) -> str | None:
        return catalogue.locked_by(dataset, grid.ALICE, rses, Term(lifetime, since))

    assert [held(lifetime) for lifetime in (30, 60, 3600, None)] == [rule, rule, None, None]
    assert catalogue.ensure_rule(dataset, grid.ALICE, rses, 3600) == rule
    assert catalogue.ensure_rule(dataset, grid.ALICE, rses, 30) == rule
    assert [held(lifetime) for lifetime in (30, 60, 3600, None)] == [rule, rule, rule, None]
    for lifetime in (None, 60):
        assert catalogue.ensure_rule(dataset, grid.ALICE, rses, lifetime) == rule
        assert held(None) == rule


def test_a_rule_is_described_and_holds_single_files(world: World, made: Made, catalogue: Catalogue) -> None:
    first, later = made.files()
    dataset, rses = made.dataset("SITE-B", files=[first]), ["SITE-B"]
    assert catalogue.rule_state(dataset, grid.ALICE, rses) is None
    assert catalogue.held_at(dataset, grid.ALICE) == frozenset()
    assert catalogue.held_at(ABSENT, grid.ALICE) == frozenset()
    rule = catalogue.ensure_rule(dataset, grid.ALICE, rses, 3600)
    assert catalogue.rule_state(dataset, grid.ALICE, rses) == RuleState(rule, "OK", 1, 1)
    assert catalogue.held_at(dataset, grid.ALICE) == {"SITE-B"}
    assert catalogue.held_at(dataset, grid.BOB) == frozenset()
    catalogue.attach(dataset, "SITE-B", [later])
    assert catalogue.locked_by(dataset, grid.ALICE, rses, None, [first.did]) == rule
    world.settle(lambda: catalogue.locked_by(dataset, grid.ALICE, rses, None, [later.did]) == rule)
    assert catalogue.rule_state(dataset, grid.ALICE, rses) == RuleState(rule, "OK", 2, 2)
    assert catalogue.locked_by(dataset, grid.ALICE, rses, None, [ABSENT]) == rule, "all its files are locked"


def test_a_rule_of_somebody_else_stays_as_it_is(world: World, made: Made, catalogue: Catalogue) -> None:
    dataset, rses, soon = made.dataset("SITE-B", files=made.files()), ["SITE-B"], datetime.now(UTC)
    rule = world.rule(dataset, rses, lifetime=3600)
    assert catalogue.ensure_rule(dataset, grid.OPERATOR, rses, 60) == rule
    for lifetime in (86400, None):
        said = refused(Reason.RULE_INSUFFICIENT, catalogue.ensure_rule, dataset, grid.OPERATOR, rses, lifetime)
        assert rule in said
        assert str(dataset) in said
        assert catalogue.locked_by(dataset, grid.OPERATOR, rses, Term(lifetime, soon)) is None
    assert catalogue.locked_by(dataset, grid.OPERATOR, rses) == rule
    catalogue.expire_rule(rule)
    assert catalogue.locked_by(dataset, grid.OPERATOR, rses) is None


def test_a_rule_that_has_ended_makes_room_for_another(world: World, made: Made, catalogue: Catalogue) -> None:
    dataset, rses = made.dataset("SITE-B", files=made.files()), ["SITE-B"]
    rule = catalogue.ensure_rule(dataset, grid.ALICE, rses, None)
    catalogue.expire_rule(rule)
    with suppress(RefusedError):
        # Refused unless Rucio has removed it meanwhile.
        assert catalogue.ensure_rule(dataset, grid.ALICE, rses, None) != rule
    world.settle(lambda: rule not in world.rules(dataset))
    other = catalogue.ensure_rule(dataset, grid.ALICE, rses, None)
    assert catalogue.locked_by(dataset, grid.ALICE, rses) == other != rule


def test_no_rule_without_quota_dataset_or_place(world: World, made: Made, catalogue: Catalogue) -> None:
    world.limit("root", "SITE-A", 0)
    dataset = made.dataset("SITE-A", files=made.files())
    rse, _ = made.buffer()
    assert str(dataset) in refused(Reason.QUOTA_EXCEEDED, catalogue.ensure_rule, dataset, "root", ["SITE-A"], None)
    refused(Reason.CATALOGUE_REFUSED, catalogue.ensure_rule, ABSENT, grid.ALICE, ["SITE-A"], 3600)
    for place in ("NO-SUCH-RSE", rse.name):
        refused(Reason.CATALOGUE_REFUSED, catalogue.ensure_rule, dataset, grid.ALICE, [place], 3600)


def test_safe_is_a_copy_with_this_checksum_everywhere(made: Made, catalogue: Catalogue) -> None:
    files = made.files()
    rse, _ = made.buffer(files, made.spec("SITE-B"))
    both = tuple(dids(files))
    assert catalogue.unsafe(files, ["SITE-A"]) == both
    made.dataset("SITE-A", files=files)
    for _ in range(2):
        assert catalogue.unsafe(files, ["SITE-A"]) == ()
        assert catalogue.unsafe(files, ["SITE-A", "SITE-B"]) == both
        assert catalogue.unsafe([dataclasses.replace(files[1], adler32="deadbeef")], ["SITE-A"]) == both[1:]
        assert catalogue.unsafe([File(ABSENT, 1, "00000001")], ["SITE-A"]) == (ABSENT,)
    catalogue.hide(rse.name, both)
    made.dataset("SITE-B", files=files[:1])
    assert catalogue.unsafe(files, ["SITE-A", "SITE-B"]) == both[1:]


def test_last_copies_until_a_permanent_rse_has_one(world: World, made: Made, catalogue: Catalogue) -> None:
    files = made.files(3)
    rse, ledger = made.buffer(files)
    another = made.spec("SITE-B")
    world.half_made(another.name)
    catalogue.register(another.name, ledger, files)
    made.places.add((another.name, ledger))
    for _ in range(2):
        assert catalogue.standing(rse.name, ledger).last == tuple(dids(files))
    made.buffer(spec=another)
    assert catalogue.standing(rse.name, ledger).last == tuple(dids(files))
    catalogue.hide(another.name, dids(files))
    copies = made.dataset("SITE-B", files=files[1:])
    assert catalogue.standing(rse.name, ledger).last == (files[0].did,)
    catalogue.hide("SITE-B", [files[1].did])
    assert catalogue.standing(rse.name, ledger).last == tuple(dids(files[:2]))
    assert set(catalogue.replicas("SITE-B", copies)) <= set(dids(files))
    assert catalogue.standing(rse.name, ABSENT).last == ()


def test_a_buffer_met_half_made_is_never_permanent(world: World, made: Made, catalogue: Catalogue) -> None:
    files, another = made.files(), made.spec("SITE-B")
    rse, ledger = made.buffer(files)
    world.half_made(another.name)
    assert catalogue.destinations(f"SITE-A|{another.name}")[another.name], "it is a buffer"
    # Completed before Rucio is asked for replicas: it remembers for minutes that an RSE has no protocol.
    made.buffer(files, another)
    assert catalogue.standing(rse.name, ledger).last == tuple(dids(files))


def test_a_buffer_is_described_and_taken_over(made: Made, catalogue: Catalogue) -> None:
    rse, ledger = made.buffer(made.files(1))
    found = catalogue.buffer(rse.name)
    assert found is not None
    assert (found.name, found.host, found.root_port, found.davs_port) == (
        rse.name, rse.host, rse.root_port, rse.davs_port,
    )  # fmt: skip
    assert found.attributes.items() >= {key: v for key, v in rse.attributes.items() if key[:5] == "vrse_"}.items()
    assert catalogue.buffer("SITE-A") is None
    assert catalogue.buffer("NO-SUCH-RSE") is None
    (was,) = [owner for did, owner in catalogue.ledgers(ledger.scope, INSTANCE).items() if did == ledger]
    heir = was.heir(f"heir.{uuid.uuid4()}")
    assert (heir.made_by, heir.heir("another").made_by) == (INSTANCE, INSTANCE)
    refused(Reason.FOREIGN_OBJECT, catalogue.take_ledger, ledger, LedgerOwner("stranger", was.record_id), heir)
    for _ in range(2):
        catalogue.take_ledger(ledger, was, heir)
        assert catalogue.ledgers(ledger.scope, heir.instance) == {ledger: heir}
    assert ledger not in catalogue.ledgers(ledger.scope, INSTANCE)
    catalogue.take_ledger(ledger, heir, was)


def lives(catalogue: Catalogue, rse: BufferRse, ledger: Did) -> None:
    """Make and remove all that a buffer has in Rucio, in the operator's order."""
    catalogue.ensure_ledger(ledger, owner_of(ledger))
    catalogue.ensure_rse(rse)
    catalogue.allow_deletion(rse.name)
    catalogue.delete_rse(rse.name)
    catalogue.expire_ledger(ledger)


def is_left(catalogue: Catalogue, rse: BufferRse) -> str:
    """Tell what a dead process has left of an RSE, which says itself whose it is."""
    found, state = catalogue.buffer(rse.name), catalogue.rse(rse)
    if found is None or state is None:
        assert (found, state) == (None, None)
        return "nothing"
    assert found.attributes["vrse_instance"] == INSTANCE
    return "all" if state.complete else "half"


def test_whatever_write_was_the_last_one_it_is_known_and_can_be_ended(
    world: World, made: Made, catalogue: Catalogue
) -> None:
    """Every moment of the making and of the removal, by the adapter's own writes."""
    left, ledgers = [], []
    for writes in count(1):
        rse, ledger = made.spec(), Did(LEDGERS, f"contract.{uuid.uuid4().hex[:10]}")
        made.rses.add(rse.name)
        if not world.dies(writes, partial(lives, rse=rse, ledger=ledger)):
            break
        left.append(is_left(catalogue, rse))
        ledgers.append(ledger)
        heir = owner_of(ledger).heir(f"heir.{uuid.uuid4()}")
        # Once expired, it may go any moment.
        with suppress(*([RefusedError] if left[-2:] == ["nothing", "nothing"] else [])):
            catalogue.take_ledger(ledger, owner_of(ledger), heir)
            assert catalogue.ledgers_of(LEDGERS, heir.record_id) in ({ledger: heir}, {})
        assert catalogue.replicas(rse.name, ledger) == {}
        assert catalogue.standing(rse.name, ledger).last == ()
        catalogue.allow_deletion(rse.name)
        world.settle(lambda name=rse.name: deleted(catalogue, name))  # type: ignore[misc]
        assert is_left(catalogue, rse) == "nothing"
        catalogue.expire_ledger(ledger)
    assert [kind for kind, _ in groupby(left)] == ["nothing", "half", "all", "half", "nothing"]
    world.settle(lambda: not any(catalogue.ledger_exists(ledger) for ledger in ledgers))


def test_rules_that_lock_a_buffer(world: World, made: Made, catalogue: Catalogue) -> None:
    files = made.files()
    rse, ledger = made.buffer(files)
    dataset = made.dataset("SITE-A", files=files)
    assert catalogue.foreign_rules(rse.name, ledger) == ()
    here, spanning = world.rule(files[0].did, [rse.name]), world.rule(dataset, [rse.name, "SITE-A"])
    catalogue.ensure_rule(dataset, grid.ALICE, ["SITE-A"], 3600)
    assert {rule.id for rule in catalogue.foreign_rules(rse.name, ledger)} == {spanning}, "of datasets at once"
    refused(Reason.FOREIGN_RULE, catalogue.hide, rse.name, dids(files))
    assert set(catalogue.replicas(rse.name, ledger).values()) == {"A"}
    for _ in range(2):
        found = {rule.id: rule for rule in catalogue.foreign_rules(rse.name, ledger)}
        assert {key: (rule.did, rule.only_here) for key, rule in found.items()} == {
            here: (files[0].did, True),
            spanning: (dataset, False),
        }
        assert {rule.account for rule in found.values()} == {grid.OPERATOR}
    for _ in range(2):
        for rule in (here, spanning):
            world.settle(lambda rule=rule: expired(catalogue, rule))  # type: ignore[misc]
    world.settle(lambda: catalogue.foreign_rules(rse.name, ledger) == ())
    for rule in (here, uuid.uuid4().hex):
        catalogue.expire_rule(rule)
    assert catalogue.foreign_rules("NO-SUCH-RSE", ledger) == ()


def test_a_rule_that_came_before_the_hiding_is_told_by_hiding_again(
    world: World, made: Made, catalogue: Catalogue
) -> None:
    files = made.files()
    rse, ledger = made.buffer(files)
    rule = world.rule(files[0].did, [rse.name])
    world.hide_unasked(rse.name, dids(files))
    assert set(catalogue.replicas(rse.name, ledger).values()) == {"B"}
    refused(Reason.FOREIGN_RULE, catalogue.hide, rse.name, dids(files))
    assert [found.id for found in catalogue.foreign_rules(rse.name, ledger)] == [rule]
    world.settle(lambda: expired(catalogue, rule))
    world.settle(lambda: catalogue.foreign_rules(rse.name, ledger) == ())
    catalogue.hide(rse.name, dids(files))


def test_hidden_files_are_no_copies(made: Made, catalogue: Catalogue) -> None:
    files = made.files(3)
    rse, ledger = made.buffer(files)
    for _ in range(2):
        catalogue.hide(rse.name, dids(files[:2]))
        assert catalogue.replicas(rse.name, ledger) == dict(zip(dids(files), "BBA", strict=True))
        assert catalogue.unsafe(files, [rse.name]) == tuple(dids(files[:2]))
    catalogue.hide(rse.name, [])


def test_a_buffer_drains_and_leaves_nothing_but_the_copies(world: World, made: Made, catalogue: Catalogue) -> None:
    files = made.files(3)
    rse, ledger = made.buffer(files)
    dataset = made.dataset("SITE-B", files=files[:2])
    rule = world.rule(ledger, [rse.name])
    catalogue.expire_rule(rule)
    world.settle(lambda: catalogue.foreign_rules(rse.name, ledger) == ())
    catalogue.hide(rse.name, dids(files))
    # Without leave the reaper does nothing.
    assert set(catalogue.replicas(rse.name, ledger).values()) == {"B"}
    catalogue.allow_deletion(rse.name)
    world.settle(lambda: catalogue.replicas(rse.name, ledger) == {})
    # Killed in the middle, it is done again: one replica is there, the others are gone.
    catalogue.register(rse.name, ledger, files[:1])
    catalogue.hide(rse.name, dids(files))
    assert set(catalogue.replicas(rse.name, ledger).values()) <= {"B"}
    world.settle(lambda: catalogue.replicas(rse.name, ledger) == {})
    catalogue.hide(rse.name, dids(files))
    world.settle(lambda: deleted(catalogue, rse.name))
    catalogue.delete_rse(rse.name)
    assert catalogue.rse(rse) is None
    refused(Reason.FOREIGN_OBJECT, catalogue.ensure_rse, rse)
    catalogue.hide(rse.name, dids(files))
    assert catalogue.replicas(rse.name, ledger) == {}
    # The last copy took its file with it; what lies at a site stays.
    refused(Reason.DID_NOT_FOUND, catalogue.resolve, files[2].did)
    assert catalogue.resolve(dataset) == tuple(files[:2])
    assert catalogue.unsafe(files[:2], ["SITE-B"]) == ()
    for _ in range(2):
        catalogue.expire_ledger(ledger)
    world.settle(lambda: not catalogue.ledger_exists(ledger))
    catalogue.expire_ledger(ledger)
    assert ledger not in catalogue.ledgers(LEDGERS, INSTANCE)
