package proxy

import (
	"context"
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// openDescriptors counts the process's open descriptors, 0 where that cannot be
// told.
func openDescriptors() int {
	names, _ := os.ReadDir("/proc/self/fd")
	return len(names)
}

// liveGoroutines counts goroutines but for fasthttp's workers, of which idle
// ones stay for ten seconds.
func liveGoroutines() int {
	buf := make([]byte, 4<<20)
	n := 0
	for g := range strings.SplitSeq(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
		if !strings.Contains(g, "fasthttp.(*workerPool)") || strings.Contains(g, "dragoman/proxy.") {
			n++
		}
	}
	return n
}

// held is what a proxy holds for its clients.
type held struct{ goroutines, descriptors, running, clients, watched, idle int }

func (r *running) held() held {
	h := held{goroutines: liveGoroutines(), descriptors: openDescriptors(), watched: watchedBy(r.watcher)}
	r.mu.Lock()
	h.running = len(r.running)
	r.mu.Unlock()
	r.ln.mu.Lock()
	h.clients = len(r.ln.conns)
	r.ln.mu.Unlock()
	for _, a := range r.snapshot().agents {
		for _, b := range a.backends {
			h.idle += b.origin.idleConns()
		}
	}
	return h
}

// TestAbandonedRequestsLeakNothing has a thousand clients leave in each of several windows; afterwards
// the proxy holds what it held before. It runs alone: what it counts is the process's.
func TestAbandonedRequestsLeakNothing(t *testing.T) { abandonRequests(t, "tcp", 1000) }

// TestAbandonedTLSRequestsLeakNothing is the same for clients that came by TLS.
func TestAbandonedTLSRequestsLeakNothing(t *testing.T) { abandonRequests(t, "tls", 250) }

// TestAbandonedSocketRequestsLeakNothing is the same for clients that came by a unix socket.
func TestAbandonedSocketRequestsLeakNothing(t *testing.T) { abandonRequests(t, "unix", 250) }

// A window is when a client leaves.
type window struct {
	name, agent string
	stream      bool
	serve       func(v *visit, here func()) // calls here when the client may go; nil: the agent is never asked
	ends        bool                        // it may have had its whole answer by then
}

var windows = []window{
	{name: "silent", agent: "it", stream: true, serve: func(v *visit, here func()) {
		here()
		v.gone()
	}},
	{name: "JSON", agent: "it", serve: func(v *visit, here func()) {
		here()
		v.gone()
	}},
	{name: "opening", agent: "it", stream: true, serve: func(v *visit, here func()) { // held back: nothing has been said
		v.open()
		v.chunk(": hello\n\n")
		here()
		v.gone()
	}},
	{name: "handing", agent: "it", stream: true, serve: func(v *visit, here func()) { // as the stream is handed over
		v.open()
		here()
		v.chunk(chatScript().first)
		v.gone()
	}},
	{name: "middle", agent: "it", stream: true, serve: func(v *visit, _ func()) { // the client itself sees when
		v.open()
		v.chunk(chatScript().first)
		v.gone()
	}},
	{name: "read ahead", agent: "cycls", stream: true, serve: func(v *visit, _ func()) {
		v.open()
		v.chunk(backendScripts[5].first)
		v.gone()
	}},
	{name: "ending", agent: "it", stream: true, ends: true, serve: func(v *visit, here func()) {
		v.open()
		v.chunk(chatScript().first)
		here()
		v.chunk(chatScript().rest)
		v.end()
	}},
	{name: "in line", agent: "one", stream: true},
	{name: "dialling", agent: "stuck", stream: true},
}

func abandonRequests(t *testing.T, wire string, clients int) {
	const together = 125
	var arrived [together]chan struct{} // by the client's number
	for i := range arrived {
		arrived[i] = make(chan struct{}, 1)
	}
	holding := make(chan struct{})
	var back *stagedAgent
	back = stage(t, func(v *visit) {
		<-back.seen // of which there is room for a thousand only
		mark := textOf(v.body)
		n, number, numbered := strings.Cut(mark, ".")
		if mark == "hold" {
			holding <- struct{}{}
			<-holding
		}
		if !numbered {
			answerWhole(v)
			return
		}
		windows[atoi(n)].serve(v, func() { arrived[atoi(number)] <- struct{}{} })
	})
	dialling := make(chan struct{}, together)
	r := startOver(t, wire, departureYAML(back.addr, "keep_alive: 50ms"))
	for _, b := range r.agentNamed("stuck").backends {
		b.origin.dial = stuckDialer(dialling)
	}
	settled := func() held {
		var h held
		waitFor(t, "an idle proxy", func() bool {
			h = r.held()
			return h.running == 0 && h.clients == 0 && h.watched == 0 && h.idle == 0
		})
		return h
	}
	lines := 0
	run := func(number, n int) {
		t.Helper()
		w := windows[number]
		for n > 0 {
			k := min(n, together)
			n -= k
			cs := make([]*client, k)
			var wg sync.WaitGroup
			for i := range cs {
				cs[i] = r.dialBare()
			}
			var holder *client
			if w.name == "in line" { // somebody has the only place
				holder = r.dialBare()
				holder.send("POST", "/v1/chat/completions", askMarked("one", "hold", true), "")
				<-holding
			}
			for i, c := range cs {
				wg.Go(func() {
					c.send("POST", "/v1/chat/completions", askMarked(w.agent, strconv.Itoa(number)+"."+strconv.Itoa(i), w.stream), "")
					switch w.name {
					case "middle", "read ahead":
						until(t, c.response().Body, "one")
					case "dialling", "in line":
						return // all of them at once, below
					default:
						<-arrived[i]
					}
					_ = c.Close()
				})
			}
			wg.Wait()
			switch w.name {
			case "in line":
				r.waitRunning(k + 1)
			case "dialling":
				for range k {
					<-dialling
				}
			}
			for _, c := range cs {
				_ = c.Close()
			}
			lines += k
			waitFor(t, "the log", func() bool { return r.logs.Len() >= lines })
			if holder != nil {
				holding <- struct{}{}
				holder.reply()
				_ = holder.Close()
				lines++
			}
		}
	}
	for i := range windows {
		run(i, together) // what grows once and stays: pools, epoll slots, workers
	}
	before := settled()
	for i, w := range windows {
		run(i, clients)
		var after held
		deadline := time.Now().Add(longest)
		for {
			if after = settled(); after.goroutines <= before.goroutines && after.descriptors <= before.descriptors {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s: before %+v, after %+v", w.name, before, after)
			}
			time.Sleep(time.Millisecond) //nolint:forbidigo // polls for what has no channel
		}
	}
	gone, most := 0, 0
	for _, w := range windows {
		if !w.ends {
			most += clients
		}
	}
	for _, l := range r.logs.FilterMessage("request").All() {
		switch m := l.ContextMap(); m["outcome"] {
		case "client_gone":
			gone++
			if m["status"] != int64(499) {
				t.Errorf("logged %v", m)
			}
		case "completed":
		default:
			t.Errorf("logged %v", m)
		}
	}
	if gone < most {
		t.Errorf("%d departures were logged, want %d at least", gone, most)
	}
	for _, name := range []string{"it", "cycls", "one", "stuck"} {
		notCharged(t, r.agentNamed(name))
	}
	if got := r.post("/v1/chat/completions", askMarked("it", "hello", true), ""); !chatWhole(got.body) {
		t.Errorf("afterwards: %d %q", got.status, got.body)
	}
}

// TestDepartureWhileDialling leaves while the connection to the agent is being
// made, which takes for ever.
func TestDepartureWhileDialling(t *testing.T) {
	t.Parallel()
	r := start(t, agentYAML("chat", "127.0.0.1:1"))
	o := r.first().backends[0].origin
	dialling := make(chan struct{})
	o.dial = stuckDialer(dialling)
	for _, body := range []string{chatHello, chatHelloStream} {
		c := r.dial()
		c.send("POST", "/v1/chat/completions", body, "")
		<-dialling
		_ = c.Close()
	}
	r.waitLog(2)
	for _, l := range r.logs.FilterMessage("request").All() {
		if m := l.ContextMap(); m["outcome"] != "client_gone" || m["status"] != int64(499) {
			t.Errorf("logged %v", m)
		}
	}
}

// stuckDialer says that it was called and then waits until it is given up.
func stuckDialer(called chan<- struct{}) func(context.Context) (net.Conn, error) {
	return func(ctx context.Context) (net.Conn, error) {
		called <- struct{}{}
		<-ctx.Done()
		return nil, ctx.Err()
	}
}
