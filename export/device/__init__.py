"""On the robot: numpy and onnxruntime only. `from export.device import Device`."""

from export.device.device import Device
from export.device.strict import BundleError

__all__ = ["BundleError", "Device"]
