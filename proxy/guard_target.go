package proxy

import (
	"bytes"
	"net/url"
	"strings"
	"unicode/utf8"
)

// targetByte says which bytes a request target may have: in a path, and in a
// query, where nothing is routed by.
const (
	inPath  byte = 1
	inQuery byte = 2
)

var targetByte = func() (t [256]byte) {
	for c := 0x21; c < 0x100; c++ {
		switch {
		case c == '#' || c == 0x7f:
		case c == '\\' || c == '%' || c > 0x7f: // a percent sign is looked at by itself
			t[c] = inQuery
		default:
			t[c] = inPath | inQuery
		}
	}
	return t
}()

// checkTarget refuses a request target that is anything but a path with or
// without a query, and a path that could be read in two ways. Paths are matched
// on their raw bytes, and a backend's are its own: what is refused here is what
// somebody in front of us may have taken for another path.
func checkTarget(target []byte) *fault {
	if len(target) > maxTarget {
		return faultLongTarget
	}
	if len(target) == 0 || target[0] != '/' {
		return faultForm
	}
	path, query, _ := bytes.Cut(target, []byte("?"))
	for _, b := range query {
		if targetByte[b]&inQuery == 0 {
			return faultTarget
		}
	}
	encoded := false
	for _, b := range path {
		if targetByte[b]&inPath == 0 {
			if b != '%' {
				return faultTarget
			}
			encoded = true
		}
	}
	if encoded && !cleanEncoding(path) {
		return faultEncoded
	}
	return nil
}

// cleanEncoding reports whether what a path encodes is part of its segments: it
// must not end one, be a dot segment, or be what no text holds.
func cleanEncoding(path []byte) bool {
	for rest := path[1:]; len(rest) > 0; {
		var segment []byte
		segment, rest, _ = bytes.Cut(rest, []byte("/"))
		if bytes.IndexByte(segment, '%') < 0 {
			continue
		}
		text, err := url.PathUnescape(string(segment))
		if err != nil || !cleanSegment(text) {
			return false
		}
	}
	return true
}

// cleanSegment reports whether a text can be one segment of a path, and be
// understood as that by everybody once it is encoded.
func cleanSegment(text string) bool {
	if text == "." || text == ".." || !utf8.ValidString(text) {
		return false
	}
	return !strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f || r == '/' || r == '\\' })
}
