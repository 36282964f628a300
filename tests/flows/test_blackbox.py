"""The black-box client, which knows nothing of the inside: every step that the product covers is required."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

from tests.support.citizen import add_citizen, add_client
from tests.support.servers import ROOT, YimenServer

REQUIRED = [
    "discovery",
    "code-pkce",
    "userinfo",
    "refresh",
    "sso-prompt-none",
    "max-age-prompt-login",
    "code-replay",
    "bad-verifier",
    "bad-requests",
    "unknown-params",
    "consent-denied",
    "post-authz-request",
    "logout",
    "page-headers",
    "introspect-revoke",
    "form-post",
    "client-credentials",
]  # grows with the product, and is never shortened


GRANTS = ["authorization_code", "refresh_token", "client_credentials"]


def test_blackbox_client_passes_every_required_step(
    server: YimenServer, node: Callable[..., "subprocess.CompletedProcess[str]"], tmp_path: Path
) -> None:
    citizen = add_citizen(server)
    back, out = "http://127.0.0.1:7700/cb", "http://127.0.0.1:7700/out"
    (tmp_path / "client.json").write_text(json.dumps({"post_logout_redirect_uris": [out], "grant_types": GRANTS}))
    rp = add_client(server, "黑盒", "--metadata", str(tmp_path / "client.json"), redirect_uri=back)
    config = {
        "issuer": server.url,
        "insecure": True,
        "client": {"id": rp.client_id, "secret": rp.client_secret, "auth": "client_secret_basic"},
        "redirectUri": back,
        "postLogoutRedirectUri": out,
        "scope": "openid profile email offline_access",
        "strictPages": True,
        "refreshGraceSeconds": 10,
        "login": {"driver": "yimen", "login": citizen.number, "password": citizen.password},
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    script = ROOT / "tests" / "blackbox" / "rp-openid-client.mjs"
    done = node(str(script), str(tmp_path / "config.json"), "--require", ",".join(REQUIRED), packages="blackbox")
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 failed" in done.stdout


def test_blackbox_client_notices_faults_itself(node: Callable[..., "subprocess.CompletedProcess[str]"]) -> None:
    done = node(str(ROOT / "tests" / "blackbox" / "selftest.mjs"), packages="blackbox")
    assert done.returncode == 0, done.stdout + done.stderr
