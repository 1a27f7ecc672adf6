"""
Classify and summarize a dozen of the packages that are installed beside Airflow.

Real input that every machine has: the descriptions in the packages' own metadata.
"""

from __future__ import annotations

import datetime
from importlib import metadata
from typing import Literal

from airflow.providers.common.compat.sdk import dag, task
from pydantic import BaseModel, Field

DOZEN = 12


# [start dag]
class Label(BaseModel):
    topic: Literal["web", "database", "security", "testing", "time", "files", "language", "other"]
    summary: str = Field(description="What the package is for, in at most ten words.")


@dag(schedule=None, start_date=datetime.datetime(2026, 1, 1), catchup=False, tags=["responses"])
def describe_packages():
    @task.responses(model="openai/gpt-4o-mini", output_type=Label)
    def label(package: dict) -> str:
        return f"{package['name']}: {package['description']}"

    packages = installed_packages()
    labels = label.expand(package=packages)
    print_table(packages, labels, labels["usage"])
    # [end dag]


@task
def installed_packages() -> list[dict]:
    """Give a dozen packages, spread over the alphabet."""
    described = (dist.metadata for dist in metadata.distributions() if "Summary" in dist.metadata)
    found = {package["Name"].lower(): package["Summary"] for package in described}
    names = sorted(name for name, text in found.items() if text.strip())
    step = max(1, len(names) // DOZEN)
    return [{"name": name, "description": found[name]} for name in names[::step][:DOZEN]]


@task
def print_table(packages, labels, usages) -> None:
    """Print package, label, tokens, cost and the model that served."""
    rows = [
        (
            package["name"],
            f"[{label['topic']}] {label['summary']}",
            usage["total_tokens"],
            usage["cost"],
            usage["model"],
        )
        for package, label, usage in zip(packages, labels, usages, strict=True)
    ]
    print("=== results ===")
    print(f"{'package':<28} {'answer':<58} {'tokens':>6} {'cost':>10}  model")
    for name, answer, tokens, cost, model in rows:
        price = "unknown" if cost is None else f"${cost:.6f}"
        print(f"{name[:28]:<28} {answer[:58]:<58} {tokens or '?':>6} {price:>10}  {model}")
    costs = [cost for *_, cost, _ in rows if cost is not None]
    print(f"{len(rows)} packages, ${sum(costs):.6f} in all")
    print("=== end ===")


describe_packages()
