package proxy

import (
	"encoding/binary"
	"errors"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/dragoman-proxy/dragoman/auth"
	"github.com/dragoman-proxy/dragoman/internal/balance"
	"github.com/dragoman-proxy/dragoman/translate"
)

// maxErrorBody is how much of a backend's error body is read for its message.
const maxErrorBody = 64 << 10

// ask sends the encoded request to a backend of the agent and leaves an exchange whose
// status is one of success; else it says what the failure means. Where the agent may
// listen on one of several paths they are tried in turn: a 404 or 405 says that
// nothing has run.
func (c *call) ask(client *fasthttp.RequestHeader, body []byte) (*translate.Error, fate, balance.Result) {
	a, b := c.agent, c.at
	d := deadlines{FirstByte: a.conf.Timeouts.FirstByte, Idle: a.conf.Timeouts.Idle, Total: c.total}
	c.mask = mask{secret: a.secret}
	head := takeBuffer()
	defer head.drop()
	first := int(b.served.Load())
	for i := range a.paths {
		n := (first + i) % len(a.paths)
		head.b = c.appendHead(head.b[:0], client, b.host, a.path(b, n, c.req), len(body))
		c.sent = true
		x, err := b.origin.roundTrip(&c.cancel, head.b, body, d)
		if err != nil {
			c.lost = mayHaveRun(err)
			c.ran = c.ran || c.lost
			e := callError(err)
			switch {
			case c.cancel.Err() != nil:
				return e, final, balance.Neutral
			case c.lost:
				return e, perhaps, balance.Failure
			case exhausted(err):
				return e, unreached, balance.Neutral
			}
			return e, unreached, balance.Failure
		}
		c.x = x
		status := x.Status()
		if (status == 404 || status == 405) && i < len(a.paths)-1 {
			_, err := x.readAll(nil, maxErrorBody)
			x.finish(err == nil)
			continue
		}
		c.passed = a.appendPassed(nil, x, a.conf.Credential.Forward && (status == 401 || status == 403))
		if status/100 == 2 {
			if n != first {
				b.served.Store(int32(n)) // #nosec G115 -- a handful of paths
			}
			return nil, final, balance.Success
		}
		e := c.backendError(x)
		if c.cancel.Err() != nil {
			return e, final, balance.Neutral
		}
		switch status {
		case 429:
			return e, declined, balance.Neutral
		case 503:
			return e, declined, balance.Failure
		case 502, 504:
			c.ran = true
			return e, perhaps, balance.Failure
		}
		return e, final, balance.Success
	}
	panic("BUG: an agent without a path")
}

// appendHead writes the head of a request to the agent: what is fixed, who the
// client is where a trusted proxy tells, and of the client's headers those on the
// list. The client's credential is on it only for an agent that is to have it.
func (c *call) appendHead(dst []byte, client *fasthttp.RequestHeader, host, path string, length int) []byte {
	dst = append(dst, "POST "...)
	dst = append(dst, path...)
	dst = append(dst, " HTTP/1.1\r\nHost: "...)
	dst = append(dst, host...)
	dst = append(dst, "\r\n"...)
	dst = append(dst, c.agent.head...)
	if c.asks {
		dst = append(dst, "Accept: text/event-stream\r\n"...)
	} else {
		dst = append(dst, "Accept: application/json\r\n"...)
	}
	dst = append(dst, "X-Request-Id: "...)
	dst = append(dst, c.id...)
	dst = append(dst, "\r\nContent-Length: "...)
	dst = strconv.AppendInt(dst, int64(length), 10)
	dst = append(dst, "\r\n"...)
	if !c.agent.saysHops {
		dst = append(dst, c.hops...)
	}
	dst = c.agent.appendClientHeaders(dst, client, c.who != auth.Anonymous)
	return append(dst, "\r\n"...)
}

// cleanValue reports whether a header value can be written as it is.
func cleanValue(v []byte) bool {
	// Eight bytes at once: most values have nothing but text. A byte above 0x7f
	// in a word sends it the slow way too.
	const ones, high = 0x0101010101010101, 0x8080808080808080
	for len(v) >= 8 {
		x := binary.LittleEndian.Uint64(v)
		del := x ^ 0x7f*ones
		if ((x-0x20*ones)|(del-ones)|x)&high != 0 {
			for _, b := range v[:8] {
				if !valueByte[b] {
					return false
				}
			}
		}
		v = v[8:]
	}
	for _, b := range v {
		if !valueByte[b] {
			return false
		}
	}
	return true
}

var valueByte = func() (t [256]bool) {
	for c := range t {
		t[c] = c >= ' ' && c != 0x7f || c == '\t'
	}
	return t
}()

// backendError reads an answer that is no success and maps it.
func (c *call) backendError(x *exchange) *translate.Error {
	retry := retryAfter(x.Header("Retry-After-Ms"), x.Header("Retry-After"))
	contentType, encoded := string(x.ContentType()), isEncoded(x)
	body := takeBuffer()
	defer body.drop()
	var err error
	body.b, err = x.readAll(body.b, maxErrorBody)
	if cause := c.cancel.Err(); cause != nil {
		return callError(&upstreamError{Op: "read", Sent: true, Canceled: true, Err: cause})
	}
	if encoded {
		body.b = body.b[:0] // what it says cannot be read
	}
	parsed := translate.ParseErrorBody(contentType, body.b)
	status := x.Status()
	// uvicorn closes the connection a moment after the 500 of an exception,
	// without a word of it in the header: the next request on it would be lost.
	x.finish(err == nil && status != 500)
	e := translate.BackendStatus(status, parsed, retry, c.agent.conf.Credential.Forward)
	if a := c.agent; len(a.secret) > 0 {
		e.Message, e.Code, e.Param = a.secret.hide(e.Message), a.secret.hide(e.Code), a.secret.hide(e.Param)
		if e.Cause != nil && a.secret.in([]byte(e.Cause.Error())) {
			e.Cause = errors.New(a.secret.hide(e.Cause.Error()))
		}
	}
	return e
}

// isEncoded reports whether the backend encoded its body although identity was
// asked for.
func isEncoded(x *exchange) bool {
	ce := x.Header("Content-Encoding")
	return len(ce) > 0 && !strings.EqualFold(string(ce), "identity")
}

// retryAfter reads the two headers that say how long to wait: milliseconds
// first, then seconds or a date. 0 if neither says anything sane.
func retryAfter(ms, s []byte) time.Duration {
	const longest = 24 * time.Hour
	if n, err := strconv.ParseFloat(string(ms), 64); err == nil && n > 0 && n < float64(longest/time.Millisecond) {
		return time.Duration(n * float64(time.Millisecond))
	}
	if n, err := strconv.ParseFloat(string(s), 64); err == nil {
		if n > 0 && n < longest.Seconds() {
			return time.Duration(n * float64(time.Second))
		}
		return 0
	}
	if t, err := fasthttp.ParseHTTPDate(s); err == nil {
		if d := time.Until(t); d > 0 && d < longest {
			return d
		}
	}
	return 0
}

// callError is what the client is told of a request that got no answer, or of
// an answer that broke off.
func callError(err error) *translate.Error {
	e := &translate.Error{Kind: translate.KindBackend, Status: 502, Code: "bad_gateway", Message: "The agent cannot be reached.", Cause: err}
	if u, ok := errors.AsType[*upstreamError](err); ok {
		e.NoRetry = u.Sent
		switch {
		case u.Canceled && errors.Is(u.Err, errClientGone):
			return &translate.Error{Kind: translate.KindClosed, Status: 499, Code: "client_closed_request", Message: "The client left.", Cause: err}
		case u.Canceled && errors.Is(u.Err, errShutdown):
			down := shuttingDown()
			down.NoRetry = u.Sent
			return down
		case u.Timeout:
			e.Kind, e.Status, e.Code, e.Message = translate.KindTimeout, 504, "timeout", "The agent did not answer in time."
		case u.Sent:
			e.Message = "The agent closed the connection without an answer."
		}
	}
	return e
}

// exhausted reports whether a connection could not be made because this machine has no
// descriptors, ports or memory left, which says nothing of the backend.
func exhausted(err error) bool {
	for _, e := range []syscall.Errno{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.EADDRNOTAVAIL} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// mayHaveRun reports whether a request without an answer may have reached its
// agent.
func mayHaveRun(err error) bool {
	u, ok := errors.AsType[*upstreamError](err)
	return ok && u.Sent
}

// cutError is what the client is told of an answer that was cut off in the
// middle.
func cutError(err error) *translate.Error {
	switch {
	case errors.Is(err, errClientGone):
		return &translate.Error{Kind: translate.KindClosed, Status: 499, Code: "client_closed_request", Message: "The client left.", Cause: err}
	case errors.Is(err, errShutdown):
		return &translate.Error{Kind: translate.KindOverloaded, Status: 503, Code: "shutting_down", NoRetry: true,
			Message: "The proxy is shutting down.", Cause: err}
	}
	return translate.Truncated(err)
}

func silent(after time.Duration) *translate.Error {
	return &translate.Error{Kind: translate.KindTimeout, Status: 504, Code: "timeout", NoRetry: true,
		Message: "The agent was silent for " + after.String() + "."}
}

func tooLong(after time.Duration) *translate.Error {
	return &translate.Error{Kind: translate.KindTimeout, Status: 504, Code: "timeout", NoRetry: true,
		Message: "The answer took longer than " + after.String() + "."}
}

// isEventStream reports whether a Content-Type is that of server-sent events.
func isEventStream(contentType []byte) bool {
	const want = "text/event-stream"
	return len(contentType) >= len(want) && strings.EqualFold(string(contentType[:len(want)]), want)
}
