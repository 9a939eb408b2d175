"""Sensors, read from file trees like those of a Jetson and an Intel machine (stand-ins for absent hardware)."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from numclip.bench.energy import energy_per_face
from numclip.bench.sensors import Rail, Sensors, Watch, throttled


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text + "\n")
    return root


JETSON = {
    "sys/class/hwmon/hwmon0/name": "tmp451",
    "sys/class/hwmon/hwmon1/name": "ina3221",
    "sys/class/hwmon/hwmon1/in1_label": "VDD_IN",
    "sys/class/hwmon/hwmon1/in1_input": "5000",
    "sys/class/hwmon/hwmon1/curr1_input": "1200",
    "sys/class/hwmon/hwmon1/in2_label": "VDD_CPU_GPU_CV",
    "sys/class/hwmon/hwmon1/in2_input": "5000",
    "sys/class/hwmon/hwmon1/curr2_input": "300",
    "sys/class/hwmon/hwmon1/in3_label": "VDD_SOC",
    "sys/class/hwmon/hwmon1/in3_input": "0",
    "sys/class/hwmon/hwmon1/curr3_input": "0",
    "sys/class/hwmon/hwmon1/in3_enable": "0",
    "sys/class/hwmon/hwmon1/in7_label": "sum of shunt voltages",
    "sys/class/hwmon/hwmon1/in7_input": "12",
    "sys/class/hwmon/hwmon2/name": "soctherm_oc",
    "sys/class/hwmon/hwmon2/oc1_event_cnt": "0",
    "sys/class/thermal/thermal_zone0/type": "cpu-thermal",
    "sys/class/thermal/thermal_zone0/temp": "51500",
    "sys/class/thermal/thermal_zone1/type": "cv0-thermal",
    "sys/class/thermal/thermal_zone1/temp": "-256000",
    "sys/class/thermal/cooling_device0/type": "cpufreq-cpu0",
    "sys/class/thermal/cooling_device0/cur_state": "0",
    "sys/class/thermal/cooling_device1/type": "pwm-fan",
    "sys/class/thermal/cooling_device1/cur_state": "3",
    "sys/class/devfreq/17000000.gpu/cur_freq": "624750000",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "1510400",
    "sys/devices/system/cpu/cpu1/cpufreq/scaling_cur_freq": "1510400",
    "var/lib/nvpmodel/status": "pmode:0001",
    "etc/nvpmodel.conf": "< POWER_MODEL ID=0 NAME=15W >\nCPU_ONLINE CORE_0 1\n< POWER_MODEL ID=1 NAME=7W >",
}


def test_a_jetsons_rails_are_named(tmp_path: Path) -> None:
    """5,000 mV at 1,200 mA on VDD_IN are 6 W; a rail that is off and the sum of shunts do not count as rails."""
    rails = Sensors(write(tmp_path, JETSON)).rails
    assert [(r.name, r.watts()) for r in rails if r.watts] == [
        ("INA3221 VDD_IN", 6.0),
        ("INA3221 VDD_CPU_GPU_CV", 1.5),
    ]


def test_a_jetsons_state(tmp_path: Path) -> None:
    """A Jetson's state has clocks in MHz, the power mode's name and the zones with a temperature; a fan is not a throttle device."""
    state = Sensors(write(tmp_path, JETSON)).state()
    assert (state["cpu_mhz"], state["gpu_mhz"], state["power_mode"]) == (1510, 625, "nvpmodel 7W")
    assert state["temperature_c"] == {"cpu-thermal": 51.5}
    assert state["throttle"] == {"jetson oc1_event_cnt": 0, "cooling cpufreq-cpu0 cooling_device0": 0}


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("sys/class/hwmon/hwmon2/oc1_event_cnt", "2", "jetson oc1_event_cnt went from 0 to 2"),
        ("sys/class/thermal/cooling_device0/cur_state", "1", "cooling cpufreq-cpu0 cooling_device0 went from 0 to 1"),
        ("var/lib/nvpmodel/status", "pmode:0000", "power mode changed from nvpmodel 7W to nvpmodel 15W"),
    ],
)
def test_a_run_that_was_held_back_is_known(tmp_path: Path, file: str, text: str, said: str) -> None:
    """Over-current events, thermal throttling and a change of power mode each make a run invalid, even if temporary."""
    watch = Watch(Sensors(write(tmp_path, JETSON)))
    watch.look()
    assert not watch.said
    write(tmp_path, {file: text})
    watch.look()
    write(tmp_path, {file: JETSON[file]})
    watch.look()
    assert next(iter(watch.said)) == said


def test_a_fan_is_no_throttling(tmp_path: Path) -> None:
    """A faster fan does not make a run invalid."""
    sensors = Sensors(write(tmp_path, JETSON))
    before = sensors.state()
    write(tmp_path, {"sys/class/thermal/cooling_device1/cur_state": "4"})
    assert throttled(before, sensors.state()) == []


def test_intels_counters(tmp_path: Path) -> None:
    """RAPL counts uJ up to a wrap-around value; only an increase of the throttle counts makes a run invalid."""
    rapl, heat = "sys/class/powercap/intel-rapl:0", "sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count"
    files = {f"{rapl}/name": "package-0", f"{rapl}/energy_uj": "2500000", f"{rapl}/max_energy_range_uj": "9000000"}
    sensors = Sensors(write(tmp_path, {**files, heat: "7"}))
    (rail,) = sensors.rails
    assert rail.joules is not None
    assert (rail.name, rail.joules(), rail.wraps_at_j) == ("RAPL package-0", 2.5, 9.0)
    before = sensors.state()
    assert throttled(before, sensors.state()) == []
    write(tmp_path, {heat: "9"})
    assert throttled(before, sensors.state()) == ["cpu core_throttle_count went from 7 to 9"]


def test_a_counter_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    """If the energy counter exists but cannot be read (here: a folder in its place), the report names it and the command to run."""
    (tmp_path / "sys/class/powercap/intel-rapl:0/energy_uj").mkdir(parents=True)
    sensors = Sensors(write(tmp_path, {"sys/class/powercap/intel-rapl:0/name": "package-0"}))
    assert sensors.rails == []
    assert "RAPL package-0" in sensors.unreadable[0] and "sudo chmod" in sensors.unreadable[0]


def test_a_machine_that_tells_nothing(tmp_path: Path) -> None:
    """Without sensor files there are no rails, values are null, and the run does not count as throttled."""
    sensors = Sensors(tmp_path)
    state = sensors.state()
    assert sensors.rails == [] and state["cpu_mhz"] is None and state["temperature_c"] == {}
    assert throttled(state, sensors.state()) == []


NVML = """
NVML_CLOCK_GRAPHICS = NVML_TEMPERATURE_GPU = 0
class NVMLError(Exception): pass
class Memory: used = 512 * 2**20
reasons, energy = [0], [41000]
def nvmlInit(): pass
def nvmlDeviceGetHandleByIndex(i): return i
def nvmlDeviceGetTotalEnergyConsumption(card): return energy[0]
def nvmlDeviceGetPowerUsage(card): return 70000
def nvmlDeviceGetClockInfo(card, kind): return 1410
def nvmlDeviceGetTemperature(card, kind): return 44
def nvmlDeviceGetMemoryInfo(card): return Memory
def nvmlDeviceGetCurrentClocksThrottleReasons(card): return reasons[0]
"""


def test_an_nvidia_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """NVML's mJ become J, clock and memory are reported, and a power cap makes a run invalid (with a stand-in library)."""
    (tmp_path / "pynvml.py").write_text(NVML)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "pynvml", raising=False)
    sensors = Sensors(tmp_path)
    monkeypatch.delitem(sys.modules, "pynvml", raising=False)
    (rail,) = sensors.rails
    assert rail.joules is not None and (rail.name, rail.joules()) == ("NVML board", 41.0)
    state = sensors.state()
    assert (state["gpu_mhz"], state["temperature_c"], sensors.gpu_mb()) == (1410, {"NVML board": 44.0}, 512.0)
    assert throttled(state, {**state, "throttle": {**state["throttle"], "nvidia power cap": 1}}) == [
        "nvidia power cap went from 0 to 1"
    ]


def test_energy_per_face_by_hand() -> None:
    """Hand-computed: a counter that rises by 10 mJ per call of 4 faces gives 2.5 mJ per face; a rail at 2 W gives its share."""
    joules = [0.0]

    def call() -> None:
        time.sleep(0.005)
        joules[0] += 0.010

    rails = [Rail("meter", watts=lambda: 2.0), Rail("counter", joules=lambda: joules[0])]
    meter, counter = energy_per_face(call, faces=4, rails=rails, seconds=0.3)
    assert (meter["work_w"], meter["mj_per_face_above_rest"]) == (2.0, 0.0)
    assert counter["rest_w"] == 0 and counter["mj_per_face"] == pytest.approx(2.5)
    assert meter["mj_per_face"] / counter["mj_per_face"] == pytest.approx(2.0 / counter["work_w"])


def test_a_counter_that_wraps() -> None:
    """A counter that wraps around to zero after 5 J still gives the energy used."""
    joules = [4.9]

    def call() -> None:
        time.sleep(0.005)
        joules[0] = (joules[0] + 0.05) % 5.0

    (counter,) = energy_per_face(call, 1, [Rail("c", joules=lambda: joules[0], wraps_at_j=5.0)], seconds=0.2)
    assert counter["mj_per_face"] == pytest.approx(50, rel=1e-6)


def test_no_rails_no_figures() -> None:
    """Without sensors nothing runs and no energy is reported."""
    assert energy_per_face(lambda: pytest.fail("called"), 1, []) == []
