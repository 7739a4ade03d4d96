package translate

import (
	"sort"
	"unsafe"

	"github.com/tidwall/gjson"

	"github.com/dragoman-proxy/dragoman/internal/jsonx"
)

// splice edits a JSON document without touching a byte that it was not asked
// to: key order, number text, white space and unknown fields survive. The
// document is valid JSON; paths are constants of ours, never a client's text.
type splice struct {
	body  string
	edits []edit
}

type edit struct {
	from, to int
	with     string
}

func newSplice(body []byte) *splice { return &splice{body: viewString(body)} }

// get is gjson's view of a constant path.
func (s *splice) get(path string) gjson.Result { return gjson.Get(s.body, path) }

// set gives the member key of the top-level object the raw JSON value raw,
// where it is, or at the front of the object if it is absent.
func (s *splice) set(key, raw string) {
	if r := gjson.Get(s.body, key); r.Exists() {
		s.replace(r, raw)
		return
	}
	s.insert(gjson.Parse(s.body), 0, key, raw)
}

// setIn does the same for a member of the object at the constant path parent,
// which is made if it is absent or null; anything else that is there is left.
func (s *splice) setIn(parent, key, raw string) {
	p := gjson.Get(s.body, parent)
	if !p.IsObject() {
		if p.Type == gjson.Null {
			s.set(parent, `{"`+key+`":`+raw+`}`)
		}
		return
	}
	if r := p.Get(key); r.Exists() {
		s.replace(r, raw)
		return
	}
	s.insert(p, p.Index, key, raw)
}

// prepend puts a raw element at the front of the array at the constant path.
func (s *splice) prepend(path, raw string) {
	r := gjson.Get(s.body, path)
	if !r.IsArray() {
		return
	}
	if !isBare(r) {
		raw += ","
	}
	at := r.Index + 1
	s.edits = append(s.edits, edit{at, at, raw})
}

// isBare reports whether an object or an array has nothing in it.
func isBare(v gjson.Result) bool {
	c := firstByte(v.Raw[1:])
	return c == ']' || c == '}'
}

func (s *splice) replace(r gjson.Result, raw string) {
	s.edits = append(s.edits, edit{r.Index, r.Index + len(r.Raw), raw})
}

func (s *splice) insert(object gjson.Result, index int, key, raw string) {
	if index == 0 { // the document itself may begin with white space
		for s.body[index] != '{' {
			index++
		}
	}
	at := index + 1
	empty := true
	object.ForEach(func(_, _ gjson.Result) bool { empty = false; return false })
	with := string(jsonx.AppendStringS(nil, key)) + ":" + raw
	if !empty {
		with += ","
	}
	for i := range s.edits {
		if e := &s.edits[i]; e.from == at && e.to == at { // another member went there before
			if empty {
				with = "," + with
			}
			e.with += with
			return
		}
	}
	s.edits = append(s.edits, edit{at, at, with})
}

// append writes the edited document.
func (s *splice) append(dst []byte) []byte {
	sort.SliceStable(s.edits, func(i, j int) bool { return s.edits[i].from < s.edits[j].from })
	at := 0
	for _, e := range s.edits {
		dst = append(dst, s.body[at:e.from]...)
		dst = append(dst, e.with...)
		at = e.to
	}
	return append(dst, s.body[at:]...)
}

// viewString looks at bytes as a string without copying; they must not change
// while the string is in use.
func viewString(b []byte) string {
	if len(b) == 0 {
		return ""
	}
	return unsafe.String(&b[0], len(b))
}

// viewBytes looks at a string as bytes, which must not be changed.
func viewBytes(s string) []byte {
	if s == "" {
		return nil
	}
	return unsafe.Slice(unsafe.StringData(s), len(s))
}

// quote is s as a JSON string.
func quote(s string) string { return string(jsonx.AppendStringS(nil, s)) }
