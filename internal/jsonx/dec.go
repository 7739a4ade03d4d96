package jsonx

import (
	"fmt"
	"unicode/utf8"
)

// keepScratch is the size up to which Reset keeps a Dec's scratch buffer: one
// document with a huge escaped string must not pin its size in a pool for ever.
const keepScratch = 1 << 20

// SyntaxError tells where a document stops being JSON, and why. Its text holds
// no byte of the document, so it may be shown and logged.
type SyntaxError struct {
	Offset int    // of the byte that does not fit
	Msg    string // what is wrong with it
}

// Error implements the error interface.
func (e *SyntaxError) Error() string {
	return fmt.Sprintf("invalid JSON at byte %d: %s", e.Offset, e.Msg)
}

const (
	stValue uint8 = iota // a value stands next
	stFirst              // just inside a container
	stNext               // after a member or an element
	stDone               // after the document's one value
	stBad                // after an error
)

// Dec pulls values out of one JSON document, checking the syntax of all it
// walks over. The zero value is ready after Reset. A Dec is not safe for
// concurrent use.
//
//	d.Reset(b)
//	if d.Object() {
//		for k, ok := d.Key(); ok; k, ok = d.Key() {
//			switch string(k) {
//			case "model":
//				model, _ = d.Str()
//			case "choices":
//				if d.Array() {
//					for d.More() {
//						choice(d)
//					}
//				}
//			}
//		}
//	}
//	err := d.End()
//
// After an error every method returns zero values, so that a walk ends by
// itself and Err or End is asked once. Calling Key where no object is open, or
// reading a value where none stands, is such an error too.
type Dec struct {
	// StrictUTF8 makes strings with bytes that are not UTF-8 an error.
	// Otherwise they pass as they are.
	StrictUTF8 bool

	state   uint8
	obj     bool // the innermost open container is an object
	b       []byte
	i       int
	depth   int
	stack   [MaxDepth / 64]uint64
	scratch []byte
	err     *SyntaxError
}

// Reset makes d read b, which must stay unchanged as long as d or anything it
// returned is used. It keeps the scratch buffer unless that has become very
// large: what Str returned for earlier documents is no longer valid.
func (d *Dec) Reset(b []byte) {
	d.b, d.i = b, 0
	d.state, d.obj, d.depth = stValue, false, 0
	d.err = nil
	if cap(d.scratch) > keepScratch {
		d.scratch = nil
	}
	d.scratch = d.scratch[:0]
}

// fail records the first error.
func (d *Dec) fail(off int, msg string) {
	if d.state != stBad {
		d.state = stBad
		d.err = &SyntaxError{Offset: off, Msg: msg}
	}
}

// peek skips white space and returns the first byte of the value that stands
// next; 0 if there is none.
func (d *Dec) peek() byte {
	if d.state != stValue {
		return 0
	}
	b, i := d.b, d.i
	for i < len(b) {
		c := b[i]
		if c > ' ' || class[c]&isSpace == 0 {
			d.i = i
			return c
		}
		i++
	}
	d.i = i
	return 0
}

// consumed notes that the value before i has been read.
func (d *Dec) consumed(i int) {
	d.i = i
	d.state = stNext
	if d.depth == 0 {
		d.state = stDone
	}
}

// skip consumes the next value and returns where it starts and ends.
func (d *Dec) skip() (start, end int, ok bool) {
	if d.state != stValue {
		d.fail(d.i, msgValue)
		return 0, 0, false
	}
	c := d.peek()
	start = d.i
	var msg string
	if c == '"' {
		end, msg = scanString(d.b, start+1)
	} else {
		end, msg = scanValue(d.b, start, d.stack[:], d.depth, MaxDepth, nil)
	}
	if msg != "" {
		d.fail(end, msg)
		return 0, 0, false
	}
	if d.StrictUTF8 && !utf8.Valid(d.b[start:end]) {
		d.fail(start+invalidUTF8(d.b[start:end]), msgUTF8)
		return 0, 0, false
	}
	d.consumed(end)
	return start, end, true
}

// enter steps into the container whose opening bracket is at d.i.
func (d *Dec) enter(obj bool) bool {
	if d.depth >= MaxDepth {
		d.fail(d.i, msgDepth)
		return false
	}
	bit := uint64(1) << (d.depth & 63)
	if obj {
		d.stack[d.depth>>6] |= bit
	} else {
		d.stack[d.depth>>6] &^= bit
	}
	d.depth++
	d.obj = obj
	d.i++
	d.state = stFirst
	return true
}

// leave steps out of the container whose closing bracket is at b[i].
func (d *Dec) leave(i int) {
	d.depth--
	d.obj = d.depth > 0 && d.stack[(d.depth-1)>>6]>>((d.depth-1)&63)&1 != 0
	d.consumed(i + 1)
}

// Kind tells the kind of the next value without consuming it. It is Invalid
// where no value stands: before the first More of an array, say, or at the end.
func (d *Dec) Kind() Kind { return kinds[d.peek()] }

// Object enters the next value if it is an object: its members are then read
// with Key until that returns false. Any other value is consumed, and the
// result is false.
func (d *Dec) Object() bool {
	if d.peek() == '{' {
		return d.enter(true)
	}
	d.skip()
	return false
}

// Array enters the next value if it is an array: its elements are then read
// with More until that returns false. Any other value is consumed, and the
// result is false.
func (d *Dec) Array() bool {
	if d.peek() == '[' {
		return d.enter(false)
	}
	d.skip()
	return false
}

// Key returns the decoded key of the next member of the object entered last,
// whose value stands next; false at the object's end, which it consumes. A
// value that has not been consumed is skipped. The key borrows from the
// document if it has no escapes; else it is valid until the next call of d.
func (d *Dec) Key() ([]byte, bool) {
	if d.state == stValue && d.obj {
		d.skip()
	}
	if !d.obj || d.state == stBad {
		d.fail(d.i, msgKey)
		return nil, false
	}
	b, i := d.b, d.i
	if i < len(b) && b[i] <= ' ' {
		i = skipSpace(b, i)
	}
	if i < len(b) && b[i] == '}' {
		d.leave(i)
		return nil, false
	}
	if d.state == stNext {
		if i < len(b) && b[i] != ',' {
			d.fail(i, msgInObj)
			return nil, false
		}
		i++
		if i < len(b) && b[i] <= ' ' {
			i = skipSpace(b, i)
		}
	}
	if i >= len(b) {
		d.fail(len(b), msgEnd)
		return nil, false
	}
	if b[i] != '"' {
		d.fail(i, msgKey)
		return nil, false
	}
	i++
	var key []byte
	if e := nearStop(b, i); e < len(b) && b[e] == '"' && !d.StrictUTF8 {
		key = b[i:e:e]
		i = e + 1
	} else {
		mark := len(d.scratch)
		var ok bool
		if key, i, ok = d.text(i); !ok {
			return nil, false
		}
		d.scratch = d.scratch[:mark] // decoded keys do not pile up
	}
	if i < len(b) && b[i] <= ' ' {
		i = skipSpace(b, i)
	}
	if i >= len(b) {
		d.fail(i, msgEnd)
		return nil, false
	}
	if b[i] != ':' {
		d.fail(i, msgColon)
		return nil, false
	}
	d.i = i + 1
	d.state = stValue
	return key, true
}

// More tells whether another element follows in the array entered last; that
// element stands next. At the array's end, which it consumes, it returns false.
// An element that has not been consumed is skipped.
func (d *Dec) More() bool {
	if d.obj || d.depth == 0 {
		d.fail(d.i, msgInArr)
		return false
	}
	if d.state == stValue {
		d.skip()
	}
	if d.state == stBad {
		return false
	}
	b, i := d.b, d.i
	if i < len(b) && b[i] <= ' ' {
		i = skipSpace(b, i)
	}
	if i >= len(b) {
		d.fail(i, msgEnd)
		return false
	}
	if b[i] == ']' {
		d.leave(i)
		return false
	}
	if d.state == stNext {
		if b[i] != ',' {
			d.fail(i, msgInArr)
			return false
		}
		i++
	}
	d.i = i
	d.state = stValue
	return true
}

// Raw consumes the next value, whatever it is, and returns its bytes, checked
// and without white space around them. They borrow from the document.
func (d *Dec) Raw() []byte {
	start, end, ok := d.skip()
	if !ok {
		return nil
	}
	return d.b[start:end:end]
}

// Skip consumes the next value.
func (d *Dec) Skip() { d.skip() }

// Str consumes the next value and returns its decoded text if it is a string;
// the result is not nil then. The text borrows from the document if it has no
// escapes; else it lies in memory of d and is valid until Reset. Any other
// value, null included, gives nil and false.
func (d *Dec) Str() ([]byte, bool) {
	if d.peek() != '"' {
		d.skip()
		return nil, false
	}
	s, i, ok := d.text(d.i + 1)
	if !ok {
		return nil, false
	}
	d.consumed(i)
	return s, true
}

// text decodes the string whose opening quote lies before i and returns the
// index after the closing one. Text with escapes is appended to the scratch
// buffer; when that grows, earlier results keep the old array alive.
func (d *Dec) text(i int) ([]byte, int, bool) {
	b := d.b
	e := scanPlain(b, i)
	if e < len(b) && b[e] == '"' {
		s := b[i:e:e]
		if d.StrictUTF8 && !utf8.Valid(s) {
			d.fail(i+invalidUTF8(s), msgUTF8)
			return nil, 0, false
		}
		return s, e + 1, true
	}
	mark := len(d.scratch)
	dst, end, msg := unescape(d.scratch, b, i)
	if msg != "" {
		d.fail(end, msg)
		return nil, 0, false
	}
	if d.StrictUTF8 && !utf8.Valid(b[i:end]) {
		d.fail(i+invalidUTF8(b[i:end]), msgUTF8)
		return nil, 0, false
	}
	d.scratch = dst
	return dst[mark:len(dst):len(dst)], end, true
}

// Int consumes the next value and returns it if it is a number without a
// fraction that fits; 1.0 and 1e3 are such numbers.
func (d *Dec) Int() (int64, bool) {
	c := d.peek()
	if c >= '1' && c <= '9' {
		// Most are short and have digits only.
		b, i := d.b, d.i
		stop := min(len(b), i+18)
		var n int64
		for i < stop && class[b[i]]&isDigit != 0 {
			n = n*10 + int64(b[i]-'0')
			i++
		}
		if i < stop && b[i] != '.' && b[i]|0x20 != 'e' {
			d.consumed(i)
			return n, true
		}
	}
	isNumber := kinds[c] == Number
	start, end, ok := d.skip()
	if !ok || !isNumber {
		return 0, false
	}
	return parseInt(d.b[start:end])
}

// Bool consumes the next value and returns it if it is true or false.
func (d *Dec) Bool() (v, ok bool) {
	c := d.peek()
	if _, _, ok = d.skip(); !ok {
		return false, false
	}
	return c == 't', c == 't' || c == 'f'
}

// Err returns the first error, a *SyntaxError, or nil.
func (d *Dec) Err() error {
	if d.err == nil {
		return nil
	}
	return d.err
}

// End checks that the document's value has been read to its end and that only
// white space follows it. It returns the first error, like Err.
func (d *Dec) End() error {
	switch d.state {
	case stDone:
		if i := skipSpace(d.b, d.i); i < len(d.b) {
			d.fail(i, msgAfter)
		} else {
			d.i = i
		}
	case stBad:
	default:
		d.fail(d.i, msgOpen)
	}
	return d.Err()
}

// Offset returns how many bytes of the document have been read.
func (d *Dec) Offset() int { return d.i }

// invalidUTF8 returns the index of the first byte of b that is not UTF-8.
func invalidUTF8(b []byte) int {
	for i := 0; i < len(b); {
		r, n := utf8.DecodeRune(b[i:])
		if r == utf8.RuneError && n == 1 {
			return i
		}
		i += n
	}
	return len(b)
}

// parseInt converts a well-formed number that has an exact int64.
func parseInt(b []byte) (int64, bool) {
	neg := b[0] == '-'
	if neg {
		b = b[1:]
	}
	// The value is m·10^exp, with the trailing zeros of the digits in exp, so
	// that it is whole exactly if exp is not negative.
	var m, exp, zeros int64
	i, point := 0, false
	for ; i < len(b); i++ {
		c := b[i]
		if c == '.' {
			point = true
			continue
		}
		if c|0x20 == 'e' {
			break
		}
		if point {
			exp--
		}
		if c == '0' {
			zeros++
			continue
		}
		if m != 0 {
			var ok bool
			if m, ok = scale(m, zeros); !ok {
				return 0, false
			}
			if m, ok = scale(m, 1); !ok {
				return 0, false
			}
		}
		zeros = 0
		// m is kept negative: there is one more negative int64.
		if m -= int64(c - '0'); m > 0 {
			return 0, false
		}
	}
	if m == 0 {
		return 0, true
	}
	if i < len(b) {
		i++
		down := b[i] == '-'
		if b[i] == '-' || b[i] == '+' {
			i++
		}
		var e int64
		for ; i < len(b); i++ {
			if e < 1<<50 { // far beyond any document's count of digits
				e = e*10 + int64(b[i]-'0')
			}
		}
		if down {
			e = -e
		}
		exp += e
	}
	exp += zeros
	if exp < 0 {
		return 0, false
	}
	m, ok := scale(m, exp)
	if !ok {
		return 0, false
	}
	if neg {
		return m, true
	}
	if m == -1<<63 {
		return 0, false
	}
	return -m, true
}

// scale returns m·10^n for m < 0 unless that overflows.
func scale(m, n int64) (int64, bool) {
	for ; n > 0; n-- {
		if m < -1<<63/10 {
			return 0, false
		}
		m *= 10
	}
	return m, true
}
