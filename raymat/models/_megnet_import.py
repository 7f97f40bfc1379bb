"""Bring in MEGNets of crystals that the authors' code `materialsvirtuallab/megnet` saved (BSD-3).

Such a model is two files: `NAME.hdf5`, a Keras model, and `NAME.hdf5.json`, which says how its
graphs are made. Keras stores matrices as (in, out), and layers under names that are numbered in
the order in which the network is written down; later files name them by their place in it.
"""

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from torch import Tensor

from raymat.data.scaling import TargetScaling
from raymat.errors import ModelFileError
from raymat.models._spec import Output
from raymat.models._weights import load_weights
from raymat.models.megnet import CENTERS_BEYOND_CUTOFF, MAX_ATOMIC_NUMBER, MEGNet, MEGNetConfig
from raymat.reading import read_json
from raymat.text import quoted

_SET2SET = {
    "project.weight": "x_to_m_weight",
    "project.bias": "x_to_m_bias",
    "recurrent.weight": "recurrent_kernel",
    "recurrent.bias": "recurrent_bias",
}
_SAME_CENTER = 1e-6  # Å
_NO_SCALER = "DummyScaler"


@dataclass(frozen=True)
class _KerasFile:
    """What an HDF5 file holds.

    Attributes:
        path: the file.
        layers: tensors of every layer by their names, without the layer's own.
        described: configuration of every layer; empty if only weights were saved.
    """

    path: Path
    layers: dict[str, dict[str, NDArray[np.float32]]]
    described: dict[str, dict[str, Any]]

    def having(self, tensor: str) -> list[str]:
        """Give the names of the layers with such a tensor, in the order of the network."""
        return sorted((n for n, tensors in self.layers.items() if tensor in tensors), key=_place)

    def tensor(self, layer: str, name: str) -> Tensor:
        """Give a tensor as PyTorch stores it: a matrix is (out, in)."""
        if name not in self.layers[layer]:
            raise ModelFileError(f"{self.path}: layer '{layer}' lacks its tensor '{name}'")
        return torch.from_numpy(self.layers[layer][name].T.copy())


@dataclass(frozen=True)
class _GraphSettings:
    cutoff: float  # Å
    width: float  # Å
    n_centers: int
    scaling: TargetScaling


def import_megnet(path: Path, *, set2set_steps: int | None = None) -> tuple[MEGNetConfig, MEGNet]:
    """Read one published model; the network is in evaluation mode.

    Where the authors' code scaled the targets, its scaling becomes part of the network's last
    layer, so the network's output is in the target's own unit.

    Args:
        path: the HDF5 file; its JSON file must lie beside it.
        set2set_steps: passes of Set2Set, for a file of weights alone; a whole model holds them.

    Raises:
        ModelFileError: h5py is not installed, a file is missing or it holds something else, such as
            a model of totals of a cell.
    """
    keras = _read_keras(path)
    graph = _read_graph_settings(path.with_name(f"{path.name}.json"))
    steps = _set2set_steps(keras) if set2set_steps is None else set2set_steps
    config = _config_of(keras, graph, steps)
    network = MEGNet(config, _output(keras))
    load_weights(network, dict(_own_weights(keras, config)), where=str(path))
    if network.predicts == "regression":
        _restore_unit(network, graph.scaling)
    return config, network.eval()


def _restore_unit(network: MEGNet, scaling: TargetScaling) -> None:
    with torch.no_grad():
        network.output.weight.mul_(scaling.std)
        network.output.bias.mul_(scaling.std).add_(scaling.mean)


def _read_keras(path: Path) -> _KerasFile:
    try:
        import h5py
    except ImportError as cause:
        needs = "reading it needs h5py; install it with `pip install h5py`"
        raise ModelFileError(f"{path}: {needs}") from cause
    layers: dict[str, dict[str, NDArray[np.float32]]] = {}

    def keep(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset) and item.dtype.kind == "f":  # layer/.../tensor:0
            tensor = name.rsplit("/", 1)[-1].partition(":")[0]
            layers.setdefault(name.split("/", 1)[0], {})[tensor] = item[...].astype(np.float32)

    try:
        with h5py.File(path, "r") as file:
            file.get("model_weights", file).visititems(keep)
            model = json.loads(file.attrs.get("model_config", "{}"))
    except (OSError, ValueError) as cause:
        raise ModelFileError(f"{path}: cannot be read as a Keras HDF5 file ({cause})") from cause
    described = [layer["config"] for layer in model.get("config", {}).get("layers", [])]
    return _KerasFile(path, layers, {layer["name"]: layer for layer in described})


def _read_graph_settings(path: Path) -> _GraphSettings:
    try:
        content = read_json(path)
        graph = _either(content, "graph_converter", "graph_convertor")
        expansion = _either(graph, "bond_converter", "bond_convertor")
        centers = expansion["centers"]
        centers = np.array(centers["data"] if isinstance(centers, dict) else centers, dtype=float)
        found = _GraphSettings(
            float(graph["cutoff"]),
            float(expansion["width"]),
            len(centers),
            _read_scaling(content.get("target_scaler") or {}, path),
        )
    except OSError as cause:
        why = f"cannot be read ({cause}); it holds the model's cutoff"
        raise ModelFileError(f"{path}: {why}") from cause
    except (ValueError, TypeError, KeyError) as cause:
        why = f"not the JSON of a MEGNet of crystals ({cause!r})"
        raise ModelFileError(f"{path}: {why}") from cause
    _check_centers(centers, found.cutoff, path)
    return found


def _read_scaling(scaler: dict[str, Any], path: Path) -> TargetScaling:
    """Read the authors' scaler: outputs times std plus mean, for totals times atoms of a cell."""
    kind = scaler.get("@class", _NO_SCALER)
    if kind == _NO_SCALER:
        return TargetScaling()
    if kind != "StandardScaler":
        known = f"expected {_NO_SCALER} or StandardScaler"
        raise ModelFileError(f"{path}: targets scaled by {quoted(kind)}; {known}")
    if not scaler.get("is_intensive", True):
        raise ModelFileError(
            f"{path}: a model of totals of a cell (its target_scaler has is_intensive false); only"
            " models of intensive targets, such as energies per atom, are read"
        )
    mean, std = float(scaler["mean"]), float(scaler["std"]) or 1.0  # as the authors have it
    if not (math.isfinite(mean) and 0 < std < math.inf):
        raise ModelFileError(
            f"{path}: target_scaler: mean {mean:g} and std {std:g}; expected finite numbers, std"
            " above 0"
        )
    return TargetScaling(mean, std)


def _check_centers(centers: NDArray[np.float64], cutoff: float, path: Path) -> None:
    end = cutoff + CENTERS_BEYOND_CUTOFF
    expected = np.linspace(0.0, end, len(centers))
    if len(centers) < 2 or np.abs(centers - expected).max() > _SAME_CENTER:
        found = f"{centers.min(initial=np.inf):g} to {centers.max(initial=-np.inf):g}"
        raise ModelFileError(
            f"{path}: {len(centers)} Gaussians from {found} Å; expected them evenly from 0 to "
            f"{end:g} for its cutoff of {cutoff:g}"
        )


def _either(content: dict[str, Any], name: str, old_name: str) -> dict[str, Any]:
    found: dict[str, Any] = content[name if name in content else old_name]
    return found


def _set2set_steps(keras: _KerasFile) -> int:
    layers = keras.having("x_to_m_weight")
    steps: set[Any] = {keras.described.get(layer, {}).get("T") for layer in layers}
    if len(steps) != 1 or None in steps:
        found = "no" if steps <= {None} else f"{len(steps)} different"
        raise ModelFileError(f"{keras.path}: {found} numbers of Set2Set passes; give set2set_steps")
    return int(steps.pop())


def _config_of(keras: _KerasFile, graph: _GraphSettings, steps: int) -> MEGNetConfig:
    n_blocks = len(keras.having("weight_e_0"))
    dense = [keras.layers[name]["kernel"].shape for name in keras.having("kernel")]
    tables = [keras.layers[name]["embeddings"].shape for name in keras.having("embeddings")]
    if len(dense) != 6 * n_blocks + 3 or n_blocks == 0:
        found = f"{len(dense)} dense layers and {n_blocks} blocks"
        raise ModelFileError(f"{keras.path}: {found}; expected 6 per block and 3 more")
    if [rows for rows, _ in tables] != [MAX_ATOMIC_NUMBER + 1]:
        expected = f"expected one table of {MAX_ATOMIC_NUMBER + 1} elements"
        raise ModelFileError(f"{keras.path}: embeddings of shapes {tables}; {expected}")
    if dense[2][0] != graph.n_centers:
        found = f"made for {dense[2][0]} Gaussians, but its JSON lists {graph.n_centers}"
        raise ModelFileError(f"{keras.path}: {found}")
    try:
        return MEGNetConfig(
            cutoff=graph.cutoff,
            n_blocks=n_blocks,
            element_dim=tables[0][1],
            hidden_dim=dense[0][1],
            attribute_dim=dense[1][1],
            set2set_dim=dense[-2][1],
            set2set_steps=steps,
            n_centers=graph.n_centers,
            width=graph.width,
            state_dim=dense[4][0],
        )
    except ValidationError as cause:
        problem = cause.errors()[0]
        what = f"{problem['loc'][0]}: {problem['msg']}, found {problem['input']}"
        raise ModelFileError(f"{keras.path}: out of bounds ({what})") from cause


def _output(keras: _KerasFile) -> Output:
    output = keras.described.get(keras.having("kernel")[-1], {})
    return "classification" if output.get("activation") == "sigmoid" else "regression"


def _own_weights(keras: _KerasFile, config: MEGNetConfig) -> Iterator[tuple[str, Tensor]]:
    """Give the network's tensors by their names here."""
    yield "elements.weight", keras.tensor(keras.having("embeddings")[0], "embeddings").t()
    for name, layer in zip(_dense_names(config), keras.having("kernel"), strict=True):
        yield f"{name}.weight", keras.tensor(layer, "kernel")
        yield f"{name}.bias", keras.tensor(layer, "bias")
    for i, layer in enumerate(keras.having("weight_e_0")):
        for phi in "evu":
            for j, place in enumerate(("first", "second", "third")):
                name = f"blocks.{i}.layer.phi_{phi}.{place}"
                yield f"{name}.weight", keras.tensor(layer, f"weight_{phi}_{j}")
                yield f"{name}.bias", keras.tensor(layer, f"bias_{phi}_{j}")
    for part, layer in zip(("atoms", "bonds"), keras.having("x_to_m_weight"), strict=False):
        for own, name in _SET2SET.items():
            yield f"read_{part}.{own}", keras.tensor(layer, name)


def _dense_names(config: MEGNetConfig) -> Iterator[str]:
    """Give this network's names of the dense layers, in the order of the authors' network."""
    for nets in ("nets", *(f"blocks.{i}.nets" for i in range(1, config.n_blocks))):
        for part in ("atoms", "bonds", "state"):
            yield f"{nets}.{part}.first"
            yield f"{nets}.{part}.second"
    yield from ("head.first", "head.second", "output")


def _place(layer: str) -> tuple[int, list[str]]:
    """Give a key that sorts layers of one kind as they stand in the network.

    Such names are dense, dense_1, ..., dense_20, or preblock_atom_0, block_1_atom_ff_0,
    readout_0: before the blocks, a numbered block, after them; then atom, bond, state.
    """
    stage = {"preblock": 0, "block": 1, "readout": 2}.get(layer.split("_")[0], 0)
    words = re.findall(r"\d+|[a-z]+", layer)
    return stage, [f"{int(word):09d}" if word.isdigit() else word for word in words]
