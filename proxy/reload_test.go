package proxy

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dragoman-proxy/dragoman/internal/balance"
	"github.com/dragoman-proxy/dragoman/internal/config"
	"github.com/dragoman-proxy/dragoman/translate"
)

// parsed is a valid configuration.
func parsed(t *testing.T, yaml string) *config.Config {
	t.Helper()
	if !strings.HasPrefix(yaml, "auth:") && !strings.Contains(yaml, "\nauth:") {
		yaml = "auth: {mode: none}\n" + yaml
	}
	conf, problems := config.Parse("test.yaml", []byte(yaml), config.Options{Protocols: translate.Names(), OptionCheck: translate.CheckOption})
	if conf == nil {
		t.Fatalf("configuration: %v", problems)
	}
	unhurried(conf)
	return conf
}

// reload puts a configuration in force on the listener that there is, and returns the
// fields of the line that says so.
func (r *running) reload(yaml string) map[string]any {
	r.t.Helper()
	conf := parsed(r.t, yaml)
	conf.Server.Listen, conf.Server.TLS = r.snapshot().conf.Server.Listen, r.snapshot().conf.Server.TLS
	if err := r.Reload(conf); err != nil {
		r.t.Fatal(err)
	}
	lines := r.logs.FilterMessage("configuration reloaded").All()
	return lines[len(lines)-1].ContextMap()
}

func (r *running) metric(name string) string {
	var b bytes.Buffer
	r.meters.write(&b)
	for line := range strings.SplitSeq(b.String(), "\n") {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			return value
		}
	}
	return ""
}

// TestReloadUnderLoad alternates between two configurations that differ in everything a
// request touches while clients ask without a pause: every answer is whole, and all of
// it is of one of the two.
func TestReloadUnderLoad(t *testing.T) {
	t.Parallel()
	overEveryWire(t, func(t *testing.T, start starter) {
		says := func(word string) *stagedAgent {
			script := chatScript()
			return stage(t, func(v *visit) {
				if m := v.req.Header.Get("X-Of"); m != word {
					v.t.Errorf("backend %s was told %q", word, m)
				}
				if strings.Contains(string(v.body), `"stream":true`) {
					v.open()
					v.chunk(strings.Replace(script.first, "one", word, 1) + script.rest)
					v.end()
					return
				}
				v.json(200, strings.Replace(script.body, "one", word, 1))
			})
		}
		yaml := func(word string, back *stagedAgent, limit int) string {
			return fmt.Sprintf("auth: {keys: [{name: caller, hash: %q, agents: [%s], limits: {requests: %d/s}}]}\n", hashOf(goodKey), word, limit) +
				"agents:\n  - {name: " + word + ", aliases: [it], protocol: chat, url: \"http://" + back.addr + "\", model: m, headers: {X-Of: " + word + "}}\n"
		}
		a, b := says("alpha"), says("beta")
		for _, back := range []*stagedAgent{a, b} { // of what was seen there is room for a thousand only
			go func() {
				for range back.seen {
				}
			}()
			t.Cleanup(func() { close(back.seen) })
		}
		ofA, ofB := yaml("alpha", a, 1000001), yaml("beta", b, 1000002)
		r := start(t, ofA)
		answered := make(chan struct{}, 1000)
		var reloads sync.WaitGroup
		reloads.Go(func() {
			i := 0
			for range answered { // as often as there are answers, and never so often that there are none
				r.reload([]string{ofB, ofA}[i%2])
				i++
			}
		})
		var clients sync.WaitGroup
		var seen [2]atomic.Int64
		for k := range 4 {
			clients.Go(func() {
				c := r.dialBare()
				defer c.Close()
				for i := range 150 {
					body := []string{chatHello, chatHelloStream}[(i+k)%2]
					c.send("POST", "/v1/chat/completions", body, bearer(goodKey))
					got := c.reply()
					want := map[string]string{"1000001": "alpha", "1000002": "beta"}[got.header.Get("X-Ratelimit-Limit-Requests")]
					if got.status != 200 || want == "" || got.header.Get("Dragoman-Agent") != want || chatText(got.body, body == chatHelloStream) != want+" two" {
						t.Errorf("%d %v %s", got.status, got.header, got.body)
						return
					}
					seen[len(want)%2].Add(1)
					answered <- struct{}{}
				}
			})
		}
		clients.Wait()
		close(answered)
		reloads.Wait()
		if seen[0].Load() == 0 || seen[1].Load() == 0 {
			t.Errorf("answers of one configuration only: %d, %d", seen[0].Load(), seen[1].Load())
		}
	})
}

// TestStreamOutlivesItsAgent: a stream goes on to its end when a reload takes its agent
// away, and the agent's connections are closed when nobody uses them any more.
func TestStreamOutlivesItsAgent(t *testing.T) {
	t.Parallel()
	overEveryWire(t, func(t *testing.T, start starter) {
		gate, left := make(chan struct{}), make(chan struct{}, 10)
		back := stage(t, func(v *visit) {
			if strings.Contains(string(v.body), "short") {
				answerWhole(v)
				return
			}
			v.open()
			v.chunk(chatScript().first)
			<-gate
			v.chunk(chatScript().rest)
			v.end()
			v.gone()
			left <- struct{}{}
		})
		r := start(t, agentYAML("chat", back.addr, "keep_alive: 10m"))
		c := r.dial()
		c.send("POST", "/v1/chat/completions", chatHelloStream, "")
		body := c.response().Body
		until(t, body, "one")
		if got := r.post("/v1/chat/completions", strings.Replace(chatHello, "hello", "short", 1), ""); got.status != 200 {
			t.Fatal(got)
		}
		o := r.first().backends[0].origin
		waitFor(t, "an idle connection", func() bool { return o.idleConns() == 1 })
		if line := r.reload("agents: [{name: other, protocol: chat, url: \"demo:chat\", model: m}]"); fmt.Sprint(line["changed"]) != "[agent other added agent it removed default_agent]" {
			t.Errorf("logged %v", line)
		}
		if n := o.idleConns(); n != 0 {
			t.Errorf("%d idle connections of an agent that is gone", n)
		}
		if got := r.post("/v1/chat/completions", chatHello, ""); got.header.Get("Dragoman-Agent") != "other" {
			t.Errorf("the agent that is gone: %d %v", got.status, got.header)
		}
		close(gate)
		if rest, err := io.ReadAll(body); err != nil || !strings.HasSuffix(string(rest), "data: [DONE]\n\n") || strings.Contains(string(rest), "error") {
			t.Errorf("%v %q", err, rest)
		}
		select {
		case <-left:
		case <-time.After(longest):
			t.Error("the connection of the stream was kept")
		}
		c.send("POST", "/v1/chat/completions", chatHello, "") // on the same connection
		if got := c.reply(); got.status != 200 || got.header.Get("Dragoman-Agent") != "other" {
			t.Errorf("afterwards: %d %v", got.status, got.header)
		}
	})
}

// TestReloadKeepsWhatDidNotChange: agents, the backends of agents that changed otherwise,
// connections to them, and what was counted.
func TestReloadKeepsWhatDidNotChange(t *testing.T) {
	t.Parallel()
	back, second := stage(t, answerWhole), stage(t, answerWhole)
	yaml := func(limit int, more string) string {
		return fmt.Sprintf("auth: {keys: [{name: caller, hash: %q, limits: {requests: %d/h}}]}\nlimits: {global: {requests: 100/h}}\n", hashOf(goodKey), limit) +
			agentYAML("chat", back.addr, "keep_alive: 10m", more) + "  - {name: two, protocol: chat, url: \"http://" + second.addr + "\", model: m}\n"
	}
	r := start(t, yaml(3, ""))
	ask := func() reply { return r.post("/v1/chat/completions", chatHello, bearer(goodKey)) }
	if got := ask(); got.status != 200 || got.header.Get("X-Ratelimit-Remaining-Requests") != "2" {
		t.Fatalf("%d %v", got.status, got.header)
	}
	one, two := r.first(), r.snapshot().agent("two")
	o, m := one.backends[0].origin, one.set.Members()[0]
	waitFor(t, "an idle connection", func() bool { return o.idleConns() == 1 })

	if line := r.reload(yaml(3, "")); fmt.Sprint(line["changed"]) != "[]" {
		t.Errorf("logged %v", line)
	}
	if r.first() != one {
		t.Error("an agent that did not change is another one")
	}
	if line := r.reload(yaml(3, "strict: true")); fmt.Sprint(line["changed"]) != "[agent it changed]" {
		t.Errorf("logged %v", line)
	}
	if now := r.first(); now == one || !now.strict || now.backends[0].origin != o || now.set.Members()[0] != m || now.budget != one.budget {
		t.Error("an agent that changed, and its backend that did not")
	}
	if r.snapshot().agent("two") != two {
		t.Error("the other agent is another one")
	}
	if got := ask(); got.status != 200 || got.header.Get("X-Ratelimit-Remaining-Requests") != "1" {
		t.Errorf("what was counted: %d %v", got.status, got.header)
	}
	if a, b := <-back.seen, <-back.seen; a.conn != b.conn {
		t.Error("the idle connection was not used again")
	}
	// A changed limit counts anew; the one before is remembered.
	if r.reload(yaml(2, "strict: true")); ask().header.Get("X-Ratelimit-Remaining-Requests") != "1" {
		t.Error("a limit that changed")
	}
	if r.reload(yaml(3, "strict: true")); ask().header.Get("X-Ratelimit-Remaining-Requests") != "0" {
		t.Error("a limit that came back")
	}
	if got := ask(); got.status != 429 {
		t.Errorf("%d", got.status)
	}
	// What a connection is made of changed.
	r.reload(yaml(3, "timeouts: {connect: 1s}"))
	if now := r.first(); now.backends[0].origin == o || now.set.Members()[0] == m || o.idleConns() != 0 {
		t.Error("a backend that is reached otherwise is the same")
	}
}

// TestTrustInABackendIsReloaded: the file of its authorities has other content.
func TestTrustInABackendIsReloaded(t *testing.T) {
	t.Parallel()
	a, b := newAuthority(t), newAuthority(t)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	yaml := "agents: [{name: it, protocol: chat, url: \"https://127.0.0.1:1\", model: m, tls: {ca_file: " + ca + "}}]"
	write(t, ca, a.pem)
	r := start(t, yaml)
	one := r.first()
	if r.reload(yaml); r.first() != one {
		t.Error("nothing changed")
	}
	write(t, ca, b.pem)
	if r.reload(yaml); r.first() == one || r.first().backends[0] == one.backends[0] {
		t.Error("the backend is trusted as before")
	}
}

// TestReloadAppliesToNewRequests changes what is not an agent's.
func TestReloadAppliesToNewRequests(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	set := filepath.Join(t.TempDir(), "keys.json")
	write(t, set, p.set)
	const agents = "agents:\n  - {name: a, protocol: cycls, url: \"demo:cycls\"}\n  - {name: b, protocol: cycls, url: \"demo:cycls\"}\n"
	jwt := ", jwt: {issuer: \"https://login.example.com\", audience: [dragoman], jwks_file: " + set + "}"
	keys := func(key, more string) string {
		return "auth: {keys: [{name: k, hash: \"" + hashOf(key) + "\"}]" + more + "}\n"
	}
	r := start(t, keys(goodKey, "")+agents)
	models := func(credential string) int { return r.ask("GET", "/v1/models", "", bearer(credential)).status }
	token := p.token(t, nil)
	if a, b, c := models(goodKey), models(otherKey), models(token); a != 200 || b != 401 || c != 401 {
		t.Fatal(a, b, c)
	}
	r.reload(keys(otherKey, jwt) + agents)
	if a, b, c := models(goodKey), models(otherKey), models(token); a != 401 || b != 200 || c != 200 {
		t.Error(a, b, c)
	}
	verifier := r.snapshot().tokens
	r.reload(keys(goodKey, jwt) + agents)
	if models(token) != 200 || r.snapshot().tokens != verifier {
		t.Error("the verifier of tokens did not change")
	}
	r.reload(agents)
	if models("nobody-s-key-0123456789abcdef") != 200 {
		t.Error("everybody may call")
	}
	ask := func(headers string) reply {
		return r.post("/v1/chat/completions", `{"seed":1,"messages":[{"role":"user","content":"hello"}]}`, headers)
	}
	if got := ask(""); got.status != 404 {
		t.Errorf("no default: %d %s", got.status, got.body)
	}
	r.reload("default_agent: b\n" + agents)
	if got := ask(""); got.status != 200 || got.header.Get("Dragoman-Agent") != "b" {
		t.Errorf("a default: %d %s", got.status, got.body)
	}
	r.reload("default_agent: b\ntranslate: {strict: true}\n" + agents)
	if got := ask(""); got.status != 400 || !strings.Contains(got.body, "seed") {
		t.Errorf("strict: %d %s", got.status, got.body)
	}
	r.reload("default_agent: b\nserver: {max_body: 1KiB}\nlimits: {global: {requests: 1/h}}\n" + agents)
	if got := r.post("/v1/chat/completions", strings.Repeat(" ", 2000), ""); got.status != 413 {
		t.Errorf("max_body: %d %s", got.status, got.body)
	}
	if a, b := ask("").status, ask("").status; a != 200 || b != 503 {
		t.Errorf("limits.global: %d, %d", a, b)
	}
	lines := r.logs.FilterMessage("request").Len()
	r.reload("log: {access: false}\nserver: {timeouts: {write: 7s}}\n" + agents)
	if ask(""); r.ln.writeTimeout() != 7*time.Second {
		t.Errorf("write timeout %v", r.ln.writeTimeout())
	}
	r.reload(agents)
	ask("")
	r.waitLog(lines + 1)
	if n := r.logs.FilterMessage("request").Len(); n > lines+2 { // the last before may have come late
		t.Errorf("%d lines more", n-lines)
	}
}

// TestRestartIsSaid names what stays as it is until the next start, and applies the rest.
func TestRestartIsSaid(t *testing.T) {
	t.Parallel()
	const agent = "agents: [{name: %s, protocol: chat, url: \"demo:chat\", model: m}]"
	r := start(t, "state: {store: memory}\n"+fmt.Sprintf(agent, "first"))
	before := r.snapshot().conf
	conf := parsed(t, "server: {listen: \"127.0.0.1:1\", max_connections: 7, max_header: 64KiB, socket_mode: \"0600\", timeouts: {idle: 1s, header: 1s}}\n"+
		"admin: {listen: \"127.0.0.1:2\"}\nlog: {format: console}\nlimits: {on_error: closed, replicas: 3, queue: {length: 1, wait: 1s}}\n"+fmt.Sprintf(agent, "second"))
	if err := r.Reload(conf); err != nil {
		t.Fatal(err)
	}
	line := r.logs.FilterMessage("configuration reloaded").All()[0].ContextMap()
	if got, want := fmt.Sprint(line["needs_restart"]), "[server.listen server.socket_mode server.max_header server.max_connections server.timeouts.header server.timeouts.idle admin.listen log.format limits.on_error limits.replicas limits.queue]"; got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
	now := r.snapshot().conf
	if now.Agents[0].Name != "second" || !reflect.DeepEqual(now.Server, before.Server) || now.Admin != before.Admin || now.Log.Format != before.Log.Format {
		t.Errorf("in force is %+v", now)
	}
	if conf.Server.MaxConnections != 7 {
		t.Error("the caller's configuration was changed")
	}
}

// TestBadReloadChangesNothing: whatever is wrong, the last good configuration stays, and
// the metrics say so.
func TestBadReloadChangesNothing(t *testing.T) {
	t.Parallel()
	set := filepath.Join(t.TempDir(), "keys.json")
	write(t, set, newProvider(t).set)
	r := start(t, authYAML("")+demoYAML)
	snap := r.snapshot()
	counts := func(good, bad, last string) {
		t.Helper()
		if g, b, l := r.metric(`dragoman_config_reloads_total{result="success"}`), r.metric(`dragoman_config_reloads_total{result="failure"}`),
			r.metric("dragoman_config_last_reload_successful"); g != good || b != bad || l != last {
			t.Errorf("counted %s good, %s bad, last %s; want %s, %s, %s", g, b, l, good, bad, last)
		}
	}
	counts("0", "0", "1")
	jwt := parsed(t, "auth: {jwt: {issuer: \"https://login.example.com\", audience: [dragoman], jwks_file: "+set+"}}\n"+demoYAML)
	if err := os.Remove(set); err != nil {
		t.Fatal(err)
	}
	strange := parsed(t, authYAML("")+demoYAML)
	strange.Agents[0].Protocol = "nonsense"
	for _, conf := range []*config.Config{jwt, strange} {
		if err := r.Reload(conf); err == nil {
			t.Error("it was taken")
		}
	}
	r.ReloadFailed("config.yaml:1: one", "config.yaml:2: two")
	counts("0", "3", "0")
	if r.snapshot() != snap || r.ask("GET", "/v1/models", "", bearer(goodKey)).status != 200 {
		t.Error("the last good one did not stay")
	}
	lines := r.logs.FilterMessage("the configuration cannot be reloaded; the last good one stays").All()
	if len(lines) != 3 || fmt.Sprint(lines[2].ContextMap()["problems"]) != "[config.yaml:1: one config.yaml:2: two]" {
		t.Errorf("logged %v", lines)
	}
	r.reload(authYAML("") + demoYAML)
	counts("1", "3", "1")

	snap = r.snapshot()
	r.Drain()
	if err := r.Reload(parsed(t, demoYAML)); err == nil || r.snapshot() != snap {
		t.Errorf("while draining: %v", err)
	}
	counts("1", "3", "1")
}

// TestBadReloadLeavesTheBalance: backends that a refused configuration would have used on
// are balanced as before.
func TestBadReloadLeavesTheBalance(t *testing.T) {
	t.Parallel()
	set := filepath.Join(t.TempDir(), "keys.json")
	write(t, set, newProvider(t).set)
	r := start(t, agentYAML("chat", "127.0.0.1:1", "balance: {failures: 3}"))
	conf := parsed(t, "auth: {jwt: {issuer: \"https://login.example.com\", audience: [dragoman], jwks_file: "+set+"}}\n"+
		agentYAML("chat", "127.0.0.1:1", "balance: {failures: 1}"))
	if err := os.Remove(set); err != nil {
		t.Fatal(err)
	}
	if err := r.Reload(conf); err == nil {
		t.Fatal("it was taken")
	}
	balanced := r.first().set
	for n, want := range []balance.State{balance.Closed, balance.Closed, balance.Open} {
		l, err := balanced.Acquire(nil, "", 0)
		if err != nil {
			t.Fatal(err)
		}
		l.Report(balance.Failure)
		l.Release()
		if got := balanced.Members()[0].State(); got != want {
			t.Errorf("%v after %d failures, want %v", got, n+1, want)
		}
	}
}

// TestReloadOpensNoListener: a configuration that is safe on loopback is not put in force
// where others can connect until the next start.
func TestReloadOpensNoListener(t *testing.T) {
	t.Parallel()
	r := start(t, "auth: {mode: none, allow_unauthenticated: true}\n"+demoYAML)
	r.snapshot().conf.Server.Listen = "0.0.0.0:1"
	for yaml, taken := range map[string]bool{
		"auth: {mode: none}\n" + demoYAML:                                                              false,
		"auth: {mode: none, allow_unauthenticated: true}\n" + demoYAML:                                 true,
		"auth: {keys: [{name: demo, key: {value: dragoman-demo-key-for-loopback-only}}]}\n" + demoYAML: false,
		authYAML("") + demoYAML: true,
	} {
		if err := r.Reload(parsed(t, yaml)); (err == nil) != taken {
			t.Errorf("%s: %v", yaml, err)
		}
	}
}

// TestReloadsLeakNothing reloads a hundred times, agents, verifiers of tokens and all. It
// runs alone: what it counts is the process's.
func TestReloadsLeakNothing(t *testing.T) {
	back := stage(t, answerWhole)
	p := newProvider(t)
	set := filepath.Join(t.TempDir(), "keys.json")
	write(t, set, p.set)
	yaml := func(i int) string {
		return fmt.Sprintf("auth: {keys_file: %s, jwt: {issuer: \"https://login.example.com\", audience: [dragoman, a%d], jwks_file: %s}}\n", set+".list", i, set) +
			agentYAML("chat", back.addr, fmt.Sprintf("timeouts: {connect: %ds}", 1+i%2), "keep_alive: 10m")
	}
	write(t, set+".list", []byte("[{name: caller, hash: \""+hashOf(goodKey)+"\"}]"))
	r := start(t, yaml(0))
	ask := func() {
		if got := r.post("/v1/chat/completions", chatHello, bearer(goodKey)+"Connection: close\r\n"); got.status != 200 {
			t.Fatal(got)
		}
	}
	ask()
	r.reload(yaml(1))
	before := liveGoroutines()
	for i := range 100 {
		r.reload(yaml(i))
		ask()
	}
	waitFor(t, "as many goroutines as before", func() bool { return liveGoroutines() <= before+2 })
	if n := r.first().backends[0].origin.idleConns(); n > 1 {
		t.Errorf("%d idle connections", n)
	}
}

// TestKeysAreReadAgainBehindAReload: files of keys that only the new configuration names
// are looked at, and those that only the old one named are not.
func TestKeysAreReadAgainBehindAReload(t *testing.T) {
	t.Parallel()
	list := filepath.Join(t.TempDir(), "keys.yaml")
	write(t, list, []byte("[{name: caller, hash: \""+hashOf(goodKey)+"\"}]"))
	r := start(t, demoYAML)
	if told := r.rereadKeys(""); told != "" {
		t.Error(told)
	}
	r.reload("auth: {keys_file: " + list + "}\n" + demoYAML)
	write(t, list, []byte("[{name: caller, hash: \""+hashOf(otherKey)+"\"}]"))
	if told := r.rereadKeys(""); told != "" {
		t.Error(told)
	}
	if a, b := r.ask("GET", "/v1/models", "", bearer(goodKey)).status, r.ask("GET", "/v1/models", "", bearer(otherKey)).status; a != 401 || b != 200 {
		t.Errorf("%d %d", a, b)
	}
	r.reload(authYAML("") + demoYAML)
	write(t, list, []byte("nonsense"))
	if told := r.rereadKeys(""); told != "" || r.ask("GET", "/v1/models", "", bearer(goodKey)).status != 200 {
		t.Error(told)
	}
}

// TestReloadOnAConnection: one connection is served by the configurations in turn.
func TestReloadOnAConnection(t *testing.T) {
	t.Parallel()
	overEveryWire(t, func(t *testing.T, start starter) {
		const agent = "agents: [{name: %s, protocol: chat, url: \"demo:chat\", model: m}]"
		r := start(t, fmt.Sprintf(agent, "a0"))
		c := r.dial()
		for i := range 5 {
			if i > 0 {
				r.reload(fmt.Sprintf(agent, fmt.Sprintf("a%d", i)))
			}
			c.send("GET", "/v1/models", "", "")
			if got := c.reply(); got.status != 200 || !strings.Contains(got.body, fmt.Sprintf(`"a%d"`, i)) {
				t.Errorf("%d: %d %s", i, got.status, got.body)
			}
		}
	})
}

// TestReloadedBackendsAreChecked: active checks begin with the server, and with a reload
// those of the backends that it brings.
func TestReloadedBackendsAreChecked(t *testing.T) {
	t.Parallel()
	up := func(v *visit) { v.json(200, "{}") }
	first, second := stage(t, up), stage(t, up)
	yaml := func(back *stagedAgent) string {
		return agentYAML("chat", back.addr, "health: {interval: 1m, path: /up}")
	}
	r := start(t, yaml(first))
	checked := func(back *stagedAgent) {
		t.Helper()
		select {
		case v := <-back.seen:
			if v.req.Method != "GET" || v.req.URL.Path != "/up" {
				t.Errorf("%s %s", v.req.Method, v.req.URL)
			}
		case <-time.After(longest):
			t.Error("it is not checked")
		}
	}
	checked(first)
	r.reload(yaml(second))
	checked(second)
	r.probes.mu.Lock()
	defer r.probes.mu.Unlock()
	if r.probes.of[r.first().backends[0]] == nil || len(r.probes.of) != 1 {
		t.Error("one backend is checked from now on")
	}
}
