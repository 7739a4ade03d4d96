package proxy

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/dragoman-proxy/dragoman/auth"
	"github.com/dragoman-proxy/dragoman/internal/config"
	"github.com/dragoman-proxy/dragoman/ratelimit"
	"github.com/dragoman-proxy/dragoman/translate"
)

// challenge says how to identify oneself. It is the same whatever was wrong.
const challenge = `Bearer realm="dragoman"`

// authenticate finds out who is calling, by the head alone: a stranger's body is
// never read. Whatever is wrong with a credential, the answer is the same.
func (c *call) authenticate(ctx *fasthttp.RequestCtx) *translate.Error {
	h := &ctx.Request.Header
	p, err := c.snap.auth.Authenticate(auth.Presented{Authorization: headerOf(h, "Authorization"), APIKey: headerOf(h, "X-Api-Key")}, c.start)
	switch {
	case err == nil:
		c.who = p
		c.log.key = p.Name
		return nil
	case errors.Is(err, auth.ErrConflict):
		return &translate.Error{Kind: translate.KindInvalid, Status: 400, Code: "conflicting_credentials",
			Message: "Authorization and x-api-key hold different keys; send one of them."}
	case errors.Is(err, auth.ErrUnavailable):
		return &translate.Error{Kind: translate.KindOverloaded, Status: 503, Code: "authentication_unavailable", RetryAfter: 5 * time.Second, Cause: err,
			Message: "Tokens cannot be verified now: the issuer's keys are not known yet."}
	}
	ctx.Response.Header.Set("WWW-Authenticate", challenge)
	return &translate.Error{Kind: translate.KindUnauthenticated, Status: 401, Code: "invalid_api_key", Cause: errors.New(auth.Reason(err)), Message: c.snap.welcome}
}

// headerOf is the value of a header, nil if it is absent: one that is there and
// empty is a bad credential, and none is none.
func headerOf(h *fasthttp.RequestHeader, name string) []byte {
	all := h.PeekAll(name)
	switch {
	case len(all) == 0:
		return nil
	case all[0] == nil:
		return []byte{}
	}
	return all[0]
}

// welcome is what a caller who is not known is told: how to become one.
func welcome(conf *config.Config) string {
	if conf.Forwards() && conf.Auth.JWT == nil {
		return "A valid key is needed: send it as \"x-api-key: KEY\"."
	}
	return "A valid key is needed: send it as \"Authorization: Bearer KEY\" or \"x-api-key: KEY\"."
}

// may reports whether the caller may know of an agent.
func (c *call) may(a *agent) bool { return c.who.May(a.conf.Name) }

// lookup finds the agent that a word means to this caller, nil if there is none:
// an agent out of the caller's scope does not exist.
func (c *call) lookup(word string) *agent {
	if f := c.snap.conf.LookupWhere(word, func(a *config.Agent) bool { return c.who.May(a.Name) }); f != nil {
		return c.snap.agents[f]
	}
	return nil
}

// fallback is the agent of a request that names none: the one of the Host header,
// else the default.
func (c *call) fallback(host []byte) *agent {
	if a := c.snap.byHost(string(host)); a != nil && c.may(a) {
		return a
	}
	if a := c.snap.agents[c.snap.conf.Default()]; a != nil && c.may(a) {
		return a
	}
	return nil
}

// names lists the agents that the caller may know of, for people.
func (c *call) names() string {
	list := ""
	for i := range c.snap.conf.Agents {
		a := &c.snap.conf.Agents[i]
		if !c.who.May(a.Name) {
			continue
		}
		if list != "" {
			list += ", "
		}
		list += a.Name
	}
	return list
}

func (c *call) unknownAgent(word string) *translate.Error {
	e := &translate.Error{Kind: translate.KindNotFound, Status: 404, Code: "model_not_found"}
	if names := c.names(); names != "" {
		e.Message = fmt.Sprintf("There is no agent %q. The agents are: %s.", printable(word), names)
	} else {
		e.Message = fmt.Sprintf("There is no agent %q. This key may call none.", printable(word))
	}
	return e
}

func (c *call) noAgent() *translate.Error {
	e := &translate.Error{Kind: translate.KindNotFound, Status: 404, Code: "model_not_found"}
	if names := c.names(); names != "" {
		e.Message = "The request names no agent, and there is no default agent. The agents are: " + names + "."
	} else {
		e.Message = "The request names no agent, and this key may call none."
	}
	return e
}

// scopes are what the request counts against: the caller, the agent, the proxy.
func (c *call) scopes() [3]*ratelimit.Scope {
	s := [3]*ratelimit.Scope{c.snap.callerScope(c.s.limiter, c.who), nil, c.snap.global}
	if c.agent != nil {
		s[1] = c.agent.scope
	}
	return s
}

// admit asks the limits, before the request is translated: first how often and
// how much, then how many at a time, for which it may wait in line.
func (c *call) admit() *translate.Error {
	if e := c.charge(); e != nil {
		return e
	}
	return c.queue()
}

// charge counts the request and reserves the tokens that it may cost.
func (c *call) charge() *translate.Error {
	scopes := c.scopes()
	if scopes == [3]*ratelimit.Scope{} {
		return nil
	}
	var tokens int64
	if countsTokens(scopes) {
		c.req.NeedsUsage = true
		c.input = ratelimit.EstimateInput(c.req.Body)
		tokens = c.input + c.expectedOutput()
	}
	// Redis has a time limit of its own, so that a departure need not end this.
	if r := c.s.limiter.Take(context.Background(), scopes, tokens, &c.grant); r != nil {
		return c.refused(r)
	}
	c.log.limits(c.grant.Status())
	return nil
}

// queue takes a place among the requests that run at the same time.
func (c *call) queue() *translate.Error {
	if !c.grant.Concurrent() || c.s.limiter.Try(&c.grant) {
		return nil
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	if err := c.cancel.attachDial(stop); err != nil {
		stop() // it left before it stood in line
	}
	r := c.s.limiter.Wait(ctx.Done(), &c.grant)
	cause := c.cancel.detach()
	switch {
	case r == nil:
		return nil
	case cause != nil:
		return cutBefore(cause)
	}
	return c.refused(r)
}

// cutBefore is what the client is told of a request that ended before any agent
// heard of it.
func cutBefore(cause error) *translate.Error {
	if errors.Is(cause, errShutdown) {
		return shuttingDown()
	}
	e := cutError(cause)
	e.NoRetry = false
	return e
}

// expectedOutput is how many tokens of answer are reserved.
func (c *call) expectedOutput() int64 {
	most := c.agent.tr.MaxTokens
	if n := c.req.MaxTokens(); n > 0 {
		most = n
	}
	if most <= 0 {
		return defaultOutput
	}
	return min(most, maxOutput)
}

const (
	// defaultOutput is how many tokens of answer are reserved for a request that
	// does not say how many it may have.
	defaultOutput = 1000
	// maxOutput bounds what a client's word reserves.
	maxOutput = 1 << 30
	// maxCost bounds what a backend's word charges, so that no sum overflows.
	maxCost = 1 << 50
)

// settle charges what the request cost, and gives back its place. It may be called
// again.
//
// What the backend reported is what it cost, be it a sum alone. What it did not
// report (it never does, or the answer broke off before) is estimated: the input by
// its size, the answer as a token for each four bytes of what the backend had said.
// A request that no agent has read, or that one refused, costs nothing.
func (c *call) settle() {
	c.grant.Settle(c.spent + c.cost())
	c.grant.Release()
	c.settleSecond()
}

func (c *call) cost() int64 {
	switch {
	case c.ans != nil:
		said := (c.ans.Said() + 3) / 4
		u := c.ans.Usage()
		in, out, all := min(u.Input, maxCost), min(u.Output, maxCost), min(u.Total, maxCost)
		switch {
		case in >= 0 && out >= 0:
			return max(in+out, all)
		case all >= 0:
			return all
		case in >= 0:
			return in + said
		case out >= 0:
			return c.input + out
		}
		return c.input + said
	case c.lost:
		return c.input
	}
	return 0
}

// refused tells a caller that a limit is reached, and for how long.
func (c *call) refused(r *ratelimit.Refusal) *translate.Error {
	c.log.limits(r.Status)
	c.limited = true
	c.s.meters.refused(r, c.agent)
	wait := r.Wait
	if wait <= 0 {
		wait = time.Second
	}
	e := &translate.Error{Kind: translate.KindRateLimited, Status: 429, Code: "rate_limit_exceeded", RetryAfter: wait}
	switch {
	case r.What == ratelimit.Unavailable:
		e.Kind, e.Status, e.Code = translate.KindOverloaded, 503, "limiter_unavailable"
		e.Message = "Rate limits cannot be checked now, and the proxy admits nobody unchecked."
	case r.Kind == ratelimit.Global:
		e.Kind, e.Status, e.Code = translate.KindOverloaded, 503, "overloaded"
		e.Message = "The proxy is at its limit of " + limitText(r) + "."
	case r.Kind == ratelimit.Agent:
		e.Message = fmt.Sprintf("Agent %q is at its limit of %s.", c.agent.conf.Name, limitText(r))
	default:
		e.Message = "Rate limit reached: this key may have " + limitText(r) + "."
	}
	return e
}

// limitText says what a limit allows: 60 requests per minute.
func limitText(r *ratelimit.Refusal) string {
	switch r.What {
	case ratelimit.Tokens:
		return rateText(r.Limit, "tokens")
	case ratelimit.Concurrent:
		return fmt.Sprintf("%d requests at the same time", r.Limit.Events)
	}
	return rateText(r.Limit, "requests")
}

func rateText(r ratelimit.Rate, what string) string {
	unit := r.Per.String()
	switch r.Per {
	case time.Second:
		unit = "second"
	case time.Minute:
		unit = "minute"
	case time.Hour:
		unit = "hour"
	case 24 * time.Hour:
		unit = "day"
	}
	text := fmt.Sprintf("%d %s per %s", r.Events, what, unit)
	if r.Burst > 0 && r.Burst != r.Events {
		text += fmt.Sprintf(" (%d at once)", r.Burst)
	}
	return text
}

// countsTokens reports whether one of the limits is on tokens.
func countsTokens(scopes [3]*ratelimit.Scope) bool {
	for _, s := range scopes {
		if s != nil && s.Limits().Tokens.Events > 0 {
			return true
		}
	}
	return false
}

// limits tells callers how much of their own limits is left: of an agent's too, if
// the path names one. Asking is free.
func (c *call) limits(ctx *fasthttp.RequestCtx) *translate.Error {
	face, ok := c.face.Face.(translate.LimitsFace)
	if !ok {
		panic("BUG: " + c.face.Name + " has a route for limits that it cannot answer")
	}
	if c.match.named {
		if c.agent = c.lookup(c.match.agent); c.agent == nil {
			return c.unknownAgent(c.match.agent)
		}
		c.log.agent, c.log.backend = c.agent.conf.Name, c.agent.conf.Protocol
	}
	now := time.Now()
	left := c.s.limiter.Peek(context.Background(), c.scopes())
	l := translate.Limits{Now: now, Tokens: left.Tokens.Limit}
	if q := left.Requests; q.Limited {
		window := func(d time.Duration) translate.LimitWindow {
			limit, remaining := q.Window(d)
			return translate.LimitWindow{Limit: limit, Remaining: remaining, Reset: now.Add(q.Reset), Limited: true}
		}
		l.Minute, l.Hour, l.Day = window(time.Minute), window(time.Hour), window(24*time.Hour)
	}
	c.log.limits(left)
	c.headers(&ctx.Response.Header)
	ctx.Response.SetStatusCode(200)
	ctx.Response.Header.SetContentType("application/json")
	ctx.Response.SetBodyRaw(face.AppendLimits(nil, l))
	c.log.status = 200
	return nil
}
