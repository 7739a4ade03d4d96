//go:build unix

package proxy

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// socketDir is a directory with a short name.
func socketDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// TestSocketMode: the socket has the mode that was asked for, whatever the umask.
func TestSocketMode(t *testing.T) {
	t.Parallel()
	for _, mode := range []fs.FileMode{0o600, 0o660, 0o666, 0o777, 0o200} {
		path := filepath.Join(socketDir(t), "s")
		ln, err := Listen("unix", path, mode)
		if err != nil {
			t.Fatal(err)
		}
		fi, err := os.Lstat(path)
		if err != nil || fi.Mode() != fs.ModeSocket|mode {
			t.Errorf("%v, %v, want %v", fi.Mode(), err, mode)
		}
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Error(err)
		} else {
			_ = c.Close()
		}
		_ = ln.Close()
	}
}

// TestSocketIsNeverOpenToOthers looks at the socket in the moment in which it comes to
// be, under a umask that would leave it open to everybody. It runs alone: the umask
// is the process's.
func TestSocketIsNeverOpenToOthers(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0))
	for _, mode := range []fs.FileMode{0o600, 0o660} {
		path := filepath.Join(socketDir(t), "s")
		ln, err := bindSocket(path, mode)
		if err != nil {
			t.Fatal(err)
		}
		fi, err := os.Lstat(path)
		if err != nil || fi.Mode().Perm() != mode {
			t.Errorf("%v, %v, want %v", fi.Mode(), err, mode)
		}
		_ = ln.Close()
	}
}

// TestWhatIsAtTheSocketsPath is replaced only if it is a socket that nobody listens
// on; anything else stays as it was.
func TestWhatIsAtTheSocketsPath(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		put  func(t *testing.T, path string)
		err  string // "": it is replaced
	}{
		{"nothing", func(*testing.T, string) {}, ""},
		{"a socket of a process that died", func(t *testing.T, path string) { stale(t, path) }, ""},
		{"a socket that is listened on", func(t *testing.T, path string) {
			ln, err := net.Listen("unix", path)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = ln.Close() })
		}, "is in use"},
		{"a socket with a full queue", func(t *testing.T, path string) {
			fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
			if err == nil {
				t.Cleanup(func() { _ = syscall.Close(fd) })
				err = errors.Join(syscall.Bind(fd, &syscall.SockaddrUnix{Name: path}), syscall.Listen(fd, 0))
			}
			for range 1000 {
				c, derr := net.Dial("unix", path)
				if derr != nil {
					break
				}
				t.Cleanup(func() { _ = c.Close() })
			}
			if err != nil {
				t.Fatal(err)
			}
		}, "may be in use"},
		{"a socket of another kind", func(t *testing.T, path string) {
			c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = c.Close() })
		}, "may be in use"},
		{"a file", func(t *testing.T, path string) { write(t, path, []byte("precious")) }, "is not a socket"},
		{"a directory", func(t *testing.T, path string) {
			if err := os.Mkdir(path, 0o700); err != nil {
				t.Fatal(err)
			}
		}, "is not a socket"},
		{"a link to a socket", func(t *testing.T, path string) {
			stale(t, path+".real")
			if err := os.Symlink(path+".real", path); err != nil {
				t.Fatal(err)
			}
		}, "is not a socket"},
		{"a link to nowhere", func(t *testing.T, path string) {
			if err := os.Symlink(path+".real", path); err != nil {
				t.Fatal(err)
			}
		}, "is not a socket"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(socketDir(t), "s")
			c.put(t, path)
			before, _ := os.Lstat(path)
			ln, err := Listen("unix", path, 0o600)
			if c.err == "" {
				if err != nil {
					t.Fatal(err)
				}
				if _, err := Listen("unix", path, 0o600); err == nil || !strings.Contains(err.Error(), "is in use") {
					t.Errorf("a second one: %v", err)
				}
				if c, err := net.Dial("unix", path); err != nil {
					t.Error(err)
				} else {
					_ = c.Close()
				}
				_ = ln.Close()
				if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("it stays behind: %v", err)
				}
				_ = ln.Close()
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.err) || !strings.Contains(err.Error(), path) {
				t.Errorf("%v, want %q", err, c.err)
			}
			if after, err := os.Lstat(path); err != nil || !os.SameFile(before, after) {
				t.Errorf("it was touched: %v", err)
			}
		})
	}
}

// stale leaves a socket behind as a process does that was killed.
func stale(t *testing.T, path string) {
	t.Helper()
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	ln.SetUnlinkOnClose(false)
	_ = ln.Close()
}

// TestOnlyOurOwnSocketIsRemoved closes a listener whose path is another's by now.
func TestOnlyOurOwnSocketIsRemoved(t *testing.T) {
	t.Parallel()
	path := filepath.Join(socketDir(t), "s")
	first, err := Listen("unix", path, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	second, err := Listen("unix", path, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	_ = first.Close()
	if c, err := net.Dial("unix", path); err != nil {
		t.Errorf("the other's socket: %v", err)
	} else {
		_ = c.Close()
	}
}

// TestSocketsWithoutAFileAreRefused: there is no mode to protect them.
func TestSocketsWithoutAFileAreRefused(t *testing.T) {
	t.Parallel()
	for _, address := range []string{"", "@abstract", "\x00abstract"} {
		if ln, err := Listen("unix", address, 0o600); err == nil {
			_ = ln.Close()
			t.Errorf("%q is listened on", address)
		}
	}
}
