"""Sensors of the machine during a run: power by rail, clocks, temperature, power mode, throttling.

Everything is read from files that Linux provides (hwmon, powercap, thermal, cpufreq, devfreq) under `root`, and from NVML if
nvidia-ml-py is installed and a driver responds. What a machine does not report is null or missing, never guessed.
"""

from __future__ import annotations

import importlib
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

from ..runtime.system import power_modes, read_line
from .report import State

# Reasons for a reduced clock of an NVIDIA GPU (nvml.h): power cap, hardware slowdown, software and hardware thermal limits, brake.
NVML_THROTTLE = {0x4: "power cap", 0x8: "hardware", 0x20: "heat (software)", 0x40: "heat (hardware)", 0x80: "brake"}
COOLS_BY_SLOWING = re.compile(r"cpu|gpu|processor|devfreq|clock|throttl", re.I)  # cooling devices other than fans


@dataclass(frozen=True)
class Rail:
    """One measured power supply: its sensor and name, and either its current power or its energy since some start."""

    name: str  # as in "INA3221 VDD_IN"
    watts: Callable[[], float] | None = None
    joules: Callable[[], float] | None = None
    wraps_at_j: float = float("inf")  # the counter wraps to zero here


class Sensors:
    """This machine's sensors."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root
        self._nvml = _open_nvml()
        self.unreadable: list[str] = []  # rails that exist but may not be read
        self.rails = [*self._ina3221(), *self._rapl(), *self._nvml_rails()]

    def state(self) -> State:
        """Load, clocks, temperatures and power mode at this moment, and every counter and flag that indicates throttling."""
        return {
            "load_1min": round(os.getloadavg()[0], 2),
            "cpu_mhz": self._mean_mhz("sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_cur_freq", 1e3),
            "gpu_mhz": self._mean_mhz("sys/class/devfreq/*gpu*/cur_freq", 1e6) or self._nvml_mhz(),
            "temperature_c": self._temperatures(),
            "power_mode": self._power_mode(),
            "throttle": dict(self._throttle()),
        }

    def gpu_mb(self) -> float | None:
        """Memory in use on the first NVIDIA GPU, by all processes; None without NVML."""
        if self._nvml is None:
            return None
        library, card = self._nvml
        return float(library.nvmlDeviceGetMemoryInfo(card).used) / 2**20

    def _ina3221(self) -> Iterator[Rail]:
        """The rails of a Jetson: hwmon gives mV and mA for each labelled channel."""
        for chip in self._find("sys/class/hwmon/hwmon*"):
            if read_line(chip / "name") != "ina3221":
                continue
            for volts in sorted(chip.glob("in[0-9]_input")):
                number = volts.name[2]
                amperes, label = chip / f"curr{number}_input", read_line(chip / f"in{number}_label")
                if label and amperes.exists() and read_line(chip / f"in{number}_enable") != "0":
                    yield Rail(f"INA3221 {label}", watts=_product(volts, amperes))

    def _rapl(self) -> Iterator[Rail]:
        """The energy counters of Intel and AMD processors, in uJ; since 2020 only root may read them."""
        for zone in self._find("sys/class/powercap/intel-rapl:*"):
            counter, name = zone / "energy_uj", f"RAPL {read_line(zone / 'name') or zone.name}"
            if read_line(counter) is None:
                if counter.exists():
                    self.unreadable.append(f"{name}: only root may read {counter}; sudo chmod a+r {counter}")
                continue
            most = read_line(zone / "max_energy_range_uj")
            yield Rail(name, joules=_scaled(counter, 1e-6), wraps_at_j=int(most) / 1e6 if most else float("inf"))

    def _nvml_rails(self) -> Iterator[Rail]:
        if self._nvml is None:
            return
        library, card = self._nvml
        try:
            library.nvmlDeviceGetTotalEnergyConsumption(card)
        except library.NVMLError:  # older than Volta: only the current power
            with suppress(library.NVMLError):
                library.nvmlDeviceGetPowerUsage(card)
                yield Rail("NVML board", watts=lambda: library.nvmlDeviceGetPowerUsage(card) / 1e3)
            return
        yield Rail("NVML board", joules=lambda: library.nvmlDeviceGetTotalEnergyConsumption(card) / 1e3)

    def _nvml_mhz(self) -> int | None:
        if self._nvml is None:
            return None
        library, card = self._nvml
        return int(library.nvmlDeviceGetClockInfo(card, library.NVML_CLOCK_GRAPHICS))

    def _temperatures(self) -> dict[str, float]:
        found: dict[str, float] = {}
        for zone in self._find("sys/class/thermal/thermal_zone*"):
            value = read_line(zone / "temp")  # a zone that is switched off has none
            if value is not None and int(value) > 0:
                found[read_line(zone / "type") or zone.name] = int(value) / 1000
        if self._nvml is not None:
            library, card = self._nvml
            found["NVML board"] = float(library.nvmlDeviceGetTemperature(card, library.NVML_TEMPERATURE_GPU))
        return found

    def _power_mode(self) -> str | None:
        """A Jetson's nvpmodel by name, else the firmware's profile, else the governor of the first core."""
        if modes := power_modes(self._root):
            return f"nvpmodel {modes.name}"
        profile = read_line(self._root / "sys/firmware/acpi/platform_profile")
        return profile or read_line(self._root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")

    def _throttle(self) -> Iterator[tuple[str, int]]:
        """Counters that rise, and states that become non-zero, when the machine throttles."""
        for counter in self._find("sys/devices/system/cpu/cpu0/thermal_throttle/*_throttle_count"):
            yield f"cpu {counter.name}", int(read_line(counter) or 0)
        for counter in self._find("sys/class/hwmon/hwmon*/oc*_event_cnt"):  # a Jetson's over-current events
            yield f"jetson {counter.name}", int(read_line(counter) or 0)
        for device in self._find("sys/class/thermal/cooling_device*"):
            kind = read_line(device / "type") or ""
            state = read_line(device / "cur_state")
            if COOLS_BY_SLOWING.search(kind) and "fan" not in kind.lower() and state is not None:
                yield f"cooling {kind} {device.name}", int(state)
        if self._nvml is not None:
            library, card = self._nvml
            reasons = int(library.nvmlDeviceGetCurrentClocksThrottleReasons(card))
            for bit, name in NVML_THROTTLE.items():
                yield f"nvidia {name}", int(bool(reasons & bit))

    def _mean_mhz(self, pattern: str, unit: float) -> int | None:
        values = [int(text) for path in self._find(pattern) if (text := read_line(path))]
        return round(sum(values) / len(values) / unit) if values else None

    def _find(self, pattern: str) -> list[Path]:
        return sorted(self._root.glob(pattern))


def throttled(before: State, after: State) -> list[str]:
    """The signs that the machine throttled between two states, or was throttling at the end."""
    said: list[str] = []
    for name, now in after["throttle"].items():
        was = before["throttle"].get(name, 0)
        counts = name.startswith(("cpu ", "jetson "))  # counters only rise; the others are states, 0 at rest
        if now > was or (now > 0 and not counts):
            said.append(f"{name} went from {was} to {now}" if now != was else f"{name} stood at {now}")
    if before["power_mode"] != after["power_mode"]:
        said.append(f"power mode changed from {before['power_mode']} to {after['power_mode']}")
    return said


class Watch:
    """Reads the sensors before, during and after a run, and keeps the signs of throttling."""

    def __init__(self, sensors: Sensors) -> None:
        self._sensors, self._looked_s = sensors, time.monotonic()
        self.before = self.after = sensors.state()
        self.said: dict[str, None] = {}  # in order of detection

    def look(self) -> None:
        """Read the sensors."""
        self.after, self._looked_s = self._sensors.state(), time.monotonic()
        self.said |= dict.fromkeys(throttled(self.before, self.after))

    def look_now_and_then(self) -> None:
        """Read the sensors if the last reading is more than a second old."""
        if time.monotonic() - self._looked_s > 1:
            self.look()


class _Nvml(Protocol):
    """The used part of nvidia-ml-py (pynvml); a GPU is an opaque handle."""

    NVMLError: type[Exception]
    NVML_CLOCK_GRAPHICS: int
    NVML_TEMPERATURE_GPU: int

    def nvmlInit(self) -> None: ...
    def nvmlDeviceGetHandleByIndex(self, index: int) -> object: ...
    def nvmlDeviceGetMemoryInfo(self, card: object) -> _Memory: ...
    def nvmlDeviceGetTotalEnergyConsumption(self, card: object) -> int: ...
    def nvmlDeviceGetPowerUsage(self, card: object) -> int: ...
    def nvmlDeviceGetClockInfo(self, card: object, clock: int) -> int: ...
    def nvmlDeviceGetTemperature(self, card: object, sensor: int) -> int: ...
    def nvmlDeviceGetCurrentClocksThrottleReasons(self, card: object) -> int: ...


class _Memory(Protocol):
    used: int  # bytes


def _open_nvml() -> tuple[_Nvml, object] | None:
    """(library, first GPU), or None if nvidia-ml-py is not installed or no driver responds."""
    try:
        library = cast("_Nvml", importlib.import_module("pynvml"))
    except ImportError:
        return None
    try:
        library.nvmlInit()
        return library, library.nvmlDeviceGetHandleByIndex(0)
    except library.NVMLError:
        return None


def _product(volts: Path, amperes: Path) -> Callable[[], float]:
    return lambda: int(read_line(volts) or 0) * int(read_line(amperes) or 0) / 1e6


def _scaled(path: Path, unit: float) -> Callable[[], float]:
    return lambda: int(read_line(path) or 0) * unit
