package proxy

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/valyala/fasthttp"
	"go.uber.org/zap"

	"github.com/dragoman-proxy/dragoman/auth"
	"github.com/dragoman-proxy/dragoman/internal/balance"
	"github.com/dragoman-proxy/dragoman/ratelimit"
	"github.com/dragoman-proxy/dragoman/translate"
)

// call is one client's request on its way through the proxy. The worker that
// accepted it uses it; for a streamed answer it passes to the stream's
// goroutine. Nothing of it points into the RequestCtx.
type call struct {
	s       *Server
	snap    *snapshot // the configuration that it began with
	start   time.Time
	id      string // request id
	seed    string
	match   match
	face    *translate.Protocol
	agent   *agent
	req     *translate.Request
	body    *buffer // the client's request, borrowed by req
	ans     *translate.Answer
	setup   translate.Setup
	asks    bool             // the agent is asked for a stream
	losses  translate.Ledger // of the answer
	cancel  cancel
	ticket  *watchTicket // of the client's connection, nil if it has none
	at      *backend     // the one that was asked last, nil before
	index   int          // of at among its agent's
	lease   balance.Lease
	tries   int // how many were asked
	x       *exchange
	heart   *heart // keeps the client alive that waits; nil: nothing does
	total   time.Time
	begun   bool // noted by Server.begin
	sent    bool // the agent is being asked: it may have run
	lost    bool // the agent was asked, and no answer of its came
	ran     bool // one that failed may have run
	limited bool // a limit refused it
	who     *auth.Principal
	grant   ratelimit.Grant  // what the limits gave
	second  *ratelimit.Grant // what those of a fallback agent gave; nil: none
	front   *agent           // for whom a fallback agent stands in; nil: none does
	spent   int64            // tokens, by attempts that failed
	before  int64            // of spent, by others than the agent that is asked now
	input   int64            // tokens that the request is estimated at, where tokens are limited
	// keepAlive says that the client's connection can serve another request.
	keepAlive bool
	http10    bool
	taken     bool   // the connection was taken over for a stream
	read      bool   // the request, to its end
	hops      []byte // X-Forwarded-* for the agents
	passed    []byte // what goes on of the agent's headers
	mask      mask   // of the agent's credential
	log       record
	run       *run          // that the call is, in the background; nil: it is a client's
	streams   bool          // of a run: its client asked for a stream
	most      time.Duration // that a run may take, 0 for no bound of its own
	thread    *thread       // the conversation that it is part of; nil: nothing is kept of it, and nothing was
}

var errClientGone = errors.New("the client closed its connection")

// defaultFace tells errors where no face can be told from the path: its words are
// the ones that most clients can read.
var defaultFace = translate.Protocols()[0]

// handle serves one request, from the head that fasthttp has read to the answer
// in ctx, or to the stream that takes the connection over.
func (s *Server) handle(ctx *fasthttp.RequestCtx) {
	c := s.newCall()
	defer func() {
		if p := recover(); p != nil {
			if e := c.panicked(p); !c.taken {
				c.keepAlive = false
				c.refuse(ctx, e)
				ctx.Response.Header.SetConnectionClose()
			}
		}
		if !c.taken {
			linger(ctx.Conn(), ctx.RequestBodyStream() != nil && !c.read)
			if s.draining.Load() {
				ctx.Response.Header.SetConnectionClose()
			}
			if limit := c.snap.conf.Server.Timeouts.Write; limit > 0 {
				_ = ctx.SetWriteDeadline(time.Now().Add(limit))
			}
			c.release()
			c.finished()
		}
		if o := openingOf(ctx.Conn()); o != nil {
			o.forget()
		}
	}()
	if e := c.serve(ctx); e != nil {
		c.refuse(ctx, e)
	}
}

// expect is asked by fasthttp about a client that waits to be told to go on with
// its body (Expect: 100-continue). One that its head is enough to refuse is refused
// in place of being told so; all others come to handle.
func (s *Server) expect(ctx *fasthttp.RequestCtx) (status int) {
	c := s.newCall()
	defer func() {
		if p := recover(); p != nil {
			c.refuse(ctx, c.panicked(p))
			status = fasthttp.StatusInternalServerError
		}
		if status == fasthttp.StatusContinue {
			return
		}
		ctx.Response.Header.SetConnectionClose()
		linger(ctx.Conn(), true)
		c.finished()
		if o := openingOf(ctx.Conn()); o != nil {
			o.forget()
		}
	}()
	_, _, e := c.head(ctx)
	if e == nil && ctx.Request.Header.ContentLength() > int(c.snap.conf.Server.MaxBody) {
		e = c.tooLarge(ctx)
	}
	if e == nil {
		return fasthttp.StatusContinue
	}
	c.refuse(ctx, e)
	return e.Status
}

// panicked logs a panic and is what the client is told of it. It is called by the
// function that recovered, so that the stack shows where it happened.
func (c *call) panicked(p any) *translate.Error {
	c.s.log.Error("panic", zap.String("request_id", c.id), zap.String("panic", fmt.Sprint(p)), zap.ByteString("stack", debug.Stack()))
	return &translate.Error{Kind: translate.KindInternal, Status: 500, Code: "internal_error", NoRetry: c.sent, Message: "The proxy failed."}
}

// recovered is deferred by goroutines beside a call's own: a panic of theirs ends them alone.
func (c *call) recovered() {
	if p := recover(); p != nil {
		c.panicked(p) //nolint:errcheck // nobody is told
	}
}

// head does what the head of a request decides alone: the face by its path, the
// guard, who is calling, and whether there is such a route.
func (c *call) head(ctx *fasthttp.RequestCtx) (path, query string, e *translate.Error) {
	c.identify(ctx)
	method, path, query := c.target(ctx)
	c.match = c.s.router.find(method, path)
	c.face = c.match.face
	if c.match.route != nil {
		c.log.face = c.face.Name
	}
	if e := c.guard(ctx); e != nil || isProbe(path) {
		return path, query, e
	}
	if e := c.authenticate(ctx); e != nil {
		return path, query, e
	}
	if c.match.route == nil {
		return path, query, c.noRoute(ctx, method, path)
	}
	return path, query, nil
}

// isProbe reports whether a path is one that everybody may ask.
func isProbe(path string) bool { return path == "/livez" || path == "/readyz" }

// serve is the pipeline. What it returns is answered in the face's own words.
func (c *call) serve(ctx *fasthttp.RequestCtx) *translate.Error {
	// Face, guard, caller.
	path, query, e := c.head(ctx)
	if e != nil {
		return e
	}
	if isProbe(path) {
		return c.health(ctx, path)
	}
	switch c.match.route.Op {
	case translate.OpGenerate, translate.OpBatch:
	case translate.OpLimits:
		return c.limits(ctx)
	case translate.OpAgents, translate.OpAgent, translate.OpCard, translate.OpHealth:
		return c.describe(ctx, query)
	default:
		return c.kept(ctx, query)
	}

	// Body.
	if e := c.readBody(ctx); e != nil {
		return e
	}
	if c.match.route.Op == translate.OpBatch {
		return c.batch(ctx)
	}
	in := &translate.Inbound{
		Route: &c.match.route.Route, ID: c.match.id, Query: query,
		Accept: string(ctx.Request.Header.Peek("Accept")), Body: c.body.b, Lazy: true, State: !c.stateless(),
	}
	if e := c.decode(in); e != nil {
		return e
	}

	// Agent, within the caller's scope. What was answered before names one, where the
	// request itself does not.
	if refers(c.req) && !c.req.AgentNamed && !c.namesAgent() {
		if e := c.recall(); e != nil {
			return e
		}
	}
	if e := c.choose(ctx.Host()); e != nil {
		return e
	}

	// Limits. From here on a departure is noticed: nobody waits in line for a
	// client who has left.
	if e := c.begin(ctx.Conn(), func() { c.cancel.Cancel(errClientGone) }); e != nil {
		return e
	}
	if e := c.charge(); e != nil {
		return e
	}

	// What was said before.
	if e := c.converse(); e != nil {
		return e
	}

	// Encode. What runs in the background is told as a stream, whatever its client reads.
	streams := c.req.Stream
	c.req.Stream = streams || c.req.Background
	out := takeBuffer()
	defer out.drop()
	if e := c.encode(out); e != nil {
		return e
	}
	if e := c.strictly(asksStrict(ctx)); e != nil {
		return e
	}

	c.thread.note(c)
	if c.req.Background {
		return c.background(ctx, in, out, streams)
	}

	// The place in line, behind all that is refused without an agent: a client that
	// waits may be told that it is not forgotten.
	c.startHeart(ctx.Conn())
	if e := c.queue(); e != nil {
		return e
	}

	// Call and answer.
	strict := asksStrict(ctx)
	return c.converseWith(in, out, strict, func() *translate.Error {
		return c.attempts(&ctx.Request.Header, in, out, strict, func() *translate.Error { return c.answer(ctx) })
	})
}

// decode reads the request.
func (c *call) decode(in *translate.Inbound) (e *translate.Error) {
	if c.req, e = c.face.DecodeRequest(in); e == nil {
		c.log.stream = c.req.Stream
	}
	return e
}

// encode appends to out what the agent is sent.
func (c *call) encode(out *buffer) (e *translate.Error) {
	c.setup = c.newSetup()
	switch c.agent.protocol.AsksStream {
	case translate.StreamAsAsked:
		c.asks = c.req.Stream
	case translate.StreamAlways:
		c.asks = true
	}
	if c.agent.protocol == c.face {
		c.req.Ledger = translate.Ledger{} // nothing is lost where nothing is translated
		out.b, e = c.face.SpliceRequest(out.b, c.req, &c.agent.tr)
	} else {
		out.b, e = c.agent.protocol.Encode(out.b, c.req, &c.agent.tr, c.asks)
	}
	if e == nil {
		c.log.dropped = c.req.Ledger.Names()
	}
	return e
}

// newSetup is what the translation of an answer knows about the call.
func (c *call) newSetup() translate.Setup {
	return translate.Setup{
		Request: c.req, Agent: c.shown(), Seed: c.seed, Now: time.Now,
		Ledger: &c.losses, Created: c.start.Unix(), Keep: c.thread.keeping(),
	}
}

// begin notes that work is about to be done for a client: from here on a Shutdown
// waits for the call, and gone is called when the client leaves conn.
func (c *call) begin(conn net.Conn, gone func()) *translate.Error {
	if !c.s.note(c, conn == nil) {
		return shuttingDown()
	}
	c.begun = true
	if t := ticketOf(conn); t != nil && c.s.watcher.watch(conn, t, gone) {
		c.ticket = t
	}
	return nil
}

// identify gives the request an id: the client's if it is sane, else ours.
func (c *call) identify(ctx *fasthttp.RequestCtx) {
	c.id = newID("req_")
	c.seed = c.id[len("req_"):]
	if id := ctx.Request.Header.Peek("X-Request-Id"); saneID(id) {
		c.id = string(id)
	}
	c.log.trace = traceID(ctx.Request.Header.Peek("Traceparent"))
	c.http10 = !ctx.Request.Header.IsHTTP11()
	c.keepAlive = !ctx.Request.Header.ConnectionClose() && !c.s.draining.Load()
}

// newID is a prefix of four bytes at most and 32 random hexadecimal digits.
func newID(prefix string) string {
	var raw [16]byte
	_, _ = rand.Read(raw[:])
	var text [36]byte
	n := copy(text[:], prefix)
	return string(text[:n+hex.Encode(text[n:], raw[:])])
}

func saneID(id []byte) bool {
	if len(id) == 0 || len(id) > 128 {
		return false
	}
	for _, b := range id {
		if (b < '0' || b > '9') && (b|0x20 < 'a' || b|0x20 > 'z') && b != '-' && b != '_' && b != '.' && b != ':' {
			return false
		}
	}
	return true
}

// target is the request line as it came, without a fragment of normalisation.
func (c *call) target(ctx *fasthttp.RequestCtx) (method, path, query string) {
	uri := string(ctx.Request.Header.RequestURI())
	path, query, _ = strings.Cut(uri, "?")
	method = string(ctx.Method())
	c.log.method = method
	if strings.HasPrefix(path, "/") { // a whole url, which is refused, may hold a user and a password
		c.log.path = path
	}
	return method, path, query
}

func (c *call) noRoute(ctx *fasthttp.RequestCtx, method, path string) *translate.Error {
	if c.match.allow != "" {
		ctx.Response.Header.Set("Allow", c.match.allow)
		return &translate.Error{Kind: translate.KindInvalid, Status: 405, Code: "method_not_allowed",
			Message: fmt.Sprintf("%s is served with %s, not with %s.", printable(path), c.match.allow, printable(method))}
	}
	return &translate.Error{Kind: translate.KindNotFound, Status: 404, Code: "unknown_url",
		Message: fmt.Sprintf("There is no %s %s here. What exists: %s; each also under /agents/{name}.", printable(method), printable(path), c.s.router.paths())}
}

// printable makes a client's text fit for a message.
func printable(s string) string {
	if len(s) > 128 {
		s = s[:128] + "…"
	}
	return strings.Map(func(r rune) rune {
		if r < 0x20 || r >= 0x7f && r < 0xa0 || r == '\uFFFD' { // terminals obey some of 0x80 to 0x9f too
			return '?'
		}
		return r
	}, s)
}

// describe answers the operations that need no backend.
func (c *call) describe(ctx *fasthttp.RequestCtx, query string) *translate.Error {
	var one *agent
	word := c.match.id
	if c.match.named {
		word = c.match.agent
	}
	switch {
	case c.match.named || c.match.route.Op == translate.OpAgent:
		if one = c.lookup(word); one == nil {
			return c.unknownAgent(word)
		}
	case c.match.route.Op == translate.OpCard:
		if one = c.fallback(ctx.Host()); one == nil {
			return c.noAgent()
		}
	}
	var infos []translate.AgentInfo
	if one != nil {
		infos = append(infos, one.info)
	} else {
		for i := range c.snap.conf.Agents {
			if a := c.snap.agents[&c.snap.conf.Agents[i]]; c.may(a) {
				infos = append(infos, a.info)
			}
		}
	}
	if c.match.route.Op == translate.OpAgent && one.conf.Name != word {
		// An alias is shown under the word that the client uses.
		infos[0].Name = word
	}
	if f, ok := c.face.Face.(translate.AgentFilter); ok && c.match.route.Op == translate.OpAgents {
		infos = f.FilterAgents(query, infos)
	}
	c.headers(&ctx.Response.Header)
	ctx.Response.SetStatusCode(200)
	ctx.Response.Header.SetContentType("application/json")
	ctx.Response.SetBodyRaw(c.face.AppendAgents(nil, c.match.route.Op, infos))
	c.log.status = 200
	return nil
}

// readBody reads the request's body under its own limit and deadline, and
// refuses what is not one JSON value of bounded depth.
func (c *call) readBody(ctx *fasthttp.RequestCtx) *translate.Error {
	limit := int(c.snap.conf.Server.MaxBody)
	length := ctx.Request.Header.ContentLength()
	if length > limit {
		return c.tooLarge(ctx)
	}
	c.body = takeBuffer()
	if r := ctx.RequestBodyStream(); r != nil {
		_ = ctx.SetReadDeadline(time.Now().Add(c.snap.conf.Server.Timeouts.Body))
		var err error
		c.body.b, err = readAllLimited(c.body.b, r, length, limit)
		switch {
		case err == errBodyTooLarge:
			return c.tooLarge(ctx)
		case err == nil && length < 0 && endedEarly(ctx.Conn()):
			err = io.ErrUnexpectedEOF
			fallthrough
		case err != nil:
			ctx.Response.Header.SetConnectionClose()
			return unreadableBody(err)
		}
	}
	c.read = true
	if len(ctx.Request.Header.PeekTrailerKeys()) > 0 {
		ctx.Response.Header.SetConnectionClose()
		return &translate.Error{Kind: translate.KindInvalid, Status: 400, Code: "trailers", Message: "Trailers are not accepted."}
	}
	if len(c.body.b) == 0 {
		return &translate.Error{Kind: translate.KindInvalid, Status: 400, Code: "missing_body", Message: "The request has no body; a JSON object is expected."}
	}
	return translate.CheckBody(c.body.b)
}

// tooLarge refuses a body whose rest is not read, so that the connection ends.
func (c *call) tooLarge(ctx *fasthttp.RequestCtx) *translate.Error {
	ctx.Response.Header.SetConnectionClose()
	return &translate.Error{Kind: translate.KindTooLarge, Status: 413, Code: "request_too_large",
		Message: "The request body exceeds " + c.snap.conf.Server.MaxBody.String() + "."}
}

func unreadableBody(err error) *translate.Error {
	var t interface{ Timeout() bool }
	if errors.As(err, &t) && t.Timeout() {
		return &translate.Error{Kind: translate.KindTimeout, Status: 408, Code: "request_timeout", Message: "The request body did not arrive in time.", Cause: err}
	}
	return &translate.Error{Kind: translate.KindInvalid, Status: 400, Code: "unreadable_body", Message: "The request body could not be read.", Cause: err}
}

// readAllLimited appends what r holds to dst, which must be empty. length is
// what was announced, negative if nothing was.
func readAllLimited(dst []byte, r io.Reader, length, limit int) ([]byte, error) {
	// No more is reserved on a client's word than a modest body takes.
	if want := min(length, 1<<20); want > cap(dst) {
		dst = make([]byte, 0, want)
	}
	for {
		if length >= 0 && len(dst) >= length {
			return dst, nil
		}
		if len(dst) == cap(dst) {
			dst = append(dst, 0)[:len(dst)]
		}
		end := cap(dst)
		if length >= 0 {
			end = min(end, length)
		}
		n, err := r.Read(dst[len(dst):end])
		dst = dst[:len(dst)+n]
		if len(dst) > limit {
			return dst, errBodyTooLarge
		}
		if err == io.EOF {
			if length >= 0 && len(dst) < length {
				return dst, io.ErrUnexpectedEOF
			}
			return dst, nil
		}
		if err != nil {
			return dst, err
		}
	}
}

// choose finds the agent: the first of prefix, the request's own word and the
// Host header that is present decides, and never falls through to the next. The
// default agent serves only a request that names none.
func (c *call) choose(host []byte) *translate.Error {
	word := c.req.Agent
	if c.match.named {
		word = c.match.agent
	}
	switch {
	case c.match.named || word != "" || c.req.AgentNamed || c.thread.served() != "":
		if word != "" { // not even "*" means nobody
			c.agent = c.lookup(word)
		}
		if served := c.thread.served(); c.agent == nil && served != "" && !c.match.named && !c.req.AgentNamed {
			c.agent = c.lookup(served)
		}
		if c.agent == nil {
			e := c.unknownAgent(word)
			if !c.match.named {
				e.Param = c.req.AgentPath.String()
			}
			return e
		}
	default:
		if c.agent = c.fallback(host); c.agent == nil {
			return c.noAgent()
		}
	}
	c.log.agent, c.log.backend = c.agent.conf.Name, c.agent.conf.Protocol
	return nil
}

// strictly refuses a request that would lose something, where the configuration
// or the client wants that.
func (c *call) strictly(asked bool) *translate.Error {
	if c.req.Ledger.Len() == 0 || !c.agent.strict && !asked {
		return nil
	}
	names := c.req.Ledger.Names()
	return &translate.Error{Kind: translate.KindInvalid, Status: 400, Code: "unsupported_parameter", Param: names[0],
		Message: fmt.Sprintf("Agent %q (protocol %s) cannot be given: %s.", c.agent.conf.Name, c.agent.conf.Protocol, strings.Join(names, ", "))}
}

// asksStrict reports whether the client wants strict mode. Whoever writes "yes"
// wants it too: only what says no is taken for a no.
func asksStrict(ctx *fasthttp.RequestCtx) bool {
	switch strings.ToLower(string(ctx.Request.Header.Peek("Dragoman-Strict"))) {
	case "", "false", "0", "no", "off":
		return false
	}
	return true
}

func shuttingDown() *translate.Error {
	return &translate.Error{Kind: translate.KindOverloaded, Status: 503, Code: "shutting_down", RetryAfter: time.Second,
		Message: "The proxy is shutting down."}
}

// headerText makes a text fit for the value of a header: printable ASCII.
func headerText(s string) string {
	return strings.Map(func(r rune) rune {
		if r < 0x20 || r > 0x7e {
			return '?'
		}
		return r
	}, s)
}

// headers writes what every answer carries.
func (c *call) headers(h *fasthttp.ResponseHeader) {
	h.Set("X-Request-Id", c.id)
	if agent := c.agentNames(); agent != "" {
		h.Set("Dragoman-Agent", agent)
	}
	if n := c.log.attempts(); n > 1 {
		h.Set("Dragoman-Attempts", strconv.Itoa(n))
	}
	setPassed(h, c.passed)
	c.log.limited.Headers(time.Now(), func(name, value string) { h.Set(name, value) })
}

// longestWait is the longest one that an official SDK obeys. Told of a longer one some
// try again early and in vain, unless they are told not to.
const longestWait = 2 * time.Minute

// refuse answers with an error in the face's own words: by a status, or behind a
// heartbeat in what the client was promised.
func (c *call) refuse(ctx *fasthttp.RequestCtx, e *translate.Error) {
	if c.heart.stop() {
		c.resume(ctx, &tail{c: c, err: e})
		return
	}
	c.log.err, c.log.status = e, e.Status
	if e.Kind == translate.KindClosed {
		c.log.status = 499
		ctx.Response.Header.SetConnectionClose()
		ctx.Response.SetStatusCode(499)
		return
	}
	h := &ctx.Response.Header
	c.headers(h)
	ctx.Response.SetStatusCode(e.Status)
	h.SetContentType("application/json")
	if e.NoRetry || e.RetryAfter > longestWait {
		h.Set("X-Should-Retry", "false")
	}
	if e.RetryAfter > 0 {
		h.Set("Retry-After", strconv.FormatInt(ratelimit.RetryAfter(e.RetryAfter), 10))
		h.Set("Retry-After-Ms", strconv.FormatInt(ratelimit.RetryAfterMillis(e.RetryAfter), 10))
	}
	if len(c.log.dropped) > 0 { // a request that no agent could be asked lost nothing
		h.Set("Dragoman-Dropped", headerText(c.req.Ledger.Header()))
	}
	ctx.Response.SetBody(c.face.AppendError(nil, e))
}

// release ends what the call has to do with both connections. The client's may
// serve another request afterwards.
func (c *call) release() {
	c.heart.stop()
	if c.ticket != nil {
		c.ticket.disarm()
		c.ticket = nil
	}
	c.hangUp()
}

// finished writes the log line and gives back the rest. The order matters: the
// line names fields of the request, which borrow from its body, and a Shutdown
// that waits for the call must not end before the line is written.
func (c *call) finished() {
	if c.thread != nil && c.thread.unlock != nil {
		c.thread.unlock()
	}
	c.settle()
	c.log.write(c)
	c.log.unlimited()
	if c.body != nil {
		c.body.drop()
		c.body = nil
	}
	if c.begun {
		c.s.end(c)
		c.begun = false
	}
}
