package translate

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/tidwall/gjson"

	"github.com/dragoman-proxy/dragoman/internal/jsonx"
	"github.com/dragoman-proxy/dragoman/internal/sse"
)

const cyclsSeed = "0123456789abcdef0123456789abcdef"

func cyclsSetup() *Setup {
	return &Setup{
		Request: &Request{
			Face:  Lookup("cycls"),
			Tools: []Tool{{Name: "get_weather"}, {Name: "run_code", Kind: ToolCustom}},
		},
		Agent: &Agent{Name: "demo"}, Seed: cyclsSeed, Ledger: &Ledger{},
	}
}

// cyclsEvents decodes a stream that is fed in pieces of n bytes, all at once if
// n is 0, or a JSON body if n is negative.
func cyclsEvents(t testing.TB, s *Setup, data []byte, n int) string {
	t.Helper()
	dec := Lookup("cycls").NewDecoder(s)
	var log eventLog
	check := &Checker{Next: &log}
	c := &goldenCase{body: data, stream: n >= 0}
	if n < 0 {
		dec.JSON(data, check)
	} else if d, raw := c.unframed(dec); raw {
		for len(data) > 0 {
			k := len(data)
			if n > 0 {
				k = min(n, k)
			}
			p := bytes.Clone(data[:k])
			d.Text(p, check)
			for i := range p {
				p[i] = '#'
			}
			data = data[k:]
		}
		dec.End(nil, check)
	} else {
		var r sse.Reader
		for len(data) > 0 {
			k := len(data)
			if n > 0 {
				k = min(n, k)
			}
			// Events borrow: what was fed before is gone.
			p := bytes.Clone(data[:k])
			r.Feed(p)
			for f, ok := r.Next(); ok; f, ok = r.Next() {
				dec.Frame(&f, check)
			}
			for i := range p {
				p[i] = '#'
			}
			data = data[k:]
		}
		if f, ok := r.Flush(); ok {
			dec.Frame(&f, check)
		}
		dec.End(nil, check)
	}
	if check.Err() != nil || !check.Ended() {
		t.Errorf("order of events: %v, ended %v\n%s", check.Err(), check.Ended(), log.String())
	}
	return log.String()
}

func cyclsStreamOf(lines string) []byte {
	var b bytes.Buffer
	for line := range strings.SplitSeq(strings.TrimSpace(lines), "\n") {
		b.WriteString("data: " + strings.TrimSpace(line) + "\n\n")
	}
	return b.Bytes()
}

func TestCyclsCases(t *testing.T) {
	t.Parallel()
	dirs, err := filepath.Glob("testdata/cycls/*")
	if err != nil || len(dirs) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	for _, dir := range dirs {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			t.Parallel()
			want, err := os.ReadFile(filepath.Join(dir, "events.txt"))
			if err != nil {
				t.Fatal(err)
			}
			sizes := []int{0, 1, 2, 3, 7, 64}
			data, err := os.ReadFile(filepath.Join(dir, "backend.sse"))
			if err != nil {
				sizes = []int{-1}
				if data, err = os.ReadFile(filepath.Join(dir, "backend.json")); err != nil {
					t.Fatal(err)
				}
			}
			for _, n := range sizes {
				if strings.HasPrefix(filepath.Base(dir), "text") && bytes.Contains(want, []byte("fail ")) {
					continue // a cut of what has no end; TestGolden makes it
				}
				if got, want := cyclsEvents(t, cyclsSetup(), data, n), canonicalEvents(t, string(want)); got != want && (!strings.HasPrefix(filepath.Base(dir), "text") || joinDeltas(got) != joinDeltas(want)) {
					t.Errorf("pieces of %d:\ngot\n%s\nwant\n%s", n, got, want)
				}
			}
		})
	}
}

func TestCyclsDecode(t *testing.T) {
	t.Parallel()
	f := func(name, stream, want string) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got, want := cyclsEvents(t, cyclsSetup(), cyclsStreamOf(stream), 0), canonicalEvents(t, want); got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
	f("calls without an id get one of ours", `
		{"type":"tool_call","tool":"lookup"}
		{"type":"step","tool_name":"grep","step":"Searching"}
		[DONE]`, `
		start
		block 0 tool_call name="lookup" call="call_`+cyclsSeed+`00" ran
		delta 0 "{}"
		end 0
		block 1 tool_call name="grep" call="call_`+cyclsSeed+`01" ran title="Searching"
		end 1
		finish stop`)
	f("a completion that repeats the name is not another call", `
		{"type":"step","id":"a","step":"Bash"}
		{"type":"text","text":"x"}
		{"type":"step","id":"a","step":"Bash","ok":true,"result":"r"}
		{"type":"step","id":"b","ok":true}
		[DONE]`, `
		start
		block 0 tool_call name="Bash" call="a" ran
		end 0
		block 1 text
		delta 1 "x"
		end 1
		block 2 tool_result name="Bash" call="a" ran
		delta 2 "r"
		end 2
		block 3 tool_result call="b" ran
		end 3
		finish stop`)
	f("the members may come in any order", `
		{"language":"go","code":"x","type":"code"}
		{"row":["1"],"headers":["A"],"type":"table"}
		[DONE]`, `
		start
		block 0 code language="go"
		delta 0 "x"
		end 0
		block 1 table headers=["A"]
		delta 1 "[\"1\"]"
		end 1
		finish stop`)
	f("headers are strings and rows arrays", `
		{"type":"table","headers":["A",1,null]}
		{"type":"table","row":"one cell"}
		{"type":"table","row":7}
		{"type":"table","headers":"A"}
		[DONE]`, `
		start
		block 0 table headers=["A","1",""]
		delta 0 "[\"one cell\"]"
		delta 0 "[7]"
		end 0
		block 1 table headers=["A"]
		end 1
		finish stop`)
	f("a component without its own member is data", `
		{"type":"text","content":"x"}
		{"type":"image","alt":"x"}
		{"type":"step"}
		{"type":"callout","style":"error"}
		[DONE]`, `
		start
		block 0 data name="text"
		delta 0 "{\"type\":\"text\",\"content\":\"x\"}"
		end 0
		block 1 data name="image"
		delta 1 "{\"type\":\"image\",\"alt\":\"x\"}"
		end 1
		block 2 data name="step"
		delta 2 "{\"type\":\"step\"}"
		end 2
		block 3 data name="callout"
		delta 3 "{\"type\":\"callout\",\"style\":\"error\"}"
		end 3
		finish stop`)
	f("two error callouts: only the last can be the failure", `
		{"type":"callout","callout":"Stream failed: a","style":"error"}
		{"type":"callout","callout":"Stream failed: b","style":"error"}
		[DONE]`, `
		start
		block 0 callout style="error"
		delta 0 "Stream failed: a"
		fail status=502 code="agent_error" message="Stream failed: b"`)
	f("an error_id is enough", `
		{"type":"callout","callout":"Pardon","error_id":"0badf00d"}
		[DONE]`, `
		start
		fail status=502 code="agent_error" message="Pardon"`)
	f("the wording in another style is content", `
		{"type":"callout","callout":"Stream failed: a","style":"info"}
		[DONE]`, `
		start
		block 0 callout style="info"
		delta 0 "Stream failed: a"
		end 0
		finish stop`)
	f("nothing counts after the end", `
		{"type":"text","text":"x"}
		[DONE]
		{"type":"text","text":"y"}
		[DONE]`, `
		start
		block 0 text
		delta 0 "x"
		end 0
		finish stop`)
	f("bytes that are not UTF-8", "{\"type\":\"text\",\"text\":\"a\xffb\"}\n[DONE]", `
		start
		block 0 text
		delta 0 "a`+"\uFFFD"+`b"
		end 0
		finish stop`)
	f("the array protocol does not begin in the middle", `
		{"type":"text","text":"x"}
		["~",{"content":"x"}]
		[DONE]`, `
		start
		block 0 text
		delta 0 "x"
		fail status=502 code="bad_gateway" message="The agent's answer could not be read."`)
}

func TestCyclsComments(t *testing.T) {
	t.Parallel()
	got := cyclsEvents(t, cyclsSetup(), []byte(": hello\n\ndata:\n\ndata: {\"type\":\"text\",\ndata: \"text\":\"x\"}\n\ndata: [DONE]"), 0)
	if want := "ping\nstart\nblock 0 text msg=0 part=0\ndelta 0 \"x\"\nend 0\nfinish stop\n"; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestCyclsEndWithCause(t *testing.T) {
	t.Parallel()
	s := cyclsSetup()
	dec := Lookup("cycls").NewDecoder(s)
	var log eventLog
	dec.Frame(&sse.Frame{Data: []byte(`{"type":"text","text":"x"}`)}, &log)
	if dec.Finishing() {
		t.Error("finishing before the end")
	}
	dec.End(&Error{Status: 504, Code: "timeout", Message: "slow"}, &log)
	dec.End(nil, &log)
	if got, want := log.String(), "fail status=504 code=\"timeout\" message=\"slow\"\n"; !strings.HasSuffix(got, want) || strings.Count(got, "fail") != 1 {
		t.Errorf("got\n%s", got)
	}
	if !dec.Finishing() {
		t.Error("not finishing after the end")
	}
}

func TestCyclsManyCalls(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	for i := range 3 * cyclsMaxCalls {
		fmt.Fprintf(&b, "data: {\"type\":\"step\",\"step\":\"s\",\"id\":\"%d\"}\n\n", i)
	}
	b.WriteString("data: {\"type\":\"step_arg\",\"id\":\"0\",\"delta\":\"late\"}\n\ndata: [DONE]\n\n")
	s := cyclsSetup()
	got := cyclsEvents(t, s, b.Bytes(), 0)
	if n := strings.Count(got, "\nend "); n != 3*cyclsMaxCalls {
		t.Errorf("%d calls ended, want %d", n, 3*cyclsMaxCalls)
	}
	if got, want := s.Ledger.Names(), []string{"step_arg"}; !reflect.DeepEqual(got, want) {
		t.Errorf("ledger: got %v, want %v", got, want)
	}
}

// cyclsEncode encodes events as a stream, behind the stages that the face has.
func cyclsEncode(t testing.TB, s *Setup, events string) string {
	t.Helper()
	enc := &cyclsEncodeSink{enc: Lookup("cycls").NewEncoder(s)}
	sink := stages(s, Lookup("cycls"), enc)
	for _, e := range parseEventText(t, events) {
		sink.Event(e)
	}
	return string(enc.out)
}

type cyclsEncodeSink struct {
	enc Encoder
	out []byte
}

func (s *cyclsEncodeSink) Event(e *Event) { s.out = s.enc.Encode(s.out, e) }

func TestCyclsEncode(t *testing.T) {
	t.Parallel()
	f := func(name, events, want string, lost ...string) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := cyclsSetup()
			got := cyclsEncode(t, s, events)
			if want := string(cyclsStreamOf(want)); got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
			if got := s.Ledger.Names(); len(got)+len(lost) > 0 && !reflect.DeepEqual(got, lost) {
				t.Errorf("ledger: got %v, want %v", got, lost)
			}
		})
	}
	f("all components", `
		start id="x" model="m" handle="c1"
		block 0 reasoning msg=0 part=0
		delta 0 "Let me "
		delta 0 "think"
		end 0
		block 1 text msg=0 part=0
		delta 1 "wörld\n\n\"line\" 😀"
		end 1
		block 2 table msg=0 part=0 headers=["A", "B"]
		delta 2 "[\"1\", \"2\"]"
		delta 2 "[\n3,\r4]"
		end 2
		block 3 code msg=0 part=0 language="python"
		delta 3 "x=1\n"
		delta 3 "y=2"
		end 3
		block 4 callout msg=0 part=0 style="success" title="All good"
		delta 4 "Do"
		delta 4 "ne"
		end 4
		block 5 image msg=0 part=0 url="https://example.com/a.png" alt="A" caption="The letter"
		end 5
		block 6 image msg=0 part=0 mime="image/png" data="AA=="
		end 6
		block 7 status msg=0 part=0
		delta 7 "busy"
		end 7
		usage input=1 output=2
		finish stop`, `
		{"type": "thinking", "thinking": "Let me "}
		{"type": "thinking", "thinking": "think"}
		{"type": "text", "text": "wörld\n\n\"line\" 😀"}
		{"type": "table", "headers": ["A", "B"]}
		{"type": "table", "row": ["1", "2"]}
		{"type": "table", "row": [3,4]}
		{"type": "code", "code": "x=1\n", "language": "python"}
		{"type": "code", "code": "y=2"}
		{"type": "callout", "callout": "Done", "style": "success", "title": "All good"}
		{"type": "image", "src": "https://example.com/a.png", "alt": "A", "caption": "The letter"}
		{"type": "text", "text": "\n"}
		{"type": "image", "src": "data:image/png;base64,AA=="}
		{"type": "status", "status": "busy"}
		[DONE]`)
	f("what the client would merge is kept apart", `
		start
		block 0 table headers=["A"]
		delta 0 "[1]"
		end 0
		block 1 table
		delta 1 "[1,2]"
		end 1
		block 2 code language="a"
		delta 2 "x"
		end 2
		block 3 code
		delta 3 "y"
		end 3
		block 4 callout
		delta 4 "x"
		end 4
		block 5 callout style="error"
		delta 5 "y"
		end 5
		block 6 status
		delta 6 "x"
		end 6
		block 7 status
		delta 7 "y"
		end 7
		finish stop`, `
		{"type": "table", "headers": ["A"]}
		{"type": "table", "row": [1]}
		{"type": "text", "text": "\n"}
		{"type": "table", "headers": ["",""]}
		{"type": "table", "row": [1,2]}
		{"type": "code", "code": "x", "language": "a"}
		{"type": "text", "text": "\n"}
		{"type": "code", "code": "y"}
		{"type": "callout", "callout": "x", "style": "info"}
		{"type": "text", "text": "\n"}
		{"type": "callout", "callout": "y", "style": "error"}
		{"type": "status", "status": "x"}
		{"type": "text", "text": "\n"}
		{"type": "status", "status": "y"}
		[DONE]`)
	f("messages, and parts of reasoning, are a blank line apart", `
		start
		block 0 reasoning msg=0 part=0 summary
		delta 0 "a"
		end 0
		block 1 reasoning msg=0 part=1 summary
		delta 1 "b"
		end 1
		block 2 text msg=1 part=0
		delta 2 "c"
		end 2
		block 3 text msg=1 part=1
		delta 3 "d"
		end 3
		block 4 text msg=2 part=0
		delta 4 "e"
		delta 4 "f"
		end 4
		finish stop`, `
		{"type": "thinking", "thinking": "a"}
		{"type": "thinking", "thinking": "\n\nb"}
		{"type": "text", "text": "c"}
		{"type": "text", "text": "d"}
		{"type": "text", "text": "\n\ne"}
		{"type": "text", "text": "f"}
		[DONE]`)
	f("calls that ran are steps, the client's are whole", `
		start
		block 0 tool_call name="read" call="t1" ran
		delta 0 "{\"a\""
		delta 0 ":1}"
		end 0
		block 1 tool_result name="read" call="t1" ran
		delta 1 "o"
		delta 1 "k"
		end 1
		block 2 tool_result call="t2" ran error
		end 2 failed
		block 3 step name="Reading"
		end 3
		block 4 step
		delta 4 "Writing"
		end 4
		block 5 tool_call name="get_weather" call="c1"
		delta 5 "{\"city\":"
		delta 5 "\"Paris\"}"
		end 5
		block 6 tool_call name="run_code" call="c2" custom
		delta 6 "print(1)"
		end 6
		block 7 tool_call name="get_weather" call="c3"
		end 7
		finish tool_calls`, `
		{"type": "step", "step": "read", "id": "t1", "tool_name": "read"}
		{"type": "step_arg", "id": "t1", "delta": "{\"a\""}
		{"type": "step_arg", "id": "t1", "delta": ":1}"}
		{"type": "step", "id": "t1", "ok": true, "result": "ok"}
		{"type": "step", "id": "t2", "ok": false, "result": ""}
		{"type": "step", "step": "Reading"}
		{"type": "step", "step": "Writing"}
		{"type": "tool_call", "tool": "get_weather", "args": {"city":"Paris"}, "id": "c1"}
		{"type": "text", "text": "\n"}
		{"type": "tool_call", "tool": "run_code", "args": "print(1)", "id": "c2"}
		{"type": "text", "text": "\n"}
		{"type": "tool_call", "tool": "get_weather", "args": {}, "id": "c3"}
		[DONE]`)
	f("half a call is not sent", `
		start
		block 0 tool_call name="get_weather" call="c1"
		delta 0 "{\"city\":"
		end 0 incomplete
		finish length`, `
		[DONE]`, "tool_calls", "finish_reason")
	f("what a Cycls backend sent comes out as it was", `
		start
		block 0 data name="ui"
		delta 0 "{\"type\": \"ui\", \"action\": \"x\"}"
		end 0
		block 1 data name="citations"
		delta 1 "[1]"
		end 1
		block 2 data
		delta 2 "no json"
		end 2
		finish stop`, `
		{"type": "ui", "action": "x"}
		{"type": "data", "name": "citations", "data": [1]}
		{"type": "data", "data": "no json"}
		[DONE]`)
	f("a refusal is text", `
		start
		block 0 refusal
		delta 0 "No."
		end 0
		finish content_filter`, `
		{"type": "text", "text": "No."}
		[DONE]`, "finish_reason")
	f("a snapshot continues what was sent", `
		start
		block 0 text
		delta 0 "ab"
		delta 0 "abc" replace
		delta 0 "a" replace
		annotation 0 {"type":"url_citation"}
		end 0
		finish stop`, `
		{"type": "text", "text": "ab"}
		{"type": "text", "text": "c"}
		[DONE]`, "replace", "annotations")
	f("failure", `
		start
		block 0 text
		delta 0 "x"
		fail status=502 message="It broke."`, `
		{"type": "text", "text": "x"}
		{"type": "callout", "callout": "It broke.", "style": "error", "error_id": "01234567"}
		[DONE]`)
	f("failure in a callout", `
		start
		block 0 callout style="info"
		delta 0 "Half"
		fail status=502 message="It broke."`, `
		{"type": "callout", "callout": "Half", "style": "info"}
		{"type": "text", "text": "\n"}
		{"type": "callout", "callout": "It broke.", "style": "error", "error_id": "01234567"}
		[DONE]`)
	f("failure in a call", `
		start
		block 0 tool_call name="get_weather" call="c1"
		delta 0 "{}"
		fail status=502 message="It broke."`, `
		{"type": "callout", "callout": "It broke.", "style": "error", "error_id": "01234567"}
		[DONE]`)
}

func TestCyclsPingIsAComment(t *testing.T) {
	t.Parallel()
	got := cyclsEncode(t, cyclsSetup(), "ping\nstart\nfinish stop")
	if want := ": ping\n\ndata: [DONE]\n\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestCyclsSurvivesTheClient(t *testing.T) {
	t.Parallel()
	events := `
		start
		block 0 text
		delta 0 "a"
		delta 0 "b"
		end 0
		block 1 table headers=["A"]
		delta 1 "[\"1\"]"
		delta 1 "[\"2\"]"
		end 1
		block 2 table headers=["B"]
		end 2
		block 3 table
		delta 3 "[\"3\", \"4\"]"
		end 3
		block 4 image url="https://example.com/1"
		end 4
		block 5 image url="https://example.com/2"
		end 5
		block 6 callout style="info"
		delta 6 "x"
		end 6
		block 7 callout style="error" title="T"
		delta 7 "y"
		end 7
		block 8 code language="go"
		delta 8 "1"
		delta 8 "2"
		end 8
		block 9 code language="js"
		delta 9 "3"
		end 9
		block 10 tool_call name="f" call="c1"
		end 10
		block 11 tool_call name="g" call="c2"
		end 11
		finish tool_calls`
	want := `[{"type":"text","text":"ab"},
		{"type":"table","headers":["A"],"rows":[["1"],["2"]]},
		{"type":"table","headers":["B"],"rows":[]},
		{"type":"table","headers":["",""],"rows":[["3","4"]]},
		{"type":"image","src":"https://example.com/1"},
		{"type":"image","src":"https://example.com/2"},
		{"type":"callout","callout":"x","style":"info"},
		{"type":"callout","callout":"y","style":"error","title":"T"},
		{"type":"code","code":"12","language":"go"},
		{"type":"code","code":"3","language":"js"},
		{"type":"tool_call","tool":"f","args":{},"id":"c1"},
		{"type":"tool_call","tool":"g","args":{},"id":"c2"}]`
	var wanted []map[string]any
	if err := json.Unmarshal([]byte(want), &wanted); err != nil {
		t.Fatal(err)
	}
	for _, newer := range []bool{false, true} {
		got := cyclsClient(t, cyclsEncode(t, cyclsSetup(), events), newer)
		if !reflect.DeepEqual(got, wanted) {
			t.Errorf("newer %v:\ngot\n%v\nwant\n%v", newer, got, wanted)
		}
	}
}

func TestCyclsAnswer(t *testing.T) {
	t.Parallel()
	f := func(name, events, want string, lost ...string) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := cyclsSetup()
			fold := NewFold()
			sink := stages(s, Lookup("cycls"), fold)
			for _, e := range parseEventText(t, events) {
				sink.Event(e)
			}
			got := string(Lookup("cycls").AppendAnswer(nil, s, fold))
			if want := `{"role":"assistant","parts":[` + want + `]}`; got != want {
				t.Errorf("\ngot  %s\nwant %s", got, want)
			}
			if got := s.Ledger.Names(); len(got)+len(lost) > 0 && !reflect.DeepEqual(got, lost) {
				t.Errorf("ledger: got %v, want %v", got, lost)
			}
		})
	}
	f("empty", "start\nfinish stop", ``)
	f("texts are merged", `
		start
		block 0 reasoning msg=0 part=0
		delta 0 "r"
		end 0
		block 1 text msg=0 part=0
		delta 1 "a"
		end 1
		block 2 text msg=0 part=1
		delta 2 "b"
		end 2
		block 3 text msg=1 part=0
		delta 3 "ü\n"
		annotation 3 {}
		end 3
		finish length`, `{"type":"thinking","thinking":"r"},{"type":"text","text":"ab\n\nü\n"}`, "finish_reason", "annotations")
	f("the stored form", `
		start
		block 0 table headers=["A"]
		delta 0 "[\"1\"]"
		delta 0 "[\"2\"]"
		end 0
		block 1 code language="go"
		delta 1 "x"
		end 1
		block 2 callout title="T"
		delta 2 "y"
		end 2
		block 3 image url="https://example.com/1"
		end 3
		block 4 status
		delta 4 "s"
		end 4
		block 5 step name="Reading"
		end 5
		block 6 tool_call name="read" call="t1" ran
		delta 6 "{}"
		end 6
		block 7 tool_call name="f" call="c1"
		delta 7 "{\"a\":1}"
		end 7
		block 8 tool_result call="t1" ran
		delta 8 "r"
		end 8
		block 9 tool_result call="t1" ran error
		delta 9 "again"
		end 9 failed
		block 10 data name="ui"
		delta 10 "{\"type\": \"ui\"}"
		end 10
		finish tool_calls`,
		`{"type":"table","headers":["A"],"rows":[["1"],["2"]]},{"type":"code","code":"x","language":"go"},`+
			`{"type":"callout","callout":"y","style":"info","title":"T"},{"type":"image","src":"https://example.com/1"},`+
			`{"type":"status","status":"s"},{"type":"step","step":"Reading"},`+
			`{"type":"step","step":"read","id":"t1","tool_name":"read","args":"{}","ok":true,"result":"r"},`+
			`{"type":"tool_call","tool":"f","args":{"a":1},"id":"c1"},{"type":"step","id":"t1","ok":false,"result":"again"},`+
			`{"type": "ui"}`)
}

// What a Cycls face writes, as a stream or as JSON, a Cycls backend's decoder
// reads as the same blocks.
func TestCyclsReadsItself(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"components", "steps", "two-tables", "two-images", "callouts-and-code", "tool-calls"} {
		data, err := os.ReadFile("testdata/cycls/" + name + "/backend.sse")
		if err != nil {
			t.Fatal(err)
		}
		first := cyclsEvents(t, cyclsSetup(), data, 0)
		fold := func(events string) string {
			f := NewFold()
			for _, e := range parseEventText(t, events) {
				f.Event(e)
			}
			return string(Lookup("cycls").AppendAnswer(nil, cyclsSetup(), f))
		}
		want := fold(first)
		stream := cyclsEncode(t, cyclsSetup(), first)
		stream = strings.ReplaceAll(stream, cyclsSeparator, "")
		if got := fold(cyclsEvents(t, cyclsSetup(), []byte(stream), 0)); name != "steps" && name != "two-tables" && got != want {
			t.Errorf("%s, stream:\ngot  %s\nwant %s", name, got, want)
		}
		if got := fold(cyclsEvents(t, cyclsSetup(), []byte(want), -1)); got != want {
			t.Errorf("%s, JSON:\ngot  %s\nwant %s", name, got, want)
		}
	}
}

func TestCyclsErrors(t *testing.T) {
	t.Parallel()
	p := Lookup("cycls")
	if got, want := string(p.AppendError(nil, Invalid(AtIndex("messages", 1).In("role"), "'%s' \"is\" wrong", "messages[1].role"))),
		`{"detail":"'messages[1].role' \"is\" wrong"}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	got := string(p.AppendFailure(nil, Truncated(nil), &Tap{ID: cyclsSeed}))
	want := "data: {\"type\": \"text\", \"text\": \"\\n\"}\n\n" +
		"data: {\"type\": \"callout\", \"callout\": \"The agent's answer broke off before its end.\", \"style\": \"error\", \"error_id\": \"01234567\"}\n\n" +
		"data: [DONE]\n\n"
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	// Without an id of the answer the error_id is made of the message.
	events := cyclsEvents(t, cyclsSetup(), p.AppendFailure(nil, Truncated(nil), nil), 0)
	if !strings.HasSuffix(events, "fail status=502 code=\"agent_error\" message=\"The agent's answer broke off before its end.\"\n") {
		t.Errorf("our own failure is read as\n%s", events)
	}
}

func TestCyclsCard(t *testing.T) {
	t.Parallel()
	got := Lookup("cycls").AppendAgents(nil, OpCard, []AgentInfo{{Name: "demo", Description: "Says \"hi\""}})
	if !jsonx.Valid(got) {
		t.Fatalf("not JSON: %s", got)
	}
	for key, want := range map[string]string{"name": `"demo"`, "title": `"demo"`, "description": `"Says \"hi\""`, "auth": "false", "prod": "false", "public_path": "null"} {
		if got := gjson.GetBytes(got, key).Raw; got != want {
			t.Errorf("%s: got %s, want %s", key, got, want)
		}
	}
}

func TestCyclsAllocatesNothingInTheSteadyState(t *testing.T) {
	s := cyclsSetup()
	dec := Lookup("cycls").NewDecoder(s)
	enc := &cyclsEncodeSink{enc: Lookup("cycls").NewEncoder(s), out: make([]byte, 0, 4096)}
	frames := []sse.Frame{
		{Data: []byte(`{"type": "text", "text": "caf\u00e9 "}`)},
		{Data: []byte(`{"type": "text", "text": "plain"}`)},
		{Data: []byte(`{"type": "ping"}`)},
	}
	for i := range frames {
		dec.Frame(&frames[i], enc)
	}
	if n := testing.AllocsPerRun(100, func() {
		enc.out = enc.out[:0]
		for i := range frames {
			dec.Frame(&frames[i], enc)
		}
	}); n != 0 {
		t.Errorf("%v allocations for %d events", n, len(frames))
	}
}
