package translate

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tidwall/gjson"

	"github.com/dragoman-proxy/dragoman/internal/jsonx"
	"github.com/dragoman-proxy/dragoman/internal/sse"
)

const respTestSeed = "00112233445566778899aabbccddeeff"

func respTestSetup(r *Request) *Setup {
	return &Setup{
		Request: r, Agent: &Agent{Name: "weather"}, Seed: respTestSeed, Created: 1767225600, Ledger: &Ledger{},
		Now: func() time.Time { return time.Unix(1767225605, 0) },
	}
}

// respTestRequest is a request as the golden cases have it.
func respTestRequest(t testing.TB, face *Protocol) *Request {
	t.Helper()
	body := `{"model":"weather","input":"What is the weather in Paris?","include":["reasoning.encrypted_content"],"tools":[` +
		`{"type":"function","name":"get_weather","parameters":{"type":"object"}},{"type":"custom","name":"run_code"}]}`
	r, err := face.DecodeRequest(&Inbound{Body: []byte(body)})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// respFeed decodes a stream in pieces of n bytes, 0 for all at once.
func respFeed(d Decoder, stream []byte, n int, cut bool, out Sink) {
	var r sse.Reader
	for len(stream) > 0 {
		k := len(stream)
		if n > 0 {
			k = min(n, k)
		}
		r.Feed(stream[:k])
		stream = stream[k:]
		for f, ok := r.Next(); ok; f, ok = r.Next() {
			d.Frame(&f, out)
		}
	}
	var cause *Error
	if cut {
		cause = Truncated(nil)
	} else if f, ok := r.Flush(); ok {
		d.Frame(&f, out)
	}
	d.End(cause, out)
}

// respCase is a golden case of a backend.
type respCase struct {
	proto        *Protocol
	stream, body []byte
	cut          bool
	events       string
}

func respCases(t testing.TB) map[string]respCase {
	t.Helper()
	cases := map[string]respCase{}
	for _, p := range []*Protocol{&responsesProtocol, &cognipeerProtocol} {
		dirs, err := filepath.Glob(filepath.Join("testdata", p.Name, "*"))
		if err != nil || len(dirs) == 0 {
			t.Fatalf("no cases of %s: %v", p.Name, err)
		}
		for _, dir := range dirs {
			if _, err := os.Stat(filepath.Join(dir, "backend.status")); err == nil {
				continue // no decoder sees an HTTP error
			}
			c := respCase{proto: p}
			c.stream, _ = os.ReadFile(filepath.Join(dir, "backend.sse"))
			c.body, _ = os.ReadFile(filepath.Join(dir, "backend.json"))
			_, err := os.Stat(filepath.Join(dir, "cut"))
			c.cut = err == nil
			events, err := os.ReadFile(filepath.Join(dir, "events.txt"))
			if err != nil {
				t.Fatal(err)
			}
			c.events = string(events)
			cases[p.Name+"/"+filepath.Base(dir)] = c
		}
	}
	return cases
}

// play decodes the case into out.
func (c *respCase) play(s *Setup, n int, out Sink) {
	d := c.proto.NewDecoder(s)
	if c.body != nil {
		d.JSON(c.body, out)
		return
	}
	respFeed(d, c.stream, n, c.cut, out)
}

func TestResponsesDecodesEveryCase(t *testing.T) {
	t.Parallel()
	for name, c := range respCases(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			want := canonicalEvents(t, c.events)
			for _, n := range []int{0, 1, 7} {
				var log eventLog
				check := &Checker{Next: &log}
				r := respTestRequest(t, &responsesProtocol)
				r.Face = &chatProtocol // a client of the API's own has the items as they are
				c.play(respTestSetup(r), n, check)
				if got := log.String(); got != want {
					t.Errorf("pieces of %d: got\n%s\nwant\n%s", n, got, want)
				}
				if check.Err() != nil || !check.Ended() {
					t.Errorf("pieces of %d: %v, ended %v", n, check.Err(), check.Ended())
				}
			}
		})
	}
}

// TestResponsesStreamsKeepTheGrammar sends every case through the encoder: the
// stream keeps to the grammar, and the JSON answer has the same items.
func TestResponsesStreamsKeepTheGrammar(t *testing.T) {
	t.Parallel()
	for name, c := range respCases(t) {
		for _, face := range []*Protocol{&responsesProtocol, &cognipeerProtocol} {
			t.Run(name+"/"+face.Name, func(t *testing.T) {
				t.Parallel()
				s := respTestSetup(respTestRequest(t, face))
				enc := &respSink{enc: face.NewEncoder(s)}
				c.play(s, 0, stages(s, face, enc))
				if err := checkResponsesStream(enc.out); err != nil {
					t.Fatal(err)
				}
				fold := NewFold()
				c.play(s, 0, stages(s, face, fold))
				if fold.Err != nil {
					return
				}
				body := face.AppendAnswer(nil, s, fold)
				if !jsonx.Valid(body) {
					t.Fatalf("not JSON: %s", body)
				}
				if err := checkResponsesObject(gjson.ParseBytes(body)); err != nil {
					t.Errorf("%v\n%s", err, body)
				}
				events := strings.Split(string(enc.out), "\n\n")
				last := events[len(events)-3]
				_, last, _ = strings.Cut(last, `"response":`)
				if got, want := string(body), last[:len(last)-1]; got != want {
					t.Errorf("JSON answer\n%s\nterminal event\n%s", got, want)
				}
			})
		}
	}
}

// respSink writes the stream of an encoder.
type respSink struct {
	enc Encoder
	out []byte
}

func (s *respSink) Event(e *Event) { s.out = s.enc.Encode(s.out, e) }

func respEncode(t *testing.T, r *Request, events string) (string, *Setup) {
	t.Helper()
	s := respTestSetup(r)
	enc := newRespEncoder(s)
	var out []byte
	for _, e := range parseEventText(t, events) {
		out = enc.Encode(out, e)
	}
	if err := checkResponsesStream(out); err != nil {
		t.Fatal(err)
	}
	return string(out), s
}

// respLast is the response of the terminal event.
func respLast(t *testing.T, stream string) gjson.Result {
	t.Helper()
	frames := strings.Split(stream, "\n\n")
	_, data, _ := strings.Cut(frames[len(frames)-3], "\ndata: ")
	return gjson.Get(data, "response")
}

func TestResponsesEncoder(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, events string
		want         map[string]string // path in the last response → raw
		ledger       string
	}{
		{"text after a call opens a new message", `start
block 0 text msg=0 part=0
delta 0 "a"
end 0
block 1 tool_call msg=0 part=0 name="f" call="call_1"
delta 1 "{}"
end 1
block 2 text msg=0 part=0
delta 2 "b"
end 2
finish stop`, map[string]string{"output.#.type": `["message","function_call","message"]`, "output.2.content.0.text": `"b"`, "output.1.call_id": `"call_1"`}, ""},
		{"blocks of one message are one part", `start
block 0 text msg=0 part=0
delta 0 "é\""
end 0
block 1 text msg=0 part=1
delta 1 " more"
annotation 1 {"type":"url_citation","start_index":1,"end_index":5,"url":"u","title":"t"}
end 1
finish stop`, map[string]string{"output.#": "1", "output.0.content.#": "1", "output.0.content.0.text": `"é\" more"`,
			"output.0.content.0.annotations.0.start_index": "3", "output.0.content.0.annotations.0.end_index": "7"}, ""},
		{"reasoning of both kinds is a summary", `start
block 0 reasoning msg=0 part=0
delta 0 "raw"
end 0
block 1 reasoning msg=0 part=1 summary
delta 1 "sum"
end 1
block 2 text msg=0 part=2
delta 2 "x"
end 2
finish stop`, map[string]string{"output.0.summary.#.text": `["raw","sum"]`, "output.1.type": `"message"`}, ""},
		{"length is incomplete", `start
block 0 text msg=0 part=0
delta 0 "x"
end 0
finish length`, map[string]string{"status": `"incomplete"`, "incomplete_details.reason": `"max_output_tokens"`, "output.0.status": `"incomplete"`, "completed_at": "null"}, ""},
		{"content filter is incomplete", "start\nfinish content_filter", map[string]string{"incomplete_details.reason": `"content_filter"`, "output": "[]"}, ""},
		{"cancelled is incomplete", "start\nfinish cancelled", map[string]string{"incomplete_details.reason": `"cancelled"`}, ""},
		{"usage", "start\nusage input=3 output=4\nusage output=5 reasoning=2\nfinish stop", map[string]string{
			"usage": `{"input_tokens":3,"input_tokens_details":{"cached_tokens":0,"cache_write_tokens":0},"output_tokens":5,"output_tokens_details":{"reasoning_tokens":2},"total_tokens":8}`}, ""},
		{"no usage is null", "start\nfinish stop", map[string]string{"usage": "null"}, ""},
		{"a call without arguments", `start
block 0 tool_call msg=0 part=0 name="f" call="c"
end 0
finish tool_calls`, map[string]string{"output.0.arguments": `"{}"`, "status": `"completed"`}, ""},
		{"calls that ran are not the client's", `start
block 0 tool_call msg=0 part=0 name="f" call="c" ran
delta 0 "{}"
end 0
block 1 data msg=0 part=0 name="ui"
delta 1 "{}"
end 1
finish stop`, map[string]string{"output": "[]"}, "ran_tool_call data"},
		{"a new version of a text", `start
block 0 text msg=0 part=0
delta 0 "ab"
delta 0 "ab\"c" replace
delta 0 "new" replace
end 0
finish stop`, map[string]string{"output.0.content.0.text": `"ab\"c\n\nnew"`}, "replaced_text"},
		{"failure in a text", `start
block 0 text msg=0 part=0
delta 0 "ab"
fail status=502 code="x" message="Broke."`, map[string]string{"status": `"failed"`, "error": `{"code":"x","message":"Broke."}`, "output.0.status": `"incomplete"`}, ""},
		{"failure in a call", `start
block 0 tool_call msg=0 part=0 name="f" call="c"
delta 0 "{\"a\":"
fail status=502 code="x" message="Broke."`, map[string]string{"output": "[]"}, ""},
		{"failure before the start", `fail status=502 code="x" message="Broke."`, map[string]string{"output": "[]", "error.code": `"x"`}, ""},
		{"two refusals", `start
block 0 refusal msg=0 part=0
delta 0 "no"
end 0
block 1 refusal msg=0 part=1
delta 1 "never"
end 1
finish stop`, map[string]string{"output.0.content.#.refusal": `["no","never"]`}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			out, s := respEncode(t, &Request{Face: &responsesProtocol, Body: []byte(`{}`)}, c.events)
			last := respLast(t, out)
			for path, want := range c.want {
				if got := last.Get(path).Raw; got != want {
					t.Errorf("%s is %s, want %s", path, got, want)
				}
			}
			if got := strings.Join(s.Ledger.Names(), " "); got != c.ledger {
				t.Errorf("ledger %q, want %q", got, c.ledger)
			}
		})
	}
}

func TestResponsesEchoesTheRequest(t *testing.T) {
	t.Parallel()
	body := `{"model":"m","input":"x","instructions":"Be\nbrief","max_output_tokens":99,"metadata":{ "a" : "b" },"temperature":0.70,` +
		"\n" + `"text":{"verbosity":"low"},"reasoning":{"effort":"high"},"tool_choice":{"type":"function","name":"f"},"top_p":1.0,"user":"u","service_tier":"auto",` +
		`"tools":[{"type":"function","name":"f","parameters":{}}],"parallel_tool_calls":false,"truncation":"auto","store":true,"top_logprobs":null}`
	r, err := responsesProtocol.DecodeRequest(&Inbound{Body: []byte(body)})
	if err != nil {
		t.Fatal(err)
	}
	out, _ := respEncode(t, r, "start\nfinish stop")
	last := respLast(t, out)
	for path, want := range map[string]string{
		"instructions": `"Be\nbrief"`, "max_output_tokens": "99", "metadata": `{"a":"b"}`, "temperature": "0.70",
		"text": `{"format":{"type":"text"},"verbosity":"low"}`, "reasoning": `{"effort":"high","summary":null}`,
		"tool_choice": `{"type":"function","name":"f"}`, "top_p": "1.0", "user": `"u"`, "service_tier": `"default"`,
		"tools":               `[{"type":"function","name":"f","parameters":{},"description":null,"strict":null}]`,
		"parallel_tool_calls": "false", "truncation": `"auto"`, "store": "false", "top_logprobs": "0", "model": `"m"`,
		"previous_response_id": "null", "id": `"resp_` + respTestSeed + `"`, "created_at": "1767225600", "completed_at": "1767225605",
	} {
		if got := last.Get(path).Raw; got != want {
			t.Errorf("%s is %s, want %s", path, got, want)
		}
	}
}

// respTurns writes turns one a line, for comparison.
func respTurns(r *Request) string {
	var b strings.Builder
	for i := range r.Turns {
		t := &r.Turns[i]
		b.WriteString(t.Role.String())
		if t.Phase != PhaseNone {
			b.WriteString("/" + t.Phase.String())
		}
		if t.Instructions {
			b.WriteString("!")
		}
		b.WriteString(":")
		for j := range t.Blocks {
			k := &t.Blocks[j]
			b.WriteString(" " + k.Type.String() + "(" + firstOf(k.Text, k.URL, k.FileID, k.MIME+","+k.Data))
			if k.CallID != "" {
				b.WriteString(" " + k.Name + "#" + k.CallID)
			}
			for _, p := range k.Parts {
				b.WriteString(" +" + p.Type.String() + "=" + firstOf(p.Text, p.URL))
			}
			if k.Opaque != "" {
				b.WriteString(" opaque=" + k.Opaque)
			}
			b.WriteString(")@" + k.Path.String())
		}
		b.WriteString("\n")
	}
	return b.String()
}

func TestResponsesDecodesInput(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, body, want string }{
		{"string", `{"input":"hi"}`, "user: text(hi)@input\n"},
		{"instructions come first", `{"input":"hi","instructions":"be kind"}`,
			"system!: text(be kind)@instructions\nuser: text(hi)@input\n"},
		{"easy messages", `{"input":[{"role":"developer","content":"d"},{"type":"message","role":"assistant","content":[{"type":"output_text","text":"a","annotations":[]}],"phase":"commentary"}]}`,
			"developer: text(d)@input[0].content\nassistant/commentary: text(a)@input[1].content[0]\n"},
		{"parts", `{"input":[{"role":"user","content":[{"type":"input_text","text":"t"},{"type":"input_image","image_url":"http://x/i.png","detail":"low"},{"type":"input_image","file_id":"file_1"},{"type":"input_file","filename":"a.pdf","file_data":"data:application/pdf;base64,AAA="},{"type":"input_file","file_url":"http://x/f"}]}]}`,
			"user: text(t)@input[0].content[0] image(http://x/i.png)@input[0].content[1] image(file_1)@input[0].content[2] file(application/pdf,AAA=)@input[0].content[3] file(http://x/f)@input[0].content[4]\n"},
		{"calls join the message before them", `{"input":[{"role":"assistant","content":"look"},{"type":"function_call","call_id":"c1","name":"f","arguments":"{}"},{"type":"custom_tool_call","call_id":"c2","name":"g","input":"x"},{"type":"function_call_output","call_id":"c1","output":"one"},{"type":"custom_tool_call_output","call_id":"c2","output":[{"type":"input_text","text":"two"},{"type":"input_image","image_url":"u"}]}]}`,
			"assistant: text(look)@input[0].content tool_call({} f#c1)@input[1] tool_call(x g#c2)@input[2]\n" +
				"tool: tool_result(one #c1)@input[3]\ntool: tool_result(, #c2 +text=two +image=u)@input[4]\n"},
		{"calls alone", `{"input":[{"role":"user","content":"q"},{"type":"function_call","call_id":"c1","name":"f","arguments":"{}"},{"type":"function_call","call_id":"c2","name":"f","arguments":""}]}`,
			"user: text(q)@input[0].content\nassistant: tool_call({} f#c1)@input[1] tool_call(, f#c2)@input[2]\n"},
		{"reasoning comes back", `{"input":[{"type":"reasoning","id":"rs_1","summary":[{"type":"summary_text","text":"s1"},{"type":"summary_text","text":"s2"}],"encrypted_content":"E"},{"role":"assistant","content":"a"},{"type":"reasoning","summary":[],"encrypted_content":"F"},{"type":"function_call","call_id":"c","name":"f","arguments":"{}"},{"type":"reasoning","summary":[]}]}`,
			"assistant: reasoning(s1)@input[0].summary[0] reasoning(s2 opaque=E)@input[0].summary[1] text(a)@input[1].content\n" +
				"assistant: reasoning(, opaque=F)@input[2] tool_call({} f#c)@input[3]\n"},
		{"nulls that SDKs dump", `{"input":[{"type":"reasoning","id":"rs_1","summary":[],"content":null,"encrypted_content":null},{"type":"reasoning","summary":null,"content":null,"encrypted_content":"E"},{"role":"assistant","content":[{"type":"output_text","text":"a","annotations":null,"logprobs":null}]}]}`,
			"assistant: reasoning(, opaque=E)@input[1] text(a)@input[2].content[0]\n"},
		{"refusal", `{"input":[{"role":"assistant","content":[{"type":"refusal","refusal":"no"}]}]}`, "assistant: refusal(no)@input[0].content[0]\n"},
		{"a search that the server ran", `{"input":[{"role":"user","content":"q"},{"type":"web_search_call","id":"ws_1","status":"completed","action":{"type":"search","query":"x"}}]}`,
			"user: text(q)@input[0].content\nassistant: tool_call({\"type\":\"search\",\"query\":\"x\"} web_search#ws_1)@input[1]\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r, err := responsesProtocol.DecodeRequest(&Inbound{Body: []byte(c.body)})
			if err != nil {
				t.Fatal(err)
			}
			if got := respTurns(r); got != c.want {
				t.Errorf("got\n%s\nwant\n%s", got, c.want)
			}
		})
	}
}

func TestResponsesRefusesRequests(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ body, param string }{
		{`[]`, ""},
		{`{}`, "input"},
		{`{"input":null}`, "input"},
		{`{"input":""}`, "input"},
		{`{"input":[]}`, "input"},
		{`{"input":5}`, "input"},
		{`{"instructions":"i","input":[{"type":"reasoning","summary":[]}]}`, "input"},
		{`{"input":{}}`, "input"},
		{`{"input":["x"]}`, "input[0]"},
		{`{"input":[{"role":"user","content":"x"},{"type":"mystery"}]}`, "input[1].type"},
		{`{"input":[{"type":"item_reference","id":"msg_1"}]}`, "input[0]"},
		{`{"input":[{"id":"msg_1"}]}`, "input[0]"},
		{`{"input":[{"type":5}]}`, "input[0].type"},
		{`{"input":[{"role":"boss","content":"x"}]}`, "input[0].role"},
		{`{"input":[{"role":"user"}]}`, "input[0].content"},
		{`{"input":[{"role":"user","content":[{"type":"input_audio"}]}]}`, "input[0].content[0].type"},
		{`{"input":[{"role":"user","content":[{"type":"input_text"}]}]}`, "input[0].content[0].text"},
		{`{"input":[{"role":"user","content":[{"type":"input_image","image_url":{"url":"x"}}]}]}`, "input[0].content[0].image_url"},
		{`{"input":[{"role":"user","content":[{"type":"input_file"}]}]}`, "input[0].content[0]"},
		{`{"input":[{"type":"function_call","name":"f","arguments":"{}"}]}`, "input[0].call_id"},
		{`{"input":[{"type":"function_call","call_id":"c","name":"f"}]}`, "input[0].arguments"},
		{`{"input":[{"type":"function_call_output","output":"x"}]}`, "input[0].call_id"},
		{`{"input":[{"type":"function_call_output","call_id":"c"}]}`, "input[0].output"},
		{`{"input":[{"type":"function_call_output","call_id":"c","output":[{"type":"x"}]}]}`, "input[0].output[0].type"},
		{`{"input":"x","previous_response_id":"resp_1"}`, "previous_response_id"},
		{`{"input":"x","conversation":{"id":"conv_1"}}`, "conversation"},
		{`{"input":"x","background":true}`, "background"},
		{`{"input":"x","background":"yes"}`, "background"},
		{`{"input":"x","model":5}`, "model"},
		{`{"input":"x","stream":"yes"}`, "stream"},
		{`{"input":"x","store":1}`, "store"},
		{`{"input":"x","temperature":"hot"}`, "temperature"},
		{`{"input":"x","max_output_tokens":1.5}`, "max_output_tokens"},
		{`{"input":"x","metadata":[]}`, "metadata"},
		{`{"input":"x","instructions":[]}`, "instructions"},
		{`{"input":"x","include":"y"}`, "include"},
		{`{"input":"x","include":[5]}`, "include[0]"},
		{`{"input":"x","reasoning":"high"}`, "reasoning"},
		{`{"input":"x","reasoning":{"effort":5}}`, "reasoning.effort"},
		{`{"input":"x","text":5}`, "text"},
		{`{"input":"x","text":{"verbosity":5}}`, "text.verbosity"},
		{`{"input":"x","text":{"format":{"type":5}}}`, "text.format.type"},
		{`{"input":"x","text":{"format":{"type":"json_schema","schema":{}}}}`, "text.format.name"},
		{`{"input":"x","text":{"format":{"type":"json_schema","name":"n"}}}`, "text.format.schema"},
		{`{"input":"x","tools":{}}`, "tools"},
		{`{"input":"x","tools":[{"name":"f"}]}`, "tools[0].type"},
		{`{"input":"x","tools":[{"type":"function"}]}`, "tools[0].name"},
		{`{"input":"x","tools":[{"type":"function","name":"f","parameters":"{}"}]}`, "tools[0].parameters"},
		{`{"input":"x","tools":[{"type":"function","name":"f","strict":"no"}]}`, "tools[0].strict"},
		{`{"input":"x","tools":[{"type":"custom","name":"f","format":"text"}]}`, "tools[0].format"},
		{`{"input":"x","text":{"format":{"type":"json_schema","name":"n","schema":{},"strict":"no"}}}`, "text.format.strict"},
		{`{"input":"x","reasoning":{"generate_summary":5}}`, "reasoning.generate_summary"},
		{`{"input":"x","stream_options":{"include_obfuscation":5}}`, "stream_options.include_obfuscation"},
		{`{"input":"x","tool_choice":"maybe"}`, "tool_choice"},
		{`{"input":"x","tool_choice":{"type":"function"}}`, "tool_choice.name"},
		{`{"input":"x","tool_choice":{"type":"allowed_tools","mode":"x"}}`, "tool_choice.mode"},
		{`{"input":"x","tool_choice":{"type":"allowed_tools","mode":"auto"}}`, "tool_choice.tools"},
		{`{"input":"x","tool_choice":{"type":"allowed_tools","mode":"auto","tools":[{"type":"function"}]}}`, "tool_choice.tools[0].name"},
	} {
		_, err := responsesProtocol.DecodeRequest(&Inbound{Body: []byte(c.body)})
		if err == nil {
			t.Errorf("%s: accepted", c.body)
			continue
		}
		if err.Param != c.param || err.Status != 400 || err.Message == "" {
			t.Errorf("%s: got %d %q %q, want 400 %q", c.body, err.Status, err.Param, err.Message, c.param)
		}
	}
	for _, body := range []string{
		`{"input":"x","previous_response_id":null,"conversation":null,"background":false,"tools":null,"tool_choice":null,"text":null,"reasoning":null,"include":null}`,
		`{"input":"x","text":{"format":null,"verbosity":null},"reasoning":{"effort":null}}`,
		`{"input":[{"type":"computer_call_output","call_id":"c","output":{"type":"computer_screenshot"}}]}`,
		`{"prompt":{"id":"pmpt_1"}}`,
		`{"input":"x","tools":[{"type":"function","name":"f","strict":null}],"stream_options":{"include_obfuscation":null}}`,
	} {
		if _, err := responsesProtocol.DecodeRequest(&Inbound{Body: []byte(body)}); err != nil {
			t.Errorf("%s: %v", body, err)
		}
	}
}

func TestResponsesDecodesSettings(t *testing.T) {
	t.Parallel()
	r, err := responsesProtocol.DecodeRequest(&Inbound{Body: []byte(`{"model":"m","input":"x","stream":true,"store":false,
		"temperature":0.5,"top_p":1,"max_output_tokens":100,"top_logprobs":3,"user":"u","safety_identifier":"s","prompt_cache_key":"k",
		"prompt_cache_retention":"24h","service_tier":"flex","metadata":{"a":"b"},"parallel_tool_calls":false,"max_tool_calls":3,
		"truncation":"auto","reasoning":{"effort":"low","summary":"auto","context":"all"},"text":{"verbosity":"low","format":{"type":"json_schema","name":"n","description":"d","schema":{"type":"object"},"strict":true}},
		"include":["message.output_text.logprobs","reasoning.encrypted_content","file_search_call.results"],"stream_options":{"include_obfuscation":false},
		"tools":[{"type":"function","name":"f","description":"df","parameters":{"type":"object"}},{"type":"function","name":"g","strict":false},{"type":"custom","name":"c","format":{"type":"grammar","syntax":"lark","definition":"x"}},{"type":"web_search"}],
		"tool_choice":{"type":"allowed_tools","mode":"required","tools":[{"type":"function","name":"f"},{"type":"web_search"}]},"zzz":1,"yyy":2}`)})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, s := range r.Settings {
		got = append(got, s.Path.String()+"="+s.Raw)
	}
	want := `temperature=0.5 top_p=1 max_output_tokens=100 top_logprobs=3 user="u" safety_identifier="s" prompt_cache_key="k" prompt_cache_retention="24h" ` +
		`service_tier="flex" metadata={"a":"b"} parallel_tool_calls=false max_tool_calls=3 truncation="auto" reasoning.effort="low" reasoning.summary="auto" ` +
		`reasoning.context={"context":"all"} text.verbosity="low" include[0]=true include[1]=true include[2]="file_search_call.results" stream_options.include_obfuscation=false`
	if g := strings.Join(got, " "); g != want {
		t.Errorf("got\n%s\nwant\n%s", g, want)
	}
	if !r.Stream || r.Store != No || r.Model != "m" || r.Agent != "m" || r.AgentPath.String() != "model" {
		t.Errorf("%+v", r)
	}
	if f := r.Format; f.Kind != FormatJSONSchema || f.Name != "n" || f.Strict != Yes || f.Schema != `{"type":"object"}` {
		t.Errorf("%+v", f)
	}
	if !r.Tools[0].StrictByDefault || r.Tools[0].Strict != Unset || r.Tools[1].StrictByDefault || r.Tools[1].Strict != No ||
		r.Tools[2].Grammar.Syntax != "lark" || r.Tools[3].Kind != ToolBuiltin || r.Tools[3].Name != "web_search" {
		t.Errorf("%+v", r.Tools)
	}
	if c := r.ToolChoice; c.Mode != ChoiceAllowed || !c.Forces() || len(c.Tools) != 2 || c.Tools[1].Kind != ToolBuiltin {
		t.Errorf("%+v", c)
	}
	if got := strings.Join(r.Ledger.Names(), " "); got != "unknown(2)" {
		t.Errorf("ledger %q", got)
	}
}

func TestResponsesEncodesRequests(t *testing.T) {
	t.Parallel()
	chat := &Protocol{Name: "chat"}
	text := func(s string) []Block { return []Block{{Type: BlockText, Text: s, Path: At("messages")}} }
	for _, c := range []struct {
		name   string
		r      Request
		want   string
		ledger string
	}{
		{"plain", Request{Model: "m", Turns: []Turn{{Role: RoleSystem, Blocks: text("s")}, {Role: RoleUser, Blocks: text("u\"")}}},
			`{"model":"m","input":[{"type":"message","role":"system","content":"s"},{"type":"message","role":"user","content":"u\""}],"store":false,"stream":true}`, ""},
		{"store and instructions", Request{Model: "m", Store: Yes, Turns: []Turn{{Role: RoleSystem, Instructions: true, Blocks: text("s")}, {Role: RoleUser, Blocks: text("u")}}},
			`{"model":"m","instructions":"s","input":[{"type":"message","role":"user","content":"u"}],"store":true,"stream":true}`, ""},
		{"tool round trip", Request{Model: "m", Turns: []Turn{
			{Role: RoleUser, Blocks: text("q")},
			{Role: RoleAssistant, Blocks: []Block{
				{Type: BlockReasoning, Text: "lost", Path: At("messages").In("reasoning")},
				{Type: BlockText, Text: "look", ID: "msg_9"},
				{Type: BlockToolCall, CallID: "c1", Name: "f", Text: `{"a":1}`, ID: "fc_9"},
				{Type: BlockToolCall, CallID: "c2", Name: "g", Text: `x`, Custom: true},
			}},
			{Role: RoleTool, Blocks: []Block{{Type: BlockToolResult, CallID: "c1", Text: "one"}}},
			{Role: RoleTool, Blocks: []Block{{Type: BlockToolResult, CallID: "c2", Parts: []Block{{Type: BlockText, Text: "two"}, {Type: BlockImage, URL: "u"}}}}},
		}, Tools: []Tool{{Kind: ToolCustom, Name: "g"}}},
			`{"model":"m","input":[{"type":"message","role":"user","content":"q"},{"type":"message","role":"assistant","content":"look"},` +
				`{"type":"function_call","call_id":"c1","name":"f","arguments":"{\"a\":1}"},{"type":"custom_tool_call","call_id":"c2","name":"g","input":"x"},` +
				`{"type":"function_call_output","call_id":"c1","output":"one"},` +
				`{"type":"custom_tool_call_output","call_id":"c2","output":[{"type":"input_text","text":"two"},{"type":"input_image","detail":"auto","image_url":"u"}]}],` +
				`"store":false,"stream":true,"tools":[{"type":"custom","name":"g"}]}`, "messages.reasoning"},
		{"strict", Request{Model: "m", Turns: []Turn{{Role: RoleUser, Blocks: text("q")}}, Tools: []Tool{
			{Name: "a", Parameters: `{ "type" : "object" }`}, {Name: "b", Strict: Yes}, {Name: "c", Strict: No}, {Name: "d", StrictByDefault: true, Description: "dd"},
		}, ToolChoice: ToolChoice{Mode: ChoiceNamed, Name: "a"}},
			`{"model":"m","input":[{"type":"message","role":"user","content":"q"}],"store":false,"stream":true,"tools":[` +
				`{"type":"function","name":"a","parameters":{"type":"object"},"strict":false},` +
				`{"type":"function","name":"b","parameters":{"type":"object","properties":{}},"strict":true},` +
				`{"type":"function","name":"c","parameters":{"type":"object","properties":{}},"strict":false},` +
				`{"type":"function","name":"d","description":"dd","parameters":{"type":"object","properties":{}}}],"tool_choice":{"type":"function","name":"a"}}`, ""},
		{"settings", Request{Model: "m", Turns: []Turn{{Role: RoleUser, Blocks: text("q")}},
			Format: Format{Kind: FormatJSONSchema, Name: "n", Schema: `{"type":"object"}`, Strict: Yes},
			Settings: []Setting{
				{ParamTemperature, "0.70", At("temperature")}, {ParamMaxTokens, "5", At("max_tokens")}, {ParamStop, `["x"]`, At("stop")},
				{ParamSeed, "1", At("seed")}, {ParamLogitBias, `{"5":1}`, At("logit_bias")}, {ParamFrequencyPenalty, "1", At("frequency_penalty")},
				{ParamN, "1", At("n")}, {ParamLogprobs, "true", At("logprobs")}, {ParamTopLogprobs, "2", At("top_logprobs")},
				{ParamReasoningEffort, `"low"`, At("reasoning_effort")}, {ParamVerbosity, `"low"`, At("verbosity")}, {ParamMetadata, `{"a":"b"}`, At("metadata")},
				{ParamWebSearch, `{"search_context_size":"low","user_location":{"type":"approximate","approximate":{"city":"Bern"}}}`, At("web_search_options")},
				{ParamModalities, `["text"]`, At("modalities")}, {ParamPrediction, `{}`, At("prediction")}, {ParamIncludeObfuscation, "false", At("stream_options")},
			}},
			`{"model":"m","input":[{"type":"message","role":"user","content":"q"}],"store":false,"stream":true,` +
				`"tools":[{"type":"web_search","search_context_size":"low","user_location":{"type":"approximate","city":"Bern"}}],` +
				`"temperature":0.70,"max_output_tokens":16,"top_logprobs":2,"metadata":{"a":"b"},"stream_options":{"include_obfuscation":false},` +
				`"text":{"verbosity":"low","format":{"type":"json_schema","name":"n","schema":{"type":"object"},"strict":true}},` +
				`"reasoning":{"effort":"low"},"include":["message.output_text.logprobs"]}`,
			"max_tokens stop seed logit_bias frequency_penalty prediction"},
		{"parts", Request{Model: "m", Turns: []Turn{{Role: RoleUser, Name: "bob", Path: AtIndex("messages", 0), Blocks: []Block{
			{Type: BlockText, Text: "t"}, {Type: BlockImage, URL: "u", Detail: "low"}, {Type: BlockImage, Data: "AA==", MIME: "image/gif"},
			{Type: BlockFile, Name: "a.pdf", Data: "BB==", MIME: "application/pdf"}, {Type: BlockCode, Language: "go", Text: "x"}}}}},
			`{"model":"m","input":[{"type":"message","role":"user","content":[{"type":"input_text","text":"t"},{"type":"input_image","detail":"low","image_url":"u"},` +
				`{"type":"input_image","detail":"auto","image_url":"data:image/gif;base64,AA=="},{"type":"input_file","filename":"a.pdf","file_data":"data:application/pdf;base64,BB=="},` +
				`{"type":"input_text","text":"` + "````go\\nx\\n````" + `"}]}],"store":false,"stream":true}`, "messages[0].name"},
		{"encrypted reasoning goes back", Request{Model: "m", Turns: []Turn{{Role: RoleAssistant, Blocks: []Block{
			{Type: BlockReasoning, Summary: true, Text: "s1"}, {Type: BlockReasoning, Summary: true, Text: "s2", Opaque: "E"},
			{Type: BlockReasoning, Opaque: "F"}, {Type: BlockText, Text: "a"}}}}},
			`{"model":"m","input":[{"type":"reasoning","summary":[{"type":"summary_text","text":"s1"},{"type":"summary_text","text":"s2"}],"encrypted_content":"E"},` +
				`{"type":"reasoning","summary":[],"encrypted_content":"F"},{"type":"message","role":"assistant","content":"a"}],"store":false,"stream":true}`, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.r.Face = chat
			got, err := responsesProtocol.Encode(nil, &c.r, &Agent{Name: "ag"}, true)
			if err != nil {
				t.Fatal(err)
			}
			if string(got) != c.want {
				t.Errorf("got\n%s\nwant\n%s", got, c.want)
			}
			if l := strings.Join(c.r.Ledger.Names(), " "); l != c.ledger {
				t.Errorf("ledger %q, want %q", l, c.ledger)
			}
			if _, err := responsesProtocol.DecodeRequest(&Inbound{Body: got}); err != nil {
				t.Errorf("our own face refuses it: %v", err)
			}
		})
	}
}

func TestResponsesRefusesWhatItCannotAsk(t *testing.T) {
	t.Parallel()
	user := []Turn{{Role: RoleUser, Blocks: []Block{{Type: BlockText, Text: "x"}}}}
	for _, c := range []struct {
		r     Request
		param string
	}{
		{Request{Turns: user, Settings: []Setting{{ParamN, "2", At("n")}}}, "n"},
		{Request{Turns: user, Settings: []Setting{{ParamAudio, "{}", At("audio")}}}, "audio"},
		{Request{Turns: user, Settings: []Setting{{ParamModalities, `["audio"]`, At("modalities")}}}, "modalities"},
		{Request{Turns: user, Tools: []Tool{{Kind: ToolBuiltin, Name: "x", Path: AtIndex("tools", 0)}}}, "tools[0].type"},
		{Request{Turns: []Turn{{Blocks: []Block{{Type: BlockAudio, Path: AtIndex("messages", 0)}}}}}, "messages[0]"},
	} {
		c.r.Face = &Protocol{Name: "chat"}
		_, err := responsesProtocol.EncodeRequest(nil, &c.r, &Agent{Name: "ag"}, false)
		if err == nil || err.Param != c.param || err.Status != 400 {
			t.Errorf("got %v, want a 400 that names %s", err, c.param)
		}
	}
}

func TestResponsesSplicesRequests(t *testing.T) {
	t.Parallel()
	full := &Agent{Name: "ag", Model: "real", SystemPrompt: "Be \"kind\"", MaxTokens: 50, Temperature: "0.3"}
	for _, c := range []struct {
		a          *Agent
		body, want string
	}{
		{&Agent{}, `{ "z":1e400, "store": false, "input":"x" }`, `{ "z":1e400, "store": false, "input":"x" }`},
		{&Agent{}, `{"input":"x","store":true}`, `{"input":"x","store":false}`},
		{&Agent{}, ` {"input":"x"}`, ` {"store":false,"input":"x"}`},
		{full, `{"model":"m","input":"x","store":false}`,
			`{"instructions":"Be \"kind\"","max_output_tokens":50,"temperature":0.3,"model":"real","input":"x","store":false}`},
		{full, `{"model":"m","input":[{"role":"system","content":"s"}],"temperature":1,"max_output_tokens":null,"store":null}`,
			`{"model":"real","input":[{"role":"system","content":"s"}],"temperature":1,"max_output_tokens":50,"store":false}`},
	} {
		r, err := responsesProtocol.DecodeRequest(&Inbound{Body: []byte(c.body)})
		if err != nil {
			t.Fatal(err)
		}
		got, err := responsesProtocol.SpliceRequest(nil, r, c.a)
		if err != nil || string(got) != c.want {
			t.Errorf("got  %s (%v)\nwant %s", got, err, c.want)
		}
	}
}

func TestResponsesTellsACutOfAPassedStream(t *testing.T) {
	t.Parallel()
	r := respTestRequest(t, &responsesProtocol)
	r.Stream = true
	c := respCases(t)["responses/done_without_end"]
	a := NewAnswer(respTestSetup(r), &responsesProtocol, true, true)
	out := a.Feed(nil, c.stream)
	out = a.End(out, nil)
	if !a.PassedThrough() || a.Err() == nil {
		t.Fatalf("through %v, err %v", a.PassedThrough(), a.Err())
	}
	passed, tail, _ := strings.Cut(string(out), "event: error\n")
	if want := strings.TrimSuffix(string(c.stream), "data: [DONE]\n\n"); passed != want {
		t.Errorf("passed\n%s\nwant\n%s", passed, want)
	}
	if want := `data: {"type":"error","sequence_number":5,"error":{"message":"The agent's answer broke off before its end.","type":"server_error","param":null,"code":"stream_truncated"}}` +
		"\n\nevent: response.failed\ndata: {\"type\":\"response.failed\",\"sequence_number\":6,\"response\":{\"id\":\"resp_68a1\""; !strings.HasPrefix(tail, want) {
		t.Errorf("got\n%s\nwant\n%s", tail, want)
	}
	if err := checkResponsesObject(respLast(t, string(out))); err != nil {
		t.Error(err)
	}
	if got := respLast(t, string(out)).Get("output").Raw; got != "[]" { // the items are in the events before it
		t.Errorf("output %s", got)
	}
	if !strings.HasSuffix(tail, "\n\ndata: [DONE]\n\n") {
		t.Errorf("no [DONE]: %s", tail)
	}
}

func TestResponsesKeepsNativeItems(t *testing.T) {
	t.Parallel()
	c := respCases(t)["responses/web_search"]
	s := respTestSetup(respTestRequest(t, &cognipeerProtocol))
	enc := &respSink{enc: newRespEncoder(s)}
	c.play(s, 0, stages(s, &cognipeerProtocol, enc))
	if got, want := respLast(t, string(enc.out)).Get("output.0").Raw,
		`{"id":"ws_1","type":"web_search_call","status":"completed","action":{"type":"search","query":"weather paris"}}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if s.Ledger.Len() > 0 {
		t.Errorf("ledger %v", s.Ledger.Names())
	}
}

func TestResponsesTellsGeneratedImages(t *testing.T) {
	t.Parallel()
	body := `{"id":"r","status":"completed","output":[{"type":"image_generation_call","id":"ig_1","status":"completed","result":"AAA=","output_format":"webp","revised_prompt":"a cat"}]}`
	call := "start id=\"r\"\nblock 0 tool_call msg=0 part=0 id=\"ig_1\" name=\"image_generation\" call=\"ig_1\" ran\nend 0\n"
	image := "block 1 image msg=0 part=1 id=\"ig_1\" url=\"data:image/webp;base64,AAA=\" alt=\"a cat\"\nend 1\n"
	for _, c := range []struct {
		face *Protocol
		want string
	}{
		{&responsesProtocol, call + "finish stop word=\"completed\"\n"}, // where it is an item
		{&chatProtocol, call + image + "finish stop word=\"completed\"\n"},
	} {
		var log eventLog
		newRespDecoder(respTestSetup(&Request{Face: c.face})).JSON([]byte(body), &log)
		if got := log.String(); got != c.want {
			t.Errorf("%s: got\n%s\nwant\n%s", c.face.Name, got, c.want)
		}
	}
}

func TestResponsesGivesNativeItemsIDs(t *testing.T) {
	t.Parallel()
	s := respTestSetup(respTestRequest(t, &responsesProtocol))
	enc := &respSink{enc: newRespEncoder(s)}
	body := `{"status":"completed","output":[{"type":"mcp_list_tools","tools":[]},{"type":"mcp_list_tools","id":"m"},{"type":"mcp_list_tools","id":"m"}]}`
	newRespDecoder(s).JSON([]byte(body), enc)
	if err := checkResponsesStream(enc.out); err != nil {
		t.Fatal(err)
	}
	if got, want := respLast(t, string(enc.out)).Get("output.#.id").Raw, `["item_`+respTestSeed+`00","m","item_`+respTestSeed+`02"]`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestResponsesBoundsWhatItKeeps(t *testing.T) {
	t.Parallel()
	enc := newRespEncoder(respTestSetup(&Request{Face: &responsesProtocol, Body: []byte(`{}`)}))
	text := []byte(strings.Repeat("x", 1<<20))
	var out []byte
	for _, e := range parseEventText(t, "start created=1760000000\nblock 0 text msg=0 part=0") {
		out = enc.Encode(out, e)
	}
	for range MaxAnswer>>20 + 2 {
		out = enc.Encode(out, &Event{Kind: EventBlockDelta, Data: text})
	}
	out = enc.Encode(out, &Event{Kind: EventBlockEnd})
	out = enc.Encode(out, &Event{Kind: EventFinish})
	if err := checkResponsesStream(out); err != nil {
		t.Fatal(err)
	}
	last := respLast(t, string(out))
	if got := last.Get("status").String() + last.Get("created_at").Raw; got != "failed1760000000" {
		t.Errorf("got %s", got)
	}
}

func TestResponsesShapeTakesOnlyWhatIsEqual(t *testing.T) {
	t.Parallel()
	const first = `{"type":"response.output_text.delta","sequence_number":9,"item_id":"m","output_index":0,"content_index":0,"delta":"a","logprobs":[],"obfuscation":"xy"}`
	for _, c := range []struct {
		old, new string
		want     bool
	}{
		{`"a"`, `"other text, ü"`, true},
		{`:9,`, `:10,`, true},
		{`"xy"`, `""`, true},
		{`"a"`, `"\n"`, false},
		{`"a"`, "\"\x01\"", false},
		{`"a"`, `""`, false},
		{`"a"`, `"a" `, false},
		{`"a"`, `null`, false},
		{`:9,`, `:09,`, false},
		{`:9,`, `:,`, false},
		{`:9,`, `:-9,`, false},
		{`:9,`, `:9.0,`, false},
		{`:9,`, `:99999999999999999999,`, false},
		{`"m"`, `"n"`, false},
		{`"output_index":0`, `"output_index":1`, false},
		{`"xy"}`, `"xy"`, false},
		{`"xy"}`, `"xy"}}`, false},
		{`"xy"}`, `"xy`, false},
		{`[]`, `[1]`, false},
	} {
		d := newRespDecoder(respTestSetup(nil))
		frame := &sse.Frame{Data: []byte(first)}
		d.Frame(frame, respDiscard{})
		if !d.shape.ok {
			t.Fatal("no shape")
		}
		data := strings.Replace(first, c.old, c.new, 1)
		if got := d.shape.match([]byte(data)); got != c.want {
			t.Errorf("%s: got %v, want %v", data, got, c.want)
		}
	}
	// The members may come in any order.
	d := newRespDecoder(respTestSetup(nil))
	var log eventLog
	for _, data := range []string{
		`{"content_index":0,"delta":"a","item_id":"m","logprobs":[],"output_index":0,"sequence_number":4,"type":"response.output_text.delta"}`,
		`{"content_index":0,"delta":"b","item_id":"m","logprobs":[],"output_index":0,"sequence_number":5,"type":"response.output_text.delta"}`,
		`{"content_index":0,"delta":"\u0063","item_id":"m","logprobs":[],"output_index":0,"sequence_number":6,"type":"response.output_text.delta"}`,
	} {
		d.Frame(&sse.Frame{Data: []byte(data)}, &log)
	}
	if got, want := log.String(), "start\nblock 0 text msg=0 part=0 id=\"m\"\ndelta 0 \"a\"\ndelta 0 \"b\"\ndelta 0 \"c\"\n"; got != want || d.LastSeq() != 6 {
		t.Errorf("got\n%swant\n%slast %d", got, want, d.LastSeq())
	}
}

func TestResponsesHotPathAllocatesNothing(t *testing.T) {
	s := respTestSetup(respTestRequest(t, &responsesProtocol))
	d := newRespDecoder(s)
	enc := newRespEncoder(s)
	enc.output = make([]byte, 0, 1<<20)
	out := &respSink{enc: enc, out: make([]byte, 0, 1<<20)}
	open := "event: response.output_item.added\ndata: {\"type\":\"response.output_item.added\",\"sequence_number\":2,\"output_index\":0,\"item\":{\"id\":\"msg_1\",\"type\":\"message\",\"content\":[]}}\n\n"
	frame := []byte("event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"sequence_number\":4,\"item_id\":\"msg_1\",\"output_index\":0,\"content_index\":0,\"delta\":\" w\\\"ör\\n\",\"logprobs\":[],\"obfuscation\":\"abc\"}\n\n")
	var r sse.Reader
	feed := func(p []byte) {
		r.Feed(p)
		for f, ok := r.Next(); ok; f, ok = r.Next() {
			d.Frame(&f, out)
		}
	}
	feed([]byte(open))
	feed(frame)
	if n := testing.AllocsPerRun(1000, func() { out.out = out.out[:0]; feed(frame) }); n != 0 {
		t.Errorf("%v allocations an event", n)
	}
}

func TestResponsesWritesARepeatedSettingOnce(t *testing.T) {
	t.Parallel()
	r := &Request{Face: &Protocol{Name: "chat"}, Turns: []Turn{{Blocks: []Block{{Type: BlockText, Text: "x"}}}}}
	r.Set(ParamMaxTokens, "100", At("max_tokens"))
	r.Set(ParamMaxTokens, "100", At("max_completion_tokens"))
	got, err := responsesProtocol.EncodeRequest(nil, r, &Agent{Name: "ag"}, false)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(got), "max_output_tokens"); n != 1 {
		t.Errorf("written %d times: %s", n, got)
	}
}

func TestResponsesLinksWhatTheAssistantShowed(t *testing.T) {
	t.Parallel()
	shown := func(b Block) *Request {
		b.Path = At("messages")
		return &Request{Face: &Protocol{Name: "cycls"}, Turns: []Turn{{Role: RoleAssistant, Blocks: []Block{{Type: BlockText, Text: "see"}, b}}}}
	}
	for _, c := range []struct {
		r    *Request
		want string
	}{
		{shown(Block{Type: BlockImage, URL: "https://e.com/a.png", Alt: "A"}),
			`[{"type":"message","role":"assistant","content":[{"type":"output_text","text":"see","annotations":[]},{"type":"output_text","text":"![A](https://e.com/a.png)","annotations":[]}]}]`},
		{shown(Block{Type: BlockImage, URL: "data:image/png;base64,AA=="}), ""},
		{shown(Block{Type: BlockImage, FileID: "file-1"}), ""},
	} {
		got, err := responsesProtocol.EncodeRequest(nil, c.r, &Agent{Name: "ag"}, false)
		if (err != nil) != (c.want == "") || gjson.GetBytes(got, "input").Raw != c.want {
			t.Errorf("got %s, %v, want %s", got, err, c.want)
		}
	}
}

// TestResponsesTellsTheTruthOfOddStreams decodes streams that contradict
// themselves, or tell something only at their end.
func TestResponsesTellsTheTruthOfOddStreams(t *testing.T) {
	t.Parallel()
	const delta = `{"type":"response.output_text.delta","item_id":"m","output_index":0,"content_index":0,"delta":"x"}`
	const said = "start\nblock 0 text msg=0 part=0 id=\"m\"\ndelta 0 \"x\"\n"
	for _, c := range []struct {
		name   string
		frames []string
		want   string
		ledger string
	}{
		{"an error, then a good end", []string{delta, `{"type":"error","error":{"message":"boom","code":"server_error"}}`,
			`{"type":"response.completed","response":{"status":"completed","output":[]}}`},
			said + "fail status=502 code=\"server_error\" message=\"boom\"\n", ""},
		{"an error in a good end", []string{delta, `{"type":"response.completed","response":{"status":"completed","error":{"code":"server_error","message":"boom"},"output":[]}}`},
			said + "fail status=502 code=\"server_error\" message=\"boom\"\n", ""},
		{"an empty error in a good end", []string{delta, `{"type":"response.completed","response":{"status":"completed","error":{ },"output":[]}}`},
			said + "end 0\nfinish stop word=\"completed\"\n", ""},
		{"an error that is a text", []string{`{"error":"overloaded"}`}, "fail status=502 code=\"agent_error\" message=\"overloaded\"\n", ""},
		{"incomplete by name, completed by status", []string{delta, `{"type":"response.incomplete","response":{"status":"completed","incomplete_details":{"reason":"content_filter"},"output":[]}}`},
			said + "end 0 incomplete\nfinish content_filter word=\"content_filter\"\n", ""},
		{"incomplete without a reason", []string{delta, `{"type":"response.incomplete","response":{"status":"incomplete","incomplete_details":null,"output":[]}}`},
			said + "end 0 incomplete\nfinish length word=\"incomplete\"\n", ""},
		{"no output at all", []string{`{"type":"response.completed","response":{"id":"r","output":null}}`},
			"start id=\"r\"\nfinish stop word=\"completed\"\n", ""},
		{"output of no items", []string{`{"type":"response.completed","response":{"id":"r","output":[null,5,"x"]}}`},
			"start id=\"r\"\nfinish stop word=\"completed\"\n", ""},
		{"a call that only the end tells", []string{delta, `{"type":"response.completed","response":{"output":[{"type":"message","id":"m","content":[{"type":"output_text","text":"x"}]},{"type":"function_call","id":"fc","call_id":"c","name":"f","arguments":"{}"}]}}`},
			said + "end 0\nblock 1 tool_call msg=1 part=0 id=\"fc\" name=\"f\" call=\"c\"\ndelta 1 \"{}\"\nend 1\nfinish tool_calls word=\"completed\"\n", ""},
		{"a call that the end tells again elsewhere", []string{
			`{"type":"response.output_item.done","output_index":0,"item":{"type":"function_call","id":"fc","call_id":"c","name":"f","arguments":"{}"}}`,
			`{"type":"response.completed","response":{"output":[{"type":"reasoning","id":"rs","summary":[]},{"type":"function_call","id":"fc2","call_id":"c","name":"f","arguments":"{}"}]}}`},
			"start\nblock 0 tool_call msg=0 part=0 id=\"fc\" name=\"f\" call=\"c\"\ndelta 0 \"{}\"\nend 0\nfinish tool_calls word=\"completed\"\n", ""},
		{"done, yet in progress", []string{
			`{"type":"response.output_item.done","output_index":0,"item":{"type":"function_call","id":"fc","call_id":"c","name":"f","arguments":"{}","status":"in_progress"}}`,
			`{"type":"response.completed","response":{"output":[]}}`},
			"start\nblock 0 tool_call msg=0 part=0 id=\"fc\" name=\"f\" call=\"c\"\ndelta 0 \"{}\"\nend 0\nfinish tool_calls word=\"completed\"\n", ""},
		{"content that is a text", []string{`{"type":"response.completed","response":{"output":[{"type":"message","id":"m","content":"x"}]}}`},
			said + "end 0\nfinish stop word=\"completed\"\n", ""},
		{"an annotation of a part that is over", []string{delta,
			`{"type":"response.output_text.delta","item_id":"m","output_index":0,"content_index":1,"delta":"y"}`,
			`{"type":"response.output_item.done","output_index":0,"item":{"type":"message","id":"m","content":[{"type":"output_text","text":"x","annotations":[{"type":"url_citation","start_index":0,"end_index":1}]},{"type":"output_text","text":"y"}]}}`,
			`{"type":"response.completed","response":{"output":[]}}`},
			said + "end 0\nblock 1 text msg=0 part=1 id=\"m\"\ndelta 1 \"y\"\nend 1\nfinish stop word=\"completed\"\n", "annotations"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := respTestSetup(respTestRequest(t, &responsesProtocol))
			var log eventLog
			check := &Checker{Next: &log}
			respFeed(newRespDecoder(s), []byte("data: "+strings.Join(c.frames, "\n\ndata: ")+"\n\n"), 0, false, check)
			if got, want := log.String(), canonicalEvents(t, c.want); got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
			if check.Err() != nil || !check.Ended() {
				t.Errorf("%v, ended %v", check.Err(), check.Ended())
			}
			if l := strings.Join(s.Ledger.Names(), " "); l != c.ledger {
				t.Errorf("ledger %q, want %q", l, c.ledger)
			}
		})
	}
}
