"""Errors of real servers, as recorded, reported or documented, and the error that each becomes."""

from __future__ import annotations

from typing import Any, NamedTuple

from airflow_provider_responses.client.request_summary import RequestSummary

OPEN = RequestSummary(label="POST https://llm.example.com/v1/responses (model maker/small-1)")
OPENROUTER = RequestSummary(label="POST https://openrouter.ai/api/v1/responses (model a/b)", is_openrouter=True)
CONTINUED = RequestSummary(label=OPEN.label, previous_response_id=True)
SECRET = "the secret plan"


class Row(NamedTuple):
    """An error of a server other than OpenRouter, and the properties of the error that it becomes."""

    status: int
    body: Any
    retryable: bool
    words: str  # part of the server's message
    advice: str
    request: RequestSummary = OPEN


def openai(message: str, kind: Any, code: Any = None, param: Any = None) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


ROWS = {
    # vLLM
    "vllm unknown model": Row(
        404,
        openai("The model `x` does not exist.", "NotFoundError", 404, "model"),
        False,
        "does not exist",
        "Check the model's name",
    ),
    "vllm bad request": Row(
        400, openai("Invalid grammar", "BadRequestError", 400), False, "Invalid grammar", "Correct the request"
    ),
    "vllm too long": Row(
        400,
        openai("maximum context length is 4096 tokens", "BadRequestError", 400, "input_tokens"),
        False,
        "4096",
        "Correct the request",
    ),
    "vllm phrase as type": Row(
        422, openai("no", "Unprocessable Entity", 422), False, "no", "Correct the request"
    ),
    "vllm key": Row(401, {"error": "Unauthorized"}, False, "Unauthorized", "Check the API key"),
    "vllm old, flat": Row(
        404,
        {"object": "error", "message": "no such model", "type": "NotFoundError", "param": None, "code": 404},
        False,
        "no such model",
        "Check the model's name",
    ),
    "vllm internal": Row(
        500, openai("EngineCore died", "InternalServerError", 500), True, "EngineCore", "server's log"
    ),
    "vllm stored response": Row(
        404,
        openai("Response with id 'resp_1' not found.", "invalid_request_error", 404, "response_id"),
        False,
        "resp_1",
        "`previous_response_id`",
        CONTINUED,
    ),
    "vllm model of a continued response": Row(
        404,
        openai("The model `x` does not exist.", "NotFoundError", 404, "model"),
        False,
        "does not exist",
        "Check the model's name and the connection's base URL",
        CONTINUED,
    ),
    "vllm validation as text": Row(
        400,
        openai(
            "1 validation error: {'type': 'string_type', 'loc': ('body', 'input'), 'msg': 'should be a string', "
            f"'input': '{SECRET}'}}",
            "Bad Request",
            400,
        ),
        False,
        "should be a string",
        "Correct the request",
    ),
    # OGX
    "ogx unknown model": Row(
        404, {"error": {"detail": {"errors": []}, "message": "Model 'x' not found"}}, False, "Model 'x'", "model's name"
    ),
    "ogx detail": Row(400, {"detail": "Invalid value"}, False, "Invalid value", "Correct the request"),
    "ogx previous response": Row(
        400, {"error": {"message": "Previous response with id 'resp_9' not found"}}, False, "resp_9",
        "`previous_response_id`", CONTINUED,
    ),
    # LiteLLM: codes are text
    "litellm bad request": Row(
        400, openai("litellm.BadRequestError: no", "invalid_request_error", "400"), False, "no", "Correct the request"
    ),
    "litellm rate limit": Row(
        429, openai("litellm.RateLimitError: slow", "throttling_error", "429"), True, "slow", "fewer tasks at once"
    ),
    "litellm type None": Row(
        500, openai("litellm.InternalServerError: x", "None", "500", "None"), True, "x", "server's log"
    ),
    "litellm wrong key": Row(
        401, openai("Authentication Error, Invalid proxy server token", "auth_error", "401", "None"),
        False, "Authentication Error", "Check the API key",
    ),
    "litellm wrong key, no database": Row(
        400, openai("No connected db.", "no_db_connection", "400"), False, "No connected db.", "Check the API key"
    ),
    "litellm budget": Row(
        400, openai("Budget has been exceeded!", "budget_exceeded", "400"), False, "Budget", "used up its credit"
    ),
    "litellm budget as a 429": Row(
        429, openai("Budget has been exceeded!", "budget_exceeded", "429"), False, "Budget", "used up its credit"
    ),
    "litellm model access": Row(
        401, openai("key not allowed to access model", "key_model_access_denied", "401"), False, "not allowed",
        "The key may not do this",
    ),
    "litellm context window in a 500": Row(
        500, openai("litellm.ContextWindowExceededError: too long", "ContextWindowExceededError", "500"), False,
        "too long", "shorten the input",
    ),
    "litellm a 500 that is a 400": Row(
        500, openai("litellm.BadRequestError: no", None, "400"), False, "no", "Correct the request"
    ),
    "litellm error in detail": Row(
        400, {"detail": {"error": "Invalid model name passed in model=x"}}, False, "Invalid model name", "Correct"
    ),
    # transformers serve, FastAPI
    "transformers detail": Row(
        422, {"detail": "Unexpected keys in the request: {'store'}"}, False, "Unexpected keys", "Correct the request"
    ),
    "fastapi validation": Row(
        422,
        {"detail": [
            {"type": "missing", "loc": ["body", "model"], "msg": "Field required", "input": {"input": SECRET}},
            {"type": "string_type", "loc": ["body", "input", 0, "content"], "msg": "should be text", "input": SECRET},
        ]},
        False, "model: Field required; input[0].content: should be text", "Correct the request",
    ),
    "fastapi one complaint": Row(
        422, {"detail": [{"type": "value_error", "loc": ["body", "top_p"], "msg": "too large", "input": SECRET}]},
        False, "top_p: too large", "Correct the request",
    ),
    "fastapi with the whole body": Row(
        422, {"detail": [{"loc": ["body"], "msg": "no"}], "body": {"input": SECRET}}, False, "body: no", "Correct",
    ),
    "fastapi not found": Row(404, {"detail": "Not Found"}, False, "Not Found", "connection's base URL"),
    "starlette method": Row(405, {"detail": "Method Not Allowed"}, False, "Method Not Allowed", "Correct the request"),
    "mistral, detail inside message": Row(
        422,
        {"object": "error", "message": {"detail": [{"loc": ["body", "n"], "msg": "too many", "input": SECRET}]},
         "type": "invalid_request_error"},
        False, "n: too many", "Correct the request",
    ),
    # RFC 9457, such as prism
    "prism problem": Row(
        422,
        {"type": "https://stoplight.io/prism/errors#UNPROCESSABLE_ENTITY", "title": "Invalid request",
         "status": 422, "detail": "Your request is not valid"},
        False, "Invalid request: Your request is not valid", "Correct the request",
    ),
    "problem without type": Row(
        503, {"type": "about:blank", "title": "Service Unavailable", "status": 503}, True, "Service Unavailable",
        "more capacity",
    ),
    "problem with a more particular status": Row(
        500, {"title": "Bad request", "detail": "no such field", "status": 400}, False, "no such field", "Correct",
    ),
    # codex-relay and other Go gateways
    "codex-relay": Row(400, openai("unknown model x", "upstream_error", "400"), False, "unknown model", "Correct"),
    "go gateway 503 by default type": Row(
        503, openai("no available channel", "invalid_request_error"), False, "no available channel", "Correct",
    ),
    "go gateway 429 by default type": Row(
        429, openai("too fast", "invalid_request_error"), True, "too fast", "fewer tasks at once"
    ),
    "go gateway quota": Row(
        403, openai("user quota is not enough", "new_api_error", "insufficient_user_quota"), False, "quota",
        "used up its credit",
    ),
    "go gateway flat": Row(500, {"code": 500, "msg": "boom", "data": None}, True, "boom", "server's log"),
    "spring": Row(
        404, {"timestamp": "2026", "status": 404, "error": "Not Found", "message": "No handler", "path": "/v2"},
        False, "Not Found: No handler", "connection's base URL",
    ),
    "oauth": Row(
        401, {"error": "invalid_token", "error_description": "The token expired"}, False,
        "invalid_token: The token expired", "Check the API key",
    ),
    # OpenAI's
    "openai key": Row(
        401, openai("Incorrect API key provided", "invalid_request_error", "invalid_api_key"), False, "Incorrect",
        "Check the API key",
    ),
    "openai quota": Row(
        429, openai("You exceeded your current quota", "insufficient_quota", "insufficient_quota"), False, "quota",
        "used up its credit",
    ),
    "openai quota, digits as code": Row(
        429, openai("You exceeded your quota", "insufficient_quota", "429"), False, "quota", "used up its credit"
    ),
    "openai billing": Row(
        429, openai("not active", "billing_not_active", "billing_not_active"), False, "not active", "used up its credit"
    ),
    "openai limit": Row(
        429, openai("Limit 3, Requested 1", "requests", "rate_limit_exceeded"), True, "Limit 3", "fewer tasks at once"
    ),
    "openai request beyond the limit": Row(
        429, openai("Request too large for gpt-4o on tokens per min", "tokens", "rate_limit_exceeded"), False,
        "too large", "shorten the input",
    ),
    "groq request beyond the limit": Row(
        413, openai("Request too large for model x", "tokens", "rate_limit_exceeded"), False, "too large", "Send less"
    ),
    "openai context": Row(
        400, openai("too many tokens", "invalid_request_error", "context_length_exceeded", "input"), False,
        "too many tokens (field input)", "shorten the input",
    ),
    "context in a 502": Row(
        502, openai("too many tokens", "upstream_error", "context_length_exceeded"), False, "many", "shorten the input"
    ),
    "openai model": Row(
        404, openai("The model `x` does not exist", "invalid_request_error", "model_not_found"), False, "`x`",
        "Check the model's name",
    ),
    "openai previous response": Row(
        400,
        openai("Previous response with id 'resp_1' not found.", "invalid_request_error", "previous_response_not_found",
               "previous_response_id"),
        False, "resp_1", "`previous_response_id`", CONTINUED,
    ),
    "previous response or model": Row(
        404, {"detail": "Not Found"}, False, "Not Found", "the response of `previous_response_id`, then the model's",
        CONTINUED,
    ),
    "openai server": Row(500, openai("sorry", "server_error", "server_error"), True, "sorry", "server's log"),
    "openai slow down": Row(503, openai("Slow Down", "slow_down"), True, "Slow Down", "more capacity"),
    "openai country": Row(
        403, openai("not supported", "request_forbidden", "unsupported_country_region_territory"), False, "supported",
        "The key may not do this",
    ),
    "azure filter": Row(
        400, openai("filtered", None, "content_filter"), False, "filtered", "change the input or the model"
    ),
    "azure flat": Row(401, {"statusCode": 401, "message": "Access denied"}, False, "Access denied", "API key"),
    "azure digits": Row(429, {"error": {"code": "429", "message": "wait"}}, True, "wait", "fewer tasks at once"),
    # others
    "anthropic overloaded": Row(
        529, {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}, True, "Overloaded",
        "more capacity",
    ),
    "anthropic billing as a 400": Row(
        400, {"type": "error", "error": {"type": "billing_error", "message": "no balance"}}, False, "no balance",
        "used up its credit",
    ),
    "anthropic permission": Row(
        403, {"type": "error", "error": {"type": "permission_error", "message": "no"}}, False, "no",
        "The key may not do this",
    ),
    "rate limit called a 400": Row(
        400, {"error": {"type": "rate_limit_error", "message": "slow"}}, True, "slow", "fewer tasks at once"
    ),
    "overload called a 400": Row(
        400, {"error": {"type": "overloaded_error", "message": "busy"}}, True, "busy", "more capacity"
    ),
    "google list": Row(
        429, [{"error": {"code": 429, "message": "Quota", "status": "RESOURCE_EXHAUSTED"}}], True, "Quota", "fewer",
    ),
    "google argument in a 500": Row(
        500, {"error": {"code": 500, "message": "bad", "status": "INVALID_ARGUMENT"}}, False, "bad", "Correct"
    ),
    "aws": Row(
        400, {"__type": "com.amazon.coral#ThrottlingException", "message": "Rate exceeded"}, True, "Rate exceeded",
        "fewer tasks at once",
    ),
    "cloudflare": Row(
        403, {"success": False, "errors": [{"code": 10000, "message": "Authentication error"}]}, False,
        "Authentication error", "The key may not do this",
    ),
    "deepseek balance": Row(
        402, openai("Insufficient Balance", "unknown_error", "invalid_request_error"), False, "Balance",
        "used up its credit",
    ),
    "a page": Row(502, b"<html>Bad gateway</html>", True, "<html>Bad gateway", "server's log"),
    "nothing": Row(503, b"", True, "an empty body", "more capacity"),
    "litellm error framed as a stream": Row(
        500,
        b'data: {"error": {"message": "cannot start", "type": "internal_server_error", "code": "500"}}\n\n'
        b"data: [DONE]\n\n",
        True, "cannot start", "server's log",
    ),
    "litellm around another server's body": Row(
        500,
        openai(
            'litellm.BadRequestError: OpenAIException - {"error": {"message": "no such response", '
            '"code": "previous_response_not_found", "param": null}}',
            None, "500",
        ),
        False, "no such response", "previous_response_id", CONTINUED,
    ),
    "codex-relay, JSON as a message": Row(
        502,
        {"error": {"code": "502", "message": '{"error": {"message": "too long", "code": "context_length_exceeded"}}'}},
        False, "too long", "shorten the input",
    ),
    "JSON as a message that repeats the input": Row(
        422,
        {"detail": '{"detail": [{"loc": ["body", "input"], "msg": "is no list", "input": "' + SECRET + '"}]}'},
        False, "input: is no list", "Correct the request",
    ),
    # fastresponses 0.1.0 reports every failure of the model behind it as a 500
    **{
        f"fastresponses, {status} of its model": Row(
            500,
            openai(
                f"The provider encountered an error: status_code: {status}, model_name: small, "
                "body: {'message': 'no', 'type': 'x', 'code': None}",
                "server_error", "server_error",
            ),
            retryable, f"status_code: {status}", advice,
        )
        for status, retryable, advice in (
            (400, False, "Correct the request"),
            (401, False, "Check the API key"),
            (404, False, "Check the model's name"),
            (429, True, "fewer tasks at once"),
            (500, True, "server's log"),
            (503, True, "more capacity"),
        )
    },
    "fastresponses, a failure without a status": Row(
        500, openai("The provider encountered an error: Connection error.", "server_error", "server_error"), True,
        "Connection error", "server's log",
    ),
    "a specific name counts more than a status in the words": Row(
        500, openai("status_code: 404", "server_error", "rate_limit_exceeded"), True, "404", "fewer tasks at once"
    ),
    "a status in the words alone": Row(
        500, {"type": "error", "error": {"message": "Error from LLM API: 404"}}, False, "404", "Check the model's name"
    ),
    "a number that is no status": Row(500, {"error": {"message": "took 404 ms"}}, True, "404 ms", "server's log"),
    "an unknown object": Row(500, {"request": {"input": SECRET}}, True, "the fields 'request'", "server's log"),
}  # fmt: skip
