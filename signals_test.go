//go:build unix

package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/dragoman-proxy/dragoman/internal/config"
	"github.com/dragoman-proxy/dragoman/translate"
)

// longest bounds waits that only a bug makes long.
const longest = 20 * time.Second

// program is the real program, run by the test binary, on unix sockets.
type program struct {
	t      *testing.T
	cmd    *exec.Cmd
	socket string
	mu     sync.Mutex
	log    bytes.Buffer
	ended  chan struct{}
	err    error
}

// Write takes the program's log.
func (p *program) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.Write(b)
}

func (p *program) logged() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.String()
}

// launch runs the program.
func launch(t *testing.T, args ...string) *program {
	t.Helper()
	dir, err := os.MkdirTemp("", "") // the names of tests are too long for sockets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	p := &program{t: t, socket: filepath.Join(dir, "s"), ended: make(chan struct{})}
	args = append(args, "-listen", "unix:"+p.socket)
	p.cmd = exec.Command(os.Args[0], args...) // #nosec G204 -- this test itself
	p.cmd.Env = append(os.Environ(), "DRAGOMAN_TEST_MAIN=1", "DRAGOMAN_ADMIN_LISTEN=")
	p.cmd.Stderr = p
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.ended)
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-p.ended
	})
	p.waitLog(`"message":"listening"`, 1)
	return p
}

// waitLog waits until the log holds a text so many times.
func (p *program) waitLog(text string, n int) {
	p.t.Helper()
	for deadline := time.Now().Add(longest); strings.Count(p.logged(), text) < n; time.Sleep(2 * time.Millisecond) { //nolint:forbidigo // polls the log of another process
		select {
		case <-p.ended:
			if strings.Count(p.logged(), text) < n {
				p.t.Fatalf("it ended (%v) without %s: %s", p.err, text, p.logged())
			}
		default:
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("no %s in the log: %s", text, p.logged())
		}
	}
}

func (p *program) signal(sig os.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil {
		p.t.Fatal(err)
	}
}

// exit waits for the end of the program and is its exit code.
func (p *program) exit() int {
	p.t.Helper()
	select {
	case <-p.ended:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(longest):
		p.t.Fatalf("it does not end: %s", p.logged())
		return -1
	}
}

// caller is a client's connection.
type caller struct {
	net.Conn
	t *testing.T
	r *bufio.Reader
}

func (p *program) dial() *caller {
	p.t.Helper()
	c, err := net.Dial("unix", p.socket)
	if err != nil {
		p.t.Fatal(err)
	}
	_ = c.SetDeadline(time.Now().Add(longest))
	p.t.Cleanup(func() { _ = c.Close() })
	return &caller{Conn: c, t: p.t, r: bufio.NewReader(c)}
}

func (c *caller) ask(method, path, body string) *http.Response {
	c.t.Helper()
	fmt.Fprintf(c, "%s %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", method, path, len(body), body)
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	return resp
}

// get is a whole answer on a connection of its own.
func (p *program) get(path string) (int, string) {
	p.t.Helper()
	resp := p.dial().ask("GET", path, "")
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// quiet is an agent that begins a stream and says no more until its gate opens.
func quiet(t *testing.T) (url string, arrived <-chan struct{}, gate chan struct{}) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	came := make(chan struct{}, 100)
	gate = make(chan struct{})
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprint(w, `data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":"one"},"finish_reason":null}]}`+"\n\n")
		_ = http.NewResponseController(w).Flush()
		came <- struct{}{}
		select {
		case <-gate:
			fmt.Fprint(w, `data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}`+"\n\ndata: [DONE]\n\n")
		case <-r.Context().Done():
		}
	})}
	go func() { _ = srv.Serve(ln) }()
	t.Cleanup(func() { _ = srv.Close() })
	return "http://" + ln.Addr().String(), came, gate
}

const streamHello = `{"model":"it","stream":true,"messages":[{"role":"user","content":"hello"}]}`

// drainYAML is a configuration of an agent, with times to drain.
func drainYAML(url, delay, drain string) string {
	return "server: {timeouts: {drain_delay: " + delay + ", drain: " + drain + "}}\nadmin: {listen: \"\"}\nauth: {mode: none}\nagents: [{name: it, protocol: chat, url: \"" + url + "\", model: m}]\n"
}

func configured(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.yaml")
	put(t, path, text)
	return path
}

// put writes a file at once, as an editor does.
func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// TestTerminatedProgramDrains: behind SIGTERM it is not ready, and goes on accepting and
// serving on connections that each close; a stream that ends in time ends as ever, and
// the exit is 0.
func TestTerminatedProgramDrains(t *testing.T) {
	t.Parallel()
	url, arrived, gate := quiet(t)
	p := launch(t, "-config", configured(t, drainYAML(url, "4s", "60s")))
	kept := p.dial()
	if resp := kept.ask("GET", "/livez", ""); resp.StatusCode != 200 || resp.Close {
		t.Fatalf("before: %d %v", resp.StatusCode, resp.Header)
	} else {
		_, _ = io.ReadAll(resp.Body)
	}
	stream := p.dial().ask("POST", "/v1/chat/completions", streamHello)
	<-arrived
	began := time.Now()
	p.signal(syscall.SIGTERM)
	p.waitLog(`"message":"shutting down"`, 1)
	for _, q := range []struct {
		c            *caller
		method, path string
		status       int
	}{
		{kept, "GET", "/readyz", 503}, {p.dial(), "GET", "/livez", 200}, {p.dial(), "GET", "/v1/models", 200}, {p.dial(), "POST", "/v1/nothing", 404},
	} {
		resp := q.c.ask(q.method, q.path, "")
		_, _ = io.ReadAll(resp.Body)
		if resp.StatusCode != q.status || !resp.Close {
			t.Errorf("%s: %d %v", q.path, resp.StatusCode, resp.Header)
		}
		if _, err := q.c.r.ReadByte(); err != io.EOF {
			t.Errorf("%s: the connection stays open: %v", q.path, err)
		}
	}
	late := p.dial().ask("POST", "/v1/chat/completions", streamHello)
	<-arrived
	if !late.Close {
		t.Errorf("a stream's head: %v", late.Header)
	}
	close(gate)
	for _, resp := range []*http.Response{stream, late} {
		b, err := io.ReadAll(resp.Body)
		if err != nil || !strings.HasSuffix(string(b), "data: [DONE]\n\n") || strings.Contains(string(b), "shutting_down") {
			t.Errorf("%v %q", err, b)
		}
	}
	if code := p.exit(); code != 0 {
		t.Errorf("exit %d: %s", code, p.logged())
	}
	if took := time.Since(began); took < 4*time.Second {
		t.Errorf("it was gone after %v: load balancers had no time to notice", took)
	}
	if _, err := net.Dial("unix", p.socket); err == nil {
		t.Error("somebody still listens")
	}
}

// TestInterruptedProgramSkipsTheDelay: it stops accepting at once, lets a stream end, and is
// gone with it; the delay and the drain of this configuration outlast any test.
func TestInterruptedProgramSkipsTheDelay(t *testing.T) {
	t.Parallel()
	url, arrived, gate := quiet(t)
	p := launch(t, "-config", configured(t, drainYAML(url, "300s", "600s")))
	stream := p.dial().ask("POST", "/v1/chat/completions", streamHello)
	<-arrived
	p.signal(syscall.SIGINT)
	for {
		c, err := net.Dial("unix", p.socket)
		if err != nil {
			break
		}
		_ = c.Close()
		time.Sleep(2 * time.Millisecond) //nolint:forbidigo // polls for the end of a listener of another process
	}
	close(gate)
	b, err := io.ReadAll(stream.Body)
	if err != nil || strings.Contains(string(b), "shutting_down") || !strings.HasSuffix(string(b), "data: [DONE]\n\n") {
		t.Errorf("%v %q", err, b)
	}
	if code := p.exit(); code != 0 {
		t.Errorf("exit %d: %s", code, p.logged())
	}
}

// TestInterruptedProgramTellsTheTruth to a stream that outlives the drain.
func TestInterruptedProgramTellsTheTruth(t *testing.T) {
	t.Parallel()
	url, arrived, _ := quiet(t)
	p := launch(t, "-config", configured(t, drainYAML(url, "0s", "2s")))
	stream := p.dial().ask("POST", "/v1/chat/completions", streamHello)
	<-arrived
	p.signal(syscall.SIGINT)
	b, err := io.ReadAll(stream.Body)
	if err != nil || !strings.Contains(string(b), "shutting_down") || !strings.HasSuffix(string(b), "data: [DONE]\n\n") {
		t.Errorf("%v %q", err, b)
	}
	if code := p.exit(); code != 0 {
		t.Errorf("exit %d: %s", code, p.logged())
	}
}

// TestSecondSignalEndsTheProgramAtOnce, whatever runs.
func TestSecondSignalEndsTheProgramAtOnce(t *testing.T) {
	t.Parallel()
	url, arrived, _ := quiet(t)
	p := launch(t, "-config", configured(t, drainYAML(url, "300s", "600s")))
	p.dial().ask("POST", "/v1/chat/completions", streamHello)
	<-arrived
	p.signal(syscall.SIGTERM)
	p.waitLog(`"message":"shutting down"`, 1)
	p.signal(syscall.SIGTERM)
	if code := p.exit(); code != 1 {
		t.Errorf("exit %d: %s", code, p.logged())
	}
}

func reloadYAML(agent string) string {
	return "admin: {listen: \"\"}\nauth: {mode: none}\nagents: [{name: " + agent + ", protocol: chat, url: \"demo:chat\", model: m}]\n"
}

// TestHangupReloads: SIGHUP puts what is in the file in force, a bad file is reported with
// all its mistakes in one line and the last good one stays.
func TestHangupReloads(t *testing.T) {
	t.Parallel()
	path := configured(t, reloadYAML("first"))
	p := launch(t, "-config", path)
	models := func(want string) {
		t.Helper()
		if status, body := p.get("/v1/models"); status != 200 || !strings.Contains(body, `"`+want+`"`) {
			t.Errorf("%d %s, want %s", status, body, want)
		}
	}
	models("first")
	p.signal(syscall.SIGHUP) // asks for it also where nothing has changed, which looking at the files does not
	p.waitLog(`"message":"configuration reloaded"`, 1)
	put(t, path, strings.Replace(reloadYAML("second"), "admin:", "log: {level: debug}\nadmin:", 1))
	p.signal(syscall.SIGHUP)
	p.waitLog(`"message":"configuration reloaded"`, 2)
	models("second")
	if l := p.logged(); !strings.Contains(l, `"changed":["agent second added","agent first removed","log"`) {
		t.Errorf("what changed is not said: %s", l)
	}
	put(t, path, "admin: {listen: 7}\nauth: {mode: maybe}\nagents: []\n")
	p.signal(syscall.SIGHUP)
	p.waitLog(`the last good one stays`, 1)
	for line := range strings.SplitSeq(p.logged(), "\n") {
		if strings.Contains(line, "the last good one stays") && (!strings.Contains(line, "auth.mode") || !strings.Contains(line, "agents") || !strings.Contains(line, "config.yaml:2")) {
			t.Errorf("not all problems are told: %s", line)
		}
	}
	models("second")
	put(t, path, reloadYAML("third"))
	p.signal(syscall.SIGHUP)
	p.waitLog(`"message":"configuration reloaded"`, 3)
	models("third")
	p.signal(syscall.SIGINT)
	if code := p.exit(); code != 0 {
		t.Errorf("exit %d: %s", code, p.logged())
	}
}

// TestChangedFilesAreReloaded: as a ConfigMap changes, by a symlink two directories up,
// and by a secret that only the configuration names.
func TestChangedFilesAreReloaded(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	secret := filepath.Join(dir, "token")
	put(t, secret, "first-token-of-the-agent")
	// As kubelet does: config.yaml -> ..data/config.yaml, ..data -> ..2026_01.
	mount := func(version, text string) {
		t.Helper()
		if err := os.Mkdir(filepath.Join(dir, version), 0o700); err != nil {
			t.Fatal(err)
		}
		put(t, filepath.Join(dir, version, "config.yaml"), text)
		if err := os.Symlink(version, filepath.Join(dir, "..data_tmp")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	with := func(agent string) string {
		return strings.Replace(reloadYAML(agent), "model: m", "model: m, credential: {bearer: {file: "+secret+"}}", 1)
	}
	mount("..2026_01", with("first"))
	if err := os.Symlink("..data/config.yaml", filepath.Join(dir, "config.yaml")); err != nil {
		t.Fatal(err)
	}
	p := launch(t, "-config", filepath.Join(dir, "config.yaml"))
	mount("..2026_02", with("second"))
	p.waitLog(`"message":"configuration reloaded"`, 1)
	if _, body := p.get("/v1/models"); !strings.Contains(body, `"second"`) {
		t.Error(body)
	}
	put(t, secret, "second-token-of-the-agent")
	p.waitLog(`"message":"configuration reloaded","changed":["agent second changed"]`, 1)
	if strings.Contains(p.logged(), "token-of-the-agent") {
		t.Error("the secret is in the log")
	}
}

// TestSidecarIsReloaded: without a file SIGHUP changes nothing, and ends nothing.
func TestSidecarIsReloaded(t *testing.T) {
	t.Parallel()
	p := launch(t, "serve", "-agent", "it=chat+demo:chat", "-auth", "none")
	p.signal(syscall.SIGHUP)
	p.waitLog(`"message":"configuration reloaded","changed":[]`, 1)
	if status, _ := p.get("/readyz"); status != 200 {
		t.Errorf("%d", status)
	}
}

// TestSource looks at files without a process: each change is told once it has settled,
// and once; a file that cannot be read is told from every content.
func TestSource(t *testing.T) {
	t.Parallel()
	path := configured(t, reloadYAML("first"))
	s := newSource(config.Options{Protocols: translate.Names(), OptionCheck: translate.CheckOption})
	s.parse = func(o config.Options) (*config.Config, []config.Problem) { return config.Load(path, o) }
	load := func(good bool) {
		t.Helper()
		if conf, problems := s.load(); (conf != nil) != good {
			t.Fatal(problems)
		}
	}
	change := func(want bool) {
		t.Helper()
		if got := s.changed(); got != want {
			t.Errorf("changed %v, want %v", got, want)
		}
	}
	load(true)
	change(false)
	change(false)
	put(t, path, reloadYAML("half"))
	change(false) // it may be half of it
	put(t, path, reloadYAML("second"))
	change(false)
	change(true)
	load(true)
	change(false)
	change(false)
	put(t, path, "bad")
	change(false)
	change(true)
	load(false)
	change(false)
	change(false) // told once
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	change(false)
	change(true)
	load(false)
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	load(false) // and does not wait for it
	change(false)
	change(false)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	put(t, path, reloadYAML("second"))
	change(false)
	change(true)
	load(true)
}
