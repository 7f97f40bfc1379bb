"""The golden MEGNet: its tensors in Keras' layout, filled by the formula of the golden file."""

import json

import numpy as np
from golden import REFERENCE
from numpy.typing import NDArray

GOLDEN = json.loads((REFERENCE / "megnet.json").read_text(encoding="utf-8"))
STRUCTURES = GOLDEN["structures"]
BONDED = tuple(n for n, s in STRUCTURES.items() if s["synthetic_T3_cutoff4"] is not None)
TOLERANCE = 1e-4  # absolute: as the golden README says
# The golden numbers have 8 digits and come from float64 distances, the table's are float32.
TIGHT = 1e-8


def keras_tensors() -> dict[str, dict[str, NDArray[np.float64]]]:
    """Give the tensors by layer and name, matrices as (in, out)."""
    layers: dict[str, dict[str, NDArray[np.float64]]] = {}
    for t, (layer, name, shape) in enumerate(GOLDEN["synthetic_order"]):
        layers.setdefault(layer, {})[name] = _filled(name, shape, t)
    return layers


def _filled(name: str, shape: list[int], t: int) -> NDArray[np.float64]:
    phase = 0.7 * t + 0.37 * np.arange(int(np.prod(shape)))
    if name == "embeddings":
        values = np.sin(1.0 + phase)
    elif len(shape) == 2:
        values = np.sin(1.0 + phase) / np.sqrt(shape[0])
    else:
        values = 0.1 * np.cos(phase)
    return values.reshape(shape)


def golden_state() -> dict[str, NDArray[np.float64]]:
    """Give the same tensors under the network's own names, written out and not by its importer."""
    keras = keras_tensors()
    state = {"elements.weight": keras["embedding_1"]["embeddings"]}
    nets = [f"{net}.{part}.{layer}" for net in ("nets", "blocks.1.nets", "blocks.2.nets")
            for part in ("atoms", "bonds", "state") for layer in ("first", "second")]  # fmt: skip
    for i, name in enumerate([*nets, "head.first", "head.second", "output"], start=1):
        dense = keras[f"dense_{i}"]
        state |= {f"{name}.weight": dense["kernel"].T, f"{name}.bias": dense["bias"]}
    for i in range(3):
        layer = keras[f"meg_net_layer_{i + 1}"]
        for phi in "evu":
            for j, place in enumerate(("first", "second", "third")):
                name = f"blocks.{i}.layer.phi_{phi}.{place}"
                state[f"{name}.weight"] = layer[f"weight_{phi}_{j}"].T
                state[f"{name}.bias"] = layer[f"bias_{phi}_{j}"]
    for part, layer in (("atoms", keras["set2_set_1"]), ("bonds", keras["set2_set_2"])):
        state[f"read_{part}.project.weight"] = layer["x_to_m_weight"].T
        state[f"read_{part}.project.bias"] = layer["x_to_m_bias"]
        state[f"read_{part}.recurrent.weight"] = layer["recurrent_kernel"].T
        state[f"read_{part}.recurrent.bias"] = layer["recurrent_bias"]
    return state
