package proxy

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/dragoman-proxy/dragoman/internal/config"
	"github.com/dragoman-proxy/dragoman/translate"
)

// sdkHead is the head of a request as an official SDK behind a mesh sends it.
const sdkHead = "Host: agents.internal.example:8080\r\nAccept-Encoding: gzip, deflate, br, zstd\r\nConnection: keep-alive\r\nAccept: application/json\r\n" +
	"Content-Type: application/json\r\nUser-Agent: OpenAI/Python 2.8.1\r\nX-Stainless-Lang: python\r\nX-Stainless-Package-Version: 2.8.1\r\nX-Stainless-OS: Linux\r\n" +
	"X-Stainless-Arch: x64\r\nX-Stainless-Runtime: CPython\r\nX-Stainless-Runtime-Version: 3.13.1\r\nAuthorization: Bearer sk-dragoman-0123456789abcdefghijklmnopqrstuvwxyz\r\n" +
	"X-Stainless-Async: false\r\nx-stainless-retry-count: 0\r\nx-stainless-read-timeout: 600\r\ntraceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n" +
	"x-request-id: 7f3b2c1d-5a6e-4f80-9b1c-2d3e4f5a6b7c\r\nContent-Length: 1234\r\n\r\n"

func sdkRequest() head {
	return head{method: []byte("POST"), target: []byte("/v1/chat/completions"), odd: []byte("HTTP/1.1"), raw: []byte(sdkHead), json: true}
}

// TestGuardCostsNoMemory: what is refused does not either.
func TestGuardCostsNoMemory(t *testing.T) {
	h := sdkRequest()
	if n := testing.AllocsPerRun(100, func() {
		if h.check() != nil {
			t.Error("refused")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
	h.raw = []byte("Host: x\r\nContent-Type: application/" + strings.Repeat("x", 500) + "\r\n" + strings.Repeat("x_", 30) + ": 1\r\nContent-Encoding: identity\r\n\r\n")
	if n := testing.AllocsPerRun(100, func() {
		if h.check() != faultMediaType {
			t.Error("passed")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkGuard(b *testing.B) {
	h := sdkRequest()
	b.SetBytes(int64(len(h.raw)))
	b.ReportAllocs()
	for b.Loop() {
		if h.check() != nil {
			b.Fatal("refused")
		}
	}
}

// wire is a client's connection in memory: it sends what it has, and then no more.
type wire struct {
	in  bytes.Reader
	mu  sync.Mutex
	out bytes.Buffer
}

func (w *wire) Read(p []byte) (int, error) { return w.in.Read(p) }
func (w *wire) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.out.Write(p)
}
func (w *wire) Close() error                     { return nil }
func (w *wire) LocalAddr() net.Addr              { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1} }
func (w *wire) RemoteAddr() net.Addr             { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 2} }
func (w *wire) SetDeadline(time.Time) error      { return nil }
func (w *wire) SetReadDeadline(time.Time) error  { return nil }
func (w *wire) SetWriteDeadline(time.Time) error { return nil }

// oneWire is a listener whose client is there already.
type oneWire struct{ w *wire }

func (l oneWire) Accept() (net.Conn, error) { return l.w, nil }
func (l oneWire) Close() error              { return nil }
func (l oneWire) Addr() net.Addr            { return l.w.LocalAddr() }

// FuzzHead sends raw bytes through the server as it runs, and holds what reaches
// the agent against what an independent parser, net/http's, makes of the same
// bytes: as many requests, in their order, each with the same body, and nothing
// in its head that the client did not say.
func FuzzHead(f *testing.F) {
	expand := strings.NewReplacer("PATH", "/v1/chat/completions", "BODY", vectorBody, "LEN", strconv.Itoa(len(vectorBody)))
	for _, v := range vectors {
		if len(v.raw) < 4<<10 && !v.cut {
			f.Add([]byte(expand.Replace(v.raw) + probe))
		}
	}
	f.Add([]byte("POST /v1/chat/completions HTTP/1.1\r\n" + strings.Replace(sdkHead, "1234", strconv.Itoa(len(vectorBody)), 1) + vectorBody))
	back := &recorder{got: make(chan string, 1000)}
	conf, problems := config.Parse("test.yaml", []byte("auth: {mode: none}\nserver: {trusted_proxies: [127.0.0.1]}\nlog: {access: false}\nagents:\n  - {name: it, aliases: ['*'], protocol: chat, url: 'demo:chat'}\n"),
		config.Options{Protocols: translate.Names(), OptionCheck: translate.CheckOption})
	if conf == nil {
		f.Fatal(problems)
	}
	s, err := New(conf, zap.NewNop(), func(context.Context, string) (net.Conn, error) {
		ours, theirs := net.Pipe()
		go func() {
			defer theirs.Close()
			back.serve(theirs)
		}()
		return ours, nil
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if err := s.Shutdown(ctx); err != nil {
			f.Error(err)
		}
	})
	f.Fuzz(func(t *testing.T, raw []byte) {
		w := &wire{}
		w.in.Reset(raw)
		done := make(chan struct{})
		conn, err := newListener(oneWire{w}, 1, 0, zap.NewNop()).Accept()
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			defer close(done)
			_ = s.http.ServeConn(conn)
		}()
		select {
		case <-done:
		case <-time.After(longest):
			t.Fatal("hangs")
		}
		if strings.Contains(w.out.String(), "internal_error") {
			t.Fatalf("panicked: %s", w.out.String())
		}
		r := bufio.NewReaderSize(bytes.NewReader(raw), 64<<10)
		for len(back.got) > 0 { // it is noted before it is answered
			sent := <-back.got
			agents, err := http.ReadRequest(bufio.NewReader(strings.NewReader(sent)))
			if err != nil {
				t.Fatalf("the agent got %q: %v", sent, err)
			}
			body, err := io.ReadAll(agents.Body)
			if err != nil || agents.Method != "POST" || agents.RequestURI != "/v1/chat/completions" || agents.Host != "demo" || agents.TransferEncoding != nil {
				t.Fatalf("the agent got %q: %v", sent, err)
			}
			asked := nextAsked(t, r, body)
			for k, values := range agents.Header {
				if writtenHere[k] {
					continue
				}
				have := strings.Join(asked.Header.Values(k), "\n")
				if strings.Join(values, "\n") != have {
					t.Fatalf("the agent got %s: %q, and the client said %q", k, values, have)
				}
			}
		}
	})
}

// writtenHere are the headers that the proxy writes itself.
var writtenHere = map[string]bool{
	"Content-Type": true, "Accept-Encoding": true, "Accept": true, "X-Request-Id": true, "Content-Length": true,
	"X-Forwarded-For": true, "X-Forwarded-Proto": true, "X-Forwarded-Host": true,
}

// nextAsked is the next request in the client's bytes that has a body; it must
// be the one that the agent got.
func nextAsked(t *testing.T, r *bufio.Reader, body []byte) *http.Request {
	for {
		for {
			b, err := r.Peek(1)
			if err != nil || b[0] != '\r' && b[0] != '\n' {
				break
			}
			_, _ = r.ReadByte()
		}
		asked, err := http.ReadRequest(r)
		if err != nil {
			t.Fatalf("the agent got %q, and in the client's bytes is no such request: %v", body, err)
		}
		has, err := io.ReadAll(asked.Body)
		if err != nil {
			t.Fatalf("the agent got %q, of which only %q was sent: %v", body, has, err)
		}
		// What another face said was translated.
		if bytes.Equal(has, body) || len(has) > 0 && !strings.HasSuffix(asked.URL.Path, "/chat/completions") {
			return asked
		}
	}
}

// TestCleanValue tries every byte at every place of values of every length.
func TestCleanValue(t *testing.T) {
	t.Parallel()
	for n := range 20 {
		for at := range n {
			for b := range 256 {
				v := bytes.Repeat([]byte("a"), n)
				v[at] = byte(b)
				if got, want := cleanValue(v), b >= ' ' && b != 0x7f || b == '\t'; got != want {
					t.Fatalf("%q: %v", v, got)
				}
			}
		}
	}
}
