"""The board checks, with a Jetson's files in a folder as a stand-in for the hardware."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from numclip.doctor import board as doctor_board
from numclip.doctor.devices import unfit_for_board
from numclip.runtime.system import L4T, environment, is_jetson

ORIN_NANO = {
    "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 1, BOARD: generic, EABI: aarch64, DATE: x\n# KERNEL\n",
    "proc/device-tree/model": "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super\0",
    "etc/nvpmodel.conf": "< POWER_MODEL ID=0 NAME=15W >\nCPU_ONLINE CORE_0 1\n< POWER_MODEL ID=2 NAME=MAXN_SUPER >\n",
    "var/lib/nvpmodel/status": "pmode:0000\n",
    "sys/class/devfreq/17000000.gpu/min_freq": "306000000\n",
    "sys/class/devfreq/17000000.gpu/max_freq": "1020000000\n",
    "sys/devices/system/cpu/cpufreq/policy0/scaling_min_freq": "729600\n",
    "sys/devices/system/cpu/cpufreq/policy0/scaling_max_freq": "1728000\n",
    "proc/meminfo": "MemTotal:        7802880 kB\nMemFree: 1 kB\n",
    "proc/swaps": "Filename Type Size Used Priority\n/dev/zram0 partition 650240 0 5\n/dev/zram1 partition 650240 0 5\n",
}


def lay_out(root: Path, **changed: str) -> Path:
    """Write a board's files into `root`, with changes to some of them (by file name)."""
    for name, text in ORIN_NANO.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(changed.get(file.name.replace(".", "_"), text))
    return root


def test_a_board_out_of_the_box(tmp_path: Path) -> None:
    """A new board: model, L4T, JetPack, power mode, clocks and memory are reported, with the commands that make it faster."""
    found = [(f.check, f.ok, f.said, f.fix) for f in doctor_board.checks(lay_out(tmp_path))]

    assert found == [
        ("board", True, "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super", None),
        ("jetpack", True, "L4T 36.4.3, JetPack 6.2", None),
        ("power mode", True, "15W; the strongest is MAXN_SUPER", "sudo nvpmodel -m 2"),
        ("clocks", True, "not locked: latency varies with the load", "sudo jetson_clocks"),
        ("memory", True, "7.4 GB, swap 0.0 GB, zram 1.2 GB", None),
    ]


def test_after_its_lines(tmp_path: Path) -> None:
    """After nvpmodel and jetson_clocks, the strongest mode and fixed clocks are reported."""
    root = lay_out(tmp_path, status="pmode:0002", min_freq="1020000000", scaling_min_freq="1728000")

    assert doctor_board.power_mode(root).said == "MAXN_SUPER"
    assert doctor_board.power_mode(root).fix is None
    assert doctor_board.clocks(root).said == "locked"


def test_one_free_clock_is_enough(tmp_path: Path) -> None:
    """With a fixed GPU clock but a free CPU clock, the clocks do not count as locked."""
    assert doctor_board.clocks(lay_out(tmp_path, min_freq="1020000000")).said.startswith("not locked")


@pytest.mark.parametrize(
    ("swaps", "ok"),
    [
        ("Filename Type Size Used Priority\n", False),
        ("Filename Type Size Used Priority\n/dev/zram0 partition 4194304 0 5\n", False),  # half of 4 GB on top of 3.8
        ("Filename Type Size Used Priority\n/swapfile file 8388608 0 -2\n", True),
    ],
)
def test_a_small_board_needs_swap(tmp_path: Path, swaps: str, ok: bool) -> None:
    """4 GB, with or without zram, is too little to build an engine; with 8 GB of swap on disk it is enough."""
    found = doctor_board.memory(lay_out(tmp_path, meminfo="MemTotal:  3956084 kB\n", swaps=swaps))

    assert found.ok == ok
    assert (found.fix is None) == ok
    assert ok or "mkswap" in str(found.fix)


@pytest.mark.parametrize(
    ("release", "expected", "ok"),
    [
        ("# R36 (release), REVISION: 4.0, GCID: 2", "6.1", True),
        ("# R36 (release), REVISION: 4.7, GCID: 2", "6", True),
        ("# R38 (release), REVISION: 2.0, GCID: 2", "7.0", True),
        ("# R38 (release), REVISION: 4.0, GCID: 2", "7.1", True),
        ("# R39 (release), REVISION: 2.0, GCID: 2", "7.2", True),
        ("# R39 (release), REVISION: 4.0, GCID: 2", "7", True),
        ("# R36 (release), REVISION: 3.0, GCID: 2", "6", False),
        ("# R35 (release), REVISION: 6.0, GCID: 2", "5", False),
    ],
)
def test_releases(tmp_path: Path, release: str, expected: str, ok: bool) -> None:
    """L4T releases map to JetPack versions; JetPack older than 6.1 is a problem."""
    found = {f.check: f for f in doctor_board.checks(lay_out(tmp_path, nv_tegra_release=release))}["jetpack"]

    assert found.said.partition(";")[0].endswith(f"JetPack {expected}")
    assert found.ok == ok


@pytest.mark.parametrize(
    ("version", "release", "fit"),
    [
        ("10.3.0", L4T(36, 4, 3), True),
        ("10.16.2", L4T(39, 2, 0), True),
        ("11.0.0", L4T(39, 2, 0), False),
        ("11.3.2", L4T(39, 2, 0), False),
        ("11.4.1", L4T(38, 4, 0), False),
        ("11.4.1", L4T(39, 2, 2), True),
        ("11.1.0", None, True),
    ],
)
def test_a_tensorrt_that_knows_no_jetson(version: str, release: L4T | None, fit: bool) -> None:
    """TensorRT 11 before 11.4.1 supports no JetPack, and 11.4.1 needs JetPack 7.2.2; on other machines any version is fine."""
    assert (unfit_for_board(version, release) is None) == fit


def test_what_a_report_says_of_the_board(tmp_path: Path) -> None:
    """The environment in benchmark and bug reports comes from the same files as the checks."""
    said = environment(lay_out(tmp_path))

    assert said["jetpack"] == "6.2 (L4T 36.4.3)"
    assert said["board"] == "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super"
    assert said["memory_gb"] == 7.4


def test_another_machine(tmp_path: Path) -> None:
    """A machine without L4T is not a Jetson, and nothing else is checked."""
    assert [f.said for f in doctor_board.checks(tmp_path)] == ["not a Jetson"]
    assert not is_jetson(tmp_path)


@given(text=st.text(max_size=200))
def test_odd_files_are_unknown_and_no_crash(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    """Any file content gives findings, never a crash."""
    root = tmp_path_factory.mktemp("odd")
    changed = {Path(name).name.replace(".", "_"): text for name in ORIN_NANO if "tegra" not in name}
    root = lay_out(root, **changed)

    assert len(list(doctor_board.checks(root))) == 5
