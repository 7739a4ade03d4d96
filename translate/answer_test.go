package translate

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/dragoman-proxy/dragoman/internal/sse"
)

// fakeProtocol speaks events: every frame of its streams holds one event in
// text form, and its JSON answers are {"events":["…"]}.
func fakeProtocol(name string, speaks Speech) *Protocol {
	f := fakeSide{}
	return &Protocol{Name: name, Speaks: speaks, Face: f, Backend: f}
}

type fakeSide struct{}

func (fakeSide) DecodeRequest(*Inbound) (*Request, *Error)           { return &Request{}, nil }
func (fakeSide) NewEncoder(*Setup) Encoder                           { return fakeEncoder{} }
func (fakeSide) AppendError(dst []byte, e *Error) []byte             { return append(dst, e.Code...) }
func (fakeSide) AppendAgents(dst []byte, _ Op, _ []AgentInfo) []byte { return dst }
func (fakeSide) NewDecoder(*Setup) Decoder                           { return &fakeDecoder{seq: -1} }
func (fakeSide) AppendAnswer(dst []byte, _ *Setup, f *Fold) []byte   { return append(dst, f.Text()...) }
func (fakeSide) SpliceRequest(d []byte, r *Request, _ *Agent) ([]byte, *Error) {
	return append(d, r.Body...), nil
}

func (fakeSide) EncodeRequest(d []byte, _ *Request, _ *Agent, _ bool) ([]byte, *Error) {
	return d, nil
}

func (fakeSide) AppendFailure(dst []byte, e *Error, t *Tap) []byte {
	return append(dst, "data: FAILED "+e.Code+" id="+t.ID+" model="+t.Model+" seq="+string(rune('0'+t.Seq))+"\n\n"...)
}

type fakeEncoder struct{}

func (fakeEncoder) Encode(dst []byte, e *Event) []byte {
	return sse.AppendData(dst, []byte(eventText(e)))
}

type fakeDecoder struct {
	seq       int64
	ended     bool
	finishing bool
}

func (d *fakeDecoder) Frame(f *sse.Frame, out Sink) {
	if d.ended || len(f.Data) == 0 {
		return
	}
	d.seq++
	switch string(f.Data) {
	case "finishing":
		d.finishing = true
		return
	case "hidden":
		return
	}
	e, err := parseEventLine(string(f.Data))
	if err != nil {
		e = &Event{Kind: EventFail, Err: Unreadable(err)}
	}
	d.ended = e.Kind == EventFinish || e.Kind == EventFail
	out.Event(e)
}

func (d *fakeDecoder) Keep(f *sse.Frame) bool { return string(f.Data) != "hidden" }
func (d *fakeDecoder) LastSeq() int64         { return d.seq }
func (d *fakeDecoder) Finishing() bool        { return d.finishing }

func (d *fakeDecoder) End(cause *Error, out Sink) {
	switch {
	case d.ended:
	case d.finishing && cause == nil:
		out.Event(&Event{Kind: EventFinish})
	case cause != nil:
		out.Event(&Event{Kind: EventFail, Err: cause})
	}
}

func (d *fakeDecoder) JSON(body []byte, out Sink) {
	for line := range strings.SplitSeq(strings.Trim(string(body), `"`), ";") {
		if e, err := parseEventLine(strings.ReplaceAll(line, "'", `"`)); err == nil {
			out.Event(e)
		}
	}
}

func frames(lines ...string) string {
	s := ""
	for _, l := range lines {
		s += "data: " + l + "\n\n"
	}
	return s
}

type fakeExchange struct {
	face, backend *Protocol
	wantStream    bool
	gotStream     bool
	answer        *Answer
	setup         *Setup
}

func newFakeExchange(through, wantStream, gotStream bool) *fakeExchange {
	x := &fakeExchange{wantStream: wantStream, gotStream: gotStream}
	x.face = fakeProtocol("a", Speech{Blocks: Blocks(BlockText, BlockToolCall), Overlap: true})
	x.backend = x.face
	if !through {
		x.backend = fakeProtocol("b", speaksAll)
	}
	x.setup = &Setup{Request: &Request{Face: x.face}, Ledger: &Ledger{}, Now: time.Now, Decoded: &Checker{}, Encoded: &Checker{}}
	x.answer = NewAnswer(x.setup, x.backend, wantStream, gotStream)
	return x
}

// run feeds a stream in pieces of the given size and ends it.
func (x *fakeExchange) run(t *testing.T, stream string, size int, cause *Error) string {
	t.Helper()
	var out []byte
	piece := []byte{}
	for rest := stream; rest != ""; {
		n := min(size, len(rest))
		piece = append(piece[:0], rest[:n]...)
		rest = rest[n:]
		out = x.answer.Feed(out, piece)
		for i := range piece {
			piece[i] = '#' // it is not kept
		}
	}
	out = x.answer.End(out, cause)
	for _, c := range []*Checker{x.setup.Decoded, x.setup.Encoded} {
		if err := c.Err(); err != nil {
			t.Error(err)
		}
	}
	if !x.answer.Ended() {
		t.Error("the answer has not ended")
	}
	return string(out)
}

const fakeStart = `start id="i" model="m"`

func TestAnswerStream(t *testing.T) {
	t.Parallel()
	whole := frames(fakeStart, `block 0 reasoning msg=0 part=0`, `delta 0 "hm"`, `end 0`, `block 1 text msg=0 part=0`, `delta 1 "a"`, `end 1`, `usage input=1`, `finish stop`)
	shown := frames(fakeStart, `block 1 text msg=0 part=0`, `delta 1 "a"`, `end 1`, `usage input=1`, `finish stop`)
	begun := frames(fakeStart, `block 1 text msg=0 part=0`, `delta 1 "a"`)
	reset := &Error{Kind: KindBackend, Status: 502, Code: "cut", Message: "m"}
	for _, c := range []struct {
		name    string
		through bool
		in      string
		cause   *Error
		want    string
		code    string
	}{
		{"translated", false, whole, nil, shown, ""},
		{"passed", true, whole, nil, whole, ""},
		{"comments pass", true, ": hi\n\nevent: x\r\ndata: " + fakeStart + "\r\n\r\n" + frames("finish stop"), nil,
			": hi\n\nevent: x\r\ndata: " + fakeStart + "\r\n\r\n" + frames("finish stop"), ""},
		{"hidden frames", true, frames(fakeStart, "hidden", "finish stop"), nil, frames(fakeStart, "finish stop"), ""},
		{"cut clean, translated", false, begun, nil, begun + frames(`fail status=502 code="stream_truncated" message="The agent's answer broke off before its end."`), "stream_truncated"},
		{"cut clean, passed", true, begun, nil, begun + "data: FAILED stream_truncated id=i model=m seq=2\n\n", "stream_truncated"},
		{"cut off, translated", false, begun, reset, begun + frames(`fail status=502 code="cut" message="m"`), "cut"},
		{"cut off, passed", true, begun, reset, begun + "data: FAILED cut id=i model=m seq=2\n\n", "cut"},
		{"cut in mid-frame, translated", false, begun + "data: delta 1 \"b", reset, begun + frames(`fail status=502 code="cut" message="m"`), "cut"},
		{"cut in mid-frame, passed", true, begun + "data: delta 1 \"b", reset, begun + "data: FAILED cut id=i model=m seq=2\n\n", "cut"},
		{"last frame without its blank line, translated", false, strings.TrimRight(whole, "\n"), nil, shown, ""},
		{"last frame without its blank line, passed", true, strings.TrimRight(whole, "\n"), nil, whole, ""},
		{"failure in band, translated", false, begun + frames(`fail status=429 code="c" message="m"`), nil, begun + frames(`fail status=429 code="c" message="m"`), "c"},
		{"failure in band, passed", true, begun + frames(`fail status=429 code="c" message="m"`, "rest"), nil, begun + frames(`fail status=429 code="c" message="m"`, "rest"), "c"},
		{"unreadable, translated", false, begun + frames("garbage") + whole, nil, begun + frames(`fail status=502 code="bad_gateway" message="The agent's answer could not be read."`), "bad_gateway"},
		{"unreadable, passed", true, begun + frames("garbage") + whole, nil, begun + "data: FAILED bad_gateway id=i model=m seq=3\n\n", "bad_gateway"},
		{"finish held to the end", false, begun + frames("end 1", "finishing"), nil, begun + frames("end 1", "finish stop"), ""},
		{"a cut after the finish", false, begun + frames("end 1", "finishing"), reset, begun + frames("end 1", `fail status=502 code="cut" message="m"`), "cut"},
		{"nothing at all", false, "", nil, frames(`fail status=502 code="stream_truncated" message="The agent's answer broke off before its end."`), "stream_truncated"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			for _, size := range []int{1, 2, 7, 1 << 20} {
				x := newFakeExchange(c.through, true, true)
				if got := x.answer.PassedThrough(); got != c.through {
					t.Fatalf("passed through %v, want %v", got, c.through)
				}
				got := x.run(t, c.in, size, c.cause)
				if got != c.want {
					t.Fatalf("by %d bytes:\ngot\n%s\nwant\n%s", size, got, c.want)
				}
				code := ""
				if e := x.answer.Err(); e != nil {
					code = e.Code
				}
				if code != c.code {
					t.Fatalf("err %q, want %q", code, c.code)
				}
			}
		})
	}
}

func TestAnswerIsGatheredIntoJSON(t *testing.T) {
	t.Parallel()
	x := newFakeExchange(false, false, true)
	stream := frames(fakeStart, `block 1 text msg=0 part=0`, `delta 1 "a"`, `end 1`, `block 2 code`, `delta 2 "x"`, `end 2`, `usage input=1 output=2`, `finish length`)
	if out := x.answer.Feed(nil, []byte(stream)); len(out) > 0 {
		t.Errorf("%q before the end", out)
	}
	if got, want := string(x.answer.End(nil, nil)), "a\n\n````\nx\n````"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if x.answer.Reason() != FinishLength || x.answer.Usage().Sum() != 3 || x.answer.Err() != nil {
		t.Errorf("reason %v usage %v err %v", x.answer.Reason(), x.answer.Usage(), x.answer.Err())
	}

	x = newFakeExchange(false, false, true)
	if got := x.run(t, frames(fakeStart, `block 1 text`, `delta 1 "a"`), 5, nil); got != "" {
		t.Errorf("a cut answer gave %q, want nothing: it is an HTTP error", got)
	}
	if x.answer.Err() == nil || x.answer.Err().Status != 502 {
		t.Errorf("err %v", x.answer.Err())
	}
}

func TestAnswerBody(t *testing.T) {
	t.Parallel()
	const body = `"start id='i';block 1 text;delta 1 'a';end 1;usage input=4;finish stop"`
	for _, c := range []struct {
		name    string
		through bool
		stream  bool
		body    string
		want    string
		code    string
	}{
		{"translated", false, false, body, "a", ""},
		{"as a stream", false, true, body, frames(`start id="i"`, `block 1 text msg=0 part=0`, `delta 1 "a"`, `end 1`, `usage input=4`, `finish stop`), ""},
		{"passed", true, false, body, body, ""},
		{"not JSON", false, false, "<html>", "", "bad_gateway"},
		{"not JSON, passed", true, false, "<html>", "", "bad_gateway"},
		{"failed", false, false, `"start;fail status=429 code='slow'"`, "", "slow"},
		{"failed, passed", true, false, `"start;fail status=429 code='slow'"`, "", "slow"},
		{"without an end", false, false, `"start;block 1 text;end 1"`, "", "bad_gateway"},
		{"without an end, as a stream", false, true, `"start"`, frames("start", `fail status=502 code="bad_gateway" message="The agent's answer could not be read."`), "bad_gateway"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			x := newFakeExchange(c.through, c.stream, false)
			got := string(x.answer.Body(nil, []byte(c.body)))
			if got != c.want {
				t.Errorf("got\n%s\nwant\n%s", got, c.want)
			}
			code := ""
			if e := x.answer.Err(); e != nil {
				code = e.Code
			}
			if code != c.code {
				t.Errorf("err %q, want %q", code, c.code)
			}
			if err := x.setup.Encoded.Err(); err != nil && !x.answer.PassedThrough() {
				t.Error(err)
			}
		})
	}
}

func TestAnswerStarted(t *testing.T) {
	t.Parallel()
	x := newFakeExchange(false, true, true)
	for _, c := range []struct {
		frame     string
		started   bool
		ended     bool
		finishing bool
	}{
		{"ping", false, false, false},
		{fakeStart, false, false, false},
		{"usage input=1", false, false, false},
		{"block 0 text", true, false, false},
		{"end 0", true, false, false},
		{"finishing", true, false, true},
		{"finish stop", true, true, true},
	} {
		x.answer.Feed(nil, []byte(frames(c.frame)))
		a := x.answer
		if a.Started() != c.started || a.Ended() != c.ended || a.Finishing() != c.finishing || a.Over() != c.ended {
			t.Errorf("after %q: started %v ended %v finishing %v over %v", c.frame, a.Started(), a.Ended(), a.Finishing(), a.Over())
		}
	}
	// What passes through goes on after its end, unless it could not be read.
	x = newFakeExchange(true, true, true)
	x.answer.Feed(nil, []byte(frames(fakeStart, "finish stop")))
	if !x.answer.Ended() || x.answer.Over() {
		t.Errorf("passed through: ended %v over %v", x.answer.Ended(), x.answer.Over())
	}
	x = newFakeExchange(true, true, true)
	x.answer.Feed(nil, []byte(frames(fakeStart, "garbage")))
	if !x.answer.Over() {
		t.Error("unreadable, but not over")
	}
	// A failure before anything was said can still be an HTTP error.
	x = newFakeExchange(false, true, true)
	x.answer.Feed(nil, []byte(frames(fakeStart, `fail status=429 code="slow"`)))
	if x.answer.Started() || x.answer.Err() == nil {
		t.Errorf("started %v err %v", x.answer.Started(), x.answer.Err())
	}
	// An answer that says nothing but is whole has started.
	x = newFakeExchange(false, true, true)
	x.answer.Feed(nil, []byte(frames(fakeStart, `finish stop`)))
	if !x.answer.Started() {
		t.Error("a finished answer has not started")
	}
}

// A stage that fails ends the answer, whichever way it is written.
func TestAnswerOfAFailedStage(t *testing.T) {
	t.Parallel()
	for _, wantStream := range []bool{true, false} {
		x := newFakeExchange(false, wantStream, true)
		big := `"` + strings.Repeat("x", 1<<19) + `"`
		stream := frames(fakeStart, `block 0 text`, `block 1 text`, `delta 1 `+big, `delta 1 `+big, `delta 1 `+big, `end 1`, `end 0`, `finish stop`)
		var out []byte
		out = x.answer.Feed(out, []byte(stream))
		out = x.answer.End(out, nil)
		if e := x.answer.Err(); e == nil || e.Status != 502 {
			t.Errorf("stream %v: err %v, want 502", wantStream, e)
		}
		if wantStream != bytes.Contains(out, []byte("data: fail status=502")) || bytes.Contains(out, []byte("finish")) {
			t.Errorf("stream %v: %d bytes, no failure in them", wantStream, len(out))
		}
		if !x.answer.Ended() {
			t.Errorf("stream %v: not ended", wantStream)
		}
	}
}

func TestAnswerIsBounded(t *testing.T) {
	t.Parallel()
	x := newFakeExchange(false, false, true)
	x.answer.Feed(nil, []byte(frames(fakeStart, "block 0 text")))
	delta := []byte(frames(`delta 0 "` + strings.Repeat("x", 1<<20) + `"`))
	for range MaxAnswer>>20 + 2 {
		x.answer.Feed(nil, delta)
	}
	if e := x.answer.Err(); e == nil || !errors.Is(e, errAnswerTooLong) {
		t.Errorf("err %v, want %v", e, errAnswerTooLong)
	}

	x = newFakeExchange(true, true, true)
	out := x.answer.Feed(nil, []byte(frames(fakeStart)))
	for range MaxFrame>>20 + 2 {
		out = x.answer.Feed(out, bytes.Repeat([]byte("x"), 1<<20))
	}
	out = x.answer.End(out, nil)
	if want := frames(fakeStart) + "data: FAILED bad_gateway id=i model=m seq=0\n\n"; string(out) != want {
		t.Errorf("an endless frame: got %d bytes, want %q", len(out), want)
	}
}

// TestFailureAfterSpeakingInvitesNobody says x-should-retry: false once the agent
// has run, even where its error would else invite the client to try again.
func TestFailureAfterSpeakingInvitesNobody(t *testing.T) {
	t.Parallel()
	limited := `{"error":{"message":"slow down","type":"rate_limit_error","code":429}}`
	f := func(stream string, want bool) {
		t.Helper()
		r, e := chatProtocol.DecodeRequest(&Inbound{Route: &chatProtocol.Routes[0], Body: []byte(`{"messages":[{"role":"user","content":"hi"}]}`)})
		if e != nil {
			t.Fatal(e)
		}
		s := &Setup{Request: r, Agent: &Agent{Name: "it"}, Seed: strings.Repeat("0", 32), Now: time.Now, Ledger: &Ledger{}}
		a := NewAnswer(s, &chatProtocol, false, true)
		a.End(a.Feed(nil, []byte(stream)), nil)
		if a.Err() == nil || a.Err().Status != 429 || a.Err().NoRetry != want {
			t.Errorf("%q: %+v", stream, a.Err())
		}
	}
	f("data: "+limited+"\n\n", false)
	f(`data: {"choices":[{"index":0,"delta":{"content":"one"}}]}`+"\n\ndata: "+limited+"\n\n", true)
}
