package proxy

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/tidwall/gjson"
)

// console is a model of Cognipeer's server: it keeps conversations itself, whose id is that of each of their answers.
type console struct {
	*stagedAgent
	mu    sync.Mutex
	convs map[string][]string // what each has heard
	fail  func(v *visit, n int) bool
	n     int
}

func newConsole(t *testing.T) *console {
	t.Helper()
	c := &console{convs: map[string][]string{}}
	c.stagedAgent = stage(t, func(v *visit) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.n++
		if c.fail != nil && c.fail(v, c.n) {
			return
		}
		id := gjson.GetBytes(v.body, "previous_response_id").String()
		conv, ok := strings.CutPrefix(id, "resp_")
		switch {
		case !ok:
			conv = fmt.Sprintf("conv%d", c.n)
		case c.convs[conv] == nil:
			v.json(404, `{"error":"previous_response_id does not match a valid conversation"}`)
			return
		}
		c.convs[conv] = append(c.convs[conv], gjson.GetBytes(v.body, "input").String())
		v.json(200, fmt.Sprintf(`{"id":"resp_%s","object":"response","model":"A","output":[{"id":"msg_1","type":"message","role":"assistant","content":[{"type":"output_text","text":"answer %d"}]}],"status":"completed","usage":{"input_tokens":0,"output_tokens":0,"total_tokens":0},"created_at":1,"previous_response_id":null,"version":1}`, conv, c.n))
	})
	return c
}

// heard is what a conversation of the backend has heard, in a line.
func (c *console) heard(conv string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return strings.Join(c.convs[conv], " | ")
}

func (c *console) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.convs)
}

func previous(id string) string { return `,"previous_response_id":"` + id + `"` }

// TestTheLatestTurnGoesOnAtTheBackend with nothing but what is new; an older one is told anew, in a conversation
// of its own.
func TestTheLatestTurnGoesOnAtTheBackend(t *testing.T) {
	t.Parallel()
	b := newConsole(t)
	r := start(t, keepingYAML("cognipeer", b.addr))
	one := r.respond(`"input":"one"`).Get("id").String()
	two := r.respond(`"input":"two","stream":true` + previous(one)).Get("id").String()
	three := r.respond(`"input":"three"` + previous(two)).Get("id").String()
	if got := b.heard("conv1"); got != "one | two | three" {
		t.Errorf("got %s", got)
	}
	if one == two || two == three || strings.Contains(one+two+three, "conv1") {
		t.Errorf("ids are %s %s %s", one, two, three)
	}
	// From an older one: in another conversation.
	branch := r.respond(`"input":"branch"` + previous(one)).Get("id").String()
	if got := b.heard("conv4"); !order(got, "one", "answer 1", "branch") || strings.Contains(got, "two") {
		t.Errorf("got %s", got)
	}
	r.respond(`"input":"twig"` + previous(branch))
	if got := b.heard("conv4"); !strings.HasSuffix(got, "| twig") {
		t.Errorf("got %s", got)
	}
	// The latest of the first is still what that conversation ends with.
	r.respond(`"input":"four"` + previous(three))
	if got := b.heard("conv1"); got != "one | two | three | four" {
		t.Errorf("got %s", got)
	}
	// Not kept: the backend's conversation does not hear of it.
	r.respond(`"input":"aside","store":false` + previous(branch))
	if got := b.heard("conv4"); strings.Contains(got, "aside") {
		t.Errorf("got %s", got)
	}
}

// TestBranchesCanBeRefused by an agent that must not be told anything twice.
func TestBranchesCanBeRefused(t *testing.T) {
	t.Parallel()
	b := newConsole(t)
	r := start(t, keepingYAML("cognipeer", b.addr, "options: {branch: refuse}"))
	one := r.respond(`"input":"one"`).Get("id").String()
	r.respond(`"input":"two"` + previous(one))
	r.refuses(`"input":"branch"`+previous(one), 400, "previous_response_not_latest")
	if n := len(b.seen); n != 2 {
		t.Errorf("the backend was asked %d times", n)
	}
}

// TestWhatMayHaveRunIsNotGoneOnFrom: behind a failure the backend may know more than we do.
func TestWhatMayHaveRunIsNotGoneOnFrom(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]struct {
		fail func(v *visit)
		goes bool
	}{
		"500":  {func(v *visit) { v.json(500, `{"error":"Internal server error"}`) }, false},
		"dies": {func(v *visit) { v.hangs = true }, false},
		"429":  {func(v *visit) { v.json(429, `{"error":"Too many requests"}`) }, true},
		"503":  {func(v *visit) { v.json(503, `{"error":"Service is shutting down"}`) }, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newConsole(t)
			b.fail = func(v *visit, n int) bool {
				if n == 2 {
					f.fail(v)
				}
				return n == 2
			}
			r := start(t, keepingYAML("cognipeer", b.addr, "retry: {attempts: 0}"))
			one := r.respond(`"input":"one"`).Get("id").String()
			if got := r.post("/v1/responses", `{"model":"it","input":"two"`+previous(one)+`}`, ""); got.status < 400 {
				t.Fatalf("%d %s", got.status, got.body)
			}
			r.respond(`"input":"three"` + previous(one))
			if f.goes {
				if got := b.heard("conv1"); got != "one | three" {
					t.Errorf("got %s", got)
				}
			} else if got := b.heard("conv3"); b.heard("conv1") != "one" || !order(got, "one", "answer 1", "three") {
				t.Errorf("got %s, first %s", got, b.heard("conv1"))
			}
		})
	}
}

// TestALostConversationIsToldAnew, once: the backend has not run.
func TestALostConversationIsToldAnew(t *testing.T) {
	t.Parallel()
	b := newConsole(t)
	r := start(t, keepingYAML("cognipeer", b.addr))
	one := r.respond(`"input":"one"`).Get("id").String()
	b.forget()
	two := r.respond(`"input":"two"` + previous(one)).Get("id").String()
	if got := b.heard("conv3"); !order(got, "one", "answer 1", "two") {
		t.Errorf("got %s", got)
	}
	r.respond(`"input":"three"` + previous(two))
	if got := b.heard("conv3"); !strings.HasSuffix(got, "| three") {
		t.Errorf("got %s", got)
	}
}

// TestAnotherAgentIsToldAll, and the one that comes back too.
func TestAnotherAgentIsToldAll(t *testing.T) {
	t.Parallel()
	b, other := newConsole(t), telling(t, "chat")
	r := start(t, "state: {store: memory}\nagents:\n"+
		"  - {name: it, protocol: cognipeer, url: \"http://"+b.addr+"\", model: m}\n  - {name: other, protocol: chat, url: \"http://"+other.addr+"\", model: m}\n")
	one := r.respond(`"input":"one"`).Get("id").String()
	got := r.post("/v1/responses", `{"model":"other","input":"two"`+previous(one)+`}`, "")
	if asked := other.asked(); !order(asked, "one", "answer 1", "two") {
		t.Errorf("asked %s", asked)
	}
	r.respond(`"input":"three"` + previous(got.response().Get("id").String()))
	if got := b.heard("conv2"); b.heard("conv1") != "one" || !order(got, "one", "two", "three") {
		t.Errorf("got %s, first %s", got, b.heard("conv1"))
	}
}

// TestCognipeerOverCognipeer: their conversation is the backend's, under an id of ours.
func TestCognipeerOverCognipeer(t *testing.T) {
	t.Parallel()
	b := newConsole(t)
	r := start(t, keepingYAML("cognipeer", b.addr))
	got := r.cognipeer(`"input":"one","runtime_context":{"metadata":{"a":1}}`).response()
	id := got.Get("id").String()
	if strings.Contains(id, "conv1") || got.Get("output.0.id").String() != "msg_1" || got.Get("previous_response_id").Type != gjson.Null {
		t.Errorf("got %s", got)
	}
	if asked := b.asked(); gjson.Get(asked, "runtime_context.metadata.a").Int() != 1 {
		t.Errorf("asked %s", asked)
	}
	got = r.cognipeer(`"input":"two"` + previous(id)).response()
	if got.Get("id").String() != id || got.Get("previous_response_id").String() != id || b.heard("conv1") != "one | two" {
		t.Errorf("got %s, heard %s", got, b.heard("conv1"))
	}
}

// TestCyclsAgentsThatKeepTheirChats hear the newest message alone, under an id of ours.
func TestCyclsAgentsThatKeepTheirChats(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	heard := map[string][]string{}
	n, fail := 0, false
	b := stage(t, func(v *visit) {
		mu.Lock()
		defer mu.Unlock()
		id := v.req.URL.Query().Get("id")
		heard[id] = append(heard[id], string(v.body))
		n++
		if fail {
			v.json(500, `{"detail":"no"}`)
			return
		}
		v.tell("cycls", fmt.Sprintf("answer %d", n))
	})
	r := start(t, keepingYAML("cycls", b.addr, "path: /chat", "options: {history: id}"))
	one := r.respond(`"input":"one"`).Get("id").String()
	two := r.respond(`"input":"two"` + previous(one)).Get("id").String()
	mu.Lock()
	for id, all := range heard {
		if len(heard) != 1 || len(id) != 36 || len(all) != 2 || !strings.Contains(all[0], "one") || strings.Contains(all[1], "one") || !strings.Contains(all[1], "two") {
			t.Errorf("%q heard %s", id, all)
		}
	}
	fail = true
	mu.Unlock()
	r.refuses(`"input":"branch"`+previous(one), 400, "previous_response_not_latest")
	if got := r.post("/v1/responses", `{"model":"it","input":"lost"`+previous(two)+`}`, ""); got.status < 500 {
		t.Errorf("%d %s", got.status, got.body)
	}
	mu.Lock()
	fail = false
	clear(heard)
	mu.Unlock()
	// The agent may have heard "lost", which we do not know to have been said: it begins anew.
	r.respond(`"input":"three"` + previous(two))
	mu.Lock()
	defer mu.Unlock()
	for id, all := range heard {
		if len(heard) != 1 || len(all) != 1 || !order(all[0], "one", "answer 1", "two", "answer 2", "three") || strings.Contains(all[0], "lost") {
			t.Errorf("%q heard %s", id, all)
		}
	}
}
