"""The models the simulator offers unless the knob `models` says otherwise."""

from typing import Any

DEFAULT_MODEL = "org_auto"

_MODELS: tuple[tuple[str, str, bool, bool], ...] = (
    # key, display name, sees images, reasons
    ("org_auto", "Auto", False, False),
    ("kmodel", "Kimi-K2.6", True, True),
    ("mmodel", "MiniMax-M2.7", False, False),
    ("dashscope_qmodel", "Qwen3.6-Plus", True, False),
    ("dashscope_qwen3_coder", "Qwen3-Coder", False, False),
    ("dashscope_qwen_max_latest", "Qwen3-Max", False, False),
    ("dashscope_qwen_plus_20250428_thinking", "Qwen3-Thinking", False, True),
)
_SCENES: dict[str, tuple[str, ...]] = {
    "chat": tuple(key for key, *_ in _MODELS),
    "assistant": ("org_auto", "kmodel", "dashscope_qwen3_coder"),
    "developer": ("org_auto", "dashscope_qwen3_coder"),
    "inline": ("dashscope_qwen3_coder",),
    "quest": ("org_auto",),
}


def default_models() -> dict[str, list[dict[str, Any]]]:
    """Scene to list of models, in the shape of config/queryModels."""
    entries = {
        key: {
            "key": key,
            "displayName": name,
            "format": "openai",
            "source": "system",
            "isVl": sees,
            "isReasoning": reasons,
            "isDefault": key == DEFAULT_MODEL,
            "url": "",
            "apiKey": "",
            "model": "",
        }
        for key, name, sees, reasons in _MODELS
    }
    return {scene: [entries[key] for key in keys] for scene, keys in _SCENES.items()}
