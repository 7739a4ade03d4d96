package proxy

import (
	"strings"
	"testing"
)

// openings are the beginnings of streams in which the agent has not yet said
// anything: announcements and signs of life.
var openings = map[string]string{
	"chat": ": ping\n\n" + `data: {"id":"","object":"","created":0,"model":"","choices":[],"prompt_filter_results":[]}` + "\n\n" +
		`data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}` + "\n\n: ping\n\n",
	"responses": sseEvent("response.created", `"sequence_number":0,"response":{"id":"resp_b","object":"response","created_at":1,"status":"in_progress","model":"m","output":[]}`) +
		sseEvent("response.in_progress", `"sequence_number":1,"response":{"id":"resp_b","object":"response","created_at":1,"status":"in_progress","model":"m","output":[]}`) +
		sseEvent("keepalive", `"sequence_number":2`) + ": ping\n\n",
	"swarms": `data: {"job_id": "abc", "success": true, "name": "W", "timestamp": "x", "stream": true, "type": "metadata"}` + "\n\nevent: start\ndata: {\"message\": \"Starting agent processing...\"}\n\n: ping\n\n",
	"cycls":  "data: {\"type\": \"chat_id\", \"chat_id\": \"3b88\"}\n\ndata: {\"type\": \"ping\"}\n\n: ping\n\n",
}

// TestFailureBehindTheOpeningIsAStatus has a stream fail behind its announcements
// and signs of life: nothing was promised to the client yet, so that it gets an
// HTTP status, which it can act upon.
func TestFailureBehindTheOpeningIsAStatus(t *testing.T) {
	t.Parallel()
	eachCell(t, streaming, func(t *testing.T, f face, b script) {
		back := stage(t, func(v *visit) {
			v.open()
			v.chunk(openings[b.name])
			v.chunk(b.failure)
			v.end()
		})
		r := start(t, agentYAML(b.name, back.addr))
		for _, stream := range []bool{true, false} {
			body, headers := f.ask("hello", stream)
			if got := r.post(f.path, body, headers); got.status != 502 || f.message(got.body) == "" {
				t.Errorf("stream=%t: status %d: %q", stream, got.status, got.body)
			}
		}
	})
}

// TestStreamsAskNotToBeBuffered looks at what load balancers decide by, for a
// stream that came whole and for one that was waited for.
func TestStreamsAskNotToBeBuffered(t *testing.T) {
	t.Parallel()
	eachCell(t, streaming, func(t *testing.T, f face, b script) {
		gate := make(chan struct{}, 1)
		back := stage(t, func(v *visit) {
			v.open()
			v.chunk(b.first)
			if strings.Contains(string(v.body), "late") {
				<-gate
			}
			v.chunk(b.rest)
			v.end()
		})
		r := start(t, agentYAML(b.name, back.addr))
		for _, ask := range []string{"hello", "late"} {
			body, headers := f.ask(ask, true)
			c := r.dial()
			c.send("POST", f.path, body, headers)
			resp := c.response()
			until(t, resp.Body, "one")
			gate <- struct{}{}
			for name, want := range map[string]string{"X-Accel-Buffering": "no", "Cache-Control": "no-cache", "Content-Type": "text/event-stream; charset=utf-8", "Content-Encoding": ""} {
				if got := resp.Header.Get(name); got != want {
					t.Errorf("%s: %s is %q, want %q", ask, name, got, want)
				}
			}
			if ask == "hello" {
				<-gate // nobody took it
			}
		}
	})
}

// TestBackendHeadersStayBehind has a backend answer with what it must not tell the
// client: the credential it was given, cookies, its own limits.
func TestBackendHeadersStayBehind(t *testing.T) {
	t.Parallel()
	const secret = "backend-s3cret"
	theirs := []string{
		"Authorization: Bearer " + secret, "X-Api-Key: " + secret, "Set-Cookie: session=" + secret, "X-Echo: " + secret,
		"X-Ratelimit-Remaining-Requests: 7", "Openai-Organization: " + secret, "Server: theirs", "Www-Authenticate: Bearer realm=" + secret,
	}
	eachCell(t, anyBackend, func(t *testing.T, f face, b script) {
		back := stage(t, func(v *visit) {
			switch {
			case strings.Contains(string(v.body), "refuse"):
				v.json(401, b.refusal("key "+secret+" is wrong"), theirs...)
			case b.body == "":
				_, _ = v.conn.Write([]byte("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n" + strings.Join(theirs, "\r\n") + "\r\nTransfer-Encoding: chunked\r\n\r\n"))
				v.chunk(b.first + b.rest)
				v.end()
			default:
				v.json(200, b.body, theirs...)
			}
		})
		r := start(t, agentYAML(b.name, back.addr, "credential: {bearer: {value: "+secret+"}}"))
		for _, ask := range []string{"hello", "refuse"} {
			body, headers := f.ask(ask, b.body == "")
			got := r.post(f.path, body, headers)
			if want := map[string]int{"hello": 200, "refuse": 502}[ask]; got.status != want {
				t.Errorf("%s: status %d: %s", ask, got.status, got.body)
			}
			for name, values := range got.header {
				if v := strings.Join(values, "|"); strings.Contains(v, secret) || strings.HasPrefix(name, "X-Ratelimit") || v == "theirs" {
					t.Errorf("%s: %s: %s went on", ask, name, v)
				}
			}
			if strings.Contains(got.body, secret) {
				t.Errorf("%s: the secret is in the body: %s", ask, got.body)
			}
		}
		for _, line := range r.logs.All() {
			for k, v := range line.ContextMap() {
				if s, ok := v.(string); ok && strings.Contains(s, secret) {
					t.Errorf("the secret is in the log: %s=%s", k, s)
				}
			}
		}
	})
}

// TestVeryLongEventsArrive sends an event of a quarter of a megabyte: more than
// readers by the line take.
func TestVeryLongEventsArrive(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("0123456789abcdef", 1<<14)
	eachCell(t, streaming, func(t *testing.T, f face, b script) {
		back := stage(t, func(v *visit) {
			v.open()
			v.chunk(strings.Replace(b.first, "one", "one"+long, 1) + strings.ReplaceAll(b.rest, "one two", "one"+long+" two"))
			v.end()
		})
		r := start(t, agentYAML(b.name, back.addr))
		body, headers := f.ask("hello", true)
		got := r.post(f.path, body, headers)
		if text := f.text(got.body, true); got.status != 200 || text != "one"+long+" two" || !f.whole(got.body) {
			t.Errorf("status %d, %d bytes of text, want %d", got.status, len(text), len(long)+7)
		}
	})
}

// TestPhotosArriveWhole sends eight megabytes of base64 through the default limit.
func TestPhotosArriveWhole(t *testing.T) {
	t.Parallel()
	photo := "data:image/png;base64,iVBORw0KGgo" + strings.Repeat("ABCD", 2<<20)
	back := stage(t, func(v *visit) { v.json(200, backendScripts[1].body) })
	r := start(t, agentYAML("responses", back.addr))
	got := r.post("/v1/chat/completions", `{"model":"it","messages":[{"role":"user","content":[{"type":"text","text":"look"},{"type":"image_url","image_url":{"url":"`+photo+`"}}]}]}`, "")
	if got.status != 200 {
		t.Fatalf("status %d: %.200s", got.status, got.body)
	}
	if v := <-back.seen; !strings.Contains(string(v.body), `"`+photo+`"`) {
		t.Errorf("the backend received %d bytes and not the photo", len(v.body))
	}
}

// TestLongHeadersPass sends a token of 20 KB, and gets one back.
func TestLongHeadersPass(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("t", 20<<10)
	back := stage(t, func(v *visit) { v.json(200, chatScript().body, "X-Long: "+long) })
	r := start(t, agentYAML("chat", back.addr, "forward_headers: [X-Token]"))
	if got := r.post("/v1/chat/completions", chatHello, "X-Token: "+long+"\r\n"); got.status != 200 {
		t.Errorf("status %d: %s", got.status, got.body)
	}
	if v := <-back.seen; v.req.Header.Get("X-Token") != long {
		t.Error("the token is cut")
	}
}

// TestDeparturesHarmNobodyElse has many clients leave before the first byte: no
// failure of the backend's is counted, and the next client is served.
func TestDeparturesHarmNobodyElse(t *testing.T) {
	t.Parallel()
	const many = 30
	arrived := make(chan struct{})
	back := stage(t, func(v *visit) {
		if strings.Contains(string(v.body), "stay") {
			v.json(200, chatScript().body)
			return
		}
		arrived <- struct{}{}
		v.gone()
	})
	r := start(t, agentYAML("chat", back.addr))
	for range many {
		c := r.dial()
		c.send("POST", "/v1/chat/completions", chatHelloStream, "")
		<-arrived
		_ = c.Close()
	}
	r.waitLog(many)
	if got := r.post("/v1/chat/completions", `{"model":"it","messages":[{"role":"user","content":"stay"}]}`, ""); got.status != 200 {
		t.Errorf("the next client got %d: %s", got.status, got.body)
	}
	r.waitLog(many + 1)
	var text strings.Builder
	r.meters.set.WritePrometheus(&text)
	for _, want := range []string{`status="499",outcome="client_gone"} 30`, `status="200",outcome="completed"} 1`} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("%s is missing in %s", want, own(text.String()))
		}
	}
}
