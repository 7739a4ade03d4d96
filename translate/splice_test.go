package translate

import (
	"testing"

	"github.com/dragoman-proxy/dragoman/internal/jsonx"
)

func TestSplice(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, body string
		edit       func(s *splice)
		want       string
	}{
		{"nothing", " { \"b\" : 1.50e3 , \"a\":[ ] } \n", func(*splice) {}, " { \"b\" : 1.50e3 , \"a\":[ ] } \n"},
		{"replace", `{"z":1.0,"model":"a", "x":9007199254740993}`, func(s *splice) { s.set("model", `"b"`) }, `{"z":1.0,"model":"b", "x":9007199254740993}`},
		{"replace an escaped key", `{"mod\u0065l":"a"}`, func(s *splice) { s.set("model", `"b"`) }, `{"mod\u0065l":"b"}`},
		{"replace null", `{"model":null}`, func(s *splice) { s.set("model", `"b"`) }, `{"model":"b"}`},
		{"insert", ` {"z":1}`, func(s *splice) { s.set("model", `"b"`) }, ` {"model":"b","z":1}`},
		{"insert into nothing", `{ }`, func(s *splice) { s.set("model", `"b"`) }, `{"model":"b" }`},
		{"insert two", `{"z":1}`, func(s *splice) { s.set("a", "1"); s.set("b", "2") }, `{"a":1,"b":2,"z":1}`},
		{"nested replace", `{"a":{"x":0},"o":{"p":1,"include_usage":false}}`, func(s *splice) { s.setIn("o", "include_usage", "true") }, `{"a":{"x":0},"o":{"p":1,"include_usage":true}}`},
		{"nested insert", `{"a":1, "o": { "p":1}}`, func(s *splice) { s.setIn("o", "q", "2") }, `{"a":1, "o": {"q":2, "p":1}}`},
		{"nested insert into nothing", `{"o":{}}`, func(s *splice) { s.setIn("o", "q", "2") }, `{"o":{"q":2}}`},
		{"nested, parent absent", `{"a":1}`, func(s *splice) { s.setIn("o", "q", "2") }, `{"o":{"q":2},"a":1}`},
		{"nested, parent null", `{"o":null}`, func(s *splice) { s.setIn("o", "q", "2") }, `{"o":{"q":2}}`},
		{"prepend", `{"m":[ {"a":1}]}`, func(s *splice) { s.prepend("m", `{"b":2}`) }, `{"m":[{"b":2}, {"a":1}]}`},
		{"prepend to nothing", `{"m":[]}`, func(s *splice) { s.prepend("m", `{"b":2}`) }, `{"m":[{"b":2}]}`},
		{"prepend to a string", `{"m":"x"}`, func(s *splice) { s.prepend("m", `{"b":2}`) }, `{"m":"x"}`},
		{"several, out of order", `{"a":1,"b":2,"c":{"d":3}}`, func(s *splice) {
			s.setIn("c", "d", "33")
			s.set("a", "11")
			s.set("b", "22")
			s.set("z", "0")
		}, `{"z":0,"a":11,"b":22,"c":{"d":33}}`},
		{"strings that look like structure", `{"a":"}{\"model\":1","model":2}`, func(s *splice) { s.set("model", "3") }, `{"a":"}{\"model\":1","model":3}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newSplice([]byte(c.body))
			c.edit(s)
			got := string(s.append([]byte("^")))
			if got != "^"+c.want {
				t.Errorf("got  %s\nwant ^%s", got, c.want)
			}
			if !jsonx.Valid([]byte(got[1:])) {
				t.Errorf("not JSON: %s", got[1:])
			}
		})
	}
}

func TestQuote(t *testing.T) {
	t.Parallel()
	if got, want := quote("a\"b\n\x01é"), `"a\"b\n\u0001é"`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if viewString(nil) != "" || viewBytes("") != nil || string(viewBytes("ab")) != "ab" {
		t.Error("views")
	}
}
