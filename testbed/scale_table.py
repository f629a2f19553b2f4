"""What docs/benchmarks.md says of ``make bench BENCH=scale``."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["section"]

One = Mapping[str, Any]
"""What was measured of one assembly and size."""


@dataclass(frozen=True, slots=True)
class Aim:
    """A bound of one size's number."""

    size: int
    key: str
    most: float
    unit: str = ""

    def judged(self, found: Mapping[int, One]) -> str:
        """Say whether it was reached; nothing where it was not measured."""
        if self.size not in found:
            return ""
        value = found[self.size].get(self.key)
        reached = value is not None and value <= self.most and _is_whole(found[self.size])
        return f"{self.size:,}: {self.most:g}{self.unit}, {'reached' if reached else 'missed'}"


def _is_whole(one: One) -> bool:
    """Tell whether all of its sessions were Ready: numbers of a part of them reach no aim."""
    return bool(one["ready"] == one["size"])


def _after(counted: str, key: str) -> Callable[[One], str]:
    """Give seconds; where some were missing at the end, how many there were."""

    def told(one: One) -> str:
        if one[counted] < one["size"]:
            return f"{one[counted]:,} of {one['size']:,} in {one['limit']:.0f} s"
        return f"{one[key]:.1f} s"

    return told


def _number(key: str, form: str = ".1f", unit: str = "") -> Callable[[One], str]:
    return lambda one: f"{one[key]:{form}}{unit}"


_PODS, _ALL_READY, _P99 = (
    Aim(300, "pods_seconds", 20, " s"),
    Aim(1000, "ready_seconds", 120, " s"),
    Aim(300, "p99", 30, " s"),
)
_RESTARTED, _UNCHANGED = Aim(1000, "restart_seconds", 30, " s"), Aim(1000, "restart_writes", 0)
_ROWS: Sequence[tuple[str, Callable[[One], str], tuple[Aim, ...]]] = (
    ("all VolatileRSEs written", _number("made_seconds", unit=" s"), ()),
    ("the first written to all storage pods created", _after("pods", "pods_seconds"), (_PODS,)),
    ("the first written to all Ready", _after("ready", "ready_seconds"), (_ALL_READY,)),
    ("each written to its being Ready, p50", _number("p50", unit=" s"), ()),
    ("each written to its being Ready, p99", _number("p99", unit=" s"), (_P99,)),
    ("requests for each, until Ready", _number("burst_requests"), ()),
    ("writes among them", _number("burst_writes"), ()),
    ("calls to Rucio for each", _number("burst_calls"), ()),
    ("processor time for each, until Ready", _number("burst_cpu", ".3f", " s"), ()),
    ("of API server and etcd for it", _number("burst_api", ".3f", " s"), ()),
    ("of controllers, scheduler, kube-proxy and kubelet", _number("burst_controllers", ".3f", " s"), ()),
    ("requests of an idle buffer in a minute", _number("idle_requests", ".3f"), (Aim(1000, "idle_requests", 0.1),)),
    ("calls to Rucio of it", _number("idle_calls", ".3f"), ()),
    ("processor time of it", _number("idle_cpu", ".4f", " s"), ()),
    ("writes while nothing happens", _number("idle_writes", ".0f"), (Aim(1000, "idle_writes", 0),)),
    ("memory then", _number("rss_mib", ".0f", " MiB"), (Aim(1000, "rss_mib", 175, " MiB"),)),
    ("a new process, until it has visited all", _after("visited", "restart_seconds"), (_RESTARTED,)),
    ("its writes", _number("restart_writes", ".0f"), (_UNCHANGED,)),
    ("its requests for each", _number("restart_requests"), ()),
    ("all deleted to all closed", _after("closed", "deletion_seconds"), ()),
    ("requests for each of it", _number("deletion_requests"), ()),
)
"""What, how it is told, and what it shall be."""
_SHOWN = 0.001
"""Requests of a buffer that are not told any more."""
_GROWTH = 1.2
"""What a buffer among many may cost more than one among few."""


def section(known: Mapping[str, Any], machine: Sequence[str] = ()) -> Iterator[str]:
    """Write the lines.

    Parameters
    ----------
    known
        What ``testbed.scale.run`` gave.
    machine
        Lines that say what it was measured on.
    """
    sizes = json.loads(known["sizes"])
    names = [(assembly, size) for assembly in ("before", "after") for size in sizes]
    runs = {name: one for name in names if (one := _part(known, f"{name[0]}.{name[1]}."))}
    after = {size: one for (assembly, size), one in runs.items() if assembly == "after"}
    late = f"after {known['delay'] * 1000:.0f} ms" if known["delay"] else "at once"
    yield from (
        "## Many buffers at once",
        "",
        "`make bench BENCH=scale` has so many VolatileRSEs written at once, on a memory-backed class, without inputs.",
        "The API server, its controllers and its scheduler are real, and the operator is a process of this machine.",
        "Nobody runs the storage pods, and Rucio, agents and doors are fakes beside the operator that answer",
        f"{late}: neither TLS nor the budget of a RucioConnection is in these numbers, and a pod starts in no time.",
        "*Before* is the same operator without its cache, in the same run; what had not ended by its limit says so.",
        "Requests are the operator's own, its watches and its Lease aside.",
        "",
        *machine,
        *([""] if machine else []),
    )
    heads = [f"{assembly}, {size:,}" for assembly, size in runs]
    yield f"| what | {' | '.join(heads)} | aim |"
    yield "|---" * (len(heads) + 2) + "|"
    for what, tell, aims in _ROWS:
        cells = [_told(tell, one) for one in runs.values()]
        judged = "; ".join(filter(None, (aim.judged(after) for aim in aims)))
        yield f"| {what} | {' | '.join(cells)} | {judged} |"
    for line in (*_growth(after), *_where(after), *_kinds(after)):
        yield from ("", line)


def _told(tell: Callable[[One], str], one: One) -> str:
    try:
        return tell(one)
    except KeyError:
        # A step before it had not ended.
        return "-"


def _part(known: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return {name.removeprefix(prefix): value for name, value in known.items() if name.startswith(prefix)}


def _kinds(after: Mapping[int, One]) -> Iterator[str]:
    """Say what the requests of the largest size were."""
    one = after.get(max(after, default=0), {})
    words = {
        "burst_by": "until it is Ready",
        "idle_by": "in an idle minute",
        "deletion_by": "from its deletion to Closed",
    }
    for key, when in words.items():
        counts: Mapping[str, float] = json.loads(one.get(key, "{}"))
        if said := [f"{what} {count:.3g}" for what, count in counts.items() if count >= _SHOWN]:
            yield f"Among {one['size']:,} a buffer's requests {when} are: {', '.join(said)}."


def _where(after: Mapping[int, One]) -> list[str]:
    """Say where the time of the greatest burst goes."""
    one = after[max(after)] if after else {}
    if not one or not _is_whole(one) or not one.get("burst_cpu"):
        return []
    parts = (
        ("operator", "burst_cpu"),
        ("API server and etcd", "burst_api"),
        ("other controllers", "burst_controllers"),
    )
    used = {who: one["size"] * one[key] for who, key in parts if one.get(key)}
    said = ", ".join(f"{who} {seconds:.0f} s" for who, seconds in used.items())
    cores = os.cpu_count() or 1
    share = sum(used.values()) / (one["ready_seconds"] * cores)
    of_all = f"{share:.0%} of what {cores} cores have until all are Ready"
    return [f"Where the time of {one['size']:,} goes: {said} of processor time, which is {of_all}."]


def _growth(after: Mapping[int, One]) -> list[str]:
    """Compare what one buffer costs among few and among many."""
    few, many = min(after, default=0), max(after, default=0)
    if few == many or not all(_is_whole(after[size]) for size in (few, many)):
        return []
    grown = {key: after[many][key] / after[few][key] for key in ("burst_requests", "burst_cpu") if after[few][key]}
    said = ", ".join(
        f"{grown[key]:.2f} times as {word}"
        for key, word in (("burst_requests", "many requests"), ("burst_cpu", "much processor time"))
        if key in grown
    )
    reached = "reached" if all(value <= _GROWTH for value in grown.values()) else "missed"
    return [f"Among {many:,} a buffer costs {said} as among {few:,} (aim: {_GROWTH:g}, {reached})."]
