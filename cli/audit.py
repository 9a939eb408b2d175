"""Check an audit file that `numclip run --gate AGE --audit FILE` wrote: that no line was changed, dropped, moved or cut off.

With --key it also checks that each answer is signed, as it stands, once. The hash of the last line is printed: kept
elsewhere, it shows later that nobody made a new chain.
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
    verify = kinds.add_parser("verify", help="follow the chain from the first line to the last", allow_abbrev=False)
    verify.add_argument("file", type=Path, metavar="FILE", help="the audit file; FILE.head lies beside it")
    verify.add_argument("--key", type=Path, metavar="PUBLIC.pem", help="check signatures with this P-256 key")
    verify.add_argument("--nonce", metavar="TEXT", help="with --key: the nonce that every answer must be signed with")
    add_json(verify, "what was found")


def run(args: argparse.Namespace) -> int:
    """Follow it; exit code 1 where it does not hold."""
    found = check_audit(args.file, args.key, args.nonce)
    if args.json:
        write_json(args.json, found.to_json())
    if found.fault is not None:
        print(f"numclip: {args.file}: {found.fault}", file=sys.stderr)
        return 1
    if args.json != "-":
        answers = ", ".join(f"{n} {answer}" for answer, n in sorted(found.answers.items())) or "no answers"
        print(f"{args.file}: {found.lines} lines, {found.runs} runs, {answers}; the chain is whole")
        print(f"last line: {found.last}")
    return 0
