"""Where an off-centre payload sits: four corners around its mount, written into a copy of the URDF. No engine."""

from __future__ import annotations

import tempfile
from pathlib import Path
from xml.etree import ElementTree

from envs.state import ABOVE

CORNER = "payload_corner_"
REACH = 0.15  # [m] from the payload's mount to its corners, along x and y


def shares(at: tuple[float, float]) -> list[float]:
    """How a payload at `at` is shared among the corners, so that its centre of mass is exact: bilinear weights."""
    x, y = ((value / REACH + 1) / 2 for value in at)
    return [(1 - x) * (1 - y), (1 - x) * y, x * (1 - y), x * y]


def with_corners(path: str, mount: str) -> str:
    """A copy of the URDF with four massless links around its link `mount` ("": its root); to be removed when loaded.

    PyBullet cannot move a link's centre of mass: a payload off-centre is a share of it in each corner.
    """
    tree = ElementTree.parse(path)
    robot = tree.getroot()
    for mesh in robot.iter("mesh"):
        name = mesh.attrib["filename"].removeprefix("package://")
        mesh.set("filename", str(Path(path).parent / name))
    children = {child.attrib["link"] for child in robot.iter("child")}
    mount = mount or next(link.attrib["name"] for link in robot.iter("link") if link.attrib["name"] not in children)
    for index, (x, y) in enumerate([(-1, -1), (-1, 1), (1, -1), (1, 1)]):
        link = ElementTree.SubElement(robot, "link", name=f"{CORNER}{index}")
        inertial = ElementTree.SubElement(link, "inertial")
        ElementTree.SubElement(inertial, "mass", value="1e-6")
        ElementTree.SubElement(
            inertial, "inertia", ixx="1e-9", iyy="1e-9", izz="1e-9", ixy="0", ixz="0", iyz="0"
        )  # fmt: skip
        joint = ElementTree.SubElement(robot, "joint", name=f"{CORNER}{index}_joint", type="fixed")
        ElementTree.SubElement(joint, "parent", link=mount)
        ElementTree.SubElement(joint, "child", link=f"{CORNER}{index}")
        ElementTree.SubElement(joint, "origin", xyz=f"{x * REACH} {y * REACH} {ABOVE}", rpy="0 0 0")
    with tempfile.NamedTemporaryFile("wb", suffix=".urdf", delete=False) as file:
        tree.write(file)
    return file.name
