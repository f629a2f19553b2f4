"""Which addresses are the same, and which are none."""

from __future__ import annotations

import pytest

from volatile_rse.api.addresses import folders_of, host_of, is_below, place_of, server_url
from volatile_rse.api.rucioconnection import RucioConnectionSpec


@pytest.mark.parametrize(
    ("text", "one"),
    [
        ("https://rucio.example.org", "https://rucio.example.org"),
        ("https://Rucio.Example.ORG/", "https://rucio.example.org"),
        ("HTTPS://rucio.example.org:443/", "https://rucio.example.org"),
        ("https://rucio.example.org:0443", "https://rucio.example.org"),
        ("https://rucio.example.org:8443/atlas/", "https://rucio.example.org:8443/atlas"),
        ("https://rucio.example.org/Atlas", "https://rucio.example.org/Atlas"),
        ("https://[2001:DB8::1]:443", "https://[2001:db8::1]"),
        ("http://rucio.example.org", None),
        ("https://rucio.example.org@evil.org", None),
        ("https://evil.org\\@rucio.example.org", None),
        ("https://user:word@rucio.example.org", None),
        ("https://rucio.example.org?to=evil.org", None),
        ("https://rucio.example.org#evil.org", None),
        ("https://rucio.example.org/%2e%2e", None),
        ("https://rucio.example.org\n", None),
        ("https://rucio.example.org evil", None),
        ("https://r\u0131cio.example.org", None),
        ("https://\u212aek.example.org", None),
        ("rucio.example.org", None),
        ("https://", None),
        ("", None),
    ],
)
def test_a_servers_url_has_one_form_or_is_none(text: str, one: str | None) -> None:
    assert server_url(text) == one


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [
        ("davs://Site-A.example.org:1094//store/f", "site-a.example.org", 1094),
        ("https://site-a.example.org/store/f?authz=x", "site-a.example.org", 443),
        ("davs://[::1]:8443/f", "[::1]", 8443),
        ("DAVS://SITE-A.example.org.:8443/F", "site-a.example.org", 8443),
        ("davs://site_a:8443/f", "site_a", 8443),
    ],
)
def test_a_files_url_says_where_it_is(url: str, host: str, port: int) -> None:
    place = place_of(url)
    assert place is not None
    assert (place.host, place.port) == (host, port)


@pytest.mark.parametrize("text", ["Site-A.Example.org", "site-a.example.org", "SITE-A.EXAMPLE.ORG."])
def test_a_host_has_one_name(text: str) -> None:
    assert host_of(text) == "site-a.example.org"


@pytest.mark.parametrize(
    "url",
    [
        "davs://site..:8443/f",
        "davs://user@site/f",
        "davs://site-a@evil.org/f",
        "davs://evil.org\\@site-a/f",
        "davs://site-a:80:90/f",
        "davs://site-a:x/f",
        "davs://site-a",
        "davs://[::1/f",
        "davs:///f",
        "http://site-a/f",
        "root://site-a//f",
        "davs://site-a/f#g",
        "davs://s\u00efte/f",
        "davs://\u212aek/f",
        "davs://site-a\n/f",
        "",
    ],
)
def test_what_two_programs_may_read_in_two_ways_is_no_files_url(url: str) -> None:
    assert place_of(url) is None


@pytest.mark.parametrize(
    ("url", "folders", "below"),
    [
        ("davs://s:1094/cms/store/f", "/cms", True),
        ("davs://s:1094//cms//store/f", "/cms/store/", True),
        ("davs://s:1094/cms", "/cms", True),
        ("davs://s:1094/cms2/f", "/cms", False),
        ("davs://s:1094/%63ms/f", "/cms", True),
        ("davs://s:1094/atlas/f", "/cms /atlas", True),
        ("davs://s:1094/atlas/f", "/cms\n/atlas\n", True),
        ("davs://s:1094/cms/../atlas/f", "/cms", False),
        ("davs://s:1094/cms/%2e%2e/atlas/f", "/cms", False),
        ("davs://s:1094/cms/%252e%252e/atlas/f", "/cms", False),
        ("davs://s:1094/cms%2f..%2fatlas/f", "/cms", False),
        ("davs://s:1094/./f", "/", False),
        ("davs://s:1094/anything", "/", True),
        ("davs://s:1094/cms/f", ":1094/cms", True),
        ("davs://s:8443/cms/f", ":1094/cms", False),
        ("davs://s/cms/f", ":443/cms", True),
        ("davs://s:8443/cms/f", ":1094/cms :8443/cms", True),
    ],
)
def test_a_file_is_below_a_folder_or_is_not(url: str, folders: str, below: bool) -> None:  # noqa: FBT001
    place = place_of(url)
    assert place is not None
    assert is_below(place, folders_of(folders)) is below


@pytest.mark.parametrize("text", ["", " \n", "cms", "/cms/../x", "https://s/cms", ":x/cms", "/c%6ds", "/cms?x"])
def test_a_list_of_folders_that_is_none(text: str) -> None:
    with pytest.raises(ValueError, match="folder"):
        folders_of(text)


@pytest.mark.parametrize(
    "url", ["https://rucio.example.org", "https://rucio.example.org/", "https://Rucio.Example.org:443//"]
)
def test_a_connection_names_its_server_in_one_form(url: str) -> None:
    spec = {"account": "ops", "userpass": {"secretName": "login"}, "ledgerScope": "vrse"}
    read = RucioConnectionSpec.model_validate({**spec, "server": url, "authServer": url})
    assert (read.server, read.auth_server) == ("https://rucio.example.org", "https://rucio.example.org")


def test_the_path_of_a_server_stays() -> None:
    spec = {"account": "ops", "userpass": {"secretName": "login"}, "ledgerScope": "vrse"}
    read = RucioConnectionSpec.model_validate({**spec, "server": "https://rucio.example.org:8443/Rucio/"})
    assert read.server == "https://rucio.example.org:8443/Rucio"
