package proxy

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// replicas are backends of one agent, who count together what reaches them.
type replicas struct {
	all   []*stagedAgent
	asked atomic.Int32
	by    sync.Map // how often, by address
}

// stageReplicas stages n of them. serve is told the how manieth request it has, of all.
func stageReplicas(t *testing.T, n int, serve func(v *visit, nth int)) *replicas {
	t.Helper()
	r := &replicas{}
	for range n {
		r.all = append(r.all, stage(t, func(v *visit) {
			n, _ := r.by.LoadOrStore(v.conn.LocalAddr().String(), new(atomic.Int32))
			n.(*atomic.Int32).Add(1)
			serve(v, int(r.asked.Add(1)))
		}))
	}
	return r
}

func (r *replicas) count(i int) int {
	n, ok := r.by.Load(r.all[i].addr)
	if !ok {
		return 0
	}
	return int(n.(*atomic.Int32).Load())
}

// each is how often each was asked, the busiest first where there are two.
func (r *replicas) pair() [2]int {
	a, b := r.count(0), r.count(1)
	return [2]int{max(a, b), min(a, b)}
}

// replicated is the configuration of an agent with several urls.
func replicated(name, protocol string, addrs []string, more ...string) string {
	s := "  - name: " + name + "\n    protocol: " + protocol + "\n    urls: [\"http://" + strings.Join(addrs, "\", \"http://") + "\"]\n    model: backend-model\n    heartbeat: {stream: 0s}\n"
	for _, m := range more {
		s += "    " + m + "\n"
	}
	return s
}

func (r *replicas) addrs() (list []string) {
	for _, b := range r.all {
		list = append(list, b.addr)
	}
	return list
}

// TestWhatMayBeTriedElsewhere: each failure against every backend protocol, in a stream and
// in JSON, with an agent that may be asked twice and with one that may not.
func TestWhatMayBeTriedElsewhere(t *testing.T) {
	t.Parallel()
	refuse := func(status int, headers ...string) func(*visit, *script) {
		return func(v *visit, b *script) { v.json(status, b.refusal("no"), headers...) }
	}
	for _, c := range []struct {
		name  string
		fails func(v *visit, b *script)
		safe  bool // whatever the agent is
		twice bool // if it is idempotent
		ran   bool // it may have run
		want  int  // where nobody else is asked
	}{
		{"503", refuse(503), true, true, false, 503},
		{"503 that says wait", refuse(503, "Retry-After: 7\r\n"), true, true, false, 503},
		{"429", refuse(429), true, true, false, 429},
		{"502", refuse(502), false, true, true, 502},
		{"504", refuse(504), false, true, true, 504},
		{"500", refuse(500), false, false, true, 500},
		{"400", refuse(400), false, false, false, 400},
		{"409", refuse(409), false, false, false, 409},
		{"reset", func(v *visit, _ *script) { v.resets() }, false, true, true, 502},
		{"closed", func(v *visit, _ *script) { v.hangs = true }, false, true, true, 502},
		{"unreadable", func(v *visit, _ *script) { v.json(200, "[1]") }, false, true, true, 502},
		{"cut", func(v *visit, b *script) {
			_, _ = io.WriteString(v.conn, "HTTP/1.1 200 OK\r\nContent-Type: "+b.contentType(false)+"\r\nContent-Length: 1000\r\n\r\n")
			v.hangs = true
		}, false, true, true, 502},
	} {
		for i := range backendScripts {
			b := &backendScripts[i]
			for _, idempotent := range []bool{false, true} {
				for _, stream := range []bool{false, true} {
					t.Run(fmt.Sprintf("%s/%s/idempotent=%t/stream=%t", c.name, b.name, idempotent, stream), func(t *testing.T) {
						t.Parallel()
						back := stageReplicas(t, 2, func(v *visit, nth int) {
							if nth == 1 {
								c.fails(v, b)
							} else {
								b.answerIn(v, stream)
							}
						})
						f := clientFaces[0]
						r := start(t, "agents:\n"+replicated("it", b.name, back.addrs(), "retry: {idempotent: "+boolText(idempotent)+"}"))
						body, headers := f.ask("hello", stream)
						got := r.post(f.path, body, headers)
						log := r.waitLog(1)
						if again := c.safe || c.twice && idempotent; !again {
							if got.status < 400 || c.name != "500" && c.name != "409" && c.name != "400" && got.status != c.want {
								t.Errorf("status %d: %s, want %d", got.status, got.body, c.want)
							}
							if no := got.header.Get("X-Should-Retry") == "false"; c.ran && !no {
								t.Error("the client is not told that the agent may have run")
							}
							if back.pair() != [2]int{1, 0} || got.header.Get("Dragoman-Attempts") != "" || log["attempts"] != nil {
								t.Errorf("asked %v, attempts %q, log %v", back.pair(), got.header.Get("Dragoman-Attempts"), log["attempts"])
							}
							return
						}
						if text := f.text(got.body, stream); got.status != 200 || text != "one two" {
							t.Errorf("status %d: %s", got.status, got.body)
						}
						if back.pair() != [2]int{1, 1} {
							t.Errorf("asked %v, want one each", back.pair())
						}
						if n := got.header.Get("Dragoman-Attempts"); n != "2" {
							t.Errorf("Dragoman-Attempts %q, want 2", n)
						}
						if tried := fmt.Sprint(log["tried"]); log["attempts"] != int64(2) || !strings.Contains(tried, back.all[0].addr) || !strings.Contains(tried, back.all[1].addr) {
							t.Errorf("log: attempts %v, tried %v", log["attempts"], log["tried"])
						}
					})
				}
			}
		}
	}
}

// TestNothingIsTriedAgainOnceTheClientSawIt: a stream that has begun is cut, not begun anew.
func TestNothingIsTriedAgainOnceTheClientSawIt(t *testing.T) {
	t.Parallel()
	for i := range backendScripts {
		b := &backendScripts[i]
		if b.first == "" {
			continue
		}
		back := stageReplicas(t, 2, func(v *visit, _ int) {
			v.open()
			v.chunk(b.first)
			v.hangs = true
		})
		f := clientFaces[0]
		r := start(t, "agents:\n"+replicated("it", b.name, back.addrs(), "retry: {idempotent: true, attempts: 5}"))
		body, headers := f.ask("hello", true)
		if got := r.post(f.path, body, headers); got.status != 200 || !f.failed(got.body) || back.pair() != [2]int{1, 0} {
			t.Errorf("%s: %d %q, asked %v", b.name, got.status, got.body, back.pair())
		}
	}
}

// TestRefusedConnectionsGoElsewhere: no request fails while one of three replicas is dead.
func TestRefusedConnectionsGoElsewhere(t *testing.T) {
	t.Parallel()
	back := stageReplicas(t, 2, func(v *visit, _ int) { backendScripts[0].answerIn(v, false) })
	r := start(t, "agents:\n"+replicated("it", "chat", append(back.addrs(), deadAddr(t)), "balance: {pause: 10m}")) // longer than the test may take
	var wg sync.WaitGroup
	for range 8 {
		c := r.dial()
		wg.Go(func() {
			for range 25 {
				c.send("POST", "/v1/chat/completions", chatHello, "")
				if got := c.reply(); got.status != 200 {
					t.Errorf("status %d: %s", got.status, got.body)
				}
			}
		})
	}
	wg.Wait()
	if n := back.asked.Load(); n != 200 {
		t.Errorf("%d requests were served, want 200", n)
	}
	if got := r.first().set.Members()[2].State().String(); got != "open" {
		t.Errorf("the dead one is %s", got)
	}
	if n := r.logs.FilterMessage("a backend's state changed").Len(); n != 1 {
		t.Errorf("%d lines about it, want 1", n)
	}
}

// TestOnlyOneReplicaIsAskedAgain: after a pause, if it could not be reached.
func TestOnlyOneReplicaIsAskedAgain(t *testing.T) {
	t.Parallel()
	dead := deadAddr(t)
	r := start(t, agentYAML("chat", dead, "retry: {attempts: 2}"))
	got := r.post("/v1/chat/completions", chatHello, "")
	if log := r.waitLog(1); got.status != 502 || got.header.Get("Dragoman-Attempts") != "3" || fmt.Sprint(log["tried"]) != fmt.Sprint([]string{dead, dead, dead}) {
		t.Errorf("%d, attempts %q, tried %v", got.status, got.header.Get("Dragoman-Attempts"), log["tried"])
	}
	if got.header.Get("X-Should-Retry") == "false" {
		t.Error("nothing has run")
	}
	r = start(t, agentYAML("chat", dead, "retry: {attempts: 0}"))
	if got := r.post("/v1/chat/completions", chatHello, ""); got.status != 502 || got.header.Get("Dragoman-Attempts") != "" {
		t.Errorf("without retries: %d after %q", got.status, got.header.Get("Dragoman-Attempts"))
	}
	back := stageReplicas(t, 1, func(v *visit, _ int) { v.json(503, "{}") })
	r = start(t, agentYAML("chat", back.all[0].addr, "retry: {attempts: 5}"))
	if got := r.post("/v1/chat/completions", chatHello, ""); got.status != 503 || back.count(0) != 1 {
		t.Errorf("a 503: %d after %d", got.status, back.count(0))
	}
}

// TestRetriesHaveABudget: thirty in ten seconds and a share of the requests.
func TestRetriesHaveABudget(t *testing.T) {
	t.Parallel()
	back := stageReplicas(t, 2, func(v *visit, _ int) { v.json(503, "{}") })
	still := time.Now()
	r := start(t, "agents:\n"+replicated("it", "chat", back.addrs(), "retry: {budget: 0.1}", "balance: {failures: 0, error_rate: 0}"), func(s *Server) {
		s.clock = func() time.Time { return still }
	})
	for range 100 {
		if got := r.post("/v1/chat/completions", chatHello, ""); got.status != 503 {
			t.Fatalf("status %d", got.status)
		}
	}
	if n := back.asked.Load(); n != 140 {
		t.Errorf("asked %d times, want 100 and 40 again", n)
	}
}

// TestRetryAfterIsKept: a backend's word on when to come again is better than a refused connection.
func TestRetryAfterIsKept(t *testing.T) {
	t.Parallel()
	back := stage(t, func(v *visit) { v.json(503, `{"error":{"message":"busy"}}`, "Retry-After: 7\r\n") })
	r := start(t, "agents:\n"+replicated("it", "chat", []string{back.addr, deadAddr(t)}))
	got := r.post("/v1/chat/completions", chatHello, "")
	if got.status != 503 || got.header.Get("Retry-After") != "7" || got.header.Get("Dragoman-Attempts") != "2" {
		t.Errorf("%d, Retry-After %q, attempts %q", got.status, got.header.Get("Retry-After"), got.header.Get("Dragoman-Attempts"))
	}
}

// TestConversationsStayWithTheirBackend: those of Cycls clients, who name them.
func TestConversationsStayWithTheirBackend(t *testing.T) {
	t.Parallel()
	back := stageReplicas(t, 3, func(v *visit, _ int) { backendScripts[5].answerIn(v, true) })
	r := start(t, "agents:\n"+replicated("it", "cycls", back.addrs()))
	homes := map[int]bool{}
	for k := range 12 {
		var before [3]int
		for i := range before {
			before[i] = back.count(i)
		}
		for range 4 {
			if got := r.post(fmt.Sprintf("/chat?id=conversation-%d", k), `{"messages":[{"role":"user","content":"hi"}]}`, ""); got.status != 200 {
				t.Fatalf("%d %s", got.status, got.body)
			}
		}
		for i := range before {
			switch back.count(i) - before[i] {
			case 0:
			case 4:
				homes[i] = true
			default:
				t.Errorf("conversation %d went to several", k)
			}
		}
	}
	if len(homes) < 2 {
		t.Error("all conversations went to one backend")
	}
}

// TestFallbackSpeaksItsOwnProtocol: it gets what it would get if it were asked itself, byte
// for byte, from every face, and the answer names it and what it lost.
func TestFallbackSpeaksItsOwnProtocol(t *testing.T) {
	t.Parallel()
	dead := deadAddr(t)
	for i := range backendScripts {
		b := &backendScripts[i]
		for _, first := range backendScripts {
			for _, f := range clientFaces {
				t.Run(f.name+"->"+first.name+"->"+b.name, func(t *testing.T) {
					t.Parallel()
					for _, stream := range []bool{false, true} {
						back := stage(t, func(v *visit) { b.answerIn(v, stream) })
						r := start(t, "agents:\n"+replicated("it", first.name, []string{dead}, "fallback: [other]")+replicated("other", b.name, []string{back.addr}))
						body, headers := f.ask("hello", stream)
						body = strings.Replace(body, "{", `{"temperature":0.5,"seed":3,"top_p":0.5,"metadata":{"a":"b"},`, 1)
						by := r.post("/agents/it"+f.path, body, headers)
						direct := r.post("/agents/other"+f.path, body, headers)
						if by.status != direct.status {
							t.Fatalf("status %d, and %d directly: %s", by.status, direct.status, by.body)
						}
						if by.status != 200 {
							continue
						}
						if by, direct := <-back.seen, <-back.seen; !bytes.Equal(by.body, direct.body) || by.req.RequestURI != direct.req.RequestURI {
							t.Errorf("the fallback got %s %s, directly %s %s", by.req.RequestURI, by.body, direct.req.RequestURI, direct.body)
						}
						if text := f.text(by.body, stream); text != "one two" && f.name != "cycls" || by.header.Get("Dragoman-Agent") != "other" {
							t.Errorf("%q by %q", text, by.header.Get("Dragoman-Agent"))
						}
						if got, want := by.header.Get("Dragoman-Dropped"), direct.header.Get("Dragoman-Dropped"); got != want {
							t.Errorf("dropped %q, directly %q", got, want)
						}
						if by.header.Get("Dragoman-Attempts") != "2" {
							t.Errorf("attempts %q", by.header.Get("Dragoman-Attempts"))
						}
					}
				})
			}
		}
	}
}

// TestFallbacksArePassedOver: one that would lose something in strict mode, or that is at its
// limit; the next one is asked. A key's scope does not count.
func TestFallbacksArePassedOver(t *testing.T) {
	t.Parallel()
	dead := deadAddr(t)
	lossy := stage(t, func(v *visit) { backendScripts[5].answerIn(v, false) })
	good := stage(t, func(v *visit) { backendScripts[0].answerIn(v, false) })
	yaml := "agents:\n" + replicated("it", "chat", []string{dead}, "fallback: [lossy, good]") +
		replicated("lossy", "cycls", []string{lossy.addr}, "limits: {requests: 1/h}") + replicated("good", "chat", []string{good.addr})
	r := start(t, yaml)
	ask := func(headers, want string) {
		t.Helper()
		if got := r.post("/agents/it/v1/chat/completions", losing, headers); got.status != 200 || got.header.Get("Dragoman-Agent") != want {
			t.Errorf("%q: %d by %q: %s", headers, got.status, got.header.Get("Dragoman-Agent"), got.body)
		}
	}
	ask("Dragoman-Strict: true\r\n", "good")
	ask("", "lossy")
	ask("", "good") // the limit of the other is reached
	if r.post("/agents/lossy/v1/chat/completions", chatHello, "").status != 429 {
		t.Error("the request by way of fallback was not counted")
	}
}

// TestBreakerSendsToTheFallback: what is left alone costs no attempt, and a trial brings it back.
func TestBreakerSendsToTheFallback(t *testing.T) {
	t.Parallel()
	var healed atomic.Bool
	back := stageReplicas(t, 1, func(v *visit, _ int) {
		if healed.Load() {
			backendScripts[0].answerIn(v, false)
		} else {
			v.json(503, "{}")
		}
	})
	other := stageReplicas(t, 1, func(v *visit, _ int) { backendScripts[0].answerIn(v, false) })
	var ahead atomic.Int64
	begin := time.Now()
	r := start(t, "agents:\n"+replicated("it", "chat", back.addrs(), "balance: {failures: 2}", "fallback: [other]")+replicated("other", "chat", other.addrs()), func(s *Server) {
		s.clock = func() time.Time { return begin.Add(time.Duration(ahead.Load())) }
	})
	ask := func(want, attempts string, asked int) {
		t.Helper()
		got := r.post("/agents/it/v1/chat/completions", chatHello, "")
		if got.status != 200 || got.header.Get("Dragoman-Agent") != want || got.header.Get("Dragoman-Attempts") != attempts || back.count(0) != asked {
			t.Errorf("%d by %q after %q, asked %d; want %s after %q, %d", got.status, got.header.Get("Dragoman-Agent"), got.header.Get("Dragoman-Attempts"), back.count(0), want, attempts, asked)
		}
	}
	ask("other", "2", 1)
	ask("other", "2", 2)
	ask("other", "", 2) // the breaker is open
	ahead.Store(int64(13 * time.Minute))
	healed.Store(true)
	ask("it", "", 3) // the trial
	ask("it", "", 4)
}

// TestPlacesAtABackend: no more at a time than it may serve; beyond that they wait, and who
// leaves the line reaches nobody.
func TestPlacesAtABackend(t *testing.T) {
	t.Parallel()
	gate := make(chan struct{})
	back := stageReplicas(t, 1, func(v *visit, _ int) {
		<-gate
		backendScripts[0].answerIn(v, false)
	})
	r := start(t, "limits: {queue: {length: 1, wait: 20s}}\n"+agentYAML("chat", back.all[0].addr, "balance: {max_concurrent: 1}"))
	set := r.first().set
	first := r.dial()
	first.send("POST", "/v1/chat/completions", chatHello, "")
	<-back.all[0].seen
	leaves := r.dial()
	leaves.send("POST", "/v1/chat/completions", chatHello, "")
	waitFor(t, "one to wait", func() bool { return set.Waiting() == 1 })
	if got := r.post("/v1/chat/completions", chatHello, ""); got.status != 503 || got.header.Get("Retry-After") != "1" {
		t.Errorf("beyond the line: %d, Retry-After %q", got.status, got.header.Get("Retry-After"))
	}
	_ = leaves.Close()
	waitFor(t, "it to leave", func() bool { return set.Waiting() == 0 })
	stays := r.dial()
	stays.send("POST", "/v1/chat/completions", chatHello, "")
	waitFor(t, "another to wait", func() bool { return set.Waiting() == 1 })
	close(gate)
	if a, b := first.reply(), stays.reply(); a.status != 200 || b.status != 200 || back.count(0) != 2 {
		t.Errorf("%d and %d, %d asked", a.status, b.status, back.count(0))
	}
	waitFor(t, "the places", func() bool { return set.Members()[0].Running() == 0 })
}

// TestDepartureInAPause: who leaves while the proxy waits before it tries again reaches nobody.
func TestDepartureInAPause(t *testing.T) {
	t.Parallel()
	c := &call{}
	ended := make(chan error)
	go func() {
		if e := c.rest(time.Hour); e == nil {
			ended <- nil
		} else {
			ended <- e
		}
	}()
	c.cancel.Cancel(errClientGone)
	select {
	case err := <-ended:
		if err == nil || !strings.Contains(err.Error(), "left") {
			t.Errorf("it ended with %v", err)
		}
	case <-time.After(longest):
		t.Fatal("it waits on")
	}
}

// TestBreakerCounts: what counts against a backend and what does not.
func TestBreakerCounts(t *testing.T) {
	t.Parallel()
	b := &backendScripts[0]
	for name, c := range map[string]struct {
		fails func(*visit)
		want  string
	}{
		"500":             {func(v *visit) { v.json(500, "{}") }, "closed"},
		"429":             {func(v *visit) { v.json(429, "{}") }, "closed"},
		"404":             {func(v *visit) { v.json(404, "{}") }, "closed"},
		"502":             {func(v *visit) { v.json(502, "{}") }, "open"},
		"503":             {func(v *visit) { v.json(503, "{}") }, "open"},
		"504":             {func(v *visit) { v.json(504, "{}") }, "open"},
		"reset":           {func(v *visit) { v.resets() }, "open"},
		"unreadable":      {func(v *visit) { v.json(200, "[]") }, "open"},
		"cut":             {func(v *visit) { v.open(); v.chunk(b.first); v.hangs = true }, "open"},
		"its own failure": {func(v *visit) { v.open(); v.chunk(b.first + b.failure); v.end() }, "closed"},
	} {
		back := stage(t, c.fails)
		r := start(t, agentYAML("chat", back.addr, "balance: {failures: 1}"))
		r.post("/v1/chat/completions", strings.Replace(chatHello, "{", `{"stream":true,`, 1), "")
		r.waitLog(1)
		m := r.first().set.Members()[0]
		if got := m.State().String(); got != c.want || m.Running() != 0 {
			t.Errorf("%s: %s, %d run, want %s", name, got, m.Running(), c.want)
		}
	}
	// A client that leaves says nothing about its backend.
	gone := stage(t, func(v *visit) { v.open(); v.chunk(b.first); v.gone() })
	r := start(t, agentYAML("chat", gone.addr, "balance: {failures: 1}"))
	cl := r.dial()
	cl.send("POST", "/v1/chat/completions", strings.Replace(chatHello, "{", `{"stream":true,`, 1), "")
	until(t, cl.response().Body, "one")
	_ = cl.Close()
	r.waitLog(1)
	if got := r.first().set.Members()[0].State().String(); got != "closed" {
		t.Errorf("a departure: %s", got)
	}
}

// TestBatchItemsGoElsewhere: each for itself, and the batch names what the agent lost that answered.
func TestBatchItemsGoElsewhere(t *testing.T) {
	t.Parallel()
	back := stageReplicas(t, 2, func(v *visit, nth int) {
		if nth == 1 {
			v.json(503, "{}")
		} else {
			sayTask(v)
		}
	})
	r := start(t, "agents:\n"+replicated("it", "chat", back.addrs()))
	got := r.post(batchPath, batchOf("it: one", "it: two"), "")
	if got.status != 200 || !strings.Contains(got.body, `"one"`) || !strings.Contains(got.body, `"two"`) || back.asked.Load() != 3 {
		t.Errorf("%d %s, asked %d", got.status, got.body, back.asked.Load())
	}
}

// TestBatchNamesWhatTheFallbackLost: not what the agent would have lost that was chosen.
func TestBatchNamesWhatTheFallbackLost(t *testing.T) {
	t.Parallel()
	back := stage(t, sayTask)
	item := `[{"agent_config":{"agent_name":"AGENT","temperature":0.5,"role":"worker","max_loops":2},"task":"one"}]`
	r := start(t, "agents:\n"+replicated("it", "cycls", []string{deadAddr(t)}, "fallback: [other]")+replicated("other", "chat", []string{back.addr}))
	by := r.post(batchPath, strings.Replace(item, "AGENT", "it", 1), "")
	direct := r.post(batchPath, strings.Replace(item, "AGENT", "other", 1), "")
	if by.status != 200 || by.header.Get("Dragoman-Agent") != "other" || by.header.Get("Dragoman-Dropped") != direct.header.Get("Dragoman-Dropped") {
		t.Errorf("%d by %q, dropped %q, directly %q", by.status, by.header.Get("Dragoman-Agent"), by.header.Get("Dragoman-Dropped"), direct.header.Get("Dragoman-Dropped"))
	}
}

// TestWhatMayHaveRunIsToldToTheEnd: an agent that may have run is not forgotten when the next
// one could not be reached.
func TestWhatMayHaveRunIsToldToTheEnd(t *testing.T) {
	t.Parallel()
	back := stage(t, func(v *visit) { v.resets() })
	r := start(t, "agents:\n"+replicated("it", "chat", []string{back.addr, deadAddr(t)}, "retry: {idempotent: true}"))
	got := r.post("/v1/chat/completions", chatHello, "")
	if got.status != 502 || got.header.Get("Dragoman-Attempts") != "2" || got.header.Get("X-Should-Retry") != "false" {
		t.Errorf("%d, attempts %q, X-Should-Retry %q", got.status, got.header.Get("Dragoman-Attempts"), got.header.Get("X-Should-Retry"))
	}
}
