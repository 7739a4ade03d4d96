package jsonx

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func TestDuplicates(t *testing.T) {
	t.Parallel()
	f := func(in string, depth, wantOff int, wantKey string) {
		t.Helper()
		err := Check([]byte(in), CheckOptions{Duplicates: depth})
		if wantOff < 0 {
			if err != nil {
				t.Errorf("%s: %v", in, err)
			}
			return
		}
		var de *DuplicateError
		if !errors.As(err, &de) || de.Offset != wantOff || de.Key != wantKey {
			t.Errorf("%s: got %v, want offset %d and key %q", in, err, wantOff, wantKey)
		}
	}
	f(`{"a":1,"a":2}`, 0, -1, "")
	f(`{"a":1,"a":2}`, 1, 7, "a")
	f(`{"a":1,"a"`, 1, 7, "a") // the first of two faults
	f(`{"a":1,"b":2}`, 1, -1, "")
	f(`{"a":1,"A":2}`, 1, -1, "")
	f(`{"":1,"":2}`, 1, 6, "")
	f(`{"model":1,"\u006dodel":2}`, 1, 11, "model")
	f(`{"\u006dodel":1,"model":2}`, 1, 16, "model")
	f(`{"\n":1,"\u000a":2}`, 1, 8, "\n")
	f(`{"\ud800":1,"\udfff":2}`, 1, 12, "\uFFFD")
	f(`{"a":{"a":1},"b":{"a":1}}`, 9, -1, "")
	f(`{"a":{"b":1,"c":2,"b":3},"d":{}}`, 1, -1, "")
	f(`{"a":{"b":1,"c":2,"b":3},"d":{}}`, 2, 18, "b")
	f(`{"a":{"b":1},"c":{},"a":3}`, 2, 20, "a")
	f(`{"m":[{"r":1},{"r":1,"r":2}]}`, 2, -1, "")
	f(`{"m":[{"r":1},{"r":1,"r":2}]}`, 3, 21, "r")
	f(`[[[[{"a":1,"a":2}]]]]`, 4, -1, "")
	f(`[[[[{"a":1,"a":2}]]]]`, 5, 11, "a")

	// Objects with more keys than are compared one by one.
	for _, n := range []int{fewKeys - 1, fewKeys, fewKeys + 1, 2*fewKeys + 1, 1000} {
		var many strings.Builder
		many.WriteByte('{')
		for i := range n {
			fmt.Fprintf(&many, `"k%d":{"a":%d,"b":0},`, i, i)
		}
		f(many.String()+`"x":1}`, 2, -1, "")
		f(many.String()+`"\u006b0":1}`, 2, many.Len(), "k0")
		f(many.String()+fmt.Sprintf(`"k%d":1}`, n-1), 2, many.Len(), fmt.Sprintf("k%d", n-1))
		f(many.String()+`"x":{"a":1,"a":1}}`, 2, many.Len()+11, "a")
	}
}

func TestMaxKeys(t *testing.T) {
	t.Parallel()
	object := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, `"k%d":{"a":1},`, i)
		}
		return `{"x":[` + `{` + b.String() + `"l":0}` + `]}`
	}
	o := CheckOptions{Duplicates: AllDepths, MaxKeys: 100}
	if err := Check([]byte(object(99)), o); err != nil {
		t.Error(err)
	}
	var se *SyntaxError
	if err := Check([]byte(object(100)), o); !errors.As(err, &se) || se.Msg != msgCrowd || se.Offset != strings.Index(object(100), `"l"`) {
		t.Errorf("got %v, want too many keys at the last", err)
	}
	o.Duplicates = 1
	if err := Check([]byte(object(100)), o); err != nil {
		t.Errorf("below the depth of Duplicates: %v", err)
	}
}

func TestDuplicateErrorShowsLittleOfALongKey(t *testing.T) {
	t.Parallel()
	key := strings.Repeat("k", 1<<20)
	err := Check([]byte(`{"`+key+`":1,"`+key+`":2}`), CheckOptions{Duplicates: 1})
	if err == nil || len(err.Error()) > 200 {
		t.Fatalf("error of %d bytes", len(err.Error()))
	}
}

func TestObjectWithVeryManyKeysIsCheckedQuickly(t *testing.T) {
	t.Parallel()
	b := []byte{'{'}
	for i := 0; len(b) < 4<<20; i++ {
		b = fmt.Appendf(b, `"%x":0,`, i)
	}
	b = append(b, `"x":0}`...)
	start := time.Now()
	if err := Check(b, CheckOptions{Duplicates: 1}); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(start); took > 30*time.Second {
		t.Fatalf("took %v", took)
	}
}

func TestCheckUTF8(t *testing.T) {
	t.Parallel()
	f := func(in string, off int) {
		t.Helper()
		if err := Check([]byte(in), CheckOptions{}); err != nil {
			t.Errorf("%q: %v", in, err)
		}
		var se *SyntaxError
		err := Check([]byte(in), CheckOptions{UTF8: true})
		if off < 0 && err != nil || off >= 0 && (!errors.As(err, &se) || se.Offset != off) {
			t.Errorf("%q: got %v, want offset %d", in, err, off)
		}
	}
	f(`"é😀"`, -1)
	f("\"a\xff\"", 2)
	f("{\"é\":\"\xed\xa0\x80\"}", 7)
	f("\"\xc0\x80\"", 1)
}

func FuzzCheck(f *testing.F) {
	seeds(f, func(s string) { f.Add([]byte(s)) })
	f.Fuzz(func(t *testing.T, in []byte) {
		want := json.Valid(in) && !tooDeep(in)
		if got := Valid(in); got != want {
			t.Fatalf("Valid(%q) = %v", in, got)
		}
		if err := Check(in, CheckOptions{}); (err == nil) != want {
			t.Fatalf("Check(%q): %v", in, err)
		}
		if err := Check(in, CheckOptions{UTF8: true}); (err == nil) != (want && utf8.Valid(in)) {
			t.Fatalf("Check(%q) with UTF8: %v", in, err)
		}
		if err := Check(in, CheckOptions{MaxDepth: 20000}); (err == nil) != json.Valid(in) && len(in) < 10000 {
			t.Fatalf("Check(%q) with depth 20000: %v", in, err)
		}
		err := Check(in, CheckOptions{Duplicates: MaxDepth})
		if isDup := errors.As(err, new(*DuplicateError)); err == nil && !want || want && err != nil && !isDup {
			t.Fatalf("Check(%q) with duplicates: %v", in, err)
		}
		if want {
			var d Dec
			d.Reset(in)
			if dup := hasDuplicate(&d); dup != (err != nil) {
				t.Fatalf("Check(%q) with duplicates: %v, want %v", in, err, dup)
			}
			if got := AppendCompact(nil, in); !json.Valid(got) {
				t.Fatalf("AppendCompact(%q) = %q", in, got)
			}
		}
		AppendCompact(nil, in) // must not panic
	})
}

// hasDuplicate tells whether an object of the next value has a key twice.
func hasDuplicate(d *Dec) (dup bool) {
	switch d.Kind() {
	case Object:
		seen := map[string]bool{}
		d.Object()
		for k, ok := d.Key(); ok; k, ok = d.Key() {
			dup = dup || seen[string(k)]
			seen[string(k)] = true
			dup = hasDuplicate(d) || dup
		}
	case Array:
		d.Array()
		for d.More() {
			dup = hasDuplicate(d) || dup
		}
	default:
		d.Skip()
	}
	return dup
}
