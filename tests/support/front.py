"""nginx in front of a server, with docs/operation/nginx.conf as it stands but for ports, names and certificates."""

import datetime
import getpass
import os
import shutil
import ssl
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx2
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.support.processes import bound_to_us, free_port, stop, wait_until

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "docs" / "operation" / "nginx.conf"
NAME = "localhost"
KINDS_OF_TEMPORARY_FILES = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


class Front:
    """A running nginx. `url` is what browsers see; `server_port` where the server is to listen."""

    def __init__(self, folder: Path, *, rate: int = 100) -> None:
        self.rate = rate
        self.folder = folder
        self.port = free_port(3)
        self.plain_port, self.server_port = self.port + 1, self.port + 2
        self.url = f"https://{NAME}:{self.port}"
        self.log, self.access_log = folder / "nginx.log", folder / "access.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def environment(self) -> dict[str, str]:
        """The settings of a server behind it."""
        return {"YIMEN_ISSUER": self.url, "YIMEN_TRUSTED_PROXIES": "127.0.0.1"}

    def client(self) -> httpx2.Client:
        context = ssl.create_default_context(cafile=str(self.folder / "certificate.pem"))
        return httpx2.Client(verify=context, trust_env=False, timeout=30)

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        write_certificate(self.folder / "certificate.pem", self.folder / "key.pem")
        config = self.folder / "nginx.conf"
        config.write_text(self._render())
        program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
        assert program is not None
        command = [program, "-c", str(config), "-p", str(self.folder), "-e", str(self.log), "-g", "daemon off;"]
        with self.log.open("wb") as log:
            self._process = subprocess.Popen([*bound_to_us("TERM"), *command], stdout=log, stderr=log)
        wait_until(self._answers, self._process, self.log, 30)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process is not None
        stop(self._process)

    def _answers(self) -> bool:
        try:
            return httpx2.get(f"http://127.0.0.1:{self.plain_port}/", trust_env=False).status_code == 421
        except httpx2.TransportError:
            return False

    def _render(self) -> str:
        text = CONFIG.read_text(encoding="utf-8")
        temporary = "".join(
            f"    {kind}_temp_path {self.folder}/temporary-{kind};\n" for kind in KINDS_OF_TEMPORARY_FILES
        )
        for told, here, count in (
            ("user www-data;", f"user {getpass.getuser()};", 1),
            ("worker_processes auto;", "worker_processes 2;", 1),
            ("worker_rlimit_nofile 65536;\n", "", 1),
            ("pid /run/nginx.pid;", f"pid {self.folder}/nginx.pid;", 1),
            ("error_log /var/log/nginx/error.log crit;", f"error_log {self.log} crit;", 1),
            ("access_log /var/log/nginx/yimen.log yimen;", f"access_log {self.access_log} yimen;", 1),
            ("/etc/yimen/tls/fullchain.pem", str(self.folder / "certificate.pem"), 1),
            ("/etc/yimen/tls/key.pem", str(self.folder / "key.pem"), 1),
            ("listen 80", f"listen 127.0.0.1:{self.plain_port}", 2),
            ("listen 443", f"listen 127.0.0.1:{self.port}", 2),
            ("https://login.example.gov.cn$", f"{self.url}$", 1),
            ("login.example.gov.cn;", f"{NAME};", 2),
            ("server 127.0.0.1:8000", f"server 127.0.0.1:{self.server_port}", 1),
            ("rate=100r/s", f"rate={self.rate}r/s", 1),
            ("http {\n", "http {\n" + temporary, 1),
        ):
            assert text.count(told) == count, f"{CONFIG.name} has {told!r} {text.count(told)} times, not {count}"
            text = text.replace(told, here)
        return text


def write_certificate(certificate: Path, key: Path) -> None:
    """A self-signed certificate for localhost, good for a day."""
    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NAME)])
    now = datetime.datetime.now(datetime.UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(private, hashes.SHA256())
    )
    certificate.write_bytes(built.public_bytes(serialization.Encoding.PEM))
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    key.write_bytes(pem)
