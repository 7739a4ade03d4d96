package translate

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/dragoman-proxy/dragoman/internal/jsonx"
	"github.com/dragoman-proxy/dragoman/internal/sse"
)

// chatGoldenSeeds seeds a fuzzer with the backends' bytes of the golden cases.
func chatGoldenSeeds(f *testing.F, name string) {
	f.Helper()
	files, err := filepath.Glob("testdata/*/*/" + name)
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
}

// fuzzChatLike decodes a body that has passed the gate and holds what is made of
// it to be JSON.
func fuzzChatLike(t *testing.T, face *Protocol, body []byte) {
	if jsonx.Check(body, jsonx.CheckOptions{}) != nil {
		return
	}
	kept := bytes.Clone(body)
	in := &Inbound{ID: "home", Body: body}
	r, err := face.DecodeRequest(in)
	if err != nil {
		if err.Status != 400 || err.Message == "" {
			t.Fatalf("got status %d, message %q", err.Status, err.Message)
		}
		return
	}
	a := &Agent{Name: "a", Model: `m"`, SystemPrompt: "s", MaxTokens: 3, Temperature: "0.5", Options: map[string]string{"request_usage": "true"}}
	spliced, err := face.SpliceRequest(nil, r, a)
	if err == nil && !jsonx.Valid(spliced) {
		t.Fatalf("spliced: not JSON: %s", spliced)
	}
	for _, backend := range []*Protocol{&chatProtocol, &ticosProtocol} {
		// Each gets a request of its own: encoding fills the ledger.
		r, err := face.DecodeRequest(in)
		if err != nil {
			t.Fatal("the second decoding failed")
		}
		r.ApplyDefaults(a)
		out, err := backend.EncodeRequest(nil, r, a, true)
		if err == nil && !jsonx.Valid(out) {
			t.Fatalf("%s: not JSON: %s", backend.Name, out)
		}
	}
	if !bytes.Equal(body, kept) {
		t.Fatal("the body was changed")
	}
}

func FuzzChatRequest(f *testing.F) {
	for _, s := range []string{
		`{"model":"m","messages":[{"role":"user","content":"a"}]}`,
		`{"messages":[{"role":"user","content":[{"type":"text","text":"a"},{"type":"image_url","image_url":{"url":"u"}}]},{"role":"assistant","tool_calls":[{"id":"1","type":"function","function":{"name":"f","arguments":"{}"}}]},{"role":"tool","tool_call_id":"1","content":"r"}],"tools":[{"type":"function","function":{"name":"f","parameters":{}}}],"tool_choice":"required"}`,
		`{"messages":[{"role":"assistant","function_call":{"name":"f","arguments":""}},{"role":"function","name":"f","content":"r"}],"functions":[{"name":"f"}],"function_call":"auto","stream":true,"stream_options":{}}`,
		`{"messages":[{"role":"developer","content":"a"}],"response_format":{"type":"json_schema","json_schema":{"name":"s","schema":{}}},"stop":["a"],"n":2}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) { fuzzChatLike(t, &chatProtocol, body) })
}

func FuzzTicosRequest(f *testing.F) {
	for _, s := range []string{
		`{"input":"a"}`, `{"input":"https://x.test/a.png"}`, `{"input":[{"type":"text","text":"a"}],"stream":true}`,
		`{"input":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}],"instructions":"s"}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) { fuzzChatLike(t, &ticosProtocol, body) })
}

// FuzzChatStream holds the decoder to the order of events, to the same events
// whether or not it compares chunks with the one before, and what is encoded
// from them to be whole frames of JSON.
func FuzzChatStream(f *testing.F) {
	chatGoldenSeeds(f, "backend.sse")
	f.Fuzz(func(t *testing.T, stream []byte) {
		var frames []string
		r := sse.Reader{}
		r.Feed(stream)
		for {
			frame, ok := r.Next()
			if !ok {
				break
			}
			if frame.Event == nil {
				frames = append(frames, string(frame.Data))
			}
		}
		fast := chatEvents(t, chatTestSetup(&Request{}), frames, false)
		slow := chatEvents(t, chatTestSetup(&Request{}), frames, true)
		if fast != slow {
			t.Fatalf("got\n%s\nwant\n%s", fast, slow)
		}
		for _, face := range []*Protocol{&chatProtocol, &ticosProtocol} {
			s := chatTestSetup(&Request{Face: face, Model: "m", IncludeUsage: true})
			e := &chatEncoding{enc: face.NewEncoder(s)}
			d := newCompletionDecoder(s)
			for _, frame := range frames {
				d.Frame(&sse.Frame{Data: []byte(frame)}, e)
			}
			d.End(nil, e)
			checkChatFrames(t, e.dst)
		}
	})
}

// checkChatFrames holds every frame of a chat stream to be JSON, and [DONE] to be
// the last.
func checkChatFrames(t *testing.T, stream []byte) {
	t.Helper()
	if !bytes.HasSuffix(stream, []byte("data: [DONE]\n\n")) {
		t.Fatalf("no [DONE] at the end: %s", stream)
	}
	for frame := range bytes.SplitSeq(bytes.TrimSuffix(stream, []byte("\n\n")), []byte("\n\n")) {
		data, ok := bytes.CutPrefix(frame, []byte("data: "))
		if !ok || string(data) != "[DONE]" && !jsonx.Valid(data) {
			t.Fatalf("not a frame: %q", frame)
		}
	}
}

func FuzzChatJSON(f *testing.F) {
	chatGoldenSeeds(f, "backend.json")
	f.Fuzz(func(t *testing.T, body []byte) {
		if jsonx.Check(body, jsonx.CheckOptions{}) != nil {
			return
		}
		s := chatTestSetup(&Request{Face: &chatProtocol, Model: "m"})
		fold := NewFold()
		check := &Checker{Next: fold}
		newCompletionDecoder(s).JSON(body, check)
		if check.Err() != nil || !check.Ended() {
			t.Fatalf("order of events: %v, ended %v", check.Err(), check.Ended())
		}
		if fold.Err == nil {
			if out := (chatFace{}).AppendAnswer(nil, s, fold); !jsonx.Valid(out) {
				t.Fatalf("not JSON: %s", out)
			}
		}
	})
}
