package translate

import (
	"bytes"
	"strconv"
	"strings"
	"testing"
)

// unframed reports whether a stream is text without events, and returns the
// decoder's way to read it. Such a stream has as many deltas as it had pieces.
func (c *goldenCase) unframed(dec Decoder) (Detector, bool) {
	d, ok := dec.(Detector)
	if !ok || !c.stream {
		return nil, false
	}
	isFramed, _ := d.Framed(c.body, true)
	return d, !isFramed
}

// sameText compares what two ways of cutting a stream without events came to:
// events, or what a client got, with the pieces of one text joined.
func (c *goldenCase) sameText(t testing.TB, face *Protocol, stream bool, got, want []byte) bool {
	if bytes.Equal(got, want) {
		return true
	}
	if _, raw := c.unframed(c.backend.NewDecoder(goldenSetup(t, registry[0], true))); !raw {
		return false
	}
	if face == nil {
		return joinDeltas(string(got)) == joinDeltas(string(want))
	}
	if !stream || bytes.HasPrefix(got, []byte("HTTP ")) || bytes.HasPrefix(want, []byte("HTTP ")) {
		return false
	}
	events := func(b []byte) string {
		return joinDeltas((&goldenCase{backend: face, body: b, stream: true, status: 200}).decode(t, nil))
	}
	return events(got) == events(want)
}

// joinDeltas joins deltas of a block that follow one another.
func joinDeltas(events string) string {
	var out []string
	for line := range strings.SplitSeq(events, "\n") {
		if len(out) > 0 && strings.HasPrefix(line, "delta ") {
			head, text, _ := strings.Cut(line, "\"")
			lastHead, lastText, ok := strings.Cut(out[len(out)-1], "\"")
			a, err1 := strconv.Unquote("\"" + lastText)
			b, err2 := strconv.Unquote("\"" + text)
			if ok && head == lastHead && err1 == nil && err2 == nil {
				out[len(out)-1] = head + strconv.Quote(a+b)
				continue
			}
		}
		out = append(out, line)
	}
	return strings.Join(out, "\n")
}
