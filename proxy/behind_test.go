package proxy

import (
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestHeartbeatsGoOnBehindCatchingUp: a reader that was behind, and has caught up, is kept
// alive again while its agent thinks.
func TestHeartbeatsGoOnBehindCatchingUp(t *testing.T) {
	t.Parallel()
	const events = 1000
	overEveryWire(t, func(t *testing.T, start starter) {
		b := streamScript("cycls")
		said, gate := make(chan struct{}), make(chan struct{})
		goOn := sync.OnceFunc(func() { close(gate) })
		defer goOn()
		back := stage(t, func(v *visit) {
			v.open()
			for n := range events {
				v.writes(b.wordy(n))
			}
			close(said)
			<-gate
			v.chunk(b.rest[strings.Index(b.rest, "\n\n")+2:])
			v.end()
		})
		r := start(t, strings.Replace(agentYAML("cycls", back.addr), "stream: 0s", "stream: 10ms", 1), readAhead(64<<20))
		c := r.dial()
		f := clientFaces[0]
		body, headers := f.ask("hello", true)
		c.send("POST", f.path, body, headers)
		<-said
		resp := c.response()
		got := until(t, resp.Body, ": ping\n\n: ping\n\n")
		goOn()
		rest, _ := io.ReadAll(resp.Body)
		if got += string(rest); counted(t, &f, strings.ReplaceAll(got, ": ping\n\n", "")) != events || !f.whole(got) {
			t.Errorf("…%q", got[max(0, len(got)-500):])
		}
	})
}

// TestWhoNeverReadsIsCutThoughTheAgentGoesOn: the deadline of a write is that of what is
// being written; what the agent says meanwhile does not extend it.
func TestWhoNeverReadsIsCutThoughTheAgentGoesOn(t *testing.T) {
	t.Parallel()
	overEveryWire(t, func(t *testing.T, start starter) { // on TCP the kernel has a limit of its own
		b := streamScript("cycls")
		cut := make(chan struct{})
		back := stage(t, func(v *visit) {
			v.hangs = true
			v.open()
			for n := 0; v.writes(b.wordy(n)); n++ {
				if n >= 1000 { // the client is behind by now
					time.Sleep(5 * time.Millisecond) //nolint:forbidigo // an agent that says something now and then
				}
			}
			close(cut)
		})
		r := start(t, withServer("timeouts: {write: 500ms}", agentYAML("cycls", back.addr)), readAhead(64<<30))
		c := r.dial()
		c.narrow()
		c.send("POST", "/v1/chat/completions", chatHelloStream, "")
		select {
		case <-cut:
		case <-time.After(longest):
			t.Fatal("it is still being written to")
		}
		if line := r.waitLog(1); line["outcome"] != "client_gone" || line["code"] == "client_too_slow" {
			t.Errorf("logged %v", line)
		}
		waitFor(t, "the client's connection", func() bool { return r.open() == 0 })
	})
}

// TestStalledReaderIsNotTheBackendsSilence: what a client takes its time for does not count
// as silence of the agent, which would be charged for it.
func TestStalledReaderIsNotTheBackendsSilence(t *testing.T) {
	t.Parallel()
	const events = 2000
	b := streamScript("chat")
	var wrote atomic.Int64
	back := stage(t, func(v *visit) {
		v.open()
		for n := range events {
			if !v.writes(b.wordy(n)) {
				v.hangs = true
				return
			}
			wrote.Store(int64(n + 1))
		}
		v.chunk(b.rest[strings.Index(b.rest, "\n\n")+2:])
		v.end()
	})
	r := start(t, agentYAML("chat", back.addr, "timeouts: {idle: 1s}"))
	c := r.dial()
	f := clientFaces[0]
	body, headers := f.ask("hello", true)
	c.send("POST", f.path, body, headers)
	waitFor(t, "the answer to begin", func() bool { return wrote.Load() > 0 })
	for seen := int64(-1); seen != wrote.Load(); { // until it is stuck, and longer than the agent may be silent
		seen = wrote.Load()
		time.Sleep(1200 * time.Millisecond) //nolint:forbidigo // the client takes its time
	}
	got := c.reply()
	if n := counted(t, &f, got.body); n != events || !f.whole(got.body) {
		t.Errorf("%d events, …%q", n, got.body[max(0, len(got.body)-500):])
	}
	if line := r.waitLog(1); line["outcome"] != "completed" {
		t.Errorf("logged %v", line)
	}
}
