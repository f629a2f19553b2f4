from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from volatile_rse.domain.identity import identify


@given(st.text(max_size=40), st.uuids())
def test_names_obey_the_schemas_of_rucio_and_kubernetes(instance: str, uid: object) -> None:
    identity = identify(instance, str(uid))
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", identity.record)
    assert re.fullmatch(r"[a-z2-7]{10}", identity.record_id)
    assert identity == identify(instance, str(uid))


def test_another_cluster_or_another_object_is_another_buffer() -> None:
    names = {identify(instance, uid).record_id for instance in ("a", "b") for uid in ("1", "2")}
    assert len(names) == 4


def test_instance_and_uid_do_not_run_into_each_other() -> None:
    assert identify("ab", "c") != identify("a", "bc")
