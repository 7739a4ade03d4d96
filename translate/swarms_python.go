package translate

import (
	"strconv"
	"unicode/utf8"

	"github.com/dragoman-proxy/dragoman/internal/jsonx"
)

// pythonJSON turns what Python's repr makes of lists, dictionaries, strings,
// numbers and simple objects into JSON: [{'id': 'call_1', 'ok': True}], and
// [Call(id='call_1')] as [{"id":"call_1"}]. ok is false for anything else, and for
// what is nested deeper than pythonDepth.
func pythonJSON(s string) (b []byte, ok bool) {
	p := pythonReader{s: s}
	b, ok = p.value(make([]byte, 0, len(s)), 0)
	p.space()
	return b, ok && p.i == len(s)
}

// pythonDepth is how deep values may be nested: a tool call has four levels.
const pythonDepth = 16

type pythonReader struct {
	s string
	i int
}

func (p *pythonReader) space() {
	for p.i < len(p.s) && (p.s[p.i] == ' ' || p.s[p.i] == '\n' || p.s[p.i] == '\t' || p.s[p.i] == '\r') {
		p.i++
	}
}

// take skips white space and c, if c is what comes.
func (p *pythonReader) take(c byte) bool {
	p.space()
	if p.i < len(p.s) && p.s[p.i] == c {
		p.i++
		return true
	}
	return false
}

func (p *pythonReader) value(dst []byte, depth int) ([]byte, bool) {
	p.space()
	if p.i == len(p.s) || depth > pythonDepth {
		return dst, false
	}
	switch c := p.s[p.i]; {
	case c == '[':
		p.i++
		return p.items(dst, ']', depth)
	case c == '(':
		p.i++
		return p.items(dst, ')', depth)
	case c == '{':
		p.i++
		return p.members(dst, '}', ':', depth)
	case c == '\'' || c == '"':
		return p.text(dst)
	case c == '-' || c >= '0' && c <= '9':
		return p.number(dst)
	}
	word := p.word()
	switch word {
	case "":
		return dst, false
	case "None":
		return append(dst, "null"...), true
	case "True":
		return append(dst, "true"...), true
	case "False":
		return append(dst, "false"...), true
	}
	if !p.take('(') {
		return dst, false
	}
	return p.members(dst, ')', '=', depth)
}

// items reads the rest of a list.
func (p *pythonReader) items(dst []byte, end byte, depth int) ([]byte, bool) {
	dst = append(dst, '[')
	for n := 0; !p.take(end); n++ {
		if n > 0 {
			if !p.take(',') {
				return dst, false
			}
			if p.take(end) {
				break
			}
			dst = append(dst, ',')
		}
		var ok bool
		if dst, ok = p.value(dst, depth+1); !ok {
			return dst, false
		}
	}
	return append(dst, ']'), true
}

// members reads the rest of a dictionary, or of an object's arguments.
func (p *pythonReader) members(dst []byte, end, is byte, depth int) ([]byte, bool) {
	dst = append(dst, '{')
	for n := 0; !p.take(end); n++ {
		if n > 0 {
			if !p.take(',') {
				return dst, false
			}
			if p.take(end) {
				break
			}
			dst = append(dst, ',')
		}
		p.space()
		ok := false
		if is == '=' {
			word := p.word()
			dst, ok = jsonx.AppendStringS(dst, word), word != ""
		} else if p.i < len(p.s) && (p.s[p.i] == '\'' || p.s[p.i] == '"') {
			dst, ok = p.text(dst)
		}
		if !ok || !p.take(is) {
			return dst, false
		}
		dst = append(dst, ':')
		if dst, ok = p.value(dst, depth+1); !ok {
			return dst, false
		}
	}
	return append(dst, '}'), true
}

func (p *pythonReader) word() string {
	from := p.i
	for p.i < len(p.s) {
		if c := p.s[p.i]; c != '_' && c != '.' && (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'z') {
			break
		}
		p.i++
	}
	return p.s[from:p.i]
}

// number copies a number, which JSON writes alike; what is none the caller's check
// of the whole finds.
func (p *pythonReader) number(dst []byte) ([]byte, bool) {
	from := p.i
	for p.i < len(p.s) {
		if c := p.s[p.i]; (c < '0' || c > '9') && c != '-' && c != '+' && c != '.' && c != 'e' && c != 'E' {
			break
		}
		p.i++
	}
	return append(dst, p.s[from:p.i]...), true
}

// text reads a string in either kind of quotes.
func (p *pythonReader) text(dst []byte) ([]byte, bool) {
	quote := p.s[p.i]
	p.i++
	var b []byte
	for p.i < len(p.s) {
		c := p.s[p.i]
		p.i++
		switch {
		case c == quote:
			return jsonx.AppendString(dst, b), true
		case c != '\\':
			b = append(b, c)
		default:
			var ok bool
			if b, ok = p.escape(b); !ok {
				return dst, false
			}
		}
	}
	return dst, false
}

// escape reads what follows a backslash.
func (p *pythonReader) escape(b []byte) ([]byte, bool) {
	if p.i == len(p.s) {
		return b, false
	}
	c := p.s[p.i]
	p.i++
	digits := 0
	switch c {
	case '\\', '\'', '"':
		return append(b, c), true
	case 'n':
		return append(b, '\n'), true
	case 'r':
		return append(b, '\r'), true
	case 't':
		return append(b, '\t'), true
	case 'x':
		digits = 2
	case 'u':
		digits = 4
	case 'U':
		digits = 8
	default:
		return b, false
	}
	if p.i+digits > len(p.s) {
		return b, false
	}
	n, err := strconv.ParseUint(p.s[p.i:p.i+digits], 16, 32)
	p.i += digits
	return utf8.AppendRune(b, rune(n)), err == nil // #nosec G115 -- what is no code point becomes U+FFFD
}
