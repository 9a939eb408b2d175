"""Check that no line of an audit file, written by `numclip run --gate AGE --audit FILE`, was changed, removed, moved or cut off.

With --key PUBLIC.pem the command also checks that each answer has a valid signature and occurs only once. It prints the hash of
the last line. Store that hash elsewhere: it proves later that nobody replaced the whole file. `numclip audit verify --help`
lists the flags.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ..runtime.places import write_json
from ..runtime.sinks.audit import check_audit
from .shared_flags import add_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `numclip audit`."""
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="verify")
    verify = kinds.add_parser("verify", help="check every line from the first to the last", allow_abbrev=False)
    verify.add_argument("file", type=Path, metavar="FILE", help="the audit file; FILE.head must be in the same folder")
    verify.add_argument(
        "--key",
        type=Path,
        metavar="PUBLIC.pem",
        help="check the signatures with this public P-256 key (default: signatures are not checked)",
    )
    verify.add_argument(
        "--nonce", metavar="TEXT", help="with --key: require every answer to be signed with this nonce (default: any)"
    )
    add_json(verify, "the result")


def run(args: argparse.Namespace) -> int:
    """Check the chain of lines; exit code 1 if it is broken."""
    found = check_audit(args.file, args.key, args.nonce)
    if args.json:
        write_json(args.json, found.to_json())
    if found.fault is not None:
        print(f"numclip: {args.file}: {found.fault}", file=sys.stderr)
        return 1
    if args.json != "-":
        answers = ", ".join(f"{n} {answer}" for answer, n in sorted(found.answers.items())) or "no answers"
        print(f"{args.file}: {found.lines} lines, {found.runs} runs, {answers}; no line was altered")
        print(f"hash of the last line: {found.last}")
    return 0
