"""What `--track` comes to on this machine: keys are found where wandb finds them, and bad names are refused at once."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from drivetrain.envs.errors import UserError
from drivetrain.main import main
from drivetrain.wandb_key import DEFAULT_URL, base_url, has_key, login_hint, redacted
from drivetrain.wandb_options import TrackOptions, project_of, tracking

KEY = "k" * 40


@pytest.fixture(autouse=True)
def nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user without any trace of wandb; returns the home folder."""
    for name in list(__import__("os").environ):
        if name.startswith("WANDB_") or name == "NETRC":
            monkeypatch.delenv(name)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(tmp_path)
    return home


def options(**values: Any) -> TrackOptions:
    return TrackOptions.model_validate(values)


def test_without_a_key_auto_stays_local_and_says_how_to_log_in() -> None:
    found = tracking(options())
    assert found.mode == "none"
    assert "wandb login" in found.note
    assert "--track offline" in found.note


def test_with_a_key_auto_asks_the_server_and_wandb_goes_online(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    assert tracking(options()).mode == "auto"
    assert tracking(options(track="wandb")).mode == "online"
    assert tracking(options(track="offline")).mode == "offline"
    assert tracking(options(track="none")).mode == "none"


def test_wandb_without_a_key_is_refused_with_the_way_out() -> None:
    with pytest.raises(UserError, match="wandb login") as caught:
        tracking(options(track="wandb"))
    assert caught.value.code == 2
    assert "--track offline" in str(caught.value)
    assert "runs sync" in str(caught.value)


def test_a_run_that_goes_on_is_not_kept_from_it_by_a_key_that_is_gone() -> None:
    assert tracking(options(track="wandb"), typed=False).mode == "offline"


def test_wandbs_own_switch_holds_where_nothing_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    for wish, mode in (("disabled", "none"), ("offline", "offline"), ("online", "auto")):
        monkeypatch.setenv("WANDB_MODE", wish)
        assert tracking(options()).mode == mode
        assert tracking(options(track="wandb")).mode == "online"


@pytest.mark.parametrize(
    ("machine", "url"),
    [
        ("api.forge.coreweave.com", None),
        ("api.wandb.ai", None),  # the host behind it, under which older keys were stored
        ("api.wandb.ai", "https://api.wandb.ai"),
        ("api.wandb.ai", "https://forge.coreweave.com/api/wandb"),
        ("wandb.lab:8080", "http://wandb.lab:8080"),
        ("wandb.lab:8080", "http://user:secret@wandb.lab:8080/"),
    ],
)
def test_netrc_is_read_for_the_host_in_use(
    nobody: Path, monkeypatch: pytest.MonkeyPatch, machine: str, url: str | None
) -> None:
    if url is not None:
        monkeypatch.setenv("WANDB_BASE_URL", url)
    assert not has_key()
    (nobody / ".netrc").write_text(f"machine {machine}\n  login user\n  password {KEY}\n")
    assert has_key()
    monkeypatch.setenv("WANDB_BASE_URL", "https://another.host")
    assert not has_key()


def test_other_places_of_a_key_count_too(nobody: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (nobody / "elsewhere").write_text(f"machine {DEFAULT_URL.removeprefix('https://')} login user password {KEY}\n")
    monkeypatch.setenv("NETRC", str(nobody / "elsewhere"))
    assert has_key()
    monkeypatch.delenv("NETRC")
    monkeypatch.setenv("WANDB_IDENTITY_TOKEN_FILE", "token.jwt")
    assert has_key()
    monkeypatch.delenv("WANDB_IDENTITY_TOKEN_FILE")
    (nobody / ".config" / "wandb").mkdir(parents=True)
    (nobody / ".config" / "wandb" / "settings").write_text(f"[default]\napi_key = {KEY}\nbase_url = http://a.lab\n")
    assert has_key()
    assert base_url() == "http://a.lab"
    (tmp_path / "wandb").mkdir()
    (tmp_path / "wandb" / "settings").write_text("[default]\nbase_url = http://b.lab/\n")
    assert base_url() == "http://b.lab"
    assert "--host http://b.lab" in login_hint()


def test_damaged_files_are_no_key(nobody: Path) -> None:
    (nobody / ".netrc").write_bytes(b"machine \xff\xfe nonsense here\n")
    (nobody / ".config" / "wandb").mkdir(parents=True)
    (nobody / ".config" / "wandb" / "settings").write_text("no section\n")
    assert not has_key()
    assert base_url() == DEFAULT_URL


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"project": "a/b"}, "--project"),
        ({"project": "a:b"}, "--project"),
        ({"project": ""}, "--project"),
        ({"project": "p" * 129}, "--project"),
        ({"project": " p"}, "--project"),
        ({"entity": "a team"}, "--entity"),
        ({"group": " "}, "--group"),
        ({"tags": ("x" * 65,)}, "--tags"),
    ],
)
def test_names_that_wandb_refuses_are_refused_here(values: dict[str, Any], words: str) -> None:
    for track in ("auto", "offline"):
        with pytest.raises(UserError, match=words) as caught:
            tracking(options(track=track, **values))
        assert caught.value.code == 2


def test_wandb_agrees_about_projects_and_tags() -> None:
    import wandb

    for project, fits in (("p" * 128, True), ("p" * 129, False), ("a b", True), ("a%b", False), ("a\\b", False)):
        try:
            wandb.Settings(project=project)
            assert fits, project
        except wandb.errors.UsageError:
            assert not fits, project
        if fits:
            tracking(options(track="offline", project=project))
        else:
            with pytest.raises(UserError, match="--project"):
                tracking(options(track="offline", project=project))


def test_a_bad_project_is_one_line_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], nobody: Path
) -> None:
    before = sorted(tmp_path.iterdir())
    for argv in (["--track", "wandb"], ["--track", "offline", "--project", "a/b"]):
        assert main(["train", "ppo", "racing", *argv, "--name", "r"]) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: --")
        assert error.count("\n") == 1
    for task in ("function", "imitate"):
        assert main(["pretrain", task, "--track", "wandb", "--name", "r"]) == 2
    assert sorted(tmp_path.iterdir()) == before


def test_the_project_is_the_users_else_wandbs_else_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    assert project_of(None) == "drivetrain"
    monkeypatch.setenv("WANDB_PROJECT", "theirs")
    assert project_of(None) == "theirs"
    assert project_of("mine") == "mine"
    monkeypatch.setenv("WANDB_PROJECT", "a/b")
    with pytest.raises(UserError, match="WANDB_PROJECT"):
        tracking(options(track="offline"))


def test_what_another_program_says_is_shortened_and_loses_its_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "short-key")
    said = redacted(f"POST http://me:pass@host/x\n failed with {KEY} and short-key " + "word " * 100)
    assert "pass" not in said
    assert KEY not in said
    assert "short-key" not in said
    assert "\n" not in said
    assert len(said) <= 160


def test_the_trainer_never_loads_wandb(monkeypatch: pytest.MonkeyPatch) -> None:
    import subprocess

    code = "import drivetrain.train, drivetrain.session, drivetrain.pretrain_run, sys; print('wandb' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
