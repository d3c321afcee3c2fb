"""The official SDKs through the gateway, unchanged but for base URL and key.

Started by tests/run with EDGE (http://host:port) and EDGE_KEY set; the gateway has the models gpt and claude in front of
`odock-edge mock-provider`, whose answer to a text is `You said: <text>`, and MCP servers of the SDK.
"""

import asyncio
import contextlib
import json
import os
import sys
import traceback

import anthropic
import mcp
import openai
from mcp.client.streamable_http import create_mcp_http_client, streamable_http_client

EDGE = os.environ["EDGE"]
KEY = os.environ["EDGE_KEY"]

TEXT = "Grüße aus Malmö, 你好 🙂"
SAID = f"You said: {TEXT}"
# The mock provider calls a tool when it is told to.
ASK = f"call tool get_weather: {TEXT}"

OPENAI_TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Weather of a place",
        "parameters": {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]},
    },
}
ANTHROPIC_TOOL = {
    "name": "get_weather",
    "description": "Weather of a place",
    "input_schema": {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]},
}

oai = openai.OpenAI(base_url=f"{EDGE}/v1", api_key=KEY, max_retries=0)
ant = anthropic.Anthropic(base_url=EDGE, api_key=KEY, max_retries=0)


def user(text=TEXT):
    return [{"role": "user", "content": text}]


def openai_chat():
    answer = oai.chat.completions.create(model="gpt", messages=user())
    assert answer.choices[0].message.content == SAID, answer
    assert answer.usage.total_tokens > 0
    assert answer._request_id and len(answer._request_id) == 32, answer._request_id


def openai_chat_stream():
    chunks = list(oai.chat.completions.create(model="gpt", messages=user(), stream=True, stream_options={"include_usage": True}))
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == SAID, text
    assert chunks[-1].usage.total_tokens > 0, chunks[-1]


def openai_tool_call():
    answer = oai.chat.completions.create(model="gpt", messages=user(ASK), tools=[OPENAI_TOOL])
    call = answer.choices[0].message.tool_calls[0]
    assert call.function.name == "get_weather" and TEXT in json.loads(call.function.arguments)["text"], call
    # The result of the tool goes back, with the call beside it.
    messages = user(ASK) + [answer.choices[0].message, {"role": "tool", "tool_call_id": call.id, "content": "12 degrees"}]
    answer = oai.chat.completions.create(model="gpt", messages=messages)
    assert answer.choices[0].finish_reason == "stop", answer


def openai_tool_call_stream():
    with oai.chat.completions.stream(model="gpt", messages=user(ASK), tools=[OPENAI_TOOL]) as stream:
        final = stream.get_final_completion()
    call = final.choices[0].message.tool_calls[0]
    assert call.function.name == "get_weather" and TEXT in json.loads(call.function.arguments)["text"], call


def openai_embeddings():
    answer = oai.embeddings.create(model="gpt", input=["one", "two"])
    assert len(answer.data) == 2 and len(answer.data[0].embedding) > 0, answer


def openai_responses():
    answer = oai.responses.create(model="gpt", input=TEXT)
    assert SAID in answer.output_text, answer


def openai_models():
    names = [m.id for m in oai.models.list()]
    assert "gpt" in names, names


def openai_many_at_once():
    async def run():
        client = openai.AsyncOpenAI(base_url=f"{EDGE}/v1", api_key=KEY, max_retries=0)
        texts = [f"number {n}" for n in range(50)]
        answers = await asyncio.gather(*(client.chat.completions.create(model="gpt", messages=user(t)) for t in texts))
        for text, answer in zip(texts, answers):
            assert answer.choices[0].message.content == f"You said: {text}", answer

    asyncio.run(run())


def openai_errors_are_the_sdks_own():
    expectations = [
        (openai.AuthenticationError, "unauthorized", dict(key="sk_wrong", model="gpt")),
        (openai.PermissionDeniedError, "model_not_allowed", dict(key=KEY, model="hidden")),
        (openai.BadRequestError, "model_not_found", dict(key=KEY, model="nothing")),
    ]
    for kind, code, ask in expectations:
        client = openai.OpenAI(base_url=f"{EDGE}/v1", api_key=ask["key"], max_retries=0)
        try:
            client.chat.completions.create(model=ask["model"], messages=user())
        except kind as error:
            assert error.code == code, (error.code, code)
            assert error.request_id and len(error.request_id) == 32
        else:
            raise AssertionError(f"{code} was not raised")


def anthropic_messages():
    answer = ant.messages.create(model="claude", max_tokens=64, messages=user())
    assert answer.content[0].text == SAID, answer
    assert answer.usage.output_tokens > 0


def anthropic_messages_stream():
    with ant.messages.stream(model="claude", max_tokens=64, messages=user()) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text == SAID, text
    assert final.stop_reason == "end_turn", final


def anthropic_tool_use():
    answer = ant.messages.create(model="claude", max_tokens=64, messages=user(ASK), tools=[ANTHROPIC_TOOL])
    call = next(block for block in answer.content if block.type == "tool_use")
    assert call.name == "get_weather" and TEXT in call.input["text"], call
    result = [{"type": "tool_result", "tool_use_id": call.id, "content": "12 degrees"}]
    messages = user(ASK) + [{"role": "assistant", "content": answer.content}, {"role": "user", "content": result}]
    answer = ant.messages.create(model="claude", max_tokens=64, messages=messages, tools=[ANTHROPIC_TOOL])
    assert answer.type == "message", answer


def anthropic_tool_use_stream():
    with ant.messages.stream(
        model="claude", max_tokens=64, messages=user(ASK), tools=[ANTHROPIC_TOOL]
    ) as stream:
        final = stream.get_final_message()
    call = next(block for block in final.content if block.type == "tool_use")
    assert call.name == "get_weather" and TEXT in call.input["text"], call


def anthropic_errors_are_the_sdks_own():
    expectations = [
        (anthropic.AuthenticationError, "sk_wrong", "claude"),
        (anthropic.BadRequestError, KEY, "nothing"),
    ]
    for kind, key, model in expectations:
        client = anthropic.Anthropic(base_url=EDGE, api_key=key, max_retries=0)
        try:
            client.messages.create(model=model, max_tokens=8, messages=user())
        except kind as error:
            assert error.body["type"] == "error", error.body
        else:
            raise AssertionError(f"{kind.__name__} was not raised")


def pii_is_restored_for_the_caller():
    """The default chain masks what the provider sees and puts it back into what the caller reads, JSON or stream."""
    text = "Write to ada.lovelace@example.org today"
    answer = oai.chat.completions.create(model="gpt", messages=user(text))
    assert answer.choices[0].message.content == f"You said: {text}", answer
    chunks = oai.chat.completions.create(model="gpt", messages=user(text), stream=True)
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == f"You said: {text}"


@contextlib.asynccontextmanager
async def tools_of(server):
    async with create_mcp_http_client(headers={"authorization": f"Bearer {KEY}"}) as http:
        async with mcp.Client(streamable_http_client(f"{EDGE}/v1/mcp/{server}", http_client=http)) as client:
            yield client


def mcp_tools_over_json_and_events():
    """A client of the SDK lists and calls tools; what is blocked is neither offered nor called; values are masked on the way."""

    async def all_of(server):
        async with tools_of(server) as client:
            offered = [tool.name for tool in (await client.list_tools()).tools]
            assert offered == ["search"], offered
            answer = await client.call_tool("search", {"text": f"{TEXT} ada.lovelace@example.org"})
            assert answer.content[0].text == f"found: {TEXT} ada.lovelace@example.org", answer
            try:
                answer = await client.call_tool("delete", {"number": 1})
            except mcp.MCPError as error:
                assert "may not be called" in str(error), error
            else:
                raise AssertionError(f"a blocked tool was called: {answer}")
            again = await client.call_tool("search", {"text": "still there"})
            assert again.content[0].text == "found: still there", again

    for server in ["tickets", "events"]:
        asyncio.run(all_of(server))


def mcp_servers_that_are_not_granted():
    async def use(server):
        async with tools_of(server) as client:
            await client.list_tools()

    for server in ["payroll", "nowhere"]:
        try:
            asyncio.run(use(server))
        except Exception:
            continue
        raise AssertionError(f"{server} was served")


def main():
    tests = [
        openai_chat,
        openai_chat_stream,
        openai_tool_call,
        openai_tool_call_stream,
        openai_embeddings,
        openai_responses,
        openai_models,
        openai_many_at_once,
        openai_errors_are_the_sdks_own,
        anthropic_messages,
        anthropic_messages_stream,
        anthropic_tool_use,
        anthropic_tool_use_stream,
        anthropic_errors_are_the_sdks_own,
        pii_is_restored_for_the_caller,
        mcp_tools_over_json_and_events,
        mcp_servers_that_are_not_granted,
    ]
    failed = 0
    print(f"openai {openai.__version__}, anthropic {anthropic.__version__}")
    for test in tests:
        try:
            test()
            print(f"PASS  sdk {test.__name__}")
        except Exception:
            failed += 1
            print(f"FAIL  sdk {test.__name__}")
            traceback.print_exc()
    print(f"sdk: {len(tests) - failed} of {len(tests)} passed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
