"""Lay out help: options in groups, placeholders that are real words, examples at the end."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from typer.core import TyperCommand

OPTIONS, TRANSFER, WAITING, OUTPUT, ADVANCED = "Options", "Transfer options", "Waiting", "Output", "Advanced"
#: In the order of a help page; an option that no group has is one of the first.
GROUPS: dict[str, tuple[str, ...]] = {
    TRANSFER: (
        *("--recursive", "--include", "--exclude", "--sync-level", "--preserve-timestamp", "--verify-checksum"),
        *("--encrypt-data", "--skip-source-errors", "--delete-destination-extra", "--symlinks"),
    ),
    WAITING: ("--timeout", "--then", "--on-failure", "--receipt", "--strict", "--keep"),
    OUTPUT: ("--json", "--quiet", "--verbose", "--help"),
    ADVANCED: (
        *("--poll", "--fault-grace", "--max-faults", "--permanent", "--retry-for", "--receipt-files", "--in-flight"),
        *("--fail-on-quota-errors", "--source-local-user", "--destination-local-user", "--chunk", "--start-delay"),
        *("--external-checksum", "--checksum-algorithm", "--label", "--notify", "--deadline", "--max-bytes"),
        *("--stage-partition", "--stage-account", "--stage-time", "--probe-wait", "--retry-after", "--lost"),
    ),
}
_GROUP_OF = {name: group for group, names in GROUPS.items() for name in names}

#: What an option's value is called, by its type,
_TYPES = {"duration": "DURATION", "size": "SIZE", "integer": "N", "integer range": "N", "path": "FILE"}
#: or by the option, where the last word of its name does not say it.
VALUES = {
    **dict.fromkeys(("--include", "--exclude"), "PATTERN"),
    **dict.fromkeys(("--then", "--on-failure"), "COMMAND"),
    **dict.fromkeys(("--poll", "--fault-grace", "--settle", "--stage-time"), "DURATION"),
    **dict.fromkeys(("--expires", "--deadline", "--newer-than", "--until"), "TIME"),
    **dict.fromkeys(("--max-bytes", "--max-bytes-per-day"), "SIZE"),
    **dict.fromkeys(("--input", "--document", "--credentials"), "FILE"),
    **dict.fromkeys(("--to", "--by", "--add", "--remove", "--visible-to", "--manager", "--monitor"), "WHO"),
    **dict.fromkeys(("--source", "--destination", "--under"), "ADDRESS"),
    **dict.fromkeys(("--local-root", "--base"), "DIRECTORY"),
    **dict.fromkeys(("--on-collision", "--symlinks", "--lost"), "ACTION"),
    **dict.fromkeys(("--staging", "--progress"), "MODE"),
    "--max-delete": "LIMIT",
    "--notify": "WHEN",
    "--permanent": "CODES",
    "--as": "FORMAT",
    "--set": "NAME=VALUE",
    "--address": "NAME=ADDRESS",
    "--function": "NAME=FUNCTION",
}

#: By the words of a command. `make docs` shows them too, and the tests try their options.
EXAMPLES: dict[str, tuple[str, ...]] = {
    "transfer": (
        "globuswrap transfer archive:/raw/run7/ scratch:/run7/ --wait",
        "globuswrap transfer scratch:/run7/out.h5 archive:/results/ --sync-level checksum --key run7-out",
    ),
    "delete": ("globuswrap delete scratch:/run7/ --recursive --wait",),
    "batch": (
        "globuswrap batch archive:/raw/ scratch:/raw/ list.txt --wait",
        "find . -name '*.h5' -print0 | globuswrap batch scratch:/ archive:/ - --null",
    ),
    "submit": (
        "globuswrap submit --dry-run job.sh",
        "globuswrap submit job.sh -- --account=physics",
        "globuswrap submit --resume c7e5a001",
    ),
    "stage in": ("globuswrap stage in archive:/raw/run7/ scratch:/run7/",),
    "stage out": ("globuswrap stage out scratch:/run7/out/ archive:/results/run7/ --if-present",),
    "status": ("globuswrap status", "globuswrap status --watch", "globuswrap status 0bf74f58"),
    "show": ("globuswrap show 0bf74f58", "globuswrap show c7e5a001 --json"),
    "history": ("globuswrap history --since 1w", "globuswrap history --route archive:scratch --csv"),
    "report": ("globuswrap report --since 1w", "globuswrap report -o report.html"),
    "wait": ("globuswrap wait 0bf74f58", "globuswrap wait run7-out --timeout 2h --then 'mail -s done me'"),
    "cancel": ("globuswrap cancel 0bf74f58", "globuswrap cancel c7e5a001 --dry-run"),
    "ls": ("globuswrap ls archive:/raw/", "globuswrap ls --long scratch:/run7/"),
    "sync add": ("globuswrap sync add beam /data/beam/ archive:/beam/ --schedule 15m",),
    "sync run": ("globuswrap sync run beam", "globuswrap sync run beam --dry-run"),
    "sync list": ("globuswrap sync list",),
    "sync baseline": ("globuswrap sync baseline beam --until 2026-11-01",),
    "sync export": ("globuswrap sync export beam --as cron",),
    "share grant": ("globuswrap share grant public:/run7/ me@example.org --expires +30d",),
    "share revoke": ("globuswrap share revoke public:/run7/ me@example.org",),
    "share list": ("globuswrap share list public",),
    "share deliver": ("globuswrap share deliver archive:/run7/ public:/run7/ --to me@example.org --mail",),
    "share apply": ("globuswrap share apply policy.toml --dry-run",),
    "share group": ("globuswrap share group 'Beamline users' --create --add me@example.org",),
    "share guest": ("globuswrap share guest archive:/public 'Run 7' --name public",),
    "cleanup": (
        "globuswrap cleanup --under scratch:/run7/",
        "globuswrap cleanup --under scratch:/run7/ --older-than 7d --yes",
    ),
    "watch": ("globuswrap watch /data/out -- globuswrap transfer {path} archive:/raw/",),
    "watch repair": ("globuswrap watch repair /data/out", "globuswrap watch repair /data/out --retry"),
    "flow deploy": ("globuswrap flow deploy recipes/flows/transfer-share --dry-run",),
    "flow start": ("globuswrap flow start recipes/flows/transfer-share --input input.json --wait",),
    "flow wait": ("globuswrap flow wait 8d2f1c0e-5a3b-4c1d-9e7f-000000000001 --timeout 2h",),
    "search ingest": ("globuswrap search ingest 8d2f1c0e-5a3b-4c1d-9e7f-000000000002 entries.jsonl --wait",),
    "search query": ("globuswrap search query 8d2f1c0e-5a3b-4c1d-9e7f-000000000002 'run 7'",),
    "collection add": ("globuswrap collection add scratch 8d2f1c0e-5a3b-4c1d-9e7f-000000000003 --mount /scratch/me=/",),
    "collection remove": ("globuswrap collection remove scratch",),
    "collection list": ("globuswrap collection list",),
    "collection search": ("globuswrap collection search --mine", "globuswrap collection search 'beam line'"),
    "collection bookmarks": ("globuswrap collection bookmarks --add",),
    "collection resolve": (
        "globuswrap collection resolve /scratch/me/run7",
        "globuswrap collection resolve scratch:/run7",
    ),
    "init": (
        "globuswrap init",
        "globuswrap init --collection scratch=8d2f1c0e-5a3b-4c1d-9e7f-000000000003 --mount scratch=/scratch/me",
    ),
    "doctor": ("globuswrap doctor", "globuswrap doctor job.sh"),
    "tend": ("globuswrap tend", "globuswrap tend --follow c7e5a001"),
    "toolkit": ('source "$(globuswrap toolkit)"',),
    "completion": ("source <(globuswrap completion bash)",),
    "sandbox run": ("globuswrap sandbox run -- globuswrap collection list",),
    "sandbox up": ('globuswrap sandbox up && eval "$(globuswrap sandbox env)"',),
    "sandbox env": ('eval "$(globuswrap sandbox env)"', 'eval "$(globuswrap sandbox env --unset)"'),
    "sandbox down": ("globuswrap sandbox down",),
    "sandbox shell": ("globuswrap sandbox shell",),
    "sandbox status": ("globuswrap sandbox status",),
    "sandbox fault": ("globuswrap sandbox fault denied collection=scratch", "globuswrap sandbox fault --clear"),
    "sandbox progress": ("globuswrap sandbox progress held",),
    "sandbox clock": ("globuswrap sandbox clock 2d",),
    "sandbox log": ("globuswrap sandbox log --service transfer",),
    "sandbox reset": ("globuswrap sandbox reset",),
}


def groups_of(options: Iterable[Any]) -> dict[str, str]:
    """The groups of the options of a command, by their names; one transfer option alone is an option like others."""
    found = {each.name: next((_GROUP_OF[name] for name in each.opts if name in _GROUP_OF), OPTIONS) for each in options}
    alone = list(found.values()).count(TRANSFER) == 1
    return {name: OPTIONS if alone and group == TRANSFER else group for name, group in found.items()}


def value_of(option: Any) -> str:
    """What the value of an option is called."""
    long = max(option.opts, key=len)
    return str(
        option.metavar
        or VALUES.get(long)
        or _TYPES.get(option.type.name)
        or long.lstrip("-").rpartition("-")[2].upper()
    )


class Command(TyperCommand):
    """A command whose help has its options in groups, and ends with its examples."""

    examples: tuple[str, ...] = ()

    def format_options(self, ctx: Any, formatter: Any) -> None:
        sections: dict[str, list[tuple[str, str]]] = {"Arguments": [], OPTIONS: [], **{name: [] for name in GROUPS}}
        groups = groups_of(self.get_params(ctx))
        for each in self.get_params(ctx):
            argument = each.param_type_name == "argument"
            if not argument and not each.is_flag and not each.count:  # type: ignore[attr-defined]
                each.metavar = value_of(each)
            record = each.get_help_record(ctx)
            if record is not None:
                sections["Arguments" if argument else groups[str(each.name)]].append(record)
        for name, rows in sections.items():
            if rows:
                with formatter.section(name):
                    formatter.write_dl(rows)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        if self.examples:
            with formatter.section("Examples"):
                for line in self.examples:
                    formatter.write(f"  {line}\n")
