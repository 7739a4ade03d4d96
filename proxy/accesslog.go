package proxy

import (
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/dragoman-proxy/dragoman/ratelimit"
	"github.com/dragoman-proxy/dragoman/translate"
)

// record gathers what the access log tells of a request: never a body, never a
// key.
type record struct {
	method, path      string
	key               string // the caller's name
	face              string
	agent, backend    string
	stream, through   bool
	status            int
	err               *translate.Error
	bytesIn, bytesOut int64 // of the answer: from the agent, to the client
	firstByte         time.Duration
	dropped           []string
	limited           *ratelimit.Status // what is left of the limits; nil: there are none
	batch             *batchRecord      // nil: no batch
	trace             string            // the id of the client's trace, "" if it has none
	tried             []string          // the backends that were asked, if more than one was
}

// limits notes what is left of the limits.
func (r *record) limits(s ratelimit.Status) {
	if !s.Any() {
		r.unlimited()
		return
	}
	if r.limited == nil {
		r.limited = statuses.Get().(*ratelimit.Status)
	}
	*r.limited = s
}

// unlimited gives up what was noted.
func (r *record) unlimited() {
	if r.limited != nil {
		statuses.Put(r.limited)
		r.limited = nil
	}
}

// statuses are apart from the calls, of which thousands are open, most of them without
// limits.
var statuses = sync.Pool{New: func() any { return new(ratelimit.Status) }}

// write counts a request that has ended and writes its line.
func (r *record) write(c *call) {
	if isProbe(r.path) {
		return // a probe a second says nothing
	}
	outcome := c.outcome()
	if r.batch == nil || r.batch.items == 0 { // the items of a batch count, each for itself
		c.s.meters.count(c, outcome)
	}
	if !c.snap.conf.Log.Access {
		return
	}
	line := c.s.access.Check(zap.InfoLevel, "request")
	if line == nil {
		return
	}
	agent, backend := r.agents()
	f := make([]zap.Field, 0, 28)
	f = append(f,
		zap.String("request_id", c.id),
		zap.String("method", printable(r.method)),
		zap.String("path", printable(r.path)),
		zap.String("key", r.key),
		zap.String("face", r.face),
		zap.String("agent", agent),
		zap.String("backend", backend),
		zap.Bool("stream", r.stream),
		zap.Int("status", r.status),
		zap.Int64("bytes_in", r.bytesIn),
		zap.Int64("bytes_out", r.bytesOut),
		zap.Duration("total", time.Since(c.start)),
	)
	if c.at != nil {
		f = append(f, zap.String("upstream", c.at.name))
	}
	if r.trace != "" {
		f = append(f, zap.String("trace_id", r.trace))
	}
	if r.firstByte > 0 {
		f = append(f, zap.Duration("first_byte", r.firstByte))
	}
	if r.through {
		f = append(f, zap.Bool("passed_through", true))
	}
	if c.ans != nil {
		if c.ans.Ended() && c.ans.Err() == nil {
			f = append(f, zap.String("finish", c.ans.Reason().String()))
		}
		if u := c.ans.Usage(); u.Known() {
			f = append(f, zap.Int64("input_tokens", u.Input), zap.Int64("output_tokens", u.Output))
		}
	}
	if b := r.batch; b != nil {
		f = append(f, zap.Int("items", b.items), zap.Int("failed", b.failed),
			zap.Int64("input_tokens", b.usage.Input), zap.Int64("output_tokens", b.usage.Output))
	}
	f = append(f, zap.String("outcome", outcome))
	if n := r.attempts(); n > 1 {
		f = append(f, zap.Int("attempts", n), zap.Strings("tried", r.tried))
	}
	if len(r.dropped) > 0 {
		// Names may be fields as the client wrote them, in a body that is used
		// again when this returns; a log may keep what it is given.
		names := make([]string, len(r.dropped))
		for i, n := range r.dropped {
			names[i] = strings.Clone(n)
		}
		f = append(f, zap.Strings("dropped", names))
	}
	if r.err != nil {
		f = append(f, zap.String("code", strings.Clone(r.err.Code)), zap.String("error", c.printableError(r.err)))
	}
	line.Write(f...)
}

// printableError is an error's text without the agent's credential: a backend
// that refuses it may repeat it.
func (c *call) printableError(e *translate.Error) string {
	s := e.Error()
	if c.agent != nil && !c.agent.conf.Credential.IsZero() {
		secret := c.agent.conf.Credential.Value.Reveal()
		secret = secret[strings.LastIndexByte(secret, ' ')+1:] // without "Bearer"
		if secret != "" {
			s = strings.ReplaceAll(s, secret, "<secret>")
		}
	}
	if len(s) > 512 {
		return s[:512] + "…"
	}
	return strings.Clone(s)
}

// traceID is the trace of a W3C traceparent header, "" if it is none.
func traceID(parent []byte) string {
	// version-trace-parent-flags; a later version may have more behind it.
	if len(parent) < 55 || parent[2] != '-' || parent[35] != '-' || parent[52] != '-' || len(parent) > 55 && (parent[55] != '-' || string(parent[:2]) == "00") {
		return ""
	}
	zero := true
	for i, b := range parent[:55] {
		if i == 2 || i == 35 || i == 52 {
			continue
		}
		if (b < '0' || b > '9') && (b < 'a' || b > 'f') {
			return ""
		}
		if i > 2 && i < 35 && b != '0' {
			zero = false
		}
	}
	if zero || string(parent[:2]) == "ff" {
		return ""
	}
	return string(parent[3:35])
}
