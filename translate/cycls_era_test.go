package translate

import (
	"math/rand/v2"
	"strings"
	"testing"
	"unicode/utf8"
)

// eraAnswer runs a stream of an agent whose era is configured through to a
// face, in pieces of n bytes.
func eraAnswer(t testing.TB, era, face, stream string, wantStream bool, n int, cause *Error) (string, *Answer, *Setup) {
	t.Helper()
	s := goldenSetup(t, Lookup(face), wantStream)
	if era != "" {
		s.Agent.Options["era"] = era
	}
	a := NewAnswer(s, Lookup("cycls"), wantStream, true)
	var out []byte
	for rest := []byte(stream); len(rest) > 0; {
		k := min(n, len(rest))
		out = a.Feed(out, rest[:k])
		rest = rest[k:]
	}
	out = a.End(out, cause)
	return string(out), a, s
}

// TestCyclsLeavesThePassingThrough translates for a Cycls client what it would
// not know, also where that shows only at the first event, and passes the rest
// through.
func TestCyclsLeavesThePassingThrough(t *testing.T) {
	t.Parallel()
	const (
		typed = `data: {"type": "text", "text": "x"}` + "\n\ndata: [DONE]\n\n"
		array = `data: ["+", "text", {"content": "x"}]` + "\n\ndata: [\"-\"]\n\ndata: [DONE]\n\n"
		chat  = `data: {"choices": [{"delta": {"content": "x"}}]}` + "\n\ndata: [DONE]\n\n"
		ping  = ": ping\n\n"
	)
	for _, c := range []struct {
		era, in, want string
		through       bool
	}{
		{"", typed, typed, true},
		{"auto", typed, typed, true},
		{"typed", typed, typed, true},
		{"", ping + typed, ping + typed, true},
		{"", "\ufeff" + typed, "\ufeff" + typed, true},
		{"", "\r\n" + typed, "\r\n" + typed, true},
		{"", "event: x\n" + typed, "event: x\n" + typed, true},
		{"", "retry: 5\n\n" + typed, "retry: 5\n\n" + typed, true},
		{"", "data: [DONE]\n\n", "data: [DONE]\n\n", true},
		{"", array, typed, false},
		{"array", array, typed, false},
		{"", ping + array, ping + typed, false},
		{"", chat, typed, false},
		{"chat", chat, typed, false},
		{"chat", ping + chat, ping + typed, false},
		{"", "x", typed, false},
		{"text", "x", typed, false},
		{"text", "data: x", strings.Replace(typed, `"x"`, `"data: x"`, 1), false},
		{"text", "", "data: [DONE]\n\n", false},
	} {
		out, a, s := eraAnswer(t, c.era, "cycls", c.in, true, 1<<20, nil)
		if out != c.want || a.PassedThrough() != c.through || a.Err() != nil || s.Encoded.Err() != nil || s.Decoded.Err() != nil {
			t.Errorf("era %q, %q: passed through %v, %v: %q", c.era, c.in, a.PassedThrough(), a.Err(), out)
		}
		if c.era == "text" || c.in == "x" {
			continue // its deltas are its pieces
		}
		for _, n := range []int{1, 2, 3, 7} {
			if again, _, _ := eraAnswer(t, c.era, "cycls", c.in, true, n, nil); again != c.want {
				t.Errorf("era %q, %q by %d: %q", c.era, c.in, n, again)
			}
		}
	}
}

// TestCyclsEraIsNotMixedUp holds an agent to the era that the configuration
// says, and a stream to the one that it began in.
func TestCyclsEraIsNotMixedUp(t *testing.T) {
	t.Parallel()
	f := func(era, in, code string) {
		t.Helper()
		for _, face := range []string{"chat", "cycls"} {
			_, a, _ := eraAnswer(t, era, face, in, true, 1<<20, nil)
			if a.Err() == nil || a.Err().Code != code {
				t.Errorf("era %q, %q to %s: %v, want %s", era, in, face, a.Err(), code)
			}
		}
	}
	done := "data: [DONE]\n\n"
	typed := `data: {"type": "text", "text": "x"}` + "\n\n"
	array := `data: ["+", "text", {"content": "x"}]` + "\n\n"
	chat := `data: {"choices": [{"delta": {"content": "x"}}]}` + "\n\n"
	f("typed", array+done, "bad_gateway")
	f("array", typed+done, "bad_gateway")
	f("array", chat+done, "bad_gateway")
	f("chat", array+done, "bad_gateway")
	f("", typed+array+done, "bad_gateway")
	f("", array+typed+done, "bad_gateway")
	f("", chat+array+done, "bad_gateway")
	f("", chat+`data: {"hello": 1}`+"\n\n"+done, "bad_gateway")
	for _, bad := range []string{`[]`, `["+"]`, `["+", "text"]`, `["+", "text", "x"]`, `["~", 1]`, `["?", {}]`, `[{}]`, `["=", [1]]`, `["+", "text", {"content": "x"}`} {
		f("array", array+"data: "+bad+"\n\n"+done, "bad_gateway")
	}
	f("", "", "stream_truncated")
	f("", "\n\n", "stream_truncated")
	f("", typed, "stream_truncated")
	f("", array, "stream_truncated")
	f("", chat, "stream_truncated")
}

// TestCyclsTextIsSplitAnywhere feeds text without events in random pieces: the
// code points are whole, and the text is the same.
func TestCyclsTextIsSplitAnywhere(t *testing.T) {
	t.Parallel()
	const alphabet = "ab \n\"\\é日🌍"
	runes := []rune(alphabet)
	for seed := range uint64(500) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		var in []byte
		for range 1 + rnd.IntN(30) {
			if rnd.IntN(8) == 0 {
				in = append(in, byte(0x80+rnd.IntN(0x80))) // no text
			} else {
				in = utf8.AppendRune(in, runes[rnd.IntN(len(runes))])
			}
		}
		want := string([]rune(string(in))) // a U+FFFD for each byte that is none
		s := goldenSetup(t, Lookup("chat"), true)
		s.Agent.Options["era"] = "text"
		dec := Lookup("cycls").NewDecoder(s).(Detector)
		got := ""
		sink := sinkFunc(func(e *Event) {
			if e.Kind == EventBlockDelta {
				if !utf8.Valid(e.Data) {
					t.Errorf("seed %d: delta %q", seed, e.Data)
				}
				got += string(e.Data)
			}
		})
		for rest := in; len(rest) > 0; {
			n := 1 + rnd.IntN(min(4, len(rest)))
			dec.Text(rest[:n], sink)
			rest = rest[n:]
		}
		dec.(Decoder).End(nil, sink)
		if got != want {
			t.Fatalf("seed %d: %q: got %q, want %q", seed, in, got, want)
		}
	}
}

type sinkFunc func(e *Event)

func (f sinkFunc) Event(e *Event) { f(e) }

// TestCyclsHoldsOnlyWhatIsAmbiguous tells text from events by the first byte
// that settles it.
func TestCyclsHoldsOnlyWhatIsAmbiguous(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		in     string
		settle int // how many bytes it takes
		framed bool
	}{
		{"Hello", 1, false}, {"{", 1, false}, {"<html>", 1, false}, {"date", 4, false}, {"data x", 5, false},
		{": x", 2, true}, {":)", 2, false}, {":\n", 2, true}, {"\r\nx", 3, false}, {"\ufeffx", 4, false},
		{"日", 1, false}, {"\xef\xbb\xbe", 3, false},
		// Data of an event is JSON to the end of its line.
		{"data: x", 7, false}, {"data: {}\n", 9, true}, {"data: {}\r", 9, true}, {"data:{}\n", 8, true}, {"data: [1]\n", 10, true},
		{"data: {} and\n", 13, false}, {"data: {x}\n", 10, false}, {"data: [DONE]\n", 13, true}, {"data: [DONE] \n", 14, true},
		{"data: [done]\n", 13, false}, {"data: {\"a\": NaN}\n", 17, true}, {"data: \n", 7, false},
		// Other fields do not tell.
		{"event: x\ndata: {}\n", 18, true}, {"id: 1\r\nretry: 2\n\ndata: {}\n", 26, true}, {"event: x\ny", 10, false}, {"id: 7\n\nSo be it.", 8, false},
		{"idea", 3, false}, {"re ", 3, false}, {"retry: 1\ndata: y", 16, false},
		// The end: what still could become an event is one that broke off.
		{"eve", 4, false}, {"id:", 4, false}, {"retry:", 7, false}, {"event: x\n", 10, false}, {"data:", 6, true}, {"\n\ndata:", 8, true},
		{"\ufeffdata:", 9, true}, {"data: [DO", 10, true}, {"data: {\"a\": [", 14, true}, {"data: {}", 9, true}, {"data: {} x", 11, false}, {"data: {so", 10, false},
	} {
		dec := Lookup("cycls").NewDecoder(goldenSetup(t, Lookup("chat"), true)).(Detector)
		for n := 1; ; n++ {
			if n > len(c.in) {
				framed, known := dec.Framed([]byte(c.in), true)
				if framed != c.framed || !known || c.settle != n {
					t.Errorf("%q: framed %v, known %v at its end, want %v after %d", c.in, framed, known, c.framed, c.settle)
				}
				break
			}
			if framed, known := dec.Framed([]byte(c.in[:n]), false); known {
				if n != c.settle || framed != c.framed {
					t.Errorf("%q: framed %v after %d bytes, want %v after %d", c.in, framed, n, c.framed, c.settle)
				}
				break
			}
		}
	}
	dec := Lookup("cycls").NewDecoder(goldenSetup(t, Lookup("chat"), true)).(Detector)
	if framed, known := dec.Framed([]byte(strings.Repeat("\n", cyclsMaxBlank)), false); framed || !known {
		t.Errorf("line ends without end: framed %v, known %v", framed, known)
	}
	for in, want := range map[string]bool{
		`data: {"text": "`: true, "data: {so it goes": false, "event: ": false,
	} {
		in += strings.Repeat("x", cyclsMaxLine)
		dec := Lookup("cycls").NewDecoder(goldenSetup(t, Lookup("chat"), true)).(Detector)
		if framed, known := dec.Framed([]byte(in), false); framed != want || !known {
			t.Errorf("%.20s… without end: framed %v, known %v", in, framed, known)
		}
	}
}

// TestCyclsEraOption checks the words of the option.
func TestCyclsEraOption(t *testing.T) {
	t.Parallel()
	for _, word := range []string{"auto", "typed", "array", "text", "chat"} {
		if err := CheckOption("cycls", "era", word); err != nil {
			t.Errorf("%s: %v", word, err)
		}
	}
	if CheckOption("cycls", "era", "stone") == nil {
		t.Error("an era that there never was")
	}
}
