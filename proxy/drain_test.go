package proxy

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// drained is a client of which a drain must take nothing.
type drained struct {
	name   string
	path   string
	body   string
	stream bool
}

// theDrained have a request each in another phase of its life, and in another mode. The
// word in the text says to the backend what to do.
func theDrained() []drained {
	chat := func(text string, stream bool) drained {
		body := strings.Replace(chatHello, "hello", text, 1)
		if stream {
			body = strings.Replace(chatHelloStream, "hello", text, 1)
		}
		return drained{text, "/agents/it/v1/chat/completions", body, stream}
	}
	line := chat("in line", true)
	line.path = "/agents/narrow/v1/chat/completions"
	return []drained{
		chat("thinks", false), chat("thinks before a stream", true), chat("opens", true), chat("speaks", true), chat("speaks to a folder", false),
		{"responses", "/agents/it/v1/responses", `{"model":"it","input":"speaks","stream":true}`, true},
		{"batch", "/v1/agent/batch/completions", batchOf("it: thinks", "it: thinks too"), false},
		line,
	}
}

// drainStage is a backend for them; it goes on when gate opens. arrived is told of each
// request that has come to its phase.
func drainStage(t *testing.T, arrived chan<- string, gate <-chan struct{}) *stagedAgent {
	return stage(t, func(v *visit) {
		body := string(v.body)
		streams := strings.Contains(body, `"stream":true`)
		wait := func() bool {
			gone := make(chan struct{})
			arrived <- body
			_ = v.conn.SetReadDeadline(time.Now().Add(longest))
			go func() {
				defer close(gone)
				_, _ = v.conn.Read(make([]byte, 1))
			}()
			select {
			case <-gate:
				_ = v.conn.SetReadDeadline(time.Unix(1, 0))
				<-gone
				_ = v.conn.SetReadDeadline(time.Time{})
				return true
			case <-gone:
				v.hangs = true
				return false
			}
		}
		switch {
		case strings.Contains(body, "thinks"):
			if wait() {
				answerWhole(v)
			}
			return
		case strings.Contains(body, "opens"):
			v.open()
			v.chunk(": hello\n\n")
		default:
			v.open()
			v.chunk(chatScript().first)
			if wait() {
				v.chunk(chatScript().rest)
				v.end()
			}
			return
		}
		if wait() && streams {
			v.chunk(chatScript().first + chatScript().rest)
			v.end()
		}
	})
}

// TestDrainTakesNothingFromAnybody ends the proxy while there is a client in every
// phase of a request, on every wire: those whose agents finish in time get their whole
// answer, and when time is over the rest are told so in their own protocol.
func TestDrainTakesNothingFromAnybody(t *testing.T) {
	t.Parallel()
	overEveryWire(t, func(t *testing.T, start starter) {
		for _, inTime := range []bool{true, false} {
			t.Run(fmt.Sprintf("in time %v", inTime), func(t *testing.T) {
				t.Parallel()
				arrived, gate := make(chan string, 1000), make(chan struct{})
				back := drainStage(t, arrived, gate)
				url := "http://" + back.addr
				r := start(t, "limits: {queue: {length: 1000, wait: 1m}}\nagents:\n"+
					"  - {name: it, aliases: [\"*\"], protocol: chat, url: \""+url+"\", model: m}\n"+
					"  - {name: narrow, protocol: chat, url: \""+url+"\", model: m, limits: {concurrent: 1}}\n"+
					"  - {name: far, protocol: chat, url: \"http://127.0.0.1:1\", model: m}\n",
					func(s *Server) { s.hold = longest }) // no head goes out before the signal because a machine is slow
				holder := r.dial()
				holder.send("POST", "/agents/narrow/v1/chat/completions", strings.Replace(chatHello, "hello", "thinks", 1), "")
				<-arrived
				const each = 3
				type visitor struct {
					drained
					c *client
				}
				all := []visitor{{drained{name: "holder"}, holder}}
				for range each {
					for _, d := range theDrained() {
						c := r.dial()
						c.send("POST", d.path, d.body, "")
						all = append(all, visitor{d, c})
					}
				}
				for range each * len(theDrained()) { // two of a batch, and none that is in line
					<-arrived
				}
				if !inTime {
					dialling := make(chan struct{})
					r.snapshot().agent("far").backends[0].origin.dial = stuckDialer(dialling)
					for _, body := range []string{chatHello, chatHelloStream} {
						c := r.dial()
						c.send("POST", "/agents/far/v1/chat/completions", body, "")
						all = append(all, visitor{drained{name: "dials"}, c})
						<-dialling
					}
				}
				waitFor(t, "those in line", func() bool { return r.waiting() == each })
				r.Drain()
				ctx, cut := context.WithCancel(context.Background())
				defer cut()
				down := make(chan error, 1)
				go func() { down <- r.Shutdown(ctx) }()
				if inTime {
					close(gate)
				} else {
					defer close(gate)
					cut()
				}
				var wait sync.WaitGroup
				for _, v := range all {
					wait.Go(func() {
						resp := v.c.response()
						b, err := io.ReadAll(resp.Body)
						body := string(b)
						switch told := strings.Contains(body, "shutting") && strings.Contains(body, "down"); {
						case err != nil:
							t.Errorf("%s: %v after %q", v.name, err, body)
						case told == inTime:
							t.Errorf("%s: told %v: %d %q", v.name, told, resp.StatusCode, body)
						case v.stream && resp.StatusCode == 200 && !strings.HasSuffix(strings.TrimRight(body, "\n"), "data: [DONE]") && !strings.Contains(body, "event: response."):
							t.Errorf("%s: no end: %q", v.name, body)
						case !inTime && !v.stream && v.name != "batch" && resp.StatusCode != 503:
							t.Errorf("%s: %d %q", v.name, resp.StatusCode, body)
						case inTime && resp.StatusCode != 200:
							t.Errorf("%s: %d %q", v.name, resp.StatusCode, body)
						}
						before := v.path != "/agents/narrow/v1/chat/completions" && (v.name == "speaks" || v.name == "responses") // its head went out before the signal
						if v.c.ended(); !resp.Close && !before {
							t.Errorf("%s: the answer does not say that the connection closes", v.name)
						}
					})
				}
				wait.Wait()
				if err := <-down; err != nil {
					t.Error(err)
				}
			})
		}
	})
}

// TestDrainGoesOnAccepting: between the signal and the end of accepting newcomers are
// served, and nobody is asked to come again on the same connection.
func TestDrainGoesOnAccepting(t *testing.T) {
	t.Parallel()
	overEveryWire(t, func(t *testing.T, start starter) {
		back := stage(t, answerWhole)
		r := start(t, authYAML("")+agentYAML("chat", back.addr))
		r.Drain()
		r.Drain()
		for _, q := range []struct {
			method, path, body, headers string
			status                      int
		}{
			{"POST", "/v1/chat/completions", chatHello, bearer(goodKey), 200},
			{"POST", "/v1/chat/completions", chatHelloStream, bearer(goodKey), 200},
			{"POST", "/v1/chat/completions", chatHello, "", 401},
			{"GET", "/readyz", "", "", 503},
			{"GET", "/livez", "", "", 200},
		} {
			c := r.dial()
			c.send(q.method, q.path, q.body, q.headers)
			got := c.response()
			_, _ = io.ReadAll(got.Body)
			if got.StatusCode != q.status || !got.Close {
				t.Errorf("%s %s: %d %v", q.method, q.path, got.StatusCode, got.Header)
			}
			c.ended()
		}
	})
}

// TestRequestsBehindTheEndOfAccepting: a request of which a part had come is refused, and
// told when to try again; who waits with nothing said is let go; who sent a request
// behind a stream is answered.
func TestRequestsBehindTheEndOfAccepting(t *testing.T) {
	t.Parallel()
	overEveryWire(t, func(t *testing.T, start starter) {
		gate := make(chan struct{})
		opened := sync.OnceFunc(func() { close(gate) })
		defer opened()
		back := stage(t, func(v *visit) {
			if strings.Contains(string(v.body), "long") {
				v.open()
				v.chunk(chatScript().first)
				<-gate
				v.chunk(chatScript().rest)
				v.end()
				return
			}
			answerWhole(v)
		})
		r := start(t, agentYAML("chat", back.addr))
		long, half, idle := r.dial(), r.dial(), r.dial()
		long.send("POST", "/v1/chat/completions", strings.Replace(chatHelloStream, "hello", "long", 1), "")
		body := long.response().Body
		until(t, body, "one")
		idle.send("GET", "/livez", "", "")
		_ = idle.reply()
		_, _ = io.WriteString(half, "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: app")
		waitFor(t, "half a head", func() bool {
			r.ln.mu.Lock()
			defer r.ln.mu.Unlock()
			busy := 0
			for c := range r.ln.conns {
				if !c.waiting.Load() {
					busy++
				}
			}
			return busy == 2
		})
		down := make(chan error, 1)
		go func() { down <- r.Shutdown(context.Background()) }()
		idle.ended() // while the stream goes on
		_, _ = fmt.Fprintf(half, "lication/json\r\nContent-Length: %d\r\n\r\n%s", len(chatHello), chatHello)
		got := half.response()
		b, _ := io.ReadAll(got.Body)
		if got.StatusCode != 503 || !got.Close || got.Header.Get("Retry-After") == "" || !strings.Contains(string(b), "shutting_down") {
			t.Errorf("%d %v %s", got.StatusCode, got.Header, b)
		}
		half.ended()
		opened()
		if rest, err := io.ReadAll(body); err != nil || !strings.HasSuffix(string(rest), "data: [DONE]\n\n") {
			t.Errorf("%v %q", err, rest)
		}
		if err := <-down; err != nil {
			t.Error(err)
		}
	})
}

// TestRequestSentAheadIsServedWhileDraining: its stream's head went out before the signal,
// and did not say that the connection would close.
func TestRequestSentAheadIsServedWhileDraining(t *testing.T) {
	t.Parallel()
	overEveryWire(t, func(t *testing.T, start starter) {
		gate := make(chan struct{})
		back := stage(t, func(v *visit) {
			if strings.Contains(string(v.body), "long") {
				v.open()
				v.chunk(chatScript().first)
				<-gate
				v.chunk(chatScript().rest)
				v.end()
				return
			}
			answerWhole(v)
		})
		r := start(t, agentYAML("chat", back.addr))
		c := r.dial()
		c.send("POST", "/v1/chat/completions", strings.Replace(chatHelloStream, "hello", "long", 1), "")
		body := c.response().Body
		until(t, body, "one")
		c.send("POST", "/v1/chat/completions", chatHello, "")
		r.Drain()
		close(gate)
		if rest, err := io.ReadAll(body); err != nil || !strings.HasSuffix(string(rest), "data: [DONE]\n\n") {
			t.Errorf("%v %q", err, rest)
		}
		if got := c.response(); got.StatusCode != 200 || !got.Close {
			t.Errorf("%d %v", got.StatusCode, got.Header)
		} else if b, err := io.ReadAll(got.Body); err != nil || chatText(string(b), false) != "one two" {
			t.Errorf("%v %q", err, b)
		}
		c.ended()
	})
}

// TestShutdownIsOverInTime gives it a deadline: a client that reads is told the truth
// before, and one that does not read keeps nobody.
func TestShutdownIsOverInTime(t *testing.T) {
	t.Parallel()
	overEveryWire(t, func(t *testing.T, start starter) {
		reading := make(chan struct{})
		back := stage(t, func(v *visit) {
			v.open()
			if strings.Contains(string(v.body), "stalls") {
				flood := strings.Replace(chatScript().first, "one", strings.Repeat("x", 32<<10), 1)
				for {
					_ = v.conn.SetWriteDeadline(time.Now().Add(500 * time.Millisecond))
					if _, err := fmt.Fprintf(v.conn, "%x\r\n%s\r\n", len(flood), flood); err != nil {
						break // nothing is taken any more
					}
				}
				close(reading)
				v.hangs = true
				return
			}
			v.chunk(chatScript().first)
			v.gone()
		})
		r := start(t, agentYAML("chat", back.addr))
		reader, stalled := r.dial(), r.dial()
		reader.send("POST", "/v1/chat/completions", chatHelloStream, "")
		body := reader.response().Body
		until(t, body, "one")
		stalled.send("POST", "/v1/chat/completions", strings.Replace(chatHelloStream, "hello", "stalls", 1), "")
		<-reading
		const drain, slack = 4 * time.Second, longest / 2 // a machine may stand still for a while; what a stalled client would cost is longest
		began := time.Now()
		r.Drain()
		ctx, cancel := context.WithDeadline(context.Background(), began.Add(drain))
		defer cancel()
		down := make(chan error, 1)
		go func() { down <- r.Shutdown(ctx) }()
		rest, err := io.ReadAll(body)
		if took := time.Since(began); err != nil || !strings.Contains(string(rest), "shutting_down") || took > drain+slack || took < drain/2 {
			t.Errorf("after %v: %v %q", took, err, rest)
		}
		if err := <-down; err != nil {
			t.Error(err)
		}
		if took := time.Since(began); took > drain+slack {
			t.Errorf("it took %v of %v", took, drain)
		}
	})
}

// TestPendingRequestsAreNotHungUpOn: idle connections are closed, but not one on which a
// request has arrived that nobody has read.
func TestPendingRequestsAreNotHungUpOn(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := newListener(ln, 2, time.Second, nil)
	defer l.Close()
	var theirs [2]net.Conn
	var ours [2]*clientConn
	for i := range ours {
		theirs[i], ours[i] = accepted(t, l)
	}
	_, _ = io.WriteString(theirs[1], "GET")
	waitFor(t, "the request", func() bool { return pending(ours[1].raw) })
	l.hangUp(false)
	if _, err := theirs[0].Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the idle one: %v", err)
	}
	b := make([]byte, 3)
	if _, err := io.ReadFull(ours[1], b); err != nil || string(b) != "GET" {
		t.Errorf("the other one: %q %v", b, err)
	}
}

// TestTimeIsLeftToTellTheTruth: two seconds, or a quarter of a short drain.
func TestTimeIsLeftToTellTheTruth(t *testing.T) {
	t.Parallel()
	since := time.Now()
	for drain, want := range map[time.Duration]time.Duration{
		25 * time.Second: 23 * time.Second, 8 * time.Second: 6 * time.Second, 4 * time.Second: 3 * time.Second, time.Second: 750 * time.Millisecond, 0: 0,
	} {
		if got := cutTime(since, since.Add(drain)).Sub(since); got != want {
			t.Errorf("drain %v: cut after %v, want %v", drain, got, want)
		}
	}
}
