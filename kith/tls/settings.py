"""Which files hold certificates, and where a connection could be overheard without."""

import ipaddress

from kith.environment import Environment
from kith.tls import certificates
from kith.tls.certificates import CertificateFiles


def certificate_files(
    environment: Environment, *, chain: str, key: str, authorities: str
) -> CertificateFiles:
    """Read the variables that name PEM files; what cannot be used is noted in the environment."""
    files = CertificateFiles(
        chain=environment.file(chain),
        key=environment.file(key),
        authorities=environment.file(authorities),
    )
    if bool(files.chain) != bool(files.key):
        environment.problem(chain, f"and {key} must be set together")
    if files.paths:
        environment.require(chain if files.chain else authorities, lambda: certificates.read(files))
    return files


def is_loopback(host: str) -> bool:
    """Whether an address can be reached from this machine alone; no for a name but localhost."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"
