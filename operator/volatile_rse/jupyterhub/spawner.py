"""A KubeSpawner whose servers have data: form, progress, session; ``c.JupyterHub.spawner_class = "volatile-rse"``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Mapping
from dataclasses import replace
from inspect import isawaitable
from typing import Any

from kubespawner import KubeSpawner
from traitlets import Any as AnyValue
from traitlets import Bool, Callable, Dict, Float, Integer, List, Unicode, Union, default

from volatile_rse.jupyterhub.choices import choice_of
from volatile_rse.jupyterhub.form import FIELDS, form_of, options_of
from volatile_rse.jupyterhub.hooks import Hooks
from volatile_rse.jupyterhub.sessions import Told
from volatile_rse.jupyterhub.settings import Settings

__all__ = ["VolatileRSESpawner"]

_USUAL = Settings()
_SHARE = 2 / 3
"""Of start_timeout, which also counts the wait: the rest is the pod's."""
_BEGUN = 80
"""Per cent at which the pod is made."""
_PATIENCE = 15
"""Seconds for the API server to make a pod: it asks the injection, twice perhaps, 5 s each where that is away."""


class VolatileRSESpawner(KubeSpawner):  # type: ignore[misc]
    """Each server is a session with a volatile RSE, if its user wants one."""

    vrse_class = Unicode(_USUAL.class_name, config=True, help="VolatileRSEClass of the sessions.")
    vrse_account = Union(
        [Unicode(_USUAL.account), Callable()],
        config=True,
        help="Rucio account of a user: text with {username}, or a function of the spawner.",
    )
    vrse_scope = Unicode(_USUAL.scope, config=True, help="Scope of outputs, with {account}.")
    vrse_dataset = Unicode(_USUAL.dataset, config=True, help="Dataset that the form proposes, with {account}.")
    vrse_capacities = List(
        Unicode(),
        list(_USUAL.capacities),
        minlen=1,
        config=True,
        help="Sizes to choose from; the first is the default.",
    )
    vrse_destinations = List(
        Unicode(), [], config=True, help="RSE expressions where outputs may be kept; the first is the default."
    )
    vrse_lifetime = Unicode(
        _USUAL.lifetime, allow_none=True, config=True, help="Of outputs at their destination; None: for ever."
    )
    vrse_publish = Bool(_USUAL.publish, config=True, help="Whether outputs may be kept while the server runs, too.")
    vrse_wait = Float(
        _USUAL.wait, min=0, config=True, help="Seconds that a server waits for data; at most 2/3 of start_timeout."
    )
    vrse_ttl = Unicode(_USUAL.ttl, config=True, help="Of a session, at most.")
    vrse_end_grace = Unicode(_USUAL.end_grace, config=True, help="How long a session goes on without its pod.")
    vrse_start_timeout = Unicode(_USUAL.start_timeout, config=True, help="How long a buffer waits for the pod.")
    vrse_input_deadline = Unicode(
        _USUAL.input_deadline, config=True, help="How long nothing may arrive before it is given up."
    )
    vrse_ttl_after_finished = Unicode(_USUAL.ttl_after_finished, config=True, help="How long a VolatileRSE stays.")
    vrse_on_behalf_of = Bool(_USUAL.on_behalf_of, config=True, help="Whether sessions say whose they are.")
    vrse_rucio = Dict(config=True, help="Entry of RucioConfig.instances for rucio-jupyterlab; empty: none.")
    vrse_check = AnyValue(
        None, config=True, help="Asked of each DID in the form, such as checks.Rucio(...); None: nobody is."
    )

    k8s_api_request_timeout = Integer(
        _PATIENCE, config=True, help="Seconds for the API server to answer; an injection that is away takes it 5 or 10."
    )

    _told: Told | None = None
    _posted: Mapping[str, Any] | None = None
    """What the form has posted and was refused: nobody types it again."""

    def start(self) -> Awaitable[Any]:
        """Make the session and wait for it, then make the pod."""
        # Of the spawn before this one: whoever listens already would take it for this one's.
        self._start_future, self._told = None, Told()
        return asyncio.ensure_future(self._start_with_session())

    async def _start_with_session(self) -> Any:  # noqa: ANN401
        # A profile may give another namespace.
        await self.load_user_options()
        if self.enable_user_namespaces:
            await self._ensure_namespace()
        await self._hooks().pre_spawn(self, self._told)
        return await super().start()

    async def get_pod_manifest(self) -> Any:  # noqa: ANN401
        """Describe the pod, with the session's objects."""
        return self._hooks().modify_pod(self, await super().get_pod_manifest())

    async def run_post_stop_hook(self) -> None:
        """End the session, whatever became of the server; then what the site's own hook does."""
        await self._hooks().post_stop(self)
        done = super().run_post_stop_hook()
        if isawaitable(done):
            await done

    async def progress(self) -> AsyncIterator[Mapping[str, Any]]:
        """Tell of the data, then of the pod, from the begin for every listener."""
        seen, following = 0, None
        events: AsyncIterator[Mapping[str, Any]] | None = None
        try:
            while True:
                if following is None and self._start_future is not None:
                    if self.events_enabled:
                        # A listener that goes while this begins must not leave it half begun for everybody.
                        await asyncio.shield(asyncio.ensure_future(self._start_watching_events()))
                    events = super().progress()
                    following = asyncio.ensure_future(anext(events))
                await asyncio.wait({following} if following else {asyncio.ensure_future(asyncio.sleep(1))}, timeout=1)
                lines = self._told.lines if self._told is not None else []
                while seen < len(lines):
                    percent, line = lines[seen]
                    seen += 1
                    yield {"progress": percent, "message": line}
                if events is not None and following is not None and following.done():
                    try:
                        event = following.result()
                    except StopAsyncIteration:
                        return
                    yield _after(event) if lines else event
                    following = asyncio.ensure_future(anext(events))
        finally:
            if following is not None:
                following.cancel()

    @default("options_form")
    def _options_form_default(self) -> Any:  # noqa: ANN401
        return self._form

    async def _form(self, spawner: Any) -> str:  # noqa: ANN401
        """Write our form above that of the profiles."""
        profiles = super()._options_form_default()
        if callable(profiles):
            profiles = profiles(spawner)
            if isawaitable(profiles):
                profiles = await profiles
        shown = self.user_options if self._posted is None else self._posted
        settings = self._settings_of_user() or replace(self._settings(), dataset="")
        return form_of(self.user.name, shown, settings, self._check_url()) + str(profiles)

    def _options_from_form(self, formdata: Mapping[str, list[str]]) -> dict[str, Any]:
        """Read both forms; what is refused is shown with the form."""
        rest = {name: values for name, values in formdata.items() if name not in FIELDS}
        options = {**super()._options_from_form(rest), **options_of(formdata)}
        self._posted = options
        if (settings := self._settings_of_user()) is not None:
            choice_of(options, self.user.name, settings)
        self._posted = None
        return options

    def _check_url(self) -> str:
        return "" if self.vrse_check is None else f"{self.hub.base_url}volatile-rse/did"

    def _hooks(self) -> Hooks:
        return Hooks(self._settings(), self.vrse_account if callable(self.vrse_account) else None)

    def _settings_of_user(self) -> Settings | None:
        """Give the settings for the form; None: the function of the account fails, which refuses nobody a server."""
        settings = self._settings()
        if not callable(self.vrse_account):
            return settings
        try:
            return replace(settings, account=str(self.vrse_account(self)))
        except Exception:
            self.log.exception("vrse_account gives no account for %s", self.user.name)
            return None

    def _settings(self) -> Settings:
        account = _USUAL.account if callable(self.vrse_account) else self.vrse_account
        return Settings(
            class_name=self.vrse_class,
            account=account,
            scope=self.vrse_scope,
            dataset=self.vrse_dataset,
            capacities=tuple(self.vrse_capacities),
            destinations=tuple(self.vrse_destinations),
            lifetime=self.vrse_lifetime,
            publish=self.vrse_publish,
            wait=min(self.vrse_wait, _SHARE * self.start_timeout),
            ttl=self.vrse_ttl,
            end_grace=self.vrse_end_grace,
            start_timeout=self.vrse_start_timeout,
            input_deadline=self.vrse_input_deadline,
            ttl_after_finished=self.vrse_ttl_after_finished,
            on_behalf_of=self.vrse_on_behalf_of,
            rucio=self.vrse_rucio,
        )


def _after(event: Mapping[str, Any]) -> Mapping[str, Any]:
    """Have the bar go on where the data have left it."""
    if "progress" not in event:
        return event
    return {**event, "progress": _BEGUN + int(event["progress"]) * (100 - _BEGUN) // 100}
