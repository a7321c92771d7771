"""Where a wandb server is and whether there is a key for it, found without importing wandb.

The places are those that wandb reads: environment variables, its settings files, and netrc. The key itself is never
handed on; who asks learns whether there is one.
"""

from __future__ import annotations

import configparser
import contextlib
import netrc
import os
import re
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

__all__ = ["DEFAULT_URL", "base_url", "has_key", "login_hint", "redacted", "without_password"]

DEFAULT_URL = "https://api.forge.coreweave.com"
UPSTREAM = {"forge.coreweave.com": "api.wandb.ai", "qa.forge.coreweave.com": "api.qa.wandb.ai"}
PROXY_PATH = "/api/wandb"  # where a Forge host passes requests on to its API host


def base_url() -> str:
    """Address of the server, without a password: ``WANDB_BASE_URL``, else wandb's settings files, else its cloud."""
    return _direct(without_password(os.environ.get("WANDB_BASE_URL") or _setting("base_url") or DEFAULT_URL))


def has_key() -> bool:
    """Whether wandb would find a key or token for the server of ``base_url``."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    return _netrc_has_key(base_url()) or bool(_setting("api_key"))


def login_hint() -> str:
    """How to give wandb a key for the server of ``base_url``."""
    host = "" if base_url() == DEFAULT_URL else f" --host {base_url()}"
    return f"log in with `wandb login{host}` or set WANDB_API_KEY"


def without_password(url: str) -> str:
    """A URL without ``user:password@``, and without a slash at its end."""
    parts = urlsplit(url.strip())
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])).rstrip("/")


def redacted(text: str) -> str:
    """Text of another program, fit for a log: one short line, passwords in URLs and what looks like a key left out."""
    line = " ".join(text.split())
    key = os.environ.get("WANDB_API_KEY")
    if key:
        line = line.replace(key, "…")
    line = re.sub(r"://[^/@\s]+@", "://", line)
    line = re.sub(r"[A-Za-z0-9_.-]{40,}", "…", line)
    return line if len(line) <= 160 else line[:159] + "…"


def _netrc_has_key(url: str) -> bool:
    path = _netrc_path()
    hosts = [urlsplit(url).netloc]
    for forge, upstream in UPSTREAM.items():
        if urlsplit(url).hostname in (forge, f"api.{forge}", upstream):
            hosts.append(upstream)
    try:
        known = netrc.netrc(path)
    except (OSError, netrc.NetrcParseError, UnicodeDecodeError):
        return False
    return any((known.authenticators(host) or ("", "", ""))[2] for host in hosts if host)


def _netrc_path() -> Path:
    if os.environ.get("NETRC"):
        return _home(os.environ["NETRC"])
    usual, windows = _home("~/.netrc"), _home("~/_netrc")
    return windows if windows.exists() and not usual.exists() else usual


def _setting(name: str) -> str:
    """A value of wandb's settings files; the one of the present folder wins over the one of the home folder."""
    folder = _home(os.environ.get("WANDB_CONFIG_DIR") or "~/.config/wandb")
    here = _home(os.environ.get("WANDB_DIR") or ".")
    for path in (here / "wandb" / "settings", folder / "settings"):
        parser = configparser.ConfigParser(interpolation=None)
        with contextlib.suppress(OSError, configparser.Error, UnicodeDecodeError):
            parser.read(path)
            value = parser.get("default", name, fallback="").strip()
            if value:
                return value
    return ""


def _direct(url: str) -> str:
    """The API host of an address of the Forge proxy, as wandb understands it."""
    parts = urlsplit(url)
    if parts.hostname in UPSTREAM and parts.path.rstrip("/") == PROXY_PATH:
        return f"https://api.{parts.hostname}"
    return url


def _home(path: str) -> Path:
    try:
        return Path(path).expanduser()
    except RuntimeError:  # no home folder
        return Path(path)
