package translate

import (
	"fmt"
	"strings"
	"testing"
)

func TestLedger(t *testing.T) {
	t.Parallel()
	var l Ledger
	if l.Len() != 0 || l.Header() != "" {
		t.Errorf("empty ledger: %d %q", l.Len(), l.Header())
	}
	l.Drop(At("seed"))
	l.Drop(AtIndex("messages", 2).Sub("content", 1))
	l.Drop(At("seed"))
	l.Unknown(1)
	l.Unknown(2)
	if got, want := l.Header(), "seed, messages[2].content[1], unknown(3)"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if l.Len() != 3 {
		t.Errorf("got %d entries, want 3", l.Len())
	}
}

func TestLedgerHeaderIsBounded(t *testing.T) {
	t.Parallel()
	var l Ledger
	for i := range 500 {
		l.Note(fmt.Sprintf("messages[%d].name", i))
	}
	h := l.Header()
	if len(h) > 1024 {
		t.Errorf("%d bytes, want 1 KiB at most", len(h))
	}
	shown := strings.Count(h, "messages[")
	if want := fmt.Sprintf(", more(%d)", 500-shown); !strings.HasSuffix(h, want) {
		t.Errorf("got …%q, want it to end with %q", h[len(h)-20:], want)
	}
	// An entry may be long: it is a path with a client's own number of levels.
	var one Ledger
	one.Note(strings.Repeat("a", 2000))
	if len(one.Header()) > 1024 {
		t.Errorf("one long entry: %d bytes", len(one.Header()))
	}
}

func TestPath(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		p    Path
		want string
	}{
		{At("seed"), "seed"},
		{AtIndex("messages", 2), "messages[2]"},
		{AtIndex("messages", 2).Sub("content", 0), "messages[2].content[0]"},
		{AtIndex("messages", 2).Sub("content", 0).In("image_url"), "messages[2].content[0].image_url"},
		{AtIndex("messages", 2).Sub("content", 0).In("image_url").In("url"), "messages[2].content[0].image_url.url"},
		{At("agent_config").In("model_name"), "agent_config.model_name"},
		{At("agent_config").Sub("handoffs", 3), "agent_config.handoffs[3]"},
		{AtIndex("input", 0).Sub("type", -1), "input[0].type"},
	} {
		if got := c.p.String(); got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
}
