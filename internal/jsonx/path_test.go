package jsonx

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestPathAt(t *testing.T) {
	t.Parallel()
	// The place is the byte behind the mark.
	f := func(in, want string) {
		t.Helper()
		off := strings.Index(in, "^")
		b := []byte(strings.Replace(in, "^", "", 1))
		if got := PathAt(b, off); got != want {
			t.Errorf("%s: got %s, want %s", in, got, want)
		}
	}
	f(`^`, "")
	f(`^{"a":1}`, "")
	f(`{^"a":1}`, "a")
	f(`{"^a":1}`, "a")
	f(`{"a"^:1}`, "a")
	f(`{"a":^1}`, "a")
	f(`{"a":1^}`, "a")
	f(`{"a":1,^}`, "a")
	f(`{"a":1}^`, "")
	f(`{"a":1} ^x`, "")
	f(`{"a":1 ^"b":2}`, "a")
	f(`{"a":1,^"b":2}`, "b")
	f(`{ ^ a:1}`, "")
	f(`{"a":{}^`, "a")
	f(`{"a":{^`, "a")
	f(`{"a":[^`, "a[0]")
	f(`{"a":[1,^2]}`, "a[1]")
	f(`{"a":[1,2]^ "b"`, "a")
	f(`{"messages":[{"role":"user"},{},{"role":"user","content":"x^\ny"}]}`, "messages[2].content")
	f(`{"messages":[{"content":[{"text":^nul}]}]}`, "messages[0].content[0].text")
	f(`[[],[[{"a b":^1}]]]`, `[1][0][0]["a b"]`)
	f(`{"":^1}`, `[""]`)
	f(`{"mod\u0065l":^1}`, "model")
	f(`{"a\"\\":^1}`, `["a\"\\"]`)
	f(`{"a\u0000\u202e\u0085":^1}`, `["a???"]`)
	f(`{"ä":^1}`, `["ä"]`)
	f(`{"\ud800":^1}`, `["?"]`)
	f("{\"\xff\":^1}", `["?"]`)
	f(`{"a":"{\"b\":[1,2"^}`, "a")
	f(`{"`+strings.Repeat("k", 100)+`":^1}`, strings.Repeat("k", pathKey)+"…")
	f(`{"`+strings.Repeat(`\u0001`, 100)+`":^1}`, `["`+strings.Repeat("?", pathKey)+`…"]`)
	f(strings.Repeat(`[`, 40)+"^1", strings.Repeat("[0]", pathSteps)+"…")
	f(strings.Repeat(`[`, 1<<20)+"^", strings.Repeat("[0]", pathSteps)+"…")
	f(strings.Repeat(`{"a":`, 1<<20)+"^", strings.Repeat(".a", pathSteps)[1:]+"…")
	f(strings.Repeat(`{"`+strings.Repeat("k", 100)+`":`, 9)+"^", strings.Repeat("."+strings.Repeat("k", pathKey)+"…", 3)[1:]+"…")
}

// Every value of a document has the path that a walk with another parser gives it.
func FuzzPathAt(f *testing.F) {
	seeds(f, func(s string) { f.Add([]byte(s), len(s)/2) })
	f.Fuzz(func(t *testing.T, in []byte, off int) {
		got := PathAt(in, max(off, 0)) // must not panic, whatever it is
		if len(got) > 3*pathBytes || !utf8.ValidString(got) {
			t.Fatalf("PathAt(%q, %d) = %q", in, off, got)
		}
		if !json.Valid(in) || tooDeep(in) {
			return
		}
		var d Dec
		d.Reset(in)
		walkPaths(t, in, &d, "", 0)
	})
}

func walkPaths(t *testing.T, in []byte, d *Dec, path string, depth int) {
	if depth > 6 || len(path) > 60 {
		d.Skip()
		return
	}
	kind := d.Kind() // moves to the value
	if got := PathAt(in, d.Offset()); got != path {
		t.Fatalf("%q at %d: got %q, want %q", in, d.Offset(), got, path)
	}
	switch kind {
	case Object:
		d.Object()
		for k, ok := d.Key(); ok; k, ok = d.Key() {
			walkPaths(t, in, d, path+pathKeyFor(path, string(k)), depth+1)
		}
	case Array:
		d.Array()
		for i := 0; d.More(); i++ {
			walkPaths(t, in, d, path+fmt.Sprintf("[%d]", i), depth+1)
		}
	default:
		d.Skip()
	}
}

func pathKeyFor(path, key string) string {
	b := AppendStringS([]byte("{"), key)
	b = append(b, ":0}"...)
	return string(appendPathKey([]byte(path), b, 1))[len(path):]
}

func BenchmarkPathAt(b *testing.B) {
	in := []byte(`{"messages":[` + strings.Repeat(`{"role":"user","content":"hello there"},`, 1<<15) + `{"role":7}]}`)
	b.SetBytes(int64(len(in)))
	for b.Loop() {
		PathAt(in, len(in)-4)
	}
}
