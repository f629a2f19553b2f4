"""What the design takes for granted of a buffer: how ROOT and uproot write to it, and what a fence does to them."""

from __future__ import annotations

import base64
import json
import subprocess
import time
import uuid
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import awkward
import numpy as np
import pytest
import uproot
from joserfc import jwt
from joserfc.jwk import ECKey

from testbed import buffer, cluster, layout, pki, session
from volatile_rse.api.agent import CONFIG, DATA, DAVS_PORT, ROOT_PORT, RUN, TLS, UID, GateState
from volatile_rse.builders.xrootd import Issuer, ServerSettings, buffer_files

pytestmark = pytest.mark.cluster

CLAIM = "5f0c2f3e-claim"
OUTBOX = f"/outbox/{CLAIM}"
RIGHTS = " ".join(["storage.read:/store", *(f"storage.{right}:{OUTBOX}" for right in ("read", "create", "modify"))])
ISSUER, AUDIENCE = "https://buffer.sessions.invalid/", "https://buffer.buffers.invalid"
HOME = "/tmp"  # noqa: S108 (a volume of the pod alone)
TOKEN, AUTHORITIES = f"{HOME}/token", f"{HOME}/authorities"
STAGED = "/store/user/alice/ab/cd/muons.root"


@dataclass(frozen=True)
class Buffer:
    """A buffer's pod ``buffer`` and a session's pod ``session`` in one namespace."""

    namespace: str
    port: int

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


def muons(path: Path) -> None:
    """Write a small tree with jagged muons."""
    random = np.random.default_rng(7)
    counts = random.integers(0, 4, 500)
    flat = {name: random.uniform(low, high, counts.sum()) for name, low, high in (("pt", 5, 80), ("eta", -2, 2))}
    jagged = {name: awkward.unflatten(values, counts) for name, values in flat.items()}
    with uproot.recreate(path) as file:
        # A plain assignment would write an RNTuple.
        file.mktree("Events", {"Muon": awkward.zip(jagged).type.content}).extend({"Muon": awkward.zip(jagged)})


def documents(namespace: str) -> list[dict[str, Any]]:
    """Give every object of the buffer and of the session."""
    key = ECKey.generate_key("P-256", {"kid": "session", "alg": "ES256", "use": "sig"})
    issuer = Issuer(name="session", url=ISSUER, jwks={"keys": [key.as_dict(private=False)]})
    server = ServerSettings(site="VRSE-TEST", audience=AUDIENCE, issuers=[issuer])
    pki.server_certificate(layout.NODE)
    authority = pki.CA.read_text()
    tls = {
        "tls.crt": (layout.PKI / f"{layout.NODE}.pem").read_text(),
        "tls.key": (layout.PKI / f"{layout.NODE}.key").read_text(),
        "ca.crt": authority,
    }
    ports = [{"name": "root", "port": ROOT_PORT}, {"name": "davs", "port": DAVS_PORT}]

    def made(kind: str, name: str, **content: Any) -> dict[str, Any]:
        metadata = {"name": name, "namespace": namespace, "labels": {"app": name}}
        return {"apiVersion": "v1", "kind": kind, "metadata": metadata, **content}

    return [
        made("ConfigMap", "buffer", data=buffer_files(server)),
        made("Secret", "buffer", stringData=tls),
        made("Service", "buffer", spec={"type": "NodePort", "selector": {"app": "buffer"}, "ports": ports}),
        made("Pod", "buffer", spec=buffer_pod()),
        made("Secret", "session", stringData={"token": signed(key)}),
        made("ConfigMap", "session", data={f"{subject_hash(authority)}.0": authority}),
        made("Pod", "session", spec=session_pod()),
    ]


def signed(key: ECKey) -> str:
    now = int(time.time())
    claims = {
        "wlcg.ver": "1.0", "iss": ISSUER, "sub": "alice/dimuon", "aud": AUDIENCE, "scope": RIGHTS, "iat": now,
        "nbf": now - 5, "exp": now + 3600, "jti": str(uuid.uuid4()),
    }  # fmt: skip
    return jwt.encode({"alg": "ES256", "kid": "session", "typ": "JWT"}, claims, key)


def subject_hash(certificate: str) -> str:
    """Name the authority as OpenSSL looks it up in a directory."""
    argv = ["docker", "exec", "-i", layout.NODE, "openssl", "x509", "-noout", "-subject_hash"]
    return subprocess.run(argv, input=certificate, capture_output=True, text=True, check=True).stdout.strip()


def buffer_pod() -> dict[str, Any]:
    volumes = {
        DATA: {"emptyDir": {"sizeLimit": "1Gi"}},
        RUN: {"emptyDir": {"medium": "Memory", "sizeLimit": "64Mi"}},
        CONFIG: {"configMap": {"name": "buffer"}},
        TLS: {"secret": {"secretName": "buffer"}},
    }
    command = ["python3", "-m", "volatile_rse.agent.supervisor"]
    probe = {"tcpSocket": {"port": ROOT_PORT}, "periodSeconds": 1}
    return pod(UID, volumes, image=buffer.image(), command=command, readinessProbe=probe)


def session_pod() -> dict[str, Any]:
    volumes = {
        "/secret": {"secret": {"secretName": "session"}},
        "/mounted": {"configMap": {"name": "session"}},
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


@pytest.fixture(scope="module")
def live() -> Iterator[Buffer]:
    """Run one buffer with a staged file for all tests of this file; the fence comes last."""
    cluster.guard()
    name = f"test-{uuid.uuid4().hex[:8]}"
    cluster.kubectl("create", "namespace", name)
    cluster.kubectl("label", "namespace", name, "pod-security.kubernetes.io/enforce=restricted")
    objects = {"apiVersion": "v1", "kind": "List", "items": documents(name)}
    cluster.kubectl("apply", "-f", "-", stdin=json.dumps(objects))
    cluster.kubectl("-n", name, "wait", "--for=condition=Ready", "pod/buffer", "pod/session", "--timeout=120s")
    port = cluster.kubectl("-n", name, "get", "service", "buffer", "-o", "jsonpath={.spec.ports[0].nodePort}")
    yield Buffer(name, int(port))
    cluster.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture(scope="module")
def staged(live: Buffer, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Put a file into the store, as the agent does."""
    local = tmp_path_factory.mktemp("sample") / "muons.root"
    muons(local)
    content, target = local.read_bytes(), f"{DATA}/ns{STAGED}"
    put = f"mkdir -p $(dirname {target}) && base64 -d > {target} && chmod 0444 {target}"
    live.on_disk("sh", "-c", put, stdin=base64.b64encode(content).decode())
    return content


PREAMBLE = "import sys, time\nserver, outbox, staged = sys.argv[1:]\n"

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
assert len(uproot.open(server + staged)["Events"]["Muon_pt"].array()) == 500
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
