package proxy

import (
	"net"
	"testing"
	"time"

	"go.uber.org/zap"
)

// TestOptionsUnderTLS: what bounds a client of TCP bounds one of TLS too, and its
// departure is watched.
func TestOptionsUnderTLS(t *testing.T) {
	t.Parallel()
	certs, err := loadCertificates(newAuthority(t).files(t), zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := newListener(ln, 1, 7*time.Second, zap.NewNop())
	l.certs, l.watcher = certs, newTestWatcher(t)
	defer l.Close()
	c, got := accepted(t, l)
	if userTimeout, lowat := tcpOptions(t, got.raw); userTimeout != 7000 || lowat != notSentLowWater {
		t.Errorf("TCP_USER_TIMEOUT %d, TCP_NOTSENT_LOWAT %d", userTimeout, lowat)
	}
	gone := make(chan struct{})
	if !l.watcher.watch(got, ticketOf(got), func() { close(gone) }) {
		t.Fatal("not watched")
	}
	_ = c.Close()
	await(t, gone, "the departure")
}

// TestOptionsOfPlainClients: the listener bounds them too, with the write timeout that is
// in force when they come.
func TestOptionsOfPlainClients(t *testing.T) {
	t.Parallel()
	r := start(t, "server: {timeouts: {write: 7s}}\n"+demoYAML)
	options := func() (int, int) {
		c := r.dial()
		c.send("GET", "/livez", "", "")
		_ = c.reply()
		r.ln.mu.Lock()
		defer r.ln.mu.Unlock()
		for cc := range r.ln.conns {
			if cc.RemoteAddr().String() == c.LocalAddr().String() {
				return tcpOptions(t, cc.raw)
			}
		}
		t.Error("no such connection")
		return 0, 0
	}
	if userTimeout, lowat := options(); userTimeout != 7000 || lowat != notSentLowWater {
		t.Errorf("TCP_USER_TIMEOUT %d, TCP_NOTSENT_LOWAT %d", userTimeout, lowat)
	}
	r.reload("server: {timeouts: {write: 9s}}\n" + demoYAML)
	// A connection may have been accepted under the old one and wait for its client.
	options()
	if userTimeout, _ := options(); userTimeout != 9000 {
		t.Errorf("TCP_USER_TIMEOUT %d", userTimeout)
	}
}
