"""ONNX Runtime set up for tiny networks, and a policy whose parameters are an input. numpy and onnxruntime only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from export.device.constant import constant

Vector = NDArray[np.float32]

REMEMBERED = ("memory", "observation", "feedback")  # what a policy with memory reads, after theta


def session(graph: bytes) -> Any:
    """An `onnxruntime.InferenceSession` on one thread that never spins: a robot has other work for its cores.

    Raises ValueError for bytes that are not a graph that ONNX Runtime can load. Graphs from elsewhere are inspected
    first (`export.device.inspection`).
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 4  # what fails is raised, and need not be printed as well
    try:
        # A second try after a failure would only print.
        return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"], enable_fallback=0)
    except Exception as error:  # a dozen classes without a common base
        raise ValueError(
            f"ONNX Runtime {onnxruntime.__version__} cannot load the graph ({len(graph)} bytes), expected one written "
            f"by export.graphs; export it again, or update onnxruntime: {first_line(error)}"
        ) from error


def first_line(error: Exception) -> str:
    """What an exception says, without the traces that ONNX Runtime appends."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def refuse(name: str, value: object, shape: tuple[int, ...]) -> None:
    """Raises ValueError unless `value` is a finite float32 array of `shape`."""
    if not isinstance(value, np.ndarray) or value.dtype != np.float32 or value.shape != shape:
        found = f"{value.dtype}{list(value.shape)}" if isinstance(value, np.ndarray) else type(value).__name__
        raise ValueError(f"{name} is {found}, expected float32{list(shape)}; is it of the same robot and policy?")
    if not np.isfinite(value).all():
        count = int(np.count_nonzero(~np.isfinite(value)))
        raise ValueError(
            f"{name} holds NaN or infinity in {count} of {value.size} places, expected finite values; "
            "check what it comes from"
        )


class Policy:
    """The `act` graph: `policy(theta, observation) -> (mean, log_std)`.

    parameters, observation_size, action_size: the lengths of its vectors. Raises ValueError for another graph.
    """

    def __init__(self, graph: bytes) -> None:
        self._session = session(graph)
        shapes = {entry.name: entry.shape for entry in (*self._session.get_inputs(), *self._session.get_outputs())}
        if list(shapes) != ["theta", "observation", "mean", "log_std"] or any(
            len(shape) != 1 or not isinstance(shape[0], int) for shape in shapes.values()
        ):
            raise ValueError(
                f"the graph has inputs and outputs {shapes}, expected vectors theta, observation -> mean, log_std; "
                "is it an act graph?"
            )
        self.parameters: int = shapes["theta"][0]
        self.observation_size: int = shapes["observation"][0]
        self.action_size: int = shapes["mean"][0]
        self._run, self._graph = self._session.run, graph
        self._outputs = ["mean", "log_std"]

    def fixed(self, theta: Vector) -> Callable[[Vector], tuple[Vector, Vector]]:
        """The same of an observation alone: faster in each call, for a millisecond or two in this one."""
        run, outputs = session(constant(self._graph, "theta", theta)).run, self._outputs

        def answer(observation: Vector) -> tuple[Vector, Vector]:
            mean, log_std = run(outputs, {"observation": observation})
            return mean, log_std

        return answer

    def __call__(self, theta: Vector, observation: Vector) -> tuple[Vector, Vector]:
        """mean and log_std float32[action_size] for theta float32[parameters], observation float32[observation_size].

        Raises ValueError for another shape or type, or for NaN where that broke the run. NaN in an observation
        otherwise comes out as NaN: whoever acts on a robot checks first, as `Device` does.
        """
        try:
            mean, log_std = self._run(self._outputs, {"theta": theta, "observation": observation})
        except Exception:  # ONNX Runtime compares shapes and types anyway: the usual call pays for no other check
            refuse("theta", theta, (self.parameters,))
            refuse("observation", observation, (self.observation_size,))
            raise
        return mean, log_std


class RecurrentPolicy:
    """The `act` graph of a policy with memory: `policy(theta, memory, observation, feedback)`.

    It answers (mean, log_std, memory_next). memory is zeros where a trial starts, and what the call before answered
    from then on. feedback is (previous action, previous reward, 1 if the step before ended its attempt else 0),
    zeros where a trial starts. parameters, memory_size, observation_size, action_size, feedback_size: the lengths of
    its vectors. discrete: the actions are one-hot, mean holds logits and log_std is empty. Raises ValueError for
    another graph.
    """

    def __init__(self, graph: bytes) -> None:
        self._session = session(graph)
        shapes = {entry.name: entry.shape for entry in (*self._session.get_inputs(), *self._session.get_outputs())}
        if list(shapes) != ["theta", *REMEMBERED, "mean", "log_std", "memory_next"] or any(
            len(shape) != 1 or not isinstance(shape[0], int) for shape in shapes.values()
        ):
            raise ValueError(
                f"the graph has inputs and outputs {shapes}, expected vectors theta, memory, observation, feedback -> "
                "mean, log_std, memory_next; is it an act graph with a memory?"
            )
        sizes = {name: shape[0] for name, shape in shapes.items()}
        action, memory = sizes["mean"], sizes["memory"]
        fitting = {"feedback": action + 2, "memory_next": memory, "log_std": action if sizes["log_std"] else 0}
        if any(sizes[name] != size for name, size in fitting.items()):
            raise ValueError(
                f"the graph has vectors of the sizes {sizes}, expected {fitting} beside these actions and memory; "
                "is it an act graph with a memory?"
            )
        self.parameters: int = sizes["theta"]
        self.memory_size: int = memory
        self.observation_size: int = sizes["observation"]
        self.action_size: int = action
        self.feedback_size: int = sizes["feedback"]
        self.discrete = sizes["log_std"] == 0
        self._run, self._graph = self._session.run, graph
        self._outputs = ["mean", "log_std", "memory_next"]

    def fixed(self, theta: Vector) -> Callable[[Vector, Vector, Vector], tuple[Vector, Vector, Vector]]:
        """The same of (memory, observation, feedback) alone: faster in each call, for a millisecond or two in this."""
        run, outputs = session(constant(self._graph, "theta", theta)).run, self._outputs

        def answer(memory: Vector, observation: Vector, feedback: Vector) -> tuple[Vector, Vector, Vector]:
            mean, log_std, following = run(
                outputs, {"memory": memory, "observation": observation, "feedback": feedback}
            )
            return mean, log_std, following

        return answer

    def __call__(
        self, theta: Vector, memory: Vector, observation: Vector, feedback: Vector
    ) -> tuple[Vector, Vector, Vector]:
        """mean and log_std float32[action_size] and memory_next float32[memory_size], for vectors of the sizes above.

        Raises ValueError, and lets NaN through, as `Policy` does.
        """
        feed = {"theta": theta, "memory": memory, "observation": observation, "feedback": feedback}
        try:
            mean, log_std, following = self._run(self._outputs, feed)
        except Exception:
            sizes = (self.parameters, self.memory_size, self.observation_size, self.feedback_size)
            for (name, value), size in zip(feed.items(), sizes, strict=True):
                refuse(name, value, (size,))
            raise
        return mean, log_std, following


def open_policy(graph: bytes) -> Policy | RecurrentPolicy:
    """The act graph with or without a memory, whichever its inputs say. Raises ValueError for another graph."""
    names = {entry.name for entry in session(graph).get_inputs()}
    return RecurrentPolicy(graph) if "memory" in names else Policy(graph)
