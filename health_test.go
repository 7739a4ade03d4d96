package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// readyz answers every connection to a listener with one text, and nothing if it is empty.
func readyz(t *testing.T, network, address, text string) net.Listener {
	t.Helper()
	ln, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			if text == "" {
				continue // and never answers
			}
			b := make([]byte, 1024)
			n, _ := c.Read(b)
			if !strings.HasPrefix(string(b[:n]), "GET /readyz HTTP/1.0\r\n") {
				text = "HTTP/1.1 400 Bad\r\n\r\n"
			}
			_, _ = io.WriteString(c, text)
			_ = c.Close()
		}
	}()
	return ln
}

// TestHealthCommand asks listeners of every kind, and pins exit codes and what is said.
func TestHealthCommand(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	const good, bad = "HTTP/1.1 200 OK\r\nX: y\r\n\r\nready\n- agent it takes connections\n", "HTTP/1.1 503 No\r\n\r\nnot ready\n- shutting down, running requests: 1\n"
	f := func(code int, out, errs string, args ...string) {
		t.Helper()
		var stdout, stderr bytes.Buffer
		start := time.Now()
		if got := run(append([]string{"health"}, args...), strings.NewReader(""), &stdout, &stderr); got != code {
			t.Errorf("%q: exit %d, want %d: %s", args, got, code, &stderr)
		}
		if took := time.Since(start); took > time.Minute { // a machine may stand still for a while, but nothing is waited for
			t.Errorf("%q: it took %v", args, took)
		}
		if !strings.Contains(stdout.String(), out) || !strings.Contains(stderr.String(), errs) || strings.Contains(stdout.String(), "X: y") {
			t.Errorf("%q: said %q and %q", args, &stdout, &stderr)
		}
	}
	up, down := readyz(t, "tcp", "127.0.0.1:0", good).Addr().String(), readyz(t, "tcp", "127.0.0.1:0", bad).Addr().String()
	f(0, "ready\n- agent it takes connections\n", "", "-address", up)
	f(0, "ready\n", "", "-address", "http://"+up)
	f(1, "- shutting down, running requests: 1", "the proxy is not ready", "-address", down)
	f(1, "", "no status line", "-address", readyz(t, "tcp", "127.0.0.1:0", "220 mail\r\n").Addr().String())
	f(1, "", "status 404", "-address", readyz(t, "tcp", "127.0.0.1:0", "HTTP/1.1 404 Not Found\r\n\r\n").Addr().String())
	f(1, "", "health: ", "-address", readyz(t, "tcp", "127.0.0.1:0", "").Addr().String())
	f(1, "", "no address of a listener", "-address", "127.0.0.1:0")
	f(1, "", "no address of a listener", "-address", "here")
	socket := filepath.Join(dir, "a.sock")
	readyz(t, "unix", socket, good)
	f(0, "ready\n", "", "-address", "unix:"+socket)
	f(1, "", "no such file", "-address", "unix:"+filepath.Join(dir, "none.sock"))

	// The listener of the configuration: the admin one, else the clients'.
	write := func(name, listeners string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(listeners+"auth: {mode: none}\nagents: [{name: a, protocol: chat, url: \"http://127.0.0.1:1\", model: m}]\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	f(0, "ready\n", "", "-config", write("admin.yaml", fmt.Sprintf("admin: {listen: %q}\nserver: {listen: %q}\n", up, down)))
	f(1, "not ready", "", "-config", write("main.yaml", fmt.Sprintf("admin: {listen: \"\"}\nserver: {listen: %q}\n", down)))
	f(2, "", "Usage", "-listen", up)
}

// TestHealthOfABrokenFile holds that a file which was broken behind the back of a running
// proxy does not make it sick: the listener that it names is asked, else the usual one.
func TestHealthOfABrokenFile(t *testing.T) {
	up := readyz(t, "tcp", "127.0.0.1:0", "HTTP/1.1 200 OK\r\n\r\nready\n").Addr().String()
	t.Setenv("DRAGOMAN_ADMIN_LISTEN", up)
	path := filepath.Join(t.TempDir(), "bad.yaml")
	if err := os.WriteFile(path, []byte("agents: nonsense\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	f := func() {
		t.Helper()
		var stdout, stderr bytes.Buffer
		if code := run([]string{"health", "-config", path}, strings.NewReader(""), &stdout, &stderr); code != 0 || stdout.String() != "ready\n" {
			t.Errorf("exit %d: %s%s", code, &stdout, &stderr)
		}
	}
	f()
	t.Setenv("DRAGOMAN_ADMIN_LISTEN", "127.0.0.1:1")
	for _, text := range []string{
		"admin: {listen: %q}\nagents: nonsense\n",
		"agents:\n  - {name: a, protocol: chat, url: \"http://127.0.0.1:1\", model: m, retry: {attempts: many}}\nadmin:\n  listen: %q\n  pprof: perhaps\n",
		"admin: {listen: \"\"}\nserver: {listen: %q}\nno_such_section: 1\n",
	} {
		if err := os.WriteFile(path, fmt.Appendf(nil, text, up), 0o600); err != nil {
			t.Fatal(err)
		}
		f()
	}
}
