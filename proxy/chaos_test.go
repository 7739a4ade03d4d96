package proxy

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/tidwall/gjson"

	"github.com/dragoman-proxy/dragoman/translate"
)

// withServer puts settings of the server before a configuration of agents.
func withServer(settings, yaml string) string { return "server: {" + settings + "}\n" + yaml }

// answerWhole serves the chat script in the mode that was asked for.
func answerWhole(v *visit) {
	if !strings.Contains(string(v.body), `"stream":true`) {
		v.json(200, chatScript().body)
		return
	}
	v.open()
	v.chunk(chatScript().first + chatScript().rest)
	v.end()
}

// still fails the test if the connection ends or yields something within d.
func (c *client) still(d time.Duration) {
	c.t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(d))
	if b, err := c.r.ReadByte(); !errors.Is(err, os.ErrDeadlineExceeded) {
		c.t.Errorf("an idle connection got %q, %v", b, err)
	}
	_ = c.SetReadDeadline(time.Now().Add(longest))
}

// ended fails the test if the connection goes on.
func (c *client) ended() {
	c.t.Helper()
	if b, err := c.r.ReadByte(); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		c.t.Errorf("the connection goes on: %q, %v", b, err)
	}
}

// waitFor polls for what has no channel.
func waitFor(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(longest); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain: %s", what)
		}
		time.Sleep(time.Millisecond) //nolint:forbidigo // polls for what has no channel
	}
}

// TestHeaderNamesHaveNoCase sends the headers that mean something in lower case,
// as fetch does.
func TestHeaderNamesHaveNoCase(t *testing.T) {
	t.Parallel()
	back := stage(t, func(v *visit) {
		v.open()
		v.chunk(backendScripts[5].first + backendScripts[5].rest)
		v.end()
	})
	r := start(t, agentYAML("cycls", back.addr))
	got := r.post("/chat/cycls", `{"messages":[{"role":"user","content":"hello"}]}`, "accept: application/json\r\nx-request-id: mine-1\r\n")
	if got.status != 200 || got.header.Get("X-Request-Id") != "mine-1" || !gjson.Get(got.body, "parts").IsArray() {
		t.Errorf("accept, x-request-id: %d %v %s", got.status, got.header, got.body)
	}
	body := `{"model":"it","messages":[{"role":"user","content":"hello"}],"seed":1}`
	if got := r.post("/v1/chat/completions", body, "dragoman-strict: true\r\n"); got.status != 400 {
		t.Errorf("dragoman-strict: %d", got.status)
	}
	if got := r.post("/v1/chat/completions", body, "content-encoding: gzip\r\n"); got.status != 415 {
		t.Errorf("content-encoding: %d", got.status)
	}
	c := r.dial()
	c.send("POST", "/v1/chat/completions", body, "connection: close\r\n")
	if got := c.reply(); got.status != 200 {
		t.Errorf("connection: %d", got.status)
	}
	c.ended()
}

// TestIdleTimeAfterStream leaves a connection idle after a stream for longer
// than a request's head may take.
func TestIdleTimeAfterStream(t *testing.T) {
	t.Parallel()
	overEveryWire(t, func(t *testing.T, start starter) {
		back := stage(t, answerWhole)
		r := start(t, withServer("timeouts: {header: 400ms, idle: 20s}", agentYAML("chat", back.addr)))
		c := r.dial()
		for range 2 {
			c.send("POST", "/v1/chat/completions", chatHelloStream, "")
			if got := c.reply(); !chatWhole(got.body) {
				t.Fatalf("%d %q", got.status, got.body)
			}
			c.still(900 * time.Millisecond)
		}
		// The idle time ends all the same.
		r = start(t, withServer("timeouts: {header: 5s, idle: 40ms}", agentYAML("chat", back.addr)))
		c = r.dial()
		c.send("POST", "/v1/chat/completions", chatHelloStream, "")
		c.reply()
		c.ended()
	})
}

// TestDepartureIsSeenAfterManyStreams leaves in the last of many streams on one
// connection: what the connection is wrapped in must not grow.
func TestDepartureIsSeenAfterManyStreams(t *testing.T) {
	t.Parallel()
	overEveryWire(t, func(t *testing.T, start starter) {
		left := make(chan struct{})
		back := stage(t, func(v *visit) {
			if strings.Contains(string(v.body), "leave") {
				v.open()
				v.chunk(chatScript().first)
				v.gone()
				close(left)
				return
			}
			answerWhole(v)
		})
		r := start(t, agentYAML("chat", back.addr))
		c := r.dial()
		for i := range 24 {
			c.send("POST", "/v1/chat/completions", chatHelloStream, "")
			if i%2 == 0 {
				c.send("POST", "/v1/chat/completions", chatHelloStream, "") // ahead
				c.reply()
			}
			if got := c.reply(); !chatWhole(got.body) {
				t.Fatalf("stream %d: %q", i, got.body)
			}
		}
		c.send("POST", "/v1/chat/completions", strings.Replace(chatHelloStream, "hello", "leave", 1), "")
		until(t, c.response().Body, "one")
		_ = c.Close()
		select {
		case <-left:
		case <-time.After(longest):
			t.Fatal("the departure was not seen")
		}
		if line := r.waitLog(37); line["outcome"] != "client_gone" {
			t.Errorf("logged %v", line)
		}
	})
}

// TestHalfCloseIsLeaving shuts the client's sending side after the request.
func TestHalfCloseIsLeaving(t *testing.T) {
	t.Parallel()
	overEveryWire(t, func(t *testing.T, start starter) {
		for _, body := range []string{chatHello, chatHelloStream} {
			left := make(chan struct{})
			back := stage(t, func(v *visit) {
				if body == chatHelloStream {
					v.open()
					v.chunk(chatScript().first)
				}
				v.gone()
				close(left)
			})
			r := start(t, agentYAML("chat", back.addr))
			c := r.dial()
			c.send("POST", "/v1/chat/completions", body, "")
			v := <-back.seen
			_ = v
			c.halfClose()
			<-left
			if line := r.waitLog(1); line["outcome"] != "client_gone" || line["status"] != int64(499) {
				t.Errorf("logged %v", line)
			}
			_, _ = io.Copy(io.Discard, c.r) // the proxy closes
		}
	})
}

// TestShutdownWithIdleClients has clients connected that send nothing: new ones,
// and one after a stream.
func TestShutdownWithIdleClients(t *testing.T) {
	t.Parallel()
	overEveryWire(t, func(t *testing.T, start starter) {
		// fasthttp alone would wait for five seconds.
		quick(t, 3*time.Second, func() time.Duration { return shutDownWithIdleClients(t, start) })
	})
}

func shutDownWithIdleClients(t *testing.T, start starter) (took time.Duration) {
	t.Helper()
	back := stage(t, answerWhole)
	r := start(t, agentYAML("chat", back.addr))
	silent, after, json := r.dial(), r.dial(), r.dial()
	after.send("POST", "/v1/chat/completions", chatHelloStream, "")
	after.reply()
	json.send("POST", "/v1/chat/completions", chatHello, "")
	json.reply()
	waitFor(t, "three connections", func() bool {
		r.ln.mu.Lock()
		defer r.ln.mu.Unlock()
		return len(r.ln.conns) == 3
	})
	began := time.Now()
	if err := r.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
	took = time.Since(began)
	for _, c := range []*client{silent, after, json} {
		c.ended()
	}
	if n := len(r.ln.slots); n > 1 { // one may wait in Accept
		t.Errorf("%d slots are taken", n)
	}
	return took
}

// quick fails a test if nothing of several takes less than limit. A machine that stands still for a while makes one slow, not all.
func quick(t *testing.T, limit time.Duration, once func() (took time.Duration)) {
	t.Helper()
	var all []time.Duration
	for range 5 {
		took := once()
		if took < limit {
			return
		}
		all = append(all, took)
	}
	t.Errorf("it took %v", all)
}

// TestShutdownTwice shuts down at once, again, and serves afterwards.
func TestShutdownTwice(t *testing.T) {
	t.Parallel()
	r := start(t, agentYAML("chat", "127.0.0.1:1"))
	errs := make(chan error, 3)
	for range 3 {
		go func() { errs <- r.Shutdown(context.Background()) }()
	}
	for range 3 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Serve(ln); err != nil {
		t.Errorf("serving after the shutdown: %v", err)
	}
	if _, err := ln.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("it listens after the shutdown: %v", err)
	}
	// A connection that comes back from a stream now is closed.
	a, b := net.Pipe()
	r.handBack(a, []byte("GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"))
	if _, err := b.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("a connection was served after the shutdown: %v", err)
	}
	if r.begin(&call{}) {
		t.Error("a request began after the shutdown")
	}
}

// TestAnswersWhileDrainingSayClose sends requests of all sorts on connections
// that are open when the drain begins.
func TestAnswersWhileDrainingSayClose(t *testing.T) {
	t.Parallel()
	overEveryWire(t, func(t *testing.T, start starter) {
		gate, begun := make(chan struct{}), make(chan struct{}, 1)
		back := stage(t, func(v *visit) {
			goOn := gate
			switch {
			case strings.Contains(string(v.body), "long"):
			case strings.Contains(string(v.body), "slow"):
				goOn = begun
			case strings.Contains(string(v.body), "large"):
				v.json(200, strings.Replace(chatScript().body, "one two", strings.Repeat("x", 2*ownWrite), 1))
				return
			default:
				answerWhole(v)
				return
			}
			v.open()
			v.chunk(chatScript().first)
			<-goOn
			v.chunk(chatScript().rest)
			v.end()
		})
		r := start(t, agentYAML("chat", back.addr))
		long := r.dial()
		long.send("POST", "/v1/chat/completions", strings.Replace(chatHelloStream, "hello", "long", 1), "")
		longBody := long.response().Body
		until(t, longBody, "one")
		requests := []struct {
			method, path, body string
			status             int
		}{
			{"POST", "/v1/chat/completions", chatHello, 200},
			{"POST", "/v1/chat/completions", chatHelloStream, 200},
			{"POST", "/v1/chat/completions", strings.Replace(chatHelloStream, "hello", "slow", 1), 200},
			{"POST", "/v1/chat/completions", strings.Replace(chatHello, "hello", "large", 1), 200},
			{"POST", "/v1/chat/completions", "{", 400},
			{"POST", "/nothing", "{}", 404},
			{"GET", "/v1/models", "", 200},
			{"GET", "/readyz", "", 503},
			{"GET", "/livez", "", 200},
		}
		clients := make([]*client, len(requests))
		for i := range clients {
			clients[i] = r.dial()
			clients[i].send("GET", "/livez", "", "")
			if got := clients[i].reply(); got.status != 200 || got.header.Get("Connection") != "" {
				t.Fatalf("before: %d %v", got.status, got.header)
			}
		}
		r.Drain()
		for i, q := range requests {
			c := clients[i]
			c.send(q.method, q.path, q.body, "")
			resp := c.response()
			if strings.Contains(q.body, "slow") {
				begun <- struct{}{}
			}
			_, _ = io.ReadAll(resp.Body)
			if resp.StatusCode != q.status || !resp.Close {
				t.Errorf("%s %s %s: %d, close %v", q.method, q.path, q.body, resp.StatusCode, resp.Close)
			}
			c.ended()
		}
		down := make(chan error, 1)
		go func() { down <- r.Shutdown(context.Background()) }()
		close(gate)
		if rest, err := io.ReadAll(longBody); err != nil || !strings.HasSuffix(string(rest), "[DONE]\n\n") {
			t.Errorf("%v %q", err, rest)
		}
		if err := <-down; err != nil {
			t.Error(err)
		}
		if n := len(r.logs.FilterMessage("request").All()); n != 8 {
			t.Errorf("%d lines when the shutdown is over, want 8", n) // probes have none
		}
	})
}

// TestNothingBeginsOnceTheRestIsCut keeps a late request from outliving the cut.
func TestNothingBeginsOnceTheRestIsCut(t *testing.T) {
	t.Parallel()
	back := stage(t, func(v *visit) { v.gone() })
	r := start(t, agentYAML("chat", back.addr))
	one := &call{}
	if !r.begin(one) {
		t.Fatal("refused")
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	down := make(chan error, 1)
	go func() { down <- r.Shutdown(ctx) }()
	waitFor(t, "the cut", func() bool { return one.cancel.Err() != nil })
	if r.begin(&call{}) {
		t.Error("a request began after the cut")
	}
	r.end(one)
	if err := <-down; err != nil {
		t.Error(err)
	}
}

// TestLogNamesWhatThisRequestDropped logs fields of many requests at once: each
// line has its own.
func TestLogNamesWhatThisRequestDropped(t *testing.T) {
	t.Parallel()
	back := stage(t, func(v *visit) {
		v.open()
		v.chunk(backendScripts[5].first + backendScripts[5].rest)
		v.end()
	})
	r := start(t, agentYAML("cycls", back.addr))
	fields := []string{"seed", "top_p", "logit_bias", "presence_penalty"}
	const rounds = 15
	done := make(chan struct{})
	for i, f := range fields {
		go func() {
			defer func() { done <- struct{}{} }()
			value := "1"
			if f == "logit_bias" {
				value = `{"1":1}`
			}
			for range rounds {
				r.post("/v1/chat/completions", fmt.Sprintf(`{"model":"it",%s"%s":%s,"messages":[{"role":"user","content":"hello"}],"stream":%v}`,
					strings.Repeat(" ", 40*i), f, value, i%2 == 0), "X-Request-Id: "+f+"\r\n")
			}
		}()
	}
	for range fields {
		<-done
	}
	r.waitLog(rounds * len(fields))
	for _, l := range r.logs.FilterMessage("request").All() {
		m := l.ContextMap()
		got := fmt.Sprint(m["dropped"])
		for _, f := range fields {
			if strings.Contains(got, f) != (f == m["request_id"]) {
				t.Fatalf("%v: dropped %s", m["request_id"], got)
			}
		}
	}
}

// TestOddAnswers has a backend answer in ways that a proxy meets in the wild.
func TestOddAnswers(t *testing.T) {
	t.Parallel()
	const ok = "HTTP/1.1 200 OK\r\n"
	length := func(head, body string) string {
		return fmt.Sprintf("%sContent-Length: %d\r\n\r\n%s", head, len(body), body)
	}
	events := chatScript().first + chatScript().rest
	json, sse := "Content-Type: application/json\r\n", "Content-Type: text/event-stream\r\n"
	for _, odd := range []struct {
		name, bytes string
		status      int // 200: the answer is whole
		message     string
	}{
		{"interim answers first", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + length(ok+json, chatScript().body), 200, ""},
		{"events without a length", ok + sse + "\r\n" + events, 200, ""},
		{"events with a length", length(ok+sse, events), 200, ""},
		{"events in CRLF", length(ok+sse, strings.ReplaceAll(events, "\n", "\r\n")), 200, ""},
		{"events in CR", length(ok+sse, strings.ReplaceAll(events, "\n", "\r")), 200, ""},
		{"events with a byte order mark", length(ok+sse, "\xef\xbb\xbf"+events), 200, ""},
		{"events whose last blank line is missing", length(ok+sse, strings.TrimRight(events, "\n")), 200, ""},
		{"JSON", length(ok+json, chatScript().body), 200, ""},
		{"JSON without a type", length(ok, chatScript().body), 200, ""},
		{"JSON called events", length(ok+sse, chatScript().body), 502, ""},
		{"events called JSON", length(ok+json, events), 502, ""},
		{"gzip", length(ok+json+"Content-Encoding: gzip\r\n", "\x1f\x8b\x08\x00"), 502, ""},
		{"gzip events", length(ok+sse+"Content-Encoding: br\r\n", "\x1f\x8b\x08\x00"), 502, ""},
		{"a gzip refusal", length("HTTP/1.1 400 No\r\n"+json+"Content-Encoding: gzip\r\n", "\x1f\x8bgarbage"), 400, "The agent refused the request."},
		{"204", "HTTP/1.1 204 No Content\r\n\r\n", 502, ""},
		{"204 of events", "HTTP/1.1 204 No Content\r\n" + sse + "\r\n", 502, ""},
		{"304", "HTTP/1.1 304 Not Modified\r\n\r\n", 502, ""},
		{"an empty body", length(ok+json, ""), 502, ""},
		{"no events", length(ok+sse, ""), 502, ""},
		{"only comments", length(ok+sse, ": hello\n\n: hello\n\n"), 502, ""},
		{"a redirect", "HTTP/1.1 307 Temporary Redirect\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n", 502, ""},
		{"HTML", length(ok+"Content-Type: text/html\r\n", "<html>hello</html>"), 502, ""},
		{"an answer beyond the limit", ok + json + "Content-Length: 16777217\r\n\r\n{", 502, "The agent's answer could not be read."},
		{"a switch of protocols", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", 502, ""},
		{"no HTTP", "SSH-2.0-x\r\n", 502, ""},
		{"both lengths", ok + json + "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", 502, ""},
		{"JSON cut short", ok + json + "Content-Length: 9999\r\n\r\n" + chatScript().body, 502, ""},
		{"JSON too deep", length(ok+json, strings.Repeat("[", 100000)), 502, ""},
	} {
		t.Run(odd.name, func(t *testing.T) {
			t.Parallel()
			back := stage(t, func(v *visit) {
				_, _ = io.WriteString(v.conn, odd.bytes)
				v.hangs = true
			})
			r := start(t, agentYAML("chat", back.addr, "keep_alive: 0s")) // the backend closes, and does not say so
			for _, f := range clientFaces {
				for _, stream := range []bool{false, true} {
					body, headers := f.ask("hello", stream)
					got := r.post(f.path, body, headers)
					name := fmt.Sprintf("%s, stream %v", f.name, stream)
					if got.status != odd.status {
						t.Errorf("%s: status %d: %.200q", name, got.status, got.body)
						continue
					}
					if odd.status != 200 {
						if m := f.message(got.body); m == "" || odd.message != "" && !strings.Contains(m, odd.message) {
							t.Errorf("%s: message %q", name, m)
						}
						continue
					}
					got.body = strings.TrimPrefix(got.body, "\ufeff")
					if f.text(strings.ReplaceAll(strings.ReplaceAll(got.body, "\r\n", "\n"), "\r", "\n"), stream) != "one two" {
						t.Errorf("%s: %q", name, got.body)
					}
				}
			}
		})
	}
}

// TestOneByteAtATime has the backend send every byte alone.
func TestOneByteAtATime(t *testing.T) {
	t.Parallel()
	back := stage(t, func(v *visit) {
		v.open()
		for _, b := range []byte(chatScript().first + chatScript().rest) {
			v.chunk(string([]byte{b}))
		}
		v.end()
	})
	r := start(t, agentYAML("chat", back.addr))
	for _, f := range clientFaces {
		for _, stream := range []bool{false, true} {
			body, headers := f.ask("hello", stream)
			if got := r.post(f.path, body, headers); got.status != 200 || f.text(got.body, stream) != "one two" {
				t.Errorf("%s, stream %v: %d %q", f.name, stream, got.status, got.body)
			}
		}
	}
}

// TestUnreadableFrameEndsTheStream has a frame that is no JSON in the middle,
// and one that never ends: the client is told, and the backend is left at once.
func TestUnreadableFrameEndsTheStream(t *testing.T) {
	t.Parallel()
	endless := "data: " + strings.Repeat("x", 1<<20)
	for _, kind := range []string{"no JSON", "no end"} {
		for i, b := range []script{backendScripts[0], backendScripts[1]} {
			t.Run(kind+"/"+b.name, func(t *testing.T) {
				t.Parallel()
				left, gate := make(chan struct{}, 2), make(chan struct{}, 2)
				back := stage(t, func(v *visit) {
					v.open()
					v.chunk(b.first)
					<-gate
					if kind == "no JSON" {
						v.chunk("data: {\"oh\": no}\n\n")
					} else {
						v.chunk(endless)
						for range 17 {
							v.chunk(endless[6:])
						}
					}
					v.gone()
					left <- struct{}{}
				})
				r := start(t, agentYAML(b.name, back.addr))
				for n, f := range clientFaces[:2] {
					body, headers := f.ask("hello", true)
					c := r.dial()
					c.send("POST", f.path, body, headers)
					rest := c.response().Body
					got := until(t, rest, "one")
					gate <- struct{}{}
					more, err := io.ReadAll(rest)
					got += string(more)
					if err != nil || !f.failed(got) || strings.Contains(got, `"oh"`) || strings.Contains(got, "xxx") {
						t.Errorf("%s: %v %.1500q", f.name, err, got)
					}
					<-left
					line := r.waitLog(n + 1)
					if line["outcome"] != "failed" || line["code"] != "bad_gateway" || (line["passed_through"] == true) != (n == i) {
						t.Errorf("%s: logged %v", f.name, line)
					}
					// The client's connection is as good as before.
					c.send("GET", "/livez", "", "")
					if got := c.reply(); got.status != 200 {
						t.Errorf("%s: afterwards %d", f.name, got.status)
					}
				}
				if n := r.first().backends[0].origin.idleConns(); n != 0 {
					t.Errorf("%d connections with unread bytes were kept", n)
				}
			})
		}
	}
}

// TestBackendGoesOnAfterItsEnd has backends that do not stop when their answer
// is over: nothing of that reaches a client, and the connection is not used
// again.
func TestBackendGoesOnAfterItsEnd(t *testing.T) {
	t.Parallel()
	for _, after := range []string{"silence", "pings", "content"} {
		t.Run(after, func(t *testing.T) {
			t.Parallel()
			back := stage(t, func(v *visit) {
				v.hangs = true
				v.open()
				v.chunk(chatScript().first + chatScript().rest)
				if after == "silence" {
					v.gone()
					return
				}
				more := map[string]string{"pings": ": ping\n\n", "content": chatScript().first}[after]
				more = strings.Repeat(fmt.Sprintf("%x\r\n%s\r\n", len(more), more), 100)
				for {
					if _, err := io.WriteString(v.conn, more); err != nil {
						return
					}
				}
			})
			r := start(t, agentYAML("chat", back.addr))
			// A passed-through stream shows what the backend sends until it is
			// closed, two seconds after its end.
			for n, f := range clientFaces[1:] {
				for m, stream := range []bool{false, true} {
					body, headers := f.ask("hello", stream)
					if got := r.post(f.path, body, headers); got.status != 200 || f.text(got.body, stream) != "one two" {
						t.Errorf("%s, stream %v: %d %.500q", f.name, stream, got.status, got.body)
					}
					line := r.waitLog(2*n + m + 1)
					if line["outcome"] != "completed" {
						t.Errorf("logged %v", line)
					}
				}
			}
			if n := r.first().backends[0].origin.idleConns(); n != 0 {
				t.Errorf("%d connections with unread bytes were kept", n)
			}
		})
	}
}

// TestConnectionsAreReusedOnlyWhenRead pins which answers leave a connection to
// the backend that can serve the next request.
func TestConnectionsAreReusedOnlyWhenRead(t *testing.T) {
	t.Parallel()
	chunked := func(s string) string { return fmt.Sprintf("%x\r\n%s\r\n", len(s), s) }
	const head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
	jsonHead := fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n", len(chatScript().body))
	for _, k := range []struct {
		name, bytes string
		kept        bool
	}{
		{"a whole stream", head + chunked(chatScript().first+chatScript().rest) + "0\r\n\r\n", true},
		{"an error at once", head + chunked(chatScript().failure) + "0\r\n\r\n", false},
		{"a stream and more", head + chunked(chatScript().first+chatScript().rest) + "0\r\n\r\nHTTP/1.1 200 OK\r\n", false},
		{"no last chunk", head + chunked(chatScript().first+chatScript().rest), false},
		{"JSON", jsonHead + chatScript().body, true},
		{"JSON and more", jsonHead + chatScript().body + "}", false},
		{"a refusal", "HTTP/1.1 400 No\r\nContent-Length: 2\r\n\r\n{}", true},
		{"a refusal beyond what is read", "HTTP/1.1 400 No\r\nContent-Length: 999999\r\n\r\n{}", false},
		{"a refusal that closes", "HTTP/1.1 400 No\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}", false},
	} {
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			back := stage(t, func(v *visit) { _, _ = io.WriteString(v.conn, k.bytes) })
			r := start(t, agentYAML("chat", back.addr, "timeouts: {idle: 30s}"))
			for i, path := range []string{"/v1/chat/completions", "/v1/responses"} {
				body := chatHelloStream
				if i == 1 {
					body = `{"model":"it","input":"hello","stream":true}`
				}
				r.post(path, body, "")
				r.waitLog(i + 1)
			}
			first, second := <-back.seen, <-back.seen
			if same := first.conn == second.conn; same != k.kept {
				t.Errorf("the second request came over the same connection: %v", same)
			}
		})
	}
}

// TestBackendAnswersBeforeTheRequestIsRead refuses a large request by its head.
func TestBackendAnswersBeforeTheRequestIsRead(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			br := bufio.NewReader(c)
			if _, err := http.ReadRequest(br); err == nil {
				_, _ = io.WriteString(c, "HTTP/1.1 413 Too Large\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: 32\r\n\r\n"+`{"error":{"message":"too large"}}`[:32])
				_ = c.(*net.TCPConn).CloseWrite()
				_, _ = io.Copy(io.Discard, br)
			}
			_ = c.Close()
		}
	}()
	t.Cleanup(func() { _ = ln.Close(); <-done })
	r := start(t, agentYAML("chat", ln.Addr().String()))
	got := r.post("/v1/chat/completions", strings.Replace(chatHello, "hello", strings.Repeat("x", 8<<20), 1), "")
	if got.status != 413 {
		t.Errorf("%d %s", got.status, got.body)
	}
}

// TestRequestBodies sends bodies at the edges of what is accepted.
func TestRequestBodies(t *testing.T) {
	t.Parallel()
	overEveryWire(t, func(t *testing.T, start starter) {
		back := stage(t, answerWhole)
		const limit = 64 << 10
		r := start(t, withServer("max_body: 64KiB", agentYAML("chat", back.addr)))
		pad := func(n int) string { return chatHello + strings.Repeat(" ", n-len(chatHello)) }
		const head = "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n"
		chunks := func(s string, size int) string {
			var b strings.Builder
			for ; len(s) > 0; s = s[min(size, len(s)):] {
				p := s[:min(size, len(s))]
				fmt.Fprintf(&b, "%x;ext=1\r\n%s\r\n", len(p), p)
			}
			return b.String() + "0\r\n\r\n"
		}
		for _, q := range []struct {
			name, bytes string
			status      int
			closes      bool
		}{
			{"at the limit", fmt.Sprintf("%sContent-Length: %d\r\n\r\n%s", head, limit, pad(limit)), 200, false},
			{"one beyond", fmt.Sprintf("%sContent-Length: %d\r\n\r\n%s", head, limit+1, pad(limit+1)), 413, true},
			{"chunked at the limit", head + "Transfer-Encoding: chunked\r\n\r\n" + chunks(pad(limit), 1000), 200, false},
			{"chunked one beyond", head + "Transfer-Encoding: chunked\r\n\r\n" + chunks(pad(limit+1), limit+1), 413, true},
			{"single bytes", head + "Transfer-Encoding: chunked\r\n\r\n" + chunks(chatHello, 1), 200, false},
			{"a broken chunk", head + "Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400, true},
			{"chunked and empty", head + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, false},
			{"no body", head + "\r\n", 400, false},
			{"HTTP/1.0", fmt.Sprintf("POST /v1/chat/completions HTTP/1.0\r\nContent-Length: %d\r\n\r\n%s", len(chatHello), chatHello), 200, true},
			{"HTTP/1.0 that keeps alive", fmt.Sprintf("POST /v1/chat/completions HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: %d\r\n\r\n%s", len(chatHello), chatHello), 200, false},
			{"unread for a wrong path", "POST /wrong HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n" + strings.Repeat("x", 100), 404, false},
			{"HEAD", "HEAD /v1/models HTTP/1.1\r\nHost: x\r\n\r\n", 405, false},
			{"HEAD of a probe", "HEAD /livez HTTP/1.1\r\nHost: x\r\n\r\n", 200, false},
			{"an endless head", "GET /livez HTTP/1.1\r\nHost: x\r\nX-Long: " + strings.Repeat("x", 40<<10) + "\r\n\r\n", 431, true},
			{"endless headers", "GET /livez HTTP/1.1\r\nHost: x\r\n" + strings.Repeat("X-A: b\r\n", 8<<10) + "\r\n", 431, true},
			{"no HTTP", "hello\r\n\r\n", 400, true},
		} {
			t.Run(q.name, func(t *testing.T) {
				t.Parallel()
				c := r.dial()
				go func() { _, _ = io.WriteString(c.Conn, q.bytes) }() // it may not all be taken
				method, _, _ := strings.Cut(q.bytes, " ")
				resp, err := http.ReadResponse(c.r, &http.Request{Method: method})
				if err != nil {
					t.Fatal(err)
				}
				b, err := io.ReadAll(resp.Body)
				if err != nil || resp.StatusCode != q.status {
					t.Fatalf("%d, want %d: %v %s", resp.StatusCode, q.status, err, b)
				}
				if q.closes {
					c.ended()
					return
				}
				c.send("GET", "/livez", "", "")
				if got := c.reply(); got.status != 200 {
					t.Errorf("afterwards: %d %q", got.status, got.body)
				}
			})
		}

		for _, name := range []string{"Expect", "expect"} {
			c := r.dial()
			_, _ = fmt.Fprintf(c, "%s%s: 100-continue\r\nContent-Length: %d\r\n\r\n", head, name, len(chatHelloStream))
			if resp := c.response(); resp.StatusCode != 100 {
				t.Fatalf("%s: %d", name, resp.StatusCode)
			}
			_, _ = io.WriteString(c, chatHelloStream)
			if got := c.reply(); got.status != 200 || !chatWhole(got.body) {
				t.Errorf("%s: %d %q", name, got.status, got.body)
			}
		}
		// Less than was announced, and then the end.
		c := r.dial()
		_, _ = io.WriteString(c, head+"Content-Length: 500\r\n\r\n"+chatHello)
		c.halfClose()
		if got := c.reply(); got.status != 400 {
			t.Errorf("cut: %d", got.status)
		}
		c.ended()
	})
}

// TestRequestsAhead sends several requests of all sorts in one write.
func TestRequestsAhead(t *testing.T) {
	t.Parallel()
	overEveryWire(t, func(t *testing.T, start starter) {
		back := stage(t, answerWhole)
		r := start(t, agentYAML("chat", back.addr))
		post := func(body string) string {
			return fmt.Sprintf("POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
		}
		large := strings.Replace(chatHelloStream, "hello", strings.Repeat("x", 50<<10), 1) // more than the server's buffer
		c := r.dial()
		all := post(chatHelloStream) + post(large) + post(chatHello) + "GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n" + post(chatHelloStream) + post("{") + post(chatHelloStream)
		go func() { _, _ = io.WriteString(c.Conn, all) }()
		for i, status := range []int{200, 200, 200, 200, 200, 400, 200} {
			if got := c.reply(); got.status != status {
				t.Fatalf("answer %d: %d %q", i, got.status, got.body)
			}
		}
		c.still(20 * time.Millisecond)
	})
}

// TestClientThatNeverReads is cut at the write deadline, whatever it does not
// read.
func TestClientThatNeverReads(t *testing.T) {
	t.Parallel()
	overEveryWire(t, func(t *testing.T, start starter) {
		big := strings.Repeat("x", 1<<20)
		left := make(chan struct{}, 1)
		back := stage(t, func(v *visit) {
			v.hangs = true
			if !strings.Contains(string(v.body), `"stream":true`) {
				v.json(200, strings.Replace(chatScript().body, "one two", strings.Repeat(big, 15), 1))
				return
			}
			v.open()
			chunk := strings.Replace(chatScript().first, "one", big[:60<<10], 1)
			for {
				if _, err := fmt.Fprintf(v.conn, "%x\r\n%s\r\n", len(chunk), chunk); err != nil {
					left <- struct{}{}
					return
				}
			}
		})
		r := start(t, withServer("timeouts: {write: 300ms}", agentYAML("chat", back.addr)))
		c := r.dial()
		_ = c.bare().(interface{ SetReadBuffer(int) error }).SetReadBuffer(4 << 10)
		c.send("POST", "/v1/chat/completions", chatHelloStream, "")
		<-left
		if line := r.waitLog(1); line["outcome"] != "client_gone" || line["status"] != int64(499) {
			t.Errorf("logged %v", line)
		}
		ends := func() {
			t.Helper()
			waitFor(t, "the connection's end", func() bool {
				r.ln.mu.Lock()
				defer r.ln.mu.Unlock()
				return len(r.ln.conns) == 0
			})
		}
		ends()
		c = r.dial()
		_ = c.bare().(interface{ SetReadBuffer(int) error }).SetReadBuffer(4 << 10)
		c.send("POST", "/v1/chat/completions", chatHello, "")
		r.waitLog(2)
		ends()
	})
}

// slowConn takes what it is given and counts.
type slowConn struct {
	net.Conn
	largest, writes, deadlines int
}

func (c *slowConn) Write(p []byte) (int, error) {
	c.writes, c.largest = c.writes+1, max(c.largest, len(p))
	return len(p), nil
}

func (c *slowConn) SetWriteDeadline(time.Time) error {
	c.deadlines++
	return nil
}

// TestSlowReadersHaveTheirTime writes long answers in pieces, each with the
// whole write timeout.
func TestSlowReadersHaveTheirTime(t *testing.T) {
	t.Parallel()
	l := newListener(nil, 1, time.Second, nil)
	for _, w := range []struct{ size, writes, deadlines int }{{0, 1, 0}, {1, 1, 0}, {writePiece, 1, 0}, {writePiece + 1, 2, 2}, {5 * writePiece, 5, 5}} {
		s := &slowConn{}
		n, err := (&clientConn{Conn: s, l: l}).Write(make([]byte, w.size))
		if n != w.size || err != nil || s.writes != w.writes || s.deadlines != w.deadlines || s.largest > writePiece {
			t.Errorf("%d bytes: %d, %v, %+v", w.size, n, err, s)
		}
	}
}

// TestNothingIsInjected puts line breaks and other controls wherever a client's
// or a configuration's words reach a header.
func TestNothingIsInjected(t *testing.T) {
	t.Parallel()
	back := stage(t, func(v *visit) { v.json(200, chatScript().body) })
	r := start(t, agentYAML("chat", back.addr, "forward_headers: [X-Custom]"))
	for _, path := range []string{
		"/agents/a%0d%0aX-Evil:%201/v1/chat/completions", "/v1/models/a%0d%0aX-Evil:%201", "/v1/agents/%0aX-Evil:1/responses", "/a%0d%0aX-Evil:%201",
	} {
		for _, method := range []string{"GET", "POST", "PUT"} {
			c := r.dial()
			c.send(method, path, chatHello, "X-Request-Id: a b\r\n")
			got := c.reply()
			select {
			case <-back.seen:
			default:
			}
			if got.header.Get("X-Evil") != "" || strings.Contains(got.header.Get("X-Request-Id"), " ") {
				t.Errorf("%s %s: %d %v", method, path, got.status, got.header)
			}
		}
	}
	for _, h := range []string{"X-Custom: a\tb\r\n", "X-Custom: caf\xc3\xa9\r\n", "traceparent: \x01\r\n", "X-Custom: a\r\n X-Evil: 1\r\n", "X-Request-Id: \xff\r\n"} {
		got := r.post("/v1/chat/completions", chatHello, h)
		if got.status == 200 {
			v := <-back.seen
			if v.req.Header.Get("X-Evil") != "" || strings.ContainsAny(v.req.Header.Get("Traceparent"), "\x01\r\n") {
				t.Errorf("%q: the backend got %v", h, v.req.Header)
			}
		} else if got.status != 400 {
			t.Errorf("%q: %d", h, got.status)
		}
	}
	if got := headerText("seed, a\r\nX-Evil: 1\x00\u00e9\x7f"); got != "seed, a??X-Evil: 1???" {
		t.Errorf("%q", got)
	}
}

// TestPanicInStream ends one stream, and says so.
func TestPanicInStream(t *testing.T) {
	t.Parallel()
	r := start(t, agentYAML("chat", "127.0.0.1:1"))
	ours, theirs := net.Pipe()
	c := &call{s: r.Server, snap: r.snapshot(), start: time.Now(), id: "boom", agent: r.snapshot().agents[&r.snapshot().conf.Agents[0]], req: &translate.Request{}}
	if !r.begin(c) {
		t.Fatal("refused")
	}
	c.begun = true
	p := &pump{c: c, held: takeBuffer()} // nothing to read from: it panics at the first step
	go func() { _, _ = io.Copy(io.Discard, theirs) }()
	if c.stream(ours, p) {
		t.Error("the connection is to be used again")
	}
	if _, err := ours.Write([]byte("x")); err == nil {
		t.Error("the client's connection is open")
	}
	if line := r.waitLog(1); line["outcome"] != "failed" || line["code"] != "internal_error" {
		t.Errorf("logged %v", line)
	}
	if r.logs.FilterMessage("panic").Len() != 1 {
		t.Error("the panic was not logged")
	}
	r.logs.TakeAll() // it was asked for
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.running) != 0 {
		t.Error("the stream still runs")
	}
}

// TestWholeStreamMatchesItsParts compares what a passed-through client gets with
// what the backend sent, byte by byte.
func TestWholeStreamMatchesItsParts(t *testing.T) {
	t.Parallel()
	for _, sep := range []string{"\n", "\r\n", "\r"} {
		sent := strings.ReplaceAll(": hello\n\nid: 7\nretry: 5\n\n"+chatScript().first+": ping\n\n"+chatScript().rest, "\n", sep)
		back := stage(t, func(v *visit) {
			v.open()
			for s := sent; s != ""; s = s[min(7, len(s)):] {
				v.chunk(s[:min(7, len(s))])
			}
			v.end()
		})
		r := start(t, agentYAML("chat", back.addr, ""))
		got := r.post("/v1/chat/completions", chatHelloStream, "")
		if !bytes.Equal([]byte(got.body), []byte(sent)) {
			t.Errorf("%q: got %q, want %q", sep, got.body, sent)
		}
	}
}

// TestFailureBehindFirstWords sends an agent's words and its failure in one piece,
// and in two: the client gets the words and the failure both times.
func TestFailureBehindFirstWords(t *testing.T) {
	t.Parallel()
	words := `data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":"I will try"},"finish_reason":null}]}` + "\n\n"
	failure := `data: {"error":{"message":"no","type":"server_error","param":null,"code":"server_error"}}` + "\n\ndata: [DONE]\n\n"
	for _, pieces := range [][]string{{words + failure}, {words, failure}} {
		back := stage(t, func(v *visit) {
			v.open()
			for _, p := range pieces {
				v.chunk(p)
			}
			v.end()
		})
		r := start(t, agentYAML("chat", back.addr, ""))
		for path, body := range map[string]string{
			"/v1/chat/completions": chatHelloStream,
			"/v1/responses":        `{"model":"it","stream":true,"input":"hello"}`,
		} {
			got := r.post(path, body, "")
			if got.status != 200 || !strings.Contains(got.body, "I will try") || !strings.Contains(got.body, `"error"`) || strings.Contains(got.body, `"finish_reason":"stop"`) {
				t.Errorf("%d pieces, %s: got %d %q, want the words, then the failure", len(pieces), path, got.status, got.body)
			}
		}
	}
}
