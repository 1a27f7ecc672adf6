from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime

import httpx
import pytest

from airflow_provider_responses.exceptions import ConfigurationError
from airflow_provider_responses.sandbox import BatchEntry, Sandbox

from .batches import MODEL, SECONDS, BatchApi, batch_sandbox, requests, submission
from .conftest import HEADERS, output_text

OTHER_KEY = {"Authorization": "Bearer another-key"}
DAY = 86_400


@pytest.fixture(scope="module")
def module_api() -> Iterator[BatchApi]:
    with batch_sandbox(seed=3) as api:
        yield api


@pytest.fixture
def batch_api(module_api: BatchApi) -> BatchApi:
    module_api.sandbox.reset()
    return module_api


def by_custom_id(batch):
    return {result["custom_id"]: result for result in batch["results"]}


# Submission


def test_a_submission_is_stored_and_not_yet_validated(batch_api):
    response = batch_api.http.post("/batches", json=submission(3, callback_url="https://example.com/hook"))
    assert response.status_code == 202
    batch = response.json()
    assert batch["id"].startswith("batch_")
    assert batch | {"id": "", "created_at": 0} == {
        "id": "",
        "object": "batch",
        "endpoint": "/v1/responses",
        "model": MODEL,
        "completion_window": "24h",
        "status": "validating",
        "created_at": 0,
        "finalized_at": None,
        "expires_at": None,
        "provider": None,
        "request_counts": {"total": 3, "completed": 0, "failed": 0},
        "usage": None,
        "results": None,
        "error": None,
    }


@pytest.mark.parametrize("field", ["model", "endpoint", "callback_url", "completion_window"])
def test_a_field_after_the_requests_is_refused(batch_api, field):
    fields = submission(1, callback_url="https://example.com/hook", completion_window="24h")
    late = fields.pop(field)
    response = batch_api.http.post("/batches", json={**fields, field: late})
    assert response.status_code == 400
    assert response.json()["error"]["message"] == f"{field} must come before requests: the body is read as a stream"
    assert batch_api.sandbox.batches == []


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"model": None}, "model must be the name of a model"),
        ({"endpoint": "/responses"}, "endpoint must be /v1/responses, got '/responses'"),
        ({"endpoint": "/v1/messages"}, "endpoint must be /v1/responses in this sandbox"),
        ({"completion_window": "1h"}, "completion_window must be '24h', got '1h'"),
        ({"provider": {"order": ["openai"]}}, "provider may have only allow_fallbacks and only"),
        ({"callback_url": "http://example.com"}, "callback_url must be an https address"),
        ({"requests": []}, "requests must have at least one request"),
        ({"requests": {}}, "requests must be an array, got dict"),
    ],
)
def test_a_wrong_field_is_refused_at_once(batch_api, fields, message):
    response = batch_api.http.post("/batches", json=submission(1, **fields))
    assert response.status_code == 400
    assert message in response.json()["error"]["message"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "the body must be a JSON object: expected '{' at character 0"),
        (b"[]", "expected '{' at character 0"),
        (b"{}", "model must be the name of a model"),
        (b'{"requests": [', "the body must be a JSON object"),
        (b'{"model" "a"}', "expected ':' at character 9"),
        (b'{"model": "a"', "expected '}' at character 13"),
        (b'{"model": "a"} x', "extra data at character 15"),
        (b'{1: "a"}', "the name of a member must be a string"),
        (b"\xff", "the body must be a JSON object"),
        (json.dumps(submission()).replace('"requests"', '"request"').encode(), "requests is required"),
    ],
)
def test_a_body_that_is_no_submission_is_refused(batch_api, body, message):
    response = batch_api.http.post("/batches", content=body)
    assert response.status_code == 400
    assert message in response.json()["error"]["message"]


def test_white_space_between_members_is_accepted(batch_api):
    response = batch_api.http.post("/batches", content=f"\n {json.dumps(submission(), indent=3)} \t\n")
    assert response.status_code == 202


def test_a_body_above_the_limit_is_refused(batch_api):
    body = json.dumps(submission(2)).encode()
    batch_api.sandbox.batch_settings = {"max_bytes": len(body)}
    assert batch_api.http.post("/batches", content=body).status_code == 202
    response = batch_api.http.post("/batches", content=body + b" ")
    assert response.status_code == 413
    assert response.json()["error"]["message"] == (
        f"The body has {len(body) + 1} bytes: at most {len(body)} are allowed"
    )
    assert Sandbox().batch_settings["max_bytes"] == 200_000_000


def test_an_unknown_model_a_wrong_key_and_a_spent_key_are_refused(batch_api):
    assert batch_api.http.post("/batches", json=submission(model="missing/model")).status_code == 404
    wrong = batch_api.http.post("/batches", json=submission(), headers={"Authorization": "Bearer wrong"})
    assert wrong.status_code == 401
    batch_api.sandbox.key = {"limit": 1, "limit_remaining": 0}
    assert batch_api.http.post("/batches", json=submission()).status_code == 402
    assert batch_api.sandbox.batches == []


# Validation after the 202


def request(custom_id="bad", **body):
    return {"custom_id": custom_id, "body": {"input": "Hello", **body}}


def image(url):
    return [{"role": "user", "content": [{"type": "input_image", "detail": "auto", "image_url": url}]}]


FILE = [{"role": "user", "content": [{"type": "input_file", "filename": "a.pdf", "file_data": "JVBERi0="}]}]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (request(model="openai/gpt-4o"), "Request 'bad': model must be 'openai/gpt-4o-mini', the model of the batch"),
        (request(models=[MODEL]), "Request 'bad': model must be 'openai/gpt-4o-mini', the model of the batch"),
        (request("row-0"), "Request 'row-0': custom_id must be unique in the batch"),
        (request(input=image("data:image/png;base64,AAAA")), "Request 'bad': images and files must be public URLs"),
        (request(input=FILE), "Request 'bad': images and files must be public URLs"),
        (request(provider={"zdr": True}), "Request 'bad': zero data retention (provider.zdr) is not available"),
        (request(tools=[{"type": "web_search"}]), "Request 'bad': web search is not available in a batch"),
        (request(tools=[{"type": "openrouter:web_search"}]), "Request 'bad': web search is not available"),
        (request(plugins=[{"id": "web"}]), "Request 'bad': web search is not available in a batch"),
        (request(modalities=["text", "image"]), "Request 'bad': modalities: a batch brings text only"),
        (request(stream=True), "Request 'bad': stream must not be true in a batch"),
        (request(store=True), "Request 'bad': store must be false"),
        (request(temperature="warm"), "Request 'bad': "),
        (request(input=None), "Request 'bad': input (or prompt) is required"),
        ({"custom_id": "bad"}, "Request 'bad': body must be an object, got NoneType"),
        ({"body": {"input": "Hello"}}, "Request 2: custom_id must be a text, got None"),
        ("row", "Request 2 must be an object with custom_id and body, got str"),
    ],
)
def test_one_bad_request_fails_the_whole_batch_after_it_was_accepted(batch_api, bad, reason):
    batch = batch_api.submit(requests=[*requests(2), bad])
    assert (batch["status"], batch["error"]) == ("validating", None)
    batch_api.clock.now += SECONDS
    batch = batch_api.get(batch["id"])
    assert batch["status"] == "failed"
    assert batch["error"]["message"].startswith(reason)
    assert batch["results"] == []
    assert batch["provider"] is None
    assert batch["usage"] is None
    assert batch["request_counts"] == {"total": 3, "completed": 0, "failed": 0}
    assert not batch_api.sandbox.batches[0].billed


def test_a_public_url_and_a_repeated_model_are_valid(batch_api):
    batch = batch_api.run(requests=[request("a", input=image("https://example.com/a.png")), request("b", model=MODEL)])
    assert batch["status"] == "completed"
    assert batch["request_counts"] == {"total": 2, "completed": 2, "failed": 0}


def test_more_requests_than_allowed_fail_the_batch(batch_api):
    assert batch_api.run(5_001)["error"]["message"] == "The batch has 5001 requests: at most 5000 are allowed"
    batch_api.sandbox.batch_settings = {"max_requests": 2}
    assert batch_api.run(3)["error"]["message"] == "The batch has 3 requests: at most 2 are allowed"
    assert batch_api.run(2)["status"] == "completed"


def test_formats_must_be_equal_for_google_models_only(batch_api):
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    formats = [{"format": {"type": "json_schema", "name": name, "schema": schema}} for name in ("x", "x", "y")]
    listed = [request(f"row-{n}", text=text) for n, text in enumerate(formats)]
    failed = batch_api.run(model="google/gemini-2.5-flash", requests=listed)
    assert failed["error"]["message"] == (
        "Request 'row-2': text.format must be equal in all requests to a Google model"
    )
    assert batch_api.run(model="google/gemini-2.5-flash", requests=listed[:2])["status"] == "completed"
    assert batch_api.run(requests=listed)["status"] == "completed"


# Lifecycle


def test_a_batch_passes_through_its_statuses_in_its_time(batch_api):
    batch_id = batch_api.submit(8)["id"]
    seen = []
    for _ in range(11):
        batch = batch_api.get(batch_id)
        seen.append((batch["status"], batch["request_counts"]["completed"]))
        batch_api.clock.now += SECONDS / 10
    assert seen == [
        ("validating", 0),
        *(("in_progress", done) for done in range(8)),
        ("finalizing", 8),
        ("completed", 8),
    ]


def test_times_and_provider_are_set_as_the_batch_reaches_them(batch_api):
    created = batch_api.submit(1)
    batch_api.clock.now += SECONDS / 2
    running = batch_api.get(created["id"])
    assert running["provider"] == "OpenAI"
    assert running["expires_at"] == created["created_at"] + DAY
    assert running["finalized_at"] is None
    batch_api.clock.now += SECONDS * 5
    assert batch_api.get(created["id"])["finalized_at"] - created["created_at"] in {SECONDS, SECONDS + 1}
    google = batch_api.run(1, model="google/gemini-2.5-flash")
    assert google["expires_at"] == google["created_at"] + 4 * DAY


@pytest.mark.parametrize("status", ["validating", "in_progress", "finalizing"])
def test_a_batch_is_held_in_a_status_until_it_is_released(batch_api, status):
    batch_id = batch_api.submit(4)["id"]
    batch_api.sandbox.batch_settings = {"hold": status}
    for _ in range(3):
        batch_api.clock.now += 10 * SECONDS
        assert batch_api.get(batch_id)["status"] == status
    batch_api.sandbox.batch_settings = {"hold": None}
    assert batch_api.get(batch_id)["status"] == status
    batch_api.clock.now += SECONDS
    assert batch_api.get(batch_id)["status"] == "completed"


@pytest.mark.parametrize("status", ["failed", "expired"])
def test_a_batch_that_is_ended_keeps_its_results_and_is_billed_for_them(batch_api, status):
    batch_id = batch_api.submit(4)["id"]
    batch_api.clock.now += SECONDS / 2
    batch_api.sandbox.end_batch(batch_id, status, "The provider gave up")
    batch_api.clock.now += SECONDS
    batch = batch_api.get(batch_id)
    assert batch["status"] == status
    assert batch["error"] == {"message": "The provider gave up"}
    assert len(batch["results"]) == 2
    assert batch["request_counts"] == {"total": 4, "completed": 2, "failed": 0}
    assert batch["usage"]["cost"] == sum(result["response"]["body"]["usage"]["cost"] for result in batch["results"])
    assert batch_api.sandbox.batches[0].cost == batch["usage"]["cost"]
    with pytest.raises(ValueError, match=f"has ended already: it is {status}"):
        batch_api.sandbox.end_batch(batch_id, "failed")


def test_a_cancelled_batch_is_cancelling_first(batch_api):
    batch_id = batch_api.submit(4)["id"]
    batch_api.clock.now += SECONDS / 2
    batch_api.sandbox.end_batch(batch_id, "cancelled")
    assert batch_api.get(batch_id)["status"] == "cancelling"
    batch_api.clock.now += SECONDS / 10
    batch = batch_api.get(batch_id)
    assert (batch["status"], batch["error"]) == ("cancelled", {"message": "The batch is cancelled"})
    assert len(batch["results"]) == 2


def test_a_step_ends_one_batch_and_leaves_the_next_alone(batch_api):
    batch_api.sandbox.script_batches(
        {"ending": "expired", "ending_share": 0.25}, {"ending": "failed", "ending_share": 0.0, "message": "No capacity"}
    )
    expired, failed, completed = (batch_api.run(4) for _ in range(3))
    assert (expired["status"], len(expired["results"])) == ("expired", 1)
    assert (failed["status"], failed["error"]["message"], failed["results"]) == ("failed", "No capacity", [])
    assert (completed["status"], len(completed["results"])) == ("completed", 4)
    assert [entry.billed for entry in batch_api.sandbox.batches] == [True, False, True]


def test_a_batch_ends_in_real_time_without_a_clock():
    with Sandbox(batch_seconds=0.05) as sandbox, httpx.Client(base_url=sandbox.base_url, headers=HEADERS) as http:
        batch_id = http.post("/batches", json=submission(2)).json()["id"]
        for _ in range(1000):
            if (batch := http.get(f"/batches/{batch_id}").json())["status"] == "completed":
                break
        assert len(batch["results"]) == 2


# Results


def test_results_are_those_of_live_requests_at_half_the_price(batch_api):
    batch = batch_api.run(4)
    for listed in requests(4):
        result = by_custom_id(batch)[listed["custom_id"]]
        live = batch_api.http.post("/responses", json={**listed["body"], "model": MODEL}).json()
        body = result["response"]["body"]
        assert result["response"]["status_code"] == 200
        assert result["error"] is None
        assert output_text(body) == output_text(live)
        assert body["usage"]["cost"] == pytest.approx(live["usage"]["cost"] / 2, abs=1e-11)
        assert body["usage"]["total_tokens"] == live["usage"]["total_tokens"]
    totals = [result["response"]["body"]["usage"] for result in batch["results"]]
    assert batch["usage"] == {
        "prompt_tokens": sum(usage["input_tokens"] for usage in totals),
        "completion_tokens": sum(usage["output_tokens"] for usage in totals),
        "total_tokens": sum(usage["total_tokens"] for usage in totals),
        "cost": pytest.approx(sum(usage["cost"] for usage in totals)),
        "is_byok": False,
    }


def test_results_come_in_an_order_of_their_own_which_the_seed_repeats():
    orders = []
    for seed in (1, 1, 2):
        with batch_sandbox(seed=seed) as api:
            orders.append([result["custom_id"] for result in api.run(20)["results"]])
    assert orders[0] == orders[1] != orders[2]
    in_order = [listed["custom_id"] for listed in requests(20)]
    assert sorted(orders[0]) == sorted(in_order)
    assert orders[0] != in_order


def test_a_completed_batch_can_hold_failed_requests_which_are_free(batch_api):
    batch_api.sandbox.batch_settings = {"failing": 0.5}
    batch = batch_api.run(40)
    failed = [result for result in batch["results"] if result["error"]]
    assert batch["status"] == "completed"
    assert 10 <= len(failed) <= 30
    assert batch["request_counts"] == {"total": 40, "completed": 40 - len(failed), "failed": len(failed)}
    assert failed[0]["response"] is None
    assert failed[0]["error"] == {
        "message": "The provider failed on this request",
        "param": None,
        "type": "server_error",
        "error_type": "server",
    }
    costs = [result["response"]["body"]["usage"]["cost"] for result in batch["results"] if result["response"]]
    assert batch["usage"]["cost"] == pytest.approx(sum(costs))


def test_a_failed_request_can_succeed_in_the_next_batch(batch_api):
    batch_api.sandbox.batch_settings = {"failing": 0.5}
    failures = {tuple(bool(result["error"]) for result in batch_api.run(1)["results"]) for _ in range(20)}
    assert failures == {(True,), (False,)}


def test_a_step_sets_the_responses_to_the_first_requests(batch_api):
    steps = [{"text": "not JSON"}, {"status": 429}, {"failed": "server"}, {"incomplete": "max_output_tokens"}]
    batch_api.sandbox.script_batches({"responses": steps})
    results = by_custom_id(batch_api.run(5))
    assert output_text(results["row-0"]["response"]["body"]) == "not JSON"
    assert results["row-1"]["error"]["error_type"] == "rate_limit_exceeded"
    assert results["row-2"]["response"]["body"]["status"] == "failed"
    assert results["row-3"]["response"]["body"]["status"] == "incomplete"
    assert results["row-4"]["response"]["body"]["status"] == "completed"


@pytest.mark.parametrize(
    ("model", "error_type"),
    [("sandbox/error-429", "rate_limit_exceeded"), ("sandbox/drop", "provider_unavailable")],
)
def test_a_model_that_misbehaves_fails_each_request(batch_api, model, error_type):
    batch = batch_api.run(2, model=model)
    assert batch["status"] == "completed"
    assert [result["error"]["error_type"] for result in batch["results"]] == [error_type] * 2
    assert batch["usage"] is None
    assert not batch_api.sandbox.batches[0].billed


def test_a_step_makes_results_missing_repeated_and_unknown(batch_api):
    batch_api.sandbox.script_batches({"missing": 1, "repeated": 2, "unknown": 1})
    batch = batch_api.run(4)
    ids = [result["custom_id"] for result in batch["results"]]
    assert len(ids) == 6
    assert len(set(ids) & {listed["custom_id"] for listed in requests(4)}) == 3
    assert ids[3:5] == ids[:2]
    assert ids[5] == "unknown-0"
    assert batch["request_counts"] == {"total": 4, "completed": 3, "failed": 0}


def test_pages_of_results_are_those_of_the_batch(batch_api):
    batch = batch_api.run(5)
    batch_api.sandbox.batch_settings = {"page_size": 2}
    pages, cursor = [], None
    while not pages or cursor:
        parameters = {"cursor": cursor} if cursor else {}
        page = batch_api.http.get(f"/batches/{batch['id']}/results", params=parameters).json()
        assert page["object"] == "list"
        assert page["has_more"] is (page["next_cursor"] is not None)
        pages.append(page["data"])
        cursor = page["next_cursor"]
    assert [len(page) for page in pages] == [2, 2, 1]
    assert [result for page in pages for result in page] == batch["results"]
    whole = batch_api.http.get(f"/batches/{batch['id']}/results", params={"limit": 5}).json()
    assert (whole["data"], whole["has_more"]) == (batch["results"], False)


@pytest.mark.parametrize("parameters", [{"cursor": "x"}, {"cursor": "djE6b3RoZXI6MQ=="}, {"limit": 0}, {"limit": 1001}])
def test_a_wrong_cursor_or_limit_is_refused(batch_api, parameters):
    batch = batch_api.run(1)
    response = batch_api.http.get(f"/batches/{batch['id']}/results", params=parameters)
    assert response.status_code == 400
    assert next(iter(parameters)) in response.json()["error"]["message"]


def test_pages_need_a_batch_that_has_ended_and_a_server_that_has_them(batch_api):
    batch_id = batch_api.submit(1)["id"]
    assert batch_api.http.get(f"/batches/{batch_id}/results").status_code == 409
    batch_api.clock.now += SECONDS
    assert batch_api.http.get(f"/batches/{batch_id}/results").status_code == 200
    batch_api.sandbox.batch_settings = {"pages": False}
    assert batch_api.http.get(f"/batches/{batch_id}/results").status_code == 404


# Lists, deletion, other keys, expiry


def test_the_list_is_newest_first_without_results(batch_api):
    ids = [batch_api.submit(1)["id"] for _ in range(3)]
    batch_api.clock.now += SECONDS
    listed = batch_api.http.get("/batches").json()
    assert [batch["id"] for batch in listed["data"]] == ids[::-1]
    assert {batch["status"] for batch in listed["data"]} == {"completed"}
    assert {batch["results"] for batch in listed["data"]} == {None}
    assert (listed["object"], listed["has_more"]) == ("list", False)
    assert (listed["first_id"], listed["last_id"]) == (ids[2], ids[0])
    first = batch_api.http.get("/batches", params={"limit": 2}).json()
    assert ([batch["id"] for batch in first["data"]], first["has_more"]) == ([ids[2], ids[1]], True)
    rest = batch_api.http.get("/batches", params={"limit": 2, "after": first["last_id"]}).json()
    assert ([batch["id"] for batch in rest["data"]], rest["has_more"]) == ([ids[0]], False)
    batch_api.sandbox.reset()
    assert batch_api.http.get("/batches").json() == {
        "object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False
    }  # fmt: skip


def test_the_list_is_filtered_by_status_and_time(batch_api):
    done = batch_api.run(1)["id"]
    batch_api.clock.now += 10
    batch_api.sandbox.script_batches({"ending": "failed", "seconds": 1})
    failed = batch_api.submit(1)["id"]
    batch_api.clock.now += 10
    finalizing = batch_api.submit(1)["id"]
    batch_api.clock.now += 0.95 * SECONDS

    def listed(*parameters):
        return [batch["id"] for batch in batch_api.http.get("/batches", params=parameters).json()["data"]]

    times = {entry.id: entry.time for entry in batch_api.sandbox.batches}
    moment = datetime.fromtimestamp(times[failed], UTC)
    assert listed(("status", "completed")) == [done]
    assert listed(("status", "completed"), ("status", "failed")) == [failed, done]
    assert batch_api.get(finalizing)["status"] == "finalizing"
    assert listed(("status", "in_progress")) == [finalizing]
    assert listed(("created_after", moment.isoformat())) == [finalizing]
    assert listed(("created_before", moment.isoformat())) == [done]
    assert listed(("created_after", moment.date().isoformat()), ("created_before", "2999-01-01T00:00:00Z")) == [
        finalizing,
        failed,
        done,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("status", "finalizing"),
        ("status", "cancelling"),
        ("status", "done"),
        ("limit", "0"),
        ("limit", "101"),
        ("limit", "many"),
        ("after", "batch_unknown"),
        ("created_after", "yesterday"),
    ],
)
def test_a_wrong_filter_is_refused(batch_api, name, value):
    response = batch_api.http.get("/batches", params={name: value})
    assert response.status_code == 400
    assert response.json()["error"]["message"].startswith(f"{name} must be")


def test_only_a_batch_that_has_ended_is_deleted_and_its_bill_stays(batch_api):
    batch_id = batch_api.submit(1)["id"]
    assert batch_api.http.delete(f"/batches/{batch_id}").status_code == 409
    batch_api.clock.now += SECONDS
    deleted = batch_api.http.delete(f"/batches/{batch_id}")
    assert deleted.json() == {
        "id": batch_id,
        "object": "batch",
        "deletion": {"openrouter": "deleted", "upstream": {"provider": "OpenAI", "status": "deleted"}},
    }
    assert batch_api.http.get(f"/batches/{batch_id}").status_code == 404
    assert batch_api.http.get("/batches").json()["data"] == []
    assert batch_api.http.delete(f"/batches/{batch_id}").status_code == 404
    entry = batch_api.sandbox.batches[0]
    assert entry.deleted
    assert entry.billed


def test_a_batch_that_never_reached_a_provider_has_no_upstream_to_delete(batch_api):
    batch = batch_api.run(requests=[request(stream=True)])
    deleted = batch_api.http.delete(f"/batches/{batch['id']}")
    assert deleted.json()["deletion"] == {"openrouter": "deleted"}


def test_batches_of_another_key_do_not_exist(batch_api):
    batch = batch_api.run(1)
    for method, path in [("GET", ""), ("GET", "/results"), ("DELETE", "")]:
        response = batch_api.http.request(method, f"/batches/{batch['id']}{path}", headers=OTHER_KEY)
        assert response.status_code == 404
    assert batch_api.http.get("/batches", headers=OTHER_KEY).json()["data"] == []


def test_results_expire_after_thirty_days(batch_api):
    batch = batch_api.run(1)
    batch_api.clock.now += 30 * DAY - 1
    assert batch_api.get(batch["id"])["results"] == batch["results"]
    batch_api.clock.now += 1
    for path in ("", "/results"):
        response = batch_api.http.get(f"/batches/{batch['id']}{path}")
        assert response.status_code == 410
        assert response.json()["error"]["message"] == f"The results of the batch {batch['id']} have expired"


def test_results_expire_on_demand(batch_api):
    batch_id = batch_api.submit(1)["id"]
    with pytest.raises(ValueError, match="has not ended: it is validating"):
        batch_api.sandbox.expire_batch_results(batch_id)
    batch_api.clock.now += SECONDS
    batch_api.sandbox.expire_batch_results(batch_id)
    assert batch_api.http.get(f"/batches/{batch_id}").status_code == 410
    with pytest.raises(ValueError, match="no batch has the id 'batch_unknown'"):
        batch_api.sandbox.expire_batch_results("batch_unknown")


def test_results_are_withheld_while_the_account_owes(batch_api):
    batch = batch_api.run(1)
    batch_api.sandbox.key = {"limit": 1, "limit_remaining": 0}
    response = batch_api.http.get(f"/batches/{batch['id']}")
    assert response.status_code == 402
    assert response.json() == batch | {
        "results": None,
        "error": {"code": 402, "message": "The batch has ended, and the account owes for it"},
    }
    assert batch_api.http.get(f"/batches/{batch['id']}/results").status_code == 402
    batch_api.sandbox.key = {}
    assert batch_api.get(batch["id"]) == batch


# The ledger, the script and the settings


def test_the_ledger_has_each_batch_with_its_bill_once(batch_api):
    batch = batch_api.submit(3)
    assert batch_api.sandbox.batches[0].status == "validating"
    assert not batch_api.sandbox.batches[0].billed
    batch_api.clock.now += SECONDS
    for _ in range(3):
        ended = batch_api.get(batch["id"])
    (entry,) = batch_api.sandbox.batches
    assert isinstance(entry, BatchEntry)
    assert (entry.id, entry.status, entry.model, entry.billed) == (batch["id"], "completed", MODEL, True)
    assert entry.cost == ended["usage"]["cost"] > 0
    assert entry.custom_ids == ["row-0", "row-1", "row-2"]
    assert (entry.completed, entry.failed, len(entry.polls)) == (3, 0, 3)
    assert batch_api.sandbox.key["usage"] == entry.cost
    assert batch_api.sandbox.ledger == []
    assert batch_api.sandbox.batch_requests(batch["id"]) == requests(3)
    report = httpx.get(f"{batch_api.sandbox.url}/_sandbox/ledger").json()
    assert report["billed_batches"] == {"batches": 1, "requests": 3, "cost": entry.cost}
    assert report["batches"][0]["id"] == batch["id"]
    assert report["entries"] == []


def test_a_batch_is_billed_also_if_nobody_reads_it(batch_api):
    batch_api.submit(3)
    batch_api.clock.now += SECONDS
    assert batch_api.sandbox.batches[0].billed


@pytest.mark.parametrize(("drop", "stored"), [(True, 0), ("after", 1)])
def test_a_dropped_submission_is_stored_or_not(batch_api, drop, stored):
    batch_api.sandbox.script_batches({"drop": drop})
    with pytest.raises(httpx.RemoteProtocolError):
        batch_api.http.post("/batches", json=submission(2))
    assert len(batch_api.sandbox.batches) == stored
    assert len(batch_api.http.get("/batches").json()["data"]) == stored


def test_steps_are_used_by_their_own_kind_of_call(batch_api):
    batch_api.sandbox.script_batches(
        {"call": "get", "status": 503, "retry_after": 2, "times": 2},
        {"call": "list", "status": 502},
        {"call": "results", "cut": True},
        {"status": 429, "message": "Slow down"},
    )
    refused = batch_api.http.post("/batches", json=submission(1))
    assert (refused.status_code, refused.json()["error"]["message"]) == (429, "Slow down")
    batch = batch_api.submit(1)
    polls = [batch_api.http.get(f"/batches/{batch['id']}") for _ in range(3)]
    assert [poll.status_code for poll in polls] == [503, 503, 200]
    assert polls[0].headers["Retry-After"] == "2"
    assert [batch_api.http.get("/batches").status_code for _ in range(2)] == [502, 200]
    batch_api.clock.now += SECONDS
    with pytest.raises(httpx.RemoteProtocolError):
        batch_api.http.get(f"/batches/{batch['id']}/results")
    assert batch_api.http.get(f"/batches/{batch['id']}/results").status_code == 200


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ({"ending": "completed"}, "step 0: ending: Input should be 'failed', 'expired' or 'cancelled'"),
        ({"call": "get", "ending": "failed"}, "step 0: Value error, ending is for the call 'create', got 'get'"),
        ({"status": 500, "drop": True}, "a step must end a call in one way, got status and drop"),
        ({"responses": [{"drop": True}]}, "responses.0: drop has no meaning in a batch"),
        ({"speed": 2}, "step 0: speed: is not a field of a step"),
    ],
)
def test_a_wrong_step_is_refused(batch_api, step, message):
    with pytest.raises(ValueError, match=message):
        batch_api.sandbox.script_batches(step)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"seconds": 0}, "seconds must be a number > 0, got 0"),
        ({"failing": 1.5}, "failing must be a number >= 0 and <= 1, got 1.5"),
        ({"hold": "completed"}, "hold must be null or one of validating, in_progress, finalizing, cancelling"),
        ({"pages": 1}, "pages must be true or false, got 1"),
        ({"page_size": 0}, "page_size must be a whole number >= 1, got 0"),
        ({"max_requests": 1.5}, "max_requests must be a whole number >= 1, got 1.5"),
        ({"seed": "x"}, "seed must be a whole number, got 'x'"),
        ({"speed": 2}, "'speed' is not a setting of batches: the settings are seconds, failing, hold"),
        ([], r"settings of batches must be an object, got \[\]"),
    ],
)
def test_a_wrong_setting_is_refused(batch_api, settings, message):
    with pytest.raises(ValueError, match=message):
        batch_api.sandbox.batch_settings = settings


def test_settings_that_are_not_named_stay_and_a_reset_restores_all(batch_api):
    initial = batch_api.sandbox.batch_settings
    batch_api.sandbox.batch_settings = {"failing": 0.5}
    batch_api.sandbox.batch_settings = {"pages": False}
    assert batch_api.sandbox.batch_settings == initial | {"failing": 0.5, "pages": False}
    batch_api.sandbox.reset()
    assert batch_api.sandbox.batch_settings == initial
    with pytest.raises(ConfigurationError, match="seconds must be a number > 0, got 0"):
        Sandbox(batch_seconds=0)


def test_everything_is_controlled_over_http(batch_api):
    control = f"{batch_api.sandbox.url}/_sandbox/batches"
    assert httpx.put(control, json={"hold": "in_progress"}).json()["data"]["hold"] == "in_progress"
    assert httpx.post(f"{control}/script", json=[{"call": "list", "status": 500}]).json() == {"steps": 1}
    assert batch_api.http.get("/batches").status_code == 500
    batch_id = batch_api.submit(2)["id"]
    batch_api.clock.now += 2 * SECONDS
    assert httpx.get(f"{control}/{batch_id}").json() == {"data": requests(2)}
    ended = httpx.post(f"{control}/{batch_id}", json={"status": "expired", "message": "Too late"}).json()["data"]
    assert (ended["status"], ended["error"]) == ("expired", "Too late")
    assert httpx.post(f"{control}/{batch_id}", json={"results": "expired"}).status_code == 200
    assert batch_api.http.get(f"/batches/{batch_id}").status_code == 410
    assert httpx.post(f"{control}/{batch_id}", json={"status": "completed"}).status_code == 400
    assert httpx.get(f"{control}/batch_unknown").status_code == 404
    assert httpx.put(control, json={"hold": "completed"}).status_code == 400


def test_models_have_a_variant_with_the_price_of_a_batch(batch_api):
    models = {model["id"]: model for model in batch_api.http.get("/models").json()["data"]}
    prices = {kind: float(models[f"{MODEL}:batch"]["pricing"][kind]) for kind in ("prompt", "completion")}
    assert prices == {"prompt": 0.075e-6, "completion": 0.3e-6}
