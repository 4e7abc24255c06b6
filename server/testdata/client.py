"""The official client, unchanged, against a server at argv[1] with the key argv[2]."""

import sys

import openai

client = openai.OpenAI(base_url=sys.argv[1] + "/v1", api_key=sys.argv[2], max_retries=0, timeout=120)
model = client.models.list().data[0].id
assert client.models.retrieve(model).id == model

args = dict(model=model, prompt="Once upon a time", max_tokens=24, temperature=0, seed=7)
whole = client.completions.create(**args)
assert whole.choices[0].finish_reason == "length", whole
assert whole.usage.completion_tokens == 24 and whole.usage.total_tokens == 24 + whole.usage.prompt_tokens, whole.usage

chunks = list(client.completions.create(stream=True, stream_options={"include_usage": True}, **args))
assert "".join(c.choices[0].text for c in chunks if c.choices) == whole.choices[0].text
assert chunks[-1].usage.completion_tokens == 24 and not chunks[-1].choices
assert [c.choices[0].finish_reason for c in chunks if c.choices and c.choices[0].finish_reason] == ["length"]
assert chunks[-1].usage.prompt_tokens_details.cached_tokens > 0, chunks[-1].usage

word = whole.choices[0].text.split()[3]
stopped = client.completions.create(stop=[word], **args).choices[0]
assert stopped.finish_reason == "stop" and stopped.text == whole.choices[0].text.split(word)[0], stopped

several = client.completions.create(**{**args, "temperature": 1, "n": 3})
assert [c.index for c in several.choices] == [0, 1, 2]
again = client.completions.create(**{**args, "temperature": 1, "n": 3})
assert [c.text for c in again.choices] == [c.text for c in several.choices], "the same seed gives the same texts"
assert len({c.text for c in several.choices}) > 1, "choices differ"

probs = client.completions.create(logprobs=3, **args).choices[0].logprobs
assert len(probs.tokens) == len(probs.token_logprobs) == 24
assert all(p <= 0 for p in probs.token_logprobs) and all(1 <= len(t) <= 3 for t in probs.top_logprobs)
streamed = list(client.completions.create(logprobs=3, stream=True, **args))
tokens = [t for c in streamed if c.choices and c.choices[0].logprobs for t in c.choices[0].logprobs.tokens]
assert tokens == probs.tokens

ids = client.completions.create(**{**args, "prompt": ["Once", "Twice"], "max_tokens": 2})
assert len(ids.choices) == 2

for bad, error in [
    (dict(args, max_tokens=-1), openai.BadRequestError),
    (dict(args, temperature=9), openai.BadRequestError),
    (dict(args, model="none"), openai.NotFoundError),
    (dict(args, prompt="word " * 30000), openai.BadRequestError),
    (dict(args, logit_bias={"5": 1}), openai.BadRequestError),
]:
    try:
        client.completions.create(**bad)
        raise SystemExit(f"accepted: {str(bad)[:100]}")
    except error as e:
        assert e.body["message"] and e.body["type"] == "invalid_request_error", e.body
try:
    openai.OpenAI(base_url=sys.argv[1] + "/v1", api_key="wrong", max_retries=0).models.list()
    raise SystemExit("accepted a wrong key")
except openai.AuthenticationError:
    pass

messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": [{"type": "text", "text": "Say hello."}]}]
if len(sys.argv) > 3 and sys.argv[3] == "chat":
    chat = dict(model=model, messages=messages, max_completion_tokens=12, temperature=0)
    answer = client.chat.completions.create(logprobs=True, top_logprobs=2, **chat).choices[0]
    assert answer.message.role == "assistant" and answer.message.content, answer
    assert answer.logprobs.content and len(answer.logprobs.content[0].top_logprobs) == 2, answer.logprobs
    text = ""
    with client.chat.completions.create(stream=True, **chat) as stream:
        for chunk in stream:
            text += chunk.choices[0].delta.content or ""
    assert text == answer.message.content, (text, answer.message.content)
else:
    try:
        client.chat.completions.create(model=model, messages=messages)
        raise SystemExit("chatted without a template")
    except openai.BadRequestError as e:
        assert e.code == "no_chat_template", e
print("ok")
