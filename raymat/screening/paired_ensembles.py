"""The ensembles of a screening: members that are pairs, the same ones on every host."""

import hashlib
import platform
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from raymat.ensembles.stored import (
    DESCRIPTION,
    DOMAIN,
    LEARNED,
    MEMBERS,
    OUTPUTS,
    Ensemble,
    load_ensemble,
)
from raymat.errors import ConfigError, RunError
from raymat.reading import open_file

MIN_SHARE_TRAINED = 0.5  # of the planned members; an ensemble of what is left is none
MIN_SHARE_PAIRED = 0.5  # of an ensemble's weight


def load_ensembles(folders: Mapping[str, str]) -> dict[str, Ensemble]:
    """Read the ensembles of a screening; only members that count in all of them are kept.

    Raises:
        ModelFileError: a folder is no ensemble, or its run is not complete.
        ConfigError: an ensemble lost too many members, or no two numbers count in all of them.
    """
    found = {name: load_ensemble(Path(folder)) for name, folder in folders.items()}
    for name, ensemble in found.items():
        n = len(ensemble.members)
        if n < MIN_SHARE_TRAINED * ensemble.n_planned:
            raise ConfigError(
                f"{ensemble.folder} ('{name}'): only {n} of {ensemble.n_planned} members could be"
                " trained; a probability needs most of them: train the ensemble again"
            )
    common = set.intersection(*map(_counted, found.values()))
    if len(common) < 2:
        raise ConfigError(
            f"the ensembles have {len(common)} member numbers in common that have a weight; member"
            " n of one is paired with member n of the others, so train them with the same"
            " --members, and all of them with equal weights"
        )
    for name, ensemble in found.items():
        kept = ensemble.weights[[number in common for number in ensemble.numbers]].sum()
        # Members of equal weight stand for each other; chosen ones do not.
        if np.ptp(ensemble.weights) > 0 and kept < MIN_SHARE_PAIRED:
            raise ConfigError(
                f"{ensemble.folder} ('{name}'): the {len(common)} members that count in all"
                f" ensembles hold {kept:.0%} of its weight, so they are not what was scored and"
                " calibrated; train the ensembles with the same --members, and with --equal"
            )
    return {name: ensemble.take(common) for name, ensemble in found.items()}


def load_same_ensembles(
    folders: Mapping[str, str], fingerprints: Mapping[str, str]
) -> dict[str, Ensemble]:
    """Read the ensembles on a host that may not see the folders that the run began with.

    Raises:
        RunError: a folder is not there, or not the same.
        ModelFileError: a file of it is damaged.
    """
    host = platform.node()
    for name, folder in folders.items():
        try:
            found = find_fingerprint(Path(folder))
        except OSError as cause:
            raise RunError(
                f"{folder} ('{name}'): the ensemble folder is not seen on {host}"
                f" ({cause.strerror}); put it on a disk that all hosts share"
            ) from cause
        if found != fingerprints[name]:
            raise RunError(
                f"{folder} ('{name}'): the ensemble folder is not the same on {host} as where the"
                f" run was started (SHA-256 {found[:12]}, there {fingerprints[name][:12]}); put it"
                " on a disk that all hosts share, and start a new run if it was changed"
            )
    return load_ensembles(folders)


def find_fingerprint(folder: Path) -> str:
    """Give the SHA-256 of everything that an ensemble predicts with.

    That is `ensemble.json`, the domain, the crystals learned from, and the members' models without
    the predictions of their own crystals.

    Raises:
        OSError: a file cannot be read.
    """
    models = sorted(
        file
        for file in (folder / MEMBERS).glob("[0-9]*/*")
        if file.name != OUTPUTS and not file.name.startswith(".")
    )
    rest = [file for file in (folder / DOMAIN, folder / LEARNED) if file.exists()]
    digest = hashlib.sha256()
    for path in (folder / DESCRIPTION, *rest, *models):
        with open_file(path) as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        digest.update(f"{path.relative_to(folder)} {content}\n".encode())
    return digest.hexdigest()


def check_same_ensembles(
    folders: Mapping[str, str], found: Mapping[str, str], known: Mapping[str, str]
) -> None:
    """Check the ensembles of a run that is continued: shards of others cannot be ranked together.

    Args:
        folders: prediction -> folder.
        found: prediction -> fingerprint.
        known: the same when the run began; empty for a run that begins.

    Raises:
        RunError: one has changed.
    """
    for name, before in known.items():
        if found[name] != before:
            raise RunError(
                f"{folders[name]} ('{name}'): the ensemble has changed since the run began (SHA-256"
                f" {found[name][:12]}, was {before[:12]}); start a new run"
            )


def _counted(ensemble: Ensemble) -> set[int]:
    """Give the numbers of the members that have a weight: no other one changes an average."""
    return {
        number
        for number, weight in zip(ensemble.numbers, ensemble.weights, strict=True)
        if weight > 0
    }
