"""Who is logged in, and the files behind it: cache/{id,user,quota,config.json}.

The real files are encrypted; these are plain, because nobody but the simulator reads them.
"""

import contextlib
import hashlib
import json
import secrets
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from workers.simulator.journal import Journal
from workers.simulator.options import Knobs

NAME = "dev-17"
USER_ID = "600100200300"
_FAR_AHEAD_MS = 30 * 24 * 3600 * 1000
_LOGGED_OUT = {"status": 1, "token": "", "refreshToken": "", "accountId": ""}


def machine_id(work_dir: Path) -> str:
    """The machine id in cache/id, made on first use."""
    path = work_dir / "cache" / "id"
    with contextlib.suppress(OSError):
        if found := path.read_text().strip():
            return found
    fresh = str(uuid.uuid4())
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(fresh)
    return fresh


class Account:
    """The login of one work directory, judged anew at each look: files may be put there by others."""

    def __init__(self, work_dir: Path, knobs: Callable[[], Knobs], journal: Journal) -> None:
        self._work_dir = work_dir
        self._user_file = work_dir / "cache" / "user"
        self._knobs = knobs
        self._journal = journal
        self._logged_out = False
        self._states: set[str] = set()

    def logged_in(self) -> bool:
        return bool(self.status()["status"] == 2)

    def status(self) -> dict[str, Any]:
        """The answer to auth/status."""
        knobs = self._knobs()
        stored = self._stored()
        has_login = stored is not None or (knobs.logged_in and not self._logged_out)
        if knobs.login == "out" or (knobs.login == "auto" and not has_login):
            return dict(_LOGGED_OUT)
        user = stored or {}
        expires = user.get("expireTime")
        now_ms = int(time.time() * 1000)
        if not isinstance(expires, int):
            expires = now_ms + _FAR_AHEAD_MS
        if expires <= now_ms and knobs.login == "auto":
            return dict(_LOGGED_OUT)
        user_id = str(user.get("userId") or USER_ID)
        return {
            "status": 2,
            "name": str(user.get("username") or NAME),
            "id": user_id,
            "accountId": user_id,
            "token": str(user.get("token") or "pt-simulated"),
            "refreshToken": str(user.get("refreshToken") or "rt-simulated"),
            "expireTime": expires,
            "userType": "personal_standard",
            "whitelist": 3,
            "privacyPolicyAgreed": True,
            "cloudType": "cloud",
        }

    def _stored(self) -> dict[str, Any] | None:
        """cache/user, or None when absent or empty. Foreign content is a login without a name."""
        try:
            content = self._user_file.read_bytes()
        except OSError:
            return None
        if not content:
            return None
        try:
            value = json.loads(content)
        except ValueError:
            return {}
        return value if isinstance(value, dict) else {}

    def log_in(self, user: dict[str, Any]) -> None:
        """Write the four files as a successful login does."""
        cache = self._work_dir / "cache"
        machine_id(self._work_dir)
        kept = {
            key: user[key]
            for key in ("token", "refreshToken", "expireTime", "userId", "username")
            if user.get(key) not in (None, "")
        }
        self._user_file.touch(mode=0o600)
        self._user_file.write_text(json.dumps(kept))
        (cache / "quota").write_text(json.dumps({"remaining": 1000}))
        (cache / "config.json").write_text(json.dumps({"region": "cn", "endpoint": ""}))
        self._logged_out = False

    def log_out(self) -> None:
        self._user_file.unlink(missing_ok=True)
        self._logged_out = True
        self._journal.line("Deleted user info file.")

    def start_login(self, http_port: int) -> dict[str, Any]:
        """The answer to login/generateUrl; its state is good for one callback."""
        nonce, verifier = secrets.token_hex(16), secrets.token_urlsafe(32)
        challenge = hashlib.sha256(verifier.encode()).hexdigest()
        state = f"2-{nonce}"
        self._states.add(state)
        query = (
            f"state={state}&challenge={challenge}&challenge_method=S256"
            f"&machine_id={machine_id(self._work_dir)}&nonce={nonce}&port={http_port}"
        )
        return {
            "loginUrl": f"{self._knobs().login_url}?{query}",
            "nonce": nonce,
            "verifier": verifier,
            "challenge": challenge,
            "challengeMethod": "S256",
            "success": True,
            "errorCode": "",
            "errorMsg": "",
        }

    def finish_login(self, state: str) -> bool:
        """Log in for a callback with this state; False when it was never given out or is used up."""
        if state not in self._states:
            self._journal.line("Invalid login nonce or consumed, ignore", level="WARN")
            return False
        self._states.discard(state)
        self.log_in({"token": f"pt-{secrets.token_hex(8)}", "refreshToken": f"rt-{secrets.token_hex(8)}"})
        return True
