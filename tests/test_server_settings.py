"""The settings of the server: where they come from, what is refused, and on which addresses it may listen."""

import json
import os
import stat
from pathlib import Path

import pytest

from kling_pricing import PriceBook
from kling_pricing.errors import SettingsError
from kling_pricing.listening import listen
from kling_pricing.server.secret_places import Secret
from kling_pricing.server.server_settings import load_settings, settings_schema
from kling_pricing.server.upstreams import upstreams
from tests.commands import run

FILE = """\
port: 9000
upstreams:
  qingbo: {url: "https://api.example.com/", credential: env:QINGBO_KEY}
  studio-a:
    provider: qingbo
    url: https://api.example.com
    submit_timeout_s: 30
limits:
  upload_mb: 100
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file with settings."""
    path = tmp_path / "server.yaml"
    path.write_text(FILE)
    return path


def test_the_environment_replaces_the_file_and_the_command_line_both(file: Path) -> None:
    """Every setting can be a variable, also those of an upstream; options of the command come last."""
    environment = {
        "KLING_PRICING_SERVER_PORT": "9001",
        "KLING_PRICING_SERVER_WORKERS": "2",
        "KLING_PRICING_SERVER_LIMITS__UPLOAD_MB": "200",
        "KLING_PRICING_SERVER_UPSTREAMS__STUDIO_A__URL": "https://gw.example.com",
        "KLING_PRICING_SERVER_UPSTREAMS__STUDIO_B": "{provider: qingbo, url: 'https://b.example.com'}",
    }
    settings = load_settings(file, environment=environment, overrides={"workers": 3, "host": None})
    assert (settings.port, settings.workers, settings.host) == (9001, 3, "127.0.0.1")
    assert settings.limits.upload_mb == 200
    assert {name: entry.url for name, entry in settings.upstreams.items()} == {
        "qingbo": "https://api.example.com",
        "studio-a": "https://gw.example.com",
        "studio-b": "https://b.example.com",
    }
    assert settings.upstreams["studio-a"].submit_timeout_s == 30


def test_without_a_file_only_the_api_is_served() -> None:
    """The defaults need nothing: a loopback address, a ledger in the working folder, and no upstreams."""
    settings = load_settings(environment={})
    assert (settings.host, settings.ledger, settings.upstreams) == (
        "127.0.0.1",
        "sqlite:///kling-pricing.db",
        {},
    )


@pytest.mark.parametrize(
    ("old", "new", "place", "problem"),
    [
        (
            "env:QINGBO_KEY",
            "sk-secret-text",
            "server.yaml:3: upstreams.qingbo.credential",
            "must be env:NAME or",
        ),
        ("env:QINGBO_KEY", "12345", "server.yaml:3: upstreams.qingbo.credential", "must be env:NAME or"),
        ('https://api.example.com/"', 'ftp://x"', "server.yaml:3: upstreams.qingbo.url", "must be an http or"),
        ('https://api.example.com/"', 'https://u:pass@x"', "upstreams.qingbo.url", "must not contain a user"),
        ("port: 9000", "port: 99999", "server.yaml:1: port", "less than or equal to 65535"),
        ("port: 9000", "prot: 9000", "server.yaml:1: prot", "unknown key; did you mean 'port'"),
        ("upload_mb: 100", "upload_mb: many", "server.yaml:9: limits.upload_mb", "must be a whole number"),
        ("port: 9000", "host: 0.0.0.0", "server.yaml", "would accept access keys without encryption"),
        ("port: 9000", "tls_cert: a.pem", "server.yaml", "`tls_cert` and `tls_key` belong together"),
    ],
)
def test_a_mistake_is_named_with_its_place(old: str, new: str, place: str, problem: str, file: Path) -> None:
    """The error names the file, the line and the key, and never repeats what may be a secret."""
    assert old in FILE
    file.write_text(FILE.replace(old, new))
    with pytest.raises(SettingsError) as caught:
        load_settings(file, environment={})
    message = str(caught.value)
    assert place in message
    assert problem in message
    assert not {"sk-secret-text", "12345", "pass@"} & {*message.split()}
    assert "secret-text" not in message


@pytest.mark.parametrize(
    ("variable", "value", "problem"),
    [
        ("KLING_PRICING_SERVER_PROT", "1", "KLING_PRICING_SERVER_PROT: no setting has this name; did you mean"),
        ("KLING_PRICING_SERVER_LIMITS__UPLOAD", "1", "unknown key"),
        ("KLING_PRICING_SERVER_PORT", "[", "KLING_PRICING_SERVER_PORT"),
        ("KLING_PRICING_SERVER_PORT__X", "1", "port is a single value"),
    ],
)
def test_a_mistaken_variable_is_named(variable: str, value: str, problem: str, file: Path) -> None:
    """A variable that names no setting, or has no YAML, is an error instead of being ignored."""
    with pytest.raises(SettingsError) as caught:
        load_settings(file, environment={variable: value})
    assert problem in str(caught.value)


def test_other_addresses_need_encryption(tmp_path: Path) -> None:
    """A loopback address is always fine; another one needs a proxy that ends TLS, or TLS files."""
    for given in (
        {"host": "::1"},
        {"host": "localhost"},
        {"host": "192.0.2.1", "behind_proxy": True},
        {"host": "10.0.0.1", "tls_cert": "a.pem", "tls_key": "b.pem"},
    ):
        load_settings(environment={}, overrides=given)
    for host in ("192.0.2.1", "::", "10.0.0.1", "studio.example.com"):
        with pytest.raises(SettingsError, match="without encryption"):
            load_settings(environment={}, overrides={"host": host})
    refused = run("serve", "--host", "192.0.2.1", "--ledger", f"sqlite:///{tmp_path}/spend.db")
    assert refused.returncode == 2
    assert "--behind-proxy" in refused.stderr


def test_all_missing_variables_are_named_at_once(
    tmp_path: Path, book: PriceBook, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One error names every variable that must be set before the server can start, with its settings."""
    for name in ("ONE", "TWO"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SET", "secret-text")
    monkeypatch.setenv("BLANK", " ")
    path = tmp_path / "server.yaml"
    url = "https://api.example.com"
    upstream_settings = {
        "qingbo": {"url": url, "credential": "env:ONE", "webhook_secret": "env:TWO"},
        "studio": {"provider": "qingbo", "url": url, "credential": "env:ONE", "webhook_secret": "env:SET"},
        "kling": {"url": url, "credential": "env:BLANK"},
    }
    path.write_text(json.dumps({"upstreams": upstream_settings}))
    with pytest.raises(SettingsError) as refused:
        upstreams(load_settings(path, environment={}), book)
    assert str(refused.value) == (
        "3 variables are not set: ONE (upstreams.qingbo.credential and upstreams.studio.credential), "
        "TWO (upstreams.qingbo.webhook_secret), BLANK (upstreams.kling.credential); set them, or name files "
        "with file:PATH"
    )


def test_secrets_come_from_variables_and_files(
    tmp_path: Path, book: PriceBook, monkeypatch: pytest.MonkeyPatch, file: Path
) -> None:
    """A missing secret is named by its setting; a changed file is read again; nothing shows a secret."""
    settings = load_settings(file, environment={})
    with pytest.raises(
        SettingsError, match=r"upstreams\.qingbo\.credential: the variable QINGBO_KEY is not set"
    ):
        upstreams(settings, book)
    monkeypatch.setenv("QINGBO_KEY", "secret-text")
    found = upstreams(settings, book)
    assert found["qingbo"].headers() == {"Authorization": "Bearer secret-text"}
    assert found["studio-a"].headers() == {}
    assert "secret-text" not in repr(found) + repr(settings)
    path = tmp_path / "key"
    path.write_text("first\n")
    path.chmod(stat.S_IRUSR)
    secret = Secret(f"file:{path}", "upstreams.x.credential")
    assert secret.text() == "first"
    path.chmod(stat.S_IRUSR | stat.S_IWUSR)
    path.write_text("second one")
    os.utime(path, ns=(1, 1))
    assert secret.text() == "second one"
    for text, problem in (("", "is empty"), ("a\nb", "more than one line")):
        path.write_text(text)
        os.utime(path, ns=(2 + len(text), 2))
        with pytest.raises(SettingsError, match=problem):
            secret.text()


def test_an_unknown_provider_is_named(file: Path, book: PriceBook, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name of an upstream is its provider by default, and must then be one that the tables know."""
    monkeypatch.setenv("QINGBO_KEY", "x")
    file.write_text(FILE.replace("  qingbo:", "  qingbi:"))
    with pytest.raises(
        SettingsError,
        match=r"upstreams\.qingbi: .*qingbi.*or name the provider in the setting upstreams\.qingbi\.provider",
    ):
        upstreams(load_settings(file, environment={}), book)


def test_the_schema_describes_every_setting() -> None:
    """`serve --schema` prints a JSON Schema whose settings all have a default or are required."""
    printed = json.loads(run("serve", "--schema").stdout)
    assert printed == settings_schema()
    assert {"upstreams", "limits", "port"} <= {*printed["properties"]}
    assert printed["additionalProperties"] is False


def test_a_port_in_use_is_an_error(tmp_path: Path) -> None:
    """The command ends with the address and the remedy."""
    with listen("127.0.0.1", 0) as listening:
        port = str(listening.getsockname()[1])
        refused = run("serve", "--port", port, "--ledger", f"sqlite:///{tmp_path}/spend.db")
    assert refused.returncode == 2
    assert f"cannot listen on 127.0.0.1:{port}: address already in use; choose another" in refused.stderr


def test_what_a_server_cannot_use_is_named_before_it_starts(tmp_path: Path) -> None:
    """TLS files and a ledger that cannot be used end the command with the remedy."""
    ledger = f"sqlite:///{tmp_path}/spend.db"
    files = ["--tls-cert", str(tmp_path / "no.pem"), "--tls-key", str(tmp_path / "no.key")]
    refused = run("serve", *files, "--ledger", ledger)
    assert refused.returncode == 2
    assert "the TLS certificate and its key cannot be used: No such file" in refused.stderr
    refused = run("serve", "--ledger", f"sqlite:///{tmp_path}/no/such/spend.db")
    assert (refused.returncode, "no/such" in refused.stderr) == (2, True)
