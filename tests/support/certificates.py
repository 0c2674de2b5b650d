"""A certificate authority that nobody knows, and a certificate of "localhost" by it."""

from __future__ import annotations

import datetime as dt
import ipaddress
import ssl
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    """`bundle`: its own certificate, for who wants to trust it. `server`: for a server on this machine."""

    bundle: Path
    server: ssl.SSLContext


def authority(folder: Path) -> Authority:
    """A new one, its files in `folder`."""
    root, leaf = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    names = [x509.DNSName("localhost"), x509.DNSName("*.localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    signed = [
        (root.public_key(), "Test CA", x509.BasicConstraints(ca=True, path_length=0)),
        (leaf.public_key(), "localhost", x509.SubjectAlternativeName(names)),
    ]
    now = dt.datetime.now(dt.UTC)
    made = []
    for key, name, extension in signed:
        builder = x509.CertificateBuilder().subject_name(_named(name)).issuer_name(_named("Test CA"))
        builder = builder.public_key(key).serial_number(x509.random_serial_number())
        builder = builder.not_valid_before(now - dt.timedelta(days=1))
        builder = builder.not_valid_after(now + dt.timedelta(days=30)).add_extension(extension, critical=True)
        made.append(builder.sign(root, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    bundle, file = folder / "ca.pem", folder / "server.pem"
    bundle.write_bytes(made[0])
    plain = serialization.NoEncryption()
    file.write_bytes(made[1] + leaf.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return Authority(bundle=bundle, server=context)


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
