package proxy

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/valyala/fasthttp/fasthttputil"
	"golang.org/x/sys/unix"
)

func newTestWatcher(t testing.TB) *watcher {
	t.Helper()
	w, err := newWatcher()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
		if err := w.Close(); err != nil {
			t.Errorf("second close: %v", err)
		}
	})
	return w
}

func TestWatcherSeesEveryDeparture(t *testing.T) {
	w := newTestWatcher(t)
	wrap := func(c net.Conn) net.Conn { return c }
	for _, tt := range []struct {
		name    string
		network string
		wrap    func(net.Conn) net.Conn
		unread  string
		leave   func(t *testing.T, c net.Conn)
	}{
		{"FIN", "tcp", wrap, "", func(_ *testing.T, c net.Conn) { c.Close() }},
		{"RST", "tcp", wrap, "", func(_ *testing.T, c net.Conn) { c.(*net.TCPConn).SetLinger(0); c.Close() }},
		{"half-close", "tcp", wrap, "", func(_ *testing.T, c net.Conn) { c.(*net.TCPConn).CloseWrite() }},
		{"FIN behind unread bytes", "tcp", wrap, "GET /next HTTP/1.1\r\n\r\n", func(_ *testing.T, c net.Conn) { c.Close() }},
		{"RST behind unread bytes", "tcp", wrap, "x", func(_ *testing.T, c net.Conn) { c.(*net.TCPConn).SetLinger(0); c.Close() }},
		{"unix", "unix", wrap, "", func(_ *testing.T, c net.Conn) { c.Close() }},
		{"unix half-close behind unread bytes", "unix", wrap, "x", func(_ *testing.T, c net.Conn) { c.(*net.UnixConn).CloseWrite() }},
		{"wrapped by NetConn", "tcp", func(c net.Conn) net.Conn { return netConnWrapper{c} }, "", func(_ *testing.T, c net.Conn) { c.Close() }},
		{"wrapped by UnsafeConn", "tcp", func(c net.Conn) net.Conn { return unsafeConnWrapper{netConnWrapper{c}} }, "", func(_ *testing.T, c net.Conn) { c.Close() }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			server, client := connPair(t, tt.network)
			if tt.unread != "" {
				if _, err := io.WriteString(client, tt.unread); err != nil {
					t.Fatal(err)
				}
			}
			gone := make(chan struct{})
			var tk watchTicket
			if !w.watch(tt.wrap(server), &tk, func() { close(gone) }) {
				t.Fatal("not watched")
			}
			tt.leave(t, client)
			await(t, gone, "departure")
			tk.stop()
			tk.stop() // harmless
		})
	}
}

type netConnWrapper struct{ net.Conn }

func (w netConnWrapper) NetConn() net.Conn { return w.Conn }

type unsafeConnWrapper struct{ c netConnWrapper }

func (w unsafeConnWrapper) UnsafeConn() net.Conn               { return w.c }
func (w unsafeConnWrapper) Read(p []byte) (int, error)         { return w.c.Read(p) }
func (w unsafeConnWrapper) Write(p []byte) (int, error)        { return w.c.Write(p) }
func (w unsafeConnWrapper) Close() error                       { return w.c.Close() }
func (w unsafeConnWrapper) LocalAddr() net.Addr                { return w.c.LocalAddr() }
func (w unsafeConnWrapper) RemoteAddr() net.Addr               { return w.c.RemoteAddr() }
func (w unsafeConnWrapper) SetDeadline(t time.Time) error      { return w.c.SetDeadline(t) }
func (w unsafeConnWrapper) SetReadDeadline(t time.Time) error  { return w.c.SetReadDeadline(t) }
func (w unsafeConnWrapper) SetWriteDeadline(t time.Time) error { return w.c.SetWriteDeadline(t) }

func TestWatcherSeesDepartureUnderTLS(t *testing.T) {
	w := newTestWatcher(t)
	sc, cc := testTLS()
	server, client := connPair(t, "tcp")
	ts, tc := tls.Server(server, sc), tls.Client(client, cc)
	errs := make(chan error, 1)
	go func() { errs <- tc.Handshake() }()
	if err := errors.Join(ts.Handshake(), <-errs); err != nil {
		t.Fatal(err)
	}
	if _, err := tc.Write([]byte("unread")); err != nil {
		t.Fatal(err)
	}
	gone := make(chan struct{})
	var tk watchTicket
	if !w.watch(ts, &tk, func() { close(gone) }) {
		t.Fatal("not watched")
	}
	_ = tc.Close()
	await(t, gone, "departure")
	tk.stop()
}

func TestWatcherAlreadyGone(t *testing.T) {
	w := newTestWatcher(t)
	server, client := connPair(t, "tcp")
	client.Close()
	gone := make(chan struct{})
	var tk watchTicket
	if !w.watch(server, &tk, func() { close(gone) }) {
		t.Fatal("not watched")
	}
	await(t, gone, "departure before the watch")
	tk.stop()

	server.Close()
	if w.watch(server, &tk, func() { t.Error("fired") }) {
		t.Error("a closed connection is watched")
	}
	tk.stop()
}

func TestWatcherWithoutDescriptor(t *testing.T) {
	w := newTestWatcher(t)
	p := fasthttputil.NewPipeConns()
	defer p.Close()
	var tk watchTicket
	if w.watch(p.Conn1(), &tk, func() { t.Error("fired") }) {
		t.Error("watched")
	}
	tk.stop()
	(&watchTicket{}).stop()
}

// A ticket that was stopped never fires, and the connection can be watched again
// at once, with the same ticket or another.
func TestWatcherStoppedStaysSilent(t *testing.T) {
	w := newTestWatcher(t)
	server, client := connPair(t, "tcp")
	var a, b watchTicket
	for range 100 {
		for _, tk := range []*watchTicket{&a, &b} {
			if !w.watch(server, tk, func() { t.Error("fired after stop") }) {
				t.Fatal("not watched")
			}
			tk.stop()
		}
	}
	gone := make(chan struct{})
	if !w.watch(server, &b, func() { close(gone) }) {
		t.Fatal("not watched")
	}
	client.Close()
	await(t, gone, "departure")
	b.stop()
}

func TestWatcherStopRacesDeparture(t *testing.T) {
	w := newTestWatcher(t)
	const rounds = 1000
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	before := openFiles(t)
	var fired, tickets int
	var tks [4]watchTicket
	for i := range rounds / len(tks) {
		var wg sync.WaitGroup
		for k := range tks {
			client, err := net.Dial("tcp", ln.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			server, err := ln.Accept()
			if err != nil {
				t.Fatal(err)
			}
			var running, ran, stopped atomic.Bool
			if !w.watch(server, &tks[k], func() {
				running.Store(true)
				if stopped.Load() {
					t.Error("onGone after stop")
				}
				ran.Store(true)
				running.Store(false)
			}) {
				t.Fatal("not watched")
			}
			tickets++
			wg.Go(func() { client.Close() })
			if (i+k)%3 == 0 {
				// The connection is closed before stop, and its number is reused.
				server.Close()
			}
			tks[k].stop()
			stopped.Store(true)
			if running.Load() {
				t.Error("onGone was running when stop returned")
			}
			if ran.Load() {
				fired++
			}
			server.Close()
		}
		wg.Wait()
	}
	t.Logf("%d of %d departures were seen before stop", fired, tickets)
	if after := openFiles(t); after > before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.free) != len(w.slots) {
		t.Errorf("%d slots, %d free", len(w.slots), len(w.free))
	}
}

func TestWatcherManyAtOnce(t *testing.T) {
	w := newTestWatcher(t)
	const conns = 300
	var wg sync.WaitGroup
	tks := make([]watchTicket, conns)
	clients := make([]net.Conn, conns)
	for i := range conns {
		var server net.Conn
		server, clients[i] = connPair(t, "tcp")
		wg.Add(1)
		if !w.watch(server, &tks[i], wg.Done) {
			t.Fatal("not watched")
		}
	}
	for _, c := range clients {
		c.Close()
	}
	all := make(chan struct{})
	go func() { wg.Wait(); close(all) }()
	await(t, all, "300 departures")
	for i := range tks {
		tks[i].stop()
	}
}

func TestWatcherCloseLeavesTicketsHarmless(t *testing.T) {
	w, err := newWatcher()
	if err != nil {
		t.Fatal(err)
	}
	server, client := connPair(t, "tcp")
	var tk watchTicket
	if !w.watch(server, &tk, func() { t.Error("fired") }) {
		t.Fatal("not watched")
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	client.Close()
	tk.stop()
	if w.watch(server, &tk, func() { t.Error("fired") }) {
		t.Error("watched by a closed watcher")
	}
}

func tcpOptions(t testing.TB, c net.Conn) (userTimeout, lowat int) {
	t.Helper()
	rc, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var e1, e2 error
	err = rc.Control(func(fd uintptr) {
		userTimeout, e1 = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT)
		lowat, e2 = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT)
	})
	if err := errors.Join(err, e1, e2); err != nil {
		t.Fatal(err)
	}
	return userTimeout, lowat
}

func TestTuneAccepted(t *testing.T) {
	server, _ := connPair(t, "tcp")
	tuneAccepted(netConnWrapper{server}, 30*time.Second)
	userTimeout, lowat := tcpOptions(t, server)
	if userTimeout != 30000 || lowat != notSentLowWater {
		t.Errorf("TCP_USER_TIMEOUT %d, TCP_NOTSENT_LOWAT %d", userTimeout, lowat)
	}
	u, _ := connPair(t, "unix")
	tuneAccepted(u, time.Second) // nothing to set, nothing breaks
}

func TestWatchAllocations(t *testing.T) {
	w := newTestWatcher(t)
	server, _ := connPair(t, "tcp")
	var tk watchTicket
	onGone := func() {}
	n := testing.AllocsPerRun(100, func() {
		if !w.watch(server, &tk, onGone) {
			t.Fatal("not watched")
		}
		tk.stop()
	})
	if n > 1 { // SyscallConn's
		t.Errorf("%v allocations a watch", n)
	}
}

func BenchmarkWatch(b *testing.B) {
	w := newTestWatcher(b)
	server, _ := connPair(b, "tcp")
	var tk watchTicket
	onGone := func() {}
	b.ReportAllocs()
	for b.Loop() {
		w.watch(server, &tk, onGone)
		tk.stop()
	}
}
