package jsonx

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
)

// verdict is what a Scanner says.
type verdict struct{ complete, empty, broken bool }

func scan(s *Scanner, chunks ...[]byte) verdict {
	s.Reset()
	for _, c := range chunks {
		s.Write(c)
	}
	return verdict{s.Complete(), s.Empty(), s.Broken()}
}

func TestScannerAgreesAtEveryCut(t *testing.T) {
	t.Parallel()
	docs := slices.Clone(valid)
	for _, tt := range bad {
		docs = append(docs, tt.in)
	}
	docs = append(docs, strings.Repeat("[", 200)+strings.Repeat("]", 200), strings.Repeat(`[{"a":`, 70)+"1"+strings.Repeat("}]", 70),
		strings.Repeat(`[`, 64)+`{"a":1}`+strings.Repeat("]", 64), strings.Repeat(`{"a":`, 64)+`[1]`+strings.Repeat("}", 64)+"]")
	var s Scanner
	for _, doc := range docs {
		in := []byte(doc)
		want := scan(&s, in)
		if ok := json.Valid(in); want.complete != ok {
			t.Errorf("%q: complete %v", in, want.complete)
		}
		if want.empty != (strings.Trim(doc, " \t\r\n") == "") {
			t.Errorf("%q: empty %v", in, want.empty)
		}
		for i := range in {
			if got := scan(&s, in[:i], in[i:]); got != want {
				t.Errorf("%q cut at %d: got %+v, want %+v", in, i, got, want)
			}
			// A prefix of a valid document is never broken.
			if got := scan(&s, in[:i]); want.complete && got.broken {
				t.Errorf("%q is broken after %d bytes", in, i)
			}
		}
		if got := scan(&s, slices.Collect(slices.Chunk(in, 1))...); got != want {
			t.Errorf("%q byte by byte: got %+v, want %+v", in, got, want)
		}
	}
}

func TestScannerVerdicts(t *testing.T) {
	t.Parallel()
	var s Scanner
	f := func(in string, want verdict) {
		t.Helper()
		if got := scan(&s, []byte(in)); got != want {
			t.Errorf("%q: got %+v, want %+v", in, got, want)
		}
	}
	complete, open, broken := verdict{complete: true}, verdict{}, verdict{broken: true}
	f("", verdict{empty: true})
	f(" \n", verdict{empty: true})
	f(`{`, open)
	f(`{"a":"b`, open)
	f(`{"a":1}`, complete)
	f(`{"a":1} `, complete)
	f(`{"a":1} x`, broken)
	f(`{}{}`, broken)
	f(`12`, complete)
	f(`12 `, complete)
	f(`12 3`, broken)
	f(`12.`, open)
	f(`12e`, open)
	f(`12e-`, open)
	f(`-`, open)
	f(`01`, broken)
	f(`tru`, open)
	f(`true`, complete)
	f(`truf`, broken)
	f(`"\u12`, open)
	f(`"\u1x`, broken)
	f("\"\n", broken)
	f(`[1,]`, broken)
	f(`[1}`, broken)
	f(`{1`, broken)
	f(`{"a",`, broken)
	f(`x`, broken)
}

func FuzzScanner(f *testing.F) {
	seeds(f, func(s string) { f.Add([]byte(s), uint8(3)) })
	f.Fuzz(func(t *testing.T, in []byte, size uint8) {
		var s Scanner
		want := scan(&s, in)
		if want.complete != (Check(in, CheckOptions{MaxDepth: 1 << 30}) == nil) {
			t.Fatalf("%q: complete %v", in, want.complete)
		}
		if got := scan(&s, slices.Collect(slices.Chunk(in, int(size)+1))...); got != want {
			t.Fatalf("%q in pieces of %d: got %+v, want %+v", in, int(size)+1, got, want)
		}
		if got := scan(&s, slices.Collect(slices.Chunk(in, 1))...); got != want {
			t.Fatalf("%q byte by byte: got %+v, want %+v", in, got, want)
		}
		if want.complete && (want.empty || want.broken) {
			t.Fatalf("%q: %+v", in, want)
		}
		// Once broken, always broken.
		brokenAt := -1
		s.Reset()
		for i := range in {
			s.Write(in[i : i+1])
			if s.Broken() && brokenAt < 0 {
				brokenAt = i
			}
			if brokenAt >= 0 && !s.Broken() {
				t.Fatalf("%q was broken at %d and is whole at %d", in, brokenAt, i)
			}
		}
	})
}
