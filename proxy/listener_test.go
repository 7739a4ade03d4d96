package proxy

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"
)

// TestIdleClientsMakeRoom has up to a thousand clients hold every place and ask nothing: new
// ones, ones between requests, and ones behind a stream. One that asks is served,
// again and again, and so is the one stream that is older than all of them. No time
// limit plays a part.
func TestIdleClientsMakeRoom(t *testing.T) {
	t.Parallel()
	overEveryWire(t, func(t *testing.T, start starter) {
		places := 200
		if strings.HasSuffix(t.Name(), "/tcp") {
			places = 1000
		}
		gate := make(chan struct{})
		back := stage(t, func(v *visit) {
			if !strings.Contains(string(v.body), "long") {
				answerWhole(v)
				return
			}
			v.open()
			v.chunk(chatScript().first)
			<-gate
			v.chunk(chatScript().rest)
			v.end()
		})
		r := start(t, withServer(fmt.Sprintf("timeouts: {header: 1h, idle: 1h}, max_connections: %d", places), agentYAML("chat", back.addr)))
		dial := func() *client { // many take their time
			c := r.dial()
			c.patience = 10 * longest
			_ = c.SetDeadline(time.Now().Add(c.patience))
			return c
		}
		long := dial()
		long.send("POST", "/v1/chat/completions", strings.Replace(chatHelloStream, "hello", "long", 1), "")
		body := long.response().Body
		until(t, body, "one")
		idle := []*client{dial(), dial()} // in the order in which they begin to wait
		idle[0].send("GET", "/livez", "", "")
		idle[0].reply()
		waitFor(t, "its rest", func() bool { return r.resting() == 2 })
		idle[1].send("POST", "/v1/chat/completions", chatHelloStream, "")
		idle[1].reply()
		waitFor(t, "its rest", func() bool { return r.resting() == 2 })
		for len(idle) < places-1 {
			c := dial()
			if len(idle)%2 == 0 {
				c.send("GET", "/livez", "", "")
				c.reply()
			}
			idle = append(idle, c)
		}
		waitFor(t, "a full house", func() bool { return r.resting() == places-1 && len(r.listener().slots) == places })
		for range 3 {
			if got := r.get("/livez"); got.status != 200 { // and stays connected
				t.Errorf("a newcomer: %d", got.status)
			}
		}
		for _, c := range idle[:2] {
			c.ended()
		}
		last := idle[len(idle)-1]
		last.send("GET", "/livez", "", "")
		if got := last.reply(); got.status != 200 {
			t.Errorf("the last of them: %d", got.status)
		}
		close(gate)
		rest, err := io.ReadAll(body)
		if err != nil || !strings.Contains(string(rest), "[DONE]") {
			t.Errorf("the stream: %v %q", err, rest)
		}
		var b strings.Builder
		r.meters.write(&b)
		for _, line := range []string{fmt.Sprintf("\ndragoman_connections %d\n", places), "\ndragoman_connections_evicted_total 3\n"} {
			if !strings.Contains(b.String(), line) {
				t.Errorf("%q is not among the metrics", line)
			}
		}
		if n := r.logs.FilterMessageSnippet("limit of connections").Len(); n != 1 {
			t.Errorf("the limit is logged %d times", n)
		}
	})
}

// listener waits for Serve to have one: clients can connect before.
func (r *running) listener() *listener {
	r.t.Helper()
	var l *listener
	waitFor(r.t, "a listener", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		l = r.ln
		return l != nil
	})
	return l
}

func (r *running) resting() int {
	l := r.listener()
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for c := l.resting.first; c != nil; c = c.newer {
		n++
	}
	return n
}

// TestBusyClientsKeepTheirPlaces: a newcomer waits as long as everybody else is
// served, and comes in with the first that only waits.
func TestBusyClientsKeepTheirPlaces(t *testing.T) {
	t.Parallel()
	overEveryWire(t, func(t *testing.T, start starter) {
		gates := []chan struct{}{make(chan struct{}), make(chan struct{})}
		back := stage(t, func(v *visit) {
			v.open()
			v.chunk(chatScript().first)
			if strings.Contains(string(v.body), "first") {
				<-gates[0]
			} else {
				<-gates[1]
			}
			v.chunk(chatScript().rest)
			v.end()
		})
		r := start(t, withServer("timeouts: {header: 1h, idle: 1h}, max_connections: 2", agentYAML("chat", back.addr)))
		var busy []*client
		var bodies []io.Reader
		for _, name := range []string{"first", "second"} {
			c := r.dial()
			c.send("POST", "/v1/chat/completions", strings.Replace(chatHelloStream, "hello", name, 1), "")
			body := c.response().Body
			until(t, body, "one")
			busy, bodies = append(busy, c), append(bodies, body)
		}
		newcomer := r.dial()
		served := make(chan reply)
		go func() {
			newcomer.send("GET", "/livez", "", "")
			served <- newcomer.reply()
		}()
		waitFor(t, "the newcomer", r.listener().crowded.Load)
		select {
		case got := <-served:
			t.Errorf("served beyond the limit: %d", got.status)
		default:
		}
		close(gates[1])
		if got := <-served; got.status != 200 {
			t.Errorf("the newcomer: %d", got.status)
		}
		rest, err := io.ReadAll(bodies[1])
		if err != nil || !strings.Contains(string(rest), "[DONE]") {
			t.Errorf("the stream that ended: %v %q", err, rest)
		}
		busy[1].ended()
		close(gates[0])
		if rest, err := io.ReadAll(bodies[0]); err != nil || !strings.Contains(string(rest), "[DONE]") {
			t.Errorf("the stream that went on: %v %q", err, rest)
		}
	})
}

// accepted is a client of a listener on loopback, seen from both sides.
func accepted(t *testing.T, l *listener) (client net.Conn, server *clientConn) {
	t.Helper()
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return client, c.(*clientConn)
}

// TestRequestBeforeEvictionIsServed has a request come when its connection was asked to
// go already: it stays, and another is asked.
func TestRequestBeforeEvictionIsServed(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := newListener(ln, 2, 0, zap.NewNop())
	defer l.Close()
	var servers []*clientConn
	var clients []net.Conn
	for range 2 {
		client, server := accepted(t, l)
		clients, servers = append(clients, client), append(servers, server)
	}
	l.evict()
	l.evict() // one at a time
	if l.evicting != servers[0] || !servers[0].evicted.Load() || servers[1].evicted.Load() {
		t.Fatal("the oldest is to go")
	}
	b := make([]byte, 10)
	_ = servers[0].SetReadDeadline(time.Now().Add(time.Hour)) // as fasthttp does, not knowing
	if _, err := servers[0].Read(b); !os.IsTimeout(err) {
		t.Errorf("reading on: %v", err)
	}
	servers[0].busy() // what was read before
	select {
	case <-l.stirred:
	default:
		t.Error("the newcomer does not hear of it")
	}
	_ = servers[0].SetReadDeadline(time.Now().Add(longest))
	if _, err := clients[0].Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if n, err := servers[0].Read(b); n != 1 || err != nil {
		t.Errorf("the request: %d, %v", n, err)
	}
	l.evict()
	if l.evicting != servers[1] {
		t.Error("the next is not asked")
	}
	_ = servers[1].Close()
	servers[1].rest() // fasthttp may say so behind a close
	servers[0].rest()
	servers[0].rest()
	if l.evicting != nil || l.resting.first != servers[0] || l.resting.last != servers[0] || len(l.slots) != 1 {
		t.Errorf("%+v, %d slots", l.resting, len(l.slots))
	}
	servers[0].busy()
	_ = servers[0].Close()
	servers[0].rest()
	if l.resting != (restList{}) || len(l.slots) != 0 {
		t.Errorf("a closed one is asked: %+v, %d slots", l.resting, len(l.slots))
	}
}

// TestRequestsThatCameAreRead, though the time for them was over before anybody looked.
func TestRequestsThatCameAreRead(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := newListener(ln, 3, 0, zap.NewNop())
	l.headTimeout = longest
	defer l.Close()
	b := make([]byte, 10)
	for _, says := range []string{"", "GET", "GET, and is to go"} {
		client, c := accepted(t, l)
		if _, err := io.WriteString(client, says[:min(3, len(says))]); err != nil {
			t.Fatal(err)
		}
		waitFor(t, "the request", func() bool { return pending(c.raw) == (says != "") })
		if len(says) > 3 {
			l.evict()
		}
		_ = c.SetReadDeadline(longAgo)
		n, err := c.Read(b)
		if says == "" {
			if !os.IsTimeout(err) {
				t.Errorf("nothing came: %d, %v", n, err)
			}
			c.busy()
			continue
		}
		if string(b[:n]) != "GET" || err != nil || c.evicted.Load() || l.evicting != nil {
			t.Errorf("%q, %v, to go: %t", b[:n], err, c.evicted.Load())
		}
		// What is too late within a request is.
		if _, err := io.WriteString(client, "x"); err != nil {
			t.Fatal(err)
		}
		waitFor(t, "more", func() bool { return pending(c.raw) })
		_ = c.SetReadDeadline(longAgo)
		if n, err := c.Read(b); !os.IsTimeout(err) {
			t.Errorf("the rest: %d, %v", n, err)
		}
	}
}

// TestRestList takes connections out of every place.
func TestRestList(t *testing.T) {
	t.Parallel()
	for out := range 3 {
		var r restList
		c := []*clientConn{{}, {}, {}}
		for _, x := range c {
			r.push(x)
		}
		r.remove(c[out])
		r.remove(c[out])
		want := append(append([]*clientConn{}, c[:out]...), c[out+1:]...)
		if r.first != want[0] || r.last != want[1] || want[0].newer != want[1] || want[1].older != want[0] || want[0].older != nil || want[1].newer != nil {
			t.Errorf("without %d: %+v", out, r)
		}
		r.remove(want[0])
		r.remove(want[1])
		if r != (restList{}) {
			t.Errorf("%+v", r)
		}
	}
}

// TestSlowHeads: a head has an absolute time, on a new connection, on one that was
// kept alive and on one that came back from a stream.
func TestSlowHeads(t *testing.T) {
	t.Parallel()
	overEveryWire(t, func(t *testing.T, start starter) {
		for _, before := range []string{"nothing", "JSON", "a stream", "a stream, with the beginning sent ahead"} {
			back := stage(t, answerWhole)
			r := start(t, withServer("timeouts: {header: 1s, idle: 1h}", agentYAML("chat", back.addr)))
			c := r.dial()
			const begin = "POST /v1/chat/completions HTTP/1.1\r\nX-Slow: "
			switch before {
			case "JSON":
				c.send("POST", "/v1/chat/completions", chatHello, "")
				c.reply()
			case "a stream":
				c.send("POST", "/v1/chat/completions", chatHelloStream, "")
				c.reply()
			case "a stream, with the beginning sent ahead":
				fmt.Fprintf(c, "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s%s", len(chatHelloStream), chatHelloStream, begin)
				c.reply()
			}
			stop := c.trickle(begin)
			if got := c.reply(); got.status != 408 {
				t.Errorf("behind %s: %d %s", before, got.status, got.body)
			}
			stop()
		}
	})
}

// trickle sends a byte now and then until the function that it returns is called.
func (c *client) trickle(begin string) (stop func()) {
	_, _ = io.WriteString(c.Conn, begin)
	end, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				if _, err := io.WriteString(c.Conn, "x"); err != nil {
					return
				}
			case <-end:
				return
			}
		}
	}()
	return func() {
		close(end)
		<-done
	}
}

// TestSlowBodies: a body too has an absolute time.
func TestSlowBodies(t *testing.T) {
	t.Parallel()
	overEveryWire(t, func(t *testing.T, start starter) {
		r := start(t, withServer("timeouts: {body: 200ms}", demoYAML))
		c := r.dial()
		stop := c.trickle("POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n{")
		if got := c.reply(); got.status != 408 {
			t.Errorf("%d %s", got.status, got.body)
		}
		stop()
		c.ended()
	})
}

// TestTLSAcceptSurvivesEMFILE runs out of descriptors for a while; nothing of TLS is done
// before there is a place.
func TestTLSAcceptSurvivesEMFILE(t *testing.T) {
	t.Parallel()
	certs, err := loadCertificates(newAuthority(t).files(t), zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	emfile := &net.OpError{Op: "accept", Err: syscall.EMFILE}
	l := newListener(&fakeListener{ln, []error{emfile, emfile}}, 1, time.Second, zap.NewNop())
	l.certs = certs
	defer l.Close()
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	got, err := l.Accept()
	if err != nil {
		t.Fatalf("accept gave up: %v", err)
	}
	if !overTLS(got) || len(l.slots) != 1 {
		t.Error("no TLS, or no place taken")
	}
	_ = got.Close()
	if len(l.slots) != 0 || len(l.conns) != 0 || l.resting != (restList{}) {
		t.Errorf("left behind: %d, %d, %+v", len(l.slots), len(l.conns), l.resting)
	}
}

// TestCloseEndsTheWaitForAPlace: a newcomer that waits does not keep a listener open.
func TestCloseEndsTheWaitForAPlace(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := newListener(ln, 1, time.Second, zap.NewNop())
	l.slots <- struct{}{}
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	done := make(chan error)
	go func() {
		_, err := l.Accept()
		done <- err
	}()
	waitFor(t, "the newcomer", l.crowded.Load)
	_ = l.Close()
	if err := <-done; !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
	_ = c.SetReadDeadline(time.Now().Add(longest))
	if _, err := c.Read(make([]byte, 1)); err == nil || os.IsTimeout(err) {
		t.Errorf("the newcomer: %v", err)
	}
}

// TestHandshakesMakeRoom has clients hold every place that do not even begin their
// handshakes.
func TestHandshakesMakeRoom(t *testing.T) {
	t.Parallel()
	r := startOver(t, "tls", withServer("timeouts: {header: 1h}, max_connections: 10", demoYAML))
	bare := *r
	bare.tls = nil
	first := bare.dial()
	waitFor(t, "the first", func() bool { return r.resting() == 1 })
	for range 9 {
		bare.dial()
	}
	waitFor(t, "a full house", func() bool { return r.resting() == 10 })
	if got := r.get("/livez"); got.status != 200 {
		t.Errorf("%d", got.status)
	}
	first.ended()
}

// TestRequestsBehindAStream sends a stream's request and others in one write: they are
// answered behind the stream, in order, though the connection changes hands.
func TestRequestsBehindAStream(t *testing.T) {
	t.Parallel()
	overEveryWire(t, func(t *testing.T, start starter) {
		gate := make(chan struct{})
		back := stage(t, func(v *visit) {
			if !strings.Contains(string(v.body), `"stream":true`) {
				answerWhole(v)
				return
			}
			v.open()
			v.chunk(chatScript().first)
			<-gate
			v.chunk(chatScript().rest)
			v.end()
		})
		r := start(t, agentYAML("chat", back.addr))
		c := r.dial()
		post := func(body string) string {
			return fmt.Sprintf("POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
		}
		// The second stream's connection has been handed back once, the third's twice.
		if _, err := io.WriteString(c, post(chatHelloStream)+post(chatHelloStream)+post(chatHello)+post(chatHelloStream)+"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		for i, stream := range []bool{true, true, false, true} {
			resp := c.response()
			var begin string
			if stream {
				begin = until(t, resp.Body, "one")
				gate <- struct{}{}
			}
			rest, err := io.ReadAll(resp.Body)
			if got := begin + string(rest); err != nil || chatText(got, stream) != "one two" {
				t.Fatalf("answer %d: %v %q", i, err, got)
			}
		}
		if got := c.reply(); got.status != 200 {
			t.Errorf("the last: %d %q", got.status, got.body)
		}
	})
}
