"""Extension packages made of a few bytes."""

import io
import stat
import zipfile

LINUX = "x86_64_linux"
BINARY = b"\x7fELF the binary"
USUAL_PATH = f"extension/dist/bin/2.11.1/{LINUX}/Lingma"


def package(members: dict[str, bytes] | None = None, modes: dict[str, int] | None = None) -> bytes:
    """A zip of these members; by default one with the binary of two platforms where it usually is."""
    if members is None:
        members = {
            "extension/package.json": b"{}",
            "extension/dist/bin/2.11.1/aarch64_darwin/Lingma": b"the wrong one",
            USUAL_PATH: BINARY,
        }
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = (modes or {}).get(name, stat.S_IFREG | 0o644) << 16
            archive.writestr(info, content)
    return data.getvalue()
