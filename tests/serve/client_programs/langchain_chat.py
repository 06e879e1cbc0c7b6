"""What users of LangChain do; prints what came back as JSON. Arguments: base URL, model, key."""

import json
import sys

from langchain_openai import ChatOpenAI

base_url, model, key = sys.argv[1:]
QUESTION = "What is the capital of France?"


def chat(**changes):
    settings = {"model": model, "base_url": base_url, "api_key": key, "max_retries": 0, "temperature": 0}
    return ChatOpenAI(**{**settings, **changes})


def failure(call):
    try:
        call()
    except Exception as error:
        return type(error).__name__
    return None


chunks = list(chat(stream_usage=True, max_tokens=9).stream(QUESTION))
tool = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}
results = {
    "plain": chat().invoke([("system", "Be brief."), ("user", QUESTION)]).content,
    "stream": "".join(chunk.content for chunk in chunks),
    "usage": next(chunk.usage_metadata["total_tokens"] for chunk in chunks if chunk.usage_metadata),
    "no_tools": chat().bind(tools=[]).invoke(QUESTION).content,
    "retried": chat(max_retries=2).invoke(QUESTION).content,
    "overloaded": failure(lambda: chat().invoke(QUESTION)),
    "tools": failure(lambda: chat().bind_tools([tool]).invoke(QUESTION)),
    "unknown_model": failure(lambda: chat(model="gpt-4").invoke(QUESTION)),
    "wrong_key": failure(lambda: chat(api_key="sk-wrong").invoke(QUESTION)),
    "too_long": failure(lambda: chat(max_tokens=10**6).invoke(QUESTION)),
}
print(json.dumps(results))
