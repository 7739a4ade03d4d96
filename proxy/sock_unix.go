//go:build unix && !linux

package proxy

import (
	"io/fs"
	"net"
	"syscall"
)

// listenNarrow gives the socket its mode by the umask, from the first moment on. The
// umask is the whole process's: files that others make meanwhile get it too.
func listenNarrow(mode fs.FileMode, listen func() (net.Listener, error)) (net.Listener, error) {
	old := syscall.Umask(int(0o777 &^ mode.Perm()))
	defer syscall.Umask(old)
	return listen()
}
