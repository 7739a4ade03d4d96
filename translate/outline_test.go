package translate

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

// outlined decodes a request of a face whose every word lies in its body, and returns
// what an answer to it needs.
func outlined(t *testing.T, face *Protocol, body []byte) *Setup {
	t.Helper()
	in := Inbound{Body: body}
	for i := range face.Routes {
		if face.Routes[i].Op == OpGenerate {
			in.Route = &face.Routes[i]
			break
		}
	}
	r, e := face.DecodeRequest(&in)
	if e != nil {
		t.Fatal(e)
	}
	if e := r.Complete(); e != nil {
		t.Fatal(e)
	}
	r.Stream = true
	r.Ledger.Drop(At("seed"))
	now := time.Date(2026, 2, 5, 0, 58, 15, 0, time.UTC)
	return &Setup{
		Request: r, Agent: &Agent{Name: "demo"}, Seed: strings.Repeat("0", 32), Now: func() time.Time { return now }, Created: now.Unix(),
		Ledger: &Ledger{}, Decoded: &Checker{}, Encoded: &Checker{},
	}
}

var outlineRequests = map[string]string{
	"chat": `{"model":"my-model","messages":[{"role":"user","content":"Hello"}],"stream":true,"stream_options":{"include_usage":true},"logprobs":true,"seed":7,` +
		`"tools":[{"type":"function","function":{"name":"get_weather","parameters":{"type":"object"}}},{"type":"custom","custom":{"name":"run_code"}}]}`,
	"cycls": `{"messages":[{"role":"user","content":"Hello"}]}`,
}

// TestForgottenRequestChangesNothing has the request forgotten, and its body
// overwritten, behind each frame of every recorded stream: the client gets what it gets
// otherwise, and the ledger says the same.
func TestForgottenRequestChangesNothing(t *testing.T) {
	t.Parallel()
	for _, c := range goldenCases(t) {
		if !c.stream || c.status != 200 || len(c.body) > 64<<10 {
			continue
		}
		for name, request := range outlineRequests {
			t.Run(c.name()+" to "+name, func(t *testing.T) {
				t.Parallel()
				face := Lookup(name)
				run := func(at int, forget bool) (string, string) {
					body := []byte(request)
					s := outlined(t, face, body)
					a := NewAnswer(s, c.backend, true, true)
					a.Gather()
					out := a.Feed(nil, c.body[:at])
					if forget {
						if a.ForgetRequest() == nil {
							t.Fatalf("%s does not forget", name)
						}
						for i := range body {
							body[i] = '#'
						}
					}
					out = a.End(a.Feed(out, c.body[at:]), c.cause)
					return string(out), strings.Join(append(s.Request.Ledger.Names(), s.Ledger.Names()...), ", ")
				}
				at := 0
				for range 40 {
					want, lost := run(at, false)
					if got, also := run(at, true); got != want || also != lost {
						t.Fatalf("forgotten behind byte %d:\ngot  %s\nwant %s\nlost %s, want %s", at, got, want, also, lost)
					}
					n := bytes.IndexAny(c.body[at:], "\r\n")
					if n < 0 {
						break
					}
					at += n + 1
				}
			})
		}
	}
}

// TestRequestThatIsRepeatedIsKept: a protocol whose answers repeat the request forgets
// nothing of it.
func TestRequestThatIsRepeatedIsKept(t *testing.T) {
	t.Parallel()
	face := Lookup("responses")
	s := outlined(t, face, []byte(`{"model":"m","input":"Hello","instructions":"Be brief.","stream":true}`))
	before := s.Request
	a := NewAnswer(s, Lookup("chat"), true, true)
	if r := a.ForgetRequest(); r != nil || s.Request != before {
		t.Errorf("forgotten: %+v", r)
	}
}
