package translate

import (
	"testing"

	"github.com/tidwall/gjson"

	"github.com/dragoman-proxy/dragoman/internal/jsonx"
)

// fuzzRespRequest holds a face to what it promises of any body: an error that
// is a 400, or a request that both families of backends can be asked with.
func fuzzRespRequest(t *testing.T, face *Protocol, body []byte) {
	if jsonx.Check(body, jsonx.CheckOptions{UTF8: true, Duplicates: 8}) != nil {
		return
	}
	r, err := face.DecodeRequest(&Inbound{Body: body})
	if err != nil {
		if err.Status != 400 || err.Message == "" || !jsonx.Valid(face.AppendError(nil, err)) {
			t.Fatalf("%+v", err)
		}
		return
	}
	if len(r.Turns) == 0 {
		t.Fatal("a request without a turn")
	}
	a := &Agent{Name: "ag", Model: "key", SystemPrompt: "s", MaxTokens: 9, Temperature: "0.5"}
	spliced, err := face.SpliceRequest(nil, r, a)
	if err != nil || !jsonx.Valid(spliced) {
		t.Fatalf("spliced %s: %v", spliced, err)
	}
	if got := gjson.GetBytes(spliced, "model").String(); got != "key" {
		t.Fatalf("model %q in %s", got, spliced)
	}
	for _, p := range []*Protocol{&responsesProtocol, &cognipeerProtocol} {
		ask, err := p.EncodeRequest(nil, r, a, true)
		if err != nil {
			if err.Status != 400 {
				t.Fatalf("%+v", err)
			}
			continue
		}
		if !jsonx.Valid(ask) {
			t.Fatalf("not JSON: %s", ask)
		}
		if p == &responsesProtocol && gjson.GetBytes(ask, "input.#").Int() > 0 {
			if _, err := responsesProtocol.DecodeRequest(&Inbound{Body: ask}); err != nil {
				t.Fatalf("our own face refuses %s: %v", ask, err)
			}
		}
	}
	s := respTestSetup(r)
	enc := &respSink{enc: face.NewEncoder(s)}
	enc.Event(&Event{Kind: EventStart})
	enc.Event(&Event{Kind: EventFinish})
	if err := checkResponsesStream(enc.out); err != nil {
		t.Fatal(err)
	}
}

var respFuzzBodies = []string{
	`{"model":"m","input":"hi","instructions":"i","stream":true,"temperature":0.5}`,
	`{"model":"m","input":[{"role":"user","content":[{"type":"input_text","text":"t"},{"type":"input_image","image_url":"u"},{"type":"input_file","file_data":"data:a/b;base64,AA=="}]}]}`,
	`{"input":[{"type":"reasoning","summary":[{"type":"summary_text","text":"s"}],"encrypted_content":"E"},{"type":"function_call","call_id":"c","name":"f","arguments":"{}"},{"type":"function_call_output","call_id":"c","output":[{"type":"input_text","text":"o"}]},{"type":"web_search_call","id":"w","action":{}}]}`,
	`{"model":"m","input":"x","tools":[{"type":"function","name":"f","parameters":{}},{"type":"custom","name":"c","format":{"type":"grammar"}},{"type":"web_search"}],"tool_choice":{"type":"allowed_tools","mode":"auto","tools":[{"type":"mcp","server_label":"x"}]},"include":["message.output_text.logprobs","x"],"reasoning":{"effort":"low","mode":null,"context":"x"},"text":{"format":{"type":"json_schema","name":"n","schema":{}},"verbosity":"low"},"metadata":{"a":"b"},"version":2,"runtime_context":{},"previous_response_id":"x"}`,
}

func FuzzResponsesRequest(f *testing.F) {
	for _, b := range respFuzzBodies {
		f.Add([]byte(b))
	}
	f.Fuzz(func(t *testing.T, body []byte) { fuzzRespRequest(t, &responsesProtocol, body) })
}

func FuzzCognipeerRequest(f *testing.F) {
	for _, b := range respFuzzBodies {
		f.Add([]byte(b))
	}
	f.Fuzz(func(t *testing.T, body []byte) { fuzzRespRequest(t, &cognipeerProtocol, body) })
}

// fuzzRespAnswer plays an answer to both forms of a Responses client: the
// events keep their order, the stream its grammar, and JSON is JSON.
func fuzzRespAnswer(t *testing.T, play func(s *Setup, out Sink)) {
	for _, stream := range []bool{true, false} {
		r := respTestRequest(t, &responsesProtocol)
		s := respTestSetup(r)
		enc := &respSink{enc: newRespEncoder(s)}
		fold := NewFold()
		var last Sink = enc
		if !stream {
			last = fold
		}
		check := &Checker{Next: stages(s, &responsesProtocol, last)}
		play(s, check)
		if check.Err() != nil || !check.Ended() {
			t.Fatalf("%v, ended %v", check.Err(), check.Ended())
		}
		switch {
		case stream:
			if err := checkResponsesStream(enc.out); err != nil {
				t.Fatalf("%v\n%s", err, enc.out)
			}
		case fold.Err == nil:
			body := responsesProtocol.AppendAnswer(nil, s, fold)
			if !jsonx.Valid(body) {
				t.Fatalf("not JSON: %s", body)
			}
			if err := checkResponsesObject(gjson.ParseBytes(body)); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func FuzzResponsesStream(f *testing.F) {
	for _, c := range respCases(f) {
		if c.stream != nil {
			f.Add(c.stream, 0)
			f.Add(c.stream, 5)
		}
	}
	f.Fuzz(func(t *testing.T, stream []byte, n int) {
		n = max(n%64, 0)
		fuzzRespAnswer(t, func(s *Setup, out Sink) { respFeed(newRespDecoder(s), stream, n, false, out) })
	})
}

func fuzzRespJSON(f *testing.F, p *Protocol) {
	for _, c := range respCases(f) {
		if c.body != nil {
			f.Add(c.body)
		}
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		if jsonx.Check(body, jsonx.CheckOptions{}) != nil {
			return
		}
		fuzzRespAnswer(t, func(s *Setup, out Sink) { p.NewDecoder(s).JSON(body, out) })
	})
}

func FuzzResponsesJSON(f *testing.F) { fuzzRespJSON(f, &responsesProtocol) }

func FuzzCognipeerJSON(f *testing.F) { fuzzRespJSON(f, &cognipeerProtocol) }
