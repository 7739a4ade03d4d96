package translate

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/tidwall/gjson"
)

// A client gets token counts, log probabilities and tool_calls only if it asked
// for them: a chunk of usage that nobody expects has no choices, and kills who
// reads the first of them. Every golden case, to a client that asked for nothing
// and one that offered functions in the deprecated way.
func TestNobodyGetsWhatHeDidNotAskFor(t *testing.T) {
	t.Parallel()
	for _, c := range goldenCases(t) {
		if c.status != 200 {
			continue
		}
		t.Run(c.name(), func(t *testing.T) {
			t.Parallel()
			for _, body := range []string{
				`{"model":"demo-model","messages":[{"role":"user","content":"Hello"}]}`,
				`{"model":"demo-model","messages":[{"role":"user","content":"Hello"}],"functions":[{"name":"get_weather"},{"name":"run_code"}]}`,
			} {
				legacy := strings.Contains(body, "functions")
				for _, stream := range []bool{true, false} {
					r, e := chatProtocol.DecodeRequest(&Inbound{Body: []byte(body)})
					if e != nil {
						t.Fatal(e)
					}
					s := goldenSetup(t, &chatProtocol, stream)
					r.Face, r.Stream = &chatProtocol, stream
					if !legacy {
						r.Tools = goldenTools
					}
					s.Request, s.Encoded, s.Decoded = r, nil, nil
					a := NewAnswer(s, c.backend, stream, c.stream)
					if _, raw := c.unframed(c.backend.NewDecoder(s)); raw || a.PassedThrough() {
						continue
					}
					var out []byte
					if c.stream {
						out = a.End(a.Feed(nil, c.body), c.cause)
					} else {
						out = a.Body(nil, c.body)
					}
					if a.Err() != nil && (!stream || !a.Started()) {
						continue
					}
					var err error
					if stream {
						err = checkChatStream(out)
					} else {
						err = checkAnswer(&chatProtocol, out)
					}
					if err != nil {
						t.Errorf("stream=%v: %v\n%s", stream, err, out)
					}
					if stream && bytes.Contains(out, []byte(`"usage"`)) {
						t.Errorf("usage that nobody asked for: %s", out)
					}
					if bytes.Contains(out, []byte(`"logprobs":{`)) {
						t.Errorf("log probabilities that nobody asked for: %s", out)
					}
					if legacy && bytes.Contains(out, []byte(`"tool_calls"`)) {
						t.Errorf("tool_calls for a client that knows functions only: %s", out)
					}
					if !legacy && bytes.Contains(out, []byte(`"function_call"`)) {
						t.Errorf("function_call for a client that knows tools: %s", out)
					}
				}
			}
		})
	}
}

// The name of a model decides nothing: no catalogue of models says who can
// stream. Others fell back to a stream made up of the whole answer, without its
// tool calls, for every name that they did not know.
func TestModelNamesDecideNothing(t *testing.T) {
	t.Parallel()
	for _, backend := range registry {
		want := ""
		for _, model := range []string{"gpt-5", "claude-opus-9", "nobody/knows-this:latest", "o9-mini", "ft:x"} {
			body := fmt.Sprintf(`{"model":%q,"messages":[{"role":"user","content":"Hello"}],"temperature":0.5,"max_tokens":9,"stream":true}`, model)
			r, e := chatProtocol.DecodeRequest(&Inbound{Body: []byte(body)})
			if e != nil {
				t.Fatal(e)
			}
			out, e := backend.Encode(nil, r, &Agent{Name: "it"}, backend.AsksStream != StreamNever)
			if e != nil {
				t.Fatal(e)
			}
			got := strings.ReplaceAll(string(out), model, "MODEL")
			if want == "" {
				want = got
			}
			if got != want {
				t.Errorf("%s, %s: got %s, want %s", backend.Name, model, got, want)
			}
		}
	}
}

// The id of a call is the backend's, whatever it looks like: it comes to the
// client as it was given, and goes back with the result as the client gives it,
// in call and result alike. Others rewrote it on one side only.
func TestCallIDsAreNeverRewritten(t *testing.T) {
	t.Parallel()
	const id = `toolu_01/é:"x"\functions.get_weather:0`
	quoted := quote(id)
	answers := map[string]string{
		"chat": `{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":null,"tool_calls":[{"id":` + quoted +
			`,"type":"function","function":{"name":"get_weather","arguments":"{}"}}]},"finish_reason":"tool_calls"}]}`,
		"responses": `{"id":"r","object":"response","status":"completed","model":"m","output":[{"type":"function_call","id":"fc_1","call_id":` + quoted + `,"name":"get_weather","arguments":"{}","status":"completed"}]}`,
	}
	for backend, body := range answers {
		for _, face := range []string{"chat", "responses"} {
			for _, stream := range []bool{true, false} {
				s := goldenSetup(t, Lookup(face), stream)
				a := NewAnswer(s, Lookup(backend), stream, false)
				out := a.Body(nil, []byte(body))
				if a.Err() != nil {
					t.Fatal(a.Err())
				}
				if !bytes.Contains(out, []byte(quoted)) {
					t.Errorf("%s ← %s: the id is not in the answer: %s", face, backend, out)
				}
			}
		}
	}
	requests := map[string]string{
		"chat": `{"model":"m","messages":[{"role":"user","content":"x"},{"role":"assistant","content":null,"tool_calls":[{"id":` + quoted +
			`,"type":"function","function":{"name":"get_weather","arguments":"{}"}}]},{"role":"tool","tool_call_id":` + quoted + `,"content":"7"}]}`,
		"responses": `{"model":"m","input":[{"role":"user","content":"x"},{"type":"function_call","id":"fc_1","call_id":` + quoted + `,"name":"get_weather","arguments":"{}"},{"type":"function_call_output","call_id":` + quoted + `,"output":"7"}]}`,
	}
	for face, body := range requests {
		for _, backend := range []string{"chat", "responses"} {
			r, e := Lookup(face).DecodeRequest(&Inbound{Body: []byte(body)})
			if e != nil {
				t.Fatal(e)
			}
			r.Face = Lookup(face)
			out, e := Lookup(backend).Encode(nil, r, &Agent{Name: "it"}, false)
			if e != nil {
				t.Fatal(e)
			}
			if n := bytes.Count(out, []byte(quoted)); n != 2 {
				t.Errorf("%s → %s: the id stands %d times in the request, want 2: %s", face, backend, n, out)
			}
		}
	}
}

// Empty pieces among 100 KiB of arguments are nothing, and not one byte of the
// arguments is lost or told twice.
func TestLongArgumentsArriveWhole(t *testing.T) {
	t.Parallel()
	var want strings.Builder
	var chat, responses bytes.Buffer
	chat.WriteString(`data: {"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"c","type":"function","function":{"name":"get_weather","arguments":""}}]}}]}` + "\n\n")
	responses.WriteString(`data: {"type":"response.output_item.added","output_index":0,"item":{"type":"function_call","id":"f","call_id":"c","name":"get_weather","arguments":""}}` + "\n\n")
	piece := func(s string) {
		want.WriteString(s)
		fmt.Fprintf(&chat, `data: {"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":%s}}]}}]}`+"\n\n", quote(s))
		fmt.Fprintf(&responses, `data: {"type":"response.function_call_arguments.delta","item_id":"f","output_index":0,"delta":%s}`+"\n\n", quote(s))
	}
	piece(`{"text":"`)
	for i := range 4000 {
		piece(fmt.Sprintf("%d é, \\\"quoted\\\", and more; ", i))
		if i%7 == 0 {
			piece("")
		}
	}
	piece(`"}`)
	chat.WriteString(`data: {"choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]}` + "\n\ndata: [DONE]\n\n")
	fmt.Fprintf(&responses, `data: {"type":"response.completed","response":{"id":"r","status":"completed","output":[{"type":"function_call","id":"f","call_id":"c","name":"get_weather","arguments":%s}]}}`+"\n\n", quote(want.String()))
	for backend, stream := range map[string][]byte{"chat": chat.Bytes(), "responses": responses.Bytes()} {
		for _, face := range []string{"chat", "responses"} {
			s := goldenSetup(t, Lookup(face), false)
			a := NewAnswer(s, Lookup(backend), false, true)
			out := a.End(a.Feed(nil, stream), nil)
			path := "choices.0.message.tool_calls.0.function.arguments"
			if face == "responses" {
				path = "output.0.arguments"
			}
			if got := gjson.GetBytes(out, path).String(); got != want.String() {
				t.Errorf("%s ← %s: %d bytes of arguments, want %d; error %v", face, backend, len(got), want.Len(), a.Err())
			}
		}
	}
}
