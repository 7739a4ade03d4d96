package proxy

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tidwall/gjson"

	"github.com/dragoman-proxy/dragoman/auth"
	"github.com/dragoman-proxy/dragoman/internal/config"
	"github.com/dragoman-proxy/dragoman/ratelimit"
	"github.com/dragoman-proxy/dragoman/translate"
)

// Keys of these tests. None of them may be seen anywhere (TestCanaries).
const (
	goodKey     = "canary-good-key-0123456789abcdef"
	otherKey    = "canary-other-key-0123456789abcdef"
	expiredKey  = "canary-expired-key-0123456789abcdef"
	disabledKey = "canary-disabled-key-0123456789abcdef"
	unknownKey  = "canary-unknown-key-0123456789abcdef"
)

func hashOf(key string) string {
	h := sha256.Sum256([]byte(key))
	return "sha256:" + hex.EncodeToString(h[:])
}

// authYAML is a configuration's keys.
func authYAML(extra string) string {
	return "auth:\n  keys:\n" +
		"    - {name: good, hash: \"" + hashOf(goodKey) + "\"" + extra + "}\n" +
		"    - {name: other, hash: \"" + hashOf(otherKey) + "\"}\n" +
		"    - {name: late, hash: \"" + hashOf(expiredKey) + "\", expires: 2020-01-01T00:00:00Z}\n" +
		"    - {name: off, hash: \"" + hashOf(disabledKey) + "\", disabled: true}\n"
}

func bearer(key string) string { return "Authorization: Bearer " + key + "\r\n" }

func (r *running) ask(method, path, body, headers string) reply {
	r.t.Helper()
	c := r.dial()
	c.send(method, path, body, headers)
	return c.reply()
}

// TestEveryRouteAsksWhoIsCalling calls every route of every protocol, those that
// do not exist too: without a good key the answer is 401 in the face's own words,
// the same to the byte whatever was wrong, and only the probes are open.
func TestEveryRouteAsksWhoIsCalling(t *testing.T) {
	t.Parallel()
	back := stage(t, func(v *visit) { t.Error("a stranger reached the agent") })
	r := start(t, authYAML("")+agentYAML("chat", back.addr))
	bad := map[string]string{
		"missing": "", "unknown": bearer(unknownKey), "expired": bearer(expiredKey), "disabled": bearer(disabledKey),
		"unknown x-api-key": "x-api-key: " + unknownKey + "\r\n", "short": bearer("short"), "malformed": "Authorization: Bearer a b\r\n",
		"another scheme": "Authorization: Basic " + goodKey + "\r\n", "no scheme": "Authorization: " + goodKey + "\r\n",
		"prefix of a good one": bearer(goodKey[:len(goodKey)-1]), "more than a good one": bearer(goodKey + "a"),
		"endless": bearer(strings.Repeat("a", 9<<10)),
	}
	paths := []string{"GET /", "POST /nothing", "GET /v1/chat/completions", "DELETE /v1/responses", "POST /agents/it/v1/chat/completions", "POST /agents/nobody/chat"}
	for _, rt := range r.router.all {
		paths = append(paths, rt.Method+" "+strings.ReplaceAll(rt.Path, "{id}", "it"))
	}
	for _, p := range paths {
		method, path, _ := strings.Cut(p, " ")
		face := r.router.find(method, path).face
		want, body := "", ""
		if method == "POST" {
			body = `{"model":"it","input":"x","task":"x","messages":[]}`
		}
		for name, headers := range bad {
			got := r.ask(method, path, body, headers)
			if got.status != 401 || got.header.Get("Www-Authenticate") != `Bearer realm="dragoman"` || got.header.Get("Dragoman-Agent") != "" {
				t.Errorf("%s %s: %d %v", p, name, got.status, got.header)
			}
			if want == "" {
				want = got.body
				if e := translate.ParseErrorBody("application/json", []byte(want)); !gjson.Valid(want) || e.Message == "" {
					t.Errorf("%s: %s", p, want)
				}
				if own := string(face.AppendError(nil, &translate.Error{Kind: translate.KindUnauthenticated, Status: 401, Code: "invalid_api_key",
					Message: r.snapshot().welcome})); own != want {
					t.Errorf("%s: %s, not in the face's words: %s", p, want, own)
				}
			}
			if got.body != want {
				t.Errorf("%s %s: %s, not %s", p, name, got.body, want)
			}
		}
		for _, headers := range []string{bearer(goodKey), "authorization: bEaReR " + goodKey + "\r\n", "X-API-KEY: " + goodKey + "\r\n"} {
			if method == "POST" && (strings.Contains(path, "complet") || strings.Contains(path, "respons") || strings.Contains(path, "chat") || path == "/") {
				headers += "Content-Encoding: gzip\r\n" // known, and then refused: no agent need run for this
			}
			if got := r.ask(method, path, body, headers); got.status == 401 {
				t.Errorf("%s with %q: 401", p, headers)
			}
		}
	}
	for _, p := range []string{"/livez", "/readyz"} {
		if got := r.get(p); got.status != 200 {
			t.Errorf("%s: %d", p, got.status)
		}
	}
}

// TestTwoCredentials takes the same key twice, and refuses two.
func TestTwoCredentials(t *testing.T) {
	t.Parallel()
	back := stage(t, func(v *visit) { v.json(200, `{"choices":[{"message":{"content":"hi"},"finish_reason":"stop"}]}`) })
	r := start(t, authYAML("")+agentYAML("chat", back.addr))
	if got := r.post("/v1/chat/completions", chatHello, bearer(goodKey)+"x-api-key: "+goodKey+"\r\n"); got.status != 200 {
		t.Errorf("the same twice: %d %s", got.status, got.body)
	}
	// A header without a value is a bad credential, and none is passed over.
	for _, headers := range []string{"Authorization:\r\nx-api-key: " + goodKey + "\r\n", bearer(goodKey) + "x-api-key:\r\n"} {
		if got := r.post("/v1/chat/completions", chatHello, headers); got.status != 400 {
			t.Errorf("%q: %d %s", headers, got.status, got.body)
		}
	}
	got := r.post("/v1/chat/completions", chatHello, bearer(goodKey)+"x-api-key: "+otherKey+"\r\n")
	if got.status != 400 || gjson.Get(got.body, "error.code").String() != "conflicting_credentials" {
		t.Errorf("two: %d %s", got.status, got.body)
	}
	if line := r.waitLog(1); line["key"] != "good" {
		t.Errorf("the log says key %v", line["key"])
	}
}

// TestScope shows a key the agents it may call, and nothing of the others: what is
// out of its scope is answered like what does not exist.
func TestScope(t *testing.T) {
	t.Parallel()
	r := start(t, authYAML(`, agents: [open, "research-*"]`)+`
default_agent: secret
agents:
  - {name: secret, aliases: [hidden, "sec-*"], description: The secret, protocol: cycls, url: "demo:cycls"}
  - {name: open, protocol: chat, url: "demo:chat", model: m}
  - {name: research-1, aliases: ["any-*"], protocol: chat, url: "demo:chat", model: m}
`)
	for _, path := range []string{"/v1/models", "/v1/models/available", "/api/client/v1/agents"} {
		got := r.ask("GET", path, "", bearer(goodKey))
		if got.status != 200 || strings.Contains(got.body, "secret") || !strings.Contains(got.body, "open") || !strings.Contains(got.body, "research-1") {
			t.Errorf("%s: %d %s", path, got.status, got.body)
		}
		if got := r.ask("GET", path, "", bearer(otherKey)); !strings.Contains(got.body, "secret") {
			t.Errorf("%s without a scope: %s", path, got.body)
		}
	}
	f := func(method, path, body, headers string) reply {
		return r.ask(method, path, body, bearer(goodKey)+headers)
	}
	chat := func(model string) string {
		return `{"model":"` + model + `","messages":[{"role":"user","content":"hello"}]}`
	}
	for name, ask := range map[string]func(word string) reply{
		"model":       func(w string) reply { return f("POST", "/v1/chat/completions", chat(w), "") },
		"prefix":      func(w string) reply { return f("POST", "/agents/"+w+"/v1/chat/completions", chat("open"), "") },
		"description": func(w string) reply { return f("GET", "/v1/models/"+w, "", "") },
		"cognipeer's": func(w string) reply { return f("GET", "/api/client/v1/agents/"+w, "", "") },
		"path":        func(w string) reply { return f("POST", "/v1/agents/"+w+"/responses", `{"input":"hello"}`, "") },
		"agent_config": func(w string) reply {
			return f("POST", "/v1/agent/completions", `{"agent_config":{"agent_name":"`+w+`"},"task":"hello"}`, "")
		},
		"card":   func(w string) reply { return f("GET", "/agents/"+w+"/config", "", "") },
		"limits": func(w string) reply { return f("GET", "/agents/"+w+"/v1/rate/limits", "", "") },
	} {
		// None of these words exists, to this key.
		want := ask("nowhere")
		for _, w := range []string{"secret", "hidden", "sec-1"} {
			got := ask(w)
			got.body = strings.ReplaceAll(got.body, w, "nowhere")
			if got.status != 404 || got.status != want.status || got.body != want.body || strings.Contains(got.body, "secret") {
				t.Errorf("%s %s: %d %s, want %d %s", name, w, got.status, got.body, want.status, want.body)
			}
		}
		if got := ask("open"); got.status != 200 {
			t.Errorf("%s open: %d %s", name, got.status, got.body)
		}
	}
	// The default agent and the one of the Host header are out of scope.
	for _, got := range []reply{
		f("POST", "/chat", `{"messages":[{"role":"user","content":"hello"}]}`, ""), f("GET", "/config", "", ""),
	} {
		if got.status != 404 || strings.Contains(got.body, "secret") {
			t.Errorf("default: %d %s", got.status, got.body)
		}
	}
	c := r.dial()
	fmt.Fprintf(c, "GET /config HTTP/1.1\r\nHost: secret.example.com\r\n%s\r\n", bearer(goodKey))
	if got := c.reply(); got.status != 404 || strings.Contains(got.body, "secret") {
		t.Errorf("host: %d %s", got.status, got.body)
	}
	c = r.dial()
	fmt.Fprintf(c, "GET /config HTTP/1.1\r\nHost: secret.example.com\r\n%s\r\n", bearer(otherKey))
	if got := c.reply(); got.status != 200 {
		t.Errorf("host, in scope: %d %s", got.status, got.body)
	}
}

// TestCredentialStays looks at what the agent is sent: the proxy's credential, and
// in no carrier the client's. An agent that checks its users itself gets the
// client's Authorization, never its x-api-key, and its refusals go through.
func TestCredentialStays(t *testing.T) {
	t.Parallel()
	plain := stage(t, func(v *visit) { v.json(401, `{"error":{"message":"bad key sk-of-the-proxy-000000"}}`) })
	own := stage(t, func(v *visit) { v.json(403, `{"detail":"not you"}`, `WWW-Authenticate: Bearer realm="agent"`) })
	r := start(t, authYAML("")+`
agents:
  - {name: plain, protocol: chat, url: "http://`+plain.addr+`", model: m, credential: {bearer: {value: sk-of-the-proxy-000000}}}
  - {name: own, protocol: cycls, url: "http://`+own.addr+`", path: /chat, credential: {forward: true}}
`)
	all := "x-api-key: " + goodKey + "\r\nAuthorization: Bearer canary-users-token-000000\r\nCookie: k=" + goodKey + "\r\nProxy-Authorization: Bearer " + goodKey +
		"\r\napi-key: " + goodKey + "\r\nx-goog-api-key: " + goodKey + "\r\nX-Stainless-Lang: python\r\n"
	got := r.post("/agents/plain/v1/chat/completions?key="+goodKey+"&api_key="+goodKey, chatHello, all)
	if got.status != 502 || strings.Contains(got.body, "sk-of-the-proxy") || got.header.Get("Www-Authenticate") != "" {
		t.Errorf("%d %v %s", got.status, got.header, got.body)
	}
	v := <-plain.seen
	if a := v.req.Header.Get("Authorization"); a != "Bearer sk-of-the-proxy-000000" {
		t.Errorf("Authorization: %q", a)
	}
	if s := fmt.Sprint(v.req.RequestURI, v.req.Header); strings.Contains(s, "canary") || v.req.Header.Get("X-Stainless-Lang") != "python" {
		t.Errorf("the agent got %s", s)
	}
	got = r.post("/agents/own/v1/chat/completions", chatHello, all)
	if got.status != 403 || !strings.Contains(got.body, "not you") || got.header.Get("Www-Authenticate") != `Bearer realm="agent"` {
		t.Errorf("%d %v %s", got.status, got.header, got.body)
	}
	v = <-own.seen
	if a := v.req.Header.Get("Authorization"); a != "Bearer canary-users-token-000000" {
		t.Errorf("Authorization: %q", a)
	}
	if s := fmt.Sprint(v.req.Header); strings.Contains(s, goodKey) {
		t.Errorf("the agent got %s", s)
	}
	// Whoever says the proxy's key twice does not tell it the agent.
	for _, twice := range []string{bearer(goodKey), "Authorization: Basic " + goodKey + "\r\n", "Authorization: Bearer " + goodKey + ".more\r\n"} {
		if got := r.post("/agents/own/v1/chat/completions", chatHello, "x-api-key: "+goodKey+"\r\n"+twice); got.status != 403 {
			t.Errorf("%s: %d", twice, got.status)
		}
		if v := <-own.seen; strings.Contains(fmt.Sprint(v.req.Header), goodKey) {
			t.Errorf("%s: the agent got %v", twice, v.req.Header)
		}
	}
	// With such an agent only x-api-key is a key for the proxy.
	if got := r.post("/agents/own/v1/chat/completions", chatHello, bearer(goodKey)); got.status != 401 {
		t.Errorf("bearer: %d", got.status)
	}
}

// TestKeyFiles reads keys from mounted files again: a rotated key, a new one, and
// a broken list that leaves the last good one in force.
func TestKeyFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	one, list := filepath.Join(dir, "one"), filepath.Join(dir, "keys.yaml")
	write := func(path, text string) {
		t.Helper()
		// As kubelet does: a new file in the place of the old one.
		if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
	write(one, goodKey+"\n")
	write(list, "- {name: listed, hash: \""+hashOf(otherKey)+"\", limits: {requests: 2/h}}\n")
	r := start(t, "auth:\n  keys_file: "+list+"\n  keys:\n    - {name: one, key: {file: "+one+"}}\nagents:\n  - {name: it, protocol: cycls, url: \"demo:cycls\"}\n")
	ask := func(key string) int { return r.ask("GET", "/v1/models", "", bearer(key)).status }
	if a, b, c := ask(goodKey), ask(otherKey), ask(unknownKey); a != 200 || b != 200 || c != 401 {
		t.Fatalf("%d %d %d", a, b, c)
	}
	told := ""
	if told = r.rereadKeys(told); told != "" || r.logs.FilterMessage("keys read again").Len() != 0 {
		t.Fatalf("nothing changed: %q", told)
	}
	write(one, unknownKey)
	if told = r.rereadKeys(told); told != "" {
		t.Fatal(told)
	}
	if a, b, c := ask(goodKey), ask(otherKey), ask(unknownKey); a != 401 || b != 200 || c != 200 {
		t.Errorf("rotated: %d %d %d", a, b, c)
	}
	post := func() int { return r.post("/v1/chat/completions", chatHello, bearer(otherKey)).status }
	if s := post(); s != 200 {
		t.Errorf("%d", s)
	}
	for range 2 {
		write(list, "- {name: listed, hash: canary-not-a-hash}\n")
		told = r.rereadKeys(told)
	}
	lines := r.logs.FilterMessage("the keys cannot be read again; the last good ones stay").All()
	if len(lines) != 1 || told == "" || strings.Contains(fmt.Sprint(lines[0].ContextMap()), "canary") {
		t.Errorf("%d lines: %v", len(lines), lines)
	}
	if a := ask(otherKey); a != 200 {
		t.Errorf("broken list: %d", a)
	}
	// Something else in the place of the file, which could be a pipe that never ends.
	if err := os.Remove(list); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(list, 0o700); err != nil {
		t.Fatal(err)
	}
	if told = r.rereadKeys(told); !strings.Contains(told, "is not a regular file") || ask(otherKey) != 200 {
		t.Errorf("told %q", told)
	}
	if err := os.Remove(list); err != nil {
		t.Fatal(err)
	}
	// What was counted under the name stays.
	write(list, "- {name: listed, hash: \""+hashOf(goodKey)+"\", limits: {requests: 2/h}}\n- {name: listed, hash: \""+hashOf(otherKey)+"\", limits: {requests: 2/h}}\n")
	if told = r.rereadKeys(told); told != "" {
		t.Fatal(told)
	}
	if s := post(); s != 200 {
		t.Errorf("second: %d", s)
	}
	if s := post(); s != 429 {
		t.Errorf("third: %d", s)
	}
	if got := r.post("/v1/chat/completions", chatHello, bearer(goodKey)); got.status != 429 {
		t.Errorf("the other key of the name: %d", got.status)
	}
	// So does the limit of a request that came before its key went.
	before := r.snapshot()
	write(list, "[]")
	if told = r.rereadKeys(told); told != "" || ask(otherKey) != 401 {
		t.Fatalf("still there: %q", told)
	}
	if s := before.callerScope(r.limiter, &auth.Principal{Name: "listed"}); s.Limits().Requests.Events != 2 {
		t.Errorf("%+v", s.Limits())
	}
}

// TestKeyFilesAreWatched changes a file twice while the proxy serves: each time the
// keys in it are good soon, within the limits that stand there with them, and
// the one that stays is good all the time.
func TestKeyFilesAreWatched(t *testing.T) {
	t.Parallel()
	list := filepath.Join(t.TempDir(), "keys.yaml")
	write := func(more string) {
		t.Helper()
		if err := os.WriteFile(list+".new", []byte("- {name: stays, hash: \""+hashOf(goodKey)+"\"}\n"+more), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(list+".new", list); err != nil {
			t.Fatal(err)
		}
	}
	write("")
	r := start(t, "auth: {keys_file: "+list+"}\nagents:\n  - {name: it, protocol: cycls, url: \"demo:cycls\"}\n")
	for limit, key := range []string{otherKey, unknownKey} {
		limit++
		write(fmt.Sprintf("- {name: comes, hash: %q, limits: {requests: %d/h}}\n", hashOf(key), limit))
		got := r.post("/v1/chat/completions", chatHello, bearer(key))
		for deadline := time.Now().Add(longest); got.status == 401; got = r.post("/v1/chat/completions", chatHello, bearer(key)) {
			if time.Now().After(deadline) {
				t.Fatal("the file is not read again")
			}
			if s := r.ask("GET", "/v1/models", "", bearer(goodKey)).status; s != 200 {
				t.Fatalf("the key that stays: %d", s)
			}
			time.Sleep(5 * time.Millisecond) //nolint:forbidigo // polls for what has no channel
		}
		if got.status != 200 || got.header.Get("X-Ratelimit-Limit-Requests") != strconv.Itoa(limit) {
			t.Errorf("%d %v", got.status, got.header)
		}
	}
	if s := r.ask("GET", "/v1/models", "", bearer(otherKey)).status; s != 401 {
		t.Errorf("the first one that came: %d", s)
	}
}

// TestRedisURLsAreToldOfByTheConfiguration: the configuration refuses every address
// that the store would refuse when the proxy starts, and no other.
func TestRedisURLsAreToldOfByTheConfiguration(t *testing.T) {
	t.Parallel()
	for _, url := range []string{
		"redis://h", "redis://h:1/0", "rediss://u:p@h/15", "redis://:p@[::1]:6379/", "unix:///s", "unix://:p@/s?db=3", "unix:///s?db=",
		"redis://", "redis://h:0", "redis://h:65536", "redis://h/x", "redis://h/-1", "redis://h/99999999999999999999", "redis://h/1/2",
		"redis://u@h", "redis://u:@h", "redis://@h", "redis://h/0?", "redis://h?db=1", "redis://h#f", "redis://h#", "redis:h", "unix://h/s", "unix:///", "unix:s",
		"unix:///s?db=z", "unix:///s?x=1", "unix:///s?db=1&db=2", "unix:///s?db=1&x=1", "http://h", "h:6379", "redis://h:%",
	} {
		_, err := ratelimit.NewRedis(ratelimit.RedisConfig{URL: url})
		conf, problems := config.Parse("c", []byte("auth: {mode: none}\nlimits: {store: redis}\nredis: {url: {value: \""+url+"\"}}\n"+
			"agents: [{name: a, protocol: chat, url: \"demo:chat\"}]"), config.Options{Protocols: translate.Names()})
		if (conf == nil) != (err != nil) {
			t.Errorf("%s: the store says %v, the configuration %v", url, err, problems)
		}
	}
}

// TestRequestLimit counts requests of a key: what is left stands on every answer,
// and one too many is a 429 in each face's own words, with the wait in the headers
// and in the message. Nobody else is affected.
func TestRequestLimit(t *testing.T) {
	t.Parallel()
	for _, face := range []struct{ path, body, message string }{
		{"/v1/chat/completions", chatHello, "error.message"},
		{"/v1/responses", `{"model":"it","input":"hello"}`, "error.message"},
		{"/v1/responses", `{"model":"it","input":"hello","stream":true}`, "error.message"},
		{"/api/client/v1/agents/responses", `{"model":"it","input":"hello"}`, "error"},
		{"/v1/agents/it/responses", `{"input":"hello"}`, "error.message"},
		{"/v1/agent/completions", `{"agent_config":{"agent_name":"it"},"task":"hello"}`, "detail"},
		{"/chat", `{"messages":[{"role":"user","content":"hello"}]}`, "detail"},
	} {
		r := start(t, authYAML(", limits: {requests: 3/h}")+"agents:\n  - {name: it, protocol: cycls, url: \"demo:cycls\"}\n")
		for i := range 3 {
			got := r.post(face.path, face.body, bearer(goodKey))
			if got.status != 200 {
				t.Fatalf("%s: %d %s", face.path, got.status, got.body)
			}
			h := got.header
			if h.Get("X-Ratelimit-Limit-Requests") != "3" || h.Get("X-Ratelimit-Remaining-Requests") != strconv.Itoa(2-i) || h.Get("X-Ratelimit-Limit-Tokens") != "" {
				t.Errorf("%s: %v", face.path, h)
			}
			if d, err := time.ParseDuration(h.Get("X-Ratelimit-Reset-Requests")); err != nil || d <= 0 || d > time.Hour {
				t.Errorf("%s: reset %q", face.path, h.Get("X-Ratelimit-Reset-Requests"))
			}
			if h.Get("Ratelimit-Policy") != `"requests";q=3;w=3600` || !strings.HasPrefix(h.Get("Ratelimit"), `"requests";r=`+strconv.Itoa(2-i)+";t=") {
				t.Errorf("%s: %q, %q", face.path, h.Get("Ratelimit-Policy"), h.Get("Ratelimit"))
			}
		}
		got := r.post(face.path, face.body, bearer(goodKey))
		wait, err := strconv.Atoi(got.header.Get("Retry-After"))
		ms, err2 := strconv.Atoi(got.header.Get("Retry-After-Ms"))
		if got.status != 429 || err != nil || err2 != nil || wait < 1000 || wait > 1200 || ms > wait*1000 || ms <= (wait-1)*1000 {
			t.Errorf("%s: %d %v", face.path, got.status, got.header)
		}
		if m := gjson.Get(got.body, face.message).String(); !strings.Contains(m, "3 requests per hour") || !strings.Contains(m, "Retry after ") {
			t.Errorf("%s: %s", face.path, got.body)
		}
		// Nobody waits for twenty minutes: SDKs that would try again early are told not to.
		if h := got.header; h.Get("X-Ratelimit-Remaining-Requests") != "0" || h.Get("X-Should-Retry") != "false" || h.Get("Dragoman-Agent") != "it" {
			t.Errorf("%s: %v", face.path, h)
		}
		if strings.HasPrefix(face.path, "/v1/agent/") && (got.header.Get("X-Ratelimit-Limit-Minute") == "" || got.header.Get("X-Ratelimit-Limit-Day") != "72") {
			t.Errorf("Swarms' own: %v", got.header)
		}
		if got := r.post(face.path, face.body, bearer(otherKey)); got.status != 200 || got.header.Get("X-Ratelimit-Limit-Requests") != "" {
			t.Errorf("%s, another key: %d %v", face.path, got.status, got.header)
		}
		var b strings.Builder
		r.meters.write(&b)
		if want := `dragoman_limited_total{scope="key",what="requests",agent="it"} 1` + "\n"; !strings.Contains(b.String(), want) {
			t.Errorf("no %s in\n%s", want, b.String())
		}
	}
}

// TestLimitsOfAgentAndProxy tells a limit of the agent (429) from the proxy's own
// ceiling (503), and charges nobody for what was refused.
func TestLimitsOfAgentAndProxy(t *testing.T) {
	t.Parallel()
	r := start(t, authYAML(", limits: {requests: 100/h}")+`
limits: {global: {requests: 4/h}}
agents:
  - {name: scarce, protocol: cycls, url: "demo:cycls", limits: {requests: 2/h}}
  - {name: free, protocol: cycls, url: "demo:cycls"}
`)
	f := func(agent, key string, status int, code, words, left string) {
		t.Helper()
		got := r.post("/agents/"+agent+"/v1/chat/completions", chatHello, bearer(key))
		if got.status != status || gjson.Get(got.body, "error.code").String() != code || !strings.Contains(got.body, words) {
			t.Errorf("%s %s: %d %s", agent, key, got.status, got.body)
		}
		if h := got.header.Get("X-Ratelimit-Remaining-Requests"); h != left {
			t.Errorf("%s %s: %q left, want %q", agent, key, h, left)
		}
		if status != 200 && got.header.Get("Retry-After") == "" {
			t.Errorf("%s %s: %v", agent, key, got.header)
		}
	}
	f("scarce", goodKey, 200, "", "", "1") // the agent's is the tighter one
	f("scarce", otherKey, 200, "", "", "0")
	f("scarce", goodKey, 429, "rate_limit_exceeded", "Agent \\\"scarce\\\" is at its limit of 2 requests per hour.", "0")
	f("free", goodKey, 200, "", "", "98") // what was refused was not counted
	f("free", otherKey, 200, "", "", "")
	f("free", otherKey, 503, "overloaded", "The proxy is at its limit of 4 requests per hour.", "")
	f("free", goodKey, 503, "overloaded", "", "98")
}

// TestTokenLimit charges what the backend reported, streams too, with a chunk of
// usage that a client which did not ask for it does not get.
func TestTokenLimit(t *testing.T) {
	t.Parallel()
	back := stage(t, func(v *visit) {
		if gjson.GetBytes(v.body, "stream").Bool() {
			if !gjson.GetBytes(v.body, "stream_options.include_usage").Bool() {
				t.Errorf("usage was not asked for: %s", v.body)
			}
			v.open()
			v.chunk("data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"hi\"},\"finish_reason\":\"stop\"}]}\n\n")
			v.chunk("data: {\"choices\":[],\"usage\":{\"prompt_tokens\":300,\"completion_tokens\":100,\"total_tokens\":400}}\n\n")
			v.chunk("data: [DONE]\n\n")
			v.end()
			return
		}
		v.json(200, `{"choices":[{"index":0,"message":{"role":"assistant","content":"hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":300,"completion_tokens":100,"total_tokens":400}}`)
	})
	r := start(t, authYAML(", limits: {tokens: 5000/h}")+agentYAML("chat", back.addr))
	left := func(got reply) int {
		t.Helper()
		if got.status != 200 {
			t.Fatalf("%d %s", got.status, got.body)
		}
		n, err := strconv.Atoi(got.header.Get("X-Ratelimit-Remaining-Tokens"))
		if err != nil {
			t.Fatalf("%v", got.header)
		}
		return n
	}
	// The estimate is reserved: the text, and 1,000 for the answer.
	first := left(r.post("/v1/chat/completions", chatHello, bearer(goodKey)))
	if first > 4000 || first < 3900 {
		t.Errorf("%d left at first", first)
	}
	r.waitLog(1)
	got := r.post("/v1/chat/completions", strings.Replace(chatHello, "{", `{"stream":true,`, 1), bearer(goodKey))
	if second := left(got); second > first-400+2 || second < first-400-20 {
		t.Errorf("%d left after an answer of 400, %d before", second, first)
	}
	if strings.Contains(got.body, "usage\":{") {
		t.Errorf("usage that nobody asked for: %s", got.body)
	}
	r.waitLog(2)
	third := left(r.post("/v1/chat/completions", `{"model":"it","max_tokens":2000,"messages":[{"role":"user","content":"hello"}]}`, bearer(goodKey)))
	if third > 5000-800-2000 || third < 5000-800-2000-60 {
		t.Errorf("%d left with 2000 for the answer", third)
	}
	r.waitLog(3)
	if got := r.post("/v1/chat/completions", `{"model":"it","max_tokens":3900,"messages":[{"role":"user","content":"hello"}]}`, bearer(goodKey)); got.status != 429 ||
		!strings.Contains(got.body, "5000 tokens per hour") || got.header.Get("X-Ratelimit-Limit-Tokens") != "5000" {
		t.Errorf("%d %v %s", got.status, got.header, got.body)
	}
}

// TestWhateverTheBackendReportsIsCharged settles reports that are not whole, and
// those that no sum of 64 bits holds.
func TestWhateverTheBackendReportsIsCharged(t *testing.T) {
	t.Parallel()
	const most = 1_000_000
	input := len(chatHello) / 4
	for usage, want := range map[string]int{
		`{"prompt_tokens":300,"completion_tokens":100,"total_tokens":400}`: 400,
		`{"prompt_tokens":300,"completion_tokens":100,"total_tokens":900}`: 900, // with what was only thought
		`{"prompt_tokens":300,"completion_tokens":100}`:                    400,
		`{"total_tokens":700}`:     700,
		`{"prompt_tokens":300}`:    301, // and "hi"
		`{"completion_tokens":90}`: 90 + input,
		`{"prompt_tokens":-3,"completion_tokens":-1,"total_tokens":-4}`:                                                    input + 1,
		`{"prompt_tokens":9000000000000000000,"completion_tokens":9000000000000000000,"total_tokens":9000000000000000000}`: most,
		`{"prompt_tokens":9000000000000000000,"completion_tokens":9000000000000000000}`:                                    most,
	} {
		back := stage(t, func(v *visit) {
			v.json(200, `{"choices":[{"index":0,"message":{"role":"assistant","content":"hi"},"finish_reason":"stop"}],"usage":`+usage+`}`)
		})
		r := start(t, authYAML(", limits: {tokens: "+strconv.Itoa(most)+"/d}")+agentYAML("chat", back.addr))
		for _, path := range []string{"/v1/chat/completions", "/chat"} { // through, and translated
			r.post(path, chatHello, bearer(goodKey))
		}
		r.waitLog(2)
		left, _ := strconv.Atoi(r.ask("GET", "/v1/rate/limits", "", bearer(goodKey)).header.Get("X-Ratelimit-Remaining-Tokens"))
		if got := most - left; got < min(2*want-20, most) || got > 2*want+20 {
			t.Errorf("%s: %d, want %d twice", usage, got, want)
		}
	}
}

// TestTheClientsMaximumIsReserved reserves what every face's client asks for at
// most, whenever that face decodes it.
func TestTheClientsMaximumIsReserved(t *testing.T) {
	t.Parallel()
	for _, f := range []struct{ path, body string }{
		{"/v1/chat/completions", `{"model":"it","max_tokens":7000,"messages":[{"role":"user","content":"hello"}]}`},
		{"/v1/chat/completions", `{"model":"it","max_completion_tokens":7000,"messages":[{"role":"user","content":"hello"}]}`},
		{"/v1/responses", `{"model":"it","max_output_tokens":7000,"input":"hello"}`},
		{"/api/client/v1/agents/responses", `{"model":"it","max_output_tokens":7000,"input":"hello"}`},
		{"/v1/agent/completions", `{"agent_config":{"agent_name":"it","max_tokens":7000},"task":"hello"}`},
		{"/v1/agent/completions", `{"agent_config":{"agent_name":"it","llm_args":{"max_tokens":7000}},"task":"hello"}`},
	} {
		for _, protocol := range translate.Names() {
			r := start(t, authYAML(", limits: {tokens: 10000/h}")+"agents:\n  - {name: it, protocol: "+protocol+", url: \"demo:"+protocol+"\", model: m}\n")
			got := r.post(f.path, f.body, bearer(goodKey))
			if n, err := strconv.Atoi(got.header.Get("X-Ratelimit-Remaining-Tokens")); err != nil || n > 3000 || n < 2900 {
				t.Errorf("%s to %s: %d, %v left of 10000 with 7000 for the answer: %s", f.path, protocol, got.status, got.header.Get("X-Ratelimit-Remaining-Tokens"), got.body)
			}
		}
	}
}

// TestHugeMaximumIsNoWayAround reserves the most there is for a client that asks for
// more than any sum holds.
func TestHugeMaximumIsNoWayAround(t *testing.T) {
	t.Parallel()
	r := start(t, authYAML(", limits: {tokens: 5000/h}")+"agents:\n  - {name: it, protocol: cycls, url: \"demo:cycls\"}\n")
	got := r.post("/v1/chat/completions", `{"model":"it","max_tokens":9223372036854775807,"messages":[{"role":"user","content":"hello"}]}`, bearer(goodKey))
	if got.status != 200 || got.header.Get("X-Ratelimit-Remaining-Tokens") != "0" {
		t.Errorf("%d %v", got.status, got.header)
	}
}

// TestDefaultLimits are those of each key without its own, for itself; a key's own
// stand in their place.
func TestDefaultLimits(t *testing.T) {
	t.Parallel()
	r := start(t, authYAML(", limits: {concurrent: 5}")+"limits: {default: {requests: 2/h}}\nagents:\n  - {name: it, protocol: cycls, url: \"demo:cycls\"}\n")
	for i, want := range []int{200, 200, 429} {
		if got := r.post("/v1/chat/completions", chatHello, bearer(otherKey)); got.status != want {
			t.Errorf("%d: %d %s", i, got.status, got.body)
		}
		if got := r.post("/v1/chat/completions", chatHello, bearer(goodKey)); got.status != 200 || got.header.Get("X-Ratelimit-Limit-Requests") != "" {
			t.Errorf("%d, limits of its own: %d %v", i, got.status, got.header)
		}
	}
}

// TestRedisIsAway does what limits.on_error says from the first request on: count
// here and divide, let everybody pass, or admit nobody, which is no 429.
func TestRedisIsAway(t *testing.T) {
	t.Parallel()
	for mode, want := range map[string][]int{"local": {200, 200, 429}, "open": {200, 200, 200, 200, 200}, "closed": {503, 503, 503, 503, 503}} {
		r := start(t, authYAML(", limits: {requests: 4/h}")+"limits: {store: redis, replicas: 2, on_error: "+mode+"}\nredis: {url: {value: \"redis://"+deadAddr(t)+
			"\"}, timeout: 10s}\nagents:\n  - {name: it, protocol: cycls, url: \"demo:cycls\"}\n")
		for i, status := range want {
			got := r.post("/v1/chat/completions", chatHello, bearer(goodKey))
			if got.status != status || (status != 200) != (got.header.Get("Retry-After") != "") ||
				status == 503 && gjson.Get(got.body, "error.code").String() != "limiter_unavailable" {
				t.Errorf("%s %d: %d %v %s", mode, i, got.status, got.header, got.body)
			}
		}
		r.waitLog(len(want))
		waitFor(t, mode+": one line of the change", func() bool {
			return r.logs.FilterMessage("redis cannot be had; limits are not shared").Len() == 1
		})
	}
}

// TestEveryEndingIsSettled charges a request that an agent may have worked on for its
// input at least, and one that no agent has read, or that one refused, not at all.
func TestEveryEndingIsSettled(t *testing.T) {
	t.Parallel()
	const input = 2000
	body := `{"model":"it","messages":[{"role":"user","content":"` + strings.Repeat("word and ", input*4/9) + `"}]}`
	said := strings.Repeat("word ", 400) // 500 tokens
	answer := func(status int) func(*visit) {
		return func(v *visit) {
			v.json(status, `{"choices":[{"index":0,"message":{"role":"assistant","content":"`+said+`"},"finish_reason":"stop"}]}`)
		}
	}
	left := make(chan struct{})
	for name, f := range map[string]struct {
		serve  func(*visit)
		stream bool
		status int // 0: the client leaves before there is one
		extra  string
		cost   int
	}{
		"answered without usage": {answer(200), false, 200, "", input + 500},
		"refused":                {answer(422), false, 400, "", 0},
		"failed":                 {answer(500), false, 502, "", 0},
		"closed":                 {func(v *visit) { v.hangs = true }, false, 502, "", input},
		"silent":                 {func(v *visit) { v.gone() }, false, 504, "", input},
		"silent in a stream":     {func(v *visit) { v.gone() }, true, 504, "", input},
		"left by the client":     {func(v *visit) { close(left); v.gone() }, false, 0, "", input},
		"strict":                 {answer(200), false, 400, "Dragoman-Strict: true\r\n", 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			back := stage(t, f.serve)
			patience := "20s"
			if f.status == 504 {
				patience = "50ms"
			}
			r := start(t, authYAML(", limits: {tokens: 100000/d}")+"agents:\n  - {name: it, protocol: cycls, path: /chat, url: \"http://"+back.addr+
				"\"}\n  - {name: chat, protocol: chat, model: m, url: \"http://"+back.addr+"\", timeouts: {first_byte: "+patience+"}}\n")
			ask, path := body, "/agents/chat/v1/chat/completions"
			switch {
			case f.stream:
				ask = strings.Replace(body, "{", `{"stream":true,`, 1)
			case f.extra != "":
				path, ask = "/agents/it/v1/chat/completions", strings.Replace(body, "{", `{"seed":1,`, 1)
			}
			c := r.dial()
			c.send("POST", path, ask, bearer(goodKey)+f.extra)
			if f.status == 0 {
				<-left
				_ = c.Close()
			} else if got := c.reply(); got.status != f.status {
				t.Errorf("%d %s", got.status, got.body)
			}
			r.waitLog(1)
			n, _ := strconv.Atoi(r.ask("GET", "/v1/rate/limits", "", bearer(goodKey)).header.Get("X-Ratelimit-Remaining-Tokens"))
			if got := 100000 - n; got < f.cost-50 || got > f.cost+50 {
				t.Errorf("charged %d, want about %d", got, f.cost)
			}
		})
	}
}

// TestAbortedIsCharged charges an answer that broke off for the estimate of its
// input and for what the agent had said.
func TestAbortedIsCharged(t *testing.T) {
	t.Parallel()
	said := strings.Repeat("word ", 400) // 2,000 bytes, 500 tokens
	back := stage(t, func(v *visit) {
		v.open()
		v.chunk("data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"" + said + "\"}}]}\n\n")
		v.hangs = true // and no more
	})
	r := start(t, authYAML(", limits: {tokens: 5000/h}")+agentYAML("chat", back.addr))
	body := strings.Replace(chatHello, "{", `{"stream":true,`, 1)
	got := r.post("/v1/chat/completions", body, bearer(goodKey))
	if got.status != 200 {
		t.Fatalf("%d %s", got.status, got.body)
	}
	r.waitLog(1)
	got = r.post("/v1/chat/completions", body, bearer(goodKey))
	input := (len(body) + 3) / 4
	want := 5000 - (input + 500) - (input + 1000)
	if n, _ := strconv.Atoi(got.header.Get("X-Ratelimit-Remaining-Tokens")); n < want-5 || n > want+5 {
		t.Errorf("%d left, want about %d", n, want)
	}
}

// TestConcurrency lets as many run as may, keeps the next in line in their order,
// refuses those who find no place, and gives a place on when its owner leaves.
func TestConcurrency(t *testing.T) {
	t.Parallel()
	gate := make(chan struct{})
	back := stage(t, func(v *visit) {
		<-gate
		v.json(200, `{"choices":[{"message":{"content":"hi"},"finish_reason":"stop"}]}`)
	})
	r := start(t, authYAML(", limits: {concurrent: 1}")+"limits: {queue: {length: 2, wait: 50s}}\n"+agentYAML("chat", back.addr))
	open := func(n int) *client {
		c := r.dial()
		c.send("POST", "/v1/chat/completions", chatHello, bearer(goodKey)+"X-Request-Id: "+strconv.Itoa(n)+"\r\n")
		return c
	}
	inLine := func(n int) {
		t.Helper()
		waitFor(t, fmt.Sprintf("%d in line", n), func() bool { return r.waiting() == n })
	}
	first := open(1)
	if v := <-back.seen; v.req.Header.Get("X-Request-Id") != "1" {
		t.Fatal("not the first")
	}
	second := open(2)
	inLine(1)
	third := open(3)
	inLine(2)
	got := open(4).reply()
	if got.status != 429 || !strings.Contains(got.body, "1 requests at the same time") || got.header.Get("Retry-After") != "1" || got.header.Get("X-Should-Retry") != "" {
		t.Errorf("no place: %d %v %s", got.status, got.header, got.body)
	}
	_ = second.Close() // leaves the line
	inLine(1)
	gate <- struct{}{}
	if got := first.reply(); got.status != 200 {
		t.Errorf("first: %d", got.status)
	}
	if v := <-back.seen; v.req.Header.Get("X-Request-Id") != "3" {
		t.Errorf("%s ran, not the third", v.req.Header.Get("X-Request-Id"))
	}
	gate <- struct{}{}
	if got := third.reply(); got.status != 200 {
		t.Errorf("third: %d", got.status)
	}
	inLine(0)
	last := open(5)
	gate <- struct{}{}
	if got := last.reply(); got.status != 200 {
		t.Errorf("fifth: %d", got.status)
	}
}

// TestBatchCounts counts each item of a batch, fails those over the limit alone,
// and is a 429 itself when all of them are.
func TestBatchCounts(t *testing.T) {
	t.Parallel()
	r := start(t, authYAML(", limits: {requests: 2/h}")+"agents:\n  - {name: it, protocol: cycls, url: \"demo:cycls\"}\n")
	item := `{"agent_config":{"agent_name":"it"},"task":"hello"}`
	got := r.post("/v1/agent/batch/completions", "["+item+","+item+","+item+"]", bearer(goodKey))
	if got.status != 200 || gjson.Get(got.body, "results.0.success").Raw == "false" || gjson.Get(got.body, "results.1.success").Raw == "false" {
		t.Fatalf("%d %s", got.status, got.body)
	}
	if s := gjson.Get(got.body, "results.2").Raw; gjson.Get(s, "status_code").Int() != 429 || !strings.Contains(s, "2 requests per hour") {
		t.Errorf("the third: %s", s)
	}
	if got.header.Get("X-Ratelimit-Remaining-Requests") != "0" {
		t.Errorf("%v", got.header)
	}
	got = r.post("/v1/agent/batch/completions", "["+item+","+item+"]", bearer(goodKey))
	if got.status != 429 || got.header.Get("Retry-After") == "" || !strings.Contains(gjson.Get(got.body, "detail").String(), "Retry after") {
		t.Errorf("all of them: %d %v %s", got.status, got.header, got.body)
	}
}

// TestBatchWaitsForPlaces runs the items of a batch one after the other where one may
// run, charges each for what it cost, and gives all places back.
func TestBatchWaitsForPlaces(t *testing.T) {
	t.Parallel()
	var running, most atomic.Int64
	back := stage(t, func(v *visit) {
		if n := running.Add(1); n > most.Load() {
			most.Store(n)
		}
		time.Sleep(10 * time.Millisecond) //nolint:forbidigo // time for the others to come, if they may
		running.Add(-1)
		v.json(200, `{"choices":[{"message":{"content":"hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":300,"completion_tokens":100,"total_tokens":400}}`)
	})
	r := start(t, authYAML(", limits: {concurrent: 1, tokens: 20000/d}")+"limits: {queue: {length: 9, wait: 50s}}\n"+agentYAML("chat", back.addr))
	item := `{"agent_config":{"agent_name":"it"},"task":"hello"}`
	for range 2 {
		got := r.post("/v1/agent/batch/completions", "["+item+","+item+","+item+"]", bearer(goodKey))
		if n := strings.Count(got.body, `"success":true`); got.status != 200 || n < 3 {
			t.Errorf("%d, %d done: %s", got.status, n, got.body)
		}
	}
	r.waitLog(2)
	if n := most.Load(); n != 1 {
		t.Errorf("%d ran at the same time", n)
	}
	left, _ := strconv.Atoi(r.ask("GET", "/v1/rate/limits", "", bearer(goodKey)).header.Get("X-Ratelimit-Remaining-Tokens"))
	if got := 20_000 - left; got < 2300 || got > 2400 {
		t.Errorf("charged %d, want 2400", got)
	}
}

// TestOwnLimits tells a caller of Swarms' listing the truth about its own limits.
func TestOwnLimits(t *testing.T) {
	t.Parallel()
	r := start(t, authYAML(", limits: {requests: 60/m, tokens: 9000/m}")+"agents:\n  - {name: it, protocol: cycls, url: \"demo:cycls\"}\n")
	f := func(key, query string, want int64) {
		t.Helper()
		got := r.ask("GET", "/v1/rate/limits", "", bearer(key))
		if v := gjson.Get(got.body, query); got.status != 200 || v.Int() != want {
			t.Errorf("%s is %s in %s, want %d", query, v.Raw, got.body, want)
		}
	}
	for range 2 { // asking is free
		f(goodKey, "rate_limits.minute.remaining", 60)
	}
	r.post("/v1/chat/completions", chatHello, bearer(goodKey))
	f(goodKey, "rate_limits.minute.count", 1)
	f(goodKey, "rate_limits.minute.limit", 60)
	f(goodKey, "rate_limits.hour.limit", 3600)
	f(goodKey, "rate_limits.day.limit", 86400)
	f(goodKey, "limits.maximum_requests_per_minute", 60)
	f(goodKey, "limits.tokens_per_agent", 9000)
	f(otherKey, "rate_limits.minute.count", 0)
}

// TestRefusedBeforeTheAgentCostsNoTokens gives back what was reserved for a
// request that no agent has read.
func TestRefusedBeforeTheAgentCostsNoTokens(t *testing.T) {
	t.Parallel()
	r := start(t, authYAML(", limits: {tokens: 3000/h}")+"agents:\n  - {name: dead, protocol: chat, url: \"http://"+deadAddr(t)+"\", model: m}\n  - {name: it, protocol: cycls, url: \"demo:cycls\"}\n")
	for n := range 5 {
		if got := r.post("/agents/dead/v1/chat/completions", chatHello, bearer(goodKey)); got.status != 502 {
			t.Fatalf("%d %s", got.status, got.body)
		}
		r.waitLog(2*n + 1)
		if got := r.post("/agents/it/v1/chat/completions", strings.Replace(chatHello, "{", `{"seed":1,`, 1), bearer(goodKey)+"Dragoman-Strict: true\r\n"); got.status != 400 {
			t.Fatalf("%d %s", got.status, got.body)
		}
		r.waitLog(2*n + 2)
	}
}

// TestCanaries sends distinctive keys and prompts through every way to fail, and
// looks for them in what must not hold them: logs, metrics, error bodies, the
// reasons on the admin listener.
func TestCanaries(t *testing.T) {
	t.Parallel()
	const prompt = "canary-prompt-7f3a"
	echo := stage(t, func(v *visit) { // a backend that repeats all that it is told
		what := v.req.Header.Get("Authorization") + string(v.body)
		v.json(map[string]int{"/x500": 500, "/x401": 401, "/x400": 422}[v.req.URL.Path], `{"error":{"message":`+strconv.Quote(what)+`}}`)
	})
	garbage := stage(t, func(v *visit) {
		fmt.Fprintf(v.conn, "%s %s\r\n\r\n", v.req.Header.Get("Authorization"), v.body)
		v.hangs = true
	})
	broken := stage(t, func(v *visit) {
		v.open()
		v.chunk("data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"so \"}}]}\n\ndata: {not json " + prompt + " " + v.req.Header.Get("Authorization") + "\n\n")
		v.hangs = true
	})
	const backendKey = "canary-backend-key-0123456789"
	agent := func(name, addr, more string) string {
		return "  - {name: " + name + ", protocol: chat, url: \"http://" + addr + "\", model: m, credential: {bearer: {value: " + backendKey + "}}" + more + "}\n"
	}
	r := start(t, authYAML(", limits: {requests: 25/h}")+"agents:\n"+
		agent("x500", echo.addr, ", path: /x500")+agent("x401", echo.addr, ", path: /x401")+agent("x400", echo.addr, ", path: /x400")+
		agent("garbage", garbage.addr, "")+agent("broken", broken.addr, "")+agent("dead", deadAddr(t), ""))
	r.log.Info("the canary sings") // so that an empty log is noticed
	ask := `{"model":"it","messages":[{"role":"user","content":"` + prompt + `"}]}`
	var seen strings.Builder
	note := func(got reply) { fmt.Fprintln(&seen, got.status, got.header, got.body) }
	for _, key := range []string{bearer(goodKey), bearer(otherKey), bearer(expiredKey), bearer(unknownKey), "x-api-key: " + goodKey + "\r\n" + bearer(otherKey),
		"Authorization: " + goodKey + " " + goodKey + "\r\n", "Authorization: Basic " + goodKey + "\r\n"} {
		for _, path := range []string{"/agents/x500/", "/agents/x401/", "/agents/garbage/", "/agents/broken/", "/agents/dead/", "/agents/nobody/", "/"} {
			note(r.post(path+"v1/chat/completions", ask, key))
			note(r.post(path+"v1/chat/completions", strings.Replace(ask, "{", `{"stream":true,`, 1), key))
		}
		note(r.post("/v1/chat/completions", `{"model":"x500","messages":[{"role":"user","content":"`+prompt+`"`, key)) // cut off
		note(r.post("/v1/chat/completions", `"`+prompt+`"`, key))
		note(r.post("/v1/chat/completions?api_key="+goodKey, `{"messages":"`+prompt+`"}`, key))
		note(r.post("/v1/chat/completions", ask, key+"Content-Encoding: gzip\r\n"))
		note(r.ask("DELETE", "/v1/responses?key="+goodKey, "", key))
	}
	// What fasthttp itself refuses: it logs such requests by default.
	for _, raw := range []string{"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization Bearer " + goodKey + "\r\n\r\n",
		"GET http://user:" + goodKey + "@x/v1/models HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
		"POST /v1 HTTP/1.1\r\nHost: x\r\n" + bearer(goodKey) + "Content-Length: nonsense\r\n\r\n" + prompt, "\x16\x03\x01" + goodKey + "\r\n\r\n",
		"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n" + bearer(goodKey) + "X-Long: " + strings.Repeat("a", 40<<10) + "\r\n\r\n",
		"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n" + bearer(goodKey) + "Transfer-Encoding: chunked\r\n\r\nzz" + prompt + "\r\n"} {
		c := r.dial()
		_, _ = io.WriteString(c, raw)
		b, _ := io.ReadAll(c)
		seen.Write(b)
	}
	for range 30 {
		note(r.post("/agents/dead/v1/chat/completions", ask, bearer(goodKey)))
	}
	r.meters.write(&seen)
	_, reasons := r.ready()
	fmt.Fprintln(&seen, reasons)
	for _, l := range r.logs.All() {
		fmt.Fprintln(&seen, l.Entry, l.ContextMap())
	}
	for line := range strings.SplitSeq(seen.String(), "\n") {
		// What a backend says of a request (422) is shown to whoever sent it.
		if strings.Contains(line, "canary-") && !strings.Contains(line, "the canary sings") {
			t.Errorf("seen: %.600s", line)
		}
	}
	if !strings.Contains(seen.String(), "the canary sings") || !strings.Contains(seen.String(), "429") || !strings.Contains(seen.String(), "401") {
		t.Error("the run did not see what it looks at")
	}
}
