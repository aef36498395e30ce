"""The two images, built once."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.images.builder import Builder, Image, need_builder


@pytest.fixture(scope="session")
def builder() -> Iterator[Builder]:
    need_builder()
    # Not among pytest's own directories, which it keeps: this one holds gigabytes.
    builder = Builder(Path(tempfile.mkdtemp(prefix="images-")))
    try:
        builder.import_base()
        yield builder
    finally:
        builder.close()


@pytest.fixture(scope="session")
def gateway_image(builder: Builder) -> Image:
    return builder.build("gateway")


@pytest.fixture(scope="session")
def worker_image(builder: Builder) -> Image:
    return builder.build("worker")


@pytest.fixture(scope="session", params=["gateway", "worker"])
def image(request: pytest.FixtureRequest) -> Image:
    found: Image = request.getfixturevalue(f"{request.param}_image")
    return found
