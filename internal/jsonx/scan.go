package jsonx

import (
	"encoding/binary"
	"math/bits"
	"unicode/utf8"
)

// Kind is the kind of a JSON value.
type Kind uint8

// The kinds of values. Invalid also stands for "nothing there".
const (
	Invalid Kind = iota
	Null
	Bool
	Number
	String
	Array
	Object
)

// String returns the kind's name in lower case.
func (k Kind) String() string {
	switch k {
	case Null:
		return "null"
	case Bool:
		return "bool"
	case Number:
		return "number"
	case String:
		return "string"
	case Array:
		return "array"
	case Object:
		return "object"
	}
	return "invalid"
}

// MaxDepth is how deep objects and arrays may nest unless something else is
// asked for. No agent protocol comes near it.
const MaxDepth = 128

// What can be wrong with a document.
const (
	msgEnd     = "unexpected end of input"
	msgValue   = "value expected"
	msgKey     = "object key expected"
	msgColon   = "':' expected"
	msgInObj   = "',' or '}' expected"
	msgInArr   = "',' or ']' expected"
	msgNumber  = "malformed number"
	msgLiteral = "malformed literal"
	msgControl = "control character in string"
	msgEscape  = "malformed escape in string"
	msgUTF8    = "invalid UTF-8"
	msgDepth   = "nested too deeply"
	msgAfter   = "data after the value"
	msgOpen    = "value not read to its end"
	msgDup     = "duplicate key"
	msgCrowd   = "too many keys in one object"
	msgSize    = "larger than 4 GiB"
)

const (
	isSpace = 1 << iota // white space between tokens
	isDigit
	isStop // ends a plain run inside a string: quote, backslash, control
)

// class tells what a byte may be part of.
var class = func() (t [256]uint8) {
	for c := range 0x20 {
		t[c] |= isStop
	}
	t['"'] |= isStop
	t['\\'] |= isStop
	for _, c := range " \t\r\n" {
		t[c] |= isSpace
	}
	for c := '0'; c <= '9'; c++ {
		t[c] |= isDigit
	}
	return t
}()

// kinds tells what kind of value starts with a byte.
var kinds = func() (t [256]Kind) {
	t['n'], t['t'], t['f'], t['"'], t['['], t['{'], t['-'] = Null, Bool, Bool, String, Array, Object, Number
	for c := '0'; c <= '9'; c++ {
		t[c] = Number
	}
	return t
}()

// hexValue is the value of a hexadecimal digit, 0xff for any other byte.
var hexValue = func() (t [256]uint8) {
	for c := range t {
		t[c] = 0xff
	}
	for c := range 10 {
		t['0'+c] = uint8(c)
	}
	for c := range 6 {
		t['a'+c], t['A'+c] = uint8(10+c), uint8(10+c)
	}
	return t
}()

// escapeValue is the byte a one-letter escape stands for, 0 for no such escape.
var escapeValue = [256]byte{
	'"': '"', '\\': '\\', '/': '/', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t',
}

// skipSpace returns the index of the first byte of b at or after i that is not
// white space.
func skipSpace(b []byte, i int) int {
	for i < len(b) && class[b[i]]&isSpace != 0 {
		i++
	}
	return i
}

const (
	ones  = 0x0101010101010101
	highs = 0x8080808080808080
)

// stops marks, in the high bit of each byte of x, quotes, backslashes and
// control characters. Flipping one bit puts the quote next to the controls, so
// that one comparison finds both. A borrow can only set marks above a true one:
// the lowest mark is always right.
func stops(x uint64) uint64 {
	return ((x ^ ones*2 - ones*0x21) | (x ^ ones*'\\' - ones)) &^ x & highs
}

// nearStop looks for a quote, backslash or control character among the 8 bytes
// at b[i]. It returns the index of the first, else how far it got, without
// telling which. It is small enough to be inlined where most strings are short.
func nearStop(b []byte, i int) int {
	if len(b)-i < 8 {
		return i
	}
	return i + bits.TrailingZeros64(stops(binary.LittleEndian.Uint64(b[i:])))>>3 // + 8 if there is none
}

// scanPlain returns the index of the first quote, backslash or control
// character of b at or after i, or len(b).
func scanPlain(b []byte, i int) int {
	for long := i + 32; len(b)-i >= 8; i += 8 {
		if m := stops(binary.LittleEndian.Uint64(b[i:])); m != 0 {
			return i + bits.TrailingZeros64(m)>>3
		}
		for i >= long && len(b)-i >= 40 {
			w := (*[32]byte)(b[i+8:])
			if stops(binary.LittleEndian.Uint64(w[:]))|stops(binary.LittleEndian.Uint64(w[8:]))|
				stops(binary.LittleEndian.Uint64(w[16:]))|stops(binary.LittleEndian.Uint64(w[24:])) != 0 {
				break
			}
			i += 32
		}
	}
	for i < len(b) && class[b[i]]&isStop == 0 {
		i++
	}
	return i
}

// scanString checks the rest of a string from i on. It returns the index after
// the closing quote, or that of the fault and what is wrong.
func scanString(b []byte, i int) (int, string) {
	for {
		i = scanPlain(b, i)
		if i >= len(b) {
			return i, msgEnd
		}
	stop:
		switch b[i] {
		case '"':
			return i + 1, ""
		case '\\':
			if i+1 < len(b) && escapeValue[b[i+1]] != 0 {
				i += 2
			} else if _, ok := EscapedUnit(b, i); ok {
				i += 6
			} else {
				return i, msgEscape
			}
		default:
			return i, msgControl
		}
		// Escapes come in crowds.
		if i = nearStop(b, i); i < len(b) && class[b[i]]&isStop != 0 {
			goto stop
		}
	}
}

// EscapedUnit is the UTF-16 code unit of the escape at b[i:], a backslash, u and
// four hexadecimal digits; false if none stands there, or i lies outside b.
func EscapedUnit(b []byte, i int) (rune, bool) {
	if i < 0 || len(b)-i < 6 || b[i] != '\\' || b[i+1] != 'u' {
		return 0, false
	}
	p := b[i+2 : i+6 : i+6]
	h0, h1, h2, h3 := hexValue[p[0]], hexValue[p[1]], hexValue[p[2]], hexValue[p[3]]
	if h0|h1|h2|h3 > 15 {
		return 0, false
	}
	return rune(h0)<<12 | rune(h1)<<8 | rune(h2)<<4 | rune(h3), true
}

// unescape appends the text of the string whose opening quote lies before i to
// dst. It returns the index after the closing quote, or that of the fault and
// what is wrong. A surrogate without its partner becomes U+FFFD.
func unescape(dst, b []byte, i int) ([]byte, int, string) {
	for {
		j := nearStop(b, i)
		if j >= len(b) || class[b[j]]&isStop == 0 {
			j = scanPlain(b, j)
		}
		dst = append(dst, b[i:j]...)
		if j >= len(b) {
			return dst, j, msgEnd
		}
		i = j
		switch b[i] {
		case '"':
			return dst, i + 1, ""
		case '\\':
		default:
			return dst, i, msgControl
		}
		if i+1 >= len(b) {
			return dst, i, msgEscape
		}
		if c := escapeValue[b[i+1]]; c != 0 {
			dst = append(dst, c)
			i += 2
			continue
		}
		r, ok := EscapedUnit(b, i)
		if !ok {
			return dst, i, msgEscape
		}
		i += 6
		if r >= 0xd800 && r < 0xdc00 {
			if lo, ok := EscapedUnit(b, i); ok && lo >= 0xdc00 && lo < 0xe000 {
				r = (r-0xd800)<<10 | (lo - 0xdc00) + 0x10000
				i += 6
			}
		}
		dst = utf8.AppendRune(dst, r) // writes U+FFFD for a lone surrogate
	}
}

// scanNumber checks the number that starts at b[i] and returns the index after
// it, or that of the fault and false.
func scanNumber(b []byte, i int) (int, bool) {
	if b[i] == '-' {
		i++
	}
	if i >= len(b) {
		return i, false
	}
	if b[i] == '0' {
		i++
	} else {
		s := i
		i = skipDigits(b, i)
		if i == s {
			return i, false
		}
	}
	if i < len(b) && b[i] == '.' {
		s := i + 1
		i = skipDigits(b, s)
		if i == s {
			return i, false
		}
	}
	if i < len(b) && b[i]|0x20 == 'e' {
		i++
		if i < len(b) && (b[i] == '+' || b[i] == '-') {
			i++
		}
		s := i
		i = skipDigits(b, s)
		if i == s {
			return i, false
		}
	}
	return i, true
}

func skipDigits(b []byte, i int) int {
	for i < len(b) && class[b[i]]&isDigit != 0 {
		i++
	}
	return i
}

// literalLen returns the length of the null, true or false at b[i], 0 if it is
// none of them.
func literalLen(b []byte, i int) int {
	b = b[i:]
	switch {
	case len(b) >= 4 && (string(b[:4]) == "null" || string(b[:4]) == "true"):
		return 4
	case len(b) >= 5 && string(b[:5]) == "false":
		return 5
	}
	return 0
}

// scanValue checks the value at b[i], which may have white space before it, at
// nesting depth depth. It returns the index after the value, or that of the
// fault and what is wrong. One bit of stack a level (set for objects) replaces
// recursion; stack must have room for limit bits. A nil keys allows duplicate
// keys.
func scanValue(b []byte, i int, stack []uint64, depth, limit int, keys *keySet) (int, string) {
	var (
		base  = depth
		inObj bool
		msg   string
		ok    bool
		start int
	)

value:
	for i < len(b) && b[i] <= ' ' && class[b[i]]&isSpace != 0 {
		i++
	}
	if i >= len(b) {
		return i, msgEnd
	}
	switch kinds[b[i]] {
	case String:
		i++
		if i = nearStop(b, i); i < len(b) && b[i] == '"' {
			i++
		} else if i, msg = scanString(b, i); msg != "" {
			return i, msg
		}
	case Number:
		if i, ok = scanNumber(b, i); !ok {
			return i, msgNumber
		}
	case Null, Bool:
		n := literalLen(b, i)
		if n == 0 {
			return i, msgLiteral
		}
		i += n
	case Object:
		if depth >= limit {
			return i, msgDepth
		}
		stack[depth>>6] |= 1 << (depth & 63)
		depth++
		inObj = true
		if keys != nil && depth <= keys.depth {
			keys.open()
		}
		i++
		for i < len(b) && b[i] <= ' ' && class[b[i]]&isSpace != 0 {
			i++
		}
		if i < len(b) && b[i] == '}' {
			goto end
		}
		goto key
	case Array:
		if depth >= limit {
			return i, msgDepth
		}
		stack[depth>>6] &^= 1 << (depth & 63)
		depth++
		inObj = false
		i++
		for i < len(b) && b[i] <= ' ' && class[b[i]]&isSpace != 0 {
			i++
		}
		if i < len(b) && b[i] == ']' {
			goto end
		}
		goto value
	default:
		return i, msgValue
	}

after:
	if depth == base {
		return i, ""
	}
	for i < len(b) && b[i] <= ' ' && class[b[i]]&isSpace != 0 {
		i++
	}
	if i >= len(b) {
		return i, msgEnd
	}
	if inObj {
		switch b[i] {
		case ',':
			i++
			goto key
		case '}':
			goto end
		}
		return i, msgInObj
	}
	switch b[i] {
	case ',':
		i++
		goto value
	case ']':
		goto end
	}
	return i, msgInArr

end:
	i++
	if inObj && keys != nil && depth <= keys.depth && !keys.close(b, depth) {
		return keys.dup, msgDup
	}
	depth--
	if depth > base {
		inObj = stack[(depth-1)>>6]>>((depth-1)&63)&1 != 0
	}
	goto after

key:
	for i < len(b) && b[i] <= ' ' && class[b[i]]&isSpace != 0 {
		i++
	}
	if i >= len(b) {
		return i, msgEnd
	}
	if b[i] != '"' {
		return i, msgKey
	}
	start = i
	i++
	if i = nearStop(b, i); i < len(b) && b[i] == '"' {
		i++
	} else if i, msg = scanString(b, i); msg != "" {
		return i, msg
	}
	if keys != nil && depth <= keys.depth && !keys.add(b, start, depth) {
		return keys.dup, msgDup
	}
	for i < len(b) && b[i] <= ' ' && class[b[i]]&isSpace != 0 {
		i++
	}
	if i >= len(b) {
		return i, msgEnd
	}
	if b[i] != ':' {
		return i, msgColon
	}
	i++
	goto value
}
