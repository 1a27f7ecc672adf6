"""The sandbox refuses parts whose content the service could not read."""

from __future__ import annotations

import httpx
import pytest

from airflow_provider_responses.sandbox.http.media_validation import find_media_problem

DATA = "aGVsbG8="


@pytest.mark.parametrize(
    ("part", "problem"),
    [
        ({"type": "input_image", "image_url": f"data:image/png;base64,{DATA}"}, None),
        ({"type": "input_image", "image_url": "https://example.com/a.png"}, None),
        ({"type": "input_image", "file_id": "file_1"}, None),
        ({"type": "input_file", "file_data": f"data:application/pdf;base64,{DATA}"}, None),
        ({"type": "input_file", "file_url": "https://example.com/a.pdf"}, None),
        ({"type": "input_audio", "input_audio": {"data": DATA, "format": "wav"}}, None),
        ({"type": "input_text", "text": "x"}, None),
        ({"type": "input_image", "path": "/a.png"}, "input.0.content.0 needs image_url or file_id"),
        ({"type": "input_file"}, "input.0.content.0 needs file_data or file_url or file_id"),
        ({"type": "input_video"}, "input.0.content.0 needs video_url"),
        ({"type": "input_image", "image_url": f"data:image/bmp;base64,{DATA}"}, "must be an image (image/png"),
        ({"type": "input_image", "image_url": "data:image/png;base64,#"}, "image_url must be base64"),
        ({"type": "input_file", "file_data": "data:application/pdf;base64,"}, "file_data must be base64"),
        ({"type": "input_audio", "input_audio": {"data": "#", "format": "wav"}}, "input_audio.data must be base64"),
    ],
)
def test_a_part_needs_a_content_that_can_be_decoded(part, problem):
    found = find_media_problem([{"role": "user", "content": [part]}])
    assert (problem in found) if problem else found is None


def test_a_wrong_part_is_a_400(responses_sandbox):
    part = {"type": "input_file", "path": "/a.pdf"}
    response = httpx.post(  # the client would refuse it
        f"{responses_sandbox.connection['host']}/responses",
        json={"model": "openai/gpt-4o-mini", "input": [{"role": "user", "content": [part]}]},
        headers={"Authorization": "Bearer sk-none"},
        trust_env=False,
    )
    assert response.status_code == 400
    assert "needs file_data" in response.text
