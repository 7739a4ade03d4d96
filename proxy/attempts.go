package proxy

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/dragoman-proxy/dragoman/internal/balance"
	"github.com/dragoman-proxy/dragoman/ratelimit"
	"github.com/dragoman-proxy/dragoman/translate"
)

const (
	// firstPause is about how long a request waits before it goes to the same backend
	// again; it doubles up to longestPause.
	firstPause   = 25 * time.Millisecond
	longestPause = 100 * time.Millisecond
	// fullWait is how long clients are told to wait where all backends are busy.
	fullWait = time.Second
)

// fate is what a failure means for the request: whether somebody else may be asked.
type fate uint8

const (
	final      fate = iota // the agent said so itself, or nobody waits any more
	unreached              // nothing was sent: the connection was refused, or the like
	declined               // 429 or 503: the backend has not begun
	perhaps                // it may have run
	noneToAsk              // no backend may be asked
	noRoom                 // all are busy
	unbudgeted             // enough has been tried again
)

// why is the fate's name in dragoman_retries_total.
func (f fate) why() string {
	return [...]string{"final", "unreached", "declined", "failed", "unavailable", "busy", "budget"}[f]
}

// journey is the way of a request through replicas and fallback agents.
type journey struct {
	c      *call
	first  *agent // whose settings say how often
	client *fasthttp.RequestHeader
	in     *translate.Inbound
	out    *buffer
	strict bool // the client wants to lose nothing
	next   int  // of the fallbacks
	tried  balance.Tried
	barred balance.Tried // of tried, those that may not be asked again
	pause  time.Duration
	told   *side
}

// side is what a call knows of the agent that it asks.
type side struct {
	agent          *agent
	req            *translate.Request
	setup          translate.Setup
	asks           bool
	passed         []byte
	name, protocol string // of the log
	dropped        []string
	err            *translate.Error // that it failed with
	fate           fate
}

func (c *call) side() side {
	return side{agent: c.agent, req: c.req, setup: c.setup, asks: c.asks, passed: c.passed, name: c.log.agent, protocol: c.log.backend, dropped: c.log.dropped}
}

func (c *call) take(s *side) {
	c.agent, c.req, c.setup, c.asks, c.passed = s.agent, s.req, s.setup, s.asks, s.passed
	c.log.agent, c.log.backend, c.log.dropped = s.name, s.protocol, s.dropped
}

// attempts asks the agent with what is in out, and has finish read its answer: it fails
// only as long as the client has seen nothing of that. Where the failure allows it, the
// other replicas are asked, and then the agents of fallback, for whom in is read and
// encoded anew.
func (c *call) attempts(client *fasthttp.RequestHeader, in *translate.Inbound, out *buffer, strict bool, finish func() *translate.Error) *translate.Error {
	c.agent.budget.Request()
	if t := c.agent.conf.Timeouts.Total; t > 0 {
		c.total = c.start.Add(t)
	}
	if t := c.most; t > 0 && (c.total.IsZero() || c.start.Add(t).Before(c.total)) {
		c.total = c.start.Add(t)
	}
	e, f := c.attempt(client, out.b, nil, 0, finish)
	if e == nil || f == final {
		return e
	}
	j := &journey{c: c, first: c.agent, client: client, in: in, out: out, strict: strict, pause: firstPause}
	return j.goOn(e, f, finish)
}

// goOn is what becomes of a request whose first attempt has failed.
func (j *journey) goOn(e *translate.Error, f fate, finish func() *translate.Error) *translate.Error {
	c := j.c
	for {
		j.note(e, f)
		if f == final || !j.mayGoOn(f) {
			break
		}
		why, asking := f, c.agent
		again, stop := j.choose(f)
		if stop != nil {
			e, f = stop, final
			j.note(e, f)
			break
		}
		if !again {
			break
		}
		if c.agent == asking && c.mayHaveHeard() && c.retell(j.in, j.out, j.strict) != nil {
			break
		}
		asked := c.tries
		tried := j.tried
		e, f = c.attempt(j.client, j.out.b, j.first.budget, tried, finish)
		switch {
		case c.tries == asked: // nobody was
		case c.agent != asking:
			c.s.meters.fellBack(j.first.conf.Name, c.agent.conf.Name)
		case asked > 0:
			c.s.meters.retried(j.first.conf.Name, why.why())
		}
		if e == nil {
			return nil
		}
	}
	c.take(j.told)
	if c.ran {
		j.told.err.NoRetry = true
	}
	return j.told.err
}

// note keeps what the client is told: the last failure, unless one before says when to
// come again, or the last one is only that there was nobody to ask.
func (j *journey) note(e *translate.Error, f fate) {
	c := j.c
	if f == unreached || f == declined || f == perhaps {
		bit := balance.Tried(1) << c.index
		j.tried |= bit
		if f != unreached && !c.agent.conf.Retry.Idempotent || e.RetryAfter > 0 {
			j.barred |= bit
		}
	}
	if j.told != nil {
		switch {
		case f == final:
		case f == noneToAsk || f == noRoom || f == unbudgeted,
			f == unreached && j.told.fate == declined && j.told.err.RetryAfter > 0:
			return
		}
	}
	now := c.side()
	now.err, now.fate = e, f
	j.told = &now
}

// mayGoOn reports whether somebody else may be asked after such a failure.
func (j *journey) mayGoOn(f fate) bool {
	c := j.c
	switch {
	case c.cancel.Err() != nil, f == unbudgeted:
		return false
	case c.tries > j.first.conf.Retry.Attempts:
		return false
	case c.late():
		return false
	case f == perhaps:
		return c.agent.conf.Retry.Idempotent
	}
	return true
}

// choose decides whom to ask next: another replica, the next fallback, or where there is
// none the same replica once more, after a pause. It reports false if there is nobody.
func (j *journey) choose(f fate) (again bool, stop *translate.Error) {
	c := j.c
	if f != noneToAsk && f != noRoom && len(c.agent.backends) > ones(j.tried) {
		return true, nil // Acquire knows which may be asked
	}
	if len(j.first.conf.Fallback) > 0 {
		return j.fallBack()
	}
	if j.tried == 0 || j.tried == j.barred {
		return false, nil
	}
	j.tried = j.barred
	wait := j.pause/2 + rand.N(j.pause) // #nosec G404 -- no secret
	j.pause = min(2*j.pause, longestPause)
	return true, c.rest(wait)
}

func ones(t balance.Tried) (n int) {
	for ; t != 0; t &= t - 1 {
		n++
	}
	return n
}

// rest waits; the end of the request ends it at once.
func (c *call) rest(d time.Duration) *translate.Error {
	ctx, stop := context.WithTimeout(context.Background(), d)
	defer stop()
	if cause := c.cancel.attachDial(stop); cause != nil {
		return c.cut(cause)
	}
	<-ctx.Done()
	if cause := c.cancel.detach(); cause != nil {
		return c.cut(cause)
	}
	return nil
}

// errOutOfTime is why a request ended whose total time passed while nobody was asked.
var errOutOfTime = errors.New("the request's time is over")

// cut is what the client is told of a request that was ended while nobody was asked.
func (c *call) cut(cause error) *translate.Error {
	var e *translate.Error
	if errors.Is(cause, errOutOfTime) {
		e = &translate.Error{Kind: translate.KindTimeout, Status: 504, Code: "timeout", Cause: cause,
			Message: "The request's time was over before an agent had a place for it."}
	} else {
		e = cutBefore(cause)
	}
	e.NoRetry = c.ran
	return e
}

// fallBack makes the call one for the next agent of fallback that it can be given to.
func (j *journey) fallBack() (again bool, stop *translate.Error) {
	c := j.c
	for j.next < len(j.first.conf.Fallback) {
		a := c.snap.agent(j.first.conf.Fallback[j.next])
		j.next++
		if a == nil || a == j.first {
			continue
		}
		before := c.side()
		ok, cause := j.give(a)
		if ok {
			j.tried, j.barred = 0, 0
			c.heart.rename(c)
			return true, nil
		}
		c.settleSecond() // nothing
		c.take(&before)
		if cause != nil {
			return false, c.cut(cause)
		}
	}
	return false, nil
}

// give reads the request anew and encodes it for another agent: encoding leaves marks in
// a request. It reports false if that agent cannot be given this request. The
// configuration chose it, so that the scope of the caller's key does not count.
func (j *journey) give(a *agent) (ok bool, cause error) {
	c := j.c
	c.settleSecond()
	c.before = c.spent + c.cost()
	c.grant.Leave(ratelimit.Agent, c.before) // the first agent works no more on it
	c.front = j.first
	usage := c.req.NeedsUsage
	req, e := c.reread(j.in)
	if e != nil {
		return false, nil
	}
	req.Stream = req.Stream || req.Background
	c.agent, c.req, c.passed = a, req, nil
	c.log.agent, c.log.backend = a.conf.Name, a.conf.Protocol
	if !a.addressable(req) {
		return false, nil
	}
	if c.thread != nil {
		if c.thread.native { // only the backend that keeps it could go on
			return false, nil
		}
		if e := c.giveHistory(req); e != nil {
			return false, nil
		}
	}
	scopes := [3]*ratelimit.Scope{nil, a.scope, nil}
	c.req.NeedsUsage = usage || countsTokens(scopes)
	j.out.b = j.out.b[:0]
	if e := c.encode(j.out); e != nil {
		return false, nil
	}
	if c.req.Ledger.Len() > 0 && (a.strict || j.strict) {
		return false, nil
	}
	// Last, because asking the limits counts.
	if ok, cause := c.admitSecond(scopes); !ok {
		return false, cause
	}
	if t := a.conf.Timeouts.Total; t > 0 && (c.total.IsZero() || c.start.Add(t).Before(c.total)) {
		c.total = c.start.Add(t)
	}
	return true, nil
}

// admitSecond asks the limits of a fallback agent; those of the caller and the proxy have
// counted the request.
func (c *call) admitSecond(scopes [3]*ratelimit.Scope) (ok bool, cause error) {
	if c.agent.scope == nil {
		return true, nil
	}
	var tokens int64
	if countsTokens(scopes) {
		if c.input == 0 {
			c.input = ratelimit.EstimateInput(c.req.Body)
		}
		tokens = c.input + c.expectedOutput()
	}
	g := &ratelimit.Grant{}
	if r := c.s.limiter.Take(context.Background(), scopes, tokens, g); r != nil {
		c.s.meters.refused(r, c.agent)
		return false, nil
	}
	c.second = g
	if !g.Concurrent() || c.s.limiter.Try(g) {
		return true, nil
	}
	ctx, stop := c.whileItLasts()
	defer stop()
	if err := c.cancel.attachDial(stop); err != nil {
		return false, err
	}
	r := c.s.limiter.Wait(ctx.Done(), g)
	switch cause := c.cancel.detach(); {
	case cause != nil:
		return false, cause
	case r != nil && r.What == ratelimit.Gone:
		return false, errOutOfTime
	case r != nil:
		c.s.meters.refused(r, c.agent)
	}
	return r == nil, nil
}

// settleSecond ends what the limits of a fallback agent gave. It is charged what it cost
// itself, not what the agents did that were asked before.
func (c *call) settleSecond() {
	if c.second != nil {
		c.second.Settle(c.spent + c.cost() - c.before)
		c.second.Release()
		c.second = nil
	}
}

// attempt is one: a place at a replica that is not among tried, the request, and its
// answer. budget is nil for the first.
func (c *call) attempt(client *fasthttp.RequestHeader, body []byte, budget *balance.Budget, tried balance.Tried, finish func() *translate.Error) (*translate.Error, fate) {
	if !c.agent.addressable(c.req) {
		return &translate.Error{Kind: translate.KindInvalid, Status: 400, Code: "invalid_value", Param: "model",
			Message: "The agent is addressed by its model, and this one cannot be part of a path."}, final
	}
	err := c.acquire(tried)
	if err == nil && c.late() {
		c.lease.Release()
		err = errOutOfTime
	}
	if err != nil {
		switch {
		case errors.Is(err, errOutOfTime):
			return c.cut(err), final
		case errors.Is(err, balance.ErrGone):
			return c.cut(c.cancel.Err()), final
		case errors.Is(err, balance.ErrFull):
			return &translate.Error{Kind: translate.KindOverloaded, Status: 503, Code: "overloaded", RetryAfter: fullWait, Cause: err,
				Message: "The agent's backends serve as many requests as they may."}, noRoom
		}
		wait := min(max(c.agent.conf.Balance.Pause, time.Second), time.Minute)
		return &translate.Error{Kind: translate.KindOverloaded, Status: 503, Code: "backend_unavailable", RetryAfter: wait, Cause: err,
			Message: "No backend of the agent is available."}, noneToAsk
	}
	if budget != nil && c.tries > 0 && !budget.Retry() {
		c.lease.Release()
		return nobodyElse(), unbudgeted
	}
	c.index = c.lease.Index()
	at := c.agent.backends[c.index]
	if c.tries > 0 {
		c.reset()
		if c.tries == 1 {
			c.log.tried = append(c.log.tried, c.at.name)
		}
		c.log.tried = append(c.log.tried, at.name)
		c.heart.rename(c)
	}
	c.at = at
	c.tries++
	e, f, said := c.ask(client, body)
	if said != balance.Neutral {
		c.lease.Report(said)
	}
	if e == nil {
		if e = finish(); e == nil {
			return nil, final
		}
		f, c.ran = final, true
		if c.cancel.Err() == nil {
			if brokeOff(e) {
				c.lease.Report(balance.Failure)
				f = perhaps
			} else if e.Status == 502 && e.Code == "bad_gateway" || e.Status == 503 || e.Status == 504 {
				f = perhaps
			}
		}
	}
	c.hangUp()
	return e, f
}

// nobodyElse stands for a failure that is not told: one before it is.
func nobodyElse() *translate.Error {
	return &translate.Error{Kind: translate.KindOverloaded, Status: 503, Code: "overloaded", RetryAfter: fullWait, Message: "Too much is being tried again."}
}

// sticky is the conversation that stays with its backend, "" if there is none.
func (c *call) sticky() string {
	if t := c.thread; t != nil && t.conv != "" {
		return t.conv
	}
	return c.req.ConversationID
}

// acquire takes a place at one of the agent's replicas; only where their number is bounded
// can that take time.
func (c *call) acquire(tried balance.Tried) (err error) {
	a := c.agent
	if a.conf.Balance.MaxConcurrent <= 0 {
		c.lease, err = a.set.Acquire(nil, c.sticky(), tried)
		return err
	}
	ctx, stop := c.whileItLasts()
	defer stop()
	if c.cancel.attachDial(stop) != nil {
		return balance.ErrGone
	}
	c.lease, err = a.set.Acquire(ctx.Done(), c.sticky(), tried)
	if c.cancel.detach() != nil {
		c.lease.Release()
		return balance.ErrGone
	}
	if errors.Is(err, balance.ErrGone) {
		return errOutOfTime
	}
	return err
}

// late reports whether the request's total time is over.
func (c *call) late() bool { return !c.total.IsZero() && !time.Now().Before(c.total) }

// whileItLasts is a context that ends with the request's total time.
func (c *call) whileItLasts() (context.Context, context.CancelFunc) {
	if c.total.IsZero() {
		return context.WithCancel(context.Background())
	}
	return context.WithDeadline(context.Background(), c.total)
}

// reset forgets the attempt before, but for what it cost.
func (c *call) reset() {
	c.spent += c.cost()
	c.ans, c.lost, c.losses, c.passed = nil, false, translate.Ledger{}, nil
	c.log.bytesIn, c.log.through = 0, false
	c.setup = c.newSetup()
}

// hangUp ends what the call has to do with a backend.
func (c *call) hangUp() {
	if c.x != nil {
		c.x.close() // does nothing after finish
		c.x = nil
	}
	if c.ans != nil && c.cancel.Err() == nil && brokeOff(c.ans.Err()) {
		c.lease.Report(balance.Failure)
	}
	c.lease.Release()
}

// brokeOff reports whether an answer failed for its backend's sake: it was cut off, fell
// silent, or cannot be read. What an agent says of its own failure is an answer.
func brokeOff(e *translate.Error) bool {
	return e != nil && (e.Code == "stream_truncated" || e.Status == 502 && e.Code == "bad_gateway" || e.Kind == translate.KindTimeout)
}

// shown is the agent under the name that the caller is told: a fallback that the caller's
// key may not know goes by the name of the agent that it stands in for.
func (c *call) shown() *translate.Agent {
	a := &c.agent.tr
	if c.masked() {
		b := *a
		b.Name = c.front.conf.Name
		return &b
	}
	return a
}

// masked reports whether the caller may not know of the agent that is asked.
func (c *call) masked() bool { return c.front != nil && c.front != c.agent && !c.may(c.agent) }

// agentNames are those of the agent, or of a batch's agents, as the caller is told them.
func (c *call) agentNames() string {
	switch {
	case c.log.batch != nil:
		return c.log.batch.shown
	case c.agent != nil && c.masked():
		return c.front.conf.Name
	}
	return c.log.agent
}

// rename has the head that has not been sent yet name the agent that is asked now.
func (h *heart) rename(c *call) {
	if h == nil || c.log.batch != nil {
		return
	}
	head := c.answerHead()
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.begun {
		limited := h.head.limited
		h.head = head
		h.head.limited = limited
	}
}
