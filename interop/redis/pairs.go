package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	patience = 30 * time.Second // for what must not fail for lack of time
	key      = "interop-key-of-two-proxies"
	askers   = 6  // at a time
	hourly   = 20 // of the key; by the hour, so that none comes back while a test runs
)

// pairs are the tests of two proxies that share a Redis.
var pairs = []struct {
	name string
	run  func(proxy, server, logs string) error
}{
	{"a key's limit is one for both, exactly", with("local", shared)},
	{"without Redis each has its share", with("local", func(w *world) error { return w.without((*world).kill, local) })},
	{"without Redis all pass, if it says so", with("open", func(w *world) error { return w.without((*world).kill, open) })},
	{"without Redis none passes, if it says so", with("closed", func(w *world) error { return w.without((*world).kill, closed) })},
	{"a Redis that stalls costs little", with("local", func(w *world) error { return w.without((*world).stall, local) })},
	{"a conversation goes on at either, without a pause, and tells the truth while Redis is gone", with("local", conversation)},
	{"a Redis that was never there is found when it comes", with("closed", late)},
}

// shared asks both proxies at once.
func shared(w *world) error {
	got, err := w.ask(3 * hourly)
	if err != nil {
		return err
	}
	return want(got, map[int]int{200: hourly, 429: 2 * hourly})
}

func local(got map[int]int) error  { return want(got, map[int]int{200: hourly, 429: 2 * hourly}) }
func open(got map[int]int) error   { return want(got, map[int]int{200: 3 * hourly}) }
func closed(got map[int]int) error { return want(got, map[int]int{503: 3 * hourly}) }

func want(got, want map[int]int) error {
	if fmt.Sprint(got) != fmt.Sprint(want) {
		return fmt.Errorf("answers by status: %v, want %v", got, want)
	}
	return nil
}

// without takes Redis away under load, sees what becomes of requests, and brings it back.
func (w *world) without(away func(*world) (back func() error), verdict func(map[int]int) error) error {
	if err := w.both(1, 0); err != nil {
		return err
	}
	back := away(w)
	// The first ones find out. What they cost and how they are counted is the breaker's affair, and they use up local counts.
	for _, p := range w.proxies {
		until := time.Now().Add(patience)
		for up := 1; up == 1; {
			if _, _, err := p.post(key + "-prober"); err != nil {
				return err
			}
			var err error
			if up, err = p.metric("dragoman_limiter_up"); err != nil {
				return err
			}
			if time.Now().After(until) {
				return errors.New("the proxy never notices")
			}
		}
	}
	start := time.Now()
	got, err := w.ask(3 * hourly)
	if err != nil {
		return err
	}
	if took := time.Since(start); took > 3*hourly*redisTimeout/askers/2 {
		return fmt.Errorf("%d requests took %s: each of them waited for Redis", 3*hourly, took)
	}
	if err := verdict(got); err != nil {
		return fmt.Errorf("without Redis: %w", err)
	}
	if err := w.both(0, 1); err != nil {
		return fmt.Errorf("without Redis: %w", err)
	}
	if err := back(); err != nil {
		return err
	}
	if err := w.eventually(1, 2); err != nil {
		return fmt.Errorf("with Redis again: %w", err)
	}
	// Nothing that happened in between is in Redis: the key has its whole bucket there.
	if got, err = w.ask(3 * hourly); err != nil {
		return err
	}
	if err := want(got, map[int]int{200: hourly, 429: 2 * hourly}); err != nil {
		return fmt.Errorf("with Redis again: %w", err)
	}
	for _, p := range w.proxies {
		text := p.log.String()
		if gone, came := strings.Count(text, "redis cannot be had"), strings.Count(text, "redis is back"); gone != 1 || came != 1 {
			return fmt.Errorf("the log tells %d times that Redis is gone and %d times that it is back, want once each", gone, came)
		}
	}
	return w.both(1, 2)
}

// late starts the proxies first.
func late(w *world) error {
	w.redis.Process.Kill()
	w.redis.Wait()
	for range 2 {
		if err := w.restart(); err != nil {
			return err
		}
		got, err := w.ask(4)
		if err != nil {
			return err
		}
		if err := want(got, map[int]int{503: 4}); err != nil {
			return err
		}
	}
	if err := w.startRedis(); err != nil {
		return err
	}
	until := time.Now().Add(patience)
	for {
		if up, err := w.proxies[0].metric("dragoman_limiter_up"); err != nil || up == 1 {
			status, _, err := w.proxies[0].post(key)
			if err != nil || status == http.StatusOK {
				return err
			}
		}
		if time.Now().After(until) {
			return errors.New("the proxy never finds Redis")
		}
		if _, _, err := w.proxies[0].post(key); err != nil {
			return err
		}
	}
}

func (w *world) kill() (back func() error) {
	w.redis.Process.Kill()
	w.redis.Wait()
	return w.startRedis
}

func (w *world) stall() (back func() error) {
	w.redis.Process.Signal(syscall.SIGSTOP)
	return func() error { return w.redis.Process.Signal(syscall.SIGCONT) }
}

const redisTimeout = 500 * time.Millisecond

// world is a Redis and two proxies that share it.
type world struct {
	proxy, server, dir, onError string
	redis                       *exec.Cmd
	proxies                     []*instance
}

// instance is one of the proxies.
type instance struct {
	cmd        *exec.Cmd
	url, admin string
	log        *buffer
}

// buffer is a log that is read while it is written.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// with runs a test in a world of its own.
func with(onError string, test func(*world) error) func(proxy, server, logs string) error {
	return func(proxy, server, logs string) (err error) {
		dir, err := os.MkdirTemp("", "pair")
		if err != nil {
			return err
		}
		w := &world{proxy: proxy, server: server, dir: dir, onError: onError}
		defer func() {
			w.stopProxies()
			if w.redis != nil {
				w.redis.Process.Kill()
				w.redis.Wait()
			}
			os.RemoveAll(dir)
			for i, p := range w.proxies {
				if err != nil || strings.Contains(p.log.String(), "panic") {
					name := filepath.Join(logs, fmt.Sprintf("redis-%s-proxy-%d.log", filepath.Base(dir), i))
					os.WriteFile(name, []byte(p.log.String()), 0o600)
					err = errors.Join(err, fmt.Errorf("see %s", name))
				}
			}
		}()
		if err := w.startRedis(); err != nil {
			return err
		}
		if err := w.restart(); err != nil {
			return err
		}
		return test(w)
	}
}

func (w *world) startRedis() error {
	socket := filepath.Join(w.dir, "redis.sock")
	w.redis = exec.Command(w.server, "--port", "0", "--unixsocket", socket, "--save", "", "--appendonly", "no", "--dir", w.dir, "--requirepass", "canary")
	var log buffer
	w.redis.Stdout, w.redis.Stderr = &log, &log
	if err := w.redis.Start(); err != nil {
		return err
	}
	return soon("Redis", func() error {
		c, err := net.Dial("unix", socket)
		if err != nil {
			return fmt.Errorf("%w: %s", err, log.String())
		}
		return c.Close()
	})
}

func (w *world) stopProxies() {
	for _, p := range w.proxies {
		p.cmd.Process.Signal(syscall.SIGTERM)
		p.cmd.Wait()
	}
}

// restart starts both proxies, again if they run.
func (w *world) restart() error {
	w.stopProxies()
	w.proxies = nil
	for i := range 2 {
		p := &instance{log: &buffer{}}
		listen, err := free()
		if err != nil {
			return err
		}
		admin, err := free()
		if err != nil {
			return err
		}
		p.url, p.admin = "http://"+listen, "http://"+admin
		file := filepath.Join(w.dir, fmt.Sprintf("%d.yaml", i))
		text := fmt.Sprintf(`
server: {listen: %q}
admin: {listen: %q}
log: {access: false}
auth:
  keys:
    - {name: shared, key: {value: %s}, limits: {requests: %d/h}}
    - {name: prober, key: {value: %s-prober}, limits: {requests: 1000000/h}}
limits: {store: redis, on_error: %s, replicas: 2}
state: {store: redis, timeout: 1s}
redis: {url: {env: REDIS_URL}, timeout: %s}
agents:
  - {name: demo, protocol: chat, url: "demo:chat"}
`, listen, admin, key, hourly, key, w.onError, redisTimeout)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			return err
		}
		p.cmd = exec.Command(w.proxy, "serve", "-config", file)
		p.cmd.Env = append(os.Environ(), "REDIS_URL=unix://:canary@"+filepath.Join(w.dir, "redis.sock"))
		p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
		if err := p.cmd.Start(); err != nil {
			return err
		}
		w.proxies = append(w.proxies, p)
		err = soon("a proxy", func() error {
			r, err := http.Get(p.admin + "/livez")
			if err != nil {
				return fmt.Errorf("%w: %s", err, p.log)
			}
			return r.Body.Close()
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// soon waits until a function has no error.
func soon(what string, f func() error) error {
	var err error
	for range 300 {
		if err = f(); err == nil {
			return nil
		}
		<-time.After(50 * time.Millisecond)
	}
	return fmt.Errorf("%s did not come up: %w", what, err)
}

func free() (string, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return ln.Addr().String(), ln.Close()
}

// ask sends n requests of the key, half of them to each proxy, several at a time, and counts the answers by status.
func (w *world) ask(n int) (map[int]int, error) {
	var mu sync.Mutex
	var wrong error
	var next atomic.Int64
	got := map[int]int{}
	var wg sync.WaitGroup
	for range askers {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				status, head, err := w.proxies[i%2].post(key)
				if err == nil && status == http.StatusTooManyRequests {
					if s, e := strconv.Atoi(head.Get("Retry-After")); e != nil || s < 1 {
						err = fmt.Errorf("a 429 with Retry-After: %q", head.Get("Retry-After"))
					}
				}
				mu.Lock()
				wrong = errors.Join(wrong, err)
				got[status]++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return got, wrong
}

var client = &http.Client{Timeout: patience}

func (p *instance) post(key string) (int, http.Header, error) {
	body := `{"model":"demo","messages":[{"role":"user","content":"hello"}]}`
	r, err := http.NewRequest(http.MethodPost, p.url+"/v1/chat/completions", strings.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	r.Header.Set("Authorization", "Bearer "+key)
	r.Header.Set("Content-Type", "application/json")
	a, err := client.Do(r)
	if err != nil {
		return 0, nil, err
	}
	defer a.Body.Close()
	text, err := io.ReadAll(a.Body)
	if err == nil && strings.Contains(string(text), "canary") {
		err = errors.New("an answer shows Redis' password")
	}
	return a.StatusCode, a.Header, err
}

// conversation chains turns at both proxies by turns, streaming and not.
func conversation(w *world) error {
	previous := ""
	for i := range 10 {
		id, status, text, err := w.proxies[i%2].say(previous, i%3 == 0)
		if err != nil || status != http.StatusOK || id == previous || !strings.Contains(text, `"store":true`) || strings.Contains(text, `"previous_response_id":null`) != (i == 0) {
			return fmt.Errorf("turn %d: %d %w: %s", i, status, err, text)
		}
		previous = id
	}
	if err := w.follow(); err != nil {
		return err
	}
	back := w.kill()
	if _, status, text, err := w.proxies[0].say("", false); err != nil || status != http.StatusOK || !strings.Contains(text, `"store":false`) {
		return fmt.Errorf("a first turn without Redis: %d %w: %s", status, err, text)
	}
	if _, status, text, err := w.proxies[1].say(previous, false); err != nil || status != http.StatusServiceUnavailable || !strings.Contains(text, "state_unavailable") {
		return fmt.Errorf("a further turn without Redis: %d %w: %s", status, err, text)
	}
	if err := back(); err != nil {
		return err
	}
	// This one keeps nothing on its disk.
	return soon("conversations", func() error {
		if _, status, text, err := w.proxies[1].say(previous, false); err != nil || status != http.StatusBadRequest || !strings.Contains(text, "previous_response_not_found") {
			return fmt.Errorf("what Redis has forgotten: %d %w: %s", status, err, text)
		}
		_, status, text, err := w.proxies[0].say("", true)
		if err != nil || status != http.StatusOK || !strings.Contains(text, `"store":true`) {
			return fmt.Errorf("a first turn again: %d %w: %s", status, err, text)
		}
		return nil
	})
}

// follow has an answer worked at by one proxy, without its client, and told by both.
func (w *world) follow() error {
	id, status, text, err := w.proxies[0].talk(http.MethodPost, "/v1/responses", `{"model":"demo","input":"hello","background":true}`)
	if err != nil || status != http.StatusOK || id == "" {
		return fmt.Errorf("in the background: %d %w: %s", status, err, text)
	}
	err = soon("answer", func() error {
		if _, status, text, err := w.proxies[1].talk(http.MethodGet, "/v1/responses/"+id, ""); err != nil || status != http.StatusOK || !strings.Contains(text, `"status":"completed"`) {
			return fmt.Errorf("polled elsewhere: %d %w: %s", status, err, text)
		}
		return nil
	})
	if err != nil {
		return err
	}
	r, err := w.proxies[0].request(http.MethodPost, "/v1/responses", `{"model":"demo","input":"hello","background":true,"stream":true}`)
	if err != nil {
		return err
	}
	a, err := client.Do(r)
	if err != nil {
		return err
	}
	head := make([]byte, 1024)
	if _, err := io.ReadFull(a.Body, head); err != nil {
		return err
	}
	_ = a.Body.Close() // leaves
	_, id, _ = strings.Cut(string(head), `"id":"`)
	id, _, _ = strings.Cut(id, `"`)
	_, status, text, err = w.proxies[1].talk(http.MethodGet, "/v1/responses/"+id+"?stream=true", "")
	if err != nil || status != http.StatusOK || !strings.HasPrefix(text, string(head)) || !strings.Contains(text, "event: response.completed\n") || !strings.HasSuffix(text, "data: [DONE]\n\n") {
		return fmt.Errorf("followed elsewhere: %d %w: %s", status, err, text)
	}
	for _, p := range w.proxies {
		if _, status, again, err := p.talk(http.MethodGet, "/v1/responses/"+id+"?stream=true", ""); err != nil || status != http.StatusOK || again != text {
			return fmt.Errorf("told again: %d %w: %s", status, err, again)
		}
	}
	return nil
}

// say is a turn of a conversation; id is that of its answer.
func (p *instance) say(previous string, stream bool) (id string, status int, text string, err error) {
	body := fmt.Sprintf(`{"model":"demo","input":"hello","stream":%v`, stream)
	if previous != "" {
		body += fmt.Sprintf(`,"previous_response_id":%q`, previous)
	}
	return p.talk(http.MethodPost, "/v1/responses", body+"}")
}

// request is one of the key without limits.
func (p *instance) request(method, path, body string) (*http.Request, error) {
	r, err := http.NewRequest(method, p.url+path, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Authorization", "Bearer "+key+"-prober")
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	return r, nil
}

// talk makes a request; id is that of an answer.
func (p *instance) talk(method, path, body string) (id string, status int, text string, err error) {
	r, err := p.request(method, path, body)
	if err != nil {
		return "", 0, "", err
	}
	a, err := client.Do(r)
	if err != nil {
		return "", 0, "", err
	}
	defer a.Body.Close()
	b, err := io.ReadAll(a.Body)
	text = string(b)
	if at := strings.Index(text, `"id":"resp_`); at >= 0 {
		id, _, _ = strings.Cut(text[at+len(`"id":"`):], `"`)
	}
	return id, a.StatusCode, text, err
}

// metric returns the value of a metric without labels.
func (p *instance) metric(name string) (int, error) {
	a, err := client.Get(p.admin + "/metrics")
	if err != nil {
		return 0, err
	}
	defer a.Body.Close()
	text, err := io.ReadAll(a.Body)
	if err != nil {
		return 0, err
	}
	if strings.Contains(string(text)+p.log.String(), "canary") {
		return 0, errors.New("the metrics or the log show Redis' password")
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			return strconv.Atoi(strings.TrimSpace(value))
		}
	}
	return 0, fmt.Errorf("there is no metric %s", name)
}

// both checks what the proxies tell of Redis, and how often that has changed.
func (w *world) both(up, changes int) error {
	for i, p := range w.proxies {
		u, err := p.metric("dragoman_limiter_up")
		if err != nil {
			return err
		}
		c, err := p.metric("dragoman_limiter_changes_total")
		if err != nil {
			return err
		}
		if u != up || c != changes {
			return fmt.Errorf("proxy %d: dragoman_limiter_up %d, dragoman_limiter_changes_total %d, want %d and %d", i, u, c, up, changes)
		}
	}
	return nil
}

// eventually waits for that, and lets another key ask meanwhile.
func (w *world) eventually(up, changes int) error {
	until := time.Now().Add(patience)
	for {
		err := w.both(up, changes)
		if err == nil || time.Now().After(until) {
			return err
		}
		for _, p := range w.proxies {
			if _, _, err := p.post(key + "-prober"); err != nil {
				return err
			}
		}
		<-time.After(20 * time.Millisecond)
	}
}
