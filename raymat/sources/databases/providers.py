"""The databases that crystals are fetched from: names, addresses, licences.

Base URLs are those of the OPTIMADE consortium's list (Materials-Consortia/providers, its index of
each provider), which is written down here so that nothing but the asked provider is ever called.
"""

from dataclasses import dataclass
from urllib.parse import urlsplit

from raymat.errors import ConfigError, did_you_mean


@dataclass(frozen=True)
class Provider:
    """One OPTIMADE database.

    Attributes:
        name: what the command line calls it; "" for a plain base URL.
        prefix: the provider's prefix in OPTIMADE, which its own fields begin with; "" until the
            server has told it.
        title: name for people.
        base_url: without version and without slash at the end.
        licence: of the data as the provider publishes it; "" where raymat does not know it.
    """

    name: str
    prefix: str
    title: str
    base_url: str
    licence: str = ""


_CC_BY = "CC-BY-4.0"
PROVIDERS: dict[str, Provider] = {
    p.name: p
    for p in (
        Provider("mp", "mp", "Materials Project", "https://optimade.materialsproject.org", _CC_BY),
        Provider("oqmd", "oqmd", "OQMD", "https://oqmd.org/optimade", _CC_BY),
        Provider("nomad", "nmd", "NOMAD", "https://nomad-lab.eu/prod/rae/optimade", _CC_BY),
        Provider(
            "alexandria",
            "alexandria",
            "Alexandria, PBE",
            "https://alexandria.icams.rub.de/pbe",
        ),
        Provider(
            "alexandria-pbesol",
            "alexandria",
            "Alexandria, PBEsol",
            "https://alexandria.icams.rub.de/pbesol",
        ),
        Provider("jarvis", "jarvis", "JARVIS-DFT", "https://jarvis.nist.gov/optimade/jarvisdft"),
        Provider(
            "cod",
            "cod",
            "Crystallography Open Database",
            "https://www.crystallography.net/cod/optimade",
        ),
        Provider(
            "tcod",
            "tcod",
            "Theoretical Crystallography Open Database",
            "https://www.crystallography.net/tcod/optimade",
        ),
        Provider(
            "cmr", "cmr", "Computational materials repository", "https://cmr-optimade.fysik.dtu.dk"
        ),
        Provider("2dmatpedia", "twodmatpedia", "2DMatpedia", "http://optimade.2dmatpedia.org"),
    )
}


def find_provider(text: str) -> Provider:
    """Give the provider of that name, or one that answers at a base URL.

    Raises:
        ConfigError: no such name, or no usable URL.
    """
    if text in PROVIDERS:
        return PROVIDERS[text]
    if "://" not in text:
        hint = did_you_mean(text, PROVIDERS)
        raise ConfigError(f"PROVIDER: '{text}' is no provider{hint} (or give a base URL)")
    return _at_url(text)


def _at_url(text: str) -> Provider:
    try:
        parts = urlsplit(text)
        is_usable = parts.scheme in ("http", "https") and bool(parts.hostname)
        _ = parts.port  # a port that is no number raises here
    except ValueError:
        is_usable = False
    if not is_usable or parts.query or parts.fragment or parts.username is not None:
        wanted = "http(s)://HOST/PATH, without user, query or fragment"
        raise ConfigError(f"PROVIDER: '{_without_user(text)}' is no base URL; expected {wanted}")
    base = _without_version(text.rstrip("/"))
    known = [p for p in PROVIDERS.values() if p.base_url == base]
    return known[0] if known else Provider("", "", parts.hostname or base, base)


def _without_user(text: str) -> str:
    """Leave out what stands before an @: it may be a password."""
    scheme, _, rest = text.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"


def _without_version(url: str) -> str:
    """Leave out ``/v1`` and ``/structures``, which people copy from a browser."""
    for ending in ("/structures", "/info", "/v1"):
        url = url.removesuffix(ending)
    return url.rstrip("/")
