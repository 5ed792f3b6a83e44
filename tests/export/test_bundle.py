"""A bundle is whole and as it was written, or it is refused with one clear error."""

import dataclasses
import hashlib
import json
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from export.bundle import Memory, write
from export.device import BundleError
from export.device.archive import LARGEST
from export.device.bundle import inspect, load
from export.device.manifest import Manifest, Recurrence
from export.device.policy import RecurrentPolicy
from export.device.search import Search, candidates
from export.graphs import export_graph
from robots.actions import GaitResidual, JointIncrement, JointTarget, ToolIncrement
from robots.arms import PANDA
from robots.gait import Gait
from robots.legged import A1

NAMES = [
    "manifest.json",
    "manifest.sha256",
    "act.onnx",
    "adapt.onnx",
    "theta.npy",
    *(f"golden/act.{name}.npy" for name in ("observation", "mean", "log_std")),
    *(f"golden/adapt.{name}.npy" for name in ("observation", "action", "mask", "theta_next", "loss", "gradient_norm")),
]


def files(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def pack(path: Path, contents: dict[str, bytes], manifest: str | None = None) -> Path:
    """Write `contents` as a zip whose manifest (that in `contents`, or `manifest`) has the right digest."""
    text = contents["manifest.json"] if manifest is None else manifest.encode()
    digest = hashlib.sha256(text).hexdigest().encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in {**contents, "manifest.json": text, "manifest.sha256": digest}.items():
            archive.writestr(name, data)
    return path


def replaced(path: Path, bundle: Path, name: str, data: bytes) -> Path:
    """The bundle with one file replaced, as the manifest then says too."""
    contents = files(bundle) | {name: data}
    values = json.loads(contents["manifest.json"])
    values["entries"][name] = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    return pack(path, contents, json.dumps(values))


def refused(path: Path, message: str = "") -> None:
    for read in (inspect, load):
        with pytest.raises(BundleError, match=message) as caught:
            read(path)
        assert "\n" not in str(caught.value)


def test_what_is_written_is_read(toy, bundles):
    bundle, contents = load(bundles[toy.name]), toy.contents()
    manifest = bundle.manifest
    assert manifest == inspect(bundles[toy.name])
    assert manifest == Manifest.from_json(manifest.to_json())
    assert manifest.interface == contents.interface
    assert (manifest.horizon, manifest.learner, manifest.objective) == (12, "maml", toy.name)
    assert manifest.collect == contents.adaptation.collect
    assert [field.name for field in manifest.batch] == list(contents.adaptation.batch)
    assert manifest.batch[0].axes == ("episode", "time", 4)
    assert manifest.step_sizes.mean == pytest.approx(toy.step_sizes.mean(1).tolist())
    assert (manifest.provenance, manifest.evaluation) == (contents.provenance, contents.evaluation)
    assert {"python", "numpy", "onnxruntime", "torch"} <= set(manifest.versions)
    np.testing.assert_array_equal(bundle.theta, toy.theta)
    assert not bundle.theta.flags.writeable


def test_the_manifest_states_the_contract(bundle):
    values = json.loads(files(bundle)["manifest.json"])
    assert values["schema"] == 5
    assert values["joints"] == [{"name": name, "unit": "rad", "lower": -1.0, "upper": 1.0} for name in "ab"]
    assert values["control_hz"] == 50
    assert values["batch"][1] == {"name": "action", "dtype": "float32", "axes": ["episode", "time", 2]}
    assert values["step_sizes"]["count"] == 3
    assert values["step_sizes"]["beyond"] == "last"
    assert sorted(files(bundle)) == sorted(NAMES)


def test_a_policy_that_does_not_adapt_has_a_bundle_too(toys, tmp_path):
    write(tmp_path / "fixed.zip", dataclasses.replace(toys["reward"].contents(), adaptation=None, bounds=None))
    bundle = load(tmp_path / "fixed.zip")
    assert bundle.adapter is None
    assert (bundle.manifest.objective, bundle.manifest.batch, bundle.manifest.step_sizes) == (None, (), None)


def test_a_policy_with_memory_has_a_bundle_too(memory_contents, memory_bundle):
    bundle, values = load(memory_bundle), json.loads(files(memory_bundle)["manifest.json"])
    assert bundle.adapter is None
    assert bundle.manifest.memory == Recurrence(3, "trial", 3)
    assert (bundle.manifest.adapts, bundle.manifest.steps) == ("memory", 2)
    assert values["memory"] == {"size": 3, "reset": "trial", "episodes": 3}
    assert (values["search"], values["batch"], values["collect"]) == (None, [], None)
    assert bundle.manifest == Manifest.from_json(bundle.manifest.to_json())
    assert sorted(files(memory_bundle)) == sorted(
        [
            *NAMES[:3],
            "theta.npy",
            *(f"golden/act.{name}.npy" for name in ("observation", "feedback", "mean", "log_std", "memory_next")),
        ]
    )


@pytest.mark.parametrize("kind", ["climb", "estimate"])
def test_a_policy_that_searches_has_a_bundle_too(search_bundles, kind):
    manifest = load(search_bundles[kind]).manifest
    assert manifest.search.kind == kind
    assert (manifest.adapts, manifest.steps) == ("search", manifest.search.rounds)
    assert manifest == Manifest.from_json(manifest.to_json())
    assert "adapt.onnx" not in files(search_bundles[kind])


def test_equal_contents_give_equal_bytes(toys, bundle, tmp_path):
    write(tmp_path / "again.zip", toys["demonstration"].contents())
    assert (tmp_path / "again.zip").read_bytes() == bundle.read_bytes()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"act": b"nonsense"}, "cannot load the graph"),
        ({"bounds": None}, "bounds is None, expected some"),
        ({"theta": np.zeros(5, np.float32)}, r"theta is float32\[5\], expected float32\[60\]"),
        ({"theta": np.full(60, np.nan, np.float32)}, "NaN"),
        ({"observations": np.zeros((3, 9), np.float32)}, r"float32\[9\], expected float32\[4\]"),
        ({"provenance": {"loss": float("nan")}}, "not plain, finite JSON"),
        ({"evaluation": {"when": object()}}, "not plain, finite JSON"),
        ({"horizon": 0}, "horizon is 0, expected at least 1"),
    ],
)
def test_a_failed_write_leaves_the_old_file_alone(toys, bundle, tmp_path, changes, message):
    path = tmp_path / "policy.zip"
    path.write_bytes(bundle.read_bytes())
    with pytest.raises(ValueError, match=message):
        write(path, dataclasses.replace(toys["demonstration"].contents(), **changes))
    assert path.read_bytes() == bundle.read_bytes()
    assert list(tmp_path.iterdir()) == [path]


FEEDBACK = np.zeros((8, 4), np.float32)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"memory": None}, "act graph has a memory and the contents have none"),
        ({"memory": Memory(4, 3, FEEDBACK)}, r"act.onnx has the sizes \[76, 4, 2, 3\], expected \[76, 4, 2, 4\]"),
        ({"memory": Memory(3, 0, FEEDBACK)}, "memory.episodes is 0, expected at least 1"),
        ({"memory": Memory(3, 3, FEEDBACK[:7])}, r"feedback has shape \[7, 4\] beside observations \[8, 4\]"),
        ({"memory": Memory(3, 3, FEEDBACK[:, :3])}, r"feedback is float32\[3\], expected float32\[4\]"),
        ({"memory": Memory(3, 3, FEEDBACK + 1)}, "zeros where a trial starts"),
        ({"search": Search("climb", 0.1, 0.0, 2, 1, 1)}, "manifest has memory and search, expected one"),
    ],
)
def test_a_memory_that_does_not_fit_is_not_written(memory_contents, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        write(tmp_path / "policy.zip", dataclasses.replace(memory_contents, **changes))
    assert list(tmp_path.iterdir()) == []


def test_a_memory_without_a_graph_that_has_one_is_not_written(toys, tmp_path):
    contents = dataclasses.replace(toys["reward"].contents(), adaptation=None, memory=Memory(3, 3, FEEDBACK))
    with pytest.raises(ValueError, match="act graph has no memory and the contents have one"):
        write(tmp_path / "policy.zip", contents)
    contents = dataclasses.replace(toys["reward"].contents(), search=Search("climb", 0.1, 0.0, 2, 1, 1))
    with pytest.raises(ValueError, match="manifest has batch and search, expected one"):
        write(tmp_path / "policy.zip", contents)


def test_one_hot_actions_are_no_robots(memory_contents, tmp_path):
    def discrete(theta, memory, observation, feedback):
        return theta[:2] + observation[:2], theta[:0], memory + feedback[:3]

    sizes = {"theta": 76, "memory": 3, "observation": 4, "feedback": 4}
    graph = export_graph(
        discrete, {name: torch.zeros(size) for name, size in sizes.items()}, ("mean", "log_std", "memory_next")
    )
    with pytest.raises(BundleError, match=r"log_std.npy has the sizes \[8, 0\], expected \[8, 2\]"):
        write(tmp_path / "policy.zip", dataclasses.replace(memory_contents, act=graph))


def test_a_missing_folder_is_named(toys, tmp_path):
    with pytest.raises(ValueError, match=r"no folder .*nowhere"):
        write(tmp_path / "nowhere" / "policy.zip", toys["demonstration"].contents())


def test_no_file_and_no_zip_are_refused(tmp_path):
    refused(tmp_path / "none.zip", "no file at")
    refused(tmp_path, "is a folder")
    (tmp_path / "text.zip").write_text("not a zip")
    refused(tmp_path / "text.zip", "is not a whole zip file")


def test_a_truncated_bundle_is_refused_at_any_length(bundle, tmp_path):
    data, path = bundle.read_bytes(), tmp_path / "cut.zip"
    for length in sorted({*range(0, len(data), len(data) // 150), *range(len(data) - 30, len(data))}):
        path.write_bytes(data[:length])
        refused(path, "is not a whole zip file")


@pytest.mark.parametrize("name", NAMES)
def test_a_flipped_byte_in_any_file_is_refused(bundle, tmp_path, name):
    data = bytearray(bundle.read_bytes())
    with zipfile.ZipFile(bundle) as archive:
        info = archive.getinfo(name)
    start = info.header_offset + 30 + len(info.filename)
    for place in {start, start + info.compress_size // 2, start + info.compress_size - 1}:
        flipped = data.copy()
        flipped[place] ^= 0x55
        (tmp_path / "flipped.zip").write_bytes(flipped)
        refused(tmp_path / "flipped.zip", re.escape(name))


def test_a_flipped_byte_anywhere_is_refused_or_changes_nothing(bundle, tmp_path):
    data, path = bundle.read_bytes(), tmp_path / "flipped.zip"
    whole, rng = files(bundle), np.random.default_rng(0)
    directory = data.index(b"PK\x01\x02")
    for place in [*rng.integers(0, len(data), 150), *rng.integers(directory, len(data), 350)]:
        flipped = bytearray(data)
        flipped[place] ^= 1 << rng.integers(8)
        path.write_bytes(flipped)
        try:
            manifest = inspect(path)
        except BundleError:
            continue
        assert manifest.to_json() == whole["manifest.json"]


def edit(text: str, key: str, value: str) -> str:
    """The JSON text with the top-level `key` given another value, as text."""
    values = json.loads(text)
    values[key] = "PLACE"
    return json.dumps(values).replace('"PLACE"', value)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("extra", "1", r"unknown keys \['extra'\]"),
        ("schema", "1", "has schema 1, expected 5; install the version that wrote the bundle"),
        ("schema", "true", "has schema True, expected 5"),
        ("schema", '2, "schema": 2', "has the key 'schema' twice"),
        ("horizon", "NaN", "number NaN, which is not finite"),
        ("provenance", '{"loss": Infinity}', "number Infinity"),
        ("provenance", '{"loss": 1e999}', "number 1e999"),
        ("provenance", '{"a": {"b": 1, "b": 2}}', "key 'b' twice"),
        ("provenance", "[" * 5000 + "]" * 5000, "not strict JSON"),
        ("parameters", "9" * 5000, "integer of 5000 digits"),
        ("parameters", "61", r"act.onnx has the sizes \[60, 4, 2\], expected \[61, 4, 2\]"),
        ("parameters", "60.0", "parameters is 60.0, expected int"),
        ("horizon", "0", "horizon is 0, expected at least 1"),
        ("learner", "3", "learner is 3, expected str"),
        ("robot", '"other"', "robot is other, expected toy"),
        ("control_hz", "100", "control_hz is 100, expected 50"),
        ("joints", "[]", "joints is"),
        ("interface", "{}", r"interface has the unknown keys \[\] and lacks"),
        ("collect", "null", "expected all of them or none"),
        ("collect", '{"kind": "guided", "episodes": 1, "steps": 1}', "lacks .'cap', 'correlation'"),
        (
            "collect",
            '{"kind": "guided", "episodes": 1, "steps": 1, "correlation": 1, "cap": 3}',
            "correlation 1 and cap",
        ),
        ("limits", "null", "limits is None, expected dict"),
        ("limits", '{"age": 1}', "limits has the unknown keys"),
        ("bounds", "null", "bounds is None, expected some"),
        ("bounds", '{"norm": -1, "action": 1, "rms": 1, "probation": 1, "patience": 1}', "bounds: bounds are Bounds"),
        (
            "collect",
            '{"kind": "magic", "episodes": 1, "steps": 1, "correlation": 0, "cap": 3}',
            "kind is 'magic', expected one of",
        ),
        ("batch", "[]", "golden is"),
        ("golden", "{}", "golden is"),
        ("versions", '{"numpy": 2}', "numpy is 2, expected str"),
        ("entries", "{}", "entries is"),
        (
            "step_sizes",
            '{"count": 2, "beyond": "last", "minimum": [], "mean": [], "maximum": []}',
            "step_sizes has count 2",
        ),
    ],
)
def test_an_edited_manifest_is_refused_by_what_is_wrong(bundle, tmp_path, key, value, message):
    contents = files(bundle)
    path = pack(tmp_path / "edited.zip", contents, edit(contents["manifest.json"].decode(), key, value))
    with pytest.raises(BundleError, match=message):
        load(path)


CLIMB = {"kind": "climb", "sigma": 0.1, "rate": 0, "tries": 8, "episodes": 1, "rounds": 5}


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("memory", None, "golden is"),
        ("memory", {}, r"memory has the unknown keys \[\] and lacks \['episodes', 'reset', 'size'\]"),
        ("memory", {"size": 3, "reset": "trial", "episodes": 3, "more": 1}, r"unknown keys \['more'\]"),
        ("memory", {"size": 0, "reset": "trial", "episodes": 3}, "memory.size is 0, expected at least 1"),
        ("memory", {"size": 3.0, "reset": "trial", "episodes": 3}, "memory.size is 3.0, expected int"),
        ("memory", {"size": 3, "reset": "episode", "episodes": 3}, "reset is 'episode', expected 'trial'"),
        ("memory", {"size": 3, "reset": "trial", "episodes": True}, "episodes is True, expected int"),
        ("memory", {"size": 5, "reset": "trial", "episodes": 3}, r"sizes \[76, 4, 2, 3\], expected \[76, 4, 2, 5\]"),
        ("memory", [3], "memory is .3., expected dict or null"),
        ("search", CLIMB, "manifest has memory and search, expected one of them at most"),
        ("search", CLIMB | {"kind": "magic"}, "search kind is 'magic', expected one of"),
        ("search", CLIMB | {"sigma": 0}, "sigma 0.0"),
        ("search", CLIMB | {"sigma": 1e300}, r"sigma 1e\+300"),
        ("search", CLIMB | {"tries": 10**17}, "expected 1 to 10000"),
        ("search", CLIMB | {"sigma": "0.1"}, "search.sigma is '0.1', expected int or float"),
        ("search", CLIMB | {"kind": "estimate"}, "search has rate 0"),
        ("search", CLIMB | {"rate": -1.0}, "rate -1.0, expected sigma in"),
        ("search", CLIMB | {"tries": 0}, "search has tries 0, expected 1 to 10000"),
        ("search", CLIMB | {"rounds": 1.5}, "search.rounds is 1.5, expected int"),
        ("search", CLIMB | {"more": 1}, r"unknown keys \['more'\]"),
    ],
)
def test_an_edited_memory_or_search_is_refused(memory_bundle, tmp_path, key, value, message):
    contents = files(memory_bundle)
    values = json.loads(contents["manifest.json"]) | {key: value}
    with pytest.raises(BundleError, match=message):
        load(pack(tmp_path / "edited.zip", contents, json.dumps(values)))


def test_a_manifest_without_memory_or_search_says_so(bundle, tmp_path):
    contents = files(bundle)
    for key in ("memory", "search"):
        values = json.loads(contents["manifest.json"])
        assert values.pop(key, "missing") is None
        refused(pack(tmp_path / "edited.zip", contents, json.dumps(values)), rf"lacks \['{key}'\]")


@pytest.mark.parametrize(
    ("part", "key", "value", "message"),
    [
        ("action", "lead", "0.3", "lead is '0.3', expected int or float"),
        ("action", "scale", [0.1], "scale"),
        ("action", "scale", [0.1, None], "expected a list of numbers"),
        ("action", "upper", [-5.0, -5.0], "upper"),
        ("action", "scale", [[0.1], [0.1]], "expected a list of numbers"),
        ("action", "lower", [True, False], "expected a list of numbers"),
        ("action", "kind", None, "kind is None, expected one of"),
        ("action", "kind", [], r"kind is \[\], expected one of"),
        ("action", "kind", "magic", r"kind is 'magic', expected one of \['gait', 'joint_increment'"),
        ("action", "kind", "joint_target", r"unknown keys \['lead'\] and lacks \['nominal'\]"),
        ("action", "more", 1, r"unknown keys \['more'\]"),
    ],
)
def test_an_edited_interface_is_refused(bundle, tmp_path, part, key, value, message):
    contents = files(bundle)
    values = json.loads(contents["manifest.json"])
    values["interface"][part][key] = value
    with pytest.raises(BundleError, match=message):
        load(pack(tmp_path / "edited.zip", contents, json.dumps(values)))


A1_LIMITS = (tuple(A1.lower.tolist()), tuple(A1.upper.tolist()))
ACTIONS = {  # one of each kind, and the joints that it moves
    "joint_increment": (JointIncrement((0.1,), (-1.0,), (1.0,), 0.3), ("a",)),
    "joint_target": (JointTarget((0.5,), (0.1,), (-1.0,), (1.0,)), ("a",)),
    "gait": (
        GaitResidual(A1.nominal_pose, (0.3,) * 12, *A1_LIMITS, Gait.trot(A1), 50, (1.5, 3.5), (0.02, 0.1), (0.4, 0.6)),
        A1.joint_names,
    ),
    "tool_increment": (
        ToolIncrement(
            PANDA.joints, PANDA.tool, 0.02, (0.3, -0.3, 0.0), (0.7, 0.3, 0.5), tuple(PANDA.lower.tolist()),
            tuple(PANDA.upper.tolist()), 0.3, 0.1, grip=True,
        ),
        PANDA.joint_names,
    ),
}  # fmt: skip


@pytest.fixture(params=sorted(ACTIONS))
def manifest(request, bundle) -> Manifest:
    """The toy's manifest, with an action of each kind."""
    action, joints = ACTIONS[request.param]
    toy = inspect(bundle)
    vectors = {
        name: (getattr(toy.limits, name)[0],) * len(joints)
        for name in ("nominal", "lower", "upper", "rate", "velocity", "reading_lower", "reading_upper", "effort")
    }
    interface = dataclasses.replace(toy.interface, action=action, joints=joints)
    return dataclasses.replace(toy, interface=interface, limits=dataclasses.replace(toy.limits, **vectors))


def test_every_kind_of_action_comes_back(manifest):
    assert Manifest.from_json(manifest.to_json()) == manifest


JUNK = (None, True, "x", 0, -1, 1e300, [], {}, [[1.0]], [0.1, 0.2], {"name": 1})


@given(data=st.data(), junk=st.sampled_from(JUNK))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_an_action_with_a_part_replaced_is_refused_or_understood(manifest, data, junk):
    """Never another error than BundleError, and what is taken has the types that the dataclass names."""
    values = json.loads(manifest.to_json())
    at, key = values["interface"], "action"
    while isinstance(at[key], dict | list) and at[key] and data.draw(st.integers(0, 4)):
        at = at[key]
        key = data.draw(st.sampled_from(sorted(at) if isinstance(at, dict) else range(len(at))))
    at[key] = junk
    try:
        taken = Manifest.from_json(json.dumps(values).encode())
    except BundleError:
        return
    assert Manifest.from_json(taken.to_json()) == taken
    sample = {"joint_position": np.zeros(len(taken.interface.joints)), "velocity_command": np.ones(3)}
    action = np.zeros(taken.interface.action_size)
    taken.interface.command(action, taken.interface.start(sample), sample)


@given(data=st.data(), junk=st.sampled_from((*JUNK, 3, 0.5, "trial", "estimate", CLIMB)))
def test_a_memory_or_search_with_a_part_replaced_is_refused_or_understood(memory_bundle, search_bundles, data, junk):
    """As above, and never two ways to adapt at once."""
    way, path = data.draw(
        st.sampled_from([("memory", memory_bundle), *(("search", p) for p in search_bundles.values())])
    )
    at = values = json.loads(files(path)["manifest.json"])
    key = data.draw(st.sampled_from(["memory", "search", "batch"]))
    if key == way and data.draw(st.integers(0, 3)):
        at = values[way]
        key = data.draw(st.sampled_from(sorted(at)))
    at[key] = junk
    try:
        taken = Manifest.from_json(json.dumps(values).encode())
    except BundleError:
        return
    assert Manifest.from_json(taken.to_json()) == taken
    assert [bool(taken.batch), taken.memory is not None, taken.search is not None].count(True) <= 1
    assert taken.steps >= 0
    if taken.search is not None:
        assert (type(taken.search.sigma), type(taken.search.rate)) == (float, float)
        assert candidates(taken.search, np.zeros(3, np.float32), np.random.default_rng(0)).shape[1] == 3


def test_an_edit_that_makes_sense_is_still_noticed(bundle, tmp_path):
    contents = files(bundle)
    contents["manifest.json"] = contents["manifest.json"].replace(b'"lead": 0.3', b'"lead": 3.0')
    with zipfile.ZipFile(tmp_path / "edited.zip", "w") as archive:
        for name, data in contents.items():
            archive.writestr(name, data)
    refused(tmp_path / "edited.zip", "manifest.json was changed: sha256 [0-9a-f]{64}, expected")


def test_files_that_do_not_belong_are_refused(bundle, tmp_path):
    refused(pack(tmp_path / "more.zip", {**files(bundle), "../evil": b""}), "expected exactly")
    less = files(bundle)
    del less["golden/act.mean.npy"]
    refused(pack(tmp_path / "less.zip", less), "expected exactly")
    refused(pack(tmp_path / "empty.zip", {}, "{}"), "has schema None")
    with zipfile.ZipFile(tmp_path / "none.zip", "w"):
        pass
    refused(tmp_path / "none.zip", "it holds 0 files")
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("readme.txt", b"")
    refused(tmp_path / "other.zip", "expected manifest.json and manifest.sha256; is it a bundle")


def test_a_file_that_would_unpack_to_too_much_is_not_unpacked(bundle, tmp_path):
    refused(pack(tmp_path / "big.zip", {**files(bundle), "theta.npy": bytes(1 << 20)}), r"is Entry\(size=1048576")
    refused(pack(tmp_path / "bigger.zip", files(bundle), " " * (LARGEST // 64 + 1)), "bytes, expected at most")


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros(60), "float64"),
        (np.array([None] * 60), "expected float32"),
        (np.zeros(7, np.float32), r"has the sizes \[7\], expected \[60\]"),
        (np.full(60, np.inf, np.float32), "NaN or infinity"),
        (np.asfortranarray(np.zeros((6, 10), np.float32)), "C order"),
    ],
)
def test_an_array_of_another_kind_is_refused(bundle, tmp_path, array, message):
    np.save(tmp_path / "array.npy", array)
    path = replaced(tmp_path / "edited.zip", bundle, "theta.npy", (tmp_path / "array.npy").read_bytes())
    with pytest.raises(BundleError, match=message):
        load(path)


def test_an_array_that_claims_to_be_huge_is_refused(bundle, tmp_path):
    data = files(bundle)["theta.npy"].replace(b"(60,)", b"(9**9,)").replace(b"9**9", b"9999")
    with pytest.raises(BundleError, match=r"holds float32\[9999\] in \d+ bytes|not a .npy file"):
        load(replaced(tmp_path / "edited.zip", bundle, "theta.npy", data))


@pytest.mark.parametrize("name", ["observation", "feedback", "mean", "log_std", "memory_next"])
def test_other_golden_vectors_of_a_memory_are_noticed(memory_bundle, tmp_path, name):
    name = f"golden/act.{name}.npy"
    data = files(memory_bundle)[name]
    values = np.frombuffer(data[128:], np.float32) * np.float32(1.001)
    with pytest.raises(BundleError, match=r"does not answer its golden vectors on this machine: \w+ differs by"):
        load(replaced(tmp_path / "edited.zip", memory_bundle, name, data[:128] + values.tobytes()))


def test_golden_vectors_of_a_memory_are_a_sequence(memory_contents, memory_bundle, tmp_path):
    """The same pairs in another order, each of them answered rightly from zero memory alone, do not pass."""
    policy, theta = RecurrentPolicy(memory_contents.act), memory_contents.theta
    answers = [
        policy(theta, np.zeros(3, np.float32), seen, heard)
        for seen, heard in zip(memory_contents.observations, memory_contents.memory.feedback, strict=True)
    ]
    np.save(tmp_path / "array.npy", np.stack([mean for mean, *_ in answers]))
    path = replaced(
        tmp_path / "edited.zip", memory_bundle, "golden/act.mean.npy", (tmp_path / "array.npy").read_bytes()
    )
    with pytest.raises(BundleError, match="mean differs by"):
        load(path)
    np.save(tmp_path / "array.npy", memory_contents.memory.feedback[::-1].copy())
    path = replaced(
        tmp_path / "edited.zip", memory_bundle, "golden/act.feedback.npy", (tmp_path / "array.npy").read_bytes()
    )
    with pytest.raises(BundleError, match="zeros where a trial starts"):
        load(path)


@pytest.mark.parametrize("name", ["golden/act.mean.npy", "golden/adapt.theta_next.npy", "golden/adapt.loss.npy"])
def test_other_golden_vectors_are_noticed(bundle, tmp_path, name):
    data = files(bundle)[name]
    values = np.frombuffer(data[128:], np.float32) * np.float32(1.001)
    with pytest.raises(BundleError, match=r"does not answer its golden vectors on this machine: \w+ differs by"):
        load(replaced(tmp_path / "edited.zip", bundle, name, data[:128] + values.tobytes()))


def test_graphs_that_do_not_fit_are_refused(bundle, memory_bundle, memory_graph, tmp_path, toys):
    with pytest.raises(BundleError, match="is it an act graph with a memory"):
        load(replaced(tmp_path / "edited.zip", memory_bundle, "act.onnx", toys["reward"].act_graph))
    act, adapt = files(bundle)["act.onnx"], files(bundle)["adapt.onnx"]
    for name, graph, message in (
        ("act.onnx", adapt, "is it an act graph"),
        ("act.onnx", memory_graph, r"is it an act graph\?"),
        ("adapt.onnx", act, "is it an adapt graph"),
        ("adapt.onnx", toys["reward"].adapt_graph, "reward"),
        ("act.onnx", act[:-9], "act.onnx: field 7 of a model ends 3 bytes beyond it"),
    ):
        with pytest.raises(BundleError, match=message):
            load(replaced(tmp_path / "edited.zip", bundle, name, graph))
