package jsonx

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"unicode"
)

var testNames = NewNames(map[string]NameUse{
	"model": Outermost | Inner, "messages": Outermost, "role": Inner, "reasoning_kind": Outermost | Inner,
	"config": Outermost | Frame, "schema": Inner | Opaque, "mesages": Outermost, "metadata": Opaque,
})

func TestVariants(t *testing.T) {
	t.Parallel()
	// The offset is that of the mark; without one the document is fine.
	f := func(in, wantName string) {
		t.Helper()
		off := strings.Index(in, "^")
		b := []byte(strings.Replace(in, "^", "", 1))
		err := Check(b, CheckOptions{Duplicates: AllDepths, Names: testNames})
		var ve *VariantError
		switch {
		case off < 0 && err != nil:
			t.Errorf("%s: %v", in, err)
		case off >= 0 && (!errors.As(err, &ve) || ve.Offset != off || ve.Name != wantName):
			t.Errorf("%s: got %v, want offset %d and name %q", in, err, off, wantName)
		}
		if e := Check(b, CheckOptions{Duplicates: AllDepths}); e != nil {
			t.Errorf("%s, without names: %v", in, e)
		}
	}
	// In the outermost object the variant alone is one too many.
	f(`{^"Model":1,"model":2}`, "model")
	f(`{"model":2,^"MODEL":1}`, "model")
	f(`{^"mOdel":1}`, "model")
	f(`{^"\u004dodel":1}`, "model")
	f(`{^"mod\u0045l":1}`, "model")
	f(`{^"meſſages":1}`, "messages")
	f(`{^"me\u017fsages":1}`, "messages")
	f(`{^"reasoning_\u212aind":1}`, "reasoning_kind")
	f(`{^"reasonıng_kind":1}`, "reasoning_kind")
	f(`{^"reasonİng_kınd":1}`, "reasoning_kind")
	f(` [{"model":1},{^"Model":1}]`, "model")
	f(`{"config":{^"Model":1}}`, "model")
	f(`{"config":[{"Model":1}]}`, "")
	f(`{"x":{"config":{"Model":1}}}`, "")
	f(`{"config":{},"x":{"Model":1}}`, "")
	f(`{"config":{"x":{}},"y":{"Model":1}}`, "")
	f(`{"config":{"x":{"Model":1}}}`, "")
	f(`{"config":{"x":{^"Model":1,"model":1}}}`, "model")
	f(`{^"meſages":1}`, "mesages") // as long as an opaque name that begins so
	// Below it is a member of the client's own, unless the name is there too.
	f(`{"x":[{"Role":1}]}`, "")
	f(`{"x":[{^"Role":1,"role":2}]}`, "role")
	f(`{"x":[{"role":1,^"ROLE":2}]}`, "role")
	f(`{"x":[{"Role":1,^"ROLE":2}]}`, "role")
	f(`{"x":[{"Role":{"role":1}},{"role":2}]}`, "")
	f(`{"x":[{"a":{},"Role":{"a":{},"Role":1},"b":{}},{"role":2}]}`, "")
	f(`{"x":[{"a":{},^"Role":{"a":{},"Role":1},"b":{},"role":1},{"role":2}]}`, "role")
	f(`{"x":[{"Role":1},[{"Role":1}],{"Role":1,"c":{^"ROLE":{"role":{}},"role":2}}]}`, "role")
	f(`{"x":[[{"Role":1,"y":[[{^"Role":1,"role":2}]]}]]}`, "role")
	// Names that are not read there, and others.
	f(`{"x":{"Messages":1,"messages":2}}`, "")
	f(`{"Role":1,"role":2}`, "")
	f(`{"Other":1,"other":2}`, "")
	f(`{"rôle":1,"Rôle":2}`, "")
	f(`{"`+strings.Repeat("M", 1000)+`":1}`, "")
	f(`{"modelſ":1,"":2,"`+strings.Repeat("ſ", 60)+`":3}`, "")
	// In opaque values names mean nothing; behind them they do.
	f(`{"x":{"schema":{"Role":1,"role":2,"y":[{"Role":1,"role":2}]}}}`, "")
	f(`{"x":{"schema":[[{"Role":1,"role":2}]]}}`, "")
	f(`{"x":{"schema":{},^"Role":1,"role":2}}`, "role")
	f(`{"x":{"schema":{},"y":{^"Role":1,"role":2}}}`, "role")
	f(`{"x":[{"schema":{}},[{^"Role":1,"role":2}]]}`, "role")
	f(`{"x":[{"schema":1},{^"Role":1,"role":2}]}`, "role")
	f(`{"x":{"schema":{"schema":{}},"y":{^"Role":1,"role":2}}}`, "role")
	f(`{"x":{"y":{"schema":{"a":{}}}},"z":{^"Role":1,"role":2}}`, "role")
	f(`{"x":{"\u0073chema":{"Role":1,"role":2}}}`, "")

	// Objects whose keys are sorted to be compared.
	for _, n := range []int{fewKeys - 1, fewKeys, fewKeys + 1, 1000} {
		var many strings.Builder
		for i := range n {
			fmt.Fprintf(&many, `"k%d":{"a":0},`, i)
		}
		f(`{"x":{`+many.String()+`"Role":1}}`, "")
		f(`{"x":{`+many.String()+`^"Role":1,"role":2}}`, "role")
		f(`{"x":{^"Role":1,`+many.String()+`"role":2}}`, "role")
		f(`{"x":{^"Role":1,`+many.String()+`"\u0072ole":2}}`, "role")
		f(`{"x":{"role":1,`+many.String()+`^"Role":2}}`, "role")
	}
}

// Whatever letter folds to one of a name's in Unicode makes a variant of it.
func TestFoldKnowsAllThatFoldsToASCII(t *testing.T) {
	t.Parallel()
	for r := rune(0x80); r <= unicode.MaxRune; r++ {
		want := byte(0xff)
		for f := unicode.SimpleFold(r); f != r; f = unicode.SimpleFold(f) {
			if f >= 'a' && f <= 'z' {
				want = byte(f)
			}
		}
		for _, f := range []rune{unicode.ToLower(r), unicode.ToLower(unicode.ToUpper(r))} {
			if f >= 'a' && f <= 'z' {
				want = byte(f)
			}
		}
		if got := fold(nil, []byte(string(r))); len(got) != 1 || got[0] != want {
			t.Errorf("%U: got %q, want %q", r, got, want)
		}
	}
}

// Keys whose hashes are equal are told apart, in objects of any size.
func TestCollidingHashes(t *testing.T) { //nolint:paralleltest // it replaces the hash
	real := hashOf
	t.Cleanup(func() { hashOf = real })
	hashOf = func(key []byte) uint32 { return uint32(len(key)) & 1 }
	for _, n := range []int{2, fewKeys, fewKeys + 1, 200} {
		var many strings.Builder
		for i := range n {
			fmt.Fprintf(&many, `"k%03d":0,`, i)
		}
		for in, want := range map[string]int{
			`{` + many.String() + `"x":1}`:                         -1,
			`{` + many.String() + `"k000":1}`:                      1 + many.Len(),
			`{"k\u0030\u0030\u0031":1,` + many.String() + `"x":1}`: 0,
			`{"x":1,` + many.String() + `"y":1,"x":2}`:             many.Len() + 13,
		} {
			err := Check([]byte(in), CheckOptions{Duplicates: 1, Names: testNames})
			var de *DuplicateError
			if want < 0 && err != nil || want > 0 && (!errors.As(err, &de) || de.Offset != want) || want == 0 && !errors.As(err, &de) {
				t.Errorf("%d keys: got %v, want a duplicate at %d", n, err, want)
			}
		}
		err := Check([]byte(`{"x":{`+many.String()+`"Role":1,"role":2}}`), CheckOptions{Duplicates: AllDepths, Names: testNames})
		if !errors.As(err, new(*VariantError)) {
			t.Errorf("%d keys: got %v, want a variant", n, err)
		}
	}
}

func TestNewNamesTakesNamesOnly(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"", "Model", "a b", "ä", strings.Repeat("a", 64)} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%q is taken", name)
				}
			}()
			NewNames(map[string]NameUse{name: Inner})
		}()
	}
}

// allocated is how many bytes a run of f allocates.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// A document may be as hostile as it likes: the check needs less memory than
// four times its size in all for its keys, and none for anything else.
func TestCheckNeedsLittleMemory(t *testing.T) { //nolint:paralleltest // it counts what the process allocates
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	const size = 4 << 20
	keys := func(format string) string {
		var b strings.Builder
		b.WriteByte('{')
		for i := 0; b.Len() < size; i++ {
			fmt.Fprintf(&b, format, i)
		}
		return b.String() + `"":0}`
	}
	for name, c := range map[string]struct {
		in    string
		limit uint64
	}{
		"arrays":                  {strings.Repeat("[", size), 8192},
		"objects":                 {strings.Repeat(`{"a":`, size/5), 8192},
		"mixed":                   {strings.Repeat(`[{"a":`, size/6), 8192},
		"spaced":                  {strings.Repeat("[\n\t ", size/4), 8192},
		"shallow, then deep":      {`{"a":[` + strings.Repeat("[],", size/3) + strings.Repeat("[", 200), 8192},
		"brackets in a string":    {`{"a":"` + strings.Repeat("[{", size/2) + `"}`, 8192},
		"escapes in a string":     {`{"a":"` + strings.Repeat(`\u0022`, size/6) + `"}`, 8192},
		"many elements":           {`[` + strings.Repeat("0,", size/2) + `0]`, 8192},
		"many empty objects":      {`[` + strings.Repeat("{},", size/3) + `0]`, 8192},
		"many objects":            {`[` + strings.Repeat(`{"role":1},`, size/11) + `0]`, 8192},
		"many variants":           {`[[` + strings.Repeat(`{"Role":1},`, size/11) + `0]]`, 8192},
		"many escaped keys":       {`[` + strings.Repeat(`{"\u0072ole":1},`, size/16) + `0]`, 8192},
		"a long number":           {`[` + strings.Repeat("1", size) + `]`, 8192},
		"many keys":               {keys(`"%x":0,`), 4 * size},
		"many keys, few repeated": {keys(`"%x":{"a":0},`), 4 * size},
		"one long key":            {`{"` + strings.Repeat("k", size) + `":0}`, 8192},
		"one long escaped key":    {`{"` + strings.Repeat(`\n`, size/2) + `":0}`, 4 * size},
	} {
		in := []byte(c.in)
		_ = Check([]byte("{}"), CheckOptions{Duplicates: 1}) // fills the pool
		got := allocated(func() { _ = Check(in, CheckOptions{UTF8: true, Duplicates: AllDepths, Names: testNames}) })
		if got > c.limit {
			t.Errorf("%s: %d bytes for a document of %d, at most %d are fine", name, got, len(in), c.limit)
		}
		if got := allocated(func() { Valid(in) }); got > 0 {
			t.Errorf("%s: Valid allocates %d bytes", name, got)
		}
		if got := allocated(func() { PathAt(in, len(in)) }); got > 8192 {
			t.Errorf("%s: PathAt allocates %d bytes", name, got)
		}
	}
}

// FuzzNames compares the check with a walk that folds and compares every key.
func FuzzNames(f *testing.F) {
	seeds(f, func(s string) { f.Add([]byte(s)) })
	for _, s := range []string{`{"Model":1,"model":2}`, `{"x":[{"Role":1,"role":2}]}`, `{"config":{"MODEL":1}}`, `{"x":{"schema":{"Role":1,"role":2}}}`, `[{"Model":1}]`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		o := CheckOptions{Duplicates: AllDepths}
		if Check(in, o) != nil {
			return
		}
		var d Dec
		d.Reset(in)
		top := 1
		if d.Kind() == Array {
			top = 2
		}
		want := hasVariant(&d, 0, top, false)
		o.Names = testNames
		if err := Check(in, o); (err != nil) != want {
			t.Fatalf("Check(%q) = %v, want an error: %v", in, err, want)
		}
	})
}

func hasVariant(d *Dec, depth, top int, opaque bool) (bad bool) {
	switch d.Kind() {
	case Object:
		depth++
		seen := map[string]int{}
		variants := map[string]bool{}
		d.Object()
		for k, ok := d.Key(); ok; k, ok = d.Key() {
			key := string(k)
			name := string(fold(nil, k))
			use := testNames.use[name].use
			seen[name]++
			if key != name {
				variants[name] = true
				bad = bad || !opaque && use&Outermost != 0 && depth == top
				use = 0
			}
			below := top
			if use&Frame != 0 && depth == top {
				below = -1
			}
			if below < 0 {
				bad = hasVariantIn(d, depth, opaque) || bad
			} else {
				bad = hasVariant(d, depth, top, opaque || use&Opaque != 0) || bad
			}
		}
		for name := range variants {
			bad = bad || !opaque && depth != top && seen[name] > 1 && testNames.use[name].use&Inner != 0
		}
	case Array:
		d.Array()
		for d.More() {
			bad = hasVariant(d, depth+1, top, opaque) || bad
		}
	default:
		d.Skip()
	}
	return bad
}

// hasVariantIn is hasVariant for the value of a frame: objects one deeper are read
// as the outermost ones.
func hasVariantIn(d *Dec, depth int, opaque bool) bool { return hasVariant(d, depth, depth+1, opaque) }
