package translate

import (
	"slices"
	"strings"
	"testing"

	"github.com/tidwall/gjson"

	"github.com/dragoman-proxy/dragoman/internal/jsonx"
)

// parameter is a line of a table of parameters: members of a client's request,
// and what becomes of them at a backend of another protocol.
type parameter struct {
	name string
	body string // members beside model and question, or a whole body
	want string // members of the backend's request beside the usual ones, or a whole body
	lost string // ledger
	bad  string // the field that a 400 names
	// openai asks a Chat backend that is OpenAI's own.
	openai bool
}

// chatParameters is the table of wire/openai.md 3.1, read from left to right: what
// a Chat client's field is to a Responses backend. The names of the lines are the
// table's.
var chatParameters = []parameter{
	{name: "messages, model", body: `{"model":"m","messages":[{"role":"system","content":"s"},{"role":"user","content":"q"}]}`,
		want: `{"model":"m","input":[{"type":"message","role":"system","content":"s"},{"type":"message","role":"user","content":"q"}],"store":false,"stream":false}`},
	{name: "max_completion_tokens", body: `"max_completion_tokens":100`, want: `"max_output_tokens":100`},
	{name: "max_tokens", body: `"max_tokens":100`, want: `"max_output_tokens":100`},
	{name: "max_tokens and its successor", body: `"max_completion_tokens":100,"max_tokens":5`, want: `"max_output_tokens":100`},
	{name: "max_tokens before its successor", body: `"max_tokens":5,"max_completion_tokens":100`, want: `"max_output_tokens":100`},
	{name: "fewer tokens than Responses takes", body: `"max_tokens":15`, want: `"max_output_tokens":16`, lost: "max_tokens"},
	{name: "as few tokens as Responses takes", body: `"max_tokens":16`, want: `"max_output_tokens":16`},
	{name: "temperature", body: `"temperature":0.70`, want: `"temperature":0.70`},
	{name: "top_p", body: `"top_p":1.0`, want: `"top_p":1.0`},
	{name: "user", body: `"user":"u"`, want: `"user":"u"`},
	{name: "safety_identifier", body: `"safety_identifier":"u"`, want: `"safety_identifier":"u"`},
	{name: "prompt_cache_key", body: `"prompt_cache_key":"k"`, want: `"prompt_cache_key":"k"`},
	{name: "prompt_cache_retention", body: `"prompt_cache_retention":"24h"`, want: `"prompt_cache_retention":"24h"`},
	{name: "prompt_cache_options", body: `"prompt_cache_options":{"mode":"explicit","ttl":"30m"}`, want: `"prompt_cache_options":{"mode":"explicit","ttl":"30m"}`},
	{name: "service_tier", body: `"service_tier":"flex"`, want: `"service_tier":"flex"`},
	{name: "metadata", body: `"metadata":{"a":"b"}`, want: `"metadata":{"a":"b"}`},
	{name: "parallel_tool_calls", body: `"parallel_tool_calls":false`, want: `"parallel_tool_calls":false`},
	{name: "moderation", body: `"moderation":{"model":"m","policy":{"input":{"mode":"block"}}}`, want: `"moderation":{"model":"m","policy":{"input":{"mode":"block"}}}`},
	{name: "store, absent", body: ``, want: ``},
	{name: "store", body: `"store":true`, want: `{"model":"m","input":[{"type":"message","role":"user","content":"q"}],"store":true,"stream":false}`},
	{name: "store, not", body: `"store":false`, want: ``},
	{name: "stream", body: `"stream":true`, want: `{"model":"m","input":[{"type":"message","role":"user","content":"q"}],"store":false,"stream":true}`},
	{name: "stream_options.include_usage", body: `"stream":true,"stream_options":{"include_usage":true}`, want: `{"model":"m","input":[{"type":"message","role":"user","content":"q"}],"store":false,"stream":true}`},
	{name: "stream_options.include_obfuscation", body: `"stream":true,"stream_options":{"include_obfuscation":false}`,
		want: `{"model":"m","input":[{"type":"message","role":"user","content":"q"}],"store":false,"stream":true,"stream_options":{"include_obfuscation":false}}`},
	{name: "stream_options without a stream", body: `"stream_options":{"include_obfuscation":true}`, want: ``},
	{name: "response_format text", body: `"response_format":{"type":"text"}`, want: `"text":{"format":{"type":"text"}}`},
	{name: "response_format json_object", body: `"response_format":{"type":"json_object"}`, want: `"text":{"format":{"type":"json_object"}}`},
	{name: "response_format json_schema", body: `"response_format":{"type":"json_schema","json_schema":{"name":"n","description":"d","schema":{"type": "object"},"strict":true}}`,
		want: `"text":{"format":{"type":"json_schema","name":"n","description":"d","schema":{"type":"object"},"strict":true}}`},
	{name: "response_format json_schema, strict absent", body: `"response_format":{"type":"json_schema","json_schema":{"name":"n","schema":{}}}`,
		want: `"text":{"format":{"type":"json_schema","name":"n","schema":{}}}`}, // false in both
	{name: "response_format of a vendor", body: `"response_format":{"type":"grammar","grammar":"root ::= x"}`, bad: "response_format.type"},
	{name: "verbosity", body: `"verbosity":"low"`, want: `"text":{"verbosity":"low"}`},
	{name: "verbosity and response_format", body: `"response_format":{"type":"text"},"verbosity":"low"`, want: `"text":{"verbosity":"low","format":{"type":"text"}}`},
	{name: "reasoning_effort", body: `"reasoning_effort":"xhigh"`, want: `"reasoning":{"effort":"xhigh"}`},
	{name: "tools function, strict absent", body: `"tools":[{"type":"function","function":{"name":"f","description":"d","parameters":{"type": "object"}}}]`,
		want: `"tools":[{"type":"function","name":"f","description":"d","parameters":{"type":"object"},"strict":false}]`},
	{name: "tools function, strict", body: `"tools":[{"type":"function","function":{"name":"f","parameters":{},"strict":true}},{"type":"function","function":{"name":"g","strict":false}}]`,
		want: `"tools":[{"type":"function","name":"f","parameters":{},"strict":true},{"type":"function","name":"g","parameters":{"type":"object","properties":{}},"strict":false}]`},
	{name: "tools custom", body: `"tools":[{"type":"custom","custom":{"name":"c","description":"d","format":{"type":"grammar","grammar":{"definition":"x","syntax":"lark"}}}},` +
		`{"type":"custom","custom":{"name":"t","format":{"type":"text"}}},{"type":"custom","custom":{"name":"u"}}]`,
		want: `"tools":[{"type":"custom","name":"c","description":"d","format":{"type":"grammar","syntax":"lark","definition":"x"}},{"type":"custom","name":"t","format":{"type":"text"}},{"type":"custom","name":"u"}]`},
	{name: "tools with members that nobody knows", body: `"tools":[{"type":"function","a":1,"cache_control":{},"function":{"name":"f","parameters":{},"b":1}},{"type":"custom","c":1,"custom":{"name":"c","d":1,"format":{"type":"grammar","e":1,"grammar":{"syntax":"lark","definition":"x","f":1}}}}],"response_format":{"type":"text","g":1}`,
		want: `"tools":[{"type":"function","name":"f","parameters":{},"strict":false},{"type":"custom","name":"c","format":{"type":"grammar","syntax":"lark","definition":"x"}}],"text":{"format":{"type":"text"}}`, lost: "tools[0].cache_control unknown(7)"},
	{name: "tools of a vendor", body: `"tools":[{"type":"function","function":{"name":"f"}},{"type":"custom","custom":{"name":"c"}},{"type":"web_search"}]`, bad: "tools[2].type"},
	{name: "tool_choice none", body: chatF + `,"tool_choice":"none"`, want: respF + `,"tool_choice":"none"`},
	{name: "tool_choice auto", body: chatF + `,"tool_choice":"auto"`, want: respF + `,"tool_choice":"auto"`},
	{name: "tool_choice required", body: chatF + `,"tool_choice":"required"`, want: respF + `,"tool_choice":"required"`},
	{name: "tool_choice of a function", body: chatF + `,"tool_choice":{"type":"function","function":{"name":"f"}}`, want: respF + `,"tool_choice":{"type":"function","name":"f"}`},
	{name: "tool_choice of a custom tool", body: chatF + `,"tool_choice":{"type":"custom","custom":{"name":"c"}}`, want: respF + `,"tool_choice":{"type":"custom","name":"c"}`},
	{name: "tool_choice of allowed tools", body: chatF + `,"tool_choice":{"type":"allowed_tools","allowed_tools":{"mode":"auto","tools":[{"type":"function","function":{"name":"f"}},{"type":"custom","custom":{"name":"c"}}]}}`,
		want: respF + `,"tool_choice":{"type":"allowed_tools","mode":"auto","tools":[{"type":"function","name":"f"},{"type":"custom","name":"c"}]}`},
	{name: "tool_choice of allowed tools, one of which is required", body: chatF + `,"tool_choice":{"type":"allowed_tools","allowed_tools":{"mode":"required","tools":[{"type":"function","function":{"name":"f"}}]}}`,
		want: respF + `,"tool_choice":{"type":"allowed_tools","mode":"required","tools":[{"type":"function","name":"f"}]}`},
	{name: "tool_choice with members that nobody knows", body: chatF + `,"tool_choice":{"type":"allowed_tools","a":1,"allowed_tools":{"mode":"auto","b":1,"tools":[{"type":"function","c":1,"function":{"name":"f","d":1}}]}}`,
		want: respF + `,"tool_choice":{"type":"allowed_tools","mode":"auto","tools":[{"type":"function","name":"f"}]}`, lost: "unknown(4)"},
	{name: "tool_choice of a vendor's tool", body: chatF + `,"tool_choice":{"type":"web_search"}`, bad: "tool_choice.type"},
	{name: "tool_choice of allowed tools of a vendor", body: chatF + `,"tool_choice":{"type":"allowed_tools","allowed_tools":{"mode":"auto","tools":[{"type":"function","function":{"name":"f"}},{"type":"mcp"}]}}`, bad: "tool_choice.allowed_tools.tools[1].type"},
	{name: "logprobs", body: `"logprobs":true,"top_logprobs":3`, want: `"top_logprobs":3,"include":["message.output_text.logprobs"]`},
	{name: "logprobs, not", body: `"logprobs":false`, want: ``},
	{name: "top_logprobs", body: `"logprobs":true,"top_logprobs":0`, want: `"top_logprobs":0,"include":["message.output_text.logprobs"]`},
	{name: "web_search_options", body: `"web_search_options":{"search_context_size":"low","user_location":{"type":"approximate","approximate":{"city":"Bern","country":"CH","region":"BE","timezone":"Europe/Zurich"}}}`,
		want: `"tools":[{"type":"web_search","search_context_size":"low","user_location":{"type":"approximate","city":"Bern","country":"CH","region":"BE","timezone":"Europe/Zurich"}}]`},
	{name: "web_search_options that nobody knows", body: `"web_search_options":{"a":1,"user_location":{"type":"approximate","b":1,"approximate":{"city":"Bern","c":1}}}`,
		want: `"tools":[{"type":"web_search","user_location":{"type":"approximate","city":"Bern"}}]`, lost: "unknown(3)"},
	{name: "functions", body: `"functions":[{"name":"f","description":"d","parameters":{"type":"object"}}]`,
		want: `"tools":[{"type":"function","name":"f","description":"d","parameters":{"type":"object"},"strict":false}]`},
	{name: "function_call none", body: `"functions":[{"name":"f","parameters":{}}],"function_call":"none"`, want: `"tools":[{"type":"function","name":"f","parameters":{},"strict":false}],"tool_choice":"none"`},
	{name: "function_call auto", body: `"functions":[{"name":"f","parameters":{}}],"function_call":"auto"`, want: `"tools":[{"type":"function","name":"f","parameters":{},"strict":false}],"tool_choice":"auto"`},
	{name: "function_call of a function", body: `"functions":[{"name":"f","parameters":{}}],"function_call":{"name":"f"}`, want: `"tools":[{"type":"function","name":"f","parameters":{},"strict":false}],"tool_choice":{"type":"function","name":"f"}`},
	{name: "n of one", body: `"n":1`, want: ``},
	{name: "n of one, in other words", body: `"n":1.0`, want: ``},
	{name: "n", body: `"n":2`, bad: "n"},
	{name: "n of none", body: `"n":0`, bad: "n"},
	{name: "stop", body: `"stop":["a"]`, lost: "stop"},
	{name: "stop, one", body: `"stop":"a"`, lost: "stop"},
	{name: "stop, none", body: `"stop":[ ]`},
	{name: "seed", body: `"seed":9007199254740993`, lost: "seed"},
	{name: "logit_bias", body: `"logit_bias":{"50256":-100}`, lost: "logit_bias"},
	{name: "frequency_penalty", body: `"frequency_penalty":0.5`, lost: "frequency_penalty"},
	{name: "presence_penalty", body: `"presence_penalty":-0.5`, lost: "presence_penalty"},
	{name: "penalties of nothing", body: `"presence_penalty":0,"frequency_penalty":0.0`},
	{name: "modalities", body: `"modalities":["text"]`},
	{name: "modalities with audio", body: `"modalities":["text","audio"]`, bad: "modalities"},
	{name: "audio", body: `"audio":{"voice":"alloy","format":"wav"}`, bad: "audio"},
	{name: "prediction", body: `"prediction":{"type":"content","content":"x"}`, lost: "prediction"},
	{name: "null is absent", body: `"temperature":null,"stop":null,"n":null,"tools":null,"response_format":null,"audio":null,"stream_options":null,"function_call":null`},
	{name: "fields that nobody knows", body: `"top_k":5,"min_p":0.1`, lost: "unknown(2)"},
}

const (
	chatF = `"tools":[{"type":"function","function":{"name":"f","parameters":{}}},{"type":"custom","custom":{"name":"c"}}]`
	respF = `"tools":[{"type":"function","name":"f","parameters":{},"strict":false},{"type":"custom","name":"c"}]`
)

// responsesParameters is the same table from right to left.
var responsesParameters = []parameter{
	{name: "input, model", body: `{"model":"m","input":[{"role":"system","content":"s"},{"type":"message","role":"user","content":[{"type":"input_text","text":"q"}]}]}`,
		want: `{"model":"m","messages":[{"role":"system","content":"s"},{"role":"user","content":"q"}],"stream":false}`},
	{name: "instructions", body: `{"model":"m","input":"q","instructions":"be brief"}`,
		want: `{"model":"m","messages":[{"role":"system","content":"be brief"},{"role":"user","content":"q"}],"stream":false}`},
	{name: "max_output_tokens", body: `"max_output_tokens":100`, want: `"max_tokens":100`},
	{name: "max_output_tokens for OpenAI", body: `"max_output_tokens":100`, want: `"max_completion_tokens":100`, openai: true},
	{name: "temperature", body: `"temperature":0.70`, want: `"temperature":0.70`},
	{name: "top_p", body: `"top_p":1.0`, want: `"top_p":1.0`},
	{name: "user", body: `"user":"u"`, want: `"user":"u"`},
	{name: "safety_identifier", body: `"safety_identifier":"u"`, want: `"safety_identifier":"u"`},
	{name: "prompt_cache_key", body: `"prompt_cache_key":"k"`, want: `"prompt_cache_key":"k"`},
	{name: "prompt_cache_retention", body: `"prompt_cache_retention":"24h"`, want: `"prompt_cache_retention":"24h"`},
	{name: "prompt_cache_options", body: `"prompt_cache_options":{"mode":"explicit"}`, want: `"prompt_cache_options":{"mode":"explicit"}`},
	{name: "service_tier, the wider list", body: `"service_tier":"fast"`, want: `"service_tier":"fast"`},
	{name: "metadata", body: `"metadata":{"a":"b"}`, want: `"metadata":{"a":"b"}`},
	{name: "parallel_tool_calls", body: respG + `,"parallel_tool_calls":false`, want: `"parallel_tool_calls":false,` + chatG},
	{name: "parallel_tool_calls without tools", body: `"parallel_tool_calls":false`},
	{name: "moderation", body: `"moderation":{"model":"m"}`, want: `"moderation":{"model":"m"}`},
	{name: "store, absent", body: ``},
	{name: "store", body: `"store":true`, lost: "store"},
	{name: "store, not", body: `"store":false`},
	{name: "stream", body: `"stream":true`, want: `{"model":"m","messages":[{"role":"user","content":"q"}],"stream":true,"stream_options":{"include_usage":true}}`},
	{name: "stream_options.include_obfuscation", body: `"stream":true,"stream_options":{"include_obfuscation":false}`,
		want: `{"model":"m","messages":[{"role":"user","content":"q"}],"stream":true,"stream_options":{"include_usage":true,"include_obfuscation":false}}`},
	{name: "text.format text", body: `"text":{"format":{"type":"text"}}`},
	{name: "text.format json_object", body: `"text":{"format":{"type":"json_object"}}`, want: `"response_format":{"type":"json_object"}`},
	{name: "text.format json_schema", body: `"text":{"format":{"type":"json_schema","name":"n","description":"d","schema":{"type": "object"},"strict":true}}`,
		want: `"response_format":{"type":"json_schema","json_schema":{"name":"n","description":"d","schema":{"type":"object"},"strict":true}}`},
	{name: "text.format json_schema, strict absent", body: `"text":{"format":{"type":"json_schema","name":"n","schema":{}}}`,
		want: `"response_format":{"type":"json_schema","json_schema":{"name":"n","schema":{}}}`},
	{name: "text.format of a vendor", body: `"text":{"format":{"type":"xml"}}`, bad: "text.format.type"},
	{name: "text.verbosity", body: `"text":{"verbosity":"low"}`, want: `"verbosity":"low"`},
	{name: "reasoning.effort", body: `"reasoning":{"effort":"xhigh"}`, want: `"reasoning_effort":"xhigh"`},
	{name: "reasoning.summary", body: `"reasoning":{"summary":"auto"}`, lost: "reasoning.summary"},
	{name: "reasoning.generate_summary", body: `"reasoning":{"generate_summary":"auto"}`, lost: "reasoning.generate_summary"},
	{name: "reasoning.context, reasoning.mode", body: `"reasoning":{"context":"all_turns","mode":"pro"}`, lost: "reasoning.context reasoning.mode"},
	{name: "tools function", body: `"tools":[{"type":"function","name":"f","description":"d","parameters":{"type": "object"},"strict":false},{"type":"function","name":"g","parameters":{},"strict":true}]`,
		want: `"tools":[{"type":"function","function":{"name":"f","description":"d","parameters":{"type":"object"},"strict":false}},{"type":"function","function":{"name":"g","parameters":{},"strict":true}}]`},
	{name: "tools function that only the vendor's server calls so", body: `"tools":[{"type":"function","name":"g","parameters":{},"strict":true,"defer_loading":true,"allowed_callers":["direct"],"output_schema":{}}]`,
		want: chatG, lost: "tools[0].defer_loading tools[0].allowed_callers tools[0].output_schema"},
	{name: "tools custom", body: `"tools":[{"type":"custom","name":"c","description":"d","format":{"type":"grammar","syntax":"lark","definition":"x"}},{"type":"custom","name":"t","format":{"type":"text"}},{"type":"custom","name":"u"}]`,
		want: `"tools":[{"type":"custom","custom":{"name":"c","description":"d","format":{"type":"grammar","grammar":{"definition":"x","syntax":"lark"}}}},{"type":"custom","custom":{"name":"t","format":{"type":"text"}}},{"type":"custom","custom":{"name":"u"}}]`},
	{name: "tool_choice none", body: respG + `,"tool_choice":"none"`, want: chatG + `,"tool_choice":"none"`},
	{name: "tool_choice auto", body: respG + `,"tool_choice":"auto"`, want: chatG + `,"tool_choice":"auto"`},
	{name: "tool_choice required", body: respG + `,"tool_choice":"required"`, want: chatG + `,"tool_choice":"required"`},
	{name: "tool_choice auto without tools", body: `"tool_choice":"auto"`},
	{name: "tool_choice of a function", body: respG + `,"tool_choice":{"type":"function","name":"g"}`, want: chatG + `,"tool_choice":{"type":"function","function":{"name":"g"}}`},
	{name: "tool_choice of a custom tool", body: respG + `,"tool_choice":{"type":"custom","name":"g"}`, want: chatG + `,"tool_choice":{"type":"custom","custom":{"name":"g"}}`},
	{name: "tool_choice of allowed tools", body: respG + `,"tool_choice":{"type":"allowed_tools","mode":"auto","tools":[{"type":"function","name":"g"},{"type":"custom","name":"c"}]}`,
		want: chatG + `,"tool_choice":{"type":"allowed_tools","allowed_tools":{"mode":"auto","tools":[{"type":"function","function":{"name":"g"}},{"type":"custom","custom":{"name":"c"}}]}}`},
	{name: "tool_choice of allowed tools, one of which is required", body: respG + `,"tool_choice":{"type":"allowed_tools","mode":"required","tools":[{"type":"function","name":"g"}]}`,
		want: chatG + `,"tool_choice":{"type":"allowed_tools","allowed_tools":{"mode":"required","tools":[{"type":"function","function":{"name":"g"}}]}}`},
	{name: "tool_choice with members that nobody knows", body: respG + `,"tool_choice":{"type":"allowed_tools","mode":"auto","a":1,"tools":[{"type":"function","name":"g","b":1}]}`,
		want: chatG + `,"tool_choice":{"type":"allowed_tools","allowed_tools":{"mode":"auto","tools":[{"type":"function","function":{"name":"g"}}]}}`, lost: "unknown(2)"},
	{name: "tools with members that nobody knows", body: `"tools":[{"type":"function","name":"g","parameters":{},"strict":true,"a":1},{"type":"custom","name":"c","b":1,"format":{"type":"text","c":1}}]`,
		want: `"tools":[{"type":"function","function":{"name":"g","parameters":{},"strict":true}},{"type":"custom","custom":{"name":"c","format":{"type":"text"}}}]`, lost: "unknown(3)"},
	{name: "tool_choice of a built-in tool", body: respG + `,"tool_choice":{"type":"file_search"}`, bad: "tool_choice.type"},
	{name: "tool_choice of an MCP server", body: respG + `,"tool_choice":{"type":"mcp","server_label":"s","name":"x"}`, bad: "tool_choice.type"},
	{name: "tool_choice of allowed built-in tools", body: respG + `,"tool_choice":{"type":"allowed_tools","mode":"auto","tools":[{"type":"function","name":"g"},{"type":"image_generation"}]}`, bad: "tool_choice.tools[1].type"},
	{name: "include message.output_text.logprobs", body: `"include":["message.output_text.logprobs"]`, want: `"logprobs":true`},
	{name: "top_logprobs", body: `"include":["message.output_text.logprobs"],"top_logprobs":3`, want: `"logprobs":true,"top_logprobs":3`},
	{name: "top_logprobs that nobody is to see", body: `"top_logprobs":3`, lost: "top_logprobs"},
	{name: "include reasoning.encrypted_content", body: `"include":["reasoning.encrypted_content"]`, lost: "include[0]"},
	{name: "include file_search_call.results", body: `"include":["file_search_call.results"]`, lost: "include[0]"},
	{name: "include web_search_call.results", body: `"include":["web_search_call.results"]`, lost: "include[0]"},
	{name: "include web_search_call.action.sources", body: `"include":["web_search_call.action.sources"]`, lost: "include[0]"},
	{name: "include message.input_image.image_url", body: `"include":["message.input_image.image_url"]`, lost: "include[0]"},
	{name: "include computer_call_output.output.image_url", body: `"include":["computer_call_output.output.image_url"]`, lost: "include[0]"},
	{name: "include code_interpreter_call.outputs", body: `"include":["code_interpreter_call.outputs"]`, lost: "include[0]"},
	{name: "include of several", body: `"include":["file_search_call.results","message.output_text.logprobs","code_interpreter_call.outputs","reasoning.encrypted_content"]`,
		want: `"logprobs":true`, lost: "include[0] include[2] include[3]"},
	{name: "the two penalties of Open Responses", body: `"frequency_penalty":0.5,"presence_penalty":-0.5`, want: `"frequency_penalty":0.5,"presence_penalty":-0.5`},
	{name: "previous_response_id", body: `"previous_response_id":"resp_1"`, bad: "previous_response_id"},
	{name: "conversation", body: `"conversation":"conv_1"`, bad: "conversation"},
	{name: "conversation, as an object", body: `"conversation":{"id":"conv_1"}`, bad: "conversation"},
	{name: "background", body: `"background":true`, bad: "background"},
	{name: "background, not", body: `"background":false`},
	{name: "prompt", body: `"prompt":{"id":"pmpt_1"}`, bad: "prompt"},
	{name: "context_management", body: `"context_management":[{"type":"compaction"}]`, lost: "context_management"},
	{name: "max_tool_calls", body: `"max_tool_calls":3`, lost: "max_tool_calls"},
	{name: "truncation", body: `"truncation":"auto"`, lost: "truncation"},
	{name: "truncation, none", body: `"truncation":"disabled"`},
	{name: "the vendor's own", body: `"access_programs":{"cyber":"standard"},"background_options":{"completion_window":"2h"},"image":{"context_compression":"auto"}`,
		lost: "access_programs background_options image"},
	{name: "item_reference", body: `{"model":"m","input":[{"role":"user","content":"q"},{"type":"item_reference","id":"msg_1"}]}`, bad: "input[1]"},
	{name: "item_reference, short", body: `{"model":"m","input":[{"id":"msg_1"},{"role":"user","content":"q"}]}`, bad: "input[0]"},
	{name: "null is absent", body: `"temperature":null,"instructions":null,"tools":null,"text":null,"reasoning":null,"include":null,"previous_response_id":null,"conversation":null,"background":null,"prompt":null,"tool_choice":null,"max_output_tokens":null`},
	{name: "fields that nobody knows", body: `"top_k":5,"text":{"x":1,"format":{"type":"text","y":1}},"reasoning":{"z":1},"stream_options":{"w":1}`, lost: "unknown(5)"},
}

const (
	respG = `"tools":[{"type":"function","name":"g","parameters":{},"strict":true}]`
	chatG = `"tools":[{"type":"function","function":{"name":"g","parameters":{},"strict":true}}]`
)

// respBuiltins are the types of tools that a Responses server runs itself.
var respBuiltins = []string{
	"file_search", "web_search", "web_search_2025_08_26", "web_search_preview", "web_search_preview_2025_03_11", "computer", "computer_use_preview",
	"code_interpreter", "image_generation", "mcp", "shell", "local_shell", "apply_patch", "namespace", "tool_search", "programmatic_tool_calling",
}

// The fields that the vendor's specification of each API has (its SDKs of
// November 2026), and the two penalties of Open Responses.
var (
	chatFields = strings.Fields(`messages model audio frequency_penalty function_call functions logit_bias logprobs max_completion_tokens max_tokens
		metadata modalities moderation n parallel_tool_calls prediction presence_penalty prompt_cache_key prompt_cache_options prompt_cache_retention
		reasoning_effort response_format safety_identifier seed service_tier stop store stream stream_options temperature tool_choice tools
		top_logprobs top_p user verbosity web_search_options`)
	responsesFields = strings.Fields(`access_programs background background_options context_management conversation image include input instructions
		max_output_tokens max_tool_calls metadata model moderation parallel_tool_calls previous_response_id prompt prompt_cache_key
		prompt_cache_options prompt_cache_retention reasoning safety_identifier service_tier store stream stream_options temperature text
		tool_choice tools top_logprobs top_p truncation user frequency_penalty presence_penalty`)
)

// translated asks a backend with a client's request, as the proxy does.
func translated(face, backend *Protocol, body string, a *Agent) (out string, r *Request, e *Error) {
	if r, e = face.DecodeRequest(&Inbound{Route: &face.Routes[0], Body: []byte(body), Lazy: true}); e != nil {
		return "", nil, e
	}
	b, e := backend.Encode(nil, r, a, r.Stream)
	return string(b), r, e
}

// checkParameters walks a table. Every line is passed to a backend of the
// client's own protocol too, which is nobody else's business.
func checkParameters(t *testing.T, face, backend *Protocol, question, usual string, table []parameter, fields []string) {
	t.Helper()
	seen := map[string]bool{}
	for _, c := range table {
		body := c.body
		if !strings.HasPrefix(body, "{") {
			body = strings.TrimSuffix(`{"model":"m",`+question+`,`+body, ",") + "}"
		}
		if !jsonx.Valid([]byte(body)) {
			t.Fatalf("%s: %s", c.name, body)
		}
		gjson.Parse(body).ForEach(func(k, _ gjson.Result) bool {
			seen[k.String()] = true
			return true
		})
		want := c.want
		if !strings.HasPrefix(want, "{") {
			want = strings.TrimSuffix(usual+","+want, ",") + "}"
		}
		a := &Agent{Name: "it"}
		if c.openai {
			a.Options = map[string]string{"openai": "true"}
		}
		got, r, e := translated(face, backend, body, a)
		switch {
		case c.bad != "":
			if e == nil || e.Status != 400 || e.Param != c.bad || !strings.Contains(e.Message, c.bad) {
				t.Errorf("%s: got %v, want a 400 for %s", c.name, e, c.bad)
			}
		case e != nil:
			t.Errorf("%s: %v", c.name, e)
		default:
			if got != want {
				t.Errorf("%s: got\n%s\nwant\n%s", c.name, got, want)
			}
			if lost := strings.Join(r.Ledger.Names(), " "); lost != c.lost {
				t.Errorf("%s: lost %q, want %q", c.name, lost, c.lost)
			}
		}
		passesThrough(t, face, c.name, body)
	}
	for _, f := range fields {
		if !seen[f] {
			t.Errorf("no line for %s", f)
		}
	}
}

// passesThrough holds a request against what a backend of the client's own
// protocol gets: the same, but that a Responses server is told to store nothing.
func passesThrough(t *testing.T, face *Protocol, name, body string) {
	t.Helper()
	r, e := face.DecodeRequest(&Inbound{Route: &face.Routes[0], Body: []byte(body), Lazy: true})
	if e != nil {
		if face == &responsesProtocol && strings.Contains(e.Message, "stores no responses") {
			return
		}
		t.Errorf("%s, passed through: %v", name, e)
		return
	}
	want := body
	if face == &responsesProtocol {
		if store := gjson.Get(body, "store"); store.Exists() {
			want = strings.Replace(body, `"store":`+store.Raw, `"store":false`, 1)
		} else {
			want = strings.Replace(body, "{", `{"store":false,`, 1)
		}
	}
	if got, e := face.SpliceRequest(nil, r, &Agent{Name: "it"}); e != nil || string(got) != want {
		t.Errorf("%s, passed through: got\n%s %v\nwant\n%s", name, got, e, want)
	}
}

// TestChatParametersTowardsResponses follows the table of parameters line by line.
func TestChatParametersTowardsResponses(t *testing.T) {
	t.Parallel()
	checkParameters(t, &chatProtocol, &responsesProtocol, `"messages":[{"role":"user","content":"q"}]`,
		`{"model":"m","input":[{"type":"message","role":"user","content":"q"}],"store":false,"stream":false`, chatParameters, chatFields)
}

// TestResponsesParametersTowardsChat follows the same table the other way.
func TestResponsesParametersTowardsChat(t *testing.T) {
	t.Parallel()
	table := slices.Clone(responsesParameters)
	for _, name := range respBuiltins {
		table = append(table, parameter{name: "tools " + name, bad: "tools[2].type",
			body: `"tools":[{"type":"function","name":"g","parameters":{},"strict":true},{"type":"custom","name":"c"},{"type":"` + name + `"}]`})
	}
	checkParameters(t, &responsesProtocol, &chatProtocol, `"input":"q"`,
		`{"model":"m","messages":[{"role":"user","content":"q"}],"stream":false`, table, responsesFields)
}

// TestParametersComeBack sends every Chat parameter that Responses has a word for
// through a Responses backend's words and back: what arrives is what was sent.
func TestParametersComeBack(t *testing.T) {
	t.Parallel()
	openai := &Agent{Name: "it", Options: map[string]string{"openai": "true"}}
	const body = `{"model":"m","messages":[{"role":"system","content":"s"},{"role":"user","content":"q"}],"stream":true,"stream_options":{"include_usage":true,"include_obfuscation":true},` +
		`"max_completion_tokens":100,"temperature":0.70,"top_p":0.5,"logprobs":true,"top_logprobs":3,"user":"u","safety_identifier":"s","prompt_cache_key":"k","prompt_cache_retention":"24h",` +
		`"prompt_cache_options":{"mode":"explicit"},"service_tier":"flex","metadata":{"a":"b"},"parallel_tool_calls":true,"moderation":{"model":"m"},"verbosity":"low","reasoning_effort":"high",` +
		`"tools":[{"type":"function","function":{"name":"f","description":"d","parameters":{"type":"object"},"strict":false}},{"type":"custom","custom":{"name":"c","format":{"type":"grammar","grammar":{"definition":"x","syntax":"regex"}}}}],` +
		`"tool_choice":{"type":"allowed_tools","allowed_tools":{"mode":"required","tools":[{"type":"function","function":{"name":"f"}}]}},` +
		`"response_format":{"type":"json_schema","json_schema":{"name":"n","schema":{"type":"object"},"strict":true}}}`
	out, r, e := translated(&chatProtocol, &responsesProtocol, body, openai)
	if e != nil || r.Ledger.Len() > 0 {
		t.Fatalf("%v, lost %v", e, r.Ledger.Names())
	}
	back, r, e := translated(&responsesProtocol, &chatProtocol, out, openai)
	if e != nil || r.Ledger.Len() > 0 {
		t.Fatalf("%v, lost %v", e, r.Ledger.Names())
	}
	got, want := topMembers(back), topMembers(body)
	for k, v := range want {
		if got[k] != v {
			t.Errorf("%s: got %s, want %s", k, got[k], v)
		}
	}
	for k := range got {
		if want[k] == "" {
			t.Errorf("%s is new: %s", k, got[k])
		}
	}
}

// topMembers are the top-level members of a document.
func topMembers(doc string) map[string]string {
	m := map[string]string{}
	gjson.Parse(doc).ForEach(func(k, v gjson.Result) bool {
		m[k.String()] = v.Raw
		return true
	})
	return m
}

// settingSamples are a value of each setting that can be found again in what a
// backend is sent: numbers that nobody else writes, words that nobody says.
var settingSamples = map[Param]string{
	ParamTemperature: "0.4321", ParamTopP: "0.4321", ParamMaxTokens: "43210", ParamStop: `["zebra"]`, ParamSeed: "43210",
	ParamFrequencyPenalty: "0.4321", ParamPresencePenalty: "0.4321", ParamLogitBias: `{"43210":1}`, ParamLogprobs: "true", ParamTopLogprobs: "7",
	ParamN: "2", ParamUser: `"zebra"`, ParamSafetyIdentifier: `"zebra"`, ParamPromptCacheKey: `"zebra"`, ParamPromptCacheRetention: `"zebra"`,
	ParamPromptCacheOptions: `{"zebra":1}`, ParamServiceTier: `"zebra"`, ParamMetadata: `{"zebra":"1"}`, ParamParallelToolCalls: "false",
	ParamModeration: `{"zebra":1}`, ParamVerbosity: `"zebra"`, ParamReasoningEffort: `"zebra"`, ParamReasoningSummary: `"zebra"`,
	ParamReasoningOther: `{"mode":"zebra"}`, ParamIncludeObfuscation: "true", ParamIncludeEncrypted: "true", ParamModalities: `["zebra"]`,
	ParamAudio: `{"voice":"zebra"}`, ParamPrediction: `{"zebra":1}`, ParamWebSearch: `{"search_context_size":"zebra"}`, ParamMaxToolCalls: "43210",
	ParamTruncation: `"zebra"`, ParamContextManagement: `["zebra"]`, ParamPrompt: `{"zebra":1}`, ParamInclude: `"zebra"`, ParamMaxLoops: "43210",
	ParamVersion: "43210", ParamRuntimeContext: `{"zebra":1}`, ParamToolsEnabled: `["zebra"]`, ParamAgentConfig: `{"zebra":1}`,
}

// settingMarks are what is looked for where a sample has no word of its own.
var settingMarks = map[Param]string{
	ParamLogprobs: "logprobs", ParamParallelToolCalls: `"parallel_tool_calls":false`, ParamIncludeObfuscation: "include_obfuscation",
	ParamIncludeEncrypted: "encrypted_content", ParamTopLogprobs: `"top_logprobs":7`,
}

// TestNoSettingIsLost asks a backend of every protocol with every setting: it is
// in what the backend gets, in the ledger, or what a 400 names.
func TestNoSettingIsLost(t *testing.T) {
	t.Parallel()
	for _, backend := range registry {
		for _, face := range registry {
			if face == backend {
				continue
			}
			for p := range numParams {
				raw, ok := settingSamples[p]
				if !ok {
					t.Fatalf("no sample of setting %d", p)
				}
				at := At("the_setting")
				r := &Request{Face: face, Model: "m", Body: []byte(`{}`), Turns: []Turn{{Role: RoleUser, Path: At("q"), Blocks: []Block{{Type: BlockText, Text: "q", Path: At("q")}}}},
					Tools: []Tool{{Name: "f", Parameters: "{}", Strict: Yes, Path: At("tools")}}, Settings: []Setting{{p, raw, at}}}
				got, e := backend.Encode(nil, r, &Agent{Name: "it"}, true)
				if e != nil {
					if e.Param != at.String() {
						t.Errorf("%s to %s, setting %d: %v", face.Name, backend.Name, p, e)
					}
					continue
				}
				mark := settingMarks[p]
				if mark == "" {
					mark = "zebra"
					if !strings.Contains(raw, mark) {
						mark = strings.Trim(raw, `{}:1"`)
					}
				}
				sent, told := strings.Contains(string(got), mark), slices.Contains(r.Ledger.Names(), at.String())
				if !sent && !told && !(p == ParamIncludeObfuscation && backend.Name == "swarms") { // whose streams have none to leave out
					t.Errorf("%s to %s: setting %d is lost: %s", face.Name, backend.Name, p, got)
				}
			}
		}
	}
}

// forgetful is a backend whose encoder forgets everything.
type forgetful struct{ chatBackend }

func (forgetful) EncodeRequest(dst []byte, _ *Request, _ *Agent, _ bool) ([]byte, *Error) {
	return append(dst, "{}"...), nil
}

// TestAForgetfulEncoderLosesNothingInSilence answers for encoders to come: what
// they do not take is in the ledger, and what they could not refuse is refused.
func TestAForgetfulEncoderLosesNothingInSilence(t *testing.T) {
	t.Parallel()
	p := &Protocol{Name: "forgetful", Title: "Forgetful", Backend: forgetful{}}
	f := func(members, lost, bad string) {
		t.Helper()
		r, e := chatProtocol.DecodeRequest(&Inbound{Body: []byte(`{"messages":[{"role":"user","content":"q"},{"role":"assistant","content":"a","annotations":[{"type":"url_citation","url_citation":{"url":"u"}}]},` +
			`{"role":"user","content":[{"type":"text","text":"b","prompt_cache_breakpoint":{"mode":"explicit"}}]}],` + members + `}`), Lazy: true})
		if e != nil {
			t.Fatal(e)
		}
		_, e = p.Encode(nil, r, &Agent{Name: "it"}, false)
		switch {
		case bad != "":
			if e == nil || e.Param != bad {
				t.Errorf("%s: got %v, want a 400 for %s", members, e, bad)
			}
		case e != nil:
			t.Errorf("%s: %v", members, e)
		default:
			const marks = "messages[1].annotations messages[2].content[0].prompt_cache_breakpoint"
			if got := strings.Join(r.Ledger.Names(), " "); got != strings.TrimSpace(marks+" "+lost) {
				t.Errorf("%s: lost %q, want %q", members, got, lost)
			}
		}
	}
	f(`"temperature":1,"seed":5,"store":true`, "temperature seed store", "")
	f(`"max_tokens":5,"max_completion_tokens":6`, "max_completion_tokens", "")
	f(`"logprobs":false,"n":1,"metadata":{}`, "", "")
	f(`"tools":[{"type":"web_search"}]`, "", "tools[0].type")
	f(`"response_format":{"type":"xml"}`, "", "response_format.type")
}
