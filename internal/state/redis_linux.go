package state

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// redisQuiet reports whether a connection that waits for nothing is open and has nothing to read: an end means that the server has gone,
// and bytes are a reply to nobody.
func redisQuiet(c net.Conn) bool {
	sys, ok := c.(syscall.Conn)
	if !ok {
		return true
	}
	raw, err := sys.SyscallConn()
	if err != nil {
		return false
	}
	var one [1]byte
	waits := false
	err = raw.Control(func(fd uintptr) {
		_, _, err := unix.Recvfrom(int(fd), one[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		waits = err == unix.EAGAIN || err == unix.EINTR
	})
	return err == nil && waits
}
