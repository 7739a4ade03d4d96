package proxy

import (
	"bufio"
	"runtime"
	"strings"
	"testing"
)

// TestOpenStreamsKeepNoConversation opens streams whose requests are large, and looks at
// the heap while they are open: the requests are gone. It runs alone: what it measures is
// the process's.
func TestOpenStreamsKeepNoConversation(t *testing.T) {
	const streams, size = 24, 1 << 20
	gate := make(chan struct{})
	b := stage(t, func(v *visit) {
		v.body = nil
		v.open()
		v.chunk(`data: {"type": "text", "text": "Hello "}` + "\n\n")
		<-gate
		v.chunk("data: [DONE]\n\n")
		v.end()
	})
	r := start(t, agentYAML("cycls", b.addr))
	heap := func() int64 {
		runtime.GC()
		runtime.GC() // what a pool holds lives through one
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	body := `{"model":"it","stream":true,"messages":[{"role":"user","content":"` + strings.Repeat("x", size) + `"}]}`
	lines := func(c *client, until string) {
		t.Helper()
		for {
			line, err := c.r.ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(line, until) {
				return
			}
		}
	}
	before := heap()
	var clients []*client
	for range streams {
		c := r.dial()
		c.r = bufio.NewReaderSize(c.Conn, 1<<10)
		c.send("POST", "/v1/chat/completions", body, "")
		lines(c, `"content":"Hello "`)
		<-b.seen
		clients = append(clients, c)
	}
	if grown := heap() - before; grown > streams*size/2 {
		t.Errorf("%d streams hold %d bytes, and their requests were of %d", streams, grown, streams*size)
	}
	close(gate)
	for _, c := range clients {
		lines(c, "data: [DONE]")
	}
}
