package proxy

import (
	"context"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/dragoman-proxy/dragoman/ratelimit"
)

// standIn is a configuration of the agent "it" that refuses connections, and of "other",
// which stands in for it.
func standIn(t *testing.T, other string, more ...string) string {
	t.Helper()
	return "agents:\n" + replicated("it", "chat", []string{deadAddr(t)}, "fallback: [other]") + replicated("other", "chat", []string{other}, more...)
}

func (r *running) agentOf(name string) *agent { return r.snapshot().agent(name) }

// tokensLeft is what is left of an agent's limit.
func (r *running) tokensLeft(name string) int64 {
	return r.limiter.Peek(context.Background(), [3]*ratelimit.Scope{nil, r.agentOf(name).scope, nil}).Tokens.Remaining
}

// TestFallbacksAreCountedWhenTheyAreAsked: and not as another attempt at the same agent; one
// of which no backend may be asked does not count.
func TestFallbacksAreCountedWhenTheyAreAsked(t *testing.T) {
	t.Parallel()
	good := stage(t, func(v *visit) { backendScripts[0].answerIn(v, false) })
	r := start(t, "agents:\n"+replicated("it", "chat", []string{deadAddr(t)}, "fallback: [away, other]", "retry: {attempts: 3}")+
		replicated("away", "chat", []string{good.addr}, "fallback: [other]")+replicated("other", "chat", []string{deadAddr(t), good.addr}))
	r.agentOf("away").set.Members()[0].SetHealth(false)
	if got := r.post("/v1/chat/completions", chatHello, ""); got.status != 200 || got.header.Get("Dragoman-Agent") != "other" || got.header.Get("Dragoman-Attempts") != "3" {
		t.Fatalf("%d by %q after %q", got.status, got.header.Get("Dragoman-Agent"), got.header.Get("Dragoman-Attempts"))
	}
	for name, want := range map[string]string{
		`dragoman_fallbacks_total{agent="it",to="other"}`:        "1",
		`dragoman_fallbacks_total{agent="it",to="away"}`:         "",
		`dragoman_retries_total{agent="it",why="unreached"}`:     "1", // at the second of the fallback's own
		`dragoman_retries_total{agent="it",why="unavailable"}`:   "",
		`dragoman_retries_total{agent="other",why="unreached"}`:  "",
		`dragoman_fallbacks_total{agent="away",to="other"}`:      "",
		`dragoman_retries_total{agent="away",why="unavailable"}`: "",
	} {
		if got := r.metric(name); got != want {
			t.Errorf("%s %q, want %q", name, got, want)
		}
	}
}

// TestBatchTellsOfItsAttempts: those of the item that took most, in the header and in the log,
// which names the backends of all that took several.
func TestBatchTellsOfItsAttempts(t *testing.T) {
	t.Parallel()
	good := stage(t, sayTask)
	one, two := deadAddr(t), deadAddr(t)
	r := start(t, "agents:\n"+replicated("it", "chat", []string{one, two}, "fallback: [other]", "retry: {attempts: 2}")+replicated("other", "chat", []string{good.addr}))
	got := r.post(batchPath, batchOf("it: a", "other: b", "it: c"), "")
	line := r.waitLog(1)
	if got.status != 200 || got.header.Get("Dragoman-Attempts") != "3" || line["attempts"] != int64(3) {
		t.Errorf("%d after %q, logged %v", got.status, got.header.Get("Dragoman-Attempts"), line["attempts"])
	}
	tried, _ := line["tried"].([]any)
	if len(tried) != 6 || tried[2] != good.addr || tried[5] != good.addr || fmt.Sprint(tried[0]) == fmt.Sprint(tried[1]) {
		t.Errorf("tried %v", line["tried"])
	}
	if got := r.post(batchPath, batchOf("other: a", "other: b"), ""); got.header.Get("Dragoman-Attempts") != "" || r.waitLog(2)["attempts"] != nil {
		t.Errorf("once each: %q", got.header.Get("Dragoman-Attempts"))
	}
}

// TestFallbackLeavesTheFirstAgentsPlace: who is served by another agent takes none of the
// places of the first, so that those behind it go on to the fallback too.
func TestFallbackLeavesTheFirstAgentsPlace(t *testing.T) {
	t.Parallel()
	gate := make(chan struct{})
	back := stage(t, func(v *visit) {
		<-gate
		backendScripts[0].answerIn(v, false)
	})
	r := start(t, "limits: {queue: {length: 5, wait: 50s}}\n"+strings.Replace(standIn(t, back.addr), "fallback:", "limits: {concurrent: 1}\n    fallback:", 1))
	var all []*client
	for range 3 {
		c := r.dial()
		c.send("POST", "/agents/it/v1/chat/completions", chatHello, "")
		all = append(all, c)
	}
	for i := range 3 {
		select {
		case <-back.seen:
		case <-time.After(longest):
			t.Errorf("only %d of 3 reached the fallback", i)
		}
	}
	close(gate)
	for _, c := range all {
		if got := c.reply(); got.status != 200 {
			t.Errorf("%d %s", got.status, got.body)
		}
	}
	var g ratelimit.Grant
	scopes := [3]*ratelimit.Scope{nil, r.agentOf("it").scope, nil}
	if r.limiter.Take(context.Background(), scopes, 0, &g) != nil || !r.limiter.Try(&g) {
		t.Error("its place was not given back")
	}
	var second ratelimit.Grant
	if r.limiter.Take(context.Background(), scopes, 0, &second) != nil || r.limiter.Try(&second) {
		t.Error("its place was given back twice")
	}
	second.Release()
	g.Release()
}

// TestTotalTimeEndsInLine: a request whose time is over before there is a place for it, at a
// backend or in a fallback agent's limits, is told that and not that there are too many.
func TestTotalTimeEndsInLine(t *testing.T) {
	t.Parallel()
	back := stage(t, func(v *visit) { t.Error("it was asked") })
	check := func(r *running, got reply) {
		t.Helper()
		line := r.waitLog(1)
		if got.status != 504 || got.header.Get("X-Should-Retry") == "false" || line["outcome"] != "timeout" || line["code"] != "timeout" {
			t.Errorf("%d %s, logged %v", got.status, got.body, line)
		}
	}
	r := start(t, "limits: {queue: {length: 5, wait: 50s}}\n"+agentYAML("chat", back.addr, "balance: {max_concurrent: 1}", "timeouts: {total: 100ms}"))
	l, err := r.first().set.Acquire(nil, "", 0)
	if err != nil {
		t.Fatal(err)
	}
	check(r, r.post("/v1/chat/completions", chatHello, ""))
	if set := r.first().set; set.Members()[0].State().String() != "closed" || set.Waiting() != 0 {
		t.Errorf("its backend is %v", set.Members()[0].State())
	}
	l.Release()

	yaml := strings.Replace(standIn(t, back.addr, "limits: {concurrent: 1}"), "fallback:", "timeouts: {total: 2s}\n    fallback:", 1)
	r = start(t, "limits: {queue: {length: 5, wait: 50s}}\n"+yaml)
	var g ratelimit.Grant
	if r.limiter.Take(context.Background(), [3]*ratelimit.Scope{nil, r.agentOf("other").scope, nil}, 0, &g) != nil || !r.limiter.Try(&g) {
		t.Fatal("no place")
	}
	check(r, r.post("/agents/it/v1/chat/completions", chatHello, ""))
	g.Release()
}

// TestCallersDoNotLearnOfAgentsThatTheyMayNotKnow: a fallback serves whoever may call the
// agent that it stands in for, under the name of that; the log has its own.
func TestCallersDoNotLearnOfAgentsThatTheyMayNotKnow(t *testing.T) {
	t.Parallel()
	const name = "canary-agent"
	for i, b := range backendScripts {
		for _, f := range clientFaces {
			for _, how := range []string{"answers", "fails", "refuses", "is full"} {
				t.Run(f.name+"->"+b.name+" "+how, func(t *testing.T) {
					t.Parallel()
					for _, stream := range []bool{false, true} {
						back := stage(t, func(v *visit) {
							switch how {
							case "answers":
								backendScripts[i].answerIn(v, stream)
							case "fails":
								v.json(500, b.refusal("no"))
							default:
								v.json(429, b.refusal("no"))
							}
						})
						more := []string{}
						if how == "is full" {
							more = append(more, "limits: {requests: 1/h}")
						}
						r := start(t, authYAML(", agents: [it]")+"agents:\n"+replicated("it", "chat", []string{deadAddr(t)}, "fallback: ["+name+"]")+
							strings.Replace(replicated(name, b.name, []string{back.addr}, more...), "    model: backend-model\n", "", 1))
						body, headers := f.ask("hello", stream)
						if how == "is full" {
							r.post("/agents/"+name+f.path, body, headers+bearer(otherKey))
						}
						// Neither the path nor the key says its name; nor does the body, but for the first agent's.
						got := r.post("/agents/it"+f.path, body, headers+bearer(goodKey))
						if said := fmt.Sprint(got.header, got.body); strings.Contains(said, name) {
							t.Errorf("stream=%t: %d %s", stream, got.status, said)
						}
						if got.header.Get("Dragoman-Agent") != "it" {
							t.Errorf("Dragoman-Agent %q", got.header.Get("Dragoman-Agent"))
						}
						if how == "is full" {
							continue
						}
						if line := r.waitLog(1); line["agent"] != name {
							t.Errorf("logged %v", line["agent"])
						}
						got = r.post("/agents/it"+f.path, body, headers+bearer(otherKey))
						if got.header.Get("Dragoman-Agent") != name {
							t.Errorf("who may know: Dragoman-Agent %q", got.header.Get("Dragoman-Agent"))
						}
					}
				})
			}
		}
	}
	back := stage(t, sayTask)
	r := start(t, authYAML(", agents: [it]")+"agents:\n"+replicated("it", "chat", []string{deadAddr(t)}, "fallback: ["+name+"]")+replicated(name, "chat", []string{back.addr}))
	got := r.post(batchPath, `[{"agent_config":{"agent_name":"it"},"task":"a"},{"agent_config":{"agent_name":"it"},"task":"b"}]`, bearer(goodKey))
	if said := fmt.Sprint(got.header, got.body); got.status != 200 || strings.Contains(said, name) || got.header.Get("Dragoman-Agent") != "it" {
		t.Errorf("batch: %d %s", got.status, said)
	}
	if line := r.waitLog(1); line["agent"] != name {
		t.Errorf("batch: logged %v", line["agent"])
	}
}

// TestStatesAreToldOnce: what a check finds is a line of its own, which says why.
func TestStatesAreToldOnce(t *testing.T) {
	t.Parallel()
	r := start(t, agentYAML("chat", deadAddr(t), "retry: {attempts: 0}", "balance: {failures: 1}"), checked(time.Hour, ""))
	waitFor(t, "it to be down", func() bool { return r.logs.FilterMessage("backend is down").Len() == 1 })
	m := r.first().set.Members()[0]
	m.SetHealth(true)
	if n := r.logs.FilterMessage("a backend's state changed").Len(); n != 0 {
		t.Errorf("%d lines more", n)
	}
	r.post("/v1/chat/completions", chatHello, "")
	if n := r.logs.FilterMessage("a backend's state changed").Len(); n != 1 {
		t.Errorf("%d lines of a breaker that opened, want 1", n)
	}
}

// TestFallbacksTokensAreItsOwn: each agent's limit is charged what that agent cost, the
// caller's with all of it.
func TestFallbacksTokensAreItsOwn(t *testing.T) {
	t.Parallel()
	const usage = `,"usage":{"prompt_tokens":300,"completion_tokens":100,"total_tokens":400}}`
	for _, asked := range []bool{false, true} {
		for _, stream := range []bool{false, true} {
			first := deadAddr(t)
			if asked {
				first = stage(t, func(v *visit) { v.resets() }).addr
			}
			back := stage(t, func(v *visit) {
				if !stream {
					v.json(200, strings.Replace(chatScript().body, `,"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}}`, usage, 1))
					return
				}
				v.open()
				v.chunk(strings.Replace(chatScript().first+chatScript().rest, "data: [DONE]", `data: {"choices":[]`+usage+"\n\ndata: [DONE]", 1))
				v.end()
			})
			r := start(t, authYAML(", limits: {tokens: 5000/h}")+"agents:\n"+
				replicated("it", "chat", []string{first}, "fallback: [other]", "retry: {idempotent: true}", "limits: {tokens: 7000/h}")+
				replicated("other", "chat", []string{back.addr}, "limits: {tokens: 6000/h}"))
			body, headers := clientFaces[0].ask("hello", stream)
			if got := r.post("/agents/it/v1/chat/completions", body, headers+bearer(goodKey)); got.status != 200 || got.header.Get("Dragoman-Agent") != "other" {
				t.Fatalf("%d %s", got.status, got.body)
			}
			r.waitLog(1)
			it, other := 7000-r.tokensLeft("it"), 6000-r.tokensLeft("other")
			left, _ := strconv.ParseInt(r.ask("GET", "/v1/rate/limits", "", bearer(goodKey)).header.Get("X-Ratelimit-Remaining-Tokens"), 10, 64)
			if other != 400 {
				t.Errorf("asked=%t, stream=%t: the fallback was charged %d, want 400", asked, stream, other)
			}
			if asked == (it == 0) || it > 100 {
				t.Errorf("asked=%t, stream=%t: the first agent was charged %d", asked, stream, it)
			}
			if key := 5000 - left; key != it+other {
				t.Errorf("asked=%t, stream=%t: the key was charged %d, want %d", asked, stream, key, it+other)
			}
		}
	}
}

// TestFallbackSeesItsOwnHead: the credential, the fixed headers and the forwarded ones are
// those of the agent that is asked, and so is what is hidden in its answer.
func TestFallbackSeesItsOwnHead(t *testing.T) {
	t.Parallel()
	first := stage(t, func(v *visit) { v.json(503, "{}") })
	back := stage(t, func(v *visit) {
		v.json(200, strings.Replace(chatScript().body, "one two", "sk-of-the-second-0000 and sk-of-the-first-0000", 1), "X-Echo: sk-of-the-second-0000")
	})
	r := start(t, "agents:\n"+
		replicated("it", "chat", []string{first.addr}, "fallback: [other]", "credential: {header: X-Api-Key, value: {value: sk-of-the-first-0000}}", "headers: {X-Team: first, X-One: one}", "forward_headers: [X-Mine]")+
		replicated("other", "chat", []string{back.addr}, `credential: {header: Authorization, value: {value: "Bearer sk-of-the-second-0000"}}`, "headers: {X-Team: second}", "forward_headers: [X-Yours]"))
	got := r.post("/agents/it/v1/chat/completions", chatHello, "X-Mine: a\r\nX-Yours: b\r\nX-Team: c\r\nX-Request-Id: r-1\r\n")
	for _, tt := range []struct {
		v    *visit
		want map[string]string
	}{
		{<-first.seen, map[string]string{"X-Api-Key": "sk-of-the-first-0000", "Authorization": "", "X-Team": "first", "X-One": "one", "X-Mine": "a", "X-Yours": "", "X-Request-Id": "r-1"}},
		{<-back.seen, map[string]string{"X-Api-Key": "", "Authorization": "Bearer sk-of-the-second-0000", "X-Team": "second", "X-One": "", "X-Mine": "", "X-Yours": "b", "X-Request-Id": "r-1"}},
	} {
		for name, want := range tt.want {
			if got := tt.v.req.Header.Values(name); want == "" && got != nil || want != "" && !slices.Equal(got, []string{want}) {
				t.Errorf("%s: %s: %q, want %q", tt.v.req.Host, name, got, want)
			}
		}
	}
	if got.status != 200 || strings.Contains(fmt.Sprint(got.header, got.body), "sk-of-the-second") || !strings.Contains(got.body, "sk-of-the-first-0000") {
		t.Errorf("%d %v %s", got.status, got.header, got.body)
	}
}

// TestHeartNamesWhoIsAsked: a head that is still to come is that of the agent that is asked
// now; one that went out stays as it is.
func TestHeartNamesWhoIsAsked(t *testing.T) {
	t.Parallel()
	var r *running
	back := stage(t, func(v *visit) {
		r.mu.Lock()
		for c := range r.running {
			c.heart.beat()
		}
		r.mu.Unlock()
		backendScripts[0].answerIn(v, true)
	})
	r = start(t, standIn(t, back.addr), beating(time.Hour))
	got := r.post("/agents/it/v1/chat/completions", strings.Replace(chatHello, "{", `{"stream":true,`, 1), "")
	if !strings.HasPrefix(got.body, streamBeat) || got.header.Get("Dragoman-Agent") != "other" || got.header.Get("Dragoman-Attempts") != "2" {
		t.Errorf("%v %q", got.header, got.body)
	}
}

// TestFallbackBehindAHeartbeat: an answer that a heartbeat has begun goes on with the
// fallback's, in every face and mode.
func TestFallbackBehindAHeartbeat(t *testing.T) {
	t.Parallel()
	eachMode(t, clientFaces, func(t *testing.T, f face, stream bool) {
		gate := make(chan struct{})
		back := stage(t, func(v *visit) { backendScripts[1].answerIn(v, stream) })
		yaml := "agents:\n" + replicated("it", "chat", []string{deadAddr(t)}, "fallback: [other]") + replicated("other", backendScripts[1].name, []string{back.addr})
		r := start(t, yaml, beating(beatOften), func(s *Server) {
			o := s.snapshot().agent("it").backends[0].origin
			dial := o.dial
			o.dial = func(ctx context.Context) (net.Conn, error) {
				<-gate
				return dial(ctx)
			}
		})
		c := r.dial()
		body, headers := f.ask("hello", stream)
		c.send("POST", "/agents/it"+f.path, body, headers)
		resp := c.response()
		got := until(t, resp.Body, beats(stream, 2))
		close(gate)
		rest, err := io.ReadAll(resp.Body)
		got += string(rest)
		if text := f.text(strings.ReplaceAll(got, streamBeat, ""), stream); err != nil || text != "one two" || stream && !f.whole(got) {
			t.Errorf("%q in %q", text, got)
		}
		if resp.Header.Get("Dragoman-Agent") != "it" || resp.Header.Get("Dragoman-Attempts") != "" {
			t.Errorf("its head says %v", resp.Header)
		}
		if line := r.waitLog(1); line["agent"] != "other" || line["attempts"] != int64(2) || line["outcome"] != "completed" {
			t.Errorf("logged %v", line)
		}
	})
}

// TestFallbacksAreBounded: retry.attempts counts them, that of the agent that was asked first.
func TestFallbacksAreBounded(t *testing.T) {
	t.Parallel()
	busy := stageReplicas(t, 3, func(v *visit, _ int) { v.json(503, "{}") })
	a := busy.addrs()
	for attempts, want := range []int32{1, 2, 3, 3} {
		before := busy.asked.Load()
		r := start(t, "agents:\n"+replicated("it", "chat", a[:1], "fallback: [one, two]", fmt.Sprintf("retry: {attempts: %d}", attempts))+
			replicated("one", "chat", a[1:2], "retry: {attempts: 9}", "fallback: [it]")+replicated("two", "chat", a[2:], "retry: {attempts: 9}"))
		got := r.post("/agents/it/v1/chat/completions", chatHello, "")
		if n := busy.asked.Load() - before; got.status != 503 || n != want {
			t.Errorf("attempts %d: %d, asked %d, want %d", attempts, got.status, n, want)
		}
	}
}

// TestWhoMayHaveRunDecides: whether a failure behind which an agent may have run is tried
// elsewhere is for the agent to say that failed, not for the one that was asked first.
func TestWhoMayHaveRunDecides(t *testing.T) {
	t.Parallel()
	for _, idempotent := range []bool{false, true} {
		lost := stage(t, func(v *visit) { v.resets() })
		last := stageReplicas(t, 1, func(v *visit, _ int) { backendScripts[0].answerIn(v, false) })
		r := start(t, "agents:\n"+replicated("it", "chat", []string{deadAddr(t)}, "fallback: [one, two]", "retry: {attempts: 5, idempotent: "+boolText(!idempotent)+"}")+
			replicated("one", "chat", []string{lost.addr}, "retry: {idempotent: "+boolText(idempotent)+"}")+replicated("two", "chat", last.addrs()))
		got := r.post("/agents/it/v1/chat/completions", chatHello, "")
		want, asked := 502, 0
		if idempotent {
			want, asked = 200, 1
		}
		if got.status != want || last.count(0) != asked {
			t.Errorf("idempotent=%t: %d, the last was asked %d times", idempotent, got.status, last.count(0))
		}
		if no := got.header.Get("X-Should-Retry") == "false"; no == idempotent {
			t.Errorf("idempotent=%t: X-Should-Retry %q", idempotent, got.header.Get("X-Should-Retry"))
		}
	}
}

// TestStrictFallbacks: one that may lose nothing, by its own configuration, is passed over if
// it would, and so is every one if the client wants that.
func TestStrictFallbacks(t *testing.T) {
	t.Parallel()
	lossy := stage(t, func(v *visit) { backendScripts[5].answerIn(v, false) })
	good := stage(t, func(v *visit) { backendScripts[0].answerIn(v, false) })
	for _, strict := range []bool{false, true} {
		r := start(t, "agents:\n"+replicated("it", "chat", []string{deadAddr(t)}, "fallback: [lossy, good]")+
			replicated("lossy", "cycls", []string{lossy.addr}, "strict: "+boolText(strict))+replicated("good", "chat", []string{good.addr}))
		for headers, want := range map[string]string{"": map[bool]string{false: "lossy", true: "good"}[strict], "Dragoman-Strict: true\r\n": "good"} {
			if got := r.post("/agents/it/v1/chat/completions", losing, headers); got.status != 200 || got.header.Get("Dragoman-Agent") != want {
				t.Errorf("strict=%t, %q: %d by %q, want %s", strict, headers, got.status, got.header.Get("Dragoman-Agent"), want)
			}
		}
	}
}

// TestWhoSaysWaitIsNotAskedAgain: not even where the agent may be asked twice.
func TestWhoSaysWaitIsNotAskedAgain(t *testing.T) {
	t.Parallel()
	back := stageReplicas(t, 1, func(v *visit, _ int) { v.json(503, "{}", "Retry-After: 7") })
	r := start(t, agentYAML("chat", back.all[0].addr, "retry: {attempts: 5, idempotent: true}"))
	if got := r.post("/v1/chat/completions", chatHello, ""); got.status != 503 || got.header.Get("Retry-After") != "7" || back.count(0) != 1 {
		t.Errorf("%d, Retry-After %q, asked %d", got.status, got.header.Get("Retry-After"), back.count(0))
	}
}

// TestTimeThatIsOverIsNoBackendsFault: nobody is asked, and nothing is counted.
func TestTimeThatIsOverIsNoBackendsFault(t *testing.T) {
	t.Parallel()
	back := stage(t, func(v *visit) { t.Error("it was asked") })
	r := start(t, agentYAML("chat", back.addr, "balance: {failures: 1}"), func(s *Server) {
		s.snapshot().agent("it").conf.Timeouts.Total = 1
	})
	if got := r.post("/v1/chat/completions", chatHello, ""); got.status != 504 || got.header.Get("X-Should-Retry") == "false" {
		t.Errorf("%d %v %s", got.status, got.header, got.body)
	}
	if got := r.first().set.Members()[0].State().String(); got != "closed" {
		t.Errorf("its backend is %s", got)
	}
}

// TestFallbackHasItsOwnTotalTime, where that is shorter than what is left of the first agent's.
func TestFallbackHasItsOwnTotalTime(t *testing.T) {
	t.Parallel()
	back := stage(t, func(v *visit) { v.gone() })
	r := start(t, standIn(t, back.addr, "timeouts: {total: 300ms}"))
	if got := r.post("/agents/it/v1/chat/completions", chatHello, ""); got.status != 504 {
		t.Errorf("%d %s", got.status, got.body)
	}
}

// TestFallbackIsAskedForItsUsage: where its limit alone is on tokens.
func TestFallbackIsAskedForItsUsage(t *testing.T) {
	t.Parallel()
	back := stage(t, func(v *visit) {
		if !strings.Contains(string(v.body), "include_usage") {
			t.Errorf("usage was not asked for: %s", v.body)
		}
		backendScripts[0].answerIn(v, true)
	})
	r := start(t, standIn(t, back.addr, "limits: {tokens: 6000/h}"))
	if got := r.post("/agents/it/v1/chat/completions", strings.Replace(chatHello, "{", `{"stream":true,`, 1), ""); got.status != 200 {
		t.Errorf("%d %s", got.status, got.body)
	}
}
