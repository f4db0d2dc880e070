"""An installation for pages and their scripts."""

from __future__ import annotations

import pytest

from .installation import Installation


@pytest.fixture
def installation(tmp_path):
    found = Installation(tmp_path)
    yield found
    found.close()
