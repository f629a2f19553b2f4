"""The commands of ``vrse``."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal, TextIO

import click
from click.shell_completion import CompletionItem, ShellComplete, get_completion_class
from rich.console import Console
from rich.live import Live

from volatile_rse.api.conditions import Actor, ConditionType
from volatile_rse.api.schema import parse_duration
from volatile_rse.api.text import visible
from volatile_rse.cli import asked, explaining, program
from volatile_rse.cli.admin import admin
from volatile_rse.cli.changing import add, extend, is_ended
from volatile_rse.cli.doctor import doctor
from volatile_rse.cli.errors import CommandError, Exit
from volatile_rse.cli.fetching import fetch
from volatile_rse.cli.judging import Judgement, judge
from volatile_rse.cli.leases import lease
from volatile_rse.cli.pages import condition_of, line_of, page_of, plain, table_of
from volatile_rse.cli.program import (
    DURATION,
    NAME,
    QUANTITY,
    VRSE_NAME,
    on_cluster,
    print_object,
    say,
    shown,
    the_form,
    the_name,
    write,
)
from volatile_rse.cli.server import Object, Server
from volatile_rse.cli.terminal import rendered
from volatile_rse.cli.trying import tried
from volatile_rse.cli.waiting import Goal, is_over, verdict

__all__ = ["offered", "run", "vrse"]

_COMPLETE = "_VRSE_COMPLETE"


def run(arguments: Sequence[str], name: str) -> int:
    """Carry out a command line; give the exit code."""
    try:
        return int(
            vrse.main(args=list(arguments), prog_name=name, complete_var=_COMPLETE, standalone_mode=False) or Exit.DONE
        )
    except CommandError as error:
        error.show()
        return error.code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort:
        sys.stderr.write("Interrupted.\n")
        return Exit.INTERRUPTED


def offered(words: Sequence[str]) -> list[CompletionItem]:
    """Give what may come in place of the last of these words, of which the begin is there."""
    *before, begin = words or ("",)
    return ShellComplete(vrse, {}, "vrse", _COMPLETE).get_completions(before, begin)


def _complete_reason(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(name) for name in explaining.names() if name.casefold().startswith(incomplete.casefold())]


def _version() -> str:
    try:
        return version("volatile-rse")
    except PackageNotFoundError:
        return "unknown"


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(_version(), prog_name="vrse")
def vrse() -> None:
    """Storage for analysis sessions: ask for it, watch it, wait for it, end it.

    Cluster, user and namespace are those of kubectl.
    """


@vrse.command()
@the_name
@click.option("-w", "--watch", is_flag=True, help="Go on as long as something changes.")
@the_form
@on_cluster
def status(server: Server, name: str, *, watch: bool, form: str | None) -> None:
    """Show how far a VolatileRSE is, what is wrong, and who must act."""
    if watch:
        _follow(server, name, form)
        return
    body = server.get(name)
    if form is not None:
        print_object(body, form)
    elif sys.stdout.isatty():
        Console(emoji=False).print(rendered(page_of(body, program.now())))
    else:
        sys.stdout.write(plain(page_of(body, program.now())))


def _follow(server: Server, name: str, form: str | None) -> None:
    if form is None and sys.stdout.isatty():
        _follow_live(server, name)
        return
    last = ""
    for body in server.watch(name):
        if body is None:
            say(sys.stderr, f"VolatileRSE {server.namespace}/{name} is gone.")
            return
        if form is not None:
            print_object(body, form, many=True)
        elif (line := line_of(body)) != last:
            last = line
            say(sys.stdout, f"{program.now():%H:%M:%S} {line}")
        if is_over(body):
            return


def _follow_live(server: Server, name: str) -> None:
    """Show a page that changes: at each event, and each second since time goes on."""
    shown: list[Object] = []
    with Live(
        get_renderable=lambda: rendered(page_of(shown[0], program.now())) if shown else "",
        console=Console(emoji=False),
        refresh_per_second=1,
    ) as live:
        for body in server.watch(name):
            if body is None:
                break
            shown[:] = [body]
            live.refresh()
            if is_over(body):
                return
    say(sys.stderr, f"VolatileRSE {server.namespace}/{name} is gone.")


@vrse.command("list")
@click.option("-A", "--all-namespaces", "everywhere", is_flag=True, help="Of all namespaces.")
@the_form
@on_cluster
def list_(server: Server, *, everywhere: bool, form: str | None) -> None:
    """List the VolatileRSEs of a namespace."""
    bodies = server.list(everywhere=everywhere)
    if form is not None:
        items = [shown(body) for body in bodies]
        write({"apiVersion": "v1", "kind": "List", "items": items}, form)
    elif bodies:
        sys.stdout.write(table_of(bodies, program.now(), everywhere=everywhere))
    else:
        where = "any namespace" if everywhere else f"namespace {server.namespace}"
        say(sys.stderr, f"There are no VolatileRSEs in {where}.")


@vrse.command()
@the_name
@click.option("--for", "goal", type=click.Choice(["usable", "safe"]), required=True, help="What to wait for.")
@click.option("--timeout", type=DURATION, help="How long at most, such as 10m; default: for ever.")
@on_cluster
def wait(server: Server, name: str, goal: Goal, timeout: str | None) -> int:
    """Wait until a session can begin (usable), or its outputs are safe."""
    until = None if timeout is None else time.monotonic() + parse_duration(timeout).total_seconds()
    with _progress() as show:
        last = _await(server, name, goal, until, show)
    if not last:
        say(sys.stdout, f"{name} is {goal}.")
        return Exit.DONE
    what = f"VolatileRSE {server.namespace}/{name} was not {goal} within {timeout}: {last}."
    raise CommandError(what, Actor.USER, f"see `vrse status {name}`, or wait longer.", Exit.LATE)


def _is_terminal(stream: TextIO) -> bool:
    return stream.isatty()


@contextmanager
def _progress() -> Iterator[Callable[[Object], None]]:
    """Show how far a VolatileRSE is: a page with bars in a terminal, else a line for each change."""
    if not _is_terminal(sys.stderr):
        said: list[str] = []

        def tell(body: Object) -> None:
            if (line := line_of(body)) not in said[-1:]:
                said.append(line)
                say(sys.stderr, f"{program.now():%H:%M:%S} {line}")

        yield tell
        return
    shown: list[Object] = []
    with Live(
        get_renderable=lambda: rendered(page_of(shown[0], program.now())) if shown else "",
        console=Console(emoji=False, stderr=True),
        refresh_per_second=1,
    ) as live:

        def draw(body: Object) -> None:
            shown[:] = [body]
            live.refresh()

        yield draw


def _await(server: Server, name: str, goal: Goal, until: float | None, show: Callable[[Object], None]) -> str:
    """Wait until it has come; give how far it is if it has not come in time, else nothing."""
    last = ""
    for body in server.watch(name, until):
        if body is None:
            what = f"VolatileRSE {server.namespace}/{name} went before it was {goal}."
            action = "look at the RSERecord, if outputs are missed (kubectl get rser)."
            raise CommandError(what, Actor.ADMIN, action, Exit.NEVER)
        found = verdict(goal, body)
        if found.reached:
            return ""
        if found.never:
            what = f"VolatileRSE {server.namespace}/{name} cannot become {goal} any more: {found.never}"
            raise CommandError(what, Actor.USER, f"see `vrse status {name}`.", Exit.NEVER)
        last = line_of(body)
        show(body)
    return last


@vrse.command()
@the_name
@on_cluster
def end(server: Server, name: str) -> None:
    """End a session now, and keep what it has written. This cannot be taken back."""
    body = server.get(name)
    if is_ended(body):
        say(sys.stdout, f"The session of {name} is over already.")
        return
    if body["spec"].get("endRequested"):
        say(sys.stdout, f"The end of {name} was requested already.")
        return
    server.change(body, {"endRequested": True})
    say(sys.stdout, f"The end of {name} is requested. `vrse wait {name} --for safe` waits for its outputs.")


@vrse.command()
@click.argument("name", type=VRSE_NAME, required=False)
@click.option("-f", "--filename", "file", type=click.File(), help="File with one VolatileRSE; -: standard input.")
@click.option("--class", "class_name", help="VolatileRSEClass.")
@click.option("--account", help="Rucio account that owns the outputs.")
@click.option("--capacity", type=QUANTITY, help="Size of the buffer, such as 20Gi.")
@click.option("--durability", type=click.Choice(["Pod", "Node", "Network"]), help="What it must outlive at least.")
@click.option("--input", "inputs", multiple=True, metavar="NAME=DID", help="Data to stage; may be repeated.")
@click.option(
    "--output",
    "outputs",
    multiple=True,
    metavar="NAME=PATH,to=DID,at=RSES",
    help="Files to keep: the glob PATH below the outbox goes to the dataset DID at an RSE of the expression RSES; "
    "then ,copies=N ,lifetime=90d ,register=Continuous ,if-exists=Fail may follow. May be repeated.",
)
@click.option("--ttl", type=DURATION, help="The session's end at the latest, such as 8h.")
@click.option("--start-timeout", type=DURATION, help="Time in which the first pod must come.")
@click.option("--end-grace", type=DURATION, help="How long no pod may run before that is the end.")
@click.option("--dry-run", is_flag=True, help="Say what would be refused, and create nothing.")
@click.option("-o", "form", type=click.Choice(["json", "yaml"]), help="The object, as the API server completes it.")
@on_cluster
def create(server: Server, /, name: str | None, *, dry_run: bool, form: str | None, **flags: Any) -> int:  # noqa: ANN401
    """Ask for a buffer: by flags, or by a file (-f)."""
    body = _body(server, name, flags)
    completed = server.create(body, dry_run=True)
    judgement = judge(server, completed)
    if judgement.problems:
        what = " ".join(problem.message for problem in judgement.problems)
        say(sys.stderr, f"Error: nothing was created. {what}")
        return Exit.REFUSED
    if dry_run:
        if (code := _try(server, body, judgement)) is not Exit.DONE:
            return code
    else:
        completed = server.create(body, dry_run=False)
    if form is not None:
        print_object(completed, form)
    elif not dry_run:
        made = completed["metadata"]["name"]
        say(sys.stdout, f"{made} is created. `vrse wait {made} --for usable` waits for it.")
    return Exit.DONE


def _body(server: Server, name: str | None, flags: Mapping[str, Any]) -> dict[str, Any]:
    given = [key for key, value in flags.items() if key != "file" and value not in {None, ()}]
    if flags["file"] is not None:
        if given:
            message = "-f has the whole request: no other flag can change it"
            raise click.UsageError(message)
        try:
            text = flags["file"].read()
        except (OSError, UnicodeDecodeError) as error:
            message = f"-f: the file cannot be read: {error}"
            raise click.UsageError(message) from error
        body = asked.body_of_file(text, name, server.namespace if server.named else None)
        if not NAME.fullmatch(body["metadata"]["name"]):
            message = f"-f: {body['metadata']['name'][:80]!r} is no name in Kubernetes"
            raise click.UsageError(message)
        # As kubectl does: a namespace of the file comes before that of the context.
        server.namespace = str(body["metadata"].setdefault("namespace", server.namespace))
        return body
    missing = [f"--{key.removesuffix('_name')}" for key in ("class_name", "account", "capacity") if flags[key] is None]
    if name is None or missing:
        message = f"without -f, a request needs {', '.join([*(['NAME'] if name is None else []), *missing])}"
        raise click.UsageError(message)
    spec = {"className": flags["class_name"], "account": flags["account"], "capacity": flags["capacity"]}
    times = {"ttl": flags["ttl"], "startTimeout": flags["start_timeout"], "endGrace": flags["end_grace"]}
    spec["minimumDurability"] = flags["durability"]
    body = asked.request(name, spec, times, flags["inputs"], flags["outputs"])
    body["metadata"]["namespace"] = server.namespace
    return body


def _try(server: Server, body: Object, judgement: Judgement) -> Exit:
    """Have the operator judge a request, and tell what it says."""
    told = tried(server, body)
    if told.refused:
        say(sys.stderr, f"Error: nothing was created. {' '.join(told.refused)}", *told.lines)
        return Exit.REFUSED
    if told.unjudged:
        say(sys.stderr, "Nothing was created. The API server takes the request, and nothing that was judged is wrong.")
        say(sys.stderr, *(f"Not judged: {what}." for what in (*judgement.unjudged, *told.unjudged)))
        return Exit.UNANSWERED
    say(sys.stderr, "Nothing was created. The operator would take the request now:", *told.lines)
    return Exit.DONE


@vrse.command()
@click.argument("reason", shell_complete=_complete_reason)
def explain(reason: str) -> int:
    """Say what a reason or a condition means, who must act, and what to do."""
    if (text := explaining.explained(reason)) is None:
        near = explaining.similar(reason)
        hint = f" Did you mean {' or '.join(near)}?" if near else " docs/reasons.md lists all."
        message = f"{reason[:80]!r} is no reason and no condition.{hint}"
        raise click.BadParameter(message, param_hint="REASON")
    sys.stdout.write(text)
    return Exit.DONE


@vrse.command()
@the_name
@click.option("--rse", metavar="RSE", help="Name of the buffer's RSE, as `status` shows it: then nothing is asked.")
@on_cluster
def discard(server: Server, name: str, rse: str | None) -> int:
    """Give up all outputs of a session that are not safe. This cannot be taken back."""
    body = server.get(name)
    known = str((body.get("status") or {}).get("rse") or "")
    where = f"VolatileRSE {server.namespace}/{name}"
    if not known:
        what = f"{where} has no RSE: there is nothing to give up."
        raise CommandError(what, Actor.USER, "end it, or delete it.")
    if (body["spec"].get("teardown") or {}).get("discard"):
        say(sys.stdout, f"The outputs of {name} that were not safe are given up already.")
        return Exit.DONE
    if condition_of(body, ConditionType.OUTPUTS_SAFE).get("status") == "True":
        what = f"All outputs of {where} are safe: nothing is given up."
        raise CommandError(what, Actor.USER, "delete it, if it is over.")
    if rse is None:
        rse = _confirmed(body, known)
    if rse != known:
        what = f"{where} has the RSE {known}, and you have named {visible(rse)!r}: nothing is given up."
        raise CommandError(what, Actor.USER, f"see `vrse status {name}`.")
    who = server.who()
    server.change(body, {"teardown": {"discard": {"rse": known, "requestedBy": who}}})
    say(sys.stdout, f"What is not safe of {name} is given up, as {who} asks, once its session is over.")
    return Exit.DONE


def _confirmed(body: Object, rse: str) -> str:
    """Show what would be lost, and let the person name the RSE."""
    if not sys.stdin.isatty():
        message = "without a terminal nobody can be asked: name the buffer's RSE by --rse"
        raise click.UsageError(message)
    sys.stdout.write(plain(page_of(body, program.now())))
    say(sys.stdout, "All of it that is not safe will be destroyed, for ever.")
    return str(click.prompt(f"Type the name of the RSE ({rse}) to give it up", default="", show_default=False))


@vrse.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: Literal["bash", "zsh", "fish"]) -> None:
    """Print a script that completes commands and names of `vrse`: eval "$(vrse completion bash)"."""
    found = get_completion_class(shell)
    if found is not None:
        sys.stdout.write(f"{found(vrse, {}, 'vrse', _COMPLETE).source()}\n")


for _command in (add, admin, doctor, extend, fetch, lease):
    vrse.add_command(_command)
