"""`langchain-openai`."""

from judge import PNG, SEEN, TOLD, TOTAL, degrees, same
from providers import ANSWER


def cases(world, model):
    from langchain_core.messages import HumanMessage, ToolMessage
    from langchain_core.tools import tool
    from langchain_openai import ChatOpenAI
    from pydantic import BaseModel

    chat = ChatOpenAI(base_url=f"{world.url}/v1", api_key=world.key, model=model, max_retries=0)

    class Weather(BaseModel):
        """The weather in a city."""

        city: str
        celsius: float

    @tool
    def weather(city: str) -> str:
        """The weather in a city."""
        return degrees(city)

    def invoke():
        answer = chat.invoke("Hi")
        same((answer.content, answer.usage_metadata["total_tokens"]), (ANSWER, TOTAL), answer)

    def stream():
        same("".join(chunk.content for chunk in chat.stream("Hi")), ANSWER)

    def loop():
        able, messages = chat.bind_tools([weather]), [HumanMessage("The weather in both?")]
        turn = able.invoke(messages)
        messages += [turn, *(ToolMessage(weather.invoke(call["args"]), tool_call_id=call["id"]) for call in turn.tool_calls)]
        same(able.invoke(messages).content, TOLD)

    def structured():
        same(chat.with_structured_output(Weather, method="json_schema").invoke("Weather as json"), Weather(city="Oslo", celsius=3))

    def image():
        same(chat.invoke([HumanMessage([{"type": "text", "text": "?"}, {"type": "image", "base64": PNG, "mime_type": "image/png"}])]).content, SEEN)

    return [invoke, stream, loop, structured, image]
