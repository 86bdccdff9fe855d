"""Reads a Dockerfile into its stages: enough of the format for ours, and an error for anything else."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

KNOWN = {
    *(
        "ARG",
        "CMD",
        "COPY",
        "ENTRYPOINT",
        "ENV",
        "EXPOSE",
        "FROM",
        "HEALTHCHECK",
        "LABEL",
        "RUN",
        "SHELL",
        "STOPSIGNAL",
    ),
    *("USER", "WORKDIR"),
}


@dataclass(frozen=True)
class Instruction:
    name: str
    text: str

    def exec_form(self) -> list[str]:
        """The words of a command in exec form, behind any options. Raises ValueError for the shell form."""
        command: list[str] = json.loads(self.text[self.text.index("[") :])
        return command

    def options(self) -> dict[str, str]:
        words = (word for word in self.text.split() if word.startswith("--"))
        return {name: value for name, _, value in (word[2:].partition("=") for word in words)}

    def operands(self) -> list[str]:
        return [word for word in self.text.split() if not word.startswith("--")]


@dataclass
class Stage:
    image: str
    name: str
    instructions: list[Instruction] = field(default_factory=list)

    def all(self, name: str) -> list[Instruction]:
        return [instruction for instruction in self.instructions if instruction.name == name]

    def last(self, name: str) -> Instruction:
        """Only the last one of its name counts in an image. Raises IndexError."""
        return self.all(name)[-1]


def stages(path: Path) -> dict[str, Stage]:
    """By name."""
    found: dict[str, Stage] = {}
    for line in _logical_lines(path.read_text(encoding="utf-8")):
        name, _, text = line.partition(" ")
        if name not in KNOWN:
            raise ValueError(f"{path.name} has an instruction that this reader does not know: {line}")
        if name == "FROM":
            image, _, stage = text.split()
            found[stage] = Stage(image, stage)
        else:
            list(found.values())[-1].instructions.append(Instruction(name, text.strip()))
    return found


def _logical_lines(text: str) -> list[str]:
    """Without comments, which may stand between continued lines, and with continuations joined."""
    kept = "\n".join(line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#"))
    return [" ".join(line.split()) for line in kept.replace("\\\n", " ").splitlines()]
