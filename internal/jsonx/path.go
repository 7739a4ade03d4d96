package jsonx

import (
	"errors"
	"strconv"
	"unicode/utf8"
)

const (
	// pathBytes is about how long a path may become, and pathKey how much of one
	// key it shows.
	pathBytes = 192
	pathKey   = 48
	// pathSteps is how many steps of a path are kept from its beginning.
	pathSteps = 32
)

// pathStep is a container that is open: what of it is being read.
type pathStep struct {
	key   int // offset of the opening quote of its latest key, -1 before the first
	index int // of its latest element, -1 in an object
}

// PathAt names the place in the document b that the byte at off belongs to, as
// JSON tools write it: messages[2].content. It is "" for the document's own value
// and what stands outside it. Up to off the document should be well formed: where
// it is not, the path ends. The result is printable ASCII and UTF-8, at most some
// 200 bytes long, and shows keys of the document; it is meant for error messages
// and takes time in proportion to off.
func PathAt(b []byte, off int) string {
	var steps [pathSteps]pathStep
	var kinds [MaxDepth/64 + 1]uint64 // a bit a level, set for objects
	depth := 0
	wantKey := false
	off = min(off, len(b))
	i := 0
walk:
	for i = skipSpace(b, 0); i < off; i = skipSpace(b, i) {
		obj := depth > 0 && kinds[(depth-1)>>6]>>((depth-1)&63)&1 != 0
		switch c := b[i]; c {
		case '{', '[':
			if depth >= MaxDepth {
				break walk
			}
			if depth < pathSteps {
				steps[depth] = pathStep{key: -1, index: -1} //nolint:gosec // the condition above bounds the index
				if c == '[' {
					steps[depth].index = 0 //nolint:gosec // the condition above bounds the index
				}
			}
			wantKey = c == '{'
			kinds[depth>>6] &^= 1 << (depth & 63)
			if wantKey {
				kinds[depth>>6] |= 1 << (depth & 63)
			}
			depth++
			i++
		case '}', ']':
			if depth == 0 || obj != (c == '}') {
				break walk
			}
			if i+1 > off {
				break walk
			}
			depth--
			wantKey = false
			i++
		case ',':
			if depth == 0 {
				break walk
			}
			wantKey = obj
			if s := min(depth, pathSteps) - 1; depth <= pathSteps && !obj {
				steps[s].index++
			}
			i++
		case ':':
			wantKey = false
			i++
		case '"':
			end, msg := scanString(b, i+1)
			if wantKey && depth <= pathSteps {
				steps[depth-1].key = -1 //nolint:gosec // the condition above bounds the index
				if msg == "" {
					steps[depth-1].key = i //nolint:gosec // the condition above bounds the index
				}
			}
			if msg != "" || end > off {
				break walk
			}
			wantKey = false
			i = end
		default:
			end := i
			for end < len(b) && class[b[end]]&isSpace == 0 && b[end] != ',' && b[end] != '}' && b[end] != ']' {
				end++
			}
			if end >= off || end == i {
				break walk
			}
			i = end
		}
	}
	// A key that begins just here is the place, be it a good one.
	if i == off && wantKey && depth > 0 && depth <= pathSteps && i < len(b) && b[i] == '"' {
		if _, msg := scanString(b, i+1); msg == "" {
			steps[depth-1].key = i //nolint:gosec // the condition above bounds the index
		}
	}
	return string(appendPath(nil, b, steps[:min(depth, pathSteps)], depth > pathSteps))
}

// appendPath writes steps. Those that do not fit are left out at the end.
func appendPath(dst, b []byte, steps []pathStep, more bool) []byte {
	for _, s := range steps {
		switch {
		case len(dst) > pathBytes-pathKey:
			return append(dst, "…"...)
		case s.index >= 0:
			dst = append(dst, '[')
			dst = strconv.AppendInt(dst, int64(s.index), 10)
			dst = append(dst, ']')
		case s.key >= 0:
			dst = appendPathKey(dst, b, s.key)
		}
	}
	if more {
		dst = append(dst, "…"...)
	}
	return dst
}

// appendPathKey writes the key whose opening quote is at b[off]: as it is if it
// looks like a name, else in brackets and quotes.
func appendPathKey(dst, b []byte, off int) []byte {
	end, _ := scanString(b, off+1)
	// No more is decoded than shown: an escape has six bytes at most.
	cut := min(end-1, off+1+6*pathKey)
	text := b[off+1 : cut]
	key, _, msg := unescape(nil, append(append([]byte{}, text...), '"'), 0)
	if msg != "" || cut < end-1 { // cut within an escape
		key = key[:min(len(key), 2*pathKey)]
	}
	long := len(key) > pathKey || cut < end-1
	if len(key) > pathKey {
		key = key[:pathKey]
	}
	name := len(key) > 0
	for _, c := range key {
		name = name && (c == '_' || c == '-' || c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'z')
	}
	if !name {
		dst = append(dst, '[', '"')
	} else if len(dst) > 0 {
		dst = append(dst, '.')
	}
	for len(key) > 0 {
		r, n := utf8.DecodeRune(key)
		switch {
		case r == utf8.RuneError || r < ' ' || r >= 0x7f && r < 0xa0 || !strconv.IsPrint(r):
			dst = append(dst, '?')
		case r == '"' || r == '\\':
			dst = append(dst, '\\', byte(r))
		default:
			dst = append(dst, key[:n]...)
		}
		key = key[n:]
	}
	if long {
		dst = append(dst, "…"...)
	}
	if !name {
		dst = append(dst, '"', ']')
	}
	return dst
}

// ErrorOffset is the offset that an error of Check or of a Dec names.
func ErrorOffset(err error) (off int, ok bool) {
	var s *SyntaxError
	var d *DuplicateError
	var v *VariantError
	switch {
	case errors.As(err, &s):
		return s.Offset, true
	case errors.As(err, &d):
		return d.Offset, true
	case errors.As(err, &v):
		return v.Offset, true
	}
	return 0, false
}
