"""What every SDK is to see, whoever answers."""

import base64
from contextlib import contextmanager

import providers

# One red dot.
PNG = base64.b64encode(base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg==")).decode()
SEEN = f"I see image/png of {len(base64.b64decode(PNG))} bytes"
TOOL = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"], "additionalProperties": False}
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}, "celsius": {"type": "number"}}, "required": ["city", "celsius"], "additionalProperties": False}
TOLD = "They say: 3 in Oslo and 17 in Rome"
# Whoever has cached tokens inside of the prompt's, and whoever tells them apart.
PROMPT, NEW, CACHED, OUT, THOUGHTS = providers.NEW + providers.CACHED, providers.NEW, providers.CACHED, providers.OUT, providers.THOUGHTS
TOTAL = PROMPT + OUT


def degrees(city):
    return f"{ {'Oslo': 3, 'Rome': 17}[city]} in {city}"


def same(found, wanted, whole=None):
    assert found == wanted, f"{found!r} instead of {wanted!r}" + (f" in {whole!r}" if whole is not None else "")


@contextmanager
def refused(kind, *words):
    """The SDK's own error class; its text holds the words."""
    try:
        yield
    except kind as why:
        assert all(word in str(why) for word in words), f"{why} does not say {words}"
        return
    raise AssertionError(f"no {kind.__name__}")
