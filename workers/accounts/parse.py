"""Accounts from settings: `user:password` lists, JSON, or a single login bundle. Pure but for its warnings.

The rules are those of lingma-openai-gateway, whose `.env` must go on working. A warning never repeats what
it complains about: that could be a password. Called by the worker's composition root.
"""

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from gateway.kernel import json

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Account:
    """Any part may be empty. The anonymous one uses whatever login its work directory holds."""

    username: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    session_bundle: str = field(default="", repr=False)
    """base64; wins over the file."""
    session_bundle_file: str = ""

    @property
    def has_bundle(self) -> bool:
        return bool(self.session_bundle or self.session_bundle_file)


def parse_accounts(text: str) -> list[Account]:
    """LINGMA_ACCOUNTS: `user:password` by comma or line, split at the first colon only, or a JSON array."""
    if text.lstrip().startswith("["):
        return _from_json(text)
    accounts: list[Account] = []
    for position, entry in enumerate(_entries(text), 1):
        username, colon, password = entry.partition(":")
        if not colon or not username.strip():
            log.warning("accounts.entry_ignored", extra={"position": position, "problem": "no user:password"})
            continue
        accounts.append(Account(username.strip(), password))
    return accounts


def resolve_accounts(
    accounts_text: str = "",
    *,
    username: str = "",
    password: str = "",
    session_bundle: str = "",
    session_bundle_file: str = "",
) -> list[Account]:
    """All settings together. A bundle of an account wins over the global one, inline over a file.

    The single user counts only without a list; the global bundle alone makes one account without credentials.
    """
    accounts = parse_accounts(accounts_text)
    if not accounts and username:
        accounts = [Account(username, password)]
    if not (session_bundle or session_bundle_file):
        return accounts
    if not accounts:
        return [Account("", "", session_bundle, session_bundle_file)]
    return [
        account
        if account.has_bundle
        else replace(account, session_bundle=session_bundle, session_bundle_file=session_bundle_file)
        for account in accounts
    ]


def resolve_instance_count(wanted: str | int | None, accounts: int) -> int:
    """LINGMA_INSTANCE_COUNT; anything but a number above 0 means one for each account, at least one."""
    try:
        count = int(wanted) if wanted is not None else 0
    except ValueError:
        log.warning("accounts.instance_count_ignored")
        count = 0
    return count if count > 0 else max(accounts, 1)


def assign_accounts(accounts: Sequence[Account], instances: int) -> list[Account]:
    """One account for each instance, in order, from the beginning again when they run out."""
    if not accounts:
        return [Account()] * instances
    if instances > len(accounts):
        log.warning("accounts.reused", extra={"accounts": len(accounts), "instances": instances})
    return [accounts[index % len(accounts)] for index in range(instances)]


def _entries(text: str) -> list[str]:
    return [entry.strip() for entry in re.split(r"[,\r\n]", text) if entry.strip()]


def _from_json(text: str) -> list[Account]:
    try:
        entries = json.loads(text)
    except json.JsonError:
        log.warning("accounts.unreadable", extra={"problem": "not valid JSON"})
        return []
    assert isinstance(entries, list)
    accounts: list[Account] = []
    for position, entry in enumerate(entries, 1):
        fields = entry if isinstance(entry, dict) else {}
        account = Account(
            *(
                value if isinstance(value := fields.get(name), str) else ""
                for name in ("username", "password", "session_bundle", "session_bundle_file")
            )
        )
        if not account.username and not account.has_bundle:
            log.warning("accounts.entry_ignored", extra={"position": position, "problem": "names nobody"})
            continue
        accounts.append(account)
    return accounts
