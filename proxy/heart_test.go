package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tidwall/gjson"

	"github.com/dragoman-proxy/dragoman/internal/config"
	"github.com/dragoman-proxy/dragoman/translate"
)

// beating has every agent of a proxy send heartbeats of all kinds, the first after d and
// then each d.
func beating(d time.Duration) func(*Server) {
	return func(s *Server) {
		for i := range s.snapshot().conf.Agents {
			s.snapshot().conf.Agents[i].Heartbeat = config.Heartbeat{Stream: d, BeforeFirstByte: d, JSON: d}
		}
	}
}

const beatOften = 5 * time.Millisecond

// beats is what a client that asked in a mode has read after n heartbeats.
func beats(stream bool, n int) string {
	if stream {
		return strings.Repeat(streamBeat, n)
	}
	return strings.Repeat(jsonBeat, n)
}

// decodeChat gives a call the request of a Chat client.
func (c *call) decodeChat(t *testing.T, body string) {
	t.Helper()
	c.match = c.s.router.find("POST", "/v1/chat/completions")
	c.face = c.match.face
	if e := c.decode(&translate.Inbound{Route: &c.match.route.Route, Body: []byte(body)}); e != nil {
		t.Fatal(e)
	}
}

// eachMode runs fn for every face and both modes.
func eachMode(t *testing.T, faces []face, fn func(t *testing.T, f face, stream bool)) {
	for _, f := range faces {
		for _, stream := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, stream=%t", f.name, stream), func(t *testing.T) {
				t.Parallel()
				fn(t, f, stream)
			})
		}
	}
}

// answerIn has a backend answer as it can, in the mode that it was asked in.
func (b *script) answerIn(v *visit, stream bool) {
	if b.body == "" || stream && b.first != "" {
		v.open()
		v.chunk(b.first)
		v.chunk(b.rest)
		v.end()
		return
	}
	v.json(200, b.body)
}

// TestHeartbeatsWhileTheAgentThinks: a client that waits for the first byte gets the head
// and then what its protocol passes over, and its whole answer behind that.
func TestHeartbeatsWhileTheAgentThinks(t *testing.T) {
	t.Parallel()
	eachCell(t, anyBackend, func(t *testing.T, f face, b script) {
		for _, stream := range []bool{true, false} {
			gate := make(chan struct{})
			back := stage(t, func(v *visit) {
				<-gate
				b.answerIn(v, stream)
			})
			r := start(t, agentYAML(b.name, back.addr), beating(beatOften))
			c := r.dial()
			body, headers := f.ask("hello", stream)
			c.send("POST", f.path, body, headers+"X-Request-Id: mine\r\n")
			resp := c.response()
			got := until(t, resp.Body, beats(stream, 3))
			if got != beats(stream, strings.Count(got, jsonBeat)/strings.Count(beats(stream, 1), jsonBeat)) {
				t.Errorf("stream=%t: before the answer %q", stream, got)
			}
			close(gate)
			rest, err := io.ReadAll(resp.Body)
			if err != nil {
				t.Fatal(err)
			}
			got += string(rest)
			want := "text/event-stream; charset=utf-8"
			if !stream {
				want = "application/json"
				if !gjson.Valid(got) {
					t.Errorf("no JSON: %q", got)
				}
			} else if !f.whole(got) {
				t.Errorf("the stream does not end well: %q", got)
			}
			if text := f.text(got, stream); text != "one two" {
				t.Errorf("stream=%t: text %q in %q", stream, text, got)
			}
			h := resp.Header
			if resp.StatusCode != 200 || h.Get("Content-Type") != want || h.Get("X-Request-Id") != "mine" || h.Get("Dragoman-Agent") != "it" || h.Get("Date") == "" ||
				h.Get("X-Accel-Buffering") != "no" || len(resp.TransferEncoding) != 1 || resp.Close {
				t.Errorf("stream=%t: status %d, %v %v", stream, resp.StatusCode, h, resp.TransferEncoding)
			}
			if line := r.waitLog(1); line["outcome"] != "completed" || line["status"] != int64(200) || line["bytes_out"].(int64) < int64(len(got)) {
				t.Errorf("logged %v", line)
			}
			// The connection serves another request.
			c.send("POST", f.path, body, headers)
			if again := c.reply(); again.status != 200 || f.text(again.body, stream) != "one two" {
				t.Errorf("again: %d %q", again.status, again.body)
			}
		}
	})
}

// TestHeartbeatsOnEveryWire: over TLS and unix sockets too, for old clients and for those
// who send the next request ahead or wait to be told to go on.
func TestHeartbeatsOnEveryWire(t *testing.T) {
	t.Parallel()
	overEveryWire(t, func(t *testing.T, start starter) {
		eachMode(t, clientFaces[:2], func(t *testing.T, f face, stream bool) {
			gates := make(chan chan struct{}, 100)
			back := stage(t, func(v *visit) {
				<-<-gates
				answerWhole(v)
			})
			r := start(t, agentYAML("chat", back.addr), beating(beatOften))
			body, headers := f.ask("hello", stream)
			check := func(what, got string) {
				t.Helper()
				if !strings.HasPrefix(got, beats(stream, 2)) || f.text(got, stream) != "one two" || stream && !f.whole(got) || !stream && !gjson.Valid(got) {
					t.Errorf("%s: %q", what, got)
				}
			}
			answered := func(c *client) string {
				t.Helper()
				gate := make(chan struct{})
				gates <- gate
				resp := c.response()
				got := until(t, resp.Body, beats(stream, 2))
				close(gate)
				rest, err := io.ReadAll(resp.Body)
				if err != nil || resp.StatusCode != 200 {
					t.Errorf("%d %v", resp.StatusCode, err)
				}
				return got + string(rest)
			}

			c := r.dial()
			c.send("POST", f.path, body, headers)
			c.send("POST", f.path, body, headers)
			check("first", answered(c))
			check("sent ahead", answered(c))

			_, _ = fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nExpect: 100-continue\r\n%sContent-Length: %d\r\n\r\n", f.path, headers, len(body))
			if line, err := c.r.ReadString('\n'); err != nil || !strings.Contains(line, " 100 ") {
				t.Fatalf("%q %v", line, err)
			}
			_, _ = c.r.ReadString('\n')
			_, _ = io.WriteString(c, body)
			check("waits to go on", answered(c))

			for _, proto := range []string{"HTTP/1.0\r\n", "HTTP/1.0\r\nConnection: keep-alive\r\n", "HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"} {
				c := r.dial()
				_, _ = fmt.Fprintf(c, "POST %s %sContent-Type: application/json\r\n%sContent-Length: %d\r\n\r\n%s", f.path, proto, headers, len(body), body)
				check(proto, answered(c))
				if _, err := c.r.ReadByte(); err != io.EOF {
					t.Errorf("%q: the connection stays open: %v", proto, err)
				}
			}
		})
	})
}

// TestFailuresBehindAHeartbeat: once the client has a 200, whatever goes wrong is told in
// the stream, or in the body's own error form, and the log knows.
func TestFailuresBehindAHeartbeat(t *testing.T) {
	t.Parallel()
	fates := []struct {
		name, code string
		serve      func(v *visit, b *script)
		settings   string
	}{
		{"500", "bad_gateway", func(v *visit, b *script) { v.json(500, b.refusal("it broke")) }, ""},
		{"429", "rate_limit_exceeded", func(v *visit, b *script) { v.json(429, b.refusal("slow down"), "Retry-After: 7") }, ""},
		{"HTML", "", func(v *visit, _ *script) {
			_, _ = io.WriteString(v.conn, "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 15\r\n\r\n<html>hi</html>")
		}, ""},
		{"closed", "bad_gateway", func(v *visit, _ *script) { v.hangs = true }, ""},
		{"cut", "", func(v *visit, b *script) {
			v.hangs = true
			if b.body == "" || b.first != "" {
				v.open()
				v.chunk(b.first[:len(b.first)/2])
				return
			}
			_, _ = io.WriteString(v.conn, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 5000\r\n\r\n{")
		}, ""},
		{"failure at once", "", func(v *visit, b *script) {
			if b.failure == "" {
				v.json(200, b.failedBody)
				return
			}
			v.open()
			v.chunk(b.failure)
			v.end()
		}, ""},
		{"silent", "timeout", func(v *visit, _ *script) { v.gone() }, "timeouts: {first_byte: 300ms}"},
	}
	eachCell(t, anyBackend, func(t *testing.T, f face, b script) {
		for _, fate := range fates {
			if fate.settings != "" && f.name != "chat" && f.name != b.name {
				continue // it takes its time
			}
			for _, stream := range []bool{true, false} {
				gate := make(chan struct{})
				back := stage(t, func(v *visit) {
					<-gate
					fate.serve(v, &b)
				})
				r := start(t, agentYAML(b.name, back.addr, fate.settings), beating(beatOften))
				c := r.dial()
				body, headers := f.ask("hello", stream)
				c.send("POST", f.path, body, headers)
				resp := c.response()
				got := until(t, resp.Body, beats(stream, 1))
				close(gate)
				rest, err := io.ReadAll(resp.Body)
				if err != nil || resp.StatusCode != 200 {
					t.Fatalf("%s, stream=%t: %d %v", fate.name, stream, resp.StatusCode, err)
				}
				got += string(rest)
				if stream && (!f.failed(got) || f.whole(got)) || !stream && (!gjson.Valid(got) || f.message(got) == "") {
					t.Errorf("%s, stream=%t: %q", fate.name, stream, got)
				}
				line := r.waitLog(1)
				if want := map[bool]string{true: "timeout", false: "failed"}[fate.name == "silent"]; line["outcome"] != want || line["status"] != int64(200) || line["error"] == nil {
					t.Errorf("%s, stream=%t: logged %v", fate.name, stream, line)
				}
				if fate.code != "" && line["code"] != fate.code && fate.name != "500" && fate.name != "429" {
					t.Errorf("%s, stream=%t: code %v", fate.name, stream, line["code"])
				}
				// What is told does not end the connection.
				c.send("GET", "/v1/models", "", "")
				if again := c.reply(); again.status != 200 {
					t.Errorf("%s, stream=%t: again: %d %q", fate.name, stream, again.status, again.body)
				}
			}
		}
	})
}

// TestHeartbeatsWhileDialling: also before the agent is reached, and its refusal is told
// behind them.
func TestHeartbeatsWhileDialling(t *testing.T) {
	t.Parallel()
	eachMode(t, clientFaces, func(t *testing.T, f face, stream bool) {
		gate := make(chan struct{})
		r := start(t, agentYAML("chat", "127.0.0.1:1"), beating(beatOften), func(s *Server) {
			snap := s.snapshot()
			snap.agents[&snap.conf.Agents[0]].backends[0].origin.dial = func(context.Context) (net.Conn, error) {
				<-gate
				return nil, errors.New("nobody is there")
			}
		})
		c := r.dial()
		body, headers := f.ask("hello", stream)
		c.send("POST", f.path, body, headers)
		resp := c.response()
		got := until(t, resp.Body, beats(stream, 2))
		close(gate)
		rest, _ := io.ReadAll(resp.Body)
		if got += string(rest); stream && !f.failed(got) || !stream && (!gjson.Valid(got) || f.message(got) == "") {
			t.Errorf("%q", got)
		}
		if line := r.waitLog(1); line["outcome"] != "failed" || line["status"] != int64(200) || line["code"] != "bad_gateway" {
			t.Errorf("logged %v", line)
		}
	})
}

// TestHeartbeatsWhileWaitingInLine: a client behind others hears that it is not forgotten;
// its turn comes, or the limit is told in what it was promised.
func TestHeartbeatsWhileWaitingInLine(t *testing.T) {
	t.Parallel()
	eachMode(t, clientFaces, func(t *testing.T, f face, stream bool) {
		for _, turn := range []bool{true, false} {
			gate := make(chan struct{})
			back := stage(t, func(v *visit) {
				<-gate
				answerWhole(v)
			})
			wait := "20s"
			if !turn {
				wait = "200ms"
			}
			r := start(t, "limits: {queue: {length: 5, wait: "+wait+"}}\n"+agentYAML("chat", back.addr, "limits: {concurrent: 1}"), beating(beatOften))
			body, headers := f.ask("hello", stream)
			first, c := r.dial(), r.dial()
			first.send("POST", "/v1/chat/completions", chatHello, "")
			<-back.seen
			c.send("POST", f.path, body, headers)
			resp := c.response()
			got := until(t, resp.Body, beats(stream, 2))
			if turn {
				close(gate)
			}
			rest, _ := io.ReadAll(resp.Body)
			got += string(rest)
			switch {
			case turn && (f.text(got, stream) != "one two" || stream && !f.whole(got)):
				t.Errorf("%q", got)
			case !turn && (stream && !f.failed(got) || !stream && (!gjson.Valid(got) || f.message(got) == "")):
				t.Errorf("%q", got)
			}
			if !turn {
				if line := r.waitLog(1); line["code"] != "rate_limit_exceeded" || line["status"] != int64(200) || line["outcome"] != "failed" {
					t.Errorf("logged %v", line)
				}
				close(gate)
			}
			_, _ = io.ReadAll(first.response().Body)
		}
	})
}

// TestDepartureBehindAHeartbeat: a client that leaves after heartbeats ends its request as
// any other does.
func TestDepartureBehindAHeartbeat(t *testing.T) {
	t.Parallel()
	overEveryWire(t, func(t *testing.T, start starter) {
		for _, stream := range []bool{true, false} {
			asked, left := make(chan struct{}), make(chan struct{})
			back := stage(t, func(v *visit) {
				close(asked)
				v.gone()
				close(left)
			})
			r := start(t, agentYAML("chat", back.addr), beating(beatOften))
			c := r.dial()
			body, _ := clientFaces[0].ask("hello", stream)
			c.send("POST", "/v1/chat/completions", body, "")
			until(t, c.response().Body, beats(stream, 2))
			select {
			case <-asked: // the beats may be faster
			case <-time.After(longest):
				t.Fatal("the backend was not asked")
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
			waitFor(t, "the client's connection", func() bool { return r.open() == 0 })
		}
	})
}

// TestShutdownBehindAHeartbeat tells those that wait too long, in what they were promised.
func TestShutdownBehindAHeartbeat(t *testing.T) {
	t.Parallel()
	eachMode(t, clientFaces, func(t *testing.T, f face, stream bool) {
		back := stage(t, func(v *visit) { v.gone() })
		r := start(t, agentYAML("chat", back.addr), beating(beatOften))
		c := r.dial()
		body, headers := f.ask("hello", stream)
		c.send("POST", f.path, body, headers)
		resp := c.response()
		got := until(t, resp.Body, beats(stream, 1))
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if err := r.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		rest, err := io.ReadAll(resp.Body)
		if got += string(rest); err != nil || stream && !f.failed(got) || !stream && (!gjson.Valid(got) || f.message(got) == "") {
			t.Errorf("%v %q", err, got)
		}
		if line := r.waitLog(1); line["outcome"] != "shutdown" || line["status"] != int64(200) {
			t.Errorf("logged %v", line)
		}
	})
}

// TestPanicBehindAHeartbeat is told in the answer that has begun, and ends the connection.
func TestPanicBehindAHeartbeat(t *testing.T) {
	t.Parallel()
	eachMode(t, clientFaces, func(t *testing.T, f face, stream bool) {
		gate := make(chan struct{})
		r := start(t, agentYAML("chat", "127.0.0.1:1"), beating(beatOften), func(s *Server) {
			snap := s.snapshot()
			snap.agents[&snap.conf.Agents[0]].backends[0].origin.dial = func(context.Context) (net.Conn, error) {
				<-gate
				panic("asked for")
			}
		})
		c := r.dial()
		body, headers := f.ask("hello", stream)
		c.send("POST", f.path, body, headers)
		resp := c.response()
		got := until(t, resp.Body, beats(stream, 1))
		close(gate)
		rest, err := io.ReadAll(resp.Body)
		if got += string(rest); err != nil || stream && !f.failed(got) || !stream && (!gjson.Valid(got) || f.message(got) == "") {
			t.Errorf("%v %q", err, got)
		}
		if _, err := c.r.ReadByte(); err != io.EOF {
			t.Errorf("the connection stays open: %v", err)
		}
		if line := r.waitLog(1); line["code"] != "internal_error" || line["status"] != int64(200) {
			t.Errorf("logged %v", line)
		}
		if n := len(r.logs.FilterMessage("panic").TakeAll()); n != 1 {
			t.Errorf("%d panics logged", n)
		}
		r.logs.TakeAll()
	})
}

// TestHeartbeatsWhileDraining say that the connection ends.
func TestHeartbeatsWhileDraining(t *testing.T) {
	t.Parallel()
	eachMode(t, clientFaces[:1], func(t *testing.T, f face, stream bool) {
		arrived, gate := make(chan struct{}), make(chan struct{})
		back := stage(t, answerWhole)
		r := start(t, agentYAML("chat", back.addr), beating(time.Hour), func(s *Server) {
			snap := s.snapshot()
			o := snap.agents[&snap.conf.Agents[0]].backends[0].origin
			dial := o.dial
			o.dial = func(ctx context.Context) (net.Conn, error) {
				close(arrived)
				<-gate
				return dial(ctx)
			}
		})
		c := r.dial()
		body, headers := f.ask("hello", stream)
		c.send("POST", f.path, body, headers)
		<-arrived
		down := make(chan error, 1)
		go func() { down <- r.Shutdown(context.Background()) }()
		waitFor(t, "the drain", r.draining.Load)
		r.mu.Lock()
		for running := range r.running {
			running.heart.timer.Reset(0)
		}
		r.mu.Unlock()
		resp := c.response()
		got := until(t, resp.Body, beats(stream, 1))
		close(gate)
		rest, err := io.ReadAll(resp.Body)
		if got += string(rest); err != nil || !resp.Close || f.text(got, stream) != "one two" {
			t.Errorf("%v %v %q", err, resp.Header, got)
		}
		if err := <-down; err != nil {
			t.Error(err)
		}
	})
}

// TestPreambleBehindAHeartbeatIsNotHeldBack: what is committed need not be kept back.
func TestPreambleBehindAHeartbeatIsNotHeldBack(t *testing.T) {
	t.Parallel()
	begin, rest, _ := strings.Cut(backendScripts[1].first, "event: response.output_item.added")
	rest = "event: response.output_item.added" + rest
	for _, f := range clientFaces[1:3] { // through, and translated
		thinks, goesOn := make(chan struct{}), make(chan struct{})
		back := stage(t, func(v *visit) {
			<-thinks
			v.open()
			v.chunk(begin)
			<-goesOn // when the client has seen it
			v.chunk(rest + backendScripts[1].rest)
			v.end()
		})
		r := start(t, agentYAML("responses", back.addr), beating(beatOften), func(s *Server) { s.hold = time.Hour })
		c := r.dial()
		body, headers := f.ask("hello", true)
		c.send("POST", f.path, body, headers)
		resp := c.response()
		got := until(t, resp.Body, beats(true, 1))
		close(thinks)
		got += until(t, resp.Body, "response.created")
		close(goesOn)
		more, _ := io.ReadAll(resp.Body)
		if got += string(more); !f.whole(got) || f.text(got, true) != "one two" {
			t.Errorf("%s: %q", f.name, got)
		}
	}
}

// TestHeadOfAHeartbeat has what the head of every answer has: what is left of the limits,
// and what the request could not be carried with.
func TestHeadOfAHeartbeat(t *testing.T) {
	t.Parallel()
	for _, stream := range []bool{true, false} {
		gate := make(chan struct{})
		back := stage(t, func(v *visit) {
			<-gate
			v.json(200, backendScripts[4].body)
		})
		r := start(t, authYAML(", limits: {requests: 60/m}")+agentYAML("swarms", back.addr), beating(beatOften))
		c := r.dial()
		body, _ := clientFaces[0].ask("hello", stream)
		c.send("POST", "/v1/chat/completions", strings.Replace(body, "{", `{"seed":7,`, 1), bearer(goodKey))
		resp := c.response()
		close(gate)
		_, _ = io.ReadAll(resp.Body)
		for name, want := range map[string]string{"Dragoman-Dropped": "seed", "X-Ratelimit-Limit-Requests": "60", "X-Ratelimit-Remaining-Requests": "59"} {
			if got := resp.Header.Get(name); got != want {
				t.Errorf("stream=%t: %s: %q, want %q", stream, name, got, want)
			}
		}
		if line := r.waitLog(1); fmt.Sprint(line["dropped"]) != "[seed]" {
			t.Errorf("logged %v", line)
		}
	}
}

// TestHeartbeatsOfABatch: the agent of a batch that says the least decides.
func TestHeartbeatsOfABatch(t *testing.T) {
	t.Parallel()
	for _, fails := range []bool{false, true} {
		gate := make(chan struct{})
		back := stage(t, func(v *visit) {
			<-gate
			sayTask(v)
		})
		r := start(t, "agents:\n  - {name: a, protocol: chat, url: \"http://"+back.addr+"\", model: m}\n  - {name: b, protocol: chat, url: \"http://"+back.addr+"\", model: m}\n",
			func(s *Server) {
				s.snapshot().conf.Agents[0].Heartbeat.JSON = time.Hour
				s.snapshot().conf.Agents[1].Heartbeat.JSON = beatOften
			})
		c := r.dial()
		c.send("POST", batchPath, batchOf("a: first", "b: second"), "")
		resp := c.response()
		got := until(t, resp.Body, beats(false, 2))
		if agent := resp.Header.Get("Dragoman-Agent"); agent != "a, b" {
			t.Errorf("agents %q", agent)
		}
		if fails {
			ctx, cancel := context.WithCancel(context.Background())
			cancel()
			if err := r.Shutdown(ctx); err != nil {
				t.Error(err)
			}
		}
		close(gate)
		rest, err := io.ReadAll(resp.Body)
		if got += string(rest); err != nil || !gjson.Valid(got) || gjson.Get(got, "total_requests").Int() != 2 {
			t.Errorf("%v %q", err, got)
		}
		if !fails && (gjson.Get(got, "results.0.outputs.0.content").String() != "first" || gjson.Get(got, "results.1.outputs.0.content").String() != "second") {
			t.Errorf("%q", got)
		}
		if line := r.waitLog(1); line["status"] != int64(200) || fails != (line["outcome"] == "failed") {
			t.Errorf("logged %v", line)
		}
		if !fails {
			c.send("GET", "/v1/models", "", "")
			if again := c.reply(); again.status != 200 {
				t.Errorf("again: %d", again.status)
			}
		}
	}
}

// TestHeartbeatThatCannotBeWritten ends the call as a departure, and nothing follows it:
// what the client has of it may be half a chunk.
func TestHeartbeatThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	r := start(t, withServer("timeouts: {write: 10ms}", agentYAML("chat", "127.0.0.1:1")), func(s *Server) {
		s.snapshot().conf.Agents[0].Heartbeat.JSON = time.Millisecond
	})
	c := r.newCall()
	c.id, c.agent, c.keepAlive = "boom", r.first(), true
	c.decodeChat(t, chatHello)
	ours, theirs := net.Pipe() // nobody reads
	c.startHeart(ours)
	waitFor(t, "the departure", func() bool { return c.cancel.Err() != nil })
	if err := c.cancel.Err(); !errors.Is(err, errClientGone) || !strings.Contains(err.Error(), "took nothing for 10ms") {
		t.Error(err)
	}
	if !c.heart.stop() {
		t.Error("not committed")
	}
	c.taken = true
	wrote := make(chan int)
	go func() {
		b, _ := io.ReadAll(theirs)
		wrote <- len(b)
	}()
	body := takeBuffer()
	body.b = append(body.b, "{}"...)
	if (&tail{c: c, body: body}).run(ours) {
		t.Error("the connection is to be used again")
	}
	if n := <-wrote; n != 0 {
		t.Errorf("%d bytes behind a broken heartbeat", n)
	}
	if line := r.waitLog(1); line["outcome"] != "client_gone" || line["status"] != int64(499) {
		t.Errorf("logged %v", line)
	}
}

// TestNoHeartbeatsUnlessConfigured: they cost nothing then, and a failure has its status.
func TestNoHeartbeatsUnlessConfigured(t *testing.T) {
	r := start(t, agentYAML("chat", "127.0.0.1:1"))
	c := r.newCall()
	c.agent = r.first()
	c.decodeChat(t, chatHello)
	if n := testing.AllocsPerRun(100, func() {
		c.startHeart(nil)
		if c.heart.stop() || c.heart.committed() {
			t.Error("a heart that is not there has beaten")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
	// A heart that did not come to beat leaves nothing behind either.
	back := stage(t, func(v *visit) { v.json(500, openAIRefusal("it broke")) })
	p := start(t, agentYAML("chat", back.addr), beating(time.Hour))
	for _, body := range []string{chatHello, chatHelloStream} {
		if got := p.post("/v1/chat/completions", body, ""); got.status != 502 {
			t.Errorf("%d %s", got.status, got.body)
		}
	}
}

// TestHeartbeatsNeverComeBetween: whenever the timer fires, beside an answer, a failure or
// the end, what the client gets is heartbeats and then an answer, whole.
func TestHeartbeatsNeverComeBetween(t *testing.T) {
	t.Parallel()
	back := stage(t, func(v *visit) {
		if strings.Contains(string(v.body), "fails") {
			v.json(500, openAIRefusal("it broke"))
			return
		}
		answerWhole(v)
	})
	// An agent for each moment at which a timer may fire.
	yaml := "agents:\n"
	for i := range 8 {
		yaml += fmt.Sprintf("  - {name: a%d, protocol: chat, url: \"http://%s\", model: m}\n", i, back.addr)
	}
	r := start(t, yaml, func(s *Server) {
		for i := range 8 {
			d := 25 * time.Microsecond << i
			s.snapshot().conf.Agents[i].Heartbeat = config.Heartbeat{Stream: d, BeforeFirstByte: d, JSON: d}
		}
	})
	var all sync.WaitGroup
	for worker := range 4 {
		all.Go(func() {
			rnd := rand.New(rand.NewPCG(1, uint64(worker))) // #nosec G404 -- not for secrets
			c := r.dialBare()
			defer c.Close()
			for range 100 {
				stream, fails := rnd.IntN(2) == 0, rnd.IntN(3) == 0
				word := "hello"
				if fails {
					word = "fails"
				}
				f := clientFaces[rnd.IntN(2)]
				body, headers := f.ask(word, stream)
				c.send("POST", fmt.Sprintf("/agents/a%d%s", rnd.IntN(8), f.path), body, headers)
				got := c.reply()
				text := strings.TrimLeft(strings.ReplaceAll(got.body, streamBeat, ""), "\n")
				switch {
				case fails && got.status == 502:
				case got.status != 200, stream && fails && !f.failed(text), stream && !fails && !f.whole(text), !stream && !gjson.Valid(text):
					t.Errorf("stream=%t, fails=%t: %d %q", stream, fails, got.status, got.body)
				case !fails && f.text(text, stream) != "one two":
					t.Errorf("%q", got.body)
				}
			}
		})
	}
	all.Wait()
}
