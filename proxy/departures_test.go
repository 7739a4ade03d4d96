package proxy

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dragoman-proxy/dragoman/internal/balance"
)

// A way is how a client leaves.
type way struct {
	name  string
	only  string // the wire it is for; empty: all
	leave func(c *client)
}

var ways = []way{
	{"closes", "", func(c *client) { _ = c.Close() }},
	{"half-closes", "", func(c *client) { c.halfClose() }},
	{"closes without a word of TLS", "tls", func(c *client) { _ = c.bare().Close() }},
	{"resets", "tcp", reset},
	{"resets TLS", "tls", reset},
	{"closes behind a request sent ahead", "", func(c *client) {
		_, _ = io.WriteString(c, "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
		_ = c.Close()
	}},
}

// reset ends a TCP connection by RST.
func reset(c *client) {
	_ = c.bare().(*net.TCPConn).SetLinger(0)
	_ = c.bare().Close()
}

// A moment is when in the life of a request something happens to its client.
type moment struct {
	name   string
	stream bool
	agent  string                // of departureYAML
	serve  func(v *visit) func() // does the backend's part so far, and returns what goes on once the gate opens
	reads  string                // what the client has read by then; empty: nothing came
}

// moments are the moments in which a client waits for its agent.
var moments = []moment{
	{name: "before the first byte", stream: true, agent: "it", serve: func(v *visit) func() {
		return func() {
			v.open()
			v.chunk(chatScript().first + chatScript().rest)
			v.end()
		}
	}},
	{name: "held back", stream: true, agent: "it", serve: func(v *visit) func() {
		v.open()
		v.chunk(": hello\n\n")
		return func() {
			v.chunk(chatScript().first + chatScript().rest)
			v.end()
		}
	}},
	{name: "mid-stream", stream: true, agent: "it", reads: "one", serve: func(v *visit) func() {
		v.open()
		v.chunk(chatScript().first)
		return func() {
			v.chunk(chatScript().rest)
			v.end()
		}
	}},
	{name: "JSON", agent: "it", serve: func(v *visit) func() {
		return func() { v.json(200, chatScript().body) }
	}},
	{name: "half of the JSON", agent: "it", serve: func(v *visit) func() {
		body := chatScript().body
		fmt.Fprintf(v.conn, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body[:40])
		return func() { _, _ = io.WriteString(v.conn, body[40:]) }
	}},
	{name: "JSON from a stream", agent: "it", serve: func(v *visit) func() {
		v.open()
		v.chunk(chatScript().first)
		return func() {
			v.chunk(chatScript().rest)
			v.end()
		}
	}},
	{name: "translated JSON from a stream", agent: "cycls", serve: func(v *visit) func() {
		v.open()
		v.chunk(backendScripts[5].first)
		return func() {
			v.chunk(backendScripts[5].rest)
			v.end()
		}
	}},
	{name: "translated stream", stream: true, agent: "cycls", reads: "one", serve: func(v *visit) func() {
		v.open()
		v.chunk(backendScripts[5].first)
		return func() {
			v.chunk(backendScripts[5].rest)
			v.end()
		}
	}},
}

// departureYAML has an agent of each kind that the moments need, at one backend: one whose
// place in line is the only one, and one that is dialled for ever. Each has two replicas: the
// only one is never left alone, whatever it is charged with.
func departureYAML(addr string, more ...string) string {
	const head = "heartbeat: {stream: 0s}"
	s := "limits: {queue: {length: 1024, wait: 60s}}\nserver: {max_connections: 4096}\nagents:\n"
	for _, a := range []string{"it, protocol: chat", "cycls, protocol: cycls, path: /chat", "one, protocol: chat, limits: {concurrent: 1}", "stuck, protocol: chat"} {
		s += "  - {name: " + a + ", urls: [\"http://" + addr + "\", \"http://" + addr + "/twin\"], model: m, " + head
		for _, m := range more {
			s += ", " + m
		}
		s += "}\n"
	}
	return s
}

// agentNamed is the agent of that name.
func (r *running) agentNamed(name string) *agent {
	for _, a := range r.snapshot().agents {
		if a.conf.Name == name {
			return a
		}
	}
	r.t.Fatalf("there is no agent %s", name)
	return nil
}

// waits is how a test meets a backend's visits: by the number at the end of the request's text.
type waits struct {
	mu sync.Mutex
	m  map[string]*meeting
}

type meeting struct {
	here chan struct{} // the backend has done its part so far
	gate chan struct{} // closed: it goes on
	gone chan struct{} // closed: it saw the connection's end
}

func (w *waits) at(key string) *meeting {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.m == nil {
		w.m = map[string]*meeting{}
	}
	m := w.m[key]
	if m == nil {
		m = &meeting{here: make(chan struct{}), gate: make(chan struct{}), gone: make(chan struct{})}
		w.m[key] = m
	}
	return m
}

// textOf is the marked word of a request.
func textOf(body []byte) string {
	_, s, _ := strings.Cut(string(body), "<<")
	s, _, _ = strings.Cut(s, ">>")
	return s
}

func askMarked(agent, mark string, stream bool) string {
	return `{"model":"` + agent + `","stream":` + boolText(stream) + `,"messages":[{"role":"user","content":"<<` + mark + `>>"}]}`
}

// TestEveryDepartureReachesTheBackend has the client leave in every way, at every moment, over
// everything that it may come by: the backend sees the end of its connection, and the log says
// who left.
func TestEveryDepartureReachesTheBackend(t *testing.T) {
	t.Parallel()
	for _, wire := range []string{"tcp", "unix", "tls"} {
		t.Run(wire, func(t *testing.T) {
			t.Parallel()
			var meet waits
			back := stage(t, func(v *visit) {
				mark := textOf(v.body)
				n, _ := strconv.Atoi(mark[:strings.IndexByte(mark, '.')])
				moments[n].serve(v)
				m := meet.at(mark)
				close(m.here)
				v.gone()
				close(m.gone)
			})
			r := startOver(t, wire, departureYAML(back.addr))
			left := 0
			var wg sync.WaitGroup
			for i, s := range moments {
				for j, w := range ways {
					if w.only != "" && w.only != wire {
						continue
					}
					left++
					wg.Go(func() {
						what := s.name + ", " + w.name
						mark := fmt.Sprintf("%d.%d", i, j)
						m := meet.at(mark)
						c := r.dialBare()
						defer c.Close()
						c.send("POST", "/v1/chat/completions", askMarked(s.agent, mark, s.stream), "")
						if !inTime(m.here) {
							t.Errorf("%s: the backend was not asked", what)
							return
						}
						if s.reads != "" {
							until(t, c.response().Body, s.reads)
						}
						w.leave(c)
						if !inTime(m.gone) {
							t.Errorf("%s: the backend's connection stayed open", what)
						}
					})
				}
			}
			wg.Wait()
			r.waitLog(left)
			for _, l := range r.logs.FilterMessage("request").All() {
				if m := l.ContextMap(); m["outcome"] != "client_gone" || m["status"] != int64(499) {
					t.Errorf("logged %v", m)
				}
			}
			for _, name := range []string{"it", "cycls"} {
				notCharged(t, r.agentNamed(name))
			}
		})
	}
}

// inTime reports whether something happened in time.
func inTime(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	case <-time.After(longest):
		return false
	}
}

// notCharged fails the test if an agent's health suffered, or somebody still has a place at it.
func notCharged(t *testing.T, a *agent) {
	t.Helper()
	for _, m := range a.set.Members() {
		waitFor(t, "an idle member", func() bool { return m.Running() == 0 })
		if m.State() != balance.Closed {
			t.Errorf("what was not its fault was charged to %s of %s: %v", m.Name(), a.conf.Name, m.State())
		}
	}
}

// TestDepartureInLine leaves while waiting for a place: the agent is never asked, and the next in
// line is served.
func TestDepartureInLine(t *testing.T) {
	t.Parallel()
	for _, wire := range []string{"tcp", "unix", "tls"} {
		t.Run(wire, func(t *testing.T) {
			t.Parallel()
			var meet waits
			back := stage(t, func(v *visit) {
				m := meet.at(textOf(v.body))
				close(m.here)
				<-m.gate
				answerWhole(v)
			})
			r := startOver(t, wire, departureYAML(back.addr))
			holder := r.dial()
			holder.send("POST", "/v1/chat/completions", askMarked("one", "holder", false), "")
			if !inTime(meet.at("holder").here) {
				t.Fatal("the first request was not served")
			}
			lines := 0
			for _, w := range ways {
				if w.only != "" && w.only != wire {
					continue
				}
				for _, stream := range []bool{true, false} {
					c := r.dial()
					c.send("POST", "/v1/chat/completions", askMarked("one", "waiting", stream), "")
					r.waitRunning(2)
					w.leave(c)
					lines++
					if line := r.waitLog(lines); line["outcome"] != "client_gone" || line["status"] != int64(499) {
						t.Errorf("%s: logged %v", w.name, line)
					}
				}
			}
			next := r.dial()
			next.send("POST", "/v1/chat/completions", askMarked("one", "next", true), "")
			r.waitRunning(2)
			close(meet.at("next").gate)
			close(meet.at("holder").gate)
			if got := holder.reply(); got.status != 200 {
				t.Errorf("who had the place: %d %s", got.status, got.body)
			}
			if got := next.reply(); !chatWhole(got.body) {
				t.Errorf("the next in line: %d %s", got.status, got.body)
			}
			if n := len(back.seen); n != 2 {
				t.Errorf("the agent was asked %d times, want 2", n)
			}
			notCharged(t, r.agentNamed("one"))
		})
	}
}

// waitRunning waits until n requests are on their way.
func (r *running) waitRunning(n int) {
	r.t.Helper()
	waitFor(r.t, strconv.Itoa(n)+" requests on their way", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return len(r.running) == n
	})
}

// TestDepartureWhileDiallingGivesUp leaves in every way while the connection to the agent is being
// made: the attempt is given up.
func TestDepartureWhileDiallingGivesUp(t *testing.T) {
	t.Parallel()
	for _, wire := range []string{"tcp", "unix", "tls"} {
		t.Run(wire, func(t *testing.T) {
			t.Parallel()
			r := startOver(t, wire, departureYAML("127.0.0.1:1"))
			dialling, given := make(chan struct{}), make(chan struct{})
			stuck := stuckDialer(dialling)
			for _, b := range r.agentNamed("stuck").backends {
				b.origin.dial = func(ctx context.Context) (net.Conn, error) {
					c, err := stuck(ctx)
					given <- struct{}{}
					return c, err
				}
			}
			lines := 0
			for _, w := range ways {
				if w.only != "" && w.only != wire {
					continue
				}
				for _, stream := range []bool{true, false} {
					c := r.dial()
					c.send("POST", "/v1/chat/completions", askMarked("stuck", "x", stream), "")
					<-dialling
					w.leave(c)
					if !inTime(given) {
						t.Fatalf("%s: still dialling", w.name)
					}
					lines++
					if line := r.waitLog(lines); line["outcome"] != "client_gone" || line["status"] != int64(499) {
						t.Errorf("%s: logged %v", w.name, line)
					}
				}
			}
			notCharged(t, r.agentNamed("stuck"))
		})
	}
}

// TestWhoeverSendsMoreHasNotLeft sends, at every moment of a request, another one ahead, half of one,
// or the last word of TLS alone: the answer still comes, and what was sent ahead is served behind it.
func TestWhoeverSendsMoreHasNotLeft(t *testing.T) {
	t.Parallel()
	const ahead = "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
	more := []struct {
		name, only, now, later string
	}{
		{name: "a request", now: ahead},
		{name: "two requests", now: ahead + ahead},
		{name: "half a request", now: ahead[:9], later: ahead[9:]},
		{name: "a byte", now: ahead[:1], later: ahead[1:]},
		{name: "close_notify", only: "tls"},
	}
	for _, wire := range []string{"tcp", "unix", "tls"} {
		t.Run(wire, func(t *testing.T) {
			t.Parallel()
			var meet waits
			back := stage(t, func(v *visit) {
				mark := textOf(v.body)
				n, _ := strconv.Atoi(mark[:strings.IndexByte(mark, '.')])
				rest := moments[n].serve(v)
				m := meet.at(mark)
				close(m.here)
				<-m.gate
				rest()
			})
			r := startOver(t, wire, departureYAML(back.addr))
			var wg sync.WaitGroup
			for i, s := range moments {
				for j, w := range more {
					if w.only != "" && w.only != wire {
						continue
					}
					wg.Go(func() {
						what := s.name + ", " + w.name
						mark := fmt.Sprintf("%d.%d", i, j)
						m := meet.at(mark)
						c := r.dialBare()
						defer c.Close()
						c.send("POST", "/v1/chat/completions", askMarked(s.agent, mark, s.stream), "")
						opened := inTime(m.here)
						if w.now != "" {
							_, _ = io.WriteString(c, w.now)
						} else {
							_ = c.Conn.(*tls.Conn).CloseWrite()
						}
						close(m.gate)
						if !opened {
							t.Errorf("%s: the backend was not asked", what)
							return
						}
						got := c.reply()
						if text := chatText(got.body, s.stream); got.status != 200 || text != "one two" || s.stream && !chatWhole(got.body) {
							t.Errorf("%s: %d %q", what, got.status, got.body)
							return
						}
						if w.now == "" {
							return
						}
						_, _ = io.WriteString(c, w.later)
						for range max(1, strings.Count(w.now, "GET")) {
							if got := c.reply(); got.status != 200 {
								t.Errorf("%s: what was sent ahead: %d %q", what, got.status, got.body)
							}
						}
					})
				}
			}
			wg.Wait()
			for _, l := range r.logs.FilterMessage("request").All() {
				if m := l.ContextMap(); m["outcome"] == "client_gone" || m["outcome"] == "failed" {
					t.Errorf("logged %v", m)
				}
			}
		})
	}
}

// TestDepartureIsSeenAtOnce measures the time from a client's leaving to the end of the backend's
// connection. It only tells (-v): what is asserted elsewhere is that the end comes.
func TestDepartureIsSeenAtOnce(t *testing.T) {
	t.Parallel()
	for _, wire := range []string{"tcp", "unix", "tls"} {
		t.Run(wire, func(t *testing.T) {
			here, gone := make(chan struct{}, 1), make(chan time.Time, 1)
			var s moment
			back := stage(t, func(v *visit) {
				s.serve(v)
				here <- struct{}{}
				v.gone()
				gone <- time.Now()
			})
			r := startOver(t, wire, departureYAML(back.addr))
			for _, s = range []moment{moments[0], moments[2], moments[3]} {
				var all []time.Duration
				for range 100 {
					c := r.dialBare()
					c.send("POST", "/v1/chat/completions", askMarked(s.agent, "x", s.stream), "")
					<-here
					if s.reads != "" {
						until(t, c.response().Body, s.reads)
					}
					at := time.Now()
					_ = c.bare().Close()
					all = append(all, (<-gone).Sub(at))
					<-back.seen
				}
				slices.Sort(all)
				t.Logf("%s: of %d p50 %v, p99 %v, longest %v", s.name, len(all), all[len(all)/2], all[len(all)*99/100], all[len(all)-1])
			}
		})
	}
}
