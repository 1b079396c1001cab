"""Certificates for both ends of a connection, read again when their files change."""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import grpc

from kith.tls.watched_files import WatchedFiles


@dataclass(frozen=True, kw_only=True)
class CertificateFiles:
    """The files of certificates, in PEM: the own one with its key, and the trusted authorities."""

    chain: Path | None
    key: Path | None
    authorities: Path | None

    @property
    def paths(self) -> list[Path]:
        """Those that there are."""
        return [path for path in (self.chain, self.key, self.authorities) if path is not None]


@dataclass(frozen=True, kw_only=True)
class Certificates:
    """What the files hold; `pair` is one's own key and certificate."""

    pair: tuple[bytes, bytes] | None
    authorities: bytes | None


def read(files: CertificateFiles) -> Certificates:
    """Return what files hold; raises OSError or ValueError, for a key of another certificate too.

    gRPC says little about what it cannot use, and would take half of a pair that is being replaced.
    """
    if find_spec("cryptography") is None:
        raise ValueError("the extra `tls` is missing: pip install 'kith[tls]'")
    pair = _pair(files.chain, files.key) if files.chain and files.key else None
    return Certificates(pair=pair, authorities=_authorities(files.authorities))


def server_credentials(files: CertificateFiles) -> grpc.ServerCredentials:
    """Return what a server shows; with `authorities`, clients have to show a certificate of theirs.

    Connections that are open keep the certificate they began with.
    """
    watched = WatchedFiles(files.paths, lambda: _server_configuration(read(files)))
    given = watched.current()

    def renewed() -> grpc.ServerCertificateConfiguration | None:
        nonlocal given
        current = watched.current()
        if current is given:
            return None
        given = current
        return current

    return grpc.dynamic_ssl_server_credentials(
        given,
        renewed,  # type: ignore[arg-type]  # the stubs forget that None means no change
        require_client_authentication=files.authorities is not None,
    )


def channel_credentials(certificates: Certificates) -> grpc.ChannelCredentials:
    """Return what a client shows and believes."""
    key, chain = certificates.pair or (None, None)
    return grpc.ssl_channel_credentials(certificates.authorities, key, chain)


def _server_configuration(certificates: Certificates) -> grpc.ServerCertificateConfiguration:
    if certificates.pair is None:
        raise ValueError("a server needs a certificate")
    return grpc.ssl_server_certificate_configuration(
        [certificates.pair], root_certificates=certificates.authorities
    )


def _pair(chain_file: Path, key_file: Path) -> tuple[bytes, bytes]:
    from cryptography import x509  # noqa: PLC0415 -- clients without certificates need no extra
    from cryptography.hazmat.primitives.serialization import (  # noqa: PLC0415 -- as above
        load_pem_private_key,
    )

    chain, key = chain_file.read_bytes(), key_file.read_bytes()
    [own, *_] = x509.load_pem_x509_certificates(chain)
    try:
        public_key = load_pem_private_key(key, password=None).public_key()
    except TypeError as error:
        raise ValueError("the key is encrypted") from error
    if public_key != own.public_key():
        raise ValueError("the key is not the certificate's")
    return key, chain


def _authorities(file: Path | None) -> bytes | None:
    if file is None:
        return None
    from cryptography import x509  # noqa: PLC0415 -- clients without certificates need no extra

    content = file.read_bytes()
    x509.load_pem_x509_certificates(content)
    return content
