package proxy

import (
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/tidwall/gjson"
)

const (
	cognipeerBody = `{"id":"resp_65a1","object":"response","model":"The Agent","output":[{"id":"rs_1","type":"reasoning","summary":[{"type":"summary_text","text":"hm"}]},` +
		`{"id":"msg_1","type":"message","role":"assistant","content":[{"type":"output_text","text":"one two"}]}],"status":"completed",` +
		`"usage":{"input_tokens":0,"output_tokens":0,"total_tokens":0},"created_at":1767225600,"previous_response_id":null,"version":7}`
	ticosBody = `{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"{\"light\":\"on\"}"},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}}`
	chatBody  = `{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"one two","refusal":null},"logprobs":null,"finish_reason":"stop"}]}`
)

// twoAgents is a configuration of a Cognipeer and a Chat agent, the former of
// which serves requests that name none.
func twoAgents(cognipeer, chat string) string {
	return "agents:\n" +
		"  - {name: support, aliases: [help], description: Answers, protocol: cognipeer, url: \"http://" + cognipeer + "\"}\n" +
		"  - {name: writer, protocol: chat, url: \"http://" + chat + "\", model: gpt, defaults: {max_tokens: 99, temperature: 0.5}}\n" +
		"default_agent: support\n"
}

// TestCognipeerOrderOfChecks: model → version → agent → input → conversation, in
// the vendor's words, whether the answer will be translated or not.
func TestCognipeerOrderOfChecks(t *testing.T) {
	t.Parallel()
	const (
		noModel   = `{"error":"model field is required and must contain the agent key"}`
		noVersion = `{"error":"version must be a positive integer"}`
		noAgent   = `{"error":"Agent not found"}`
		noInput   = `{"error":"input field is required (string or array of message items)"}`
	)
	none := stage(t, func(v *visit) { v.t.Error("a refused request reached an agent") })
	p := start(t, twoAgents(none.addr, none.addr))
	for _, c := range []struct {
		body   string
		status int
		want   string // "…" stands for any text
	}{
		{`{}`, 400, noModel},
		{`[]`, 400, noModel},
		{`{"model":null,"version":0,"input":""}`, 400, noModel},
		{`{"model":7}`, 400, noModel},
		{`{"model":"nobody","version":0}`, 400, noVersion},
		{`{"model":"nobody","version":"two","input":"x"}`, 400, noVersion},
		{`{"model":"nobody"}`, 404, noAgent},
		{`{"model":"nobody","version":1.5,"input":""}`, 404, noAgent},
		{`{"model":"nobody","version":"2","temperature":"hot","input":[{"type":"mystery"}]}`, 404, noAgent},
		{`{"model":"","input":"x"}`, 404, noAgent}, // never the default agent
		{`{"model":"support"}`, 400, noInput},
		{`{"model":"support","input":""}`, 400, noInput},
		{`{"model":"support","input":[],"previous_response_id":"resp_1"}`, 400, noInput},
		{`{"model":"support","input":[{"role":"assistant","content":"x"}],"previous_response_id":"resp_1"}`, 400, noInput},
		{`{"model":"writer","input":7,"previous_response_id":"resp_1"}`, 400, noInput},
		{`{"model":"support","input":"x","previous_response_id":"resp_1"}`, 400, `{"error":"'previous_response_id' is not supported: this server stores no responses. …"}`},
		{`{"model":"writer","input":"x","previous_response_id":"resp_1"}`, 400, `{"error":"'previous_response_id' is not supported: this server stores no responses. …"}`},
		{`{"model":"writer","input":[{"type":"mystery"}]}`, 400, `{"error":"'input[0].type' is not an item type that this server knows."}`},
		{`{"model":"support","input":"x"`, 400, `{"error":"The request body is not valid JSON: …"}`},
		{`"x"`, 400, `{"error":"The request body is not valid JSON: …"}`},
		{``, 400, `{"error":"The request has no body; a JSON object is expected."}`},
	} {
		for _, path := range []string{"/api/client/v1/responses", "/api/client/v1/agents/responses"} {
			r := p.post(path, c.body, "X-Request-Id: req-7\r\n")
			begin, end, open := strings.Cut(c.want, "…")
			if r.status != c.status || !strings.HasPrefix(r.body, begin) || !strings.HasSuffix(r.body, end) || !open && r.body != c.want {
				t.Errorf("%s %s: %d %s, want %d %s", path, c.body, r.status, r.body, c.status, c.want)
			}
			if got := r.header.Get("X-Request-Id"); got != "req-7" {
				t.Errorf("%s: request id %q", c.body, got)
			}
		}
	}
	for _, c := range []struct {
		method, path string
		status       int
	}{
		{"PUT", "/api/client/v1/responses", 405},
		{"GET", "/api/client/v1/nothing", 404},
		{"GET", "/api/client/v1/agents/nobody", 404},
		{"POST", "/agents/nobody/api/client/v1/responses", 404},
	} {
		cl, body := p.dial(), `{"model":"x","input":"x"}`
		if c.method == "GET" { // with a body it would be refused for that
			body = ""
		}
		cl.send(c.method, c.path, body, "")
		if r := cl.reply(); r.status != c.status || gjson.Get(r.body, "error").Type != gjson.String || r.header.Get("X-Request-Id") == "" {
			t.Errorf("%s %s: %d %s", c.method, c.path, r.status, r.body)
		}
	}
}

// TestCognipeerPassesThrough: what a Cognipeer client sends to a Cognipeer agent
// and gets from it is not touched, and the agent's own headers go on.
func TestCognipeerPassesThrough(t *testing.T) {
	t.Parallel()
	b := stage(t, func(v *visit) { v.json(200, cognipeerBody) })
	p := start(t, twoAgents(b.addr, b.addr))
	const body = ` {"model":"support" ,"input":[{"role":"system","content":"s"},{"role":"user","content":[{"type":"input_text","text":"é \u00e9"}]}],"version":"2","runtime_context":{"headers":{"a":"b"},"n":9007199254740993},"z":1e400,"previous_response_id":"other"}`
	for _, path := range []string{"/api/client/v1/responses", "/api/client/v1/agents/responses", "/agents/support/api/client/v1/responses"} {
		r := p.post(path, body, "X-CPR-Hdr-Tenant: acme\r\nx-cpr-hdr-trace-id: 1\r\nX-Cpr-Hdr-: no\r\nX-Other: no\r\n")
		if r.status != 200 || r.body != cognipeerBody || r.header.Get("Dragoman-Dropped") != "" {
			t.Fatalf("%s: %d %s %v", path, r.status, r.body, r.header)
		}
		v := <-b.seen
		if string(v.body) != body || v.req.URL.Path != "/api/client/v1/agents/responses" {
			t.Errorf("%s: the agent got %s %s", path, v.req.URL.Path, v.body)
		}
		if v.req.Header.Get("X-Cpr-Hdr-Tenant") != "acme" || v.req.Header.Get("X-Cpr-Hdr-Trace-Id") != "1" || v.req.Header.Get("X-Other") != "" || v.req.Header.Get("X-Cpr-Hdr-") != "" {
			t.Errorf("%s: the agent got the headers %v", path, v.req.Header)
		}
	}
	// The prefix names the agent, whatever the model says.
	if r := p.post("/agents/help/api/client/v1/responses", `{"model":"","input":"x"}`, ""); r.status != 200 || r.header.Get("Dragoman-Agent") != "support" {
		t.Errorf("%d %s", r.status, r.body)
	}
	// The answer is made a stream, and tells which version ran.
	r := p.post("/api/client/v1/responses", `{"model":"support","input":"x","stream":true}`, "")
	if r.status != 200 || !responsesWhole(r.body) || responsesText(r.body, true) != "one two" || !strings.Contains(r.body, `"version":7}`) {
		t.Errorf("%d %s", r.status, r.body)
	}
}

// TestCognipeerDraftIsAPath: the published agent is the default, the draft is the
// other path, a pinned version either.
func TestCognipeerDraftIsAPath(t *testing.T) {
	t.Parallel()
	b := stage(t, func(v *visit) { v.json(200, cognipeerBody) })
	p := start(t, agentYAML("cognipeer", b.addr, "path: /api/client/v1/responses", "options: {version: 3}", "defaults: {system_prompt: Be brief.}", "strict: true"))
	if r := p.post("/api/client/v1/agents/responses", `{"model":"it","input":"x"}`, ""); r.status != 200 || r.body != cognipeerBody {
		t.Fatalf("%d %s", r.status, r.body)
	}
	if v := <-b.seen; v.req.URL.Path != "/api/client/v1/responses" || string(v.body) != `{"version":3,"model":"backend-model","input":"System: Be brief.\n\nUser: x"}` {
		t.Errorf("the agent got %s %s", v.req.URL.Path, v.body)
	}
	// The agent answers to every name, but not to none.
	if r := p.post("/api/client/v1/responses", `{"model":"","input":"x"}`, ""); r.status != 404 || r.body != `{"error":"Agent not found"}` {
		t.Errorf("%d %s", r.status, r.body)
	}
	if r := p.post("/v1/chat/completions", `{"model":"it","messages":[{"role":"user","content":"x"}]}`, "x-cpr-hdr-a: b\r\n"); r.status != 200 || gjson.Get(r.body, "choices.0.message.content").String() != "one two" || gjson.Get(r.body, "model").String() != "it" || gjson.Get(r.body, "usage").Exists() {
		t.Errorf("%d %s", r.status, r.body)
	}
	if v := <-b.seen; string(v.body) != `{"model":"backend-model","input":"System: Be brief.\n\nUser: x","version":3}` || v.req.Header.Get("X-Cpr-Hdr-A") != "b" {
		t.Errorf("the agent got %v %s", v.req.Header, v.body)
	}
}

// TestCognipeerFaceHasVersionAndUsage: a client of the vendor's finds them in
// every answer, whoever gave it.
func TestCognipeerFaceHasVersionAndUsage(t *testing.T) {
	t.Parallel()
	b := stage(t, func(v *visit) { v.json(200, chatBody) })
	p := start(t, twoAgents(b.addr, b.addr))
	r := p.post("/api/client/v1/agents/responses", `{"model":"writer","input":[{"role":"user","content":"a"},{"role":"assistant","content":"b"},{"role":"user","content":[{"type":"input_text","text":"c"},{"type":"input_image","image_url":"https://x.test/a.png"}]}],"version":2,"previous_response_id":"mine"}`, "")
	if r.status != 200 || gjson.Get(r.body, "model").String() != "writer" || gjson.Get(r.body, "version").Raw != "2" || gjson.Get(r.body, "usage.total_tokens").Raw != "0" ||
		gjson.Get(r.body, "previous_response_id").Raw != "null" || gjson.Get(r.body, "output.0.content.0.text").String() != "one two" || gjson.Get(r.body, "status").String() != "completed" {
		t.Errorf("%d %s", r.status, r.body)
	}
	if got := r.header.Get("Dragoman-Dropped"); got != "version, previous_response_id" && got != "previous_response_id, version" {
		t.Errorf("dropped %q", got)
	}
	v := <-b.seen
	if got := gjson.GetBytes(v.body, "messages").Raw; got != `[{"role":"user","content":"a"},{"role":"assistant","content":"b"},{"role":"user","content":[{"type":"text","text":"c"},{"type":"image_url","image_url":{"url":"https://x.test/a.png"}}]}]` {
		t.Errorf("the agent got %s", got)
	}
}

// TestCognipeerBackendErrors: the vendor's error bodies, its Retry-After, and
// what our clients are told of them.
func TestCognipeerBackendErrors(t *testing.T) {
	t.Parallel()
	type answer struct {
		status int
		body   string
		header string
	}
	answers := make(chan answer, 1)
	b := stage(t, func(v *visit) {
		a := <-answers
		v.json(a.status, a.body, "X-Request-Id: theirs"+a.header)
	})
	p := start(t, agentYAML("cognipeer", b.addr))
	for _, c := range []struct {
		from   answer
		status int
		error  string // to a Cognipeer client
		after  string
	}{
		{answer{404, `{"error":"Agent not found"}`, ""}, 404, "Agent not found", ""},
		{answer{404, `{"error":"previous_response_id does not match a valid conversation"}`, ""}, 404, "previous_response_id does not match a valid conversation", ""},
		{answer{400, `{"error":"Agent is not active"}`, ""}, 400, "Agent is not active", ""},
		{answer{500, `{"error":"Internal server error"}`, ""}, 502, "The agent failed.", ""},
		{answer{401, `{"error":"Invalid API token"}`, ""}, 502, "The proxy's credential for the agent was refused; this is for the operator to mend.", ""},
		{answer{403, `{"error":"Forbidden: models"}`, ""}, 502, "The proxy's credential for the agent was refused; this is for the operator to mend.", ""},
		{answer{429, `{"error":{"message":"Slow down","type":"rate_limit_error"}}`, "\r\nRetry-After: 9"}, 429, "Slow down. Retry after 9 s.", "9"},
		{answer{503, `{"error":"Service is shutting down"}`, "\r\nRetry-After: 5"}, 503, "ServiceUnavailable", "5"},
		{answer{200, `{"error":"Agent is not active"}`, ""}, 502, "Agent is not active", ""},
		{answer{200, `{"status":"completed"}`, ""}, 502, "The agent's answer could not be read.", ""},
	} {
		for _, face := range []string{"cognipeer", "chat"} {
			answers <- c.from
			path, body, message := "/api/client/v1/responses", `{"model":"it","input":"x"}`, "error"
			if face == "chat" {
				path, body, message = "/v1/chat/completions", `{"model":"it","messages":[{"role":"user","content":"x"}]}`, "error.message"
			}
			r := p.post(path, body, "")
			got := gjson.Get(r.body, message)
			if r.status != c.status || got.Type != gjson.String || r.header.Get("Retry-After") != c.after {
				t.Errorf("%s %d %s: %d %s %v", face, c.from.status, c.from.body, r.status, r.body, r.header)
			}
			if face == "cognipeer" && got.String() != c.error {
				t.Errorf("%d %s: %q, want %q", c.from.status, c.from.body, got, c.error)
			}
		}
	}
}

// TestCognipeerListings: agents by status, one agent by its key.
func TestCognipeerListings(t *testing.T) {
	t.Parallel()
	none := stage(t, func(v *visit) { v.t.Error("a listing reached an agent") })
	p := start(t, twoAgents(none.addr, none.addr))
	const (
		support = `{"key":"support","name":"support","description":"Answers","config":{"modelKey":"support","temperature":null,"topP":null,"maxTokens":null},"status":"active","createdAt":"…"}`
		writer  = `{"key":"writer","name":"writer","description":"","config":{"modelKey":"gpt","temperature":0.5,"topP":null,"maxTokens":99},"status":"active","createdAt":"…"}`
	)
	created := regexp.MustCompile(`"createdAt":"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"`)
	for _, c := range []struct {
		path   string
		status int
		want   string
	}{
		{"/api/client/v1/agents", 200, `{"agents":[` + support + `,` + writer + `]}`},
		{"/api/client/v1/agents?status=active", 200, `{"agents":[` + support + `,` + writer + `]}`},
		{"/api/client/v1/agents?status=", 200, `{"agents":[` + support + `,` + writer + `]}`},
		{"/api/client/v1/agents?status=archived", 200, `{"agents":[]}`},
		{"/agents/writer/api/client/v1/agents?status=active", 200, `{"agents":[` + writer + `]}`},
		{"/api/client/v1/agents/writer", 200, `{"agent":` + writer + `}`},
		{"/api/client/v1/agents/help", 200, `{"agent":` + strings.ReplaceAll(support, `"support"`, `"help"`) + `}`},
		{"/api/client/v1/agents/nobody", 404, `{"error":"Agent not found"}`},
	} {
		r := p.get(c.path)
		got := created.ReplaceAllString(r.body, `"createdAt":"…"`)
		if r.status != c.status || got != c.want {
			t.Errorf("%s: %d %s\nwant %s", c.path, r.status, got, c.want)
		}
	}
}

// TestTicosThroughTheProxy: the path's id is the agent, the account's headers go
// on, and what Ticos says comes back as it is.
func TestTicosThroughTheProxy(t *testing.T) {
	t.Parallel()
	b := stage(t, func(v *visit) { v.json(200, ticosBody) })
	p := start(t, "agents:\n  - {name: home, protocol: ticos, url: \"http://"+b.addr+"\", model: \"agent/7\", strict: true, defaults: {max_tokens: 5, temperature: 1}}\n"+
		"  - {name: lab, protocol: ticos, url: \"http://"+b.addr+"\"}\n")
	const body = ` {"input": "https://x.test/a.png" , "n":9007199254740993}`
	headers := "X-Model-ID: m-1\r\nX-Client-Identifier: kitchen%20lamp\r\nX-Other: no\r\n"
	r := p.post("/v1/agents/home/responses", body, headers)
	if r.status != 200 || r.body != ticosBody || r.header.Get("Dragoman-Dropped") != "" {
		t.Fatalf("%d %s %v", r.status, r.body, r.header)
	}
	v := <-b.seen
	if string(v.body) != body || v.req.URL.EscapedPath() != "/v1/agents/agent%2F7/responses" {
		t.Errorf("the agent got %s %s", v.req.URL.EscapedPath(), v.body)
	}
	wantHeaders := func(h http.Header) {
		t.Helper()
		if h.Get("X-Model-Id") != "m-1" || h.Get("X-Client-Identifier") != "kitchen%20lamp" || h.Get("X-Other") != "" {
			t.Errorf("the agent got the headers %v", h)
		}
	}
	wantHeaders(v.req.Header)

	// A default that Ticos has no word for is not the client's loss, strict or not.
	r = p.post("/v1/chat/completions", `{"model":"home","messages":[{"role":"user","content":"https://x.test/a.png"}]}`, headers)
	if r.status != 200 || gjson.Get(r.body, "choices.0.message.content").String() != `{"light":"on"}` || r.header.Get("Dragoman-Dropped") != "" {
		t.Errorf("%d %s %v", r.status, r.body, r.header)
	}
	v = <-b.seen
	wantHeaders(v.req.Header)
	if string(v.body) != `{"input":[{"type":"text","text":"https://x.test/a.png"}]}` {
		t.Errorf("the agent got %s", v.body)
	}
	if r := p.post("/v1/chat/completions", `{"model":"home","temperature":1,"messages":[{"role":"user","content":"x"}]}`, ""); r.status != 400 || !strings.Contains(r.body, "temperature") {
		t.Errorf("%d %s", r.status, r.body)
	}

	// The id decides, and a stream is made where one is asked for.
	r = p.post("/v1/agents/lab/responses", `{"input":[{"type":"text","text":"a"}],"stream":true}`, "")
	if r.status != 200 || !chatWhole(r.body) || chatText(r.body, true) != `{"light":"on"}` || r.header.Get("Dragoman-Agent") != "lab" {
		t.Errorf("%d %s", r.status, r.body)
	}
	if v = <-b.seen; v.req.URL.Path != "/v1/agents/lab/responses" {
		t.Errorf("the agent got %s", v.req.URL.Path)
	}
	r = p.post("/v1/agents/nobody/responses", `{"input":"x"}`, "")
	if r.status != 404 || gjson.Get(r.body, "error.code").String() != "model_not_found" {
		t.Errorf("%d %s", r.status, r.body)
	}
}

// TestTicosBackendErrors reads error bodies of all shapes.
func TestTicosBackendErrors(t *testing.T) {
	t.Parallel()
	answers := make(chan string, 1)
	b := stage(t, func(v *visit) { v.json(400, <-answers) })
	p := start(t, agentYAML("ticos", b.addr))
	for body, want := range map[string]string{
		`{"error":{"message":"No such model"}}`:                             "No such model",
		`{"error":"No such model"}`:                                         "No such model",
		`{"detail":"No such model"}`:                                        "No such model",
		`{"detail":[{"loc":["body","input"],"msg":"field required"}]}`:      "body.input: field required",
		`{"detail":[{"loc":["body",0],"msg":"a"},{"loc":["x"],"msg":"b"}]}`: "body.0: a; x: b",
		`{"detail":{"input":["This field is required."]}}`:                  `{"input":["This field is required."]}`,
		`{"message":"No such model"}`:                                       "No such model",
		`No such model`:                                                     "No such model",
		`<html><body>No such model</body></html>`:                           "The agent refused the request.",
		``:                                     "The agent refused the request.",
		`{"error":{"detail":"No such model"}}`: "No such model",
		`{"code":7}`:                           "The agent refused the request.",
		`{"error":"invalid_request","message":"input must be a string"}`: "invalid_request: input must be a string",
		`[{"error":{"message":"in a list"}}]`:                            "in a list",
	} {
		for _, path := range []string{"/v1/agents/it/responses", "/v1/responses"} {
			answers <- body
			r := p.post(path, `{"model":"it","input":"x"}`, "")
			if got := gjson.Get(r.body, "error.message").String(); r.status != 400 || got != want {
				t.Errorf("%s %s: %d %s, want %q", path, body, r.status, r.body, want)
			}
		}
	}
}
