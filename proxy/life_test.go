package proxy

import (
	"context"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"
)

const chatHello = `{"model":"it","messages":[{"role":"user","content":"hello"}]}`
const chatHelloStream = `{"model":"it","stream":true,"messages":[{"role":"user","content":"hello"}]}`

func chatScript() script { return backendScripts[0] }

// TestClientDisconnectCancelsUpstream has the client leave before the first
// byte, in mid-stream, and while a JSON answer is awaited.
func TestClientDisconnectCancelsUpstream(t *testing.T) {
	t.Parallel()
	overEveryWire(t, func(t *testing.T, start starter) {
		for _, window := range []string{"before the first byte", "mid-stream", "JSON", "JSON from a stream"} {
			t.Run(window, func(t *testing.T) {
				t.Parallel()
				arrived := make(chan struct{})
				left := make(chan struct{})
				back := stage(t, func(v *visit) {
					if window == "mid-stream" || window == "JSON from a stream" {
						v.open()
						v.chunk(chatScript().first)
					}
					close(arrived)
					v.gone()
					close(left)
				})
				r := start(t, agentYAML("chat", back.addr))
				c := r.dial()
				body := chatHello
				if !strings.HasPrefix(window, "JSON") {
					body = chatHelloStream
				}
				c.send("POST", "/v1/chat/completions", body, "")
				<-arrived
				if window == "mid-stream" {
					until(t, c.response().Body, "one")
				}
				_ = c.Close()
				select {
				case <-left:
				case <-time.After(longest):
					t.Fatal("the backend's connection stayed open")
				}
				if line := r.waitLog(1); line["outcome"] != "client_gone" || line["status"] != int64(499) {
					t.Errorf("logged %v", line)
				}
			})
		}
	})
}

// TestConnectionReturnsAfterStream alternates streams and JSON on one
// connection, with requests sent ahead.
func TestConnectionReturnsAfterStream(t *testing.T) {
	t.Parallel()
	overEveryWire(t, func(t *testing.T, start starter) {
		back := stage(t, func(v *visit) {
			if strings.Contains(string(v.body), `"stream":true`) {
				v.open()
				v.chunk(chatScript().first)
				v.chunk(chatScript().rest)
				v.end()
				return
			}
			v.json(200, chatScript().body)
		})
		r := start(t, agentYAML("chat", back.addr))
		c := r.dial()
		for range 10 {
			c.send("POST", "/v1/chat/completions", chatHelloStream, "")
			c.send("POST", "/v1/chat/completions", chatHello, "") // ahead of the answer
			if got := c.reply(); !chatWhole(got.body) || chatText(got.body, true) != "one two" {
				t.Fatalf("stream: %q", got.body)
			}
			if got := c.reply(); got.status != 200 || chatText(got.body, false) != "one two" {
				t.Fatalf("JSON: %d %q", got.status, got.body)
			}
		}
		r.waitLog(20)
		accepted := map[net.Conn]bool{}
		for range 20 {
			v := <-back.seen
			accepted[v.conn] = true
		}
		if len(accepted) > 2 {
			t.Errorf("%d connections to the backend for 20 requests in turn", len(accepted))
		}
	})
}

// TestOldClientsGetStreams speaks HTTP/1.0 and Connection: close.
func TestOldClientsGetStreams(t *testing.T) {
	t.Parallel()
	overEveryWire(t, func(t *testing.T, start starter) {
		next := make(chan struct{})
		back := stage(t, func(v *visit) {
			v.open()
			v.chunk(chatScript().first)
			<-next // the client has it: the rest is a write of its own
			v.chunk(chatScript().rest)
			v.end()
		})
		r := start(t, agentYAML("responses", back.addr, "")+"  - {name: old, protocol: chat, url: \"http://"+back.addr+"\", model: m}\n")
		for _, proto := range []string{"HTTP/1.0\r\n", "HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"} {
			c := r.dial()
			_, _ = io.WriteString(c, "POST /agents/old/v1/chat/completions "+proto+"Content-Type: application/json\r\nContent-Length: "+itoa(len(chatHelloStream))+"\r\n\r\n"+chatHelloStream)
			resp := c.response()
			got := until(t, resp.Body, "one")
			next <- struct{}{}
			b, err := io.ReadAll(resp.Body)
			if got += string(b); err != nil || got != chatScript().first+chatScript().rest {
				t.Errorf("%q: %v: %q", proto, err, got)
			}
			if strings.HasPrefix(proto, "HTTP/1.0") && len(resp.TransferEncoding) > 0 {
				t.Error("chunks for HTTP/1.0")
			}
			if _, err := c.r.ReadByte(); err != io.EOF {
				t.Errorf("%q: the connection stays open: %v", proto, err)
			}
		}
	})
}

func itoa(n int) string {
	if n == 0 {
		return "0"
	}
	s := ""
	for ; n > 0; n /= 10 {
		s = string(rune('0'+n%10)) + s
	}
	return s
}

// TestRequestIsNotSentTwice has the backend read the request and die.
func TestRequestIsNotSentTwice(t *testing.T) {
	t.Parallel()
	first := true
	back := stage(t, func(v *visit) {
		if first {
			first = false
			v.json(200, chatScript().body) // leaves a connection in the pool
			return
		}
		v.hangs = true
	})
	r := start(t, agentYAML("chat", back.addr))
	if got := r.post("/v1/chat/completions", chatHello, ""); got.status != 200 {
		t.Fatal(got)
	}
	got := r.post("/v1/chat/completions", chatHello, "")
	if got.status != 502 || got.header.Get("X-Should-Retry") != "false" {
		t.Errorf("status %d: %v %s", got.status, got.header, got.body)
	}
	if n := len(back.seen); n != 2 {
		t.Errorf("the backend was sent %d requests, want 2", n)
	}
}

// TestSilentBackendTimesOut lets each limit of a request to a backend pass.
func TestSilentBackendTimesOut(t *testing.T) {
	t.Parallel()
	back := stage(t, func(v *visit) {
		if strings.Contains(string(v.body), "first byte") {
			v.gone()
			return
		}
		v.open()
		v.chunk(chatScript().first)
		if strings.Contains(string(v.body), "total") {
			for {
				if _, err := io.WriteString(v.conn, "8\r\n: ping\n\n\r\n"); err != nil {
					v.hangs = true
					return
				}
				time.Sleep(time.Millisecond) //nolint:forbidigo // a backend that babbles
			}
		}
		v.gone()
	})
	// Each limit has a proxy of its own, so that a slow machine meets no other.
	ask := func(which, limit string) (*running, reply) {
		r := start(t, agentYAML("chat", back.addr, "timeouts: {"+limit+"}"))
		return r, r.post("/v1/chat/completions", `{"model":"it","stream":true,"messages":[{"role":"user","content":"`+which+`"}]}`, "")
	}
	r, got := ask("first byte", "first_byte: 100ms")
	if got.status != 504 || got.header.Get("X-Should-Retry") != "false" {
		t.Errorf("first byte: %d %s", got.status, got.body)
	}
	if line := r.waitLog(1); line["outcome"] != "timeout" {
		t.Errorf("logged %v", line)
	}
	for which, limit := range map[string]string{"idle": "idle: 500ms", "total": "total: 1s"} {
		r, got := ask(which, limit)
		if got.status != 200 || !chatFailed(got.body) {
			t.Errorf("%s: %d %q", which, got.status, got.body)
		}
		if line := r.waitLog(1); line["outcome"] != "timeout" {
			t.Errorf("logged %v", line)
		}
	}
}

// TestHeartbeat keeps a silent stream alive with comments.
func TestHeartbeat(t *testing.T) {
	t.Parallel()
	overEveryWire(t, func(t *testing.T, start starter) {
		gate := make(chan struct{})
		back := stage(t, func(v *visit) {
			v.open()
			v.chunk(chatScript().first)
			<-gate
			v.chunk(chatScript().rest)
			v.end()
		})
		r := start(t, strings.Replace(agentYAML("chat", back.addr), "stream: 0s", "stream: 10ms", 1))
		c := r.dial()
		c.send("POST", "/v1/responses", `{"model":"it","input":"hello","stream":true}`, "")
		resp := c.response()
		got := until(t, resp.Body, ": ping\n\n: ping\n\n")
		close(gate)
		rest, _ := io.ReadAll(resp.Body)
		if got += string(rest); !responsesWhole(got) || responsesText(got, true) != "one two" {
			t.Errorf("%q", got)
		}
	})
}

// TestShutdownTellsTheTruth cuts a stream that outlives the drain, and lets one
// end that does not.
func TestShutdownTellsTheTruth(t *testing.T) {
	t.Parallel()
	overEveryWire(t, func(t *testing.T, start starter) {
		gate := make(chan struct{})
		back := stage(t, func(v *visit) {
			v.open()
			v.chunk(chatScript().first)
			if strings.Contains(string(v.body), "short") {
				<-gate
				v.chunk(chatScript().rest)
				v.end()
				return
			}
			v.gone()
		})
		r := start(t, agentYAML("chat", back.addr))
		short, long := r.dial(), r.dial()
		short.send("POST", "/v1/chat/completions", strings.Replace(chatHelloStream, "hello", "short", 1), "")
		shortBody := short.response().Body
		until(t, shortBody, "one")
		long.send("POST", "/v1/chat/completions", chatHelloStream, "")
		longBody := long.response().Body
		until(t, longBody, "one")
		if got := r.get("/readyz"); got.status != 200 {
			t.Errorf("ready before: %d", got.status)
		}

		ctx, cancel := context.WithCancel(context.Background())
		down := make(chan error)
		go func() { down <- r.Shutdown(ctx) }()
		close(gate)
		rest, err := io.ReadAll(shortBody)
		if err != nil || !strings.Contains(string(rest), "[DONE]") || !strings.Contains(string(rest), `"finish_reason":"stop"`) {
			t.Errorf("a stream that ends in time: %v %q", err, rest)
		}
		for deadline := time.Now().Add(longest); ; time.Sleep(time.Millisecond) { //nolint:forbidigo // polls for what has no channel
			c, err := net.Dial(r.network, r.addr)
			if err != nil {
				break
			}
			_ = c.Close()
			if time.Now().After(deadline) {
				t.Error("still accepting")
				break
			}
		}
		r.waitLog(1) // the line of the one that ended comes first
		cancel()
		rest, err = io.ReadAll(longBody)
		if err != nil || !strings.Contains(string(rest), `"code":"shutting_down"`) || !strings.HasSuffix(string(rest), "data: [DONE]\n\n") {
			t.Errorf("a stream that is cut: %v %q", err, rest)
		}
		if err := <-down; err != nil {
			t.Error(err)
		}
		if line := r.waitLog(2); line["outcome"] != "shutdown" {
			t.Errorf("logged %v", line)
		}
	})
}

// fakeListener fails as it is told and then gives connections.
type fakeListener struct {
	net.Listener
	errs []error
}

func (l *fakeListener) Accept() (net.Conn, error) {
	if len(l.errs) > 0 {
		err := l.errs[0]
		l.errs = l.errs[1:]
		return nil, err
	}
	return l.Listener.Accept()
}

// TestAcceptSurvivesEMFILE runs out of descriptors for a while.
func TestAcceptSurvivesEMFILE(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	emfile := &net.OpError{Op: "accept", Err: syscall.EMFILE}
	l := newListener(&fakeListener{ln, []error{emfile, emfile, &net.OpError{Op: "accept", Err: syscall.ECONNABORTED}}}, 1, time.Second, zap.NewNop())
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	got, err := l.Accept()
	if err != nil {
		t.Fatalf("accept gave up: %v", err)
	}
	// At the limit nobody is accepted until a connection ends.
	second := make(chan error, 1)
	go func() {
		c, err := l.Accept()
		if err == nil {
			_ = c.Close()
		}
		second <- err
	}()
	c2, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c2.Close()
	select {
	case err := <-second:
		t.Fatalf("accepted beyond the limit: %v", err)
	default:
	}
	_ = got.Close()
	_ = got.Close() // twice gives one slot back
	if err := <-second; err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	if _, err := l.Accept(); err == nil {
		t.Error("accepted after close")
	}
}

// TestClosingOnTheLastEventIsNoDeparture has the client close when it has read
// the end of the stream, while the backend's body is still open.
func TestClosingOnTheLastEventIsNoDeparture(t *testing.T) {
	t.Parallel()
	overEveryWire(t, func(t *testing.T, start starter) {
		for _, first := range []bool{true, false} { // the end comes with the first event, or after it
			gate := make(chan struct{})
			back := stage(t, func(v *visit) {
				v.open()
				if first {
					v.chunk(chatScript().first + chatScript().rest)
				} else {
					v.chunk(chatScript().first)
					<-gate
					v.chunk(chatScript().rest)
				}
				v.gone()
			})
			r := start(t, agentYAML("chat", back.addr))
			c := r.dial()
			c.send("POST", "/v1/chat/completions", chatHelloStream, "")
			body := c.response().Body
			if !first {
				until(t, body, "one")
				close(gate)
			}
			until(t, body, "[DONE]")
			_ = c.Close()
			if line := r.waitLog(1); line["outcome"] != "completed" || line["status"] != int64(200) {
				t.Errorf("logged %v", line)
			}
		}
	})
}
