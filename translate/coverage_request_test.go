package translate

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// fullRequests are requests with everything that the wire of their protocol
// knows, x_vendor being what it does not. The first of each is the one whose
// losses are pinned; the others hold what cannot stand beside it.
var fullRequests = map[string][]Inbound{
	"chat": {{Body: []byte(`{
"model":"the-model",
"messages":[
 {"role":"system","content":"Be kind.","name":"house"},
 {"role":"developer","content":[{"type":"text","text":"Be brief."},{"type":"text","text":"Be quick."}]},
 {"role":"user","name":"ann","content":[
  {"type":"text","text":"Look at these.","x_vendor":1},
  {"type":"image_url","image_url":{"url":"https://example.com/a.png","detail":"high","x_vendor":1}},
  {"type":"image_url","image_url":{"url":"data:image/png;base64,iVBORw0KGgoAAAA=","detail":"low"}},
  {"type":"file","file":{"filename":"a.pdf","file_data":"data:application/pdf;base64,JVBERi0xLjQ="}},
  {"type":"file","file":{"file_id":"file-1"}},
  {"type":"input_audio","input_audio":{"data":"UklGRgAAAAA=","format":"wav"}},
  {"type":"video_url","video_url":{"url":"https://example.com/a.mp4"}}]},
 {"role":"assistant","name":"bot","content":[{"type":"text","text":"I see."},{"type":"refusal","refusal":"Not that one."}],
  "reasoning_content":"Three pictures.","annotations":[{"type":"url_citation","url_citation":{"url":"https://example.com","title":"Example","start_index":0,"end_index":5}}],
  "audio":{"id":"audio_1"},"x_vendor":1,
  "tool_calls":[{"id":"call_1","type":"function","function":{"name":"get_weather","arguments":"{\"city\":\"Bern\"}"},"x_vendor":1},
   {"id":"call_2","type":"custom","custom":{"name":"run_code","input":"print(1)"}}]},
 {"role":"tool","tool_call_id":"call_1","content":[{"type":"text","text":"sunny"},{"type":"text","text":"warm"}]},
 {"role":"tool","tool_call_id":"call_2","content":"1"},
 {"role":"assistant","content":null,"refusal":"I would rather not."},
 {"role":"user","content":"Go on."}],
"temperature":0.5,"top_p":0.9,"max_completion_tokens":100,"stop":["END","STOP"],"seed":7,"frequency_penalty":0.1,"presence_penalty":0.2,
"logit_bias":{"50256":-100},"logprobs":true,"top_logprobs":2,"n":2,"user":"u-1","safety_identifier":"s-1","prompt_cache_key":"k-1",
"prompt_cache_retention":"24h","prompt_cache_options":{"mode":"explicit"},"service_tier":"flex","metadata":{"team":"blue"},"parallel_tool_calls":false,
"moderation":{"model":"omni"},"verbosity":"low","reasoning_effort":"high","modalities":["text","audio"],"audio":{"voice":"alloy","format":"wav"},
"prediction":{"type":"content","content":"Go"},"web_search_options":{"search_context_size":"low"},"store":true,
"stream":true,"stream_options":{"include_usage":true,"include_obfuscation":false,"x_vendor":1},
"tools":[{"type":"function","function":{"name":"get_weather","description":"Weather of a city","parameters":{"type":"object","properties":{"city":{"type":"string"}}},"strict":true,"x_vendor":1},"x_vendor":1},
 {"type":"custom","custom":{"name":"run_code","description":"Runs Python","format":{"type":"grammar","grammar":{"syntax":"lark","definition":"start: /.+/"}}}}],
"tool_choice":{"type":"allowed_tools","allowed_tools":{"mode":"required","tools":[{"type":"function","function":{"name":"get_weather"}},{"type":"custom","custom":{"name":"run_code"}}]}},
"response_format":{"type":"json_schema","json_schema":{"name":"weather","description":"The answer","schema":{"type":"object"},"strict":true,"x_vendor":1},"x_vendor":1},
"x_vendor":{"a":1}}`)},
		{Body: []byte(`{
"model":"the-model",
"messages":[{"role":"user","content":"Go."},
 {"role":"assistant","content":null,"function_call":{"name":"get_weather","arguments":"{\"city\":\"Bern\"}"}},
 {"role":"function","name":"get_weather","content":"sunny"},
 {"role":"assistant","content":"Sunny.","reasoning":"It said so."},
 {"role":"user","content":"And?"}],
"max_tokens":100,"stop":"END","modalities":["text"],"n":1,"store":false,
"functions":[{"name":"get_weather","description":"Weather of a city","parameters":{"type":"object","properties":{"city":{"type":"string"}}}}],
"function_call":{"name":"get_weather"},"response_format":{"type":"json_object"}}`)},
		{Body: []byte(`{
"model":"the-model","messages":[{"role":"user","content":"Go."}],
"tools":[{"type":"function","function":{"name":"get_weather"}},{"type":"custom","custom":{"name":"run_code","format":{"type":"text"}}}],
"tool_choice":{"type":"custom","custom":{"name":"run_code"}},"response_format":{"type":"text"}}`)},
		{Body: []byte(`{
"model":"the-model","messages":[{"role":"user","content":"Go."}],
"tools":[{"type":"function","function":{"name":"get_weather","strict":false}}],"tool_choice":"none"}`)},
		{Body: []byte(`{
"model":"the-model","messages":[{"role":"user","content":"Go."}],
"tools":[{"type":"function","function":{"name":"get_weather"}}],
"tool_choice":{"type":"allowed_tools","allowed_tools":{"mode":"auto","tools":[{"type":"function","function":{"name":"get_weather"}}]}}}`)},
	},
	"responses": {{Body: []byte(fullResponses(""))}, {Body: []byte(fullResponsesOther(""))}},
	"cognipeer": {
		{Body: []byte(fullResponses(`"version":2,"runtime_context":{"headers":{"a":"b"},"connections":{},"metadata":{"c":1}},`))},
		{Body: []byte(fullResponsesOther(`"version":"2",`))},
	},
	"ticos": {{ID: "the-model", Body: []byte(`{
"instructions":"Be kind.",
"input":[
 {"role":"system","content":"Be brief."},
 {"role":"user","name":"ann","content":[{"type":"text","text":"Look."},{"type":"image_url","image_url":{"url":"https://example.com/a.png","detail":"high"}},
  {"type":"file","file":{"filename":"a.pdf","file_data":"data:application/pdf;base64,JVBERi0xLjQ="}},{"type":"input_audio","input_audio":{"data":"UklGRgAAAAA=","format":"wav"}}]},
 {"role":"assistant","content":"I see.","refusal":"Not that.","reasoning_content":"A picture.",
  "annotations":[{"type":"url_citation","url_citation":{"url":"https://example.com","title":"Example","start_index":0,"end_index":5}}],
  "tool_calls":[{"id":"call_1","type":"function","function":{"name":"get_weather","arguments":"{}"}}]},
 {"role":"tool","tool_call_id":"call_1","content":"sunny"},
 {"role":"user","content":"Go on."}],
"stream":true,"stream_options":{"include_usage":true,"include_obfuscation":false},"x_vendor":1}`)},
		{ID: "the-model", Body: []byte(`{"input":[{"type":"text","text":"Look."},{"type":"image_url","image_url":{"url":"https://example.com/a.png","detail":"high"}},{"type":"text","text":"Go on."}]}`)},
		{ID: "the-model", Body: []byte(`{"input":"https://example.com/a.png"}`)},
		{ID: "the-model", Body: []byte(`{"input":"Go on."}`)},
	},
	"swarms": {{Body: []byte(`{
"agent_config":{"agent_name":"it","description":"A helper","system_prompt":"Be kind.","marketplace_prompt_id":"p-1","model_name":"the-model",
 "auto_generate_prompt":true,"max_tokens":100,"temperature":0.5,"role":"boss","max_loops":3,
 "tools_list_dictionary":[{"type":"function","function":{"name":"get_weather","description":"Weather of a city","parameters":{"type":"object","properties":{"city":{"type":"string"}}},"strict":true,"x_vendor":1},"x_vendor":1}],
 "selected_tools":["a","b"],"mcp_url":"https://example.com/mcp","mcp_config":{"type":"mcp","url":"https://example.com/mcp","headers":{"a":"b"}},"mcp_configs":{"connections":[{"type":"mcp"}]},
 "streaming_on":true,"llm_args":{"top_p":0.9,"presence_penalty":0.2,"frequency_penalty":0.1,"stop":["END"],"seed":7,"n":2,"user":"u-1","logit_bias":{"50256":-100},
  "logprobs":true,"top_logprobs":2,"parallel_tool_calls":false,"verbosity":"low","service_tier":"flex","response_format":{"type":"json_schema","json_schema":{"name":"weather","description":"d","schema":{"type":"object"},"strict":true}},
  "tool_choice":{"type":"function","function":{"name":"get_weather"}},"top_k":40},
 "dynamic_temperature_enabled":false,"tool_call_summary":false,"reasoning_effort":"high","thinking_tokens":1000,"reasoning_enabled":true,
 "publish_to_marketplace":true,"use_cases":[{"title":"t"}],"tags":["x"],"capabilities":["y"],"category":"z","is_free":false,"price_usd":1.5,"handoffs":[{"agent_name":"other"}],"x_vendor":1},
"task":"Go on.","img":"https://example.com/a.png","imgs":["data:image/png;base64,iVBORw0KGgoAAAA=","https://example.com/b.png"],
"history":[{"role":"user","content":"Look."},
 {"role":"it","content":[{"function":{"arguments":"{\"city\":\"Bern\"}","name":"get_weather"},"id":"call_1","type":"function"}],"timestamp":"2026-02-05T00:58:15","message_id":"m-1","category":"c"},
 {"role":"tool","content":"sunny","tool_call_id":"call_1"},
 {"role":"assistant","content":"I see.","x_vendor":1}],
"tools_enabled":["auto_search"],"search_enabled":true,"stream":true,"x_vendor":1}`)},
		{Body: []byte(`{
"agent_config":{"agent_name":"it","max_loops":"auto","tools_dictionary":[{"name":"get_weather","description":"d","parameters":{"type":"object"}}],
 "llm_args":{"temperature":0.7,"max_tokens":50,"reasoning_effort":"low"},"temperature":null},
"task":"Go on.","history":{"message1":{"role":"user","content":"Look."},"note":"It rains."}}`)},
	},
	"cycls": {{Query: "id=c-1", Body: []byte(`{
"messages":[
 {"role":"system","content":"Be kind."},
 {"role":"user","name":"ann","content":[{"type":"text","text":"Look."},{"type":"image","image":"https://example.com/a.png","alt":"A","caption":"C"},
   {"type":"file","file":"https://example.com/a.pdf","name":"a.pdf"},{"type":"image_url","image_url":{"url":"https://example.com/b.png","detail":"high"}}],
  "attachments":[{"name":"pic.png","size":123,"type":"image/png","url":"https://example.com/a.png"},{"name":"more.pdf","size":5,"type":"application/pdf","url":"","path":"attachments/more.pdf"}],"x_vendor":1},
 {"role":"assistant","parts":[{"type":"thinking","thinking":"A picture."},{"type":"text","text":"I see."},{"type":"code","code":"x=1","language":"python"},
   {"type":"table","headers":["A","B"],"rows":[["1","2"],["3","4"]]},{"type":"callout","callout":"Done","style":"success","title":"T"},
   {"type":"image","src":"/public/a.png","alt":"A","caption":"C"},{"type":"status","status":"busy"},{"type":"step","step":"Looking","tool_name":"look","id":"s-1","result":"found"},
   {"type":"tool_call","tool":"get_weather","args":{"city":"Bern"},"id":"call_1"},{"type":"ui","action":"title"},{"type":"sources","sources":["a"]}]},
 {"role":"tool","tool_call_id":"call_1","content":"sunny"},
 {"role":"user","parts":[{"type":"text","text":"Go on."}]}],
"session_id":"s-1","plan":{"plan_name":"free"},"detach":true,"disabled_tools":["a"],"approvals":{"a":1},"connectors":["c"],"auto":true,"selection":"s","folder":"f",
"regenerate":true,"retry":true,"declined":["d"],"model":"m","temperature":0.5,"top_p":0.9,"max_tokens":100,"max_completion_tokens":100,"stop":["END"],"seed":7,
"tools":[{"type":"function"}],"tool_choice":"auto","response_format":{"type":"json_object"},"user":"u","stream":false,"x_vendor":1}`)},
	},
}

// fullResponses is a request of the Responses API; more stands before its
// members.
func fullResponses(more string) string {
	return `{` + more + `
"model":"the-model","instructions":"Be kind.",
"input":[
 {"role":"system","content":"Be brief."},
 {"type":"message","role":"user","id":"msg_0","status":"completed","content":[{"type":"input_text","text":"Look."},
  {"type":"input_image","image_url":"https://example.com/a.png","detail":"high"},{"type":"input_image","image_url":"data:image/png;base64,iVBORw0KGgoAAAA=","detail":"low"},{"type":"input_image","file_id":"file-1","detail":"auto"},
  {"type":"input_file","filename":"a.pdf","file_data":"data:application/pdf;base64,JVBERi0xLjQ="},{"type":"input_file","file_url":"https://example.com/a.pdf","detail":"high"},{"type":"input_file","file_id":"file-2"}],"x_vendor":1},
 {"type":"reasoning","id":"rs_1","summary":[{"type":"summary_text","text":"Pictures."}],"content":[{"type":"reasoning_text","text":"Three."}],"encrypted_content":"c2VjcmV0","status":"completed"},
 {"type":"message","role":"assistant","id":"msg_1","status":"completed","phase":"commentary","content":[
  {"type":"output_text","text":"I see.","annotations":[{"type":"url_citation","url":"https://example.com","title":"Example","start_index":0,"end_index":5}],"logprobs":[{"token":"I","logprob":-0.1,"bytes":[73],"top_logprobs":[]}]},
  {"type":"refusal","refusal":"Not that one."}]},
 {"type":"function_call","id":"fc_1","call_id":"call_1","name":"get_weather","arguments":"{\"city\":\"Bern\"}","status":"completed","x_vendor":1},
 {"type":"custom_tool_call","id":"ctc_1","call_id":"call_2","name":"run_code","input":"print(1)","status":"completed"},
 {"type":"function_call_output","id":"fco_1","call_id":"call_1","output":[{"type":"input_text","text":"sunny"},{"type":"input_image","image_url":"https://example.com/sun.png"}],"status":"completed"},
 {"type":"custom_tool_call_output","id":"cto_1","call_id":"call_2","output":"1"},
 {"type":"web_search_call","id":"ws_1","status":"completed","action":{"type":"search","query":"weather"}},
 {"type":"mcp_list_tools","id":"mcpl_1","server_label":"s","tools":[]},
 {"type":"item_reference","id":"msg_9"},
 {"role":"user","content":"Go on."}],
"temperature":0.5,"top_p":0.9,"max_output_tokens":100,"top_logprobs":2,"frequency_penalty":0.1,"presence_penalty":0.2,"user":"u-1","safety_identifier":"s-1",
"prompt_cache_key":"k-1","prompt_cache_retention":"24h","prompt_cache_options":{"mode":"explicit"},"service_tier":"flex","metadata":{"team":"blue"},"parallel_tool_calls":false,
"moderation":{"model":"omni"},"max_tool_calls":3,"truncation":"auto","context_management":[{"type":"compaction"}],"prompt":{"id":"pmpt_1"},
"store":true,"background":true,"previous_response_id":"resp_1","conversation":{"id":"conv_1"},
"stream":true,"stream_options":{"include_obfuscation":false,"x_vendor":1},
"include":["message.output_text.logprobs","reasoning.encrypted_content","file_search_call.results","message.input_image.image_url"],
"reasoning":{"effort":"high","summary":"auto","context":"all_turns","mode":"pro","x_vendor":1},
"text":{"verbosity":"low","format":{"type":"json_schema","name":"weather","description":"The answer","schema":{"type":"object"},"strict":true,"x_vendor":1},"x_vendor":1},
"tools":[{"type":"function","name":"get_weather","description":"Weather of a city","parameters":{"type":"object","properties":{"city":{"type":"string"}}},"strict":true,"x_vendor":1},
 {"type":"custom","name":"run_code","description":"Runs Python","format":{"type":"grammar","syntax":"lark","definition":"start: /.+/"}},
 {"type":"web_search","search_context_size":"low"}],
"tool_choice":{"type":"allowed_tools","mode":"required","tools":[{"type":"function","name":"get_weather"},{"type":"custom","name":"run_code"}]},
"x_vendor":{"a":1}}`
}

func fullResponsesOther(more string) string {
	return `{` + more + `"model":"the-model","input":[{"role":"user","content":"Go on."},{"type":"message","role":"assistant","phase":"final_answer","content":"Done."},{"role":"developer","content":"Be quick."},{"role":"user","content":"More."}],
"store":false,"background":false,"reasoning":{"generate_summary":"detailed"},"text":{"format":{"type":"json_object"}},
"tools":[{"type":"function","name":"get_weather","parameters":{"type":"object","properties":{"city":{"type":"string"}},"required":["city"],"additionalProperties":false}},{"type":"function","name":"loose","parameters":{"type":"object","properties":{"city":{"type":"string"}}}}],
"tool_choice":{"type":"function","name":"get_weather"}}`
}

// asked is what became of a request: the bytes for the backend, what was lost,
// or the refusal.
type asked struct {
	body   string
	ledger []string
	err    *Error
}

func (a asked) String() string {
	if a.err != nil {
		return "refused: " + a.err.Param + ": " + a.err.Message
	}
	return a.body + "\nledger: " + strings.Join(a.ledger, ", ")
}

// askFull encodes a request for a backend of p.
func askFull(face, back *Protocol, in Inbound, body string, a *Agent) asked {
	in.Body = []byte(body)
	for i := range face.Routes {
		if face.Routes[i].Op == OpGenerate {
			in.Route = &face.Routes[i]
			break
		}
	}
	r, e := face.DecodeRequest(&in)
	if e != nil {
		return asked{err: e}
	}
	stream := r.Stream
	switch back.AsksStream {
	case StreamNever:
		stream = false
	case StreamAlways:
		stream = true
	}
	var out []byte
	if face == back {
		r.Ledger = Ledger{}
		out, e = back.SpliceRequest(nil, r, a)
	} else {
		out, e = back.Encode(nil, r, a, stream)
	}
	if e != nil {
		return asked{err: e}
	}
	query := ""
	if back.Query != nil {
		query = "?" + back.Query(r, a)
	}
	path := strings.ReplaceAll(back.BackendPath, "{id}", a.BackendModel(r))
	return asked{body: path + query + " " + string(out), ledger: r.Ledger.Names()}
}

// acceptable takes out of a request what is refused, one field at a time, and
// tells what that was.
func acceptable(t testing.TB, face, back *Protocol, in Inbound, a *Agent) (doc *tree, refused []string) {
	t.Helper()
	doc = parseTree(t, string(in.Body))
	for range 100 {
		got := askFull(face, back, in, doc.String(), a)
		if got.err == nil {
			return doc, refused
		}
		node, parent, rest := doc.at(got.err.Param)
		if len(refused) > 0 && got.err.Code == "missing_required_parameter" {
			return nil, refused // what it asked was refused, and nothing is left
		}
		if parent == nil || strings.ContainsAny(rest, ".[") { // of what a part lacks the name may be told
			t.Fatalf("%s to %s: the refusal names nothing that the client wrote: %s: %s", face.Name, back.Name, got.err.Param, got.err.Message)
		}
		name, leaf := node.path, node
		if parent.path != "" && slices.Contains([]string{"type", "file_id", "file_url"}, node.key) { // without it the part is nothing: the whole of it goes
			_, above, _ := doc.at("")
			doc.each(func(p, c *tree) {
				if c == parent {
					above = p
				}
			})
			node, parent = parent, above
		}
		refused = append(refused, name+" "+strings.TrimPrefix(strings.ReplaceAll(got.err.Message, got.err.Param, leaf.path), "'"+leaf.path+"' "))
		parent.remove(node)
	}
	t.Fatalf("%s to %s: there is no end of refusals: %q", face.Name, back.Name, refused)
	return nil, nil
}

// original says an entry of a ledger in the paths of the document as it was.
func original(doc *tree, entry string) string {
	node, parent, rest := doc.at(entry)
	switch {
	case parent == nil:
		return entry
	case rest != "":
		return node.path + "." + rest
	}
	return node.path
}

var coverageAgent = &Agent{Name: "it", Options: map[string]string{}}

// TestLedgers pins what every backend refuses and drops of a full-featured
// request of every face, field by field: translate/testdata/ledger/<face>.txt,
// which are written to be read.
func TestLedgers(t *testing.T) {
	t.Parallel()
	for _, face := range registry {
		t.Run(face.Name, func(t *testing.T) {
			t.Parallel()
			var b strings.Builder
			fmt.Fprintf(&b, "What a backend is not given of a request in %s that has everything.\n", face.Title)
			for _, back := range registry {
				in := fullRequests[face.Name][0]
				doc, refused := acceptable(t, face, back, in, coverageAgent)
				got := askFull(face, back, in, doc.String(), coverageAgent)
				fmt.Fprintf(&b, "\n== to %s\n", back.Name)
				dropped := make([]string, len(got.ledger))
				for i, n := range got.ledger {
					dropped[i] = original(doc, n)
				}
				for _, r := range inOrder(t, in, refused) {
					fmt.Fprintf(&b, "refused  %s\n", r)
				}
				for _, n := range inOrder(t, in, dropped) {
					fmt.Fprintf(&b, "dropped  %s\n", n)
				}
				if len(refused)+len(got.ledger) == 0 {
					b.WriteString("nothing\n")
				}
			}
			pinned(t, filepath.Join("testdata", "ledger", face.Name+".txt"), b.String())
		})
	}
}

// inOrder sorts lines that begin with a path by where that stands in the request,
// so that a list changes only when something is lost or no longer is.
func inOrder(t *testing.T, in Inbound, lines []string) []string {
	var all []string
	parseTree(t, string(in.Body)).each(func(_, c *tree) { all = append(all, c.path) })
	place := func(line string) int {
		path, _, _ := strings.Cut(line, " ")
		for i, above := range slices.Backward(all) { // what is below stands behind
			if under(path, above) {
				return i
			}
		}
		return len(all)
	}
	slices.SortStableFunc(lines, func(a, b string) int { return place(a) - place(b) })
	return lines
}

// pinned compares a text with a file, or writes it.
func pinned(t *testing.T, path, got string) {
	t.Helper()
	if flag.Lookup("update").Value.String() == "true" {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs (-update writes it):\n%s", path, lineDifference(got, string(want)))
	}
}

func lineDifference(got, want string) string {
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	var b strings.Builder
	for _, l := range g {
		if !slices.Contains(w, l) {
			b.WriteString("+ " + l + "\n")
		}
	}
	for _, l := range w {
		if !slices.Contains(g, l) {
			b.WriteString("- " + l + "\n")
		}
	}
	if b.Len() == 0 {
		return "the lines are the same, in another order"
	}
	return b.String()
}

// others are valid other values of members whose values are words of a protocol.
var others = map[string]string{
	"effort": `"low"`, "reasoning_effort": `"minimal"`, "detail": `"original"`, "phase": `"final_answer"`,
	"status": `"incomplete"`, "verbosity": `"medium"`, "tool_choice": `"auto"`, "max_loops": `4`, "version": `3`,
	"store": `false`, "n": `3`, "stream": `false`,
	"url": `"https://example.com/other.png"`, "image_url": `"https://example.com/other.png"`, "file_url": `"https://example.com/other.pdf"`,
	"img": `"https://example.com/other.png"`, "image": `"https://example.com/other.png"`, "file_data": `"data:application/pdf;base64,T1RIRVI="`,
}

// other is another value in the place of a scalar, "" if there is none; known
// says that it is valid there.
func other(n *tree) (v string, known bool) {
	if n.open != 0 || n.raw == "null" {
		return "", false
	}
	if v, ok := others[n.key]; ok && v != n.raw {
		return v, true
	}
	switch n.key + n.raw {
	case `role"user"`:
		return `"system"`, true
	case `role"system"`, `role"developer"`, `role"assistant"`, `role"tool"`, `role"function"`:
		return `"user"`, true
	case `role"it"`:
		return `"another"`, true
	case `mode"required"`:
		return `"auto"`, true
	case `mode"auto"`:
		return `"required"`, true
	}
	switch {
	case n.raw == "true":
		return "false", true
	case n.raw == "false":
		return "true", true
	case n.raw[0] != '"':
		return "1" + n.raw[strings.IndexAny(n.raw, "0123456789"):], false
	case strings.HasPrefix(n.raw, `"https://`), strings.HasPrefix(n.raw, `"data:`):
		return `"https://example.com/other.png"`, false
	}
	return n.raw[:len(n.raw)-1] + `x"`, false
}

// silent are fields that some backend is not told although the ledger does not
// name them, each with the reason why nothing is lost. Where the face, the
// backend or the index of a list is a star, it is any.
var silent = []struct{ face, backend, path, why string }{
	{"*", "*", "stream", "says how the client is answered, and the proxy does so"},
	{"*", "*", "stream_options.include_usage", "says how the client is answered"},
	{"swarms", "*", "agent_config.streaming_on", "says how the client is answered"},
	{"*", "cycls", "model", "chose the agent; the protocol has no models"},
	{"swarms", "*", "agent_config.agent_name", "chose the agent"},
	{"swarms", "cycls", "agent_config.model_name", "chose the agent; the protocol has no models"},
	{"*", "*", "n", "1 is what happens anyway"},
	{"*", "*", "modalities**", "text is what happens anyway"},
	{"*", "*", "background", "false is what happens anyway"},
	{"*", "(cognipeer|ticos|swarms|cycls)", "stream_options", "says that the client's stream should not be padded, and no stream of ours is"},
	{"*", "(cognipeer|ticos|swarms|cycls)", "stream_options.include_obfuscation", "as above"},
	{"*", "*", "response_format", "text is what happens anyway"},
	{"*", "*", "tool_choice", "auto and none among tools which the ledger names, or all of them allowed"},
	{"*", "*", "tool_choice.**", "of a choice among tools which the ledger names"},
	{"chat", "swarms", "tools", "the client forbids to call them"},
	{"chat", "swarms", "tools[*].function.**", "the client forbids to call them"},
	{"*", "*", "input[*].id", "names it in the store of the server it came from; calls and results are paired by call_id"},
	{"*", "*", "input[*].status", "how the item ended on the server it came from; what is there of it is carried"},
	{"*", "*", "input[*].content[*].logprobs**", "statistics of an earlier answer, which no server reads in a request"},
	{"*", "(cognipeer|ticos|swarms)", "messages[*].tool_calls[*].id", "pairs a call with its result, which the text puts under the same name"},
	{"*", "(cognipeer|ticos|swarms)", "messages[*].tool_call_id", "as above"},
	{"*", "(cognipeer|ticos|swarms)", "input[*].tool_calls[*].id", "as above"},
	{"*", "(cognipeer|ticos|swarms)", "input[*].tool_call_id", "as above"},
	{"*", "(cognipeer|ticos|swarms)", "input[*].call_id", "as above"},
	{"cycls", "(cognipeer|ticos|swarms)", "messages[*].tool_call_id", "as above"},
	{"cycls", "(cognipeer|ticos|swarms)", "messages[*].parts[*].id", "as above"},
	{"swarms", "*", "history[*].timestamp", "when the server said it"},
	{"swarms", "*", "history[*].message_id", "names it in the store of the server it came from"},
	{"swarms", "*", "history[*].category", "the server's own mark of what it said"},
	{"cycls", "*", "session_id", "names a conversation of which the client sends everything"},
	{"cycls", "*", "messages[*].attachments[*].size", "describes a file, which is carried"},
	{"cycls", "*", "messages[*].attachments[*].name", "describes an image, which is carried"},
	{"cycls", "*", "messages[*].attachments", "its one element describes an image, which is carried"},
}

var starIndex = regexp.MustCompile(`\[[0-9]+\]`)

func isSilent(face, back *Protocol, path string) bool {
	path = starIndex.ReplaceAllString(path, "[*]")
	for _, e := range silent {
		if (e.face == "*" || e.face == face.Name) && (e.backend == "*" || matches(e.backend, back.Name)) && (path == e.path || strings.HasSuffix(e.path, "**") && strings.HasPrefix(path, e.path[:len(e.path)-2])) {
			return true
		}
	}
	return false
}

// isImplied reports whether a path of the ledger stands for what the client
// meant by writing nothing.
func isImplied(path string) bool {
	return strings.HasPrefix(path, "tools[") && strings.HasSuffix(path, ".strict") // absent is strict in the Responses API
}

// TestNothingIsLostInSilence takes every member out of every full-featured
// request, and changes every value, for every backend: the backend is told
// otherwise, or the ledger names the loss, or the request is refused.
func TestNothingIsLostInSilence(t *testing.T) {
	t.Parallel()
	agents := map[string]*Agent{
		"":       coverageAgent,
		"openai": {Name: "it", Options: map[string]string{"openai": "true", "reasoning_history": "true"}},
	}
	for _, face := range registry {
		for _, back := range registry {
			if face == back {
				continue // the bytes pass: TestThrough…
			}
			for kind, agent := range agents {
				if kind != "" && back.Name != "chat" {
					continue
				}
				t.Run(face.Name+" to "+back.Name+" "+kind, func(t *testing.T) {
					t.Parallel()
					for i, in := range fullRequests[face.Name] {
						doc, _ := acceptable(t, face, back, in, agent)
						if doc == nil {
							continue
						}
						whole := askFull(face, back, in, doc.String(), agent)
						for _, n := range whole.ledger {
							if strings.HasSuffix(n, ")") || n == "id" { // unknown(n); of the query
								continue
							}
							if _, _, rest := doc.at(n); rest != "" && !isImplied(original(doc, n)) {
								t.Errorf("request %d: the ledger names %s, which the client did not write", i, original(doc, n))
							}
						}
						var dropped []string
						for _, n := range whole.ledger {
							dropped = append(dropped, original(doc, n))
						}
						doc.each(func(parent, c *tree) {
							if isSilent(face, back, c.path) || slices.ContainsFunc(dropped, func(n string) bool { return under(c.path, n) }) {
								return
							}
							if c.raw == "null" || c.open != 0 && len(c.child) == 0 {
								return // says nothing, or not any more
							}
							if c.key == "type" && c.open == 0 || parent.open == '[' && c.open != 0 || strings.Contains(c.path, "x_vendor.") {
								return // its neighbours, or its members, are tried
							}
							if !changed(face, back, in, doc, parent, c, agent) {
								t.Errorf("request %d: %s is lost in silence (%s)", i, c.path, c.raw)
							}
						})
					}
				})
			}
		}
	}
}

// changed reports whether anything tells the document from the same without c,
// or with another value in its place.
func changed(face, back *Protocol, in Inbound, doc, parent, c *tree, a *Agent) bool {
	whole := askFull(face, back, in, doc.String(), a).String()
	if parent.open == '{' {
		kept := parent.child
		parent.remove(c)
		got := askFull(face, back, in, doc.String(), a)
		parent.child = kept
		switch {
		case got.err == nil && got.String() != whole:
			return true
		case got.err != nil && c.open != 0:
			return true // it is required, and its members are tried
		}
	}
	v, known := other(c)
	if v == "" {
		return false
	}
	raw := c.raw
	c.raw = v
	got := askFull(face, back, in, doc.String(), a)
	if got.err != nil && !known {
		// Perhaps it has to be the same as another: a name, an id.
		doc.each(func(_, o *tree) {
			if o.raw == raw && o.open == 0 {
				o.raw = v
			}
		})
		got = askFull(face, back, in, doc.String(), a)
		doc.each(func(_, o *tree) {
			if o.raw == v && o.open == 0 {
				o.raw = raw
			}
		})
	}
	c.raw = raw
	return got.err == nil && got.String() != whole || got.err != nil && known
}
