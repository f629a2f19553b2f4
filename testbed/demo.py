"""The main job, shown: a dataset staged, a real analysis, its outputs safe at SITE-B, and nothing left behind."""

from __future__ import annotations

import json
import sys
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import yaml

from testbed import asking, cluster, grid, installation, session
from testbed.layout import CHECKOUT, LOGS, SITES, STATE
from testbed.progress import StepError, step
from testbed.sessions import Session, wait_for

__all__ = ["forget", "run"]

NAMESPACE, NAME = "alice", "dimuon"
_SITE = "SITE-B"
_EXAMPLE = CHECKOUT / "examples" / "dimuon"
_APPLY = ("apply", "-n", NAMESPACE, "-k", "examples/dimuon")
"""As a reader does it, in the root of the clone."""
_PATIENCE = 600
"""Seconds from the request to the last trace gone."""
_PNG = b"\x89PNG\r\n\x1a\n"
_TIMES = {
    "Ready": ("session", "readyAt"),
    "session started": ("session", "startedAt"),
    "session ended": ("session", "endedAt"),
    "outputs safe": ("safeAt",),
    "storage freed": ("freedAt",),
    "RSE gone": ("closedAt",),
}


def run() -> None:
    """Do it, watch it, and show what Rucio, SITE-B and the cluster say of it.

    Raises
    ------
    StepError
        Something is not as it must be; the message names it, and the logs that were saved.
    """
    installation.up()
    with step("Session image"):
        session.image()
    request = yaml.safe_load((_EXAMPLE / "volatilerse.yaml").read_text())
    analysis = Session(NAMESPACE, NAME, request["spec"]["className"])
    _namespace()
    _clear(analysis)
    forget(request["spec"])
    _show(f"\nkubectl {' '.join(_APPLY)}\n")
    cluster.kubectl(*_APPLY[:-1], str(CHECKOUT / _APPLY[-1]))
    try:
        applied = _moment(wait_for("the VolatileRSE", analysis.body)["metadata"]["creationTimestamp"])
        _watch(analysis)
        record = analysis.record()
        analysis.delete()
        wait_for("the VolatileRSE to go", lambda: analysis.body() is None)
        _report(request["spec"], record, applied)
    except (Exception, KeyboardInterrupt) as error:
        # Of any kind: also Rucio's client and a site may fail, and the logs are wanted then, too.
        _save_logs()
        what = str(error) if isinstance(error, StepError) else f"{type(error).__name__} {error}".rstrip()
        message = f"the demo did not succeed: {what} (operator's and pods' logs: {LOGS}/demo-*.log)"
        raise StepError(message) from error


def _namespace() -> None:
    installation.apply([{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}])
    cluster.kubectl("label", "namespace", NAMESPACE, "pod-security.kubernetes.io/enforce=restricted", "--overwrite")
    installation.enable(NAMESPACE, injected=True)


def _clear(analysis: Session) -> None:
    """Remove what an earlier demo left running."""
    cluster.kubectl("-n", NAMESPACE, "delete", "job", NAME, "--ignore-not-found", "--cascade=foreground")
    if analysis.body() is not None:
        with step("End of the demo before"):
            analysis.delete()
            wait_for("the earlier VolatileRSE to go", lambda: analysis.body() is None, _PATIENCE)
    # A closed record only tells of an earlier run: this one's is then the only one of its name.
    for body in _records():
        if (body.get("status") or {}).get("closedAt"):
            cluster.kubectl("delete", "rserecords", body["metadata"]["name"])
        else:
            with step("End of the demo before"):
                wait_for("the earlier buffer to close", lambda: analysis.phase() == "Closed", _PATIENCE)
            cluster.kubectl("delete", "rserecords", body["metadata"]["name"])


def forget(spec: Mapping[str, Any]) -> None:
    """Empty the datasets of the outputs: they keep one version of each path, and that of a session before is another.

    Parameters
    ----------
    spec
        Of the VolatileRSE.
    """
    client = grid.client(spec["account"])
    for output in spec["outputs"]:
        scope, name = output["scope"], output["dataset"]
        if name not in client.list_dids(scope, [{"name": name}], did_type="dataset"):
            continue
        held = [{"scope": entry["scope"], "name": entry["name"]} for entry in client.list_content(scope, name)]
        if held:
            client.detach_dids(scope, name, held)


def _records() -> Iterator[dict[str, Any]]:
    for body in json.loads(cluster.kubectl("get", "rserecords", "-o", "json"))["items"]:
        claim = body["spec"]["claims"][0]
        if (claim["namespace"], claim["name"]) == (NAMESPACE, NAME):
            yield body


def _watch(analysis: Session) -> None:
    """Print a line whenever something changes, until the record is closed."""
    began = time.monotonic()
    before: dict[str, str] = {}
    while time.monotonic() - began < _PATIENCE:
        status, truth = analysis.status(), (analysis.record().get("status") or {})
        seen = _seen(status, truth, _pods())
        if changed := [text for what, text in seen.items() if text and before.get(what) != text]:
            _show(f"{time.monotonic() - began:6.1f} s  {'; '.join(changed)}")
        before = seen
        if status.get("phase") == "Stalled":
            raise StepError(str(analysis.condition("Stalled").get("message")))
        if truth.get("closedAt"):
            _show("\n" + analysis.log())
            return
        time.sleep(0.5)
    message = f"the buffer is not closed after {_PATIENCE} s: {'; '.join(filter(None, before.values()))}"
    raise StepError(message)


def _pods() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(
        cluster.kubectl("-n", NAMESPACE, "get", "pods", "-l", f"job-name={NAME}", "-o", "json")
    )["items"]
    return found


def _seen(status: Mapping[str, Any], truth: Mapping[str, Any], pods: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Give what is shown of the objects as they are, each by a name under which its changes are noticed."""
    seen = {"phase": status.get("phase") or "Pending", "record": f"record {truth.get('phase') or 'awaited'}"}
    for entry in status.get("inputs") or ():
        seen[f"input {entry['name']}"] = f"input {entry['name']} {entry['staged']}/{entry['files']}"
    for entry in status.get("outputs") or ():
        counts = f"sealed {entry['sealed']}, registered {entry['registered']}, safe {entry['safe']}"
        seen[f"output {entry['name']}"] = f"output {entry['name']} {counts}"
    for entry in status.get("conditions") or ():
        seen[f"condition {entry['type']}"] = f"{entry['type']} {entry['status']}"
    for pod in pods:
        seen[f"pod {pod['metadata']['name']}"] = f"pod of the Job {pod['status'].get('phase', 'Pending')}"
    return {**seen, "message": truth.get("message") or ""}


def _report(spec: Mapping[str, Any], record: Mapping[str, Any], applied: datetime) -> None:
    """Show the end, and check each line of it."""
    wrong: list[str] = []
    for output in spec["outputs"]:
        wrong += _outputs(output, record)
    _show("\nTimes")
    for title, keys in _TIMES.items():
        text: Any = record["status"]
        for key in keys:
            text = text.get(key) or {}
        if not text:
            wrong.append(f"the record does not say when: {title}")
            continue
        _show(f"  {title:<16} {text}   {(_moment(text) - applied).total_seconds():5.0f} s after apply")
    _show(f"\nWhat remains of {record['spec']['rseName']}, asked from Rucio and the cluster")
    left = _left(record, spec)
    wrong += [f"it is still there: {what}" for what in left]
    _show("".join(f"  {what}\n" for what in left) or "  no RSE, replica, rule, Secret, volume or pod: only its record")
    if wrong:
        raise StepError("; ".join(wrong))


def _left(record: Mapping[str, Any], spec: Mapping[str, Any]) -> list[str]:
    datasets = [entry["did"] for entry in spec.get("inputs") or ()]
    datasets += [f"{entry['scope']}:{entry['dataset']}" for entry in spec["outputs"]]
    left = asking.on_rse(record["spec"]["rseName"], datasets)
    try:
        # Kubernetes takes a volume away a moment after its claim.
        wait_for("every trace to go", lambda: not asking.remains(record), 60)
    except StepError:
        left += asking.remains(record)
    return left


def _outputs(output: Mapping[str, Any], record: Mapping[str, Any]) -> list[str]:
    scope, dataset = output["scope"], output["dataset"]
    files = asking.kept(scope, dataset, _SITE, record["spec"]["recordId"])
    _show(f"\nDataset {scope}:{dataset}, asked from Rucio and from {_SITE} ({SITES[_SITE]})")
    wrong = [] if files else [f"{scope}:{dataset} has no file of this session"]
    for file in files:
        state = file.states.get(_SITE, "absent")
        _show(f"  {file.name}\n    {file.bytes} bytes, adler32 {file.adler32} in Rucio, {state} on {_SITE}")
        _show(f"    {file.site_bytes} bytes, adler32 {file.site_adler32} at {file.pfn}")
        if state != "AVAILABLE" or (file.bytes, file.adler32) != (file.site_bytes, file.site_adler32):
            wrong.append(f"{file.name} is not safe on {_SITE}")
    held = asking.rules(scope, dataset)
    for rule in held:
        locks = f"{rule['locks_ok_cnt']} locks OK, {rule['locks_stuck_cnt']} stuck"
        _show(f"  held by rule {rule['id']} of {rule['account']} on {rule['rse_expression']}: {rule['state']}, {locks}")
    if not any(rule["state"] == "OK" and rule["rse_expression"] == _SITE for rule in held):
        wrong.append(f"no rule that is OK holds {scope}:{dataset} on {_SITE}")
    return wrong + _picture(files)


def _picture(files: list[asking.Kept]) -> list[str]:
    pictures = [file for file in files if file.name.endswith(".png")]
    if not pictures:
        return ["there is no picture among the outputs"]
    path = asking.download(pictures[0], STATE / "demo")
    content = path.read_bytes()
    if not content.startswith(_PNG):
        return [f"{path} is no PNG"]
    if f"{zlib.adler32(content):08x}" != pictures[0].adler32:
        return [f"{path} is not the file that Rucio knows as {pictures[0].name}"]
    _show(f"  picture: {path}")
    return []


def _save_logs() -> None:
    wanted = {
        "operator": ("-n", installation.NAMESPACE, "logs", "deployment/volatile-rse", "--tail=2000"),
        "storage": (
            "-n",
            installation.BUFFERS,
            "logs",
            "-l",
            "volatilerse.io/record",
            "--all-containers",
            "--tail=500",
        ),
        "job": ("-n", NAMESPACE, "logs", f"job/{NAME}", "--tail=500"),
        "request": ("-n", NAMESPACE, "get", "volatilerses", NAME, "-o", "yaml"),
        "records": ("get", "rserecords", "-o", "yaml"),
    }
    for name, argv in wanted.items():
        try:
            text = cluster.kubectl(*argv)
        except StepError as error:
            text = str(error)
        (LOGS / f"demo-{name}.log").write_text(text)


def _moment(text: str) -> datetime:
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)


def _show(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
