"""What the design takes for granted of a buffer: how ROOT and uproot write to it, and what a fence does to them."""

from __future__ import annotations

import base64
import json
import re
import time
import uuid
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from joserfc import jwt
from joserfc.jwk import ECKey

from testbed import buffer, cluster, dimuon, grid, layout, pki, samples, session
from testbed.dimuon import Dimuon
from volatile_rse.adapters.authority import hashed_name
from volatile_rse.adapters.rucio import RucioCatalogue, RucioServer
from volatile_rse.api.agent import CONFIG, DATA, DAVS_PORT, ROOT_PORT, RUN, TLS, UID, GateState
from volatile_rse.api.rucioconnection import RucioConnectionSpec, SecretKeys
from volatile_rse.builders.xrootd import Issuer, ServerSettings, buffer_files, drain_files
from volatile_rse.domain.catalogue import BufferRse, Did, File, LedgerOwner
from volatile_rse.ports.errors import PortError

pytestmark = pytest.mark.cluster

CLAIM = "5f0c2f3e-claim"
OUTBOX = f"/outbox/{CLAIM}"
RIGHTS = " ".join(["storage.read:/store", *(f"storage.{right}:{OUTBOX}" for right in ("read", "create", "modify"))])
ISSUER, AUDIENCE = "https://buffer.sessions.invalid/", "https://buffer.buffers.invalid"
HOME = "/tmp"  # noqa: S108 (a volume of the pod alone)
TOKEN, AUTHORITIES = f"{HOME}/token", f"{HOME}/authorities"
EXAMPLE = layout.CHECKOUT / "examples" / "dimuon"
EVENTS = 2000
SAMPLE = Did(samples.SCOPE, samples.DIMUON.dataset)
STAGED = "/store/user/alice/ab/cd/muons.root"


@dataclass(frozen=True)
class Buffer:
    """A buffer's pod ``buffer`` and a session's pod ``session`` in one namespace."""

    namespace: str
    port: int
    davs_port: int

    @property
    def url(self) -> str:
        return f"root://{layout.NODE}:{self.port}/"

    def on_disk(self, *argv: str, stdin: str | None = None) -> str:
        return self._exec("buffer", *argv, stdin=stdin)

    def root(self, script: str) -> str:
        return self._exec("session", session.ROOT_PYTHON, "-", self.url, OUTBOX, STAGED, stdin=script)

    def uproot(self, script: str) -> str:
        return self._exec("session", session.UPROOT_PYTHON, "-", self.url, OUTBOX, STAGED, stdin=script)

    def in_background(self, script: str) -> None:
        self._exec("session", "sh", "-c", "cat > background.py", stdin=script)
        start = f"{session.UPROOT_PYTHON} background.py {self.url} {OUTBOX} {STAGED} >background.log 2>&1 &"
        self._exec("session", "sh", "-c", start)

    def mode(self, path: str) -> int | None:
        """Give the file's mode; none if there is no such file."""
        told = self.on_disk("sh", "-c", f"stat -c %a {DATA}/ns{path} || echo gone")
        return None if "gone" in told else int(told, 8)

    def listing(self) -> list[str]:
        return self.on_disk("find", f"{DATA}/ns{OUTBOX}", "-type", "f", "-printf", "%P\\n").split()

    def _exec(self, pod: str, *argv: str, stdin: str | None = None) -> str:
        return cluster.kubectl("-n", self.namespace, "exec", "-i", pod, "-c", "main", "--", *argv, stdin=stdin or "")


def service(app: str = "buffer") -> dict[str, Any]:
    ports = [{"name": "root", "port": ROOT_PORT}, {"name": "davs", "port": DAVS_PORT}]
    return made("Service", "buffer", spec={"type": "NodePort", "selector": {"app": app}, "ports": ports})


def storage(key: ECKey) -> list[dict[str, Any]]:
    """Describe the buffer, which takes tokens signed with the key."""
    issuer = Issuer(name="session", url=ISSUER, jwks={"keys": [key.as_dict(private=False)]})
    server = ServerSettings(site="VRSE-TEST", audience=AUDIENCE, issuers=[issuer])
    return [
        made("ConfigMap", "buffer", data=buffer_files(server)),
        made("Secret", "buffer", stringData=certificate()),
        made("Pod", "buffer", spec=server_pod("buffer", "volatile_rse.agent.supervisor")),
    ]


def given_to_session(key: ECKey, port: int) -> list[dict[str, Any]]:
    """Describe what a session finds, as the operator makes it, and a pod that waits for scripts."""
    url, authority = f"root://{layout.NODE}:{port}", pki.CA.read_text()
    data = {
        hashed_name(authority): authority,
        "ca.crt": authority,
        "VRSE_ROOT_URL": url,
        "VRSE_OUTBOX": OUTBOX,
        "inputs.jsonl": json.dumps({"did": "user.alice:muons", "url": f"{url}/{STAGED}"}) + "\n",
    }
    return [
        made("Secret", "dimuon-vrse", stringData={"token": signed(key)}),
        made("ConfigMap", "dimuon-vrse", data=data),
        made("ConfigMap", "dimuon-analysis", data={"analysis.py": (EXAMPLE / "analysis.py").read_text()}),
        made("Pod", "session", spec=session_pod()),
    ]


def made(kind: str, name: str, **content: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "labels": {"app": name}}, **content}


def certificate() -> dict[str, str]:
    pki.server_certificate(layout.NODE)
    parts = {"tls.crt": f"{layout.NODE}.pem", "tls.key": f"{layout.NODE}.key", "ca.crt": pki.CA.name}
    return {name: (layout.PKI / part).read_text() for name, part in parts.items()}


def signed(key: ECKey) -> str:
    now = int(time.time())
    claims = {
        "wlcg.ver": "1.0", "iss": ISSUER, "sub": "alice/dimuon", "aud": AUDIENCE, "scope": RIGHTS, "iat": now,
        "nbf": now - 5, "exp": now + 3600, "jti": str(uuid.uuid4()),
    }  # fmt: skip
    return jwt.encode({"alg": "ES256", "kid": "session", "typ": "JWT"}, claims, key)


def drain() -> list[dict[str, Any]]:
    """Describe the empty server."""
    return [
        made("ConfigMap", "drain", data=drain_files("drain")),
        made("Secret", "drain", stringData=certificate()),
        made("Pod", "drain", spec=server_pod("drain", "volatile_rse.agent.drain")),
    ]


def server_pod(name: str, program: str) -> dict[str, Any]:
    volumes: dict[str, dict[str, Any]] = {
        DATA: {"emptyDir": {"sizeLimit": "1Gi"}},
        RUN: {"emptyDir": {"medium": "Memory", "sizeLimit": "64Mi"}},
        CONFIG: {"configMap": {"name": name}},
        TLS: {"secret": {"secretName": name}},
    }
    probe = {"tcpSocket": {"port": ROOT_PORT}, "periodSeconds": 1}
    return pod(UID, volumes, image=buffer.image(), command=["python3", "-m", program], readinessProbe=probe)


def session_pod() -> dict[str, Any]:
    volumes: dict[str, dict[str, Any]] = {
        "/secret": {"secret": {"secretName": "dimuon-vrse"}},
        "/mounted": {"configMap": {"name": "dimuon-vrse"}},
        HOME: {"emptyDir": {}},
    }
    # Clients refuse a token that others may read and authorities that others may replace, as both are when mounted.
    private = f"install -m 600 /secret/token {TOKEN} && install -D -m 644 -t {AUTHORITIES} /mounted/*.0"
    environment = {"BEARER_TOKEN_FILE": TOKEN, "X509_CERT_DIR": AUTHORITIES}
    return pod(
        10960,
        volumes,
        image=session.image(),
        command=["sh", "-c", f"{private} && exec sleep infinity"],
        env=[{"name": name, "value": value} for name, value in environment.items()],
        readinessProbe={"exec": {"command": ["test", "-d", AUTHORITIES]}, "periodSeconds": 1},
    )


def pod(uid: int, volumes: dict[str, dict[str, Any]], **container: Any) -> dict[str, Any]:
    """Describe a pod of one container under restricted Pod Security."""
    names = {path: f"v{number}" for number, path in enumerate(volumes)}
    mounts = [{"name": name, "mountPath": path} for path, name in names.items()]
    closed = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": True}
    main = {"name": "main", "imagePullPolicy": "Never", "volumeMounts": mounts, "securityContext": closed, **container}
    identity = {"runAsNonRoot": True, "runAsUser": uid, "fsGroup": uid, "seccompProfile": {"type": "RuntimeDefault"}}
    return {
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": 2,
        "securityContext": identity,
        "containers": [main],
        "volumes": [{"name": name, **volumes[path]} for path, name in names.items()],
    }


def apply(namespace: str, objects: list[dict[str, Any]]) -> None:
    bodies = {"apiVersion": "v1", "kind": "List", "items": objects}
    cluster.kubectl("-n", namespace, "apply", "-f", "-", stdin=json.dumps(bodies))


@pytest.fixture(scope="module")
def live() -> Iterator[Buffer]:
    """Run one buffer with a staged file for all tests of this file; the fence comes last."""
    cluster.guard()
    name = f"test-{uuid.uuid4().hex[:8]}"
    cluster.kubectl("create", "namespace", name)
    try:
        cluster.kubectl("label", "namespace", name, "pod-security.kubernetes.io/enforce=restricted")
        yield started(name)
    finally:
        cluster.kubectl("delete", "namespace", name, "--wait=false")


def started(namespace: str) -> Buffer:
    apply(namespace, [service()])
    told = cluster.kubectl("-n", namespace, "get", "service", "buffer", "-o", "jsonpath={.spec.ports[*].nodePort}")
    port, davs_port = map(int, told.split())
    key = ECKey.generate_key("P-256", {"kid": "session", "alg": "ES256", "use": "sig"})
    apply(namespace, [*storage(key), *given_to_session(key, port)])
    cluster.kubectl("-n", namespace, "wait", "--for=condition=Ready", "pod/buffer", "pod/session", "--timeout=120s")
    return Buffer(namespace, port, davs_port)


@pytest.fixture(scope="module")
def staged(live: Buffer, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Put a file into the store, as the agent does."""
    local = tmp_path_factory.mktemp("sample") / "muons.root"
    dimuon.write(local, Dimuon(events=EVENTS), 0)
    content, target = local.read_bytes(), f"{DATA}/ns{STAGED}"
    put = f"mkdir -p $(dirname {target}) && base64 -d > {target} && chmod 0444 {target}"
    live.on_disk("sh", "-c", put, stdin=base64.b64encode(content).decode())
    return content


PREAMBLE = f"import sys, time\nserver, outbox, staged = sys.argv[1:]\nevents = {EVENTS}\n"

DATAFRAME = (
    PREAMBLE
    + """
import ROOT
target = server + outbox + "/plots/good.root"
for cut in (20, 40):
    frame = ROOT.RDataFrame("Events", server + staged).Filter("nMuon > 0").Define("lead", "Max(Muon_pt)")
    kept = frame.Filter(f"lead > {cut}").Snapshot("Kept", target, ["lead"])
    print(kept.Count().GetValue(), kept.Min("lead").GetValue() > cut)
for option in ("RECREATE", "UPDATE"):
    file = ROOT.TFile.Open(server + outbox + "/plots/histogram.root", option)
    histogram = ROOT.TH1F(f"h{option}", "pt", 10, 0., 100.)
    histogram.Write()
    file.Close()
file = ROOT.TFile.Open(server + outbox + "/plots/histogram.root")
print(file.GetListOfKeys().GetSize())
"""
)

UPROOT = (
    PREAMBLE
    + """
import numpy, uproot
assert len(uproot.open(server + staged)["Events"]["Muon_pt"].array()) == events
for size in (100, 50):
    with uproot.recreate(server + outbox + "/plots/array.root") as file:
        file["tree"] = {"x": numpy.arange(size)}
print(len(uproot.open(server + outbox + "/plots/array.root")["tree"]["x"].array()))
"""
)

REACHES = (
    PREAMBLE
    + """
from XRootD import client
from XRootD.client.flags import OpenFlags
for path, flags in ((staged, 0), ("/store/user/alice/new", OpenFlags.NEW), ("/outbox/another/new", OpenFlags.NEW),
                    (outbox + "/new", OpenFlags.NEW)):
    file = client.File()
    status, _ = file.open(server + path, flags)
    print("yes" if status.ok else "no")
    file.close()
"""
)

UPLOAD = (
    PREAMBLE
    + """
from XRootD import client
from XRootD.client.flags import OpenFlags
file = client.File()
status, _ = file.open(server + outbox + "/torn", OpenFlags.NEW)
assert status.ok, status
offset = 0
while status.ok:
    status, _ = file.write(b"x" * 65536, offset)
    offset += 65536
    time.sleep(0.05)
print("upload ended:", status.message)
"""
)


def eventually(condition: Callable[[], bool], seconds: float = 20) -> bool:
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(0.2)
    return True


@pytest.mark.usefixtures("staged")
def test_a_data_frame_reads_the_store_and_writes_one_name_twice(live: Buffer) -> None:
    told = live.root(DATAFRAME).split()
    assert told[1::2] == ["True", "True"]
    assert int(told[0]) > int(told[2]) > 0
    assert told[4] == "2"
    assert {"plots/good.root", "plots/histogram.root"} <= set(live.listing())


@pytest.mark.usefixtures("staged")
def test_uproot_recreates_one_name_twice(live: Buffer) -> None:
    assert live.uproot(UPROOT).split() == ["50"]
    assert live.mode(f"{OUTBOX}/plots/array.root") == 0o600


def test_a_session_reaches_its_own_and_no_more(live: Buffer, staged: bytes) -> None:
    assert live.uproot(REACHES).split() == ["yes", "no", "no", "yes"]
    kept = live.on_disk("base64", f"{DATA}/ns{STAGED}")
    assert zlib.adler32(base64.b64decode(kept)) == zlib.adler32(staged)


@pytest.mark.usefixtures("staged")
def test_the_example_analyses_the_staged_file(live: Buffer) -> None:
    session.image()
    job = yaml.safe_load((EXAMPLE.parent / "by-hand" / "job.yaml").read_text())
    apply(live.namespace, [job])
    cluster.kubectl("-n", live.namespace, "wait", "--for=condition=Complete", "job/dimuon", "--timeout=60s")
    told = cluster.kubectl("-n", live.namespace, "logs", "job/dimuon")
    peak = re.search(r"peak at ([\d.]+) GeV", told)
    assert peak is not None, told
    assert abs(float(peak[1]) - 91.2) < 2
    written = {f"histograms/{name}" for name in ("dimuon_mass.root", "dimuon_mass.png", "z_pairs.root")}
    assert written <= set(live.listing())
    picture = live.on_disk("sh", "-c", f"base64 {DATA}/ns{OUTBOX}/histograms/dimuon_mass.png")
    assert base64.b64decode(picture).startswith(b"\x89PNG")


@pytest.mark.usefixtures("staged")
def test_a_fence_ends_an_upload_in_flight_and_keeps_what_was_closed(live: Buffer) -> None:
    closed = "plots/closed.root"
    live.uproot(PREAMBLE + f"import uproot\nuproot.recreate(server + outbox + '/{closed}')['x'] = 'kept'")
    before = live.on_disk("sha256sum", f"{DATA}/ns{OUTBOX}/{closed}")
    live.in_background(UPLOAD)
    assert eventually(lambda: (live.mode(f"{OUTBOX}/torn") or 0) & 0o1000 != 0)
    fence = "from volatile_rse.agent.gate import Gate; from volatile_rse.agent.places import Places"
    began = time.monotonic()
    live.on_disk("python3", "-c", f"{fence}; Gate(Places.of()).fence(1)")

    def actual() -> GateState:
        return GateState.model_validate_json(live.on_disk("cat", f"{DATA}/control/gate.actual.json"))

    assert eventually(lambda: actual() == GateState(mode="fenced", generation=1), 10)
    assert time.monotonic() - began < 10
    assert live.uproot(REACHES).split() == ["yes", "no", "no", "no"]
    torn = live.mode(f"{OUTBOX}/torn")
    assert torn is None or torn & 0o1000
    assert live.on_disk("sha256sum", f"{DATA}/ns{OUTBOX}/{closed}") == before
    assert (
        cluster.kubectl(
            "-n", live.namespace, "get", "pod", "buffer", "-o", "jsonpath={.status.containerStatuses[0].restartCount}"
        )
        == "0"
    )


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> RucioCatalogue:
    facts = grid.grid()
    login = SecretKeys(secret_name="unused")
    connection = RucioConnectionSpec(
        server=facts.outside, account=grid.OPERATOR, userpass=login, ledger_scope=grid.LEDGER_SCOPE
    )
    authorities = Path(facts.bundle).read_text()
    password = facts.passwords[grid.OPERATOR]
    private = tmp_path_factory.mktemp("rucio")
    return RucioCatalogue(RucioServer(connection, (grid.OPERATOR, password), authorities, private))


@pytest.fixture(scope="module")
def registered(live: Buffer, catalogue: RucioCatalogue) -> tuple[BufferRse, Did, tuple[File, ...]]:
    """Register the files of a real dataset on the buffer."""
    record = f"spike{uuid.uuid4().hex[:5]}"
    instance = {"vrse_instance": "spike", "vrse_record": record}
    rse = BufferRse(f"VRSE-{record.upper()}", layout.NODE, live.port, live.davs_port, instance)
    ledger = Did(grid.LEDGER_SCOPE, f"vrse-{record}")
    files = catalogue.resolve(SAMPLE)
    catalogue.ensure_ledger(ledger, LedgerOwner("spike", record))
    catalogue.ensure_rse(rse)
    catalogue.register(rse.name, ledger, files)
    return rse, ledger, files


@pytest.mark.grid
def test_files_are_registered_where_others_can_neither_write_nor_delete(
    registered: tuple[BufferRse, Did, tuple[File, ...]], catalogue: RucioCatalogue
) -> None:
    rse, ledger, files = registered
    state = catalogue.rse(rse)
    assert state is not None
    assert (state.complete, state.deletable) == (True, False)
    assert catalogue.replicas(rse.name, ledger) == dict.fromkeys((file.did for file in files), "A")
    # Even for an admin.
    with pytest.raises(PortError, match=r"(?i)write"):
        catalogue.ensure_rule(SAMPLE, grid.ALICE, [rse.name], None)


@pytest.mark.grid
@pytest.mark.slow
def test_the_reaper_drains_through_the_empty_server(
    live: Buffer, registered: tuple[BufferRse, Did, tuple[File, ...]], catalogue: RucioCatalogue
) -> None:
    rse, ledger, files = registered
    assert catalogue.standing(rse.name, ledger).last == ()
    assert catalogue.foreign_rules(rse.name, ledger) == ()
    catalogue.hide(rse.name, [file.did for file in files])
    assert set(catalogue.replicas(rse.name, ledger).values()) == {"B"}
    apply(live.namespace, [*drain(), service("drain")])
    cluster.kubectl("-n", live.namespace, "delete", "pod", "buffer", "--wait=false")
    cluster.kubectl("-n", live.namespace, "wait", "--for=condition=Ready", "pod/drain", "--timeout=60s")
    catalogue.allow_deletion(rse.name)
    assert eventually(lambda: not catalogue.replicas(rse.name, ledger), 90)

    def is_empty() -> bool:
        try:
            catalogue.delete_rse(rse.name)
        except PortError:
            return False
        return True

    # Rucio's counter of used bytes follows a little later.
    assert eventually(is_empty, 60)
    assert catalogue.rse(rse) is None
    catalogue.expire_ledger(ledger)
    assert eventually(lambda: not catalogue.ledger_exists(ledger), 60)
    assert catalogue.resolve(SAMPLE) == files
