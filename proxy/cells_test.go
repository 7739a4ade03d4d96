package proxy

import (
	"io"
	"strconv"
	"strings"
	"testing"

	"github.com/tidwall/gjson"
)

// TestEveryCell asks the embedded agent of every protocol through every face, in
// both modes.
func TestEveryCell(t *testing.T) {
	t.Parallel()
	overEveryWire(t, func(t *testing.T, start starter) {
		yaml := "agents:\n"
		for _, b := range backendScripts {
			yaml += "  - {name: it-" + b.name + ", protocol: " + b.name + ", url: \"demo:" + b.name + "\", model: m}\n"
		}
		r := start(t, yaml)
		eachCell(t, anyBackend, func(t *testing.T, f face, b script) {
			for _, stream := range []bool{true, false} {
				body, headers := f.ask("hello", stream)
				got := r.post("/agents/it-"+b.name+f.path, body, headers)
				if got.status != 200 {
					t.Fatalf("stream=%t: status %d: %s", stream, got.status, got.body)
				}
				if agent := got.header.Get("Dragoman-Agent"); agent != "it-"+b.name {
					t.Errorf("Dragoman-Agent %q", agent)
				}
				text := f.text(got.body, stream)
				for _, want := range []string{"You said: “hello”.", "Some code:", "A table:", "That is all."} {
					if !strings.Contains(text, want) {
						t.Errorf("stream=%t: %q is missing in %q", stream, want, text)
					}
				}
				if f.name != "cycls" { // which has words of its own for them
					for _, want := range []string{"def greet(name):", "| a \\| b |", "https://example.com/dragoman.png"} {
						if !strings.Contains(text, want) {
							t.Errorf("stream=%t: %q is missing in %q", stream, want, text)
						}
					}
				}
				if stream {
					if ct := got.header.Get("Content-Type"); !strings.HasPrefix(ct, "text/event-stream") {
						t.Errorf("content type %q", ct)
					}
					if !f.whole(got.body) {
						t.Errorf("the stream does not end well: %q", got.body)
					}
				} else if !gjson.Valid(got.body) || !strings.HasPrefix(got.header.Get("Content-Type"), "application/json") {
					t.Errorf("no JSON: %s", got.body)
				}
			}
		})
	})
}

// TestFirstEventDoesNotWait proves streaming without a clock: the backend goes
// on only when the client has its first event.
func TestFirstEventDoesNotWait(t *testing.T) {
	t.Parallel()
	overEveryWire(t, func(t *testing.T, start starter) {
		eachCell(t, streaming, func(t *testing.T, f face, b script) {
			gate := make(chan struct{})
			back := stage(t, func(v *visit) {
				v.open()
				v.chunk(b.first)
				<-gate
				v.chunk(b.rest)
				v.end()
			})
			r := start(t, agentYAML(b.name, back.addr))
			body, headers := f.ask("hello", true)
			c := r.dial()
			c.send("POST", f.path, body, headers)
			resp := c.response()
			got := until(t, resp.Body, "one")
			close(gate)
			rest, err := io.ReadAll(resp.Body)
			if err != nil {
				t.Fatal(err)
			}
			got += string(rest)
			if text := f.text(got, true); text != "one two" {
				t.Errorf("text %q in %q", text, got)
			}
			if !f.whole(got) {
				t.Errorf("the stream does not end well: %q", got)
			}
			if line := r.waitLog(1); line["outcome"] != "completed" || line["status"] != int64(200) {
				t.Errorf("logged %v", line)
			}
		})
	})
}

// TestCutStreamIsAFailure ends the backend's stream without its protocol's end,
// with a clean end of the body and by closing the connection.
func TestCutStreamIsAFailure(t *testing.T) {
	t.Parallel()
	eachCell(t, streaming, func(t *testing.T, f face, b script) {
		for _, how := range []string{"clean", "closed", "half a frame"} {
			gate := make(chan struct{})
			back := stage(t, func(v *visit) {
				v.open()
				v.chunk(b.first)
				if strings.Contains(string(v.body), "late") {
					<-gate
				}
				switch how {
				case "clean":
					v.end()
				case "half a frame":
					v.chunk(b.rest[:len(b.rest)/4])
					v.hangs = true
				default:
					v.hangs = true
				}
			})
			r := start(t, agentYAML(b.name, back.addr))
			body, headers := f.ask("late", true)
			c := r.dial()
			c.send("POST", f.path, body, headers)
			resp := c.response()
			got := until(t, resp.Body, "one")
			close(gate)
			rest, err := io.ReadAll(resp.Body)
			if got += string(rest); err != nil || resp.StatusCode != 200 || !strings.HasPrefix(f.text(got, true), "one") || !f.failed(got) {
				t.Errorf("%s: status %d, %v: %q", how, resp.StatusCode, err, got)
			}
			if line := r.waitLog(1); line["outcome"] != "failed" {
				t.Errorf("%s: logged %v", how, line)
			}
			body, headers = f.ask("hello", false)
			rep := r.post(f.path, body, headers)
			if rep.status != 502 || f.message(rep.body) == "" || rep.header.Get("X-Should-Retry") != "false" {
				t.Errorf("%s: JSON: status %d: %q", how, rep.status, rep.body)
			}
		}
	})
}

// TestFailureInStream has the backend tell a failure in its own words after the
// first event, and as its very first word.
func TestFailureInStream(t *testing.T) {
	t.Parallel()
	eachCell(t, streaming, func(t *testing.T, f face, b script) {
		gate := make(chan struct{})
		back := stage(t, func(v *visit) {
			v.open()
			if strings.Contains(string(v.body), "at once") {
				v.chunk(b.failure)
			} else {
				v.chunk(b.first)
				if strings.Contains(string(v.body), "late") {
					<-gate
				}
				v.chunk(b.failure)
			}
			v.end()
		})
		r := start(t, agentYAML(b.name, back.addr))

		body, headers := f.ask("late", true)
		c := r.dial()
		c.send("POST", f.path, body, headers)
		resp := c.response()
		got := until(t, resp.Body, "one")
		close(gate)
		rest, _ := io.ReadAll(resp.Body)
		got += string(rest)
		if resp.StatusCode != 200 || !f.failed(got) {
			t.Errorf("late: status %d: %q", resp.StatusCode, got)
		}

		for _, stream := range []bool{true, false} {
			body, headers = f.ask("at once", stream)
			if rep := r.post(f.path, body, headers); rep.status != 502 || f.message(rep.body) == "" {
				t.Errorf("at once, stream=%t: status %d: %q", stream, rep.status, rep.body)
			}
		}
		body, headers = f.ask("json", false)
		if rep := r.post(f.path, body, headers); rep.status != 502 || f.message(rep.body) == "" {
			t.Errorf("json: status %d: %q", rep.status, rep.body)
		}
	})
}

// TestJSONAnswers has the backend answer with a body: one that is whole, one
// that says it failed, HTML, and one that is cut.
func TestJSONAnswers(t *testing.T) {
	t.Parallel()
	eachCell(t, answersJSON, func(t *testing.T, f face, b script) {
		back := stage(t, func(v *visit) {
			switch {
			case strings.Contains(string(v.body), "fail"):
				v.json(200, b.failedBody)
			case strings.Contains(string(v.body), "html"):
				_, _ = io.WriteString(v.conn, "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 15\r\n\r\n<html>hi</html>")
			case strings.Contains(string(v.body), "cut"):
				_, _ = io.WriteString(v.conn, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 5000\r\n\r\n"+b.body)
				v.hangs = true
			default:
				v.json(200, b.body)
			}
		})
		r := start(t, agentYAML(b.name, back.addr))
		for _, stream := range []bool{true, false} {
			body, headers := f.ask("hello", stream)
			got := r.post(f.path, body, headers)
			if text := f.text(got.body, stream); got.status != 200 || text != "one two" || stream && !f.whole(got.body) {
				t.Errorf("stream=%t: status %d, text %q: %q", stream, got.status, text, got.body)
			}
			for _, how := range []string{"fail", "html", "cut"} {
				body, headers := f.ask(how, stream)
				if got := r.post(f.path, body, headers); got.status != 502 || f.message(got.body) == "" || got.header.Get("X-Should-Retry") != "false" {
					t.Errorf("%s, stream=%t: status %d: %q", how, stream, got.status, got.body)
				}
			}
		}
	})
}

// TestBackendStatus holds the table of statuses for every backend and face.
func TestBackendStatus(t *testing.T) {
	t.Parallel()
	cases := []struct {
		backend int
		want    int
		shown   bool // the backend's message is
		noRetry bool
		bare    bool // no error of the protocol's own
	}{
		{backend: 400, want: 400, shown: true, noRetry: true},
		{backend: 401, want: 502, noRetry: true},
		{backend: 402, want: 502, noRetry: true},
		{backend: 403, want: 502, noRetry: true},
		{backend: 404, want: 404, shown: true, noRetry: true},
		{backend: 404, want: 502, noRetry: true, bare: true},
		{backend: 405, want: 502, noRetry: true},
		{backend: 408, want: 504, noRetry: true},
		{backend: 409, want: 409, shown: true},
		{backend: 413, want: 413, shown: true, noRetry: true},
		{backend: 415, want: 502, noRetry: true},
		{backend: 418, want: 502, noRetry: true},
		{backend: 422, want: 400, shown: true, noRetry: true},
		{backend: 429, want: 429, shown: true},
		{backend: 500, want: 502, noRetry: true},
		{backend: 501, want: 502, noRetry: true},
		{backend: 502, want: 502, noRetry: true},
		{backend: 503, want: 503},
		{backend: 504, want: 504, noRetry: true},
		{backend: 529, want: 503},
		{backend: 302, want: 502, noRetry: true},
	}
	eachCell(t, anyBackend, func(t *testing.T, f face, b script) {
		back := stage(t, func(v *visit) {
			c := cases[atoi(v.req.Header.Get("Openai-Case"))]
			body := b.refusal("the reason is blue")
			if c.bare {
				body = `{"detail":"Not Found"}`
			}
			v.json(c.backend, body, "Retry-After: 7", "Location: /elsewhere")
		})
		r := start(t, agentYAML(b.name, back.addr, "path: /one"))
		for i, c := range cases {
			for _, stream := range []bool{true, false} {
				body, headers := f.ask("hello", stream)
				got := r.post(f.path, body, headers+"Openai-Case: "+strconv.Itoa(i)+"\r\n")
				m := f.message(got.body)
				if got.status != c.want || m == "" || strings.Contains(m, "blue") != c.shown {
					t.Errorf("backend %d, stream=%t: status %d, want %d: %s", c.backend, stream, got.status, c.want, got.body)
				}
				if (got.header.Get("X-Should-Retry") == "false") != c.noRetry {
					t.Errorf("backend %d: x-should-retry %q", c.backend, got.header.Get("X-Should-Retry"))
				}
				if s, ms := got.header.Get("Retry-After"), got.header.Get("Retry-After-Ms"); s != "7" || ms != "7000" { // official clients read the latter first
					t.Errorf("backend %d: retry-after %q, retry-after-ms %q", c.backend, s, ms)
				}
				if !strings.Contains(m, "7 s") {
					t.Errorf("backend %d: the wait is not in the message %q", c.backend, m)
				}
			}
		}
	})
}

func atoi(s string) int {
	n, _ := strconv.Atoi(s)
	return n
}

// TestDeadBackend asks an agent that nobody serves.
func TestDeadBackend(t *testing.T) {
	t.Parallel()
	eachCell(t, anyBackend, func(t *testing.T, f face, b script) {
		r := start(t, agentYAML(b.name, deadAddr(t)))
		for _, stream := range []bool{true, false} {
			body, headers := f.ask("hello", stream)
			got := r.post(f.path, body, headers)
			if got.status != 502 || f.message(got.body) == "" {
				t.Errorf("stream=%t: status %d: %q", stream, got.status, got.body)
			}
			if got.header.Get("X-Should-Retry") != "" {
				t.Error("nothing has run: a client may try again")
			}
		}
	})
}
