"""What the agent answers when it cannot do as asked."""

from __future__ import annotations

from dataclasses import asdict, dataclass

__all__ = ["AgentError"]


@dataclass(eq=False)
class AgentError(Exception):
    """A refusal, said so that its reader can act.

    Parameters
    ----------
    status
        Of HTTP.
    what, object, actor, remedy
        What happened, to which object, who must act, and what to do.
    """

    status: int
    what: str
    object: str
    actor: str
    remedy: str

    def __str__(self) -> str:
        """Say all of it in one sentence."""
        return f"{self.object}: {self.what}; the {self.actor} must act: {self.remedy}"

    def body(self) -> dict[str, str]:
        """Give what is sent."""
        fields = asdict(self)
        del fields["status"]
        return fields
