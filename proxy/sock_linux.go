package proxy

import (
	"io"
	"io/fs"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// rawReads says that a socket may be read through its descriptor, so that an
// idle stream needs no buffer (readFD).
const rawReads = true

// readFD reads from a non-blocking descriptor. again means that nothing has
// arrived yet; n == 0 without an error is the end of the stream.
func readFD(fd uintptr, p []byte) (n int, again bool, err error) {
	for {
		n, err = syscall.Read(int(fd), p)
		switch err {
		case nil:
			return n, false, nil
		case syscall.EINTR:
			continue
		case syscall.EAGAIN:
			return 0, true, nil
		default:
			return 0, false, err
		}
	}
}

// quietFD reports whether a connection that owes us nothing is silent and open:
// unsolicited bytes, a FIN or an error all show as something to read. It is a
// read and not a peek, which would cost an allocation for an address that is not
// wanted: whatever it finds, the connection is not used again.
func quietFD(fd uintptr) bool {
	var b [1]byte
	_, again, _ := readFD(fd, b[:])
	return again
}

// pending reports whether something waits to be read on a connection. Its end is
// nothing that waits.
func pending(c net.Conn) (waits bool) {
	sc := descriptorOf(c)
	if sc == nil {
		return false
	}
	rc, err := sc.SyscallConn()
	if err != nil {
		return false
	}
	_ = rc.Control(func(fd uintptr) {
		var b [1]byte
		n, _, err := unix.Recvfrom(int(fd), b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		waits = err == nil && n > 0
	})
	return waits
}

// ackedFD returns TCP_INFO's tcpi_bytes_acked, which counts the SYN as one.
func ackedFD(fd uintptr) (uint64, bool) {
	info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil {
		return 0, false
	}
	return info.Bytes_acked, true
}

// bytesAcked tells how many bytes the peer's kernel has acknowledged on a plain
// TCP connection since it was opened. Other connections have no such count:
// on a unix socket nothing is acknowledged, and under TLS the number is not
// about our bytes.
func bytesAcked(c net.Conn) (uint64, bool) {
	tc, ok := c.(*net.TCPConn)
	if !ok {
		return 0, false
	}
	rc, err := tc.SyscallConn()
	if err != nil {
		return 0, false
	}
	var n uint64
	ok = false
	err = rc.Control(func(fd uintptr) { n, ok = ackedFD(fd) })
	return n, ok && err == nil
}

// notSentLowWater is how much unsent data the kernel keeps for one accepted
// connection before a write waits: without it a client that never reads is given
// megabytes of kernel memory.
const notSentLowWater = 128 << 10

// tuneAccepted bounds what a client can hold: a peer that vanished without a
// FIN is given up after writeTimeout (else its heartbeats keep it for up to a
// quarter of an hour), and unsent data beyond notSentLowWater waits in the
// writer. A connection that is not TCP is left as it is.
func tuneAccepted(c net.Conn, writeTimeout time.Duration) {
	tc, ok := descriptorOf(c).(*net.TCPConn)
	if !ok {
		return
	}
	rc, err := tc.SyscallConn()
	if err != nil {
		return
	}
	// Both are refinements: a kernel that refuses one serves all the same.
	_ = rc.Control(func(fd uintptr) {
		if ms := writeTimeout.Milliseconds(); ms > 0 {
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(min(ms, 1<<31-1)))
		}
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, notSentLowWater)
	})
}

// narrowSocket gives a unix socket that is not bound yet the mode that its file will
// be made with: Linux makes it with that of the descriptor, less the umask. Unlike
// the umask it is not the whole process's, where other goroutines make files too.
func narrowSocket(fd uintptr, mode fs.FileMode) error {
	return unix.Fchmod(int(fd), uint32(mode.Perm()))
}

// listenNarrow has nothing to add to narrowSocket here.
func listenNarrow(_ fs.FileMode, listen func() (net.Listener, error)) (net.Listener, error) {
	return listen()
}

// writeOnce writes what a connection takes without waiting.
func writeOnce(c net.Conn, p []byte) (n int, err error) {
	sc := descriptorOf(c)
	if sc == nil {
		return c.Write(p)
	}
	rc, err := sc.SyscallConn()
	if err != nil {
		return 0, err
	}
	werr := rc.Write(func(fd uintptr) bool {
		n, err = syscall.Write(int(fd), p)
		return true
	})
	switch {
	case werr != nil:
		return 0, werr
	case err == nil && n < len(p):
		err = io.ErrShortWrite
	}
	return max(n, 0), err
}
