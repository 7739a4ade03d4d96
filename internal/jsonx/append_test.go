package jsonx

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestAppendString(t *testing.T) {
	t.Parallel()
	f := func(in, want string) {
		t.Helper()
		if got := AppendString([]byte("."), []byte(in)); string(got) != "."+want {
			t.Errorf("%q: got %s, want %s", in, got, want)
		}
		if got := AppendStringS([]byte("."), in); string(got) != "."+want {
			t.Errorf("AppendStringS %q: got %s, want %s", in, got, want)
		}
		if got := AppendEscaped(nil, []byte(in)); string(got) != want[1:len(want)-1] {
			t.Errorf("AppendEscaped %q: got %s, want %s", in, got, want)
		}
	}
	f("", `""`)
	f("plain", `"plain"`)
	f("<a href='x'>&</a>", `"<a href='x'>&</a>"`)
	f("\"\\\n\r\t\b\f/", `"\"\\\n\r\t\b\f/"`)
	f("\x00\x1f\x7f", "\"\\u0000\\u001f\x7f\"")
	f("é😀\u2028", "\"é😀\u2028\"")
	f("\xff", "\"\uFFFD\"")
	f("a\xff\n\xc3\"é\xed\xa0\x80z", "\"a\uFFFD\\n\uFFFD\\\"é\uFFFD\uFFFD\uFFFDz\"")
	f(strings.Repeat("0123456789", 20)+"\n", `"`+strings.Repeat("0123456789", 20)+`\n"`)
}

func TestAppendStringDoesNotAllocate(t *testing.T) {
	dst := make([]byte, 0, 200)
	in := "text with \"quotes\"\n and é and \xff"
	if n := testing.AllocsPerRun(100, func() {
		dst = AppendStringS(dst[:0], in)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestAppendCompact(t *testing.T) {
	t.Parallel()
	f := func(in, want string) {
		t.Helper()
		if got := AppendCompact([]byte("."), []byte(in)); string(got) != "."+want {
			t.Errorf("%s: got %s, want %s", in, got, want)
		}
	}
	f(` 1 `, `1`)
	f("{ \"a b\" :\t[ 1 , 2 ],\r\n\"c\\\" d\": \" \\\\\" , \"e\":{ } }\n", `{"a b":[1,2],"c\" d":" \\","e":{}}`)
	f(`{"a":1}`, `{"a":1}`)
	f(``, ``)
	f(`"\`, `"\`) // not valid, but must not panic
}

func FuzzAppendString(f *testing.F) {
	for _, s := range []string{"", "plain", "\"\\\n\x00\x1f", "é😀\u2028", "a\xff\xed\xa0\x80b", strings.Repeat("x", 100) + "\""} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		got := AppendString([]byte("."), in)
		if string(got) != string(AppendStringS([]byte("."), string(in))) {
			t.Fatal("AppendStringS differs")
		}
		got = got[1:]
		want := string([]rune(string(in))) // U+FFFD for what is no UTF-8
		if text, ok := Unquote(nil, got); !ok || string(text) != want {
			t.Fatalf("%q: Unquote(%q) = %q %v", in, got, text, ok)
		}
		var text string
		if err := json.Unmarshal(got, &text); err != nil || text != want {
			t.Fatalf("%q: json.Unmarshal(%q) = %q %v", in, got, text, err)
		}
		if err := Check(got, CheckOptions{UTF8: true}); err != nil {
			t.Fatalf("%q: %v", got, err)
		}
		var d Dec
		d.Reset(got)
		if text, ok := d.Str(); !ok || string(text) != want || d.End() != nil {
			t.Fatalf("%q: Str = %q %v", got, text, ok)
		}
	})
}
