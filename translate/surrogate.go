package translate

import (
	"bytes"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/dragoman-proxy/dragoman/internal/jsonx"
)

// halves are the halves of surrogate pairs that a JSON string begins and ends
// with, zero where it does not: servers that cut their text into UTF-16 units
// split a pair over two strings. Decoded by itself each half is U+FFFD.
type halves struct{ lead, tail uint16 }

// halvesOf finds the halves at the ends of a decoded string; raw is the string as
// it was written, without its quotes.
func halvesOf(text, raw []byte) (h halves) {
	if n := len(text); n < len(replacement) || text[0] != replacement[0] && text[n-1] != replacement[2] {
		return h
	}
	if bytes.HasPrefix(text, replacement) {
		if u, ok := jsonx.EscapedUnit(raw, 0); ok && u >= 0xdc00 && u < 0xe000 {
			h.lead = uint16(u)
		}
	}
	if bytes.HasSuffix(text, replacement) {
		if u, ok := jsonx.EscapedUnit(raw, len(raw)-len(`\ud83d`)); ok && u >= 0xd800 && u < 0xdc00 {
			h.tail = uint16(u)
		}
	}
	return h
}

// pairing puts the pieces of a text together where they were cut in the middle of
// a surrogate pair: the first half waits for the second.
type pairing struct {
	half uint16
	buf  []byte
}

// join returns the whole code points that a piece brings, which are valid until
// the next call.
func (p *pairing) join(text []byte, h halves) []byte {
	if p.half == 0 && h.tail == 0 {
		return text
	}
	p.buf = p.buf[:0]
	if p.half != 0 {
		r := rune(utf8.RuneError)
		if h.lead != 0 {
			r = utf16.DecodeRune(rune(p.half), rune(h.lead))
			text = text[len(replacement):]
		}
		p.buf = utf8.AppendRune(p.buf, r)
	}
	if p.half = h.tail; h.tail != 0 {
		text = text[:len(text)-len(replacement)]
	}
	p.buf = append(p.buf, text...)
	return p.buf
}

// rest ends the text: the half that still waits is no code point.
func (p *pairing) rest() []byte {
	if p.half == 0 {
		return nil
	}
	p.half = 0
	return replacement
}
