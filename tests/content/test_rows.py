"""Files of the rows of a table."""

from __future__ import annotations

import json

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_responses.content import InputFile, InputImage
from airflow_provider_responses.content.reader import FileReader
from airflow_provider_responses.exceptions import RequestValidationError, ResponsesError
from airflow_provider_responses.operators.enrich import ResponsesEnrichOperator
from tests.airflow_fakes import TaskInstance, context
from tests.content import samples
from tests.content.samples import content_of, message, parts_of
from tests.operators.enrichments import enrich, result
from tests.operators.one_request import sent

ONE = {"max_failures": 1}


def image(number: int) -> bytes:
    return samples.PNG + bytes([number])


@pytest.fixture
def photos(tmp_path):
    """A folder with three images."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.png").write_bytes(image(number))
    return folder


def rows(count=3, **more):
    return [{"id": number, "path": f"{number}.png", "text": "so"} for number in range(count)] + ([more] if more else [])


def run(tmp_path, photos, *, attempt=1, **kwargs):
    given = {"source": rows(), "files": "{{ row.path }}", "files_root": str(photos), "key": "id"}
    return enrich(tmp_path, **(given | kwargs)).execute(context(TaskInstance(try_number=attempt)))


def images_of(sandbox):
    return sorted(content_of(part) for body in sent(sandbox) for part in parts_of(body))


class TestArguments:
    @pytest.mark.parametrize("files", ["{{ row.path }}", "path", "{{ row.path }}\n\n{{ row.path }}"])
    def test_paths_come_from_a_template_or_a_column(self, tmp_path, photos, files, responses_sandbox):
        assert run(tmp_path, photos, files=files)["counts"] == {"ok": 3}
        assert set(images_of(responses_sandbox)) == {image(0), image(1), image(2)}
        (text, *found) = sent(responses_sandbox)[0]["input"][0]["content"]
        assert text == {"type": "input_text", "text": "Mood of: so"}
        assert {part["type"] for part in found} == {"input_image"}
        assert len(found) == 1 + files.count("\n\n")

    def test_a_prompt_may_be_the_same_for_all_files(self, tmp_path, photos, responses_sandbox):
        assert run(tmp_path, photos, input="What is it?")["requests_sent"] == 3
        assert {body["input"][0]["content"][0]["text"] for body in sent(responses_sandbox)} == {"What is it?"}

    def test_a_column_may_hold_lists_and_complete_paths_and_none(self, tmp_path, photos, responses_sandbox):
        (photos / "a.pdf").write_bytes(samples.PDF)
        source = [{"id": 1, "text": "a", "path": [f"{photos}/0.png", "a.pdf"]}, {"id": 2, "text": "b", "path": None}]
        assert run(tmp_path, photos, source=source, files="path")["counts"] == {"ok": 2}
        bodies = sorted(sent(responses_sandbox), key=lambda body: len(str(body)))
        assert bodies[0]["input"] == "Mood of: b"
        assert [part["type"] for part in parts_of(bodies[1])] == ["input_image", "input_file"]

    def test_a_column_may_hold_bytes_which_the_result_leaves_out(self, tmp_path, monkeypatch, responses_sandbox):
        scratch = tmp_path / "scratch"
        scratch.mkdir()
        monkeypatch.setattr("tempfile.tempdir", str(scratch))
        source = [{"id": number, "text": "x", "photo": image(number)} for number in range(3)]
        manifest = enrich(tmp_path, source=source, files="photo", columns=["id"], key="id").execute(context())
        assert manifest["counts"] == {"ok": 3}
        assert images_of(responses_sandbox) == [image(0), image(1), image(2)]
        assert "photo" not in result(tmp_path)[0]
        assert list(scratch.iterdir()) == []

    def test_bytes_that_would_go_into_the_result_are_refused(self, tmp_path, responses_sandbox):
        source = [{"id": 1, "text": "x", "photo": image(1)}]
        with pytest.raises(AirflowFailException, match="column 'photo' holds bytes, which the result must not have"):
            enrich(tmp_path, source=source, files="photo").execute(context())
        assert sent(responses_sandbox) == []

    def test_a_function_returns_parts_with_paths_or_bytes(self, tmp_path, photos, responses_sandbox):
        def build(row):
            return message(InputImage.from_path(row["path"], detail="low"), InputFile.from_bytes(samples.PDF))

        assert run(tmp_path, photos, input=build, files=None)["counts"] == {"ok": 3}
        found = parts_of(sent(responses_sandbox)[0])
        assert [part["type"] for part in found] == ["input_image", "input_file"]
        assert found[0]["detail"] == "low"
        assert content_of(found[1]) == samples.PDF

    def test_files_and_a_function_with_parts_are_refused_together(self, tmp_path, photos, responses_sandbox):
        with pytest.raises(AirflowFailException, match="files needs an input that is text, got list"):
            run(tmp_path, photos, input=lambda row: message(InputImage.from_path(row["path"])))

    @pytest.mark.parametrize("files", [5, ["a"], b"x"])
    def test_another_type_is_an_error_of_the_dag_file(self, tmp_path, files):
        with pytest.raises(RequestValidationError, match="files must be a template such as"):
            enrich(tmp_path, files=files)

    def test_a_missing_column_is_an_error_before_anything_is_sent(self, tmp_path, photos, responses_sandbox):
        for files in ("{{ row.file }}", "file"):
            with pytest.raises(AirflowFailException, match="file"):
                run(tmp_path, photos, files=files)
        assert sent(responses_sandbox) == []


class TestIdentity:
    def test_unchanged_files_are_free_and_a_changed_one_is_sent_again(self, tmp_path, photos, responses_sandbox):
        run(tmp_path, photos)
        assert run(tmp_path, photos, attempt=2)["requests_sent"] == 0
        (photos / "1.png").write_bytes(image(9))
        manifest = run(tmp_path, photos, attempt=3)
        assert manifest["requests_sent"] == 1
        assert content_of(parts_of(sent(responses_sandbox)[-1])[0]) == image(9)
        assert manifest["counts"] == {"ok": 3}

    def test_the_same_content_under_another_name_is_one_request(self, tmp_path, photos, responses_sandbox):
        (photos / "copy.png").write_bytes(image(0))
        manifest = run(tmp_path, photos, source=rows(id=7, path="copy.png", text="so"))
        assert manifest["counts"] == {"ok": 4}
        assert manifest["requests_sent"] == 3

    def test_no_content_is_in_the_output(self, tmp_path, photos, responses_sandbox):
        import base64

        run(tmp_path, photos)
        written = b"".join(path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file())
        assert base64.b64encode(image(1))[:40] not in written
        assert image(1) not in written

    def test_a_shard_reads_its_own_files_alone(self, tmp_path, photos, responses_sandbox):
        (photos / "1.png").unlink()
        assert run(tmp_path, photos, shard=(0, 2), key=None)["counts"] == {"ok": 2}

    def test_a_retry_after_an_attempt_that_was_cut_off_sends_the_same_bytes(self, tmp_path, photos, responses_sandbox):
        responses_sandbox.script({"status": 500, "times": 3})
        with pytest.raises(ResponsesError, match="500"):
            run(tmp_path, photos, options={"max_retries": 0})
        failed = {json.dumps(body) for body in sent(responses_sandbox)}
        assert run(tmp_path, photos, attempt=2)["counts"] == {"ok": 3}
        assert {json.dumps(entry.body) for entry in responses_sandbox.ledger if entry.status == 200} == failed


class TestBadFiles:
    @pytest.mark.parametrize(
        ("path", "data", "expected"),
        [
            ("9.png", None, r"9\.png does not exist"),
            ("9.png", b"", r"9\.png is empty"),
            ("9.png", b"\x00\x01", r"9\.png has an unknown type"),
            ("9.png", bytes(3000), r"9\.png has too many bytes \(3000\)"),
            ("../secret.png", None, "files_root"),
            ("/etc/passwd", None, "is not under files_root"),
            ("file:///etc/passwd", None, "is not under files_root"),
            ("s3://other/9.png", None, "is not under files_root"),
            (f"{'n' * 300}.png", None, r"n… is no name of a file \(File name too long\)"),
            (f"{'n/' * 3000}9.png", None, "has more than 4096 bytes"),
            ("\ud800.png", None, "has characters that are no Unicode text"),
        ],
    )
    def test_a_bad_file_fails_its_row_alone_and_costs_nothing(
        self, tmp_path, photos, path, data, expected, responses_sandbox
    ):
        if data is not None:
            (photos / path).write_bytes(data)
        (tmp_path / "secret.png").write_bytes(image(7))
        source = rows(id=9, path=path, text="so")
        kwargs = {"source": source, "max_file_bytes": 2000}
        with pytest.raises(AirflowFailException, match=f"row 3.*{expected}"):
            run(tmp_path, photos, **kwargs)
        assert sent(responses_sandbox) == []
        manifest = run(tmp_path, photos, limits=ONE, **kwargs)
        assert manifest["counts"] == {"ok": 3, "invalid": 1}
        last = result(tmp_path)[3]
        assert (last["_status"], last["_cost"], last["_sends"]) == ("invalid", 0.0, 0)
        assert len(sent(responses_sandbox)) == 3

    @pytest.mark.parametrize("kind", [["input_image"], {"a": 1}, None])
    @pytest.mark.parametrize("more", [{"path": "0.png"}, {"text": "x"}])
    def test_a_part_with_a_type_that_is_no_text_fails_its_row_alone(
        self, tmp_path, photos, kind, more, responses_sandbox
    ):
        def look(row):
            return message({"type": kind, **more}) if row["id"] == 1 else message(InputImage.from_path(row["path"]))

        manifest = run(tmp_path, photos, files=None, input=look, limits=ONE)
        assert manifest["counts"] == {"ok": 2, "invalid": 1}
        assert "input.0.content.1" in json.dumps(result(tmp_path)[1]["_error"])
        assert len(sent(responses_sandbox)) == 2

    def test_no_row_reads_a_file_without_files_root(self, tmp_path, photos, responses_sandbox):
        source = [{"id": 1, "text": "x", "path": f"{photos}/0.png"}]
        with pytest.raises(AirflowFailException, match="files_root is missing"):
            run(tmp_path, photos, source=source, files_root=None)
        function = lambda row: message(InputFile.from_path(row["path"]))  # noqa: E731
        with pytest.raises(AirflowFailException, match="files_root is missing"):
            run(tmp_path, photos, source=source, files_root=None, files=None, input=function)
        assert sent(responses_sandbox) == []

    def test_a_row_cannot_name_the_temporary_file_of_another(self, tmp_path, photos, responses_sandbox):
        forged = {"type": "input_image", "file": {"digest": "../../etc/passwd", "type": "image/png", "size": 1}}
        with pytest.raises(AirflowFailException, match="file is not a field of a part"):
            run(tmp_path, photos, files=None, input=lambda row: message(forged, text=row["text"]))
        assert sent(responses_sandbox) == []

    def test_a_file_that_changes_after_the_rows_were_read_fails_its_row_unsent(
        self, tmp_path, photos, monkeypatch, responses_sandbox
    ):
        read = FileReader.read
        seen = []

        def read_and_change(reader, path):
            seen.append(path)
            if path == "1.png" and seen.count("1.png") == 2:
                (photos / "1.png").write_bytes(image(9))
            return read(reader, path)

        monkeypatch.setattr(FileReader, "read", read_and_change)
        manifest = run(tmp_path, photos, limits=ONE)
        assert manifest["counts"] == {"ok": 2, "failed": 1}
        failed = result(tmp_path)[1]
        assert "1.png has changed since the rows were read" in failed["_error"]
        assert failed["_cost"] in (0.0, None)
        assert images_of(responses_sandbox) == [image(0), image(2)]
        monkeypatch.undo()

    def test_the_next_attempt_sends_the_changed_file(self, tmp_path, photos, responses_sandbox):
        run(tmp_path, photos)
        (photos / "0.png").write_bytes(image(5))
        assert run(tmp_path, photos, attempt=2)["requests_sent"] == 1


class TestBatches:
    def test_public_urls_go_into_batches_and_files_go_live(self, tmp_path, photos, responses_sandbox):
        source = [
            *rows(2),
            *({"id": n, "text": "so", "path": f"https://example.com/{n}.png"} for n in (5, 6)),
        ]
        task = enrich(
            tmp_path,
            source=source,
            files="path",
            files_root=str(photos),
            mode="auto",
            batch_threshold=1,
            deferrable=False,
        )
        manifest = task.execute(context())
        assert manifest["counts"] == {"ok": 4}
        live = [body for body in sent(responses_sandbox) if "requests" not in body]
        assert sorted(content_of(part) for body in live for part in parts_of(body)) == [image(0), image(1)]

    def test_a_batch_alone_refuses_files_with_advice(self, tmp_path, photos, responses_sandbox):
        with pytest.raises(AirflowFailException, match=r"files that the worker reads and sends\. mode='auto' sends"):
            run(tmp_path, photos, mode="batch", deferrable=False)


def test_an_estimate_reads_the_files_and_sends_nothing(tmp_path, photos, responses_sandbox):
    (photos / "1.png").unlink()
    estimate = run(tmp_path, photos, estimate_only=True, limits=ONE)
    assert (estimate["requests"], estimate["invalid_rows"]) == (2, 1)
    assert sent(responses_sandbox) == []


def test_every_template_field_is_an_argument():
    assert {"files_root", "max_file_bytes"} <= set(ResponsesEnrichOperator.template_fields)
