"""Start a sandbox, and make the surroundings in which the real `globus` talks to it and to nothing else."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import IO, Any, NoReturn

from globus_sandbox import auth, browser
from globus_sandbox import seed as seeds
from globus_sandbox.control import Control
from globus_sandbox.documents import ENTITY_TYPES, Collection, collection_of
from globus_sandbox.errors import BadRequest, Unreachable
from globus_sandbox.settings import LIMITS, Settings

#: An environment the SDK does not know: a service that is not set fails instead of reaching the real Globus.
ENVIRONMENT = "globus-sandbox"
#: How long a server may take to answer for the first time.
START_TIMEOUT = 20.0


def child_environment(laid: Mapping[str, str | None]) -> dict[str, str]:
    """This process's environment with `laid` over it; None deletes a variable."""
    env = {name: value for name, value in os.environ.items() if name not in laid}
    return env | {name: value for name, value in laid.items() if value is not None}


def find_program(name: str, env: Mapping[str, str]) -> str:
    """The path of an executable. Raises BadRequest when there is none."""
    found = shutil.which(name, path=env.get("PATH"))
    if found is None:
        raise BadRequest("program-missing", f"{name}: no such program", "install it, or put it on PATH")
    return os.path.abspath(found)


def become(argv: Sequence[str], laid: Mapping[str, str | None]) -> NoReturn:
    """End this program and be another one, in the surroundings of a sandbox. Raises BadRequest."""
    env = child_environment(laid)
    program = find_program(argv[0], env)
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(program, list(argv), env)


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode("utf-8", "surrogateescape")


class Sandbox:
    """A local Globus for as long as a `with` block lasts.

    `base` is a directory for everything it keeps (None: a temporary one, gone afterwards). `collections` are names, or
    `NAME:KIND` with mapped (the default), guest, gcp or gcp-guest. `login` is "user" (what `globus login` leaves behind),
    "client" (client credentials in the environment) or "none". `progress` says when tasks end (control.Control.progress).
    `data_access` lets mapped collections ask for a consent; `limits` are those of LIMITS. `bind` is the address to listen on.
    `seed` is a file with what the sandbox begins with (seed.py); its collections come instead of `collections`.
    `durable` keeps the state on disk, so that `kill` and `restart` lose nothing. `keep` leaves the server running at the
    end of this process.
    """

    def __init__(
        self,
        base: Path | str | None = None,
        collections: Sequence[str] = ("archive", "scratch", "results"),
        login: str = "user",
        progress: str = "at-once",
        durable: bool = False,
        keep: bool = False,
        *,
        bind: str = "127.0.0.1",
        data_access: bool = False,
        limits: Mapping[str, int] | None = None,
        seed: Path | str | None = None,
    ) -> None:
        if login not in ("user", "client", "none"):
            raise BadRequest("sandbox-login", f"login {login!r}", "user, client or none")
        unknown = set(limits or ()) - set(LIMITS)
        if unknown:
            raise BadRequest("sandbox-limit", f"limit {min(unknown)!r}", f"one of {', '.join(LIMITS)}")
        self._seed = None if seed is None else seeds.read(Path(seed))
        collections = seeds.collections_of(self._seed or {}) or collections
        collections_of(Path(), collections)  # what cannot be leaves no directory behind
        self._own_base = base is None
        self.base = Path(tempfile.mkdtemp(prefix="globus-sandbox-") if base is None else base).absolute()
        self.login_mode = login
        self._keep = keep
        self._settings: dict[str, Any] = {
            "progress": progress,
            "durable": durable,
            "bind": bind,
            "data_access": data_access,
            **{name.replace("-", "_"): number for name, number in (limits or {}).items()},
        }
        self._server: subprocess.Popen[bytes] | None = None
        self.pid = 0
        self.url = ""
        self.collections = {one.name: one for one in collections_of(self.base / "collections", collections)}

    def __enter__(self) -> Sandbox:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        if self._own_base:
            shutil.rmtree(self.base, ignore_errors=True)

    @property
    def control(self) -> Control:
        return Control(self.url)

    @property
    def home(self) -> Path:
        return self.base / "home"

    @property
    def env(self) -> dict[str, str | None]:
        """What to lay over the environment (None deletes a variable) so that commands talk to this sandbox alone."""
        return environment(self.url, self.home, self.login_mode, self.base)

    @property
    def owner(self) -> str:
        """The identity whom the collections belong to: the one that is logged in."""
        return auth.CLIENT if self.login_mode == "client" else auth.USER

    @property
    def running(self) -> bool:
        return self._server is not None and self._server.poll() is None

    def collection(self, name: str) -> Collection:
        return self.collections[name]

    def furnish(self) -> None:
        """Called once, when the home directory is new: a subclass may put the files of another program there."""

    def start(self) -> None:
        """Start the server and wait until it answers. Raises Unreachable."""
        self.base.mkdir(parents=True, exist_ok=True)
        for one in self.collections.values():
            one.path.mkdir(parents=True, exist_ok=True)
        address = self.base / "address"
        before = self.base / "port"
        port = before.read_text().strip() if before.exists() else "0"  # shells that know it work again
        address.unlink(missing_ok=True)
        settings = Settings(
            base=str(self.base),
            collections=[[one.name, one.kind, str(one.path)] for one in self.collections.values()],
            owner=self.owner,
            port=int(port),
            parent=0 if self._keep else os.getpid(),
            remove=self._own_base,
            **self._settings,
        )
        path = json.dumps([entry for entry in sys.path if entry])
        argv = [sys.executable, "-I", "-X", "utf8", "-c", _SERVER, path, json.dumps(asdict(settings))]
        with open(self.base / "server.log", "ab") as log:
            self._server = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        self._await(address)
        (self.base / "login").write_text(self.login_mode)
        if not self.home.exists():
            make_home(self.home, self.login_mode)
            self.furnish()
            if self._seed is not None:
                seeds.sow(self._seed, self.control, self.owner)

    def _await(self, address: Path) -> None:
        assert self._server is not None
        end = time.monotonic() + START_TIMEOUT
        while self._server.poll() is None and time.monotonic() < end:
            if address.exists():
                self.url = json.loads(address.read_text())["url"]
                self.pid = self._server.pid
                with contextlib.suppress(Unreachable):
                    self.control.health()
                    return
            time.sleep(0.005)
        raise Unreachable(
            "sandbox-did-not-start",
            "the sandbox's server did not start",
            f"read {self.base / 'server.log'}",
            detail=(self.base / "server.log").read_text(errors="replace")[-2000:],
        )

    def stop(self) -> None:
        """End the server. Files and, when durable, the state stay until the base is removed."""
        if self._server is not None:
            self._server.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._server.wait(5.0)
        self.kill()

    def wait(self) -> None:
        """Return when the server has ended, or at the first SIGINT or SIGTERM."""
        signal.signal(signal.SIGTERM, lambda *_: self.stop())
        with contextlib.suppress(KeyboardInterrupt):
            while self._server is not None and self._server.poll() is None:
                time.sleep(0.1)

    def kill(self) -> None:
        """kill -9 the server, as a machine that goes down would."""
        if self._server is not None:
            self._server.kill()
            self._server.wait()
            self._server = None

    def restart(self) -> None:
        """Start the server again, at the same address when it is still free."""
        self.start()

    def set_login(self, mode: str) -> None:
        """From now on `env` and the token store are as for `login=mode`."""
        self.login_mode = mode
        shutil.rmtree(self.home / ".globus", ignore_errors=True)
        make_home(self.home, mode)

    def run(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str | None] | None = None,
        input: str | bytes | None = None,
        cwd: str | Path | None = None,
        timeout: float = 120.0,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in the sandbox's surroundings, with `env` laid over them; output is captured, no code is an error.

        Raises BadRequest when there is no such program, and subprocess.TimeoutExpired.
        """
        given = input.encode("utf-8", "surrogateescape") if isinstance(input, str) else input
        laid = child_environment({**self.env, **(env or {})})
        program = find_program(argv[0], laid)
        with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
            # files, not pipes: what the command leaves running in the background may keep them open
            done = subprocess.run(
                list(argv),
                executable=program,
                env=laid,
                stdout=stdout,
                stderr=stderr,
                cwd=cwd,
                timeout=timeout,
                check=False,
                **({"stdin": subprocess.DEVNULL} if given is None else {"input": given}),
            )
            return subprocess.CompletedProcess(list(argv), done.returncode, _text(stdout), _text(stderr))


def surroundings(base: Path) -> dict[str, str | None]:
    """`Sandbox.env` of a sandbox that another process started in this directory. Raises OSError when there is none."""
    url = json.loads((base / "address").read_text())["url"]
    login = (base / "login").read_text().strip()
    return environment(url, base / "home", login, base)


#: Where `env` leaves what it replaces in a shell, for `env --unset`.
WAS = "GLOBUS_SANDBOX_WAS_"


def _path() -> list[str]:
    return os.environ.get("PATH", os.defpath).split(os.pathsep)


def for_shell(base: Path) -> dict[str, str | None]:
    """What points a shell of the user's at the sandbox in this directory. It keeps its HOME: the `globus` that is first on
    PATH is one that has the sandbox's, so that the user's own login is neither used nor changed."""
    laid = {name: value for name, value in surroundings(base).items() if not name.startswith(WAS)}
    path = [entry for entry in str(laid["PATH"]).split(os.pathsep) if entry not in _shims(base)]
    _write_shim(base, os.pathsep.join(path))
    del laid["HOME"]
    return {**laid, "PATH": os.pathsep.join((str(base / "bin"), *path))}


def unset_shell() -> dict[str, str | None]:
    """What takes `for_shell` back in a shell that has it; empty in any other. Needs no running sandbox."""
    base = os.environ.get("GLOBUS_SANDBOX_BASE")
    if not base:
        return {}
    names = {
        *environment("", Path(), "client", Path()),
        *(name[len(WAS) :] for name in os.environ if name.startswith(WAS)),
    }
    names = {name for name in names if name not in ("HOME", "PATH") and not name.startswith("GLOBUS_SANDBOX_")}
    laid = {name: os.environ.get(WAS + name) for name in sorted(names)}
    added = {*_shims(Path(base)), os.path.dirname(sys.executable)}
    before = os.environ.get(WAS + "PATH", "").split(os.pathsep)
    path = os.pathsep.join(entry for entry in _path() if entry not in added or entry in before)
    ours = dict.fromkeys(sorted(name for name in os.environ if name.startswith("GLOBUS_SANDBOX_")))
    return {**laid, "PATH": path, **ours}


def _shims(base: Path) -> set[str]:
    """The directories of `globus` commands that sandboxes made: of this one, and of the one this shell points at."""
    return {str(base / "bin"), os.path.join(os.environ.get("GLOBUS_SANDBOX_BASE") or base, "bin")}


def _write_shim(base: Path, path: str) -> None:
    mine = shlex.quote(os.path.expanduser("~"))
    program = shlex.quote(shutil.which("globus", path=path) or "globus")
    text = (
        "#!/bin/sh\n# The globus command, with the home directory of a sandbox in place of yours.\n"
        f'[ "$HOME" != {mine} ] || HOME={shlex.quote(str(base / "home"))}\nexec {program} "$@"\n'
    )
    shim = base / "bin" / "globus"
    if shim.exists() and shim.read_text() == text:
        return
    shim.parent.mkdir(exist_ok=True)
    part = shim.with_suffix(f".{os.getpid()}")
    part.write_text(text)
    part.chmod(0o755)
    os.replace(part, shim)


#: What shows in each shell that it is a sandbox's.
PROMPTS = {
    ".bashrc": "PS1='(sandbox) \\W\\$ '\n",
    ".zshrc": "PS1='(sandbox) %1~ %# '\n",
    ".cshrc": "set prompt = '(sandbox) %c%# '\n",
    ".config/fish/config.fish": "function fish_prompt\n    echo '(sandbox) '(prompt_pwd)'> '\nend\n",
}


def shell(base: Path, env: Mapping[str, str | None]) -> tuple[list[str], dict[str, str | None]]:
    """The user's shell in the surroundings `env` of the sandbox in this directory: its command line and environment."""
    program = os.environ.get("SHELL") or "/bin/sh"
    for name, text in PROMPTS.items():
        file = base / "home" / name
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
    laid = {**env, "GLOBUS_CLI_INTERACTIVE": None, "GLOBUS_SANDBOX_SHELL": str(base), "ZDOTDIR": None, "PS1": None}
    if os.path.basename(program) in ("sh", "dash", "ash", "ksh"):  # they read no file of their own, and keep this
        laid["PS1"] = "(sandbox) $ "
    return [program], laid


def collections_of(directory: Path, names: Iterable[str]) -> list[Collection]:
    """Collections by name, `NAME` or `NAME:KIND`. Raises BadRequest."""
    found = []
    for text in names:
        name, _, kind = text.partition(":")
        kind = kind or "mapped"
        if kind not in ENTITY_TYPES or not name or "/" in name:
            raise BadRequest(
                "sandbox-collection",
                f"collection {text!r}",
                f"NAME or NAME:KIND, KIND one of {', '.join(ENTITY_TYPES)}",
            )
        found.append(collection_of(name, directory / name, kind))
    return found


def environment(url: str, home: Path, login: str, base: Path) -> dict[str, str | None]:
    """Every variable that decides where the CLI and the SDK go; None deletes one."""
    laid: dict[str, str | None] = {name: None for name in os.environ if name.startswith("GLOBUS_")}
    laid.update(
        {
            "HOME": str(home),
            "XDG_CONFIG_HOME": str(home / ".config"),
            "XDG_STATE_HOME": str(home / ".local" / "state"),
            "XDG_CACHE_HOME": str(home / ".cache"),
            "XDG_DATA_HOME": str(home / ".local" / "share"),
            "XDG_CONFIG_DIRS": str(home / ".config" / "site"),
            "GLOBUS_SDK_ENVIRONMENT": ENVIRONMENT,
            "GLOBUS_CLI_INTERACTIVE": "0",
            "GLOBUS_SANDBOX_URL": url,
            "GLOBUS_SANDBOX_BASE": str(base),
            "NO_PROXY": "127.0.0.1,localhost",
            "no_proxy": "127.0.0.1,localhost",
            # a `globus` beside this Python is found even where no environment is activated; one on PATH comes first
            "PATH": os.pathsep.join(dict.fromkeys((*_path(), os.path.dirname(sys.executable)))),
            # `globus login` opens this instead of a browser; it says yes
            "BROWSER": f"{shlex.quote(sys.executable)} -I {shlex.quote(browser.__file__)} %s &",
        }
    )
    for service in ("AUTH", "TRANSFER", "TIMER", "FLOWS", "SEARCH", "GROUPS"):
        laid[f"GLOBUS_SDK_SERVICE_URL_{service}"] = f"{url}/{service.lower()}/"
    laid.update(dict.fromkeys(("http_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy")))
    # what is asked for by https ends here too: the managers of its endpoints answer, and all else is 501 and listed
    laid["HTTPS_PROXY"] = laid["https_proxy"] = url
    laid["GLOBUS_SDK_VERIFY_SSL"] = str(Path(__file__).with_name("authority.pem"))
    if login == "client":
        laid["GLOBUS_CLI_CLIENT_ID"] = auth.CLIENT
        laid["GLOBUS_CLI_CLIENT_SECRET"] = auth.CLIENT_SECRET
    return laid


#: The server, with the module path of this process and nothing of the directory it is started in.
_SERVER = (
    "import json, sys; sys.path[:] = json.loads(sys.argv.pop(1)); "
    "from globus_sandbox.server import main; main(sys.argv[1])"
)


def make_home(home: Path, login: str) -> None:
    """A home directory with what `globus login` would have left there."""
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    if login == "user":
        store = home / ".globus" / "cli" / "storage.db"
        store.parent.mkdir(parents=True, exist_ok=True)
        write_token_store(store)


def write_token_store(file: Path, scopes: Mapping[str, str] | None = None) -> None:
    """The CLI's token store, logged in (schema and entries as globus-cli 3.x leaves them). `scopes`: by resource server."""
    namespace = f"userprofile/{ENVIRONMENT}"
    expires = int(time.time()) + auth.LIFETIME
    servers = scopes or auth.SCOPES
    tokens = {
        server: {
            "scope": scope,
            "access_token": auth.token("access", server, auth.USER),
            "refresh_token": auth.token("refresh", server, auth.USER),
            "token_type": "Bearer",
            "expires_at_seconds": expires,
            "resource_server": server,
        }
        for server, scope in servers.items()
    }
    config = {
        "auth_client_data": {"client_id": auth.INSTANCE, "client_secret": auth.INSTANCE_SECRET},
        "auth_user_data": {"sub": auth.USER},
        "scope_contract_versions": dict.fromkeys(servers, 3),
    }
    file.touch(mode=0o600)
    store = sqlite3.connect(file, isolation_level=None)
    try:
        store.executescript(_STORE)
        rows = [(namespace, key, json.dumps(data)) for key, data in tokens.items()]
        store.executemany("REPLACE INTO token_storage VALUES (?, ?, ?)", rows)
        rows = [(namespace, key, json.dumps(data)) for key, data in config.items()]
        store.executemany("REPLACE INTO config_storage VALUES (?, ?, ?)", rows)
        store.execute("COMMIT")
    finally:
        store.close()


_STORE = """
PRAGMA synchronous=OFF;
BEGIN;
CREATE TABLE IF NOT EXISTS config_storage(
    namespace VARCHAR NOT NULL, config_name VARCHAR NOT NULL, config_data_json VARCHAR NOT NULL,
    PRIMARY KEY (namespace, config_name));
CREATE TABLE IF NOT EXISTS token_storage(
    namespace VARCHAR NOT NULL, resource_server VARCHAR NOT NULL, token_data_json VARCHAR NOT NULL,
    PRIMARY KEY (namespace, resource_server));
CREATE TABLE IF NOT EXISTS sdk_storage_adapter_internal(
    attribute VARCHAR NOT NULL, value VARCHAR NOT NULL, PRIMARY KEY (attribute));
REPLACE INTO sdk_storage_adapter_internal VALUES
    ('globus-sdk.version', '4.0.0'), ('globus-sdk.database_schema_version', '1');
"""
