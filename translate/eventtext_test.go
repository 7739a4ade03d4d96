package translate

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
)

// The text form of events, one a line, in which golden files and tests of the
// stages write them:
//
//	start id="…" model="…" created=123 handle="…"
//	block 0 text msg=0 part=0 author="…" phase=commentary …
//	delta 0 "text" replace logprobs=[…]
//	annotation 0 {…}
//	end 0 incomplete opaque="…"
//	usage input=1 output=2 total=3 cached=0 reasoning=0
//	finish stop word="stop" tier="flex"
//	fail status=502 code="…" message="…"
//	ping
//	native name="…" data="…"

// eventLog is a Sink that writes the text form.
type eventLog struct {
	b    strings.Builder
	next Sink
}

func (l *eventLog) Event(e *Event) {
	l.b.WriteString(eventText(e))
	l.b.WriteByte('\n')
	if l.next != nil {
		l.next.Event(e)
	}
}

func (l *eventLog) String() string { return l.b.String() }

type textAttrs struct{ strings.Builder }

func (a *textAttrs) str(key, v string) {
	if v != "" {
		a.WriteString(" " + key + "=" + strconv.Quote(v))
	}
}

func (a *textAttrs) raw(key, v string) {
	if v != "" {
		a.WriteString(" " + key + "=" + v)
	}
}

func (a *textAttrs) num(key string, v int64) {
	a.WriteString(" " + key + "=" + strconv.FormatInt(v, 10))
}

func (a *textAttrs) flag(key string, v bool) {
	if v {
		a.WriteString(" " + key)
	}
}

func eventText(e *Event) string {
	var a textAttrs
	switch e.Kind {
	case EventStart:
		a.WriteString("start")
		a.str("id", e.ID)
		a.str("model", e.Model)
		if e.Created != 0 {
			a.num("created", e.Created)
		}
		a.str("handle", e.Handle)
	case EventBlockStart:
		b := e.Block
		fmt.Fprintf(&a, "block %d %s msg=%d part=%d", e.Index, b.Type, e.Msg, e.Part)
		a.str("author", e.Author)
		a.raw("phase", e.Phase.String())
		a.str("id", b.ID)
		a.str("name", b.Name)
		a.str("call", b.CallID)
		a.flag("custom", b.Custom)
		a.flag("ran", b.Ran)
		a.flag("error", b.IsError)
		a.flag("summary", b.Summary)
		a.str("language", b.Language)
		a.str("style", b.Style)
		a.str("title", b.Title)
		a.raw("headers", b.Headers)
		a.str("url", b.URL)
		a.str("alt", b.Alt)
		a.str("caption", b.Caption)
		a.str("mime", b.MIME)
		a.str("file_id", b.FileID)
		a.str("detail", b.Detail)
		a.str("data", b.Data)
	case EventBlockDelta:
		fmt.Fprintf(&a, "delta %d %q", e.Index, e.Data)
		a.flag("replace", e.Replace)
		a.raw("logprobs", string(e.Logprobs))
	case EventAnnotation:
		fmt.Fprintf(&a, "annotation %d %s", e.Index, e.Data)
	case EventBlockEnd:
		fmt.Fprintf(&a, "end %d", e.Index)
		a.flag(e.Status.String(), e.Status != StatusComplete)
		a.str("opaque", e.Opaque)
	case EventUsage:
		a.WriteString("usage")
		u := e.Usage
		for _, f := range []struct {
			name string
			n    int64
		}{{"input", u.Input}, {"output", u.Output}, {"total", u.Total}, {"cached", u.Cached}, {"written", u.Written}, {"audio_in", u.AudioIn},
			{"reasoning", u.Reasoning}, {"audio_out", u.AudioOut}, {"accepted", u.Accepted}, {"rejected", u.Rejected}} {
			if f.n >= 0 {
				a.num(f.name, f.n)
			}
		}
	case EventFinish:
		a.WriteString("finish " + e.Reason.String())
		a.str("word", e.Word)
		a.str("tier", e.Tier)
	case EventFail:
		a.WriteString("fail")
		if e.Err != nil {
			a.num("status", int64(e.Err.Status))
			a.str("code", e.Err.Code)
			a.str("message", e.Err.Message)
		}
	case EventPing:
		a.WriteString("ping")
	case EventNative:
		a.WriteString("native")
		a.str("name", e.Name)
		a.str("data", string(e.Data))
	}
	return a.String()
}

// parseEventText reads the text form; empty lines and lines that begin with #
// are skipped.
func parseEventText(t testing.TB, text string) []*Event {
	t.Helper()
	var events []*Event
	for n, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		e, err := parseEventLine(line)
		if err != nil {
			t.Fatalf("line %d: %v: %s", n+1, err, line)
		}
		events = append(events, e)
	}
	return events
}

// canonicalEvents brings hand-written events into the order of attributes that
// eventText writes.
func canonicalEvents(t testing.TB, text string) string {
	t.Helper()
	var b strings.Builder
	for _, e := range parseEventText(t, text) {
		b.WriteString(eventText(e) + "\n")
	}
	return b.String()
}

type textScanner struct{ s string }

// word takes a word up to a space or an equals sign.
func (s *textScanner) word() string {
	s.s = strings.TrimLeft(s.s, " ")
	i := strings.IndexAny(s.s, " =")
	if i < 0 {
		i = len(s.s)
	}
	w := s.s[:i]
	s.s = s.s[i:]
	return w
}

// value takes a quoted string, a JSON array or object, or a bare word.
func (s *textScanner) value() (string, error) {
	switch {
	case s.s == "":
		return "", nil
	case s.s[0] == '"':
		q, err := strconv.QuotedPrefix(s.s)
		if err != nil {
			return "", err
		}
		s.s = s.s[len(q):]
		return strconv.Unquote(q)
	case s.s[0] == '[' || s.s[0] == '{':
		depth, quoted := 0, false
		for i := 0; i < len(s.s); i++ {
			switch c := s.s[i]; {
			case quoted && c == '\\':
				i++
			case c == '"':
				quoted = !quoted
			case quoted:
			case c == '[' || c == '{':
				depth++
			case c == ']' || c == '}':
				if depth--; depth == 0 {
					v := s.s[:i+1]
					s.s = s.s[i+1:]
					return v, nil
				}
			}
		}
		return "", fmt.Errorf("JSON value does not end")
	}
	return s.word(), nil
}

func parseEventLine(line string) (*Event, error) {
	s := &textScanner{line}
	e := &Event{}
	kind := s.word()
	var err error
	index := func() {
		if err == nil {
			e.Index, err = strconv.Atoi(s.word())
		}
	}
	var first string
	switch kind {
	case "start":
		e.Kind = EventStart
	case "block":
		e.Kind, e.Block = EventBlockStart, &Block{}
		index()
		name := s.word()
		found := false
		for i, n := range blockNames {
			if n == name {
				e.Block.Type, found = BlockType(i), true
			}
		}
		if !found {
			return nil, fmt.Errorf("no block type %q", name)
		}
	case "delta":
		e.Kind = EventBlockDelta
		index()
		s.s = strings.TrimLeft(s.s, " ")
		first, err = s.value()
		e.Data = []byte(first)
	case "annotation":
		e.Kind = EventAnnotation
		index()
		e.Data = []byte(strings.TrimSpace(s.s))
		s.s = ""
	case "end":
		e.Kind = EventBlockEnd
		index()
	case "usage":
		e.Kind, e.Usage = EventUsage, NoUsage()
	case "finish":
		e.Kind = EventFinish
		first = s.word()
		for r := FinishStop; r <= FinishOther; r++ {
			if r.String() == first {
				e.Reason, first = r, ""
			}
		}
		if first != "" {
			err = fmt.Errorf("no finish reason %q", first)
		}
	case "fail":
		e.Kind, e.Err = EventFail, &Error{Kind: KindBackend}
	case "ping":
		e.Kind = EventPing
	case "native":
		e.Kind = EventNative
	default:
		return nil, fmt.Errorf("no event %q", kind)
	}
	for err == nil && strings.TrimSpace(s.s) != "" {
		key := s.word()
		v := ""
		if strings.HasPrefix(s.s, "=") {
			s.s = s.s[1:]
			if v, err = s.value(); err != nil {
				break
			}
		}
		err = e.setText(key, v)
	}
	return e, err
}

func (e *Event) setText(key, v string) error {
	num := func() int64 { n, _ := strconv.ParseInt(v, 10, 64); return n }
	switch e.Kind {
	case EventStart:
		switch key {
		case "id":
			e.ID = v
		case "model":
			e.Model = v
		case "created":
			e.Created = num()
		case "handle":
			e.Handle = v
		default:
			return fmt.Errorf("start has no %q", key)
		}
		return nil
	case EventBlockStart:
		b := e.Block
		to := map[string]*string{
			"author": &e.Author, "id": &b.ID, "name": &b.Name, "call": &b.CallID, "language": &b.Language, "style": &b.Style,
			"title": &b.Title, "headers": &b.Headers, "url": &b.URL, "alt": &b.Alt, "caption": &b.Caption, "mime": &b.MIME,
			"file_id": &b.FileID, "detail": &b.Detail, "data": &b.Data,
		}[key]
		flag := map[string]*bool{"custom": &b.Custom, "ran": &b.Ran, "summary": &b.Summary, "error": &b.IsError}[key]
		switch {
		case to != nil:
			*to = v
		case flag != nil:
			*flag = true
		case key == "msg":
			e.Msg = int(num())
		case key == "part":
			e.Part = int(num())
		case key == "phase":
			for p := PhaseNone; p <= PhaseFinal; p++ {
				if p.String() == v {
					e.Phase = p
				}
			}
		default:
			return fmt.Errorf("block has no %q", key)
		}
		return nil
	case EventBlockDelta:
		switch key {
		case "replace":
			e.Replace = true
		case "logprobs":
			e.Logprobs = []byte(v)
		default:
			return fmt.Errorf("delta has no %q", key)
		}
		return nil
	case EventBlockEnd:
		switch key {
		case "incomplete":
			e.Status = StatusIncomplete
		case "failed":
			e.Status = StatusFailed
		case "opaque":
			e.Opaque = v
		default:
			return fmt.Errorf("end has no %q", key)
		}
		return nil
	case EventUsage:
		to := map[string]*int64{"input": &e.Usage.Input, "output": &e.Usage.Output, "total": &e.Usage.Total,
			"cached": &e.Usage.Cached, "written": &e.Usage.Written, "audio_in": &e.Usage.AudioIn, "reasoning": &e.Usage.Reasoning,
			"audio_out": &e.Usage.AudioOut, "accepted": &e.Usage.Accepted, "rejected": &e.Usage.Rejected}[key]
		if to == nil {
			return fmt.Errorf("usage has no %q", key)
		}
		*to = num()
		return nil
	case EventFinish:
		switch key {
		case "word":
			e.Word = v
			return nil
		case "tier":
			e.Tier = v
			return nil
		}
	case EventFail:
		switch key {
		case "status":
			e.Err.Status = int(num())
			return nil
		case "code":
			e.Err.Code = v
			return nil
		case "message":
			e.Err.Message = v
			return nil
		}
	case EventNative:
		switch key {
		case "name":
			e.Name = v
			return nil
		case "data":
			e.Data = []byte(v)
			return nil
		}
	}
	return fmt.Errorf("%s has no %q", e.Kind, key)
}

func TestEventTextRoundTrip(t *testing.T) {
	t.Parallel()
	const text = `start id="a" model="m" created=12 handle="h"
block 0 text msg=0 part=0 author="Bob" phase=commentary id="x"
delta 0 "a\n\"b\" ü" replace logprobs=[{"token":"] a"}]
annotation 0 {"type":"url_citation","url":"u v"}
end 0 incomplete opaque="zz"
block 1 tool_call msg=0 part=1 name="f" call="c1" custom ran
end 1 failed
block 2 table msg=1 part=0 headers=["a b","c]"]
end 2
block 3 callout msg=1 part=0 style="error" title="T t"
end 3
block 4 image msg=1 part=0 url="u" alt="a" caption="c" mime="image/png" file_id="f" detail="low" data="AA=="
end 4
block 5 reasoning msg=1 part=0 summary
end 5
block 6 code msg=1 part=0 language="go"
end 6
usage input=1 output=2 total=3 cached=0 reasoning=0
ping
native name="n" data="d"
finish length word="max" tier="flex"
fail status=502 code="c" message="m m"
`
	if got := canonicalEvents(t, text); got != text {
		t.Errorf("got\n%s\nwant\n%s", got, text)
	}
}
