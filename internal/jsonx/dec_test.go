package jsonx

import (
	"bytes"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

const chatChunk = `{"id":"chatcmpl-AbC123","object":"chat.completion.chunk","created":1730000000,"model":"gpt-4o-2024-08-06","system_fingerprint":"fp_1","choices":[{"index":0,"delta":{"content":" token"},"finish_reason":null}]}`

// chat is what a walk over a chunk keeps.
type chat struct {
	id, model, content, finish []byte
	created, index             int64
}

func (c *chat) walk(d *Dec) {
	if !d.Object() {
		return
	}
	for k, ok := d.Key(); ok; k, ok = d.Key() {
		switch string(k) {
		case "id":
			c.id, _ = d.Str()
		case "model":
			c.model, _ = d.Str()
		case "created":
			c.created, _ = d.Int()
		case "choices":
			if d.Array() {
				for d.More() {
					c.choice(d)
				}
			}
		}
	}
}

func (c *chat) choice(d *Dec) {
	if !d.Object() {
		return
	}
	for k, ok := d.Key(); ok; k, ok = d.Key() {
		switch string(k) {
		case "index":
			c.index, _ = d.Int()
		case "finish_reason":
			c.finish, _ = d.Str()
		case "delta":
			if !d.Object() {
				continue
			}
			for k, ok := d.Key(); ok; k, ok = d.Key() {
				if string(k) == "content" {
					c.content, _ = d.Str()
				}
			}
		}
	}
}

func TestWalkOverChunk(t *testing.T) {
	t.Parallel()
	var d Dec
	var c chat
	d.Reset([]byte(chatChunk))
	c.walk(&d)
	if err := d.End(); err != nil {
		t.Fatal(err)
	}
	if string(c.id) != "chatcmpl-AbC123" || string(c.model) != "gpt-4o-2024-08-06" || string(c.content) != " token" ||
		c.finish != nil || c.created != 1730000000 || c.index != 0 {
		t.Fatalf("got %+v", c)
	}
	if d.Offset() != len(chatChunk) {
		t.Fatalf("offset %d, want %d", d.Offset(), len(chatChunk))
	}
}

func TestWalkingDoesNotAllocate(t *testing.T) {
	in := []byte(strings.Replace(chatChunk, " token", ` \"tok\u0065n\"\n`, 1))
	var d Dec
	if n := testing.AllocsPerRun(100, func() {
		var c chat
		d.Reset(in)
		c.walk(&d)
		if d.End() != nil || string(c.content) != " \"token\"\n" {
			t.Fatal(string(c.content), d.Err())
		}
	}); n != 0 {
		t.Errorf("Dec: %v allocations", n)
	}
	if n := testing.AllocsPerRun(100, func() {
		if raceEnabled {
			return // sync.Pool forgets at random then
		}
		if Check(in, CheckOptions{UTF8: true, Duplicates: 3}) != nil || !Valid(in) {
			t.Fatal()
		}
	}); n != 0 {
		t.Errorf("Check: %v allocations", n)
	}
	var s Scanner
	deep := []byte(strings.Repeat("[", 64) + strings.Repeat("]", 64))
	if n := testing.AllocsPerRun(100, func() {
		s.Reset()
		s.Write(deep)
		if !s.Complete() {
			t.Fatal()
		}
	}); n != 0 {
		t.Errorf("Scanner: %v allocations", n)
	}
}

func TestStringsStayValidUntilReset(t *testing.T) {
	t.Parallel()
	var in, want []byte
	in = append(in, '[')
	for i := range 1000 {
		if i > 0 {
			in = append(in, ',')
		}
		s := bytes.Repeat([]byte{'a' + byte(i%26), '\n'}, i%50+1)
		want = append(want, s...)
		in = AppendString(in, s)
	}
	in = append(in, ']')
	var d Dec
	d.Reset(in)
	var all [][]byte
	for d.Array(); d.More(); {
		s, ok := d.Str()
		if !ok {
			t.Fatal("not a string")
		}
		all = append(all, s)
		_ = append(s, "clobber"...) // must not reach a neighbour
	}
	if err := d.End(); err != nil {
		t.Fatal(err)
	}
	if got := bytes.Join(all, nil); !bytes.Equal(got, want) {
		t.Fatal("a string changed after it was returned")
	}
}

func TestResetDropsVeryLargeScratch(t *testing.T) {
	t.Parallel()
	f := func(size int, wantKept bool) {
		t.Helper()
		var d Dec
		d.Reset([]byte(`"\n` + strings.Repeat("x", size) + `"`))
		if s, ok := d.Str(); !ok || len(s) != size+1 {
			t.Fatalf("got %d bytes", len(s))
		}
		d.Reset(nil)
		if got := cap(d.scratch) > 0; got != wantKept {
			t.Errorf("scratch of %d bytes kept: %v", size, got)
		}
	}
	f(1000, true)
	f(keepScratch, false)
}

func TestUnconsumedValuesAreSkipped(t *testing.T) {
	t.Parallel()
	var d Dec
	d.Reset([]byte(` { "a" : [1,{"x":2}] , "\u0062":"s","c":null } `))
	var keys []string
	if d.Object() {
		for k, ok := d.Key(); ok; k, ok = d.Key() {
			keys = append(keys, string(k))
		}
	}
	if err := d.End(); err != nil || strings.Join(keys, "") != "abc" {
		t.Fatalf("keys %q, %v", keys, err)
	}
	d.Reset([]byte(`[1, {"a":[]} ,[] ]`))
	n := 0
	for d.Array(); d.More(); n++ {
	}
	if err := d.End(); err != nil || n != 3 {
		t.Fatalf("%d elements, %v", n, err)
	}
}

func TestOtherKindsAreConsumed(t *testing.T) {
	t.Parallel()
	const in = `[null,true,12,"s",[1],{"a":1}]`
	reads := map[string]func(*Dec) bool{
		"Object": (*Dec).Object,
		"Array":  (*Dec).Array,
		"Str":    func(d *Dec) bool { s, ok := d.Str(); return ok || s != nil },
		"Int":    func(d *Dec) bool { n, ok := d.Int(); return ok || n != 0 },
		"Bool":   func(d *Dec) bool { v, ok := d.Bool(); return ok || v },
	}
	own := map[string]Kind{"Object": Object, "Array": Array, "Str": String, "Int": Number, "Bool": Bool}
	for name, read := range reads {
		var d Dec
		d.Reset([]byte(in))
		want := Null
		for d.Array(); d.More(); want++ {
			if d.Kind() != want {
				t.Fatalf("%s: kind %v, want %v", name, d.Kind(), want)
			}
			if own[name] == want {
				d.Skip()
				continue
			}
			if read(&d) {
				t.Errorf("%s accepts %v", name, want)
			}
			if d.Kind() != Invalid {
				t.Errorf("%s does not consume %v", name, want)
			}
		}
		if err := d.End(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestRaw(t *testing.T) {
	t.Parallel()
	for _, v := range []string{`null`, `-0.5e+10`, `"a\"b"`, `[ 1 , 2 ]`, `{"a": {} }`, `""`, `1e400`, `9007199254740993`} {
		var d Dec
		d.Reset([]byte(" \t" + v + "\r\n"))
		if got := d.Raw(); string(got) != v || cap(got) != len(got) || d.End() != nil {
			t.Errorf("%s: got %s (cap %d), %v", v, got, cap(got), d.Err())
		}
		d.Reset([]byte(`{"k" : ` + v + ` }`))
		d.Object()
		d.Key()
		if got := d.Raw(); string(got) != v {
			t.Errorf("%s: as a member got %s, %v", v, got, d.Err())
		}
	}
}

func TestInt(t *testing.T) {
	t.Parallel()
	f := func(in string, want int64, wantOK bool) {
		t.Helper()
		var d Dec
		d.Reset([]byte(in))
		got, ok := d.Int()
		if err := d.End(); got != want || ok != wantOK || err != nil {
			t.Errorf("%s: got %d %v, want %d %v (%v)", in, got, ok, want, wantOK, err)
		}
	}
	f("0", 0, true)
	f("-0", 0, true)
	f("-0.0e99999999999999999999", 0, true)
	f("7", 7, true)
	f("-1730000000", -1730000000, true)
	f("1.0", 1, true)
	f("1e3", 1000, true)
	f("1E+3", 1000, true)
	f("12.50e1", 125, true)
	f("1000e-3", 1, true)
	f("1000e-4", 0, false)
	f("0.5", 0, false)
	f("1.5", 0, false)
	f("1000000000000000000000e-3", 1e18, true)
	f("0.0000000000000000000000000000001e31", 1, true)
	f("9223372036854775807", 1<<63-1, true)
	f("9223372036854775808", 0, false)
	f("-9223372036854775808", -1<<63, true)
	f("-9223372036854775809", 0, false)
	f("922337203685477580.8e1", 0, false)
	f("-922337203685477580.8e1", -1<<63, true)
	f("99999999999999999999", 0, false)
	f("100000000000000000000", 0, false)
	f("1e18", 1e18, true)
	f("1e19", 0, false)
	f("1e400", 0, false)
	f("1e99999999999999999999999", 0, false)
	f("1e-99999999999999999999999", 0, false)
	f("1"+strings.Repeat("0", 5000)+"e-5000", 1, true)
}

func TestStr(t *testing.T) {
	t.Parallel()
	f := func(in, want string) {
		t.Helper()
		var d Dec
		d.Reset([]byte(in))
		got, ok := d.Str()
		if err := d.End(); string(got) != want || !ok || got == nil || err != nil {
			t.Errorf("%s: got %q %v, want %q (%v)", in, got, ok, want, err)
		}
		got, ok = Unquote([]byte("."), []byte(in))
		if string(got) != "."+want || !ok {
			t.Errorf("Unquote %s: got %q %v, want %q", in, got, ok, want)
		}
	}
	f(`""`, "")
	f(`"plain"`, "plain")
	f(`"exactly8"`, "exactly8")
	f(`"\"\\\/\b\f\n\r\t"`, "\"\\/\b\f\n\r\t")
	f(`"\u0041\u00e9\u20AC\u0000"`, "Aé€\x00")
	f(`"\ud83d\ude00"`, "😀")
	f(`"\uD83D\uDE00!"`, "😀!")
	f(`"\ud83d"`, "\uFFFD")
	f(`"\ude00\ud83d"`, "\uFFFD\uFFFD")
	f(`"\ud83d\ud83d\ude00"`, "\uFFFD😀")
	f(`"\ud83dx\ude00"`, "\uFFFDx\uFFFD")
	f(`"\ud83d\n"`, "\uFFFD\n")
	f(`"日本語のテキスト"`, "日本語のテキスト")
	f("\"\xff\"", "\xff")
	f("\"\x7f\"", "\x7f")
}

func TestUnquoteRefuses(t *testing.T) {
	t.Parallel()
	for _, in := range []string{``, `"`, `a`, `"a`, `a"`, ` "a"`, `"a" `, `"a""`, `"\"`, `"\x"`, `"\u12g4"`, "\"\n\"", `null`} {
		if got, ok := Unquote([]byte("."), []byte(in)); ok || string(got) != "." {
			t.Errorf("%q: got %q %v", in, got, ok)
		}
	}
}

func TestStrictUTF8(t *testing.T) {
	t.Parallel()
	for _, in := range []string{"\"a\xffb\"", "\"\xed\xa0\x80\"", "\"\\n\xc3\"", "{\"\xff\":1}", "[[\"\xff\"]]"} {
		for name, read := range map[string]func(*Dec){"Raw": func(d *Dec) { d.Raw() }, "walk": walk} {
			var d Dec
			d.Reset([]byte(in))
			read(&d)
			if err := d.End(); err != nil {
				t.Errorf("%s %q: %v", name, in, err)
			}
			d.StrictUTF8 = true
			d.Reset([]byte(in))
			read(&d)
			var se *SyntaxError
			if err := d.End(); !errors.As(err, &se) || se.Msg != msgUTF8 || in[se.Offset] < 0x80 {
				t.Errorf("%s %q: strict: %v", name, in, err)
			}
		}
	}
}

// walk reads the next value with every method there is, down to the bottom.
func walk(d *Dec) {
	switch d.Kind() {
	case Object:
		d.Object()
		for _, ok := d.Key(); ok; _, ok = d.Key() {
			walk(d)
		}
	case Array:
		d.Array()
		for d.More() {
			walk(d)
		}
	case String:
		d.Str()
	case Number:
		d.Int()
	case Bool:
		d.Bool()
	default:
		d.Skip()
	}
}

// bad holds documents with the offset of their fault.
var bad = []struct {
	in  string
	off int
}{
	{``, 0}, {` `, 1}, {`x`, 0}, {`{`, 1}, {`[`, 1}, {`"`, 1}, {`nul`, 0}, {`nulll`, 4}, {`True`, 0}, {`tru e`, 0}, {`falsy`, 0},
	{`{"a"}`, 4}, {`{"a":}`, 5}, {`{"a":1,}`, 7}, {`{"a":1 "b":2}`, 7}, {`{,}`, 1}, {`{a:1}`, 1}, {`{1:1}`, 1}, {`{"a":1]`, 6},
	{`{"a" 1}`, 5}, {`{"a":1`, 6}, {`{"a":`, 5}, {`{"a"`, 4}, {`{"a`, 3}, {`{"a":1,`, 7}, {`{"a"::1}`, 5},
	{`[1,]`, 3}, {`[,1]`, 1}, {`[1 2]`, 3}, {`[1}`, 2}, {`[1`, 2}, {`[1,`, 3}, {`[]]`, 2}, {`]`, 0}, {`}`, 0}, {`,`, 0}, {`[[]`, 3},
	{`01`, 1}, {`-`, 1}, {`-a`, 1}, {`+1`, 0}, {`.5`, 0}, {`1.`, 2}, {`1.e1`, 2}, {`1e`, 2}, {`1e+`, 3}, {`1ee1`, 2}, {`-01`, 2}, {`0x1`, 1},
	{`1 2`, 2}, {`{} {}`, 3}, {`1,`, 1}, {`NaN`, 0}, {`Infinity`, 0}, {`-Infinity`, 1}, {`[1.]`, 3}, {`[0123]`, 2},
	{"\"\n\"", 1}, {"\"a\x00\"", 2}, {"\"12345678\x1f\"", 9}, {`"\x"`, 1}, {`"\u12"`, 1}, {`"\u123g"`, 1}, {`"\`, 1}, {`"\"`, 3}, {`"abc`, 4},
	{"\xef\xbb\xbf{}", 0}, {"\u00a01", 0}, {"1\v", 1}, {"{}\x00", 2}, {`'a'`, 0}, {`/**/1`, 0}, {`[1]//`, 3}, {`{"a":1,"b"}`, 10},
}

func TestSyntaxErrors(t *testing.T) {
	t.Parallel()
	for _, tt := range bad {
		in := []byte(tt.in)
		if json.Valid(in) {
			t.Fatalf("%q is valid", in)
		}
		errs := map[string]error{"Check": Check(in, CheckOptions{}), "Check with duplicates": Check(in, CheckOptions{Duplicates: 9, UTF8: true})}
		var d Dec
		d.Reset(in)
		d.Raw()
		errs["Raw"] = d.End()
		d.Reset(in)
		walk(&d)
		errs["walk"] = d.End()
		for name, err := range errs {
			var se *SyntaxError
			if !errors.As(err, &se) {
				t.Errorf("%s %q: got %v", name, in, err)
				continue
			}
			if se.Offset != tt.off || !strings.Contains(se.Error(), se.Msg) || se.Msg == "" {
				t.Errorf("%s %q: got %v, want offset %d", name, in, err, tt.off)
			}
		}
		if Valid(in) {
			t.Errorf("Valid accepts %q", in)
		}
	}
}

func TestNothingComesOutAfterAnError(t *testing.T) {
	t.Parallel()
	var d Dec
	d.Reset([]byte(`{"a":x,"b":1}`))
	d.Object()
	d.Key()
	d.Skip()
	first := d.Err()
	if first == nil {
		t.Fatal("no error")
	}
	k, ok := d.Key()
	s, ok2 := d.Str()
	n, ok3 := d.Int()
	v, ok4 := d.Bool()
	if k != nil || ok || s != nil || ok2 || n != 0 || ok3 || v || ok4 || d.Raw() != nil || d.Object() || d.Array() || d.More() || d.Kind() != Invalid {
		t.Error("something came out")
	}
	if d.Err() != first || d.End() != first {
		t.Errorf("error changed from %v to %v", first, d.End())
	}
}

func TestMisuseIsAnErrorAndNotALoop(t *testing.T) {
	t.Parallel()
	f := func(name, in string, use func(*Dec)) {
		t.Helper()
		var d Dec
		d.Reset([]byte(in))
		use(&d)
		if d.End() == nil {
			t.Errorf("%s: no error", name)
		}
	}
	f("nothing read", `1`, func(*Dec) {})
	f("Key without Object", `{}`, func(d *Dec) { d.Key() })
	f("More without Array", `[]`, func(d *Dec) { d.More() })
	f("Key in array", `[1]`, func(d *Dec) { d.Array(); d.Key() })
	f("More in object", `{"a":1}`, func(d *Dec) { d.Object(); d.More() })
	f("value without Key", `{"a":1}`, func(d *Dec) { d.Object(); d.Str() })
	f("value without More", `["a"]`, func(d *Dec) { d.Array(); d.Str() })
	f("two values", `1`, func(d *Dec) { d.Skip(); d.Skip() })
	f("object not finished", `{"a":1}`, func(d *Dec) { d.Object(); d.Key(); d.Skip() })
	f("Key after a value that was no object", `[1]`, func(d *Dec) {
		if !d.Object() {
			d.Key()
		}
	})
}

func TestDepth(t *testing.T) {
	t.Parallel()
	nest := func(open, inner, end string, n int) []byte {
		return []byte(strings.Repeat(open, n) + inner + strings.Repeat(end, n))
	}
	for _, depth := range []int{1, 63, 64, 65, 127, 128, 129, 200, 1000, 9999} {
		for _, in := range [][]byte{nest("[", "", "]", depth), nest("[", "1", "]", depth), nest(`{"a":`, "1", "}", depth), nest("[", "{}", "]", depth-1)} {
			want := depth <= MaxDepth
			if got := Valid(in); got != want {
				t.Errorf("Valid at depth %d: %v", depth, got)
			}
			if err := Check(in, CheckOptions{MaxDepth: depth, Duplicates: 1000}); err != nil {
				t.Errorf("Check at depth %d: %v", depth, err)
			}
			if depth > 1 && Check(in, CheckOptions{MaxDepth: depth - 1}) == nil {
				t.Errorf("Check at depth %d accepts one level too many", depth)
			}
			if err := Check(in, CheckOptions{MaxDepth: 1 << 40}); err != nil {
				t.Errorf("Check without a limit at depth %d: %v", depth, err)
			}
			for name, read := range map[string]func(*Dec){"Skip": (*Dec).Skip, "walk": walk} {
				var d Dec
				d.Reset(in)
				read(&d)
				if err := d.End(); (err == nil) != want {
					t.Errorf("%s at depth %d: %v", name, depth, err)
				}
			}
			var s Scanner
			s.Write(in)
			if !s.Complete() {
				t.Errorf("Scanner at depth %d", depth)
			}
		}
	}
	if unit, end := `[{"a":[{"b":`, `}]}]`; !Valid(nest(unit, "1", end, 32)) || Valid(nest(unit, "[]", end, 32)) {
		t.Error("mixed nesting")
	}
}

func TestDepthBombIsHarmless(t *testing.T) {
	const size = 4 << 20
	for _, unit := range []string{"[", `{"a":`} {
		in := bytes.Repeat([]byte(unit), size/len(unit))
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		start := time.Now()
		if Valid(in) || Check(in, CheckOptions{Duplicates: 128, UTF8: true}) == nil || Check(in, CheckOptions{MaxDepth: 1 << 30, Duplicates: 1}) == nil {
			t.Error("accepted")
		}
		var d Dec
		d.Reset(in)
		d.Skip()
		if d.End() == nil {
			t.Error("Skip accepts it")
		}
		d.Reset(in)
		walk(&d)
		if d.End() == nil {
			t.Error("walk accepts it")
		}
		var s Scanner
		s.Write(in)
		if s.Complete() || s.Broken() {
			t.Error("Scanner")
		}
		runtime.ReadMemStats(&after)
		if took := time.Since(start); took > 30*time.Second {
			t.Errorf("%q took %v", unit, took)
		}
		if used := after.TotalAlloc - before.TotalAlloc; used > 8<<20 {
			t.Errorf("%q allocated %d bytes", unit, used)
		}
	}
}

// valid holds well-formed documents.
var valid = []string{
	`{}`, `[]`, `""`, `0`, `-1.5e-7`, `null`, ` true `, `{"a":{"b":[1,2,{"c":null}]},"d":"e\u00e9\ud83d\ude00\n"}`, chatChunk,
	`[[[[]]]]`, `{"":""}`, `[1,"2",true,null,{},[]]`, "\t{ \"a\" : [ 1 , 2 ] }\r\n", `{"a":1,"a":2}`, `{"a":1,"\u0061":2}`, `"\\"`, `[1.5,2e5 ,-0,false]`, "{\"a\":1 ,\n\"b\":2}", `["\"",""]`,
}

func seeds(f *testing.F, add func(string)) {
	for _, s := range valid {
		add(s)
	}
	for _, tt := range bad {
		add(tt.in)
	}
}

// tooDeep tells whether b nests deeper than MaxDepth outside strings.
func tooDeep(b []byte) bool {
	depth := 0
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case '"':
			for i++; i < len(b) && b[i] != '"'; i++ {
				if b[i] == '\\' {
					i++
				}
			}
		case '[', '{':
			if depth++; depth > MaxDepth {
				return true
			}
		case ']', '}':
			depth--
		}
	}
	return false
}

func FuzzDec(f *testing.F) {
	seeds(f, func(s string) { f.Add([]byte(s), uint64(1)) })
	f.Fuzz(func(t *testing.T, in []byte, choice uint64) {
		want := json.Valid(in) && !tooDeep(in)

		// A walk that consumes everything agrees with encoding/json.
		var d Dec
		d.Reset(in)
		walk(&d)
		if err := d.End(); (err == nil) != want {
			t.Fatalf("walk over %q: %v", in, err)
		}
		d.Reset(in)
		raw := d.Raw()
		if err := d.End(); (err == nil) != want {
			t.Fatalf("Raw of %q: %v", in, err)
		}
		if want && !bytes.Equal(raw, bytes.Trim(in, " \t\r\n")) {
			t.Fatalf("Raw of %q: got %q", in, raw)
		}
		if want && utf8.Valid(in) {
			var s string
			isString := json.Unmarshal(in, &s) == nil && raw[0] == '"'
			d.Reset(in)
			if got, ok := d.Str(); ok != isString || string(got) != s {
				t.Fatalf("Str of %q: got %q %v, want %q", in, got, ok, s)
			}
			var n int64
			if json.Unmarshal(in, &n) == nil && raw[0] != 'n' {
				d.Reset(in)
				if got, ok := d.Int(); !ok || got != n {
					t.Fatalf("Int of %q: got %d %v, want %d", in, got, ok, n)
				}
			}
		}

		// Any calls in any order end, and never panic. What succeeds without an
		// error until End is a valid document.
		rnd := rand.New(rand.NewPCG(choice, 0))
		d.StrictUTF8 = choice&1 != 0
		d.Reset(in)
		for range 4*len(in) + 16 {
			off := d.Offset()
			switch rnd.IntN(12) {
			case 0:
				d.Kind()
			case 1, 2:
				d.Object()
			case 3, 4:
				d.Key()
			case 5, 6:
				d.Array()
			case 7, 8:
				d.More()
			case 9:
				d.Str()
				d.Int()
			case 10:
				d.Raw()
				d.Bool()
			case 11:
				d.Err()
			}
			if d.Offset() < off || d.Offset() > len(in) {
				t.Fatalf("offset went from %d to %d", off, d.Offset())
			}
		}
		if d.End() == nil && !want {
			t.Fatalf("random walk accepts %q", in)
		}
	})
}
