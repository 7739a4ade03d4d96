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

	"github.com/tidwall/gjson"
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

// TestAbandonedRequestsLeakNothing has three hundred clients leave in each of
// several windows; afterwards the proxy holds what it held before. It runs
// alone: what it counts is the process's.
func TestAbandonedRequestsLeakNothing(t *testing.T) { abandonRequests(t, "tcp") }

// TestAbandonedTLSRequestsLeakNothing is the same for clients that came by TLS.
func TestAbandonedTLSRequestsLeakNothing(t *testing.T) { abandonRequests(t, "tls") }

func abandonRequests(t *testing.T, wire string) {
	const clients, together = 300, 25
	var arrived [together]chan struct{} // by the client's number, which its text ends in
	for i := range arrived {
		arrived[i] = make(chan struct{}, 1)
	}
	here := func(v *visit) {
		_, number, _ := strings.Cut(gjson.GetBytes(v.body, "messages.0.content").String(), " ")
		n, err := strconv.Atoi(number)
		if err != nil {
			t.Error(err)
			return
		}
		arrived[n] <- struct{}{}
	}
	var back *stagedAgent
	back = stage(t, func(v *visit) {
		<-back.seen // of which there is room for a thousand only
		body := string(v.body)
		switch {
		case strings.Contains(body, "silent"):
			here(v)
			v.gone()
		case strings.Contains(body, "opening"): // held back: nothing has been said
			v.open()
			v.chunk(": hello\n\n")
			here(v)
			v.gone()
		case strings.Contains(body, "handing"): // the client leaves as the stream is handed over
			v.open()
			here(v)
			v.chunk(chatScript().first)
			v.gone()
		case strings.Contains(body, "middle"):
			v.open()
			v.chunk(chatScript().first)
			v.gone()
		case strings.Contains(body, "ending"): // or as it ends
			v.open()
			v.chunk(chatScript().first)
			here(v)
			v.chunk(chatScript().rest)
			v.end()
		default:
			answerWhole(v)
		}
	})
	r := startOver(t, wire, agentYAML("chat", back.addr, "keep_alive: 50ms"))
	ask := func(text string) string { return strings.Replace(chatHelloStream, "hello", text, 1) }
	settled := func() held {
		var h held
		waitFor(t, "an idle proxy", func() bool {
			h = r.held()
			return h.running == 0 && h.clients == 0 && h.watched == 0 && h.idle == 0
		})
		return h
	}
	lines := 0
	run := func(text string, n int) {
		t.Helper()
		for n > 0 {
			k := min(n, together)
			n -= k
			cs := make([]*client, k)
			var wg sync.WaitGroup
			for i := range cs {
				cs[i] = r.dialBare()
			}
			for i, c := range cs {
				wg.Go(func() {
					c.send("POST", "/v1/chat/completions", ask(text+" "+strconv.Itoa(i)), "")
					if text == "middle" {
						until(t, c.response().Body, "one")
					} else {
						<-arrived[i]
					}
					_ = c.Close()
				})
			}
			wg.Wait()
			lines += k
			r.waitLog(lines)
		}
	}
	windows := []string{"silent", "opening", "handing", "middle", "ending"}
	for _, w := range windows {
		run(w, together) // what grows once and stays: pools, epoll slots, workers
	}
	r.waitLog(lines)
	before := settled()
	for _, w := range windows {
		run(w, clients)
		var after held
		deadline := time.Now().Add(longest)
		for {
			if after = settled(); after.goroutines <= before.goroutines && after.descriptors <= before.descriptors {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s: before %+v, after %+v", w, before, after)
			}
			time.Sleep(time.Millisecond) //nolint:forbidigo // polls for what has no channel
		}
	}
	gone := 0
	for _, l := range r.logs.FilterMessage("request").All() {
		switch o := l.ContextMap()["outcome"]; o {
		case "client_gone":
			gone++
		case "completed":
		default:
			t.Errorf("logged %v", l.ContextMap())
		}
	}
	if gone < 3*clients {
		t.Errorf("%d departures were logged", gone)
	}
	if got := r.post("/v1/chat/completions", ask("hello"), ""); !chatWhole(got.body) {
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
