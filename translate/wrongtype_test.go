package translate

import (
	"slices"
	"strings"
	"testing"
)

// misfits are values of all kinds; each is put in the place of every member that
// is of another kind.
var misfits = []struct {
	kind string // as wireKind names it
	raw  string
}{
	{"null", `null`}, {"number", `7`}, {"number", `-1.5e400`}, {"number", `18446744073709551616`}, {"string", `"x"`}, {"string", `""`},
	{"bool", `true`}, {"array", `[]`}, {"array", `[7]`}, {"array", `[null]`}, {"array", `[[]]`}, {"object", `{}`}, {"object", `{"type":7}`}, {"object", `{"x":{"y":[7]}}`},
}

func wireKind(n *tree) string {
	switch {
	case n.open == '{':
		return "object"
	case n.open == '[':
		return "array"
	case n.raw == "null":
		return "null"
	case n.raw[0] == '"':
		return "string"
	case n.raw == "true" || n.raw == "false":
		return "bool"
	}
	return "number"
}

// TestWrongTypesAreRefused puts a value of every other kind into the place of every
// member of every full-featured request. It is a 400 that names the place, or a
// tolerance that stands in the list below with its reason, or a null, which counts as
// absent.
func TestWrongTypesAreRefused(t *testing.T) {
	t.Parallel()
	used := make([][]bool, len(registry))
	for f, face := range registry {
		used[f] = make([]bool, len(tolerances))
		t.Run(face.Name, func(t *testing.T) {
			for i, in := range fullRequests[face.Name] {
				doc := decodable(t, face, in)
				doc.each(func(parent, c *tree) {
					if strings.Contains(c.path, "x_vendor") {
						return // nobody reads it
					}
					had := *c
					for _, m := range misfits {
						if m.kind == wireKind(&had) || parent.open == '[' && strings.Contains(parent.path, "x_vendor") {
							continue
						}
						*c = tree{path: had.path, key: had.key, raw: m.raw}
						body := doc.String()
						*c = had
						e := decodes(face, in, body)
						at := tolerated(face, c.path, m.kind)
						switch {
						case e == nil && at < 0:
							t.Errorf("request %d: %s (%s) may be %s", i, c.path, wireKind(&had), m.raw)
						case e == nil && at != nullIsAbsent:
							used[f][at] = true
						case e == nil:
						case e.Status != 400 || e.Kind != KindInvalid || e.Message == "":
							t.Errorf("request %d: %s = %s: %+v", i, c.path, m.raw, e)
						case !under(e.Param, c.path) && (m.kind != "null" || !under(e.Param, parent.path)) && (at < 0 || at == nullIsAbsent || starPath(e.Param) != tolerances[at].names):
							t.Errorf("request %d: %s = %s: the error names %q: %s", i, c.path, m.raw, e.Param, e.Message)
						case !strings.Contains(e.Message, e.Param) && face.Name != "cognipeer":
							t.Errorf("request %d: %s = %s: the message names no place: %s", i, c.path, m.raw, e.Message)
						}
						if e != nil {
							if at >= 0 && at != nullIsAbsent && starPath(e.Param) == tolerances[at].names {
								used[f][at] = true
							}
							continue
						}
						// What is tolerated must not break what comes after.
						for _, back := range registry {
							got := askFull(face, back, in, body, coverageAgent)
							if got.err != nil && (got.err.Status != 400 || got.err.Param == "") {
								t.Errorf("request %d: %s = %s to %s: %+v", i, c.path, m.raw, back.Name, got.err)
							}
							if _, sent, _ := strings.Cut(got.body, " "); got.err == nil && CheckBody([]byte(sent)) != nil {
								t.Errorf("request %d: %s = %s to %s: %s", i, c.path, m.raw, back.Name, got.body)
							}
						}
					}
				})
			}
		})
	}
	for i, tol := range tolerances {
		if !slices.ContainsFunc(used, func(u []bool) bool { return u[i] }) {
			t.Errorf("%s: %s %s is tolerated, but nobody needs it", tol.face, tol.paths, tol.kind)
		}
	}
}

// decodable takes out of a request what its own face refuses.
func decodable(t *testing.T, face *Protocol, in Inbound) *tree {
	doc := parseTree(t, string(in.Body))
	for range 20 {
		e := decodes(face, in, doc.String())
		if e == nil {
			return parseTree(t, doc.String()) // with the places as they are now
		}
		node, parent, _ := doc.at(e.Param)
		if parent == nil {
			t.Fatalf("%s: %s: %s", face.Name, e.Param, e.Message)
		}
		parent.remove(node)
	}
	t.Fatalf("%s: there is no end of refusals", face.Name)
	return nil
}

func decodes(face *Protocol, in Inbound, body string) *Error {
	in.Body = []byte(body)
	r, e := face.DecodeRequest(&in)
	if e == nil {
		e = r.Complete()
	}
	return e
}

func starPath(path string) string { return starIndex.ReplaceAllString(path, "[*]") }

// A tolerance is a wrong kind that is no error, with the reason. A path that ends
// in ** is everything below too. names is the place that an error names instead.
type tolerance struct {
	face  string
	paths []string
	kind  string
	names string
	why   string
}

const anyKind = "null|number|string|bool|array|object"

// byValue are the members whose values are carried as they are, and read by nobody
// but the backend.
var byValue = []string{
	"audio.**", "logit_bias.**", "metadata.**", "modalities[*]", "moderation**", "prediction.**", "prompt_cache_options**",
	"web_search_options.**", "context_management**", "prompt**", "reasoning.context", "reasoning.mode", "runtime_context.**",
	"tools[*].search_context_size",
}

var tolerances = []tolerance{
	{face: "chat|responses|cognipeer", paths: byValue, kind: anyKind, why: "carried by value: what it must be is the backend's to say"},
	{face: "chat|responses|cognipeer|swarms", paths: []string{
		"functions[*].parameters.**", "tools[*].function.parameters.**", "tools[*].parameters.**", "response_format.json_schema.schema.**", "text.format.schema.**",
		"agent_config.tools_list_dictionary[*].function.parameters.**", "agent_config.tools_dictionary[*].parameters.**", "agent_config.llm_args.response_format.json_schema.schema.**",
	}, kind: anyKind, why: "a JSON Schema is data: it is carried by value"},
	{face: "chat|ticos", paths: []string{"messages[*].annotations**", "input[*].annotations**"}, kind: anyKind,
		why: "citations of an earlier answer, as some backend wrote them: what is none is in the ledger, the rest is carried by value"},
	{face: "responses|cognipeer", paths: []string{"input[*].content[*].annotations[*].**", "input[*].content[*].logprobs[*]**"}, kind: anyKind,
		why: "citations and statistics of an earlier answer, as some backend wrote them: carried by value"},
	{face: "chat", paths: []string{"messages[*].audio**"}, kind: anyKind, why: "refers to an earlier answer: in the ledger, whatever it is"},
	{face: "chat", paths: []string{"messages[*].reasoning"}, kind: anyKind, why: "not of the API: vendors write strings and objects; what is no string is in the ledger"},
	{face: "chat", paths: []string{"messages[*].content[*].video_url**"}, kind: anyKind, why: "a part that only its own vendor knows goes there as it is, and nowhere else"},
	{face: "chat|ticos", paths: []string{"messages[*].tool_calls[*].function.arguments", "messages[*].tool_calls[*].custom.input", "messages[*].function_call.arguments", "input[*].tool_calls[*].function.arguments"},
		kind: "array|object", why: "clients hand back arguments that they have parsed"},
	{face: "chat|ticos", paths: []string{"messages[*].content", "input[*].content", "input"}, kind: "string|array", why: "content is a string or an array of parts"},
	{face: "chat|ticos", paths: []string{"messages[*].content[*].image_url", "input[*].content[*].image_url", "input[*].image_url"}, kind: "string", why: "many clients write the address flat"},
	{face: "chat|swarms", paths: []string{"stop", "agent_config.llm_args.stop"}, kind: "string|array", why: "it is a string or an array of strings"},
	{face: "chat|responses|cognipeer", paths: []string{"tool_choice"}, kind: "object", names: "tool_choice.type", why: "it is a word or an object, and of an object the type is read"},
	{face: "responses|cognipeer", paths: []string{"input", "input[*].content", "input[*].output"}, kind: "string|array", why: "it is a string or an array"},
	{face: "responses|cognipeer", paths: []string{"input[*].action**", "input[*].tools**", "input[*].server_label"}, kind: anyKind, why: "an item that only a server of this API makes goes back as it is"},
	{face: "cognipeer", paths: []string{"version"}, kind: "number|string|bool", why: "the vendor reads it with JavaScript's Number, which takes \"2\" and true"},
	{face: "swarms", paths: []string{
		"agent_config.auto_generate_prompt", "agent_config.capabilities**", "agent_config.category", "agent_config.dynamic_temperature_enabled", "agent_config.handoffs**",
		"agent_config.is_free", "agent_config.llm_args.logit_bias.**", "agent_config.llm_args.top_k", "agent_config.marketplace_prompt_id", "agent_config.mcp_config**",
		"agent_config.mcp_url", "agent_config.price_usd", "agent_config.publish_to_marketplace", "agent_config.reasoning_enabled", "agent_config.role",
		"agent_config.selected_tools**", "agent_config.tags**", "agent_config.thinking_tokens", "agent_config.tool_call_summary", "agent_config.use_cases**",
	}, kind: anyKind, why: "the vendor's own: a server of this protocol gets it as it is, for others it is in the ledger"},
	{face: "swarms", paths: []string{"agent_config.llm_args.tool_choice.type"}, kind: anyKind, why: "the function's name alone says which it is"},
	{face: "swarms", paths: []string{"agent_config.max_loops"}, kind: "number", why: "it is a number or \"auto\""},
	{face: "swarms", paths: []string{"agent_config.temperature"}, kind: "number", why: "what stands there is null, and a number is what it must be"},
	{face: "swarms", paths: []string{"history"}, kind: "array|object", why: "it is a list or an object of messages"},
	{face: "swarms", paths: []string{"history[*].content**", "history.message1.content"}, kind: anyKind, names: "history[*].content", why: "the entries of an answer, which clients send back, hold whatever the agent's tools said"},
	{face: "swarms", paths: []string{"history[*].category", "history[*].message_id", "history[*].timestamp"}, kind: anyKind, why: "the server's own marks: in the ledger, whatever they are"},
	{face: "swarms", paths: []string{"search_enabled"}, kind: anyKind, why: "no server reads it any more"},
	{face: "swarms", paths: []string{"tools_enabled"}, kind: "string|object", why: "empty, it says nothing"},
	{face: "swarms", paths: []string{"history.message1", "history.note"}, kind: "string|object", why: "a member is an entry or a text", names: "history[*].role"},
	{face: "swarms", paths: []string{"history.message1", "history.note"}, kind: "number|bool|array", why: "the entries of an object are counted: their keys are the client's own words", names: "history[*]"},
	{face: "swarms", paths: []string{"history.message1.role"}, kind: anyKind, why: "as above", names: "history[*].role"},
	{face: "swarms", paths: []string{"history[*]"}, kind: "null", why: "an entry that is not there"},
	{face: "swarms", paths: []string{"agent_config.tools_list_dictionary[*].function.name"}, kind: "null", why: "without a name it is no tool", names: "agent_config.tools_list_dictionary[*]"},
	{face: "chat", paths: []string{"messages[*].function_call"}, kind: "null", why: "what answers it is left alone", names: "messages[*].name"},
	{face: "cycls", paths: []string{
		"approvals**", "auto", "connectors**", "declined**", "detach", "disabled_tools**", "folder", "max_completion_tokens", "max_tokens", "model", "plan**", "regenerate",
		"response_format**", "retry", "seed", "selection", "stop**", "stream", "temperature", "tool_choice", "tools**", "top_p", "user",
	}, kind: anyKind, why: "the server reads nothing of it: in the ledger, whatever it is"},
	{face: "cycls", paths: []string{"messages[*].attachments", "messages[*].attachments[*]", "messages[*].attachments[*].size"}, kind: anyKind, why: "what is no attachment is in the ledger, and nobody reads the size"},
	{face: "cycls", paths: []string{"messages[*].content", "messages[*].content[*]", "messages[*].parts[*]"}, kind: "string|array|object", why: "a text or parts, of which each may be a text; an empty object is no content, as in the server's Python"},
	{face: "cycls", paths: []string{"messages[*].content[*].image_url"}, kind: "string", why: "flat, it is the address"},
	{face: "cycls", paths: []string{"messages[*].parts[*].**"}, kind: anyKind, why: "the history holds what an agent sent, which its server does not check either: what is no text is shown as it stands"},
}

func tolerated(face *Protocol, path, kind string) int {
	path = starPath(path)
	nulls := kind == "null" && !strings.HasSuffix(path, "[*]")
	for i, e := range tolerances {
		if matches(e.face, face.Name) && matches(e.kind, kind) && slices.ContainsFunc(e.paths, func(p string) bool { return wrongPath(p, path) }) {
			return i
		}
	}
	if nulls {
		return nullIsAbsent
	}
	return -1
}

// nullIsAbsent is the tolerance for the null of a member: clients of every vendor
// write what they do not set as null, and their servers take that for absent.
const nullIsAbsent = 1 << 20

func wrongPath(pattern, path string) bool {
	if rest, ok := strings.CutSuffix(pattern, "**"); ok {
		return strings.HasPrefix(path, rest)
	}
	return pattern == path
}

// TestNumbersThatOneParserTakesAndAnotherDoesNot puts odd numbers into the place of
// every number that is read.
func TestNumbersThatOneParserTakesAndAnotherDoesNot(t *testing.T) {
	t.Parallel()
	whole := []string{"max_tokens", "max_completion_tokens", "seed", "n", "top_logprobs", "max_output_tokens", "max_tool_calls", "max_loops"}
	read := append([]string{"temperature", "top_p", "frequency_penalty", "presence_penalty"}, whole...)
	for _, face := range registry {
		if face.Name == "cycls" {
			continue // it reads no number
		}
		for i, in := range fullRequests[face.Name] {
			doc := decodable(t, face, in)
			doc.each(func(_, c *tree) {
				if wireKind(c) != "number" || !slices.Contains(read, c.key) {
					return
				}
				raw := c.raw
				defer func() { c.raw = raw }()
				for _, m := range []struct {
					raw     string
					refused bool
				}{
					{"1e400", true}, {"-1e400", true}, {"1" + strings.Repeat("0", 400), true},
					{"1.5", slices.Contains(whole, c.key)}, {"5e-1", slices.Contains(whole, c.key)},
					{"1.0", false}, {"10e-1", false}, {"1E0", false},
					{"18446744073709551616", face.Name == "swarms" && slices.Contains(whole, c.key)}, // Python's own are of any size, its whole numbers here are not
				} {
					c.raw = m.raw
					e := decodes(face, in, doc.String())
					switch {
					case !m.refused && e != nil:
						t.Errorf("%s, request %d: %s = %.30s: %v", face.Name, i, c.path, m.raw, e)
					case m.refused && (e == nil || e.Status != 400 || e.Param != c.path):
						t.Errorf("%s, request %d: %s = %.30s: %v", face.Name, i, c.path, m.raw, e)
					}
				}
			})
		}
	}
}
