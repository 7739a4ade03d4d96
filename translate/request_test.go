package translate

import (
	"bytes"
	"strings"
	"testing"

	"github.com/tidwall/gjson"

	"github.com/dragoman-proxy/dragoman/internal/jsonx"
)

// TestOddRequestsPassThrough sends what only a translation would have to make
// sense of: a backend of the client's own protocol gets it byte for byte, one of
// another protocol does not, and the client is told the field.
func TestOddRequestsPassThrough(t *testing.T) {
	t.Parallel()
	chat := func(members string) string {
		return `{"model":"m","messages":[{"role":"user","content":"q"}],` + members + `}`
	}
	messages := func(list string) string { return `{"model":"m","messages":[` + list + `]}` }
	resp := func(members string) string { return `{"model":"m","store":false,"input":"q",` + members + `}` }
	input := func(items string) string { return `{"model":"m","store":false,"input":[` + items + `]}` }
	for _, c := range []struct {
		face       *Protocol
		body, want string
	}{
		{&chatProtocol, chat(`"max_tokens":"5"`), "max_tokens"},
		{&chatProtocol, chat(`"temperature":"hot"`), "temperature"},
		{&chatProtocol, chat(`"seed":1.5`), "seed"},
		{&chatProtocol, chat(`"stop":5`), "stop"},
		{&chatProtocol, chat(`"n":0`), "n"},
		{&chatProtocol, chat(`"metadata":[]`), "metadata"},
		{&chatProtocol, chat(`"store":"yes"`), "store"},
		{&chatProtocol, chat(`"stream_options":[]`), "stream_options"},
		{&chatProtocol, chat(`"stream_options":{"include_obfuscation":1}`), "stream_options.include_obfuscation"},
		{&chatProtocol, chat(`"tools":{}`), "tools"},
		{&chatProtocol, chat(`"tools":["f"]`), "tools[0]"},
		{&chatProtocol, chat(`"tools":[{"function":{"name":"f"}}]`), "tools[0].type"},
		{&chatProtocol, chat(`"tools":[{"type":"function","function":{}}]`), "tools[0].function.name"},
		{&chatProtocol, chat(`"tools":[{"type":"custom","custom":{"name":"c","format":{"type":"peg"}}}]`), "tools[0].custom.format.type"},
		{&chatProtocol, chat(`"tools":[{"type":"retrieval"}]`), "tools[0].type"},
		{&chatProtocol, chat(`"tool_choice":"any"`), "tool_choice"},
		{&chatProtocol, chat(`"tool_choice":{"type":"allowed_tools","allowed_tools":{"mode":"some"}}`), "tool_choice.allowed_tools.mode"},
		{&chatProtocol, chat(`"function_call":5`), "function_call"},
		{&chatProtocol, chat(`"response_format":"json"`), "response_format"},
		{&chatProtocol, chat(`"response_format":{"type":"regex","regex":"a+"}`), "response_format.type"},
		{&chatProtocol, chat(`"response_format":{"type":"json_schema","json_schema":{"schema":{}}}`), "response_format.json_schema.name"},
		{&chatProtocol, `{"model":"m","messages":[]}`, "messages"},
		{&chatProtocol, messages(`"hi"`), "messages[0]"},
		{&chatProtocol, messages(`{"content":"q"}`), "messages[0].role"},
		{&chatProtocol, messages(`{"role":"wizard","content":"q"}`), "messages[0].role"},
		{&chatProtocol, messages(`{"role":"user"}`), "messages[0].content"},
		{&chatProtocol, messages(`{"role":"user","content":5}`), "messages[0].content"},
		{&chatProtocol, messages(`{"role":"user","name":5,"content":"q"}`), "messages[0].name"},
		{&chatProtocol, messages(`{"role":"user","content":[{"type":"video_url","video_url":{}}]}`), "messages[0].content[0].type"},
		{&chatProtocol, messages(`{"role":"user","content":[{"type":"image_url","image_url":{}}]}`), "messages[0].content[0].image_url.url"},
		{&chatProtocol, messages(`{"role":"assistant","tool_calls":[{"type":"function","function":{"name":"f"}}]}`), "messages[0].tool_calls[0].id"},
		{&chatProtocol, messages(`{"role":"assistant","tool_calls":[{"id":"1","type":"mcp"}]}`), "messages[0].tool_calls[0].type"},
		{&chatProtocol, messages(`{"role":"tool","content":"r"}`), "messages[0].tool_call_id"},

		{&responsesProtocol, resp(`"max_output_tokens":"5"`), "max_output_tokens"},
		{&responsesProtocol, resp(`"temperature":"hot"`), "temperature"},
		{&responsesProtocol, resp(`"instructions":["be brief"]`), "instructions"},
		{&responsesProtocol, resp(`"metadata":[]`), "metadata"},
		{&responsesProtocol, resp(`"stream_options":true`), "stream_options"},
		{&responsesProtocol, resp(`"include":"x"`), "include"},
		{&responsesProtocol, resp(`"include":[5]`), "include[0]"},
		{&responsesProtocol, resp(`"reasoning":"high"`), "reasoning"},
		{&responsesProtocol, resp(`"reasoning":{"effort":5}`), "reasoning.effort"},
		{&responsesProtocol, resp(`"text":"json"`), "text"},
		{&responsesProtocol, resp(`"text":{"verbosity":1}`), "text.verbosity"},
		{&responsesProtocol, resp(`"text":{"format":{"type":"regex"}}`), "text.format.type"},
		{&responsesProtocol, resp(`"tools":{}`), "tools"},
		{&responsesProtocol, resp(`"tools":[{"name":"f"}]`), "tools[0].type"},
		{&responsesProtocol, resp(`"tools":[{"type":"function"}]`), "tools[0].name"},
		{&responsesProtocol, resp(`"tools":[{"type":"custom","name":"c","format":{"type":"peg"}}]`), "tools[0].format.type"},
		{&responsesProtocol, resp(`"tools":[{"type":"telepathy"}]`), "tools[0].type"},
		{&responsesProtocol, resp(`"tool_choice":"any"`), "tool_choice"},
		{&responsesProtocol, `{"model":"m","store":false,"input":5}`, "input"},
		{&responsesProtocol, `{"model":"m","store":false,"input":[]}`, "input"},
		{&responsesProtocol, input(`"hi"`), "input[0]"},
		{&responsesProtocol, input(`{}`), "input[0].type"},
		{&responsesProtocol, input(`{"type":"telepathy"}`), "input[0].type"},
		{&responsesProtocol, input(`{"role":"wizard","content":"q"}`), "input[0].role"},
		{&responsesProtocol, input(`{"role":"user","content":5}`), "input[0].content"},
		{&responsesProtocol, input(`{"role":"user","content":[{"type":"input_video"}]}`), "input[0].content[0].type"},
		{&responsesProtocol, input(`{"type":"function_call","name":"f","arguments":"{}"}`), "input[0].call_id"},
		{&responsesProtocol, input(`{"type":"function_call_output","output":"r"}`), "input[0].call_id"},
	} {
		passed, e := c.face.DecodeRequest(&Inbound{Route: &c.face.Routes[0], Body: []byte(c.body), Lazy: true})
		if e != nil {
			t.Errorf("%s: %v", c.body, e)
			continue
		}
		if got, e := c.face.SpliceRequest(nil, passed, &Agent{Name: "it"}); e != nil || string(got) != c.body {
			t.Errorf("%s: passed through as %s, %v", c.body, got, e)
		}
		for _, backend := range registry {
			if backend == c.face {
				continue
			}
			got, _, e := translated(c.face, backend, c.body, &Agent{Name: "it"})
			if e == nil || e.Status != 400 || e.Param != c.want {
				t.Errorf("%s to %s: got %s %v, want a 400 for %s", c.body, backend.Name, got, e, c.want)
			}
		}
		// Without Inbound.Lazy the objection comes at once, unless it is about
		// what only some backends take.
		if _, e := c.face.DecodeRequest(&Inbound{Route: &c.face.Routes[0], Body: []byte(c.body)}); e != nil && e.Param != c.want {
			t.Errorf("%s: got %v, want a 400 for %s", c.body, e, c.want)
		}
	}
}

// TestUnroutableRequestsAreRefused: what says where to send a request and how to
// answer it must make sense even where nothing else is looked at.
func TestUnroutableRequestsAreRefused(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		face       *Protocol
		body, want string
	}{
		{&chatProtocol, `[]`, ""},
		{&chatProtocol, `{"model":5,"messages":[{"role":"user","content":"q"}]}`, "model"},
		{&chatProtocol, `{"model":"m","stream":"yes","messages":[{"role":"user","content":"q"}]}`, "stream"},
		{&chatProtocol, `{"model":"m"}`, "messages"},
		{&responsesProtocol, `[]`, ""},
		{&responsesProtocol, `{"model":5,"input":"q"}`, "model"},
		{&responsesProtocol, `{"model":"m","stream":1,"input":"q"}`, "stream"},
		{&responsesProtocol, `{"model":"m"}`, "input"},
		{&responsesProtocol, `{"model":"m","input":"q","previous_response_id":"resp_1"}`, "previous_response_id"},
		{&responsesProtocol, `{"model":"m","input":[{"type":"telepathy"},{"type":"item_reference","id":"x"}]}`, "input[1]"},
	} {
		if _, e := c.face.DecodeRequest(&Inbound{Route: &c.face.Routes[0], Body: []byte(c.body), Lazy: true}); e == nil || e.Param != c.want || e.Status != 400 {
			t.Errorf("%s: got %v, want a 400 for %q", c.body, e, c.want)
		}
	}
}

// TestStrictIsNeverChangedInSilence is the trap of an absent strict: not strict in
// Chat, strict in the Responses API if the schema is fit for it.
func TestStrictIsNeverChangedInSilence(t *testing.T) {
	t.Parallel()
	object := func(members string) string { return `{"type":"object",` + members + `}` }
	const closed = `"additionalProperties":false`
	f := func(schema string, fit bool) {
		t.Helper()
		// Chat's silence is said aloud to a Responses backend, whatever the schema.
		got, r, e := translated(&chatProtocol, &responsesProtocol,
			`{"messages":[{"role":"user","content":"q"}],"tools":[{"type":"function","function":{"name":"f","parameters":`+schema+`}}]}`, &Agent{Name: "it"})
		if e != nil || gjson.Get(got, "tools.0.strict").Raw != "false" || r.Ledger.Len() > 0 {
			t.Errorf("%s towards Responses: %s %v", schema, got, e)
		}
		got, r, e = translated(&responsesProtocol, &chatProtocol, `{"input":"q","tools":[{"type":"function","name":"f","parameters":`+schema+`}]}`, &Agent{Name: "it"})
		strict, lost := gjson.Get(got, "tools.0.function.strict").Raw, strings.Join(r.Ledger.Names(), " ")
		if e != nil || fit && (strict != "true" || lost != "") || !fit && (strict != "" || lost != "tools[0].strict") {
			t.Errorf("%s towards Chat: strict %q, lost %q, %v", schema, strict, lost, e)
		}
		if params := gjson.Get(got, "tools.0.function.parameters").Raw; params != string(jsonx.AppendCompact(nil, []byte(schema))) {
			t.Errorf("the schema became %s", params)
		}
		for _, word := range []string{"true", "false"} { // said aloud, it stays what it is
			got, r, e := translated(&responsesProtocol, &chatProtocol, `{"input":"q","tools":[{"type":"function","name":"f","strict":`+word+`,"parameters":`+schema+`}]}`, &Agent{Name: "it"})
			if e != nil || gjson.Get(got, "tools.0.function.strict").Raw != word || r.Ledger.Len() > 0 {
				t.Errorf("%s, strict %s: %s %v", schema, word, got, e)
			}
		}
	}
	one := object(`"properties":{"a":{"type":"string"}},"required":["a"],` + closed)
	f(one, true)
	f(object(`"properties":{},`+closed), true)
	f(object(`"properties":{"a":{"type":"string"}},"required":["a"]`), false)                                        // left open
	f(object(`"properties":{"a":{"type":"string"}},"required":["a"],"additionalProperties":true`), false)            // open
	f(object(`"properties":{"a":{"type":"string"}},`+closed), false)                                                 // optional
	f(object(`"properties":{"a":{"type":"string"},"b":{"type":["string","null"]}},"required":["a"],`+closed), false) // one of them
	f(object(`"properties":{"a":{"type":["string","null"]}},"required":["a"],`+closed), true)                        // may be null
	// Nested.
	f(object(`"properties":{"a":`+one+`},"required":["a"],`+closed), true)
	f(object(`"properties":{"a":{"type":"object","properties":{}}},"required":["a"],`+closed), false)
	f(object(`"properties":{"a":{"type":["object","null"]}},"required":["a"],`+closed), false)
	f(object(`"properties":{"a":{"type":"array","items":`+one+`}},"required":["a"],`+closed), true)
	f(object(`"properties":{"a":{"type":"array","items":{"type":"array","items":{"type":"object"}}}},"required":["a"],`+closed), false)
	f(object(`"properties":{"a":{"anyOf":[`+one+`,{"type":"null"}]}},"required":["a"],`+closed), true)
	f(object(`"properties":{"a":{"anyOf":[{"type":"object"},{"type":"null"}]}},"required":["a"],`+closed), false)
	f(object(`"properties":{"a":{"$ref":"#/$defs/x"}},"required":["a"],"$defs":{"x":`+one+`},`+closed), true)
	f(object(`"properties":{"a":{"$ref":"#/$defs/x"}},"required":["a"],"$defs":{"x":{"type":"object"}},`+closed), false)
	f(object(`"properties":{"a":{"$ref":"#/definitions/x"}},"required":["a"],"definitions":{"x":{"type":"object"}},`+closed), false)
	// Words that strict mode does not have.
	f(object(`"properties":{"a":{"allOf":[`+one+`]}},"required":["a"],`+closed), false)
	f(object(`"properties":{"a":{"oneOf":[`+one+`]}},"required":["a"],`+closed), false)
	f(object(`"properties":{"a":{"not":{}}},"required":["a"],`+closed), false)
	f(object(`"properties":{"not":{"type":"string"}},"required":["not"],`+closed), true) // a property of that name
	// Not an object at all.
	f(`{}`, false)
	f(`{"anyOf":[`+one+`]}`, false)
}

// TestUsageIsRequestedUpstream asks every face's streams for the count of tokens
// where they are translated, and nobody else's: not a server that refuses to be
// asked, and not a passed-through one unless the configuration says so.
func TestUsageIsRequestedUpstream(t *testing.T) {
	t.Parallel()
	quiet := map[string]string{"request_usage": "false"}
	always := map[string]string{"request_usage": "true"}
	bodies := map[string]string{
		"responses": `{"model":"m","input":"q","stream":true}`,
		"cognipeer": `{"model":"m","input":"q","stream":true}`,
		"ticos":     `{"input":"q","stream":true}`,
		"swarms":    `{"agent_config":{"agent_name":"m","streaming_on":true},"task":"q","stream":true}`,
		"cycls":     `{"messages":[{"role":"user","content":"q"}]}`,
	}
	for _, face := range registry {
		body, ok := bodies[face.Name]
		if !ok {
			continue
		}
		for _, stream := range []bool{true, false} {
			r, e := face.DecodeRequest(&Inbound{Route: &face.Routes[0], ID: "m", Body: []byte(body), Lazy: true})
			if e != nil {
				t.Fatal(face.Name, e)
			}
			got, e := chatProtocol.Encode(nil, r, &Agent{Name: "it"}, stream)
			if e != nil || gjson.GetBytes(got, "stream_options.include_usage").Bool() != stream {
				t.Errorf("%s, stream %v: %s %v", face.Name, stream, got, e)
			}
		}
		r, _ := face.DecodeRequest(&Inbound{Route: &face.Routes[0], ID: "m", Body: []byte(body), Lazy: true})
		if got, e := chatProtocol.Encode(nil, r, &Agent{Name: "it", Options: quiet}, true); e != nil || gjson.GetBytes(got, "stream_options").Exists() {
			t.Errorf("%s, a server that refuses to be asked: %s %v", face.Name, got, e)
		}
	}

	const head = `{"model":"m","messages":[{"role":"user","content":"q"}]`
	for _, c := range []struct {
		members string
		options map[string]string
		want    string
	}{
		{`,"stream":true}`, nil, head + `,"stream":true}`},
		{`,"stream":true}`, quiet, head + `,"stream":true}`},
		{`,"stream":true}`, always, `{"stream_options":{"include_usage":true},` + head[1:] + `,"stream":true}`},
		{`,"stream":false}`, always, head + `,"stream":false}`},
		{`,"stream":true,"stream_options":{"include_usage":true}}`, always, head + `,"stream":true,"stream_options":{"include_usage":true}}`},
		{`,"stream":true,"stream_options":{"include_obfuscation":false}}`, always, head + `,"stream":true,"stream_options":{"include_usage":true,"include_obfuscation":false}}`},
		{`,"stream":true,"stream_options":{ }}`, always, head + `,"stream":true,"stream_options":{"include_usage":true }}`},
		{`,"stream":true,"stream_options":null}`, always, head + `,"stream":true,"stream_options":{"include_usage":true}}`},
		{`,"stream":true,"stream_options":{"include_usage":false}}`, always, head + `,"stream":true,"stream_options":{"include_usage":true}}`},
		{`,"stream":true,"stream_options":"odd"}`, always, head + `,"stream":true,"stream_options":"odd"}`},
	} {
		r, e := chatProtocol.DecodeRequest(&Inbound{Body: []byte(head + c.members), Lazy: true})
		if e != nil {
			t.Fatal(e)
		}
		if got, e := chatProtocol.SpliceRequest(nil, r, &Agent{Name: "it", Options: c.options}); e != nil || string(got) != c.want {
			t.Errorf("%s %v: got\n%s %v\nwant\n%s", c.members, c.options, got, e, c.want)
		}
	}
}

// splicedBodies are requests whose bytes are worth keeping.
var splicedBodies = []string{
	`{}`, `{ }`, " \n{\n}\t", `{"model":"m"}`, `{"messages":[],"input":"q","model":"m"}`,
	`{"messages":[{"role":"user","content":"q"}],"seed":9007199254740993,"temperature":1.0,"top_p":1e400,"x":-0.0,"y":1E+2}`,
	" {\r\n\t\"messages\" : [ { \"role\" : \"user\" , \"content\" : \"q\" } ] ,\n \"input\" : [ ] , \"model\" : \"m\" } \n",
	`{"mod\u0065l":"a\u00e9\/\ud83d\ude00","messages":[{"role":"us\u0065r","content":"\u0041"}],"input":"\u0041"}`,
	`{"metadata":{"model":"inner","store":true,"temperature":0,"stream_options":{"include_usage":false}},"messages":[{"role":"user","content":"q","model":"x"}],"input":"q"}`,
	`{"text":{"model":"inner"},"model":"last"}`, `{"model":"first","zebra":{"a":[1,{"b":null}]}}`,
	`{"temperature":null,"max_tokens":null,"max_output_tokens":null,"model":null,"instructions":null,"stream_options":null,"messages":[],"input":"q","stream":true}`,
	`{"temperature":0,"max_completion_tokens":1,"max_output_tokens":1,"instructions":"i","messages":[{"role":"system","content":"s"}],"input":[{"role":"developer","content":"d"}],"model":"m"}`,
	`{"stream":true,"stream_options":{"include_usage":false,"x":1},"model":"m","messages":[ ],"input":[ ]}`,
	`{"store":true,"stream":true,"stream_options":{},"messages":[{"role":"wizard"}],"input":[{"type":"telepathy"}]}`,
	`{"a":"}{\"model\":\"no\"","model":"m","messages":"odd","input":7,"stream":true,"stream_options":[]}`,
	`{"":1,"messages ":[],"Model":"m","MODEL":"n","model.x":"o","m*":"p","input":"q"}`,
}

// spliceAgents are configurations with nothing, everything and something to edit.
var spliceAgents = []*Agent{
	{Name: "it"},
	{Name: "it", Model: "the \"model\"", SystemPrompt: "Be\nbrief.", MaxTokens: 4321, Temperature: "0.50", Options: map[string]string{"request_usage": "true"}},
	{Name: "it", Model: "m", Options: map[string]string{"openai": "true"}, MaxTokens: 7},
	{Name: "it", SystemPrompt: "s", Temperature: "1"},
}

// spliceEdits are the members that an edit may touch.
var spliceEdits = map[string][]string{
	"chat":      {"model", "messages", "max_tokens", "max_completion_tokens", "temperature", "stream_options"},
	"responses": {"model", "instructions", "max_output_tokens", "temperature", "store"},
}

// checkSplice holds an edited request against the client's: with the edits taken
// out again, it is the same, byte for byte.
func checkSplice(t *testing.T, p *Protocol, body []byte, a *Agent) {
	t.Helper()
	kept := bytes.Clone(body)
	r := &Request{Face: p, Body: body}
	if d, e := p.DecodeRequest(&Inbound{Route: &p.Routes[0], Body: body, Lazy: true}); e == nil {
		r = d
	}
	out, e := p.SpliceRequest(nil, r, a)
	if e != nil {
		t.Fatalf("%s: %v", body, e)
	}
	if !bytes.Equal(body, kept) {
		t.Fatal("the client's own bytes were changed")
	}
	if err := jsonx.Check(out, jsonx.CheckOptions{UTF8: true, Duplicates: 4}); err != nil {
		t.Fatalf("%s became %s: %v", body, out, err)
	}
	before, after := topMembers(string(body)), topMembers(string(out))
	for k, v := range before {
		edited := false
		for _, name := range spliceEdits[p.Name] {
			edited = edited || k == name
		}
		if !edited && after[k] != v {
			t.Fatalf("%s: %s became %s", k, v, after[k])
		}
	}
	// What is new stands at the front; the rest is the client's document with other
	// values in a few places.
	doc, at := string(body), 0
	rest := ""
	gjson.Parse(doc).ForEach(func(k, v gjson.Result) bool {
		rest += doc[at:v.Index] + after[k.String()]
		at = v.Index + len(v.Raw)
		return true
	})
	rest += doc[at:]
	brace := strings.IndexByte(rest, '{') + 1
	if !strings.HasPrefix(string(out), rest[:brace]) || !strings.HasSuffix(string(out), rest[brace:]) || len(out) < len(rest) {
		t.Fatalf("%s became %s, which is not %s with members at its front", body, out, rest)
	}
	added := string(out[brace : len(out)-(len(rest)-brace)])
	if added != "" && len(before) > 0 {
		added = strings.TrimSuffix(added, ",")
	}
	for k := range topMembers("{" + added + "}") {
		if _, ok := before[k]; ok {
			t.Fatalf("%s is there twice in %s", k, out)
		}
	}
	if len(after) != len(before)+len(topMembers("{"+added+"}")) {
		t.Fatalf("%s became %s", body, out)
	}
	if m := after["messages"]; m != before["messages"] {
		inner := strings.TrimPrefix(m, `[{"role":"system","content":`+quote(a.SystemPrompt)+`}`)
		if strings.TrimPrefix(inner, ",") != before["messages"][1:] {
			t.Fatalf("messages %s became %s", before["messages"], m)
		}
	}
	if a.Model != "" && after["model"] != quote(a.Model) {
		t.Fatalf("model %s", after["model"])
	}
	silent := func(keys ...string) bool {
		for _, k := range keys {
			if v := before[k]; v != "" && v != "null" {
				return false
			}
		}
		return true
	}
	if !silent("temperature") && after["temperature"] != before["temperature"] ||
		!silent("max_tokens", "max_completion_tokens") && (after["max_tokens"] != before["max_tokens"] || after["max_completion_tokens"] != before["max_completion_tokens"]) ||
		!silent("max_output_tokens") && after["max_output_tokens"] != before["max_output_tokens"] ||
		!silent("instructions") && after["instructions"] != before["instructions"] {
		t.Fatalf("a default over the client's own word: %s became %s", body, out)
	}
}

// TestPassThroughKeepsTheOrderOfKeys, and every other byte but those of the
// permitted edits.
func TestPassThroughKeepsTheOrderOfKeys(t *testing.T) {
	t.Parallel()
	for _, body := range splicedBodies {
		for _, a := range spliceAgents {
			checkSplice(t, &chatProtocol, []byte(body), a)
			checkSplice(t, &responsesProtocol, []byte(body), a)
		}
	}
}

func FuzzSplice(f *testing.F) {
	for _, body := range splicedBodies {
		f.Add([]byte(body))
	}
	for _, table := range [][]parameter{chatParameters, responsesParameters} {
		for _, c := range table {
			f.Add([]byte(`{` + strings.Trim(c.body, "{}") + `,"messages":[],"input":"q"}`))
		}
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		if jsonx.Check(body, jsonx.CheckOptions{UTF8: true, Duplicates: 4}) != nil || !gjson.ParseBytes(body).IsObject() {
			return // what the proxy's gate keeps out
		}
		for _, a := range spliceAgents {
			checkSplice(t, &chatProtocol, body, a)
			checkSplice(t, &responsesProtocol, body, a)
		}
	})
}

// TestSchemasKeepTheOrderOfTheirKeys in translation too: the order of a schema's
// properties is the order in which a model writes them, and a prompt cache knows
// a prompt by its bytes.
func TestSchemasKeepTheOrderOfTheirKeys(t *testing.T) {
	t.Parallel()
	const schema = `{"zebra":1,"type":"object","properties":{"second":{"type":"number","maximum":9007199254740993},"first":{"const":1.0}},"required":["second","first"],"additionalProperties":false}`
	for _, backend := range []*Protocol{&responsesProtocol, &swarmsProtocol} {
		got, _, e := translated(&chatProtocol, backend, `{"messages":[{"role":"user","content":"q"}],"tools":[{"type":"function","function":{"name":"f","parameters":`+schema+`}}]}`, &Agent{Name: "it"})
		if e != nil || !strings.Contains(got, schema) {
			t.Errorf("%s: %s %v", backend.Name, got, e)
		}
	}
	got, _, e := translated(&responsesProtocol, &chatProtocol, `{"input":"q","tools":[{"type":"function","name":"f","parameters":`+schema+`}],"text":{"format":{"type":"json_schema","name":"n","schema":`+schema+`}}}`, &Agent{Name: "it"})
	if e != nil || strings.Count(got, schema) != 2 {
		t.Errorf("chat: %s %v", got, e)
	}
}

// TestFollowUpOfToolOutputAloneIsRefused: a client that sends nothing but the
// output of a tool counts on a conversation that is kept somewhere. Without it
// the transcript would be broken, so that the client is told, by every backend
// that needs a translation.
func TestFollowUpOfToolOutputAloneIsRefused(t *testing.T) {
	t.Parallel()
	f := func(face *Protocol, body, want string) {
		t.Helper()
		for _, backend := range registry {
			if backend == face {
				continue
			}
			if got, _, e := translated(face, backend, body, &Agent{Name: "it"}); e == nil || e.Status != 400 || e.Param != want {
				t.Errorf("%s to %s: got %s %v, want a 400 for %s", face.Name, backend.Name, got, e, want)
			}
		}
	}
	f(&responsesProtocol, `{"model":"m","input":[{"type":"function_call_output","call_id":"call_1","output":"18 °C"}]}`, "input[0]")
	f(&responsesProtocol, `{"model":"m","previous_response_id":"resp_1","input":[{"type":"function_call_output","call_id":"call_1","output":"18 °C"}]}`, "previous_response_id")
	f(&responsesProtocol, `{"model":"m","input":[{"type":"function_call","call_id":"call_2","name":"f","arguments":"{}"},{"type":"function_call_output","call_id":"call_1","output":"18 °C"}]}`, "input[1]")
	f(&chatProtocol, `{"model":"m","messages":[{"role":"tool","tool_call_id":"call_1","content":"18 °C"}]}`, "messages[0]")
}

// TestCallIDsOfARequestAreNeverRewritten: a call's id is opaque and the same on both sides,
// and an item's id is none of a backend's business.
func TestCallIDsOfARequestAreNeverRewritten(t *testing.T) {
	t.Parallel()
	for _, id := range []string{"call_1", "fc_1", "toolu_01", "x y\u00e9\"", strings.Repeat("9", 64)} {
		got, _, e := translated(&responsesProtocol, &chatProtocol, `{"input":[{"type":"function_call","id":"fc_77","call_id":`+quote(id)+`,"name":"f","arguments":"{}"},{"type":"function_call_output","id":"fc_78","call_id":`+quote(id)+`,"output":"r"}]}`, &Agent{Name: "it"})
		if e != nil || gjson.Get(got, "messages.0.tool_calls.0.id").String() != id || gjson.Get(got, "messages.1.tool_call_id").String() != id || strings.Contains(got, "fc_7") {
			t.Errorf("%s: %s %v", id, got, e)
		}
		got, _, e = translated(&chatProtocol, &responsesProtocol, `{"messages":[{"role":"assistant","tool_calls":[{"id":`+quote(id)+`,"type":"function","function":{"name":"f","arguments":"{}"}}]},{"role":"tool","tool_call_id":`+quote(id)+`,"content":"r"}]}`, &Agent{Name: "it"})
		if e != nil || gjson.Get(got, "input.0.call_id").String() != id || gjson.Get(got, "input.1.call_id").String() != id || strings.Contains(got, `"id"`) {
			t.Errorf("%s: %s %v", id, got, e)
		}
	}
}

// TestImagesReachTheBackendOrAreRefused: an image is in what the backend is sent,
// or the client is told at once that it cannot be; one by the id of a store that
// the backend does not have always so.
func TestImagesReachTheBackendOrAreRefused(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		face       *Protocol
		part, want string
		by         string
	}{
		{&responsesProtocol, `{"type":"input_image","detail":"auto","image_url":"https://x.test/zebra.png"}`, "https://x.test/zebra.png", "URL"},
		{&responsesProtocol, `{"type":"input_image","detail":"auto","image_url":"data:image/png;base64,iVBORw0KGgo="}`, "iVBORw0KGgo=", "data"},
		{&responsesProtocol, `{"type":"input_image","detail":"auto","file_id":"file-zebra"}`, "", "id"},
		{&responsesProtocol, `{"type":"input_file","file_id":"file-zebra"}`, "", "id"},
		{&chatProtocol, `{"type":"image_url","image_url":{"url":"https://x.test/zebra.png"}}`, "https://x.test/zebra.png", "URL"},
		{&chatProtocol, `{"type":"image_url","image_url":{"url":"data:image/png;base64,iVBORw0KGgo="}}`, "iVBORw0KGgo=", "data"},
		{&chatProtocol, `{"type":"file","file":{"file_id":"file-zebra"}}`, "", "id"},
	} {
		body, where := `{"model":"m","input":[{"role":"user","content":[{"type":"input_text","text":"look"},`+c.part+`]}]}`, "input[0].content[1]"
		if c.face == &chatProtocol {
			body, where = `{"model":"m","messages":[{"role":"user","content":[{"type":"text","text":"look"},`+c.part+`]}]}`, "messages[0].content[1]"
		}
		for _, backend := range registry {
			if backend == c.face {
				continue
			}
			got, _, e := translated(c.face, backend, body, &Agent{Name: "it"})
			switch {
			case e != nil:
				if e.Status != 400 || !strings.HasPrefix(e.Param, where) {
					t.Errorf("%s to %s, by %s: %v", c.face.Name, backend.Name, c.by, e)
				}
				if c.want != "" && (backend == &chatProtocol || backend == &responsesProtocol || backend == &ticosProtocol) {
					t.Errorf("%s to %s, by %s: %v, and it has a place for images", c.face.Name, backend.Name, c.by, e)
				}
			case c.want == "" || !strings.Contains(got, c.want):
				t.Errorf("%s to %s, by %s: it was lost: %s", c.face.Name, backend.Name, c.by, got)
			}
		}
	}
}
