"""Streams with their content in different events, with different names of events, and different ends."""

from __future__ import annotations

from .shapes import (
    ARGUMENTS,
    CALLED,
    HALF,
    OTHER,
    PIECES,
    REASONING,
    REFUSED,
    TEXT,
    TWO,
    USUAL,
    WORDS,
    Event,
    Shape,
    added,
    arguments,
    arguments_ended,
    at,
    body,
    call,
    created,
    deltas,
    end,
    ended,
    event,
    failed,
    item_events,
    message,
    part,
    part_ended,
    refusal,
    stream,
    text_ended,
)

CONTENT: dict[str, Shape] = {
    "all events": stream(*USUAL, end(message())),
    "deltas, final []": stream(created(), *deltas(), end()),
    "deltas, final null": stream(created(), *deltas(), end(output=None)),
    "deltas, final content []": stream(created(), *deltas(), end(message(None))),
    "deltas, final content null": stream(created(), *deltas(), end(message(None, content=None))),
    "deltas, final text empty": stream(created(), *deltas(), end(message(""))),
    "deltas, final output a {}": stream(created(), *deltas(), end(output={})),
    "only the end": stream(end(message())),
    "only output_text.done": stream(created(), text_ended(), end()),
    "only content_part.done": stream(created(), part_ended(), end()),
    "only content_part.added": stream(created(), event("content_part.added", part=part(), **at()), end()),
    "only output_item.done": stream(created(), ended(message()), end()),
    "only output_item.added": stream(created(), event("output_item.added", item=message(), output_index=0), end()),
    "only content_part.delta": stream(*(event("content_part.delta", delta=one, **at()) for one in PIECES), end()),
    "deltas as objects": stream(*(event("output_text.delta", delta={"text": one}) for one in PIECES), end()),
    "text.delta, the old name": stream(*(event("text.delta", delta=one, **at()) for one in PIECES), end()),
    "item ended, content in deltas": stream(created(), added(message()), *deltas(), ended(message(None)), end()),
    "final misses the message": stream(created(), ended(REASONING, 0), *deltas(**at(1)), end(REASONING)),
    "reasoning and deltas, []": stream(created(), ended(REASONING, 0), *deltas(**at(1)), end()),
    "reasoning and deltas at one index": stream(created(), ended(REASONING, 0), *deltas(), end()),
    "reasoning in deltas": stream(
        event("reasoning_text.delta", delta="Hm.", item_id="rs_1", output_index=0),
        event("reasoning_summary_text.delta", delta="H.", item_id="rs_1", summary_index=0),
        *deltas(**at(1)),
        end(),
    ),
    "item content is a string": stream(created(), ended(message(content=TEXT)), end()),
    "final content is a string": stream(created(), end(message(content=TEXT))),
    "parts of type text": stream(created(), ended(message(content=[part(type="text")])), end()),
    "parts without a type": stream(created(), end(message(content=[{"text": TEXT}]))),
    "item without a type": stream(created(), ended({"role": "assistant", "content": [part()]}), end()),
    "output is a string": stream(created(), end(output=TEXT)),
    "output holds parts": stream(created(), end(part())),
    "only output_text on top": stream(created(), end(output_text=TEXT)),
    "the text twice, in parts": stream(created(), *deltas(), text_ended(), part_ended(), ended(message()), end()),
}

NAMES: dict[str, Shape] = {
    "no item ids": stream(created(), *deltas(**at(0, None)), text_ended(**at(0, None)), end()),
    "no output_index": stream(created(), *deltas(**at(None)), text_ended(**at(None)), end()),
    "no names at all": stream(created(), *deltas(content_index=0), text_ended(content_index=0), end()),
    "no content_index": stream(created(), *deltas(**at(place=None)), text_ended(), end()),
    "ids only later": stream(created(), added(message(name=None)), *deltas(**at(None)), ended(message()), end()),
    "empty ids": stream(created(), *deltas(**at(name="")), text_ended(**at(name="")), end()),
    "a new id each event": stream(
        created(),
        added(message()),
        *(one for n, text in enumerate(PIECES) for one in deltas(text, **at(0, f"x{n}"))),
        text_ended(**at(0, "y1")),
        part_ended(**at(0, "y2")),
        ended(message(name="y3")),
        end(),
    ),
    "interleaved items": stream(
        *(one for n, text in enumerate(PIECES) for one in (*deltas(text, **at(1, "msg_2")), *deltas(f"{n} ", **at(0)))),
        end(),
        text=f"0 1 2 3 4 5 6 \n\n{TEXT}",
        messages=("0 1 2 3 4 5 6 ", TEXT),
    ),
    "interleaved, without index": stream(
        *(
            one
            for n, text in enumerate(PIECES)
            for one in (*deltas(f"{n} ", **at(None)), *deltas(text, **at(None, "msg_2")))
        ),
        end(),
        text=f"0 1 2 3 4 5 6 \n\n{TEXT}",
        messages=("0 1 2 3 4 5 6 ", TEXT),
    ),
    "items out of order": stream(
        *item_events(message(name="msg_2"), 1),
        *item_events(message(TWO[0]), 0),
        end(),
        text="\n\n".join(TWO),
        messages=TWO,
    ),
    "always the same index": stream(
        *item_events(message(TWO[0])), *item_events(message(name="msg_2")), end(), text="\n\n".join(TWO), messages=TWO
    ),
    "the same item twice": stream(*USUAL, *USUAL[1:], end()),
    "the same item ended twice": stream(*USUAL, USUAL[-1], end()),
    "the same item twice, final too": stream(*USUAL, *USUAL[1:], end(message(), message())),
    "ended before the last deltas": stream(
        created(), *deltas(*PIECES[:4]), ended(message(HALF)), *deltas(*PIECES[4:]), end()
    ),
    "a billion as index": stream(
        created(), *deltas(**at(10**9, place=10**9)), text_ended(**at(10**9, place=10**9)), end()
    ),
    "negative and wrong indices": stream(created(), *deltas(output_index=-1, content_index="0", item_id=7), end()),
    "two messages without names": stream(
        created(), text_ended(TWO[0], x=1), text_ended(TEXT, x=1), end(), text="\n\n".join(TWO), messages=TWO
    ),
    "two ids at one index": stream(
        text_ended(TWO[0], **at(0, "msg_1")), text_ended(**at(0, "msg_2")), end(), text="\n\n".join(TWO), messages=TWO
    ),
    "two items at one index without ids": stream(
        ended(message(TWO[0], None)), ended(message(name=None)), end(), text="\n\n".join(TWO), messages=TWO
    ),
    "announced with its beginning": stream(
        created(),
        event("output_item.added", item=message(HALF), output_index=0),
        *deltas(*PIECES[4:]),
        end(),
    ),
    "two parts": stream(*deltas(HALF), *deltas("".join(PIECES[4:]), **at(place=1)), end()),
    "parts out of order": stream(*deltas("".join(PIECES[4:]), **at(place=1)), *deltas(HALF), end()),
}

ENDS: dict[str, Shape] = {
    "white space not streamed": stream(created(), *deltas(*(one for one in PIECES if one.strip())), end(message())),
    "white space not streamed, final []": stream(
        created(),
        *deltas(*(one for one in PIECES if one.strip())),
        end(),
        text=TEXT.replace('": ', '":').replace('why": ', 'why":'),
    ),
    "the end is an extension": stream(created(), *deltas(*PIECES[:5]), end(message())),
    "open-responses-server, constant text": stream(
        created(), *deltas(**at(place=None)), end(message(OTHER)), inconsistent=True
    ),
    "open-responses-server, first delta": stream(
        created(), *deltas(**at(place=None)), end(message(PIECES[0])), inconsistent=True
    ),
    "open-responses-server, cut by length": stream(created(), *deltas(*PIECES[:4]), **failed(text=HALF)),
    "half a character": stream(
        created(), *deltas('{"number": 42, "why": "it is so € ', "\ufffd", "\ufffd", '"}'), end(message())
    ),
    "a text nobody streamed": stream(created(), *USUAL[1:], end(message(OTHER, "msg_9")), inconsistent=True),
    "LiteLLM, other ids at the end": stream(
        created(id="resp_a"), *deltas(**at(name="m_a")), end(message(name="m_b"), id="resp_b")
    ),
    "LiteLLM, other ids, final []": stream(created(id="resp_a"), *deltas(), end(id="resp_b")),
    "of another response": stream(*USUAL, end(message(OTHER), id="resp_9"), inconsistent=True, tokens=(None, None)),
    "of another response, and its own": stream(
        *USUAL[:4], end(message(OTHER), id="resp_9"), *USUAL[4:], end(message()), ignored=True
    ),
    "of another response, half method": stream(
        created(), *deltas(*PIECES[:4]), end(message(OTHER), id="resp_9"), **failed(text=HALF)
    ),
    "of another response, nothing else": stream(created(), end(message(OTHER), id="resp_9"), **failed(text="")),
    "completed without response": stream(*USUAL, event("completed"), tokens=(None, None)),
    "completed, response null": stream(*USUAL, event("completed", response=None), tokens=(None, None)),
    "completed, all in the event": stream(created(), {**body(message()), "type": "response.completed"}),
    "completed without response, not ended": stream(
        created(), *deltas(*PIECES[:4]), event("completed"), **failed(text=HALF)
    ),
    "completed without response, empty": stream(created(), event("completed"), **failed(text="")),
    "response.done": stream(created(), *deltas(), event("done", response=body(status=None))),
    "status in_progress at the end": stream(created(), *deltas(), end(status="in_progress")),
    "no created": stream(*deltas(), end()),
    "a status of its own in created": stream(created(status="queued"), *deltas(), end(message())),
}

MESSAGES: dict[str, Shape] = {
    "commentary and final_answer": stream(
        created(), end(message(TWO[0], phase="commentary"), message(name="msg_2", phase="final_answer")), messages=TWO
    ),
    "final_answer first": stream(
        created(), end(message(phase="final_answer"), message(TWO[0], "msg_2", phase="commentary")), messages=TWO[::-1]
    ),
    "phases only in the items": stream(
        *item_events(message(TWO[0], phase="commentary")),
        *item_events(message(name="msg_2", phase="final_answer"), 1),
        end(),
        messages=TWO,
    ),
    "only the final_answer streamed": stream(
        created(),
        *deltas(**at(0, None)),
        end(message(TWO[0], phase="commentary"), message(name="msg_2", phase="final_answer")),
        messages=TWO,
    ),
    "commentary alone": stream(created(), end(message(phase="commentary"))),
    "before and after a tool": stream(
        created(), end(message(TWO[0]), {"type": "web_search_call", "id": "ws_1"}, message(name="msg_2")), messages=TWO
    ),
    "a tool at the end": stream(created(), end(message(), call()), calls=(("f", ARGUMENTS),)),
    "two messages": stream(created(), end(message(TWO[0]), message(name="msg_2")), text="\n\n".join(TWO), messages=TWO),
    "two messages with one id": stream(created(), end(message(HALF, status="in_progress"), message())),
}

CALLS: dict[str, Shape] = {
    "a call in all events": stream(
        added(call(None)),
        *arguments('{"a":', " 1}", item_id="fc_1", output_index=0),
        arguments_ended(item_id="fc_1", output_index=0),
        ended(call()),
        end(call()),
        **CALLED,
    ),
    "a call only in arguments.done": stream(
        created(), arguments_ended(name="f", call_id="call_1", item_id="fc_1"), end(), **CALLED
    ),
    "a call's name only in added": stream(
        added(call(None)), arguments_ended(item_id="fc_1", output_index=0), end(), **CALLED
    ),
    "a call in deltas": stream(added(call(None)), *arguments('{"a":', " 1}", item_id="fc_1"), end(), **CALLED),
    "a call by its call_id": stream(added(call(None)), arguments_ended(item_id="call_1"), end(), **CALLED),
    "a call ended with {}": stream(
        added(call(None)), arguments_ended(item_id="fc_1"), ended(call("{}")), end(call("{}")), **CALLED
    ),
    "a call without arguments at the end": stream(
        added(call(None)), arguments_ended(item_id="fc_1"), end(call("")), **CALLED
    ),
    "a call beside a final message": stream(*USUAL, ended(call(), 1), end(message()), calls=(("f", ARGUMENTS),)),
    "two calls at once": stream(
        added(call(None), 0),
        added(call(None, id="fc_2", call_id="call_2", name="g"), 1),
        *arguments("{}", item_id="fc_2", output_index=1),
        *arguments(ARGUMENTS, item_id="fc_1", output_index=0),
        end(),
        text="",
        value=None,
        calls=(("f", ARGUMENTS), ("g", "{}")),
    ),
    "two calls without names": stream(
        arguments_ended(name="f", call_id="call_1"),
        arguments_ended("{}", name="g", call_id="call_2"),
        end(),
        text="",
        value=None,
        calls=(("f", ARGUMENTS), ("g", "{}")),
    ),
    "two calls at one index": stream(
        ended(call(id=None)),
        ended(call("{}", id=None, call_id="call_2", name="g")),
        end(),
        text="",
        value=None,
        calls=(("f", ARGUMENTS), ("g", "{}")),
    ),
    "refusal.delta": stream(
        *(event("refusal.delta", delta=one, **at()) for one in ("I will ", "not.")), end(), **REFUSED
    ),
    "refusal.done": stream(created(), event("refusal.done", refusal=WORDS, **at()), end(), **REFUSED),
    "refusal in a part": stream(
        created(),
        event("content_part.done", part={"type": "refusal", "refusal": WORDS}, **at()),
        end(message(None)),
        **REFUSED,
    ),
    "refusal in an item": stream(created(), ended(refusal()), end(), **REFUSED),
}

SEARCH = {"type": "web_search_call", "id": "ws_1", "status": "in_progress"}
ABC = message(content=[part(one) for one in (HALF, TEXT[len(HALF) :], "\n")])
AGAIN = (PIECES[0], *PIECES)  # the first delta twice
LOST = (*PIECES[:2], *PIECES[3:])
CUMULATIVE = tuple("".join(PIECES[:end]) for end in range(1, len(PIECES) + 1))


def without_index(*events: Event) -> list[Event]:
    return [{name: value for name, value in one.items() if name != "output_index"} for one in events]


CONFIRMED: dict[str, Shape] = {
    f"{change}, {where}": stream(created(), *deltas(*pieces), *ends)
    for change, pieces in (
        ("a delta twice", AGAIN),
        ("a delta lost", LOST),
        ("each delta with the whole text so far", CUMULATIVE),
    )
    for where, ends in (
        ("all ends", (text_ended(), part_ended(), ended(message()), end(message()))),
        ("text and item", (text_ended(), ended(message()), end())),
        ("text and part", (text_ended(), part_ended(), end())),
        ("text and the end", (text_ended(), end(message()))),
        ("part and the end", (part_ended(), end(message()))),
        ("item and the end", (ended(message()), end(message()))),
    )
}
CONFIRMED |= {
    "a delta lost, one end": stream(created(), *deltas(*LOST), text_ended(), end()),
    "a delta twice, constant text at the end": stream(
        created(), *deltas(*AGAIN), text_ended(), ended(message()), end(message(OTHER)), inconsistent=True
    ),
    "a call's delta twice": stream(
        added(call(None)),
        *arguments('{"a":', '{"a":', " 1}", item_id="fc_1", output_index=0),
        arguments_ended(item_id="fc_1", output_index=0),
        ended(call()),
        end(),
        **CALLED,
    ),
    "a call's delta twice, one end": stream(
        added(call(None)), *arguments('{"a":', '{"a":', " 1}", item_id="fc_1"), end(call()), **CALLED
    ),
}

PARTS: dict[str, Shape] = {
    "a part only in the item": stream(
        created(), text_ended(HALF, **at()), text_ended("\n", **at(place=2)), ended(ABC), end(), text=TEXT + "\n"
    ),
    "a part only at the end": stream(
        created(),
        text_ended(TEXT[len(HALF) :], **at(place=1)),
        end(message(content=[part(HALF), part(TEXT[len(HALF) :])])),
    ),
    "a part only streamed": stream(
        created(),
        text_ended(HALF),
        text_ended(TEXT[len(HALF) :], **at(place=1)),
        ended(message(HALF)),
        end(message(HALF)),
        inconsistent=True,
    ),
    "two parts without content_index": stream(
        created(), text_ended(HALF, **at(place=None)), text_ended(TEXT[len(HALF) :], **at(place=None)), end()
    ),
    "two parts at one content_index": stream(created(), text_ended(HALF), text_ended(TEXT[len(HALF) :]), end()),
    "deltas of two parts without content_index": stream(
        *deltas(HALF, **at(place=None)),
        text_ended(HALF, **at(place=None)),
        *deltas(TEXT[len(HALF) :], **at(place=None)),
        text_ended(TEXT[len(HALF) :], **at(place=None)),
        end(),
    ),
    "a delta twice in one of two parts": stream(
        *deltas(HALF, HALF),
        *deltas(TEXT[len(HALF) :], **at(place=1)),
        text_ended(HALF),
        ended(message(content=[part(HALF), part(TEXT[len(HALF) :])])),
        end(),
    ),
}

ANNOUNCED: dict[str, Shape] = {
    "a call without arguments": stream(
        added(call("")),
        arguments_ended("", item_id="fc_1", output_index=0),
        end(),
        text="",
        value=None,
        calls=(("f", ""),),
    ),
    "a call only announced": stream(added(call("")), end(), text="", value=None, calls=(("f", ""),)),
    "a call with an object": stream(
        added(call("")), {**arguments_ended(item_id="fc_1"), "arguments": {"a": 1}}, end(), **CALLED
    ),
    "a call by its call_id, another id": stream(
        *without_index(added(call("")), ended(call(id="fc_9"))), end(), **CALLED
    ),
    "a tool only announced": stream(
        *deltas(TWO[0], **at(0, "m_1")),
        added(SEARCH, 1),
        event("web_search_call.completed", item_id="ws_1", output_index=1),
        *deltas(**at(2, "m_2")),
        end(),
        messages=TWO,
    ),
}

SAME: dict[str, Shape] = {
    "two texts under one id": stream(created(), end(message(TWO[0]), message()), text="\n\n".join(TWO), messages=TWO),
    "two texts under one id, streamed": stream(
        *item_events(message(TWO[0])), *item_events(message(), 1), end(), text="\n\n".join(TWO), messages=TWO
    ),
    "two texts under one id, only deltas": stream(
        *deltas(TWO[0]), *deltas(**at(1)), end(), text="\n\n".join(TWO), messages=TWO
    ),
    "a new id each event, no output_index": stream(
        *without_index(
            added(message(None, "a")),
            *deltas(TEXT, **at(name="b")),
            text_ended(**at(name="c")),
            ended(message(name="d")),
        ),
        end(),
        messages=(TEXT,),
    ),
    "a new id each event, nothing announced": stream(
        *without_index(*deltas(TEXT, **at(name="b")), text_ended(**at(name="c")), ended(message(name="d"))),
        end(),
        messages=(TEXT,),
    ),
}

HIDDEN: dict[str, Shape] = {
    "the text only in created": stream(created(output=[message()]), end()),
    "the text only in in_progress": stream(created(), event("in_progress", response=body(message())), end(output=None)),
    "the beginning in created": stream(created(output=[message(HALF)]), *deltas(), end()),
    "unknown deltas": stream(created(), event("output_markdown.delta", delta=TEXT), end(), **failed(text="")),
    "unknown ends": stream(created(), event("output_markdown.done", text=TEXT), end(), **failed(text="")),
    "unknown deltas, and the end": stream(created(), event("output_markdown.delta", delta=TEXT), end(message())),
    "unknown deltas about a call": stream(
        created(), event("unknown_call.delta", delta="x"), ended(call()), end(), **CALLED
    ),
    "refused after a text": stream(created(), *deltas(*PIECES[:4]), end(refusal()), **(REFUSED | {"text": HALF})),
    "refused as in chat": stream(created(), end(message(content=None, refusal=WORDS)), **REFUSED),
    "refused as in chat, in an item": stream(created(), ended(message(content=None, refusal=WORDS)), end(), **REFUSED),
}
