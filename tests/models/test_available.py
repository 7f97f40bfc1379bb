"""Models are found by their file names."""

import subprocess
import sys

import pytest

from raymat.errors import ConfigError
from raymat.models import available, load_spec


def test_every_file_is_a_model():
    assert "cgcnn" in available()
    assert not any(name.startswith("_") for name in available())
    for name in available():
        spec = load_spec(name)
        assert spec.fit in {"gradient", "closed_form"}
        spec.config()  # every field has a default


def test_listing_models_does_not_import_them():
    code = (
        "import sys, raymat.models; raymat.models.available();"
        "sys.exit('torch' in sys.modules or 'raymat.models.cgcnn' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_unknown_model():
    with pytest.raises(ConfigError, match="there is no model 'cgnn'; did you mean 'cgcnn'"):
        load_spec("cgnn")
