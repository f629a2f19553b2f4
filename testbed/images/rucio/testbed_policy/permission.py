"""Who may do what."""

from typing import Any

from rucio.db.sqla.models import AccountLimit
from sqlalchemy import select  # type: ignore[import-not-found,unused-ignore]  # of the image


def has_permission(issuer: Any, action: str, kwargs: dict[str, Any], *, session: Any) -> bool | None:  # noqa: ANN401
    """Allow uploads that the generic policy lets plain accounts make to RSEs of certain names only."""
    if action in {"add_replicas", "update_replicas_states"} and _has_quota(issuer, kwargs["rse_id"], session):
        return True
    # The generic policy decides about all else.
    return None


def _has_quota(account: Any, rse_id: str, session: Any) -> bool:  # noqa: ANN401
    # A buffer has no quotas, so it stays closed to all but the operator.
    limits = select(AccountLimit.bytes).where(AccountLimit.account == account, AccountLimit.rse_id == rse_id)
    return session.execute(limits).first() is not None
