package jsonx

import (
	"bytes"
	"fmt"
	"hash/maphash"
	"math"
	"math/bits"
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
	// MaxKeys is how many keys one object may have; 0 is no limit. It counts where
	// Duplicates does.
	MaxKeys int
	// Names, if set, refuses keys that only a parser without regard to case takes
	// for one of these names. It counts to the depth that Duplicates says.
	Names *Names
}

// AllDepths is the value of Duplicates for objects at any depth.
const AllDepths = math.MaxInt

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
// error is a *SyntaxError, a *DuplicateError or a *VariantError, whichever is found
// first.
func Check(b []byte, o CheckOptions) error {
	if o.Duplicates <= 0 {
		return check(b, o, nil)
	}
	keys, _ := keySets.Get().(*keySet)
	if keys == nil {
		keys = new(keySet)
	}
	keys.depth, keys.limit, keys.names, keys.top = o.Duplicates, o.MaxKeys, o.Names, 1
	if i := skipSpace(b, 0); i < len(b) && b[i] == '[' {
		keys.top = 2
	}
	err := check(b, o, keys)
	if cap(keys.keys) <= keepKeys && cap(keys.text) <= keepKeys && cap(keys.variants) <= keepKeys {
		*keys = keySet{keys: keys.keys[:0], bases: keys.bases[:0], text: keys.text[:0], table: keys.table, variants: keys.variants[:0]}
		keySets.Put(keys)
	}
	return err
}

func check(b []byte, o CheckOptions, keys *keySet) error {
	if uint64(len(b)) > math.MaxUint32 { // the offsets of keys have 32 bits
		return &SyntaxError{Offset: math.MaxUint32, Msg: msgSize}
	}
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
		return keys.fault(b, i)
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
// the keys of larger objects are put into a table when the object ends.
const fewKeys = 32

// seed keeps clients from choosing keys whose hashes collide.
var seed = maphash.MakeSeed()

// keyHash is a key: 32 bits of hash are enough for those that are not equal to be
// compared hardly ever.
type keyHash struct {
	hash uint32
	off  uint32 // of the opening quote
}

// keySet finds duplicate keys. It keeps 8 bytes for each key of the objects
// that are open, which is less than the key itself has; the keys stay in the
// document.
type keySet struct {
	depth int       // objects nested deeper are not looked at
	keys  []keyHash // of all open objects, outermost first
	bases []int     // where the keys of each open object start
	text  []byte    // scratch for keys with escapes
	limit int       // of keys in one object, 0: none
	table []uint32  // of the object that has ended: 1 + the key's place, by hash
	dup   int       // offset of the key that must not be there
	crowd bool      // because there are too many
	name  string    // because it is a variant of that name; else it is a duplicate

	names    *Names
	top      int // depth of the outermost objects
	opaque   int // what is nested deeper is the client's own data, 0: nothing is
	frame    int // objects one deeper are read as the outermost ones are, 0: none
	variants []variant
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

// hashOf is a variable so that tests can make hashes collide.
var hashOf = func(key []byte) uint32 { return uint32(maphash.Bytes(seed, key)) }

// add notes the key whose opening quote is at b[start], of the innermost object,
// which is at that depth. It returns false if the object has it already, or if it
// is a variant that must not be there.
func (s *keySet) add(b []byte, start, depth int) bool {
	key := s.decode(b, start)
	if s.names != nil && !s.look(key, start, depth) {
		s.dup = start
		return false
	}
	h := hashOf(key)
	own := s.keys[s.bases[len(s.bases)-1]:]
	if s.limit > 0 && len(own) >= s.limit {
		s.dup, s.crowd = start, true
		return false
	}
	if len(own) < fewKeys {
		for _, k := range own {
			if k.hash == h && s.equal(b, int(k.off), start) {
				s.dup = start
				return false
			}
		}
	}
	if len(s.keys) == cap(s.keys) { // append grows large slices in small steps
		s.keys = slices.Grow(s.keys, len(s.keys)+64)
	}
	s.keys = append(s.keys, keyHash{h, uint32(start)})
	return true
}

// close forgets the innermost object, which is at that depth. It returns false if
// that has a key twice.
func (s *keySet) close(b []byte, depth int) bool {
	base := s.bases[len(s.bases)-1]
	own := s.keys[base:]
	s.keys = s.keys[:base]
	s.bases = s.bases[:len(s.bases)-1]
	if len(own) > fewKeys && !s.distinct(b, own) {
		return false
	}
	if s.opaque == depth {
		s.opaque = 0
	}
	if s.frame == depth {
		s.frame = 0
	}
	return s.settle(b, own)
}

// distinct tells whether no two keys are equal, and leaves them in s.table.
func (s *keySet) distinct(b []byte, own []keyHash) bool {
	size := 1 << bits.Len(uint(2*len(own)-1)) // at least twice as many, a power of 2
	if cap(s.table) < size {
		s.table = make([]uint32, size)
	}
	s.table = s.table[:size]
	clear(s.table)
	for i, k := range own {
		slot := k.hash & uint32(size-1)
		for ; s.table[slot] != 0; slot = (slot + 1) & uint32(size-1) {
			if o := own[s.table[slot]-1]; o.hash == k.hash && s.equal(b, int(o.off), int(k.off)) {
				s.dup = int(k.off)
				return false
			}
		}
		s.table[slot] = uint32(i + 1)
	}
	return true
}

// equal tells whether two keys are equal once decoded. Their hashes are, so
// that it hardly ever runs for nothing.
func (s *keySet) equal(b []byte, x, y int) bool {
	i := x + 1
	if e := scanPlain(b, i); b[e] == '"' {
		return bytes.Equal(b[i:e], s.decode(b, y))
	}
	kx, _, _ := unescape(nil, b, i)
	return bytes.Equal(kx, s.decode(b, y))
}

// fault is the error for the key at off.
func (s *keySet) fault(b []byte, off int) error {
	if s.crowd {
		return &SyntaxError{Offset: off, Msg: msgCrowd}
	}
	key, _, _ := unescape(nil, b, off+1)
	if s.name != "" {
		return &VariantError{Offset: off, Key: string(key), Name: s.name}
	}
	return &DuplicateError{Offset: off, Key: string(key)}
}
