from __future__ import annotations

import re
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from volatile_rse.api.schema import DID
from volatile_rse.api.volatilerse import VolatileRSESpec
from volatile_rse.jupyterhub import RefusedError, Settings, choices
from volatile_rse.jupyterhub.choices import Choice, Wanted, choice_of
from volatile_rse.jupyterhub.form import form_of, options_of
from volatile_rse.jupyterhub.volatilerses import Server, body_of

SETTINGS = Settings(capacities=("1Gi", "2Gi"), destinations=("SITE-B", "SITE-A"))
SERVER = Server("hub", "jupyter-alice", "alice", "")


def asked(**options: Any) -> dict[str, Any]:
    return {"volatile_rse": options}


@pytest.mark.parametrize("options", [None, {}, {"profile": "x"}, {"volatile_rse": None}])
def test_who_wants_no_session_gets_none(options: object) -> None:
    assert choice_of(options, "alice", SETTINGS) is None


def test_what_is_not_said_is_as_the_hub_offers_it_first() -> None:
    assert choice_of(asked(), "alice", SETTINGS) == Choice((), "1Gi", "SITE-B", "jupyter.alice")
    nothing_kept = choice_of(asked(destination=""), "alice", SETTINGS)
    assert nothing_kept is not None
    assert nothing_kept.destination == ""
    assert choice_of(asked(), "alice", Settings()) == Choice((), "10Gi", "", "")


@pytest.mark.parametrize(
    ("inputs", "names"),
    [
        (["user.alice:nano_dimuon"], ["nano-dimuon"]),
        (["user.alice:Nano_dimuon", "user.bob:nano-dimuon"], ["nano-dimuon", "nano-dimuon-2"]),
        (["mc=cms:/DY/Run3/NANOAODSIM#1", "cms:/DY/Run3/NANOAODSIM#1"], ["mc", "dy-run3-nanoaodsim-1"]),
        (["s:___"], []),
        (["s:x---"], ["x"]),
        ([f"s:{'x' * 400}"], ["x" * 40]),
        (["s:/"], ["input"]),
    ],
)
def test_inputs_have_names_that_programs_can_ask_for(inputs: list[str], names: list[str]) -> None:
    if not names:
        with pytest.raises(RefusedError):
            choice_of(asked(inputs=inputs), "alice", SETTINGS)
        return
    choice = choice_of(asked(inputs=inputs), "alice", SETTINGS)
    assert choice is not None
    assert [wanted.name for wanted in choice.inputs] == names


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ("yes", "is no object"),
        ({"imputs": []}, "has no field 'imputs'"),
        ({"inputs": "user.alice:x"}, "no list"),
        ({"inputs": 3}, "no list"),
        ({"inputs": [None]}, "None is no DID"),
        ({"inputs": ["nano"]}, "'nano' is no DID"),
        ({"inputs": ["a:b\nc"]}, "is no DID"),
        ({"inputs": ["A=a:b"]}, "'A' names no input"),
        ({"inputs": ["a=a:b", "a=a:c"]}, "Two inputs have the name a"),
        ({"inputs": ["a:b"] * 33}, "at most 32"),
        ({"capacity": "900Ti"}, "choose one of 1Gi, 2Gi"),
        ({"capacity": ["1Gi"]}, "is not offered"),
        ({"destination": "*"}, "choose one of SITE-B, SITE-A"),
        ({"dataset": "a b"}, "is no name of a dataset"),
        ({"dataset": 3}, "is no name of a dataset"),
        ({"inputs": ["\N{GREEK SMALL LETTER MU}" * 5000]}, "…"),
    ],
)
def test_what_cannot_be_had_is_refused_with_words_for_the_page(options: object, why: str) -> None:
    with pytest.raises(RefusedError, match=re.escape(why)) as caught:
        choice_of({"volatile_rse": options}, "alice", SETTINGS)
    error = caught.value
    # Neither counts to the failures after which a hub exits, nor is shown as text of the user's own HTML.
    assert error.status_code == 400
    assert len(error.jupyterhub_message) < 400
    assert error.jupyterhub_message == str(error)
    assert "<script" not in error.jupyterhub_html_message


def test_no_html_of_a_user_reaches_the_page() -> None:
    with pytest.raises(RefusedError) as caught:
        choice_of(asked(inputs=["<script>alert(1)</script>"]), "alice", SETTINGS)
    assert "<script" not in caught.value.jupyterhub_html_message
    form = form_of("alice", asked(inputs=["</textarea>{{ x }}"], dataset='"><b>'), SETTINGS)
    assert "</textarea>&#123;" not in form
    assert "&lt;/textarea&gt;&#123;&#123; x" in form
    assert '"><b>' not in form


def test_users_without_an_account_are_told() -> None:
    choice = choice_of(asked(dataset="x"), "Al.Ice@cern.ch", SETTINGS)
    assert choice is not None
    with pytest.raises(RefusedError, match=r"has no Rucio account"):
        body_of(Server("hub", "jupyter-x", "Al.Ice@cern.ch", ""), choice, SETTINGS, "12345678")


def test_a_dataset_is_judged_where_something_is_kept() -> None:
    nothing_kept = Settings(dataset="of {username}")
    assert choice_of(asked(), "al ice", nothing_kept) == Choice((), "10Gi", "", "")
    with pytest.raises(RefusedError, match=r"has no Rucio account"):
        choice_of(asked(), "Al.Ice@cern.ch", SETTINGS)


def test_the_form_posts_what_is_asked_and_shows_it_again() -> None:
    posted = {
        "vrse-use": ["1"],
        "vrse-inputs": ["user.alice:a\r\n\r\n b=user.alice:b, c:d"],
        "vrse-capacity": ["2Gi"],
        "vrse-destination": ["SITE-A"],
        "vrse-dataset": ["mine"],
    }
    options = options_of(posted)
    assert options == asked(
        inputs=["user.alice:a", "b=user.alice:b", "c:d"], capacity="2Gi", destination="SITE-A", dataset="mine"
    )
    form = form_of("alice", options, SETTINGS)
    assert ">user.alice:a\nb=user.alice:b\nc:d</textarea>" in form
    assert '<option value="2Gi" selected>' in form
    assert '<option value="SITE-A" selected>' in form
    assert 'value="mine"' in form
    assert " checked" in form
    without = options_of({**posted, "vrse-use": []})
    assert choice_of(without, "alice", SETTINGS) is None
    assert " checked" not in form_of("alice", without, SETTINGS), "what was chosen last"
    assert " checked" not in form_of("alice", {"profile": "x"}, SETTINGS)


def _is_valid(kind: TypeAdapter[str], text: str) -> bool:
    try:
        kind.validate_python(text)
    except ValidationError:
        return False
    return True


def test_its_pattern_of_a_did_is_that_of_the_kind() -> None:
    kind = TypeAdapter(DID)
    for text in ("a:b", "a:/b#c", "a b:c", "a:b c", ":b", "a:", "a:-b", "user.x-y_z:B.c_d-e/f#g"):
        assert _is_valid(kind, text) == choices.is_did(text), text


def test_the_volatilerse_is_one_that_the_operator_reads() -> None:
    choice = Choice((Wanted("a", "user.alice:a"),), "2Gi", "SITE-A", "mine")
    body = body_of(SERVER, choice, SETTINGS, "12345678")
    spec = VolatileRSESpec.model_validate(body["spec"])
    assert (spec.account, spec.capacity, spec.outputs[0].scope) == ("alice", "2Gi", "user.alice")
    assert spec.inputs[0].on_deadline == "Fail"
    assert spec.ttl_after_finished == "7d"
    assert body["metadata"]["name"] == "jupyter-alice-12345678"


@pytest.mark.parametrize("pod", ["jupyter-alice", "j" * 63, f"{'j' * 53}-.-{'k' * 9}", "x" * 253])
def test_its_name_is_one_of_an_object_and_a_label(pod: str) -> None:
    choice = Choice((), "1Gi", "", "x")
    one, other = (body_of(Server("hub", pod, "alice", name), choice, SETTINGS, "12345678") for name in ("", "b"))
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", one["metadata"]["name"])
    assert len(one["metadata"]["name"]) <= 63
    assert "outputs" in one["spec"]
    assert one["spec"]["outputs"] == []
    assert one["metadata"]["labels"] != other["metadata"]["labels"], "servers of one user are told apart"
    assert all(re.fullmatch(r"[a-z0-9]+", value) for value in one["metadata"]["labels"].values())
