"""Outputs on real object stores."""

from __future__ import annotations

import pytest

from airflow_provider_responses.enrich.storage import storage_at

pytestmark = pytest.mark.parts


def test_files_of_an_object_store(s3_path):
    storage = storage_at(s3_path / "out")
    assert storage.list_names("lease") == []
    assert storage.read_file("lease/one") is None
    assert storage.create_file("lease/one", b"1")
    assert not storage.create_file("lease/one", b"2")
    storage.write_file("lease/two", b"2")
    assert storage.list_names("lease") == ["one", "two"]
    storage.delete_file("lease/one")
    storage.delete_file("lease/one")
    assert storage.list_names("lease") == ["two"]
