"""A certificate authority that nobody knows, and certificates by it."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

import trustme


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    """`bundle`: its own certificate, for who wants to trust it. `server`: for a server on this machine."""

    bundle: Path
    server: ssl.SSLContext
    ca: trustme.CA

    def server_named(self, *names: str) -> ssl.SSLContext:
        """For a server of these names."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.ca.issue_cert(*names).configure_cert(context)
        return context


def authority(folder: Path) -> Authority:
    """A new one, its file in `folder`."""
    ca, bundle = trustme.CA(), folder / "ca.pem"
    ca.cert_pem.write_to_path(str(bundle))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("localhost", "*.localhost", "127.0.0.1").configure_cert(context)
    return Authority(bundle=bundle, server=context, ca=ca)
