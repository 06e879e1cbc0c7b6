"""What users of LiteLLM do; prints what came back as JSON. Arguments: base URL, model, key."""

import json
import sys

import litellm

base_url, model, key = sys.argv[1:]
QUESTION = [{"role": "user", "content": "What is the capital of France?"}]


def chat(**changes):
    settings = {"model": f"openai/{model}", "api_base": base_url, "api_key": key, "messages": QUESTION}
    return litellm.completion(**{**settings, "max_retries": 0, **changes})


def text(answer):
    return answer.choices[0].message.content


def failure(call):
    try:
        call()
    except Exception as error:
        return type(error).__name__
    return None


chunks = list(chat(stream=True, stream_options={"include_usage": True}, max_tokens=9))
tool = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}
results = {
    "plain": text(chat(temperature=0)),
    "stream": "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices),
    "usage": next(chunk.usage.total_tokens for chunk in chunks if getattr(chunk, "usage", None)),
    "no_tools": text(chat(tools=[])),
    "retried": text(chat(max_retries=2)),
    "overloaded": failure(chat),
    "tools": failure(lambda: chat(tools=[tool])),
    "unknown_model": failure(lambda: chat(model="openai/gpt-4")),
    "wrong_key": failure(lambda: chat(api_key="sk-wrong")),
    "too_long": failure(lambda: chat(max_tokens=10**6)),
}
print(json.dumps(results))
