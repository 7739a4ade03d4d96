package proxy

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/tidwall/gjson"
)

// What a backend may do to its clients, each against every backend protocol through every face: the
// client gets a whole answer, or the truth in its own protocol's words. docs/faults.md lists them.

// resets ends a backend's connection by RST.
func (v *visit) resets() {
	_ = v.conn.(*net.TCPConn).SetLinger(0)
	_ = v.conn.Close()
	v.hangs = true
}

// half is the first half of a text.
func half(s string) string { return s[:len(s)/2] }

// announce sends the head of a JSON answer and the first half of it.
func (v *visit) announce(body string) {
	fmt.Fprintf(v.conn, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), half(body))
}

// toldByStatus fails the test unless an answer is an error of that status in the face's own words.
// runs says whether the agent may have run, so that nobody is to be invited to run it again.
func toldByStatus(t *testing.T, what string, f face, got reply, status int, runs bool) {
	t.Helper()
	m := f.message(got.body)
	if got.status != status || m == "" || !gjson.Valid(got.body) || !strings.HasPrefix(got.header.Get("Content-Type"), "application/json") {
		t.Errorf("%s: status %d, want %d in the words of %s: %q", what, got.status, status, f.name, got.body)
	}
	if (got.header.Get("X-Should-Retry") == "false") != runs {
		t.Errorf("%s: x-should-retry %q", what, got.header.Get("X-Should-Retry"))
	}
}

// begins asks for a stream and reads the agent's first word. Then it opens the gate, and returns all
// that came until the end of the body.
func (r *running) begins(f face, text string, gate chan struct{}) string {
	r.t.Helper()
	body, headers := f.ask(text, true)
	c := r.dial()
	c.send("POST", f.path, body, headers)
	resp := c.response()
	if resp.StatusCode != 200 {
		r.t.Errorf("%s: status %d", text, resp.StatusCode)
		return ""
	}
	got := until(r.t, resp.Body, "one")
	gate <- struct{}{}
	rest, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Errorf("%s: the body is cut: %v", text, err)
	}
	return got + string(rest)
}

// toldInStream fails the test unless a stream that had begun says that it failed.
func toldInStream(t *testing.T, what string, f face, got string) {
	t.Helper()
	if !strings.HasPrefix(f.text(got, true), "one") || !f.failed(got) {
		t.Errorf("%s: the client is not told: %q", what, got)
	}
}

// TestBackendResetsInMidAnswer resets the connection in the middle of an event, before the first one, and
// in the middle of a JSON answer.
func TestBackendResetsInMidAnswer(t *testing.T) {
	t.Parallel()
	eachCell(t, anyBackend, func(t *testing.T, f face, b script) {
		gate := make(chan struct{})
		back := stage(t, func(v *visit) {
			switch body := string(v.body); {
			case strings.Contains(body, "at once"):
			case b.first == "" || strings.Contains(body, "body"):
				v.announce(b.body)
			default:
				v.open()
				v.chunk(b.first)
				if strings.Contains(body, "late") {
					<-gate
				}
				v.chunk(half(b.rest))
			}
			v.resets()
		})
		r := start(t, agentYAML(b.name, back.addr))
		if streaming(b) {
			toldInStream(t, "in mid-event", f, r.begins(f, "late", gate))
			if line := r.waitLog(1); line["outcome"] != "failed" {
				t.Errorf("%s<-%s: logged %v", f.name, b.name, line)
			}
		}
		for _, how := range []string{"at once", "body"} {
			if how == "body" && !answersJSON(b) {
				how = "events"
			}
			body, headers := f.ask(how, false)
			toldByStatus(t, how, f, r.post(f.path, body, headers), 502, true)
		}
		body, headers := f.ask("at once", true)
		toldByStatus(t, "a stream", f, r.post(f.path, body, headers), 502, true)
	})
}

// TestBackendStallsInMidAnswer has half an event, or half a body, and then silence: the idle timeout says so.
func TestBackendStallsInMidAnswer(t *testing.T) {
	t.Parallel()
	cell := func(f face, b script) {
		gate := make(chan struct{})
		back := stage(t, func(v *visit) {
			switch {
			case b.first == "" || strings.Contains(string(v.body), "body"):
				v.announce(b.body)
			default:
				v.open()
				v.chunk(b.first)
				if strings.Contains(string(v.body), "late") {
					<-gate
				}
				v.chunk(half(b.rest[:strings.Index(b.rest, "\n\n")]))
			}
			v.gone() // the proxy's doing
		})
		r := start(t, agentYAML(b.name, back.addr, "timeouts: {idle: 400ms}"))
		lines := 0
		if streaming(b) {
			got := r.begins(f, "late", gate)
			toldInStream(t, "half an event", f, got)
			lines++
			if line := r.waitLog(lines); line["outcome"] != "timeout" {
				t.Errorf("%s<-%s: logged %v", f.name, b.name, line)
			}
		}
		text := "body"
		if !answersJSON(b) {
			text = "events"
		}
		body, headers := f.ask(text, false)
		toldByStatus(t, text, f, r.post(f.path, body, headers), 504, true)
		lines++
		if line := r.waitLog(lines); line["outcome"] != "timeout" || line["status"] != int64(504) {
			t.Errorf("%s<-%s: logged %v", f.name, b.name, line)
		}
	}
	var wg sync.WaitGroup
	for _, b := range backendScripts { // all at once: they only wait
		for _, f := range clientFaces {
			wg.Go(func() { cell(f, b) })
		}
	}
	wg.Wait()
}

// TestBackendWritesByteByByte sends every byte of an answer in a write of its own, its head and its framing too.
func TestBackendWritesByteByByte(t *testing.T) {
	t.Parallel()
	eachCell(t, anyBackend, func(t *testing.T, f face, b script) {
		back := stage(t, func(v *visit) {
			var all strings.Builder
			if b.first == "" || answersJSON(b) && !strings.Contains(string(v.body), "stream it") {
				fmt.Fprintf(&all, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(b.body), b.body)
			} else {
				s := b.first + b.rest
				fmt.Fprintf(&all, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n%x\r\n%s\r\n0\r\n\r\n", len(s)/2, half(s), len(s)-len(s)/2, s[len(s)/2:])
			}
			for _, c := range []byte(all.String()) {
				if _, err := v.conn.Write([]byte{c}); err != nil {
					t.Error(err)
					return
				}
			}
		})
		r := start(t, agentYAML(b.name, back.addr))
		for _, stream := range []bool{true, false} {
			for _, text := range []string{"stream it", "say it"} {
				body, headers := f.ask(text, stream)
				got := r.post(f.path, body, headers)
				if said := f.text(got.body, stream); got.status != 200 || said != "one two" || stream && !f.whole(got.body) {
					t.Errorf("%s, stream=%t: %d %q", text, stream, got.status, got.body)
				}
			}
		}
	})
}

// TestBackendEndsLinesByCROnly sends a stream whose lines end in CR, cut between any two of them.
func TestBackendEndsLinesByCROnly(t *testing.T) {
	t.Parallel()
	eachCell(t, streaming, func(t *testing.T, f face, b script) {
		sent := strings.ReplaceAll(b.first+b.rest, "\n", "\r")
		back := stage(t, func(v *visit) {
			v.open()
			for _, line := range strings.SplitAfter(sent, "\r") {
				v.chunk(line)
			}
			v.end()
		})
		r := start(t, agentYAML(b.name, back.addr))
		for _, stream := range []bool{true, false} {
			body, headers := f.ask("hello", stream)
			got := r.post(f.path, body, headers)
			read := got.body
			if stream {
				read = strings.ReplaceAll(read, "\r", "\n") // what is passed through keeps its lines
			}
			if said := f.text(read, stream); got.status != 200 || said != "one two" || stream && !f.whole(read) {
				t.Errorf("stream=%t: %d %q", stream, got.status, got.body)
			}
		}
	})
}

// TestBackendAnswersWithHTML has a page of somebody in between where the answer should be.
func TestBackendAnswersWithHTML(t *testing.T) {
	t.Parallel()
	const page = "<!DOCTYPE html><html><body><h1>Welcome to nginx!</h1></body></html>"
	eachCell(t, anyBackend, func(t *testing.T, f face, b script) {
		back := stage(t, func(v *visit) {
			if strings.Contains(string(v.body), "stream") {
				v.open()
				v.chunk(page)
				v.end()
				return
			}
			fmt.Fprintf(v.conn, "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: %d\r\n\r\n%s", len(page), page)
		})
		more := ""
		if b.name == "cycls" { // whose first era was any text
			more = "options: {era: typed}"
		}
		r := start(t, agentYAML(b.name, back.addr, more))
		for _, stream := range []bool{true, false} {
			for _, text := range []string{"a page", "as stream"} {
				body, headers := f.ask(text, stream)
				got := r.post(f.path, body, headers)
				toldByStatus(t, fmt.Sprintf("%s, stream=%t", text, stream), f, got, 502, true)
				if strings.Contains(got.body, "nginx") {
					t.Errorf("the page reached the client: %s", got.body)
				}
			}
		}
	})
}

// TestBackendSaysWhenToComeBack answers 429 and 503 with a date and with seconds.
func TestBackendSaysWhenToComeBack(t *testing.T) {
	t.Parallel()
	eachCell(t, anyBackend, func(t *testing.T, f face, b script) {
		back := stage(t, func(v *visit) {
			status := atoi(v.req.Header.Get("Openai-Case"))
			after := "60"
			if strings.Contains(string(v.body), "date") {
				after = time.Now().Add(60 * time.Second).UTC().Format(http.TimeFormat)
			}
			v.json(status, b.refusal("slow down"), "Retry-After: "+after)
		})
		r := start(t, agentYAML(b.name, back.addr))
		for _, status := range []int{429, 503} {
			for _, text := range []string{"date", "seconds"} {
				for _, stream := range []bool{true, false} {
					body, headers := f.ask(text, stream)
					got := r.post(f.path, body, headers+"Openai-Case: "+strconv.Itoa(status)+"\r\n")
					toldByStatus(t, text, f, got, status, false)
					n, ms := atoi(got.header.Get("Retry-After")), atoi(got.header.Get("Retry-After-Ms"))
					if text == "seconds" && (n != 60 || ms != 60000) || n < 60-int(longest.Seconds()) || n > 60 || ms > 60000 || ms < n*1000-1000 {
						t.Errorf("%d by %s: retry-after %d, retry-after-ms %d", status, text, n, ms)
					}
				}
			}
		}
	})
}

// TestBackendErrorsOfEveryShape answers 5xx with the protocol's own body, with a page, with broken JSON, and with nothing.
func TestBackendErrorsOfEveryShape(t *testing.T) {
	t.Parallel()
	want := map[int]int{500: 502, 502: 502, 503: 503, 504: 504, 599: 502}
	eachCell(t, anyBackend, func(t *testing.T, f face, b script) {
		back := stage(t, func(v *visit) {
			kind, body := "application/json", ""
			switch text := string(v.body); {
			case strings.Contains(text, "own words"):
				body = b.refusal("the reason is blue")
			case strings.Contains(text, "a page"):
				kind, body = "text/html", "<html><h1>the reason is blue</h1></html>"
			case strings.Contains(text, "half"):
				body = half(b.refusal("the reason is blue and long enough to be cut"))
			}
			fmt.Fprintf(v.conn, "HTTP/1.1 %s \r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s", v.req.Header.Get("Openai-Case"), kind, len(body), body)
		})
		r := start(t, agentYAML(b.name, back.addr))
		for status, told := range want {
			for _, text := range []string{"own words", "a page", "half", "nothing"} {
				for _, stream := range []bool{true, false} {
					body, headers := f.ask(text, stream)
					got := r.post(f.path, body, headers+"Openai-Case: "+strconv.Itoa(status)+"\r\n")
					toldByStatus(t, fmt.Sprintf("%d with %s, stream=%t", status, text, stream), f, got, told, status != 503)
					if strings.Contains(got.body, "blue") {
						t.Errorf("%d with %s: the agent's insides are told: %s", status, text, got.body)
					}
				}
			}
		}
	})
}

// TestClientThatNeverReadsEveryBackend sends without end to a client that takes nothing: it is cut, and the backend is
// left, within the write timeout.
func TestClientThatNeverReadsEveryBackend(t *testing.T) {
	t.Parallel()
	for _, b := range backendScripts {
		if !streaming(b) {
			continue
		}
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			left := make(chan struct{})
			back := stage(t, func(v *visit) {
				v.hangs = true
				v.open()
				v.chunk(b.first)
				events := strings.SplitAfter(b.rest, "\n\n")
				more := strings.Replace(events[0], " two", strings.Repeat("x", 60<<10), 1)
				for {
					if _, err := fmt.Fprintf(v.conn, "%x\r\n%s\r\n", len(more), more); err != nil {
						close(left)
						return
					}
				}
			})
			r := start(t, withServer("timeouts: {write: 300ms}", agentYAML(b.name, back.addr)))
			c := r.dial()
			_ = c.bare().(*net.TCPConn).SetReadBuffer(4 << 10)
			c.send("POST", "/v1/chat/completions", chatHelloStream, "")
			if !inTime(left) {
				t.Fatal("the backend is still read")
			}
			line := r.waitLog(1)
			slow := b.name == "cycls" && line["code"] == "client_too_slow" // read ahead, and told: the answer ended as far as that client goes
			if line["outcome"] != "client_gone" || line["status"] != int64(499) && !slow {
				t.Errorf("logged %v", line)
			}
			notCharged(t, r.first())
		})
	}
}

// TestNoDescriptorsForTheBackend runs out of descriptors when it dials: nothing was sent, so that the client may try
// again; and once there are some the next request is served.
func TestNoDescriptorsForTheBackend(t *testing.T) {
	t.Parallel()
	eachCell(t, anyBackend, func(t *testing.T, f face, b script) {
		back := stage(t, func(v *visit) {
			if b.first == "" {
				v.json(200, b.body)
				return
			}
			v.open()
			v.chunk(b.first + b.rest)
			v.end()
		})
		r := start(t, agentYAML(b.name, back.addr))
		o := r.first().backends[0].origin
		dial := o.dial
		var short atomic.Bool
		o.dial = func(ctx context.Context) (net.Conn, error) {
			if short.Load() {
				return nil, &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("socket", syscall.EMFILE)}
			}
			return dial(ctx)
		}
		for _, stream := range []bool{true, false} {
			body, headers := f.ask("hello", stream)
			short.Store(true)
			for range 2 {
				got := r.post(f.path, body, headers)
				toldByStatus(t, "without descriptors", f, got, got.status, false)
				if got.status != 502 && got.status != 503 {
					t.Errorf("without descriptors: %d %s", got.status, got.body)
				}
			}
			short.Store(false)
			if got := r.post(f.path, body, headers); got.status != 200 || f.text(got.body, stream) != "one two" {
				t.Errorf("afterwards: %d %q", got.status, got.body)
			}
			o.close() // the next one dials again
			o.mu.Lock()
			o.closed = false
			o.mu.Unlock()
		}
	})
}

// TestBackendRestartsBetweenRequests restarts a backend between two requests on one connection, which ends that connection by a
// FIN or by a reset: the second request is served on a new one, and was sent once.
func TestBackendRestartsBetweenRequests(t *testing.T) {
	t.Parallel()
	eachCell(t, anyBackend, func(t *testing.T, f face, b script) {
		for _, how := range []string{"FIN", "RST"} {
			asked := make(chan net.Conn, 16)
			back := stage(t, func(v *visit) {
				if b.first == "" {
					v.json(200, b.body)
				} else {
					v.open()
					v.chunk(b.first + b.rest)
					v.end()
				}
				asked <- v.conn
			})
			r := start(t, agentYAML(b.name, back.addr))
			var all []net.Conn
			for i, stream := range []bool{true, false, true} {
				body, headers := f.ask("hello", stream)
				got := r.post(f.path, body, headers)
				if said := f.text(got.body, stream); got.status != 200 || said != "one two" {
					t.Errorf("%s, request %d: %d %q", how, i, got.status, got.body)
				}
				c := <-asked
				all = append(all, c)
				if how == "RST" {
					_ = c.(*net.TCPConn).SetLinger(0)
				}
				_ = c.Close()
				if len(all) > 1 && all[len(all)-2] == c {
					t.Errorf("%s: a connection that has ended was used again", how)
				}
			}
			if n := len(back.seen); n != 3 {
				t.Errorf("%s: the agent was asked %d times, want 3", how, n)
			}
		}
	})
}

// TestNoDescriptorsIsNobodysFault runs out of descriptors when it dials several backends, again and again: that says nothing
// of the backends, and none of them is left alone for it.
func TestNoDescriptorsIsNobodysFault(t *testing.T) {
	t.Parallel()
	back := stage(t, answerWhole)
	r := start(t, strings.Replace(agentYAML("chat", back.addr), "url: http://"+back.addr, `urls: ["http://`+back.addr+`", "http://`+back.addr+`/other"]`, 1))
	var dials []func(context.Context) (net.Conn, error)
	for _, b := range r.first().backends {
		dials = append(dials, b.origin.dial)
		b.origin.dial = func(context.Context) (net.Conn, error) {
			return nil, &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("socket", syscall.EMFILE)}
		}
	}
	for range 12 {
		if got := r.post("/v1/chat/completions", chatHello, ""); got.status != 502 && got.status != 503 || got.header.Get("X-Should-Retry") == "false" {
			t.Errorf("without descriptors: %d %v %s", got.status, got.header, got.body)
		}
	}
	notCharged(t, r.first())
	for i, b := range r.first().backends {
		b.origin.dial = dials[i]
	}
	for range 4 {
		if got := r.post("/v1/chat/completions", chatHello, ""); got.status != 200 {
			t.Errorf("afterwards: %d %s", got.status, got.body)
		}
	}
}
