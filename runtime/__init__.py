import os

# ONNX Runtime's wheels write a device id and a database of usage into the home folder unless this says no before they
# are loaded. Nothing is written here that nobody asked for; whoever wants it can set the variable to 0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
