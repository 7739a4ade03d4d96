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
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	got, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer got.Close()
	if userTimeout, lowat := tcpOptions(t, got.(*clientConn).raw); userTimeout != 7000 || lowat != notSentLowWater {
		t.Errorf("TCP_USER_TIMEOUT %d, TCP_NOTSENT_LOWAT %d", userTimeout, lowat)
	}
	gone := make(chan struct{})
	if !l.watcher.watch(got, ticketOf(got), func() { close(gone) }) {
		t.Fatal("not watched")
	}
	_ = c.Close()
	await(t, gone, "the departure")
}
