package translate

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/tidwall/gjson"

	"github.com/dragoman-proxy/dragoman/internal/jsonx"
)

// canonical is the same small answer in the words of each backend protocol,
// streaming and not: a thought, a text, a call of the client's tool, token
// counts, as far as the protocol has them.
type canonicalAnswer struct {
	stream, body string
	thinks       bool
	calls        bool
	counts       bool
}

const (
	canonicalThought = "The user wants Zürich."
	canonicalText    = "Grüezi & \"hello\" 👋\nlook: <b>"
	canonicalArgs    = `{"city":"Zürich","days":[1,2.50]}`
)

var canonicalAnswers = map[string]canonicalAnswer{
	"chat": {thinks: true, calls: true, counts: true, stream: frames(
		`{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1770253095,"model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":"","refusal":null},"finish_reason":null}]}`,
		`{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1770253095,"model":"m","choices":[{"index":0,"delta":{"reasoning_content":"The user "},"finish_reason":null}]}`,
		`{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1770253095,"model":"m","choices":[{"index":0,"delta":{"reasoning_content":"wants Zürich."},"finish_reason":null}]}`,
		`{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1770253095,"model":"m","choices":[{"index":0,"delta":{"content":"Gr\u00fcezi & \"hello\" "},"finish_reason":null}]}`,
		`{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1770253095,"model":"m","choices":[{"index":0,"delta":{"content":"\ud83d\udc4b\nlook: <b>"},"finish_reason":null}]}`,
		`{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1770253095,"model":"m","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"call_1","type":"function","function":{"name":"get_weather","arguments":""}}]},"finish_reason":null}]}`,
		`{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1770253095,"model":"m","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\"city\":\"Zür"}}]},"finish_reason":null}]}`,
		`{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1770253095,"model":"m","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"ich\",\"days\":[1,2.50]}"}}]},"finish_reason":null}]}`,
		`{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1770253095,"model":"m","choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]}`,
		`{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1770253095,"model":"m","choices":[],"usage":{"prompt_tokens":11,"completion_tokens":7,"total_tokens":18}}`,
		`[DONE]`),
		body: `{"id":"chatcmpl-1","object":"chat.completion","created":1770253095,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"Grüezi & \"hello\" 👋\nlook: <b>","refusal":null,` +
			`"reasoning_content":"The user wants Zürich.","tool_calls":[{"id":"call_1","type":"function","function":{"name":"get_weather","arguments":"{\"city\":\"Zürich\",\"days\":[1,2.50]}"}}]},"logprobs":null,"finish_reason":"tool_calls"}],` +
			`"usage":{"prompt_tokens":11,"completion_tokens":7,"total_tokens":18}}`},
	"responses": {thinks: true, calls: true, counts: true, stream: canonicalResponses("resp_1"), body: canonicalResponse("resp_1")},
	"cognipeer": {thinks: true, stream: canonicalCognipeer, body: `{"id":"resp_c1","object":"response","model":"Demo Agent","output":[` +
		`{"id":"rs_1","type":"reasoning","summary":[{"type":"summary_text","text":"The user wants Zürich."}]},` +
		`{"id":"msg_1","type":"message","role":"assistant","content":[{"type":"output_text","text":"Grüezi & \"hello\" 👋\nlook: <b>"}]}],` +
		`"status":"completed","usage":{"input_tokens":0,"output_tokens":0,"total_tokens":0},"created_at":1770253095,"previous_response_id":null,"version":1}`},
	"ticos": {counts: true, stream: frames(
		`{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1770253095,"model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":"Grüezi & \"hello\" 👋\nlook: <b>"},"finish_reason":null}]}`,
		`{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1770253095,"model":"m","choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":{"prompt_tokens":11,"completion_tokens":7,"total_tokens":18}}`,
		`[DONE]`),
		body: `{"id":"chatcmpl-1","object":"chat.completion","created":1770253095,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"Grüezi & \"hello\" 👋\nlook: <b>"},"finish_reason":"stop"}],` +
			`"usage":{"prompt_tokens":11,"completion_tokens":7,"total_tokens":18}}`},
	"swarms": {counts: true, stream: "data: {\"job_id\": \"agent-1\", \"success\": true, \"name\": \"demo\", \"timestamp\": \"2026-02-05T00:58:15+00:00\", \"stream\": true, \"type\": \"metadata\"}\n\n" +
		"event: start\ndata: {\"message\": \"Starting agent processing...\"}\n\n" +
		"event: chunk\ndata: {\"content\": \"Gr\\u00fcezi & \\\"hello\\\" \", \"timestamp\": \"2026-02-05T00:58:15+00:00\"}\n\n" +
		"event: chunk\ndata: {\"content\": \"\\ud83d\\udc4b\\nlook: <b>\", \"timestamp\": \"2026-02-05T00:58:15+00:00\"}\n\n" +
		"event: usage\ndata: {\"input_tokens\": 11, \"output_tokens\": 7, \"total_tokens\": 18, \"img_cost\": 0.0, \"total_cost\": 0.002735}\n\n" +
		"event: end\ndata: {\"job_id\": \"agent-1\", \"usage\": {\"input_tokens\": 11, \"output_tokens\": 7, \"total_tokens\": 18}, \"timestamp\": \"2026-02-05T00:58:16+00:00\", \"complete\": true}\n\n" +
		"event: done\ndata: {\"message\": \"Agent processing complete\"}\n\n",
		body: `{"job_id":"agent-1","success":true,"name":"demo","description":null,"temperature":0.5,"outputs":[{"role":"demo","content":"Grüezi & \"hello\" 👋\nlook: <b>","timestamp":"2026-02-05T00:58:15.121915","message_id":"85b70f9d-e281-4a98-b9ad-5a2d39f8ffcb"}],` +
			`"usage":{"input_tokens":11,"output_tokens":7,"total_tokens":18,"img_cost":0.0,"total_cost":0.0088},"timestamp":"2026-02-05T00:58:15.252392+00:00"}`},
	"cycls": {thinks: true, stream: frames(
		`{"type": "chat_id", "chat_id": "3b88a467-1b98-4f24-8294-1f93ab909128"}`,
		`{"type": "thinking", "thinking": "The user "}`,
		`{"type": "thinking", "thinking": "wants Z\u00fcrich."}`,
		`{"type": "text", "text": "Gr\u00fcezi & \"hello\" "}`,
		`{"type": "text", "text": "\ud83d\udc4b\nlook: <b>"}`,
		`[DONE]`),
		body: `{"role":"assistant","parts":[{"type":"thinking","thinking":"The user wants Zürich."},{"type":"text","text":"Grüezi & \"hello\" 👋\nlook: <b>"}]}`},
}

const (
	canonicalReasoningItem = `{"id":"rs_1","type":"reasoning","summary":[{"type":"summary_text","text":"The user wants Zürich."}]}`
	canonicalMessageItem   = `{"id":"msg_1","type":"message","status":"completed","role":"assistant","content":[{"type":"output_text","text":"Grüezi & \"hello\" 👋\nlook: <b>","annotations":[],"logprobs":[]}]}`
	canonicalCallItem      = `{"id":"fc_1","type":"function_call","status":"completed","call_id":"call_1","name":"get_weather","arguments":"{\"city\":\"Zürich\",\"days\":[1,2.50]}"}`
)

func canonicalResponse(id string) string {
	return `{"id":"` + id + `","object":"response","created_at":1770253095,"status":"completed","error":null,"incomplete_details":null,"model":"m","output":[` +
		canonicalReasoningItem + `,` + canonicalMessageItem + `,` + canonicalCallItem +
		`],"usage":{"input_tokens":11,"input_tokens_details":{"cached_tokens":0},"output_tokens":7,"output_tokens_details":{"reasoning_tokens":0},"total_tokens":18}}`
}

// responsesFrames numbers events and writes them with their event lines.
func responsesFrames(events ...string) string {
	s := ""
	for i, e := range events {
		s += "event: " + gjson.Get(e, "type").String() + "\ndata: " + strings.Replace(e, "{", fmt.Sprintf(`{"sequence_number":%d,`, i), 1) + "\n\n"
	}
	return s
}

func canonicalResponses(id string) string {
	open := `{"id":"` + id + `","object":"response","created_at":1770253095,"status":"in_progress","model":"m","output":[]}`
	return responsesFrames(
		`{"type":"response.created","response":`+open+`}`,
		`{"type":"response.in_progress","response":`+open+`}`,
		`{"type":"response.output_item.added","output_index":0,"item":{"id":"rs_1","type":"reasoning","summary":[]}}`,
		`{"type":"response.reasoning_summary_part.added","item_id":"rs_1","output_index":0,"summary_index":0,"part":{"type":"summary_text","text":""}}`,
		`{"type":"response.reasoning_summary_text.delta","item_id":"rs_1","output_index":0,"summary_index":0,"delta":"The user wants Zürich."}`,
		`{"type":"response.reasoning_summary_text.done","item_id":"rs_1","output_index":0,"summary_index":0,"text":"The user wants Zürich."}`,
		`{"type":"response.reasoning_summary_part.done","item_id":"rs_1","output_index":0,"summary_index":0,"part":{"type":"summary_text","text":"The user wants Zürich."}}`,
		`{"type":"response.output_item.done","output_index":0,"item":`+canonicalReasoningItem+`}`,
		`{"type":"response.output_item.added","output_index":1,"item":{"id":"msg_1","type":"message","status":"in_progress","role":"assistant","content":[]}}`,
		`{"type":"response.content_part.added","item_id":"msg_1","output_index":1,"content_index":0,"part":{"type":"output_text","text":"","annotations":[],"logprobs":[]}}`,
		`{"type":"response.output_text.delta","item_id":"msg_1","output_index":1,"content_index":0,"delta":"Grüezi & \"hello\" ","logprobs":[]}`,
		`{"type":"response.output_text.delta","item_id":"msg_1","output_index":1,"content_index":0,"delta":"👋\nlook: <b>","logprobs":[]}`,
		`{"type":"response.output_text.done","item_id":"msg_1","output_index":1,"content_index":0,"text":"Grüezi & \"hello\" 👋\nlook: <b>","logprobs":[]}`,
		`{"type":"response.content_part.done","item_id":"msg_1","output_index":1,"content_index":0,"part":{"type":"output_text","text":"Grüezi & \"hello\" 👋\nlook: <b>","annotations":[],"logprobs":[]}}`,
		`{"type":"response.output_item.done","output_index":1,"item":`+canonicalMessageItem+`}`,
		`{"type":"response.output_item.added","output_index":2,"item":{"id":"fc_1","type":"function_call","status":"in_progress","call_id":"call_1","name":"get_weather","arguments":""}}`,
		`{"type":"response.function_call_arguments.delta","item_id":"fc_1","output_index":2,"delta":"{\"city\":\"Zürich\","}`,
		`{"type":"response.function_call_arguments.delta","item_id":"fc_1","output_index":2,"delta":"\"days\":[1,2.50]}"}`,
		`{"type":"response.function_call_arguments.done","item_id":"fc_1","output_index":2,"arguments":"{\"city\":\"Zürich\",\"days\":[1,2.50]}"}`,
		`{"type":"response.output_item.done","output_index":2,"item":`+canonicalCallItem+`}`,
		`{"type":"response.completed","response":`+canonicalResponse(id)+`}`,
	)
}

// canonicalCognipeer is what a Cognipeer backend would stream if it streamed.
var canonicalCognipeer = responsesFrames(
	`{"type":"response.created","response":{"id":"resp_c1","object":"response","created_at":1770253095,"status":"in_progress","model":"m","output":[]}}`,
	`{"type":"response.output_item.added","output_index":0,"item":`+canonicalReasoningItem+`}`,
	`{"type":"response.output_item.done","output_index":0,"item":`+canonicalReasoningItem+`}`,
	`{"type":"response.output_item.added","output_index":1,"item":{"id":"msg_1","type":"message","status":"in_progress","role":"assistant","content":[]}}`,
	`{"type":"response.output_text.delta","item_id":"msg_1","output_index":1,"content_index":0,"delta":"Grüezi & \"hello\" 👋\nlook: <b>"}`,
	`{"type":"response.output_item.done","output_index":1,"item":`+canonicalMessageItem+`}`,
	`{"type":"response.completed","response":{"id":"resp_c1","object":"response","created_at":1770253095,"status":"completed","model":"m","output":[`+canonicalReasoningItem+`,`+canonicalMessageItem+`]}}`,
)

// faceLacks says what a face cannot carry, by its wire.
var faceLacks = map[string]struct{ thoughts, counts bool }{
	"swarms": {thoughts: true},
	"cycls":  {counts: true},
}

// readBack decodes what a face sent with the decoder of the same protocol.
func readBack(t *testing.T, face *Protocol, stream bool, out []byte) *Fold {
	t.Helper()
	c := goldenCase{backend: face, body: out, stream: stream, status: 200}
	fold := NewFold()
	for _, e := range parseEventText(t, c.decode(t, nil)) {
		fold.Event(e)
	}
	return fold
}

// Every cell of the matrix, in every pair of modes: what the agent said arrives
// whole in the words of the client's protocol.
func TestMatrixOfAnswers(t *testing.T) {
	t.Parallel()
	for _, backend := range registry {
		from, ok := canonicalAnswers[backend.Name]
		if !ok {
			t.Errorf("no canonical answer of %s", backend.Name)
			continue
		}
		for _, face := range registry {
			for mode := range 4 {
				gotStream, wantStream := mode&1 != 0, mode&2 != 0
				t.Run(fmt.Sprintf("%s to %s, %v to %v", backend.Name, face.Name, modeName(gotStream), modeName(wantStream)), func(t *testing.T) {
					t.Parallel()
					c := &goldenCase{backend: backend, body: []byte(from.body), stream: gotStream, status: 200}
					if gotStream {
						c.body = []byte(from.stream)
					}
					out, a, _ := c.answer(t, face, wantStream, nil)
					if a.Err() != nil {
						t.Fatal(a.Err())
					}
					if wantStream && !a.PassedThrough() {
						if err := checkStream(face, out); err != nil {
							t.Error(err)
						}
					}
					if !wantStream && !jsonx.Valid(out) {
						t.Errorf("not JSON: %s", out)
					}
					f := readBack(t, face, wantStream, out)
					if f.Err != nil {
						t.Fatalf("read back: %v", f.Err)
					}
					if f.Text() != canonicalText {
						t.Errorf("text %q, want %q\n%s", f.Text(), canonicalText, out)
					}
					lacks := faceLacks[face.Name]
					thought, calls := "", 0
					f.Each(func(_ *FoldMessage, b FoldBlock) {
						switch b.Type {
						case BlockReasoning:
							thought += b.Text
						case BlockToolCall:
							calls++
							if b.Name != "get_weather" || b.Ran || b.CallID == "" || compactJSON(b.Text) != canonicalArgs {
								t.Errorf("call %+v", *b.Block)
							}
						}
					})
					if want := from.thinks && !lacks.thoughts; (thought == canonicalThought) != want || !want && thought != "" {
						t.Errorf("thought %q, want %v\n%s", thought, want, out)
					}
					if (calls == 1) != from.calls || calls > 1 {
						t.Errorf("%d calls, want %v\n%s", calls, from.calls, out)
					}
					reason := FinishStop
					if from.calls {
						reason = FinishToolCalls
					}
					if f.Reason != reason || a.Reason() != reason {
						t.Errorf("finish %v, told %v, want %v", a.Reason(), f.Reason, reason)
					}
					if from.counts {
						if u := a.Usage(); u.Input != 11 || u.Output != 7 || u.Sum() != 18 {
							t.Errorf("counted %+v", u)
						}
						if u := f.Usage; !lacks.counts && (u.Input != 11 || u.Output != 7 || u.Sum() != 18) {
							t.Errorf("usage told as %+v\n%s", u, out)
						}
					}
				})
			}
		}
	}
}

func modeName(stream bool) string {
	if stream {
		return "stream"
	}
	return "json"
}

func compactJSON(s string) string { return string(jsonx.AppendCompact(nil, []byte(s))) }

// A failure is told to every client in its own words, whichever backend it
// comes from: as an error status before anything was said, inside the stream
// after that, and never as a success.
func TestMatrixOfFailures(t *testing.T) {
	t.Parallel()
	for _, backend := range registry {
		from := canonicalAnswers[backend.Name]
		// Cut in the middle of the text: after the first piece of it.
		at := strings.Index(from.stream, "hello")
		if at < 0 {
			continue
		}
		at += strings.Index(from.stream[at:], "\n\n") + 2
		for _, face := range registry {
			for _, wantStream := range []bool{true, false} {
				for _, cause := range []*Error{nil, Truncated(nil)} {
					name := fmt.Sprintf("%s to %s as %s, reset=%v", backend.Name, face.Name, modeName(wantStream), cause != nil)
					t.Run(name, func(t *testing.T) {
						t.Parallel()
						c := &goldenCase{backend: backend, body: []byte(from.stream[:at]), stream: true, status: 200, cause: cause}
						out, a, _ := c.answer(t, face, wantStream, nil)
						if a.Err() == nil || a.Err().Status != 502 || !a.Err().NoRetry {
							t.Fatalf("err %v, want a 502 that is not to be tried again", a.Err())
						}
						if !wantStream {
							if !bytes.HasPrefix(out, []byte("HTTP 502\n{")) {
								t.Errorf("got %s", out)
							}
							return
						}
						if err := checkStream(face, out); err != nil && !a.PassedThrough() {
							t.Errorf("%v\n%s", err, out)
						}
						f := readBack(t, face, true, out)
						if f.Err == nil {
							t.Errorf("the client takes it for whole:\n%s", out)
						}
						// (Cycls parts the error from the text before it by a line end.)
						if text := strings.TrimRight(f.Text(), "\n"); !strings.HasPrefix(canonicalText, text) || text == "" {
							t.Errorf("text %q, want the beginning of %q", f.Text(), canonicalText)
						}
					})
				}
			}
		}
	}
}

// canonicalRequests is the same conversation in the words of each face.
var canonicalRequests = map[string]string{
	"chat": `{"model":"demo-model","messages":[{"role":"system","content":"Be terse, please."},{"role":"user","content":"First question?"},` +
		`{"role":"assistant","content":"First answer.","tool_calls":[{"id":"call_1","type":"function","function":{"name":"get_weather","arguments":"{\"city\":\"Bern\"}"}}]},` +
		`{"role":"tool","tool_call_id":"call_1","content":"21 degrees"},{"role":"user","content":[{"type":"text","text":"Second \"question\"?"}]}],` +
		`"tools":[{"type":"function","function":{"name":"get_weather","parameters":{"type":"object","properties":{"city":{"type":"string"}}}}}],"temperature":0.25,"max_completion_tokens":99}`,
	"responses": `{"model":"demo-model","instructions":"Be terse, please.","input":[{"role":"user","content":"First question?"},` +
		`{"type":"message","role":"assistant","content":[{"type":"output_text","text":"First answer."}]},{"type":"function_call","call_id":"call_1","name":"get_weather","arguments":"{\"city\":\"Bern\"}"},` +
		`{"type":"function_call_output","call_id":"call_1","output":"21 degrees"},{"role":"user","content":[{"type":"input_text","text":"Second \"question\"?"}]}],` +
		`"tools":[{"type":"function","name":"get_weather","parameters":{"type":"object","properties":{"city":{"type":"string"}}},"strict":false}],"temperature":0.25,"max_output_tokens":99}`,
	"cognipeer": `{"model":"demo-model","input":[{"role":"user","content":[{"type":"input_text","text":"Second \"question\"?"}]}]}`,
	"ticos":     `{"input":[{"type":"text","text":"Second \"question\"?"}]}`,
	"swarms": `{"agent_config":{"agent_name":"demo","model_name":"demo-model","system_prompt":"Be terse, please.","temperature":0.25,"max_tokens":99,` +
		`"tools_list_dictionary":[{"type":"function","function":{"name":"get_weather","parameters":{"type":"object","properties":{"city":{"type":"string"}}}}}]},` +
		`"history":[{"role":"user","content":"First question?"},{"role":"assistant","content":"First answer."}],"task":"Second \"question\"?"}`,
	"cycls": `{"messages":[{"role":"user","content":"First question?"},{"role":"assistant","parts":[{"type":"text","text":"First answer."}]},{"role":"user","content":"Second \"question\"?"}]}`,
}

func decodeCanonical(t *testing.T, face *Protocol, body string) *Request {
	t.Helper()
	in := Inbound{Body: []byte(body), ID: "demo-model"}
	for i := range face.Routes {
		if face.Routes[i].Op == OpGenerate {
			in.Route = &face.Routes[i]
			break
		}
	}
	r, e := face.DecodeRequest(&in)
	if e != nil {
		t.Fatalf("%s: %s: %s\n%s", face.Name, e.Param, e.Message, body)
	}
	r.Face = face
	return r
}

// requestText is all that a request says, in order.
func requestText(r *Request) string {
	var b strings.Builder
	for i := range r.Turns {
		for j := range r.Turns[i].Blocks {
			k := &r.Turns[i].Blocks[j]
			b.WriteString(k.Text + "\n")
			for p := range k.Parts {
				b.WriteString(k.Parts[p].Text + "\n")
			}
		}
	}
	return b.String()
}

// Every request reaches every backend with all that was said, in order.
func TestMatrixOfRequests(t *testing.T) {
	t.Parallel()
	agent := &Agent{Name: "demo", Options: map[string]string{}}
	said := []string{"Be terse, please.", "First question?", "First answer.", `"city":"Bern"`, "21 degrees", `Second "question"?`}
	for _, face := range registry {
		body := canonicalRequests[face.Name]
		for _, backend := range registry {
			for _, stream := range []bool{true, false} {
				t.Run(fmt.Sprintf("%s to %s as %s", face.Name, backend.Name, modeName(stream)), func(t *testing.T) {
					t.Parallel()
					r := decodeCanonical(t, face, body)
					before := requestText(r)
					var out []byte
					var e *Error
					if face == backend {
						out, e = backend.SpliceRequest([]byte("^"), r, agent)
						// Nothing is kept here, and old Cycls agents
						// read no parts.
						got := strings.Replace(string(out), `"store":false,`, "", 1)
						got = strings.Replace(got, `"content":"First answer.","role":"assistant","parts"`, `"role":"assistant","parts"`, 1)
						if e == nil && got != "^"+body {
							t.Errorf("spliced without need:\n%s", out)
						}
					} else if out, e = backend.EncodeRequest([]byte("^"), r, agent, stream); e == nil && out[0] != '^' {
						t.Error("did not append")
					}
					if e != nil {
						t.Fatalf("%s: %s", e.Param, e.Message)
					}
					out = out[1:]
					if err := jsonx.Check(out, jsonx.CheckOptions{UTF8: true, Duplicates: 8}); err != nil {
						t.Fatalf("%v: %s", err, out)
					}
					back := decodeCanonical(t, backend, string(out))
					after := requestText(back)
					at := 0
					for _, s := range said {
						if !strings.Contains(before, s) {
							continue // the face has no place for it
						}
						i := strings.Index(after[at:], s)
						if i < 0 {
							t.Fatalf("%q is lost or out of order:\n%s", s, out)
						}
						at += i
					}
					if len(r.Tools) > 0 && !back.OffersTool("get_weather") && !strings.Contains(r.Ledger.Header(), "tools") && face != backend {
						t.Errorf("the tools are lost, and the ledger says %q:\n%s", r.Ledger.Header(), out)
					}
					for p, want := range map[Param]string{ParamTemperature: "0.25", ParamMaxTokens: "99"} {
						if _, had := r.Setting(p); !had || face == backend {
							continue
						}
						if got, ok := back.Setting(p); got != want && (ok || r.Ledger.Len() == 0) {
							t.Errorf("param %d is %q, want %q; the ledger says %q:\n%s", p, got, want, r.Ledger.Header(), out)
						}
					}
					if back.Stream != stream && backend.AsksStream == StreamAsAsked && face != backend {
						t.Errorf("asked for a stream: %v, want %v:\n%s", back.Stream, stream, out)
					}
				})
			}
		}
	}
}
