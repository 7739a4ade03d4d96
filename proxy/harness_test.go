package proxy

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/dragoman-proxy/dragoman/internal/config"
	"github.com/dragoman-proxy/dragoman/internal/demo"
)

// longest bounds waits that only a bug makes long; it decides no test that
// passes.
const longest = 45 * time.Second

// running is a proxy under test, on a loopback port.
type running struct {
	*Server
	t    *testing.T
	addr string
	logs *observer.ObservedLogs
	done chan error

	network string
	tls     *tls.Config // of the clients; nil: none
}

// start runs a proxy with a configuration in YAML, which lets everybody in unless it says something about auth, and keeps
// no conversations unless it says something about state. Demo agents answer at once. No rate refills: the clock of the limits stands. tune changes
// what no configuration can, before clients come.
func start(t *testing.T, yaml string, tune ...func(*Server)) *running {
	t.Helper()
	return startOver(t, "tcp", yaml, tune...)
}

// starter is start, or startOver something else.
type starter = func(t *testing.T, yaml string, tune ...func(*Server)) *running

// overEveryWire runs a test over all that clients may come by.
func overEveryWire(t *testing.T, f func(t *testing.T, start starter)) {
	for _, wire := range []string{"tcp", "unix", "tls"} {
		t.Run(wire, func(t *testing.T) {
			t.Parallel()
			f(t, func(t *testing.T, yaml string, tune ...func(*Server)) *running {
				t.Helper()
				return startOver(t, wire, yaml, tune...)
			})
		})
	}
}

// startOver is start on a loopback port, with or without TLS, or on a unix socket.
func startOver(t *testing.T, wire, yaml string, tune ...func(*Server)) *running {
	t.Helper()
	if !strings.HasPrefix(yaml, "state:") && !strings.Contains(yaml, "\nstate:") { // so that what passes through stays as it is
		yaml = "state: {store: none}\n" + yaml
	}
	conf := parsed(t, yaml)
	network, address := "tcp", "127.0.0.1:0"
	var client *tls.Config
	switch wire {
	case "unix":
		dir, err := os.MkdirTemp("", "") // the names of tests are too long for sockets
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.RemoveAll(dir) })
		network, address = "unix", filepath.Join(dir, "s")
	case "tls":
		conf.Server.TLS = newAuthority(t).files(t)
		client = clientTLS(t, conf.Server.TLS)
	}
	conf.Server.Listen = address
	if network == "unix" {
		conf.Server.Listen = "unix:" + address
	}
	core, logs := observer.New(zapcore.InfoLevel)
	agents := demo.New(0)
	began := time.Now()
	s, err := build(conf, zap.New(core), agents.Dial, func() time.Time { return began }) // no rate refills, however slow the machine
	if err != nil {
		t.Fatal(err)
	}
	s.looks = longest
	for _, f := range tune {
		f(s)
	}
	ln, err := Listen(network, address, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	r := &running{Server: s, t: t, addr: ln.Addr().String(), logs: logs, done: make(chan error, 1), network: network, tls: client}
	go func() { r.done <- s.Serve(ln) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel() // nothing is waited for
		if err := s.Shutdown(ctx); err != nil {
			t.Errorf("shutdown: %v", err)
		}
		if err := <-r.done; err != nil {
			t.Errorf("serve: %v", err)
		}
		agents.Close()
		for _, l := range logs.FilterMessage("panic").All() {
			t.Errorf("panic: %v", l.ContextMap())
		}
	})
	return r
}

// unhurried gives all that waits for the machine, and not for a client's or an agent's decision, as long as a test may take, where
// the test does not say how long: machines stand still for seconds.
func unhurried(conf *config.Config) {
	relax := func(d *time.Duration, usual, to time.Duration) {
		if *d == usual {
			*d = to
		}
	}
	limits, usual := &conf.Server.Timeouts, config.DefaultServer().Timeouts
	relax(&limits.Header, usual.Header, longest)
	relax(&limits.Body, usual.Body, longest)
	relax(&limits.Write, usual.Write, longest)
	relax(&conf.State.Timeout, config.DefaultState().Timeout, longest)
	for i := range conf.Agents {
		a, usual := &conf.Agents[i], config.DefaultAgent()
		relax(&a.Timeouts.Connect, usual.Timeouts.Connect, longest)
		relax(&a.Health.Timeout, usual.Health.Timeout, longest)
		relax(&a.Balance.Pause, usual.Balance.Pause, 10*time.Minute)
	}
}

// agentYAML is a configuration of one agent.
func agentYAML(protocol, addr string, more ...string) string {
	s := "agents:\n  - name: it\n    aliases: [\"*\"]\n    protocol: " + protocol + "\n    url: http://" + addr + "\n    model: backend-model\n    heartbeat: {stream: 0s}\n"
	for _, m := range more {
		s += "    " + m + "\n"
	}
	return s
}

// first is the first agent of the configuration.
func (r *running) first() *agent {
	snap := r.snapshot()
	return snap.agents[&snap.conf.Agents[0]]
}

// waitLog waits for n access-log lines and returns the last one's fields.
func (r *running) waitLog(n int) map[string]any {
	r.t.Helper()
	deadline := time.Now().Add(longest)
	for {
		lines := r.logs.FilterMessage("request").All()
		if len(lines) >= n {
			return lines[n-1].ContextMap()
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("%d access-log lines, want %d", len(lines), n)
		}
		time.Sleep(time.Millisecond) //nolint:forbidigo // polls for what has no channel
	}
}

// bare is the connection below TLS.
func (c *client) bare() net.Conn {
	if tc, ok := c.Conn.(*tls.Conn); ok {
		return tc.NetConn()
	}
	return c.Conn
}

// halfClose ends what the client sends; it reads on.
func (c *client) halfClose() {
	_ = c.bare().(interface{ CloseWrite() error }).CloseWrite()
}

// stagedAgent is a backend under a test's control: serve runs for every request it gets.
type stagedAgent struct {
	t     *testing.T
	addr  string
	ln    net.Listener
	serve func(*visit)
	seen  chan *visit // every request, in order
	done  chan struct{}
}

// deadAddr is an address that refuses connections until the test ends: the port
// is that of a connection. A closed listener's may be another test's the next moment.
func deadAddr(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}}
	c, err := d.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c.LocalAddr().String()
}

// visit is one request that reached a backend.
type visit struct {
	t     *testing.T
	conn  net.Conn
	req   *http.Request
	body  []byte
	hangs bool // close the connection afterwards
}

func stage(t *testing.T, serve func(*visit)) *stagedAgent {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &stagedAgent{t: t, addr: ln.Addr().String(), ln: ln, serve: serve, seen: make(chan *visit, 1000), done: make(chan struct{})}
	go b.run()
	t.Cleanup(func() {
		_ = ln.Close()
		<-b.done
	})
	return b
}

func (b *stagedAgent) run() {
	defer close(b.done)
	var all []chan struct{}
	var conns []net.Conn
	for {
		c, err := b.ln.Accept()
		if err != nil {
			break
		}
		conns = append(conns, c)
		end := make(chan struct{})
		all = append(all, end)
		go func() {
			defer close(end)
			defer c.Close()
			r := bufio.NewReader(c)
			for {
				req, err := http.ReadRequest(r)
				if err != nil {
					return
				}
				body, err := io.ReadAll(req.Body)
				if err != nil {
					return
				}
				v := &visit{t: b.t, conn: c, req: req, body: body}
				b.seen <- v
				b.serve(v)
				if v.hangs {
					return
				}
			}
		}()
	}
	for _, c := range conns {
		_ = c.Close()
	}
	for _, end := range all {
		<-end
	}
}

// json answers with a whole body.
func (v *visit) json(status int, body string, headers ...string) {
	fmt.Fprintf(v.conn, "HTTP/1.1 %d \r\nContent-Type: application/json\r\nContent-Length: %d\r\n%s\r\n%s", status, len(body), strings.Join(append(headers, ""), "\r\n"), body)
}

// open begins an event stream.
func (v *visit) open() {
	_, _ = io.WriteString(v.conn, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n")
}

// chunk sends bytes of the stream.
func (v *visit) chunk(s string) {
	if s != "" {
		fmt.Fprintf(v.conn, "%x\r\n%s\r\n", len(s), s)
	}
}

// end ends the stream cleanly.
func (v *visit) end() { _, _ = io.WriteString(v.conn, "0\r\n\r\n") }

// gone waits until the proxy has closed the connection.
func (v *visit) gone() {
	_ = v.conn.SetReadDeadline(time.Now().Add(longest))
	var b [1]byte
	if _, err := v.conn.Read(b[:]); err == nil {
		v.t.Error("the proxy sent something on a connection in use")
	} else if ne, ok := err.(net.Error); ok && ne.Timeout() {
		v.t.Error("the proxy did not close the backend's connection")
	}
	v.hangs = true
}

// client is one connection to the proxy.
type client struct {
	t *testing.T
	net.Conn
	r        *bufio.Reader
	patience time.Duration // for an answer, if it is more than longest
	logs     *observer.ObservedLogs
}

// told is what the proxy has logged, for the message of a test that cannot go on.
func (c *client) told() string {
	var b strings.Builder
	for _, l := range c.logs.All() {
		fmt.Fprintf(&b, "\n  %s %s %v", l.Time.Format("15:04:05.000"), l.Message, l.ContextMap())
	}
	return b.String()
}

func (r *running) dial() *client {
	r.t.Helper()
	c := r.dialBare()
	r.t.Cleanup(func() { _ = c.Close() })
	return c
}

// dialBare is dial without a cleanup, for tests that make hundreds.
func (r *running) dialBare() *client {
	r.t.Helper()
	c, err := net.Dial(r.network, r.addr)
	if err != nil {
		r.t.Fatal(err)
	}
	_ = c.SetDeadline(time.Now().Add(longest))
	if r.tls != nil {
		c = tls.Client(c, r.tls)
	}
	return &client{t: r.t, Conn: c, r: bufio.NewReader(c), logs: r.logs}
}

// send writes a request; headers end in \r\n each.
func (c *client) send(method, path, body, headers string) {
	c.t.Helper()
	_ = c.SetDeadline(time.Now().Add(max(longest, c.patience)))
	if _, err := fmt.Fprintf(c, "%s %s HTTP/1.1\r\nHost: proxy\r\nContent-Type: application/json\r\n%sContent-Length: %d\r\n\r\n%s", method, path, headers, len(body), body); err != nil {
		c.t.Fatal(err)
	}
}

// response reads the head of an answer; its body is read by the caller.
func (c *client) response() *http.Response {
	c.t.Helper()
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		c.t.Fatalf("reading the response at %s, from %s: %v; the proxy logged:%s", time.Now().Format("15:04:05.000"), c.LocalAddr(), err, c.told())
	}
	return resp
}

// reply is a whole answer.
type reply struct {
	status int
	header http.Header
	body   string
}

func (c *client) reply() reply {
	c.t.Helper()
	resp := c.response()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatalf("reading the body: %v (after %q); the proxy logged:%s", err, b, c.told())
	}
	return reply{resp.StatusCode, resp.Header, string(b)}
}

// post sends a request on a connection of its own and reads the answer.
func (r *running) post(path, body, headers string) reply {
	r.t.Helper()
	c := r.dial()
	c.send("POST", path, body, headers)
	return c.reply()
}

func (r *running) get(path string) reply {
	r.t.Helper()
	c := r.dial()
	c.send("GET", path, "", "")
	return c.reply()
}

// until reads from a body until what was read holds want.
func until(t *testing.T, body io.Reader, want string) string {
	t.Helper()
	var got []byte
	b := make([]byte, 4096)
	for from := 0; !bytes.Contains(got[from:], []byte(want)); {
		from = max(0, len(got)-len(want))
		n, err := body.Read(b)
		got = append(got, b[:n]...)
		if err != nil && !bytes.Contains(got[from:], []byte(want)) {
			t.Fatalf("stream ended (%v) before %q came: %q", err, want, got)
		}
	}
	return string(got)
}

// connPair returns both ends of a connection.
func connPair(t testing.TB, network string) (server, client net.Conn) {
	t.Helper()
	addr := "127.0.0.1:0"
	if network == "unix" {
		addr = filepath.Join(t.TempDir(), "s")
	}
	ln, err := net.Listen(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	client, err = net.Dial(network, ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	server, err = ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close(); _ = server.Close() })
	return server, client
}
