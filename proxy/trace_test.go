package proxy

import (
	"strings"
	"testing"
)

// TestTraceGoesOn holds that the trace context and the request id of a client reach a
// backend of every protocol as they are, and that the id comes back and both stand in the
// access log with the backend's name.
func TestTraceGoesOn(t *testing.T) {
	t.Parallel()
	const parent, state, baggage = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "vendor=a;b,other=00f067aa0ba902b7", "user=Am%C3%A9lie,k=v;p=1"
	for _, script := range backendScripts {
		for _, stream := range []string{"true", "false"} {
			t.Run(script.name+" "+stream, func(t *testing.T) {
				t.Parallel()
				back := stage(t, func(v *visit) { v.json(200, script.body) })
				r := start(t, agentYAML(script.name, back.addr))
				got := r.post("/v1/chat/completions", `{"model":"it","messages":[{"role":"user","content":"x"}],"stream":`+stream+`}`,
					"traceparent: "+parent+"\r\ntracestate: "+state+"\r\nBaggage: "+baggage+"\r\nX-Request-Id: mine-1\r\n")
				h := (<-back.seen).req.Header
				for name, want := range map[string]string{"Traceparent": parent, "Tracestate": state, "Baggage": baggage, "X-Request-Id": "mine-1"} {
					if have := h.Values(name); len(have) != 1 || have[0] != want {
						t.Errorf("%s: the backend got %q, want %q", name, have, want)
					}
				}
				if have := got.header.Get("X-Request-Id"); have != "mine-1" {
					t.Errorf("the client got the id %q", have)
				}
				line := r.waitLog(1)
				for name, want := range map[string]any{"request_id": "mine-1", "trace_id": parent[3:35], "upstream": back.addr, "backend": script.name} {
					if line[name] != want {
						t.Errorf("logged %s=%v, want %v", name, line[name], want)
					}
				}
			})
		}
	}
}

// TestOwnRequestID holds that a request without a sane id gets one, the same for the
// client, the backend and the log, and that no trace is made up.
func TestOwnRequestID(t *testing.T) {
	t.Parallel()
	back := stage(t, func(v *visit) { v.json(200, backendScripts[0].body) })
	r := start(t, agentYAML("chat", back.addr))
	for i, header := range []string{"", "X-Request-Id: no spaces\r\n", "X-Request-Id: " + strings.Repeat("a", 129) + "\r\n"} {
		got := r.post("/v1/chat/completions", `{"model":"it","messages":[{"role":"user","content":"x"}]}`, header)
		id := got.header.Get("X-Request-Id")
		h := (<-back.seen).req.Header
		line := r.waitLog(i + 1)
		if !strings.HasPrefix(id, "req_") || h.Get("X-Request-Id") != id || line["request_id"] != id {
			t.Errorf("%q: the client got %q, the backend %q, the log %v", header, id, h.Get("X-Request-Id"), line["request_id"])
		}
		if _, made := line["trace_id"]; made || h.Get("Traceparent") != "" {
			t.Errorf("%q: a trace was made up", header)
		}
	}
}

// TestTraceID holds what is a trace and what is none, so that a client cannot write what it
// likes into the log.
func TestTraceID(t *testing.T) {
	t.Parallel()
	const id = "4bf92f3577b34da6a3ce929d0e0e4736"
	f := func(parent, want string) {
		t.Helper()
		if got := traceID([]byte(parent)); got != want {
			t.Errorf("%q: %q, want %q", parent, got, want)
		}
	}
	f("00-"+id+"-00f067aa0ba902b7-01", id)
	f("01-"+id+"-00f067aa0ba902b7-01-later", id)
	f("", "")
	f("00-1-2-01", "")
	f("00-"+id+"-00f067aa0ba902b7-01-more", "")
	f("01-"+id+"-00f067aa0ba902b7-01more", "")
	f("ff-"+id+"-00f067aa0ba902b7-01", "")
	f("00-"+strings.Repeat("0", 32)+"-00f067aa0ba902b7-01", "")
	f("00-"+strings.ToUpper(id)+"-00f067aa0ba902b7-01", "")
	f("00-"+id[:31]+"\n-00f067aa0ba902b7-01", "")
	f("00-"+id+"x00f067aa0ba902b7-01", "")
}
