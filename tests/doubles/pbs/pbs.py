"""A PBS to test against: qsub, qstat, qselect, qdel, qrls, qhold, qalter and qrerun that behave as a real OpenPBS was seen to.

The jobs really run. State is a directory named by PBS_HOME in the file $PBS_CONF_FILE, guarded by one lock; there is no
daemon: each command, and each job at its end, does the server's work. In that file, `HISTORY=0` is a server that forgets
finished jobs (job_history_enable = False, the default), and `RELEASE` is `23` or `head`: tag v23.06.06, or the head of
OpenPBS (cd7ab5eda), where they differ. `Seen:` in a comment is a command and what the real one answered; both, if no release
is named.
"""

from __future__ import annotations

import contextlib
import fcntl
import getpass
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
SERVER = "pbshead"
QUEUES = ("workq", "stageq")
RESOURCES = ("walltime", "select", "ncpus", "mem", "nodes", "place", "cput")
UNKNOWN, FINISHED, BAD_QUEUE, BAD_RESOURCE, USAGE, UNAUTHORIZED, NO_SERVER = 153, 35, 170, 187, 2, 159, 162
WALLTIME_EXIT, DELETED_EXIT = -29, 271

Job = dict[str, Any]


class Refusal(Exception):
    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


def configuration() -> dict[str, str]:
    path = os.environ.get("PBS_CONF_FILE", "/etc/pbs.conf")
    return dict(line.split("=", 1) for line in Path(path).read_text().splitlines() if "=" in line)


def home() -> Path:
    return Path(configuration()["PBS_HOME"])


class Server:
    """The jobs, as long as the lock is held."""

    def __init__(self, jobs: dict[str, Job]) -> None:
        self.jobs = jobs
        self.history = configuration().get("HISTORY", "1") == "1"
        self.release = configuration().get("RELEASE", "head")

    def find(self, job_id: str) -> Job:
        number = job_id.split(".")[0]
        for known, job in self.jobs.items():
            if known.split(".")[0] == number and not (job["job_state"] == "F" and not self.history):
                return job
        raise Refusal(UNKNOWN, f"Unknown Job Id {job_id if '.' in job_id else f'{job_id}.{SERVER}'}")

    def end(self, job: Job, status: int | None, substate: int, *, wakes: bool = True) -> None:
        """The job is over. `status` None: it was deleted and never ran. `wakes`: whether its dependents are told."""
        job["job_state"], job["substate"] = "F", substate
        if status is not None:
            job["Exit_status"] = status
        if wakes:
            for child in list(self.jobs.values()):
                if any(parent == job["id"] for _, parent in child["depend"]):
                    self.judge(child)

    def judge(self, job: Job) -> None:
        """Look at the dependencies of a waiting job."""
        if job["job_state"] not in ("H", "Q", "W"):
            return
        left = []
        for kind, parent_id in job["depend"]:
            parent = self.jobs.get(parent_id)
            if parent is None or (parent["job_state"] == "F" and not self.history and job.get("new")):
                self.delete_unsatisfiable(job)
                return
            if parent["job_state"] != "F":
                left.append((kind, parent_id))
            elif not self.met(kind, parent, bool(job.get("new"))):
                self.delete_unsatisfiable(job)
                return
        # Its substate stays 22. Seen, `qstat -f -w` of a job of `qsub -h -W depend=afterok:3` after 3 had succeeded:
        # `job_state = H`, `Hold_Types = u`, `substate = 22`.
        job["depend"] = left

    def met(self, kind: str, parent: Job, new: bool) -> bool:
        if "Exit_status" not in parent and not new:
            return False  # deleted: cascades, even to afterany
        # A job on a parent that is over already, and was deleted before it ran, starts. Seen, v23.06.06 with history:
        # `qsub -W depend=afterok:1061` of 1061, itself deleted for its dependency (F, substate 92): it ran, Exit_status = 0.
        failed = parent.get("Exit_status", 0) != 0
        return kind == "afterany" or (kind == "afternotok") == failed

    def delete_unsatisfiable(self, job: Job) -> None:
        self.end(job, None, 92)

    def schedule(self) -> None:
        for job in list(self.jobs.values()):
            if job["job_state"] not in ("H", "Q", "W"):
                continue
            held = job["holds"] or job["depend"]
            if held:
                job["job_state"] = "H"
                job["substate"] = 22 if job["depend"] or job["substate"] == 22 else 20
            elif job["begin"] > time.time():
                left = job["begin"] - time.time()
                if job["job_state"] != "W" and left < 600:  # nothing of a test lives longer
                    detached("wake", job["id"], str(left))
                job["job_state"], job["substate"] = "W", 30
            else:
                self.start(job)

    def start(self, job: Job) -> None:
        job["job_state"], job["substate"] = ("B", 41) if job["array"] else ("R", 42)
        job["stime"] = time.time()
        if job["array"]:
            for index in job["array"]:
                job["elements"][str(index)] = {"job_state": "R", "substate": 42, "stime": job["stime"]}
                detached("run", job["id"], str(index))
        else:
            detached("run", job["id"], "")


@contextlib.contextmanager
def server(*, wait: bool = False) -> Iterator[Server]:
    """`wait`: until the server is up, as the mom does at the end of a job; a command is refused."""
    base = home()
    base.mkdir(parents=True, exist_ok=True)
    while (base / "down").exists():
        if not wait:
            # Seen: `Connection refused`, then this line of every command but qstat with exit code 162.
            raise Refusal(NO_SERVER, f"cannot connect to server {SERVER} (errno=15010)")
        time.sleep(0.1)
    path = base / "jobs.json"
    with (base / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        jobs = json.loads(path.read_text()) if path.exists() else {}
        one = Server(jobs)
        yield one
        one.schedule()
        temporary = base / "jobs.tmp"
        temporary.write_text(json.dumps(one.jobs))
        os.replace(temporary, path)


def detached(*arguments: str) -> None:
    log = (home() / "server.log").open("ab")
    subprocess.Popen(
        [sys.executable, str(HERE / "pbs.py"), *arguments],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        start_new_session=True,
        env={**os.environ},
    )


# --- qsub -------------------------------------------------------------------------------------------------------------

WITH_VALUE = "NjoelqAPWaJrvSmMkpuCc"
FLAGS = "hVz"


def options_of(words: list[str], where: str) -> tuple[dict[str, list[str]], list[str]]:
    """Options by letter, and what is left; each may come again."""
    found: dict[str, list[str]] = {}
    at = 0
    while at < len(words) and words[at].startswith("-") and len(words[at]) > 1:
        letter, rest = words[at][1], words[at][2:]
        if letter in FLAGS:
            found.setdefault(letter, []).append("")
        elif letter in WITH_VALUE:
            if not rest:
                at += 1
                if at == len(words):
                    raise Refusal(USAGE, f"usage: qsub: option -{letter} wants a value ({where})")
                rest = words[at]
            found.setdefault(letter, []).append(rest)
        else:
            raise Refusal(USAGE, f"usage: qsub: unknown option -{letter} ({where})")
        at += 1
    return found, words[at:]


def directive_words(text: str) -> list[str]:
    import shlex

    words: list[str] = []
    for line in text.split("\n"):
        if line.strip() and not line.startswith("#"):
            break
        if line.startswith("#PBS"):
            words += shlex.split(line[4:], comments=True)
    return words


def qsub(words: list[str]) -> None:
    options, rest = options_of(words, "command line")
    if len(rest) != 1:
        raise Refusal(USAGE, "usage: qsub [options] [script]")
    script = Path(rest[0])
    try:
        content = script.read_bytes()
    except OSError as error:
        raise Refusal(1, f"qsub: script file {rest[0]}: {error.strerror}") from None
    inner, _ = options_of(directive_words(content.decode("utf-8", "replace")), "script")
    merged = {**inner, **options}
    for letter in "lW":
        merged[letter] = inner.get(letter, []) + options.get(letter, [])
    name = merged.get("N", [script.name])[-1]
    if re.search(r"\s", name):
        # Seen, head: `qsub "my job.py"`: exit code 2.
        raise Refusal(USAGE, "qsub: illegal -N value\nusage: qsub [-a date_time] ...\n       qsub --version")
    queue = merged.get("q", ["workq"])[-1]
    if queue not in QUEUES:
        raise Refusal(BAD_QUEUE, "qsub: Unknown queue")
    resources = dict(pair.split("=", 1) for value in merged["l"] for pair in value.split(",") if "=" in pair)
    for resource in resources:
        if resource not in RESOURCES:
            raise Refusal(BAD_RESOURCE, f"qsub: Unknown resource: {resource}")
    attributes = [pair for value in merged["W"] for pair in value.split(",")]
    depend = [each.removeprefix("depend=") for each in attributes if each.startswith("depend=")]
    with server() as pbs:
        number = 1 + len(pbs.jobs)
        elements = indices(merged["J"][-1]) if "J" in merged else []
        job_id = f"{number}{'[]' if elements else ''}.{SERVER}"
        spool = home() / "spool"
        spool.mkdir(exist_ok=True)
        copy = spool / f"{number}.SC"
        copy.write_bytes(content)
        copy.chmod(0o700)
        job: Job = {
            "id": job_id,
            "Job_Name": name,
            "queue": queue,
            "job_state": "Q",
            "substate": 10,
            "holds": "u" if "h" in merged else "",
            "depend": [pair for text in depend for pair in dependencies(text, pbs)],
            "mail": merged.get("m", ["a"])[-1],
            "begin": begin_time(merged["a"][-1]) if "a" in merged else 0.0,
            "Resource_List": resources,
            "array": elements,
            "indices": merged.get("J", [""])[-1],
            "elements": {},
            "script": str(copy),
            "submit_arguments": " ".join(words),
            "workdir": os.getcwd(),
            "home": os.environ["HOME"],
            "path": os.environ["PATH"],
            "variables": variables(merged),
            "output": merged.get("o", [""])[-1],
            "join": merged.get("j", ["n"])[-1],
            "account": merged.get("A", [""])[-1],
            "run_count": 0,
            "owner": getpass.getuser(),
            "new": True,
        }
        pbs.jobs[job_id] = job
        pbs.judge(job)
        job["new"] = False
    # Seen: `qsub -z job.sh` prints nothing and exits 0.
    if "z" not in merged:
        print(job_id, flush=True)
    # Seen: `qsub -W block=true job.sh` prints the id, and ends when the job has.
    while "block=true" in attributes:
        with server(wait=True) as pbs:
            if pbs.jobs[job_id]["job_state"] == "F":
                break
        time.sleep(0.2)


def indices(text: str) -> list[int]:
    match = re.fullmatch(r"(\d+)-(\d+)(?::(\d+))?(?:%\d+)?", text)
    if match is None:
        raise Refusal(USAGE, f"qsub: illegal -J value {text}")
    return list(range(int(match[1]), int(match[2]) + 1, int(match[3] or 1)))


def dependencies(text: str, pbs: Server) -> list[tuple[str, str]]:
    found = []
    for part in text.split(","):
        kind, *parents = part.split(":")
        for parent in parents:
            try:
                found.append((kind, str(pbs.find(parent)["id"])))
            except Refusal:
                found.append((kind, parent))
    return found


def variables(options: dict[str, list[str]]) -> dict[str, str]:
    chosen = dict(os.environ) if "V" in options else {}
    for text in options.get("v", []):
        for pair in text.split(","):
            name, equals, value = pair.partition("=")
            # -v corrupts quotes and backslashes
            chosen[name] = re.sub(r"[\"'\\]", "", value) if equals else os.environ.get(name, "")
    return chosen


def begin_time(text: str) -> float:
    match = re.fullmatch(r"(\d{8,12})(?:\.(\d\d))?", text)
    if match is None:
        raise Refusal(USAGE, f"qsub: illegal -a value {text}")
    return time.mktime(time.strptime(match[1], "%Y%m%d%H%M")) + float(match[2] or 0)


# --- qstat ------------------------------------------------------------------------------------------------------------


def shown(job: Job) -> dict[str, str]:
    variables = {
        "PBS_O_HOME": job["home"],
        "PBS_O_WORKDIR": job["workdir"],
        **job["variables"],
        "PBS_O_QUEUE": job["queue"],
    }
    attributes = {
        "Job_Name": job["Job_Name"],
        "Job_Owner": f"{job['owner']}@{SERVER}",
        "job_state": job["job_state"],
        "queue": job["queue"],
        "server": SERVER,
        "Hold_Types": ("s" if job["depend"] else "") + job["holds"] or "n",
        "Mail_Points": job.get("mail", "a"),
        **{f"Resource_List.{name}": value for name, value in job["Resource_List"].items()},
        "substate": str(job["substate"]),
        "Variable_List": ",".join(f"{name}={value}".replace(",", "\\,") for name, value in variables.items()),
        "run_count": str(job["run_count"]),
        "Submit_arguments": job["submit_arguments"],
        "project": "_pbs_project_default",
    }
    if job["account"]:
        attributes["Account_Name"] = job["account"]
    if job["depend"]:
        attributes["depend"] = ",".join(f"{kind}:{parent}@{SERVER}" for kind, parent in job["depend"])
    if job["array"]:
        attributes["array"] = "True"
        attributes["array_indices_submitted"] = job["indices"]
    # Only of a job that has been started. Seen, `qstat -x -f -w` of a job whose own `depend=afterok:X` failed after its hold
    # was released: `job_state = F`, `substate = 92`, no stime, no Exit_status.
    if "stime" in job:
        attributes["stime"] = time.ctime(job["stime"])
    if "Exit_status" in job:
        attributes["Exit_status"] = str(job["Exit_status"])
    return attributes


def elements_of(job: Job, history: bool) -> dict[str, dict[str, str]]:
    """The elements of an array, as `qstat -t` prints them."""
    found = {}
    for index, element in job["elements"].items():
        one = {**job, "array": [], "depend": []}
        if element["job_state"] == "X" and not history:
            # Seen without history, `qstat -t -f -w` of an array that runs: an element that had exited with 7 has what the
            # array has, with `job_state = X`.
            one |= {"job_state": "X"}
        else:
            over = element["job_state"] == "X" and job["job_state"] == "F"
            one |= {**element, **({"job_state": "F"} if over else {})}
        found[job["id"].replace("[]", f"[{index}]")] = {**shown(one), "array_index": index, "array_id": job["id"]}
    return found


def qstat(words: list[str]) -> int:
    flags = {word for word in words if word.startswith("-")}
    wanted = [word for word in words if not word.startswith("-") and word != "json"]
    named = bool(wanted)
    code = 0
    answers: list[dict[str, dict[str, str]]] = []
    with server() as pbs:
        if not named:
            wanted = [job_id for job_id, job in pbs.jobs.items() if job["job_state"] != "F" or "-x" in flags]
        for job_id in wanted:
            if "-x" in flags and not pbs.history:
                # Seen: `qstat -x 0` of a job that runs, without history: exit code 0, nothing on stdout.
                print(f"qstat: PBS is not configured to maintain job history {job_id}", file=sys.stderr)
                continue
            try:
                job = pbs.find(job_id)
            except Refusal as refusal:
                print(f"qstat: {refusal}", file=sys.stderr)
                code = refusal.code
                continue
            if job["job_state"] == "F" and "-x" not in flags:
                print(
                    f"qstat: {job_id} Job has finished, use -x or -H to obtain historical job information",
                    file=sys.stderr,
                )
                code = code or FINISHED
                continue
            answers.append({job["id"]: shown(job), **(elements_of(job, pbs.history) if "-t" in flags else {})})
    listed = {job_id: attributes for answer in answers for job_id, attributes in answer.items()}
    if "-f" not in flags:
        for job_id, attributes in listed.items():
            print(job_id, attributes["Job_Name"], attributes["job_state"], attributes["queue"])
    elif "-F" not in flags:
        for job_id, attributes in listed.items():
            print(f"Job Id: {job_id}")
            for name, value in attributes.items():
                print(f"    {name} = {value}")
            print()
    elif listed:
        # Seen, head: `qstat -f -F json 1 2` prints job 1 only, exit code 0; without ids it prints all.
        first = answers[0] if pbs.release == "head" and named else listed
        print_json(first, quoted=pbs.release == "head")
    return code


def print_json(jobs: dict[str, dict[str, str]], *, quoted: bool) -> None:
    """Seen, v23.06.06: `qsub -N 1e5 -v A=.5` is `"Job_Name":1e5`, `"A":.5` in `qstat -f -F json`: what strtod(3) reads has no
    quotes, though `.5` is not JSON. The head quotes names and accounts, and prints `.5` as a text."""

    def value(text: str) -> str:
        if quoted or not re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?|nan|inf", text, re.IGNORECASE):
            return json.dumps(text)
        return text if not text.startswith("0") or float(text) < 1 else json.dumps(text)

    texts = [
        f"        {json.dumps(job_id)}:{{\n"
        + ",\n".join(f"            {json.dumps(name)}:{value(text)}" for name, text in job.items())
        + "\n        }"
        for job_id, job in jobs.items()
    ]
    print('{\n    "pbs_version":"23.06.06",\n    "Jobs":{\n' + ",\n".join(texts) + "\n    }\n}")


def qselect(words: list[str]) -> int:
    """The ids of jobs that are not over; `-u USER` is all that is known here."""
    options, _ = options_of(words, "command line")
    with server() as pbs:
        for job_id, job in pbs.jobs.items():
            if job["job_state"] != "F" and job["owner"] in options.get("u", [job["owner"]]):
                print(job_id)
    return 0


# --- the rest ---------------------------------------------------------------------------------------------------------


def qdel(words: list[str]) -> int:
    code = 0
    job_ids = [word for word in words if not word.startswith("-")]
    for job_id in job_ids:
        with server() as pbs:
            try:
                job = pbs.find(job_id)
                if job["job_state"] == "F":
                    raise Refusal(FINISHED, f"Job has finished {job_id}")
            except Refusal as refusal:
                if pbs.release == "23" and len(job_ids) > 1:
                    # Seen, v23.06.06 without history: `qdel 4 5` where 5 was over: exit code 0, and the server died of a
                    # segmentation fault in update_deljob_rply.
                    server_(("down",))
                    return 0
                print(f"qdel: {refusal}", file=sys.stderr)
                code = refusal.code
                continue
            if job["job_state"] in ("R", "B"):
                job["deleting"] = True
                for pid in job.get("pids", {}).values():
                    stop(pid)
            else:
                # A job that has not run: its dependents are not told, and stay as they are for good. Seen, `qstat -x -f -w` of
                # it: `job_state = F`, `substate = 91`, no stime, no Exit_status.
                pbs.end(job, None, 91, wakes=False)
    return code


def qrls(words: list[str]) -> int:
    return change_holds(words, "")


def qhold(words: list[str]) -> int:
    return change_holds(words, "u")


def change_holds(words: list[str], holds: str) -> int:
    if words[:1] == ["-h"]:
        words = words[2:]
    code = 0
    for job_id in words:
        with server() as pbs:
            try:
                job = pbs.find(job_id)
                if job["job_state"] == "F":
                    raise Refusal(FINISHED, f"Job has finished {job_id}")
                job["holds"] = holds
            except Refusal as refusal:
                print(f"qrls: {refusal}", file=sys.stderr)
                code = refusal.code
    return code


def qalter(words: list[str]) -> int:
    options, job_ids = options_of(words, "command line")
    for job_id in job_ids:
        with server() as pbs:
            job = pbs.find(job_id)
            for text in options.get("W", []):
                job["depend"] = dependencies(text.removeprefix("depend="), pbs) if text != "depend=" else []
            for text in options.get("a", []):
                job["begin"] = begin_time(text)
            pbs.judge(job)
            pbs.schedule()
    return 0


def qrerun(words: list[str]) -> int:
    """The operator's, or what a lost node does: the job is killed and queued again under its id."""
    for job_id in words:
        with server() as pbs:
            job = pbs.find(job_id)
            if os.environ.get("PBS_OPERATOR") != "1":
                # Seen: `qrerun 1032` by its owner: exit code 159.
                raise Refusal(UNAUTHORIZED, f"Unauthorized Request  {job_id}")
            job["rerun"] = True
            for pid in job.get("pids", {}).values():
                signal_group(pid, signal.SIGKILL)
    return 0


def server_(words: Sequence[str]) -> int:
    """Not a command of PBS: the server goes down, or comes up."""
    if words[0] == "down":
        (home() / "down").touch()
    else:
        (home() / "down").unlink(missing_ok=True)
        with server():
            pass  # what has waited is scheduled
    return 0


def mom_(words: Sequence[str]) -> int:
    """Not a command of PBS: the mom dies, or is started again. Seen, v23.06.06, `kill -9` of pbs_mom: the job stays R; once
    pbs_mom is back the job runs from its start, `run_count = 2`."""
    if words[0] == "up":
        with server() as pbs:
            running = [job for job in pbs.jobs.values() if job["job_state"] == "R"]
            for job in running:
                job["rerun"] = True
                for pid in job.get("pids", {}).values():
                    signal_group(pid, signal.SIGKILL)
    return 0


def signal_group(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, number)


def stop(pid: int) -> None:
    signal_group(pid, signal.SIGTERM)
    detached("kill", str(pid))


def kill(pid: str) -> None:
    """KILL after kill_delay."""
    time.sleep(5)
    signal_group(int(pid), signal.SIGKILL)


def wake(job_id: str, seconds: str) -> None:
    time.sleep(max(0.0, float(seconds)))
    with server(wait=True):
        pass  # scheduling happens on the way out


def run(job_id: str, index: str) -> None:
    """One job, or one element of an array, from its start to its end."""
    with server(wait=True) as pbs:
        job = dict(pbs.jobs[job_id])
    own_id = job_id.replace("[]", f"[{index}]")
    output = home() / "spool" / f"{own_id}.OU"
    environment = {
        "HOME": job["home"],
        "USER": job["owner"],
        "LOGNAME": job["owner"],
        "SHELL": "/bin/bash",
        # Seen: the commands of PBS are not there, though `PBS_O_PATH` is that of qsub.
        "PATH": "/usr/local/bin:/usr/bin:/bin:/usr/local/games:/usr/games",
        "PBS_O_PATH": job["path"],
        **job["variables"],
        "PBS_CONF_FILE": os.environ["PBS_CONF_FILE"],
        "PBS_JOBID": own_id,
        "PBS_JOBNAME": job["Job_Name"],
        "PBS_QUEUE": job["queue"],
        "PBS_O_WORKDIR": job["workdir"],
        "PBS_O_HOME": job["home"],
        "PBS_ENVIRONMENT": "PBS_BATCH",
        "PBS_JOBDIR": job["home"],
        "PBS_NODEFILE": "/dev/null",
        "NCPUS": "1",
    }
    if index:
        environment |= {"PBS_ARRAY_INDEX": index, "PBS_ARRAY_ID": job_id}
    with output.open("wb") as stream:
        child = subprocess.Popen(
            [job["script"]],
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            cwd=job["home"],
            env=environment,
            umask=0o077,
            start_new_session=True,
        )
        with server(wait=True) as pbs:
            known = pbs.jobs[job_id]
            known.setdefault("pids", {})[index] = child.pid
            known["run_count"] += 1
            if known.get("deleting") or known.get("rerun"):  # it was started before anyone could signal it
                stop(child.pid)
        status = waited(child, walltime_of(job), job_id)
    # Output files arrive after the job.
    target = job["output"] or f"{job['workdir']}/{job['Job_Name']}.o{own_id.split('.')[0]}"
    with contextlib.suppress(OSError):
        if Path(target).is_dir() or target != "/dev/null":
            Path(target).write_bytes(output.read_bytes())
    with server(wait=True) as pbs:
        known = pbs.jobs[job_id]
        known.get("pids", {}).pop(index, None)
        if known.pop("rerun", False):
            known["job_state"], known["substate"] = "Q", 10
            return
        if known.get("deleting"):
            status = DELETED_EXIT
        if not index:
            pbs.end(known, status, 91 if known.get("deleting") else 92 if status == 0 else 93)
            return
        known["elements"][index] |= {
            "job_state": "X",
            "substate": 91 if known.get("deleting") else 92 if status == 0 else 93,
            "Exit_status": status,
        }
        # Of the element that ended last. Seen, head without history, arrays of four whose last one ended last: where that one
        # had exited with 7, a job after `afternotok:A[]` was let go, and where the second had, the one after `afterok:A[]`.
        # With history, `qstat -x -t -f -w` after the second had: `Exit_status = 0`, `substate = 93`.
        known["Exit_status"] = (status > 0) + 2 * (status < 0)
        if all(element["job_state"] == "X" for element in known["elements"].values()):
            bad = any(element["Exit_status"] for element in known["elements"].values())
            pbs.end(known, known["Exit_status"], 91 if known.get("deleting") else 93 if bad else 92)


def walltime_of(job: Job) -> float | None:
    text = job["Resource_List"].get("walltime")
    if text is None:
        return None
    seconds = 0
    for part in text.split(":"):
        seconds = seconds * 60 + int(part)
    return seconds


def waited(child: subprocess.Popen[bytes], walltime: float | None, job_id: str) -> int:
    """The job's Exit_status; after its walltime TERM, then KILL, and -29 whatever a trap says."""
    try:
        code = child.wait(walltime)
    except subprocess.TimeoutExpired:
        ended(child)
        return WALLTIME_EXIT
    finally:
        signal_group(child.pid, signal.SIGKILL)
    return code if code >= 0 else (DELETED_EXIT if code == -signal.SIGTERM else 128 - code)


def ended(child: subprocess.Popen[bytes]) -> None:
    signal_group(child.pid, signal.SIGTERM)
    try:
        child.wait(10)
    except subprocess.TimeoutExpired:
        signal_group(child.pid, signal.SIGKILL)
        child.wait()


def main(program: str, words: list[str]) -> int:
    commands: dict[str, Any] = {
        "qsub": qsub,
        "qstat": qstat,
        "qselect": qselect,
        "qdel": qdel,
        "qrls": qrls,
        "qhold": qhold,
        "qalter": qalter,
        "qrerun": qrerun,
        "server": server_,
        "mom": mom_,
    }
    try:
        if program in commands:
            return int(commands[program](words) or 0)
        {"run": run, "wake": wake, "kill": kill}[program](*words)
    except Refusal as refusal:
        if refusal.code == NO_SERVER:
            print("Connection refused", file=sys.stderr)
        print(str(refusal) if str(refusal).startswith(("qsub", "usage")) else f"{program}: {refusal}", file=sys.stderr)
        return 255 if (program, refusal.code) == ("qstat", NO_SERVER) else refusal.code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
