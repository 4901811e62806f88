"""Chat templates as model families have them, written down in short; and a tokenizer of bytes to go with them."""

# ruff: noqa: RUF001 - DeepSeek writes its control tokens so
from __future__ import annotations

from dataclasses import dataclass

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast


@dataclass(frozen=True)
class Format:
    """A template.

    Attributes:
        template: its source.
        controls: its control tokens.
        ends: what ends a turn of the assistant.
        bos: the beginning of text.
        eos: the end of text.
        system: whether it takes a turn of the system.
    """

    template: str
    controls: tuple[str, ...]
    ends: str
    bos: str | None = None
    eos: str = "</s>"
    system: bool = True

    def tokenizer(self) -> PreTrainedTokenizerFast:
        """Bytes, and the control tokens."""
        return byte_tokenizer(self.template, self.controls, bos=self.bos, eos=self.eos)


def byte_tokenizer(
    template: str | None, controls: tuple[str, ...] = (), *, bos: str | None = None, eos: str = "</s>"
) -> PreTrainedTokenizerFast:
    """Every byte a token, a few pairs of letters merged, and control tokens."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("h", "e"), ("Ġ", "t"), ("Ċ", "Ċ"), ("Ġ", "i"), ("r", "e")]
    vocabulary = {entry: i for i, entry in enumerate([*letters, *("".join(pair) for pair in merges)])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = dict.fromkeys([*([bos] if bos else []), eos, *controls])
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    made = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=bos, eos_token=eos, model_max_length=512)
    made.chat_template = template
    return made


_LOOP = "{% for m in messages %}"
_ASK = "{% if add_generation_prompt %}"
_IM = ("<|im_start|>", "<|im_end|>")

CHATML = (
    _LOOP
    + "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    + _ASK
    + "<|im_start|>assistant\n{% endif %}"
)

FORMATS: dict[str, Format] = {
    "chatml": Format(CHATML, _IM, "<|im_end|>", eos="<|im_end|>"),
    "smollm": Format(
        _LOOP
        + "{% if loop.first and m.role != 'system' %}<|im_start|>system\nYou help.<|im_end|>\n{% endif %}"
        + CHATML.removeprefix(_LOOP),
        _IM,
        "<|im_end|>",
        eos="<|im_end|>",
    ),
    "qwen": Format(
        "{%- if messages[0]['role'] == 'system' %}"
        "{{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}"
        "{%- else %}{{- '<|im_start|>system\\nYou are Qwen.<|im_end|>\\n' }}{%- endif %}"
        "{%- for m in messages %}{%- if not (m.role == 'system' and loop.first) %}"
        "{{- '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>' + '\\n' }}{%- endif %}{%- endfor %}"
        "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}",
        (*_IM, "<|endoftext|>"),
        "<|im_end|>",
        eos="<|im_end|>",
    ),
    "qwen3, thinking cut from earlier turns": Format(
        "{%- set last = namespace(user=0) %}"
        "{%- for m in messages %}{%- if m.role == 'user' %}{%- set last.user = loop.index0 %}{%- endif %}{%- endfor %}"
        "{%- for m in messages %}{%- if m.role == 'assistant' and loop.index0 < last.user %}"
        "{{- '<|im_start|>assistant\\n' + m.content.split('</think>')[-1].lstrip('\\n') + '<|im_end|>\\n' }}"
        "{%- elif m.role == 'assistant' %}"
        "{{- '<|im_start|>assistant\\n' + m.content.lstrip('\\n') + '<|im_end|>\\n' }}"
        "{%- else %}{{- '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{%- endif %}{%- endfor %}"
        "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}",
        _IM,
        "<|im_end|>",
        eos="<|im_end|>",
    ),
    "llama-2": Format(
        "{% if messages[0].role == 'system' %}{% set rest = messages[1:] %}{% set system = messages[0].content %}"
        "{% else %}{% set rest = messages %}{% set system = '' %}{% endif %}"
        "{% for m in rest %}{% if m.role == 'user' %}{{ bos_token }}[INST] "
        "{% if loop.first and system %}<<SYS>>\n{{ system }}\n<</SYS>>\n\n{% endif %}{{ m.content.strip() }} [/INST]"
        "{% else %} {{ m.content.strip() }} {{ eos_token }}{% endif %}{% endfor %}",
        (),
        "</s>",
        bos="<s>",
    ),
    "llama-3": Format(
        _LOOP
        + "{% if loop.first %}{{ bos_token }}{% endif %}"
        + "<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n{{ m.content | trim }}<|eot_id|>{% endfor %}"
        + _ASK
        + "<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}",
        ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
        "<|eot_id|>",
        bos="<|begin_of_text|>",
        eos="<|end_of_text|>",
    ),
    "mistral, system in the last user turn": Format(
        "{%- if messages[0].role == 'system' %}{%- set rest = messages[1:] %}{%- set system = messages[0].content %}"
        "{%- else %}{%- set rest = messages %}{%- set system = '' %}{%- endif %}{{- bos_token }}"
        "{%- for m in rest %}{%- if m.role == 'user' %}{%- if loop.index >= rest | length - 1 and system %}"
        "{{- '[INST] ' + system + '\\n\\n' + m.content + '[/INST]' }}{%- else %}"
        "{{- '[INST] ' + m.content + '[/INST]' }}{%- endif %}"
        "{%- elif m.role == 'assistant' %}{{- ' ' + m.content | trim + eos_token }}"
        "{%- else %}{{- raise_exception('only user and assistant') }}{%- endif %}{%- endfor %}",
        ("[INST]", "[/INST]"),
        "</s>",
        bos="<s>",
    ),
    "zephyr": Format(
        _LOOP
        + "{{ '<|' + m.role + '|>\n' + m.content + eos_token + '\n' }}{% endfor %}"
        + _ASK
        + "<|assistant|>\n{% endif %}",
        (),
        "</s>",
    ),
    "gemma": Format(
        "{{ bos_token }}{% if messages[0].role == 'system' %}"
        "{{ raise_exception('System role not supported') }}{% endif %}"
        + _LOOP
        + "<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n{{ m.content | trim }}<end_of_turn>\n"
        + "{% endfor %}"
        + _ASK
        + "<start_of_turn>model\n{% endif %}",
        ("<start_of_turn>", "<end_of_turn>"),
        "<end_of_turn>",
        bos="<bos>",
        eos="<eos>",
        system=False,
    ),
    "phi-3, end of text behind the whole": Format(
        _LOOP
        + "<|{{ m.role }}|>\n{{ m.content }}<|end|>\n{% endfor %}"
        + _ASK
        + "<|assistant|>\n{% else %}{{ eos_token }}{% endif %}",
        ("<|user|>", "<|assistant|>", "<|system|>", "<|end|>"),
        "<|end|>",
        eos="<|endoftext|>",
    ),
    "deepseek": Format(
        "{{ bos_token }}"
        + _LOOP
        + "{% if m.role == 'user' %}<｜User｜>{{ m.content }}"
        + "{% elif m.role == 'assistant' %}<｜Assistant｜>{{ m.content }}"
        + "<｜end▁of▁sentence｜>{% else %}{{ m.content }}{% endif %}{% endfor %}"
        + _ASK
        + "<｜Assistant｜>{% endif %}",
        ("<｜User｜>", "<｜Assistant｜>"),
        "<｜end▁of▁sentence｜>",
        bos="<｜begin▁of▁sentence｜>",
        eos="<｜end▁of▁sentence｜>",
    ),
    "vicuna": Format(
        "{{ bos_token }}"
        + _LOOP
        + "{% if m.role == 'system' %}{{ m.content }}\n\n{% elif m.role == 'user' %}USER: {{ m.content }}\n"
        + "{% else %}ASSISTANT: {{ m.content }}{{ eos_token }}\n{% endif %}{% endfor %}"
        + _ASK
        + "ASSISTANT:{% endif %}",
        (),
        "</s>",
        bos="<s>",
    ),
    "alpaca": Format(
        _LOOP
        + "{% if m.role == 'system' %}{{ m.content }}\n\n"
        + "{% elif m.role == 'user' %}### Instruction:\n{{ m.content }}\n\n"
        + "{% else %}### Response:\n{{ m.content }}{{ eos_token }}\n\n{% endif %}{% endfor %}"
        + _ASK
        + "### Response:\n{% endif %}",
        (),
        "</s>",
    ),
    "openchat": Format(
        "{{ bos_token }}"
        + _LOOP
        + "{{ 'GPT4 Correct ' + m.role.title() + ': ' + m.content + '<|end_of_turn|>' }}{% endfor %}"
        + _ASK
        + "GPT4 Correct Assistant:{% endif %}",
        ("<|end_of_turn|>",),
        "<|end_of_turn|>",
        bos="<s>",
    ),
    "falcon, turns end with nothing": Format(
        _LOOP
        + "{% if not loop.first %}\n\n{% endif %}{{ m.role.capitalize() + ': ' + m.content.strip() }}{% endfor %}"
        + _ASK
        + "\n\nAssistant:{% endif %}",
        (),
        "",
        eos="<|endoftext|>",
    ),
    "command-r": Format(
        "{{ bos_token }}"
        + _LOOP
        + "<|START_OF_TURN_TOKEN|>{{ {'user': '<|USER_TOKEN|>', 'assistant': '<|CHATBOT_TOKEN|>', "
        + "'system': '<|SYSTEM_TOKEN|>'}[m.role] }}{{ m.content.strip() }}<|END_OF_TURN_TOKEN|>{% endfor %}"
        + _ASK
        + "<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>{% endif %}",
        ("<|START_OF_TURN_TOKEN|>", "<|END_OF_TURN_TOKEN|>", "<|USER_TOKEN|>", "<|CHATBOT_TOKEN|>", "<|SYSTEM_TOKEN|>"),
        "<|END_OF_TURN_TOKEN|>",
        bos="<BOS_TOKEN>",
        eos="<|END_OF_TURN_TOKEN|>",
    ),
    "granite": Format(
        _LOOP
        + "<|start_of_role|>{{ m.role }}<|end_of_role|>{{ m.content }}<|end_of_text|>\n{% endfor %}"
        + _ASK
        + "<|start_of_role|>assistant<|end_of_role|>{% endif %}",
        ("<|start_of_role|>", "<|end_of_role|>"),
        "<|end_of_text|>",
        eos="<|end_of_text|>",
    ),
    "with generation blocks": Format(
        _LOOP
        + "<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' %}{% generation %}{{ m.content }}<|im_end|>\n"
        + "{% endgeneration %}{% else %}{{ m.content }}<|im_end|>\n{% endif %}{% endfor %}"
        + _ASK
        + "<|im_start|>assistant\n{% endif %}",
        _IM,
        "<|im_end|>",
        eos="<|im_end|>",
    ),
    "without a generation prompt": Format(
        _LOOP + "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}",
        _IM,
        "<|im_end|>",
        eos="<|im_end|>",
    ),
}
