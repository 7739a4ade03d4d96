package translate

import (
	"strings"

	"github.com/tidwall/gjson"

	"github.com/dragoman-proxy/dragoman/internal/jsonx"
)

// swarmsCall is a tool call in an answer or in a history.
type swarmsCall struct {
	id, name, args string
	author         string
	held           bool // waits for the end of the stream: it may be the client's
	ran            bool // a result followed
	resulted       bool // which was this call's own
}

// swarmsCalls reads a content that is a list of tool calls, as such or as the text
// of one, or a single call by itself.
func swarmsCalls(v gjson.Result) ([]swarmsCall, bool) {
	if v.Type == gjson.String {
		return swarmsCallText(v.String())
	}
	var calls []swarmsCall
	ok := v.IsArray() || v.IsObject()
	add := func(v gjson.Result) bool {
		f, t := v.Get("function"), v.Get("type")
		name, args := f.Get("name"), f.Get("arguments")
		if ok = ok && v.IsObject() && f.IsObject() && name.Type == gjson.String && name.Str != "" &&
			(!t.Exists() || t.Str == "function"); !ok {
			return false
		}
		c := swarmsCall{id: v.Get("id").String(), name: name.String(), args: args.String()}
		switch {
		case args.IsObject() || args.IsArray():
			c.args = args.Raw
		case strings.TrimSpace(c.args) == "":
			c.args = "{}"
		}
		calls = append(calls, c)
		return true
	}
	if v.IsObject() {
		add(v)
	} else if ok {
		v.ForEach(func(_, v gjson.Result) bool { return add(v) })
	}
	return calls, ok && len(calls) > 0
}

// swarmsCallText reads a text that is a list of tool calls and nothing else, in
// JSON or as Python writes one: swarms turn what their agents answer into text
// by str().
func swarmsCallText(text string) ([]swarmsCall, bool) {
	s := strings.TrimSpace(text)
	if !strings.HasPrefix(s, "[") || !strings.HasSuffix(s, "]") || !strings.Contains(s, "function") {
		return nil, false
	}
	if !jsonx.Valid(viewBytes(s)) {
		b, ok := pythonJSON(s)
		if !ok || !jsonx.Valid(b) {
			return nil, false
		}
		s = viewString(b)
	}
	return swarmsCalls(gjson.Parse(s))
}

// The beginnings of a text that may be a list of tool calls.
const (
	swarmsNoCalls     = iota
	swarmsTooShort    // not to be told yet
	swarmsJSONCalls   // it goes on as such a list does
	swarmsPythonCalls // so does it, as Python writes one
)

// swarmsCallHead looks at the beginning of a text: [{"function": or another
// member of a call, or in Python [{'id': or [ChatCompletionMessageToolCall(.
func swarmsCallHead(text []byte) int {
	i := 0
	space := func() {
		for i < len(text) && (text[i] == ' ' || text[i] == '\n' || text[i] == '\r' || text[i] == '\t') {
			i++
		}
	}
	for _, c := range [...]byte{'[', '{'} {
		space()
		if i == len(text) {
			return swarmsTooShort
		}
		if text[i] != c {
			if c == '{' {
				return swarmsHeadIn(text[i:], "ChatCompletion", swarmsPythonCalls)
			}
			return swarmsNoCalls
		}
		i++
	}
	space()
	if i == len(text) {
		return swarmsTooShort
	}
	kind := swarmsJSONCalls
	switch text[i] {
	case '"':
	case '\'':
		kind = swarmsPythonCalls
	default:
		return swarmsNoCalls
	}
	best := swarmsNoCalls
	for _, key := range [...]string{"function", "id", "type", "index"} {
		if h := swarmsHeadIn(text[i+1:], key+string(text[i]), kind); h > best {
			best = h
		}
	}
	return best
}

// swarmsHeadIn compares the beginning of text with want.
func swarmsHeadIn(text []byte, want string, kind int) int {
	n := min(len(text), len(want))
	switch {
	case string(text[:n]) != want[:n]:
		return swarmsNoCalls
	case n < len(want):
		return swarmsTooShort
	}
	return kind
}
