package proxy

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tidwall/gjson"

	"github.com/dragoman-proxy/dragoman/internal/state"
)

// console is a model of Cognipeer's server: it keeps conversations itself, whose id is that of each of their answers. Of
// what it is told it reads the last words of the user's, and nothing else.
type console struct {
	*stagedAgent
	mu       sync.Mutex
	convs    map[string]*consoleConv
	n        int                                   // of requests
	overlaps int                                   // turns of one conversation at the same time, which it cannot bear
	instead  func(v *visit, n int) bool            // answers in place of it, before anything has run
	running  func(said string)                     // is called while an agent runs
	after    func(v *visit, n int, id string) bool // answers in place of it when the agent has run
}

type consoleConv struct {
	agent string
	said  []string
	busy  bool
}

func newConsole(t *testing.T) *console {
	t.Helper()
	c := &console{convs: map[string]*consoleConv{}}
	c.stagedAgent = stage(t, c.serve)
	return c
}

func (c *console) serve(v *visit) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n++
	n := c.n
	if c.instead != nil && c.instead(v, n) {
		return
	}
	agent, said := gjson.GetBytes(v.body, "model"), consoleReads(gjson.GetBytes(v.body, "input"))
	id, goesOn := strings.CutPrefix(gjson.GetBytes(v.body, "previous_response_id").String(), "resp_")
	conv := c.convs[id]
	switch {
	case agent.Type != gjson.String:
		v.json(400, `{"error":"model field is required and must contain the agent key"}`)
		return
	case agent.String() == "gone":
		v.json(404, `{"error":"Agent not found"}`)
		return
	case said == "":
		v.json(400, `{"error":"input field is required (string or array of message items)"}`)
		return
	case goesOn && (conv == nil || conv.agent != agent.String()):
		v.json(404, `{"error":"previous_response_id does not match a valid conversation"}`)
		return
	case !goesOn:
		id = fmt.Sprintf("conv%d", n)
		conv = &consoleConv{agent: agent.String()}
		c.convs[id] = conv
	}
	if conv.busy {
		c.overlaps++
	}
	conv.busy = true
	if c.running != nil {
		c.mu.Unlock()
		c.running(said)
		c.mu.Lock()
	}
	conv.busy = false
	conv.said = append(conv.said, said)
	if c.after != nil && c.after(v, n, id) {
		return
	}
	v.json(200, consoleAnswer(n, id, goesOn))
}

func consoleAnswer(n int, id string, goesOn bool) string {
	previous := "null"
	if goesOn {
		previous = `"resp_` + id + `"`
	}
	return fmt.Sprintf(`{ "id":"resp_%s","object":"response","model":"The Agent","output":[{"id":"msg_1","type":"message","role":"assistant","content":[{"type":"output_text","text":"answer %d"}]}],"status":"completed","usage":{"input_tokens":0,"output_tokens":0,"total_tokens":0},"created_at":1,"previous_response_id":%s,"version":1}`, id, n, previous)
}

// consoleReads is the one text that the server reads of an input.
func consoleReads(input gjson.Result) string {
	if input.Type == gjson.String {
		return input.String()
	}
	content := input.Get(`#(role=="user")#|@reverse|0.content`)
	if content.Type == gjson.String {
		return content.String()
	}
	return content.Get(`#(type=="input_text").text`).String()
}

// heard is what a conversation of the backend has heard, in a line.
func (c *console) heard(conv string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.convs[conv] == nil {
		return ""
	}
	return strings.Join(c.convs[conv].said, " | ")
}

func (c *console) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.convs)
}

// does sets what the server does instead of serving, or afterwards.
func (c *console) does(instead func(v *visit, n int) bool, after func(v *visit, n int, id string) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.instead, c.after = instead, after
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
	if b.n != 2 {
		t.Errorf("the backend was asked %d times", b.n)
	}
	// What has only failed is no branch.
	two := r.respond(`"input":"other"`).Get("id").String()
	b.does(nil, func(v *visit, n int, _ string) bool {
		if n == 4 {
			v.json(500, `{"error":"Internal server error"}`)
		}
		return n == 4
	})
	if got := r.post("/v1/responses", `{"model":"it","input":"lost"`+previous(two)+`}`, ""); got.status != 502 {
		t.Errorf("%d %s", got.status, got.body)
	}
	r.respond(`"input":"again"` + previous(two))
	if got := b.heard("conv5"); !order(got, "other", "answer 3", "again") {
		t.Errorf("got %s", got)
	}
}

// TestWhatMayHaveRunIsNotGoneOnFrom: behind a failure the backend may know more than we do.
func TestWhatMayHaveRunIsNotGoneOnFrom(t *testing.T) {
	t.Parallel()
	status := func(code int) func(v *visit) {
		return func(v *visit) { v.json(code, `{"error":"no"}`) }
	}
	for name, f := range map[string]struct {
		fail func(v *visit)
		ran  bool // the model has run before it fails
		goes bool
	}{
		"500 without having run": {status(500), false, false},
		"500":                    {status(500), true, false},
		"502":                    {status(502), true, false},
		"504":                    {status(504), true, false},
		"dies":                   {func(v *visit) { v.hangs = true }, true, false},
		"cut": {func(v *visit) {
			fmt.Fprint(v.conn, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 999\r\n\r\n{\"id\":\"resp_conv1\"")
			v.hangs = true
		}, true, false},
		"unreadable": {func(v *visit) { v.json(200, "<html>") }, true, false},
		"says so": {func(v *visit) {
			v.json(200, `{"id":"resp_conv1","object":"response","status":"failed","error":{"code":"server_error","message":"no"},"output":[]}`)
		}, true, false},
		"429": {status(429), false, true},
		"503": {status(503), false, true},
	} {
		for _, face := range []string{"responses", "streaming", "background", "cognipeer"} {
			t.Run(name+" "+face, func(t *testing.T) {
				t.Parallel()
				b := newConsole(t)
				if f.ran {
					b.after = func(v *visit, n int, _ string) bool {
						if n == 2 {
							f.fail(v)
						}
						return n == 2
					}
				} else {
					b.instead = func(v *visit, n int) bool {
						if n == 2 {
							f.fail(v)
						}
						return n == 2
					}
				}
				r := start(t, keepingYAML("cognipeer", b.addr, "retry: {attempts: 0}"))
				var one string
				switch face {
				case "cognipeer":
					one = r.cognipeer(`"input":"one"`).response().Get("id").String()
					if got := r.cognipeer(`"input":"two"` + previous(one)); got.status < 400 {
						t.Fatalf("%d %s", got.status, got.body)
					}
					if got := r.cognipeer(`"input":"three"` + previous(one)); got.status != 200 || got.response().Get("id").String() != one {
						t.Fatalf("%d %s", got.status, got.body)
					}
				case "background":
					one = r.respond(`"input":"one"`).Get("id").String()
					r.poll(r.later(`"input":"two"`+previous(one)).Get("id").String(), "failed")
				default:
					one = r.respond(`"input":"one"`).Get("id").String()
					if got := r.post("/v1/responses", fmt.Sprintf(`{"model":"it","input":"two","stream":%v%s}`, face == "streaming", previous(one)), ""); got.status < 400 && !strings.Contains(got.body, "response.failed") {
						t.Fatalf("%d %s", got.status, got.body)
					}
				}
				if face != "cognipeer" {
					r.respond(`"input":"three"` + previous(one))
				}
				if f.goes {
					if got := b.heard("conv1"); got != "one | three" {
						t.Errorf("got %s", got)
					}
				} else if got := b.heard("conv3"); strings.Contains(b.heard("conv1"), "three") || !order(got, "one", "answer 1", "three") || strings.Contains(got, "two") {
					t.Errorf("got %s, first %s", got, b.heard("conv1"))
				}
			})
		}
	}
}

// TestARefusedConnectionTakesNothing: another proxy over the same store cannot reach the backend; a third goes on as if nothing
// had been asked.
func TestARefusedConnectionTakesNothing(t *testing.T) {
	t.Parallel()
	b := newConsole(t)
	r := start(t, keepingYAML("cognipeer", b.addr))
	cut := start(t, keepingYAML("cognipeer", deadAddr(t), "retry: {attempts: 1}"), func(s *Server) { s.state = unclosed{r.state} })
	one := r.respond(`"input":"one"`).Get("id").String()
	if got := cut.post("/v1/responses", `{"model":"it","input":"two"`+previous(one)+`}`, ""); got.status != 502 {
		t.Errorf("%d %s", got.status, got.body)
	}
	r.respond(`"input":"three"` + previous(one))
	if got := b.heard("conv1"); got != "one | three" {
		t.Errorf("got %s", got)
	}
}

// TestALeavingClientTakesItsTurnAlong: the agent may have run, and what it was told is nobody's.
func TestALeavingClientTakesItsTurnAlong(t *testing.T) {
	t.Parallel()
	b := newConsole(t)
	r := start(t, keepingYAML("cognipeer", b.addr))
	one := r.respond(`"input":"one"`).Get("id").String()
	b.asked()
	gone := make(chan struct{})
	b.does(nil, func(v *visit, n int, _ string) bool {
		if n == 2 {
			v.gone()
			close(gone)
		}
		return n == 2
	})
	c := r.dial()
	c.send("POST", "/v1/responses", `{"model":"it","input":"two"`+previous(one)+`}`, "")
	b.asked()
	_ = c.Close()
	<-gone
	r.respond(`"input":"three"` + previous(one))
	if got := b.heard("conv3"); b.heard("conv1") != "one | two" || !order(got, "one", "answer 1", "three") {
		t.Errorf("got %s, first %s", got, b.heard("conv1"))
	}
}

// patchy is a store whose changes can fail, and that says when a lease was refused.
type patchy struct {
	state.Store
	fails   func(c state.Change) bool
	refused chan struct{}
}

func (p patchy) Save(ctx context.Context, owner string, c state.Change) error {
	if p.fails != nil && p.fails(c) {
		return errors.New("the disk is full")
	}
	return p.Store.Save(ctx, owner, c)
}

func (p patchy) Lease(ctx context.Context, owner, name, holder string, ttl time.Duration) (bool, error) {
	ok, err := p.Store.Lease(ctx, owner, name, holder, ttl)
	if err == nil && !ok && p.refused != nil {
		select {
		case p.refused <- struct{}{}:
		default:
		}
	}
	return ok, err
}

// comes waits for what only a bug keeps from coming.
func comes(t *testing.T, what <-chan struct{}) {
	t.Helper()
	select {
	case <-what:
	case <-time.After(longest):
		t.Error("nobody waits for a lease")
	}
}

// TestNothingIsAskedThatIsNotNotedBefore: a store that cannot take the mark away keeps the backend from being asked.
func TestNothingIsAskedThatIsNotNotedBefore(t *testing.T) {
	t.Parallel()
	b := newConsole(t)
	var broken atomic.Bool
	r := start(t, keepingYAML("cognipeer", b.addr), func(s *Server) {
		s.state = patchy{Store: s.state, fails: func(c state.Change) bool { return broken.Load() && len(c.Put) == 0 }}
	})
	one := r.respond(`"input":"one"`).Get("id").String()
	broken.Store(true)
	r.refuses(`"input":"two"`+previous(one), 503, "state_unavailable")
	broken.Store(false)
	r.respond(`"input":"three"` + previous(one))
	if got := b.heard("conv1"); got != "one | three" {
		t.Errorf("got %s", got)
	}
}

// TestWhatWasNotKeptIsNotGoneOnFrom: the backend has an answer that we have not.
func TestWhatWasNotKeptIsNotGoneOnFrom(t *testing.T) {
	t.Parallel()
	b := newConsole(t)
	var broken atomic.Bool
	r := start(t, keepingYAML("cognipeer", b.addr), func(s *Server) {
		s.state = patchy{Store: s.state, fails: func(c state.Change) bool { return broken.Load() && len(c.Put) > 0 }}
	})
	one := r.cognipeer(`"input":"one"`).response().Get("id").String()
	broken.Store(true)
	if got := r.cognipeer(`"input":"two"` + previous(one)).response(); got.Get("store").Raw != "false" {
		t.Errorf("got %s", got)
	}
	broken.Store(false)
	r.cognipeer(`"input":"three"` + previous(one))
	if got := b.heard("conv3"); b.heard("conv1") != "one | two" || !order(got, "one", "answer 1", "three") || strings.Contains(got, "two") {
		t.Errorf("got %s, first %s", got, b.heard("conv1"))
	}
}

// TestTurnsOfABackendsConversationGoOneByOne, in all proxies that share a store. Of those that go on from the same
// answer one is the first; by then the others are branches.
func TestTurnsOfABackendsConversationGoOneByOne(t *testing.T) {
	t.Parallel()
	for _, branch := range []string{"replay", "refuse"} {
		t.Run(branch, func(t *testing.T) {
			t.Parallel()
			b := newConsole(t)
			yaml := "limits: {queue: {wait: 40s}}\n" + keepingYAML("cognipeer", b.addr, "options: {branch: "+branch+"}")
			waits := make(chan struct{}, 1)
			one := start(t, yaml, func(s *Server) { s.state = patchy{Store: s.state, refused: waits} })
			two := start(t, yaml, func(s *Server) { s.state = unclosed{one.state} })
			first := one.respond(`"input":"one"`).Get("id").String()
			gate := make(chan struct{})
			open := sync.OnceFunc(func() { close(gate) })
			defer open()
			b.running = func(string) { <-gate }
			const all = 6
			done := make(chan reply, all)
			for i := range all {
				go func() {
					done <- []*running{one, two}[i%2].post("/v1/responses", fmt.Sprintf(`{"model":"it","input":"two %d"%s}`, i, previous(first)), "")
				}()
			}
			comes(t, waits)
			open()
			good, refused := 0, 0
			for range all {
				switch got := <-done; {
				case got.status == 200:
					good++
				case got.status == 400 && strings.Contains(got.body, "previous_response_not_latest"):
					refused++
				default:
					t.Errorf("%d %s", got.status, got.body)
				}
			}
			if want := map[string]int{"replay": all, "refuse": 1}[branch]; good != want || good+refused != all {
				t.Errorf("%d good, %d refused", good, refused)
			}
			if got := b.heard("conv1"); strings.Count(got, "|") != 1 || b.overlaps != 0 {
				t.Errorf("got %s, %d at the same time", got, b.overlaps)
			}
		})
	}
}

// TestTurnsOfOneConversationGoOneByOne: those of a Cognipeer client, none of which is lost.
func TestTurnsOfOneConversationGoOneByOne(t *testing.T) {
	t.Parallel()
	b := newConsole(t)
	yaml := "limits: {queue: {wait: 40s}}\n" + keepingYAML("cognipeer", b.addr)
	waits := make(chan struct{}, 1)
	one := start(t, yaml, func(s *Server) { s.state = patchy{Store: s.state, refused: waits} })
	two := start(t, yaml, func(s *Server) { s.state = unclosed{one.state} })
	id := one.cognipeer(`"input":"one"`).response().Get("id").String()
	gate := make(chan struct{})
	open := sync.OnceFunc(func() { close(gate) })
	defer open()
	b.running = func(string) { <-gate }
	const all = 6
	done := make(chan reply, all)
	for i := range all {
		go func() {
			done <- []*running{one, two}[i%2].cognipeer(fmt.Sprintf(`"input":"turn %d","stream":%v%s`, i, i > 2, previous(id)))
		}()
	}
	comes(t, waits)
	open()
	for range all {
		if got := <-done; got.status != 200 || got.response().Get("id").String() != id {
			t.Errorf("%d %s", got.status, got.body)
		}
	}
	if got := b.heard("conv1"); strings.Count(got, "turn") != all || b.overlaps != 0 || b.n != all+1 {
		t.Errorf("got %s in %d requests, %d at the same time", got, b.n, b.overlaps)
	}
}

// TestABusyConversationIsNotWaitedForLong: as long as a request waits in line.
func TestABusyConversationIsNotWaitedForLong(t *testing.T) {
	t.Parallel()
	b := newConsole(t)
	r := start(t, "limits: {queue: {wait: 5ms}}\n"+keepingYAML("cognipeer", b.addr))
	mine, theirs := r.cognipeer(`"input":"one"`).response().Get("id").String(), r.respond(`"input":"one"`).Get("id").String()
	gate := make(chan struct{})
	open := sync.OnceFunc(func() { close(gate) })
	defer open()
	b.running = func(string) { <-gate }
	b.asked()
	b.asked()
	done := make(chan reply, 2)
	go func() { done <- r.cognipeer(`"input":"two"` + previous(mine)) }()
	go func() { done <- r.post("/v1/responses", `{"model":"it","input":"two"`+previous(theirs)+`}`, "") }()
	b.asked()
	b.asked()
	if got := r.cognipeer(`"input":"three"` + previous(mine)); got.status != 409 || gjson.Get(got.body, "error").Type != gjson.String || got.header.Get("Retry-After") == "" {
		t.Errorf("%d %s", got.status, got.body)
	}
	r.refuses(`"input":"three"`+previous(theirs), 409, "conversation_locked")
	open()
	for range 2 {
		if got := <-done; got.status != 200 {
			t.Errorf("%d %s", got.status, got.body)
		}
	}
}

// TestALeaseThatWasLostDoesNoHarm: whoever takes the mark away has the conversation, and the other tells all anew.
func TestALeaseThatWasLostDoesNoHarm(t *testing.T) {
	t.Parallel()
	b := newConsole(t)
	r := start(t, keepingYAML("cognipeer", b.addr), func(s *Server) { s.state = lawless{s.state} })
	one := r.respond(`"input":"one"`).Get("id").String()
	conv, name, _ := splitID(one)
	store := r.state.(lawless).Store
	// It is taken away between the look at it and the request.
	racing := func(branch string) *running {
		return start(t, keepingYAML("cognipeer", b.addr, "options: {branch: "+branch+"}"), func(s *Server) {
			s.state = unclosed{patchy{Store: lawless{store}, fails: func(c state.Change) bool {
				if len(c.Put) == 0 {
					if err := store.Save(context.Background(), "", state.Change{Remove: []state.Ref{markRef(conv, name)}}); err != nil {
						t.Error(err)
					}
				}
				return false
			}}}
		})
	}
	racing("refuse").refuses(`"input":"two"`+previous(one), 409, "conversation_locked")
	if err := store.Save(context.Background(), "", state.Change{Put: []state.Entry{markOf(conv, name)}}); err != nil {
		t.Fatal(err)
	}
	racing("replay").respond(`"input":"two"` + previous(one))
	if got := b.heard("conv2"); b.heard("conv1") != "one" || !order(got, "one", "answer 1", "two") {
		t.Errorf("got %s, first %s", got, b.heard("conv1"))
	}
}

// lawless is a store that gives leases to everybody.
type lawless struct{ state.Store }

func (lawless) Lease(context.Context, string, string, string, time.Duration) (bool, error) {
	return true, nil
}

// TestARetryIsNoSecondTurn: what may have been heard is not said to the same conversation again, what was declined is.
func TestARetryIsNoSecondTurn(t *testing.T) {
	t.Parallel()
	for status, goes := range map[int]bool{502: false, 503: true} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			t.Parallel()
			b := newConsole(t)
			fail := func(v *visit, n int) bool {
				if n == 2 {
					v.json(status, `{"error":"no"}`)
				}
				return n == 2
			}
			if goes {
				b.instead = fail
			} else {
				b.after = func(v *visit, n int, _ string) bool { return fail(v, n) }
			}
			r := start(t, keepingYAML("cognipeer", b.addr, "retry: {attempts: 1, idempotent: true}"))
			one := r.respond(`"input":"one"`).Get("id").String()
			two := r.respond(`"input":"two"` + previous(one)).Get("id").String()
			r.respond(`"input":"three"` + previous(two))
			if goes {
				if got := b.heard("conv1"); got != "one | two | three" {
					t.Errorf("got %s", got)
				}
			} else if got := b.heard("conv3"); b.heard("conv1") != "one | two" || !order(got, "one", "answer 1", "two", "| three") {
				t.Errorf("got %s, first %s", got, b.heard("conv1"))
			}
		})
	}
}

// TestFallbackAgentsAreToldAll, and the conversation of the one that they stand in for ends where it did, if it has heard of nothing.
func TestFallbackAgentsAreToldAll(t *testing.T) {
	t.Parallel()
	for status, heard := range map[int]bool{503: false, 502: true} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			t.Parallel()
			b, other := newConsole(t), telling(t, "chat")
			b.instead = func(v *visit, n int) bool {
				if n == 2 {
					v.json(status, `{"error":"no"}`)
				}
				return n == 2
			}
			r := start(t, "state: {store: memory}\nagents:\n"+replicated("it", "cognipeer", []string{b.addr}, "retry: {attempts: 1, idempotent: true}", "fallback: [other]")+
				replicated("other", "chat", []string{other.addr}))
			one := r.respond(`"input":"one"`).Get("id").String()
			two := r.respond(`"input":"two"` + previous(one)).Get("id").String()
			if asked := other.asked(); !order(asked, "one", "answer 1", "two") {
				t.Errorf("asked %s", asked)
			}
			// The first one is back, and has not heard of it.
			r.respond(`"input":"three"` + previous(two))
			if got := b.heard("conv3"); !order(got, "one", "answer 1", "two", "answer 1", "three") {
				t.Errorf("got %s", got)
			}
			r.respond(`"input":"branch"` + previous(one))
			if got := b.heard("conv1"); heard == strings.Contains(got, "branch") {
				t.Errorf("got %s", got)
			}
		})
	}
}

// TestALostConversationIsToldAnew, once: the backend has not run.
func TestALostConversationIsToldAnew(t *testing.T) {
	t.Parallel()
	for _, face := range []string{"responses", "streaming", "background", "cognipeer"} {
		t.Run(face, func(t *testing.T) {
			t.Parallel()
			b := newConsole(t)
			r := start(t, keepingYAML("cognipeer", b.addr, "options: {branch: refuse}"))
			ask := func(text, before string) string {
				members := `"input":"` + text + `"`
				if before != "" {
					members += previous(before)
				}
				switch face {
				case "cognipeer":
					return r.cognipeer(members).response().Get("id").String()
				case "background":
					id := r.later(members).Get("id").String()
					if got := r.poll(id, "completed"); !strings.Contains(got.Raw, "answer") {
						t.Errorf("got %s", got)
					}
					return id
				case "streaming":
					members += `,"stream":true`
				}
				return r.respond(members).Get("id").String()
			}
			one := ask("one", "")
			b.forget()
			two := ask("two", one)
			if got := b.heard("conv3"); !order(got, "one", "answer 1", "two") {
				t.Errorf("got %s", got)
			}
			ask("three", two)
			if got := b.heard("conv3"); !strings.HasSuffix(got, "| three") || b.n != 4 {
				t.Errorf("got %s in %d requests", got, b.n)
			}
		})
	}
}

// TestALostConversationIsToldAnewBehindItsClient: the events of an answer in the background are those of any other.
func TestALostConversationIsToldAnewBehindItsClient(t *testing.T) {
	t.Parallel()
	b := newConsole(t)
	r := start(t, keepingYAML("cognipeer", b.addr))
	one := r.respond(`"input":"one"`).Get("id").String()
	b.forget()
	got := r.post("/v1/responses", `{"model":"it","input":"two","background":true,"stream":true`+previous(one)+`}`, "")
	if !order(got.body, "response.queued", "response.output_text.delta", "answer 3", "event: response.completed", "[DONE]") {
		t.Errorf("%d %s", got.status, got.body)
	}
}

// TestWhatElseIsNotFoundIsTold as it is, and asked for once.
func TestWhatElseIsNotFoundIsTold(t *testing.T) {
	t.Parallel()
	b := newConsole(t)
	r := start(t, keepingYAML("cognipeer", b.addr))
	one := r.respond(`"input":"one"`).Get("id").String()
	b.does(func(v *visit, _ int) bool { v.json(404, `{"error":"Agent not found"}`); return true }, nil)
	r.refuses(`"input":"two"`+previous(one), 404, "not_found")
	if b.n != 2 {
		t.Errorf("asked %d times", b.n)
	}
}

// TestALossOfContextIsNotSilentInStrictMode: what is told anew loses what a conversation of the backend's would not have.
func TestALossOfContextIsNotSilentInStrictMode(t *testing.T) {
	t.Parallel()
	b := newConsole(t)
	r := start(t, keepingYAML("cognipeer", b.addr))
	b.does(nil, func(v *visit, n int, id string) bool { // reasons aloud
		v.json(200, strings.Replace(consoleAnswer(n, id, false), `"output":[`, `"output":[{"id":"rs_1","type":"reasoning","summary":[{"type":"summary_text","text":"hm"}]},`, 1))
		return true
	})
	strict := "Dragoman-Strict: true\r\n"
	one := r.respond(`"input":"one","store":true`, strict).Get("id").String()
	two := r.respond(`"input":"two"`+previous(one), strict).Get("id").String()
	b.forget()
	r.refuses(`"input":"three"`+previous(two), 400, "unsupported_parameter", strict)
	if b.n != 3 {
		t.Errorf("asked %d times", b.n)
	}
	r.respond(`"input":"three"` + previous(two))
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

// TestTwoAgentsHaveNoConversationInCommon: one is not asked to go on in the other's.
func TestTwoAgentsHaveNoConversationInCommon(t *testing.T) {
	t.Parallel()
	b, other := newConsole(t), newConsole(t)
	r := start(t, "state: {store: memory}\nagents:\n"+
		"  - {name: it, protocol: cognipeer, url: \"http://"+b.addr+"\", model: m}\n  - {name: other, protocol: cognipeer, url: \"http://"+other.addr+"\", model: m}\n")
	one := r.respond(`"input":"one"`).Get("id").String()
	got := r.post("/v1/responses", `{"model":"other","input":"two"`+previous(one)+`}`, "")
	if heard := other.heard("conv1"); got.status != 200 || other.n != 1 || !order(heard, "one", "answer 1", "two") {
		t.Errorf("%d %s, asked %d times, heard %s", got.status, got.body, other.n, heard)
	}
	r.respond(`"input":"branch"` + previous(one))
	if got := b.heard("conv1"); got != "one | branch" {
		t.Errorf("got %s", got)
	}
}

// TestCognipeerOverCognipeer: their conversation is the backend's, under an id of ours, and nothing else is touched.
func TestCognipeerOverCognipeer(t *testing.T) {
	t.Parallel()
	b := newConsole(t)
	r := start(t, keepingYAML("cognipeer", b.addr))
	const more = `"runtime_context":{"metadata":{"a":1e0}}, "temperature" : 7e-1`
	got := r.cognipeer(`"input":"one", ` + more)
	id := got.response().Get("id").String()
	if want := strings.Replace(consoleAnswer(1, "conv1", false), "resp_conv1", id, 1); got.body != want || len(id) != 37 {
		t.Errorf("got  %s\nwant %s", got.body, want)
	}
	if asked, want := b.asked(), `{"model":"backend-model","input":"one", `+more+`}`; asked != want {
		t.Errorf("asked %s, want %s", asked, want)
	}
	got = r.cognipeer(`"previous_response_id": "` + id + `","input":[{"role":"assistant","content":"x"},{"role":"user","content":[{"type":"input_text","text":"two"}]}], ` + more)
	if want := strings.ReplaceAll(consoleAnswer(2, "conv1", true), "resp_conv1", id); got.body != want || b.heard("conv1") != "one | two" {
		t.Errorf("got  %s\nwant %s, heard %s", got.body, want, b.heard("conv1"))
	}
	if asked, want := b.asked(), `{"model":"backend-model","previous_response_id": "resp_conv1","input":[{"role":"assistant","content":"x"},{"role":"user","content":[{"type":"input_text","text":"two"}]}], `+more+`}`; asked != want {
		t.Errorf("asked %s, want %s", asked, want)
	}
	// Not kept: in a conversation of its own, which knows what was said.
	got = r.cognipeer(`"input":"aside","store":false` + previous(id))
	if asked := b.asked(); got.status != 200 || b.heard("conv1") != "one | two" || !order(b.heard("conv3"), "one", "answer 1", "two", "answer 2", "aside") ||
		gjson.Get(asked, "previous_response_id").Type != gjson.Null {
		t.Errorf("asked %s, heard %s", asked, b.heard("conv3"))
	}
	if other := got.response().Get("id").String(); other == id {
		t.Errorf("got %s", got.body)
	} else if got := r.cognipeer(`"input":"on"` + previous(other)); got.status != 404 {
		t.Errorf("%d %s", got.status, got.body)
	}
	// A value that names no conversation goes on as it is.
	got = r.cognipeer(`"input":"new"` + previous("conv-7"))
	if asked := b.asked(); got.status != 200 || gjson.Get(asked, "previous_response_id").String() != "conv-7" {
		t.Errorf("%d %s, asked %s", got.status, got.body, asked)
	}
	// Streamed it is an extension of ours.
	got = r.cognipeer(`"input":"three","stream":true` + previous(id))
	if resp := got.response(); resp.Get("id").String() != id || resp.Get("previous_response_id").String() != id || b.heard("conv1") != "one | two | three" || strings.Contains(got.body, "conv1") {
		t.Errorf("got %s, heard %s", got.body, b.heard("conv1"))
	}
}

// TestWhatIsDeletedIsNotGoneOnWith: a backend's own conversation has not lost it.
func TestWhatIsDeletedIsNotGoneOnWith(t *testing.T) {
	t.Parallel()
	b := newConsole(t)
	r := start(t, keepingYAML("cognipeer", b.addr))
	one := r.respond(`"input":"one"`).Get("id").String()
	two := r.respond(`"input":"two"` + previous(one)).Get("id").String()
	if got := r.request("DELETE", "/v1/responses/"+two, ""); got.status != 200 {
		t.Errorf("%d %s", got.status, got.body)
	}
	r.respond(`"input":"three"` + previous(one))
	if got := b.heard("conv3"); !order(got, "one", "answer 1", "three") || strings.Contains(got, "two") {
		t.Errorf("got %s", got)
	}
	// An item of a conversation object.
	conv := gjson.Get(r.request("POST", "/v1/conversations", `{}`).body, "id").String()
	on := `,"conversation":"` + conv + `"`
	r.respond(`"input":"four"` + on)
	out := r.respond(`"input":"five"` + on).Get("output.0.id").String()
	if got := b.heard("conv4"); got != "four | five" {
		t.Errorf("got %s", got)
	}
	if got := r.request("DELETE", "/v1/conversations/"+conv+"/items/"+out, ""); got.status != 200 {
		t.Errorf("%d %s", got.status, got.body)
	}
	r.respond(`"input":"six"` + on)
	if got := b.heard("conv6"); !order(got, "four", "answer 4", "five", "six") || strings.Contains(got, "answer 5") || strings.Contains(b.heard("conv4"), "six") {
		t.Errorf("got %s", got)
	}
	// And items that a client adds are told.
	r.request("POST", "/v1/conversations/"+conv+"/items", `{"items":[{"role":"user","content":"aside"}]}`)
	r.respond(`"input":"seven"` + on)
	if got := b.heard("conv7"); !order(got, "six", "aside", "seven") {
		t.Errorf("got %s", got)
	}
}

// TestABackendsConversationSurvivesARestart of the proxy, on the file store.
func TestABackendsConversationSurvivesARestart(t *testing.T) {
	t.Parallel()
	b := newConsole(t)
	path := filepath.Join(t.TempDir(), "state.db")
	yaml := "state: {store: file, path: \"" + path + "\"}\n" + agentYAML("cognipeer", b.addr)
	var one, id string
	t.Run("before", func(t *testing.T) {
		r := start(t, yaml)
		one = r.respond(`"input":"one"`).Get("id").String()
		id = r.cognipeer(`"input":"uno"`).response().Get("id").String()
	})
	r := start(t, yaml)
	two := r.respond(`"input":"two"` + previous(one)).Get("id").String()
	r.respond(`"input":"three"` + previous(two))
	if got := b.heard("conv1"); got != "one | two | three" {
		t.Errorf("got %s", got)
	}
	if got := r.cognipeer(`"input":"due"` + previous(id)); got.response().Get("id").String() != id || b.heard("conv2") != "uno | due" {
		t.Errorf("%d %s, heard %s", got.status, got.body, b.heard("conv2"))
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
