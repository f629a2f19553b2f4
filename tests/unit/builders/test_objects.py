from __future__ import annotations

import json
import random
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import SecretStr

from volatile_rse.adapters.authority import LocalAuthority
from volatile_rse.api.agent import SiteTokens
from volatile_rse.api.names import hash_path
from volatile_rse.api.rserecord import RSERecordSpec
from volatile_rse.api.volatilerse import Output
from volatile_rse.api.volatilerseclass import VolatileRSEClassSpec
from volatile_rse.builders.manifest import SiteAccess, is_in_force, manifest, manifest_digest, with_sources
from volatile_rse.builders.session import (
    LONGEST_RIGHTS,
    listing_data,
    listing_of,
    session_config,
    session_secret,
    store_path,
    token_scope,
)
from volatile_rse.builders.storage import (
    inputs_maps,
    pod,
    public_service,
    read_inputs,
    session_audience,
    session_issuer,
    xrootd_data,
)
from volatile_rse.builders.xrootd import drain_files
from volatile_rse.domain.catalogue import Did, File
from volatile_rse.domain.settings import Settings
from volatile_rse.ports.credentials import TokenClaims

SETTINGS = Settings(name="test", instance="test.1", namespace="ops", buffers="bufs", buffer_image="buffer:1")
FILE = File(Did("user.alice", "f.root"), 10, "0000000a")
CONTINUOUS = {
    "name": "kept", "path": "**", "scope": "user.alice", "dataset": "out", "register": "Continuous",
    "destination": {"rseExpression": "SITE-B"},
}  # fmt: skip
NO_OTHERS: Mapping[str, Mapping[str, Any]] = {}
INPUTS = {"one": (FILE,), "two": (File(Did("cms", "/store/g.root"), 5, "0000000b"), FILE)}


def record(storage: dict[str, Any] | None = None, **public: Any) -> RSERecordSpec:
    request = {
        "className": "standard",
        "account": "alice",
        "capacity": "1Gi",
        "inputs": [{"name": "one", "did": "user.alice:x"}, {"name": "two", "did": "cms:y"}],
    }
    connection = {
        "server": "https://rucio.example.org",
        "account": "ops",
        "userpass": {"secretName": "login"},
        "ledgerScope": "vrse",
    }
    return RSERecordSpec.model_validate(
        {
            "recordId": "abcdefghij",
            "rseName": "VRSE-ABCDEFGHIJ",
            "instance": "test.1",
            "ledger": "vrse:vrse-abcdefghij.ledger",
            "capacity": "1Gi",
            "className": "standard",
            "classSnapshot": VolatileRSEClassSpec.example() | ({"storage": storage} if storage else {}),
            "connectionName": "rucio",
            "connectionSnapshot": connection,
            "claims": [{"uid": "u-1", "namespace": "alice", "name": "dimuon", "account": "alice", "request": request}],
            **public,
        }
    )


def test_of_very_many_sources_the_nearest_are_told() -> None:
    access = SiteAccess({}, None)
    sources = tuple(f"davs://site{number}.example.org/store/f" for number in range(100))
    work = manifest(record(), "0" * 64, INPUTS, {FILE.did: sources}, access)
    assert work.inputs[0].sources == list(sources[:64])


def test_the_storage_pod_passes_restricted_pod_security_and_holds_no_token_of_the_cluster() -> None:
    spec = pod(SETTINGS, record())["spec"]
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    for container in spec["containers"]:
        closed = container["securityContext"]
        assert closed["readOnlyRootFilesystem"] is True
        assert closed["allowPrivilegeEscalation"] is False
        assert closed["capabilities"] == {"drop": ["ALL"]}


def test_the_agent_alone_sees_no_key_of_xrootd_and_xrootd_none_of_the_agent() -> None:
    mounts = {
        container["name"]: {mount["name"] for mount in container["volumeMounts"]}
        for container in pod(SETTINGS, record())["spec"]["containers"]
    }
    assert "agent-tls" not in mounts["xrootd"]
    assert "server-tls" not in mounts["agent"]
    assert "data" in mounts["agent"] & mounts["xrootd"]
    volumes = {volume["name"]: volume for volume in pod(SETTINGS, record())["spec"]["volumes"]}
    for role in ("server", "agent"):
        shown = {item["key"] for item in volumes[f"{role}-tls"]["secret"]["items"]}
        assert shown == {f"{role}.tls.crt", f"{role}.tls.key", "ca.crt"}, "the session's key is mounted nowhere"
    assert "config" not in mounts["agent"]
    files = {item["key"]: item["path"] for item in volumes["config"]["secret"]["items"]}
    assert files == {key: key.removeprefix("xrootd.") for key in xrootd_data(record(), lambda _issuer: {"keys": []})}


@pytest.mark.parametrize(
    "text", [xrootd_data(record(), lambda _issuer: {"keys": []})["xrootd.open.cfg"], drain_files("drain")["drain.cfg"]]
)
def test_xrootd_has_a_thread_for_each_connection_that_may_come_and_looks_up_no_names(text: str) -> None:
    assert {"xrd.sched maxt 4352 avlt 1", "xrd.network nodnr"} <= set(text.splitlines())


def test_memory_is_bounded_by_the_capacity() -> None:
    volumes = pod(SETTINGS, record({"memory": {}}))["spec"]["volumes"]
    assert volumes[0]["emptyDir"] == {"medium": "Memory", "sizeLimit": "1Gi"}


def test_a_drained_service_keeps_its_ports_and_leaves_the_storage() -> None:
    address = {"public": {"host": "h", "rootPort": 30001, "davsPort": 30002}}
    alive = public_service(SETTINGS, record(**address))["spec"]
    drained = public_service(SETTINGS, record(**address), drained=True)["spec"]
    assert [port["nodePort"] for port in drained["ports"]] == [30001, 30002]
    assert alive["ports"] == drained["ports"]
    assert not set(alive["selector"]) & set(drained["selector"])


def test_the_frozen_list_is_read_back_as_it_was_written() -> None:
    (body,) = inputs_maps(SETTINGS, record(), INPUTS)
    assert read_inputs(body, NO_OTHERS.get) == INPUTS


def test_a_token_reads_the_scopes_of_the_inputs_and_owns_its_outbox_alone() -> None:
    rights = token_scope(record().claims[0], ["cms", "user.alice"]).split()
    assert rights == [
        "storage.read:/store/cms",
        "storage.read:/store/user/alice",
        "storage.read:/store/.session/u-1",
        "storage.read:/outbox/u-1",
        "storage.create:/outbox/u-1",
        "storage.modify:/outbox/u-1",
        "storage.read:/lease/u-1",
        "storage.create:/lease/u-1",
        "storage.modify:/lease/u-1",
    ]
    for did in (FILE.did, Did("cms", "x")):
        assert any(store_path(did).startswith(f"{right.split(':')[1]}/") for right in rights)


def test_a_token_names_no_folder_within_another_one() -> None:
    rights = token_scope(record().claims[0], ["group.x.y", "group.x", "group.xy", "user.a.b"]).split()
    reads = [right for right in rights if right.startswith("storage.read:/store")]
    assert reads == [f"storage.read:/store/{folder}" for folder in ("group/x", "group/xy", "user/a/b", ".session/u-1")]


def test_a_token_for_three_hundred_scopes_is_one_that_xrootd_takes() -> None:
    scopes = [f"{'s' * 22}{number:03}" for number in range(300)]
    spec, authority = record(), LocalAuthority(*LocalAuthority.create())
    spec.claims[0].request.outputs.append(Output.model_validate(CONTINUOUS))
    rights = token_scope(spec.claims[0], scopes)
    assert len(rights) < LONGEST_RIGHTS
    end = datetime.now(UTC)
    # The longest one that is ever issued.
    for scope in (rights, "x" * LONGEST_RIGHTS):
        claims = TokenClaims(session_issuer(spec), "u" * 64, session_audience(spec), scope, end)
        token = authority.token(claims)
        assert len(token) < 30_000
    files = xrootd_data(spec, authority.jwks)
    (line,) = [line for line in files["xrootd.open.cfg"].splitlines() if "protocol ztn" in line]
    assert line == "sec.protocol ztn -maxsz 32k"
    assert line in files["xrootd.fenced.cfg"]


def test_a_session_is_told_every_input_once_with_its_url() -> None:
    secret = session_secret(record(), "t")
    assert secret["data"] == {"token": "dA=="}
    assert secret["metadata"]["ownerReferences"][0]["uid"] == "u-1"
    config = session_config(SETTINGS, record(), "u-2", {"ca.crt": "PEM"}, INPUTS)
    lines = [json.loads(line) for line in config["data"]["inputs.jsonl"].splitlines()]
    assert [line["did"] for line in lines] == ["cms:/store/g.root", "user.alice:f.root"]
    expected = f"root://vrse-abcdefghij.bufs.svc:1094//store/{hash_path('user.alice', 'f.root')}"
    assert lines[1]["url"] == expected
    assert config["metadata"]["ownerReferences"][0]["uid"] == "u-2"


def test_a_long_list_of_inputs_is_on_the_buffer_only_where_the_session_may_read_it() -> None:
    files = [File(Did("cms", f"/store/{number:0200}"), 1, "00000001") for number in range(2000)]
    config = session_config(SETTINGS, record(), "u-2", {"ca.crt": "PEM"}, {"one": files})
    assert "inputs.jsonl" not in config["data"]
    listing = listing_of(SETTINGS, record(), ["cms", "user.alice"])
    assert listing is not None
    assert listing.path == "/store/cms/.inputs-abcdefghij.jsonl"
    assert "storage.read:/store/cms " in token_scope(record().claims[0], ["cms"])
    assert listing_of(SETTINGS, record(), []) is None
    url = "root://vrse-abcdefghij.bufs.svc:1094//store/cms/.inputs-abcdefghij.jsonl"
    assert listing_data(listing) == {"VRSE_INPUTS_URL": url}


def test_a_list_of_a_hundred_thousand_names_of_cms_fits_into_objects_of_kubernetes() -> None:
    random_ = random.Random(1)  # noqa: S311 (names)
    files = [
        File(
            Did("cms", f"/store/mc/Run3Summer22NanoAODv12/TTto2L2Nu/NANOAODSIM/v2/{n // 1000}/{_uuid(random_)}.root"),
            random_.randrange(1 << 32),
            f"{random_.randrange(1 << 32):08x}",
        )
        for n in range(100_000)
    ]  # fmt: skip
    bodies = inputs_maps(SETTINGS, record(), {"in": sorted(files)})
    sizes = [sum(len(piece) for piece in body["binaryData"].values()) for body in bodies]
    assert len(bodies) > 2
    assert max(sizes) < 1 << 20, "in text, too"
    others = {body["metadata"]["name"]: body for body in bodies[:-1]}
    assert bodies[-1]["metadata"]["name"] == "vrse-abcdefghij-inputs"
    assert read_inputs(bodies[-1], others.get) == {"in": tuple(sorted(files))}
    name, other = next(iter(others.items()))
    for wrong in ({}, others | {name: other | {"binaryData": bodies[-1]["binaryData"]}}):
        with pytest.raises(LookupError, match="is gone or was changed"):
            read_inputs(bodies[-1], wrong.get)


def _uuid(random_: random.Random) -> str:
    return str(uuid.UUID(int=random_.getrandbits(128)))


def test_a_new_credential_or_the_end_is_new_work_and_a_moved_replica_is_not() -> None:
    access = SiteAccess({"site": SiteTokens(read=SecretStr("token"))}, None)
    other = SiteAccess({"site": SiteTokens(read=SecretStr("other"))}, None)
    digest = manifest_digest((), access, staging=True)
    assert digest != manifest_digest((), other, staging=True)
    assert digest != manifest_digest((), access, staging=False)
    work = manifest(record(), digest, INPUTS, {FILE.did: ("davs://site:8443/store/f",)}, access)
    assert [(file.name, file.entries) for file in work.inputs] == [("f.root", ["one", "two"])]
    assert "token" not in repr(work)
    found = with_sources(digest, {FILE.did: ("davs://other:8443/store/f",)})
    assert found != digest
    assert is_in_force(digest, found)
    assert not is_in_force(digest, manifest_digest((), access, staging=False))
    assert not is_in_force(digest, None)
