package proxy

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/dragoman-proxy/dragoman/translate"
)

// batchItem is one request of a batch: a call of its own, with an agent, a
// backend's connection and a failure of its own. The client's connection, the
// body and the access-log line are the batch's.
type batchItem struct {
	*call
	in     *translate.Inbound
	chosen *agent  // by the request
	ready  bool    // it could be asked
	asked  *buffer // what the agent is sent
	answer *buffer
	err    *translate.Error
}

// batch runs the requests of one body side by side and answers when all of them
// have ended. It reads like serve: requests, agents, encoding, calls, answer.
func (c *call) batch(ctx *fasthttp.RequestCtx) *translate.Error {
	face, ok := c.face.Face.(translate.BatchFace)
	if !ok {
		panic("BUG: " + c.face.Name + " has a route for batches that it cannot read")
	}
	bodies, e := face.SplitBatch(c.body.b)
	if e != nil {
		return e
	}

	// Requests, agents, encoding.
	c.log.batch = &batchRecord{}
	c.req = &translate.Request{Face: c.face} // it has the ledger of all items
	items := make([]*batchItem, len(bodies))
	defer func() {
		for _, it := range items {
			if it != nil {
				it.drop()
			}
		}
	}()
	for i, body := range bodies {
		items[i] = c.item()
		items[i].try(func() *translate.Error { return items[i].prepare(body, ctx.Host()) })
		items[i].chosen, items[i].ready = items[i].agent, items[i].err == nil
		c.note(i, items[i])
	}
	strict := asksStrict(ctx)
	if e := c.strictBatch(items, strict); e != nil {
		return e
	}

	// Calls.
	gone := func(cause error) {
		c.cancel.Cancel(cause)
		for _, it := range items {
			it.cancel.Cancel(cause)
		}
	}
	if e := c.begin(ctx.Conn(), func() { gone(errClientGone) }); e != nil {
		return e
	}
	if first := shortestBeat(items); first > 0 {
		c.heart = c.newHeart(ctx.Conn(), first, first, gone)
	}
	var running sync.WaitGroup
	for i, it := range items {
		if it.err == nil {
			client := itemHead(&ctx.Request.Header, i)
			running.Go(func() { it.try(func() *translate.Error { return it.run(client, strict) }) })
		}
	}
	running.Wait()
	if slices.ContainsFunc(items, func(it *batchItem) bool { return it.agent != it.chosen }) {
		// Another agent answered, who lost something else.
		c.req.Ledger, c.log.batch = translate.Ledger{}, &batchRecord{}
		for i, it := range items {
			c.note(i, it)
		}
	}
	for i, it := range items {
		c.account(i, it)
	}
	if cause := c.cancel.Err(); errors.Is(cause, errClientGone) {
		return cutError(cause)
	}
	if e := allLimited(items); e != nil {
		return e
	}

	// Answer.
	b := translate.Batch{Seed: c.seed, Now: time.Now(), Took: time.Since(c.start), Results: make([]translate.BatchResult, len(items))}
	for i, it := range items {
		b.Results[i] = it.result()
	}
	out := takeBuffer()
	out.b = face.AppendBatch(out.b, &b)
	c.whole(ctx, out)
	return nil
}

// shortestBeat is how long a batch's client may hear nothing: what the agent says that
// says the least, 0 if none says anything.
func shortestBeat(items []*batchItem) time.Duration {
	var shortest time.Duration
	for _, it := range items {
		if it.err != nil {
			continue
		}
		if d := it.agent.conf.Heartbeat.JSON; d > 0 && (shortest == 0 || d < shortest) {
			shortest = d
		}
	}
	return shortest
}

// item makes the call of an item.
func (c *call) item() *batchItem {
	return &batchItem{
		call: &call{s: c.s, snap: c.snap, start: c.start, id: c.id, seed: newID(""), match: c.match, face: c.face, who: c.who, hops: c.hops,
			log: record{face: c.face.Name, key: c.log.key}},
		asked: takeBuffer(), answer: takeBuffer(),
	}
}

// prepare reads the item's request, counts it like any other, and makes of it what
// its agent is sent.
func (it *batchItem) prepare(body, host []byte) *translate.Error {
	it.in = &translate.Inbound{Route: &it.match.route.Route, ID: it.match.id, Body: body, Lazy: true}
	if e := it.decode(it.in); e != nil {
		return e
	}
	if e := it.choose(host); e != nil {
		return e
	}
	if e := it.charge(); e != nil {
		return e
	}
	return it.encode(it.asked)
}

// run calls the item's agent and waits for the whole of its answer.
func (it *batchItem) run(client *fasthttp.RequestHeader, strict bool) *translate.Error {
	defer func() {
		it.release()
		if it.begun {
			it.s.end(it.call)
		}
	}()
	// Noted by itself, so that a Shutdown cuts it.
	if e := it.begin(nil, nil); e != nil {
		return e
	}
	// In line with all others for the places that there are, its siblings too.
	if e := it.queue(); e != nil {
		return e
	}
	defer it.settle()
	return it.attempts(client, it.in, it.asked, strict, func() *translate.Error {
		it.answer.b = it.answer.b[:0] // of an attempt that failed
		stream, e := it.open()
		if e != nil {
			return e
		}
		return it.await(it.answer, stream)
	})
}

// try does a step of the item and keeps its failure, a panic too: the items
// beside it go on.
func (it *batchItem) try(step func() *translate.Error) {
	defer func() {
		if p := recover(); p != nil {
			it.err = it.panicked(p)
		}
	}()
	it.err = step()
}

// result is what the batch's answer says of the item.
func (it *batchItem) result() translate.BatchResult {
	r := translate.BatchResult{Request: it.req, Body: it.answer.b, Err: it.err}
	if it.agent != nil {
		r.Agent = it.shown()
	}
	return r
}

// allLimited is the answer to a batch of which a limit refused every item, so that
// clients wait as they do for a single request. The longest wait is the one after
// which there is room for all that waited less.
func allLimited(items []*batchItem) *translate.Error {
	var longest *translate.Error
	for _, it := range items {
		if !it.limited {
			return nil
		}
		if longest == nil || it.err.RetryAfter > longest.RetryAfter {
			longest = it.err
		}
	}
	return longest
}

// drop gives back what the item holds. One that did not run has cost nothing.
func (it *batchItem) drop() {
	it.settle()
	it.asked.drop()
	it.answer.drop()
}

// batchRecord is what the access log tells of a batch besides: its items, those
// that failed, and the tokens of all. The names of the agents stand here, because
// counters are kept by agent, and no list of them is one.
type batchRecord struct {
	items, failed    int
	agents, backends string
	shown            string // agents, as the client is told them
	attempts         int    // of the item that took most
	usage            translate.Usage
}

// outcome is how a batch that was answered ended, in one word.
func (b *batchRecord) outcome() string {
	switch b.failed {
	case 0:
		return "completed"
	case b.items:
		return "failed"
	}
	return "incomplete"
}

// agents names the agent, or all those of a batch, and what they speak.
func (r *record) agents() (names, backends string) {
	if r.batch != nil {
		return r.batch.agents, r.batch.backends
	}
	return r.agent, r.backend
}

// attempts is how many times a backend was asked, if it was more than once; of a batch, for
// the item that took most.
func (r *record) attempts() int {
	if r.batch != nil {
		return r.batch.attempts
	}
	return len(r.tried)
}

// note takes over what the batch tells of an item before it runs: its agent, and
// what could not be carried to it.
func (c *call) note(i int, it *batchItem) {
	if it.agent != nil {
		c.log.batch.agents = addWord(c.log.batch.agents, it.agent.conf.Name)
		c.log.batch.shown = addWord(c.log.batch.shown, it.agentNames())
		c.log.batch.backends = addWord(c.log.batch.backends, it.agent.conf.Protocol)
	}
	if it.log.limited != nil { // the last one says what is left
		c.log.limits(*it.log.limited)
	}
	if it.ready {
		lose(&c.req.Ledger, i, &it.req.Ledger)
		c.log.dropped = c.req.Ledger.Names()
	}
}

// account counts an item that has ended, and takes over what the batch tells of
// it.
func (c *call) account(i int, it *batchItem) {
	b := c.log.batch
	b.items++
	it.log.status, it.log.err = 200, it.err
	if it.err != nil {
		b.failed++
		it.log.status = it.err.Status
	}
	c.s.meters.count(it.call, it.outcome())
	lose(&c.req.Ledger, i, &it.losses)
	c.log.bytesIn += it.log.bytesIn
	if n := it.log.attempts(); n > 1 {
		b.attempts = max(b.attempts, n)
		c.log.tried = append(c.log.tried, it.log.tried...)
	}
	if it.ans != nil {
		u := it.ans.Usage()
		b.usage.Input += max(u.Input, 0)
		b.usage.Output += max(u.Output, 0)
	}
}

// lose notes in all what item i has lost: [2].agent_config.role.
func lose(all *translate.Ledger, i int, l *translate.Ledger) {
	for _, name := range l.Names() {
		sep := "."
		if strings.HasPrefix(name, "[") {
			sep = ""
		}
		all.Note("[" + strconv.Itoa(i) + "]" + sep + name)
	}
}

// strictBatch refuses the whole batch before any of it runs if a request in it
// would lose something where the configuration or the client forbids that.
func (c *call) strictBatch(items []*batchItem, asked bool) *translate.Error {
	var lost translate.Ledger
	var agents string
	for i, it := range items {
		if it.err == nil && it.req.Ledger.Len() > 0 && (asked || it.agent.strict) {
			lose(&lost, i, &it.req.Ledger)
			agents = addWord(agents, it.agent.conf.Name+" (protocol "+it.agent.conf.Protocol+")")
		}
	}
	if lost.Len() == 0 {
		return nil
	}
	names := lost.Names()
	return &translate.Error{Kind: translate.KindInvalid, Status: 400, Code: "unsupported_parameter", Param: names[0],
		Message: fmt.Sprintf("Nothing of the batch has run. These cannot be carried to %s: %s.", agents, strings.Join(names, ", "))}
}

// addWord adds a word to a list for people, once.
func addWord(list, word string) string {
	switch {
	case list == "":
		return word
	case slices.Contains(strings.Split(list, ", "), word):
		return list
	}
	return list + ", " + word
}

// itemHead copies the client's head for item i: fasthttp's is for one goroutine
// only. An idempotency key is told apart from those of the other items, which a
// backend would else take for the same request.
func itemHead(client *fasthttp.RequestHeader, i int) *fasthttp.RequestHeader {
	h := &fasthttp.RequestHeader{}
	client.CopyTo(h)
	if key := h.Peek("Idempotency-Key"); len(key) > 0 {
		h.Set("Idempotency-Key", string(key)+"-"+strconv.Itoa(i))
	}
	return h
}
