"""The files of a task's requests: which paths its author wrote, and the files of each row of a table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow_provider_responses.content.parts import BYTES, PATH, part_by_content, path_text
from airflow_provider_responses.content.references import INPUT, find_references, has_references
from airflow_provider_responses.exceptions import RequestValidationError
from airflow_provider_responses.operators.paths import is_path, open_path
from airflow_provider_responses.operators.templates import RowTemplate
from airflow_provider_responses.task.arguments import is_lazy, is_template, is_upstream, read_boolean
from airflow_provider_responses.validation import check_number, check_type, type_name

if TYPE_CHECKING:
    from airflow_provider_responses.content.reader import FileReader
    from airflow_provider_responses.content.row_files import RowFiles
    from airflow_provider_responses.enrich.sources import Row
    from airflow_provider_responses.task.outcome import Outcome
    from airflow_provider_responses.task.request import TaskRequest

RowBuilder = tuple[Callable[["Row"], Mapping[str, Any]], frozenset[str], frozenset[str] | None]


def check_file_arguments(root: Any, max_file_bytes: Any) -> None:
    """
    Refuse wrong arguments about files.

    :raises RequestValidationError: naming the argument.
    """
    if is_upstream(root):
        raise _root_from_data()
    if root is not None and not is_lazy(root):
        check_type("files_root", root, object if is_path(root) else str, expected="the path of a folder")
        from airflow_provider_responses.content.confinement import parse_root

        parse_root(_root_text(root))
    check_number("max_file_bytes", max_file_bytes, whole=True, at_least=1, convert=True, lazy=is_lazy)


def check_row_files(files: Any) -> None:
    """
    Refuse a wrong ``files`` of an enrichment.

    :raises RequestValidationError: naming the argument.
    """
    if is_upstream(files):
        raise _files_from_data()
    check_type("files", files, str, expected="a template such as '{{ row.path }}' or a column's name", optional=True)


def authors_paths(task: Any) -> frozenset[str]:
    """Return the paths in ``input`` and ``request`` that the author of the DAG wrote in full."""
    request = task.request if isinstance(task.request, Mapping) else {}
    found: set[str] = set()
    for value in (getattr(task, INPUT, None), request.get(INPUT)):
        if not isinstance(value, (list, tuple)):
            continue
        for _, part in find_references({INPUT: value}):
            if isinstance(path := part.get(PATH), str) and not is_template(path):
                found.add(path)
    return frozenset(found)


def file_reader(task: Any) -> FileReader:
    """
    Return the reader of a task's files.

    :raises RequestValidationError: if ``files_root`` is wrong, or comes from data.
    """
    from airflow_provider_responses.content.reader import FileReader

    root = task.files_root
    mapped = task._mapped_arguments or {}
    if root is not None and task._is_data(mapped.get("files_root")):
        raise _root_from_data()
    # Of a mapped task, `input` may be the value of another task.
    is_data = any(task._is_data(mapped[name]) for name in (INPUT, "request") if name in mapped)
    return FileReader(
        open_path,
        root=None if root is None else _root_text(root),
        trusted=frozenset() if is_data else task._authors_paths,
        max_bytes=int(task.max_file_bytes),
    )


def read_request_files(task: Any, request: TaskRequest) -> TaskRequest:
    """
    Return a request with the contents of its files. A worker sends it, so it is streamed unless the task forbids it.

    :raises RequestValidationError: naming the place and the file, for one that cannot be sent.
    :raises StorageError: if a storage failed.
    """
    if task.output_path is not None and read_boolean(task.stream) is None:
        request = replace(request, stream=True)
    if not has_references(request.fields):
        return request
    if task.result == "conversation":
        _check_paths_alone(request.fields)
    from airflow_provider_responses.content.request_files import read_files

    filled = read_files(request.fields, file_reader(task))
    stream = request.stream or (bool(filled.contents) and read_boolean(task.stream) is None)
    return replace(
        request,
        fields=filled.fields,
        contents=filled.contents,
        input_with_paths=request.fields[INPUT],
        stream=stream,
    )


def _check_paths_alone(fields: Mapping[str, Any]) -> None:
    """Refuse bytes in a conversation, whose input goes to XCom."""
    for place, part in find_references(fields):
        if BYTES in part:
            raise RequestValidationError(
                f"{place} must be a file's path in a conversation, got bytes: the input goes to XCom, for the next "
                f"turn. Write them to a file, and use from_path()",
                fields=(place,),
            )


def reason_to_stay_on_worker(task: Any, request: TaskRequest) -> str | None:
    """Return why a worker must send a request that could be sent by the triggerer, None if there is no reason."""
    if request.contents:
        return "the request has files, which a worker reads and sends"
    return None if task.output_path is None else "generated images are written to output_path by a worker"


def store_images_of(task: Any, outcome: Outcome) -> Any:
    """
    Return the value of an outcome, whose images are written to the task's ``output_path``.

    :raises StorageError: if one cannot be written. A retry gets the cached response.
    """
    if task.output_path is None:
        return outcome.value
    from airflow_provider_responses.content.generated_images import has_images
    from airflow_provider_responses.enrich.row_images import image_writer, with_image_paths
    from airflow_provider_responses.enrich.storage import storage_at

    if not has_images(outcome.response):
        return outcome.value

    storage = storage_at(open_path(task.output_path))
    return with_image_paths(outcome, task.result, image_writer(storage)).value


def with_row_files(task: Any, builder: RowBuilder, context: Any) -> tuple[RowBuilder, RowFiles | None]:
    """
    Return the function that builds a row's request, with its files; and their reader, None if no row can have any.

    :param builder: the function, the columns that it needs, and all that it may read (None if unknown).
    """
    if task.files is None and not callable(task.input) and not has_references(task._arguments().fields()):
        return builder, None
    if task.files is not None and task._is_data(task.files):
        raise _files_from_data()
    from airflow_provider_responses.content.row_files import RowFiles

    row_files = RowFiles(file_reader(task))
    if task.files is None:
        return builder, row_files
    build, required, read = builder
    paths, own_required, own_read = _paths_builder(task, context)

    def build_with_files(row: Row) -> Mapping[str, Any]:
        return _add_files(build(row), paths(row))

    all_read = None if read is None or own_read is None else read | own_read
    return (build_with_files, required | own_required, all_read), row_files


def _paths_builder(task: Any, context: Any) -> tuple[Callable[[Row], list[Any]], frozenset[str], frozenset[str] | None]:
    """Return the function that returns the paths or bytes of a row."""
    if is_template(task.files):
        dag = task.get_dag()
        env = dag.get_template_env(force_sandboxed=True) if dag is not None else task.get_template_env()
        template = RowTemplate(task.files, env, context, field="files")
        lines = lambda row: [line.strip() for line in template.render(row).splitlines() if line.strip()]  # noqa: E731
        return lines, template.required_columns, template.columns_read
    name = task.files

    def values(row: Row) -> list[Any]:
        if name not in row:
            raise RequestValidationError(
                f"files: the row has no column {name!r}; its columns are {', '.join(map(str, row))}", fields=("files",)
            )
        found = row[name]
        found = list(found) if isinstance(found, (list, tuple)) else [found]
        found = [item for item in found if item is not None and item != ""]
        if any(isinstance(item, (bytes, bytearray, memoryview)) for item in found) and (
            task.columns is None or name in task.columns
        ):
            raise RequestValidationError(
                f"files: the column {name!r} holds bytes, which the result must not have: set `columns` to the columns "
                "of the source that the result has, without it",
                fields=("files", "columns"),
            )
        return found

    return values, frozenset({name}), frozenset({name})


def _add_files(fields: Mapping[str, Any], files: list[Any]) -> Mapping[str, Any]:
    prompt = fields.get(INPUT)
    if not isinstance(prompt, str):
        raise RequestValidationError(
            f"files needs an input that is text, got {type_name(prompt)}: return the files from the function, as "
            "InputFile.from_path(…) in the content of a message, and remove `files`",
            fields=("files",),
        )
    if not files:
        return fields
    parts = [{"type": "input_text", "text": prompt}, *map(_part, files)]
    return {**fields, INPUT: [{"type": "message", "role": "user", "content": parts}]}


def _part(file: Any) -> dict[str, Any]:
    if isinstance(file, (bytes, bytearray, memoryview)):
        return part_by_content(bytes(file))
    if not is_path(file):
        raise RequestValidationError(
            f"files: a row's file must be a path or bytes, got {type_name(file)}", fields=("files",)
        )
    return part_by_content(path_text(file))


def _root_text(root: Any) -> str:
    text = str(path_text(root))
    if not text.strip() or text == "None":
        raise RequestValidationError("files_root is empty: set a folder, or leave it out", fields=("files_root",))
    return text


def _files_from_data() -> RequestValidationError:
    return RequestValidationError(
        "files must be a template or a column's name in the DAG's file, got the output of another task, which could "
        "read connections and variables: make the paths a column of `source`, and name the column",
        fields=("files",),
    )


def _root_from_data() -> RequestValidationError:
    return RequestValidationError(
        "files_root must be written in the DAG's file, got the output of another task, which could name any folder. "
        "Write the folder, and pass paths below it",
        fields=("files_root",),
    )
