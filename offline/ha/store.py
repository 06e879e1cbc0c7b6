"""The store of the head's state on this machine: a Redis with a replica, TLS and a password, as ElastiCache.

Programs connect to one address, which moves from the primary to the replica when the replica is promoted.
"""

from __future__ import annotations

import secrets
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from offline.errors import OfflineError
from offline.local.ports import free_ports
from offline.local.processes import Command

PRIMARY, REPLICA = "redis", "redis-replica"
SERVERS = ("redis-server", "valkey-server")
_VALID_DAYS = 30


class Store:
    """Commands that start the servers, and what a client needs to know. No command line has the password."""

    def __init__(self, directory: Path, host: str, *, server: str | None = None) -> None:
        self.server = server or find_server()
        self._directory = directory
        self._host = host
        self.port, replica = free_ports(2, host)
        self._ports: dict[str, int] = {PRIMARY: self.port, REPLICA: replica}
        directory.mkdir(parents=True, exist_ok=True)
        self.password = secrets.token_hex(16)
        self.ca = directory / "ca.crt"
        self._certify()

    @property
    def address(self) -> str:
        """As KubeRay's `redisAddress`."""
        return f"rediss://{self._host}:{self.port}"

    def command(self, name: str) -> Command:
        """Start `PRIMARY` or `REPLICA`. What it held is there again, as with ElastiCache."""
        lines = [
            f"bind {self._host}",
            "port 0",
            f"tls-port {self._ports[name]}",
            "tls-auth-clients no",
            f"tls-cert-file {self._directory / 'redis.crt'}",
            f"tls-key-file {self._directory / 'redis.key'}",
            f"tls-ca-cert-file {self.ca}",
            f"requirepass {self.password}",
            f"masterauth {self.password}",
            "tls-replication yes",
            "repl-diskless-sync-delay 0",
            f"dir {self._directory}",
            'save ""',
            "appendonly yes",
            f"appenddirname {name}",
        ]
        if name == REPLICA:
            lines.append(f"replicaof {self._host} {self._ports[PRIMARY]}")
        file = self._directory / f"{name}.conf"
        file.touch(mode=0o600)
        file.write_text("\n".join(lines) + "\n")
        return Command(name, [self.server, str(file)], {})

    def answers(self, name: str = PRIMARY) -> bool:
        """Whether the server does, and a replica has all that its primary has."""
        if name == REPLICA:
            return "master_link_status:up" in self._ask(self._ports[REPLICA], "INFO", "replication")
        return self._ask(self.port, "PING").strip() == "PONG"

    def promote_replica(self) -> None:
        """Let the replica take over, at the address of the primary, which must be dead."""
        replica = self._ports[REPLICA]
        for words in (("REPLICAOF", "NO", "ONE"), ("CONFIG", "SET", "tls-port", str(self.port))):
            if "OK" not in (answer := self._ask(replica, *words)):
                raise OfflineError(f"redis: {' '.join(words)} was refused: {answer.strip()}")

    def keys(self) -> int:
        """How many keys it holds."""
        return int(self._ask(self.port, "DBSIZE") or 0)

    def _ask(self, port: int, *words: str) -> str:
        client = str(Path(self.server).with_name(Path(self.server).name.replace("server", "cli")))
        argv = [client, "-h", self._host, "-p", str(port), "--tls", "--cacert", str(self.ca), *words]
        asked = subprocess.run(
            argv,
            env={"REDISCLI_AUTH": self.password},
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
        return asked.stdout

    def _certify(self) -> None:
        """A private authority and a certificate of its own for the server."""
        authority, authority_key = _certificate("neuron-serve local CA", None, None)
        server, server_key = _certificate("redis", authority, authority_key, address=self._host)
        self.ca.write_bytes(authority.public_bytes(serialization.Encoding.PEM))
        (self._directory / "redis.crt").write_bytes(server.public_bytes(serialization.Encoding.PEM))
        key = self._directory / "redis.key"
        key.touch(mode=0o600)
        key.write_bytes(
            server_key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )


def find_server() -> str:
    """The Redis, or else the Valkey, of this machine. Raises `OfflineError`."""
    for name in SERVERS:
        if found := shutil.which(name):
            return found
    raise OfflineError(
        "no redis-server or valkey-server here, which keeps the state of Ray's head; install one, for "
        "example: sudo apt-get install redis-server"
    )


def _certificate(
    name: str,
    issuer: x509.Certificate | None,
    issuer_key: ec.EllipticCurvePrivateKey | None,
    *,
    address: str | None = None,
) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=_VALID_DAYS))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
    )
    if address:
        names = x509.SubjectAlternativeName([x509.IPAddress(ip_address(address))])
        builder = builder.add_extension(names, critical=False)
    return builder.sign(issuer_key or key, hashes.SHA256()), key
