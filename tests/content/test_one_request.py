"""Files in the request of one task, in every execution mode."""

from __future__ import annotations

import base64
import contextlib
import json
from pathlib import Path

import pytest
from airflow.providers.common.compat.sdk import DAG, AirflowFailException, ObjectStoragePath
from airflow.providers.common.compat.sdk import task as airflow_task

from airflow_provider_responses.content import InputAudio, InputFile, InputImage, InputVideo
from airflow_provider_responses.decorators.responses import responses_task
from airflow_provider_responses.exceptions import RequestValidationError, StorageError
from airflow_provider_responses.task.arguments import is_upstream
from tests.airflow_fakes import TaskInstance, context
from tests.content import samples
from tests.content.samples import content_of, message, parts_of
from tests.execution_modes import MODES, performer
from tests.operators.one_request import MODEL, ask, sent


@pytest.fixture(params=MODES)
def perform(request, monkeypatch):
    return performer(request.param, monkeypatch)


@pytest.fixture
def files(tmp_path):
    """A folder with a file of each kind."""
    contents = {
        "a.pdf": samples.PDF,
        "a.png": samples.PNG,
        "a.wav": samples.WAV,
        "a.mp4": samples.MP4,
        "a.txt": b"hi\n",
    }
    for name, data in contents.items():
        (tmp_path / name).write_bytes(data)
    return tmp_path


class TestWire:
    def test_each_kind_is_sent_in_its_own_form(self, perform, files, responses_sandbox):
        parts = [
            InputFile.from_path(files / "a.pdf"),
            InputFile.from_path(str(files / "a.txt"), filename="notes.md"),
            InputImage.from_path(f"file://{files}/a.png", detail="low"),
            InputAudio.from_path(files / "a.wav"),
            InputVideo.from_path(files / "a.mp4"),
        ]
        perform(ask(input=message(*parts)), context())
        (body,) = sent(responses_sandbox)
        pdf, text, image, sound, video = parts_of(body)
        encoded = {name: base64.b64encode((files / name).read_bytes()).decode() for name in ("a.pdf", "a.txt", "a.png")}
        assert pdf == {
            "type": "input_file",
            "filename": "a.pdf",
            "file_data": f"data:application/pdf;base64,{encoded['a.pdf']}",
        }
        assert text == {
            "type": "input_file",
            "filename": "notes.md",
            "file_data": f"data:text/markdown;base64,{encoded['a.txt']}",
        }
        assert image == {
            "type": "input_image",
            "detail": "low",
            "image_url": f"data:image/png;base64,{encoded['a.png']}",
        }
        assert sound["input_audio"]["format"] == "wav"
        assert content_of(sound) == samples.WAV
        assert video["video_url"].startswith("data:video/mp4;base64,")
        assert content_of(video) == samples.MP4
        assert str(files) not in json.dumps(body)

    def test_urls_are_sent_as_they_are_and_not_read(self, perform, responses_sandbox):
        parts = [
            InputFile.from_path("https://example.com/a.pdf"),
            InputImage.from_path("http://example.com/a.png"),
            InputVideo.from_path("https://example.com/a.mp4"),
        ]
        perform(ask(input=message(*parts)), context())
        assert parts_of(sent(responses_sandbox)[0]) == [
            {"type": "input_file", "file_url": "https://example.com/a.pdf"},
            {"type": "input_image", "detail": "auto", "image_url": "http://example.com/a.png"},
            {"type": "input_video", "video_url": "https://example.com/a.mp4"},
        ]

    def test_bytes_are_sent_without_a_file(self, responses_sandbox):
        ask(input=message(InputImage.from_bytes(samples.PNG))).execute(context())
        assert content_of(parts_of(sent(responses_sandbox)[0])[0]) == samples.PNG

    @pytest.mark.parametrize("stream", [True, False])
    def test_a_large_file_arrives_whole_also_when_it_is_sent_again(self, files, stream, responses_sandbox):
        data = samples.PDF + bytes(range(256)) * 20_000
        (files / "a.pdf").write_bytes(data)
        responses_sandbox.script({"status": 503, "retry_after": 0}, {"text": "read"})
        task = ask(input=message(InputFile.from_path(files / "a.pdf")), stream=stream)
        assert task.execute(context()) == "read"
        first, second = sent(responses_sandbox)
        assert first == second
        assert content_of(parts_of(second)[0]) == data

    def test_an_invalid_output_is_requested_again_with_the_file(self, files, responses_sandbox):
        from tests.operators.one_request import Label

        responses_sandbox.script({"text": "no JSON"}, {"text": json.dumps({"topic": "good", "why": "so"})})
        value = ask(input=message(InputFile.from_path(files / "a.pdf")), output_type=Label).execute(context())
        assert value["topic"] == "good"
        assert [content_of(parts_of(body)[0]) for body in sent(responses_sandbox)] == [samples.PDF, samples.PDF]

    @pytest.mark.parametrize(("side", "size"), [(100, (100, 50)), (1000, (400, 200))])
    def test_an_image_is_scaled_down_only_if_asked_and_too_large(self, tmp_path, side, size, responses_sandbox):
        import io

        image_module = pytest.importorskip("PIL.Image")
        image_module.new("RGB", (400, 200), "red").save(tmp_path / "a.jpg")
        data = (tmp_path / "a.jpg").read_bytes()
        parts = [InputImage.from_path(tmp_path / "a.jpg", max_side=side), InputImage.from_path(tmp_path / "a.jpg")]
        ask(input=message(*parts)).execute(context())
        scaled, plain = parts_of(sent(responses_sandbox)[0])
        assert set(scaled) == {"type", "detail", "image_url"}
        with image_module.open(io.BytesIO(content_of(scaled))) as image:
            assert (image.size, image.format) == (size, "JPEG")
        assert content_of(plain) == data


class TestRetries:
    def test_a_retry_of_the_same_file_is_free_and_a_changed_file_is_paid(self, perform, files, responses_sandbox):
        task = lambda: ask(input=message(InputFile.from_path(files / "a.pdf")))  # noqa: E731
        perform(task(), context())
        second = TaskInstance(try_number=2)
        perform(task(), context(second))
        assert second.xcoms["usage"]["cached"] is True
        (files / "a.pdf").write_bytes(samples.PDF + b"more")
        third = TaskInstance(try_number=3)
        perform(task(), context(third))
        assert third.xcoms["usage"]["cached"] is False
        assert [entry.cost > 0 for entry in responses_sandbox.ledger] == [True, False, True]

    def test_the_fingerprint_of_a_prompt_changes_with_the_file_and_not_with_the_attempt(self, files, responses_sandbox):
        prints = []
        for number, data in enumerate((samples.PDF, samples.PDF, samples.PDF + b"more"), 1):
            (files / "a.pdf").write_bytes(data)
            ti = TaskInstance(try_number=number)
            ask(input=message(InputFile.from_path(files / "a.pdf"))).execute(context(ti))
            prints.append(ti.xcoms["usage"]["prompt_fingerprint"])
        assert prints[0] == prints[1] != prints[2]
        assert len(prints[0]) == 16

    def test_a_deferrable_task_with_files_is_sent_by_the_worker(self, files, caplog, capsys, responses_sandbox):
        caplog.set_level("INFO")
        task = ask(input=message(InputFile.from_path(files / "a.pdf")), deferrable=True)
        assert task.execute(context())
        logged = capsys.readouterr().out + caplog.text  # Airflow 3 writes, and 2 logs
        assert "Not deferred: the request has files, which a worker reads and sends" in logged
        assert sent(responses_sandbox)[0]["stream"] is True


class TestPathsFromData:
    def test_a_template_needs_files_root(self, files, responses_sandbox):
        part = InputFile.from_path(f"{files}/{{{{ name }}}}")
        task = ask(input=message(part))
        task.render_template_fields({"name": "a.pdf", "ti": TaskInstance()})
        with pytest.raises(AirflowFailException, match=r"files_root is missing.*a\.pdf.*Task: ask"):
            task.execute(context())
        task = ask(input=message(part), files_root="{{ root }}")
        task.render_template_fields({"name": "a.pdf", "root": str(files), "ti": TaskInstance()})
        assert task.execute(context())
        assert len(sent(responses_sandbox)) == 1

    def test_a_function_needs_files_root(self, files, responses_sandbox):
        def read(path):
            return message(InputFile.from_path(path))

        def task(path, **kwargs):
            with DAG("d", schedule=None):
                return responses_task(read, task_id="ask", model=MODEL, **kwargs)(path).operator

        with pytest.raises(AirflowFailException, match="files_root is missing"):
            task(str(files / "a.pdf")).execute(context())
        with pytest.raises(AirflowFailException, match="is not under files_root"):
            task("/etc/passwd", files_root=str(files)).execute(context())
        assert task("a.pdf", files_root=str(files)).execute(context())
        assert len(sent(responses_sandbox)) == 1

    def test_another_tasks_output_cannot_name_a_file_elsewhere(self, files, run_dag, responses_sandbox):
        outside = files / "outside.txt"
        outside.write_text("SECRET")
        source = f"""
import datetime
from airflow.providers.common.compat.sdk import DAG, task
from airflow_provider_responses.content import InputFile
from airflow_provider_responses.operators.responses import ResponsesOperator

with DAG("of_data", schedule=None, start_date=datetime.datetime(2026, 1, 1)):

    @task
    def found():
        return "{outside}"

    @task
    def whole():
        return [dict(role="user", content=[dict(type="input_file", path="{outside}")])]

    @task
    def good():
        return "a.pdf"

    common = dict(model="{MODEL}", retries=0)
    part = lambda path: [dict(role="user", content=[InputFile.from_path(path)])]
    ResponsesOperator(task_id="path", input=part(found()), files_root="{files / "sub"}", **common)
    ResponsesOperator(task_id="unconfined", input=part(found()), **common)
    ResponsesOperator(task_id="whole_input", input=whole(), **common)
    ResponsesOperator.partial(task_id="mapped", **common).expand(input=whole().map(lambda x: [x]))
    ResponsesOperator(task_id="fine", input=part(good()), files_root="{files}", **common)
"""
        result = run_dag(source, "of_data")
        assert {task: state for (task, _), state in result.states.items() if state == "failed"} == dict.fromkeys(
            ("path", "unconfined", "whole_input", "mapped"), "failed"
        )
        assert content_of(parts_of(sent(responses_sandbox)[0])[0]) == samples.PDF
        assert len(sent(responses_sandbox)) == 1

    def test_a_path_that_the_author_wrote_in_a_mapped_task_needs_no_root(self, files, run_dag, responses_sandbox):
        source = f"""
import datetime
from airflow.providers.common.compat.sdk import DAG
from airflow_provider_responses.content import InputFile
from airflow_provider_responses.operators.responses import ResponsesOperator

with DAG("mapped_files", schedule=None, start_date=datetime.datetime(2026, 1, 1)):
    inputs = [[dict(role="user", content=[InputFile.from_path("{files}/" + name)])] for name in ("a.pdf", "a.txt")]
    ResponsesOperator.partial(task_id="ask", model="{MODEL}", retries=0).expand(input=inputs)
"""
        assert run_dag(source, "mapped_files").state == "success"
        assert {parts_of(body)[0]["filename"] for body in sent(responses_sandbox)} == {"a.pdf", "a.txt"}

    def test_files_root_itself_cannot_be_data(self):
        with DAG("d", schedule=None):

            @airflow_task
            def root():
                return "/"

            with pytest.raises(RequestValidationError, match="files_root must be written in the DAG's file"):
                ask(files_root=root())

    @pytest.mark.parametrize("make", [ObjectStoragePath, Path])
    def test_files_root_may_be_a_path_object(self, make, files, responses_sandbox):
        root = make(f"file://{files}" if make is ObjectStoragePath else files)
        assert not is_upstream(root)
        task = ask(input=message(InputFile.from_path("{{ 'a.pdf' }}")), files_root=root)
        task.render_template_fields(context())
        task.execute(context())
        assert [parts_of(body)[0]["filename"] for body in sent(responses_sandbox)] == ["a.pdf"]

    @pytest.mark.parametrize("root", ["/", "relative", "s3://", 5])
    def test_a_root_that_is_no_folder_is_an_error_of_the_dag_file(self, root):
        with pytest.raises(RequestValidationError, match="files_root must be"):
            ask(files_root=root)


def test_a_conversation_has_paths_in_xcom_and_sends_the_files_again(files, responses_sandbox):
    value = ask(input=message(InputFile.from_path(files / "a.pdf")), result="conversation").execute(context())
    assert value["conversation"]["input"][0]["content"][1] == {"type": "input_file", "path": f"{files}/a.pdf"}
    with pytest.raises(AirflowFailException, match="files_root is missing"):
        ask(history=value, input="And now?").execute(context())
    ask(history=value, input="And now?", files_root=str(files)).execute(context())
    assert [content_of(body["input"][0]["content"][1]) for body in sent(responses_sandbox)] == [samples.PDF] * 2


def test_a_limit_of_cost_counts_the_content_of_files(files, responses_sandbox):
    (files / "a.pdf").write_bytes(samples.PDF + bytes(1_000_000))
    part = InputFile.from_path(files / "a.pdf")
    with pytest.raises(AirflowFailException, match=r"max_cost of .* leaves no room"):
        ask(input=message(part), max_cost=0.05, request={"max_output_tokens": 10}).execute(context())
    assert sent(responses_sandbox) == []


class TestBadInput:
    @pytest.mark.parametrize(
        ("name", "data", "part", "expected"),
        [
            ("a.pdf", None, InputFile, r"a\.pdf does not exist\. Correct the path"),
            ("a.pdf", b"", InputFile, r"a\.pdf is empty\. Write its content"),
            ("a.pdf", bytes(2000), InputFile, r"a\.pdf has too many bytes \(2000\).*may have 1000 \(max_file_bytes\)"),
            (
                "a.pdf",
                b"\x7fELF" + bytes(9),
                InputFile,
                r"a\.pdf has an unknown type by its content: input_file takes PDF",
            ),
            (
                "a.png",
                samples.PDF,
                InputImage,
                r"a\.png has the type application/pdf.*input_image takes PNG, JPEG, WebP",
            ),
            ("a.heic", samples.HEIC, InputImage, r"a\.heic has an unknown type.*Convert the file"),
            ("a.pdf", samples.PNG, InputFile, r"a\.pdf has the type image/png.*input_file takes PDF"),
            ("a.mp3", samples.MP4, InputAudio, r"a\.mp3 has the type video/mp4.*input_audio takes MP3 or WAV"),
            ("a.mp4", samples.WAV, InputVideo, r"a\.mp4 has the type audio/wav.*input_video takes MP4"),
        ],
    )
    def test_a_wrong_file_is_a_clear_error_before_anything_is_sent(
        self, tmp_path, name, data, part, expected, responses_sandbox
    ):
        if data is not None:
            (tmp_path / name).write_bytes(data)
        task = ask(input=message(part.from_path(tmp_path / name)), max_file_bytes=1000)
        with pytest.raises(AirflowFailException, match=expected) as caught:
            task.execute(context())
        assert "Field: input.0.content.1. Task: ask" in str(caught.value)
        assert sent(responses_sandbox) == []

    def test_the_limit_holds_for_all_files_together(self, tmp_path, responses_sandbox):
        for name in ("a.pdf", "b.pdf"):
            (tmp_path / name).write_bytes(samples.PDF + bytes(600))
        parts = [InputFile.from_path(tmp_path / name) for name in ("a.pdf", "b.pdf")]
        with pytest.raises(AirflowFailException, match=r"b\.pdf has too many bytes \(1\d\d\d\)"):
            ask(input=message(*parts), max_file_bytes=1000).execute(context())
        assert sent(responses_sandbox) == []

    @pytest.mark.parametrize(
        ("part", "expected"),
        [
            ({"type": "input_image", "path": 5}, "path must be text, got 5"),
            ({"type": "input_image", "path": "/a", "bytes": b"x"}, "a file needs path or bytes, and not both"),
            ({"type": "input_image", "path": "/a", "file": {}}, "file is not a field of a part"),
            (InputAudio.from_path("https://example.com/a.mp3"), "a sound cannot be sent by URL"),
            (
                InputImage.from_path("https://example.com/a.png", max_side=90),
                "an image with max_side cannot be sent by",
            ),
            (
                InputImage.from_path("https://example.com/a.png") | {"image_url": "x"},
                "image_url must not be set beside",
            ),
            (InputImage.from_bytes(samples.PNG) | {"max_side": 1}, "max_side must be a whole number"),
            (InputFile.from_bytes(b""), "bytes are empty"),
        ],
    )
    def test_a_wrong_part_is_refused(self, part, expected, responses_sandbox):
        with pytest.raises(AirflowFailException, match=expected):
            ask(input=message(part)).execute(context())
        assert sent(responses_sandbox) == []

    def test_a_file_outside_of_a_message_is_refused(self):
        with pytest.raises(RequestValidationError, match=r"input\.0 must be a message, got a file by itself"):
            ask(input=[InputFile.from_path("/a.pdf")])

    @pytest.mark.parametrize(
        "make",
        [
            lambda: InputFile.from_path(5),
            lambda: InputImage.from_path("/a.png", detail="tiny"),
            lambda: InputImage.from_path("/a.png", max_side=0),
            lambda: InputAudio.from_bytes("text"),
            lambda: ask(max_file_bytes=0),
        ],
    )
    def test_wrong_arguments_are_errors_of_the_dag_file(self, make):
        with pytest.raises(RequestValidationError):
            make()


@pytest.fixture
def painter(monkeypatch):
    """Run a server that responds with an image, after a text if there is one."""
    from tests.client.server import Server

    texts = []

    def serve(connection):
        while connection.read_request() is not None:
            items = [
                {"type": "message", "id": "m", "role": "assistant", "content": [{"type": "output_text", "text": text}]}
                for text in texts
            ]
            image = {"type": "image_generation_call", "id": "ig_1", "status": "completed", "result": ENCODED}
            body = {"id": "resp_1", "object": "response", "model": MODEL, "status": "completed"}
            usage = {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2, "cost": 0.5}
            connection.respond({**body, "output": [*items, image], "usage": usage})

    server = Server()
    server.script = serve
    with contextlib.closing(server):
        connection = {"conn_type": "responses", "host": server.url, "password": "sk-none"}
        monkeypatch.setenv("AIRFLOW_CONN_RESPONSES_DEFAULT", json.dumps(connection))
        yield texts


ENCODED = base64.b64encode(samples.PNG).decode()


class TestGeneratedImages:
    def test_images_are_files_and_the_value_has_their_paths(self, perform, tmp_path, painter):
        value = perform(ask(output_path=str(tmp_path / "out"), stream=False), context())
        (path,) = (tmp_path / "out").iterdir()
        assert value == str(path)
        assert path.suffix == ".png"
        assert path.read_bytes() == samples.PNG

    def test_the_whole_response_has_the_path_in_place_of_the_image(self, tmp_path, painter):
        painter.append("A dot.")
        value = ask(output_path=str(tmp_path), result="response", stream=False).execute(context())
        (path,) = tmp_path.iterdir()
        assert value["output"][1]["result"] == str(path)
        assert ENCODED not in json.dumps(value)

    def test_a_text_beside_an_image_stays_the_value(self, tmp_path, painter):
        painter.append("A dot.")
        assert ask(output_path=str(tmp_path), stream=False).execute(context()) == "A dot."
        assert len(list(tmp_path.iterdir())) == 1

    def test_an_image_that_cannot_be_written_fails_for_a_free_retry(self, tmp_path, painter):
        (tmp_path / "out").write_text("a file")
        ti = TaskInstance()
        with pytest.raises(StorageError):
            ask(output_path=str(tmp_path / "out"), stream=False).execute(context(ti))
        assert ti.xcoms["usage"]["cost"] == 0.5

    def test_the_result_of_a_table_holds_paths(self, tmp_path, painter):
        from tests.operators.enrichments import enrich, result

        enrich(tmp_path, result="response").execute(context())
        enrich(tmp_path, result="text", output_path=str(tmp_path / "texts")).execute(context())
        (path,) = (tmp_path / "out" / "images").iterdir()
        assert path.read_bytes() == samples.PNG
        assert {row["output"]["output"][0]["result"] for row in result(tmp_path)} == {str(path)}
        assert (tmp_path / "texts" / "images" / path.name).exists()
