//go:build !linux

package proxy

import (
	"io/fs"
	"net"
	"time"
)

// rawReads is false where reading through the descriptor is not portable: an
// idle stream then keeps its buffer while it waits.
const rawReads = false

func readFD(uintptr, []byte) (n int, again bool, err error) {
	panic("BUG: raw reads are for Linux")
}

// quietFD cannot tell here, and assumes the best: a stale connection then shows
// itself by an error, and the request is not sent again.
func quietFD(uintptr) bool { return true }

// pending cannot tell here.
func pending(net.Conn) bool { return false }

// bytesAcked is unknown here, so a request that was written counts as sent.
func bytesAcked(net.Conn) (uint64, bool) { return 0, false }

// tuneAccepted has nothing portable to set.
func tuneAccepted(net.Conn, time.Duration) {}

// narrowSocket is not portable.
func narrowSocket(uintptr, fs.FileMode) error { return nil }

// writeOnce may wait here until the deadline.
func writeOnce(c net.Conn, p []byte) (int, error) { return c.Write(p) }
