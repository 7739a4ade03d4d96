package proxy

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/tidwall/gjson"
)

// TestEveryDeadlineEndsWithTheTruth lets each of an agent's time limits pass, for every
// protocol of backends, every face and both modes: the client is told in its own protocol,
// by a status as long as it has none, and the agent's connection is closed.
func TestEveryDeadlineEndsWithTheTruth(t *testing.T) {
	t.Parallel()
	const begun = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type: "
	limits := []struct {
		name, limit string
		serve       func(v *visit, b *script, stream bool)
		told        bool // the client may have a status already
	}{
		{"connect", "connect: 20ms", nil, false},
		{"first byte", "first_byte: 20ms", func(v *visit, _ *script, _ bool) { v.gone() }, false},
		{"idle in the head", "first_byte: 20ms", func(v *visit, _ *script, _ bool) {
			_, _ = io.WriteString(v.conn, "HTTP/1.1 200 OK\r\nContent-")
			v.gone()
		}, false},
		{"idle behind the head", "idle: 20ms", func(v *visit, b *script, stream bool) {
			_, _ = io.WriteString(v.conn, begun+b.contentType(stream)+"\r\n\r\n")
			v.gone()
		}, false},
		{"idle", "idle: 20ms", func(v *visit, b *script, stream bool) {
			_, _ = io.WriteString(v.conn, begun+b.contentType(stream)+"\r\n\r\n"+hexChunk(b.some(stream)))
			v.gone()
		}, true},
		{"total, silent", "total: 20ms", func(v *visit, _ *script, _ bool) { v.gone() }, false},
		{"total", "total: 20ms", func(v *visit, b *script, stream bool) {
			beat := ": ping\n\n"
			if b.contentType(stream) == "application/json" {
				beat = " "
			}
			_, _ = io.WriteString(v.conn, begun+b.contentType(stream)+"\r\n\r\n"+hexChunk(b.some(stream)))
			for v.writes(beat) {
				time.Sleep(time.Millisecond) //nolint:forbidigo // an agent that babbles
			}
			v.hangs = true
		}, true},
	}
	eachCell(t, anyBackend, func(t *testing.T, f face, b script) {
		for _, l := range limits {
			for _, stream := range []bool{true, false} {
				left := make(chan struct{})
				back := stage(t, func(v *visit) {
					defer close(left)
					l.serve(v, &b, stream)
				})
				r := start(t, agentYAML(b.name, back.addr, "timeouts: {"+l.limit+"}"), func(s *Server) {
					if l.serve == nil { // the address that never answers
						snap := s.snapshot()
						snap.agents[&snap.conf.Agents[0]].backends[0].origin.dial = func(ctx context.Context) (net.Conn, error) {
							<-ctx.Done()
							return nil, ctx.Err()
						}
					}
				})
				body, headers := f.ask("hello", stream)
				got := r.post(f.path, body, headers)
				switch {
				case got.status == 504:
					if f.message(got.body) == "" || !gjson.Valid(got.body) {
						t.Errorf("%s, stream=%t: %q", l.name, stream, got.body)
					}
					if no := got.header.Get("X-Should-Retry") == "false"; no && l.serve == nil || !no && len(back.seen) > 0 {
						t.Errorf("%s, stream=%t: no retry is %t", l.name, stream, no)
					}
				case got.status == 200 && l.told && stream && f.failed(got.body):
				default:
					t.Errorf("%s, stream=%t: %d %q", l.name, stream, got.status, got.body)
				}
				line := r.waitLog(1)
				if line["outcome"] != "timeout" || line["status"] != int64(got.status) {
					t.Errorf("%s, stream=%t: logged %v", l.name, stream, line)
				}
				if len(back.seen) > 0 { // on a slow machine no agent may have heard of it
					<-left
				}
			}
		}
	})
}

// contentType is that of the backend's answer to a request in a mode.
func (b *script) contentType(stream bool) string {
	if b.body == "" || stream && b.first != "" {
		return eventStreamType
	}
	return "application/json"
}

// some is the beginning of the backend's answer.
func (b *script) some(stream bool) string {
	if b.contentType(stream) == "application/json" {
		return b.body[:len(b.body)/2]
	}
	return b.first
}

// TestWriteDeadlineEndsEveryStream: a client that takes nothing loses a stream of any
// backend, and that one's connection is closed.
func TestWriteDeadlineEndsEveryStream(t *testing.T) {
	t.Parallel()
	for _, b := range backendScripts {
		if b.first == "" {
			continue
		}
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			cut := make(chan struct{})
			back := stage(t, func(v *visit) {
				v.hangs = true
				v.open()
				for n := 0; v.writes(b.wordy(n)); n++ {
				}
				close(cut)
			})
			r := start(t, withServer("timeouts: {write: 100ms}", agentYAML(b.name, back.addr)))
			c := r.dial()
			c.narrow()
			c.send("POST", "/v1/responses", `{"model":"it","input":"hello","stream":true}`, "")
			<-cut
			if line := r.waitLog(1); line["outcome"] != "client_gone" || line["code"] == "client_too_slow" && b.name != "cycls" {
				t.Errorf("logged %v", line)
			}
			waitFor(t, "the client's connection", func() bool { return r.open() == 0 })
		})
	}
}

// preambles are what backends say before their agent has said anything.
func preambles() map[string]string {
	chat := `data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}` + "\n\n"
	responses := backendScripts[1].first[:strings.Index(backendScripts[1].first, "event: response.output_item.added")]
	swarms := backendScripts[4].first[:strings.Index(backendScripts[4].first, "event: chunk")]
	cycls := backendScripts[5].first[:strings.Index(backendScripts[5].first, "\n\n")+2]
	return map[string]string{"chat": chat, "responses": responses, "swarms": swarms, "cycls": cycls}
}

// TestWriteDeadlineOnSockets holds that the write deadline is ours: where the clients come by
// unix sockets no kernel gives up on one that takes nothing.
func TestWriteDeadlineOnSockets(t *testing.T) {
	t.Parallel()
	for _, stream := range []bool{true, false} {
		t.Run(map[bool]string{true: "stream", false: "JSON"}[stream], func(t *testing.T) {
			t.Parallel()
			back := stage(t, func(v *visit) {
				if !stream {
					v.json(200, strings.Replace(chatScript().body, "one two", strings.Repeat("x", 4<<20), 1))
					return
				}
				v.hangs = true
				v.open()
				for one := strings.Replace(chatScript().first, "one", strings.Repeat("x", 60<<10), 1); v.writes(one); {
				}
			})
			r := startOver(t, "unix", withServer("timeouts: {write: 100ms}", agentYAML("chat", back.addr)))
			c := r.dial()
			body, _ := clientFaces[0].ask("hello", stream)
			c.send("POST", "/v1/chat/completions", body, "")
			if line := r.waitLog(1); line["outcome"] != "client_gone" || line["status"] != int64(499) {
				t.Errorf("logged %v", line)
			}
			waitFor(t, "the client's connection", func() bool { return r.open() == 0 })
		})
	}
}

// TestPreambleDoesNotCommit: an agent that has only opened its answer can still fail with a
// status, for as long and for as many bytes as the bounds allow.
func TestPreambleDoesNotCommit(t *testing.T) {
	t.Parallel()
	for name, preamble := range preambles() {
		b := streamScript(name)
		for _, f := range clientFaces {
			t.Run(f.name+"<-"+name, func(t *testing.T) {
				t.Parallel()
				never := func(s *Server) { s.hold = time.Hour }
				body, headers := f.ask("hello", true)

				// It fails behind the preamble, by its own words and by closing.
				for _, how := range []string{"says", "closes"} {
					back := stage(t, func(v *visit) {
						v.open()
						v.chunk(preamble)
						if how == "says" {
							v.chunk(b.failure)
							v.end()
						}
						v.hangs = true
					})
					r := start(t, agentYAML(name, back.addr), never)
					if got := r.post(f.path, body, headers); got.status != 502 || f.message(got.body) == "" {
						t.Errorf("%s: %d %q", how, got.status, got.body)
					}
				}

				// Time commits it: not before the bound, but without another byte.
				goesOn := make(chan struct{})
				back := stage(t, func(v *visit) {
					v.open()
					v.chunk(preamble)
					<-goesOn
					v.chunk(b.failure)
					v.end()
				})
				r := start(t, agentYAML(name, back.addr))
				c := r.dial()
				began := time.Now()
				c.send("POST", f.path, body, headers)
				resp := c.response()
				if took := time.Since(began); resp.StatusCode != 200 || took < preambleTime {
					t.Errorf("committed after %v with %d", took, resp.StatusCode)
				}
				close(goesOn)
				if got, err := io.ReadAll(resp.Body); err != nil || !f.failed(string(got)) {
					t.Errorf("after the time: %v %q", err, got)
				}
			})
		}
	}
}

// TestPreambleIsBoundedInBytes: what is held back of a client's answer stays small, however
// long the agent goes on saying nothing.
func TestPreambleIsBoundedInBytes(t *testing.T) {
	t.Parallel()
	for name, preamble := range preambles() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := clientFaces[0]
			for _, through := range clientFaces {
				if through.name == name {
					f = through // every comment of the backend's is an output
				}
			}
			b := streamScript(name)
			goesOn := make(chan struct{})
			var sent int
			back := stage(t, func(v *visit) {
				v.open()
				v.chunk(preamble)
				for ; sent < preambleSize; sent += 1000 {
					v.chunk(": " + strings.Repeat("x", 996) + "\n\n")
				}
				<-goesOn
				v.chunk(b.failure)
				v.end()
			})
			r := start(t, agentYAML(name, back.addr), func(s *Server) { s.hold = time.Hour })
			c := r.dial()
			body, headers := f.ask("hello", true)
			c.send("POST", f.path, body, headers)
			resp := c.response() // the backend has said no more
			close(goesOn)
			if got, err := io.ReadAll(resp.Body); resp.StatusCode != 200 || err != nil || !f.failed(string(got)) {
				t.Errorf("%d %v …%q", resp.StatusCode, err, got[max(0, len(got)-200):])
			}
		})
	}
}

// TestHeartbeatsNeverSplitAFrame cuts a backend's stream at random places and goes on only
// when the client has had another heartbeat: without them it gets what it gets without
// them, to the byte where nothing is translated.
func TestHeartbeatsNeverSplitAFrame(t *testing.T) {
	t.Parallel()
	eachCell(t, streaming, func(t *testing.T, f face, b script) {
		rnd := rand.New(rand.NewPCG(uint64(len(f.name)), uint64(len(b.name)))) // #nosec G404 -- not for secrets
		whole := b.first + b.rest
		for range 3 {
			beat := make(chan struct{}, 1)
			var cuts []string
			for rest := whole; rest != ""; {
				n := 1 + rnd.IntN(min(len(rest), len(whole)/4))
				cuts, rest = append(cuts, rest[:n]), rest[n:]
			}
			back := stage(t, func(v *visit) {
				<-beat // before the first byte too
				v.open()
				for _, piece := range cuts {
					select { // the one that is due, and not one of before
					case <-beat:
					default:
					}
					v.chunk(piece)
					if !v.waits(beat) {
						return
					}
				}
				v.end()
			})
			r := start(t, agentYAML(b.name, back.addr), beating(time.Millisecond))
			c := r.dial()
			body, headers := f.ask("hello", true)
			c.send("POST", f.path, body, headers)
			resp := c.response()
			var got strings.Builder
			p := make([]byte, 4096)
			for {
				n, err := resp.Body.Read(p)
				got.Write(p[:n])
				if strings.Contains(string(p[:n]), ": ping") {
					select {
					case beat <- struct{}{}:
					default:
					}
				}
				if err != nil {
					close(beat)
					if err != io.EOF {
						t.Fatal(err)
					}
					break
				}
			}
			for frame := range strings.SplitSeq(strings.TrimSuffix(got.String(), "\n\n"), "\n\n") {
				if strings.Contains(frame, ": ping") && frame != ": ping" {
					t.Errorf("a heartbeat within %q", frame)
				}
			}
			text := strings.ReplaceAll(got.String(), streamBeat, "")
			if f.text(text, true) != "one two" || !f.whole(text) || f.name == b.name && text != whole {
				t.Errorf("cut into %s: %q", fmt.Sprint(len(cuts)), got.String())
			}
		}
	})
}

// waits waits for another heartbeat at the client; false: there will be none, because its
// answer has ended.
func (v *visit) waits(beat chan struct{}) bool {
	if _, ok := <-beat; ok {
		return true
	}
	v.hangs = true
	return false
}

// TestLargeAnswersAreLoggedAsTheClientSawThem: whether the client took an answer that the
// kernel does not keep is known only when it is written, and the log line waits for that.
func TestLargeAnswersAreLoggedAsTheClientSawThem(t *testing.T) {
	t.Parallel()
	const size = 8 << 20
	large := strings.Replace(chatScript().body, "one two", strings.Repeat("x", size), 1)
	overEveryWire(t, func(t *testing.T, start starter) {
		back := stage(t, func(v *visit) { v.json(200, large) })
		with := func(limit string) *running {
			return start(t, withServer("timeouts: {write: "+limit+"}", agentYAML("chat", back.addr)), func(s *Server) {
				s.snapshot().conf.Agents[0].Heartbeat.JSON = time.Hour // it does not come to that
			})
		}
		r, lines := with("30s"), 0
		logged := func(outcome string, status int64) {
			t.Helper()
			lines++
			if line := r.waitLog(lines); line["outcome"] != outcome || line["status"] != status || (outcome == "completed") != (line["bytes_out"].(int64) >= size) {
				t.Errorf("logged %v, want %s", line, outcome)
			}
		}
		c := r.dial()
		for range 2 {
			c.send("POST", "/v1/chat/completions", chatHello, "")
			c.send("GET", "/v1/models", "", "") // ahead of the answer
			got := c.reply()
			if got.status != 200 || got.body != large || got.header.Get("Content-Length") != fmt.Sprint(len(large)) || got.header.Get("Content-Type") != "application/json" ||
				got.header.Get("Dragoman-Agent") != "it" || got.header.Get("X-Request-Id") == "" || got.header.Get("Date") == "" || got.header.Get("Connection") != "" {
				t.Errorf("%d %v, %d bytes", got.status, got.header, len(got.body))
			}
			if got := c.reply(); got.status != 200 {
				t.Errorf("sent ahead: %d", got.status)
			}
			logged("completed", 200)
			lines++ // of the other request
			r.waitLog(lines)
		}
		for _, proto := range []string{"HTTP/1.0\r\n", "HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"} {
			c := r.dial()
			_, _ = fmt.Fprintf(c, "POST /v1/chat/completions %sContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", proto, len(chatHello), chatHello)
			if got := c.reply(); got.body != large {
				t.Errorf("%q: %d bytes", proto, len(got.body))
			}
			if _, err := c.r.ReadByte(); err != io.EOF {
				t.Errorf("%q: the connection stays open: %v", proto, err)
			}
			logged("completed", 200)
		}
		// One that leaves in the middle, and one that does not read.
		r, lines = with("300ms"), 0
		for _, closes := range []bool{true, false} {
			c := r.dial()
			c.narrow()
			c.send("POST", "/v1/chat/completions", chatHello, "")
			if closes {
				_, _ = io.CopyN(io.Discard, c.r, 1000)
				_ = c.Close()
			}
			logged("client_gone", 499)
			waitFor(t, "the client's connection", func() bool { return r.open() <= 1 })
		}
	})
}
