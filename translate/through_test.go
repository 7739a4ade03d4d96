package translate

import (
	"strings"
	"testing"
	"time"
)

// throughAnswer is an answer from a backend to a client of the same protocol.
func throughAnswer(t *testing.T, protocol string) *Answer {
	t.Helper()
	p := Lookup(protocol)
	body := []byte(`{"model":"m","messages":[{"role":"user","content":"hello"}],"input":"hello","stream":true}`)
	in := &Inbound{Route: &p.Routes[0], Body: body}
	r, e := p.DecodeRequest(in)
	if e != nil {
		t.Fatal(e)
	}
	return NewAnswer(&Setup{Request: r, Agent: &Agent{Name: "it"}, Seed: "s", Now: time.Now, Ledger: &Ledger{}}, p, true, true)
}

const (
	chatOne  = `data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"content":"one"},"finish_reason":null}]}` + "\n\n"
	chatStop = `data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}` + "\n\n"
	chatDone = "data: [DONE]\n\n"
)

// TestThroughIsOverWhenUnreadable tells the client once of what cannot be read,
// and passes nothing on behind it, however the bytes arrive.
func TestThroughIsOverWhenUnreadable(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"data: no\n\n", "data: {\"a\":}\n\n", "data: {\"choices\":7\n\n"} {
		for _, step := range []int{1, 7, 1 << 20} {
			a := throughAnswer(t, "chat")
			var out []byte
			for s := chatOne + bad + chatOne + chatDone; s != ""; s = s[min(step, len(s)):] {
				out = a.Feed(out, []byte(s[:min(step, len(s))]))
			}
			if !a.Over() || a.Err() == nil {
				t.Errorf("%q: over %v, %v", bad, a.Over(), a.Err())
			}
			out = a.End(out, nil)
			rest, ok := strings.CutPrefix(string(out), chatOne)
			if !ok || strings.Count(rest, `"error":{`) != 1 || strings.Count(rest, chatDone) != 1 || strings.Contains(rest, "one") || strings.Contains(rest, "no\n") {
				t.Errorf("%q in steps of %d: %q", bad, step, out)
			}
		}
	}
}

// TestThroughIsOverAtAnEndlessFrame gives up a frame that exceeds the limit.
func TestThroughIsOverAtAnEndlessFrame(t *testing.T) {
	t.Parallel()
	a := throughAnswer(t, "chat")
	a.reader.Max = 1000
	out := a.Feed(nil, []byte(chatOne))
	for range 20 {
		out = a.Feed(out, []byte("data: "+strings.Repeat("x", 100)+"\n"))
	}
	if !a.Over() {
		t.Error("it goes on")
	}
	out = a.End(a.Feed(out, []byte(chatDone)), nil)
	if rest, ok := strings.CutPrefix(string(out), chatOne); !ok || strings.Count(rest, `"error":{`) != 1 || strings.Count(rest, chatDone) != 1 || strings.Contains(rest, "xx") {
		t.Errorf("%q", out)
	}
}

// TestThroughGoesOnAfterItsEnd passes on what the backend sends until its body
// ends, because those are its own words, and says nothing of its own.
func TestThroughGoesOnAfterItsEnd(t *testing.T) {
	t.Parallel()
	for _, s := range []string{
		chatOne + chatStop + chatDone,
		chatOne + chatStop + chatDone + ": late\n\n",
		chatOne + chatStop,
		strings.ReplaceAll(chatOne+chatStop+chatDone, "\n", "\r\n"),
		strings.ReplaceAll(chatOne+chatStop+chatDone, "\n", "\r"),
		`data: {"error":{"message":"it broke"}}` + "\n\n" + chatDone,
	} {
		a := throughAnswer(t, "chat")
		out := a.Feed(nil, []byte(s))
		if a.Over() {
			t.Errorf("%q: over before its body ended", s)
		}
		if out = a.End(out, nil); string(out) != s {
			t.Errorf("sent %q, passed on %q", s, out)
		}
	}
}

// TestThroughCutIsTold adds the failure that a cut stream lacks, as a frame of
// its own, and leaves out the frame that was cut.
func TestThroughCutIsTold(t *testing.T) {
	t.Parallel()
	for cut := range len(chatOne) {
		a := throughAnswer(t, "chat")
		out := a.Feed(nil, []byte(chatOne+chatOne[:cut]))
		out = a.End(out, Truncated(nil))
		rest, ok := strings.CutPrefix(string(out), chatOne)
		if !ok || strings.Contains(rest, `"one"`) || !strings.HasPrefix(rest, "data: {") || !strings.Contains(rest, "stream_truncated") || !strings.HasSuffix(rest, chatDone) {
			t.Fatalf("cut at %d: %q", cut, out)
		}
	}
}

// TestTranslatedIsOverAtItsEnd does not wait for the backend's body to end once
// the answer has.
func TestTranslatedIsOverAtItsEnd(t *testing.T) {
	t.Parallel()
	for _, stream := range []bool{false, true} {
		face, back := Lookup("responses"), Lookup("chat")
		r, e := face.DecodeRequest(&Inbound{Route: &face.Routes[0], Body: []byte(`{"model":"m","input":"hello","stream":` + map[bool]string{false: "false", true: "true"}[stream] + `}`)})
		if e != nil {
			t.Fatal(e)
		}
		a := NewAnswer(&Setup{Request: r, Agent: &Agent{Name: "it"}, Seed: "s", Now: time.Now, Ledger: &Ledger{}}, back, stream, true)
		out := a.Feed(nil, []byte(chatOne+chatStop))
		if a.Over() || !a.Finishing() {
			t.Errorf("stream %v: over %v, finishing %v before its end", stream, a.Over(), a.Finishing())
		}
		out = a.Feed(out, []byte(chatDone))
		if !a.Over() {
			t.Errorf("stream %v: not over at its end", stream)
		}
		out = a.Feed(out, []byte(chatOne))
		if out = a.End(out, nil); a.Err() != nil || strings.Count(string(out), `"status":"completed"`) == 0 || strings.Contains(string(out), "oneone") {
			t.Errorf("stream %v: %v %s", stream, a.Err(), out)
		}
	}
}
