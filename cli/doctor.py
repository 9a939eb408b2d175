"""What works on this machine, and the exact line to type for what does not.

Every check really does what it reports: devices run the model, cameras give frames, the cache takes a file. Problems are
listed with the line to type under each; what is fine is counted, and listed with --all. The exit code is 1 while a
problem stands. A line under a finding that is ok is an option, not a fault.
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
        "--camera", action="append", metavar="SOURCE", help="open this camera or stream, in place of all that are found"
    )
    parser.add_argument(
        "--privacy",
        action="store_true",
        help="run a clip under a tracer that sees every socket and every file written, and list what left the process",
    )
    parser.add_argument("--clip", type=Path, metavar="FILE", help="with --privacy: this clip (default: the demo's)")
    parser.add_argument(
        "--tracer",
        choices=TRACERS,
        default="auto",
        help="with --privacy; auto: strace where it works, else hooks",
    )
    parser.add_argument("--all", action="store_true", help="list what is fine too")
    parser.add_argument(
        "--json", metavar="FILE|-", help="the findings as JSON, for a bug report; names no user, host, address or place"
    )


def run(args: argparse.Namespace) -> int:
    """Look at everything; exit code 1 if anything needs mending."""
    if args.privacy:
        return _privacy(args.clip, args.tracer, args.json)
    if args.clip is not None or args.tracer != "auto":
        raise UsageError("expected --privacy beside --clip and --tracer")
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
        print(f"traced by {found.tracer}" + ("" if found.tracer == "strace" else ": native code is seen only in part"))
        for what, seen in (("asked for", found.asked), ("SOCKET", found.sockets), ("FILE", found.files)):
            for one in seen:
                print(f"{what:<10} {one}")
        if found.exit_code:
            print(f"PROBLEM    the run ended with exit code {found.exit_code}")
        nothing = "nothing left the process but what flags asked for"
        print(nothing if found.clean else "more left the process than flags asked for, or the run failed")
    return 0 if found.clean else 1


def _show(finding: Finding) -> None:
    print(f"{'ok     ' if finding.ok else 'PROBLEM'}  {finding.check:<18} {finding.said}", flush=True)
    if finding.fix:
        print(f"{'':<28}{finding.fix}", flush=True)


def _summary(found: Diagnosis, folded: bool) -> str:
    """What is fine, in a line, and the next thing to do."""
    names = ", ".join(dict.fromkeys(finding.check for finding in found.fine))
    options = sum(finding.fix is not None for finding in found.fine)
    fine = f"{len(found.fine)} checks are fine: {names}"
    also = f"; {options} of them can be changed" if options else ""
    lines = [f"{fine} (--all lists them{also})"] if folded and found.fine else []
    if problems := len(found.problems):
        lines.append(
            "1 problem: type the line under it"
            if problems == 1
            else f"{problems} problems: type the lines under them, top down"
        )
    else:
        lines.append(f"next: numclip {'run 0 --show' if found.sees else 'demo'}")
    return "\n" + "\n".join(lines)
