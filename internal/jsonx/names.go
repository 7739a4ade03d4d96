package jsonx

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// NameUse says where a name is read.
type NameUse uint8

// The uses of a name.
const (
	// Outermost names are read in the outermost object, and in each object of an
	// outermost array. There a variant is refused even where the name itself is
	// absent: what is read there decides who is asked and what for, and a parser
	// without regard to case would decide by the variant.
	Outermost NameUse = 1 << iota
	// Inner names are read in the objects below. There a variant is refused if the
	// name itself, or another variant of it, stands beside it: alone it is one of
	// the client's own members.
	Inner
	// Frame names have a value that is read as the outermost object is.
	Frame
	// Opaque names have a value in which names are data: a JSON Schema, say.
	Opaque
)

// Names are the member names that a reader acts on, for Check. Of a name that
// parsers without regard to case would take for one of them, a reader that is
// exact sees nothing. Names is safe for concurrent use.
type Names struct {
	use   map[string]named
	long  int         // length of the longest name
	marks [256]uint64 // by first byte: lengths of the names that are Frame or Opaque
}

type named struct {
	name string // the map's own key
	use  NameUse
}

// NewNames makes Names. The names are in lower case and consist of a to z, digits
// and underscores; anything else is a programming error and panics.
func NewNames(use map[string]NameUse) *Names {
	n := &Names{use: make(map[string]named, len(use))}
	for name, u := range use {
		if name == "" || len(name) > 63 || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789_") != "" {
			panic(fmt.Sprintf("BUG: %q is no name", name))
		}
		n.use[name] = named{name, u}
		n.long = max(n.long, len(name))
		if u&(Frame|Opaque) != 0 {
			n.marks[name[0]] |= 1 << len(name)
		}
	}
	return n
}

// VariantError tells that an object has a key that differs from a name its reader
// acts on in nothing but the case of its letters.
type VariantError struct {
	Offset int    // of the key's opening quote
	Key    string // decoded
	Name   string // what it is a variant of
}

// Error implements the error interface.
func (e *VariantError) Error() string {
	return fmt.Sprintf("key %.64q at byte %d differs from %q only in case", e.Key, e.Offset, e.Name)
}

// variant is a variant whose object is not over.
type variant struct {
	name string
	off  int
	base int // of the object's keys
}

// look finds out about a key what must be known of its name. It returns false if
// it is a variant that must not be there.
func (s *keySet) look(key []byte, off, depth int) bool {
	if s.opaque > 0 && depth > s.opaque {
		return true
	}
	if depth <= s.opaque {
		s.opaque = 0
	}
	if depth <= s.frame {
		s.frame = 0
	}
	if n := len(key); n > 0 && n < 64 && s.names.marks[key[0]]>>n&1 != 0 {
		switch u := s.names.use[string(key)].use; {
		case u&Opaque != 0:
			s.opaque = depth
		case u&Frame != 0 && depth == s.top:
			s.frame = depth
		}
	}
	for _, c := range key {
		if c >= 'A' && c <= 'Z' || c >= 0x80 {
			return s.variant(key, off, depth)
		}
	}
	return true
}

// variant is look for a key that is not in lower case throughout.
func (s *keySet) variant(key []byte, off, depth int) bool {
	if len(key) > 3*s.names.long { // no letter that folds to an ASCII one has more bytes
		return true
	}
	var buf [192]byte
	folded := fold(buf[:0], key)
	n, ok := s.names.use[string(folded)]
	switch {
	case !ok:
	case depth == s.top || s.frame > 0 && depth == s.frame+1:
		if n.use&Outermost != 0 {
			s.name = n.name
			return false
		}
	case n.use&Inner != 0:
		base := s.bases[len(s.bases)-1]
		for i := len(s.variants) - 1; i >= 0 && s.variants[i].base == base; i-- {
			if s.variants[i].name == n.name { // so that there are never more than names
				s.name = n.name
				return false
			}
		}
		s.variants = append(s.variants, variant{n.name, off, base})
	}
	return true
}

// settle looks whether the variants in the object that has ended stand beside what
// they are variants of. own are its keys.
func (s *keySet) settle(b []byte, own []keyHash) bool {
	for n := len(s.variants); n > 0 && s.variants[n-1].base == len(s.keys); n-- {
		v := s.variants[n-1]
		s.variants = s.variants[:n-1]
		if s.has(b, own, v.name) {
			s.dup, s.name = v.off, v.name
			return false
		}
	}
	return true
}

// has tells whether a name is among the keys of the object that has ended.
func (s *keySet) has(b []byte, own []keyHash, name string) bool {
	s.text = append(s.text[:0], name...)
	h := hashOf(s.text)
	is := func(k keyHash) bool { return k.hash == h && string(s.decode(b, int(k.off))) == name }
	if len(own) <= fewKeys {
		return slices.ContainsFunc(own, is)
	}
	mask := uint32(len(s.table) - 1)
	for slot := h & mask; s.table[slot] != 0; slot = (slot + 1) & mask {
		if is(own[s.table[slot]-1]) {
			return true
		}
	}
	return false
}

// fold appends key in lower case. Beyond ASCII those letters count that some
// runtime takes for an ASCII one when it compares without regard to case: the long
// s, the sign of kelvin, and the dotted and dotless i of Turkish. Other letters
// become 0xff, which no name has.
func fold(dst, key []byte) []byte {
	for i, n := 0, 0; i < len(key); i += n {
		var r rune
		r, n = utf8.DecodeRune(key[i:])
		switch {
		case r >= 'A' && r <= 'Z':
			r += 'a' - 'A'
		case r == '\u017f':
			r = 's'
		case r == '\u212a':
			r = 'k'
		case r == '\u0130' || r == '\u0131':
			r = 'i'
		case r >= 0x80:
			r = 0xff
		}
		dst = append(dst, byte(r))
	}
	return dst
}
