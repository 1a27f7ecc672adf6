"""
Servers with ``POST /responses`` that others have written, before one model on loopback.

``make parts`` installs each into an environment of its own, ``.venv-NAME``, with the pins of ``constraints/NAME.txt``.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from tests.parts.services import free_port, serving

ROOT = Path(__file__).parents[2]
MODEL = "small"
KEY = "sk-of-the-tests"

# A model with JSON schemas, and one without: then Pydantic AI asks for the output by the call of a function.
AGENT = """
import os

from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.profiles.openai import OpenAIModelProfile
from pydantic_ai.providers.openai import OpenAIProvider

provider = OpenAIProvider(base_url=os.environ["MODEL_URL"], api_key="none")
agent = Agent(OpenAIChatModel("small", provider=provider))
native = OpenAIModelProfile(default_structured_output_mode="native")
native_agent = Agent(OpenAIChatModel("small", provider=provider, profile=native))
"""


@contextlib.contextmanager
def litellm(model_url: str) -> Iterator[str]:
    """Run LiteLLM's proxy before a model that has chat completions only; yield its base URL."""
    port = free_port()
    upstream = {"model": f"openai/chat_completions/{MODEL}", "api_base": model_url, "api_key": "none"}
    config = {
        "model_list": [{"model_name": MODEL, "litellm_params": upstream}],
        "router_settings": {"num_retries": 0, "disable_cooldowns": True},
    }
    command = [program("litellm"), "--config", "config.yaml", "--host", "127.0.0.1", "--port", str(port)]
    # Without the second variable it downloads its list of prices.
    env = {"LITELLM_MASTER_KEY": KEY, "LITELLM_LOCAL_MODEL_COST_MAP": "True", "HOME": "."}
    with serving("litellm", command, port, env=env, files={"config.yaml": json.dumps(config)}):
        yield f"http://127.0.0.1:{port}/v1"


@contextlib.contextmanager
def fastresponses(model_url: str, agent: str = "native_agent") -> Iterator[str]:
    """Run fastresponses with an agent of Pydantic AI; yield its base URL."""
    port = free_port()
    command = [program("fastresponses"), "serve", f"agent.py:{agent}", "--port", str(port), "--api-key", KEY]
    with serving("fastresponses", command, port, env={"MODEL_URL": model_url}, files={"agent.py": AGENT}):
        yield f"http://127.0.0.1:{port}/v1"


def program(name: str) -> str:
    """
    Return the path of a server.

    :raises RuntimeError: if it is not installed.
    """
    path = ROOT / f".venv-{name}" / "bin" / name
    if not path.exists():
        raise RuntimeError(f"{name} is not installed: run make .venv-{name}/.installed")
    return str(path)


@dataclass(frozen=True)
class Server:
    """A server that runs."""

    name: str
    base_url: str

    @property
    def connection(self) -> str:
        """Return the value of a variable that makes it a connection of Airflow."""
        extra = {"default_model": MODEL}
        return json.dumps({"conn_type": "responses", "host": self.base_url, "password": KEY, "extra": extra})


SERVERS: dict[str, Callable[[str], AbstractContextManager[str]]] = {"litellm": litellm, "fastresponses": fastresponses}
