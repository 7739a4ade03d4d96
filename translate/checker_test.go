package translate

import (
	"strings"
	"testing"
)

func TestChecker(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, events, want string }{
		{"whole", "ping\nstart\nping\nblock 0 text\ndelta 0 \"a\"\nannotation 0 {}\nend 0\nusage input=1\nnative name=\"n\"\nfinish stop", ""},
		{"overlap", "start\nblock 0 text\nblock 1 text\nend 0\nend 1\nfinish stop", ""},
		{"only a failure", "fail status=502", ""},
		{"failure with blocks open", "start\nblock 0 text\nfail status=502", ""},
		{"ping, then failure", "ping\nfail status=502", ""},
		{"empty replacement", "start\nblock 0 text\ndelta 0 \"\" replace\nend 0\nfinish stop", ""},

		{"no start", "block 0 text", "block_start before start"},
		{"usage before start", "usage input=1", "usage before start"},
		{"native before start", "native name=\"n\"", "native before start"},
		{"finish before start", "finish stop", "finish before start"},
		{"two starts", "start\nstart", "second start"},
		{"index twice", "start\nblock 0 text\nend 0\nblock 0 text", "used twice"},
		{"negative ordinal", "start\nblock 0 text msg=-1", "negative ordinal"},
		{"nameless call", "start\nblock 0 tool_call call=\"c\"", "lacks its name"},
		{"call without id", "start\nblock 0 tool_call name=\"f\"", "lacks its name or call id"},
		{"delta of nothing", "start\ndelta 0 \"a\"", "not open"},
		{"empty delta", "start\nblock 0 text\ndelta 0 \"\"", "empty delta"},
		{"delta after end", "start\nblock 0 text\nend 0\ndelta 0 \"a\"", "not open"},
		{"annotation on code", "start\nblock 0 code\nannotation 0 {}", "annotation on a code block"},
		{"end twice", "start\nblock 0 text\nend 0\nend 0", "not open"},
		{"finish with a block open", "start\nblock 0 text\nfinish stop", "1 blocks open"},
		{"finish twice", "start\nfinish stop\nfinish stop", "finish after the end"},
		{"ping after the end", "start\nfinish stop\nping", "ping after the end"},
		{"event after failure", "fail status=502\nstart", "start after the end"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			log := &eventLog{}
			check := &Checker{Next: log}
			events := parseEventText(t, c.events)
			for _, e := range events {
				check.Event(e)
			}
			got := ""
			if err := check.Err(); err != nil {
				got = err.Error()
			}
			if c.want == "" && got != "" || !strings.Contains(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
			if n := strings.Count(log.String(), "\n"); n != len(events) {
				t.Errorf("%d events were handed on, want %d", n, len(events))
			}
		})
	}
	for _, c := range []struct {
		name string
		e    *Event
		want string
	}{
		{"failure without an error", &Event{Kind: EventFail}, "fail without an error"},
		{"block without a description", &Event{Kind: EventBlockStart}, "without a description"},
		{"block with text", &Event{Kind: EventBlockStart, Block: &Block{Text: "a"}}, "starts with text"},
	} {
		check := &Checker{}
		check.Event(&Event{Kind: EventStart})
		check.Event(c.e)
		got := ""
		if err := check.Err(); err != nil {
			got = err.Error()
		}
		if !strings.Contains(got, c.want) {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
	check := &Checker{}
	if check.Event(&Event{Kind: EventFail, Err: &Error{}}); !check.Ended() {
		t.Error("a failure is an end")
	}
}
