package demo

import (
	"bufio"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/tidwall/gjson"
	"github.com/valyala/fasthttp"

	"github.com/dragoman-proxy/dragoman/internal/jsonx"
)

// ids numbers the answers of this process.
var ids atomic.Int64

func newID(prefix string) string {
	return prefix + strconv.FormatInt(0x7e5700000+ids.Add(1), 16)
}

// Handler serves the agent of a protocol; nil if there is none.
func Handler(protocol string, pace time.Duration) fasthttp.RequestHandler {
	var serve func(*exchange)
	var paths []string
	switch protocol {
	case "chat":
		serve, paths = serveChat, []string{"/v1/chat/completions", "/chat/completions"}
	case "responses":
		serve, paths = serveResponses, []string{"/v1/responses"}
	case "cognipeer":
		serve, paths = serveCognipeer, []string{"/api/client/v1/agents/responses", "/api/client/v1/responses"}
	case "ticos":
		serve, paths = serveTicos, []string{"/v1/agents/"}
	case "swarms":
		serve, paths = serveSwarms, []string{"/v1/agent/completions"}
	case "cycls":
		serve, paths = serveCycls, []string{"/chat", "/"}
	default:
		return nil
	}
	return func(ctx *fasthttp.RequestCtx) {
		path, known := string(ctx.Path()), false
		for _, p := range paths {
			known = known || path == p || p != "/" && strings.HasSuffix(p, "/") && strings.HasPrefix(path, p)
		}
		x := &exchange{ctx: ctx, pace: pace, protocol: protocol}
		switch {
		case !known && protocol == "cycls": // its static files answer 405 to a POST
			x.json(405, `{"detail":"Method Not Allowed"}`)
		case !known:
			x.json(404, `{"detail":"Not Found"}`)
		case !jsonx.Valid(ctx.PostBody()):
			x.refuse(400, "the body is not valid JSON")
		default:
			x.doc = gjson.ParseBytes(ctx.PostBody())
			serve(x)
		}
	}
}

// exchange is one request to an agent and its answer.
type exchange struct {
	ctx      *fasthttp.RequestCtx
	doc      gjson.Result
	pace     time.Duration
	protocol string
	w        *bufio.Writer // of a stream
	err      error         // the client has left
}

func (x *exchange) json(status int, body string) {
	x.ctx.SetStatusCode(status)
	x.ctx.SetContentType("application/json")
	x.ctx.SetBodyString(body)
}

// refuse answers with an error in the protocol's own form.
func (x *exchange) refuse(status int, message string) {
	m := quote(message)
	switch x.protocol {
	case "cognipeer":
		x.json(status, `{"error":`+m+`}`)
	case "swarms", "cycls":
		x.json(status, `{"detail":`+m+`}`)
	default:
		x.json(status, `{"error":{"message":`+m+`,"type":"invalid_request_error","param":null,"code":null}}`)
	}
}

// refused reports whether the user asked for an error before the first byte,
// which it then wrote.
func (x *exchange) refused(q question) bool {
	if !strings.HasPrefix(strings.ToLower(strings.TrimSpace(q.text)), "refuse") {
		return false
	}
	x.ctx.Response.Header.Set("Retry-After", "7")
	x.refuse(429, "the demo agent was asked to refuse")
	return true
}

// stream lets fn write an event stream.
func (x *exchange) stream(fn func()) {
	x.ctx.SetContentType("text/event-stream; charset=utf-8")
	x.ctx.Response.ImmediateHeaderFlush = true
	// The writer runs when the handler has returned: nothing of ctx is used
	// there but what was read before.
	x.ctx.SetBodyStreamWriter(func(w *bufio.Writer) {
		x.w = w
		fn()
	})
}

// frame writes one event and takes its time.
func (x *exchange) frame(event, data string) {
	if x.err != nil {
		return
	}
	if event != "" {
		_, _ = x.w.WriteString("event: " + event + "\n")
	}
	_, _ = x.w.WriteString("data: " + data + "\n\n")
	x.err = x.w.Flush()
	if x.pace > 0 && x.err == nil {
		time.Sleep(x.pace)
	}
}

func quote(s string) string { return string(jsonx.AppendStringS(nil, s)) }
