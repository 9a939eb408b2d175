"""Trace a run on a clip: every socket it opens and every file it writes, by any library and any child process.

The tracer is strace, which asks the kernel. If it is not installed or may not trace, Python's audit hooks are used, together with
the process's open files and sockets in /proc every 20 ms; of native code they only see what stays open long enough.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import DeviceError, SourceError

CALLS = "network,chdir,open,openat,openat2,creat,rename,renameat,renameat2,mkdir,mkdirat,link,linkat,symlink,symlinkat,truncate,mknod,mknodat"
TRACERS = ("auto", "strace", "hooks")
POLL_S = 0.02
LIMIT_S = 600
HARMLESS = re.compile(
    r"/dev/(null|zero|tty|pts/\d+|random|urandom|shm/sem\.[^/]*)|/proc/(self|\d+)/.*|pipe:.*|socket:.*|anon_inode:.*"
)
COMPILED = re.compile(r".*/__pycache__(/[^/]+\.pyc(\.\d+)?)?")  # Python's own copies of code that it has read


@dataclass(frozen=True)
class PrivacyOptions:
    """The clip to run, and the tracer."""

    clip: Path | None = None
    """A video or picture; None: the demo's clip."""
    flags: Sequence[str] = ()
    """More flags of `numclip run`."""
    tracer: str = "auto"
    """strace, hooks, or auto: strace if it works, else hooks."""


@dataclass(frozen=True)
class PrivacyReport:
    """The result of a trace."""

    tracer: str  # strace or hooks
    command: tuple[str, ...]  # after numclip
    exit_code: int
    sockets: tuple[str, ...]  # each address that was connected to, sent to, or listened on
    files: tuple[str, ...]  # written, created or renamed to, except those that were asked for
    asked: tuple[str, ...]  # files that flags asked for, and that were written

    @property
    def clean(self) -> bool:
        """Whether the run succeeded, and opened and wrote only what flags asked for."""
        return not self.sockets and not self.files and self.exit_code == 0

    def to_json(self) -> dict[str, object]:
        """As one JSON object."""
        lists = {name: list(getattr(self, name)) for name in ("command", "sockets", "files", "asked")}
        return {"tracer": self.tracer, "exit_code": self.exit_code, **lists, "clean": self.clean}


def privacy(options: PrivacyOptions) -> PrivacyReport:
    """Trace a run on a clip; raises SourceError if the clip does not exist, DeviceError if nothing can be traced."""
    if options.clip is not None and not options.clip.exists():
        raise SourceError(f"{options.clip}: the clip does not exist; give another --clip")
    with tempfile.TemporaryDirectory(prefix="numclip-privacy-") as folder:
        clip, out = options.clip, Path(folder) / "ages.jsonl"
        if clip is None:
            from ..demo.clip import write_clip
            from ..demo.show import demand_packages

            demand_packages()
            clip = Path(folder) / "clip.mp4"
            write_clip(clip)
        words = ("run", str(clip.resolve()), "--jsonl", str(out), *options.flags)
        return watch([sys.executable, "-m", "numclip.cli.main"], words, options.tracer)


def watch(program: Sequence[str], words: Sequence[str], tracer: str = "auto") -> PrivacyReport:
    """Run `program` with `words` and list the sockets and files that it used; files that are named in `words` are expected.

    program begins with a Python interpreter. Raises DeviceError if the requested tracer does not work.
    """
    asked = {str(Path(word).resolve()) for word in words if not word.startswith("-")}
    asked |= {f"{path}.head" for path in asked}  # of an audit file
    chosen = tracer if tracer != "auto" else "strace" if _strace_works() else "hooks"
    run = {"strace": _with_strace, "hooks": _with_hooks}.get(chosen)
    if run is None:
        raise DeviceError(f"expected --tracer strace, hooks or auto, got {tracer}")
    if chosen == "strace" and not _strace_works():
        raise DeviceError("strace is not installed, or may not trace here; install it, or use --tracer hooks")
    code, sockets, files = run([*program, *words])
    mine = {path for path in files if not HARMLESS.fullmatch(path) and not COMPILED.fullmatch(path)}
    mine -= {path for path in mine if os.path.isdir(path) and any(a.startswith(f"{path}/") for a in asked)}
    return PrivacyReport(
        chosen, tuple(words), code, tuple(sorted(sockets)), tuple(sorted(mine - asked)), tuple(sorted(mine & asked))
    )


def _strace_works() -> bool:
    strace = shutil.which("strace")
    if strace is None:
        return False
    done = subprocess.run([strace, "-f", "-o", os.devnull, sys.executable, "-S", "-c", ""], capture_output=True)
    return done.returncode == 0


def _with_strace(command: list[str]) -> tuple[int, set[str], set[str]]:
    with tempfile.NamedTemporaryFile(prefix="numclip-strace-", mode="r", errors="replace") as trace:
        flags = ["-f", "-qq", "-y", "-s", "0", "-e", f"trace={CALLS}", "-e", "signal=none", "-o", trace.name]
        done = subprocess.run(["strace", *flags, *command], capture_output=True, timeout=LIMIT_S)
        return done.returncode, *read_strace(trace)


ADDRESS = re.compile(r"sin6?_port=htons\((\d+)\).*?(?:inet_addr\(\"([^\"]*)\"\)|inet_pton\(AF_INET6, \"([^\"]*)\")")
# where the C library looks up user names, as it does without HOME; a look-up contains nothing of the run
USER_TABLES = ("/var/run/nscd/socket", "/run/nscd/socket")
LOCAL = re.compile(r"sun_path=@?\"([^\"]*)\"")
NETWORK = ("connect", "bind", "sendto", "sendmsg", "sendmmsg")
LINE = re.compile(r"(?:\d+\s+)?(\w+)\((.*)\)\s+= (-?\d+)(?:<(.*)>)?.*")


def read_strace(lines: Iterable[str]) -> tuple[set[str], set[str]]:
    """The sockets and the written files in a trace made with -f -y."""
    sockets, files, begun = set[str](), set[str](), dict[str, str]()
    folders, last = dict[str, str](), os.getcwd()  # by process; a new process starts in the last one's folder
    for raw in lines:
        line = raw.rstrip("\n")
        process = line.partition(" ")[0]
        if line.endswith("<unfinished ...>"):
            begun[process] = line.removesuffix("<unfinished ...>").rstrip()
            continue
        resumed = re.match(r"\d+\s+<\.\.\. \w+ resumed>(.*)", line)
        if resumed:
            line = begun.pop(process, "") + resumed[1]
        found = LINE.fullmatch(line)
        if found is None:
            continue
        call, words, result, path = found.groups()
        if call in NETWORK:
            sockets |= {f"{call} {where}" for where in _addresses(words)}
        elif int(result) >= 0 and call == "chdir":
            folders[process] = last = os.path.join(folders.get(process, last), words.strip('"'))
        elif int(result) >= 0:
            files |= set(_written(call, words, path, folders.get(process, last)))
    return sockets, files


def _addresses(words: str) -> list[str]:
    """The addresses of a call, whether it succeeded or not."""
    places = [f"[{six}]:{port}" if six else f"{four}:{port}" for port, four, six in ADDRESS.findall(words)]
    return places + [f"unix:{path}" for path in LOCAL.findall(words) if path not in USER_TABLES]


def _written(call: str, words: str, path: str | None, here: str) -> list[str]:
    if call in ("open", "openat", "openat2", "creat"):
        writes = call == "creat" or re.search(r"O_WRONLY|O_RDWR|O_CREAT|O_TRUNC|O_APPEND", words)
        return [path.removesuffix("(deleted)")] if writes and path else []
    named = re.findall(r"(?:<([^<>]*)>, )?\"([^\"]*)\"", words)  # the folder of a relative path precedes it
    if not named or (call == "symlink" and len(named) < 2):
        return []
    folder, name = named[-1]
    return [os.path.normpath(os.path.join(folder or here, name))]


HOOKS = r"""
import os, sys, runpy
_out = os.open(sys.argv.pop(1), os.O_WRONLY | os.O_APPEND)
_writes = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
def _hook(event, args):
    try:
        if event in ("socket.connect", "socket.bind", "socket.sendto", "socket.sendmsg"):
            if args[1] is not None:
                os.write(_out, f"S {event.partition('.')[2]} {args[1]}\n".encode())
        elif event == "open" and args[0] is not None and not isinstance(args[0], int):
            mode, flags = args[1] or "", args[2] or 0
            if set("wax+") & set(mode) or flags & _writes:
                os.write(_out, f"F {os.path.abspath(os.fsdecode(args[0]))}\n".encode())
        elif event in ("os.rename", "os.link", "os.symlink", "os.mkdir", "os.truncate"):
            to = args[1] if event in ("os.rename", "os.link", "os.symlink") else args[0]
            if not isinstance(to, int):
                os.write(_out, f"F {os.path.abspath(os.fsdecode(to))}\n".encode())
    except Exception:
        pass
sys.addaudithook(_hook)
if sys.argv[1] == "-m":
    sys.argv[:2] = sys.argv[1:2]
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
else:
    del sys.argv[0]
    exec(compile(sys.argv.pop(1), "<string>", "exec"), {"__name__": "__main__"})
"""


def _with_hooks(command: list[str]) -> tuple[int, set[str], set[str]]:
    """Trace with audit hooks inside the process, and /proc from outside."""
    sockets, files = set[str](), set[str]()
    with tempfile.NamedTemporaryFile(prefix="numclip-hooks-", mode="r") as trace, tempfile.TemporaryFile() as said:
        words = [command[0], "-c", HOOKS, trace.name, *command[1:]]
        child = subprocess.Popen(words, stdout=said, stderr=said)
        until_s = time.monotonic() + LIMIT_S
        while child.poll() is None:
            _look_in_proc(child.pid, sockets, files)
            if time.monotonic() > until_s:
                child.kill()
            time.sleep(POLL_S)
        for line in trace:
            kind, _, rest = line.rstrip("\n").partition(" ")
            (sockets if kind == "S" else files).add(rest)
        files.discard(trace.name)
    return child.returncode, sockets, files


def _look_in_proc(pid: int, sockets: set[str], files: set[str]) -> None:
    """The files open for writing, and the sockets with a peer or a listener, at this moment."""
    try:
        inodes = set[str]()
        for number in os.listdir(f"/proc/{pid}/fd"):
            path = os.readlink(f"/proc/{pid}/fd/{number}")
            if path.startswith("socket:["):
                inodes.add(path[8:-1])
            elif path.startswith("/") and _may_write(pid, number) and " (deleted)" not in path:
                files.add(path)
        for family in ("tcp", "tcp6", "udp", "udp6") if inodes else ():
            for row in Path(f"/proc/{pid}/net/{family}").read_text().splitlines()[1:]:
                cells = row.split()
                if cells[9] in inodes:
                    sockets.add(f"{family} {cells[1]} to {cells[2]} (hex, from /proc)")
    except (OSError, IndexError):
        return  # it has ended or closed the file in the meantime


def _may_write(pid: int, number: str) -> bool:
    text = Path(f"/proc/{pid}/fdinfo/{number}").read_text()
    flags = int(re.search(r"flags:\s+(\d+)", text)[1], 8)  # type: ignore[index]
    return bool(flags & (os.O_WRONLY | os.O_RDWR))
