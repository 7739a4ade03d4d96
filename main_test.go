package main

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dragoman-proxy/dragoman/internal/config"
	"github.com/dragoman-proxy/dragoman/translate"
)

// TestMain lets the test binary be the program, so that signals and exit codes
// are those of a real process.
func TestMain(m *testing.M) {
	if os.Getenv("DRAGOMAN_TEST_MAIN") == "1" {
		main()
		return
	}
	os.Exit(m.Run())
}

// TestShippedConfiguration loads config.yaml as it is.
func TestShippedConfiguration(t *testing.T) {
	t.Parallel()
	conf, problems := config.Load("config.yaml", config.Options{
		Protocols: translate.Names(), OptionCheck: translate.CheckOption,
		Getenv: func(string) (string, bool) { return "", false },
	})
	if conf == nil || len(problems) > 0 {
		t.Fatal(problems)
	}
	served := map[string]bool{}
	for _, a := range conf.Agents {
		served[a.Protocol] = true
	}
	for _, name := range translate.Names() {
		if !served[name] {
			t.Errorf("no demo agent speaks %s", name)
		}
	}
}

// TestCommandLine pins exit codes and what is said where.
func TestCommandLine(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good := write("good.yaml", "auth: {mode: none}\nagents: [{name: a, protocol: chat, url: \"http://127.0.0.1:1\", model: m}]\n")
	bad := write("bad.yaml", "server:\n  lisen: 127.0.0.1:1\nagents:\n  - {name: a, protocol: chta, url: ftp://x}\n")
	in := ""
	f := func(code int, out, errs string, args ...string) {
		t.Helper()
		var stdout, stderr bytes.Buffer
		if got := run(args, strings.NewReader(in), &stdout, &stderr); got != code {
			t.Errorf("%q: exit %d, want %d (%s%s)", args, got, code, &stdout, &stderr)
		}
		for w := range strings.SplitSeq(out, "|") {
			if !strings.Contains(stdout.String(), w) {
				t.Errorf("%q: %q is missing in stdout %q", args, w, &stdout)
			}
		}
		for w := range strings.SplitSeq(errs, "|") {
			if !strings.Contains(stderr.String(), w) {
				t.Errorf("%q: %q is missing in stderr %q", args, w, &stderr)
			}
		}
	}
	f(0, "dragoman |go1", "", "version")
	f(0, "1 agents", "", "check", "-config", good)
	f(1, "", "bad.yaml:2: server.lisen|listen|bad.yaml:4: agents[0].protocol|agents[0].url", "check", "-config", bad)
	f(1, "", "no-such.yaml", "check", "-config", filepath.Join(dir, "no-such.yaml"))
	f(1, "", "bad.yaml:2", "-config", bad)
	f(1, "", "agents[0]", "serve", "-agent", "support=cycls")
	f(1, "", "-listen: is open to other hosts", "-config", good, "-listen", "0.0.0.0:1")
	f(0, "open: auth.mode is none, so every process of this host may call every agent", "", "check", "-config", good)
	open := write("open.yaml", "server: {listen: \":1\"}\nauth: {mode: none, allow_unauthenticated: true}\nagents: [{name: a, protocol: chat, url: \"http://127.0.0.1:1\", model: m}]\n")
	f(0, "listening on :1|open: auth.mode is none, so everybody who reaches it may call every agent", "", "check", "-config", open)
	socket := write("socket.yaml", "server: {listen: \"unix:/run/d.sock\"}\nauth: {mode: none}\nagents: [{name: a, protocol: chat, url: \"http://127.0.0.1:1\", model: m}]\n")
	f(0, "open: auth.mode is none, so everybody whom the mode of the socket admits may call", "", "check", "-config", socket)
	keyless := write("keyless.yaml", "agents: [{name: a, protocol: chat, url: \"http://127.0.0.1:1\", model: m}]\n")
	f(1, "", "keyless.yaml:1: auth: holds no key, so nobody could call: run `dragoman key`", "-config", keyless)
	f(1, "", "no key is set, so nobody could call|DRAGOMAN_KEYS|-auth none", "serve", "-agent", "a=chat+demo:chat")
	f(1, "", "server.listen: is open to other hosts while -auth none", "serve", "-agent", "a=chat+demo:chat", "-auth", "none", "-listen", ":1")
	f(1, "", "auth.mode: wants one of keys, none", "serve", "-agent", "a=chat+demo:chat", "-auth", "off")
	f(2, "", "-auth goes with -agent|Usage", "serve", "-config", good, "-auth", "none")
	f(2, "", "nobody|Usage", "key", "-nobody")
	f(2, "", "a key is read from standard input|Usage", "key", "hunter2-hunter2-hunter2")
	f(1, "", "-name holds a |", "key", "-name", "a|b")
	f(1, "", "-name is empty", "key", "-name", "")
	in = "hunter2\n"
	f(1, "", "the key on standard input is shorter than 20 bytes", "key", "-hash")
	in = ""
	f(2, "", `unknown command "sreve"|Usage`, "sreve")
	f(2, "", "unexpected|Usage", "serve", "extra")
	f(2, "", "nonsense|Usage", "serve", "-nonsense")
	f(2, "", "exclude each other", "serve", "-config", good, "-agent", "a=chat+http://127.0.0.1:1")
	f(0, "Usage|cycls", "", "help")
	f(0, "Usage", "", "serve", "-h")

	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	clash := write("clash.yaml", "auth: {mode: none}\nserver: {listen: \"127.0.0.1:0\"}\nadmin: {listen: \""+taken.Addr().String()+
		"\"}\nagents: [{name: a, protocol: chat, url: \"http://127.0.0.1:1\", model: m}]\n")
	f(1, "", "dragoman: admin.listen: |in use|an address of its own", "-config", clash)
}

// TestServeAndStop runs the program as a sidecar without a file and ends it with
// SIGTERM.
func TestServeAndStop(t *testing.T) {
	t.Parallel()
	socket := filepath.Join(t.TempDir(), "d.sock")
	cmd := exec.Command(os.Args[0], "serve", "-agent", "it=chat+demo:chat", "-auth", "none", "-listen", "unix:"+socket) // #nosec G204 -- this test itself
	admin := filepath.Join(filepath.Dir(socket), "a.sock")
	cmd.Env = append(os.Environ(), "DRAGOMAN_TEST_MAIN=1", "DRAGOMAN_ADMIN_LISTEN=unix:"+admin)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Process.Kill()
	body := `{"model":"whatever","messages":[{"role":"user","content":"refuse"}]}`
	answer := ""
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); {
		c, err := net.Dial("unix", socket)
		if err != nil {
			time.Sleep(5 * time.Millisecond) //nolint:forbidigo // polls for the socket of a process that starts
			continue
		}
		fmt.Fprintf(c, "POST /v1/chat/completions HTTP/1.0\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
		var b bytes.Buffer
		_, _ = b.ReadFrom(c)
		_ = c.Close()
		answer = b.String()
		break
	}
	if !strings.Contains(answer, " 429 ") || !strings.Contains(answer, "demo agent was asked to refuse") {
		t.Errorf("answer %q", answer)
	}
	if c, err := net.Dial("unix", admin); err != nil {
		t.Error(err)
	} else {
		fmt.Fprint(c, "GET /metrics HTTP/1.0\r\n\r\n")
		var b bytes.Buffer
		_, _ = b.ReadFrom(c)
		_ = c.Close()
		if want := `dragoman_requests_total{agent="it",face="chat",protocol="chat",backend="demo:chat",status="429",outcome="failed"} 1`; !strings.Contains(b.String(), want) {
			t.Errorf("%s is missing in the metrics: %s", want, &b)
		}
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("exit: %v: %s", err, &stderr)
	}
	for _, w := range []string{`"message":"listening"`, `"status":429`, `"message":"stopped"`} {
		if !strings.Contains(stderr.String(), w) {
			t.Errorf("%s is missing in the log: %s", w, &stderr)
		}
	}
}
