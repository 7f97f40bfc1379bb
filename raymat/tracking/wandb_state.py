"""Whether Weights & Biases can be used here; no key is ever read out."""

import netrc
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_HOST = "api.wandb.ai"


def has_credentials(environment: Mapping[str, str], home: Path) -> bool:
    """Say whether a key is at hand: in the environment, or in the user's netrc file."""
    if environment.get("WANDB_API_KEY"):
        return True
    path = Path(environment.get("NETRC") or home / ".netrc")
    server = environment.get("WANDB_BASE_URL", f"https://{_HOST}").partition("://")[2].split("/")[0]
    try:
        return netrc.netrc(path).authenticators(server.partition(":")[0]) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def say_wandb(environment: Mapping[str, str], home: Path) -> str:
    """Give one line on what `--wandb` could do here."""
    try:
        installed = f"wandb {version('wandb')}"
    except PackageNotFoundError:
        return "not installed: pip install 'raymat[wandb]'"
    mode = environment.get("WANDB_MODE", "")
    if mode in ("offline", "disabled"):
        return f"{installed}, {mode} by WANDB_MODE"
    if has_credentials(environment, home):
        return f"{installed}, with a key"
    return f"{installed}, no key: runs can be kept offline and synced later (`wandb login`)"
