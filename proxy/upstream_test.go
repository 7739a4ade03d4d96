package proxy

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/valyala/fasthttp/fasthttputil"
)

// testTLS returns configurations for both ends that trust each other.
func testTLS() (server, client *tls.Config) {
	s := httptest.NewUnstartedServer(nil)
	s.StartTLS()
	defer s.Close()
	client = s.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
	client.ServerName = "example.com"
	return s.TLS.Clone(), client
}

func await(t testing.TB, ch <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-ch:
	case <-time.After(longest):
		t.Fatalf("%s: nothing happened", what)
	}
}

func openFiles(t testing.TB) int {
	t.Helper()
	d, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip(err)
	}
	return len(d)
}

// needsLinux skips what looks into a socket.
func needsLinux(t testing.TB) {
	t.Helper()
	if !rawReads {
		t.Skip("needs Linux")
	}
}

// scriptedBackend is a backend whose every connection is served by a script.
type scriptedBackend struct {
	ln       net.Listener
	cfg      originConfig
	conns    atomic.Int32
	requests atomic.Int32 // complete requests read
	wg       sync.WaitGroup
	mu       sync.Mutex
	open     []net.Conn
}

// backendConn is one connection as the script sees it.
type backendConn struct {
	net.Conn
	b  *scriptedBackend
	br *bufio.Reader
	n  int // 1 for the backend's first connection
}

// request reads one request with its body, and false if there is none.
func (c *backendConn) request() bool {
	req, err := http.ReadRequest(c.br)
	if err != nil {
		return false
	}
	if _, err := io.Copy(io.Discard, req.Body); err != nil {
		return false
	}
	c.b.requests.Add(1)
	return true
}

func (c *backendConn) say(s string) { _, _ = io.WriteString(c.Conn, s) }

// awaitClose blocks until the other side has closed.
func (c *backendConn) awaitClose() { _, _ = io.Copy(io.Discard, c.br) }

// reset closes with an RST.
func (c *backendConn) reset() {
	if t, ok := c.Conn.(*net.TCPConn); ok {
		_ = t.SetLinger(0)
	}
	_ = c.Close()
}

// newBackend serves over tcp, unix, tls or memory.
func newBackend(t testing.TB, network string, serve func(*backendConn)) *scriptedBackend {
	t.Helper()
	b := &scriptedBackend{}
	var err error
	switch network {
	case "tcp":
		b.ln, err = net.Listen("tcp", "127.0.0.1:0")
		b.cfg = originConfig{Scheme: "http"}
	case "unix":
		b.ln, err = net.Listen("unix", filepath.Join(t.TempDir(), "agent.sock"))
		b.cfg = originConfig{Scheme: "unix"}
	case "tls":
		b.ln, err = net.Listen("tcp", "127.0.0.1:0")
		server, client := testTLS()
		if err == nil {
			b.ln = tls.NewListener(b.ln, server)
		}
		b.cfg = originConfig{Scheme: "https", TLS: client}
	case "memory":
		ln := fasthttputil.NewInmemoryListener()
		b.ln = ln
		b.cfg = originConfig{Scheme: "http", Dial: func(context.Context) (net.Conn, error) { return ln.Dial() }}
	default:
		t.Fatal(network)
	}
	if err != nil {
		t.Fatal(err)
	}
	b.cfg.Addr = b.ln.Addr().String()
	b.cfg.KeepAlive = time.Minute
	b.wg.Go(func() {
		for {
			c, err := b.ln.Accept()
			if err != nil {
				return
			}
			n := b.conns.Add(1)
			b.mu.Lock()
			b.open = append(b.open, c)
			b.mu.Unlock()
			b.wg.Go(func() {
				defer c.Close()
				serve(&backendConn{Conn: c, b: b, br: bufio.NewReader(c), n: int(n)})
			})
		}
	})
	t.Cleanup(func() {
		b.ln.Close()
		b.mu.Lock()
		for _, c := range b.open {
			c.Close()
		}
		b.mu.Unlock()
		b.wg.Wait()
	})
	return b
}

// origin makes an origin for b.
func (b *scriptedBackend) origin(t testing.TB) *origin {
	cfg := b.cfg
	if cfg.ConnectTimeout == 0 {
		cfg.ConnectTimeout = longest
	}
	o := newOrigin(cfg)
	t.Cleanup(o.close)
	return o
}

var (
	testBody  = []byte(`{"model":"m"}`)
	testHead  = []byte("POST /v1/x HTTP/1.1\r\nHost: agent\r\nContent-Length: 13\r\n\r\n")
	testLimit = deadlines{FirstByte: longest, Idle: longest}
)

const okHello = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello"

func mustRoundTrip(t testing.TB, o *origin) *exchange {
	t.Helper()
	x, err := o.roundTrip(nil, testHead, testBody, testLimit)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// fetch does a whole request that must succeed.
func fetch(t testing.TB, o *origin) string {
	t.Helper()
	x := mustRoundTrip(t, o)
	defer x.close()
	body, err := x.readAll(nil, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	x.finish(true)
	return string(body)
}

// drain reads a stream to its end, whatever that is.
func drain(x *exchange) (string, error) {
	var got []byte
	for {
		if err := x.read(func(p []byte) error { got = append(got, p...); return nil }); err != nil {
			return string(got), err
		}
	}
}

func wantError(t testing.TB, err error, want upstreamError) {
	t.Helper()
	var ue *upstreamError
	if !errors.As(err, &ue) {
		t.Fatalf("got %v, want an upstreamError", err)
	}
	if ue.Op != want.Op || ue.Sent != want.Sent || ue.Timeout != want.Timeout || ue.Canceled != want.Canceled {
		t.Errorf("got %+v, want %+v", *ue, want)
	}
	if want.Err != nil && !errors.Is(err, want.Err) {
		t.Errorf("got %v, want %v", err, want.Err)
	}
}

var allNetworks = []string{"tcp", "unix", "tls", "memory"}

func TestRoundTripsShareOneConnection(t *testing.T) {
	for _, network := range allNetworks {
		t.Run(network, func(t *testing.T) {
			b := newBackend(t, network, func(c *backendConn) {
				for c.request() {
					c.say(okHello)
				}
			})
			o := b.origin(t)
			for range 50 {
				if got := fetch(t, o); got != "hello" {
					t.Fatalf("got %q", got)
				}
			}
			if n := b.conns.Load(); n != 1 || o.idleConns() != 1 {
				t.Errorf("%d connections, %d idle", n, o.idleConns())
			}
		})
	}
}

func TestResponseHead(t *testing.T) {
	b := newBackend(t, "tcp", func(c *backendConn) {
		for c.request() {
			c.say("HTTP/1.1 429 \r\ncontent-type: application/json\r\nretry-after: 7\r\nX-a: 1\r\nx-A: 2\r\nContent-Length: 2\r\n\r\n{}")
		}
	})
	x := mustRoundTrip(t, b.origin(t))
	defer x.close()
	if x.Status() != 429 || string(x.ContentType()) != "application/json" || string(x.Header("Retry-After")) != "7" ||
		string(x.Header("RETRY-AFTER")) != "7" || x.Header("absent") != nil || x.contentLength() != 2 {
		t.Errorf("got %d, %q, %q", x.Status(), x.ContentType(), x.Header("retry-after"))
	}
	var all []string
	for k, v := range x.Headers() {
		all = append(all, string(k)+"="+string(v))
	}
	if got, want := strings.Join(all, " "), "Content-Length=2 Content-Type=application/json Retry-After=7 X-A=1 X-A=2"; got != want {
		t.Errorf("headers %s, want %s", got, want)
	}
	x.releaseHead()
	if x.Header("Retry-After") != nil || x.ContentType() != nil || x.Status() != 429 {
		t.Error("released head still answers")
	}
	for range x.Headers() {
		t.Error("released head still answers")
	}
}

// TestResponses has every answer sent in pieces of several sizes.
func TestResponses(t *testing.T) {
	long := strings.Repeat("x", 100<<10)
	for _, tt := range []struct {
		name   string
		wire   string // a final "EOF" closes the connection
		body   string
		status int
		err    error
		reused bool
	}{
		{name: "length", wire: okHello, body: "hello", status: 200, reused: true},
		{name: "empty reason", wire: "HTTP/1.1 200 \r\nContent-Length: 2\r\n\r\nhi", body: "hi", status: 200, reused: true},
		{name: "no reason", wire: "HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nhi", body: "hi", status: 200, reused: true},
		{name: "chunked", wire: "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n2\r\nhi\r\n3;x\r\n, y\r\n0\r\nT: 1\r\n\r\n", body: "hi, y", status: 200, reused: true},
		{name: "long", wire: "HTTP/1.1 200 OK\r\nContent-Length: 102400\r\n\r\n" + long, body: long, status: 200, reused: true},
		{name: "long head", wire: "HTTP/1.1 200 OK\r\nX-Long: " + long[:40<<10] + "\r\nContent-Length: 2\r\n\r\nhi", body: "hi", status: 200, reused: true},
		{name: "until EOF", wire: "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhelloEOF", body: "hello", status: 200},
		{name: "until EOF, 1.0", wire: "HTTP/1.0 200 OK\r\n\r\nhelloEOF", body: "hello", status: 200},
		{name: "until EOF, empty", wire: "HTTP/1.1 200 OK\r\n\r\nEOF", body: "", status: 200},
		{name: "1.0 kept alive", wire: "HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 2\r\n\r\nhi", body: "hi", status: 200, reused: true},
		{name: "1.0 not kept alive", wire: "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi", body: "hi", status: 200},
		{name: "close among others", wire: "HTTP/1.1 200 OK\r\nConnection: foo, Close\r\nContent-Length: 2\r\n\r\nhi", body: "hi", status: 200},
		{name: "interim", wire: "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\nA: b\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + okHello, body: "hello", status: 200, reused: true},
		{name: "no content", wire: "HTTP/1.1 204 No Content\r\n\r\n", status: 204, reused: true},
		{name: "not modified with a length", wire: "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", status: 304, reused: true},
		{name: "zero length", wire: "HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n", status: 500, reused: true},
		{name: "cut length", wire: "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhelloEOF", body: "hello", status: 200, err: errTruncated},
		{name: "cut chunk", wire: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nhelloEOF", body: "hello", status: 200, err: errTruncated},
		{name: "cut between chunks", wire: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nEOF", body: "hello", status: 200, err: errTruncated},
		{name: "cut in the last chunk", wire: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nEOF", body: "hello", status: 200, err: errTruncated},
		{name: "broken chunk", wire: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n", body: "hello", status: 200, err: errChunkSize},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, network := range allNetworks {
				for _, size := range []int{1, 7, 1 << 20} {
					if size == 1 && len(tt.wire) > 1<<10 || size == 7 && len(tt.wire) > 1<<10 {
						continue
					}
					b := newBackend(t, network, func(c *backendConn) {
						for c.request() {
							wire, closes := strings.CutSuffix(tt.wire, "EOF")
							for len(wire) > 0 {
								n := min(size, len(wire))
								c.say(wire[:n])
								wire = wire[n:]
							}
							if closes {
								return
							}
						}
					})
					o := b.origin(t)
					for _, stream := range []bool{true, false} {
						x := mustRoundTrip(t, o)
						var body string
						var err error
						if stream {
							if body, err = drain(x); err == io.EOF {
								err = nil
							}
						} else {
							var p []byte
							p, err = x.readAll([]byte("before "), 1<<20)
							body = strings.TrimPrefix(string(p), "before ")
						}
						if x.Status() != tt.status || body != tt.body || !errors.Is(err, tt.err) {
							t.Errorf("%s in pieces of %d, stream %v: got %d, %.30q, %v; want %d, %.30q, %v",
								network, size, stream, x.Status(), body, err, tt.status, tt.body, tt.err)
						}
						x.finish(true)
						x.close()
						x.finish(true)
						if got := o.idleConns() == 1; got != tt.reused {
							t.Errorf("%s in pieces of %d: connection kept: %v", network, size, got)
						}
					}
				}
			}
		})
	}
}

func TestResponsesRefused(t *testing.T) {
	for _, tt := range []struct {
		name, wire string
		want       error
	}{
		{"both lengths", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", errBothLengths},
		{"both lengths, the other way", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n", errBothLengths},
		{"two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello", errLengths},
		{"list of lengths", "HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\nhello", errLength},
		{"signed length", "HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nhello", errLength},
		{"empty length", "HTTP/1.1 200 OK\r\nContent-Length: \r\n\r\nhello", errLength},
		{"huge length", "HTTP/1.1 200 OK\r\nContent-Length: 9999999999999999999\r\n\r\nhello", errLength},
		{"other coding", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", errCoding},
		{"two codings", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", errCoding},
		{"identity", "HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\n", errCoding},
		{"chunked twice", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", errCoding},
		{"coding in 1.0", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", errCoding},
		{"version", "HTTP/1.2 200 OK\r\nContent-Length: 0\r\n\r\n", errNotHTTP},
		{"version 2", "HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n", errNotHTTP},
		{"another protocol", "-ERR unknown command\r\n", errNotHTTP},
		{"short status", "HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n", errNotHTTP},
		{"long status", "HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n", errNotHTTP},
		{"status below 100", "HTTP/1.1 099 OK\r\nContent-Length: 0\r\n\r\n", errNotHTTP},
		{"bare line feeds", "HTTP/1.1 200 OK\nContent-Length: 0\n\n", errHeadLine},
		{"one bare line feed", "HTTP/1.1 200 OK\r\nA: b\nContent-Length: 0\r\n\r\n", errHeadLine},
		{"folded line", "HTTP/1.1 200 OK\r\nA: b\r\n c\r\nContent-Length: 0\r\n\r\n", errHeadLine},
		{"space before the colon", "HTTP/1.1 200 OK\r\nContent-Length : 0\r\n\r\n", errHeadLine},
		{"no colon", "HTTP/1.1 200 OK\r\nnonsense\r\n\r\n", errHeadLine},
		{"no name", "HTTP/1.1 200 OK\r\n: b\r\n\r\n", errHeadLine},
		{"NUL in a value", "HTTP/1.1 200 OK\r\nA: \x00\r\nContent-Length: 0\r\n\r\n", errHeadLine},
		{"empty line in front", "\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", errNotHTTP},
		{"switched", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", errSwitch},
		{"endless interim", strings.Repeat("HTTP/1.1 102 Processing\r\n\r\n", maxInterim+1), errInterim},
		{"too long", "HTTP/1.1 200 OK\r\nA: " + strings.Repeat("x", 64<<10) + "\r\n\r\n", errHeadTooLong},
		{"endless", "HTTP/1.1 200 OK\r\n" + strings.Repeat("A: b\r\n", 64<<10), errHeadTooLong},
		{"cut head", "HTTP/1.1 200 OK\r\nContent-Le" + "EOF", errHeadTruncated},
		{"cut interim", "HTTP/1.1 100 Continue\r\n\r\nEOF", errHeadTruncated},
		{"nothing", "EOF", errNoConnResponse},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBackend(t, "tcp", func(c *backendConn) {
				if !c.request() {
					return
				}
				wire, closes := strings.CutSuffix(tt.wire, "EOF")
				c.say(wire)
				if !closes {
					c.awaitClose()
				}
			})
			o := b.origin(t)
			_, err := o.roundTrip(nil, testHead, testBody, testLimit)
			wantError(t, err, upstreamError{Op: "read", Sent: true, Err: tt.want})
			if n := b.requests.Load(); n != 1 {
				t.Errorf("%d requests", n)
			}
			if o.idleConns() != 0 {
				t.Error("the connection was kept")
			}
		})
	}
}

func TestAnswerToHEADHasNoBody(t *testing.T) {
	b := newBackend(t, "tcp", func(c *backendConn) {
		for c.request() {
			c.say("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
		}
	})
	o := b.origin(t)
	for range 2 {
		x, err := o.roundTrip(nil, []byte("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n"), nil, testLimit)
		if err != nil {
			t.Fatal(err)
		}
		if body, err := drain(x); body != "" || err != io.EOF || string(x.Header("Content-Length")) != "5" {
			t.Errorf("got %q, %v", body, err)
		}
		x.finish(true)
	}
	if n := b.conns.Load(); n != 1 {
		t.Errorf("%d connections", n)
	}
}

func TestHeadLimitIsExact(t *testing.T) {
	head := "HTTP/1.1 204 No Content\r\nA: b\r\n\r\n"
	b := newBackend(t, "tcp", func(c *backendConn) {
		for c.request() {
			c.say(head)
		}
	})
	for d, ok := range map[int]bool{-1: false, 0: true, 1: true} {
		b.cfg.MaxHeader = len(head) + d
		x, err := b.origin(t).roundTrip(nil, testHead, testBody, testLimit)
		if (err == nil) != ok {
			t.Errorf("limit %+d: %v", d, err)
		}
		if err == nil {
			x.close()
		}
	}
}

// What a backend sends beyond its answer must not become the next answer.
func TestBytesAfterTheBodyEndTheConnection(t *testing.T) {
	forged := "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged"
	for _, network := range allNetworks {
		for _, wire := range []string{
			okHello + forged,
			"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n" + forged,
			"HTTP/1.1 204 No Content\r\n\r\n" + forged,
			"HTTP/1.1 204 No Content\r\nContent-Length: 44\r\n\r\n",
		} {
			b := newBackend(t, network, func(c *backendConn) {
				for c.request() {
					c.say(wire)
				}
			})
			o := b.origin(t)
			for range 3 {
				if got := fetch(t, o); got != "hello" && got != "" {
					t.Errorf("%s: got %q", network, got)
				}
			}
			if n := b.conns.Load(); n != 3 {
				t.Errorf("%s: %.60q: %d connections", network, wire, n)
			}
		}
	}
}

// The same when they come after the answer was complete: the probe finds them.
func TestUnsolicitedBytesAreFoundByTheProbe(t *testing.T) {
	needsLinux(t)
	for _, network := range []string{"tcp", "unix", "tls"} {
		t.Run(network, func(t *testing.T) {
			more := make(chan struct{})
			b := newBackend(t, network, func(c *backendConn) {
				for c.request() {
					c.say(okHello)
					if c.n == 1 {
						<-more
						c.say("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged")
					}
				}
			})
			o := b.origin(t)
			fetch(t, o)
			close(more)
			waitFor(t, "the probe to see it", func() bool { return !o.idle[0].alive() })
			if got := fetch(t, o); got != "hello" || b.conns.Load() != 2 {
				t.Errorf("got %q over %d connections", got, b.conns.Load())
			}
		})
	}
}

func TestStaleConnectionIsDroppedByTheProbe(t *testing.T) {
	needsLinux(t)
	for _, network := range []string{"tcp", "unix", "tls"} {
		for _, how := range []string{"close", "reset"} {
			t.Run(network+" "+how, func(t *testing.T) {
				leave := make(chan struct{})
				b := newBackend(t, network, func(c *backendConn) {
					for c.request() {
						c.say(okHello)
						if c.n == 1 {
							<-leave
							if how == "reset" {
								c.reset()
							}
							return
						}
					}
				})
				o := b.origin(t)
				fetch(t, o)
				close(leave)
				waitFor(t, "the probe to see it", func() bool { return !o.idle[0].alive() })
				fetch(t, o)
				if c, r := b.conns.Load(), b.requests.Load(); c != 2 || r != 2 {
					t.Errorf("%d connections, %d requests", c, r)
				}
			})
		}
	}
}

// An agent that has run has acted. However it dies after it read the request,
// or a part of it, it is not sent again; also on a connection that had been
// idle, and where its kernel never acknowledged the request because the reset
// came before the delayed acknowledgement.
func TestRequestThatWasReadIsNeverSentAgain(t *testing.T) {
	for _, network := range allNetworks {
		for _, warm := range []int{0, 1, 30} {
			for _, how := range []string{"close", "reset", "close in the middle", "half an answer"} {
				t.Run(fmt.Sprintf("%s after %d, %s", network, warm, how), func(t *testing.T) {
					var reads atomic.Int32
					b := newBackend(t, network, func(c *backendConn) {
						for range warm {
							if !c.request() {
								return
							}
							c.say(okHello)
						}
						if how == "close in the middle" {
							if _, err := io.ReadFull(c.Conn, make([]byte, 10)); err == nil {
								reads.Add(1)
							}
							return
						}
						if !c.request() {
							return
						}
						reads.Add(1)
						switch how {
						case "reset":
							c.reset()
						case "half an answer":
							c.say("HTTP/1.1 2")
						}
					})
					o := b.origin(t)
					for range warm {
						fetch(t, o)
					}
					_, err := o.roundTrip(nil, testHead, testBody, testLimit)
					var ue *upstreamError
					if !errors.As(err, &ue) || !ue.Sent || ue.Timeout || ue.Canceled {
						t.Errorf("got %#v", err)
					}
					if reads.Load() != 1 || b.conns.Load() != 1 {
						t.Errorf("delivered %d times over %d connections", reads.Load(), b.conns.Load())
					}
				})
			}
		}
	}
}

// unprobed makes the origin's idle connection pass the probe, as one does whose
// FIN arrives just after it.
func unprobed(o *origin) {
	o.idle[0].sock = nil
}

// A connection that the backend closed in the moment of its reuse: TCP shows
// that nothing was received, so the request goes out once more; a unix socket
// and memory refuse the write; under TLS it cannot be known, and is an error.
func TestStaleConnectionInTheMomentOfReuse(t *testing.T) {
	needsLinux(t)
	for _, network := range allNetworks {
		for _, body := range []int{0, 13, 4 << 20} {
			t.Run(fmt.Sprintf("%s with %d bytes", network, body), func(t *testing.T) {
				leave, left := make(chan struct{}), make(chan struct{})
				b := newBackend(t, network, func(c *backendConn) {
					for c.request() {
						c.say(okHello)
						if c.n == 1 {
							<-leave
							c.Close()
							close(left)
							return
						}
					}
				})
				o := b.origin(t)
				fetch(t, o)
				close(leave)
				<-left
				unprobed(o)
				head := fmt.Appendf(nil, "POST /v1/x HTTP/1.1\r\nHost: agent\r\nContent-Length: %d\r\n\r\n", body)
				x, err := o.roundTrip(nil, head, make([]byte, body), testLimit)
				if err == nil {
					x.close()
				}
				switch {
				case network == "tls":
					var ue *upstreamError
					if !errors.As(err, &ue) || !ue.Sent {
						t.Errorf("got %v", err)
					}
					if b.requests.Load() != 1 {
						t.Errorf("%d requests", b.requests.Load())
					}
				case network == "tcp" && body > 1<<20:
					// Parts of it may have been taken before the reset: either it is proven
					// that none arrived, or it is an error.
					var ue *upstreamError
					if err != nil && (!errors.As(err, &ue) || !ue.Sent) {
						t.Errorf("got %v", err)
					}
					if n := b.requests.Load(); err == nil && n != 2 || err != nil && n != 1 {
						t.Errorf("%d requests, error %v", n, err)
					}
				case err != nil || b.requests.Load() != 2:
					t.Errorf("%d requests, error %v", b.requests.Load(), err)
				}
			})
		}
	}
}

// It is sent once more, not for ever.
func TestResentOnlyOnce(t *testing.T) {
	needsLinux(t)
	leave, left := make(chan struct{}), make(chan struct{})
	b := newBackend(t, "tcp", func(c *backendConn) {
		if c.n > 1 {
			c.request()
			return
		}
		c.request()
		c.say(okHello)
		<-leave
		c.Close()
		close(left)
	})
	o := b.origin(t)
	fetch(t, o)
	close(leave)
	<-left
	unprobed(o)
	_, err := o.roundTrip(nil, testHead, testBody, testLimit)
	wantError(t, err, upstreamError{Op: "read", Sent: true, Err: errNoConnResponse})
	if c, r := b.conns.Load(), b.requests.Load(); c != 2 || r != 2 {
		t.Errorf("%d connections, %d requests", c, r)
	}
}

// A backend that refuses a large body answers early and closes; the answer must
// not be lost behind a broken pipe.
func TestEarlyAnswerToALargeBody(t *testing.T) {
	b := newBackend(t, "tcp", func(c *backendConn) {
		_, _ = c.br.ReadString('\n')
		c.say("HTTP/1.1 413 Content Too Large\r\nContent-Length: 4\r\n\r\nmuch")
	})
	o := b.origin(t)
	head := []byte("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 67108864\r\n\r\n")
	x, err := o.roundTrip(nil, head, make([]byte, 64<<20), testLimit)
	if err != nil {
		t.Fatal(err)
	}
	defer x.close()
	if body, err := x.readAll(nil, 100); x.Status() != 413 || string(body) != "much" || err != nil {
		t.Errorf("got %d, %q, %v", x.Status(), body, err)
	}
	x.finish(true)
	if o.idleConns() != 0 {
		t.Error("the connection was kept")
	}
}

func TestPoolAge(t *testing.T) {
	b := newBackend(t, "tcp", func(c *backendConn) {
		for c.request() {
			c.say(okHello)
		}
	})
	o := b.origin(t)
	fetch(t, o)
	o.idle[0].idleSince = time.Now().Add(-o.cfg.KeepAlive)
	fetch(t, o)
	if n := b.conns.Load(); n != 2 {
		t.Errorf("%d connections", n)
	}

	b.cfg.KeepAlive = -1
	none := b.origin(t)
	fetch(t, none)
	if none.idleConns() != 0 {
		t.Error("kept in spite of KeepAlive -1")
	}
}

// Idle connections are closed when their time is up, also without traffic.
func TestPoolJanitor(t *testing.T) {
	closed := make(chan struct{}, 2)
	b := newBackend(t, "tcp", func(c *backendConn) {
		for c.request() {
			c.say(okHello)
		}
		closed <- struct{}{}
	})
	b.cfg.KeepAlive = time.Millisecond
	o := b.origin(t)
	fetch(t, o)
	await(t, closed, "closing of the idle connection")
	waitFor(t, "an empty pool", func() bool { return o.idleConns() == 0 })
	fetch(t, o)
	await(t, closed, "closing of the second idle connection")
}

func TestPoolBoundsAndClose(t *testing.T) {
	o := newOrigin(originConfig{Scheme: "http", Addr: "127.0.0.1:1", KeepAlive: time.Hour})
	before := len(o.idle)
	var mine []net.Conn
	for range maxIdleConns + 3 {
		p := fasthttputil.NewPipeConns()
		mine = append(mine, p.Conn1())
		o.put(newUpstreamConn(p.Conn2()))
	}
	if got := o.idleConns() - before; got != maxIdleConns {
		t.Errorf("%d idle connections", got)
	}
	o.close()
	p := fasthttputil.NewPipeConns()
	mine = append(mine, p.Conn1())
	o.put(newUpstreamConn(p.Conn2()))
	for i, c := range mine {
		if _, err := c.Read(make([]byte, 1)); err == nil {
			t.Errorf("connection %d is open", i)
		}
	}
}

func TestDialRefused(t *testing.T) {
	o := newOrigin(originConfig{Scheme: "http", Addr: deadAddr(t)})
	_, err := o.roundTrip(&cancel{}, testHead, testBody, testLimit)
	wantError(t, err, upstreamError{Op: "dial", Err: syscall.ECONNREFUSED})
}

func TestDialTimeout(t *testing.T) {
	for name, limit := range map[string]deadlines{
		"connect": testLimit,
		"total":   {Total: time.Now().Add(time.Millisecond)},
	} {
		o := newOrigin(originConfig{Scheme: "http", Dial: func(ctx context.Context) (net.Conn, error) {
			<-ctx.Done()
			return nil, errors.New("gave up")
		}})
		if name == "connect" {
			o.cfg.ConnectTimeout = time.Millisecond
		}
		_, err := o.roundTrip(&cancel{}, testHead, testBody, limit)
		wantError(t, err, upstreamError{Op: "dial", Timeout: true})
	}
}

func TestLinkLocalAddressesAreNotDialled(t *testing.T) {
	for _, addr := range []string{
		"169.254.169.254:80", "[::ffff:169.254.169.254]:80", "[fe80::1]:80", "[fd00:ec2::254]:80", "100.100.100.200:80",
	} {
		o := newOrigin(originConfig{Scheme: "http", Addr: addr})
		_, err := o.roundTrip(&cancel{}, testHead, testBody, testLimit)
		wantError(t, err, upstreamError{Op: "dial", Err: errForbiddenAddress})
	}
	allowed := originConfig{Scheme: "http", Addr: "169.254.169.254:80", AllowLinkLocal: true, ConnectTimeout: time.Millisecond}
	if _, err := newOrigin(allowed).roundTrip(nil, testHead, testBody, testLimit); errors.Is(err, errForbiddenAddress) {
		t.Errorf("allowed, but %v", err)
	}
}

var errLeft = errors.New("client left")

func TestCancelWhileDialling(t *testing.T) {
	dialling := make(chan struct{})
	o := newOrigin(originConfig{Scheme: "http", Dial: func(ctx context.Context) (net.Conn, error) {
		close(dialling)
		<-ctx.Done()
		return nil, ctx.Err()
	}, ConnectTimeout: time.Hour})
	var cn cancel
	go func() { <-dialling; cn.Cancel(errLeft) }()
	_, err := o.roundTrip(&cn, testHead, testBody, deadlines{})
	wantError(t, err, upstreamError{Op: "dial", Canceled: true, Err: errLeft})
}

// A dialler that succeeds in the moment of the cancel must not leak its
// connection.
func TestCancelAsTheDialSucceeds(t *testing.T) {
	p := fasthttputil.NewPipeConns()
	var cn cancel
	o := newOrigin(originConfig{Scheme: "http", Dial: func(context.Context) (net.Conn, error) {
		cn.Cancel(errLeft)
		return p.Conn1(), nil
	}})
	_, err := o.roundTrip(&cn, testHead, testBody, testLimit)
	wantError(t, err, upstreamError{Op: "dial", Canceled: true, Err: errLeft})
	if _, err := p.Conn2().Read(make([]byte, 1)); err == nil {
		t.Error("the connection is open")
	}
}

func TestCancelDuringTheHandshake(t *testing.T) {
	b := newBackend(t, "tcp", func(c *backendConn) {
		_, _ = c.br.ReadByte() // ClientHello has begun; say nothing
		c.awaitClose()
	})
	b.cfg.Scheme = "https"
	b.cfg.ConnectTimeout = time.Hour
	var cn cancel
	go func() {
		for b.conns.Load() == 0 {
			runtime.Gosched()
		}
		cn.Cancel(errLeft)
	}()
	_, err := b.origin(t).roundTrip(&cn, testHead, testBody, deadlines{})
	wantError(t, err, upstreamError{Op: "dial", Canceled: true, Err: errLeft})
}

func TestHandshakeTimeout(t *testing.T) {
	b := newBackend(t, "tcp", func(c *backendConn) { c.awaitClose() })
	b.cfg.Scheme = "https"
	b.cfg.ConnectTimeout = 10 * time.Millisecond
	_, err := b.origin(t).roundTrip(&cancel{}, testHead, testBody, deadlines{})
	wantError(t, err, upstreamError{Op: "dial", Timeout: true})
}

func TestCancelBeforeTheRequest(t *testing.T) {
	b := newBackend(t, "tcp", func(c *backendConn) {
		for c.request() {
			c.say(okHello)
		}
	})
	o := b.origin(t)
	fetch(t, o) // one idle connection; canceled requests take it, or dial
	var cn cancel
	cn.Cancel(errLeft)
	cn.Cancel(errors.New("later causes do not count"))
	for range 2 {
		_, err := o.roundTrip(&cn, testHead, testBody, testLimit)
		wantError(t, err, upstreamError{Op: "dial", Canceled: true, Err: errLeft})
	}
	if n := b.requests.Load(); n != 1 {
		t.Errorf("%d requests", n)
	}
	cn.reset()
	x, err := o.roundTrip(&cn, testHead, testBody, testLimit)
	if err != nil {
		t.Fatal(err)
	}
	x.close()
}

func TestCancelWhileWriting(t *testing.T) {
	for _, network := range allNetworks {
		t.Run(network, func(t *testing.T) {
			begun, gone := make(chan struct{}), make(chan struct{})
			b := newBackend(t, network, func(c *backendConn) {
				_, _ = c.br.ReadByte()
				close(begun)
				<-gone
			})
			var cn cancel
			go func() { <-begun; cn.Cancel(errLeft) }()
			head := []byte("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 67108864\r\n\r\n")
			_, err := b.origin(t).roundTrip(&cn, head, make([]byte, 64<<20), deadlines{})
			want := upstreamError{Op: "write", Sent: true, Canceled: true, Err: errLeft}
			var ue *upstreamError
			if network == "memory" && errors.As(err, &ue) { // where a write need not wait
				want.Op = ue.Op
			}
			wantError(t, err, want)
			close(gone)
		})
	}
}

func TestCancelWhileWaitingForTheHead(t *testing.T) {
	for _, network := range allNetworks {
		t.Run(network, func(t *testing.T) {
			read, gone := make(chan struct{}), make(chan struct{})
			b := newBackend(t, network, func(c *backendConn) {
				c.request()
				close(read)
				c.awaitClose()
				close(gone)
			})
			var cn cancel
			go func() { <-read; cn.Cancel(errLeft) }()
			o := b.origin(t)
			_, err := o.roundTrip(&cn, testHead, testBody, testLimit)
			wantError(t, err, upstreamError{Op: "read", Sent: true, Canceled: true, Err: errLeft})
			await(t, gone, "the backend sees the close")
			if n := b.requests.Load(); n != 1 || o.idleConns() != 0 {
				t.Errorf("%d requests, %d idle connections", n, o.idleConns())
			}
		})
	}
}

func TestCancelInMidBody(t *testing.T) {
	for _, network := range allNetworks {
		for _, all := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, at once %v", network, all), func(t *testing.T) {
				gone := make(chan struct{})
				b := newBackend(t, network, func(c *backendConn) {
					c.request()
					c.say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
					c.awaitClose()
					close(gone)
				})
				o := b.origin(t)
				var cn cancel
				x, err := o.roundTrip(&cn, testHead, testBody, testLimit)
				if err != nil {
					t.Fatal(err)
				}
				canceled := make(chan struct{})
				if all {
					go func() { cn.Cancel(errLeft); close(canceled) }()
					_, err = x.readAll(nil, 1000)
				} else {
					var got []byte
					err = x.read(func(p []byte) error { got = append(got, p...); return nil })
					if string(got) != "hello" || err != nil {
						t.Errorf("got %q, %v", got, err)
					}
					go func() { cn.Cancel(errLeft); close(canceled) }()
					_, err = drain(x)
				}
				if err != errLeft {
					t.Errorf("got %v", err)
				}
				<-canceled
				await(t, gone, "the backend sees the close")
				if _, err := drain(x); err != errLeft {
					t.Errorf("read again: %v", err)
				}
				x.finish(true)
				if o.idleConns() != 0 {
					t.Error("the connection was kept")
				}
			})
		}
	}
}

// A cancel after the body's end must not close a connection that has gone back
// to the pool, and one before finish keeps it out.
func TestCancelAroundFinish(t *testing.T) {
	b := newBackend(t, "tcp", func(c *backendConn) {
		for c.request() {
			c.say(okHello)
		}
	})
	o := b.origin(t)
	var cn cancel
	for _, before := range []bool{false, true} {
		x, err := o.roundTrip(&cn, testHead, testBody, testLimit)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := x.readAll(nil, 100); err != nil {
			t.Fatal(err)
		}
		if before {
			cn.Cancel(errLeft)
		}
		x.finish(true)
		cn.Cancel(errLeft)
		if kept := o.idleConns() == 1; kept == before {
			t.Errorf("canceled before finish %v, kept %v", before, kept)
		}
		cn.reset()
		if !before {
			fetch(t, o)
			if b.conns.Load() != 1 {
				t.Error("the cancel closed a pooled connection")
			}
		}
	}
}

func TestCancelRaces(t *testing.T) {
	b := newBackend(t, "tcp", func(c *backendConn) {
		for c.request() {
			c.say(okHello)
		}
	})
	o := b.origin(t)
	before := openFiles(t)
	for range 500 {
		var cn cancel
		var wg sync.WaitGroup
		wg.Go(func() { cn.Cancel(errLeft) })
		x, err := o.roundTrip(&cn, testHead, testBody, testLimit)
		if err == nil {
			var body []byte
			if body, err = x.readAll(nil, 100); err == nil && string(body) != "hello" {
				t.Errorf("got %q", body)
			}
			x.finish(true)
		}
		if err != nil && !errors.Is(err, errLeft) {
			t.Errorf("got %v", err)
		}
		wg.Wait()
	}
	o.close()
	waitFor(t, "all descriptors to be given back", func() bool { return openFiles(t) <= before })
}

// Heartbeats and idle limits are deadlines in mid-stream: after each the same
// read goes on, wherever in the framing it was.
func TestDeadlineResumesInMidStream(t *testing.T) {
	for _, network := range allNetworks {
		t.Run(network, func(t *testing.T) {
			wire := []string{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "0", "0e\r\nhel", "lo, this is\r", "\n1\r\n.\r\n0\r\n", "\r\n"}
			next := make(chan struct{})
			b := newBackend(t, network, func(c *backendConn) {
				for c.request() {
					for _, w := range wire {
						c.say(w)
						<-next
					}
				}
			})
			o := b.origin(t)
			x := mustRoundTrip(t, o)
			defer close(next)
			defer x.close()
			x.releaseHead()
			var got []byte
			timeouts := 0
			for {
				x.setDeadline(time.Now().Add(5 * time.Millisecond))
				err := x.read(func(p []byte) error { got = append(got, p...); return nil })
				if err == os.ErrDeadlineExceeded {
					if timeouts++; timeouts <= len(wire) {
						next <- struct{}{}
					}
					continue
				}
				if err == io.EOF {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			if string(got) != "hello, this is." || timeouts < len(wire)-1 {
				t.Errorf("got %q after %d timeouts", got, timeouts)
			}
			if timeouts < len(wire) {
				next <- struct{}{}
			}
			x.finish(true)
			if o.idleConns() != 1 {
				t.Error("the connection was not kept")
			}
		})
	}
}

// The next request on a connection is not bound by the last one's deadline.
func TestDeadlinesAreNotInherited(t *testing.T) {
	for _, network := range allNetworks {
		t.Run(network, func(t *testing.T) {
			expired := make(chan struct{})
			b := newBackend(t, network, func(c *backendConn) {
				for i := 0; c.request(); i++ {
					if i > 0 {
						<-expired
					}
					c.say(okHello)
				}
			})
			o := b.origin(t)
			short := 20 * time.Millisecond
			x, err := o.roundTrip(nil, testHead, testBody, deadlines{FirstByte: longest, Idle: longest})
			if err != nil {
				t.Fatal(err)
			}
			x.setDeadline(time.Now().Add(short))
			if err := x.read(func([]byte) error { return nil }); err != io.EOF {
				t.Skip("slow machine: ", err)
			}
			x.finish(true)
			timer := time.AfterFunc(2*short, func() { close(expired) })
			defer timer.Stop()
			for _, limit := range []deadlines{{}, testLimit} {
				x, err := o.roundTrip(nil, testHead, testBody, limit)
				if err != nil {
					t.Fatalf("%+v: %v", limit, err)
				}
				if _, err := x.readAll(nil, 100); err != nil {
					t.Fatalf("%+v: %v", limit, err)
				}
				x.finish(true)
			}
			if n := b.conns.Load(); n != 1 {
				t.Errorf("%d connections", n)
			}
		})
	}
}

func TestTimeouts(t *testing.T) {
	short := 5 * time.Millisecond
	t.Run("first byte", func(t *testing.T) {
		b := newBackend(t, "tcp", func(c *backendConn) { c.request(); c.say("HTTP/1.1 2"); c.awaitClose() })
		for _, limit := range []deadlines{{FirstByte: short}, {FirstByte: longest, Total: time.Now().Add(short)}, {Total: time.Now().Add(short)}} {
			_, err := b.origin(t).roundTrip(&cancel{}, testHead, testBody, limit)
			var ue *upstreamError
			if !errors.As(err, &ue) || !ue.Timeout || ue.Canceled {
				t.Errorf("got %#v", err)
			}
		}
	})
	t.Run("write", func(t *testing.T) {
		stop := make(chan struct{})
		b := newBackend(t, "tcp", func(c *backendConn) { <-stop })
		head := []byte("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 67108864\r\n\r\n")
		_, err := b.origin(t).roundTrip(&cancel{}, head, make([]byte, 64<<20), deadlines{Idle: short})
		wantError(t, err, upstreamError{Op: "write", Sent: true, Timeout: true})
		close(stop)
	})
	t.Run("idle in readAll", func(t *testing.T) {
		b := newBackend(t, "tcp", func(c *backendConn) {
			c.request()
			c.say("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello")
			c.awaitClose()
		})
		x, err := b.origin(t).roundTrip(&cancel{}, testHead, testBody, deadlines{Idle: short})
		if err != nil {
			t.Fatal(err)
		}
		defer x.close()
		if body, err := x.readAll(nil, 100); string(body) != "hello" || err != os.ErrDeadlineExceeded {
			t.Errorf("got %q, %v", body, err)
		}
	})
}

func TestReadAllLimit(t *testing.T) {
	for _, wire := range []string{okHello, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n"} {
		b := newBackend(t, "tcp", func(c *backendConn) {
			for c.request() {
				c.say(wire)
			}
		})
		o := b.origin(t)
		for limit, want := range map[int]error{4: errBodyTooLarge, 5: nil, 0: errBodyTooLarge} {
			x := mustRoundTrip(t, o)
			if _, err := x.readAll(nil, limit); !errors.Is(err, want) {
				t.Errorf("limit %d: %v", limit, err)
			}
			x.close()
		}
	}
}

func TestReadReportsItsCallbacksError(t *testing.T) {
	b := newBackend(t, "tcp", func(c *backendConn) { c.request(); c.say(okHello) })
	x := mustRoundTrip(t, b.origin(t))
	defer x.close()
	mine := errors.New("mine")
	if err := x.read(func(p []byte) error {
		if string(p) != "hello" || !x.ended() {
			t.Errorf("got %q, ended %v", p, x.ended())
		}
		return mine
	}); err != mine {
		t.Errorf("got %v", err)
	}
}

// While a stream waits, its connection holds no buffer.
func TestIdleStreamHoldsNoBuffer(t *testing.T) {
	b := newBackend(t, "tcp", func(c *backendConn) {
		c.request()
		c.say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
		c.awaitClose()
	})
	x := mustRoundTrip(t, b.origin(t))
	defer x.close()
	seen := false
	for !seen {
		if err := x.read(func([]byte) error { seen = true; return nil }); err != nil {
			t.Fatal(err)
		}
	}
	x.setDeadline(time.Now().Add(time.Millisecond))
	if err := x.read(func([]byte) error { return nil }); err != os.ErrDeadlineExceeded {
		t.Fatal(err)
	}
	if rawReads && x.u.buf != nil {
		t.Error("a waiting stream holds a buffer")
	}
}

func FuzzScanHead(f *testing.F) {
	for _, s := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
		"HTTP/1.0 200 \r\nConnection: keep-alive, close\r\ncontent-length:\t0 \r\n\r\n",
		"HTTP/1.1 404\r\nTransfer-Encoding: chunked\r\nSet-Cookie: a=b\r\nTrailer: X\r\n\r\n",
		"HTTP/1.1 200 OK\r\nA:\x7f\r\n\r\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, head []byte) {
		i := bytes.Index(head, crlfcrlf)
		if i < 0 {
			return
		}
		head = head[:i+len(crlfcrlf)]
		info, err := scanHead(head)
		if err != nil {
			return
		}
		h, err := parseHead(head)
		if err != nil {
			return // the parser may refuse what we let pass, and its word counts
		}
		defer respHeaders.Put(h)
		if h.StatusCode() != info.status {
			t.Fatalf("status %d, ours %d", h.StatusCode(), info.status)
		}
		if len(h.Peek("Content-Length")) > 0 != (info.length >= 0) {
			t.Fatalf("length %q, ours %d", h.Peek("Content-Length"), info.length)
		}
		if got := h.ContentLength(); info.length >= 0 && int64(got) != info.length || info.chunked != (got == -1) {
			t.Fatalf("length %d, ours %d, chunked %v", got, info.length, info.chunked)
		}
		if info.close && !h.ConnectionClose() {
			t.Fatal("the parser would keep the connection")
		}
	})
}
