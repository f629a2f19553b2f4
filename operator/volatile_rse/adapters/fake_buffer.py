"""A buffer in memory: an agent that keeps the protocol's promises, and the door that its session uses.

Orders only change what is wanted; ``advance`` does the work, so that a test sees every state between.
"""

from __future__ import annotations

import base64
import itertools
import json
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Literal, TypeVar

from volatile_rse.adapters.https import bearer
from volatile_rse.api.addresses import is_below, place_of
from volatile_rse.api.agent import (
    PATH_LENGTH,
    PROBE,
    Copies,
    CopyPage,
    CopyState,
    CopyTotals,
    Failure,
    FenceRequest,
    GateState,
    InputPage,
    InputState,
    InputTotals,
    LeaseTotals,
    Manifest,
    OutputPage,
    OutputRule,
    OutputState,
    OutputTotals,
    Report,
    SealRequest,
    SealState,
    SessionWords,
    Space,
    rule_of,
    status_path,
)
from volatile_rse.api.conditions import Reason
from volatile_rse.api.leases import fault_of_lease_name, time_of_lease
from volatile_rse.api.text import WORDS, visible
from volatile_rse.ports.buffer import Buffer, Endpoints
from volatile_rse.ports.errors import PortError, RefusedError, UnreachableError

__all__ = ["FakeBuffer", "FakeEndpoints"]

_State = TypeVar("_State", InputState, OutputState, CopyState)
_SHOWN = 60
_EXAMPLES = 20
_NOT_FENCED = ("/store/", PROBE)
"""Where tokens count once a buffer is fenced."""


class FakeBuffer(Buffer):
    """One buffer for one thread.

    Parameters
    ----------
    capacity
        Bytes of the volume.
    page
        Items of a page.
    """

    def __init__(self, capacity: int = 1 << 30, page: int = 1000) -> None:  # noqa: PLR0915 (switches of tests)
        self.down = False
        """The pod does not answer while this is set."""
        self.issuers: set[str] | None = None
        """Issuers whose tokens the door takes; None means every one's."""
        self.shut: dict[int, str] = {}
        """Port -> why nobody is answered there, while it stands here."""
        self.now: Callable[[], datetime] | None = None
        """The right time; None: it has no clock, and tokens count whenever they are shown."""
        self.skew = timedelta()
        """Its clock is ahead of the right time by this much."""
        self.broken: dict[str, str] = {}
        """Path or PFN -> error: staging, sealing or copying it fails while it stands here."""
        self.unlisted: str | None = None
        """Error of the inventory, which fails while it stands here."""
        self.sealing_steps = 0
        """The inventory has its list at the first ``advance``, and is done after as many more."""
        self.sealing_idle = 0
        """Seconds for which it has not got on."""
        self.unfenced = False
        """The fence does not come while this is set."""
        self.sites: dict[str, tuple[int, str]] = {}
        """PFN -> size and adler32 of what was copied there."""
        self.anonymous: set[str] = set()
        """Hosts of sites that give files to who shows no token."""
        self.halfway: dict[str, int] = {}
        """Path -> bytes of an input that arrive first; the others follow at the next ``advance``."""
        self.idle: dict[str, int] = {}
        """Input entry -> seconds since something of it arrived."""
        self.staging_rate: int | None = None
        self.inodes = self.inodes_free = 1_000_000
        self.xrootd_restarts = 0
        self.lacks: list[str] = []
        """What the file system of its volume cannot: nothing of that volume is ever staged or sealed."""
        self.knows = [
            "outputs",
            "continuous",
            "sourceless",
            "listing",
            "md5",
            "plainRedirects",
            "barred",
            "leases",
            "status",
        ]
        """Parts of the protocol that came later."""
        self.journal: list[str] = []
        """Accepted orders."""
        self.volume = "0" * 32
        self._capacity = capacity
        self._page = page
        self._versions = itertools.count(1)
        self._version = 0
        self._manifest: Manifest | None = None
        self.words: SessionWords | None = None
        """What the session's status file says of what the agent does not know itself."""
        self._told: str | None = None
        self._inputs: dict[str, InputState] = {}
        self._entries: dict[str, Sequence[str]] = {}
        self._sources: dict[str, Sequence[str]] = {}
        self._nowhere: dict[str, str] = {}
        self._list: str | None = None
        self._partial: dict[str, int] = {}
        """Path -> bytes of an input that have arrived."""
        self._outputs: dict[tuple[str, str], OutputState] = {}
        self._copies: dict[tuple[str, str, str], CopyState] = {}
        self._leases: dict[tuple[str, str], tuple[datetime, bytes]] = {}
        """Claim and name -> when it was written by its clock, and what."""
        self._leased: set[str] = set()
        """Claims of which one was ever taken."""
        self._torn: set[tuple[str, str]] = set()
        self._published: set[tuple[str, str]] = set()
        self._sums: dict[tuple[str, str], str] = {}
        self._desired = self._actual = GateState(mode="open", generation=0)
        self._seal: SealState | None = None
        self._wanted: SealRequest | None = None
        self._failures: list[tuple[PortError, bool]] = []

    # What tests do.

    def write(self, claim: str, path: str, data: bytes, *, torn: bool = False) -> None:
        """Write a file into a claim's outbox as a session does.

        Raises
        ------
        PermissionError
            The outbox is closed.
        """
        if self._actual.mode != "open":
            message = f"{path}: the outbox of {claim} is {self._actual.mode}"
            raise PermissionError(message)
        key = claim, path
        (self._torn.add if torn else self._torn.discard)(key)
        self._sums[key] = f"{zlib.adler32(data):08x}"
        self._outputs[key] = OutputState(
            version=self._next(), claim=claim, path=visible(path, PATH_LENGTH), state="found", bytes=len(data)
        )

    def publish(self, claim: str, path: str, data: bytes) -> None:
        """Rename a file into the publish directory as a session does."""
        self.write(claim, path, data)
        self._published.add((claim, path))

    def lease(self, claim: str, name: str, content: bytes = b"") -> None:
        """Take or renew a lease as a session does.

        Raises
        ------
        PermissionError
            The directory of leases is closed.
        """
        if self._actual.mode != "open" or self.now is None:
            message = f"the leases of {claim} are {self._actual.mode}"
            raise PermissionError(message)
        self._leases[claim, name] = self.now() + self.skew, content
        self._leased.add(claim)

    def release(self, claim: str, name: str) -> None:
        """Release one."""
        del self._leases[claim, name]

    def advance(self) -> None:
        """Do all that is wanted."""
        if self.lacks and self._manifest is not None:
            self.broken |= {path: f"[Errno 95] Operation not supported: {path!r}" for path in self._sources}
        if self._desired != self._actual and not self.unfenced:
            self._actual = self._desired
            self._next()
        if self._manifest is not None:
            # What is in the manifest no more is wanted no more.
            for key in self._sources:
                staged = self._inputs[key]
                if staged.state == "wanted" and staged.path in self.halfway:
                    self._partial[staged.path] = self.halfway.pop(staged.path)
                    continue
                arrived = self._work(staged, "wanted", "staged", staged.path, self._shut_in(staged.path))
                # It compares with the one checksum, and finds out the other.
                found = {"adler32": "0123abcd"} if arrived.md5 and arrived.state == "staged" else {}
                self._inputs[key] = arrived.model_copy(update=found)
                if self._inputs[key].state == "staged":
                    self._partial.pop(staged.path, None)
            for place, copy in self._copies.items():
                shut = self._shut(copy.pfn, writes=True)
                self._copies[place] = done = self._work(copy, "wanted", "verified", copy.pfn, shut)
                if done.state == "verified" and copy.state == "wanted":
                    self.sites[copy.pfn] = self._sealed()[copy.scope, copy.name]
        self._take_published()
        if self._wanted is not None and self._seal is not None and self._seal.state == "running":
            self._inventory(self._wanted)

    @property
    def rules(self) -> list[OutputRule]:
        """What it tells files by while sessions write."""
        return [] if self._manifest is None else self._manifest.outputs

    def lose_volume(self) -> None:
        """Replace the volume: all is gone but what was copied away, and the agent begins anew."""
        sites, volume, now, skew = self.sites, int(self.volume) + 1, self.now, self.skew
        self.__init__(self._capacity, self._page)  # type: ignore[misc]
        self.sites.update(sites)
        self.now, self.skew = now, skew
        self.volume = f"{volume:032}"

    def restart(self) -> None:
        """Replace the agent: it forgets the manifest, and nothing else."""
        self._manifest = None
        self._told = None

    def fail_next(self, error: PortError | None = None, *, after: bool = False) -> None:
        """Let the next order fail; ``after``: it is carried out, only its answer is lost."""
        self._failures.append((error or _unreachable("the next order"), after))

    def holds(self, path: str) -> bool:
        """Tell whether the namespace has a finished file."""
        if self._list == path or (self.words is not None and status_path(self.words.claim) == path):
            return True
        return any(state.path == path and state.state == "staged" for state in self._inputs.values()) or any(
            state.store_path == path and state.state == "sealed" for state in self._outputs.values()
        )

    @property
    def clock(self) -> int | None:
        """What its clock shows, in seconds of Unix time."""
        return None if self.now is None else int((self.now() + self.skew).timestamp())

    @property
    def gate(self) -> GateState:
        """What is."""
        return self._actual

    # The port.

    def report(self) -> Report:
        """Read its state now."""
        self._answers("report")
        return Report(
            version=self._version,
            clock=self.clock,
            lacks=self.lacks,
            volume=self.volume,
            manifest=self._manifest.digest if self._manifest else None,
            sites=sorted(self._manifest.credentials) if self._manifest else [],
            desired=self._desired,
            actual=self._actual,
            inputs=self._input_totals(),
            seal=self._sealing(),
            outputs=self._output_totals(),
            copies=self._copy_totals(),
            failures=self._failed()[:_SHOWN],
            space=Space(
                bytes=self._capacity, bytes_free=self._free(), inodes=self.inodes, inodes_free=self.inodes_free
            ),
            staging_rate=self.staging_rate,
            unmatched=[state.path for key, state in self._outputs.items() if self._output_of(key, state) is None][
                :_EXAMPLES
            ],
            knows=self.knows,
            xrootd_restarts=self.xrootd_restarts,
            partial_files=len(self._partial),
            partial_bytes=sum(self._partial.values()),
            leases=self._lease_totals(),
            told=self._told,
        )

    def send_manifest(self, manifest: Manifest) -> None:
        """Give it its work; what failed is tried again."""
        self._order("manifest")
        self._manifest = manifest
        # Of what was wanted before it still tells.
        self._entries |= {file.path: file.entries for file in manifest.inputs}
        self._list = self._list if manifest.listing is None else manifest.listing.path
        self._sources = {file.path: file.sources for file in manifest.inputs}
        self._nowhere = {file.path: f"Rucio has it {file.barred}" for file in manifest.inputs if file.barred}
        for file in manifest.inputs:
            known = self._inputs.get(file.path)
            if known is None or known.state == "failed":
                self._inputs[file.path] = InputState(
                    version=self._next(), scope=file.scope, name=file.name, path=file.path, bytes=file.bytes,
                    adler32=file.adler32, md5=file.md5, state="wanted",
                )  # fmt: skip
        self._done("manifest")

    def tell_session(self, words: SessionWords) -> None:
        """Have this said in the session's status file."""
        self._order("session")
        self.words, self._told = words, words.digest
        self._done("session")

    def fence(self, request: FenceRequest) -> GateState:
        """Close the outboxes for good."""
        self._order("fence")
        if request.generation < self._desired.generation:
            message = f"fence {request.generation} is older than fence {self._desired.generation}"
            raise RefusedError(Reason.BUFFER_REFUSED, message)
        self._desired = GateState(mode="fenced", generation=request.generation)
        self._done("fence")
        return self._desired

    def seal(self, request: SealRequest) -> None:
        """Take inventory of the fenced outboxes and seal."""
        self._order("seal")
        if self._actual != GateState(mode="fenced", generation=request.generation):
            message = f"seal {request.generation}: the outboxes are {self._actual.mode} {self._actual.generation}"
            raise RefusedError(Reason.BUFFER_REFUSED, message)
        finished = self._seal is not None and self._seal.state == "done"
        again = any(state.state == "failed" for state in self._outputs.values())
        if not finished or again or request != self._wanted:
            self._seal = SealState(generation=request.generation, state="running")
            self._wanted = request
            self._next()
        self._done("seal")

    def copy(self, copies: Copies) -> None:
        """Order copies of sealed outputs."""
        self._order("copies")
        for order in copies.copies:
            if (order.scope, order.name) not in self._sealed():
                message = f"{order.scope}:{order.name} is no sealed output"
                raise RefusedError(Reason.BUFFER_REFUSED, message)
            for target in order.destinations:
                key = order.scope, order.name, target.rse
                if key not in self._copies or self._copies[key].state == "failed":
                    self._copies[key] = CopyState(
                        version=self._next(), scope=order.scope, name=order.name, rse=target.rse, pfn=target.pfn,
                        state="wanted", attempts=0,
                    )  # fmt: skip
        self._done("copies")

    def inputs(self, after: int = 0) -> InputPage:
        """Read a page of inputs."""
        items, following = self._listing(self._inputs.values(), after)
        return InputPage(items=items, next=following)

    def outputs(self, after: int = 0) -> OutputPage:
        """Read a page of outputs."""
        items, following = self._listing(self._outputs.values(), after)
        return OutputPage(items=items, next=following)

    def copies(self, after: int = 0) -> CopyPage:
        """Read a page of copies."""
        items, following = self._listing(self._copies.values(), after)
        return CopyPage(items=items, next=following)

    # How it works inside.

    def _answers(self, call: str) -> None:
        if self.down:
            raise _unreachable(call)

    def _order(self, call: str) -> None:
        self._answers(call)
        if self._failures and not self._failures[0][1]:
            raise self._failures.pop(0)[0]

    def _done(self, call: str) -> None:
        self.journal.append(call)
        if self._failures:
            raise self._failures.pop(0)[0]

    def _next(self) -> int:
        self._version = next(self._versions)
        return self._version

    def _shut_in(self, path: str) -> str | None:
        """Say why no source of an input lets it go; None: one does."""
        shut = [self._shut(url, writes=False) for url in self._sources[path]]
        nowhere = self._nowhere.get(path) or "Rucio lists no replica that may be read"
        return None if None in shut else "; ".join(filter(None, shut)) or nowhere

    def _shut(self, url: str, *, writes: bool) -> str | None:
        """Say why a site is not asked, or does not give or take a file; None: it does."""
        place, sites = place_of(url), {} if self._manifest is None else self._manifest.credentials
        if place is None or place.host not in sites:
            return f"{url} is not asked: it is none of the sites that the operator has named"
        tokens = sites[place.host]
        token = tokens.write if writes else tokens.read
        if token is not None and tokens.paths is not None and not is_below(place, tokens.paths):
            return f"{url} is not asked: it is in no folder that the token for {place.host} is for"
        is_open = token is not None or (place.host in self.anonymous and not writes)
        return None if is_open else f"{'PUT' if writes else 'GET'} {url} gave 403"

    def _work(self, item: _State, before: str, after: str, place: str, shut: str | None = None) -> _State:
        """Do one piece of work, or fail as the test wants."""
        if item.state != before:
            return item
        error = _said(self.broken.get(place) or shut)
        update: dict[str, object] = {"version": self._next(), "state": "failed" if error else after, "error": error}
        if isinstance(item, CopyState):
            update["attempts"] = item.attempts + 1
        return item.model_copy(update=update)

    def _take_published(self) -> None:
        manifest = self._manifest
        if manifest is None or manifest.record_id is None or self._desired.mode != "open":
            return
        rules = [rule for rule in manifest.outputs if rule.name in manifest.continuous]
        request = SealRequest(generation=1, record_id=manifest.record_id, outputs=rules)
        for key in self._published:
            found = self._outputs[key]
            if found.state in {"found", "failed"} and rule_of(*key, rules) is not None:
                self._outputs[key] = self._sort(key, found, request)

    def _inventory(self, request: SealRequest) -> None:
        work = {key: found for key, found in self._outputs.items() if found.state in {"found", "failed"}}
        if self.sealing_steps:
            self.sealing_steps -= 1
            for key, found in work.items():
                rule = rule_of(*key, request.outputs)
                if rule is not None and found.output is None:
                    self._outputs[key] = found.model_copy(update={"version": self._next(), "output": rule.name})
            return
        if self.unlisted is not None:
            self._seal = SealState(generation=request.generation, state="failed", error=self.unlisted)
            self._next()
            return
        for key, found in work.items():
            self._outputs[key] = self._sort(key, found, request)
        self._seal = SealState(generation=request.generation, state="done")
        self._next()

    def _sealing(self) -> SealState | None:
        if self._seal is None or self._seal.state != "running":
            return self._seal
        return self._seal.model_copy(update={"idle": self.sealing_idle})

    def _sort(self, key: tuple[str, str], found: OutputState, request: SealRequest) -> OutputState:
        rule = rule_of(*key, request.outputs)
        if key in self._torn or rule is None:
            state: Literal["torn", "unmatched"] = "torn" if key in self._torn else "unmatched"
            output = rule.name if rule else None
            return found.model_copy(update={"version": self._next(), "state": state, "output": output})
        error = _said(self.broken.get(key[1]))
        if error is not None:
            update = {"version": self._next(), "state": "failed", "output": rule.name, "error": error}
            return found.model_copy(update=update)
        name, store_path = rule.named(request.record_id, key[1].encode())
        return OutputState(
            version=self._next(), claim=found.claim, path=found.path, state="sealed", bytes=found.bytes,
            output=rule.name, scope=rule.scope, name=name, store_path=store_path,
            adler32=self._sums[key],
        )  # fmt: skip

    def _sealed(self) -> dict[tuple[str, str], tuple[int, str]]:
        return {
            (state.scope, state.name): (state.bytes, state.adler32)
            for state in self._outputs.values()
            if state.state == "sealed" and state.scope and state.name and state.adler32
        }

    def _listing(self, states: Iterable[_State], after: int) -> tuple[list[_State], int | None]:
        self._answers("listing")
        newer = sorted((state for state in states if state.version > after), key=lambda state: state.version)
        page = newer[: self._page]
        return page, page[-1].version if len(newer) > len(page) else None

    def _input_totals(self) -> list[InputTotals]:
        groups: dict[str, list[InputState]] = {}
        for path, entries in self._entries.items():
            for entry in entries:
                groups.setdefault(entry, []).append(self._inputs[path])
        return [
            InputTotals(
                name=name,
                files=len(states),
                bytes=_bytes(states),
                staged=_count(states, "staged"),
                failed=_count(states, "failed"),
                staged_bytes=_bytes(state for state in states if state.state == "staged"),
                idle=self.idle.get(name),
            )
            for name, states in groups.items()
        ]

    def _lease_totals(self) -> list[LeaseTotals] | None:
        if self._manifest is None or "leases" not in self.knows:
            return None
        found = []
        for claim in self._manifest.claims:
            taken = {name: what for (whose, name), what in self._leases.items() if whose == claim}
            faults = {name: fault_of_lease_name(name) or time_of_lease(said)[1] for name, (_, said) in taken.items()}
            ends = [
                int((at + time_of_lease(said)[0]).timestamp())
                for name, (at, said) in taken.items()
                if not fault_of_lease_name(name)
            ]
            held = [end for end in ends if self.clock is not None and end > self.clock]
            odd = [f"{name}: {fault}" for name, fault in faults.items() if fault]
            until, ever = max(held, default=None), claim in self._leased
            found.append(LeaseTotals(claim=claim, held=len(held), until=until, taken=ever, odd=odd[:5]))
        return found

    def _output_totals(self) -> list[OutputTotals]:
        groups: dict[tuple[str, str | None], list[tuple[tuple[str, str], OutputState]]] = {}
        for key, state in self._outputs.items():
            groups.setdefault((state.claim, self._output_of(key, state)), []).append((key, state))
        return [
            OutputTotals(
                claim=claim,
                name=name,
                files=len(states),
                bytes=_bytes(states),
                open=sum(state.state == "found" and key in self._torn for key, state in found),
                sealed=_count(states, "sealed"),
                torn=_count(states, "torn"),
                failed=_count(states, "failed"),
            )
            for (claim, name), found in groups.items()
            for states in ([state for _, state in found],)
        ]

    def _output_of(self, key: tuple[str, str], state: OutputState) -> str | None:
        """Tell which output takes a file, before the inventory by the manifest's rules."""
        if state.state != "found":
            return state.output
        rule = rule_of(*key, self.rules)
        return None if rule is None else rule.name

    def _copy_totals(self) -> CopyTotals:
        copies, sealed = list(self._copies.values()), self._sealed()
        sizes = [(copy.state, sealed[copy.scope, copy.name][0]) for copy in copies]
        return CopyTotals(
            files=len(copies),
            bytes=sum(size for _, size in sizes),
            verified=_count(copies, "verified"),
            failed=_count(copies, "failed"),
            verified_bytes=sum(size for state, size in sizes if state == "verified"),
        )

    def _failed(self) -> list[Failure]:
        places = [(state.path, state.error) for state in self._inputs.values()]
        places += [(state.path, state.error) for state in self._outputs.values()]
        places += [(copy.pfn, copy.error) for copy in self._copies.values()]
        return [Failure(what=what, error=error) for what, error in places if error]

    def _free(self) -> int:
        staged = sum(state.bytes for state in self._inputs.values() if state.state == "staged")
        staged += sum(self._partial.values())
        return max(0, self._capacity - staged - sum(state.bytes for state in self._outputs.values()))


class FakeEndpoints(Endpoints):
    """The doors of buffers.

    Parameters
    ----------
    buffers
        By host name.
    shown
        Filled with the URLs of sites that were asked, and the tokens that they were shown.
    """

    def __init__(self, buffers: Mapping[str, FakeBuffer], shown: list[tuple[str, str]] | None = None) -> None:
        self._buffers = buffers
        self._shown = [] if shown is None else shown
        self.silent: set[str] = set()
        """Sites that do not answer."""
        self.refused: set[str] = set()
        """Tokens that no site takes."""
        self.for_reading: set[str] = set()
        """Tokens that no site takes to write."""

    def size(self, url: str, token: str, trust: str | None) -> int | None:
        """Tell the size of what an agent has copied there."""
        del trust
        self._shown.append((url, token))
        bearer(token)
        found = [buffer.sites[url][0] for buffer in self._buffers.values() if url in buffer.sites]
        return found[0] if found else None

    def is_taken(self, url: str, token: str, trust: str | None) -> bool:
        """Take every token but those that a test has refused."""
        del trust
        self._shown.append((url, token))
        bearer(token)
        host = url.partition("://")[2].partition("/")[0].partition(":")[0]
        if host in self.silent:
            raise UnreachableError(Reason.SITE_UNREACHABLE, f"HEAD {url} got no answer: it is silent")
        return token not in self.refused

    def is_taken_to_write(self, folder: str, token: str, trust: str | None) -> bool:
        """Take every token but those that a test has refused, for all or to write."""
        return self.is_taken(folder, token, trust) and token not in self.for_reading

    def can_read(self, host: str, port: int, path: str, token: str) -> str | None:
        """Read a file or look at a directory."""
        try:
            if self.is_refused(host, port, path, token):
                return f"GET {path} gave 403"
        except UnreachableError as error:
            return error.what
        return None if path.endswith("/") or self._open(host, port).holds(path) else f"GET {path} gave 404"

    def can_read_by_root(self, host: str, port: int, paths: Sequence[str], token: str) -> str | None:
        """Do the same for several."""
        found = (self.can_read(host, port, path, token) for path in paths)
        said = next((why for why in found if why is not None), None)
        words = {"https://": "root://", "GET ": f"open root://{host}:{port}/", "gave 403": "gave 3010", "404": "3011"}
        for davs, root in words.items():
            said = said and said.replace(davs, root)
        return said

    def is_refused(self, host: str, port: int, path: str, token: str) -> bool:
        """Tell whether the token may not read there."""
        bearer(token)
        return not _permits(self._open(host, port), token, "read", path)

    def can_write(self, host: str, port: int, path: str, token: str) -> bool:
        """Tell whether a file can be written there now."""
        bearer(token)
        buffer = self._open(host, port)
        return _permits(buffer, token, "modify", path) or _permits(buffer, token, "create", path)

    def _open(self, host: str, port: int) -> FakeBuffer:
        buffer = self._buffers.get(host)
        door = f"https://{host}:{port}"
        if buffer is not None and port in buffer.shut:
            raise UnreachableError(Reason.BUFFER_UNREACHABLE, f"{door} got no answer: {buffer.shut[port]}")
        if buffer is None or buffer.down or buffer.gate.mode == "down":
            raise _unreachable(door)
        return buffer


def _permits(buffer: FakeBuffer, token: str, right: str, path: str) -> bool:
    """Do as XRootD does: garbage, a stranger's token and one of other rights are all refused in the same way."""
    claims = _claims(token)
    if not _counts(claims, buffer.clock):
        return False
    if buffer.issuers is not None and claims.get("iss") not in buffer.issuers:
        return False
    if buffer.gate.mode == "fenced" and not path.startswith(_NOT_FENCED):
        return False
    scopes = [scope.partition(":") for scope in str(claims.get("scope", "")).split()]
    folders = [folder for what, _, folder in scopes if what == f"storage.{right}"]
    return any(f"{path.rstrip('/')}/".startswith(f"{folder}/") for folder in folders)


def _counts(claims: Mapping[str, object], clock: int | None) -> bool:
    """Do as XRootD's token library does, which forgives not a second in what ``iat`` says."""
    begin, end = claims.get("iat"), claims.get("exp")
    if clock is None or not isinstance(begin, int) or not isinstance(end, int):
        return clock is None
    return begin <= clock < end


def _claims(token: str) -> dict[str, object]:
    """Read a token's claims; of garbage there are none."""
    try:
        body = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    except (IndexError, ValueError):
        return {}
    return claims if isinstance(claims, dict) else {}


def _unreachable(call: str) -> UnreachableError:
    return UnreachableError(Reason.BUFFER_UNREACHABLE, f"The buffer did not answer {call}: it is down")


def _said(error: str | None) -> str | None:
    return None if error is None else visible(error, WORDS)


def _bytes(states: Iterable[InputState | OutputState]) -> int:
    return sum(state.bytes for state in states)


def _count(states: Iterable[InputState | OutputState | CopyState], which: str) -> int:
    return sum(state.state == which for state in states)
