package proxy

import "golang.org/x/sys/unix"

// hasRoom reports whether a socket takes a piece of aheadPiece without waiting. Linux
// calls a TCP socket writable while less than half of what TCP_NOTSENT_LOWAT allows
// waits to be sent, and a unix socket while three quarters of its buffer are free.
func hasRoom(fd uintptr) bool {
	fds := [1]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}} // #nosec G115 -- a descriptor
	n, err := unix.Poll(fds[:], 0)
	return err != nil || n > 0 // what is wrong with it the write will tell
}
