"""Check what works on this machine, and print the command that fixes each problem.

Every check does what it reports: devices run the model, cameras deliver frames, a file is written to the cache. Problems are
listed with the command to type under each. Checks that pass are only counted; --all lists them. A command under a check that
passed is a suggestion. The exit code is 1 if there is a problem.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ..doctor.diagnosis import Diagnosis, diagnose
from ..doctor.finding import Finding
from ..doctor.tracing import TRACERS, PrivacyOptions, privacy
from ..errors import UsageError
from ..runtime.places import write_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `numclip doctor`."""
    parser.add_argument(
        "--camera",
        action="append",
        metavar="SOURCE",
        help="check this camera or stream; may be repeated (default: every camera that is found)",
    )
    parser.add_argument(
        "--privacy",
        action="store_true",
        help="run a clip under a system-call tracer, and list every socket that was opened and every file that was "
        "written",
    )
    parser.add_argument(
        "--clip", type=Path, metavar="FILE", help="with --privacy: the clip to run (default: the demo's clip)"
    )
    parser.add_argument(
        "--tracer",
        choices=TRACERS,
        default="auto",
        help="with --privacy: the tracer; hooks are Python's audit hooks, auto takes strace if it works here and hooks "
        "otherwise",
    )
    parser.add_argument("--all", action="store_true", help="list the checks that passed, too")
    parser.add_argument(
        "--json",
        metavar="FILE|-",
        help="write the findings as JSON for a bug report, to FILE or to stdout with -; they contain no names of users, "
        "hosts, addresses or folders",
    )


def run(args: argparse.Namespace) -> int:
    """Run all checks; exit code 1 if there is a problem."""
    if args.privacy:
        return _privacy(args.clip, args.tracer, args.json)
    if args.clip is not None or args.tracer != "auto":
        raise UsageError("--clip and --tracer each need --privacy; add it")
    quiet = args.json == "-"
    found = diagnose(args.camera, lambda finding: None if quiet or finding.ok else _show(finding))
    if args.json:
        write_json(args.json, found.to_json())
    if not quiet:
        for finding in found.fine if args.all else ():
            _show(finding)
        print(_summary(found, folded=not args.all))
    return 1 if found.problems else 0


def _privacy(clip: Path | None, tracer: str, json: str | None) -> int:
    found = privacy(PrivacyOptions(clip, tracer=tracer))
    if json:
        write_json(json, found.to_json())
    if json != "-":
        print(f"numclip {' '.join(found.command)}")
        print(
            f"traced by {found.tracer}"
            + ("" if found.tracer == "strace" else ", which sees only part of what native code does")
        )
        for what, seen in (("asked for", found.asked), ("SOCKET", found.sockets), ("FILE", found.files)):
            for one in seen:
                print(f"{what:<10} {one}")
        if found.exit_code:
            print(f"PROBLEM    the run failed with exit code {found.exit_code}")
        nothing = "the run opened no sockets and wrote no files, except those that flags asked for"
        print(nothing if found.clean else "the run failed, or opened sockets or wrote files that no flag asked for")
    return 0 if found.clean else 1


def _show(finding: Finding) -> None:
    print(f"{'ok     ' if finding.ok else 'PROBLEM'}  {finding.check:<18} {finding.said}", flush=True)
    if finding.fix:
        print(f"{'':<28}{finding.fix}", flush=True)


def _summary(found: Diagnosis, folded: bool) -> str:
    """A line on the checks that passed, and the next command."""
    names = ", ".join(dict.fromkeys(finding.check for finding in found.fine))
    options = sum(finding.fix is not None for finding in found.fine)
    fine = f"{len(found.fine)} checks passed: {names}"
    also = f"; {options} of them have a suggestion" if options else ""
    lines = [f"{fine} (--all lists them{also})"] if folded and found.fine else []
    if problems := len(found.problems):
        lines.append(
            "1 problem: run the command below it"
            if problems == 1
            else f"{problems} problems: run the commands below them, from top to bottom"
        )
    else:
        lines.append(f"next: numclip {'run 0 --show' if found.sees else 'demo'}")
    return "\n" + "\n".join(lines)
