package proxy

import (
	"crypto/tls"
	"net"
	"testing"

	"golang.org/x/sys/unix"
)

// A record that crypto/tls has read along with the answer is not in the socket.
func TestUnsolicitedTLSRecordIsFoundByTheProbe(t *testing.T) {
	b := newBackend(t, "tls", func(c *backendConn) {
		nc := c.Conn.(*tls.Conn).NetConn().(*net.TCPConn)
		for c.request() {
			// Two records in one segment.
			rc, _ := nc.SyscallConn()
			cork := func(v int) {
				_ = rc.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_CORK, v) })
			}
			cork(1)
			c.say(okHello)
			c.say("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged")
			cork(0)
		}
	})
	o := b.origin(t)
	for range 5 {
		if got := fetch(t, o); got != "hello" {
			t.Fatalf("got %q", got)
		}
	}
	if n := b.conns.Load(); n != 5 {
		t.Errorf("%d connections", n)
	}
}
