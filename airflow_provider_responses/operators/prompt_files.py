"""Prompts in files: an argument such as ``input="prompts/review.md"`` is the name of one."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, TypeGuard

from airflow_provider_responses.exceptions import RequestValidationError
from airflow_provider_responses.validation import show

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    import jinja2

EXTENSIONS: Final = (".j2", ".md", ".txt")  # as Airflow's `template_ext`
_EXPRESSION = re.compile(r"\{\{.*?\}\}|\{%.*?%\}")


class PromptText(str):
    """The text of a prompt file. It is never read as the name of another one."""

    __slots__ = ()


def is_file_name(value: Any, extensions: Collection[str]) -> TypeGuard[str]:
    """Whether a value is the name of a prompt file: one line without white space that ends in an extension."""
    if not isinstance(value, str) or isinstance(value, PromptText):
        return False
    return value.endswith(tuple(extensions)) and not any(map(str.isspace, _EXPRESSION.sub("", value)))


def check_prompt_files(arguments: Mapping[str, Any], operator: Any, env: jinja2.Environment) -> None:
    """
    Check that the prompt files exist which arguments of a mapped task name.

    :param arguments: those that the DAG's author wrote.
    :param operator: the class of the task.
    :param env: the DAG's Jinja environment.
    :raises RequestValidationError: as :func:`read_prompt_file` does.
    """
    for field in operator.file_fields:
        if is_file_name(value := arguments.get(field), operator.template_ext):
            read_prompt_file(value, field, env)


def read_prompt_file(name: str, field: str, env: jinja2.Environment) -> PromptText:
    """
    Return the text of a prompt file.

    :param name: relative to the folder of the DAG's file, or to one of its DAG's ``template_searchpath``.
    :param field: the argument that names it.
    :param env: the DAG's Jinja environment.
    :raises RequestValidationError: if there is no such file, or it cannot be read or is empty.
    """
    import jinja2

    folders = [str(folder) for folder in getattr(env.loader, "searchpath", ())]
    advice = "To send this text itself, end it with a space"
    if _EXPRESSION.search(name):
        raise RequestValidationError(
            f"{field} {show(name)} has the form of a prompt file's name, and such a name cannot hold a template: files "
            f"are read when the DAG is parsed. Choose the file in Python, or include it in a template: "
            f"{{% include params.file %}}. {advice}",
            fields=(field,),
        )
    if env.loader is None or not folders:
        raise RequestValidationError(
            f"{field} {show(name)} has the form of a prompt file's name, and the task has no DAG whose folder could "
            f"hold the file. Add the task to a DAG. {advice}",
            fields=(field,),
        )
    try:
        text = env.loader.get_source(env, name)[0]
    except jinja2.TemplateNotFound:
        raise RequestValidationError(
            f"{field} names the prompt file {show(name)}, which is not in {' or '.join(folders)}. Correct the name, or "
            f"add its folder to the DAG's template_searchpath. {advice}",
            fields=(field,),
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise RequestValidationError(
            f"{field}: the prompt file {show(name)} cannot be read as UTF-8: {error}", fields=(field,)
        ) from None
    if not text.strip():
        raise RequestValidationError(f"{field}: the prompt file {show(name)} is empty", fields=(field,))
    return PromptText(text)
