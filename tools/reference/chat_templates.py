"""Renders conversations with chat templates as Hugging Face's `transformers` does.

Writes crates/tritwise-tokenizer/tests/fixtures/chat.json: templates, conversations, and for each pair and
ending the rendered text, the error if the template raised one, and a hash of the token ids that
the fixture vocabulary `byte-level` gives. The templates are the built-in ones of the crate and ones made here, each around a
few constructs that published templates use.
"""

import datetime
import json
from pathlib import Path

import jinja2
import transformers
from transformers import PreTrainedTokenizerFast
from transformers.utils import chat_template_utils

CRATE = Path(__file__).resolve().parents[2] / "crates/tritwise-tokenizer"
FIXTURES = CRATE / "tests/fixtures"
BUILT_IN = CRATE / "src/chat/templates"
NOW = 1_735_689_599  # 2024-12-31 23:59:59 UTC

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "Says what the weather is in \"a place\" <now> & here's more.",
            "parameters": {
                "type": "object",
                "properties": {"place": {"type": "string"}, "days": {"type": "integer", "enum": [1, 2]}},
                "required": ["place"],
                "zeta": 1.0,
                "alpha": [True, None, -0.5, 1e-7, 1e16, 12345678901234567890, [], {}],
            },
        },
    }
]
DOCUMENTS = [{"title": "Sky", "text": "It is blue."}, {"title": "Sea", "text": "So is it."}]


def user(text, **more):
    return {"role": "user", "content": text, **more}


def assistant(text, **more):
    return {"role": "assistant", "content": text, **more}


def system(text):
    return {"role": "system", "content": text}


CONVERSATIONS = {
    "one": {"messages": [user("Why is the sky blue?")]},
    "system": {"messages": [system("  Be brief.\n"), user("Hi")]},
    "turns": {
        "messages": [
            system("You are kind."),
            user(" first\n"),
            assistant("\tsecond  "),
            user("3rd, café 🦀"),
            assistant("<think>\nHmm: 2 < 3.\n</think>\n\nfourth "),
        ]
    },
    "empty": {"messages": [user(""), assistant(""), user("\u00a0\u2003\x1c x \x1f\u0085")]},
    "odd": {"messages": [user("a"), user("b"), assistant("c")]},
    "tools": {
        "messages": [
            user("Weather in Ulm?"),
            {
                "role": "assistant",
                "content": None,
                "reasoning": "I should look.",
                "tool_calls": [
                    {"id": "c1", "type": "function",
                     "function": {"name": "weather", "arguments": {"place": "Ülm <\"&'>", "days": 2}}},
                    {"id": "c2", "type": "function", "function": {"name": "now", "arguments": {}}},
                ],
            },
            {"role": "tool", "name": "weather", "tool_call_id": "c1", "content": "{\"t\": 21.50}"},
            {"role": "tool", "name": "now", "tool_call_id": "c2", "content": "noon"},
        ],
        "tools": TOOLS,
    },
    "parts": {
        "messages": [
            user([{"type": "text", "text": "See "}, {"type": "image"}, {"type": "text", "text": "this. "}]),
            assistant([{"type": "text", "text": "A cat,"}]),
        ],
        "documents": DOCUMENTS,
    },
    "variables": {
        "messages": [user("line one\nline two\r\n\n  three", name="Ann", age=41, tags=["x", "y"], score=0.1)],
        "variables": {"enable_thinking": False, "n": 3, "language": "de", "weights": {"b": 2, "a": 1}},
    },
}

TEMPLATES = {
    "namespace": """
{%- set ns = namespace(seen=0, last='', open=false) %}
{%- for m in messages %}
    {%- if m.role == 'user' %}{% set ns.seen = ns.seen + 1 %}{% endif %}
    {%- set ns.last = m.role %}
{{ loop.index }}/{{ loop.length }} {{ loop.index0 }} {{ loop.revindex }} {{ loop.first }} {{ loop.last }} {{ m.role }}
{% endfor %}
{{ ns.seen }} users, last {{ ns.last }}, {{ ns.open }}
""",
    "alternation": """
{{- bos_token }}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content'] | trim + '\\n\\n' %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = '' %}
{%- endif %}
{%- for message in messages %}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
        {{- raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}
    {%- endif %}
    {%- if loop.index0 == 0 %}{% set content = system_message + message['content'] %}{% else %}{% set content = message['content'] %}{% endif %}
    {%- if message['role'] == 'user' %}{{ '[INST] ' + content | trim + ' [/INST]' }}{% elif message['role'] == 'assistant' %}{{ ' ' + content | trim + ' ' + eos_token }}{% endif %}
{%- endfor %}""",
    "tools": """
{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- for tool in tools %}{{ "\\n" }}{{ tool | tojson }}{% endfor %}
    {{- '\\n' + tools[0] | tojson(indent=4) + '\\n' + tools | tojson(indent=2, sort_keys=True) }}
    {{- tools | tojson(separators=(',', ':')) }}{{ tools | tojson(ensure_ascii=True) }}
{%- endif %}
{%- for message in messages %}
    {%- if message.role == "assistant" and message.tool_calls is defined and message.tool_calls %}
        {{- '<|im_start|>' + message.role }}
        {%- if message.content is defined and message.content is not none %}{{ message.content }}{% endif %}
        {%- for tool_call in message.tool_calls %}
            {%- if tool_call.function is defined %}{% set tool_call = tool_call.function %}{% endif %}
            {{- '\\n<tool_call>\\n{"name": "' }}{{ tool_call.name }}{{ '", "arguments": ' }}{{ tool_call.arguments | tojson }}{{ '}\\n</tool_call>' }}
            {%- for key, value in tool_call.arguments.items() %}
                {{- '\\n' ~ key ~ '=' ~ (value if value is string else value | tojson) }}
            {%- endfor %}
            {%- for pair in tool_call.arguments | items %}{{ '\\n' ~ pair[0] ~ ':' ~ pair[1] }}{% endfor %}
        {%- endfor %}
        {{- '<|im_end|>\\n' }}
    {%- elif message.role == "tool" %}
        {%- if loop.index0 == 0 or messages[loop.index0 - 1].role != "tool" %}{{ '<|im_start|>user' }}{% endif %}
        {{- '\\n<tool_response>\\n' }}{{ message.content }}{{ '\\n</tool_response>' }}
        {%- if loop.last or messages[loop.index0 + 1].role != "tool" %}{{ '<|im_end|>\\n' }}{% endif %}
    {%- else %}
        {{- message.role }}: {{ message.content }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}
""",
    "thinking": """
{%- set ns = namespace(multi_step_tool=true, last_query_index=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.multi_step_tool and message.role == "user" and message.content is string and not(message.content.startswith('<tool_response>') and message.content.endswith('</tool_response>')) %}
        {%- set ns.multi_step_tool = false %}
        {%- set ns.last_query_index = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.content is string %}{% set content = message.content %}{% else %}{% set content = '' %}{% endif %}
    {%- set reasoning_content = '' %}
    {%- if message.reasoning_content is string %}
        {%- set reasoning_content = message.reasoning_content %}
    {%- elif '</think>' in content %}
        {%- set reasoning_content = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
        {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
    {%- endif %}
    {{- '<|im_start|>' + message.role + '\\n' }}
    {%- if message.role == 'assistant' and (loop.last or (not loop.last and reasoning_content)) and loop.index0 > ns.last_query_index %}
        {{- '<think>\\n' + reasoning_content.strip('\\n') + '\\n</think>\\n\\n' + content.lstrip('\\n') }}
    {%- else %}{{ content }}{% endif %}
    {{- '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}
{%- endif %}""",
    "macros": """
{%- macro text(content, prefix='> ', upper=false) -%}
    {%- if content is string -%}
        {{ prefix }}{{ content | upper if upper else content }}
    {%- elif content is mapping -%}mapping
    {%- elif content is iterable -%}
        {%- for part in content -%}
            {%- if part.type == 'text' -%}{{ part.text }}{%- elif part['type'] == 'image' -%}<image>{%- endif -%}
        {%- endfor -%}
    {%- else -%}{{ 'nothing' }}{%- endif -%}
{%- endmacro -%}
{%- macro wrapped(role) -%}[{{ role }}|{{ caller() }}]{%- endmacro -%}
{%- for m in messages %}
{{ text(m.content, upper=loop.first) }} {{ text(m['content'], '') | length }}
{% call wrapped(m.role) %}{{ text(m.content) }}{% endcall %}

{% endfor %}
{%- if documents %}{% for d in documents %}{{ loop.index }}. {{ d.title }}: {{ d['text'] }}
{% endfor %}{% endif %}""",
    "filters": """
{{ messages | selectattr('role', 'equalto', 'user') | list | length }} {{ messages | rejectattr('role', 'eq', 'user') | map(attribute='role') | join(', ') }}
{{ messages | map(attribute='role') | unique | list }} {{ messages | map(attribute='role') | map('upper') | join('|') }}
{{ (messages | first).role }} {{ (messages | last)['role'] }} {{ messages | length }} {{ messages | count }}
{{ messages[-1].role | capitalize }} {{ 'some words here' | title }} {{ 'MiXed' | lower }} {{ 'a-b-c' | replace('-', '+') }}
{{ missing | default('fallback') }} {{ '' | default('empty', true) }} {{ none | default('none', boolean=True) }} {{ 0 | d(7) }}
{{ 'x\\ny\\n\\nz' | indent(2) }} {{ 'x\\ny\\n\\nz' | indent(3, true) }}
{{ [3, 1, 2] | sort }} {{ [3, 1, 2] | sort(reverse=true) | join('') }} {{ [1, 2, 3] | sum }} {{ [1, 5, 2] | max }} {{ 'abc' | reverse }} {{ [1, 2] | reverse | list }}
{{ '42' | int + 1 }} {{ '3.5' | float * 2 }} {{ 7 | string + '!' }} {{ -3 | abs }} {{ 3.14159 | round(2) }} {{ 2.5 | round }} {{ 'abc' | list }}
{{ messages | selectattr('name', 'defined') | map(attribute='name') | join }} {{ messages | groupby('role') | map(attribute=0) | join(',') }}
{{ {'b': 1, 'a': 2} | dictsort }} {{ {'b': 1, 'a': 2} | tojson }} {{ 'a&<b>"' | e }} {{ '<b>' | safe }} {{ '%s is %d' | format('x', 3) }}
{{ [1, 2, 3, 4, 5] | batch(2) | list }} {{ [[1, 'a'], [2, 'b']] | map('last') | list }} {{ ['a', 'b'] | map('upper') | list | tojson }}
{{ '  both  ' | trim }}|{{ 'xxmxx' | trim('x') }}|{{ 12 | trim }}|{{ missing | trim }}|{{ 'a b c' | wordcount if false else '' }}
""",
    "methods": """
{% for m in messages if m.content is string %}
{% set c = m.content %}
{{ c.strip() }}|{{ c.lstrip() }}|{{ c.rstrip() }}|{{ c.upper() }}|{{ c.lower() }}|{{ c.title() }}|{{ c.capitalize() }}
{{ c.split() }} {{ c.split(' ') }} {{ c.split('e', 1) }} {{ c.rsplit('e', 1) }} {{ c.rsplit(None, 1) }} {{ c.split(maxsplit=1) }} {{ c.splitlines() }} {{ c.splitlines(true) }}
{{ c.startswith('W') }} {{ c.startswith(('3', 'H')) }} {{ c.endswith('?') }} {{ c.find('i') }} {{ c.rfind('i') }} {{ c.count('e') }} {{ c.replace('e', 'E') }} {{ c.replace(' ', '', 1) }}
{{ c.partition(' ') | list }} {{ c.rpartition(' ') | list }} {{ c.removeprefix('Why') }} {{ c.removesuffix('?') }} {{ c.isdigit() }} {{ c.isalpha() }} {{ c.isspace() }} {{ c.islower() }}
{{ '-'.join(['a', 'b', c]) }} {{ ' x '.join(c.split()) }} {{ '{} and {}'.format(1, 'two') }} {{ c[0:3] }} {{ c[-2:] }} {{ c[::-1] }} {{ c[1] if c | length > 1 }}
{% endfor %}
{% for k, v in {'one': 1, 'two': [2, none]}.items() %}{{ k }}={{ v }};{% endfor %} {{ {'a': 1}.get('a') }} {{ {'a': 1}.get('b') }} {{ {'a': 1}.get('b', 'c') }}
{{ {'a': 1, 'b': 2}.keys() | list }} {{ {'a': 1, 'b': 2}.values() | list }} {{ messages[0].get('name', 'nobody') }} {{ messages[0].keys() | list }} {{ "it's a title".title() }}
""",
    "controls": """
{% for m in messages %}
{% if loop.index0 == 3 %}{% break %}{% endif %}
{% if m.role == 'system' %}{% continue %}{% endif %}
{{ loop.index0 }} {{ loop.cycle('odd', 'even') }} {{ loop.previtem.role if loop.previtem is defined }}>{{ loop.nextitem.role if not loop.last }} {{ m.role }}{{ ', ' if not loop.last }}
{% else %}
none
{% endfor %}
{% for x in [] %}never{% else %}empty{% endfor %}
{% for i in range(3) %}{{ i }}{% endfor %} {% for i in range(5, 0, -2) %}{{ i }}{% endfor %} {{ range(4) | list }}
{% for m in messages recursive %}{{ m.role[0] }}{% endfor %}

{% set block %}captured {{ messages | length }}{% endset %}{{ block | upper }}
{% filter upper %}filtered{% endfilter %} {% with a = 1, b = 'z' %}{{ a }}{{ b }}{% endwith %}{{ a is defined }}
{% raw %}{{ raw }} {% if %}{% endraw %}
{# a comment #}after{#- another -#}   joined
{% set outer = 'o' %}{% for i in [1] %}{% set outer = 'i' %}{{ outer }}{% endfor %}{{ outer }}
{% if true %}{% set inner = 'set in if' %}{% endif %}{{ inner }}
""",
    "tests": """
{{ 1 is number }} {{ 'a' is string }} {{ none is none }} {{ missing is defined }} {{ missing is undefined }} {{ messages is sequence }} {{ 'a' is sequence }} {{ {} is sequence }} {{ {} is mapping }} {{ [] is mapping }} {{ 'a' is iterable }} {{ 1 is iterable }} {{ true is boolean }} {{ 1 is boolean }} {{ 1 is integer }} {{ 1.0 is float }} {{ true is true }} {{ 1 is true }} {{ false is false }}
{{ 3 is odd }} {{ 4 is even }} {{ 9 is divisibleby(3) }} {{ 'a' in 'abc' }} {{ 'x' not in ['x'] }} {{ 'role' in messages[0] }} {{ 2 is in [1, 2] }} {{ 1 is eq 1 }} {{ 1 is ne 2 }} {{ 2 is gt 1 }} {{ 'A' is upper }} {{ 'a' is lower }} {{ 1 is sameas 1 }} {{ missing is none }} {{ not missing }}
{{ tools is defined }} {{ tools is none }} {{ documents is none }} {{ add_generation_prompt is defined }} {{ messages[0].nothing is defined }} {{ messages[0]['nothing'] is not defined }} {{ messages[99] is defined }} {{ none.attribute is defined }} {{ (messages[0].tool_calls or []) | length }}
{{ 1 if missing else 2 }} {{ 'yes' if messages }} {{ '' if false }}|{{ missing }}|{{ none }}|{{ true }}|{{ [1, 'a', "it's", none, true, 1.5, {'k': 'v\\n"'}] }}|{{ (1, 2) }}|{{ {'a': {'b': [1]}} }}
{{ messages[0].content and 'truthy' }} {{ '' or 'other' }} {{ 0 or none or 'last' }} {{ 1 == 1.0 }} {{ '1' == 1 }} {{ [1] == [1] }} {{ 1 < 2 }} {{ 'a' < 'b' }} {{ 'ab' ~ 1 ~ none ~ true }}
""",
    "numbers": """
{{ 1 + 2 * 3 }} {{ 7 // 2 }} {{ 7 / 2 }} {{ 8 / 2 }} {{ 7 % 3 }} {{ -7 // 2 }} {{ -7 % 3 }} {{ 2 ** 10 }} {{ 1.0 }} {{ 0.1 + 0.2 }} {{ 1e16 }} {{ 1e-5 }} {{ 123456789.125 }} {{ 1e22 }} {{ 100 * 1.1 }} {{ -1.5 }} {{ 10 ** 20 }}
{{ 'ab' * 3 }} {{ [0] * 2 }} {{ [1] + [2, 3] }} {{ 'a' + 'b' 'c' }} {{ "\\u00e9\\x41\\t|" }} {{ 'it''s' }} {{ "a\\\\b" }} {{ 1_000 }} {{ 0x1f }} {{ (1, 2)[1] }} {{ [1, 2, 3][-1] }} {{ 'abc'[-1] }} {{ [1, 2, 3, 4][1:3] }} {{ [1, 2, 3][::2] }}
{{ n | default(5) }} {{ (n | default(5)) * 2 }} {{ language | default('en') | upper }} {% if weights is defined %}{% for k, v in weights | dictsort %}{{ k }}{{ v }}{% endfor %}{{ weights | tojson }}{{ weights }}{% endif %} {{ messages[0] | tojson }} {{ 1 < 2 < 3 }}
""",
    "dates": """
{%- if strftime_now is defined %}{% set date = strftime_now('%d %B %Y') %}{% else %}{% set date = '26 Jul 2024' %}{% endif %}
Today Date: {{ date }} {{ strftime_now("%Y-%m-%d %H:%M, %A, %j, %-d %b") }}
{% for m in messages %}{% generation %}{{ m.role }}{% set inside = 1 %}{% endgeneration %};{% endfor %}{{ inside is defined }}
{%- generation -%}  kept {{ bos_token }}{{ eos_token }}  {%- endgeneration -%}
""",
    "whitespace": """   leading
  {% if true %}   
    indented
  {% endif %}   
{%+ if true %}plus{% endif +%}
x  {%- if true -%}   tight   {%- endif -%}  y
{{ 'a' }}
{{- 'b' -}}
  c\t{# note #}
  {# whole line #}
{% for m in messages %}
  {{ m.role }}
{% endfor %}

end

""",
    "raising": """
{%- for m in messages %}
    {%- if m.content is not string %}{{ raise_exception('Only text is supported, not ' ~ (m.content | length if m.content is defined else 0) ~ ' parts!') }}{% endif %}
    {%- if m.role not in ['user', 'assistant'] %}{{ raise_exception("No " + m.role + " here's room") }}{% endif %}
    {{- m.role[0] + m.content }}
{%- endfor %}""",
}


def fnv(numbers):
    """FNV-1a of 64 bits over little-endian 32-bit numbers: short, and quickly written in any language."""
    h = 0xCBF29CE484222325
    for number in numbers:
        for byte in int(number).to_bytes(4, "little"):
            h = ((h ^ byte) * 0x100000001B3) % 2**64
    return f"{h:016x}"


class Clock(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return datetime.datetime.fromtimestamp(NOW, datetime.timezone.utc).replace(tzinfo=None)


def render(tokenizer, source, conversation, ending):
    arguments = {
        "conversation": conversation["messages"],
        "chat_template": source,
        "tools": conversation.get("tools"),
        "documents": conversation.get("documents"),
        "add_generation_prompt": ending == "prompt",
        "continue_final_message": ending == "open",
        **conversation.get("variables", {}),
    }
    try:
        text = tokenizer.apply_chat_template(tokenize=False, **arguments)
    except Exception as error:
        if type(error) is jinja2.exceptions.TemplateError:
            return {"error": str(error)}
        return {"fails": type(error).__name__}  # What Python itself refuses differs in words, not in being refused.
    ids = tokenizer.apply_chat_template(tokenize=True, return_dict=False, **arguments)
    return {"text": text, "ids": fnv(ids), "tokens": len(ids)}


def main():
    chat_template_utils.datetime = Clock
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(FIXTURES / "byte-level.tokenizer.json"), bos_token="<|begin|>", eos_token="<|end|>"
    )
    built_in = {path.stem: path.read_text() for path in sorted(BUILT_IN.glob("*.jinja"))}
    cases = []
    for name, source in {**built_in, **TEMPLATES}.items():
        for talk, conversation in CONVERSATIONS.items():
            for ending in ("prompt", "closed", "open"):
                # Python writes white space beyond ASCII in a printed list as escapes, which we do not.
                if (name, talk) == ("methods", "empty"):
                    continue
                # Most templates look at the ending only in these.
                if name in TEMPLATES and ending == "closed" and name not in ("tools", "thinking"):
                    continue
                if ending == "open" and (conversation["messages"][-1]["role"] != "assistant" or name in ("filters", "methods", "tests", "numbers")):
                    continue
                cases.append({"template": name, "conversation": talk, "ending": ending,
                              **render(tokenizer, source, conversation, ending)})
    fixture = {
        "by": f"transformers {transformers.__version__}, jinja2 {jinja2.__version__}",
        "now": NOW,
        "templates": TEMPLATES,
        "conversations": CONVERSATIONS,
        "cases": cases,
    }
    text = json.dumps(fixture, ensure_ascii=False, indent=1) + "\n"
    (FIXTURES / "chat.json").write_text(text)
    print(f"{len(cases)} cases, {len(text.encode())} bytes")
    for case in cases:
        if "text" not in case:
            print({k: v for k, v in case.items()})


if __name__ == "__main__":
    main()
