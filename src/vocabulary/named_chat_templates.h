#pragma once
// Chat templates by the names that mergekit gives them. Each renders the same prompt as mergekit's of that name, blanks and
// line ends included, and raises where that one raises. Every tag takes the white space around it away, so that a template
// renders the same with any settings of Jinja.

#include <array>

namespace aimerge {

struct NamedChatTemplate {
    const char* name;
    const char* jinja;
};

inline constexpr std::array kNamedChatTemplates = {
    NamedChatTemplate{"chatml", R"({%- for turn in messages -%}
{{- '<|im_start|>' + turn['role'] + '\n' + turn['content'] + '<|im_end|>\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\n' -}}{%- endif -%}
)"},
    // The last of several system messages counts, wherever it stands; other roles say nothing.
    NamedChatTemplate{"alpaca", R"({%- set found = namespace(system='') -%}
{%- for turn in messages if turn['role'] == 'system' -%}{%- set found.system = turn['content'] -%}{%- endfor -%}
{{- found.system | trim + '\n\n' -}}
{%- for turn in messages -%}
{%- if turn['role'] in ['user', 'assistant'] -%}
{{- '### Instruction:\n' if turn['role'] == 'user' else '### Response:\n' -}}
{{- turn['content'] | trim + ('' if loop.last else '\n\n') -}}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt and messages[-1]['role'] != 'assistant' -%}{{- '### Response:\n' -}}{%- endif -%}
)"},
    NamedChatTemplate{"llama3", R"({%- for turn in messages -%}
{{- (bos_token if loop.first else '') + '<|start_header_id|>' + turn['role'] + '<|end_header_id|>\n\n' -}}
{{- turn['content'] | trim + '<|eot_id|>\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' -}}{%- endif -%}
)"},
    NamedChatTemplate{"mistral", R"({{- bos_token -}}
{%- set has_system = messages[0]['role'] == 'system' -%}
{%- set system = messages[0]['content'] if has_system -%}
{%- for turn in (messages[1:] if has_system else messages) -%}
{%- if (turn['role'] == 'user') != (loop.index0 % 2 == 0) -%}
{{- raise_exception('user and assistant must take turns, the user first; a system message may come before them') -}}
{%- elif turn['role'] == 'user' -%}
{{- ' [INST] ' + (system + '\n\n' if loop.first and system is defined else '') + turn['content'] + ' [/INST]' -}}
{%- elif turn['role'] == 'assistant' -%}
{{- ' ' + turn['content'] + eos_token -}}
{%- else -%}
{{- raise_exception('only user and assistant can speak, and system at the beginning') -}}
{%- endif -%}
{%- endfor -%}
)"},
    NamedChatTemplate{"exaone", R"({%- for turn in messages -%}
{%- if loop.first and turn['role'] != 'system' -%}{{- '        [|system|][|endofturn|]\n\n' -}}{%- endif -%}
{{- '    [|' + turn['role'] + '|]' + turn['content'] + '\n        ' -}}
{%- if turn['role'] != 'user' -%}{{- '[|endofturn|]' -}}{%- endif -%}
{{- '\n\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '    [|assistant|]\n' -}}{%- endif -%}
)"},
};

}  // namespace aimerge
