package proxy

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
)

// Listen opens the address of a configuration. network is "tcp" or "unix". A unix
// socket has the mode given, and nobody whom the mode shuts out can connect even
// for a moment; what a process that has died left behind is replaced, and anything
// else at the path stays as it is and is an error. Closing the listener removes the
// socket, unless another one has taken its place.
func Listen(network, address string, mode fs.FileMode) (net.Listener, error) {
	if network != "unix" {
		return net.Listen(network, address)
	}
	if address == "" || strings.HasPrefix(address, "@") || strings.HasPrefix(address, "\x00") {
		// The mode of a file is what protects a socket, and abstract ones have none.
		return nil, fmt.Errorf("%q is no path of a socket", address)
	}
	if err := clearSocket(address); err != nil {
		return nil, err
	}
	ln, err := bindSocket(address, mode)
	if err != nil {
		return nil, err
	}
	l := &socketListener{UnixListener: ln, path: address}
	l.SetUnlinkOnClose(false) // which would not look whose it is
	l.file, err = os.Lstat(address)
	if err == nil && l.file.Mode().Perm() != mode.Perm() {
		// The umask has taken away more than it should. That is the safe order: the
		// socket was never open to more than it is meant for.
		err = os.Chmod(address, mode.Perm())
	}
	if err != nil {
		_ = l.Close()
		return nil, err
	}
	return l, nil
}

// bindSocket listens on a socket that has at most the mode given from the first moment
// on: the umask may take something away.
func bindSocket(path string, mode fs.FileMode) (*net.UnixListener, error) {
	lc := net.ListenConfig{Control: func(_, _ string, rc syscall.RawConn) error {
		var err error
		if cerr := rc.Control(func(fd uintptr) { err = narrowSocket(fd, mode) }); cerr != nil {
			return cerr
		}
		return err
	}}
	ln, err := listenNarrow(mode, func() (net.Listener, error) { return lc.Listen(context.Background(), "unix", path) })
	if err != nil {
		return nil, err
	}
	return ln.(*net.UnixListener), nil
}

// clearSocket removes a socket that nobody listens on any more.
func clearSocket(path string) error {
	before, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case before.Mode()&fs.ModeSocket == 0:
		return fmt.Errorf("%s exists and is not a socket: it stays; remove it, or listen elsewhere", path)
	}
	c, err := net.Dial("unix", path)
	if err == nil {
		_ = c.Close()
		return fmt.Errorf("%s is in use: another process listens there", path)
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		// It may be alive: not for us to call, of another kind, or with a full queue.
		return fmt.Errorf("%s may be in use: %w", path, err)
	}
	// Another process that starts now may have replaced it meanwhile.
	if now, err := os.Lstat(path); err != nil || !sameSocket(before, now) {
		return fmt.Errorf("%s is being replaced by another process", path)
	}
	return os.Remove(path)
}

// sameSocket compares the time too: the number of a removed file is soon used again.
func sameSocket(a, b fs.FileInfo) bool {
	return os.SameFile(a, b) && a.Mode()&fs.ModeSocket != 0 && b.Mode()&fs.ModeSocket != 0 && a.ModTime().Equal(b.ModTime())
}

// socketListener removes its socket when it is closed, if it is still its own.
type socketListener struct {
	*net.UnixListener
	path string
	file fs.FileInfo
	once sync.Once
}

// Close implements net.Listener.
func (l *socketListener) Close() error {
	// While it is open nobody else's file can have its number.
	l.once.Do(func() {
		if now, err := os.Lstat(l.path); err == nil && l.file != nil && sameSocket(l.file, now) {
			_ = os.Remove(l.path)
		}
	})
	return l.UnixListener.Close()
}
