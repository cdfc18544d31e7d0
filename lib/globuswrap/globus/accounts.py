"""Find which account `globus` uses: the logged-in user, or a service account (client credentials).

Credentials come from the environment (GLOBUS_CLI_CLIENT_ID and GLOBUS_CLI_CLIENT_SECRET, as the CLI has them), or from the file
that `credentials-file` names. They are handed to the `globus` process alone: never in arguments, never in the environment of
jobs or of commands that are run for the user.
"""

from __future__ import annotations

import os
import stat
from functools import cache
from pathlib import Path

from globuswrap import config
from globuswrap.errors import UsageProblem
from globuswrap.system import toml

ID, SECRET = "GLOBUS_CLI_CLIENT_ID", "GLOBUS_CLI_CLIENT_SECRET"


def client_id() -> str:
    """The service account's id; empty when the user's own login is used. Decides, with others, what makes a request the same."""
    if os.environ.get(ID) or os.environ.get(SECRET):
        return os.environ.get(ID, "")
    return environment().get(ID, "")


def is_service_account() -> bool:
    return bool(origin())


def origin() -> str:
    """Where the credentials of a service account come from, for people: the variables, or the file; empty if there are none."""
    if os.environ.get(ID) or os.environ.get(SECRET):
        return f"{ID} and {SECRET}"
    return os.path.expanduser(config.load().settings.credentials_file or "") if environment() else ""


def environment() -> dict[str, str]:
    """What is laid over the environment of `globus`: the credentials of the file, unless the environment has its own."""
    wanted = config.load().settings.credentials_file
    if not wanted or os.environ.get(ID) or os.environ.get(SECRET):
        return {}
    return read(os.path.expanduser(wanted))


def read(path: str) -> dict[str, str]:
    """Id and secret of a credentials file, by the names of their variables. UsageProblem as `_read`."""
    return dict(_read(path))


@cache
def _read(path: str) -> tuple[tuple[str, str], ...]:
    """Id and secret of a credentials file. UsageProblem if others can read it, or it does not hold both."""
    try:
        with Path(path).open("rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode) or status.st_uid not in (os.geteuid(), 0):
                raise UsageProblem(
                    "bad-credentials", f"{path} is not a file owned by you", f"chown it, or write your own: {path}"
                )
            if status.st_mode & 0o077:
                raise UsageProblem("bad-credentials", f"{path} can be read by others", f"chmod 600 {path}")
            document = toml.parsed(file.read())
    except OSError as error:
        raise UsageProblem(
            "bad-credentials", f"{path}: {error.strerror}", "fix credentials-file, or unset it"
        ) from None
    except ValueError:
        # What is in the line that is wrong may be the secret.
        raise UsageProblem(
            "bad-credentials", f"{path} is not valid TOML", 'write client-id = "..." and client-secret = "..."'
        ) from None
    found = {name: document.get(name) for name in ("client-id", "client-secret")}
    if set(document) != set(found) or not all(isinstance(value, str) and value for value in found.values()):
        raise UsageProblem(
            "bad-credentials",
            f"{path} does not hold client-id and client-secret, and nothing else",
            'write client-id = "..." and client-secret = "..."',
        )
    return ((ID, str(found["client-id"])), (SECRET, str(found["client-secret"])))
