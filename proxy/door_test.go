package proxy

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/tidwall/gjson"
)

// TestRouting finds agents by prefix, field, path, Host and default, and tells
// what exists where there is none.
func TestRouting(t *testing.T) {
	t.Parallel()
	r := start(t, `
default_agent: cycls
agents:
  - {name: cycls, protocol: cycls, url: "demo:cycls"}
  - {name: chat, aliases: [gpt-4o, "claude-*"], protocol: chat, url: "demo:chat", model: m}
`)
	chat := func(model string) string {
		return `{"model":"` + model + `","messages":[{"role":"user","content":"hello"}]}`
	}
	f := func(name, path, body, headers string, status int, agent string, words ...string) {
		t.Helper()
		got := r.post(path, body, headers)
		if got.status != status || got.header.Get("Dragoman-Agent") != agent {
			t.Errorf("%s: status %d, agent %q: %s", name, got.status, got.header.Get("Dragoman-Agent"), got.body)
		}
		for _, w := range words {
			if !strings.Contains(got.body, w) {
				t.Errorf("%s: %q is missing in %s", name, w, got.body)
			}
		}
		if got.header.Get("X-Request-Id") == "" {
			t.Errorf("%s: no request id", name)
		}
	}
	f("by name", "/v1/chat/completions", chat("chat"), "", 200, "chat")
	f("by alias", "/chat/completions", chat("gpt-4o"), "", 200, "chat")
	f("by pattern", "/v1/chat/completions", chat("claude-5"), "", 200, "chat")
	f("by prefix, whatever the model", "/agents/cycls/v1/chat/completions", chat("chat"), "", 200, "cycls")
	f("by prefix and alias", "/agents/gpt-4o/v1/responses", `{"input":"hello"}`, "", 200, "chat")
	f("by path", "/v1/agents/chat/responses", `{"input":"hello"}`, "", 200, "chat")
	f("by agent_name", "/v1/agent/completions", `{"agent_config":{"agent_name":"chat"},"task":"hello"}`, "", 200, "chat")
	f("default", "/v1/chat/completions", `{"messages":[{"role":"user","content":"hello"}]}`, "", 200, "cycls")
	f("never falls through", "/v1/chat/completions", chat("nobody"), "", 404, "", `"code":"model_not_found"`, "cycls, chat", `"param":"model"`)
	f("unknown prefix", "/agents/nobody/v1/chat/completions", chat("chat"), "", 404, "", "nobody")
	f("unknown route", "/v1/embeddings", `{}`, "", 404, "", "POST /v1/chat/completions")
	f("unknown route, Cognipeer's words", "/api/client/v1/nothing", `{}`, "", 404, "", `{"error":"`)
	f("unknown route, Swarms' words", "/v1/agent/nothing", `{}`, "", 404, "", `{"detail":"`)
	f("no traversal", "/v1/../v1/chat/completions", chat("chat"), "", 404, "")
	f("no double slash", "//v1/chat/completions", chat("chat"), "", 404, "")

	c := r.dial()
	_, _ = io.WriteString(c, "POST /chat HTTP/1.1\r\nHost: chat.example.com:80\r\nAccept: application/json\r\nContent-Length: 48\r\n\r\n"+`{"messages":[{"role":"user","content":"hello"}]}`)
	if got := c.reply(); got.status != 200 || got.header.Get("Dragoman-Agent") != "chat" {
		t.Errorf("by host: %d %v", got.status, got.header)
	}
	c = r.dial()
	c.send("DELETE", "/v1/chat/completions", "", "")
	if got := c.reply(); got.status != 405 || got.header.Get("Allow") != "POST" {
		t.Errorf("wrong method: %d %v", got.status, got.header)
	}
}

// TestListings asks for the agents in each face's words.
func TestListings(t *testing.T) {
	t.Parallel()
	r := start(t, `
default_agent: one
agents:
  - {name: one, description: The first, protocol: cycls, url: "demo:cycls"}
  - {name: two, aliases: [deux], protocol: chat, url: "demo:chat", model: m}
`)
	f := func(path, query, want string) {
		t.Helper()
		got := r.get(path)
		if v := gjson.Get(got.body, query); got.status != 200 || v.Raw != want {
			t.Errorf("GET %s: %d: %s is %s, want %s (%s)", path, got.status, query, v.Raw, want, got.body)
		}
	}
	f("/v1/models", "data.#.id", `["one","two"]`)
	f("/v1/models/two", "id", `"two"`)
	f("/v1/models/deux", "id", `"deux"`)
	f("/api/client/v1/agents", "agents.#.key", `["one","two"]`)
	f("/api/client/v1/agents/one", "agent.description", `"The first"`)
	f("/v1/models/available", "models", `["one","two"]`)
	f("/v1/models/available", "[success,count]", `[true,2]`)
	f("/agents/two/v1/models/available", "[success,count,models]", `[true,1,["two"]]`)
	f("/health", "@this", `{"status":"ok"}`)
	f("/agents/one/health", "@this", `{"status":"ok"}`)
	f("/config", "name", `"one"`)
	f("/agents/two/config", "name", `"two"`)
	for _, path := range []string{"/v1/models/nobody", "/api/client/v1/agents/nobody", "/agents/nobody/config"} {
		if got := r.get(path); got.status != 404 {
			t.Errorf("GET %s: %d", path, got.status)
		}
	}
	for _, path := range []string{"/livez", "/readyz"} {
		if got := r.get(path); got.status != 200 || got.body != "ok\n" {
			t.Errorf("GET %s: %d %q", path, got.status, got.body)
		}
	}
}

// TestReadyDependsOnLocalAgents counts agents beside the proxy, and no others.
func TestReadyDependsOnLocalAgents(t *testing.T) {
	t.Parallel()
	back := stage(t, func(*visit) {})
	if got := start(t, agentYAML("chat", back.addr)).get("/readyz"); got.status != 200 {
		t.Errorf("with a local agent: %d", got.status)
	}
	r := start(t, agentYAML("chat", deadAddr(t)))
	if got := r.get("/readyz"); got.status != 503 {
		t.Errorf("with a dead local agent: %d", got.status)
	}
	if got := r.get("/livez"); got.status != 200 {
		t.Errorf("alive: %d", got.status)
	}
	if got := start(t, agentYAML("chat", "agent.invalid:80")).get("/readyz"); got.status != 200 {
		t.Errorf("with a shared agent: %d", got.status)
	}
}

// TestBadRequests sends what cannot be served, to every face.
func TestBadRequests(t *testing.T) {
	t.Parallel()
	back := stage(t, func(v *visit) {
		v.t.Error("a bad request reached the backend")
		v.json(200, "{}")
	})
	yaml := strings.Replace(agentYAML("chat", back.addr), "agents:", "server: {max_body: 64KiB, max_header: 8KiB}\nagents:", 1)
	r := start(t, yaml)
	bomb := strings.Repeat("[", 60000)
	for _, f := range clientFaces {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			check := func(name string, got reply, status int) {
				t.Helper()
				if got.status != status || f.message(got.body) == "" {
					t.Errorf("%s: status %d, want %d: %s", name, got.status, status, got.body)
				}
			}
			for name, body := range map[string]string{
				"no body": "", "no JSON": "hello", "cut": `{"model":"it"`, "two values": `{} {}`, "bomb": bomb,
				"objects": strings.Repeat(`{"a":`, 10000), "a string": `"hello"`, "bad UTF-8": "{\"model\":\"\xff\"}",
				"twice": `{"model":"it","model":"other","messages":[],"input":"x","task":"x","agent_config":{}}`,
				"empty": `{}`, "NaN": `{"temperature":NaN}`,
			} {
				check(name, r.post(f.path, body, ""), 400)
			}
			check("compressed", r.post(f.path, `{}`, "Content-Encoding: gzip\r\n"), 415)
			c := r.dial()
			_, _ = io.WriteString(c, "POST "+f.path+" HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n{")
			check("announced too large", c.reply(), 413)
			c = r.dial()
			_, _ = io.WriteString(c, "POST "+f.path+" HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
			go func(c io.Writer) {
				for range 20 {
					if _, err := io.WriteString(c, "2000\r\n"+strings.Repeat(" ", 0x2000)+"\r\n"); err != nil {
						return
					}
				}
			}(c)
			check("chunked too large", c.reply(), 413)
			c = r.dial()
			_, _ = io.WriteString(c, "POST "+f.path+" HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nX-Api-Key: k\r\n\r\n")
			check("trailers", c.reply(), 400)
		})
	}
}

// TestRequestHeaders pins what a backend gets of the client's headers.
func TestRequestHeaders(t *testing.T) {
	t.Parallel()
	back := stage(t, func(v *visit) { v.json(200, chatScript().body) })
	r := start(t, agentYAML("chat", back.addr+"/base",
		"credential: {header: OpenAI-Key, value: {value: backend-secret}}", "headers: {X-Team: support, X-B3-Sampled: \"1\"}", "forward_headers: [X-Custom]"))
	got := r.post("/v1/chat/completions", chatHello, strings.Join([]string{
		"Authorization: Bearer client-secret", "X-Api-Key: client-secret", "Cookie: a=b", "traceparent: 00-1-2-01", "X-Custom: yes", "X-Team: mine",
		"X-Forwarded-For: 1.2.3.4", "X-B3-TraceId: 7", "x-b3-sampled: 0", "openai-key: client-secret", "OpenAI-Beta: x", "X-Other: no", "Accept-Encoding: gzip", "User-Agent: sdk/1", "X-Request-Id: client-id-1", "",
	}, "\r\n"))
	if got.status != 200 || got.header.Get("X-Request-Id") != "client-id-1" {
		t.Fatalf("%d %v", got.status, got.header)
	}
	v := <-back.seen
	if v.req.URL.Path != "/base/v1/chat/completions" {
		t.Errorf("path %s", v.req.URL.Path)
	}
	want := http.Header{
		"Openai-Key": {"backend-secret"}, "X-B3-Sampled": {"1"}, "X-Team": {"support"}, "Traceparent": {"00-1-2-01"}, "X-Custom": {"yes"}, "X-B3-Traceid": {"7"},
		"Openai-Beta": {"x"}, "Accept-Encoding": {"identity"}, "User-Agent": {"sdk/1"}, "X-Request-Id": {"client-id-1"},
		"Content-Type": {"application/json"}, "Accept": {"application/json"}, "Content-Length": {itoa(len(v.body))},
	}
	for k, w := range want {
		if g := v.req.Header.Values(k); strings.Join(g, "|") != strings.Join(w, "|") {
			t.Errorf("%s: %q, want %q", k, g, w)
		}
	}
	for k := range v.req.Header {
		if want[k] == nil {
			t.Errorf("%s went on", k)
		}
	}
}

// TestStrictMode refuses what would be dropped, when the request asks for it.
func TestStrictMode(t *testing.T) {
	t.Parallel()
	back := stage(t, func(v *visit) {
		v.open()
		v.chunk(backendScripts[5].first + backendScripts[5].rest)
		v.end()
	})
	r := start(t, agentYAML("cycls", back.addr))
	body := `{"model":"it","messages":[{"role":"user","content":"hello"}],"seed":1,"stop":["x"]}`
	got := r.post("/v1/chat/completions", body, "")
	if d := got.header.Get("Dragoman-Dropped"); got.status != 200 || !strings.Contains(d, "seed") || !strings.Contains(d, "stop") {
		t.Errorf("%d, dropped %q", got.status, d)
	}
	got = r.post("/v1/chat/completions", body, "Dragoman-Strict: true\r\n")
	if m := openAIMessage(got.body); got.status != 400 || !strings.Contains(m, "seed") || !strings.Contains(m, "stop") {
		t.Errorf("strict: %d %s", got.status, got.body)
	}
}

// TestCyclsPathIsProbed finds the path that a Cycls backend serves, and
// remembers it.
func TestCyclsPathIsProbed(t *testing.T) {
	t.Parallel()
	back := stage(t, func(v *visit) {
		if v.req.URL.Path != "/" {
			v.json(405, `{"detail":"Method Not Allowed"}`)
			return
		}
		v.open()
		v.chunk(backendScripts[5].first + backendScripts[5].rest)
		v.end()
	})
	r := start(t, agentYAML("cycls", back.addr))
	for range 2 {
		if got := r.post("/v1/chat/completions", chatHello, ""); got.status != 200 || chatText(got.body, false) != "one two" {
			t.Fatalf("%d %s", got.status, got.body)
		}
	}
	n := len(back.seen)
	for range n - 1 {
		<-back.seen
	}
	if v := <-back.seen; n < 3 || v.req.URL.Path != "/" {
		t.Errorf("%d requests, the last to %s", n, v.req.URL.Path)
	}
	before := n
	r.post("/v1/chat/completions", chatHello, "")
	if n := len(back.seen); n != 1 {
		t.Errorf("the path was not remembered: %d requests after %d", n, before)
	}
}

// TestNoReuseAfter500 leaves a connection alone on which a backend said 500:
// uvicorn closes it a moment later, under the next request.
func TestNoReuseAfter500(t *testing.T) {
	t.Parallel()
	for status, reused := range map[int]bool{500: false, 503: true, 429: true, 422: true} {
		back := stage(t, func(v *visit) { v.json(status, `{"detail":"no"}`) })
		r := start(t, agentYAML("chat", back.addr))
		r.post("/v1/chat/completions", chatHello, "")
		r.post("/v1/chat/completions", chatHello, "")
		first, second := (<-back.seen).conn, (<-back.seen).conn
		if got := first == second; got != reused {
			t.Errorf("%d: connection reused %v, want %v", status, got, reused)
		}
	}
}
