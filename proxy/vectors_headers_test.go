package proxy

import (
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/tidwall/gjson"
)

// TestForwardedHeaders sets X-Forwarded-* from a trusted proxy, once and in good
// form, and sends none on from anybody else.
func TestForwardedHeaders(t *testing.T) {
	t.Parallel()
	f := func(name, trusted, agent, headers string, want ...string) {
		t.Helper()
		back := stage(t, func(v *visit) { v.json(200, chatScript().body) })
		r := start(t, "server: {trusted_proxies: ["+trusted+"]}\n"+agentYAML("chat", back.addr, agent))
		if got := r.post("/v1/chat/completions", chatHello, headers); got.status != 200 {
			t.Errorf("%s: %d %s", name, got.status, got.body)
			return
		}
		var got []string
		for k, values := range (<-back.seen).req.Header {
			if strings.Contains(k, "Forwarded") || strings.Contains(k, "Real") {
				for _, v := range values {
					got = append(got, k+": "+v)
				}
			}
		}
		if !sameWords(got, want) {
			t.Errorf("%s: the agent got %q, want %q", name, got, want)
		}
	}
	const all = "X-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: agents.example\r\nForwarded: for=1.2.3.4\r\nX-Real-IP: 1.2.3.4\r\nX-Forwarded-Port: 1\r\n"
	f("nobody is trusted", "", "", all)
	f("somebody else is trusted", "10.0.0.0/8, \"::1\"", "", all)
	f("trusted", "127.0.0.0/8", "", all, "X-Forwarded-For: 1.2.3.4, 127.0.0.1", "X-Forwarded-Proto: https", "X-Forwarded-Host: agents.example")
	f("trusted, and silent", "127.0.0.1", "", "", "X-Forwarded-For: 127.0.0.1", "X-Forwarded-Proto: http", "X-Forwarded-Host: proxy")
	f("a chain in two lines", "127.0.0.1", "", "X-Forwarded-For: 1.2.3.4, [2001:db8::1]:443\r\nx-forwarded-for: 5.6.7.8:90\r\n",
		"X-Forwarded-For: 1.2.3.4, 2001:db8::1, 5.6.7.8, 127.0.0.1", "X-Forwarded-Proto: http", "X-Forwarded-Host: proxy")
	f("what is none of it", "127.0.0.1", "", "X-Forwarded-For: 1.2.3.4, unknown\r\nX-Forwarded-Proto: gopher\r\nX-Forwarded-Host: a/b\r\n",
		"X-Forwarded-For: 127.0.0.1", "X-Forwarded-Proto: http", "X-Forwarded-Host: proxy")
	f("a chain without end", "127.0.0.1", "", "X-Forwarded-For: "+strings.Repeat("1.2.3.4,", 500)+"1.2.3.4\r\n",
		"X-Forwarded-For: 127.0.0.1", "X-Forwarded-Proto: http", "X-Forwarded-Host: proxy")
	f("Connection does not take away what is set", "127.0.0.1", "", "Connection: x-forwarded-for, X-Forwarded-Proto\r\nX-Forwarded-For: 1.2.3.4\r\n",
		"X-Forwarded-For: 1.2.3.4, 127.0.0.1", "X-Forwarded-Proto: http", "X-Forwarded-Host: proxy")
	f("the configuration says it", "127.0.0.1", "headers: {X-Forwarded-Host: public.example}", all, "X-Forwarded-Host: public.example")

	// The items of a batch have them too.
	back := stage(t, func(v *visit) { v.json(200, chatScript().body) })
	r := start(t, "server: {trusted_proxies: [127.0.0.1]}\n"+agentYAML("chat", back.addr))
	if got := r.post("/v1/agent/batch/completions", `[{"agent_config":{"agent_name":"it"},"task":"x"}]`, all); got.status != 200 {
		t.Fatalf("batch: %d %s", got.status, got.body)
	}
	if got := (<-back.seen).req.Header.Get("X-Forwarded-For"); got != "1.2.3.4, 127.0.0.1" {
		t.Errorf("batch: X-Forwarded-For: %q", got)
	}

	// The scheme is that of the client's connection.
	secure := startOver(t, "tls", "server: {trusted_proxies: [127.0.0.1]}\n"+agentYAML("chat", back.addr))
	if got := secure.post("/v1/chat/completions", chatHello, ""); got.status != 200 {
		t.Fatalf("TLS: %d %s", got.status, got.body)
	}
	if got := (<-back.seen).req.Header.Get("X-Forwarded-Proto"); got != "https" {
		t.Errorf("TLS: X-Forwarded-Proto: %q", got)
	}

	// An alias of them is refused where they are believed.
	if got := r.post("/v1/chat/completions", chatHello, "X_Forwarded_For: 1.2.3.4\r\n"); got.status != 400 {
		t.Errorf("alias: %d %s", got.status, got.body)
	}
}

func sameWords(a, b []string) bool {
	have := map[string]int{}
	for _, s := range a {
		have[s]++
	}
	for _, s := range b {
		have[s]--
	}
	for _, n := range have {
		if n != 0 {
			return false
		}
	}
	return true
}

// TestForwardedCredential sends the client's Authorization on to the agent that
// checks it, and to no other, and its key to none; that agent's 401 and 403 are
// the client's to see.
func TestForwardedCredential(t *testing.T) {
	t.Parallel()
	var status atomic.Int32
	status.Store(200)
	back := stage(t, func(v *visit) {
		switch code := int(status.Load()); {
		case code != 200:
			v.json(code, `{"detail":"token expired"}`, `WWW-Authenticate: Bearer realm="agent", error="invalid_token"`, "Set-Cookie: a=b", "X-Other: no")
		default:
			v.json(200, chatScript().body)
		}
	})
	r := start(t, "agents:\n  - {name: own, protocol: chat, url: http://"+back.addr+", credential: {forward: true}, model: m}\n"+
		"  - {name: other, protocol: chat, url: http://"+back.addr+", credential: {bearer: {value: backend-secret}}, model: m}\n"+
		"  - {name: bare, protocol: chat, url: http://"+back.addr+", model: m}\n")
	ask := func(agent, headers string) (reply, http.Header) {
		t.Helper()
		got := r.post("/agents/"+agent+"/v1/chat/completions", chatHello, headers)
		return got, (<-back.seen).req.Header
	}
	const both = "Authorization: Bearer signed-by-agent\r\nX-Api-Key: client-secret\r\n"
	for agent, want := range map[string]string{"own": "Bearer signed-by-agent", "other": "Bearer backend-secret", "bare": ""} {
		got, h := ask(agent, both)
		if got.status != 200 || strings.Join(h.Values("Authorization"), "|") != want || h.Get("X-Api-Key") != "" {
			t.Errorf("%s: %d, the agent got %q and key %q", agent, got.status, h.Values("Authorization"), h.Values("X-Api-Key"))
		}
	}
	if _, h := ask("own", "X-Api-Key: client-secret\r\n"); h.Get("Authorization") != "" {
		t.Errorf("invented: %q", h.Get("Authorization"))
	}
	if _, h := ask("own", both+"Connection: authorization\r\n"); h.Get("Authorization") != "" {
		t.Errorf("nominated: %q", h.Get("Authorization"))
	}
	for _, code := range []int{401, 403} {
		status.Store(int32(code)) // #nosec G115 -- a status
		got, _ := ask("own", both)
		if got.status != code || !strings.Contains(openAIMessage(got.body), "token expired") || got.header.Get("Set-Cookie")+got.header.Get("X-Other") != "" {
			t.Errorf("own: %d %s %v", got.status, got.body, got.header)
		}
		if c := strings.Join(got.header.Values("WWW-Authenticate"), "|"); c != `Bearer realm="agent", error="invalid_token"` {
			t.Errorf("own: challenge %q", c)
		}
		for _, agent := range []string{"other", "bare"} {
			got, _ := ask(agent, both)
			if got.status != 502 || got.header.Get("WWW-Authenticate") != "" || strings.Contains(got.body, "expired") {
				t.Errorf("%s: %d %s %v", agent, got.status, got.body, got.header)
			}
		}
	}
}

// TestBackendCredentialStaysHere looks for the agent's credential in everything
// that a client and the log get to see of an agent that repeats it.
func TestBackendCredentialStaysHere(t *testing.T) {
	t.Parallel()
	const key = "sk-backend-0123456789abcdef"
	f := func(name, credential string, status int, serve func(v *visit), stream bool) {
		t.Helper()
		back := stage(t, serve)
		r := start(t, agentYAML("chat", back.addr, "credential: "+credential))
		for _, path := range []string{"/v1/chat/completions", "/v1/responses"} {
			body := chatHello
			if stream {
				body = chatHelloStream
			}
			if path == "/v1/responses" {
				body = strings.Replace(body, `"messages":[{"role":"user","content":"hello"}]`, `"input":"hello"`, 1)
			}
			got := r.post(path, body, "")
			if got.status != status {
				t.Errorf("%s %s: %d %s", name, path, got.status, got.body)
			}
			all := got.body
			for k, v := range got.header {
				all += k + strings.Join(v, " ")
			}
			if strings.Contains(all, key) || strings.Contains(all, key[9:]) {
				t.Errorf("%s %s: the client got %s", name, path, all)
			}
			r.waitLog(1)
			for _, l := range r.logs.All() {
				for k, v := range l.ContextMap() {
					if s, ok := v.(string); ok && strings.Contains(s, key) {
						t.Errorf("%s %s: the log holds %s: %s", name, path, k, s)
					}
				}
			}
		}
	}
	const bearer, custom = "{bearer: {value: " + key + "}}", "{header: X-Key, value: {value: " + key + "}}"
	for _, status := range []int{400, 404, 409, 413, 422, 429} {
		want := map[int]int{422: 400}[status]
		if want == 0 {
			want = status
		}
		told := func(v *visit) {
			v.json(status, `{"error":{"message":"bad key sk-backend\u002d0123456789abcdef","type":"x","param":"`+key+`","code":"`+key+`"}}`, "Openai-Version: "+key)
		}
		f("told "+itoa(status), bearer, want, told, false)
		f("told "+itoa(status), custom, want, told, false)
	}
	f("a failure", bearer, 502, func(v *visit) { v.json(500, `{"error":{"message":"`+key+`"}}`) }, false)
	f("no JSON", bearer, 502, func(v *visit) { v.json(200, "key is "+key) }, false)
	f("an answer", bearer, 200, func(v *visit) {
		v.json(200, strings.Replace(chatScript().body, "one two", "one "+key+" two", 1), "Openai-Processing-Ms: "+key)
	}, false)
	event := strings.Replace(chatScript().first, "one", key+" "+key, 1)
	f("a stream", bearer, 200, func(v *visit) {
		v.open()
		v.chunk(event + chatScript().rest)
		v.end()
	}, true)
	f("an error in a stream", bearer, 200, func(v *visit) {
		v.open()
		v.chunk(chatScript().first)
		v.chunk(`data: {"error":{"message":"` + key + `","code":"x"}}` + "\n\n")
		v.end()
	}, true)
}

// TestMaskFindsPieces splits a text at every place, and every piece once more.
func TestMaskFindsPieces(t *testing.T) {
	t.Parallel()
	const text = "xx0123456789abcdefyy0123456789abcdef0123456789abcdez012"
	for i := range len(text) {
		for j := i; j < len(text); j++ {
			m := mask{secret: secret("0123456789abcdef")}
			pieces := [][]byte{[]byte(text[:i]), []byte(text[i:j]), []byte(text[j:])}
			var got strings.Builder
			for _, p := range pieces {
				m.apply(p)
				got.Write(p)
			}
			s := got.String()
			if len(s) != len(text) || !strings.HasPrefix(s, "xx") || !strings.Contains(s, "yy") || strings.Contains(s, "89abcdef") {
				t.Fatalf("split at %d and %d: %s", i, j, s)
			}
		}
	}
}

// TestMaskOfASecretThatRepeatsItself: a beginning that goes on otherwise may hold the
// true one.
func TestMaskOfASecretThatRepeatsItself(t *testing.T) {
	t.Parallel()
	const text = "abcabcabcabcx1yy"
	for i := range len(text) {
		for j := i; j < len(text); j++ {
			m := mask{secret: secret("abcabcabcx1")}
			var got strings.Builder
			for _, p := range []string{text[:i], text[i:j], text[j:]} {
				b := []byte(p)
				m.apply(b)
				got.Write(b)
			}
			if s := got.String(); len(s) != len(text) || !strings.HasSuffix(s, "yy") || strings.Contains(s, "x") || strings.Contains(s, "abcabcabcabc") {
				t.Fatalf("split at %d and %d: %s", i, j, s)
			}
		}
	}
}

// TestMaskCostsNothing: a stream's bytes are looked through where they are.
func TestMaskCostsNothing(t *testing.T) {
	b := []byte("nothing of it 0123456789abcde")
	m := mask{secret: secret("0123456789abcdef")}
	if n := testing.AllocsPerRun(10, func() { m.have = 0; m.apply(b[:20]) }); n != 0 || string(b[:20]) != "nothing of it 012345" {
		t.Errorf("%v allocations, %s", n, b)
	}
}

// TestResponseHeaders pins what a client gets of an agent's headers.
func TestResponseHeaders(t *testing.T) {
	t.Parallel()
	const theirs = "Openai-Processing-Ms: 12\r\nopenai-version: 2020-10-01\r\nDeprecation: @1\r\nSunset: never\r\ntraceresponse: 00-1\r\n" +
		"Openai-Organization: org\r\nX-RateLimit-Limit-Requests: 1\r\nx-ratelimit-remaining-tokens: 1\r\nRateLimit: x\r\nSet-Cookie: a=b\r\nServer: uvicorn\r\nX-Powered-By: y\r\n" +
		"X-Request-Id: theirs\r\nVia: z\r\nLocation: /x\r\nAccess-Control-Allow-Origin: *\r\nDragoman-Agent: other\r\nWWW-Authenticate: Basic\r\nKeep-Alive: 5\r\n" +
		"openai-version: again\r\nConnection: Keep-Alive, , sunset\r\nconnection: TRACERESPONSE\r\n"
	want := map[string]string{"Openai-Processing-Ms": "12", "Openai-Version": "2020-10-01", "Deprecation": "@1",
		"Content-Type": "application/json", "Content-Length": "", "Date": "", "X-Request-Id": "mine", "Dragoman-Agent": "it"}
	var begun chan struct{}
	f := func(name, body string, more map[string]string, serve func(v *visit)) {
		t.Helper()
		begun = make(chan struct{})
		back := stage(t, serve)
		c := start(t, agentYAML("chat", back.addr)).dial()
		c.send("POST", "/v1/chat/completions", body, "X-Request-Id: mine\r\n")
		resp := c.response()
		close(begun)
		_, _ = io.Copy(io.Discard, resp.Body)
		got := reply{status: resp.StatusCode, header: resp.Header}
		for k, v := range got.header {
			w, ok := want[k]
			if m, has := more[k]; has {
				w, ok = m, true
			}
			if !ok || w != "" && strings.Join(v, "|") != w {
				t.Errorf("%s: %s: %q", name, k, v)
			}
		}
		for k := range want {
			if got.header.Get(k) == "" && more[k] != "-" {
				t.Errorf("%s: no %s", name, k)
			}
		}
	}
	f("JSON", chatHello, nil, func(v *visit) { v.json(200, chatScript().body, strings.TrimSuffix(theirs, "\r\n")) })
	stream := map[string]string{"Content-Type": eventStreamType, "Content-Length": "-", "Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
	f("a stream", chatHelloStream, stream, func(v *visit) {
		_, _ = io.WriteString(v.conn, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n"+theirs+"\r\n")
		v.chunk(chatScript().first)
		<-begun
		v.chunk(chatScript().rest)
		v.end()
	})
	f("an error", chatHello, map[string]string{"Retry-After": "3", "Retry-After-Ms": "3000"}, func(v *visit) {
		v.json(429, `{"error":{"message":"x"}}`, theirs+"Retry-After: 3")
	})
}

// TestResponsesInDoubt refuses an agent's answer that could be read in two ways,
// and uses its connection no more.
func TestResponsesInDoubt(t *testing.T) {
	t.Parallel()
	const ok, typed = "HTTP/1.1 200 OK\r\n", "Content-Type: application/json\r\n"
	body := chatScript().body
	length := "Content-Length: " + itoa(len(body)) + "\r\n"
	for name, raw := range map[string]string{
		"both lengths":              ok + typed + length + "Transfer-Encoding: chunked\r\n\r\n" + body,
		"two lengths":               ok + typed + length + "Content-Length: 2\r\n\r\n" + body,
		"the same length twice":     ok + typed + length + length + "\r\n" + body,
		"a list of lengths":         ok + typed + "Content-Length: 5, 5\r\n\r\n" + body,
		"a negative length":         ok + typed + "Content-Length: -1\r\n\r\n" + body,
		"a length with a plus":      ok + typed + "Content-Length: +5\r\n\r\n" + body,
		"two codings":               ok + typed + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"gzip, chunked":             ok + typed + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
		"chunked before a tab":      ok + typed + "Transfer-Encoding: chunked\v\r\n\r\n0\r\n\r\n",
		"chunks in HTTP/1.0":        "HTTP/1.0 200 OK\r\n" + typed + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"a folded line":             ok + typed + "X-A: b\r\n c\r\n" + length + "\r\n" + body,
		"a folded coding":           ok + typed + "Transfer-Encoding:\r\n chunked\r\n\r\n" + body,
		"a space before the colon":  ok + typed + "Content-Length : 2\r\n\r\n" + body,
		"no colon":                  ok + typed + "Content-Length\r\n\r\n" + body,
		"a bare LF":                 ok + typed + "X-A: b\n" + length + "\r\n" + body,
		"only LF":                   strings.ReplaceAll(ok+typed+length+"\r\n", "\r\n", "\n") + body,
		"a bare CR":                 ok + typed + "X-A: b\rc\r\n" + length + "\r\n" + body,
		"NUL in a value":            ok + typed + "X-A: b\x00c\r\n" + length + "\r\n" + body,
		"NUL in a name":             ok + typed + "X\x00A: b\r\n" + length + "\r\n" + body,
		"a line in front":           "\r\n" + ok + typed + length + "\r\n" + body,
		"HTTP/2.0":                  "HTTP/2.0 200 OK\r\n" + typed + length + "\r\n" + body,
		"HTTP/1.2":                  "HTTP/1.2 200 OK\r\n" + typed + length + "\r\n" + body,
		"a status of two digits":    "HTTP/1.1 20 OK\r\n" + typed + length + "\r\n" + body,
		"a status of four digits":   "HTTP/1.1 2000 OK\r\n" + typed + length + "\r\n" + body,
		"a status with a sign":      "HTTP/1.1 +20 OK\r\n" + typed + length + "\r\n" + body,
		"a status beyond 599":       "HTTP/1.1 600 OK\r\n" + typed + length + "\r\n" + body,
		"no status":                 "HTTP/1.1 \r\n" + typed + length + "\r\n" + body,
		"a control in the reason":   "HTTP/1.1 200 O\x00K\r\n" + typed + length + "\r\n" + body,
		"another protocol":          "SSH-2.0-OpenSSH\r\n",
		"switching protocols":       "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
		"interim answers for ever":  strings.Repeat("HTTP/1.1 102 Processing\r\n\r\n", maxInterim+1) + ok + typed + length + "\r\n" + body,
		"an interim answer's body":  "HTTP/1.1 103 Early Hints\r\nContent-Length: 5\r\n\r\nhello" + ok + typed + length + "\r\n" + body,
		"a head without end":        ok + "X-A: " + strings.Repeat("b", 80<<10) + "\r\n" + typed + length + "\r\n" + body,
		"headers without end":       ok + strings.Repeat("X-A: b\r\n", 1000) + typed + length + "\r\n" + body,
		"a redirect":                "HTTP/1.1 307 Temporary Redirect\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
		"a redirect to a success":   "HTTP/1.1 302 Found\r\nLocation: /\r\n" + typed + length + "\r\n" + body,
		"chunks with LF":            ok + typed + "Transfer-Encoding: chunked\r\n\r\n" + "2\n{}\r\n0\r\n\r\n",
		"a chunk that overflows":    ok + typed + "Transfer-Encoding: chunked\r\n\r\n" + "10000000000000002\r\n{}\r\n0\r\n\r\n",
		"a trailer without end":     ok + typed + "Transfer-Encoding: chunked\r\n\r\n" + "2\r\n{}\r\n0\r\n" + strings.Repeat("X-A: b\r\n", 9000) + "\r\n",
		"a gzipped body":            ok + typed + "Content-Encoding: gzip\r\n" + length + "\r\n" + body,
		"a success without content": "HTTP/1.1 204 No Content\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			back := stage(t, func(v *visit) { _, _ = io.WriteString(v.conn, raw) })
			r := start(t, agentYAML("chat", back.addr))
			got := r.post("/v1/chat/completions", chatHello, "")
			if got.status != 502 || gjson.Get(got.body, "error.code").String() == "" {
				t.Errorf("%d %s", got.status, got.body)
			}
			if strings.Contains(got.body, "X-A") {
				t.Errorf("the answer quotes the head: %s", got.body)
			}
			// What follows comes over another connection, where it is in doubt where
			// the answer ended.
			first := (<-back.seen).conn
			r.post("/v1/chat/completions", chatHello, "")
			if name != "a redirect" && name != "a redirect to a success" && name != "a gzipped body" && name != "a success without content" && (<-back.seen).conn == first {
				t.Error("the connection was used again")
			}
		})
	}
}

// TestBytesBehindAnAnswer are nobody's: the connection that they came on is not
// used again, and they are never the next answer.
func TestBytesBehindAnAnswer(t *testing.T) {
	t.Parallel()
	for name, more := range map[string]string{"an answer": "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil", "a byte": "x"} {
		back := stage(t, func(v *visit) { v.json(200, chatScript().body); _, _ = io.WriteString(v.conn, more) })
		r := start(t, agentYAML("chat", back.addr))
		for range 3 {
			if got := r.post("/v1/chat/completions", chatHello, ""); got.status != 200 || strings.Contains(got.body, "evil") || !strings.Contains(got.body, "one two") {
				t.Errorf("%s: %d %s", name, got.status, got.body)
			}
		}
		if a, b := (<-back.seen).conn, (<-back.seen).conn; a == b {
			t.Errorf("%s: the connection was used again", name)
		}
	}
}

// TestBackendPathIsOurs: nothing of the client's target reaches the agent's, and
// where the agent's has the client's word in it, that word is one segment.
func TestBackendPathIsOurs(t *testing.T) {
	t.Parallel()
	back := stage(t, func(v *visit) { v.json(200, chatScript().body) })
	r := start(t, "agents:\n  - {name: it, aliases: ['*'], protocol: ticos, url: http://"+back.addr+"/base}\n")
	f := func(path, model string, status int, want string) {
		t.Helper()
		got := r.post(path, `{"model":"`+model+`","messages":[{"role":"user","content":"hello"}]}`, "")
		if got.status != status {
			t.Errorf("%s %s: %d %s", path, model, got.status, got.body)
			return
		}
		if status == 200 {
			if v := <-back.seen; v.req.RequestURI != want {
				t.Errorf("%s %s: the agent got %s, want %s", path, model, v.req.RequestURI, want)
			}
		}
	}
	const chat = "/v1/chat/completions"
	f(chat, "gpt", 200, "/base/v1/agents/gpt/responses")
	f(chat+"?key=secret&id=../..", "gpt", 200, "/base/v1/agents/gpt/responses")
	f("/agents/any"+chat, "gpt 4?#%2f", 200, "/base/v1/agents/gpt%204%3F%23%252f/responses")
	for _, word := range []string{"..", ".", "a/b", "../../admin", `a\\b`, `a\u0000b`, `a\nb`} {
		f(chat, word, 400, "")
	}
}
