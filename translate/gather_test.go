package translate

import (
	"bytes"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/tidwall/gjson"
)

// spelling is an answer of a Cycls agent to a chat client, with its letters
// gathered.
func spelling(t testing.TB, face string) *Answer {
	t.Helper()
	a := NewAnswer(goldenSetup(t, Lookup(face), true), Lookup("cycls"), true, true)
	a.Gather()
	return a
}

func letters(s string) (events string) {
	for _, r := range s {
		events += `data: {"type": "text", "text": ` + quote(string(r)) + "}\n\n"
	}
	return events
}

// said are the pieces of text in what a chat client got.
func said(t testing.TB, out []byte) string {
	t.Helper()
	frames, err := splitStream(out)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for i := range frames {
		if s := gjson.GetBytes(frames[i].Data, "choices.0.delta.content").String(); s != "" {
			all = append(all, s)
		}
	}
	return strings.Join(all, "|")
}

func TestLettersAreGathered(t *testing.T) {
	t.Parallel()
	a := spelling(t, "chat")
	step := func(name string, hold bool, in, want string, held bool) {
		t.Helper()
		a.Hold(hold)
		out := a.Feed(nil, []byte(in))
		if got := said(t, out); got != want || a.Held() != held {
			t.Errorf("%s: got %q, held %v; want %q, %v", name, got, a.Held(), want, held)
		}
	}
	flush := func(want string) {
		t.Helper()
		if got := said(t, a.Flush(nil)); got != want || a.Held() {
			t.Errorf("flushed %q, want %q", got, want)
		}
	}
	step("the first goes at once, though it might be held", true, letters("H"), "H", false)
	step("the next is held", true, letters("e"), "", true)
	step("and the next", true, letters("llo"), "", true)
	flush("ello")
	flush("")
	step("not when the time is over", false, letters("w"), "w", false)
	step("all of one read is one", false, letters("örld"), "örld", false)
	step("a word takes them along", true, letters("ab")+`data: {"type": "text", "text": " word"}`+"\n\n", "ab| word", false)
	step("behind a word the first goes at once", true, letters("c"), "c", false)
	step("then it is held again", true, letters("d"), "", true)
	step("a ping takes it along", true, `data: {"type": "ping"}`+"\n\n", "d", false)
	step("held", true, letters("e"), "", true)
	step("another component takes it along", true, `data: {"type": "callout", "callout": "x"}`+"\n\n", "e|\n\n> x", false)
	step("a new block begins at once", true, letters("f"), "\n\nf", false)
	step("held", true, letters("g"), "", true)
	if got := said(t, a.End(nil, Truncated(nil))); got != "g" || a.Held() {
		t.Errorf("at the end: %q", got)
	}
	a = spelling(t, "chat")
	step("the first", true, letters("a"), "a", false)
	step("the size bounds it", true, letters(strings.Repeat("x", gatherMax+10)), strings.Repeat("x", gatherMax), true)
	flush(strings.Repeat("x", 10))
	step("the end takes it along", true, letters("z")+"data: [DONE]\n\n", "z", false)
}

func TestLettersOfOthersAreNotGathered(t *testing.T) {
	t.Parallel()
	chunk := func(s string) string {
		return `data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"content":"` + s + `"},"finish_reason":null}]}` + "\n\n"
	}
	a := NewAnswer(goldenSetup(t, Lookup("swarms"), true), Lookup("chat"), true, true)
	a.Gather()
	a.Hold(true)
	out := a.Feed(nil, []byte(chunk("a")+chunk("b")))
	if n := bytes.Count(out, []byte("event: chunk")); n != 2 || a.Held() {
		t.Errorf("%d chunks, held %v", n, a.Held())
	}
	through := NewAnswer(goldenSetup(t, Lookup("cycls"), true), Lookup("cycls"), true, true)
	through.Gather()
	through.Hold(true)
	if out := through.Feed(nil, []byte(letters("ab"))); string(out) != letters("ab") || through.Held() {
		t.Errorf("passed through: %q", out)
	}
}

// Gathering loses nothing and changes no order, however the stream comes and
// whenever it is flushed.
func TestGatheringLosesNothing(t *testing.T) {
	t.Parallel()
	for _, c := range goldenCases(t) {
		if c.backend.Name != "cycls" || !c.stream || c.status != 200 {
			continue
		}
		for seed := range uint64(20) {
			rnd := rand.New(rand.NewPCG(seed, 3))
			for _, face := range registry {
				checkGathered(t, c, face, rnd)
			}
		}
	}
}

func checkGathered(t testing.TB, c *goldenCase, face *Protocol, rnd *rand.Rand) {
	t.Helper()
	want, plain, _ := c.answer(t, face, true, nil)
	s := goldenSetup(t, face, true)
	a := NewAnswer(s, c.backend, true, true)
	a.Gather()
	var out []byte
	for rest := c.body; len(rest) > 0; {
		n := 1 + rnd.IntN(min(len(rest), 200))
		a.Hold(rnd.IntN(2) > 0)
		out = a.Feed(out, rest[:n])
		if rnd.IntN(3) == 0 {
			out = a.Flush(out)
		}
		rest = rest[n:]
	}
	out = a.End(out, c.cause)
	if err := s.Encoded.Err(); err != nil {
		t.Errorf("%s to %s: %v", c.name(), face.Name, err)
	}
	if a.Held() || (a.Err() == nil) != (plain.Err() == nil) {
		t.Errorf("%s to %s: held %v, %v", c.name(), face.Name, a.Held(), a.Err())
	}
	if a.Err() != nil && !a.Started() || a.PassedThrough() {
		return
	}
	events := func(b []byte) string {
		return joinDeltas((&goldenCase{backend: face, body: b, stream: true, status: 200}).decode(t, nil))
	}
	if got, want := events(out), events(want); got != want {
		t.Errorf("%s to %s: %s", c.name(), face.Name, diffLines(got, want))
	}
}

func TestGatheringAllocatesNothing(t *testing.T) {
	// Not parallel: AllocsPerRun counts for the whole process.
	if raceEnabled {
		t.Skip("under the race detector a sync.Pool drops what it is given now and then")
	}
	for _, face := range registry {
		if face.Name == "cycls" {
			continue
		}
		a := spelling(t, face.Name)
		one := []byte(letters("ö"))
		out := a.Feed(make([]byte, 0, 64<<10), one)
		if n := testing.AllocsPerRun(2000, func() {
			a.Hold(true)
			out = a.Feed(out[:0], one)
			out = a.Feed(out, one)
			out = a.Flush(out)
		}); n > 0.01 { // what a protocol obliges us to keep grows by doubling
			t.Errorf("%s: %v allocations", face.Name, n)
		}
	}
}

// FuzzGather sends text without events and events of letters through the
// gathering, in any pieces.
func FuzzGather(f *testing.F) {
	f.Add("hello wörld", uint64(1), false)
	f.Add("data: x", uint64(2), true)
	f.Fuzz(func(t *testing.T, text string, seed uint64, raw bool) {
		if !utf8.ValidString(text) || len(text) > 1000 || strings.TrimSpace(text) == "" {
			return
		}
		body := text
		s := goldenSetup(t, Lookup("chat"), true)
		if raw {
			s.Agent.Options["era"] = "text"
		} else {
			body = letters(text) + "data: [DONE]\n\n"
		}
		s.Now = time.Now
		a := NewAnswer(s, Lookup("cycls"), true, true)
		a.Gather()
		rnd := rand.New(rand.NewPCG(seed, 5))
		var out []byte
		for rest := []byte(body); len(rest) > 0; {
			n := 1 + rnd.IntN(min(len(rest), 90))
			a.Hold(rnd.IntN(2) > 0)
			out = a.Feed(out, rest[:n])
			if rnd.IntN(3) == 0 {
				out = a.Flush(out)
			}
			rest = rest[n:]
		}
		out = a.End(out, nil)
		if got := strings.ReplaceAll(said(t, out), "|", ""); a.Err() != nil || got != strings.ReplaceAll(text, "|", "") {
			t.Fatalf("%v: got %q, want %q", a.Err(), got, text)
		}
	})
}
