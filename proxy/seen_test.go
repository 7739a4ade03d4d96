package proxy

import (
	"net"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// scrape is what the metrics say.
func (o operator) scrape() map[string]float64 {
	o.t.Helper()
	_, text := o.get("/metrics")
	_, series := parseMetrics(o.t, text)
	return series
}

// TestEveryEndingIsCounted: by its agent, faces, backend, status and outcome, as the client saw it.
func TestEveryEndingIsCounted(t *testing.T) {
	t.Parallel()
	back := stage(t, func(v *visit) {
		switch body := string(v.body); {
		case strings.Contains(body, "exception"):
			v.json(500, `{"error":{"message":"no"}}`)
		case strings.Contains(body, "silence"), strings.Contains(body, "leave"):
			v.gone()
		case strings.Contains(body, "cut"):
			v.open()
			v.chunk(chatScript().first)
			v.hangs = true
		case strings.Contains(body, "length"):
			v.json(200, strings.Replace(chatScript().body, `"stop"`, `"length"`, 1))
		default:
			answerWhole(v)
		}
	})
	r := start(t, strings.Replace(agentYAML("chat", back.addr), `aliases: ["*"]`, "aliases: [else]", 1)+"  - {name: hasty, protocol: chat, url: \"http://"+back.addr+"\", model: m, timeouts: {first_byte: 50ms}}\n")
	op := r.operator()
	ended := 0
	f := func(path, body string, want string) {
		t.Helper()
		c := r.dialBare()
		defer c.Close()
		c.send("POST", path, body, "")
		if strings.Contains(body, "leave") {
			for v := <-back.seen; !strings.Contains(string(v.body), "leave"); v = <-back.seen {
			}
			_ = c.Close()
		} else {
			c.reply()
		}
		ended++
		r.waitLog(ended)
		if got := op.scrape()["dragoman_requests_total{"+want+"}"]; got != 1 {
			t.Errorf("%s %s: %v of %s, want 1", path, body, got, want)
		}
	}
	ask := func(agent, text, more string) string {
		return `{"model":"` + agent + `","messages":[{"role":"user","content":"` + text + `"}]` + more + `}`
	}
	at := func(agent, status, outcome string) string {
		return `agent="` + agent + `",face="chat",protocol="chat",backend="` + back.addr + `",status="` + status + `",outcome="` + outcome + `"`
	}
	const chat = "/v1/chat/completions"
	f(chat, ask("it", "hello", ""), at("it", "200", "completed"))
	f(chat, ask("it", "length", ""), at("it", "200", "incomplete"))
	f(chat, ask("it", "exception", ""), at("it", "502", "failed"))
	f(chat, ask("it", "cut", `,"stream":true`), at("it", "200", "failed"))
	f(chat, ask("it", "leave", ""), at("it", "499", "client_gone"))
	f(chat, ask("hasty", "silence", ""), at("hasty", "504", "timeout"))
	f("/agents/nobody/v1/responses", `{"model":"x","input":"x"}`, `agent="",face="responses",protocol="",backend="",status="404",outcome="failed"`)
	f("/v1/responses", `{"model":"it","input":"x"}`, `agent="it",face="responses",protocol="chat",backend="`+back.addr+`",status="200",outcome="completed"`)
	f(chat, "{", `agent="",face="chat",protocol="",backend="",status="400",outcome="failed"`)
}

// TestFirstByteIsTimed: from the head of the request on, and heartbeats do not count.
func TestFirstByteIsTimed(t *testing.T) {
	t.Parallel()
	gate := make(chan struct{})
	back := stage(t, func(v *visit) {
		<-gate
		v.open()
		v.chunk(chatScript().first + chatScript().rest)
		v.end()
	})
	r := start(t, agentYAML("chat", back.addr), beating(beatOften))
	op := r.operator()
	c := r.dial()
	c.send("POST", "/v1/chat/completions", chatHelloStream, "")
	<-back.seen
	asked := time.Now()
	resp := c.response()
	until(t, resp.Body, beats(true, 3))
	held := time.Since(asked)
	if n := op.scrape()[`dragoman_first_byte_seconds_count{agent="it",face="chat"}`]; n != 0 {
		t.Error("a heartbeat is taken for the answer")
	}
	close(gate)
	until(t, resp.Body, "[DONE]")
	r.waitLog(1)
	got := op.scrape()
	if n, sum := got[`dragoman_first_byte_seconds_count{agent="it",face="chat"}`], got[`dragoman_first_byte_seconds_sum{agent="it",face="chat"}`]; n != 1 || sum < held.Seconds() {
		t.Errorf("%v of %v seconds, and the agent was silent for %v", n, sum, held)
	}
}

// TestLinesAndTriesAreCounted: who waits in line for a limit or for a backend, who was tried
// again, and who went on to a fallback agent.
func TestLinesAndTriesAreCounted(t *testing.T) {
	t.Parallel()
	gate := make(chan struct{})
	back := stage(t, func(v *visit) {
		<-gate
		answerWhole(v)
	})
	dead, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = dead.Close()
	url := "url: \"http://" + back.addr + "\""
	r := start(t, "limits: {queue: {length: 8, wait: 60s}}\nagents:\n"+
		"  - {name: one, protocol: chat, model: m, "+url+", limits: {concurrent: 1}}\n"+
		"  - {name: few, protocol: chat, model: m, "+url+", balance: {max_concurrent: 1}}\n"+
		"  - {name: dead, protocol: chat, model: m, url: \"http://"+dead.Addr().String()+"\", fallback: [free]}\n"+
		"  - {name: two, protocol: chat, model: m, urls: [\"http://"+dead.Addr().String()+"\", \"http://"+back.addr+"\"]}\n"+
		"  - {name: free, protocol: chat, model: m, "+url+"}\n",
		func(s *Server) { s.About("1.2.3", nil) })
	op := r.operator()
	ask := func(agent string) *client {
		c := r.dial()
		c.send("POST", "/v1/chat/completions", strings.Replace(chatHello, `"it"`, `"`+agent+`"`, 1), "")
		return c
	}
	var clients []*client
	for i, agent := range []string{"one", "few"} {
		clients = append(clients, ask(agent))
		<-back.seen
		clients = append(clients, ask(agent))
		waitFor(t, "the line of "+agent, func() bool { return op.scrape()["dragoman_queue_waiting{}"] == float64(i+1) })
	}
	close(gate)
	for _, c := range clients {
		if got := c.reply(); got.status != 200 {
			t.Errorf("%d %s", got.status, got.body)
		}
	}
	again := 0.0
	for _, agent := range []string{"dead", "two", "two"} { // of two, one at least meets the dead one first
		got := ask(agent).reply()
		if got.status != 200 {
			t.Errorf("%s: %d %s", agent, got.status, got.body)
		}
		if agent == "two" && got.header.Get("Dragoman-Attempts") == "2" {
			again++
		}
	}
	if again == 0 {
		t.Error("nobody was tried again")
	}
	r.waitLog(7)
	got := op.scrape()
	for id, want := range map[string]float64{
		"dragoman_queue_waiting{}":                                            0,
		`dragoman_fallbacks_total{agent="dead",to="free"}`:                    1,
		`dragoman_retries_total{agent="two",why="unreached"}`:                 again,
		`dragoman_build_info{version="1.2.3",go="` + runtime.Version() + `"}`: 1,
		`dragoman_backend_running{agent="one",backend="` + back.addr + `"}`:   0,
		`dragoman_backend_state{agent="few",backend="` + back.addr + `"}`:     0,
	} {
		if have, ok := got[id]; !ok || have != want {
			t.Errorf("%s: %v, want %v", id, have, want)
		}
	}
}

// TestStateOfBackendsIsTold: its breaker closed, open and half-open, down by its checks, and
// what it serves.
func TestStateOfBackendsIsTold(t *testing.T) {
	t.Parallel()
	gate := make(chan struct{})
	back := stage(t, func(v *visit) {
		if strings.Contains(string(v.body), "fail") {
			v.json(503, `{"error":{"message":"no"}}`)
			return
		}
		<-gate
		answerWhole(v)
	})
	free := stage(t, answerWhole)
	begin := time.Now()
	var ahead atomic.Int64
	r := start(t, "agents:\n"+
		"  - {name: it, protocol: chat, model: m, url: \"http://"+back.addr+"\", balance: {failures: 1, pause: 1m}, fallback: [free]}\n"+
		"  - {name: free, protocol: chat, model: m, url: \"http://"+free.addr+"\"}\n",
		func(s *Server) {
			s.clock = func() time.Time { return begin.Add(time.Duration(ahead.Load())) }
		})
	op := r.operator()
	f := func(when string, state, running float64) {
		t.Helper()
		up := 1.0
		if state > 1 {
			up = 0
		}
		got := op.scrape()
		for name, want := range map[string]float64{"up": up, "state": state, "running": running} {
			if have, ok := got["dragoman_backend_"+name+`{agent="it",backend="`+back.addr+`"}`]; !ok || have != want {
				t.Errorf("%s: %s is %v, want %v", when, name, have, want)
			}
		}
	}
	f("at first", 0, 0)
	if got := r.post("/v1/chat/completions", strings.Replace(chatHello, "hello", "fail", 1), ""); got.status != 200 || got.header.Get("Dragoman-Agent") != "free" {
		t.Errorf("%d %v", got.status, got.header)
	}
	f("behind a failure", 2, 0)
	ahead.Store(int64(2 * time.Minute))
	<-back.seen
	c := r.dial()
	c.send("POST", "/v1/chat/completions", chatHello, "")
	<-back.seen
	f("while it is tried", 1, 1)
	close(gate)
	if got := c.reply(); got.status != 200 || got.header.Get("Dragoman-Agent") != "it" {
		t.Errorf("%d %v", got.status, got.header)
	}
	r.waitLog(2)
	f("when it works again", 0, 0)
	r.agentNamed("it").set.Members()[0].SetHealth(false)
	f("when its checks fail", 3, 0)
}
