package jsonx

import (
	"bytes"
	"cmp"
	"fmt"
	"hash/maphash"
	"slices"
	"sync"
	"unicode/utf8"
)

// CheckOptions says what Check refuses besides bad syntax.
type CheckOptions struct {
	// MaxDepth is how deep objects and arrays may nest; 0 means the constant
	// MaxDepth.
	MaxDepth int
	// UTF8 refuses documents that are not UTF-8.
	UTF8 bool
	// Duplicates refuses objects in which two keys are equal after decoding, at
	// nesting depths up to this one: 1 is an object at the top, 0 is off.
	// Parsers differ in which of the two values they take, so that a check on
	// one says nothing about the other.
	Duplicates int
}

// DuplicateError tells that an object has a key twice.
type DuplicateError struct {
	Offset int    // of the opening quote of the second one
	Key    string // decoded
}

// Error implements the error interface.
func (e *DuplicateError) Error() string {
	return fmt.Sprintf("duplicate key %.64q at byte %d", e.Key, e.Offset)
}

// Check tells whether b is one JSON value and nothing else but white space. The
// error is a *SyntaxError or a *DuplicateError, whichever is found first.
func Check(b []byte, o CheckOptions) error {
	if o.Duplicates <= 0 {
		return check(b, o, nil)
	}
	keys, _ := keySets.Get().(*keySet)
	if keys == nil {
		keys = new(keySet)
	}
	keys.depth = o.Duplicates
	err := check(b, o, keys)
	if cap(keys.keys) <= keepKeys && cap(keys.text) <= keepKeys {
		keys.keys, keys.bases = keys.keys[:0], keys.bases[:0]
		keySets.Put(keys)
	}
	return err
}

func check(b []byte, o CheckOptions, keys *keySet) error {
	limit := o.MaxDepth
	if limit <= 0 {
		limit = MaxDepth
	}
	limit = min(limit, max(len(b), MaxDepth)) // no document is deeper than long
	var small [MaxDepth / 64]uint64
	stack := small[:]
	if limit > MaxDepth {
		stack = make([]uint64, (limit+63)/64)
	}
	i, msg := scanValue(b, 0, stack, 0, limit, keys)
	if msg == msgDup {
		key, _, _ := unescape(nil, b, i+1)
		return &DuplicateError{Offset: i, Key: string(key)}
	}
	if msg != "" {
		return &SyntaxError{Offset: i, Msg: msg}
	}
	if i = skipSpace(b, i); i < len(b) {
		return &SyntaxError{Offset: i, Msg: msgAfter}
	}
	// Outside strings the grammar leaves no room for anything but ASCII.
	if o.UTF8 && !utf8.Valid(b) {
		return &SyntaxError{Offset: invalidUTF8(b), Msg: msgUTF8}
	}
	return nil
}

// Valid tells whether b is one JSON value, nested no deeper than MaxDepth, and
// nothing else but white space.
func Valid(b []byte) bool {
	var stack [MaxDepth / 64]uint64
	i, msg := scanValue(b, 0, stack[:], 0, MaxDepth, nil)
	return msg == "" && skipSpace(b, i) == len(b)
}

// fewKeys is up to how many keys of one object are compared one with another;
// the keys of larger objects are sorted when the object ends.
const fewKeys = 32

// seed keeps clients from choosing keys whose hashes collide.
var seed = maphash.MakeSeed()

type keyHash struct {
	hash uint64
	off  int // of the opening quote
}

// keySet finds duplicate keys. It keeps 16 bytes for each key of the objects
// that are open; the keys themselves stay in the document.
type keySet struct {
	depth int       // objects nested deeper are not looked at
	keys  []keyHash // of all open objects, outermost first
	bases []int     // where the keys of each open object start
	text  []byte    // scratch for keys with escapes
	dup   int       // offset of the key that was there before
}

// keepKeys is up to how many keys, and bytes of text, a keySet is kept for the
// next document.
const keepKeys = 4096

var keySets sync.Pool // of *keySet

func (s *keySet) open() { s.bases = append(s.bases, len(s.keys)) }

// decode returns the text of the key whose opening quote is at b[off]. It may
// lie in s.text.
func (s *keySet) decode(b []byte, off int) []byte {
	i := off + 1
	if e := scanPlain(b, i); b[e] == '"' {
		return b[i:e]
	}
	s.text, _, _ = unescape(s.text[:0], b, i)
	return s.text
}

// add notes the key b[start:end], quotes included, of the innermost object. It
// returns false if the object has it already.
func (s *keySet) add(b []byte, start, end int) bool {
	h := maphash.Bytes(seed, s.decode(b, start))
	own := s.keys[s.bases[len(s.bases)-1]:]
	if len(own) < fewKeys {
		for _, k := range own {
			if k.hash == h && s.equal(b, k.off, start) {
				s.dup = start
				return false
			}
		}
	}
	s.keys = append(s.keys, keyHash{h, start})
	return true
}

// close forgets the innermost object. It returns false if that has a key twice.
func (s *keySet) close(b []byte) bool {
	base := s.bases[len(s.bases)-1]
	own := s.keys[base:]
	s.keys = s.keys[:base]
	s.bases = s.bases[:len(s.bases)-1]
	if len(own) <= fewKeys {
		return true
	}
	slices.SortFunc(own, func(x, y keyHash) int {
		if c := cmp.Compare(x.hash, y.hash); c != 0 {
			return c
		}
		return cmp.Compare(x.off, y.off)
	})
	for i := 1; i < len(own); i++ {
		if own[i-1].hash == own[i].hash && s.equal(b, own[i-1].off, own[i].off) {
			s.dup = own[i].off
			return false
		}
	}
	return true
}

// equal tells whether two keys are equal once decoded. Their hashes are, so
// that it hardly ever runs for nothing.
func (s *keySet) equal(b []byte, x, y int) bool {
	kx, _, _ := unescape(nil, b, x+1)
	return bytes.Equal(kx, s.decode(b, y))
}
