package translate

import (
	"errors"
	"fmt"

	"github.com/dragoman-proxy/dragoman/internal/jsonx"
)

// gateNames are the members of requests that any face or the proxy itself acts
// on. Faces and backends that are exact about case do not see a variant of one of
// them, others (Go's encoding/json among them) take it for the member itself, and
// the later of the two wins: what was checked would not be what is done.
var gateNames = jsonx.NewNames(func() map[string]jsonx.NameUse {
	use := map[string]jsonx.NameUse{}
	add := func(u jsonx.NameUse, names ...string) {
		for _, n := range names {
			use[n] |= u
		}
	}
	// They stand in the outermost object, or in Swarms' agent_config; some of
	// them (llm_args has them all) deeper too.
	for name := range chatSettings {
		add(jsonx.Outermost|jsonx.Inner, name)
	}
	for name := range respFields {
		add(jsonx.Outermost|jsonx.Inner, name)
	}
	for i := range swarmsArgs {
		add(jsonx.Outermost|jsonx.Inner, swarmsArgs[i].key)
	}
	for i := range swarmsConfigKeys {
		add(jsonx.Outermost|jsonx.Inner, swarmsConfigKeys[i].key)
	}
	add(jsonx.Outermost|jsonx.Inner,
		"model", "messages", "stream", "stream_options", "store", "tools", "functions", "tool_choice", "function_call",
		"response_format", "input", "instructions", "previous_response_id", "conversation", "background", "include",
		"reasoning", "text", "version", "runtime_context", "agent_config", "task", "history", "img", "imgs", "tools_enabled",
		"session_id", "agent_name", "model_name", "system_prompt", "llm_args", "tools_list_dictionary", "tools_dictionary",
		"streaming_on", "max_loops")
	add(jsonx.Frame, "agent_config")
	add(jsonx.Inner,
		// messages, items and their parts
		"role", "content", "name", "type", "id", "tool_calls", "tool_call_id", "refusal", "reasoning_content",
		"annotations", "audio", "image_url", "input_audio", "file", "url", "detail", "data", "format", "filename", "file_id", "file_data",
		"file_url", "function", "custom", "arguments", "call_id", "output", "status", "phase", "summary",
		"encrypted_content", "logprobs", "prompt_cache_breakpoint", "parts", "attachments", "path",
		"action", "queries", "code", "image", "src", "alt", "caption", "language", "headers", "rows", "row", "callout",
		"style", "title", "thinking", "step", "tool", "tool_name", "args", "result", "chat_id",
		// tools, their choice, formats and options
		"description", "parameters", "strict", "grammar", "syntax", "definition", "json_schema", "schema", "mode",
		"allowed_tools", "include_usage", "include_obfuscation", "effort", "generate_summary", "context")
	// What stands in them is data: a schema may have two properties that differ in
	// case, and so may metadata and the arguments of a call.
	add(jsonx.Opaque, "parameters", "schema", "output_schema", "metadata", "logit_bias", "runtime_context", "arguments",
		"args", "result", "mcp_config", "mcp_configs", "variables", "extra_content", "cache_control")
	return use
}())

// gateKeys is how many keys one object of a request may have. No schema, map or
// history comes near it, and it keeps the memory small that finding duplicates
// takes.
const gateKeys = 1 << 16

// CheckBody refuses the body of a request that is not one JSON object or array
// that everybody reads in the same way: well formed to the letter of RFC 8259, in
// UTF-8, nested no deeper than jsonx.MaxDepth, no more than gateKeys keys in an
// object, no key twice, and none that only its case tells from one that is acted on. The error names the
// place.
//
// Half a surrogate pair that is written as an escape ("\ud800") is well formed and
// passes: it reaches the backend as it is where nothing is translated, and as
// U+FFFD where it is.
func CheckBody(body []byte) *Error {
	err := jsonx.Check(body, jsonx.CheckOptions{UTF8: true, Duplicates: jsonx.AllDepths, MaxKeys: gateKeys, Names: gateNames})
	if err == nil {
		if c := firstByte(viewString(body)); c != '{' && c != '[' {
			return &Error{Kind: KindInvalid, Status: 400, Code: "invalid_json",
				Message: "The request body is not valid JSON: a JSON object is expected."}
		}
		return nil
	}
	off, _ := jsonx.ErrorOffset(err)
	e := &Error{Kind: KindInvalid, Status: 400, Code: "invalid_json", Param: jsonx.PathAt(body, off), log: "The request body is not valid JSON"}
	where := fmt.Sprintf("at byte %d", off)
	if e.Param != "" {
		where += ", in '" + e.Param + "'"
	}
	var syntax *jsonx.SyntaxError
	var variant *jsonx.VariantError
	switch {
	case errors.As(err, &syntax):
		e.Message = fmt.Sprintf("The request body is not valid JSON: %s %s.", syntax.Msg, where)
		e.log = e.log + fmt.Sprintf(": %s at byte %d.", syntax.Msg, off)
	case errors.As(err, &variant):
		e.Message = fmt.Sprintf("The request body is not valid JSON for all who read it: a key %s differs from %q only in case.", where, variant.Name)
		e.log = e.log + fmt.Sprintf(": a variant of %q at byte %d.", variant.Name, off)
	default:
		e.Message = fmt.Sprintf("The request body is not valid JSON for all who read it: a key stands there twice, the second time %s.", where)
		e.log = e.log + fmt.Sprintf(": a duplicate key at byte %d.", off)
	}
	return e
}
