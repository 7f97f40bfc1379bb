import numpy as np
import pytest

from raymat.data.readers import load_crystals


def test_delta_is_whole_and_physical() -> None:
    loaded = load_crystals("delta", target="log10_bulk_modulus")
    crystals = loaded.crystals
    assert (loaded.source.name, loaded.source.path) == ("delta", None)
    assert (len(crystals), loaded.source.n_rejected) == (71, 0)
    moduli = dict(zip(crystals.material_ids, crystals.target("bulk_modulus"), strict=True))
    # WIEN2k row of silicon in the Delta table, GPa
    assert moduli["delta-Si"] == pytest.approx(88.545)
    np.testing.assert_allclose(
        crystals.target("log10_bulk_modulus"), np.log10(crystals.target("bulk_modulus"))
    )
    volumes = np.abs(np.linalg.det(crystals.lattices)) / crystals.n_sites
    np.testing.assert_allclose(volumes, crystals.target("volume_per_atom"), rtol=0.04)


def test_delta_hash_is_the_same_every_time() -> None:
    assert load_crystals("delta").source.sha256 == load_crystals("delta").source.sha256
