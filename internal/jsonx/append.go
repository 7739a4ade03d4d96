package jsonx

import (
	"unicode/utf8"
	"unsafe"
)

const hexDigits = "0123456789abcdef"

// AppendString appends s as a JSON string, quotes included. Only what must be
// escaped is; bytes that are not UTF-8 become U+FFFD.
func AppendString(dst, s []byte) []byte {
	dst = append(dst, '"')
	dst = AppendEscaped(dst, s)
	return append(dst, '"')
}

// AppendStringS is AppendString for a string.
func AppendStringS(dst []byte, s string) []byte {
	// AppendString only reads its second argument and keeps nothing of it.
	return AppendString(dst, unsafe.Slice(unsafe.StringData(s), len(s)))
}

// AppendEscaped is AppendString without the quotes, for texts that are put
// together from pieces. Each piece must be whole UTF-8 by itself.
func AppendEscaped(dst, s []byte) []byte {
	if utf8.Valid(s) {
		return appendValid(dst, s)
	}
	start := 0
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRune(s[i:])
		if r == utf8.RuneError && n == 1 {
			dst = appendValid(dst, s[start:i])
			dst = append(dst, "\uFFFD"...)
			start = i + 1
		}
		i += n
	}
	return appendValid(dst, s[start:])
}

// appendValid appends s, which is UTF-8, with escapes.
func appendValid(dst, s []byte) []byte {
	i := 0
	for {
		j := scanPlain(s, i)
		dst = append(dst, s[i:j]...)
		if j == len(s) {
			return dst
		}
		switch c := s[j]; c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\r':
			dst = append(dst, '\\', 'r')
		case '\t':
			dst = append(dst, '\\', 't')
		case '\b':
			dst = append(dst, '\\', 'b')
		case '\f':
			dst = append(dst, '\\', 'f')
		default:
			dst = append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
		i = j + 1
	}
}

// Unquote appends the text of raw, one JSON string with its quotes and nothing
// around it, to dst. If raw is not that, it returns dst and false.
func Unquote(dst, raw []byte) ([]byte, bool) {
	if len(raw) < 2 || raw[0] != '"' {
		return dst, false
	}
	out, end, msg := unescape(dst, raw, 1)
	if msg != "" || end != len(raw) {
		return dst, false
	}
	return out, true
}

// AppendCompact appends raw without the white space between its tokens. It does
// not check raw, which must be valid JSON.
func AppendCompact(dst, raw []byte) []byte {
	start, i := 0, 0
	for i < len(raw) {
		c := raw[i]
		if c == '"' {
			i = scanPlain(raw, i+1)
			for i < len(raw) && raw[i] != '"' {
				if raw[i] == '\\' {
					i++
				}
				i = scanPlain(raw, min(i+1, len(raw)))
			}
			i = min(i+1, len(raw))
			continue
		}
		if class[c]&isSpace == 0 {
			i++
			continue
		}
		dst = append(dst, raw[start:i]...)
		i = skipSpace(raw, i)
		start = i
	}
	return append(dst, raw[start:]...)
}
