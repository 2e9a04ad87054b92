"""What is asked of a W&B server, as GraphQL: which runs there are, and what is new in several of them at once.

Only fields that W&B's own clients ask for. Everything that comes from outside travels as a variable.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

RUNS = """query Runs($entity: String!, $project: String!, $order: String, $first: Int!, $cursor: String) {
  project(name: $project, entityName: $entity) {
    runs(order: $order, first: $first, after: $cursor) {
      edges { node { name displayName tags state createdAt heartbeatAt historyLineCount } }
      pageInfo { endCursor hasNextPage }
    }
  }
}"""
NEWEST_FIRST = "-heartbeat_at"


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked of one run. window: first step and the step after the last one, None for no rows.

    survey: also the last step, and the configuration if `config`. statistics: rows of those of the machine that are
    asked for, 0: only the newest, -1: none.
    """

    run: str
    window: tuple[int, int] | None = None
    samples: int = 0
    survey: bool = False
    config: bool = False
    statistics: int = -1


def combine(questions: Sequence[Question]) -> tuple[str, dict[str, Any]]:
    """One query with the aliases r0, r1, …, and its variables without the project's."""
    declared, fields = ["$entity: String!", "$project: String!"], []
    variables: dict[str, Any] = {}
    for i, q in enumerate(questions):
        declared.append(f"$n{i}: String!")
        variables[f"n{i}"] = q.run
        wanted = ["name", "state", "heartbeatAt", "historyLineCount", "eventsLineCount"]
        if q.window is not None:
            declared.append(f"$a{i}: Int64!, $b{i}: Int64!, $s{i}: Int!")
            variables |= {f"a{i}": q.window[0], f"b{i}": q.window[1], f"s{i}": q.samples}
            wanted.append(f"history(minStep: $a{i}, maxStep: $b{i}, samples: $s{i})")
        if q.survey:
            wanted.append("historyKeys")
        if q.config:
            wanted.append("config")
        if q.statistics > 0:
            declared.append(f"$e{i}: Int!")
            variables[f"e{i}"] = q.statistics
            wanted.append(f"events(samples: $e{i})")
        elif q.statistics == 0:
            wanted.append("eventsTail")
        fields.append(f"r{i}: run(name: $n{i}) {{ {' '.join(wanted)} }}")
    query = f"query Rows({', '.join(declared)}) {{\n  project(name: $project, entityName: $entity) {{\n    "
    return query + "\n    ".join(fields) + "\n  }\n}", variables


def nodes(project: Mapping[str, Any], count: int) -> list[Mapping[str, Any] | None]:
    """The answers to `count` combined questions, None for a run that the server does not know."""
    found = [project.get(f"r{i}") for i in range(count)]
    return [node if isinstance(node, dict) else None for node in found]
