package proxy

import (
	"io"
	"net"
	"strings"
	"testing"
)

// TestStalledReaderIsCut: who takes nothing of an answer within the write timeout
// loses it, its agent is let go, and nobody else notices.
func TestStalledReaderIsCut(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"a stream", "JSON"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			let := make(chan struct{})
			cut := make(chan struct{})
			back := stage(t, func(v *visit) {
				switch {
				case strings.Contains(string(v.body), "good"):
					v.open()
					v.chunk(chatScript().first)
					<-let // the stalled one has been cut while this one was under way
					v.chunk(chatScript().rest)
					v.end()
				case kind == "JSON":
					v.json(200, strings.Replace(chatScript().body, "one two", strings.Repeat("x", 12<<20), 1))
				default:
					defer close(cut)
					v.open()
					one := strings.Replace(chatScript().first, "one", strings.Repeat("x", 60<<10), 1)
					for {
						if _, err := io.WriteString(v.conn, hexChunk(one)); err != nil {
							v.hangs = true
							return
						}
					}
				}
			})
			r := start(t, withServer("timeouts: {write: 100ms}", agentYAML("chat", back.addr)))
			good := r.dial()
			good.send("POST", "/v1/chat/completions", strings.Replace(chatHelloStream, "hello", "good", 1), "")
			resp := good.response()

			bad := r.dial()
			_ = bad.Conn.(*net.TCPConn).SetReadBuffer(4 << 10)
			if kind == "JSON" {
				bad.send("POST", "/v1/chat/completions", chatHello, "")
				<-back.seen
				<-back.seen
				waitFor(t, "the end of the stalled client's connection", func() bool { return r.open() <= 1 })
			} else {
				bad.send("POST", "/v1/chat/completions", chatHelloStream, "")
				<-cut
				if line := r.waitLog(1); line["outcome"] != "client_gone" {
					t.Errorf("logged %v", line)
				}
			}
			close(let)
			if body, err := io.ReadAll(resp.Body); err != nil || !chatWhole(string(body)) {
				t.Errorf("the good client got %v: %s", err, body)
			}
		})
	}
}

func hexChunk(s string) string { return string(appendChunk(nil, []byte(s))) }

// open is the number of clients' connections.
func (r *running) open() int {
	r.mu.Lock()
	l := r.ln
	r.mu.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.conns)
}
